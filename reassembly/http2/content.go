package http2

import (
	"crypto/sha256"
	"hash"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// content collects what is kept of a body.
type content struct {
	hash hash.Hash // made at the first byte
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
	if k.hash == nil {
		k.hash = sha256.New()
	}
	k.hash.Write(b)
	if !k.keep || k.cut {
		return
	}
	if room := p.cfg.MaxBody - int64(len(k.buf)); int64(len(b)) > room {
		b, k.cut = b[:room], true
	}
	if !k.room(st, p, len(b), int(min(all, maxAhead))) {
		b, k.cut = nil, true
	}
	if k.over = k.whole && k.cut; k.over {
		b = nil
	}
	k.buf = append(k.buf, b...)
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

// nothing is the digest of no bytes.
var nothing = sha256.Sum256(nil)

// result gives the body as exchanges show it.
func (k *content) result(size int64) exchange.Body {
	b := exchange.Body{Size: size, Digest: nothing, Digested: true}
	if k.keep {
		b.Bytes, b.Truncated = k.buf, k.cut
	}
	if k.hash != nil {
		k.hash.Sum(b.Digest[:0])
	}
	return b
}
