package sample

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Match says which requests an experiment is about, before paths are looked
// at. Every filter that is set must match.
type Match struct {
	// Port is the server's port. Zero means any that is captured.
	Port uint16
	// Host is the host that the request names, without regard to case: a name
	// or address, or "*.example.com" for every name below example.com. Its port
	// counts only when one is given here ("example.com:8080"); a request that
	// names none means 80. "" means any.
	Host string
	// Methods lists the methods, which compare with case. Empty means any.
	Methods []string
	// Headers maps names, without regard to case, to the exact value that one
	// of the fields of that name must have; "*" means that there is one.
	Headers map[string]string
}

// filter is a Match ready for use.
type filter struct {
	port    uint16
	host    host
	methods []string
	headers []headerFilter
}

type headerFilter struct {
	name, value string
	any         bool
}

func newFilter(m *Match) (filter, *FieldError) {
	f := filter{port: m.Port}
	var err error
	if f.host, err = parseHost(m.Host); err != nil {
		return f, &FieldError{"match.host", err}
	}
	for i, method := range m.Methods {
		if err := checkMethod(method); err != nil {
			return f, &FieldError{fmt.Sprintf("match.methods[%d]", i), err}
		}
	}
	f.methods = slices.Clone(m.Methods)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		if !token(name) {
			return f, &FieldError{"match.headers", fmt.Errorf("%q is no header name", name)}
		}
		value := strings.Trim(m.Headers[name], " \t")
		f.headers = append(f.headers, headerFilter{name, value, value == "*"})
	}
	return f, nil
}

// method says whether the method passes.
func (f *filter) method(method []byte) bool {
	return len(f.methods) == 0 || contains(f.methods, method)
}

// header says whether the fields pass.
func (f *filter) header(fields []exchange.HeadField) bool {
	for i := range f.headers {
		if !f.headers[i].among(fields) {
			return false
		}
	}
	return true
}

func (h *headerFilter) among(fields []exchange.HeadField) bool {
	for i := range fields {
		if foldEqual(fields[i].Name, h.name) && (h.any || string(fields[i].Value) == h.value) {
			return true
		}
	}
	return false
}

// host is a host filter: an exact name, or with below a suffix that starts
// with a dot, in lower case; "" is any.
type host struct {
	name  string
	below bool
	// port is 0 when it does not count.
	port uint16
}

func parseHost(s string) (host, error) {
	if s == "" || s == "*" {
		return host{}, nil
	}
	name, port := splitPort([]byte(s))
	h := host{name: strings.ToLower(string(name))}
	if port != nil {
		n, err := strconv.ParseUint(string(port), 10, 16)
		if err != nil || n == 0 {
			return host{}, fmt.Errorf("host %q: port %q is no port number", s, port)
		}
		h.port = uint16(n)
	}
	if rest, below := strings.CutPrefix(h.name, "*."); below {
		h.name, h.below = "."+rest, true
	}
	switch {
	case h.name == "" || h.name == ".":
		return host{}, fmt.Errorf("host %q: no name", s)
	case strings.ContainsAny(h.name, "*/ \t"):
		return host{}, fmt.Errorf(`host %q: want a name such as example.com, *.example.com or example.com:8080`, s)
	case strings.Contains(h.name, ":") && h.name[0] != '[':
		return host{}, fmt.Errorf("host %q: an IPv6 address stands in brackets", s)
	}
	return h, nil
}

// matches says whether the host of a request, with or without a port, passes.
func (h *host) matches(b []byte) bool {
	if h.name == "" {
		return true
	}
	name, port := splitPort(b)
	name = bytes.TrimSuffix(name, []byte("."))
	if h.below {
		if len(name) <= len(h.name) {
			return false
		}
		name = name[len(name)-len(h.name):]
	}
	return foldEqual(name, h.name) && (h.port == 0 || h.port == portNumber(port))
}

// portNumber reads the port behind a host; none is 80, since what is captured
// is http.
func portNumber(b []byte) uint16 {
	if len(b) == 0 {
		return 80
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' || n > 0xffff {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	if n > 0xffff {
		return 0
	}
	return uint16(n)
}

// splitPort cuts the port off a host; port is nil when there is no colon for
// one. IPv6 addresses stand in brackets.
func splitPort(b []byte) (name, port []byte) {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 || bytes.IndexByte(b[i:], ']') >= 0 || b[0] != '[' && bytes.IndexByte(b, ':') != i {
		return b, nil
	}
	return b[:i], b[i+1:]
}

// target is a request target in its parts (RFC 9112 section 3.2).
type target struct {
	// path is "" when the target has none; "*" for the asterisk-form.
	path []byte
	// query is what follows the first "?".
	query []byte
	// authority is set in absolute-form, and then goes before the Host field.
	authority []byte
}

// rootPath is the path of an absolute-form target without one (RFC 9110
// section 4.2.3). Nobody writes to it.
var rootPath = []byte("/")

func splitTarget(b []byte) (t target) {
	t.split(b)
	return t
}

// split fills in the parts; t is empty before.
func (t *target) split(b []byte) {
	if len(b) == 0 {
		return
	}
	if b[0] != '/' && (len(b) != 1 || b[0] != '*') {
		i := bytes.Index(b, []byte("://"))
		if i <= 0 || bytes.IndexByte(b[:i], '/') >= 0 || bytes.IndexByte(b[:i], '?') >= 0 {
			return
		}
		b = b[i+3:]
		end := bytes.IndexAny(b, "/?")
		if end < 0 {
			end = len(b)
		}
		t.authority, b = b[:end], b[end:]
		if len(b) == 0 || b[0] == '?' {
			t.path = rootPath
			if len(b) > 0 {
				t.query = b[1:]
			}
			return
		}
	}
	t.path = b
	if i := bytes.IndexByte(b, '?'); i >= 0 {
		t.path, t.query = b[:i], b[i+1:]
	}
}

// safeByDefault says whether a method is replayed without being named.
func safeByDefault(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS":
		return true
	}
	return false
}

// readOnly says whether a method is safe in the sense of RFC 9110 section
// 9.2.1: those of the IANA method registry, and QUERY.
func readOnly(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY":
		return true
	}
	return false
}

func checkMethod(s string) error {
	switch upper := strings.ToUpper(s); {
	case s == "":
		return errors.New("empty method")
	case !token(s):
		return fmt.Errorf("%q is no method", s)
	case s != upper:
		return fmt.Errorf("method %q: methods compare with case, write %q", s, upper)
	}
	return nil
}

// token says whether s is a token of RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

func contains(list []string, b []byte) bool {
	for _, s := range list {
		if string(b) == s {
			return true
		}
	}
	return false
}

// foldEqual compares without regard to ASCII case.
func foldEqual(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
