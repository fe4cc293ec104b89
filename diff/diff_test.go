package diff

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func compile(t testing.TB, c RuleConfig) *Rules {
	t.Helper()
	r, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// header makes fields of "Name: value" lines.
func header(lines ...string) exchange.Header {
	var h exchange.Header
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ":")
		h = append(h, exchange.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	return h
}

func answer(status int, body string, lines ...string) *exchange.Response {
	return &exchange.Response{Status: status, Header: header(lines...), Body: exchange.Body{Bytes: []byte(body), Size: int64(len(body))}}
}

func get(lines ...string) *exchange.Request {
	return &exchange.Request{Method: "GET", Target: "/x", Host: "shop.example", Header: header(lines...)}
}

const jsonType = "Content-Type: application/json"

// brief writes differences as "aspect kind path ref|cand", with "~" before
// what is ignored and the detail behind a semicolon.
func brief(ds []Difference) []string {
	var out []string
	for _, d := range ds {
		s := strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Aspect, d.Kind, d.Path)) + " " + d.Reference.Text + "|" + d.Candidate.Text
		if d.Ignored {
			s = "~" + s
		}
		if d.Detail != "" {
			s += " ;" + d.Detail
		}
		out = append(out, s)
	}
	return out
}

func expectDiffs(t *testing.T, got *Result, outcome Outcome, want ...string) {
	t.Helper()
	if got.Outcome != outcome {
		t.Errorf("outcome %v, want %v", got.Outcome, outcome)
	}
	if b := brief(got.Differences); !slices.Equal(b, want) {
		t.Errorf("differences\n  %s\nwant\n  %s", strings.Join(b, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestNotComparable(t *testing.T) {
	at := func(status int, last int64) *exchange.Response {
		a := answer(status, "")
		a.LastByte = last
		return a
	}
	timed := get()
	timed.LastByte = 5e9
	tests := []struct {
		name      string
		req       *exchange.Request
		ref, cand *exchange.Response
		in        Input
		outcome   Outcome
		why       string
	}{
		{"429", get(), answer(429, ""), answer(200, ""), Input{}, NotComparable, WhyReferenceFailed},
		{"502", get(), answer(502, ""), answer(200, ""), Input{}, NotComparable, WhyReferenceFailed},
		{"503 on both", get(), answer(503, ""), answer(503, ""), Input{}, NotComparable, WhyReferenceFailed},
		{"504 and the candidate failed", get(), answer(504, ""), nil, Input{CandidateError: "timeout"}, NotComparable, WhyReferenceFailed},
		{"500 is an answer", get(), answer(500, ""), answer(500, ""), Input{}, Equal, ""},
		{"candidate 503", get(), answer(200, ""), answer(503, ""), Input{}, Divergent, ""},
		{"30 s", timed, at(200, 35e9), answer(200, ""), Input{}, Equal, ""},
		{"over 30 s", timed, at(200, 35e9+1), answer(200, ""), Input{}, NotComparable, WhyReferenceSlow},
		{"over 30 s and the candidate failed", timed, at(200, 36e9), nil, Input{CandidateError: "timeout"}, NotComparable, WhyReferenceSlow},
		{"no time known", get(), at(200, 36e9), answer(200, ""), Input{}, Equal, ""},
		{"stale", get(), answer(200, ""), answer(200, ""), Input{Stale: true}, NotComparable, WhyStale},
		{"stale and the candidate failed", get(), answer(200, ""), nil, Input{Stale: true, CandidateError: "connect"}, Divergent, WhyFailed},
		{"failed", get(), answer(200, ""), nil, Input{CandidateError: "connect"}, Divergent, WhyFailed},
		{"failed within the body", get(), answer(200, ""), answer(200, ""), Input{CandidateError: "body"}, Divergent, WhyFailed},
		{"no candidate", get(), answer(200, ""), nil, Input{}, Divergent, WhyFailed},
		{"304 by the reference", get(`If-None-Match: "a"`), answer(304, ""), answer(200, ""), Input{}, NotComparable, WhyValidator},
		{"304 by the candidate", get("If-Modified-Since: x"), answer(200, ""), answer(304, ""), Input{}, NotComparable, WhyValidator},
		{"304 on both", get(`If-None-Match: "a"`), answer(304, ""), answer(304, ""), Input{}, Equal, ""},
		{"304 without a validator", get(), answer(304, ""), answer(200, ""), Input{}, Divergent, ""},
		{"304 and an error", get(`If-None-Match: "a"`), answer(304, ""), answer(500, ""), Input{}, Divergent, ""},
		{"304 and a part", get(`If-None-Match: "a"`, "Range: bytes=0-1"), answer(206, ""), answer(304, ""), Input{}, NotComparable, WhyValidator},
		{"206 by the candidate", get("Range: bytes=0-1"), answer(200, ""), answer(206, ""), Input{}, NotComparable, WhyValidator},
		{"206 on both", get("Range: bytes=0-1"), answer(206, ""), answer(206, ""), Input{}, Equal, ""},
		{"416 by the reference", get("Range: bytes=9-", "If-Range: x"), answer(416, ""), answer(200, ""), Input{}, NotComparable, WhyValidator},
		{"416 and 206", get("Range: bytes=9-"), answer(416, ""), answer(206, ""), Input{}, Divergent, ""},
		{"206 without a range", get(), answer(206, ""), answer(200, ""), Input{}, Divergent, ""},
	}
	r := compile(t, RuleConfig{})
	for _, tt := range tests {
		got := r.Compare(tt.req, tt.ref, tt.cand, tt.in)
		if got.Outcome != tt.outcome || got.Why != tt.why {
			t.Errorf("%s: %v %q, want %v %q", tt.name, got.Outcome, got.Why, tt.outcome, tt.why)
		}
		if got.Outcome != Equal && got.Why == "" && len(got.Differences) == 0 {
			t.Errorf("%s: no difference is named", tt.name)
		}
	}
	got := r.Compare(get(), answer(200, "x"), nil, Input{CandidateError: "timeout"})
	expectDiffs(t, got, Divergent, "candidate error |timeout")
	got = r.Compare(get(), answer(200, "x"), answer(200, "y"), Input{Stale: true})
	expectDiffs(t, got, NotComparable, "body changed x|y ;the first difference is at byte 0")
	if got := r.Compare(get(), nil, answer(200, ""), Input{}); got.Outcome != NotComparable || got.Why != WhyReferenceFailed {
		t.Errorf("no reference: %v %q", got.Outcome, got.Why)
	}
}

// Every reason that Compare gives stands in Reasons, so that counters show it
// from zero on.
func TestReasons(t *testing.T) {
	for o := range NumOutcomes {
		words := Reasons(o)
		if len(words) == 0 || o.String() == "" {
			t.Errorf("outcome %d has no word or reason", o)
		}
		if slices.Contains(words, "") != (o != NotComparable) {
			t.Errorf("%v: reasons %q", o, words)
		}
	}
}

func TestStatus(t *testing.T) {
	r := compile(t, RuleConfig{})
	expectDiffs(t, r.Compare(get(), answer(200, ""), answer(404, ""), Input{}), Divergent, "status changed 200|404")
}

func TestOrderOfAspects(t *testing.T) {
	ref, cand := answer(200, "a", "X: 1", "A: 1"), answer(201, "b", "X: 2", "A: 2", "Date: x")
	ref.Trailer, cand.Trailer = header("T: 1"), header("T: 2")
	expectDiffs(t, compile(t, RuleConfig{}).Compare(get(), ref, cand, Input{}), Divergent,
		"status changed 200|201", "header changed a 1|2", "~header added date |x", "header changed x 1|2",
		"body changed a|b ;the first difference is at byte 0", "trailer changed t 1|2")
}

func TestCompileErrors(t *testing.T) {
	_, err := Compile(RuleConfig{IgnoreHeaders: []string{"ok", "x-*-y", "", "a b"}, IgnoreJSON: []string{"$.a", "$.a[", "a"}})
	var first *RuleError
	if !errors.As(err, &first) || first.Path != "ignore.headers[1]" || first.Offset != 2 || first.Rule != "x-*-y" {
		t.Errorf("first error %+v", first)
	}
	want := `ignore.headers[1]: "x-*-y" at offset 2: a * stands at the end only
ignore.headers[2]: the name is empty
ignore.headers[3]: "a b" at offset 1: no character of a field name
ignore.json[1]: "$.a[" at offset 4: the bracket is not closed
ignore.json[2]: "a" at offset 0: a path begins with $`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	for _, c := range []RuleConfig{
		{MaxDepth: -1}, {MaxDepth: 10_001}, {MaxDifferences: -1}, {MaxDecoded: -1}, {MaxDecoded: 1<<30 + 1}, {MaxValues: -1}, {MaxValue: -1},
	} {
		if _, err := Compile(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// Limits end in a difference that says so, never in equal.
func TestLimits(t *testing.T) {
	many := func(v int) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range 200 {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `"k%03d":%d`, i, v)
		}
		return b.String() + "}"
	}
	r := compile(t, RuleConfig{})
	got := r.Compare(get(), answer(200, many(1), jsonType), answer(200, many(2), jsonType), Input{})
	if n := len(got.Differences); n != 101 || got.Differences[99].Path != "$.k099" {
		t.Fatalf("%d differences", n)
	}
	if last := got.Differences[100]; last.Kind != KindNotFullyCompared || last.Detail != detailCount || last.Aspect != AspectBody {
		t.Errorf("last difference %+v", last)
	}

	// Ignored ones are bounded too, and do not hide the one that is not.
	r = compile(t, RuleConfig{IgnoreJSON: []string{"$.*"}})
	got = r.Compare(get(), answer(200, `[`+many(1)+`,`+many(1)+`,1]`, jsonType), answer(200, `[`+many(2)+`,`+many(2)+`,2]`, jsonType), Input{})
	if got.Outcome != Ignored || len(got.Differences) != 3 {
		t.Errorf("%v with %d differences", got.Outcome, len(got.Differences))
	}
	r = compile(t, RuleConfig{IgnoreJSON: []string{"$.a.*"}, MaxDifferences: 5})
	got = r.Compare(get(), answer(200, `{"a":`+many(1)+`,"z":1}`, jsonType), answer(200, `{"a":`+many(2)+`,"z":2}`, jsonType), Input{})
	if n := len(got.Differences); got.Outcome != Divergent || n != 6 || got.Differences[5].Path != "$.z" {
		t.Errorf("%v with %d differences", got.Outcome, n)
	}

	// Depth: what lies deeper is compared token by token, and if that does
	// not settle it, it is said.
	r = compile(t, RuleConfig{MaxDepth: 2})
	ref := answer(200, `{"a":[{"b":1,"c":2}],"d":1}`, jsonType)
	if got := r.Compare(get(), ref, answer(200, `{"d":1,"a":[{"b":1.0, "c":2}]}`, jsonType), Input{}); got.Outcome != Equal {
		t.Errorf("%v %v", got.Outcome, brief(got.Differences))
	}
	expectDiffs(t, r.Compare(get(), ref, answer(200, `{"a":[{"c":2,"b":1}],"d":2}`, jsonType), Input{}), Divergent,
		`body not_fully_compared $.a[0] {"b":1,"c":2}|{"c":2,"b":1} ;nested deeper than the limit`, "body changed $.d 1|2")
	expectDiffs(t, compile(t, RuleConfig{MaxDepth: 3}).Compare(get(), ref, answer(200, `{"a":[{"c":2,"b":1}],"d":2}`, jsonType), Input{}), Divergent,
		"body changed $.d 1|2")

	r = compile(t, RuleConfig{MaxValues: 3})
	expectDiffs(t, r.Compare(get(), answer(200, `[1,2]`, jsonType), answer(200, `[1,3]`, jsonType), Input{}), Divergent, "body changed $[1] 2|3")
	expectDiffs(t, r.Compare(get(), answer(200, `[1,2,3]`, jsonType), answer(200, `[1,3]`, jsonType), Input{}), Divergent,
		`body not_fully_compared [1,2,3]|[1,3] ;more values than the limit`)
}

func TestValuesAreBounded(t *testing.T) {
	r := compile(t, RuleConfig{MaxValue: 8})
	v := r.Compare(get(), answer(200, `"0123456789"`, jsonType), answer(200, `"012345ä789"`, jsonType), Input{}).Differences[0]
	if want := (Value{Kind: ValueString, Text: "23456789", Size: 10, Offset: 2, Truncated: true}); v.Reference != want {
		t.Errorf("%+v", v.Reference)
	}
	if v.Candidate.Text != "345ä789" || v.Candidate.Offset != 3 || !v.Candidate.Truncated {
		t.Errorf("%+v", v.Candidate)
	}
	// A string's piece is of what it stands for, and shows where it differs.
	v = r.Compare(get(), answer(200, `"`+strings.Repeat(`\u0061`, 100)+`b`+strings.Repeat("c", 100)+`"`, jsonType), answer(200, `"`+strings.Repeat("a", 100)+`x"`, jsonType), Input{}).Differences[0]
	if v.Reference.Text != "aabccccc" || v.Reference.Offset != 98 || v.Reference.Size != 201 || v.Candidate.Text != "aaaaaaax" || v.Candidate.Offset != 93 || v.Candidate.Kind != ValueString {
		t.Errorf("%+v", v)
	}
	v = compile(t, RuleConfig{MaxValue: 8, MaxValues: 3}).Compare(get(), answer(200, `[1,1,1,1,1,1]`, jsonType), answer(200, `[1,1,1,1,1,2]`, jsonType), Input{}).Differences[0]
	if v.Kind != KindNotFullyCompared || v.Reference.Text != "1,1,1,1]" || v.Candidate.Text != "1,1,1,2]" {
		t.Errorf("%+v", v)
	}
	v = r.Compare(get(), answer(200, `"0123456é"`, jsonType), answer(200, `"\u00e4"`, jsonType), Input{}).Differences[0]
	if v.Reference.Text != "0123456" || v.Candidate.Text != "ä" || v.Candidate.Size != 2 {
		t.Errorf("%+v", v)
	}
	// Bytes: a piece around the first difference.
	v = r.Compare(get(), answer(200, strings.Repeat("a", 100)+"b"+strings.Repeat("c", 100)), answer(200, strings.Repeat("a", 100)+"x"), Input{}).Differences[0]
	if v.Reference.Text != "aabccccc" || v.Reference.Offset != 98 || v.Reference.Size != 201 || !v.Reference.Truncated {
		t.Errorf("%+v", v.Reference)
	}
	if v.Candidate.Text != "aaaaaaax" || v.Candidate.Offset != 93 {
		t.Errorf("%+v", v.Candidate)
	}
	v = r.Compare(get(), answer(200, "", "X: 0123456789"), answer(200, "", "X: a, b, c, d, e, f, g", "X: h"), Input{}).Differences[0]
	if v.Reference.Text != "01234567" || v.Reference.Size != 10 || v.Candidate.Text != "a, b, c," || v.Candidate.Size != 22 || !v.Candidate.Truncated {
		t.Errorf("%+v", v)
	}
}

// An equal pair costs no memory, and its Result is shared.
func TestEqualAllocatesNothing(t *testing.T) {
	r := compile(t, RuleConfig{})
	body := strings.Repeat("x", 4096)
	for _, tt := range []struct {
		name      string
		ref, cand *exchange.Response
		pool      bool
	}{
		{"the same bytes", answer(200, body, jsonType, "A: b"), answer(200, body, jsonType, "a: b"), false},
		{"fields in another order", answer(200, body, jsonType, "A: b"), answer(200, body, "a: b", jsonType), true},
		{"JSON in another order", answer(200, `{"a":1,"b":[1,2.0,{"c":"x"}]}`, jsonType), answer(200, `{"b": [1, 2, {"c": "\u0078"}], "a": 1}`, jsonType), true},
	} {
		if tt.pool && raceScale > 1 {
			continue // its pools forget on purpose
		}
		req := get()
		if n := testing.AllocsPerRun(100, func() {
			if r.Compare(req, tt.ref, tt.cand, Input{}).Outcome != Equal {
				t.Error("not equal")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

// Differences in headers cost the memory of the result and nothing else: one piece
// for one, a list more for several.
func TestDifferencesAllocateTheResult(t *testing.T) {
	if raceScale > 1 {
		return // its pools forget on purpose
	}
	r := compile(t, RuleConfig{})
	ref, req := answer(200, "x", "Age: 1", "Content-Type: a/b", "Vary: a"), get()
	for want, cand := range map[float64]*exchange.Response{
		1: answer(200, "x", "Age: 1", "Content-Type: a/b", "Vary: b"),
		2: answer(200, "x", "Age: 2", "Content-Type: a/b", "Vary: b"),
	} {
		res := r.Compare(req, ref, cand, Input{})
		if len(res.Differences) != int(want) {
			t.Fatalf("%d differences, want %v", len(res.Differences), want)
		}
		if n := testing.AllocsPerRun(100, func() { r.Compare(req, ref, cand, Input{}) }); n > want {
			t.Errorf("%v differences: %v allocations", want, n)
		}
	}
}

// Rules are shared by goroutines, and two that were compiled apart say the
// same: no result depends on memory that was used before, or on chance.
func TestRulesAreShared(t *testing.T) {
	pairs := [][2]*exchange.Response{
		{answer(200, `{"a":[1,2,3,4],"b":{"c":1,"d":2}}`, jsonType, "Date: 1"), answer(200, `{"b":{"d":3,"c":1},"a":[4,3,2,1]}`, jsonType, "Date: 2")},
		{answer(200, pack(t, "gzip", `{"a":1}`), jsonType, "Content-Encoding: gzip"), answer(200, `{"a":2}`, jsonType)},
		{answer(200, "x", "Set-Cookie: a=1"), answer(404, "y", "Set-Cookie: b=1")},
		{answer(200, string(document(20<<10, false)), jsonType), answer(200, string(document(20<<10, true)), jsonType)},
		{answer(200, `[{"id":1},{"id":2}]`, jsonType), answer(200, `[`, jsonType)},
	}
	c := RuleConfig{IgnoreJSON: []string{"$..c"}, IgnoreHeaders: []string{"x-*"}}
	apart := compile(t, c)
	var want []string
	for _, p := range pairs {
		res := apart.Compare(get(), p[0], p[1], Input{})
		want = append(want, fmt.Sprint(res.Outcome, brief(res.Differences)))
	}
	r := compile(t, c)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				k := (g + i) % len(pairs)
				res := r.Compare(get(), pairs[k][0], pairs[k][1], Input{})
				if got := fmt.Sprint(res.Outcome, brief(res.Differences)); got != want[k] {
					t.Errorf("pair %d: %s, want %s", k, got, want[k])
					return
				}
			}
		})
	}
	wg.Wait()
}

// Details hold fixed words and numbers only: nothing of the answers may pass
// by the redaction that paths and values get.
func TestDetailsHoldNothingOfTheAnswers(t *testing.T) {
	const secret = "s3cr3t"
	ref := []*exchange.Response{
		answer(200, `{"`+secret+`":1,"`+secret+`":2}`, jsonType), answer(200, secret, jsonType), answer(200, secret, "Content-Encoding: "+secret),
		answer(200, secret+"1", "Content-Encoding: gzip"), answer(200, secret, "X: "+secret), answer(200, `{"a":"`+secret+`"}`, jsonType),
	}
	r := compile(t, RuleConfig{})
	n := 0
	for _, a := range ref {
		for _, b := range ref {
			for _, d := range r.Compare(get(), a, b, Input{}).Differences {
				if strings.Contains(d.Detail, secret) {
					t.Errorf("detail %q", d.Detail)
				}
				if d.Detail != "" {
					n++
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d details were looked at", n)
	}
}
