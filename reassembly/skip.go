package reassembly

// Stream names one direction of a connection: Src is the sender.
type Stream struct {
	// Src and Dst are IPv6 addresses; IPv4 is IPv4-mapped.
	Src, Dst         [16]byte
	SrcPort, DstPort uint16
	Domain           uint16
}

// Skipper keeps bytes that no handler wants from being captured. What it is told
// is advice: they may come all the same, and segments with SYN, FIN or RST do.
// Calls come from the assembler's goroutine; s is lent for the call.
type Skipper interface {
	// Skip: the n bytes of s from the sequence number from on are not wanted, as
	// long as they come in order in segments that acknowledge ack. ok is
	// false when it cannot be remembered. The id is given back by SkipEnd.
	Skip(s *Stream, from, n, ack uint32) (id uint32, ok bool)
	// SkipRest: nothing more of s is wanted, up to a SYN.
	SkipRest(s *Stream) (id uint32, ok bool)
	// Skipped says that all bytes in [from, to) were skipped and have passed; they
	// are equal when there are none. over: no more will be. Of the rest of a stream
	// it is the last byte alone.
	Skipped(id uint32) (from, to uint32, over bool)
	// SkipEnd says that everything is wanted again. It ends the use of id.
	SkipEnd(id uint32)
}

// MaxSkip bounds one Skip, in bytes. It is far less than what can be told from
// old in sequence numbers.
const MaxSkip = 1 << 28

// skip is what the handler of a direction does not want. It is kept as long as the
// connection.
type skip struct {
	from, end uint32 // the range
	// passedFrom and passedTo are what Skipped said last.
	passedFrom, passedTo uint32
	seen                 uint32 // passedTo when passes was called last
	id                   uint32 // when active
	active               bool
	rest                 bool // instead of a range: everything
	begun                bool // something was skipped
}

// Skip says that the handler of c does not want the next n bytes of d: they need only
// have passed. What was not captured of them comes as Gap with At.Skipped. Handlers
// call it inside Data, as often as they like. Of more than [MaxSkip] bytes the
// first are taken. Without a Skipper it does nothing.
func (a *Assembler) Skip(c *Conn, d Dir, n uint64) {
	if a.skipper == nil {
		return
	}
	h, p := c.of(d)
	if h.state != halfOpen || h.how != 0 || h.first() != nil || n == 0 || p.state == halfUnset {
		return
	}
	if h.skip != nil && !h.skip.rest {
		a.leave(h)
	}
	k := h.skip
	if k != nil {
		if a.look(k); k.active || k.rest || k.begun && int32(k.passedTo-h.next) > 0 {
			return // or what was skipped last lies ahead
		}
	}
	m := uint32(min(n, MaxSkip))
	s := c.stream(h)
	id, ok := a.skipper.Skip(&s, h.next, m, p.acked)
	if !ok {
		return
	}
	*a.skipOf(h) = skip{from: h.next, end: h.next + m, id: id, active: true}
}

// SkipRest says that the handler of c wants nothing more of either direction.
// Only their ends still come, and what was not skipped.
func (a *Assembler) SkipRest(c *Conn) {
	if a.skipper == nil {
		return
	}
	for i := range c.half {
		h := &c.half[i]
		if h.skip != nil && h.skip.rest || h.state == halfDone {
			continue
		}
		a.endSkip(h)
		s := c.stream(h)
		id, ok := a.skipper.SkipRest(&s)
		if !ok {
			continue
		}
		*a.skipOf(h) = skip{rest: true, id: id, active: true}
	}
}

// skipCost is what a skip takes from the budget, in bytes: its size class.
const skipCost = 32

// skipOf gives the skip of h, which has one from now on.
func (a *Assembler) skipOf(h *half) *skip {
	if h.skip == nil {
		a.budget.Must(skipCost)
		h.skip = new(skip)
	}
	return h.skip
}

func (a *Assembler) dropSkip(h *half) {
	if h.skip != nil {
		h.skip = nil
		a.budget.Give(skipCost)
	}
}

// of is the half of direction d, and the other one.
func (c *Conn) of(d Dir) (h, p *half) {
	i := max(c.client, 0)
	if d == Server {
		i = 1 - i
	}
	return &c.half[i], &c.half[1-i]
}

func (c *Conn) stream(h *half) Stream {
	i := 0
	if h == &c.half[1] {
		i = 1
	}
	return Stream{Src: c.key.addr[i], Dst: c.key.addr[1-i], SrcPort: c.key.port[i], DstPort: c.key.port[1-i], Domain: uint16(c.key.domain)}
}

// passed takes note of what was skipped before a segment with data, FIN or RST at
// seq.
func (a *Assembler) passed(c *Conn, h, p *half, s *Segment, seq uint32) {
	switch {
	case h.state != halfOpen || h.how != 0:
	case h.skip.rest:
		a.jump(c, h, p, seq, s.Flags&RST != 0)
	case h.first() == nil && int32(seq-h.next) > 0:
		a.skipped(c, h, seq)
	}
}

// jump brings a direction of which nothing is wanted to where a segment is: any
// number of bytes may have passed, more than sequence numbers can tell. A reset
// must be near what passed last.
func (a *Assembler) jump(c *Conn, h, p *half, seq uint32, reset bool) {
	k := h.skip
	a.look(k)
	last := h.next
	if k.begun && !(int32(seq-h.next) >= 0 && int32(k.passedTo-seq) > 0) {
		last = k.passedTo // else the segment was copied before
	}
	d := int32(seq - last)
	if d < 0 || reset && d > resetWindow {
		return
	}
	for a.forceQueue(c, h, p) {
	}
	if int32(seq-h.next) > 0 {
		a.hole(c, h, seq, true)
	}
	h.next = seq
}

// skipped goes on behind bytes of h that were skipped, up to seq at most, and says
// whether there were any: those that the tap counted, and those in the range that
// the receiver has acknowledged.
func (a *Assembler) skipped(c *Conn, h *half, seq uint32) (moved bool) {
	k := h.skip
	to := h.next
	if k.rest {
		to = seq
	} else {
		a.look(k)
		if k.begun && int32(k.passedFrom-to) <= 0 && int32(k.passedTo-to) > 0 {
			to = k.passedTo
		}
		if int32(h.acked-to) > 0 {
			to = h.acked
			if int32(to-k.end) > 0 {
				to = k.end
			}
		}
		if int32(to-seq) > 0 {
			to = seq
		}
	}
	if int32(to-h.next) <= 0 {
		return false
	}

	a.hole(c, h, to, true)
	return true
}

// look asks what was skipped so far.
func (a *Assembler) look(k *skip) {
	if !k.active {
		return
	}
	from, to, over := a.skipper.Skipped(k.id)
	if from != to {
		k.passedFrom, k.passedTo, k.begun = from, to, true
	}
	if over {
		k.active = false
		a.skipper.SkipEnd(k.id)
	}
}

// endSkip has all that still comes of h captured again.
func (a *Assembler) endSkip(h *half) {
	if k := h.skip; k != nil && k.active {
		k.active = false
		a.skipper.SkipEnd(k.id)
	}
}

// leave forgets a range that h has passed, because its numbers come again.
func (a *Assembler) leave(h *half) {
	if k := h.skip; !k.rest && int32(h.next-k.end) >= 0 {
		a.endSkip(h)
		a.dropSkip(h)
	}
}

// passes says whether something was skipped of c since the last call.
func (a *Assembler) passes(c *Conn) (yes bool) {
	for i := range c.half {
		if k := c.half[i].skip; k != nil {
			a.look(k)
			yes = yes || k.passedTo != k.seen
			k.seen = k.passedTo
		}
	}
	return yes
}
