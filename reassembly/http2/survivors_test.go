package http2_test

import (
	xhttp2 "golang.org/x/net/http2"

	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// survivors is the oracle of losses. It knows the frames that were sent and which
// bytes the tap did not get.
//
// A hole wholly inside the payload of one DATA frame, or of one of an unknown type,
// spoils its stream alone: the frame's header says where the next one is (RFC 9113
// section 4.1). Behind the first other hole of a direction nothing of that direction
// can be proven until the connection ends: what its encoder put into the table there
// can't be had back (RFC 7541 section 2.2), so no later header block means anything
// for certain. Of the streams whose bytes in that direction all stand before it
// nothing is missing: they have to be there.
type survivors struct {
	// must says of each exchange that a reader can prove it, begun that it sees its
	// request's head whole, so that it has to count it.
	must, begun []bool
	// frontier is where the first such hole of each direction begins, by offset.
	frontier [2]int
}

func survive(s *segmenttest.Scene, all []*known, left []segmenttest.Segment) *survivors {
	v := segmenttest.Views(s.Whole, left, s.Path, false)
	o := &survivors{make([]bool, len(all)), make([]bool, len(all)), [2]int{v[0].Sent, v[1].Sent}}
	type place struct {
		head, to int
		lost     bool
	}
	at := [2][]place{make([]place, len(all)), make([]place, len(all))}
	var content [2][][2]int
	off := [2]int{}
	var client []byte
	for i := range s.Messages {
		m := &s.Messages[i]
		d := 1
		if m.ToServer {
			d = 0
			client = append(client, m.Bytes...)
		}
		for _, p := range m.Spans {
			from, to := off[d]+p.From, off[d]+p.To
			if p.Part == segmenttest.Body {
				// What a frame holds and what pads it stand side by side.
				if n := len(content[d]); n > 0 && content[d][n-1][1] == from {
					content[d][n-1][1] = to
				} else {
					content[d] = append(content[d], [2]int{from, to})
				}
			}
			if p.Exchange < 0 {
				continue
			}
			x := &at[d][p.Exchange]
			switch {
			case p.Part == segmenttest.Head && x.head == 0,
				x.head > 0 && x.head == from && (p.Part == segmenttest.Head || p.Part == segmenttest.FrameHeader && m.Bytes[p.From+3] == byte(xhttp2.FrameContinuation)):
				x.head = to // its frame, and those that continue it
			}
			x.to = to
			x.lost = x.lost || segmenttest.Misses(v[d].Lost, from, to)
		}
		off[d] += len(m.Bytes)
	}
	for d := range v {
		for _, l := range v[d].Lost {
			inside := false
			for _, c := range content[d] {
				inside = inside || c[0] <= l[0] && l[1] <= c[1]
			}
			if !inside {
				o.frontier[d] = l[0]
				break
			}
		}
	}
	prefaceEnd := len(preface) + 9
	if len(client) > prefaceEnd {
		prefaceEnd += int(client[len(preface)+2]) // of SETTINGS: a few of six bytes each
	}
	for x, k := range all {
		q, a := &at[0][x], &at[1][x]
		// Without the client's preface, which ends with its SETTINGS, nothing says that
		// it is HTTP/2, nor what the server may do with its table (RFC 9113, 3.4).
		before := o.frontier[0] >= prefaceEnd && q.to <= o.frontier[0] && a.to <= o.frontier[1]
		o.must[x] = k.whole() && before && !q.lost && !a.lost
		o.begun[x] = !k.pushed && q.head > 0 && q.head <= o.frontier[0] && o.frontier[0] >= prefaceEnd
	}
	return o
}
