package redact

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func TestHeaders(t *testing.T) {
	r := newRedactor(t, Config{Headers: []string{"X-Tenant", "!X-Session-Affinity"}, Routes: []Route{
		{Path: "/reset/{code}/{id}", Secret: []string{"code"}}, {Path: "/s/{token}"}, {Path: "/files/{rest...}", Secret: []string{"rest"}}, {Path: "/open/{code}/{id}"},
	}})
	tok := r.tokens.Load().token
	for _, c := range []struct{ name, value, want string }{
		{"Accept", "text/html", "text/html"},
		{"Authorization", "Bearer abc", "Bearer " + tok("authorization", "abc")},
		{"Authorization", "abc", tok("authorization", "abc")},
		{"Proxy-Authorization", "Basic dXNlcjpwYXNz", "Basic " + tok("proxy-authorization", "dXNlcjpwYXNz")},
		{"Cookie", "a=1; sid=xyz;b", "a=" + tok("a", "1") + "; sid=" + tok("sid", "xyz") + ";" + tok("cookie", "b")},
		{"Set-Cookie", "sid=xyz; Path=/; HttpOnly", "sid=" + tok("sid", "xyz") + "; Path=/; HttpOnly"},
		{"Set-Cookie", `sid="xyz"`, "sid=" + tok("sid", "xyz")},
		{"X-API-Key", "k", tok("x-api-key", "k")},
		{"X-Vault-Token", "k", tok("x-vault-token", "k")},
		{"X-Tenant", "acme", tok("x-tenant", "acme")},
		{"X-Session-Affinity", "a", "a"},
		{"X-Free", "mail ada@example.com", "mail " + tok("email", "ada@example.com")},
		{"Referer", "https://bob:pw@host/a/ada%40example.com?q=1&token=t%20t#access_token=z", "https://" + tok("userinfo", "bob:pw") + "@host/a/" +
			tok("email", "ada@example.com") + "?q=1&token=" + tok("token", "t t") + "#access_token=" + tok("access_token", "z")},
		{"Location", "/cb?code=1;session=s", "/cb?code=1;session=" + tok("session", "s")},
		{"Location", "https://app/cb?code=4/P7q7W9&state=x&codes=1", "https://app/cb?code=" + tok("code", "4/P7q7W9") + "&state=x&codes=1"},
		{"Location", "/x?codes=1&state=x&code", "/x?codes=1&state=x&code"},
		{"Location", "/reset/abc%20d/42?x=1", "/reset/" + tok("code", "abc d") + "/42?x=1"},
		{"Referer", "https://host/reset/abc/42", "https://host/reset/" + tok("code", "abc") + "/42"},
		{"Referer", "https://host/reset/abc", "https://host/reset/abc"},
		{"Content-Location", "/s/abc", "/s/" + tok("token", "abc")},
		{"Location", "/files/a/b?x", "/files/" + tok("rest", "a/b") + "?x"},
		{"Location", "/open/abc/42", "/open/abc/42"},
		{"Location", "reset/abc/42", "reset/abc/42"},
		{"X-Latin", "caf\xe9", "café"},
	} {
		j := newJob(r)
		got := j.headers(exchange.Header{{Name: c.name, Value: c.value}})
		if v := got[strings.ToLower(c.name)]; len(v) != 1 || v[0] != c.want {
			t.Errorf("%s: %s:\n got  %q\n want %q", c.name, c.value, v, c.want)
		}
	}
	j := newJob(r)
	if got := j.headers(exchange.Header{{Name: "B", Value: "2"}, {Name: "a", Value: "1"}, {Name: "b", Value: "3"}}); fmt.Sprint(got) != "map[a:[1] b:[2 3]]" {
		t.Errorf("repeated fields: %v", got)
	}
}

func TestTarget(t *testing.T) {
	r := newRedactor(t, Config{Query: []string{"tenant"}})
	tok := r.tokens.Load().token
	for _, c := range []struct{ target, route, want string }{
		{"/users/42?x=1", "/users/{id}", "/users/42?x=1"},
		{"/reset/abc", "/reset/{token}", "/reset/" + tok("token", "abc")},
		{"/reset/a%20b/x", "/reset/{token}/x", "/reset/" + tok("token", "a b") + "/x"},
		{"/f/a/b/c", "/f/{secret...}", "/f/" + tok("secret", "a/b/c")},
		{"/t/acme/x", "/t/{tenant}/{rest...}", "/t/" + tok("tenant", "acme") + "/x"},
		{"/m/abc", "/m/{mine}", "/m/" + tok("mine", "abc")},
		{"/m/ada@example.com", "/m/{who}", "/m/" + tok("email", "ada@example.com")},
		{"/any/ada%40example.com", "/", "/any/" + tok("email", "ada@example.com")},
		{"/?token=a&token=b&x", "/", "/?token=" + tok("token", "a") + "&token=" + tok("token", "b") + "&x"},
		{"/?to%6ben=a", "/{$}", "/?to%6ben=" + tok("token", "a")},
		{"/?a=%zz&email=ada%40example.com", "/", "/?a=%zz&email=" + tok("email", "ada@example.com")},
		{"/any/ada@example.com%zz", "/", "/any/" + tok("email", "ada@example.com") + "%zz"},
		{"/?a=ada@example.com%zz", "/", "/?a=" + tok("email", "ada@example.com") + "%zz"},
		{"/elsewhere/abc", "/reset/{token}", "/" + tok("path", "elsewhere/abc")},
		{"/reset/abc/more", "/reset/{token}", "/" + tok("path", "reset/abc/more")},
		{"*", "/", "*"},
		{"/a b\xff", "/", "/a%20b%FF"},
	} {
		j := newJob(r)
		j.secretParams = []string{"Mine"}
		if got := j.target(c.target, c.route); got != c.want {
			t.Errorf("%s by %s:\n got  %q\n want %q", c.target, c.route, got, c.want)
		}
	}
}

func TestContent(t *testing.T) {
	r := newRedactor(t, Config{})
	tok := r.tokens.Load().token
	part := func(head, body string) string { return "--b\r\n" + head + "\r\n\r\n" + body + "\r\n" }
	for _, c := range []struct{ name, kind, in, want string }{
		{"form", "application/x-www-form-urlencoded", "user=bob&password=a+b%21\n", "user=bob&password=" + tok("password", "a b!") + "\n"},
		{"json by type", "application/vnd.x+json; charset=utf-8", `{"pin":1}`, `{"pin":"` + tok("pin", "1") + `"}`},
		{"json by look", "text/plain", ` {"pin":1}`, ` {"pin":"` + tok("pin", "1") + `"}`},
		{"xml", "text/xml", "<pin>1</pin>", "<pin>" + tok("pin", "1") + "</pin>"},
		{"text", "", "call ada@example.com", "call " + tok("email", "ada@example.com")},
		{
			"multipart", `multipart/form-data; boundary="b"`,
			"pre\r\n" + part(`Content-Disposition: form-data; name="password"`, "hunter2") + part(`Content-Disposition: form-data; name="x"`, "hunter") +
				part("Content-Disposition: form-data; name=j\r\nContent-Type: application/json", `{"pin":1}`) + "--b--\r\ntail",
			"pre\r\n" + part(`Content-Disposition: form-data; name="password"`, tok("password", "hunter2")) + part(`Content-Disposition: form-data; name="x"`, "hunter") +
				part("Content-Disposition: form-data; name=j\r\nContent-Type: application/json", `{"pin":"`+tok("pin", "1")+`"}`) + "--b--\r\ntail",
		},
		{"multipart cut", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=token\r\n\r\nabc", "--b\r\nContent-Disposition: form-data; name=token\r\n\r\n" + tok("token", "abc")},
		{"multipart that is none", "multipart/form-data; boundary=b", "token=abc", "token=" + tok("token", "abc")},
	} {
		j := newJob(r)
		if got := j.content(c.kind, c.in); got != c.want {
			t.Errorf("%s:\n got  %q\n want %q", c.name, got, c.want)
		}
	}
}

func TestMultipartInMultipart(t *testing.T) {
	r := newRedactor(t, Config{})
	inner, kind := "token=abc", ""
	for i := range 2000 {
		b := fmt.Sprintf("b%d", i)
		inner = "--" + b + "\r\nContent-Type: " + kind + "\r\n\r\n" + inner + "\r\n--" + b + "--"
		kind = "multipart/mixed; boundary=" + b
	}
	if got := newJob(r).content(kind, inner); strings.Contains(got, "token=abc") {
		t.Error("a secret 2,000 parts deep was missed")
	}
}

func squeeze(t *testing.T, coding, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	switch coding {
	case "gzip":
		w := gzip.NewWriter(&b)
		w.Write([]byte(s))
		w.Close()
	case "zlib":
		w := zlib.NewWriter(&b)
		w.Write([]byte(s))
		w.Close()
	case "br":
		w := brotli.NewWriter(&b)
		w.Write([]byte(s))
		w.Close()
	case "zstd":
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(s))
		w.Close()
	case "flate":
		w, err := flate.NewWriter(&b, 6)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(s))
		w.Close()
	}
	return b.Bytes()
}

func TestPlain(t *testing.T) {
	const doc = `{"a":"b c","d":1}`
	var utf16le, utf16be []byte
	for _, u := range utf16.Encode([]rune(doc)) {
		utf16le = append(utf16le, byte(u), byte(u>>8))
		utf16be = append(utf16be, byte(u>>8), byte(u))
	}
	h := func(kv ...string) (h exchange.Header) {
		for i := 0; i < len(kv); i += 2 {
			h = append(h, exchange.Field{Name: kv[i], Value: kv[i+1]})
		}
		return h
	}
	for _, c := range []struct {
		name string
		h    exchange.Header
		data []byte
		size int64 // 0: all of data
		want string
		cut  bool
		ok   bool
	}{
		{"plain", nil, []byte(doc), 0, doc, false, true},
		{"gzip", h("Content-Encoding", "gzip"), squeeze(t, "gzip", doc), 0, doc, false, true},
		{"two codings", h("Content-Encoding", "deflate, x-gzip"), squeeze(t, "gzip", string(squeeze(t, "zlib", doc))), 0, doc, false, true},
		{"two fields", h("Content-Encoding", "deflate", "Content-Encoding", "GZIP"), squeeze(t, "gzip", string(squeeze(t, "zlib", doc))), 0, doc, false, true},
		{"bare deflate", h("Content-Encoding", "deflate"), squeeze(t, "flate", doc), 0, doc, false, true},
		{"identity", h("Content-Encoding", "identity"), []byte(doc), 0, doc, false, true},
		{"brotli", h("Content-Encoding", "br"), squeeze(t, "br", doc), 0, doc, false, true},
		{"zstd", h("Content-Encoding", "zstd"), squeeze(t, "zstd", doc), 0, doc, false, true},
		{"compress", h("Content-Encoding", "compress"), []byte(doc), 0, "", true, false},
		{"no brotli", h("Content-Encoding", "br"), []byte("\xff\xff\xff"), 0, "", true, false},
		{"no gzip", h("Content-Encoding", "gzip"), []byte(doc), 0, "", true, false},
		{"utf-16 mark", nil, append([]byte{0xff, 0xfe}, utf16le...), 0, doc, false, true},
		{"utf-16 charset", h("Content-Type", "application/json; charset=UTF-16LE"), utf16le, 0, doc, false, true},
		{"utf-16 unsaid", nil, utf16be, 0, doc, false, true},
		{"utf-32", nil, []byte{0, 0, 0, 'a', 0, 0, 0, 'b'}, 0, "", true, false},
		{"ebcdic", h("Content-Type", "text/plain; charset=ibm037"), []byte("x"), 0, "", true, false},
		{"latin 1", h("Content-Type", "text/plain; charset=iso-8859-1"), []byte("caf\xe9"), 0, "café", false, true},
		{"cut", nil, []byte("call ada@exam"), 20, "call", true, true},
		{"cut in a card", nil, []byte("card 4111 1111 11"), 20, "card", true, true},
	} {
		size := c.size
		if size == 0 {
			size = int64(len(c.data))
		}
		got, cut, ok := plain(c.h, &exchange.Body{Bytes: c.data, Size: size})
		if got != c.want || cut != c.cut || ok != c.ok {
			t.Errorf("%s: %q cut=%v ok=%v, want %q cut=%v ok=%v", c.name, got, cut, ok, c.want, c.cut, c.ok)
		}
	}
	// A bomb stays within the bound.
	bomb := squeeze(t, "gzip", strings.Repeat("a ", maxDecoded))
	text, cut, ok := plain(h("Content-Encoding", "gzip"), &exchange.Body{Bytes: bomb, Size: int64(len(bomb))})
	if len(text) > maxDecoded || !cut || !ok {
		t.Errorf("bomb: %d bytes, cut=%v ok=%v", len(text), cut, ok)
	}
	// Also while it is decoded.
	bomb = squeeze(t, "gzip", strings.Repeat("a ", 16<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	plain(h("Content-Encoding", "gzip"), &exchange.Body{Bytes: bomb, Size: int64(len(bomb))})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 10*maxDecoded {
		t.Errorf("decoding a bomb of 32 MiB took %d MiB", n>>20)
	}
}
