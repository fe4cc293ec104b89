package bpf

import (
	"encoding/binary"
	"net/netip"
)

// Builders of packets, from the inside out. Lengths and types are filled in
// unless the struct says otherwise. Checksums stay zero: the tap reads none.

const (
	client4 = "192.0.2.1"
	server4 = "198.51.100.2"
	client6 = "2001:db8::1"
	server6 = "2001:db8:1::2"
	port    = 8080  // the selected port
	peer    = 40000 // the client's
)

type tcpHeader struct {
	src, dst uint16
	seq, ack uint32
	flags    uint8
	options  []byte // length a multiple of 4
	offset   int    // data offset in words; 0: by the options
}

func (h tcpHeader) with(payload []byte) []byte {
	b := make([]byte, 20, 20+len(h.options)+len(payload))
	be := binary.BigEndian
	be.PutUint16(b[0:], h.src)
	be.PutUint16(b[2:], h.dst)
	be.PutUint32(b[4:], h.seq)
	be.PutUint32(b[8:], h.ack)
	offset := h.offset
	if offset == 0 {
		offset = 5 + len(h.options)/4
	}
	b[12] = byte(offset << 4)
	b[13] = h.flags
	be.PutUint16(b[14:], 512) // window
	return append(append(b, h.options...), payload...)
}

type ip4Header struct {
	src, dst string
	proto    uint8 // 0: TCP
	options  []byte
	fragment uint16 // flags and offset
	version  int    // 0: 4
	ihl      int    // in words; 0: by the options
	length   int    // 0: what is there; -1: a field of 0
}

func (h ip4Header) with(payload []byte) []byte {
	b := make([]byte, 20, 20+len(h.options)+len(payload))
	be := binary.BigEndian
	version, ihl, length, proto := h.version, h.ihl, h.length, h.proto
	if version == 0 {
		version = 4
	}
	if ihl == 0 {
		ihl = 5 + len(h.options)/4
	}
	switch length {
	case 0:
		length = 20 + len(h.options) + len(payload)
	case -1:
		length = 0
	}
	if proto == 0 {
		proto = 6
	}
	b[0] = byte(version<<4 | ihl)
	be.PutUint16(b[2:], uint16(length))
	be.PutUint16(b[6:], h.fragment)
	b[8], b[9] = 64, proto
	src, dst := address(h.src, client4).As4(), address(h.dst, server4).As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	return append(append(b, h.options...), payload...)
}

type ip6Header struct {
	src, dst string
	next     uint8 // 0: TCP
	hop      bool  // next is 0, a hop-by-hop header
	version  int   // 0: 6
	length   int   // 0: what is there; -1: a field of 0
}

func (h ip6Header) with(payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	version, length, next := h.version, h.length, h.next
	if version == 0 {
		version = 6
	}
	switch length {
	case 0:
		length = len(payload)
	case -1:
		length = 0
	}
	if next == 0 && !h.hop {
		next = 6
	}
	b[0] = byte(version << 4)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = next, 64
	src, dst := address(h.src, client6).As16(), address(h.dst, server6).As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	return append(b, payload...)
}

func address(s, otherwise string) netip.Addr {
	if s == "" {
		s = otherwise
	}
	return netip.MustParseAddr(s)
}

// extension is a hop-by-hop, routing or destination header of 8*(units+1) bytes.
func extension(next uint8, units int, payload []byte) []byte {
	b := make([]byte, 8*(units+1), 8*(units+1)+len(payload))
	b[0], b[1] = next, byte(units)
	return append(b, payload...)
}

// authentication is an AH of 4*(units+2) bytes (RFC 4302).
func authentication(next uint8, units int, payload []byte) []byte {
	b := make([]byte, 4*(units+2), 4*(units+2)+len(payload))
	b[0], b[1] = next, byte(units)
	return append(b, payload...)
}

// fragment6 is a fragment header; field is offset, reserved bits and M.
func fragment6(next uint8, field uint16, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	b[0] = next
	binary.BigEndian.PutUint16(b[2:], field)
	return append(b, payload...)
}

const (
	typeIP4 = 0x0800
	typeIP6 = 0x86dd
)

// ethernet puts tags of the given types before the packet.
func ethernet(typ uint16, packet []byte, tags ...uint16) []byte {
	b := make([]byte, 12, 18+4*len(tags)+len(packet))
	b[0], b[6] = 2, 2 // locally administered
	b[5], b[11] = 1, 2
	be := binary.BigEndian
	for i, tag := range tags {
		b = be.AppendUint16(b, tag)
		b = be.AppendUint16(b, uint16(100+i))
	}
	b = be.AppendUint16(b, typ)
	return append(b, packet...)
}

// request is what most tests begin with.
func request(flags uint8) tcpHeader {
	return tcpHeader{src: peer, dst: port, seq: 1000, ack: 2000, flags: flags}
}

func response(flags uint8) tcpHeader {
	return tcpHeader{src: port, dst: peer, seq: 2000, ack: 1000, flags: flags}
}

// pattern is n bytes in which each position can be told from its neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13)
	}
	return b
}

// parsed is what the model makes of a packet.
type parsed struct {
	result  Result // NotTCP, Fragment, Unparsable; or whole
	whole   bool
	ev      Event
	payload []byte
}

// model is the parser of tap.bpf.c once more, from the RFCs instead of from the C, as
// an oracle. protocol is that of the skb and decides when there is no link header.
func model(frame []byte, link int, protocol uint16) parsed {
	bad := parsed{result: Unparsable}
	be := binary.BigEndian
	rest := frame
	typ := protocol
	tags := 0
	if link != 0 {
		if len(rest) < 14 {
			return bad
		}
		typ = be.Uint16(rest[12:])
		rest = rest[14:]
		for typ == 0x8100 || typ == 0x88a8 || typ == 0x9100 {
			if tags == 3 || len(rest) < 4 {
				return bad
			}
			typ = be.Uint16(rest[2:])
			rest = rest[4:]
			tags++
		}
	}
	var segment []byte
	ev := Event{VLANTags: uint8(tags)}
	switch typ {
	case typeIP4:
		if len(rest) < 20 || rest[0]>>4 != 4 || rest[0]&15 < 5 {
			return bad
		}
		if rest[9] != 6 {
			return parsed{result: NotTCP}
		}
		if be.Uint16(rest[6:])&0x3fff != 0 {
			return parsed{result: Fragment}
		}
		length, header := int(be.Uint16(rest[2:])), int(rest[0]&15)*4
		if length == 0 || length > len(rest) {
			length = len(rest)
		}
		if length < header {
			return bad
		}
		ev.Src = netip.AddrFrom4([4]byte(rest[12:])).As16()
		ev.Dst = netip.AddrFrom4([4]byte(rest[16:])).As16()
		segment = rest[header:length]
	case typeIP6:
		if len(rest) < 40 || rest[0]>>4 != 6 {
			return bad
		}
		length, next := int(be.Uint16(rest[4:])), rest[6]
		ev.Src, ev.Dst = [16]byte(rest[8:]), [16]byte(rest[24:])
		rest = rest[40:]
		if length == 0 || length > len(rest) {
			length = len(rest)
		}
		rest = rest[:length]
		for n := 0; next != 6; n++ {
			size := 8
			switch next {
			case 0, 43, 60:
			case 51, 44:
			default:
				return parsed{result: NotTCP}
			}
			if n == 8 || len(rest) < 8 {
				return bad
			}
			switch next {
			case 44:
				if be.Uint16(rest[2:])&0xfff9 != 0 {
					switch rest[0] {
					case 6, 0, 43, 44, 51, 60:
						return parsed{result: Fragment}
					}
					return parsed{result: NotTCP}
				}
			case 51:
				size = 4 * (int(rest[1]) + 2)
			default:
				size = 8 * (int(rest[1]) + 1)
			}
			next = rest[0]
			if size > len(rest) {
				// What follows is missing: not TCP if it says so, else cut off.
				switch next {
				case 6, 0, 43, 44, 51, 60:
					return bad
				}
				return parsed{result: NotTCP}
			}
			rest = rest[size:]
		}
		segment = rest
	default:
		return parsed{result: NotTCP}
	}
	if len(segment) < 20 || int(segment[12]>>4)*4 < 20 || int(segment[12]>>4)*4 > len(segment) {
		return bad
	}
	ev.SrcPort, ev.DstPort = be.Uint16(segment[0:]), be.Uint16(segment[2:])
	ev.Seq, ev.Ack = be.Uint32(segment[4:]), be.Uint32(segment[8:])
	ev.Flags = segment[13] & 63
	payload := segment[int(segment[12]>>4)*4:]
	ev.Total = uint32(len(payload))
	return parsed{whole: true, ev: ev, payload: payload}
}
