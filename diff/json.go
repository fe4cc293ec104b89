package diff

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"strconv"
)

// This file compares two JSON texts: first token by token, which settles all
// pairs that differ only in white space, escapes and the spelling of numbers;
// then as trees, in which members are found by name and array elements are
// laid beside each other.

// The fixed words of Detail for JSON.
const (
	detailDepth     = "nested deeper than the limit"
	detailValues    = "more values than the limit"
	detailDuplicate = "the name stands more than once in its object"
)

// step is one step of the place at which the walk stands: a member's name (a
// node of one tree) or an index.
type step struct {
	candidate bool  // whose tree the name is in
	name      int32 // -1 for an index
	index     int
}

// entry is a name that one or both of two objects have. a and b are its nodes,
// -1 without one.
type entry struct {
	a, b int32
	dup  int32 // into dups; -1 when no side has the name twice
}

// dup lists the places of a name that one side has more than once: two chains
// of links, counted.
type dup struct {
	na, nb, headA, tailA, headB, tailB int32
}

type link struct{ node, next int32 }

// walker is the memory of a walk over two trees. Its slices are stacks: each
// level takes what it needs at the end and gives it back.
type walker struct {
	rules      *Rules
	seed       maphash.Seed
	tokA, tokB tokens
	kinds      []uint64
	a, b       tree
	at         states
	base       string // the path of what is compared: $ for a body
	steps      []step
	entries    []entry
	table      []int32
	dups       []dup
	links      []link
	kids       []int32
	hashes     []uint64
	text       []byte
	name       []byte
	looked     int // values that same has looked at
	// loose says that a hash was made in which values count as equal that are
	// not: whoever pairs by hashes must compare.
	loose bool
	// refText and candText are what two strings stand for.
	refText, candText []byte
}

// spare says whether there is budget to look at values ahead.
func (w *walker) spare() bool { return w.looked < len(w.a.nodes)+len(w.b.nodes) }

// release forgets the bodies, and memory that is too large to keep.
func (w *walker) release() {
	w.a.text, w.b.text, w.tokA.b, w.tokB.b = nil, nil, nil, nil
	if cap(w.a.nodes)+cap(w.b.nodes)+cap(w.entries)+cap(w.table)+cap(w.kids)+cap(w.hashes)+cap(w.links)+cap(w.text)+cap(w.name)+cap(w.refText)+cap(w.candText) > 1<<17 {
		*w = walker{rules: w.rules, seed: w.seed}
	}
}

var utf8BOM = [3]byte{0xef, 0xbb, 0xbf}

// jsonBody compares two bodies whose media types are JSON. A text that is no
// JSON makes it a comparison of bytes, and is said.
func (c *comparison) jsonBody(ref, cand []byte) {
	// RFC 8259 section 8.1 forbids the mark, and many readers stumble over it.
	refJSON, candJSON := c.cutMarks(ref, cand)
	refBOM, candBOM := len(refJSON) < len(ref), len(candJSON) < len(cand)
	w := &c.walker
	lim := &c.rules.limits
	// What is the same to the byte is read once, for both.
	w.tokA.reset(refJSON)
	w.a.begin(refJSON)
	w.a.grow(&w.tokA, lim.depth, lim.values, firstDifference(refJSON, candJSON))
	fork := w.tokA.mark()
	w.kinds = append(w.kinds[:0], w.tokA.kinds[:(fork.depth+63)/64]...)
	w.tokB.resume(candJSON, fork, w.kinds)
	if w.sameTokens() {
		return
	}
	w.b.branch(candJSON, &w.a)
	w.tokA.resume(refJSON, fork, w.kinds)
	w.tokB.resume(candJSON, fork, w.kinds)
	gotRef, offRef := w.a.grow(&w.tokA, lim.depth, lim.values, noLimit)
	gotCand, offCand := w.b.grow(&w.tokB, lim.depth, lim.values, noLimit)
	if refBOM {
		offRef += len(utf8BOM)
	}
	if candBOM {
		offCand += len(utf8BOM)
	}
	badRef, badCand := gotRef == grownBad, gotCand == grownBad
	switch {
	case badRef && badCand:
		c.bytesBody(ref, cand, fmt.Sprintf("no JSON: the reference at byte %d, the candidate at byte %d; ", offRef, offCand))
	case badRef && gotCand == grownWhole:
		c.add(Difference{
			Kind: KindTypeChanged, Path: c.base.path(), Reference: c.bytesValue(ref, offRef), Candidate: c.nodeValue(&w.b, 0),
			Detail: fmt.Sprintf("the reference is no JSON at byte %d", offRef),
		})
	case badCand && gotRef == grownWhole:
		c.add(Difference{
			Kind: KindTypeChanged, Path: c.base.path(), Reference: c.nodeValue(&w.a, 0), Candidate: c.bytesValue(cand, offCand),
			Detail: fmt.Sprintf("the candidate is no JSON at byte %d", offCand),
		})
	case gotRef == grownFull || gotCand == grownFull:
		at := firstDifference(ref, cand)
		c.add(Difference{Kind: KindNotFullyCompared, Path: c.rootPath(), Reference: c.bytesValue(ref, at), Candidate: c.bytesValue(cand, at), Detail: detailValues})
	default:
		w.steps, w.looked, w.loose = w.steps[:0], 0, false
		w.at.reset(&c.rules.json, &w.a, &w.b)
		c.probes = 8 * (len(w.a.nodes) + len(w.b.nodes))
		w.base = c.base.path()
		for _, s := range c.base {
			w.at.step(s)
		}
		c.value(0, 0)
	}
}

// sameTexts is sameTokens for two whole texts.
func (w *walker) sameTexts(a, b []byte) bool {
	w.tokA.reset(a)
	w.tokB.reset(b)
	return w.sameTokens()
}

// sameTokens says whether two texts, from where their tokens stand, are JSON
// and have the same tokens in the same order, numbers and strings by value. It
// is sound for names that stand twice: every reader gets the same from both.
func (w *walker) sameTokens() bool {
	ta, tb := &w.tokA, &w.tokB
	a, b := ta.b, tb.b
	for {
		k := ta.next()
		if k != tb.next() {
			return false
		}
		switch k {
		case tokenBad:
			return false
		case tokenEnd:
			return true
		case tokenKey, tokenString:
			if !equalText(a[ta.start:ta.end], b[tb.start:tb.end], ta.escaped, tb.escaped) {
				return false
			}
		case tokenNumber:
			if !equalNumber(a[ta.start:ta.end], b[tb.start:tb.end]) {
				return false
			}
		}
	}
}

func typeOf(k nodeKind) ValueKind {
	switch k {
	case nodeNull:
		return ValueNull
	case nodeFalse, nodeTrue:
		return ValueBool
	case nodeNumber:
		return ValueNumber
	case nodeString, nodeEscaped:
		return ValueString
	case nodeArray, nodeDeepArray:
		return ValueArray
	}
	return ValueObject
}

// value compares node i of the reference with node j of the candidate and
// adds what differs.
func (c *comparison) value(i, j int) {
	if c.full {
		return
	}
	w := &c.walker
	c.probes--
	rule := c.ignoredBy()
	ka, kb := w.a.nodes[i].kind(), w.b.nodes[j].kind()
	typ := typeOf(ka)
	switch {
	case typ != typeOf(kb):
		c.addNodes(KindTypeChanged, i, j, "", rule)
	case ka == kb && bytes.Equal(w.a.raw(i), w.b.raw(j)):
	case rule != "":
		if !w.same(i, j) {
			c.addNodes(KindChanged, i, j, "", rule)
		}
	case ka == nodeDeepArray || ka == nodeDeepObject:
		if !w.sameTexts(w.a.raw(i), w.b.raw(j)) {
			c.addNodes(KindNotFullyCompared, i, j, detailDepth, "")
		}
	case typ == ValueObject:
		c.object(i, j)
	case typ == ValueArray:
		if k := w.at.array(); k >= 0 && c.rules.arrays[k].by != byOrder {
			c.unordered(&c.rules.arrays[k], i, j)
		} else {
			c.array(i, j)
		}
	case !w.sameScalar(i, j):
		c.addNodes(KindChanged, i, j, "", c.excusedBy(i, j, typ))
	}
}

// ignoredBy gives the name of the rule that ignores the place of the walk, ""
// without one.
func (c *comparison) ignoredBy() string {
	if k := c.walker.at.ignore(); k >= 0 {
		return c.rules.places[k]
	}
	return ""
}

// excusedBy gives the name of the rule by which two different values of one type
// count as equal, "" without one.
func (c *comparison) excusedBy(i, j int, typ ValueKind) string {
	w, r := &c.walker, c.rules
	if r.values == nil && len(r.equalities) == 0 {
		return ""
	}
	ref, cand := w.scalarText(&w.a, i, &w.refText), w.scalarText(&w.b, j, &w.candText)
	if len(ref) > maxRuleText || len(cand) > maxRuleText {
		return ""
	}
	if rule := r.textRule(nil, ref, cand, typ); rule != "" {
		return rule
	}
	for _, n := range w.at.top() {
		for _, k := range w.at.m.nodes[n].equal {
			if e := &r.equalities[k]; e.same(ref, cand, typ) {
				return e.rule
			}
		}
	}
	return ""
}

// scalarText is what the value at node i of t stands for; escapes are resolved
// into buf.
func (w *walker) scalarText(t *tree, i int, buf *[]byte) []byte {
	if t.nodes[i].kind() == nodeEscaped {
		*buf = unescape((*buf)[:0], t.raw(i))
		return *buf
	}
	return t.raw(i)
}

// sameScalar compares two values of one type that is neither array nor object.
func (w *walker) sameScalar(i, j int) bool {
	ka, kb := w.a.nodes[i].kind(), w.b.nodes[j].kind()
	switch typeOf(ka) {
	case ValueNumber:
		return equalNumber(w.a.raw(i), w.b.raw(j))
	case ValueString:
		return equalText(w.a.raw(i), w.b.raw(j), ka == nodeEscaped, kb == nodeEscaped)
	}
	return ka == kb
}

// same says whether two values are equal whatever the rules say.
func (w *walker) same(i, j int) bool {
	w.looked++
	ka, kb := w.a.nodes[i].kind(), w.b.nodes[j].kind()
	typ := typeOf(ka)
	switch {
	case typ != typeOf(kb):
		return false
	case ka == kb && bytes.Equal(w.a.raw(i), w.b.raw(j)):
		return true
	case ka == nodeDeepArray || ka == nodeDeepObject:
		return w.sameTexts(w.a.raw(i), w.b.raw(j))
	case typ == ValueArray:
		endA, endB := i+w.a.nodes[i].size(), j+w.b.nodes[j].size()
		i, j = i+1, j+1
		for i < endA && j < endB {
			if !w.same(i, j) {
				return false
			}
			i, j = i+w.a.nodes[i].size(), j+w.b.nodes[j].size()
		}
		return i == endA && j == endB
	case typ == ValueObject:
		m := w.match(i, j)
		defer w.unmatch(m)
		for k := m.entries; k < m.end; k++ {
			switch e := w.entries[k]; {
			case e.a < 0 || e.b < 0:
				return false
			case e.dup >= 0:
				if !w.sameDuplicates(e) {
					return false
				}
			case !w.same(int(e.a)+1, int(e.b)+1):
				return false
			}
		}
		return true
	}
	return w.sameScalar(i, j)
}

// sameDuplicates compares the values of a name that stands more than once: as
// many on both sides and equal pair by pair, so that first-wins, last-wins and
// all-count readers agree.
func (w *walker) sameDuplicates(e entry) bool {
	d := w.dups[e.dup]
	if d.na != d.nb {
		return false
	}
	for i, j := d.headA, d.headB; i >= 0; i, j = w.links[i].next, w.links[j].next {
		if !w.same(int(w.links[i].node)+1, int(w.links[j].node)+1) {
			return false
		}
	}
	return true
}

// matched marks what match took of the walker's stacks.
type matched struct{ entries, end, table, dups, links int }

// smallObject is the number of names up to which looking at each in turn is
// quicker than a table.
const smallObject = 8

// match lists the names of objects i and j: the reference's in their order,
// then those that only the candidate has. The caller gives the memory back by
// unmatch.
func (w *walker) match(i, j int) matched {
	m := matched{entries: len(w.entries), table: len(w.table), dups: len(w.dups), links: len(w.links)}
	n := members(&w.a, i) + members(&w.b, j)
	size := 0
	if n > 2*smallObject {
		size = 1 << bits.Len(uint(n+n/2))
		w.table = slices.Grow(w.table, size)[:m.table+size]
		clear(w.table[m.table:])
	}
	for k, end := i+1, i+w.a.nodes[i].size(); k < end; k += 1 + w.a.nodes[k+1].size() {
		if e := w.find(m, size, &w.a, k); e < 0 {
			w.insert(m, size, entry{a: int32(k), b: -1, dup: -1})
		} else {
			w.repeat(e, k, false)
		}
	}
	hint := m.entries
	for k, end := j+1, j+w.b.nodes[j].size(); k < end; k += 1 + w.b.nodes[k+1].size() {
		e := -1
		if hint < len(w.entries) && w.sameName(hint, &w.b, k) {
			e = hint
		} else {
			e = w.find(m, size, &w.b, k)
		}
		switch {
		case e < 0:
			w.insert(m, size, entry{a: -1, b: int32(k), dup: -1})
		case w.entries[e].b < 0:
			w.entries[e].b = int32(k)
			if d := w.entries[e].dup; d >= 0 {
				w.chain(d, k, true)
			}
			hint = e + 1
		default:
			w.repeat(e, k, true)
		}
	}
	m.end = len(w.entries)
	return m
}

func (w *walker) unmatch(m matched) {
	w.entries, w.table = w.entries[:m.entries], w.table[:m.table]
	w.dups, w.links = w.dups[:m.dups], w.links[:m.links]
}

func members(t *tree, i int) int {
	n := 0
	for k, end := i+1, i+t.nodes[i].size(); k < end; k += 1 + t.nodes[k+1].size() {
		n++
	}
	return n
}

// sameName says whether entry e has the name that is node k of t.
func (w *walker) sameName(e int, t *tree, k int) bool {
	have, n := &w.a, w.entries[e].a
	if n < 0 {
		have, n = &w.b, w.entries[e].b
	}
	return equalText(have.raw(int(n)), t.raw(k), have.nodes[n].kind() == nodeEscaped, t.nodes[k].kind() == nodeEscaped)
}

// find gives the entry with the name that is node k of t, or -1; for a table
// it leaves the free slot to insert in.
func (w *walker) find(m matched, size int, t *tree, k int) int {
	if size == 0 {
		for e := m.entries; e < len(w.entries); e++ {
			if w.sameName(e, t, k) {
				return e
			}
		}
		return -1
	}
	for slot := w.slot(t, k, size); ; slot = (slot + 1) & (size - 1) {
		v := w.table[m.table+slot]
		if v == 0 {
			return -1
		}
		if e := m.entries + int(v) - 1; w.sameName(e, t, k) {
			return e
		}
	}
}

func (w *walker) slot(t *tree, k, size int) int {
	return int(w.hashText(t, k)) & (size - 1)
}

// hashText hashes what a name or string stands for.
func (w *walker) hashText(t *tree, k int) uint64 {
	b := t.raw(k)
	if t.nodes[k].kind() == nodeEscaped {
		w.name = unescape(w.name[:0], b)
		b = w.name
	}
	return maphash.Bytes(w.seed, b)
}

func (w *walker) insert(m matched, size int, e entry) {
	w.entries = append(w.entries, e)
	if size == 0 {
		return
	}
	t, k := &w.a, e.a
	if k < 0 {
		t, k = &w.b, e.b
	}
	slot := w.slot(t, int(k), size)
	for w.table[m.table+slot] != 0 {
		slot = (slot + 1) & (size - 1)
	}
	w.table[m.table+slot] = int32(len(w.entries) - m.entries)
}

// repeat notes that entry e has its name once more, in node k.
func (w *walker) repeat(e, k int, candidate bool) {
	en := &w.entries[e]
	if en.dup < 0 {
		en.dup = int32(len(w.dups))
		w.dups = append(w.dups, dup{headA: -1, tailA: -1, headB: -1, tailB: -1})
		if en.a >= 0 {
			w.chain(en.dup, int(en.a), false)
		}
		if en.b >= 0 {
			w.chain(en.dup, int(en.b), true)
		}
	}
	w.chain(en.dup, k, candidate)
}

func (w *walker) chain(d int32, k int, candidate bool) {
	at := int32(len(w.links))
	w.links = append(w.links, link{node: int32(k), next: -1})
	p := &w.dups[d]
	n, head, tail := &p.na, &p.headA, &p.tailA
	if candidate {
		n, head, tail = &p.nb, &p.headB, &p.tailB
	}
	if *n++; *head < 0 {
		*head = at
	} else {
		w.links[*tail].next = at
	}
	*tail = at
}

// object compares two objects by name.
func (c *comparison) object(i, j int) {
	w := &c.walker
	m := w.match(i, j)
	live := w.at.live()
	for k := m.entries; k < m.end && !c.full; k++ {
		e := w.entries[k]
		if e.dup < 0 && e.a >= 0 && e.b >= 0 && sameRaw(&w.a, int(e.a)+1, &w.b, int(e.b)+1) {
			continue
		}
		s := step{name: e.a}
		if e.a < 0 {
			s = step{name: e.b, candidate: true}
		}
		w.steps = append(w.steps, s)
		a, b := none, none
		if e.a >= 0 {
			a = int(e.a) + 1
		}
		if e.b >= 0 {
			b = int(e.b) + 1
		}
		if live {
			w.at.name(w.stepName(s), a, b)
		}
		switch {
		case b < 0:
			c.addNodes(KindRemoved, a, none, "", c.ignoredBy())
		case a < 0:
			c.addNodes(KindAdded, none, b, "", c.ignoredBy())
		case e.dup >= 0:
			if !w.sameDuplicates(e) {
				c.addNodes(KindNotFullyCompared, a, b, detailDuplicate, c.ignoredBy())
			}
		default:
			c.value(a, b)
		}
		if live {
			w.at.up()
		}
		w.steps = w.steps[:len(w.steps)-1]
	}
	w.unmatch(m)
}

// stepName is the text of a step's name, valid until the next call.
func (w *walker) stepName(s step) []byte {
	t := &w.a
	if s.candidate {
		t = &w.b
	}
	b := t.raw(int(s.name))
	if t.nodes[s.name].kind() == nodeEscaped {
		w.name = unescape(w.name[:0], b)
		b = w.name
	}
	return b
}

// addNodes adds a difference at the place of the walk; i or j is -1 for a side
// without a value. rule is what ignores it, "" for nothing.
func (c *comparison) addNodes(kind string, i, j int, detail, rule string) {
	if !c.room(rule != "") {
		return
	}
	w := &c.walker
	d := Difference{Kind: kind, Path: w.path(), Detail: detail, Ignored: rule != "", Rule: rule}
	if kind == KindChanged && c.longText(i, j) {
		ref, cand := w.scalarText(&w.a, i, &w.refText), w.scalarText(&w.b, j, &w.candText)
		k := firstDifference(ref, cand)
		d.Reference, d.Candidate = c.textValue(ref, k), c.textValue(cand, k)
		c.add(d)
		return
	}
	if i >= 0 {
		d.Reference = c.nodeValue(&w.a, i)
	}
	if j >= 0 {
		d.Candidate = c.nodeValue(&w.b, j)
	}
	c.add(d)
}

// longText says whether two nodes are strings of which a Value may show a piece
// only: that around the first difference then.
func (c *comparison) longText(i, j int) bool {
	w := &c.walker
	return typeOf(w.a.nodes[i].kind()) == ValueString && typeOf(w.b.nodes[j].kind()) == ValueString &&
		max(len(w.a.raw(i)), len(w.b.raw(j))) > c.rules.limits.value
}

// path writes the place at which the walk stands.
func (w *walker) path() string {
	b := append(w.text[:0], w.base...)
	for _, s := range w.steps {
		if s.name < 0 {
			b = append(strconv.AppendInt(append(b, '['), int64(s.index), 10), ']')
		} else {
			b = appendName(b, w.stepName(s))
		}
		if len(b) > maxPath {
			b = append(cutText(b, maxPath), cutMark...)
			break
		}
	}
	w.text = b
	return string(b)
}

// nodeValue is a node as a Value, with text of its own.
func (c *comparison) nodeValue(t *tree, i int) Value {
	kind := t.nodes[i].kind()
	raw := t.raw(i)
	v := Value{Kind: typeOf(kind), Size: int64(len(raw))}
	most := c.rules.limits.value
	if kind == nodeEscaped {
		w := &c.walker
		w.text = unescape(w.text[:0], raw)
		raw = w.text
		v.Size = int64(len(raw))
	}
	if len(raw) > most {
		raw = cutText(raw, most)
		v.Truncated = true
	}
	v.Text = string(raw)
	return v
}
