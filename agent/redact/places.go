package redact

import (
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// headers redacts the fields of a head: lower-case name to values in their
// order. The caller owns the map.
func (j *job) headers(h exchange.Header) map[string][]string {
	if len(h) == 0 {
		return map[string][]string{}
	}
	m := make(map[string][]string, len(h))
	for _, f := range h {
		name := printable(strings.ToLower(f.Name))
		m[name] = append(m[name], j.header(name, f.Value))
	}
	return m
}

// header redacts the value of one field; name is in lower case.
func (j *job) header(name, value string) string {
	value = latin1(value)
	if j.r.values == Digests && !j.collecting {
		return j.token(name, value)
	}
	switch {
	case j.r.headers.secret(name, secretHeader):
		return j.secretHeader(name, value)
	case urlHeaders[name]:
		return j.url(value)
	case name == "grpc-message":
		red, _ := j.decoded(value, grpcDecode, grpcEncode)
		return red
	case strings.HasSuffix(name, "-bin"):
		// Metadata of gRPC in base64, such as the details of an error: bytes
		// that nothing here can read.
		return j.token(name, value)
	}
	return j.text(value)
}

// grpcDecode takes off the coding of grpc-message. What is no escape stays as
// it is.
func grpcDecode(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(n))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b), nil
}

// grpcEncode is the coding of grpc-message.
func grpcEncode(s string) string {
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

// urlHeaders hold a URL reference and nothing else.
var urlHeaders = map[string]bool{
	"referer": true, "location": true, "content-location": true, "origin": true, "x-original-url": true, "x-rewrite-url": true,
	"x-forwarded-uri": true, "sourcemap": true, "destination": true,
}

// secretHeader replaces what is secret in the value and leaves what is not: the
// scheme of a credential, the names of cookies and their attributes.
func (j *job) secretHeader(name, value string) string {
	switch name {
	case "cookie", "cookie2":
		return j.cookies(value)
	case "set-cookie", "set-cookie2":
		return j.setCookie(value)
	}
	if n := scheme(value); n > 0 {
		if raw, ok := basic(value[n:]); ok {
			_, password, _ := strings.Cut(raw, ":")
			j.learn(name, password, "", false)
		}
		return value[:n] + j.secret(name, value[n:], "", false)
	}
	return j.secret(name, value, "", false)
}

// cookies redacts the values of a Cookie field (RFC 6265 section 4.2.1).
func (j *job) cookies(value string) string {
	var b strings.Builder
	for i, pair := range strings.Split(value, ";") {
		if i > 0 {
			b.WriteByte(';')
		}
		trimmed := strings.TrimLeft(pair, " \t")
		b.WriteString(pair[:len(pair)-len(trimmed)])
		j.cookie(&b, trimmed)
	}
	return b.String()
}

func (j *job) cookie(b *strings.Builder, pair string) {
	name, value, ok := strings.Cut(pair, "=")
	if !ok { // a value without a name
		b.WriteString(j.secret("cookie", strings.TrimSpace(pair), "", true))
		return
	}
	b.WriteString(j.text(name))
	b.WriteByte('=')
	bare := strings.Trim(strings.TrimSpace(value), `"`)
	b.WriteString(j.secret(strings.TrimSpace(name), bare, "", true))
}

// setCookie redacts the value of a Set-Cookie field and keeps its attributes
// (RFC 6265 section 4.1.1).
func (j *job) setCookie(value string) string {
	pair, attributes, _ := strings.Cut(value, ";")
	var b strings.Builder
	j.cookie(&b, strings.TrimSpace(pair))
	for _, a := range strings.Split(attributes, ";") {
		if a = strings.TrimSpace(a); a != "" {
			b.WriteString("; ")
			b.WriteString(j.text(a))
		}
	}
	return b.String()
}

// url redacts a URL reference: user and password, path segments, query and
// fragment.
func (j *job) url(s string) string {
	s = j.knownIn(s)
	rest, fragment, hasFragment := strings.Cut(s, "#")
	path, query, hasQuery := strings.Cut(rest, "?")
	var b strings.Builder
	b.WriteString(j.urlPath(path))
	if hasQuery {
		b.WriteByte('?')
		b.WriteString(j.form(query))
	}
	if hasFragment {
		b.WriteByte('#')
		b.WriteString(j.form(fragment))
	}
	return b.String()
}

// urlPath redacts what stands before the query, each segment decoded.
func (j *job) urlPath(path string) string {
	if at := strings.Index(path, "://"); at >= 0 {
		authority := path[at+3:]
		end := strings.IndexByte(authority, '/')
		if end < 0 {
			end = len(authority)
		}
		return j.text(path[:at+3]+authority[:end]) + j.anyRoute(authority[end:])
	}
	return j.anyRoute(path)
}

// anyRoute redacts a path that may be one of any route with secret parameters.
func (j *job) anyRoute(path string) string {
	if !strings.HasPrefix(path, "/") {
		return j.segments(path)
	}
	own := j.secretParams
	defer func() { j.secretParams = own }()
	for i := range j.r.routes {
		r := &j.r.routes[i]
		j.secretParams = r.Secret
		if out, ok := j.fit(path, r.Path); ok {
			return out
		}
	}
	return j.segments(path)
}

func (j *job) segments(path string) string {
	if path == "" {
		return path
	}
	parts := strings.Split(path, "/")
	changed := false
	for i, p := range parts {
		if red, ok := j.decoded(p, url.PathUnescape, url.PathEscape); ok {
			parts[i] = red
			changed = true
		}
	}
	if !changed {
		return path
	}
	return strings.Join(parts, "/")
}

// decoded redacts s in its decoded form and spells the result with escape. Not
// ok: nothing was found, s stays as captured.
func (j *job) decoded(s string, decode func(string) (string, error), escape func(string) string) (string, bool) {
	if plain, err := decode(s); err == nil {
		if red := j.text(plain); red != plain {
			return escape(red), true
		}
	}
	// Also as it stands: a broken escape, or a secret spelled escaped.
	if red := j.text(s); red != s {
		return red, true
	}
	return s, false
}

// form redacts name=value pairs joined by & or ;, as a query and a form body
// have them. What is not replaced keeps its spelling.
func (j *job) form(s string) string {
	if s == "" {
		return s
	}
	if j.r.values == Digests && !j.collecting {
		return j.token("query", s)
	}
	s = j.knownIn(s)
	// An authorization code stands beside a state (RFC 6749 section 4.1.2).
	oauth := hasParam(s, "state") && hasParam(s, "code")
	var b strings.Builder
	for len(s) > 0 {
		end := strings.IndexAny(s, "&;")
		sep := ""
		pair := s
		if end >= 0 {
			pair, sep, s = s[:end], s[end:end+1], s[end+1:]
		} else {
			s = ""
		}
		name, value, ok := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if err != nil {
			plain = name
		}
		switch {
		case !ok:
			red, _ := j.decoded(pair, url.QueryUnescape, url.QueryEscape)
			b.WriteString(red)
		case j.tokens.is(value):
			b.WriteString(pair)
		case value != "" && (j.paramSecret(plain) || oauth && plain == "code"):
			v, err := url.QueryUnescape(value)
			if err != nil {
				v = value
			}
			b.WriteString(name)
			b.WriteByte('=')
			b.WriteString(j.secret(strings.ToLower(plain), v, value, false))
		default:
			red, _ := j.decoded(name, url.QueryUnescape, url.QueryEscape)
			b.WriteString(red)
			b.WriteByte('=')
			red, _ = j.decoded(value, url.QueryUnescape, url.QueryEscape)
			b.WriteString(red)
		}
		b.WriteString(sep)
	}
	return b.String()
}

// hasParam says whether a query has a parameter of that name.
func hasParam(query, name string) bool {
	for query != "" {
		end := strings.IndexAny(query, "&;")
		if end < 0 {
			end = len(query)
		}
		if strings.HasPrefix(query[:end], name) && strings.HasPrefix(query[len(name):end], "=") {
			return true
		}
		query = query[min(end+1, len(query)):]
	}
	return false
}

// target redacts a request target. The values of secret path parameters stand
// where the route's pattern has them; what a pattern does not fit is redacted
// as a whole when any of its parameters is secret.
func (j *job) target(target, pattern string) string {
	if j.r.values != Digests { // there, every part is hashed as it is
		target = j.knownIn(target)
	}
	rest, query, hasQuery := strings.Cut(target, "?")
	path := j.routed(rest, pattern)
	var b strings.Builder
	b.WriteString(path)
	if hasQuery {
		b.WriteByte('?')
		b.WriteString(j.form(query))
	}
	return ascii(b.String())
}

// routed redacts a path by its route's pattern.
func (j *job) routed(path, pattern string) string {
	if out, ok := j.fit(path, pattern); ok {
		return out
	}
	if j.hasSecret(pattern) {
		return "/" + j.secret("path", strings.TrimPrefix(path, "/"), "", false)
	}
	if j.r.values == Digests && !j.collecting {
		return "/" + j.token("path", strings.TrimPrefix(path, "/"))
	}
	return j.urlPath(path)
}

// hasSecret says whether a pattern has a parameter that is secret.
func (j *job) hasSecret(pattern string) bool {
	for w := range strings.SplitSeq(pattern, "/") {
		if name, _, ok := wildcard(w); ok && j.secretParam(name) {
			return true
		}
	}
	return false
}

// fit redacts a path that fits a pattern; not ok when it does not.
func (j *job) fit(path, pattern string) (out string, ok bool) {
	slash := strings.IndexByte(pattern, '/')
	if slash < 0 {
		slash = len(pattern)
	}
	want := strings.Split(pattern[slash:], "/")
	have := strings.Split(path, "/")
	// Whether it fits is known before anything is hashed or learned.
	open := false // anything may follow
	for i, w := range want {
		name, multi, ok := wildcard(w)
		switch {
		case ok && multi, w == "" && i == len(want)-1, w == "{$}":
			if i > len(have) || name == "" && i == len(have) || w == "{$}" && (len(have) != i+1 || have[i] != "") {
				return "", false
			}
			open = true
		case i == len(have):
			return "", false
		case ok:
		default:
			if plain, err := url.PathUnescape(have[i]); w != have[i] && (err != nil || plain != w) {
				return "", false
			}
		}
	}
	if !open && len(have) != len(want) {
		return "", false
	}
	for i, w := range want {
		name, multi, ok := wildcard(w)
		switch {
		case ok && multi:
			if i < len(have) {
				have[i] = j.param(name, strings.Join(have[i:], "/"))
				have = have[:i+1]
			}
		case ok:
			have[i] = j.param(name, have[i])
		case w == "" && i == len(want)-1:
			for k := i; k < len(have); k++ {
				have[k] = j.segment(have[k])
			}
		}
	}
	return strings.Join(have, "/"), true
}

// wildcard reads a pattern's segment {name} or {name...}.
func wildcard(segment string) (name string, multi, ok bool) {
	if len(segment) < 3 || segment[0] != '{' || segment[len(segment)-1] != '}' || segment == "{$}" {
		return "", false, false
	}
	name, multi = strings.CutSuffix(segment[1:len(segment)-1], "...")
	return name, multi, true
}

func (j *job) secretParam(name string) bool {
	for _, s := range j.secretParams {
		if strings.EqualFold(s, name) {
			return true
		}
	}
	return j.paramSecret(name)
}

// param redacts the value of a path parameter, as captured.
func (j *job) param(name, value string) string {
	if j.tokens.is(value) {
		return value
	}
	plain, err := url.PathUnescape(value)
	if err != nil {
		plain = value
	}
	if j.secretParam(name) {
		return j.secret(strings.ToLower(name), plain, value, false)
	}
	if j.r.values == Digests && !j.collecting {
		return j.token(strings.ToLower(name), plain)
	}
	return j.segments(value)
}

// segment redacts a path segment that no parameter names.
func (j *job) segment(s string) string {
	if j.r.values == Digests && !j.collecting {
		return j.token("path", s)
	}
	return j.segments(s)
}

// latin1 makes a header value text: bytes that are no UTF-8 are taken as
// ISO-8859-1, which is what such values were in older HTTP (RFC 9110 section
// 5.5).
func latin1(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return exchange.Latin1(s)
}

// ascii spells bytes that may not stand in a URL with %NN.
func ascii(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f {
			b := make([]byte, 0, len(s)+16)
			for i := 0; i < len(s); i++ {
				c := s[i]
				if c <= ' ' || c >= 0x7f {
					b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
				} else {
					b = append(b, c)
				}
			}
			return string(b)
		}
	}
	return s
}
