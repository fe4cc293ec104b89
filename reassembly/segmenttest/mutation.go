package segmenttest

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"github.com/shadowtap/shadowtap/reassembly"
)

// Mutation is a change of segments that must not change the exchanges.
type Mutation struct {
	Name string
	// Apply gives the changed segments and leaves those of in alone.
	Apply func(r *rand.Rand, in []Segment) []Segment
}

// Network is what hosts and networks do on the way to a live tap, in the order
// in which it is to be applied. The order of the two directions stays that of
// the wire: a copy is in the ring before the packet goes on.
func Network() []Mutation {
	return []Mutation{
		{"thinned ACKs", ThinACKs},
		{"zero-window probes", ZeroWindowProbes},
		{"overlapping retransmissions", Overlap},
		{"duplicates", Duplicate},
		{"swapped in bursts", SwapBursts},
		{"keep-alive probes", KeepAliveProbes},
	}
}

// File is what may be seen in a capture file: in the place of swapped bursts
// segments of both directions are in the wrong order, as far as the hold goes.
func File() []Mutation {
	m := Network()
	for i := range m {
		if m[i].Name == "swapped in bursts" {
			m[i] = Mutation{"swapped in a window", SwapWindow}
		}
	}
	return m
}

// Mutate applies each mutation or leaves it out, by chance, and says which were
// applied.
func Mutate(r *rand.Rand, in []Segment, all []Mutation) (out []Segment, names []string) {
	out = in
	for _, m := range all {
		if r.IntN(3) > 0 {
			out = m.Apply(r, out)
			names = append(names, m.Name)
		}
	}
	return out, names
}

// ThinACKs takes pure acknowledgements away: all, or some.
func ThinACKs(r *rand.Rand, in []Segment) []Segment {
	all := r.IntN(2) == 0
	return slices.DeleteFunc(slices.Clone(in), func(s Segment) bool {
		return s.PureACK() && (all || r.IntN(2) == 0)
	})
}

// Duplicate repeats segments, at once or up to 8 segments later, as the network
// or a second tap does.
func Duplicate(r *rand.Rand, in []Segment) []Segment {
	return later(r, in, func(s *Segment) (Segment, bool) { return *s, r.IntN(8) == 0 })
}

// Overlap adds retransmissions that cover parts of segments, or several of
// them, and lets segments begin with bytes that were sent before. A host sends
// again only what it does not know to be acknowledged: a copy's acknowledgement
// never covers the segment that acknowledged its bytes. (That segment may be on
// its way; such copies are those of Duplicate.)
func Overlap(r *rand.Rand, in []Segment) []Segment {
	type mark struct{ seq, ack uint32 }
	var (
		sent  [2][]byte // up to here, by direction
		first [2]uint32
		ack   [2]uint32
		marks [2][]mark // of the segments of a direction
		out   []Segment
	)
	for _, s := range in {
		d := side(s.ToServer)
		if s.Flags&reassembly.SYN != 0 {
			first[d] = s.Seq + 1
		}
		if s.Flags&reassembly.ACK != 0 {
			ack[d] = s.Ack
		}
		if first[d] == 0 {
			first[d] = s.Seq // a capture that begins in the middle
		}
		// unknown is the first of d's bytes that it does not know to have come.
		unknown := first[d]
		for _, m := range marks[1-d] {
			if int32(s.Ack-m.seq) > 0 && int32(m.ack-unknown) > 0 {
				unknown = m.ack
			}
		}
		if len(s.Payload) > 0 && int(s.Seq-first[d]) == len(sent[d]) {
			if back := int(s.Seq - unknown); back > 0 && r.IntN(4) == 0 {
				back = 1 + r.IntN(min(back, 3000))
				old := sent[d][len(sent[d])-back:]
				s.Payload, s.Inside = append(bytes.Clone(old), s.Payload...), false
				s.Seq -= uint32(back)
				sent[d] = append(sent[d], s.Payload[back:]...)
			} else {
				sent[d] = append(sent[d], s.Payload...)
			}
		}
		out = append(out, s)
		if s.Flags&reassembly.ACK != 0 {
			marks[d] = append(marks[d], mark{s.Seq, s.Ack})
		}
		if n := len(sent[d]); n > 0 && s.Flags&(reassembly.SYN|reassembly.FIN) == 0 && r.IntN(8) == 0 {
			if known := int(unknown - first[d]); known < n {
				from := max(known, n-1-r.IntN(4000))
				to := from + 1 + r.IntN(n-from)
				out = append(out, Segment{
					ToServer: s.ToServer, Seq: first[d] + uint32(from), Ack: ack[d], Flags: reassembly.ACK,
					Payload: bytes.Clone(sent[d][from:to]), Exchange: s.Exchange,
				})
			}
		}
	}
	return out
}

// ZeroWindowProbes sends the first byte of a segment alone before it (BSD), or a
// segment without data one below the next byte (Linux).
func ZeroWindowProbes(r *rand.Rand, in []Segment) []Segment {
	var out []Segment
	for _, s := range in {
		if len(s.Payload) > 0 && s.Flags&reassembly.SYN == 0 {
			switch r.IntN(16) {
			case 0:
				p := s
				p.Payload, p.Flags = s.Payload[:1], reassembly.ACK
				out = append(out, p)
			case 1:
				p := s
				p.Seq, p.Payload, p.Flags = s.Seq-1, nil, reassembly.ACK
				out = append(out, p)
			}
		}
		out = append(out, s)
	}
	return out
}

// KeepAliveProbes adds probes of an idle connection (RFC 9293 section 3.8.4):
// one below the next byte, with one byte of garbage or none. They stand only
// where every byte before has come and was acknowledged, because a host does not
// probe while it sends. Apply it last.
func KeepAliveProbes(r *rand.Rand, in []Segment) []Segment {
	var have [2]coverage
	var acked [2]uint32
	var out []Segment
	for _, s := range in {
		out = append(out, s)
		d := side(s.ToServer)
		have[d].add(&s)
		if s.Flags&reassembly.ACK != 0 && (acked[1-d] == 0 || int32(s.Ack-acked[1-d]) > 0) {
			acked[1-d] = s.Ack
		}
		d = r.IntN(2)
		if r.IntN(10) > 0 || s.Flags&(reassembly.SYN|reassembly.FIN|reassembly.RST) != 0 {
			continue
		}
		next, whole := have[d].next()
		if peer, ok := have[1-d].next(); whole && ok && acked[d] == next {
			p := Segment{ToServer: d == 0, Seq: next - 1, Ack: peer, Flags: reassembly.ACK, Exchange: -1}
			if r.IntN(2) == 0 {
				p.Payload, p.Probe = []byte{'?'}, true
			}
			out = append(out, p)
		}
	}
	return out
}

// SwapBursts puts segments that one side sent in a row in another order.
func SwapBursts(r *rand.Rand, in []Segment) []Segment {
	out := slices.Clone(in)
	for i := 0; i < len(out); {
		j := i + 1
		for j < len(out) && out[j].ToServer == out[i].ToServer && out[j].Ack == out[i].Ack && len(out[j].Payload) > 0 && len(out[i].Payload) > 0 {
			j++
		}
		if r.IntN(2) == 0 {
			window(r, out[i:j], 1+r.IntN(64))
		}
		i = j
	}
	return out
}

// SwapWindow puts segments of both directions in another order: none comes more
// than 31 places late, so that no more than 64 segments stand between an
// acknowledgement and its data.
func SwapWindow(r *rand.Rand, in []Segment) []Segment {
	out := slices.Clone(in)
	window(r, out, 1+r.IntN(31))
	return out
}

// window moves each segment up to n places.
func window(r *rand.Rand, s []Segment, n int) {
	type placed struct {
		at int
		s  Segment
	}
	list := make([]placed, len(s))
	for i := range s {
		list[i] = placed{i + r.IntN(n+1), s[i]}
	}
	slices.SortStableFunc(list, func(a, b placed) int { return a.at - b.at })
	for i := range s {
		s[i] = list[i].s
	}
}

// later inserts what change makes of segments with data, up to 8 places behind.
func later(r *rand.Rand, in []Segment, change func(*Segment) (Segment, bool)) []Segment {
	out := slices.Clone(in)
	for i := 0; i < len(out); i++ {
		if len(out[i].Payload) == 0 || out[i].Flags&reassembly.SYN != 0 {
			continue
		}
		if p, ok := change(&out[i]); ok {
			out = slices.Insert(out, min(len(out), i+1+r.IntN(8)), p)
		}
	}
	return out
}

// Join gives what a capture sees that begins in the middle: without the first
// segments, at least the handshake's two. touched is how many exchanges had
// begun before.
func Join(r *rand.Rand, in []Segment) (out []Segment, touched int) {
	cut := 2 + r.IntN(len(in)-2)
	for _, s := range in[:cut] {
		touched = max(touched, s.Exchange+1)
	}
	return drop(in[cut:], Captured, func(*Segment) bool { return false }), touched
}

// Drop takes one in n segments with data away, as a ring that is full, and
// counts them in the Lost of those behind, which files do not have. The garbage
// of a probe goes with the byte in whose place it stands: nothing could tell
// it from that byte.
func Drop(r *rand.Rand, in []Segment, path Path, n int) []Segment {
	return drop(in, path, func(*Segment) bool { return r.IntN(n) == 0 })
}

// DropSide is Drop for the segments of one direction.
func DropSide(r *rand.Rand, in []Segment, path Path, toServer bool, n int) []Segment {
	return drop(in, path, func(s *Segment) bool { return s.ToServer == toServer && r.IntN(n) == 0 })
}

// DropInside is Drop for segments that are Inside.
func DropInside(r *rand.Rand, in []Segment, path Path, n int) []Segment {
	return drop(in, path, func(s *Segment) bool { return s.Inside && r.IntN(n) == 0 })
}

func drop(in []Segment, path Path, lose func(*Segment) bool) []Segment {
	var out []Segment
	var have [2]coverage
	lost := uint64(0)
	for _, s := range in {
		c := &have[side(s.ToServer)]
		if len(s.Payload) > 0 && lose(&s) || s.Probe && !c.holds(s.Seq, s.end()) {
			lost++
			continue
		}
		c.add(&s)
		if path == Live {
			s.Lost = lost
		}
		out = append(out, s)
	}
	return out
}

// Stamp gives each segment its time: gap nanoseconds at most behind the one
// before.
func Stamp(r *rand.Rand, s []Segment, gap int64) {
	now := int64(1_700_000_000_000_000_000)
	for i := range s {
		now += r.Int64N(gap + 1)
		s[i].Time = now
	}
}

// coverage is which bytes of one direction were seen.
type coverage struct {
	begun bool
	base  uint32
	spans [][2]uint32 // relative to base, in order, not touching
}

func (c *coverage) add(s *Segment) {
	from, to := s.Seq, s.end()
	if s.Flags&reassembly.SYN != 0 {
		from++
	}
	if !c.begun {
		if len(s.Payload) == 0 && s.Flags&reassembly.SYN == 0 {
			return
		}
		c.begun, c.base = true, from-1<<30 // room for what comes earlier
	}
	a, b := from-c.base, to-c.base
	i := 0
	for i < len(c.spans) && c.spans[i][1] < a {
		i++
	}
	j := i
	for j < len(c.spans) && c.spans[j][0] <= b {
		a, b = min(a, c.spans[j][0]), max(b, c.spans[j][1])
		j++
	}
	c.spans = slices.Replace(c.spans, i, j, [2]uint32{a, b})
}

// next is the position behind all that was seen, and whether nothing is missing
// before it.
func (c *coverage) next() (uint32, bool) {
	if len(c.spans) == 0 {
		return c.base, false
	}
	return c.base + c.spans[len(c.spans)-1][1], len(c.spans) == 1
}

// holds says whether all of [from, to) was seen.
func (c *coverage) holds(from, to uint32) bool {
	a, b := from-c.base, to-c.base
	for _, s := range c.spans {
		if s[0] <= a && b <= s[1] {
			return true
		}
	}
	return false
}

// Hit says of which messages of an exchange bytes were lost.
type Hit struct{ Request, Response bool }

// Touched says which exchanges of whole are not as they were in left. A byte is
// lost when it does not come before the first segment of the other direction
// that acknowledges it.
func Touched(whole, left []Segment) map[int]Hit {
	hits := map[int]Hit{}
	for _, toServer := range []bool{true, false} {
		miss := func(exchange int) {
			h := hits[exchange]
			if toServer {
				h.Request = true
			} else {
				h.Response = true
			}
			hits[exchange] = h
		}
		var sent []*Segment
		for i := range whole {
			s := &whole[i]
			if s.ToServer == toServer && len(s.Payload) > 0 && s.Exchange >= 0 {
				sent = append(sent, s)
			}
		}
		var have coverage
		acked := 0 // of sent, wholly
		for i := range left {
			s := &left[i]
			if s.ToServer == toServer {
				have.add(s)
				continue
			}
			if s.Flags&reassembly.ACK == 0 {
				continue
			}
			for k := acked; k < len(sent) && int32(s.Ack-sent[k].Seq) > 0; k++ {
				to := sent[k].end()
				if int32(s.Ack-to) < 0 {
					to = s.Ack
				} else {
					acked = k + 1
				}
				if !have.holds(sent[k].Seq, to) {
					miss(sent[k].Exchange)
				}
			}
		}
		for _, s := range sent[acked:] {
			if !have.holds(s.Seq, s.end()) {
				miss(s.Exchange)
			}
		}
	}
	return hits
}
