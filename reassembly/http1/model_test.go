package http1_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// model writes HTTP/1 conversations.
type model struct {
	pipeline bool
	// apart: each interim head, the final one and pieces of the body are sent
	// at times of their own, and what the client sends may stand between them and
	// acknowledge them or not. A client that pipelines waits for all answers or for
	// none: nobody could tell one that sends its next request at the end of an answer,
	// and waits for others, from one that does not pipeline.
	apart bool
}

type (
	seg    = segmenttest.Segment
	result = segmenttest.Result
)

// line is how the model tells exchanges apart.
func line(method, target string, status, reqN, respN int, req, resp [32]byte, interim int) string {
	return fmt.Sprintf("%s %s %d req %d:%x resp %d:%x interim %d", method, target, status, reqN, req[:4], respN, resp[:4], interim)
}

func lineOf(x *exchange.Exchange) string {
	q, a := x.Request, x.Response
	return line(q.Method, q.Target, a.Status, int(q.Body.Size), int(a.Body.Size), sumOf(&q.Body), sumOf(&a.Body), len(a.Interim))
}

func lines(res *result) (l []string) {
	for _, x := range res.Exchanges {
		l = append(l, lineOf(x))
	}
	return l
}

// certain are the lines of exchanges without doubt about their bytes.
func certain(res *result) (l []string) {
	for _, x := range res.Exchanges {
		if x.Doubt != exchange.DoubtOverlap {
			l = append(l, lineOf(x))
		}
	}
	return l
}

// answered are the lines of exchanges that had an answer.
func answered(wants []string) []string {
	return slices.DeleteFunc(slices.Clone(wants), func(l string) bool { return l == "" })
}

// finals are lines without the number of interim answers.
func finals(l []string) (out []string) {
	for _, l := range l {
		l, _, _ = strings.Cut(l, " interim ")
		out = append(out, l)
	}
	return out
}

// script collects the messages of a conversation.
type script struct {
	r *rand.Rand
	c segmenttest.Conversation
	// cross lets messages cross those of the other side.
	cross bool
	// Of each side, the client first: how much it has sent, where its last message
	// began, and what it has acknowledged.
	sent, last, acked [2]int
	begun             int          // where the last request began
	newest            int          // its exchange
	ends              map[int]bool // of final answers
}

// unread is how much of what the other side has sent a message does not know yet.
func (s *script) unread(toServer bool, x int) int {
	d, from := 0, 0
	switch {
	case toServer && (s.c.Pipelined || x == s.newest):
		if from = max(s.last[1], s.acked[0]); from > s.acked[0] && s.ends[from] {
			return 0
		}
	case !toServer && x < s.newest:
		d, from = 1, max(s.begun, s.acked[1])
	default:
		return 0
	}
	if s.r.IntN(3) > 0 {
		return 0
	}
	return s.sent[1-d] - from
}

// part is a piece of a message, of one kind.
type part struct {
	kind  segmenttest.Part
	bytes []byte
}

func (s *script) send(toServer bool, x int, parts ...part) {
	m := segmenttest.Message{ToServer: toServer}
	for _, p := range parts {
		from := len(m.Bytes)
		m.Bytes = append(m.Bytes, p.bytes...)
		m.Spans = append(m.Spans, segmenttest.Span{Part: p.kind, From: from, To: len(m.Bytes), Exchange: x})
	}
	if len(m.Bytes) == 0 {
		return
	}
	d := 1
	if toServer {
		d = 0
	}
	if s.cross {
		m.Unread = s.unread(toServer, x)
	}
	if toServer && x != s.newest {
		s.newest, s.begun = x, s.sent[0]
	}
	s.acked[d] = s.sent[1-d] - m.Unread
	s.last[d] = s.sent[d]
	s.sent[d] += len(m.Bytes)
	s.c.Messages = append(s.c.Messages, m)
}

// message sends a head and its body, in one write or in two.
func (s *script) message(toServer bool, x int, head string, body []part) {
	h := part{segmenttest.Head, []byte(head)}
	if s.r.IntN(2) == 0 {
		s.send(toServer, x, append([]part{h}, body...)...)
		return
	}
	s.send(toServer, x, h)
	s.send(toServer, x, body...)
}

// ack lets a side acknowledge what it has.
func (s *script) ack(toServer bool) {
	d := 1
	if toServer {
		d = 0
	}
	s.acked[d] = s.sent[1-d]
	s.c.Messages = append(s.c.Messages, segmenttest.Message{ToServer: toServer})
}

// piece is what a server sends at once of an answer. last: it ends with it.
type piece struct {
	exchange int
	parts    []part
	last     bool
}

// pieces cuts an answer with so many interim heads.
func (s *script) pieces(x, interim int, head string, body []part) (out []piece) {
	for range interim {
		h := []string{"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n"}[s.r.IntN(2)]
		out = append(out, piece{x, []part{{segmenttest.Head, []byte(h)}}, false})
	}
	out = append(out, piece{x, []part{{segmenttest.Head, []byte(head)}}, false})
	for i, b := range body {
		if i > 0 && s.r.IntN(4) > 0 {
			p := &out[len(out)-1]
			p.parts = append(p.parts, b)
			continue
		}
		at := 0
		if len(b.bytes) > 1 && s.r.IntN(2) == 0 {
			at = 1 + s.r.IntN(len(b.bytes)-1)
			out = append(out, piece{x, []part{{b.kind, b.bytes[:at]}}, false})
		}
		if at < len(b.bytes) {
			out = append(out, piece{x, []part{{b.kind, b.bytes[at:]}}, false})
		}
	}
	out[len(out)-1].last = true
	return out
}

// answer sends a piece.
func (s *script) answer(p piece) {
	s.send(false, p.exchange, p.parts...)
	if p.last {
		s.ends[s.sent[1]] = true
	}
	if s.r.IntN(3) == 0 {
		s.ack(true)
	}
}

func filler(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+80)
	for len(b) < n {
		switch r.IntN(8) {
		case 0:
			b = append(b, "GET /decoy HTTP/1.1\r\nHost: d\r\n\r\n"...)
		case 1:
			b = append(b, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"...)
		case 2:
			b = append(b, "\r\n\r\n0\r\n\r\n"...)
		default:
			for k := r.IntN(200); k >= 0; k-- {
				b = append(b, byte(r.IntN(256)))
			}
		}
	}
	return b[:n]
}

func chunks(r *rand.Rand, b []byte) (out []part) {
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(max(700, len(b)/4)))
		ext := ""
		if r.IntN(4) == 0 {
			ext = `;n="a;b"`
		}
		out = append(out, part{segmenttest.ChunkLine, fmt.Appendf(nil, "%x%s\r\n", n, ext)},
			part{segmenttest.Body, b[:n]}, part{segmenttest.ChunkLine, []byte("\r\n")})
		b = b[n:]
	}
	end := "0\r\n"
	if r.IntN(3) == 0 {
		end += "X-Sum: GET / HTTP/1.1\r\n"
	}
	return append(out, part{segmenttest.ChunkLine, []byte(end + "\r\n")})
}

// Write implements segmenttest.Model.
func (m model) Write(r *rand.Rand, small bool) *segmenttest.Conversation {
	w := &script{r: r, cross: m.apart, newest: -1, ends: map[int]bool{}}
	w.c.Pipelined = m.pipeline
	size := func() int {
		if small {
			return r.IntN(60)
		}
		if r.IntN(100) == 0 {
			return r.IntN(600_000) // more than a super-packet holds
		}
		return []int{0, 1, r.IntN(200), r.IntN(5000), r.IntN(40000)}[r.IntN(5)]
	}
	n := 1 + r.IntN(7)
	var waiting []func()
	flush := func() {
		for _, send := range waiting {
			send()
		}
		waiting = nil
	}
	// later is what is still to be sent of answers, when that is apart.
	var later []piece
	closed := false
	for x := range n {
		interim := 0
		method := []string{"GET", "GET", "POST", "HEAD", "PUT", "PURGE"}[r.IntN(6)]
		target := fmt.Sprintf("/t/%d?x=%d", x, r.Uint32())
		head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: h\r\nX-Pad: %s\r\n", method, target, strings.Repeat("p", r.IntN(100)))
		var body []byte
		var wire []part
		wait100 := false
		if method == "POST" || method == "PUT" {
			body = filler(r, size())
			if r.IntN(2) == 0 {
				head += "Transfer-Encoding: chunked\r\n"
				wire = chunks(r, body)
			} else {
				head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
				wire = []part{{segmenttest.Body, body}}
			}
			if !m.pipeline && (len(body) > 0 || len(wire) > 1) && r.IntN(3) == 0 {
				wait100 = true
				head += "Expect: 100-continue\r\n"
			}
		}
		head += "\r\n"
		if wait100 {
			w.send(true, x, part{segmenttest.Head, []byte(head)})
			w.send(false, x, part{segmenttest.Head, []byte("HTTP/1.1 100 Continue\r\n\r\n")})
			interim++
			w.send(true, x, wire...)
		} else if m.apart && len(wire) > 0 && r.IntN(2) == 0 {
			// Its body waits, and an answer before it or an interim one comes.
			w.send(true, x, part{segmenttest.Head, []byte(head)})
			switch {
			case len(later) > 0 && (!later[0].last || len(later) == 1):
				w.answer(later[0])
				later = later[1:]
			case len(later) == 0 && r.IntN(2) == 0:
				w.send(false, x, part{segmenttest.Head, []byte("HTTP/1.1 102 Processing\r\n\r\n")})
				interim++
			}
			w.send(true, x, wire...)
		} else {
			w.message(true, x, head, wire)
		}
		status := []int{200, 200, 404, 500, 204, 304}[r.IntN(6)]
		rbody := filler(r, size())
		if m.apart && r.IntN(3) == 0 {
			rbody = append([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), rbody[:len(rbody)*r.IntN(2)]...)
		}
		rhead := fmt.Sprintf("HTTP/1.1 %d Some Reason\r\nServer: s\r\n", status)
		var rwire []part
		switch {
		case status == 204 || status == 304:
			rbody = nil
			if status == 304 {
				rhead += "Content-Length: 1234\r\n"
			}
		case x == n-1 && method != "HEAD" && r.IntN(3) == 0:
			rwire, closed = []part{{segmenttest.Body, rbody}}, true
		case r.IntN(2) == 0:
			rhead += "Transfer-Encoding: chunked\r\n"
			rwire = chunks(r, rbody)
		default:
			rhead += fmt.Sprintf("Content-Length: %d\r\n", len(rbody))
			rwire = []part{{segmenttest.Body, rbody}}
		}
		if method == "HEAD" {
			rbody, rwire = nil, nil
		}
		rhead += "\r\n"
		if m.apart {
			hints := r.IntN(3)
			interim += hints
			later = append(later, w.pieces(x, hints, rhead, rwire)...)
			w.c.Wants = append(w.c.Wants, line(method, target, status, len(body), len(rbody), sha256.Sum256(body), sha256.Sum256(rbody), interim))
			for end := false; len(later) > 0 && (end || !m.pipeline || r.IntN(3) > 0); later = later[1:] {
				w.answer(later[0])
				end = later[0].last
			}
			continue
		}
		early := r.IntN(6) == 0
		if early {
			interim++
		}
		waiting = append(waiting, func() {
			if early {
				w.send(false, x, part{segmenttest.Head, []byte("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")})
			}
			w.message(false, x, rhead, rwire)
			if r.IntN(2) == 0 {
				w.ack(true)
			}
		})
		w.c.Wants = append(w.c.Wants, line(method, target, status, len(body), len(rbody), sha256.Sum256(body), sha256.Sum256(rbody), interim))
		if !m.pipeline || r.IntN(3) == 0 {
			flush()
		}
	}
	flush()
	cut := m.apart && r.IntN(4) == 0
	for i, p := range later {
		w.answer(p)
		if cut && p.last && i+1 < len(later) {
			// The server ends the connection here, whoever waits.
			for y := p.exchange + 1; y < n; y++ {
				w.c.Wants[y] = ""
			}
			closed = true
			break
		}
	}
	w.c.FIN = closed || r.IntN(2) == 0
	return &w.c
}

func run(t testing.TB, segs []seg, path segmenttest.Path, w exchange.Want) result {
	t.Helper()
	return segmenttest.Play(t, segs, path, w, func(c *segmenttest.Collector, b *reassembly.Budget) (segmenttest.Parser, error) {
		return http1.New(http1.Config{Keeper: c, Sink: c, Budget: b})
	})
}

// What the network may do to the segments does not change the exchanges.
func TestExchangesSurviveTheNetwork(t *testing.T) { exchangesSurviveTheNetwork(t, false) }

// The same for answers in pieces, with requests between them.
func TestAnswersInPiecesSurviveTheNetwork(t *testing.T) { exchangesSurviveTheNetwork(t, true) }

func exchangesSurviveTheNetwork(t *testing.T, apart bool) {
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := segmenttest.Stage(r, model{r.IntN(3) == 0, apart})
		w := exchange.WantList
		if r.IntN(2) == 0 {
			w = exchange.WantWhole
		}
		res := run(t, s.Segs, s.Path, w)
		if got := lines(&res); !segmenttest.Same(got, answered(s.Wants)) {
			segmenttest.Dump(t, s.Segs)
			t.Errorf("%s: got %d exchanges\n%s\nwant\n%s\n%+v", s, len(got), strings.Join(got, "\n"), strings.Join(s.Wants, "\n"), res.Parser)
		}
		if n := run(t, s.Segs, s.Path, exchange.WantFrame).N; n != len(answered(s.Wants)) {
			t.Errorf("%s: framed only: %d of %d", s, n, len(answered(s.Wants)))
		}
	})
}

// With segments missing nothing false is reported, and each exchange that a reader
// can prove from what is left is there, pipelined or not.
func TestLossSpoilsOnlyItsExchanges(t *testing.T) { lossSpoilsOnlyItsExchanges(t, false) }

// The same for answers in pieces, with requests between them.
func TestLossAmongAnswersInPieces(t *testing.T) { lossSpoilsOnlyItsExchanges(t, true) }

func lossSpoilsOnlyItsExchanges(t *testing.T, apart bool) {
	untouched, must, kept := [2]int{}, [2]int{}, [2]int{}
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := segmenttest.Stage(r, model{r.IntN(4) == 0, apart})
		left := segmenttest.Drop(r, s.Segs, s.Path, []int{3, 10, 40}[r.IntN(3)])
		res := run(t, left, s.Path, exchange.WantList)
		lost, _ := segmenttest.Compare(lines(&res), s.Wants)
		if _, bad := segmenttest.Compare(certain(&res), s.Wants); len(bad) > 0 {
			segmenttest.Dump(t, left)
			t.Errorf("%s: false exchanges %q\n%+v", s, bad, res.Parser)
		}
		o := survive(s, left)
		named(t, s, left, o, &res)
		p := 0
		if s.Pipelined {
			p = 1
		}
		for x := range s.Wants {
			missing := slices.Contains(lost, x)
			if o.whole[x] {
				untouched[p]++
				if !missing {
					kept[p]++
				}
			}
			if !o.must[x] {
				continue
			}
			if must[p]++; missing {
				segmenttest.Dump(t, left)
				t.Errorf("%s: exchange %d (%s) is missing, and what is left proves it\n%q\n%+v", s, x, s.Wants[x], o.why, res.Parser)
			}
		}
	})
	for p, how := range []string{"not pipelined", "pipelined"} {
		t.Logf("%s: %d exchanges lost nothing, %d of them are there, %d of them must be", how, untouched[p], kept[p], must[p])
	}
	// What the oracle asks for is not little.
	for p, share := range []int{80, 60} {
		if must[p]*100 < untouched[p]*share {
			t.Errorf("the oracle asks for %d of %d exchanges that lost nothing", must[p], untouched[p])
		}
	}
}

// named asserts that the ledger names each exchange: it was started, and Play has
// seen to it that it then ends in one counter, or nobody could see it begin. Of one of
// those of which anything was captured the request's head is counted behind a gap or
// in one. Content that reads like the beginning
// of a message may be counted besides, where a reader seeks.
func named(t *testing.T, s *segmenttest.Scene, left []seg, o *survivors, res *result) {
	t.Helper()
	begun := 0
	for _, b := range o.begun {
		if b {
			begun++
		}
	}
	n := int(res.Parser.Started)
	if n < begun || n > len(s.Wants)+o.decoys {
		segmenttest.Dump(t, left)
		t.Errorf("%s: %d started, of %d exchanges %d were seen to begin, and %d places read like one\n%+v", s, n, len(s.Wants), begun, o.decoys, res.Parser)
	}
	if hidden := o.shown - n; hidden > 0 && res.Parser.AfterGap+res.Assembler.GapBytes < uint64(hidden)*o.least {
		t.Errorf("%s: %d exchanges are in no counter, and %d bytes behind gaps, %d in them: %+v", s, hidden, res.Parser.AfterGap, res.Assembler.GapBytes, res.Parser)
	}
}

// A hole inside a body leaves the framing exact: whatever else was sent is
// there, pipelined or not.
func TestHolesInBodiesSpoilOnlyTheirExchange(t *testing.T) {
	holesInBodiesSpoilOnlyTheirExchange(t, false)
}

// The same for answers in pieces, with requests between them.
func TestHolesInAnswersInPieces(t *testing.T) { holesInBodiesSpoilOnlyTheirExchange(t, true) }

func holesInBodiesSpoilOnlyTheirExchange(t *testing.T, apart bool) {
	holes := 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := segmenttest.Stage(r, model{r.IntN(3) == 0, apart})
		left := segmenttest.DropInside(r, s.Segs, s.Path, []int{2, 3, 10}[r.IntN(3)])
		res := run(t, left, s.Path, exchange.WantList)
		lost, _ := segmenttest.Compare(lines(&res), s.Wants)
		hits := segmenttest.Touched(s.Whole, left)
		for _, x := range lost {
			if h := hits[x]; !h.Request && !h.Response {
				segmenttest.Dump(t, left)
				t.Errorf("%s: exchange %d lost nothing and is missing: %v\n%+v", s, x, hits, res.Parser)
			}
		}
		if _, bad := segmenttest.Compare(certain(&res), s.Wants); len(bad) > 0 {
			t.Errorf("%s: false exchanges %q", s, bad)
		}
		if int(res.Parser.Started) != len(s.Wants) {
			t.Errorf("%s: %d exchanges, %d started", s, len(s.Wants), res.Parser.Started)
		}
		holes += int(res.Assembler.Gaps)
	})
	if holes == 0 {
		t.Error("no hole was made")
	}
}

// A capture that begins in the middle never shows what was not there, and shows each
// exchange that a reader can prove.
func TestLateJoin(t *testing.T) { lateJoin(t, false) }

// The same for answers in pieces, with requests between them.
func TestLateJoinAmongAnswersInPieces(t *testing.T) { lateJoin(t, true) }

func lateJoin(t *testing.T, apart bool) {
	kept, whole, must := 0, 0, 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := segmenttest.Stage(r, model{r.IntN(4) == 0, apart})
		cut, _ := segmenttest.Join(r, s.Whole)
		s.Capture(r, cut)
		segs := s.Segs
		if decoy(segs) {
			return
		}
		res := run(t, segs, s.Path, exchange.WantList)
		lost, _ := segmenttest.Compare(lines(&res), s.Wants)
		// Interim answers may have come before the join.
		if _, bad := segmenttest.Compare(finals(certain(&res)), finals(s.Wants)); len(bad) > 0 && !(len(bad) == 1 && believed(s, segs, bad[0])) {
			segmenttest.Dump(t, segs)
			t.Errorf("%s: false exchanges %q\n%+v", s, bad, res.Parser)
		}
		o := survive(s, segs)
		for x := range s.Wants {
			missing := slices.Contains(lost, x)
			if o.whole[x] {
				whole++
				if !missing {
					kept++
				}
			}
			if !o.must[x] {
				continue
			}
			if must++; missing {
				segmenttest.Dump(t, segs)
				t.Errorf("%s: exchange %d (%s) is missing, and what was captured proves it\n%q\n%+v", s, x, s.Wants[x], o.why, res.Parser)
			}
		}
	})
	t.Logf("%d exchanges are whole behind the join, %d of them are there, %d of them must be", whole, kept, must)
	share := 60
	if apart {
		share = 50 // an interim answer before the join hides where its final one belongs
	}
	if must*100 < whole*share {
		t.Errorf("the oracle asks for %d of %d exchanges", must, whole)
	}
}

// believed says whether a line is that of the first request that was captured, and had no
// answer: the server ended behind one that begins, or goes on behind an interim one, where
// the request says. As the package's doc has it, it is believed.
func believed(s *segmenttest.Scene, segs []seg, l string) bool {
	of := strings.Fields(l)
	first := slices.IndexFunc(segs, func(g seg) bool {
		return g.ToServer && strings.HasPrefix(string(g.Payload), of[0]+" "+of[1]+" ")
	})
	return first >= 0 && slices.Contains(s.Wants, "") && !slices.ContainsFunc(segs, func(g seg) bool {
		return g.ToServer && len(g.Payload) > 0 && !g.Probe && int32(g.Seq-segs[first].Seq) < 0
	})
}

// decoy says that the first that is seen of the client is content that reads
// like a request from its first byte on: no reader can know.
func decoy(segs []seg) bool {
	for i := range segs {
		if s := &segs[i]; s.ToServer && len(s.Payload) > 0 {
			return bytes.HasPrefix(s.Payload, []byte("GET / HTTP/1.1\r\n")) || bytes.HasPrefix(s.Payload, []byte("GET /decoy "))
		}
	}
	return false
}

// Every byte alone in its segment gives the same as one segment a message.
func TestEveryCut(t *testing.T) {
	req := "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nT: 1\r\n\r\n"
	resp := "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
	for cut := 1; cut < len(req)+len(resp); cut++ {
		segs := []seg{
			{ToServer: true, Seq: 99, Flags: reassembly.SYN},
			{Seq: 199, Ack: 100, Flags: reassembly.SYN | reassembly.ACK},
		}
		both := []byte(req + resp)
		for from := 0; from < len(both); {
			to := len(both)
			if from < cut {
				to = cut
			}
			if from < len(req) {
				to = min(to, len(req))
				segs = append(segs, seg{ToServer: true, Seq: 100 + uint32(from), Ack: 200, Flags: reassembly.ACK, Payload: both[from:to]})
			} else {
				segs = append(segs, seg{Seq: 200 + uint32(from-len(req)), Ack: 100 + uint32(len(req)), Flags: reassembly.ACK, Payload: both[from:to]})
			}
			from = to
		}
		res := run(t, segs, segmenttest.Live, exchange.WantWhole)
		if len(res.Exchanges) != 1 || res.Exchanges[0].Request.Body.Size != 3 || res.Exchanges[0].Response.Body.Size != 4 {
			t.Fatalf("cut at %d: %v %+v", cut, lines(&res), res.Parser)
		}
		q := res.Exchanges[0].Request
		if !bytes.Equal(q.Head, []byte(req[:strings.Index(req, "\r\n\r\n")+4])) || string(q.Wire) != req[len(q.Head):] || string(q.Body.Bytes) != "abc" || q.Trailer.Get("t") != "1" {
			t.Fatalf("cut at %d: head %q wire %q body %q", cut, q.Head, q.Wire, q.Body.Bytes)
		}
	}
}

// sumOf is the SHA-256 of a body's content, zero when it is not known.
func sumOf(b *exchange.Body) [sha256.Size]byte {
	sum, _ := b.Sum256()
	return sum
}
