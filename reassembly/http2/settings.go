package http2

import (
	"encoding/binary"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

const (
	settingTable = 1
	settingFrame = 5
)

// setting takes one of the settings that d sends: they bind the other side.
func (c *conn) setting(d reassembly.Dir, b []byte) bool {
	v := binary.BigEndian.Uint32(b[2:])
	switch binary.BigEndian.Uint16(b) {
	case settingTable:
		c.side[d].newTable = v
	case settingFrame:
		if v < minFrame || v > maxFrame {
			c.giveUp(exchange.ReasonHTTP2)
			return false
		}
		// A lower limit than before binds only behind the acknowledgement;
		// what is larger than the peer takes ends the connection anyway.
		peer := &c.side[d.Other()]
		peer.maxFrame = max(peer.maxFrame, v)
	}
	return true
}

// endSettings is called at the end of a SETTINGS frame of d.
func (c *conn) endSettings(d reassembly.Dir, s *side) {
	s.next()
	c.side[d.Other()].bound.announce(s.newTable)
	if !c.proven && c.side[0].started && c.side[1].started {
		c.prove()
	}
}

// prove is called when both prefaces were there: only now is it certain that
// this is HTTP/2, and an answer that came before may count.
func (c *conn) prove() {
	c.proven = true
	c.streams.each(func(st *stream) {
		if st.reqEnd && st.respEnd {
			c.settle(st)
		}
	})
}

// tableBound is how large an encoder may make its table: what the peer's
// SETTINGS said. An encoder may use a new value from when it has read it, and an
// old one until it has acknowledged the new (RFC 9113 section 6.5.3), so the
// largest of those counts.
type tableBound struct {
	now  uint32 // acknowledged
	next [8]uint32
	n    uint8 // of next: announced, not yet acknowledged
	// over: more were announced than next holds, or than was seen. From then on
	// none is taken back, and most is allowed.
	over bool
	most uint32
}

// newest is the value that was announced last.
func (t *tableBound) newest() uint32 {
	if t.n > 0 {
		return t.next[t.n-1]
	}
	return t.now
}

func (t *tableBound) announce(v uint32) {
	if int(t.n) == len(t.next) {
		t.over = true
		t.most = max(t.most, t.limit())
		t.n--
	}
	t.next[t.n] = v
	t.n++
}

func (t *tableBound) acknowledge() {
	if t.n == 0 || t.over {
		return
	}
	t.now = t.next[0]
	copy(t.next[:], t.next[1:t.n])
	t.n--
}

// limit is the largest size that the encoder may choose now.
func (t *tableBound) limit() uint32 {
	v := max(t.now, t.most)
	for _, n := range t.next[:t.n] {
		v = max(v, n)
	}
	return v
}
