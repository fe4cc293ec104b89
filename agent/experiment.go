package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/publish"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/bpf"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// experiment is one experiment behind sampling: replay, comparison and the
// making of records.
type experiment struct {
	index int
	cfg   *config.Experiment
	rules *diff.Rules
	// descriptors are the protobuf types, nil without: of a file, or what reflect
	// found last.
	descriptors atomic.Pointer[diff.Descriptors]
	replayer    *replay.Replayer
	// authority is the candidate's host and port, controlAuthority the control's,
	// "" without one.
	authority, controlAuthority string
	// chosen says what goes to the control of a capture, nil without one.
	chosen func(*exchange.Exchange) bool

	sampler   *sample.Sampler
	redactor  *redact.Redactor
	publisher *publish.Publisher
	identity  *identity
	gate      *gate
	windows   *windows
	tickets   tickets
	now       func() time.Time
	// handed sees each record that goes to the sinks, for the report of a running
	// agent or of a capture; nil: nobody does.
	handed func(*redact.Record)

	// comparisons counts by outcome and reason, in the order of
	// diff.Reasons.
	comparisons [diff.NumOutcomes]map[string]*atomic.Uint64
	rechecks    rechecks
}

// identity is what every record says of where it comes from.
type identity struct {
	node, cluster, namespace, pod, service string
	version, bootID, revision, source      string
}

// ownReplay tells the tap which sockets are ours.
type ownReplay struct{ maps *bpf.Maps }

func (o ownReplay) Add(a netip.AddrPort) error { return o.maps.OwnReplayAdd(a) }
func (o ownReplay) Remove(a netip.AddrPort)    { _ = o.maps.OwnReplayRemove(a) }

// sampleConfig is the experiments as the sampler takes them.
func sampleConfig(c *config.Config, start time.Time) sample.Config {
	var sc sample.Config
	for i := range c.Experiments {
		e := &c.Experiments[i]
		by, _ := sample.ParseBy(e.Sample.By)
		se := sample.Experiment{
			Name: e.Name, Disabled: !e.Enabled,
			Match:         sample.Match{Port: e.Match.Port, Host: e.Match.Host, Methods: e.Match.Methods, Headers: e.Match.Headers},
			Exclude:       e.Exclude,
			Rate:          sample.Rate{Hundredths: e.Sample.Rate.Hundredths()},
			By:            by,
			Unsafe:        e.Replay.Unsafe,
			GRPC:          e.Replay.GRPC,
			Guard:         sample.Guard{Latency: float64(e.Guard.Latency)},
			SeparateState: e.Compare.State == "separate",
		}
		if !e.Guard.Errors.Off {
			se.Guard.Errors = sample.Rate{Hundredths: e.Guard.Errors.Rate.Hundredths()}
		}
		if end, ok := e.Until.End(start); ok {
			se.Until = end
		}
		for _, r := range e.Routes {
			sr := sample.Route{Path: r.Path, Key: r.Key}
			if r.Sample != nil {
				sr.Rate = &sample.Rate{Hundredths: r.Sample.Hundredths()}
			}
			se.Routes = append(se.Routes, sr)
		}
		sc.Experiments = append(sc.Experiments, se)
	}
	return sc
}

// newComparison makes an experiment that compares, and does not replay.
func newComparison(c *config.Config, i int) (*experiment, error) {
	e := &c.Experiments[i]
	x := &experiment{index: i, cfg: e, now: time.Now}
	for o := range diff.NumOutcomes {
		x.comparisons[o] = map[string]*atomic.Uint64{}
		for _, why := range diff.Reasons(diff.Outcome(o)) {
			x.comparisons[o][why] = new(atomic.Uint64)
		}
	}
	var err error
	x.rules, err = compileRules(&e.Compare, c, fmt.Sprintf("experiments[%d].compare.", i))
	if err != nil {
		return nil, err
	}
	x.authority, x.controlAuthority = authority(e.Candidate.URL), authority(e.Control.URL)
	return x, nil
}

// newExperiment makes one that replays, too.
func newExperiment(c *config.Config, i int, own replay.OwnReplay, memory *replay.Memory, log *slog.Logger) (*experiment, error) {
	x, err := newComparison(c, i)
	if err != nil {
		return nil, err
	}
	rc := replayConfig(c, i)
	rc.Memory, rc.OwnReplay, rc.Log, rc.Done, rc.Skipped = memory, own, log, x.done, x.skipped
	if x.replayer, err = replay.New(rc); err != nil {
		return nil, fmt.Errorf("experiments[%d]: %w", i, err)
	}
	return x, nil
}

// replayConfig is an experiment's configuration as replay takes it.
func replayConfig(c *config.Config, i int) replay.Config {
	e := &c.Experiments[i]
	return replay.Config{
		Experiment: e.Name, Role: "candidate", URL: e.Candidate.URL,
		TLS:  replayTLS(&e.Candidate.TLS),
		Host: e.Candidate.Host, Trace: e.Candidate.Trace, Credentials: replay.Credentials(e.Candidate.Credentials),
		Timeout: e.Replay.Timeout.D(), MaxInFlight: e.Replay.MaxInFlight, MaxRate: float64(e.Replay.MaxRate),
		MaxBody: int64(c.Capture.MaxBody), Control: replayControl(e),
	}
}

// submit hands an exchange to replay, and to the windows first.
func (x *experiment) submit(ex *exchange.Exchange) {
	x.tickets.put(ex, x.windows.selected(x.index, ex))
	x.replayer.Submit(ex)
}

// skipped counts in the windows what was not compared.
func (x *experiment) skipped(ex *exchange.Exchange, r replay.Result) {
	if t, ok := x.tickets.take(ex); ok {
		control := verdict.ControlNotChosen
		if x.replayer.Chosen(ex) {
			control = verdict.ControlShed
		}
		x.windows.collector.Skip(t, unreplayed[r], control)
	}
}

// done compares a replay with the reference. Several goroutines call it; the
// gate says how many go on at once.
func (x *experiment) done(ex *exchange.Exchange, o *replay.Outcome) {
	defer x.gate.leave(x.gate.enter(max(comparisonCost(ex.Response, o.Response), controlCost(ex, o))))
	replayed := o.Start
	if replayed == 0 {
		replayed = o.LastByte
	}
	stale := x.sampler.Stale(x.index, ex, replayed) != sample.Fresh
	res := x.compare(ex, o, stale)
	fingerprints, control := x.fingerprints(ex, res), x.control(ex, o, stale)
	if t, ok := x.tickets.take(ex); ok {
		p := pairOf(ex, o, res, fingerprints)
		if control != nil {
			p.Control = control.Control
		}
		x.windows.collector.Compare(t, p)
	}
	if res.Outcome != diff.Divergent && res.Outcome != diff.NotComparable || !x.publish(ex, o, res, fingerprints, control) {
		x.count(res)
	}
}

// compare compares a replay with the reference.
func (x *experiment) compare(ex *exchange.Exchange, o *replay.Outcome, stale bool) *diff.Result {
	return x.rules.Compare(ex.Request, ex.Response, o.Response, diff.Input{
		CandidateError:     o.Error,
		Stale:              stale,
		CandidateAuthority: x.authority,
		Descriptors:        x.descriptors.Load(),
	})
}

// count adds a comparison to the ledger.
func (x *experiment) count(res *diff.Result) {
	if n := x.comparisons[res.Outcome][res.Why]; n != nil {
		n.Add(1)
	}
}

func (x *experiment) route(ex *exchange.Exchange) string {
	return x.sampler.Route(x.index, int(ex.Decision.Choices[x.index].Route)).Path
}

// fingerprints are the distinct ones of the differences that count, sorted; none
// unless the pair is divergent.
func (x *experiment) fingerprints(ex *exchange.Exchange, res *diff.Result) (list []string) {
	if res.Outcome != diff.Divergent {
		return nil
	}
	route := x.route(ex)
	for i := range res.Differences {
		if d := &res.Differences[i]; !d.Ignored {
			list = append(list, diff.Fingerprint(x.cfg.Name, route, d))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// publish asks the cap first, so that a flood of one divergence costs little,
// and hands on what is redacted. It says whether that comes later, and the count
// with it: when what differs is asked once more.
func (x *experiment) publish(ex *exchange.Exchange, o *replay.Outcome, res *diff.Result, fingerprints []string, control *controlSide) (later bool) {
	weight, ok := x.admit(ex, res, fingerprints)
	switch {
	case !ok:
	case x.askAgain(o, res):
		x.recheck(ex, o, func(again *redact.Recheck) {
			x.count(res)
			x.hand(x.record(ex, o, res, control, again, weight))
		})
		return true
	default:
		x.hand(x.record(ex, o, res, control, nil, weight))
	}
	return false
}

// admit asks the cap whether a pair is published.
func (x *experiment) admit(ex *exchange.Exchange, res *diff.Result, fingerprints []string) (weight float64, ok bool) {
	ad := publish.Admission{
		Experiment: x.cfg.Name, Route: x.route(ex), ExchangeID: string(ex.ID), Why: res.Why,
		Fingerprints: fingerprints, Time: time.Unix(0, ex.Request.FirstByte),
	}
	if res.Outcome == diff.Divergent {
		ad.Why = ""
	}
	return x.publisher.Admit(ad)
}

// askAgain says whether a published pair is asked once more.
func (x *experiment) askAgain(o *replay.Outcome, res *diff.Result) bool {
	return x.cfg.Compare.Recheck > 0 && res.Outcome == diff.Divergent && o.Error == ""
}

// hand gives a record to the report and to the sinks.
func (x *experiment) hand(rec *redact.Record) {
	if x.handed != nil {
		x.handed(rec)
	}
	x.publisher.Publish(rec)
}

// record redacts a divergence.
func (x *experiment) record(ex *exchange.Exchange, o *replay.Outcome, res *diff.Result, control *controlSide, again *redact.Recheck, weight float64) *redact.Record {
	id, route := x.identity, int(ex.Decision.Choices[x.index].Route)
	r := x.sampler.Route(x.index, route)
	in := &redact.Input{
		Node: id.node, Cluster: id.cluster, Namespace: id.namespace, Pod: id.pod, Service: id.service,
		AgentVersion: id.version, BootID: id.bootID, ConfigRevision: id.revision, Source: id.source,
		Experiment: x.cfg.Name, Route: r.Path, Key: r.Key, SecretParams: x.cfg.Routes[route].Secret,
		Exchange:  ex,
		Candidate: recordLeg(o),
		Result:    res, Recheck: again,
		CandidateVersion: x.cfg.Candidate.Version, CandidateAddress: o.Address,
		TraceID: o.TraceID, ReplayLag: o.Lag,
		SampleRate:    float64(x.cfg.RateOf(route).Hundredths()) / 10_000,
		PublishWeight: weight,
		Published:     x.now(),
	}
	if control != nil && control.leg != nil {
		in.Control, in.ControlResult, in.ControlSelf = control.leg, control.result, x.cfg.Control.Self
	}
	for _, p := range x.sampler.Params(x.index, route, ex.Request.Target) {
		in.Params = append(in.Params, redact.Param(p))
	}
	return x.redactor.Record(in)
}
