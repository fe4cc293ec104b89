package http1_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// withFields gives a message's head n fields in all.
func withFields(msg string, n int) string {
	at := strings.Index(msg, "\r\n\r\n") + 2
	return msg[:at] + strings.Repeat("X: y\r\n", n+1-strings.Count(msg[:at], "\r\n")) + msg[at:]
}

// dialog makes segments of messages: ">" from the client, "<" from the server.
// "<FIN", ">FIN" and "<RST" end. Each message is one segment.
func dialog(lines ...string) []seg {
	seq := [2]uint32{1000, 5000}
	out := []seg{{ToServer: true, Seq: 999, Flags: reassembly.SYN}, {Seq: 4999, Ack: 1000, Flags: reassembly.SYN | reassembly.ACK}}
	for _, l := range lines {
		client := l[0] == '>'
		i := 1
		if client {
			i = 0
		}
		s := seg{ToServer: client, Seq: seq[i], Ack: seq[1-i], Flags: reassembly.ACK}
		switch l[1:] {
		case "FIN":
			s.Flags |= reassembly.FIN
			seq[i]++
		case "RST":
			s.Flags |= reassembly.RST
		default:
			s.Payload = []byte(l[1:])
			seq[i] += uint32(len(s.Payload))
		}
		out = append(out, s)
	}
	return out
}

const (
	get  = ">GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
	ok2  = "<HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	long = 70_000
)

// ends gives what the counters say, "complete" aside: "gap", "unparsable tls".
func ends(st *exchange.Stats) string {
	var out []string
	for r, reasons := range st.Exchanges {
		for why, n := range reasons {
			if r != int(exchange.ResultComplete) && n > 0 {
				out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s", exchange.Result(r), exchange.Reason(why))))
			}
		}
	}
	return strings.Join(out, ", ")
}

func TestDialogs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		// got is a word for each exchange: method target status request-length
		// response-length, and interim answers behind a +.
		got  string
		ends string
	}{
		{"plain", []string{get, ok2}, "GET /a 200 0 2", ""},
		{"keep-alive", []string{get, ok2, get, "<HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"}, "GET /a 200 0 2; GET /a 404 0 0", ""},
		{"no reason phrase", []string{get, "<HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx"}, "GET /a 200 0 1", ""},
		{"bare line feeds", []string{">GET /a HTTP/1.1\nHost: h\n\n", "<HTTP/1.1 200 OK\nContent-Length: 1\n\nx"}, "GET /a 200 0 1", ""},
		{"empty lines before a request", []string{">\r\n\r\n" + get[1:], ok2}, "GET /a 200 0 2", ""},
		{"pipelined", []string{get + get[1:], ok2 + ok2[1:]}, "GET /a 200 0 2; GET /a 200 0 2", ""},
		{"HEAD has no body", []string{">HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", "<HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", get, ok2}, "HEAD /a 200 0 0; GET /a 200 0 2", ""},
		{"204 and 304 have none", []string{get, "<HTTP/1.1 204 No\r\n\r\n", get, "<HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n"}, "GET /a 204 0 0; GET /a 304 0 0", ""},
		{"1xx, any number", []string{get, "<HTTP/1.1 103 E\r\n\r\n", "<HTTP/1.1 102 P\r\n\r\n" + ok2[1:]}, "GET /a 200 0 2 +103 +102", ""},
		{"100-continue", []string{">POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", "<HTTP/1.1 100 C\r\n\r\n", ">abc", ok2}, "POST /a 200 3 2 +100", ""},
		{"answered before the body that waited", []string{">POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", "<HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", get, ok2}, "", "no_request, unparsable refused"},
		{"close-delimited ends with FIN", []string{get, "<HTTP/1.1 200 OK\r\n\r\nall of it", "<FIN"}, "GET /a 200 0 9", ""},
		{"close-delimited is cut by RST", []string{get, "<HTTP/1.1 200 OK\r\n\r\nall of it", "<RST"}, "", "no_response cut"},
		{"length is cut by FIN", []string{get, "<HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nnot all", "<FIN", ">FIN"}, "", "no_response cut"},
		{"chunked, extensions, trailers", []string{get, "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00003 ;a=\"x;y\"\r\nabc\r\n0;z\r\nX: GET / HTTP/1.1\r\n\r\n", get, ok2}, "GET /a 200 0 3; GET /a 200 0 2", ""},
		{"chunk size that is none", []string{get, "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"}, "", "unparsable syntax"},
		{"chunk size over 2^56", []string{get, "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"}, "", "unparsable syntax"},
		{"answer without a request", []string{"<HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n"}, "", "no_request"},
		{"answer sent before the request came", []string{"<HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n", get}, "", "no_request, no_response"},
		{"no answer", []string{get, ">FIN", "<FIN"}, "", "no_response"},
		{"CONNECT opens a tunnel", []string{">CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "<HTTP/1.1 200 OK\r\n\r\n", get, ok2}, "CONNECT a:1 200 0 0", ""},
		{"CONNECT is refused", []string{">CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "<HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", get, ok2}, "CONNECT a:1 403 0 0; GET /a 200 0 2", ""},
		{"websocket", []string{">GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "<HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", get, ok2}, "GET /ws 101 0 0", ""},
		{"upgrade is ignored", []string{">GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", ok2, get, ok2}, "GET /a 200 0 2; GET /a 200 0 2", ""},
		{"h2c by upgrade", []string{">GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "<HTTP/1.1 101 S\r\nUpgrade: h2c\r\n\r\n\x00\x00\x00\x04\x00"}, "", "unparsable http2"},
		{"h2c by prior knowledge", []string{">PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00", "<\x00\x00\x00\x04\x00\x00\x00\x00\x00"}, "", "unparsable http2"},
		{"TLS", []string{">\x16\x03\x01\x02\x00\x01", "<\x16\x03\x03\x00"}, "", "unparsable tls"},
		{"another protocol", []string{"<220 mail ESMTP\r\n", ">EHLO x\r\n"}, "", "unparsable protocol"},
		{"unequal lengths", []string{">POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "<HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"}, "", "unparsable framing"},
		{"a length that is none", []string{get, "<HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc"}, "", "unparsable framing"},
		{"equal lengths twice", []string{get, "<HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\nabc"}, "GET /a 200 0 3", ""},
		{"folded field", []string{get, "<HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"}, "GET /a 200 0 1", ""},
		{"no request line", []string{get, ok2, ">NOT A REQUEST\r\n\r\n"}, "GET /a 200 0 2", "unparsable syntax"},
		{"request head over the limit", []string{">GET /a HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", long)}, "", "too_large head"},
		{"request with as many fields as are read", []string{withFields(get, 1024), withFields(ok2, 1024), get, ok2}, "GET /a 200 0 2; GET /a 200 0 2", ""},
		{"request with a field more", []string{withFields(get, 1025), ok2}, "", "too_large head"},
		{"answer with a field more", []string{get, withFields(ok2, 1025)}, "", "too_large head"},
		{"response head over the limit", []string{get, "<HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", long)}, "", "too_large head"},
		{"stray bytes behind an answer", []string{get, ok2 + "zz", get, ok2}, "GET /a 200 0 2; GET /a 200 0 2", ""},
		{"what looks like a request in a body", []string{">POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 31\r\n\r\n", get, ">xx\r\n", ok2}, "POST /a 200 31 2", ""},
		{"the answer comes before the request ends", []string{">POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc", ok2, ">def", get, ok2}, "POST /a 200 6 2; GET /a 200 0 2", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, live := range []segmenttest.Path{segmenttest.Live, segmenttest.Captured} {
				for _, w := range []exchange.Want{exchange.WantList, exchange.WantWhole} {
					res := run(t, dialog(tt.lines...), live, w)
					var got []string
					for _, x := range res.Exchanges {
						word := fmt.Sprintf("%s %s %d %d %d", x.Request.Method, x.Request.Target, x.Response.Status, x.Request.Body.Size, x.Response.Body.Size)
						for _, s := range x.Response.Interim {
							word += fmt.Sprintf(" +%d", s)
						}
						got = append(got, word)
					}
					if g := strings.Join(got, "; "); g != tt.got {
						t.Errorf("%v, want %d: exchanges %q, want %q", live, w, g, tt.got)
					}
					if e := ends(&res.Parser); e != tt.ends {
						t.Errorf("%v, want %d: ends %q, want %q", live, w, e, tt.ends)
					}
				}
			}
		})
	}
}

// What must not be replayed is said by name, however complete it is.
func TestDoubts(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		want          exchange.Doubt
	}{
		{"none", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", exchange.DoubtNone},
		{"none in 1.0", "GET /a HTTP/1.0\r\n\r\n", exchange.DoubtNone},
		{"both TE and CL", "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", exchange.DoubtTEAndCL},
		{"TE list", "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", exchange.DoubtTE},
		{"TE twice", "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", exchange.DoubtTE},
		{"TE in 1.0", "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", exchange.DoubtTEIn10},
		{"no host", "GET /a HTTP/1.1\r\n\r\n", exchange.DoubtHost},
		{"two hosts", "GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", exchange.DoubtHost},
		{"absolute form", "GET http://evil/ HTTP/1.1\r\nHost: h\r\n\r\n", exchange.DoubtTarget},
		{"a space in the target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", exchange.DoubtTarget},
		{"upgrade", "GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n", exchange.DoubtUpgrade},
		{"folded", "GET /a HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", exchange.DoubtSyntax},
		{"space before the colon", "GET /a HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n", exchange.DoubtSyntax},
		{"bare line feed", "GET /a HTTP/1.1\r\nHost: h\n\r\n", exchange.DoubtSyntax},
		{"bare CR in a value", "GET /a HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", exchange.DoubtSyntax},
		{"NUL in a value", "GET /a HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", exchange.DoubtSyntax},
		{"odd chunk size", "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n", exchange.DoubtChunk},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := run(t, dialog(">"+tt.request, ok2), segmenttest.Live, exchange.WantWhole)
			if len(res.Exchanges) != 1 || res.Exchanges[0].Doubt != tt.want {
				t.Fatalf("%d exchanges, doubt %v, want %v: %+v", len(res.Exchanges), doubts(res.Exchanges), tt.want, res.Parser)
			}
		})
	}
	segs := dialog(get, ok2)
	segs[2].Flags |= reassembly.URG
	if res := run(t, segs, segmenttest.Live, exchange.WantWhole); len(res.Exchanges) != 1 || res.Exchanges[0].Doubt != exchange.DoubtUrgent {
		t.Errorf("urgent data: %v", doubts(res.Exchanges))
	}
	segs = dialog(">POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n", ">abc", ">def", ok2)
	other := segs[4]
	other.Payload = []byte("DEF")
	segs = []seg{segs[0], segs[1], segs[2], segs[4], other, segs[3], segs[5]}
	if res := run(t, segs, segmenttest.Live, exchange.WantWhole); len(res.Exchanges) != 1 || res.Exchanges[0].Doubt != exchange.DoubtOverlap {
		t.Errorf("an overlap with other bytes: %v", doubts(res.Exchanges))
	}
}

func doubts(x []*exchange.Exchange) (d []string) {
	for _, x := range x {
		d = append(d, x.Doubt.String())
	}
	return d
}

// A kept request over the limit can't be replayed; an answer over it is cut and
// digested to its end.
func TestLimitsOfBodies(t *testing.T) {
	big := strings.Repeat("b", 2<<20)
	post := fmt.Sprintf(">POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(big), big)
	res := run(t, dialog(post, ok2, get, fmt.Sprintf("<HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(big), big)), segmenttest.Live, exchange.WantWhole)
	if len(res.Exchanges) != 1 || ends(&res.Parser) != "too_large body" {
		t.Fatalf("%d exchanges, %s", len(res.Exchanges), ends(&res.Parser))
	}
	b := res.Exchanges[0].Response.Body
	if !b.Truncated || len(b.Bytes) != 1<<20 || b.Size != 2<<20 || sumOf(&b) != sha256.Sum256([]byte(big)) {
		t.Errorf("%d bytes of %d, truncated %v, SHA-256 %x", len(b.Bytes), b.Size, b.Truncated, sumOf(&b))
	}
	if res := run(t, dialog(post, ok2), segmenttest.Live, exchange.WantList); len(res.Exchanges) != 1 || res.Exchanges[0].Request.Body.Size != 2<<20 || sumOf(&res.Exchanges[0].Request.Body) != sha256.Sum256([]byte(big)) {
		t.Errorf("listed only: %v", lines(&res))
	}
}

// More pipelined requests than are followed end the connection, counted.
func TestPipelineIsBounded(t *testing.T) {
	res := run(t, dialog(">"+strings.Repeat(get[1:], 1500), ok2), segmenttest.Live, exchange.WantFrame)
	if st := res.Parser; st.Exchanges[exchange.ResultUnparsable][exchange.ReasonPipeline] != 1 {
		t.Errorf("%s", ends(&st))
	}
}
