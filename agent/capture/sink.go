package capture

import "github.com/shadowtap/shadowtap/reassembly"

// Sink takes the segments of one shard. All calls of one Sink come from one
// goroutine.
type Sink interface {
	// Segment takes the next segment. The Segment and its payload are lent
	// for the call.
	Segment(*reassembly.Segment)
	// Tick says what time it is, in nanoseconds since the Unix epoch. Live
	// calls it at least every 100 ms, also when nothing comes; File calls it
	// with the time of each packet that is 100 ms or more later than the last
	// call, before that packet's segment, and at the end. A file's time never
	// goes backwards here.
	Tick(now int64)
	// HoleOpen says whether an undecided hole is waiting for the other
	// direction's ACK. Live asks after each batch and has the tap pass pure
	// ACKs while it is so. A file has its pure ACKs anyway.
	HoleOpen() bool
}
