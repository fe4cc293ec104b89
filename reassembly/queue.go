package reassembly

import "bytes"

// node is a queued segment, or what was new of it. The bytes are a copy.
type node struct {
	prev, next *node
	b          []byte
	time       int64
	seq, ack   uint32
	sent       uint32 // how far the sender had come before it
	segment    uint32 // of the connection
	flags      Flags
	trimmed    bool // b does not begin where its segment began
	class      uint8
}

// Buffers come in classes, so that they can be used again.
var classes = [...]int{512, 2048, 16 << 10, 64 << 10}

// nodeCost is what a node takes beside its buffer, in bytes.
const nodeCost = 112

// keepFree bounds the buffers of a class that are kept for later.
const keepFree = 64

type nodePool struct {
	free  [len(classes)]*node
	count [len(classes)]int
}

func classOf(n int) (uint8, bool) {
	for i, size := range classes {
		if n <= size {
			return uint8(i), true
		}
	}
	return 0, false
}

func (np *nodePool) get(class uint8) *node {
	n := np.free[class]
	if n == nil {
		return &node{b: make([]byte, 0, classes[class]), class: class}
	}
	np.free[class] = n.next
	np.count[class]--
	n.next = nil
	return n
}

func (np *nodePool) put(n *node) {
	if np.count[n.class] >= keepFree {
		return
	}
	*n = node{b: n.b[:0], class: n.class, next: np.free[n.class]}
	np.free[n.class] = n
	np.count[n.class]++
}

// queue keeps what is new of b behind a hole. The first copy of a byte wins;
// a later one that differs is reported.
func (a *Assembler) queue(c *Conn, h *half, b []byte, seq uint32, s *Segment, trimmed bool) {
	if h.first() == nil {
		a.holdFrom(h, s.Time, c.segments)
		if uint32(s.Lost) != h.lost {
			a.ours(h)
		}
	}
	w := h.wait
	// Find the last node that begins at or before seq; usually the tail.
	at := w.tail
	for at != nil && int32(at.seq-seq) > 0 {
		at = at.prev
	}
	for len(b) > 0 {
		if at != nil {
			end := at.seq + uint32(len(at.b))
			if over := int32(end - seq); over > 0 {
				n := min(int(over), len(b))
				have := at.b[seq-at.seq:][:n]
				if !bytes.Equal(have, b[:n]) {
					a.doubt(c, h, seq, seq+uint32(n))
				}
				if s.Flags&at.flags&ACK != 0 && int32(at.ack-s.Ack) > 0 {
					at = a.earlier(c, h, at, seq, n, s, trimmed)
				}
				a.st.Duplicate += uint64(n)
				b, seq, trimmed = b[n:], seq+uint32(n), true
				if len(b) == 0 {
					return
				}
			}
		}
		next := w.head
		if at != nil {
			next = at.next
		}
		n := len(b)
		if next != nil {
			n = min(n, int(int32(next.seq-seq)))
		}
		if n > 0 {
			k := min(n, classes[len(classes)-1])
			if !a.insert(c, h, at, b[:k], seq, s, trimmed) {
				a.st.OverMemory += uint64(len(b))
				a.ours(h)
				return
			}
			if at == nil {
				at = w.head
			} else {
				at = at.next
			}
			b, seq, trimmed = b[k:], seq+uint32(k), true
			if k < n {
				continue
			}
		}
		if next != nil && len(b) > 0 {
			at = next
		}
	}
	if int64(w.queued) > a.flowMax && h.state == halfOpen && int32(w.head.seq-h.next) > 0 {
		a.gap(c, h, w.head.seq) // enough waiting: settle delivers what is behind
	}
}

// insert puts a copy of b behind at, or first.
func (a *Assembler) insert(c *Conn, h *half, at *node, b []byte, seq uint32, s *Segment, trimmed bool) bool {
	w := h.wait
	class, ok := classOf(len(b))
	cost := int64(classes[class] + nodeCost)
	if !ok || int64(w.queued)+cost > 2*a.flowMax || !a.budget.Take(cost) {
		return false
	}
	n := a.nodes.get(class)
	n.b = append(n.b[:0], b...)
	n.sent, n.segment = h.sent(seq), c.segments
	n.seq, n.ack, n.flags, n.time, n.trimmed = seq, s.Ack, s.Flags, s.Time, trimmed
	n.prev = at
	if at == nil {
		n.next = w.head
		w.head = n
	} else {
		n.next = at.next
		at.next = n
	}
	if n.next == nil {
		w.tail = n
	} else {
		n.next.prev = n
	}
	w.queued += int32(cost)
	a.st.Queued += uint64(len(b))
	return true
}

// earlier notes that s is an earlier copy of the n bytes of at from seq on: it had
// received less when it was sent. So at was a retransmission that goes on with new
// bytes, and only those were sent when all was there that at acknowledges. It
// returns the node that the n bytes are in, which stay as they came first.
func (a *Assembler) earlier(c *Conn, h *half, at *node, seq uint32, n int, s *Segment, trimmed bool) *node {
	if seq != at.seq {
		if !a.cleave(c, h, at, seq) {
			return at
		}
		at = at.next
	}
	if n < len(at.b) && !a.cleave(c, h, at, seq+uint32(n)) {
		return at
	}
	at.ack, at.trimmed = s.Ack, at.trimmed && trimmed
	return at
}

// cleave makes two nodes of at, the second of which begins at seq, and says
// whether there is room for it.
func (a *Assembler) cleave(c *Conn, h *half, at *node, seq uint32) bool {
	k := int(seq - at.seq)
	if !a.insert(c, h, at, at.b[k:], seq, &Segment{Ack: at.ack, Flags: at.flags, Time: at.time}, true) {
		return false
	}
	a.st.Queued -= uint64(len(at.b) - k) // they were queued before
	at.b, at.next.sent = at.b[:k], at.sent
	return true
}

// unlink takes the first node out.
func (a *Assembler) unlink(h *half) *node {
	w := h.wait
	n := w.head
	w.head = n.next
	if w.head == nil {
		w.tail = nil
		if w.ours {
			w.ours = false
			a.oursHoles--
		}
	} else {
		w.head.prev = nil
	}
	cost := int64(classes[n.class] + nodeCost)
	w.queued -= int32(cost)
	a.budget.Give(cost)
	a.st.Queued -= uint64(len(n.b))
	return n
}

// pop delivers the first node.
func (a *Assembler) pop(c *Conn, h, p *half) {
	n := a.unlink(h)
	b, trimmed := n.b, n.trimmed
	if old := int32(h.next - n.seq); old > 0 {
		old = min(old, int32(len(b)))
		a.st.Duplicate += uint64(old)
		b, trimmed = b[old:], true
	}
	if h.how != 0 {
		if room := max(int32(h.wait.fin-h.next), 0); room < int32(len(b)) {
			a.st.Malformed += uint64(len(b)) - uint64(room)
			b = b[:room]
		}
	}
	if len(b) > 0 {
		a.deliver(c, h, p, b, n.ack, n.flags, n.time, !trimmed)
	}
	a.nodes.put(n)
}

// dropQueue counts what is left as never delivered. The direction is over.
func (a *Assembler) dropQueue(h *half) {
	for h.first() != nil {
		n := a.unlink(h)
		a.st.Malformed += uint64(len(n.b))
		a.nodes.put(n)
	}
	if w := h.wait; w != nil && w.ours {
		w.ours = false
		a.oursHoles--
	}
	a.endWait(h)
}

// ours marks the hole of h as one that pure ACKs should decide.
func (a *Assembler) ours(h *half) {
	if w := a.waitOf(h); !w.ours {
		w.ours = true
		a.oursHoles++
	}
}

func (a *Assembler) doubt(c *Conn, h *half, from, to uint32) {
	d, ok := c.dir(h)
	if !ok {
		return
	}
	if c.handler == nil {
		c.handler = a.factory.Open(c)
	}
	c.handler.Doubt(d, h.offset(from), h.offset(to))
}
