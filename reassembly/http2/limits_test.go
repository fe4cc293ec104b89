package http2_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http2"
)

// A block that unpacks to more than the limit is too large, and the table stays
// in step.
func TestHPACKBomb(t *testing.T) {
	v := newConv()
	v.hello()
	p := v.side[0]
	b := p.encode(":method: GET", ":scheme: http", ":path: /bomb", ":authority: h", "x-bomb: "+strings.Repeat("b", 3000))
	bomb := p.encode("x-bomb: " + strings.Repeat("b", 3000))
	if len(bomb) != 1 {
		t.Fatal("not indexed")
	}
	b = append(b, bytes.Repeat(bomb, 10_000)...)
	must(p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b, EndStream: true, EndHeaders: true}))
	v.send(true)
	v.get(3, "x-bomb: "+strings.Repeat("b", 3000))
	v.ok(3, "")
	v.get(5)
	big := v.side[1].encode(":status: 200", "x-bomb: "+strings.Repeat("c", 3000))
	big = append(big, v.side[1].encode("x-bomb: "+strings.Repeat("c", 3000))...)
	big = append(big, strings.Repeat(string(big[len(big)-1:]), 100)...)
	must(v.side[1].fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 5, BlockFragment: big, EndStream: true, EndHeaders: true}))
	v.send(false)
	v.get(7)
	v.ok(7, "", "x-bomb: "+strings.Repeat("c", 3000))
	res := room{live: true, want: exchange.WantWhole, budget: 256 << 10}.run(t, v.whole())
	if got := strings.Join(res.words, "; "); got != "3 GET /a 200 0 0; 7 GET /a 200 0 0" || res.ends() != "too_large head x2" {
		t.Errorf("%q, %s", got, res.ends())
	}
	if len(res.got[0].Request.Header.Get("x-bomb")) != 3000 || len(res.got[1].Response.Header.Get("x-bomb")) != 3000 {
		t.Error("the table is out of step")
	}
}

// A block has 1,024 fields at most; the table stays in step behind one with more.
func TestFieldLimit(t *testing.T) {
	v := newConv()
	v.hello()
	fields := func(n int, first ...string) []string {
		for len(first) < n {
			first = append(first, "x: y")
		}
		return first
	}
	get := []string{":method: GET", ":scheme: http", ":path: /a", ":authority: h", "x-a: 1"}
	for i, n := range []int{1024, 1025, 5} {
		id := uint32(2*i + 1)
		v.headers(true, id, true, fields(n, get...)...)
		v.ok(id, "")
	}
	for i, n := range []int{1024, 1025, 5} {
		id := uint32(2*i + 7)
		v.get(id)
		v.headers(false, id, true, fields(n, ":status: 200", "x-b: 1")...)
	}
	res := room{live: true, want: exchange.WantWhole}.run(t, v.whole())
	if got := strings.Join(res.words, "; "); got != "1 GET /a 200 0 0; 5 GET /a 200 0 0; 7 GET /a 200 0 0; 11 GET /a 200 0 0" || res.ends() != "too_large head x2" {
		t.Errorf("%q, %s", got, res.ends())
	}
	if n, last := len(res.got[0].Request.Header), res.got[3].Response.Header.Get("x-b"); n != 1020 || last != "1" {
		t.Errorf("%d fields beside those that begin with a colon; behind the large one x-b is %q", n, last)
	}
}

// A block over the limit on the wire ends the use of the connection.
func TestHeaderBlockThatNeverEnds(t *testing.T) {
	for _, open := range []bool{false, true} {
		v := newConv()
		v.hello()
		if open {
			v.get(1)
		}
		must(v.side[0].fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte("\x00"), EndStream: true}))
		for range 1000 {
			must(v.side[0].fr.WriteContinuation(3, false, make([]byte, 1000)))
			v.send(true)
		}
		want := "too_large head"
		if open {
			want += ", unparsable hpack"
		}
		if res := (room{live: true, budget: 1 << 20}).run(t, v.whole()); res.ends() != want {
			t.Errorf("%s, want %s", res.ends(), want)
		}
	}
	// Empty ones cost nothing.
	v := newConv()
	v.hello()
	b := v.side[0].encode(":method: GET", ":scheme: http", ":path: /a", ":authority: h")
	must(v.side[0].fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b, EndStream: true}))
	for range 100_000 {
		must(v.side[0].fr.WriteContinuation(1, false, nil))
	}
	must(v.side[0].fr.WriteContinuation(1, true, nil))
	v.send(true)
	for range 100_000 {
		must(v.side[1].fr.WriteData(1, false, nil))
	}
	v.send(false)
	v.ok(1, "")
	if res := (room{live: true, budget: 32 << 10}).run(t, v.whole()); res.ends() != "" || res.n != 1 {
		t.Errorf("empty frames: %s", res.ends())
	}
}

// Streams over the limit are counted, and their answers belong to nobody.
func TestStreamsAreBounded(t *testing.T) {
	v := newConv()
	v.hello()
	for i := range uint32(1500) {
		v.get(2*i + 1)
	}
	for i := range uint32(1500) {
		v.ok(2*i+1, "")
	}
	v.get(3001)
	v.ok(3001, "")
	res := room{live: true}.run(t, v.whole())
	if res.n != 1001 || res.ends() != "unparsable pipeline x500" {
		t.Errorf("%d, %s", res.n, res.ends())
	}
}

// Rapid reset: each is counted, and none is remembered for long.
func TestRapidReset(t *testing.T) {
	v := newConv()
	v.hello()
	for i := range uint32(20_000) {
		v.get(2*i + 1)
		must(v.side[0].fr.WriteRSTStream(2*i+1, xhttp2.ErrCodeCancel))
		v.send(true)
	}
	v.get(40_001)
	v.ok(40_001, "")
	res := room{live: true, want: exchange.WantWhole, budget: 64 << 10}.run(t, v.whole())
	if res.n != 1 || res.ends() != "no_response reset x20000" {
		t.Errorf("%d, %s", res.n, res.ends())
	}
}

// Without memory an exchange or a connection is counted, and the others go on.
func TestBudget(t *testing.T) {
	v := newConv()
	v.hello()
	v.post(1)
	for range 10 {
		v.data(true, 1, false, strings.Repeat("b", 10_000))
	}
	v.data(true, 1, true, "")
	v.ok(1, "")
	v.get(3)
	v.ok(3, strings.Repeat("b", 16_000))
	res := room{live: true, want: exchange.WantWhole, budget: 64 << 10}.run(t, v.whole())
	if got := strings.Join(res.words, "; "); got != "3 GET /a 200 0 16000" || res.ends() != "too_large body" {
		t.Errorf("%q, %s", got, res.ends())
	}
	for _, tt := range []struct {
		budget int64
		ends   string
	}{{1100, "evicted"}, {5000, "evicted"}, {14 << 10, "evicted x50"}} {
		v := newConv()
		v.hello()
		for i := range uint32(60) {
			v.get(2*i + 1)
		}
		res := room{live: true, budget: tt.budget}.run(t, v.whole())
		if !strings.Contains(res.ends(), "evicted") {
			t.Errorf("budget %d: %s", tt.budget, res.ends())
		}
	}
}

// Bodies over the limit: a kept request can't be replayed, an answer is cut and
// digested to its end.
func TestLimitsOfBodies(t *testing.T) {
	v := newConv()
	v.hello()
	v.post(1)
	v.data(true, 1, true, strings.Repeat("b", 5000))
	v.ok(1, "")
	v.get(3)
	v.ok(3, strings.Repeat("b", 5000))
	v.post(5)
	v.data(true, 5, true, strings.Repeat("b", 4096))
	v.ok(5, strings.Repeat("b", 4096))
	res := room{live: true, want: exchange.WantWhole, maxBody: 4096}.run(t, v.whole())
	if res.ends() != "too_large body" || len(res.got) != 2 {
		t.Fatalf("%q, %s", res.words, res.ends())
	}
	if b := res.got[0].Response.Body; !b.Truncated || len(b.Bytes) != 4096 || b.Size != 5000 {
		t.Errorf("%d bytes of %d, truncated %v", len(b.Bytes), b.Size, b.Truncated)
	}
	if x := res.got[1]; x.Request.Body.Truncated || x.Response.Body.Truncated || len(x.Request.Wire) != 4096 {
		t.Errorf("%+v", x)
	}
	if res := (room{live: true, want: exchange.WantList, maxBody: 4096}).run(t, v.whole()); res.ends() != "" || len(res.got) != 3 {
		t.Errorf("listed only: %q, %s", res.words, res.ends())
	}
}

// An exchange that is open when the capture ends, or the memory is needed, is
// counted so.
func TestOpenAtTheEnd(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	v.headers(true, 3, false, ":method: CONNECT", ":authority: a:1")
	v.headers(false, 3, false, ":status: 200")
	for why, want := range map[reassembly.Close]string{reassembly.CloseStopped: "stopped", reassembly.CloseEvicted: "evicted", reassembly.CloseIdle: "no_response"} {
		if res := (room{live: true, close: why}).run(t, v.whole()); res.ends() != want || res.n != 1 {
			t.Errorf("%d: %s", why, res.ends())
		}
	}
}

// A stop waits for what began before it, and for nothing else.
func TestRefuse(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	v.get(3)
	before := len(v.whole()) - 2 // the last two acknowledge alone
	v.get(5)
	v.ok(1, "")
	v.get(7)
	v.ok(7, "")
	var got [2]uint64
	res := room{live: true, want: exchange.WantList, refuse: before, gauges: &got}.run(t, v.whole())
	if got != [2]uint64{2, 1} || res.n != 2 {
		t.Errorf("in flight and late %v, %q", got, res.words)
	}
	// Nor for an answer that only the client's preface can prove.
	v = newConv()
	v.raw(true, asksH2)
	v.raw(false, switched)
	v.settings(false)
	v.ok(1, "first")
	room{live: true, gauges: &got}.run(t, v.whole())
	if got != [2]uint64{1, 1} {
		t.Errorf("not proven: in flight and late %v", got)
	}
	// What was late in HTTP/1 is so behind the upgrade, and nothing else.
	v = newConv()
	v.raw(true, "GET /one HTTP/1.1\r\nHost: h\r\n\r\n")
	v.raw(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	at := len(v.whole()) - 2
	v.raw(true, asksH2)
	v.raw(false, switched)
	v.settings(false)
	for refuse, want := range map[int][2]uint64{0: {1, 0}, at: {1, 1}, at + 1: {1, 0}} {
		room{live: true, refuse: refuse, gauges: &got}.run(t, v.whole())
		if got != want {
			t.Errorf("upgraded, refused before segment %d: in flight and late %v, want %v", refuse, got, want)
		}
	}
	// Nor for a stream of events: it need not end.
	v = newConv()
	v.hello()
	for id := uint32(1); id < 7; id += 2 {
		v.get(id)
	}
	v.headers(false, 1, false, ":status: 200", "content-type: text/event-stream")
	v.headers(false, 3, false, ":status: 200", "content-type: text/plain")
	v.headers(false, 5, false, ":status: 404", "content-type: text/event-stream")
	room{live: true, gauges: &got}.run(t, v.whole())
	if got != [2]uint64{3, 1} {
		t.Errorf("streams of events: in flight and late %v", got)
	}
}

func TestConfig(t *testing.T) {
	col, b := &collector{}, &reassembly.Budget{}
	for field, cfg := range map[string]http2.Config{
		"Keeper":  {Sink: col, Budget: b},
		"Sink":    {Keeper: col, Budget: b},
		"Budget":  {Keeper: col, Sink: col},
		"MaxBody": {Keeper: col, Sink: col, Budget: b, MaxBody: -1},
	} {
		if _, err := http2.New(cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestFrames(t *testing.T) {
	ping, window := "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", "\x00\x00\x04\x08\x00\x00\x00\x00\x03\x00\x00\x00\x01"
	for _, tt := range []struct {
		b    string
		want bool
	}{
		{ping + window, true}, {window + ping, true}, {ping, true}, {ping[:16], false}, {ping + "x", false}, {ping + window[:8], false}, {ping[1:] + window, false},
		{ping + "x" + window, false}, {strings.Repeat("\x00", 100), false}, {"GET / HTTP/1.1\r\n\r\n", false}, {"", false},
		{"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82" + ping, true}, {"\x00\x00\x01\x01\x05\x00\x00\x00\x00\x82" + ping, false},
		{"\x00\x00\x01\x00\x01\x80\x00\x00\x01x" + ping, false}, {"\x00\x00\x01\x00\x41\x00\x00\x00\x01x" + ping, false},
	} {
		if got := http2.Frames([]byte(tt.b)); got != tt.want {
			t.Errorf("%q: %v", tt.b, got)
		}
	}
}

// What is kept is all that a replay needs, and what the keeper is asked about is
// the whole head.
func TestKept(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	v.ok(1, "")
	v.headers(true, 3, false, ":method: POST", ":path: /k?q=1", ":authority: host:80", ":scheme: https", "cookie: a=1", "x-two: 1", "cookie: b=2", "x-two: 2", "content-length: 6")
	v.data(true, 3, false, "abc")
	v.data(true, 3, false, "def")
	v.headers(true, 3, true, "x-sum: 9")
	v.headers(false, 3, false, ":status: 201", "set-cookie: s=1", "etag: e")
	v.data(false, 3, true, "answer")
	segs := v.whole()
	res := room{live: true, want: exchange.WantWhole}.run(t, segs)
	x := res.got[1]
	q, a := x.Request, x.Response
	if got := fmt.Sprintf("%s %s %s %s %s %v %v %s %s %v", q.Method, q.Target, q.Proto, q.Host, q.Scheme, q.Header, q.Trailer, q.Body.Bytes, q.Wire, q.Framing); got !=
		"POST /k?q=1 HTTP/2 host:80 https [{cookie a=1} {x-two 1} {cookie b=2} {x-two 2} {content-length 6}] [{x-sum 9}] abcdef abcdef h2" {
		t.Errorf("%s", got)
	}
	if got := fmt.Sprintf("%d %s %v %v %s %v", a.Status, a.Proto, a.Header, a.Trailer, a.Body.Bytes, a.Framing); got != "201 HTTP/2 [{set-cookie s=1} {etag e}] [] answer h2" {
		t.Errorf("%s", got)
	}
	if q.Head != nil || q.FirstByte == 0 || q.LastByte <= q.FirstByte || a.FirstByte <= q.LastByte || a.LastByte <= a.FirstByte || !x.Reused || res.got[0].Reused {
		t.Errorf("%+v %+v", q, a)
	}
	if res.heads[1] != "3 POST /k?q=1 false host=host:80 cookie=a=1 x-two=1 cookie=b=2 x-two=2 content-length=6" {
		t.Errorf("the keeper saw %q", res.heads[1])
	}
	if x.ID != exchange.NewID(x.Flow, x.ISN, 3) || x.Offset == 0 || x.Stream != 3 {
		t.Errorf("%+v", x)
	}
	list := room{live: true, want: exchange.WantList}.run(t, segs).got[1]
	if sumOf(&list.Request.Body) != sumOf(&q.Body) || list.Request.Body.Bytes != nil || list.Request.Header != nil || sumOf(&list.Response.Body) != sumOf(&a.Body) || list.Response.Header != nil {
		t.Errorf("listed: %+v %+v", list.Request, list.Response)
	}
}
