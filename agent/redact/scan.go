package redact

import (
	"encoding/base64"
	"strings"
)

// The names under which values found by their form are hashed. Two equal
// values of one form are so equal wherever they stand.
const (
	fieldJWT        = "jwt"
	fieldCard       = "card"
	fieldEmail      = "email"
	fieldCredential = "credential"
	fieldUserinfo   = "userinfo"
	fieldPrivateKey = "private_key"
	fieldProvider   = "provider_token"
	fieldPattern    = "pattern"
)

// scan replaces everything in s that has the form of a secret. It is one pass
// over the text: only a byte that can begin or betray a secret is looked at
// closer, and each look is bounded.
func (j *job) scan(s string) string {
	var out strings.Builder
	done := 0 // s[:done] is in out
	urls := strings.Contains(s, "://")
	replace := func(from, to int, field, value string) {
		out.WriteString(s[done:from])
		out.WriteString(j.token(field, value))
		done = to
	}
	for i := 0; i < len(s); i++ {
		if i < done {
			i = done
			if i == len(s) {
				break
			}
		}
		c := s[i]
		if trigger[c] == 0 {
			continue
		}
		switch {
		case c == '~':
			if n := j.tokens.at(s, i); n > 0 {
				i += n - 1
			}
		case c == '@':
			if urls {
				if from, to, ok := userinfo(s, done, i); ok {
					replace(from, to, fieldUserinfo, s[from:to])
					continue
				}
			}
			if from, to, ok := email(s, done, i, 1); ok {
				replace(from, to, fieldEmail, s[from:to])
			}
		case c == '%':
			if strings.HasPrefix(s[i:], "%40") {
				if from, to, ok := email(s, done, i, 3); ok {
					replace(from, to, fieldEmail, s[from:i]+"@"+s[i+3:to])
				}
			}
		case '0' <= c && c <= '9':
			from, to, next := card(s, i)
			if to > from {
				replace(from, to, fieldCard, digitsOf(s[from:to]))
			}
			i = next - 1
		case c == '=' || c == ':':
			if from, to, field, ok := pair(s, done, i, j.r.words); ok && !j.tokens.is(s[from:to]) {
				j.learn(field, s[from:to], "", true)
				replace(from, to, field, s[from:to])
			}
		case c == '<':
			if from, to, field, ok := element(s, i); ok && !j.tokens.is(strings.TrimSpace(s[from:to])) {
				j.learn(field, s[from:to], "", true)
				// The tag's attributes are text like any other.
				out.WriteString(s[done : i+1])
				out.WriteString(j.scan(s[i+1 : from]))
				done = from
				replace(from, to, field, s[from:to])
			}
		case c == '-':
			if n := privateKey(s[i:]); n > 0 {
				j.learnKey(s[i : i+n])
				replace(i, i+n, fieldPrivateKey, s[i:i+n])
			}
		case i > 0 && isWord(s[i-1]):
			// The middle of a word.
		default:
			if n := jwt(s[i:]); n > 0 {
				replace(i, i+n, fieldJWT, s[i:i+n])
			} else if from, to, ok := credential(s, i); ok && !j.tokens.is(s[from:to]) {
				replace(from, to, fieldCredential, s[from:to])
			} else if n := provider(s[i:]); n > 0 {
				replace(i, i+n, fieldProvider, s[i:i+n])
			}
		}
	}
	if done == 0 {
		return s
	}
	out.WriteString(s[done:])
	return out.String()
}

// trigger marks the bytes that scan looks at closer.
var trigger = func() (t [256]uint8) {
	for _, c := range []byte("~@%=:<0123456789eBbAgxsr-") {
		t[c] = 1
	}
	return t
}()

// is says whether s is exactly one token.
func (t *tokens) is(s string) bool { return s != "" && t.at(s, 0) == len(s) }

// jwt says how long the JSON Web Token or JWE is that s starts with: two to
// five base64url parts joined by dots, the first of which begins an object.
func jwt(s string) int {
	if !strings.HasPrefix(s, "eyJ") {
		return 0
	}
	n := base64url(s)
	if n < 10 {
		return 0
	}
	for parts := 1; parts < 5 && n < len(s) && s[n] == '.'; parts++ {
		m := base64url(s[n+1:])
		if m == 0 && parts == 1 {
			return 0
		}
		n += 1 + m
	}
	if strings.IndexByte(s[:n], '.') < 0 {
		return 0
	}
	return n
}

func base64url(s string) int {
	n := 0
	for n < len(s) && (isWord(s[n]) || s[n] == '-') {
		n++
	}
	return n
}

// isWord says whether c is a letter, digit or underscore.
func isWord(c byte) bool {
	l := lower(c)
	return 'a' <= l && l <= 'z' || '0' <= c && c <= '9' || c == '_'
}

// maxLook bounds how far back or ahead a look goes for a name or an address.
const maxLook = 256

// userinfo finds the user and password of a URL whose @ is at i (RFC 3986
// section 3.2.1). Only text from lo on may be taken.
func userinfo(s string, lo, i int) (from, to int, ok bool) {
	lo = max(lo, i-maxLook)
	for k := i - 1; k >= lo; k-- {
		switch s[k] {
		case ' ', '\t', '\n', '\r', '"', '\'', '<', '>', '?', '#':
			return 0, 0, false
		case '/':
			if k >= 2 && s[k-1] == '/' && s[k-2] == ':' && k+1 < i {
				return k + 1, i, true
			}
			return 0, 0, false
		}
	}
	return 0, 0, false
}

// email finds the address around the at sign, which is width bytes at i. The
// domain needs a dot and a last label of two letters or more.
func email(s string, lo, i, width int) (from, to int, ok bool) {
	lo = max(lo, i-maxLook)
	from = i
	for from > lo && isLocal(s[from-1]) {
		from--
	}
	for from < i && (s[from] == '.' || s[from] == '\'' || s[from] == '/') {
		from++
	}
	if from == i {
		return 0, 0, false
	}
	to = i + width
	label, dot := to, -1
	for to < len(s) && to-i < maxLook {
		c := s[to]
		if c == '.' {
			if to == label {
				break
			}
			dot, label = to, to+1
		} else if !isWord(c) && c != '-' && c < 0x80 {
			break
		}
		to++
	}
	if to > 0 && s[to-1] == '.' { // a full stop behind the address
		to--
		dot = strings.LastIndexByte(s[i:to], '.')
		if dot >= 0 {
			dot += i
		}
	}
	if dot < 0 || to-dot < 3 {
		return 0, 0, false
	}
	for _, c := range []byte(s[dot+1 : to]) {
		if '0' <= c && c <= '9' || c == '_' {
			return 0, 0, false
		}
	}
	return from, to, true
}

// isLocal says whether c may stand in the local part of an address (RFC 5322
// section 3.2.3), or is part of a letter beyond ASCII (RFC 6531).
func isLocal(c byte) bool {
	return isWord(c) || c >= 0x80 || strings.IndexByte(".!#$%&'*+/-^`{|}~", c) >= 0 && c != '&' && c != '/'
}

// card finds a payment card number in the run of digits that starts at i: 12 to
// 19 digits of a known issuer with a right check digit, perhaps grouped by
// single spaces or hyphens. next is where to go on looking.
func card(s string, i int) (from, to, next int) {
	var starts, ends [20]int // of the groups
	groups := 0
	end := i
	for p := i; p < len(s) && groups < len(starts); {
		q := p
		for q < len(s) && '0' <= s[q] && s[q] <= '9' {
			q++
		}
		if q == p {
			break
		}
		starts[groups], ends[groups] = p, q
		groups++
		end = q
		if q+1 >= len(s) || s[q] != ' ' && s[q] != '-' {
			break
		}
		p = q + 1
	}
	first := true
	for a := range groups {
		n := 0
		for b := a; b < groups; b++ {
			n += ends[b] - starts[b]
			if n > 19 {
				break
			}
			if n < 12 || b > a && ends[a]-starts[a] < 3 {
				continue
			}
			// Digits that go on as hex or as a decimal are something else.
			if first && a == 0 && i > 0 && (isHex(s[i-1]) || s[i-1] == '.' && i > 1 && '0' <= s[i-2] && s[i-2] <= '9') {
				continue
			}
			if ends[b] < len(s) && isHex(s[ends[b]]) {
				continue
			}
			if d := digitsOf(s[starts[a]:ends[b]]); issuer(d) && luhn(d) {
				return starts[a], ends[b], ends[b]
			}
		}
	}
	return 0, 0, end
}

// digitsOf is s without the separators of a card number.
func digitsOf(s string) string {
	if strings.IndexByte(s, ' ') < 0 && strings.IndexByte(s, '-') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != ' ' && s[i] != '-' {
			b = append(b, s[i])
		}
	}
	return string(b)
}

// issuer says whether the digits begin and measure like a number of a known
// card network (ISO/IEC 7812 issuer ranges). Without it one in ten of all
// longer ids and times in milliseconds would pass for a card.
func issuer(d string) bool {
	p4 := 0
	for i := range 4 {
		p4 = p4*10 + int(d[i]-'0')
	}
	p3, p2, n := p4/10, p4/100, len(d)
	switch {
	case d[0] == '4': // Visa
		return n == 13 || n == 16 || n == 19
	case 51 <= p2 && p2 <= 55, 2221 <= p4 && p4 <= 2720: // Mastercard
		return n == 16
	case p2 == 34, p2 == 37: // American Express
		return n == 15
	case 3528 <= p4 && p4 <= 3589: // JCB
		return 16 <= n
	case 300 <= p3 && p3 <= 305, p2 == 36, p2 == 38, p2 == 39: // Diners Club
		return 14 <= n
	case p4 == 6011, p2 == 65, 644 <= p3 && p3 <= 649, p2 == 62: // Discover, UnionPay
		return 16 <= n
	case p2 == 50, 56 <= p2 && p2 <= 58, p2 == 63, p2 == 67, p2 == 60: // Maestro, RuPay
		return 12 <= n
	}
	return false
}

// luhn says whether the check digit is right (ISO/IEC 7812-1 annex B).
func luhn(d string) bool {
	sum := 0
	for i := 0; i < len(d); i++ {
		n := int(d[len(d)-1-i] - '0')
		if i%2 == 1 {
			n *= 2
			if n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}

// schemes are the words that stand before a credential (RFC 9110 section
// 11.4), as IANA lists them and as large services add.
var schemes = []string{"basic", "bearer", "digest", "negotiate", "ntlm", "token", "apikey", "hawk", "mutual", "dpop", "aws4-hmac-sha256", "scram-sha-256"}

// scheme says how long the scheme word and the spaces behind it are with which
// s starts, 0 without one.
func scheme(s string) int {
	for _, w := range schemes {
		if len(s) > len(w)+1 && s[len(w)] == ' ' && strings.EqualFold(s[:len(w)], w) {
			n := len(w)
			for n < len(s) && s[n] == ' ' {
				n++
			}
			return n
		}
	}
	return 0
}

// credential finds what stands behind the word Basic or Bearer at i. Basic must
// be base64 of something with a colon: the word is an English one too.
func credential(s string, i int) (from, to int, ok bool) {
	word := "bearer"
	if lower(s[i]) != 'b' || len(s)-i < 10 {
		return 0, 0, false
	}
	if lower(s[i+1]) == 'a' {
		word = "basic"
	}
	if !strings.EqualFold(s[i:i+len(word)], word) || s[i+len(word)] != ' ' {
		return 0, 0, false
	}
	from = i + len(word)
	for from < len(s) && s[from] == ' ' {
		from++
	}
	to = from
	for to < len(s) && (isWord(s[to]) || strings.IndexByte("-._~+/=", s[to]) >= 0) {
		to++
	}
	if word == "bearer" {
		return from, to, to-from >= 8
	}
	_, ok = basic(s[from:to])
	return from, to, ok
}

// basic decodes the credentials of the Basic scheme (RFC 7617): user, colon,
// password.
func basic(s string) (string, bool) {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	return string(raw), err == nil && strings.IndexByte(string(raw), ':') >= 0
}

// prefixes of the tokens of large providers, and how many word characters must
// follow.
var prefixes = []struct {
	text string
	min  int
}{
	{"AKIA", 16}, {"ASIA", 16}, {"AIza", 30}, {"ghp_", 30}, {"gho_", 30}, {"ghu_", 30}, {"ghs_", 30}, {"ghr_", 30},
	{"github_pat_", 30}, {"glpat-", 20}, {"xoxb-", 10}, {"xoxp-", 10}, {"xoxa-", 10}, {"xoxr-", 10}, {"xoxs-", 10},
	{"sk_live_", 16}, {"rk_live_", 16}, {"sk_test_", 16},
}

func provider(s string) int {
	for i := range prefixes {
		p := &prefixes[i]
		if s[0] != p.text[0] || !strings.HasPrefix(s, p.text) {
			continue
		}
		if n := base64url(s[len(p.text):]); n >= p.min {
			return len(p.text) + n
		}
	}
	return 0
}

// privateKey says how long the PEM block of a private key is that s starts
// with; one that is cut goes to the end.
func privateKey(s string) int {
	const begin, kind, end = "-----BEGIN ", "PRIVATE KEY-----", "-----END "
	if !strings.HasPrefix(s, begin) {
		return 0
	}
	k := strings.Index(s[:min(len(s), 64)], kind)
	if k < 0 {
		return 0
	}
	e := strings.Index(s, end)
	if e < 0 {
		return len(s)
	}
	tail := strings.Index(s[e+len(end):], "-----")
	if tail < 0 {
		return len(s)
	}
	return e + len(end) + tail + len("-----")
}

// maxKeyLines bounds the lines of private keys that are remembered.
const maxKeyLines = 1024

// learnKey remembers the lines of a private key, while collecting.
func (j *job) learnKey(block string) {
	if !j.collecting {
		return
	}
	if j.keyLines == nil {
		j.keyLines = map[string]bool{}
	}
	for _, line := range strings.Split(block, "\n") {
		if line = strings.TrimRight(line, "\r"); line != "" && len(j.keyLines) < maxKeyLines {
			j.keyLines[line] = true
		}
	}
}

// pair finds the value of a name=value or "name": value in free text, whose
// sign is at i, when the name is a secret one. Only text from lo on is taken.
func pair(s string, lo, i int, words *memo) (from, to int, field string, ok bool) {
	// Back over spaces and a closing quote to the name.
	p := i
	lo = max(lo, i-maxLook)
	for p > lo && (s[p-1] == ' ' || s[p-1] == '\t') {
		p--
	}
	for _, q := range [...]string{`\"`, `"`, `'`, "%22", "&quot;"} {
		if p-len(q) >= lo && s[p-len(q):p] == q {
			p -= len(q)
			break
		}
	}
	n := p
	for n > lo && (isWord(s[n-1]) || s[n-1] == '-' || s[n-1] == '.' || s[n-1] == ']' || s[n-1] == '[') {
		n--
	}
	name := strings.Trim(s[n:p], ".-[]")
	if name == "" || !words.secret(name) {
		return 0, 0, "", false
	}
	field = strings.ToLower(name)

	// On to the value.
	from = i + 1
	for from < len(s) && s[from] == '=' {
		from++
	}
	for from < len(s) && (s[from] == ' ' || s[from] == '\t') {
		from++
	}
	for _, q := range [...]string{`\"`, `"`, `'`, "%22", "&quot;"} {
		if strings.HasPrefix(s[from:], q) {
			from += len(q)
			return from, quoted(s, from, q), field, from < len(s)
		}
	}
	if s[i] == ':' && headerNames[field] { // a header line: to its end
		to = from
		for to < len(s) && s[to] != '\n' && s[to] != '\r' && s[to] != '"' && s[to] != '\'' {
			to++
		}
		return from, to, field, to > from
	}
	from += scheme(s[from:])
	to = from
	for to < len(s) && strings.IndexByte(" \t\r\n&;,\"'<>(){}[]|\\", s[to]) < 0 {
		to++
	}
	switch s[from:to] {
	case "null", "true", "false", "nil", "none":
		return 0, 0, "", false
	}
	return from, to, field, to > from
}

// quoted finds the end of the text that the quote q opened before from.
func quoted(s string, from int, q string) int {
	for k := from; k < len(s); k++ {
		if s[k] == '\\' && q != `\"` {
			k++
			continue
		}
		if strings.HasPrefix(s[k:], q) {
			return k
		}
	}
	return len(s)
}

// element finds the text of an XML or HTML element that starts at i, when its
// name is a secret one.
func element(s string, i int) (from, to int, field string, ok bool) {
	n := i + 1
	for n < len(s) && n-i < maxLook && (isWord(s[n]) || s[n] == '-' || s[n] == ':' || s[n] == '.') {
		n++
	}
	name := s[i+1 : n]
	if k := strings.LastIndexByte(name, ':'); k >= 0 {
		name = name[k+1:]
	}
	if name == "" || !secretName(name) {
		return 0, 0, "", false
	}
	end := strings.IndexByte(s[n:min(len(s), n+maxLook)], '>')
	if end < 0 || end > 0 && s[n+end-1] == '/' {
		return 0, 0, "", false
	}
	from = n + end + 1
	to = strings.IndexByte(s[from:], '<')
	if to < 0 {
		to = len(s) - from
	}
	to += from
	if strings.TrimSpace(s[from:to]) == "" {
		return 0, 0, "", false
	}
	return from, to, strings.ToLower(name), true
}
