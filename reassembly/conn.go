package reassembly

import (
	"bytes"
	"net/netip"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// key names a connection; the endpoint that sorts first comes first. No byte of
// it is padding, so that maps hash and compare it in one piece.
type key struct {
	addr   [2][16]byte
	port   [2]uint16
	domain uint32
	// split is 0 but for a connection whose endpoints another one has too, in
	// another network.
	split uint32
}

// keyOf gives the key and which endpoint of it sent the segment.
func keyOf(s *Segment) (key, int) {
	d := bytes.Compare(s.Src[:], s.Dst[:])
	if d < 0 || d == 0 && s.SrcPort <= s.DstPort {
		return key{[2][16]byte{s.Src, s.Dst}, [2]uint16{s.SrcPort, s.DstPort}, uint32(s.Domain), 0}, 0
	}
	return key{[2][16]byte{s.Dst, s.Src}, [2]uint16{s.DstPort, s.SrcPort}, uint32(s.Domain), 0}, 1
}

// sender says which endpoint of c sent s, -1 when s is not of c. It agrees with
// keyOf where no key has a network, and spares making the key.
func (c *Conn) sender(s *Segment) int {
	k := &c.key
	switch {
	case k.domain != uint32(s.Domain):
		return -1
	case k.port[0] == s.SrcPort && k.port[1] == s.DstPort && k.addr[0] == s.Src && k.addr[1] == s.Dst:
		return 0
	case k.port[1] == s.SrcPort && k.port[0] == s.DstPort && k.addr[1] == s.Src && k.addr[0] == s.Dst:
		return 1
	}
	return -1
}

// recentAt is the place in Assembler.recent of connections between two ports, in
// either order. Clients take every second port, and servers share a few.
func recentAt(a, b uint16) uint32 { return uint32(a^b) * 0x9e3779b1 >> (32 - recentBits) }

type connState uint8

const (
	connOpen connState = iota
	// connClosed: both directions ended; remembered for late copies.
	connClosed
	// connFree: on the free list.
	connFree
)

// Conn is one TCP connection. It belongs to the assembler. Very many are idle, so
// its size counts: it is a size class of the allocator.
type Conn struct {
	key     key
	index   int32 // in Assembler.order
	handler Handler
	half    [2]half
	// seen is the time of the last segment.
	seen     int64
	next     *Conn // in its bucket, or in the free list
	mem      int32 // what it has taken from the budget, in bytes
	segments uint32
	// client is the index of the client's half, -1 while unknown.
	client int8
	state  connState
	blind  bool // bytes came while the direction was unknown
	reset  bool // one side reset; the other waits out the hold
	forced bool
}

type halfState uint8

const (
	halfUnset halfState = iota
	// halfStarting: no SYN; an earlier segment may still come.
	halfStarting
	halfOpen
	halfDone
)

const (
	howFIN = 1
	howRST = 2
)

// half is one direction of a connection.
type half struct {
	// off is the stream offset of next.
	off  uint64
	next uint32
	// isn is the initial sequence number, or without one the first position.
	isn uint32
	// acked is the highest acknowledgement of the other side, ackedAt how far
	// the other stream had come when it was sent.
	acked   uint32
	ackedAt uint32
	// lost is the ring's count at the last segment, but for its upper half.
	lost uint32
	// tap and network are the owner's: where this direction is taken from. A
	// copy from elsewhere is other_interface.
	network uint32
	tap     uint16
	state   halfState
	how     uint8 // it ends at wait.fin, when not 0
	tapped  bool
	synced  bool // isn is from a SYN or its acknowledgement
	// seen is the time of the owner's last segment.
	seen int64
	wait *wait // nil when nothing is undecided
	skip *skip // nil before the first Skip
}

// first is the first queued segment, or nil.
func (h *half) first() *node {
	if h.wait == nil {
		return nil
	}
	return h.wait.head
}

// offset is the stream offset of a sequence number.
func (h *half) offset(seq uint32) uint64 { return h.off + uint64(int64(int32(seq-h.next))) }

// goTo moves the place on to seq. What was acknowledged last is not left so far behind
// that it would seem to lie ahead (RFC 9293 section 3.4): of one who only receives no
// acknowledgement may be captured.
func (h *half) goTo(seq uint32) {
	far := seq - h.acked
	if int32(h.acked-h.next) > 0 && int32(far) < 0 {
		far = 0 // it lies ahead, of seq too
	}
	if h.next = seq; far > window {
		h.acked = seq - window
	}
}

// still says that nothing of the direction can go on: without force, advance and
// decide would find nothing to do in it.
func (h *half) still() bool {
	switch h.state {
	case halfUnset, halfDone:
		return true
	case halfOpen:
		return h.how == 0 && int32(h.acked-h.next) <= 0 && (h.first() == nil || int32(h.first().seq-h.next) > 0 && h.skip == nil)
	}
	return false
}

// owner says whether the direction is taken from where s comes from.
func (h *half) owner(s *Segment) bool { return h.tap == s.Tap && h.network == s.Network }

// takesOver says whether the direction is taken from elsewhere from now on,
// from where s comes from: where it goes on at exactly the next byte (that tap
// stands before the owner on the path, the path has changed, or the owner lost
// the segment), or where the owner is silent, because its interface has gone or
// its tap was taken off. A place far from this one is another connection's: a
// proxy between two taps can keep the addresses.
func (h *half) takesOver(s *Segment) bool {
	if h.state == halfOpen && s.Flags&SYN == 0 && s.Seq == h.next && (len(s.Payload) > 0 || s.Flags&(FIN|RST) != 0) {
		return true
	}
	return h.quiet(s) && (h.state != halfOpen || near(s.Seq, h.next, ownerWindow))
}

// quiet says that the owner has shown nothing for long.
func (h *half) quiet(s *Segment) bool { return s.Time-h.seen > silent }

func near(a, b uint32, by int32) bool {
	d := int32(a - b)
	return -by <= d && d <= by
}

// sent is how far the sender of a segment at seq had come before it: seq, or
// what was seen of it, when the segment repeats something.
func (h *half) sent(seq uint32) uint32 {
	if h.state == halfUnset {
		return seq
	}
	if int32(h.next-seq) > 0 {
		seq = h.next
	}
	if h.first() != nil {
		t := h.wait.tail
		if end := t.seq + uint32(len(t.b)); int32(end-seq) > 0 {
			seq = end
		}
	}
	return seq
}

// ackedAt is how far the other direction had come at the first segment that
// acknowledged seq of h.
func (c *Conn) ackedAt(h *half, seq uint32) uint64 {
	p := &c.half[0]
	if p == h {
		p = &c.half[1]
	}
	at := p.offset(h.ackedAt)
	for n := p.first(); n != nil; n = n.next { // held, because it acknowledges the hole
		if n.flags&ACK != 0 && int32(n.ack-seq) >= 0 {
			at = min(at, p.offset(n.sent))
		}
	}
	return at
}

// lower moves the start of a direction that has not begun. What waits in p, the other
// one, may have acknowledged bytes behind it.
func (h *half) lower(seq uint32, p *half) {
	if h.acked == h.next {
		h.acked = seq
		for n := p.first(); n != nil; n = n.next {
			if n.flags&ACK != 0 && int32(n.ack-h.acked) > 0 {
				h.acked, h.ackedAt = n.ack, n.sent
			}
		}
	}
	h.next = seq
}

func (c *Conn) learn(side Side, from int) {
	switch side {
	case ToServer:
		c.client = int8(from)
	case ToClient:
		c.client = int8(1 - from)
	}
}

// learnHalf makes h the client's.
func (c *Conn) learnHalf(h *half) {
	if h == &c.half[0] {
		c.client = 0
	} else {
		c.client = 1
	}
}

func (c *Conn) dir(h *half) (Dir, bool) {
	if c.client < 0 {
		return 0, false
	}
	if h == &c.half[c.client] {
		return Client, true
	}
	return Server, true
}

// Flow sets the endpoints of f and gives the domain, whose name is the caller's
// to add.
func (c *Conn) Flow(f *exchange.Flow) (domain uint16) {
	i := max(c.client, 0)
	f.Client = netip.AddrPortFrom(netip.AddrFrom16(c.key.addr[i]).Unmap(), c.key.port[i])
	f.Server = netip.AddrPortFrom(netip.AddrFrom16(c.key.addr[1-i]).Unmap(), c.key.port[1-i])
	return uint16(c.key.domain)
}

// Handle makes h the handler from the next call on. The one that had the
// connection before calls it; its Close is not called any more.
func (c *Conn) Handle(h Handler) { c.handler = h }

// ISN is the client's initial sequence number, or the first position seen.
func (c *Conn) ISN() uint32 { return c.half[max(c.client, 0)].isn }

// FromStart says that direction d is known from its first byte on.
func (c *Conn) FromStart(d Dir) bool {
	i := max(c.client, 0)
	if d == Server {
		i = 1 - i
	}
	return c.half[i].synced
}

// inNetwork finds the connection of a segment that came in a tunnel, or that a
// tunnel's repeats. c is that of the key k, nil without one.
//
// A network is not part of a key: many tunnels number the receiver's network or
// the sender's identity, so that the directions of one connection differ in it.
// It tells connections apart only where their numbers show that the endpoints
// collide; both directions of the later one must then be in the same network.
func (a *Assembler) inNetwork(c *Conn, k key, s *Segment, from int) (*Conn, key) {
	other := k
	other.split = max(s.Network, 1)
	if a.splits > 0 {
		if x := a.conns.find(&other); x != nil {
			return x, other
		}
	}
	if c == nil {
		return nil, k
	}
	h := &c.half[from]
	if !h.tapped || h.network == s.Network {
		return c, k
	}
	if s.Flags&SYN != 0 {
		if h.synced && h.isn != s.Seq {
			return nil, other
		}
	} else if len(s.Payload) > 0 && h.state >= halfOpen && !near(s.Seq, h.next, ownerWindow) {
		return nil, other
	}
	return c, k
}

// open makes a connection.
func (a *Assembler) open(k key) *Conn {
	for !a.budget.Take(connCost) {
		if !a.evict() {
			a.budget.used += connCost // the limit is below one connection
			break
		}
	}
	c := a.free
	if c != nil {
		a.free, a.nFree = c.next, a.nFree-1
		*c = Conn{}
	} else {
		c = new(Conn)
	}
	c.key, c.client = k, -1
	c.index, c.mem = int32(len(a.order)), connCost
	c.seen = a.now
	a.order = append(a.order, c)
	a.conns.put(c)
	if k.split != 0 {
		a.splits++
	}
	a.peak = max(a.peak, len(a.order))
	a.st.Opened++
	return c
}

// evict forgets one of the next 64 connections: a closed one, else of those that
// have taken at least half of what a connection has on average the one that was
// quiet for longest. So neither many that hold little nor few that hold much push
// out those that work. Where none of the 64 is such a one it looks further: those
// that are have half of the memory at least, so that a long search is a rare one.
func (a *Assembler) evict() bool {
	if len(a.order) == 0 {
		return false
	}
	share := a.budget.used / int64(len(a.order)) / 2
	var oldest *Conn
	for n := 0; n < len(a.order) && (n < 64 || n < visits && oldest.state != connClosed && int64(oldest.mem) < share); n++ {
		if a.cursor >= len(a.order) {
			a.cursor = 0
		}
		c := a.order[a.cursor]
		a.cursor++
		if oldest == nil || a.rather(c, oldest, share) {
			oldest = c
		}
	}
	if oldest.state != connClosed {
		a.st.Evicted++
		a.finish(oldest, CloseEvicted)
	}
	a.forget(oldest)
	return true
}

// rather says whether to evict c and not d.
func (a *Assembler) rather(c, d *Conn, share int64) bool {
	if x, y := c.state == connClosed, d.state == connClosed; x != y {
		return x
	}
	if x, y := int64(c.mem) >= share, int64(d.mem) >= share; x != y {
		return x
	}
	return c.seen < d.seen
}

// close ends a connection for its handler; it stays remembered.
func (a *Assembler) close(c *Conn, why Close) {
	for i := range c.half {
		a.dropQueue(&c.half[i])
		c.half[i].state = halfDone
		a.endSkip(&c.half[i])
		a.dropSkip(&c.half[i])
	}
	c.state = connClosed
	if c.handler != nil {
		h := c.handler
		c.handler = nil
		h.Close(why)
	} else if c.blind {
		a.factory.BlindEnd()
	}
	c.mem = connCost
}

// forget removes a closed connection.
func (a *Assembler) forget(c *Conn) {
	a.conns.remove(c)
	if c.key.split != 0 {
		a.splits--
	}
	last := len(a.order) - 1
	a.order[c.index] = a.order[last]
	a.order[c.index].index = c.index
	a.order[last] = nil
	a.order = a.order[:last]
	a.budget.Give(connCost)
	if at := &a.recent[recentAt(c.key.port[0], c.key.port[1])]; *at == c {
		*at = nil
	}
	c.state = connFree
	if a.nFree < maxFree {
		c.next = a.free
		a.free, a.nFree = c, a.nFree+1
	}
	if last <= maxFree && a.peak > 8*maxFree {
		a.shrink()
	}
}

// shrink gives back what the table and the order took for many connections.
func (a *Assembler) shrink() {
	a.conns = newTable(len(a.order))
	for _, c := range a.order {
		a.conns.put(c)
	}
	a.order, a.peak = append(make([]*Conn, 0, len(a.order)), a.order...), len(a.order)
}

// syn takes the SYN of s and returns the connection that it belongs to.
func (a *Assembler) syn(c *Conn, s *Segment, from int) *Conn {
	h := &c.half[from]
	if h.tapped && !h.owner(s) && c.state == connOpen && !h.quiet(s) {
		return c // a copy from another tap
	}
	switch {
	case h.synced && h.isn == s.Seq:
		return c // a retransmission
	case c.state == connClosed || h.synced,
		h.state == halfOpen && h.isn != s.Seq+1 && !(a.hold && int32(h.next-s.Seq) > 0 && h.off == 0),
		h.state == halfDone:
		// RFC 9293 section 3.6.1: the old connection is gone.
		if c.state != connClosed {
			a.finish(c, CloseReused)
		}
		k := c.key
		a.forget(c)
		c = a.open(k)
		a.recent[recentAt(s.SrcPort, s.DstPort)] = c
		h = &c.half[from]
	}
	if h.state == halfStarting || h.state == halfUnset || h.off == 0 {
		h.next = s.Seq + 1
	}
	if h.state == halfOpen && h.wait == nil && int32(h.acked-h.next) > 0 {
		a.holdFrom(h, s.Time, c.segments)
	}
	h.isn, h.synced = s.Seq, true
	if h.state == halfUnset {
		h.acked = h.next
	}
	h.state = halfOpen
	p := &c.half[1-from]
	if s.Flags&ACK == 0 {
		c.client = int8(from)
		return c
	}
	c.client = int8(1 - from)
	if !p.synced && (p.state == halfUnset || p.state == halfStarting) {
		if p.state == halfUnset {
			p.acked = s.Ack
		}
		p.next, p.isn, p.synced, p.state = s.Ack, s.Ack-1, true, halfOpen
	}
	return c
}
