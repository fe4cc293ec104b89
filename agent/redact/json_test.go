package redact

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestJSON(t *testing.T) {
	r := newRedactor(t, Config{JSON: []string{"tenant", "$.user.name", "$.rows[*].note", "$..deep", "$.list[1]", "!csrfToken"}})
	tok := r.tokens.Load().token
	q := func(field, value string) string { return `"` + tok(field, value) + `"` }
	for _, c := range []struct{ name, in, want string }{
		{"untouched", ` {"a" : [1, 2.50, true, null, "x\u00e9"] } `, ` {"a" : [1, 2.50, true, null, "x\u00e9"] } `},
		{"key", `{"password":"hunter2","x":1}`, `{"password":` + q("password", "hunter2") + `,"x":1}`},
		{"key escaped", `{"pass\u0077ord":"a"}`, `{"pass\u0077ord":` + q("password", "a") + `}`},
		{"value escaped", `{"token":"a\u0062\n"}`, `{"token":` + q("token", "ab\n") + `}`},
		{"number", `{"pin": 1234 }`, `{"pin": ` + q("pin", "1234") + ` }`},
		{"null and booleans stay", `{"token":null,"session":true,"secret":false,"pin":""}`, `{"token":null,"session":true,"secret":false,"pin":""}`},
		{"object", `{"credentials":{"user":"a","x":[1]},"b":2}`, `{"credentials":` + q("credentials", `{"user":"a","x":[1]}`) + `,"b":2}`},
		{"array", `{"secrets":["a","]"],"b":2}`, `{"secrets":` + q("secrets", `["a","]"]`) + `,"b":2}`},
		{"nested", `[{"a":{"b":[{"ssn":"1"}]}}]`, `[{"a":{"b":[{"ssn":` + q("ssn", "1") + `}]}}]`},
		{"rule key", `{"Tenant":"x"}`, `{"Tenant":` + q("tenant", "x") + `}`},
		{"rule path", `{"user":{"name":"x","nick":"y"},"name":"z"}`, `{"user":{"name":` + q("name", "x") + `,"nick":"y"},"name":"z"}`},
		{"rule wildcard", `{"rows":[{"note":"x","n":1},{"note":"y"}],"note":"z"}`, `{"rows":[{"note":` + q("note", "x") + `,"n":1},{"note":` + q("note", "y") + `}],"note":"z"}`},
		{"rule descendant", `{"a":[{"b":{"deep":{"x":1}}}],"deep":2}`, `{"a":[{"b":{"deep":` + q("deep", `{"x":1}`) + `}}],"deep":` + q("deep", "2") + `}`},
		{"rule index", `{"list":["a","b","c"]}`, `{"list":["a",` + q("json", "b") + `,"c"]}`},
		{"exempted", `{"csrfToken":"x"}`, `{"csrfToken":"x"}`},
		{"pattern in a value", `{"to":"ada@example.com"}`, `{"to":` + q("email", "ada@example.com") + `}`},
		{"pattern escaped", `{"to":"ada\u0040example.com"}`, `{"to":` + q("email", "ada@example.com") + `}`},
		{"pattern in a key", `{"ada@example.com":1}`, `{` + q("email", "ada@example.com") + `:1}`},
		{"card as a number", `[4111111111111111]`, `[` + q("card", aCard) + `]`},
		{"json in a string", `{"raw":"{\"password\":\"x\"}"}`, `{"raw":"{\"password\":\"` + tok("password", "x") + `\"}"}`},
		{"lines", "{\"pin\":1}\n{\"pin\":2}\n", "{\"pin\":" + q("pin", "1") + "}\n{\"pin\":" + q("pin", "2") + "}\n"},
		{"byte order mark", "\ufeff{\"pin\":1}", "\ufeff{\"pin\":" + q("pin", "1") + "}"},
		{"cut in a secret", `{"a":1,"password":"hunt`, `{"a":1,"password":` + q("password", "hunt")},
		{"cut in a secret object", `{"secret":{"a":"b`, `{"secret":` + q("secret", `{"a":"b`)},
		{"cut elsewhere", `{"a":"b","c":"d`, `{"a":"b","c":"d`},
		{"no json from some point on", `{"a":1,,password=x}`, `{"a":1,,password=` + tok("password", "x") + `}`},
		{"single quotes", `{'password':'x'}`, `{'password':'` + tok("password", "x") + `'}`},
		{"surrogates", `{"a":"\ud83d\ude00 ada@example.com"}`, `{"a":"😀 ` + tok("email", "ada@example.com") + `"}`},
	} {
		if got := newJob(r).json(c.in, nil); got != c.want {
			t.Errorf("%s:\n in   %s\n got  %s\n want %s", c.name, c.in, got, c.want)
		}
	}
}

// Beyond the depth that is followed, names and forms are still found.
func TestJSONDeep(t *testing.T) {
	r := newRedactor(t, Config{JSON: []string{"$..x"}})
	deep := strings.Repeat(`{"a":[`, 5000) + `{"password":"hunter2"}`
	got := newJob(r).json(deep, nil)
	if strings.Contains(got, "hunter2") || !strings.Contains(got, r.tokens.Load().token("password", "hunter2")) {
		t.Errorf("10,000 levels down: %.80q", got[len(got)-80:])
	}
}

// jsonDoc draws a document, its keys from a few names of which some are secret.
func jsonDoc(depth int) *rapid.Generator[any] {
	text := rapid.StringOf(rapid.RuneFrom([]rune("abcxyz \"\\/\n\té日😀"))).Filter(func(s string) bool { return !strings.Contains(s, "=") })
	scalar := rapid.OneOf(
		rapid.Map(text, func(s string) any { return s }),
		rapid.Map(rapid.IntRange(-1000, 1000), func(n int) any { return json.Number(fmt.Sprint(n)) }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Just[any](nil),
	)
	if depth == 0 {
		return scalar
	}
	key := rapid.SampledFrom([]string{"id", "name", "password", "Token", "note", "ssn", "tags", "a.b", "weird \" key"})
	return rapid.OneOf(
		scalar,
		rapid.Map(rapid.MapOfN(key, jsonDoc(depth-1), 0, 4), func(m map[string]any) any { return m }),
		rapid.Map(rapid.SliceOfN(jsonDoc(depth-1), 0, 4), func(l []any) any { return l }),
	)
}

// The oracle decodes the document into a tree and redacts that.
func TestJSONAgainstTree(t *testing.T) {
	r := newRedactor(t, Config{JSON: []string{"$.tags[*].note", "$..name.id"}})
	rapid.Check(t, func(t *rapid.T) {
		doc := jsonDoc(4).Draw(t, "doc")
		var in bytes.Buffer
		e := json.NewEncoder(&in)
		e.SetEscapeHTML(rapid.Bool().Draw(t, "escape"))
		if rapid.Bool().Draw(t, "indent") {
			e.SetIndent(" ", "\t")
		}
		if err := e.Encode(doc); err != nil {
			t.Fatal(err)
		}
		out := newJob(r).json(in.String(), nil)
		d := json.NewDecoder(strings.NewReader(out))
		d.UseNumber()
		var got any
		if err := d.Decode(&got); err != nil {
			t.Fatalf("no JSON any more: %v\n in  %s\n out %s", err, in.String(), out)
		}
		if want := redactTree(r, in.String(), doc, nil); canonical(got) != canonical(want) {
			t.Fatalf("in   %s\ngot  %s\nwant %s", in.String(), canonical(got), canonical(want))
		}
	})
}

// redactTree replaces what a tree has under secret keys and paths. Objects and
// arrays under them become a token whose value is not looked at.
func redactTree(r *Redactor, in string, v any, path []string) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			p := append(path[:len(path):len(path)], k)
			if secretName(k) || underNote(p) {
				m[k] = redactLeaf(r, strings.ToLower(k), e)
			} else {
				m[k] = redactTree(r, in, e, p)
			}
		}
		return m
	case []any:
		l := []any{}
		for _, e := range v {
			l = append(l, redactTree(r, in, e, append(path[:len(path):len(path)], "#")))
		}
		return l
	}
	return v
}

// underNote is $.tags[*].note (the wildcard takes members too) and $..name.id.
func underNote(p []string) bool {
	n := len(p)
	return n == 3 && p[0] == "tags" && p[2] == "note" || n >= 2 && p[n-2] == "name" && p[n-1] == "id"
}

func redactLeaf(r *Redactor, field string, v any) any {
	switch v := v.(type) {
	case string:
		return r.tokens.Load().token(field, v)
	case json.Number:
		return r.tokens.Load().token(field, v.String())
	case nil, bool:
		return v
	}
	return "~"
}

// canonical spells a tree; the token of an object or array, which the oracle
// can't know, becomes ~.
func canonical(v any) string {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		var b strings.Builder
		for _, k := range keys {
			e := canonical(v[k])
			if secretName(k) && strings.HasPrefix(e, `"~k.`) {
				e = `"~"`
			}
			fmt.Fprintf(&b, "%q:%s,", k, e)
		}
		return "{" + b.String() + "}"
	case []any:
		var b strings.Builder
		for _, e := range v {
			b.WriteString(canonical(e) + ",")
		}
		return "[" + b.String() + "]"
	case string:
		if strings.HasPrefix(v, "~") {
			return `"~"`
		}
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(v)
}

func TestPathStep(t *testing.T) {
	for _, c := range []struct {
		path, at string
		want     bool
	}{
		{"$.a", "$.a", true}, {"$.a", "$.b", false}, {"$.a", "$.a.b", true}, {"$.a.b", "$.a", false}, {"$['a b']", "$['a b']", true},
		{`$["it's"]`, `$['it\'s']`, true}, {"$[0]", "$[0]", true}, {"$[0]", "$[1]", false}, {"$[*].a", "$[7].a", true}, {"$[*].a", "$.x.a", true},
		{"$..a", "$.x[3].y.a", true}, {"$..a.b", "$.a.a.b", true}, {"$..a.b", "$.a.c.b", false}, {"$..*", "$.x", true}, {"$..['a']", "$.q.a", true},
		{"$.a..b[2]", "$.a.x.b[2]", true}, {"$.a[0]", "$.a['0']", false},
	} {
		p, err := compilePath(c.path)
		if err != nil {
			t.Fatalf("%s: %v", c.path, err)
		}
		reached, got := uint64(1), false
		for _, e := range place(c.at) {
			reached = p.step(reached, e)
			got = got || reached&(1<<len(p)) != 0
		}
		if got != c.want {
			t.Errorf("%s at %s: %v", c.path, c.at, got)
		}
	}
}

func BenchmarkJSON(b *testing.B) {
	r := newRedactor(b, Config{})
	j := newJob(r)
	doc := `{"items":[` + strings.Repeat(`{"id":42,"name":"Ada Lovelace","password":"x","price":12.5},`, 68) + `null]}`
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		j.json(doc, nil)
	}
}
