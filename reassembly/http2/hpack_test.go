package http2_test

import (
	"fmt"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// resize makes the server's encoder use a table of that size, in the next block.
func (v *conv) resize(n uint32) {
	v.side[1].enc.SetMaxDynamicTableSizeLimit(1 << 20)
	v.side[1].enc.SetMaxDynamicTableSize(n)
}

// announce lets the client's SETTINGS allow a table of that size; ack lets the
// server acknowledge it.
func (v *conv) announce(n uint32) {
	v.settings(true, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: n})
}

func (v *conv) ack() { must(v.side[1].fr.WriteSettingsAck()); v.send(false) }

func TestTableSize(t *testing.T) {
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		ends  string
	}{
		{"larger, before the acknowledgement", func(v *conv) { v.announce(8192); v.resize(8192) }, ""},
		{"larger, behind it", func(v *conv) { v.announce(8192); v.ack(); v.resize(8192) }, ""},
		{"as large as before, until it is acknowledged", func(v *conv) { v.announce(100); v.resize(4096) }, ""},
		{"larger than what is acknowledged", func(v *conv) { v.announce(100); v.ack(); v.resize(4096) }, "unparsable hpack"},
		{"larger than ever said", func(v *conv) { v.announce(8192); v.resize(8193) }, "unparsable hpack"},
		{"none", func(v *conv) { v.announce(0); v.ack(); v.resize(0) }, ""},
		{"small, then large again, in one block", func(v *conv) {
			v.announce(0)
			v.announce(4096)
			v.resize(32)
			v.resize(4096)
		}, ""},
		{"SETTINGS without a size acknowledge nothing new", func(v *conv) {
			v.announce(8192)
			v.settings(true)
			v.ack()
			v.ack()
			v.resize(8192)
		}, ""},
		{"the second of two in a frame counts", func(v *conv) {
			v.settings(true, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 100}, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 8192})
			v.ack()
			v.resize(8192)
		}, ""},
		{"more than is followed", func(v *conv) { v.announce(1 << 20); v.resize(1 << 20) }, "unparsable hpack"},
		{"as much as is followed", func(v *conv) { v.announce(1 << 20); v.resize(64 << 10) }, ""},
		{"many announcements that nobody acknowledges", func(v *conv) {
			v.announce(8192)
			for range 100 {
				v.announce(10)
			}
			v.resize(8192)
		}, ""},
		{"one among many that nobody acknowledges", func(v *conv) {
			for i := range 20 {
				v.announce(map[bool]uint32{true: 8192, false: 10}[i == 10])
			}
			v.resize(8192)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			v.hello()
			v.get(1)
			v.ok(1, "", "x-a: 1", "x-b: 2")
			tt.write(v)
			long := func(id int) string { return fmt.Sprintf("x-%d: %s", max(id, 3), strings.Repeat("v", 100)) }
			for id := 3; id < 101; id += 2 {
				v.get(uint32(id))
				v.ok(uint32(id), "", "x-a: 1", long(id), long(id-20))
			}
			res := room{live: true, want: exchange.WantWhole}.run(t, v.whole())
			rested := room{live: true, want: exchange.WantWhole, rest: func(int) bool { return true }}.run(t, v.whole())
			if diff := restless(res, rested); diff != "" {
				t.Errorf("%s", diff)
			}
			if e := res.ends(); e != tt.ends {
				t.Fatalf("ends %q, want %q", e, tt.ends)
			}
			if want := 50; tt.ends == "" && len(res.got) != want {
				t.Fatalf("%d of %d", len(res.got), want)
			}
			for i, x := range res.got[1:] {
				id := 3 + 2*i
				if h := x.Response.Header; len(h) != 3 || h[1].Name != fmt.Sprintf("x-%d", id) || h[2].Name != fmt.Sprintf("x-%d", max(id-20, 3)) {
					t.Fatalf("stream %d: %v", x.Stream, h)
				}
			}
		})
	}
}

// A decoder that served a connection serves another with an empty table of the
// usual size: nothing of the one is ever a field of the other.
func TestTablesAreOfOneConnection(t *testing.T) {
	first := newConv()
	first.hello()
	for id := uint32(1); id < 9; id += 2 {
		first.get(id, fmt.Sprintf("x-secret-%d: of another", id))
		first.ok(id, "", "x-secret: of another")
	}
	first.msgs = append(first.msgs, message{client: true, fin: true}, message{fin: true})
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		got   string
		ends  string
	}{
		{"a field of the former", func(v *conv) {
			v.frame(true, 1, 5, 1, "\x82\x84\x86\xbe")
			v.ok(1, "")
		}, "", "unparsable hpack"},
		{"a field of its own", func(v *conv) {
			v.get(1, "x-a: 1")
			v.ok(1, "")
			v.get(3, "x-a: 1")
			v.ok(3, "")
		}, "1 GET /a 200 0 0; 3 GET /a 200 0 0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			v.hello()
			tt.write(v)
			segs := append(first.whole(), v.segments([2]uint32{900_000, 800_000}, func() int { return 1 << 30 })...)
			res := room{live: true, want: exchange.WantWhole}.run(t, segs)
			if got := strings.Join(res.words[4:], "; "); got != tt.got || res.ends() != tt.ends {
				t.Fatalf("%q, %s; want %q, %s", got, res.ends(), tt.got, tt.ends)
			}
			for _, x := range res.got[4:] {
				if h := x.Request.Header; len(h) != 1 || h[0] != (exchange.Field{Name: "x-a", Value: "1"}) {
					t.Errorf("stream %d has the fields %v", x.Stream, h)
				}
			}
		})
	}
}

// A change of the table's size inside a block is none.
func TestTableSizeInsideABlock(t *testing.T) {
	v := newConv()
	v.hello()
	v.get(1)
	v.frame(false, 1, 5, 1, "\x88\x3f\x01")
	if res := (room{live: true}).run(t, v.whole()); res.ends() != "unparsable hpack" {
		t.Errorf("%s", res.ends())
	}
}
