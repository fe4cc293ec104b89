package exchange

// Handover is a connection that turns to HTTP/2, as the HTTP/1 parser leaves
// it. The bytes that follow come to the new handler.
type Handover struct {
	// Preface is how many bytes of the client's connection preface (RFC 9113
	// section 3.4) were read already. With Upgrade it is 0.
	Preface int
	// ClientLost and ServerLost say that nobody knows where in its stream that
	// direction stands, or that it is not known from its start.
	ClientLost, ServerLost bool
	// Doubt is what the connection's streams gave reason for, if they did.
	Doubt Doubt
	// Upgrade is the request whose answer is stream 1; nil for a client that
	// knew before (RFC 9113 section 3.3).
	Upgrade *Upgrade
}

// Upgrade is an HTTP/1 request that was answered by a 101 to h2c (RFC 7540
// section 3.2). It was not counted as started.
type Upgrade struct {
	// Request is nil when the exchange is not kept. The new handler owns it,
	// and may still write to it.
	Request  *Request
	Flow     Flow
	Decision Decision
	Doubt    Doubt
	// Fail and Reason are set when it can't become complete, Spoiled when it
	// has a hole.
	Fail    Result
	Reason  Reason
	Spoiled bool
	// Offset, End, First, Last: where it begins and ends in the client's
	// stream, and when.
	Offset, End uint64
	First, Last int64
	// Interim are the 1xx statuses before the 101.
	Interim []int
	Reused  bool
	// Late says that a stop does not wait for it.
	Late bool
	// Head says that the method is HEAD.
	Head bool
	// Settings is the value of HTTP2-Settings.
	Settings string
	// Taken is how many bytes of the budget the new handler has to give back.
	Taken int64
}
