package redact

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func sha256Of(s string) [32]byte { return sha256.Sum256([]byte(s)) }

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// The plain texts that hold a secret which must never come out.
func FuzzText(f *testing.F) {
	for _, s := range []string{"password=x", aJWT, "ada@example.com", "4111 1111 1111 1111", "<pin>1</pin>", "a://b:c@d", "~k.0123456789abcdef", "Bearer abcdefgh", "%40 @ ::= \\\" eyJ"} {
		f.Add(s, s)
	}
	r := newRedactor(f, Config{Patterns: []string{`z+\d`}})
	f.Fuzz(func(t *testing.T, before, after string) {
		j := newJob(r)
		once := j.text(before + after)
		j.scan(once)
		// Whatever stands around them, these are found. The space and the
		// quotes keep the surroundings from becoming part of them.
		out := j.text(before + " \n\" ada.secret@example.com \" " + after)
		if strings.Contains(out, "ada.secret@example.com") {
			t.Errorf("an address came through: %q", out)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"password":"hunter2"}`, `[{"a":[1,"x"]}]`, `{"a":"\ud83d\ude00"`, "{\"a\":1}\n{}", `{"a":{"token":{"b":[]}}}`, `{`, `"`, `{"a":"\`, `[[[[`} {
		f.Add(s)
	}
	r := newRedactor(f, Config{JSON: []string{"$..x", "$.a[0]", "$.*.b"}})
	f.Fuzz(func(t *testing.T, s string) {
		j := newJob(r)
		j.collecting = true
		j.json(s, nil)
		j.learned()
		out := j.json(s, place("$.q"))
		if json.Valid([]byte(s)) && !json.Valid([]byte(out)) {
			t.Errorf("valid JSON became invalid:\n%q\n%q", s, out)
		}
		// A member with a secret name never keeps its text.
		planted := `{"password":"pl4nt3d!","rest":` + s
		if out := j.json(planted, nil); strings.Contains(out, "pl4nt3d!") {
			t.Errorf("a secret came through: %q", out)
		}
	})
}

func FuzzContent(f *testing.F) {
	f.Add("multipart/form-data; boundary=b", "", "--b\r\nContent-Disposition: form-data; name=token\r\n\r\nabc\r\n--b--")
	f.Add("application/x-www-form-urlencoded", "", "a=%zz&token=b;c")
	f.Add("text/plain; charset=utf-16", "", "\xff\xfea\x00")
	f.Add("application/json", "gzip", "\x1f\x8b\x08")
	f.Add("a/b", "deflate, gzip", "x")
	r := newRedactor(f, Config{Values: Full})
	f.Fuzz(func(t *testing.T, kind, coding, data string) {
		j := newJob(r)
		h := exchange.Header{{Name: "Content-Type", Value: kind}, {Name: "Content-Encoding", Value: coding}}
		for _, size := range []int64{int64(len(data)), int64(len(data)) + 5} {
			b := j.body(h, &exchange.Body{Bytes: []byte(data), Size: size, Truncated: size != int64(len(data))})
			if !utf8.ValidString(b.Text) || !utf8.ValidString(b.MediaType) {
				t.Errorf("not UTF-8: %+v", b)
			}
			if b.Encoding == "base64" {
				if _, err := base64.StdEncoding.DecodeString(b.Text); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// FuzzRecord puts the same bytes everywhere a capture can put them.
func FuzzRecord(f *testing.F) {
	f.Add("x", "/users/42?token=a%", "$.a['b'", `{"a":1}`, uint8(0))
	f.Add("Cookie", "//h/a#b", "set-cookie/a/b", "\xff\x00", uint8(1))
	f.Add("Content-Type", "*", "", "multipart/x; boundary=", uint8(2))
	f.Add("Set-Cookie", "http://u:p@h/", "$", "~k.0123456789abcdef", uint8(7))
	f.Fuzz(func(t *testing.T, name, target, path, value string, kind uint8) {
		r := newRedactor(t, Config{Values: Mode(kind % 3), MaxRecord: 16 << 10, Deterministic: kind&64 != 0})
		h := exchange.Header{{Name: name, Value: value}, {Name: "Content-Type", Value: value}, {Name: "Authorization", Value: "Bearer pl4nt3d-s3cr3t"}}
		b := exchange.Body{Bytes: []byte(value), Size: int64(len(value))}
		v := diff.Value{Kind: diff.ValueKind(kind % uint8(diff.NumValueKinds)), Text: value, Size: int64(len(value)), Offset: int64(kind % 4)}
		in := newInput()
		x := in.Exchange
		x.Request = &exchange.Request{Method: name, Target: target, Proto: "HTTP/1.1", Header: h, Body: b}
		x.Response = &exchange.Response{Status: 200, Header: h, Trailer: h, Body: b}
		in.Route, in.Key, in.TraceID = path, value, value
		in.Params = []Param{{name, value}, {"p", target}}
		in.Candidate = Leg{Error: "body", Detail: value + " pl4nt3d-s3cr3t", TraceID: value}
		in.Control = &Leg{Response: x.Response}
		aspects := []string{diff.AspectStatus, diff.AspectHeader, diff.AspectBody, diff.AspectTrailer, diff.AspectCandidate}
		in.Result = &diff.Result{Outcome: diff.Divergent, Differences: []diff.Difference{
			{Aspect: aspects[kind%5], Kind: diff.KindChanged, Path: path, Reference: v, Candidate: diff.Value{Kind: v.Kind, Text: "pl4nt3d-s3cr3t"}},
			{Aspect: diff.AspectBody, Kind: diff.KindDigest, Path: path, Reference: v},
		}}
		in.ControlResult = in.Result
		rec := r.Record(in)
		j := rec.JSON()
		if !json.Valid(j) || !utf8.Valid(j) || !utf8.Valid(rec.Key()) {
			t.Errorf("not valid: %q key %q", j, rec.Key())
		}
		if strings.Contains(string(j), "pl4nt3d-s3cr3t") {
			t.Errorf("a secret came through: %s", j)
		}
		rec.Headers()
	})
}
