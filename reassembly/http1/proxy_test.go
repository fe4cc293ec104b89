package http1_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// proxyV2 is a version 2 header with n bytes of addresses and extensions.
func proxyV2(n int) string {
	b := binary.BigEndian.AppendUint16([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11"), uint16(n))
	return string(b) + strings.Repeat("\nGET /x HTTP/1.1\r\n\r\n", n/20+1)[:n]
}

const (
	proxyV1   = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"
	proxyLong = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n" // 107 bytes
)

// A PROXY header is stepped over, however it is cut, and the exchange is the
// one without it; its bytes are parsed bytes.
func TestProxyHeader(t *testing.T) {
	if len(proxyLong) != 107 {
		t.Fatalf("the longest line has %d bytes", len(proxyLong))
	}
	const post = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
	for _, tt := range []struct{ name, header, got, ends string }{
		{"none", "", "POST /a 200", ""},
		{"v1 TCP4", proxyV1, "POST /a 200", ""},
		{"v1 TCP6", "PROXY TCP6 ::1 ::2 1 2\r\n", "POST /a 200", ""},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "POST /a 200", ""},
		{"v1 with the longest line", proxyLong, "POST /a 200", ""},
		{"v1 with a longer line", proxyLong[:105] + "5\r\n", "", "unparsable protocol"},
		{"v1 without its CR", "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n", "", "unparsable protocol"},
		{"v2", proxyV2(12), "POST /a 200", ""},
		{"v2 without addresses", proxyV2(0), "POST /a 200", ""},
		{"v2 with the longest length", proxyV2(65535), "POST /a 200", ""},
		{"v2 with a length over what comes", proxyV2(300)[:16], "", ""},
		{"v2 of another version", "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x00", "", "unparsable protocol"},
		{"empty lines and no v2", "\r\n\r\n", "POST /a 200", ""},
		{"half of v2 and no more", "\r\n\r\n\x00\r\nQU", "", "unparsable protocol"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream := tt.header + post
			cuts := []int{len(stream)}
			for i := 1; i < min(len(tt.header)+20, 160); i++ {
				cuts = append(cuts, i)
			}
			if n := len(tt.header); n > 160 {
				cuts = append(cuts, n-1, n, n+1)
			}
			for _, live := range []segmenttest.Path{segmenttest.Live, segmenttest.Captured} {
				for _, cut := range cuts {
					lines := []string{">" + stream[:cut]}
					if cut < len(stream) {
						lines = append(lines, ">"+stream[cut:])
					}
					checkProxy(t, fmt.Sprintf("cut at %d, %v", cut, live), run(t, dialog(append(lines, ok2)...), live, exchange.WantWhole), stream, tt.got, tt.ends)
				}
			}
			var bytewise []string
			for i := range min(len(stream), 400) {
				bytewise = append(bytewise, ">"+stream[i:i+1])
			}
			if len(stream) > 400 {
				bytewise = append(bytewise, ">"+stream[400:])
			}
			checkProxy(t, "byte by byte", run(t, dialog(append(bytewise, ok2)...), segmenttest.Live, exchange.WantWhole), stream, tt.got, tt.ends)
		})
	}
}

func checkProxy(t *testing.T, name string, res result, stream, got, wantEnds string) {
	t.Helper()
	var word string
	for _, x := range res.Exchanges {
		word = fmt.Sprintf("%s %s %d", x.Request.Method, x.Request.Target, x.Response.Status)
		if string(x.Request.Body.Bytes) != "abc" || x.Flow.Client.Port() == 56324 {
			t.Fatalf("%s: body %q, client %v", name, x.Request.Body.Bytes, x.Flow.Client)
		}
		if want := uint64(strings.LastIndex(stream, "POST")); x.Offset != want && !strings.HasPrefix(stream, "\r\n\r\nP") {
			t.Fatalf("%s: the request is at %d, want %d", name, x.Offset, want)
		}
	}
	e := ends(&res.Parser)
	if wantEnds == "" && got == "" { // the answer belongs to nobody
		e = strings.TrimPrefix(e, "no_request")
	}
	if word != got || e != wantEnds {
		t.Fatalf("%s: %q, ends %q; want %q, %q", name, word, e, got, wantEnds)
	}
}

// A header stands only at the beginning of a connection that is known from
// there; later it is no header, and what it hides is not read.
func TestProxyHeaderOnlyAtTheStart(t *testing.T) {
	for _, tt := range []struct {
		name string
		segs []seg
		got  int
		ends string
	}{
		{"behind an exchange", dialog(get, ok2, ">"+proxyV1+get[1:], ok2), 1, "unparsable syntax"},
		{"twice", dialog(">"+proxyV1+proxyV1+get[1:], ok2), 0, "unparsable syntax"},
		{"joined late", dialog(">"+proxyV1+get[1:], ok2)[2:], 0, "no_request late"},
		{"before TLS", dialog(">" + proxyV1 + "\x16\x03\x01\x02\x00\x01"), 0, "unparsable tls"},
		{"before HTTP/2", dialog(">" + proxyV1 + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0, "unparsable http2"},
		{"a method that begins alike", dialog(">PROPFIND /a HTTP/1.1\r\nHost: h\r\n\r\n", ok2), 1, ""},
		{"a method of that name", dialog(">PROXY /a HTTP/1.1\r\nHost: h\r\n\r\n", ok2), 1, ""},
		{"only the header, as a health check sends", dialog(">"+proxyV1, ">FIN", "<FIN"), 0, ""},
		{"the beginning of a request and no more", dialog(">PRO", ">FIN", "<FIN"), 0, "no_response cut"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := run(t, tt.segs, segmenttest.Live, exchange.WantList)
			if e := ends(&res.Parser); len(res.Exchanges) != tt.got || e != tt.ends {
				t.Errorf("%d exchanges, ends %q, want %d, %q", len(res.Exchanges), e, tt.got, tt.ends)
			}
		})
	}
}

// A hole inside what version 2 announces is stepped over; one elsewhere in a
// header is not.
func TestProxyHeaderWithAHole(t *testing.T) {
	header := proxyV2(3000)
	for _, tt := range []struct {
		name     string
		from, to int
		got      int
	}{
		{"in the addresses", 500, 1500, 1},
		{"over the end", 2500, 3030, 0},
		{"in the signature", 4, 9, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream := header + get[1:]
			segs := dialog(">"+stream[:tt.from], ">"+stream[tt.from:tt.to], ">"+stream[tt.to:], ok2)
			segs = slices.Delete(segs, 3, 4)
			for i := range segs[3:] {
				segs[3+i].Lost = 1
			}
			res := run(t, segs, segmenttest.Live, exchange.WantList)
			if len(res.Exchanges) != tt.got {
				t.Errorf("%d exchanges, want %d: %s", len(res.Exchanges), tt.got, ends(&res.Parser))
			}
		})
	}
}

// What version 2 announces is not kept, so a header costs nothing by its length.
func TestProxyHeaderIsNotBuffered(t *testing.T) {
	stream := proxyV2(65535)
	one := testing.AllocsPerRun(10, func() { run(t, dialog(">"+proxyV2(12), ">FIN"), segmenttest.Live, exchange.WantFrame) })
	many := testing.AllocsPerRun(10, func() {
		run(t, dialog(">"+stream[:30000], ">"+stream[30000:], ">FIN"), segmenttest.Live, exchange.WantFrame)
	})
	if many > one+8 { // the segments of this test
		t.Errorf("%v allocations for 64 KiB, %v for 12 bytes", many, one)
	}
}

// However a header is cut, the same exchanges come, and they are those of a
// reader that has all of it at once.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte(proxyV1), uint16(5))
	f.Add([]byte(proxyLong), uint16(106))
	f.Add([]byte(proxyV2(12)), uint16(14))
	f.Add([]byte(proxyV2(300)), uint16(200))
	f.Add([]byte("\r\n\r\n"), uint16(3))
	f.Add([]byte("PROPFIND"), uint16(3))
	f.Fuzz(func(t *testing.T, header []byte, cut uint16) {
		stream := string(header) + get[1:]
		k := min(int(cut), len(stream))
		if stream[:k] == "FIN" || stream[:k] == "RST" {
			k = 0 // dialog's own words
		}
		read := func(parts ...string) string {
			var lines []string
			for _, p := range parts {
				if p != "" {
					lines = append(lines, ">"+p)
				}
			}
			res := run(t, dialog(append(lines, ok2)...), segmenttest.Live, exchange.WantList)
			return fmt.Sprint(certain(&res))
		}
		one := read(stream)
		if two := read(stream[:k], stream[k:]); one != two {
			t.Fatalf("whole %s, cut at %d %s", one, k, two)
		}
		if n := wholeProxyHeader(header); n == len(header) && n > 0 && one != read(get[1:]) {
			t.Fatalf("%q is a header, and gives %s", header, one)
		}
	})
}

// wholeProxyHeader is the length of the header at the beginning of b, 0 without
// a whole one.
func wholeProxyHeader(b []byte) int {
	for _, p := range []string{"PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN"} {
		i := bytes.IndexByte(b, '\n')
		if bytes.HasPrefix(b, []byte(p)) && i > 0 && i < 107 && b[i-1] == '\r' {
			return i + 1
		}
	}
	if len(b) >= 16 && string(b[:12]) == "\r\n\r\n\x00\r\nQUIT\n" && b[12]>>4 == 2 {
		if n := 16 + int(binary.BigEndian.Uint16(b[14:])); n <= len(b) {
			return n
		}
	}
	return 0
}
