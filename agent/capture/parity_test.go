package capture

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/bpf"
	"github.com/shadowtap/shadowtap/reassembly"
)

// TestTapParity shows the same random frames to the tap's program and to the
// file decoder: they count them alike and see the same segment in them.
func TestTapParity(t *testing.T) {
	r := newTap(t, bpf.MinRingBytes)
	ring, err := newRing(r.maps.Ring(0))
	if err != nil {
		t.Fatal(err)
	}
	defer ring.close()
	d := newDecoder(80)
	seg := segment6(t, "hello world")
	ext := func(kind, next layers.IPProtocol, words int) []byte {
		h := make([]byte, 8+8*words)
		h[0], h[1] = byte(next), byte(words)
		return ip6(t, kind, append(h, seg...))
	}
	bases := [][]byte{
		ip4(t, "hello world", nil), ip4(t, "", nil),
		ip4(t, "hello world", func(_ *layers.IPv4, l *layers.TCP) { l.DstPort = 81 }),
		ip4(t, "hello world", func(_ *layers.IPv4, l *layers.TCP) { l.SrcPort, l.DstPort = 80, 81 }),
		ip4(t, "hello world", func(i *layers.IPv4, _ *layers.TCP) { i.FragOffset = 9 }),
		ip4(t, "hello world", func(i *layers.IPv4, _ *layers.TCP) { i.Protocol = layers.IPProtocolUDP }),
		ip4(t, "hello world", func(i *layers.IPv4, l *layers.TCP) {
			i.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
			l.Options = []layers.TCPOption{{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}
		}),
		ip6(t, layers.IPProtocolTCP, seg), ext(layers.IPProtocolIPv6HopByHop, layers.IPProtocolTCP, 0),
		ext(layers.IPProtocolIPv6Routing, layers.IPProtocolTCP, 2), ext(layers.IPProtocolIPv6Fragment, layers.IPProtocolTCP, 0),
		ext(layers.IPProtocolAH, layers.IPProtocolTCP, 1), ext(layers.IPProtocolIPv6Destination, layers.IPProtocolIPv6Fragment, 0),
	}
	seen := map[class]int{}
	before := r.counters(t)
	check := func(rt *rapid.T) {
		base := rapid.SampledFrom(bases).Draw(rt, "base")
		tags := rapid.SliceOfN(rapid.SampledFrom([]uint16{0x8100, 0x88a8, 0x9100}), 0, 4).Draw(rt, "tags")
		frame := ether(base, tags...)
		frame = append(frame, make([]byte, rapid.IntRange(0, 30).Draw(rt, "padding"))...)
		r.maps.Control(0).Beat(bpf.Now())
		// Damage a few header bytes, mostly those that steer the walk.
		head := 14 + 4*len(tags)
		for range rapid.IntRange(0, 3).Draw(rt, "changes") {
			i := rapid.IntRange(12, min(len(frame), head+72)-1).Draw(rt, "at")
			frame[i] = rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0, 4, 6, 43, 44, 51, 60, 80, 0x45, 0x46, 0x60, 0x50})).Draw(rt, "byte")
		}
		frame = frame[:rapid.OneOf(rapid.Just(len(frame)), rapid.IntRange(14, len(frame))).Draw(rt, "length")]

		ret, err := r.prog.Run(&ebpf.RunOptions{Data: frame})
		if errors.Is(err, unix.EINVAL) && len(frame) < 14+40 {
			return // the kernel's test run wants a whole IP header
		}
		if err != nil || int32(ret) != -1 {
			rt.Fatalf("run the tap: %d, %v", int32(ret), err)
		}
		var p packet
		c := d.decode(linkEthernet, frame, len(frame), &p)
		seen[c]++
		after := r.counters(t)
		got := ""
		for i := range after.Packets {
			if after.Packets[i] != before.Packets[i] {
				got += bpf.Result(i).String()
			}
		}
		before = after
		if got != classWords[c] {
			rt.Fatalf("the tap counts %s, the file %s: % x", got, classWords[c], frame)
		}
		rec := ring.next()
		defer ring.release()
		if (rec != nil) != (c == captured) {
			rt.Fatalf("record of %d bytes for %s", len(rec), classWords[c])
		}
		if rec == nil {
			return
		}
		var ev bpf.Event
		if err := bpf.Decode(rec, &ev); err != nil {
			rt.Fatal(err)
		}
		if ev.Src != p.src || ev.Dst != p.dst || ev.SrcPort != p.srcPort || ev.DstPort != p.dstPort || ev.Seq != p.seq || ev.Ack != p.ack ||
			reassembly.Flags(ev.Flags) != p.flags || reassembly.Side(ev.Side) != p.side || !bytes.Equal(ev.Payload, p.payload) || int(ev.Total) != p.length {
			rt.Fatalf("the tap has %+v, the file %+v", ev, p)
		}
	}
	// A hundred frames, rapid's default, miss a class now and then.
	for range 20 {
		rapid.Check(t, check)
	}
	for c := range numClasses {
		if seen[c] == 0 {
			t.Errorf("no frame was %s: the test is blind to it", classWords[c])
		}
	}
}
