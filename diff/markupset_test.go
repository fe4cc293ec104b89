package diff

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Rules for arrays hold in XML and HTML: for elements of one name, and for all
// that is in an element.
func TestArraysOfElements(t *testing.T) {
	const x = "application/xml"
	set := func(paths ...string) (c RuleConfig) {
		for _, p := range paths {
			c.Arrays = append(c.Arrays, ArrayRule{JSON: p, As: ArraysAsSet})
		}
		return c
	}
	by := func(path, key string) RuleConfig {
		return RuleConfig{Arrays: []ArrayRule{{JSON: path, Key: key}}}
	}
	with := func(c RuleConfig, change func(*RuleConfig)) RuleConfig { change(&c); return c }
	for _, tt := range []struct {
		name      string
		rules     RuleConfig
		ref, cand string
		want      []string
	}{
		{"a set by name", set("$.l.i"), "<l><i>1</i><i>2</i><i>3</i></l>", "<l><i>3</i><i>1</i><i>2</i></l>", nil},
		{"a set by its element", set("$.l"), "<l><i>1</i><k/><i>2</i></l>", "<l><i>2</i><i>1</i><k/></l>", nil},
		{"further down", set("$.l.m[*]"), "<l><m><a/><b/></m></l>", "<l><m><b/><a/></m></l>", nil},
		{"other names keep their order", set("$.l.i"), "<l><i>1</i><a/><i>2</i><b/></l>", "<l><b/><i>2</i><i>1</i><a/></l>",
			[]string{"reordered $.l <l><i>1</i><a/><i>2</i><b/></l>|<l><b/><i>2</i><i>1</i><a/></l>"}},
		{"a name that keeps its order in an element that does not", RuleConfig{Arrays: []ArrayRule{{JSON: "$.l.i", As: ArraysByOrder}, {JSON: "$.l", As: ArraysAsSet}}},
			"<l><a/><i>1</i><i>2</i><b/></l>", "<l><b/><i>2</i><i>1</i><a/></l>", []string{"reordered $.l <l><a/><i>1</i><i>2</i><b/></l>|<l><b/><i>2</i><i>1</i><a/></l>"}},
		{"other places", set("$.l.i"), "<l><m><i>1</i><i>2</i></m></l>", "<l><m><i>2</i><i>1</i></m></l>", []string{"reordered $.l.m[0] <m><i>1</i><i>2</i></m>|<m><i>2</i><i>1</i></m>"}},
		{"one more", set("$.l.i"), "<l><i>1</i><i>2</i></l>", "<l><i>2</i><i>3</i><i>1</i></l>", []string{"added $.l.i[1] |<i>3</i>"}},
		{"one less", set("$.l.i"), "<l><i>3</i><i>1</i><i>2</i></l>", "<l><i>2</i><i>1</i></l>", []string{"removed $.l.i[0] <i>3</i>|"}},
		{"as often", set("$.l.i"), "<l><i>1</i><i>1</i><i>2</i></l>", "<l><i>2</i><i>1</i></l>", []string{"removed $.l.i[1] <i>1</i>|"}},
		{"changed is removed and added", set("$.l.i"), "<l><i>1</i><i>2</i></l>", "<l><i>2</i><i>3</i></l>", []string{"removed $.l.i[0] <i>1</i>|", "added $.l.i[1] |<i>3</i>"}},
		{"an attribute counts", set("$.l.i"), `<l><i a="1"/><i a="2"/></l>`, `<l><i a="2"/><i b="1"/></l>`, []string{`removed $.l.i[0] <i a="1"/>|`, `added $.l.i[1] |<i b="1"/>`}},
		{"one alone is changed", set("$.l.i"), "<l><i>1</i></l>", "<l><i>2</i></l>", []string{"changed $.l.i[0]['#text'] 1|2"}},
		{"texts keep their order", set("$.p"), "<p>a<b/>c<i/></p>", "<p>c<i/>a<b/></p>", []string{"reordered $.p <p>a<b/>c<i/></p>|<p>c<i/>a<b/></p>"}},
		{"a set in a set", set("$.l.i", "$.l.i[*].k"), "<l><i><k>1</k><k>2</k></i><i><k>3</k></i></l>", "<l><i><k>3</k></i><i><k>2</k><k>1</k></i></l>", nil},
		{"a set in what is ordered", set("$.l.i[*].k"), "<l><i><k>1</k><k>2</k></i><i><k>3</k></i></l>", "<l><i><k>0</k></i><i><k>2</k><k>1</k></i><i><k>3</k></i></l>", []string{"added $.l.i[0] |<i><k>0</k></i>"}},
		{"ignored in a set", with(set("$.l.i"), func(c *RuleConfig) { c.IgnoreJSON = []string{"$.l.i[*].t", "$..['@s']"} }),
			`<l><i s="1"><n>a</n><t>1</t></i><i><n>b</n></i></l>`, `<l><i><n>b</n><t/></i><i s="2"><n>a</n><t>2</t></i></l>`,
			[]string{"~changed $.l.i[0]['@s'] 1|2", "~changed $.l.i[0].t[0] <t>1</t>|<t>2</t>", "~added $.l.i[1].t[0] |<t/>"}},
		{"equal by a rule in a set", with(set("$.l.i"), func(c *RuleConfig) { c.Equal = []EqualRule{{JSON: "$.l.i[*]['@at']", Type: TypeTimestamp}} }),
			`<l><i at="2026-11-25T00:00:00Z">a</i><i at="2026-11-25T00:00:01Z">b</i></l>`, `<l><i at="2026-11-25T00:00:08Z">b</i><i at="2026-11-25T00:00:09Z">a</i></l>`,
			[]string{"~changed $.l.i[0]['@at'] 2026-11-25T00:00:00Z|2026-11-25T00:00:09Z", "~changed $.l.i[1]['@at'] 2026-11-25T00:00:01Z|2026-11-25T00:00:08Z"}},
		{"values in a set", with(set("$.l.i"), func(c *RuleConfig) { c.IgnoreValues = []string{"b-[0-9]+"} }), "<l><i>b-1 x</i><i>y</i></l>", "<l><i>y</i><i>b-2 x</i></l>", []string{"~changed $.l.i[0]['#text'] b-1 x|b-2 x"}},
		{"near in a set, by another way", with(set("$.l.i"), func(c *RuleConfig) { c.Equal = []EqualRule{{Tolerance: "1"}} }), "<l><i>2</i><i>1</i></l>", "<l><i>1.5</i><i>3</i></l>",
			[]string{"~changed $.l.i[0]['#text'] 2|3", "~changed $.l.i[1]['#text'] 1|1.5"}},
		{"by an attribute", by("$.l.i", "@id"), `<l><i id="1" v="1"/><i id="2" v="2"/></l>`, `<l><i id="2" v="2"/><i id="1" v="3"/></l>`, []string{"changed $.l.i[0]['@v'] 1|3"}},
		{"by an element", by("$.l.i", "id"), "<l><i><id>1</id><v>1</v></i><i><id>2</id></i></l>", "<l><i><id>2</id></i><i><id>1</id><v>3</v></i></l>", []string{"changed $.l.i[0].v[0]['#text'] 1|3"}},
		{"by a query", by("$.l.i", "@.m.k[1]['@id']"), `<l><i><m><k/><k id="a"/></m>1</i><i><m><k/><k id="b"/></m>2</i></l>`, `<l><i><m><k/><k id="b"/></m>2</i><i><m><k/><k id="a"/></m>3</i></l>`,
			[]string{"changed $.l.i[0]['#text'] 1|3"}},
		{"by its own text", by("$.l.i", "#text"), `<l><i v="1">a</i><i v="2">b</i></l>`, `<l><i v="2">b</i><i v="3">a</i></l>`, []string{"changed $.l.i[0]['@v'] 1|3"}},
		{"as its own key", by("$.l.i", "@"), `<l><i v="1">a</i><i v="2">b</i></l>`, `<l><i v="2">b</i><i v="3">a</i></l>`, []string{"changed $.l.i[0]['@v'] 1|3"}},
		{"one key", by("$.l.i", "@id"), `<l><i id="1">a</i><i id="1">b</i></l>`, `<l><i id="1">a</i><i id="1">c</i></l>`, []string{"changed $.l.i[1]['#text'] b|c"}},
		{"without the key a set", by("$.l.i", "@id"), `<l><i id="1"/><i>a</i><i>b</i></l>`, `<l><i>b</i><i>a</i><i id="1"/></l>`, nil},
		{"a key with elements in it is none", by("$.l.i", "id"), "<l><i><id><a/></id>1</i><i>2</i></l>", "<l><i>2</i><i><id><a/></id>3</i></l>", []string{"removed $.l.i[0] <i><id><a/></id>1</i>|", "added $.l.i[1] |<i><id><a/></id>3</i>"}},
		{"one key and two names", by("$.l", "@id"), `<l><a id="1"/><b id="1"/></l>`, `<l><b id="1"/><a id="1"/></l>`, nil},
		{"namespaces", set("$.l.i"), `<l xmlns:p="urn:1"><p:i/><i/></l>`, `<l xmlns:p="urn:2"><i/><p:i/></l>`, []string{"removed $.l.i[0] <p:i/>|", "added $.l.i[1] |<p:i/>"}},
		{"deeper than the limit", with(set("$.l.i"), func(c *RuleConfig) { c.MaxDepth = 2 }), "<l><i><k>1</k></i><i><k>2</k></i></l>", "<l><i><k>2</k></i><i><k>1</k></i></l>", nil},
		{"a key deeper than the limit", with(by("$.l.i", "k"), func(c *RuleConfig) { c.MaxDepth = 3 }), "<l><i><k><z>1</z></k></i><i><k><z>2</z></k></i></l>", "<l><i><k><z>2</z></k></i><i><k><z>1</z></k></i></l>", nil},
		{"everywhere", set("$..*"), "<l><i>1</i><i>2</i><m><a/><b/></m></l>", "<l><m><b/><a/></m><i>2</i><i>1</i></l>", nil},
	} {
		t.Run(tt.name, func(t *testing.T) { expectRuled(t, tt.rules, x, tt.ref, tt.cand, tt.want...) })
	}
	expectRuled(t, set("$.html.body[0].ul[*].li"), "text/html", "<html><body><ul><li>a<li>b</ul>", "<html><body><ul><li>b<li>a</ul>")
	// What is written as JSON has them too; lines of a text have their order.
	expectRuled(t, set("$.a"), "application/x-www-form-urlencoded", "a=1&a=2", "a=2&a=1")
	expectRuled(t, set("$['#1']"), "application/x-protobuf", "\x08\x01\x08\x02", "\x08\x02\x08\x01")
	expectRuled(t, set("$"), "text/plain", "a\nb\n", "b\na\n", "removed $[0] a|", "added $[1] |a")
	expectRuled(t, set("$.p"), "text/html", "<p>a</p><p>b</p>", "<p>b</p><p>a</p>")
}

// drawElement draws a document of few names, texts and attributes.
func drawElement(t *rapid.T, depth int) string {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
	var b strings.Builder
	b.WriteString("<" + name)
	if rapid.Bool().Draw(t, "attribute") {
		fmt.Fprintf(&b, ` id="%d"`, rapid.IntRange(0, 2).Draw(t, "id"))
	}
	b.WriteString(">")
	if depth == 0 {
		fmt.Fprint(&b, rapid.IntRange(0, 2).Draw(t, "text"))
	} else {
		for range rapid.IntRange(0, 4).Draw(t, "kids") {
			b.WriteString(drawElement(t, depth-1))
		}
	}
	return b.String() + "</" + name + ">"
}

// Whatever the order at any depth, a set is equal to itself, and with one element
// more or less it is not.
func TestElementsAreSets(t *testing.T) {
	r := compile(t, RuleConfig{Arrays: []ArrayRule{{JSON: "$..*", As: ArraysAsSet}}})
	const x = "text/xml"
	rapid.Check(t, func(rt *rapid.T) {
		root := "<r>" + drawElement(rt, 2) + drawElement(rt, 2) + drawElement(rt, 1) + "</r>"
		shuffled := shuffle(root, rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)))
		if got := compareBy(t, r, x, root, shuffled); got.Outcome != Equal {
			rt.Fatalf("%s\n%s\n%q", root, shuffled, brief(got.Differences))
		}
		more := strings.Replace(shuffled, "<r>", "<r><c/>", 1)
		if got := brief(compareBy(t, r, x, root, more).Differences); len(got) != 1 || got[0] != "body added $.r.c[0] |<c/>" {
			rt.Fatalf("%s\n%s\n%q", root, more, got)
		}
	})
}

// shuffle writes a document with the elements of each element in another order.
func shuffle(doc string, r *rand.Rand) string {
	open := doc[:strings.IndexByte(doc, '>')+1]
	end := strings.LastIndexByte(doc, '<')
	inner := doc[len(open):end]
	var kids []string
	for depth, from, i := 0, 0, 0; i < len(inner); i++ {
		switch {
		case inner[i] == '<' && inner[i+1] == '/':
			if depth--; depth == 0 {
				i += strings.IndexByte(inner[i:], '>')
				kids = append(kids, shuffle(inner[from:i+1], r))
				from = i + 1
			}
		case inner[i] == '<':
			depth++
		}
	}
	if kids == nil {
		return doc
	}
	r.Shuffle(len(kids), func(i, j int) { kids[i], kids[j] = kids[j], kids[i] })
	return open + strings.Join(kids, "") + doc[end:]
}

// A set of many elements, all of which may be equal to each other, costs no more
// than its length times a constant: the budget ends the trying.
func TestManyElementsInASet(t *testing.T) {
	const n = 20_000
	list := func(turned bool) string {
		var b strings.Builder
		b.WriteString("<l>")
		for i := range n {
			if turned {
				i = n - 1 - i
			}
			fmt.Fprintf(&b, "<i>%d</i>", i)
		}
		return b.String() + "</l>"
	}
	r := RuleConfig{Arrays: []ArrayRule{{JSON: "$.l.i", As: ArraysAsSet}}}
	expectRuled(t, r, "text/xml", list(false), list(true))
	r.Equal = []EqualRule{{Tolerance: "1"}}
	if got := compareBy(t, compile(t, r), "text/xml", list(false), list(true)); got.Outcome != Divergent {
		t.Errorf("%v: it was paired by trying", got.Outcome)
	}
}
