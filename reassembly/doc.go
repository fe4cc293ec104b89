// Package reassembly turns TCP segments into the ordered bytes of each
// direction of a connection, and says where bytes were never seen.
//
// An Assembler belongs to one goroutine. It takes Segments in the order in
// which the tap or the file gave them and calls the Handler of the connection
// with contiguous bytes (Data), with holes that can no longer fill (Gap), and
// with the end of each direction (End).
//
// # Order across the two directions
//
// A segment is delivered only after every byte of the other direction that it
// acknowledges was delivered or declared a gap. A handler therefore always sees
// a request before its answer, and the position that a segment acknowledges
// is known: pairing rests on it.
//
// # Holes
//
// A hole is lost once the receiver has acknowledged its end: the receiver had
// the bytes, so only the capture lost them. On the live ring that is decided
// at once, because a copy is in the ring before the packet goes on, so no
// acknowledgement can come before its data. In a capture file an
// acknowledgement may stand before its data, by at most Config.HoldTime and
// Config.HoldSegments.
//
// # What is skipped
//
// A handler may say what it does not want, and a Skipper then keeps it from being
// captured (Assembler.Skip). What was skipped is known to have passed, so it
// is told at once, as a Gap with At.Skipped; any other hole is one as above. A Forecaster
// keeps bodies of answers that have not begun from being captured (Assembler.Forecast);
// how much was left out behind a segment comes with it.
//
// # Several taps
//
// The tap that shows a direction first owns it; a copy from another is counted
// other_interface. A tap that goes on at exactly the next byte becomes the
// owner, and so does one that shows the direction while the owner was silent for
// 200 ms. So the directions of a connection may be on two interfaces, a path may
// change, and an interface may go away.
//
// # Not done here
//
// Checksums are not looked at (they are not valid on the sending side of an
// offload). PAWS is not applied. IP fragments never come here.
package reassembly
