package http1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
)

// counter keeps nothing but what a Want asks for.
type counter struct {
	want exchange.Want
	n    int
}

func (c *counter) Keep(*exchange.Head) exchange.Decision { return exchange.Decision{Want: c.want} }
func (c *counter) Complete(*exchange.Complete)           { c.n++ }

// talk is one exchange's segments on a connection, as a sender with GSO cuts
// them, and moves on with each round.
type talk struct {
	req, resp []byte
	seq       [2]uint32
	port      uint16
	cut       int
}

var benchHead = "GET /api/users/12345?full=1 HTTP/1.1\r\nHost: users.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
	"Accept: application/json\r\nAccept-Encoding: gzip\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef\r\n" +
	"X-Request-Id: 7b3bf470-9456-11ee-b9d1-0242ac120002\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: keep-alive\r\n\r\n"

func newTalk(size, cut int, port uint16) *talk {
	body := bytes.Repeat([]byte("x"), size)
	resp := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nConnection: keep-alive\r\nETag: \"5f3e\"\r\n\r\n", size)
	return &talk{req: []byte(benchHead), resp: append([]byte(resp), body...), port: port, cut: cut}
}

func (t *talk) open(a *reassembly.Assembler, s *reassembly.Segment) {
	*s = reassembly.Segment{SrcPort: t.port, DstPort: 80, Seq: 99, Flags: reassembly.SYN, Side: reassembly.ToServer}
	s.Src[15], s.Dst[15] = 1, 2
	a.Segment(s)
	t.seq = [2]uint32{100, 200}
	*s = reassembly.Segment{SrcPort: 80, DstPort: t.port, Seq: 199, Ack: 100, Flags: reassembly.SYN | reassembly.ACK, Side: reassembly.ToClient}
	s.Src[15], s.Dst[15] = 2, 1
	a.Segment(s)
}

func (t *talk) round(a *reassembly.Assembler, s *reassembly.Segment) {
	*s = reassembly.Segment{SrcPort: t.port, DstPort: 80, Seq: t.seq[0], Ack: t.seq[1], Flags: reassembly.ACK, Side: reassembly.ToServer, Payload: t.req}
	s.Src[15], s.Dst[15] = 1, 2
	a.Segment(s)
	t.seq[0] += uint32(len(t.req))
	for b := t.resp; len(b) > 0; {
		n := min(len(b), t.cut)
		*s = reassembly.Segment{SrcPort: 80, DstPort: t.port, Seq: t.seq[1], Ack: t.seq[0], Flags: reassembly.ACK, Side: reassembly.ToClient, Payload: b[:n]}
		s.Src[15], s.Dst[15] = 2, 1
		a.Segment(s)
		t.seq[1] += uint32(n)
		b = b[n:]
	}
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
	budget := &reassembly.Budget{Limit: 256 << 20}
	p, err := http1.New(http1.Config{Keeper: c, Sink: c, Budget: budget})
	if err != nil {
		b.Fatal(err)
	}
	a, err := reassembly.New(reassembly.Config{Factory: p, Budget: budget})
	if err != nil {
		b.Fatal(err)
	}
	var s reassembly.Segment
	talks := make([]*talk, conns)
	for i := range talks {
		talks[i] = newTalk(size, 16<<10, uint16(1024+i))
		talks[i].open(a, &s)
	}
	for _, t := range talks {
		t.round(a, &s)
	}
	c.n = 0
	b.SetBytes(int64(len(talks[0].req) + len(talks[0].resp)))
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

// What is not kept allocates nothing.
func TestFramedExchangeAllocatesNothing(t *testing.T) {
	c := &counter{}
	budget := &reassembly.Budget{Limit: 16 << 20}
	p, _ := http1.New(http1.Config{Keeper: c, Sink: c, Budget: budget})
	a, _ := reassembly.New(reassembly.Config{Factory: p, Budget: budget})
	var s reassembly.Segment
	tk := newTalk(40_000, 1448, 1024)
	tk.open(a, &s)
	tk.round(a, &s)
	before := c.n
	if n := testing.AllocsPerRun(100, func() { tk.round(a, &s) }); n != 0 {
		t.Errorf("%v allocations for an exchange that is not kept", n)
	}
	if c.n-before < 100 {
		t.Errorf("only %d exchanges were complete", c.n-before)
	}
}

// BenchmarkNetHTTP reads the same bytes with net/http, for comparison.
func BenchmarkNetHTTP(b *testing.B) {
	t := newTalk(4096, 16<<10, 1)
	b.ReportAllocs()
	rq, rs := bytes.NewReader(nil), bytes.NewReader(nil)
	bq, bs := bufio.NewReader(nil), bufio.NewReader(nil)
	for b.Loop() {
		rq.Reset(t.req)
		rs.Reset(t.resp)
		bq.Reset(rq)
		bs.Reset(rs)
		q, err := http.ReadRequest(bq)
		if err != nil {
			b.Fatal(err)
		}
		r, err := http.ReadResponse(bs, q)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			b.Fatal(err)
		}
	}
}
