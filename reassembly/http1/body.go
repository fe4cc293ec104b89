package http1

import (
	"bytes"
	"unsafe"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// content collects what is kept of a body.
type content struct {
	sum  exchange.Digester
	buf  []byte // the content, when keep
	wire []byte // with the chunk framing, when keepWire
	tail []byte // trailer lines
	max  int64
	keep bool
	// keepWire keeps the bytes as captured; going over max then sets over.
	keepWire bool
	over     bool
	cut      bool // buf is only the beginning
	// The memory is taken from budget, which of gives back. Nil: it is not counted.
	budget *reassembly.Budget
	of     *pending
	// expected is the Content-Length, 0 without one.
	expected uint64
}

// maxChunkLine and maxTrailer bound what stands between the data of a chunked
// body, in bytes.
const (
	maxChunkLine = 4096
	maxTrailer   = MaxHead
)

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExt
	chunkData
	chunkEnd
	chunkTrailer
)

// body follows the framing of one body (RFC 9112 sections 6 and 7).
type body struct {
	keep  *content // nil: only the framing is followed
	left  uint64   // of the body, or of the chunk
	size  uint64   // content seen, holes included
	lineN uint32   // length of the line so far
	trail uint32   // bytes of the trailer section
	kind  exchange.Framing
	state chunkState
	digit uint8
	odd   bool // the line has something that readers may take differently
	cr    bool
	quote bool
	doubt bool // a size line was odd
}

func (m *body) begin(kind exchange.Framing, n uint64, keep *content) {
	*m = body{kind: kind, left: n, keep: keep}
	if keep != nil {
		keep.expected = n
	}
}

// feed takes bytes and says how many belong to the body and whether it ended.
// ok is false when the chunk framing is broken.
func (m *body) feed(b []byte) (n int, done, ok bool) {
	switch m.kind {
	case exchange.FramingNone:
		return 0, true, true
	case exchange.FramingLength:
		n = len(b)
		if uint64(n) > m.left {
			n = int(m.left)
		}
		m.content(b[:n])
		m.left -= uint64(n)
		if m.keep != nil {
			m.keep.raw(b[:n])
		}
		return n, m.left == 0, true
	case exchange.FramingChunked:
		n, done, ok = m.chunked(b)
		if m.keep != nil {
			m.keep.raw(b[:n])
		}
		return n, done, ok
	}
	m.content(b)
	return len(b), false, true
}

func (m *body) content(b []byte) {
	m.size += uint64(len(b))
	if m.keep != nil {
		m.keep.content(b)
	}
}

func (k *content) content(b []byte) {
	switch {
	case k.keepWire && !k.keep: // the wire has it
		return
	case !k.keep || k.cut:
		k.sum.Missed(b, nil)
		return
	}
	fit := b
	if room := k.max - int64(len(k.buf)); int64(len(b)) > room {
		fit, k.cut = b[:room], true
	}
	if !k.room(&k.buf, len(fit)) {
		fit, k.over, k.cut = nil, true, true
	}
	if k.cut {
		k.sum.Missed(b, k.buf)
	}
	k.buf = append(k.buf, fit...)
}

// maxAhead bounds the buffer that a Content-Length alone makes, in bytes.
const maxAhead = 64 << 10

// room makes buf large enough for n more bytes, as far as the budget allows; at
// first as large as the Content-Length says.
func (k *content) room(buf *[]byte, n int) bool {
	old, need := cap(*buf), len(*buf)+n
	if need <= old {
		return true
	}
	size := max(2*old, need, 512)
	if old == 0 && k.expected > 0 {
		size = max(need, int(min(k.expected, maxAhead)))
	}
	size = min(size, max(need, int(k.max)))
	if !k.take(size - old) {
		if size = need; !k.take(size - old) {
			return false
		}
	}
	more := unzeroed(size)
	*buf = more[:copy(more, *buf)]
	return true
}

func (k *content) take(n int) bool { return k.budget == nil || k.of.take(k.budget, int64(n)) }

// maxTogether bounds a head and its body that share one piece of memory, in bytes.
const maxTogether = 8 << 10

// text copies a head, with room behind it for the body if all of that is to be
// kept and its length is known, in one piece. room belongs to whoever fills it;
// the rest is frozen: the string is of the same bytes.
func (k *content) text(head []byte, kind exchange.Framing, length uint64) (copied []byte, text string, room []byte) {
	n := len(head)
	body := 0
	if kind == exchange.FramingLength && length <= uint64(maxTogether-min(n, maxTogether)) && int64(length) <= k.max && k.take(int(length)) {
		body = int(length)
	}
	b := unzeroed(n + body)
	copy(b, head)
	if body > 0 {
		room = b[n : n : n+body]
	}
	return b[:n:n], unsafe.String(unsafe.SliceData(b), n), room
}

// raw keeps the bytes as captured, for replay.
func (k *content) raw(b []byte) {
	if !k.keepWire || k.over {
		return
	}
	if int64(len(k.wire)+len(b)) > k.max || !k.room(&k.wire, len(b)) {
		k.over = true
		return
	}
	k.wire = append(k.wire, b...)
}

func (m *body) chunked(b []byte) (n int, done, ok bool) {
	i := 0
	for i < len(b) {
		switch m.state {
		case chunkData:
			k := len(b) - i
			if uint64(k) > m.left {
				k = int(m.left)
			}
			m.content(b[i : i+k])
			i += k
			if m.left -= uint64(k); m.left == 0 {
				m.state, m.lineN, m.cr = chunkEnd, 0, false
			}
		case chunkEnd:
			c := b[i]
			i++
			switch {
			case c == '\n':
				m.state, m.lineN, m.digit, m.odd, m.cr, m.quote = chunkSize, 0, 0, false, false, false
			case c == '\r' && !m.cr:
				m.cr = true
			default:
				return i, false, false
			}
		case chunkSize, chunkExt:
			c := b[i]
			i++
			if m.lineN++; m.lineN > maxChunkLine {
				return i, false, false
			}
			if c == '\n' {
				if m.digit == 0 {
					return i, false, false
				}
				if !m.cr || m.odd {
					m.doubt = true
				}
				m.cr = false
				if m.left == 0 {
					m.state, m.lineN = chunkTrailer, 0
				} else {
					m.state = chunkData
				}
				continue
			}
			if m.cr { // a bare CR inside the line
				m.odd, m.cr = true, false
			}
			if m.state == chunkExt {
				m.cr = c == '\r'
				continue
			}
			switch v := hexValue(c); {
			case v < 16 && !m.odd:
				if m.digit == 0 {
					m.left = 0
				}
				if m.left >= 1<<56 {
					return i, false, false
				}
				m.left = m.left<<4 | uint64(v)
				m.digit = 1
			case c == ';' && m.digit > 0:
				m.state = chunkExt
			case c == '\r':
				m.cr = true
			case (c == ' ' || c == '\t') && m.digit > 0:
				m.odd = true // trailing space: accepted, not replayed
			default:
				return i, false, false
			}
		case chunkTrailer:
			rest := b[i:]
			nl := bytes.IndexByte(rest, '\n')
			k := len(rest)
			if nl >= 0 {
				k = nl + 1
			}
			part := rest[:k]
			i += k
			if m.trail += uint32(k); m.trail > maxTrailer {
				return i, false, false
			}
			for _, c := range part {
				if c != '\r' && c != '\n' {
					m.lineN++
				}
			}
			if m.keep != nil && (m.keep.keep || m.keep.keepWire) {
				m.keep.tail = append(m.keep.tail, part...)
			}
			if nl >= 0 {
				if m.lineN == 0 {
					return i, true, true
				}
				m.lineN = 0
			}
		}
	}
	return i, false, true
}

func hexValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// skip steps over a hole of n bytes, if it lies wholly inside content of known
// length, and says whether it does.
func (m *body) skip(n uint64) (done, ok bool) {
	switch m.kind {
	case exchange.FramingLength:
		if n > m.left {
			return false, false
		}
		m.left -= n
		m.size += n
		return m.left == 0, true
	case exchange.FramingChunked:
		if m.state != chunkData || n > m.left {
			return false, false
		}
		m.size += n
		if m.left -= n; m.left == 0 {
			m.state, m.lineN, m.cr = chunkEnd, 0, false
		}
		return false, true
	case exchange.FramingClose:
		m.size += n
		return false, true
	}
	return false, false
}

// result gives the body as exchanges show it.
func (k *content) result(size uint64) exchange.Body {
	b := exchange.Body{Size: int64(size)}
	if k == nil {
		return b
	}
	if k.keep {
		b.Bytes, b.Truncated = k.buf, k.cut
	}
	k.sum.Into(&b)
	return b
}
