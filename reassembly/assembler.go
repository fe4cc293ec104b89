package reassembly

import (
	"fmt"
	"time"
)

// Factory makes the handlers of connections. It belongs to the same goroutine
// as the Assembler.
type Factory interface {
	// Open is called before the first Data, Gap or End of a connection.
	Open(c *Conn) Handler
	// Guess says from the first bytes which side is the server, where neither
	// a SYN nor a port nor the tap's role told.
	Guess(b []byte) Side
	// Blind takes note of n bytes of a connection whose direction is unknown.
	Blind(n int)
	// BlindEnd is called when such a connection ends without having been
	// opened.
	BlindEnd()
}

// Handler follows one connection. Slices and At are lent for the call.
type Handler interface {
	// Data gives the next bytes of a direction.
	Data(d Dir, b []byte, at *At)
	// Gap says that the n bytes from at.Offset on were never seen. at.Ack is
	// how far the other direction had come when the receiver acknowledged
	// them; at.AckOK is false when nobody acknowledged them.
	Gap(d Dir, n uint64, at *At)
	// Doubt says that two copies of the bytes [from, to) of d differed. It
	// comes before the bytes themselves.
	Doubt(d Dir, from, to uint64)
	// End says that a direction is over.
	End(d Dir, how End)
	// Close is the last call: the connection is forgotten.
	Close(why Close)
}

// Rester is a Handler that can do with less memory while nothing comes.
type Rester interface {
	Handler
	// Rest is called in the rounds of Tick when nothing came for 2 s. It gives the
	// handler that takes this one's place, or itself.
	Rest() Handler
}

// At describes where bytes stand.
type At struct {
	// Offset is the position of the first byte in its stream. The byte after
	// the SYN is 0; without a SYN the first position seen is 0.
	Offset uint64
	// Ack is the position in the other stream up to which the sender of these
	// bytes had received, when AckOK.
	Ack   uint64
	AckOK bool
	// Resent says that bytes behind these came with a lower Ack: these are a
	// copy, and its sender had received less when it sent them first.
	Resent bool
	// Skipped says of a gap that its bytes have passed and were not captured because
	// the handler did not want them.
	Skipped bool
	// Start says that the first byte is also the first of a segment.
	Start bool
	// Urgent says that the segment had the URG flag.
	Urgent bool
	// Time is the tap's time in nanoseconds since the Unix epoch.
	Time int64
}

// AckExact says that Ack is what the sender had received when it first sent the
// bytes.
func (at *At) AckExact() bool { return at.AckOK && !at.Resent }

// Dir is a direction of a connection, named by the sender.
type Dir uint8

const (
	// Client is what the client sends.
	Client Dir = iota
	// Server is what the server sends.
	Server
)

// Other is the opposite direction.
func (d Dir) Other() Dir { return 1 - d }

// End is how a direction ended.
type End uint8

const (
	// EndFIN: every byte up to the FIN was delivered or declared a gap.
	EndFIN End = iota
	// EndRST: the connection was reset.
	EndRST
)

// Close is why a connection was forgotten.
type Close uint8

const (
	// CloseDone: both directions ended.
	CloseDone Close = iota
	// CloseReused: a SYN opened a new connection on the same addresses.
	CloseReused
	// CloseIdle: nothing came for Config.Idle.
	CloseIdle
	// CloseEvicted: the memory was needed.
	CloseEvicted
	// CloseStopped: the agent stops, or the file ended.
	CloseStopped
)

// Budget bounds the memory of one assembler and of its handlers. It belongs to
// their goroutine.
type Budget struct {
	// Limit in bytes.
	Limit int64
	used  int64
}

// Take reserves n bytes and says whether they fit.
func (b *Budget) Take(n int64) bool {
	if b.used+n > b.Limit {
		return false
	}
	b.used += n
	return true
}

// Must reserves n bytes though they may not fit. Behind each segment the
// assembler forgets connections until a sixteenth of the limit is free again.
func (b *Budget) Must(n int64) { b.used += n }

// Give returns n bytes.
func (b *Budget) Give(n int64) { b.used -= n }

// Used is how many bytes are taken.
func (b *Budget) Used() int64 { return b.used }

// Config of an Assembler.
type Config struct {
	// Factory makes the handlers. Required.
	Factory Factory
	// Budget bounds the memory. Required; handlers take from it too.
	Budget *Budget
	// Skipper keeps bytes from being captured. Nil, as for files: nothing is
	// skipped.
	Skipper Skipper
	// Forecaster does so ahead of answers that have not begun. Nil, as for files: nobody is
	// told.
	Forecaster Forecaster
	// FlowMemory bounds what is queued of one direction behind a hole, in
	// bytes; beyond it the hole is taken as lost. Zero means 8 MiB, and never
	// more than a quarter of the budget.
	FlowMemory int64
	// HoldTime and HoldSegments are how long an acknowledged hole, and the
	// start of a stream whose SYN was not seen, wait for segments that stand
	// later in a capture file: until HoldTime of capture time has passed and
	// HoldSegments segments of the connection have come. Both zero, as on the
	// live ring, means not at all.
	HoldTime     time.Duration
	HoldSegments int
	// Idle is after how long without a segment a connection is forgotten.
	// Zero means 10 min.
	Idle time.Duration
	// Linger is how long a closed connection is remembered, so that late
	// copies of its segments are known as such. Zero means 10 s.
	Linger time.Duration
}

// Stats are an assembler's counters. Captured = Delivered + Duplicate +
// OtherInterface + Malformed + OverMemory + Queued, in payload bytes.
type Stats struct {
	Captured, Delivered, Duplicate, OtherInterface, Malformed, OverMemory uint64
	// Queued is a gauge: bytes that wait behind a hole.
	Queued uint64
	// Gaps and GapBytes are the holes that were declared lost.
	Gaps, GapBytes uint64
	// Connections is a gauge: those remembered, closed ones included.
	Connections uint64
	// Opened counts connections, Evicted those forgotten for want of memory.
	Opened, Evicted uint64
	// Memory is a gauge: bytes taken from the budget.
	Memory uint64
}

// visits bounds how many connections one Tick looks at, or one eviction.
const visits = 1000

// giveUp is after how long an undecided hole or start is decided without the
// rest of the hold, in nanoseconds; and after how long a live hole makes the
// shard ask for pure ACKs is askAfter.
const (
	giveUp   = int64(2 * time.Second)
	askAfter = int64(200 * time.Millisecond)
	// restAfter is after how long without a segment a handler may rest, in
	// nanoseconds.
	restAfter = int64(2 * time.Second)
	// window bounds how far ahead of its place a segment may be: the largest
	// receive window (RFC 7323 section 2.3).
	window = 1 << 30
	// silent is after how long without a segment from the owner of a direction
	// another tap may own it, in nanoseconds; ownerWindow bounds how far from
	// its place that tap may then be, in bytes: what passes in that time at
	// 10 Gbit/s.
	silent      = int64(200 * time.Millisecond)
	ownerWindow = 1 << 28
	// resetWindow bounds how far ahead a reset is believed.
	resetWindow = 1 << 24
	// connCost is what a connection takes from the budget beside its handler, in
	// bytes: Conn, and its places in the table and in the order, which have room for
	// a quarter more. The rest is for the free lists.
	connCost = 272
	// maxFree bounds the connections that are kept for reuse, and the waits, and is
	// at how few remembered ones the table of more is made anew, because it does not
	// shrink.
	maxFree = 1000
	// recentBits is the size of Assembler.recent, as a power of two.
	recentBits = 10
)

// Assembler follows the connections of one shard. Not safe for concurrent use.
type Assembler struct {
	factory    Factory
	budget     *Budget
	skipper    Skipper
	forecaster Forecaster
	flowMax    int64
	holdTime   int64
	holdSegs   uint32
	hold       bool
	idle       int64
	linger     int64

	conns  table
	order  []*Conn // every connection once, for the rounds of Tick
	cursor int
	// recent are connections of the last segments, each in its place: it spares
	// making their keys and looking them up.
	recent [1 << recentBits]*Conn
	free   *Conn
	nFree  int
	peak   int // most connections since the table was made
	nodes  nodePool
	waits  *wait // free list
	nWaits int   // in it

	oursHoles int // directions with a hole that this capture made
	splits    int // connections whose key has a network
	now       int64
	at        At
	st        Stats
}

// New makes an Assembler.
func New(cfg Config) (*Assembler, error) {
	switch {
	case cfg.Factory == nil:
		return nil, fmt.Errorf("reassembly: Factory is required")
	case cfg.Budget == nil || cfg.Budget.Limit <= 0:
		return nil, fmt.Errorf("reassembly: Budget with a Limit is required")
	case cfg.HoldTime < 0 || cfg.HoldSegments < 0:
		return nil, fmt.Errorf("reassembly: HoldTime and HoldSegments must not be negative")
	case cfg.FlowMemory < 0 || cfg.Idle < 0 || cfg.Linger < 0:
		return nil, fmt.Errorf("reassembly: FlowMemory, Idle and Linger must not be negative")
	case cfg.Skipper != nil && (cfg.HoldTime > 0 || cfg.HoldSegments > 0):
		return nil, fmt.Errorf("reassembly: a Skipper is for the live ring, which needs neither HoldTime nor HoldSegments")
	}
	if cfg.FlowMemory == 0 {
		cfg.FlowMemory = 8 << 20
	}
	if cfg.Idle == 0 {
		cfg.Idle = 10 * time.Minute
	}
	if cfg.Linger == 0 {
		cfg.Linger = 10 * time.Second
	}
	return &Assembler{
		factory:    cfg.Factory,
		budget:     cfg.Budget,
		skipper:    cfg.Skipper,
		forecaster: cfg.Forecaster,
		flowMax:    min(cfg.FlowMemory, cfg.Budget.Limit/4),
		holdTime:   int64(cfg.HoldTime),
		holdSegs:   uint32(cfg.HoldSegments),
		hold:       cfg.HoldTime > 0 || cfg.HoldSegments > 0,
		idle:       int64(cfg.Idle),
		linger:     int64(cfg.Linger),
		conns:      newTable(0),
	}, nil
}

// Stats gives the counters. Call it from the assembler's goroutine.
func (a *Assembler) Stats() Stats {
	st := a.st
	st.Connections = uint64(len(a.order))
	st.Memory = uint64(a.budget.used)
	return st
}

// HoleOpen says whether a hole waits that pure ACKs could decide: one across
// which the ring lost something, or one that is old.
func (a *Assembler) HoleOpen() bool { return a.oursHoles > 0 }

// Segment takes the next segment. s and its payload are lent for the call.
func (a *Assembler) Segment(s *Segment) {
	n := uint64(len(s.Payload))
	a.st.Captured += n
	if s.Time > a.now {
		a.now = s.Time
	}
	at := &a.recent[recentAt(s.SrcPort, s.DstPort)]
	c := *at
	from := -1
	if c != nil && s.Network == 0 && a.splits == 0 {
		from = c.sender(s)
	}
	if from < 0 {
		var k key
		k, from = keyOf(s)
		c = a.conns.find(&k)
		if s.Network != 0 || a.splits > 0 {
			c, k = a.inNetwork(c, k, s, from)
		}
		if c == nil {
			if n == 0 && s.Flags&SYN == 0 && !(a.hold && s.Flags&FIN != 0) {
				return // nothing to follow
			}
			c = a.open(k)
		}
		*at = c
	}
	if s.Flags&SYN != 0 {
		c = a.syn(c, s, from)
	}
	h, p := &c.half[from], &c.half[1-from]
	switch {
	case !h.tapped:
		h.tapped, h.tap, h.network = true, s.Tap, s.Network
	case !h.owner(s):
		if c.state != connOpen || !h.takesOver(s) {
			a.st.OtherInterface += n
			return
		}
		h.tap, h.network = s.Tap, s.Network
	}
	h.seen = s.Time
	if c.client < 0 {
		c.learn(s.Side, from)
	}
	c.seen = s.Time
	c.segments++
	if c.state == connClosed {
		a.late(h, s)
		return
	}
	taken := a.budget.used
	a.follow(c, h, p, s)
	if c.state == connOpen {
		c.mem += int32(a.budget.used - taken)
	}
	// One segment's worth of memory stays free for those that are at work.
	for a.budget.used > a.budget.Limit-a.budget.Limit/16 && a.evict() {
	}
}

// follow takes a segment of an open connection.
func (a *Assembler) follow(c *Conn, h, p *half, s *Segment) {
	n, seq := len(s.Payload), s.Seq
	if s.Flags&SYN != 0 {
		seq++
	}
	if h.state == halfUnset && (n > 0 || s.Flags&(FIN|RST) != 0) {
		if n == 0 && s.Flags&RST != 0 {
			// refused before it began
			a.close(c, CloseDone)
			return
		}
		a.begin(h, seq, s.Time, c.segments)
	}
	if s.Flags&ACK != 0 {
		a.ack(c, h, p, s, seq)
	}
	if h.state == halfStarting && n > 0 && int32(seq-h.next) < 0 { // a probe below it has none
		h.lower(seq, p)
	}
	if h.skip != nil && (n > 0 || s.Flags&(FIN|RST) != 0) {
		a.passed(c, h, p, s, seq)
	}
	if n > 0 {
		a.data(c, h, p, s, seq)
	}
	if s.Skipped > 0 {
		a.leftOut(c, h, seq+uint32(n), s.Skipped)
	}
	if s.Flags&(FIN|RST) != 0 {
		a.fin(c, h, p, s, seq)
	}
	if h.wait != nil || p.wait != nil || a.hold {
		a.settle(c, false)
	}
	h.lost = uint32(s.Lost)
	if h.skip != nil {
		a.leave(h)
	}
	if p.skip != nil {
		a.leave(p)
	}
}

// begin fixes where a direction without a SYN starts, or, for files, opens the
// time in which an earlier segment may still come.
func (a *Assembler) begin(h *half, seq uint32, now int64, segments uint32) {
	h.next, h.isn, h.acked = seq, seq, seq
	h.state = halfOpen
	if a.hold {
		h.state = halfStarting
		a.holdFrom(h, now, segments)
	}
}

// ack notes what the sender of s had received of the other direction.
func (a *Assembler) ack(c *Conn, h, p *half, s *Segment, seq uint32) {
	switch p.state {
	case halfUnset:
		a.begin(p, s.Ack, s.Time, c.segments)
		p.ackedAt = h.sent(seq)
		return
	case halfStarting:
		if int32(s.Ack-p.next) < 0 {
			p.lower(s.Ack, h)
		}
	}
	if d := int32(s.Ack - p.acked); d > 0 && int32(s.Ack-p.next) < window {
		if p.state == halfOpen && int32(p.acked-p.next) <= 0 && int32(s.Ack-p.next) > 0 {
			a.holdFrom(p, s.Time, c.segments)
		}
		p.acked, p.ackedAt = s.Ack, h.sent(seq)
	}
	if !a.hold && p.state == halfOpen && int32(p.acked-p.next) > 0 {
		a.settle(c, false)
	}
}

// data takes a payload whose first byte is at seq.
func (a *Assembler) data(c *Conn, h, p *half, s *Segment, seq uint32) {
	b := s.Payload
	if h.state == halfDone {
		if int32(seq-h.next) < 0 {
			a.st.Duplicate += uint64(len(b))
		} else {
			a.st.Malformed += uint64(len(b))
		}
		return
	}
	trimmed := false
	if h.state == halfOpen {
		d := int32(seq - h.next)
		if d < 0 {
			old := min(int64(-int64(d)), int64(len(b)))
			a.st.Duplicate += uint64(old)
			if old == int64(len(b)) {
				return
			}
			b, seq, trimmed = b[old:], seq+uint32(old), true
		} else if d > window {
			a.st.Malformed += uint64(len(b))
			return
		}
		if h.how != 0 { // nothing comes after a FIN
			if room := int32(h.wait.fin - seq); room < int32(len(b)) {
				room = max(room, 0)
				a.st.Malformed += uint64(len(b)) - uint64(room)
				if b = b[:room]; room == 0 {
					return
				}
			}
		}
		if len(b) == 1 && (a.hold && seq+1 == h.acked || uint32(s.Lost) != h.lost) {
			// Perhaps the garbage of a keep-alive probe (RFC 9293 section
			// 3.8.4) in the place of a byte that was lost.
			a.doubt(c, h, seq, seq+1)
		}
		if h.first() == nil && seq == h.next && h.mayPass(p, s.Ack, s.Flags&ACK != 0) {
			a.deliver(c, h, p, b, s.Ack, s.Flags, s.Time, !trimmed)
			return
		}
	}
	a.queue(c, h, b, seq, s, trimmed)
}

// mayPass says whether everything that a segment acknowledges was delivered.
func (h *half) mayPass(p *half, ack uint32, ok bool) bool {
	if !ok {
		return true
	}
	switch {
	case p.state == halfUnset || p.state == halfStarting:
		return false
	case p.state == halfDone || p.skip != nil && p.skip.rest:
		return true
	}
	d := int32(ack - p.next)
	return d <= 0 || d == 1 && p.how == howFIN && p.next == p.wait.fin || d >= window
}

// deliver hands bytes at h.next to the handler.
func (a *Assembler) deliver(c *Conn, h, p *half, b []byte, ack uint32, flags Flags, now int64, start bool) {
	if int32(h.acked-h.next) > 0 {
		a.holdFrom(h, c.seen, c.segments) // b may have come long before
	}
	a.st.Delivered += uint64(len(b))
	off := h.off
	h.goTo(h.next + uint32(len(b)))
	h.off += uint64(len(b))
	d, ok := c.dir(h)
	if !ok {
		switch a.factory.Guess(b) {
		case ToServer:
			c.learnHalf(h)
		case ToClient:
			c.learnHalf(p)
		}
		if d, ok = c.dir(h); !ok || !start {
			c.blind = true
			a.factory.Blind(len(b))
			return
		}
	}
	if c.handler == nil {
		c.handler = a.factory.Open(c)
	}
	at := &a.at
	*at = At{Offset: off, Start: start, Time: now, Urgent: flags&URG != 0}
	if flags&ACK != 0 && p.state != halfUnset {
		at.Ack, at.AckOK = p.offset(ack), true
		at.Resent = h.first() != nil && h.first().flags&ACK != 0 && int32(ack-h.first().ack) > 0
	}
	c.handler.Data(d, b, at)
}

// gap declares the bytes up to seq lost, but for those that were skipped.
func (a *Assembler) gap(c *Conn, h *half, seq uint32) {
	if h.skip != nil {
		a.skipped(c, h, seq)
		if int32(seq-h.next) <= 0 {
			return
		}
	}
	a.st.Gaps++
	a.st.GapBytes += uint64(seq - h.next)
	a.hole(c, h, seq, false)
}

// hole tells the handler of a gap.
func (a *Assembler) hole(c *Conn, h *half, seq uint32, skipped bool) {
	n := uint64(seq - h.next)
	off := h.off
	known := int32(h.acked-seq) >= 0
	h.goTo(seq)
	h.off += n
	if h.wait != nil {
		a.holdFrom(h, c.seen, c.segments)
	}
	d, ok := c.dir(h)
	if !ok {
		return
	}
	if c.handler == nil {
		c.handler = a.factory.Open(c)
	}
	a.at = At{Offset: off, Ack: c.ackedAt(h, seq), AckOK: known, Skipped: skipped, Time: c.seen}
	c.handler.Gap(d, n, &a.at)
}

// fin notes the position at which a direction ends.
func (a *Assembler) fin(c *Conn, h, p *half, s *Segment, seq uint32) {
	end := seq + uint32(len(s.Payload))
	if h.state == halfDone {
		// A reset behind the FIN refuses what the other side still sends, and
		// that side will say nothing any more. The FIN has a number of its own.
		if d := int32(end - h.next); s.Flags&RST != 0 && h.how == howFIN && (d == 0 || d == 1) {
			h.how = howRST
			a.end(c, h, p)
		}
		return
	}
	how := uint8(howFIN)
	if s.Flags&RST != 0 {
		how = howRST
		if h.state == halfOpen {
			if d := int32(end - h.next); d < 0 || d > resetWindow {
				return
			}
		}
	} else if h.state == halfOpen && int32(end-h.next) < 0 {
		return
	}
	if h.how == howFIN && (how == howFIN || int32(end-h.wait.fin) > 1) {
		return // the first FIN counts; a reset behind it only repeats it
	}
	if h.first() == nil {
		a.holdFrom(h, s.Time, c.segments)
	}
	h.how, h.wait.fin = how, end
}

// settle delivers what can be delivered and decides the holes that can be
// decided; with force all of them. A hole is decided only when nothing else can
// go on, so that both directions have come as far as they were seen.
func (a *Assembler) settle(c *Conn, force bool) {
	for force || !c.half[0].still() || !c.half[1].still() {
		if a.advance(c, 0, force) || c.state != connClosed && a.advance(c, 1, force) {
			continue
		}
		if c.state == connClosed {
			return
		}
		first := max(int(c.client), 0)
		if !a.decide(c, first, force) && !a.decide(c, 1-first, force) && !(force && a.forceOne(c)) {
			break
		}
	}
	a.spare(&c.half[0])
	a.spare(&c.half[1])
}

// advance delivers what stands in order in one direction and ends it where its
// end was reached. It says whether anything moved.
func (a *Assembler) advance(c *Conn, i int, force bool) (moved bool) {
	h, p := &c.half[i], &c.half[1-i]
	if h.state == halfStarting && (force || a.waited(c, h)) {
		h.state = halfOpen
		h.isn = h.next
		a.holdFrom(h, c.seen, c.segments)
		moved = true
	}
	if h.state != halfOpen {
		return moved
	}
	if h.skip != nil {
		switch {
		case h.first() != nil:
			moved = a.skipped(c, h, h.first().seq) || moved
		case h.how != 0:
			moved = a.skipped(c, h, h.wait.fin) || moved
		}
	}
	for n := h.first(); n != nil && int32(n.seq-h.next) <= 0 && h.mayPass(p, n.ack, n.flags&ACK != 0); n = h.first() {
		a.pop(c, h, p)
		moved = true
	}
	if h.how != 0 && h.next == h.wait.fin {
		a.end(c, h, p)
		return c.state != connClosed
	}
	return moved
}

// decide declares the next hole of one direction lost, if its end was
// acknowledged and the hold is over.
func (a *Assembler) decide(c *Conn, i int, force bool) bool {
	h, p := &c.half[i], &c.half[1-i]
	if h.state != halfOpen || int32(h.acked-h.next) <= 0 {
		return false
	}
	to := h.acked
	if n := p.first(); a.hold && !force && n != nil && n.flags&ACK != 0 && int32(n.ack-h.next) > 0 {
		// What was acknowledged since then may still come.
		if to = n.ack; !a.held(c, n.time, n.segment) {
			return false
		}
	} else if a.hold && !force && !a.waited(c, h) {
		return false
	}
	if int32(to-h.acked) > 0 {
		to = h.acked
	}
	if n := h.first(); n != nil && int32(n.seq-to) < 0 {
		to = n.seq
	}
	if h.how != 0 && int32(h.wait.fin-to) < 0 {
		to = h.wait.fin
	}
	if int32(to-h.next) <= 0 {
		return false
	}
	a.gap(c, h, to)
	return true
}

// forceOne decides one hole that nobody acknowledged.
func (a *Assembler) forceOne(c *Conn) bool {
	for i := range c.half {
		h, p := &c.half[i], &c.half[1-i]
		if h.state != halfOpen {
			continue
		}
		if a.forceQueue(c, h, p) {
			return true
		}
		if h.how != 0 && int32(h.wait.fin-h.next) > 0 {
			a.gap(c, h, h.wait.fin)
			return true
		}
	}
	return false
}

// forceQueue delivers the first queued segment, with the hole before it.
func (a *Assembler) forceQueue(c *Conn, h, p *half) bool {
	n := h.first()
	if n == nil {
		return false
	}
	if int32(n.seq-h.next) > 0 {
		a.gap(c, h, n.seq)
	} else {
		a.pop(c, h, p)
	}
	return true
}

// waited says whether the hold of h is over.
func (a *Assembler) waited(c *Conn, h *half) bool {
	w := a.waitOf(h)
	return a.held(c, w.since, w.sinceSeg)
}

// held says whether a hold is over that began at that time, with that segment of c.
func (a *Assembler) held(c *Conn, since int64, segment uint32) bool {
	dt := c.seen - since
	return dt > a.holdTime && c.segments-segment > a.holdSegs || dt > giveUp
}

// end finishes direction h, which has reached its FIN or RST.
func (a *Assembler) end(c *Conn, h, p *half) {
	reset := h.how == howRST
	a.endHalf(c, h, reset)
	if reset && p.state != halfDone {
		// Both directions end. In a file the other may still show bytes that
		// were sent before; the rounds of Tick come back to it.
		if a.hold && p.state != halfUnset && p.how == 0 && !c.forced {
			c.reset = true
			return
		}
		for p.state == halfOpen && a.forceQueue(c, p, h) {
		}
		a.endHalf(c, p, true)
	}
	if h.state == halfDone && p.state == halfDone {
		a.close(c, CloseDone)
	}
}

func (a *Assembler) endHalf(c *Conn, h *half, reset bool) {
	if h.state == halfDone {
		return
	}
	a.dropQueue(h)
	h.state = halfDone
	d, ok := c.dir(h)
	if !ok || c.handler == nil {
		return
	}
	how := EndFIN
	if reset {
		how = EndRST
	}
	c.handler.End(d, how)
}

// late takes a segment of a closed connection.
func (a *Assembler) late(h *half, s *Segment) {
	if n := uint64(len(s.Payload)); n > 0 {
		if int32(s.Seq-h.next) < 0 {
			a.st.Duplicate += n
		} else {
			a.st.Malformed += n
		}
	}
}

// Tick lets time pass: at most 1,000 connections are looked at, in rounds.
// Times are nanoseconds since the Unix epoch.
func (a *Assembler) Tick(now int64) {
	if now > a.now {
		a.now = now
	}
	for n := min(visits, len(a.order)); n > 0; n-- {
		if len(a.order) == 0 {
			return
		}
		if a.cursor >= len(a.order) {
			a.cursor = 0
		}
		c := a.order[a.cursor]
		quiet := a.now - c.seen
		switch {
		case c.state == connClosed:
			if quiet > a.linger {
				a.forget(c)
				continue // another took its place
			}
		case quiet > a.idle && a.passes(c):
			c.seen = a.now
		case quiet > a.idle:
			a.settle(c, true)
			if c.state != connClosed {
				a.close(c, CloseIdle)
			}
			a.forget(c)
			continue
		default:
			taken := a.budget.used
			if a.visit(c, quiet); c.state == connOpen {
				c.mem += int32(a.budget.used - taken)
			}
		}
		a.cursor++
	}
}

// visit decides what has waited long enough in an open connection.
func (a *Assembler) visit(c *Conn, quiet int64) {
	if c.reset && quiet > giveUp {
		a.finish(c, CloseDone)
		return
	}
	for i := range c.half {
		h := &c.half[i]
		waits := h.state == halfStarting || h.state == halfOpen && (h.first() != nil || h.how != 0)
		if !waits {
			continue
		}
		if a.hold && a.now-h.wait.since > giveUp && quiet > giveUp {
			seen := c.seen
			c.seen = a.now
			a.settle(c, false)
			c.seen = seen
			if c.state == connClosed {
				return
			}
		}
		if !a.hold && h.state == halfOpen {
			if h.first() != nil && a.now-h.wait.since > askAfter {
				a.ours(h)
			}
			if h.how != 0 && h.first() == nil && a.now-h.wait.since > giveUp {
				// The bytes before the FIN were lost and nobody will say so.
				if int32(h.wait.fin-h.next) > 0 {
					a.gap(c, h, h.wait.fin)
				}
				a.settle(c, false)
				if c.state == connClosed {
					return
				}
			}
		}
	}
	if quiet > restAfter {
		if r, ok := c.handler.(Rester); ok {
			c.handler = r.Rest()
		}
	}
}

// finish settles everything that is left of c and closes it.
func (a *Assembler) finish(c *Conn, why Close) {
	c.forced = true
	a.settle(c, true)
	if c.state != connClosed {
		if c.reset {
			for i := range c.half {
				a.endHalf(c, &c.half[i], true)
			}
			why = CloseDone
		}
		a.close(c, why)
	}
}

// Close settles what can be settled and closes every connection: the capture
// has ended. why is CloseStopped, or CloseDone for a file that was read to its
// end.
func (a *Assembler) Close(why Close) {
	for len(a.order) > 0 {
		c := a.order[len(a.order)-1]
		if c.state != connClosed {
			a.finish(c, why)
		}
		a.forget(c)
	}
}
