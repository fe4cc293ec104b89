package diff

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Hostile bodies of every media type end in bounded time and memory, and in a
// difference that says what was wrong. The bounds are wide: they tell linear
// from quadratic.
func TestHostileMedia(t *testing.T) {
	n := func(n int) int { return n / raceScale }
	lines := func(n, step int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d\n", (i*step)%n)
		}
		return b.String()
	}
	nest := func(depth int, open, in, end string) string {
		return strings.Repeat(open, depth) + in + strings.Repeat(end, depth)
	}
	attributes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, ` a%d="1"`, i)
		}
		return b.String()
	}
	deepMessage := func(depth int, in string) string {
		b := []byte(in)
		for range depth {
			b = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
		}
		return string(b)
	}
	const text, form, x, h, pb, grpc = "text/plain", "application/x-www-form-urlencoded", "text/xml", "text/html", "application/protobuf", "application/grpc"
	const parts = "multipart/form-data; boundary=x"
	big := RuleConfig{MaxValues: 16 << 20}
	defaults := RuleConfig{MaxValues: n(1 << 20)}
	tests := []struct {
		name, kind, ref, cand string
		want                  string // kind of the last difference
		rules                 RuleConfig
		mb                    uint64 // allocated at most; 0 means 100
	}{
		{"100 MB of one line", text, strings.Repeat("a", n(100<<20)) + "1", strings.Repeat("a", n(100<<20)) + "2", KindChanged, RuleConfig{}, 0},
		{"10^6 lines, all changed", text, strings.Repeat("a\n", n(1e6)), strings.Repeat("b\n", n(1e6)), KindNotFullyCompared, big, 300},
		{"10^6 lines, another order", text, lines(n(1e6), 1), lines(n(1e6), 7), KindNotFullyCompared, big, 700},
		{"20,000 lines in reverse", text, lines(20000, 1), lines(20000, 19999), KindNotFullyCompared, big, 0},
		{"more lines than the limit", text, "x" + strings.Repeat("a\n", n(4e6)), strings.Repeat("b\n", n(4e6)), KindNotFullyCompared, defaults, 0},
		{"100 MB of UTF-16", text + "; charset=utf-16le", strings.Repeat("a\x00", n(50<<20)), strings.Repeat("a\x00", n(50<<20)) + "b\x00", KindChanged, RuleConfig{}, 1200},
		{"10^6 fields", form, strings.Repeat("a=1&", n(1e6)), strings.Repeat("a=1&", n(1e6)) + "b=1", KindAdded, big, 500},
		{"10^6 fields and the default limits", form, strings.Repeat("a=1&", n(1e6)), strings.Repeat("a=1&", n(1e6)) + "b=1", KindNotFullyCompared, defaults, 0},
		{"10^6 parts", parts, strings.Repeat("--x\r\n\r\n1\r\n", n(1e6)), strings.Repeat("--x\r\n\r\n2\r\n", n(1e6)), KindNotFullyCompared, RuleConfig{}, 1500},
		{"10^6 fields in a part's head", parts, "--x\r\n" + strings.Repeat("A: b\r\n", n(1e6)), "--x\r\n", KindNotFullyCompared, RuleConfig{}, 0},
		{"multiparts in multiparts", "multipart/mixed; boundary=x", nest(1000, "--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n", "1", "\r\n--x--"), "--x--", KindNotFullyCompared, RuleConfig{}, 0},
		{"XML nested 10,000 deep", x, nest(10000, "<a>", "1", "</a>"), nest(10000, "<a>", "2", "</a>"), KindNotFullyCompared, RuleConfig{}, 0},
		{"XML, 10^6 elements", x, "<a>" + strings.Repeat("<b/>", n(1e6)) + "</a>", "<a>" + strings.Repeat("<b/>", n(1e6)) + "<c/></a>", KindAdded, big, 2000},
		{"XML, 10^6 elements and the default limits", x, "<a>" + strings.Repeat("<b>1</b>", n(1e6)) + "</a>", "<a>" + strings.Repeat("<b>2</b>", n(1e6)) + "</a>", KindNotFullyCompared, defaults, 600},
		{"XML, 10^6 attributes", x, "<a" + attributes(n(1e6)) + "/>", "<a" + attributes(n(1e6)) + " b=''/>", KindAdded, big, 2000},
		{"XML, open elements only", x, strings.Repeat("<a>", n(4<<20)), strings.Repeat("<b>", n(4<<20)), KindNotFullyCompared, big, 1000},
		{"XML, a set of 200,000 elements", x, "<a>" + strings.Repeat("<b>1</b>", n(2e5)) + "</a>", "<a>" + strings.Repeat("<b>2</b>", n(2e5)) + "</a>", KindNotFullyCompared,
			RuleConfig{MaxValues: 8 << 20, Arrays: []ArrayRule{{JSON: "$..*", As: ArraysAsSet}}, Equal: []EqualRule{{Pattern: "x"}}}, 2000},
		{"a billion laughs", x, `<!DOCTYPE a [<!ENTITY b "&c;&c;&c;"><!ENTITY c "xxx">]><a>&b;</a>`, "<a>xxx</a>", KindTypeChanged, RuleConfig{}, 0},
		{"HTML nested 10,000 deep", h, nest(10000, "<div>", "1", "</div>"), nest(10000, "<div>", "2", "</div>"), KindNotFullyCompared, RuleConfig{}, 0},
		{"HTML, tags that end nothing", h, strings.Repeat("<b>", 20000) + strings.Repeat("</i>", n(1e6)), strings.Repeat("<b>", 20000) + strings.Repeat("</i>", n(1e6)) + "x", KindNotFullyCompared, big, 1500},
		{"HTML, less-than signs", h, strings.Repeat("<", n(4<<20)), strings.Repeat("<", n(4<<20)) + "a", KindChanged, RuleConfig{}, 300},
		{"HTML, elements that are not ended", h, strings.Repeat("<p><b>", n(5e5)), strings.Repeat("<p><b>", n(5e5)) + "x", KindNotFullyCompared, RuleConfig{}, 1500},
		{"protobuf nested 10,000 deep", pb, deepMessage(10000, "\x10\x01"), deepMessage(10000, "\x10\x02"), KindNotFullyCompared, RuleConfig{}, 0},
		{"protobuf, 10^6 fields", pb, strings.Repeat("\x08\x01", n(1e6)), strings.Repeat("\x08\x01", n(1e6)) + "\x10\x01", KindAdded, big, 500},
		{"protobuf, 10^6 groups", pb, strings.Repeat("\x0b", n(1e6)), strings.Repeat("\x0b", n(1e6)) + "\x01", KindChanged, RuleConfig{}, 0},
		{"protobuf that is none", pb, strings.Repeat("text ", n(20<<20)), strings.Repeat("test ", n(20<<20)), KindChanged, RuleConfig{}, 0},
		{"gRPC, 10^6 messages", grpc, strings.Repeat("\x00\x00\x00\x00\x02\x08\x01", n(1e6)), strings.Repeat("\x00\x00\x00\x00\x02\x08\x01", n(1e6)) + "\x00\x00\x00\x00\x00", KindNotFullyCompared, defaults, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := compile(t, tt.rules)
			ref, cand := answer(200, tt.ref, "Content-Type: "+tt.kind), answer(200, tt.cand, "Content-Type: "+tt.kind)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpuTime(t)
			got := r.Compare(get(), ref, cand, Input{})
			took := cpuTime(t) - start
			runtime.ReadMemStats(&after)
			last := &got.Differences[len(got.Differences)-1]
			if got.Outcome != Divergent || last.Kind != tt.want {
				t.Errorf("%v, last of %d differences: %.300s", got.Outcome, len(got.Differences), brief([]Difference{*last}))
			}
			if last.Kind == KindNotFullyCompared && last.Detail == "" {
				t.Error("it does not say why")
			}
			if len(got.Differences) > 102 {
				t.Errorf("%d differences", len(got.Differences))
			}
			mb := (after.TotalAlloc - before.TotalAlloc) >> 20
			if mb > max(tt.mb, 100) {
				t.Errorf("allocated %d MiB", mb)
			}
			if took > 10*time.Second {
				t.Errorf("took %v of the processor", took)
			}
			t.Logf("%v, %d MiB, %s %.100q", took, mb, last.Path, last.Detail)
		})
	}
	for _, coding := range []string{"br", "zstd"} {
		bomb := answer(200, pack(t, coding, strings.Repeat("0", 20<<20)), "Content-Encoding: "+coding)
		got := compile(t, RuleConfig{}).Compare(get(), bomb, answer(200, "1"), Input{})
		if d := got.Differences[len(got.Differences)-1]; d.Detail != "the reference: "+coding+" decodes to more than the limit" {
			t.Errorf("%s: %q", coding, brief(got.Differences))
		}
	}
}
