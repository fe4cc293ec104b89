package replay

import (
	"context"
	"io"
	"net"
	"net/netip"
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
