package bpf

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// skipStream is the stream of request().
func skipStream(domain uint16) *Stream {
	return &Stream{
		Src: netip.MustParseAddr(client4).As16(), Dst: netip.MustParseAddr(server4).As16(),
		SrcPort: peer, DstPort: port, Domain: domain,
	}
}

// A segment is skipped when it lies wholly in the range and in order, across
// the wrap of the sequence numbers too.
func TestSkip(t *testing.T) {
	type step struct {
		seq   uint32 // from the begin of the range on
		n     int
		flags uint8
		want  Result
	}
	const before = 0xffffffff // the last byte before the range
	for _, c := range []struct {
		name      string
		steps     []step
		first, at uint32 // what was skipped
		over      bool
	}{
		{"in order", []step{{0, 100, 0, NotWanted}, {100, 900, 0, NotWanted}}, 0, 1000, false},
		{"the end", []step{{0, 1000, 0, NotWanted}, {1000, 1, 0, Captured}, {999, 1, 0, Captured}}, 0, 1000, true},
		{"from the middle", []step{{300, 100, 0, NotWanted}, {400, 600, 0, NotWanted}}, 300, 1000, false},
		{"beyond the end", []step{{0, 100, 0, NotWanted}, {100, 901, 0, Captured}, {100, 100, 0, Captured}}, 0, 100, true},
		{"all beyond", []step{{1000, 100, 0, Captured}, {0, 100, 0, Captured}}, 0, 0, true},
		{"before", []step{{before, 1, 0, Captured}, {before, 100, 0, Captured}, {0, 100, 0, NotWanted}}, 0, 100, false},
		{"a copy", []step{{0, 500, 0, NotWanted}, {200, 100, 0, NotWanted}, {400, 200, 0, NotWanted}, {600, 10, 0, NotWanted}}, 0, 610, false},
		{"an older copy", []step{{100, 100, 0, NotWanted}, {0, 100, 0, Captured}, {200, 100, 0, NotWanted}}, 100, 300, false},
		{"a hole ends it", []step{{0, 100, 0, NotWanted}, {200, 100, 0, Captured}, {100, 100, 0, Captured}, {300, 100, 0, Captured}}, 0, 100, true},
		{"no payload", []step{{0, 0, 0, NoPayload}, {0, 100, 0, NotWanted}, {100, 0, 0, NoPayload}, {100, 1, 0, NotWanted}}, 0, 101, false},
		{"a probe", []step{{0, 100, 0, NotWanted}, {99, 1, 0, NotWanted}, {100, 1, 0, NotWanted}, {100, 100, 0, NotWanted}}, 0, 200, false},
		{"FIN ends it", []step{{0, 100, 0, NotWanted}, {100, 100, FIN, Captured}, {100, 100, 0, Captured}}, 0, 100, true},
		{"RST ends it", []step{{0, 100, RST, Captured}, {0, 100, 0, Captured}}, 0, 0, true},
		{"SYN ends it", []step{{0, 100, 0, NotWanted}, {5000, 0, SYN, Captured}, {100, 100, 0, Captured}}, 0, 100, true},
		{"URG ends it", []step{{0, 100, 0x20, Captured}, {0, 100, 0, Captured}}, 0, 0, true},
		{"far away", []step{{0x40000000, 100, 0, Captured}, {0, 100, 0, Captured}}, 0, 0, true},
	} {
		for _, begin := range []uint32{1000, 0xfffffe00, 0x7fffff00, 0} {
			t.Run(fmt.Sprintf("%s/%x", c.name, begin), func(t *testing.T) {
				m := newMaps(t, MapsConfig{})
				tt := newTap(t, m, TapConfig{Domain: 2, LinkHeader: 14, Direction: Both}, port)
				id, ok := m.Skip(skipStream(2), begin, 1000, 77)
				if !ok {
					t.Fatal("no place")
				}
				for _, s := range c.steps {
					h := request(ACK | s.flags)
					h.seq, h.ack = begin+s.seq, 77
					tt.gets(s.want, ethernet(typeIP4, ip4Header{}.with(h.with(pattern(s.n)))))
				}
				first, at, over := m.Skipped(id)
				if over != c.over || at-first != c.at-c.first || at != first && first != begin+c.first {
					t.Errorf("skipped [%d, %d), over %v, want [%d, %d), %v", first-begin, at-begin, over, c.first, c.at, c.over)
				}
				if n := tt.counters().Lost[0]; n != 0 {
					t.Errorf("%d lost", n)
				}
				m.SkipEnd(id)
				h := request(ACK)
				h.seq, h.ack = begin+c.at, 77
				tt.gets(Captured, ethernet(typeIP4, ip4Header{}.with(h.with(pattern(1)))))
			})
		}
	}
}

// What is not the stream that was meant is copied: another one, and another
// connection between the same ports, which acknowledges something else.
func TestSkipsNothingElse(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	tt := newTap(t, m, ethernetBoth, port)
	if _, ok := m.Skip(skipStream(0), 0, 1<<20, 77); !ok {
		t.Fatal("no place")
	}
	frame := func(ip ip4Header, h tcpHeader) []byte { return ethernet(typeIP4, ip.with(h.with(pattern(100)))) }
	tt.gets(Captured, frame(ip4Header{}, tcpHeader{src: peer + 1, dst: port, flags: ACK, ack: 77}))
	tt.gets(Captured, frame(ip4Header{src: server4, dst: client4}, tcpHeader{src: port, dst: peer, flags: ACK, ack: 77}))
	tt.gets(Captured, frame(ip4Header{src: "192.0.2.9"}, tcpHeader{src: peer, dst: port, flags: ACK, ack: 77}))
	tt.gets(NotWanted, frame(ip4Header{}, tcpHeader{src: peer, dst: port, flags: ACK, ack: 77}))
	tt.gets(Captured, frame(ip4Header{}, tcpHeader{src: peer, dst: port, flags: ACK, seq: 100, ack: 78}))
	tt.gets(Captured, frame(ip4Header{}, tcpHeader{src: peer, dst: port, flags: ACK, seq: 100, ack: 77}))

	other := newMaps(t, MapsConfig{})
	away := newTap(t, other, TapConfig{Domain: 3, LinkHeader: 14, Direction: Both}, port)
	if _, ok := other.Skip(skipStream(0), 0, 1<<20, 77); !ok {
		t.Fatal("no place")
	}
	away.gets(Captured, frame(ip4Header{}, tcpHeader{src: peer, dst: port, flags: ACK, ack: 77}))
}

// The rest of a stream is skipped until a SYN, but for its ends.
func TestSkipRest(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	tt := newTap(t, m, ethernetBoth, port)
	id, ok := m.SkipRest(skipStream(0))
	if !ok {
		t.Fatal("no place")
	}
	frame := func(flags uint8, seq uint32, n int) []byte {
		h := request(flags)
		h.seq = seq
		return ethernet(typeIP4, ip4Header{}.with(h.with(pattern(n))))
	}
	if from, to, over := m.Skipped(id); from != to || over {
		t.Errorf("before: [%d, %d), %v", from, to, over)
	}
	tt.gets(NotWanted, frame(ACK, 7, 100))
	tt.gets(NotWanted, frame(ACK, 0xfffffff0, 1))
	tt.gets(Captured, frame(ACK|FIN, 107, 5))
	tt.gets(Captured, frame(ACK|RST, 107, 0))
	if from, to, over := m.Skipped(id); from != 0xfffffff0 || to != 0xfffffff1 || over {
		t.Errorf("[%d, %d), %v", from, to, over)
	}
	tt.gets(Captured, frame(SYN, 9, 0))
	tt.gets(Captured, frame(ACK, 10, 100))
	if _, _, over := m.Skipped(id); !over {
		t.Error("not over behind a SYN")
	}
}

// A place that has a new owner says nothing of what a program writes for the old
// one, and a place that is taken is refused.
func TestSkipPlaces(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	s := skipStream(0)
	for turn := range 40 {
		id, ok := m.Skip(s, 100, 50, 0)
		if !ok {
			t.Fatalf("turn %d: no place", turn)
		}
		if _, ok := m.SkipRest(s); ok {
			t.Fatal("the place was given twice")
		}
		w := &m.skip.words[m.slot(s, skipCount)]
		if from, to, over := m.Skipped(id); from != to || over {
			t.Fatalf("turn %d: [%d, %d), %v", turn, from, to, over)
		}
		old := w.Run.Load()
		m.SkipEnd(id)
		next, _ := m.Skip(s, 100, 50, 0)
		w.Run.Store(old | runBegun | 50)
		if from, to, over := m.Skipped(next); from != to || !over {
			t.Fatalf("turn %d, of the last owner: [%d, %d), %v", turn, from, to, over)
		}
		m.SkipEnd(next)
	}
	for _, n := range []uint32{0, MaxSkip + 1} {
		if _, ok := m.Skip(s, 5, n, 0); ok {
			t.Errorf("skip %d bytes: taken", n)
		}
	}
	if _, ok := m.Skip(s, 5, MaxSkip, 0); !ok {
		t.Error("MaxSkip: not taken")
	}
}

// The program and what the tests of the other rooms take for it do the same with
// any segments; and user space finds the place of any stream.
func TestSkipAsModelled(t *testing.T) {
	m := newMaps(t, MapsConfig{Rings: 3})
	tt := newTap(t, m, ethernetBoth, port)
	skipped := 0
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 1))
		ip := ip4Header{src: netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), 1}).String()}
		ip6 := ip6Header{src: fmt.Sprintf("2001:db8::%x:%x", r.Uint32N(1<<16), r.Uint32N(1<<16))}
		v6 := seed%2 == 1
		s := reassembly.Stream{SrcPort: uint16(1 + r.Uint32N(65535)), DstPort: port}
		s.Src, s.Dst = netip.MustParseAddr(ip.src).As16(), netip.MustParseAddr(server4).As16()
		if v6 {
			s.Src, s.Dst = netip.MustParseAddr(ip6.src).As16(), netip.MustParseAddr(server6).As16()
		}
		base := r.Uint32()
		model := &segmenttest.Tap{}
		real, n, ack := Stream(s), 1+r.Uint32N(2000), r.Uint32()
		var id SkipID
		var mid uint32
		var ok bool
		if r.IntN(4) > 0 {
			id, ok = m.Skip(&real, base, n, ack)
			mid, _ = model.Skip(&s, base, n, ack)
		} else {
			id, ok = m.SkipRest(&real)
			mid, _ = model.SkipRest(&s)
		}
		if !ok {
			t.Fatalf("seed %d: no place", seed)
		}
		next := base
		for range 30 {
			h := tcpHeader{src: s.SrcPort, dst: port, seq: next, ack: ack, flags: ACK}
			size := int(r.Uint32N(300))
			switch r.IntN(16) {
			case 0:
				h.flags |= 1 << r.IntN(6)
			case 1:
				h.ack++
			case 2:
				h.seq += r.Uint32N(2000)
			case 3, 4, 5:
				h.seq -= r.Uint32N(600)
			case 6:
				h.seq = r.Uint32()
			default:
				next += uint32(size)
			}
			seg := reassembly.Segment{
				Src: s.Src, Dst: s.Dst, SrcPort: s.SrcPort, DstPort: port, Seq: h.seq, Ack: h.ack,
				Flags: reassembly.Flags(h.flags), Payload: pattern(size),
			}
			frame := ethernet(typeIP4, ip.with(h.with(seg.Payload)))
			if v6 {
				frame = ethernet(typeIP6, ip6.with(h.with(seg.Payload)))
			}
			tt.beat()
			got, want := tt.send(frame) == NotWanted, !model.Takes(&seg)
			if got != want {
				t.Fatalf("seed %d: seq %d ack %d flags %x, %d bytes: skipped is %v, want %v", seed, h.seq-base, h.ack-ack, h.flags, size, got, want)
			}
			if got {
				skipped++
			}
			a1, b1, o1 := m.Skipped(id)
			a2, b2, o2 := model.Skipped(mid)
			if a1 != a2 || b1 != b2 || o1 != o2 {
				t.Fatalf("seed %d: skipped [%d, %d) %v, want [%d, %d) %v", seed, a1-base, b1-base, o1, a2-base, b2-base, o2)
			}
		}
		m.SkipEnd(id)
		tt.events()
	}
	if skipped < 500 {
		t.Errorf("only %d segments were skipped", skipped)
	}
}
