package http1

import (
	"bytes"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

const (
	// forecastFrom is of how many bytes a body is worth a word about those that
	// come after it.
	forecastFrom = 16 << 10
	// aheadMax is of how many requests something is said ahead, as many as can be: a
	// connection must not make more while the reader sleeps, or has no core. aheadEach
	// bounds how many choices one answer costs.
	aheadMax  = 64
	aheadEach = 4
	// aheadCost is what an ahead takes from the budget, in bytes.
	aheadCost = 48
)

// ahead is what is known of the requests of a connection that have not begun, where
// each is as long as the one before.
type ahead struct {
	next     uint64 // where the first of them begins
	unwanted uint64 // a bit for each
	step     uint32
	n        uint32 // how many bits are known
}

// forecast says which answers behind this one nobody wants, where the client asks one
// thing at a time. r was asked for it; head is the answer's, which ends at end.
func (c *conn) forecast(r *pending, head []byte, end uint64) {
	p := c.p
	step := r.end - r.start
	if !r.done || !c.clientSync || !c.serverSync || !c.respAckOK || c.respAck != r.end ||
		uint64(len(head)) != end-c.respStart || step > 1<<20 {
		return
	}
	f := &p.said
	if !headLayout(head, f) {
		return
	}
	a := c.ahead
	if a == nil {
		p.cfg.Budget.Must(aheadCost)
		a = new(ahead)
		c.ahead = a
	}
	c.tcp.Flow(&p.flow)
	if a.next == r.start && a.step == uint32(step) {
		if a.n > 0 {
			a.unwanted, a.n = a.unwanted>>1, a.n-1
		}
	} else {
		a.unwanted, a.n = 0, 0
	}
	want := uint32(1) // the lengths differ: no more than the next one is known
	if a.step == uint32(step) {
		want = min(a.n+aheadEach, aheadMax)
	}
	a.next, a.step = r.end, uint32(step)
	isn := c.tcp.ISN()
	for ; a.n < want; a.n++ {
		if p.cfg.Forecaster.Unwanted(&p.flow, isn, a.next+uint64(a.n)*step) {
			a.unwanted |= 1 << a.n
		}
	}
	f.Start, f.Step, f.Unwanted = a.next, a.step, a.unwanted
	p.cfg.Forecaster.Forecast(c.tcp, f)
}

// headLayout fills in how a head looks, and says whether that can be said: its length
// of the body must be found by what stands before it.
func headLayout(head []byte, f *reassembly.Forecast) bool {
	const name = "content-length:"
	for at := bytes.IndexByte(head, '\n') + 1; at > 0 && at < len(head); {
		line := head[at:]
		if len(line) > len(name) && line[0]|0x20 == 'c' && exchange.EqualFoldToken(line[:len(name)], name) {
			digits := at + len(name)
			for digits < len(head) && head[digits] == ' ' {
				digits++
			}
			if digits < len(f.Before) || len(head) < len(f.First) {
				return false
			}
			copy(f.First[:], head)
			copy(f.Before[:], head[digits-len(f.Before):])
			f.Head, f.Digits = uint32(len(head)), uint32(digits)
			return true
		}
		n := bytes.IndexByte(line, '\n')
		if n < 0 {
			return false
		}
		at += n + 1
	}
	return false
}
