package http2

import (
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// request takes the head that opens a stream of the client.
func (c *conn) request(id uint32, at *place, end bool, now int64) {
	c.lastID = id
	reused := c.reused
	c.reused = true
	st := c.newRequest(id)
	if st == nil {
		return
	}
	st.start, st.headEnd = at.off, c.side[reassembly.Client].pos
	st.first, st.last = at.time, now
	st.reused = reused
	c.decide(st)
	if end {
		c.endStream(reassembly.Client, st, now)
	}
}

// promise takes the head of a request that the server promises.
func (c *conn) promise(id uint32, at *place) {
	c.lastPush = id
	st := c.newRequest(id)
	if st == nil {
		return
	}
	st.pushed, st.reused = true, c.reused
	st.start, st.first, st.last = at.off, at.time, at.time
	if st.doubt == exchange.DoubtNone {
		st.doubt = exchange.DoubtPushed
	}
	c.decide(st)
	c.endStream(reassembly.Client, st, at.time)
}

// newRequest starts an exchange with the head in p.section, or counts why it is
// not followed.
func (c *conn) newRequest(id uint32) *stream {
	p, m := c.p, c.p.section.message()
	doubt, ok := p.section.request()
	switch {
	case p.section.over:
		p.lone(1, exchange.ResultTooLarge, exchange.ReasonHead)
		return nil
	case !ok:
		p.lone(1, exchange.ResultUnparsable, exchange.ReasonMalformed)
		return nil
	case c.streams.n >= maxStreams:
		p.lone(1, exchange.ResultUnparsable, exchange.ReasonPipeline)
		return nil
	}
	st := p.newStream()
	if !st.take(p.cfg.Budget, streamCost) {
		p.freeStream(st)
		p.lone(1, exchange.ResultEvicted, exchange.ReasonNone)
		return nil
	}
	p.start()
	if p.refused {
		p.late(st)
	}
	st.id, st.reqHeadDone = id, true
	st.reqLen, st.respLen = m.length, -1
	st.head = m.method == "HEAD"
	st.connect = m.method == "CONNECT"
	st.grpc = m.grpc && m.method == "POST"
	st.doubt = doubt
	c.streams.spread(p.cfg.Budget)
	c.streams.put(st)
	return st
}

// decide asks the keeper.
func (c *conn) decide(st *stream) {
	p, m := c.p, c.p.section.message()
	domain := c.tcp.Flow(&p.flow)
	if p.cfg.Domain != nil {
		p.flow.Domain = p.cfg.Domain(domain)
	}
	st.doubtful(c.doubt)
	p.section.lend(&p.head)
	p.head.Flow, p.head.ISN, p.head.Offset, p.head.Time = &p.flow, c.tcp.ISN(), st.start, st.first
	p.head.Doubt, p.head.Stream, p.head.GRPC = st.doubt, st.id, st.grpc
	st.decision = p.cfg.Keeper.Keep(&p.head)
	if st.decision.Want == exchange.WantFrame {
		return
	}
	st.flow = p.flow
	st.kept = new(kept)
	q := &st.kept.req
	q.Method, q.Target, q.Proto, q.Host, q.Scheme = m.method, p.section.target(), "HTTP/2", m.hostName(), m.scheme
	q.Framing, q.FirstByte = exchange.FramingH2, st.first
	st.req = q
	if st.decision.Want < exchange.WantWhole {
		return
	}
	st.reqKeep.keep, st.reqKeep.whole = true, true
	if !st.take(p.cfg.Budget, 2*cost(p.section.fields)) {
		st.reqKeep.over = true
		return
	}
	q.Header = p.section.keep()
}

// trailer reads the block at hand as the trailer section of a direction. It says
// whether the stream goes on with it: not in a tunnel, and not when that ended it.
func (c *conn) trailer(d reassembly.Dir, st *stream, end bool, now int64) bool {
	switch {
	case st.tunnel:
		if end {
			c.endStream(d, st, now)
		}
		return false
	case c.p.section.over:
		c.finish(st, exchange.ResultTooLarge, exchange.ReasonHead)
		return false
	case !end:
		c.malformed(st) // RFC 9113 section 8.1
		return false
	}
	return true
}

// requestTrailer takes a second block of a request: its trailer section.
func (c *conn) requestTrailer(st *stream, end bool, now int64) {
	p, m := c.p, c.p.section.message()
	if !c.trailer(reassembly.Client, st, end, now) {
		return
	}
	if m.has != 0 || m.bad {
		st.doubtful(exchange.DoubtMalformed)
	}
	if st.req != nil && st.reqKeep.keep {
		if !st.take(p.cfg.Budget, cost(p.section.fields)) {
			st.reqKeep.over = true
		} else {
			st.req.Trailer = header(onlyRegular(p.section.fields))
		}
	}
	c.endStream(reassembly.Client, st, now)
}

// answer takes an answer's head, interim or final.
func (c *conn) answer(st *stream, at *place, end bool, now int64) {
	p := c.p
	if !st.pushed && at.ackOK && at.ack < st.headEnd {
		// Sent before the request was there: it answers something else.
		p.st.Orphans++
		c.finish(st, exchange.ResultNoRequest, exchange.ReasonNone)
		return
	}
	if p.section.over {
		c.finish(st, exchange.ResultTooLarge, exchange.ReasonHead)
		return
	}
	m := p.section.message()
	status, ok := p.section.answer()
	if !ok || status < 200 && end {
		c.malformed(st)
		return
	}
	switch {
	case m.bad:
		st.rDoubt = exchange.DoubtMalformed
	case m.events && status/100 == 2:
		st.rDoubt, st.events = exchange.DoubtEventStream, true
		p.late(st)
	}
	if status < 200 {
		if st.interims++; st.interims > maxInterim {
			c.malformed(st)
		} else if st.req != nil {
			st.interim = append(st.interim, status)
		}
		return
	}
	st.status, st.rFirst, st.rLast = status, at.time, now
	st.respHeadDone = true
	st.respLen = m.length
	st.grpcStatus, st.grpcMessage = m.grpcStatus, m.grpcMessage
	kind := exchange.FramingH2
	opens := st.connect && status/100 == 2
	if opens {
		kind = exchange.FramingTunnel
	}
	if st.req != nil {
		q := &st.kept.resp
		q.Status, q.Proto, q.Interim, q.Framing, q.FirstByte = status, "HTTP/2", st.interim, kind, st.rFirst
		st.resp = q
		if st.decision.Want == exchange.WantWhole {
			if !st.take(p.cfg.Budget, cost(p.section.fields)) {
				c.finish(st, exchange.ResultEvicted, exchange.ReasonNone)
				return
			}
			q.Header = p.section.keep()
			st.respKeep.keep = true
		}
	}
	if opens && c.proven {
		c.tunnel(st, now)
	}
	if end {
		c.endStream(reassembly.Server, st, now)
	}
}

// tunnel ends HTTP on a stream; the exchange is complete with its heads.
func (c *conn) tunnel(st *stream, now int64) {
	if q := st.req; q != nil {
		q.LastByte = st.last
		q.Body = (&content{keep: st.reqKeep.keep}).result(0)
		st.resp.LastByte = now
		st.resp.Interim = st.interim
		st.resp.Body = (&content{keep: st.respKeep.keep}).result(0)
	}
	c.emit(st)
	c.p.completed()
	st.tunnel = true
	st.kept, st.req, st.resp, st.interim = nil, nil, nil, nil
	st.reqKeep, st.respKeep = content{}, content{}
}

// answerTrailer takes a block behind the final head.
func (c *conn) answerTrailer(st *stream, end bool, now int64) {
	p, m := c.p, c.p.section.message()
	if !c.trailer(reassembly.Server, st, end, now) {
		return
	}
	if m.has != 0 || m.bad {
		st.rDoubt = exchange.DoubtMalformed
	}
	if m.grpcStatus != "" {
		st.grpcStatus, st.grpcMessage = m.grpcStatus, m.grpcMessage
	}
	if st.resp != nil && st.respKeep.keep {
		if !st.take(p.cfg.Budget, cost(p.section.fields)) {
			c.finish(st, exchange.ResultEvicted, exchange.ReasonNone)
			return
		}
		st.resp.Trailer = header(onlyRegular(p.section.fields))
	}
	c.endStream(reassembly.Server, st, now)
}
