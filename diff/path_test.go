package diff

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePath(t *testing.T) {
	for _, s := range []string{
		"$", "$.a", "$.a.b", "$['a']", `$["a"]`, "$[0]", "$[10]", "$[*]", "$.*", "$..a", "$..*", "$..[*]", "$..['a']", "$..[0]", "$['a', 0,*]", "$ .a [0]", "$[ 'a' ]",
		"$[?@.a]", "$[?@]", "$..[?@.a == 'b' && (!@.c || @['d'][0] >= -1.5e3)]", "$[? !(@.a<1), 'b', ?null != @.c]", "$[?@.a==true||@.a==false]",
		"$._a1", "$.ä", `$['\'\\\/\b\f\n\r\t\u00e4\ud83d\ude00']`, `$["'\""]`, "$['']", "$.a..b[*]['c d']",
	} {
		if _, err := parsePath(s); err != nil {
			t.Errorf("%s: %+v", s, *err)
		}
	}
	for _, tt := range []struct {
		rule   string
		offset int
		reason string
	}{
		{"", 0, "a path begins with $"},
		{"a", 0, "a path begins with $"},
		{" $", 0, "a path begins with $"},
		{"$a", 1, "want . or [ here"},
		{"$ ", 1, "white space after the path"},
		{"$.a ", 3, "white space after the path"},
		{"$.", 2, "want a name or * after the dot"},
		{"$..", 3, "want a name or * after the dot"},
		{"$...a", 3, "want a name or * after the dot"},
		{"$.9", 2, "want a name or * after the dot"},
		{"$.a-b", 3, "want . or [ here"},
		{"$.a\xff", 3, "not UTF-8"},
		{"$.'a'", 2, "want a name or * after the dot"},
		{"$[", 2, "the bracket is not closed"},
		{"$[]", 2, "want a name in quotes, an index, * or a filter"},
		{"$[a]", 2, "want a name in quotes, an index, * or a filter"},
		{"$['a'", 5, "the bracket is not closed"},
		{"$['a'b]", 5, "want , or ] here"},
		{"$['a',]", 6, "want a name in quotes, an index, * or a filter"},
		{"$['a", 2, "the quote is not closed"},
		{`$['\x']`, 3, "no such escape"},
		{`$['\"']`, 3, "no such escape"},
		{`$['\`, 3, "the escape is cut"},
		{`$['\u12']`, 3, "want four hex digits after \\u"},
		{`$['a\ud800']`, 4, "half a surrogate pair"},
		{`$['\ud800\u0041']`, 3, "half a surrogate pair"},
		{"$['\n']", 3, "a control character"},
		{"$['\xff']", 3, "not UTF-8"},
		{"$[01]", 2, "an index has no leading zeros"},
		{"$[-1]", 2, "negative indexes are not supported"},
		{"$[99999999999999999999]", 2, "the index is too large"},
		{"$[1:2]", 3, "slices are not supported"},
		{"$[:2]", 2, "slices are not supported"},
		{"$[?", 3, "the filter is cut"},
		{"$[?]", 3, "want @, a literal, ( or ! here"},
		{"$[?@.a", 6, "the bracket is not closed"},
		{"$[?(@.a]", 3, "the parenthesis is not closed"},
		{"$[?@.a==]", 8, "want @, a literal, ( or ! here"},
		{"$[?@.a==@.b]", 8, "comparisons of two queries are not supported"},
		{"$[?@.a==$.b]", 8, "comparisons of two queries are not supported"},
		{"$[?$.b]", 3, "queries from the root are not supported"},
		{"$[?1==$.b]", 6, "want @ here"},
		{"$[?1==1]", 6, "want @ here"},
		{"$[?'a']", 6, "want a comparison after the literal"},
		{"$[?length(@.a)==1]", 3, "functions are not supported"},
		{"$[?@..a]", 4, "in a filter only one name or index is a step"},
		{"$[?@.*]", 4, "in a filter only one name or index is a step"},
		{"$[?@[0,1]]", 4, "in a filter only one name or index is a step"},
		{"$[?@[?@.a]]", 4, "in a filter only one name or index is a step"},
		{"$[?!@.a==1]", 3, "a comparison is negated in parentheses"},
		{"$[?!!@.a]", 4, "want ( or @ after the !"},
		{"$[?@.a=1]", 6, "want , or ] here"},
		{"$[?@.a==01]", 9, "want , or ] here"},
		{"$[?@.a==-]", 8, "no number"},
		{"$[?@.a==nul]", 8, "functions are not supported"},
		{"$[?@.a && ]", 10, "want @, a literal, ( or ! here"},
		{"$[?" + strings.Repeat("(", 100), 67, "the filter is nested too deep"},
	} {
		_, err := parsePath(tt.rule)
		if err == nil || err.offset != tt.offset || !strings.HasPrefix(err.reason, tt.reason) {
			t.Errorf("%q: %+v, want %d %s", tt.rule, err, tt.offset, tt.reason)
		}
	}
}

// place is a path as steps: strings are names, ints indexes.
type place []any

// matches is the oracle: RFC 9535 word by word, without an automaton.
func matches(segs []segment, at place) bool {
	if len(segs) == 0 {
		return len(at) == 0
	}
	if len(at) == 0 {
		return false
	}
	for _, sel := range segs[0].selectors {
		name, named := at[0].(string)
		index, _ := at[0].(int)
		hit := sel.any || sel.named && named && sel.name == name || !sel.named && !named && !sel.any && sel.index == index
		if hit && matches(segs[1:], at[1:]) {
			return true
		}
	}
	return segs[0].descendant && matches(segs, at[1:])
}

func TestMatcherAgreesWithOracle(t *testing.T) {
	step := rapid.SampledFrom([]string{".a", ".b", "['c']", "[0]", "[1]", "[*]", ".*", "..a", "..*", "..[0]", "['a',1]", "..['b','c']"})
	rapid.Check(t, func(t *rapid.T) {
		var m matcher
		var rules []string
		var all [][]segment
		for range rapid.IntRange(0, 4).Draw(t, "rules") {
			rule := "$" + strings.Join(rapid.SliceOfN(step, 0, 4).Draw(t, "steps"), "")
			segs, err := parsePath(rule)
			if err != nil {
				t.Fatalf("%s: %+v", rule, *err)
			}
			rules, all = append(rules, rule), append(all, segs)
			if n := m.add(segs); n.ignore < 0 {
				n.ignore = int32(len(all) - 1)
			}
		}
		var s states
		s.reset(&m, nil, nil)
		var at place
		for range rapid.IntRange(0, 12).Draw(t, "moves") {
			if len(at) > 0 && rapid.IntRange(0, 3).Draw(t, "up") == 0 {
				at = at[:len(at)-1]
				s.up()
			} else if rapid.Bool().Draw(t, "name") {
				name := rapid.SampledFrom([]string{"a", "b", "c", "d", "0"}).Draw(t, "name")
				at = append(at, name)
				s.name([]byte(name), none, none)
			} else {
				i := rapid.IntRange(0, 2).Draw(t, "index")
				at = append(at, i)
				s.element(i, none, none)
			}
			want := int32(slices.IndexFunc(all, func(segs []segment) bool { return matches(segs, at) }))
			if got := s.ignore(); got != want {
				t.Fatalf("%q at %v: rule %d, want %d", rules, at, got, want)
			}
			if want >= 0 && !s.live() {
				t.Fatalf("%q at %v: final but not live", rules, at)
			}
		}
	})
}

// Several selectors in each bracket: the automaton grows with the rule's
// length, not with the number of ways through it.
func TestMatcherIsLinear(t *testing.T) {
	segs, bad := parsePath("$" + strings.Repeat("..['a','b',0,*]", 1000))
	if bad != nil {
		t.Fatalf("%+v", *bad)
	}
	var m matcher
	m.add(segs)
	if len(m.nodes) > 2*1000+1 {
		t.Errorf("%d states", len(m.nodes))
	}
}

// A path in a result, given back as a rule, names that place.
func TestPathsAreRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(0, 20, -1).Draw(t, "name")
		b := appendName([]byte("$[3]"), []byte(name))
		segs, err := parsePath(string(b))
		if err != nil {
			t.Fatalf("%s: %+v", b, *err)
		}
		if !matches(segs, place{3, name}) {
			t.Fatalf("%s does not name %q", b, name)
		}
	})
}

func TestIsKeyLike(t *testing.T) {
	for _, s := range []string{
		"1", "42", "-5", "3.14", "2026-11-23", "2026-11-23T10:00:00Z", "10:30", "10.0.0.1", "9b2c2f1e-3c1e-4f0e-9a59-0a6b5f0b8f10", "9B2C2F1E-3C1E-4F0E-9A59-0A6B5F0B8F10", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
		"deadbeef01", "DEADBEE0", "507f1f77bcf86cd799439011", "a@example.com", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "cus_9s6XKzkNRiz8i3", strings.Repeat("word ", 20),
	} {
		if !IsKeyLike(s) {
			t.Errorf("%q is no key", s)
		}
	}
	for _, s := range []string{
		"", "a", "name", "address1", "line2", "sha256", "utf8", "defaced", "effaced", "deadbeef", "0xdeadbeef", "@type", "a@", "@", "$ref", "first name", "created_at", "x-y",
		"shipping_address_line_2", "internationalization_settings", "DeadBeef01", "äöü", "v1", "item3",
	} {
		if IsKeyLike(s) {
			t.Errorf("%q is a key", s)
		}
	}
}

func TestGeneralisePath(t *testing.T) {
	for _, tt := range [][2]string{
		{"", ""},
		{"byte_order_mark", "byte_order_mark"},
		{"$", "$"},
		{"$.a.b", "$.a.b"},
		{"$[0]", "$[*]"},
		{"$.a[17][3].b", "$.a[*][*].b"},
		{"$['a b'].c", "$['a b'].c"},
		{"$['it\\'s'][1]", "$['it\\'s'][*]"},
		{"$['17'].name", "$.*.name"},
		{"$.users['9b2c2f1e-3c1e-4f0e-9a59-0a6b5f0b8f10'].name", "$.users.*.name"},
		{"$.byDay['2026-11-23']['a.b']", "$.byDay.*['a.b']"},
		{"$.m.ab12cd34ef.x", "$.m.*.x"},
		{"$['a@example.com']", "$.*"},
		{"$['[0]'][0]", "$['[0]'][*]"},
		{"$.abc…", "$.abc…"},
		{"$['abc…", "$['abc…"},
		{"$.a[1…", "$.a[*]"},
		{"$.a…", "$.a…"},
	} {
		if got := GeneralisePath(tt[0]); got != tt[1] {
			t.Errorf("%s: %s, want %s", tt[0], got, tt[1])
		}
	}
}

// What is generalised stays so, however the indexes run.
func TestGeneralisePathForgetsIndexesAndKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a, b []byte
		a, b = append(a, '$'), append(b, '$')
		for range rapid.IntRange(0, 6).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				a = fmt.Appendf(a, "[%d]", rapid.IntRange(0, 1000).Draw(t, "i"))
				b = fmt.Appendf(b, "[%d]", rapid.IntRange(0, 1000).Draw(t, "j"))
			case 1:
				a = appendName(a, fmt.Append(nil, rapid.Uint32().Draw(t, "key")))
				b = appendName(b, fmt.Append(nil, rapid.Uint32().Draw(t, "other")))
			default:
				name := []byte(rapid.SampledFrom([]string{"a", "b c", "it's", "x.y", "[", "\\", "ä"}).Draw(t, "name"))
				a, b = appendName(a, name), appendName(b, name)
			}
		}
		ga, gb := GeneralisePath(string(a)), GeneralisePath(string(b))
		if ga != gb {
			t.Fatalf("%s -> %s\n%s -> %s", a, ga, b, gb)
		}
	})
}
