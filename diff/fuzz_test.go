package diff

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// checkResult asserts what holds for every result.
func checkResult(t *testing.T, r *Rules, req *exchange.Request, ref, cand *exchange.Response) *Result {
	t.Helper()
	got := r.Compare(req, ref, cand, Input{})
	divergent := false
	for i := range got.Differences {
		d := &got.Differences[i]
		divergent = divergent || !d.Ignored
		for _, v := range []Value{d.Reference, d.Candidate} {
			if len(v.Text) > 4<<10 || v.Size < int64(len(v.Text)) || v.Truncated != (v.Size > int64(len(v.Text))) || v.Kind == ValueNone && v != (Value{}) {
				t.Fatalf("value %+v of %+v", v, d)
			}
		}
		if d.Aspect == "" || d.Kind == "" {
			t.Fatalf("difference %+v", d)
		}
		if d.Kind == KindAdded && d.Reference.Kind != ValueNone || d.Kind == KindRemoved && d.Candidate.Kind != ValueNone {
			t.Fatalf("difference %+v", d)
		}
		if d.Aspect == AspectBody && strings.HasPrefix(d.Path, "$") && !strings.Contains(d.Path, cutMark) && utf8.ValidString(d.Path) {
			if _, err := parsePath(d.Path); err != nil {
				t.Fatalf("path %q: %+v", d.Path, *err)
			}
		}
		if len(Fingerprint("e", "r", d)) != 16 {
			t.Fatal("no fingerprint")
		}
	}
	if divergent != (got.Outcome == Divergent) && got.Outcome != NotComparable {
		t.Fatalf("%v with %q", got.Outcome, brief(got.Differences))
	}
	if self := r.Compare(req, cand, cand, Input{}); self.Outcome != Equal && self.Outcome != NotComparable {
		t.Fatalf("not equal to itself: %q", brief(self.Differences))
	}
	checkSymmetric(t, r, ref, cand)
	return got
}

// FuzzJSON: no panic, symmetric, and equal only where the oracle agrees.
func FuzzJSON(f *testing.F) {
	for _, s := range [][2]string{
		{`{"a":1,"b":[1,2,{"c":null}]}`, `{"b":[1,2.0,{"c":true}],"a":1e0}`},
		{`[1,2,3]`, `[3,2,1]`},
		{`{"a":1,"a":2}`, `{"a":2,"a":1}`},
		{`["\ud800"]`, "[\"\xff\"]"},
		{"\ufeff[]", `[`},
		{`[1e1000000000,-0]`, `[10e999999999,0]`},
		{`{"t":1,"x":{"t":[1]}}`, `{"x":{"t":[2]}}`},
		{strings.Repeat("[", 130) + strings.Repeat("]", 130), strings.Repeat("[", 130) + "1" + strings.Repeat("]", 130)},
	} {
		f.Add(s[0], s[1])
	}
	plain, err := Compile(RuleConfig{})
	if err != nil {
		f.Fatal(err)
	}
	ruled, err := Compile(RuleConfig{IgnoreJSON: []string{"$..t", "$.x[*].y", "$[0]"}, MaxDepth: 3, MaxDifferences: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 4<<10 || len(b) > 4<<10 {
			return
		}
		ref, cand := answer(200, a, jsonType), answer(200, b, jsonType)
		got := checkResult(t, plain, get(), ref, cand)
		checkResult(t, ruled, get(), ref, cand)
		if a == b {
			return
		}
		trim := func(s string) []byte { return []byte(strings.TrimPrefix(s, "\ufeff")) }
		okA, okB := json.Valid(trim(a)), json.Valid(trim(b))
		if got.Outcome == Equal && (!okA || !okB) {
			t.Fatalf("equal, but the oracle reads %v and %v", okA, okB)
		}
		if !okA || !okB || strings.Contains(a+b, "e") || strings.Contains(a+b, "E") {
			return // the oracle's numbers are exact only without large exponents
		}
		x, errX := oracleParse(trim(a))
		y, errY := oracleParse(trim(b))
		if errX != nil || errY != nil {
			return
		}
		same := oracleEqual(x, y)
		if got.Outcome == Equal && !same {
			t.Fatalf("equal, but not for the oracle")
		}
		// The oracle takes half surrogates and bytes that are no UTF-8 for
		// U+FFFD, and of names that stand twice the last.
		simple := utf8.ValidString(a+b) && !strings.Contains(a+b, `\u`) && !strings.Contains(a+b, "\ufffd") &&
			strings.HasPrefix(a, "\ufeff") == strings.HasPrefix(b, "\ufeff")
		if simple && same && got.Outcome != Equal {
			for _, d := range got.Differences {
				if d.Kind != KindNotFullyCompared {
					t.Fatalf("the oracle says equal: %q", brief(got.Differences))
				}
			}
		}
	})
}

// FuzzPath: no panic; what parses is compiled and walked.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"$", "$.a['b c'][0]..*", `$["\u00e4\ud83d\ude00"]`, "$..['a',1, *]", "$.a[?@.b]", "$[-1]", "$ .a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 1<<10 {
			return
		}
		segs, bad := parsePath(s)
		if bad != nil {
			if bad.offset < 0 || bad.offset > len(s) || bad.reason == "" {
				t.Fatalf("%+v", *bad)
			}
			return
		}
		r, err := Compile(RuleConfig{IgnoreJSON: []string{s}})
		if err != nil {
			t.Fatal(err)
		}
		r.Compare(get(), answer(200, `{"a":[1,{"b c":2}],"ä":{"a":1}}`, jsonType), answer(200, `{"a":[1,{"b c":3}],"ä":{"a":2}}`, jsonType), Input{})
		var st states
		st.reset(&r.json, nil, nil)
		var at place
		for _, seg := range segs { // the place that the path names itself
			sel := seg.selectors[len(seg.selectors)-1]
			if sel.filter != nil {
				return
			}
			if sel.named || sel.any {
				at = append(at, sel.name)
				st.name([]byte(sel.name), none, none)
			} else {
				at = append(at, sel.index)
				st.element(sel.index, none, none)
			}
		}
		if !matches(segs, at) || st.ignore() < 0 {
			t.Fatalf("%q does not match %v", s, at)
		}
		GeneralisePath(s)
	})
}

// FuzzHeaders: any fields on both sides.
func FuzzHeaders(f *testing.F) {
	f.Add("Date: 1\nSet-Cookie: a=b; Path=/; Expires=x", "set-cookie: a=c; path=/\nVary: a, \"b,c\"", "GET")
	f.Add("Location: http://a/b\nConnection: X\nX: 1", "Location: //c:80/b\nContent-Type: a/b; charset=x", "HEAD")
	f.Add("Content-Encoding: gzip\nETag: x", "Content-Encoding: br", "GET")
	r, err := Compile(RuleConfig{IgnoreHeaders: []string{"x-*", "via"}})
	if err != nil {
		f.Fatal(err)
	}
	bare, err := Compile(RuleConfig{NoDefaults: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b, method string) {
		if len(a) > 4<<10 || len(b) > 4<<10 {
			return
		}
		ref, cand := answer(200, "x", strings.Split(a, "\n")...), answer(200, "x", strings.Split(b, "\n")...)
		ref.Trailer, cand.Trailer = cand.Header, ref.Header
		req := get()
		req.Method = method
		checkResult(t, r, req, ref, cand)
		checkResult(t, bare, req, ref, cand)
		r.Compare(req, ref, cand, Input{CandidateAuthority: "c", ReferenceAuthority: "a:80"})
	})
}

// FuzzBodies: any bytes, codings and media types.
func FuzzBodies(f *testing.F) {
	gz := pack(f, "gzip", `{"a":1}`)
	f.Add([]byte(gz), []byte(`{"a":1}`), "gzip", "", "application/json", false)
	f.Add([]byte(gz[:12]), []byte(gz), "x-gzip", "gzip, deflate", "a/b+json; charset=x", false)
	f.Add([]byte(pack(f, "deflate", "x")), []byte(pack(f, "raw", "x")), "deflate", "deflate", "", true)
	r, err := Compile(RuleConfig{MaxDecoded: 1 << 16})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b []byte, codA, codB, mediaType string, cut bool) {
		if len(a) > 4<<10 || len(b) > 4<<10 {
			return
		}
		ref := answer(200, string(a), "Content-Encoding: "+codA, "Content-Type: "+mediaType)
		cand := answer(200, string(b), "Content-Encoding: "+codB, "Content-Type: "+mediaType)
		if cut {
			large(ref, len(a)/2, true)
		}
		checkResult(t, r, get(), ref, cand)
	})
}

// FuzzFingerprint: no path makes it fail, and what is generalised from a proper
// path stays.
func FuzzFingerprint(f *testing.F) {
	for _, s := range []string{"$.a[1]['b\\'c']", "$['", "$[", "$.", "set-cookie/a/b", "", "$…"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := GeneralisePath(s)
		if _, bad := parsePath(s); bad == nil && GeneralisePath(once) != once {
			t.Fatalf("%q, %q, %q", s, once, GeneralisePath(once))
		}
		Fingerprint("", "", &Difference{Aspect: AspectHeader, Path: s})
	})
}
