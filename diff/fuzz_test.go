package diff

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
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

// FuzzRules: bodies under rules of every kind are equal to themselves, symmetric
// in kind, and no rule hides what it does not speak of.
func FuzzRules(f *testing.F) {
	for _, s := range [][2]string{
		{`{"s":[1,2,2.4],"k":[{"id":1,"v":1},{"id":2}]}`, `{"s":[2,1.5,3],"k":[{"id":2},{"id":1,"v":2},7]}`},
		{`{"k":[{"id":1},{"id":1}],"t":"2026-11-25T10:00:00Z"}`, `{"k":[{"id":1}],"t":"2026-11-25T11:00:00+01:00"}`},
		{`[{"k":"ad","v":1},{"u":"http://a/b"}]`, `[{"u":"http://b/b"},{"k":"ad","v":2}]`},
		{`{"s":[[1,2],[2,3]],"a":"b-1"}`, `{"s":[[3,4],[1,1]],"a":"b-2"}`},
		{`{"s":[{"s":[1,2]},{"s":[9,1]}]}`, `{"s":[{"s":[10,2]},{"s":[1,3]}]}`},
	} {
		f.Add(s[0], s[1])
	}
	r, err := Compile(RuleConfig{
		IgnoreJSON: []string{"$..[?@.k == 'ad' && !(@.x > 1)].v", "$.s[?@.id]"}, IgnoreValues: []string{"b-[0-9]+"}, MaxDifferences: 1 << 20,
		Equal: []EqualRule{
			{JSON: "$..*", Tolerance: "1"}, {JSON: "$.s..*", Tolerance: "10%"}, {Type: TypeUUID}, {JSON: "$.t", Type: TypeTimestamp, Within: time.Second}, {Type: TypeURL},
		},
		Arrays: []ArrayRule{{JSON: "$.k", Key: "id"}, {JSON: "$..s", As: ArraysAsSet}, {JSON: "$.s.*", As: ArraysAsSet}},
	})
	if err != nil {
		f.Fatal(err)
	}
	plain, err := Compile(RuleConfig{MaxDifferences: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 2<<10 || len(b) > 2<<10 {
			return
		}
		ref, cand := answer(200, a, jsonType), answer(200, b, jsonType)
		got := checkResult(t, r, get(), ref, cand)
		// Without arrays, whose order may be free, a rule turns what differs into
		// what is ignored and never into equal.
		if got.Outcome == Equal && !strings.Contains(a, "[") && plain.Compare(get(), ref, cand, Input{}).Outcome != Equal {
			t.Fatal("a rule made differences vanish")
		}
	})
}

// FuzzEqualByRule: each type of rule is symmetric, and takes a text that it
// speaks of for equal to itself; texts that it takes for equal have one class.
func FuzzEqualByRule(f *testing.F) {
	for _, s := range [][2]string{
		{"9b2c2f1e-3c1e-4f0e-9a59-0a6b5f0b8f10", "{9b2c2f1e-3c1e-4f0e-9a59-0a6b5f0b8f10}"}, {"2026-11-25T10:00:00Z", "2026-11-25 10:00:00+01:00"},
		{"1795600000", "1795600000.123"}, {"Wed, 25 Nov 2026 10:00:00 GMT", "Wed Nov 25 10:00:00 2026"}, {"http://a/b", "HTTP://c/b"}, {"1e300", "-1e-300"}, {"b-1b-2", "b-b-"},
	} {
		f.Add(s[0], s[1], true)
	}
	r, err := Compile(RuleConfig{Equal: []EqualRule{
		{Type: TypeUUID}, {Type: TypeTimestamp}, {Type: TypeTimestamp, Within: time.Minute}, {Type: TypeURL}, {Tolerance: "5"}, {Tolerance: "50%"}, {Pattern: "b-[0-9]*"},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string, number bool) {
		kind := ValueString
		if tk := (tokens{b: []byte(a)}); number && len(a) > 0 && len(b) > 0 && isNumber([]byte(a), ValueString) && isNumber([]byte(b), ValueString) && tk.number() {
			kind = ValueNumber
		}
		for i := range r.equalities {
			e := &r.equalities[i]
			same := e.same([]byte(a), []byte(b), kind)
			if same != e.same([]byte(b), []byte(a), kind) {
				t.Fatalf("rule %d: %q and %q: not symmetric", i, a, b)
			}
			x, okA := e.class(r.seed, []byte(a), kind)
			y, okB := e.class(r.seed, []byte(b), kind)
			if okA && !e.same([]byte(a), []byte(a), kind) {
				t.Fatalf("rule %d: %q is not equal to itself", i, a)
			}
			if same && a != b && okA && okB && x != y {
				t.Fatalf("rule %d: %q and %q are equal and of two classes", i, a, b)
			}
		}
	})
}

// FuzzFilter: what is read as a path with a filter can be asked of any value.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"@.a == 'b'", "!(@.a < 1.5e3) && @['x'][0]", "null != @ || @.y >= \"\\u00e4\"", "((@))", "@.a == -0"} {
		f.Add(s, `{"a":"b","x":[{"y":1}]}`)
	}
	f.Fuzz(func(t *testing.T, expr, value string) {
		segs, bad := parsePath("$[?" + expr + "]")
		if bad != nil || len(segs) != 1 || len(segs[0].selectors) != 1 || segs[0].selectors[0].filter == nil {
			return
		}
		var tk tokens
		var tr tree
		tk.reset([]byte(value))
		tr.begin([]byte(value))
		if got, _ := tr.grow(&tk, 50, 1000, noLimit); got != grownWhole {
			return
		}
		not, bad := parsePath("$[?!(" + expr + ")]")
		if bad != nil {
			if bad.reason != "the filter is nested too deep" {
				t.Fatalf("%q is read, its negation is not: %+v", expr, *bad)
			}
			return
		}
		for i := range tr.nodes {
			if segs[0].selectors[0].filter.holds(&tr, i) == not[0].selectors[0].filter.holds(&tr, i) {
				t.Fatalf("%q and its negation", expr)
			}
		}
	})
}
