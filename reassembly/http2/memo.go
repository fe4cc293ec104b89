package http2

import "hash/maphash"

// Bounds of what is remembered: blocks, the bytes of one, those of its fields,
// and their number.
const (
	memoSlots  = 128
	memoBlock  = 256
	memoText   = 2 << 10
	memoFields = 32
)

// memo remembers what header blocks said. A block that leaves the decoder's table
// as it is says the same whenever it comes while the table is the same (RFC 7541
// section 3.2), and peers that call the same methods again and again send the
// same blocks: reading such a one costs a comparison of its bytes. All other
// blocks go through the decoder, so the table is always right.
type memo struct {
	seed  maphash.Seed
	slots [memoSlots]memoSlot
	// epochs counts the states of all tables: a number stands for one state of
	// one table.
	epochs uint64
}

type memoSlot struct {
	// seen is the last block that wanted the slot; what comes a second time gets it.
	seen  uint64
	epoch uint64 // 0: empty
	block []byte
	said  section
}

// epoch gives the number of a table's new state.
func (m *memo) epoch() uint64 {
	if m.epochs == 0 {
		m.seed = maphash.MakeSeed()
	}
	m.epochs++
	return m.epochs
}

// find gives what a still block said in a table of that state, or nil; slot and
// hash are for put.
func (m *memo) find(epoch uint64, block []byte) (said *section, slot *memoSlot, hash uint64) {
	hash = maphash.Bytes(m.seed, block) ^ epoch*0x9e3779b97f4a7c15
	slot = &m.slots[hash%memoSlots]
	if slot.epoch == epoch && string(slot.block) == string(block) {
		return &slot.said, slot, hash
	}
	return nil, slot, hash
}

// put remembers what a block said, if it comes for the second time.
func (s *memoSlot) put(epoch, hash uint64, block []byte, said *section) {
	switch {
	case said.over || said.size > memoText || len(said.fields) > memoFields || len(block) > memoBlock:
	case s.seen != hash:
		s.seen = hash
	default:
		s.epoch, s.block = epoch, append(s.block[:0], block...)
		s.said.reset()
		s.said.fields, s.said.size = append(s.said.fields, said.fields...), said.size
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
