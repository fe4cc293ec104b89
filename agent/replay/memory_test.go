package replay

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// What replays hold is bounded together, and given back whatever became of them.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		n := &fakeNet{serve: serveOK}
		c := config("http://10.0.0.1")
		c.Done = func(*exchange.Exchange, *Outcome) { <-release }
		one := get("/" + strings.Repeat("x", 1000))
		c.Memory = NewMemory(3 * heldBy(one))
		u := start(t, c)
		u.dialer.dialTCP = n.dial
		for range 5 {
			u.Submit(one)
		}
		synctest.Wait()
		if s := u.balanced(); s.InFlight != 3 || s.Results[Shed] != 2 {
			t.Fatalf("%+v", s)
		}
		if used := c.Memory.Used(); used < 3*heldBy(one) {
			t.Errorf("%d bytes are held by 3 exchanges of %d", used, heldBy(one))
		}
		close(release)
		synctest.Wait()
		if used := c.Memory.Used(); used != 0 {
			t.Errorf("%d bytes are held at rest", used)
		}
		// One that is larger than all that there is goes alone.
		u.Submit(get("/" + strings.Repeat("x", 10_000)))
		synctest.Wait()
		if s := u.balanced(); s.Results[Compared] != 4 || c.Memory.Used() != 0 {
			t.Errorf("%+v, %d bytes held", s, c.Memory.Used())
		}
		u.Stop()
		u.Submit(one)
		synctest.Wait()
		if used := c.Memory.Used(); used != 0 {
			t.Errorf("%d bytes are held after the stop", used)
		}
	})
}

// The candidate's answer counts from its end on.
func TestMemoryOfAnswers(t *testing.T) {
	m := NewMemory(100)
	r := &exchange.Response{Body: exchange.Body{Bytes: make([]byte, 60)}}
	if !m.take(80) || m.take(30) || m.Used() != 80 {
		t.Fatalf("%d bytes held of 100", m.Used())
	}
	m.add(heldByAnswer(r))
	if m.Used() != 140 || m.take(1) {
		t.Errorf("%d bytes held with the answer", m.Used())
	}
	m.add(-140)
	if !m.take(1000) {
		t.Error("no room for one, though nothing is held")
	}
}
