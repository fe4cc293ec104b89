package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// fakeNet stands in for the network inside a bubble of fake time.
type fakeNet struct {
	dials atomic.Int32
	// serve gets each connection; nil: refused. It may be changed between
	// replays.
	serve func(c net.Conn, to netip.AddrPort)
}

var errFakeRefused = errors.New("refused")

func (f *fakeNet) dial(ctx context.Context, to netip.AddrPort, _ func(string, string, syscall.RawConn) error) (net.Conn, error) {
	f.dials.Add(1)
	if f.serve == nil {
		return nil, errFakeRefused
	}
	a, b := net.Pipe()
	go func() { defer b.Close(); f.serve(b, to) }()
	return a, nil
}

func serveOK(c net.Conn, _ netip.AddrPort) {
	for readHead(c) != "" {
		io.WriteString(c, mockOK)
	}
}

// serveAfter answers as late as that.
func serveAfter(d time.Duration) func(net.Conn, netip.AddrPort) {
	return func(c net.Conn, _ netip.AddrPort) {
		for readHead(c) != "" {
			pass(d)
			io.WriteString(c, mockOK)
		}
	}
}

// inBubble runs f with a Replayer over a fake network.
func inBubble(t *testing.T, c Config, f func(t *testing.T, u *running, n *fakeNet)) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNet{}
		if c.URL == "" {
			c.URL = "http://10.0.0.1"
		}
		c := c
		base := config(c.URL)
		c.Experiment, c.Role, c.Log = base.Experiment, base.Role, base.Log
		u := start(t, c)
		u.dialer.dialTCP = n.dial
		f(t, u, n)
		u.Stop()
		synctest.Wait()
	})
}

// pass lets fake time go by.
func pass(d time.Duration) { <-time.After(d) }

// send submits n exchanges and waits until nothing moves.
func (u *running) send(n int) {
	for range n {
		u.Submit(get("/"))
	}
	synctest.Wait()
}

func TestTimeoutToTheNanosecond(t *testing.T) {
	for _, c := range []struct {
		name                     string
		config, reference, after time.Duration
	}{
		{"default", 0, 0, 2 * time.Second},
		{"configured", 300 * time.Millisecond, 0, 300 * time.Millisecond},
		{"slow reference", time.Second, 7 * time.Second, 14 * time.Second},
		{"slowest", time.Second, time.Minute, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Config{Timeout: c.config}, func(t *testing.T, u *running, n *fakeNet) {
				n.serve = func(c net.Conn, _ netip.AddrPort) { drain(c) }
				x := get("/")
				x.Response.LastByte = x.Request.LastByte + int64(c.reference)
				p, took := u.timed(x)
				p.failed(t, ErrorTimeout)
				if took != c.after {
					t.Errorf("gave up after %v, want %v", took, c.after)
				}
			})
		})
	}
}

// Connecting, waiting for the answer and its body share one timeout.
func TestTimeoutCoversAll(t *testing.T) {
	cfg := Config{URL: "http://c.internal", Timeout: time.Second}
	cfg.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
		select {
		case <-time.After(600 * time.Millisecond):
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	inBubble(t, cfg, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = func(c net.Conn, to netip.AddrPort) {
			readHead(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
			drain(c)
		}
		p, took := u.timed(get("/"))
		p.failed(t, ErrorTimeout)
		if took != time.Second || p.Setup != 600*time.Millisecond || p.TTLB() != 400*time.Millisecond {
			t.Errorf("took %v, of which %v connecting and %v waiting", took, p.Setup, p.TTLB())
		}
	})
	cfg.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) { <-ctx.Done(); return nil, ctx.Err() }
	inBubble(t, cfg, func(t *testing.T, u *running, n *fakeNet) {
		p, took := u.timed(get("/"))
		p.failed(t, ErrorConnect)
		if took != time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// Several addresses: the first that answers, within one timeout.
func TestAddressesInTurn(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	cfg := Config{URL: "http://c.internal:81", Timeout: time.Second}
	cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{a, b}, nil }
	inBubble(t, cfg, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = serveOK
		dial := u.dialer.dialTCP
		u.dialer.dialTCP = func(ctx context.Context, to netip.AddrPort, c func(string, string, syscall.RawConn) error) (net.Conn, error) {
			if to.Addr() == a {
				<-ctx.Done() // a black hole
				return nil, ctx.Err()
			}
			return dial(ctx, to, c)
		}
		p := u.one(get("/"))
		p.ok(t, 200, "ok")
		if p.Address != "10.0.0.2:81" || p.Setup != 500*time.Millisecond {
			t.Errorf("%s after %v", p.Address, p.Setup)
		}
	})
}

func TestBreaker(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, u *running, n *fakeNet) {
		// Ten failures in a row open it; what comes then is not sent.
		u.send(10)
		u.send(7)
		s := u.balanced()
		if n.dials.Load() != 10 || s.Results[Compared] != 10 || s.Results[BreakerOpen] != 7 || s.Errors[0] != 10 || s.Breaker != "open" {
			t.Fatalf("%d dials, %+v", n.dials.Load(), s)
		}
		// After 5 s one may try, and it alone.
		pass(5*time.Second + 1)
		n.serve = func(c net.Conn, _ netip.AddrPort) { drain(c) }
		u.send(3)
		if s := u.balanced(); n.dials.Load() != 11 || s.Results[BreakerOpen] != 9 || s.InFlight != 1 || s.Breaker != "half_open" {
			t.Fatalf("%d dials, %+v", n.dials.Load(), s)
		}
		// It times out: open once more.
		pass(2 * time.Second)
		synctest.Wait()
		u.send(1)
		if s := u.balanced(); n.dials.Load() != 11 || s.Results[BreakerOpen] != 10 || s.Breaker != "open" || s.BreakerOpened != 2 {
			t.Fatalf("%d dials, %+v", n.dials.Load(), s)
		}
		// The next one is answered: closed.
		pass(5*time.Second + 1)
		n.serve = serveOK
		u.send(1)
		u.send(5)
		if s := u.balanced(); s.Results[Compared] != 17 || s.Results[BreakerOpen] != 10 || s.Breaker != "closed" {
			t.Fatalf("%+v", s)
		}
	})
}

func TestBreakerRatio(t *testing.T) {
	fail := false
	inBubble(t, Config{Breaker: Breaker{Failures: 1000, Ratio: 0.25, MinResults: 40}}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = func(c net.Conn, to netip.AddrPort) {
			for readHead(c) != "" {
				if fail {
					return
				}
				io.WriteString(c, mockOK)
			}
		}
		u.send(31)
		fail = true
		for i := range 12 {
			if s := u.balanced(); s.Breaker != "closed" {
				t.Fatalf("open after %d failures of %d", i, s.Results[Compared])
			}
			u.send(1)
			if s := u.balanced(); s.Breaker == "open" {
				if i != 10 || s.Results[Compared] != 42 {
					t.Fatalf("opened after %d failures: %+v", i+1, s)
				}
				return
			}
		}
		t.Fatalf("not open: %+v", u.Stats())
	})
}

// Failures outside the window are forgotten.
func TestBreakerWindow(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, u *running, n *fakeNet) {
		for range 4 {
			u.send(9)
			pass(11 * time.Second)
		}
		if s := u.balanced(); s.Breaker != "closed" || n.dials.Load() != 36 {
			t.Fatalf("%+v", s)
		}
	})
}

func TestBreakerDisabled(t *testing.T) {
	inBubble(t, Config{Breaker: Breaker{Disabled: true}}, func(t *testing.T, u *running, n *fakeNet) {
		u.send(60)
		if s := u.balanced(); s.Breaker != "off" || n.dials.Load() != 60 {
			t.Fatalf("%+v", s)
		}
	})
}

// An answer is no failure, whatever its status.
func TestBreakerStatus(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = func(c net.Conn, _ netip.AddrPort) {
			for readHead(c) != "" {
				io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
			}
		}
		u.send(50)
		if s := u.balanced(); s.Breaker != "closed" || s.Results[Compared] != 50 {
			t.Fatalf("%+v", s)
		}
	})
}

// What is rate limited, stopped or not replayable says nothing about the
// target, also to a breaker that is half open.
func TestBreakerNotAsked(t *testing.T) {
	inBubble(t, Config{MaxRate: 1}, func(t *testing.T, u *running, n *fakeNet) {
		for range 10 {
			u.send(1)
			pass(time.Second)
		}
		if s := u.Stats(); s.Breaker != "open" {
			t.Fatalf("%+v", s)
		}
		pass(5 * time.Second)
		x := get("http://evil/")
		u.Submit(x)
		synctest.Wait()
		u.send(3)
		s := u.balanced()
		if s.Breaker != "half_open" || s.Results[RateLimited] != 3 || s.Errors[1] != 1 {
			t.Fatalf("%+v", s)
		}
		pass(time.Second)
		n.serve = serveOK
		u.send(1)
		if s := u.balanced(); s.Breaker != "closed" {
			t.Fatalf("%+v", s)
		}
	})
}

func TestRate(t *testing.T) {
	inBubble(t, Config{MaxRate: 50}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = serveOK
		u.send(20)
		if s := u.balanced(); s.Results[Compared] != 5 || s.Results[RateLimited] != 15 {
			t.Fatalf("burst: %+v", s)
		}
		for range 1000 {
			pass(10 * time.Millisecond) // 100 per second
			u.send(1)
		}
		if s := u.balanced(); s.Results[Compared] != 505 || s.Results[RateLimited] != 515 {
			t.Fatalf("over 10 s: %+v", s)
		}
	})
	inBubble(t, Config{}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = serveOK
		for range 60 {
			u.send(50)
		}
		if s := u.balanced(); s.Results[Compared] != 3000 {
			t.Fatalf("unlimited: %+v", s)
		}
	})
}

// The last connection used is the next one; the others are closed when they
// have rested long enough.
func TestLastInFirstOut(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, u *running, n *fakeNet) {
		goOn := make(chan struct{})
		n.serve = func(c net.Conn, _ netip.AddrPort) {
			for readHead(c) != "" {
				<-goOn
				io.WriteString(c, mockOK)
			}
		}
		u.send(10)
		if s := u.balanced(); s.InFlight != 10 || s.Workers != 10 {
			t.Fatalf("%+v", s)
		}
		close(goOn)
		synctest.Wait()
		for range 40 {
			u.send(1)
			pass(time.Second)
		}
		if s := u.balanced(); n.dials.Load() != 10 || s.Workers != 1 || s.Reused != 40 || s.Opened != 10 {
			t.Fatalf("%d dials, %+v", n.dials.Load(), s)
		}
		pass(20 * time.Second)
		if s := u.balanced(); s.Workers != 0 {
			t.Fatalf("%+v", s)
		}
	})
}

// What comes at once is replayed in its order, MaxInFlight at a time, though it
// is more than that; and what waits is given up with the rest.
func TestBurst(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(u *running)
		want map[Result]uint64
	}{
		{"replayed", func(*running) {}, map[Result]uint64{Compared: 10}},
		{"stopped", func(u *running) { u.Stop() }, map[Result]uint64{Compared: 10}},
		{"cancelled", func(u *running) { u.Cancel() }, map[Result]uint64{Stopped: 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fakeNet{serve: serveAfter(30 * time.Millisecond)}
				var mu sync.Mutex
				var order []string
				cfg := config("http://10.0.0.1")
				cfg.MaxInFlight, cfg.Memory = 4, NewMemory(1<<20)
				cfg.Done = func(x *exchange.Exchange, o *Outcome) {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, x.Request.Target)
				}
				u := start(t, cfg)
				u.dialer.dialTCP = n.dial
				for i := range 10 {
					u.Submit(get(fmt.Sprintf("/%d", i)))
				}
				synctest.Wait()
				if s := u.balanced(); s.InFlight != 10 || s.Workers != 4 {
					t.Fatalf("%+v", s)
				}
				c.end(u)
				pass(95 * time.Millisecond)
				synctest.Wait()
				s := u.balanced()
				for r := range NumResults {
					if s.Results[r] != c.want[r] {
						t.Errorf("%d %s, want %d", s.Results[r], resultWords[r], c.want[r])
					}
				}
				if used := cfg.Memory.Used(); used != 0 || s.InFlight != 0 || s.Opened > 4 {
					t.Errorf("%d bytes are held, %+v", used, s)
				}
				mu.Lock()
				defer mu.Unlock()
				if c.name == "replayed" {
					for i := range order {
						if from := i / 4 * 4; !slices.Contains(order[from:min(from+4, 10)], fmt.Sprintf("/%d", i)) {
							t.Errorf("replayed in the order %v", order)
						}
					}
				}
				u.Stop()
				synctest.Wait()
			})
		})
	}
}

// A Done that waits holds its place in flight, and what waits for that place
// does so for 100 ms at most.
func TestSlowDone(t *testing.T) {
	release := make(chan struct{})
	cfg := Config{MaxInFlight: 2, Done: func(*exchange.Exchange, *Outcome) { <-release }}
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		n := &fakeNet{serve: serveOK}
		c := config("http://10.0.0.1")
		c.MaxInFlight, c.Done = cfg.MaxInFlight, cfg.Done
		u := start(t, c)
		u.dialer.dialTCP = n.dial
		u.send(5)
		pass(60 * time.Millisecond)
		u.send(8)
		if s := u.balanced(); s.InFlight != 10 || s.Results[Shed] != 3 || s.Results[Compared] != 0 || s.Workers != 2 {
			t.Fatalf("%+v", s)
		}
		pass(39 * time.Millisecond)
		synctest.Wait()
		if s := u.balanced(); s.InFlight != 10 {
			t.Fatalf("%+v", s)
		}
		pass(time.Millisecond)
		synctest.Wait()
		if s := u.balanced(); s.InFlight != 7 || s.Results[Shed] != 6 {
			t.Fatalf("%+v", s)
		}
		pass(60 * time.Millisecond)
		synctest.Wait()
		if s := u.balanced(); s.InFlight != 2 || s.Results[Shed] != 11 {
			t.Fatalf("%+v", s)
		}
		close(release)
		synctest.Wait()
		if s := u.balanced(); s.InFlight != 0 || s.Results[Compared] != 2 {
			t.Fatalf("%+v", s)
		}
		u.Stop()
		synctest.Wait()
	})
}
