//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestForecast: of answers that nobody wants most bodies are left out although they have
// passed before the agent wakes, because it said so ahead. Every exchange is counted, and
// those that are wanted are compared whole.
func TestForecast(t *testing.T) { proven(t, forecast) }

// forecast is one run; false when packets were lost, or the agent had no core for so long
// that what it said was over.
func forecast(t *testing.T) bool {
	const workers, rounds, size = 4, 1500, 64 << 10
	s := newStage(t)
	serveBig(t, s.server.Listen(t, "tcp", serverAddr4))
	serveBig(t, s.candidate.Listen(t, "tcp", candidateIP+":9090"))
	a := startAgent(t, s, settings{candidate: candidateURL, sample: "5%", memory: "1GiB"})

	var busy sync.WaitGroup
	for range workers {
		busy.Go(func() {
			client := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return s.client.DialContext(ctx, "tcp", serverAddr4)
			}, MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for range rounds {
				res, err := client.Get(fmt.Sprintf("http://%s/%d", serverAddr4, size))
				if err != nil {
					t.Error(err)
					return
				}
				if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size {
					t.Errorf("%d bytes: %v", n, err)
				}
				res.Body.Close()
			}
		})
	}
	busy.Wait()

	const count = workers * rounds
	status := a.rest(t, 60*time.Second, completed(count))
	requireBalance(t, status)
	l := status.Ledger
	t.Logf("kernel packets %v, %v, %v, delivered %d bytes of %d", l["kernel_packets"], l["exchanges"], l["comparisons"], l["captured_bytes"]["delivered"], count*size)
	if lostPackets(l) > 0 {
		a.stop(t)
		return false
	}
	if l["exchanges"]["complete"] != count || l["exchanges"]["gap"] > 0 {
		t.Errorf("%d exchanges are complete, want %d: %v", l["exchanges"]["complete"], count, l["exchanges"])
	}
	if c := l["comparisons"]; c["equal"] < count/50 || c["divergent"]+c["not_comparable"] > 0 {
		t.Errorf("about a twentieth of %d is to be compared and equal: %v", count, c)
	}
	a.stop(t)
	return l["captured_bytes"]["delivered"] <= count*size/2
}
