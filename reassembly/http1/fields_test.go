package http1_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// reader writes down the fields that the keeper is shown, and the doubt.
type reader struct {
	heads    []string
	complete int
}

func (r *reader) Keep(h *exchange.Head) exchange.Decision {
	var b strings.Builder
	for _, f := range h.Fields {
		fmt.Fprintf(&b, "%q=%q ", f.Name, f.Value)
	}
	b.WriteString(h.Doubt.String())
	r.heads = append(r.heads, b.String())
	return exchange.Decision{}
}
func (r *reader) Complete(*exchange.Complete) { r.complete++ }
func (r *reader) Lost(exchange.Lost)          {}

// Fields are split at the first colon of a line and at the end of it, however
// long the two parts are and whatever stands in them and around them: among it the
// bytes that differ in one bit from a colon and a line feed. What two readers may
// take differently is a doubt.
func TestFieldsOfAnyLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(alphabet string, most int) string {
			var b strings.Builder
			for range rapid.IntRange(0, rapid.SampledFrom([]int{2, most}).Draw(t, "most")).Draw(t, "length") {
				b.WriteByte(alphabet[rapid.IntRange(0, len(alphabet)-1).Draw(t, "byte")])
			}
			return b.String()
		}
		seldom := func(odd ...string) string { // what most lines do not have
			if rapid.IntRange(0, 9).Draw(t, "odd") > 0 {
				return ""
			}
			return rapid.SampledFrom(odd).Draw(t, "which")
		}
		const spaces = " \t"
		fold := func() string { return rapid.SampledFrom([]string{" ", "\t"}).Draw(t, "fold") + text("a: ", 70) }
		end := rapid.SampledFrom([]string{"\r\n", "\n"}).Draw(t, "end")
		head, want, doubt := "GET / HTTP/1.1"+end, "", exchange.DoubtNone
		if seldom("fold") != "" {
			head += fold() + end // with no field before it
			doubt = exchange.DoubtSyntax
		}
		head += "Host: h" + end
		want += `"Host"="h" `
		for range rapid.IntRange(0, rapid.SampledFrom([]int{6, 40}).Draw(t, "most fields")).Draw(t, "fields") {
			line := "n" + text("aZ-;\x0b\x7f\xba\x8a", 40) + seldom(" ", "\t") +
				rapid.SampledFrom([]string{": ", ": ", ":", "", ":\t ", ":  "}).Draw(t, "colon") +
				text("aZ-:: ;\x0b\x7f\xba\x8a", 140) + seldom(" ", "\t")
			head += line + end
			name, value, ok := strings.Cut(line, ":")
			if !ok || name != strings.Trim(name, spaces) {
				doubt = exchange.DoubtSyntax
			}
			value = strings.Trim(value, spaces)
			for seldom("fold") != "" {
				more := fold()
				head += more + end
				value += " " + strings.Trim(more, spaces)
				doubt = exchange.DoubtSyntax
			}
			if ok {
				want += fmt.Sprintf("%q=%q ", strings.Trim(name, spaces), strings.Trim(value, spaces))
			}
		}
		body := text("a:\r\n", 200)
		head += fmt.Sprintf("Content-Length: %d", len(body)) + end
		want += fmt.Sprintf(`"Content-Length"="%d" `, len(body))
		r := &reader{}
		o := oursFor(t, r, &reassembly.Budget{Limit: 1 << 20})
		tk := &talk{scriptedExchange: &scriptedExchange{req: []byte(head + end + body), resp: [][]byte{[]byte("HTTP/1.1 204 N\r\n\r\n")}}, port: 1024}
		tk.open(o)
		tk.round(o)
		if want += doubt.String(); len(r.heads) != 1 || r.heads[0] != want {
			t.Fatalf("%q is read as\n%q, want\n%q", head, r.heads, want)
		}
		if r.complete != 1 {
			t.Fatalf("%q and %q: %d exchanges are complete", head, body, r.complete)
		}
	})
}

// Without AVX2 other code finds the lines, and heads are read the same.
func TestFieldsWithoutAVX2(t *testing.T) {
	tests := []string{"TestFieldsOfAnyLength", "TestDialogs", "TestDoubts", "TestShapes", "TestBodiesAgainstNetHTTP"}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^("+strings.Join(tests, "|")+")$")
	c.Env = append(os.Environ(), "GODEBUG=cpu.avx2=off") // golang.org/x/sys/cpu reads it
	out, err := c.CombinedOutput()
	for _, name := range tests {
		if !bytes.Contains(out, []byte("\n--- PASS: "+name+" ")) {
			t.Errorf("%s did not pass", name)
		}
	}
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, out)
	}
}
