package http1

import (
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// preface is the part of HTTP/2's connection preface that reads like a request
// head (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\n"

// unstart takes back that an exchange started: somebody else counts it.
func (p *Parser) unstart() {
	p.st.Started--
	p.st.InFlight--
}

// turn hands the connection over.
func (c *conn) turn(h *exchange.Handover) {
	for d := range c.overlaps {
		if off := [2]uint64{c.clientOff, c.serverOff}[d]; c.overlaps[d].to > off && c.overlaps[d].to > 0 {
			h.Doubt = exchange.DoubtOverlap
		}
	}
	c.release(&c.req)
	c.release(&c.resp)
	c.http2 = c.p.cfg.HTTP2(c.tcp, h)
}

// handOn gives the rest of a call's bytes to the new handler.
func (c *conn) handOn(d reassembly.Dir, b []byte, off uint64, at *reassembly.At) {
	if len(b) == 0 {
		return
	}
	rest := *at
	rest.Start = at.Start && off == at.Offset
	rest.Offset = off
	c.http2.Data(d, b, &rest)
}

// dropCur forgets the request at hand, which is none; it stays counted.
func (c *conn) dropCur() {
	r := c.cur
	c.first, c.last, c.n, c.cur = dropLast(c.first, r), nil, c.n-1, nil
	for x := c.first; x != nil; x = x.next {
		c.last = x
	}
	c.p.freePending(r)
}

// serverFirst hands a connection over on which the server speaks first, as
// HTTP/2's servers may: before the client's preface, or in the middle of it.
func (c *conn) serverFirst() bool {
	if c.p.cfg.HTTP2 == nil {
		return false
	}
	n := 0
	switch {
	case c.proxy != nil: // what was seen of the preface may begin such a header too
		if n = c.proxy.n; string(c.proxy.buf[:n]) != preface[:n] {
			return false
		}
		c.proxy = nil
	case c.requests == 0:
	case c.requests == 1 && c.cur != nil && c.clientSync && c.req.state == sideHead && len(c.req.buf) < len(preface) && string(c.req.buf) == preface[:len(c.req.buf)]:
		n = len(c.req.buf)
		c.dropCur()
		c.p.unstart()
	default:
		return false
	}
	c.turn(&exchange.Handover{Preface: n, ClientLost: c.req.state == sideSeek})
	return true
}

// joinedHTTP2 hands over a connection that was joined late, when it looks like
// HTTP/2 and nothing that looks like HTTP/1 was ever seen on it. Its exchanges
// can only be counted.
func (c *conn) joinedHTTP2(b []byte, at *reassembly.At) bool {
	p := c.p
	if p.cfg.HTTP2 == nil || p.cfg.Frames == nil || !at.Start || c.requests > 0 || c.boundaryOK || c.interim || c.resp.state == sideBody || c.resp.state == sideHead || !p.cfg.Frames(b) {
		return false
	}
	c.turn(&exchange.Handover{ClientLost: true, ServerLost: true})
	return true
}

// upgrade hands over a connection whose request was answered by a 101 to h2c,
// if the request asked for it and nothing was sent behind it.
func (c *conn) upgrade(r *pending) bool {
	p := c.p
	if !r.asksH2 || !r.done || c.req.state != sideIdle || p.cfg.HTTP2 == nil {
		return false
	}
	for c.first != nil && c.first != r {
		c.dropFirst(exchange.ResultGap, exchange.ReasonNone)
	}
	if c.first != r || r.next != nil || c.clientOff != r.end {
		return false
	}
	u := &exchange.Upgrade{
		Request: r.req, Flow: r.flow, Decision: r.decision, Doubt: r.doubt,
		Fail: r.fail, Reason: r.failWhy, Spoiled: r.spoiled,
		Offset: r.start, End: r.end, First: r.first, Last: r.last,
		Interim: r.interim, Reused: r.reused, Late: r.late, Head: r.method == methodHead,
		Settings: r.settings, Taken: r.taken,
	}
	r.taken = 0
	c.unlinkFirst()
	p.freePending(r)
	p.unstart()
	c.turn(&exchange.Handover{Upgrade: u})
	return true
}
