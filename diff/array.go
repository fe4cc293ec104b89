package diff

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
)

// This file compares arrays: by order, as a set, or by a key of their elements.

// ArrayRule says how some arrays are compared: those of JSON bodies, of what is
// written as JSON (forms, protobuf, gRPC), and the elements of XML and HTML. Lines
// of a text and parts of a multipart have their order, whatever a rule says.
type ArrayRule struct {
	// JSON is a path to the arrays, as in RuleConfig.IgnoreJSON. Required. Of
	// several rules for one array the first counts. In XML and HTML an array is
	// the elements of one name, as $.list.item without an index, or all elements
	// in one, as $.list or $.list.part[0]; the first goes before the second.
	// Their texts keep their order.
	JSON string
	// As is "order", the default, or "set": the same elements, each as often,
	// in whatever order. Key is not given with it.
	As string
	// Key names what elements are found by, in whatever order: a member's name,
	// or a singular query from the element such as "@.meta.id". Elements with
	// one key are paired in their order; those without it are a set. In XML and
	// HTML it names an attribute, '@id', or an element with nothing but text in
	// it: sku, @.meta.sku, @.sku[1]['@id'].
	Key string
}

// The words of ArrayRule.As.
const (
	ArraysByOrder = "order"
	ArraysAsSet   = "set"
)

type arrayBy uint8

const (
	byOrder arrayBy = iota
	bySet
	byKey
)

// arrayRule is a compiled ArrayRule.
type arrayRule struct {
	by  arrayBy
	key []pathStep
}

// compileArray compiles the part of a rule that says how.
func compileArray(name string, a *ArrayRule, fail func(path, text string, offset int, reason string)) (rule arrayRule, ok bool) {
	switch {
	case a.As != "" && a.As != ArraysByOrder && a.As != ArraysAsSet:
		fail(name+".as", a.As, 0, "is not known: write order or set, or key instead")
	case a.As != "" && a.Key != "":
		fail(name, "", 0, "has as and key: elements that are found by a key need no as")
	case a.As == ArraysAsSet:
		return arrayRule{by: bySet}, true
	case a.As == ArraysByOrder:
		return arrayRule{by: byOrder}, true
	case a.Key == "":
		fail(name, "", 0, "needs as or key")
	case a.Key != "@" && !strings.HasPrefix(a.Key, "@.") && !strings.HasPrefix(a.Key, "@["): // "@id" is a name
		return arrayRule{by: byKey, key: []pathStep{{named: true, name: a.Key}}}, true
	default:
		p := pathParser{s: a.Key}
		at := p.singular()
		switch {
		case p.err != nil:
			fail(name+".key", a.Key, p.err.offset, p.err.reason)
		case p.i < len(a.Key):
			fail(name+".key", a.Key, p.i, "want . or [ here")
		default:
			return arrayRule{by: byKey, key: at}, true
		}
	}
	return arrayRule{}, false
}

// ranked is an element of an array without order: its hash and its place.
type ranked struct {
	hash uint64
	at   int32
}

// maxMatrix bounds the elements that are tried with each other to find which are
// equal by rules that are no equivalence, such as a tolerance.
const maxMatrix = 1 << 12

// unordered compares two arrays as sets or by key: elements that belong together
// are compared, and what is left is removed or added.
func (c *comparison) unordered(rule *arrayRule, i, j int) {
	w := &c.walker
	base := len(w.kids)
	n := w.elements(&w.a, i)
	m := w.elements(&w.b, j)
	ref := func(k int) int { return int(w.kids[base+k]) }
	cand := func(k int) int { return int(w.kids[base+n+k]) }

	ranks := make([]uint64, 0, n+m)
	for k := range n {
		ranks = append(ranks, w.rank(rule, &w.a, ref(k), k))
	}
	for k := range m {
		ranks = append(ranks, w.rank(rule, &w.b, cand(k), k))
	}
	of, taken := c.pairByHash(ranks[:n], ranks[n:], w.loose && rule.by == bySet, func(x, y int32) (ok, exact bool) {
		return c.probe(func() { c.element(int(x), ref(int(x)), cand(int(y))) })
	})
	for k := 0; k < n && !c.full; k++ {
		if of[k] < 0 {
			c.element(k, ref(k), none)
		} else {
			c.element(k, ref(k), cand(int(of[k])))
		}
	}
	for k := 0; k < m && !c.full; k++ {
		if taken[k] < 0 {
			c.element(k, none, cand(k))
		}
	}
	w.kids = w.kids[:base]
}

// pairByHash pairs elements of two sides that have one hash, in their order. With
// tried, several of one hash are paired so that as many as can be agree. It gives
// the partner of each, none without.
func (c *comparison) pairByHash(ref, cand []uint64, tried bool, agree func(x, y int32) (ok, exact bool)) (of, taken []int32) {
	n, m := len(ref), len(cand)
	both := make([]ranked, 0, n+m)
	for _, side := range [...][]uint64{ref, cand} {
		for k, h := range side {
			both = append(both, ranked{h, int32(k)})
		}
	}
	c.probes -= n + m
	a, b := both[:n], both[n:]
	byHash := func(x, y ranked) int { return cmp.Or(cmp.Compare(x.hash, y.hash), cmp.Compare(x.at, y.at)) }
	slices.SortFunc(a, byHash)
	slices.SortFunc(b, byHash)
	partner := make([]int32, n+m) // of the reference's elements; then who has one
	for k := range partner {
		partner[k] = none
	}
	of, taken = partner[:n], partner[n:]
	for len(a) > 0 && len(b) > 0 {
		x, y := a[0].hash, b[0].hash
		switch {
		case x < y:
			a = a[1:]
			continue
		case x > y:
			b = b[1:]
			continue
		}
		p, q := 1, 1
		for p < len(a) && a[p].hash == x {
			p++
		}
		for q < len(b) && b[q].hash == x {
			q++
		}
		if !tried || p == 1 && q == 1 || !c.matchEqual(a[:p], b[:q], of, taken, agree) {
			for k := range min(p, q) {
				of[a[k].at], taken[b[k].at] = b[k].at, a[k].at
			}
		}
		a, b = a[p:], b[q:]
	}
	return of, taken
}

// matchEqual pairs elements of one hash that are equal by the rules, as many as
// can be: a maximum matching by augmenting paths, from those that do not differ at
// all. It says whether the budget was
// enough; if not, nothing is paired.
func (c *comparison) matchEqual(a, b []ranked, of, taken []int32, agree func(x, y int32) (ok, exact bool)) bool {
	if len(a)*len(b) > maxMatrix || c.probes < 0 {
		return false
	}
	equal := make([]bool, len(a)*len(b))
	have := make([]int, len(b)) // the element of a that has it, from 1
	paired := make([]bool, len(a))
	for x := range a {
		for y := range b {
			if c.probes < 0 {
				return false
			}
			ok, exact := agree(a[x].at, b[y].at)
			equal[x*len(b)+y] = ok
			if exact && !paired[x] && have[y] == 0 {
				paired[x], have[y] = true, x+1
			}
		}
	}
	seen := make([]bool, len(b))
	var find func(x int) bool
	find = func(x int) bool {
		for y := range b {
			if !equal[x*len(b)+y] || seen[y] {
				continue
			}
			seen[y] = true
			if have[y] == 0 || find(have[y]-1) {
				have[y] = x + 1
				return true
			}
		}
		return false
	}
	for x := range a {
		if !paired[x] {
			clear(seen)
			find(x)
		}
	}
	for y, x := range have {
		if x > 0 {
			of[a[x-1].at], taken[b[y].at] = b[y].at, a[x-1].at
		}
	}
	return true
}

// probe says whether a comparison finds no difference that counts, and whether
// it finds none at all.
func (c *comparison) probe(compare func()) (ok, exact bool) {
	full, probing, excused := c.full, c.probing, c.excused
	c.full, c.probing, c.excused = false, true, false
	compare()
	ok, exact = !c.full, !c.excused
	c.full, c.probing, c.excused = full, probing, excused
	return ok, exact
}

// rank is what elements without order are paired by: the hash of the key, or
// that of the whole element.
func (w *walker) rank(rule *arrayRule, t *tree, i, index int) uint64 {
	if rule.by == byKey {
		if k := t.find(i, rule.key); k >= 0 && typeOf(t.nodes[k].kind()) < ValueArray {
			return mix(21, w.hashExact(t, k))
		}
	}
	return mix(22, w.hashElement(t, i, index))
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
		c.element(k, ref(k), none)
	}
	for k := both; k < lo+y && !c.full; k++ {
		c.element(k, none, cand(k))
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
	if !same || w.loose && !c.agreeByHash(a, b, lo, ref, cand) {
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
		c.addNodes(KindReordered, i, j, "", "")
		return true
	}
	w.steps = append(w.steps, step{name: -1, index: from})
	c.addNodes(KindMoved, ref(from), cand(to), "to index "+strconv.Itoa(to), "")
	w.steps = w.steps[:len(w.steps)-1]
	return true
}

// agreeByHash says whether elements that have one hash on both sides differ in
// nothing that counts, each taken with the one that has as many of its hash
// before it. The hashes are the same but for their order.
func (c *comparison) agreeByHash(a, b []uint64, lo int, ref, cand func(int) int) bool {
	order := func(hashes []uint64) []ranked {
		all := make([]ranked, len(hashes))
		for k, h := range hashes {
			all[k] = ranked{h, int32(lo + k)}
		}
		slices.SortFunc(all, func(x, y ranked) int { return cmp.Or(cmp.Compare(x.hash, y.hash), cmp.Compare(x.at, y.at)) })
		return all
	}
	x, y := order(a), order(b)
	for k := range x {
		at, i, j := int(x[k].at), ref(int(x[k].at)), cand(int(y[k].at))
		if ok, _ := c.probe(func() { c.element(at, i, j) }); !ok {
			return false
		}
	}
	return true
}

// element compares the elements i and j, one of which may be none, at an index.
func (c *comparison) element(index, i, j int) {
	w := &c.walker
	w.steps = append(w.steps, step{name: -1, index: index})
	live := w.at.live()
	if live {
		w.at.element(index, i, j)
	}
	switch {
	case j < 0:
		c.addNodes(KindRemoved, i, none, "", c.ignoredBy())
	case i < 0:
		c.addNodes(KindAdded, none, j, "", c.ignoredBy())
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
	a, b := w.sides(t, i)
	w.at.element(index, a, b)
	h := w.hash(t, i)
	w.at.up()
	return h
}

// sides gives node i of t as the values of a place that only one side has.
func (w *walker) sides(t *tree, i int) (a, b int) {
	if t == &w.b {
		return none, i
	}
	return i, none
}

// hashExact is the same for scalars that are equal.
func (w *walker) hashExact(t *tree, i int) uint64 {
	switch kind := t.nodes[i].kind(); kind {
	case nodeNumber:
		w.name = appendCanonical(w.name[:0], t.raw(i))
		return mix(3, maphash.Bytes(w.seed, w.name))
	case nodeString, nodeEscaped:
		return mix(4, w.hashText(t, i))
	default:
		return mix(2, uint64(kind))
	}
}

// hashScalar is hashExact but for what counts as equal by a rule.
func (w *walker) hashScalar(t *tree, i int) uint64 {
	if r := w.rules; r.values != nil || len(r.equalities) > 0 {
		if h, ok := w.at.class(r, w.scalarText(t, i, &w.refText), typeOf(t.nodes[i].kind())); ok {
			w.loose = true
			return h
		}
	}
	return w.hashExact(t, i)
}

// class gives a hash that is the same for texts at this place that may be equal
// by a rule; ok is false where none speaks of the text.
func (s *states) class(r *Rules, text []byte, kind ValueKind) (h uint64, ok bool) {
	if r.values != nil && len(text) <= maxRuleText && r.values.Match(text) {
		return mix(8, maphash.Bytes(r.seed, r.values.ReplaceAllLiteral(text, []byte{0}))), true
	}
	for _, k := range r.everywhere {
		if h, ok := r.equalities[k].class(r.seed, text, kind); ok {
			return mix(9, h), true
		}
	}
	for _, n := range s.top() {
		for _, k := range s.m.nodes[n].equal {
			if h, ok := r.equalities[k].class(r.seed, text, kind); ok {
				return mix(9, h), true
			}
		}
	}
	return 0, false
}

// hash is the same for values that are equal when what the rules ignore is
// left out. A node's hash is kept: it has one place, so it has one hash.
func (w *walker) hash(t *tree, i int) uint64 {
	if w.at.ignore() >= 0 {
		return 1
	}
	n := &t.nodes[i]
	kind := n.kind()
	switch {
	case kind < nodeArray:
		return w.hashScalar(t, i)
	case kind == nodeDeepArray || kind == nodeDeepObject:
		return mix(5, maphash.Bytes(w.seed, t.raw(i)))
	}
	if len(t.hashes) == 0 {
		t.hashes = slices.Grow(t.hashes, len(t.nodes))[:len(t.nodes)]
		clear(t.hashes)
	}
	h := t.hashes[i]
	if h != 0 {
		return h
	}
	live := w.at.live()
	end := i + n.size()
	if kind == nodeArray {
		var rule *arrayRule
		if k := w.at.array(); k >= 0 && w.rules.arrays[k].by != byOrder {
			rule = &w.rules.arrays[k]
		}
		h = 6
		for k, index := i+1, 0; k < end; k, index = k+t.nodes[k].size(), index+1 {
			if one := w.hashElement(t, k, index); rule != nil {
				h += mix(10, one)
			} else {
				h = mix(h, one)
			}
		}
	} else {
		var sum uint64
		for k := i + 1; k < end; k += 1 + t.nodes[k+1].size() {
			name := w.hashText(t, k)
			if live {
				a, b := w.sides(t, k+1)
				w.at.name(w.stepName(step{name: int32(k), candidate: t == &w.b}), a, b)
			}
			if w.at.ignore() < 0 { // presence is ignored too
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
