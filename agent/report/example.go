package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// DivergenceSchema is the schema of a divergence record; the schema itself is
// agent/publish/schema/divergence.v1.json.
const DivergenceSchema = "shadowtap.divergence.v1"

// Bounds of an example's texts, in bytes.
const (
	maxValue = 4096
	maxURL   = 2048
	maxPath  = 1024
)

// divergence is what is read of a divergence record.
type divergence struct {
	ExchangeID       string       `json:"exchange_id"`
	Time             verdict.Time `json:"time"`
	Experiment       string       `json:"experiment"`
	Route            string       `json:"route"`
	CandidateVersion string       `json:"candidate_version"`
	Outcome          string       `json:"outcome"`
	Request          struct {
		Method string `json:"method"`
		URL    string `json:"url"`
	} `json:"request"`
	Reference answer  `json:"reference"`
	Candidate answer  `json:"candidate"`
	Control   *answer `json:"control"`
	Recheck   *struct {
		Result string `json:"result"`
	} `json:"recheck"`
	Differences []difference `json:"differences"`
}

type answer struct {
	Status int    `json:"status"`
	Error  string `json:"error"`
}

type difference struct {
	Fingerprint string `json:"fingerprint"`
	Aspect      string `json:"aspect"`
	Kind        string `json:"kind"`
	Path        string `json:"path"`
	Detail      string `json:"detail"`
	Reference   *Value `json:"reference"`
	Candidate   *Value `json:"candidate"`
	Control     *Value `json:"control"`
}

// Value is one side of a difference, as the record has it: redacted.
type Value struct {
	MediaType string `json:"media_type"`
	// Encoding is utf-8 or base64, of Text.
	Encoding string `json:"encoding"`
	Text     string `json:"text"`
	// Size is the length of the whole in bytes; Truncated says that Text is not
	// the whole.
	Size      int64  `json:"size"`
	Truncated bool   `json:"truncated"`
	Digest    string `json:"digest"`
}

// Side is what one of the instances answered.
type Side struct {
	// Status is 0 without an answer; Error is then the word for what failed.
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"`
	// Value is what it had where they differ, null for nothing.
	Value *Value `json:"value"`
}

// Example is one exchange that shows a cause. All texts are redacted, by the
// agent that published them, and cut.
type Example struct {
	ExchangeID       string       `json:"exchange_id"`
	Time             verdict.Time `json:"time"`
	CandidateVersion string       `json:"candidate_version"`
	Method           string       `json:"method"`
	URL              string       `json:"url"`
	// Aspect, Kind, Path and Detail say where and how the answers differ, in
	// the words of the divergence record.
	Aspect    string `json:"aspect"`
	Kind      string `json:"kind"`
	Path      string `json:"path"`
	Detail    string `json:"detail,omitempty"`
	Reference Side   `json:"reference"`
	Candidate Side   `json:"candidate"`
	// Control is null when it was not asked.
	Control *Side `json:"control"`
	// Recheck is what came of asking once more, in the word of the divergence
	// record; "" when nobody did.
	Recheck string `json:"recheck,omitempty"`

	size int // of what is shown: the smaller, the better
	text []byte
}

// Divergence takes the value of a divergence record. Errors concern this record
// alone and are counted. value is not kept.
func (b *Builder) Divergence(value []byte) error {
	var d divergence
	err := json.Unmarshal(value, &d)
	if err == nil {
		err = d.check()
	}
	if err != nil {
		b.input.UnusableDivergences++
		return fmt.Errorf("read a divergence record: %w", err)
	}
	if d.Time < b.config.Since || b.config.Until != 0 && d.Time >= b.config.Until {
		b.input.OtherTimes++
		return nil
	}
	b.input.Divergences++
	if d.Outcome != "divergent" {
		return nil
	}
	for i := range d.Differences {
		f := &d.Differences[i]
		k := exampleKey{d.Experiment, d.Route, f.Fingerprint, d.CandidateVersion}
		if f.Aspect == "candidate" && isWord(d.Candidate.Error) {
			k.fingerprint = failedPrefix + d.Candidate.Error // windows count failures by word
		}
		b.examples.offer(k, &d, f)
	}
	return nil
}

// failedPrefix makes a name of a failure's word, that is no fingerprint's.
const failedPrefix = "failed "

func (d *divergence) check() error {
	switch {
	case d.Experiment == "" || len(d.Experiment) > maxName:
		return fmt.Errorf("experiment: %s is no name", quoted(d.Experiment))
	case len(d.Route) > maxName:
		return fmt.Errorf("route: %s is no pattern", quoted(d.Route))
	case len(d.CandidateVersion) > maxName:
		return fmt.Errorf("candidate_version: %s is none", quoted(d.CandidateVersion))
	case d.Outcome != "divergent" && d.Outcome != "not_comparable":
		return fmt.Errorf("outcome: %s is neither divergent nor not_comparable", quoted(d.Outcome))
	case !isHex16(d.ExchangeID):
		return fmt.Errorf("exchange_id: %s is none", quoted(d.ExchangeID))
	case len(d.Request.Method) > maxName:
		return fmt.Errorf("request.method: %s is none", quoted(d.Request.Method))
	}
	if _, err := d.Time.MarshalText(); err != nil {
		return fmt.Errorf("time: %w", err)
	}
	for _, a := range []*answer{&d.Reference, &d.Candidate, d.Control} {
		if a != nil && (a.Status < 0 || a.Status > 999 || a.Error != "" && !isWord(a.Error)) {
			return fmt.Errorf("an answer of status %d with the error word %s", a.Status, quoted(a.Error))
		}
	}
	if c := d.Recheck; c != nil && !isWord(c.Result) {
		return fmt.Errorf("recheck.result: %s is no word", quoted(c.Result))
	}
	for i := range d.Differences {
		if err := d.Differences[i].check(); err != nil {
			return fmt.Errorf("differences[%d].%w", i, err)
		}
	}
	return nil
}

func (f *difference) check() error {
	switch {
	case !isHex16(f.Fingerprint):
		return fmt.Errorf("fingerprint: %s is none", quoted(f.Fingerprint))
	case !isWord(f.Aspect):
		return fmt.Errorf("aspect: %s is no word", quoted(f.Aspect))
	case !isWord(f.Kind):
		return fmt.Errorf("kind: %s is no word", quoted(f.Kind))
	}
	for _, v := range []*Value{f.Reference, f.Candidate, f.Control} {
		if v != nil && (v.Size < 0 || v.Encoding != "utf-8" && v.Encoding != "base64" && v.Encoding != "" || len(v.MediaType) > maxName || len(v.Digest) > maxName) {
			return fmt.Errorf("a value of %d bytes, %s, %s", v.Size, quoted(v.Encoding), quoted(v.MediaType))
		}
	}
	return nil
}

// example is the part of a record that shows a difference.
func (d *divergence) example(f *difference) *Example {
	e := &Example{
		ExchangeID: d.ExchangeID, Time: d.Time, CandidateVersion: d.CandidateVersion, Method: d.Request.Method, URL: cutText(d.Request.URL, maxURL),
		Aspect: f.Aspect, Kind: f.Kind, Path: cutText(f.Path, maxPath), Detail: cutText(f.Detail, maxPath), size: d.size(f),
		Reference: Side{d.Reference.Status, d.Reference.Error, f.Reference.cut()}, Candidate: Side{d.Candidate.Status, d.Candidate.Error, f.Candidate.cut()},
	}
	if d.Control != nil {
		e.Control = &Side{d.Control.Status, d.Control.Error, f.Control.cut()}
	}
	if d.Recheck != nil {
		e.Recheck = d.Recheck.Result
	}
	return e
}

// size is how much there is to read. What the control has is no burden: it says
// whose fault it is.
func (d *divergence) size(f *difference) int {
	n := len(d.Request.Method) + len(d.Request.URL) + len(f.Path)
	for _, v := range []*Value{f.Reference, f.Candidate} {
		if v != nil {
			n += len(v.Text)
		}
	}
	return n
}

func (v *Value) cut() *Value {
	if v == nil || len(v.Text) <= maxValue {
		return v
	}
	c := *v
	c.Truncated = true
	if v.Encoding == "base64" {
		c.Text = strings.Clone(v.Text[:maxValue/4*4])
	} else {
		c.Text = strings.Clone(v.Text[:runeEnd(v.Text, maxValue)]) // not to hold the whole
	}
	return &c
}

// cutText cuts a text to limit bytes; … stands for the rest.
func cutText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:runeEnd(s, limit-len("…"))] + "…"
}

func runeEnd(s string, n int) int {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}

type exampleKey struct{ experiment, route, fingerprint, candidateVersion string }

func (k exampleKey) compare(o exampleKey) int {
	return cmp.Or(cmp.Compare(k.experiment, o.experiment), cmp.Compare(k.route, o.route), cmp.Compare(k.fingerprint, o.fingerprint), cmp.Compare(k.candidateVersion, o.candidateVersion))
}

// examples keeps the smallest of each key, of the first keys in their order
// when there are too many: so what is left does not depend on the order in
// which they came.
type examples struct {
	limit int
	by    map[exampleKey]*Example
	last  exampleKey // beyond it nothing is taken, if full
	full  bool
}

func newExamples(limit int) examples { return examples{limit: limit, by: map[exampleKey]*Example{}} }

// offer keeps a difference if it is smaller than what there is.
func (s *examples) offer(k exampleKey, d *divergence, f *difference) {
	if s.full && k.compare(s.last) > 0 {
		return
	}
	had := s.by[k]
	if had != nil && d.size(f) > had.size {
		return
	}
	e := d.example(f)
	if had != nil && !e.before(had) {
		return
	}
	s.by[k] = e
	if len(s.by) >= 2*s.limit {
		s.trim()
	}
}

// trim leaves the first keys.
func (s *examples) trim() {
	if len(s.by) <= s.limit {
		return
	}
	keys := make([]exampleKey, 0, len(s.by))
	for k := range s.by {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, exampleKey.compare)
	for _, k := range keys[s.limit:] {
		delete(s.by, k)
	}
	s.last, s.full = keys[s.limit-1], true
}

// before orders examples of one key: the smallest, then one with a control, then
// the earliest, then by content, so that one is the first whatever the order they
// come in.
func (e *Example) before(o *Example) bool {
	c := cmp.Or(cmp.Compare(e.size, o.size), cmp.Compare(btoi(e.Control == nil), btoi(o.Control == nil)), cmp.Compare(e.Time, o.Time), cmp.Compare(e.ExchangeID, o.ExchangeID))
	if c == 0 {
		c = bytes.Compare(e.content(), o.content())
	}
	return c < 0
}

func (e *Example) content() []byte {
	if e.text == nil {
		e.text, _ = json.Marshal(e) // plain texts and numbers: it can't fail
	}
	return e.text
}
