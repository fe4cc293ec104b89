package http2

import (
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// content collects what is kept of a body.
type content struct {
	sum  exchange.Digester
	buf  []byte
	keep bool // the bytes too, not only their digest
	// whole: a body over the limit makes the exchange worthless; over then says
	// so. Without it cut says that buf is only the beginning.
	whole, over, cut bool
}

// maxAhead bounds the buffer that a Content-Length alone makes, in bytes.
const maxAhead = 64 << 10

// add takes bytes of the body, whose length is said to be all, or -1.
func (k *content) add(st *stream, p *Parser, b []byte, all int64) {
	if !k.keep || k.cut {
		k.sum.Missed(b, nil)
		return
	}
	fit := b
	if room := p.cfg.MaxBody - int64(len(k.buf)); int64(len(b)) > room {
		fit, k.cut = b[:room], true
	}
	if !k.room(st, p, len(fit), int(min(all, maxAhead))) {
		fit, k.cut = nil, true
	}
	if k.cut {
		k.sum.Missed(b, k.buf)
	}
	if k.over = k.whole && k.cut; k.over {
		fit = nil
	}
	k.buf = append(k.buf, fit...)
}

// room makes the buffer large enough for n more bytes, as far as the budget
// allows; at first as large as is expected.
func (k *content) room(st *stream, p *Parser, n, expected int) bool {
	old, need := cap(k.buf), len(k.buf)+n
	if need <= old {
		return true
	}
	size := max(2*old, need, 512)
	if old == 0 && expected > 0 {
		size = max(need, expected)
	}
	size = min(size, max(need, int(p.cfg.MaxBody)))
	if !st.take(p.cfg.Budget, int64(size-old)) {
		if size = need; !st.take(p.cfg.Budget, int64(size-old)) {
			return false
		}
	}
	buf := make([]byte, len(k.buf), size)
	copy(buf, k.buf)
	k.buf = buf
	return true
}

// result gives the body as exchanges show it.
func (k *content) result(size int64) exchange.Body {
	b := exchange.Body{Size: size}
	if k.keep {
		b.Bytes, b.Truncated = k.buf, k.cut
	}
	k.sum.Into(&b)
	return b
}
