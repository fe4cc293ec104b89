package capture

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"
)

// newTunnelDecoder is newDecoder with decapsulation.
func newTunnelDecoder(ports ...uint16) *decoder {
	d := newDecoder(ports...)
	d.decapsulate = true
	return d
}

// outer4 puts an IPv4 header before a packet of the protocol.
func outer4(t testing.TB, proto layers.IPProtocol, rest []byte) []byte {
	t.Helper()
	return build(t, &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{192, 0, 2, 2}}, gopacket.Payload(rest))
}

// udp puts a UDP header before rest.
func udp(to uint16, rest []byte) []byte {
	return be(rest, 50000, to, uint16(8+len(rest)), 0)
}

func vxlan(vni uint32, frame []byte) []byte {
	return be(frame, 0x0800, 0, uint16(vni>>8), uint16(vni<<8))
}

// geneve has words of 4 bytes as options.
func geneve(vni uint32, proto layers.EthernetType, words int, rest []byte) []byte {
	return be(append(make([]byte, 4*words), rest...), uint16(words)<<8, uint16(proto), uint16(vni>>8), uint16(vni<<8))
}

// gre has a checksum, a key and a sequence number where flags say so.
func gre(flags uint16, key uint32, proto layers.EthernetType, rest []byte) []byte {
	words := []uint16{flags, uint16(proto)}
	if flags&0x8000 != 0 {
		words = append(words, 0xabcd, 0)
	}
	if flags&0x2000 != 0 {
		words = append(words, uint16(key>>16), uint16(key))
	}
	if flags&0x1000 != 0 {
		words = append(words, 0, 9)
	}
	return be(rest, words...)
}

func TestDecapsulate(t *testing.T) {
	const (
		isUDP, isGRE = layers.IPProtocolUDP, layers.IPProtocolGRE
		v4, v6       = layers.EthernetTypeIPv4, layers.EthernetTypeIPv6
		bridged      = layers.EthernetTypeTransparentEthernetBridging
	)
	in4 := ip4(t, "hello", nil)
	in6 := ip6(t, layers.IPProtocolTCP, segment6(t, "hello"))
	other := ip4(t, "hello", func(_ *layers.IPv4, l *layers.TCP) { l.DstPort = 81 })
	piece := ip4(t, "hello", func(i *layers.IPv4, _ *layers.TCP) { i.Flags = layers.IPv4MoreFragments })
	alter := func(b []byte, f func([]byte)) []byte { b = slices.Clone(b); f(b); return b }
	overUDP := func(to uint16, b []byte) []byte { return outer4(t, isUDP, udp(to, b)) }
	nest := func(n int) []byte {
		b := in4
		for range n {
			b = outer4(t, isGRE, gre(0, 0, v4, b))
		}
		return b
	}
	for _, c := range []struct {
		name   string
		packet []byte
		want   class
		off    class // without decapsulation
	}{
		{"vxlan", overUDP(4789, vxlan(7, ether(in4))), captured, notTCP},
		{"vxlan v6 in v6", ip6(t, isUDP, udp(4789, vxlan(7, ether(in6)))), captured, notTCP},
		{"vxlan, tagged inside", overUDP(4789, vxlan(7, ether(in4, 0x88a8, 0x8100, 0x8100))), captured, notTCP},
		{"vxlan, four tags inside", overUDP(4789, vxlan(7, ether(in4, 0x88a8, 0x8100, 0x8100, 0x8100))), unparsable, notTCP},
		{"vxlan, group policy", overUDP(4789, alter(vxlan(7, ether(in4)), func(b []byte) { b[0] |= 0x80 })), captured, notTCP},
		{"vxlan, other port inside", overUDP(4789, vxlan(7, ether(other))), otherPort, notTCP},
		{"vxlan, arp inside", overUDP(4789, vxlan(7, append(ether(nil)[:12], 8, 6, 0, 1))), notTCP, notTCP},
		{"vxlan, udp inside", overUDP(4789, vxlan(7, ether(overUDP(53, []byte("x"))))), notTCP, notTCP},
		{"vxlan, fragment inside", overUDP(4789, vxlan(7, ether(piece))), fragment, notTCP},
		{"vxlan without its flag", overUDP(4789, alter(vxlan(7, ether(in4)), func(b []byte) { b[0] = 0 })), unparsable, notTCP},
		{"vxlan cut in its header", overUDP(4789, vxlan(7, nil)[:7]), unparsable, notTCP},
		{"vxlan cut in the frame", overUDP(4789, vxlan(7, ether(in4)[:13])), unparsable, notTCP},
		{"vxlan cut in the packet", overUDP(4789, vxlan(7, ether(in4[:39]))), unparsable, notTCP},
		{"vxlan from the port and not to it", outer4(t, isUDP, be(vxlan(7, ether(in4)), 4789, 50000, 8+8+14+45, 0)), notTCP, notTCP},
		{"udp", overUDP(53, []byte("x")), notTCP, notTCP},
		{"udp cut before its port", outer4(t, isUDP, []byte{1, 2, 3}), notTCP, notTCP},
		{"udp cut behind its port", outer4(t, isUDP, be(nil, 1, 4789)), unparsable, notTCP},
		{"udp length below its header", outer4(t, isUDP, alter(udp(4789, vxlan(7, ether(in4))), func(b []byte) { b[4], b[5] = 0, 7 })), unparsable, notTCP},
		{"udp length 0", outer4(t, isUDP, alter(udp(4789, vxlan(7, ether(in4))), func(b []byte) { b[4], b[5] = 0, 0 })), captured, notTCP},
		{"geneve", overUDP(6081, geneve(7, bridged, 0, ether(in4))), captured, notTCP},
		{"geneve, 252 bytes of options", overUDP(6081, geneve(7, bridged, 63, ether(in6))), captured, notTCP},
		{"geneve, a packet without Ethernet", overUDP(6081, geneve(7, v6, 1, in6)), captured, notTCP},
		{"geneve, critical option", overUDP(6081, alter(geneve(7, v4, 1, in4), func(b []byte) { b[1] |= 0x40 })), captured, notTCP},
		{"geneve, control packet", overUDP(6081, alter(geneve(7, v4, 1, in4), func(b []byte) { b[1] |= 0x80 })), notTCP, notTCP},
		{"geneve of another version", overUDP(6081, alter(geneve(7, v4, 1, in4), func(b []byte) { b[0] |= 0x40 })), unparsable, notTCP},
		{"geneve cut in its options", overUDP(6081, geneve(7, bridged, 63, nil)[:259]), unparsable, notTCP},
		{"geneve with something else", overUDP(6081, geneve(7, 0x1234, 0, in4)), notTCP, notTCP},
		{"gre v4", outer4(t, isGRE, gre(0, 0, v4, in4)), captured, notTCP},
		{"gre v6 in v6", ip6(t, isGRE, gre(0, 0, v6, in6)), captured, notTCP},
		{"gre behind an extension header", ip6(t, layers.IPProtocolIPv6Destination, append([]byte{47, 0, 1, 4, 0, 0, 0, 0}, gre(0, 0, v4, in4)...)), captured, notTCP},
		{"gre, checksum", outer4(t, isGRE, gre(0x8000, 0, v4, in4)), captured, notTCP},
		{"gre, key", outer4(t, isGRE, gre(0x2000, 7, v4, in4)), captured, notTCP},
		{"gre, sequence number", outer4(t, isGRE, gre(0x1000, 0, v4, in4)), captured, notTCP},
		{"gre, all three", outer4(t, isGRE, gre(0xb000, 7, v6, in6)), captured, notTCP},
		{"gre, Ethernet", outer4(t, isGRE, gre(0x2000, 7, bridged, ether(in4, 0x8100))), captured, notTCP},
		{"gre, routing", outer4(t, isGRE, gre(0x4000, 0, v4, in4)), unparsable, notTCP},
		{"gre, PPTP", outer4(t, isGRE, gre(0x3001, 7, 0x880b, in4)), notTCP, notTCP},
		{"gre of another version", outer4(t, isGRE, gre(0x0002, 0, v4, in4)), unparsable, notTCP},
		{"gre, keep-alive", outer4(t, isGRE, gre(0, 0, 0, nil)), notTCP, notTCP},
		{"gre cut", outer4(t, isGRE, []byte{0, 0, 8}), unparsable, notTCP},
		{"gre cut in its key", outer4(t, isGRE, gre(0x2000, 7, v4, nil)[:6]), unparsable, notTCP},
		{"gre cut behind its header", outer4(t, isGRE, gre(0xb000, 7, v4, nil)), unparsable, notTCP},
		{"three tunnels", nest(3), captured, notTCP},
		{"four tunnels", nest(4), unparsable, notTCP},
		{"vxlan in gre in geneve", overUDP(6081, geneve(1, bridged, 2, ether(outer4(t, isGRE, gre(0x2000, 2, v4, overUDP(4789, vxlan(3, ether(in4)))))))), captured, notTCP},
		{"no tunnel", in4, captured, captured},
		{"first fragment of a vxlan packet", alter(overUDP(4789, vxlan(7, ether(in4))), func(b []byte) { b[6] = 0x20 }), fragment, notTCP},
		{"first fragment of a geneve packet", alter(overUDP(6081, geneve(7, v4, 0, in4)), func(b []byte) { b[6] = 0x20 }), fragment, notTCP},
		{"first fragment of another udp packet", alter(overUDP(53, vxlan(7, ether(in4))), func(b []byte) { b[6] = 0x20 }), notTCP, notTCP},
		{"later fragment of a udp packet", alter(overUDP(4789, vxlan(7, ether(in4))), func(b []byte) { b[7] = 9 }), notTCP, notTCP},
		{"later fragment of a gre packet", alter(outer4(t, isGRE, gre(0, 0, v4, in4)), func(b []byte) { b[7] = 9 }), fragment, notTCP},
		{"first v6 fragment of a vxlan packet", ip6(t, layers.IPProtocolIPv6Fragment, append([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp(4789, vxlan(7, ether(in4)))...)), fragment, notTCP},
		{"later v6 fragment of a udp packet", ip6(t, layers.IPProtocolIPv6Fragment, append([]byte{17, 0, 0, 9, 0, 0, 0, 7}, udp(4789, vxlan(7, ether(in4)))...)), notTCP, notTCP},
	} {
		t.Run(c.name, func(t *testing.T) {
			frame := ether(c.packet)
			var p packet
			if got := newDecoder(80).decode(linkEthernet, frame, len(frame), &p); got != c.off {
				t.Errorf("not opened: class %s, want %s", classWords[got], classWords[c.off])
			}
			d := newTunnelDecoder(80)
			if got := d.decode(linkEthernet, frame, len(frame), &p); got != c.want {
				t.Fatalf("class %s, want %s", classWords[got], classWords[c.want])
			}
			if c.want == captured && (string(p.payload) != "hello" || p.length != 5 || p.seq != 1000 || p.ack != 2000 || p.srcPort != 4000) {
				t.Fatalf("decoded %+v", p)
			}
		})
	}
}

// A payload in a tunnel ends where the lengths inside say, and what a snap
// length cut off is known.
func TestDecapsulateLengths(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 6000)
	inner := ip4(t, string(long[:60000]), nil)
	inner[2], inner[3] = 0, 0 // a super-packet before its segmentation
	whole := ether(outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(7, ether(inner)))))
	for _, c := range []struct {
		name         string
		frame        []byte
		wire, n, len int
	}{
		{"whole", whole, len(whole), 60000, 60000},
		{"padded behind the outer packet", append(slices.Clone(whole), "padding"...), len(whole) + 7, 60000, 60000},
		{"padded behind a packet whose own length says nothing", append(ether(outer4(t, layers.IPProtocolGRE, gre(0, 0, layers.EthernetTypeIPv4, inner))), "padding"...), 14 + 20 + 4 + len(inner) + 7, 60000, 60000},
		{"snap length", whole[:14+20+8+8+14+40+9], len(whole), 9, 60000},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p packet
			if got := newTunnelDecoder(80).decode(linkEthernet, c.frame, c.wire, &p); got != captured || len(p.payload) != c.n || p.length != c.len {
				t.Errorf("%s, %d bytes of %d, want %d of %d", classWords[got], len(p.payload), p.length, c.n, c.len)
			}
		})
	}
	// Padding inside the inner frame, and a UDP length that is shorter than the packet.
	padded := ether(outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(7, append(ether(ip4(t, "hello", nil)), "padding"...)))))
	var p packet
	if got := newTunnelDecoder(80).decode(linkEthernet, padded, len(padded), &p); got != captured || string(p.payload) != "hello" {
		t.Errorf("padded inside: %s, %q", classWords[got], p.payload)
	}
	binary.BigEndian.PutUint16(padded[14+20+4:], 8+8+14+40+2)
	if got := newTunnelDecoder(80).decode(linkEthernet, padded, len(padded), &p); got != captured || string(p.payload) != "he" || p.length != 2 {
		t.Errorf("short by the UDP length: %s, %q of %d", classWords[got], p.payload, p.length)
	}
}

// Networks differ in their number, by kind, VNI or key, and nesting; what is in
// no tunnel has 0, also behind a packet that was.
func TestNetworks(t *testing.T) {
	in := ip4(t, "x", nil)
	d := newTunnelDecoder(80)
	seen := map[uint32]string{}
	for _, c := range []struct {
		name   string
		packet []byte
	}{
		{"vxlan 0", outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(0, ether(in))))},
		{"vxlan 1", outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(1, ether(in))))},
		{"vxlan 0xffffff", outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(0xffffff, ether(in))))},
		{"geneve 1", outer4(t, layers.IPProtocolUDP, udp(portGeneve, geneve(1, layers.EthernetTypeIPv4, 0, in)))},
		{"geneve 2", outer4(t, layers.IPProtocolUDP, udp(portGeneve, geneve(2, layers.EthernetTypeIPv4, 0, in)))},
		{"gre", outer4(t, layers.IPProtocolGRE, gre(0, 0, layers.EthernetTypeIPv4, in))},
		{"gre 1", outer4(t, layers.IPProtocolGRE, gre(0x2000, 1, layers.EthernetTypeIPv4, in))},
		{"vxlan 1 in vxlan 1", outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(1, ether(outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(1, ether(in))))))))},
		{"none", in},
	} {
		var p packet
		frame := ether(c.packet)
		if got := d.decode(linkEthernet, frame, len(frame), &p); got != captured {
			t.Fatalf("%s: %s", c.name, classWords[got])
		}
		if before, ok := seen[p.network]; ok || (p.network == 0) != (c.name == "none") {
			t.Errorf("%s has the number %d, as %q", c.name, p.network, before)
		}
		seen[p.network] = c.name
	}
}

// The byte behind a VNI is reserved, and ignored on receipt (RFC 7348 section 5,
// RFC 8926 section 3.4): it makes no other network.
func TestReservedByte(t *testing.T) {
	in := ip4(t, "x", nil)
	d := newTunnelDecoder(80)
	for _, c := range []struct {
		port uint16
		head []byte
	}{{portVXLAN, vxlan(7, ether(in))}, {portGeneve, geneve(7, layers.EthernetTypeIPv4, 0, in)}} {
		var plain, other packet
		frame := ether(outer4(t, layers.IPProtocolUDP, udp(c.port, c.head)))
		d.decode(linkEthernet, frame, len(frame), &plain)
		frame[14+20+8+7] = 0xff
		if got := d.decode(linkEthernet, frame, len(frame), &other); got != captured || other.network != plain.network {
			t.Errorf("port %d: %s, network %d, without it %d", c.port, classWords[got], other.network, plain.network)
		}
	}
}

// TestDecapsulateAgainstGopacket builds tunnels with gopacket's own layers.
func TestDecapsulateAgainstGopacket(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(rt, "payload")
		b := ip4(t, string(payload), nil)
		for range rapid.IntRange(1, maxTunnels).Draw(rt, "tunnels") {
			vni := rapid.Uint32Range(0, 1<<24-1).Draw(rt, "vni")
			ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{192, 0, 2, 2}}
			switch rapid.IntRange(0, 1).Draw(rt, "kind") {
			case 0:
				b = build(t, ip, &layers.UDP{SrcPort: 50000, DstPort: portVXLAN}, &layers.VXLAN{ValidIDFlag: true, VNI: vni,
					GBPExtension: rapid.Bool().Draw(rt, "gbp"), GBPGroupPolicyID: rapid.Uint16().Draw(rt, "group")}, gopacket.Payload(ether(b)))
			default:
				g := &layers.GRE{
					Protocol: layers.EthernetTypeIPv4, ChecksumPresent: rapid.Bool().Draw(rt, "checksum"),
					KeyPresent: rapid.Bool().Draw(rt, "key"), Key: vni, SeqPresent: rapid.Bool().Draw(rt, "sequence"),
				}
				if rapid.Bool().Draw(rt, "bridged") {
					g.Protocol, b = layers.EthernetTypeTransparentEthernetBridging, ether(b)
				}
				ip.Protocol = layers.IPProtocolGRE
				b = build(t, ip, g, gopacket.Payload(b))
			}
		}
		frame := ether(b)
		var p packet
		if c := newTunnelDecoder(80).decode(linkEthernet, frame, len(frame), &p); c != captured || !bytes.Equal(p.payload, payload) {
			rt.Fatalf("%s, payload %x, want %x", classWords[c], p.payload, payload)
		}
	})
}

// FuzzDecapsulate: no tunnel makes the decoder panic, give a payload that isn't
// in the frame, or see more than with the tunnel closed where there is none.
func FuzzDecapsulate(f *testing.F) {
	in4 := ip4(f, "hello", nil)
	in6 := ip6(f, layers.IPProtocolTCP, segment6(f, "hello"))
	f.Add(outer4(f, layers.IPProtocolUDP, udp(portVXLAN, vxlan(7, ether(in4, 0x8100)))), 0)
	f.Add(outer4(f, layers.IPProtocolUDP, udp(portGeneve, geneve(7, layers.EthernetTypeTransparentEthernetBridging, 63, ether(in6)))), 10)
	f.Add(outer4(f, layers.IPProtocolGRE, gre(0xb000, 7, layers.EthernetTypeIPv6, in6)), 70000)
	f.Add(ip6(f, layers.IPProtocolGRE, gre(0x2000, 7, layers.EthernetTypeTransparentEthernetBridging, ether(outer4(f, layers.IPProtocolUDP, udp(portVXLAN, vxlan(7, ether(in4))))))), 0)
	f.Add(ip6(f, layers.IPProtocolIPv6Fragment, append([]byte{17, 0, 0, 1, 0, 0, 0, 7}, udp(portVXLAN, vxlan(7, ether(in4)))...)), 0)
	open, closed := newTunnelDecoder(80), newDecoder(80)
	f.Fuzz(func(t *testing.T, data []byte, more int) {
		var p, plain packet
		wire := len(data) + int(uint16(more))
		c := open.decode(linkRaw, data, wire, &p)
		if without := closed.decode(linkRaw, data, wire, &plain); without != notTCP && without != c {
			t.Fatalf("%s, and without decapsulation %s", classWords[c], classWords[without])
		}
		if open.depth > maxTunnels {
			t.Fatalf("%d tunnels were opened", open.depth)
		}
		if c != captured && c != noPayload {
			return
		}
		if p.length < 0 || p.length > wire || len(p.payload) > p.length {
			t.Fatalf("a payload of %d bytes of %d in a packet of %d of %d", len(p.payload), p.length, len(data), wire)
		}
		if len(p.payload) > 0 && !bytes.Contains(data, p.payload) {
			t.Fatal("the payload is not in the packet")
		}
		if p.srcPort != 80 && p.dstPort != 80 {
			t.Fatalf("ports %d and %d were selected", p.srcPort, p.dstPort)
		}
	})
}

func BenchmarkDecapsulate(b *testing.B) {
	d := newTunnelDecoder(80)
	frame := ether(outer4(b, layers.IPProtocolUDP, udp(portVXLAN, vxlan(7, ether(ip4(b, string(make([]byte, 1400)), nil))))))
	var p packet
	b.ReportAllocs()
	for b.Loop() {
		d.decode(linkEthernet, frame, len(frame), &p)
	}
}

// A file's packets are counted once each, with the tunnels open and closed, and
// the segments inside carry their network.
func TestFileDecapsulates(t *testing.T) {
	in := func(vni uint32) rec {
		return rec{data: ether(outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(vni, ether(ip4(t, "hello", nil))))))}
	}
	b := pcapBytes(binary.LittleEndian, 0xa1b2c3d4, 1, in(1), in(2), rec{data: ether(ip4(t, "plain", nil))},
		rec{data: ether(outer4(t, layers.IPProtocolUDP, udp(portVXLAN, []byte("short"))))}, rec{data: ether(outer4(t, layers.IPProtocolUDP, udp(53, nil)))})
	for _, c := range []struct {
		open    bool
		payload string
		want    map[string]uint64
	}{
		{true, "hello hello plain", map[string]uint64{"captured": 3, "unparsable": 1, "not_tcp": 1}},
		{false, "plain", map[string]uint64{"captured": 1, "not_tcp": 4}},
	} {
		f, err := OpenFile(FileConfig{Path: writeFile(t, b), Ports: []uint16{80}, Decapsulate: c.open})
		if err != nil {
			t.Fatal(err)
		}
		got := &collector{}
		if err := f.Run(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		s := f.Stats()
		if n := counts(s); payloads(got) != c.payload || !maps.Equal(n, c.want) || s.Packets != 5 {
			t.Errorf("decapsulate %v: %q, %v of %d packets, want %q, %v", c.open, payloads(got), n, s.Packets, c.payload, c.want)
		}
		if c.open && (got.segs[0].Network == 0 || got.segs[0].Network == got.segs[1].Network || got.segs[2].Network != 0) {
			t.Errorf("networks %d, %d, and %d without a tunnel", got.segs[0].Network, got.segs[1].Network, got.segs[2].Network)
		}
	}
}
