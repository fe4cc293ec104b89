package exchange

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
	// ReasonTLS, ReasonProtocol: the connection speaks something else.
	// ReasonHTTP2: it speaks HTTP/2, against the rules for frames or where
	// that can't be read.
	ReasonTLS
	ReasonHTTP2
	ReasonProtocol
	// ReasonDirection: nobody knows which side is the server.
	ReasonDirection
	// ReasonFraming: the head says no length that all readers agree on.
	ReasonFraming
	// ReasonSyntax: a head or a chunk that is none.
	ReasonSyntax
	// ReasonRefused: answered finally before the body was over, which then
	// did not come.
	ReasonRefused
	// ReasonUnproven: what looked like a request could not be proven to be one.
	ReasonUnproven
	// ReasonHead: the head is over MaxHead.
	ReasonHead
	// ReasonBody: the body of a kept request is over MaxBody.
	ReasonBody
	// ReasonPipeline: more requests wait for an answer than are followed.
	ReasonPipeline
	// ReasonEventStream: it ended in the middle of an answer of server-sent
	// events, as most of those do.
	ReasonEventStream
	// ReasonHTTP2Late: on an HTTP/2 connection that was joined late, or behind
	// a hole that took the state of its header compression.
	ReasonHTTP2Late
	// ReasonHPACK: the header compression can't be followed (RFC 7541).
	ReasonHPACK
	// ReasonMalformed: an HTTP/2 message without the pseudo-header fields that
	// name it, or that goes on behind its end (RFC 9113 section 8.1.1).
	ReasonMalformed
	// ReasonReset: its HTTP/2 stream was reset before it was over.
	ReasonReset
	// ReasonGoAway: the server said that it would not answer it (RFC 9113
	// section 6.8).
	ReasonGoAway
	NumReasons
)

var reasonWords = [NumReasons]string{"", "cut", "late", "tls", "http2", "protocol", "direction", "framing", "syntax", "refused", "unproven", "head", "body", "pipeline",
	"event_stream", "http2_late", "hpack", "malformed", "reset", "goaway"}

// String gives the ledger's reason label.
func (r Reason) String() string { return reasonWords[r] }

// Stats are a parser's counters. Started = the sum of Exchanges + InFlight;
// delivered bytes = Parsed + Upgraded + AfterGap + Unparsable + Evicted + Held.
// Evicted are those of connections that were refused at a stop.
type Stats struct {
	Started   uint64
	Exchanges [NumResults][NumReasons]uint64
	// InFlight is a gauge.
	InFlight uint64
	// Late is a gauge: those of InFlight that a stop does not wait for. They
	// began after the parser was told to refuse, or only a later request can
	// prove them, or their answer is a stream of events, which may never end.
	Late                                            uint64
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

// Add adds o's counts and gauges, so that the parsers of a shard have one sum.
func (s *Stats) Add(o *Stats) {
	s.Started += o.Started
	s.InFlight += o.InFlight
	s.Late += o.Late
	for r := range o.Exchanges {
		for why, n := range o.Exchanges[r] {
			s.Exchanges[r][why] += n
		}
	}
	s.Parsed += o.Parsed
	s.Upgraded += o.Upgraded
	s.AfterGap += o.AfterGap
	s.Unparsable += o.Unparsable
	s.Evicted += o.Evicted
	s.Held += o.Held
	s.Orphans += o.Orphans
	s.Resyncs += o.Resyncs
}
