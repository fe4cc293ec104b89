package bpf

import (
	"net/netip"
	"testing"
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
	const over = 0xffffffff // one before the range
	for _, c := range []struct {
		name      string
		steps     []step
		first, at uint32
	}{
		{"in order", []step{{0, 100, 0, NotWanted}, {100, 900, 0, NotWanted}, {1000, 1, 0, Captured}}, 0, 1000},
		{"from the middle", []step{{300, 100, 0, NotWanted}, {400, 600, 0, NotWanted}}, 300, 1000},
		{"beyond the end", []step{{0, 100, 0, NotWanted}, {100, 901, 0, Captured}, {100, 100, 0, Captured}}, 0, 100},
		{"all beyond", []step{{1000, 100, 0, Captured}, {0, 100, 0, Captured}}, 0, 0},
		{"before", []step{{over, 1, 0, Captured}, {over, 100, 0, Captured}, {0, 100, 0, NotWanted}}, 0, 100},
		{"a copy", []step{{0, 500, 0, NotWanted}, {200, 100, 0, NotWanted}, {400, 200, 0, NotWanted}, {600, 10, 0, NotWanted}}, 0, 610},
		{"an older copy", []step{{100, 100, 0, NotWanted}, {0, 100, 0, Captured}, {200, 100, 0, NotWanted}}, 100, 300},
		{"a hole ends it", []step{{0, 100, 0, NotWanted}, {200, 100, 0, Captured}, {100, 100, 0, Captured}, {300, 100, 0, Captured}}, 0, 100},
		{"no payload", []step{{0, 0, 0, NoPayload}, {0, 100, 0, NotWanted}, {100, 0, 0, NoPayload}}, 0, 100},
		{"FIN passes", []step{{0, 100, 0, NotWanted}, {100, 100, FIN, Captured}, {100, 100, 0, NotWanted}}, 0, 200},
		{"RST passes", []step{{0, 100, RST, Captured}, {0, 100, 0, NotWanted}}, 0, 100},
		{"SYN ends it", []step{{0, 100, 0, NotWanted}, {5000, 0, SYN, Captured}, {100, 100, 0, Captured}}, 0, 100},
	} {
		for _, begin := range []uint32{1000, 0xfffffe00, 0x7fffff00, 0} {
			t.Run(c.name, func(t *testing.T) {
				m := newMaps(t, MapsConfig{})
				tt := newTap(t, m, TapConfig{Domain: 2, LinkHeader: 14, Direction: Both}, port)
				if err := m.Skip(skipStream(2), begin, begin+1000); err != nil {
					t.Fatal(err)
				}
				for _, s := range c.steps {
					h := request(ACK | s.flags)
					h.seq = begin + s.seq
					tt.gets(s.want, ethernet(typeIP4, ip4Header{}.with(h.with(pattern(s.n)))))
				}
				first, at, ok, err := m.Skipped(skipStream(2))
				if err != nil || ok != (c.at > c.first) || ok && (first != begin+c.first || at != begin+c.at) {
					t.Errorf("skipped [%d, %d) %v, %v, want [%d, %d)", first-begin, at-begin, ok, err, c.first, c.at)
				}
				if n := tt.counters().Lost[0]; n != 0 {
					t.Errorf("%d lost", n)
				}
			})
		}
	}
}

// The rest of a stream is skipped until a SYN; other streams are not.
func TestSkipRest(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	tt := newTap(t, m, ethernetBoth, port)
	if err := m.SkipRest(skipStream(0)); err != nil {
		t.Fatal(err)
	}
	frame := func(h tcpHeader, seq uint32, n int) []byte {
		h.seq = seq
		return ethernet(typeIP4, ip4Header{}.with(h.with(pattern(n))))
	}
	tt.gets(NotWanted, frame(request(ACK), 7, 100))
	tt.gets(NotWanted, frame(request(ACK), 1<<31, 1))
	tt.gets(Captured, frame(request(ACK|FIN), 107, 0))
	tt.gets(Captured, frame(tcpHeader{src: peer + 1, dst: port, flags: ACK}, 7, 100))
	tt.gets(Captured, frame(request(SYN), 9, 0))
	tt.gets(Captured, frame(request(ACK), 10, 100))
	if _, _, ok, err := m.Skipped(skipStream(0)); ok || err != nil {
		t.Errorf("a range was skipped: %v", err)
	}
}

func TestSkipRefuses(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	for _, to := range []uint32{5, 4, 6 + MaxSkip} {
		if err := m.Skip(skipStream(0), 5, to); err == nil {
			t.Errorf("skip [5, %d): no error", to)
		}
	}
	if err := m.Skip(skipStream(0), 5, 5+MaxSkip); err != nil {
		t.Error(err)
	}
	if _, _, ok, err := m.Skipped(&Stream{}); ok || err != nil {
		t.Errorf("an unknown stream: %v, %v", ok, err)
	}
}
