package diff

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func pack(t testing.TB, coding, s string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		w, _ = zstd.NewWriter(&b)
	case "raw":
		w, _ = flate.NewWriter(&b, 6)
	}
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestContentCodings(t *testing.T) {
	const doc, turned = `{"a":1,"b":[1,2,3]}`, `{"b":[1,2,3],"a":1}`
	gz := func(s string) string { return pack(t, "gzip", s) }
	ce := func(v string) string { return "Content-Encoding: " + v }
	// The header lines differ too; here only the body counts.
	tests := []struct {
		name       string
		refCoding  string
		ref        string
		candCoding string
		cand       string
		want       string // kind and detail of the body's difference, "" for none
	}{
		{"gzip and none", "gzip", gz(doc), "", doc, ""},
		{"none and x-gzip", "", doc, "X-GZip", gz(turned), ""},
		{"gzip and deflate", "gzip", gz(doc), "deflate", pack(t, "deflate", turned), ""},
		{"deflate without zlib", "deflate", pack(t, "raw", doc), "deflate", pack(t, "deflate", turned), ""},
		{"identity", "identity", doc, "", turned, ""},
		{"a chain", "gzip, deflate", pack(t, "deflate", gz(doc)), "gzip", gz(turned), ""},
		{"a chain over two lines", "gzip", gz(doc), "deflate\ngzip", gz(pack(t, "deflate", turned)), ""},
		{"two members", "gzip", gz(doc[:5]) + gz(doc[5:]), "", doc, ""},
		{"another value", "gzip", gz(doc), "gzip", gz(`{"a":2,"b":[1,2,3]}`), "changed"},
		{"nothing, coded as nothing", "gzip", gz(""), "gzip", "", ""},
		{"nothing against something", "gzip", gz(doc), "gzip", "", "removed"},
		{"equal bytes under another coding", "gzip", gz(doc), "", gz(doc), "type_changed the candidate is no JSON at byte 0"},
		{"equal bytes that are no gzip", "gzip", doc, "gzip", doc, ""},
		{"cut", "", doc, "gzip", gz(doc)[:20], "not_fully_compared the candidate: gzip is cut"},
		{"cut in the head", "", doc, "gzip", gz(doc)[:5], "not_fully_compared the candidate: gzip is cut"},
		{"cut in the sum", "", doc, "gzip", gz(doc)[:len(gz(doc))-4], "not_fully_compared the candidate: gzip is cut"},
		{"wrong sum", "", doc, "gzip", gz(doc)[:len(gz(doc))-8] + "12345678", "not_fully_compared the candidate: gzip is corrupt"},
		{"no gzip", "gzip", doc, "gzip", gz(doc), "not_fully_compared the reference: gzip is corrupt"},
		{"bytes behind gzip", "", doc, "gzip", gz(doc) + "more bytes here", "not_fully_compared the candidate: gzip is corrupt"},
		{"bytes behind deflate", "", doc, "deflate", pack(t, "deflate", doc) + "x", "not_fully_compared the candidate: deflate is corrupt"},
		{"deflate cut", "", doc, "deflate", pack(t, "deflate", doc)[:9], "not_fully_compared the candidate: deflate is cut"},
		{"br", "br", pack(t, "br", doc), "", turned, ""},
		{"br and zstd", "br", pack(t, "br", doc), "zstd", pack(t, "zstd", turned), ""},
		{"br cut", "", doc, "br", pack(t, "br", doc)[:9], "not_fully_compared the candidate: br is cut"},
		{"bytes behind br", "", doc, "br", pack(t, "br", doc) + "x", "not_fully_compared the candidate: br is corrupt"},
		{"no br", "br", "\xff\xff\xff", "", doc, "not_fully_compared the reference: br is corrupt"},
		{"zstd cut", "", doc, "zstd", pack(t, "zstd", doc)[:12], "not_fully_compared the candidate: zstd is cut"},
		{"bytes behind zstd", "", doc, "zstd", pack(t, "zstd", doc) + "x", "not_fully_compared the candidate: zstd is cut"},
		{"no zstd", "zstd", doc, "", doc, "not_fully_compared the reference: zstd is corrupt"},
		{"zstd with a window of 128 MiB", "", doc, "zstd", "\x28\xb5\x2f\xfd\x00\x88\x01\x00\x00", "not_fully_compared the candidate: zstd is corrupt"},
		{"compress, equal", "compress", "\x01\x02", "compress", "\x01\x02", ""},
		{"compress, not equal", "compress", "\x01\x02", "compress", "\x01\x03", "not_fully_compared the reference: content coding compress is not decoded"},
		{"unknown", "", doc, "rot13", "x", "not_fully_compared the candidate: content coding (unknown) is not decoded"},
		{"too many", "", doc, "gzip,gzip,gzip,gzip,gzip", gz(gz(gz(gz(gz(doc))))), "not_fully_compared the candidate: more content codings than the limit"},
		{"four", "", doc, "gzip,gzip,gzip,gzip", gz(gz(gz(gz(doc)))), ""},
		{"a bomb", "", doc, "gzip", gz(strings.Repeat("0", 1<<20+1)), "not_fully_compared the candidate: gzip decodes to more than the limit"},
		{"a bomb in a chain", "", doc, "gzip, gzip", gz(gz(strings.Repeat("0", 1<<20+1))), "not_fully_compared the candidate: gzip decodes to more than the limit"},
		{"as much as the limit", "", doc, "gzip", gz(`"` + strings.Repeat("0", 1<<20-2) + `"`), "type_changed"},
	}
	r := compile(t, RuleConfig{MaxDecoded: 1 << 20})
	for _, tt := range tests {
		// Twice: the second time with memory that was used before.
		for range 2 {
			ref, cand := answer(200, tt.ref, jsonType), answer(200, tt.cand, jsonType)
			for _, v := range strings.Fields(strings.ReplaceAll(tt.refCoding, ", ", ",")) {
				ref.Header = append(ref.Header, header(ce(v))...)
			}
			for _, v := range strings.Fields(strings.ReplaceAll(tt.candCoding, ", ", ",")) {
				cand.Header = append(cand.Header, header(ce(v))...)
			}
			var got string
			res := r.Compare(get(), ref, cand, Input{})
			for _, d := range res.Differences {
				switch {
				case d.Aspect == AspectBody:
					got = strings.TrimSpace(d.Kind + " " + d.Detail)
				case d.Path != "content-encoding":
					t.Errorf("%s: %+v", tt.name, d)
				case d.Ignored != !strings.HasPrefix(tt.want, KindNotFullyCompared):
					t.Errorf("%s: the header's difference is ignored: %v", tt.name, d.Ignored)
				}
			}
			if got != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			}
			if (tt.want == "") == (res.Outcome == Divergent) {
				t.Errorf("%s: outcome %v", tt.name, res.Outcome)
			}
		}
	}
}

func TestMediaTypes(t *testing.T) {
	r := compile(t, RuleConfig{IgnoreHeaders: []string{"content-type"}})
	for _, tt := range []struct {
		ref, cand string
		json      bool
	}{
		{"application/json", "application/json", true},
		{"application/json; charset=utf-8", "Application/JSON", true},
		{"application/problem+json", "application/vnd.api+JSON;v=1", true},
		{"text/json", "application/json", true},
		{`application/json; charset="utf-8`, "application/json", true}, // a bad parameter leaves the type
		{"application/json;", "application/json", true},
		{"application/json, text/html", "application/json", false},
		{"application/jsonp", "application/json", false},
		{"text/plain", "application/json", false},
		{"text/html", "text/html", false},
		{"", "", false},
		{"json", "json", false},
	} {
		var refType, candType []string
		if tt.ref != "" {
			refType, candType = []string{"Content-Type: " + tt.ref}, []string{"Content-Type: " + tt.cand}
		}
		got := r.Compare(get(), answer(200, `{"a":1,"b":2}`, refType...), answer(200, `{"b":2,"a":1}`, candType...), Input{})
		if (got.Outcome != Divergent) != tt.json {
			t.Errorf("%s and %s: %v %q", tt.ref, tt.cand, got.Outcome, brief(got.Differences))
		}
	}
}

func TestBytes(t *testing.T) {
	r := compile(t, RuleConfig{})
	long := strings.Repeat("0123456789", 100)
	expectDiffs(t, r.Compare(get(), answer(200, "ab"), answer(200, "ac"), Input{}), Divergent, "body changed ab|ac ;the first difference is at byte 1")
	expectDiffs(t, r.Compare(get(), answer(200, "ab"), answer(200, "abc"), Input{}), Divergent, "body changed ab|abc ;the first difference is at byte 2")
	expectDiffs(t, r.Compare(get(), answer(200, "ab"), answer(200, ""), Input{}), Divergent, "body removed ab|")
	got := r.Compare(get(), answer(200, long+"x"), answer(200, long+"y"), Input{})
	if d := got.Differences[0].Detail; d != "the first difference is at byte 1000" {
		t.Error(d)
	}
}

// large cuts an answer as a limit of the capture would.
func large(a *exchange.Response, keep int, digest bool) *exchange.Response {
	b := &a.Body
	if b.Digested = digest; digest {
		b.Digest = sha256.Sum256(b.Bytes)
	}
	b.Bytes, b.Truncated = b.Bytes[:keep], keep < len(b.Bytes)
	return a
}

func TestBodiesOverTheLimit(t *testing.T) {
	const doc = `{"a":1,"b":22}`
	lines := []string{jsonType, "Content-Length: 14"}
	coded := []string{jsonType, "Content-Length: 14", "Content-Encoding: gzip"}
	sumA, sumB := fmt.Sprintf("%x", sha256.Sum256([]byte(doc))), fmt.Sprintf("%x", sha256.Sum256([]byte(`{"a":1,"b":33}`)))
	r := compile(t, RuleConfig{})
	tests := []struct {
		name      string
		ref, cand *exchange.Response
		outcome   Outcome
		want      []string
	}{
		{"equal digests", large(answer(200, doc, lines...), 4, true), large(answer(200, doc, lines...), 4, true), Equal, nil},
		{"equal digests, one more ignored header", large(answer(200, doc, lines...), 4, true), large(answer(200, doc, jsonType, "Transfer-Encoding: chunked"), 4, true), Ignored,
			[]string{"~header removed content-length 14|", "~header added transfer-encoding |chunked"}},
		{"other digests", large(answer(200, doc, lines...), 4, true), large(answer(200, `{"a":1,"b":33}`, lines...), 4, true), Divergent, []string{"body digest " + sumA + "|" + sumB}},
		{"other lengths", large(answer(200, doc, lines...), 4, true), large(answer(200, doc+" ", jsonType, "Content-Length: 15"), 4, true), Divergent,
			[]string{"~header changed content-length 14|15", "body length 14|15"}},
		{"one side over the limit", answer(200, doc, lines...), large(answer(200, doc+" ", jsonType), 4, true), Divergent, []string{"~header removed content-length 14|", "body length 14|15"}},
		{"no digests", large(answer(200, doc, lines...), 4, false), large(answer(200, doc, lines...), 4, true), Divergent, []string{"body not_fully_compared 14|14 ;" + detailTruncated}},
		{"no digests, other beginnings", large(answer(200, "x"+doc[1:], lines...), 4, false), large(answer(200, doc, lines...), 4, false), Divergent,
			[]string{`body changed x"a"|{"a" ;the first difference is at byte 0`}},
		{"coded, equal digests", large(answer(200, doc, coded...), 4, true), large(answer(200, doc, coded...), 4, true), Equal, nil},
		{"coded, other digests", large(answer(200, doc, coded...), 4, true), large(answer(200, `{"a":1,"b":33}`, coded...), 4, true), Divergent,
			[]string{"body not_fully_compared 14|14 ;" + detailTruncated}},
		{"equal digests under another coding", large(answer(200, doc, coded...), 4, true), large(answer(200, doc, lines...), 4, true), Divergent,
			[]string{"header removed content-encoding gzip|", "body not_fully_compared 14|14 ;" + detailTruncated}},
		{"only listed", large(answer(200, doc, lines...), 0, true), large(answer(200, doc, lines...), 0, true), Equal, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { expectDiffs(t, r.Compare(get(), tt.ref, tt.cand, Input{}), tt.outcome, tt.want...) })
	}
}

func TestHeadHasNoBody(t *testing.T) {
	r := compile(t, RuleConfig{})
	head := get()
	head.Method = "HEAD"
	if got := r.Compare(head, answer(200, ""), answer(200, "garbage"), Input{}); got.Outcome != Equal {
		t.Errorf("%v", brief(got.Differences))
	}
	if got := r.Compare(get(), answer(304, ""), answer(204, ""), Input{}); len(got.Differences) != 1 || got.Differences[0].Aspect != AspectStatus {
		t.Errorf("%v", brief(got.Differences))
	}
}

// Whatever the coding, the content is what is compared.
func TestCodingsChangeNothing(t *testing.T) {
	r := compile(t, RuleConfig{IgnoreHeaders: []string{"content-encoding"}})
	coding := rapid.SampledFrom([]string{"", "gzip", "deflate", "br", "zstd"})
	rapid.Check(t, func(rt *rapid.T) {
		body := rapid.StringN(1, 200, -1).Draw(rt, "body")
		other := body
		if rapid.Bool().Draw(rt, "differs") {
			other += "x"
		}
		make := func(s, label string) *exchange.Response {
			a := answer(200, s)
			for range rapid.IntRange(0, 3).Draw(rt, label) {
				c := coding.Draw(rt, label)
				if c == "" {
					continue
				}
				s = pack(t, c, s)
				a.Header = append(a.Header, header("Content-Encoding: "+c)...)
			}
			a.Body = exchange.Body{Bytes: []byte(s), Size: int64(len(s))}
			return a
		}
		got := r.Compare(get(), make(body, "ref"), make(other, "cand"), Input{})
		if (got.Outcome == Divergent) != (body != other) {
			rt.Fatalf("%v %q", got.Outcome, brief(got.Differences))
		}
	})
}

// cpuTime is the processor time of the process so far: unlike the clock's it
// does not grow when others use the machine.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Hostile bodies end in bounded time and memory, and in a difference that says
// what was wrong. The bounds are wide: they tell linear from quadratic.
func TestHostileBodies(t *testing.T) {
	keys := func(n int, tail string) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range n {
			fmt.Fprintf(&b, `"k%d":0,`, i)
		}
		return b.String() + tail + "}"
	}
	twice := func(n int, v string) string {
		return "{" + strings.Repeat(`"a":1,`, n) + `"b":` + v + "}"
	}
	turn := func(n, step int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, ",%d", (i*step)%n)
		}
		return "[" + b.String()[1:] + "]"
	}
	// At each level the first element is large and differs at its very end, so
	// that looking at it again on each level would cost depth times size.
	nest := func(n, depth int, last string) string {
		return strings.Repeat("[", depth) + "[" + strings.Repeat("1 ,", n) + last + "]" + strings.Repeat(","+last+"]", depth)
	}
	many := func(n int, name, v string) *exchange.Response {
		a := answer(200, "")
		for i := range n {
			a.Header = append(a.Header, exchange.Field{Name: strings.Replace(name, "#", fmt.Sprint(i), 1), Value: v})
		}
		return a
	}
	attributes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, ";b%d", i)
		}
		return b.String()
	}
	// The race detector makes all this ten times as slow.
	n := func(n int) int { return n / raceScale }
	defaults := RuleConfig{MaxValues: n(1 << 20)}
	text := func(s string) *exchange.Response { return answer(200, s, jsonType) }
	coded := func(s string) *exchange.Response { return answer(200, s, jsonType, "Content-Encoding: gzip") }
	tests := []struct {
		name      string
		ref, cand *exchange.Response
		kind      string // of the last difference
		rules     RuleConfig
		mb        uint64 // allocated at most; 0 means 100
	}{
		{"100 MB", text(`"` + strings.Repeat("a", n(100<<20)) + `1"`), text(`"` + strings.Repeat("a", n(100<<20)) + `2"`), KindChanged, RuleConfig{}, 0},
		{"nested 10,000 deep", text(strings.Repeat("[", 10000) + "1" + strings.Repeat("]", 10000)), text(strings.Repeat("[", 10000) + "2" + strings.Repeat("]", 10000)), KindNotFullyCompared, RuleConfig{}, 0},
		{"nested 10,000 deep, objects", text(strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000)), text(strings.Repeat(`{"a":`, 10000) + "2" + strings.Repeat("}", 10000)), KindNotFullyCompared, RuleConfig{}, 0},
		{"open brackets only", text(strings.Repeat("[", n(4<<20))), text(strings.Repeat("[", n(4<<20)) + " "), KindChanged, RuleConfig{}, 0},
		{"10^6 keys", text(keys(n(1e6), `"x":1`)), text(keys(n(1e6), `"x":2`)), KindChanged, RuleConfig{MaxValues: 4 << 20}, 300},
		{"10^6 keys and the default limits", text(keys(n(1e6), `"x":1`)), text(keys(n(1e6), `"x":2`)), KindNotFullyCompared, defaults, 0},
		{"10^6 keys, another order", text(`{"x":1,` + keys(n(1e6), `"y":1`)[1:]), text(keys(n(1e6), `"y":1,"x":2`)), KindChanged, RuleConfig{MaxValues: 4 << 20}, 300},
		{"one name 10^6 times", text(twice(n(1e6), "1")), text(twice(n(1e6)+1, "1")), KindNotFullyCompared, RuleConfig{MaxValues: 4 << 20}, 300},
		{"one name 10^5 times, another order", text(twice(n(1e5), "1")), text(`{"b":2,` + twice(n(1e5), "3")[1:]), KindNotFullyCompared, RuleConfig{}, 0},
		{"too many values", text(strings.Repeat("[", 1) + strings.Repeat("0,", n(5<<20)) + "0]"), text("[" + strings.Repeat("0,", n(5<<20)) + "1]"), KindNotFullyCompared, defaults, 0},
		{"10^6 elements, another order", text(turn(n(1e6), 1)), text(turn(n(1e6), 7)), KindReordered, RuleConfig{MaxValues: 4 << 20}, 300},
		{"100 levels with much to look ahead at", text(nest(n(2e5), 100, "0")), text(nest(n(2e5), 100, "2 ")), KindNotFullyCompared, RuleConfig{}, 0},
		{"a bomb", coded(pack(t, "gzip", strings.Repeat("0", n(200<<20)))), coded(pack(t, "gzip", "1")), KindNotFullyCompared, RuleConfig{}, 0},
		{"a bomb within the limit", coded(pack(t, "gzip", "["+strings.Repeat("0,", n(7<<20))+"0]")), coded(pack(t, "gzip", "["+strings.Repeat("0,", n(7<<20))+"1]")), KindNotFullyCompared, defaults, 140},
		{"16,000 fields", many(n(16e3), "a#", "1"), many(n(16e3), "b#", "1"), KindNotFullyCompared, RuleConfig{}, 0},
		{"16,000 fields of one name", many(n(16e3), "a", "1"), many(n(16e3)+1, "a", "1"), KindChanged, RuleConfig{}, 0},
		{"16,000 cookies", many(n(16e3), "Set-Cookie", "a=1"), many(n(16e3), "Set-Cookie", "b=1"), KindNotFullyCompared, RuleConfig{}, 0},
		{"a cookie of 30,000 attributes", answer(200, "", "Set-Cookie: a=1"+attributes(n(3e4))), answer(200, "", "Set-Cookie: a=1"+attributes(n(3e4))+";c"), KindChanged, RuleConfig{}, 0},
		{"Connection names 30,000", many(n(1e4), "a#", "1"), answer(200, "", "Connection: "+strings.Repeat("b,", n(3e4))), KindNotFullyCompared, RuleConfig{}, 0},
		{"long number", text(strings.Repeat("1", n(1<<20)) + "e" + strings.Repeat("9", n(1<<20))), text(strings.Repeat("1", n(1<<20)) + "0e" + strings.Repeat("9", n(1<<20))), KindChanged, RuleConfig{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := compile(t, tt.rules)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := cpuTime(t)
			got := r.Compare(get(), tt.ref, tt.cand, Input{})
			took := cpuTime(t) - start
			runtime.ReadMemStats(&after)
			if got.Outcome != Divergent || got.Differences[len(got.Differences)-1].Kind != tt.kind {
				t.Errorf("%v, last of %d differences: %.300s", got.Outcome, len(got.Differences), brief(got.Differences[len(got.Differences)-1:]))
			}
			if len(got.Differences) > 101 {
				t.Errorf("%d differences", len(got.Differences))
			}
			// All that was ever allocated, some of it given back on the way.
			mb := (after.TotalAlloc - before.TotalAlloc) >> 20
			if mb > max(tt.mb, 100) {
				t.Errorf("allocated %d MiB", mb)
			}
			if took > 10*time.Second {
				t.Errorf("took %v of the processor", took)
			}
			t.Logf("%v, %d MiB, %.150q", took, mb, brief(got.Differences[len(got.Differences)-1:]))
		})
	}
}
