package http1

import (
	"bytes"
	"fmt"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Config of a Parser.
type Config struct {
	// Keeper decides what is kept. Required.
	Keeper exchange.Keeper
	// Sink gets the exchanges. Required.
	Sink exchange.Sink
	// MaxBody bounds a kept body, in bytes. Zero means 1 MiB.
	MaxBody int64
	// Budget is that of the assembler. Required.
	Budget *reassembly.Budget
	// Domain names the domains of taps. Nil means all are "".
	Domain func(uint16) string
	// Skipper is told which bytes need not be captured. Nil: nobody is.
	Skipper Skipper
	// Forecaster is told which answers nobody wants before they have begun. Nil:
	// nobody is.
	Forecaster Forecaster
	// HTTP2 gives the handler of a connection that turns to HTTP/2: it gets
	// every call from then on. It takes ownership of what h refers to. Nil
	// means that such connections are counted and not read.
	HTTP2 func(c *reassembly.Conn, h *exchange.Handover) reassembly.Handler
	// Frames says whether a segment looks like HTTP/2. It is
	// asked on connections that were joined late, for counting alone. Nil means
	// never.
	Frames func(b []byte) bool
}

// Skipper may keep bytes from being captured; an Assembler is one. What comes all the
// same is framed. Its methods are called inside Data, Gap and End.
type Skipper interface {
	// Skip: of the next n bytes of d nobody wants more than that they have passed.
	// It is said again with all that comes of them.
	Skip(c *reassembly.Conn, d reassembly.Dir, n uint64)
	// SkipRest: nothing of either direction is used any more.
	SkipRest(c *reassembly.Conn)
}

// Forecaster may keep the bodies of answers that have not begun from being captured.
type Forecaster interface {
	// Unwanted says that the Keeper will not keep the request at that offset of
	// that connection, whatever its head says.
	Unwanted(f *exchange.Flow, isn uint32, offset uint64) bool
	// Forecast says what an Assembler's Forecast does; f is lent for the call.
	Forecast(c *reassembly.Conn, f *reassembly.Forecast)
}

// Parser is the factory of one shard's connections. Not safe for concurrent
// use.
type Parser struct {
	cfg     Config
	st      exchange.Stats
	fields  []exchange.HeadField
	head    exchange.Head
	flow    exchange.Flow
	out     exchange.Complete
	said    reassembly.Forecast
	refused bool     // by Refuse
	pending *pending // free list
	works   *work    // free list
	conns   []*conn  // free
	bufs    [][]byte // free
	nFree   int
	// answerFields is how many fields to expect of an answer: as the last that
	// was kept had.
	answerFields int
	nWorks       int
}

// New makes a Parser.
func New(cfg Config) (*Parser, error) {
	switch {
	case cfg.Keeper == nil:
		return nil, fmt.Errorf("http1: Keeper is required")
	case cfg.Sink == nil:
		return nil, fmt.Errorf("http1: Sink is required")
	case cfg.Budget == nil:
		return nil, fmt.Errorf("http1: Budget is required")
	case cfg.MaxBody < 0:
		return nil, fmt.Errorf("http1: MaxBody must not be negative")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	return &Parser{cfg: cfg}, nil
}

// Stats gives the counters. Call it from the shard's goroutine.
func (p *Parser) Stats() exchange.Stats { return p.st }

// Refuse begins the end: connections that have sent nothing yet are not read any
// more, their bytes are counted evicted, and requests that begin on others are
// Late.
func (p *Parser) Refuse() { p.refused = true }

// refusal is the handler of the connections that come after Refuse.
type refusal Parser

func (r *refusal) Data(_ reassembly.Dir, b []byte, _ *reassembly.At) {
	r.st.Evicted += uint64(len(b))
}
func (*refusal) Gap(reassembly.Dir, uint64, *reassembly.At) {}
func (*refusal) Doubt(reassembly.Dir, uint64, uint64)       {}
func (*refusal) End(reassembly.Dir, reassembly.End)         {}
func (*refusal) Close(reassembly.Close)                     {}

// Guess implements reassembly.Factory.
func (p *Parser) Guess(b []byte) reassembly.Side {
	if _, sure := maybeResponse(b); sure {
		return reassembly.ToClient
	}
	if wholeRequestLine(b) || bytes.HasPrefix(b, []byte(preface)) {
		return reassembly.ToServer
	}
	return reassembly.SideUnknown
}

// Blind implements reassembly.Factory.
func (p *Parser) Blind(n int) { p.st.Unparsable += uint64(n) }

// BlindEnd implements reassembly.Factory.
func (p *Parser) BlindEnd() {
	p.st.Started++
	p.st.Exchanges[exchange.ResultUnparsable][exchange.ReasonDirection]++
	p.cfg.Sink.Lost(exchange.Lost{Result: exchange.ResultUnparsable, N: 1})
}

// Open implements reassembly.Factory.
func (p *Parser) Open(c *reassembly.Conn) reassembly.Handler {
	if p.refused {
		return (*refusal)(p)
	}
	var h *conn
	if n := len(p.conns); n > 0 {
		h, p.conns = p.conns[n-1], p.conns[:n-1]
	} else {
		h = new(conn)
	}
	p.cfg.Budget.Must(connCost)
	h.p, h.tcp = p, c
	return h
}

// maxFree bounds the free lists.
const maxFree = 1024

// complete ends an exchange that is complete, and hands it to the sink.
func (p *Parser) complete(c *conn, r *pending) {
	p.st.Exchanges[exchange.ResultComplete][exchange.ReasonNone]++
	p.st.InFlight--
	p.emit(c, r)
}

// lose ends one that is not. r is nil when no request is known.
func (p *Parser) lose(r *pending, res exchange.Result, why exchange.Reason) {
	p.st.Exchanges[res][why]++
	p.st.InFlight--
	l := exchange.Lost{Result: res, N: 1}
	if r != nil {
		l.Start = r.first
		if r.asked {
			l.Decision = &r.decision
		}
	}
	p.cfg.Sink.Lost(l)
}

func (p *Parser) start() {
	p.st.Started++
	p.st.InFlight++
}

// pending is a request that waits for its answer.
type pending struct {
	next       *pending
	start, end uint64 // stream offsets; end when done
	answerEnd  uint64 // when its answer is whole
	ack        uint64 // what its first segment acknowledged
	ackOK      bool
	headDone   bool
	done       bool // the request is whole
	respDone   bool
	bodySeen   bool
	spoiled    bool // a hole inside it
	tentative  bool // not proven to be a request
	firstSeen  bool // it is the first that was seen of a late connection
	boundary   bool // it acknowledges the end of an answer
	placed     bool // and that is the end for certain
	sought     bool // only a request says that its answer begins where it does
	holed      bool // behind its answer there is a hole
	expect     bool
	reused     bool
	late       bool   // counted in Stats.Late
	events     bool   // the answer is a stream of events
	asksH2     bool   // for an upgrade to h2c, as RFC 7540 section 3.2 has it
	settings   string // the value of HTTP2-Settings, when it does
	method     methodKind
	minor      byte
	doubt      exchange.Doubt
	fail       exchange.Result
	failWhy    exchange.Reason
	first      int64 // times
	last       int64
	status     int
	rFirst     int64
	rDoubt     exchange.Doubt
	decision   exchange.Decision
	asked      bool // decision is the keeper's
	reqKeep    *content
	respKeep   *content
	req        *exchange.Request
	resp       *exchange.Response
	kept       *kept           // when kept
	spare      exchange.Header // room for the fields of the answer
	interim    []int
	flow       exchange.Flow // set when kept
	taken      int64         // bytes from the budget
}

// kept is what is made for an exchange that is kept, in one piece.
type kept struct {
	exchange          exchange.Exchange
	req               exchange.Request
	resp              exchange.Response
	reqKeep, respKeep content
}

// maxSpare bounds the room that is made for the fields of an answer.
const maxSpare = 32

type methodKind uint8

const (
	methodOther methodKind = iota
	methodHead
	methodConnect
)

func (p *Parser) newPending() *pending {
	p.cfg.Budget.Must(pendingCost)
	r := p.pending
	if r == nil {
		return &pending{taken: pendingCost}
	}
	p.pending, p.nFree = r.next, p.nFree-1
	r.next, r.taken = nil, pendingCost
	return r
}

// late says that a stop does not wait for r.
func (p *Parser) late(r *pending) {
	if !r.late {
		r.late = true
		p.st.Late++
	}
}

func (p *Parser) freePending(r *pending) {
	p.cfg.Budget.Give(r.taken)
	if r.late {
		p.st.Late--
	}
	if p.nFree < maxFree {
		*r = pending{next: p.pending}
		p.pending, p.nFree = r, p.nFree+1
	}
}

// emit hands a complete exchange to the sink.
func (p *Parser) emit(c *conn, r *pending) {
	out := &p.out
	out.Decision, out.Doubt, out.Status = &r.decision, r.doubt, r.status
	out.Start, out.TTFB, out.Exchange = r.first, max(r.rFirst-r.last, 0), nil
	if out.Doubt == exchange.DoubtNone {
		out.Doubt = r.rDoubt
	}
	if r.decision.Want > exchange.WantFrame {
		x := &r.kept.exchange
		x.ID = exchange.NewID(r.flow, c.tcp.ISN(), r.start)
		x.Flow, x.ISN, x.Offset, x.Reused = r.flow, c.tcp.ISN(), r.start, r.reused
		x.Request, x.Response = r.req, r.resp
		x.Decision, x.Doubt = r.decision, out.Doubt
		out.Exchange = x
	}
	p.cfg.Sink.Complete(out)
}
