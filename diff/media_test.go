package diff

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// compareAs compares two bodies of one media type with the default rules.
func compareAs(t testing.TB, contentType, ref, cand string) *Result {
	t.Helper()
	return compareBy(t, compile(t, RuleConfig{}), contentType, ref, cand)
}

func compareBy(t testing.TB, r *Rules, contentType, ref, cand string) *Result {
	t.Helper()
	a, b := answer(200, ref, "Content-Type: "+contentType), answer(200, cand, "Content-Type: "+contentType)
	got := r.Compare(get(), a, b, Input{})
	checkSymmetric(t, r, a, b)
	return got
}

// expect compares and expects differences as brief writes them, without the
// word body; none is an equal body.
func expectBody(t *testing.T, contentType, ref, cand string, want ...string) {
	t.Helper()
	expectRuled(t, RuleConfig{}, contentType, ref, cand, want...)
}

func expectRuled(t *testing.T, c RuleConfig, contentType, ref, cand string, want ...string) {
	t.Helper()
	got := brief(compareBy(t, compile(t, c), contentType, ref, cand).Differences)
	for i := range got {
		got[i] = strings.Replace(got[i], "body ", "", 1)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\n%q and\n%q:\n got  %q\n want %q", contentType, ref, cand, got, want)
	}
}

func TestFamilies(t *testing.T) {
	for kind, want := range map[string]family{
		"application/json": familyJSON, "text/json": familyJSON, "application/problem+json": familyJSON,
		"text/plain": familyText, "text/css": familyText, "application/javascript": familyText, "application/x-ndjson": familyText,
		"application/x-www-form-urlencoded": familyForm, "multipart/form-data": familyMultipart, "multipart/mixed": familyMultipart,
		"application/xml": familyXML, "text/xml": familyXML, "image/svg+xml": familyXML, "application/xhtml+xml": familyXML, "text/html": familyHTML,
		"application/x-protobuf": familyProtobuf, "application/grpc": familyGRPC, "application/grpc+proto": familyGRPC, "application/grpc-web+json": familyGRPC,
		"application/octet-stream": familyBytes, "image/png": familyBytes, "": familyBytes, "application/grpcx": familyBytes,
	} {
		if got := newMedia(kind).family; got != want {
			t.Errorf("%q: %d, want %d", kind, got, want)
		}
		if got := newMedia(strings.ToUpper(kind) + "; a=b").family; got != want {
			t.Errorf("%q with a parameter: %d, want %d", kind, got, want)
		}
	}
	got := compile(t, RuleConfig{}).Compare(get(), answer(200, "<a/>", "Content-Type: text/xml"), answer(200, "<a></a>", "Content-Type: text/html"), Input{})
	if d := got.Differences[len(got.Differences)-1]; d.Detail != "the first difference is at byte 2" {
		t.Errorf("%q", brief(got.Differences))
	}
}

func TestCharsets(t *testing.T) {
	const utf, latin = "text/plain; charset=utf-8", "text/plain; charset=ISO-8859-1"
	across := func(typeA, a, typeB, b string) []string {
		got := compile(t, RuleConfig{IgnoreHeaders: []string{"*"}}).Compare(get(), answer(200, a, "Content-Type: "+typeA), answer(200, b, "Content-Type: "+typeB), Input{})
		var all []string
		for _, d := range got.Differences {
			if d.Aspect == AspectBody {
				all = append(all, brief([]Difference{d})...)
			}
		}
		return all
	}
	for _, tt := range []struct {
		name, typeA, a, typeB, b string
		want                     []string
	}{
		{"latin 1 and UTF-8", latin, "caf\xe9\n", utf, "café\n", nil},
		{"UTF-16 by its mark", "text/plain", "\xff\xfea\x00\xe9\x00", utf, "aé", nil},
		{"Shift JIS", "text/plain; charset=shift_jis", "\x83\x65\x83\x58\x83\x67", utf, "テスト", nil},
		{"another text", latin, "caf\xe9", utf, "cafè", []string{"body changed $[0] café|cafè"}},
		{"wrong UTF-8", utf, "ab\xe9\nx", utf, "abé\nx", []string{
			"body not_fully_compared $ ab\xe9\nx|abé\nx ;the reference: no UTF-8 at byte 2", "body changed $[0] ab\xe9|abé"}},
		{"wrong Shift JIS", utf, "a", "text/plain; charset=shift_jis", "a\x83", []string{
			"body not_fully_compared $ a|a\x83 ;the candidate: wrong in its charset at character 1", "body changed $[0] a|a\x83"}},
		{"unknown", "text/plain; charset=klingon", "a", "text/plain; charset=klingon", "b", []string{
			"body not_fully_compared $ a|b ;the reference: the charset is not known; the candidate: the charset is not known", "body changed $[0] a|b"}},
		{"a mark on one side", utf, "\ufeffa", utf, "a", []string{"body removed byte_order_mark \ufeff|"}},
		{"declared in XML", "text/xml", "<?xml version='1.0' encoding='iso-8859-1'?><a>\xe9</a>", "text/xml", "<a>é</a>", nil},
		{"declared in HTML", "text/html", "<meta charset=latin1><p>\xe9", "text/html; charset=utf-8", "<meta charset=latin1><p>é", nil},
		{"the header goes first", "text/xml; charset=utf-8", "<?xml version='1.0' encoding='iso-8859-1'?><a>é</a>", "text/xml", "<a>é</a>", nil},
	} {
		if got := across(tt.typeA, tt.a, tt.typeB, tt.b); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got  %q\n want %q", tt.name, got, tt.want)
		}
	}
}

func TestText(t *testing.T) {
	const plain = "text/plain"
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return b.String()
	}
	expectBody(t, plain, "a\nb\nc\n", "a\nB\nc\n", "changed $[1] b|B")
	expectBody(t, plain, "a\nc\n", "a\nb\nc\n", "added $[1] |b")
	expectBody(t, plain, "a\nb\nc\nd\n", "b\nc\nx\nd\n", "removed $[0] a|", "added $[2] |x")
	expectBody(t, plain, "a\nb", "a\nb\n", "changed $ a\nb|a\nb\n ;line endings differ, for the first time at index 1")
	expectBody(t, plain, "a\r\nb\r\nc", "a\nx\nc", "changed $[1] b|x", "changed $ a\r\nb\r\nc|a\nx\nc ;line endings differ, for the first time at index 0")
	expectBody(t, plain, many(1000), strings.Replace(many(1000), "line 500\n", "", 1), "removed $[500] line 500|")
	expectBody(t, plain, "x\n"+many(100)+"y\n", many(50)+"new\n"+strings.TrimPrefix(many(100), many(50))+"z\n", "removed $[0] x|", "added $[50] |new", "changed $[101] y|z")
	expectBody(t, plain, "a\n\n\nb\n", "a\n\nb\n", "removed $[2] |")
	expectRuled(t, RuleConfig{IgnoreJSON: []string{"$[1]"}}, plain, "a\nb\nc\n", "a\nB\nC\n", "~changed $[1] b|B", "changed $[2] c|C")
	// A filter holds in JSON only.
	expectRuled(t, RuleConfig{IgnoreJSON: []string{`$[?@.x]`, `$[?!@.x]`}}, plain, "a\nb\n", "a\nB\n", "changed $[1] b|B")
	expectRuled(t, RuleConfig{IgnoreValues: []string{`\d+ ms`}}, plain, "took 12 ms\nc\n", "took 3 ms\nd\n", "~changed $[0] took 12 ms|took 3 ms", "changed $[1] c|d")
	expectRuled(t, RuleConfig{Equal: []EqualRule{{JSON: "$[0]", Type: TypeTimestamp}}}, plain, "2026-11-25T00:00:00Z\n2026-11-25T00:00:00Z", "2026-11-25T00:00:01Z\n2026-11-25T00:00:01Z",
		"~changed $[0] 2026-11-25T00:00:00Z|2026-11-25T00:00:01Z", "changed $[1] 2026-11-25T00:00:00Z|2026-11-25T00:00:01Z")

	// All changed lines have one fingerprint, and a long line shows where it
	// differs.
	got := compareAs(t, plain, "a\nb\nc\n", "x\ny\nz\n")
	for _, d := range got.Differences {
		if Fingerprint("e", "/", &d) != Fingerprint("e", "/", &got.Differences[0]) {
			t.Errorf("%s has a fingerprint of its own", d.Path)
		}
	}
	long := strings.Repeat("0123456789", 2000)
	got = compareAs(t, plain, long+"x\n", long+"y\n")
	if d := got.Differences[0]; d.Path != "$[0]" || d.Reference.Offset == 0 || !strings.HasSuffix(d.Reference.Text, "9x") || d.Reference.Size != 20001 {
		t.Errorf("%+v", d)
	}
}

// align is as good as the longest common subsequence, and what it pairs is equal
// and in order.
func TestAlignIsShortest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		letters := rapid.Uint64Range(0, rapid.Uint64Range(1, 12).Draw(rt, "letters"))
		a := rapid.SliceOfN(letters, 0, 60).Draw(rt, "a")
		b := rapid.SliceOfN(letters, 0, 60).Draw(rt, "b")
		pair := align(a, b)
		last, n := -1, 0
		for i, j := range pair {
			if j < 0 {
				continue
			}
			if int(j) <= last || a[i] != b[j] {
				rt.Fatalf("%v and %v: %v", a, b, pair)
			}
			last = int(j)
			n++
		}
		lcs := make([]int, len(b)+1)
		for i := range a {
			above := 0
			for j := range b {
				old := lcs[j+1]
				if a[i] == b[j] {
					lcs[j+1] = above + 1
				} else {
					lcs[j+1] = max(lcs[j+1], lcs[j])
				}
				above = old
			}
		}
		if n != lcs[len(b)] {
			rt.Fatalf("%v and %v: %d pairs, want %d", a, b, n, lcs[len(b)])
		}
	})
}

// Whatever is edited in a text, applying the differences to the reference gives
// the candidate.
func TestTextDifferencesAreComplete(t *testing.T) {
	r := compile(t, RuleConfig{MaxDifferences: 1 << 20})
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "b", "c", "d", ""})
		ref := rapid.SliceOfN(word, 1, 30).Draw(rt, "ref")
		cand := rapid.SliceOfN(word, 1, 30).Draw(rt, "cand")
		got := r.Compare(get(), answer(200, strings.Join(ref, "\n")+"\n", "Content-Type: text/plain"), answer(200, strings.Join(cand, "\n")+"\n", "Content-Type: text/plain"), Input{})
		removed, changed, added := map[int]bool{}, map[int]string{}, map[int]string{}
		for _, d := range got.Differences {
			var i int
			if _, err := fmt.Sscanf(d.Path, "$[%d]", &i); err != nil {
				rt.Fatalf("%q", d.Path)
			}
			switch d.Kind {
			case KindRemoved:
				removed[i] = true
			case KindChanged:
				changed[i] = d.Candidate.Text
			case KindAdded:
				added[i] = d.Candidate.Text
			}
		}
		var out []string
		insert := func() {
			for {
				s, ok := added[len(out)]
				if !ok {
					return
				}
				out = append(out, s)
			}
		}
		for i, s := range ref {
			if removed[i] {
				continue
			}
			insert()
			if c, ok := changed[i]; ok {
				s = c
			}
			out = append(out, s)
		}
		insert()
		if !slices.Equal(out, cand) {
			rt.Fatalf("%q: %q, want %q", brief(got.Differences), out, cand)
		}
	})
}

func TestForm(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	expectBody(t, form, "a=1&b=2", "b=2&a=1")
	expectBody(t, form, "a=1+2", "a=1%202&")
	expectBody(t, form, "a=1&b=2", "b=3&a=1", "changed $.b 2|3")
	expectBody(t, form, "a=1&a=2", "a=2&a=1", "reordered $.a [\"1\",\"2\"]|[\"2\",\"1\"]")
	expectBody(t, form, "a=1&b=0&a=2", "b=0&a=1&a=3", "changed $.a[1] 2|3")
	expectBody(t, form, "a=1", "a=1&a=2&c", "added $.a[1] |2", "added $.c |")
	expectBody(t, form, "a%5Bb%5D=%zz", "a[b]=%zy", "changed $['a[b]'] %zz|%zy")
	expectRuled(t, RuleConfig{IgnoreJSON: []string{"$.ts"}}, form, "ts=1&x=1", "x=1&ts=2", "~changed $.ts 1|2")
}

// mime writes a multipart body with a boundary.
func mimeBody(boundary string, parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--" + boundary + "\r\n" + p + "\r\n")
	}
	return b.String() + "--" + boundary + "--\r\n"
}

func field(name, value string) string {
	return "Content-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value
}

func file(name, contentType, value string) string {
	return "Content-Disposition: form-data; name=\"" + name + "\"; filename=\"f\"\r\nContent-Type: " + contentType + "\r\n\r\n" + value
}

func TestMultipart(t *testing.T) {
	compareParts := func(c RuleConfig, kind string, ref, cand []string) []string {
		t.Helper()
		r := compile(t, c)
		got := r.Compare(get(), answer(200, mimeBody("x", ref...), "Content-Type: multipart/"+kind+"; boundary=x"),
			answer(200, mimeBody("y", cand...), "Content-Type: multipart/"+kind+"; boundary=y"), Input{})
		var all []string
		for _, d := range got.Differences {
			if d.Aspect == AspectBody {
				all = append(all, strings.TrimPrefix(brief([]Difference{d})[0], "body "))
			}
		}
		return all
	}
	for _, tt := range []struct {
		name, kind string
		ref, cand  []string
		want       []string
	}{
		{"another boundary", "form-data", []string{field("a", "1"), field("b", "2")}, []string{field("a", "1"), field("b", "2")}, nil},
		{"another order", "form-data", []string{field("a", "1"), field("b", "2")}, []string{field("b", "2"), field("a", "1")}, nil},
		{"a value", "form-data", []string{field("a", "1"), field("b", "2")}, []string{field("b", "3"), field("a", "1")}, []string{"changed $.b.body 2|3"}},
		{"one more", "form-data", []string{field("a", "1")}, []string{field("b", "2"), field("a", "1")}, []string{"added $.b |2"}},
		{"one name twice", "form-data", []string{field("a", "1"), field("a", "2")}, []string{field("a", "2")}, []string{"changed $.a[0].body 1|2", "removed $.a[1] 2|"}},
		{"JSON", "form-data", []string{file("m", "application/json", `{"a":[1,2],"b":1}`)}, []string{file("m", "application/json", `{"b":1,"a":[1,3]}`)}, []string{"changed $.m.body.a[1] 2|3"}},
		{"text", "form-data", []string{file("m", "text/plain", "a\nb")}, []string{file("m", "text/plain", "a\nc")}, []string{"changed $.m.body[1] b|c"}},
		{"XML", "form-data", []string{file("m", "text/xml", "<a><b>1</b></a>")}, []string{file("m", "text/xml", "<a><b>2</b></a>")}, []string{"changed $.m.body.a.b[0]['#text'] 1|2"}},
		{"bytes", "form-data", []string{file("m", "image/png", "ab")}, []string{file("m", "image/png", "ac")}, []string{"changed $.m.body ab|ac ;the first difference is at byte 1"}},
		{"media types", "form-data", []string{file("m", "text/plain", "a")}, []string{file("m", "image/png", "a")}, []string{"changed $.m.header['content-type'] text/plain|image/png"}},
		{"by order", "mixed", []string{"\r\na", "\r\nb", "\r\nc"}, []string{"\r\na", "\r\nc", "\r\nd"}, []string{"removed $[1] b|", "added $[2] |d"}},
		{"by order, changed", "mixed", []string{"\r\na", "\r\nb"}, []string{"\r\na", "\r\nc"}, []string{"changed $[1].body[0] b|c"}},
		{"nested", "mixed", []string{"Content-Type: multipart/mixed; boundary=i\r\n\r\n" + mimeBody("i", "\r\na")}, []string{"Content-Type: multipart/mixed; boundary=j\r\n\r\n" + mimeBody("j", "\r\nb")},
			[]string{"changed $[0].body[0].body[0] a|b"}},
		{"JSON that is none", "form-data", []string{file("m", "application/json", `{`)}, []string{file("m", "application/json", `{}`)}, []string{"type_changed $.m.body {|{} ;the reference is no JSON at byte 1"}},
	} {
		if got := compareParts(RuleConfig{}, tt.kind, tt.ref, tt.cand); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got  %q\n want %q", tt.name, got, tt.want)
		}
	}
	for rule, want := range map[string]string{
		"$.m.body.a[1]": "~body changed $.m.body.a[1] 2|3", "$.m.body": "~body changed $.m.body " + `{"a":[1,2]}|{"a":[1,3]}`, "$.m": "~body changed $.m " + `{"a":[1,2]}|{"a":[1,3]}`,
	} {
		got := compareParts(RuleConfig{IgnoreJSON: []string{rule}}, "form-data", []string{file("m", "application/json", `{"a":[1,2]}`)}, []string{file("m", "application/json", `{"a":[1,3]}`)})
		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", rule, got, want)
		}
	}
	nested := func(text string) []string {
		s := "\r\n" + text
		for i := range 2 * maxNestedParts {
			boundary := string(rune('a' + i))
			s = "Content-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\n" + mimeBody(boundary, s)
		}
		return []string{s}
	}
	if got := compareParts(RuleConfig{}, "mixed", nested("a"), nested("b")); len(got) != 1 || !strings.HasPrefix(got[0], "not_fully_compared $"+strings.Repeat("[0].body", maxNestedParts)+" ") || !strings.HasSuffix(got[0], ";"+detailNestedParts) {
		t.Errorf("nested deep: %q", got)
	}
	cut := mimeBody("x", field("a", "1"))
	expectBody(t, "multipart/form-data; boundary=x", cut, cut[:len(cut)-8], "not_fully_compared $ "+cut+"|"+cut[:len(cut)-8]+" ;the candidate: multipart is cut or broken in part 0")
	expectBody(t, "multipart/form-data", "a", "b", "not_fully_compared $ a|b ;the reference: no boundary is declared; the candidate: no boundary is declared")
}

func TestXML(t *testing.T) {
	const x = "application/xml"
	expectBody(t, x, `<a x="1" y="2"/>`, `<?xml version="1.0"?><!-- c --><a y='2'   x="1"></a>`)
	expectBody(t, x, "<a>\n  <b>1</b>\n  <c/>\n</a>", "<a><b>1</b><c></c></a>")
	expectBody(t, x, "<a>x &amp; y &#65;</a>", "<a><![CDATA[x & y A]]></a>")
	expectBody(t, x, `<p:a xmlns:p="urn:1"><p:b/></p:a>`, `<a xmlns="urn:1"><q:b xmlns:q="urn:1"/></a>`)
	expectBody(t, x, `<a xmlns="urn:1"/>`, `<a xmlns="urn:2"/>`, "changed $.a['@xmlns'] urn:1|urn:2")
	expectBody(t, x, `<a xmlns:i="`+xsiNamespace+`" xmlns:p="urn:1" i:type="p:T"/>`, `<a xmlns:i="`+xsiNamespace+`" xmlns:q="urn:1" i:type="q:T"/>`)
	expectBody(t, x, `<a xmlns:i="`+xsiNamespace+`" xmlns:p="urn:1" i:type="p:T"/>`, `<a xmlns:i="`+xsiNamespace+`" xmlns:p="urn:2" i:type="p:T"/>`, "changed $.a['@type'] {urn:1}T|{urn:2}T")
	expectBody(t, x, `<a b="1" c="2"/>`, `<a b="3" d="4"/>`, "changed $.a['@b'] 1|3", "removed $.a['@c'] 2|", "added $.a['@d'] |4")
	expectBody(t, x, "<l><i>1</i><i>2</i><i>3</i></l>", "<l><i>1</i><i>3</i></l>", "removed $.l.i[1] <i>2</i>|")
	expectBody(t, x, "<l><i>1</i><i>2</i></l>", "<l><i>1</i><i>x</i></l>", "changed $.l.i[1]['#text'] 2|x")
	expectBody(t, x, "<l><a/><b/></l>", "<l><b/><a/></l>", "reordered $.l <l><a/><b/></l>|<l><b/><a/></l>")
	expectBody(t, x, "<p>one <b>two</b> three</p>", "<p>one <b>two</b> four</p>", "changed $.p['#text'][1]  three| four")
	expectBody(t, x, "<p>one <b>two</b> three</p>", "<p><b>two</b>one  three</p>", "removed $.p['#text'][0] one |", "changed $.p['#text'][1]  three|one  three")
	expectBody(t, x, "<a/>", "<b/>", "removed $.a <a/>|", "added $.b |<b/>")
	expectBody(t, x, "<a><b>", "<a/>", "type_changed $ <a><b>|<a/> ;the reference is no XML at byte 6")
	expectBody(t, x, "<a/><b/>", "<a/>", "type_changed $ <a/><b/>|<a/> ;the reference is no XML at byte 4")
	expectBody(t, x, `<a b="1" b="1"/>`, `<a b="1"/>`, `type_changed $ <a b="1" b="1"/>|<a b="1"/> ;the reference is no XML at byte 0`)
	bomb := `<!DOCTYPE a [<!ENTITY x "aaaa"><!ENTITY y "&x;&x;">]><a>&y;</a>`
	expectBody(t, x, bomb, `<a/>`, "type_changed $ "+bomb+"|<a/> ;the reference is no XML at byte 59")
	expectRuled(t, RuleConfig{IgnoreJSON: []string{"$.a.b[*].t", "$..['@id']"}}, x, `<a id="1"><b><t>1</t><u>1</u></b></a>`, `<a id="2"><b><t>2</t><u>2</u></b></a>`,
		"~changed $.a['@id'] 1|2", "~changed $.a.b[0].t[0] <t>1</t>|<t>2</t>", "changed $.a.b[0].u[0]['#text'] 1|2")
	expectRuled(t, RuleConfig{Equal: []EqualRule{{Type: TypeTimestamp}}}, x, `<a t="2026-11-25T00:00:00Z"/>`, `<a t="2026-11-25T00:00:09Z"/>`, "~changed $.a['@t'] 2026-11-25T00:00:00Z|2026-11-25T00:00:09Z")
	expectRuled(t, RuleConfig{MaxDepth: 2}, x, "<a><b><c>1</c></b></a>", "<a><b><c>2</c></b></a>", "not_fully_compared $.a.b[0] <b><c>1</c></b>|<b><c>2</c></b> ;nested deeper than the limit")
	expectRuled(t, RuleConfig{MaxDepth: 2}, x, "<a  ><b><c>1</c></b></a>", "<a><b><c>1</c></b></a>")
	if g := GeneralisePath("$.l.i[1]['#text']"); g != "$.l.i[*]['#text']" {
		t.Error(g)
	}
}

func TestHTML(t *testing.T) {
	const h = "text/html"
	expectBody(t, h, `<!DOCTYPE html><P CLASS=a id="b">x</P>`, "<!doctype HTML>\n<p id=b class='a'>\n  x\n</p><!-- c -->")
	expectBody(t, h, "<ul><li>a<li>b</ul>", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>")
	expectBody(t, h, "<table><tr><td>1<td>2<tr><td>3</table>", "<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>")
	expectBody(t, h, "<p>a<br>b<img src=x>", "<p>a<br/>b<img src=\"x\"/></p>")
	expectBody(t, h, "<p>a &amp; b&eacute;</p>", "<p>a & bé</p>")
	expectBody(t, h, "<p>a   b\n c</p>", "<p>a b c</p>")
	expectBody(t, h, "<b>a</b> <i>b</i>", "<b>a</b><i>b</i>", "removed $['#text']  |")
	expectBody(t, h, "<pre>a  b</pre>", "<pre>a b</pre>", "changed $.pre['#text'] a  b|a b")
	expectBody(t, h, "<p>one</p><p>two</p>", "<p>one</p><p>2</p>", "changed $.p[1]['#text'] two|2")
	expectBody(t, h, "<div><p class=a>x</p></div>", "<div><p class=b>x</p></div>", "changed $.div.p[0]['@class'] a|b")
	expectBody(t, h, "<script>if (a<b) c()</script>", "<script>if (a<b) d()</script>", "changed $.script['#text'] if (a<b) c()|if (a<b) d()")
	expectBody(t, h, "<div><b>x</div>y", "<div><b>x</b></div>y", "removed $.div.b[0]['#unclosed'][0] |")
	expectBody(t, h, "x</p>", "x", "removed $['#stray'] p|")
	expectBody(t, h, "<svg><g/><g/></svg>", "<svg><g></g><g></g></svg>")
	expectRuled(t, RuleConfig{IgnoreJSON: []string{"$..meta[*]"}}, h, `<head><meta name=csrf content=1></head>`, `<head><meta name=csrf content=2></head>`,
		"~changed $.head.meta[0] <meta name=csrf content=1>|<meta name=csrf content=2>")
}
