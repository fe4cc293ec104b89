package sample

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ruleNames are the default rules that a target hits.
func ruleNames(d *detector, s string) string {
	t := splitTarget([]byte(s))
	p := textPath(string(t.path))
	var names []string
	for i, r := range defaultRules {
		if d.hits(&p, t.query)&(1<<i) != 0 {
			names = append(names, r.name)
		}
	}
	return strings.Join(names, " ")
}

func TestDefaultExclusions(t *testing.T) {
	d := newDetector()
	seen := map[string]bool{}
	for _, c := range []struct{ target, want string }{
		{"/oauth/callback", "callback"},
		{"/login/callback", "callback"},
		{"/users/auth/github/callback", "callback"},
		{"/login/oauth2/code/google", "callback"},
		{"/oauth2/idpresponse", "callback"},
		{"/saml/acs", "callback"},
		{"/signin-oidc", "callback"},
		{"/oauth/callback?code=x&state=y", "callback query-code-state"},
		{"/back?state=y&code=x", "query-code-state"},
		{"/back?code=x", ""},
		{"/back?state=x", ""},
		{"/back?CODE=x&a&State", "query-code-state"},
		{"/back?c%6Fde=x&state=y", "query-code-state"},
		{"/back?oauth_token=a&oauth_verifier=b", "query-oauth1"},
		{"/sso?SAMLResponse=x", "query-saml"},
		{"/logout", "logout"},
		{"/Logout", "logout"},
		{"/api/v1/log%6fut/", "logout"},
		{"/logout.php", "logout"},
		{"/logout;jsessionid=1", "logout"},
		{"/x/../logout", "logout"},
		{"//logout", "logout"},
		{"http://example.com/logout", "logout"},
		{"/logouts", ""},
		{"/log/out", ""},
		{"/%zzlogout", ""},
		{"/connect/endsession", "logout"},
		{"/.well-known/acme-challenge/abc", "acme-challenge"},
		{"/acme-challenge/abc", ""},
		{"/.well-known/security.txt", ""},
		{"/.well-known/x/acme-challenge", ""},
		{"/email/verify/3/abc", "verification"},
		{"/confirm/email", "verification"},
		{"/orders/42/confirmation", ""},
		{"/users/confirmation?confirmation_token=x", "query-one-time-token"},
		{"/password/reset/abc", "password-reset"},
		{"/reset-password", "password-reset"},
		{"/otp", "one-time-code"},
		{"/login/magic-link", "one-time-code"},
		{"/invitations/accept", "invitation"},
		{"/newsletter/unsubscribe", "unsubscribe"},
		{"/x?otp=1", "query-otp"},
		{"/x?token=1", "query-token"},
		{"/x?a=token", ""},
		{"/x?tokens=1", ""},
		{"/x?&&token", "query-token"},
		{"/x?reset_token=1", "query-one-time-token"},
		{"/x?oobCode=1", "query-one-time-token"},
		{"/users/42?fields=name", ""},
		{"/", ""},
		{"*", ""},
		{"/averyveryveryveryveryveryveryverylongsegment/logout", "logout"},
	} {
		if got := ruleNames(d, c.target); got != c.want {
			t.Errorf("%s hits %q, want %q", c.target, got, c.want)
		}
		for name := range strings.FieldsSeq(c.want) {
			seen[name] = true
		}
	}
	for _, r := range DefaultExclusions() {
		if !seen[r.Name] || r.Matches == "" || r.Why == "" {
			t.Errorf("rule %+v has no example, or says nothing", r)
		}
	}
	if len(d.pairs) > 64 || len(defaultRules) > 32 {
		t.Errorf("too few bits for %d pairs, %d rules", len(d.pairs), len(defaultRules))
	}
	for _, words := range [][]string{slices.Collect(maps.Keys(d.segments.known)), slices.Collect(maps.Keys(d.keys.known))} {
		for _, w := range words {
			if len(w) > longestWord || w != strings.ToLower(w) {
				t.Errorf("word %q can never be found", w)
			}
		}
	}
}

// What is left out without a look at the words is what the words would not hit.
func TestHitsAgreeWithWords(t *testing.T) {
	d := newDetector()
	words := append(slices.Collect(maps.Keys(d.segments.known)), "api", "users", "a", "")
	keys := append(slices.Collect(maps.Keys(d.keys.known)), "q", "")
	slices.Sort(words)
	slices.Sort(keys)
	spelled := func(t *rapid.T, list []string) string {
		w := []byte(rapid.SampledFrom(list).Draw(t, "word"))
		for i := range w {
			if rapid.IntRange(0, 3).Draw(t, "upper") == 0 {
				w[i] = strings.ToUpper(string(w[i]))[0]
			}
		}
		s := string(w)
		if i := rapid.IntRange(0, len(s)+8).Draw(t, "encoded"); i < len(s) {
			s = fmt.Sprintf("%s%%%02x%s", s[:i], s[i], s[i+1:])
		}
		return s + rapid.SampledFrom([]string{"", "", "", "x", ".php", ";v=1", "%zz", ".", strings.Repeat("y", 40)}).Draw(t, "more")
	}
	plain := func(s string, segment bool) string {
		if u, err := url.PathUnescape(s); err == nil {
			s = u
		}
		if segment && s != "" {
			if i := strings.IndexByte(s, ';'); i >= 0 {
				s = s[:i]
			}
			if i := strings.IndexByte(s[min(1, len(s)):], '.'); i >= 0 {
				s = s[:i+1]
			}
		}
		return strings.ToLower(s)
	}
	rapid.Check(t, func(t *rapid.T) {
		var path, query string
		var segments, names []string
		for range rapid.IntRange(1, 4).Draw(t, "segments") {
			s := spelled(t, words)
			path += "/" + s
			segments = append(segments, plain(s, true))
		}
		for range rapid.IntRange(0, 3).Draw(t, "keys") {
			k := spelled(t, keys)
			names = append(names, plain(k, false))
			query += k + rapid.SampledFrom([]string{"&", "=&", "=token&", "=a=b%6&"}).Draw(t, "value")
		}
		var want rules
		for i, r := range defaultRules {
			hit := slices.ContainsFunc(r.segments, func(s string) bool { return slices.Contains(segments, s) })
			for _, p := range r.pairs {
				for at := range segments[1:] {
					hit = hit || segments[at] == p[0] && segments[at+1] == p[1]
				}
			}
			for _, list := range r.keys {
				hit = hit || !slices.ContainsFunc(list, func(k string) bool { return !slices.Contains(names, strings.ToLower(k)) })
			}
			if hit {
				want |= 1 << i
			}
		}
		p := textPath(path)
		if got := d.hits(&p, []byte(query)); got != want {
			t.Fatalf("%s?%s hits %b, want %b", path, query, got, want)
		}
	})
}

func TestExclusionsSwitchOff(t *testing.T) {
	for _, r := range DefaultExclusions() {
		x, _, err := newExclusions([]string{"!" + r.Name})
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range defaultRules {
			if on := x.defaults&(1<<i) != 0; on != (o.name != r.Name) {
				t.Errorf("with !%s, rule %s holds: %v", r.Name, o.name, on)
			}
		}
	}
	x, _, err := newExclusions([]string{"/own", "!defaults"})
	if err != nil || x.defaults != 0 || matchText(x.own, "/own") < 0 {
		t.Errorf("!defaults leaves %b, %v", x.defaults, err)
	}
	_, at, err := newExclusions([]string{"/a", "!logoff"})
	if at != 1 || err == nil || !strings.Contains(err.Error(), `no default exclusion "logoff": there are callback, logout,`) {
		t.Errorf("an unknown name: field %d, %v", at, err)
	}
}

// cleanText writes the cleaned path out.
func cleanText(s string) string {
	p := textPath(s)
	c := clean(&p, nil)
	var b strings.Builder
	for i := range c.spans {
		b.WriteByte('/')
		b.Write(c.segment(i))
	}
	if c.slash {
		b.WriteByte('/')
	}
	return b.String()
}

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"/", "/"},
		{"/a", "/a"},
		{"/a/", "/a/"},
		{"/a//b", "/a/b"},
		{"//", "/"},
		{"/a/./b", "/a/b"},
		{"/a/.", "/a/"},
		{"/a/..", "/"},
		{"/a/../b", "/b"},
		{"/../../b", "/b"},
		{"/a/b/../../c/", "/c/"},
		{"/a/%2e%2E/b", "/b"},
		{"/a/.%2e/b", "/b"},
		{"/...", "/..."},
		{"/.well-known/x", "/.well-known/x"},
		{"/a%2F..", "/a%2F.."},
	} {
		if got := cleanText(c.in); got != c.want {
			t.Errorf("clean(%q) = %q, want %q", c.in, got, c.want)
		}
		if p := textPath(c.in); c.in != c.want && !p.unclean {
			t.Errorf("%q passes for clean", c.in)
		}
	}
}

// net/url removes the dot segments of references by the same rule of RFC 3986.
func TestCleanAgreesWithURL(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", ".", "..", "...", "c.d"})
	rapid.Check(t, func(t *rapid.T) {
		path := "/" + strings.Join(rapid.SliceOfN(segment, 1, 6).Draw(t, "segments"), "/")
		if rapid.Bool().Draw(t, "slash") {
			path += "/"
		}
		u, err := new(url.URL).Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := cleanText(path); got != u.ResolveReference(u).Path {
			t.Fatalf("clean(%q) = %q, net/url %q", path, got, u.ResolveReference(u).Path)
		}
	})
}
