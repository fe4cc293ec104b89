package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// Config bounds a Builder, and says what it leaves out.
type Config struct {
	// Since and Until leave out windows that start, and divergences whose
	// request came, before Since or at Until or later. Zero means no end.
	Since, Until verdict.Time
	// MaxRecords bounds the window records, about 30 bytes each. Zero means 4
	// Mi. Negative is an error, here and below.
	MaxRecords int
	// MaxNames bounds what is told apart: periods, routes of periods, and
	// starts of agents each. Zero means 4096.
	MaxNames int
	// MaxFingerprints bounds the fingerprints of all routes, about 5 kB each.
	// Zero means 16384.
	MaxFingerprints int
	// MaxUnits bounds the units of evidence, about 50 bytes each. Zero means
	// 4 Mi.
	MaxUnits int
	// MaxExamples bounds the examples, about 1 kB each and 20 kB at most. Zero
	// means 4096. The fewest that are kept are those of the first names.
	MaxExamples int
}

// MaxRecord is the longest record that is read, in bytes.
const MaxRecord = 8 << 20

// Errors of records that are no mistake of theirs.
var (
	// ErrSchema says that a record is neither a window nor a divergence.
	ErrSchema = errors.New("neither a " + verdict.Schema + " nor a " + DivergenceSchema + " record")
	// ErrFull says that a bound of Config was reached. The record is left out,
	// and the Document does not promote.
	ErrFull = errors.New("more than a report may hold")
)

// Builder collects what a Document tells. It keeps nothing of the bytes that it
// is given. It is not safe for concurrent use.
type Builder struct {
	config   Config
	merge    *verdict.Merge
	names    map[string]string // each name once, however many records have it
	boots    map[[2]string]bool
	periods  map[periodKey]*period
	routes   int
	prints   int // fingerprints
	units    int
	words    map[string]bool
	examples examples
	input    Input
	skipped  int64 // windows of other times
	ledger   map[string]map[string]uint64
}

// New checks c.
func New(c Config) (*Builder, error) {
	for _, f := range []struct {
		name string
		n    *int
		zero int
	}{
		{"MaxRecords", &c.MaxRecords, 4 << 20}, {"MaxNames", &c.MaxNames, 4096}, {"MaxFingerprints", &c.MaxFingerprints, 16384},
		{"MaxUnits", &c.MaxUnits, 4 << 20}, {"MaxExamples", &c.MaxExamples, 4096},
	} {
		switch {
		case *f.n < 0:
			return nil, fmt.Errorf("report: Config.%s: %d is negative", f.name, *f.n)
		case *f.n == 0:
			*f.n = f.zero
		}
	}
	if c.Until != 0 && c.Until <= c.Since {
		return nil, errors.New("report: Config.Until: not after Since")
	}
	return &Builder{
		config: c, merge: verdict.NewMerge(), names: map[string]string{}, boots: map[[2]string]bool{}, periods: map[periodKey]*period{},
		words: map[string]bool{}, examples: newExamples(c.MaxExamples),
	}, nil
}

// Record takes the value of a window or divergence record, told apart by its
// schema. Every error concerns this record alone and is counted in Input: the
// caller says where it stood and goes on. value is not kept.
func (b *Builder) Record(value []byte) error {
	switch schema, err := schemaOf(value); {
	case err != nil:
		b.input.Unusable++
		return err
	case schema == verdict.Schema:
		w, err := verdict.ParseWindow(value)
		if err != nil {
			b.input.Unusable++
			return err
		}
		return b.Window(w)
	case schema == DivergenceSchema:
		return b.Divergence(value)
	}
	b.input.Foreign++
	return ErrSchema
}

// schemaOf reads the schema alone. Records begin with it.
func schemaOf(value []byte) (string, error) {
	if len(value) > MaxRecord {
		return "", fmt.Errorf("read a record: it has %d bytes, at most %d are read", len(value), MaxRecord)
	}
	for _, s := range []string{verdict.Schema, DivergenceSchema} {
		if rest, ok := bytes.CutPrefix(value, []byte(`{"schema":"`+s+`"`)); ok && len(rest) > 0 && (rest[0] == ',' || rest[0] == '}') {
			return s, nil
		}
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(value, &head); err != nil {
		return "", fmt.Errorf("read a record: %w", err)
	}
	return head.Schema, nil
}

// Unusable counts n records that the caller could not even hand over, such as
// lines that are too long.
func (b *Builder) Unusable(n int64) { b.input.Unusable += n }

// Ledger takes the ledger's counts, as line, result and number; a second call
// adds to them. What a line or a result is called is the ledger's business.
func (b *Builder) Ledger(counts map[string]map[string]uint64) {
	if b.ledger == nil {
		b.ledger = map[string]map[string]uint64{}
	}
	for line, results := range counts {
		if b.ledger[line] == nil {
			b.ledger[line] = map[string]uint64{}
		}
		for result, n := range results {
			b.ledger[line][result] += n
		}
	}
}

// Window takes a window. Repeats change nothing; errors are those of
// verdict.Merge's Add, ErrFull, and of names that can't be right. w is not
// kept, and its texts may be replaced by equal ones.
func (b *Builder) Window(w *verdict.Window) error {
	err := checkWindow(w)
	if err == nil {
		err = w.Check()
	}
	if err != nil {
		b.input.Unusable++
		return err
	}
	if err := b.room(w); err != nil {
		b.input.LeftOut++
		return err
	}
	for _, s := range []*string{&w.Agent, &w.BootID, &w.ConfigRevision, &w.Experiment, &w.Route, &w.CandidateVersion, &w.SampleBy, &w.Fingerprint} {
		*s = b.name(*s)
	}
	b.boots[[2]string{w.Agent, w.BootID}] = true
	before := b.merge.Records()
	if w.WindowStart < b.config.Since || b.config.Until != 0 && w.WindowStart >= b.config.Until {
		if err := b.merge.Skip(w); err != nil {
			return err
		}
		b.input.OtherTimes += b.merge.Records() - before
		b.skipped += b.merge.Records() - before
		return nil
	}
	if err := b.merge.Add(w); err != nil {
		return err // ErrConflict: merge counts it
	}
	if b.merge.Records() > before {
		b.add(w)
	}
	return nil
}

// room says whether the bounds allow for a window.
func (b *Builder) room(w *verdict.Window) error {
	full := func(what string, limit int) error { return fmt.Errorf("%w: %d %s", ErrFull, limit, what) }
	if b.merge.Records() >= int64(b.config.MaxRecords) {
		return full("window records", b.config.MaxRecords)
	}
	if !b.boots[[2]string{w.Agent, w.BootID}] && len(b.boots) >= b.config.MaxNames {
		return full("starts of agents", b.config.MaxNames)
	}
	p := b.periods[keyOf(w)]
	if p == nil && len(b.periods) >= b.config.MaxNames {
		return full("periods of experiments", b.config.MaxNames)
	}
	if (p == nil || p.routes[w.Route] == nil) && b.routes >= b.config.MaxNames {
		return full("routes", b.config.MaxNames)
	}
	if w.Fingerprint != "" && (p == nil || p.routes[w.Route] == nil || p.routes[w.Route].prints[w.Fingerprint] == nil) && b.prints >= b.config.MaxFingerprints {
		return full("fingerprints", b.config.MaxFingerprints)
	}
	if w.Fingerprint == "" && len(w.Failed) > 0 && b.prints+len(w.Failed) > b.config.MaxFingerprints+maxWords {
		return full("fingerprints", b.config.MaxFingerprints)
	}
	if b.units+len(w.Excess) > b.config.MaxUnits {
		return full("units of evidence", b.config.MaxUnits)
	}
	fresh := 0
	for _, m := range wordsOf(w) {
		for word := range m {
			if !b.words[word] {
				fresh++
			}
		}
	}
	if len(b.words)+fresh > maxWords {
		return full("words for what was lost, failed or not comparable", maxWords)
	}
	return nil
}

// maxWords bounds the words of lost, failed and not_comparable. There are about
// 40.
const maxWords = 256

func wordsOf(w *verdict.Window) [3]map[string]int64 {
	return [...]map[string]int64{w.Lost, w.Failed, w.NotComparable}
}

// name is s, and the same string for every record that has it.
func (b *Builder) name(s string) string {
	if had, known := b.names[s]; known {
		return had
	}
	// Agents, routes and fingerprints are bounded by room; beyond a multiple of
	// that something else varies, and sharing it is not worth the memory.
	if len(b.names) < 4*(b.config.MaxNames+b.config.MaxFingerprints) {
		b.names[s] = s
	}
	return s
}

// add adds a window that was counted.
func (b *Builder) add(w *verdict.Window) {
	p := b.periods[keyOf(w)]
	if p == nil {
		p = newPeriod()
		b.periods[keyOf(w)] = p
	}
	r := p.routes[w.Route]
	if r == nil {
		r = &route{prints: map[string]*series{}}
		p.routes[w.Route] = r
		b.routes++
	}
	b.units += len(w.Excess)
	for _, m := range wordsOf(w) {
		for word := range m {
			b.words[word] = true
		}
	}
	had := len(r.prints)
	switch {
	case w.Fingerprint == "":
		p.count(w)
		r.times.add(&w.Latency)
		for word, n := range w.Failed {
			p.see(r, failedPrefix+word, w.WindowStart, n)
		}
		if w.BreakerOpen > 0 {
			p.see(r, failedPrefix+breakerOpen, w.WindowStart, w.BreakerOpen)
		}
	case w.Divergent > 0 || w.Both > 0 || w.ControlOnly > 0: // else it was not seen
		p.see(r, w.Fingerprint, w.WindowStart, w.Divergent)
	}
	b.prints += len(r.prints) - had
}

// breakerOpen is the word for a replay that an open breaker held back: the
// verdict counts it as a failure.
const breakerOpen = "breaker_open"

// maxName bounds a name, in bytes.
const maxName = 1024

// checkWindow refuses names that no agent gives.
func checkWindow(w *verdict.Window) error {
	for _, f := range []struct{ name, s string }{
		{"agent", w.Agent}, {"boot_id", w.BootID}, {"config_revision", w.ConfigRevision}, {"experiment", w.Experiment}, {"route", w.Route},
		{"candidate_version", w.CandidateVersion}, {"sample_by", w.SampleBy},
	} {
		if len(f.s) > maxName {
			return fmt.Errorf("read a window record: %s has %d bytes, at most %d are read", f.name, len(f.s), maxName)
		}
	}
	if w.Fingerprint != "" && w.Fingerprint != verdict.OtherFingerprint && !isHex16(w.Fingerprint) {
		return fmt.Errorf("read a window record: fingerprint: %s is none", quoted(w.Fingerprint))
	}
	for _, m := range wordsOf(w) {
		for word := range m {
			if !isWord(word) {
				return fmt.Errorf("read a window record: %s is no word for a count", quoted(word))
			}
		}
	}
	return nil
}

func isHex16(s string) bool {
	if len(s) != 16 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isWord says whether s is like the words of the schemas.
func isWord(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return true
}

// quoted is a short form of a text that may be anything.
func quoted(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%.40q...", s)
	}
	return fmt.Sprintf("%q", s)
}
