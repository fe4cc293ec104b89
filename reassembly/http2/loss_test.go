package http2_test

import (
	"slices"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http2"
)

func TestHoles(t *testing.T) {
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		got   string
		ends  string
	}{
		{"inside DATA", func(v *conv) {
			v.get(1)
			v.get(3)
			v.headers(false, 1, false, ":status: 200")
			v.raw(false, "\x00\x00\x09\x00\x01\x00\x00\x00\x01abc")
			v.raw(false, "def")
			v.lose()
			v.raw(false, "ghi")
			v.ok(3, "three")
			v.get(5)
			v.ok(5, "five")
		}, "3 GET /a 200 0 5; 5 GET /a 200 0 4", "gap"},
		{"inside DATA, up to its end", func(v *conv) {
			v.get(1)
			v.headers(false, 1, false, ":status: 200")
			v.raw(false, "\x00\x00\x09\x00\x01\x00\x00\x00\x01abc")
			v.raw(false, "defghi")
			v.lose()
			v.get(3)
			v.ok(3, "three")
		}, "3 GET /a 200 0 5", "gap"},
		{"inside a request's DATA", func(v *conv) {
			v.post(1)
			v.raw(true, "\x00\x00\x09\x00\x01\x00\x00\x00\x01abc")
			v.raw(true, "defghi")
			v.lose()
			v.ok(1, "one")
			v.get(3)
			v.ok(3, "three")
		}, "3 GET /a 200 0 5", "gap"},
		{"inside padding alone", func(v *conv) {
			v.get(1)
			v.headers(false, 1, false, ":status: 200")
			v.raw(false, "\x00\x00\x08\x00\x09\x00\x00\x00\x01\x05ab\x00")
			v.raw(false, "\x00\x00")
			v.lose()
			v.raw(false, "\x00\x00")
			v.get(3)
			v.ok(3, "three")
		}, "1 GET /a 200 0 2; 3 GET /a 200 0 5", ""},
		{"inside an unknown frame", func(v *conv) {
			v.raw(false, "\x00\x00\x06\xee\x09\x00\x00\x00\x01ab")
			v.raw(false, "cd")
			v.lose()
			v.raw(false, "ef")
			v.get(3)
			v.ok(3, "three")
		}, "3 GET /a 200 0 5", ""},
		{"over a frame's end", func(v *conv) {
			v.get(1)
			v.get(3)
			v.headers(false, 1, false, ":status: 200")
			v.raw(false, "\x00\x00\x09\x00\x01\x00\x00\x00\x01abc")
			v.raw(false, "defghi\x00\x00\x09")
			v.lose()
			v.raw(false, "\x01\x04\x00\x00\x00\x03")
			v.get(5)
			v.ok(5, "five")
			v.get(7)
			v.ok(7, "seven")
		}, "", "gap x2, unparsable http2_late x2"},
		{"an answer's head", func(v *conv) {
			v.get(1)
			v.ok(1, "one")
			v.get(3)
			v.headers(false, 3, false, ":status: 200")
			v.lose()
			v.data(false, 3, true, "three")
			v.get(5)
			v.ok(5, "five")
		}, "1 GET /a 200 0 3", "gap, unparsable http2_late"},
		{"requests, the answers are counted", func(v *conv) {
			v.get(1)
			v.get(3)
			v.lose()
			v.get(5)
			v.lose()
			v.ok(1, "one")
			v.ok(5, "five")
			v.ok(3, "three")
			v.headers(false, 3, true, "a: trailer")
		}, "1 GET /a 200 0 3", "unparsable http2_late x2"},
		{"of requests, while an answer is on its way", func(v *conv) {
			v.get(1)
			v.headers(false, 1, false, ":status: 200")
			v.get(3)
			v.lose()
			v.data(false, 1, true, "one")
			v.get(5)
		}, "1 GET /a 200 0 3", "unparsable http2_late x2"},
		{"of the server's preface", func(v *conv) {
			v.msgs = v.msgs[:2]
			must(v.side[1].fr.WriteSettings())
			v.send(false)
			v.lose()
			v.get(1)
			v.ok(1, "one")
		}, "", "unparsable http2_late"},
		{"of the client's preface", func(v *conv) {
			v.msgs[0].hole = true
			v.get(1)
			v.ok(1, "one")
		}, "", "unparsable http2_late"},
		{"of a request's DATA and the next frame's header", func(v *conv) {
			v.post(1)
			v.data(true, 1, false, "abc")
			v.lose()
			v.data(true, 1, true, "def")
			v.ok(1, "one")
		}, "", "gap"},
		{"of both directions", func(v *conv) {
			v.get(1)
			v.headers(true, 3, false, ":method: GET", ":scheme: http", ":path: /a", ":authority: h")
			v.lose()
			v.headers(false, 1, false, ":status: 200")
			v.lose()
		}, "", "gap"},
		{"of SETTINGS that allow more", func(v *conv) {
			v.get(1)
			must(v.side[1].fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 16384}, xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 70000}))
			v.send(false)
			v.lose()
			v.side[0].enc.SetMaxDynamicTableSizeLimit(16384)
			v.side[0].enc.SetMaxDynamicTableSize(16384)
			v.post(3)
			v.data(true, 3, true, strings.Repeat("b", 70000))
			v.get(5)
		}, "", "gap, unparsable http2_late x2"},
		{"of a request, then a promise", func(v *conv) {
			v.get(1)
			v.get(3)
			v.lose()
			p := v.side[1]
			must(p.fr.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.encode(":method: GET", ":scheme: http", ":path: /pushed", ":authority: h"), EndHeaders: true}))
			v.send(false)
			v.ok(1, "one")
			v.ok(2, "two")
			v.ok(3, "three")
		}, "1 GET /a 200 0 3; 2 GET /pushed 200 0 3 ?pushed", "unparsable http2_late"},
		{"of the rest of a request's head, and nothing behind it", func(v *conv) {
			v.get(1)
			v.ok(1, "one")
			c := v.side[0]
			block := c.encode(":method: GET", ":scheme: http", ":path: /a", ":authority: h")
			must(c.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 3, BlockFragment: block[:2], EndStream: true}))
			v.send(true)
			must(c.fr.WriteContinuation(3, true, block[2:]))
			v.send(true)
			v.lose()
		}, "1 GET /a 200 0 3", "unparsable http2_late"},
		{"of a promise", func(v *conv) {
			v.get(1)
			p := v.side[1]
			must(p.fr.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.encode(":method: GET", ":scheme: http", ":path: /pushed", ":authority: h"), EndHeaders: true}))
			v.send(false)
			v.lose()
			v.ok(1, "one")
			v.ok(2, "two")
		}, "", "gap"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			v.hello()
			tt.write(v)
			for _, live := range []bool{true, false} {
				res := room{live: live, want: exchange.WantWhole}.run(t, v.whole())
				if got := strings.Join(res.words, "; "); got != tt.got {
					t.Errorf("live %v: exchanges %q, want %q", live, got, tt.got)
				}
				if e := res.ends(); e != tt.ends {
					t.Errorf("live %v: ends %q, want %q", live, e, tt.ends)
				}
			}
		})
	}
}

// Joined late, a connection is counted whatever it looks like, and one that
// only carries something like HTTP/2 stays what it is.
func TestJoinedLate(t *testing.T) {
	decoy := "GET /decoy HTTP/1.1\r\nHost: d\r\n\r\n"
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		got   string
		ends  string
	}{
		{"from its preface on", func(v *conv) {
			v.hello()
			v.get(1)
			v.ok(1, "one")
		}, "", "unparsable http2_late"},
		{"in the middle", func(v *conv) {
			v.get(7)
			v.get(9)
			must(v.side[1].fr.WriteSettingsAck())
			must(v.side[1].fr.WritePing(false, [8]byte{}))
			v.send(false)
			v.ok(7, "seven")
			v.ok(9, "nine")
		}, "", "unparsable http2_late x2"},
		{"a frame in each segment", func(v *conv) {
			v.get(7)
			v.ok(7, "")
			v.get(9)
			v.ok(9, "")
		}, "", "unparsable http2_late x2"},
		{"a request in a body, at a segment's start", func(v *conv) {
			must(v.side[0].fr.WritePing(false, [8]byte{}))
			must(v.side[0].fr.WritePing(false, [8]byte{}))
			v.send(true)
			v.raw(true, "\x00\x00\x1f\x00\x01\x00\x00\x00\x01")
			v.raw(true, decoy)
			v.raw(false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}, "", "unparsable http2_late"},
		{"a preface in a body", func(v *conv) {
			must(v.side[0].fr.WritePing(false, [8]byte{}))
			must(v.side[0].fr.WritePing(false, [8]byte{}))
			v.send(true)
			v.hello()
			v.get(1)
			v.ok(1, "one")
		}, "", "unparsable http2_late"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			v.noSYN = true
			tt.write(v)
			for _, live := range []bool{true, false} {
				res := room{live: live, want: exchange.WantWhole}.run(t, v.whole())
				if got := strings.Join(res.words, "; "); got != tt.got {
					t.Errorf("live %v: exchanges %q, want %q", live, got, tt.got)
				}
				if e := res.ends(); e != tt.ends {
					t.Errorf("live %v: ends %q, want %q", live, e, tt.ends)
				}
			}
		})
	}
}

// An answer that was sent before the whole head of its request was there answers
// something else.
func TestAnswerBeforeItsRequest(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	v.ok(1, "one")
	v.get(3)
	v.ok(3, "three")
	segs := v.whole()
	at := slices.IndexFunc(segs, func(s seg) bool { return strings.HasSuffix(string(s.b), "one") }) - 1
	for _, back := range []uint32{1, uint32(len(segs[at-1].b))} {
		early := slices.Clone(segs)
		early[at].ack -= back
		res := room{live: true, want: exchange.WantList}.run(t, early)
		if got := strings.Join(res.words, "; "); got != "3 GET /a 200 0 5" || res.ends() != "no_request" || res.st.Orphans != 1 {
			t.Errorf("%d bytes before: %q, %s, %d orphans", back, got, res.ends(), res.st.Orphans)
		}
	}
}

// direct opens HTTP/2 on every connection.
type direct struct {
	*http2.Parser
	reassembly.Factory
	h exchange.Handover
}

func (d *direct) Open(c *reassembly.Conn) reassembly.Handler {
	h := d.h
	return d.Parser.Open(c, &h)
}

// A connection whose SYNs were not seen is late, also where the one who hands it
// over thinks that it is not.
func TestOpenLooksAtTheHandshake(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	v.ok(1, "one")
	for _, missing := range []int{0, 1, 2} { // of the handshake's segments
		col := &collector{}
		budget := &reassembly.Budget{Limit: 1 << 20}
		p, err := http2.New(http2.Config{Keeper: col, Sink: col, Budget: budget})
		if err != nil {
			t.Fatal(err)
		}
		a, err := reassembly.New(reassembly.Config{Factory: &direct{Parser: p}, Budget: budget})
		if err != nil {
			t.Fatal(err)
		}
		segs := v.whole()
		for i := range segs {
			if i == missing-1 || missing == 2 && i == 0 {
				continue
			}
			x := &segs[i]
			s := reassembly.Segment{SrcPort: 1024, DstPort: 80, Seq: x.seq, Ack: x.ack, Flags: x.flags, Payload: x.b, Side: reassembly.ToServer}
			s.Src[15], s.Dst[15] = 1, 2
			if !x.toServer {
				s.SrcPort, s.DstPort, s.Src, s.Dst, s.Side = s.DstPort, s.SrcPort, s.Dst, s.Src, reassembly.ToClient
			}
			a.Segment(&s)
		}
		a.Close(reassembly.CloseDone)
		st := p.Stats()
		late := st.Exchanges[exchange.ResultUnparsable][exchange.ReasonHTTP2Late]
		if missing == 2 && (late == 0 || col.n != 0) || missing == 0 && col.n != 1 {
			t.Errorf("%d missing: %d exchanges, %d late", missing, col.n, late)
		}
	}
}

// A body of HTTP/1 that looks like HTTP/2 is a body.
func TestHTTP1BodyThatLooksLikeHTTP2(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	var body string
	for _, m := range v.msgs[1:] { // frames from its first byte on
		body += string(m.b)
	}
	for from := range 3 { // with the handshake, without, and with a hole
		w := newConv()
		w.noSYN = from == 1
		w.raw(true, "GET /f HTTP/1.1\r\nHost: h\r\n\r\n")
		w.raw(false, "HTTP/1.1 200 OK\r\nContent-Length: "+itoa(len(body))+"\r\n\r\n")
		ends := ""
		if from == 2 {
			w.lose()
			ends = "gap"
		}
		w.raw(false, body)
		w.raw(true, "GET /g HTTP/1.1\r\nHost: h\r\n\r\n")
		w.raw(false, "HTTP/1.1 204 No\r\n\r\n")
		w.raw(true, "GET /h HTTP/1.1\r\nHost: h\r\n\r\n") // proves whose answer that was
		w.raw(false, "HTTP/1.1 204 No\r\n\r\n")
		res := room{live: true, want: exchange.WantList}.run(t, w.whole())
		if got := strings.Join(res.words, "; "); !strings.HasSuffix(got, "0 GET /g 204 0 0; 0 GET /h 204 0 0") || res.ends() != ends {
			t.Errorf("from %d: %q, %s", from, got, res.ends())
		}
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// What was read otherwise by two copies, or carries urgent data, is not
// replayed, nor is what follows: the table may be another.
func TestDoubtsOfTheStream(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	v.ok(1, "one")
	v.post(3)
	v.data(true, 3, true, "abc")
	v.ok(3, "three")
	v.get(5)
	v.ok(5, "five")
	segs := v.whole()
	at := -1
	for i, s := range segs {
		if strings.HasSuffix(string(s.b), "abc") {
			at = i
		}
	}
	urgent := append([]seg{}, segs...)
	urgent[at].flags |= reassembly.URG
	res := room{live: true, want: exchange.WantWhole}.run(t, urgent)
	if got := strings.Join(res.words, "; "); got != "1 GET /a 200 0 3; 3 POST /p 200 3 5 ?urgent; 5 GET /a 200 0 4 ?urgent" {
		t.Errorf("urgent: %q", got)
	}
	// Queued behind a hole, once more with another end, then the hole's bytes.
	other := segs[at]
	other.b = []byte(strings.Replace(string(other.b), "abc", "abX", 1))
	mixed := append([]seg{}, segs[:at-1]...)
	mixed = append(mixed, segs[at], other, segs[at-1])
	mixed = append(mixed, segs[at+1:]...)
	res = room{live: true, want: exchange.WantWhole}.run(t, mixed)
	if got := strings.Join(res.words, "; "); got != "1 GET /a 200 0 3; 3 POST /p 200 3 5 ?overlap; 5 GET /a 200 0 4 ?overlap" {
		t.Errorf("overlap: %q", got)
	}
}
