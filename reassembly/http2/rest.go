package http2

import (
	"encoding/binary"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// A connection at rest is a sleeper: one string of bytes, in which the conn is
// written down, the tables of its decoders frozen. The memo is not: it is learnt
// again.

// sleeper follows a connection at rest. What comes makes it a conn again, which
// takes its place.
type sleeper struct {
	p    *Parser
	tcp  *reassembly.Conn
	conn []byte // of conn.seal; the budget has its capacity
}

// sleeperCost is what a sleeper takes from the budget, in bytes: its size class.
const sleeperCost = 48

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
		// One byte where they are what they are at first.
		b = binary.AppendUvarint(b, uint64(s.maxFrame^minFrame))
		b = binary.AppendUvarint(b, uint64(s.limit^firstTable))
		b = binary.AppendUvarint(b, uint64(t.now^firstTable))
		b = binary.AppendUvarint(b, uint64(t.most))
		for _, v := range t.next[:t.n] {
			b = binary.AppendUvarint(b, uint64(v))
		}
		frozen := s.frozen
		if s.dec != nil {
			frozen = c.p.freeze(s.dec)
		}
		b = binary.AppendUvarint(b, uint64(len(frozen)))
		b = append(b, frozen...)
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
		s.maxFrame, s.limit, t.now, t.most = next()^minFrame, next()^firstTable, next()^firstTable, next()
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
