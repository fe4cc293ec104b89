package http1_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// keepsAll keeps everything.
type keepsAll struct{ all []*exchange.Exchange }

func (*keepsAll) Keep(*exchange.Head) exchange.Decision {
	return exchange.Decision{Want: exchange.WantWhole}
}
func (k *keepsAll) Complete(c *exchange.Complete) { k.all = append(k.all, c.Exchange) }
func (*keepsAll) Lost(exchange.Lost)              {}

// listed reads field lines one by one.
func listed(head string) (h exchange.Header) {
	_, lines, _ := strings.Cut(head, "\n")
	for l := range strings.SplitSeq(lines, "\n") {
		l = strings.TrimSuffix(l, "\r")
		name, value, ok := strings.Cut(l, ":")
		switch {
		case l == "":
			return h
		case l[0] == ' ' || l[0] == '\t':
			if k := len(h) - 1; k >= 0 {
				h[k].Value = strings.Trim(h[k].Value+" "+strings.Trim(l, " \t"), " \t")
			}
		case ok && name != "":
			h = append(h, exchange.Field{Name: strings.TrimRight(name, " \t"), Value: strings.Trim(value, " \t\r")})
		}
	}
	return h
}

// replayable says, byte by byte, whether a request's head keeps to the grammar.
func replayable(head string) bool {
	for l := range strings.SplitSeq(strings.TrimSuffix(head, "\n"), "\n") {
		text, ok := strings.CutSuffix(l, "\r")
		if !ok || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return false
		}
		if strings.HasPrefix(text, "GET ") || text == "" {
			continue
		}
		name, _, ok := strings.Cut(text, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return false
		}
	}
	return true
}

// A kept exchange has the head, the fields and the body as they were sent,
// whatever stands in them, is in doubt where the grammar is broken, and gives back
// all that it takes from the budget. Nothing of one exchange shows in the one
// before it.
func TestKeptAsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(what, alphabet string, most int) string {
			var b strings.Builder
			for range rapid.IntRange(0, most).Draw(t, what) {
				b.WriteByte(alphabet[rapid.IntRange(0, len(alphabet)-1).Draw(t, "byte")])
			}
			return b.String()
		}
		head := func(first string) string {
			odd := rapid.SampledFrom([]string{"", "name", "colon", "value", "end"}).Draw(t, "odd")
			for range rapid.IntRange(0, 9).Draw(t, "fields") {
				name, colon, value, end := "n"+text("name", "aZ-", 12), rapid.SampledFrom([]string{": ", ":"}).Draw(t, "colon"), text("value", "aZ: ", 40), "\r\n"
				switch odd {
				case "name":
					name += text("name", "a \t", 2)
				case "colon":
					colon = ""
				case "value":
					value = text("value", rapid.SampledFrom([]string{"a: \t", "abcdef\x7f", "a: \t\r\x7f\x01"}).Draw(t, "bytes"), 20)
				case "end":
					end = rapid.SampledFrom([]string{"\r\n", "\n", "\r\n \t\r\n", "\r\n\ta: b\r\n"}).Draw(t, "end")
				}
				first += name + colon + value + end
			}
			return first
		}
		sink := &keepsAll{}
		budget := &reassembly.Budget{Limit: 1 << 20}
		o := oursFor(t, sink, budget)
		tk := &talk{port: 1024}
		tk.open(o)
		tk.scriptedExchange = scriptExchange(0, 1000, false)
		tk.round(o) // behind it the connection has its parser
		sink.all = nil
		used := budget.Used()
		type sent struct{ req, resp, asked, answered string }
		var all []sent
		for i := range 3 {
			size := rapid.SampledFrom([]int{0, 1, 200, 5000, 9000}).Draw(t, "size")
			s := sent{asked: strings.Repeat("q", size), answered: strings.Repeat("a", 9000-size)}
			s.req = head(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n", i, len(s.asked))) + "\r\n"
			s.resp = head(fmt.Sprintf("HTTP/1.1 200 O K\r\nContent-Length: %d\r\n", len(s.answered))) + "\r\n"
			all = append(all, s)
			tk.scriptedExchange = &scriptedExchange{req: []byte(s.req + s.asked)}
			for b := []byte(s.resp + s.answered); len(b) > 0; b = b[min(len(b), 4000):] {
				tk.resp = append(tk.resp, bytes.Clone(b[:min(len(b), 4000)]))
			}
			tk.round(o)
			clear(tk.req) // lent for the call
			for _, b := range tk.resp {
				clear(b)
			}
		}
		if len(sink.all) != len(all) {
			t.Fatalf("%d exchanges of %d", len(sink.all), len(all))
		}
		if n := budget.Used(); n != used {
			t.Fatalf("%d bytes are taken, %d before the exchanges", n, used)
		}
		for i, s := range all {
			x := sink.all[i]
			q, a := x.Request, x.Response
			switch want := listed(s.req); {
			case string(q.Head) != s.req || string(q.Wire) != s.asked || string(q.Body.Bytes) != s.asked:
				t.Fatalf("the request %q with %d bytes is kept as %q with %d", s.req, len(s.asked), q.Head, len(q.Wire))
			case q.Method != "GET" || q.Target != fmt.Sprintf("/%d", i) || q.Host != "h":
				t.Fatalf("%q is kept as %q %q %q", s.req, q.Method, q.Target, q.Host)
			case !slices.Equal(q.Header, want):
				t.Fatalf("the fields of %q are kept as\n%q, want\n%q", s.req, q.Header, want)
			case string(a.Body.Bytes) != s.answered || a.Reason != "O K":
				t.Fatalf("the answer %q with %d bytes is kept as %q with %d", s.resp, len(s.answered), a.Reason, len(a.Body.Bytes))
			case !slices.Equal(a.Header, listed(s.resp)):
				t.Fatalf("the fields of %q are kept as\n%q, want\n%q", s.resp, a.Header, listed(s.resp))
			case (x.Doubt == exchange.DoubtNone) != replayable(s.req):
				t.Fatalf("%q is in doubt for %q", s.req, x.Doubt)
			}
		}
	})
}
