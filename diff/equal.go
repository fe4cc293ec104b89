package diff

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"math/big"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is about values that differ and are taken for equal: by type, within
// a tolerance, or but for what a pattern matches.

// The types of EqualRule.
const (
	// TypeUUID: both values are UUIDs (RFC 9562) in one spelling: plain, with
	// urn:uuid: before it, or in braces.
	TypeUUID = "uuid"
	// TypeTimestamp: both values are times in one form, at most Within apart:
	// RFC 3339 in any zone, the same without a zone, a date, the forms of
	// HTTP-date (RFC 9110 section 5.6.7), the form of RFC 5322, or Unix time in
	// seconds, milliseconds, microseconds or nanoseconds, as a number or as
	// digits in a string.
	TypeTimestamp = "timestamp"
	// TypeURL: both values are URLs that differ in nothing but host, port and
	// user.
	TypeURL = "url"
)

// EqualRule says that some values count as equal though they differ. It needs
// exactly one of Type, Tolerance and Pattern. What it excuses is reported as
// ignored, with the rule's name. It excuses nothing that one side lacks, and no
// change of type.
type EqualRule struct {
	// JSON is a path into JSON bodies, as in RuleConfig.IgnoreJSON; but the
	// rule holds for the values at the path only and not below. Header is a
	// field name, or the beginning of names with * behind it; for fields of
	// several lines each line must be equal by the rule. Both "" is everywhere:
	// each value of a JSON body, each header and trailer field.
	JSON, Header string
	// Type is one of the Type constants.
	Type string
	// Within bounds TypeTimestamp. Zero is any two times. Negative, or with
	// another type, is an error.
	Within time.Duration
	// Tolerance is how far two numbers may be apart, the bound included: "0.01"
	// absolutely, "1%" of the one that is further from zero. It is exact: no
	// float is made. Strings that spell a number count as numbers. Numbers of
	// more than 1,000 digits or beyond 1e±1000 have no tolerance.
	Tolerance string
	// Pattern is a regular expression (RE2, as package regexp reads it). What it
	// matches is taken as one and the same text on both sides; what lies around
	// the matches must be equal, and there must be as many.
	Pattern string
}

// maxRuleText bounds the values that rules of equality look at, in bytes:
// longer ones are compared as they are.
const maxRuleText = 64 << 10

type equalityKind uint8

const (
	equalUUID equalityKind = iota
	equalTimestamp
	equalURL
	equalTolerance
	equalPattern
)

// equality is a compiled EqualRule.
type equality struct {
	rule    string // its name
	kind    equalityKind
	within  time.Duration
	factor  *big.Int // the tolerance is factor times 10 to the power of exp
	exp     int64
	percent bool // of the larger number
	pattern *regexp.Regexp
}

// compileEqual compiles the part of a rule that says what is equal.
func compileEqual(name string, r *EqualRule, fail func(path, text string, offset int, reason string)) equality {
	e := equality{rule: name}
	set := 0
	for _, s := range []string{r.Type, r.Tolerance, r.Pattern} {
		if s != "" {
			set++
		}
	}
	if set != 1 {
		fail(name, "", 0, "needs exactly one of type, tolerance and pattern")
		return e
	}
	switch {
	case r.Within != 0 && r.Type != TypeTimestamp:
		fail(name+".within", "", 0, "goes with type timestamp only")
	case r.Within < 0:
		fail(name+".within", "", 0, "is negative")
	}
	e.within = r.Within
	switch {
	case r.Type == TypeUUID:
		e.kind = equalUUID
	case r.Type == TypeTimestamp:
		e.kind = equalTimestamp
	case r.Type == TypeURL:
		e.kind = equalURL
	case r.Type != "":
		fail(name+".type", r.Type, 0, "is not known: write uuid, timestamp or url")
	case r.Tolerance != "":
		e.kind = equalTolerance
		text, percent := strings.CutSuffix(r.Tolerance, "%")
		text = strings.TrimRight(text, " ")
		tk := tokens{b: []byte(text)}
		var ok bool
		if text != "" && '0' <= text[0] && text[0] <= '9' && tk.number() && tk.pos == len(text) {
			d := parseDecimal(tk.b)
			e.factor, e.exp, ok = d.integer()
		}
		if !ok {
			fail(name+".tolerance", r.Tolerance, 0, "is neither a number from 0 such as 0.01 nor a share such as 1%")
			return e
		}
		if e.percent = percent; percent {
			e.exp -= 2
		}
	default:
		e.kind = equalPattern
		e.pattern = compilePattern(name+".pattern", r.Pattern, fail)
	}
	return e
}

// compilePattern compiles a regular expression. The fault's place is where what
// package regexp quotes stands in it.
func compilePattern(path, text string, fail func(path, text string, offset int, reason string)) *regexp.Regexp {
	re, err := regexp.Compile(text)
	if err == nil {
		return re
	}
	offset, reason := patternFault(text, err)
	fail(path, text, offset, reason)
	return nil
}

// patternFault says where package regexp finds fault with a pattern, in bytes,
// and with what.
func patternFault(text string, err error) (offset int, reason string) {
	var fault *syntax.Error
	if !errors.As(err, &fault) {
		return 0, err.Error()
	}
	switch {
	case fault.Code == syntax.ErrMissingParen:
		offset = len(text)
	case fault.Expr != text:
		offset = max(0, strings.Index(text, fault.Expr))
	}
	return offset, fault.Code.String()
}

// same says whether two texts are equal by the rule.
func (e *equality) same(ref, cand []byte, kind ValueKind) bool {
	switch e.kind {
	case equalUUID:
		a, b := uuidForm(ref), uuidForm(cand)
		return a != 0 && a == b
	case equalTimestamp:
		a, formA := parseTimestamp(ref, kind)
		b, formB := parseTimestamp(cand, kind)
		if formA == 0 || formA != formB {
			return false
		}
		if a.After(b) {
			a, b = b, a
		}
		return e.within == 0 || b.Sub(a) <= e.within
	case equalURL:
		schemeR, _, tailR, okR := splitURI(string(ref))
		schemeC, _, tailC, okC := splitURI(string(cand))
		return okR && okC && equalFold(schemeR, schemeC) && rooted(tailR) == rooted(tailC)
	case equalTolerance:
		return e.near(ref, cand, kind)
	}
	return sameButForMatches(e.pattern, ref, cand)
}

// class gives a hash that is the same for all texts that the rule takes for
// equal; ok is false for a text that it does not speak of.
func (e *equality) class(seed maphash.Seed, text []byte, kind ValueKind) (h uint64, ok bool) {
	if len(text) > maxRuleText {
		return 0, false
	}
	switch e.kind {
	case equalUUID:
		return 11, uuidForm(text) != 0
	case equalTimestamp:
		_, form := parseTimestamp(text, kind)
		return 12, form != 0
	case equalURL:
		scheme, _, tail, ok := splitURI(string(text))
		return maphash.String(seed, lower(scheme)+" "+rooted(tail)), ok
	case equalTolerance:
		return 13, isNumber(text, kind)
	}
	if !e.pattern.Match(text) {
		return 0, false
	}
	return maphash.Bytes(seed, e.pattern.ReplaceAllLiteral(text, []byte{0})), true
}

// uuidForm says how a UUID is spelled, 0 for what is none.
func uuidForm(text []byte) int {
	if len(text) < 36 || len(text) > 45 {
		return 0
	}
	switch s := string(text); {
	case isUUID(s):
		return 1
	case len(s) == 45 && equalFold(s[:9], "urn:uuid:") && isUUID(s[9:]):
		return 2
	case len(s) == 38 && s[0] == '{' && s[37] == '}' && isUUID(s[1:37]):
		return 3
	}
	return 0
}

// timestampForms are the layouts of times in text. A layout's place in the list,
// from 1, is its form.
var timestampForms = [...]string{
	time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly,
	"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC, time.RFC1123Z,
}

// parseTimestamp reads a time. form is 0 for what is none.
func parseTimestamp(text []byte, kind ValueKind) (t time.Time, form int) {
	if len(text) < 9 || len(text) > 64 {
		return t, 0
	}
	if kind == ValueNumber || '0' <= text[0] && text[0] <= '9' && !bytes.ContainsAny(text, "-:") {
		return unixTime(string(text))
	}
	s := string(text)
	for i, layout := range timestampForms {
		if t, err := time.Parse(layout, s); err == nil {
			return t, i + 1
		}
	}
	return t, 0
}

// unixTime reads Unix time in one of the units that are in use. They are told by
// the number of digits, which holds from 1973 to 2286.
func unixTime(s string) (t time.Time, form int) {
	whole, fraction, point := strings.Cut(s, ".")
	n, err := strconv.ParseUint(whole, 10, 63)
	if err != nil || point && fraction == "" || whole[0] == '0' {
		return t, 0
	}
	for i := range len(fraction) {
		if fraction[i] < '0' || fraction[i] > '9' {
			return t, 0
		}
	}
	v := int64(n)
	switch len(whole) {
	case 9, 10:
		nanos, _ := strconv.Atoi((fraction + "000000000")[:9])
		return time.Unix(v, int64(nanos)), 101
	case 12, 13:
		return time.UnixMilli(v), 102
	case 15, 16:
		return time.UnixMicro(v), 103
	case 18, 19:
		return time.Unix(0, v), 104
	}
	return t, 0
}

// rooted is what follows an authority, with the path that an empty one stands
// for (RFC 3986 section 6.2.3).
func rooted(tail string) string {
	if tail == "" || tail[0] != '/' {
		return "/" + tail
	}
	return tail
}

// isNumber says whether a value is a number or a string that spells one.
func isNumber(text []byte, kind ValueKind) bool {
	if kind == ValueNumber {
		return true
	}
	if len(text) == 0 || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return false
	}
	tk := tokens{b: text}
	return tk.number() && tk.pos == len(text)
}

// Bounds of numbers that have a tolerance.
const (
	maxToleranceDigits = 1000
	maxToleranceExp    = 1000
)

// integer gives the number as factor times 10 to the power of exp, without its
// sign; ok is false beyond the bounds.
func (d *decimal) integer() (factor *big.Int, exp int64, ok bool) {
	if d.digits == 0 {
		return new(big.Int), 0, true
	}
	exp, ok = d.smallExponent()
	if !ok || d.digits > maxToleranceDigits || exp > maxToleranceExp || exp < -maxToleranceExp-maxToleranceDigits {
		return nil, 0, false
	}
	digits := slices.DeleteFunc(slices.Clone(d.mantissa), func(c byte) bool { return c == '.' })
	factor, ok = new(big.Int).SetString(string(digits), 10)
	return factor, exp, ok
}

// raise multiplies n by 10 to the power of by, which is not negative.
func raise(n *big.Int, by int64) *big.Int {
	return n.Mul(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(by), nil))
}

// near says whether two numbers are within the tolerance.
func (e *equality) near(ref, cand []byte, kind ValueKind) bool {
	if !isNumber(ref, kind) || !isNumber(cand, kind) {
		return false
	}
	if equalNumber(ref, cand) {
		return true
	}
	x, y := parseDecimal(ref), parseDecimal(cand)
	a, expA, okA := x.integer()
	b, expB, okB := y.integer()
	if !okA || !okB {
		return false
	}
	// Both as whole numbers of the same unit.
	unit := min(expA, expB)
	if !e.percent {
		unit = min(unit, e.exp)
	}
	raise(a, expA-unit)
	raise(b, expB-unit)
	largest := new(big.Int).Set(a)
	if b.Cmp(a) > 0 {
		largest.Set(b)
	}
	if x.negative {
		a.Neg(a)
	}
	if y.negative {
		b.Neg(b)
	}
	apart := a.Sub(a, b)
	apart.Abs(apart)
	bound := new(big.Int).Set(e.factor)
	switch {
	case !e.percent:
		raise(bound, e.exp-unit)
	case e.exp < 0:
		raise(apart, -e.exp)
		bound.Mul(bound, largest)
	default:
		raise(bound, e.exp)
		bound.Mul(bound, largest)
	}
	return apart.Cmp(bound) <= 0
}

// sameButForMatches says whether two texts are equal once each match of re is
// taken as the same text.
func sameButForMatches(re *regexp.Regexp, ref, cand []byte) bool {
	a, b := re.FindAllIndex(ref, -1), re.FindAllIndex(cand, -1)
	if len(a) != len(b) {
		return false
	}
	i, j := 0, 0
	for k := range a {
		if !bytes.Equal(ref[i:a[k][0]], cand[j:b[k][0]]) {
			return false
		}
		i, j = a[k][1], b[k][1]
	}
	return bytes.Equal(ref[i:], cand[j:])
}

// textRule gives the name of the first rule by which two different texts of one
// kind count as equal, "" without: the patterns, a rule that holds everywhere,
// or one of at.
func (r *Rules) textRule(at []int32, ref, cand []byte, kind ValueKind) string {
	if len(ref) > maxRuleText || len(cand) > maxRuleText {
		return ""
	}
	if r.values != nil && sameButForMatches(r.values, ref, cand) {
		return ruleValues
	}
	for _, list := range [...][]int32{r.everywhere, at} {
		for _, k := range list {
			if e := &r.equalities[k]; e.same(ref, cand, kind) {
				return e.rule
			}
		}
	}
	return ""
}

// ruleValues is the name of the patterns of RuleConfig.IgnoreValues, which are
// one.
const ruleValues = "ignore.values"

// valuesPattern makes one expression of several, so that a text may have
// matches of each.
func valuesPattern(list []string) (*regexp.Regexp, error) {
	if len(list) == 0 {
		return nil, nil
	}
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = "(?:" + s + ")"
	}
	re, err := regexp.Compile(strings.Join(all, "|"))
	if err != nil {
		return nil, fmt.Errorf("ignore.values: together: %w", err)
	}
	return re, nil
}
