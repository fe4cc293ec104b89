package reassembly_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// skipping is a handler that wants nothing of the server's direction behind its
// first bytes, or nothing at all.
type skipping struct {
	asm  *reassembly.Assembler
	conn *reassembly.Conn
	n    uint64 // to skip at the server's first bytes; 0: all the rest
	said []string
}

func (s *skipping) say(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf(format, args...))
}

func (s *skipping) Open(c *reassembly.Conn) reassembly.Handler {
	s.conn = c
	return s
}
func (s *skipping) Guess([]byte) reassembly.Side { return reassembly.SideUnknown }
func (s *skipping) Blind(int)                    {}
func (s *skipping) BlindEnd()                    {}
func (s *skipping) Data(d reassembly.Dir, b []byte, at *reassembly.At) {
	s.say("%d data %d+%d", d, at.Offset, len(b))
	switch {
	case d == reassembly.Client:
	case s.n == 0:
		s.asm.SkipRest(s.conn)
	case at.Offset == 0:
		s.asm.Skip(s.conn, d, s.n)
	}
}
func (s *skipping) Gap(d reassembly.Dir, n uint64, at *reassembly.At) {
	if at.Skipped {
		s.say("%d skipped %d+%d", d, at.Offset, n)
	} else {
		s.say("%d gap %d+%d", d, at.Offset, n)
	}
}
func (s *skipping) Doubt(reassembly.Dir, uint64, uint64)     {}
func (s *skipping) End(d reassembly.Dir, how reassembly.End) { s.say("%d end %d", d, how) }
func (s *skipping) Close(why reassembly.Close)               { s.say("close %d", why) }
func (s *skipping) take() (said string)                      { said, s.said = strings.Join(s.said, "; "), nil; return said }

// step is a segment behind the server's first 100 bytes. Sequence numbers count
// from the server's, and the client's, first byte.
type step struct {
	client bool
	seq, n uint32
	ack    uint32 // of the client; the server acknowledges the 10 bytes of the request
	flags  reassembly.Flags
	// unseen: the tap did not see it. lost: the ring had no room.
	unseen, lost bool
	isn          uint32 // of a SYN
}

// skipBed plays steps through the tap's model to an assembler.
type skipBed struct {
	*skipping
	tap  segmenttest.Tap
	isn  [2]uint32
	lost uint64
	now  int64
}

func newSkipBed(t *testing.T, n uint64, server uint32, idle time.Duration) *skipBed {
	b := &skipBed{skipping: &skipping{n: n}, isn: [2]uint32{499, server - 1}, now: 1e18}
	var err error
	b.asm, err = reassembly.New(reassembly.Config{Factory: b, Skipper: &b.tap, Budget: &reassembly.Budget{Limit: 1 << 20}, Idle: idle})
	if err != nil {
		t.Fatal(err)
	}
	b.send(step{client: true, flags: reassembly.SYN})
	b.send(step{flags: reassembly.SYN})
	b.send(step{client: true, n: 10})
	b.send(step{n: 100})
	if said := b.take(); said != "0 data 0+10; 1 data 0+100" {
		t.Fatalf("at first: %s", said)
	}
	return b
}

func (b *skipBed) send(x step) {
	from, seg := 1, reassembly.Segment{SrcPort: 80, DstPort: 1024, Flags: x.flags | reassembly.ACK, Payload: make([]byte, x.n), Side: reassembly.ToClient}
	seg.Src[15], seg.Dst[15] = 2, 1
	if x.client {
		from, seg.Side = 0, reassembly.ToServer
		seg.SrcPort, seg.DstPort, seg.Src, seg.Dst = 1024, 80, seg.Dst, seg.Src
	}
	seg.Seq, seg.Ack = b.isn[from]+1+x.seq, b.isn[1-from]+1+x.ack
	if !x.client {
		seg.Ack += 10
	}
	if x.flags&reassembly.SYN != 0 {
		if x.isn != 0 {
			b.isn[from] = x.isn
		}
		seg.Seq = b.isn[from]
		if x.client {
			seg.Flags = reassembly.SYN
		} else {
			seg.Ack = b.isn[0] + 1
		}
	}
	b.now += 1000
	seg.Time = b.now
	switch {
	case x.unseen || !b.tap.Takes(&seg):
	case x.lost:
		b.lost++
	case x.n == 0 && x.flags == 0 && !b.asm.HoleOpen():
	default:
		seg.Lost = b.lost
		b.asm.Segment(&seg)
	}
}

// What a handler is told of bytes that it does not want, and what not: the server
// sends a body of 10,000 bytes behind its head of 100, of which all but the last
// byte are not wanted.
func TestSkip(t *testing.T) {
	const fin, rst = reassembly.FIN, reassembly.RST
	last := step{seq: 9100, n: 1000}
	for _, c := range []struct {
		name  string
		steps []step
		want  string // "|" is the end of the capture
	}{
		{"all of it", []step{{seq: 100, n: 9000}, last}, "1 skipped 100+9000; 1 data 9100+1000"},
		{"nothing more comes", []step{{seq: 100, n: 9000}}, "| close 4"},
		{"what was copied before", []step{{seq: 9100, n: 1000}, {seq: 100, n: 4000}, {seq: 4100, n: 5000}}, "1 data 100+4000; 1 data 4100+5000; 1 data 9100+1000"},
		{"a hole that the network made", []step{{seq: 100, n: 1000}, {seq: 1100, n: 1000, unseen: true}, {seq: 2100, n: 7000}, last}, "1 skipped 100+1000; | 1 gap 1100+1000; 1 data 2100+7000; 1 data 9100+1000; close 4"},
		{"one that is filled late", []step{{seq: 100, n: 1000}, {seq: 1100, n: 1000, unseen: true}, {seq: 2100, n: 7000}, last, {seq: 1100, n: 1000}}, "1 skipped 100+1000; 1 data 1100+1000; 1 data 2100+7000; 1 data 9100+1000"},
		{"first the second half", []step{{seq: 5100, n: 4000}, last, {seq: 100, n: 5000}}, "1 data 100+5000; 1 skipped 5100+4000; 1 data 9100+1000"},
		{"first the second half, and FIN", []step{{seq: 5100, n: 4000}, {seq: 9100, n: 1000, flags: fin}, {seq: 100, n: 5000}}, "1 data 100+5000; 1 skipped 5100+4000; 1 data 9100+1000; 1 end 0"},
		{"first the second half, and a bare FIN", []step{{seq: 5100, n: 4000}, {seq: 9100, flags: fin}, {seq: 100, n: 5000}}, "1 data 100+5000; 1 skipped 5100+4000; 1 end 0"},
		{"resent", []step{{seq: 100, n: 4000}, {seq: 2100, n: 2000}, {seq: 3100, n: 6000}, last, {seq: 4100, n: 1000}}, "1 skipped 100+9000; 1 data 9100+1000"},
		{"the last one lost by the ring", []step{{seq: 100, n: 9000}, {seq: 9100, n: 1000, lost: true}, {client: true, seq: 10, ack: 10100, n: 5}}, "1 skipped 100+9999; 1 gap 10099+1; 0 data 10+5"},
		{"acknowledged on the way", []step{{seq: 100, n: 4000}, {client: true, seq: 10, ack: 3100, n: 5}, {seq: 4100, n: 5000}, last}, "1 skipped 100+3000; 0 data 10+5; 1 skipped 3100+6000; 1 data 9100+1000"},
		{"a probe with garbage", []step{{seq: 100, n: 4000}, {seq: 4099, n: 1}, {seq: 4100, n: 5000}, last}, "1 skipped 100+9000; 1 data 9100+1000"},
		{"a zero-window probe", []step{{seq: 100, n: 4000}, {seq: 4100, n: 1}, {seq: 4100, n: 5000}, last}, "1 skipped 100+9000; 1 data 9100+1000"},
		{"lost by the ring, acknowledged", []step{{seq: 100, n: 100}, {seq: 300, n: 100, lost: true}, {seq: 200, n: 100}, {seq: 400, n: 8700}, last, {client: true, seq: 10, ack: 10100, n: 5}}, "1 skipped 100+100; 1 data 200+100; 1 skipped 300+100; 1 data 400+8700; 1 data 9100+1000; 0 data 10+5"},
		{"FIN in the middle", []step{{seq: 100, n: 4000}, {seq: 4100, flags: fin}}, "1 skipped 100+4000; 1 end 0"},
		{"FIN with bytes, in the wrong order", []step{{seq: 100, n: 1000}, {seq: 2100, n: 10, flags: fin}, {seq: 1100, n: 1000}}, "1 skipped 100+1000; 1 data 1100+1000; 1 data 2100+10; 1 end 0"},
		{"RST in the middle", []step{{seq: 100, n: 4000}, {seq: 4100, flags: rst}}, "1 skipped 100+4000; 1 end 1; 0 end 1; close 0"},
		{"the client's RST", []step{{seq: 100, n: 4000}, {client: true, seq: 10, ack: 3100, flags: rst}}, "1 skipped 100+3000; 0 end 1; 1 end 1; close 0"},
		{"a new connection", []step{{seq: 100, n: 4000}, {client: true, flags: reassembly.SYN, isn: 70_000}, {flags: reassembly.SYN, isn: 5000}, {client: true, n: 10}, {n: 100}}, "close 1; 0 data 0+10; 1 data 0+100"},
	} {
		for _, begin := range []uint32{1000, 0, 0xffffff00, 0xffffe000, 0x7ffffff0} {
			t.Run(fmt.Sprintf("%s/%x", c.name, begin), func(t *testing.T) {
				b := newSkipBed(t, 9999, begin, 0)
				for _, x := range c.steps {
					b.send(x)
				}
				got := b.take()
				before, after, ended := strings.Cut(c.want, "|")
				if before = strings.TrimSuffix(strings.TrimSpace(before), ";"); got != before {
					t.Errorf("%s\nwant %s", got, before)
				}
				b.asm.Close(reassembly.CloseStopped)
				if got, want := b.take(), strings.TrimSpace(after); ended && got != want {
					t.Errorf("at the end: %s\nwant %s", got, want)
				}
				if n := b.tap.Open(); n > 0 {
					t.Errorf("%d skips were not ended", n)
				}
			})
		}
	}
}

// Bytes that come behind a skip are told from those in it when the numbers come
// round again.
func TestSkipIsForgotten(t *testing.T) {
	b := newSkipBed(t, 9999, 1000, 0)
	b.send(step{seq: 100, n: 9000})
	b.send(step{seq: 9100, n: 1000})
	b.take()
	at, client := uint32(10_100), uint32(10)
	for range 7 { // a hole of half a gigabyte each time
		b.send(step{seq: at + 1<<29 - 1, n: 1})
		b.send(step{client: true, seq: client, ack: at + 1<<29, n: 1})
		client++
		if said := b.take(); strings.Contains(said, "skipped") {
			t.Fatalf("at %d: %s", at, said)
		}
		at += 1 << 29
	}
	b.send(step{seq: 3000, n: 100})
	b.send(step{client: true, seq: client, ack: 3100, n: 1})
	if said := b.take(); strings.Contains(said, "skipped") || !strings.Contains(said, "gap") {
		t.Errorf("behind the wrap: %s", said)
	}
	b.asm.Close(reassembly.CloseDone)
}

// A connection of which nothing is wanted has its end in place, whatever has
// passed before.
func TestSkipRest(t *testing.T) {
	for _, how := range []reassembly.Flags{reassembly.FIN, reassembly.RST} {
		for _, far := range []uint32{1000, 1 << 30, 3 << 30, 0xfffffff0} {
			b := newSkipBed(t, 0, 1000, 0)
			at := uint32(100)
			for range 8 {
				b.send(step{seq: at + far/8 - 10, n: 10})
				at += far / 8
			}
			b.send(step{seq: at, n: 7, flags: how})
			said := b.take()
			want := "1 end 0"
			if how == reassembly.RST {
				want = "1 end 1; 0 end 1; close 0"
			}
			if !strings.HasSuffix(said, want) || strings.Contains(said, "gap") || !strings.Contains(said, "+7; ") {
				t.Errorf("flags %x, %d bytes on: %s", how, far, said)
			}
			b.send(step{client: true, seq: 5 + far, n: 5, ack: at})
			b.send(step{client: true, seq: 10 + far, ack: at, flags: reassembly.FIN})
			if said := b.take(); how == reassembly.FIN && said != "0 end 0; close 0" && !strings.HasSuffix(said, "; 0 end 0; close 0") {
				t.Errorf("the client's end, %d bytes on: %s", far, said)
			}
			if b.tap.Rests != 2 || b.tap.Open() != 0 || b.tap.Segments < 8 {
				t.Errorf("%d skips, %d open, %d segments skipped", b.tap.Rests, b.tap.Open(), b.tap.Segments)
			}
		}
	}
}

// A reset far from what passed last is nobody's.
func TestSkipRestReset(t *testing.T) {
	b := newSkipBed(t, 0, 1000, 0)
	b.send(step{seq: 1 << 30, n: 10})
	b.send(step{seq: 5, flags: reassembly.RST})
	b.send(step{seq: 1<<30 + 10 + 1<<25, flags: reassembly.RST})
	if said := b.take(); said != "" {
		t.Errorf("%s", said)
	}
	b.send(step{seq: 1<<30 + 10, flags: reassembly.RST})
	if said := b.take(); !strings.HasSuffix(said, "close 0") {
		t.Errorf("%s", said)
	}
}

// A connection is idle when nothing passes, not when nothing is captured.
func TestSkippedIsNotIdle(t *testing.T) {
	for _, n := range []uint64{1 << 27, 0} {
		b := newSkipBed(t, n, 1000, time.Minute)
		at := uint32(100)
		for range 3 {
			b.send(step{seq: at, n: 1000})
			at += 1000
			b.now += int64(61 * time.Second)
			b.asm.Tick(b.now)
			if said := b.take(); said != "" {
				t.Fatalf("%d: something has passed: %s", n, said)
			}
		}
		b.now += int64(61 * time.Second)
		b.asm.Tick(b.now)
		if said := b.take(); !strings.HasSuffix(said, "close 2") || b.tap.Open() != 0 {
			t.Errorf("%d: nothing has passed: %s, %d skips", n, said, b.tap.Open())
		}
	}
}

// A skip that something ended is asked for again, one that cannot be remembered
// changes nothing, and one for files is refused.
func TestSkipIsAdvice(t *testing.T) {
	b := newSkipBed(t, 1<<20, 1000, 0)
	b.send(step{seq: 100, n: 100})
	b.send(step{seq: 300, n: 100}) // ends it
	b.send(step{seq: 200, n: 100})
	b.tap.Refuse = func() bool { return true }
	b.asm.Skip(b.conn, reassembly.Server, 1<<20)
	b.send(step{seq: 400, n: 100})
	b.tap.Refuse = nil
	b.asm.Skip(b.conn, reassembly.Server, 1<<20)
	b.asm.Skip(b.conn, reassembly.Server, 1<<20)
	b.send(step{seq: 500, n: 100})
	b.send(step{seq: 600, n: 1 << 20})
	const want = "1 skipped 100+100; 1 data 200+100; 1 data 300+100; 1 data 400+100; 1 skipped 500+100; 1 data 600+1048576"
	if said := b.take(); said != want || b.tap.Ranges != 2 {
		t.Errorf("%d skips, %s\nwant %s", b.tap.Ranges, said, want)
	}
	_, err := reassembly.New(reassembly.Config{Factory: b, Skipper: &b.tap, Budget: &reassembly.Budget{Limit: 1}, HoldSegments: 1})
	if err == nil || !strings.Contains(err.Error(), "live ring") {
		t.Errorf("with a hold: %v", err)
	}
}
