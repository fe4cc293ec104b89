package diff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func TestJSON(t *testing.T) {
	d := func(lines ...string) []string { return lines }
	deep := func(n int, in string) string { return strings.Repeat("[", n) + in + strings.Repeat("]", n) }
	tests := []struct {
		name      string
		ref, cand string
		outcome   Outcome
		want      []string
	}{
		{"white space", `{"a":1}`, "{ \"a\" :\n\t1 }\r\n", Equal, nil},
		{"member order", `{"a":1,"b":{"c":2,"d":3}}`, `{"b":{"d":3,"c":2},"a":1}`, Equal, nil},
		{"changed", `{"a":1,"b":"x"}`, `{"a":2,"b":"y"}`, Divergent, d("body changed $.a 1|2", "body changed $.b x|y")},
		{"changed to another case of bool", `[true]`, `[false]`, Divergent, d("body changed $[0] true|false")},
		{"type changed", `{"a":1}`, `{"a":"1"}`, Divergent, d("body type_changed $.a 1|1")},
		{"null", `{"a":null}`, `{"a":0}`, Divergent, d("body type_changed $.a null|0")},
		{"null and none", `{"a":null}`, `{}`, Divergent, d("body removed $.a null|")},
		{"added and removed", `{"a":1,"b":2}`, `{"b":2,"c":[1]}`, Divergent, d("body removed $.a 1|", "body added $.c |[1]")},
		{"the root", `1`, `"a"`, Divergent, d("body type_changed $ 1|a")},

		{"1 = 1.0 = 1e0", `[1,1,10,1000,0.5,0,0.0]`, `[1.0,1e0,1E+1,1.000e3,5e-1,-0,0e9]`, Equal, nil},
		{"big integers", `123456789012345678901`, `123456789012345678902`, Divergent, d("body changed $ 123456789012345678901|123456789012345678902")},
		{"beyond 2^53", `9007199254740993`, `9007199254740992`, Divergent, d("body changed $ 9007199254740993|9007199254740992")},
		{"huge exponents", `[1e1000000000,1e99999999999999999999,1e-99999999999999999999,0e99999999999999999999]`,
			`[10e999999999,10e99999999999999999998,0.1e-99999999999999999998,0]`, Equal, nil},
		{"huge exponents differ", `[1e99999999999999999999]`, `[1e99999999999999999998]`, Divergent, d("body changed $[0] 1e99999999999999999999|1e99999999999999999998")},
		{"sign", `1`, `-1`, Divergent, d("body changed $ 1|-1")},

		{"escapes", `["\u00e4\n\/\"","\ud83d\ude00"]`, `["ä\u000a/\u0022","😀"]`, Equal, nil},
		{"escaped names", `{"\u0061":1,"b":2}`, `{"b":2,"a":1}`, Equal, nil},
		{"lone surrogate is no U+FFFD", `["\ud800"]`, `["\ufffd"]`, Divergent, d(`body changed $[0] \ud800|` + "\ufffd")},
		{"lone surrogates are equal", `["\ud800\u0041"]`, `["\uD800A"]`, Equal, nil},
		{"surrogates the wrong way round", `["\ude00\ud83d"]`, `["\ud83d\ude00"]`, Divergent, d(`body changed $[0] \ude00\ud83d|😀`)},
		{"no UTF-8", "[\"\xff\"]", `["\ufffd"]`, Divergent, d("body changed $[0] \xff|\ufffd")},
		{"no UTF-8 on both sides", "[\"\xff\\n\"]", "[ \"\xff\\u000a\"]", Equal, nil},
		{"latin-1 is not its code point", "[\"\xe4\"]", `["\u00e4"]`, Divergent, d("body changed $[0] \xe4|ä")},

		{"paths", `{"a b":{"it's":1,"\n\u0001\\":[{"ä":1,"9":1,"":1}]}}`, `{"a b":{"it's":2,"\n\u0001\\":[{"ä":2,"9":2,"":2}]}}`, Divergent, d(
			`body changed $['a b']['it\'s'] 1|2`, `body changed $['a b']['\n\u0001\\'][0].ä 1|2`,
			`body changed $['a b']['\n\u0001\\'][0]['9'] 1|2`, `body changed $['a b']['\n\u0001\\'][0][''] 1|2`)},

		{"array by index", `[1,2,3]`, `[1,5,3]`, Divergent, d("body changed $[1] 2|5")},
		{"element left out in front", `[{"id":1},{"id":2},{"id":3}]`, `[{"id":2},{"id":3}]`, Divergent, d(`body removed $[0] {"id":1}|`)},
		{"element put in", `[1,2]`, `[1,9,8,2]`, Divergent, d("body added $[1] |9", "body added $[2] |8")},
		{"element put in, others spelled differently", `[{"a":1,"b":1},{"a":2,"b":2}]`, `[7,{"b":1.0,"a":1},{"b":2.0,"a":2}]`, Divergent, d("body added $[0] |7")},
		{"elements that differ in their second member", `[{"a":1,"b":1},{"a":2,"b":2}]`, `[{"a":1.0,"b":3},{"a":2.0,"b":4}]`, Divergent, d("body changed $[0].b 1|3", "body changed $[1].b 2|4")},
		{"longer and changed", `[1,2]`, `[3,4,5]`, Divergent, d("body changed $[0] 1|3", "body changed $[1] 2|4", "body added $[2] |5")},
		{"reordered", `{"a":[1,2,3,4]}`, `{"a":[4,3,2,1.0]}`, Divergent, d("body reordered $.a [1,2,3,4]|[4,3,2,1.0]")},
		{"two swapped", `[0,1,2,9]`, `[0,2,1,9]`, Divergent, d("body reordered $ [0,1,2,9]|[0,2,1,9]")},
		{"not the same elements", `[[1,2],[3]]`, `[[3],[2,1]]`, Divergent, d("body changed $[0][0] 1|3", "body removed $[0][1] 2|", "body changed $[1][0] 3|2", "body added $[1][1] |1")},
		{"moved back", `[1,2,3,4]`, `[2,3,4,1]`, Divergent, d("body moved $[0] 1|1 ;to index 3")},
		{"moved to the front", `[0,1,2,3]`, `[0,{},1,2,3]`, Divergent, d("body added $[1] |{}")},
		{"moved forward", `[0,1,2,{"x":1}]`, `[0,{"x":1},1,2]`, Divergent, d(`body moved $[3] {"x":1}|{"x":1} ;to index 1`)},
		{"empty arrays and objects", `[[],{}]`, `[{},[]]`, Divergent, d("body reordered $ [[],{}]|[{},[]]")},

		{"the same name twice on both sides", `{"a":1,"a":2,"b":3}`, `{"b":3,"a":1.0,"a":2}`, Equal, nil},
		{"the same name twice in another order", `{"a":1,"a":2}`, `{"a":2,"a":1}`, Divergent,
			d("body not_fully_compared $.a 1|2 ;the name stands more than once in its object")},
		{"the same name twice on one side", `{"a":1,"a":2}`, `{"a":2}`, Divergent, d("body not_fully_compared $.a 1|2 ;the name stands more than once in its object")},
		{"the same name twice, by an escape", `{"a":2}`, `{"a":2,"\u0061":2}`, Divergent, d("body not_fully_compared $.a 2|2 ;the name stands more than once in its object")},

		{"a byte order mark on one side", "\ufeff[1]", `[1]`, Divergent, d("body removed byte_order_mark \ufeff|")},
		{"a byte order mark on the other side", `[1]`, "\ufeff[2]", Divergent, d("body added byte_order_mark |\ufeff", "body changed $[0] 1|2")},
		{"a byte order mark on both", "\ufeff[1]", "\ufeff[1.0]", Equal, nil},
		{"the candidate is no JSON", `[1]`, `[1,]`, Divergent, d("body type_changed $ [1]|[1,] ;the candidate is no JSON at byte 3")},
		{"the reference is no JSON", `<html>`, `{}`, Divergent, d("body type_changed $ <html>|{} ;the reference is no JSON at byte 0")},
		{"neither is JSON", `[1,]`, "\ufeff[1}", Divergent, d("body added byte_order_mark |\ufeff",
			"body changed [1,]|\ufeff[1} ;no JSON: the reference at byte 3, the candidate at byte 5; the first difference is at byte 0")},
		{"the reference with a mark is no JSON", "\ufeff[1}", "[1]", Divergent, d("body removed byte_order_mark \ufeff|",
			"body type_changed $ \ufeff[1}|[1] ;the reference is no JSON at byte 5")},
		{"two values", `1`, `1 1`, Divergent, d("body type_changed $ 1|1 1 ;the candidate is no JSON at byte 2")},
		{"cut", `{"a":[1`, `{"a":[1]}`, Divergent, d(`body type_changed $ {"a":[1|{"a":[1]} ;the reference is no JSON at byte 7`)},
		{"empty", ``, `{}`, Divergent, d("body added |{}")},
		{"emptied", `{}`, ``, Divergent, d("body removed {}|")},

		{"deep and equal", deep(5000, "1"), deep(5000, " 1.0"), Equal, nil},
		{"as deep as the limit", deep(128, "1"), deep(128, "2"), Divergent, d("body changed $" + strings.Repeat("[0]", 128) + " 1|2")},
		{"one deeper", deep(129, "1"), deep(129, "2"), Divergent, d("body not_fully_compared $" + strings.Repeat("[0]", 128) + " [1]|[2] ;nested deeper than the limit")},
	}
	r := compile(t, RuleConfig{MaxValue: 1 << 20})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ref, cand := answer(200, tt.ref, jsonType), answer(200, tt.cand, jsonType)
			expectDiffs(t, r.Compare(get(), ref, cand, Input{}), tt.outcome, tt.want...)
			checkSymmetric(t, r, ref, cand)
		})
	}
}

func TestJSONIgnore(t *testing.T) {
	d := func(lines ...string) []string { return lines }
	tests := []struct {
		name      string
		rules     []string
		ref, cand string
		outcome   Outcome
		want      []string
	}{
		{"member", d("$.a"), `{"a":1,"b":1}`, `{"a":2,"b":1}`, Ignored, d("~body changed $.a 1|2")},
		{"member and below", d("$.a"), `{"a":{"x":[1]}}`, `{"a":{"x":[2]}}`, Ignored, d(`~body changed $.a {"x":[1]}|{"x":[2]}`)},
		{"an ignored thing that is equal", d("$.a"), `{"a":{"x":1,"y":2},"b":1}`, `{"b":1,"a":{"y":2.0,"x":1}}`, Equal, nil},
		{"presence", d("$.a"), `{"a":1}`, `{}`, Ignored, d("~body removed $.a 1|")},
		{"type", d("$.a"), `{"a":1}`, `{"a":null}`, Ignored, d("~body type_changed $.a 1|null")},
		{"the parent that is gone is not ignored", d("$.a.b"), `{"a":{"b":1}}`, `{}`, Divergent, d(`body removed $.a {"b":1}|`)},
		{"something else differs", d("$.a"), `{"a":1,"b":1}`, `{"a":2,"b":2}`, Divergent, d("~body changed $.a 1|2", "body changed $.b 1|2")},
		{"quoted, by escape", d(`$['a b']["\u0063"]`), `{"a b":{"c":1}}`, `{"a b":{"\u0063":2}}`, Ignored, d("~body changed $['a b'].c 1|2")},
		{"index", d("$.a[1]"), `{"a":[1,1,1]}`, `{"a":[1,2,1]}`, Ignored, d("~body changed $.a[1] 1|2")},
		{"another index", d("$.a[1]"), `{"a":[1,1,1]}`, `{"a":[2,1,1]}`, Divergent, d("body changed $.a[0] 1|2")},
		{"an index is no name", d("$[0]", "$.x['0']"), `{"0":1,"x":[1]}`, `{"0":2,"x":[2]}`, Divergent, d("body changed $['0'] 1|2", "body changed $.x[0] 1|2")},
		{"each element", d("$.a[*].t"), `{"a":[{"t":1,"v":1},{"t":2,"v":2}]}`, `{"a":[{"t":3,"v":1},{"t":4,"v":5}]}`, Divergent,
			d("~body changed $.a[0].t 1|3", "~body changed $.a[1].t 2|4", "body changed $.a[1].v 2|5")},
		{"each member", d("$.*.t"), `{"x":{"t":1},"y":{"t":1}}`, `{"x":{"t":2},"y":{"t":2}}`, Ignored, d("~body changed $.x.t 1|2", "~body changed $.y.t 1|2")},
		{"star takes elements too", d("$.*"), `[1]`, `[2]`, Ignored, d("~body changed $[0] 1|2")},
		{"anywhere", d("$..t"), `{"t":1,"a":[{"b":{"t":1}}],"c":1}`, `{"t":2,"a":[{"b":{"t":2}}],"c":1}`, Ignored, d("~body changed $.t 1|2", "~body changed $.a[0].b.t 1|2")},
		{"anywhere below", d("$.a..t"), `{"t":1,"a":{"t":1}}`, `{"t":2,"a":{"t":2}}`, Divergent, d("body changed $.t 1|2", "~body changed $.a.t 1|2")},
		{"anywhere, then a step", d("$..m.t"), `{"m":{"m":{"t":1}},"t":1}`, `{"m":{"m":{"t":2}},"t":1}`, Ignored, d("~body changed $.m.m.t 1|2")},
		{"anywhere, index", d("$..[0]"), `[1,[1,1]]`, `[2,[2,2]]`, Divergent, d("~body changed $[0] 1|2", "~body changed $[1][0] 1|2", "body changed $[1][1] 1|2")},
		{"anywhere, all", d("$.a..*"), `{"a":{"b":1}}`, `{"a":{"b":2}}`, Ignored, d("~body changed $.a.b 1|2")},
		{"several in one bracket", d("$['a','b',0]"), `{"a":1,"b":1}`, `{"a":2,"b":2}`, Ignored, d("~body changed $.a 1|2", "~body changed $.b 1|2")},
		{"several in one bracket share no step with others", d("$['a','b'].x", "$.a.y"), `{"a":{"y":1},"b":{"x":1,"y":1}}`, `{"a":{"y":2},"b":{"x":2,"y":2}}`, Divergent,
			d("~body changed $.a.y 1|2", "~body changed $.b.x 1|2", "body changed $.b.y 1|2")},
		{"the whole", d("$"), `{"a":1}`, `[]`, Ignored, d(`~body type_changed $ {"a":1}|[]`)},
		{"two rules that share a beginning", d("$.a.b", "$.a.c"), `{"a":{"b":1,"c":1,"d":1}}`, `{"a":{"b":2,"c":2,"d":2}}`, Divergent,
			d("~body changed $.a.b 1|2", "~body changed $.a.c 1|2", "body changed $.a.d 1|2")},
		{"elements are known without what is ignored", d("$[*].t"), `[{"id":1,"t":1},{"id":2,"t":1},{"id":3,"t":1}]`, `[{"id":2,"t":2},{"id":3,"t":2}]`, Divergent,
			d(`body removed $[0] {"id":1,"t":1}|`, "~body changed $[1].t 1|2", "~body changed $[2].t 1|2")},
		{"reordered but for what is ignored", d("$[*].t"), `[{"id":1,"t":1},{"id":2,"t":1}]`, `[{"id":2,"t":2},{"id":1,"t":2}]`, Divergent,
			d(`body reordered $ [{"id":1,"t":1},{"id":2,"t":1}]|[{"id":2,"t":2},{"id":1,"t":2}]`)},
		{"presence is ignored in what is known", d("$[*].t"), `[{"id":1,"t":1},{"id":2},{"id":3}]`, `[{"id":2,"t":2},{"id":3}]`, Divergent,
			d(`body removed $[0] {"id":1,"t":1}|`, "~body added $[1].t |2")},
		{"all elements ignored, one more", d("$[*]"), `[1]`, `[2,3]`, Ignored, d("~body changed $[0] 1|2", "~body added $[1] |3")},
		{"a name that stands twice", d("$.a"), `{"a":1,"a":2}`, `{"a":3}`, Ignored, d("~body not_fully_compared $.a 1|3 ;the name stands more than once in its object")},
		{"invalid JSON is not ignored", d("$"), `{}`, `{`, Divergent, d("body type_changed $ {}|{ ;the candidate is no JSON at byte 1")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := compile(t, RuleConfig{IgnoreJSON: tt.rules})
			ref, cand := answer(200, tt.ref, jsonType), answer(200, tt.cand, jsonType)
			expectDiffs(t, r.Compare(get(), ref, cand, Input{}), tt.outcome, tt.want...)
			checkSymmetric(t, r, ref, cand)
		})
	}
}

// Every byte at every place of a string, for the eight bytes that are looked at
// at once.
func TestEveryByteOfAString(t *testing.T) {
	for at := range 20 {
		for c := range 256 {
			for _, tail := range []string{"", "n", `"`, "u00e4"} {
				b := []byte(`"` + strings.Repeat("a", 20) + tail + `"`)
				b[1+at] = byte(c)
				var tk tokens
				tk.reset(b)
				k := tk.next()
				ok := k == tokenString && tk.next() == tokenEnd
				if want := json.Valid(b); ok != want {
					t.Fatalf("%q: %v, want %v", b, ok, want)
				}
				if ok && (tk.start != 1 || tk.end != len(b)-1 || tk.escaped != bytes.Contains(b, []byte{'\\'})) {
					t.Fatalf("%q: %d %d %v", b, tk.start, tk.end, tk.escaped)
				}
			}
		}
	}
}

// What lies below the depth limit is not in the tree and costs no memory.
func TestTreeEndsAtTheDepth(t *testing.T) {
	var tr tree
	var tk tokens
	for _, tt := range []struct {
		text  string
		depth int
		nodes int
	}{
		{`[1,[2,[3,{"a":4}],5],6]`, 1, 4},
		{`[1,[2,[3,{"a":4}],5],6]`, 2, 7},
		{`[1,[2,[3,{"a":4}],5],6]`, 3, 9},
		{`[1,[2,[3,{"a":4}],5],6]`, 4, 11},
		{`{"a":{"b":{"c":1}},"d":[]}`, 1, 5},
	} {
		tk.reset([]byte(tt.text))
		tr.begin([]byte(tt.text))
		if got, at := tr.grow(&tk, tt.depth, 100, noLimit); got != grownWhole || len(tr.nodes) != tt.nodes || tr.nodes[0].size() != tt.nodes {
			t.Errorf("%s down to %d: %v at %d, %d nodes, the first of size %d; want %d", tt.text, tt.depth, got, at, len(tr.nodes), tr.nodes[0].size(), tt.nodes)
		}
	}
}

// Looking ahead in nested arrays visits each value a few times, not once on
// each level.
func TestLookingAheadIsBounded(t *testing.T) {
	nest := func(last string) string {
		return strings.Repeat("[", 100) + "[" + strings.Repeat("1,", 1000) + last + "]" + strings.Repeat(","+last+"]", 100)
	}
	c := newComparison(compile(t, RuleConfig{}))
	c.begin(AspectBody)
	c.jsonBody([]byte(nest("0")), []byte(nest("2")))
	if nodes := len(c.walker.a.nodes); nodes < 1000 || c.walker.looked > 4*nodes {
		t.Errorf("%d values were looked at in a tree of %d", c.walker.looked, nodes)
	}
	if !c.divergent {
		t.Error("no difference")
	}
}

func TestPathsAreBounded(t *testing.T) {
	r := compile(t, RuleConfig{MaxDepth: 1000})
	long := strings.Repeat("ä", 100)
	got := r.Compare(get(), answer(200, `{"`+long+`":1}`, jsonType), answer(200, `{"`+long+`":2}`, jsonType), Input{}).Differences[0]
	if want := "$['" + strings.Repeat("ä", 64) + "…']"; got.Path != want && got.Path != "$."+strings.Repeat("ä", 64)+"…" {
		t.Errorf("path %q", got.Path)
	}
	n := 900
	body := func(v string) string { return strings.Repeat(`{"abcd":`, n) + v + strings.Repeat("}", n) }
	got = r.Compare(get(), answer(200, body("1"), jsonType), answer(200, body("2"), jsonType), Input{}).Differences[0]
	if len(got.Path) > maxPath+len(cutMark) || !strings.HasSuffix(got.Path, cutMark) {
		t.Errorf("path of %d bytes: %s", len(got.Path), got.Path[max(0, len(got.Path)-30):])
	}
	if g := GeneralisePath(got.Path); g != got.Path {
		t.Errorf("generalised to %q", g)
	}
}

// fatal is the part of testing.TB that rapid.T has too.
type fatal interface {
	Helper()
	Fatalf(string, ...any)
}

// checkSymmetric compares the other way round: the same outcome, and the same
// kinds with added and removed exchanged. Of what is ignored only which kinds
// there are counts: which of several elements that are near each other are taken
// together is not the same both ways.
func checkSymmetric(t fatal, r *Rules, ref, cand *exchange.Response) {
	t.Helper()
	kinds := func(res *Result, turned bool) []string {
		var all []string
		for _, d := range res.Differences {
			k := d.Kind
			if turned && k == KindAdded {
				k = KindRemoved
			} else if turned && k == KindRemoved {
				k = KindAdded
			}
			s := fmt.Sprint(d.Aspect, " ", k, " ", d.Ignored)
			if !d.Ignored || !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
		slices.Sort(all)
		return all
	}
	there, back := r.Compare(get(), ref, cand, Input{}), r.Compare(get(), cand, ref, Input{})
	if there.Outcome != back.Outcome || !slices.Equal(kinds(there, false), kinds(back, true)) {
		t.Fatalf("not symmetric:\n%v %q\n%v %q", there.Outcome, brief(there.Differences), back.Outcome, brief(back.Differences))
	}
}

// The oracle: encoding/json into trees, numbers by math/big. It knows neither
// names that stand twice nor lone surrogates nor bytes that are no UTF-8.

func oracleParse(b []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one value: %v", err)
	}
	return v, nil
}

func oracleEqual(a, b any) bool {
	switch x := a.(type) {
	case json.Number:
		y, ok := b.(json.Number)
		if !ok {
			return false
		}
		p, ok1 := new(big.Rat).SetString(string(x))
		q, ok2 := new(big.Rat).SetString(string(y))
		return ok1 && ok2 && p.Cmp(q) == 0
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, oracleEqual)
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k := range x {
			if v, ok := y[k]; !ok || !oracleEqual(x[k], v) {
				return false
			}
		}
		return true
	}
	return a == b
}

// tree values: nil, bool, number (decimal text), string, []any, []member.
type jsonMember struct {
	name  string
	value any
}

type jsonNumber struct {
	digits   string // no leading zero
	exponent int
	negative bool
}

func drawTree(t *rapid.T, depth int) any {
	most := 7
	if depth == 0 {
		most = 4
	}
	switch rapid.IntRange(0, most).Draw(t, "type") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return jsonNumber{rapid.SampledFrom([]string{"0", "1", "12", "120", "9007199254740993", "123456789012345678901234567890"}).Draw(t, "digits"),
			rapid.IntRange(-3, 3).Draw(t, "exponent"), rapid.Bool().Draw(t, "negative")}
	case 3, 4:
		return drawText(t)
	case 5:
		var a []any
		for range rapid.IntRange(0, 5).Draw(t, "elements") {
			a = append(a, drawTree(t, depth-1))
		}
		return a
	default:
		var o []jsonMember
		n := rapid.IntRange(0, 6).Draw(t, "members")
		if rapid.IntRange(0, 20).Draw(t, "large") == 0 {
			n += 20 // so that names are found by a table
		}
		for i := range n {
			o = append(o, jsonMember{fmt.Sprint(drawText(t), i), drawTree(t, depth-1)})
		}
		return o
	}
}

func drawText(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "a", "b", "ab", "ä", "😀", "\n", "\"", "\\", "/", "it's", "a b", "\ufffd"}).Draw(t, "text")
}

// write spells a tree in one of the ways that mean the same.
func write(t *rapid.T, b *strings.Builder, v any) {
	space := func() {
		b.WriteString(rapid.SampledFrom([]string{"", "", "", " ", "\n", "\t \r"}).Draw(t, "space"))
	}
	space()
	defer space()
	switch v := v.(type) {
	case jsonNumber:
		writeNumber(t, b, v)
	case string:
		writeText(t, b, v)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			write(t, b, e)
		}
		b.WriteByte(']')
	case []jsonMember:
		b.WriteByte('{')
		if len(v) > 0 {
			v = rapid.Permutation(v).Draw(t, "order")
		}
		for i, m := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			space()
			writeText(t, b, m.name)
			space()
			b.WriteByte(':')
			write(t, b, m.value)
		}
		b.WriteByte('}')
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(b, v)
	}
}

func writeNumber(t *rapid.T, b *strings.Builder, n jsonNumber) {
	if n.negative {
		b.WriteByte('-')
	}
	digits, exponent := n.digits, n.exponent
	switch rapid.IntRange(0, 2).Draw(t, "spelling") {
	case 0: // move zeros into the digits
		if digits != "0" {
			k := rapid.IntRange(0, 3).Draw(t, "zeros")
			digits, exponent = digits+strings.Repeat("0", k), exponent-k
		}
	case 1: // a dot
		k := rapid.IntRange(1, len(digits)).Draw(t, "dot")
		exponent += len(digits) - k
		digits = digits[:k] + "." + digits[k:] + strings.Repeat("0", rapid.IntRange(0, 2).Draw(t, "zeros"))
		if strings.HasSuffix(digits, ".") {
			digits += "0"
		}
	}
	b.WriteString(digits)
	if exponent != 0 || rapid.Bool().Draw(t, "e0") {
		fmt.Fprintf(b, rapid.SampledFrom([]string{"e%d", "E%+d", "e%+04d"}).Draw(t, "e"), exponent)
	}
}

func writeText(t *rapid.T, b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		escape := r < 0x20 || r == '"' || r == '\\' || rapid.IntRange(0, 3).Draw(t, "escape") == 0
		switch {
		case escape && r == '\n' && rapid.Bool().Draw(t, "short"):
			b.WriteString(`\n`)
		case escape && (r == '"' || r == '\\' || r == '/') && rapid.Bool().Draw(t, "short"):
			b.WriteString(`\` + string(r))
		case escape && r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(b, `\u%04x\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		case escape:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

func spell(t *rapid.T, v any) string {
	var b strings.Builder
	write(t, &b, v)
	return b.String()
}

// However a value is spelled, it is equal to itself.
func TestJSONSpellingChangesNothing(t *testing.T) {
	r := compile(t, RuleConfig{})
	rapid.Check(t, func(t *rapid.T) {
		v := drawTree(t, 4)
		a, b := spell(t, v), spell(t, v)
		got := r.Compare(get(), answer(200, a, jsonType), answer(200, b, jsonType), Input{})
		if got.Outcome != Equal {
			t.Fatalf("%s\n%s\n%q", a, b, brief(got.Differences))
		}
	})
}

// Two values are equal exactly when the oracle says so, and comparing is
// symmetric. The second value is the first with something changed, or another.
func TestJSONAgreesWithOracle(t *testing.T) {
	r := compile(t, RuleConfig{})
	differ := 0
	rapid.Check(t, func(t *rapid.T) {
		v := drawTree(t, 3)
		w := v
		if rapid.IntRange(0, 4).Draw(t, "other") == 0 {
			w = drawTree(t, 3)
		} else if rapid.IntRange(0, 4).Draw(t, "change") > 0 {
			w = change(t, v)
		}
		a, b := spell(t, v), spell(t, w)
		x, errX := oracleParse([]byte(a))
		y, errY := oracleParse([]byte(b))
		if errX != nil || errY != nil {
			t.Fatalf("the oracle can't read %s (%v) or %s (%v)", a, errX, b, errY)
		}
		ref, cand := answer(200, a, jsonType), answer(200, b, jsonType)
		got := r.Compare(get(), ref, cand, Input{})
		if want := oracleEqual(x, y); (got.Outcome == Equal) != want {
			t.Fatalf("%s\n%s\noracle %v, got %v %q", a, b, want, got.Outcome, brief(got.Differences))
		} else if !want {
			differ++
		}
		checkSymmetric(t, r, ref, cand)
	})
	if differ == 0 {
		t.Error("no two values differed")
	}
}

// What two texts begin with alike is read once. That must not show: with a
// space in front of one, nothing is alike. The second text is the first with a
// few bytes changed, left out, put in or cut off.
func TestJSONCommonBeginningChangesNothing(t *testing.T) {
	r := compile(t, RuleConfig{IgnoreJSON: []string{"$..b"}, MaxDepth: 3, MaxValues: 60})
	rapid.Check(t, func(t *rapid.T) {
		a := strings.TrimLeft(spell(t, drawTree(t, 5)), " \t\r\n")
		b := []byte(a)
		for range rapid.IntRange(1, 2).Draw(t, "edits") {
			i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			c := rapid.SampledFrom([]byte(`[]{},:"\\ 0123e-.atn`)).Draw(t, "byte")
			switch rapid.IntRange(0, 4).Draw(t, "how") {
			case 0, 1:
				b[i] = c
			case 2:
				b = slices.Insert(b, i, c)
			case 3:
				b = slices.Delete(b, i, min(len(b), i+1+rapid.IntRange(0, 1).Draw(t, "more")))
			default:
				b = b[:i]
			}
			if len(b) == 0 {
				return
			}
		}
		commonBeginning(t, r, a, b)
	})
	// Few of those are JSON still.
	for _, tt := range [][2]string{
		{`{"a":[1,2],"c":3}`, `{"a":[1,4],"c":3}`}, {`[1,[2,{"a":"x"}]]`, `[1,[2,{"a":"y"}],3]`}, {`{"a":1,"c":"x"}`, `{"a":1,"d":"x"}`}, {`["abc"]`, `["abd"]`},
	} {
		if valid, unequal := commonBeginning(t, r, tt[0], []byte(tt[1])); !valid || !unequal {
			t.Errorf("%s and %s: valid %v, different %v", tt[0], tt[1], valid, unequal)
		}
	}
}

// commonBeginning compares a and b as they are and with a space in front of b,
// and says whether b is JSON, and another than a.
func commonBeginning(t fatal, r *Rules, a string, b []byte) (valid, unequal bool) {
	t.Helper()
	ref, cand, apart := answer(200, a, jsonType), answer(200, string(b), jsonType), answer(200, " "+string(b), jsonType)
	got, want := r.Compare(get(), ref, cand, Input{}), r.Compare(get(), ref, apart, Input{})
	if valid = json.Valid(b); valid {
		if fmt.Sprint(got.Outcome, brief(got.Differences)) != fmt.Sprint(want.Outcome, brief(want.Differences)) &&
			!slices.ContainsFunc(got.Differences, func(d Difference) bool { return d.Detail == detailValues }) {
			t.Fatalf("%s\n%s\n%v %q\nwant %v %q", a, b, got.Outcome, brief(got.Differences), want.Outcome, brief(want.Differences))
		}
		unequal = got.Outcome == Divergent
	} else if a != string(b) && len(got.Differences) == 1 && got.Differences[0].Detail != detailValues {
		// No JSON: at the byte where the other way found it, less the space.
		var x, y int
		fmt.Sscanf(got.Differences[0].Detail, "the candidate is no JSON at byte %d", &x)
		fmt.Sscanf(want.Differences[0].Detail, "the candidate is no JSON at byte %d", &y)
		if got.Differences[0].Kind != KindTypeChanged || x != y-1 {
			t.Fatalf("%s\n%s\n%q\nwant %q", a, b, brief(got.Differences), brief(want.Differences))
		}
	} else if got.Outcome != Divergent && a != string(b) {
		t.Fatalf("%s\n%s\n%v", a, b, got.Outcome)
	}
	checkSymmetric(t, r, ref, cand)
	return valid, unequal
}

// change gives a tree with one thing in it changed.
func change(t *rapid.T, v any) any {
	switch v := v.(type) {
	case []any:
		if len(v) == 0 {
			return []any{drawTree(t, 1)}
		}
		w := slices.Clone(v)
		i := rapid.IntRange(0, len(v)-1).Draw(t, "index")
		switch rapid.IntRange(0, 3).Draw(t, "how") {
		case 0:
			return slices.Delete(w, i, i+1)
		case 1:
			return slices.Insert(w, i, drawTree(t, 1))
		case 2:
			return rapid.Permutation(w).Draw(t, "permutation")
		}
		w[i] = change(t, w[i])
		return w
	case []jsonMember:
		if len(v) == 0 {
			return []jsonMember{{"new", drawTree(t, 1)}}
		}
		w := slices.Clone(v)
		i := rapid.IntRange(0, len(v)-1).Draw(t, "member")
		switch rapid.IntRange(0, 2).Draw(t, "how") {
		case 0:
			return slices.Delete(w, i, i+1)
		case 1:
			w[i].name += "x"
			return w
		}
		w[i].value = change(t, w[i].value)
		return w
	}
	return drawTree(t, 1)
}

// Without rules, and with rules that name nothing there, the same comes out:
// the ignore automaton is beside the walk, not in it.
func TestJSONRulesThatMatchNothingChangeNothing(t *testing.T) {
	plain := compile(t, RuleConfig{})
	ruled := compile(t, RuleConfig{IgnoreJSON: []string{"$..nowhere", "$.no[*].where", "$[*]..['never there'][0]"}})
	rapid.Check(t, func(t *rapid.T) {
		v := drawTree(t, 3)
		ref, cand := answer(200, spell(t, v), jsonType), answer(200, spell(t, change(t, v)), jsonType)
		a, b := plain.Compare(get(), ref, cand, Input{}), ruled.Compare(get(), ref, cand, Input{})
		if fmt.Sprint(brief(a.Differences)) != fmt.Sprint(brief(b.Differences)) {
			t.Fatalf("%s\n%s\n%q\n%q", ref.Body.Bytes, cand.Body.Bytes, brief(a.Differences), brief(b.Differences))
		}
	})
}

func TestNumbersAgreeWithOracle(t *testing.T) {
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,4})?([eE][-+]?[0-9]{1,2})?`)
	rapid.Check(t, func(t *rapid.T) {
		a := number.Draw(t, "a")
		b := number.Draw(t, "b")
		if rapid.Bool().Draw(t, "close") { // move the dot
			b = a
			if !strings.ContainsAny(a, "eE.") {
				b = a + ".0" + rapid.SampledFrom([]string{"", "e0", "0e-0", "1", "e1"}).Draw(t, "tail")
			}
		}
		p, _ := new(big.Rat).SetString(a)
		q, _ := new(big.Rat).SetString(b)
		want := p.Cmp(q) == 0
		if got := equalNumber([]byte(a), []byte(b)); got != want {
			t.Fatalf("%s and %s: %v, want %v", a, b, got, want)
		}
		same := string(appendCanonical(nil, []byte(a))) == string(appendCanonical(nil, []byte(b)))
		if same != want {
			t.Fatalf("%s and %s: canonical %v, want %v", a, b, same, want)
		}
	})
}

// Exponents of any length, by math/big integers.
func TestHugeExponents(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1e1000000000000000000", "10e999999999999999999", true},
		{"1e999999999999999999", "0.1e1000000000000000000", true},
		{"1e-1000000000000000000", "0.1e-999999999999999999", true},
		{"100e-1000000000000000000", "1e-999999999999999998", true},
		{"1e00000000000000000000000005", "100000", true},
		{"1e99999999999999999999", "0.01e100000000000000000001", true},
		{"1e99999999999999999999", "1e-99999999999999999999", false},
		{"1e99999999999999999999", "1e9", false},
		{"-0e99999999999999999999", "0", true},
	} {
		if got := equalNumber([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%s and %s: %v", tt.a, tt.b, got)
		}
		if got := string(appendCanonical(nil, []byte(tt.a))) == string(appendCanonical(nil, []byte(tt.b))); got != tt.want {
			t.Errorf("%s and %s: canonical %v", tt.a, tt.b, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		exp := rapid.StringMatching(`[1-9][0-9]{18,24}`).Draw(t, "exponent")
		neg := rapid.Bool().Draw(t, "negative")
		shift := rapid.IntRange(0, 30).Draw(t, "shift")
		off := rapid.IntRange(-1, 1).Draw(t, "off")
		e, _ := new(big.Int).SetString(exp, 10)
		if neg {
			e.Neg(e)
		}
		// 1 with shift zeros behind it, at an exponent that is smaller by shift.
		f := new(big.Int).Sub(e, big.NewInt(int64(shift+off)))
		a, b := "1e"+e.String(), "1"+strings.Repeat("0", shift)+"e"+f.String()
		if got := equalNumber([]byte(a), []byte(b)); got != (off == 0) {
			t.Fatalf("%s and %s: %v", a, b, got)
		}
	})
}

// The tokenizer takes what encoding/json takes.
func TestTokensAgreeWithOracle(t *testing.T) {
	for _, s := range []string{
		``, ` `, `1`, `-`, `-1`, `01`, `1.`, `.1`, `1e`, `1e+`, `1E-7`, `-0.0e00`, `+1`, `1x`, `nul`, `null`, `nulll`, `tru`, `true false`, `"`, `"a`, `"a"`, `"\`, `"\x"`,
		`"\u12"`, `"\u12g4"`, `"\u1234"`, "\"\t\"", "\"\x7f\"", `[`, `]`, `[]`, `[,]`, `[1,]`, `[1 2]`, `[1,2]`, `{`, `}`, `{}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1}`,
		`{a:1}`, `{"a":1 "b":2}`, `{"a":1,"b":2}`, `{"a":1]`, `[1}`, `{,}`, `{"a",1}`, `[[[]]]`, `[[]`, `{"a":{"b":[{}]}}`, `1 `, "\ufeff1", `'a'`, `[1]]`, `{1:2}`, `{"a":1}}`, `NaN`,
	} {
		var tk tokens
		tk.reset([]byte(s))
		k := tk.next()
		for k != tokenBad && k != tokenEnd {
			k = tk.next()
		}
		if got, want := k == tokenEnd, json.Valid([]byte(s)); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}
