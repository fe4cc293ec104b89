package diff

import (
	"errors"
	"fmt"
	"hash/maphash"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// RuleConfig says what a comparison ignores, what it takes for equal, how it
// compares arrays, and where it stops. The zero value is the defaults.
type RuleConfig struct {
	// IgnoreHeaders names header and trailer fields whose differences are
	// ignored, presence included. Letter case does not matter; a * at the end
	// stands for any rest, alone for every field.
	IgnoreHeaders []string
	// IgnoreJSON holds paths into JSON bodies, and into others as the package's
	// comment writes them; what lies at one, with all below it, is ignored, presence included. A subset of RFC 9535: $, .name,
	// ['name'], [0], [*], .*, ..name, ..*, ..['name'], ..[0], several
	// selectors in one bracket, and filters [?...] with existence tests,
	// comparisons of a singular query with a literal, &&, || and !. A filter
	// must hold on each side that has the value.
	IgnoreJSON []string
	// IgnoreValues holds regular expressions (RE2, as package regexp reads
	// them). What one of them matches in a value of a JSON body, or in the
	// value of a field, is taken as one and the same text on both sides.
	IgnoreValues []string
	// IgnoreAspects names whole aspects whose differences are ignored: status,
	// grpc, header, body, trailer.
	IgnoreAspects []string
	// Equal holds rules for values that differ and count as equal.
	Equal []EqualRule
	// Arrays says which arrays are not compared by order.
	Arrays []ArrayRule
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
	// defaults one comparison of the worst bodies takes about 150 MiB. Lines of
	// text, nodes of XML and HTML and protobuf fields are bounded by a quarter of
	// it. Zero means 1,048,576.
	// Negative or above 100,000,000 is an error.
	MaxValues int
	// MaxValue bounds Value.Text, in bytes. Zero means 4 KiB. Negative is an
	// error.
	MaxValue int
}

// RuleError is a rule that Compile refused.
type RuleError struct {
	// Path is the rule's place in the configuration, as "ignore.json[0]" or
	// "equal[2].type".
	Path string
	// Offset is the place of the fault in the rule, in bytes from 0.
	Offset int
	// Rule is the rule's text, "" when what is wrong is not in a text. Reason is
	// what is wrong with it.
	Rule, Reason string
}

// Error names the rule and the place in it.
func (e *RuleError) Error() string {
	if e.Rule == "" {
		return e.Path + ": " + e.Reason
	}
	return fmt.Sprintf("%s: %q at offset %d: %s", e.Path, e.Rule, e.Offset, e.Reason)
}

// Rules are a compiled RuleConfig. They are not changed after Compile and may
// be used by any number of goroutines at once.
type Rules struct {
	headers fieldRules
	aspects map[string]string // to the name of the rule that ignores it
	json    matcher
	places  []string // names of the rules that json ignores by
	values  *regexp.Regexp
	// equalities are all; everywhere are those without a place, and fields
	// those of fields, by names and prefixes.
	equalities []equality
	everywhere []int32
	fields     []fieldEquality
	arrays     []arrayRule
	defaults   bool
	limits     limits
	seed       maphash.Seed // for tables only; no result depends on it
	names      map[string]string
	equal      Result    // what every equal pair without a remark gets
	work       sync.Pool // of *comparison
}

// fieldEquality is a rule of equality for the fields that it names.
type fieldEquality struct {
	fields fieldRules
	index  int32 // into equalities
}

type limits struct {
	depth, differences, values, value int
	decoded                           int64
}

// items bounds the lines of a text, the nodes of an XML or HTML document and the
// fields of a protobuf message: each takes about four times the memory of a JSON
// value.
func (l *limits) items() int { return max(l.values/4, 1) }

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
	fail := func(path, text string, offset int, reason string) {
		errs = append(errs, &RuleError{Path: path, Offset: offset, Rule: text, Reason: reason})
	}
	r.compile(&c, fail)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	r.names = knownNames()
	r.work.New = func() any { return newComparison(r) }
	return r, nil
}

// compile compiles every list of rules.
func (r *Rules) compile(c *RuleConfig, fail func(path, text string, offset int, reason string)) {
	for i, h := range c.IgnoreHeaders {
		name := fmt.Sprintf("ignore.headers[%d]", i)
		r.headers.compile(h, name, name, fail)
	}
	for i, p := range c.IgnoreJSON {
		name := fmt.Sprintf("ignore.json[%d]", i)
		if at := r.place(p, name, fail); at != nil && at.ignore < 0 {
			at.ignore = int32(len(r.places))
			r.places = append(r.places, name)
		}
	}
	patterns := true
	for i, p := range c.IgnoreValues {
		name := fmt.Sprintf("ignore.values[%d]", i)
		switch {
		case p == "":
			fail(name, "", 0, "is empty")
		case compilePattern(name, p, fail) != nil:
			continue
		}
		patterns = false
	}
	if patterns {
		var err error
		if r.values, err = valuesPattern(c.IgnoreValues); err != nil {
			fail("ignore.values", "", 0, err.Error())
		}
	}
	for i, a := range c.IgnoreAspects {
		name := fmt.Sprintf("ignore.aspects[%d]", i)
		if !slices.Contains(ignorable(), a) {
			fail(name, a, 0, "is not known: write "+strings.Join(ignorable(), ", "))
			continue
		}
		if r.aspects == nil {
			r.aspects = map[string]string{}
		}
		r.aspects[a] = name
	}
	for i := range c.Equal {
		e, name := &c.Equal[i], fmt.Sprintf("equal[%d]", i)
		index := int32(len(r.equalities))
		r.equalities = append(r.equalities, compileEqual(name, e, fail))
		switch {
		case e.JSON != "" && e.Header != "":
			fail(name, "", 0, "has json and header: write a rule for each")
		case e.JSON != "":
			if at := r.place(e.JSON, name+".json", fail); at != nil {
				at.equal = append(at.equal, index)
			}
		case e.Header != "":
			f := fieldEquality{index: index}
			f.fields.compile(e.Header, name, name+".header", fail)
			r.fields = append(r.fields, f)
		default:
			r.everywhere = append(r.everywhere, index)
		}
	}
	for i := range c.Arrays {
		a, name := &c.Arrays[i], fmt.Sprintf("arrays[%d]", i)
		rule, ok := compileArray(name, a, fail)
		if at := r.place(a.JSON, name+".json", fail); ok && at != nil && at.array < 0 {
			at.array = int32(len(r.arrays))
			r.arrays = append(r.arrays, rule)
		}
	}
}

// ignorable lists the aspects that may be ignored.
func ignorable() []string {
	return []string{AspectStatus, AspectGRPC, AspectHeader, AspectBody, AspectTrailer}
}

// place adds a path to the automaton. The result is valid until the next call,
// nil for a path that is wrong.
func (r *Rules) place(path, name string, fail func(path, text string, offset int, reason string)) *matchNode {
	segs, bad := parsePath(path)
	switch {
	case path == "":
		fail(name, "", 0, "is missing: write a path such as $.items")
		return nil
	case bad != nil:
		fail(name, path, bad.offset, bad.reason)
		return nil
	}
	return r.json.add(segs)
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

// fieldRules are field names and prefixes, in lower case, each with the name of
// its rule.
type fieldRules struct {
	names    map[string]string
	prefixes [][2]string // prefix and rule
}

// compile adds a rule; path is where its text stands.
func (f *fieldRules) compile(text, rule, path string, fail func(path, text string, offset int, reason string)) {
	if offset, reason := f.add(text, rule); reason != "" {
		fail(path, text, offset, reason)
	}
}

// add takes a name or a prefix with a star. It gives the place and the reason
// of a fault.
func (f *fieldRules) add(text, rule string) (offset int, reason string) {
	name, star := strings.CutSuffix(text, "*")
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
		f.prefixes = append(f.prefixes, [2]string{lower(name), rule})
	case name == "":
		return 0, "the name is empty"
	default:
		if f.names == nil {
			f.names = map[string]string{}
		}
		if key := lower(name); f.names[key] == "" {
			f.names[key] = rule
		}
	}
	return 0, ""
}

// rule is the name of the rule that names the field, "" without one; name is in
// lower case.
func (f *fieldRules) rule(name string) string {
	if rule, ok := f.names[name]; ok {
		return rule
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(name, p[0]) {
			return p[1]
		}
	}
	return ""
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
