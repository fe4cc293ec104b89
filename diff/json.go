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
	seed       maphash.Seed
	tokA, tokB tokens
	kinds      []uint64
	a, b       tree
	at         states
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
}

// spare says whether there is budget to look at values ahead.
func (w *walker) spare() bool { return w.looked < len(w.a.nodes)+len(w.b.nodes) }

// release forgets the bodies, and memory that is too large to keep.
func (w *walker) release() {
	w.a.text, w.b.text, w.tokA.b, w.tokB.b = nil, nil, nil, nil
	if cap(w.a.nodes)+cap(w.b.nodes)+cap(w.entries)+cap(w.table)+cap(w.kids)+cap(w.hashes)+cap(w.links)+cap(w.text)+cap(w.name) > 1<<17 {
		*w = walker{seed: w.seed}
	}
}

var utf8BOM = [3]byte{0xef, 0xbb, 0xbf}

// jsonBody compares two bodies whose media types are JSON. A text that is no
// JSON makes it a comparison of bytes, and is said.
func (c *comparison) jsonBody(ref, cand []byte) {
	refJSON, refBOM := bytes.CutPrefix(ref, utf8BOM[:])
	candJSON, candBOM := bytes.CutPrefix(cand, utf8BOM[:])
	if refBOM != candBOM {
		// RFC 8259 section 8.1 forbids it, and many readers stumble over it.
		d := Difference{Kind: KindRemoved, Path: PathByteOrderMark}
		v := Value{Kind: ValueBytes, Text: string(utf8BOM[:]), Size: 3}
		if d.Reference = v; candBOM {
			d.Kind, d.Reference, d.Candidate = KindAdded, Value{}, v
		}
		c.add(d)
	}
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
			Kind: KindTypeChanged, Path: "$", Reference: c.bytesValue(ref, offRef), Candidate: c.nodeValue(&w.b, 0),
			Detail: fmt.Sprintf("the reference is no JSON at byte %d", offRef),
		})
	case badCand && gotRef == grownWhole:
		c.add(Difference{
			Kind: KindTypeChanged, Path: "$", Reference: c.nodeValue(&w.a, 0), Candidate: c.bytesValue(cand, offCand),
			Detail: fmt.Sprintf("the candidate is no JSON at byte %d", offCand),
		})
	case gotRef == grownFull || gotCand == grownFull:
		c.add(Difference{Kind: KindNotFullyCompared, Reference: c.bytesValue(ref, 0), Candidate: c.bytesValue(cand, 0), Detail: detailValues})
	default:
		w.steps, w.looked = w.steps[:0], 0
		w.at.reset(&c.rules.json)
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
	ignored := w.at.final()
	ka, kb := w.a.nodes[i].kind(), w.b.nodes[j].kind()
	typ := typeOf(ka)
	switch {
	case typ != typeOf(kb):
		c.addNodes(KindTypeChanged, i, j, "", ignored)
	case ka == kb && bytes.Equal(w.a.raw(i), w.b.raw(j)):
	case ignored:
		if !w.same(i, j) {
			c.addNodes(KindChanged, i, j, "", true)
		}
	case ka == nodeDeepArray || ka == nodeDeepObject:
		if !w.sameTexts(w.a.raw(i), w.b.raw(j)) {
			c.addNodes(KindNotFullyCompared, i, j, detailDepth, false)
		}
	case typ == ValueObject:
		c.object(i, j)
	case typ == ValueArray:
		c.array(i, j)
	case !w.sameScalar(i, j):
		c.addNodes(KindChanged, i, j, "", false)
	}
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
		if live {
			w.at.name(w.stepName(s))
		}
		switch {
		case e.b < 0:
			c.addNodes(KindRemoved, int(e.a)+1, -1, "", w.at.final())
		case e.a < 0:
			c.addNodes(KindAdded, -1, int(e.b)+1, "", w.at.final())
		case e.dup >= 0:
			if !w.sameDuplicates(e) {
				c.addNodes(KindNotFullyCompared, int(e.a)+1, int(e.b)+1, detailDuplicate, w.at.final())
			}
		default:
			c.value(int(e.a)+1, int(e.b)+1)
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

// elements pushes the nodes of an array's elements and gives their number.
func (w *walker) elements(t *tree, i int) int {
	n := len(w.kids)
	for k, end := i+1, i+t.nodes[i].size(); k < end; k += t.nodes[k].size() {
		w.kids = append(w.kids, int32(k))
	}
	return len(w.kids) - n
}

// array compares two arrays by order. What is equal at the beginning and at
// the end is laid beside each other first, so that an element put in or left
// out is one difference and not a change of all that follow. If the rest has
// the same elements in another order, that is one difference too. Else the
// rest is compared index by index.
func (c *comparison) array(i, j int) {
	w := &c.walker
	baseA := len(w.kids)
	n := w.elements(&w.a, i)
	baseB := len(w.kids)
	m := w.elements(&w.b, j)
	ref := func(k int) int { return int(w.kids[baseA+k]) }
	cand := func(k int) int { return int(w.kids[baseB+k]) }

	lo, hi := 0, 0
	for lo < min(n, m) && sameRaw(&w.a, ref(lo), &w.b, cand(lo)) {
		lo++
	}
	for lo+hi < min(n, m) && sameRaw(&w.a, ref(n-1-hi), &w.b, cand(m-1-hi)) {
		hi++
	}
	if n != m || n-lo-hi > 1 {
		// Then by value. An element is looked at again inside its own arrays,
		// so this has a budget, without which it would cost depth times size.
		for lo+hi < min(n, m) && w.spare() && w.same(ref(lo), cand(lo)) {
			lo++
		}
		for lo+hi < min(n, m) && w.spare() && w.same(ref(n-1-hi), cand(m-1-hi)) {
			hi++
		}
	}
	first, last := lo, hi // what lies outside is equal
	x, y := n-lo-hi, m-lo-hi
	if x > 0 && y > 0 && x+y > 2 {
		// The rest by a hash, in which what is ignored has no part. It decides
		// what lies beside what, never that something is equal.
		base := len(w.hashes)
		for k := range x {
			w.hashes = append(w.hashes, w.hashElement(&w.a, ref(lo+k), lo+k))
		}
		for k := range y {
			w.hashes = append(w.hashes, w.hashElement(&w.b, cand(lo+k), lo+k))
		}
		ha, hb := w.hashes[base:base+x], w.hashes[base+x:base+x+y]
		for len(ha) > 0 && len(hb) > 0 && ha[0] == hb[0] {
			ha, hb, lo = ha[1:], hb[1:], lo+1
		}
		for len(ha) > 0 && len(hb) > 0 && ha[len(ha)-1] == hb[len(hb)-1] {
			ha, hb, hi = ha[:len(ha)-1], hb[:len(hb)-1], hi+1
		}
		x, y = len(ha), len(hb)
		if x == y && x > 1 && c.permuted(i, j, ha, hb, lo, ref, cand) {
			// What lies around it is still looked at, for what is ignored.
			for k := first; k < lo; k++ {
				c.element(k, ref(k), cand(k))
			}
			for k := hi; k > last; k-- {
				c.element(n-k, ref(n-k), cand(m-k))
			}
			w.hashes, w.kids = w.hashes[:base], w.kids[:baseA]
			return
		}
		w.hashes = w.hashes[:base]
	}
	both := lo + min(x, y)
	for k := first; k < both && !c.full; k++ {
		c.element(k, ref(k), cand(k))
	}
	for k := both; k < lo+x && !c.full; k++ {
		c.element(k, ref(k), -1)
	}
	for k := both; k < lo+y && !c.full; k++ {
		c.element(k, -1, cand(k))
	}
	for k := hi; k > last && !c.full; k-- {
		c.element(n-k, ref(n-k), cand(m-k))
	}
	w.kids = w.kids[:baseA]
}

// permuted says whether b is a in another order, and adds that difference: a
// single element moved past two or more others, or reordered.
func (c *comparison) permuted(i, j int, a, b []uint64, lo int, ref, cand func(int) int) bool {
	w := &c.walker
	n := len(a)
	base := len(w.hashes)
	w.hashes = append(append(w.hashes, a...), b...)
	sa, sb := w.hashes[base:base+n], w.hashes[base+n:]
	slices.Sort(sa)
	slices.Sort(sb)
	same := slices.Equal(sa, sb)
	w.hashes = w.hashes[:base]
	if !same {
		return false
	}
	from, to := -1, 0
	if n > 2 {
		switch {
		case slices.Equal(a[1:], b[:n-1]):
			from, to = lo, lo+n-1
		case slices.Equal(a[:n-1], b[1:]):
			from, to = lo+n-1, lo
		}
	}
	if from < 0 {
		c.addNodes(KindReordered, i, j, "", false)
		return true
	}
	w.steps = append(w.steps, step{name: -1, index: from})
	c.addNodes(KindMoved, ref(from), cand(to), "to index "+strconv.Itoa(to), false)
	w.steps = w.steps[:len(w.steps)-1]
	return true
}

// element compares the elements i and j, one of which may be -1, at an index.
func (c *comparison) element(index, i, j int) {
	w := &c.walker
	w.steps = append(w.steps, step{name: -1, index: index})
	live := w.at.live()
	if live {
		w.at.element(index)
	}
	switch {
	case j < 0:
		c.addNodes(KindRemoved, i, -1, "", w.at.final())
	case i < 0:
		c.addNodes(KindAdded, -1, j, "", w.at.final())
	default:
		c.value(i, j)
	}
	if live {
		w.at.up()
	}
	w.steps = w.steps[:len(w.steps)-1]
}

func mix(h, x uint64) uint64 {
	h = (h ^ x) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}

func (w *walker) hashElement(t *tree, i, index int) uint64 {
	if !w.at.live() {
		return w.hash(t, i)
	}
	w.at.element(index)
	h := w.hash(t, i)
	w.at.up()
	return h
}

// hash is the same for values that are equal when what the rules ignore is
// left out. A node's hash is kept: it has one place, so it has one hash.
func (w *walker) hash(t *tree, i int) uint64 {
	if w.at.final() {
		return 1
	}
	n := &t.nodes[i]
	kind := n.kind()
	var h uint64
	switch kind {
	case nodeNull, nodeFalse, nodeTrue:
		return mix(2, uint64(kind))
	case nodeNumber:
		w.name = appendCanonical(w.name[:0], t.raw(i))
		return mix(3, maphash.Bytes(w.seed, w.name))
	case nodeString, nodeEscaped:
		return mix(4, w.hashText(t, i))
	case nodeDeepArray, nodeDeepObject:
		return mix(5, maphash.Bytes(w.seed, t.raw(i)))
	}
	if len(t.hashes) == 0 {
		t.hashes = slices.Grow(t.hashes, len(t.nodes))[:len(t.nodes)]
		clear(t.hashes)
	}
	if h = t.hashes[i]; h != 0 {
		return h
	}
	live := w.at.live()
	end := i + n.size()
	if kind == nodeArray {
		h = 6
		for k, index := i+1, 0; k < end; k, index = k+t.nodes[k].size(), index+1 {
			h = mix(h, w.hashElement(t, k, index))
		}
	} else {
		var sum uint64
		for k := i + 1; k < end; k += 1 + t.nodes[k+1].size() {
			name := w.hashText(t, k)
			if live {
				w.at.name(w.stepName(step{name: int32(k), candidate: t == &w.b}))
			}
			if !w.at.final() { // presence is ignored too
				sum += mix(name, w.hash(t, k+1))
			}
			if live {
				w.at.up()
			}
		}
		h = mix(7, sum)
	}
	if h == 0 {
		h = 1
	}
	t.hashes[i] = h
	return h
}

// addNodes adds a difference at the place of the walk; i or j is -1 for a side
// without a value.
func (c *comparison) addNodes(kind string, i, j int, detail string, ignored bool) {
	if !c.room(ignored) {
		return
	}
	w := &c.walker
	d := Difference{Kind: kind, Path: w.path(), Detail: detail, Ignored: ignored}
	if i >= 0 {
		d.Reference = c.nodeValue(&w.a, i)
	}
	if j >= 0 {
		d.Candidate = c.nodeValue(&w.b, j)
	}
	c.add(d)
}

// path writes the place at which the walk stands.
func (w *walker) path() string {
	b := append(w.text[:0], '$')
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
