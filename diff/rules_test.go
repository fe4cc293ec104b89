package diff

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// withRules is brief with the rule that ignores each difference.
func withRules(ds []Difference) []string {
	out := brief(ds)
	for i := range ds {
		if ds[i].Ignored {
			out[i] += " <" + ds[i].Rule + ">"
		}
	}
	return out
}

type ruleCase struct {
	name      string
	rules     RuleConfig
	ref, cand string
	want      string // withRules, joined by newlines; "" is equal
}

func (tt *ruleCase) run(t *testing.T) {
	t.Helper()
	r := compile(t, tt.rules)
	ref, cand := answer(200, tt.ref, jsonType), answer(200, tt.cand, jsonType)
	got := r.Compare(get(), ref, cand, Input{})
	if s := strings.Join(withRules(got.Differences), "\n"); s != tt.want {
		t.Errorf("got\n%s\nwant\n%s", s, tt.want)
	}
	want := Equal
	for _, d := range got.Differences {
		if want = max(want, Ignored); !d.Ignored {
			want = Divergent
		}
	}
	if got.Outcome != want {
		t.Errorf("outcome %v, want %v", got.Outcome, want)
	}
	checkSymmetric(t, r, ref, cand)
}

func TestEqualByRule(t *testing.T) {
	one := func(e EqualRule) RuleConfig { return RuleConfig{Equal: []EqualRule{e}} }
	const u1, u2 = "9b2c2f1e-3c1e-4f0e-9a59-0a6b5f0b8f10", "00000000-0000-0000-0000-00000000000A"
	within := one(EqualRule{JSON: "$.t", Type: TypeTimestamp, Within: 2 * time.Second})
	for _, tt := range []ruleCase{
		{"uuid", one(EqualRule{JSON: "$..id", Type: TypeUUID}), `{"id":"` + u1 + `"}`, `{"id":"` + u2 + `"}`, "~body changed $.id " + u1 + "|" + u2 + " <equal[0]>"},
		{"uuid, escaped", one(EqualRule{Type: TypeUUID}), `["` + u1 + `"]`, `["\u0030` + u2[1:] + `"]`, "~body changed $[0] " + u1 + "|" + u2 + " <equal[0]>"},
		{"uuid, one is none", one(EqualRule{Type: TypeUUID}), `["` + u1 + `"]`, `["` + u2[1:] + `x"]`, "body changed $[0] " + u1 + "|" + u2[1:] + "x"},
		{"uuid, none is one", one(EqualRule{Type: TypeUUID}), `["a"]`, `["b"]`, "body changed $[0] a|b"},
		{"uuid, another spelling", one(EqualRule{Type: TypeUUID}), `["` + u1 + `"]`, `["urn:uuid:` + u2 + `"]`, "body changed $[0] " + u1 + "|urn:uuid:" + u2},
		{"uuid, in braces", one(EqualRule{Type: TypeUUID}), `["{` + u1 + `}"]`, `["{` + u2 + `}"]`, "~body changed $[0] {" + u1 + "}|{" + u2 + "} <equal[0]>"},
		{"uuid elsewhere", one(EqualRule{JSON: "$.a", Type: TypeUUID}), `{"a":{"b":"` + u1 + `"}}`, `{"a":{"b":"` + u2 + `"}}`, "body changed $.a.b " + u1 + "|" + u2},
		{"uuid, absent", one(EqualRule{JSON: "$.id", Type: TypeUUID}), `{"id":"` + u1 + `"}`, `{}`, "body removed $.id " + u1 + "|"},
		{"uuid, another type", one(EqualRule{JSON: "$.id", Type: TypeUUID}), `{"id":"` + u1 + `"}`, `{"id":1}`, "body type_changed $.id " + u1 + "|1"},

		{"time at the bound", within, `{"t":"2026-11-25T10:00:00Z"}`, `{"t":"2026-11-25T11:00:02+01:00"}`, "~body changed $.t 2026-11-25T10:00:00Z|2026-11-25T11:00:02+01:00 <equal[0]>"},
		{"time beyond it", within, `{"t":"2026-11-25T10:00:00Z"}`, `{"t":"2026-11-25T10:00:02.001Z"}`, "body changed $.t 2026-11-25T10:00:00Z|2026-11-25T10:00:02.001Z"},
		{"time of another form", within, `{"t":"2026-11-25T10:00:00Z"}`, `{"t":"Wed, 25 Nov 2026 10:00:00 GMT"}`, "body changed $.t 2026-11-25T10:00:00Z|Wed, 25 Nov 2026 10:00:00 GMT"},
		{"HTTP-date", within, `{"t":"Wed, 25 Nov 2026 10:00:00 GMT"}`, `{"t":"Wed, 25 Nov 2026 10:00:01 GMT"}`, "~body changed $.t Wed, 25 Nov 2026 10:00:00 GMT|Wed, 25 Nov 2026 10:00:01 GMT <equal[0]>"},
		{"Unix seconds", within, `{"t":1795600000}`, `{"t":1795600001.5}`, "~body changed $.t 1795600000|1795600001.5 <equal[0]>"},
		{"Unix seconds too far", within, `{"t":1795600000}`, `{"t":1795600002.5}`, "body changed $.t 1795600000|1795600002.5"},
		{"Unix milliseconds", within, `{"t":1795600000000}`, `{"t":1795600002000}`, "~body changed $.t 1795600000000|1795600002000 <equal[0]>"},
		{"Unix milliseconds too far", within, `{"t":1795600000000}`, `{"t":1795600002001}`, "body changed $.t 1795600000000|1795600002001"},
		{"Unix microseconds", within, `{"t":"1795600000000000"}`, `{"t":"1795600002000000"}`, "~body changed $.t 1795600000000000|1795600002000000 <equal[0]>"},
		{"Unix nanoseconds", within, `{"t":1795600000000000000}`, `{"t":1795600002000000001}`, "body changed $.t 1795600000000000000|1795600002000000001"},
		{"Unix time of two units", within, `{"t":1795600000}`, `{"t":1795600000000}`, "body changed $.t 1795600000|1795600000000"},
		{"no time", within, `{"t":12}`, `{"t":13}`, "body changed $.t 12|13"},
		{"any time", one(EqualRule{Type: TypeTimestamp}), `["0001-01-01"]`, `["9999-12-31"]`, "~body changed $[0] 0001-01-01|9999-12-31 <equal[0]>"},
		{"times a life apart", one(EqualRule{Type: TypeTimestamp, Within: time.Hour}), `["0001-01-01"]`, `["9999-12-31"]`, "body changed $[0] 0001-01-01|9999-12-31"},

		{"URL of another host", one(EqualRule{Type: TypeURL}), `["http://a/x?y#z"]`, `["http://u@b:80/x?y#z"]`, "~body changed $[0] http://a/x?y#z|http://u@b:80/x?y#z <equal[0]>"},
		{"URL of another host, no path", one(EqualRule{Type: TypeURL}), `["http://a"]`, `["http://b/"]`, "~body changed $[0] http://a|http://b/ <equal[0]>"},
		{"URL of another path", one(EqualRule{Type: TypeURL}), `["http://a/x"]`, `["http://b/y"]`, "body changed $[0] http://a/x|http://b/y"},
		{"URL of another scheme", one(EqualRule{Type: TypeURL}), `["http://a/x"]`, `["https://b/x"]`, "body changed $[0] http://a/x|https://b/x"},
		{"no URL", one(EqualRule{Type: TypeURL}), `["a/x"]`, `["b/x"]`, "body changed $[0] a/x|b/x"},

		{"tolerance", one(EqualRule{JSON: "$.p", Tolerance: "0.01"}), `{"p":1.00}`, `{"p":1.01}`, "~body changed $.p 1.00|1.01 <equal[0]>"},
		{"tolerance exceeded", one(EqualRule{JSON: "$.p", Tolerance: "0.01"}), `{"p":1.00}`, `{"p":1.0100000000000000000000000001}`, "body changed $.p 1.00|1.0100000000000000000000000001"},
		{"tolerance, signs", one(EqualRule{JSON: "$.p", Tolerance: "1"}), `{"p":-0.5}`, `{"p":5e-1}`, "~body changed $.p -0.5|5e-1 <equal[0]>"},
		{"tolerance of integers of any size", one(EqualRule{JSON: "$.p", Tolerance: "1"}), `{"p":123456789012345678901234567890}`, `{"p":123456789012345678901234567892}`,
			"body changed $.p 123456789012345678901234567890|123456789012345678901234567892"},
		{"tolerance of a share", one(EqualRule{JSON: "$.p", Tolerance: "1%"}), `{"p":100}`, `{"p":99}`, "~body changed $.p 100|99 <equal[0]>"},
		{"tolerance of a share exceeded", one(EqualRule{JSON: "$.p", Tolerance: "1%"}), `{"p":100}`, `{"p":98.99}`, "body changed $.p 100|98.99"},
		{"tolerance in strings", one(EqualRule{JSON: "$.p", Tolerance: "0.5%"}), `{"p":"200.0"}`, `{"p":"201"}`, "~body changed $.p 200.0|201 <equal[0]>"},
		{"tolerance and words", one(EqualRule{JSON: "$.p", Tolerance: "100%"}), `{"p":"a"}`, `{"p":"1"}`, "body changed $.p a|1"},
		{"tolerance has an end", one(EqualRule{JSON: "$.p", Tolerance: "100%"}), `{"p":1e1000000000}`, `{"p":1}`, "body changed $.p 1e1000000000|1"},

		{"pattern", one(EqualRule{JSON: "$.v", Pattern: "build-[0-9]+"}), `{"v":"x build-1 y"}`, `{"v":"x build-22 y"}`, "~body changed $.v x build-1 y|x build-22 y <equal[0]>"},
		{"pattern, the rest differs", one(EqualRule{JSON: "$.v", Pattern: "build-[0-9]+"}), `{"v":"x build-1 y"}`, `{"v":"x build-22 z"}`, "body changed $.v x build-1 y|x build-22 z"},
		{"pattern on one side", one(EqualRule{JSON: "$.v", Pattern: "^b.*"}), `{"v":"b1"}`, `{"v":""}`, "body changed $.v b1|"},
		{"pattern more often", one(EqualRule{JSON: "$.v", Pattern: "[0-9]"}), `{"v":"1"}`, `{"v":"11"}`, "body changed $.v 1|11"},

		{"values", RuleConfig{IgnoreValues: []string{"#[0-9]+", "@[a-z]+"}}, `{"v":"#1 at @a","w":1}`, `{"v":"#22 at @bb","w":2}`, "~body changed $.v #1 at @a|#22 at @bb <ignore.values>\nbody changed $.w 1|2"},
		{"aspect", RuleConfig{IgnoreAspects: []string{"body"}}, `{"v":1}`, `{"v":2}`, `~body changed {"v":1}|{"v":2} ;the first difference is at byte 5 <ignore.aspects[0]>`},
		{"the first rule is named", RuleConfig{IgnoreJSON: []string{"$.b", "$.*", "$.a"}}, `{"a":1,"b":1}`, `{"a":2,"b":2}`, "~body changed $.a 1|2 <ignore.json[1]>\n~body changed $.b 1|2 <ignore.json[0]>"},
	} {
		t.Run(tt.name, tt.run)
	}
}

func TestFilters(t *testing.T) {
	rules := func(paths ...string) RuleConfig { return RuleConfig{IgnoreJSON: paths} }
	for _, tt := range []ruleCase{
		{"by what it holds", rules("$[?@.k=='ad']"), `[{"k":"ad","v":1},{"k":"x","v":1}]`, `[{"k":"ad","v":2},{"k":"x","v":2}]`,
			"~body changed $[0] {\"k\":\"ad\",\"v\":1}|{\"k\":\"ad\",\"v\":2} <ignore.json[0]>\nbody changed $[1].v 1|2"},
		{"below it", rules("$[?@.k=='ad'].v"), `[{"k":"ad","v":1,"w":1}]`, `[{"k":"ad","v":2,"w":2}]`, "~body changed $[0].v 1|2 <ignore.json[0]>\nbody changed $[0].w 1|2"},
		{"on one side only", rules("$[?@.k=='ad']"), `[{"k":"ad"}]`, `[{"k":"x"}]`, "body changed $[0].k ad|x"},
		{"of what is added", rules("$[?@.k=='ad']"), `[]`, `[{"k":"ad"}]`, "~body added $[0] |{\"k\":\"ad\"} <ignore.json[0]>"},
		{"left out of the order", rules("$[?@.k=='ad']"), `[{"k":"ad","n":1},{"v":1},{"v":2}]`, `[{"k":"ad","n":2},{"v":2},{"v":1}]`,
			"body reordered $ [{\"k\":\"ad\",\"n\":1},{\"v\":1},{\"v\":2}]|[{\"k\":\"ad\",\"n\":2},{\"v\":2},{\"v\":1}]\n~body changed $[0] {\"k\":\"ad\",\"n\":1}|{\"k\":\"ad\",\"n\":2} <ignore.json[0]>"},
		{"of members", rules("$.*[?@.x].v"), `{"a":{"b":{"x":null,"v":1}}}`, `{"a":{"b":{"x":null,"v":2}}}`, "~body changed $.a.b.v 1|2 <ignore.json[0]>"},
		{"anywhere", rules("$..[?@.debug]"), `{"a":[{"debug":1}],"b":1}`, `{"a":[{"debug":2}],"b":2}`, "~body changed $.a[0] {\"debug\":1}|{\"debug\":2} <ignore.json[0]>\nbody changed $.b 1|2"},
	} {
		t.Run(tt.name, tt.run)
	}
	// What holds of one value. RFC 9535 section 2.3.5.
	const value = `{"a":1.50,"s":"b\u0063","t":true,"f":false,"n":null,"o":{"x":[5,{"y":-1}]},"big":123456789012345678901234567890,"é":1,"dup":1,"dup":2}`
	for expr, want := range map[string]bool{
		"@": true, "@.a": true, "@.z": false, "!@.z": true, "!@.a": false, "@['é']": true, "@.n": true, "@.f": true, "@.o.x[1].y": true, "@.o.x[2]": false, "@.o[0]": false, "@.a.b": false,
		"@.a == 1.5": true, "@.a == 1.51": false, "@.a == 15e-1": true, "@.a != 1": true, "@.a < 2": true, "@.a < 1.5": false, "@.a <= 1.5": true, "@.a > 1.49": true, "@.a >= 1.6": false,
		"2 > @.a": true, "2 < @.a": false, "1.5 >= @.a": true, "1.5 <= @.a": true, "1 == @.a": false,
		"@.s == 'bc'": true, `@.s == "b\u0063"`: true, "@.s < 'bd'": true, "@.s > 'bd'": false, "@.s == 1": false, "@.s != 1": true, "@.s < 1": false,
		"@.t == true": true, "@.t == false": false, "@.t != false": true, "@.f == false": true, "@.t < true": false, "@.t <= true": true, "@.t >= false": false,
		"@.n == null": true, "@.n != null": false, "@.n >= null": true, "@.n > null": false, "@.z == null": false, "@.z != null": true, "@.z < 1": false,
		"@.o == 1": false, "@.o != 1": true, "@.o.x[1].y < 0": true, "@.o.x[1].y > -2": true, "@.o.x[0]==5": true,
		"@.big == 123456789012345678901234567890": true, "@.big < 123456789012345678901234567891": true, "@.big > 1e1000000000000000000000": false, "@.a > 1e-99999999999999999999999": true,
		"@.a == 1.5 && @.t == true": true, "@.a == 1 && @.t == true": false, "@.a == 1 || @.t == true": true, "@.z || @.y": false,
		"@.z && @.z || @.a": true, "@.z && (@.z || @.a)": false, "!(@.a == 1) && !(@.z)": true, "@.dup == 1": true,
	} {
		rule := "$[?" + expr + "]"
		segs, bad := parsePath(rule)
		if bad != nil {
			t.Errorf("%s: %+v", rule, *bad)
			continue
		}
		var tk tokens
		var tr tree
		tk.reset([]byte(value))
		tr.begin([]byte(value))
		if got, _ := tr.grow(&tk, 10, 100, noLimit); got != grownWhole {
			t.Fatal("no tree")
		}
		if got := segs[0].selectors[0].filter.holds(&tr, 0); got != want {
			t.Errorf("%s: %v, want %v", rule, got, want)
		}
	}
}

func TestNumberOrderAgreesWithOracle(t *testing.T) {
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,4})?([eE][-+]?[0-9]{1,2})?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		p, _ := new(big.Rat).SetString(a)
		q, _ := new(big.Rat).SetString(b)
		if got, want := compareNumbers([]byte(a), []byte(b)), p.Cmp(q); got != want {
			t.Fatalf("%s and %s: %d, want %d", a, b, got, want)
		}
	})
	// Exponents that fit no machine word.
	const big = "1000000000000000000000"
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"1e" + big, "99e999999999999999999999", -1}, {"-1e" + big, "-99e999999999999999999999", 1}, {"1e" + big, "10e999999999999999999999", 0},
		{"1.5e" + big, "149e999999999999999999998", 1}, {"1e-" + big, "1", -1}, {"1e-" + big, "0", 1}, {"0e" + big, "-0", 0},
	} {
		if got := compareNumbers([]byte(tt.a), []byte(tt.b)); got != tt.want {
			t.Errorf("%s and %s: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestToleranceAgreesWithOracle(t *testing.T) {
	number := rapid.OneOf(rapid.StringMatching(`-?[0-9](\.[0-9])?`), rapid.StringMatching(`-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,4})?([eE][-+]?[0-9])?`))
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		tolerance := rapid.OneOf(rapid.StringMatching(`[0-9](\.[0-9])?`), rapid.StringMatching(`(0|[1-9][0-9]{0,2})(\.[0-9]{1,2})?(e-?[0-9])?`)).Draw(t, "tolerance")
		percent := rapid.SampledFrom([]string{"", "%", " %"}).Draw(t, "percent")
		p, _ := new(big.Rat).SetString(a)
		bound, _ := new(big.Rat).SetString(tolerance)
		if percent == "" && rapid.Bool().Draw(t, "just within") {
			b = new(big.Rat).Add(p, bound).FloatString(16) // exact for what is drawn
		}
		q, _ := new(big.Rat).SetString(b)
		if percent != "" {
			bound.Mul(bound, big.NewRat(1, 100))
			if new(big.Rat).Abs(p).Cmp(new(big.Rat).Abs(q)) > 0 {
				bound.Mul(bound, new(big.Rat).Abs(p))
			} else {
				bound.Mul(bound, new(big.Rat).Abs(q))
			}
		}
		want := new(big.Rat).Abs(new(big.Rat).Sub(p, q)).Cmp(bound) <= 0
		r, err := Compile(RuleConfig{Equal: []EqualRule{{Tolerance: tolerance + percent}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.equalities[0].same([]byte(a), []byte(b), ValueNumber); got != want {
			t.Fatalf("%s and %s within %s%s: %v, want %v", a, b, tolerance, percent, got, want)
		}
	})
}

func TestArrays(t *testing.T) {
	set := RuleConfig{Arrays: []ArrayRule{{JSON: "$..*", As: ArraysAsSet}, {JSON: "$", As: ArraysAsSet}}}
	byID := RuleConfig{Arrays: []ArrayRule{{JSON: "$", Key: "id"}}}
	near := RuleConfig{Arrays: set.Arrays, Equal: []EqualRule{{Tolerance: "1"}}}
	for _, tt := range []ruleCase{
		{"another order", set, `[1,"a",{"x":[1,2]},null]`, `[{"x":[2,1]},null,1.0,"\u0061"]`, ""},
		{"one more", set, `[1,2]`, `[2,3,1]`, "body added $[1] |3"},
		{"one less", set, `[3,1,2]`, `[2,1]`, "body removed $[0] 3|"},
		{"as often", set, `[1,1,2]`, `[2,1]`, "body removed $[1] 1|"},
		{"changed is removed and added", set, `[{"a":1},{"a":2}]`, `[{"a":2},{"a":3}]`, "body removed $[0] {\"a\":1}|\nbody added $[1] |{\"a\":3}"},
		{"all else by order", RuleConfig{Arrays: []ArrayRule{{JSON: "$.s", As: "set"}}}, `{"s":[1,2],"o":[1,2]}`, `{"s":[2,1],"o":[2,1]}`, "body reordered $.o [1,2]|[2,1]"},
		{"order by the first rule", RuleConfig{Arrays: []ArrayRule{{JSON: "$.a", As: "order"}, {JSON: "$.*", As: "set"}}}, `{"a":[1,2],"b":[1,2]}`, `{"a":[2,1],"b":[2,1]}`, "body reordered $.a [1,2]|[2,1]"},
		{"of two rules for one path the first", RuleConfig{Arrays: []ArrayRule{{JSON: "$", As: "order"}, {JSON: "$", As: "set"}}}, `[1,2]`, `[2,1]`, "body reordered $ [1,2]|[2,1]"},
		{"a set in what is ordered", RuleConfig{Arrays: []ArrayRule{{JSON: "$[*].s", As: "set"}}}, `[{"s":[1,2]},{"s":[3]}]`, `[{"s":[3.0]},{"s":[2,1]}]`, "body reordered $ [{\"s\":[1,2]},{\"s\":[3]}]|[{\"s\":[3.0]},{\"s\":[2,1]}]"},
		{"what is ignored has no part", RuleConfig{Arrays: byID.Arrays[:0:0], IgnoreJSON: []string{"$[*].t"}}, `[]`, `[]`, ""},
		{"ignored in a set", RuleConfig{Arrays: []ArrayRule{{JSON: "$", As: "set"}}, IgnoreJSON: []string{"$[*].t"}}, `[{"a":1,"t":1},{"a":2,"t":2}]`, `[{"a":2,"t":8},{"a":1,"t":9}]`,
			"~body changed $[0].t 1|9 <ignore.json[0]>\n~body changed $[1].t 2|8 <ignore.json[0]>"},
		{"near in a set", near, `[1.0,5.0]`, `[5.5,1.5]`, "~body changed $[0] 1.0|1.5 <equal[0]>\n~body changed $[1] 5.0|5.5 <equal[0]>"},
		{"near in a set, as many as can be", near, `[2,1]`, `[2.5,3]`, "~body changed $[0] 2|2.5 <equal[0]>\nbody removed $[1] 1|\nbody added $[1] |3"},
		{"near in a set by another way", near, `[2,1]`, `[1.5,3]`, "~body changed $[0] 2|3 <equal[0]>\n~body changed $[1] 1|1.5 <equal[0]>"},
		{"near and far in an order", RuleConfig{Equal: near.Equal}, `[{"i":10,"p":1},{"i":20,"p":2}]`, `[{"i":20,"p":9},{"i":10,"p":1}]`,
			"body changed $[0].i 10|20\nbody changed $[0].p 1|9\nbody changed $[1].i 20|10\n~body changed $[1].p 2|1 <equal[0]>"},
		{"near and far and known by more", RuleConfig{Equal: near.Equal}, `[{"i":"a","p":1},{"i":"b","p":2}]`, `[{"i":"b","p":9},{"i":"a","p":1}]`,
			"body changed $[0].i a|b\nbody changed $[0].p 1|9\nbody changed $[1].i b|a\n~body changed $[1].p 2|1 <equal[0]>"},
		{"near and reordered", RuleConfig{Equal: near.Equal}, `["a",1]`, `[2,"a"]`, `body reordered $ ["a",1]|[2,"a"]`},

		{"by key", byID, `[{"id":1,"v":1},{"id":2,"v":2}]`, `[{"id":2.0,"v":2},{"id":1,"v":9}]`, "body changed $[0].v 1|9"},
		{"by key, more and less", byID, `[{"id":"a"},{"id":"b"}]`, `[{"id":"c"},{"id":"\u0062"}]`, "body removed $[0] {\"id\":\"a\"}|\nbody added $[0] |{\"id\":\"c\"}"},
		{"keys that are near", RuleConfig{Arrays: byID.Arrays, Equal: near.Equal}, `[{"id":1},{"id":2}]`, `[{"id":2},{"id":1}]`, ""},
		{"a key of another type", byID, `[{"id":1}]`, `[{"id":"1"}]`, "body removed $[0] {\"id\":1}|\nbody added $[0] |{\"id\":\"1\"}"},
		{"a key that stands twice", byID, `[{"id":1,"v":1},{"id":1,"v":2}]`, `[{"id":1,"v":1},{"id":1,"v":3},{"id":1}]`, "body changed $[1].v 2|3\nbody added $[2] |{\"id\":1}"},
		{"without the key a set", byID, `[{"id":1},{"x":1},5]`, `[5,{"x":1},{"id":1}]`, ""},
		{"a key that begins as a query", RuleConfig{Arrays: []ArrayRule{{JSON: "$", Key: "@id"}}}, `[{"@id":1},{"@id":2}]`, `[{"@id":2},{"@id":1}]`, ""},
		{"elements as their own key", RuleConfig{Arrays: []ArrayRule{{JSON: "$", Key: "@"}}}, `[1,2]`, `[2,1]`, ""},
		{"by a query", RuleConfig{Arrays: []ArrayRule{{JSON: "$.a", Key: "@.m['k'][0]"}}}, `{"a":[{"m":{"k":[1]},"v":1},{"m":{"k":[2]},"v":2}]}`, `{"a":[{"m":{"k":[2]},"v":2},{"m":{"k":[1]},"v":3}]}`, "body changed $.a[0].v 1|3"},
	} {
		t.Run(tt.name, tt.run)
	}
}

// The order of elements changes nothing in a set, whatever they are; one that is
// changed is seen.
func TestSetsForgetTheOrder(t *testing.T) {
	r := compile(t, RuleConfig{Arrays: []ArrayRule{{JSON: "$", As: ArraysAsSet}}})
	rapid.Check(t, func(t *rapid.T) {
		elements := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return spell(t, drawTree(t, 2)) }), 0, 12).Draw(t, "elements")
		turned := rapid.Permutation(elements).Draw(t, "turned")
		ref, cand := answer(200, "["+strings.Join(elements, ",")+"]", jsonType), answer(200, "["+strings.Join(turned, ",")+"]", jsonType)
		if got := r.Compare(get(), ref, cand, Input{}); got.Outcome != Equal {
			t.Fatalf("%s\n%s\n%q", ref.Body.Bytes, cand.Body.Bytes, brief(got.Differences))
		}
		cand = answer(200, "["+strings.Join(append(slices.Clone(turned), `"one more"`), ",")+"]", jsonType)
		got := r.Compare(get(), ref, cand, Input{})
		if len(got.Differences) != 1 || got.Differences[0].Kind != KindAdded || got.Differences[0].Candidate.Text != "one more" {
			t.Fatalf("%s\n%s\n%q", ref.Body.Bytes, cand.Body.Bytes, brief(got.Differences))
		}
		checkSymmetric(t, r, ref, cand)
	})
}

// Whatever the rules, turned around the kinds are the same.
func TestRulesAreSymmetric(t *testing.T) {
	var rules []*Rules
	for _, c := range []RuleConfig{
		{Arrays: []ArrayRule{{JSON: "$", As: "set"}, {JSON: "$..*", As: "set"}}, Equal: []EqualRule{{Tolerance: "2"}}},
		{Arrays: []ArrayRule{{JSON: "$", Key: "a0"}, {JSON: "$..*", Key: "a0"}}, IgnoreJSON: []string{"$..[?@.b1 || @ == 'a']"}, Equal: []EqualRule{{JSON: "$..*", Tolerance: "50%"}}},
		{Arrays: []ArrayRule{{JSON: "$..[*]", As: "set"}}, IgnoreValues: []string{"a|b"}, IgnoreJSON: []string{"$..[1]"}},
		{IgnoreValues: []string{"^."}, Equal: []EqualRule{{Tolerance: "1e30"}}},
	} {
		rules = append(rules, compile(t, c))
	}
	rapid.Check(t, func(t *rapid.T) {
		v := drawTree(t, 3)
		w := change(t, v)
		if rapid.Bool().Draw(t, "twice") {
			w = change(t, w)
		}
		ref, cand := answer(200, spell(t, v), jsonType), answer(200, spell(t, w), jsonType)
		for i, r := range rules {
			checkSymmetric(t, r, ref, cand)
			if got := r.Compare(get(), ref, answer(200, spell(t, v), jsonType), Input{}); got.Outcome != Equal {
				t.Fatalf("rules %d: not equal to itself: %s\n%q", i, ref.Body.Bytes, brief(got.Differences))
			}
		}
	})
}

func TestHeaderRules(t *testing.T) {
	tests := []struct {
		name      string
		rules     RuleConfig
		ref, cand string
		want      string
	}{
		{"ignored", RuleConfig{IgnoreHeaders: []string{"a", "x-*"}}, "X-B: 1", "x-b: 2", "~header changed x-b 1|2 <ignore.headers[1]>"},
		{"by default", RuleConfig{}, "Date: 1", "Date: 2", "~header changed date 1|2 <default>"},
		{"type", RuleConfig{Equal: []EqualRule{{Header: "X-*", Type: TypeTimestamp, Within: time.Second}}}, "X-B: 2026-11-25T10:00:00Z", "X-B: 2026-11-25T10:00:01Z",
			"~header changed x-b 2026-11-25T10:00:00Z|2026-11-25T10:00:01Z <equal[0]>"},
		{"not that field", RuleConfig{Equal: []EqualRule{{Header: "X-C", Tolerance: "1"}}}, "X-B: 1", "X-B: 2", "header changed x-b 1|2"},
		{"each line", RuleConfig{Equal: []EqualRule{{Header: "x", Tolerance: "1"}}}, "X: 1\nX: 5", "X: 9\nX: 6", "header changed x 1, 5|9, 6"},
		{"everywhere", RuleConfig{IgnoreValues: []string{"[0-9]+ms"}}, "Server-Timing: db 1ms", "Server-Timing: db 22ms", "~header changed server-timing db 1ms|db 22ms <ignore.values>"},
		{"added", RuleConfig{IgnoreValues: []string{".*"}}, "", "X: 1", "header added x |1"},
		{"the aspect", RuleConfig{IgnoreAspects: []string{"header"}}, "A: 1", "B: 1", "~header removed a 1| <ignore.aspects[0]>\n~header added b |1 <ignore.aspects[0]>"},
		{"an authority of its own", RuleConfig{Equal: []EqualRule{{Header: "location", Type: TypeURL}}}, "Location: http://a/x", "Location: http://b/x", "~header changed location http://a/x|http://b/x <equal[0]>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := compile(t, tt.rules)
			lines := func(s string) []string {
				return slices.DeleteFunc(strings.Split(s, "\n"), func(s string) bool { return s == "" })
			}
			ref, cand := answer(200, "", lines(tt.ref)...), answer(200, "", lines(tt.cand)...)
			if got := strings.Join(withRules(r.Compare(get(), ref, cand, Input{}).Differences), "\n"); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			checkSymmetric(t, r, ref, cand)
		})
	}
}

func TestIgnoreAspects(t *testing.T) {
	ref, cand := answer(200, "a", "X: 1"), answer(500, "b", "X: 2")
	ref.Trailer, cand.Trailer = header("T: 1"), header("T: 2")
	r := compile(t, RuleConfig{IgnoreAspects: []string{"status", "header", "body"}})
	got := r.Compare(get(), ref, cand, Input{})
	expectDiffs(t, got, Divergent, "~status changed 200|500", "~header changed x 1|2", "~body changed a|b ;the first difference is at byte 0", "trailer changed t 1|2")
	r = compile(t, RuleConfig{IgnoreAspects: []string{"status", "header", "body", "trailer"}})
	if got := r.Compare(get(), ref, cand, Input{}); got.Outcome != Ignored {
		t.Errorf("%v", got.Outcome)
	}
	// A candidate that failed is no aspect.
	if got := r.Compare(get(), ref, nil, Input{CandidateError: "timeout"}); got.Outcome != Divergent {
		t.Errorf("%v", got.Outcome)
	}
}

func TestRuleErrors(t *testing.T) {
	_, err := Compile(RuleConfig{
		IgnoreJSON:    []string{"$.a[?@.b ==]"},
		IgnoreValues:  []string{"a", "", "a(b", "x[z-a]", "a**"},
		IgnoreAspects: []string{"headers"},
		Equal: []EqualRule{
			{}, {Type: "UUID"}, {Type: "uuid", Pattern: "x"}, {Type: "uuid", Within: 1}, {Type: "timestamp", Within: -1}, {JSON: "$.", Type: "uuid"}, {JSON: "$.a", Header: "b", Type: "url"},
			{Header: "a b", Type: "url"}, {Tolerance: "-1"}, {Tolerance: "1 percent"}, {Tolerance: "%"}, {Tolerance: "1e9999"}, {Pattern: `\q`},
		},
		Arrays: []ArrayRule{{}, {JSON: "$.a"}, {JSON: "$.a", As: "bag"}, {JSON: "$.a", As: "set", Key: "id"}, {JSON: "$[", As: "set"}, {JSON: "$.a", Key: "@..id"}, {JSON: "$.a", Key: "@.id x"}},
	})
	const want = "ignore.json[0]: \"$.a[?@.b ==]\" at offset 11: want @, a literal, ( or ! here\n" +
		"ignore.values[1]: is empty\n" +
		"ignore.values[2]: \"a(b\" at offset 3: missing closing )\n" +
		"ignore.values[3]: \"x[z-a]\" at offset 2: invalid character class range\n" +
		"ignore.values[4]: \"a**\" at offset 1: invalid nested repetition operator\n" +
		"ignore.aspects[0]: \"headers\" at offset 0: is not known: write status, grpc, header, body, trailer\n" +
		"equal[0]: needs exactly one of type, tolerance and pattern\n" +
		"equal[1].type: \"UUID\" at offset 0: is not known: write uuid, timestamp or url\n" +
		"equal[2]: needs exactly one of type, tolerance and pattern\n" +
		"equal[3].within: goes with type timestamp only\n" +
		"equal[4].within: is negative\n" +
		"equal[5].json: \"$.\" at offset 2: want a name or * after the dot (other names stand in brackets and quotes: ['a b'])\n" +
		"equal[6]: has json and header: write a rule for each\n" +
		"equal[7].header: \"a b\" at offset 1: no character of a field name\n" +
		"equal[8].tolerance: \"-1\" at offset 0: is neither a number from 0 such as 0.01 nor a share such as 1%\n" +
		"equal[9].tolerance: \"1 percent\" at offset 0: is neither a number from 0 such as 0.01 nor a share such as 1%\n" +
		"equal[10].tolerance: \"%\" at offset 0: is neither a number from 0 such as 0.01 nor a share such as 1%\n" +
		"equal[11].tolerance: \"1e9999\" at offset 0: is neither a number from 0 such as 0.01 nor a share such as 1%\n" +
		"equal[12].pattern: \"\\\\q\" at offset 0: invalid escape sequence\n" +
		"arrays[0]: needs as or key\n" +
		"arrays[0].json: is missing: write a path such as $.items\n" +
		"arrays[1]: needs as or key\n" +
		"arrays[2].as: \"bag\" at offset 0: is not known: write order or set, or key instead\n" +
		"arrays[3]: has as and key: elements that are found by a key need no as\n" +
		"arrays[4].json: \"$[\" at offset 2: the bracket is not closed\n" +
		"arrays[5].key: \"@..id\" at offset 1: in a filter only one name or index is a step\n" +
		"arrays[6].key: \"@.id x\" at offset 4: want . or [ here"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// Rules make nothing worse than slow in proportion: large arrays as sets, by key
// and near each other, long values for patterns.
func TestHostileRules(t *testing.T) {
	n := 200_000 / raceScale
	list := func(format string, turned bool) string {
		var b strings.Builder
		b.WriteByte('[')
		for i := range n {
			if turned {
				i = n - 1 - i
			}
			fmt.Fprintf(&b, format+",", i)
		}
		return b.String() + `"end"]`
	}
	nest := strings.Repeat(`[[1,2],[3,4],`, 60) + "5" + strings.Repeat("]", 60)
	for _, tt := range []struct {
		name      string
		rules     RuleConfig
		ref, cand string
		outcome   Outcome
	}{
		{"a set", RuleConfig{Arrays: []ArrayRule{{JSON: "$", As: "set"}}}, list("%d", false), list("%d", true), Equal},
		{"by key", RuleConfig{Arrays: []ArrayRule{{JSON: "$", Key: "k"}}}, list(`{"k":%d}`, false), list(`{"k":%d}`, true), Equal},
		{"one key", RuleConfig{Arrays: []ArrayRule{{JSON: "$", Key: "k"}}}, list(`{"k":1,"v":%d}`, false), list(`{"k":1,"v":%d}`, true), Divergent},
		{"all near in a set", RuleConfig{Arrays: []ArrayRule{{JSON: "$", As: "set"}}, Equal: []EqualRule{{Tolerance: "1"}}}, list("%d", false), list("%d", true), Divergent},
		{"sets in sets, all near", RuleConfig{Arrays: []ArrayRule{{JSON: "$", As: "set"}, {JSON: "$..*", As: "set"}}, Equal: []EqualRule{{Tolerance: "1"}}}, nest, strings.Replace(nest, "5", "9", 1), Divergent},
		{"a long value", RuleConfig{IgnoreValues: []string{"(a*)*b"}}, `"` + strings.Repeat("a", 10*n) + `b1"`, `"` + strings.Repeat("a", 10*n) + `b2"`, Divergent},
		{"a value beyond what rules look at", RuleConfig{IgnoreValues: []string{"a*b"}}, `"` + strings.Repeat("a", maxRuleText) + `b"`, `"` + strings.Repeat("a", maxRuleText+1) + `b"`, Divergent},
		{"filters on all", RuleConfig{IgnoreJSON: []string{"$..[?@.a.b[5]]", "$..[?@.k > 1e999999999]"}}, list(`{"k":%d}`, false), list(`{"k":%d}`, true), Divergent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := compile(t, tt.rules)
			start := cpuTime(t)
			got := r.Compare(get(), answer(200, tt.ref, jsonType), answer(200, tt.cand, jsonType), Input{})
			if took := cpuTime(t) - start; took > 5*time.Second {
				t.Errorf("took %v of the processor", took)
			}
			if got.Outcome != tt.outcome || len(got.Differences) > 201 {
				t.Errorf("%v, %d differences: %.300q", got.Outcome, len(got.Differences), brief(got.Differences[:min(2, len(got.Differences))]))
			}
		})
	}
}
