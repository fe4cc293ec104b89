package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The generator tells every kind of answer from the right one, also when it
// comes byte by byte.
func TestLoadCountsWhatItGets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var right, wrong, reset atomic.Int64
	const kinds = 6
	serve := func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			var n int
			id := req.URL.Query().Get("id")
			if _, err := fmt.Sscanf(id, "p-%d", &n); err != nil || req.URL.Path != "/4k" {
				t.Errorf("request for %s", req.URL)
				return
			}
			answer := "HTTP/1.1 200 OK\r\nX-Id: " + id + "\r\nContent-Length: 100\r\n\r\n" + strings.Repeat("x", 100)
			switch n % kinds {
			case 0:
				right.Add(1)
			case 1: // byte by byte
				right.Add(1)
				for i := range len(answer) - 1 {
					conn.Write([]byte(answer[i : i+1]))
				}
				answer = answer[len(answer)-1:]
			case 2:
				wrong.Add(1)
				answer = strings.Replace(answer, "200 OK", "404 Not Found", 1)
			case 3:
				wrong.Add(1)
				answer = strings.Replace(answer, id, "p-9999999", 1)
			case 4: // a byte more than it says
				wrong.Add(1)
				answer += "x"
			case 5: // cut
				reset.Add(1)
				conn.Write([]byte(answer[:len(answer)-1]))
				return
			}
			conn.Write([]byte(answer))
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	for _, rate := range []float64{0, 500} {
		right.Store(0)
		wrong.Store(0)
		reset.Store(0)
		g := generator{buffer: make([]byte, 4096), load: load{
			Address: netip.MustParseAddrPort(l.Addr().String()), Path: "/4k", Prefix: "p", Length: 100,
			Connections: 4, Rate: rate, Warmup: 50 * time.Millisecond, Duration: 200 * time.Millisecond,
		}}
		if err := g.play(); err != nil {
			t.Fatal(err)
		}
		p := g.result
		if p.Sent < kinds || p.Sent != p.Right+p.Wrong+p.Reset {
			t.Errorf("rate %v: sent %d, right %d, wrong %d, reset %d", rate, p.Sent, p.Right, p.Wrong, p.Reset)
		}
		if p.Right != int(right.Load()) || p.Wrong != int(wrong.Load()) || p.Reset != int(reset.Load()) {
			t.Errorf("rate %v: right %d, wrong %d, reset %d; the server gave %d, %d, %d", rate,
				p.Right, p.Wrong, p.Reset, right.Load(), wrong.Load(), reset.Load())
		}
		if rate > 0 && (p.Sent > 126 || p.PerSecond <= 0) {
			t.Errorf("%d requests at 500/s in 0.25 s, %v right answers a second", p.Sent, p.PerSecond)
		}
		if p.P50 <= 0 || p.P99 < p.P50 {
			t.Errorf("rate %v: latencies %v and %v", rate, p.P50, p.P99)
		}
	}
}

func FuzzCheckHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 200\r\nX-Id: p-17\r\n"))
	f.Add([]byte("HTTP/1.1 200 \r\n:\r\n\r\nX-Id"))
	f.Fuzz(func(t *testing.T, head []byte) {
		length, right := checkHead(head, 200, "p", 17)
		if right && length != 200 {
			t.Errorf("right with a length of %d", length)
		}
		if s := string(head); right && (!strings.HasPrefix(s, "HTTP/1.1 200 ") || !strings.Contains(s, "p-17")) {
			t.Errorf("right: %q", s)
		}
		if length < -1 {
			t.Errorf("a length of %d", length)
		}
	})
}
