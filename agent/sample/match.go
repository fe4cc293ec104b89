package sample

import (
	"cmp"
	"slices"
)

// tree matches paths against patterns, the most specific first. It is not
// changed after it was built, and matching allocates nothing.
type tree struct{ root node }

// node is a place in the tree, reached by a number of segments. Every node has
// one way to it, so that a match visits each at most once.
type node struct {
	children []child
	wild     *node
	// leaf is the pattern that ends here, end the one that ends here with {$},
	// multi the one that takes all the rest: index + 1, 0 without one.
	leaf, end, multi int32
}

type child struct {
	text string
	node *node
}

// newTree builds a tree of the patterns. Where two match the same paths, the
// first stands; routes are checked for that before, exclusions may overlap.
func newTree(patterns []*pattern) *tree {
	t := &tree{}
	for i, p := range patterns {
		t.add(p, int32(i+1))
	}
	return t
}

func (t *tree) add(p *pattern, index int32) {
	n := &t.root
	for _, s := range p.segments {
		switch s.kind {
		case literal:
			n = n.child(s.text)
		case wild:
			if n.wild == nil {
				n.wild = &node{}
			}
			n = n.wild
		case multi:
			if n.multi == 0 {
				n.multi = index
			}
			return
		case end:
			if n.end == 0 {
				n.end = index
			}
			return
		}
	}
	if n.leaf == 0 {
		n.leaf = index
	}
}

// child finds or makes the child of a literal. Children are sorted by length,
// then text: most segments are told apart by their length alone.
func (n *node) child(text string) *node {
	i, found := slices.BinarySearchFunc(n.children, text, func(c child, text string) int {
		return cmp.Or(cmp.Compare(len(c.text), len(text)), cmp.Compare(c.text, text))
	})
	if !found {
		n.children = slices.Insert(n.children, i, child{text, &node{}})
	}
	return n.children[i].node
}

// path is a request's path in its segments: what stands between its slashes, as
// captured. Nothing is cleaned: "." and ".." and empty segments are segments.
type path struct {
	raw   []byte
	spans []span
	// slash says that the path ends with one; it ends no segment.
	slash bool
	// unclean says that cleaning might change the path.
	unclean bool
}

// span is a segment's place in the path.
type span struct {
	start, end int
	// encoded says that it has percent-encoded bytes and all of them are valid
	// (RFC 3986 section 2.1). A segment with an invalid one stands for itself.
	encoded bool
}

func (p *path) segment(i int) []byte { return p.raw[p.spans[i].start:p.spans[i].end] }

// split finds the segments of a path, with the memory of the last ones. The path
// must not change while they are used. The target "*" (RFC 9112 section 3.2.4)
// and "" have no segments.
func (p *path) split(raw []byte) {
	p.raw, p.spans, p.slash, p.unclean = raw, p.spans[:0], false, false
	if len(raw) == 0 || raw[0] != '/' {
		return
	}
	percent := false
	for start, i := 1, 1; ; i++ {
		switch {
		case i < len(raw) && raw[i] != '/':
			percent = percent || raw[i] == '%'
			continue
		case i == len(raw) && start == i:
			p.slash = true
			return
		}
		seg := raw[start:i]
		encoded := percent && validEncoding(seg)
		p.unclean = p.unclean || len(seg) == 0 || seg[0] == '.' || encoded && dots(seg) > 0
		p.spans = append(p.spans, span{start, i, encoded})
		if i == len(raw) {
			return
		}
		start, percent = i+1, false
	}
}

// match returns the index of the most specific pattern that matches the path,
// -1 without one. Segments are percent-decoded one by one, so that %2F never
// separates. A wildcard does not match an empty segment. The target "*" matches
// what matches every path.
func (t *tree) match(p *path) int {
	if len(p.raw) == 1 && p.raw[0] == '*' {
		return int(t.root.multi) - 1
	}
	return int(t.root.match(p, 0)) - 1
}

// match gives index + 1, 0 when nothing below n matches the segments from at on.
// A literal is more specific than a wildcard, and that than all the rest, and
// what overlaps was refused: so the first that matches is the one.
func (n *node) match(p *path, at int) int32 {
	var rest int32 // of the deepest node on the way that takes all the rest
	for ; at < len(p.spans); at++ {
		if n.multi != 0 {
			rest = n.multi
		}
		seg := p.segment(at)
		next, wild := (*node)(nil), n.wild
		if len(n.children) > 0 {
			next = n.find(seg, p.spans[at].encoded)
		}
		if len(seg) == 0 {
			wild = nil
		}
		if next != nil && wild != nil {
			if r := next.match(p, at+1); r != 0 {
				return r
			}
			next = nil
		}
		if next == nil {
			next = wild
		}
		if next == nil {
			return rest
		}
		n = next
	}
	last := n.leaf
	if p.slash {
		if last = n.end; last == 0 {
			last = n.multi
		}
	}
	if last != 0 {
		return last
	}
	return rest
}

// find gives the child of a literal segment, nil without one.
func (n *node) find(seg []byte, encoded bool) *node {
	if encoded {
		for i := range n.children {
			if equalDecoded(seg, n.children[i].text) {
				return n.children[i].node
			}
		}
		return nil
	}
	if len(n.children) == 1 {
		if c := &n.children[0]; string(seg) == c.text {
			return c.node
		}
		return nil
	}
	lo, hi := 0, len(n.children)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		c := &n.children[mid]
		switch {
		case len(seg) < len(c.text):
			hi = mid
		case len(seg) > len(c.text):
			lo = mid + 1
		case string(seg) == c.text:
			return c.node
		case string(seg) < c.text:
			hi = mid
		default:
			lo = mid + 1
		}
	}
	return nil
}

// equalDecoded compares the decoded bytes of a valid encoding with s.
func equalDecoded(b []byte, s string) bool {
	k := 0
	for i := 0; i < len(b); k++ {
		var c byte
		c, i = decodeAt(b, i)
		if k == len(s) || c != s[k] {
			return false
		}
	}
	return k == len(s)
}

// validEncoding says whether every % of b starts a percent-encoded byte
// (RFC 3986 section 2.1) and there is one.
func validEncoding(b []byte) bool {
	found := false
	for i := 0; i < len(b); i++ {
		if b[i] != '%' {
			continue
		}
		if i+2 >= len(b) || unhex(b[i+1]) < 0 || unhex(b[i+2]) < 0 {
			return false
		}
		found = true
		i += 2
	}
	return found
}

// decodeAt gives the decoded byte at i of a valid encoding, and where the next
// one starts.
func decodeAt(b []byte, i int) (c byte, next int) {
	if b[i] != '%' {
		return b[i], i + 1
	}
	return byte(unhex(b[i+1])<<4 | unhex(b[i+2])), i + 3
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// decoded appends the decoded bytes of b, or b itself when it is no valid
// encoding.
func decoded(dst, b []byte) []byte {
	if !validEncoding(b) {
		return append(dst, b...)
	}
	for i := 0; i < len(b); {
		var c byte
		c, i = decodeAt(b, i)
		dst = append(dst, c)
	}
	return dst
}

// parameters calls yield for each wildcard with the bytes that it matches, as
// captured. The pattern must match the path.
func (p *pattern) parameters(path *path, yield func(name string, value []byte)) {
	for i, s := range p.segments {
		switch {
		case s.kind == multi && s.text != "":
			from := len(path.raw)
			if i < len(path.spans) {
				from = path.spans[i].start
			} else if !path.slash {
				from = 0 // the target "*"
			}
			yield(s.text, path.raw[from:])
		case s.kind == wild:
			yield(s.text, path.segment(i))
		}
	}
}
