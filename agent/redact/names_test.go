package redact

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSecretNames(t *testing.T) {
	secret := []string{
		"password", "Password", "user_password", "passwordHash", "new-password", "passwd", "pwd", "token", "access_token", "accessToken",
		"ACCESS_TOKEN", "refresh-token", "idToken", "authtoken", "X-Auth-Token", "client_secret", "clientSecret", "secret", "api_key", "apiKey",
		"API-KEY", "apikey", "x-amz-signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "signature", "session", "session_id",
		"sessionId", "PHPSESSID", "JSESSIONID", "connect.sid", "ssn", "SSN", "customer_ssn", "cvv", "cardNumber", "credit_card", "jwt", "otp",
		"private_key", "privateKey", "csrf_token", "_csrf", "authenticity_token", "iban", "pin", "auth", "user[password]",
	}
	for _, n := range secret {
		if !secretName(n) {
			t.Errorf("%q is not secret", n)
		}
	}
	open := []string{
		"", "id", "name", "status", "author", "authors", "tokens", "max_tokens", "token_type", "tokenCount", "key", "keyboard", "pinned", "spin",
		"code", "design", "assign", "sidebar", "passenger", "compass", "signal", "option", "message", "expires_in", "email", "secretary"[:3],
	}
	for _, n := range open {
		if secretName(n) {
			t.Errorf("%q is secret", n)
		}
	}
	// The end of a long name decides.
	if long := strings.Repeat("a.", 200); secretName(long) || !secretName(long+"password") {
		t.Error("long names are not judged by their end")
	}
}

func TestSecretHeaders(t *testing.T) {
	for _, n := range []string{
		"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "x-csrf-token", "x-xsrf-token",
		"x-amz-security-token", "x-vault-token", "x-session-id", "x-hub-signature-256", "x-apikey", "grpc-metadata-password", "x-goog-credential",
	} {
		if !secretHeader(n) {
			t.Errorf("%q is not secret", n)
		}
	}
	for _, n := range []string{"host", "accept", "content-type", "etag", "x-request-id", "user-agent", "referer", "location", "authority", "idempotency-key"} {
		if secretHeader(n) {
			t.Errorf("%q is secret", n)
		}
	}
}

func TestNameRules(t *testing.T) {
	n, err := compileNames("query", []string{"tenant", "X-Internal-*", "!token_*", "*_ref"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"tenant": true, "TENANT": true, "tenants": false, "x-internal-user": true, "order_ref": true, "token_x": false, "token": true, "id": false,
	} {
		if got := n.secret(name, secretName); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// The oracle is a regular expression.
func TestGlob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.RuneFrom([]rune("ab*")), 1, 8, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 0, 10, -1).Draw(t, "s")
		want := matches(pattern, s)
		if got := glob(pattern, s); got != want {
			t.Fatalf("glob(%q, %q) = %v", pattern, s, got)
		}
	})
}

// matches is glob by its definition.
func matches(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] == '*' {
		return matches(pattern[1:], s) || s != "" && matches(pattern, s[1:])
	}
	return s != "" && s[0] == pattern[0] && matches(pattern[1:], s[1:])
}

func TestMemo(t *testing.T) {
	asked := map[string]int{}
	m := newMemo(func(name string) bool { asked[name]++; return strings.HasPrefix(name, "s") })
	for range 3 {
		if !m.secret("secret") || m.secret("open") {
			t.Fatal("wrong answer")
		}
	}
	if asked["secret"] != 1 || asked["open"] != 1 {
		t.Errorf("decided more than once: %v", asked)
	}
	for i := range 2 * maxMemo {
		if got := m.secret(fmt.Sprint(i)); got {
			t.Fatal("wrong answer")
		}
	}
	m.secret(strings.Repeat("s", maxName+1))
	if len(m.known) != maxMemo {
		t.Errorf("%d names remembered, want %d", len(m.known), maxMemo)
	}
	if !m.secret("s-new") || asked["s-new"] != 1 {
		t.Error("a new name is not decided when the memo is full")
	}
}
