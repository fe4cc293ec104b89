package replay

import (
	"errors"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Result is what became of a submitted exchange. Its String is the ledger's
// result label.
type Result uint8

const (
	// Compared: an Outcome was handed to Config.Done, with an answer or with
	// an error word.
	Compared Result = iota
	// Shed: MaxInFlight replays were in flight and as many waiting as may, or
	// this one waited too long, or Memory was used up.
	Shed
	// RateLimited: MaxRate was used up.
	RateLimited
	// BreakerOpen: the target failed too often and is left alone.
	BreakerOpen
	// Stopped: Stop or Cancel came first.
	Stopped
	NumResults
)

var resultWords = [NumResults]string{"compared", "shed", "rate_limited", "breaker_open", "stopped"}

// String gives the ledger's result label.
func (r Result) String() string { return resultWords[r] }

// The words of Outcome.Error: a closed set.
const (
	// ErrorConnect: no connection, because the name has no address, the peer
	// refuses, there is no route, or it took longer than the timeout.
	ErrorConnect = "connect"
	// ErrorRefused: shadowtap refused to send, because of Config.Credentials
	// or because the request must not be replayed.
	ErrorRefused = "refused"
	// ErrorTLS: the TLS handshake failed, or took longer than the timeout.
	ErrorTLS = "tls"
	// ErrorTimeout: the answer was not whole in time.
	ErrorTimeout = "timeout"
	// ErrorClosed: the connection ended before the answer's head did, or in
	// HTTP/2 the stream (RST_STREAM, GOAWAY).
	ErrorClosed = "closed"
	// ErrorProtocol: the answer's head is not HTTP/1 or is too large; the
	// target does not speak HTTP/2, wants HTTP/1, or breaks a rule of HTTP/2
	// before the final head.
	ErrorProtocol = "protocol"
	// ErrorBody: the body broke off or its framing is wrong, in HTTP/2 also a
	// broken rule behind the head.
	ErrorBody = "body"
	// ErrorTooLarge: the answer went on after the most that is read.
	ErrorTooLarge = "too_large"
)

var errorWords = [...]string{ErrorConnect, ErrorRefused, ErrorTLS, ErrorTimeout, ErrorClosed, ErrorProtocol, ErrorBody, ErrorTooLarge}

// ErrorWords returns every word that Outcome.Error can hold. The caller owns
// the slice.
func ErrorWords() []string { return append([]string(nil), errorWords[:]...) }

// Outcome is what a replay came to. It belongs to the callee of Config.Done.
type Outcome struct {
	// Result is Compared; in the outcome of a control, or of what was asked
	// again, it may also be why nothing came of it.
	Result Result
	// Reused says that the connection had carried another request before.
	Reused bool
	// unmet says that nothing was sent because the other leg did not come.
	unmet bool
	// MinRTT is the smallest round trip of a reused connection, as the kernel
	// measured it, at most 10 s ago; 0 when it is not known, and for a new one.
	MinRTT time.Duration
	// Response is the answer, nil when Error is set.
	Response *exchange.Response
	// Error is "" or one of the words above.
	Error string
	// Detail says in words for people what failed. It may hold addresses and
	// bytes of the answer; redact it before it leaves the node.
	Detail string
	// Address is the peer's address and port, "" when none was reached.
	Address string
	// Start is when the request was handed to an open connection, FirstByte
	// and LastByte are those of the answer's final head and of its end, all in
	// nanoseconds since the Unix epoch, measured from Start by a monotonic
	// clock. FirstByte is 0 when no answer came; LastByte is then when the
	// attempt ended. Start is 0 when no connection was open.
	Start, FirstByte, LastByte int64
	// Setup is the time it took to have an open connection: name lookup,
	// connect, TLS, HTTP/2's settings and the wait for a stream. Near 0 for a
	// reused one.
	Setup time.Duration
	// Lag is Start minus the time at which the tap saw the request's first
	// byte.
	Lag time.Duration
	// TraceID is the captured trace id (traceparent, else b3), "" without.
	TraceID string
	// FreshTraceID is the one that was sent in its place, "" with trace: keep.
	FreshTraceID string
	// Control is what became of the exchange at the control, nil when it was
	// not to go there.
	Control *ControlOutcome
}

// TTFB is the time from Start to the first byte, 0 when no answer came.
func (o *Outcome) TTFB() time.Duration {
	if o.FirstByte == 0 {
		return 0
	}
	return time.Duration(o.FirstByte - o.Start)
}

// TTLB is the time from Start to the last byte, 0 when no connection was open.
func (o *Outcome) TTLB() time.Duration {
	if o.Start == 0 {
		return 0
	}
	return time.Duration(o.LastByte - o.Start)
}

func (o *Outcome) fail(word string, err error) {
	o.Error, o.Detail, o.Response = word, err.Error(), nil
}

// What the breaker is told.
var (
	errFailed = errors.New("replay failed")
	// errNotSaid: the replay says nothing about the target.
	errNotSaid = errors.New("replay was not sent or was stopped")
)
