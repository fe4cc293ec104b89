package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/attach/netnstest"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// running is an agent on the loopback device of a namespace of its own.
type running struct {
	*Agent
	ns    *netnstest.NS
	stop  context.CancelFunc
	ended chan error
}

// runAgent starts an agent that watches 127.0.0.1:8080 of a namespace, and
// returns when its taps stand.
func runAgent(t *testing.T, instance string, change func(*config.Config)) *running {
	t.Helper()
	ns := netnstest.New(t)
	dir := t.TempDir()
	c := config.New()
	c.Instance = instance
	c.Capture.Interfaces = []config.Interface{{Name: "lo", NetNS: ns.Path()}}
	c.Capture.Ports = []uint16{8080}
	c.OffFile = filepath.Join(dir, "off")
	c.Management.Address, c.Management.AdminSocket = "", filepath.Join(dir, "admin.sock")
	if change != nil {
		change(c)
	}
	ready := make(chan struct{})
	a, err := New(Options{Config: c, Terminal: Terminal{Out: io.Discard}, Log: slog.New(slog.DiscardHandler), Ready: func(*Agent) { close(ready) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{Agent: a, ns: ns, stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- a.Run(ctx) }()
	select {
	case <-ready:
	case err := <-r.ended:
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("not ready within 30 s")
	}
	t.Cleanup(func() {
		stop()
		<-r.ended
	})
	return r
}

// wait waits for the end that was asked for.
func (r *running) wait(t *testing.T, within time.Duration) {
	t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- nil // for Cleanup
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(within):
		t.Fatalf("the stop is not over after %v", within)
	}
}

// TestStopUnderLoad: traffic that never ends does not hold up a stop, be it new
// connections or further requests on open ones.
func TestStopUnderLoad(t *testing.T) {
	const drain = 5 * time.Minute
	r := runAgent(t, "stop-under-load", func(c *config.Config) {
		c.Stop.Drain, c.Stop.Deadline = config.Duration(drain), config.Duration(2*drain)
	})
	// Each request is answered when a later one has come, so that at no time
	// all exchanges are over.
	over := make(chan struct{})
	var mu sync.Mutex
	later := make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mine := make(chan struct{})
		mu.Lock()
		close(later)
		later = mine
		mu.Unlock()
		select {
		case <-mine:
		case <-over:
		}
		fmt.Fprint(w, "ok")
	})}
	ln := r.ns.Listen(t, "127.0.0.1:8080")
	go srv.Serve(ln)
	defer srv.Close()

	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer func() {
		cancel()
		close(over)
		load.Wait()
	}()
	var answers atomic.Int64
	for i := range 16 {
		dial := func(context.Context, string, string) (c net.Conn, err error) {
			r.ns.Do(func() { c, err = net.Dial("tcp", "127.0.0.1:8080") })
			return c, err
		}
		client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: i%2 == 0, MaxConnsPerHost: 1}}
		load.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				res, err := client.Get("http://127.0.0.1:8080/")
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				answers.Add(1)
			}
		})
	}
	more := func(n int64) {
		t.Helper()
		want := answers.Load() + n
		deadline := time.After(30 * time.Second)
		for tick := time.NewTicker(5 * time.Millisecond); answers.Load() < want; {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%d answers, not %d", answers.Load(), want)
			}
		}
	}
	more(200)
	r.stop()
	r.wait(t, 30*time.Second)
	more(200) // the load has gone on all the time

	c := r.Counts()
	for _, i := range telemetry.Balance(c) {
		t.Error(i)
	}
	l := telemetry.NewLedger(c)
	if l["exchanges"]["complete"] < 100 || l["delivered_bytes"]["evicted"] == 0 {
		t.Errorf("%d exchanges complete, %d bytes of refused connections", l["exchanges"]["complete"], l["delivered_bytes"]["evicted"])
	}
	if n := l["exchanges"][telemetry.InFlightKey]; n != 0 {
		t.Errorf("%d exchanges in flight after the stop", n)
	}
}

// TestStopLeavesStreamsOfEvents: an answer that may never end does not hold up a
// stop.
func TestStopLeavesStreamsOfEvents(t *testing.T) {
	const drain = 5 * time.Minute
	r := runAgent(t, "stop-events", func(c *config.Config) {
		c.Stop.Drain, c.Stop.Deadline = config.Duration(drain), config.Duration(2*drain)
	})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	})}
	go srv.Serve(r.ns.Listen(t, "127.0.0.1:8080"))
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (c net.Conn, err error) {
		r.ns.Do(func() { c, err = net.Dial("tcp", "127.0.0.1:8080") })
		return c, err
	}}}
	res, err := client.Get("http://127.0.0.1:8080/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.wait(t, 30*time.Second)
	if l := telemetry.NewLedger(r.Counts()); l["exchanges"]["stopped"] != 1 || l["exchanges"][telemetry.InFlightKey] != 0 {
		t.Errorf("exchanges %v", l["exchanges"])
	}
}
