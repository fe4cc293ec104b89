package diff

import (
	"testing"
)

// FuzzMedia: any bodies of any two media types.
func FuzzMedia(f *testing.F) {
	for _, s := range [][3]string{
		{"text/plain", "a\nb\r\nc", "a\nc\n"},
		{"text/plain; charset=utf-16", "\xff\xfea\x00", "a"},
		{"application/x-www-form-urlencoded", "a=1&a=2&b=%41+", "b=A+&a=2"},
		{"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--", "--b\r\n\r\n--b--"},
		{"multipart/mixed; boundary=b", "--b\r\nContent-Type: application/json\r\n\r\n{\"a\":1}\r\n--b--", "--b\r\nContent-Type: text/xml\r\n\r\n<a/>\r\n--b--"},
		{"application/xml", `<a xmlns="u" x="1">t<b/>u<!-- c --><?p i?></a>`, `<p:a xmlns:p="u" x="2"><p:b>1</p:b></p:a>`},
		{"text/xml", "<!DOCTYPE a><a>&amp;&#65;</a>", "<a><![CDATA[x]]></a>"},
		{"text/html", "<ul><li>a<li>b</ul><p>x<div>y</p>", "<ul><li>a</li></ul><svg><g/></svg><pre> x</pre>"},
		{"text/xml", `<a x="1"><b><k>1</k><c>1</c><c>2</c></b><b y="1">2<t/></b></a>`, `<a x="1"><b>3</b><b><k>1</k><c>2</c><c>3</c></b></a>`},
		{"application/octet-stream", "a", "b"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	plain, err := Compile(RuleConfig{})
	if err != nil {
		f.Fatal(err)
	}
	ruled, err := Compile(RuleConfig{IgnoreJSON: []string{"$..a", "$[0]", "$..['@x']"}, IgnoreValues: []string{"[0-9]+"}, MaxDepth: 3, MaxDifferences: 1 << 20, MaxValues: 64})
	if err != nil {
		f.Fatal(err)
	}
	sets, err := Compile(RuleConfig{Arrays: []ArrayRule{{JSON: "$.a", Key: "@x"}, {JSON: "$..b", Key: "k"}, {JSON: "$..*", As: ArraysAsSet}}, Equal: []EqualRule{{Tolerance: "1"}}, IgnoreJSON: []string{"$..t", "$..['@y']"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, contentType, a, b string) {
		if len(a) > 4<<10 || len(b) > 4<<10 {
			return
		}
		ref, cand := answer(200, a, "Content-Type: "+contentType), answer(200, b, "Content-Type: "+contentType)
		checkResult(t, plain, get(), ref, cand)
		checkResult(t, ruled, get(), ref, cand)
		checkResult(t, sets, get(), ref, cand)
		if n := newMedia(contentType).family; a != b && n == familyBytes && plain.Compare(get(), ref, cand, Input{}).Outcome == Equal && len(codings(ref.Header)) == 0 {
			t.Fatal("equal")
		}
	})
}
