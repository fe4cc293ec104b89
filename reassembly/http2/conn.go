package http2

import (
	"encoding/base64"

	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// preface begins the client's stream (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

type sideState uint8

const (
	// sideOpen: frames and header blocks are read.
	sideOpen sideState = iota
	// sideLost: the table is gone; frames are at most counted.
	sideLost
	// sideDead: nothing of the connection is used any more.
	sideDead
)

// side is one direction's parser.
type side struct {
	state sideState
	phase phase
	// synced: the place of the next frame is known, in a direction that is lost.
	synced bool
	// started: its first frame was there, a SETTINGS.
	started bool

	// The frame at hand: its header and prefix so far, n bytes of need.
	scratch [10]byte
	n, need uint8
	typ     uint8
	flags   uint8
	pad     uint32
	left    uint32 // of its payload
	id      uint32
	place   place
	data    *stream // that its DATA belong to
	// The header block at hand, from HEADERS or PUSH_PROMISE to END_HEADERS.
	block struct {
		open     bool
		end      bool // END_STREAM
		id       uint32
		promised uint32
		place    place
	}
	buf []byte // of a header block that is not whole yet

	// dec is nil before the first block, and behind a rest: frozen then is what
	// its table holds, a part of conn.sealed.
	dec    *hpack.Decoder
	frozen []byte
	memo   memo
	// limit is the size that the encoder chose for the dynamic table, table the
	// largest that dec had, taken what the budget gave for it.
	limit, table uint32
	taken        int64
	bound        tableBound
	// maxFrame is the largest payload that the peer lets this side send.
	maxFrame uint32
	newTable uint32 // HEADER_TABLE_SIZE in the SETTINGS frame at hand
	pos      uint64 // behind what was read last
}

// place is where and when a frame began.
type place struct {
	off, ack uint64
	ackOK    bool
	time     int64
}

// conn follows one connection.
type conn struct {
	p    *Parser
	tcp  *reassembly.Conn
	side [2]side

	streams table
	// resets are the last streams that were reset while their end was on its
	// way.
	resets resetRing
	// lastID is the highest stream that the client opened, lastPush that the
	// server promised.
	lastID, lastPush uint32
	goAway           uint32 // the last stream that the server answers
	prefaceN         int
	proven           bool // both prefaces were there
	goneAway         bool
	// late: it was joined late, or lost both tables. lateOnes: and an exchange
	// was counted for that.
	late, lateOnes bool
	reused         bool // it carried a request before
	charged        bool // the budget has its cost
	evicted        bool
	doubt          exchange.Doubt
	sealed         []byte // what frozen tables are in; the budget has its capacity

	free *conn
}

// open takes the connection over.
func (c *conn) open(h *exchange.Handover) {
	for d := range c.side {
		s := &c.side[d]
		s.maxFrame, s.limit = minFrame, firstTable
		s.bound.now = firstTable
	}
	c.doubt = h.Doubt
	cl := &c.side[reassembly.Client]
	cl.phase = phasePreface
	c.prefaceN = h.Preface
	u := h.Upgrade
	if c.charged = c.p.cfg.Budget.Take(connCost); !c.charged {
		c.evicted = true
		if u != nil {
			c.p.start()
			c.p.lose(&u.Decision, u.First, exchange.ResultEvicted, exchange.ReasonNone)
			c.p.cfg.Budget.Give(u.Taken)
		} else {
			c.p.lone(1, exchange.ResultEvicted, exchange.ReasonNone)
		}
		c.kill()
		return
	}
	if h.ClientLost || !c.tcp.FromStart(reassembly.Client) && u == nil {
		c.lose(reassembly.Client)
	}
	if h.ServerLost || !c.tcp.FromStart(reassembly.Server) && u == nil {
		c.lose(reassembly.Server)
	}
	if u != nil {
		c.upgraded(u)
	}
}

// upgraded makes stream 1 of the request that asked for HTTP/2.
func (c *conn) upgraded(u *exchange.Upgrade) {
	p := c.p
	p.start()
	c.lastID, c.reused = 1, true
	st := p.newStream()
	st.id = 1
	st.start, st.headEnd = u.Offset, u.End
	st.first, st.last = u.First, u.Last
	st.flow, st.decision, st.doubt, st.req = u.Flow, u.Decision, u.Doubt, u.Request
	st.reused, st.head, st.reqEnd, st.reqHeadDone = u.Reused, u.Head, true, true
	st.interim = u.Interim
	st.taken = u.Taken
	st.reqLen, st.respLen = -1, -1
	if q := st.req; q != nil {
		st.kept = new(kept)
		q.Proto, q.Scheme, q.Framing, q.Head, q.Wire = "HTTP/2", "http", exchange.FramingH2, nil, q.Body.Bytes
	}
	c.streams.put(st)
	if u.Late {
		p.late(st)
	}
	settings, err := base64.RawURLEncoding.DecodeString(u.Settings)
	switch {
	case !st.take(p.cfg.Budget, streamCost):
		c.finish(st, exchange.ResultEvicted, exchange.ReasonNone)
	case u.Fail != exchange.ResultComplete:
		c.finish(st, u.Fail, u.Reason)
	case u.Spoiled:
		c.finish(st, exchange.ResultGap, exchange.ReasonNone)
	case err != nil || len(settings)%6 != 0:
		c.giveUp(exchange.ReasonHTTP2)
		return
	}
	// They need no acknowledgement: the 101 is one (RFC 7540 section 3.2.1).
	s, peer := &c.side[reassembly.Client], &c.side[reassembly.Server]
	s.newTable = peer.bound.newest()
	for ; len(settings) > 0; settings = settings[6:] {
		if !c.setting(reassembly.Client, settings) {
			return
		}
	}
	peer.bound.announce(s.newTable)
	peer.bound.acknowledge()
}

// Data implements reassembly.Handler.
func (c *conn) Data(d reassembly.Dir, b []byte, at *reassembly.At) {
	s := &c.side[d]
	off := at.Offset
	if at.Urgent {
		c.doubtAll(exchange.DoubtUrgent)
	}
	if s.state == sideLost && !s.synced && at.Start && Frames(b) {
		s.synced = true
		s.phase, s.n = phaseHeader, 0
	}
	st := &c.p.st
	for len(b) > 0 {
		switch {
		case s.state == sideDead && c.evicted:
			st.Evicted += uint64(len(b))
			return
		case s.state == sideDead:
			st.Unparsable += uint64(len(b))
			return
		case s.state == sideLost && !s.synced:
			st.AfterGap += uint64(len(b))
			return
		}
		to := &st.Parsed
		if s.state == sideLost {
			to = &st.AfterGap
		} else if s.data != nil && s.data.tunnel && s.phase == phaseBody {
			to = &st.Upgraded
		}
		n := c.step(d, s, b, at, off)
		*to += uint64(n)
		b, off = b[n:], off+uint64(n)
	}
}

// Gap implements reassembly.Handler.
func (c *conn) Gap(d reassembly.Dir, n uint64, at *reassembly.At) {
	s := &c.side[d]
	if s.state == sideDead || s.state == sideLost && !s.synced {
		return
	}
	if n <= uint64(s.left) && (s.phase == phaseSkip || s.phase == phaseBody && s.typ == frameData) {
		c.skip(d, s, uint32(n), at.Time)
		return
	}
	if s.state == sideLost {
		s.synced = false
		return
	}
	c.lose(d)
}

// Doubt implements reassembly.Handler. Which copy the peer took decides also
// about its table: nothing from here on is certain.
func (c *conn) Doubt(reassembly.Dir, uint64, uint64) { c.doubtAll(exchange.DoubtOverlap) }

func (c *conn) doubtAll(d exchange.Doubt) {
	if c.doubt == exchange.DoubtNone {
		c.doubt = d
	}
}

// End implements reassembly.Handler. Messages end with END_STREAM; what has
// none by now is counted when the connection closes.
func (c *conn) End(reassembly.Dir, reassembly.End) {}

// Close implements reassembly.Handler.
func (c *conn) Close(why reassembly.Close) {
	p := c.p
	c.streams.each(func(st *stream) {
		switch {
		case why == reassembly.CloseStopped:
			c.finish(st, exchange.ResultStopped, exchange.ReasonNone)
		case why == reassembly.CloseEvicted:
			c.finish(st, exchange.ResultEvicted, exchange.ReasonNone)
		default:
			r, reason := c.unfinished(st)
			c.finish(st, r, reason)
		}
	})
	for d := range c.side {
		if c.side[reassembly.Client].state == sideLost {
			c.countCut(reassembly.Dir(d))
		}
	}
	if c.late && !c.lateOnes {
		p.lone(1, exchange.ResultUnparsable, exchange.ReasonHTTP2Late)
	}
	c.drop()
}

// drop gives back all that the connection holds, and itself.
func (c *conn) drop() {
	p := c.p
	for d := range c.side {
		c.release(&c.side[d])
	}
	if c.charged {
		p.cfg.Budget.Give(connCost)
	}
	c.streams.release(p)
	*c = conn{}
	if p.nConns < maxFree {
		c.free = p.conns
		p.conns, p.nConns = c, p.nConns+1
	}
}

// unfinished is how a stream ends that no frame ended.
func (c *conn) unfinished(st *stream) (exchange.Result, exchange.Reason) {
	switch {
	case st.reqEnd && st.respEnd: // the prefaces were not there
		return exchange.ResultGap, exchange.ReasonUnproven
	case st.events && !st.respEnd:
		return exchange.ResultNoResponse, exchange.ReasonEventStream
	case st.wasReset && st.respEnd:
		return exchange.ResultUnparsable, exchange.ReasonRefused
	case st.wasReset:
		return exchange.ResultNoResponse, exchange.ReasonReset
	case st.respHeadDone || !st.reqEnd:
		return exchange.ResultNoResponse, exchange.ReasonCut
	case c.goneAway && st.id%2 == 1 && st.id > c.goAway:
		return exchange.ResultNoResponse, exchange.ReasonGoAway
	}
	return exchange.ResultNoResponse, exchange.ReasonNone
}

// lose ends the use of a direction: its table is gone, or was never there.
func (c *conn) lose(d reassembly.Dir) {
	s := &c.side[d]
	if s.state != sideOpen {
		return
	}
	c.countCut(d)
	s.state, s.synced = sideLost, false
	c.late = c.late || !c.proven || c.side[d.Other()].state == sideLost
	c.release(s)
	c.streams.each(func(st *stream) {
		if d == reassembly.Client && !st.reqEnd || d == reassembly.Server && !st.respEnd {
			c.lateOnes = true
			c.finish(st, exchange.ResultGap, exchange.ReasonNone)
		}
	})
	// What this side would say about the other's limits is not seen any more.
	other := &c.side[d.Other()]
	other.maxFrame, other.bound = maxFrame, tableBound{over: true, most: maxTable}
}

// release gives back what a direction holds.
func (c *conn) release(s *side) {
	b := c.p.cfg.Budget
	if s.buf != nil {
		b.Give(int64(cap(s.buf)))
		s.buf = nil
	}
	s.block.open, s.data = false, nil
	s.memo.forget(c.p)
	if s.dec != nil {
		c.p.freeDecoder(s.dec, s.table)
		s.dec = nil
	}
	s.frozen = nil
	c.awaken()
	b.Give(s.taken)
	s.taken = 0
}

// giveUp ends the use of the connection. Its open streams are counted under
// why, and without one the connection is, once.
func (c *conn) giveUp(why exchange.Reason) { c.end(exchange.ResultUnparsable, why) }

// starve ends it for want of memory.
func (c *conn) starve() {
	c.evicted = true
	c.end(exchange.ResultEvicted, exchange.ReasonNone)
}

func (c *conn) end(r exchange.Result, why exchange.Reason) {
	if c.side[0].state == sideDead {
		return
	}
	if c.streams.n == 0 {
		c.p.lone(1, r, why)
	}
	c.streams.each(func(st *stream) {
		c.finish(st, r, why)
	})
	c.late = false // it was counted
	c.kill()
}

func (c *conn) kill() {
	for d := range c.side {
		s := &c.side[d]
		s.state = sideDead
		c.release(s)
	}
	if s := c.p.cfg.Skipper; s != nil {
		s.SkipRest(c.tcp)
	}
}

// countCut counts the stream that a header block of d would have been the first to
// show, when the block is not whole and its rest does not come.
func (c *conn) countCut(d reassembly.Dir) {
	b := &c.side[d].block
	if b.open && (d == reassembly.Client || c.side[reassembly.Client].state == sideLost) {
		c.countLate(b.id)
	}
}

// countLate counts the streams up to id that the client opened and nobody can
// read. Clients number them in steps of two; a jump that no client makes counts
// as one.
func (c *conn) countLate(id uint32) {
	if id%2 == 0 || id <= c.lastID {
		return
	}
	n := (id - c.lastID + 1) / 2
	if c.lastID == 0 && id != 1 || n > maxStreams {
		n = 1
	}
	c.lastID = id
	c.lateOnes = true
	c.p.lone(uint64(n), exchange.ResultUnparsable, exchange.ReasonHTTP2Late)
}
