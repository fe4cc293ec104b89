package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/publish"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// records is a sink that keeps what it gets.
type records struct {
	mu   sync.Mutex
	list []*redact.Record
}

func (r *records) Name() string                { return "test" }
func (r *records) Flush(context.Context) error { return nil }
func (r *records) Close() error                { return nil }
func (r *records) Takes(redact.Kind) bool      { return true }
func (r *records) Deliver(rec *redact.Record, done func(publish.Result)) {
	r.mu.Lock()
	r.list = append(r.list, rec)
	r.mu.Unlock()
	done(publish.Acknowledged)
}

// lone is an experiment of its own, behind sampling and before a sink.
type lone struct {
	*experiment
	sink *records
	stop func()
}

func newLone(t *testing.T, change func(e *config.Experiment)) *lone {
	t.Helper()
	c := config.New()
	e := config.NewExperiment("users")
	e.Candidate.URL = "http://127.0.0.1:9"
	e.Routes = []config.Route{{Path: "/"}}
	change(&e)
	c.Experiments = []config.Experiment{e}
	log := slog.New(slog.DiscardHandler)
	x, err := newExperiment(c, 0, nil, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{experiment: x, sink: &records{}}
	x.gate, x.identity = newGate(1<<20, 2), &identity{source: redact.SourceLive}
	if x.sampler, err = sample.New(sampleConfig(c, time.Now())); err != nil {
		t.Fatal(err)
	}
	if x.redactor, err = redact.New(redact.Config{}); err != nil {
		t.Fatal(err)
	}
	if x.publisher, err = publish.New(publish.Config{Sinks: []publish.Sink{l.sink}, PerFingerprint: -1, Log: log}); err != nil {
		t.Fatal(err)
	}
	if x.windows, err = newWindows(c, x.sampler, x.identity, x.redactor, x.publisher, log); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() { _ = x.publisher.Run(ctx) })
	wg.Go(func() { _ = x.replayer.Run(ctx) })
	l.stop = sync.OnceFunc(func() {
		x.replayer.Stop()
		if err := x.publisher.Stop(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
	})
	t.Cleanup(l.stop)
	return l
}

// ledger is what is counted of the experiment and its sink.
func (l *lone) ledger(t *testing.T) telemetry.Ledger {
	t.Helper()
	var c counts
	c.experiments(l.sampler, []*experiment{l.experiment})
	for _, i := range telemetry.Balance(c) {
		if i.Line != "replays" || i.From == "counted" { // nothing was sampled here
			t.Error(i)
		}
	}
	return telemetry.NewLedger(c)
}

// published waits for n records.
func (l *lone) published(t *testing.T, n int) []*redact.Record {
	t.Helper()
	end := time.Now().Add(40 * time.Second)
	for {
		l.sink.mu.Lock()
		list := slices.Clone(l.sink.list)
		l.sink.mu.Unlock()
		if len(list) >= n || time.Now().After(end) {
			if len(list) != n {
				t.Fatalf("%d records, want %d", len(list), n)
			}
			return list
		}
		<-time.After(time.Millisecond)
	}
}

func jsonAnswer(body string, fields ...string) *exchange.Response {
	h := exchange.Header{{Name: "Content-Type", Value: "application/json"}}
	for i := 0; i < len(fields); i += 2 {
		h = append(h, exchange.Field{Name: fields[i], Value: fields[i+1]})
	}
	return &exchange.Response{Status: 200, Proto: "HTTP/1.1", Header: h, Body: exchange.Body{Bytes: []byte(body), Size: int64(len(body))}, FirstByte: 2000, LastByte: 3000}
}

func captured(n int, answer *exchange.Response) *exchange.Exchange {
	head := fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", n)
	return &exchange.Exchange{
		Decision: exchange.Decision{Len: 1, Choices: [exchange.MaxExperiments]exchange.Choice{{Selection: exchange.Selected}}},
		ID:       exchange.ID(fmt.Sprintf("%016x", n)),
		Request: &exchange.Request{
			Method: "GET", Target: fmt.Sprintf("/%d", n), Proto: "HTTP/1.1", Host: "h", Head: []byte(head),
			Header: exchange.Header{{Name: "Host", Value: "h"}}, FirstByte: time.Now().UnixNano(),
		},
		Response: answer,
	}
}

// What the windows and the record get of a control.
func TestControlSide(t *testing.T) {
	l := newLone(t, func(e *config.Experiment) { e.Control.URL, e.Control.Share = "http://127.0.0.1:9", 100_00 })
	reference := jsonAnswer(`{"name":"a","took":1}`)
	ok := func(r *exchange.Response) *replay.Outcome {
		return &replay.Outcome{Response: r, Start: 1000, FirstByte: 3000, LastByte: 4000, Reused: true}
	}
	failed := func(word string) *replay.Outcome {
		return &replay.Outcome{Error: word, Detail: "d", Start: 1000, LastByte: 4000}
	}
	print := func(path string) string {
		return diff.Fingerprint("users", "/", &diff.Difference{Aspect: "body", Kind: "changed", Path: path})
	}
	for _, c := range []struct {
		name    string
		control *replay.ControlOutcome
		want    verdict.Control
		sides   string // of the record's differences, $.name and $.took
		leg     bool
	}{
		{"not chosen", nil, verdict.Control{}, " ", false},
		{"equal", &replay.ControlOutcome{Outcome: ok(jsonAnswer(`{"name":"a","took":1}`))},
			verdict.Control{Result: verdict.ControlAnswered}, "candidate_only candidate_only", true},
		{"noise", &replay.ControlOutcome{Outcome: ok(jsonAnswer(`{"name":"a","took":3}`))},
			verdict.Control{Result: verdict.ControlAnswered, Outcome: diff.Divergent, Fingerprints: []string{print("$.took")}}, "candidate_only both", true},
		{"apart", &replay.ControlOutcome{PairEnd: replay.PairEnd{Result: replay.PairShed, Reason: replay.ReasonApart}, Outcome: ok(jsonAnswer(`{"name":"a","took":3}`))},
			verdict.Control{Result: verdict.ControlShed}, " ", true},
		{"shed", &replay.ControlOutcome{PairEnd: replay.PairEnd{Result: replay.PairShed, Reason: "shed"}},
			verdict.Control{Result: verdict.ControlShed}, " ", false},
		{"timeout", &replay.ControlOutcome{PairEnd: replay.PairEnd{Result: replay.PairFailed, Reason: "timeout"}, Outcome: failed("timeout")},
			verdict.Control{Result: verdict.ControlFailed, Leg: verdict.Leg{GaveUp: 3000}}, " ", true},
		{"connect", &replay.ControlOutcome{PairEnd: replay.PairEnd{Result: replay.PairFailed, Reason: "connect"}, Outcome: failed("connect")},
			verdict.Control{Result: verdict.ControlFailed}, " ", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ex := captured(1, reference)
			o := ok(jsonAnswer(`{"name":"b","took":2}`))
			o.Control = c.control
			s := l.control(ex, o, false)
			if (s == nil) != (c.control == nil) {
				t.Fatalf("%+v", s)
			}
			if s != nil {
				if c.want.Result == verdict.ControlAnswered {
					c.want.Leg = verdict.Leg{FirstByte: 2000, LastByte: 3000, Size: c.control.Outcome.Response.Body.Size}
				}
				if c.want.Result == verdict.ControlFailed {
					c.want.Leg.NewConnection = true
				}
				if fmt.Sprint(s.Control) != fmt.Sprint(c.want) {
					t.Errorf("%+v, want %+v", s.Control, c.want)
				}
			}
			l.sink.mu.Lock()
			l.sink.list = nil
			l.sink.mu.Unlock()
			l.done(ex, o)
			d := l.published(t, 1)[0].Divergence()
			var sides []string
			for _, f := range d.Differences {
				sides = append(sides, f.Side)
				if (f.Control != nil) != (f.Side != "") {
					t.Errorf("%s: control %+v, side %q", f.Path, f.Control, f.Side)
				}
			}
			if got := strings.Join(sides, " "); got != c.sides {
				t.Errorf("sides %q, want %q", got, c.sides)
			}
			if (d.Control != nil) != c.leg || c.leg && d.ControlKind != "instance" || !c.leg && d.ControlKind != "" {
				t.Errorf("control %+v %q", d.Control, d.ControlKind)
			}
		})
	}
}

// The windows get both sides of a pair, and what became of the control.
func TestControlInWindows(t *testing.T) {
	l := newLone(t, func(e *config.Experiment) { e.Control.Self, e.Control.Share = true, 100_00 })
	const a, noise, defect = `{"name":"a","took":1}`, `{"name":"a","took":2}`, `{"name":"b","took":3}`
	outcome := func(body string) *replay.Outcome {
		return &replay.Outcome{Response: jsonAnswer(body), Start: 1000, FirstByte: 3000, LastByte: 4000, Reused: true}
	}
	n := 0
	pair := func(candidate, control string, end replay.PairEnd) {
		n++
		ex, o := captured(n, jsonAnswer(a)), outcome(candidate)
		o.Control = &replay.ControlOutcome{PairEnd: end}
		if control != "" {
			o.Control.Outcome = outcome(control)
		}
		l.tickets.put(ex, l.windows.selected(0, ex))
		l.done(ex, o)
	}
	paired := replay.PairEnd{Result: replay.Paired}
	pair(defect, noise, paired)
	pair(defect, a, paired)
	pair(a, noise, paired)
	pair(a, a, paired)
	pair(defect, "", replay.PairEnd{Result: replay.PairShed, Reason: "shed"})
	ex := captured(99, jsonAnswer(a))
	l.tickets.put(ex, l.windows.selected(0, ex))
	l.skipped(ex, replay.Shed)
	got := map[string]string{}
	for _, w := range l.windows.collector.Flush() {
		if !w.ControlSelf {
			t.Errorf("a window does not say that the control is the captured server: %+v", w)
		}
		if w.Route != "/" || w.Complete == 0 && w.Fingerprint == "" {
			continue
		}
		got[w.Fingerprint] = fmt.Sprintf("%d both, %d candidate only, %d control only", w.Both, w.CandidateOnly, w.ControlOnly)
		if w.Fingerprint == "" && (w.ControlChosen != 6 || w.Paired != 4 || w.ControlShed != 2 || w.Compared != 5 || w.Shed != 1) {
			t.Errorf("%+v", w.Counts)
		}
	}
	want := map[string]string{
		"": "1 both, 1 candidate only, 1 control only",
		diff.Fingerprint("users", "/", &diff.Difference{Aspect: "body", Kind: "changed", Path: "$.name"}): "0 both, 2 candidate only, 0 control only",
		diff.Fingerprint("users", "/", &diff.Difference{Aspect: "body", Kind: "changed", Path: "$.took"}): "1 both, 1 candidate only, 1 control only",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The share is drawn by the exchange, with a salt of its own.
func TestControlShare(t *testing.T) {
	e := config.NewExperiment("users")
	if replayControl(&e) != nil {
		t.Error("a control that nobody asked for")
	}
	e.Control.URL, e.Control.Share = "http://127.0.0.1:9", 12_50
	c, n := replayControl(&e), 0
	for i := range 20000 {
		x := captured(i, nil)
		got := c.Chosen(x)
		if got != sample.Keep(string(x.ID), "control", sample.Rate{Hundredths: 12_50}) {
			t.Fatal(x.ID)
		}
		if got {
			n++
		}
	}
	// Five standard deviations.
	if n < 2500-234 || n > 2500+234 {
		t.Errorf("%d of 20000 at 12.5%%", n)
	}
	e.Candidate.TLS.CAFile = "ca"
	if k := replayControl(&e); k.TLS != (replay.TLS{}) {
		t.Errorf("http with %+v", k.TLS)
	}
	e.Control.URL = "https://127.0.0.1:9"
	if k := replayControl(&e); k.TLS.CA != "ca" {
		t.Errorf("https with %+v", k.TLS)
	}
}

// A divergent pair is asked once more, and the record says what came of it.
func TestRecheck(t *testing.T) {
	var asked [2]atomic.Int32
	serve := func(which int, answer func(n int32) string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body := answer(asked[which].Add(1))
			if body == "" {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, body)
		}))
		srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		t.Cleanup(srv.Close)
		return srv.URL
	}
	is := func(list ...string) func(int32) string {
		return func(n int32) string { return list[min(int(n), len(list))-1] }
	}
	const a, b, c = `{"v":"a"}`, `{"v":"b"}`, `{"v":"c"}`
	for _, tc := range []struct {
		name               string
		candidate, control func(int32) string
		result             string
		controls           int32
	}{
		{"moved on, without a control", is(b, a), nil, "converged", 0},
		{"stays, without a control", is(b, b), nil, "divergent", 0},
		{"both moved on", is(b, c), is(a, c), "converged", 2},
		{"the candidate stays", is(b, b), is(a, a), "divergent", 2},
		{"the candidate fails", is(b, ""), is(a, a), "failed", 2},
		{"the control fails", is(b, a), is(a, ""), "failed", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked[0].Store(0)
			asked[1].Store(0)
			l := newLone(t, func(e *config.Experiment) {
				e.Candidate.URL = serve(0, tc.candidate)
				if tc.control != nil {
					e.Control.URL, e.Control.Share = serve(1, tc.control), 100_00
				}
				e.Compare.Recheck = config.Duration(100 * time.Millisecond)
			})
			l.replayer.Submit(captured(1, jsonAnswer(a)))
			d := l.published(t, 1)[0].Divergence()
			if d.Recheck == nil || d.Recheck.Result != tc.result || d.Recheck.AfterUS == nil || *d.Recheck.AfterUS < 100_000 {
				t.Errorf("recheck %+v, want %s", d.Recheck, tc.result)
			}
			if n := asked[0].Load(); n < 2 {
				t.Errorf("the candidate was asked %d times", n)
			}
			if n := asked[1].Load(); n < tc.controls {
				t.Errorf("the control was asked %d times", n)
			}
			l.stop()
			g := l.ledger(t)
			if g["rechecks"][tc.result] != 1 || g["rechecks"][telemetry.InFlightKey] != 0 || g["comparisons"]["divergent"] != 1 || g["replays"]["compared"] != 1 {
				t.Errorf("%v, %v, %v", g["rechecks"], g["comparisons"], g["replays"])
			}
		})
	}
	t.Run("stopped", func(t *testing.T) {
		asked[0].Store(0)
		l := newLone(t, func(e *config.Experiment) {
			e.Candidate.URL, e.Compare.Recheck = serve(0, is(b)), config.Duration(time.Minute)
		})
		l.replayer.Submit(captured(1, jsonAnswer(a)))
		for end := time.Now().Add(40 * time.Second); l.rechecks.inFlight.Load() == 0 && time.Now().Before(end); {
			<-time.After(time.Millisecond)
		}
		// While it waits nothing is counted twice, or not at all.
		if g := l.ledger(t); g["replays"][telemetry.InFlightKey] != 1 || g["comparisons"]["divergent"] != 0 || g["rechecks"][telemetry.InFlightKey] != 1 {
			t.Errorf("%v, %v, %v", g["replays"], g["comparisons"], g["rechecks"])
		}
		began := time.Now()
		l.replayer.Stop()
		d := l.published(t, 1)[0].Divergence()
		if d.Recheck == nil || d.Recheck.Result != "stopped" || d.Recheck.AfterUS != nil || asked[0].Load() != 1 {
			t.Errorf("after %v: %+v, asked %d times", time.Since(began), d.Recheck, asked[0].Load())
		}
		l.stop()
		if g := l.ledger(t); g["rechecks"]["stopped"] != 1 || g["comparisons"]["divergent"] != 1 {
			t.Errorf("%v, %v", g["rechecks"], g["comparisons"])
		}
	})
	t.Run("a failure is not asked again", func(t *testing.T) {
		l := newLone(t, func(e *config.Experiment) {
			e.Candidate.URL, e.Compare.Recheck = serve(0, is("")), config.Duration(100*time.Millisecond)
		})
		l.replayer.Submit(captured(1, jsonAnswer(a)))
		if d := l.published(t, 1)[0].Divergence(); d.Recheck != nil || d.Why != "failed" {
			t.Errorf("%+v %s", d.Recheck, d.Why)
		}
	})
}
