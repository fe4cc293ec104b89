package diff

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
)

// This file compares XML and HTML as trees of elements. A place is written with
// the elements' local names and their indexes among the siblings of that name:
// $.catalog.book[2]['@id'] is an attribute, $.catalog.book[2]['#text'] the text
// of the third book.

type markupKind uint8

const (
	markupElement markupKind = iota
	markupText
	// markupOther is a processing instruction, a document type or an end tag
	// that ends nothing: name says what it is, text what it holds.
	markupOther
)

// markupNode is an element, a text or something else in a document. A node's
// children are a chain.
type markupNode struct {
	kind        markupKind
	space, name string // the namespace's URI and the local name
	text        string
	// attributes are markup.attributes[from:to], sorted.
	from, to    int32
	first, next int32 // -1 without
	start, end  int   // its source
	// deep: what is in it lies below the limit of depth and is no node.
	deep bool
	hash uint64
	// ruled is the hash by the rules, 0 as long as nobody asked for it.
	ruled uint64
}

type markupAttribute struct{ space, name, value string }

func (a markupAttribute) compare(b markupAttribute) int {
	if n := strings.Compare(a.name, b.name); n != 0 {
		return n
	}
	return strings.Compare(a.space, b.space)
}

// markup is a document taken apart. nodes[0] stands for the whole.
type markup struct {
	seed       maphash.Seed
	depth      int // below which nothing becomes a node
	most       int // nodes and attributes
	source     []byte
	nodes      []markupNode
	attributes []markupAttribute
	open       []markupOpen // elements that have not ended, with nodes[0]
	// below counts open elements under the limit of depth, seen all that was met.
	below, seen int
}

type markupOpen struct {
	node int32
	last int32 // its last child, -1 without
	// preserve: white space counts.
	preserve bool
}

// markupEnd is how reading ended.
type markupEnd uint8

const (
	markupWhole markupEnd = iota
	markupBad
	markupFull
)

func (m *markup) begin(source []byte) {
	m.source = source
	tags := min(bytes.Count(source, []byte{'<'}), m.most)
	m.nodes = append(make([]markupNode, 0, tags+1), markupNode{first: -1, next: -1, end: len(source)})
	m.open = append(m.open[:0], markupOpen{last: -1})
}

// maxOpen bounds the elements that are open at once.
const maxOpen = 1 << 16

// full counts one thing more and says whether there is no room for it.
func (m *markup) full() bool {
	m.seen++
	return max(m.seen, len(m.nodes)+len(m.attributes)) >= m.most || m.below > maxOpen
}

// add puts a node behind the last child of the open element.
func (m *markup) add(n markupNode) int32 {
	i := int32(len(m.nodes))
	n.first, n.next = -1, -1
	m.nodes = append(m.nodes, n)
	top := &m.open[len(m.open)-1]
	if top.last < 0 {
		m.nodes[top.node].first = i
	} else {
		m.nodes[top.last].next = i
	}
	top.last = i
	return i
}

// addText adds text; pieces behind each other are one.
func (m *markup) addText(text string, start, end int) {
	if m.below > 0 || text == "" {
		return
	}
	if last := m.open[len(m.open)-1].last; last >= 0 && m.nodes[last].kind == markupText {
		m.nodes[last].text += text
		m.nodes[last].end = end
		return
	}
	m.add(markupNode{kind: markupText, name: "#text", text: text, start: start, end: end})
}

// push opens an element. Its attributes are those from index from on.
func (m *markup) push(space, name string, from, start int, preserve bool) {
	if m.below > 0 || len(m.open) > m.depth {
		if m.below == 0 {
			i := m.open[len(m.open)-1].node
			m.nodes[i].deep = true
		}
		m.attributes = m.attributes[:from]
		m.below++
		return
	}
	own := m.attributes[from:]
	slices.SortStableFunc(own, markupAttribute.compare)
	i := m.add(markupNode{kind: markupElement, space: space, name: name, from: int32(from), to: int32(len(m.attributes)), start: start})
	m.open = append(m.open, markupOpen{node: i, last: -1, preserve: preserve})
}

// pop closes the innermost element.
func (m *markup) pop(end int) {
	if m.below > 0 {
		m.below--
		return
	}
	top := m.open[len(m.open)-1]
	m.open = m.open[:len(m.open)-1]
	m.nodes[top.node].end = end
	m.close(top)
}

// close drops white space between elements and makes the hash, which decides
// what is laid beside what and never that something is equal.
func (m *markup) close(top markupOpen) {
	n := &m.nodes[top.node]
	if !top.preserve {
		elements := false
		for k := n.first; k >= 0; k = m.nodes[k].next {
			elements = elements || m.nodes[k].kind != markupText
		}
		if elements {
			link := &n.first
			for k := n.first; k >= 0; k = m.nodes[k].next {
				if m.nodes[k].kind == markupText && strings.Trim(m.nodes[k].text, " \t\r\n") == "" {
					*link = m.nodes[k].next
				} else {
					link = &m.nodes[k].next
				}
			}
		}
	}
	h := m.key(top.node)
	for _, a := range m.attributes[n.from:n.to] {
		h = mix(mix(mix(h, maphash.String(m.seed, a.space)), maphash.String(m.seed, a.name)), maphash.String(m.seed, a.value))
	}
	for k := n.first; k >= 0; k = m.nodes[k].next {
		if m.nodes[k].kind != markupElement {
			m.nodes[k].hash = mix(m.key(k), maphash.String(m.seed, m.nodes[k].text))
		}
		h = mix(h, m.nodes[k].hash)
	}
	if n.deep {
		h = mix(h, maphash.Bytes(m.seed, m.source[n.start:n.end]))
	}
	n.hash = h
}

// key is a hash of what makes two nodes the same thing, whatever is in them.
func (m *markup) key(i int32) uint64 {
	n := &m.nodes[i]
	return mix(mix(uint64(n.kind)+8, maphash.String(m.seed, n.space)), maphash.String(m.seed, n.name))
}

// kids lists the children of a node.
func (m *markup) kids(i int32) []int32 {
	var all []int32
	for k := m.nodes[i].first; k >= 0; k = m.nodes[k].next {
		all = append(all, k)
	}
	return all
}

// raw is a node's source.
func (m *markup) raw(i int32) []byte { return m.source[m.nodes[i].start:m.nodes[i].end] }

// markupWalk compares two documents.
type markupWalk struct {
	c    *comparison
	a, b markup
	// loose says that a hash was made in which texts count as equal that are
	// not the same.
	loose bool
}

type markupReader func(m *markup, source []byte) (markupEnd, int)

// markupBody compares two documents of the kind that read reads.
func (c *comparison) markupBody(read markupReader, name string, ref, cand []byte) {
	lim := &c.rules.limits
	w := markupWalk{c: c}
	w.a = markup{seed: c.rules.seed, depth: lim.depth, most: lim.items()}
	w.b = w.a
	gotRef, atRef := read(&w.a, ref)
	gotCand, atCand := read(&w.b, cand)
	switch {
	case gotRef == markupBad || gotCand == markupBad:
		if gotRef != markupBad {
			atRef = -1
		}
		if gotCand != markupBad {
			atCand = -1
		}
		c.notRead(name, ref, cand, atRef, atCand)
	case gotRef == markupFull || gotCand == markupFull:
		at := firstDifference(ref, cand)
		c.addAt(KindNotFullyCompared, c.base, c.bytesValue(ref, at), c.bytesValue(cand, at), detailValues)
	default:
		c.probes = 8 * (len(w.a.nodes) + len(w.b.nodes))
		w.children(0, 0, c.base)
	}
}

// same says whether two nodes are equal.
func (w *markupWalk) same(i, j int32) bool {
	a, b := &w.a.nodes[i], &w.b.nodes[j]
	if a.hash != b.hash || a.kind != b.kind || a.space != b.space || a.name != b.name || a.text != b.text || a.deep != b.deep ||
		a.deep && !bytes.Equal(w.a.raw(i), w.b.raw(j)) || !slices.Equal(w.a.attributes[a.from:a.to], w.b.attributes[b.from:b.to]) {
		return false
	}
	x, y := a.first, b.first
	for ; x >= 0 && y >= 0; x, y = w.a.nodes[x].next, w.b.nodes[y].next {
		if !w.same(x, y) {
			return false
		}
	}
	return x < 0 && y < 0
}

// node compares two nodes that are the same thing, at a place.
func (w *markupWalk) node(i, j int32, at trail) {
	c := w.c
	a, b := &w.a.nodes[i], &w.b.nodes[j]
	c.probes--
	if c.full || w.same(i, j) {
		return
	}
	switch {
	case a.kind != markupElement:
		c.changedText(at, []byte(a.text), []byte(b.text))
		return
	case a.deep || b.deep:
		c.addAt(KindNotFullyCompared, at, w.value(&w.a, i), w.value(&w.b, j), detailDepth)
		return
	case c.ignoredAt(at) != "":
		c.addAt(KindChanged, at, w.value(&w.a, i), w.value(&w.b, j), "")
		return
	}
	if a.space != b.space {
		c.changedText(at.below("@xmlns"), []byte(a.space), []byte(b.space))
	}
	x, y := w.a.attributes[a.from:a.to], w.b.attributes[b.from:b.to]
	for (len(x) > 0 || len(y) > 0) && !c.full {
		which := 0
		switch {
		case len(x) == 0:
			which = 1
		case len(y) == 0:
			which = -1
		default:
			which = x[0].compare(y[0])
		}
		switch {
		case which < 0:
			c.addAt(KindRemoved, at.below("@"+x[0].name), c.textValue([]byte(x[0].value), 0), Value{}, "")
			x = x[1:]
		case which > 0:
			c.addAt(KindAdded, at.below("@"+y[0].name), Value{}, c.textValue([]byte(y[0].value), 0), "")
			y = y[1:]
		default:
			if x[0].value != y[0].value {
				c.changedText(at.below("@"+x[0].name), []byte(x[0].value), []byte(y[0].value))
			}
			x, y = x[1:], y[1:]
		}
	}
	w.children(i, j, at)
}

// children compares what is in two elements: first what is equal is laid beside
// each other, then in what lies between the elements of one name. If the rest
// has the same nodes in another order, that is one difference.
func (w *markupWalk) children(i, j int32, at trail) {
	a, na := w.a.inside(i)
	b, nb := w.b.inside(j)
	sameSteps(i == 0, a.steps, b.steps, na, nb)
	if len(w.c.rules.arrays) > 0 {
		a, b = w.unordered(a, b, na, nb, at)
	}
	ka, kb := a.nodes, b.nodes
	pair := align(a.hashes, b.hashes)
	if w.turned(a.hashes, b.hashes, pair) {
		w.c.addAt(KindReordered, at, w.value(&w.a, i), w.value(&w.b, j), "")
		return
	}
	stepA, stepB := a.steps, b.steps
	for x, y := 0, 0; (x < len(ka) || y < len(kb)) && !w.c.full; {
		x0, y0 := x, y
		for x < len(ka) && pair[x] < 0 {
			x++
		}
		if y = len(kb); x < len(ka) {
			y = int(pair[x])
		}
		w.gap(ka[x0:x], kb[y0:y], stepA[x0:x], stepB[y0:y], at)
		if x < len(ka) {
			w.node(ka[x], kb[y], stepA[x].under(at))
			x, y = x+1, y+1
		}
	}
}

// turned says whether what has no partner is the same on both sides.
func (w *markupWalk) turned(a, b []uint64, pair []int32) bool {
	if len(a) != len(b) {
		return false
	}
	var x, y []uint64
	taken := make([]bool, len(b))
	for i, p := range pair {
		if p < 0 {
			x = append(x, a[i])
		} else {
			taken[p] = true
		}
	}
	for j := range b {
		if !taken[j] {
			y = append(y, b[j])
		}
	}
	slices.Sort(x)
	slices.Sort(y)
	return len(x) > 0 && slices.Equal(x, y)
}

// gap compares nodes of which none has an equal one on the other side. Those of
// one name are laid beside each other in their order.
func (w *markupWalk) gap(ka, kb []int32, stepA, stepB []markupStep, at trail) {
	key := func(m *markup, kids []int32) []uint64 {
		h := make([]uint64, len(kids))
		for k, n := range kids {
			// Another namespace is a difference of one element, not of two.
			h[k] = mix(uint64(m.nodes[n].kind), maphash.String(m.seed, m.nodes[n].name))
		}
		return h
	}
	pair := align(key(&w.a, ka), key(&w.b, kb))
	added := func(from, to int) {
		for y := from; y < to && !w.c.full; y++ {
			w.c.addAt(KindAdded, stepB[y].under(at), Value{}, w.value(&w.b, kb[y]), "")
		}
	}
	y := 0
	for x := range ka {
		if w.c.full {
			return
		}
		p := int(pair[x])
		if p < 0 {
			w.c.addAt(KindRemoved, stepA[x].under(at), w.value(&w.a, ka[x]), Value{}, "")
			continue
		}
		added(y, p)
		if n, m := &w.a.nodes[ka[x]], &w.b.nodes[kb[p]]; n.kind != m.kind || n.name != m.name {
			// Two names with one hash.
			w.c.addAt(KindRemoved, stepA[x].under(at), w.value(&w.a, ka[x]), Value{}, "")
			added(p, p+1)
		} else {
			w.node(ka[x], kb[p], stepA[x].under(at))
		}
		y = p + 1
	}
	added(y, len(kb))
}

// markupStep is how one gets from an element to a child.
type markupStep struct {
	name  string
	index int // -1 without
}

func (s markupStep) under(at trail) trail {
	at = at.below(s.name)
	if s.index >= 0 {
		at = at.at(s.index)
	}
	return at
}

// inside lists what is in a node, and counts it by name.
func (m *markup) inside(i int32) (kids markupKids, n map[string]int) {
	kids.nodes = m.kids(i)
	kids.steps, n = m.steps(kids.nodes)
	kids.hashes = make([]uint64, len(kids.nodes))
	for k, kid := range kids.nodes {
		kids.hashes[k] = m.nodes[kid].hash
	}
	return kids, n
}

// steps gives the steps to children, each with its index among those of its
// name, and counts them by name.
func (m *markup) steps(kids []int32) ([]markupStep, map[string]int) {
	steps, n := make([]markupStep, len(kids)), map[string]int{}
	for k, i := range kids {
		name := m.nodes[i].name
		steps[k] = markupStep{name, n[name]}
		n[name]++
	}
	return steps, n
}

// sameSteps takes indexes from the steps of both sides that nobody needs: a text
// has one only when its element has several on either side, and the document's
// own children only when there are several of a name.
func sameSteps(root bool, a, b []markupStep, na, nb map[string]int) {
	for _, steps := range [][]markupStep{a, b} {
		for k := range steps {
			if s := &steps[k]; (root || s.name == "#text") && max(na[s.name], nb[s.name]) < 2 {
				s.index = -1
			}
		}
	}
}

// value is a node as a Value: a text as a string, all else as its source.
func (w *markupWalk) value(m *markup, i int32) Value {
	n := &m.nodes[i]
	if n.kind != markupElement {
		return w.c.textValue([]byte(n.text), 0)
	}
	v := w.c.bytesValue(m.raw(i), 0)
	v.Kind = ValueMarkup
	return v
}

// dedupe keeps the first of attributes with one name from index from on, as
// HTML does, and says whether there was another.
func (m *markup) dedupe(from int) bool {
	own := m.attributes[from:]
	slices.SortStableFunc(own, markupAttribute.compare)
	kept := slices.CompactFunc(own, func(a, b markupAttribute) bool { return cmp.Compare(a.compare(b), 0) == 0 })
	m.attributes = m.attributes[:from+len(kept)]
	return len(kept) < len(own)
}
