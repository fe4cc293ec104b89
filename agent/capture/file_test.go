package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly"
)

var orders = []struct {
	name string
	o    binary.AppendByteOrder
}{{"little-endian", binary.LittleEndian}, {"big-endian", binary.BigEndian}}

// times returns the sink's segment times.
func times(c *collector) []int64 {
	var v []int64
	for _, s := range c.segs {
		v = append(v, s.Time)
	}
	return v
}

func payloads(c *collector) string {
	var v []string
	for _, s := range c.segs {
		v = append(v, string(s.Payload))
	}
	return strings.Join(v, " ")
}

func TestPcapMagics(t *testing.T) {
	recs := []rec{
		{data: ether(ip4(t, "one", nil)), sec: 1700000000, ns: 123456789},
		{data: ether(ip4(t, "two", nil)), sec: 1700000001, ns: 999999999},
	}
	for _, o := range orders {
		for _, m := range []struct {
			magic uint32
			want  []int64
		}{
			{0xa1b2c3d4, []int64{1700000000123456000, 1700000001999999000}},
			{0xa1b23c4d, []int64{1700000000123456789, 1700000001999999999}},
			{0xa1b2cd34, []int64{1700000000123456000, 1700000001999999000}},
		} {
			t.Run(fmt.Sprintf("%x %s", m.magic, o.name), func(t *testing.T) {
				// The upper bits of the link type tell of a frame check sequence.
				c, s, err := read(t, pcapBytes(o.o, m.magic, 0x54000000|linkEthernet, recs...))
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(times(c), m.want) || payloads(c) != "one two" || s.Packets != 2 {
					t.Fatalf("times %v, payloads %q, stats %+v", times(c), payloads(c), s)
				}
			})
		}
	}
}

func TestPcapNG(t *testing.T) {
	r := func(p string) rec { return rec{data: ether(ip4(t, p, nil))} }
	raw := func(p string) rec { return rec{data: ip4(t, p, nil)} }
	for _, o := range orders {
		t.Run(o.name, func(t *testing.T) {
			e := o.o
			offset := make([]byte, 8)
			e.(binary.ByteOrder).PutUint64(offset, 1000)
			back := make([]byte, 8)
			minus := int64(-5)
			e.(binary.ByteOrder).PutUint64(back, uint64(minus))
			// The old packet block: a 16-bit interface and a drop count.
			old := e.AppendUint16(nil, 1)
			old = e.AppendUint16(old, 0xffff)
			old = e.AppendUint32(old, 0)
			old = e.AppendUint32(old, 7)
			old = e.AppendUint32(old, uint32(len(raw("old").data)))
			old = e.AppendUint32(old, uint32(len(raw("old").data)))
			old = append(old, raw("old").data...)
			simple := e.AppendUint32(nil, uint32(len(r("simple").data)))
			simple = append(simple, r("simple").data...)

			b := bytes.Join([][]byte{
				ngSection(e),
				ngDescription(e, linkEthernet, 0),
				ngDescription(e, linkRaw, 0, 2, []byte("name"), 9, []byte{9}, 14, offset),
				ngDescription(e, linkSLL2, 65535, 9, []byte{0x80 | 10}),
				ngEnhanced(e, 0, 5000001, r("micro")),
				ngBlock(e, 5, make([]byte, 20)),               // statistics
				ngBlock(e, 0x40000bad, []byte("custom data")), // unknown
				ngEnhanced(e, 1, 7000000009, raw("nano")),
				ngEnhanced(e, 2, 1024*9+512, rec{data: be(ip4(t, "binary", nil), 0x0800, 0, 0, 1, 1, 6, 0, 0, 0, 0)}),
				ngBlock(e, 2, old),
				ngBlock(e, 3, simple),
				// A second section: other byte order, its own interfaces.
				ngSection(binary.LittleEndian),
				ngDescription(binary.LittleEndian, linkRaw, 0, 9, []byte{0}, 14, bytes.Repeat([]byte{0}, 8)),
				ngEnhanced(binary.LittleEndian, 0, 12, raw("seconds")),
				ngSection(e),
				ngDescription(e, linkRaw, 0, 9, []byte{12}, 14, back),
				ngEnhanced(e, 0, 20*1e12+1500, raw("pico")),
			}, nil)
			c, s, err := read(t, b)
			if err != nil {
				t.Fatal(err)
			}
			want := []int64{5000001000, 1007000000009, 9500000000, 1000000000007, 1007000000009, 12000000000, 15000000001}
			if !reflect.DeepEqual(times(c), want) || payloads(c) != "micro nano binary old simple seconds pico" {
				t.Fatalf("times %v, want %v; payloads %q", times(c), want, payloads(c))
			}
			if got := counts(s); s.Packets != 7 || got["captured"] != 7 {
				t.Fatalf("packets %d, %v", s.Packets, got)
			}
		})
	}
}

func TestPcapNGTimes(t *testing.T) {
	for _, c := range []struct {
		res    byte
		offset int64
		ts     uint64
		want   int64
	}{
		{6, 0, 1, 1000},
		{9, 0, 1, 1},
		{0, 0, 3, 3e9},
		{19, 0, 10000000000*5 + 9999999999, 5},
		{0x80, 0, 3, 3e9},
		{0x80 | 63, 0, 1 << 62, 5e8},
		{0x80 | 32, 1, 1<<32 | 1<<31, 2500000000},
		{6, 0, math.MaxUint64, math.MaxInt64},
		{0, 0, math.MaxUint64, math.MaxInt64},
		{6, math.MaxInt64, 1, math.MaxInt64},
		{6, math.MinInt64, 1, 0},
	} {
		f := ngIface{offset: c.offset}
		if err := f.resolution(c.res); err != nil {
			t.Fatal(err)
		}
		if got := f.time(c.ts); got != c.want {
			t.Errorf("resolution %#x, offset %d: time %d is %d, want %d", c.res, c.offset, c.ts, got, c.want)
		}
	}
	for _, v := range []byte{20, 0x7f, 0x80 | 64, 0xff} {
		if err := new(ngIface).resolution(v); err == nil {
			t.Errorf("resolution %#x is taken", v)
		}
	}
}

// TestAgainstPcapgo: what pcapgo writes and reads is read alike.
func TestAgainstPcapgo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var classic, ng bytes.Buffer
		cw := pcapgo.NewWriterNanos(&classic)
		if err := cw.WriteFileHeader(262144, layers.LinkTypeRaw); err != nil {
			rt.Fatal(err)
		}
		nw, err := pcapgo.NewNgWriter(&ng, layers.LinkTypeRaw)
		if err != nil {
			rt.Fatal(err)
		}
		n := rapid.IntRange(0, 20).Draw(rt, "packets")
		for range n {
			data := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "data")
			ci := gopacket.CaptureInfo{
				Timestamp:     time.Unix(rapid.Int64Range(0, 1<<32-1).Draw(rt, "sec"), rapid.Int64Range(0, 999999999).Draw(rt, "ns")),
				CaptureLength: len(data), Length: len(data) + rapid.IntRange(0, 2000).Draw(rt, "cut"),
			}
			if err := cw.WritePacket(ci, data); err != nil {
				rt.Fatal(err)
			}
			if err := nw.WritePacket(ci, data); err != nil {
				rt.Fatal(err)
			}
		}
		if err := nw.Flush(); err != nil {
			rt.Fatal(err)
		}
		cr, err := pcapgo.NewReader(bytes.NewReader(classic.Bytes()))
		if err != nil {
			rt.Fatal(err)
		}
		nr, err := pcapgo.NewNgReader(bytes.NewReader(ng.Bytes()), pcapgo.DefaultNgReaderOptions)
		if err != nil {
			rt.Fatal(err)
		}
		same(rt, classic.Bytes(), cr, n)
		same(rt, ng.Bytes(), nr, n)
	})
}

func same(t *rapid.T, b []byte, r gopacket.PacketDataSource, n int) {
	c, err := open(newSource(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		want, ci, err := r.ReadPacketData()
		if err != nil {
			t.Fatal(err)
		}
		var got record
		if err := c.next(&got); err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if !bytes.Equal(got.data, want) || got.wire != ci.Length || got.time != ci.Timestamp.UnixNano() || got.link != linkRaw {
			t.Fatalf("packet %d is %+v, want %x %+v", i, got, want, ci)
		}
	}
	if err := c.next(&record{}); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

func TestFileLedger(t *testing.T) {
	frames := [][]byte{
		ether(ip4(t, "x", nil)),
		ether(ip4(t, "", nil)), ether(ip4(t, "", nil)),
		ether(ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) { i.Protocol = layers.IPProtocolUDP })),
		ether(ip4(t, "x", func(i *layers.IPv4, _ *layers.TCP) { i.FragOffset = 1 })),
		ether(ip4(t, "x", func(_ *layers.IPv4, l *layers.TCP) { l.DstPort = 1 })),
		{1, 2, 3},
	}
	var recs []rec
	for _, f := range frames {
		recs = append(recs, rec{data: f})
	}
	c, s, err := read(t, pcapBytes(binary.LittleEndian, 0xa1b2c3d4, 1, recs...))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{"captured": 1, "no_payload": 2, "not_tcp": 1, "fragment": 1, "other_port": 1, "unparsable": 1}
	if got := counts(s); !reflect.DeepEqual(got, want) {
		t.Errorf("counts %v, want %v", got, want)
	}
	var sum uint64
	var words []string
	s.Each(func(w string, n uint64) { sum += n; words = append(words, w) })
	if sum != s.Packets || s.Packets != 7 {
		t.Errorf("the results sum up to %d, packets are %d", sum, s.Packets)
	}
	if len(words) != 13 {
		t.Errorf("results %v: want every word of the ledger's line", words)
	}
	if len(c.segs) != 3 || s.Bytes != 1 {
		t.Errorf("%d segments with %d bytes, want 3 with 1: pure ACKs are handed on", len(c.segs), s.Bytes)
	}
}

func TestCutPacket(t *testing.T) {
	whole := ether(ip4(t, "hello world", func(_ *layers.IPv4, l *layers.TCP) { l.FIN, l.PSH = true, true }))
	syn := ether(ip4(t, "hello world", func(_ *layers.IPv4, l *layers.TCP) { l.FIN, l.SYN = true, true }))
	plain := ether(ip4(t, "hello world", nil))
	c, s, err := read(t, pcapBytes(binary.LittleEndian, 0xa1b2c3d4, 1,
		rec{data: whole[:59], wire: len(whole)}, rec{data: syn[:59], wire: len(syn)}, rec{data: plain[:59], wire: len(plain)}))
	if err != nil {
		t.Fatal(err)
	}
	type seg struct {
		seq     uint32
		flags   reassembly.Flags
		payload string
	}
	var got []seg
	for _, x := range c.segs {
		got = append(got, seg{x.Seq, x.Flags, string(x.Payload)})
	}
	const a, f, y = reassembly.ACK, reassembly.FIN, reassembly.SYN
	want := []seg{{1000, a, "hello"}, {1011, a | f, ""}, {1000, a | y, "hello"}, {1012, a | f, ""}, {1000, a, "hello"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("segments %v, want %v", got, want)
	}
	if s.Cut != 3 || s.CutBytes != 18 || s.Bytes != 15 || counts(s)["captured"] != 3 {
		t.Errorf("stats %+v", s)
	}
}

func TestTicks(t *testing.T) {
	var recs []rec
	// 0, 50, 100, 150 ms, ..., a step back by 10 s, an hour later.
	for i := range 10 {
		recs = append(recs, rec{data: ether(ip4(t, "x", nil)), sec: 1700000000, ns: int64(i) * 50e6})
	}
	recs = append(recs, rec{data: ether(ip4(t, "x", nil)), sec: 1699999990})
	recs = append(recs, rec{data: []byte{1}, sec: 1700003600})
	c, _, err := read(t, pcapBytes(binary.LittleEndian, 0xa1b23c4d, 1, recs...))
	if err != nil {
		t.Fatal(err)
	}
	const s = 1700000000000000000
	want := []int64{s, s + 100e6, s + 200e6, s + 300e6, s + 400e6, s + 3600e9}
	if !reflect.DeepEqual(c.ticks, want) {
		t.Errorf("ticks %v, want %v", c.ticks, want)
	}
	if want := []int{0, 2, 4, 6, 8, 11}; !reflect.DeepEqual(c.at, want) {
		t.Errorf("segments before the ticks %v, want %v", c.at, want)
	}
	if c.segs[10].Time != s-10e9 {
		t.Errorf("the time of the packet that went back is %d", c.segs[10].Time)
	}
}

// TestCutFile cuts a file at every byte: what is whole is read, and the cut is
// told.
func TestCutFile(t *testing.T) {
	le := binary.LittleEndian
	r := []rec{{data: ether(ip4(t, "one", nil))}, {data: ether(ip4(t, "two", nil))}, {}}
	ng := [][]byte{ngSection(le), ngDescription(le, 1, 0), ngEnhanced(le, 0, 1, r[0]), ngEnhanced(le, 0, 1, r[1]), ngEnhanced(le, 0, 1, r[2])}
	for _, f := range []struct {
		name string
		file []byte
		head int   // bytes that a capture needs to be one
		ends []int // where records end
	}{
		{"pcap", pcapBytes(le, 0xa1b2c3d4, 1, r...), 24, []int{24, 97, 170, 186}},
		{"pcapng", bytes.Join(ng, nil), len(ng[0]), []int{
			len(ng[0]) + len(ng[1]), len(bytes.Join(ng[:3], nil)), len(bytes.Join(ng[:4], nil)), len(bytes.Join(ng[:5], nil))}},
	} {
		t.Run(f.name, func(t *testing.T) {
			if f.ends[3] != len(f.file) {
				t.Fatalf("the file has %d bytes, the test believes %d", len(f.file), f.ends[3])
			}
			for n := range len(f.file) + 1 {
				c, s, err := read(t, f.file[:n])
				if n < f.head {
					if err == nil {
						t.Fatalf("%d bytes are taken for a capture", n)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				whole, clean := 0, n == f.head
				for i, e := range f.ends {
					if n >= e {
						whole = i
					}
					clean = clean || n == e
				}
				wantCut := uint64(whole + 1)
				if clean {
					wantCut = 0
				}
				if s.Packets != uint64(whole) || len(c.segs) != min(whole, 2) || s.CutRecord != wantCut {
					t.Fatalf("%d bytes: %d packets, %d segments, cut record %d; want %d packets, cut record %d",
						n, s.Packets, len(c.segs), s.CutRecord, whole, wantCut)
				}
			}
		})
	}
}

// TestDamage: the error names record and offset, and what stands before was
// delivered.
func TestDamage(t *testing.T) {
	le := binary.LittleEndian
	r := rec{data: ether(ip4(t, "good", nil))}
	ngHead := append(ngSection(le), ngDescription(le, 1, 0)...)
	good := append(ngHead, ngEnhanced(le, 0, 1, r)...)
	at := len(good)
	long := ngEnhanced(le, 0, 1, r)
	le.PutUint32(long[20:], 5000)
	foreign := ngEnhanced(le, 3, 1, r)
	trailer := ngEnhanced(le, 0, 1, r)
	trailer[len(trailer)-4]++
	giant := ngEnhanced(le, 0, 1, r)
	le.PutUint32(giant[4:], 1<<31)
	odd := ngEnhanced(le, 0, 1, r)
	odd[4]++
	order := ngSection(le)
	order[8] = 9
	version := ngSection(le)
	version[12] = 2
	classic := pcapBytes(le, 0xa1b2c3d4, 1, r, r)
	second := 24 + 16 + len(r.data)
	le.PutUint32(classic[second+8:], 0x7fffffff)
	cat := func(b []byte) []byte { return append(append([]byte(nil), good...), b...) }
	for _, c := range []struct {
		name, want string
		file       []byte
		at         int
	}{
		{"pcap length", "captured length of 2147483647", classic, second},
		{"packet longer than its block", "captured length of 5000", cat(long), at},
		{"unknown interface", "interface 3, of which there are 1", cat(foreign), at},
		{"trailer differs", "at the block's begin", cat(trailer), at},
		{"giant block", "more than any packet has", cat(giant), at},
		{"odd length", "a block length of", cat(odd), at},
		{"tiny length", "a block length of 8", cat([]byte{6, 0, 0, 0, 8, 0, 0, 0}), at},
		{"short packet", "a packet block of 20", cat(ngBlock(le, 6, make([]byte, 8))), at},
		{"short simple packet", "a packet block of 12", cat(ngBlock(le, 3, nil)), at},
		{"byte order", "byte order mark", cat(order), at},
		{"version", "pcapng version 2.0", cat(version), at},
		{"resolution", "time resolution of 2^-127", cat(ngDescription(le, 1, 0, 9, []byte{0xff})), at},
		{"option too long", "longer than its block", cat(ngBlock(le, 1, []byte{1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 99, 0})), at},
		{"no interface", "before any interface", cat(append(ngSection(le), ngBlock(le, 3, make([]byte, 8))...)), at + len(ngSection(le))},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, s, err := read(t, c.file)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range []string{c.want, "test.pcap", fmt.Sprintf("record 2 at offset %d:", c.at)} {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
			if payloads(got) != "good" || s.Packets != 1 {
				t.Errorf("delivered %q, %d packets, want what stands before the damage", payloads(got), s.Packets)
			}
		})
	}
}

func TestOpenFileErrors(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	ok := put("ok", string(pcapBytes(binary.LittleEndian, 0xa1b2c3d4, 1)))
	old := pcapBytes(binary.LittleEndian, 0xa1b2c3d4, 1)
	old[6] = 3
	for _, c := range []struct {
		cfg  FileConfig
		want string
	}{
		{FileConfig{Ports: []uint16{80}}, "Path"},
		{FileConfig{Path: ok}, "Ports"},
		{FileConfig{Path: ok, Ports: []uint16{0}}, "Ports"},
		{FileConfig{Path: filepath.Join(dir, "missing"), Ports: []uint16{80}}, "no such file"},
		{FileConfig{Path: dir, Ports: []uint16{80}}, "directory"},
		{FileConfig{Path: put("empty", ""), Ports: []uint16{80}}, "empty"},
		{FileConfig{Path: put("text", "GET / HTTP/1.1"), Ports: []uint16{80}}, "neither pcap nor pcapng: the file begins with 47 45 54 20"},
		{FileConfig{Path: put("short", "ab"), Ports: []uint16{80}}, "neither pcap nor pcapng"},
		{FileConfig{Path: put("gz", "\x1f\x8b\x08"), Ports: []uint16{80}}, "gunzip it first"},
		{FileConfig{Path: put("zst", "\x28\xb5\x2f\xfd..."), Ports: []uint16{80}}, "unzstd it first"},
		{FileConfig{Path: put("xz", "\xfd7zXZ\x00"), Ports: []uint16{80}}, "unxz it first"},
		{FileConfig{Path: put("bz2", "BZh91AY"), Ports: []uint16{80}}, "bunzip2 it first"},
		{FileConfig{Path: put("lz4", "\x04\x22\x4d\x18"), Ports: []uint16{80}}, "unlz4 it first"},
		{FileConfig{Path: put("old", string(old)), Ports: []uint16{80}}, "pcap version 2.3"},
	} {
		f, err := OpenFile(c.cfg)
		if err == nil {
			f.Close()
			t.Errorf("%+v: no error, want one with %q", c.cfg, c.want)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %q does not say %q", c.cfg, err, c.want)
		}
	}
}

func TestUnsupportedLink(t *testing.T) {
	le := binary.LittleEndian
	r := rec{data: []byte("whatever it is")}
	_, s, err := read(t, pcapBytes(le, 0xa1b2c3d4, 105, r, r))
	if err == nil || !strings.Contains(err.Error(), "link type 105 (802.11) is not supported") {
		t.Errorf("error %v", err)
	}
	if counts(s)["unparsable"] != 2 || s.OtherLinks["105 (802.11)"] != 2 {
		t.Errorf("stats %+v", s)
	}
	// Beside a link type that is read it is only counted.
	b := bytes.Join([][]byte{ngSection(le), ngDescription(le, 9, 0), ngDescription(le, 1, 0), ngDescription(le, 300, 0),
		ngEnhanced(le, 0, 1, r), ngEnhanced(le, 2, 1, r), ngEnhanced(le, 1, 1, rec{data: ether(ip4(t, "x", nil))})}, nil)
	c, s, err := read(t, b)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]uint64{"9 (PPP)": 1, "300": 1}; !reflect.DeepEqual(s.OtherLinks, want) || len(c.segs) != 1 {
		t.Errorf("other links %v, want %v; %d segments", s.OtherLinks, want, len(c.segs))
	}
}

// TestPipe reads a FIFO whose writer waits, and ends with the context.
func TestPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f, err := OpenFile(FileConfig{Path: name, Ports: []uint16{80}})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, payloadSink(got)) }()
	file := pcapBytes(binary.LittleEndian, 0xa1b2c3d4, 1, rec{data: ether(ip4(t, "one", nil))}, rec{data: ether(ip4(t, "two", nil))})
	for _, part := range [][]byte{file[:3], file[3:30], file[30:100], file[100:]} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"one", "two"} {
		if p := await(t, got); p != want {
			t.Fatalf("segment %q, want %q", p, want)
		}
	}
	cancel()
	if err := await(t, done); err != nil {
		t.Fatalf("stopped run: %v", err)
	}
	if s := f.Stats(); s.Packets != 2 || s.CutRecord != 0 {
		t.Fatalf("stats %+v", s)
	}
}

func TestStandardInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin := os.Stdin
	os.Stdin = r
	defer func() { os.Stdin = stdin }()
	defer r.Close()
	f, err := OpenFile(FileConfig{Path: "-", Ports: []uint16{80}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(pcapBytes(binary.LittleEndian, 0xa1b2c3d4, 1, rec{data: ether(ip4(t, "one", nil))})); err != nil {
		t.Fatal(err)
	}
	w.Close()
	c := &collector{}
	if err := f.Run(t.Context(), c); err != nil || payloads(c) != "one" {
		t.Fatalf("%v, payloads %q", err, payloads(c))
	}
	// What is no capture is told with a name that a person knows.
	r2, w2, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	os.Stdin = r2
	w2.WriteString("hello world")
	w2.Close()
	f, err = OpenFile(FileConfig{Path: "-", Ports: []uint16{80}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), "read standard input: neither pcap nor pcapng") {
		t.Fatalf("error %v", err)
	}
}

// payloadSink sends each payload.
type payloadSink chan string

func (s payloadSink) Segment(x *reassembly.Segment) { s <- string(x.Payload) }
func (s payloadSink) Tick(int64)                    {}
func (s payloadSink) HoleOpen() bool                { return false }

func await[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came within 10 s")
		panic("unreachable")
	}
}

// FuzzFile: no file makes the reader panic or miscount, and what pcapgo reads of
// a classic file is read alike.
func FuzzFile(f *testing.F) {
	le := binary.LittleEndian
	r := rec{data: ether(ip4(f, "hello", nil)), sec: 5, ns: 6000}
	f.Add(pcapBytes(le, 0xa1b2c3d4, 1, r, r))
	f.Add(pcapBytes(binary.BigEndian, 0xa1b23c4d, 1, r, r))
	f.Add(pcapBytes(le, 0xa1b2cd34, 1, r))
	f.Add(bytes.Join([][]byte{ngSection(le), ngDescription(le, 1, 0, 9, []byte{9}), ngEnhanced(le, 0, 1, r), ngBlock(le, 5, nil)}, nil))
	f.Add(bytes.Join([][]byte{ngSection(binary.BigEndian), ngDescription(binary.BigEndian, 101, 9, 9, []byte{0x90}), ngBlock(binary.BigEndian, 3, make([]byte, 60))}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		src := newSource(bytes.NewReader(b))
		c, err := open(src)
		if err != nil {
			return
		}
		file := &File{name: "fuzz", open: c, src: src, in: &patient{}}
		file.dec.ports.add(80)
		sink := &collector{}
		err = file.Run(t.Context(), sink)
		s := file.Stats()
		var sum uint64
		s.Each(func(_ string, n uint64) { sum += n })
		if sum != s.Packets {
			t.Fatalf("the results sum up to %d, packets are %d", sum, s.Packets)
		}
		for i := 1; i < len(sink.ticks); i++ {
			if sink.ticks[i] < sink.ticks[i-1] {
				t.Fatalf("ticks %v", sink.ticks)
			}
		}
		if src.off > int64(len(b)) || err == nil && src.off != int64(len(b)) {
			t.Fatalf("read to offset %d of %d, error %v", src.off, len(b), err)
		}
		p, ok := c.(*pcapReader)
		if !ok || p.extra != 0 {
			return
		}
		g, err := pcapgo.NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		g.SetSnaplen(maxFrame)
		again, _ := open(newSource(bytes.NewReader(b)))
		for {
			want, ci, err := g.ReadPacketData()
			if err != nil {
				return
			}
			var got record
			if err := again.next(&got); err != nil {
				t.Fatalf("pcapgo reads %+v, we have %v", ci, err)
			}
			if !bytes.Equal(got.data, want) || got.wire != ci.Length {
				t.Fatalf("read %+v, pcapgo %+v", got, ci)
			}
		}
	})
}

func BenchmarkFile(b *testing.B) {
	var recs []rec
	for range 10000 {
		recs = append(recs, rec{data: ether(ip4(b, string(make([]byte, 1400)), nil))})
	}
	name := writeFile(b, pcapBytes(binary.LittleEndian, 0xa1b2c3d4, 1, recs...))
	b.ReportAllocs()
	for b.Loop() {
		f, err := OpenFile(FileConfig{Path: name, Ports: []uint16{80}})
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Run(b.Context(), nothing{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/packet")
}

// nothing is a Sink for measuring.
type nothing struct{}

func (nothing) Segment(*reassembly.Segment) {}
func (nothing) Tick(int64)                  {}
func (nothing) HoleOpen() bool              { return false }
