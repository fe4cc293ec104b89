// Package replay sends captured requests once more, to a candidate or to a
// control, and reads the answers.
//
// In: frozen exchanges, by Submit. Out: an Outcome for each, by Config.Done,
// and counts that balance (Stats). One Replayer serves one experiment and one
// role.
//
// Where a replay connects to is decided by Config.URL alone; nothing of a
// request is ever resolved or dialled. Redirects are not followed and proxies
// of the environment are not asked.
//
// # What is written
//
// Over http the captured bytes of head and body go out as they are, in one
// connection that belongs to one worker, but for:
//
//   - the role header, set and never added (X-Shadow-Test-Role);
//   - hop-by-hop fields (RFC 9110 section 7.6.1): Connection and what it
//     names, Keep-Alive, Proxy-Connection, Proxy-Authorization, TE, Upgrade.
//     Host, Content-Length and Transfer-Encoding stay even when named, as the
//     body's bytes go as captured;
//   - Expect: 100-continue, because the body is sent at once;
//   - trace ids, Host and credentials as Config says.
//
// Over https net/http writes the request: HTTP/1.1 only, fields sorted by name,
// the body framed anew, an HTTP/1.0 request as HTTP/1.1 with Connection: close,
// and so is a request that is tried once more. The target is written as
// received; one that net/http cannot write so is refused.
//
// A request that was captured in HTTP/2 goes over HTTP/2, whatever it could be
// turned into: over http with prior knowledge (RFC 9113 section 3.3), over https
// by ALPN; all others go over HTTP/1. A target that does not speak the
// request's protocol is one that fails (protocol, or closed when it ends the
// connection without a word). The header list goes out in its order, coded
// anew, with the same exceptions and:
//
//   - :authority carries the host; a host field that says the same is left out,
//     one that says something else is refused;
//   - te goes as trailers or not at all, grpc-timeout as captured: it may make
//     the target give up sooner than Timeout does;
//   - padding, priorities and how the body was cut into frames are not kept;
//   - trailers go too, but for the names that a head would lose.
//
// One HTTP/2 connection carries one request at a time, as in HTTP/1, so that
// one answer never waits for another. What the peer sends while it rests, such
// as a PING, is answered with the next request.
//
// gRPC calls are ordinary requests of HTTP/2. Those in which the client sends a
// stream, and requests that a server pushed, are refused.
//
// Only origin-form targets and "*" are replayed. A request that must not be
// replayed (a doubt, another form of target, a head that readers could split
// in different ways) ends as compared with the word refused, and nothing is
// sent. Sampling keeps such requests away; this is the second lock.
//
// # What it asks by itself
//
// Reflect, and nothing else: gRPC server reflection on a connection of its own,
// under the same rules. No captured byte goes with it.
//
// # What it costs
//
// A goroutine and a connection for each replay in flight, kept for IdleTimeout;
// two connections where both protocols are replayed.
// With OwnReplay every connection takes a local port that no other connection
// from the same address can use, whatever its target; a candidate that closes
// after each answer therefore limits the rate to the ports that are free.
//
// # What it does not do
//
// It does not compare, queue, or retry failures, but for one retry of a reused
// connection that the peer had closed, or on which it says that it did not look
// at the request (GOAWAY, REFUSED_STREAM). A 408 that a
// server sends to an idle connection in the very moment in which the next
// request is written is taken for the answer: HTTP/1 has no way to tell.
package replay
