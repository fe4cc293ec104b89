package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// Schema is the schema of a Document. Within v1 fields are only added.
const Schema = "shadowtap.report.v1"

// Failed is the class of a cause that is no fingerprint: the candidate gave no
// answer. It counts, against max_failed.
const Failed verdict.Class = "failed"

// Document is what is known, for people and programs.
type Document struct {
	Schema string `json:"schema"`
	// Word is that of the latest periods of all experiments together, and of
	// Reasons.
	Word verdict.Word `json:"word"`
	// Reasons are those that concern the records as a whole, with the codes
	// no_windows, left_out, unusable and no_experiment.
	Reasons  []verdict.Reason `json:"reasons"`
	Settings Settings         `json:"settings"`
	Input    Input            `json:"input"`
	Agents   []verdict.Agent  `json:"agents"`
	// Experiments are the periods, by experiment and time.
	Experiments []Experiment `json:"experiments"`
	// Ledger has the agents' ledger by line and result, if they were asked.
	Ledger map[string]map[string]uint64 `json:"ledger,omitempty"`
}

// Settings are verdict.Settings by their keys in the configuration.
type Settings struct {
	MaxDivergence float64 `json:"max_divergence"`
	Confidence    float64 `json:"confidence"`
	MinCompared   int64   `json:"min_compared"`
	MaxUnseen     float64 `json:"max_unseen"`
	MaxFailed     float64 `json:"max_failed"`
	MaxMasked     int     `json:"max_masked"`
	Alpha         float64 `json:"alpha"`
	NoiseMargin   float64 `json:"noise_margin"`
	MaxP50        float64 `json:"max_latency_p50"`
	MaxP99        float64 `json:"max_latency_p99"`
}

// Input says what became of the records that came.
type Input struct {
	// Windows were counted. Repeats and Conflicts were left out, Missing are
	// holes in the agents' sequences.
	Windows   int64 `json:"windows"`
	Repeats   int64 `json:"repeats"`
	Conflicts int64 `json:"conflicts"`
	Missing   int64 `json:"missing"`
	// Divergences were read; each gave an example or was looked at for one.
	Divergences int64 `json:"divergences"`
	// OtherTimes are windows and divergences before Since or after Until.
	OtherTimes int64 `json:"other_times"`
	// Unusable could not be read: windows, or nobody knows what.
	// UnusableDivergences are divergence records that could not be read.
	Unusable            int64 `json:"unusable"`
	UnusableDivergences int64 `json:"unusable_divergences"`
	// Foreign are records of other schemas.
	Foreign int64 `json:"foreign"`
	// LeftOut are windows beyond a bound of Config.
	LeftOut int64 `json:"left_out"`
}

// Usable says whether anything could be used.
func (n *Input) Usable() bool { return n.Windows+n.Divergences+n.OtherTimes > 0 }

// Experiment is a period of an experiment: one candidate version and one
// revision of the configuration.
type Experiment struct {
	verdict.Experiment
	// Fingerprints hides the verdict's: they are in Causes. Always empty.
	Fingerprints []verdict.Fingerprint `json:"fingerprints,omitempty"`
	// Causes are the ways to differ or to fail: first those that count, by
	// their share of the traffic, then what is masked, negligible and noise.
	Causes   []Cause  `json:"causes"`
	Timeline Timeline `json:"timeline"`
	// Times has the histograms of each route, to the first byte.
	Times []RouteTimes `json:"times"`
}

// Cause is one way to differ, or to fail.
type Cause struct {
	// Fingerprint is the verdict's. Of a failure it has Class, Route, First,
	// Last and Divergent alone.
	verdict.Fingerprint
	// Failed is a failure's word, breaker_open included.
	Failed string `json:"failed,omitempty"`
	// Of are the route's pairs, of a failure its replays; Share is the cause's
	// share of them.
	Of    int64   `json:"of"`
	Share float64 `json:"share"`
	// OfTraffic is Share times the route's share of the traffic.
	OfTraffic float64 `json:"of_traffic"`
	// OverTime has the pairs at each point of the Timeline.
	OverTime []int64 `json:"over_time"`
	// Example is null when no record of it came.
	Example *Example `json:"example"`
}

// Counts says whether the cause counts against the candidate.
func (c *Cause) Counts() bool { return c.Class == Failed || c.Fingerprint.Counts() }

// Timeline is a period in at most 120 points of equal length. Times without any
// window have none.
type Timeline struct {
	// PointSeconds is the length of a point.
	PointSeconds int64   `json:"point_seconds"`
	Points       []Point `json:"points"`
}

// Point is one of them.
type Point struct {
	Time verdict.Time `json:"time"`
	// Compared are the pairs that could be compared, failures included.
	Compared int64 `json:"compared"`
	// Divergent differ, noise included. Counted is an upper bound of those that
	// count. Failed are the candidate's failures.
	Divergent int64 `json:"divergent"`
	Counted   int64 `json:"counted"`
	Failed    int64 `json:"failed"`
}

// RouteTimes has a route's times to the first byte.
type RouteTimes struct {
	Route   string   `json:"route"`
	Buckets []Bucket `json:"buckets"`
}

// Document judges what came so far. It may be called again after more records.
// An error names a setting that makes no sense. The caller owns the document.
func (b *Builder) Document(s verdict.Settings) (*Document, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	r := b.merge.Report(s)
	b.examples.trim()
	d := &Document{
		Schema: Schema, Settings: Settings(s), Input: b.input, Agents: r.Agents,
		Reasons: []verdict.Reason{}, Experiments: []Experiment{},
	}
	d.Input.Windows, d.Input.Repeats, d.Input.Conflicts, d.Input.Missing = r.Records-b.skipped, r.Repeats, r.Conflicts, r.Missing
	if d.Agents == nil {
		d.Agents = []verdict.Agent{}
	}
	if len(b.ledger) > 0 {
		d.Ledger = map[string]map[string]uint64{}
		for line, results := range b.ledger {
			d.Ledger[line] = maps.Clone(results)
		}
	}
	any := b.examples.anyVersion()
	for i := range r.Experiments {
		d.Experiments = append(d.Experiments, b.experiment(&r.Experiments[i], any))
	}
	d.reasons(s)
	d.judge()
	return d, nil
}

// reasons are those of the records as a whole.
func (d *Document) reasons(s verdict.Settings) {
	add := func(code, format string, args ...any) {
		d.Reasons = append(d.Reasons, verdict.Reason{Word: verdict.Insufficient, Code: code, Text: fmt.Sprintf(format, args...)})
	}
	n := &d.Input
	if n.Windows == 0 {
		add("no_windows", "no window record came: nothing says how many requests were compared")
	}
	if n.LeftOut > 0 {
		add("left_out", "%d window records were left out, because there is more than a report may hold", n.LeftOut)
	}
	if all := n.Unusable + n.Windows; float64(n.Unusable) > s.MaxUnseen*float64(all) {
		add("unusable", "%d of %d records could not be read", n.Unusable, all)
	}
}

// judge sets Word.
func (d *Document) judge() {
	d.Word = verdict.Promote
	worse := func(w verdict.Word) {
		switch {
		case w == verdict.Hold:
			d.Word = verdict.Hold
		case w != verdict.Promote && d.Word == verdict.Promote:
			d.Word = verdict.Insufficient
		}
	}
	latest := 0
	for i := range d.Experiments {
		if d.Experiments[i].Latest {
			latest++
			worse(d.Experiments[i].Word)
		}
	}
	if latest == 0 {
		worse(verdict.Insufficient)
	}
	for i := range d.Reasons {
		worse(d.Reasons[i].Word)
	}
}

// Only leaves the experiments with these names, and judges anew. A name that is
// not there makes the document insufficient.
func (d *Document) Only(names ...string) {
	d.Experiments = slices.DeleteFunc(d.Experiments, func(e Experiment) bool { return !slices.Contains(names, e.Experiment.Experiment) })
	for _, name := range names {
		if !slices.ContainsFunc(d.Experiments, func(e Experiment) bool { return e.Experiment.Experiment == name }) {
			d.Reasons = append(d.Reasons, verdict.Reason{Word: verdict.Insufficient, Code: "no_experiment", Text: fmt.Sprintf("no window record of an experiment %s came", quoted(name))})
		}
	}
	d.judge()
}

// experiment adds to a verdict what is known of its period.
func (b *Builder) experiment(v *verdict.Experiment, any map[exampleKey]*Example) Experiment {
	e := Experiment{Experiment: *v, Causes: []Cause{}, Times: []RouteTimes{}}
	e.Experiment.Fingerprints = nil
	e.Reasons = notNil(e.Reasons)
	for i := range e.Routes {
		e.Routes[i].Reasons = notNil(e.Routes[i].Reasons)
	}
	p := b.periods[periodKey{v.Experiment, v.CandidateVersion, v.ConfigRevision}]
	if p == nil { // every period came through add
		return e
	}
	starts := slices.Sorted(maps.Keys(p.points))
	cause := func(f verdict.Fingerprint, name string) *Cause {
		c := Cause{Fingerprint: f, Example: b.examples.find(exampleKey{v.Experiment, f.Route, name, v.CandidateVersion}, any), OverTime: make([]int64, len(starts))}
		if r := p.routes[f.Route]; r != nil && r.prints[name] != nil {
			for i, at := range starts {
				c.OverTime[i] = r.prints[name].points[at]
			}
		}
		e.Causes = append(e.Causes, c)
		return &e.Causes[len(e.Causes)-1]
	}
	routes := map[string]*verdict.Route{}
	for i := range e.Routes {
		routes[e.Routes[i].Route] = &e.Routes[i]
	}
	for i := range v.Fingerprints {
		c := cause(v.Fingerprints[i], v.Fingerprints[i].Fingerprint)
		if r := routes[c.Route]; r != nil {
			c.share(r.Divergent.Of, r.Share)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.routes)) {
		r := routes[name]
		if r == nil {
			continue
		}
		if t := p.routes[name].times.buckets(); len(t) > 0 {
			e.Times = append(e.Times, RouteTimes{name, t})
		}
		for word, n := range failures(&r.Counts) {
			s := p.routes[name].prints[failedPrefix+word]
			c := cause(verdict.Fingerprint{Class: Failed, Route: name, Divergent: n, First: s.first, Last: s.last}, failedPrefix+word)
			c.Failed = word
			c.share(r.Failed.Of, r.Share)
		}
	}
	slices.SortFunc(e.Causes, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(b.OfTraffic, a.OfTraffic), cmp.Compare(b.Divergent, a.Divergent),
			cmp.Compare(a.Route, b.Route), cmp.Compare(a.Fingerprint.Fingerprint, b.Fingerprint.Fingerprint), cmp.Compare(a.Failed, b.Failed))
	})
	e.Timeline = p.timeline(starts, e.Causes)
	return e
}

// notNil is the same, as [] in JSON.
func notNil(r []verdict.Reason) []verdict.Reason {
	if r == nil {
		return []verdict.Reason{}
	}
	return r
}

// failures are a route's, by word.
func failures(c *verdict.Counts) map[string]int64 {
	out := map[string]int64{}
	for word, n := range c.Failed {
		if n > 0 {
			out[word] = n
		}
	}
	if c.BreakerOpen > 0 {
		out[breakerOpen] += c.BreakerOpen
	}
	return out
}

func (c *Cause) share(of int64, traffic float64) {
	if c.Of = of; of > 0 {
		c.Share = float64(c.Divergent) / float64(of)
		c.OfTraffic = c.Share * traffic
	}
}

// rank orders classes: those that count first.
func (c *Cause) rank() int {
	switch {
	case c.Counts():
		return 0
	case c.Class == verdict.Masked:
		return 1
	case c.Class == verdict.Negligible:
		return 2
	}
	return 3
}

func (p *period) timeline(starts []verdict.Time, causes []Cause) Timeline {
	t := Timeline{PointSeconds: int64(p.length()) / 1e6, Points: []Point{}}
	for i, at := range starts {
		n := p.points[at]
		pt := Point{Time: at, Compared: n.compared, Divergent: n.divergent, Failed: n.failed}
		for k := range causes {
			if c := &causes[k]; c.Class != Failed && c.Counts() {
				pt.Counted += c.OverTime[i]
			}
		}
		pt.Counted = min(pt.Counted, pt.Divergent)
		t.Points = append(t.Points, pt)
	}
	return t
}

// find is the example of a cause: of the period's candidate version, else of
// any.
func (s *examples) find(k exampleKey, any map[exampleKey]*Example) *Example {
	if e := s.by[k]; e != nil {
		return e
	}
	k.candidateVersion = ""
	return any[k]
}

// anyVersion has the smallest example of each key but the candidate version.
func (s *examples) anyVersion() map[exampleKey]*Example {
	out := map[exampleKey]*Example{}
	for k, e := range s.by {
		k.candidateVersion = ""
		if had := out[k]; had == nil || e.before(had) {
			out[k] = e
		}
	}
	return out
}

// JSON is the document's only form: two spaces deep, maps by key, with a line
// feed at its end.
func (d *Document) JSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("encode the report: %w", err)
	}
	return b.Bytes(), nil
}

// maxDocument bounds what ReadDocument reads, in bytes.
const maxDocument = 256 << 20

// ReadDocument reads what JSON wrote, such as an agent's answer.
func ReadDocument(r io.Reader) (*Document, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read a report: %w", err)
	}
	if len(text) > maxDocument {
		return nil, fmt.Errorf("read a report: it has more than %d bytes", maxDocument)
	}
	d := new(Document)
	if err := json.Unmarshal(text, d); err != nil {
		return nil, fmt.Errorf("read a report: %w", err)
	}
	if d.Schema != Schema {
		return nil, errors.New("read a report: its schema is " + quoted(d.Schema) + ", not " + Schema)
	}
	return d, nil
}
