package segmenttest

import "github.com/shadowtap/shadowtap/reassembly"

// View is what a tap has of one direction, by offsets in its stream: the byte
// behind the SYN is 0.
type View struct {
	// Sent is how many bytes the sender sent.
	Sent int
	// Lost are the ranges [from, to) that never came, or came only behind a
	// segment of the other direction that acknowledged them. Never are those of
	// them that never came.
	Lost, Never [][2]int
	first       map[int]*Segment // by offset, the one that brought it first
	resent      map[int]bool
	tooLate     map[int]bool
	base, peer  uint32
	order       []told
}

// told is what a captured segment says: of its own direction where its bytes end, of
// the other what it acknowledges.
type told struct {
	own bool
	end int
}

// Views gives what was captured of whole: of the client, of the server.
func Views(whole, left []Segment) (v [2]View) {
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
	for d := range v {
		v[d].view(d, isn, left)
	}
	return v
}

func (v *View) view(d int, isn [2]uint32, left []Segment) {
	v.base, v.peer = isn[d], isn[1-d]
	v.first, v.resent, v.tooLate = map[int]*Segment{}, map[int]bool{}, map[int]bool{}
	have, late := make([]bool, v.Sent), make([]bool, v.Sent)
	acked := 0
	type seen struct{ from, ack int }
	var before []seen
	for i := range left {
		s := &left[i]
		if side(s.ToServer) != d {
			if s.Flags&reassembly.ACK != 0 {
				v.order = append(v.order, told{false, int(int32(s.Ack - v.base))})
				for to := min(int(int32(s.Ack-v.base)), v.Sent); acked < to; acked++ {
					late[acked] = !have[acked]
				}
			}
			continue
		}
		from := int(int32(s.Seq - v.base))
		if len(s.Payload) == 0 {
			continue
		}
		v.order = append(v.order, told{true, from + len(s.Payload)})
		if from >= 0 && from < v.Sent && !have[from] {
			v.first[from], v.tooLate[from] = s, from < acked
			for _, b := range before {
				v.resent[from] = v.resent[from] || b.from > from && b.ack < v.Ack(s)
			}
		}
		before = append(before, seen{from, v.Ack(s)})
		for k := max(from, 0); k < min(from+len(s.Payload), v.Sent); k++ {
			have[k] = true
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

// Ack is what s acknowledges, as an offset in the other stream.
func (v *View) Ack(s *Segment) int { return int(int32(s.Ack - v.peer)) }

// Begins gives the segment that brought the byte at the offset first and in time,
// when it begins with it, else nil; exact says that what it acknowledges is what its sender had when
// it sent that byte first.
func (v *View) Begins(at int) (s *Segment, exact bool) {
	if v.tooLate[at] {
		return nil, false
	}
	return v.first[at], !v.resent[at]
}

// Told says whether a segment that acknowledges what stands before an offset was
// captured behind one of this direction from there on: in that order nobody has to
// wait for the missing bytes.
func (v *View) Told(at int) bool {
	behind := false
	for _, x := range v.order {
		if behind && !x.own && x.end >= at {
			return true
		}
		behind = behind || x.own && x.end > at
	}
	return false
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
