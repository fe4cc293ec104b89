package http1

import (
	"bytes"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

type sideState uint8

const (
	// sideIdle: between messages.
	sideIdle sideState = iota
	sideHead
	sideBody
	// sideProxy: before the first request, where a PROXY header may be.
	sideProxy
	// sideSeek: out of sync; looking for a segment that begins a message.
	sideSeek
	// sideWait: behind a CONNECT, until its answer says what follows.
	sideWait
	// sideTunnel: HTTP has ended.
	sideTunnel
	// sideDead: nothing of this direction is used any more.
	sideDead
	// sideEnd: FIN or RST.
	sideEnd
)

// maxOutstanding bounds the requests of a connection that wait for an answer.
const maxOutstanding = 1000

// side is one direction's parser.
type side struct {
	state sideState
	buf   []byte // of a head that is not whole yet
	body  body
}

// conn follows one connection. Between exchanges that is all there is of it, so
// that idle connections cost little.
type conn struct {
	*work // nil between exchanges
	p     *Parser
	tcp   *reassembly.Conn

	// prevAck is the highest position that the client had acknowledged before
	// the bytes at hand.
	prevAck   uint64
	clientOff uint64 // delivered so far
	serverOff uint64
	// lastEnd and lastHead are the ends of the last final answer and of its
	// head, for proving where a request begins.
	lastEnd, lastHead uint64
	// lastInterim is the end of the last interim answer's head, when interim.
	lastInterim uint64
	requests    uint32 // seen so far
	ahead       *ahead // nil before the first long answer

	// clientSync and serverSync: the place in the stream is certain.
	clientSync, serverSync bool
	pipelined              bool
	clientSeen, serverSeen bool
	clientJoined           bool
	serverJoined           bool
	counted                bool // an unparsable connection is counted once
	prevAckOK              bool
	boundaryOK             bool
	headOK                 bool // the method is not known: the head may be all
	endOK                  bool // with boundaryOK: the answer began at a place that was certain
	adrift                 bool // serverSync ended while an answer was to come
	sought                 bool // with unconfirmed: the server's place is what a request says
	interim                bool
}

// work is what a connection needs while something is under way.
type work struct {
	req  side
	resp side

	// Requests that wait, in order.
	first, last *pending
	n           int

	// cur is the request that the client's parser is in.
	cur *pending
	// unconfirmed: the client's direction was found again, but a request
	// before it may still wait for its answer. proven is the exchange that
	// waits for what tells.
	unconfirmed bool
	proven      *pending
	held        uint64 // bytes behind a CONNECT

	// The answer at hand: where and when it began, its request, if known.
	answer     *pending
	answering  bool // interim answers were seen for answer
	respStart  uint64
	respAck    uint64
	respAckOK  bool
	respExact  bool
	respSync   bool // its place was certain
	respFirst  int64
	respLast   int64
	respLost   bool // a hole inside the answer at hand
	respOwner  bool // the answer at hand belongs to answer
	respOrphan bool
	// strays are answers that may belong to requests that wait, or that were
	// given up unanswered. No exchange is counted for one as long as such a
	// request stands for it. strayAck is what the last answer acknowledged.
	strays   int
	strayAck uint64

	proxy    *proxyHeader // in sideProxy
	overlaps [2]struct{ from, to uint64 }
	// http2 follows the connection since it turned to HTTP/2.
	http2 reassembly.Handler
	free  *work
}

// connCost, workCost, pendingCost and keepCost are what a conn, a work, a pending
// and each message of an exchange that is kept take from the budget, in bytes. A
// connection that needs them gets them; where that goes over the limit, the
// assembler evicts.
const (
	connCost    = 112
	workCost    = 352
	pendingCost = 384
	keepCost    = 768
)

// wake makes sure that c has its work.
func (c *conn) wake() {
	if c.work != nil {
		return
	}
	p := c.p
	p.cfg.Budget.Must(workCost)
	if w := p.works; w != nil {
		p.works, p.nWorks = w.free, p.nWorks-1
		w.free = nil
		c.work = w
		return
	}
	c.work = new(work)
}

// rest gives the work back when nothing is under way.
func (c *conn) rest() {
	w := c.work
	if w.http2 != nil || w.req.state != sideIdle || w.resp.state != sideIdle || w.first != nil || w.proven != nil || w.answer != nil || w.unconfirmed ||
		w.answering || w.held > 0 || w.overlaps[reassembly.Client].to > c.clientOff || w.overlaps[reassembly.Server].to > c.serverOff {
		return
	}
	c.endWork()
}

func (c *conn) endWork() {
	p, w := c.p, c.work
	c.work = nil
	p.cfg.Budget.Give(workCost)
	if p.nWorks < maxFree {
		*w = work{free: p.works}
		p.works, p.nWorks = w, p.nWorks+1
	}
}

// Data implements reassembly.Handler.
func (c *conn) Data(d reassembly.Dir, b []byte, at *reassembly.At) {
	c.wake()
	if c.http2 != nil {
		c.http2.Data(d, b, at)
		return
	}
	if d == reassembly.Client {
		c.clientData(b, at)
		c.clientOff = at.Offset + uint64(len(b))
	} else {
		c.serverData(b, at)
		c.serverOff = at.Offset + uint64(len(b))
	}
	c.rest()
}

// Doubt implements reassembly.Handler.
func (c *conn) Doubt(d reassembly.Dir, from, to uint64) {
	c.wake()
	if c.http2 != nil {
		c.http2.Doubt(d, from, to)
		return
	}
	o := &c.overlaps[d]
	if o.to == 0 || from < o.from {
		o.from = from
	}
	o.to = max(o.to, to)
}

// End implements reassembly.Handler.
func (c *conn) End(d reassembly.Dir, how reassembly.End) {
	c.wake()
	if c.http2 != nil {
		c.http2.End(d, how)
		return
	}
	if d == reassembly.Client {
		if c.proxy != nil {
			c.endProxy()
		}
		c.req.state = sideEnd
		return
	}
	s := &c.resp
	if s.state == sideBody && s.body.kind == exchange.FramingClose && how == reassembly.EndFIN {
		c.endAnswer(c.serverOff, c.respLast)
	}
	s.state = sideEnd
}

// Close implements reassembly.Handler.
func (c *conn) Close(why reassembly.Close) {
	p := c.p
	c.wake()
	if c.http2 != nil {
		c.http2.Close(why)
	}
	if c.proxy != nil {
		c.endProxy()
	}
	if c.proven != nil {
		// When nothing more can come, nothing else was asked for. It may have been, of a
		// server that ends before it has answered all; the first request of a
		// connection that was joined late is believed all the same.
		c.confirm(why != reassembly.CloseStopped && why != reassembly.CloseEvicted && !c.proven.holed && (!c.proven.sought || c.proven.firstSeen))
	}
	result, reason := exchange.ResultNoResponse, exchange.ReasonNone
	switch why {
	case reassembly.CloseStopped:
		result = exchange.ResultStopped
	case reassembly.CloseEvicted:
		result = exchange.ResultEvicted
	}
	if c.answering || c.answer != nil {
		reason = exchange.ReasonCut
	}
	for r := c.first; r != nil; {
		next := r.next
		why := reason
		if !r.done {
			why = exchange.ReasonCut
		}
		if r.events && why == exchange.ReasonCut {
			why = exchange.ReasonEventStream
		}
		if result != exchange.ResultNoResponse {
			why = exchange.ReasonNone
		}
		switch {
		case r.fail != 0:
			p.lose(r, r.fail, r.failWhy)
		case r.tentative && result == exchange.ResultNoResponse:
			p.lose(r, exchange.ResultGap, exchange.ReasonUnproven)
		case (r.spoiled || c.respLost && r == c.answer) && result == exchange.ResultNoResponse:
			p.lose(r, exchange.ResultGap, exchange.ReasonNone)
		default:
			p.lose(r, result, why)
		}
		reason = exchange.ReasonNone
		p.freePending(r)
		r = next
	}
	p.st.Unparsable += c.unhold()
	c.retire()
}

// retire ends c: what it took from the budget, and c itself.
func (c *conn) retire() {
	p := c.p
	c.release(&c.req)
	c.release(&c.resp)
	c.endWork()
	p.cfg.Budget.Give(connCost)
	if c.ahead != nil {
		p.cfg.Budget.Give(aheadCost)
	}
	if len(p.conns) < maxFree {
		*c = conn{}
		p.conns = append(p.conns, c)
	}
}

func (c *conn) release(s *side) {
	if s.buf != nil {
		p := c.p
		p.cfg.Budget.Give(int64(cap(s.buf)))
		if cap(s.buf) == firstBuf && len(p.bufs) < maxBufs {
			p.bufs = append(p.bufs, s.buf[:0])
		}
		s.buf = nil
	}
}

// firstBuf is the size of the first buffer of a head that comes in pieces, in
// bytes; maxBufs of them are kept for the next.
const (
	firstBuf = 1024
	maxBufs  = 64
)

// grow appends to a head that is not whole and says whether the budget has
// room.
func (c *conn) grow(s *side, b []byte) bool {
	old := cap(s.buf)
	if len(s.buf)+len(b) > old {
		n := max(2*old, len(s.buf)+len(b), firstBuf)
		p := c.p
		if !p.cfg.Budget.Take(int64(n - old)) {
			return false
		}
		if k := len(p.bufs); k > 0 && n == firstBuf {
			s.buf, p.bufs = append(p.bufs[k-1], b...), p.bufs[:k-1]
			return true
		}
		s.buf = append(make([]byte, 0, n), s.buf...)
		if cap(s.buf) != n {
			c.p.cfg.Budget.Take(int64(cap(s.buf) - n))
		}
	}
	s.buf = append(s.buf, b...)
	return true
}

// drop removes the first request with the given result.
func (c *conn) dropFirst(r exchange.Result, why exchange.Reason) {
	x := c.first
	if x.fail != 0 {
		r, why = x.fail, x.failWhy
	}
	c.unlinkFirst()
	c.strays = max(c.strays-1, 0)
	c.p.lose(x, r, why)
	c.p.freePending(x)
}

func (c *conn) unlinkFirst() {
	x := c.first
	c.first = x.next
	if c.first == nil {
		c.last = nil
	}
	c.n--
	if c.cur == x {
		c.cur, c.req.body.keep = nil, nil
	}
	if c.answer == x {
		c.answer, c.respOwner, c.resp.body.keep = nil, false, nil
	}
}

// unparsable ends the use of the connection and counts it once.
func (c *conn) unparsable(why exchange.Reason) {
	if !c.counted {
		c.counted = true
		c.p.start()
		c.p.lose(nil, exchange.ResultUnparsable, why)
	}
	c.kill()
}

func (c *conn) kill() {
	for _, s := range []*side{&c.req, &c.resp} {
		if s.state != sideEnd {
			s.state = sideDead
		}
		c.release(s)
	}
	c.skipRest()
}

// ---- the client's direction

func (c *conn) clientData(b []byte, at *reassembly.At) {
	c.joinClient()
	if at.Offset == 0 && c.clientSync && c.req.state == sideIdle && mayBeProxy(b) {
		c.proxy = &proxyHeader{at: *at}
		c.req.state = sideProxy
	}
	c.readClient(b, at)
}

func (c *conn) readClient(b []byte, at *reassembly.At) {
	off := at.Offset
	p := c.p
	if c.proven != nil && c.first == nil && c.proves(at) {
		c.confirm(true)
	}
	for first := true; len(b) > 0; first = false {
		s := &c.req
		// A segment that begins like a request while the place is unsure.
		if first && at.Start && !c.clientSync && (s.state == sideSeek || s.state == sideIdle || c.cur != nil && c.cur.tentative) && c.mayBegin(b, at) {
			c.abandon()
			s.state = sideIdle
		} else if !c.clientSync && s.state == sideIdle && c.cur == nil && c.last == nil {
			s.state = sideSeek
		}
		switch s.state {
		case sideIdle:
			if b[0] == '\r' || b[0] == '\n' { // RFC 9112 section 2.2
				b, off = b[1:], off+1
				p.st.Parsed++
				continue
			}
			if !c.beginRequest(b, at, off) {
				continue
			}
		case sideHead:
			n, whole := c.requestHead(b, off)
			p.st.Parsed += uint64(n)
			if whole && c.cur != nil {
				c.cur.last = at.Time
			}
			if at.Urgent && c.cur != nil && c.cur.doubt == 0 {
				c.cur.doubt = exchange.DoubtUrgent
			}
			b, off = b[n:], off+uint64(n)
			if c.http2 != nil {
				c.handOn(reassembly.Client, b, off, at)
				return
			}
			if s.state == sideHead {
				c.note(at)
				return
			}
			if whole && c.cur != nil && c.cur.done {
				c.finishRequest()
			}
		case sideBody:
			r := c.cur
			n, done, ok := s.body.feed(b)
			p.st.Parsed += uint64(n)
			b, off = b[n:], off+uint64(n)
			r.bodySeen = true
			r.last = at.Time
			if at.Urgent {
				r.doubt = exchange.DoubtUrgent
			}
			switch {
			case !ok:
				c.failRequest(exchange.ResultUnparsable, exchange.ReasonSyntax)
			case done:
				r.end, r.done = off, true
				if s.body.doubt && r.doubt == 0 {
					r.doubt = exchange.DoubtChunk
				}
				c.finishRequest()
			}
		case sideProxy:
			n := c.proxyData(b)
			b, off = b[n:], off+uint64(n)
		case sideSeek:
			if first && c.joinedHTTP2(b, at) {
				c.handOn(reassembly.Client, b, off, at)
				return
			}
			p.st.AfterGap += uint64(len(b))
			c.clientSeen = true
			c.note(at)
			return
		case sideWait:
			c.held += uint64(len(b))
			p.st.Held += uint64(len(b))
			c.note(at)
			return
		case sideTunnel:
			p.st.Upgraded += uint64(len(b))
			return
		default:
			p.st.Unparsable += uint64(len(b))
			return
		}
	}
	c.note(at)
	if c.req.state == sideBody && c.clientSync {
		c.skip(reassembly.Client, &c.req.body, c.cur)
	}
}

// skip says how much of the body at hand need not be captured: it is only framed, and
// its length is known. The segment with its last byte is to come, because it
// tells that all has passed.
func (c *conn) skip(d reassembly.Dir, m *body, r *pending) {
	if s := c.p.cfg.Skipper; s != nil && m.kind == exchange.FramingLength && m.keep == nil && m.left > 1 && r != nil && !r.tentative && !c.unconfirmed {
		s.Skip(c.tcp, d, m.left-1)
	}
}

// skipRest says that nothing of the connection can be used any more.
func (c *conn) skipRest() {
	if s := c.p.cfg.Skipper; s != nil {
		s.SkipRest(c.tcp)
	}
}

// joinClient and joinServer find out, at the first bytes of a direction,
// whether it is known from its beginning.
func (c *conn) joinClient() {
	if !c.clientJoined {
		c.clientJoined = true
		c.clientSync = c.tcp.FromStart(reassembly.Client)
	}
}

func (c *conn) joinServer() {
	if !c.serverJoined {
		c.serverJoined = true
		c.serverSync = c.tcp.FromStart(reassembly.Server)
		c.adrift = !c.serverSync
	}
}

// note remembers what the client had acknowledged.
func (c *conn) note(at *reassembly.At) {
	c.clientSeen = true
	if at.AckOK && (!c.prevAckOK || at.Ack > c.prevAck) {
		c.prevAck, c.prevAckOK = at.Ack, true
	}
}

// mayBegin says whether the bytes at a segment's start can be taken for the
// beginning of a request while the client's direction is out of sync.
func (c *conn) mayBegin(b []byte, at *reassembly.At) bool {
	if !at.AckExact() || !wholeRequestLine(b) {
		return false
	}
	if !c.clientSeen {
		return true
	}
	return c.prevAckOK && at.Ack > c.prevAck && c.endsAnswer(at.Ack)
}

// endsAnswer says whether an answer ended at that position of the server's
// stream.
func (c *conn) endsAnswer(at uint64) bool {
	return c.boundaryOK && at == c.lastEnd || c.headOK && at == c.lastHead
}

// abandon gives up the request at hand, which was not proven.
func (c *conn) abandon() {
	c.release(&c.req)
	if c.cur != nil {
		c.cur.done = true
		c.cur.fail, c.cur.failWhy = exchange.ResultGap, exchange.ReasonUnproven
		c.cur = nil
	}
}

// beginRequest starts a request at b, or says what the bytes are instead.
func (c *conn) beginRequest(b []byte, at *reassembly.At, off uint64) bool {
	may, _ := maybeRequest(b)
	if !may {
		if c.requests == 0 && c.clientSync {
			switch {
			case b[0] == 0x16 && (len(b) < 2 || b[1] == 3):
				c.unparsable(exchange.ReasonTLS)
			default:
				c.unparsable(exchange.ReasonProtocol)
			}
			return false
		}
		c.loseClient()
		return false
	}
	if c.n >= maxOutstanding {
		c.p.start()
		c.p.lose(nil, exchange.ResultUnparsable, exchange.ReasonPipeline)
		c.kill()
		return false
	}
	p := c.p
	c.confirm(c.proves(at))
	r := p.newPending()
	r.start, r.first = off, at.Time
	r.ack, r.ackOK = at.Ack, at.AckExact()
	r.reused = c.requests > 0
	r.tentative = !c.clientSync
	if r.tentative || !c.serverSync {
		r.boundary = r.ackOK && c.endsAnswer(at.Ack) && c.prevAckOK && at.Ack > c.prevAck
		r.placed = r.boundary && c.endOK && at.Ack == c.lastEnd
	}
	if r.tentative {
		r.firstSeen = !c.clientSeen && c.requests == 0 && !(c.interim && at.Ack == c.lastInterim)
		if r.boundary && c.serverSync && c.first == nil {
			// It follows the end of an answer: a request begins here.
			r.tentative = false
			c.sought = c.unconfirmed && c.sought
			c.clientSync, c.unconfirmed = true, true
			p.st.Resyncs++
		}
	}
	if c.last != nil {
		// Sent before the answer to the one before was whole: pipelining.
		l := c.last
		if !l.respDone && (l.ackOK && r.ackOK && r.ack == l.ack || c.serverSync && c.clientSync) {
			c.pipelined = true
		}
		c.last.next = r
	} else {
		c.first = r
	}
	c.last = r
	c.n++
	c.requests++
	c.cur = r
	c.req.state = sideHead
	p.start()
	if p.refused {
		p.late(r)
	}
	return true
}

// proves says whether the client sent what is at at when it had received the last
// answer, or that of the exchange that waits for this, and nothing behind it.
func (c *conn) proves(at *reassembly.At) bool {
	if !at.AckExact() {
		return false
	}
	if r := c.proven; r != nil {
		return at.Ack == r.answerEnd
	}
	return c.boundaryOK && at.Ack == c.lastEnd
}

// confirm decides whether the first exchange after the client's direction was
// found again is paired right: yes when the client sent its next request after
// this very answer, no when another answer came that nobody had asked for.
func (c *conn) confirm(yes bool) {
	if !c.unconfirmed {
		return
	}
	if c.answer != nil || c.first != nil {
		yes = false // pipelining, and nobody knows since when
	}
	r := c.proven
	c.proven = nil
	switch {
	case yes && r != nil:
		c.unconfirmed = false
		c.p.complete(c, r)
	case !yes:
		c.unprove()
		if r != nil {
			c.p.lose(r, exchange.ResultGap, exchange.ReasonUnproven)
		}
		c.pipelined = c.pipelined || c.serverSync && c.first != nil
		c.drift()
	}
	if r != nil {
		c.p.freePending(r)
	}
}

// unprove fails all requests that wait for their answers: which answer is whose is
// not known.
func (c *conn) unprove() {
	for x := c.first; x != nil; x = x.next {
		if x.fail == 0 {
			x.fail, x.failWhy = exchange.ResultGap, exchange.ReasonUnproven
		}
	}
}

// drift ends the sync of the server's direction while an answer is to come.
func (c *conn) drift() { c.serverSync, c.adrift = false, true }

// requestHead takes bytes of a head; whole when it ended.
func (c *conn) requestHead(b []byte, off uint64) (n int, whole bool) {
	s := &c.req
	head := b
	had := len(s.buf)
	if had > 0 {
		if !c.grow(s, b[:min(len(b), MaxHead+1-had)]) {
			c.failRequest(exchange.ResultEvicted, exchange.ReasonNone)
			return len(b), false
		}
		head = s.buf
	}
	var f framingFields
	c.p.fields = c.p.fields[:0]
	first, end := readHead(head, had, &f, &c.p.fields)
	if end < 0 || end > MaxHead {
		if len(head) > MaxHead {
			c.failRequest(exchange.ResultTooLarge, exchange.ReasonHead)
			return len(b), false
		}
		if had == 0 {
			if may, _ := maybeRequest(b); !may {
				c.failRequest(exchange.ResultUnparsable, exchange.ReasonSyntax)
				return 0, false
			}
			if !c.grow(s, b) {
				c.failRequest(exchange.ResultEvicted, exchange.ReasonNone)
			}
		}
		return len(b), false
	}
	n = end - had
	c.parseRequest(first, head[:end], &f, off+uint64(n))
	c.release(s)
	return n, true
}

// parseRequest takes a whole head, whose end is the position given; its
// first line and what its fields say were read, and the fields are in p.fields.
func (c *conn) parseRequest(first, head []byte, f *framingFields, end uint64) {
	p, r := c.p, c.cur
	method, target, minor, ok := requestLine(first)
	if !ok {
		if string(head) == preface {
			c.dropCur()
			lost := c.resp.state == sideSeek
			if c.requests == 1 && c.clientSync && (lost || !c.serverSeen) && p.cfg.HTTP2 != nil {
				p.unstart()
				c.turn(&exchange.Handover{Preface: len(head), ServerLost: lost})
				return
			}
			p.lose(nil, exchange.ResultUnparsable, exchange.ReasonHTTP2)
			c.counted = true
			c.kill()
			return
		}
		c.failRequest(exchange.ResultUnparsable, exchange.ReasonSyntax)
		return
	}
	if f.fields > maxFields {
		c.failRequest(exchange.ResultTooLarge, exchange.ReasonHead)
		return
	}
	r.headDone = true
	r.minor = minor
	r.expect = f.expect && minor > 0
	if p.cfg.HTTP2 != nil && f.asksH2() {
		r.asksH2, r.settings = true, string(f.settings)
	}
	switch {
	case string(method) == "HEAD":
		r.method = methodHead
	case string(method) == "CONNECT":
		r.method = methodConnect
	}
	r.doubt = requestDoubt(method, target, minor, f)
	kind, length, ok := requestFraming(f)
	c.decide(method, target)
	if ok && r.decision.Want > exchange.WantFrame {
		c.keepRequest(first, method, target, head, kind, length, f)
	}
	if !ok {
		c.failRequest(exchange.ResultUnparsable, exchange.ReasonFraming)
		return
	}
	if c.answer == r && r.method != methodOther {
		r.spoiled = true // its answer was read without knowing the method
	}
	c.req.body.begin(kind, length, r.reqKeep)
	c.req.state = sideBody
	if kind == exchange.FramingNone {
		r.done, r.end = true, end
	}
}

// dropLast gives the list without its last element.
func dropLast(first, last *pending) *pending {
	if first == last {
		return nil
	}
	for x := first; x != nil; x = x.next {
		if x.next == last {
			x.next = nil
		}
	}
	return first
}

func requestDoubt(method, target []byte, minor byte, f *framingFields) exchange.Doubt {
	switch {
	case f.te && f.cl:
		return exchange.DoubtTEAndCL
	case f.te && minor == 0:
		return exchange.DoubtTEIn10
	case f.te && !f.teExact:
		return exchange.DoubtTE
	case f.clBad:
		return exchange.DoubtCL
	case f.hosts > 1 || f.hosts == 0 && minor > 0:
		return exchange.DoubtHost
	case string(method) == "CONNECT":
		return exchange.DoubtConnect
	case f.upgrade != nil:
		if asksFor(f.upgrade, "websocket") {
			return exchange.DoubtWebSocket
		}
		return exchange.DoubtUpgrade
	case target[0] != '/' && string(target) != "*":
		return exchange.DoubtTarget
	case bytes.IndexByte(target, ' ') >= 0:
		return exchange.DoubtTarget
	}
	return f.doubt
}

// asksFor says whether an Upgrade field names a protocol.
func asksFor(upgrade []byte, protocol string) (yes bool) {
	eachToken(upgrade, func(t []byte) { yes = yes || exchange.EqualFoldToken(t, protocol) })
	return yes
}

// requestFraming is RFC 9112 section 6.3 for requests.
func requestFraming(f *framingFields) (kind exchange.Framing, n uint64, ok bool) {
	switch {
	case f.te && f.chunked:
		return exchange.FramingChunked, 0, true
	case f.te, f.clBad:
		return 0, 0, false
	case f.cl && f.length > 0:
		return exchange.FramingLength, f.length, true
	case f.cl:
		return exchange.FramingNone, 0, true
	}
	return exchange.FramingNone, 0, true
}

// decide asks the keeper.
func (c *conn) decide(method, target []byte) {
	p, r := c.p, c.cur
	domain := c.tcp.Flow(&p.flow)
	if p.cfg.Domain != nil {
		p.flow.Domain = p.cfg.Domain(domain)
	}
	h := &p.head
	h.Flow, h.ISN, h.Offset, h.Time = &p.flow, c.tcp.ISN(), r.start, r.first
	h.Method, h.Target, h.Fields, h.Doubt = method, target, p.fields, r.doubt
	r.decision = p.cfg.Keeper.Keep(h)
	r.asked = true
	if r.decision.Want > exchange.WantFrame {
		r.flow = p.flow
	}
}

func (c *conn) keepRequest(first, method, target, head []byte, kind exchange.Framing, length uint64, f *framingFields) {
	p, r := c.p, c.cur
	proto := "HTTP/1.1"
	if r.minor == 0 {
		proto = "HTTP/1.0"
	}
	r.kept = new(kept)
	q, k := &r.kept.req, &r.kept.reqKeep
	r.req, r.reqKeep = q, k
	r.must(p.cfg.Budget, keepCost)
	k.max = p.cfg.MaxBody
	text := ""
	if r.decision.Want == exchange.WantWhole {
		if r.doubt == exchange.DoubtNone && !strict(first, head, p.fields) {
			r.doubt = exchange.DoubtSyntax
		}
		if r.take(p.cfg.Budget, int64(2*len(head))) {
			k.budget, k.of = p.cfg.Budget, r
			k.keepWire, k.keep = true, kind == exchange.FramingChunked
			q.Head, text, k.wire = k.text(head, kind, length)
			all := make(exchange.Header, 0, len(p.fields)+p.answerFields)
			if q.Header = all; f.doubt == exchange.DoubtNone {
				q.Header = headerOf(all, p.fields, head, text)
			} else {
				at := fieldLines(head)
				q.Header = header(all, head[at:], text[at:])
			}
			n := min(len(q.Header), cap(all))
			r.spare = all[n:n]
		} else {
			k.over = true
		}
	}
	q.Method, q.Target, q.Host = part(head, text, method), part(head, text, target), part(head, text, f.host)
	q.Proto, q.Framing, q.FirstByte = proto, kind, r.first
}

func (r *pending) take(b *reassembly.Budget, n int64) bool {
	if !b.Take(n) {
		return false
	}
	r.taken += n
	return true
}

func (r *pending) must(b *reassembly.Budget, n int64) {
	b.Must(n)
	r.taken += n
}

// finishRequest is called when cur is whole.
func (c *conn) finishRequest() {
	r := c.cur
	c.cur = nil
	c.req.state = sideIdle
	if o := &c.overlaps[reassembly.Client]; o.to > r.start && o.from < r.end && r.doubt == 0 {
		r.doubt = exchange.DoubtOverlap
	}
	if k := r.reqKeep; k != nil {
		if k.over {
			r.fail, r.failWhy = exchange.ResultTooLarge, exchange.ReasonBody
		}
		if r.req != nil && r.req.Head != nil {
			if k.keepWire && !k.keep {
				k.buf, k.keep = k.wire, true
			}
			r.req.Wire = k.wire
			if k.tail != nil {
				r.req.Trailer = header(nil, k.tail, string(k.tail))
			}
		}
		r.req.Body = k.result(c.req.body.size)
		r.req.LastByte = r.last
	}
	if r.method == methodConnect {
		c.req.state = sideWait
	}
	if r.respDone {
		// What goes on behind an answer that came before its request's end is no proof:
		// the request itself does.
		r.spoiled = r.spoiled || r.sought
		c.settle(r)
	}
}

// failRequest gives up the request at hand and the place in the stream.
func (c *conn) failRequest(res exchange.Result, why exchange.Reason) {
	r := c.cur
	if r != nil {
		r.fail, r.failWhy = res, why
		r.done = true
		r.end = r.start + 1
		c.cur = nil
		if r.respDone {
			c.settle(r)
		}
	}
	c.release(&c.req)
	c.loseClient()
}

// loseClient ends the sync of the client's direction.
func (c *conn) loseClient() {
	c.clientSync = false
	c.req.state = sideSeek
	c.clientSeen = true
}

// Gap implements reassembly.Handler.
func (c *conn) Gap(d reassembly.Dir, n uint64, at *reassembly.At) {
	c.wake()
	if c.http2 != nil {
		c.http2.Gap(d, n, at)
		return
	}
	if d == reassembly.Server {
		c.serverGap(n, at)
		c.serverOff = at.Offset + n
	} else {
		c.clientGap(n, at)
		c.clientOff = at.Offset + n
	}
	c.rest()
}

func (c *conn) clientGap(n uint64, at *reassembly.At) {
	c.joinClient()
	defer func() {
		c.clientSeen = true
		if at.AckOK && (!c.prevAckOK || at.Ack > c.prevAck) {
			c.prevAck, c.prevAckOK = at.Ack, true
		}
		if !at.AckOK {
			c.prevAckOK = false
		}
	}()
	s := &c.req
	switch s.state {
	case sideBody:
		r := c.cur
		r.spoiled, r.bodySeen = r.spoiled || !at.Skipped || s.body.keep != nil, true
		done, ok := s.body.skip(n)
		if ok {
			if done {
				r.end, r.done = at.Offset+n, true
				c.finishRequest()
			}
			return
		}
		c.failRequest(exchange.ResultGap, exchange.ReasonNone)
	case sideHead:
		c.failRequest(exchange.ResultGap, exchange.ReasonNone)
	case sideProxy:
		if c.proxy.skip(n) {
			return
		}
		c.endProxy()
		if c.cur != nil {
			c.failRequest(exchange.ResultGap, exchange.ReasonNone)
			return
		}
		c.loseClient()
	case sideIdle:
		c.loseClient()
	}
}

// ---- the server's direction

func (c *conn) serverData(b []byte, at *reassembly.At) {
	off := at.Offset
	p := c.p
	c.joinServer()
	for first := true; len(b) > 0; first = false {
		s := &c.resp
		if s.state == sideIdle && !c.serverSeen && !c.serverSync {
			s.state = sideSeek
		}
		c.serverSeen = true
		if first && at.Start && !c.serverSync && (s.state == sideSeek || s.state == sideBody || s.state == sideHead) {
			if may, sure := maybeResponse(b); sure && s.state == sideSeek || may && c.expected(at) != nil ||
				sure && s.state == sideBody && (c.answer == nil || !c.answer.headDone) && off == c.lastHead { // the answer to a HEAD
				c.dropAnswer()
				s.state = sideIdle
			}
		}
		switch s.state {
		case sideIdle:
			if b[0] == '\r' || b[0] == '\n' {
				b, off = b[1:], off+1
				p.st.Parsed++
				continue
			}
			if c.first == nil && !c.answering {
				c.confirm(false) // nobody asked for what comes here
			}
			if may, _ := maybeResponse(b); !may {
				if off == 0 && b[0] == 0 && c.serverSync && c.serverFirst() {
					c.handOn(reassembly.Server, b, off, at)
					return
				}
				if c.serverSync && c.requests == 0 && c.first == nil && off == 0 {
					c.unparsable(exchange.ReasonProtocol)
				} else {
					c.loseServer()
				}
				continue
			}
			c.respStart, c.respFirst, c.respLast = off, at.Time, at.Time
			c.respAck, c.respAckOK, c.respExact = at.Ack, at.AckOK, at.AckExact()
			c.respLost, c.respSync = false, c.serverSync
			s.state = sideHead
		case sideHead:
			n := c.responseHead(b, off, at)
			p.st.Parsed += uint64(n)
			b, off = b[n:], off+uint64(n)
			if c.http2 != nil {
				c.handOn(reassembly.Server, b, off, at)
				return
			}
		case sideBody:
			if r := c.answer; r != nil && c.unconfirmed && s.body.size == 0 && off == c.lastHead {
				if _, sure := maybeResponse(b); sure {
					r.spoiled = true // it may have answered a HEAD that was not seen
				}
			}
			n, done, ok := s.body.feed(b)
			p.st.Parsed += uint64(n)
			b, off = b[n:], off+uint64(n)
			c.respLast = at.Time
			switch {
			case !ok:
				c.failAnswer(exchange.ResultUnparsable, exchange.ReasonSyntax)
			case done:
				c.endAnswer(off, at.Time)
			}
		case sideSeek:
			if first && c.joinedHTTP2(b, at) {
				c.handOn(reassembly.Server, b, off, at)
				return
			}
			p.st.AfterGap += uint64(len(b))
			return
		case sideTunnel:
			p.st.Upgraded += uint64(len(b))
			return
		default:
			p.st.Unparsable += uint64(len(b))
			return
		}
	}
	if c.resp.state == sideBody && c.serverSync && c.clientSync {
		c.skip(reassembly.Server, &c.resp.body, c.answer)
	}
}

// expected is the outstanding request whose answer must stand where at is: the
// one that was sent when everything before had been received.
func (c *conn) expected(at *reassembly.At) *pending {
	return c.findExpected(at.Offset, at.Ack, at.AckExact())
}

func (c *conn) findExpected(off, ack uint64, ackOK bool) *pending {
	if !ackOK {
		return nil
	}
	for r := c.first; r != nil; r = r.next {
		if !r.ackOK || r.ack != off || ack <= r.start || r.respDone {
			continue
		}
		if r.tentative {
			if r.firstSeen && r.headDone && ack == c.clientOff && (!r.done || r.end == ack) || r.boundary {
				return r
			}
			continue
		}
		if !c.pipelined || r.boundary {
			return r
		}
	}
	return nil
}

// match finds the request of the answer that begins at respStart. ok is false
// when the answer belongs to nobody that is known.
func (c *conn) match() (r *pending, orphan bool) {
	c.joinClient()
	if c.respAckOK && c.respAck > c.clientOff+1 { // a FIN has a number too
		// Its request comes later: nobody could tell what was sent first, and
		// where the memory or the capture ended, the waiting did.
		c.drift()
		return nil, false
	}
	if c.serverSync {
		r = c.first
		for r != nil && r.respDone {
			r = r.next
		}
		if r != nil && !r.tentative {
			if c.respAckOK && c.respAck <= r.start {
				return nil, true
			}
			r.sought = r.sought || c.unconfirmed && c.sought // like one before that nothing proved
			return r, false
		}
		if r == nil && c.clientSync {
			return nil, true
		}
	}
	r = c.findExpected(c.respStart, c.respAck, c.respExact)
	if r == nil {
		return nil, false
	}
	for c.first != r {
		c.dropFirst(exchange.ResultGap, exchange.ReasonNone)
	}
	found := !c.serverSync || r.tentative
	c.serverSync = true
	if !found {
		return r, false
	}
	c.p.st.Resyncs++
	if !c.adrift && !r.tentative {
		return r, false // all was answered, and then came what is no answer
	}
	if r.tentative {
		// A hole behind it may have come before its answer.
		c.clientSync = c.req.state != sideSeek
		for x := r; x != nil; x = x.next {
			x.tentative = false
		}
	}
	// What was in the hole may have been the beginning of an answer to a request
	// before it: an interim one, a head, which pipelining goes on behind.
	c.unconfirmed, r.sought, c.sought = true, !r.placed, !r.placed
	if r.next != nil {
		c.pipelined = true
		c.unprove()
	}
	return r, false
}

// responseHead takes bytes of a head and says how many.
func (c *conn) responseHead(b []byte, off uint64, at *reassembly.At) int {
	s := &c.resp
	head := b
	had := len(s.buf)
	if had > 0 {
		if !c.grow(s, b[:min(len(b), MaxHead+1-had)]) {
			c.failAnswer(exchange.ResultEvicted, exchange.ReasonNone)
			return len(b)
		}
		head = s.buf
	}
	var f framingFields
	var into *[]exchange.HeadField
	if r := c.first; r != nil && r.decision.Want == exchange.WantWhole {
		c.p.fields = c.p.fields[:0]
		into = &c.p.fields
	}
	first, end := readHead(head, had, &f, into)
	if end < 0 || end > MaxHead {
		may, _ := maybeResponse(head)
		switch {
		case !may:
			c.failAnswer(exchange.ResultUnparsable, exchange.ReasonSyntax)
		case len(head) > MaxHead:
			c.failAnswer(exchange.ResultTooLarge, exchange.ReasonHead)
		case had == 0 && !c.grow(s, b):
			c.failAnswer(exchange.ResultEvicted, exchange.ReasonNone)
		}
		return len(b)
	}
	n := end - had
	c.parseResponse(first, head[:end], &f, into != nil && f.doubt == exchange.DoubtNone, off+uint64(n), at)
	c.release(s)
	return n
}

// parseResponse takes a whole head, whose end is the position given; its first
// line and what its fields say were read. listed: the fields are in p.fields, and
// have nothing odd.
func (c *conn) parseResponse(first, head []byte, f *framingFields, listed bool, end uint64, at *reassembly.At) {
	p, s := c.p, &c.resp
	status, reason, minor, ok := statusLine(first)
	switch {
	case !ok:
		c.failAnswer(exchange.ResultUnparsable, exchange.ReasonSyntax)
		return
	case f.fields > maxFields:
		c.failAnswer(exchange.ResultTooLarge, exchange.ReasonHead)
		return
	}
	if !c.answering {
		c.answer, c.respOrphan = c.match()
		c.respOwner = c.answer != nil
		if c.answer == nil && (c.serverSync || !c.clientSync) && (status >= 200 || status == 101) {
			switch {
			case c.respOrphan:
				p.start()
				p.st.Orphans++
				p.lose(nil, exchange.ResultNoRequest, exchange.ReasonNone)
			case c.serverSync:
				c.stray(exchange.ResultGap, exchange.ReasonNone)
			case !c.respAckOK || c.respAck > c.strayAck || c.strayAck == 0:
				c.stray(exchange.ResultNoRequest, exchange.ReasonLate)
			}
			// Otherwise the client has sent nothing since the answer before:
			// this is text of its body.
		}
		if c.respAckOK {
			c.strayAck = max(c.strayAck, c.respAck)
		}
	}
	r := c.answer
	if status < 200 && status != 101 {
		c.answering = r != nil
		c.interim, c.lastInterim = true, end
		if r != nil && r.decision.Want > exchange.WantFrame {
			r.interim = append(r.interim, status)
		}
		if status == 100 && r != nil {
			r.expect = false
		}
		s.state = sideIdle
		return
	}
	c.answering = false
	if r == nil && !c.respOrphan {
		c.drift() // the method, and so the framing, is not known
	}
	method := methodOther
	if r != nil {
		method = r.method
		r.status, r.rFirst = status, c.respFirst
		switch {
		case f.te && f.cl:
			r.rDoubt = exchange.DoubtTEAndCL
		case f.events && status/100 == 2:
			r.rDoubt, r.events = exchange.DoubtEventStream, true
			p.late(r)
		}
		if !r.headDone { // its method, and so the framing, is not known
			r.spoiled = true
			c.drift()
		}
	}
	c.lastHead, c.boundaryOK, c.headOK = end, false, r == nil || !r.headDone
	if r != nil && r.expect && !r.bodySeen && !r.done {
		// Whether the body still comes is the client's to decide.
		r.fail, r.failWhy, r.done = exchange.ResultUnparsable, exchange.ReasonRefused, true
		c.cur = nil
		c.req.state = sideDead
		c.release(&c.req)
	}
	if status == 101 || method == methodConnect && status/100 == 2 {
		c.tunnel(r, status, head, reason, minor, f, listed)
		return
	}
	if method == methodConnect && c.req.state == sideWait {
		c.req.state = sideIdle
		if c.held > 0 {
			c.loseClient()
		}
		p.st.Unparsable += c.unhold()
	}
	kind, length, ok := responseFraming(method, status, minor, f)
	if r != nil && r.sought && method == methodHead && r.fail == 0 {
		if k, _, ok := responseFraming(methodOther, status, minor, f); !ok || k != exchange.FramingNone {
			// If it answers another request, its end is elsewhere: that somebody goes
			// on behind the head proves nothing.
			r.fail, r.failWhy = exchange.ResultGap, exchange.ReasonUnproven
			c.drift()
		}
	}
	if !ok {
		c.failAnswer(exchange.ResultUnparsable, exchange.ReasonFraming)
		return
	}
	if kind >= exchange.FramingTunnel {
		kind = exchange.FramingClose
	}
	if r != nil && (f.te && minor == 0 || f.te && f.chunked && !f.teExact) && r.fail == 0 {
		r.fail, r.failWhy = exchange.ResultUnparsable, exchange.ReasonFraming
	}
	if r != nil && r.decision.Want > exchange.WantFrame && r.req != nil {
		c.keepResponse(r, status, reason, minor, head, listed, kind, length)
	}
	var keep *content
	if r != nil {
		keep = r.respKeep
	}
	s.body.begin(kind, length, keep)
	if kind == exchange.FramingNone {
		c.endAnswer(end, at.Time)
		return
	}
	s.state = sideBody
	if kind == exchange.FramingLength && length >= forecastFrom && p.cfg.Forecaster != nil && r != nil {
		c.forecast(r, head, end)
	}
}

// stray counts an answer whose request is not known, unless a request that waits
// stands for the exchange already.
func (c *conn) stray(res exchange.Result, why exchange.Reason) {
	for r, n := c.first, c.strays; r != nil; r = r.next {
		if r.respDone || c.respAckOK && c.respAck <= r.start {
			continue
		}
		if n == 0 {
			c.strays++
			return
		}
		n--
	}
	c.p.start()
	c.p.lose(nil, res, why)
}

// responseFraming is RFC 9112 section 6.3 for responses.
func responseFraming(method methodKind, status int, minor byte, f *framingFields) (exchange.Framing, uint64, bool) {
	switch {
	case method == methodHead || status == 204 || status == 304:
		return exchange.FramingNone, 0, true
	case f.te && f.chunked:
		return exchange.FramingChunked, 0, true
	case f.te:
		return exchange.FramingClose, 0, true
	case f.clBad:
		return 0, 0, false
	case f.cl && f.length == 0:
		return exchange.FramingNone, 0, true
	case f.cl:
		return exchange.FramingLength, f.length, true
	}
	return exchange.FramingClose, 0, true
}

func (c *conn) keepResponse(r *pending, status int, reason []byte, minor byte, head []byte, listed bool, kind exchange.Framing, length uint64) {
	proto := "HTTP/1.1"
	if minor == 0 {
		proto = "HTTP/1.0"
	}
	p, q, k := c.p, &r.kept.resp, &r.kept.respKeep
	r.resp, r.respKeep = q, k
	r.must(p.cfg.Budget, keepCost)
	k.max = p.cfg.MaxBody
	text := ""
	if r.decision.Want == exchange.WantWhole {
		r.take(p.cfg.Budget, int64(len(head)))
		k.budget, k.of, k.keep = p.cfg.Budget, r, true
		_, text, k.buf = k.text(head, kind, length)
		if listed {
			q.Header = headerOf(r.spare, p.fields, head, text)
		} else {
			at := fieldLines(head)
			q.Header = header(r.spare, head[at:], text[at:])
		}
		p.answerFields = min(len(q.Header), maxSpare)
	}
	q.Status, q.Reason, q.Proto, q.Interim = status, part(head, text, reason), proto, r.interim
	q.Framing, q.FirstByte = kind, r.rFirst
}

// tunnel ends HTTP on the connection; the exchange is complete with its head.
func (c *conn) tunnel(r *pending, status int, head, reason []byte, minor byte, f *framingFields, listed bool) {
	p := c.p
	c.resp.state = sideTunnel
	if r == nil {
		c.kill()
		return
	}
	h2 := false
	if status == 101 {
		h2 = asksFor(f.upgrade, "h2c")
	}
	if h2 && c.upgrade(r) {
		return
	}
	if h2 {
		r.fail, r.failWhy = exchange.ResultUnparsable, exchange.ReasonHTTP2
		c.counted = true
	}
	if !r.done {
		r.spoiled, r.done = true, true
	}
	if r.decision.Want > exchange.WantFrame && r.req != nil {
		kind := exchange.FramingTunnel
		if status == 101 {
			kind = exchange.FramingNone
		}
		c.keepResponse(r, status, reason, minor, head, listed, kind, 0)
		r.resp.LastByte = r.rFirst
		r.resp.Body = r.respKeep.result(0)
	}
	r.respDone = true
	c.answer = nil
	c.settle(r)
	p.st.Upgraded += c.unhold()
	if c.req.state != sideEnd {
		c.req.state = sideTunnel
		c.cur = nil
		c.release(&c.req)
	}
	if h2 {
		c.kill()
	}
	c.skipRest()
}

// unhold gives how many bytes were held behind a CONNECT, to be counted.
func (c *conn) unhold() uint64 {
	n := c.held
	c.held = 0
	c.p.st.Held -= n
	return n
}

// endAnswer is called when the answer at hand is whole; end is its position.
func (c *conn) endAnswer(end uint64, now int64) {
	s := &c.resp
	s.state = sideIdle
	c.lastEnd, c.boundaryOK, c.endOK = end, true, c.respSync
	r := c.answer
	c.answer = nil
	if r == nil {
		return
	}
	if c.respLost {
		r.spoiled = true
	}
	if o := &c.overlaps[reassembly.Server]; o.to > c.respStart && o.from < end && r.doubt == 0 {
		r.doubt = exchange.DoubtOverlap
	}
	if s.body.doubt && r.rDoubt == 0 {
		r.rDoubt = exchange.DoubtChunk
	}
	if q := r.resp; q != nil {
		q.LastByte = max(now, r.rFirst)
		q.Interim = r.interim
		q.Body = r.respKeep.result(s.body.size)
		if r.respKeep.tail != nil {
			q.Trailer = header(nil, r.respKeep.tail, string(r.respKeep.tail))
		}
	}
	r.respDone, r.answerEnd = true, end
	if r.done {
		c.settle(r)
	}
}

// settle counts an exchange both sides of which are over.
func (c *conn) settle(r *pending) {
	p := c.p
	for c.first != nil && c.first != r {
		c.dropFirst(exchange.ResultGap, exchange.ReasonNone)
	}
	switch {
	case r.fail != 0:
		p.lose(r, r.fail, r.failWhy)
	case r.spoiled || r.tentative:
		p.lose(r, exchange.ResultGap, exchange.ReasonNone)
	case c.unconfirmed:
		c.unlinkFirst()
		c.proven = r
		p.late(r)
		return
	default:
		p.complete(c, r)
	}
	c.unlinkFirst()
	p.freePending(r)
}

// dropAnswer forgets an answer whose framing was only assumed.
func (c *conn) dropAnswer() {
	c.release(&c.resp)
	c.answer, c.answering = nil, false
}

// failAnswer gives up the answer at hand and the place in the stream.
func (c *conn) failAnswer(res exchange.Result, why exchange.Reason) {
	// Behind a cut head that may be an interim answer's the final one is to come.
	more := c.resp.state == sideHead && res == exchange.ResultGap && !finalHead(c.resp.buf)
	c.release(&c.resp)
	if c.respAckOK {
		c.strayAck = max(c.strayAck, c.respAck)
	}
	r := c.answer
	if r == nil && c.serverSync {
		if m, _ := c.match(); m != nil {
			r = m
		}
	}
	c.loseServer()
	if r == nil {
		return
	}
	r.fail, r.failWhy = res, why
	if more {
		return
	}
	r.respDone = true
	if r.done {
		c.settle(r)
	}
}

// finalHead says whether what there is of a head is a final answer's.
func finalHead(b []byte) bool {
	return len(b) > len("HTTP/1.1 ") && b[len("HTTP/1.1 ")] > '1'
}

// loseServer ends the sync of the server's direction.
func (c *conn) loseServer() {
	if c.serverSync {
		c.adrift = c.first != nil || c.answer != nil || !c.clientSync
	}
	c.serverSync = false
	c.answer, c.answering = nil, false
	c.boundaryOK, c.headOK = false, false
	c.resp.state = sideSeek
}

func (c *conn) serverGap(n uint64, at *reassembly.At) {
	c.joinServer()
	s := &c.resp
	c.serverSeen = true
	switch s.state {
	case sideBody:
		c.respLost = c.respLost || !at.Skipped || s.body.keep != nil
		done, ok := s.body.skip(n)
		if ok {
			if done {
				c.endAnswer(at.Offset+n, at.Time)
			}
			return
		}
		c.failAnswer(exchange.ResultGap, exchange.ReasonNone)
	case sideHead:
		c.failAnswer(exchange.ResultGap, exchange.ReasonNone)
	case sideIdle:
		switch {
		case c.first != nil || c.answering:
		case c.proven != nil:
			// What the client said before it had that may be to come.
			c.proven.holed = true
		default:
			c.confirm(false) // an answer that nobody asked for may be in it
		}
		c.loseServer()
	}
}
