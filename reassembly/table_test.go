package reassembly_test

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// mute is a handler that takes no memory.
type mute struct{}

func (mute) Data(reassembly.Dir, []byte, *reassembly.At) {}
func (mute) Gap(reassembly.Dir, uint64, *reassembly.At)  {}
func (mute) Doubt(reassembly.Dir, uint64, uint64)        {}
func (mute) End(reassembly.Dir, reassembly.End)          {}
func (mute) Close(reassembly.Close)                      {}

// idler is one that does not want what comes behind the first byte of an answer.
type idler struct {
	mute
	w *town
	c *reassembly.Conn
}

func (h *idler) Data(d reassembly.Dir, _ []byte, at *reassembly.At) {
	if d == reassembly.Server && at.Offset == 0 {
		h.w.Assembler.Skip(h.c, d, 1000)
	}
}

// town is an assembler with many connections, each of which has a number. It is
// the Skipper of its assembler, and takes everything.
type town struct {
	*reassembly.Assembler
	budget reassembly.Budget
	now    int64
	open   func(*reassembly.Conn) reassembly.Handler
}

func newTown(t *testing.T, open func(*reassembly.Conn) reassembly.Handler) *town {
	w := &town{budget: reassembly.Budget{Limit: 1 << 40}, now: 1e18, open: open}
	a, err := reassembly.New(reassembly.Config{Factory: w, Skipper: w, Budget: &w.budget})
	if err != nil {
		t.Fatal(err)
	}
	w.Assembler = a
	return w
}

func (w *town) Open(c *reassembly.Conn) reassembly.Handler                           { return w.open(c) }
func (w *town) Guess([]byte) reassembly.Side                                         { return reassembly.SideUnknown }
func (w *town) Blind(int)                                                            {}
func (w *town) BlindEnd()                                                            {}
func (w *town) Skip(*reassembly.Stream, uint32, uint32, uint32) (id uint32, ok bool) { return 0, true }
func (w *town) SkipRest(*reassembly.Stream) (id uint32, ok bool)                     { return 0, true }
func (w *town) Skipped(uint32) (from, to uint32, over bool)                          { return 0, 0, false }
func (w *town) SkipEnd(uint32)                                                       {}

// send gives a segment of connection n, which may have any addresses.
func (w *town) send(n int, client bool, seq, ack uint32, f reassembly.Flags, payload string) {
	r := rand.New(rand.NewPCG(uint64(n), 0))
	s := reassembly.Segment{Seq: seq, Ack: ack, Flags: f, Payload: []byte(payload), SrcPort: uint16(r.Uint32()), DstPort: 80, Side: reassembly.ToServer, Time: w.now}
	for i := range 4 {
		s.Src[12+i] = byte(r.Uint32())
	}
	s.Dst[12] = 100
	if !client {
		s.Src, s.Dst, s.SrcPort, s.DstPort, s.Side = s.Dst, s.Src, s.DstPort, s.SrcPort, reassembly.ToClient
	}
	w.Segment(&s)
}

func (w *town) handshake(n int) {
	w.send(n, true, 99, 0, reassembly.SYN, "")
	w.send(n, false, 199, 100, reassembly.SYN|reassembly.ACK, "")
}

// pass lets all connections be looked at, d later.
func (w *town) pass(d time.Duration) {
	w.now += int64(d)
	for n := w.Stats().Connections/1000 + 1; n > 0; n-- {
		w.Tick(w.now)
	}
}

// However many connections there are, and were, each gets its own bytes.
func TestManyConnections(t *testing.T) {
	type citizen struct {
		*recorder
		sent int
	}
	var last *recorder
	w := newTown(t, func(*reassembly.Conn) reassembly.Handler { last = &recorder{}; return last })
	r := rand.New(rand.NewPCG(1, 2))
	var live []int // numbers
	all := map[int]*citizen{}
	opened := 0
	say := func(n int) {
		x := all[n]
		last = nil
		w.send(n, true, 100+uint32(x.sent), 200, reassembly.ACK, string(rune('a'+n%26)))
		if x.sent++; x.sent == 1 {
			x.recorder = last
		}
		if x.recorder == nil || len(x.got[0]) != x.sent || x.got[0][x.sent-1] != byte('a'+n%26) {
			t.Fatalf("connection %d of %d did not get its byte %d", n, len(live), x.sent)
		}
	}
	for _, size := range []int{10, 3, 20_000, 12_000, 500, 9000, 0, 40} {
		for len(live) < size {
			n := opened
			opened++
			live, all[n] = append(live, n), &citizen{}
			w.handshake(n)
			say(n)
			say(live[r.IntN(len(live))])
		}
		for len(live) > size {
			i := r.IntN(len(live))
			n := live[i]
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
			end := 100 + uint32(all[n].sent)
			w.send(n, true, end, 200, reassembly.FIN|reassembly.ACK, "")
			w.send(n, false, 200, end+1, reassembly.FIN|reassembly.ACK, "")
			if len(live)%1000 == 0 {
				w.pass(11 * time.Second) // those that ended are forgotten
			}
		}
		for _, n := range live {
			say(n)
		}
		w.pass(11 * time.Second)
		if st := w.Stats(); st.Opened != uint64(opened) || st.Connections != uint64(len(live)) {
			t.Fatalf("%d connections are remembered of %d, want %d of %d", st.Connections, st.Opened, len(live), opened)
		}
	}
}

// The budget has at least what connections take, in whatever state they are, and
// has back what they needed for a time only.
func TestConnectionMemory(t *testing.T) {
	const (
		n       = 50_000
		handler = 16 // bytes of an idler
	)
	skipped := strings.Repeat("x", 1000)
	var w *town
	for _, tt := range []struct {
		name    string
		send    func(i int)
		decided func(i int)
		most    int64 // bytes each
	}{
		{"idle", func(int) {}, nil, 250},
		{"of a client that used its ports before", func(i int) {
			for k := range uint32(5) {
				w.send(i, true, 1000*k, 0, reassembly.SYN, "")
				w.send(i, false, 199, 1000*k+1, reassembly.SYN|reassembly.ACK, "")
				w.send(i, true, 1000*k+1, 200, reassembly.ACK, "x")
			}
		}, nil, 250},
		{"half closed", func(i int) { w.send(i, true, 101, 200, reassembly.FIN|reassembly.ACK, "") }, nil, 250},
		{"an end behind a hole", func(i int) { w.send(i, true, 110, 200, reassembly.FIN|reassembly.ACK, "") },
			func(i int) { w.send(i, true, 101, 200, reassembly.ACK, "123456789") }, 300},
		{"bytes behind a hole", func(i int) { w.send(i, true, 110, 200, reassembly.ACK, "x") },
			func(i int) { w.send(i, true, 101, 200, reassembly.ACK, "123456789") }, 1000},
		{"an end behind a hole, both ways", func(i int) {
			w.send(i, true, 110, 200, reassembly.FIN|reassembly.ACK, "")
			w.send(i, false, 210, 101, reassembly.FIN|reassembly.ACK, "")
		}, nil, 350},
		{"bytes that are not wanted", func(i int) { w.send(i, false, 200, 101, reassembly.ACK, "x") },
			func(i int) { w.send(i, false, 201, 101, reassembly.ACK, skipped) }, 290},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := segmenttest.LiveHeap()
			w = newTown(t, func(c *reassembly.Conn) reassembly.Handler { return &idler{w: w, c: c} })
			for i := range n {
				w.handshake(i)
				w.send(i, true, 100, 200, reassembly.ACK, "x")
			}
			idle, heap := w.budget.Used(), segmenttest.LiveHeap()
			for i := range n {
				tt.send(i)
			}
			now := segmenttest.LiveHeap()
			each, taken := (now-before)/n-handler, w.budget.Used()/n
			t.Logf("%d bytes each, %d by the budget", each, taken)
			if each > taken || each > tt.most {
				t.Errorf("%d bytes each, want %d at most; the budget says %d", each, tt.most, taken)
			}
			if more, took := now-heap, w.budget.Used()-idle; more > took+1<<16 {
				t.Errorf("%d bytes more of the heap than idle, the budget says %d", more, took)
			}
			if tt.decided != nil {
				for i := range n {
					tt.decided(i)
				}
			}
			if used := w.budget.Used(); tt.decided != nil && used != idle {
				t.Errorf("%d bytes of the budget are taken, %d before", used, idle)
			}
			w.pass(11 * time.Minute)
			w.pass(11 * time.Minute)
			if left := segmenttest.LiveHeap() - before; left > 1<<20 || w.budget.Used() != 0 {
				t.Errorf("%d bytes of the heap and %d of the budget are left", left, w.budget.Used())
			}
			runtime.KeepAlive(w)
		})
	}
}
