package redact

import (
	"strings"
	"testing"
)

const (
	aJWT  = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	aCard = "4111111111111111"
)

// redacted says how text comes out: each token as <field> by its hash.
func textOf(t *testing.T, r *Redactor, s string) string {
	t.Helper()
	return newJob(r).text(s)
}

func TestScan(t *testing.T) {
	r := newRedactor(t, Config{})
	tok := r.tokens.Load().token
	for _, c := range []struct{ name, in, want string }{
		{"plain", "the quick brown fox, 42 times", "the quick brown fox, 42 times"},
		{"jwt", "got " + aJWT + " back", "got " + tok("jwt", aJWT) + " back"},
		{"jwt cut", aJWT[:30], tok("jwt", aJWT[:30])},
		{"jwt in a path", "/verify/" + aJWT, "/verify/" + tok("jwt", aJWT)},
		{"not a jwt", "eyJustWords", "eyJustWords"},
		{"jwt in a word", "keyJhbGciOiJI.abc", "keyJhbGciOiJI.abc"},

		{"card", "paid by " + aCard + ".", "paid by " + tok("card", aCard) + "."},
		{"card spaces", "4111 1111 1111 1111", tok("card", aCard)},
		{"card hyphens", "4111-1111-1111-1111,", tok("card", aCard) + ","},
		{"card amex", "378282246310005", tok("card", "378282246310005")},
		{"card after a number", "12 4111 1111 1111 1111", "12 " + tok("card", aCard)},
		{"wrong check digit", "4111111111111112", "4111111111111112"},
		{"no issuer", "1700000000000 9999999999999995", "1700000000000 9999999999999995"},
		{"part of a longer number", "94111111111111111", "94111111111111111"},
		{"part of a hex digest", "a4111111111111111f", "a4111111111111111f"},
		{"a fraction", "0.4111111111111111", "0.4111111111111111"},

		{"email", "write to ada.l+x@example.co.uk.", "write to " + tok("email", "ada.l+x@example.co.uk") + "."},
		{"email escaped", "user=ada%40example.com&x", "user=" + tok("email", "ada@example.com") + "&x"},
		{"email in brackets", "Ada <ada@example.com>", "Ada <" + tok("email", "ada@example.com") + ">"},
		{"email beyond ascii", "jörg@müller.de", tok("email", "jörg@müller.de")},
		{"no email", "@example a@b a@ @ x@y.1", "@example a@b a@ @ x@y.1"},
		{"no top level", "git@github", "git@github"},

		{"userinfo", "dial http://bob:pa$$@db:5432/x", "dial http://" + tok("userinfo", "bob:pa$$") + "@db:5432/x"},
		{"bearer", "sent Bearer abcdefgh12", "sent Bearer " + tok("credential", "abcdefgh12")},
		{"basic", "sent basic dXNlcjpwYXNz", "sent basic " + tok("credential", "dXNlcjpwYXNz")},
		{"basic english", "Basic understanding of it", "Basic understanding of it"},

		{"pair", "a=1&access_token=s3cr3t&b=2", "a=1&access_token=" + tok("access_token", "s3cr3t") + "&b=2"},
		{"pair colon", "password: hunter2, retry", "password: " + tok("password", "hunter2") + ", retry"},
		{"pair quoted", `bad value in {"password": "hun\"ter2", "x":1`, `bad value in {"password": "` + tok("password", `hun\"ter2`) + `", "x":1`},
		{"pair escaped quotes", `{\"secret\":\"abc\",\"x\"`, `{\"secret\":\"` + tok("secret", "abc") + `\",\"x\"`},
		{"pair at the end", "token=abc", "token=" + tok("token", "abc")},
		{"pair without a value", "token=", "token="},
		{"pair null", "token: null", "token: null"},
		{"pair scheme", "token=Bearer abc", "token=Bearer " + tok("token", "abc")},
		{"pair header", "Cookie: a=b; c=d\nnext", "Cookie: " + tok("cookie", "a=b; c=d") + "\nnext"},
		{"comparison", "token == abc", "token == " + tok("token", "abc")},
		{"no pair", "key: x, total=3", "key: x, total=3"},

		{"element", "<a><Password>x y</Password></a>", "<a><Password>" + tok("password", "x y") + "</Password></a>"},
		{"element namespaced", `<s:token type="a">q</s:token>`, `<s:token type="a">` + tok("token", "q") + `</s:token>`},
		{"element with attributes", `<pin for="ada@example.com">1</pin>`, `<pin for="` + tok("email", "ada@example.com") + `">` + tok("pin", "1") + `</pin>`},
		{"element open", "<b>token</b>", "<b>token</b>"},
		{"aws", "AKIAIOSFODNN7EXAMPLE", tok("provider_token", "AKIAIOSFODNN7EXAMPLE")},
		{"github", "ghp_" + strings.Repeat("a", 36), tok("provider_token", "ghp_"+strings.Repeat("a", 36))},
		{"private key", "x-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----y", "x" + tok("private_key", "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----") + "y"},
		{"private key cut", "-----BEGIN PRIVATE KEY-----\nMII", tok("private_key", "-----BEGIN PRIVATE KEY-----\nMII")},
		{"certificate", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----"},
		{"token stays", "token=~k.0123456789abcdef", "token=~k.0123456789abcdef"},
		{"almost a token", "password=~k.012345678", "password=" + tok("password", "~k.012345678")},
		{"bytes", "\xff\xfe ada@example.com \x00", "\xff\xfe " + tok("email", "ada@example.com") + " \x00"},
	} {
		if got := textOf(t, r, c.in); got != c.want {
			t.Errorf("%s:\n in   %q\n got  %q\n want %q", c.name, c.in, got, c.want)
		}
	}
}

// What was redacted once stays as it is.
func TestScanTwice(t *testing.T) {
	r := newRedactor(t, Config{Patterns: []string{`order-\d+`}})
	in := "order-77 of ada@example.com, password=x y, Bearer abcdefgh12, 4111 1111 1111 1111, " + aJWT
	once := textOf(t, r, in)
	if twice := textOf(t, r, once); twice != once {
		t.Errorf("redacted twice:\n%s\n%s", once, twice)
	}
}

func TestPatterns(t *testing.T) {
	r := newRedactor(t, Config{Patterns: []string{`ORD-\d{4,}`, `customer (\w+)(?: of (\w+))?`}})
	tok := r.tokens.Load().token
	for _, c := range []struct{ in, want string }{
		{"see ORD-12345!", "see " + tok("pattern", "ORD-12345") + "!"},
		{"customer bob of acme", "customer " + tok("pattern", "bob") + " of " + tok("pattern", "acme")},
		{"customer bob", "customer " + tok("pattern", "bob")},
		{"nothing", "nothing"},
	} {
		if got := textOf(t, r, c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
	// A pattern that reaches over what was already replaced takes it along.
	r = newRedactor(t, Config{Patterns: []string{`name \S+ mail \S+ end`}})
	if got := textOf(t, r, "x name bob mail ada@example.com end y"); strings.Contains(got, "bob") || !strings.HasPrefix(got, "x ~k.") || !strings.HasSuffix(got, " y") {
		t.Errorf("over a token: %q", got)
	}
	// One that matches inside a token leaves it whole.
	r = newRedactor(t, Config{Patterns: []string{`[0-9a-f]{8}`}})
	if got := textOf(t, r, "ada@example.com"); got != r.tokens.Load().token("email", "ada@example.com") {
		t.Errorf("inside a token: %q", got)
	}
}

func TestText(t *testing.T) {
	r := newRedactor(t, Config{})
	if got := r.Text("read body: password=hunter2 \xff"); strings.Contains(got, "hunter2") || !strings.HasSuffix(got, ` \xff`) {
		t.Errorf("got %q", got)
	}
}

func BenchmarkScan(b *testing.B) {
	r := newRedactor(b, Config{})
	j := newJob(r)
	text := strings.Repeat(`{"id":42,"name":"Ada Lovelace","roles":["admin","user"]} `, 72)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		j.scan(text)
	}
}
