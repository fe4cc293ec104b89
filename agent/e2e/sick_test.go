//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// TestSickCandidate gives the agent candidates that are not well. The reference
// must not feel them, the agent's memory must not grow, and every exchange must
// be counted.
func TestSickCandidate(t *testing.T) {
	s := newStage(t)
	startNginx(t, s)
	traffic := load{from: s.client, workers: 8, rate: 500, count: 2000, request: func(n int) request {
		r := mixed(n)
		if r.method == http.MethodHead {
			// The head of a slow or endless answer is all of it.
			r.method = http.MethodGet
		}
		return r
	}}
	baseline := traffic.start(t).wait()
	baseline.requireNoFailure(t, "without an agent")
	t.Logf("without an agent: %s", baseline)

	// Rings, and 64 replays of at most 1 MiB each, which is max_body.
	const limit = 128 << 20
	for _, k := range sickCandidates {
		t.Run(k.name, func(t *testing.T) {
			k.start(t, s)
			file := filepath.Join(t.TempDir(), "divergences.jsonl")
			a := startAgent(t, s, settings{
				candidate: k.url, memory: fmt.Sprintf("%dMiB", limit>>20),
				replay: "{timeout: 500ms, max_in_flight: 64}",
				sinks:  fmt.Sprintf("[{jsonl: {path: %q}}]", file),
			})
			// Memory is looked at all along, not only at the end.
			done := make(chan struct{})
			peaks := make(chan [2]int64, 1)
			go func() {
				var peak [2]int64 // of the first and of the second half
				began := time.Now()
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-done:
						peaks <- peak
						return
					case <-tick.C:
					}
					half := 0
					if time.Since(began) > 2*time.Second {
						half = 1
					}
					if n, err := a.process.Memory(); err == nil {
						peak[half] = max(peak[half], n)
					}
				}
			}()
			result := traffic.start(t).wait()
			close(done)
			peak := <-peaks
			t.Logf("%s; memory at most %d MiB, then %d MiB", result, peak[0]>>20, peak[1]>>20)

			result.requireNoFailure(t, "with a candidate that is "+k.name)
			// A reference that had to wait for the agent would show the
			// replay's timeout of 500 ms; a busy machine shows less.
			if got, most := result.quantile(.99), max(5*baseline.quantile(.99), 250*time.Millisecond); got > most {
				t.Errorf("the reference's p99 is %v, without an agent %v", got, baseline.quantile(.99))
			}
			if got, most := result.quantile(.5), 2*baseline.quantile(.5)+2*time.Millisecond; got > most {
				t.Errorf("the reference's median is %v, without an agent %v", got, baseline.quantile(.5))
			}
			// The configured memory is of rings and heap; the rest is the
			// program itself and what the runtime keeps.
			if most := int64(limit + 32<<20); max(peak[0], peak[1]) > most {
				t.Errorf("the agent took %d MiB, configured are %d", max(peak[0], peak[1])>>20, limit>>20)
			}
			if peak[1] > peak[0]+peak[0]/4+8<<20 {
				t.Errorf("the agent's memory grew from %d to %d MiB", peak[0]>>20, peak[1]>>20)
			}

			status := a.rest(t, 30*time.Second, completed(result.sent))
			requireBalance(t, status)
			l := status.Ledger
			if l["selection"]["selected"] == 0 || l["replays"]["compared"] == 0 {
				t.Errorf("nothing was replayed: %v, %v", l["selection"], l["replays"])
			}
			for _, c := range status.Counts {
				if c.Line == "comparisons" && c.Kind == "result" && c.N > 0 && (c.Labels["result"] != "divergent" || c.Labels["reason"] != "failed") {
					t.Errorf("%d pairs are %s %s", c.N, c.Labels["result"], c.Labels["reason"])
				}
			}
			// A sick candidate is left alone.
			if l["replays"]["breaker_open"] == 0 {
				t.Errorf("the breaker never opened: %v", l["replays"])
			}
			a.stop(t)
			words, records := errorWords(t, file), 0
			for word, n := range words {
				records += n
				if !slices.Contains(k.words, word) {
					t.Errorf("%d replays failed by %q, expected are %q", n, word, k.words)
				}
			}
			if want := l["comparisons"]["divergent"]; uint64(records) != want {
				t.Errorf("%d records of %d divergences", records, want)
			}
			t.Logf("replays %v, errors %v", l["replays"], words)
		})
	}
}

// errorWords counts the error words of the candidate in a file of records.
func errorWords(t *testing.T, file string) map[string]int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	words := map[string]int{}
	d := json.NewDecoder(f)
	for {
		var r record
		switch err := d.Decode(&r); {
		case err == io.EOF:
			return words
		case err != nil:
			t.Fatal(err)
		}
		if r.Schema == redact.Schema { // and no window
			words[r.Candidate.Error]++
		}
	}
}

// TestOwnReplaysAreNotMirrored has the candidate behind the very same tap, on
// the very same port: without the program's knowledge of the agent's own
// connections each replay would be captured and replayed again.
func TestOwnReplaysAreNotMirrored(t *testing.T) {
	s := newStage(t)
	startNginx(t, s)
	a := startAgent(t, s, settings{candidate: "http://" + serverAddr4})
	const count = 500
	result := load{from: s.client, workers: 4, rate: 500, count: count, request: mixed}.start(t).wait()
	result.requireNoFailure(t, "with the candidate beside the reference")
	status := a.rest(t, 30*time.Second, func(l telemetry.Ledger) (bool, string) {
		return l["exchanges"]["complete"] >= count, fmt.Sprintf("%d exchanges", l["exchanges"]["complete"])
	})
	requireBalance(t, status)
	l := status.Ledger
	if l["exchanges"]["complete"] != count {
		t.Errorf("%d exchanges were captured of %d that clients made", l["exchanges"]["complete"], count)
	}
	if l["kernel_packets"]["own_replay"] < l["replays"]["compared"] || l["replays"]["compared"] == 0 {
		t.Errorf("%d packets of own replays for %d replays", l["kernel_packets"]["own_replay"], l["replays"]["compared"])
	}
	if n := l["comparisons"]["divergent"]; n > 0 {
		t.Errorf("the reference diverges from itself %d times", n)
	}
	a.stop(t)
}
