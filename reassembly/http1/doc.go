// Package http1 turns the ordered bytes of a connection into HTTP/1.0 and
// HTTP/1.1 exchanges (RFC 9112). Input: the calls of reassembly.Handler.
// Output: the calls of exchange.Sink, one for each complete exchange.
//
// An exchange is complete, and then byte-exact and paired by proof, or it is
// counted under its reason and dropped.
//
// # Pairing
//
// While both directions are in sync, answers pair with requests in order
// (RFC 9112 section 9.3), but an answer whose first segment does not
// acknowledge the request's first byte was sent before the request came: it
// belongs to nobody. A hole in the middle of a body of known length leaves the
// framing intact and spoils only its own exchange. Any other hole ends the sync
// of its direction:
//
//   - The server's is found again at a segment that begins with a status line,
//     at exactly the position that an outstanding request acknowledged when it
//     was sent. Text in a body that looks like a status line is not there,
//     because a client that does not pipeline sends nothing in the middle of an
//     answer. On a connection that has pipelined it is not found again, unless
//     the request acknowledges the end of a final answer, as below. The pair is
//     believed when the client's next bytes acknowledge exactly the answer's end:
//     what was lost may have been an interim answer, or a head, behind which the client
//     has pipelined for the first time. Where nothing follows it is counted as a gap.
//   - The client's is found again at a segment that begins with a request line,
//     if it acknowledges the end of a final answer and nothing that was sent
//     before it did. On a connection that was joined late the first segment of
//     all may do too, when the answer then acknowledges exactly its end.
//
// Behind a hole both take it that a client that goes on exactly at an answer's end
// waits for no other answer. Nothing in the bytes tells one that always has two
// requests under way, and began with it in the hole. The first request of a connection
// that was joined late is believed also when nothing follows: false where the client had
// just begun to pipeline behind an interim answer, and the server, or the
// capture, ends behind its final one.
//
// A PROXY protocol header before the first request is stepped over: its bytes are
// parsed, and the client of the exchange stays that of the TCP connection.
//
// # Not done here
//
// TLS is recognised and counted. A connection that turns to HTTP/2, by its
// preface or by an upgrade, is handed on to Config.HTTP2. Behind any other 101
// or the 2xx to a CONNECT nothing is read any more. Content codings are left as
// they are.
package http1
