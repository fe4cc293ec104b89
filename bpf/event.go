package bpf

import (
	"encoding/binary"
	"errors"
	"unsafe"
)

// TCP flags of an event, in the bit positions of RFC 9293 section 3.1.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG

	flagMask = 1<<iota - 1
)

// What an event's ports tell about its direction; the numbers are those of
// reassembly.Side.
const (
	SideUnknown  = iota // both ports are selected
	SideToServer        // the destination port is selected
	SideToClient        // the source port is selected
)

// Event is a ring record, decoded: one TCP segment or one piece of one.
type Event struct {
	// Src and Dst are IPv6 addresses; IPv4 is IPv4-mapped.
	Src, Dst [16]byte
	SrcPort  uint16
	DstPort  uint16
	// Tap and Domain are those of the TapConfig.
	Tap    uint16
	Domain uint16
	// Seq and Ack as on the wire. Seq is that of this piece's first byte, or
	// of the SYN.
	Seq, Ack uint32
	// Flags are the six flags above; ECE and CWR are left out. Of several
	// pieces only the first carries SYN, only the last FIN, PSH and RST.
	Flags uint8
	// Side is SideUnknown, SideToServer or SideToClient.
	Side uint8
	// VLANTags is the number of VLAN tags that were in the packet's bytes.
	VLANTags uint8
	// VLANMetadata says that there was one beside the packet's bytes.
	VLANMetadata bool
	// Time is the tap's clock, that of [Now], in nanoseconds.
	Time int64
	// Lost is how many selected segments with payload, SYN, FIN or RST this
	// record's ring could not take so far.
	Lost uint64
	// Offset is where Payload begins in the payload of the packet, and Total
	// how long that is, both in bytes. A packet in one piece has Offset 0
	// and Total len(Payload).
	Offset, Total uint32
	// Skipped is how many bytes of the packet behind Payload have passed and were
	// not copied, because nobody wants them (Maps.Forecast). No piece of the packet follows then.
	Skipped uint32
	// Payload is lent: it lies in the record that was decoded.
	Payload []byte
}

// eventHeader is struct tap_event of tap.h.
type eventHeader struct {
	Time    uint64
	Lost    uint64
	Src     [16]byte
	Dst     [16]byte
	Seq     uint32
	Ack     uint32
	SrcPort uint16
	DstPort uint16
	Tap     uint16
	Domain  uint16
	Offset  uint32
	Len     uint32
	Total   uint32
	Flags   uint8
	Side    uint8
	VLAN    uint8
	Rest    uint8
}

const (
	eventHeaderLen = int(unsafe.Sizeof(eventHeader{}))
	vlanMetadata   = 0x80
)

var (
	errEventShort  = errors.New("decode event: record is shorter than its header")
	errEventLen    = errors.New("decode event: payload length exceeds the record")
	errEventOffset = errors.New("decode event: piece lies outside the packet")
	errEventSide   = errors.New("decode event: unknown side")
	errEventRest   = errors.New("decode event: what follows the piece is neither copied nor left out, or it is not the first")
)

// Decode reads the ring record rec into ev. Every field of ev is set; Payload
// is a part of rec and valid as long as that is. The error is one that the
// program of this package never causes: a record too short for its header or
// payload, a piece that lies outside its packet, or one that leaves nothing out of
// it though it says so, or is not the first; ev is then unchanged.
// Decode allocates nothing.
func Decode(rec []byte, ev *Event) error {
	if len(rec) < eventHeaderLen {
		return errEventShort
	}
	h := rec[:eventHeaderLen:eventHeaderLen]
	le := binary.LittleEndian
	n, off, total := le.Uint32(h[68:]), le.Uint32(h[64:]), le.Uint32(h[72:])
	flags, side, vlan, rest := h[76], h[77], h[78], h[79]
	switch {
	case uint64(n) > uint64(len(rec)-eventHeaderLen):
		return errEventLen
	case uint64(off)+uint64(n) > uint64(total), n == 0 && total != 0 && rest == 0:
		return errEventOffset
	case side > SideToClient:
		return errEventSide
	case rest > 1, rest == 1 && (off != 0 || n == total):
		return errEventRest
	}
	seq := le.Uint32(h[48:]) + off
	flags &= flagMask
	if off != 0 && flags&SYN != 0 {
		// The SYN stands before the first byte (RFC 9293 section 3.4).
		seq++
		flags &^= SYN
	}
	if off+n != total {
		flags &^= FIN | PSH | RST
	}
	// One by one: a composite literal is built aside and copied.
	ev.Src = [16]byte(h[16:32])
	ev.Dst = [16]byte(h[32:48])
	ev.SrcPort = le.Uint16(h[56:])
	ev.DstPort = le.Uint16(h[58:])
	ev.Tap = le.Uint16(h[60:])
	ev.Domain = le.Uint16(h[62:])
	ev.Seq = seq
	ev.Ack = le.Uint32(h[52:])
	ev.Flags = flags
	ev.Side = side
	ev.VLANTags = vlan &^ vlanMetadata
	ev.VLANMetadata = vlan&vlanMetadata != 0
	ev.Time = int64(le.Uint64(h))
	ev.Lost = le.Uint64(h[8:])
	ev.Offset = off
	ev.Total = total
	ev.Skipped = 0
	if rest != 0 {
		ev.Skipped = total - off - n
	}
	ev.Payload = rec[eventHeaderLen : eventHeaderLen+int(n) : eventHeaderLen+int(n)]
	return nil
}
