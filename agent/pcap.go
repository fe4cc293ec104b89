package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shadowtap/shadowtap/agent/capture"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/recording"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// PcapOptions say what is done with a capture file.
type PcapOptions struct {
	// Path is the file, "-" for standard input. Required.
	Path string
	// Ports are the servers' ports. Required.
	Ports []uint16
	// Decapsulate opens VXLAN, Geneve and GRE.
	Decapsulate bool
	// Exchanges gets each complete exchange as a JSON line. Nil means none.
	Exchanges io.Writer
	// Memory bounds connections and bodies, in bytes. Zero means 256 MiB.
	Memory int64

	// Config has the experiments whose candidates and controls the capture is
	// replayed to, and the sinks. A control of self is an error. Nil means that
	// nothing is replayed.
	Config *config.Config
	// Record is a folder that gets what is needed to compare again, in the
	// clear; see package recording. "" means none.
	Record string
	// Times puts the times of candidate and control into records and report, and
	// what else differs from run to run: no two runs are alike then.
	Times bool
	// Patience is how long a candidate or control that fails is waited for. Zero
	// means 30s.
	Patience time.Duration
	// Quiet keeps the records from every sink.
	Quiet bool
	// Report gets the records and windows; nil means one of the run's own.
	Report *report.Builder
	// Terminal is where divergences are shown without sinks. Required with
	// Config.
	Terminal Terminal
	// Version of the program, for records.
	Version string
	// Log is required.
	Log *slog.Logger
}

// PcapResult is what came of a capture file.
type PcapResult struct {
	// Counts is the ledger.
	Counts []telemetry.Count
	// Report is what records and windows say; nil where nothing was replayed.
	Report *report.Document
}

// Pcap reads a capture file through the pipeline of the live agent. What was
// read before an error counts and was written; the result is nil when nothing
// was.
//
// With experiments it replays what they select, and nothing is shed: reading
// waits for a place in flight and for a target that is away. The order of
// records is that in which the exchanges were complete, whatever the order of
// the answers, and the same capture, answers, rules and redaction key give the
// same bytes.
func Pcap(ctx context.Context, o PcapOptions) (*PcapResult, error) {
	f, err := capture.OpenFile(capture.FileConfig{Path: o.Path, Ports: o.Ports, Decapsulate: o.Decapsulate})
	if err != nil {
		return nil, err
	}
	if o.Memory == 0 {
		o.Memory = 256 << 20
	}
	var lines *exchangeLines
	if o.Exchanges != nil {
		lines = newExchangeLines(o.Exchanges, false)
	}
	var res *PcapResult
	if o.Config == nil {
		res, err = o.list(ctx, f, lines)
	} else {
		res, err = o.replay(ctx, f, lines)
	}
	if lines != nil {
		err = errors.Join(err, lines.flush())
	}
	st := f.Stats()
	for link, n := range st.OtherLinks {
		o.Log.Warn("packets of a link type that is not read", "link", link, "packets", n)
	}
	if st.Cut > 0 {
		o.Log.Warn("packets were cut by the capture's snap length: what they lack is a hole", "packets", st.Cut, "bytes", st.CutBytes)
	}
	if st.CutRecord > 0 {
		o.Log.Warn("the file ends inside a record", "record", st.CutRecord)
	}
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("read %s: %w", o.Path, ctx.Err())
	}
	return res, err
}

// list reads the file and replays nothing.
func (o *PcapOptions) list(ctx context.Context, f *capture.File, lines *exchangeLines) (*PcapResult, error) {
	k := &keeper{lines: lines}
	s, err := newShard(shardConfig{keeper: k, sink: k, memory: o.Memory, file: true})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	err = f.Run(ctx, s)
	s.close(reassembly.CloseDone)
	return &PcapResult{Counts: o.ledger(f, s)}, err
}

// ledger is that of what was read.
func (o *PcapOptions) ledger(f *capture.File, s *shard) []telemetry.Count {
	st := f.Stats()
	var c counts
	c.packets(st.Each)
	c.shards([]*shard{s})
	return c
}

// maxQueued bounds the events between reading and judging: for a while one slow
// answer holds up no other.
const maxQueued = 4096

// replay reads the file and replays what the experiments select.
func (o *PcapOptions) replay(ctx context.Context, f *capture.File, lines *exchangeLines) (_ *PcapResult, err error) {
	fail := func(err error) (*PcapResult, error) { return nil, errors.Join(err, f.Close()) }
	for i := range o.Config.Experiments {
		if o.Config.Experiments[i].Control.Self {
			return fail(o.Config.Errorf(fmt.Sprintf("experiments[%d].control.self", i), "asks the captured server once more, under a guard that watches live traffic: "+
				"for a capture name a second instance of the reference version by control.url or --control, or write false"))
		}
	}
	cfg := reproducible(o.Config)
	b := o.Report
	if b == nil {
		if b, err = report.New(report.Config{}); err != nil {
			return fail(err)
		}
	}
	jc := judgeConfig{cfg: cfg, terminal: o.Terminal, version: o.Version, times: o.Times, report: b, memory: o.Memory / 4, log: o.Log}
	if !o.Quiet {
		jc.sinks = o.Config
	}
	j, err := newJudge(jc)
	if err != nil {
		return fail(err)
	}
	q := newQueue(maxQueued, o.Memory/4)
	r := &reader{queue: q, judge: j, sample: j.sampler.Shard(), lines: lines, ctx: ctx}
	for i, x := range j.experiments {
		// The TLS files are not in what decides about records.
		rc := replayConfig(o.Config, i)
		rc.Patience, rc.Log = o.Patience, o.Log
		rc.Done = func(ex *exchange.Exchange, out *replay.Outcome) {
			q.settle(ex, i, replay.Compared, out, j.compare(i, ex, out, q.stale(ex, i)))
		}
		rc.Skipped = func(ex *exchange.Exchange, result replay.Result) { q.settle(ex, i, result, nil, nil) }
		if x.replayer, err = replay.New(rc); err != nil {
			return fail(fmt.Errorf("experiments[%d]: %w", i, err))
		}
	}
	s, err := newShard(shardConfig{keeper: r, sink: r, memory: o.Memory / 2, body: int64(cfg.Capture.MaxBody), file: true})
	if err != nil {
		return fail(err)
	}
	s.sample = r.sample
	var rec *recording.Writer
	if o.Record != "" {
		rec, err = recording.Create(recording.Config{
			Dir: o.Record, MaxBody: int64(cfg.Capture.MaxBody),
			Head: recording.Head{AgentVersion: o.Version, Config: cfg.String(), Times: o.Times},
		})
		if err != nil {
			return fail(err)
		}
	}

	send, endSend := context.WithCancel(context.Background())
	defer endSend()
	var sending, replaying, admitting, judging errgroup.Group
	sending.Go(func() error { return j.publisher.Run(send) })
	for _, x := range j.experiments {
		replaying.Go(func() error { return x.replayer.Run(ctx) })
	}
	admitting.Go(func() error {
		for e := q.settled(); e != nil; e = q.settled() {
			again := j.admit(&e.Event, e.results)
			q.admit(e, len(again))
			for _, k := range again {
				x := j.experiments[e.Pairs[k].Experiment]
				x.replayer.AgainWait(e.Exchange, x.cfg.Compare.Recheck.D(), func(a replay.Again) { q.again(e, k, &a) })
			}
		}
		return nil
	})
	judging.Go(func() error {
		var err error
		for e := q.take(); e != nil; e = q.take() {
			if rec != nil && err == nil {
				if err = rec.Write(&e.Event); err != nil {
					o.Log.Error("the recording ends here, the replay goes on", "err", err)
				}
			}
			j.take(ctx, &e.Event, e.results)
		}
		j.end(ctx)
		return err
	})
	err = f.Run(ctx, fileSink{s, r})
	s.close(reassembly.CloseDone)
	// What is in flight ends by itself, and may be asked once more then.
	q.close()
	err = errors.Join(err, admitting.Wait(), judging.Wait())
	for _, x := range j.experiments {
		x.replayer.Stop()
	}
	err = errors.Join(err, replaying.Wait())
	ledger := o.ledger(f, s)
	c := counts(ledger)
	c.experiments(j.sampler, j.experiments)
	if rec != nil {
		if cerr := rec.Close(captureLedger(c)); err == nil {
			err = cerr
		}
	}
	flush, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	if j.publisher.Stop(flush) != nil {
		err = errors.Join(err, fmt.Errorf("%w before the end: they are counted as dropped", ErrUndelivered))
	}
	endSend()
	err = errors.Join(err, sending.Wait())
	b.Ledger(captureLedger(c))
	c = append(c, deliveries(j.publisher, j.windows)...)
	res := &PcapResult{Counts: c}
	if o.Report == nil {
		var derr error
		if res.Report, derr = b.Document(VerdictSettings(&cfg.Verdict)); derr != nil {
			err = errors.Join(err, derr)
		}
	}
	return res, err
}

// captureLedger is the ledger as far as rules and sinks don't change it.
func captureLedger(c []telemetry.Count) map[string]map[string]uint64 {
	l := telemetry.NewLedger(c)
	for line := range l {
		switch line {
		case "kernel_packets", "captured_bytes", "delivered_bytes", "exchanges", "selection", "replays":
		default:
			delete(l, line)
		}
	}
	return l
}

// reader stands between a capture's parsers and the queue: it asks the sampler
// at each head, queues what became of each exchange, and submits to replay what
// is selected. It belongs to the reading goroutine, which it holds up where the
// live agent would shed.
type reader struct {
	queue  *queue
	judge  *judge
	sample *sample.Shard
	lines  *exchangeLines // nil without --exchanges
	ctx    context.Context
	now    int64
	window int64 // that of the last tick in the queue
}

// Keep implements exchange.Keeper.
func (r *reader) Keep(h *exchange.Head) exchange.Decision {
	d := r.sample.Keep(h)
	if r.lines != nil && d.Want < exchange.WantList {
		d.Want = exchange.WantList
	}
	return d
}

// Complete implements exchange.Sink.
func (r *reader) Complete(c *exchange.Complete) {
	r.sample.Completed(c.Decision, c.Doubt, sample.CompletedInfo{Time: c.Start + c.TTFB, TTFB: c.TTFB, Status: c.Status, GRPCStatus: c.GRPCStatus})
	x := c.Exchange
	if r.lines != nil && x != nil {
		r.lines.write(x)
	}
	e := &entry{Event: recording.Event{Kind: recording.Complete, Time: c.Start, Choices: choices(c.Decision)}}
	for i := range e.Choices {
		if e.Choices[i].Selection == exchange.Selected {
			// By the file's time, so that it does not depend on how far
			// reading is ahead of replay.
			stale := r.judge.sampler.Stale(i, x, x.Response.LastByte) != sample.Fresh
			e.Exchange = x
			e.Pairs = append(e.Pairs, recording.Pair{Experiment: i, Stale: stale})
		}
	}
	r.queue.put(r.ctx, e)
	for i := range c.Decision.Choices[:c.Decision.Len] {
		if c.Decision.Choices[i].Selection == exchange.Selected {
			r.judge.experiments[i].replayer.SubmitWait(r.ctx, x)
		}
	}
}

// Lost implements exchange.Sink.
func (r *reader) Lost(l exchange.Lost) {
	e := &entry{Event: recording.Event{Kind: recording.Lost, Time: l.Start, Result: l.Result, N: l.N}}
	if e.Time == 0 {
		e.Time = r.now
	}
	if l.Decision != nil {
		e.Choices = choices(l.Decision)
	}
	r.queue.put(r.ctx, e)
}

func choices(d *exchange.Decision) []exchange.Choice {
	return append([]exchange.Choice(nil), d.Choices[:d.Len]...)
}

// tick queues the capture's time, where a window may be over with it.
func (r *reader) tick(now int64) {
	r.now = now
	if w := now / int64(verdict.WindowLength); w != r.window {
		r.window = w
		r.queue.put(r.ctx, &entry{Event: recording.Event{Kind: recording.Tick, Time: now}})
	}
}

// fileSink is a shard whose ticks the reader gets too.
type fileSink struct {
	*shard
	reader *reader
}

// Tick implements capture.Sink.
func (s fileSink) Tick(now int64) {
	s.shard.Tick(now)
	s.reader.tick(now)
}
