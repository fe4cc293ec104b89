package replay

import (
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Each protocol gives the round trip of a connection that is used again, and
// none for a new one.
func TestMinRTT(t *testing.T) {
	ok := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }
	check := func(t *testing.T, cfg Config, x func() *exchange.Exchange) {
		u := start(t, cfg)
		for i := range 3 {
			p := u.one(x())
			p.ok(t, 200, "ok")
			if known := p.MinRTT > 0 && p.MinRTT < time.Second; p.Reused != (i > 0) || known != p.Reused || !known && p.MinRTT != 0 {
				t.Errorf("request %d: reused %v, round trip %v", i, p.Reused, p.MinRTT)
			}
		}
	}
	t.Run("http1", func(t *testing.T) {
		check(t, config(answerAll(t, mockOK).url), func() *exchange.Exchange { return get("/") })
	})
	t.Run("https", func(t *testing.T) {
		_, cfg := secure(t, ok)
		check(t, cfg, func() *exchange.Exchange { return get("/") })
	})
	t.Run("http2", func(t *testing.T) {
		bothWays(t, ok, func(t *testing.T, _ *httptest.Server, cfg Config) {
			check(t, cfg, func() *exchange.Exchange { return get2("/") })
		})
	})
}

// A connection tried in vain leaves nothing of its own with the one that came
// after it.
func TestMinRTTOfTheLastTry(t *testing.T) {
	srv := serve(t, func(c net.Conn, n int) {
		if readHead(c) == "" {
			return
		}
		io.WriteString(c, mockOK)
		if n == 0 {
			readHead(c) // and no answer
			return
		}
		drain(c)
	})
	u := start(t, config(srv.url))
	u.one(get("/")).ok(t, 200, "ok")
	p := u.one(get("/"))
	p.ok(t, 200, "ok")
	if p.Reused || p.MinRTT != 0 || u.Stats().Retried != 1 {
		t.Errorf("reused %v, round trip %v, %d retried", p.Reused, p.MinRTT, u.Stats().Retried)
	}
}

// The kernel is asked once in rttEvery; in between an answer costs no call and
// no memory.
func TestMinRTTIsAskedSeldom(t *testing.T) {
	srv := serve(t, func(c net.Conn, _ int) { drain(c) })
	d := dialer{dialTCP: dialTCP, counts: &connCounts{}}
	c, err := d.dialOne(t.Context(), netip.MustParseAddrPort(srv.Addr().String()), 1)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	first := c.roundTrip(now)
	if first <= 0 || first >= time.Second {
		t.Errorf("round trip %v", first)
	}
	if n := testing.AllocsPerRun(100, func() { c.roundTrip(now) }); n != 0 {
		t.Errorf("%v allocations for what is known", n)
	}
	// Of a closed one nothing can be learnt any more.
	c.Close()
	if got := c.roundTrip(now.Add(rttEvery - 1)); got != first {
		t.Errorf("before its time: %v, it was %v", got, first)
	}
	if got := c.roundTrip(now.Add(rttEvery)); got != 0 {
		t.Errorf("closed: %v", got)
	}
}

func TestKnownRTT(t *testing.T) {
	for us, want := range map[uint32]time.Duration{0: 0, 1: time.Microsecond, 250_000: 250 * time.Millisecond, math.MaxUint32: 0} {
		if got := knownRTT(us); got != want {
			t.Errorf("%d: %v, want %v", us, got, want)
		}
	}
}
