package http1_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// shape is an ordinary way in which an exchange comes over the network. These
// are the ones on which a message parser for captured traffic was measured, and
// lost, cut or doubled 18 of 29.
type shape struct {
	name string
	segs []seg
	// want has for each exchange the method, target, status, and both bodies.
	want []shapeWant
	ends string
}

type shapeWant struct {
	method, target string
	status         int
	req, resp      string
}

// at begins the dialog's numbers of the client anew, so that its first byte
// has that sequence number.
func at(isn uint32, segs []seg) []seg {
	for i := range segs {
		if segs[i].ToServer {
			segs[i].Seq += isn - 1000
		} else if segs[i].Flags&reassembly.ACK != 0 {
			segs[i].Ack += isn - 1000
		}
	}
	return segs
}

func shapes() []shape {
	const (
		post    = "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n"
		chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		expects = "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n"
		created = "<HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone"
	)
	one := []shapeWant{{"GET", "/a", 200, "", "ok"}}
	two := append(one, shapeWant{"GET", "/b", 200, "", "no"})
	posted := []shapeWant{{"POST", "/p", 201, "abcdef", "done"}}
	getB, okB := strings.Replace(get, "/a", "/b", 1), strings.Replace(ok2, "\r\nok", "\r\nno", 1)
	swap := func(s []seg, i, k int) []seg { s[i], s[k] = s[k], s[i]; return s }
	// again puts a segment at index i that begins back bytes before the one
	// there and has these bytes.
	again := func(s []seg, i int, back uint32, b string) []seg {
		x := s[i]
		x.Seq, x.Payload = x.Seq-back, []byte(b)
		return slices.Insert(s, i, x)
	}
	// twice shows each segment on a second tap too.
	twice := func(s []seg) (out []seg) {
		for _, x := range s {
			y := x
			y.Tap = 1
			out = append(out, x, y)
		}
		return out
	}
	uploading := dialog(get, "<HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc", ">"+post+"abc", "<def", ">def", created)
	return []shape{
		{"GET with Content-Length", dialog(get, ok2), one, ""},
		{"keep-alive twice", dialog(get, ok2, getB, okB), two, ""},
		{"pipelined in two segments", dialog(get, getB, ok2, okB), two, ""},
		{"204", dialog(get, "<HTTP/1.1 204 No Content\r\n\r\n", getB, okB), []shapeWant{{"GET", "/a", 204, "", ""}, two[1]}, ""},
		{"chunked in one segment", dialog(get, "<"+chunked+"2\r\nok\r\n0\r\n\r\n"), one, ""},
		{"chunked in several segments", dialog(get, "<"+chunked, "<1\r\no\r\n", "<1\r\nk\r\n", "<0\r\n\r\n"), one, ""},
		{"POST in two segments", dialog(">"+post, ">abcdef", created), posted, ""},
		{"out of order", swap(dialog(">"+post+"abc", ">def", created), 2, 3), posted, ""},
		{"headers split in two", dialog(get[:20], ">"+get[20:], ok2[:30], "<"+ok2[30:]), one, ""},
		{"100-continue with the standard phrase", dialog(">"+expects, "<HTTP/1.1 100 Continue\r\n\r\n", ">abcdef", created), posted, ""},
		{"two pipelined requests in one segment", dialog(get+getB[1:], ok2, okB), two, ""},
		{"two answers in one segment", dialog(get, getB, ok2+okB[1:]), two, ""},
		{"HEAD answer with Content-Length", dialog(">HEAD /h HTTP/1.1\r\nHost: h\r\n\r\n", "<HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", getB, okB),
			[]shapeWant{{"HEAD", "/h", 200, "", ""}, two[1]}, ""},
		{"304 with Content-Length", dialog(get, "<HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", getB, okB),
			[]shapeWant{{"GET", "/a", 304, "", ""}, two[1]}, ""},
		{"close-delimited, head and body in one segment", dialog(get, "<HTTP/1.0 200 OK\r\n\r\nok", "<FIN", ">FIN"), one, ""},
		{"close-delimited, head and body in two segments", dialog(get, "<HTTP/1.0 200 OK\r\n\r\n", "<ok", "<FIN", ">FIN"), one, ""},
		{"chunk terminator split over two segments", dialog(get, "<"+chunked+"2\r\nok\r\n0\r", "<\n\r\n", getB, okB), two, ""},
		{"chunk data ending in 0 CRLF CRLF at a segment's end", dialog(get, "<"+chunked+"9\r\nabcd0\r\n\r\n", "<\r\n2\r\nok\r\n0\r\n\r\n"),
			[]shapeWant{{"GET", "/a", 200, "", "abcd0\r\n\r\nok"}}, ""},
		{"transfer-encoding: Chunked", dialog(get, "<HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), one, ""},
		{"an upload begins while the answer before it still comes", uploading,
			[]shapeWant{{"GET", "/a", 200, "", "abcdef"}, posted[0]}, ""},
		{"100-continue with another reason phrase", dialog(">"+expects, "<HTTP/1.1 100 Go ahead\r\n\r\n", ">abcdef", created), posted, ""},
		{"103 and 200 in one segment", dialog(get, "<HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\n"+ok2[1:]), one, ""},
		{"the sequence number wraps inside a POST", at(uint32(1<<32-len(post)-3), dialog(">"+post+"abc", ">def", created)), posted, ""},
		{"overlapping retransmission", again(dialog(">"+post, ">abc", ">def", created), 4, 2, "bcd"), posted, ""},
		{"same-start longer retransmission", again(dialog(">"+post, ">ab", ">cdef", created), 4, 2, "abcd"), posted, ""},
		{"request line split over two segments", dialog(">GE", ">T /a HT", ">"+get[len(">GET /a HT"):], ok2), one, ""},
		{"PROPFIND", dialog(">PROPFIND /dav HTTP/1.1\r\nHost: h\r\nDepth: 1\r\nContent-Length: 3\r\n\r\n<a>", "<HTTP/1.1 207 Multi-Status\r\nContent-Length: 4\r\n\r\n<ms>"),
			[]shapeWant{{"PROPFIND", "/dav", 207, "<a>", "<ms>"}}, ""},
		{"the same packets on two interfaces", twice(dialog(get, ok2, ">"+post, ">abcdef", created)), append(one, posted[0]), ""},
		{"HTTP/2 preface", dialog(">PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", "<\x00\x00\x00\x04\x00\x00\x00\x00\x00"), nil, "unparsable http2"},
	}
}

// TestShapes: each shape gives its exchanges and no other, byte for byte, live
// and from a file.
func TestShapes(t *testing.T) {
	all := shapes()
	if len(all) != 29 {
		t.Fatalf("%d shapes", len(all))
	}
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			for _, live := range []segmenttest.Path{segmenttest.Live, segmenttest.Captured} {
				res := run(t, s.segs, live, exchange.WantWhole)
				var got, want []string
				for _, x := range res.Exchanges {
					got = append(got, shapeLine(x.Request.Method, x.Request.Target, x.Response.Status, sumOf(&x.Request.Body), sumOf(&x.Response.Body)))
					if !bytes.Equal(x.Request.Head, headIn(s.segs, x)) {
						t.Errorf("%v: the head is %q", live, x.Request.Head)
					}
				}
				for _, w := range s.want {
					want = append(want, shapeLine(w.method, w.target, w.status, sha256.Sum256([]byte(w.req)), sha256.Sum256([]byte(w.resp))))
				}
				if !slices.Equal(got, want) {
					t.Errorf("%v:\n%s\nwant\n%s", live, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if e := ends(&res.Parser); e != s.ends {
					t.Errorf("%v: ends %q, want %q", live, e, s.ends)
				}
			}
		})
	}
}

func shapeLine(method, target string, status int, req, resp [32]byte) string {
	return fmt.Sprintf("%s %s %d %x %x", method, target, status, req[:8], resp[:8])
}

// headIn cuts the exchange's head out of what the client sent.
func headIn(segs []seg, x *exchange.Exchange) []byte {
	var stream [4096]byte
	first := segs[0].Seq + 1 // behind the SYN
	for _, s := range segs {
		if s.ToServer && len(s.Payload) > 0 {
			copy(stream[s.Seq-first:], s.Payload)
		}
	}
	b := stream[x.Offset:]
	return b[:bytes.Index(b, []byte("\r\n\r\n"))+4]
}
