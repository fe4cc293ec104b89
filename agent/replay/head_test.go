package replay

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func crlf(lines ...string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n") }

func TestRewrite(t *testing.T) {
	const role = "X-Shadow-Test-Role: candidate"
	for _, c := range []struct {
		name   string
		in     []string
		want   []string // nil: refused
		err    error
		host   string
		strip  bool
		length int64
	}{
		{name: "as captured", in: []string{"GET /a?b=%zz&c HTTP/1.1", "hOsT:  x.example ", "Accept:a", "accept: b", "X-Odd:\tv\t"},
			want: []string{"GET /a?b=%zz&c HTTP/1.1", "hOsT:  x.example ", "Accept:a", "accept: b", "X-Odd:\tv\t", role}, length: -1},
		{name: "two slashes", in: []string{"GET //evil/x HTTP/1.1", "Host: h"}, want: []string{"GET //evil/x HTTP/1.1", "Host: h", role}, length: -1},
		{name: "asterisk", in: []string{"OPTIONS * HTTP/1.1", "Host: h"}, want: []string{"OPTIONS * HTTP/1.1", "Host: h", role}, length: -1},
		{name: "bytes over 127", in: []string{"GET /\xff HTTP/1.1", "Host: h", "X: \xfe"}, want: []string{"GET /\xff HTTP/1.1", "Host: h", "X: \xfe", role}, length: -1},
		{name: "role set, not added", in: []string{"GET / HTTP/1.1", "X-Shadow-Test-Role: reference", "Host: h", "x-shadow-test-role: upstream", "X_Shadow_Test_Role: a"},
			want: []string{"GET / HTTP/1.1", "Host: h", role}, length: -1},
		{name: "hop by hop", in: []string{"POST / HTTP/1.1", "X-Before: 1", "Host: h", "Connection: keep-alive, X-Before ,x-after", "Keep-Alive: 5", "Proxy-Connection: close",
			"Proxy-Authorization: Basic x", "TE: trailers", "Upgrade: h2c", "X-After: 2", "Content-Length: 3", "X-Stays: 3"},
			want: []string{"POST / HTTP/1.1", "Host: h", "Content-Length: 3", "X-Stays: 3", role}, length: 3},
		{name: "connection names what frames", in: []string{"POST / HTTP/1.1", "Host: h", "Connection: content-length, host, transfer-encoding, x-shadow-test-role", "Content-Length: 3"},
			want: []string{"POST / HTTP/1.1", "Host: h", "Content-Length: 3", role}, length: 3},
		{name: "chunked", in: []string{"POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", "Trailer: X-Sum"},
			want: []string{"POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", "Trailer: X-Sum", role}, length: -1},
		{name: "expect", in: []string{"POST / HTTP/1.1", "Host: h", "Expect: 100-Continue", "Content-Length: 3"},
			want: []string{"POST / HTTP/1.1", "Host: h", "Content-Length: 3", role}, length: 3},
		{name: "another expectation", in: []string{"GET / HTTP/1.1", "Host: h", "Expect: rain"}, want: []string{"GET / HTTP/1.1", "Host: h", "Expect: rain", role}, length: -1},
		{name: "equal lengths", in: []string{"POST / HTTP/1.1", "Host: h", "Content-Length: 3", "Content-Length: 3, 3"},
			want: []string{"POST / HTTP/1.1", "Host: h", "Content-Length: 3", "Content-Length: 3, 3", role}, length: 3},
		{name: "host of the candidate", host: "c:81", in: []string{"GET / HTTP/1.1", "A: b", "host: x", "C: d"}, want: []string{"GET / HTTP/1.1", "A: b", "host: c:81", "C: d", role}, length: -1},
		{name: "host added", host: "c:81", in: []string{"GET / HTTP/1.0", "A: b"}, want: []string{"GET / HTTP/1.0", "A: b", "Host: c:81", role}, length: -1},
		{name: "1.0 without host", in: []string{"GET / HTTP/1.0"}, want: []string{"GET / HTTP/1.0", role}, length: -1},
		{name: "strip", strip: true, in: []string{"GET / HTTP/1.1", "Host: h", "Authorization: x", "cookie: y", "X_Api_Key: z", "X-Api-Key-Id: stays"},
			want: []string{"GET / HTTP/1.1", "Host: h", "X-Api-Key-Id: stays", role}, length: -1},
		{name: "forward", in: []string{"GET / HTTP/1.1", "Host: h", "Authorization: x", "cookie: y"},
			want: []string{"GET / HTTP/1.1", "Host: h", "Authorization: x", "cookie: y", role}, length: -1},

		{name: "absolute form", in: []string{"GET http://evil/ HTTP/1.1", "Host: h"}, err: errTarget},
		{name: "authority with at", in: []string{"GET @evil/ HTTP/1.1", "Host: h"}, err: errTarget},
		{name: "authority form", in: []string{"CONNECT evil:443 HTTP/1.1", "Host: h"}, err: errTarget},
		{name: "connect with a path", in: []string{"CONNECT / HTTP/1.1", "Host: h"}, err: errTarget},
		{name: "no target", in: []string{"GET  HTTP/1.1", "Host: h"}, err: errTarget},
		{name: "space in target", in: []string{"GET /a b HTTP/1.1", "Host: h"}, err: errLine},
		{name: "tab in target", in: []string{"GET /a\tb HTTP/1.1", "Host: h"}, err: errLine},
		{name: "version 2", in: []string{"GET / HTTP/2.0", "Host: h"}, err: errLine},
		{name: "version in lower case", in: []string{"GET / http/1.1", "Host: h"}, err: errLine},
		{name: "no version", in: []string{"GET /", "Host: h"}, err: errLine},
		{name: "method", in: []string{"G@T / HTTP/1.1", "Host: h"}, err: errLine},
		{name: "CR in target", in: []string{"GET /\rX:y HTTP/1.1", "Host: h"}, err: errLine},
		{name: "CR in value", in: []string{"GET / HTTP/1.1", "Host: h", "A: b\rEvil: c"}, err: errField},
		{name: "LF in value", in: []string{"GET / HTTP/1.1", "Host: h", "A: b\nEvil: c"}, err: errHead},
		{name: "NUL in value", in: []string{"GET / HTTP/1.1", "Host: h", "A: b\x00"}, err: errField},
		{name: "fold", in: []string{"GET / HTTP/1.1", "Host: h", "A: b", " c"}, err: errField},
		{name: "space before colon", in: []string{"GET / HTTP/1.1", "Host: h", "A : b"}, err: errField},
		{name: "no colon", in: []string{"GET / HTTP/1.1", "Host: h", "A"}, err: errField},
		{name: "no name", in: []string{"GET / HTTP/1.1", "Host: h", ": x"}, err: errField},
		{name: "two hosts", in: []string{"GET / HTTP/1.1", "Host: h", "host: h"}, err: errHost},
		{name: "no host", in: []string{"GET / HTTP/1.1"}, err: errHost},
		{name: "two lengths", in: []string{"POST / HTTP/1.1", "Host: h", "Content-Length: 3", "Content-Length: 4"}, err: errFraming},
		{name: "length with sign", in: []string{"POST / HTTP/1.1", "Host: h", "Content-Length: +3"}, err: errFraming},
		{name: "length and chunked", in: []string{"POST / HTTP/1.1", "Host: h", "Content-Length: 3", "Transfer-Encoding: chunked"}, err: errFraming},
		{name: "another coding", in: []string{"POST / HTTP/1.1", "Host: h", "Transfer-Encoding: gzip, chunked"}, err: errFraming},
		{name: "chunked in 1.0", in: []string{"POST / HTTP/1.0", "Host: h", "Transfer-Encoding: chunked"}, err: errFraming},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newRewriter("candidate", c.host, true, c.strip)
			var h rewritten
			got, err := w.rewrite([]byte("before"), crlf(c.in...), &h)
			if err != c.err {
				t.Fatalf("error %v, want %v (wrote %q)", err, c.err, got)
			}
			if c.err != nil {
				return
			}
			if want := "before" + string(crlf(c.want...)); string(got) != want {
				t.Errorf("got\n%q, want\n%q", got, want)
			}
			if h.length != c.length {
				t.Errorf("length %d, want %d", h.length, c.length)
			}
			if want := strings.Contains(strings.Join(c.in, " "), "coding: chunked"); h.chunked != want {
				t.Errorf("chunked %v", h.chunked)
			}
		})
	}
	for _, head := range []string{"", "\r\n", "GET / HTTP/1.1\r\nHost: h\r\n", "GET / HTTP/1.1\nHost: h\n\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\nrest", "GET / HTTP/1.1\r\nHost: h\r\n\n"} {
		if got, err := newRewriter("control", "", true, false).rewrite(nil, []byte(head), new(rewritten)); err == nil {
			t.Errorf("head %q went out as %q", head, got)
		}
	}
}

func TestRewriteTrace(t *testing.T) {
	const (
		id   = "0af7651916cd43dd8448eb211c80319c"
		span = "b7ad6b7169203331"
	)
	for _, c := range []struct {
		name, field, value string
		fresh              string // pattern: T new trace, t its last 16 digits, S new span, else literal; "" dropped
		captured           string
	}{
		{"traceparent", "Traceparent", "00-" + id + "-" + span + "-01", "00-T-S-01", id},
		{"future version", "traceparent", "cc-" + id + "-" + span + "-01-xyz", "cc-T-S-01-xyz", id},
		{"version ff", "traceparent", "ff-" + id + "-" + span + "-01", "ff-" + id + "-" + span + "-01", ""},
		{"too long for 00", "traceparent", "00-" + id + "-" + span + "-01-x", "00-" + id + "-" + span + "-01-x", ""},
		{"no hex", "traceparent", "00-" + id[:31] + "x-" + span + "-01", "00-" + id[:31] + "x-" + span + "-01", ""},
		{"b3", "b3", id + "-" + span + "-1-05e3ac9a4f6e3b90", "T-S-1", id},
		{"b3 of 64 bits", "B3", id[16:] + "-" + span, "t-S", id[16:]},
		{"b3 without a flag", "b3", id + "-" + span + "-05e3ac9a4f6e3b90", "T-S", id},
		{"b3 flag", "b3", "0", "0", ""},
		{"b3 odd", "b3", id + "-" + span + "x", id + "-" + span + "x", ""},
		{"trace id", "X-B3-TraceId", id, "T", id},
		{"short trace id", "X-B3-TraceId", id[16:], "t", id[16:]},
		{"span id", "X-B3-SpanId", span, "S", ""},
		{"parent", "X-B3-ParentSpanId", span, "", ""},
		{"state", "tracestate", "a=b", "", ""},
		{"sampled", "X-B3-Sampled", "1", "1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := crlf("GET / HTTP/1.1", "Host: h", c.field+": "+c.value, "X-Last: 1")
			var h rewritten
			got, err := newRewriter("candidate", "", true, false).rewrite(nil, head, &h)
			if err != nil {
				t.Fatal(err)
			}
			if h.trace.captured() != c.captured {
				t.Errorf("captured %q, want %q", h.trace.captured(), c.captured)
			}
			line := ""
			if c.fresh != "" {
				T, S := string(h.trace.trace[:]), string(h.trace.span[:])
				line = c.field + ": " + strings.NewReplacer("T", T, "t", T[16:], "S", S).Replace(c.fresh)
				if c.fresh == c.value || c.fresh == "0" || c.fresh == "1" {
					line = c.field + ": " + c.value
				} else if strings.Contains(line, id) || strings.Contains(line, span) || !isHex(h.trace.trace[:]) || !isHex(h.trace.span[:]) {
					t.Errorf("not fresh: %q", line)
				}
			}
			want := "GET / HTTP/1.1\r\nHost: h\r\n" + line + "\r\nX-Last: 1\r\nX-Shadow-Test-Role: candidate\r\n\r\n"
			if line == "" {
				want = strings.Replace(want, "\r\n\r\n", "\r\n", 1)
			}
			if string(got) != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}

			got, err = newRewriter("candidate", "", false, false).rewrite(nil, head, &h)
			if err != nil {
				t.Fatal(err)
			}
			if h.trace.captured() != c.captured || h.trace.fresh() != "" {
				t.Errorf("keep: captured %q, fresh %q", h.trace.captured(), h.trace.fresh())
			}
			if !bytes.Contains(got, []byte("\r\n"+c.field+": "+c.value+"\r\n")) {
				t.Errorf("keep: %q", got)
			}
		})
	}

	t.Run("one id for all", func(t *testing.T) {
		// Connection makes the head be gone through twice.
		head := crlf("GET / HTTP/1.1", "Host: h", "b3: "+id[16:]+"-"+span+"-1", "traceparent: 00-"+id+"-"+span+"-01", "Connection: x-y", "X-B3-SpanId: "+span)
		var h rewritten
		got, err := newRewriter("candidate", "", true, false).rewrite(nil, head, &h)
		if err != nil {
			t.Fatal(err)
		}
		T, S := h.trace.fresh(), string(h.trace.span[:])
		want := crlf("GET / HTTP/1.1", "Host: h", "b3: "+T[16:]+"-"+S+"-1", "traceparent: 00-"+T+"-"+S+"-01", "X-B3-SpanId: "+S, "X-Shadow-Test-Role: candidate")
		if !bytes.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		if h.trace.captured() != id {
			t.Errorf("captured %q: traceparent goes before b3", h.trace.captured())
		}
		var again rewritten
		if _, err := newRewriter("candidate", "", true, false).rewrite(nil, head, &again); err != nil || again.trace.fresh() == T {
			t.Errorf("the next request has the same id (%v)", err)
		}
	})
}

// splitLines cuts wherever any reader may see the end of a line.
func splitLines(b []byte) [][]byte {
	return bytes.FieldsFunc(b, func(r rune) bool { return r == '\r' || r == '\n' })
}

func FuzzRewrite(f *testing.F) {
	for _, lines := range [][]string{
		{"GET / HTTP/1.1", "Host: h"},
		{"POST //a?b HTTP/1.0", "Connection: a, close", "A: b", "X-Shadow-Test-Role: control", "Content-Length: 3, 3"},
		{"GET * HTTP/1.1", "Host: h", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", "tracestate: a"},
		{"GET / HTTP/1.1", "Host: h", "A: b\rX-Shadow-Test-Role: evil", "Expect: 100-continue", "Transfer-Encoding: chunked"},
	} {
		f.Add(crlf(lines...), "", true, true)
		f.Add(crlf(lines...), "c:1", false, false)
	}
	f.Fuzz(func(t *testing.T, head []byte, host string, fresh, strip bool) {
		if strings.ContainsAny(host, "\r\n\x00") || strings.Trim(host, " \t") != host {
			return // New lets no such host through
		}
		before := bytes.Clone(head)
		w := newRewriter("control", host, fresh, strip)
		var h rewritten
		out, err := w.rewrite(nil, head, &h)
		if !bytes.Equal(head, before) {
			t.Fatal("the captured head was written to")
		}
		if err != nil {
			if out != nil {
				t.Fatalf("error and output %q", out)
			}
			return
		}
		if !bytes.HasSuffix(out, []byte("\r\n\r\n")) || bytes.Count(out, []byte("\r\n\r\n")) != 1 {
			t.Fatalf("head ends not once: %q", out)
		}
		in, lines := splitLines(head), splitLines(out)
		if n := bytes.Count(out, []byte("\r\n")) - 1; n != len(lines) {
			t.Fatalf("%d lines, other readers see %d: %q", n, len(lines), out)
		}
		roles, hosts := 0, 0
		for i, l := range lines {
			if i == 0 {
				if !bytes.Equal(l, in[0]) {
					t.Fatalf("request line %q became %q", in[0], l)
				}
				continue
			}
			name, value, ok := bytes.Cut(l, []byte{':'})
			switch {
			case !ok:
				t.Fatalf("no field: %q", l)
			case bytes.EqualFold(bytes.ReplaceAll(name, []byte("_"), []byte("-")), []byte(RoleHeader)):
				roles++
				if string(l) != "X-Shadow-Test-Role: control" {
					t.Fatalf("role line %q", l)
				}
			case bytes.EqualFold(name, []byte("Host")):
				hosts++
				if host != "" && string(bytes.Trim(value, " \t")) != host {
					t.Fatalf("host %q", value)
				}
			}
			switch strings.ToLower(string(name)) {
			case "connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade":
				t.Fatalf("hop-by-hop field %q", l)
			case "authorization", "cookie":
				if strip {
					t.Fatalf("credentials %q", l)
				}
			case "x-shadow-test-role", "host", "traceparent", "b3", "x-b3-traceid", "x-b3-spanid":
			default:
				if !slices.ContainsFunc(in, func(x []byte) bool { return bytes.Equal(x, l) }) {
					t.Fatalf("line %q was not captured", l)
				}
			}
		}
		if roles != 1 || hosts > 1 {
			t.Fatalf("%d role headers, %d hosts in %q", roles, hosts, out)
		}
		w.trace = false
		again, err := w.rewrite(nil, out, &h)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("rewritten twice (%v): %q became %q", err, out, again)
		}
	})
}

func TestCredentialFields(t *testing.T) {
	w := newRewriter("candidate", "", false, true)
	for _, n := range CredentialFields() {
		if w.act([]byte(http.CanonicalHeaderKey(n))) != drop {
			t.Errorf("%s is not dropped", n)
		}
	}
	for _, n := range []string{"authorization", "cookie", "x-api-key"} {
		if !slices.Contains(CredentialFields(), n) {
			t.Errorf("%s is missing", n)
		}
	}
}

func BenchmarkRewrite(b *testing.B) {
	head := crlf("GET /api/users/4711?expand=all HTTP/1.1", "Host: users.example:8080", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
		"Accept: application/json", "Accept-Encoding: gzip, deflate", "Accept-Language: en", "Connection: keep-alive", "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc",
		"Cookie: a=b; c=d", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "X-Request-Id: 0123456789")
	w := newRewriter("candidate", "", true, false)
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	var h rewritten
	for b.Loop() {
		if _, err := w.rewrite(buf, head, &h); err != nil {
			b.Fatal(err)
		}
	}
}
