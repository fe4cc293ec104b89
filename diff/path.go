package diff

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxRuleIndex bounds an index in a rule: I-JSON's exact integers (RFC 9535
// section 2.1) cut to what a body can hold.
const maxRuleIndex = 1<<31 - 1

// selector is one selector of a segment (RFC 9535 section 2.3).
type selector struct {
	any   bool   // *
	named bool   // a name, else an index
	name  string // when named
	index int
	// filter chooses by what a value holds; nil for the others.
	filter *filter
}

// segment is one step of a rule. Descendant segments (..) reach every depth.
type segment struct {
	descendant bool
	selectors  []selector
}

// pathError is a fault of a rule at a byte offset in it.
type pathError struct {
	offset int
	reason string
}

// parsePath reads the subset of RFC 9535 that rules are written in: $, .name,
// .*, ..name, ..*, and [..] with names in single or double quotes, indexes, *
// and filters, also several of them with commas. Negative indexes, slices and
// what filters do not have here are refused by name.
func parsePath(s string) ([]segment, *pathError) {
	p := pathParser{s: s}
	segs := p.path()
	return segs, p.err
}

type pathParser struct {
	s    string
	i    int
	deep int // parentheses and negations that are open
	err  *pathError
}

func (p *pathParser) fail(at int, format string, args ...any) {
	if p.err == nil {
		p.err = &pathError{offset: at, reason: fmt.Sprintf(format, args...)}
	}
}

func (p *pathParser) path() []segment {
	if p.s == "" || p.s[0] != '$' {
		p.fail(0, "a path begins with $")
		return nil
	}
	p.i = 1
	var segs []segment
	for p.err == nil {
		p.space() // RFC 9535 section 2.5: white space may stand between segments
		if p.i == len(p.s) {
			break
		}
		segs = append(segs, p.segment())
	}
	if n := len(p.s); p.err == nil && isPathSpace(p.s[n-1]) {
		p.fail(n-1, "white space after the path")
	}
	return segs
}

func (p *pathParser) segment() segment {
	var seg segment
	switch p.s[p.i] {
	case '[':
		seg.selectors = p.bracket()
		return seg
	case '.':
		p.i++
		if p.i < len(p.s) && p.s[p.i] == '.' {
			p.i++
			seg.descendant = true
			if p.i < len(p.s) && p.s[p.i] == '[' {
				seg.selectors = p.bracket()
				return seg
			}
		}
	default:
		p.fail(p.i, "want . or [ here")
		return seg
	}
	if p.i < len(p.s) && p.s[p.i] == '*' {
		p.i++
		seg.selectors = []selector{{any: true}}
		return seg
	}
	start := p.i
	for p.i < len(p.s) {
		r, n := utf8.DecodeRuneInString(p.s[p.i:])
		if r == utf8.RuneError && n == 1 {
			p.fail(p.i, "not UTF-8")
			return seg
		}
		if !isNameRune(r, p.i == start) {
			break
		}
		p.i += n
	}
	if p.i == start {
		p.fail(start, "want a name or * after the dot (other names stand in brackets and quotes: ['a b'])")
		return seg
	}
	seg.selectors = []selector{{named: true, name: p.s[start:p.i]}}
	return seg
}

// bracket reads a bracketed selection; p.i stands on the [.
func (p *pathParser) bracket() []selector {
	p.i++
	var sels []selector
	for p.err == nil {
		p.space()
		sels = append(sels, p.selector())
		p.space()
		switch {
		case p.err != nil:
		case p.i == len(p.s):
			p.fail(p.i, "the bracket is not closed")
		case p.s[p.i] == ',':
			p.i++
		case p.s[p.i] == ']':
			p.i++
			return sels
		case p.s[p.i] == ':':
			p.fail(p.i, "slices are not supported")
		default:
			p.fail(p.i, "want , or ] here")
		}
	}
	return nil
}

func (p *pathParser) selector() selector {
	if p.i == len(p.s) {
		p.fail(p.i, "the bracket is not closed")
		return selector{}
	}
	switch c := p.s[p.i]; {
	case c == '*':
		p.i++
		return selector{any: true}
	case c == '\'' || c == '"':
		return selector{named: true, name: p.quoted(c)}
	case c == '?':
		p.i++
		return selector{filter: p.filter()}
	case c == ':':
		p.fail(p.i, "slices are not supported")
	case c == '-':
		p.fail(p.i, "negative indexes are not supported")
	case '0' <= c && c <= '9':
		start, n := p.i, 0
		for ; p.i < len(p.s) && '0' <= p.s[p.i] && p.s[p.i] <= '9'; p.i++ {
			if n = n*10 + int(p.s[p.i]-'0'); n > maxRuleIndex {
				p.fail(start, "the index is too large")
				return selector{}
			}
		}
		if c == '0' && p.i > start+1 {
			p.fail(start, "an index has no leading zeros")
		}
		return selector{index: n}
	default:
		p.fail(p.i, "want a name in quotes, an index, * or a filter")
	}
	return selector{}
}

// quoted reads a string literal (RFC 9535 section 2.3.1.1).
func (p *pathParser) quoted(quote byte) string {
	open := p.i
	var b []byte
	for p.i++; p.i < len(p.s); {
		c := p.s[p.i]
		switch {
		case c == quote:
			p.i++
			return string(b)
		case c < 0x20:
			p.fail(p.i, "a control character stands in a name as \\u and four digits")
			return ""
		case c == '\\':
			b = p.escape(b, quote)
			if p.err != nil {
				return ""
			}
		default:
			r, n := utf8.DecodeRuneInString(p.s[p.i:])
			if r == utf8.RuneError && n == 1 {
				p.fail(p.i, "not UTF-8")
				return ""
			}
			b = append(b, p.s[p.i:p.i+n]...)
			p.i += n
		}
	}
	p.fail(open, "the quote is not closed")
	return ""
}

// escape reads one escape; p.i stands on the backslash.
func (p *pathParser) escape(b []byte, quote byte) []byte {
	at := p.i
	if at+1 == len(p.s) {
		p.fail(at, "the escape is cut")
		return b
	}
	c := p.s[at+1]
	p.i += 2
	switch c {
	case 'b':
		return append(b, '\b')
	case 'f':
		return append(b, '\f')
	case 'n':
		return append(b, '\n')
	case 'r':
		return append(b, '\r')
	case 't':
		return append(b, '\t')
	case '/', '\\', quote:
		return append(b, c)
	case 'u':
		u, ok := hex4(p.s, p.i)
		if !ok {
			p.fail(at, "want four hex digits after \\u")
			return b
		}
		p.i += 4
		if isHighSurrogate(u) && strings.HasPrefix(p.s[p.i:], `\u`) {
			if low, ok := hex4(p.s, p.i+2); ok && isLowSurrogate(low) {
				p.i += 6
				return utf8.AppendRune(b, pairRune(u, low))
			}
		}
		if isSurrogate(u) {
			p.fail(at, "half a surrogate pair")
			return b
		}
		return utf8.AppendRune(b, rune(u))
	}
	p.fail(at, "no such escape")
	return b
}

func (p *pathParser) space() {
	for p.i < len(p.s) && isPathSpace(p.s[p.i]) {
		p.i++
	}
}

func isPathSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// isNameRune says whether r may stand in a name after a dot (RFC 9535,
// member-name-shorthand).
func isNameRune(r rune, first bool) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '_', r >= 0x80:
		return true
	case '0' <= r && r <= '9':
		return !first
	}
	return false
}

func isShorthand(name []byte) bool {
	if len(name) == 0 {
		return false
	}
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRune(name[i:])
		if r == utf8.RuneError && n == 1 || !isNameRune(r, i == 0) {
			return false
		}
		i += n
	}
	return true
}

// Bounds of a path as text.
const (
	maxPathName = 128
	maxPath     = 2048
	cutMark     = "…"
)

// appendName appends the step of a member name: .name, or ['name'] in the form
// of normalised paths (RFC 9535 section 2.7). name is a string's text as
// unescape makes it.
func appendName(b, name []byte) []byte {
	if len(name) > maxPathName {
		n := maxPathName
		for n > 0 && !utf8.RuneStart(name[n]) {
			n--
		}
		name = append(append(make([]byte, 0, n+len(cutMark)), name[:n]...), cutMark...)
	}
	if isShorthand(name) {
		return append(append(b, '.'), name...)
	}
	b = append(b, '[', '\'')
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRune(name[i:])
		switch {
		case r == '\'' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\b':
			b = append(b, '\\', 'b')
		case r == '\f':
			b = append(b, '\\', 'f')
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\t':
			b = append(b, '\\', 't')
		case r < 0x20:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r) // U+FFFD for what is no UTF-8
		}
		i += n
	}
	return append(b, '\'', ']')
}
