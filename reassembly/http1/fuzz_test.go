package http1_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// Any bytes on a connection, cut, lost and joined anywhere: no panic, no byte
// and no exchange without its counter.
func FuzzConnection(f *testing.F) {
	f.Add([]byte(benchHead), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), uint64(1))
	f.Add([]byte("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), []byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), uint64(2))
	f.Add([]byte("CONNECT a:1 HTTP/1.1\r\n\r\nxx"), []byte("HTTP/1.1 200 OK\r\n\r\nyy"), uint64(3))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"), []byte("HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n\x81\x00"), uint64(4))
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), []byte("\x00\x00\x00\x04\x00"), uint64(5))
	f.Add([]byte("\x16\x03\x01\x02\x00"), []byte("\x16\x03"), uint64(6))
	f.Add([]byte("GET / HTTP/1.1\r\nhos\v: a\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\nhos\v: a\r\n\r\n"), uint64(7))
	f.Add(bytes.Repeat([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 4), bytes.Repeat([]byte("HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n"+strings.Repeat("a", 16384)), 4), uint64(11))
	f.Fuzz(func(t *testing.T, client, server []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 3))
		var c segmenttest.Conversation
		for len(client)+len(server) > 0 {
			if n := r.IntN(len(client) + 1); n > 0 {
				c.Messages = append(c.Messages, segmenttest.Message{ToServer: true, Bytes: client[:n]})
				client = client[n:]
			}
			if n := r.IntN(len(server) + 1); n > 0 {
				c.Messages = append(c.Messages, segmenttest.Message{Bytes: server[:n]})
				server = server[n:]
			}
		}
		c.FIN = seed%2 == 0
		segs := segmenttest.Cut(r, &c, 1+r.IntN(2000), segmenttest.RandomISN(r))
		path := segmenttest.Path(seed%5 > 0)
		if seed%7 == 0 {
			segs, _ = segmenttest.Mutate(r, segs, segmenttest.File())
		}
		segs = segmenttest.Drop(r, segs, path, 20)
		if seed%3 == 0 && len(segs) > 2 {
			segs, _ = segmenttest.Join(r, segs)
		}
		res := run(t, segs, path, exchange.Want(seed%3))
		for _, x := range res.Exchanges {
			if x.Request == nil || x.Response == nil || x.Response.Status < 100 || x.Request.Method == "" {
				t.Fatalf("half an exchange: %+v", x)
			}
		}
		if seed%11 == 0 {
			playForecasts(t, segs, &forecastTap{blind: seed%2 == 0}, r.IntN(3), nil)
		}
	})
}

// However an answer is cut, the parser gives the same.
func FuzzResponseParser(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), uint16(3), "GET")
	f.Add([]byte("HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nT: v\r\n\r\n"), uint16(30), "GET")
	f.Add([]byte("HTTP/1.0 200 OK\r\n\r\nto the end"), uint16(19), "GET")
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), uint16(1), "HEAD")
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, method string) {
		type end struct {
			n      int
			done   bool
			failed bool
			status int
			body   string
		}
		read := func(parts ...[]byte) (e end) {
			p := http1.NewResponseParser(http1.ResponseConfig{MaxBody: 1 << 16})
			p.Reset(method)
			for _, b := range parts {
				n, done, err := p.Feed(b, 1)
				e.n += n
				if n > len(b) || done && n < len(b) && err != nil {
					t.Fatalf("%d of %d bytes, %v, %v", n, len(b), done, err)
				}
				if e.done, e.failed = done, err != nil; e.done || e.failed {
					break
				}
			}
			if !e.done && !e.failed {
				e.done, _ = p.EOF(2)
			}
			if e.done {
				e.status, e.body = p.Response().Status, string(p.Response().Body.Bytes)
			}
			if e.failed {
				e.n = 0
			}
			return e
		}
		k := min(int(cut), len(b))
		if one, two := read(bytes.Clone(b)), read(bytes.Clone(b[:k]), bytes.Clone(b[k:])); one != two {
			t.Fatalf("whole %+v, cut at %d %+v", one, k, two)
		}
	})
}
