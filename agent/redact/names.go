package redact

import (
	"fmt"
	"strings"
	"sync"
)

// headerNames are the header fields whose whole value is a secret.
var headerNames = map[string]bool{
	"authorization":       true,
	"proxy-authorization": true,
	"authentication-info": true,
	"cookie":              true,
	"cookie2":             true,
	"set-cookie":          true,
	"set-cookie2":         true,
	"x-api-key":           true,
	"x-auth-token":        true,
	"x-csrf-token":        true,
	"x-xsrf-token":        true,
}

// headerParts make a header field secret when its name holds one of them.
var headerParts = []string{"token", "secret", "passw", "session", "apikey", "api-key", "csrf", "xsrf", "credential", "signature"}

// nameParts make a parameter or JSON key secret when its squashed name (lower
// case, letters and digits only) holds one of them.
var nameParts = []string{
	"password", "passwd", "passphrase", "passcode", "secret", "credential", "apikey", "accesskey", "privatekey", "authkey",
	"signingkey", "encryptionkey", "accesstoken", "sessionid", "sessionkey", "sessid", "creditcard", "cardnumber",
	"socialsecurity", "csrf", "xsrf", "authorization",
}

// nameWhole make it secret when the squashed name is one of them.
var nameWhole = map[string]bool{
	"pass": true, "pwd": true, "pin": true, "otp": true, "totp": true, "mfacode": true, "ssn": true, "cvv": true,
	"cvv2": true, "cvc": true, "cvc2": true, "ccnumber": true, "pan": true, "iban": true, "accountnumber": true,
	"routingnumber": true, "jwt": true, "sig": true, "auth": true, "bearer": true, "session": true, "sid": true, "cookie": true, "setcookie": true,
}

// nameWords make it secret when one of the name's words is one of them; words
// end at case changes and at characters that are no letters or digits.
var nameWords = map[string]bool{
	"token": true, "jwt": true, "signature": true, "sig": true, "ssn": true, "cvv": true, "cvc": true, "iban": true,
	"otp": true, "pwd": true, "sid": true,
}

// nameNot are names that the words above would take, and that are no secrets.
var nameNot = map[string]bool{
	"tokentype": true, "tokencount": true, "tokenlimit": true, "maxtoken": true, "sigalg": true, "signaturealgorithm": true,
}

// maxName bounds the bytes of a name that are looked at. A longer name is
// judged by its end, which is where names say what they are.
const maxName = 128

// secretName says whether a value under this name is a secret by the default
// list. The name may be spelled in any case and style.
func secretName(name string) bool {
	if len(name) > maxName {
		name = name[len(name)-maxName:]
	}
	var squashed, word [maxName]byte
	n, w := 0, 0
	found := false
	var before byte
	for i := 0; i < len(name); i++ {
		c := name[i]
		low := lower(c)
		alnum := 'a' <= low && low <= 'z' || '0' <= c && c <= '9'
		// A word ends before an upper-case letter that follows another kind.
		if w > 0 && (!alnum || 'A' <= c && c <= 'Z' && (before < 'A' || before > 'Z')) {
			found = found || nameWords[string(word[:w])]
			w = 0
		}
		if alnum {
			squashed[n], word[w] = low, low
			n++
			w++
		}
		before = c
	}
	s := string(squashed[:n])
	if s == "" || nameNot[s] {
		return false
	}
	if found || w > 0 && nameWords[string(word[:w])] || nameWhole[s] || strings.HasSuffix(s, "token") {
		return true
	}
	for _, p := range nameParts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// secretHeader says whether a header field's value is a secret by the default
// list; name is in lower case.
func secretHeader(name string) bool {
	if headerNames[name] {
		return true
	}
	for _, p := range headerParts {
		if strings.Contains(name, p) {
			return true
		}
	}
	return secretName(name)
}

// nameRules are names from the rules: globs with * that add to the default
// list, and globs after a ! that take away from it.
type nameRules struct{ add, not []string }

func compileNames(field string, list []string) (nameRules, error) {
	var n nameRules
	for i, s := range list {
		glob := strings.ToLower(strings.TrimSpace(s))
		to := &n.add
		if rest, ok := strings.CutPrefix(glob, "!"); ok {
			glob, to = rest, &n.not
		}
		if strings.Trim(glob, "*") == "" {
			return n, fmt.Errorf("%s[%d]: %q names everything or nothing", field, i, s)
		}
		*to = append(*to, glob)
	}
	return n, nil
}

// secret decides by the rules first, the longer list of both after them.
func (n *nameRules) secret(name string, byDefault func(string) bool) bool {
	if len(n.add)+len(n.not) > 0 {
		low := strings.ToLower(name)
		for _, g := range n.add {
			if glob(g, low) {
				return true
			}
		}
		for _, g := range n.not {
			if glob(g, low) {
				return false
			}
		}
	}
	return byDefault(name)
}

// memo remembers what was decided about names: the same few come again and
// again. It is bounded; when it is full, new names are decided each time. It is
// safe for concurrent use.
type memo struct {
	decide func(name string) bool

	mu    sync.RWMutex
	known map[string]bool
}

const maxMemo = 4096

func newMemo(decide func(string) bool) *memo {
	return &memo{decide: decide, known: map[string]bool{}}
}

func (m *memo) secret(name string) bool {
	m.mu.RLock()
	secret, ok := m.known[name]
	m.mu.RUnlock()
	if ok {
		return secret
	}
	secret = m.decide(name)
	if len(name) <= maxName {
		m.mu.Lock()
		if len(m.known) < maxMemo {
			m.known[strings.Clone(name)] = secret
		}
		m.mu.Unlock()
	}
	return secret
}

// glob matches s against a pattern in which * stands for any run of bytes. It
// takes at most len(pattern)*len(s) steps.
func glob(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
