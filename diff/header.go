package diff

import (
	"cmp"
	"mime"
	"slices"
	"strings"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// sameFields says whether two headers have the same fields in the same order,
// but for the letter case of names and white space around values.
func sameFields(a, b exchange.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := &a[i], &b[i]
		if x.Value != y.Value && trimOWS(x.Value) != trimOWS(y.Value) || x.Name != y.Name && !equalFold(x.Name, y.Name) {
			return false
		}
	}
	return true
}

// trimOWS removes optional white space (RFC 9110 section 5.6.3).
func trimOWS(s string) string {
	if s == "" || !isOWS(s[0]) && !isOWS(s[len(s)-1]) {
		return s
	}
	return strings.Trim(s, " \t")
}

func isOWS(c byte) bool { return c == ' ' || c == '\t' }

func foldByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// equalFold compares without regard to ASCII letter case; field names have no
// other.
func equalFold(a, b string) bool { return len(a) == len(b) && compareFold(a, b) == 0 }

func compareFold(a, b string) int {
	for i := 0; i < min(len(a), len(b)); i++ {
		if x, y := foldByte(a[i]), foldByte(b[i]); x != y {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(len(a), len(b))
}

// lines are the fields of one name in one header, in their order.
type lines struct {
	h exchange.Header
	i []int32
}

func (l lines) len() int           { return len(l.i) }
func (l lines) value(k int) string { return trimOWS(l.h[l.i[k]].Value) }

func (l lines) equal(o lines) bool {
	if len(l.i) != len(o.i) {
		return false
	}
	for k := range l.i {
		if l.value(k) != o.value(k) {
			return false
		}
	}
	return true
}

// fields compares headers or trailers, name by name in the order of the names.
func (c *comparison) fields(aspect string, ref, cand exchange.Header) {
	c.begin(aspect)
	if sameFields(ref, cand) {
		return
	}
	if c.fieldsInPlace(ref, cand) {
		return
	}
	c.fieldOrder = byName(c.fieldOrder[:0], ref)
	c.fieldOrder = byName(c.fieldOrder, cand)
	a, b := c.fieldOrder[:len(ref)], c.fieldOrder[len(ref):]
	for (len(a) > 0 || len(b) > 0) && !c.full {
		var which int // of the names comes first
		switch {
		case len(a) == 0:
			which = 1
		case len(b) == 0:
			which = -1
		default:
			which = compareFold(ref[a[0]].Name, cand[b[0]].Name)
		}
		var la, lb lines
		if which <= 0 {
			la, a = takeName(ref, a)
		}
		if which >= 0 {
			lb, b = takeName(cand, b)
		}
		if which != 0 || !la.equal(lb) {
			c.field(la, lb)
		}
	}
}

// maxInPlace bounds the fields for which looking at each pair of names is
// quicker than sorting.
const maxInPlace = 16

// fieldsInPlace compares two headers that have the same names in the same
// order, each once. It says whether they were such.
func (c *comparison) fieldsInPlace(ref, cand exchange.Header) bool {
	if len(ref) != len(cand) || len(ref) > maxInPlace {
		return false
	}
	for i := range ref {
		name := ref[i].Name
		if name != cand[i].Name && !equalFold(name, cand[i].Name) {
			return false
		}
		for k := range i {
			if equalFold(name, ref[k].Name) {
				return false
			}
		}
	}
	start := len(c.diffs)
	for i := range ref {
		if trimOWS(ref[i].Value) != trimOWS(cand[i].Value) {
			c.fieldOrder = append(c.fieldOrder[:0], int32(i))
			c.field(lines{ref, c.fieldOrder}, lines{cand, c.fieldOrder})
		}
	}
	// Names sort before what is said of a name's parts, so the order is that
	// of the names.
	slices.SortStableFunc(c.diffs[start:], func(a, b Difference) int {
		x, _, _ := strings.Cut(a.Path, "/")
		y, _, _ := strings.Cut(b.Path, "/")
		return cmp.Compare(x, y)
	})
	return true
}

// byName appends the indexes of h sorted by name, fields of one name in their
// order.
func byName(order []int32, h exchange.Header) []int32 {
	start := len(order)
	for i := range h {
		order = append(order, int32(i))
	}
	slices.SortFunc(order[start:], func(i, j int32) int {
		if c := compareFold(h[i].Name, h[j].Name); c != 0 {
			return c
		}
		return cmp.Compare(i, j)
	})
	return order
}

func takeName(h exchange.Header, order []int32) (lines, []int32) {
	n := 1
	for n < len(order) && equalFold(h[order[n]].Name, h[order[0]].Name) {
		n++
	}
	return lines{h, order[:n]}, order[n:]
}

// field compares the fields of one name, which differ; a side may have none.
func (c *comparison) field(ref, cand lines) {
	some := ref
	if ref.len() == 0 {
		some = cand
	}
	name := c.rules.lowerName(some.h[some.i[0]].Name)
	class := classNone
	if c.rules.defaults {
		class = classOf(name)
	}
	rule := c.rules.headers.rule(name)
	ignored := rule != "" || c.rules.defaults && (c.classIgnores(class) || hopByHop(name, ref, cand))
	if class == classCookie && !ignored {
		c.cookies(name, ref, cand)
		return
	}
	kind := KindChanged
	switch {
	case cand.len() == 0:
		kind = KindRemoved
	case ref.len() == 0:
		kind = KindAdded
	case ignored:
	case class == classPresence:
		ignored = true
	case class == classLocation:
		ignored = ref.len() == 1 && cand.len() == 1 && c.sameLocation(ref.value(0), cand.value(0))
	case class == classMediaType:
		ignored = ref.len() == 1 && cand.len() == 1 && sameMediaType(ref.value(0), cand.value(0))
	case ref.len() == 1 && cand.len() == 1 && strings.IndexByte(ref.value(0), ',') < 0 && strings.IndexByte(cand.value(0), ',') < 0:
	default:
		a, b := elements(ref), elements(cand)
		if slices.Equal(a, b) {
			return // one line or several, with or without a space: RFC 9110 section 5.3
		}
		slices.Sort(a)
		slices.Sort(b)
		if slices.Equal(a, b) {
			kind = KindReordered
		}
	}
	if !ignored && ref.len() > 0 && ref.len() == cand.len() {
		rule = c.fieldRule(name, ref, cand)
		ignored = rule != ""
	}
	if !c.room(ignored) {
		return
	}
	d := c.slot()
	d.Kind, d.Path, d.Ignored, d.Rule = kind, name, ignored, rule
	c.fieldValue(&d.Reference, ref)
	c.fieldValue(&d.Candidate, cand)
	c.count(d)
}

// fieldRule gives the name of the rule by which each line of a field that
// differs counts as equal to the candidate's, "" without one.
func (c *comparison) fieldRule(name string, ref, cand lines) (rule string) {
	r := c.rules
	if r.values == nil && len(r.equalities) == 0 {
		return ""
	}
	var at []int32
	for i := range r.fields {
		if f := &r.fields[i]; f.fields.rule(name) != "" {
			at = append(at, f.index)
		}
	}
	for k := range ref.i {
		if ref.value(k) == cand.value(k) {
			continue
		}
		if rule = r.textRule(at, []byte(ref.value(k)), []byte(cand.value(k)), ValueString); rule == "" {
			return ""
		}
	}
	return rule
}

// classIgnores says whether a class of the default list takes no offence,
// whatever the values.
func (c *comparison) classIgnores(class defaultClass) bool {
	switch class {
	case classIgnore:
		return true
	case classFraming:
		return c.carried
	case classCoding:
		return c.decoded
	}
	return false
}

// maxOptions bounds the options of Connection that are looked at.
const maxOptions = 16

// hopByHop says whether each side that has the field names it in its
// Connection field (RFC 9110 section 7.6.1).
func hopByHop(name string, ref, cand lines) bool {
	named := func(l lines) bool {
		options := 0
		for i := range l.h {
			if !equalFold(l.h[i].Name, "connection") {
				continue
			}
			for v := l.h[i].Value; v != "" && options < maxOptions; options++ {
				var one string
				one, v, _ = strings.Cut(v, ",")
				if equalFold(trimOWS(one), name) {
					return true
				}
			}
		}
		return false
	}
	return (ref.len() == 0 || named(ref)) && (cand.len() == 0 || named(cand))
}

// elements takes the lines apart at the commas that are not within quotes
// (RFC 9110 section 5.6.1); empty elements are left out.
func elements(l lines) []string {
	var all []string
	for k := range l.i {
		v := l.value(k)
		start, quoted := 0, false
		for i := 0; i <= len(v); i++ {
			switch {
			case i == len(v) || v[i] == ',' && !quoted:
				if e := trimOWS(v[start:i]); e != "" {
					all = append(all, e)
				}
				start = i + 1
			case v[i] == '"':
				quoted = !quoted
			case v[i] == '\\' && quoted && i+1 < len(v):
				i++
			}
		}
	}
	return all
}

// fieldValue sets v, which is empty, to the field's value: its lines joined by a
// comma and a space.
func (c *comparison) fieldValue(v *Value, l lines) {
	switch l.len() {
	case 0:
		return
	case 1:
		c.setString(v, l.value(0))
		return
	}
	n := 2 * (l.len() - 1)
	for k := range l.i {
		n += len(l.value(k))
	}
	var b strings.Builder
	b.Grow(min(n, c.rules.limits.value+4))
	for k := range l.i {
		if k > 0 {
			b.WriteString(", ")
		}
		b.WriteString(l.value(k))
		if b.Len() > c.rules.limits.value {
			break
		}
	}
	c.setString(v, b.String())
	v.Size = int64(n)
	v.Truncated = int64(len(v.Text)) < v.Size
}

func (c *comparison) stringValue(s string) (v Value) {
	c.setString(&v, s)
	return v
}

// setString sets v, which is empty, to a string.
func (c *comparison) setString(v *Value, s string) {
	v.Kind, v.Text, v.Size = ValueString, s, int64(len(s))
	if most := c.rules.limits.value; len(s) > most {
		v.Text, v.Truncated = string(cutText([]byte(s[:most+1]), most)), true
	}
}

// sameMediaType says whether two Content-Types mean the same (RFC 9110 section
// 8.3.1): letter case counts in no name and not in a charset.
func sameMediaType(a, b string) bool {
	ta, pa, errA := mime.ParseMediaType(a)
	tb, pb, errB := mime.ParseMediaType(b)
	if errA != nil || errB != nil || ta != tb || len(pa) != len(pb) {
		return false
	}
	for k, v := range pa {
		w, ok := pb[k]
		if !ok || v != w && !(k == "charset" && equalFold(v, w)) {
			return false
		}
	}
	return true
}

// sameLocation says whether the two are the same URI once the candidate's
// authority is taken as the reference's.
func (c *comparison) sameLocation(ref, cand string) bool {
	if c.in.CandidateAuthority == "" {
		return false
	}
	schemeR, authR, tailR, okR := splitURI(ref)
	schemeC, authC, tailC, okC := splitURI(cand)
	return okR && okC && equalFold(schemeR, schemeC) && tailR == tailC &&
		sameAuthority(schemeR, authR, c.in.ReferenceAuthority) && sameAuthority(schemeC, authC, c.in.CandidateAuthority)
}

// splitURI takes apart a URI with an authority (RFC 3986 section 3); scheme is
// "" for //host/path.
func splitURI(s string) (scheme, authority, tail string, ok bool) {
	at := strings.Index(s, "//")
	if at < 0 || at == 1 || at > 1 && s[at-1] != ':' || strings.ContainsAny(s[:at], "/?#") {
		return "", "", "", false
	}
	if at > 0 {
		scheme = s[:at-1]
	}
	rest := s[at+2:]
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		return scheme, rest[:end], rest[end:], true
	}
	return scheme, rest, "", true
}

// sameAuthority compares host and port, with the scheme's default port.
func sameAuthority(scheme, a, b string) bool {
	port := ""
	switch lower(scheme) {
	case "http":
		port = ":80"
	case "https":
		port = ":443"
	}
	if port != "" {
		a, b = strings.TrimSuffix(a, port), strings.TrimSuffix(b, port)
	}
	return equalFold(a, b)
}
