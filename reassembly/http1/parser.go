package http1

import (
	"fmt"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Sink gets what was found. Calls come from the shard's goroutine.
type Sink interface {
	// Complete is called for each complete exchange. c is lent; c.Exchange is
	// frozen and may be kept.
	Complete(c *Complete)
}

// Complete is one complete exchange.
type Complete struct {
	// Decision is what Keep answered; the sink may write to it.
	Decision *exchange.Decision
	// Doubt is why the request must not be replayed; it may be found after
	// the head.
	Doubt exchange.Doubt
	// Status is the final status.
	Status int
	// Start is the time of the request's first byte; TTFB the time from its
	// last byte to the first of the answer (at least 0), in nanoseconds.
	Start, TTFB int64
	// Exchange is set when Decision.Want is more than WantFrame.
	Exchange *exchange.Exchange
}

// Config of a Parser.
type Config struct {
	// Keeper decides what is kept. Required.
	Keeper exchange.Keeper
	// Sink gets the exchanges. Required.
	Sink Sink
	// MaxBody bounds a kept body, in bytes. Zero means 1 MiB.
	MaxBody int64
	// Budget is that of the assembler. Required.
	Budget *reassembly.Budget
	// Domain names the domains of taps. Nil means all are "".
	Domain func(uint16) string
}

// Parser is the factory of one shard's connections. Not safe for concurrent
// use.
type Parser struct {
	cfg     Config
	st      Stats
	fields  []exchange.HeadField
	head    exchange.Head
	flow    exchange.Flow
	out     Complete
	pending *pending // free list
	conns   *conn    // free list
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

// Result is the ledger's result of an exchange.
type Result uint8

const (
	ResultComplete Result = iota
	ResultNoRequest
	ResultNoResponse
	ResultGap
	ResultTooLarge
	ResultUnparsable
	ResultEvicted
	ResultStopped
	NumResults
)

var resultWords = [NumResults]string{"complete", "no_request", "no_response", "gap", "too_large", "unparsable", "evicted", "stopped"}

// String gives the ledger's result label.
func (r Result) String() string { return resultWords[r] }

// Reason is the ledger's reason of an exchange that is not complete.
type Reason uint8

const (
	ReasonNone Reason = iota
	// ReasonCut: the connection ended in the middle of it.
	ReasonCut
	// ReasonLate: its beginning was before the connection was joined.
	ReasonLate
	// ReasonTLS, ReasonHTTP2, ReasonProtocol: the connection speaks something
	// else.
	ReasonTLS
	ReasonHTTP2
	ReasonProtocol
	// ReasonDirection: nobody knows which side is the server.
	ReasonDirection
	// ReasonFraming: the head says no length that all readers agree on.
	ReasonFraming
	// ReasonSyntax: a head or a chunk that is none.
	ReasonSyntax
	// ReasonRefused: answered finally before a body that waited for a 100.
	ReasonRefused
	// ReasonUnproven: what looked like a request could not be proven to be one.
	ReasonUnproven
	// ReasonHead: the head is over MaxHead.
	ReasonHead
	// ReasonBody: the body of a kept request is over MaxBody.
	ReasonBody
	// ReasonPipeline: more requests wait for an answer than are followed.
	ReasonPipeline
	NumReasons
)

var reasonWords = [NumReasons]string{"", "cut", "late", "tls", "http2", "protocol", "direction", "framing", "syntax", "refused", "unproven", "head", "body", "pipeline"}

// String gives the ledger's reason label.
func (r Reason) String() string { return reasonWords[r] }

// Stats are a parser's counters. Started = the sum of Exchanges + InFlight;
// delivered bytes = Parsed + Upgraded + AfterGap + Unparsable + Evicted + Held.
type Stats struct {
	Started   uint64
	Exchanges [NumResults][NumReasons]uint64
	// InFlight is a gauge.
	InFlight                                        uint64
	Parsed, Upgraded, AfterGap, Unparsable, Evicted uint64
	// Held is a gauge: bytes behind a CONNECT whose answer is not known yet.
	Held uint64
	// Orphans counts answers that were sent before any request that they
	// could belong to.
	Orphans uint64
	// Resyncs counts directions that were found again after a hole.
	Resyncs uint64
}

// Complete is the number of complete exchanges.
func (s *Stats) Complete() uint64 { return s.Exchanges[ResultComplete][0] }

// Stats gives the counters. Call it from the shard's goroutine.
func (p *Parser) Stats() Stats { return p.st }

// Guess implements reassembly.Factory.
func (p *Parser) Guess(b []byte) reassembly.Side {
	if _, sure := maybeResponse(b); sure {
		return reassembly.ToClient
	}
	if wholeRequestLine(b) {
		return reassembly.ToServer
	}
	return reassembly.SideUnknown
}

// Blind implements reassembly.Factory.
func (p *Parser) Blind(n int) { p.st.Unparsable += uint64(n) }

// BlindEnd implements reassembly.Factory.
func (p *Parser) BlindEnd() {
	p.st.Started++
	p.st.Exchanges[ResultUnparsable][ReasonDirection]++
}

// Open implements reassembly.Factory.
func (p *Parser) Open(c *reassembly.Conn) reassembly.Handler {
	h := p.conns
	if h != nil {
		p.conns = h.free
		*h = conn{}
	} else {
		h = new(conn)
	}
	h.p, h.tcp = p, c
	return h
}

// count ends one exchange.
func (p *Parser) count(r Result, why Reason) {
	p.st.Exchanges[r][why]++
	p.st.InFlight--
}

func (p *Parser) start() {
	p.st.Started++
	p.st.InFlight++
}

// pending is a request that waits for its answer.
type pending struct {
	next       *pending
	start, end uint64 // stream offsets; end when done
	headEnd    uint64
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
	expect     bool
	reused     bool
	method     methodKind
	minor      byte
	doubt      exchange.Doubt
	fail       Result
	failWhy    Reason
	first      int64 // times
	last       int64
	status     int
	rFirst     int64
	rDoubt     exchange.Doubt
	decision   exchange.Decision
	reqKeep    *content
	respKeep   *content
	req        *exchange.Request
	resp       *exchange.Response
	interim    []int
	flow       exchange.Flow // set when kept
	taken      int64         // bytes from the budget
}

type methodKind uint8

const (
	methodOther methodKind = iota
	methodHead
	methodConnect
)

func (p *Parser) newPending() *pending {
	r := p.pending
	if r == nil {
		return &pending{}
	}
	p.pending = r.next
	*r = pending{}
	return r
}

func (p *Parser) freePending(r *pending) {
	if r.taken > 0 {
		p.cfg.Budget.Give(r.taken)
	}
	*r = pending{next: p.pending}
	p.pending = r
}

// emit hands a complete exchange to the sink.
func (p *Parser) emit(c *conn, r *pending) {
	out := &p.out
	*out = Complete{Decision: &r.decision, Doubt: r.doubt, Status: r.status, Start: r.first, TTFB: max(r.rFirst-r.last, 0)}
	if out.Doubt == exchange.DoubtNone {
		out.Doubt = r.rDoubt
	}
	if r.decision.Want > exchange.WantFrame {
		x := &exchange.Exchange{
			ID:       exchange.NewID(r.flow, c.tcp.ISN(), r.start),
			Flow:     r.flow,
			ISN:      c.tcp.ISN(),
			Offset:   r.start,
			Reused:   r.reused,
			Request:  r.req,
			Response: r.resp,
			Decision: r.decision,
			Doubt:    out.Doubt,
		}
		out.Exchange = x
	}
	p.cfg.Sink.Complete(out)
}
