//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// mixed is ordinary traffic: small and large answers, both with and without a
// body, now and then a write.
func mixed(n int) request {
	switch n % 10 {
	case 0:
		return request{method: http.MethodGet, path: "/file/64k"}
	case 1, 2, 3:
		return request{method: http.MethodGet, path: "/file/4k"}
	case 4:
		return request{method: http.MethodPost, path: "/write/it", body: `{"a":1}`}
	case 5:
		return request{method: http.MethodHead, path: "/file/4k"}
	case 6:
		return request{method: http.MethodGet, path: "/packed/list", header: http.Header{"Accept-Encoding": {"gzip"}}}
	case 7:
		return request{method: http.MethodGet, path: "/empty/"}
	}
	return request{method: http.MethodGet, path: fmt.Sprintf("/api/same-%d", n)}
}

// more waits until the load has had so many more answers.
func (r *running) more(t *testing.T, n int64) {
	t.Helper()
	want := r.done.Load() + n
	bed.Poll(t, 30*time.Second, fmt.Sprintf("%d further answers", n), func() (bool, string) {
		got := r.done.Load()
		return got >= want, fmt.Sprintf("%d of %d", got, want)
	})
}

// TestEveryExchangeUnderLoad lets the load run as fast as nginx answers: the
// agent and nginx's log agree on every single exchange, the kernel and the agent
// on every packet.
func TestEveryExchangeUnderLoad(t *testing.T) {
	proven(t, everyExchange)
}

// everyExchange is one run; false when packets were lost, and counted.
func everyExchange(t *testing.T) bool {
	t.Helper()
	s := newStage(t)
	reference := startNginx(t, s)
	startCandidate(t, s)
	exchanges := filepath.Join(t.TempDir(), "exchanges.jsonl")
	a := startAgent(t, s, settings{
		candidate: candidateURL, sample: "1%",
		// The rings, a quarter of it, hold all that is sent: a machine that is
		// busy with other things must not make the test lose anything.
		memory: "1GiB",
		flags:  []string{"--exchanges-to", exchanges},
	})
	const count = 20000
	result := load{from: s.client, workers: 16, count: count, request: mixed}.start(t).wait()
	result.requireNoFailure(t, "as fast as it goes")
	t.Log(result)
	status := a.rest(t, 60*time.Second, completed(count))
	requireBalance(t, status)
	if n := lostPackets(status.Ledger); n > 0 {
		t.Logf("%d packets were lost, %d exchanges of %d complete: again", n, status.Ledger["exchanges"]["complete"], count)
		a.stop(t)
		return false
	}
	a.requireKernelPackets(t)
	for result, n := range status.Ledger["exchanges"] {
		if result != "complete" && n > 0 {
			t.Errorf("%d exchanges %s", n, result)
		}
	}
	if got := status.Ledger["selection"]["selected"]; got == 0 {
		t.Error("nothing was selected of 1 %")
	}
	a.stop(t)
	requireSame(t, "exchanges", reference.exchanges(t, count), exchangesIn(t, exchanges))
	return true
}

// TestKill kills the agent under load: nobody notices, nothing stays, and it
// can be started again.
func TestKill(t *testing.T) {
	s := newStage(t)
	startNginx(t, s)
	startCandidate(t, s)
	a := startAgent(t, s, settings{candidate: candidateURL})
	traffic := load{from: s.client, workers: 8, rate: 1000, request: mixed}.start(t)
	traffic.more(t, 1500)
	if got := attached(t, s.node, tapped); len(got) == 0 {
		t.Fatal("nothing is attached while the agent runs")
	}
	a.process.Kill()
	a.requireNothingLeft(t)
	traffic.more(t, 1500)

	// Its lock, socket and replays are no hindrance for the next one.
	a.start(t)
	traffic.more(t, 1500)
	bed.Poll(t, 10*time.Second, "the new agent sees exchanges", func() (bool, string) {
		got := a.status(t).Ledger["exchanges"]["complete"]
		return got > 1000, fmt.Sprint(got)
	})
	a.process.Kill()
	a.requireNothingLeft(t)
	traffic.more(t, 500)
	result := traffic.stop()
	result.requireNoFailure(t, "while the agent was killed twice")
	t.Log(result)
}

// TestSuspend stops the agent's process under load, as a frozen container or a
// debugger would: nobody notices, and the kernel copies nothing for a reader
// that does not read.
func TestSuspend(t *testing.T) {
	s := newStage(t)
	startNginx(t, s)
	startCandidate(t, s)
	a := startAgent(t, s, settings{candidate: candidateURL})
	traffic := load{from: s.client, workers: 8, rate: 1000, request: mixed}.start(t)
	traffic.more(t, 1500)

	a.process.Suspend(t)
	stopped := time.Now()
	<-time.After(time.Until(stopped.Add(3 * time.Second)))
	before := a.held.packets(t)
	traffic.more(t, 3000)
	after := a.held.packets(t)
	for _, word := range selectedWords() {
		n := after[word] - before[word]
		switch {
		case word == "no_reader" && n < 3000:
			t.Errorf("%d packets without a reader for 3000 exchanges", n)
		case word != "no_reader" && n > 0:
			t.Errorf("%d packets %s while the agent was stopped", n, word)
		}
	}
	t.Logf("while stopped: %d packets no_reader", after["no_reader"]-before["no_reader"])

	a.process.Resume(t)
	complete := a.status(t).Ledger["exchanges"]["complete"]
	traffic.more(t, 1500)
	bed.Poll(t, 10*time.Second, "the agent goes on", func() (bool, string) {
		got := a.status(t).Ledger["exchanges"]["complete"]
		return got >= complete+1000, fmt.Sprintf("%d exchanges, %d more", got, got-complete)
	})
	result := traffic.stop()
	result.requireNoFailure(t, "while the agent was stopped")
	t.Log(result)

	// What was not seen is counted, and nothing stays open.
	status := a.rest(t, 60*time.Second, func(l telemetry.Ledger) (bool, string) {
		return l["kernel_packets"]["no_reader"] >= after["no_reader"]-before["no_reader"], "the packets without a reader are not in the ledger"
	})
	requireBalance(t, status)
	a.stop(t)
}
