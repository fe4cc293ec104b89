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

// some keeps a quarter of the exchanges, by their target.
type some struct{ segmenttest.Collector }

func (c *some) Keep(h *exchange.Head) exchange.Decision {
	d := c.Collector.Keep(h)
	f := fnv.New32a()
	f.Write(h.Target)
	if f.Sum32()%4 == 0 {
		d.Want = exchange.WantWhole
	}
	return d
}

// runSkipping is run for a live ring that is read up to lag segments late, and a
// tap that skips what it is told to; without one all is captured.
func runSkipping(t testing.TB, segs []seg, tap *segmenttest.Tap, lag int) result {
	t.Helper()
	col := &some{}
	p, a, budget := segmenttest.PlaySkipping(t, segs, tap, lag, func(s *segmenttest.Skipper, b *reassembly.Budget) (segmenttest.Parser, error) {
		return http1.New(http1.Config{Keeper: col, Sink: col, Budget: b, Skipper: s})
	})
	res := result{Collector: &col.Collector, Parser: p.Stats(), Assembler: a}
	segmenttest.CheckLedger(t, &res, budget)
	return res
}

// live is a conversation as it comes to a live tap, and one that takes its ports
// over, whose numbers begin near those of the first.
func live(r *rand.Rand, pipeline, reuse bool) *segmenttest.Scene {
	s := segmenttest.Stage(r, model{pipeline: pipeline})
	if s.Path != segmenttest.Live {
		s.Path = segmenttest.Live
		s.Capture(r, s.Whole)
	}
	if !reuse {
		return s
	}
	if r.IntN(2) == 0 {
		s.Segs = cutOff(r, s.Segs)
	}
	isn := segmenttest.RandomISN(r)
	for i := range s.Segs {
		if x := &s.Segs[i]; x.Flags&reassembly.SYN != 0 {
			d := 0
			if !x.ToServer {
				d = 1
			}
			isn[d] = x.Seq + r.Uint32N(200_000)
		}
	}
	next := &segmenttest.Scene{MSS: s.MSS, Path: s.Path, Conversation: model{pipeline: pipeline}.Write(r, s.MSS < 100)}
	next.Capture(r, segmenttest.Cut(r, next.Conversation, s.MSS, isn))
	s.Segs = append(s.Segs, next.Segs...)
	segmenttest.Stamp(r, s.Segs, 1000)
	return s
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

// foreign is a connection that is not HTTP, or leaves it with its first exchange, and
// goes on for some segments.
func foreign(r *rand.Rand) []seg {
	type opening struct{ request, answer string }
	o := []opening{
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "\x16\x03\x03\x00\x7a"},
		{"\x00\x00\x01\x02", "\x00"},
		{"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 101 Yes\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "HTTP/1.1 200 Yes\r\n\r\n"},
	}[r.IntN(4)]
	c := &segmenttest.Conversation{FIN: r.IntN(2) == 0}
	for i, b := range []string{o.request, o.answer} {
		c.Messages = append(c.Messages, segmenttest.Message{ToServer: i == 0, Bytes: []byte(b)})
	}
	for range 1 + r.IntN(20) {
		c.Messages = append(c.Messages, segmenttest.Message{ToServer: r.IntN(2) == 0, Bytes: filler(r, 1+r.IntN(3000))})
	}
	segs := segmenttest.Cut(r, c, 1460, segmenttest.RandomISN(r))
	segmenttest.Stamp(r, segs, 1000)
	return segs
}

// Whatever is not captured because nobody wants it, the exchanges are the same,
// and so is what each of the others is counted as.
func TestSkippingChangesNothing(t *testing.T) {
	var sum segmenttest.Tap
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := live(r, r.IntN(3) == 0, r.IntN(3) == 0)
		segs := s.Segs
		if r.IntN(2) == 0 {
			segs = cutOff(r, segs)
		}
		if r.IntN(4) == 0 {
			segs = foreign(r)
		}
		tap := &segmenttest.Tap{}
		if r.IntN(2) == 0 {
			tap.Refuse = func() bool { return r.IntN(4) == 0 }
		}
		lag := []int{0, 0, 1, 5, 50}[r.IntN(5)]
		all, some := runSkipping(t, segs, nil, lag), runSkipping(t, segs, tap, lag)
		sum.Segments += tap.Segments
		sum.Ranges += tap.Ranges
		sum.Rests += tap.Rests
		if a, b := lines(&all), lines(&some); !segmenttest.Same(a, b) {
			segmenttest.Dump(t, segs)
			t.Errorf("%s, lag %d: kept\n%s\nwithout skipping\n%s", s, lag, strings.Join(b, "\n"), strings.Join(a, "\n"))
		}
		// Of a connection that ends behind a hole which nobody acknowledged, the
		// segment behind the hole may not have been captured: then it is cut.
		for _, x := range []*exchange.Stats{&all.Parser, &some.Parser} {
			gap := &x.Exchanges[exchange.ResultGap][exchange.ReasonNone]
			x.Exchanges[exchange.ResultNoResponse][exchange.ReasonCut] += *gap
			*gap = 0
		}
		if all.Parser.Exchanges != some.Parser.Exchanges {
			segmenttest.Dump(t, segs)
			t.Errorf("%s, lag %d: counted\n%v\nwithout skipping\n%v", s, lag, some.Parser.Exchanges, all.Parser.Exchanges)
		}
		if tap.Segments == 0 && all.Assembler.Captured != some.Assembler.Captured {
			t.Errorf("captured %d bytes, %d without skipping", some.Assembler.Captured, all.Assembler.Captured)
		}
	})
	t.Logf("%d ranges, %d connections to their end, %d segments skipped", sum.Ranges, sum.Rests, sum.Segments)
	if sum.Ranges == 0 || sum.Segments == 0 {
		t.Error("nothing was skipped")
	}
	if sum.Rests == 0 {
		t.Error("no connection was skipped to its end")
	}
}

// With losses of the ring beside it nothing false comes.
func TestSkippingWithLoss(t *testing.T) {
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := live(r, r.IntN(4) == 0, false)
		left := segmenttest.Drop(r, s.Segs, s.Path, []int{3, 10, 40}[r.IntN(3)])
		res := runSkipping(t, left, &segmenttest.Tap{}, r.IntN(5))
		if _, wrong := segmenttest.Compare(certain(&res), s.Wants); len(wrong) > 0 {
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
		c -= 1<<30 - 9
		segs = append(segs, seg{ToServer: true, Seq: c, Ack: 200, Flags: reassembly.ACK | how}, seg{Seq: 200, Ack: c + 1, Flags: reassembly.ACK | reassembly.FIN})
		open(7000, 8000)
		req, resp := "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n"
		segs = append(segs,
			seg{ToServer: true, Seq: 7000, Ack: 8000, Flags: reassembly.ACK, Payload: []byte(req)},
			seg{Seq: 8000, Ack: 7000 + uint32(len(req)), Flags: reassembly.ACK, Payload: []byte(resp)})
		tap := &segmenttest.Tap{}
		res := runSkipping(t, segs, tap, 0)
		got := fmt.Sprint(res.Parser.Started, res.Parser.Complete(), res.Parser.Exchanges[exchange.ResultUnparsable][exchange.ReasonTLS], tap.Segments, res.Assembler.Opened)
		if got != "2 1 1 4 2" {
			t.Errorf("flags %x: started, complete, TLS, skipped, opened are %s", how, got)
		}
	}
}

// asked notes what the parser does not need.
type asked struct{ said []string }

func (a *asked) Skip(_ *reassembly.Conn, d reassembly.Dir, n uint64) {
	a.said = append(a.said, fmt.Sprint(d, " ", n))
}
func (a *asked) SkipRest(*reassembly.Conn) { a.said = append(a.said, "rest") }

// The parser has no need of bodies whose length is known and that it only frames,
// but for their last byte, nor of connections that it cannot use.
func TestWhatIsSkipped(t *testing.T) {
	const (
		get  = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
		put  = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n"
		long = "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n"
	)
	for _, c := range []struct {
		name, req, resp string
		keep            exchange.Want
		want            string
	}{
		{"an answer", get, long + "abc", exchange.WantFrame, "1 49996"},
		{"its head alone", get, long, exchange.WantFrame, "1 49999"},
		{"a request", put, "", exchange.WantFrame, "0 49999"},
		{"one byte", get, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", exchange.WantFrame, ""},
		{"chunks", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\nab", exchange.WantFrame, ""},
		{"of unknown length", get, "HTTP/1.1 200 OK\r\n\r\nabc", exchange.WantFrame, ""},
		{"no body", get, "HTTP/1.1 304 Same\r\nContent-Length: 50000\r\n\r\n", exchange.WantFrame, ""},
		{"to a HEAD", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", long, exchange.WantFrame, ""},
		{"listed, so with a digest", get, long + "abc", exchange.WantList, ""},
		{"kept", put, "", exchange.WantWhole, ""},
		{"nobody's answer", "", long + "abc", exchange.WantFrame, ""},
		{"a tunnel", "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 101 Yes\r\nUpgrade: x\r\n\r\n", exchange.WantFrame, "rest"},
		{"CONNECT", "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 Yes\r\n\r\n", exchange.WantFrame, "rest"},
		{"TLS", "\x16\x03\x01", "", exchange.WantFrame, "rest"},
		{"another protocol", "\x00\x00\x01", "", exchange.WantFrame, "rest"},
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
				var s reassembly.Segment
				x.Fill(&s)
				a.Segment(&s)
			}
			if got := strings.Join(sk.said, ", "); got != c.want {
				t.Errorf("not needed %q, want %q", got, c.want)
			}
		})
	}
}
