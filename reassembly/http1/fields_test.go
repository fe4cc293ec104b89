package http1_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// reader writes down the fields that the keeper is shown.
type reader struct{ heads []string }

func (r *reader) Keep(h *exchange.Head) exchange.Decision {
	var b strings.Builder
	for _, f := range h.Fields {
		fmt.Fprintf(&b, "%q=%q ", f.Name, f.Value)
	}
	r.heads = append(r.heads, b.String())
	return exchange.Decision{}
}
func (r *reader) Complete(*exchange.Complete) {}
func (r *reader) Lost(exchange.Lost)          {}

// Fields are split at the first colon of a line and at the end of it, however
// long the two parts are and whatever stands in them: among it the bytes that
// differ in one bit from a colon and a line feed.
func TestFieldsOfAnyLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(alphabet string, most int) string {
			var b strings.Builder
			for range rapid.IntRange(0, rapid.SampledFrom([]int{2, most}).Draw(t, "most")).Draw(t, "length") {
				b.WriteByte(alphabet[rapid.IntRange(0, len(alphabet)-1).Draw(t, "byte")])
			}
			return b.String()
		}
		end := rapid.SampledFrom([]string{"\r\n", "\n"}).Draw(t, "end")
		head := "GET / HTTP/1.1" + end + "Host: h" + end
		want := `"Host"="h" `
		for range rapid.IntRange(0, 6).Draw(t, "fields") {
			name, value := "n"+text("aZ-;\x0b\x7f\xba\x8a", 40), text("aZ-::;\x0b\x7f\xba\x8a", 140)
			colon := rapid.SampledFrom([]string{":", ": ", "", ":\t "}).Draw(t, "colon")
			head += name + colon + value + end
			if n, v, ok := strings.Cut(name+colon+value, ":"); ok {
				want += fmt.Sprintf("%q=%q ", n, strings.TrimLeft(v, " \t"))
			}
		}
		r := &reader{}
		o := oursFor(t, r, &reassembly.Budget{Limit: 1 << 20})
		tk := &talk{scriptedExchange: &scriptedExchange{req: []byte(head + end), resp: [][]byte{[]byte("HTTP/1.1 204 N\r\n\r\n")}}, port: 1024}
		tk.open(o)
		tk.round(o)
		if len(r.heads) != 1 || r.heads[0] != want {
			t.Fatalf("%q is read as\n%q, want\n%q", head, r.heads, want)
		}
	})
}
