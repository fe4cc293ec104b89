package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// request2 builds an HTTP/2 exchange as capture gives it; fields are "name:
// value".
func request2(method, target, body string, fields ...string) *exchange.Exchange {
	q := &exchange.Request{
		Method: method, Target: target, Proto: "HTTP/2", Scheme: "http", Host: "users.example",
		Body: exchange.Body{Bytes: []byte(body), Size: int64(len(body))}, FirstByte: time.Now().UnixNano(),
	}
	if body != "" {
		q.Framing = exchange.FramingH2
	}
	for _, l := range fields {
		name, value, _ := strings.Cut(l, ": ")
		q.Header = append(q.Header, exchange.Field{Name: name, Value: value})
	}
	q.LastByte = q.FirstByte
	return &exchange.Exchange{ID: "0123456789abcdef", Stream: 1, Request: q, Response: &exchange.Response{Status: 200, FirstByte: q.LastByte + 1, LastByte: q.LastByte + 1}}
}

func get2(target string, fields ...string) *exchange.Exchange {
	return request2("GET", target, "", fields...)
}

// plain2 makes a server of net/http that speaks HTTP/2 without TLS, and HTTP/1.
func plain2(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.DisableGeneralOptionsHandler = true
	quiet(srv)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// bothWays runs a test against net/http with h2c, and with h2 by ALPN.
func bothWays(t *testing.T, h http.HandlerFunc, f func(t *testing.T, srv *httptest.Server, cfg Config)) {
	t.Run("h2c", func(t *testing.T) {
		srv := plain2(t, h)
		f(t, srv, config(srv.URL))
	})
	t.Run("h2", func(t *testing.T) {
		srv, cfg := secure(t, h)
		f(t, srv, cfg)
	})
}

func TestHTTP2(t *testing.T) {
	got := make(chan *http.Request, 1)
	h := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		got <- r
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Answer", "1")
		w.WriteHeader(201)
		w.(http.Flusher).Flush()
		if r.Method != "HEAD" {
			io.WriteString(w, "hello")
		}
		w.Header().Set("X-Sum", "5")
	}
	bothWays(t, h, func(t *testing.T, srv *httptest.Server, cfg Config) {
		u := start(t, cfg)
		large := strings.Repeat("0123456789abcdef", 30<<10)
		withTrailer := request2("POST", "/", "hi", "trailer: x-t")
		withTrailer.Request.Trailer = exchange.Header{{Name: "x-t", Value: "1"}, {Name: "x-shadow-test-role", Value: "none"}}
		trailerOnly := request2("POST", "/", "", "trailer: x-t")
		trailerOnly.Request.Trailer = withTrailer.Request.Trailer
		for i, c := range []struct {
			x    *exchange.Exchange
			then func(r *http.Request) bool
		}{
			{get2("/a?b=%zz&c"), func(r *http.Request) bool { return r.RequestURI == "/a?b=%zz&c" && r.Host == "users.example" }},
			{request2("HEAD", "/", ""), func(r *http.Request) bool { return r.Method == "HEAD" }},
			{get2("//evil.example/x?"), func(r *http.Request) bool { return r.RequestURI == "//evil.example/x?" }},
			{get2("/", "user-agent: mine", "x-a: 1", "x-a: 2", "cookie: a=b", "cookie: c=d", "keep-alive: 5", "proxy-authorization: x", "te: gzip", "x-shadow-test-role: upstream", "x_shadow_test_role: upstream", "expect: 100-continue"), func(r *http.Request) bool {
				return r.UserAgent() == "mine" && slices.Equal(r.Header["X-A"], []string{"1", "2"}) && r.Header.Get("Cookie") == "a=b; c=d" && len(r.Header) == 4
			}},
			{get2("/", "te: trailers"), func(r *http.Request) bool { return r.Header.Get("Te") == "trailers" && len(r.Header) == 2 }},
			{get2("/", "host: users.example"), func(r *http.Request) bool { return len(r.Header) == 1 }},
			{request2("POST", "/p", "abc", "content-length: 3"), func(r *http.Request) bool { return r.ContentLength == 3 }},
			{request2("POST", "/p", "abc"), func(r *http.Request) bool { return r.ContentLength == -1 }},
			{request2("POST", "/p", large), func(r *http.Request) bool { return true }},
			{withTrailer, func(r *http.Request) bool { return r.Trailer.Get("X-T") == "1" && len(r.Trailer) == 1 }},
			{trailerOnly, func(r *http.Request) bool { return r.Trailer.Get("X-T") == "1" }},
			{request2("OPTIONS", "*", ""), func(r *http.Request) bool { return r.RequestURI == "*" }},
			{get2("/", "x-long: "+large[:40<<10], "x-long: "+large[:10<<10]), func(r *http.Request) bool { return len(r.Header["X-Long"]) == 2 }},
		} {
			p := u.one(c.x)
			body := "hello"
			if c.x.Request.Method == "HEAD" {
				body = ""
			}
			p.ok(t, 201, body)
			r := <-got
			b, _ := io.ReadAll(r.Body)
			if string(b) != string(c.x.Request.Body.Bytes) || !c.then(r) || !slices.Equal(r.Header[RoleHeader], []string{"candidate"}) || r.ProtoMajor != 2 {
				t.Errorf("request %d: %s %s %s %v %q", i, r.Method, r.RequestURI, r.Proto, r.Header, b)
			}
			a := p.Response
			if a.Proto != "HTTP/2" || a.Header.Get("x-answer") != "1" || a.Trailer.Get("x-sum") != "5" && body != "" || !slices.Equal(a.Interim, []int{103}) || sumOf(&a.Body) != sha256.Sum256([]byte(body)) {
				t.Errorf("answer %d: %+v", i, a)
			}
			if p.Start == 0 || p.FirstByte < p.Start || p.LastByte < p.FirstByte || p.Lag != time.Duration(p.Start-c.x.Request.FirstByte) || p.Reused != (i > 0) || p.Address != srv.Listener.Addr().String() || a.LastByte != p.LastByte {
				t.Errorf("outcome %d: %+v", i, p.Outcome)
			}
		}
		if s := u.balanced(); s.Opened != 1 || s.Reused != 12 || s.Retried != 0 || s.Sent < uint64(len(large)) || s.Received < 12*5 {
			t.Errorf("%+v", s)
		}
	})
}

// One experiment may see both protocols: each keeps its connection.
func TestHTTP2BesideHTTP1(t *testing.T) {
	srv := plain2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	u := start(t, config(srv.URL))
	for range 3 {
		u.one(get("/")).ok(t, 200, "HTTP/1.1")
		u.one(get2("/")).ok(t, 200, "HTTP/2.0")
	}
	if s := u.balanced(); s.Opened != 2 || s.Reused != 4 || s.Workers != 1 {
		t.Errorf("%+v", s)
	}
}

// peer is the other side of a test's HTTP/2 connection, written out by hand.
type peer struct {
	net.Conn
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
	// list is the header list of the latest request.
	list []hpack.HeaderField
}

// newPeer reads the preface and sends settings.
func newPeer(c net.Conn, settings ...http2.Setting) *peer {
	p := &peer{Conn: c, Framer: http2.NewFramer(c, c)}
	p.enc = hpack.NewEncoder(&p.block)
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	b := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != http2.ClientPreface {
		return nil
	}
	// Over a pipe the client writes its settings before it reads.
	f, err := p.ReadFrame()
	if err != nil {
		return nil
	}
	if push, ok := f.(*http2.SettingsFrame).Value(http2.SettingEnablePush); !ok || push != 0 {
		return nil // no peer of these tests may push
	}
	if _, err := p.ReadFrame(); err != nil {
		return nil
	}
	if p.WriteSettings(settings...) != nil {
		return nil
	}
	return p
}

// request reads up to the end of a request, or with head up to its head only,
// and gives its stream; 0 when the connection ended.
func (p *peer) request(head bool) uint32 {
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return 0
		}
		end := false
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if len(f.PseudoFields()) > 0 {
				p.list = f.Fields
			}
			end = f.StreamEnded() || head
		case *http2.DataFrame:
			end = f.StreamEnded()
		}
		if end {
			return f.Header().StreamID
		}
	}
}

// head writes a head; fields are names and values in turn.
func (p *peer) head(stream uint32, end bool, fields ...string) error {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: p.block.Bytes(), EndStream: end, EndHeaders: true})
}

func (p *peer) ok(stream uint32) {
	p.head(stream, false, ":status", "200")
	p.WriteData(stream, true, []byte("ok"))
}

// storm writes what f writes, many times at once, until the connection ends.
func (p *peer) storm(f func(f *http2.Framer)) {
	var b bytes.Buffer
	w := http2.NewFramer(&b, nil)
	for b.Len() < 32<<10 {
		f(w)
	}
	for {
		if _, err := p.Conn.Write(b.Bytes()); err != nil {
			return
		}
	}
}

// serve2 answers each HTTP/2 connection with f.
func serve2(t *testing.T, f func(p *peer, n int), settings ...http2.Setting) *server {
	return serve(t, func(c net.Conn, n int) {
		if p := newPeer(c, settings...); p != nil {
			f(p, n)
		}
	})
}

// The header list is the captured one, in its order.
func TestHTTP2AsCaptured(t *testing.T) {
	lists := make(chan []hpack.HeaderField, 1)
	srv := serve2(t, func(p *peer, _ int) {
		for id := p.request(false); id != 0; id = p.request(false) {
			lists <- p.list
			p.ok(id)
		}
	})
	cfg := config(srv.url)
	candidate, strip := cfg, cfg
	candidate.Host, candidate.Role, candidate.Trace = "candidate", "control", "keep"
	strip.Credentials = CredentialsStrip
	// What the dynamic table does shows in the second request.
	for _, c := range []struct {
		cfg  Config
		x    *exchange.Exchange
		want string
	}{
		{cfg, get2("/b?x", "z: 1", "a: 2", "z: 3", "accept: */*", "grpc-timeout: 100m", "x-empty: "),
			":method GET|:scheme http|:authority users.example|:path /b?x|z 1|a 2|z 3|accept */*|grpc-timeout 100m|x-empty |x-shadow-test-role candidate"},
		{candidate, get2("/", "host: users.example", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
			":method GET|:scheme http|:authority " + srv.Addr().String() + "|:path /|traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01|x-shadow-test-role control"},
		{strip, get2("/", "authorization: Bearer x", "cookie: a=b", "a: 1"), ":method GET|:scheme http|:authority users.example|:path /|a 1|x-shadow-test-role candidate"},
	} {
		u := start(t, c.cfg)
		for range 2 {
			u.one(c.x).ok(t, 200, "ok")
			var b []string
			for _, f := range <-lists {
				b = append(b, f.Name+" "+f.Value)
			}
			if s := strings.Join(b, "|"); s != c.want {
				t.Errorf("sent\n%s, want\n%s", s, c.want)
			}
		}
	}
	u := start(t, cfg)
	p := u.one(get2("/", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b"))
	p.ok(t, 200, "ok")
	list := <-lists
	if p.TraceID != "0af7651916cd43dd8448eb211c80319c" || len(p.FreshTraceID) != 32 || len(list) != 6 || !strings.HasPrefix(list[4].Value, "00-"+p.FreshTraceID+"-") {
		t.Errorf("%q %q %v", p.TraceID, p.FreshTraceID, list)
	}
	x := get2("/")
	x.Request.Scheme, x.Request.Host = "https", ""
	u.one(x).ok(t, 200, "ok")
	if list := <-lists; list[1].Value != "https" || list[2].Name != ":path" {
		t.Errorf("%v", list)
	}
}

// Trailers lose what a head would.
func TestHTTP2Trailers(t *testing.T) {
	x := get2("/")
	for _, name := range []string{"a", "x-shadow-test-role", "connection", "host", "authorization", "b"} {
		x.Request.Trailer = append(x.Request.Trailer, exchange.Field{Name: name, Value: "1"})
	}
	got, err := newRewriter("candidate", "", true, true).trailer(nil, x.Request)
	if err != nil || len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" {
		t.Errorf("%v, %v", got, err)
	}
}

// Whatever a request says, the connection goes to the configured address.
func TestHTTP2ConnectionByConfiguration(t *testing.T) {
	evil := serve(t, func(c net.Conn, _ int) { t.Error("connection to evil"); drain(c) })
	for _, e := range proxyVariables {
		t.Setenv(e, evil.url)
	}
	ev := evil.Addr().String()
	h := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, evil.url, http.StatusFound) }
	bothWays(t, h, func(t *testing.T, srv *httptest.Server, cfg Config) {
		scheme, at, _ := strings.Cut(srv.URL, "://127.0.0.1:")
		cfg.URL = scheme + "://example.com:" + at
		cfg.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "example.com" {
				t.Errorf("asked for %q", host)
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		u := start(t, cfg)
		lying := get2("/")
		lying.Request.Host = ev
		field := get2("/", "host: "+ev)
		field.Request.Host = ev
		for _, x := range []*exchange.Exchange{
			get2("/"), get2("//" + ev + "/x"), get2("/@" + ev + "/"), get2("/\\" + ev), get2("/", "alt-svc: h2="+ev), lying, field,
		} {
			p := u.one(x)
			if p.Error != "" || p.Response.Status != 302 || p.Address != srv.Listener.Addr().String() {
				t.Errorf("%s: %s %s, %+v", x.Request.Target, p.Error, p.Detail, p.Response)
			}
		}
	})
}

func TestHTTP2Refused(t *testing.T) {
	srv := serve(t, func(c net.Conn, _ int) { t.Error("connected"); drain(c) })
	u := start(t, config(srv.url))
	change := func(f func(x *exchange.Exchange)) *exchange.Exchange {
		x := request2("POST", "/", "abc")
		f(x)
		return x
	}
	for i, x := range []*exchange.Exchange{
		get2("http://evil.example/"), get2("evil.example:80"), get2(""), get2("*x"), get2("/a b"), get2("/\r\nx: y"), get2("/\x00"),
		request2("CONNECT", "/", ""), request2("G T", "/", ""), request2("", "/", ""),
		get2("/", "A: upper"), get2("/", ":path: /evil"), get2("/", "a b: c"), get2("/", "a: b\r\nc: d"), get2("/", "a: b\x00"), get2("/", ": x"),
		get2("/", "host: other.example"), get2("/", "host: users.example", "host: users.example"),
		get2("/", "transfer-encoding: chunked"), get2("/", "content-length: 1"), request2("POST", "/", "abc", "content-length: 2"), request2("POST", "/", "abc", "content-length: x"),
		change(func(x *exchange.Exchange) { x.Request.Scheme = "" }),
		change(func(x *exchange.Exchange) { x.Request.Scheme = "ftp" }),
		change(func(x *exchange.Exchange) { x.Pushed = true }),
		change(func(x *exchange.Exchange) { x.Doubt = exchange.DoubtHost }),
		change(func(x *exchange.Exchange) { x.GRPC = &exchange.GRPC{Kind: exchange.GRPCClientStream} }),
		change(func(x *exchange.Exchange) { x.GRPC = &exchange.GRPC{Kind: exchange.GRPCBidi} }),
		change(func(x *exchange.Exchange) { x.Request.Body.Bytes = nil }),
		change(func(x *exchange.Exchange) { x.Request.Body.Truncated = true }),
		change(func(x *exchange.Exchange) { x.Request.Trailer = exchange.Header{{Name: ":status", Value: "1"}} }),
		change(func(x *exchange.Exchange) { x.Request.Trailer = exchange.Header{{Name: "a", Value: "\n"}} }),
	} {
		p := u.one(x)
		if p.Error != ErrorRefused {
			t.Errorf("request %d: %q %s", i, p.Error, p.Detail)
		}
	}
	if s := u.Stats(); s.Opened != 0 || s.Sent != 0 {
		t.Errorf("%+v", s)
	}
}

// Peers that do not speak HTTP/2 fail with a word, never in silence.
func TestHTTP2Spoken(t *testing.T) {
	ok := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }
	one := httptest.NewServer(http.HandlerFunc(ok))
	t.Cleanup(one.Close)
	oneTLS := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	quiet(oneTLS)
	oneTLS.StartTLS() // HTTP/1 only
	t.Cleanup(oneTLS.Close)
	_, noALPN := serveTLS(t, func(c net.Conn, _ int) { drain(c) })
	both := plain2(t, http.HandlerFunc(ok))
	only := answer(t, func(string) string { return mockOK })
	garbage := serve(t, func(c net.Conn, _ int) { io.WriteString(c, "\x00\x00\x00\x04 what is this, then?"); drain(c) })
	closes := serve(t, func(net.Conn, int) {})
	silent := serve(t, func(c net.Conn, _ int) { drain(c) })
	ping := serve(t, func(c net.Conn, _ int) {
		http2.NewFramer(c, nil).WritePing(false, [8]byte{})
		drain(c)
	})
	dead := serve(t, func(net.Conn, int) {})
	dead.Close()
	insecure := config(oneTLS.URL)
	insecure.TLS.Insecure = true
	untrusted := config(oneTLS.URL)
	for _, c := range []struct {
		name string
		cfg  Config
		word string
	}{
		{"both", config(both.URL), ""},
		{"net/http with HTTP/1 alone", config(one.URL), ErrorProtocol},
		{"HTTP/1 by hand", config(only.url), ErrorProtocol},
		{"TLS without h2", insecure, ErrorProtocol},
		{"TLS without ALPN", noALPN, ErrorProtocol},
		{"not trusted", untrusted, ErrorTLS},
		{"garbage", config(garbage.url), ErrorProtocol},
		{"ping before settings", config(ping.url), ErrorProtocol},
		{"closes", config(closes.url), ErrorClosed},
		{"silent", config(silent.url), ErrorTimeout},
		{"dead", config(dead.url), ErrorConnect},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Timeout = 500 * time.Millisecond
			own := &recorder{}
			c.cfg.OwnReplay = own
			u := start(t, c.cfg)
			p := u.one(get2("/"))
			if c.word == "" {
				p.ok(t, 200, "HTTP/2.0")
				return
			}
			p.failed(t, c.word)
			if p.Start != 0 || p.Reused {
				t.Errorf("%+v", p.Outcome)
			}
			own.check(t, 0)
		})
	}
}

func TestHTTP2Answers(t *testing.T) {
	huge := strings.Repeat("y", 10<<10)
	for _, c := range []struct {
		name, method string
		// peer answers the request on the stream; the connection then closes
		// unless stay is set.
		peer    func(p *peer, id uint32)
		stay    bool
		word    string
		status  int
		body    string
		trailer string
		interim []int
	}{
		{name: "plain", peer: func(p *peer, id uint32) { p.ok(id) }, status: 200, body: "ok"},
		{name: "no body", peer: func(p *peer, id uint32) { p.head(id, true, ":status", "204") }, status: 204},
		{name: "HEAD", method: "HEAD", peer: func(p *peer, id uint32) { p.head(id, true, ":status", "200", "content-length", "9") }, status: 200},
		{name: "304 with a length", peer: func(p *peer, id uint32) { p.head(id, true, ":status", "304", "content-length", "9") }, status: 304},
		{name: "interim", peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "103")
			p.head(id, false, ":status", "102")
			p.ok(id)
		}, status: 200, body: "ok", interim: []int{103, 102}},
		{name: "trailers", peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200")
			p.WriteData(id, false, []byte("ok"))
			p.head(id, true, "grpc-status", "0")
		}, status: 200, body: "ok", trailer: "0"},
		{name: "padding", peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "2")
			p.WriteDataPadded(id, false, []byte("o"), make([]byte, 200))
			p.WriteDataPadded(id, true, []byte("k"), make([]byte, 200))
		}, status: 200, body: "ok"},
		{name: "frames of the connection between", peer: func(p *peer, id uint32) {
			p.WritePing(false, [8]byte{1})
			p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
			p.WriteRawFrame(0xfb, 0, 0, []byte("unknown"))
			p.WritePriority(id, http2.PriorityParam{})
			p.head(id, false, ":status", "200")
			p.WriteWindowUpdate(id, 5)
			p.WriteWindowUpdate(0, 5)
			p.WriteData(id, false, nil)
			p.WriteGoAway(id, http2.ErrCodeNo, nil)
			p.WriteData(id, true, []byte("ok"))
		}, status: 200, body: "ok"},
		{name: "goes away after the answer", peer: func(p *peer, id uint32) { p.WriteGoAway(id, http2.ErrCodeNo, nil); p.ok(id) }, status: 200, body: "ok"},
		{name: "reset after the answer", peer: func(p *peer, id uint32) { p.ok(id); p.WriteRSTStream(id, http2.ErrCodeNo) }, status: 200, body: "ok"},

		{name: "hangs", stay: true, peer: func(*peer, uint32) {}, word: ErrorTimeout},
		{name: "hangs in the body", stay: true, peer: func(p *peer, id uint32) { p.head(id, false, ":status", "200"); p.WriteData(id, false, []byte("o")) }, word: ErrorTimeout},
		{name: "hangs in the head", stay: true, peer: func(p *peer, id uint32) { p.Write([]byte("\x00\x01\x00\x01\x04\x00\x00\x00\x01\x88")) }, word: ErrorTimeout},
		{name: "closed at once", peer: func(*peer, uint32) {}, word: ErrorClosed},
		{name: "closed in the head", peer: func(p *peer, id uint32) { p.Write([]byte("\x00\x01\x00\x01\x04\x00\x00\x00\x01\x88")) }, word: ErrorClosed},
		{name: "closed after an interim answer", peer: func(p *peer, id uint32) { p.head(id, false, ":status", "103") }, word: ErrorClosed},
		{name: "closed in the body", peer: func(p *peer, id uint32) { p.head(id, false, ":status", "200"); p.WriteData(id, false, []byte("o")) }, word: ErrorBody},
		{name: "reset", stay: true, peer: func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeInternal) }, word: ErrorClosed},
		{name: "refused", stay: true, peer: func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeRefusedStream) }, word: ErrorClosed},
		{name: "wants HTTP/1", stay: true, peer: func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeHTTP11Required) }, word: ErrorProtocol},
		{name: "all want HTTP/1", stay: true, peer: func(p *peer, id uint32) { p.WriteGoAway(0, http2.ErrCodeHTTP11Required, nil) }, word: ErrorProtocol},
		{name: "reset in the body", stay: true, peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200")
			p.WriteRSTStream(id, http2.ErrCodeInternal)
		}, word: ErrorBody},
		{name: "goes away before the answer", stay: true, peer: func(p *peer, id uint32) { p.WriteGoAway(0, http2.ErrCodeNo, nil) }, word: ErrorClosed},
		{name: "goes away, then closes", peer: func(p *peer, id uint32) { p.WriteGoAway(id, http2.ErrCodeNo, nil) }, word: ErrorClosed},
		{name: "storm of GOAWAY", stay: true, peer: func(p *peer, id uint32) {
			p.storm(func(f *http2.Framer) { f.WriteGoAway(id, http2.ErrCodeNo, make([]byte, 1000)) })
		}, word: ErrorTooLarge},
		{name: "storm of PING", stay: true, peer: func(p *peer, id uint32) {
			go drain(p.Conn)
			p.storm(func(f *http2.Framer) { f.WritePing(false, [8]byte{}) })
		}, word: ErrorTooLarge},
		{name: "storm of SETTINGS", stay: true, peer: func(p *peer, id uint32) {
			go drain(p.Conn)
			p.storm(func(f *http2.Framer) { f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 9}) })
		}, word: ErrorTooLarge},
		{name: "storm of PING, nothing read", stay: true, peer: func(p *peer, id uint32) {
			p.storm(func(f *http2.Framer) { f.WritePing(false, [8]byte{}) })
		}, word: "timeout|too_large"},
		{name: "empty DATA without end", stay: true, peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200")
			p.storm(func(f *http2.Framer) { f.WriteData(id, false, nil) })
		}, word: ErrorTooLarge},
		{name: "padding without end", stay: true, peer: func(p *peer, id uint32) {
			go drain(p.Conn)
			p.head(id, false, ":status", "200")
			p.storm(func(f *http2.Framer) { f.WriteDataPadded(id, false, nil, make([]byte, 255)) })
		}, word: ErrorTooLarge},
		{name: "body without end", stay: true, peer: func(p *peer, id uint32) {
			go drain(p.Conn)
			p.head(id, false, ":status", "200")
			p.storm(func(f *http2.Framer) { f.WriteData(id, false, make([]byte, 16<<10)) })
		}, word: ErrorTooLarge},
		{name: "interim answers without end", stay: true, peer: func(p *peer, id uint32) {
			for p.head(id, false, ":status", "103") == nil {
			}
		}, word: ErrorProtocol},
		{name: "head without end", stay: true, peer: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte("\x88")})
			p.block.Reset()
			p.enc.WriteField(hpack.HeaderField{Name: "x", Value: huge, Sensitive: true})
			p.storm(func(f *http2.Framer) { f.WriteContinuation(id, false, p.block.Bytes()) })
		}, word: ErrorProtocol},
		{name: "empty CONTINUATION without end", stay: true, peer: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte("\x88")})
			p.storm(func(f *http2.Framer) { f.WriteContinuation(id, false, nil) })
		}, word: ErrorTooLarge},
		{name: "HPACK bomb", stay: true, peer: func(p *peer, id uint32) {
			p.block.Reset()
			p.enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			p.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 4000)})
			b := append(p.block.Bytes(), bytes.Repeat([]byte{0xbe}, 10<<10)...)
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b, EndStream: true, EndHeaders: true})
		}, word: ErrorProtocol},
		{name: "HPACK of nothing", stay: true, peer: func(p *peer, id uint32) {
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff}, EndStream: true, EndHeaders: true})
		}, word: ErrorProtocol},
		{name: "frame over the bound", stay: true, peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200")
			p.WriteRawFrame(http2.FrameData, 0, id, make([]byte, 17<<10))
		}, word: ErrorBody},
		{name: "first frame over the bound", stay: true, peer: func(p *peer, id uint32) { p.WriteRawFrame(http2.FrameData, 0, id, make([]byte, 17<<10)) }, word: ErrorProtocol},
		{name: "window overrun", stay: true, peer: func(p *peer, id uint32) { p.WriteWindowUpdate(0, 1<<31-1) }, word: ErrorProtocol},
		{name: "window of the stream overrun", stay: true, peer: func(p *peer, id uint32) { p.WriteWindowUpdate(id, 1<<31-1) }, word: ErrorProtocol},
		{name: "window by settings overrun", stay: true, peer: func(p *peer, id uint32) {
			p.WriteWindowUpdate(id, 1<<30)
			p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		}, word: ErrorProtocol},
		{name: "settings that may not be", stay: true, peer: func(p *peer, id uint32) {
			p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1})
		}, word: ErrorProtocol},
		{name: "push", stay: true, peer: func(p *peer, id uint32) {
			p.block.Reset()
			for _, f := range []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "h"} {
				p.enc.WriteField(hpack.HeaderField{Name: f, Value: f})
			}
			p.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: p.block.Bytes(), EndHeaders: true})
		}, word: ErrorProtocol},
		{name: "answer to another stream", stay: true, peer: func(p *peer, id uint32) { p.ok(id + 2) }, word: ErrorProtocol},
		{name: "DATA of another stream", stay: true, peer: func(p *peer, id uint32) { p.WriteData(id+1, true, nil) }, word: ErrorProtocol},
		{name: "reset of another stream", stay: true, peer: func(p *peer, id uint32) { p.WriteRSTStream(id+2, 0) }, word: ErrorProtocol},
		{name: "window of another stream", stay: true, peer: func(p *peer, id uint32) { p.WriteWindowUpdate(2, 1) }, word: ErrorProtocol},
		{name: "DATA first", stay: true, peer: func(p *peer, id uint32) { p.WriteData(id, true, []byte("ok")) }, word: ErrorProtocol},
		{name: "no status", stay: true, peer: func(p *peer, id uint32) { p.head(id, true, "a", "b") }, word: ErrorProtocol},
		{name: "status of a request", stay: true, peer: func(p *peer, id uint32) { p.head(id, true, ":method", "200") }, word: ErrorProtocol},
		{name: "status with a sign", stay: true, peer: func(p *peer, id uint32) { p.head(id, true, ":status", "+20") }, word: ErrorProtocol},
		{name: "status of four", stay: true, peer: func(p *peer, id uint32) { p.head(id, true, ":status", "0200") }, word: ErrorProtocol},
		{name: "101", stay: true, peer: func(p *peer, id uint32) { p.head(id, false, ":status", "101") }, word: ErrorProtocol},
		{name: "interim is all", stay: true, peer: func(p *peer, id uint32) { p.head(id, true, ":status", "103") }, word: ErrorProtocol},
		{name: "upper case name", stay: true, peer: func(p *peer, id uint32) { p.head(id, true, ":status", "200", "A", "b") }, word: ErrorProtocol},
		{name: "two heads", stay: true, peer: func(p *peer, id uint32) { p.head(id, false, ":status", "200"); p.head(id, false, "a", "b") }, word: ErrorBody},
		{name: "status in trailers", stay: true, peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200")
			p.head(id, true, ":status", "200")
		}, word: ErrorBody},
		{name: "lengths differ", stay: true, peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "2", "content-length", "3")
		}, word: ErrorProtocol},
		{name: "length is none", stay: true, peer: func(p *peer, id uint32) { p.head(id, false, ":status", "200", "content-length", "-2") }, word: ErrorProtocol},
		{name: "shorter than its length", stay: true, peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "3")
			p.WriteData(id, true, []byte("ok"))
		}, word: ErrorBody},
		{name: "longer than its length", stay: true, peer: func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "1")
			p.WriteData(id, true, []byte("ok"))
		}, word: ErrorBody},
		{name: "content of HEAD", method: "HEAD", stay: true, peer: func(p *peer, id uint32) { p.ok(id) }, word: ErrorBody},
	} {
		t.Run(c.name, func(t *testing.T) {
			stay := make(chan struct{})
			defer close(stay)
			srv := serve2(t, func(p *peer, _ int) {
				if id := p.request(false); id != 0 {
					c.peer(p, id)
				}
				if c.stay {
					<-stay
				}
			})
			own := &recorder{}
			cfg := config(srv.url)
			cfg.MaxBody, cfg.MaxAnswer, cfg.Timeout, cfg.OwnReplay = 16<<10, 128<<10, time.Second, own
			method := c.method
			if method == "" {
				method = "GET"
			}
			u := start(t, cfg)
			p := u.one(request2(method, "/", ""))
			if c.word != "" {
				if !slices.Contains(strings.Split(c.word, "|"), p.Error) || p.Response != nil || p.Detail == "" {
					t.Fatalf("%q (%s), want %s", p.Error, p.Detail, c.word)
				}
				if s := u.Stats(); s.Retried != 0 || s.Received > 128<<10+64<<10 || p.Start == 0 || p.LastByte < p.Start {
					t.Errorf("%+v %+v", s, p.Outcome)
				}
				own.check(t, 0)
				return
			}
			p.ok(t, c.status, c.body)
			if !slices.Equal(p.Response.Interim, c.interim) || p.Response.Trailer.Get("grpc-status") != c.trailer {
				t.Errorf("%+v", p.Response)
			}
		})
	}
}

// A connection that the peer ended while it was idle, or on which it refuses
// the stream, is tried once more, and only once.
func TestHTTP2Stale(t *testing.T) {
	for _, c := range []struct {
		name string
		// second does what the peer does with the second request.
		second  func(p *peer, id uint32)
		retried bool
		word    string
	}{
		{"closed", func(p *peer, id uint32) {}, true, ""},
		{"goes away", func(p *peer, id uint32) { p.WriteGoAway(id-2, http2.ErrCodeNo, []byte("age")) }, true, ""},
		{"goes away and closes", func(p *peer, id uint32) { p.WriteGoAway(id, http2.ErrCodeNo, nil) }, true, ""},
		{"refuses the stream", func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeRefusedStream) }, true, ""},
		{"resets the stream", func(p *peer, id uint32) { p.WriteRSTStream(id, http2.ErrCodeInternal) }, false, ErrorClosed},
		{"begins to answer", func(p *peer, id uint32) { p.head(id, false, ":status", "103") }, false, ErrorClosed},
		{"garbage", func(p *peer, id uint32) { p.Write(bytes.Repeat([]byte("garbage"), 9)) }, false, ErrorProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := serve2(t, func(p *peer, n int) {
				for i := 0; ; i++ {
					id := p.request(false)
					if id == 0 {
						return
					}
					if n == 0 && i == 1 {
						c.second(p, id)
						return
					}
					p.ok(id)
				}
			})
			u := start(t, config(srv.url))
			u.one(get2("/")).ok(t, 200, "ok")
			p := u.one(request2("POST", "/", "body"))
			s := u.Stats()
			if !c.retried {
				p.failed(t, c.word)
				if s.Retried != 0 || !p.Reused {
					t.Errorf("%+v", s)
				}
				return
			}
			p.ok(t, 200, "ok")
			if s.Retried != 1 || p.Reused || srv.accepted() != 2 {
				t.Errorf("%d connections, %+v", srv.accepted(), s)
			}
		})
	}
	t.Run("only once", func(t *testing.T) {
		srv := serve2(t, func(p *peer, n int) {
			for i := 0; ; i++ {
				id := p.request(false)
				if id == 0 || n > 0 || i == 1 {
					return
				}
				p.ok(id)
			}
		})
		u := start(t, config(srv.url))
		u.one(get2("/")).ok(t, 200, "ok")
		u.one(get2("/")).failed(t, ErrorClosed)
		if s := u.Stats(); s.Retried != 1 || srv.accepted() != 2 {
			t.Errorf("%d connections, %+v", srv.accepted(), s)
		}
	})
	t.Run("gone while it rested", func(t *testing.T) {
		srv := serve2(t, func(p *peer, n int) {
			for id := p.request(false); id != 0; id = p.request(false) {
				p.ok(id)
			}
		})
		u := start(t, config(srv.url))
		u.one(get2("/")).ok(t, 200, "ok")
		srv.hangUp()
		c := func() *http2Conn {
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.idle[0].http2
		}()
		for end := time.Now().Add(patience); c.alive(); {
			if time.Now().After(end) {
				t.Fatal("never seen")
			}
			runtime.Gosched()
		}
		p := u.one(get2("/"))
		p.ok(t, 200, "ok")
		if s := u.Stats(); s.Retried != 0 || s.Stale != 1 || p.Reused {
			t.Errorf("%+v", s)
		}
	})
	t.Run("goes away after its answer", func(t *testing.T) {
		srv := serve2(t, func(p *peer, n int) {
			for id := p.request(false); id != 0; id = p.request(false) {
				p.WriteGoAway(id, http2.ErrCodeNo, nil)
				p.ok(id)
			}
		})
		u := start(t, config(srv.url))
		for range 3 {
			u.one(get2("/")).ok(t, 200, "ok")
		}
		if s := u.Stats(); s.Opened != 3 || s.Reused != 0 || s.Retried != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("has spoken while it rested", func(t *testing.T) {
		speak := make(chan struct{})
		srv := serve2(t, func(p *peer, n int) {
			for id := p.request(false); id != 0; id = p.request(false) {
				p.ok(id)
				if n == 0 {
					<-speak
					p.WritePing(false, [8]byte{7})
				}
			}
		})
		u := start(t, config(srv.url))
		u.one(get2("/")).ok(t, 200, "ok")
		c := func() *http2Conn {
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.idle[0].http2
		}()
		close(speak)
		unread := func() (n int) {
			c.raw.Control(func(fd uintptr) {
				n, _, _ = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			})
			return n
		}
		for end := time.Now().Add(patience); unread() <= 0; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatal("nothing came")
			}
		}
		u.one(get2("/")).ok(t, 200, "ok")
		if s := u.Stats(); s.Opened != 1 || s.Reused != 1 || s.Stale != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("pings while it rests", func(t *testing.T) {
		srv := serve2(t, func(p *peer, n int) {
			for id := p.request(false); id != 0; id = p.request(false) {
				p.ok(id)
				p.WritePing(false, [8]byte{7})
				p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100})
			}
		})
		u := start(t, config(srv.url))
		for range 20 {
			u.one(get2("/", "x-"+strings.Repeat("a", 30)+": "+strings.Repeat("b", 30))).ok(t, 200, "ok")
		}
		if s := u.Stats(); s.Opened != 1 || s.Reused != 19 {
			t.Errorf("%+v", s)
		}
	})
}

// A peer that allows no stream is waited for, within the timeout.
func TestHTTP2MaxConcurrentStreams(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration
		word  string
	}{
		{"raised in time", 700 * time.Millisecond, ""},
		{"never", 0, ErrorTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Config{Timeout: time.Second}, func(t *testing.T, u *running, n *fakeNet) {
				n.serve = func(conn net.Conn, _ netip.AddrPort) {
					p := newPeer(conn, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
					if c.after > 0 {
						// The acknowledgement is read first: a pipe has no buffer.
						p.ReadFrame()
						pass(c.after)
						p.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
					}
					if id := p.request(false); id != 0 {
						p.ok(id)
					}
					drain(conn)
				}
				p, took := u.timed(get2("/"))
				if c.word != "" {
					p.failed(t, c.word)
					if took != time.Second || p.Start != 0 {
						t.Errorf("gave up after %v: %+v", took, p.Outcome)
					}
					return
				}
				p.ok(t, 200, "ok")
				if p.Setup != c.after || p.TTLB() != 0 {
					t.Errorf("set up in %v, answered in %v", p.Setup, p.TTLB())
				}
			})
		})
	}
}

// Times are those of the socket: a frame's first byte, and the end's last.
func TestHTTP2Times(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = func(conn net.Conn, _ netip.AddrPort) {
			p := newPeer(conn)
			for id := p.request(false); id != 0; id = p.request(false) {
				pass(100 * time.Millisecond)
				p.head(id, false, ":status", "103")
				pass(200 * time.Millisecond)
				var b bytes.Buffer
				f := http2.NewFramer(&b, nil)
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true})
				conn.Write(b.Bytes()[:4])
				pass(50 * time.Millisecond)
				conn.Write(b.Bytes()[4:])
				pass(100 * time.Millisecond)
				p.WriteData(id, true, []byte("ok"))
			}
		}
		for range 2 {
			p := u.one(get2("/"))
			p.ok(t, 200, "ok")
			if p.TTFB() != 300*time.Millisecond || p.TTLB() != 450*time.Millisecond {
				t.Errorf("first byte after %v, last after %v", p.TTFB(), p.TTLB())
			}
		}
	})
}

// Connecting, settings, windows and the answer share one timeout.
func TestHTTP2TimeoutCoversAll(t *testing.T) {
	for _, c := range []struct {
		name string
		peer func(c net.Conn, over chan struct{})
		x    *exchange.Exchange
	}{
		{"settings", func(c net.Conn, _ chan struct{}) { drain(c) }, get2("/")},
		{"answer", func(c net.Conn, _ chan struct{}) { newPeer(c).request(false); drain(c) }, get2("/")},
		{"window", func(c net.Conn, _ chan struct{}) { newPeer(c).request(true); drain(c) }, request2("POST", "/", strings.Repeat("x", 100<<10))},
		{"nothing read", func(c net.Conn, over chan struct{}) { newPeer(c).request(true); <-over }, request2("POST", "/", strings.Repeat("x", 100<<10))},
		{"body", func(c net.Conn, _ chan struct{}) {
			p := newPeer(c)
			p.head(p.request(false), false, ":status", "200")
			drain(c)
		}, get2("/")},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Config{Timeout: time.Second}, func(t *testing.T, u *running, n *fakeNet) {
				over := make(chan struct{})
				defer close(over)
				n.serve = func(conn net.Conn, _ netip.AddrPort) { c.peer(conn, over) }
				p, took := u.timed(c.x)
				p.failed(t, ErrorTimeout)
				if took != time.Second {
					t.Errorf("gave up after %v", took)
				}
			})
		})
	}
}

// Bodies of any size go out whole within any windows and frame sizes.
func TestHTTP2LargeRequest(t *testing.T) {
	sums := make(chan string, 1)
	srv := serve(t, func(c net.Conn, n int) {
		p := newPeer(c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n%3) * 10000})
		if p == nil {
			return
		}
		for {
			sum := sha256.New()
			id := p.request(true)
			if id == 0 {
				return
			}
			trailer := false
			for step := uint32(1000); ; step = min(step+7000, 100_000) {
				p.WriteWindowUpdate(id, step)
				p.WriteWindowUpdate(0, step)
				p.WritePing(false, [8]byte{})
				f, err := p.ReadFrame()
				if err != nil {
					return
				}
				end := false
				switch f := f.(type) {
				case *http2.DataFrame:
					sum.Write(f.Data())
					end = f.StreamEnded()
				case *http2.MetaHeadersFrame:
					trailer, end = true, f.StreamEnded()
				}
				if end {
					break
				}
			}
			sums <- fmt.Sprintf("%x %v", sum.Sum(nil), trailer)
			p.ok(id)
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		u := start(t, config(srv.url))
		defer func() { u.halt(); <-u.ended }()
		for range 2 {
			body := bytes.Repeat([]byte(rapid.StringN(1, 20, 20).Draw(rt, "piece")), rapid.IntRange(0, 30000).Draw(rt, "times"))
			x := request2("POST", "/", string(body))
			trailer := rapid.Bool().Draw(rt, "trailer") && len(body) > 0
			if trailer {
				x.Request.Trailer = exchange.Header{{Name: "x-t", Value: "1"}}
			}
			if len(body) == 0 {
				continue
			}
			p := u.one(x)
			if p.Error != "" {
				rt.Fatalf("%s %s", p.Error, p.Detail)
			}
			if got, want := <-sums, fmt.Sprintf("%x %v", sha256.Sum256(body), trailer); got != want {
				rt.Fatalf("got %s, want %s", got, want)
			}
		}
		if s := u.Stats(); s.Retried != 0 || s.Opened > 1 {
			rt.Fatalf("%+v", s)
		}
	})
}

// A peer that answers before it has read the request: the answer counts, the
// connection is not used again.
func TestHTTP2EarlyAnswer(t *testing.T) {
	srv := serve2(t, func(p *peer, _ int) {
		p.ok(p.request(true))
		drain(p.Conn)
	})
	u := start(t, config(srv.url))
	x := request2("POST", "/", strings.Repeat("x", 1<<20))
	for range 2 {
		p := u.one(x)
		p.ok(t, 200, "ok")
		if p.Reused {
			t.Error("reused")
		}
	}
	// A peer that sends while nobody reads there: both directions at once.
	echo := plain2(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	u = start(t, config(echo.URL))
	x = request2("POST", "/", strings.Repeat("0123456789abcdef", 512<<10))
	for range 3 {
		p := u.one(x)
		if p.Error != "" || sumOf(&p.Response.Body) != sha256.Sum256(x.Request.Body.Bytes) || !p.Response.Body.Truncated {
			t.Fatalf("%s %s", p.Error, p.Detail)
		}
	}
	if s := u.Stats(); s.Opened != 1 {
		t.Errorf("%+v", s)
	}
}

// Control frames that a peer asks for while it reads nothing are bounded.
func TestHTTP2ControlFlood(t *testing.T) {
	srv := serve2(t, func(p *peer, _ int) {
		p.request(true)
		p.storm(func(f *http2.Framer) { f.WritePing(false, [8]byte{}) })
	})
	cfg := config(srv.url)
	cfg.Timeout = MaxTimeout
	u := start(t, cfg)
	u.one(request2("POST", "/", strings.Repeat("x", 8<<20))).failed(t, ErrorProtocol)
}

// A body over the limit keeps its beginning, length and digest.
func TestHTTP2MaxBody(t *testing.T) {
	body := strings.Repeat("0123456789", 300<<10)
	bothWays(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }, func(t *testing.T, srv *httptest.Server, cfg Config) {
		cfg.MaxBody = 100_000
		u := start(t, cfg)
		for range 3 {
			p := u.one(get2("/"))
			if p.Error != "" {
				t.Fatalf("%s %s", p.Error, p.Detail)
			}
			if b := &p.Response.Body; b.Size != int64(len(body)) || !b.Truncated || string(b.Bytes) != body[:100_000] || b.Digest != sha256.Sum256([]byte(body)) || !b.Digested {
				t.Errorf("%d bytes of %d, digested %v", len(b.Bytes), b.Size, b.Digested)
			}
		}
		if s := u.Stats(); s.Opened != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Peers without measure at once: memory stays that of the replays in flight.
func TestHTTP2MemoryFlat(t *testing.T) {
	srv := serve2(t, func(p *peer, n int) {
		id := p.request(false)
		go drain(p.Conn)
		switch n % 3 {
		case 0:
			p.head(id, false, ":status", "200")
			p.storm(func(f *http2.Framer) { f.WriteData(id, false, make([]byte, 16<<10)) })
		case 1:
			p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte("\x88")})
			p.block.Reset()
			p.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 15<<10), Sensitive: true})
			p.storm(func(f *http2.Framer) { f.WriteContinuation(id, false, p.block.Bytes()) })
		case 2:
			p.storm(func(f *http2.Framer) { f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 9}) })
		}
	})
	cfg := config(srv.url)
	cfg.MaxInFlight, cfg.MaxBody, cfg.MaxAnswer = 8, 64<<10, 2<<20
	cfg.Breaker.Disabled = true
	u := start(t, cfg)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	round := func() {
		for range 8 {
			u.Submit(get2("/"))
		}
		for range 8 {
			if p := u.next(); p.Error == "" {
				t.Fatalf("%+v", p.Response)
			}
		}
		u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
	}
	round()
	before := heap()
	for range 6 {
		round()
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("heap grew from %d to %d", before, after)
	}
}

// A request of HTTP/2 counts in Memory by its fields and its body.
func TestHTTP2Memory(t *testing.T) {
	m := NewMemory(1)
	cfg := config(serve(t, func(net.Conn, int) {}).url)
	cfg.Memory = m
	held := make(chan int64, 1)
	cfg.Done = func(*exchange.Exchange, *Outcome) { held <- m.Used() }
	u := start(t, cfg)
	u.Submit(request2("POST", "/", strings.Repeat("x", 10_000), "a: "+strings.Repeat("y", 1000)))
	if n := <-held; n < 11_000 || n > 40_000 {
		t.Errorf("%d bytes are held", n)
	}
	u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
	if m.Used() != 0 {
		t.Errorf("%d bytes are held at rest", m.Used())
	}
}

func TestHTTP2Cancel(t *testing.T) {
	begun := make(chan struct{}, 4)
	srv := serve2(t, func(p *peer, n int) {
		for id := p.request(n == 0); id != 0; id = p.request(false) {
			if n == 0 {
				begun <- struct{}{}
				drain(p.Conn)
				return
			}
			p.ok(id)
		}
	})
	own := &recorder{}
	cfg := config(srv.url)
	cfg.Timeout, cfg.OwnReplay = MaxTimeout, own
	u := start(t, cfg)
	u.Submit(request2("POST", "/", strings.Repeat("x", 1<<20)))
	<-begun
	begin := time.Now()
	u.Cancel()
	u.until("stopped", func(s Stats) bool { return s.Results[Stopped] == 1 && s.InFlight == 0 })
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v", took)
	}
	own.check(t, 0)
	u.Resume()
	u.one(get2("/")).ok(t, 200, "ok")
	u.halt()
	<-u.ended
	own.check(t, 0)
}

func TestHTTP2Credentials(t *testing.T) {
	srv := serve2(t, func(p *peer, _ int) { p.ok(p.request(false)) })
	cfg := config("http://c.example:" + portOf(srv))
	far := netip.MustParseAddr("198.51.100.7")
	cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{far}, nil }
	u := start(t, cfg)
	u.dialer.dialTCP = func(context.Context, netip.AddrPort, func(string, string, syscall.RawConn) error) (net.Conn, error) {
		t.Error("dialled")
		return nil, errors.New("dialled")
	}
	u.one(get2("/")).failed(t, ErrorRefused)
}

// fakeConn is a connection that gives bytes and takes all.
type fakeConn struct {
	net.Conn
	io.Reader
	wrote bytes.Buffer
}

func (c *fakeConn) Read(p []byte) (int, error)       { return c.Reader.Read(p) }
func (c *fakeConn) Write(p []byte) (int, error)      { return c.wrote.Write(p) }
func (c *fakeConn) Close() error                     { return nil }
func (c *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// readAll reads what a peer sends as the answer to a request.
func readAll(sent []byte, method, body string) (*http2Answer, error) {
	fake := &fakeConn{Reader: bytes.NewReader(sent)}
	c := newHTTP2Conn(&conn{Conn: fake, counts: &connCounts{}}, fake)
	a := &http2Answer{c: c, method: method, maxBody: 1000, start: time.Now()}
	if err := c.open(); err != nil {
		return a, err
	}
	c.in.left = 1 << 20
	if err := a.allowed(); err != nil {
		return a, err
	}
	u, err := c.send(make([]byte, 0, 4096), []hpack.HeaderField{{Name: ":method", Value: method}}, []byte(body), nil)
	if err != nil {
		return a, err
	}
	defer u.finish()
	return a, a.read()
}

// Whatever a peer sends is an answer or an error with a word, within bounds.
func FuzzHTTP2Answer(f *testing.F) {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	add := func(g func()) {
		b.Reset()
		fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		g()
		f.Add(bytes.Clone(b.Bytes()), false)
		f.Add(bytes.Clone(b.Bytes()), true)
	}
	head := http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88, 0x0f, 0x0d, 1, '2'}, EndHeaders: true}
	add(func() { fr.WriteHeaders(head); fr.WriteData(1, true, []byte("ok")) })
	add(func() {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x48, 3, '1', '0', '3'}, EndHeaders: true})
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}})
		fr.WriteContinuation(1, true, []byte{0x40, 1, 'a', 1, 'b'})
		fr.WriteDataPadded(1, false, []byte("ok"), make([]byte, 9))
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x40, 1, 't', 1, 'v'}, EndHeaders: true, EndStream: true})
	})
	add(func() {
		fr.WritePing(false, [8]byte{})
		fr.WriteGoAway(1, 0, []byte("x"))
		fr.WriteWindowUpdate(0, 1<<30)
		fr.WriteWindowUpdate(1, 9000)
		fr.WriteRSTStream(1, http2.ErrCodeRefusedStream)
	})
	add(func() { fr.WriteGoAway(0, 13, nil) })
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), false)
	f.Fuzz(func(t *testing.T, sent []byte, large bool) {
		body := "x"
		if large {
			body = strings.Repeat("x", 70<<10)
		}
		a, err := readAll(sent, "GET", body)
		if err != nil {
			if !slices.Contains(ErrorWords(), wordOf(err, a.response != nil)) {
				t.Fatalf("no word for %v", err)
			}
			return
		}
		r := a.response
		if r == nil || r.Body.Digested != r.Body.Truncated || int64(len(r.Body.Bytes)) > 1000 || r.Body.Truncated != (r.Body.Size > 1000) || r.Status < 200 || r.Status > 999 {
			t.Fatalf("%+v", r)
		}
		if n := r.Header.Get("content-length"); n != "" && r.Framing == exchange.FramingH2 && r.Status != 204 && r.Status != 304 {
			if v, _, _ := strings.Cut(n, ","); strings.TrimSpace(v) != "" {
				if k, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil && k != r.Body.Size {
					t.Fatalf("content-length %q, %d bytes", n, r.Body.Size)
				}
			}
		}
	})
}

// What is written is what another reader understands, whatever the bounds.
func TestHTTP2Frames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "block")
		size := rapid.IntRange(1, 64).Draw(t, "size")
		end := rapid.Bool().Draw(t, "end")
		r := http2.NewFramer(nil, bytes.NewReader(appendHeaders(nil, block, size, 7, end)))
		f, err := r.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		h := f.(*http2.HeadersFrame)
		if h.StreamID != 7 || h.StreamEnded() != end {
			t.Fatal(h)
		}
		got, ended := bytes.Clone(h.HeaderBlockFragment()), h.HeadersEnded()
		for !ended {
			f, err := r.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			c := f.(*http2.ContinuationFrame)
			got, ended = append(got, c.HeaderBlockFragment()...), c.HeadersEnded()
		}
		if !bytes.Equal(got, block) {
			t.Fatalf("%x, want %x", got, block)
		}
		if _, err := r.ReadFrame(); err != io.EOF {
			t.Fatal(err)
		}
	})
	if b := appendWindow(nil, 3, 77); len(b) != 13 || binary.BigEndian.Uint32(b[9:]) != 77 {
		t.Errorf("%x", b)
	}
}
