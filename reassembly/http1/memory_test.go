package http1_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// room is an assembler with the parser behind it.
type room struct {
	*reassembly.Assembler
	parser *http1.Parser
	sink   counter
	budget reassembly.Budget
	s      reassembly.Segment
	now    int64
}

func newRoom(t testing.TB, limit int64, change func(*reassembly.Config)) *room {
	t.Helper()
	b := &room{now: 1_700_000_000_000_000_000}
	b.budget.Limit = limit
	p, err := http1.New(http1.Config{Keeper: &b.sink, Sink: &b.sink, Budget: &b.budget})
	if err != nil {
		t.Fatal(err)
	}
	cfg := reassembly.Config{Factory: p, Budget: &b.budget}
	if change != nil {
		change(&cfg)
	}
	a, err := reassembly.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Assembler, b.parser = a, p
	return b
}

// send gives one segment between client n and the server.
func (b *room) send(n int, toServer bool, seq, ack uint32, f reassembly.Flags, payload []byte) {
	s := &b.s
	*s = reassembly.Segment{Seq: seq, Ack: ack, Flags: f, Payload: payload, Time: b.now, SrcPort: uint16(n), DstPort: 80, Side: reassembly.ToServer}
	s.Src[12], s.Src[13], s.Src[14] = byte(n>>16), byte(n>>24), 1
	s.Dst[15] = 2
	if !toServer {
		s.Src, s.Dst, s.SrcPort, s.DstPort, s.Side = s.Dst, s.Src, 80, s.SrcPort, reassembly.ToClient
	}
	b.Segment(s)
}

func (b *room) handshake(n int) {
	b.send(n, true, 99, 0, reassembly.SYN, nil)
	b.send(n, false, 199, 100, reassembly.SYN|reassembly.ACK, nil)
}

// A stop waits for what has begun, and not for a stream of events, which need
// not end.
func TestNotWaitedFor(t *testing.T) {
	b := newRoom(t, 1<<20, nil)
	for n, kind := range []string{"event-stream", "event-stream; charset=utf-8", "plain"} {
		head := "HTTP/1.1 200 OK\r\nContent-Type: text/" + kind + "\r\n\r\n"
		b.handshake(n)
		b.send(n, true, 100, 200, reassembly.ACK, []byte(get[1:]))
		if s := b.parser.Stats(); s.InFlight-s.Late != 1 {
			t.Errorf("%s: before the answer %d in flight, %d late", kind, s.InFlight, s.Late)
		}
		b.send(n, false, 200, 100+uint32(len(get)-1), reassembly.ACK, []byte(head+"data: 1\n\n"))
	}
	if s := b.parser.Stats(); s.InFlight != 3 || s.Late != 2 {
		t.Errorf("%d in flight, %d late", s.InFlight, s.Late)
	}
	b.Close(reassembly.CloseStopped)
	if s := b.parser.Stats(); s.InFlight != 0 || s.Late != 0 {
		t.Errorf("at the end %d in flight, %d late", s.InFlight, s.Late)
	}
}

var (
	shortAsk    = []byte("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
	shortAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
)

// exchange is the k-th exchange of connection n, each short.
func (b *room) exchange(n, k int) {
	seq, ack := 100+uint32(k*len(shortAsk)), 200+uint32(k*len(shortAnswer))
	b.send(n, true, seq, ack, reassembly.ACK, shortAsk)
	b.send(n, false, ack, seq+uint32(len(shortAsk)), reassembly.ACK, shortAnswer)
}

// ledger asserts what must hold at any time.
func (b *room) ledger(t testing.TB) {
	t.Helper()
	a, h := b.Stats(), b.parser.Stats()
	if sum := a.Delivered + a.Duplicate + a.OtherInterface + a.Malformed + a.OverMemory + a.Queued; sum != a.Captured {
		t.Errorf("captured %d bytes, accounted %d: %+v", a.Captured, sum, a)
	}
	var ends uint64
	for _, reasons := range h.Exchanges {
		for _, n := range reasons {
			ends += n
		}
	}
	if h.Started != ends+h.InFlight {
		t.Errorf("started %d, ended %d, in flight %d", h.Started, ends, h.InFlight)
	}
}

// An idle connection that has had an exchange costs less than 400 bytes, and
// never more than it takes from the budget says. The assembler's lists have room for
// more, up to a quarter, so several numbers are looked at.
func TestIdleConnectionMemory(t *testing.T) {
	for _, n := range []int{60_000, 100_000, 115_000, 130_000} {
		before := segmenttest.LiveHeap()
		b := newRoom(t, 256<<20, nil)
		for i := range n {
			b.handshake(i)
			b.exchange(i, 0)
		}
		each := (segmenttest.LiveHeap() - before) / int64(n)
		t.Logf("%d connections: %d bytes each, %d of them by the budget", n, each, b.budget.Used()/int64(n))
		if each >= 400 {
			t.Errorf("%d connections: %d bytes each", n, each)
		}
		if each > b.budget.Used()/int64(n) {
			t.Errorf("%d connections: %d bytes each, the budget says %d", n, each, b.budget.Used()/int64(n))
		}
		if b.sink.n != n {
			t.Errorf("%d exchanges of %d", b.sink.n, n)
		}
		// They are forgotten step by step, and so is what they took.
		b.now += int64(11 * time.Minute)
		for steps := 0; b.Stats().Connections > 0; steps++ {
			was := b.Stats().Connections
			b.Tick(b.now)
			if gone := was - b.Stats().Connections; gone > 1000 || gone == 0 {
				t.Fatalf("step %d forgot %d connections", steps, gone)
			}
		}
		if left := segmenttest.LiveHeap() - before; left > 2<<20 || b.budget.Used() != 0 {
			t.Errorf("%d bytes of the heap and %d of the budget are left of %d connections", left, b.budget.Used(), n)
		}
		runtime.KeepAlive(b)
	}
}

var _ exchange.Sink = (*counter)(nil)
