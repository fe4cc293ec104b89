package http2_test

import (
	"encoding/base64"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

const (
	asksH2   = "GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
	switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
)

// settings sends a SETTINGS frame.
func (v *conv) settings(client bool, s ...xhttp2.Setting) {
	must(v.side[index(client)].fr.WriteSettings(s...))
	v.send(client)
}

// upgraded writes a conversation that begins with request, answered by a 101.
func (v *conv) upgraded(request string) {
	v.raw(true, request)
	v.raw(false, switched)
	v.settings(false)
	v.ok(1, "first")
	v.raw(true, preface)
	v.settings(true)
	v.get(3)
	v.ok(3, "second")
}

func TestUpgrade(t *testing.T) {
	const both = "1 GET /up 200 0 5 ?upgrade; 3 GET /a 200 0 6"
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		got   string
		ends  string
	}{
		{"plain", func(v *conv) { v.upgraded(asksH2) }, both, ""},
		{"the SYNs are not in the capture", func(v *conv) { v.noSYN = true; v.upgraded(asksH2) }, both, ""},
		{"the preface comes before the answer", func(v *conv) {
			v.raw(true, asksH2)
			v.raw(false, switched)
			v.raw(true, preface)
			v.settings(true)
			v.settings(false)
			v.ok(1, "first")
		}, "1 GET /up 200 0 5 ?upgrade", ""},
		{"with a body", func(v *conv) {
			v.upgraded("POST /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\nContent-Length: 4\r\n\r\nbody")
		}, strings.Replace(both, "GET /up 200 0", "POST /up 200 4", 1), ""},
		{"behind another exchange", func(v *conv) {
			v.raw(true, "GET /one HTTP/1.1\r\nHost: h\r\n\r\n")
			v.raw(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			v.upgraded(asksH2)
		}, "0 GET /one 200 0 2; " + both, ""},
		{"a HEAD request", func(v *conv) {
			v.raw(true, strings.Replace(asksH2, "GET", "HEAD", 1))
			v.raw(false, switched)
			v.settings(false)
			v.headers(false, 1, true, ":status: 200", "content-length: 7")
			v.raw(true, preface)
			v.settings(true)
		}, "1 HEAD /up 200 0 0 ?upgrade", ""},
		{"the server does not follow", func(v *conv) {
			v.raw(true, asksH2)
			v.raw(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			v.raw(true, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
			v.raw(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}, "0 GET /up 200 0 2 ?upgrade; 0 GET /a 200 0 2", ""},
		{"nobody asked", func(v *conv) { v.upgraded("GET /up HTTP/1.1\r\nHost: h\r\n\r\n") }, "", "unparsable http2"},
		{"no HTTP2-Settings", func(v *conv) {
			v.upgraded("GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		}, "", "unparsable http2"},
		{"HTTP2-Settings that are none", func(v *conv) { v.upgraded(strings.Replace(asksH2, "AAMA", "A!MA", 1)) }, "", "unparsable http2"},
		{"no preface, no proof", func(v *conv) {
			v.noSYN = true
			v.raw(true, asksH2)
			v.raw(false, switched)
			v.settings(false)
			v.ok(1, "first")
		}, "", "gap unproven"},
		{"another preface", func(v *conv) {
			v.noSYN = true
			v.raw(true, asksH2)
			v.raw(false, switched)
			v.settings(false)
			v.ok(1, "first")
			v.raw(true, strings.Replace(preface, "SM", "MS", 1))
			v.settings(true)
			v.get(3)
			v.ok(3, "second")
		}, "", "unparsable protocol"},
		{"no SETTINGS behind the 101", func(v *conv) {
			v.noSYN = true
			v.raw(true, asksH2)
			v.raw(false, switched)
			v.ok(1, "first")
			v.raw(true, preface)
			v.settings(true)
		}, "", "unparsable http2"},
		{"a request behind it", func(v *conv) {
			v.upgraded(asksH2 + "GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
		}, "", "no_response, unparsable http2"},
		{"something behind it", func(v *conv) {
			v.raw(true, asksH2+preface[:10])
			v.raw(false, switched)
			v.settings(false)
			v.ok(1, "first")
			v.raw(true, preface[10:])
			v.settings(true)
		}, "", "no_response cut, unparsable http2"},
		{"a hole in its body", func(v *conv) {
			v.raw(true, "POST /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\nContent-Length: 8\r\n\r\nbo")
			v.raw(true, "dy")
			v.lose()
			v.raw(true, "body")
			v.raw(false, switched)
			v.settings(false)
			v.ok(1, "first")
			v.raw(true, preface)
			v.settings(true)
			v.get(3)
			v.ok(3, "second")
		}, "3 GET /a 200 0 6", "gap"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			tt.write(v)
			for _, cut := range []int{1 << 30, 1, 7} {
				if v.noSYN && cut < 1<<30 {
					continue // a late request is known by its segment
				}
				for _, live := range []bool{true, false} {
					res := room{live: live, want: exchange.WantWhole}.run(t, v.segments([2]uint32{1000, 5000}, func() int { return cut }))
					if got := strings.Join(res.words, "; "); got != tt.got {
						t.Errorf("cut %d live %v: exchanges %q, want %q", cut, live, got, tt.got)
					}
					if e := res.ends(); e != tt.ends {
						t.Errorf("cut %d live %v: ends %q, want %q", cut, live, e, tt.ends)
					}
				}
			}
		})
	}
}

// The upgraded request is HTTP/2's in all that records show.
func TestUpgradedRequest(t *testing.T) {
	v := newConv()
	v.upgraded(asksH2)
	res := room{live: true, want: exchange.WantWhole}.run(t, v.whole())
	x := res.got[0]
	q := x.Request
	if q.Proto != "HTTP/2" || q.Scheme != "http" || q.Host != "h" || q.Framing != exchange.FramingH2 || q.Head != nil || q.Header.Get("Upgrade") != "h2c" {
		t.Errorf("%+v", q)
	}
	if x.Stream != 1 || x.Offset != 0 || x.ID != exchange.NewID(x.Flow, x.ISN, 1) || x.Response.Proto != "HTTP/2" || string(x.Response.Body.Bytes) != "first" {
		t.Errorf("%+v %+v", x, x.Response)
	}
	if two := res.got[1]; !two.Reused || two.ID != exchange.NewID(x.Flow, x.ISN, 3) {
		t.Errorf("%+v", two)
	}
}

// Positions count from the stream's first byte, also of what comes in one segment
// with the preface.
func TestOffset(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	v.ok(1, "one")
	var first, rest []message
	for _, m := range v.msgs {
		if m.client {
			first = append(first, m)
		} else {
			rest = append(rest, m)
		}
	}
	var all []byte
	for _, m := range first {
		all = append(all, m.b...)
	}
	request := len(all) - len(first[len(first)-1].b)
	v.msgs = append([]message{{client: true, b: all}}, rest...)
	for _, cut := range []int{1 << 30, 5} {
		res := room{live: true, want: exchange.WantList}.run(t, v.segments([2]uint32{1, 1}, func() int { return cut }))
		if len(res.got) != 1 || res.got[0].Offset != uint64(request) {
			t.Errorf("cut %d: %+v, want the offset %d", cut, res.got, request)
		}
	}
}

// HTTP2-Settings bind the server at once.
func TestUpgradeSettings(t *testing.T) {
	b := []byte{0, 1, 0, 0, 0x40, 0} // HEADER_TABLE_SIZE 16384
	v := newConv()
	v.raw(true, strings.Replace(asksH2, "AAMAAABkAAQAAP__", base64.RawURLEncoding.EncodeToString(b), 1))
	v.raw(false, switched)
	v.settings(false)
	v.side[1].enc.SetMaxDynamicTableSizeLimit(16384)
	v.side[1].enc.SetMaxDynamicTableSize(16384)
	v.ok(1, "first")
	v.raw(true, preface)
	v.settings(true)
	if res := (room{live: true, want: exchange.WantList}).run(t, v.whole()); len(res.got) != 1 || res.ends() != "" {
		t.Errorf("%q, %s", res.words, res.ends())
	}
}
