package replay

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What Submit sheds, SubmitWait replays: all of it, with no more in flight than
// may be.
func TestSubmitWait(t *testing.T) {
	inBubble(t, Config{MaxInFlight: 4, Memory: NewMemory(1)}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = serveAfter(time.Second)
		begin := time.Now()
		for range 100 {
			if got := u.SubmitWait(t.Context(), get("/")); got != Compared {
				t.Fatalf("%s", got)
			}
			if s := u.balanced(); s.InFlight > 4 {
				t.Fatalf("%d in flight", s.InFlight)
			}
		}
		u.until("all have ended", func(s Stats) bool { return s.InFlight == 0 })
		// With one byte of memory they go one by one.
		if s, d := u.balanced(), time.Since(begin); s.Results != [NumResults]uint64{Compared: 100} || d < 100*time.Second || d > 102*time.Second {
			t.Errorf("%v in %v", s.Results, d)
		}
	})
	inBubble(t, Config{MaxInFlight: 4}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = serveAfter(time.Second)
		begin := time.Now()
		for range 100 {
			u.SubmitWait(t.Context(), get("/"))
		}
		if d := time.Since(begin); d < 24*time.Second || d > 25*time.Second {
			t.Errorf("100 of 1 s each, 4 at a time, began within %v", d)
		}
		pass(2 * time.Second)
	})
}

// It waits for the rate, too.
func TestSubmitWaitRate(t *testing.T) {
	inBubble(t, Config{MaxRate: 10}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = serveOK
		begin := time.Now()
		for range 51 {
			u.SubmitWait(t.Context(), get("/"))
		}
		synctest.Wait()
		if s, d := u.balanced(), time.Since(begin); s.Results != [NumResults]uint64{Compared: 51} || d < 5*time.Second || d > 5200*time.Millisecond {
			t.Errorf("%v in %v", s.Results, d)
		}
	})
}

// A target that fails is left alone and waited for; one that does not come back
// in Patience is given up, until it answers again.
func TestSubmitWaitBreaker(t *testing.T) {
	memory := NewMemory(1 << 30)
	inBubble(t, Config{MaxInFlight: 1, Patience: 12 * time.Second, Memory: memory}, func(t *testing.T, u *running, n *fakeNet) {
		begin := time.Now()
		send := func(count int) (last Result) {
			for range count {
				last = u.SubmitWait(t.Context(), get("/"))
				synctest.Wait()
			}
			return last
		}
		// 10 open the breaker; those at 5 and 10 s are its probes.
		if send(12) != Compared || time.Since(begin) < 10*time.Second || time.Since(begin) > 10100*time.Millisecond {
			t.Errorf("after %v", time.Since(begin))
		}
		if got := send(1); got != BreakerOpen || time.Since(begin) < 12*time.Second || time.Since(begin) > 12100*time.Millisecond {
			t.Errorf("%s after %v", got, time.Since(begin))
		}
		if send(100); time.Since(begin) > 12100*time.Millisecond {
			t.Errorf("given up, and waited for until %v", time.Since(begin))
		}
		var down atomic.Bool
		n.serve = func(c net.Conn, _ netip.AddrPort) {
			for readHead(c) != "" && !down.Load() {
				io.WriteString(c, mockOK)
			}
		}
		pass(5 * time.Second)
		if got := send(50); got != Compared {
			t.Errorf("%s, though it answers", got)
		}
		if s := u.balanced(); s.Results != [NumResults]uint64{Compared: 62, BreakerOpen: 101} {
			t.Errorf("%v", s.Results)
		}
		// Patience begins anew.
		down.Store(true)
		if send(12) != Compared {
			t.Error("no patience the second time")
		}
		if n := memory.Used(); n != 0 {
			t.Errorf("%d bytes are held at rest", n)
		}
	})
}

// The end of ctx and of the Replayer end the wait.
func TestSubmitWaitStopped(t *testing.T) {
	inBubble(t, Config{MaxInFlight: 1, Timeout: MaxTimeout}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = serveAfter(time.Minute)
		u.SubmitWait(t.Context(), get("/"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if got := u.SubmitWait(ctx, get("/")); got != Stopped || time.Since(begin) != time.Second {
			t.Errorf("%s after %v", got, time.Since(begin))
		}
		go func() {
			pass(time.Second)
			u.Stop()
		}()
		if got := u.SubmitWait(t.Context(), get("/")); got != Stopped || time.Since(begin) > 2100*time.Millisecond {
			t.Errorf("%s after %v", got, time.Since(begin))
		}
		if s := u.balanced(); s.Results[Stopped] != 2 || s.Selected != 3 || s.InFlight != 1 {
			t.Errorf("%+v", s)
		}
		pass(time.Minute)
	})
}

// What Submit takes for no pair because the two could not start together, or
// because the control had no room, SubmitWait waits for or asks again.
func TestSubmitWaitPairs(t *testing.T) {
	ms := time.Millisecond
	t.Run("a connection that takes long", func(t *testing.T) {
		twoLegs(t, nil, func(t *testing.T, u *running, cand, ctrl *legNet) {
			ctrl.connect = 400 * ms
			u.SubmitWait(t.Context(), numbered(1))
			u.next().ok(t, 200, "ok")
			if got := u.ends(); got != "paired  1" || ctrl.dials.Load() != 1 {
				t.Errorf("%s after %d dials", got, ctrl.dials.Load())
			}
		})
	})
	// The candidate answers one request on a connection and hangs up on the next,
	// and a new one takes 6 ms: then the control was asked 6 ms before.
	hangsUp := func(c net.Conn, _ netip.AddrPort) {
		readHead(c)
		io.WriteString(c, mockOK)
		readHead(c)
	}
	for _, tt := range []struct {
		name, method string
		serve        func(net.Conn, netip.AddrPort) // the connections behind the first
		want         string
		asked        int32 // the control, in all
	}{
		{"apart once", "GET", serveOK, "paired  2", 3},
		{"always apart", "GET", hangsUp, "paired  1, shed apart 1", 6},
		{"apart and not safe", "POST", serveOK, "paired  1, shed apart 1", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			memory := NewMemory(1 << 20)
			twoLegs(t, func(c *Config) { c.Memory = memory }, func(t *testing.T, u *running, cand, ctrl *legNet) {
				var asked atomic.Int32
				ctrl.serve = func(c net.Conn, _ netip.AddrPort) {
					for readHead(c) != "" {
						asked.Add(1)
						io.WriteString(c, mockOK)
					}
				}
				cand.serve = hangsUp
				for n := range 2 {
					x := numbered(n)
					x.Request.Method = tt.method
					x.Request.Head = []byte(strings.Replace(string(x.Request.Head), "GET", tt.method, 1))
					u.SubmitWait(t.Context(), x)
					u.next().ok(t, 200, "ok")
					synctest.Wait()
					cand.connect, cand.serve = 6*ms, tt.serve
				}
				if got := u.ends(); got != tt.want || asked.Load() != tt.asked || memory.Used() != 0 {
					t.Errorf("%s, the control was asked %d times, %d bytes are held; want %s, %d", got, asked.Load(), memory.Used(), tt.want, tt.asked)
				}
				if s := u.balanced(); s.Results != [NumResults]uint64{Compared: 2} {
					t.Errorf("%v", s.Results)
				}
			})
		})
	}
	t.Run("a slow control", func(t *testing.T) {
		twoLegs(t, func(c *Config) { c.MaxInFlight, c.MaxRate = 1, 100 }, func(t *testing.T, u *running, cand, ctrl *legNet) {
			ctrl.serve = serveAfter(50 * ms)
			for n := range 20 {
				u.SubmitWait(t.Context(), numbered(n))
			}
			u.until("have ended", func(s Stats) bool { return s.InFlight == 0 })
			if got := u.ends(); got != "paired  20" {
				t.Error(got)
			}
		})
	})
	t.Run("a control that stays away", func(t *testing.T) {
		twoLegs(t, func(c *Config) { c.MaxInFlight, c.Patience = 1, 12*time.Second }, func(t *testing.T, u *running, cand, ctrl *legNet) {
			ctrl.serve = nil
			begin := time.Now()
			for n := range 40 {
				u.SubmitWait(t.Context(), numbered(n))
				u.next().ok(t, 200, "ok")
			}
			// 10 open the breaker; those at 5 and 10 s are its probes.
			if got, d := u.ends(), time.Since(begin); got != "failed connect 12, shed breaker_open 28" || d < 12*time.Second || d > 13*time.Second {
				t.Errorf("%s after %v", got, d)
			}
			ctrl.serve = serveOK
			pass(5 * time.Second)
			for n := range 5 {
				u.SubmitWait(t.Context(), numbered(n))
				u.next().ok(t, 200, "ok")
			}
			if got := u.ends(); got != "paired  5, failed connect 12, shed breaker_open 28" {
				t.Error(got)
			}
			// Patience begins anew.
			ctrl.serve = nil
			u.control.closeIdle(time.Now().Add(time.Hour))
			synctest.Wait()
			for n := range 12 {
				u.SubmitWait(t.Context(), numbered(n))
				u.next().ok(t, 200, "ok")
			}
			if got := u.ends(); got != "paired  5, failed connect 24, shed breaker_open 28" {
				t.Error(got)
			}
		})
	})
}

// AgainWait asks both once more, all of them, and tells what the end of the
// Replayer keeps from it.
func TestAgainWait(t *testing.T) {
	memory := NewMemory(1 << 20)
	twoLegs(t, func(c *Config) { c.MaxInFlight, c.Memory = 2, memory }, func(t *testing.T, u *running, cand, ctrl *legNet) {
		cand.serve, ctrl.serve = serveAfter(time.Second), serveAfter(time.Second)
		told := make(chan Again, 100)
		begin := time.Now()
		for n := range 40 {
			u.AgainWait(numbered(n), 5*time.Second, func(a Again) { told <- a })
		}
		for range 40 {
			a := <-told
			if a.Result != Compared || a.Candidate == nil || a.Control == nil || a.Candidate.Address != "10.0.0.1:80" || a.Control.Address != "10.0.0.2:80" {
				t.Fatalf("%+v", a)
			}
		}
		// Two at a time, of 1 s each.
		if d := time.Since(begin); d < 25*time.Second || d > 26*time.Second {
			t.Errorf("after %v", d)
		}
		if s := u.balanced(); s.Selected != 0 || s.Control.Chosen != 0 {
			t.Errorf("counted as submitted: %+v", s)
		}
		synctest.Wait()
		if n := memory.Used(); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
		x := numbered(1)
		x.Request.Method = "POST"
		u.AgainWait(x, 0, func(a Again) { told <- a })
		if a := <-told; a.Result != Shed || a.Candidate != nil {
			t.Errorf("not safe: %+v", a)
		}
		u.AgainWait(numbered(1), time.Hour, func(a Again) { told <- a })
		begin = time.Now()
		u.Stop()
		if a := <-told; a.Result != Stopped || a.Candidate != nil || time.Since(begin) != 0 {
			t.Errorf("stopped after %v: %+v", time.Since(begin), a)
		}
	})
}
