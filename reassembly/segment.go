package reassembly

// Flags are the TCP flags of a segment, in the bit positions of RFC 9293
// section 3.1.
type Flags uint8

const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Side says which endpoint of a segment is the server.
type Side uint8

const (
	// SideUnknown: neither port nor role tells.
	SideUnknown Side = iota
	// ToServer: the destination is the server.
	ToServer
	// ToClient: the source is the server.
	ToClient
)

// Segment is one TCP segment, or one piece of a super-packet (GSO) cut by the
// tap: the pieces of a packet are segments of their own, with Seq moved, and
// only the last carries FIN and PSH.
//
// A live ring and a capture file give the same Segments.
type Segment struct {
	// Src and Dst are IPv6 addresses; IPv4 is IPv4-mapped.
	Src, Dst [16]byte
	SrcPort  uint16
	DstPort  uint16
	// Tap tells taps apart; Domain the namespaces (0 is the host's).
	Tap    uint16
	Domain uint16
	// Network tells apart the virtual networks of the tunnels that a capture
	// file's packets were in (its use: Assembler.inNetwork); 0 is none.
	Network uint32
	// Seq and Ack as on the wire; Seq moved by the piece's offset.
	Seq, Ack uint32
	Flags    Flags
	// Side is the hint of port and tap role. A SYN overrules it.
	Side Side
	// Time is the tap's time in nanoseconds since the Unix epoch. It may go
	// backwards; order is that of the calls.
	Time int64
	// Lost is how many selected segments the tap's ring could not take so
	// far. Always 0 from files.
	Lost uint64
	// Skipped is how many bytes behind Payload have passed and were not captured
	// (Forecaster).
	Skipped uint32
	// Payload is lent for the call.
	Payload []byte
}
