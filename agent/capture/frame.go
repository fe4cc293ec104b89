package capture

import (
	"encoding/binary"
	"strconv"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/shadowtap/shadowtap/reassembly"
)

// Link types that are read, by their numbers in files (www.tcpdump.org/linktypes.html).
const (
	linkNull     = 0
	linkEthernet = 1
	linkRawBSD   = 12 // DLT_RAW of most systems
	linkRawOpen  = 14 // DLT_RAW of OpenBSD
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

const (
	// maxTags bounds the VLAN tags of a frame, maxExtensions the extension
	// headers of an IPv6 packet, as in the tap.
	maxTags       = 3
	maxExtensions = 8

	etherQinQ9100 layers.EthernetType = 0x9100 // used for stacked tags before 802.1ad
)

// class is what becomes of a packet, in the words of the ledger's kernel line.
type class uint8

const (
	notTCP class = iota
	otherPort
	fragment
	unparsable
	noPayload
	captured
	numClasses
)

var classWords = [numClasses]string{"not_tcp", "other_port", "fragment", "unparsable", "no_payload", "captured"}

// packet is what decode found of a selected packet.
type packet struct {
	src, dst         [16]byte
	srcPort, dstPort uint16
	seq, ack         uint32
	flags            reassembly.Flags
	side             reassembly.Side
	// network tells apart the networks inside tunnels; 0 is none.
	network uint32
	// payload is what the file has of the TCP payload, of which the packet
	// had length bytes. It lies in the frame.
	payload []byte
	length  int
}

// decoder decodes frames. It belongs to one goroutine.
type decoder struct {
	ports portSet
	// decapsulate opens tunnels; depth is how many were opened around the
	// packet at hand.
	decapsulate bool
	depth       int
	eth         layers.Ethernet
	tag         layers.Dot1Q
	null        layers.Loopback
	ip4         layers.IPv4
	tcp         layers.TCP
}

// portSet is a set of TCP ports.
type portSet [1 << 16 / 64]uint64

func (s *portSet) add(p uint16)      { s[p/64] |= 1 << (p % 64) }
func (s *portSet) has(p uint16) bool { return s[p/64]&(1<<(p%64)) != 0 }

// linkKnown says whether frames of that link type are read.
func linkKnown(link uint32) bool {
	switch link {
	case linkNull, linkLoop, linkEthernet, linkRawBSD, linkRawOpen, linkRaw, linkSLL, linkSLL2, linkIPv4, linkIPv6:
		return true
	}
	return false
}

// linkName names a link type for people.
func linkName(link uint32) string {
	if link <= 0xff {
		if m := layers.LinkTypeMetadata[link]; m.Name != "" && m.Name != "UnsupportedLinkType" {
			return strconv.Itoa(int(link)) + " (" + m.Name + ")"
		}
	}
	return strconv.Itoa(int(link))
}

// decode reads one frame of the link type, which had wire bytes of which data
// are there, from its link header on. It fills p for the classes captured and
// noPayload.
func (d *decoder) decode(link uint32, data []byte, wire int, p *packet) class {
	d.depth, p.network = 0, 0
	var proto layers.EthernetType
	whole := len(data)
	switch link {
	case linkEthernet:
		if d.eth.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
			return unparsable
		}
		proto, data = d.eth.EthernetType, data[14:]
	case linkNull, linkLoop:
		if d.null.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
			return unparsable
		}
		// AF_INET is 2 everywhere, AF_INET6 differs: Linux, NetBSD and
		// OpenBSD, FreeBSD, Darwin.
		switch d.null.Family {
		case layers.ProtocolFamilyIPv4:
			proto = layers.EthernetTypeIPv4
		case layers.ProtocolFamilyIPv6Linux, layers.ProtocolFamilyIPv6BSD, layers.ProtocolFamilyIPv6FreeBSD, layers.ProtocolFamilyIPv6Darwin:
			proto = layers.EthernetTypeIPv6
		default:
			return notTCP
		}
		data = data[4:]
	case linkSLL:
		if len(data) < 16 {
			return unparsable
		}
		proto, data = layers.EthernetType(binary.BigEndian.Uint16(data[14:])), data[16:]
	case linkSLL2:
		if len(data) < 20 {
			return unparsable
		}
		proto, data = layers.EthernetType(binary.BigEndian.Uint16(data)), data[20:]
	case linkRaw, linkRawBSD, linkRawOpen, linkIPv4, linkIPv6:
		if len(data) == 0 {
			return unparsable
		}
		switch data[0] >> 4 {
		case 4:
			proto = layers.EthernetTypeIPv4
		case 6:
			proto = layers.EthernetTypeIPv6
		default:
			return unparsable
		}
	default:
		return unparsable
	}
	return d.tagged(proto, data, wire-(whole-len(data)), p)
}

// tagged reads what follows a link header: VLAN tags and the packet.
func (d *decoder) tagged(proto layers.EthernetType, data []byte, wire int, p *packet) class {
	for tags := 0; proto == layers.EthernetTypeDot1Q || proto == layers.EthernetTypeQinQ || proto == etherQinQ9100; tags++ {
		if tags == maxTags || d.tag.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
			return unparsable
		}
		proto, data, wire = d.tag.Type, data[4:], wire-4
	}
	switch proto {
	case layers.EthernetTypeIPv4:
		return d.v4(data, wire, p)
	case layers.EthernetTypeIPv6:
		return d.v6(data, wire, p)
	}
	return notTCP
}

// mapped is the prefix of IPv4-mapped addresses (RFC 4291 section 2.5.5.2).
var mapped = [16]byte{10: 0xff, 11: 0xff}

func (d *decoder) v4(data []byte, wire int, p *packet) class {
	if len(data) < 20 || data[0]>>4 != 4 {
		return unparsable
	}
	head := int(data[0]&0xf) * 4
	if head < 20 {
		return unparsable
	}
	// Only the header is shown to the layer: it would cut the payload at a
	// total length of 0 modulo 65536. What it says of malformed options does
	// not matter here, the fields before them are set.
	_ = d.ip4.DecodeFromBytes(data[:min(head, len(data))], gopacket.NilDecodeFeedback)
	if d.ip4.Protocol != layers.IPProtocolTCP {
		if d.mayCarry(d.ip4.Protocol) {
			return d.carried4(data, head, wire, p)
		}
		return notTCP
	}
	if d.ip4.FragOffset != 0 || d.ip4.Flags&layers.IPv4MoreFragments != 0 {
		return fragment
	}
	if total := int(binary.BigEndian.Uint16(data[2:])); total != 0 {
		wire = min(wire, total)
	}
	p.src, p.dst = mapped, mapped
	copy(p.src[12:], d.ip4.SrcIP)
	copy(p.dst[12:], d.ip4.DstIP)
	return d.segment(data, head, wire, p)
}

func (d *decoder) v6(data []byte, wire int, p *packet) class {
	const head = 40
	if len(data) < head || data[0]>>4 != 6 {
		return unparsable
	}
	// A payload length of 0 is a jumbogram (RFC 2675) or Linux's BIG TCP,
	// which does without the jumbo option: then the frame's length counts.
	if n := int(binary.BigEndian.Uint16(data[4:])); n != 0 {
		wire = min(wire, head+n)
	}
	next, off := layers.IPProtocol(data[6]), head
	for walked := 0; walked < maxExtensions && isExtension(next); walked++ {
		if off+8 > wire || off+8 > len(data) {
			return unparsable
		}
		size := 8 + int(data[off+1])*8 // RFC 8200 section 4
		after := layers.IPProtocol(data[off])
		switch next {
		case layers.IPProtocolIPv6Fragment:
			// An atomic fragment (RFC 6946) is a whole packet.
			if binary.BigEndian.Uint16(data[off+2:])&0xfff9 != 0 {
				if after == layers.IPProtocolTCP || isExtension(after) {
					return fragment
				}
				if d.mayCarry(after) {
					return carriedFragment(after, data, off+8, binary.BigEndian.Uint16(data[off+2:])>>3 == 0)
				}
				return notTCP
			}
			size = 8
		case layers.IPProtocolAH:
			size = 8 + int(data[off+1])*4 // RFC 4302 section 2.2
		}
		next, off = after, off+size
	}
	if isExtension(next) {
		return unparsable
	}
	if next != layers.IPProtocolTCP {
		if d.mayCarry(next) {
			return d.carried(next, data, off, wire, p)
		}
		return notTCP
	}
	copy(p.src[:], data[8:24])
	copy(p.dst[:], data[24:40])
	return d.segment(data, off, wire, p)
}

// isExtension says whether an IPv6 next header is one that is walked.
func isExtension(next layers.IPProtocol) bool {
	switch next {
	case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination, layers.IPProtocolIPv6Fragment, layers.IPProtocolAH:
		return true
	}
	return false
}

// segment reads the TCP header that begins at off of a packet with the length
// wire, of which data is there.
func (d *decoder) segment(data []byte, off, wire int, p *packet) class {
	if wire < off+20 || len(data) < off+20 {
		return unparsable
	}
	if len(data) > wire {
		data = data[:wire]
	}
	head := int(data[off+12]>>4) * 4
	if head < 20 || off+head > wire {
		return unparsable
	}
	// The options may be cut off, and receivers ignore options that they can't
	// read (tcp_parse_options of the kernel). The layer returns an error for
	// both, with the fields set.
	begin := min(off+head, len(data))
	t := &d.tcp
	_ = t.DecodeFromBytes(data[off:begin], gopacket.NilDecodeFeedback)
	p.srcPort, p.dstPort = uint16(t.SrcPort), uint16(t.DstPort)
	to, from := d.ports.has(p.dstPort), d.ports.has(p.srcPort)
	switch {
	case to && from:
		p.side = reassembly.SideUnknown
	case to:
		p.side = reassembly.ToServer
	case from:
		p.side = reassembly.ToClient
	default:
		return otherPort
	}
	p.seq, p.ack = t.Seq, t.Ack
	p.flags = reassembly.Flags(data[off+13] & 0x3f)
	p.payload = data[begin:]
	p.length = wire - off - head
	if p.length == 0 && p.flags&(reassembly.SYN|reassembly.FIN|reassembly.RST) == 0 {
		return noPayload
	}
	return captured
}
