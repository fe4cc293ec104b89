package http2

import (
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// stream is an exchange that is not over.
type stream struct {
	next           *stream // in its bucket, or on the free list
	id             uint32
	start, headEnd uint64 // of the request's head in the client's stream
	first, last    int64  // times of the request
	rFirst, rLast  int64  // of the answer, from its final head
	status         int
	// reqSize and respSize are the content so far; reqLen and respLen what
	// Content-Length says, or -1.
	reqSize, respSize int64
	reqLen, respLen   int64
	reqHeadDone       bool
	reqEnd            bool
	respHeadDone      bool
	respEnd           bool
	reused            bool
	pushed            bool
	head              bool // the method is HEAD
	connect           bool
	tunnel            bool // answered and counted: HTTP has ended on it
	wasReset          bool
	grpc              bool
	events            bool // the answer is a stream of events
	late              bool // counted in Stats.Late
	early             bool // an answer's content came before the request's end
	doubt             exchange.Doubt
	rDoubt            exchange.Doubt
	reset             exchange.Reset
	interims          uint8
	decision          exchange.Decision
	asked, answered   messages
	grpcStatus        string
	grpcMessage       string
	reqKeep           content
	respKeep          content
	kept              *kept // when kept
	req               *exchange.Request
	resp              *exchange.Response
	interim           []int
	flow              exchange.Flow // set when kept
	taken             int64         // bytes from the budget
}

// kept is what is made for an exchange that is kept, in one piece.
type kept struct {
	exchange exchange.Exchange
	req      exchange.Request
	resp     exchange.Response
}

func (p *Parser) newStream() *stream {
	st := p.streams
	if st == nil {
		return &stream{}
	}
	p.streams, st.next = st.next, nil // the rest was cleared
	return st
}

func (p *Parser) freeStream(st *stream) {
	p.cfg.Budget.Give(st.taken)
	if st.late {
		p.st.Late--
	}
	*st = stream{next: p.streams}
	p.streams = st
}

// late says that a stop does not wait for st.
func (p *Parser) late(st *stream) {
	if !st.late {
		st.late = true
		p.st.Late++
	}
}

func (st *stream) take(b *reassembly.Budget, n int64) bool {
	if !b.Take(n) {
		return false
	}
	st.taken += n
	return true
}

func (st *stream) doubtful(d exchange.Doubt) {
	if st.doubt == exchange.DoubtNone {
		st.doubt = d
	}
}

// finish ends a stream with the given result.
func (c *conn) finish(st *stream, r exchange.Result, why exchange.Reason) {
	for d := range c.side {
		if c.side[d].data == st {
			c.side[d].data = nil
		}
	}
	c.streams.remove(st)
	switch {
	case st.tunnel:
	case r == exchange.ResultComplete:
		c.p.completed()
	default:
		c.p.lose(&st.decision, st.first, r, why)
	}
	c.p.freeStream(st)
}

// settle ends a stream both sides of which are over.
func (c *conn) settle(st *stream) {
	switch {
	case st.tunnel:
	case !c.proven:
		c.p.late(st)
		return
	case st.reqKeep.over:
		c.finish(st, exchange.ResultTooLarge, exchange.ReasonBody)
		return
	default:
		c.emit(st)
	}
	c.finish(st, exchange.ResultComplete, exchange.ReasonNone)
}

// emit hands a complete exchange to the sink.
func (c *conn) emit(st *stream) {
	p := c.p
	out := &p.out
	if st.grpc {
		switch kindOf(st.asked.n, st.answered.n, st.grpcStatus, st.early) {
		case exchange.GRPCClientStream, exchange.GRPCBidi:
			st.doubtful(exchange.DoubtGRPCStream)
		}
	}
	st.doubtful(st.rDoubt)
	st.doubtful(c.doubt)
	*out = exchange.Complete{Decision: &st.decision, Doubt: st.doubt, Status: st.status, Start: st.first, TTFB: max(st.rFirst-st.last, 0)}
	if st.grpc {
		out.GRPCStatus = st.grpcStatus
	}
	if st.decision.Want > exchange.WantFrame {
		out.Exchange = c.exchange(st)
	}
	p.cfg.Sink.Complete(out)
}

func (c *conn) exchange(st *stream) *exchange.Exchange {
	x := &st.kept.exchange
	x.ID = exchange.NewID(st.flow, c.tcp.ISN(), uint64(st.id))
	x.Flow, x.ISN, x.Offset, x.Reused = st.flow, c.tcp.ISN(), st.start, st.reused
	x.Request, x.Response = st.req, st.resp
	x.Decision, x.Doubt = st.decision, st.doubt
	x.Stream, x.Pushed = st.id, st.pushed
	if st.wasReset {
		r := st.reset
		x.Reset = &r
	}
	if st.grpc {
		x.GRPC = &exchange.GRPC{
			Kind:     kindOf(st.asked.n, st.answered.n, st.grpcStatus, st.early),
			Status:   st.grpcStatus,
			Message:  unescape(st.grpcMessage),
			Requests: st.asked.n, Responses: st.answered.n,
		}
	}
	return x
}

// content takes the content of a DATA frame.
func (c *conn) content(d reassembly.Dir, s *side, b []byte, now int64) {
	st := s.data
	if st == nil || st.tunnel || len(b) == 0 {
		return
	}
	p := c.p
	if d == reassembly.Client {
		if st.reqEnd {
			c.malformed(st)
			return
		}
		st.last = now
		st.reqSize += int64(len(b))
		if st.req != nil {
			st.reqKeep.add(st, p, b, st.reqLen)
		}
		if st.grpc {
			st.asked.feed(b)
		}
		return
	}
	if st.respEnd || !st.respHeadDone {
		c.malformed(st)
		return
	}
	st.rLast = now
	st.early = st.early || !st.reqEnd
	st.respSize += int64(len(b))
	if st.resp != nil {
		st.respKeep.add(st, p, b, st.respLen)
	}
	if st.grpc {
		st.answered.feed(b)
	}
}

// malformed ends a stream that breaks a rule of RFC 9113 section 8.1 in a way
// that leaves no message.
func (c *conn) malformed(st *stream) {
	c.finish(st, exchange.ResultUnparsable, exchange.ReasonMalformed)
}

// endStream takes an END_STREAM.
func (c *conn) endStream(d reassembly.Dir, st *stream, now int64) {
	if d == reassembly.Client {
		if st.reqEnd {
			c.malformed(st)
			return
		}
		st.reqEnd, st.last = true, now
		if st.reqLen >= 0 && st.reqLen != st.reqSize {
			st.doubtful(exchange.DoubtMalformed)
		}
		if q := st.req; q != nil {
			q.LastByte = now
			q.Body = st.reqKeep.result(st.reqSize)
			q.Wire = q.Body.Bytes
		}
	} else {
		if st.respEnd || !st.respHeadDone {
			c.malformed(st)
			return
		}
		st.respEnd, st.rLast = true, now
		bodiless := st.head || st.status == 204 || st.status == 304
		if bodiless && st.respSize > 0 || !bodiless && st.respLen >= 0 && st.respLen != st.respSize {
			st.rDoubt = exchange.DoubtMalformed
		}
		if q := st.resp; q != nil {
			q.LastByte = max(now, st.rFirst)
			q.Interim = st.interim
			q.Body = st.respKeep.result(st.respSize)
		}
	}
	if st.reqEnd && st.respEnd {
		c.settle(st)
	}
}

// reset takes an RST_STREAM. When its sender had sent all and the other side's
// end may be on its way, the stream waits for it a while: what then is whole was
// whole on the wire.
func (c *conn) reset(d reassembly.Dir, id, code uint32) {
	st := c.streams.get(id)
	if st == nil {
		return
	}
	mine, theirs := st.reqEnd, st.respEnd
	if d == reassembly.Server {
		mine, theirs = theirs, mine
	}
	if !st.wasReset {
		st.wasReset, st.reset = true, exchange.Reset{ByServer: d == reassembly.Server, Code: code}
	}
	if mine && !theirs && !st.tunnel {
		if old := c.streams.get(c.resets.put(id)); old != nil && old.wasReset && old != st {
			r, why := c.unfinished(old)
			c.finish(old, r, why)
		}
		return
	}
	r, why := c.unfinished(st)
	c.finish(st, r, why)
}

// resetRing remembers the last streams that were reset and wait for their end.
type resetRing struct {
	ids [16]uint32
	at  uint8
}

// put adds a stream and gives the one that it takes the place of, or 0.
func (r *resetRing) put(id uint32) (old uint32) {
	old = r.ids[r.at]
	r.ids[r.at] = id
	r.at = (r.at + 1) % uint8(len(r.ids))
	return old
}

// table finds streams by their number.
type table struct {
	n       int
	few     [8]*stream
	buckets []*stream // nil: few
	taken   int64
}

// place is the bucket of id: clients count in steps of two.
func (t *table) place(id uint32) **stream {
	if t.buckets == nil {
		return &t.few[id>>1%uint32(len(t.few))]
	}
	return &t.buckets[id>>1&uint32(len(t.buckets)-1)]
}

func (t *table) get(id uint32) *stream {
	if t.n == 0 {
		return nil
	}
	st := *t.place(id)
	for st != nil && st.id != id {
		st = st.next
	}
	return st
}

func (t *table) put(st *stream) {
	at := t.place(st.id)
	st.next = *at
	*at = st
	t.n++
}

func (t *table) remove(st *stream) {
	at := t.place(st.id)
	for *at != st {
		at = &(*at).next
	}
	*at = st.next
	st.next = nil
	t.n--
}

// each calls f for every stream; f may remove the one that it is given.
func (t *table) each(f func(*stream)) {
	all := t.buckets
	if all == nil {
		all = t.few[:]
	}
	for _, st := range all {
		for st != nil && t.n > 0 {
			next := st.next
			f(st)
			st = next
		}
	}
}

// spread makes more buckets, when there are many streams and the budget has
// room.
func (t *table) spread(budget *reassembly.Budget) {
	const many = 256
	if t.buckets != nil || t.n < 4*len(t.few) || !budget.Take(8*many) {
		return
	}
	t.taken = 8 * many
	old := t.few
	t.few, t.buckets, t.n = [8]*stream{}, make([]*stream, many), 0
	for _, st := range old {
		for st != nil {
			next := st.next
			t.put(st)
			st = next
		}
	}
}

func (t *table) release(p *Parser) { p.cfg.Budget.Give(t.taken) }
