package http1

import "github.com/shadowtap/shadowtap/reassembly"

// Rest implements reassembly.Rester. A connection that turned to HTTP/2 needs
// nothing of this parser any more: its handler takes the place of this one.
func (c *conn) Rest() reassembly.Handler {
	if c.work == nil || c.http2 == nil || c.first != nil || c.cur != nil || c.proven != nil || c.answer != nil || c.proxy != nil || c.held > 0 {
		return c
	}
	h := c.http2
	c.retire()
	if r, ok := h.(reassembly.Rester); ok {
		return r.Rest()
	}
	return h
}
