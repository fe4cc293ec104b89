package sample

import (
	"bytes"
	"fmt"
	"math/bits"
	"strings"
)

// Exclusion is a rule of the default exclusion list: requests that nobody
// should send twice although their method is safe.
type Exclusion struct {
	// Name switches the rule: "!name" in an experiment's exclude list.
	Name string
	// Matches says in words what the rule matches.
	Matches string
	// Why says what a second request would do.
	Why string
}

// defaultRule is an Exclusion and what it looks for. Words compare without
// regard to case, percent-decoded; a path's segment ends for this at ";" or at
// a "." behind its first byte, so that /Logout, /logout.php and /logout;x=1 are
// /logout.
type defaultRule struct {
	name, why string
	// segments are looked for at any depth of the path; pairs stand one right
	// behind the other.
	segments []string
	pairs    [][2]string
	// keys are names in the query, of which all of a list must be there.
	keys [][]string
}

// defaultRules is the list, at most 32 of each rule, pair and list of keys.
var defaultRules = []defaultRule{
	{
		name:     "callback",
		why:      "a sign-in or payment provider returns here with a code that works once; a code sent twice may revoke the tokens it gave (RFC 6749 section 4.1.2)",
		segments: []string{"callback", "oauth-callback", "oauth_callback", "auth-callback", "signin-oidc", "signout-callback-oidc"},
		pairs:    [][2]string{{"oauth2", "code"}, {"oauth2", "idpresponse"}, {"saml", "acs"}, {"saml2", "acs"}, {"sso", "acs"}},
	},
	{
		name:     "logout",
		why:      "it ends the user's session",
		segments: []string{"logout", "log-out", "log_out", "logoff", "signout", "sign-out", "sign_out", "endsession", "end-session", "end_session"},
	},
	{
		name:  "acme-challenge",
		why:   "a certificate authority reads a token that only the reference has (RFC 8555 section 8.3)",
		pairs: [][2]string{{".well-known", "acme-challenge"}, {".well-known", "pki-validation"}},
	},
	{
		name:     "verification",
		why:      "a link from an e-mail or a message that works once",
		segments: []string{"verify", "verification", "verify-email", "verify_email", "email-verification", "confirm-email", "confirm_email", "email-confirmation", "activate", "activation"},
		pairs:    [][2]string{{"email", "confirm"}, {"email", "confirmation"}, {"confirm", "email"}},
	},
	{
		name:     "password-reset",
		why:      "a link from an e-mail that works once",
		segments: []string{"reset-password", "reset_password", "password-reset", "password_reset"},
		pairs:    [][2]string{{"password", "reset"}, {"password", "edit"}},
	},
	{
		name:     "one-time-code",
		why:      "a code that works once, or asking for one sends it to the user",
		segments: []string{"otp", "totp", "2fa", "mfa", "one-time-code", "magic-link", "magic_link", "magiclink", "passwordless"},
	},
	{
		name:     "invitation",
		why:      "an invitation can be accepted once",
		segments: []string{"accept-invite", "accept-invitation"},
		pairs:    [][2]string{{"invite", "accept"}, {"invitation", "accept"}, {"invitations", "accept"}},
	},
	{
		name:     "unsubscribe",
		why:      "a link in an e-mail that changes what the user gets",
		segments: []string{"unsubscribe", "opt-out", "optout"},
	},
	{
		name: "query-code-state",
		why:  "the answer of an OAuth 2.0 or OpenID provider (RFC 6749 section 4.1.2), at whatever path",
		keys: [][]string{{"code", "state"}},
	},
	{
		name: "query-oauth1",
		why:  "the answer of an OAuth 1.0 provider (RFC 5849 section 2.2)",
		keys: [][]string{{"oauth_token", "oauth_verifier"}},
	},
	{
		name: "query-saml",
		why:  "a SAML message, which may be used once (SAML 2.0 profiles section 4.1.4.5)",
		keys: [][]string{{"SAMLResponse"}, {"SAMLRequest"}, {"SAMLart"}},
	},
	{
		name: "query-otp",
		why:  "a code that works once",
		keys: [][]string{{"otp"}, {"totp"}, {"one_time_code"}, {"one_time_password"}, {"verification_code"}, {"mfa_code"}},
	},
	{
		name: "query-token",
		why:  "the usual name of a one-time token in a link; switch it off where it is a lasting key",
		keys: [][]string{{"token"}},
	},
	{
		name: "query-one-time-token",
		why:  "a token in a link that works once",
		keys: [][]string{
			{"one_time_token"}, {"confirmation_token"}, {"reset_password_token"}, {"reset_token"}, {"verification_token"},
			{"activation_token"}, {"unlock_token"}, {"invitation_token"}, {"invite_token"}, {"magic_token"}, {"login_token"}, {"oobCode"},
		},
	},
}

// DefaultExclusions is the default exclusion list. Each rule holds for every
// experiment unless its exclude list has "!" and the rule's name, or
// "!defaults" for all of them.
func DefaultExclusions() []Exclusion {
	list := make([]Exclusion, len(defaultRules))
	for i, r := range defaultRules {
		list[i] = Exclusion{Name: r.name, Matches: r.words(), Why: r.why}
	}
	return list
}

func (r *defaultRule) words() string {
	var paths, keys []string
	paths = append(paths, r.segments...)
	for _, p := range r.pairs {
		paths = append(paths, p[0]+"/"+p[1])
	}
	for _, k := range r.keys {
		keys = append(keys, strings.Join(k, " with "))
	}
	var parts []string
	if len(paths) > 0 {
		parts = append(parts, "in the path "+strings.Join(paths, ", "))
	}
	if len(keys) > 0 {
		parts = append(parts, "in the query "+strings.Join(keys, ", "))
	}
	return strings.Join(parts, "; ")
}

// rules is a set of default rules, a bit for each.
type rules uint32

// detector finds which default rules a target hits. It is not changed after it
// was built.
type detector struct {
	segments words[segmentWord]
	keys     words[keyWord]
	// pairs and lists give the rule of each pair and of each list of keys.
	pairs []rules
	lists []keyList
}

// words are what the default rules know of words. Most words of a request are
// none of theirs, and are told by first byte, in either case, and length.
type words[T any] struct {
	lengths [256]uint64
	known   map[string]T
}

func newWords[T any]() words[T] { return words[T]{known: map[string]T{}} }

func (w *words[T]) set(word string, v T) {
	w.lengths[word[0]] |= 1 << len(word)
	if c := word[0]; 'a' <= c && c <= 'z' {
		w.lengths[c-('a'-'A')] |= 1 << len(word)
	}
	w.known[word] = v
}

// may says whether there may be a word of n bytes that begins with that one.
func (w *words[T]) may(first byte, n int) bool { return w.lengths[first]>>n&1 != 0 }

func (w *words[T]) find(word []byte) (v T) {
	if len(word) == 0 || !w.may(word[0], len(word)) {
		return v
	}
	return w.known[string(word)]
}

type segmentWord struct {
	// rules that the word hits alone.
	rules rules
	// first and second are the pairs that the word begins and ends, a bit each.
	first, second uint64
}

type keyWord struct {
	rules rules
	// member are the places in the lists that the key fills, a bit each.
	member uint64
}

type keyList struct {
	members uint64
	rule    rules
}

func newDetector() *detector {
	d := &detector{segments: newWords[segmentWord](), keys: newWords[keyWord]()}
	members := 0
	for i, r := range defaultRules {
		rule := rules(1) << i
		for _, s := range r.segments {
			d.segment(s, segmentWord{rules: rule})
		}
		for _, p := range r.pairs {
			bit := uint64(1) << len(d.pairs)
			d.pairs = append(d.pairs, rule)
			d.segment(p[0], segmentWord{first: bit})
			d.segment(p[1], segmentWord{second: bit})
		}
		for _, list := range r.keys {
			if len(list) == 1 {
				d.key(list[0], keyWord{rules: rule})
				continue
			}
			var l keyList
			for _, k := range list {
				d.key(k, keyWord{member: 1 << members})
				l.members |= 1 << members
				members++
			}
			l.rule = rule
			d.lists = append(d.lists, l)
		}
	}
	return d
}

func (d *detector) segment(text string, w segmentWord) {
	have := d.segments.known[text]
	d.segments.set(text, segmentWord{have.rules | w.rules, have.first | w.first, have.second | w.second})
}

func (d *detector) key(text string, w keyWord) {
	text = strings.ToLower(text)
	have := d.keys.known[text]
	d.keys.set(text, keyWord{have.rules | w.rules, have.member | w.member})
}

// longestWord bounds the words of the default rules.
const longestWord = 32

// hits gives the default rules that path and query hit.
func (d *detector) hits(p *path, query []byte) rules {
	var hit rules
	var open uint64
	var word [longestWord]byte
	for i := range p.spans {
		seg, encoded := p.segment(i), p.spans[i].encoded
		if !encoded && (len(seg) == 0 || !d.segments.may(seg[0], stem(seg))) {
			open = 0
			continue
		}
		w := d.segments.find(fold(&word, seg, encoded, true))
		hit |= w.rules
		for both := open & w.second; both != 0; both &= both - 1 {
			hit |= d.pairs[bits.TrailingZeros64(both)]
		}
		open = w.first
	}
	var members uint64
	for len(query) > 0 {
		i, encoded := 0, false
		for i < len(query) && query[i] != '=' && query[i] != '&' {
			encoded = encoded || query[i] == '%'
			i++
		}
		key := query[:i]
		if i < len(query) && query[i] == '=' {
			if n := bytes.IndexByte(query[i:], '&'); n >= 0 {
				i += n
			} else {
				i = len(query)
			}
		}
		query = query[min(i+1, len(query)):]
		encoded = encoded && validEncoding(key)
		if !encoded && (len(key) == 0 || !d.keys.may(key[0], len(key))) {
			continue
		}
		w := d.keys.find(fold(&word, key, encoded, false))
		hit |= w.rules
		members |= w.member
	}
	for _, l := range d.lists {
		if members&l.members == l.members {
			hit |= l.rule
		}
	}
	return hit
}

// stem is how long a segment is up to its parameters or its file extension.
func stem(seg []byte) int {
	for i, c := range seg {
		if c == ';' || c == '.' && i > 0 {
			return i
		}
	}
	return len(seg)
}

// fold writes b decoded and in lower case; "" when it is longer than any word.
// A segment is cut where its parameters or its file extension begin.
func fold(word *[longestWord]byte, b []byte, encoded, segment bool) []byte {
	n := 0
	for i := 0; i < len(b); {
		c, next := b[i], i+1
		if encoded {
			c, next = decodeAt(b, i)
		}
		if segment && (c == ';' || c == '.' && n > 0) {
			break
		}
		if n == len(word) {
			return nil
		}
		word[n] = lower(c)
		n++
		i = next
	}
	return word[:n]
}

// exclusions is an experiment's exclude list.
type exclusions struct {
	// defaults are the default rules that hold.
	defaults rules
	// own are the experiment's patterns, nil without any.
	own *tree
}

// newExclusions reads an exclude list: patterns, and "!name" for default rules
// that do not hold.
func newExclusions(list []string) (exclusions, int, error) {
	x := exclusions{defaults: 1<<len(defaultRules) - 1}
	var patterns []*pattern
	for i, s := range list {
		name, off := strings.CutPrefix(s, "!")
		if !off {
			p, err := parsePattern(s)
			if err != nil {
				return exclusions{}, i, err
			}
			patterns = append(patterns, p)
			continue
		}
		mask, err := ruleNamed(name)
		if err != nil {
			return exclusions{}, i, err
		}
		x.defaults &^= mask
	}
	if patterns != nil {
		x.own = newTree(patterns)
	}
	return x, 0, nil
}

func ruleNamed(name string) (rules, error) {
	if name == "defaults" {
		return 1<<len(defaultRules) - 1, nil
	}
	names := make([]string, len(defaultRules))
	for i, r := range defaultRules {
		if r.name == name {
			return 1 << i, nil
		}
		names[i] = r.name
	}
	return 0, fmt.Errorf("no default exclusion %q: there are %s, and defaults for all", name, strings.Join(names, ", "))
}

// clean gives the path with "." and ".." segments resolved and empty ones left
// out (RFC 3986 section 5.2.4), also where dots are percent-encoded, as servers
// do before they look a path up. It shares p's bytes and takes buf's memory.
func clean(p *path, buf []span) path {
	c := path{raw: p.raw, spans: buf[:0], slash: p.slash}
	for i := range p.spans {
		seg := p.segment(i)
		n := dots(seg)
		switch {
		case n == 2:
			c.spans = c.spans[:max(0, len(c.spans)-1)]
		case n == 0 && len(seg) > 0:
			c.spans = append(c.spans, p.spans[i])
		}
		c.slash = c.slash || n > 0 && i == len(p.spans)-1
	}
	c.slash = c.slash || len(c.spans) == 0
	return c
}

// dots gives 1 for ".", 2 for "..", encoded or not, else 0.
func dots(seg []byte) int {
	n := 0
	for len(seg) > 0 {
		switch {
		case seg[0] == '.':
			seg = seg[1:]
		case len(seg) >= 3 && seg[0] == '%' && seg[1] == '2' && seg[2]|0x20 == 'e':
			seg = seg[3:]
		default:
			return 0
		}
		if n++; n > 2 {
			return 0
		}
	}
	return n
}
