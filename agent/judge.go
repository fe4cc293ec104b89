package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/publish"
	"github.com/shadowtap/shadowtap/agent/recording"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// judge makes records and windows of a capture's events. What it makes depends
// on the events, their order, the rules and the redaction's key alone: not on
// the clock, and not on which answer came first. It belongs to one goroutine.
type judge struct {
	cfg         *config.Config
	times       bool
	sampler     *sample.Sampler
	experiments []*experiment
	gate        *gate
	windows     *windows
	tally       *tally
	publisher   *publish.Publisher
	report      *report.Builder // nil: nobody reads
	log         *slog.Logger
	// unsent are records that were handed to the publisher since it was last
	// waited for, of so many bytes.
	unsent      int
	unsentBytes int64
}

// Bounds of what waits for the sinks: well below those of their queues, so that
// nothing is dropped there.
const (
	maxUnsent      = 1000
	maxUnsentBytes = 8 << 20
)

// judgeConfig is what a judge is made of.
type judgeConfig struct {
	cfg *config.Config // reproducible
	// sinks is the configuration whose sinks get the records; nil means none
	// get them.
	sinks    *config.Config
	terminal Terminal
	version  string
	times    bool
	report   *report.Builder
	memory   int64
	log      *slog.Logger
}

// reproducible is the configuration as far as it decides what a capture's
// records hold, so that its revision names that and not the place where they go.
// The caller's is not changed.
func reproducible(c *config.Config) *config.Config {
	r, def, experiment := *c, config.New(), config.NewExperiment("")
	r.SetInstance(def.Instance)
	r.OffFile, r.Stop, r.Sinks, r.Spool, r.Management, r.Log = def.OffFile, def.Stop, nil, def.Spool, def.Management, def.Log
	r.Management.AdminSocket = ""
	body, ports := r.Capture.MaxBody, r.CapturePorts()
	r.Capture = def.Capture
	// The check wants memory for four of the largest bodies.
	r.Capture.MaxBody, r.Capture.Ports, r.Capture.Memory = body, ports, max(def.Capture.Memory, 4*body)
	r.Experiments = append([]config.Experiment(nil), c.Experiments...)
	for i := range r.Experiments {
		e := &r.Experiments[i]
		e.Enabled = e.Enabled && c.Enabled
		if e.Control.URL == "" {
			e.Control = experiment.Control
		}
		e.Control.Self, e.Control.IAcceptExtraLoad = false, false // refused
		e.Guard = config.Guard{}                                  // of a reference that nobody asks any more
		e.Guard.Errors.Off = true
		e.Candidate.TLS = config.TLS{}
		if e.Until.At.IsZero() {
			e.Until = config.Until{Forever: true} // from the start of an agent
		}
	}
	return &r
}

func newJudge(c judgeConfig) (*judge, error) {
	j := &judge{cfg: c.cfg, times: c.times, report: c.report, log: c.log}
	r, err := newRedactor(c.cfg, true)
	if err != nil {
		return nil, err
	}
	if c.sinks == nil {
		j.publisher, err = publish.New(publishConfig(c.cfg, c.log))
	} else {
		j.publisher, err = newPublisher(c.sinks, c.terminal, r, c.log)
	}
	if err != nil {
		return nil, err
	}
	sc := sampleConfig(c.cfg, time.Time{})
	types, err := safeCalls(c.cfg, &sc)
	if err != nil {
		return nil, err
	}
	if j.sampler, err = sample.New(sc); err != nil {
		return nil, err
	}
	id := &identity{version: c.version, revision: c.cfg.Revision(), source: redact.SourcePcap}
	if j.windows, err = newWindows(c.cfg, j.sampler, id, r, j.publisher, c.log); err != nil {
		return nil, err
	}
	j.windows.report = nil // that is a running agent's
	j.tally = newTally(j.windows)
	j.gate = newGate(c.memory, runtime.GOMAXPROCS(0))
	for i := range c.cfg.Experiments {
		x, err := newComparison(c.cfg, i)
		if err != nil {
			return nil, err
		}
		x.sampler, x.redactor, x.publisher, x.identity, x.gate, x.windows = j.sampler, r, j.publisher, id, j.gate, j.windows
		x.handed = j.handed
		if c := replayControl(x.cfg); c != nil {
			x.chosen = c.Chosen
		}
		x.descriptors.Store(types[i])
		j.experiments = append(j.experiments, x)
	}
	return j, nil
}

// judged is what a replay came to.
type judged struct {
	outcome *replay.Outcome // as records show it
	result  *diff.Result
	control *controlSide // nil without one
	// fingerprints are those of experiment.fingerprints.
	fingerprints []string
	// published and weight are what the cap said.
	published bool
	weight    float64
}

// compare compares the answers to a replay with the reference. Any goroutine may
// call it.
func (j *judge) compare(experiment int, ex *exchange.Exchange, o *replay.Outcome, stale bool) *judged {
	x := j.experiments[experiment]
	if !j.times {
		o = steady(o)
	}
	defer x.gate.leave(x.gate.enter(max(comparisonCost(ex.Response, o.Response), controlCost(ex, o))))
	d := &judged{outcome: o, result: x.compare(ex, o, stale), control: x.control(ex, o, stale)}
	d.fingerprints = x.fingerprints(ex, d.result)
	return d
}

// admit asks the cap for the pairs of an event and says which of them are to be
// asked once more. It is called with one event after the other, each before take.
func (j *judge) admit(e *recording.Event, results []*judged) (again []int) {
	for k, d := range results {
		if d == nil || d.result.Outcome != diff.Divergent && d.result.Outcome != diff.NotComparable {
			continue
		}
		x := j.experiments[e.Pairs[k].Experiment]
		if d.weight, d.published = x.admit(e.Exchange, d.result, d.fingerprints); d.published && x.askAgain(d.outcome, d.result) {
			again = append(again, k)
		}
	}
	return again
}

// take makes of an event what it is to make. results are those of its pairs, nil
// for one that was not compared.
func (j *judge) take(ctx context.Context, e *recording.Event, results []*judged) {
	d := exchange.Decision{Len: uint8(len(e.Choices))}
	copy(d.Choices[:], e.Choices)
	switch e.Kind {
	case recording.Tick:
		j.tally.tick(e.Time)
		j.tally.flush()
		j.over(ctx, j.windows.collector.Advance(time.Unix(0, e.Time)))
	case recording.Lost:
		l := exchange.Lost{Result: e.Result, Start: e.Time, N: e.N}
		if len(e.Choices) > 0 {
			l.Decision = &d
		}
		j.tally.lost(l)
	case recording.Complete:
		j.tally.complete(&exchange.Complete{Decision: &d, Start: e.Time})
		for k := range e.Pairs {
			j.pair(ctx, e.Exchange, &e.Pairs[k], results[k])
		}
	}
}

func (j *judge) pair(ctx context.Context, ex *exchange.Exchange, p *recording.Pair, d *judged) {
	x := j.experiments[p.Experiment]
	ticket := j.windows.selected(x.index, ex)
	if p.Result != replay.Compared {
		control := verdict.ControlNotChosen
		if x.chosen != nil && x.chosen(ex) {
			control = verdict.ControlShed
		}
		j.windows.collector.Skip(ticket, unreplayed[p.Result], control)
		return
	}
	x.count(d.result)
	pair := pairOf(ex, d.outcome, d.result, d.fingerprints)
	if d.control != nil {
		pair.Control = d.control.Control
	}
	if !j.times {
		pair.Reference, pair.Candidate, pair.Control.Leg = verdict.Leg{}, verdict.Leg{}, verdict.Leg{}
	}
	j.windows.collector.Compare(ticket, pair)
	if d.published {
		x.hand(x.record(ex, d.outcome, d.result, d.control, j.again(x, ex, p, d), d.weight))
	}
	if j.unsent >= maxUnsent || j.unsentBytes >= maxUnsentBytes {
		j.unsent, j.unsentBytes = 0, 0
		_ = j.publisher.Flush(ctx) // an error only of ctx, which ends all
	}
}

// again is what came of asking once more, nil when nobody did.
func (j *judge) again(x *experiment, ex *exchange.Exchange, p *recording.Pair, d *judged) *redact.Recheck {
	if p.Again == nil || !x.askAgain(d.outcome, d.result) {
		return nil
	}
	// That of the pair holds: by the file's time nothing has moved since.
	i, after := x.agree(ex, d.outcome, p.Again, func(int64) bool { return p.Stale })
	x.rechecks.begun.Add(1)
	x.rechecks.results[i].Add(1)
	return &redact.Recheck{Result: recheckWord(i), After: after}
}

// handed sees a record that went to the sinks.
func (j *judge) handed(rec *redact.Record) {
	j.unsent++
	j.unsentBytes += rec.Size()
	if j.report == nil {
		return
	}
	if err := j.report.Divergence(rec.JSON()); err != nil {
		j.log.Debug("a record has no place in the report", "err", err)
	}
}

// over hands on windows that are over.
func (j *judge) over(ctx context.Context, list []*verdict.Window) {
	if j.report != nil {
		for _, w := range list {
			if err := j.report.Window(w); err != nil {
				j.log.Debug("a window has no place in the report", "err", err)
			}
		}
	}
	j.windows.publish(ctx, list)
}

// end hands out the windows that are left.
func (j *judge) end(ctx context.Context) {
	j.tally.flush()
	j.over(ctx, j.windows.collector.Flush())
}

// localAddress is what errors of the network say of our side of a connection.
var localAddress = regexp.MustCompile(`[0-9a-fA-F.:\[\]]+:[0-9]+->`)

// steady is an outcome without what differs from run to run though the answer is
// the same: its times, the connection it came over, the trace id that was drawn.
func steady(o *replay.Outcome) *replay.Outcome {
	s := *o
	s.Start, s.FirstByte, s.LastByte, s.Setup, s.Lag = 0, 0, 0, 0, 0
	s.Reused, s.MinRTT, s.FreshTraceID = false, 0, ""
	s.Detail = localAddress.ReplaceAllString(s.Detail, "")
	if c := o.Control; c != nil && c.Outcome != nil {
		s.Control = &replay.ControlOutcome{PairEnd: c.PairEnd, Outcome: steady(c.Outcome)}
	}
	return &s
}

// readRecording makes of a recording what the replay that wrote it made, or with
// rules what these would have made of it. It gives the thresholds that were
// recorded. A recording that was cut short is told to warn and is no error.
func readRecording(ctx context.Context, o *ReportOptions, b *report.Builder, dir string) (settings verdict.Settings, err error) {
	r, err := recording.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return settings, fmt.Errorf("read %s: it is a folder, and holds no recording of pcap --record", dir)
	}
	if err != nil {
		return settings, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	head := r.Head()
	cfg, _, err := config.Parse("config", []byte(head.Config), nil)
	if err == nil {
		err = cfg.Check()
	}
	if err != nil {
		return settings, fmt.Errorf("read the recording %s: %w", dir, err)
	}
	// Of what a recording names the key and the descriptors are opened.
	cfg = reproducible(cfg)
	if err := o.newRules(cfg); err != nil {
		return settings, err
	}
	r.MaxLine = recording.MaxLine(int64(cfg.Capture.MaxBody))
	j, err := newJudge(judgeConfig{cfg: cfg, version: o.Version, times: head.Times, report: b, memory: judgeMemory, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return settings, fmt.Errorf("read the recording %s: %w", dir, err)
	}
	settings = VerdictSettings(&cfg.Verdict)
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return settings, fmt.Errorf("read the recording %s: %w", dir, err)
		}
		e, err := r.Next()
		switch {
		case errors.Is(err, recording.ErrCut):
			fmt.Fprintf(o.Warn, "warning: %s: the report is of what comes before\n", oneLine(err))
			j.end(ctx)
			return settings, nil
		case err == io.EOF:
			j.end(ctx)
			b.Ledger(r.Ledger())
			return settings, nil
		case err != nil:
			return settings, err
		}
		if err := fits(e, cfg); err != nil {
			return settings, fmt.Errorf("read the recording %s: event %d: %w", dir, n, err)
		}
		results := make([]*judged, len(e.Pairs))
		for k := range e.Pairs {
			if p := &e.Pairs[k]; p.Result == replay.Compared {
				results[k] = j.compare(p.Experiment, e.Exchange, p.Outcome, p.Stale)
			}
		}
		j.admit(e, results)
		j.take(ctx, e, results)
	}
}

// judgeMemory bounds the comparisons of a report, in bytes.
const judgeMemory = 256 << 20

// fits says whether an event can be one of the configuration.
func fits(e *recording.Event, c *config.Config) error {
	if n := len(e.Choices); n != len(c.Experiments) && (e.Kind == recording.Complete || n > 0) {
		return fmt.Errorf("choices of %d experiments: the configuration has %d", n, len(c.Experiments))
	}
	for i, choice := range e.Choices {
		if n := len(c.Experiments[i].Routes); int(choice.Route) >= n {
			return fmt.Errorf("choices[%d]: route %d of %d", i, choice.Route, n)
		}
	}
	return nil
}

// newRules lays the rules of a file over those of the recorded experiments.
func (o *ReportOptions) newRules(c *config.Config) error {
	if o.Rules == "" {
		return nil
	}
	data, err := readRules(o.Rules)
	if err != nil {
		return err
	}
	whole, found := config.Whole(data), false
	for i := range c.Experiments {
		e := &c.Experiments[i]
		if len(o.Experiments) > 0 && !slices.Contains(o.Experiments, e.Name) {
			continue
		}
		name := ""
		if whole {
			name = e.Name
		}
		m, from, path, err := config.ParseCompare(o.Rules, data, name)
		if err != nil {
			return err
		}
		if _, err := compileRules(m, from, path); err != nil {
			return err
		}
		state, recheck := e.Compare.State, e.Compare.Recheck
		if !reflect.DeepEqual(e.Compare, *m) {
			e.Compare = *m
			// What was seen of the state is recorded, and not asked again.
			e.Compare.State, e.Compare.Recheck = state, recheck
		}
		found = true
	}
	if !found {
		return fmt.Errorf("%s: the recording has no experiment of that name", o.Rules)
	}
	return nil
}
