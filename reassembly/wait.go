package reassembly

import "unsafe"

// wait is what is undecided of a direction: its start, a hole with what is queued
// behind it, its end. Idle connections have none.
type wait struct {
	// since and sinceSeg are when the hold began.
	since    int64
	sinceSeg uint32
	fin      uint32 // where the direction ends, when half.how says so
	queued   int32  // bytes taken by the queue
	ours     bool   // the hole is one that the capture made
	// The queue.
	head, tail *node
	free       *wait
}

// waitCost is what a wait takes from the budget, in bytes.
const waitCost = int64(unsafe.Sizeof(wait{}))

// waitOf gives the wait of h, which has one from now on.
func (a *Assembler) waitOf(h *half) *wait {
	if h.wait != nil {
		return h.wait
	}
	a.budget.Must(waitCost)
	w := a.waits
	if w != nil {
		a.waits, a.nWaits = w.free, a.nWaits-1
		w.free = nil
	} else {
		w = new(wait)
	}
	h.wait = w
	return w
}

// holdFrom begins the hold of h.
func (a *Assembler) holdFrom(h *half, now int64, segments uint32) {
	w := a.waitOf(h)
	w.since, w.sinceSeg = now, segments
}

// spare gives the wait of h back when nothing is undecided any more.
func (a *Assembler) spare(h *half) {
	if w := h.wait; w != nil && h.state == halfOpen && h.how == 0 && w.head == nil && !w.ours && int32(h.acked-h.next) <= 0 {
		a.endWait(h)
	}
}

// endWait gives the wait of h back. Its queue is empty.
func (a *Assembler) endWait(h *half) {
	w := h.wait
	if w == nil {
		return
	}
	h.wait = nil
	a.budget.Give(waitCost)
	if a.nWaits < maxFree {
		*w = wait{free: a.waits}
		a.waits, a.nWaits = w, a.nWaits+1
	}
}
