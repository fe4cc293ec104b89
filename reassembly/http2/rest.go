package http2

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// A connection at rest is a sleeper: one string of bytes, in which the conn is
// written down. The tables of its decoders are in it as header blocks that build
// them anew (RFC 7541 section 6.2.1). The memo is not: it is learnt again.

// sleeper follows a connection at rest. What comes makes it a conn again, which
// takes its place.
type sleeper struct {
	p    *Parser
	tcp  *reassembly.Conn
	conn []byte // of conn.seal; the budget has its capacity
}

// sleeperCost must fit beside an idle handler of HTTP/1 into what the assembler
// takes for a connection; it is taken all the same.
const sleeperCost = int64(unsafe.Sizeof(sleeper{}))

// Rest implements reassembly.Rester.
func (c *conn) Rest() reassembly.Handler {
	if c.streams.n > 0 || !c.side[0].restful() || !c.side[1].restful() {
		return c
	}
	p := c.p
	p.sealing = c.seal(p.sealing[:0])
	s := &sleeper{p: p, tcp: c.tcp, conn: append([]byte(nil), p.sealing...)}
	c.drop()
	p.cfg.Budget.Must(sleeperCost + int64(cap(s.conn)))
	return s
}

// restful says that a direction stands between two frames, or that nothing of
// it is read any more.
func (s *side) restful() bool {
	switch {
	case s.state == sideDead, s.state == sideLost && !s.synced:
		return true
	}
	return s.phase == phaseHeader && s.n == 0 && !s.block.open
}

// Data implements reassembly.Handler.
func (s *sleeper) Data(d reassembly.Dir, b []byte, at *reassembly.At) { s.wake().Data(d, b, at) }

// Gap implements reassembly.Handler.
func (s *sleeper) Gap(d reassembly.Dir, n uint64, at *reassembly.At) { s.wake().Gap(d, n, at) }

// Doubt implements reassembly.Handler.
func (s *sleeper) Doubt(d reassembly.Dir, from, to uint64) { s.wake().Doubt(d, from, to) }

// End implements reassembly.Handler.
func (s *sleeper) End(reassembly.Dir, reassembly.End) {}

// Close implements reassembly.Handler.
func (s *sleeper) Close(why reassembly.Close) { s.unseal().Close(why) }

// wake makes a conn the connection's handler again.
func (s *sleeper) wake() *conn {
	c := s.unseal()
	c.tcp.Handle(c)
	if c.charged = c.p.cfg.Budget.Take(connCost); !c.charged && c.side[0].state != sideDead {
		c.starve()
	}
	return c
}

// unseal makes a conn that is not charged yet.
func (s *sleeper) unseal() *conn {
	c := s.p.newConn(s.tcp)
	s.p.cfg.Budget.Give(sleeperCost)
	c.sealed = s.conn
	c.unseal(s.conn)
	c.awaken()
	return c
}

const (
	sealProven = 1 << iota
	sealGoneAway
	sealLate
	sealLateOnes
	sealReused
	sealEvicted
)

const (
	sealSynced = 1 << (iota + 2) // above the state
	sealStarted
	sealOver
)

func bit(set bool, b byte) byte {
	if set {
		return b
	}
	return 0
}

// seal appends what conn.unseal reads.
func (c *conn) seal(b []byte) []byte {
	b = append(b, bit(c.proven, sealProven)|bit(c.goneAway, sealGoneAway)|bit(c.late, sealLate)|bit(c.lateOnes, sealLateOnes)|
		bit(c.reused, sealReused)|bit(c.evicted, sealEvicted), byte(c.doubt), byte(c.prefaceN))
	b = binary.AppendUvarint(b, uint64(c.lastID))
	b = binary.AppendUvarint(b, uint64(c.lastPush))
	b = binary.AppendUvarint(b, uint64(c.goAway))
	for d := range c.side {
		s := &c.side[d]
		t := &s.bound
		b = append(b, byte(s.state)|bit(s.synced, sealSynced)|bit(s.started, sealStarted)|bit(t.over, sealOver), t.n)
		b = binary.AppendUvarint(b, uint64(s.maxFrame))
		b = binary.AppendUvarint(b, uint64(s.limit))
		b = binary.AppendUvarint(b, uint64(t.now))
		b = binary.AppendUvarint(b, uint64(t.most))
		for _, v := range t.next[:t.n] {
			b = binary.AppendUvarint(b, uint64(v))
		}
		block := s.frozen
		if s.dec != nil {
			block = c.p.freeze(s.dec)
		}
		b = binary.AppendUvarint(b, uint64(len(block)))
		b = append(b, block...)
	}
	return b
}

// unseal reads what seal wrote. The tables stay in b until somebody needs them.
func (c *conn) unseal(b []byte) {
	next := func() uint32 {
		v, n := binary.Uvarint(b)
		b = b[n:]
		return uint32(v)
	}
	flags := b[0]
	c.proven, c.goneAway, c.late = flags&sealProven != 0, flags&sealGoneAway != 0, flags&sealLate != 0
	c.lateOnes, c.reused, c.evicted = flags&sealLateOnes != 0, flags&sealReused != 0, flags&sealEvicted != 0
	c.doubt, c.prefaceN = exchange.Doubt(b[1]), int(b[2])
	b = b[3:]
	c.lastID, c.lastPush, c.goAway = next(), next(), next()
	for d := range c.side {
		s := &c.side[d]
		t := &s.bound
		s.state, s.synced, s.started, t.over = sideState(b[0]&3), b[0]&sealSynced != 0, b[0]&sealStarted != 0, b[0]&sealOver != 0
		t.n = b[1]
		b = b[2:]
		s.maxFrame, s.limit, t.now, t.most = next(), next(), next(), next()
		for i := range t.next[:t.n] {
			t.next[i] = next()
		}
		if n := next(); n > 0 {
			s.frozen, b = b[:n:n], b[n:]
		}
	}
}

// awaken gives the sealed bytes back when both tables are out of them.
func (c *conn) awaken() {
	if c.side[0].frozen == nil && c.side[1].frozen == nil {
		c.p.cfg.Budget.Give(int64(cap(c.sealed)))
		c.sealed = nil
	}
}

// freeze writes a decoder's table as a header block that makes it out of an
// empty one. It is valid until the next call.
func (p *Parser) freeze(d *hpack.Decoder) []byte {
	p.entries = p.entries[:0]
	d.SetEmitFunc(p.noteEntry)
	d.SetEmitEnabled(true)
	// The entries, from the newest on, up to the first index that is none.
	for i, err := uint64(staticFields+1), error(nil); err == nil; i++ {
		p.index = appendInt(p.index[:0], 0x80, 7, i)
		_, err = d.Write(p.index)
	}
	_ = d.Close() // ready for the next block
	d.SetEmitFunc(p.emitField)
	b := p.frozen[:0]
	for i := len(p.entries) - 1; i >= 0; i-- {
		f := &p.entries[i]
		if at := p.names[f.Name]; at != 0 {
			b = appendInt(b, 0x40, 6, at)
		} else {
			b = appendString(append(b, 0x40), f.Name)
		}
		b = appendString(b, f.Value)
	}
	clear(p.entries)
	p.frozen = b
	return b
}

// thaw gives a decoder with a table of the given size that the block of freeze
// fills.
func (p *Parser) thaw(size uint32, block []byte) *hpack.Decoder {
	d := p.newDecoder()
	if size != firstTable {
		d.SetMaxDynamicTableSize(size)
	}
	d.SetEmitEnabled(false)
	_, err := d.Write(block)
	if end := d.Close(); err != nil || end != nil {
		panic("http2: a header block of freeze is none") // a defect of this package
	}
	return d
}

// staticFields is how many fields the static table has (RFC 7541 appendix A).
const staticFields = 61

// staticNames gives the first index of each name in the static table.
func staticNames() map[string]uint64 {
	names := make(map[string]uint64)
	i := uint64(0)
	d := hpack.NewDecoder(0, func(f hpack.HeaderField) {
		if names[f.Name] == 0 {
			names[f.Name] = i
		}
	})
	for i = 1; i <= staticFields; i++ {
		_, _ = d.Write([]byte{0x80 | byte(i)}) // whole, and in the table
	}
	return names
}

// appendInt writes an integer with a prefix of n bits behind the bits of kind
// (RFC 7541 section 5.1).
func appendInt(b []byte, kind byte, n uint, v uint64) []byte {
	most := uint64(1)<<n - 1
	if v < most {
		return append(b, kind|byte(v))
	}
	b = append(b, kind|byte(most))
	return binary.AppendUvarint(b, v-most)
}

// appendString writes a string, by Huffman's code where that is shorter (RFC
// 7541 section 5.2).
func appendString(b []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, n), s)
	}
	return append(appendInt(b, 0, 7, uint64(len(s))), s...)
}
