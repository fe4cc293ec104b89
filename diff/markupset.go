package diff

import "hash/maphash"

// This file applies the rules for arrays to XML and HTML. There an array is the
// elements of one name in one element, $.list.item, and what is in an element is
// one too, $.list: whatever their names are. Texts keep their order.

// freeRule gives the rule by which elements of a name are laid beside each other,
// nil when it is their order. c.places stands at their parent; many says that
// there is more than one of them.
func (w *markupWalk) freeRule(name string, many bool) *arrayRule {
	s := &w.c.places
	k := int32(none)
	if many {
		s.name([]byte(name), none, none)
		k = s.array()
		s.up()
	}
	if k < 0 {
		k = s.array()
	}
	if k < 0 || w.c.rules.arrays[k].by == byOrder {
		return nil
	}
	return &w.c.rules.arrays[k]
}

// stand brings c.places to a place.
func (w *markupWalk) stand(at trail) {
	s := &w.c.places
	s.reset(&w.c.rules.json, nil, nil)
	for _, to := range at {
		s.step(to)
	}
}

// under steps from an element to a child, says whether a rule ignores it, and
// gives how to step back.
func (s *states) under(to markupStep) (up int, ignored bool) {
	s.name([]byte(to.name), none, none)
	ignored = s.ignore() >= 0
	if to.index < 0 {
		return 1, ignored
	}
	s.element(to.index, none, none)
	return 2, ignored || s.ignore() >= 0
}

func (s *states) back(up int) {
	for range up {
		s.up()
	}
}

// markupKids are children of an element with the steps to them and hashes by
// which they are laid beside each other.
type markupKids struct {
	nodes  []int32
	steps  []markupStep
	hashes []uint64
}

func (k *markupKids) add(node int32, step markupStep, hash uint64) {
	k.nodes, k.steps, k.hashes = append(k.nodes, node), append(k.steps, step), append(k.hashes, hash)
}

// split divides children into those whose order is free, with hashes of what
// they are paired by, and the rest.
func (w *markupWalk) split(m *markup, nodes []int32, steps []markupStep, rules map[string]*arrayRule) (free, rest markupKids) {
	for k, n := range nodes {
		node := &m.nodes[n]
		up, _ := w.c.places.under(steps[k])
		hash := w.ruled(m, n)
		w.c.places.back(up)
		rule := rules[node.name]
		switch {
		case node.kind != markupElement || rule == nil:
			rest.add(n, steps[k], hash)
			continue
		case rule.by == byKey:
			if key, ok := w.key(m, n, rule.key); ok {
				hash = mix(mix(21, maphash.String(m.seed, node.name)), maphash.String(m.seed, key))
			}
		}
		free.add(n, steps[k], hash)
	}
	return free, rest
}

// key finds the text that a singular query names: '@id' an attribute, a name
// the first element of that name, or with an index another one, which has no
// elements in it.
func (w *markupWalk) key(m *markup, i int32, query []pathStep) (text string, ok bool) {
	for k := 0; k < len(query); k++ {
		if !query[k].named {
			return "", false
		}
		name, skip := query[k].name, 0
		last := k == len(query)-1
		if last && name != "" && name[0] == '@' {
			for _, a := range m.attributes[m.nodes[i].from:m.nodes[i].to] {
				if a.name == name[1:] {
					return a.value, true
				}
			}
			return "", false
		}
		if !last && !query[k+1].named {
			k++
			skip = query[k].index
		}
		child := m.nodes[i].first
		for ; child >= 0; child = m.nodes[child].next {
			if m.nodes[child].name == name {
				if skip == 0 {
					break
				}
				skip--
			}
		}
		if child < 0 {
			return "", false
		}
		i = child
	}
	n := &m.nodes[i]
	switch {
	case n.kind == markupText:
		return n.text, true
	case n.kind != markupElement || n.deep:
		return "", false
	case n.first < 0:
		return "", true
	}
	only := &m.nodes[n.first]
	return only.text, only.kind == markupText && only.next < 0
}

// ruled is a hash that is the same for nodes that are equal when what the rules
// ignore in them is left out. c.places stands at the node. It decides what is laid
// beside what and never that something is equal. A node has one place, so its
// hash is kept.
func (w *markupWalk) ruled(m *markup, i int32) uint64 {
	n := &m.nodes[i]
	if n.ruled != 0 {
		return n.ruled
	}
	h := m.key(i)
	switch {
	case n.kind != markupElement:
		h = mix(h, w.ruledText(m, n.text))
	case n.deep:
		h = mix(h, maphash.Bytes(m.seed, m.raw(i)))
	default:
		h = w.ruledInside(m, i, h)
	}
	n.ruled = max(h, 1)
	return n.ruled
}

// ruledInside adds what is in an element.
func (w *markupWalk) ruledInside(m *markup, i int32, h uint64) uint64 {
	s := &w.c.places
	for _, a := range m.attributes[m.nodes[i].from:m.nodes[i].to] {
		s.name([]byte("@"+a.name), none, none)
		if s.ignore() < 0 {
			h = mix(mix(mix(h, maphash.String(m.seed, a.space)), maphash.String(m.seed, a.name)), w.ruledText(m, a.value))
		}
		s.up()
	}
	kids := m.kids(i)
	steps, count := m.steps(kids)
	rules := map[string]*arrayRule{}
	for name, n := range count {
		rules[name] = w.freeRule(name, n > 1)
	}
	var sum uint64
	for k, kid := range kids {
		step := steps[k]
		if m.nodes[kid].kind == markupText && count[step.name] < 2 {
			step.index = -1
		}
		up, ignored := s.under(step)
		if ignored { // presence is ignored too
			s.back(up)
			continue
		}
		one := w.ruled(m, kid)
		s.back(up)
		if m.nodes[kid].kind == markupElement && rules[step.name] != nil {
			sum += mix(10, one)
		} else {
			h = mix(h, one)
		}
	}
	return mix(h, sum)
}

// ruledText is the hash of a text but for what counts as equal by a rule.
func (w *markupWalk) ruledText(m *markup, text string) uint64 {
	if h, ok := w.c.places.class(w.c.rules, []byte(text), ValueString); ok {
		w.loose = true
		return h
	}
	return maphash.String(m.seed, text)
}

// unordered compares the elements in two elements whose order is free by a rule,
// and gives the other children. Those of one name are paired by their key or as
// a whole; what has no partner is removed or added.
func (w *markupWalk) unordered(ka, kb markupKids, na, nb map[string]int, at trail) (restA, restB markupKids) {
	c := w.c
	w.stand(at)
	rules, bySets := map[string]*arrayRule{}, true
	for _, n := range [...]map[string]int{na, nb} {
		for name := range n {
			rule := w.freeRule(name, max(na[name], nb[name]) > 1)
			rules[name] = rule
			bySets = bySets && (rule == nil || rule.by == bySet)
		}
	}
	var a, b markupKids
	a, restA = w.split(&w.a, ka.nodes, ka.steps, rules)
	b, restB = w.split(&w.b, kb.nodes, kb.steps, rules)
	if len(a.nodes)+len(b.nodes) == 0 {
		return restA, restB
	}
	of, taken := c.pairByHash(a.hashes, b.hashes, w.loose && bySets, func(x, y int32) (ok, exact bool) {
		return c.probe(func() { w.pair(a.nodes[x], b.nodes[y], a.steps[x], b.steps[y], at) })
	})
	for k, n := range a.nodes {
		switch {
		case c.full:
			return restA, restB
		case of[k] < 0:
			c.addAt(KindRemoved, a.steps[k].under(at), w.value(&w.a, n), Value{}, "")
		default:
			w.pair(n, b.nodes[of[k]], a.steps[k], b.steps[of[k]], at)
		}
	}
	for k, n := range b.nodes {
		if taken[k] < 0 && !c.full {
			c.addAt(KindAdded, b.steps[k].under(at), Value{}, w.value(&w.b, n), "")
		}
	}
	return restA, restB
}

// pair compares two elements that lie beside each other.
func (w *markupWalk) pair(i, j int32, stepA, stepB markupStep, at trail) {
	if w.a.nodes[i].name == w.b.nodes[j].name {
		w.node(i, j, stepA.under(at))
		return
	}
	// Two names with one hash.
	w.c.addAt(KindRemoved, stepA.under(at), w.value(&w.a, i), Value{}, "")
	w.c.addAt(KindAdded, stepB.under(at), Value{}, w.value(&w.b, j), "")
}
