package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// pemFile writes one PEM block and gives its name.
func pemFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), strings.ReplaceAll(kind, " ", "-")+".pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// secure makes a TLS server of net/http and the configuration that trusts it.
func secure(t *testing.T, h http.HandlerFunc) (*httptest.Server, Config) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true // to be refused
	srv.Config.DisableGeneralOptionsHandler = true
	quiet(srv)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	cfg := config(srv.URL)
	cfg.TLS.CA = pemFile(t, "CERTIFICATE", srv.Certificate().Raw)
	return srv, cfg
}

// serveTLS is serve behind TLS, written out by hand, with these protocols by
// ALPN: HTTP/1 without any.
func serveTLS(t *testing.T, f func(c net.Conn, n int), protocols ...string) (*server, Config) {
	t.Helper()
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	cert := pair.TLS.Certificates[0]
	pair.Close()
	s := serve(t, func(c net.Conn, n int) {
		f(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols}), n)
	})
	cfg := config("https://" + s.Addr().String())
	cfg.TLS.CA = pemFile(t, "CERTIFICATE", cert.Certificate[0])
	return s, cfg
}

func TestHTTPS(t *testing.T) {
	got := make(chan *http.Request, 1)
	_, cfg := secure(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		got <- r
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Answer", "1")
		w.WriteHeader(201)
		w.(http.Flusher).Flush()
		io.WriteString(w, "hello")
		w.Header().Set("X-Sum", "5")
	})
	u := start(t, cfg)
	for i, c := range []struct {
		x    *exchange.Exchange
		body string
		then func(r *http.Request) bool
	}{
		{get("/a?b=%zz&c"), "", func(r *http.Request) bool { return r.RequestURI == "/a?b=%zz&c" && r.Host == "users.example" }},
		{get("//evil.example/x?"), "", func(r *http.Request) bool { return r.RequestURI == "//evil.example/x?" }},
		{get("//%2F/a%20b"), "", func(r *http.Request) bool { return r.RequestURI == "//%2F/a%20b" }},
		{request("", "OPTIONS * HTTP/1.1", "Host: h"), "", func(r *http.Request) bool { return r.RequestURI == "*" && r.Method == "OPTIONS" }},
		{request("", "GET / HTTP/1.1", "Host: h", "user-agent: mine", "cookie: a=b", "Authorization: Bearer x", "X-A: 1", "x-a: 2", "Connection: X-Gone", "X-Gone: 1", "Accept-Encoding: gzip"), "", func(r *http.Request) bool {
			a := r.Header["X-A"]
			slices.Sort(a)
			return r.UserAgent() == "mine" && r.Header.Get("Cookie") == "a=b" && r.Header.Get("Authorization") == "Bearer x" && slices.Equal(a, []string{"1", "2"}) && r.Header["X-Gone"] == nil &&
				r.Header["Connection"] == nil && len(r.Header) == 6
		}},
		{get("/"), "", func(r *http.Request) bool { return len(r.Header) == 1 }}, // no agent, no encoding of net/http's
		{post("/p", "abc"), "abc", func(r *http.Request) bool { return r.ContentLength == 3 }},
		{func() *exchange.Exchange {
			x := request("2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n", "POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", "Trailer: X-T")
			x.Request.Body = exchange.Body{Bytes: []byte("hi"), Size: 2}
			x.Request.Trailer = exchange.Header{{Name: "X-T", Value: "1"}}
			return x
		}(), "hi", func(r *http.Request) bool {
			return r.ContentLength == -1 && r.Trailer.Get("X-T") == "1"
		}},
		{request("", "GET / HTTP/1.0"), "", func(r *http.Request) bool { return r.Close }},
	} {
		p := u.one(c.x)
		p.ok(t, 201, "hello")
		r := <-got
		b, _ := io.ReadAll(r.Body)
		if string(b) != c.body || !c.then(r) || r.Header.Get(RoleHeader) != "candidate" || len(r.Header[RoleHeader]) != 1 || r.ProtoMajor != 1 {
			t.Errorf("request %d: %s %s %s %v %q", i, r.Method, r.RequestURI, r.Proto, r.Header, b)
		}
		a := p.Response
		if a.Proto != "HTTP/1.1" || a.Reason != "Created" || a.Header.Get("X-Answer") != "1" || a.Trailer.Get("X-Sum") != "5" || a.Framing != exchange.FramingChunked || sumOf(&a.Body) != sha256.Sum256([]byte("hello")) {
			t.Errorf("answer %d: %+v", i, a)
		}
		if p.Start == 0 || p.FirstByte < p.Start || p.LastByte < p.FirstByte || p.Lag != time.Duration(p.Start-c.x.Request.FirstByte) || p.Reused != (i > 0) || p.Address == "" || a.LastByte != p.LastByte {
			t.Errorf("outcome %d: %+v", i, p.Outcome)
		}
	}
	if s := u.balanced(); s.Opened != 1 || s.Reused != 8 || s.Sent != 5 || s.Received != 9*5 {
		t.Errorf("%+v", s)
	}
	u.one(get("//a%zz")).failed(t, ErrorRefused)
	u.one(get("https://evil.example/")).failed(t, ErrorRefused)
}

func TestHTTPSConnectionByConfiguration(t *testing.T) {
	evil := serve(t, func(c net.Conn, _ int) { t.Error("connection to evil"); drain(c) })
	for _, e := range proxyVariables {
		t.Setenv(e, evil.url)
	}
	ev := evil.Addr().String()
	srv, cfg := secure(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil.url, http.StatusFound) })
	// A name, because proxies are never asked for loopback addresses.
	cfg.URL = "https://example.com:" + strings.TrimPrefix(srv.URL, "https://127.0.0.1:")
	cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	u := start(t, cfg)
	for _, x := range []*exchange.Exchange{
		get("/"), get("//" + ev + "/x"), get("/@" + ev + "/"), get("/\\" + ev),
		request("", "GET / HTTP/1.1", "Host: "+ev), request("", "OPTIONS * HTTP/1.1", "Host: "+ev),
	} {
		p := u.one(x)
		if p.Error != "" || p.Response.Status != 302 || p.Address != srv.Listener.Addr().String() {
			t.Errorf("%s: %s %s, %+v", x.Request.Target, p.Error, p.Detail, p.Response)
		}
	}
}

func TestHTTPSAnswers(t *testing.T) {
	for _, c := range []struct {
		name, method, answer string
		stay                 bool // the server does not close
		word                 string
		status               int
		body                 string
		framing              exchange.Framing
		interim              []int
	}{
		{name: "until close", answer: "HTTP/1.1 200 OK\r\n\r\nok", status: 200, body: "ok", framing: exchange.FramingClose},
		{name: "length", answer: mockOK, stay: true, status: 200, body: "ok", framing: exchange.FramingLength},
		{name: "HEAD", method: "HEAD", answer: "HTTP/1.1 200\r\nContent-Length: 9\r\n\r\n", stay: true, status: 200},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", stay: true, status: 204},
		{name: "interim", answer: "HTTP/1.1 103 Early Hints\r\n\r\n" + mockOK, stay: true, status: 200, body: "ok", framing: exchange.FramingLength, interim: []int{103}},
		{name: "gzip as it is", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw", stay: true, status: 200, body: "raw", framing: exchange.FramingLength},
		{name: "hangs", stay: true, word: ErrorTimeout},
		{name: "hangs in the body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", stay: true, word: ErrorTimeout},
		{name: "closed at once", word: ErrorClosed},
		{name: "closed in the head", answer: "HTTP/1.1 200 OK\r\n", word: ErrorClosed},
		{name: "closed in the body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", word: ErrorBody},
		{name: "garbage", answer: "garbage\r\n\r\n", stay: true, word: ErrorProtocol},
		{name: "huge head", answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 80<<10) + "\r\n\r\n", stay: true, word: ErrorProtocol},
		{name: "too large", answer: "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("z", 400<<10), stay: true, word: ErrorTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			stay := make(chan struct{})
			defer close(stay)
			_, cfg := serveTLS(t, func(conn net.Conn, _ int) {
				if readHead(conn) == "" {
					return
				}
				io.WriteString(conn, c.answer)
				if c.stay {
					<-stay
				} else {
					conn.Close()
				}
			})
			cfg.MaxBody, cfg.MaxAnswer = 64<<10, 128<<10
			cfg.Timeout = time.Second
			method := c.method
			if method == "" {
				method = "GET"
			}
			p := start(t, cfg).one(request("", method+" / HTTP/1.1", "Host: h"))
			if c.word != "" {
				p.failed(t, c.word)
				return
			}
			p.ok(t, c.status, c.body)
			if p.Response.Framing != c.framing || !slices.Equal(p.Response.Interim, c.interim) {
				t.Errorf("%+v", p.Response)
			}
		})
	}
}

func TestHTTPSHandshake(t *testing.T) {
	_, good := secure(t, func(http.ResponseWriter, *http.Request) {})
	plain := answer(t, func(string) string { return mockOK })
	silent := serve(t, func(c net.Conn, _ int) { drain(c) })
	dead := serve(t, func(net.Conn, int) {})
	dead.Close()
	for _, c := range []struct {
		name   string
		change func(*Config)
		word   string
	}{
		{"trusted", func(*Config) {}, ""},
		{"not trusted", func(c *Config) { c.TLS.CA = "" }, ErrorTLS},
		{"not checked", func(c *Config) { c.TLS = TLS{Insecure: true} }, ""},
		{"another name", func(c *Config) { c.TLS.ServerName = "wrong.test" }, ErrorTLS},
		{"named", func(c *Config) { c.TLS.ServerName = "example.com" }, ""},
		{"plain", func(c *Config) { c.URL = "https://" + plain.Addr().String() }, ErrorTLS},
		{"silent", func(c *Config) { c.URL = "https://" + silent.Addr().String() }, ErrorTLS},
		{"dead", func(c *Config) { c.URL = "https://" + dead.Addr().String() }, ErrorConnect},
		{"no name", func(c *Config) {
			c.URL = "https://nowhere.example"
			c.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
		}, ErrorConnect},
		{"never resolved", func(c *Config) {
			c.URL = "https://nowhere.example"
			c.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, ErrorConnect},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			cfg.Timeout = 500 * time.Millisecond
			c.change(&cfg)
			p := start(t, cfg).one(get("/"))
			if c.word == "" {
				p.ok(t, 200, "")
			} else {
				p.failed(t, c.word)
			}
		})
	}
}

func TestHTTPSClientCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.TLS.PeerCertificates))
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	quiet(srv)
	srv.StartTLS()
	defer srv.Close()
	cert := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(srv.URL)
	cfg.TLS.Insecure = true
	start(t, cfg).one(get("/")).failed(t, ErrorClosed)
	cfg.TLS.Cert, cfg.TLS.Key = pemFile(t, "CERTIFICATE", cert.Certificate[0]), pemFile(t, "PRIVATE KEY", key)
	start(t, cfg).one(get("/")).ok(t, 200, "1")

	for _, bad := range []TLS{{Cert: cfg.TLS.Cert}, {Key: cfg.TLS.Key}, {Cert: "missing", Key: "missing"}, {CA: "missing"}, {CA: cfg.TLS.Key}, {Cert: cfg.TLS.Key, Key: cfg.TLS.Cert}} {
		c := config(srv.URL)
		c.Done = func(*exchange.Exchange, *Outcome) {}
		c.TLS = bad
		if _, err := New(c); err == nil || !strings.HasPrefix(err.Error(), "tls: c") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestHTTPSStale(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			srv, cfg := serveTLS(t, func(c net.Conn, n int) {
				for i := 0; readHead(c) != ""; i++ {
					if n == 0 && i == 1 {
						return // without an answer
					}
					io.WriteString(c, mockOK)
				}
			})
			u := start(t, cfg)
			x := get("/")
			if method == "POST" {
				x = request("", "POST / HTTP/1.1", "Host: h", "Content-Length: 0")
			}
			u.one(get("/")).ok(t, 200, "ok")
			p := u.one(x)
			p.ok(t, 200, "ok")
			if s := u.Stats(); s.Retried != 1 || p.Reused || srv.accepted() != 2 {
				t.Errorf("%d connections, %+v", srv.accepted(), s)
			}
		})
	}
	t.Run("more than one old connection", func(t *testing.T) {
		const warm = 3
		var stale atomic.Bool
		arrived, goOn := make(chan struct{}, warm), make(chan struct{})
		_, cfg := serveTLS(t, func(c net.Conn, _ int) {
			for i := 0; readHead(c) != ""; i++ {
				if i > 0 && stale.Load() {
					return
				}
				arrived <- struct{}{}
				<-goOn
				io.WriteString(c, mockOK)
			}
		})
		u := start(t, cfg)
		for range warm {
			u.Submit(get("/"))
		}
		for range warm {
			<-arrived
		}
		close(goOn)
		for range warm {
			u.next().ok(t, 200, "ok")
		}
		stale.Store(true)
		// With a body net/http does not try again by itself.
		p := u.one(post("/", "abc"))
		p.ok(t, 200, "ok")
		if s := u.Stats(); s.Retried == 0 || p.Reused {
			t.Errorf("reused %v, %+v", p.Reused, s)
		}
	})
	t.Run("only once", func(t *testing.T) {
		srv, cfg := serveTLS(t, func(c net.Conn, n int) {
			for i := 0; readHead(c) != ""; i++ {
				if n > 0 || i == 1 {
					return
				}
				io.WriteString(c, mockOK)
			}
		})
		u := start(t, cfg)
		u.one(get("/")).ok(t, 200, "ok")
		u.one(post("/", "abc")).failed(t, ErrorClosed)
		if s := u.Stats(); s.Retried != 1 || srv.accepted() != 2 {
			t.Errorf("%d connections, %+v", srv.accepted(), s)
		}
	})
}

// Dials that hang are given up with their replays, and are bounded like them.
func TestHTTPSBounded(t *testing.T) {
	srv := serve(t, func(c net.Conn, _ int) { drain(c) }) // no handshake
	own := &recorder{}
	cfg := config("https://" + srv.Addr().String())
	cfg.OwnReplay, cfg.MaxInFlight, cfg.Timeout = own, 4, 300*time.Millisecond
	cfg.Breaker.Disabled = true
	u := start(t, cfg)
	for range 3 {
		for range 10 {
			u.Submit(get("/"))
		}
		for range 4 {
			u.next().failed(t, ErrorTLS)
		}
		u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
	}
	u.until("closed", func(s Stats) bool { own.mu.Lock(); defer own.mu.Unlock(); return len(own.now) == 0 })
	own.check(t, 0)
	if srv.accepted() > 12 {
		t.Errorf("%d connections for 12 replays", srv.accepted())
	}
}

// A dial ends with its replay, though net/http would let it live on.
func TestHTTPSDialEnds(t *testing.T) {
	ended := make(chan struct{}, 1)
	cfg := config("https://nowhere.example")
	cfg.Timeout = 100 * time.Millisecond
	cfg.Resolve = func(ctx context.Context, _ string) ([]netip.Addr, error) {
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	}
	u := start(t, cfg)
	u.one(get("/")).failed(t, ErrorConnect)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the dial goes on")
	}
}

func TestHTTPSCancel(t *testing.T) {
	begun := make(chan struct{}, 4)
	own := &recorder{}
	_, cfg := serveTLS(t, func(c net.Conn, n int) {
		for readHead(c) != "" {
			if n == 0 {
				begun <- struct{}{}
				drain(c)
				return
			}
			io.WriteString(c, mockOK)
		}
	})
	cfg.Timeout, cfg.OwnReplay = MaxTimeout, own
	u := start(t, cfg)
	u.Submit(get("/"))
	<-begun
	begin := time.Now()
	u.Cancel()
	u.until("stopped", func(s Stats) bool { return s.Results[Stopped] == 1 && s.InFlight == 0 })
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
	u.Resume()
	u.one(get("/")).ok(t, 200, "ok")
	if len(own.all) != 2 {
		t.Errorf("%d registered", len(own.all))
	}
	u.halt()
	<-u.ended
	u.until("closed", func(Stats) bool { own.mu.Lock(); defer own.mu.Unlock(); return len(own.now) == 0 })
	own.check(t, 0)
}

// quiet is for a server whose failed handshakes are the test's purpose.
func quiet(srv *httptest.Server) {
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
}
