package exchange

// Sink gets what was found. Calls come from the shard's goroutine.
type Sink interface {
	// Complete is called for each complete exchange. c is lent; c.Exchange is
	// frozen and may be kept.
	Complete(c *Complete)
	// Lost is called for exchanges that end in any other result. What l refers
	// to is lent.
	Lost(l Lost)
}

// Lost are exchanges that did not become complete.
type Lost struct {
	// Decision is what Keep answered; nil when it was not asked, because no
	// head was read.
	Decision *Decision
	Result   Result
	// Start is the time of the request's first byte in nanoseconds since the
	// Unix epoch, 0 when that is not known.
	Start int64
	// N is how many exchanges ended so. It is 1 with a Decision.
	N uint64
}

// Complete is one complete exchange.
type Complete struct {
	// Decision is what Keep answered; the sink may write to it.
	Decision *Decision
	// Doubt is why the request must not be replayed; it may be found after
	// the head.
	Doubt Doubt
	// Status is the final status.
	Status int
	// GRPCStatus is the grpc-status of a gRPC answer as it was sent, "" for
	// none.
	GRPCStatus string
	// Start is the time of the request's first byte; TTFB the time from its
	// last byte to the first of the answer (at least 0), in nanoseconds.
	Start, TTFB int64
	// Exchange is set when Decision.Want is more than WantFrame.
	Exchange *Exchange
}
