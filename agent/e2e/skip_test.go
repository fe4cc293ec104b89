//go:build e2e

package e2e

import (
	"net/http"
	"testing"
	"time"
)

// TestSkip: bodies of exchanges that are not sampled are left out by the kernel,
// and every exchange is counted all the same.
func TestSkip(t *testing.T) {
	s := newStage(t)
	n := startNginx(t, s)
	startCandidate(t, s)
	a := startAgent(t, s, settings{candidate: candidateURL, sample: "1%"})
	const count = 400
	paths := []string{"/slow/1m", "/file/64k", "/slow/64k", "/api/x"}
	result := load{from: s.client, workers: 16, count: count, request: func(i int) request {
		return request{method: http.MethodGet, path: paths[i%len(paths)]}
	}}.start(t).wait()
	result.requireNoFailure(t, "with bodies left out")
	n.exchanges(t, count)
	status := a.rest(t, 20*time.Second, completed(count))
	requireBalance(t, status)
	l := status.Ledger
	if lost := lostPackets(l); lost == 0 && l["exchanges"]["complete"] != count {
		t.Errorf("%d exchanges are complete, want %d: %v", l["exchanges"]["complete"], count, l["exchanges"])
	}
	// A hundred bodies of 1 MiB at least, most of each of which passes after its head was read.
	const all = count / 4 << 20
	if skipped, captured := l["kernel_packets"]["not_wanted"], l["captured_bytes"]["delivered"]; skipped == 0 || captured > all*3/4 {
		t.Errorf("%d packets were not wanted, %d bytes captured: %v", skipped, captured, l["kernel_packets"])
	}
	t.Logf("kernel packets %v, delivered %d bytes of %d and more", l["kernel_packets"], l["captured_bytes"]["delivered"], all)
	a.stop(t)
}
