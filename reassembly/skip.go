package reassembly

// Stream names one direction of a connection: Src is the sender.
type Stream struct {
	// Src and Dst are IPv6 addresses; IPv4 is IPv4-mapped.
	Src, Dst         [16]byte
	SrcPort, DstPort uint16
	Domain           uint16
}

// Skipper keeps bytes that no handler wants from being captured. What it is told
// is advice: they may come all the same. Calls come from the assembler's
// goroutine; s is lent for the call.
type Skipper interface {
	// Skip: the bytes [from, to) of s are not wanted. It takes the place of
	// what was said of s before.
	Skip(s *Stream, from, to uint32)
	// SkipRest: nothing more of s is wanted, up to a SYN. Segments with FIN or
	// RST come all the same.
	SkipRest(s *Stream)
	// Skipped gives the range that was skipped for the last Skip of s: each
	// of its bytes passed the tap. ok is false when nothing was, or nobody
	// knows any more.
	Skipped(s *Stream) (first, at uint32, ok bool)
}

// skip is what the handler does not want of a direction: [from, to).
// [askedFrom, askedTo) is the last hole in it that was not skipped.
type skip struct{ from, to, askedFrom, askedTo uint32 }

// maxSkip bounds one Skip, in bytes, so that a sequence number stays comparable
// with all others at hand.
const maxSkip = 1 << 29

// Skip says that the handler of c does not want the next n bytes of d; they need
// only have passed. Holes in them come as Gap with At.Skipped. Handlers call it
// inside Data, not again for the same bytes. It returns of how many bytes that
// was passed on: less than n of many, 0 without a Skipper.
func (a *Assembler) Skip(c *Conn, d Dir, n uint64) uint64 {
	h := c.of(d)
	if a.skipper == nil || h.state != halfOpen || n == 0 {
		return 0
	}
	n = min(n, maxSkip)
	if h.skip == nil {
		h.skip = new(skip) // kept as long as the connection
	}
	*h.skip = skip{from: h.next, to: h.next + uint32(n)}
	s := c.stream(h)
	a.skipper.Skip(&s, h.skip.from, h.skip.to)
	return n
}

// SkipRest says that the handler of c wants nothing more of either direction.
// Only their ends still come in place; bytes that come are delivered.
func (a *Assembler) SkipRest(c *Conn) {
	if a.skipper == nil {
		return
	}
	for i := range c.half {
		h := &c.half[i]
		h.rest = true
		s := c.stream(h)
		a.skipper.SkipRest(&s)
	}
}

// of is the half of direction d.
func (c *Conn) of(d Dir) *half {
	i := max(c.client, 0)
	if d == Server {
		i = 1 - i
	}
	return &c.half[i]
}

func (c *Conn) stream(h *half) Stream {
	i := 0
	if h == &c.half[1] {
		i = 1
	}
	return Stream{
		Src: c.key.addr[i], Dst: c.key.addr[1-i], SrcPort: c.key.port[i], DstPort: c.key.port[1-i], Domain: c.key.domain,
	}
}

// inSkip says whether the hole of h up to seq lies in what the handler does not
// want.
func (h *half) inSkip(seq uint32) bool {
	return h.rest || h.skip != nil && int32(h.next-h.skip.from) >= 0 && int32(seq-h.skip.to) <= 0
}

// passed says whether all bytes of the hole of h up to seq were skipped. It asks
// once for each hole: what is skipped later leaves another.
func (a *Assembler) passed(c *Conn, h *half, seq uint32) bool {
	k := h.skip
	if k == nil || !h.inSkip(seq) || k.askedFrom == h.next && k.askedTo == seq {
		return false
	}
	s := c.stream(h)
	first, at, ok := a.skipper.Skipped(&s)
	if ok && int32(first-h.next) <= 0 && int32(at-seq) >= 0 {
		return true
	}
	k.askedFrom, k.askedTo = h.next, seq
	return false
}

// stepOver goes on behind a hole of one direction that is nothing but skipped
// bytes.
func (a *Assembler) stepOver(c *Conn, i int) bool {
	h := &c.half[i]
	if h.skip == nil || h.state != halfOpen {
		return false
	}
	to := h.next
	if h.head != nil {
		to = h.head.seq
	} else if h.how != 0 {
		to = h.fin
	}
	if int32(to-h.next) <= 0 || !a.passed(c, h, to) {
		return false
	}
	a.gap(c, h, to, true)
	return true
}

// jump brings a direction of which nothing is wanted to where a segment is: any
// number of bytes may have passed.
func (a *Assembler) jump(c *Conn, h, p *half, seq uint32, end bool) {
	for a.forceQueue(c, h, p) {
	}
	switch d := int32(seq - h.next); {
	case d > 0:
		a.gap(c, h, seq, true)
	case end:
		h.next = seq
	}
}
