package http2_test

import (
	"bytes"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Every byte at every place of a value: RFC 9113 section 8.2.1.
func TestValues(t *testing.T) {
	const length = 19
	for c := range 256 {
		v := newConv()
		v.hello()
		for at := range length {
			value := bytes.Repeat([]byte{'v'}, length)
			value[at] = byte(c)
			id := uint32(2*at + 1)
			v.get(id, "x: "+string(value))
			v.ok(id, "")
		}
		res := room{live: true, want: exchange.WantWhole}.run(t, v.whole())
		if len(res.got) != length {
			t.Fatalf("byte %#x: %d exchanges, want %d", c, len(res.got), length)
		}
		for at, x := range res.got {
			edge := at == 0 || at == length-1
			bad := c < ' ' && c != '\t' || c == 0x7f || edge && (c == ' ' || c == '\t')
			if got := x.Doubt == exchange.DoubtMalformed; got != bad {
				t.Errorf("byte %#x at %d of a value: doubt %q", c, at, x.Doubt)
			}
		}
	}
}
