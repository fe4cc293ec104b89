package http2

import (
	"bytes"
	"hash/maphash"
	"slices"
	"unsafe"
)

// Bounds of what is remembered of a direction: how many blocks, the bytes of
// one, and those of its fields and their number.
const (
	memoBlocks = 4
	memoBlock  = 256
	memoText   = 2 << 10
	memoFields = 32
)

// memo remembers what the last blocks of a direction said. A block that leaves
// the decoder's table as it is says the same whenever it comes while the table is
// the same (RFC 7541 section 3.2), and peers that call the same methods again and
// again send the same blocks: reading such a one costs a comparison of its bytes.
// All other blocks go through the decoder, so the table is always right, and
// what changes it makes the direction forget.
type memo struct {
	// seen are the last blocks that came a first time, by their hashes: what comes
	// a second time is remembered.
	seen [memoBlocks]uint32
	next uint8 // of seen
	// hashes are those of the n known blocks; the eldest is replaced, at last.
	hashes  [memoBlocks]uint32
	n, last uint8
	known   [memoBlocks]*known
	taken   int64 // bytes from the budget
}

// known is a block and what it said.
type known struct {
	block []byte
	said  section
}

// cost is what it takes in memory, in bytes.
func (k *known) cost() int64 {
	return int64(unsafe.Sizeof(*k)) + int64(len(k.block)) + k.said.cost()
}

// find gives what a block said, or nil. hash is for learn.
func (m *memo) find(p *Parser, block []byte) (said *section, hash uint32) {
	hash = uint32(maphash.Bytes(p.seed, block))
	for i := range m.n {
		if m.hashes[i] == hash && string(m.known[i].block) == string(block) {
			return &m.known[i].said, hash
		}
	}
	return nil, hash
}

// learn remembers what a block said, if it comes for the second time. All that is
// remembered takes a sixteenth of the budget at most: exchanges need it more.
func (m *memo) learn(p *Parser, hash uint32, block []byte, said *section) {
	if said.over || said.size > memoText || len(said.fields) > memoFields {
		return
	}
	if !slices.Contains(m.seen[:], hash) {
		m.seen[m.next] = hash
		m.next = (m.next + 1) % memoBlocks
		return
	}
	k := &known{block: bytes.Clone(block), said: section{fields: slices.Clone(said.fields), size: said.size}}
	if cost := k.cost(); p.remembered+cost > p.cfg.Budget.Limit/16 || !m.take(p, cost) {
		return
	}
	at := m.last
	if m.last = (at + 1) % memoBlocks; m.n < memoBlocks {
		m.n++
	} else {
		m.give(p, m.known[at].cost())
	}
	m.hashes[at], m.known[at] = hash, k
}

func (m *memo) take(p *Parser, n int64) bool {
	if !p.cfg.Budget.Take(n) {
		return false
	}
	m.taken += n
	p.remembered += n
	return true
}

func (m *memo) give(p *Parser, n int64) {
	p.cfg.Budget.Give(n)
	m.taken -= n
	p.remembered -= n
}

// forget gives up what is remembered, of a table that is another one now.
func (m *memo) forget(p *Parser) {
	if m.n > 0 {
		m.give(p, m.taken)
		*m = memo{}
	}
}

// still says whether a block leaves the table as it is: it has no field that is
// put in, and no change of size (RFC 7541 section 6). A block that is not whole
// is not still.
func still(block []byte) bool {
	for i := 0; i < len(block); {
		var ok bool
		switch c := block[i]; {
		case c&0x80 != 0: // indexed
			i, ok = pastInt(block, i, 0x7f)
		case c&0x40 != 0, c&0x20 != 0: // put in, a change of size
			return false
		default: // not put in
			named := c&0x0f != 0
			if i, ok = pastInt(block, i, 0x0f); ok && !named {
				i, ok = pastString(block, i)
			}
			if ok {
				i, ok = pastString(block, i)
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

// pastInt gives the place behind the integer at i, whose first byte has the bits
// of mask for it (RFC 7541 section 5.1).
func pastInt(b []byte, i int, mask byte) (int, bool) {
	if b[i]&mask != mask {
		return i + 1, true
	}
	for i++; i < len(b); i++ {
		if b[i]&0x80 == 0 {
			return i + 1, true
		}
	}
	return i, false
}

// pastString gives the place behind the string at i (RFC 7541 section 5.2).
func pastString(b []byte, i int) (int, bool) {
	if i >= len(b) {
		return i, false
	}
	n := uint64(b[i] & 0x7f)
	i++
	if n == 0x7f {
		for shift := 0; ; shift += 7 {
			if i >= len(b) || shift > 28 {
				return i, false
			}
			n += uint64(b[i]&0x7f) << shift
			if i++; b[i-1]&0x80 == 0 {
				break
			}
		}
	}
	if n > uint64(len(b)-i) {
		return i, false
	}
	return i + int(n), true
}
