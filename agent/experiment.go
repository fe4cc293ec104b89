package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
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
	// descriptors are the protobuf types, nil without.
	descriptors *diff.Descriptors
	replayer    *replay.Replayer
	// authority is the candidate's host and port.
	authority string
	sampler   *sample.Sampler
	redactor  *redact.Redactor
	publisher *publish.Publisher
	identity  *identity
	gate      *gate
	windows   *windows
	tickets   tickets
	now       func() time.Time

	// comparisons counts by outcome and reason, in the order of
	// diff.Reasons.
	comparisons [diff.NumOutcomes]map[string]*atomic.Uint64
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

func newExperiment(c *config.Config, i int, own replay.OwnReplay, memory *replay.Memory, log *slog.Logger) (*experiment, error) {
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
	u, err := url.Parse(e.Candidate.URL)
	if err != nil {
		return nil, fmt.Errorf("experiments[%d].candidate.url: %w", i, err)
	}
	x.authority = u.Host
	t := e.Candidate.TLS
	x.replayer, err = replay.New(replay.Config{
		Experiment: e.Name, Role: "candidate", URL: e.Candidate.URL,
		TLS:  replay.TLS{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile, ServerName: t.ServerName, Insecure: t.InsecureSkipVerify},
		Host: e.Candidate.Host, Trace: e.Candidate.Trace, Credentials: replay.Credentials(e.Candidate.Credentials),
		Timeout: e.Replay.Timeout.D(), MaxInFlight: e.Replay.MaxInFlight, MaxRate: float64(e.Replay.MaxRate), Memory: memory,
		MaxBody: int64(c.Capture.MaxBody), OwnReplay: own, Log: log, Done: x.done, Skipped: x.skipped,
	})
	if err != nil {
		return nil, fmt.Errorf("experiments[%d]: %w", i, err)
	}
	return x, nil
}

// submit hands an exchange to replay, and to the windows first.
func (x *experiment) submit(ex *exchange.Exchange) {
	x.tickets.put(ex, x.windows.selected(x.index, ex))
	x.replayer.Submit(ex)
}

// skipped counts in the windows what was not compared.
func (x *experiment) skipped(ex *exchange.Exchange, r replay.Result) {
	if t, ok := x.tickets.take(ex); ok {
		x.windows.collector.Skip(t, unreplayed[r], verdict.ControlNotChosen)
	}
}

// done compares a replay with the reference. Several goroutines call it; the
// gate says how many go on at once.
func (x *experiment) done(ex *exchange.Exchange, o *replay.Outcome) {
	defer x.gate.leave(x.gate.enter(comparisonCost(ex.Response, o.Response)))
	replayed := o.Start
	if replayed == 0 {
		replayed = o.LastByte
	}
	res := x.rules.Compare(ex.Request, ex.Response, o.Response, diff.Input{
		CandidateError:     o.Error,
		Stale:              x.sampler.Stale(x.index, ex, replayed) != sample.Fresh,
		CandidateAuthority: x.authority,
		Descriptors:        x.descriptors,
	})
	if n := x.comparisons[res.Outcome][res.Why]; n != nil {
		n.Add(1)
	}
	fingerprints := x.fingerprints(ex, res)
	if t, ok := x.tickets.take(ex); ok {
		x.windows.collector.Compare(t, pairOf(ex, o, res, fingerprints))
	}
	if res.Outcome == diff.Divergent || res.Outcome == diff.NotComparable {
		x.publish(ex, o, res, fingerprints)
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
// and hands on what is redacted.
func (x *experiment) publish(ex *exchange.Exchange, o *replay.Outcome, res *diff.Result, fingerprints []string) {
	ad := publish.Admission{
		Experiment: x.cfg.Name, Route: x.route(ex), ExchangeID: string(ex.ID), Why: res.Why,
		Fingerprints: fingerprints, Time: time.Unix(0, ex.Request.FirstByte),
	}
	if res.Outcome == diff.Divergent {
		ad.Why = ""
	}
	if weight, ok := x.publisher.Admit(ad); ok {
		x.publisher.Publish(x.record(ex, o, res, weight))
	}
}

// record redacts a divergence.
func (x *experiment) record(ex *exchange.Exchange, o *replay.Outcome, res *diff.Result, weight float64) *redact.Record {
	id, route := x.identity, int(ex.Decision.Choices[x.index].Route)
	r := x.sampler.Route(x.index, route)
	in := &redact.Input{
		Node: id.node, Cluster: id.cluster, Namespace: id.namespace, Pod: id.pod, Service: id.service,
		AgentVersion: id.version, BootID: id.bootID, ConfigRevision: id.revision, Source: id.source,
		Experiment: x.cfg.Name, Route: r.Path, Key: r.Key, SecretParams: x.cfg.Routes[route].Secret,
		Exchange: ex,
		Candidate: redact.Leg{
			Response: o.Response, Error: o.Error, Detail: o.Detail, Reused: o.Reused,
			Start: o.Start, FirstByte: o.FirstByte, LastByte: o.LastByte, TraceID: o.FreshTraceID,
		},
		Result:           res,
		CandidateVersion: x.cfg.Candidate.Version, CandidateAddress: o.Address,
		TraceID: o.TraceID, ReplayLag: o.Lag,
		SampleRate:    float64(x.cfg.RateOf(route).Hundredths()) / 10_000,
		PublishWeight: weight,
		Published:     x.now(),
	}
	for _, p := range x.sampler.Params(x.index, route, ex.Request.Target) {
		in.Params = append(in.Params, redact.Param(p))
	}
	return x.redactor.Record(in)
}
