package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly"
)

func newDecoder(ports ...uint16) *decoder {
	d := &decoder{}
	for _, p := range ports {
		d.ports.add(p)
	}
	return d
}

// be prefixes b with the hexadecimal 16-bit words.
func be(b []byte, words ...uint16) []byte {
	var h []byte
	for _, w := range words {
		h = binary.BigEndian.AppendUint16(h, w)
	}
	return append(h, b...)
}

func TestDecodeLinks(t *testing.T) {
	v4 := ip4(t, "hello", nil)
	v6 := ip6(t, layers.IPProtocolTCP, segment6(t, "hello"))
	for _, c := range []struct {
		name string
		link uint32
		data []byte
		want class
	}{
		{"ethernet v4", 1, ether(v4), captured},
		{"ethernet v6", 1, ether(v6), captured},
		{"one tag", 1, ether(v4, 0x8100), captured},
		{"802.1ad", 1, ether(v4, 0x88a8, 0x8100), captured},
		{"old stacked tag", 1, ether(v4, 0x9100, 0x8100), captured},
		{"three tags", 1, ether(v6, 0x88a8, 0x8100, 0x8100), captured},
		{"four tags", 1, ether(v4, 0x8100, 0x8100, 0x8100, 0x8100), unparsable},
		{"tag cut", 1, ether(v4, 0x8100)[:16], unparsable},
		{"ethernet cut", 1, ether(v4)[:13], unparsable},
		{"arp", 1, append(ether(nil)[:12], 0x08, 0x06, 0, 1), notTCP},
		{"802.3 length", 1, append(ether(nil)[:12], 0, 3, 0xaa, 0xaa, 3), notTCP},
		{"null little-endian", 0, append([]byte{2, 0, 0, 0}, v4...), captured},
		{"null big-endian", 0, append([]byte{0, 0, 0, 2}, v4...), captured},
		{"null v6 linux", 0, append([]byte{10, 0, 0, 0}, v6...), captured},
		{"null v6 netbsd", 0, append([]byte{24, 0, 0, 0}, v6...), captured},
		{"null v6 freebsd", 0, append([]byte{28, 0, 0, 0}, v6...), captured},
		{"loop v6 darwin", 108, append([]byte{0, 0, 0, 30}, v6...), captured},
		{"null other family", 0, append([]byte{7, 0, 0, 0}, v4...), notTCP},
		{"null no family", 0, append([]byte{7, 7, 7, 7}, v4...), unparsable},
		{"null cut", 0, []byte{2, 0}, unparsable},
		{"sll v4", 113, be(v4, 0, 1, 6, 1, 2, 3, 0, 0x0800), captured},
		{"sll lying address length", 113, be(v4, 0, 1, 0xffff, 1, 2, 3, 0, 0x0800), captured},
		{"sll tagged", 113, be(v4, 0, 1, 6, 1, 2, 3, 0, 0x8100, 5, 0x0800), captured},
		{"sll v6", 113, be(v6, 0, 1, 6, 1, 2, 3, 0, 0x86dd), captured},
		{"sll cut", 113, be(v4, 0, 1, 6, 1, 2, 3, 0, 0x0800)[:15], unparsable},
		{"sll2 v4", 276, be(v4, 0x0800, 0, 0, 1, 1, 6, 0, 0, 0, 0), captured},
		{"sll2 v6", 276, be(v6, 0x86dd, 0, 0, 1, 1, 6, 0, 0, 0, 0), captured},
		{"sll2 cut", 276, be(v4, 0x0800, 0, 0, 1, 1, 6, 0, 0, 0, 0)[:19], unparsable},
		{"raw v4", 101, v4, captured},
		{"raw v6", 101, v6, captured},
		{"raw bsd", 12, v4, captured},
		{"raw openbsd", 14, v6, captured},
		{"ipv4", 228, v4, captured},
		{"ipv6", 229, v6, captured},
		{"raw neither", 101, []byte{0x50}, unparsable},
		{"raw empty", 101, nil, unparsable},
		{"ppp", 9, v4, unparsable},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDecoder(80)
			var p packet
			if got := d.decode(c.link, c.data, len(c.data), &p); got != c.want {
				t.Fatalf("class %s, want %s", classWords[got], classWords[c.want])
			}
			if c.want == captured && (string(p.payload) != "hello" || p.length != 5 || p.seq != 1000 || p.ack != 2000 || p.srcPort != 4000) {
				t.Fatalf("decoded %+v", p)
			}
		})
	}
}

func TestDecodeClasses(t *testing.T) {
	flags := func(f func(*layers.TCP)) []byte { return ip4(t, "", func(_ *layers.IPv4, l *layers.TCP) { f(l) }) }
	alter := func(b []byte, f func([]byte)) []byte { b = slices.Clone(b); f(b); return b }
	seg := segment6(t, "hello")
	ext := func(kind, next layers.IPProtocol, words int, b []byte) []byte {
		h := make([]byte, 8+8*words)
		h[0], h[1] = byte(next), byte(words)
		return ip6(t, kind, append(h, b...))
	}
	frag := func(next layers.IPProtocol, off uint16) []byte {
		h := []byte{byte(next), 0, 0, 0, 0, 0, 0, 7}
		binary.BigEndian.PutUint16(h[2:], off)
		return ip6(t, layers.IPProtocolIPv6Fragment, append(h, seg...))
	}
	// chain has n destination option headers before the segment.
	chain := func(n int) []byte {
		b := seg
		next := layers.IPProtocolTCP
		for range n {
			b = append([]byte{byte(next), 0, 1, 4, 0, 0, 0, 0}, b...)
			next = layers.IPProtocolIPv6Destination
		}
		return ip6(t, next, b)
	}
	for _, c := range []struct {
		name   string
		packet []byte
		want   class
	}{
		{"data", ip4(t, "x", nil), captured},
		{"pure ack", ip4(t, "", nil), noPayload},
		{"psh ack", flags(func(l *layers.TCP) { l.PSH = true }), noPayload},
		{"syn", flags(func(l *layers.TCP) { l.SYN = true }), captured},
		{"fin", flags(func(l *layers.TCP) { l.FIN = true }), captured},
		{"rst", flags(func(l *layers.TCP) { l.RST = true }), captured},
		{"other port", ip4(t, "x", func(_ *layers.IPv4, l *layers.TCP) { l.DstPort = 81 }), otherPort},
		{"udp", ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) { i.Protocol = layers.IPProtocolUDP }), notTCP},
		{"ip in ip", ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) { i.Protocol = layers.IPProtocolIPv4 }), notTCP},
		{"first fragment", ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) { i.Flags = layers.IPv4MoreFragments }), fragment},
		{"later fragment", ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) { i.FragOffset = 100 }), fragment},
		{"udp fragment", ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) { i.FragOffset = 100; i.Protocol = layers.IPProtocolUDP }), notTCP},
		{"don't fragment", ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) { i.Flags = layers.IPv4DontFragment }), captured},
		{"ip options", ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) {
			i.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
		}), captured},
		{"ip header too short", alter(ip4(t, "x", nil), func(b []byte) { b[0] = 0x44 }), unparsable},
		{"ip header too long", alter(ip4(t, "x", nil), func(b []byte) { b[0] = 0x4f }), unparsable},
		{"ip length below headers", alter(ip4(t, "x", nil), func(b []byte) { b[2], b[3] = 0, 30 }), unparsable},
		{"tcp header too short", alter(ip4(t, "x", nil), func(b []byte) { b[32] = 0x40 }), unparsable},
		{"tcp header longer than packet", alter(ip4(t, "x", nil), func(b []byte) { b[32] = 0xf0 }), unparsable},
		{"broken tcp option", alter(ip4(t, "x", func(_ *layers.IPv4, l *layers.TCP) {
			l.Options = []layers.TCPOption{{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}
		}), func(b []byte) { b[41] = 77 }), captured},
		{"v6 hop-by-hop", ext(layers.IPProtocolIPv6HopByHop, layers.IPProtocolTCP, 0, seg), captured},
		{"v6 routing", ext(layers.IPProtocolIPv6Routing, layers.IPProtocolTCP, 2, seg), captured},
		{"v6 destination", ext(layers.IPProtocolIPv6Destination, layers.IPProtocolTCP, 1, seg), captured},
		{"v6 authentication", ip6(t, layers.IPProtocolAH, append(append([]byte{6, 4}, make([]byte, 22)...), seg...)), captured},
		{"v6 esp", ext(layers.IPProtocolESP, layers.IPProtocolTCP, 0, seg), notTCP},
		{"v6 no next", ip6(t, layers.IPProtocolNoNextHeader, nil), notTCP},
		{"v6 atomic fragment", frag(layers.IPProtocolTCP, 0), captured},
		{"v6 first fragment", frag(layers.IPProtocolTCP, 1), fragment},
		{"v6 later fragment", frag(layers.IPProtocolTCP, 8), fragment},
		{"v6 udp fragment", frag(layers.IPProtocolUDP, 8), notTCP},
		{"v6 eight extensions", chain(8), captured},
		{"v6 nine extensions", chain(9), unparsable},
		{"v6 extension beyond the end", ext(layers.IPProtocolIPv6Routing, layers.IPProtocolTCP, 2, nil), unparsable},
		{"v6 version 4", alter(ip6(t, layers.IPProtocolTCP, seg), func(b []byte) { b[0] = 0x45 }), unparsable},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDecoder(80)
			var p packet
			// The link says what the packet is, so that a wrong version is seen.
			link := ether(c.packet)
			if c.name == "v6 version 4" {
				link[12], link[13] = 0x86, 0xdd
			}
			if got := d.decode(linkEthernet, link, len(link), &p); got != c.want {
				t.Fatalf("class %s, want %s", classWords[got], classWords[c.want])
			}
		})
	}
}

func TestDecodeFields(t *testing.T) {
	d := newDecoder(80, 81)
	var p packet
	all := ip4(t, "abc", func(_ *layers.IPv4, l *layers.TCP) {
		l.SrcPort, l.DstPort = 80, 9
		l.FIN, l.SYN, l.RST, l.PSH, l.URG, l.ECE, l.CWR = true, true, true, true, true, true, true
		l.Seq, l.Ack = 0xfffffffe, 0x80000000
	})
	if c := d.decode(linkRaw, all, len(all), &p); c != captured {
		t.Fatalf("class %s", classWords[c])
	}
	want := packet{
		src:     [16]byte{10: 0xff, 0xff, 10, 0, 0, 1},
		dst:     [16]byte{10: 0xff, 0xff, 10, 0, 0, 2},
		srcPort: 80, dstPort: 9, seq: 0xfffffffe, ack: 0x80000000, side: reassembly.ToClient,
		flags:   reassembly.FIN | reassembly.SYN | reassembly.RST | reassembly.PSH | reassembly.ACK | reassembly.URG,
		payload: []byte("abc"), length: 3,
	}
	if fmt.Sprint(p) != fmt.Sprint(want) {
		t.Errorf("decoded %+v\nwant    %+v", p, want)
	}
	for _, c := range []struct {
		src, dst layers.TCPPort
		want     reassembly.Side
	}{{9, 80, reassembly.ToServer}, {81, 9, reassembly.ToClient}, {80, 81, reassembly.SideUnknown}} {
		b := ip4(t, "x", func(_ *layers.IPv4, l *layers.TCP) { l.SrcPort, l.DstPort = c.src, c.dst })
		if d.decode(linkRaw, b, len(b), &p); p.side != c.want {
			t.Errorf("ports %d to %d: side %d, want %d", c.src, c.dst, p.side, c.want)
		}
	}
}

// TestDecodeLengths: the payload ends where the IP header says, or where the
// frame does when that is less or when the header says nothing.
func TestDecodeLengths(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789"), 10000)
	v4big := func(n int) []byte { // total length 0, as BIG TCP has it
		b := append(ip4(t, "", nil), big[:n]...)
		b[2], b[3] = 0, 0
		return b
	}
	v6big := func(n int, jumbo bool) []byte {
		s := append(segment6(t, ""), big[:n]...)
		next := layers.IPProtocolTCP
		if jumbo {
			s = append([]byte{6, 0, 0xc2, 4, 0, 1, 0x86, 0xb4 + 8}, s...)
			next = layers.IPProtocolIPv6HopByHop
		}
		b := append(ip6(t, next, nil), s...)
		b[4], b[5] = 0, 0
		return b
	}
	hop := ip6(t, layers.IPProtocolIPv6HopByHop, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, segment6(t, "hello")...))
	lying := ip4(t, "hello", nil)
	lying[2], lying[3] = 0x7f, 0xff
	for _, c := range []struct {
		name   string
		packet []byte
		wire   int // added to the packet's length
		want   []byte
		length int
	}{
		{"padded frame", append(ip4(t, "hello", nil), "padding"...), 0, []byte("hello"), 5},
		{"padding only", append(ip4(t, "", nil), "padding"...), 0, nil, 0},
		{"v6 padded", append(ip6(t, layers.IPProtocolTCP, segment6(t, "hello")), "padding"...), 0, []byte("hello"), 5},
		{"v6 hop-by-hop padded", append(slices.Clone(hop), "padding"...), 0, []byte("hello"), 5},
		{"length beyond the frame", lying, 0, []byte("hello"), 5},
		{"snap length", ip4(t, "hello world", nil)[:45], 6, []byte("hello"), 11},
		{"snap length before the payload", ip4(t, "hello", nil)[:40], 5, nil, 5},
		{"snap length in the options", ip4(t, "hello", func(_ *layers.IPv4, l *layers.TCP) {
			l.Options = []layers.TCPOption{{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}
		})[:44], 13, nil, 5},
		{"total length 0", v4big(100000), 0, big, 100000},
		{"total length 0, a multiple of 65536", v4big(65536 - 40 + 5), 0, big[:65501], 65501},
		{"v6 length 0", v6big(100000, false), 0, big, 100000},
		{"v6 jumbo option", v6big(100000, true), 0, big, 100000},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDecoder(80)
			var p packet
			e := ether(c.packet)
			got := d.decode(linkEthernet, e, len(e)+c.wire, &p)
			if want := map[bool]class{true: captured, false: noPayload}[c.length > 0]; got != want {
				t.Fatalf("class %s, want %s", classWords[got], classWords[want])
			}
			if !bytes.Equal(p.payload, c.want) || p.length != c.length {
				t.Fatalf("payload of %d bytes of %d, want %d of %d", len(p.payload), p.length, len(c.want), c.length)
			}
		})
	}
}

// TestDecodeAgainstGopacket builds random packets and compares with gopacket's
// own packet reader, where that is right.
func TestDecodeAgainstGopacket(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "payload")
		tcp := &layers.TCP{
			SrcPort: layers.TCPPort(rapid.SampledFrom([]int{80, 81, 4000, 65535}).Draw(rt, "src")),
			DstPort: layers.TCPPort(rapid.SampledFrom([]int{80, 443, 1}).Draw(rt, "dst")),
			Seq:     rapid.Uint32().Draw(rt, "seq"), Ack: rapid.Uint32().Draw(rt, "ack"),
			SYN: rapid.Bool().Draw(rt, "syn"), ACK: rapid.Bool().Draw(rt, "ackflag"), FIN: rapid.Bool().Draw(rt, "fin"),
			RST: rapid.Bool().Draw(rt, "rst"), PSH: rapid.Bool().Draw(rt, "psh"), URG: rapid.Bool().Draw(rt, "urg"),
		}
		for range rapid.IntRange(0, 3).Draw(rt, "options") {
			n := rapid.IntRange(0, 8).Draw(rt, "optlen")
			tcp.Options = append(tcp.Options, layers.TCPOption{OptionType: 30, OptionLength: uint8(n + 2), OptionData: make([]byte, n)})
		}
		var l []gopacket.SerializableLayer
		eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6)}
		l = append(l, eth)
		next := &eth.EthernetType
		for range rapid.IntRange(0, 3).Draw(rt, "tags") {
			q := &layers.Dot1Q{VLANIdentifier: uint16(rapid.IntRange(0, 4095).Draw(rt, "vlan"))}
			*next, next = layers.EthernetTypeDot1Q, &q.Type
			l = append(l, q)
		}
		var src, dst []byte
		if rapid.Bool().Draw(rt, "v6") {
			*next = layers.EthernetTypeIPv6
			src, dst = rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "srcip"), rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "dstip")
			l = append(l, &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolTCP, SrcIP: src, DstIP: dst})
		} else {
			*next = layers.EthernetTypeIPv4
			src, dst = rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(rt, "srcip"), rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(rt, "dstip")
			l = append(l, &layers.IPv4{Version: 4, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: dst})
		}
		frame := build(t, append(l, tcp, gopacket.Payload(payload))...)
		frame = append(frame, make([]byte, rapid.IntRange(0, 20).Draw(rt, "padding"))...)

		g := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		want := g.Layer(layers.LayerTypeTCP).(*layers.TCP)
		net := g.NetworkLayer().NetworkFlow()

		d := newDecoder(80)
		var p packet
		c := d.decode(linkEthernet, frame, len(frame), &p)
		if tcp.SrcPort != 80 && tcp.DstPort != 80 {
			if c != otherPort {
				rt.Fatalf("class %s, want other_port", classWords[c])
			}
			return
		}
		if bare := len(payload) == 0 && !tcp.SYN && !tcp.FIN && !tcp.RST; bare != (c == noPayload) || !bare && c != captured {
			rt.Fatalf("class %s", classWords[c])
		}
		var f reassembly.Flags
		for i, b := range []bool{want.FIN, want.SYN, want.RST, want.PSH, want.ACK, want.URG} {
			if b {
				f |= 1 << i
			}
		}
		if !bytes.Equal(p.payload, want.Payload) || p.length != len(want.Payload) || p.seq != want.Seq || p.ack != want.Ack || p.flags != f ||
			p.srcPort != uint16(want.SrcPort) || p.dstPort != uint16(want.DstPort) ||
			!bytes.HasSuffix(p.src[:], net.Src().Raw()) || !bytes.HasSuffix(p.dst[:], net.Dst().Raw()) {
			rt.Fatalf("decoded %+v\nwant %+v", p, want)
		}
	})
}

// FuzzDecode: no frame makes the decoder panic or give a payload that isn't in
// the frame.
func FuzzDecode(f *testing.F) {
	v4 := ip4(f, "hello", nil)
	v6 := ip6(f, layers.IPProtocolIPv6HopByHop, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, segment6(f, "hello")...))
	f.Add(uint32(1), ether(v4, 0x88a8, 0x8100), 0)
	f.Add(uint32(1), ether(v6), 10)
	f.Add(uint32(1), append(ether(v4), "padding"...), 0)
	f.Add(uint32(0), append([]byte{2, 0, 0, 0}, v4...), 0)
	f.Add(uint32(113), be(v4, 0, 1, 6, 1, 2, 3, 0, 0x0800), 0)
	f.Add(uint32(276), be(v6, 0x86dd, 0, 0, 1, 1, 6, 0, 0, 0, 0), 70000)
	f.Add(uint32(101), v6, 0)
	d := newDecoder(80)
	f.Fuzz(func(t *testing.T, link uint32, data []byte, more int) {
		var p packet
		wire := len(data) + int(uint16(more))
		c := d.decode(link, data, wire, &p)
		if c != captured && c != noPayload {
			return
		}
		if p.length < 0 || p.length > wire || len(p.payload) > p.length {
			t.Fatalf("a payload of %d bytes of %d in a frame of %d of %d", len(p.payload), p.length, len(data), wire)
		}
		if len(p.payload) > 0 && !bytes.Contains(data, p.payload) {
			t.Fatal("the payload is not in the frame")
		}
		if c == noPayload && p.length != 0 {
			t.Fatal("no payload has a length")
		}
		if p.srcPort != 80 && p.dstPort != 80 {
			t.Fatalf("ports %d and %d were selected", p.srcPort, p.dstPort)
		}
	})
}

func TestDecodeAllocatesNothing(t *testing.T) {
	d := newDecoder(80)
	frame := ether(ip4(t, "hello", func(_ *layers.IPv4, l *layers.TCP) {
		for range 5 {
			l.Options = append(l.Options, layers.TCPOption{OptionType: 30, OptionLength: 4, OptionData: []byte{0, 0}})
		}
	}))
	var p packet
	if n := testing.AllocsPerRun(100, func() { d.decode(linkEthernet, frame, len(frame), &p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	d = newTunnelDecoder(80)
	frame = ether(outer4(t, layers.IPProtocolUDP, udp(portVXLAN, vxlan(7, frame))))
	if n := testing.AllocsPerRun(100, func() { d.decode(linkEthernet, frame, len(frame), &p) }); n != 0 || len(p.payload) != 5 {
		t.Errorf("in a tunnel: %v allocations, payload %q", n, p.payload)
	}
}

func BenchmarkDecode(b *testing.B) {
	d := newDecoder(80)
	frame := ether(ip4(b, string(make([]byte, 1400)), nil))
	var p packet
	b.ReportAllocs()
	for b.Loop() {
		d.decode(linkEthernet, frame, len(frame), &p)
	}
}
