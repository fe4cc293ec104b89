package redact

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// jsonPath is a compiled path of RFC 9535: names, indexes, wildcards and
// descendants. What it names is secret with everything below.
type jsonPath []segment

type segment struct {
	name       string
	index      int // for isIndex
	isIndex    bool
	wildcard   bool
	descendant bool
}

// maxSegments bounds a path, so that the places reached in it fit into one
// word.
const maxSegments = 63

// element is one step of the place where a walk stands: a member or an index.
type pathElement struct {
	name    string
	index   int
	isIndex bool
}

func (g *segment) matches(e pathElement) bool {
	switch {
	case g.wildcard:
		return true
	case g.isIndex:
		return e.isIndex && e.index == g.index
	}
	return !e.isIndex && e.name == g.name
}

// step advances the set of places reached in p by one element. Bit k stands
// for "the first k segments are matched"; bit len(p) is a match.
func (p jsonPath) step(reached uint64, e pathElement) uint64 {
	var next uint64
	for k := range p {
		if reached&(1<<k) == 0 {
			continue
		}
		if p[k].descendant {
			next |= 1 << k
		}
		if p[k].matches(e) {
			next |= 1 << (k + 1)
		}
	}
	return next
}

// compilePath reads a path. Errors give the byte (from 1).
func compilePath(s string) (jsonPath, error) {
	var p jsonPath
	fail := func(at int, format string, args ...any) error {
		return fmt.Errorf("%q at byte %d: %s", s, at+1, fmt.Sprintf(format, args...))
	}
	i := 1
	for i < len(s) {
		var g segment
		switch {
		case strings.HasPrefix(s[i:], ".."):
			g.descendant = true
			i += 2
			if i < len(s) && s[i] == '[' {
				break
			}
			fallthrough
		case s[i] == '.':
			if !g.descendant {
				i++
			}
			if i < len(s) && s[i] == '*' {
				g.wildcard = true
				i++
				break
			}
			from := i
			for i < len(s) && s[i] != '.' && s[i] != '[' && s[i] != ' ' && s[i] != '*' {
				i++
			}
			if i == from {
				return nil, fail(from, "a name or * is missing")
			}
			g.name = s[from:i]
		case s[i] == '[':
		default:
			return nil, fail(i, "want . or [")
		}
		if i < len(s) && s[i] == '[' && g.name == "" && !g.wildcard {
			n, err := g.bracket(s[i:])
			if err != nil {
				return nil, fail(i+n, "%s", err)
			}
			i += n
		}
		p = append(p, g)
	}
	if len(p) == 0 {
		return nil, fail(1, "names the whole body; say what of it")
	}
	if len(p) > maxSegments {
		return nil, fail(len(s)-1, "more than %d segments", maxSegments)
	}
	return p, nil
}

// bracket reads ['name'], ["name"], [n] or [*] and says how long it is, or
// where it goes wrong.
func (g *segment) bracket(s string) (int, error) {
	if len(s) < 3 {
		return 0, fmt.Errorf("unclosed [")
	}
	switch q := s[1]; {
	case q == '*':
		g.wildcard = true
		if s[2] != ']' {
			return 2, fmt.Errorf("want ]")
		}
		return 3, nil
	case q == '\'' || q == '"':
		name, n := quotedName(s[1:], q)
		if n == 0 {
			return 1, fmt.Errorf("unclosed %c", q)
		}
		if 1+n >= len(s) || s[1+n] != ']' {
			return 1 + n, fmt.Errorf("want ]")
		}
		g.name = name
		return n + 2, nil
	case '0' <= q && q <= '9':
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return 0, fmt.Errorf("unclosed [")
		}
		n, err := strconv.Atoi(s[1:end])
		if err != nil {
			return 1, fmt.Errorf("want an index, a quoted name or *")
		}
		g.index, g.isIndex = n, true
		return end + 1, nil
	}
	return 1, fmt.Errorf("want an index, a quoted name or * (slices and filters are not read here)")
}

// quotedName reads a quoted name with the escapes of RFC 9535 section 2.3.1 and
// says how long it is with its quotes, 0 when it does not end.
func quotedName(s string, q byte) (string, int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == q:
			return b.String(), i + 1
		case c == '\\' && i+1 < len(s):
			r, n := unescape(s[i:])
			b.WriteString(r)
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return "", 0
}

// place reads the path of a difference into the elements that it names. A path
// that was cut, or is none, is taken apart at its punctuation.
func place(s string) []pathElement {
	if s == "" || s == "$" {
		return nil
	}
	p, err := compilePath(s)
	if !strings.HasPrefix(s, "$") || err != nil {
		var elements []pathElement
		for _, name := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("$.[]'\"…/", r) }) {
			elements = append(elements, pathElement{name: name})
		}
		return elements
	}
	elements := make([]pathElement, len(p))
	for i, g := range p {
		elements[i] = pathElement{name: g.name, index: g.index, isIndex: g.isIndex || g.wildcard}
	}
	return elements
}

// unescape reads one escape sequence of a JSON string or a quoted name; s
// starts with its backslash and has a byte more. It returns the text and how
// many bytes of s it took. Lone surrogates become U+FFFD.
func unescape(s string) (string, int) {
	switch s[1] {
	case 'b':
		return "\b", 2
	case 'f':
		return "\f", 2
	case 'n':
		return "\n", 2
	case 'r':
		return "\r", 2
	case 't':
		return "\t", 2
	case 'u':
		r, ok := hex4(s)
		if !ok {
			return "u", 2
		}
		if r < 0xd800 || r > 0xdfff {
			return string(rune(r)), 6
		}
		if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
			if low, ok := hex4(s[6:]); ok && r < 0xdc00 && low >= 0xdc00 && low <= 0xdfff {
				return string(rune(0x10000 + (r-0xd800)<<10 + (low - 0xdc00))), 12
			}
		}
		return string(utf8.RuneError), 6
	}
	return s[1:2], 2
}

func hex4(s string) (int, bool) {
	if len(s) < 6 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return int(n), err == nil && isHex(s[2])
}
