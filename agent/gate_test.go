package agent

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// TestGate: as many at once as there are CPUs, and fewer when they are large.
func TestGate(t *testing.T) {
	for _, tc := range []struct {
		cost int64
		most int64
	}{{0, 10}, {1, 4}, {20, 4}, {25, 4}, {26, 3}, {50, 2}, {51, 1}, {100, 1}, {1 << 40, 1}} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(100, 4)
			end := make(chan struct{})
			var in atomic.Int64
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					defer g.leave(g.enter(tc.cost))
					in.Add(1)
					<-end
				})
			}
			synctest.Wait()
			if n := in.Load(); n != tc.most {
				t.Errorf("cost %d: %d at once, want %d", tc.cost, n, tc.most)
			}
			close(end)
			wg.Wait()
			if n := in.Load(); n != 10 {
				t.Errorf("cost %d: %d got in, want all 10", tc.cost, n)
			}
		})
	}
}

// TestComparisonCost: the same bytes cost nothing, JSON by its length, and what
// is coded may cost the most that there is.
func TestComparisonCost(t *testing.T) {
	answer := func(body, coding string) *exchange.Response {
		r := &exchange.Response{Body: exchange.Body{Bytes: []byte(body)}}
		if coding != "" {
			r.Header = exchange.Header{{Name: "Content-Encoding", Value: coding}}
		}
		return r
	}
	for _, tc := range []struct {
		a, b *exchange.Response
		want int64
	}{
		{answer("same", ""), answer("same", ""), 0},
		{answer("same", "gzip"), answer("same", "gzip"), 0},
		{answer("abc", ""), nil, 0},
		{answer("abc", ""), answer("ab", ""), 5 * costPerByte},
		{answer("abc", "gzip"), answer("ab", ""), worstComparison},
		{answer("abc", ""), answer("ab", "gzip"), worstComparison},
		{answer("abc", ""), answer(strings.Repeat("x", 8<<20), ""), worstComparison},
	} {
		if got := comparisonCost(tc.a, tc.b); got != tc.want {
			t.Errorf("%d, want %d", got, tc.want)
		}
	}
}

// hostile is a JSON body of n bytes that costs the most: an object with as many
// members as fit, in another order on each side.
func hostile(n, shift int) []byte {
	var b strings.Builder
	b.WriteByte('{')
	members := n / 10
	for i := range members {
		k := (i*7919 + shift) % members
		fmt.Fprintf(&b, "\"%05x\":%d,", k, k%10)
	}
	b.WriteString(`"":0}`)
	return []byte(b.String())
}

// TestWorstComparisons ends as many replays with hostile bodies as there may be
// in flight, at once, and looks how much memory the comparisons take. It does so
// in a process of its own: how much garbage a heap may hold depends on what else
// lives in it.
func TestWorstComparisons(t *testing.T) {
	const inside = "SHADOWTAP_TEST_COMPARISONS"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestWorstComparisons$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1", "GOGC=100")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	const inFlight, body = 64, 1 << 20
	c := config.New()
	e := config.NewExperiment("users")
	e.Candidate.URL = "http://127.0.0.1:9"
	e.Routes = []config.Route{{Path: "/"}}
	c.Experiments = []config.Experiment{e}
	x, err := newExperiment(c, 0, ownReplay{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, heap := memory(int64(c.Capture.Memory), 2)
	x.gate = newGate(heap/4, runtime.GOMAXPROCS(0))
	if x.sampler, err = sample.New(sampleConfig(c, x.now())); err != nil {
		t.Fatal(err)
	}
	answer := func(shift int) *exchange.Response {
		b := hostile(body, shift)
		return &exchange.Response{Status: 200, Proto: "HTTP/1.1", Header: exchange.Header{{Name: "Content-Type", Value: "application/json"}},
			Body: exchange.Body{Bytes: b, Size: int64(len(b))}}
	}
	ex := &exchange.Exchange{Request: &exchange.Request{Method: "GET", Target: "/", Proto: "HTTP/1.1", Host: "h"}, Response: answer(0)}
	out := &replay.Outcome{Result: replay.Compared, Response: answer(3)}
	// Looking must not stop the world, which would leave nothing of it to what is
	// looked at: the metric is that of MemStats.HeapAlloc.
	heapNow := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	look := func() uint64 {
		metrics.Read(heapNow)
		return heapNow[0].Value.Uint64()
	}
	peak := func(f func()) uint64 {
		runtime.GC()
		before := look()
		done := make(chan struct{})
		go func() { defer close(done); f() }()
		tick := time.NewTicker(100 * time.Microsecond)
		defer tick.Stop()
		most := before
		for {
			select {
			case <-done:
				return most - before
			case <-tick.C:
				most = max(most, look())
			}
		}
	}
	one := peak(func() { x.done(ex, out) })
	all := peak(func() {
		var wg sync.WaitGroup
		for range inFlight {
			wg.Go(func() { x.done(ex, out) })
		}
		wg.Wait()
	})
	t.Logf("one takes %d KiB, %d together %d KiB", one>>10, inFlight, all>>10)
	if most := 3*one + 32<<20; all > most {
		t.Errorf("%d comparisons take %d KiB together, one %d KiB", inFlight, all>>10, one>>10)
	}
	if n := x.comparisons[diff.Equal][""].Load(); n != 1+inFlight {
		t.Errorf("%d comparisons were equal, want %d", n, 1+inFlight)
	}
}
