//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

// request is one request of a load. The path gets ?n=NUMBER.
type request struct {
	method, path string
	header       http.Header
	body         string
}

// load sends requests from the client's namespace and checks every answer.
type load struct {
	from *bed.Namespace
	// workers have one keep-alive connection each, every second one over IPv6.
	workers int
	// rate is requests per second; 0 is as fast as the answers come.
	rate int
	// request gives the n-th request. It is called from several goroutines.
	request func(n int) request
	// count is how many to send; 0 is until stop.
	count int
}

// running is a load under way.
type running struct {
	cancel  context.CancelFunc
	workers sync.WaitGroup
	pacer   sync.WaitGroup
	next    atomic.Int64
	done    atomic.Int64
	started time.Time

	mu        sync.Mutex
	failed    []string
	latencies []time.Duration
}

// start begins to send. The load ends at the latest with the test.
func (l load) start(t *testing.T) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, started: time.Now()}
	t.Cleanup(func() { r.stop() })
	var due chan struct{}
	if l.rate > 0 {
		due = make(chan struct{}, l.rate) // what is due waits, up to a second
		r.pacer.Go(func() { l.pace(ctx, r, due) })
	}
	for w := range l.workers {
		r.workers.Go(func() { l.work(ctx, r, w, due) })
	}
	return r
}

// pace says when the next request is due.
func (l load) pace(ctx context.Context, r *running, due chan<- struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	sent := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for want := int(time.Since(r.started).Seconds() * float64(l.rate)); sent < want; sent++ {
			select {
			case due <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (l load) work(ctx context.Context, r *running, worker int, due <-chan struct{}) {
	address := serverAddr4
	if worker%2 == 1 {
		address = serverAddr6
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return l.from.DialContext(ctx, network, address)
		},
		MaxConnsPerHost:    1,
		DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for ctx.Err() == nil {
		if due != nil {
			select {
			case <-due:
			case <-ctx.Done():
				return
			}
		}
		n := int(r.next.Add(1)) - 1
		if l.count > 0 && n >= l.count {
			return
		}
		// A request that was begun is finished: an abort of ours would look
		// like a failure of the reference.
		began := time.Now()
		err := l.send(client, n)
		took := time.Since(began)
		r.mu.Lock()
		if err != nil {
			r.failed = append(r.failed, fmt.Sprintf("request %d: %v", n, err))
		}
		r.latencies = append(r.latencies, took)
		r.mu.Unlock()
		r.done.Add(1)
	}
}

func (l load) send(client *http.Client, n int) error {
	q := l.request(n)
	target := numbered(q.path, n)
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	req, err := http.NewRequest(q.method, "http://reference.test:8080"+target, body)
	if err != nil {
		return err
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.Copy(io.Discard, res.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", q.method, target, err)
	case res.StatusCode == 500:
		return fmt.Errorf("%s %s: status 500", q.method, target)
	case res.Header.Get("X-Answers") != strconv.Itoa(n) && res.StatusCode != http.StatusNotModified:
		return fmt.Errorf("%s %s: the answer is that of request %q", q.method, target, res.Header.Get("X-Answers"))
	case q.method != http.MethodHead && res.ContentLength >= 0 && got != res.ContentLength:
		return fmt.Errorf("%s %s: %d bytes of %d", q.method, target, got, res.ContentLength)
	}
	return nil
}

// numbered adds the request's number to its path.
func numbered(path string, n int) string {
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	return path + mark + "n=" + strconv.Itoa(n)
}

// outcome is what became of a load.
type outcome struct {
	sent      int
	failed    []string
	latencies []time.Duration // sorted
}

// stop ends the load and waits for what was begun.
func (r *running) stop() outcome {
	r.cancel()
	return r.wait()
}

// wait waits for the end of a load with a count.
func (r *running) wait() outcome {
	r.workers.Wait()
	r.cancel()
	r.pacer.Wait()
	slices.Sort(r.latencies)
	return outcome{sent: len(r.latencies), failed: r.failed, latencies: r.latencies}
}

// quantile of the latencies, 0 <= q <= 1.
func (o outcome) quantile(q float64) time.Duration {
	if len(o.latencies) == 0 {
		return 0
	}
	return o.latencies[int(q*float64(len(o.latencies)-1))]
}

func (o outcome) String() string {
	return fmt.Sprintf("%d requests, %d failed, p50 %v, p90 %v, p99 %v, max %v",
		o.sent, len(o.failed), o.quantile(.5), o.quantile(.9), o.quantile(.99), o.quantile(1))
}

// requireNoFailure fails the test when any request failed.
func (o outcome) requireNoFailure(t *testing.T, when string) {
	t.Helper()
	if o.sent == 0 {
		t.Fatalf("%s: no request was sent", when)
	}
	if len(o.failed) > 0 {
		t.Errorf("%s: %d of %d requests failed:\n%s", when, len(o.failed), o.sent, strings.Join(o.failed[:min(5, len(o.failed))], "\n"))
	}
}
