package http2_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/http2"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// The model: two peers talk HTTP/2 as x/net writes it; what they exchange is
// known.

// known is one exchange of a conversation.
type known struct {
	id             uint32
	method, target string
	status         int
	req, resp      []byte
	interim        []int
	fields         exchange.Header // regular ones of the request
	trailer        [2]exchange.Header
	pushed         bool
	grpc           bool
	grpcStatus     string
	messages       [2]uint32
	answered       bool // a final head was sent
	reqEnd, ansEnd bool
	reset          bool
}

func (k *known) whole() bool { return k.reqEnd && k.ansEnd }

func (k *known) String() string {
	req, resp := sha256.Sum256(k.req), sha256.Sum256(k.resp)
	return fmt.Sprintf("%d %s %s %d req %d:%x resp %d:%x %v push %v reset %v grpc %v %s %v", k.id, k.method, k.target, k.status,
		len(k.req), req[:4], len(k.resp), resp[:4], k.interim, k.pushed, k.reset, k.grpc, k.grpcStatus, k.messages)
}

func knownOf(x *exchange.Exchange) *known {
	k := &known{id: x.Stream, method: x.Request.Method, target: x.Request.Target, status: x.Response.Status, interim: x.Response.Interim, pushed: x.Pushed, reset: x.Reset != nil}
	if g := x.GRPC; g != nil {
		k.grpc, k.grpcStatus, k.messages = true, g.Status, [2]uint32{g.Requests, g.Responses}
	}
	return k
}

// gotString says of a captured exchange what known.String says.
func gotString(x *exchange.Exchange) string {
	k := knownOf(x)
	asked, answered := sumOf(&x.Request.Body), sumOf(&x.Response.Body)
	return fmt.Sprintf("%d %s %s %d req %d:%x resp %d:%x %v push %v reset %v grpc %v %s %v", k.id, k.method, k.target, k.status,
		x.Request.Body.Size, asked[:4], x.Response.Body.Size, answered[:4], k.interim, k.pushed, k.reset, k.grpc, k.grpcStatus, k.messages)
}

// model writes HTTP/2 conversations.
type model struct {
	*conv
	r      *rand.Rand
	small  bool
	all    []*known
	open   []*known
	nextID uint32
	pushID uint32
	// pending are table sizes that a side was told and has not taken up.
	pending [2][]uint32
	big     bool // the client lets the server send large frames
}

// unknownFrame is a type that no reader knows.
const unknownFrame xhttp2.FrameType = 0xfe

func (m *model) pick(n int) int { return m.r.IntN(n) }

// filler is content that may look like anything.
func (m *model) filler(n int) []byte {
	b := make([]byte, 0, n+100)
	for len(b) < n {
		switch m.r.IntN(8) {
		case 0:
			b = append(b, "GET /decoy HTTP/1.1\r\nHost: d\r\n\r\n"...)
		case 1:
			b = append(b, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"...)
		case 2: // frames of a decoy
			b = append(b, "\x00\x00\x04\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41\x00\x00\x00\x04\x00\x00\x00\x00\x00"...)
		case 3:
			b = append(b, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"...)
		default:
			for k := m.r.IntN(200); k >= 0; k-- {
				b = append(b, byte(m.r.IntN(256)))
			}
		}
	}
	return b[:n]
}

func (m *model) size() int {
	if m.small {
		return m.pick(60)
	}
	return []int{0, 1, 5, 200, 4000, 20000}[m.pick(6)]
}

// block writes a header block in any number of frames.
func (m *model) block(client bool, id, promise uint32, end bool, fields []string) {
	p := m.side[index(client)]
	b := p.encode(fields...)
	first := len(b)
	parts := 0
	if m.pick(4) == 0 {
		parts = 1 + m.pick(3)
		first = m.r.IntN(len(b) + 1)
	}
	pad := uint8([]int{0, 0, 1, 255}[m.pick(4)])
	if promise != 0 {
		must(p.fr.WritePushPromise(xhttp2.PushPromiseParam{StreamID: id, PromiseID: promise, BlockFragment: b[:first], EndHeaders: parts == 0, PadLength: pad}))
	} else {
		h := xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: b[:first], EndStream: end, EndHeaders: parts == 0, PadLength: pad}
		if client && m.pick(5) == 0 {
			h.Priority = xhttp2.PriorityParam{StreamDep: id - 1, Weight: 9, Exclusive: true}
		}
		must(p.fr.WriteHeaders(h))
	}
	b = b[first:]
	for ; parts > 0; parts-- {
		n := len(b)
		if parts > 1 {
			n = m.r.IntN(len(b) + 1)
		}
		must(p.fr.WriteContinuation(id, parts == 1, b[:n]))
		b = b[n:]
	}
	m.flush(client)
}

// flush sends now, or with what comes next.
func (m *model) flush(client bool) {
	if m.pick(4) > 0 {
		m.send(client)
	}
}

// other sends what the other side wrote, so that order holds where it matters.
func (m *model) sendAll() {
	m.send(true)
	m.send(false)
}

func (m *model) randomFields() (list []string) {
	for n := m.pick(4); n > 0; n-- {
		switch m.pick(4) {
		case 0:
			list = append(list, "x-same: always the same value")
		case 1:
			list = append(list, fmt.Sprintf("x-%d: %d", m.r.IntN(50), m.r.Uint32()))
		case 2:
			list = append(list, "cookie: a="+strings.Repeat("c", m.r.IntN(300)))
		case 3:
			list = append(list, fmt.Sprintf("x-once-%d: v", m.r.Uint32()))
		}
	}
	return list
}

func headerOf(list []string) exchange.Header {
	h := exchange.Header{}
	for _, f := range list {
		if f[0] == ':' {
			continue
		}
		name, value, _ := strings.Cut(f, ": ")
		h = append(h, exchange.Field{Name: name, Value: value})
	}
	return h
}

func (m *model) openStream() {
	k := &known{id: m.nextID, target: fmt.Sprintf("/t/%d", m.r.IntN(1000)), method: []string{"GET", "POST", "HEAD", "PUT"}[m.pick(4)]}
	m.nextID += 2
	fields := []string{":method: " + k.method, ":scheme: http", ":authority: h", ":path: " + k.target}
	if k.method == "POST" && m.pick(2) == 0 {
		k.grpc = true
		fields = append(fields, "content-type: application/grpc", "te: trailers")
	}
	more := m.randomFields()
	fields = append(fields, more...)
	k.fields = headerOf(fields)
	k.reqEnd = k.method == "GET" || k.method == "HEAD" || m.pick(6) == 0
	m.send(false) // what it answers was there before
	m.block(true, k.id, 0, k.reqEnd, fields)
	m.all = append(m.all, k)
	m.open = append(m.open, k)
}

// dataFrame writes content, and may end the stream with it.
func (m *model) dataFrame(client bool, k *known, end bool) {
	p := m.side[index(client)]
	var b []byte
	n := 1
	if k.grpc {
		n = m.pick(3)
		for range n {
			b = append(b, grpcMessage(string(m.filler(m.size())))...)
		}
		k.messages[index(client)] += uint32(n)
	} else {
		b = m.filler(m.size())
	}
	if client {
		k.req = append(k.req, b...)
	} else {
		k.resp = append(k.resp, b...)
	}
	limit := 16000
	if !client && m.big {
		limit = 60000
	}
	for {
		n := min(len(b), 1+m.r.IntN(limit))
		last := n == len(b)
		if pad := m.pick(5); pad == 0 {
			must(p.fr.WriteDataPadded(k.id, end && last, b[:n], make([]byte, m.r.IntN(256))))
		} else {
			must(p.fr.WriteData(k.id, end && last, b[:n]))
		}
		if b = b[n:]; last {
			break
		}
		m.flush(client)
	}
	m.flush(client)
}

// advance does the next thing on an open stream.
func (m *model) advance(k *known) {
	client := m.pick(2) == 0
	if client && !k.reqEnd {
		switch m.pick(4) {
		case 0:
			k.trailer[0] = headerOf([]string{"x-sum: 1"})
			m.block(true, k.id, 0, true, []string{"x-sum: 1"})
			k.reqEnd = true
		case 1:
			m.dataFrame(true, k, true)
			k.reqEnd = true
		default:
			m.dataFrame(true, k, false)
		}
		return
	}
	m.send(true) // the server has seen it
	switch {
	case !k.answered && m.pick(4) == 0:
		s := []int{100, 103}[m.pick(2)]
		k.interim = append(k.interim, s)
		m.block(false, k.id, 0, false, []string{fmt.Sprintf(":status: %d", s), "link: </x>"})
	case !k.answered:
		k.answered = true
		k.status = []int{200, 201, 204, 304, 404, 500}[m.pick(6)]
		fields := append([]string{fmt.Sprintf(":status: %d", k.status)}, m.randomFields()...)
		k.ansEnd = k.method == "HEAD" || k.status == 204 || k.status == 304 || m.pick(4) == 0
		if k.ansEnd && k.grpc {
			k.grpcStatus = "7"
			fields = append(fields, "grpc-status: 7", "grpc-message: no%21")
		}
		m.block(false, k.id, 0, k.ansEnd, fields)
	case !k.ansEnd:
		switch m.pick(4) {
		case 0:
			list := []string{"x-t: 2"}
			if k.grpc {
				list = []string{"grpc-status: 0"}
				k.grpcStatus = "0"
			}
			k.trailer[1] = headerOf(list)
			m.block(false, k.id, 0, true, list)
			k.ansEnd = true
		case 1:
			m.dataFrame(false, k, true)
			k.ansEnd = true
		default:
			m.dataFrame(false, k, false)
		}
	}
}

// push promises a stream on an open one that the client still waits for.
func (m *model) push(on *known) {
	if on.ansEnd || on.pushed {
		return
	}
	k := &known{id: m.pushID, method: "GET", target: fmt.Sprintf("/pushed/%d", m.pushID), pushed: true, reqEnd: true}
	m.pushID += 2
	fields := append([]string{":method: GET", ":scheme: http", ":authority: h", ":path: " + k.target}, m.randomFields()...)
	k.fields = headerOf(fields)
	m.send(true)
	m.block(false, on.id, k.id, false, fields)
	m.all = append(m.all, k)
	m.open = append(m.open, k)
}

// reset ends a stream from one side; the other may still have sent its end.
func (m *model) resetStream(k *known) {
	if k.whole() {
		return
	}
	client := m.pick(2) == 0
	m.sendAll()
	must(m.side[index(client)].fr.WriteRSTStream(k.id, xhttp2.ErrCodeCancel))
	m.send(client)
	k.reset = true
	m.open = slices.DeleteFunc(m.open, func(x *known) bool { return x == k })
	if m.pick(2) > 0 {
		return
	}
	if client && k.reqEnd && k.answered {
		m.dataFrame(false, k, true)
		k.ansEnd = true
	} else if !client && k.ansEnd {
		m.dataFrame(true, k, true)
		k.reqEnd = true
	}
	m.sendAll()
}

// settings changes the size of the table that the other side may use.
func (m *model) settings() {
	client := m.pick(2) == 0
	v := []uint32{0, 100, 4096, 16384, 65536}[m.pick(5)]
	must(m.side[index(client)].fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: v}))
	m.send(client)
	i := index(!client)
	m.pending[i] = append(m.pending[i], v)
}

// takeUp lets a side follow what it was told, and say so.
func (m *model) takeUp(client bool) {
	i := index(client)
	if len(m.pending[i]) == 0 {
		return
	}
	v := m.pending[i][0]
	m.pending[i] = m.pending[i][1:]
	p := m.side[i]
	p.enc.SetMaxDynamicTableSizeLimit(v)
	p.enc.SetMaxDynamicTableSize(v - uint32(m.r.IntN(int(v/2)+1)))
	early := len(m.open) > 0 && m.pick(3) == 0
	if early { // a block with the new size before the acknowledgement
		if client {
			m.openStream()
		} else {
			m.advance(m.open[m.pick(len(m.open))])
		}
	}
	must(p.fr.WriteSettingsAck())
	m.flush(client)
}

func (m *model) noise() {
	client := m.pick(2) == 0
	p := m.side[index(client)]
	switch m.pick(4) {
	case 0:
		must(p.fr.WritePing(m.pick(2) == 0, [8]byte{1}))
	case 1:
		must(p.fr.WriteWindowUpdate(0, 1000))
	case 2:
		must(p.fr.WriteRawFrame(unknownFrame, 0xff, 3, m.filler(m.size()%16000)))
	case 3:
		must(p.fr.WritePriority(m.nextID+20, xhttp2.PriorityParam{Weight: 1}))
	}
	m.flush(client)
}

// Write implements segmenttest.Model. What it wrote stays in m.all.
func (m *model) Write(r *rand.Rand, small bool) *segmenttest.Conversation {
	*m = model{conv: newConv(), r: r, small: small, nextID: 1, pushID: 2}
	m.big = m.pick(2) == 0
	var st []xhttp2.Setting
	if m.big {
		st = append(st, xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 70000})
	}
	if m.pick(3) == 0 { // the server is the first to speak
		must(m.side[1].fr.WriteSettings())
		m.send(false)
		m.raw(true, preface)
		must(m.side[0].fr.WriteSettings(st...))
		m.send(true)
		must(m.side[1].fr.WriteSettingsAck())
		m.send(false)
		must(m.side[0].fr.WriteSettingsAck())
		m.send(true)
	} else {
		m.hello(st...)
	}
	steps := 40
	if small {
		steps = 12
	}
	for range 1 + m.pick(steps) {
		m.step()
	}
	if m.pick(3) > 0 { // most get their end
		for i := 0; i < 300 && len(m.open) > 0; i++ {
			m.advance(m.open[i%len(m.open)])
			m.open = slices.DeleteFunc(m.open, (*known).whole)
		}
	}
	m.sendAll()
	c := &segmenttest.Conversation{FIN: m.pick(2) == 0, Pipelined: true}
	of := map[uint32]int{}
	for x, k := range m.all {
		of[k.id] = x
		if k.whole() {
			c.Wants = append(c.Wants, k.String())
		} else {
			c.Wants = append(c.Wants, "")
		}
	}
	for _, x := range m.msgs {
		msg := segmenttest.Message{ToServer: x.client, Bytes: x.b}
		msg.Spans = spans(x.b, of)
		c.Messages = append(c.Messages, msg)
		if m.pick(4) == 0 { // whoever got it says so
			c.Messages = append(c.Messages, segmenttest.Message{ToServer: !x.client})
		}
	}
	return c
}

// spans marks the parts of whole frames: of is the exchange of a stream. What
// pads, and what no reader knows, is content of nobody.
func spans(b []byte, of map[uint32]int) (list []segmenttest.Span) {
	at := 0
	add := func(part segmenttest.Part, n, x int) {
		if n > 0 {
			list = append(list, segmenttest.Span{Part: part, From: at, To: at + n, Exchange: x})
		}
		at += n
	}
	if bytes.HasPrefix(b, []byte(preface)) {
		add(segmenttest.Head, len(preface), -1)
	}
	for at < len(b) {
		h := b[at:]
		n, typ, flags := int(h[0])<<16|int(h[1])<<8|int(h[2]), xhttp2.FrameType(h[3]), xhttp2.Flags(h[4])
		x, ok := of[binary.BigEndian.Uint32(h[5:])]
		if !ok {
			x = -1
		}
		add(segmenttest.FrameHeader, 9, x)
		switch typ {
		case xhttp2.FrameData:
			pad := 0
			if flags.Has(xhttp2.FlagDataPadded) {
				pad = int(b[at])
				at++
				n -= 1 + pad
			}
			add(segmenttest.Body, n, x)
			add(segmenttest.Body, pad, -1)
		case xhttp2.FrameHeaders, xhttp2.FrameContinuation, xhttp2.FramePushPromise:
			add(segmenttest.Head, n, x)
		case unknownFrame:
			add(segmenttest.Body, n, -1)
		default:
			at += n
		}
	}
	return list
}

func (m *model) step() {
	a := m.pick(16)
	switch {
	case a < 4 || len(m.open) == 0 && a < 12:
		m.openStream()
	case a < 11:
		m.advance(m.open[m.pick(len(m.open))])
	case a == 11:
		m.push(m.open[m.pick(len(m.open))])
	case a == 12:
		m.settings()
	case a == 13:
		m.sendAll() // a side has read what the other sent
		m.takeUp(m.pick(2) == 0)
	case a == 14:
		m.noise()
	case a == 15 && len(m.open) > 0 && m.pick(3) == 0:
		m.resetStream(m.open[m.pick(len(m.open))])
	}
	m.open = slices.DeleteFunc(m.open, (*known).whole)
}

// run gives segments to the assembler with both parsers behind it.
func run(t testing.TB, segs []segmenttest.Segment, path segmenttest.Path, want exchange.Want) segmenttest.Result {
	t.Helper()
	return segmenttest.Play(t, segs, path, want, func(c *segmenttest.Collector, b *reassembly.Budget) (segmenttest.Parser, error) {
		h2, err := http2.New(http2.Config{Keeper: c, Sink: c, Budget: b})
		if err != nil {
			return nil, err
		}
		h1, err := http1.New(http1.Config{Keeper: c, Sink: c, Budget: b, HTTP2: h2.Open, Frames: http2.Frames})
		return both{h1, h2}, err
	})
}

// both are the parsers of a shard.
type both struct {
	*http1.Parser
	h2 *http2.Parser
}

func (p both) Stats() exchange.Stats {
	s, two := p.Parser.Stats(), p.h2.Stats()
	s.Add(&two)
	return s
}

func lines(res *segmenttest.Result) (l []string) {
	for _, x := range res.Exchanges {
		l = append(l, gotString(x))
	}
	return l
}

// certain are the lines of exchanges without doubt about their bytes.
func certain(res *segmenttest.Result) (l []string) {
	for _, x := range res.Exchanges {
		if x.Doubt != exchange.DoubtOverlap {
			l = append(l, gotString(x))
		}
	}
	return l
}

// unreset leaves out whether streams were reset: that may be in a hole.
func unreset(lines []string) (out []string) {
	for _, l := range lines {
		out = append(out, strings.Replace(l, "reset true", "reset false", 1))
	}
	return out
}

// words says what the counters of a result say.
func words(res *segmenttest.Result) string {
	return (&result{st: res.Parser}).ends()
}

// What the network may do to the segments does not change the exchanges.
func TestExchangesSurviveTheNetwork(t *testing.T) {
	total := 0
	wraps := map[segmenttest.Part]int{}
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		m := &model{}
		s := segmenttest.Stage(r, m)
		wraps[s.Wrap]++
		res := run(t, s.Segs, s.Path, exchange.WantWhole)
		missing, besides := segmenttest.Compare(lines(&res), s.Wants)
		if len(missing)+len(besides) > 0 {
			t.Fatalf("%s: missing %d, besides\n%s\nwant\n%s\n%s", s, missing, strings.Join(besides, "\n"), strings.Join(s.Wants, "\n"), words(&res))
		}
		if int(res.Parser.Started) != len(m.all) {
			t.Fatalf("%s: %d started of %d: %s", s, res.Parser.Started, len(m.all), words(&res))
		}
		total += len(res.Exchanges)
		byID := map[uint32]*known{}
		for _, k := range m.all {
			byID[k.id] = k
		}
		for _, x := range res.Exchanges {
			k := byID[x.Stream]
			if !slices.Equal(x.Request.Header, k.fields) || !slices.Equal(x.Request.Trailer, k.trailer[0]) || !slices.Equal(x.Response.Trailer, k.trailer[1]) {
				t.Fatalf("stream %d: header %v trailers %v %v\nwant %v %v", x.Stream, x.Request.Header, x.Request.Trailer, x.Response.Trailer, k.fields, k.trailer)
			}
			if !bytes.Equal(x.Request.Body.Bytes, k.req) || !bytes.Equal(x.Response.Body.Bytes, k.resp) {
				t.Fatalf("stream %d: other bodies", x.Stream)
			}
		}
		if n := run(t, s.Segs, s.Path, exchange.WantFrame).N; n != len(res.Exchanges) {
			t.Fatalf("%s: framed only: %d of %d", s, n, len(res.Exchanges))
		}
	})
	t.Logf("%d exchanges, wraps %v", total, wraps)
}

// With segments missing nothing false is reported, what is not reported is
// counted, and what was whole before is there.
func TestLossSpoilsOnlyItsExchanges(t *testing.T) {
	kept, whole, must := 0, 0, 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		m := &model{}
		s := segmenttest.Stage(r, m)
		side := r.IntN(3) // which direction loses: one, the other, both
		share := []int{3, 30, 200}[r.IntN(3)]
		var left []segmenttest.Segment
		if side == 2 {
			left = segmenttest.Drop(r, s.Segs, s.Path, share)
		} else {
			left = segmenttest.DropSide(r, s.Segs, s.Path, side == 0, share)
		}
		res := run(t, left, s.Path, exchange.WantList)
		wants := unreset(s.Wants)
		if _, besides := segmenttest.Compare(unreset(certain(&res)), wants); len(besides) > 0 {
			segmenttest.Dump(t, left)
			t.Fatalf("%s: false exchanges %q\n%s", s, besides, words(&res))
		}
		lost, _ := segmenttest.Compare(unreset(lines(&res)), wants)
		o := survive(s, m.all, left)
		begun, want := 0, 0
		for x, w := range wants {
			if w != "" {
				want++
			}
			if o.begun[x] {
				begun++
			}
			if !o.must[x] {
				continue
			}
			if must++; slices.Contains(lost, x) {
				segmenttest.Dump(t, left)
				t.Fatalf("%s: exchange %d (%s) is missing, and it stands whole before the holes at %v\n%s", s, x, w, o.frontier, words(&res))
			}
		}
		// Each stream that was seen to begin is counted, and each that is counted was
		// opened; Play has seen to it that each ends in one counter. Content may hold
		// what looks like frames of one stream.
		if n := int(res.Parser.Started); n < begun || n > len(m.all)+1 {
			segmenttest.Dump(t, left)
			t.Fatalf("%s: %d started, of %d opened %d were seen to begin: %s", s, n, len(m.all), begun, words(&res))
		}
		whole += want
		kept += len(res.Exchanges)
		missing := want - len(res.Exchanges)
		others := int(res.Parser.Started) - res.N
		switch {
		case len(left) == len(s.Segs) && missing > 0:
			t.Fatalf("%s: nothing was lost, %d are missing", s, missing)
		case missing > 0 && res.Parser.Started == 0 && side == 2 && res.Parser.AfterGap*10 > res.Assembler.Delivered*9:
			// Both directions lost their first bytes, and no segment shows two
			// frames: nobody can tell what it is, but for its bytes.
		case missing > 0 && others == 0:
			segmenttest.Dump(t, left)
			t.Fatalf("%s: %d are missing and none is counted: %+v", s, missing, res.Parser)
		}
		if side == 1 { // every request was seen
			clients, promised := 0, 0
			for _, k := range m.all {
				if k.pushed {
					promised++
				} else {
					clients++
				}
			}
			if n := int(res.Parser.Started); n < clients || n > clients+promised+1 {
				segmenttest.Dump(t, left)
				t.Fatalf("%s: %d started, of %d and %d promised: %s", s, n, clients, promised, words(&res))
			}
		}
	})
	t.Logf("%d of %d exchanges are there, %d must be", kept, whole, must)
	// In files an acknowledgement that stands early is a hole to the oracle.
	if must*100 < kept*60 {
		t.Errorf("the oracle asks for %d of %d that are there", must, kept)
	}
}

// A hole inside content leaves the frames and the tables exact: whatever else
// was sent is there, and so is all where only padding or an unknown frame has it.
func TestHolesInContentSpoilOnlyTheirExchange(t *testing.T) {
	holes, kept, whole := 0, 0, 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		m := &model{}
		s := segmenttest.Stage(r, m)
		left := segmenttest.DropInside(r, s.Segs, s.Path, []int{2, 3, 10}[r.IntN(3)])
		res := run(t, left, s.Path, exchange.WantList)
		missing, _ := segmenttest.Compare(lines(&res), s.Wants)
		hits := segmenttest.Touched(s.Whole, left)
		for _, x := range missing {
			if h := hits[x]; !h.Request && !h.Response {
				segmenttest.Dump(t, left)
				t.Fatalf("%s: exchange %d lost nothing and is missing: %v\n%s", s, x, hits, words(&res))
			}
		}
		if _, besides := segmenttest.Compare(certain(&res), s.Wants); len(besides) > 0 {
			t.Fatalf("%s: false exchanges %q", s, besides)
		}
		if int(res.Parser.Started) != len(s.Wants) {
			t.Fatalf("%s: %d exchanges, %d started: %s", s, len(s.Wants), res.Parser.Started, words(&res))
		}
		holes += int(res.Assembler.Gaps)
		kept += len(res.Exchanges)
		whole += len(s.Wants)
	})
	t.Logf("%d holes, %d of %d exchanges are there", holes, kept, whole)
	if holes == 0 {
		t.Error("no hole was made")
	}
}

// A capture that begins in the middle shows no exchange, whatever the bodies
// hold.
func TestLateJoin(t *testing.T) {
	late := 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := segmenttest.Stage(r, &model{})
		segs := s.Whole[2:] // all but the handshake
		if r.IntN(3) > 0 {
			segs, _ = segmenttest.Join(r, s.Whole)
		}
		s.Capture(r, segs)
		res := run(t, s.Segs, s.Path, exchange.WantList)
		if len(res.Exchanges) > 0 {
			segmenttest.Dump(t, s.Segs)
			t.Fatalf("%s: joined late, and found %q", s, lines(&res))
		}
		late += int(res.Parser.Exchanges[exchange.ResultUnparsable][exchange.ReasonHTTP2Late])
	})
	if t.Logf("%d counted late", late); late == 0 {
		t.Error("no exchange was counted late")
	}
}

// sumOf is the SHA-256 of a body's content, zero when it is not known.
func sumOf(b *exchange.Body) [sha256.Size]byte {
	sum, _ := b.Sum256()
	return sum
}
