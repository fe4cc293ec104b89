package redact

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// mediaRecord is the record of two answers of one media type, as JSON.
func mediaRecord(t *testing.T, r *Redactor, contentType, ref, cand string) (string, *Divergence) {
	t.Helper()
	in := newInput()
	for resp, body := range map[*exchange.Response]string{in.Exchange.Response: ref, in.Candidate.Response: cand} {
		resp.Header = exchange.Header{{Name: "Content-Type", Value: contentType}}
		resp.Body = exchange.Body{Bytes: []byte(body), Size: int64(len(body))}
	}
	d := r.Record(compared(t, in)).Divergence()
	if len(d.Differences) == 0 {
		t.Fatalf("%s: no difference", contentType)
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), d
}

// Secrets in bodies of every media type that is compared by its parts stay out
// of the record, in each mode.
func TestSecretsInMedia(t *testing.T) {
	const a, b = "hunter2-reference", "hunter2-candidate"
	part := func(head, body string) string { return "--x\r\n" + head + "\r\n\r\n" + body + "\r\n--x--\r\n" }
	both := func(s string) (string, string) {
		return strings.ReplaceAll(s, "SECRET", a), strings.ReplaceAll(s, "SECRET", b)
	}
	key := "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADANBgkqhkiG9w0\nSECRET\n-----END PRIVATE KEY-----\n"
	for _, c := range []struct{ name, kind, body string }{
		{"a form's field", "application/x-www-form-urlencoded", "user=bob&password=SECRET"},
		{"a form's field, twice", "application/x-www-form-urlencoded", "password=x&password=SECRET"},
		{"a form's field by a rule for parameters", "application/x-www-form-urlencoded", "tenant=SECRET"},
		{"an element", "application/xml", "<a><password>SECRET</password></a>"},
		{"an element in one", "application/xml", "<a><password><v>SECRET</v></password></a>"},
		{"an element that one side has", "application/xml", "<a><u>SECRET</u><password>SECRET</password></a>"},
		{"an attribute", "text/xml", `<a><b password="SECRET"/></a>`},
		{"a parameter", "text/xml", `<a><p name="password">SECRET</p></a>`},
		{"a field of HTML", "text/html", `<form><input name="csrf_token" value="SECRET"></form>`},
		{"a script", "text/html", `<script>var token = "SECRET";</script>`},
		{"a part", "multipart/form-data; boundary=x", part(`Content-Disposition: form-data; name="password"`, "SECRET")},
		{"a JSON part", "multipart/form-data; boundary=x", part("Content-Disposition: form-data; name=j\r\nContent-Type: application/json", `{"pin":"SECRET"}`)},
		{"a file", "multipart/form-data; boundary=x", part("Content-Disposition: form-data; name=j\r\nContent-Type: application/octet-stream", "\x00SECRET")},
		{"a protobuf part", "multipart/form-data; boundary=x", part("Content-Disposition: form-data; name=j\r\nContent-Type: application/protobuf", "\x0a\x11SECRET")},
		{"a line", "text/plain", "one\npassword=SECRET\ntwo"},
		{"a line of JSON", "application/x-ndjson", `{"pin":"SECRET"}`},
		{"a line of a private key", "text/plain", key},
		{"a field of protobuf", "application/x-protobuf", "\x0a\x11SECRET"},
		{"protobuf in protobuf", "application/x-protobuf", "\x12\x13\x0a\x11SECRET"},
		{"protobuf that is none", "application/x-protobuf", "\xffSECRET"},
		{"a broken document", "application/xml", "<a><password>SECRET"},
		{"an unknown charset", "text/plain; charset=klingon", "SECRET"},
	} {
		for _, mode := range []Mode{Differences, Full, Digests} {
			r := newRedactor(t, Config{Values: mode, Query: []string{"tenant"}})
			if c.name == "a file" && mode == Full {
				continue // it has no telling name, and Full is whole bodies
			}
			ref, cand := both(c.body)
			if got, _ := mediaRecord(t, r, c.kind, ref, cand); strings.Contains(got, "hunter2") {
				t.Errorf("%s, mode %v: %s", c.name, mode, got)
			}
		}
	}
	if got, _ := mediaRecord(t, newRedactor(t, Config{}), "application/xml", "<a/>", "<a><u><password>"+b+"</password></u></a>"); strings.Contains(got, "hunter2") {
		t.Errorf("an element that the candidate alone has: %s", got)
	}
	// What is added or removed, and what is no secret, is still shown.
	r := newRedactor(t, Config{})
	for _, c := range []struct{ kind, ref, cand, refText, candText string }{
		{"application/xml", "<a><b>1</b></a>", "<a><b>1</b><c>2</c></a>", "", "<c>2</c>"},
		{"application/x-www-form-urlencoded", "a=1", "a=2", `"1"`, `"2"`},
		{"text/plain", "a\nb", "a\nc", `"b"`, `"c"`},
	} {
		_, d := mediaRecord(t, r, c.kind, c.ref, c.cand)
		last := d.Differences[len(d.Differences)-1]
		ref, cand := "", ""
		if last.Reference != nil {
			ref = last.Reference.Text
		}
		if last.Candidate != nil {
			cand = last.Candidate.Text
		}
		if ref != c.refText || cand != c.candText {
			t.Errorf("%s: %q and %q", c.kind, ref, cand)
		}
	}
	// By its descriptor a field of protobuf has a name.
	f := diff.Difference{Aspect: diff.AspectBody, Kind: diff.KindChanged, Path: "$.user.name"}
	resp := &exchange.Response{Header: exchange.Header{{Name: "Content-Type", Value: "application/grpc"}}}
	for v, want := range map[diff.Value]bool{
		{Kind: diff.ValueString, Text: "Ada"}: false, {Kind: diff.ValueObject, Text: `{"a":1}`}: false, {Kind: diff.ValueObject, Text: `{"a":{"#7":1}}`}: true,
		{Kind: diff.ValueBytes, Text: "x"}: true,
	} {
		if got := hidden(&f, &v, resp); got != want {
			t.Errorf("%+v: hidden %v", v, got)
		}
	}
}
