package http2

import (
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// decode takes a whole header block through the direction's decoder, wanted or
// not, and hands its fields on.
func (c *conn) decode(d reassembly.Dir, s *side, block []byte, now int64) {
	s.block.open = false
	b := &s.block
	// Whose block it is, as far as that is followed.
	st := c.streams.get(b.id)
	fresh := false
	switch {
	case b.promised != 0:
		fresh = b.promised%2 == 0 && b.promised > c.lastPush
	case d == reassembly.Client:
		fresh = b.id > c.lastID
	}
	// A request whose answer can't be read is only counted.
	lost := d == reassembly.Client && c.side[reassembly.Server].state == sideLost
	if !c.unpack(s, block, (st != nil || fresh) && !(fresh && lost)) {
		return
	}
	if s.buf != nil {
		c.p.cfg.Budget.Give(int64(cap(s.buf)))
		s.buf = nil
	}
	switch {
	case b.promised != 0:
		if fresh {
			c.promise(b.promised, &b.place)
		}
	case d == reassembly.Client && fresh && lost:
		c.countLate(b.id)
	case d == reassembly.Client && fresh:
		c.request(b.id, &b.place, b.end, now)
	case d == reassembly.Client && st != nil:
		c.requestTrailer(st, b.end, now)
	case d == reassembly.Client: // it was reset, or is over
	case st == nil:
		c.stray(b.id)
	case !st.respHeadDone:
		c.answer(st, &b.place, b.end, now)
	default:
		c.answerTrailer(st, b.end, now)
	}
}

// unpack decodes a block; the fields are emitted only if they are wanted. It
// says whether the connection goes on.
func (c *conn) unpack(s *side, block []byte, want bool) bool {
	p := c.p
	if s.dec == nil {
		s.table = max(firstTable, s.limit)
		if !p.cfg.Budget.Take(int64(s.table)) {
			c.starve()
			return false
		}
		s.taken = int64(s.table)
		s.dec = p.thaw(s.limit, s.frozen)
		s.frozen = nil
		c.awaken()
	}
	quiet, path := still(block)
	learn := want && quiet && len(block) <= memoBlock
	var hash uint32
	if learn {
		if p.section, hash = s.memo.find(p, block, path); p.section != nil {
			return true
		}
	}
	whole := block
	// Changes of the table's size stand first (RFC 7541 section 4.2).
	for len(block) > 0 && block[0]&0xe0 == 0x20 {
		size, n := varint5(block)
		if n == 0 || size > uint64(min(s.bound.limit(), maxTable)) {
			c.giveUp(exchange.ReasonHPACK)
			return false
		}
		if more := int64(size) - s.taken; more > 0 {
			if !p.cfg.Budget.Take(more) {
				c.starve()
				return false
			}
			s.taken += more
		}
		s.limit = uint32(size)
		s.table = max(s.table, s.limit)
		s.dec.SetMaxDynamicTableSize(s.limit)
		block = block[n:]
	}
	s.dec.SetAllowedMaxDynamicTableSize(0) // nowhere else
	s.dec.SetEmitEnabled(want)
	p.section, p.decoder = &p.decoded, s.dec
	p.decoded.reset()
	_, err := s.dec.Write(block)
	if end := s.dec.Close(); err != nil || end != nil {
		c.giveUp(exchange.ReasonHPACK)
		return false
	}
	switch {
	case !quiet:
		s.memo.forget(p)
	case learn:
		s.memo.learn(p, hash, whole, path, &p.decoded)
	}
	return true
}

// varint5 reads an integer with a prefix of 5 bits (RFC 7541 section 5.1); n is
// 0 when it is not whole or over 32 bits.
func varint5(b []byte) (v uint64, n int) {
	if v = uint64(b[0] & 0x1f); v < 0x1f {
		return v, 1
	}
	for i := 1; i < len(b) && i < 6; i++ {
		v += uint64(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}

// tooLarge is called when a block grows over the limit: its message is counted
// under that name, and the connection is given up, because the table's state is
// in the rest of the block.
func (c *conn) tooLarge(d reassembly.Dir, s *side) {
	id := s.block.id
	if s.block.promised != 0 {
		id = s.block.promised
	}
	if st := c.streams.get(id); st != nil {
		c.finish(st, exchange.ResultTooLarge, exchange.ReasonHead)
	} else if s.block.promised != 0 || d == reassembly.Client && id > c.lastID {
		c.p.lone(1, exchange.ResultTooLarge, exchange.ReasonHead)
	}
	if c.streams.n == 0 {
		c.late = false
		c.kill()
		return
	}
	c.giveUp(exchange.ReasonHPACK)
}

// stray takes the head of an answer to a stream that is not followed.
func (c *conn) stray(id uint32) {
	switch {
	case id%2 == 0 || id <= c.lastID: // it is over, or was counted
	case c.side[reassembly.Client].state == sideLost:
		c.countLate(id)
	default:
		// Nobody opened it: a request is delivered before its answer.
		c.p.st.Orphans++
		c.p.lone(1, exchange.ResultNoRequest, exchange.ReasonNone)
	}
}
