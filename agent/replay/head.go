package replay

import (
	"bytes"
	"errors"
	"strings"
)

// RoleHeader is set on every replayed request; its value is the role.
const RoleHeader = "X-Shadow-Test-Role"

// What is done with a field, by its name.
type action uint8

const (
	keep action = iota
	drop
	actConnection
	actHost
	actLength
	actEncoding
	actExpect
	actTraceparent
	actB3
	actB3Trace
	actB3Span
)

type fieldRule struct {
	name string // lower case, '-' for '_'
	act  action
}

const maxRuleName = 32

// credentialFields are removed by CredentialsStrip. Credentials in the target,
// in the body or in trailers are not looked for.
var credentialFields = [...]string{
	"api-key", "authorization", "cf-access-jwt-assertion", "cookie", "cookie2", "private-token", "x-access-token",
	"x-amz-security-token", "x-amzn-oidc-accesstoken", "x-amzn-oidc-data", "x-amzn-oidc-identity", "x-api-key",
	"x-auth-request-access-token", "x-auth-token", "x-csrf-token", "x-forwarded-access-token",
	"x-goog-iap-jwt-assertion", "x-id-token", "x-session-token", "x-vault-token", "x-xsrf-token",
}

// CredentialFields returns the lower-case names of the fields that
// CredentialsStrip removes, besides Proxy-Authorization, which is hop-by-hop.
// The caller owns the slice.
func CredentialFields() []string { return append([]string(nil), credentialFields[:]...) }

// rewriter turns a captured head into the one that is sent. It is read-only
// after newRewriter, so workers share it.
type rewriter struct {
	// rules by the length of the name: few names share one.
	rules [maxRuleName + 1][]fieldRule
	// role is the whole line of the role header, roleValue its value.
	role, roleValue string
	// host replaces the value of Host; "" keeps the captured one.
	host string
	// trace says that trace ids are replaced.
	trace bool
}

func newRewriter(role, host string, freshTrace, stripCredentials bool) *rewriter {
	w := &rewriter{role: RoleHeader + ": " + role + "\r\n", roleValue: role, host: host, trace: freshTrace}
	add := func(act action, names ...string) {
		for _, n := range names {
			w.rules[len(n)] = append(w.rules[len(n)], fieldRule{n, act})
		}
	}
	add(actConnection, "connection")
	add(drop, "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade", strings.ToLower(RoleHeader))
	add(actHost, "host")
	add(actLength, "content-length")
	add(actEncoding, "transfer-encoding")
	add(actExpect, "expect")
	// With trace: keep these only tell the captured id.
	add(actTraceparent, "traceparent")
	add(actB3, "b3")
	add(actB3Trace, "x-b3-traceid")
	if freshTrace {
		add(actB3Span, "x-b3-spanid")
		// The state and the parent speak of the trace that is left.
		add(drop, "tracestate", "x-b3-parentspanid")
	}
	if stripCredentials {
		add(drop, credentialFields[:]...)
	}
	return w
}

// act finds the rule of a name. Case does not matter, and '_' counts as '-',
// because CGI-like servers fold both into one variable.
func (w *rewriter) act(name []byte) action {
	if len(name) > maxRuleName {
		return keep
	}
next:
	for i := range w.rules[len(name)] {
		r := &w.rules[len(name)][i]
		for j := 0; j < len(name); j++ {
			if foldName[name[j]] != r.name[j] {
				continue next
			}
		}
		return r.act
	}
	return keep
}

// foldName maps the bytes of a token (RFC 9110 section 5.6.2) to lower case
// and '_' to '-'; every other byte to 0.
var foldName = func() (t [256]byte) {
	for c := '0'; c <= '9'; c++ {
		t[c] = byte(c)
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byte(c), byte(c)
	}
	for _, c := range "!#$%&'*+-.^`|~" {
		t[c] = byte(c)
	}
	t['_'] = '-'
	return t
}()

// rewritten is what rewriting learned from a head.
type rewritten struct {
	// length is the Content-Length, -1 without one.
	length int64
	// chunked says that the body is chunked.
	chunked bool
	// http10 says that the request line has HTTP/1.0.
	http10 bool
	trace  traceIDs
}

var (
	errHead    = errors.New("captured head is not whole lines that end in CRLF")
	errLine    = errors.New("request line has not the form method, target, HTTP/1.0 or HTTP/1.1")
	errTarget  = errors.New("target is neither origin-form nor *")
	errField   = errors.New("field line that readers may take differently")
	errHost    = errors.New("more than one host, or none in HTTP/1.1")
	errFraming = errors.New("length of the body that readers may take differently")
)

// rewrite appends the head to send to dst and returns it. head is a captured
// head with its empty line, and is not kept. Nothing of dst is valid after an
// error, and then nothing may be sent.
func (w *rewriter) rewrite(dst, head []byte, out *rewritten) ([]byte, error) {
	begin := len(dst)
	*out = rewritten{length: -1}
	// Connection may name fields that stand before it, so a head that names
	// any is gone through twice.
	var few [8][]byte
	dst, named, err := w.pass(dst, head, out, nil, few[:0])
	if err != nil {
		return nil, err
	}
	if len(named) == 0 {
		return dst, nil
	}
	// The trace must stay the one that the first pass chose: both passes ask
	// out.trace, which remembers.
	dst, _, err = w.pass(dst[:begin], head, out, named, nil)
	return dst, err
}

// pass writes one head. Fields named in named are left out. The names that
// Connection lists, but for those that are left out or kept anyway, are
// appended to list and returned.
func (w *rewriter) pass(dst, head []byte, out *rewritten, named, list [][]byte) ([]byte, [][]byte, error) {
	var hosts, lengths, encodings int
	line, rest, ok := cutLine(head)
	if !ok {
		return nil, nil, errHead
	}
	var err error
	if out.http10, err = checkRequestLine(line); err != nil {
		return nil, nil, err
	}
	dst = append(dst, line...)
	dst = append(dst, "\r\n"...)
	for {
		line, rest, ok = cutLine(rest)
		if !ok {
			return nil, nil, errHead
		}
		if len(line) == 0 {
			break
		}
		n, plain := 0, true
		for n < len(line) && foldName[line[n]] != 0 {
			n++
		}
		if n == 0 || n == len(line) || line[n] != ':' {
			// Also a line that begins with white space (obs-fold) and white
			// space before the colon (RFC 9112 section 5.1).
			return nil, nil, errField
		}
		name, value := line[:n], line[n+1:]
		if bytes.IndexByte(value, '\r') >= 0 || bytes.IndexByte(value, 0) >= 0 {
			return nil, nil, errField
		}
		act := w.act(name)
		if act != keep {
			value = bytes.Trim(value, " \t")
			plain = false
		}
		switch act {
		case keep:
			plain = !isNamed(named, name)
		case drop:
		case actConnection:
			if named == nil {
				list = w.appendNames(list, value)
			}
		case actHost:
			if hosts++; hosts > 1 {
				return nil, nil, errHost
			}
			if w.host == "" {
				plain = true
				break
			}
			dst = append(dst, line[:n+1]...)
			dst = append(dst, ' ')
			dst = append(dst, w.host...)
			dst = append(dst, "\r\n"...)
		case actLength:
			n, ok := parseLength(value)
			if !ok || lengths > 0 && n != out.length {
				return nil, nil, errFraming
			}
			lengths, out.length, plain = 1, n, true
		case actEncoding:
			encodings++
			if out.chunked = equalFold(value, "chunked"); !out.chunked {
				return nil, nil, errFraming
			}
			plain = true
		case actExpect:
			plain = !equalFold(value, "100-continue")
		default:
			at := len(dst)
			dst = append(dst, line[:n+1]...)
			if w.trace {
				dst = append(dst, ' ')
			}
			if dst, plain = out.trace.append(dst, act, value, w.trace); plain {
				dst = dst[:at]
				break
			}
			dst = append(dst, "\r\n"...)
		}
		if plain {
			dst = append(dst, line...)
			dst = append(dst, "\r\n"...)
		}
	}
	if len(rest) != 0 {
		return nil, nil, errHead
	}
	if lengths+encodings > 1 || encodings > 0 && out.http10 {
		return nil, nil, errFraming
	}
	if hosts == 0 {
		if !out.http10 {
			return nil, nil, errHost
		}
		if w.host != "" {
			dst = append(dst, "Host: "...)
			dst = append(dst, w.host...)
			dst = append(dst, "\r\n"...)
		}
	}
	dst = append(dst, w.role...)
	dst = append(dst, "\r\n"...)
	return dst, list, nil
}

// cutLine takes the first line of b without its CRLF. A bare LF is no end of a
// line: readers differ on it. A CR elsewhere stays in the line, for the caller
// to refuse.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 1 || b[i-1] != '\r' {
		return nil, nil, false
	}
	return b[:i-1], b[i+1:], true
}

// checkRequestLine allows method SP target SP version with a target in
// origin-form or "*" (RFC 9112 section 3).
func checkRequestLine(line []byte) (http10 bool, err error) {
	method, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return false, errLine
	}
	target, version, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		return false, errLine
	}
	switch string(version) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		http10 = true
	default:
		return false, errLine
	}
	return http10, checkTarget(method, target)
}

// checkTarget allows a target in origin-form or "*", and no CONNECT.
func checkTarget[T string | []byte](method, target T) error {
	for i := range len(method) {
		if foldName[method[i]] == 0 {
			return errLine
		}
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f {
			return errLine
		}
	}
	switch {
	case len(method) == 0:
		return errLine
	case len(target) == 0 || target[0] != '/' && string(target) != "*" || string(method) == "CONNECT":
		return errTarget
	}
	return nil
}

// parseLength reads a Content-Length, of at most 18 digits. A list of equal
// numbers is that number (RFC 9110 section 8.6).
func parseLength(v []byte) (int64, bool) {
	if first, rest, list := bytes.Cut(v, []byte{','}); list {
		n, ok := parseLength(bytes.TrimRight(first, " \t"))
		m, ok2 := parseLength(bytes.TrimLeft(rest, " \t"))
		return n, ok && ok2 && n == m
	}
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// appendNames adds the options of a Connection field that name fields to be
// left out. Fields with a rule of their own need no naming, and those that
// frame the message, Host and the role are never left out.
func (w *rewriter) appendNames(list [][]byte, value []byte) [][]byte {
	for len(value) > 0 {
		var name []byte
		name, value, _ = bytes.Cut(value, []byte{','})
		name = bytes.Trim(name, " \t")
		if len(name) == 0 || equalFold(name, "close") || equalFold(name, "keep-alive") || w.act(name) != keep {
			continue
		}
		list = append(list, name)
	}
	return list
}

func isNamed(named [][]byte, name []byte) bool {
next:
	for _, n := range named {
		if len(n) != len(name) {
			continue
		}
		for i := range n {
			if foldName[n[i]] != foldName[name[i]] {
				continue next
			}
		}
		return true
	}
	return false
}

// equalFold compares with a lower-case ASCII word.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}
