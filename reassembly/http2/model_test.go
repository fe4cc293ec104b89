package http2_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// The model: two peers talk HTTP/2 as x/net writes it, every choice drawn; what
// they exchange is known. The segments are then cut, disturbed or lost.

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
	return fmt.Sprintf("%d %s %s %d req %d:%x resp %d:%x %v push %v reset %v grpc %v %s %v", k.id, k.method, k.target, k.status,
		x.Request.Body.Size, x.Request.Body.Digest[:4], x.Response.Body.Size, x.Response.Body.Digest[:4], k.interim, k.pushed, k.reset, k.grpc, k.grpcStatus, k.messages)
}

type model struct {
	*conv
	t      *rapid.T
	r      *rand.Rand
	all    []*known
	open   []*known
	nextID uint32
	pushID uint32
	// pending are table sizes that a side was told and has not taken up.
	pending [2][]uint32
	big     bool // the client lets the server send large frames
}

func (m *model) pick(n int) int { return rapid.IntRange(0, n-1).Draw(m.t, "n") }

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

func (m *model) size() int { return []int{0, 1, 5, 200, 4000, 20000}[m.pick(6)] }

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
		must(p.fr.WriteRawFrame(0xfe, 0xff, 3, m.filler(m.size()%16000)))
	case 3:
		must(p.fr.WritePriority(m.nextID+20, xhttp2.PriorityParam{Weight: 1}))
	}
	m.flush(client)
}

// converse draws a conversation.
func converse(t *rapid.T) *model {
	m := &model{conv: newConv(), t: t, nextID: 1, pushID: 2}
	m.r = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
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
	for range 1 + m.pick(40) {
		m.step()
	}
	if m.pick(3) > 0 { // most get their end
		for i := 0; i < 300 && len(m.open) > 0; i++ {
			m.advance(m.open[i%len(m.open)])
			m.open = slices.DeleteFunc(m.open, (*known).whole)
		}
	}
	m.sendAll()
	return m
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

// wants gives what must be found, sorted.
func (m *model) wants() (list []string) {
	for _, k := range m.all {
		if k.whole() {
			list = append(list, k.String())
		}
	}
	sort.Strings(list)
	return list
}

// cuts draws the lengths of segments: 1 byte to 190 KB.
func (m *model) cut() []seg {
	size := []int{1, 9, 100, 536, 1460, 9000, 190_000}[m.pick(7)]
	seq := [2]uint32{m.r.Uint32(), m.r.Uint32()}
	for i := range seq {
		if m.pick(2) == 0 { // the wrap falls somewhere in it
			seq[i] = -uint32(m.r.IntN(3000))
		}
	}
	total := 0
	for _, x := range m.msgs {
		total += len(x.b)
	}
	size = max(size, total/4000)
	return m.segments(seq, func() int { return 1 + m.r.IntN(size) })
}

// disturb does what a reader must not notice: copies, overlaps, another order.
func (m *model) disturb(in []seg, live bool) []seg {
	r := m.r
	out := slices.Clone(in)
	for i := 0; i < len(out); i++ {
		s := out[i]
		if len(s.b) == 0 {
			continue
		}
		switch r.IntN(14) {
		case 0:
			out = slices.Insert(out, i+1+r.IntN(min(6, len(out)-i)), s)
		case 1:
			k := r.IntN(len(s.b))
			p := s
			p.seq, p.b = s.seq+uint32(k), s.b[k:]
			out = slices.Insert(out, i+1+r.IntN(min(4, len(out)-i)), p)
		}
	}
	for i := range out {
		if live {
			if i+1 < len(out) && r.IntN(3) == 0 && out[i].toServer == out[i+1].toServer && out[i].ack == out[i+1].ack && len(out[i].b) > 0 && len(out[i+1].b) > 0 {
				out[i], out[i+1] = out[i+1], out[i]
			}
		} else if j := i + r.IntN(min(8, len(out)-i)); r.IntN(4) == 0 && i > 1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}

func sortedGot(res *result) (list []string) {
	for _, x := range res.got {
		list = append(list, gotString(x))
	}
	sort.Strings(list)
	return list
}

// What the network may do to the segments does not change the exchanges.
func TestExchangesSurviveTheNetwork(t *testing.T) {
	total := 0
	rapid.Check(t, func(t *rapid.T) {
		m := converse(t)
		live := m.pick(2) == 0
		segs := m.disturb(m.cut(), live)
		res := room{live: live, want: exchange.WantWhole}.run(t, segs)
		want := m.wants()
		if got := sortedGot(res); !slices.Equal(got, want) {
			t.Fatalf("live %v: got\n%s\nwant\n%s\n%s", live, strings.Join(got, "\n"), strings.Join(want, "\n"), res.ends())
		}
		if int(res.st.Started) != len(m.all) {
			t.Fatalf("%d started of %d: %s", res.st.Started, len(m.all), res.ends())
		}
		total += len(want)
		byID := map[uint32]*known{}
		for _, k := range m.all {
			byID[k.id] = k
		}
		for _, x := range res.got {
			k := byID[x.Stream]
			if !slices.Equal(x.Request.Header, k.fields) || !slices.Equal(x.Request.Trailer, k.trailer[0]) || !slices.Equal(x.Response.Trailer, k.trailer[1]) {
				t.Fatalf("stream %d: header %v trailers %v %v\nwant %v %v", x.Stream, x.Request.Header, x.Request.Trailer, x.Response.Trailer, k.fields, k.trailer)
			}
			if !bytes.Equal(x.Request.Body.Bytes, k.req) || !bytes.Equal(x.Response.Body.Bytes, k.resp) {
				t.Fatalf("stream %d: other bodies", x.Stream)
			}
		}
		if n := (room{live: live}).run(t, segs).n; n != len(want) {
			t.Fatalf("framed only: %d of %d", n, len(want))
		}
	})
	t.Logf("%d exchanges", total)
}

// With segments missing nothing false is reported, what is not reported is
// counted, and what was whole before is there.
func TestLossSpoilsOnlyItsExchanges(t *testing.T) {
	kept, whole := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := converse(t)
		live := m.pick(2) == 0
		segs := m.cut()
		if live {
			segs = m.disturb(segs, true)
		}
		side := m.pick(3) // which direction loses: one, the other, both
		share := []int{3, 30, 200}[m.pick(3)]
		copies := map[uint64]int{}
		key := func(s *seg) uint64 { return uint64(s.seq)<<1 | uint64(index(s.toServer)) }
		for i := range segs {
			copies[key(&segs[i])]++
		}
		var left []seg
		lost := uint64(0)
		for i, s := range segs {
			if len(s.b) > 0 && side != 1-index(s.toServer) && copies[key(&segs[i])] == 1 && m.r.IntN(share) == 0 {
				lost++
				continue
			}
			s.lost = lost
			left = append(left, s)
		}
		res := room{live: live, want: exchange.WantList}.run(t, left)
		// Whether a stream was reset may be in a hole.
		seen := func(s string) string { return strings.Replace(s, "reset true", "reset false", 1) }
		known := map[string]int{}
		for _, w := range m.wants() {
			known[seen(w)]++
		}
		for _, g := range sortedGot(res) {
			if g = seen(g); known[g] > 0 {
				known[g]--
			} else {
				t.Fatalf("false exchange %s\n%s", g, res.ends())
			}
		}
		whole += len(m.wants())
		kept += len(res.got)
		missing := len(m.wants()) - len(res.got)
		others := int(res.st.Started) - res.n
		switch {
		case lost == 0 && missing > 0:
			t.Fatalf("nothing was lost, %d are missing", missing)
		case missing > 0 && res.st.Started == 0 && side == 2 && res.st.AfterGap*10 > res.asm.Delivered*9:
			// Both directions lost their first bytes, and no segment shows two
			// frames: nobody can tell what it is, but for its bytes.
		case missing > 0 && others == 0:
			t.Fatalf("%d are missing and none is counted: %s", missing, res.ends())
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
			if n := int(res.st.Started); n < clients || n > clients+promised+1 {
				t.Fatalf("%d started, of %d and %d promised: %s", n, clients, promised, res.ends())
			}
		}
	})
	t.Logf("%d of %d exchanges are there", kept, whole)
}

// A capture that begins in the middle shows no exchange, whatever the bodies
// hold.
func TestLateJoin(t *testing.T) {
	late := 0
	rapid.Check(t, func(t *rapid.T) {
		m := converse(t)
		live := m.pick(2) == 0
		segs := m.cut()
		from := 2 + m.r.IntN(len(segs)-2)
		if m.pick(3) == 0 {
			from = 2 // all but the handshake
		}
		res := room{live: live, want: exchange.WantList}.run(t, segs[from:])
		if len(res.got) > 0 {
			t.Fatalf("joined late, and found %q", res.words)
		}
		late += int(res.st.Exchanges[exchange.ResultUnparsable][exchange.ReasonHTTP2Late])
	})
	if t.Logf("%d counted late", late); late == 0 {
		t.Error("no exchange was counted late")
	}
}
