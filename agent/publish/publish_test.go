package publish

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/agent/redact"
)

// fakeSink answers as it is told to. It holds results back while holding.
type fakeSink struct {
	name    string
	windows bool // it takes them too
	mu      sync.Mutex
	got     []*redact.Record
	held    []func(Result)
	holding bool
	answer  func(n int) Result
	block   chan struct{} // when set, Deliver waits for it
	closed  int
	flushed int
}

func (f *fakeSink) Name() string { return f.name }

func (f *fakeSink) Takes(k redact.Kind) bool { return k == redact.KindDivergence || f.windows }

func (f *fakeSink) Deliver(rec *redact.Record, done func(Result)) {
	if f.block != nil {
		<-f.block
	}
	f.mu.Lock()
	f.got = append(f.got, rec)
	n := len(f.got)
	if f.holding {
		f.held = append(f.held, done)
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	if f.answer == nil {
		done(Acknowledged)
	} else {
		done(f.answer(n))
		done(Broker) // a second call must not count
	}
}

func (f *fakeSink) Flush(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushed++
	for _, done := range f.held {
		done(Acknowledged)
	}
	f.held = nil
	return nil
}

func (f *fakeSink) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	return nil
}

func newPublisher(t testing.TB, c Config) *Publisher {
	t.Helper()
	c.Log = discard
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// start runs p and returns what waits for Run to return.
func start(t testing.TB, ctx context.Context, p *Publisher) (wait func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() {
		t.Helper()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// balanced fails the test unless every line of the ledger balances and nothing
// is in flight.
func balanced(t testing.TB, p *Publisher, published uint64) {
	t.Helper()
	for _, s := range p.Stats() {
		if s.Record != redact.KindDivergence {
			continue
		}
		var sum uint64
		s.Each(func(_, _ string, n uint64) { sum += n })
		if s.Published != published || sum != s.Published || s.InFlight != 0 {
			t.Errorf("sink %s: published %d, want %d; results %d, in flight %d: %+v", s.Sink, s.Published, published, sum, s.InFlight, s)
		}
	}
}

func TestPublish(t *testing.T) {
	a, b := &fakeSink{name: "a"}, &fakeSink{name: "b", answer: func(n int) Result { return Result(n) % NumResults }}
	p := newPublisher(t, Config{Sinks: []Sink{a, b}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	rec := newPair().record(t, redact.Config{})
	for range 14 {
		p.Publish(rec)
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	balanced(t, p, 14)
	if s := p.Stats()[0]; s.Results[Acknowledged] != 14 || s.Dropped() != 0 {
		t.Errorf("a: %+v", s)
	}
	for r, n := range p.Stats()[1].Results {
		if n != 2 {
			t.Errorf("b: %d with result %v, want 2", n, Result(r))
		}
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	p.Publish(rec) // too late
	balanced(t, p, 15)
	if n := p.Stats()[0].Results[Stopped]; n != 1 {
		t.Errorf("%d dropped as stopped after the stop, want 1", n)
	}
	if a.closed == 0 || b.closed == 0 || a.flushed == 0 {
		t.Error("a sink was not flushed and closed")
	}
}

// A record that has not been admitted goes through the cap; its weight is set.
func TestPublishAdmits(t *testing.T) {
	sink := &fakeSink{name: "a"}
	p := newPublisher(t, Config{Sinks: []Sink{sink}, PerFingerprint: 2, Then: -1})
	pair := newPair()
	r := redactor(t, redact.Config{})
	in := pair.compare(t)
	for range 5 {
		p.Publish(r.Record(in))
	}
	// Not comparable pairs have a count of their own, by reason.
	other := newPair()
	other.in.Exchange.Response.Status = 503
	in = other.compare(t)
	for range 5 {
		p.Publish(r.Record(in))
	}
	wait := start(t, t.Context(), p)
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 10)
	if s := p.Stats()[0]; s.Suppressed != 6 || s.Results[Acknowledged] != 4 {
		t.Errorf("%+v", s)
	}
	for _, rec := range sink.got {
		if w := rec.Divergence().PublishWeight; w != 1 {
			t.Errorf("publish weight %v", w)
		}
		valid(t, rec.JSON())
	}
}

// Admit and then Publish counts a record once.
func TestAdmitFirst(t *testing.T) {
	sink := &fakeSink{name: "a"}
	p := newPublisher(t, Config{Sinks: []Sink{sink}, PerFingerprint: 1, Then: 100})
	pair := newPair()
	r := redactor(t, redact.Config{})
	in := pair.compare(t)
	made := 0
	for i := range 20 {
		a := Admission{Experiment: "users", Route: "/users/{id}", ExchangeID: fmt.Sprintf("%016x", i), Fingerprints: []string{"f"}, Time: at}
		w, ok := p.Admit(a)
		if !ok {
			continue
		}
		made++
		in.PublishWeight = w
		p.Publish(r.Record(in))
	}
	wait := start(t, t.Context(), p)
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 20)
	if made != 2 || sink.got[0].Divergence().PublishWeight != 1 || sink.got[1].Divergence().PublishWeight != 100 {
		t.Errorf("%d made", made) // the first, and the 14th by its hash
	}
}

func TestQueueDropsTheNewest(t *testing.T) {
	sink := &fakeSink{name: "a"}
	p := newPublisher(t, Config{Sinks: []Sink{sink}, PerFingerprint: -1, Queue: 3})
	var sent []*redact.Record
	r := redactor(t, redact.Config{})
	for i := range 5 {
		pair := newPair()
		pair.in.Exchange.Request.Target = fmt.Sprintf("/users/%d", i)
		pair.in.PublishWeight = 1
		sent = append(sent, r.Record(pair.compare(t)))
		p.Publish(sent[i])
	}
	wait := start(t, t.Context(), p)
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 5)
	if len(sink.got) != 3 || sink.got[0] != sent[0] || sink.got[2] != sent[2] {
		t.Errorf("%d delivered: not the three oldest", len(sink.got))
	}
	if n := p.Stats()[0].Results[QueueFull]; n != 2 {
		t.Errorf("queue_full %d, want 2", n)
	}
}

func TestQueueIsBoundedInBytes(t *testing.T) {
	sink := &fakeSink{name: "a"}
	rec := newPair().record(t, redact.Config{})
	p := newPublisher(t, Config{Sinks: []Sink{sink}, PerFingerprint: -1, QueueBytes: 3*rec.Size() + 1})
	for range 10 {
		p.Publish(rec)
	}
	if s := p.Stats()[0]; s.InFlight != 3 || s.Results[QueueFull] != 7 {
		t.Errorf("%+v", s)
	}
	wait := start(t, t.Context(), p)
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Publish(rec) // there is room again
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 11)
	if n := p.Stats()[0].Results[Acknowledged]; n != 4 {
		t.Errorf("%d acknowledged, want 4", n)
	}
	// One record alone always fits.
	p = newPublisher(t, Config{Sinks: []Sink{&fakeSink{name: "a"}}, QueueBytes: 1})
	p.Publish(rec)
	if s := p.Stats()[0]; s.InFlight != 1 {
		t.Errorf("a record larger than the bound: %+v", s)
	}
}

// Publish returns at once while a sink hangs, and Stop keeps its deadline.
func TestSinkThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, works := &fakeSink{name: "hangs", block: make(chan struct{})}, &fakeSink{name: "works"}
		p := newPublisher(t, Config{Sinks: []Sink{hangs, works}, PerFingerprint: -1, Queue: 10})
		wait := start(t, t.Context(), p)
		rec := newPair().record(t, redact.Config{})
		begin := time.Now()
		for range 100 {
			p.Publish(rec)
			synctest.Wait()
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("Publish waited %v", d)
		}
		if n := p.Stats()[1].Results[Acknowledged]; n != 100 {
			t.Errorf("the other sink has %d of 100", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("Stop took %v, want 3s", d)
		}
		wait()
		if d := time.Since(begin); d > 4*time.Second {
			t.Errorf("Run returned after %v", d)
		}
		balanced(t, p, 100)
		if s := p.Stats()[0]; s.Results[Stopped] != 11 || s.Results[QueueFull] != 89 {
			t.Errorf("%+v", s)
		}
		hangs.mu.Lock()
		closed := hangs.closed
		hangs.mu.Unlock()
		if closed == 0 {
			t.Error("the hanging sink was not closed")
		}
		// What comes of the hanging write later is not counted again.
		close(hangs.block)
		synctest.Wait()
		balanced(t, p, 100)
	})
}

// Run's own context drops what is queued.
func TestRunCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{name: "a", holding: true}
		p := newPublisher(t, Config{Sinks: []Sink{sink}, PerFingerprint: -1})
		ctx, cancel := context.WithCancel(t.Context())
		wait := start(t, ctx, p)
		rec := newPair().record(t, redact.Config{})
		p.Publish(rec)
		synctest.Wait()
		cancel()
		wait()
		p.Publish(rec)
		balanced(t, p, 2)
		if s := p.Stats()[0]; s.Results[Stopped] != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// Stop waits for acknowledgements that come late, up to its deadline.
func TestStopFlushes(t *testing.T) {
	sink := &fakeSink{name: "a", holding: true}
	p := newPublisher(t, Config{Sinks: []Sink{sink}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	rec := newPair().record(t, redact.Config{})
	for range 10 {
		p.Publish(rec)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 10)
	if n := p.Stats()[0].Results[Acknowledged]; n != 10 {
		t.Errorf("%d acknowledged", n)
	}
}

func TestStopWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher(t, Config{Sinks: []Sink{&fakeSink{name: "a"}}})
		p.Publish(newPair().record(t, redact.Config{}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Stop(ctx); err == nil {
			t.Error("a record was dropped and Stop says nothing")
		}
		balanced(t, p, 1)
	})
}

func TestFlushTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{name: "a", block: make(chan struct{})}
		p := newPublisher(t, Config{Sinks: []Sink{sink}})
		wait := start(t, t.Context(), p)
		p.Publish(newPair().record(t, redact.Config{}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush: %v", err)
		}
		close(sink.block)
		if err := p.Flush(t.Context()); err != nil {
			t.Errorf("Flush: %v", err)
		}
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// However records, sinks and the stop fall together, the ledger balances.
func TestLedgerBalances(t *testing.T) {
	defer goleak.VerifyNone(t)
	rec := newPair().record(t, redact.Config{})
	open := newPair()
	open.compare(t)
	fresh := redactor(t, redact.Config{}).Record(&open.in)
	rapid.Check(t, func(rt *rapid.T) {
		results := rapid.SliceOfN(rapid.IntRange(0, int(NumResults)-1), 1, 5).Draw(rt, "results")
		sinks := []Sink{
			&fakeSink{name: "a", answer: func(n int) Result { return Result(results[n%len(results)]) }},
			&fakeSink{name: "b", holding: rapid.Bool().Draw(rt, "holding")},
		}
		p := newPublisher(t, Config{
			Sinks: sinks, PerFingerprint: rapid.IntRange(-1, 5).Draw(rt, "per"), Then: rapid.IntRange(-1, 10_000).Draw(rt, "then"),
			Queue: rapid.IntRange(1, 30).Draw(rt, "queue"),
		})
		n := rapid.IntRange(0, 60).Draw(rt, "n")
		runAt, stopAt := rapid.IntRange(0, n).Draw(rt, "run"), rapid.IntRange(0, n).Draw(rt, "stop")
		var wait func()
		var stopped sync.WaitGroup
		for i := range n + 1 {
			if i == runAt {
				wait = start(t, context.Background(), p)
			}
			if i == stopAt {
				stopped.Go(func() { _ = p.Stop(context.Background()) })
			}
			if i == n {
				break
			}
			if i%2 == 0 {
				p.Publish(rec)
			} else {
				p.Publish(fresh)
			}
		}
		stopped.Wait()
		wait()
		for _, s := range p.Stats() {
			var sum uint64
			s.Each(func(_, _ string, n uint64) { sum += n })
			if s.Published != uint64(n) || sum != uint64(n) || s.InFlight != 0 {
				rt.Fatalf("sink %s: %d published of %d, results sum to %d, %d in flight", s.Sink, s.Published, n, sum, s.InFlight)
			}
		}
	})
}

func TestNewNamesTheField(t *testing.T) {
	for _, c := range []struct {
		c    Config
		want string
	}{
		{Config{}, "Log"},
		{Config{Log: discard, Queue: -1}, "Queue"},
		{Config{Log: discard, Then: 10_001}, "Then"},
		{Config{Log: discard, Sinks: []Sink{nil}}, "Sinks[0]"},
		{Config{Log: discard, Sinks: []Sink{&fakeSink{name: "a"}, &fakeSink{name: "a"}}}, `Sinks[1]: two sinks are named "a"`},
	} {
		if _, err := New(c.c); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q in it", err, c.want)
		}
	}
}

type readySink struct {
	fakeSink
	err error
}

func (r *readySink) Ready() error { return r.err }

func TestReady(t *testing.T) {
	r := &readySink{fakeSink: fakeSink{name: "r"}, err: errNotYet}
	p := newPublisher(t, Config{Sinks: []Sink{&fakeSink{name: "a"}, r}})
	if err := p.Ready(); !errors.Is(err, errNotYet) || !strings.Contains(err.Error(), "sink r") {
		t.Errorf("Ready: %v", err)
	}
	r.err = nil
	if err := p.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
}

// The line's labels, from zero on.
func TestEach(t *testing.T) {
	var got []string
	(&SinkStats{}).Each(func(result, reason string, n uint64) { got = append(got, strings.TrimSuffix(result+"/"+reason, "/")) })
	want := "acknowledged spooled suppressed dropped/queue_full dropped/too_large dropped/broker dropped/timeout dropped/write dropped/stopped"
	if strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
}

func BenchmarkPublish(b *testing.B) {
	p := newPublisher(b, Config{Sinks: []Sink{&fakeSink{name: "a"}}, PerFingerprint: -1})
	rec := newPair().record(b, redact.Config{})
	wait := start(b, b.Context(), p)
	b.ReportAllocs()
	for b.Loop() {
		p.Publish(rec)
	}
	if err := p.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	wait()
}
