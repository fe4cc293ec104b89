package http2_test

import (
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// ok answers a stream.
func (v *conv) ok(id uint32, body string, more ...string) {
	v.headers(false, id, body == "", append([]string{":status: 200"}, more...)...)
	if body != "" {
		v.data(false, id, true, body)
	}
}

const grpcType = "content-type: application/grpc+proto"

// grpcMessage frames a gRPC message.
func grpcMessage(b string) string {
	n := len(b)
	return string([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + b
}

func TestConversations(t *testing.T) {
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		got   string
		ends  string
	}{
		{"plain", func(v *conv) { v.hello(); v.get(1); v.ok(1, "body") }, "1 GET /a 200 0 4", ""},
		{"no bodies", func(v *conv) { v.hello(); v.get(1); v.ok(1, "") }, "1 GET /a 200 0 0", ""},
		{"a request with a body", func(v *conv) {
			v.hello()
			v.post(1)
			v.data(true, 1, false, "abc")
			v.data(true, 1, true, "def")
			v.ok(1, "x")
		}, "1 POST /p 200 6 1", ""},
		{"END_STREAM in an empty frame", func(v *conv) {
			v.hello()
			v.post(1)
			v.data(true, 1, false, "abc")
			v.data(true, 1, true, "")
			v.headers(false, 1, false, ":status: 200")
			v.data(false, 1, true, "")
		}, "1 POST /p 200 3 0", ""},
		{"interleaved, answered in another order", func(v *conv) {
			v.hello()
			v.post(1)
			v.get(3)
			v.data(true, 1, false, "abc")
			v.headers(false, 3, false, ":status: 404")
			v.data(true, 1, true, "d")
			v.headers(false, 1, false, ":status: 201")
			v.data(false, 3, false, "33")
			v.data(false, 1, true, "1")
			v.data(false, 3, true, "3")
		}, "1 POST /p 201 4 1; 3 GET /a 404 0 3", ""},
		{"padding and priority", func(v *conv) {
			v.hello()
			p := v.side[0]
			must(p.fr.WriteHeaders(xhttp2.HeadersFrameParam{
				StreamID: 1, BlockFragment: p.encode(":method: POST", ":scheme: http", ":path: /p", ":authority: h"), EndHeaders: true, PadLength: 7,
				Priority: xhttp2.PriorityParam{StreamDep: 0, Weight: 3},
			}))
			must(p.fr.WritePriority(3, xhttp2.PriorityParam{StreamDep: 1}))
			must(p.fr.WriteDataPadded(1, true, []byte("abc"), make([]byte, 255)))
			v.send(true)
			must(v.side[1].fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: v.side[1].encode(":status: 200"), EndHeaders: true, PadLength: 1}))
			must(v.side[1].fr.WriteDataPadded(1, true, nil, []byte{0, 0, 0}))
			v.send(false)
		}, "1 POST /p 200 3 0", ""},
		{"CONTINUATION", func(v *conv) {
			v.hello()
			p := v.side[0]
			b := p.encode(":method: GET", ":scheme: http", ":path: /c", ":authority: h", "x-long: "+strings.Repeat("z", 300))
			must(p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:1], EndStream: true, PadLength: 3}))
			must(p.fr.WriteContinuation(1, false, b[1:50]))
			must(p.fr.WriteContinuation(1, false, nil))
			must(p.fr.WriteContinuation(1, true, b[50:]))
			v.send(true)
			v.ok(1, "")
			v.get(3)
			v.ok(3, "")
		}, "1 GET /c 200 0 0; 3 GET /a 200 0 0", ""},
		{"trailers on both sides", func(v *conv) {
			v.hello()
			v.post(1)
			v.data(true, 1, false, "abc")
			v.headers(true, 1, true, "x-sum: 1")
			v.headers(false, 1, false, ":status: 200")
			v.data(false, 1, false, "d")
			v.headers(false, 1, true, "x-sum: 2")
		}, "1 POST /p 200 3 1", ""},
		{"interim answers", func(v *conv) {
			v.hello()
			v.post(1)
			v.headers(false, 1, false, ":status: 100")
			v.data(true, 1, true, "abc")
			v.headers(false, 1, false, ":status: 103", "link: </x>")
			v.ok(1, "")
		}, "1 POST /p 200 3 0 +100 +103", ""},
		{"HEAD, 204 and 304 with a length", func(v *conv) {
			v.hello()
			v.headers(true, 1, true, ":method: HEAD", ":scheme: http", ":path: /h", ":authority: h")
			v.headers(false, 1, true, ":status: 200", "content-length: 99")
			v.get(3)
			v.headers(false, 3, true, ":status: 304", "content-length: 99")
			v.get(5)
			v.headers(false, 5, false, ":status: 204")
			v.data(false, 5, true, "")
		}, "1 HEAD /h 200 0 0; 3 GET /a 304 0 0; 5 GET /a 204 0 0", ""},
		{"content where none may be", func(v *conv) {
			v.hello()
			v.headers(true, 1, true, ":method: HEAD", ":scheme: http", ":path: /h", ":authority: h")
			v.ok(1, "body")
			v.get(3)
			v.headers(false, 3, false, ":status: 304", "content-length: 4")
			v.data(false, 3, true, "body")
		}, "1 HEAD /h 200 0 4 ?malformed; 3 GET /a 304 0 4 ?malformed", ""},
		{"push", func(v *conv) {
			v.hello()
			v.get(1)
			p := v.side[1]
			must(p.fr.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.encode(":method: GET", ":scheme: http", ":path: /pushed", ":authority: h"), EndHeaders: true, PadLength: 5}))
			v.send(false)
			v.ok(1, "one")
			v.ok(2, "two!")
		}, "1 GET /a 200 0 3; 2 GET /pushed 200 0 4 ?pushed", ""},
		{"unknown frames and flags", func(v *conv) {
			v.hello()
			v.frame(true, 0xee, 0xff, 0, "anything")
			v.frame(false, 0xee, 0, 7, "")
			v.get(1)
			v.frame(false, 6, 1, 0, "12345678")
			v.frame(true, 8, 0, 0, "\x00\x00\x10\x00")
			v.ok(1, "x")
		}, "1 GET /a 200 0 1", ""},
		{"a server that speaks first", func(v *conv) {
			must(v.side[1].fr.WriteSettings())
			v.send(false)
			v.raw(true, preface)
			must(v.side[0].fr.WriteSettings())
			must(v.side[0].fr.WriteSettingsAck())
			v.send(true)
			v.get(1)
			v.ok(1, "x")
		}, "1 GET /a 200 0 1", ""},
		{"a server that speaks in the middle of the preface", func(v *conv) {
			v.raw(true, preface[:9])
			must(v.side[1].fr.WriteSettings())
			v.send(false)
			v.raw(true, preface[9:])
			must(v.side[0].fr.WriteSettings())
			v.send(true)
			v.get(1)
			v.ok(1, "x")
		}, "1 GET /a 200 0 1", ""},
		{"a larger frame than usual, that SETTINGS allow", func(v *conv) {
			v.hello(xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 70000})
			v.get(1)
			v.ok(1, strings.Repeat("b", 70000))
		}, "1 GET /a 200 0 70000", ""},
		{"a larger frame than SETTINGS allow", func(v *conv) {
			v.hello()
			v.get(1)
			v.ok(1, strings.Repeat("b", 20000))
			v.get(3)
		}, "", "unparsable http2"},

		{"RST_STREAM by the client", func(v *conv) {
			v.hello()
			v.get(1)
			must(v.side[0].fr.WriteRSTStream(1, xhttp2.ErrCodeCancel))
			v.send(true)
			v.get(3)
			v.ok(3, "")
		}, "3 GET /a 200 0 0", "no_response reset"},
		{"RST_STREAM by the server", func(v *conv) {
			v.hello()
			v.get(1)
			v.headers(false, 1, false, ":status: 200")
			must(v.side[1].fr.WriteRSTStream(1, xhttp2.ErrCodeInternal))
			v.send(false)
			v.get(3)
			v.ok(3, "")
		}, "3 GET /a 200 0 0", "no_response reset"},
		{"RST_STREAM behind the answer, the request is not over", func(v *conv) {
			v.hello()
			v.post(1)
			v.ok(1, "done")
			must(v.side[1].fr.WriteRSTStream(1, xhttp2.ErrCodeNo))
			v.send(false)
		}, "", "unparsable refused"},
		{"RST_STREAM behind the answer, the request's end was on its way", func(v *conv) {
			v.hello()
			v.post(1)
			v.ok(1, "done")
			must(v.side[1].fr.WriteRSTStream(1, xhttp2.ErrCodeNo))
			v.send(false)
			v.data(true, 1, true, "end")
		}, "1 POST /p 200 3 4 !true:0", ""},
		{"a cancel that came too late", func(v *conv) {
			v.hello()
			v.get(1)
			v.headers(false, 1, false, ":status: 200")
			must(v.side[0].fr.WriteRSTStream(1, xhttp2.ErrCodeCancel))
			v.send(true)
			v.data(false, 1, true, "all")
		}, "1 GET /a 200 0 3 !false:8", ""},
		{"GOAWAY", func(v *conv) {
			v.hello()
			v.get(1)
			v.get(3)
			must(v.side[1].fr.WriteGoAway(1, xhttp2.ErrCodeNo, []byte("bye")))
			v.send(false)
			v.ok(1, "")
		}, "1 GET /a 200 0 0", "no_response goaway"},
		{"no answer", func(v *conv) { v.hello(); v.get(1); v.post(3) }, "", "no_response, no_response cut"},
		{"half an answer", func(v *conv) { v.hello(); v.get(1); v.headers(false, 1, false, ":status: 200") }, "", "no_response cut"},
		{"frames for a stream that was reset", func(v *conv) {
			v.hello()
			v.post(1)
			must(v.side[1].fr.WriteRSTStream(1, xhttp2.ErrCodeCancel))
			v.send(false)
			v.data(true, 1, false, "late")
			v.headers(true, 1, true, "x-new-entry: 1")
			v.get(3, "x-new-entry: 1")
			v.ok(3, "")
		}, "3 GET /a 200 0 0", "no_response reset"},

		{"CONNECT opens a tunnel", func(v *conv) {
			v.hello()
			v.headers(true, 1, false, ":method: CONNECT", ":authority: a:1")
			v.headers(false, 1, false, ":status: 200")
			v.data(true, 1, false, "GET / HTTP/1.1\r\n\r\n")
			v.data(false, 1, true, "bytes")
			v.data(true, 1, true, "more")
			v.get(3)
			v.ok(3, "")
		}, "1 CONNECT a:1 200 0 0 ?connect; 3 GET /a 200 0 0", ""},
		{"CONNECT is refused", func(v *conv) {
			v.hello()
			v.headers(true, 1, false, ":method: CONNECT", ":authority: a:1")
			v.ok(1, "no", "content-length: 2")
			must(v.side[0].fr.WriteRSTStream(1, xhttp2.ErrCodeCancel))
			v.send(true)
		}, "1 CONNECT a:1 200 0 0 ?connect", ""},
		{"extended CONNECT", func(v *conv) {
			v.hello()
			v.headers(true, 1, false, ":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: /ws", ":authority: h")
			v.headers(false, 1, false, ":status: 200")
			v.data(false, 1, false, "\x81\x00")
			v.headers(true, 3, false, ":method: CONNECT", ":protocol: other", ":scheme: http", ":path: /o", ":authority: h")
			v.ok(3, "")
		}, "1 CONNECT /ws 200 0 0 ?websocket; 3 CONNECT /o 200 0 0 ?connect", ""},
		{"streams of events", func(v *conv) {
			v.hello()
			v.get(1)
			v.ok(1, "data: 1\n\n", "content-type: text/event-stream;charset=utf-8")
			v.get(3)
			v.ok(3, "no", "content-type: text/event-streams")
			for id := uint32(5); id < 9; id += 2 {
				v.get(id)
				v.headers(false, id, false, ":status: 200", "content-type: text/event-stream")
				v.data(false, id, false, "data: 1\n\n")
			}
			must(v.side[0].fr.WriteRSTStream(5, xhttp2.ErrCodeCancel))
			v.send(true)
		}, "1 GET /a 200 0 9 ?event_stream; 3 GET /a 200 0 2", "no_response event_stream x2"},
		{"behind a PROXY header", func(v *conv) {
			v.raw(true, "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")
			v.hello()
			v.get(1)
			v.ok(1, "x")
		}, "1 GET /a 200 0 1", ""},
		{"a server that speaks first, behind a PROXY header", func(v *conv) {
			v.raw(true, "PROXY UNKNOWN\r\n")
			must(v.side[1].fr.WriteSettings())
			v.send(false)
			v.raw(true, preface)
			must(v.side[0].fr.WriteSettings())
			v.send(true)
			v.get(1)
			v.ok(1, "x")
		}, "1 GET /a 200 0 1", ""},
		{"a server that speaks behind what may begin a PROXY header", func(v *conv) {
			v.raw(true, preface[:2])
			must(v.side[1].fr.WriteSettings())
			v.send(false)
			v.raw(true, preface[2:])
			must(v.side[0].fr.WriteSettings())
			v.send(true)
			v.get(1)
			v.ok(1, "x")
		}, "1 GET /a 200 0 1", ""},

		{"another protocol behind the server's first byte", func(v *conv) {
			v.raw(false, "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
			v.raw(true, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		}, "", "unparsable protocol"},
		{"a preface behind an answer of HTTP/1", func(v *conv) {
			v.raw(false, "HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n")
			v.hello()
			v.get(1)
			v.ok(1, "")
		}, "", "no_request, unparsable http2"},
		{"no SETTINGS first", func(v *conv) { v.raw(true, preface); v.get(1); v.ok(1, "") }, "", "unparsable http2"},
		{"an answer nobody asked for", func(v *conv) { v.hello(); v.ok(5, "") }, "", "no_request"},
		{"a frame inside a header block", func(v *conv) {
			v.hello()
			p := v.side[0]
			b := p.encode(":method: GET", ":scheme: http", ":path: /c")
			must(p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b, EndStream: true}))
			must(p.fr.WritePing(false, [8]byte{}))
			v.send(true)
			v.get(3)
		}, "", "unparsable http2"},
		{"CONTINUATION without a block", func(v *conv) { v.hello(); v.frame(true, 9, 4, 1, "x") }, "", "unparsable http2"},
		{"more padding than payload", func(v *conv) { v.hello(); v.get(1); v.frame(false, 0, 8, 1, "\x09x") }, "", "unparsable http2"},
		{"the client opens an even stream", func(v *conv) { v.hello(); v.get(2) }, "", "unparsable http2"},
		{"the client promises", func(v *conv) { v.hello(); v.frame(true, 5, 4, 1, "\x00\x00\x00\x02\x82") }, "", "unparsable http2"},
		{"SETTINGS of an odd length", func(v *conv) { v.hello(); v.frame(true, 4, 0, 0, "12345") }, "", "unparsable http2"},
		{"an index that is none", func(v *conv) { v.hello(); v.get(1); v.frame(true, 1, 5, 3, "\xff\x30") }, "", "unparsable hpack"},
		{"a header block that is cut", func(v *conv) { v.hello(); v.get(1); v.frame(true, 1, 5, 3, "\x40\x05ab") }, "", "unparsable hpack"},
		{"DATA behind END_STREAM", func(v *conv) { v.hello(); v.get(1); v.data(true, 1, false, "x"); v.ok(1, "") }, "", "unparsable malformed"},
		{"DATA before the head", func(v *conv) { v.hello(); v.get(1); v.data(false, 1, false, "x") }, "", "unparsable malformed"},
		{"101", func(v *conv) { v.hello(); v.get(1); v.headers(false, 1, false, ":status: 101"); v.ok(1, "") }, "", "unparsable malformed"},
		{"trailers that do not end", func(v *conv) {
			v.hello()
			v.post(1)
			v.headers(true, 1, false, "x: 1")
			v.data(true, 1, true, "")
			v.ok(1, "")
		}, "", "unparsable malformed"},
		{"trailers behind END_STREAM", func(v *conv) {
			v.hello()
			v.get(1)
			v.headers(true, 1, true, "x: 1")
			v.ok(1, "")
		}, "", "unparsable malformed"},
		{"a head behind the head", func(v *conv) {
			v.hello()
			v.get(1)
			v.headers(false, 1, false, ":status: 200")
			v.headers(false, 1, false, ":status: 200")
		}, "", "unparsable malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			tt.write(v)
			for _, cut := range []int{1 << 30, 1, 8} {
				for _, live := range []bool{true, false} {
					for _, w := range []exchange.Want{exchange.WantFrame, exchange.WantList, exchange.WantWhole} {
						res := room{live: live, want: w}.run(t, v.segments([2]uint32{^uint32(20), 5000}, func() int { return cut }))
						got := strings.Join(res.words, "; ")
						if w == exchange.WantFrame {
							if n := len(strings.Split(tt.got, ";")); tt.got != "" && res.n != n {
								t.Errorf("cut %d live %v: %d framed, want %d", cut, live, res.n, n)
							}
						} else if got != tt.got {
							t.Errorf("cut %d live %v want %d: exchanges %q, want %q", cut, live, w, got, tt.got)
						}
						if e := res.ends(); e != tt.ends {
							t.Errorf("cut %d live %v want %d: ends %q, want %q", cut, live, w, e, tt.ends)
						}
					}
				}
			}
		})
	}
}

// What breaks a rule of RFC 9113 section 8 is not for replay, or is no exchange.
func TestMalformed(t *testing.T) {
	base := []string{":method: GET", ":scheme: http", ":path: /a", ":authority: h"}
	with := func(more ...string) []string { return append(append([]string{}, base...), more...) }
	for _, tt := range []struct {
		name    string
		request []string
		want    exchange.Doubt
		ends    string
	}{
		{"none", base, exchange.DoubtNone, ""},
		{"te: trailers", with("te: trailers"), exchange.DoubtNone, ""},
		{"host like :authority", with("host: h"), exchange.DoubtNone, ""},
		{"host alone", []string{":method: GET", ":scheme: http", ":path: /a", "host: h"}, exchange.DoubtNone, ""},
		{"cookie crumbs", with("cookie: a=1", "cookie: b=2"), exchange.DoubtNone, ""},
		{"upper case", with("X-A: 1"), exchange.DoubtMalformed, ""},
		{"a space in a name", with("x a: 1"), exchange.DoubtMalformed, ""},
		{"a line end in a value", with("x: a\r\nb"), exchange.DoubtMalformed, ""},
		{"white space around a value", with("x: a "), exchange.DoubtMalformed, ""},
		{"connection", with("connection: close"), exchange.DoubtMalformed, ""},
		{"transfer-encoding", with("transfer-encoding: chunked"), exchange.DoubtMalformed, ""},
		{"upgrade", with("upgrade: x"), exchange.DoubtMalformed, ""},
		{"te: gzip", with("te: gzip"), exchange.DoubtMalformed, ""},
		{"pseudo behind regular", []string{":method: GET", ":scheme: http", "x: 1", ":path: /a", ":authority: h"}, exchange.DoubtMalformed, ""},
		{"unknown pseudo", with(":new: 1"), exchange.DoubtMalformed, ""},
		{":protocol without CONNECT", with(":protocol: websocket"), exchange.DoubtMalformed, ""},
		{"a user in :authority", []string{":method: GET", ":scheme: http", ":path: /a", ":authority: u@h"}, exchange.DoubtMalformed, ""},
		{"a length that is not the body's", with("content-length: 3"), exchange.DoubtMalformed, ""},
		{"two lengths", with("content-length: 0", "content-length: 1"), exchange.DoubtMalformed, ""},
		{"host unlike :authority", with("host: i"), exchange.DoubtHost, ""},
		{"two hosts", with("host: h", "host: h"), exchange.DoubtHost, ""},
		{"no host", []string{":method: GET", ":scheme: http", ":path: /a"}, exchange.DoubtHost, ""},
		{"no path form", []string{":method: GET", ":scheme: http", ":path: a", ":authority: h"}, exchange.DoubtTarget, ""},
		{"another scheme", []string{":method: GET", ":scheme: ftp", ":path: /a", ":authority: h"}, exchange.DoubtTarget, ""},
		{"no path", []string{":method: GET", ":scheme: http", ":authority: h"}, 0, "unparsable malformed"},
		{"an empty path", []string{":method: GET", ":scheme: http", ":path: ", ":authority: h"}, 0, "unparsable malformed"},
		{"no method", []string{":scheme: http", ":path: /a", ":authority: h"}, 0, "unparsable malformed"},
		{"two methods", with(":method: GET"), 0, "unparsable malformed"},
		{"a status", with(":status: 200"), 0, "unparsable malformed"},
		{"CONNECT with a path", []string{":method: CONNECT", ":path: /a", ":authority: h"}, 0, "unparsable malformed"},
		{"no fields", nil, 0, "unparsable malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			v.hello()
			v.headers(true, 1, true, tt.request...)
			v.ok(1, "")
			v.get(3)
			v.ok(3, "")
			res := room{live: true, want: exchange.WantWhole}.run(t, v.whole())
			if e := res.ends(); e != tt.ends {
				t.Fatalf("ends %q, want %q", e, tt.ends)
			}
			n := 2
			if tt.ends != "" {
				n = 1
			} else if x := res.got[0]; x.Doubt != tt.want {
				t.Errorf("doubt %q, want %q", x.Doubt, tt.want)
			}
			if len(res.got) != n || res.got[n-1].Doubt != exchange.DoubtNone {
				t.Errorf("%q", res.words)
			}
		})
	}
	for _, tt := range []struct {
		name   string
		answer []string
		want   exchange.Doubt
		ends   string
	}{
		{"upper case", []string{":status: 200", "X-A: 1"}, exchange.DoubtMalformed, ""},
		{"a length that is not the body's", []string{":status: 200", "content-length: 3"}, exchange.DoubtMalformed, ""},
		{"pseudo behind regular", []string{"x: 1", ":status: 200"}, exchange.DoubtMalformed, ""},
		{"no status", []string{"x: 1"}, 0, "unparsable malformed"},
		{"no number", []string{":status: 2x0"}, 0, "unparsable malformed"},
		{"101", []string{":status: 101"}, 0, "unparsable malformed"},
		{"an interim answer that ends", []string{":status: 103"}, 0, "unparsable malformed"},
		{"a method", []string{":status: 200", ":method: GET"}, 0, "unparsable malformed"},
	} {
		t.Run("answer, "+tt.name, func(t *testing.T) {
			v := newConv()
			v.hello()
			v.get(1)
			v.headers(false, 1, true, tt.answer...)
			res := room{live: true, want: exchange.WantWhole}.run(t, v.whole())
			if e := res.ends(); e != tt.ends || tt.ends == "" && res.got[0].Doubt != tt.want {
				t.Fatalf("ends %q, want %q; %q", e, tt.ends, res.words)
			}
		})
	}
}
