package agent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/publish"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// windows makes the window records: what becomes of the requests of each route
// in 10 s, in the very places where the ledger counts it.
type windows struct {
	collector *verdict.Collector
	redactor  *redact.Redactor
	publisher *publish.Publisher
	report    *liveReport
	log       *slog.Logger
	// first is the route "" of each experiment; those of its routes follow.
	first []verdict.RouteID
	// rows is the number of routes of all experiments.
	rows int
	// made counts the records that were handed to the publisher.
	made atomic.Uint64
}

// newWindows makes those of the experiments, which sampler knows too.
func newWindows(c *config.Config, sampler *sample.Sampler, id *identity, r *redact.Redactor, p *publish.Publisher, log *slog.Logger) (*windows, error) {
	cc := verdict.CollectorConfig{Agent: agentName(id.node, c.Instance), BootID: id.bootID, ConfigRevision: id.revision}
	for i := range c.Experiments {
		e := &c.Experiments[i]
		ce := verdict.CollectorExperiment{
			Name: e.Name, CandidateVersion: e.Candidate.Version, SampleBy: e.Sample.By,
			Control: e.Control.URL != "" || e.Control.Self, ControlSelf: e.Control.Self, Warmup: e.Replay.Warmup.D(),
		}
		for k := range e.Routes {
			ce.Routes = append(ce.Routes, sampler.Route(i, k).Path)
		}
		cc.Experiments = append(cc.Experiments, ce)
	}
	w, err := countWindows(cc)
	if err != nil {
		return nil, err
	}
	w.redactor, w.publisher, w.log = r, p, log
	w.report, err = newLiveReport(int64(c.Capture.Memory), VerdictSettings(&c.Verdict), log)
	return w, err
}

// countWindows makes windows that count, and can't publish.
func countWindows(cc verdict.CollectorConfig) (*windows, error) {
	col, err := verdict.NewCollector(cc)
	if err != nil {
		return nil, err
	}
	w := &windows{collector: col}
	for i := range cc.Experiments {
		id, _ := col.Route(cc.Experiments[i].Name, "")
		w.first = append(w.first, id)
		w.rows += 1 + len(cc.Experiments[i].Routes)
	}
	return w, nil
}

// route gives the route of a choice.
func (w *windows) route(experiment int, c *exchange.Choice) verdict.RouteID {
	if c.Selection == exchange.Unmatched || c.Selection == exchange.OwnTraffic {
		return w.first[experiment]
	}
	return w.first[experiment] + 1 + verdict.RouteID(c.Route)
}

// agentName names an agent among all of a fleet: by its node, and where several
// run on one by their instances too.
func agentName(node, instance string) string {
	if instance == "default" || instance == "" {
		return node
	}
	return node + "/" + instance
}

// run hands out windows that are over until ctx ends. Each waits for room in the
// sinks' queues as long as a window lasts, or until send ends.
func (w *windows) run(ctx, send context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			room, cancel := context.WithTimeout(send, verdict.WindowLength)
			w.publish(room, w.collector.Advance(now))
			cancel()
		}
	}
}

// flush hands out all windows, with now as the end of the last.
func (w *windows) flush(ctx context.Context, now time.Time) {
	w.publish(ctx, w.collector.Advance(now))
	w.publish(ctx, w.collector.Flush())
}

func (w *windows) publish(ctx context.Context, list []*verdict.Window) {
	w.report.windows(list)
	for _, o := range list {
		rec, err := w.redactor.Window(o)
		if err != nil {
			// No count is so large, and no clock so wrong. The hole in the
			// sequence tells readers.
			w.log.Error("a window record can't be made", "err", err)
			continue
		}
		w.made.Add(1)
		w.publisher.PublishWindow(ctx, rec)
	}
}

// selected counts an exchange that is going to be replayed.
func (w *windows) selected(experiment int, ex *exchange.Exchange) verdict.Ticket {
	return w.collector.Select(w.route(experiment, &ex.Decision.Choices[experiment]), time.Unix(0, ex.Request.FirstByte))
}

// tickets are those of an experiment's exchanges that are in flight.
type tickets struct {
	mu sync.Mutex
	of map[*exchange.Exchange]verdict.Ticket
}

func (t *tickets) put(ex *exchange.Exchange, ticket verdict.Ticket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[*exchange.Exchange]verdict.Ticket{}
	}
	t.of[ex] = ticket
}

func (t *tickets) take(ex *exchange.Exchange) (verdict.Ticket, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ticket, ok := t.of[ex]
	delete(t.of, ex)
	return ticket, ok
}

// unreplayed are the words of what was not compared.
var unreplayed = [replay.NumResults]verdict.Unreplayed{
	replay.Shed: verdict.Shed, replay.RateLimited: verdict.RateLimited, replay.BreakerOpen: verdict.BreakerOpen, replay.Stopped: verdict.Stopped,
}

// pairOf is a comparison as the windows count it.
func pairOf(ex *exchange.Exchange, o *replay.Outcome, res *diff.Result, fingerprints []string) *verdict.Pair {
	return &verdict.Pair{
		Outcome: res.Outcome, Why: res.Why, Failed: o.Error, Fingerprints: fingerprints,
		KeyGroup:  verdict.KeyGroup(ex.Request.Method, ex.Request.Target),
		Reference: referenceLeg(ex), Candidate: replayLeg(o),
	}
}

// referenceLeg has the reference's times. An answer that began before its
// request was over has none.
func referenceLeg(ex *exchange.Exchange) verdict.Leg {
	since := func(t int64) time.Duration { return time.Duration(max(0, t-ex.Request.LastByte)) }
	return verdict.Leg{
		FirstByte: since(ex.Response.FirstByte), LastByte: since(ex.Response.LastByte),
		Size: ex.Response.Body.Size, NewConnection: !ex.Reused,
	}
}

// replayLeg has the times of a replay.
func replayLeg(o *replay.Outcome) verdict.Leg {
	l := verdict.Leg{FirstByte: o.TTFB(), NewConnection: !o.Reused, MinRTT: o.MinRTT}
	switch {
	case o.Error == "":
		l.LastByte, l.Size = o.TTLB(), o.Response.Body.Size
	case o.Error == replay.ErrorTimeout && o.FirstByte == 0:
		l.GaveUp = o.TTLB()
	}
	return l
}
