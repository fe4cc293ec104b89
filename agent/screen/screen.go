// Package screen makes texts of unknown origin fit for a terminal: harmless,
// and as wide as they may be. In: text, as it was captured or written by others.
// Out: the same for the eye, with nothing in it that a terminal acts on.
package screen

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes a captured text harmless and readable on a terminal: everything
// that is not a visible character or an ASCII space is spelled out, so that it
// can neither move the cursor nor change the title, colours or the direction of
// writing. With ascii everything beyond ASCII is spelled out too.
func Escape(s string, ascii bool) string {
	if visible(s, ascii) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\r':
			out.WriteString(`\r`)
		case r == '\t':
			out.WriteString(`\t`)
		case shown(r) && (r < 0x80 || !ascii):
			out.WriteString(s[i : i+n])
		case r < 0x100:
			fmt.Fprintf(&out, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
		i += n
	}
	return out.String()
}

func visible(s string, ascii bool) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == 0x7f || c >= 0x80 && ascii {
			return false
		} else if c >= 0x80 {
			if !utf8.ValidString(s) {
				return false
			}
			for _, r := range s[i:] {
				if !shown(r) {
					return false
				}
			}
			return true
		}
	}
	return true
}

// shown says whether a character may go to the terminal. unicode.IsPrint leaves
// out control and format characters (those that turn the direction of writing
// among them) and every space but the ASCII one.
func shown(r rune) bool { return unicode.IsPrint(r) }

// Cells cuts a text into what takes a place of its own on the screen: a
// character with the marks that combine with it. Escapes may be cut apart.
func Cells(s string) []string {
	var cells []string
	start := 0
	for i, r := range s {
		if i > start && runeWidth(r) > 0 {
			cells = append(cells, s[start:i])
			start = i
		}
	}
	if start < len(s) {
		cells = append(cells, s[start:])
	}
	return cells
}

// Width is how many places a text takes.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// runeWidth is 0 for marks that combine, 2 for the wide characters of East Asia
// and for pictures (Unicode Standard Annex 11, classes W and F), else 1.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r < 0x1100:
		return 1
	case r <= 0x115f, r == 0x2329, r == 0x232a, 0x2e80 <= r && r <= 0xa4cf && r != 0x303f, 0xa960 <= r && r <= 0xa97f,
		0xac00 <= r && r <= 0xd7a3, 0xf900 <= r && r <= 0xfaff, 0xfe30 <= r && r <= 0xfe6f, 0xff00 <= r && r <= 0xff60,
		0xffe0 <= r && r <= 0xffe6, 0x1f300 <= r && r <= 0x1f64f, 0x1f680 <= r && r <= 0x1f6ff, 0x1f900 <= r && r <= 0x1f9ff,
		0x1fa70 <= r && r <= 0x1faff, 0x20000 <= r && r <= 0x3fffd:
		return 2
	}
	return 1
}

// Pad fills up with spaces to n places.
func Pad(s string, n int) string {
	if w := Width(s); w < n {
		return s + strings.Repeat(" ", n-w)
	}
	return s
}

// Cut cuts a text that is escaped to n places; more stands for the rest.
func Cut(s string, n int, more string) string {
	if Width(s) <= n {
		return s
	}
	n -= Width(more)
	used := 0
	var out strings.Builder
	for _, c := range Cells(s) {
		if used += Width(c); used > n {
			break
		}
		out.WriteString(c)
	}
	return out.String() + more
}

// CutMiddle cuts an escaped text to n places in its middle: the ends of a path
// say most.
func CutMiddle(s string, n int, more string) string {
	if Width(s) <= n {
		return s
	}
	cells := Cells(s)
	n -= Width(more)
	head, tail := 0, 0
	i, k := 0, len(cells)
	for i < k {
		if head <= tail {
			if head += Width(cells[i]); head+tail > n {
				break
			}
			i++
		} else {
			if tail += Width(cells[k-1]); head+tail > n {
				break
			}
			k--
		}
	}
	return strings.Join(cells[:i], "") + more + strings.Join(cells[k:], "")
}
