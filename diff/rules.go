package diff

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
)

// RuleConfig says what a comparison ignores and where it stops.
type RuleConfig struct {
	// IgnoreHeaders names header and trailer fields whose differences are
	// ignored, presence included. Letter case does not matter; a * at the end
	// stands for any rest, alone for every field.
	IgnoreHeaders []string
	// IgnoreJSON holds paths into JSON bodies; what lies at one, with all
	// below it, is ignored, presence included. A subset of RFC 9535: $, .name,
	// ['name'], [0], [*], .*, ..name, ..*, ..['name'], ..[0], and several
	// selectors in one bracket.
	IgnoreJSON []string
	// NoDefaults switches off the default list (DefaultIgnore): every header
	// field is then compared by its value.
	NoDefaults bool
	// MaxDepth is the depth of nesting down to which JSON is compared by
	// value. Zero means 128. Negative or above 10,000 is an error.
	MaxDepth int
	// MaxDifferences bounds the differences of each aspect that are not
	// ignored. Zero means 100. Negative is an error.
	MaxDifferences int
	// MaxDecoded bounds a body after its content codings have been taken off,
	// in bytes. Zero means 16 MiB. Negative or above 1 GiB is an error.
	MaxDecoded int64
	// MaxValues bounds the values and member names of a JSON body that is
	// compared by value. Each takes 12 bytes while it is compared, up to 60
	// in large objects and in arrays whose order differs, so that with the
	// defaults one comparison of the worst bodies takes about 150 MiB. Zero means 1,048,576.
	// Negative or above 100,000,000 is an error.
	MaxValues int
	// MaxValue bounds Value.Text, in bytes. Zero means 4 KiB. Negative is an
	// error.
	MaxValue int
}

// RuleError is a rule that Compile refused.
type RuleError struct {
	// List is the list in the configuration: "headers" or "json".
	List string
	// Index is the rule's place in it, from 0.
	Index int
	// Offset is the place of the fault in the rule, in bytes from 0.
	Offset int
	// Rule is the rule, Reason what is wrong with it.
	Rule, Reason string
}

// Error names the list, the rule and the place in it.
func (e *RuleError) Error() string {
	return fmt.Sprintf("ignore.%s[%d]: %q at offset %d: %s", e.List, e.Index, e.Rule, e.Offset, e.Reason)
}

// Rules are a compiled RuleConfig. They are not changed after Compile and may
// be used by any number of goroutines at once.
type Rules struct {
	headers  headerRules
	json     matcher
	defaults bool
	limits   limits
	seed     maphash.Seed // for tables only; no result depends on it
	names    map[string]string
	equal    Result    // what every equal pair without a remark gets
	work     sync.Pool // of *comparison
}

type limits struct {
	depth, differences, values, value int
	decoded                           int64
}

// Compile checks a RuleConfig and prepares it. The error joins a *RuleError
// for every rule that is wrong.
func Compile(c RuleConfig) (*Rules, error) {
	r := &Rules{
		defaults: !c.NoDefaults,
		seed:     maphash.MakeSeed(),
		limits: limits{
			depth: c.MaxDepth, differences: c.MaxDifferences, values: c.MaxValues, value: c.MaxValue, decoded: c.MaxDecoded,
		},
	}
	var errs []error
	r.limits.depth = limit(&errs, "MaxDepth", r.limits.depth, 128, 10_000)
	r.limits.differences = limit(&errs, "MaxDifferences", r.limits.differences, 100, 1<<20)
	r.limits.values = limit(&errs, "MaxValues", r.limits.values, 1<<20, 100_000_000)
	r.limits.value = limit(&errs, "MaxValue", r.limits.value, 4<<10, 1<<30)
	r.limits.decoded = limit(&errs, "MaxDecoded", r.limits.decoded, 16<<20, 1<<30)
	for i, h := range c.IgnoreHeaders {
		if offset, reason := r.headers.add(h); reason != "" {
			errs = append(errs, &RuleError{List: "headers", Index: i, Offset: offset, Rule: h, Reason: reason})
		}
	}
	for i, p := range c.IgnoreJSON {
		segs, bad := parsePath(p)
		if bad != nil {
			errs = append(errs, &RuleError{List: "json", Index: i, Offset: bad.offset, Rule: p, Reason: bad.reason})
			continue
		}
		r.json.add(segs)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	r.names = knownNames()
	r.work.New = func() any { return newComparison(r) }
	return r, nil
}

func limit[T int | int64](errs *[]error, name string, v, zero, most T) T {
	switch {
	case v == 0:
		return zero
	case v < 0 || v > most:
		*errs = append(*errs, fmt.Errorf("%s: %d is not within 0 and %d", name, v, most))
	}
	return v
}

// headerRules are field names and prefixes, in lower case.
type headerRules struct {
	names    map[string]struct{}
	prefixes []string
}

// add takes a name or a prefix with a star. It gives the place and the reason
// of a fault.
func (h *headerRules) add(rule string) (offset int, reason string) {
	name, star := strings.CutSuffix(rule, "*")
	for i := 0; i < len(name); i++ {
		if name[i] == '*' {
			return i, "a * stands at the end only"
		}
		if !isTokenByte(name[i]) {
			return i, "no character of a field name"
		}
	}
	switch {
	case star:
		h.prefixes = append(h.prefixes, lower(name))
	case name == "":
		return 0, "the name is empty"
	default:
		if h.names == nil {
			h.names = map[string]struct{}{}
		}
		h.names[lower(name)] = struct{}{}
	}
	return 0, ""
}

// has says whether a rule names the field; name is in lower case.
func (h *headerRules) has(name string) bool {
	if _, ok := h.names[name]; ok {
		return true
	}
	for _, p := range h.prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// isTokenByte says whether c is a tchar of RFC 9110 section 5.6.2.
func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// lower is the ASCII lower case of s; s itself when it is that already.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; 'A' <= c && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// knownNames are the field names that differences will mostly have as their
// path, so that they need not be made each time.
func knownNames() map[string]string {
	m := map[string]string{}
	for _, rule := range defaultList() {
		for _, n := range rule.names {
			m[n] = n
		}
	}
	for _, n := range []string{
		"accept-ranges", "access-control-allow-origin", "allow", "cache-control", "content-disposition", "content-language", "content-security-policy",
		"link", "pragma", "retry-after", "strict-transport-security", "trailer", "vary", "www-authenticate", "x-content-type-options", "x-frame-options",
		"x-powered-by", "x-trace-id",
	} {
		m[n] = n
	}
	return m
}

// lowerName is the lower case of a field name.
func (r *Rules) lowerName(name string) string {
	var b [64]byte
	if len(name) > len(b) {
		return lower(name)
	}
	for i := range len(name) {
		b[i] = foldByte(name[i])
	}
	if known, ok := r.names[string(b[:len(name)])]; ok {
		return known
	}
	return lower(name)
}

// defaultClass is what the default list says about a field.
type defaultClass uint8

const (
	classNone defaultClass = iota
	// classIgnore: a value of its own on each side, or of one hop.
	classIgnore
	// classPresence: only that the field is there matters.
	classPresence
	// classFraming: how the body was carried; ignored when bodies were
	// compared another way.
	classFraming
	// classCoding: ignored when the decoded bodies were compared.
	classCoding
	classCookie
	classLocation
	classMediaType
)

// defaultRule is a line of the default list. Names are in lower case and may
// end in a star.
type defaultRule struct {
	class defaultClass
	names []string
	why   string
}

// defaultList is VERDICT's list. Hop-by-hop fields are those of RFC 9110
// section 7.6.1.
func defaultList() []defaultRule {
	return []defaultRule{
		{classIgnore, []string{"date", "server", "via", "age", "expires"}, "of the moment or of the machine"},
		{classIgnore, []string{"connection", "keep-alive", "proxy-connection", "te", "upgrade"}, "hop by hop, and every field that Connection names"},
		{classIgnore, []string{"x-request-id", "traceparent", "tracestate", "x-envoy-*", "cf-*", "x-amz-*"}, "set anew for each request"},
		{classFraming, []string{"content-length", "transfer-encoding"}, "when the bodies are compared"},
		{classCoding, []string{"content-encoding"}, "when the decoded bodies are compared"},
		{classPresence, []string{"etag", "last-modified"}, "only presence is compared"},
		{classCookie, []string{"set-cookie"}, "compared by the cookies' names and attributes; values and the time of Expires are ignored"},
		{classLocation, []string{"location"}, "compared with the candidate's authority mapped to the reference's"},
		{classMediaType, []string{"content-type"}, "compared by meaning: letter case and white space of the media type and its parameters are ignored"},
	}
}

// classOf looks a field up in the default list; name is in lower case.
func classOf(name string) defaultClass {
	switch name {
	case "date", "server", "via", "age", "expires",
		"connection", "keep-alive", "proxy-connection", "te", "upgrade",
		"x-request-id", "traceparent", "tracestate":
		return classIgnore
	case "content-length", "transfer-encoding":
		return classFraming
	case "content-encoding":
		return classCoding
	case "etag", "last-modified":
		return classPresence
	case "set-cookie":
		return classCookie
	case "location":
		return classLocation
	case "content-type":
		return classMediaType
	}
	if strings.HasPrefix(name, "x-envoy-") || strings.HasPrefix(name, "cf-") || strings.HasPrefix(name, "x-amz-") {
		return classIgnore
	}
	return classNone
}

// DefaultIgnore is the default list as text, one rule a line: the field names
// (a * at the end stands for any rest), a colon, and what holds for them.
func DefaultIgnore() string {
	var b strings.Builder
	for _, rule := range defaultList() {
		word := "compared in part"
		switch rule.class {
		case classIgnore, classFraming, classCoding:
			word = "ignored"
		}
		fmt.Fprintf(&b, "%s: %s (%s)\n", strings.Join(rule.names, ", "), word, rule.why)
	}
	return b.String()
}
