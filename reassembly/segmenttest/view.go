package segmenttest

import (
	"slices"

	"github.com/shadowtap/shadowtap/reassembly"
)

// View is what a tap has of one direction, by offsets in its stream: the byte
// behind the SYN is 0.
type View struct {
	// Sent is how many bytes the sender sent, From where a reader begins: 0 but for a
	// capture without the SYNs. Joined says that it is such a one.
	Sent, From int
	Joined     bool
	// Lost are the ranges [from, to) that never came, or came when a reader had
	// given them up. Never are those of them that never came.
	Lost, Never [][2]int
	// Unsure says that for some that came late nobody can say whether they came in time.
	Unsure     bool
	first      map[int]*Segment // by offset, the one that brought it first
	resent     map[int]bool
	tooLate    map[int]bool
	base, peer uint32
	acks       []acked
	told       [][2]int // what a segment that brought something new acknowledges: where it begins, and that
}

// acked is what a segment of the other direction acknowledges, and how far its sender
// had come before it at most, as far as anybody can know: a segment that stands
// behind later bytes may have been sent again behind them.
type acked struct{ to, came int }

// Views gives what was captured of whole: of the client, of the server.
//
// Bytes that come behind a segment of the other direction that acknowledged them are
// late. On a live ring a reader has given them up by then, in a file it has
// not while no more than HoldSegments have come since. Otherwise (behind an
// acknowledgement without data, which a live reader asks for only while it knows of a
// hole; or where in a file the time decides) nobody can say, and taken decides.
func Views(whole, left []Segment, path Path, taken bool) (v [2]View) {
	var isn [2]uint32
	for i := range whole {
		s := &whole[i]
		d := side(s.ToServer)
		if s.Flags&reassembly.SYN != 0 {
			isn[d] = s.Seq + 1
		}
		if n := int(s.end() - isn[d]); len(s.Payload) > 0 {
			v[d].Sent = max(v[d].Sent, n)
		}
	}
	joined := !slices.ContainsFunc(left, func(s Segment) bool { return s.Flags&reassembly.SYN != 0 })
	for d := range v {
		v[d].base, v[d].peer = isn[d], isn[1-d]
		if v[d].Joined = joined; joined {
			v[d].begin(d, left, path, taken)
		}
		v[d].view(d, left, path, taken)
	}
	return v
}

// begin finds where a reader begins who has seen no SYN: on a live ring where the first
// segment with data says, of either direction; in a file where the lowest
// says of those that come before HoldSegments more have come.
func (v *View) begin(d int, left []Segment, path Path, taken bool) {
	v.From = v.Sent
	first, opened := -1, false
	for i := range left {
		s := &left[i]
		if opened = opened || len(s.Payload) > 0 || path == Captured && s.Flags&reassembly.FIN != 0; !opened || path == Live && s.PureACK() {
			continue
		}
		from := int(int32(s.Ack - v.base))
		if side(s.ToServer) == d {
			if from = int(int32(s.Seq - v.base)); len(s.Payload) == 0 && s.Flags&reassembly.FIN == 0 {
				continue
			}
		}
		switch {
		case first < 0:
			first, v.From = i, from
		case path == Live || from >= v.From:
		case i-first <= HoldSegments:
			v.From = from
		default:
			if v.Unsure = true; taken {
				v.From = from
			}
		}
	}
}

func (v *View) view(d int, left []Segment, path Path, taken bool) {
	v.first, v.resent, v.tooLate = map[int]*Segment{}, map[int]bool{}, map[int]bool{}
	have, late := make([]bool, v.Sent), make([]bool, v.Sent)
	// The index of the first segment that acknowledges a byte, and with data.
	first, data := make([]int, v.Sent), make([]int, v.Sent)
	var upTo, dataTo int
	type seen struct{ from, ack int }
	var before []seen
	came := 0 // of the other direction
	var peer coverage
	for i := range left {
		s := &left[i]
		if side(s.ToServer) != d {
			from := int(int32(s.Seq - v.peer))
			// In a file it is kept when it brought something new, and waits.
			waits := len(s.Payload) > 0 && !peer.holds(s.Seq, s.Seq+uint32(len(s.Payload)))
			peer.add(s)
			if came = max(came, from); s.Flags&reassembly.ACK != 0 && (waits || path == Live && !s.PureACK()) {
				v.acks = append(v.acks, acked{int(int32(s.Ack - v.base)), came})
			}
			came = max(came, from+len(s.Payload))
			if s.Flags&reassembly.ACK != 0 {
				to := min(int(int32(s.Ack-v.base)), v.Sent)
				for ; upTo < to; upTo++ {
					first[upTo] = i
				}
				for ; !s.PureACK() && dataTo < to; dataTo++ {
					data[dataTo] = i
				}
			}
			continue
		}
		from := int(int32(s.Seq - v.base))
		if s.Flags&reassembly.ACK != 0 {
			came = max(came, v.Ack(s))
		}
		if len(s.Payload) == 0 {
			continue
		}
		// given says whether a reader has given up a byte that comes now.
		given := func(k int) bool {
			switch {
			case k >= upTo:
				return false
			case path == Live && k < dataTo:
				return true
			case path == Captured && i-first[k] <= HoldSegments:
				return false
			}
			v.Unsure = true
			return !taken
		}
		if from >= v.From && from < v.Sent && !have[from] {
			fresh := *s
			n := 0
			for n < len(s.Payload) && from+n < v.Sent && !have[from+n] {
				n++
			}
			fresh.Payload = s.Payload[:n]
			v.first[from], v.tooLate[from] = &fresh, given(from)
			for _, b := range before {
				v.resent[from] = v.resent[from] || b.from > from && b.ack < v.Ack(s)
			}
		}
		before = append(before, seen{from, v.Ack(s)})
		v.told = append(v.told, [2]int{from, v.Ack(s)})
		for k := max(from, v.From); k < min(from+len(s.Payload), v.Sent); k++ {
			if !have[k] {
				have[k], late[k] = true, given(k)
			}
		}
	}
	ranges := func(lost func(int) bool) (list [][2]int) {
		for k := 0; k < v.Sent; k++ {
			if !lost(k) {
				continue
			}
			if n := len(list); n > 0 && list[n-1][1] == k {
				list[n-1][1]++
			} else {
				list = append(list, [2]int{k, k + 1})
			}
		}
		return list
	}
	v.Lost = ranges(func(k int) bool { return late[k] || !have[k] })
	v.Never = ranges(func(k int) bool { return !have[k] })
}

// Before is what an acknowledgement has to be above for being news at an offset: what
// this side had said before, and how far the other had come when it acknowledged
// what was lost before it. ok is false when it did not.
func (v *View) Before(at int) (ack int, ok bool) {
	for _, x := range v.told {
		if x[0] < at {
			ack, ok = max(ack, x[1]), true
		}
	}
	if ok = ok || !v.Joined; !ok {
		return 0, false
	}
	for _, l := range v.Lost {
		if l[0] >= at {
			break
		}
		if l[1] <= v.From {
			continue // nobody could tell that it was lost
		}
		i := slices.IndexFunc(v.acks, func(a acked) bool { return a.to >= min(l[1], at) })
		if i < 0 {
			return 0, false
		}
		ack = max(ack, v.acks[i].came)
	}
	return ack, true
}

// Ack is what s acknowledges, as an offset in the other stream.
func (v *View) Ack(s *Segment) int { return int(int32(s.Ack - v.peer)) }

// Begins gives the segment that brought the byte at the offset first and in time,
// when it begins with it, else nil. Its payload ends where it brought nothing new. exact says that what it acknowledges is what its sender had when
// it sent that byte first.
func (v *View) Begins(at int) (s *Segment, exact bool) {
	if v.tooLate[at] {
		return nil, false
	}
	return v.first[at], !v.resent[at]
}

// Starts calls f for each place in [from, to) at which a captured segment begins.
func (v *View) Starts(from, to int, f func(at int, s *Segment)) {
	for at, s := range v.first {
		if from <= at && at < to {
			f(at, s)
		}
	}
}

// Misses says whether one of the ranges has a byte of [from, to).
func Misses(ranges [][2]int, from, to int) bool {
	for _, l := range ranges {
		if l[0] < to && from < l[1] {
			return true
		}
	}
	return false
}
