package reassembly_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
)

// skipping is a handler that wants nothing of the server's direction beyond its
// first bytes, and the tap that is told so.
type skipping struct {
	t           *testing.T
	a           *reassembly.Assembler
	conn        *reassembly.Conn
	n           uint64 // to skip at the server's first bytes; 0: all the rest
	first, last uint32
	said        []string
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
func (s *skipping) Doubt(reassembly.Dir, uint64, uint64) {
}
func (s *skipping) Data(d reassembly.Dir, b []byte, at *reassembly.At) {
	s.say("%d data %d+%d", d, at.Offset, len(b))
	if d == reassembly.Server && at.Offset == 0 {
		if s.n == 0 {
			s.a.SkipRest(s.conn)
		} else if got := s.a.Skip(s.conn, d, s.n); got != min(s.n, 1<<29) {
			s.t.Errorf("%d of %d bytes are skipped", got, s.n)
		}
	}
}
func (s *skipping) Gap(d reassembly.Dir, n uint64, at *reassembly.At) {
	word := "gap"
	if at.Skipped {
		word = "skipped"
	}
	s.say("%d %s %d+%d", d, word, at.Offset, n)
}
func (s *skipping) End(d reassembly.Dir, how reassembly.End) { s.say("%d end %d", d, how) }
func (s *skipping) Close(reassembly.Close)                   { s.say("close") }

func (s *skipping) Skip(x *reassembly.Stream, from, to uint32) { s.say("skip %d-%d", from, to) }
func (s *skipping) SkipRest(x *reassembly.Stream)              { s.say("rest of %d", x.SrcPort) }
func (s *skipping) Skipped(*reassembly.Stream) (first, at uint32, ok bool) {
	return s.first, s.last, s.first != s.last
}

// What a hole in skipped bytes is taken for. The server's stream begins at 1,000,
// its first 100 bytes come, and of the rest what a case says.
func TestSkip(t *testing.T) {
	type step struct {
		client bool
		seq    uint32
		ack    uint32
		n      int
		flags  reassembly.Flags
	}
	for _, c := range []struct {
		name        string
		n           uint64
		first, last uint32
		steps       []step
		want        string
	}{
		{"the tap skipped all of it", 10_000, 1100, 9000, []step{{seq: 9000, n: 500}}, "1 skipped 100+7900; 1 data 8000+500"},
		{"from before", 10_000, 1000, 9100, []step{{seq: 9000, n: 500}}, "1 skipped 100+7900; 1 data 8000+500"},
		{"not up to its end", 10_000, 1100, 8999, []step{{seq: 9000, n: 500}}, "close; 1 gap 100+7900; 1 data 8000+500"},
		{"not from its begin", 10_000, 1101, 9000, []step{{seq: 9000, n: 500}}, "close; 1 gap 100+7900; 1 data 8000+500"},
		{"what is missing comes", 10_000, 1101, 9000, []step{{seq: 9000, n: 500}, {seq: 1100, n: 1}}, "1 data 100+1; 1 skipped 101+7899; 1 data 8000+500"},
		{"acknowledged", 10_000, 0, 0, []step{{seq: 9000, n: 500}, {client: true, seq: 510, ack: 9500, n: 5}}, "1 skipped 100+7900; 1 data 8000+500; 0 data 10+5"},
		{"acknowledged, beyond the skip", 7000, 1100, 8000, []step{{seq: 9000, n: 500}, {client: true, seq: 510, ack: 9500, n: 5}}, "1 gap 100+7900; 1 data 8000+500; 0 data 10+5"},
		{"FIN behind it", 10_000, 1100, 9000, []step{{seq: 9000, flags: reassembly.FIN}}, "1 skipped 100+7900; 1 end 0"},
		{"RST far behind it", 1 << 28, 1100, 1100 + 1<<27, []step{{seq: 1100 + 1<<27, flags: reassembly.RST}}, "1 skipped 100+134217728; 1 end 1; 0 end 1; close"},
		{"a longer way than a skip is", 1 << 40, 1100, 1100 + 1<<29, []step{{seq: 1100 + 1<<29, n: 1}}, "1 skipped 100+536870912; 1 data 536871012+1"},
		{"the rest", 0, 0, 0, []step{{seq: 9000, n: 500}, {seq: 9000 + 1<<30, n: 1}, {seq: 10 + 2<<30, n: 1}, {seq: 0x70000000, flags: reassembly.FIN}}, "1 skipped 100+7900; 1 data 8000+500; 1 skipped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &skipping{t: t, n: c.n, first: c.first, last: c.last}
			a, err := reassembly.New(reassembly.Config{Factory: s, Skipper: s, Budget: &reassembly.Budget{Limit: 1 << 20}})
			if err != nil {
				t.Fatal(err)
			}
			s.a = a
			send := func(x step) {
				seg := reassembly.Segment{SrcPort: 80, DstPort: 1024, Seq: x.seq, Ack: 510, Flags: x.flags | reassembly.ACK, Payload: make([]byte, x.n)}
				seg.Src[15], seg.Dst[15] = 2, 1
				switch {
				case x.flags == reassembly.SYN && x.client:
					seg.Flags = reassembly.SYN
				case x.flags == reassembly.SYN:
					seg.Ack = 500
				}
				if x.client {
					seg.SrcPort, seg.DstPort, seg.Src, seg.Dst, seg.Ack = 1024, 80, seg.Dst, seg.Src, x.ack
				}
				a.Segment(&seg)
			}
			send(step{client: true, seq: 499, flags: reassembly.SYN})
			send(step{seq: 999, flags: reassembly.SYN})
			send(step{client: true, seq: 500, ack: 1000, n: 10})
			send(step{seq: 1000, n: 100})
			s.said = nil
			for _, x := range c.steps {
				send(x)
			}
			if strings.HasPrefix(c.want, "close; ") {
				if len(s.said) > 0 {
					t.Errorf("before the end: %q", s.said)
				}
				a.Close(reassembly.CloseDone)
				c.want = c.want[len("close; "):]
			}
			if got := strings.Join(s.said, "; "); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			if c.name == "the rest" && s.said[len(s.said)-1] != "1 end 0" {
				t.Errorf("no end: %q", s.said)
			}
		})
	}
}
