package http2_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/http2"
)

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// peer writes one side's frames.
type peer struct {
	out    bytes.Buffer
	fr     *xhttp2.Framer
	block  bytes.Buffer
	enc    *hpack.Encoder
	blocks int // that enc made
}

func newPeer() *peer {
	p := &peer{}
	p.fr = xhttp2.NewFramer(&p.out, nil)
	p.fr.AllowIllegalWrites = true
	p.enc = hpack.NewEncoder(&p.block)
	return p
}

// encode makes a header block of fields as "name: value".
func (p *peer) encode(fields ...string) []byte {
	p.block.Reset()
	p.blocks++
	for _, f := range fields {
		i := strings.Index(f[1:], ":") + 1
		if err := p.enc.WriteField(hpack.HeaderField{Name: f[:i], Value: strings.TrimPrefix(f[i+1:], " ")}); err != nil {
			panic(err)
		}
	}
	return bytes.Clone(p.block.Bytes())
}

// message is what one side sends in one go.
type message struct {
	client bool
	b      []byte
	hole   bool // the capture does not have it
	x      int  // what it belongs to, for tests that lose some
	fin    bool
}

// conv is a conversation that is written message by message.
type conv struct {
	side [2]*peer // client, server
	msgs []message
	x    int
	// noSYN leaves the handshake out of the capture.
	noSYN bool
}

func newConv() *conv { return &conv{side: [2]*peer{newPeer(), newPeer()}} }

func index(client bool) int {
	if client {
		return 0
	}
	return 1
}

// send moves what a peer wrote into a message.
func (v *conv) send(client bool) {
	p := v.side[index(client)]
	if p.out.Len() > 0 {
		v.msgs = append(v.msgs, message{client: client, b: bytes.Clone(p.out.Bytes()), x: v.x})
		p.out.Reset()
	}
}

func (v *conv) raw(client bool, b string) {
	v.side[index(client)].out.WriteString(b)
	v.send(client)
}

// frame writes a frame with any header.
func (v *conv) frame(client bool, typ, flags byte, id uint32, payload string) {
	h := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), typ, flags}
	v.raw(client, string(binary.BigEndian.AppendUint32(h, id))+payload)
}

// lose makes the last message a hole.
func (v *conv) lose() { v.msgs[len(v.msgs)-1].hole = true }

func (v *conv) hello(settings ...xhttp2.Setting) {
	v.raw(true, preface)
	must(v.side[0].fr.WriteSettings(settings...))
	v.send(true)
	must(v.side[1].fr.WriteSettings())
	must(v.side[1].fr.WriteSettingsAck())
	v.send(false)
	must(v.side[0].fr.WriteSettingsAck())
	v.send(true)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (v *conv) headers(client bool, id uint32, end bool, fields ...string) {
	p := v.side[index(client)]
	must(p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(fields...), EndStream: end, EndHeaders: true}))
	v.send(client)
}

func (v *conv) data(client bool, id uint32, end bool, b string) {
	must(v.side[index(client)].fr.WriteData(id, end, []byte(b)))
	v.send(client)
}

// get and post are usual requests.
func (v *conv) get(id uint32, more ...string) {
	v.headers(true, id, true, append([]string{":method: GET", ":scheme: http", ":path: /a", ":authority: h"}, more...)...)
}

func (v *conv) post(id uint32, more ...string) {
	v.headers(true, id, false, append([]string{":method: POST", ":scheme: http", ":path: /p", ":authority: h"}, more...)...)
}

// seg is a TCP segment.
type seg struct {
	toServer bool
	seq, ack uint32
	flags    reassembly.Flags
	b        []byte
	lost     uint64
	time     int64
	x        int
}

// segments cuts the messages; cut gives the length of each piece.
func (v *conv) segments(seq [2]uint32, cut func() int) []seg {
	var out []seg
	if !v.noSYN {
		out = append(out, seg{toServer: true, seq: seq[0] - 1, flags: reassembly.SYN, x: -1},
			seg{seq: seq[1] - 1, ack: seq[0], flags: reassembly.SYN | reassembly.ACK, x: -1})
	}
	lost := uint64(0)
	for _, m := range v.msgs {
		i := index(m.client)
		for b := m.b; len(b) > 0; {
			n := min(len(b), cut())
			s := seg{toServer: m.client, seq: seq[i], ack: seq[1-i], flags: reassembly.ACK, b: b[:n], lost: lost, time: int64(len(out)) * 10_000, x: m.x}
			seq[i] += uint32(n)
			b = b[n:]
			if m.hole {
				lost++
				continue
			}
			out = append(out, s)
		}
		if m.fin {
			out = append(out, seg{toServer: m.client, seq: seq[i], ack: seq[1-i], flags: reassembly.ACK | reassembly.FIN, lost: lost, time: int64(len(out)) * 10_000})
			seq[i]++
		}
	}
	// Both have everything: a hole at the end is known by that.
	for i := range seq {
		out = append(out, seg{toServer: i == 0, seq: seq[i], ack: seq[1-i], flags: reassembly.ACK, lost: lost, time: int64(len(out)) * 10_000, x: -1})
	}
	return out
}

func (v *conv) whole() []seg { return v.segments([2]uint32{1000, 5000}, func() int { return 1 << 30 }) }

// collector keeps what is complete.
type collector struct {
	got   []*exchange.Exchange
	words []string
	want  exchange.Want
	n     int
	// lost is what did not become complete, lostAsked how much of it Keep had
	// been asked about.
	lost      [exchange.NumResults]uint64
	lostAsked uint64
	heads     []string
	grpc      []string // grpc-status of what was complete
}

func (c *collector) Keep(h *exchange.Head) exchange.Decision {
	w := fmt.Sprintf("%d %s %s %v", h.Stream, h.Method, h.Target, h.GRPC)
	for _, f := range h.Fields {
		w += fmt.Sprintf(" %s=%s", f.Name, f.Value)
	}
	c.heads = append(c.heads, w)
	return exchange.Decision{Want: c.want}
}

func (c *collector) Complete(x *exchange.Complete) {
	c.n++
	c.grpc = append(c.grpc, x.GRPCStatus)
	if x.Exchange != nil {
		c.got = append(c.got, x.Exchange)
		c.words = append(c.words, word(x.Exchange))
	}
}

func (c *collector) Lost(l exchange.Lost) {
	c.lost[l.Result] += l.N
	if l.Decision != nil {
		c.lostAsked += l.N
	}
}

// word says what an exchange is: stream method target status lengths, interim
// answers behind a +, a doubt behind a ?, a reset behind a !.
func word(x *exchange.Exchange) string {
	w := fmt.Sprintf("%d %s %s %d %d %d", x.Stream, x.Request.Method, x.Request.Target, x.Response.Status, x.Request.Body.Size, x.Response.Body.Size)
	for _, s := range x.Response.Interim {
		w += fmt.Sprintf(" +%d", s)
	}
	if x.Doubt != exchange.DoubtNone {
		w += " ?" + x.Doubt.String()
	}
	if r := x.Reset; r != nil {
		w += fmt.Sprintf(" !%v:%d", r.ByServer, r.Code)
	}
	return w
}

type result struct {
	*collector
	st  exchange.Stats
	asm reassembly.Stats
}

// room is how the parsers are set up.
type room struct {
	live    bool
	want    exchange.Want
	maxBody int64
	budget  int64
	close   reassembly.Close
	// refuse is before which segment the parsers are told to; 0 is never. What
	// is in flight and late then, at the end, goes to gauges.
	refuse  int
	gauges  *[2]uint64
	skipper http2.Skipper // nil: nobody is told
	// rest says before which segments 3 s pass; nil is never. How often the
	// connection gave memory back then is added to rests.
	rest  func(i int) bool
	rests *int
	ahead http1.Forecaster // nil: nothing is said ahead
}

// run puts the segments through the assembler and the parsers.
func (r room) run(t testing.TB, segs []seg) *result {
	t.Helper()
	col := &collector{want: r.want}
	if r.budget == 0 {
		r.budget = 64 << 20
	}
	budget := &reassembly.Budget{Limit: r.budget}
	h2, err := http2.New(http2.Config{Keeper: col, Sink: col, Budget: budget, MaxBody: r.maxBody, Skipper: r.skipper})
	if err != nil {
		t.Fatal(err)
	}
	h1, err := http1.New(http1.Config{Keeper: col, Sink: col, Budget: budget, MaxBody: r.maxBody, HTTP2: h2.Open, Frames: http2.Frames, Forecaster: r.ahead})
	if err != nil {
		t.Fatal(err)
	}
	cfg := reassembly.Config{Factory: h1, Budget: budget}
	if !r.live {
		cfg.HoldTime, cfg.HoldSegments = 20*time.Millisecond, 64
	}
	a, err := reassembly.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var s reassembly.Segment
	for i := range segs {
		x := &segs[i]
		if i > 0 && i == r.refuse {
			h1.Refuse()
			h2.Refuse()
		}
		if r.rest != nil && r.rest(i) {
			before := budget.Used()
			a.Tick(x.time + int64(3*time.Second))
			if r.rests != nil && budget.Used() < before {
				*r.rests++
			}
		}
		s = reassembly.Segment{SrcPort: 1024, DstPort: 80, Seq: x.seq, Ack: x.ack, Flags: x.flags, Payload: x.b, Time: x.time, Lost: x.lost, Side: reassembly.ToServer}
		s.Src[15], s.Dst[15] = 1, 2
		if !x.toServer {
			s.SrcPort, s.DstPort, s.Src, s.Dst, s.Side = s.DstPort, s.SrcPort, s.Dst, s.Src, reassembly.ToClient
		}
		a.Segment(&s)
		if i%50 == 49 {
			a.Tick(x.time)
		}
	}
	if r.gauges != nil {
		one, two := h1.Stats(), h2.Stats()
		one.Add(&two)
		*r.gauges = [2]uint64{one.InFlight, one.Late}
	}
	a.Close(r.close)
	res := &result{collector: col, st: h1.Stats(), asm: a.Stats()}
	two := h2.Stats()
	res.st.Add(&two)
	res.check(t, budget)
	return res
}

// check asserts what must hold after any traffic.
func (r *result) check(t testing.TB, b *reassembly.Budget) {
	t.Helper()
	var ends uint64
	for _, reasons := range r.st.Exchanges {
		for _, n := range reasons {
			ends += n
		}
	}
	if ends != r.st.Started || r.st.InFlight != 0 || r.st.Late != 0 {
		t.Errorf("started %d, ended %d, in flight %d, late %d", r.st.Started, ends, r.st.InFlight, r.st.Late)
	}
	if int(r.st.Complete()) != r.n {
		t.Errorf("%d counted as complete, %d given", r.st.Complete(), r.n)
	}
	for result, reasons := range r.st.Exchanges {
		var n uint64
		for _, k := range reasons {
			n += k
		}
		if result != int(exchange.ResultComplete) && n != r.lost[result] {
			t.Errorf("%d counted as %s, %d given", n, exchange.Result(result), r.lost[result])
		}
	}
	if uint64(len(r.heads)) != uint64(r.n)+r.lostAsked {
		t.Errorf("asked about %d, of which %d became complete and %d were lost", len(r.heads), r.n, r.lostAsked)
	}
	if sum := r.st.Parsed + r.st.Upgraded + r.st.AfterGap + r.st.Unparsable + r.st.Evicted; sum != r.asm.Delivered || r.st.Held != 0 {
		t.Errorf("delivered %d bytes, accounted %d: %+v", r.asm.Delivered, sum, r.st)
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes of the budget were not given back", b.Used())
	}
}

// ends gives what the counters say, "complete" aside: "gap", "unparsable tls".
func (r *result) ends() string {
	var out []string
	for res, reasons := range r.st.Exchanges {
		for why, n := range reasons {
			if res == int(exchange.ResultComplete) || n == 0 {
				continue
			}
			w := strings.TrimSpace(fmt.Sprintf("%s %s", exchange.Result(res), exchange.Reason(why)))
			if n > 1 {
				w += fmt.Sprintf(" x%d", n)
			}
			out = append(out, w)
		}
	}
	return strings.Join(out, ", ")
}
