// Package http2 turns the ordered bytes of a cleartext HTTP/2 connection (RFC
// 9113) into exchanges, gRPC calls among them. Input: the calls of
// reassembly.Handler, from where the HTTP/1 parser hands the connection over.
// Output: the calls of exchange.Sink, one for each complete exchange.
//
// An exchange is complete when both its messages were seen whole, to their
// END_STREAM; requests and answers pair by their stream. Everything else is
// counted under its reason and dropped.
//
// # Header compression
//
// Every header block goes through its direction's decoder (RFC 7541) in the
// order of the wire, wanted or not; but for one that leaves the table as it is
// and was decoded in the same state of the same table before: what that said is
// remembered. What an encoder put into the table before
// the connection was joined, or in a hole, can't be had back: from then on that
// direction is only walked from frame to frame, as far as frames can be
// recognised, and the streams that show are counted, late. So is a connection
// that was joined late, until it ends, whatever its bytes look like.
//
// # Rest
//
// A connection that is idle for 2 s, without an open stream, is written down in one
// piece of bytes: what its frames have said, and the fields of each table, of values
// that begin alike only what differs. The decoders, what was remembered and what the budget
// gave for them go back. The next bytes make it what it was; a table only where a
// header block needs it. Where the budget has no room then, the connection is counted
// as evicted.
//
// # Holes
//
// A hole inside the payload of a DATA frame, or of a frame that says nothing
// about exchanges, leaves frames and table intact: it spoils only its stream.
// Any other hole ends the use of its direction; streams that were whole in that
// direction go on.
//
// # Not done here
//
// TLS is not decrypted. Flow control, priorities and the limits that the peers
// set for each other's streams are not followed: they decide when bytes are
// sent, not what they mean. Behind the 2xx to a CONNECT (RFC 9113 section 8.5)
// a stream's DATA is not read any more. Content codings and the compression of
// gRPC messages are left as they are.
package http2
