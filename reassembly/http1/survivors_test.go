package http1_test

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// survivors is the oracle of losses. It knows what was sent and which bytes the
// tap did not get, and nothing of how the product reads; the rules are those that a
// reader of both streams can prove, exchange by exchange.
type survivors struct {
	// must says of each exchange that a reader can prove it. why says of the
	// others which rule is against it.
	must []bool
	why  []string
	// whole says that no byte of it is missing.
	whole []bool
	// begun says that a reader sees the exchange begin: it has to count it.
	begun []bool
	// decoys is how many places look like the beginning of a message and are
	// content, so that a reader who seeks may count them.
	decoys int
	// least is how long the shortest head of a request is, in bytes.
	least uint64
	// shown is of how many exchanges any byte was captured.
	shown int
}

// message is one side of an exchange, by offsets in its stream.
type message struct {
	from, to int
	heads    [][2]int // interim ones and the final one
	body     int      // where the bytes behind the last head begin
}

// holes are what is missing in a message.
type holes struct {
	any bool
	// place: not inside content whose length was told, so that a reader does not
	// know any more where the message goes on.
	place bool
	head  bool
}

// layout gives the messages of both sides and where content is.
func layout(s *segmenttest.Scene) (m [2][]message, content [2][][2]int) {
	off := [2]int{}
	for d := range m {
		m[d] = make([]message, len(s.Wants))
		for x := range m[d] {
			m[d][x].from = -1
		}
	}
	for i := range s.Messages {
		w := &s.Messages[i]
		d := 1
		if w.ToServer {
			d = 0
		}
		for _, p := range w.Spans {
			x, from, to := &m[d][p.Exchange], off[d]+p.From, off[d]+p.To
			if x.from < 0 {
				x.from = from
			}
			x.to = to
			switch p.Part {
			case segmenttest.Head:
				x.heads = append(x.heads, [2]int{from, to})
				x.body = to
			case segmenttest.Body:
				if n := len(content[d]); n > 0 && content[d][n-1][1] == from {
					content[d][n-1][1] = to // it goes on at another time
				} else if from < to {
					content[d] = append(content[d], [2]int{from, to})
				}
			}
		}
		off[d] += len(w.Bytes)
	}
	return m, content
}

// holesIn says what is missing of a message.
func holesIn(m *message, lost, content [][2]int) (h holes) {
	for _, l := range lost {
		if l[1] <= m.from || m.to <= l[0] {
			continue
		}
		h.any = true
		inside := false
		for _, c := range content {
			inside = inside || c[0] <= l[0] && l[1] <= c[1]
		}
		h.place = h.place || !inside
		for _, x := range m.heads {
			h.head = h.head || l[0] < x[1] && x[0] < l[1]
		}
	}
	return h
}

// survive says what a reader can prove of what is left of a conversation, whichever of the bytes that came late it has.
func survive(s *segmenttest.Scene, left []seg) *survivors {
	v := segmenttest.Views(s.Whole, left, s.Path, true)
	o := surviveIn(s, left, v)
	if !v[0].Unsure && !v[1].Unsure {
		return o
	}
	other := surviveIn(s, left, segmenttest.Views(s.Whole, left, s.Path, false))
	for x := range o.must {
		if o.must[x] {
			o.must[x], o.why[x] = other.must[x], other.why[x]
		}
		o.whole[x] = o.whole[x] && other.whole[x]
		o.begun[x] = o.begun[x] && other.begun[x]
	}
	return o
}

func surviveIn(s *segmenttest.Scene, left []seg, v [2]segmenttest.View) *survivors {
	n := len(s.Wants)
	o := &survivors{must: make([]bool, n), why: make([]string, n), whole: make([]bool, n), begun: make([]bool, n)}
	m, content := layout(s)
	var stream [2][]byte
	for _, w := range s.Messages {
		d := 1
		if w.ToServer {
			d = 0
		}
		stream[d] = append(stream[d], w.Bytes...)
	}
	for d := range v {
		v[d].Starts(0, v[d].Sent, func(at int, _ *seg) {
			if decoyIn(&v[d], d, m[d], at, at+1) {
				o.decoys++
			}
		})
	}
	// client, server: the place in the stream and what it belongs to is certain.
	client, server := !v[0].Joined, !v[1].Joined
	// end: the end of the answer before is known, as a place. unproven: the client
	// was found again, and nothing has shown yet that no other request was in the
	// hole whose answer could be taken for this one's; or the server was, and nothing
	// has shown yet that what was in the hole answered all that was asked before.
	end, unproven, stuck := server, false, false
	swallowed := false
	guess := false // the end is known if that was no answer to a HEAD, or its head's end if it was
	// misled is where the answer begins, or goes on behind an interim one, that a reader
	// must take for that to the first request it sees, but other ones wait.
	misled := -1
	if v[0].Joined {
		for x := range n {
			if g, _ := v[0].Begins(m[0][x].from); m[0][x].from == v[0].From && g != nil && (m[1][x].from < 0 || v[0].Ack(g) < m[1][x].from) {
				misled = v[0].Ack(g)
			}
		}
	}
	// placed: the answer before began where that was certain, and its end is known.
	placed := server
	carried := false // of one before
	// seek is where each direction was lost.
	seek := [2]int{}
	for x := range n {
		q, a := &m[0][x], &m[1][x]
		qh, ah := holesIn(q, v[0].Lost, content[0]), holesIn(a, v[1].Lost, content[1])
		if head := uint64(q.heads[0][1] - q.from); o.least == 0 || head < o.least {
			o.least = head
		}
		if !within(v[0].Never, q) || !within(v[1].Never, a) {
			o.shown++
		}
		if len(a.heads) == 0 {
			// The server ended before it answered.
			o.begun[x], o.whole[x], o.why[x] = client && !qh.head, false, "it has no answer"
			client, server, end, placed = client && !qh.place, false, false, false
			continue
		}
		why := ""
		no := func(format string, args ...any) {
			if why == "" {
				why = fmt.Sprintf(format, args...)
			}
		}
		// The request. Where the place is lost, it begins for certain where a
		// segment does, with a whole method, which the client sent when it
		// had received the answer before to its end.
		known, found, early := client, false, false
		if !known {
			g, exact := v[0].Begins(q.from)
			switch {
			case g == nil:
				no("its request begins with no segment")
			case !exact:
				no("its request's segment is a copy")
			case bytes.IndexByte(g.Payload, ' ') < 0:
				// A reader must not take what only begins like one.
				no("its method is in two segments")
			case firstSeen(&v, q, a, bytes.Contains(stream[0][q.from:q.body], []byte("\r\nExpect:"))) && !s.Pipelined:
				known, found, early = true, true, true
			case x == 0 || !end:
				no("the end of the answer before is not known")
			case v[0].Ack(g) != m[1][x-1].to:
				no("its request was sent before the answer before was whole")
			case !news(&v[0], q.from, g):
				no("nobody can tell that the answer before came behind what was lost")
			case decoyIn(&v[0], 0, m[0], seek[0], q.from):
				no("content before its request reads like one")
			default:
				known, found = true, true
			}
		}
		if !known {
			no("nobody knows where its request begins")
		}
		if known && !qh.head {
			o.begun[x] = true
		}
		first, _ := v[1].Begins(a.from)
		answered, certain := server, server && !(unproven && (!known || qh.any))
		sought := false // only its request says where its answer begins
		if !answered {
			switch {
			case first == nil:
				no("its answer begins with no segment")
			case !known:
			case s.Pipelined && !found:
				// Of requests that wait together a place in the stream of answers
				// does not say whose it is.
				no("pipelined, and the server's direction was lost")
			default:
				g, exact := v[0].Begins(q.from)
				if g == nil || !exact || v[0].Ack(g) != a.from {
					no("its request does not say where its answer begins")
				} else {
					answered, unproven, sought = true, true, !(found && placed)
				}
			}
		}
		unproven = unproven || found
		carried = unproven && (sought || carried)
		sought = carried // like one before that nothing proved
		if o.whole[x] = !qh.any && !ah.any; !o.whole[x] {
			no("it lost bytes")
		}
		if why == "" && unproven {
			switch {
			case bytes.HasPrefix(stream[1][a.body:a.to], []byte("HTTP/1")):
				// It may be the head alone of what answers a HEAD in the hole.
				no("its answer's content reads like an answer")
			case x+1 == n && sought && !early:
				// What was lost may be an interim answer to a request before, and this
				// the final one, behind which the server ended.
				no("nothing shows that the client waits for nothing else")
			case x+1 == n:
				unproven = false
			case !sentAt(&v[0], &m[0][x+1], a.to),
				holesIn(&m[0][x+1], v[0].Lost, content[0]).head && wentOn(&v[0], left, a.to):
				// Its answer may be that of a request in the hole: one that was
				// sent with it, whose own answer would then follow.
				no("nothing shows that the client waited for this answer")
			default:
				unproven = false
			}
		}
		elsewhere := sought && bytes.HasPrefix(stream[0][q.from:], []byte("HEAD ")) && hasContent(stream[1][:a.body], a)
		if elsewhere {
			// What answers another request ends behind its content.
			no("the end of its answer is not known")
		}
		if stuck {
			no("a request was sent with one that nothing proved")
		}
		if known && unproven && x+1 < n && !holesIn(&m[0][x+1], v[0].Lost, content[0]).head && !sentAt(&v[0], &m[0][x+1], a.to) {
			// The client is in the middle of pipelining, nobody knows since when:
			// how many answers are still to come for what was in the hole.
			stuck = true
		}
		o.must[x], o.why[x] = why == "", why
		sure := first != nil && len(first.Payload) >= len("HTTP/1.1 ")
		// What the next one finds. Where nobody knows what an answer answers, its
		// head says where it ends, if it is not that to a HEAD: where content begins
		// like an answer, it may be the next.
		method := known && !qh.head
		// What was found where the answers' place is not certain is a request for
		// certain only when an answer with a whole head, an interim one too, begins where
		// it says.
		if found && !server && (!answered || segmenttest.Misses(v[1].Lost, a.heads[0][0], a.heads[0][1])) {
			known = false
		}
		if client = known && !qh.place; known && !client {
			seek[0] = q.from
		}
		if !sure && guess {
			// What follows may be content of the answer that a HEAD may have had or
			// not, until a request says that an answer begins.
			swallowed = true
		}
		swallowed = swallowed && !(answered && !qh.place) || a.from <= misled && misled < a.to
		switch {
		case ah.place || swallowed:
			server, end, seek[1] = false, false, a.from
		case guess && !sure && (!known || qh.place):
			// The one before may have answered a HEAD or not, and no request says
			// that the next begins here.
			server, end, seek[1] = false, false, a.from
		case answered && method:
			server, end = true, true
		case decoyIn(&v[1], 1, m[1], a.body, a.body+1):
			server, end, seek[1] = false, false, a.from
		case answered || server:
			server, end = false, true
		default:
			end = sure && !decoyIn(&v[1], 1, m[1], seek[1], a.from)
			server = false
		}
		if elsewhere {
			server, end = false, false
		}
		// A final head that stands where no request says, as behind a hole in an interim
		// one, is read without the method.
		final := a.heads[len(a.heads)-1][0]
		g, _ := v[1].Begins(final)
		swallows := g != nil && len(g.Payload) >= len("HTTP/1.1 ") && bytes.HasPrefix(stream[0][q.from:], []byte("HEAD ")) &&
			(!answered || segmenttest.Misses(v[1].Lost, a.from, final))
		guess = end && !method || swallows && !end
		placed = end && certain && (method || !bytes.HasPrefix(stream[0][q.from:], []byte("HEAD ")))
	}
	return o
}

// firstSeen says whether the first bytes that are seen of a client that was joined late
// are a request for certain: the answer to it begins where it says, with a segment that
// acknowledges exactly what the client had sent of it.
func firstSeen(v *[2]segmenttest.View, q, a *message, waits bool) bool {
	if !v[0].Joined || q.from != v[0].From {
		return false
	}
	g, _ := v[0].Begins(q.from)
	f, exact := v[1].Begins(a.from)
	if f == nil || !exact || v[0].Ack(g) != a.from {
		return false
	}
	if !waits {
		return v[1].Ack(f) == q.to
	}
	// It waits for a 100 before it goes on.
	b, _ := v[0].Begins(q.heads[0][1])
	return b != nil && v[1].Ack(f) == q.heads[0][1] && v[0].Ack(b) > a.from
}

// hasContent says whether the final head of an answer is that of one with content, when
// that does not answer a HEAD.
func hasContent(stream []byte, a *message) bool {
	head := stream[a.heads[len(a.heads)-1][0]:]
	return !bytes.Contains(head, []byte(" 204 ")) && !bytes.Contains(head, []byte(" 304 ")) && !bytes.Contains(head, []byte("Length: 0\r\n"))
}

// news says whether a segment acknowledges more than anything before it.
func news(v *segmenttest.View, at int, g *seg) bool {
	ack, ok := v.Before(at)
	return ok && v.Ack(g) > ack
}

// decoyIn says whether a segment that begins in [from, to) reads like the beginning
// of a message and is none.
func decoyIn(v *segmenttest.View, d int, m []message, from, to int) (yes bool) {
	v.Starts(from, to, func(at int, g *seg) {
		like := []string{"GET ", "HTTP/1."}[d]
		yes = yes || bytes.HasPrefix(g.Payload, []byte(like)) && !slices.ContainsFunc(m, func(x message) bool {
			return x.from == at || slices.ContainsFunc(x.heads, func(h [2]int) bool { return h[0] == at })
		})
	})
	return yes
}

// sentAt says whether a segment of a message shows that its sender had received the
// other stream up to exactly a place.
func sentAt(v *segmenttest.View, m *message, ack int) (yes bool) {
	v.Starts(m.from, m.to, func(at int, g *seg) {
		_, exact := v.Begins(at)
		yes = yes || exact && v.Ack(g) == ack
	})
	return yes
}

// wentOn says whether bytes of the server behind a place were captured before any of the
// client that show that it had received exactly what is before it.
func wentOn(v *segmenttest.View, left []seg, at int) bool {
	for i := range left {
		switch s := &left[i]; {
		case len(s.Payload) == 0:
		case s.ToServer && v.Ack(s) == at:
			return false
		case !s.ToServer && v.Ack(&seg{Ack: s.Seq + uint32(len(s.Payload))}) > at:
			return true
		}
	}
	return false
}

// within says whether a message lies wholly in one of the ranges.
func within(ranges [][2]int, m *message) bool {
	return slices.ContainsFunc(ranges, func(l [2]int) bool { return l[0] <= m.from && m.to <= l[1] })
}
