package http1_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// skipTap does what the program does with a skip (not_wanted in bpf/tap.bpf.c), at
// the time of the hook; the parser reads later.
type skipTap struct {
	r       *rand.Rand
	streams map[reassembly.Stream]*skipState
	skipped int
	ranges  int
	rests   int
	forgets bool
}

type skipState struct {
	kind, from, to, first, at uint32
}

func (k *skipTap) Skip(s *reassembly.Stream, from, to uint32) {
	k.ranges++
	if k.r.IntN(10) == 0 {
		return // it is advice
	}
	k.streams[*s] = &skipState{kind: 1, from: from, to: to}
}

func (k *skipTap) SkipRest(s *reassembly.Stream) {
	k.rests++
	k.streams[*s] = &skipState{kind: 3}
}

func (k *skipTap) Skipped(s *reassembly.Stream) (first, at uint32, ok bool) {
	v := k.streams[*s]
	if v == nil {
		return 0, 0, false
	}
	return v.first, v.at, v.first != v.at
}

// takes says whether a segment is captured.
func (k *skipTap) takes(s *reassembly.Segment) bool {
	key := reassembly.Stream{Src: s.Src, Dst: s.Dst, SrcPort: s.SrcPort, DstPort: s.DstPort}
	v := k.streams[key]
	if v != nil && k.forgets && k.r.IntN(200) == 0 {
		delete(k.streams, key) // evicted
		v = nil
	}
	end := s.Seq + uint32(len(s.Payload))
	switch {
	case v == nil || v.kind == 0:
		return true
	case s.Flags&reassembly.SYN != 0:
		v.kind = 0
		return true
	case len(s.Payload) == 0 || s.Flags&(reassembly.FIN|reassembly.RST) != 0:
		return true
	case v.kind == 3:
	case v.kind == 1:
		if int32(s.Seq-v.from) < 0 {
			return true
		}
		if int32(end-v.to) > 0 {
			v.kind = 0
			return true
		}
		v.kind, v.first, v.at = 2, s.Seq, end
	default:
		if int32(s.Seq-v.first) < 0 {
			return true
		}
		if int32(s.Seq-v.at) > 0 || int32(end-v.to) > 0 {
			v.kind = 0
			return true
		}
		if int32(end-v.at) > 0 {
			v.at = end
		}
	}
	k.skipped++
	return false
}

// Skip and SkipRest are those of the assembler, which does not exist yet when
// the parser is made.
type skipper struct{ a *reassembly.Assembler }

func (s *skipper) Skip(c *reassembly.Conn, d reassembly.Dir, n uint64) uint64 {
	return s.a.Skip(c, d, n)
}
func (s *skipper) SkipRest(c *reassembly.Conn) { s.a.SkipRest(c) }

// some keeps some of the exchanges, by their target.
type some struct{ segmenttest.Collector }

func keeps(target []byte) bool {
	h := fnv.New32a()
	h.Write(target)
	return h.Sum32()%4 == 0
}

func (c *some) Keep(h *exchange.Head) exchange.Decision {
	if keeps(h.Target) {
		return exchange.Decision{Want: exchange.WantWhole}
	}
	return exchange.Decision{}
}

// runSkipping is run for a live ring that is read up to lag segments late, with
// a tap that skips what it is told to, or with nil all captured.
func runSkipping(t testing.TB, segs []seg, k *skipTap, lag int) result {
	t.Helper()
	col := &some{}
	budget := &reassembly.Budget{Limit: 64 << 20}
	cfg := http1.Config{Keeper: col, Sink: col, Budget: budget}
	sk := &skipper{}
	if k != nil {
		cfg.Skipper = sk
	}
	p, err := http1.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ac := reassembly.Config{Factory: p, Budget: budget}
	if k != nil {
		ac.Skipper = k
	}
	a, err := reassembly.New(ac)
	if err != nil {
		t.Fatal(err)
	}
	sk.a = a
	ring := make([]seg, 0, lag+1)
	read := func(x *seg) {
		if x.PureACK() && !a.HoleOpen() {
			return
		}
		var s reassembly.Segment
		x.Fill(&s)
		a.Segment(&s)
	}
	for i := range segs {
		var s reassembly.Segment
		segs[i].Fill(&s)
		if k == nil || k.takes(&s) {
			ring = append(ring, segs[i])
		}
		for len(ring) > lag {
			read(&ring[0])
			ring = ring[1:]
		}
		if i%50 == 49 {
			a.Tick(segs[i].Time)
		}
	}
	for i := range ring {
		read(&ring[i])
	}
	a.Close(reassembly.CloseDone)
	res := result{Collector: &col.Collector, Parser: p.Stats(), Assembler: a.Stats()}
	segmenttest.CheckLedger(t, &res, budget)
	return res
}

// cutOff ends a conversation in the middle or behind an answer: silently, by a
// reset or by a FIN; and of the segments that nobody answered to one may not
// have come as far as the tap.
func cutOff(r *rand.Rand, segs []seg) []seg {
	n := 3 + r.IntN(len(segs)-2)
	if r.IntN(2) == 0 {
		for n < len(segs) && (segs[n].ToServer || segs[n].Exchange == segs[n-1].Exchange) {
			n++
		}
	}
	segs = append([]seg(nil), segs[:n]...)
	burst := n
	for burst > 3 && segs[burst-1].ToServer == segs[n-1].ToServer {
		burst--
	}
	if r.IntN(3) == 0 {
		gone := burst + r.IntN(max(n-burst, 1))
		if gone < n-1 && segs[gone].Flags&(reassembly.SYN|reassembly.FIN) == 0 {
			segs = slices.Delete(segs, gone, gone+1)
			n--
		}
	}
	if r.IntN(3) == 0 {
		return segs
	}
	e := seg{ToServer: r.IntN(2) == 0, Flags: reassembly.ACK, Exchange: -1, Time: segs[n-1].Time + 10_000}
	e.Flags |= []reassembly.Flags{reassembly.RST, reassembly.FIN}[r.IntN(2)]
	for _, s := range segs {
		n := uint32(len(s.Payload))
		if s.Flags&(reassembly.SYN|reassembly.FIN) != 0 {
			n++
		}
		if s.ToServer == e.ToServer {
			if int32(s.Seq+n-e.Seq) > 0 || e.Seq == 0 {
				e.Seq = s.Seq + n
			}
			e.Ack = s.Ack
		}
	}
	return append(segs, e)
}

// live is a conversation as it comes to a live tap.
func live(r *rand.Rand, pipeline bool) *scene {
	s := stage(r, pipeline)
	if s.path != segmenttest.Live {
		s.path = segmenttest.Live
		s.capture(r, s.whole)
	}
	return s
}

// Whatever is not captured because nobody wants it, the exchanges are the same,
// and so is what each of the others is counted as.
func TestSkippingChangesNothing(t *testing.T) {
	skipped, ranges := 0, 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := live(r, r.IntN(3) == 0)
		segs := s.segs
		cut := r.IntN(2) == 0
		if cut {
			segs = cutOff(r, segs)
		}
		// Where no end of a connection acknowledges what came before, nothing but
		// the tap says that a body passed; if it forgot, the exchange is cut.
		k := &skipTap{r: r, streams: map[reassembly.Stream]*skipState{}, forgets: !cut && s.FIN}
		lag := []int{0, 0, 1, 5, 50}[r.IntN(5)]
		all, some := runSkipping(t, segs, nil, lag), runSkipping(t, segs, k, lag)
		skipped += k.skipped
		ranges += k.ranges
		if a, b := lines(&all), lines(&some); !same(a, b) {
			segmenttest.Dump(t, segs)
			t.Errorf("%s, lag %d: kept\n%s\nwithout skipping\n%s", s, lag, strings.Join(b, "\n"), strings.Join(a, "\n"))
		}
		if cut {
			// What was cut off behind a hole is a gap when nobody can say that the
			// hole was skipped, because the order was wrong.
			for _, x := range []*exchange.Stats{&all.Parser, &some.Parser} {
				gap := &x.Exchanges[exchange.ResultGap][exchange.ReasonNone]
				x.Exchanges[exchange.ResultNoResponse][exchange.ReasonCut] += *gap
				*gap = 0
			}
		}
		if all.Parser.Exchanges != some.Parser.Exchanges {
			segmenttest.Dump(t, segs)
			t.Errorf("%s, lag %d: counted\n%v\nwithout skipping\n%v", s, lag, some.Parser.Exchanges, all.Parser.Exchanges)
		}
		if k.skipped == 0 && all.Assembler.Captured != some.Assembler.Captured {
			t.Errorf("captured %d bytes, %d without skipping", some.Assembler.Captured, all.Assembler.Captured)
		}
	})
	t.Logf("%d ranges, %d segments skipped", ranges, skipped)
}

// With losses of the ring beside it nothing false comes.
func TestSkippingWithLoss(t *testing.T) {
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := live(r, r.IntN(4) == 0)
		left := segmenttest.Drop(r, s.segs, s.path, []int{3, 10, 40}[r.IntN(3)])
		k := &skipTap{r: r, streams: map[reassembly.Stream]*skipState{}, forgets: true}
		res := runSkipping(t, left, k, r.IntN(5))
		if _, wrong := missing(lines(&res), s.Wants); len(wrong) > 0 {
			segmenttest.Dump(t, left)
			t.Errorf("%s: false exchanges %q", s, wrong)
		}
		if n := int(res.Parser.Complete()); n > len(s.Wants) {
			t.Errorf("%s: %d complete of %d", s, n, len(s.Wants))
		}
	})
}

// A connection that is not HTTP is skipped to its end, which is still seen; the
// next one on the same ports is read again.
func TestSkipRest(t *testing.T) {
	for _, how := range []reassembly.Flags{reassembly.FIN, reassembly.RST} {
		var segs []seg
		open := func(c, s uint32) {
			segs = append(segs,
				seg{ToServer: true, Seq: c - 1, Flags: reassembly.SYN},
				seg{Seq: s - 1, Ack: c, Flags: reassembly.SYN | reassembly.ACK})
		}
		open(100, 200)
		c := uint32(100)
		for range 5 {
			segs = append(segs, seg{ToServer: true, Seq: c, Ack: 200, Flags: reassembly.ACK, Payload: []byte("\x16\x03\x01 hello")})
			c += 1 << 30 // far more than a window
		}
		segs = append(segs, seg{ToServer: true, Seq: c, Ack: 200, Flags: reassembly.ACK | how}, seg{Seq: 200, Ack: c + 1, Flags: reassembly.ACK | reassembly.FIN})
		open(7000, 8000)
		req, resp := "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n"
		segs = append(segs,
			seg{ToServer: true, Seq: 7000, Ack: 8000, Flags: reassembly.ACK, Payload: []byte(req)},
			seg{Seq: 8000, Ack: 7000 + uint32(len(req)), Flags: reassembly.ACK, Payload: []byte(resp)})
		k := &skipTap{r: rand.New(rand.NewPCG(1, 3)), streams: map[reassembly.Stream]*skipState{}}
		res := runSkipping(t, segs, k, 0)
		got := fmt.Sprint(res.Parser.Started, res.Parser.Complete(), res.Parser.Exchanges[exchange.ResultUnparsable][exchange.ReasonTLS], k.skipped, res.Assembler.Opened)
		if got != "2 1 1 4 2" {
			t.Errorf("flags %x: started, complete, TLS, skipped, opened are %s", how, got)
		}
	}
}

// asked notes what the parser does not need.
type asked struct{ said []string }

func (a *asked) Skip(c *reassembly.Conn, d reassembly.Dir, n uint64) uint64 {
	a.said = append(a.said, fmt.Sprint(d, " ", n))
	return n
}
func (a *asked) SkipRest(c *reassembly.Conn) { a.said = append(a.said, "rest") }

// The parser asks for long bodies that it only frames, and never for their last
// byte.
func TestWhatIsSkipped(t *testing.T) {
	const get, put = "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n"
	for _, c := range []struct {
		name, req, resp string
		keep            exchange.Want
		want            string
	}{
		{"an answer", get, "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nabc", exchange.WantFrame, "1 49996"},
		{"its head alone", get, "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n", exchange.WantFrame, "1 49999"},
		{"a request", put, "", exchange.WantFrame, "0 49999"},
		{"a chunk", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\nab", exchange.WantFrame, "1 20477"},
		{"short", get, "HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n", exchange.WantFrame, ""},
		{"of unknown length", get, "HTTP/1.1 200 OK\r\n\r\nabc", exchange.WantFrame, ""},
		{"no body", get, "HTTP/1.1 304 Same\r\nContent-Length: 50000\r\n\r\n", exchange.WantFrame, ""},
		{"listed", get, "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nabc", exchange.WantList, ""},
		{"kept", put, "", exchange.WantWhole, ""},
		{"nobody's answer", "", "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nabc", exchange.WantFrame, ""},
		{"a tunnel", "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 101 Yes\r\nUpgrade: x\r\n\r\n", exchange.WantFrame, "rest"},
		{"not HTTP", "\x16\x03\x01", "", exchange.WantFrame, "rest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			col, sk, budget := &segmenttest.Collector{Want: c.keep}, &asked{}, &reassembly.Budget{Limit: 1 << 20}
			p, err := http1.New(http1.Config{Keeper: col, Sink: col, Budget: budget, Skipper: sk})
			if err != nil {
				t.Fatal(err)
			}
			a, err := reassembly.New(reassembly.Config{Factory: p, Budget: budget})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range []seg{
				{ToServer: true, Seq: 99, Flags: reassembly.SYN},
				{Seq: 199, Ack: 100, Flags: reassembly.SYN | reassembly.ACK},
				{ToServer: true, Seq: 100, Ack: 200, Flags: reassembly.ACK, Payload: []byte(c.req)},
				{Seq: 200, Ack: 100 + uint32(len(c.req)), Flags: reassembly.ACK, Payload: []byte(c.resp)},
			} {
				s := reassembly.Segment{SrcPort: 1024, DstPort: 80, Seq: x.Seq, Ack: x.Ack, Flags: x.Flags, Payload: x.Payload}
				s.Src[15], s.Dst[15] = 1, 2
				if !x.ToServer {
					s.SrcPort, s.DstPort, s.Src, s.Dst = s.DstPort, s.SrcPort, s.Dst, s.Src
				}
				a.Segment(&s)
			}
			if got := strings.Join(sk.said, ", "); got != c.want {
				t.Errorf("skipped %q, want %q", got, c.want)
			}
		})
	}
}
