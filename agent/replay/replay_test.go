package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func TestAsCaptured(t *testing.T) {
	heads := make(chan string, 1)
	srv := serve(t, func(c net.Conn, _ int) {
		for {
			h := readHead(c)
			if h == "" {
				return
			}
			n := 0
			if i := strings.Index(h, "Content-Length: "); i >= 0 {
				fmt.Sscan(h[i+len("Content-Length: "):], &n)
			}
			if strings.Contains(h, "chunked") {
				n = len("2;x=y\r\nhi\r\n0\r\nX-T: 1\r\n\r\n")
			}
			b := make([]byte, n)
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			heads <- h + string(b)
			io.WriteString(c, mockOK)
		}
	})
	u := start(t, config(srv.url))
	for _, c := range []struct {
		x    *exchange.Exchange
		want string
	}{
		{get("//evil/x?a=%zz#f"), "GET //evil/x?a=%zz#f HTTP/1.1\r\nHost: users.example\r\n"},
		{request("", "OPTIONS * HTTP/1.1", "hOST:x", "b: 2", "B: 1"), "OPTIONS * HTTP/1.1\r\nhOST:x\r\nb: 2\r\nB: 1\r\n"},
		{post("/p", "a\x00b"), "POST /p HTTP/1.1\r\nHost: users.example\r\nContent-Length: 3\r\n"},
		{request("2;x=y\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", "POST /p HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"), "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"},
		{request("abc", "POST /p HTTP/1.1", "Host: h", "Expect: 100-continue", "Content-Length: 3"), "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"},
	} {
		p := u.one(c.x)
		p.ok(t, 200, "ok")
		if got, want := <-heads, c.want+"X-Shadow-Test-Role: candidate\r\n\r\n"+string(c.x.Request.Wire); got != want {
			t.Errorf("sent\n%q, want\n%q", got, want)
		}
		if p.x != c.x {
			t.Error("another exchange's outcome")
		}
	}
	if s := u.balanced(); s.Opened != 1 || s.Reused != 4 || s.Results[Compared] != 5 || srv.accepted() != 1 {
		t.Errorf("connections: %+v, server saw %d", s, srv.accepted())
	}
}

// The connection goes where the configuration says, whatever the request says.
func TestConnectionByConfiguration(t *testing.T) {
	evil := serve(t, func(c net.Conn, _ int) { t.Error("connection to evil"); drain(c) })
	ev := evil.Addr().String()
	for _, e := range proxyVariables {
		t.Setenv(e, evil.url)
	}
	good := answer(t, func(h string) string {
		if strings.HasPrefix(h, "GET /redirect") {
			return "HTTP/1.1 302 Found\r\nLocation: " + evil.url + "/\r\nContent-Length: 0\r\n\r\n"
		}
		return mockOK
	})
	for _, c := range []struct {
		name    string
		head    []string
		refused bool
	}{
		{"plain", []string{"GET / HTTP/1.1", "Host: users.example"}, false},
		{"two slashes", []string{"GET //" + ev + "/x HTTP/1.1", "Host: users.example"}, false},
		{"backslashes", []string{"GET /\\" + ev + "/x HTTP/1.1", "Host: users.example"}, false},
		{"at in the path", []string{"GET /@" + ev + "/ HTTP/1.1", "Host: users.example"}, false},
		{"lying host", []string{"GET / HTTP/1.1", "Host: " + ev}, false},
		{"host with user", []string{"GET / HTTP/1.1", "Host: users.example@" + ev}, false},
		{"forwarded", []string{"GET / HTTP/1.1", "Host: h", "Forwarded: host=" + ev, "X-Forwarded-Host: " + ev, "X-Original-URL: " + evil.url}, false},
		{"redirect", []string{"GET /redirect HTTP/1.1", "Host: h"}, false},
		{"refresh", []string{"GET / HTTP/1.1", "Host: h", "Referer: " + evil.url, "Alt-Svc: h2=\"" + ev + "\""}, false},
		{"at", []string{"GET @" + ev + "/ HTTP/1.1", "Host: h"}, true},
		{"absolute form", []string{"GET " + evil.url + "/ HTTP/1.1", "Host: h"}, true},
		{"absolute form with own address", []string{"GET " + good.url + "/ HTTP/1.1", "Host: h"}, true},
		{"authority form", []string{"CONNECT " + ev + " HTTP/1.1", "Host: " + ev}, true},
		{"authority form, another method", []string{"GET " + ev + " HTTP/1.1", "Host: " + ev}, true},
		{"relative", []string{"GET x HTTP/1.1", "Host: h"}, true},
		{"injected by CR", []string{"GET / HTTP/1.1\rHost: " + ev, "Host: h"}, true},
		{"injected by LF", []string{"GET / HTTP/1.1", "Host: h", "A: b\nHost: " + ev}, true},
		{"injected request", []string{"GET / HTTP/1.1", "Host: h", "A: b\r\n\r\nGET / HTTP/1.1"}, true},
		{"second host", []string{"GET / HTTP/1.1", "Host: h", "Host: " + ev}, true},
	} {
		for _, host := range []string{"keep", "candidate"} {
			t.Run(c.name+"/"+host, func(t *testing.T) {
				cfg := config(good.url)
				cfg.Host = host
				u := start(t, cfg)
				p := u.one(request("", c.head...))
				if c.refused {
					p.failed(t, ErrorRefused)
					if s := u.Stats(); s.Opened != 0 || s.Sent != 0 {
						t.Errorf("something was sent: %+v", s)
					}
					return
				}
				if p.Error != "" || p.Address != good.Addr().String() {
					t.Fatalf("%s %s, at %s", p.Error, p.Detail, p.Address)
				}
			})
		}
	}
}

func TestNotReplayed(t *testing.T) {
	srv := serve(t, func(c net.Conn, _ int) { t.Error("connected"); drain(c) })
	cfg := config(srv.url)
	cfg.Breaker = Breaker{Failures: 2}
	u := start(t, cfg)
	doubt := get("/")
	doubt.Doubt = exchange.DoubtOverlap
	listed := get("/")
	listed.Request.Head = nil
	cut := post("/", "abc")
	cut.Request.Body.Truncated = true
	short := post("/", "abc")
	short.Request.Wire = short.Request.Wire[:2]
	more := get("/")
	more.Request.Wire = []byte("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
	unchunked := request("", "POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked")
	for _, x := range []*exchange.Exchange{doubt, listed, cut, short, more, unchunked} {
		u.one(x).failed(t, ErrorRefused)
	}
	s := u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
	if s.Results[Compared] != 6 || s.Errors[1] != 6 || s.Breaker != "closed" {
		t.Errorf("%+v", s)
	}
}

// Answers of every shape, each read to its end, and what becomes of the
// connection.
func TestAnswers(t *testing.T) {
	big := strings.Repeat("x", 300<<10)
	for _, c := range []struct {
		name   string
		method string
		answer string
		close  bool // the server closes behind the answer
		word   string
		status int
		body   string
		reused bool // the next request goes over the same connection
	}{
		{name: "length", answer: mockOK, status: 200, body: "ok", reused: true},
		{name: "empty", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200, reused: true},
		{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-T: 1\r\n\r\n", status: 200, body: "ok", reused: true},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", status: 204, reused: true},
		{name: "304 with length", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n", status: 304, reused: true},
		{name: "HEAD", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", status: 200, reused: true},
		{name: "HEAD chunked", method: "HEAD", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", status: 200, reused: true},
		{name: "interim", answer: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + mockOK, status: 200, body: "ok", reused: true},
		{name: "large", answer: "HTTP/1.1 200 OK\r\nContent-Length: 307200\r\n\r\n" + big, status: 200, body: big, reused: true},
		{name: "until close", answer: "HTTP/1.1 200 OK\r\n\r\nok", close: true, status: 200, body: "ok"},
		{name: "close said", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", close: true, status: 200, body: "ok"},
		{name: "close said and not done", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		{name: "1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok"},
		{name: "1.0 keep-alive", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", status: 200, body: "ok", reused: true},
		{name: "bytes behind", answer: mockOK + "HTTP/1.1 500 Not yours\r\nContent-Length: 0\r\n\r\n", status: 200, body: "ok"},
		{name: "one byte behind", answer: mockOK + "\n", status: 200, body: "ok"},
		{name: "body of HEAD", method: "HEAD", answer: mockOK, status: 200},
		{name: "body of 204", answer: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", status: 204},

		{name: "closed at once", close: true, word: ErrorClosed},
		{name: "closed in the head", answer: "HTTP/1.1 200 OK\r\nContent-Le", close: true, word: ErrorClosed},
		{name: "closed after an interim", answer: "HTTP/1.1 100 Continue\r\n\r\n", close: true, word: ErrorClosed},
		{name: "closed in the body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", close: true, word: ErrorBody},
		{name: "closed in a chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", close: true, word: ErrorBody},
		{name: "closed before the last chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", close: true, word: ErrorBody},
		{name: "broken chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok", word: ErrorBody},
		{name: "garbage", answer: "\x16\x03\x01garbage", word: ErrorProtocol},
		{name: "another protocol", answer: "SSH-2.0-OpenSSH_9.2\r\n", word: ErrorProtocol},
		{name: "HTTP/2", answer: "\x00\x00\x12\x04\x00\x00\x00\x00\x00", word: ErrorProtocol},
		{name: "unasked 101", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", word: ErrorProtocol},
		{name: "huge head", answer: "HTTP/1.1 200 OK\r\nX: " + big + "\r\n\r\n", word: ErrorProtocol},
		{name: "endless interim", answer: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 5000), word: ErrorProtocol},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", word: ErrorProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := serve(t, func(conn net.Conn, n int) {
				for readHead(conn) != "" {
					if _, err := io.WriteString(conn, c.answer); err != nil || c.close {
						return
					}
				}
			})
			u := start(t, config(srv.url))
			method := c.method
			if method == "" {
				method = "GET"
			}
			for range 2 {
				p := u.one(request("", method+" / HTTP/1.1", "Host: h"))
				if c.word != "" {
					p.failed(t, c.word)
					continue
				}
				p.ok(t, c.status, c.body)
				if sum := sha256.Sum256([]byte(c.body)); sumOf(&p.Response.Body) != sum || p.Response.Body.Size != int64(len(c.body)) {
					t.Errorf("body: %+v", p.Response.Body)
				}
			}
			if want := map[bool]int{true: 1, false: 2}[c.reused]; srv.accepted() != want {
				t.Errorf("%d connections, want %d", srv.accepted(), want)
			}
			if s := u.Stats(); s.Retried != 0 {
				t.Errorf("%d retried", s.Retried)
			}
		})
	}
}

func TestTimes(t *testing.T) {
	srv := serve(t, func(c net.Conn, _ int) {
		for readHead(c) != "" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			<-time.After(20 * time.Millisecond)
			io.WriteString(c, "ok")
		}
	})
	u := start(t, config(srv.url))
	for i := range 2 {
		x := get("/")
		x.Request.FirstByte = time.Now().Add(-time.Second).UnixNano()
		before := time.Now().UnixNano()
		p := u.one(x)
		p.ok(t, 200, "ok")
		after := time.Now().UnixNano()
		if p.Start < before || p.FirstByte < p.Start || p.LastByte < p.FirstByte+int64(19*time.Millisecond) || p.LastByte > after {
			t.Errorf("times: %d <= %d <= %d << %d <= %d", before, p.Start, p.FirstByte, p.LastByte, after)
		}
		if p.TTFB() != time.Duration(p.FirstByte-p.Start) || p.TTLB() != time.Duration(p.LastByte-p.Start) || p.TTLB() < 20*time.Millisecond {
			t.Errorf("ttfb %v, ttlb %v", p.TTFB(), p.TTLB())
		}
		if p.Lag != time.Duration(p.Start-x.Request.FirstByte) || p.Lag < time.Second {
			t.Errorf("lag %v", p.Lag)
		}
		if p.Reused != (i == 1) || p.Address != srv.Addr().String() || (p.Setup > 0) != (i == 0) {
			t.Errorf("request %d: reused %v, setup %v, address %s", i, p.Reused, p.Setup, p.Address)
		}
	}
}

// The first byte is the final head's, not an interim answer's.
func TestTimesAfterInterim(t *testing.T) {
	f := func(c net.Conn, _ int) {
		for readHead(c) != "" {
			io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n")
			<-time.After(20 * time.Millisecond)
			io.WriteString(c, mockOK)
		}
	}
	_, secure := serveTLS(t, f)
	for _, cfg := range []Config{config(serve(t, f).url), secure} {
		p := start(t, cfg).one(get("/"))
		p.ok(t, 200, "ok")
		if p.TTFB() < 20*time.Millisecond || p.TTLB() < p.TTFB() {
			t.Errorf("%s: ttfb %v, ttlb %v", cfg.URL, p.TTFB(), p.TTLB())
		}
	}
}

func TestTraceInOutcome(t *testing.T) {
	heads := make(chan string, 1)
	srv := answer(t, func(h string) string { heads <- h; return mockOK })
	for _, mode := range []string{"fresh", "keep"} {
		cfg := config(srv.url)
		cfg.Trace = mode
		p := start(t, cfg).one(request("", "GET / HTTP/1.1", "Host: h", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
		h := <-heads
		if p.TraceID != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s: trace id %q", mode, p.TraceID)
		}
		if strings.Contains(h, p.TraceID) != (mode == "keep") {
			t.Errorf("%s: sent %q", mode, h)
		}
		if (p.FreshTraceID == "") != (mode == "keep") || !strings.Contains(h, "00-"+p.FreshTraceID) {
			t.Errorf("%s: fresh %q in %q", mode, p.FreshTraceID, h)
		}
	}
}

// HTTP/1.0 requests end with their connection.
func TestHTTP10(t *testing.T) {
	srv := answer(t, func(h string) string { return mockOK })
	u := start(t, config(srv.url))
	for range 2 {
		u.one(request("", "GET / HTTP/1.0", "Connection: keep-alive")).ok(t, 200, "ok")
	}
	if srv.accepted() != 2 {
		t.Errorf("%d connections, want 2", srv.accepted())
	}
}

func TestStaleConnection(t *testing.T) {
	t.Run("closed while idle", func(t *testing.T) {
		srv := answer(t, func(string) string { return mockOK })
		own := &recorder{}
		cfg := config(srv.url)
		cfg.OwnReplay = own
		u := start(t, cfg)
		u.one(get("/")).ok(t, 200, "ok")
		srv.hangUp()
		p := u.one(get("/"))
		p.ok(t, 200, "ok")
		own.check(t, 1)
		if s := u.Stats(); p.Reused || srv.accepted() != 2 || s.Stale+s.Retried != 1 {
			t.Errorf("%d connections, %+v", srv.accepted(), s)
		}
	})
	t.Run("bytes while idle", func(t *testing.T) {
		sent := make(chan struct{})
		srv := serve(t, func(c net.Conn, n int) {
			for readHead(c) != "" {
				io.WriteString(c, mockOK)
				if n == 0 {
					<-sent
					io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
					sent <- struct{}{}
				}
			}
		})
		u := start(t, config(srv.url))
		u.one(get("/")).ok(t, 200, "ok")
		sent <- struct{}{}
		<-sent
		u.one(get("/")).ok(t, 200, "ok")
		if s := u.Stats(); s.Stale != 1 || s.Retried != 0 || srv.accepted() != 2 {
			t.Errorf("%+v", s)
		}
	})
	// The peer reads the request and closes: nothing shows it before.
	closing := func(t *testing.T, first string, always bool) (*server, *running) {
		srv := serve(t, func(c net.Conn, n int) {
			if always && n > 0 {
				readHead(c)
				return
			}
			for i := 0; readHead(c) != ""; i++ {
				if n == 0 && i == 1 {
					io.WriteString(c, first)
					return
				}
				io.WriteString(c, mockOK)
			}
		})
		return srv, start(t, config(srv.url))
	}
	t.Run("closed on the request", func(t *testing.T) {
		srv, u := closing(t, "", false)
		u.one(get("/")).ok(t, 200, "ok")
		p := u.one(post("/", "abc"))
		p.ok(t, 200, "ok")
		if s := u.Stats(); s.Retried != 1 || p.Reused || srv.accepted() != 2 {
			t.Errorf("%d connections, %+v", srv.accepted(), s)
		}
	})
	t.Run("only once", func(t *testing.T) {
		srv, u := closing(t, "", true)
		u.one(get("/")).ok(t, 200, "ok")
		u.one(get("/")).failed(t, ErrorClosed)
		if s := u.Stats(); s.Retried != 1 || srv.accepted() != 2 {
			t.Errorf("%d connections, %+v", srv.accepted(), s)
		}
	})
	t.Run("not after a byte", func(t *testing.T) {
		srv, u := closing(t, "H", false)
		u.one(get("/")).ok(t, 200, "ok")
		u.one(get("/")).failed(t, ErrorClosed)
		if s := u.Stats(); s.Retried != 0 || srv.accepted() != 1 {
			t.Errorf("%d connections, %+v", srv.accepted(), s)
		}
	})
	t.Run("not on a new connection", func(t *testing.T) {
		srv := serve(t, func(c net.Conn, n int) { readHead(c) })
		u := start(t, config(srv.url))
		u.one(get("/")).failed(t, ErrorClosed)
		if s := u.Stats(); s.Retried != 0 || srv.accepted() != 1 {
			t.Errorf("%d connections, %+v", srv.accepted(), s)
		}
	})
}

// A request larger than the buffer goes out while the answer is read.
func TestLargeRequest(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	t.Run("echo", func(t *testing.T) {
		// The server sends each byte back at once and has no room for more.
		srv := serve(t, func(c net.Conn, _ int) {
			for {
				h := readHead(c)
				if h == "" {
					return
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
				if _, err := io.CopyN(c, c, int64(len(body))); err != nil {
					return
				}
			}
		})
		cfg := config(srv.url)
		cfg.MaxBody = 8 << 20
		u := start(t, cfg)
		for range 3 {
			u.one(post("/", body)).ok(t, 200, body)
		}
		if s := u.Stats(); s.Opened != 1 || s.Sent < 3*uint64(len(body)) || s.Received < 3*uint64(len(body)) {
			t.Errorf("%+v", s)
		}
	})
	t.Run("answered early", func(t *testing.T) {
		over := make(chan struct{})
		defer close(over)
		srv := serve(t, func(c net.Conn, _ int) {
			readHead(c)
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
			<-over // alive, but reads no body
		})
		body := body[:1<<20] // more than the server's kernel takes, less than ours
		u := start(t, config(srv.url))
		for range 2 {
			u.one(post("/", body)).ok(t, 413, "no")
		}
		if srv.accepted() != 2 {
			t.Errorf("%d connections: one was used on in the middle of a request", srv.accepted())
		}
	})
	t.Run("answered and closed", func(t *testing.T) {
		srv := serve(t, func(c net.Conn, _ int) {
			readHead(c)
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
			c.(*net.TCPConn).CloseWrite()
			drain(c)
		})
		u := start(t, config(srv.url))
		u.one(post("/", body)).ok(t, 413, "no")
	})
	t.Run("head over the buffer", func(t *testing.T) {
		long := "X: " + strings.Repeat("y", bufferSize)
		heads := make(chan string, 1)
		srv := answer(t, func(h string) string { heads <- h; return mockOK })
		u := start(t, config(srv.url))
		u.one(request("", "GET / HTTP/1.1", "Host: h", long)).ok(t, 200, "ok")
		if h := <-heads; !strings.Contains(h, long) {
			t.Error("head was cut")
		}
	})
}

func TestSickCandidates(t *testing.T) {
	const timeout = time.Second
	stall := func(after string, gap time.Duration, again string) func(net.Conn, int) {
		return func(c net.Conn, _ int) {
			go drain(c) // to see the end
			if _, err := io.WriteString(c, after); err != nil {
				return
			}
			if gap == 0 {
				drain(c)
				return
			}
			tick := time.NewTicker(gap)
			defer tick.Stop()
			for range tick.C {
				if _, err := io.WriteString(c, again); err != nil {
					return
				}
			}
		}
	}
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 8<<10, strings.Repeat("z", 8<<10))
	for _, c := range []struct {
		name  string
		serve func(net.Conn, int)
		word  string
		max   int64
	}{
		{name: "hangs", serve: stall("", 0, ""), word: ErrorTimeout},
		{name: "hangs in the head", serve: stall("HTTP/1.1 200 OK\r\n", 0, ""), word: ErrorTimeout},
		{name: "hangs in the body", serve: stall("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", 0, ""), word: ErrorTimeout},
		{name: "trickles", serve: stall("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n", 2*time.Millisecond, "x"), word: ErrorTimeout},
		{name: "trickles its head", serve: stall("HTTP/1.1 200 OK\r\n", 2*time.Millisecond, "x: y\r\n"), word: ErrorTimeout},
		{name: "trickles interim answers", serve: stall("", 10*time.Millisecond, "HTTP/1.1 102 Processing\r\n\r\n"), word: ErrorTimeout},
		{name: "endless", serve: stall("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 100*time.Microsecond, chunk), word: ErrorTooLarge, max: 256 << 10},
		{name: "endless until close", serve: stall("HTTP/1.1 200 OK\r\n\r\n", 100*time.Microsecond, chunk), word: ErrorTooLarge, max: 256 << 10},
		{name: "endless chunk line", serve: stall("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", 100*time.Microsecond, strings.Repeat("e", 1000)), word: ErrorBody},
		{name: "endless head", serve: stall("HTTP/1.1 200 OK\r\nA: ", 100*time.Microsecond, strings.Repeat("e", 1000)), word: ErrorProtocol},
		{name: "resets", serve: func(c net.Conn, _ int) { readHead(c); c.(*net.TCPConn).SetLinger(0) }, word: ErrorClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, c.serve)
			cfg := config(srv.url)
			cfg.Timeout = MaxTimeout
			if c.word == ErrorTimeout {
				cfg.Timeout = timeout
			}
			cfg.MaxBody = 4 << 10
			cfg.MaxAnswer = c.max
			cfg.Breaker.Disabled = true
			u := start(t, cfg)
			begin := time.Now()
			for range 4 {
				u.Submit(get("/"))
			}
			for range 4 {
				p := u.next()
				p.failed(t, c.word)
				if p.Start == 0 || p.LastByte < p.Start || p.Lag == 0 {
					t.Errorf("times: %+v", p.Outcome)
				}
			}
			if took := time.Since(begin); c.word == ErrorTimeout && (took < timeout || took > timeout+5*time.Second) {
				t.Errorf("took %v, timeout is %v", took, timeout)
			}
			s := u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
			if s.Results[Compared] != 4 {
				t.Errorf("%+v", s)
			}
			s.EachError(func(word string, n uint64) {
				if (word == c.word) != (n == 4) {
					t.Errorf("error %s: %d", word, n)
				}
			})
		})
	}
	t.Run("given up with a reset", func(t *testing.T) {
		// So that neither kernel sends or keeps anything of it.
		seen := make(chan error, 1)
		srv := serve(t, func(c net.Conn, _ int) { readHead(c); seen <- drain(c) })
		cfg := config(srv.url)
		cfg.Timeout = 100 * time.Millisecond
		start(t, cfg).one(get("/"))
		if err := <-seen; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("server saw %v", err)
		}
	})
	t.Run("dead", func(t *testing.T) {
		srv := serve(t, func(net.Conn, int) {})
		srv.Close()
		u := start(t, config(srv.url))
		p := u.one(get("/"))
		p.failed(t, ErrorConnect)
		if p.Start != 0 || p.Address != "" || p.TTLB() != 0 || p.TTFB() != 0 || p.Lag != 0 {
			t.Errorf("times of what was never sent: %+v", p.Outcome)
		}
	})
	t.Run("no name", func(t *testing.T) {
		cfg := config("http://nowhere.example:1")
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
		start(t, cfg).one(get("/")).failed(t, ErrorConnect)
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
		start(t, cfg).one(get("/")).failed(t, ErrorConnect)
	})
}

// A candidate that fails in every way at once keeps nothing in memory.
func TestMemoryFlat(t *testing.T) {
	var n int
	var mu sync.Mutex
	srv := serve(t, func(c net.Conn, _ int) {
		readHead(c)
		mu.Lock()
		n++
		kind := n % 5
		mu.Unlock()
		switch kind {
		case 0:
		case 1:
			io.WriteString(c, "garbage")
		case 2:
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
			io.WriteString(c, strings.Repeat("x", 90000))
		case 3:
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", 70000))
			drain(c)
		case 4:
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := io.WriteString(c, strings.Repeat("z", 32<<10)); err != nil {
					return
				}
			}
		}
	})
	cfg := config(srv.url)
	cfg.MaxBody, cfg.MaxAnswer = 16<<10, 256<<10
	cfg.Breaker.Disabled = true
	cfg.MaxInFlight = 8
	done := make(chan struct{}, 8)
	cfg.Done = func(_ *exchange.Exchange, o *Outcome) { done <- struct{}{} }
	u := start(t, cfg)
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // pools are emptied by the second
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	round := func(n int) {
		for i := range n {
			if i >= 8 {
				<-done
				u.until("free", func(s Stats) bool { return s.InFlight < 8 })
			}
			u.Submit(post("/", "body"))
		}
		for range min(n, 8) {
			<-done
		}
		u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
	}
	round(40)
	before := heap()
	round(400)
	after := heap()
	if after-before > 4 {
		t.Errorf("heap grew from %.1f to %.1f MiB", before, after)
	}
	if s := u.Stats(); s.Results[Compared] != 440 {
		t.Errorf("%+v", s)
	}
}

func TestMaxBody(t *testing.T) {
	body := strings.Repeat("a", 10000)
	for _, answer := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + body, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2710\r\n" + body + "\r\n0\r\n\r\n"} {
		srv := answerAll(t, answer)
		cfg := config(srv.url)
		cfg.MaxBody = 4096
		p := start(t, cfg).one(get("/"))
		b := p.Response.Body
		if string(b.Bytes) != body[:4096] || !b.Truncated || b.Size != 10000 || b.Digest != sha256.Sum256([]byte(body)) {
			t.Errorf("kept %d of %d, truncated %v, digest %x", len(b.Bytes), b.Size, b.Truncated, b.Digest)
		}
	}
	t.Run("as large as the reference's", func(t *testing.T) {
		const size = 1 << 20 // several reads
		srv := answerAll(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)+strings.Repeat("b", size))
		cfg := config(srv.url)
		cfg.MaxBody, cfg.MaxAnswer = 100, 200
		cfg.Breaker.Disabled = true
		u := start(t, cfg)
		x := get("/")
		u.one(x).failed(t, ErrorTooLarge)
		x.Response.Body.Size = size
		if p := u.one(x); p.Error != "" || p.Response.Body.Size != size {
			t.Errorf("%s %s", p.Error, p.Detail)
		}
	})
}

func answerAll(t *testing.T, a string) *server {
	return answer(t, func(string) string { return a })
}

func TestTimeoutRule(t *testing.T) {
	r, err := New(func() Config {
		c := config("http://127.0.0.1:1")
		c.Done = func(*exchange.Exchange, *Outcome) {}
		return c
	}())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ reference, want time.Duration }{
		{0, 2 * time.Second}, {time.Second, 2 * time.Second}, {1500 * time.Millisecond, 3 * time.Second},
		{14 * time.Second, 28 * time.Second}, {16 * time.Second, 30 * time.Second}, {time.Hour, 30 * time.Second},
		{math.MaxInt64 / 2, 30 * time.Second}, {-time.Hour, 2 * time.Second},
	} {
		x := get("/")
		// From the request's last byte, not its first.
		x.Request.FirstByte, x.Request.LastByte = 0, int64(time.Hour)
		x.Response.LastByte = x.Request.LastByte + int64(c.reference)
		if got := r.timeout(x); got != c.want {
			t.Errorf("reference took %v: timeout %v, want %v", c.reference, got, c.want)
		}
	}
	x := get("/")
	x.Response = nil
	if got := r.timeout(x); got != 2*time.Second {
		t.Errorf("without a reference: %v", got)
	}
}

func TestNewRefuses(t *testing.T) {
	good := config("http://127.0.0.1:80")
	good.Done = func(*exchange.Exchange, *Outcome) {}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		field  string
		change func(*Config)
	}{
		{"experiment", func(c *Config) { c.Experiment = "" }},
		{"role", func(c *Config) { c.Role = "reference" }},
		{"role", func(c *Config) { c.Role = "candidate\r\nEvil: 1" }},
		{"url", func(c *Config) { c.URL = "" }},
		{"url", func(c *Config) { c.URL = "users-next:8080" }},
		{"url", func(c *Config) { c.URL = "ftp://127.0.0.1" }},
		{"url", func(c *Config) { c.URL = "http://" }},
		{"url", func(c *Config) { c.URL = "http://:80" }},
		{"url", func(c *Config) { c.URL = "http://127.0.0.1/base" }},
		{"url", func(c *Config) { c.URL = "http://127.0.0.1/?a=b" }},
		{"url", func(c *Config) { c.URL = "http://127.0.0.1/#f" }},
		{"url", func(c *Config) { c.URL = "http://user:secret@127.0.0.1/" }},
		{"url", func(c *Config) { c.URL = "http://127.0.0.1:0" }},
		{"url", func(c *Config) { c.URL = "http://127.0.0.1:65536" }},
		{"url", func(c *Config) { c.URL = "http://ho st" }},
		{"url", func(c *Config) { c.URL = "http://h\r\nEvil: 1" }},
		{"url", func(c *Config) { c.URL = "http://h%0d%0aEvil" }},
		{"url", func(c *Config) { c.URL = "http://1.1.1.1" }},
		{"url", func(c *Config) { c.URL = "http://[2606:4700::1111]" }},
		{"url", func(c *Config) { c.URL = "http://[::ffff:1.1.1.1]" }},
		{"url", func(c *Config) { c.URL = "http://0.0.0.0" }},
		{"host", func(c *Config) { c.Host = "captured" }},
		{"trace", func(c *Config) { c.Trace = "new" }},
		{"credentials", func(c *Config) { c.Credentials = "send" }},
		{"timeout", func(c *Config) { c.Timeout = -1 }},
		{"timeout", func(c *Config) { c.Timeout = 31 * time.Second }},
		{"max in flight", func(c *Config) { c.MaxInFlight = -1 }},
		{"max rate", func(c *Config) { c.MaxRate = -1 }},
		{"max rate", func(c *Config) { c.MaxRate = math.NaN() }},
		{"max rate", func(c *Config) { c.MaxRate = math.Inf(1) }},
		{"max body", func(c *Config) { c.MaxBody = -1 }},
		{"max answer", func(c *Config) { c.MaxAnswer = 1 }},
		{"idle timeout", func(c *Config) { c.IdleTimeout = -1 }},
		{"breaker failures", func(c *Config) { c.Breaker.Failures = -1 }},
		{"breaker ratio", func(c *Config) { c.Breaker.Ratio = -0.1 }},
		{"breaker ratio", func(c *Config) { c.Breaker.Ratio = math.NaN() }},
		{"breaker min results", func(c *Config) { c.Breaker.MinResults = -1 }},
		{"breaker window", func(c *Config) { c.Breaker.Window = -1 }},
		{"breaker open", func(c *Config) { c.Breaker.Open = -1 }},
		{"tls", func(c *Config) { c.TLS.Insecure = true }},
		{"log", func(c *Config) { c.Log = nil }},
		{"done", func(c *Config) { c.Done = nil }},
	} {
		cfg := good
		c.change(&cfg)
		if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), c.field+": ") {
			t.Errorf("want an error that names %s, got %v", c.field, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
	for _, url := range []string{"http://localhost", "http://[fe80::1%25lo]:80", "http://10.0.0.1/", "http://100.64.1.1", "https://1.1.1.1", "http://example.com:8080"} {
		cfg := good
		cfg.URL = url
		if _, err := New(cfg); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, how := range []Credentials{CredentialsStrip, CredentialsForwardAnywhere} {
		cfg := good
		cfg.URL, cfg.Credentials = "http://1.1.1.1", how
		if _, err := New(cfg); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// A real server of net/http, many requests at once: each exchange gets its own
// answer.
func TestManyAtOnce(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Target", r.RequestURI)
		w.Write(b)
		if strings.HasSuffix(r.RequestURI, "7") {
			w.Header().Set("Connection", "close")
			w.(http.Flusher).Flush()
		}
		io.WriteString(w, r.Method)
	}))
	defer srv.Close()
	cfg := config(srv.URL)
	cfg.MaxInFlight = 32
	const all = 3000
	type seen struct {
		x *exchange.Exchange
		o *Outcome
	}
	room := make(chan struct{}, 32)
	got := make(chan seen, all)
	cfg.Done = func(x *exchange.Exchange, o *Outcome) { got <- seen{x, o} }
	u := start(t, cfg)
	go func() {
		for i := range all {
			room <- struct{}{}
			if i%2 == 0 {
				u.Submit(get(fmt.Sprintf("/%d", i)))
			} else {
				u.Submit(post(fmt.Sprintf("/%d", i), strings.Repeat("b", i)))
			}
		}
	}()
	shed := 0
	for n := 0; n < all; {
		select {
		case p := <-got:
			n++
			<-room
			if p.o.Error != "" {
				t.Fatalf("%s: %s", p.o.Error, p.o.Detail)
			}
			want := string(p.x.Request.Wire) + p.x.Request.Method
			if p.o.Response.Header.Get("X-Target") != p.x.Request.Target || string(p.o.Response.Body.Bytes) != want {
				t.Fatalf("wrong pair: %s got %+v", p.x.Request.Target, p.o.Response)
			}
		case <-time.After(50 * time.Millisecond):
			// Done is called a moment before the place is free.
			if s := u.Stats(); int(s.Results[Shed]) > shed {
				d := int(s.Results[Shed]) - shed
				shed += d
				n += d
				for range d {
					<-room
				}
			}
		}
	}
	u.until("at rest", func(s Stats) bool { return s.InFlight == 0 && s.Results[Compared]+s.Results[Shed] == all })
}

func TestIdleTimeout(t *testing.T) {
	ended := make(chan error, 1)
	srv := serve(t, func(c net.Conn, _ int) {
		readHead(c)
		io.WriteString(c, mockOK)
		_, err := c.Read(make([]byte, 1))
		ended <- err
	})
	cfg := config(srv.url)
	cfg.IdleTimeout = 20 * time.Millisecond
	u := start(t, cfg)
	u.one(get("/")).ok(t, 200, "ok")
	select {
	case err := <-ended:
		if err != io.EOF {
			t.Errorf("idle connection ended with %v, not in order", err)
		}
	case <-time.After(patience):
		t.Fatal("idle connection was not closed")
	}
	u.until("without workers", func(s Stats) bool { return s.Workers == 0 })
}

func TestCancel(t *testing.T) {
	begun := make(chan struct{}, 16)
	srv := serve(t, func(c net.Conn, n int) {
		for readHead(c) != "" {
			if n < 5 {
				begun <- struct{}{}
				drain(c)
				return
			}
			io.WriteString(c, mockOK)
		}
	})
	cfg := config(srv.url)
	cfg.Timeout = MaxTimeout
	u := start(t, cfg)
	for range 5 {
		u.Submit(get("/"))
	}
	for range 5 {
		<-begun
	}
	begin := time.Now()
	u.Cancel()
	u.Submit(get("/"))
	s := u.until("stopped", func(s Stats) bool { return s.Results[Stopped] == 6 })
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
	if s.Results[Compared] != 0 || s.Selected != 6 || s.Breaker != "closed" || len(u.pairs) != 0 {
		t.Errorf("%+v, %d calls of Done", s, len(u.pairs))
	}
	u.Resume()
	u.one(get("/")).ok(t, 200, "ok")
}

func TestCancelConnect(t *testing.T) {
	cfg := config("http://slow.example")
	asked := make(chan struct{})
	cfg.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	u := start(t, cfg)
	u.Submit(get("/"))
	<-asked
	u.Cancel()
	u.until("stopped", func(s Stats) bool { return s.Results[Stopped] == 1 && s.InFlight == 0 })
}

func TestStop(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	srv := answer(t, func(string) string { begun <- struct{}{}; <-goOn; return mockOK })
	t.Run("finishes what is in flight", func(t *testing.T) {
		u := start(t, config(srv.url))
		u.Submit(get("/"))
		<-begun
		u.Stop()
		u.Stop()
		u.Submit(get("/"))
		if s := u.balanced(); s.Results[Stopped] != 1 || s.InFlight != 1 {
			t.Errorf("%+v", s)
		}
		select {
		case <-u.ended:
			t.Error("run ended before the replay in flight")
		default:
		}
		goOn <- struct{}{}
		u.next().ok(t, 200, "ok")
		<-u.ended
		u.Resume()
		u.Submit(get("/"))
		if s := u.balanced(); s.Results[Stopped] != 2 || s.Results[Compared] != 1 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("to the end of the context", func(t *testing.T) {
		u := start(t, config(srv.url))
		u.Submit(get("/"))
		<-begun
		u.Stop()
		u.halt()
		select {
		case <-u.ended:
		case <-time.After(time.Second):
			t.Error("run did not end within a second of its context")
		}
		if s := u.balanced(); s.Results[Stopped] != 1 || s.InFlight != 0 || s.Workers != 0 {
			t.Errorf("%+v", s)
		}
		goOn <- struct{}{}
	})
	t.Run("run twice", func(t *testing.T) {
		u := start(t, config(srv.url))
		u.until("running", func(Stats) bool { u.mu.Lock(); defer u.mu.Unlock(); return u.running })
		if err := u.Run(context.Background()); err == nil {
			t.Error("no error")
		}
	})
}

func TestShed(t *testing.T) {
	goOn := make(chan struct{})
	srv := answer(t, func(string) string { <-goOn; return mockOK })
	cfg := config(srv.url)
	cfg.MaxInFlight = 3
	u := start(t, cfg)
	for range 10 {
		u.Submit(get("/"))
	}
	if s := u.balanced(); s.Results[Shed] != 0 || s.InFlight != 10 {
		t.Errorf("%+v", s)
	}
	u.until("what waited is shed", func(s Stats) bool { return s.Results[Shed] == 7 && s.InFlight == 3 })
	close(goOn)
	for range 3 {
		u.next().ok(t, 200, "ok")
	}
	u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
	u.one(get("/")).ok(t, 200, "ok")
	if srv.accepted() > 3 {
		t.Errorf("%d connections for 3 in flight", srv.accepted())
	}
}

// The breaker's changes are logged by Run, with no word of a request.
func TestBreakerLog(t *testing.T) {
	srv := serve(t, func(net.Conn, int) {})
	srv.Close()
	var mu sync.Mutex
	var out bytes.Buffer
	cfg := config(srv.url)
	cfg.Log = slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(b)
	}), nil))
	cfg.Breaker = Breaker{Failures: 2}
	u := start(t, cfg)
	for range 2 {
		u.one(get("/secret")).failed(t, ErrorConnect)
	}
	s := u.until("open", func(s Stats) bool { return s.Breaker == "open" })
	if s.BreakerOpened != 1 {
		t.Errorf("opened %d times", s.BreakerOpened)
	}
	u.Submit(get("/"))
	if s := u.balanced(); s.Results[BreakerOpen] != 1 {
		t.Errorf("%+v", s)
	}
	u.until("logged", func(Stats) bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(out.String(), "level=WARN msg=\"replay breaker changed\" experiment=users target=candidate from=closed to=open")
	})
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(out.String(), "secret") {
		t.Error(out.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestWords(t *testing.T) {
	var got []string
	s := Stats{}
	s.Each(func(r string, _ uint64) { got = append(got, r) })
	if w := strings.Join(got, " "); w != "compared shed rate_limited breaker_open stopped" {
		t.Error(w)
	}
	got = nil
	s.EachError(func(w string, _ uint64) { got = append(got, w) })
	if w := strings.Join(got, " "); w != "connect refused tls timeout closed protocol body too_large" || w != strings.Join(ErrorWords(), " ") {
		t.Error(w)
	}
}

// sumOf is the SHA-256 of a body's content, zero when it is not known.
func sumOf(b *exchange.Body) [sha256.Size]byte {
	sum, _ := b.Sum256()
	return sum
}
