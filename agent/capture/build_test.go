package capture

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/shadowtap/shadowtap/reassembly"
)

// collector is a Sink that keeps what it gets.
type collector struct {
	segs  []reassembly.Segment
	ticks []int64
	// at[i] is how many segments had come at tick i.
	at []int
}

func (c *collector) Segment(s *reassembly.Segment) {
	k := *s
	k.Payload = append([]byte(nil), s.Payload...)
	c.segs = append(c.segs, k)
}

func (c *collector) Tick(now int64) {
	c.ticks = append(c.ticks, now)
	c.at = append(c.at, len(c.segs))
}

func (c *collector) HoleOpen() bool { return false }

// rec is a packet that a test puts into a file. wire 0 means len(data).
type rec struct {
	data []byte
	wire int
	sec  int64
	ns   int64
}

func (r rec) length() uint32 {
	if r.wire == 0 {
		return uint32(len(r.data))
	}
	return uint32(r.wire)
}

// pcapBytes writes a classic file.
func pcapBytes(o binary.AppendByteOrder, magic uint32, link uint32, recs ...rec) []byte {
	b := o.AppendUint32(nil, magic)
	b = o.AppendUint16(b, 2)
	b = o.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = o.AppendUint32(b, 262144)
	b = o.AppendUint32(b, link)
	for _, r := range recs {
		frac := r.ns / 1000
		if magic == 0xa1b23c4d {
			frac = r.ns
		}
		b = o.AppendUint32(b, uint32(r.sec))
		b = o.AppendUint32(b, uint32(frac))
		b = o.AppendUint32(b, uint32(len(r.data)))
		b = o.AppendUint32(b, r.length())
		if magic == 0xa1b2cd34 {
			b = append(b, 1, 2, 3, 4, 5, 6, 7, 8)
		}
		b = append(b, r.data...)
	}
	return b
}

// ngBlock writes a block of a pcapng file, padded to 4 bytes.
func ngBlock(o binary.AppendByteOrder, kind uint32, body []byte) []byte {
	n := uint32((len(body)+3)&^3) + 12
	b := o.AppendUint32(nil, kind)
	b = o.AppendUint32(b, n)
	b = append(b, body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return o.AppendUint32(b, n)
}

// ngSection writes a section header.
func ngSection(o binary.AppendByteOrder) []byte {
	b := o.AppendUint32(nil, 0x1a2b3c4d)
	b = o.AppendUint16(b, 1)
	b = o.AppendUint16(b, 0)
	b = o.AppendUint64(b, 1<<64-1)
	return ngBlock(o, 0x0a0d0d0a, b)
}

// ngDescription writes an interface description; opts are options as
// (code, value) pairs.
func ngDescription(o binary.AppendByteOrder, link uint16, snap uint32, opts ...any) []byte {
	b := o.AppendUint16(nil, link)
	b = o.AppendUint16(b, 0)
	b = o.AppendUint32(b, snap)
	for i := 0; i+1 < len(opts); i += 2 {
		v := opts[i+1].([]byte)
		b = o.AppendUint16(b, uint16(opts[i].(int)))
		b = o.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	if len(opts) > 0 {
		b = append(b, 0, 0, 0, 0)
	}
	return ngBlock(o, 1, b)
}

// ngEnhanced writes an enhanced packet block, ts in the interface's unit.
func ngEnhanced(o binary.AppendByteOrder, iface uint32, ts uint64, r rec) []byte {
	b := o.AppendUint32(nil, iface)
	b = o.AppendUint32(b, uint32(ts>>32))
	b = o.AppendUint32(b, uint32(ts))
	b = o.AppendUint32(b, uint32(len(r.data)))
	b = o.AppendUint32(b, r.length())
	return ngBlock(o, 6, append(b, r.data...))
}

// writeFile puts b into a file of the test.
func writeFile(t testing.TB, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "test.pcap")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// read runs a File with port 80 over b.
func read(t testing.TB, b []byte) (*collector, FileStats, error) {
	t.Helper()
	f, err := OpenFile(FileConfig{Path: writeFile(t, b), Ports: []uint16{80}})
	if err != nil {
		return &collector{}, FileStats{}, err
	}
	c := &collector{}
	err = f.Run(t.Context(), c)
	return c, f.Stats(), err
}

// counts turns the stats into a map without the zeros.
func counts(s FileStats) map[string]uint64 {
	m := map[string]uint64{}
	s.Each(func(w string, n uint64) {
		if n > 0 {
			m[w] = n
		}
	})
	return m
}

// ip4 builds an IPv4 packet with a TCP segment from 10.0.0.1:4000 to
// 10.0.0.2:80.
func ip4(t testing.TB, payload string, change func(*layers.IPv4, *layers.TCP)) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
	tcp := &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 1000, Ack: 2000, ACK: true}
	if change != nil {
		change(ip, tcp)
	}
	return build(t, ip, tcp, gopacket.Payload(payload))
}

// ip6 builds an IPv6 packet around what follows its header.
func ip6(t testing.TB, next layers.IPProtocol, rest []byte) []byte {
	t.Helper()
	src, dst := make([]byte, 16), make([]byte, 16)
	src[0], src[15], dst[0], dst[15] = 0xfd, 1, 0xfd, 2
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: src, DstIP: dst}
	return build(t, ip, gopacket.Payload(rest))
}

// segment6 builds a TCP segment for ip6.
func segment6(t testing.TB, payload string) []byte {
	t.Helper()
	return build(t, &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 1000, Ack: 2000, ACK: true}, gopacket.Payload(payload))
}

func build(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, l...); err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), buf.Bytes()...)
}

// ether puts an Ethernet header with the tags (TPIDs) before an IP packet.
func ether(packet []byte, tags ...uint16) []byte {
	b := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}, 0, 0)[:12]
	for i, t := range tags {
		b = binary.BigEndian.AppendUint16(b, t)
		b = binary.BigEndian.AppendUint16(b, uint16(100+i))
	}
	proto := uint16(0x0800)
	if len(packet) > 0 && packet[0]>>4 == 6 {
		proto = 0x86dd
	}
	b = binary.BigEndian.AppendUint16(b, proto)
	return append(b, packet...)
}
