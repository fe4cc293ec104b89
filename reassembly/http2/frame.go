package http2

import (
	"encoding/binary"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Frame types (RFC 9113 section 6) and flags.
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	frameHeader = 9
	// minFrame is what a peer lets the other send unless it says more, maxFrame
	// the most that it can say (RFC 9113 section 4.2).
	minFrame = 16 << 10
	maxFrame = 1<<24 - 1
)

type phase uint8

const (
	// phaseHeader: in a frame's header.
	phaseHeader phase = iota
	// phasePreface: in the client's connection preface.
	phasePreface
	// phasePrefix: in the fields before the payload proper.
	phasePrefix
	// phaseBody: in DATA, or in the fragment of a header block.
	phaseBody
	// phaseSettings: in settings of 6 bytes each.
	phaseSettings
	// phaseSkip: in what is not looked at.
	phaseSkip
)

// step takes bytes of one frame and says how many, at least one.
func (c *conn) step(d reassembly.Dir, s *side, b []byte, at *reassembly.At, off uint64) int {
	switch s.phase {
	case phasePreface:
		want := preface[c.prefaceN:]
		n := min(len(b), len(want))
		if string(b[:n]) != want[:n] {
			c.giveUp(exchange.ReasonProtocol)
			return n
		}
		if c.prefaceN += n; n == len(want) {
			s.phase = phaseHeader
		}
		return n
	case phaseHeader:
		if s.n == 0 {
			s.place = place{off, at.Ack, at.AckOK, at.Time}
		}
		if s.n == 0 && len(b) >= frameHeader {
			s.pos = off + frameHeader
			c.begin(d, s, b[:frameHeader])
			return frameHeader
		}
		n := copy(s.scratch[s.n:frameHeader], b)
		s.pos = off + uint64(n)
		if s.n += uint8(n); s.n == frameHeader {
			c.begin(d, s, s.scratch[:frameHeader])
		}
		return n
	case phasePrefix:
		n := copy(s.scratch[s.n:s.need], b)
		s.pos = off + uint64(n)
		s.left -= uint32(n)
		if s.n += uint8(n); s.n == s.need {
			c.prefix(d, s, at.Time)
		}
		return n
	case phaseSettings:
		n := copy(s.scratch[s.n:6], b)
		s.left -= uint32(n)
		if s.n += uint8(n); s.n == 6 {
			s.n = 0
			if c.setting(d, s.scratch[:6]) && s.left == 0 {
				c.endSettings(d, s)
			}
		}
		return n
	case phaseBody:
		n := int(min(uint64(len(b)), uint64(s.left-s.pad)))
		s.pos = off + uint64(n)
		if s.typ == frameData {
			s.left -= uint32(n)
			c.content(d, s, b[:n], at.Time)
		} else if !c.fragment(d, s, b[:n], at.Time) {
			return n
		}
		if s.left == s.pad {
			c.bodyDone(d, s, at.Time)
		}
		return n
	}
	n := int(min(uint64(len(b)), uint64(s.left)))
	c.skip(d, s, uint32(n), at.Time)
	return n
}

// skip steps over n bytes of a payload, seen or not.
func (c *conn) skip(d reassembly.Dir, s *side, n uint32, now int64) {
	if s.phase == phaseBody { // a hole in DATA
		lost := min(n, s.left-s.pad)
		if st := s.data; st != nil {
			c.finish(st, exchange.ResultGap, exchange.ReasonNone)
		}
		s.left -= lost
		n -= lost
		if s.left == s.pad {
			c.bodyDone(d, s, now)
		}
	}
	if n == 0 {
		return
	}
	if s.left -= n; s.left == 0 {
		s.next()
	}
}

// next makes ready for the next frame's header.
func (s *side) next() { s.phase, s.n, s.data = phaseHeader, 0, nil }

// begin is called with a frame's whole header.
func (c *conn) begin(d reassembly.Dir, s *side, h []byte) {
	_ = h[frameHeader-1]
	s.left = uint32(h[0])<<16 | uint32(h[1])<<8 | uint32(h[2])
	s.typ, s.flags = h[3], h[4]
	s.id = binary.BigEndian.Uint32(h[5:]) & (1<<31 - 1)
	s.n, s.need, s.pad = 0, 0, 0
	if s.state == sideLost {
		c.beginLost(d, s, h)
		return
	}
	if !s.started {
		if s.typ != frameSettings || s.flags&flagAck != 0 {
			// Where only the server has spoken it may be anything.
			why := exchange.ReasonHTTP2
			if c.prefaceN < len(preface) && c.streams.n == 0 {
				why = exchange.ReasonProtocol
			}
			c.giveUp(why)
			return
		}
		s.started = true
	}
	if !c.legal(d, s) {
		c.giveUp(exchange.ReasonHTTP2)
		return
	}
	padded := s.flags&flagPadded != 0
	switch s.typ {
	case frameData:
		s.data = c.streams.get(s.id)
		if padded {
			s.need = 1
		}
	case frameHeaders, framePush:
		if padded {
			s.need = 1
		}
		if s.typ == framePush {
			s.need += 4
		} else if s.flags&flagPriority != 0 {
			s.need += 5
		}
		s.block.open, s.block.end = true, s.typ == frameHeaders && s.flags&flagEndStream != 0
		s.block.id, s.block.promised, s.block.place = s.id, 0, s.place
	case frameContinuation:
	case frameReset:
		s.need = 4
	case frameGoAway:
		s.need = 8
	case frameSettings:
		switch {
		case s.flags&flagAck != 0:
			c.side[d].bound.acknowledge()
			s.next()
		case s.left == 0:
			s.newTable = c.side[d.Other()].bound.newest()
			c.endSettings(d, s)
		default:
			s.newTable = c.side[d.Other()].bound.newest()
			s.phase = phaseSettings
		}
		return
	default:
		if s.phase = phaseSkip; s.left == 0 {
			s.next()
		}
		return
	}
	switch {
	case s.left < uint32(s.need):
		c.giveUp(exchange.ReasonHTTP2)
	case s.need > 0:
		s.phase = phasePrefix
	default:
		c.body(d, s, s.place.time)
	}
}

// legal says whether a frame keeps to the rules whose breach ends a connection
// (RFC 9113 section 5.4.1).
func (c *conn) legal(d reassembly.Dir, s *side) bool {
	if s.left > s.maxFrame {
		return false
	}
	if s.block.open && (s.typ != frameContinuation || s.id != s.block.id) {
		return false
	}
	client := d == reassembly.Client
	switch s.typ {
	case frameData:
		return s.id != 0
	case frameHeaders:
		return s.id != 0 && (!client || s.id%2 == 1)
	case frameReset:
		return s.id != 0 && s.left == 4
	case frameSettings:
		return s.id == 0 && s.left%6 == 0 && (s.flags&flagAck == 0 || s.left == 0)
	case framePush:
		return !client && s.id%2 == 1
	case framePing:
		return s.id == 0 && s.left == 8
	case frameGoAway:
		return s.id == 0 && s.left >= 8
	case frameWindow:
		return s.left == 4
	case frameContinuation:
		return s.block.open
	}
	return true // unknown types are skipped (RFC 9113 section 4.1)
}

// beginLost looks at a frame whose contents can't be read.
func (c *conn) beginLost(d reassembly.Dir, s *side, h []byte) {
	if !plausible(h) {
		s.synced = false
		return
	}
	switch {
	case s.typ == frameHeaders && (d == reassembly.Client || c.side[reassembly.Client].state == sideLost):
		c.countLate(s.id)
	case s.typ == framePush && d == reassembly.Server:
		c.lateOnes = true
		c.p.lone(1, exchange.ResultUnparsable, exchange.ReasonHTTP2Late)
	}
	if s.phase = phaseSkip; s.left == 0 {
		s.next()
	}
}

// prefix is called at the end of the fields before the payload proper.
func (c *conn) prefix(d reassembly.Dir, s *side, now int64) {
	switch s.typ {
	case frameReset:
		code := binary.BigEndian.Uint32(s.scratch[:])
		s.next()
		c.reset(d, s.id, code)
		return
	case frameGoAway:
		if d == reassembly.Server {
			c.goneAway, c.goAway = true, binary.BigEndian.Uint32(s.scratch[:])&(1<<31-1)
		}
		if s.phase = phaseSkip; s.left == 0 {
			s.next()
		}
		return
	}
	p := s.scratch[:s.need]
	if s.flags&flagPadded != 0 {
		s.pad = uint32(p[0])
		p = p[1:]
	}
	if s.typ == framePush {
		s.block.promised = binary.BigEndian.Uint32(p) & (1<<31 - 1)
	}
	if s.pad > s.left {
		c.giveUp(exchange.ReasonHTTP2)
		return
	}
	c.body(d, s, now)
}

// body begins the payload proper.
func (c *conn) body(d reassembly.Dir, s *side, now int64) {
	if s.phase = phaseBody; s.left == s.pad {
		c.bodyDone(d, s, now)
	}
}

// fragment takes bytes of a header block and says whether to go on.
func (c *conn) fragment(d reassembly.Dir, s *side, b []byte, now int64) bool {
	last := s.left-uint32(len(b)) == s.pad && s.flags&flagEndHeaders != 0
	s.left -= uint32(len(b))
	if last && s.buf == nil {
		c.decode(d, s, b, now)
		return s.state == sideOpen
	}
	if len(s.buf)+len(b) > MaxHead {
		c.tooLarge(d, s)
		return false
	}
	if !s.grow(c.p.cfg.Budget, b) {
		c.starve()
		return false
	}
	return true
}

// bodyDone is called at the end of the payload proper; padding may follow.
func (c *conn) bodyDone(d reassembly.Dir, s *side, now int64) {
	if s.typ == frameData {
		if s.flags&flagEndStream != 0 && s.data != nil {
			c.endStream(d, s.data, now)
		}
	} else if s.flags&flagEndHeaders != 0 && s.block.open {
		c.decode(d, s, s.buf, now)
	}
	if s.state != sideOpen {
		return
	}
	if s.phase, s.data = phaseSkip, nil; s.left == 0 {
		s.next()
	}
}

// grow appends to a header block that is not whole and says whether the budget
// has room.
func (s *side) grow(budget *reassembly.Budget, b []byte) bool {
	old := cap(s.buf)
	if len(s.buf)+len(b) > old {
		n := max(2*old, len(s.buf)+len(b), 1024)
		if !budget.Take(int64(n - old)) {
			return false
		}
		buf := make([]byte, len(s.buf), n)
		copy(buf, s.buf)
		s.buf = buf
	}
	s.buf = append(s.buf, b...)
	return true
}

// Frames says whether b, a segment in the middle of a connection, looks like
// HTTP/2: two frame headers in a row that may be some, or one whose frame is the
// whole segment. It serves for counting alone: any body may hold the same bytes.
func Frames(b []byte) bool {
	if len(b) < frameHeader || !plausible(b) {
		return false
	}
	n := frameHeader + (int(b[0])<<16 | int(b[1])<<8 | int(b[2]))
	return len(b) == n || len(b) >= n+frameHeader && plausible(b[n:])
}

// plausible says whether b begins with a frame header of a known type, of a
// length that needs no settings, on a stream that fits it.
func plausible(b []byte) bool {
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if n > minFrame || b[5]&0x80 != 0 {
		return false
	}
	stream := binary.BigEndian.Uint32(b[5:frameHeader]) != 0
	flags := b[4]
	switch b[3] {
	case frameData:
		return stream && flags&^(flagEndStream|flagPadded) == 0
	case frameHeaders:
		return stream && n > 0 && flags&^(flagEndStream|flagEndHeaders|flagPadded|flagPriority) == 0
	case framePriority:
		return stream && n == 5 && flags == 0
	case frameReset:
		return stream && n == 4 && flags == 0
	case frameSettings:
		return !stream && n%6 == 0 && (flags == 0 || flags == flagAck && n == 0)
	case framePush:
		return stream && n > 4 && flags&^(flagEndHeaders|flagPadded) == 0
	case framePing:
		return !stream && n == 8 && flags&^flagAck == 0
	case frameGoAway:
		return !stream && n >= 8 && flags == 0
	case frameWindow:
		return n == 4 && flags == 0
	case frameContinuation:
		return stream && flags&^flagEndHeaders == 0
	}
	return false
}
