package publish

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// windowRecords makes n of one agent.
func windowRecords(t testing.TB, n int) (list []*redact.Record) {
	t.Helper()
	c, err := verdict.NewCollector(verdict.CollectorConfig{Agent: "node-1", BootID: "b", Experiments: []verdict.CollectorExperiment{
		{Name: "users", SampleBy: "request", Routes: []string{"/users/{id}"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for len(list) < n {
		now = now.Add(verdict.WindowLength)
		for _, w := range c.Advance(now) {
			rec, err := redactor(t, redact.Config{}).Window(w)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, rec)
		}
	}
	return list[:n]
}

// windowStats is the line of the windows of the first sink.
func windowStats(t testing.TB, p *Publisher) SinkStats {
	t.Helper()
	for _, s := range p.Stats() {
		if s.Record == redact.KindWindow {
			var sum uint64
			s.Each(func(_, _ string, n uint64) { sum += n })
			if sum+s.InFlight != s.Published {
				t.Errorf("%d published, %d by result, %d in flight", s.Published, sum, s.InFlight)
			}
			return s
		}
	}
	t.Fatal("no line for windows")
	return SinkStats{}
}

// Windows go to their own topic, in one partition and in their order, whatever
// goes on beside them; without a topic they go nowhere.
func TestKafkaWindows(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(5, "d", "w"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	properties, _ := read(t, map[string]string{"bootstrap.servers": c.ListenAddrs()[0], "linger.ms": "1"})
	sinks := []Sink{}
	for _, name := range []string{"w", ""} {
		k, err := NewKafka(KafkaConfig{Name: "to " + name, Topic: "d", Windows: name, Properties: properties, Log: discard})
		if err != nil {
			t.Fatal(err)
		}
		sinks = append(sinks, k)
	}
	p := newPublisher(t, Config{Sinks: sinks, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	const n = 300
	divergence := records(t, 1, redact.Config{})[0]
	for _, rec := range windowRecords(t, n) {
		p.PublishWindow(t.Context(), rec)
		p.Publish(divergence)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	if s := p.Stats(); len(s) != 3 || s[0].Published != n || s[1].Record != redact.KindWindow || s[1].Results[Acknowledged] != n || s[2].Published != n {
		t.Errorf("%+v", s)
	}
	for i, r := range consume(t, c.ListenAddrs(), n, kgo.ConsumeTopics("w")) {
		w, err := verdict.ParseWindow(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != "node-1" || w.Sequence != int64(i+1) {
			t.Fatalf("record %d has the key %q and the sequence %d", i, r.Key, w.Sequence)
		}
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		if headers["ce_type"] != verdict.Schema || headers["ce_id"] != fmt.Sprintf("b-%d", i+1) || headers["ce_source"] != "/shadowtap/node-1" || headers["ce_time"] != w.WindowEnd.String() || len(headers) != 7 {
			t.Fatalf("headers %v", headers)
		}
	}
}

// Both kinds of records are lines of the same file.
func TestJSONLinesBoth(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	j, err := NewJSONLines(JSONLinesConfig{Path: file, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, Config{Sinks: []Sink{j}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	window, divergence := windowRecords(t, 1)[0], records(t, 1, redact.Config{})[0]
	p.PublishWindow(t.Context(), window)
	p.Publish(divergence)
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := string(window.JSON()) + "\n" + string(divergence.JSON()) + "\n"; string(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// People are shown no windows, whichever way they come.
func TestTerminalIgnoresWindows(t *testing.T) {
	var b bytes.Buffer
	term, err := NewTerminal(TerminalConfig{W: &b, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, Config{Sinks: []Sink{term}})
	wait := start(t, t.Context(), p)
	for _, rec := range windowRecords(t, 10) {
		p.PublishWindow(t.Context(), rec)
		p.Publish(rec)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	if s := p.Stats(); b.Len() > 0 || len(s) != 1 || s[0].Published != 0 {
		t.Errorf("%q, %+v", &b, s)
	}
}

// Windows wait for room in a full queue, and are dropped when the time for that
// is over. Divergences beside them are dropped at once.
func TestPublishWindowWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{name: "a", windows: true, block: make(chan struct{})}
		p := newPublisher(t, Config{Sinks: []Sink{sink}, Queue: 2, PerFingerprint: -1})
		wait := start(t, t.Context(), p)
		recs := windowRecords(t, 20)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, rec := range recs {
				p.PublishWindow(t.Context(), rec)
			}
		}()
		synctest.Wait()
		// One is with the sink, two are in the queue.
		if s := windowStats(t, p); s.Published != 3 {
			t.Errorf("%d published, want 3 while the sink hangs", s.Published)
		}
		p.Publish(records(t, 1, redact.Config{})[0])
		if s := p.Stats()[0]; s.Results[QueueFull] != 1 {
			t.Errorf("a divergence waits: %+v", s)
		}
		close(sink.block)
		<-done
		if err := p.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait()
		if s := windowStats(t, p); s.Results[Acknowledged] != 20 || s.Published != 20 {
			t.Errorf("%+v", s)
		}
		for i, rec := range sink.got {
			if rec != recs[i] {
				t.Fatalf("record %d is another one", i)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		sink := &fakeSink{name: "a", windows: true, block: make(chan struct{})}
		p := newPublisher(t, Config{Sinks: []Sink{sink}, Queue: 2, PerFingerprint: -1})
		wait := start(t, t.Context(), p)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for _, rec := range windowRecords(t, 20) {
			p.PublishWindow(ctx, rec)
			synctest.Wait()
		}
		if s := windowStats(t, p); s.Results[QueueFull] != 17 || s.InFlight != 3 || time.Since(begin) != 10*time.Second {
			t.Errorf("after %v: %+v", time.Since(begin), s)
		}
		close(sink.block)
		if err := p.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait()
		if s := windowStats(t, p); s.Results[Acknowledged] != 3 {
			t.Errorf("%+v", s)
		}
		p.PublishWindow(t.Context(), windowRecords(t, 1)[0])
		if s := windowStats(t, p); s.Results[Stopped] != 1 {
			t.Errorf("behind the stop: %+v", s)
		}
	})
}
