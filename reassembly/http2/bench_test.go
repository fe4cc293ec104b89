package http2_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
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

// talk is a connection that carries the same exchange again and again, on a new
// stream each time, in segments as a sender with GSO cuts them.
type talk struct {
	req, resp []byte
	ids       [2][]int // where the stream's number stands
	seq       [2]uint32
	port      uint16
	cut       int
	id        uint32
	reqs      [][]byte // what req is next, in turns; nil when always the same
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
// later one to be repeated. path, when not nil, writes the string of a literal path
// that is not put into the table (RFC 7541 section 6.2.2) and is another one each
// time.
func newTalk(size, cut int, port uint16, path func(string) string) (t *talk, first []message) {
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
	if path != nil {
		enc := v.side[0].encode
		before, behind := string(enc(benchFields[:2]...))+"\x04", string(enc(benchFields[3:]...))
		answer := v.msgs[1:]
		for i := range 500 {
			v.msgs = nil
			v.frame(true, 1, 5, 3, before+path(fmt.Sprintf("/api/users/%08d", i*7919))+behind)
			t.reqs = append(t.reqs, v.msgs[0].b)
		}
		v.msgs = append(v.msgs, answer...)
	}
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

// tap takes the segments of talks.
type tap interface {
	segment(port uint16, client bool, seq, ack uint32, f reassembly.Flags, payload []byte)
}

func (t *talk) open(to tap, first []message) {
	to.segment(t.port, true, 99, 0, reassembly.SYN, nil)
	to.segment(t.port, false, 199, 100, reassembly.SYN|reassembly.ACK, nil)
	for _, m := range first {
		t.send(to, m.client, m.b)
	}
}

func (t *talk) send(to tap, client bool, b []byte) {
	i := index(client)
	for len(b) > 0 {
		n := min(len(b), t.cut)
		to.segment(t.port, client, t.seq[i], t.seq[1-i], reassembly.ACK, b[:n])
		t.seq[i] += uint32(n)
		b = b[n:]
	}
}

func (t *talk) round(to tap) {
	for i, b := range [2][]byte{t.req, t.resp} {
		for _, at := range t.ids[i] {
			binary.BigEndian.PutUint32(b[at:], t.id)
		}
		t.send(to, i == 0, b)
	}
	if len(t.reqs) > 0 {
		t.req = t.reqs[int(t.id/2)%len(t.reqs)]
	}
	if t.id += 2; t.id >= 1<<31 {
		panic("no more streams")
	}
}

// ours is this package and the assembler.
type ours struct {
	*reassembly.Assembler
	s reassembly.Segment
}

func (o *ours) segment(port uint16, client bool, seq, ack uint32, f reassembly.Flags, payload []byte) {
	s := &o.s
	s.Seq, s.Ack, s.Flags, s.Payload = seq, ack, f, payload
	s.Src, s.Dst = [16]byte{15: 1}, [16]byte{15: 2}
	s.SrcPort, s.DstPort, s.Side = port, 80, reassembly.ToServer
	if !client {
		s.Src, s.Dst, s.SrcPort, s.DstPort, s.Side = s.Dst, s.Src, 80, port, reassembly.ToClient
	}
	o.Segment(s)
}

// pair is gopacket's reassembly, and x/net's Framer with hpack.
type pair struct{ *pairtest.Pair }

func newPair(w exchange.Want) pair {
	return pair{pairtest.New(func(client bool, r io.Reader, done func()) { readFrames(client, r, w == exchange.WantWhole, done) })}
}

func (p pair) segment(port uint16, client bool, seq, ack uint32, f reassembly.Flags, payload []byte) {
	p.Segment(port, client, seq, ack, f, payload)
}

// readFrames reads a direction with x/net's Framer, and counts the streams that
// the server ends.
func readFrames(client bool, from io.Reader, keep bool, done func()) {
	r := bufio.NewReader(from)
	if client {
		if _, err := r.Discard(len(preface)); err != nil {
			return
		}
	}
	fr := xhttp2.NewFramer(io.Discard, r)
	fr.SetReuseFrames()
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	bodies := map[uint32]*bytes.Buffer{}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		end := false
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame:
			end = f.StreamEnded()
			if keep {
				bodies[f.StreamID] = &bytes.Buffer{}
			}
		case *xhttp2.DataFrame:
			end = f.StreamEnded()
			if keep {
				bodies[f.StreamID].Write(f.Data())
			}
		}
		if !end {
			continue
		}
		delete(bodies, f.Header().StreamID)
		if !client {
			done()
		}
	}
}

func newShard(c *counter, limit int64) *reassembly.Assembler {
	return shardFor(c, &reassembly.Budget{Limit: limit})
}

// BenchmarkExchange is one exchange from segments to the sink. One busy
// connection is one shard's and so one core's: its exchanges per second with
// conns=1 are the ceiling.
func BenchmarkExchange(b *testing.B) {
	for _, size := range []int{200, 4096, 65536} {
		for _, conns := range []int{1, 10_000} {
			for _, w := range []struct {
				name string
				want exchange.Want
			}{{"framed", exchange.WantFrame}, {"kept", exchange.WantWhole}} {
				b.Run(fmt.Sprintf("%dB/conns=%d/%s", size, conns, w.name), func(b *testing.B) {
					compare(b, size, conns, w.want, nil)
				})
			}
		}
	}
}

// The strings of header blocks (RFC 7541 section 5.2).
func plainString(s string) string { return stringOf(0, s) }

func huffmanString(s string) string { return stringOf(0x80, string(hpack.AppendHuffmanString(nil, s))) }

func stringOf(coded byte, b string) string {
	if n := len(b); n >= 0x7f {
		return string(binary.AppendUvarint([]byte{coded | 0x7f}, uint64(n-0x7f))) + b
	}
	return string([]byte{coded | byte(len(b))}) + b
}

// BenchmarkPaths is an exchange of 200 B that is not kept, whose path is another one
// each time.
func BenchmarkPaths(b *testing.B) {
	b.Run("plain", func(b *testing.B) { compare(b, 200, 1, exchange.WantFrame, plainString) })
	b.Run("huffman", func(b *testing.B) { compare(b, 200, 1, exchange.WantFrame, huffmanString) })
}

// compare runs one exchange after the other through this package and through
// the pair, on one core. Neither side decodes packets: both get the same parsed
// fields and payloads.
func compare(b *testing.B, size, conns int, w exchange.Want, path func(string) string) {
	one, first := newTalk(size, 16<<10, 1024, path)
	run := func(b *testing.B, to tap, wait func(n int)) {
		talks := make([]*talk, conns)
		for i := range talks {
			t := *one
			t.req = bytes.Clone(one.req)
			t.port = uint16(1024 + i)
			talks[i] = &t
			t.open(to, first)
			talks[i].seq = t.seq
		}
		for _, t := range talks {
			t.round(to)
		}
		wait(2 * conns)
		b.SetBytes(int64(len(one.req) + len(one.resp)))
		b.ReportAllocs()
		runtime.GC()
		b.ResetTimer()
		for i := range b.N {
			talks[i%conns].round(to)
		}
		wait(2*conns + b.N)
		b.StopTimer()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
	}
	b.Run("shadowtap", func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		c := &counter{want: w}
		run(b, &ours{Assembler: newShard(c, 1<<30)}, func(n int) {
			if c.n != n {
				b.Fatalf("%d exchanges of %d", c.n, n)
			}
		})
	})
	b.Run("gopacket+x/net", func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		p := newPair(w)
		defer p.Close()
		run(b, p, func(n int) { p.Wait(int64(n)) })
	})
}

// What is not kept allocates nothing, once its fields are in the tables, with the
// same path or another one each time.
func TestFramedExchangeAllocatesNothing(t *testing.T) {
	c := &counter{}
	o := &ours{Assembler: newShard(c, 16<<20)}
	for i, path := range []func(string) string{nil, plainString, huffmanString} {
		tk, first := newTalk(40_000, 1448, uint16(1024+i), path)
		tk.open(o, first)
		for range 2 {
			tk.round(o)
		}
		before := c.n
		if n := testing.AllocsPerRun(100, func() { tk.round(o) }); n != 0 {
			t.Errorf("paths %d: %v allocations for an exchange that is not kept", i, n)
		}
		if c.n-before < 100 {
			t.Errorf("paths %d: only %d exchanges were complete", i, c.n-before)
		}
	}
}

// BenchmarkRest is a connection that rests and is woken by the next exchange,
// whose tables hold benchFields and benchAnswer.
func BenchmarkRest(b *testing.B) {
	c := &counter{}
	o := &ours{Assembler: newShard(c, 16<<20)}
	tk, first := newTalk(200, 16<<10, 1024, nil)
	tk.open(o, first)
	b.ReportAllocs()
	for b.Loop() {
		o.s.Time += 3e9
		o.Tick(o.s.Time)
		tk.round(o)
	}
	if c.n != b.N+1 {
		b.Fatalf("%d exchanges of %d", c.n, b.N+1)
	}
}

// An exchange that is kept is a few pieces of memory: itself, its body and its ID.
// Fields that come again and again are shared.
func TestKeptExchangeAllocatesLittle(t *testing.T) {
	c := &counter{want: exchange.WantWhole}
	o := &ours{Assembler: newShard(c, 16<<20)}
	tk, first := newTalk(4096, 1448, 1024, nil)
	tk.open(o, first)
	tk.round(o)
	tk.round(o)
	before := c.n
	if n := testing.AllocsPerRun(100, func() { tk.round(o) }); n > 3 {
		t.Errorf("%v allocations for an exchange that is kept", n)
	}
	if c.n-before < 100 {
		t.Errorf("only %d exchanges were complete", c.n-before)
	}
}
