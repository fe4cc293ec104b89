package http1

import (
	"encoding/binary"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// The PROXY protocol of HAProxy (proxy-protocol.txt): a load balancer may tell
// the client's address before the first byte of a connection. Version 1 is a
// line of at most 107 bytes (section 2.1), version 2 a signature of 12 bytes, 4
// more of which the last two are a length, and as many bytes (section 2.2). It
// is stepped over, and what it says is not used: the client of an exchange is
// that of the TCP connection.
const (
	proxyV2   = "\r\n\r\n\x00\r\nQUIT\n"
	proxyLine = 107
	proxyHead = len(proxyV2) + 4
)

var proxyStarts = [...]string{"PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN", proxyV2}

type proxyState uint8

const (
	// proxyMore: the header goes on.
	proxyMore proxyState = iota
	// proxyDone: it is over.
	proxyDone
	// proxyNone: there is none; what was taken for its beginning is in buf.
	proxyNone
	// proxyBad: it is none that anybody could read.
	proxyBad
)

// proxyHeader follows a header that comes in pieces. What it keeps is bounded
// by its array, whatever length the header claims.
type proxyHeader struct {
	buf [proxyHead]byte // its beginning, while it has to be looked at
	n   int             // bytes in buf
	// left is what is left of version 2's announced length, line what version
	// 1's line has so far.
	left, line int
	cr         bool
	at         reassembly.At // of the first byte
}

// mayBeProxy says whether a connection that begins with b may begin with a
// header.
func mayBeProxy(b []byte) bool {
	if b[0] != 'P' && b[0] != '\r' {
		return false
	}
	may, _ := proxyStart(b)
	return may
}

// feed takes bytes and says how many belong to the header.
func (h *proxyHeader) feed(b []byte) (n int, state proxyState) {
	for ; n < len(b); n++ {
		switch {
		case h.line > 0:
			h.line++
			switch c := b[n]; {
			case c == '\n' && h.cr:
				return n + 1, proxyDone
			case c == '\n', h.line == proxyLine:
				return n + 1, proxyBad
			default:
				h.cr = c == '\r'
			}
		case h.n == proxyHead:
			k := min(h.left, len(b)-n)
			if h.left -= k; h.left == 0 {
				return n + k, proxyDone
			}
			return n + k, proxyMore
		default:
			h.buf[h.n] = b[n]
			start, whole := proxyStart(h.buf[:h.n+1])
			if !start {
				return n, proxyNone
			}
			h.n++
			switch {
			case !whole:
			case h.buf[0] == 'P':
				h.line = h.n
			case h.n == len(proxyV2)+1 && h.buf[h.n-1]>>4 != 2:
				return n + 1, proxyBad
			case h.n == proxyHead:
				if h.left = int(binary.BigEndian.Uint16(h.buf[proxyHead-2:])); h.left == 0 {
					return n + 1, proxyDone
				}
			}
		}
	}
	return n, proxyMore
}

// proxyStart says whether b is the beginning of a header, and whether it is
// whole enough to be certain of it.
func proxyStart(b []byte) (may, whole bool) {
	for _, s := range proxyStarts {
		k := min(len(b), len(s))
		if string(b[:k]) == s[:k] {
			return true, len(b) >= len(s)
		}
	}
	return false, false
}

// proxyData takes the client's bytes while a header may be there, and says how
// many it used up.
func (c *conn) proxyData(b []byte) int {
	n, state := c.proxy.feed(b)
	c.p.st.Parsed += uint64(n)
	switch state {
	case proxyDone:
		c.proxy = nil
		c.req.state = sideIdle
	case proxyNone:
		c.giveBack()
	case proxyBad:
		c.proxy = nil
		c.unparsable(exchange.ReasonProtocol)
	}
	return n
}

// giveBack reads what was taken for the beginning of a header as the beginning
// of a request, which it is.
func (c *conn) giveBack() {
	h := c.proxy
	c.proxy = nil
	c.req.state = sideIdle
	c.p.st.Parsed -= uint64(h.n)
	c.readClient(h.buf[:h.n], &h.at)
}

// endProxy is called when no more bytes of a header come. A beginning that is
// not certain to be one may as well be a request's.
func (c *conn) endProxy() {
	if _, whole := proxyStart(c.proxy.buf[:c.proxy.n]); !whole {
		c.giveBack()
		return
	}
	c.proxy = nil
	c.req.state = sideIdle
}

// skip steps over a hole of n bytes, if it lies inside what version 2 announced
// and something follows it, and says whether it does.
func (h *proxyHeader) skip(n uint64) bool {
	if h.n < proxyHead || n >= uint64(h.left) {
		return false
	}
	h.left -= int(n)
	return true
}
