package diff

// matcher is the rules for places in JSON as one automaton. A place in a body is
// a set of states; a step down the body is one step of the automaton, so the
// cost does not grow with the number of rules that do not match.
type matcher struct {
	nodes []matchNode // nodes[0] is the root; empty without rules
}

// none stands for no rule, and for no state.
const none = -1

type matchNode struct {
	// Where the selectors lead. Of the states in one list at most one is
	// shared by the rules that begin alike; the others are private.
	names   map[string][]int32
	index   map[int][]int32
	any     []int32
	filters []filtered
	// below is the state of a descendant segment: it stays in the set at
	// every depth. none without.
	below   int32
	sticky  bool
	private bool
	// What the rules say that end here: the first rule that ignores, an index
	// of Rules.places; the rules of equality, indexes of Rules.equalities; the
	// first rule for arrays, an index of Rules.arrays. none without.
	ignore int32
	equal  []int32
	array  int32
}

// filtered is a state that is reached by what passes a filter.
type filtered struct {
	filter *filter
	to     int32
}

func (m *matcher) node(n matchNode) int32 {
	n.below, n.ignore, n.array = none, none, none
	m.nodes = append(m.nodes, n)
	return int32(len(m.nodes) - 1)
}

// add compiles one path into the automaton, at most two states a segment, and
// gives the state at its end.
func (m *matcher) add(segs []segment) *matchNode {
	if len(m.nodes) == 0 {
		m.node(matchNode{})
	}
	at := int32(0)
	for _, seg := range segs {
		if seg.descendant {
			if m.nodes[at].below < 0 {
				below := m.node(matchNode{sticky: true})
				m.nodes[at].below = below
			}
			at = m.nodes[at].below
		}
		if len(seg.selectors) == 1 {
			at = m.shared(at, seg.selectors[0])
			continue
		}
		// Several selectors lead to one state, which therefore no other rule
		// may come to by one of them.
		to := m.node(matchNode{private: true})
		for _, sel := range seg.selectors {
			m.link(at, sel, to)
		}
		at = to
	}
	return &m.nodes[at]
}

// shared gives the state to which a selector leads, for all rules. Filters
// share none.
func (m *matcher) shared(from int32, sel selector) int32 {
	n := &m.nodes[from]
	var to []int32
	switch {
	case sel.filter != nil:
	case sel.any:
		to = n.any
	case sel.named:
		to = n.names[sel.name]
	default:
		to = n.index[sel.index]
	}
	for _, t := range to {
		if !m.nodes[t].private {
			return t
		}
	}
	t := m.node(matchNode{})
	m.link(from, sel, t)
	return t
}

func (m *matcher) link(from int32, sel selector, to int32) {
	n := &m.nodes[from]
	switch {
	case sel.filter != nil:
		n.filters = append(n.filters, filtered{sel.filter, to})
	case sel.any:
		n.any = append(n.any, to)
	case sel.named:
		if n.names == nil {
			n.names = map[string][]int32{}
		}
		n.names[sel.name] = append(n.names[sel.name], to)
	default:
		if n.index == nil {
			n.index = map[int][]int32{}
		}
		n.index[sel.index] = append(n.index[sel.index], to)
	}
}

func contains(s []int32, v int32) bool {
	for _, x := range s {
		if x == v {
			return true
		}
	}
	return false
}

// states is a stack of state sets, one for each step of the place at which a
// walk stands. It is memory that is used again; the rules are only read.
type states struct {
	m    *matcher
	a, b *tree   // that are walked, for filters
	sets []int32 // all sets, one after the other
	ends []int   // where each set ends
}

func (s *states) reset(m *matcher, a, b *tree) {
	s.m, s.a, s.b, s.sets, s.ends = m, a, b, s.sets[:0], s.ends[:0]
	if len(m.nodes) > 0 {
		s.enter(0, 0)
	}
	s.ends = append(s.ends, len(s.sets))
}

// enter adds a state, and what it reaches without a step, to the set that
// begins at start.
func (s *states) enter(start int, n int32) {
	if n < 0 || contains(s.sets[start:], n) {
		return
	}
	s.sets = append(s.sets, n)
	s.enter(start, s.m.nodes[n].below)
}

func (s *states) top() []int32 {
	n := len(s.ends)
	start := 0
	if n > 1 {
		start = s.ends[n-2]
	}
	return s.sets[start:s.ends[n-1]]
}

// live says whether a rule may still match at or below this place.
func (s *states) live() bool { return len(s.top()) > 0 }

// ignore gives the first rule that ignores this place, none without.
func (s *states) ignore() int32 {
	rule := int32(none)
	for _, n := range s.top() {
		if r := s.m.nodes[n].ignore; r >= 0 && (rule < 0 || r < rule) {
			rule = r
		}
	}
	return rule
}

// array gives the first rule for the array at this place, none without.
func (s *states) array() int32 {
	rule := int32(none)
	for _, n := range s.top() {
		if r := s.m.nodes[n].array; r >= 0 && (rule < 0 || r < rule) {
			rule = r
		}
	}
	return rule
}

// name steps down to the member of that name, the text of its string; i and j
// are its values, none for a side without.
func (s *states) name(name []byte, i, j int) {
	for k, to := s.stay(i, j); k < to; k++ {
		for _, next := range s.m.nodes[s.sets[k]].names[string(name)] {
			s.enter(to, next)
		}
	}
	s.ends = append(s.ends, len(s.sets))
}

// element steps down to the element of that index; i and j are as for name.
func (s *states) element(index, i, j int) {
	for k, to := s.stay(i, j); k < to; k++ {
		for _, next := range s.m.nodes[s.sets[k]].index[index] {
			s.enter(to, next)
		}
	}
	s.ends = append(s.ends, len(s.sets))
}

// stay begins the set of the next step down with what does not depend on where
// it leads. It gives the bounds of the set that is left.
func (s *states) stay(i, j int) (from, to int) {
	to = s.ends[len(s.ends)-1]
	from = to - len(s.top())
	for k := from; k < to; k++ {
		n := &s.m.nodes[s.sets[k]]
		if n.sticky {
			s.enter(to, s.sets[k])
		}
		for _, next := range n.any {
			s.enter(to, next)
		}
		for _, f := range n.filters {
			// Outside JSON there is nothing that a filter could hold for.
			if (i >= 0 || j >= 0) && (i < 0 || f.filter.holds(s.a, i)) && (j < 0 || f.filter.holds(s.b, j)) {
				s.enter(to, f.to)
			}
		}
	}
	return from, to
}

// up steps back.
func (s *states) up() {
	n := len(s.ends)
	s.ends = s.ends[:n-1]
	s.sets = s.sets[:s.ends[n-2]]
}
