package diff

import (
	"encoding/binary"
	"math/bits"
)

// token is what the tokenizer found.
type token uint8

const (
	tokenBad token = iota // the text is no JSON; tokens.pos says where
	tokenEnd              // one whole value, and nothing after it
	tokenObject
	tokenEndObject
	tokenArray
	tokenEndArray
	tokenKey
	tokenString
	tokenNumber
	tokenTrue
	tokenFalse
	tokenNull
)

// expect is what may come next.
type expect uint8

const (
	expectValue    expect = iota
	expectFirst           // an array's first element or its end
	expectFirstKey        // an object's first name or its end
	expectMore            // a comma or an end
)

// tokens reads the tokens of one JSON text (RFC 8259), checking all of its
// grammar. It makes no copy and, but for nesting deeper than 256, no garbage.
// Bytes in strings that are no UTF-8 are let through: they differ from
// everything but themselves.
type tokens struct {
	b   []byte
	pos int
	// start and end are the bounds of the last string (without its quotes),
	// number or literal; start of a bracket too.
	start, end int
	// escaped says that the last string has a backslash.
	escaped bool
	expect  expect
	// depth is the number of open brackets, kinds a bit for each: 1 is an
	// object.
	depth int
	kinds []uint64
	first [4]uint64
}

func (t *tokens) reset(b []byte) {
	t.b, t.pos, t.depth, t.expect = b, 0, 0, expectValue
	t.kinds = t.first[:]
}

// mark is a place between two tokens. The kinds of the brackets that are open
// there are kept apart, in memory of whoever keeps the mark.
type mark struct {
	pos    int
	depth  int
	expect expect
}

func (t *tokens) mark() mark { return mark{t.pos, t.depth, t.expect} }

// back goes back to a mark that is at most one token old.
func (t *tokens) back(m mark) { t.pos, t.depth, t.expect = m.pos, m.depth, m.expect }

// resume starts at a mark in b, which is the same as the marked text up to
// there. kinds are those of the brackets that are open there; they are copied.
func (t *tokens) resume(b []byte, m mark, kinds []uint64) {
	t.b = b
	t.back(m)
	if t.kinds = t.first[:]; len(kinds) > len(t.first) {
		t.kinds = make([]uint64, len(kinds))
	}
	copy(t.kinds, kinds)
}

func (t *tokens) inObject() bool {
	d := t.depth - 1
	return t.kinds[d>>6]>>(d&63)&1 == 1
}

func (t *tokens) push(object bool) {
	w := t.depth >> 6
	if w == len(t.kinds) {
		t.kinds = append(t.kinds, 0)
	}
	bit := uint64(1) << (t.depth & 63)
	if object {
		t.kinds[w] |= bit
		t.expect = expectFirstKey
	} else {
		t.kinds[w] &^= bit
		t.expect = expectFirst
	}
	t.depth++
}

func (t *tokens) pop() {
	t.depth--
	t.expect = expectMore
}

// space skips white space and says whether anything is left.
func (t *tokens) space() bool {
	b := t.b
	i := t.pos
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	t.pos = i
	return i < len(b)
}

// next gives the next token. After tokenBad and tokenEnd it is not called
// again.
func (t *tokens) next() token {
	if !t.space() {
		if t.expect == expectMore && t.depth == 0 {
			return tokenEnd
		}
		return tokenBad
	}
	c := t.b[t.pos]
	switch t.expect {
	case expectMore:
		if t.depth == 0 {
			return tokenBad
		}
		object := t.inObject()
		if c != ',' {
			return t.closing(c, object)
		}
		t.pos++
		if !t.space() {
			return tokenBad
		}
		if object {
			return t.key()
		}
	case expectFirst:
		if c == ']' {
			return t.closing(c, false)
		}
	case expectFirstKey:
		if c == '}' {
			return t.closing(c, true)
		}
		return t.key()
	}
	return t.value()
}

func (t *tokens) closing(c byte, object bool) token {
	switch {
	case object && c == '}':
		t.start = t.pos
		t.pos++
		t.end = t.pos
		t.pop()
		return tokenEndObject
	case !object && c == ']':
		t.start = t.pos
		t.pos++
		t.end = t.pos
		t.pop()
		return tokenEndArray
	}
	return tokenBad
}

// key reads a name and the colon behind it.
func (t *tokens) key() token {
	if t.b[t.pos] != '"' || !t.str() || !t.space() || t.b[t.pos] != ':' {
		return tokenBad
	}
	t.pos++
	t.expect = expectValue
	return tokenKey
}

func (t *tokens) value() token {
	t.start = t.pos
	t.expect = expectMore
	switch c := t.b[t.pos]; c {
	case '{':
		t.pos++
		t.push(true)
		return tokenObject
	case '[':
		t.pos++
		t.push(false)
		return tokenArray
	case '"':
		if t.str() {
			return tokenString
		}
	case 't':
		if t.literal("true") {
			return tokenTrue
		}
	case 'f':
		if t.literal("false") {
			return tokenFalse
		}
	case 'n':
		if t.literal("null") {
			return tokenNull
		}
	default:
		if (c == '-' || '0' <= c && c <= '9') && t.number() {
			return tokenNumber
		}
	}
	return tokenBad
}

func (t *tokens) literal(word string) bool {
	if len(t.b)-t.pos < len(word) || string(t.b[t.pos:t.pos+len(word)]) != word {
		return false
	}
	t.pos += len(word)
	t.end = t.pos
	return true
}

// special has a bit set in the first byte of x that is a quote, a backslash or
// a control character, and 0 when none is. Bits above that byte mean nothing.
func special(x uint64) uint64 {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	quote, back := x^ones*'"', x^ones*'\\'
	return ((quote-ones)&^quote | (back-ones)&^back | (x-ones*0x20)&^x) & tops
}

// str reads a string; pos stands on the opening quote.
func (t *tokens) str() bool {
	b := t.b
	i := t.pos + 1
	t.start = i
	t.escaped = false
	for i < len(b) {
		// Eight bytes at once while none of them is special.
		if i+8 <= len(b) {
			m := special(binary.LittleEndian.Uint64(b[i:]))
			if m == 0 {
				i += 8
				continue
			}
			i += bits.TrailingZeros64(m) >> 3
		}
		switch c := b[i]; {
		case c == '"':
			t.end = i
			t.pos = i + 1
			return true
		case c == '\\':
			t.escaped = true
			if i+1 == len(b) {
				t.pos = i
				return false
			}
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if _, ok := hex4(b, i+2); !ok {
					t.pos = i
					return false
				}
				i += 6
			default:
				t.pos = i
				return false
			}
		case c < 0x20:
			t.pos = i
			return false
		default:
			i++
		}
	}
	t.pos = i
	return false
}

// number reads a number (RFC 8259 section 6); pos stands on its first byte.
func (t *tokens) number() bool {
	b := t.b
	i := t.pos
	if b[i] == '-' {
		i++
	}
	digits := func() bool {
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > from
	}
	ok := true
	if i < len(b) && b[i] == '0' {
		i++
	} else {
		ok = digits()
	}
	if ok && i < len(b) && b[i] == '.' {
		i++
		ok = digits()
	}
	if ok && i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		ok = digits()
	}
	t.pos, t.end = i, i
	return ok
}
