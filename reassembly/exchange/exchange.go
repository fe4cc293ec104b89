package exchange

import (
	"crypto/sha256"
	"hash"
	"net/netip"
	"strings"
)

// Flow names a TCP connection by its two endpoints, as seen at the tap.
type Flow struct {
	// Domain tells apart network namespaces in which the same addresses
	// repeat. It is "" for every tap in the host's namespace and for files.
	Domain string
	// Client is the side that opened the connection.
	Client netip.AddrPort
	// Server is the side that answers; its port is the one that was selected.
	Server netip.AddrPort
}

// Field is one header or trailer line. Name is spelled as on the wire; Value
// has the white space around it removed (RFC 9110 section 5.5).
type Field struct{ Name, Value string }

// Header is the list of fields in the order of the wire. Repeated names stay
// repeated.
type Header []Field

// Get returns the value of the first field of that name, "" without one. Names
// compare without regard to case (RFC 9110 section 5.1).
func (h Header) Get(name string) string {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Values returns the values of every field of that name in their order, nil
// without one.
func (h Header) Values(name string) []string {
	var v []string
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			v = append(v, h[i].Value)
		}
	}
	return v
}

// Has says whether a field of that name is there, also with an empty value.
func (h Header) Has(name string) bool {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return true
		}
	}
	return false
}

// Framing says how the length of a body was known (RFC 9112 section 6.3).
type Framing uint8

const (
	// FramingNone: there is no body.
	FramingNone Framing = iota
	// FramingLength: Content-Length.
	FramingLength
	// FramingChunked: Transfer-Encoding: chunked.
	FramingChunked
	// FramingClose: the body ends with the connection.
	FramingClose
	// FramingTunnel: a 101 or the 2xx to a CONNECT; HTTP ends with the head.
	FramingTunnel
	// FramingH2: DATA frames up to END_STREAM (RFC 9113 section 8.1).
	FramingH2
)

// String gives the word that exchange lines use.
func (f Framing) String() string {
	switch f {
	case FramingLength:
		return "length"
	case FramingChunked:
		return "chunked"
	case FramingClose:
		return "close"
	case FramingTunnel:
		return "tunnel"
	case FramingH2:
		return "h2"
	}
	return "none"
}

// Body is the content of a message after transfer decoding and before any
// content decoding.
type Body struct {
	// Bytes is the content, or its beginning when Truncated. Nil when the
	// exchange is only listed. It belongs to the exchange; nobody writes.
	Bytes []byte
	// Size is the length of the whole content in bytes, kept or not.
	Size int64
	// Truncated says that Bytes is shorter than Size because of a limit.
	Truncated bool
	// Digest is the SHA-256 of the whole content, when Digested: of content of
	// which bytes are missing here, as nobody can compute it any more.
	Digest [32]byte
	// Digested says that Digest is set.
	Digested bool
}

// Sum256 is the SHA-256 of the whole content, computed where all bytes are here.
// ok is false when bytes are missing and nobody took it while they passed.
func (b *Body) Sum256() (sum [sha256.Size]byte, ok bool) {
	switch {
	case b.Digested:
		return b.Digest, true
	case b.Truncated || int64(len(b.Bytes)) != b.Size:
		return sum, false
	}
	return sha256.Sum256(b.Bytes), true
}

// Digester takes the SHA-256 of a body of which no more than the beginning is
// kept. It hashes nothing while all is kept. The zero value has seen no byte.
type Digester struct{ hash hash.Hash }

// Missed takes bytes of the body, the first ones of which not all are kept, and
// what follows them. Of what came before kept are the bytes.
func (d *Digester) Missed(b, kept []byte) {
	if d.hash == nil {
		d.hash = sha256.New()
		d.hash.Write(kept)
	}
	d.hash.Write(b)
}

// Into sets the digest of a body of which bytes are missing.
func (d *Digester) Into(b *Body) {
	if b.Digested = d.hash != nil; b.Digested {
		copy(b.Digest[:], d.hash.Sum(nil)) // b need not be on the heap
	}
}

// Request is a request as it was captured.
type Request struct {
	Method string
	// Target is the request target as on the wire (RFC 9112 section 3.2).
	Target string
	// Proto is "HTTP/2", "HTTP/1.1" or "HTTP/1.0".
	Proto string
	// Host is the value of the first Host field, for HTTP/2 that of :authority
	// where it is there; "" without one.
	Host string
	// Scheme is HTTP/2's :scheme, "" in HTTP/1.
	Scheme string
	// Header is without HTTP/2's pseudo-header fields. Exchanges of a connection
	// may share the list.
	Header  Header
	Trailer Header
	// Head is the head as captured, from the request line up to and
	// including the empty line. Nil when the exchange is only listed, and in
	// HTTP/2. The strings of the request are parts of it: nobody writes.
	Head []byte
	// Wire is the body as captured, transfer framing included. For bodies
	// that are not chunked it is the same slice as Body.Bytes.
	Wire    []byte
	Body    Body
	Framing Framing
	// FirstByte and LastByte are the tap's times of the first and last byte,
	// in nanoseconds since the Unix epoch.
	FirstByte, LastByte int64
}

// Response is an answer: the reference's as captured, or the candidate's as read.
type Response struct {
	Status int
	// Reason is the reason phrase, often "".
	Reason string
	Proto  string
	// Interim lists the 1xx statuses before the final one.
	Interim []int
	Header  Header
	Trailer Header
	Body    Body
	Framing Framing
	// FirstByte is the time of the first byte of the final head, LastByte
	// that of the last byte, in nanoseconds since the Unix epoch.
	FirstByte, LastByte int64
}

// Exchange is a request together with the answer that the reference gave to
// it, both whole and byte-exact. It is frozen once emitted.
type Exchange struct {
	// ID is the exchange_id of records.
	ID   ID
	Flow Flow
	// ISN is the client's initial sequence number, or for a connection that
	// was joined late the first sequence number seen.
	ISN uint32
	// Offset is the position of the request's first byte in the client's
	// stream; the byte after the SYN (or the first seen) is 0. A promised
	// request's is that of the promise in the server's stream.
	Offset uint64
	// Reused says that this is not the first request of its connection.
	Reused   bool
	Request  *Request
	Response *Response
	// Decision is what Keep answered for this request.
	Decision Decision
	// Doubt says why the request must not be replayed, DoubtNone when it may.
	Doubt Doubt
	// Stream is the HTTP/2 stream, 0 in HTTP/1. It stands in the ID in place
	// of Offset. Stream 1 of a connection that was upgraded is the HTTP/1
	// request that asked for it.
	Stream uint32
	// Pushed says that the server promised the request (RFC 9113 section 8.4).
	Pushed bool
	// Reset is set when the stream was reset although both messages came whole.
	Reset *Reset
	// GRPC is set for gRPC calls.
	GRPC *GRPC
}

// Reset is an RST_STREAM (RFC 9113 section 6.4).
type Reset struct {
	// ByServer says who sent it.
	ByServer bool
	// Code is the error code.
	Code uint32
}

// GRPC is what the messages of a gRPC call tell.
type GRPC struct {
	// Kind of the call, as far as its messages show it.
	Kind GRPCKind
	// Status is grpc-status as on the wire, "" without one; Message is
	// grpc-message, percent-decoded.
	Status, Message string
	// Requests and Responses are how many messages each side sent.
	Requests, Responses uint32
}

// GRPCKind is one of the four kinds of calls. A stream of exactly one message
// looks like a unary call on the wire, and is taken for one.
type GRPCKind uint8

const (
	GRPCUnary GRPCKind = iota
	// GRPCServerStream: one request, several answers or none.
	GRPCServerStream
	// GRPCClientStream: several requests, one answer.
	GRPCClientStream
	// GRPCBidi: several of both, or answers before the requests were over.
	GRPCBidi
	NumGRPCKinds
)

var grpcKindWords = [NumGRPCKinds]string{"unary", "server_stream", "client_stream", "bidi"}

// String gives the word for labels and records.
func (k GRPCKind) String() string { return grpcKindWords[k] }
