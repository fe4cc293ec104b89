package http2_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/http2"
)

// counter keeps nothing but what a Want asks for.
type counter struct {
	want exchange.Want
	n    int
}

func (c *counter) Keep(*exchange.Head) exchange.Decision { return exchange.Decision{Want: c.want} }
func (c *counter) Complete(*exchange.Complete)           { c.n++ }

// talk is a connection that carries the same exchange again and again, on a new
// stream each time, in segments as a sender with GSO cuts them.
type talk struct {
	req, resp []byte
	ids       [2][]int // where the stream's number stands
	seq       [2]uint32
	port      uint16
	cut       int
	id        uint32
}

var benchFields = []string{
	":method: GET", ":scheme: http", ":path: /api/users/12345?full=1", ":authority: users.example.com", "user-agent: Mozilla/5.0 (X11; Linux x86_64)",
	"accept: application/json", "accept-encoding: gzip", "accept-language: en", "cookie: session=0123456789abcdef",
	"x-request-id: 7b3bf470-9456-11ee-b9d1-0242ac120002", "x-forwarded-for: 203.0.113.7",
}

var benchAnswer = []string{":status: 200", "server: nginx", "date: Mon, 23 Nov 2026 12:00:00 GMT", "content-type: application/json", "etag: \"5f3e\""}

// frames finds the frames of b that have a stream.
func streamsIn(b []byte) (at []int) {
	for i := 0; i+9 <= len(b); {
		if binary.BigEndian.Uint32(b[i+5:]) != 0 {
			at = append(at, i+5)
		}
		i += 9 + int(b[i])<<16 + int(b[i+1])<<8 + int(b[i+2])
	}
	return at
}

// newTalk writes the first exchange, which fills the tables, into first, and a
// later one to be repeated.
func newTalk(size, cut int, port uint16) (t *talk, first []message) {
	v := newConv()
	v.hello()
	exchangeOf := func(id uint32) {
		v.headers(true, id, true, benchFields...)
		v.headers(false, id, false, append(slices.Clone(benchAnswer), fmt.Sprintf("content-length: %d", size))...)
		for left := size; ; left -= 16384 {
			v.data(false, id, left <= 16384, strings.Repeat("x", min(left, 16384)))
			if left <= 16384 {
				break
			}
		}
	}
	exchangeOf(1)
	first = v.msgs
	v.msgs = nil
	exchangeOf(3)
	t = &talk{port: port, cut: cut, id: 3, seq: [2]uint32{100, 200}}
	for _, m := range v.msgs {
		if m.client {
			t.req = append(t.req, m.b...)
		} else {
			t.resp = append(t.resp, m.b...)
		}
	}
	t.ids = [2][]int{streamsIn(t.req), streamsIn(t.resp)}
	return t, first
}

func (t *talk) open(a *reassembly.Assembler, s *reassembly.Segment, first []message) {
	*s = reassembly.Segment{SrcPort: t.port, DstPort: 80, Seq: 99, Flags: reassembly.SYN, Side: reassembly.ToServer}
	s.Src[15], s.Dst[15] = 1, 2
	a.Segment(s)
	*s = reassembly.Segment{SrcPort: 80, DstPort: t.port, Seq: 199, Ack: 100, Flags: reassembly.SYN | reassembly.ACK, Side: reassembly.ToClient}
	s.Src[15], s.Dst[15] = 2, 1
	a.Segment(s)
	for _, m := range first {
		t.send(a, s, m.client, m.b)
	}
}

func (t *talk) send(a *reassembly.Assembler, s *reassembly.Segment, client bool, b []byte) {
	i := index(client)
	for len(b) > 0 {
		n := min(len(b), t.cut)
		*s = reassembly.Segment{SrcPort: t.port, DstPort: 80, Seq: t.seq[i], Ack: t.seq[1-i], Flags: reassembly.ACK, Side: reassembly.ToServer, Payload: b[:n]}
		s.Src[15], s.Dst[15] = 1, 2
		if !client {
			s.SrcPort, s.DstPort, s.Src, s.Dst, s.Side = s.DstPort, s.SrcPort, s.Dst, s.Src, reassembly.ToClient
		}
		a.Segment(s)
		t.seq[i] += uint32(n)
		b = b[n:]
	}
}

func (t *talk) round(a *reassembly.Assembler, s *reassembly.Segment) {
	for i, b := range [2][]byte{t.req, t.resp} {
		for _, at := range t.ids[i] {
			binary.BigEndian.PutUint32(b[at:], t.id)
		}
		t.send(a, s, i == 0, b)
	}
	if t.id += 2; t.id >= 1<<31 {
		panic("no more streams")
	}
}

func newShard(tb testing.TB, c *counter, limit int64) *reassembly.Assembler {
	budget := &reassembly.Budget{Limit: limit}
	h2, err := http2.New(http2.Config{Keeper: c, Sink: c, Budget: budget})
	if err != nil {
		tb.Fatal(err)
	}
	h1, err := http1.New(http1.Config{Keeper: c, Sink: c, Budget: budget, HTTP2: h2.Open, Frames: http2.Frames})
	if err != nil {
		tb.Fatal(err)
	}
	a, err := reassembly.New(reassembly.Config{Factory: h1, Budget: budget})
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// BenchmarkExchange is one exchange from segments to the sink.
func BenchmarkExchange(b *testing.B) {
	for _, size := range []int{200, 4096, 65536} {
		for _, conns := range []int{1, 10_000} {
			for _, w := range []struct {
				name string
				want exchange.Want
			}{{"framed", exchange.WantFrame}, {"kept", exchange.WantWhole}} {
				b.Run(fmt.Sprintf("%dB/conns=%d/%s", size, conns, w.name), func(b *testing.B) {
					benchExchange(b, size, conns, w.want)
				})
			}
		}
	}
}

func benchExchange(b *testing.B, size, conns int, w exchange.Want) {
	c := &counter{want: w}
	a := newShard(b, c, 1<<30)
	var s reassembly.Segment
	one, first := newTalk(size, 16<<10, 1024)
	talks := make([]*talk, conns)
	for i := range talks {
		t := *one
		t.port = uint16(1024 + i)
		talks[i] = &t
		t.open(a, &s, first)
		talks[i].seq = t.seq
	}
	for _, t := range talks {
		t.round(a, &s)
	}
	c.n = 0
	b.SetBytes(int64(len(one.req) + len(one.resp)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		talks[i].round(a, &s)
		if i++; i == conns {
			i = 0
		}
	}
	if c.n != b.N {
		b.Fatalf("%d exchanges of %d", c.n, b.N)
	}
}

// What is not kept allocates nothing, once its fields are in the tables.
func TestFramedExchangeAllocatesNothing(t *testing.T) {
	c := &counter{}
	a := newShard(t, c, 16<<20)
	var s reassembly.Segment
	tk, first := newTalk(40_000, 1448, 1024)
	tk.open(a, &s, first)
	tk.round(a, &s)
	before := c.n
	if n := testing.AllocsPerRun(100, func() { tk.round(a, &s) }); n != 0 {
		t.Errorf("%v allocations for an exchange that is not kept", n)
	}
	if c.n-before < 100 {
		t.Errorf("only %d exchanges were complete", c.n-before)
	}
}

// BenchmarkFramer reads the same frames with x/net's Framer, for comparison.
func BenchmarkFramer(b *testing.B) {
	t, first := newTalk(4096, 16<<10, 1)
	b.ReportAllocs()
	in := [2]*bytes.Reader{bytes.NewReader(nil), bytes.NewReader(nil)}
	var fr [2]*xhttp2.Framer
	for i := range fr {
		fr[i] = xhttp2.NewFramer(io.Discard, in[i])
		fr[i].SetReuseFrames()
		fr[i].ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	}
	read := func(i int, p []byte) {
		in[i].Reset(p)
		for {
			f, err := fr[i].ReadFrame()
			if err == io.EOF {
				return
			} else if err != nil {
				b.Fatal(err)
			}
			if d, ok := f.(*xhttp2.DataFrame); ok {
				_ = d.Data()
			}
		}
	}
	for _, m := range first {
		read(index(m.client), bytes.TrimPrefix(m.b, []byte(preface)))
	}
	for b.Loop() {
		read(0, t.req)
		read(1, t.resp)
	}
}
