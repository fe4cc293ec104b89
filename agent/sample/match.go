package sample

import "bytes"

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

// child finds or makes the child of a literal; children are sorted by text.
func (n *node) child(text string) *node {
	i := 0
	for i < len(n.children) && n.children[i].text < text {
		i++
	}
	if i < len(n.children) && n.children[i].text == text {
		return n.children[i].node
	}
	c := &node{}
	n.children = append(n.children, child{})
	copy(n.children[i+1:], n.children[i:])
	n.children[i] = child{text, c}
	return c
}

// match returns the index of the most specific pattern that matches the path,
// -1 without one. The path is as captured: segments are what stands between its
// slashes, percent-decoded one by one (what is no valid encoding stands for
// itself), so that %2F never separates. Nothing is cleaned: "." and ".." and
// empty segments are segments, though a wildcard does not match an empty one.
//
// The target "*" (RFC 9112 section 3.2.4) has no path; it matches what matches
// every path.
func (t *tree) match(path []byte) int {
	if len(path) == 0 || path[0] != '/' {
		if len(path) == 1 && path[0] == '*' {
			return int(t.root.multi) - 1
		}
		return -1
	}
	return int(t.root.match(path, bytes.IndexByte(path, '%') >= 0)) - 1
}

func (n *node) match(path []byte, encoded bool) int32 {
	if len(path) == 0 {
		return n.leaf
	}
	if len(path) == 1 {
		if n.end != 0 {
			return n.end
		}
		return n.multi
	}
	seg, rest := path[1:], path[len(path):]
	if i := bytes.IndexByte(seg, '/'); i >= 0 {
		seg, rest = seg[:i], seg[i:]
	}
	// A literal is more specific than a wildcard, and that than all the rest;
	// what overlaps was refused. So the first that matches is the one.
	if c := n.find(seg, encoded); c != nil {
		if r := c.match(rest, encoded); r != 0 {
			return r
		}
	}
	if n.wild != nil && len(seg) > 0 {
		if r := n.wild.match(rest, encoded); r != 0 {
			return r
		}
	}
	return n.multi
}

func (n *node) find(seg []byte, encoded bool) *node {
	decode := encoded && validEncoding(seg)
	lo, hi := 0, len(n.children)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		c := &n.children[mid]
		var order int
		if decode {
			order = compareDecoded(seg, c.text)
		} else {
			order = compareText(seg, c.text)
		}
		switch {
		case order == 0:
			return c.node
		case order < 0:
			hi = mid
		default:
			lo = mid + 1
		}
	}
	return nil
}

func compareText(b []byte, s string) int {
	switch {
	case string(b) == s:
		return 0
	case string(b) < s:
		return -1
	}
	return 1
}

// compareDecoded compares the decoded bytes of a valid encoding with s.
func compareDecoded(b []byte, s string) int {
	k := 0
	for i := 0; i < len(b); k++ {
		var c byte
		c, i = decodeAt(b, i)
		switch {
		case k == len(s) || c > s[k]:
			return 1
		case c < s[k]:
			return -1
		}
	}
	if k < len(s) {
		return -1
	}
	return 0
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
func (p *pattern) parameters(path []byte, yield func(name string, value []byte)) {
	if len(path) == 1 && path[0] == '*' {
		if s := p.segments[0]; s.text != "" {
			yield(s.text, path)
		}
		return
	}
	for _, s := range p.segments {
		if len(path) == 0 {
			return
		}
		rest := path[1:]
		if s.kind == multi {
			if s.text != "" {
				yield(s.text, rest)
			}
			return
		}
		i := bytes.IndexByte(rest, '/')
		if i < 0 {
			i = len(rest)
		}
		if s.kind == wild {
			yield(s.text, rest[:i])
		}
		path = rest[i:]
	}
}
