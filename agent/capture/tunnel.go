package capture

import (
	"encoding/binary"

	"github.com/google/gopacket/layers"
)

// maxTunnels bounds the tunnels around one packet.
const maxTunnels = 3

// The UDP ports that a tunnel's packets go to: RFC 7348 section 5, RFC 8926
// section 3.3. The port that they come from is a hash and may be any.
const (
	portVXLAN  = 4789
	portGeneve = 6081
)

// mayCarry says whether packets of the protocol may be a tunnel's.
func (d *decoder) mayCarry(proto layers.IPProtocol) bool {
	return d.decapsulate && (proto == layers.IPProtocolUDP || proto == layers.IPProtocolGRE)
}

// carried4 is carried for an IPv4 packet with a header of head bytes.
func (d *decoder) carried4(data []byte, head, wire int, p *packet) class {
	proto := d.ip4.Protocol
	if d.ip4.FragOffset != 0 || d.ip4.Flags&layers.IPv4MoreFragments != 0 {
		return carriedFragment(proto, data, head, d.ip4.FragOffset == 0)
	}
	if total := int(binary.BigEndian.Uint16(data[2:])); total != 0 {
		wire = min(wire, total)
	}
	return d.carried(proto, data, head, wire, p)
}

// carriedFragment is the class of a fragment that may be a tunnel's. Only the
// first fragment of a UDP datagram tells the port.
func carriedFragment(proto layers.IPProtocol, data []byte, off int, first bool) class {
	switch {
	case proto == layers.IPProtocolGRE:
		return fragment
	case proto == layers.IPProtocolUDP && first && len(data) >= off+4:
		if to := binary.BigEndian.Uint16(data[off+2:]); to == portVXLAN || to == portGeneve {
			return fragment
		}
	}
	return notTCP
}

// carried reads what a packet of the length wire, of which data is there, has
// behind its IP headers of off bytes: the inner packet of a tunnel, or something
// that is not_tcp.
func (d *decoder) carried(proto layers.IPProtocol, data []byte, off, wire int, p *packet) class {
	if len(data) > wire {
		data = data[:wire]
	}
	data, wire = data[min(off, len(data)):], wire-off
	if proto == layers.IPProtocolGRE {
		return d.gre(data, wire, p)
	}
	const head = 8 // RFC 768
	if len(data) < 4 {
		return notTCP // whose port nobody can know
	}
	to := binary.BigEndian.Uint16(data[2:])
	if to != portVXLAN && to != portGeneve {
		return notTCP
	}
	if len(data) < head {
		return unparsable
	}
	// A length of 0 is a super-packet's (RFC 2675 section 4).
	if n := int(binary.BigEndian.Uint16(data[4:])); n != 0 {
		if n < head {
			return unparsable
		}
		wire = min(wire, n)
		data = data[:min(len(data), wire)]
	}
	data, wire = data[head:], wire-head
	if to == portVXLAN {
		return d.vxlan(data, wire, p)
	}
	return d.geneve(data, wire, p)
}

// vxlan reads RFC 7348 section 5. The group policy extension sets other flags,
// and says nothing of the packet inside.
func (d *decoder) vxlan(data []byte, wire int, p *packet) class {
	const head, hasVNI = 8, 0x08
	if len(data) < head || data[0]&hasVNI == 0 {
		return unparsable
	}
	return d.inside(1, binary.BigEndian.Uint32(data[4:])>>8, layers.EthernetTypeTransparentEthernetBridging, data, head, wire, p)
}

// geneve reads RFC 8926 section 3.4. Options are stepped over, critical ones
// too: they tell the tunnel's end what to do and not where the packet begins.
func (d *decoder) geneve(data []byte, wire int, p *packet) class {
	const head, control = 8, 0x80
	if len(data) < head || data[0]>>6 != 0 {
		return unparsable
	}
	if data[1]&control != 0 {
		return notTCP
	}
	options := int(data[0]&0x3f) * 4
	proto := layers.EthernetType(binary.BigEndian.Uint16(data[2:]))
	return d.inside(2, binary.BigEndian.Uint32(data[4:])>>8, proto, data, head+options, wire, p)
}

// gre reads RFC 2784 with the key and sequence number of RFC 2890. Version 1 is
// PPTP (RFC 2637), whose packets are PPP's.
func (d *decoder) gre(data []byte, wire int, p *packet) class {
	const checksum, routing, hasKey, sequence = 0x80, 0x40, 0x20, 0x10
	head, key := 4, uint32(0)
	if len(data) < head {
		return unparsable
	}
	flags := data[0]
	switch {
	case data[1]&7 == 1:
		return notTCP
	case data[1]&7 != 0 || flags&routing != 0: // RFC 2784 section 2.3
		return unparsable
	}
	if flags&checksum != 0 {
		head += 4
	}
	if flags&hasKey != 0 {
		if len(data) < head+4 {
			return unparsable
		}
		key = binary.BigEndian.Uint32(data[head:])
		head += 4
	}
	if flags&sequence != 0 {
		head += 4
	}
	return d.inside(3, key, layers.EthernetType(binary.BigEndian.Uint16(data[2:])), data, head, wire, p)
}

// inside reads the packet that begins at head of a tunnel's data. kind and id
// name the network that it belongs to.
func (d *decoder) inside(kind, id uint32, proto layers.EthernetType, data []byte, head, wire int, p *packet) class {
	if d.depth == maxTunnels || head > len(data) {
		return unparsable
	}
	d.depth++
	// Which number it is does not matter, only that networks differ in it. A
	// VNI has 24 bits; the kinds stand above them.
	p.network = (p.network<<7 | p.network>>25) ^ kind<<28 ^ id
	data, wire = data[head:], wire-head
	if proto == layers.EthernetTypeTransparentEthernetBridging {
		const ethernet = 14
		if len(data) < ethernet {
			return unparsable
		}
		proto, data, wire = layers.EthernetType(binary.BigEndian.Uint16(data[12:])), data[ethernet:], wire-ethernet
	}
	return d.tagged(proto, data, wire, p)
}
