package redact

import (
	"strings"
	"testing"
)

func TestMarkup(t *testing.T) {
	r := newRedactor(t, Config{JSON: []string{"$..street", "$..['@ref']", "$.x.note[*]['#text']"}})
	tok := r.tokens.Load().token
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "<a b='1'>x</a>", "<a b='1'>x</a>"},
		{"element", "<pin>1</pin>", "<pin>" + tok("pin", "1") + "</pin>"},
		{"with a prefix", "<s:password x='1'> hunter2 </s:password>", "<s:password x='1'> " + tok("password", "hunter2") + " </s:password>"},
		{"with elements in it", "<password><v>hunter2</v></password>y", "<password>" + tok("password", "<v>hunter2</v>") + "</password>y"},
		{"escaped", "<password>a&amp;b&lt;</password>", "<password>" + tok("password", "a&b<") + "</password>"},
		{"attribute", `<user id="7" password = "a&amp;b"/>`, `<user id="7" password = "` + tok("password", "a&b") + `"/>`},
		{"attribute without quotes", "<user token=abc>", "<user token=" + tok("token", "abc") + ">"},
		{"a field", `<input type=hidden name="csrf_token" value="x1">`, `<input type=hidden name="csrf_token" value="` + tok("csrf_token", "x1") + `">`},
		{"a field, other order", `<meta content='x1' name='csrf-token'>`, `<meta content='` + tok("csrf-token", "x1") + `' name='csrf-token'>`},
		{"a parameter", `<param name="password">hunter2</param>`, `<param name="password">` + tok("password", "hunter2") + `</param>`},
		{"by a rule", `<street>High 1</street><a ref="9"/><x><note>n</note></x>`, `<street>` + tok("street", "High 1") + `</street><a ref="` + tok("ref", "9") + `"/><x><note>` + tok("note", "n") + `</note></x>`},
		{"by its form", "<a>ada@example.com</a>", "<a>" + tok("email", "ada@example.com") + "</a>"},
		{"in a comment", "<!-- password=hunter2 -->", "<!-- password=" + tok("password", "hunter2") + " -->"},
		{"cut", "<a><password>hunt", "<a><password>" + tok("password", "hunt")},
		{"cut in a value", `<a password="hunt`, `<a password="` + tok("password", "hunt")},
		{"no end tag", "<password>hunter2<b>x", "<password>" + tok("password", "hunter2") + "<b>x"},
		{"CDATA", "<password><![CDATA[hunter2]]></password>", "<password>" + tok("password", "<![CDATA[hunter2]]>") + "</password>"},
	} {
		if got := newJob(r).content("text/html", c.in); got != c.want {
			t.Errorf("%s:\n got  %q\n want %q", c.name, got, c.want)
		}
	}
	// Elements without ends cost no more than their length.
	newJob(r).markup(strings.Repeat("<password ", 1<<18) + strings.Repeat("<pin>", 1<<18))
}

func FuzzMarkup(f *testing.F) {
	for _, s := range []string{"<a b='1' password=2>x</a><pin>1</pin>", "<password", "<input name=token value", "<!-- <pin>1", "</", "<a x='"} {
		f.Add(s)
	}
	r := newRedactor(f, Config{JSON: []string{"$..street"}})
	f.Fuzz(func(t *testing.T, s string) {
		planted := "<password>hunter2-planted</password>" + s
		if out := newJob(r).markup(planted); strings.Contains(out, "hunter2-planted") && !strings.Contains(s, "hunter2-planted") {
			t.Fatalf("%q", out)
		}
	})
}
