package diff

import (
	"bytes"
	"math"
)

// nodeKind is what a node of a tree holds.
type nodeKind uint8

const (
	nodeNull nodeKind = iota
	nodeFalse
	nodeTrue
	nodeNumber
	nodeString  // source text without quotes, no escapes
	nodeEscaped // source text without quotes, with escapes
	nodeArray
	nodeObject
	// nodeDeepArray and nodeDeepObject lie at the depth limit: their text is
	// known to be JSON, what is in it is not in the tree.
	nodeDeepArray
	nodeDeepObject
)

// node is a value or a member's name. A tree is a slice of them in the order
// of the text: an array is followed by its elements, an object by name, value,
// name, value.
type node struct {
	off, end uint32
	// word is the number of nodes in the subtree, this one included, times
	// 16, plus the kind.
	word uint32
}

const (
	maxTreeText  = math.MaxUint32
	maxTreeNodes = 1<<28 - 1
)

func (n *node) kind() nodeKind { return nodeKind(n.word & 15) }
func (n *node) size() int      { return int(n.word >> 4) }

// tree is one JSON text taken apart. Its memory is used again.
type tree struct {
	text   []byte
	nodes  []node
	open   []int32 // brackets that are not closed, while it is built
	hashes []uint64
}

// grown says what a step of building came to.
type grown uint8

const (
	grownWhole grown = iota
	grownPart        // all tokens that end before the limit
	grownBad         // no JSON; the offset says where
	grownFull        // too many values
)

// noLimit lets grow go on to the end of the text.
const noLimit = math.MaxInt

// begin starts a tree of text.
func (t *tree) begin(text []byte) {
	t.text, t.nodes, t.open, t.hashes = text, t.nodes[:0], t.open[:0], t.hashes[:0]
}

// branch starts a tree of text with what there is of another, whose text
// begins alike.
func (t *tree) branch(text []byte, from *tree) {
	t.begin(text)
	t.nodes = append(t.nodes, from.nodes...)
	t.open = append(t.open, from.open...)
}

// grow reads tokens into the tree: brackets down to depth levels, at most
// values nodes. It stops ahead of the first token that does not end before
// until, and there tk stands too.
func (t *tree) grow(tk *tokens, depth, values, until int) (grown, int) {
	if uint64(len(t.text)) > maxTreeText {
		return grownFull, 0
	}
	values = min(values, maxTreeNodes)
	for {
		m := tk.mark()
		k := tk.next()
		if until != noLimit && (tk.pos >= until || k == tokenBad) {
			tk.back(m)
			return grownPart, 0
		}
		var kind nodeKind
		switch k {
		case tokenBad:
			return grownBad, tk.pos
		case tokenEnd:
			return grownWhole, 0
		case tokenEndArray, tokenEndObject:
			if tk.depth < len(t.open) { // else it lies below the limit
				last := len(t.open) - 1
				i := t.open[last]
				t.open = t.open[:last]
				n := &t.nodes[i]
				n.end = uint32(tk.end)
				n.word += uint32(len(t.nodes)-int(i)-1) << 4
			}
			continue
		case tokenArray, tokenObject:
			if tk.depth > depth+1 {
				continue
			}
			kind = nodeArray
			if k == tokenObject {
				kind = nodeObject
			}
			if tk.depth == depth+1 {
				kind += nodeDeepArray - nodeArray
			}
		case tokenKey, tokenString:
			kind = nodeString
			if tk.escaped {
				kind = nodeEscaped
			}
		case tokenNumber:
			kind = nodeNumber
		case tokenTrue:
			kind = nodeTrue
		case tokenFalse:
			kind = nodeFalse
		case tokenNull:
			kind = nodeNull
		}
		if kind < nodeArray && tk.depth > depth {
			continue
		}
		if len(t.nodes) == values {
			tk.back(m)
			return grownFull, 0
		}
		if len(t.nodes) == cap(t.nodes) {
			// Doubled, but no larger than the text can fill: a value and what
			// parts it from the next are two bytes.
			n := min(max(2*cap(t.nodes), 64), values, len(t.text)/2+2)
			t.nodes = append(make([]node, 0, n), t.nodes...)
		}
		if kind >= nodeArray {
			t.open = append(t.open, int32(len(t.nodes)))
		}
		t.nodes = append(t.nodes, node{off: uint32(tk.start), end: uint32(tk.end), word: 1<<4 | uint32(kind)})
	}
}

// raw is a node's source text; a string's without the quotes.
func (t *tree) raw(i int) []byte {
	n := &t.nodes[i]
	return t.text[n.off:n.end]
}

// sameRaw says whether two nodes have the same kind and source text.
func sameRaw(a *tree, i int, b *tree, j int) bool {
	return a.nodes[i].kind() == b.nodes[j].kind() && bytes.Equal(a.raw(i), b.raw(j))
}
