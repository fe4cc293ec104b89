package http1_test

import (
	"errors"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/http1"
)

// The times are those of the final head and of the end, whatever came before.
func TestResponseTimes(t *testing.T) {
	p := http1.NewResponseParser(http1.ResponseConfig{})
	p.Reset("GET")
	for now, part := range []string{"HTTP/1.1 103 Early\r\n", "\r\n", "HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n\r\no", "k"} {
		if _, done, err := p.Feed([]byte(part), int64(now+1)); err != nil || done != (now == 4) {
			t.Fatalf("part %d: done %v, %v", now, done, err)
		}
	}
	if r := p.Response(); r.FirstByte != 3 || r.LastByte != 5 || len(r.Interim) != 1 || string(r.Body.Bytes) != "ok" {
		t.Errorf("%+v", r)
	}
	if !p.KeepAlive() || !p.Started() {
		t.Error("the connection may be used again")
	}
}

func TestResponseConnection(t *testing.T) {
	for _, tt := range []struct {
		name, method, answer string
		n                    int
		done, alive          bool
		err                  error
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxNEXT", 39, true, true, nil},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 58, true, false, nil},
		{"1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 39, true, false, nil},
		{"1.0 kept", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", 63, true, true, nil},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 38, true, true, nil},
		{"both framings", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 71, true, false, nil},
		{"as many fields as are read", "GET", withFields(ok2, 1024)[1:], 40 + 6*1023, true, true, nil},
		{"a field more", "GET", withFields(ok2, 1025)[1:], 38 + 6*1024, false, false, http1.ErrResponse},
		{"no HTTP", "GET", "220 mail", 8, false, false, http1.ErrResponse},
		{"101", "GET", "HTTP/1.1 101 S\r\n\r\n", 18, false, false, http1.ErrResponse},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := http1.NewResponseParser(http1.ResponseConfig{})
			p.Reset(tt.method)
			n, done, err := p.Feed([]byte(tt.answer), 1)
			if n != tt.n || done != tt.done || !errors.Is(err, tt.err) || p.KeepAlive() != tt.alive {
				t.Errorf("%d bytes, done %v, alive %v, %v", n, done, p.KeepAlive(), err)
			}
		})
	}
	p := http1.NewResponseParser(http1.ResponseConfig{})
	p.Reset("GET")
	if _, _, err := p.Feed([]byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := p.EOF(2); !errors.Is(err, http1.ErrCut) {
		t.Errorf("EOF inside a body: %v", err)
	}
}
