package segmenttest

import (
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
)

// Tap does what the program of the room bpf does with skips (not_wanted in
// bpf/tap.bpf.c, whose tests compare the two). It implements reassembly.Skipper.
type Tap struct {
	// Refuse, when not nil, says whether there is no place for a skip.
	Refuse func() bool
	// Segments is how many were skipped, Ranges and Rests how many skips there were.
	Segments, Ranges, Rests int
	streams                 map[reassembly.Stream]*tapSkip
	ids                     []*tapSkip
}

// tapSkip is struct tap_skip.
type tapSkip struct {
	stream           reassembly.Stream
	rest             bool
	from, n, ack     uint32
	begun, over      bool
	first, next, end uint32
	ended            bool
}

// Skip implements reassembly.Skipper.
func (t *Tap) Skip(s *reassembly.Stream, from, n, ack uint32) (uint32, bool) {
	return t.take(&tapSkip{stream: *s, from: from, n: n, ack: ack}, &t.Ranges)
}

// SkipRest implements reassembly.Skipper.
func (t *Tap) SkipRest(s *reassembly.Stream) (uint32, bool) {
	return t.take(&tapSkip{stream: *s, rest: true}, &t.Rests)
}

func (t *Tap) take(k *tapSkip, n *int) (uint32, bool) {
	if t.streams == nil {
		t.streams = map[reassembly.Stream]*tapSkip{}
	}
	if t.streams[k.stream] != nil {
		panic("a stream is skipped twice")
	}
	if t.Refuse != nil && t.Refuse() {
		return 0, false
	}
	*n++
	t.streams[k.stream] = k
	t.ids = append(t.ids, k)
	return uint32(len(t.ids) - 1), true
}

// Skipped implements reassembly.Skipper.
func (t *Tap) Skipped(id uint32) (from, to uint32, over bool) {
	switch k := t.ids[id]; {
	case k.ended:
		panic("a skip is asked for after its end")
	case !k.begun:
		return 0, 0, k.over
	case k.rest:
		return k.end - 1, k.end, k.over
	default:
		return k.from + k.first, k.from + k.next, k.over
	}
}

// SkipEnd implements reassembly.Skipper.
func (t *Tap) SkipEnd(id uint32) {
	k := t.ids[id]
	if k.ended {
		panic("a skip is ended twice")
	}
	k.ended = true
	delete(t.streams, k.stream)
}

// Open is how many skips have no end yet.
func (t *Tap) Open() int { return len(t.streams) }

// Takes says whether a segment is captured.
func (t *Tap) Takes(s *reassembly.Segment) bool {
	k := t.streams[reassembly.Stream{Src: s.Src, Dst: s.Dst, SrcPort: s.SrcPort, DstPort: s.DstPort, Domain: s.Domain}]
	if k == nil || k.over {
		return true
	}
	if k.over = k.ends(s); k.over || k.passes(s) {
		return true
	}
	t.Segments++
	return false
}

// ends says whether nothing more is skipped from s on.
func (k *tapSkip) ends(s *reassembly.Segment) bool {
	switch {
	case s.Flags&reassembly.SYN != 0:
		return true
	case k.rest:
		return false
	case s.Flags&(reassembly.FIN|reassembly.RST|reassembly.URG) != 0:
		return true
	case len(s.Payload) == 0:
		return false
	case s.Ack != k.ack:
		return true
	}
	off := s.Seq - k.from
	return int32(off) >= 0 && (off+uint32(len(s.Payload)) > k.n || k.begun && off > k.next)
}

// passes says whether s is captured and the skip goes on; else it notes what was
// skipped.
func (k *tapSkip) passes(s *reassembly.Segment) bool {
	n := uint32(len(s.Payload))
	if n == 0 || s.Flags&(reassembly.FIN|reassembly.RST) != 0 {
		return true
	}
	if k.rest {
		k.begun, k.end = true, s.Seq+n
		return false
	}
	off := s.Seq - k.from
	switch {
	case int32(off) < 0 || k.begun && off < k.first:
		return true
	case !k.begun:
		k.begun, k.first, k.next = true, off, off+n
	default:
		k.next = max(k.next, off+n)
	}
	return false
}

// PlaySkipping is Play for a live ring that is read up to lag segments late, and a
// tap that skips what the parser says; without one all is captured. make gets the
// assembler's Skip and SkipRest.
func PlaySkipping(t testing.TB, segs []Segment, tap *Tap, lag int, make func(*Skipper, *reassembly.Budget) (Parser, error)) (Parser, reassembly.Stats, *reassembly.Budget) {
	t.Helper()
	budget, sk := &reassembly.Budget{Limit: 64 << 20}, new(Skipper)
	p, err := make(sk, budget)
	if err != nil {
		t.Fatal(err)
	}
	cfg := reassembly.Config{Factory: p, Budget: budget}
	if tap != nil {
		cfg.Skipper = tap
	}
	a, err := reassembly.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sk.Assembler = a
	var ring []*Segment
	var s reassembly.Segment
	read := func(x *Segment) {
		if x.PureACK() && !a.HoleOpen() {
			return
		}
		x.Fill(&s)
		a.Segment(&s)
	}
	for i := range segs {
		x := &segs[i]
		if x.Fill(&s); tap == nil || tap.Takes(&s) {
			ring = append(ring, x)
		}
		for len(ring) > lag {
			read(ring[0])
			ring = ring[1:]
		}
		if i%50 == 49 {
			a.Tick(x.Time)
		}
	}
	for _, x := range ring {
		read(x)
	}
	a.Close(reassembly.CloseDone)
	if tap != nil && tap.Open() > 0 {
		t.Errorf("%d skips were not ended", tap.Open())
	}
	return p, a.Stats(), budget
}

// Skipper is an assembler that does not exist yet when its parser is made.
type Skipper struct{ *reassembly.Assembler }
