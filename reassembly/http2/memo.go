package http2

import (
	"hash/maphash"
	"slices"
	"unsafe"

	"golang.org/x/net/http2/hpack"
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
// Where its path is a literal it may be another one each time: what is compared is
// the block without it. All other blocks go through the decoder, so the table is
// always right, and what changes it makes the direction forget.
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
	// block is without the string that is a literal path. path is where that is
	// left out, 0 without one, and field the path's place among the fields.
	block       []byte
	path, field int
	said        section
	cost        int64 // what it takes in memory, in bytes
}

// span is a part of a header block: a string with its length, or nothing when to is
// 0.
type span struct{ from, to int }

// with puts another path into what the block said: a string as a header block has
// it (RFC 7541 section 5.2), which is lent. It is false for one that the decoder
// must see.
func (k *known) with(p *Parser, text []byte) bool {
	n, _ := pastInt(text, 0, 0x7f)
	path := text[n:]
	if text[0]&0x80 != 0 {
		p.path = p.path[:0]
		if _, err := hpack.HuffmanDecode(&p.path, path); err != nil {
			return false
		}
		path = p.path
	}
	v := unsafe.String(unsafe.SliceData(path), len(path))
	if !cleanValue(v) {
		return false
	}
	s := &k.said
	s.fields[k.field].Value, s.path = v, path
	s.msg.path, s.isAsked = v, false
	return true
}

// find gives what a block said, or nil; path is the string in it that is a literal
// path. hash is for learn, and 0 when there is nothing to learn.
func (m *memo) find(p *Parser, block []byte, path span) (said *section, hash uint32) {
	before, behind := block[:path.from], block[path.to:]
	hash = uint32(maphash.Bytes(p.seed, behind))
	if path.to > 0 {
		hash ^= uint32(maphash.Bytes(p.seed, before) >> 32)
	}
	for i := range m.n {
		if m.hashes[i] != hash {
			continue
		}
		k := m.known[i]
		if k.path != path.from || len(k.block) != len(before)+len(behind) ||
			string(k.block[:k.path]) != string(before) || string(k.block[k.path:]) != string(behind) {
			continue
		}
		if path.to > 0 && !k.with(p, block[path.from:path.to]) {
			return nil, 0
		}
		return &k.said, hash
	}
	return nil, hash
}

// learn remembers what a block said, if it comes for the second time. All that is
// remembered takes a sixteenth of the budget at most: exchanges need it more.
func (m *memo) learn(p *Parser, hash uint32, block []byte, path span, said *section) {
	if hash == 0 || said.over || said.size > memoText || len(said.fields) > memoFields {
		return
	}
	if !slices.Contains(m.seen[:], hash) {
		m.seen[m.next] = hash
		m.next = (m.next + 1) % memoBlocks
		return
	}
	k := &known{block: slices.Concat(block[:path.from], block[path.to:]), path: path.from, said: section{fields: slices.Clone(said.fields), size: said.size}}
	if path.to > 0 {
		k.field = slices.IndexFunc(k.said.fields, func(f hpack.HeaderField) bool { return f.Name == ":path" })
		k.said.fields[k.field].Value = "" // with gives it another one
	}
	k.cost = int64(unsafe.Sizeof(*k)) + int64(len(k.block)) + k.said.cost()
	if p.remembered+k.cost > p.cfg.Budget.Limit/16 || !m.take(p, k.cost) {
		return
	}
	at := m.last
	if m.last = (at + 1) % memoBlocks; m.n < memoBlocks {
		m.n++
	} else {
		m.give(p, m.known[at].cost)
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
// is not still. path is the last string in it that is a literal path.
func still(block []byte) (ok bool, path span) {
	for i := 0; i < len(block); {
		var ok bool
		switch c := block[i]; {
		case c&0x80 != 0: // indexed
			i, ok = pastInt(block, i, 0x7f)
		case c&0x40 != 0, c&0x20 != 0: // put in, a change of size
			return false, span{}
		default: // not put in
			name := c & 0x0f
			if i, ok = pastInt(block, i, 0x0f); ok && name == 0 {
				i, ok = pastString(block, i)
			}
			if from := i; ok {
				if i, ok = pastString(block, i); name == 4 || name == 5 { // RFC 7541 appendix A
					path = span{from, i}
				}
			}
		}
		if !ok {
			return false, span{}
		}
	}
	return true, path
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
