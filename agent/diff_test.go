package agent

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/agent/config"
)

// diffOf writes the answers (and the rules) to files and compares them.
func diffOf(t *testing.T, o DiffOptions, ref, cand, rules string) (out string, different bool, err error) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, data string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	o.Reference, o.Candidate = file("reference.http", ref), file("candidate.http", cand)
	if rules != "" {
		o.Rules = file("rules.yaml", rules)
	}
	var b, warn bytes.Buffer
	o.Out, o.Warn = &b, &warn
	different, err = Diff(o)
	if err != nil {
		return strings.ReplaceAll(err.Error(), dir+"/", ""), different, err
	}
	return strings.ReplaceAll(warn.String(), dir+"/", "") + b.String(), different, nil
}

const okJSON = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\n\r\n"

func TestDiff(t *testing.T) {
	packed := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	chunked := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, tt := range []struct {
		name             string
		o                DiffOptions
		ref, cand, rules string
		want             string
	}{
		{"equal", DiffOptions{}, okJSON + `{"a":1}`, okJSON + `{"a":1}`, "", "equal\n"},
		{"equal, as curl writes HTTP/2", DiffOptions{}, okJSON + `{"a":1}`, "HTTP/2 200 \ncontent-type: application/json\n\n{ \"a\": 1.0 }\n", "", "equal but for what is ignored: 1 difference\n"},
		{"different", DiffOptions{}, okJSON + `{"a":[1,{"b c":"x"}],"t":1}`, "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nX-A: b\r\n\r\n" + `{"a":[1,{"b c":"y"}]}`, "",
			"status: changed\n  - 200\n  + 404\nheader x-a: added\n  + \"b\"\nbody $.a[1]['b c']: changed\n  - \"x\"\n  + \"y\"\nbody $.t: removed\n  - 1\ndifferent: 4 differences, 1 ignored\n"},
		{"what is ignored", DiffOptions{Ignored: true}, okJSON + `{"t":1}`, okJSON[:len(okJSON)-2] + "Server: x\r\n\r\n" + `{"t":2}`, "ignore: {json: [$.t]}\n",
			"header server: added (ignored by the default list)\n  + \"x\"\nbody $.t: changed (ignored by ignore.json[0])\n  - 1\n  + 2\nequal but for what is ignored: 2 differences\n"},
		{"rules of a configuration", DiffOptions{Experiment: "b"}, okJSON + `{"p":1}`, okJSON + `{"p":1.01}`,
			"version: 1\nexperiments:\n  - {name: a}\n  - name: b\n    compare: {equal: [{json: $.p, tolerance: 1%}]}\n", "equal but for what is ignored: 1 difference\n"},
		{"colours", DiffOptions{Color: true}, okJSON + `1`, okJSON + `2`, "", "\x1b[1mbody $\x1b[0m: changed\n\x1b[31m  - 1\x1b[0m\n\x1b[32m  + 2\x1b[0m\ndifferent: 1 difference\n"},
		{"the last head counts", DiffOptions{}, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n" + okJSON + `1`, okJSON + `2`, "", "body $: changed\n  - 1\n  + 2\ndifferent: 1 difference\n"},
		{"chunks, and curl's without", DiffOptions{}, chunked + "2\r\n[1\r\n1;x=y\r\n]\r\n0\r\n\r\n", chunked + "[1]", "", "equal\n"},
		{"chunks with something behind them are none", DiffOptions{}, chunked + "1\r\n1\r\n0\r\n\r\n", chunked + "1\r\n1\r\n0\r\n\r\n\r\nx", "",
			"body $: type changed, the candidate is no JSON at byte 3\n  - 1\n  + \"1\\r\\n1\\r\\n0\\r\\n\\r\\n\\r\\nx\"\ndifferent: 1 difference\n"},
		{"trailers", DiffOptions{}, chunked + "1\r\n1\r\n0\r\nX-Sum: a\r\n\r\n", chunked + "1\r\n1\r\n0\r\nX-Sum: b\r\n\r\n", "", "trailer x-sum: changed\n  - \"a\"\n  + \"b\"\ndifferent: 1 difference\n"},
		{"gzip, and curl --compressed", DiffOptions{}, okJSON[:len(okJSON)-2] + "Content-Encoding: gzip\r\n\r\n" + packed("[1]"), okJSON[:len(okJSON)-2] + "Content-Encoding: gzip\r\n\r\n[2]", "",
			"warning: candidate.http: its body is text though its head names a content coding: taken as decoded\nbody $[0]: changed\n  - 1\n  + 2\ndifferent: 1 difference, 1 ignored\n"},
		{"cut", DiffOptions{}, okJSON + `"a"`, okJSON[:len(okJSON)-2] + "Content-Length: 100\r\n\r\n" + `"a`, "",
			"warning: candidate.http: its head says 100 bytes, the file has 2: it may be cut\nbody $: type changed, the candidate is no JSON at byte 2\n  - \"a\"\n  + \"\\\"a\"\ndifferent: 1 difference, 1 ignored\n"},
		{"nothing that acts on a terminal", DiffOptions{}, okJSON + "{\"\\u001b[2J\":1}", okJSON + "{\"\\u001b[2J\":\"\\u001b]0;x\\u0007\"}", "",
			"body $['\\u001b[2J']: type changed\n  - 1\n  + \"\\x1b]0;x\\a\"\ndifferent: 1 difference\n"},
		{"a long value", DiffOptions{}, okJSON + `"` + strings.Repeat("x", 1000) + `"`, okJSON + `""`, "", "body $: changed\n  - \"" + strings.Repeat("x", maxShown) + "\" ... (1000 bytes)\n  + \"\"\ndifferent: 1 difference\n"},
		{"not comparable for the agent", DiffOptions{}, "HTTP/1.1 503 x\n\n", "HTTP/1.1 200 OK\n\n", "", "status: changed\n  - 503\n  + 200\ndifferent: 1 difference\nthe agent counts such a pair as not comparable: reference_failed\n"},
		{"a head without its end", DiffOptions{}, "HTTP/1.1 200 OK\nA: 1", "HTTP/1.1 200 OK\nA: 1\n", "", "equal\n"},
		{"a folded line", DiffOptions{}, "HTTP/1.1 200 OK\nA: 1\n 2\n\n", "HTTP/1.1 200 OK\nA: 1 2\n\n", "", "equal\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, different, err := diffOf(t, tt.o, tt.ref, tt.cand, tt.rules)
			if err != nil || got != tt.want {
				t.Errorf("got\n%s(%v) want\n%s", got, err, tt.want)
			}
			if want := strings.Contains(tt.want, "\ndifferent: "); different != want {
				t.Errorf("different: %v, want %v", different, want)
			}
		})
	}
}

func TestDiffTrouble(t *testing.T) {
	fine := okJSON + "1"
	for _, tt := range []struct{ name, ref, cand, rules, want string }{
		{"no answer", "{}", fine, "", "reference.http: no HTTP answer: its first line must be one such as HTTP/1.1 200 OK (curl -i prints it)"},
		{"empty", fine, "", "", "candidate.http: no HTTP answer: its first line must be one such as HTTP/1.1 200 OK (curl -i prints it)"},
		{"no field", fine, "HTTP/1.1 200 OK\nA: 1\n{}", "", "candidate.http: line 3 of its head is no field: want name: value, and an empty line before the body"},
		{"a path", fine, fine, "ignore:\n  json: ['$.a[?@.b = 1]', \"$.ä.9\", $..*]\n",
			`rules.yaml:2:20: ignore.json[0]: "$.a[?@.b = 1]" at byte 10: want , or ] here` + "\n" +
				`rules.yaml:2:32: ignore.json[1]: "$.ä.9" at byte 6: want a name or * after the dot (other names stand in brackets and quotes: ['a b'])`},
		{"all kinds of rules", fine, fine, "ignore: {headers: [a b], values: [\"a\\\\(b(\"], aspects: [headers]}\nequal: [{type: x}, {json: $.a}]\narrays: [{json: $.a, as: bag}]\n",
			`rules.yaml:1:20: ignore.headers[0]: "a b" is no header name: only at the end * stands for any rest`},
		{"patterns and words", fine, fine, "ignore: {values: [\"a\\\\(b(\"], aspects: [headers]}\nequal: [{type: x}, {json: $.a}]\narrays: [{json: $.a, as: bag}]\n",
			`rules.yaml:1:26: ignore.values[0]: "a\\(b(" at byte 6: missing closing )` + "\n" +
				`rules.yaml:1:40: ignore.aspects[0]: "headers" at byte 1: is not known: write status, grpc, header, body, trailer` + "\n" +
				`rules.yaml:2:16: equal[0].type: "x" at byte 1: is not known: write uuid, timestamp or url` + "\n" +
				`rules.yaml:2:21: equal[1]: needs exactly one of type, tolerance and pattern` + "\n" +
				`rules.yaml:3:26: arrays[0].as: "bag" at byte 1: is not known: write order or set, or key instead`},
		{"an unknown key", fine, fine, "ingore: {}\n", `rules.yaml:1:1: unknown key "ingore": did you mean ignore?`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, different, err := diffOf(t, DiffOptions{}, tt.ref, tt.cand, tt.rules)
			if err == nil || different || got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
	for _, tt := range []struct {
		o    DiffOptions
		want string
	}{
		{DiffOptions{Reference: "-", Candidate: "-"}, "only one of the answers can come from standard input"},
		{DiffOptions{Reference: "no such", Candidate: "-"}, "open no such: no such file or directory"},
		{DiffOptions{Reference: "-", Candidate: "no such", Stdin: strings.NewReader(fine)}, "open no such: no such file or directory"},
		{DiffOptions{Rules: "no such"}, "open no such: no such file or directory"},
		{DiffOptions{Experiment: "a"}, "an experiment needs the configuration that has it: --rules FILE"},
	} {
		if _, err := Diff(tt.o); err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

func TestDiffJSON(t *testing.T) {
	out, different, err := diffOf(t, DiffOptions{JSON: true}, okJSON+`{"a":1,"t":1}`, okJSON+`{"a":"<x>","t":2}`, "ignore: {json: [$.t]}\n")
	const want = `{"outcome":"divergent","differences":[` +
		`{"aspect":"body","kind":"type_changed","path":"$.a","reference":{"kind":"number","text":"1","size":1},"candidate":{"kind":"string","text":"<x>","size":3},"ignored":false},` +
		`{"aspect":"body","kind":"changed","path":"$.t","reference":{"kind":"number","text":"1","size":1},"candidate":{"kind":"number","text":"2","size":1},"ignored":true,"rule":"ignore.json[0]"}]}`
	var got bytes.Buffer
	if cerr := json.Compact(&got, []byte(out)); err != nil || cerr != nil || !different || got.String() != want {
		t.Errorf("%v %v %v\n%s\nwant\n%s", err, cerr, different, out, want)
	}
	out, different, err = diffOf(t, DiffOptions{JSON: true}, okJSON+`1`, okJSON+`1`, "")
	if got.Reset(); json.Compact(&got, []byte(out)) != nil || err != nil || different || got.String() != `{"outcome":"equal","differences":[]}` {
		t.Errorf("%v %v\n%s", err, different, out)
	}
}

// CheckConfig says what is wrong with rules where they are written.
func TestCheckConfigRules(t *testing.T) {
	c, _, err := config.Parse("f", []byte(`version: 1
experiments:
  - name: a
    match: {port: 80}
    routes: [{path: /}]
    candidate: {url: http://a}
    compare: {ignore: {json: [$.a, "$.b[", ""], headers: ["a b"]}, equal: [{json: "$..", type: uuid}]}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := `f:7:41: experiments[0].compare.ignore.json[1]: "$.b[" at byte 5: the bracket is not closed
f:7:44: experiments[0].compare.ignore.json[2]: is missing: write a path such as $.items
f:7:61: experiments[0].compare.ignore.headers[0]: "a b" at byte 2: no character of a field name
f:7:87: experiments[0].compare.equal[0].json: "$.." at byte 4: want a name or * after the dot (other names stand in brackets and quotes: ['a b'])`
	lines := strings.Split(fmt.Sprint(CheckConfig(c)), "\n")
	for _, l := range strings.Split(want, "\n") {
		if !strings.Contains(strings.Join(lines, "\n"), l) {
			t.Errorf("no\n%s\nin\n%s", l, strings.Join(lines, "\n"))
		}
	}
	if len(lines) != 4 {
		t.Errorf("%d lines", len(lines))
	}
}

// What Check finds itself is not said once more by CheckConfig.
func TestCheckConfigSaysItOnce(t *testing.T) {
	const file = `version: 1
experiments:
  - name: a
    match: {port: 80}
    routes: [{path: /}]
    candidate: {url: http://a}
    compare: {ignore: {json: [""], headers: ["a b"], values: ["("]}}
`
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Load(config.Options{Dir: dir, File: "f", Check: CheckConfig})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(fmt.Sprint(c.Check()), "\n")
	for i, want := range []string{"f:7:31: experiments[0].compare.ignore.json[0]: ", "f:7:46: experiments[0].compare.ignore.headers[0]: ", "f:7:65: experiments[0].compare.ignore.values[0]: "} {
		if len(got) != 3 || !strings.HasPrefix(got[i], want) {
			t.Fatalf("%d lines:\n%s", len(got), strings.Join(got, "\n"))
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	for _, s := range []string{
		okJSON + "{}", "HTTP/2 200 \n\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 9\nContent-Encoding: br\nA: b\n c\n\nx", "HTTP/1.1 200", "HTTP/1.1 200 OK\n: x\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, _, err := parseAnswer(data)
		if err != nil {
			return
		}
		if a.Status < 100 || a.Status > 999 || len(a.Body.Bytes) > len(data) || a.Body.Size != int64(len(a.Body.Bytes)) {
			t.Fatalf("%+v", a)
		}
		for _, h := range a.Header {
			if h.Name == "" || strings.ContainsAny(h.Name+h.Value, "\n") {
				t.Fatalf("%q", h)
			}
		}
	})
}
