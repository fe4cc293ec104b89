package diff

import (
	"bytes"
	"cmp"
	"math/big"
	"strings"
)

// This file is about the filters of rules (RFC 9535 section 2.3.5): existence
// tests, comparisons with a literal, &&, || and !. Functions, comparisons of two
// queries and queries from the root are refused by name.

// filterOp is what a node of a filter does.
type filterOp uint8

const (
	filterOr filterOp = iota
	filterAnd
	filterNot
	filterExists
	filterEqual
	filterUnequal
	filterLess
	filterLessEqual
	filterGreater
	filterGreaterEqual
)

// maxFilterDepth bounds the parentheses and negations of a filter that are open
// at once.
const maxFilterDepth = 64

// filter is one logical expression.
type filter struct {
	op   filterOp
	l, r *filter // of or, and; not has l alone
	// at is where exists and comparisons look, from the value that is tested.
	at []pathStep
	// literal is what it is compared with: the source text of a number, the
	// text of a string.
	kind    ValueKind
	literal []byte
	isTrue  bool
}

// pathStep is a step of a singular query: a name or an index.
type pathStep struct {
	named bool
	name  string
	index int
}

// holds says whether the value at node i of t passes.
func (f *filter) holds(t *tree, i int) bool {
	switch f.op {
	case filterOr:
		return f.l.holds(t, i) || f.r.holds(t, i)
	case filterAnd:
		return f.l.holds(t, i) && f.r.holds(t, i)
	case filterNot:
		return !f.l.holds(t, i)
	}
	i = t.find(i, f.at)
	if f.op == filterExists {
		return i >= 0
	}
	if i < 0 {
		return f.op == filterUnequal // nothing is equal to no literal
	}
	kind := t.nodes[i].kind()
	if typeOf(kind) != f.kind {
		return f.op == filterUnequal
	}
	order := 0
	switch f.kind {
	case ValueNumber:
		if f.op == filterEqual || f.op == filterUnequal {
			return equalNumber(t.raw(i), f.literal) == (f.op == filterEqual)
		}
		order = compareNumbers(t.raw(i), f.literal)
	case ValueString:
		text := t.raw(i)
		if kind == nodeEscaped {
			text = unescape(nil, text)
		}
		order = bytes.Compare(text, f.literal)
	case ValueBool:
		if (kind == nodeTrue) != f.isTrue {
			return f.op == filterUnequal
		}
	}
	switch f.op {
	case filterEqual:
		return order == 0
	case filterUnequal:
		return order != 0
	case filterLess:
		return order < 0 && f.ordered()
	case filterGreater:
		return order > 0 && f.ordered()
	case filterLessEqual:
		return order <= 0
	}
	return order >= 0
}

// ordered says whether values of the literal's type have an order. <= and >=
// are true of others too, when they are equal.
func (f *filter) ordered() bool { return f.kind == ValueNumber || f.kind == ValueString }

// find follows a singular query from node i, -1 when it leads to nothing. Of a
// name that stands more than once it takes the first.
func (t *tree) find(i int, at []pathStep) int {
next:
	for _, s := range at {
		end := i + t.nodes[i].size()
		switch kind := t.nodes[i].kind(); {
		case s.named && kind == nodeObject:
			for k := i + 1; k < end; k += 1 + t.nodes[k+1].size() {
				if t.is(k, s.name) {
					i = k + 1
					continue next
				}
			}
		case !s.named && kind == nodeArray:
			k := i + 1
			for n := s.index; n > 0 && k < end; n-- {
				k += t.nodes[k].size()
			}
			if k < end {
				i = k
				continue next
			}
		}
		return -1
	}
	return i
}

// is says whether the name or string at node k stands for that text.
func (t *tree) is(k int, text string) bool {
	if t.nodes[k].kind() == nodeEscaped {
		return string(unescape(nil, t.raw(k))) == text
	}
	return string(t.raw(k)) == text
}

// compareNumbers orders two numbers' texts by their values.
func compareNumbers(a, b []byte) int {
	x, y := parseDecimal(a), parseDecimal(b)
	switch {
	case equalNumber(a, b):
		return 0
	case x.sign() != y.sign():
		return cmp.Compare(x.sign(), y.sign())
	}
	order := x.compareMagnitude(&y)
	if x.negative {
		return -order
	}
	return order
}

func (d *decimal) sign() int {
	switch {
	case d.digits == 0:
		return 0
	case d.negative:
		return -1
	}
	return 1
}

// compareMagnitude orders two numbers that are not zero without their signs.
func (d *decimal) compareMagnitude(o *decimal) int {
	a, okA := d.smallExponent()
	b, okB := o.smallExponent()
	order := 0
	if okA && okB {
		order = cmp.Compare(a+int64(d.digits), b+int64(o.digits))
	} else {
		x, _ := new(big.Int).SetString(d.bigExponent(), 10)
		y, _ := new(big.Int).SetString(o.bigExponent(), 10)
		order = x.Add(x, big.NewInt(int64(d.digits))).Cmp(y.Add(y, big.NewInt(int64(o.digits))))
	}
	if order != 0 {
		return order
	}
	m, n := d.mantissa, o.mantissa
	for len(m) > 0 && len(n) > 0 {
		switch {
		case m[0] == '.':
			m = m[1:]
			continue
		case n[0] == '.':
			n = n[1:]
			continue
		case m[0] != n[0]:
			return cmp.Compare(m[0], n[0])
		}
		m, n = m[1:], n[1:]
	}
	return cmp.Compare(len(m), len(n))
}

// filter reads a logical expression; p.i stands behind the question mark.
func (p *pathParser) filter() *filter {
	f := p.or()
	p.space()
	return f
}

func (p *pathParser) or() *filter {
	f := p.and()
	for p.err == nil && p.word("||") {
		f = &filter{op: filterOr, l: f, r: p.and()}
	}
	return f
}

func (p *pathParser) and() *filter {
	f := p.basic()
	for p.err == nil && p.word("&&") {
		f = &filter{op: filterAnd, l: f, r: p.basic()}
	}
	return f
}

// word reads an operator, with white space before it.
func (p *pathParser) word(w string) bool {
	p.space()
	if !strings.HasPrefix(p.s[p.i:], w) {
		return false
	}
	p.i += len(w)
	return true
}

// basic reads a parenthesis, a negation, an existence test or a comparison.
func (p *pathParser) basic() *filter {
	p.space()
	if p.deep++; p.deep > maxFilterDepth {
		p.fail(p.i, "the filter is nested too deep")
	}
	defer func() { p.deep-- }()
	if p.err != nil {
		return nil
	}
	if p.i == len(p.s) {
		p.fail(p.i, "the filter is cut")
		return nil
	}
	start := p.i
	switch c := p.s[p.i]; {
	case c == '!':
		p.i++
		p.space()
		if p.i == len(p.s) || p.s[p.i] != '(' && p.s[p.i] != '@' {
			p.fail(p.i, "want ( or @ after the !")
			return nil
		}
		paren := p.s[p.i] == '('
		f := p.basic()
		if p.err == nil && f.op >= filterEqual && !paren {
			p.fail(start, "a comparison is negated in parentheses: !(...)")
		}
		return &filter{op: filterNot, l: f}
	case c == '(':
		p.i++
		f := p.or()
		if p.err == nil && !p.word(")") {
			p.fail(start, "the parenthesis is not closed")
		}
		return f
	case c == '@':
		return p.test()
	}
	// A literal first, as in 'a' == @.b: turned around.
	f := &filter{}
	if !p.literal(f) {
		return nil
	}
	op, ok := p.comparison()
	if !ok {
		p.fail(p.i, "want a comparison after the literal")
		return nil
	}
	p.space()
	if p.i == len(p.s) || p.s[p.i] != '@' {
		p.fail(p.i, "want @ here: one side of a comparison is a query, the other a literal")
		return nil
	}
	f.at = p.singular()
	switch op {
	case filterLess:
		op = filterGreater
	case filterGreater:
		op = filterLess
	case filterLessEqual:
		op = filterGreaterEqual
	case filterGreaterEqual:
		op = filterLessEqual
	}
	f.op = op
	return f
}

// test reads an existence test or a comparison that begins with a query.
func (p *pathParser) test() *filter {
	f := &filter{op: filterExists, at: p.singular()}
	if p.err != nil {
		return nil
	}
	op, ok := p.comparison()
	if !ok {
		return f
	}
	f.op = op
	p.space()
	if p.i < len(p.s) && (p.s[p.i] == '@' || p.s[p.i] == '$') {
		p.fail(p.i, "comparisons of two queries are not supported")
		return nil
	}
	if !p.literal(f) {
		return nil
	}
	return f
}

func (p *pathParser) comparison() (filterOp, bool) {
	for _, o := range [...]struct {
		word string
		op   filterOp
	}{
		{"==", filterEqual}, {"!=", filterUnequal}, {"<=", filterLessEqual}, {">=", filterGreaterEqual}, {"<", filterLess}, {">", filterGreater},
	} {
		if p.word(o.word) {
			return o.op, true
		}
	}
	return 0, false
}

// singular reads a query of names and indexes from @.
func (p *pathParser) singular() []pathStep {
	p.i++
	var at []pathStep
	for p.err == nil {
		// White space may stand between segments, and behind the last.
		k := p.i
		p.space()
		if p.i == len(p.s) || p.s[p.i] != '.' && p.s[p.i] != '[' {
			p.i = k
			break
		}
		start := p.i
		seg := p.segment()
		if p.err != nil {
			return nil
		}
		if seg.descendant || len(seg.selectors) != 1 || seg.selectors[0].any || seg.selectors[0].filter != nil {
			p.fail(start, "in a filter only one name or index is a step")
			return nil
		}
		sel := seg.selectors[0]
		at = append(at, pathStep{named: sel.named, name: sel.name, index: sel.index})
	}
	return at
}

// literal reads a string, a number, true, false or null into f.
func (p *pathParser) literal(f *filter) bool {
	p.space()
	if p.i == len(p.s) {
		p.fail(p.i, "want a literal here")
		return false
	}
	switch c := p.s[p.i]; {
	case c == '\'' || c == '"':
		f.kind, f.literal = ValueString, []byte(p.quoted(c))
		return p.err == nil
	case c == '-' || '0' <= c && c <= '9':
		tk := tokens{b: []byte(p.s), pos: p.i}
		if !tk.number() {
			p.fail(p.i, "no number")
			return false
		}
		f.kind, f.literal = ValueNumber, []byte(p.s[p.i:tk.end])
		p.i = tk.end
		return true
	}
	for _, w := range [...]struct {
		word   string
		kind   ValueKind
		isTrue bool
	}{{"true", ValueBool, true}, {"false", ValueBool, false}, {"null", ValueNull, false}} {
		rest, ok := strings.CutPrefix(p.s[p.i:], w.word)
		if ok && (rest == "" || !isNameByte(rest[0])) {
			p.i += len(w.word)
			f.kind, f.isTrue = w.kind, w.isTrue
			return true
		}
	}
	switch {
	case p.s[p.i] == '$':
		p.fail(p.i, "queries from the root are not supported in a filter")
	case isNameByte(p.s[p.i]):
		p.fail(p.i, "functions are not supported; a string stands in quotes")
	default:
		p.fail(p.i, "want @, a literal, ( or ! here")
	}
	return false
}

func isNameByte(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80
}
