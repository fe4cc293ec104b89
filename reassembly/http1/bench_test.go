package http1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/pairtest"
)

// counter keeps nothing but what a Want asks for.
type counter struct {
	want exchange.Want
	n    int
}

func (c *counter) Keep(*exchange.Head) exchange.Decision { return exchange.Decision{Want: c.want} }
func (c *counter) Complete(*exchange.Complete)           { c.n++ }
func (c *counter) Lost(exchange.Lost)                    {}

// talk is a connection that repeats one exchange: what it sends, cut into
// segments as a sender with GSO cuts them.
type talk struct {
	*scriptedExchange
	seq  [2]uint32 // next of the client, the server
	port uint16
}

type scriptedExchange struct {
	req  []byte
	resp [][]byte // the segments of the answer, in the order of the stream
	swap bool     // each two of them stand in the wrong order
}

var benchHead = "GET /api/users/12345?full=1 HTTP/1.1\r\nHost: users.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n" +
	"Accept: application/json\r\nAccept-Encoding: gzip\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef\r\n" +
	"X-Request-Id: 7b3bf470-9456-11ee-b9d1-0242ac120002\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: keep-alive\r\n\r\n"

func scriptExchange(size, cut int, swap bool) *scriptedExchange {
	resp := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nConnection: keep-alive\r\nETag: \"5f3e\"\r\n\r\n%s", size, bytes.Repeat([]byte("x"), size))
	e := &scriptedExchange{req: []byte(benchHead), swap: swap}
	for b := resp; len(b) > 0; b = b[min(len(b), cut):] {
		e.resp = append(e.resp, b[:min(len(b), cut)])
	}
	return e
}

func (e *scriptedExchange) size() (n int64) {
	for _, b := range e.resp {
		n += int64(len(b))
	}
	return n + int64(len(e.req))
}

// tap takes the segments of talks.
type tap interface {
	segment(t *talk, toServer bool, seq, ack uint32, f reassembly.Flags, payload []byte)
}

func (t *talk) open(to tap) {
	to.segment(t, true, 99, 0, reassembly.SYN, nil)
	to.segment(t, false, 199, 100, reassembly.SYN|reassembly.ACK, nil)
	t.seq = [2]uint32{100, 200}
}

func (t *talk) round(to tap) {
	to.segment(t, true, t.seq[0], t.seq[1], reassembly.ACK, t.req)
	t.seq[0] += uint32(len(t.req))
	for i := 0; i < len(t.resp); i++ {
		b := t.resp[i]
		if t.swap && i+1 < len(t.resp) {
			next := t.resp[i+1]
			to.segment(t, false, t.seq[1]+uint32(len(b)), t.seq[0], reassembly.ACK, next)
			to.segment(t, false, t.seq[1], t.seq[0], reassembly.ACK, b)
			t.seq[1] += uint32(len(b) + len(next))
			i++
			continue
		}
		to.segment(t, false, t.seq[1], t.seq[0], reassembly.ACK, b)
		t.seq[1] += uint32(len(b))
	}
}

// ours is this package and the assembler.
type ours struct {
	*reassembly.Assembler
	s reassembly.Segment
}

func (o *ours) segment(t *talk, toServer bool, seq, ack uint32, f reassembly.Flags, payload []byte) {
	s := &o.s
	s.Seq, s.Ack, s.Flags, s.Payload = seq, ack, f, payload
	s.Src, s.Dst = [16]byte{15: 1}, [16]byte{15: 2}
	s.SrcPort, s.DstPort, s.Side = t.port, 80, reassembly.ToServer
	if !toServer {
		s.Src, s.Dst, s.SrcPort, s.DstPort, s.Side = s.Dst, s.Src, 80, t.port, reassembly.ToClient
	}
	o.Segment(s)
}

func newOurs(tb testing.TB, w exchange.Want) (*ours, *counter) {
	c := &counter{want: w}
	budget := &reassembly.Budget{Limit: 256 << 20}
	return oursFor(tb, c, budget), c
}

// oursFor is one that hands what it finds to sink.
func oursFor(t interface{ Fatal(...any) }, sink interface {
	exchange.Keeper
	exchange.Sink
}, budget *reassembly.Budget) *ours {
	p, err := http1.New(http1.Config{Keeper: sink, Sink: sink, Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	a, err := reassembly.New(reassembly.Config{Factory: p, Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	return &ours{Assembler: a}
}

// pair is the usual pair: gopacket's reassembly, and net/http behind a
// bufio.Reader.
type pair struct{ *pairtest.Pair }

func newPair(w exchange.Want) pair {
	return pair{pairtest.New(func(client bool, r io.Reader, done func()) { readHTTP(client, r, w == exchange.WantWhole, done) })}
}

func (p pair) segment(t *talk, toServer bool, seq, ack uint32, f reassembly.Flags, payload []byte) {
	p.Segment(t.port, toServer, seq, ack, f, payload)
}

func readHTTP(client bool, from io.Reader, keep bool, done func()) {
	b := bufio.NewReader(from)
	body := func(r io.ReadCloser) {
		if keep {
			io.ReadAll(r)
		} else {
			io.Copy(io.Discard, r)
		}
		r.Close()
	}
	for {
		if client {
			q, err := http.ReadRequest(b)
			if err != nil {
				return
			}
			body(q.Body)
			continue
		}
		a, err := http.ReadResponse(b, nil)
		if err != nil {
			return
		}
		body(a.Body)
		done()
	}
}

// compare runs one exchange after the other through this package and through
// the pair, on one core. Neither side decodes packets: both get the same parsed
// fields and payloads.
func compare(b *testing.B, e *scriptedExchange, conns int, w exchange.Want) {
	talks := func() []*talk {
		t := make([]*talk, conns)
		for i := range t {
			t[i] = &talk{scriptedExchange: e, port: uint16(1024 + i)}
		}
		return t
	}
	b.Run("shadowtap", func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		o, c := newOurs(b, w)
		all := talks()
		for _, t := range all {
			t.open(o)
			t.round(o)
		}
		c.n = 0
		b.SetBytes(e.size())
		b.ReportAllocs()
		runtime.GC()
		b.ResetTimer()
		for i := range b.N {
			all[i%conns].round(o)
		}
		b.StopTimer()
		if c.n != b.N {
			b.Fatalf("%d exchanges of %d", c.n, b.N)
		}
	})
	b.Run("gopacket+nethttp", func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		p := newPair(w)
		all := talks()
		for _, t := range all {
			t.open(p)
			t.round(p)
		}
		p.Wait(int64(conns))
		b.SetBytes(e.size())
		b.ReportAllocs()
		runtime.GC()
		b.ResetTimer()
		for i := range b.N {
			all[i%conns].round(p)
		}
		p.Wait(int64(conns + b.N))
		b.StopTimer()
		p.Close()
	})
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
					compare(b, scriptExchange(size, 16<<10, false), conns, w.want)
				})
			}
		}
	}
}

// BenchmarkSegments is an exchange of 64 KB in segments of Ethernet's size, and
// with each two of them swapped; and one of 4 KB in segments of 100 bytes.
func BenchmarkSegments(b *testing.B) {
	for _, c := range []struct {
		name      string
		size, cut int
		swap      bool
	}{
		{"64KB/1448B", 65536, 1448, false},
		{"64KB/1448B/swapped", 65536, 1448, true},
		{"64KB/16KB/swapped", 65536, 16 << 10, true},
		{"4KB/100B", 4096, 100, false},
		{"4KB/100B/swapped", 4096, 100, true},
	} {
		b.Run(c.name, func(b *testing.B) { compare(b, scriptExchange(c.size, c.cut, c.swap), 1, exchange.WantFrame) })
	}
}

// What is not kept allocates nothing, in order or not, with the head in one
// piece or not.
func TestFramedExchangeAllocatesNothing(t *testing.T) {
	for i := range 4 {
		swap, cut := i%2 == 1, []int{1448, 100}[i/2]
		o, c := newOurs(t, exchange.WantFrame)
		tk := &talk{scriptedExchange: scriptExchange(40_000, cut, swap), port: 1024}
		tk.open(o)
		tk.round(o)
		before := c.n
		if n := testing.AllocsPerRun(100, func() { tk.round(o) }); n != 0 {
			t.Errorf("swapped %v, %d bytes: %v allocations for an exchange that is not kept", swap, cut, n)
		}
		if c.n-before < 100 {
			t.Errorf("swapped %v, %d bytes: only %d exchanges were complete", swap, cut, c.n-before)
		}
	}
}

// An exchange that is kept is a few large pieces of memory, whatever its fields:
// itself, its fields, two heads with a short body, and its ID.
func TestKeptExchangeAllocatesLittle(t *testing.T) {
	o, c := newOurs(t, exchange.WantWhole)
	tk := &talk{scriptedExchange: scriptExchange(4096, 1448, false), port: 1024}
	tk.open(o)
	tk.round(o)
	before := c.n
	if n := testing.AllocsPerRun(100, func() { tk.round(o) }); n > 5 {
		t.Errorf("%v allocations for an exchange that is kept", n)
	}
	if c.n-before < 100 {
		t.Errorf("only %d exchanges were complete", c.n-before)
	}
}
