package diff

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// This file is about JSON strings: what their escapes stand for, compared and
// written without making a Go string of them first.

func isSurrogate(u uint32) bool     { return 0xd800 <= u && u < 0xe000 }
func isHighSurrogate(u uint32) bool { return 0xd800 <= u && u < 0xdc00 }
func isLowSurrogate(u uint32) bool  { return 0xdc00 <= u && u < 0xe000 }

func pairRune(high, low uint32) rune { return rune((high-0xd800)<<10 | (low - 0xdc00) + 0x10000) }

func hexDigit(c byte) (uint32, bool) {
	switch {
	case '0' <= c && c <= '9':
		return uint32(c - '0'), true
	case 'a' <= c && c <= 'f':
		return uint32(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return uint32(c-'A') + 10, true
	}
	return 0, false
}

// hex4 reads four hex digits at s[i:].
func hex4[T string | []byte](s T, i int) (uint32, bool) {
	if i+4 > len(s) {
		return 0, false
	}
	var u uint32
	for k := i; k < i+4; k++ {
		d, ok := hexDigit(s[k])
		if !ok {
			return 0, false
		}
		u = u<<4 | d
	}
	return u, true
}

// rawByte marks the code of a byte that is no UTF-8, so that it is equal to
// the same byte and to no character. Surrogate codes are those of lone
// escapes, which can't stand in UTF-8.
const rawByte = 1 << 24

// unit reads one character of a string's source text (without the quotes,
// escapes checked by the tokenizer) and gives its code and length.
func unit(b []byte) (code uint32, n int) {
	c := b[0]
	if c < utf8.RuneSelf && c != '\\' {
		return uint32(c), 1
	}
	if c != '\\' {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return rawByte | uint32(c), 1
		}
		return uint32(r), n
	}
	switch b[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		u, _ := hex4(b, 2)
		if isHighSurrogate(u) && len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
			if low, ok := hex4(b, 8); ok && isLowSurrogate(low) {
				return uint32(pairRune(u, low)), 12
			}
		}
		return u, 6
	}
	return uint32(b[1]), 2 // ", \ and /
}

// equalText says whether two strings' source texts stand for the same text.
func equalText(a, b []byte, escA, escB bool) bool {
	if !escA && !escB {
		return bytes.Equal(a, b)
	}
	for len(a) > 0 && len(b) > 0 {
		ca, na := unit(a)
		cb, nb := unit(b)
		if ca != cb {
			return false
		}
		a, b = a[na:], b[nb:]
	}
	return len(a) == 0 && len(b) == 0
}

// unescape appends the text that a string's source text stands for. Lone
// surrogates keep their escape; bytes that are no UTF-8 are kept.
func unescape(dst, src []byte) []byte {
	for len(src) > 0 {
		i := bytes.IndexByte(src, '\\')
		if i < 0 {
			return append(dst, src...)
		}
		dst = append(dst, src[:i]...)
		src = src[i:]
		code, n := unit(src)
		if isSurrogate(code) {
			dst = fmt.Appendf(dst, `\u%04x`, code)
		} else {
			dst = utf8.AppendRune(dst, rune(code))
		}
		src = src[n:]
	}
	return dst
}
