package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// recordClasses are those of copy() in tap.bpf.c.
var recordClasses = []int{40, 424, 1512, 2984, 4520, 9128, 16296, 32680, 65576}

var ethernetBoth = TapConfig{LinkHeader: 14, Direction: Both}

func TestEvent(t *testing.T) {
	m := newMaps(t, MapsConfig{Rings: 2})
	tt := newTap(t, m, TapConfig{Tap: 7, Domain: 3, LinkHeader: 14, Direction: Both}, port)
	body := pattern(700)

	from := Now()
	ev := tt.one(ethernet(typeIP4, ip4Header{}.with(tcpHeader{
		src: peer, dst: port, seq: 0xfffffff0, ack: 0x01020304, flags: ACK | PSH | 0xc0,
	}.with(body))))
	if ev.Time < from || ev.Time > Now() {
		t.Errorf("Time %d is not between %d and %d", ev.Time, from, Now())
	}
	ev.Time = 0
	want := Event{
		Src: netip.MustParseAddr(client4).As16(), Dst: netip.MustParseAddr(server4).As16(),
		SrcPort: peer, DstPort: port, Tap: 7, Domain: 3, Seq: 0xfffffff0, Ack: 0x01020304,
		Flags: ACK | PSH, Side: SideToServer, Total: 700, Payload: body,
	}
	sameEvent(t, ev, want)

	ev = tt.one(ethernet(typeIP6, ip6Header{src: server6, dst: client6}.with(response(ACK|FIN).with(body[:3]))))
	ev.Time = 0
	want = Event{
		Src: netip.MustParseAddr(server6).As16(), Dst: netip.MustParseAddr(client6).As16(),
		SrcPort: port, DstPort: peer, Tap: 7, Domain: 3, Seq: 2000, Ack: 1000,
		Flags: ACK | FIN, Side: SideToClient, Total: 3, Payload: body[:3],
	}
	sameEvent(t, ev, want)
}

func sameEvent(t testing.TB, got, want Event) {
	t.Helper()
	if !bytes.Equal(got.Payload, want.Payload) {
		t.Errorf("payload is %d bytes %x, want %d bytes %x", len(got.Payload), got.Payload, len(want.Payload), want.Payload)
	}
	got.Payload, want.Payload = nil, nil
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("event is\n%s, want\n%s", g, w)
	}
}

// Every payload size around the borders of the record classes, and the longest
// frame that Program.Test takes; each in the shortest record that holds it.
func TestPayloadSizes(t *testing.T) {
	tt := newTap(t, newMaps(t, MapsConfig{}), ethernetBoth, port)
	sizes := []int{1, 2, 3, 7, 8, 9, 3400}
	for _, c := range recordClasses {
		if c < 3400 {
			sizes = append(sizes, c-1, c, c+1)
		}
	}
	for _, n := range sizes {
		body := pattern(n)
		tt.only(Captured, ethernet(typeIP4, ip4Header{}.with(request(ACK).with(body))))
		rec, err := tt.readers[0].Read()
		if err != nil {
			t.Fatal(err)
		}
		var ev Event
		if err := Decode(rec.RawSample, &ev); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ev.Payload, body) || ev.Offset != 0 || int(ev.Total) != n {
			t.Errorf("%d bytes: got %d at %d of %d", n, len(ev.Payload), ev.Offset, ev.Total)
		}
		class, _ := slices.BinarySearch(recordClasses, n)
		if want := eventHeaderLen + recordClasses[class]; len(rec.RawSample) != want {
			t.Errorf("%d bytes: record of %d bytes, want %d", n, len(rec.RawSample), want)
		}
		tt.events()
	}
}

// TestParse: each row is a request with the payload "hello"; the event must be
// that request, or the result must be the row's.
func TestParse(t *testing.T) {
	tt := newTap(t, newMaps(t, MapsConfig{}), ethernetBoth, port)
	seg := request(ACK).with([]byte("hello"))
	options := func(n int) []byte { return bytes.Repeat([]byte{1}, n) } // no-operation
	trailer := []byte("TRAILER IN THE FRAME")
	chain := func(n int) []byte { // n extension headers
		b := seg
		next := uint8(6)
		for range n {
			b = extension(next, 0, b)
			next = 60
		}
		return b
	}
	// The first n bytes of an IPv4 packet. In a tag, because Program.Test takes no Ethernet frame
	// that is too short for the IP header that its type promises.
	cut := func(n int) []byte { return ethernet(typeIP4, ip4Header{}.with(seg), 0x8100)[:18+n] }
	for _, c := range []struct {
		name  string
		frame []byte
		want  Result
		tags  uint8
	}{
		{"ip4", ethernet(typeIP4, ip4Header{}.with(seg)), Captured, 0},
		{"ip4 options 4", ethernet(typeIP4, ip4Header{options: options(4)}.with(seg)), Captured, 0},
		{"ip4 options 40", ethernet(typeIP4, ip4Header{options: options(40)}.with(seg)), Captured, 0},
		{"ip4 don't fragment", ethernet(typeIP4, ip4Header{fragment: 0x4000}.with(seg)), Captured, 0},
		{"ip4 evil bit", ethernet(typeIP4, ip4Header{fragment: 0x8000}.with(seg)), Captured, 0},
		{"tcp options 40", ethernet(typeIP4, ip4Header{}.with(tcpHeader{
			src: peer, dst: port, seq: 1000, ack: 2000, flags: ACK, options: options(40)}.with([]byte("hello")))), Captured, 0},
		{"padded", append(ethernet(typeIP4, ip4Header{}.with(seg)), trailer...), Captured, 0},
		{"ip4 length 0", ethernet(typeIP4, ip4Header{length: -1}.with(seg)), Captured, 0},
		{"ip4 length beyond the frame", ethernet(typeIP4, ip4Header{length: 1400}.with(seg)), Captured, 0},
		{"one tag", ethernet(typeIP4, ip4Header{}.with(seg), 0x8100), Captured, 1},
		{"two tags", ethernet(typeIP4, ip4Header{}.with(seg), 0x88a8, 0x8100), Captured, 2},
		{"three tags", ethernet(typeIP6, ip6Header{}.with(seg), 0x9100, 0x88a8, 0x8100), Captured, 3},
		{"ip6", ethernet(typeIP6, ip6Header{}.with(seg)), Captured, 0},
		{"ip6 padded", append(ethernet(typeIP6, ip6Header{}.with(seg)), trailer...), Captured, 0},
		{"ip6 length 0", ethernet(typeIP6, ip6Header{length: -1}.with(seg)), Captured, 0},
		{"ip6 length beyond the frame", ethernet(typeIP6, ip6Header{length: 1400}.with(seg)), Captured, 0},
		{"ip6 hop by hop", ethernet(typeIP6, ip6Header{hop: true}.with(extension(6, 0, seg))), Captured, 0},
		{"ip6 hop by hop, padded", append(ethernet(typeIP6, ip6Header{hop: true}.with(extension(6, 0, seg))), trailer...), Captured, 0},
		{"ip6 jumbo", ethernet(typeIP6, ip6Header{hop: true, length: -1}.with(extension(6, 0, seg))), Captured, 0},
		{"ip6 routing", ethernet(typeIP6, ip6Header{next: 43}.with(extension(6, 2, seg))), Captured, 0},
		{"ip6 destination, long", ethernet(typeIP6, ip6Header{next: 60}.with(extension(6, 255, seg))), Captured, 0},
		{"ip6 authentication", ethernet(typeIP6, ip6Header{next: 51}.with(authentication(6, 4, seg))), Captured, 0},
		{"ip6 atomic fragment", ethernet(typeIP6, ip6Header{next: 44}.with(fragment6(6, 0, seg))), Captured, 0},
		{"ip6 atomic fragment, reserved bits", ethernet(typeIP6, ip6Header{next: 44}.with(fragment6(6, 6, seg))), Captured, 0},
		{"ip6 six kinds", ethernet(typeIP6, ip6Header{hop: true}.with(extension(60, 1, extension(43, 0, extension(51, 3,
			authentication(44, 2, fragment6(60, 0, extension(6, 0, seg)))))))), Captured, 0},
		{"ip6 eight headers", ethernet(typeIP6, ip6Header{next: 60}.with(chain(8))), Captured, 0},

		{"ip6 nine headers", ethernet(typeIP6, ip6Header{next: 60}.with(chain(9))), Unparsable, 0},
		{"four tags", ethernet(typeIP4, ip4Header{}.with(seg), 0x88a8, 0x8100, 0x8100, 0x8100), Unparsable, 0},
		{"tag cut off", ethernet(0x8100, []byte{0, 1}), Unparsable, 0},
		{"ip4 cut off", cut(19), Unparsable, 0},
		{"ip4 only", cut(20), Unparsable, 0},
		{"tcp cut off", cut(39), Unparsable, 0},
		{"ip4 version 5", ethernet(typeIP4, ip4Header{version: 5}.with(seg)), Unparsable, 0},
		{"ip4 version 6", ethernet(typeIP4, ip4Header{version: 6}.with(seg)), Unparsable, 0},
		{"ip4 header of 16 bytes", ethernet(typeIP4, ip4Header{ihl: 4}.with(seg)), Unparsable, 0},
		{"ip4 length shorter than its header", ethernet(typeIP4, ip4Header{length: 19}.with(seg)), Unparsable, 0},
		{"ip4 length shorter than its options", ethernet(typeIP4, ip4Header{options: options(8), length: 27}.with(seg)), Unparsable, 0},
		{"ip4 length ends in the tcp header", ethernet(typeIP4, ip4Header{length: 39}.with(seg)), Unparsable, 0},
		{"ip4 options beyond the frame", ethernet(typeIP4, ip4Header{ihl: 15}.with(seg)), Unparsable, 0},
		{"tcp header of 16 bytes", ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: peer, dst: port, offset: 4}.with([]byte("hello")))), Unparsable, 0},
		{"tcp options beyond the datagram", ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: peer, dst: port, offset: 7}.with([]byte("hello")))), Unparsable, 0},
		{"tcp options in the padding", append(ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: peer, dst: port, offset: 7}.with(nil))), trailer...), Unparsable, 0},
		{"ip6 version 4", ethernet(typeIP6, ip6Header{version: 4}.with(seg)), Unparsable, 0},
		{"ip6 cut off", ethernet(typeIP6, ip6Header{}.with(seg)[:39], 0x8100), Unparsable, 0},
		{"ip6 length ends in the tcp header", ethernet(typeIP6, ip6Header{length: 19}.with(seg)), Unparsable, 0},
		{"ip6 extension beyond the datagram", ethernet(typeIP6, ip6Header{next: 60}.with(extension(6, 0, nil)[:7])), Unparsable, 0},
		{"ip6 extension longer than the datagram", ethernet(typeIP6, ip6Header{next: 60, length: 8}.with(append([]byte{6, 2}, seg...))), Unparsable, 0},

		{"ip4 first fragment", ethernet(typeIP4, ip4Header{fragment: 0x2000}.with(seg)), Fragment, 0},
		{"ip4 last fragment", ethernet(typeIP4, ip4Header{fragment: 1}.with(seg)), Fragment, 0},
		{"ip4 fragment at the highest offset", ethernet(typeIP4, ip4Header{fragment: 0x1000}.with(seg)), Fragment, 0},
		{"ip6 first fragment", ethernet(typeIP6, ip6Header{next: 44}.with(fragment6(6, 1, seg))), Fragment, 0},
		{"ip6 last fragment", ethernet(typeIP6, ip6Header{next: 44}.with(fragment6(6, 8, seg))), Fragment, 0},
		{"ip6 fragment that begins with an extension", ethernet(typeIP6, ip6Header{next: 44}.with(fragment6(60, 1, seg))), Fragment, 0},

		{"udp", ethernet(typeIP4, ip4Header{proto: 17}.with(seg)), NotTCP, 0},
		{"udp fragment", ethernet(typeIP4, ip4Header{proto: 17, fragment: 0x2000}.with(seg)), NotTCP, 0},
		{"udp over ip6", ethernet(typeIP6, ip6Header{next: 17}.with(seg)), NotTCP, 0},
		{"udp behind an extension", ethernet(typeIP6, ip6Header{next: 60}.with(extension(17, 0, seg))), NotTCP, 0},
		{"ip6 udp fragment", ethernet(typeIP6, ip6Header{next: 44}.with(fragment6(17, 1, seg))), NotTCP, 0},
		{"ip6 no next header", ethernet(typeIP6, ip6Header{next: 59}.with(nil)), NotTCP, 0},
		{"ip6 encrypted", ethernet(typeIP6, ip6Header{next: 50}.with(seg)), NotTCP, 0},
		{"arp", ethernet(0x0806, make([]byte, 28)), NotTCP, 0},
		{"mpls", ethernet(0x8847, ip4Header{}.with(seg)), NotTCP, 0},
		{"llc", ethernet(38, make([]byte, 38)), NotTCP, 0},
		{"arp in a tag", ethernet(0x0806, make([]byte, 28), 0x8100), NotTCP, 0},
		{"ethernet only", ethernet(0x0806, nil), NotTCP, 0},
		{"ip4 in a tag only", ethernet(typeIP4, nil, 0x8100), Unparsable, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tt := *tt
			tt.TB = t
			if c.want != Captured {
				tt.gets(c.want, c.frame)
				return
			}
			ev := tt.one(c.frame)
			if string(ev.Payload) != "hello" || ev.Total != 5 || ev.Seq != 1000 || ev.Ack != 2000 ||
				ev.SrcPort != peer || ev.DstPort != port || ev.Flags != ACK || ev.VLANTags != c.tags || ev.VLANMetadata {
				t.Errorf("event is %+v, payload %q", ev, ev.Payload)
			}
		})
	}
}

// TestNoLinkHeader: without a link header the skb's protocol decides. Program.Test
// takes that from where Ethernet has it, which is the source address here.
func TestNoLinkHeader(t *testing.T) {
	tt := newTap(t, newMaps(t, MapsConfig{}), TapConfig{LinkHeader: 0, Direction: Both}, port)
	seg := request(ACK).with([]byte("hello"))
	if ev := tt.one(ip4Header{src: "8.0.0.1"}.with(seg)); string(ev.Payload) != "hello" {
		t.Errorf("ip4: payload %q", ev.Payload)
	}
	// The type's place is byte 12 of the packet: the fifth of the address.
	if ev := tt.one(ip6Header{src: "2001:db8:86dd::1"}.with(seg)); string(ev.Payload) != "hello" {
		t.Errorf("ip6: payload %q", ev.Payload)
	}
	tt.gets(Unparsable, ip4Header{src: "8.0.0.1", version: 6}.with(seg))
	tt.gets(NotTCP, ip4Header{src: "8.6.0.1"}.with(seg)) // ARP
}

// TestDirection: which of the hooks takes which packet, and what it says of
// the side.
func TestDirection(t *testing.T) {
	type want struct {
		result Result
		side   uint8
	}
	const other, second = 9999, 9090
	for _, c := range []struct {
		src, dst                  uint16
		requests, responses, both want
	}{
		{peer, port, want{Captured, SideToServer}, want{OtherDirection, 0}, want{Captured, SideToServer}},
		{port, peer, want{OtherDirection, 0}, want{Captured, SideToClient}, want{Captured, SideToClient}},
		{port, second, want{Captured, SideUnknown}, want{Captured, SideUnknown}, want{Captured, SideUnknown}},
		{port, port, want{Captured, SideUnknown}, want{Captured, SideUnknown}, want{Captured, SideUnknown}},
		{peer, other, want{OtherPort, 0}, want{OtherPort, 0}, want{OtherPort, 0}},
		{other, peer, want{OtherPort, 0}, want{OtherPort, 0}, want{OtherPort, 0}},
		{0, 0, want{OtherPort, 0}, want{OtherPort, 0}, want{OtherPort, 0}},
		{65535, 65535, want{OtherPort, 0}, want{OtherPort, 0}, want{OtherPort, 0}},
		// 8080 and these differ in one bit of the bitmap's word or index.
		{peer, port ^ 1, want{OtherPort, 0}, want{OtherPort, 0}, want{OtherPort, 0}},
		{peer, port ^ 64, want{OtherPort, 0}, want{OtherPort, 0}, want{OtherPort, 0}},
		{peer, port ^ 32768, want{OtherPort, 0}, want{OtherPort, 0}, want{OtherPort, 0}},
	} {
		for direction, want := range map[Direction]want{Requests: c.requests, Responses: c.responses, Both: c.both} {
			tt := newTap(t, newMaps(t, MapsConfig{}), TapConfig{LinkHeader: 14, Direction: direction}, port, second)
			frame := ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: c.src, dst: c.dst, flags: ACK}.with([]byte("x"))))
			tt.beat()
			if got := tt.send(frame); got != want.result {
				t.Errorf("%d to %d, direction %d: %s, want %s", c.src, c.dst, direction, got, want.result)
				continue
			}
			for _, ev := range tt.events() {
				if ev.Side != want.side {
					t.Errorf("%d to %d, direction %d: side %d, want %d", c.src, c.dst, direction, ev.Side, want.side)
				}
			}
		}
	}
}

// TestPorts: ports change while the program is loaded.
func TestPorts(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	tt := newTap(t, m, ethernetBoth)
	to := func(p uint16) []byte {
		return ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: peer, dst: p, flags: ACK}.with([]byte("x"))))
	}
	tt.gets(OtherPort, to(80))
	for _, ports := range [][]uint16{{80}, {80, 443}, {443}, {1, 63, 64, 65535}, {}, {80}} {
		if err := m.SetPorts(ports); err != nil {
			t.Fatal(err)
		}
		for _, p := range []uint16{1, 2, 62, 63, 64, 65, 80, 443, 65534, 65535} {
			if slices.Contains(ports, p) {
				tt.gets(Captured, to(p))
			} else {
				tt.gets(OtherPort, to(p))
			}
		}
	}
	if err := m.SetPorts([]uint16{443, 0}); err == nil {
		t.Error("port 0 was taken")
	}
	tt.gets(Captured, to(80)) // nothing changed
	tt.gets(OtherPort, to(443))
}

// TestNoPayload: what without payload is captured, and when.
func TestNoPayload(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	tt := newTap(t, m, ethernetBoth, port)
	for flags := range uint8(64) {
		frame := ethernet(typeIP4, ip4Header{}.with(request(flags).with(nil)))
		if flags&(SYN|FIN|RST) == 0 {
			tt.gets(NoPayload, frame)
			m.Control(0).SetHoleOpen(true)
		}
		ev := tt.one(frame)
		if ev.Flags != flags || len(ev.Payload) != 0 || ev.Total != 0 || ev.Seq != 1000 || ev.Ack != 2000 {
			t.Errorf("event is %+v", ev)
		}
		m.Control(0).SetHoleOpen(false)
		// With payload the flags make no difference.
		tt.gets(Captured, ethernet(typeIP4, ip4Header{}.with(request(flags).with([]byte("x")))))
	}
	// Padding is no payload.
	tt.gets(NoPayload, append(ethernet(typeIP4, ip4Header{}.with(request(ACK).with(nil))), make([]byte, 6)...))
	if c := tt.counters(); c.Lost[0] != 0 {
		t.Errorf("%d lost", c.Lost[0])
	}
}

// TestNoReader: no beat, or one older than a second, stops all copying, of
// that ring alone.
func TestNoReader(t *testing.T) {
	m := newMaps(t, MapsConfig{Rings: 2, Seed: 1})
	tt := newTap(t, m, ethernetBoth, port)
	frames := framesOfRings(t, tt)
	data, ack, syn := frames(ACK, "x"), frames(ACK, ""), frames(SYN, "")
	send := func(want Result, frame []byte) {
		t.Helper()
		if got := tt.send(frame); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	lost := func(want ...uint64) {
		t.Helper()
		if c := tt.counters(); !slices.Equal(c.Lost, want) {
			t.Errorf("lost %d, want %d", c.Lost, want)
		}
	}
	m.Control(0).Beat(0)
	m.Control(1).Beat(0)
	send(NoReader, data[0])
	send(NoReader, data[1])
	m.Control(1).Beat(Now())
	send(NoReader, data[0])
	send(Captured, data[1])
	send(NoReader, ack[0]) // not lost: nobody wanted it
	send(NoReader, syn[0])
	lost(3, 1)
	m.Control(0).Beat(Now() - int64(time.Second))
	send(NoReader, data[0])
	m.Control(0).Beat(Now() - int64(900*time.Millisecond))
	send(Captured, data[0])
	m.Control(0).Beat(Now() + int64(time.Second)) // another CPU's clock may be ahead
	send(Captured, data[0])
	lost(4, 1)
	evs := tt.events()
	if len(evs) != 3 {
		t.Fatalf("%d records, want 3", len(evs))
	}
	for i, want := range []uint64{4, 4, 1} {
		if evs[i].Lost != want {
			t.Errorf("record %d: lost is %d, want %d", i, evs[i].Lost, want)
		}
	}
}

// framesOfRings finds a flow for each ring and returns a maker of its frames.
func framesOfRings(t testing.TB, tt *tapTest) func(flags uint8, payload string) [][]byte {
	t.Helper()
	ports := make([]uint16, len(tt.readers))
	found := 0
	tt.beat()
	for p := uint16(10000); found < len(ports); p++ {
		tt.send(ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: p, dst: port}.with([]byte("x")))))
		for i, r := range tt.readers {
			if len(records(t, r)) == 1 && ports[i] == 0 {
				ports[i] = p
				found++
			}
		}
	}
	return func(flags uint8, payload string) (frames [][]byte) {
		for _, p := range ports {
			frames = append(frames, ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: p, dst: port, flags: flags}.with([]byte(payload)))))
		}
		return frames
	}
}

// TestRings: both directions of a flow go to one ring, and flows spread.
func TestRings(t *testing.T) {
	const rings, flows = 5, 1000
	m := newMaps(t, MapsConfig{Rings: rings})
	tt := newTap(t, m, ethernetBoth, port)
	var used [rings]int
	rnd := rand.New(rand.NewPCG(1, 2))
	for range flows {
		a, b := randomAddress(rnd, true), randomAddress(rnd, true)
		p := uint16(rnd.IntN(65535) + 1)
		wrap := func(src, dst netip.Addr, h tcpHeader) []byte {
			seg := h.with([]byte("x"))
			if src.Is4() {
				return ethernet(typeIP4, ip4Header{src: src.String(), dst: dst.String()}.with(seg))
			}
			return ethernet(typeIP6, ip6Header{src: src.String(), dst: dst.String()}.with(seg))
		}
		if rnd.IntN(2) == 0 {
			a, b = randomAddress(rnd, false), randomAddress(rnd, false)
		}
		tt.beat()
		tt.send(wrap(a, b, tcpHeader{src: p, dst: port}))
		tt.send(wrap(b, a, tcpHeader{src: port, dst: p}))
		for i, r := range tt.readers {
			switch n := len(records(t, r)); n {
			case 0:
			case 2:
				used[i]++
			default:
				t.Fatalf("%s to %s: ring %d got %d of 2 segments", a, b, i, n)
			}
		}
	}
	for i, n := range used {
		// 200 expected, standard deviation 12.6.
		if n < 130 || n > 270 {
			t.Errorf("ring %d got %d of %d flows: %d", i, n, flows, used)
		}
	}
}

// Clients of one address that differ in the port alone spread too.
func TestRingsByPort(t *testing.T) {
	const rings, flows = 4, 1000
	m := newMaps(t, MapsConfig{Rings: rings})
	tt := newTap(t, m, ethernetBoth, port)
	tt.beat()
	for i := range flows {
		tt.send(ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: uint16(32768 + i), dst: port}.with([]byte("x")))))
	}
	for i, r := range tt.readers {
		if n := len(records(t, r)); n < 170 || n > 330 {
			t.Errorf("ring %d got %d of %d flows", i, n, flows)
		}
	}
}

func randomAddress(rnd *rand.Rand, four bool) netip.Addr {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], rnd.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rnd.Uint64())
	if four {
		return netip.AddrFrom4([4]byte(b[:]))
	}
	b[0] = 0x20
	return netip.AddrFrom16(b)
}

// TestOwnReplay: either end, both families, the exact port and address, and gone when removed.
func TestOwnReplay(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	tt := newTap(t, m, ethernetBoth, port)
	v4 := func(src, dst string, h tcpHeader) []byte {
		return ethernet(typeIP4, ip4Header{src: src, dst: dst}.with(h.with([]byte("x"))))
	}
	v6 := func(src, dst string, h tcpHeader) []byte {
		return ethernet(typeIP6, ip6Header{src: src, dst: dst}.with(h.with([]byte("x"))))
	}
	own4, own6 := netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("[2001:db8::1]:40000")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tt.gets(Captured, v4(client4, server4, request(ACK)))
	must(m.OwnReplayAdd(own4))
	must(m.OwnReplayAdd(own4)) // as once
	tt.gets(OwnReplay, v4(client4, server4, request(ACK)))
	tt.gets(OwnReplay, v4(server4, client4, response(ACK)))
	tt.gets(OwnReplay, ethernet(typeIP4, ip4Header{}.with(request(ACK).with(nil))))
	tt.gets(Captured, v4("192.0.2.2", server4, request(ACK)))
	tt.gets(Captured, v4(client4, server4, tcpHeader{src: peer + 1, dst: port, flags: ACK}))
	tt.gets(Captured, v4(server4, client4, request(ACK))) // address and port, not of one end
	tt.gets(Captured, v6(client6, server6, request(ACK)))
	must(m.OwnReplayAdd(own6))
	tt.gets(OwnReplay, v6(client6, server6, request(ACK)))
	tt.gets(OwnReplay, v6(server6, client6, response(ACK)))
	must(m.OwnReplayRemove(own4))
	tt.gets(Captured, v4(client4, server4, request(ACK)))
	tt.gets(OwnReplay, v6(client6, server6, request(ACK))) // the same port
	must(m.OwnReplayRemove(own6))
	must(m.OwnReplayRemove(own6)) // no error
	tt.gets(Captured, v6(client6, server6, request(ACK)))
	must(m.OwnReplayAdd(netip.MustParseAddrPort("[::ffff:192.0.2.1]:40000"))) // the same as 192.0.2.1
	tt.gets(OwnReplay, v4(client4, server4, request(ACK)))
	if c := tt.counters(); c.Lost[0] != 0 {
		t.Errorf("%d lost", c.Lost[0])
	}
	for _, bad := range []netip.AddrPort{{}, netip.MustParseAddrPort("192.0.2.1:0")} {
		if m.OwnReplayAdd(bad) == nil || m.OwnReplayRemove(bad) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// Loopback addresses are the agent's in its own namespace alone.
func TestOwnReplayLoopback(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	for _, a := range []string{"127.0.0.1:40000", "127.8.8.8:40000", "[::1]:40000", "192.0.2.1:40000", "[2001:db8::1]:40000", "[::2]:40000"} {
		own := netip.MustParseAddrPort(a)
		if err := m.OwnReplayAdd(own); err != nil {
			t.Fatal(err)
		}
		var frame []byte
		if own.Addr().Is4() {
			frame = ethernet(typeIP4, ip4Header{src: own.Addr().String()}.with(request(ACK).with([]byte("x"))))
		} else {
			frame = ethernet(typeIP6, ip6Header{src: own.Addr().String()}.with(request(ACK).with([]byte("x"))))
		}
		here := newTap(t, m, TapConfig{Domain: 0, LinkHeader: 14, Direction: Both}, port)
		here.gets(OwnReplay, frame)
		there := newTap(t, m, TapConfig{Domain: 1, LinkHeader: 14, Direction: Both}, port)
		if own.Addr().IsLoopback() {
			there.gets(Captured, frame)
		} else {
			there.gets(OwnReplay, frame)
		}
	}
}

func TestOwnReplayFull(t *testing.T) {
	m := newMaps(t, MapsConfig{OwnReplays: 2})
	var err error
	n := 0
	for ; err == nil && n < 10; n++ {
		err = m.OwnReplayAdd(netip.AddrPortFrom(netip.MustParseAddr(client4), uint16(1000+n)))
	}
	if err == nil || n < 3 {
		t.Errorf("add %d of 2: %v", n, err)
	}
}

// TestRingFull: what does not fit is counted once and moves lost, whatever was
// in the ring stays, and a reader that catches up gets the next segment and the
// number of those before it.
func TestRingFull(t *testing.T) {
	m := newMaps(t, MapsConfig{RingBytes: MinRingBytes})
	tt := newTap(t, m, ethernetBoth, port)
	body := pattern(3000)
	sent := uint32(0)
	frame := func(n int) []byte {
		sent++
		return ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: peer, dst: port, seq: sent, flags: ACK}.with(body[:n])))
	}
	tt.beat()
	full := 0
	for full < 5 {
		if sent == 200 {
			t.Fatalf("%d packets of 3000 bytes, and a ring of %d is not full", sent, MinRingBytes)
		}
		switch r := tt.send(frame(3000)); r {
		case Captured:
			if full != 0 {
				t.Fatal("captured by a full ring")
			}
		case RingFull:
			full++
		default:
			t.Fatal(r)
		}
	}
	captured := int(sent) - full
	if captured < 50 || captured > 90 { // 256 KiB of 3.0 to 4.6 KiB
		t.Errorf("%d records of 3000 bytes in a ring of %d", captured, MinRingBytes)
	}
	// A SYN is lost too, a pure acknowledgement is not: it was not wanted.
	for range 100 {
		if r := tt.send(ethernet(typeIP4, ip4Header{}.with(request(SYN).with(nil)))); r == RingFull {
			full++
			break
		}
	}
	tt.only(NoPayload, ethernet(typeIP4, ip4Header{}.with(request(ACK).with(nil))))
	if c := tt.counters(); c.Lost[0] != uint64(full) || c.Packets[RingFull] != uint64(full) {
		t.Errorf("lost %d, ring full %d, want both %d", c.Lost[0], c.Packets[RingFull], full)
	}
	evs := tt.events()
	for i := range captured {
		if evs[i].Seq != uint32(i+1) || evs[i].Lost != 0 || !bytes.Equal(evs[i].Payload, body) {
			t.Fatalf("record %d: seq %d, lost %d, %d bytes", i, evs[i].Seq, evs[i].Lost, len(evs[i].Payload))
		}
	}
	if ev := tt.one(frame(10)); ev.Lost != uint64(full) || ev.Seq != sent {
		t.Errorf("after the loss: lost %d, seq %d; want %d, %d", ev.Lost, ev.Seq, full, sent)
	}
}

// only is gets without a look into the rings.
func (tt *tapTest) only(want Result, frame []byte) {
	tt.Helper()
	tt.beat()
	if got := tt.send(frame); got != want {
		tt.Errorf("result is %s, want %s", got, want)
	}
}

// TestPieces: pieces of a packet carry what each has to carry, and a packet of
// which the ring took a part is ring_full once and lost once.
func TestPieces(t *testing.T) {
	m := newMaps(t, MapsConfig{RingBytes: MinRingBytes})
	m.longest = 1512
	tt := newTap(t, m, ethernetBoth, port)
	body := pattern(3400)
	frame := func(flags uint8, n int) []byte {
		h := request(flags)
		h.seq = 0xfffffe00 // wraps in the packet
		return ethernet(typeIP4, ip4Header{}.with(h.with(body[:n])))
	}
	for _, c := range []struct {
		flags  uint8
		size   int
		pieces []Event
	}{
		{ACK | PSH, 1512, []Event{{Seq: 0xfffffe00, Flags: ACK | PSH}}},
		{ACK | PSH, 1513, []Event{{Seq: 0xfffffe00, Flags: ACK}, {Seq: 0xfffffe00 + 1512 - 1<<32, Flags: ACK | PSH}}},
		{ACK | FIN | PSH, 3024, []Event{{Seq: 0xfffffe00, Flags: ACK}, {Seq: 0xfffffe00 + 1512 - 1<<32, Flags: ACK | FIN | PSH}}},
		{SYN | FIN | URG, 3400, []Event{{Seq: 0xfffffe00, Flags: SYN | URG}, {Seq: 0xfffffe00 + 1513 - 1<<32, Flags: URG}, {Seq: 0xfffffe00 + 3025 - 1<<32, Flags: FIN | URG}}},
		{RST | ACK, 3400, []Event{{Seq: 0xfffffe00, Flags: ACK}, {Seq: 0xfffffe00 + 1512 - 1<<32, Flags: ACK}, {Seq: 0xfffffe00 + 3024 - 1<<32, Flags: RST | ACK}}},
	} {
		tt.beat()
		if r := tt.send(frame(c.flags, c.size)); r != Captured {
			t.Fatal(r)
		}
		evs := tt.events()
		if len(evs) != len(c.pieces) {
			t.Fatalf("%d bytes: %d pieces, want %d", c.size, len(evs), len(c.pieces))
		}
		at := 0
		for i, ev := range evs {
			w := c.pieces[i]
			if ev.Seq != w.Seq || ev.Flags != w.Flags || int(ev.Offset) != at || int(ev.Total) != c.size ||
				ev.Ack != 2000 || ev.SrcPort != peer || ev.DstPort != port || ev.Side != SideToServer {
				t.Errorf("%d bytes, piece %d: %+v, want %+v", c.size, i, ev, w)
			}
			if !bytes.Equal(ev.Payload, body[at:at+len(ev.Payload)]) {
				t.Errorf("%d bytes, piece %d: other bytes", c.size, i)
			}
			at += len(ev.Payload)
		}
		if at != c.size {
			t.Errorf("%d of %d bytes", at, c.size)
		}
	}
	base := tt.counters()
	partly := false
	for range 200 {
		if tt.send(frame(ACK|FIN, 3400)) == RingFull {
			break
		}
	}
	after := tt.counters()
	if n := after.Packets[RingFull] - base.Packets[RingFull]; n != 1 || after.Lost[0]-base.Lost[0] != 1 {
		t.Errorf("ring full %d, lost %d, want 1 and 1", n, after.Lost[0]-base.Lost[0])
	}
	evs := tt.events()
	rest := evs[3*(after.Packets[Captured]-base.Packets[Captured]):]
	for i, ev := range rest {
		partly = true
		if int(ev.Offset) != i*1512 || ev.Flags != ACK || ev.Lost != 0 {
			t.Errorf("piece of the packet that did not fit: %+v", ev)
		}
	}
	if !partly || len(rest) > 2 {
		t.Errorf("%d pieces of the packet that did not fit, want 1 or 2", len(rest))
	}
	if ev := tt.one(frame(ACK, 10)); ev.Lost != 1 {
		t.Errorf("lost is %d, want 1", ev.Lost)
	}
}

// TestBudget: with a budget, bytes are bounded by time; the rest is over_budget and lost.
func TestBudget(t *testing.T) {
	m := newMaps(t, MapsConfig{})
	tt := newTap(t, m, ethernetBoth, port)
	frame := ethernet(typeIP4, ip4Header{}.with(request(ACK).with(pattern(3000))))
	ack := ethernet(typeIP4, ip4Header{}.with(request(ACK).with(nil)))
	for _, rate := range []uint64{1 << 10, 100_000, 10_000_000} {
		if err := m.SetCopyBudget(rate); err != nil {
			t.Fatal(err)
		}
		before := tt.counters()
		start, copied := Now(), 0
		// Until it has run dry, and some more.
		for over := 0; over < 50; {
			tt.beat()
			switch r := tt.send(frame); r {
			case Captured:
				copied += 3000 + eventHeaderLen
			case OverBudget:
				over++
			default:
				t.Fatal(r)
			}
			tt.events()
		}
		took := float64(Now()-start) / 1e9
		// The promise: burst, and for each CPU a lease and a packet.
		most := float64(rate)*(took+0.1) + float64(ebpfCPUs(t))*(float64(min(rate/1000, maxLease))+3080)
		least := float64(rate)*0.1 - 3080
		if float64(copied) > most || float64(copied) < least {
			t.Errorf("%d bytes/s: %d bytes in %.3f s, want %.0f to %.0f", rate, copied, took, least, most)
		}
		tt.gets(NoPayload, ack) // costs nothing
		after := tt.counters()
		if over := after.Packets[OverBudget] - before.Packets[OverBudget]; after.Lost[0]-before.Lost[0] != over {
			t.Errorf("lost %d, want %d", after.Lost[0]-before.Lost[0], over)
		}
	}
	// Nothing of a small budget that was overdrawn stays.
	if err := m.SetCopyBudget(0); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if r := tt.send(frame); r != Captured {
			t.Fatal(r)
		}
		tt.events()
		tt.beat()
	}
}

func ebpfCPUs(t testing.TB) int {
	t.Helper()
	n, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWake: which record wakes a sleeping reader. The word says so: the
// program sets it back when it wakes.
func TestWake(t *testing.T) {
	m := newMaps(t, MapsConfig{RingBytes: MinRingBytes})
	tt := newTap(t, m, ethernetBoth, port)
	frame := ethernet(typeIP4, ip4Header{}.with(request(ACK).with(pattern(1000))))
	ctl := m.Control(0)
	tt.gets(Captured, frame)
	ctl.SetSleeping(true)
	tt.gets(NoPayload, ethernet(typeIP4, ip4Header{}.with(request(ACK).with(nil))))
	if w := ctl.words.Wake.Load(); w != wakeFirst {
		t.Errorf("wake is %d after a packet that was not copied", w)
	}
	tt.gets(Captured, frame)
	if w := ctl.words.Wake.Load(); w != wakeNever {
		t.Errorf("wake is %d after a record", w)
	}
	ctl.SetSleeping(false)
	n := 0
	for ctl.words.Wake.Load() == wakeMark && n < 1000 {
		tt.only(Captured, frame)
		n++
	}
	filled := tt.readers[0].AvailableBytes()
	if record := filled / n; filled < MinRingBytes/ringMark || filled > MinRingBytes/ringMark+record {
		t.Errorf("woken at %d bytes of %d, want a quarter", filled, MinRingBytes)
	}
	ctl.SetAwake()
	tt.only(Captured, frame)
	tt.events()

	// And a reader that waits does wake up, by the first record and by no other.
	r := tt.readers[0]
	deadline := time.Now().Add(10 * time.Second)
	r.SetDeadline(deadline)
	for _, sleeping := range []bool{true, false} {
		ctl.SetSleeping(sleeping)
		woken := make(chan time.Time, 1)
		go func() {
			if _, err := r.Read(); err != nil {
				t.Errorf("sleeping %v: %v", sleeping, err)
			}
			woken <- time.Now()
		}()
		sent := 0
		for ctl.words.Wake.Load() != wakeNever && sent < 1000 {
			tt.only(Captured, frame)
			sent++
		}
		if (sent == 1) != sleeping {
			t.Errorf("sleeping %v: woken by record %d", sleeping, sent)
		}
		// At its deadline the reader looks into the ring too.
		if left := time.Until(deadline); (<-woken).After(deadline) {
			t.Errorf("sleeping %v: not woken in %v", sleeping, left)
		}
	}
}

// TestRandomFrames runs frames that were damaged at random through the
// program and through the model, which must agree in result and event.
func TestRandomFrames(t *testing.T) {
	m := newMaps(t, MapsConfig{Rings: 3})
	tt := newTap(t, m, ethernetBoth, port)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	n := 20000
	if testing.Short() {
		n = 2000
	}
	var seen [Results]int
	before := tt.counters()
	for i := range n {
		frame := randomFrame(rnd)
		for !runnable(frame) {
			frame = randomFrame(rnd)
		}
		want := model(frame, 14, 0)
		result := want.result
		if want.whole {
			switch {
			case want.ev.SrcPort != port && want.ev.DstPort != port:
				result = OtherPort
			case want.ev.Total == 0 && want.ev.Flags&(SYN|FIN|RST) == 0:
				result = NoPayload
			default:
				result = Captured
			}
		}
		tt.beat()
		got := tt.send(frame)
		if got != result {
			t.Fatalf("frame %d is %s, want %s: %x", i, got, result, frame)
		}
		seen[got]++
		evs := tt.events()
		if got != Captured {
			if len(evs) != 0 {
				t.Fatalf("frame %d: a record for %s", i, got)
			}
			continue
		}
		if len(evs) != 1 {
			t.Fatalf("frame %d: %d records", i, len(evs))
		}
		ev := evs[0]
		want.ev.Time, want.ev.Payload = ev.Time, want.payload
		switch {
		case want.ev.SrcPort != port:
			want.ev.Side = SideToServer
		case want.ev.DstPort != port:
			want.ev.Side = SideToClient
		}
		sameEvent(t, ev, want.ev)
		if t.Failed() {
			t.Fatalf("frame %d: %x", i, frame)
		}
	}
	after := tt.counters()
	if got := after.Seen() - before.Seen(); got != uint64(n) {
		t.Errorf("%d packets counted of %d", got, n)
	}
	for _, r := range []Result{NotTCP, OtherPort, Fragment, Unparsable, Captured, NoPayload} {
		if seen[r] < n/500 {
			t.Errorf("only %d of %d frames were %s: the generator is no good", seen[r], n, r)
		}
	}
}

// runnable says whether Program.Test takes the frame: newer kernels refuse
// one that is too short for the IP header that its Ethernet type promises.
func runnable(frame []byte) bool {
	switch binary.BigEndian.Uint16(frame[12:]) {
	case typeIP4:
		return len(frame) >= 14+20
	case typeIP6:
		return len(frame) >= 14+40
	}
	return true
}

// randomFrame is a right frame, most often with something wrong in it.
func randomFrame(rnd *rand.Rand) []byte {
	pick := func(n int) bool { return rnd.IntN(n) == 0 }
	h := tcpHeader{src: peer, dst: port, seq: rnd.Uint32(), ack: rnd.Uint32(), flags: uint8(rnd.Uint32())}
	switch rnd.IntN(6) {
	case 0:
		h.src, h.dst = h.dst, h.src
	case 1:
		h.src, h.dst = uint16(rnd.Uint32()), uint16(rnd.Uint32())
	case 2:
		h.src = port
	}
	h.options = make([]byte, 4*rnd.IntN(11))
	if pick(10) {
		h.offset = rnd.IntN(16)
	}
	payload := make([]byte, []int{0, 1, rnd.IntN(100), rnd.IntN(2600)}[rnd.IntN(4)])
	for i := range payload {
		payload[i] = byte(rnd.Uint32())
	}
	b := h.with(payload)
	typ := uint16(typeIP4)
	if pick(2) {
		ip := ip4Header{src: randomAddress(rnd, true).String(), options: make([]byte, 4*rnd.IntN(11))}
		if pick(10) {
			ip.fragment = uint16(rnd.Uint32())
		}
		if pick(10) {
			ip.length = rnd.IntN(len(b)+100) - 1
		}
		if pick(20) {
			ip.ihl = rnd.IntN(16)
		}
		if pick(20) {
			ip.proto = uint8(rnd.Uint32())
		}
		b = ip.with(b)
	} else {
		typ = typeIP6
		next := uint8(6)
		for range []int{0, 0, 1, 2, 3, 8, 9}[rnd.IntN(7)] {
			units := rnd.IntN(4)
			if pick(20) {
				units = rnd.IntN(256)
			}
			if len(b)+8*units > 2900 {
				units = 0
			}
			switch kind := []uint8{0, 43, 44, 51, 60}[rnd.IntN(5)]; kind {
			case 44:
				field := uint16(0)
				if pick(8) {
					field = uint16(rnd.Uint32())
				}
				b, next = fragment6(next, field, b), kind
			case 51:
				b, next = authentication(next, units, b), kind
			default:
				b, next = extension(next, units, b), kind
			}
		}
		ip := ip6Header{src: randomAddress(rnd, false).String(), next: next, hop: next == 0}
		if pick(10) {
			ip.length = rnd.IntN(len(b)+100) - 1
		}
		b = ip.with(b)
	}
	if pick(20) {
		typ = []uint16{0x0806, typeIP4, typeIP6, uint16(rnd.Uint32())}[rnd.IntN(4)]
	}
	tags := make([]uint16, []int{0, 0, 0, 1, 2, 3, 4}[rnd.IntN(7)])
	for i := range tags {
		tags[i] = []uint16{0x8100, 0x88a8, 0x9100}[rnd.IntN(3)]
	}
	frame := ethernet(typ, b, tags...)
	if pick(4) {
		frame = append(frame, make([]byte, rnd.IntN(64))...)
	}
	if pick(8) {
		frame = frame[:14+rnd.IntN(len(frame)-13)]
	}
	if pick(4) { // a byte of the headers
		frame[12+rnd.IntN(min(len(frame)-12, 90))] = byte(rnd.Uint32())
	}
	return frame
}

// TestConfig: what NewMaps and Load refuse, and that they name the field.
func TestConfig(t *testing.T) {
	needRoot(t)
	for field, c := range map[string]MapsConfig{
		"Rings: -1":      {Rings: -1},
		"Rings: 65":      {Rings: 65},
		"RingBytes: 409": {RingBytes: 4096},
		"RingBytes: 307": {RingBytes: 300 << 10},
		"OwnReplays: -1": {OwnReplays: -1},
	} {
		m, err := NewMaps(c)
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "bpf.MapsConfig."+field) {
			t.Errorf("%+v: error %v does not name %s", c, err, field)
		}
	}
	m := newMaps(t, MapsConfig{})
	for field, c := range map[string]TapConfig{
		"LinkHeader: 4": {LinkHeader: 4, Direction: Both},
		"Direction: 0":  {LinkHeader: 14},
		"Direction: 4":  {LinkHeader: 14, Direction: 4},
	} {
		p, err := m.Load(c)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "bpf.TapConfig."+field) {
			t.Errorf("%+v: error %v does not name %s", c, err, field)
		}
	}
}

// The filter takes the short way for packets that nobody selected. It must
// count each as the long way does, which a packet takes whose ports are selected.
func TestFilterCountsAsTheLongWay(t *testing.T) {
	var all []uint16
	for p := range uint16(65535) {
		all = append(all, p+1)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	segment := tcpHeader{src: peer, dst: port, flags: ACK}
	for _, tc := range []struct {
		name   string
		tap    TapConfig
		frames [][]byte
	}{
		{"ethernet", ethernetBoth, [][]byte{
			ethernet(typeIP4, ip4Header{}.with(segment.with(pattern(100)))),
			ethernet(typeIP4, ip4Header{}.with(segment.with(nil))),
			ethernet(typeIP6, ip6Header{}.with(segment.with(pattern(100)))),
		}},
		{"no link header", TapConfig{Direction: Both}, [][]byte{
			// The skb's protocol is what the run takes for the Ethernet type: two bytes of the source.
			ip4Header{src: "8.0.0.1"}.with(segment.with(pattern(100))),
			ip6Header{src: "2001:db8:86dd::1"}.with(segment.with(pattern(100))),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tt := newTap(t, newMaps(t, MapsConfig{RingBytes: 16 << 20}), tc.tap)
			tt.beat()
			seen := map[Result]int{}
			for i := range 3000 {
				frame := slices.Clone(tc.frames[i%len(tc.frames)])
				for range rnd.IntN(3) {
					frame[tc.tap.LinkHeader+rnd.IntN(min(60, len(frame)-tc.tap.LinkHeader))] = byte(rnd.Uint32() >> rnd.IntN(9))
				}
				if rnd.IntN(4) == 0 {
					frame = frame[:max(14+40, len(frame)-rnd.IntN(120))] // what Program.Test takes
				}
				tt.maps.SetPorts(all)
				want := tt.send(frame)
				if want >= Captured || want == OtherPort { // OtherPort: port 0
					want = OtherPort
				}
				tt.maps.SetPorts(nil)
				if got := tt.send(frame); got != want {
					t.Fatalf("%s, want %s: %x", got, want, frame)
				}
				seen[want]++
				if i%100 == 0 {
					tt.beat()
					tt.events()
				}
			}
			for _, r := range []Result{OtherPort, NotTCP, Unparsable} {
				if seen[r] == 0 {
					t.Errorf("no packet was %s", r)
				}
			}
		})
	}
}

// TestVerifierCost bounds what the verifier walks, for each set of constants.
// A million is its limit (BPF_COMPLEXITY_LIMIT_INSNS); older verifiers walk
// more, and each attachment pays it again.
func TestVerifierCost(t *testing.T) {
	needRoot(t)
	t.Run("root", func(t *testing.T) { verifierCost(t, 20_000) })
	// Without CAP_PERFMON the verifier follows mispredicted branches too, and
	// refuses what may leak a pointer.
	t.Run("BPF and NET_ADMIN", func(t *testing.T) {
		capabilities := []int{unix.CAP_BPF, unix.CAP_NET_ADMIN}
		if v, err := features.LinuxVersionCode(); err != nil || v < 6<<16|18<<8 {
			capabilities = append(capabilities, unix.CAP_PERFMON)
		}
		restrict(t, capabilities...)
		verifierCost(t, 70_000)
	})
}

// restrict leaves the calling goroutine's thread no effective capabilities but
// these. The thread ends with the test's goroutine.
func restrict(t *testing.T, capabilities ...int) {
	t.Helper()
	runtime.LockOSThread()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var set [2]unix.CapUserData
	if err := unix.Capget(&head, &set[0]); err != nil {
		t.Fatal(err)
	}
	set[0].Effective, set[1].Effective = 0, 0
	for _, c := range capabilities {
		set[c/32].Effective |= 1 << (c % 32)
	}
	if err := unix.Capset(&head, &set[0]); err != nil {
		t.Fatal(err)
	}
}

func verifierCost(t *testing.T, most uint32) {
	t.Helper()
	for _, rings := range []int{1, 4} {
		m := newMaps(t, MapsConfig{Rings: rings, RingBytes: MinRingBytes})
		for _, linkHeader := range []int{0, 14} {
			for d := Requests; d <= Both; d++ {
				for domain := range uint16(2) {
					c := TapConfig{Domain: domain, LinkHeader: linkHeader, Direction: d}
					prog, err := m.Load(c)
					if err != nil {
						t.Fatalf("%+v: %v", c, err)
					}
					info, err := prog.Info()
					if err != nil {
						t.Fatal(err)
					}
					if n, ok := info.VerifiedInstructions(); !ok || n > most {
						t.Errorf("%d rings, %+v: verifier walked %d instructions, want at most %d", rings, c, n, most)
					}
					if info.Name != "shadowtap" {
						t.Errorf("program is called %q", info.Name)
					}
					prog.Close()
				}
			}
		}
	}
}

// The words of the ledger line kernel_packets, in the order of enum tap_result.
func TestResultWords(t *testing.T) {
	want := strings.Fields("not_tcp other_port other_direction fragment unparsable captured no_payload " +
		"own_replay not_wanted ring_full copy_failed no_reader over_budget")
	var got []string
	(&Counters{}).Each(func(result string, n uint64) { got = append(got, result) })
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if Captured.String() != "captured" || OverBudget.String() != "over_budget" || Result(99).String() != "result(99)" {
		t.Error(Captured, OverBudget, Result(99))
	}
}
