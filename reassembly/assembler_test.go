package reassembly_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly"
)

// recorder is a handler that writes down what it is told.
type recorder struct {
	conn *reassembly.Conn
	log  []string
	// resent is At.Resent of each Data.
	resent []bool
	got    [2][]byte
}

func (r *recorder) Data(d reassembly.Dir, b []byte, at *reassembly.At) {
	r.got[d] = append(r.got[d], b...)
	r.resent = append(r.resent, at.Resent)
	r.log = append(r.log, fmt.Sprintf("%s %d %q", dirs[d], at.Offset, b))
}
func (r *recorder) Gap(d reassembly.Dir, n uint64, at *reassembly.At) {
	r.log = append(r.log, fmt.Sprintf("%s %d gap %d", dirs[d], at.Offset, n))
}
func (r *recorder) Doubt(d reassembly.Dir, from, to uint64) {
	r.log = append(r.log, fmt.Sprintf("%s doubt %d-%d", dirs[d], from, to))
}
func (r *recorder) End(d reassembly.Dir, how reassembly.End) {
	r.log = append(r.log, fmt.Sprintf("%s %s", dirs[d], [...]string{"fin", "rst"}[how]))
}
func (r *recorder) Close(why reassembly.Close) {
	r.log = append(r.log, "close "+[...]string{"done", "reused", "idle", "evicted", "stopped"}[why])
}

var dirs = [...]string{"c", "s"}

// rooms hands out recorders.
type rooms struct {
	all      []*recorder
	blind    int
	blindEnd int
	guess    reassembly.Side
}

func (r *rooms) Open(c *reassembly.Conn) reassembly.Handler {
	h := &recorder{conn: c}
	r.all = append(r.all, h)
	return h
}
func (r *rooms) Guess([]byte) reassembly.Side { return r.guess }
func (r *rooms) Blind(n int)                  { r.blind += n }
func (r *rooms) BlindEnd()                    { r.blindEnd++ }

// bed is an assembler with its rooms.
type bed struct {
	t *testing.T
	*reassembly.Assembler
	rooms  rooms
	budget reassembly.Budget
	now    int64
}

func newBed(t *testing.T, change func(*reassembly.Config)) *bed {
	b := &bed{t: t, now: 1e9}
	b.budget.Limit = 16 << 20
	cfg := reassembly.Config{Factory: &b.rooms, Budget: &b.budget}
	if change != nil {
		change(&cfg)
	}
	a, err := reassembly.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Assembler = a
	return b
}

func file(c *reassembly.Config) { c.HoldTime, c.HoldSegments = 20*time.Millisecond, 64 }

// send takes lines like "c 100/200 SA abc": who, seq/ack, flags (S A F R U),
// payload. "tap=2", "net=4", "lost=3", "port=9" and "+50ms" change what follows.
func (b *bed) send(lines ...string) {
	b.t.Helper()
	s := reassembly.Segment{Tap: 1}
	port := uint16(1024)
	for _, l := range lines {
		if d, ok := strings.CutPrefix(l, "+"); ok {
			v, err := time.ParseDuration(d)
			if err != nil {
				b.t.Fatal(err)
			}
			b.now += int64(v)
			b.Tick(b.now)
			continue
		}
		var n uint16
		if _, err := fmt.Sscanf(l, "tap=%d", &n); err == nil {
			s.Tap = n
			continue
		}
		if _, err := fmt.Sscanf(l, "net=%d", &s.Network); err == nil {
			continue
		}
		if _, err := fmt.Sscanf(l, "port=%d", &port); err == nil {
			continue
		}
		if _, err := fmt.Sscanf(l, "lost=%d", &s.Lost); err == nil {
			continue
		}
		var who, flags string
		rest := ""
		if f := strings.SplitN(l, " ", 4); len(f) == 4 {
			l, rest = strings.Join(f[:3], " "), f[3]
		}
		if _, err := fmt.Sscanf(l, "%s %d/%d %s", &who, &s.Seq, &s.Ack, &flags); err != nil {
			b.t.Fatalf("line %q: %v", l, err)
		}
		s.Flags = 0
		for _, c := range flags {
			s.Flags |= map[rune]reassembly.Flags{'S': reassembly.SYN, 'A': reassembly.ACK, 'F': reassembly.FIN, 'R': reassembly.RST, 'U': reassembly.URG, '-': 0}[c]
		}
		s.Src, s.Dst = [16]byte{15: 1}, [16]byte{15: 2}
		s.SrcPort, s.DstPort, s.Side = port, 80, reassembly.ToServer
		switch who {
		case "s":
			s.Src, s.Dst, s.SrcPort, s.DstPort, s.Side = s.Dst, s.Src, 80, port, reassembly.ToClient
		case "x": // nobody says who is who
			s.Side = reassembly.SideUnknown
		}
		b.now += 1000
		s.Time, s.Payload = b.now, []byte(rest)
		b.Segment(&s)
	}
}

// check compares what the n-th connection's handler was told.
func (b *bed) check(n int, want ...string) {
	b.t.Helper()
	if len(b.rooms.all) <= n {
		b.t.Fatalf("connection %d was not opened", n)
	}
	if got := strings.Join(b.rooms.all[n].log, "\n"); got != strings.Join(want, "\n") {
		b.t.Errorf("connection %d:\n%s\nwant:\n%s", n, got, strings.Join(want, "\n"))
	}
	b.ledger()
}

func (b *bed) ledger() {
	b.t.Helper()
	st := b.Stats()
	if sum := st.Delivered + st.Duplicate + st.OtherInterface + st.Malformed + st.OverMemory + st.Queued; sum != st.Captured {
		b.t.Errorf("captured %d bytes, accounted %d: %+v", st.Captured, sum, st)
	}
}

var handshake = []string{"c 99/0 S", "s 199/100 SA"}

func TestAssembler(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cfg   func(*reassembly.Config)
		lines []string
		want  []string
	}{
		{"in order, FIN both ways", nil,
			[]string{"c 100/200 A ab", "s 200/102 A xy", "c 102/202 FA", "s 202/103 FA"},
			[]string{`c 0 "ab"`, `s 0 "xy"`, "c fin", "s fin", "close done"}},
		{"swapped segments", nil,
			[]string{"c 102/200 A cd", "c 100/200 A ab"},
			[]string{`c 0 "ab"`, `c 2 "cd"`}},
		{"a retransmission is dropped", nil,
			[]string{"c 100/200 A abc", "c 100/200 A abc", "c 101/200 A bcd"},
			[]string{`c 0 "abc"`, `c 3 "d"`}},
		{"the first copy of a queued byte wins and a different one is told", nil,
			[]string{"c 102/200 A cd", "c 102/200 A Xd", "c 100/200 A ab"},
			[]string{"c doubt 2-4", `c 0 "ab"`, `c 2 "cd"`}},
		{"an equal copy of a queued byte is no doubt", nil,
			[]string{"c 102/200 A cd", "c 101/200 A bcde", "c 100/200 A a"},
			[]string{`c 0 "a"`, `c 1 "b"`, `c 2 "cd"`, `c 4 "e"`}},
		{"keep-alive and zero-window probes", nil,
			[]string{"c 100/200 A a", "c 100/200 A a", "c 100/200 A", "c 101/200 A b"},
			[]string{`c 0 "a"`, `c 1 "b"`}},
		{"data in the SYN's place is counted from ISN+1", nil,
			[]string{"s 200/100 A hi"},
			[]string{`s 0 "hi"`}},
		{"a hole is lost once it is acknowledged", nil,
			[]string{"c 100/200 A a", "lost=1", "c 103/200 A de", "s 200/105 A ok"},
			[]string{`c 0 "a"`, "c 1 gap 2", `c 3 "de"`, `s 0 "ok"`}},
		{"a byte alone in the place of a lost one may be a probe's garbage", nil,
			[]string{"c 100/200 A a", "lost=1", "c 101/200 A ?", "s 200/102 A ok"},
			[]string{`c 0 "a"`, "c doubt 1-2", `c 1 "?"`, `s 0 "ok"`}},
		{"so may one behind its acknowledgement in a file", file,
			[]string{"c 100/200 A a", "s 200/102 A ok", "c 101/200 A ?", "c 102/202 A b"},
			[]string{`c 0 "a"`, "c doubt 1-2", `c 1 "?"`, `s 0 "ok"`, `c 2 "b"`}},
		{"in a file a FIN may come before the SYN", file,
			[]string{"port=7", "s 202/102 FA", "c 99/0 S", "s 199/100 SA", "s 200/102 A xy", "c 100/200 A ab"},
			[]string{`c 0 "ab"`, `s 0 "xy"`, "s fin"}},
		{"a hole at the tail is found by the next acknowledgement", nil,
			[]string{"c 100/200 A ask", "c 103/205 A next"},
			[]string{`c 0 "ask"`, "s 0 gap 5", `c 3 "next"`}},
		{"a hole that nobody acknowledged waits", nil,
			[]string{"c 102/200 A c", "s 200/100 A x"},
			[]string{`s 0 "x"`}},
		{"in a file an acknowledgement may come before its data", file,
			[]string{"s 200/102 A xy", "c 100/200 A ab"},
			[]string{`c 0 "ab"`, `s 0 "xy"`}},
		{"RST at its place ends both", nil,
			[]string{"c 100/200 A a", "s 200/101 R", "c 101/200 A b"},
			[]string{`c 0 "a"`, "s rst", "c rst", "close done"}},
		{"RST behind a FIN ends the other direction", nil,
			[]string{"c 100/200 FA a", "s 200/102 A xy", "c 102/0 R", "s 202/102 A zz"},
			[]string{`c 0 "a"`, "c fin", `s 0 "xy"`, "s rst", "close done"}},
		{"RST far behind a FIN is not believed", nil,
			[]string{"c 100/200 FA a", "s 200/102 A xy", "c 104/0 R", "s 202/102 A zz"},
			[]string{`c 0 "a"`, "c fin", `s 0 "xy"`, `s 2 "zz"`}},
		{"RST far away is not believed", nil,
			[]string{"c 100/200 A a", "s 99999999/101 R", "c 101/200 A b"},
			[]string{`c 0 "a"`, `c 1 "b"`}},
		{"FIN waits for its data", nil,
			[]string{"s 202/100 FA", "s 200/100 A xy"},
			[]string{`s 0 "xy"`, "s fin"}},
		{"nothing comes after a FIN", nil,
			[]string{"s 200/100 FA xy", "s 202/100 A zz"},
			[]string{`s 0 "xy"`, "s fin"}},
		{"a SYN with another number begins a new connection", nil,
			[]string{"c 100/200 A a", "c 5000/0 S"},
			[]string{`c 0 "a"`, "close reused"}},
		{"the same SYN again does not", nil,
			[]string{"c 100/200 A a", "c 99/0 S", "c 101/200 A b"},
			[]string{`c 0 "a"`, `c 1 "b"`}},
		{"urgent data is passed on", nil,
			[]string{"c 100/200 AU a"},
			[]string{`c 0 "a"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, tt.cfg)
			b.send(handshake...)
			b.send(tt.lines...)
			b.check(0, tt.want...)
		})
	}
}

// Connections that differ in one part of their endpoints alone are told apart,
// and each way of each is told from the other, however their segments mix.
func TestConnectionsAreToldApart(t *testing.T) {
	ends := []reassembly.Segment{
		{Src: [16]byte{15: 1}, Dst: [16]byte{15: 2}, SrcPort: 1024, DstPort: 80},
		{Src: [16]byte{15: 1}, Dst: [16]byte{15: 2}, SrcPort: 1024, DstPort: 80, Domain: 1},
		{Src: [16]byte{15: 1}, Dst: [16]byte{15: 2}, SrcPort: 1025, DstPort: 80},
		{Src: [16]byte{15: 1}, Dst: [16]byte{15: 2}, SrcPort: 1024, DstPort: 81},
		{Src: [16]byte{0: 1, 15: 1}, Dst: [16]byte{15: 2}, SrcPort: 1024, DstPort: 80},
		{Src: [16]byte{15: 1}, Dst: [16]byte{0: 1, 15: 2}, SrcPort: 1024, DstPort: 80},
		{Src: [16]byte{15: 2}, Dst: [16]byte{15: 1}, SrcPort: 1024, DstPort: 80}, // the other host asks
		{Src: [16]byte{15: 1}, Dst: [16]byte{15: 1}, SrcPort: 1024, DstPort: 80}, // a host asks itself
	}
	for i := range ends {
		for k := range ends {
			if i == k {
				continue
			}
			b := newBed(t, nil)
			for n := range uint32(3) {
				for _, e := range []int{i, k} {
					s := ends[e]
					s.Seq, s.Ack, s.Flags, s.Side = 100+2*n, 200+2*n, reassembly.ACK, reassembly.ToServer
					s.Payload = fmt.Appendf(nil, "%d%d", e, n)
					b.Segment(&s)
					s.Src, s.Dst, s.SrcPort, s.DstPort = s.Dst, s.Src, s.DstPort, s.SrcPort
					s.Seq, s.Ack, s.Side = s.Ack, s.Seq+2, reassembly.ToClient
					s.Payload = fmt.Appendf(nil, "%d%c", e, 'x'+n)
					b.Segment(&s)
				}
			}
			for x, e := range []int{i, k} {
				b.check(x,
					fmt.Sprintf(`c 0 "%d0"`, e), fmt.Sprintf(`s 0 "%dx"`, e), fmt.Sprintf(`c 2 "%d1"`, e),
					fmt.Sprintf(`s 2 "%dy"`, e), fmt.Sprintf(`c 4 "%d2"`, e), fmt.Sprintf(`s 4 "%dz"`, e))
			}
		}
	}
}

func TestSequenceWrap(t *testing.T) {
	b := newBed(t, nil)
	b.send("c 4294967290/0 S", "s 4294967294/4294967291 SA",
		"c 1/4294967295 A ghij", "c 4294967291/4294967295 A abcdef", "s 4294967295/5 A wxyz", "c 4294967294/3 A def", "c 5/3 A k")
	b.check(0, `c 0 "abcdef"`, `c 6 "ghij"`, `s 0 "wxyz"`, `c 10 "k"`)
}

// What a copy acknowledges is not what its sender knew at first.
func TestAckOfACopy(t *testing.T) {
	b := newBed(t, nil)
	b.send(handshake...)
	b.send("c 102/200 A cd", "c 100/202 A ab") // ab was sent before cd
	h := b.rooms.all[0]
	if len(h.resent) != 2 || !h.resent[0] || h.resent[1] {
		t.Errorf("sent again: %v", h.resent)
	}

	b = newBed(t, nil)
	b.send(handshake...)
	b.send("s 200/100 A xy", "c 101/202 A abbc", "c 102/200 A bb", "c 100/200 A a")
	b.check(0, `s 0 "xy"`, `c 0 "a"`, `c 1 "a"`, `c 2 "bb"`, `c 4 "c"`)
	if got := fmt.Sprint(b.rooms.all[0].resent); got != "[false false true false false]" {
		t.Errorf("a copy's middle came before it: sent again: %s", got)
	}
}

func TestJoinInTheMiddle(t *testing.T) {
	b := newBed(t, nil)
	b.send("s 500/100 A tail", "c 100/504 A ask", "s 504/103 A answer")
	b.check(0, `s 0 "tail"`, `c 0 "ask"`, `s 4 "answer"`)
	if c := b.rooms.all[0].conn; c.FromStart(reassembly.Client) || c.FromStart(reassembly.Server) || c.ISN() != 100 {
		t.Errorf("from start %v %v, ISN %d", c.FromStart(reassembly.Client), c.FromStart(reassembly.Server), c.ISN())
	}
}

func TestJoinInAFileWaitsForWhatStandsLater(t *testing.T) {
	b := newBed(t, file)
	b.send("c 103/200 A second", "c 100/200 A one")
	b.Close(reassembly.CloseDone)
	b.check(0, `c 0 "one"`, `c 3 "second"`, "close done")
}

func TestDirection(t *testing.T) {
	b := newBed(t, nil)
	b.send("x 100/200 A what")
	if b.rooms.blind != 4 {
		t.Errorf("%d bytes without a direction, want 4", b.rooms.blind)
	}
	b.rooms.guess = reassembly.ToClient
	b.send("x 104/200 A HTTP")
	b.check(0, `s 4 "HTTP"`)
	b.send("port=7", "x 1/1 A what")
	b.rooms.guess = reassembly.SideUnknown
	b = newBed(t, nil)
	b.send("x 1/1 A what")
	b.Close(reassembly.CloseStopped)
	if b.rooms.blindEnd != 1 || len(b.rooms.all) != 0 {
		t.Errorf("%d blind ends, %d connections", b.rooms.blindEnd, len(b.rooms.all))
	}
}

// A hole that the tap made asks for pure ACKs, one of the network does not at
// once.
func TestHoleOpen(t *testing.T) {
	b := newBed(t, nil)
	b.send(handshake...)
	b.send("c 100/200 A a", "c 102/200 A c")
	if b.HoleOpen() {
		t.Error("a hole across which nothing was lost is open at once")
	}
	b.send("+150ms", "+150ms")
	if !b.HoleOpen() {
		t.Error("an old hole is not open")
	}
	b.send("c 101/200 A b")
	if b.HoleOpen() {
		t.Error("a filled hole is open")
	}
	b.send("lost=4", "c 105/200 A f")
	if !b.HoleOpen() {
		t.Error("a hole across which the ring lost something is not open")
	}
	b.send("s 200/106 A")
	if b.HoleOpen() {
		t.Error("an acknowledged hole is open")
	}
}

// A hole behind which nothing could be queued is open as long as the direction.
func TestHoleOpenWithoutRoom(t *testing.T) {
	b := newBed(t, func(c *reassembly.Config) { c.FlowMemory = 100 })
	b.send(handshake...)
	b.send("c 110/200 A no room")
	if !b.HoleOpen() {
		t.Error("a hole is not open")
	}
	b.send("c 100/200 FA a")
	if b.HoleOpen() {
		t.Error("the hole of a direction that ended is open")
	}
	b.ledger()
}

// In a file a hole waits for what stands later as long as the hold says, whatever
// came before.
func TestHold(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  []string
	}{
		{"an ACK before its data", []string{"c 100/200 A aa", "+1s", "s 200/106 A x", "c 102/200 A bb", "c 104/200 A cc"},
			[]string{`c 0 "aa"`, `c 2 "bb"`, `c 4 "cc"`, `s 0 "x"`}},
		{"another ACK meanwhile", []string{"c 100/200 A aa", "+1s", "s 200/106 A", "s 200/106 A", "c 102/200 A bb", "s 200/106 A", "c 104/200 A cc"},
			[]string{`c 0 "aa"`, `c 2 "bb"`, `c 4 "cc"`}},
		{"an end before its data", []string{"c 100/200 A aa", "+1s", "c 106/200 FA", "s 200/107 A", "c 102/200 A bbcc", "s 200/107 A x"},
			[]string{`c 0 "aa"`, `c 2 "bbcc"`, "c fin", `s 0 "x"`}},
		{"a SYN behind what it comes before", []string{"new", "s 200/102 A x", "+3s", "c 99/0 S", "c 100/201 A aa", "c 102/201 A bb"},
			[]string{`s 0 "x"`, `c 0 "aa"`, `c 2 "bb"`}},
		{"a hole behind what waited", []string{"c 102/200 A bb", "+1500ms", "c 106/200 A dd", "s 200/108 A x", "c 100/200 A aa", "+1s", "c 108/200 A ee", "c 104/200 A cc"},
			[]string{`c 0 "aa"`, `c 2 "bb"`, `c 4 "cc"`, `c 6 "dd"`, `c 8 "ee"`, `s 0 "x"`}},
		{"a copy that goes on before what it is a copy of", []string{"c 100/202 A aabb", "s 200/102 A xy", "c 100/200 A aa"},
			[]string{`c 0 "aa"`, `s 0 "xy"`, `c 2 "bb"`}},
		{"so on both sides of it", []string{"c 100/204 A aabbcc", "s 200/102 A xy", "s 202/104 A zw", "c 102/202 A bb", "c 100/200 A aa"},
			[]string{`c 0 "aa"`, `s 0 "xy"`, `c 2 "bb"`, `s 2 "zw"`, `c 4 "cc"`}},
		{"the time is over", []string{"c 100/200 A aa", "s 200/106 A x", "+3s", "c 106/200 A dd"},
			[]string{`c 0 "aa"`, "c 2 gap 4", `s 0 "x"`, `c 6 "dd"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, file)
			b.send(handshake...)
			idle := b.budget.Used()
			if tt.lines[0] == "new" {
				b, tt.lines = newBed(t, file), tt.lines[1:]
			}
			b.send(tt.lines...)
			b.check(0, tt.want...)
			if b.budget.Used() != idle {
				t.Errorf("%d bytes are taken, %d before", b.budget.Used(), idle)
			}
		})
	}
}

// Many that hold little do not push out one that works, as long as there are some
// that hold much.
func TestEvictionLooksFurther(t *testing.T) {
	b := newBed(t, func(c *reassembly.Config) { c.Budget.Limit = 1 << 20 })
	payload := strings.Repeat("x", 10_000)
	b.send(handshake[0], handshake[1], "c 100/200 A works")
	for port := range 500 {
		b.send(fmt.Sprintf("port=%d", 2000+port), handshake[0], handshake[1], "c 100/200 A a")
	}
	for port := range 40 {
		b.send(fmt.Sprintf("port=%d", 3000+port), handshake[0], handshake[1], "c 110/200 A "+payload, "c 30000/200 A "+payload)
	}
	if st := b.Stats(); st.Evicted == 0 || st.Evicted > 40 {
		t.Errorf("%d were evicted", st.Evicted)
	}
	b.check(0, `c 0 "works"`)
}

func TestLateCopiesOfAClosedConnection(t *testing.T) {
	b := newBed(t, nil)
	b.send(handshake...)
	b.send("c 100/200 FA a", "s 200/102 FA b", "c 100/200 A a", "s 201/102 A late", "+11s", "+1s")
	b.check(0, `c 0 "a"`, "c fin", `s 0 "b"`, "s fin", "close done")
	if st := b.Stats(); st.Duplicate != 1 || st.Malformed != 4 || st.Connections != 0 {
		t.Errorf("%+v", st)
	}
}

func TestIdleConnectionIsForgotten(t *testing.T) {
	b := newBed(t, func(c *reassembly.Config) { c.Idle = time.Minute })
	b.send(handshake...)
	b.send("c 100/200 A a", "+59s")
	b.check(0, `c 0 "a"`)
	b.send("+2s")
	b.check(0, `c 0 "a"`, "close idle")
	if b.Stats().Connections != 0 || b.budget.Used() != 0 {
		t.Errorf("%+v, %d bytes taken", b.Stats(), b.budget.Used())
	}
}

// Memory stays under its limit whatever comes, and every byte is accounted.
func TestMemoryIsBounded(t *testing.T) {
	b := newBed(t, func(c *reassembly.Config) { c.Budget.Limit = 1 << 20; c.FlowMemory = 64 << 10 })
	payload := strings.Repeat("x", 1000)
	for port := range 3000 {
		b.send(fmt.Sprintf("port=%d", 1024+port), handshake[0], handshake[1])
		for k := range 5 {
			b.send(fmt.Sprintf("port=%d", 1024+port), fmt.Sprintf("c %d/200 A %s", 200+2000*k, payload))
		}
		if b.budget.Used() > b.budget.Limit {
			t.Fatalf("%d bytes of %d", b.budget.Used(), b.budget.Limit)
		}
	}
	if st := b.Stats(); st.Evicted == 0 {
		t.Errorf("nothing was evicted: %+v", st)
	}
	b.Close(reassembly.CloseStopped)
	b.ledger()
	if b.budget.Used() != 0 {
		t.Errorf("%d bytes were not given back", b.budget.Used())
	}
}

// A direction that queues more than its share gives its hole up.
func TestFlowMemoryEndsAHole(t *testing.T) {
	b := newBed(t, func(c *reassembly.Config) { c.FlowMemory = 8 << 10 })
	b.send(handshake...)
	for k := range 30 {
		b.send(fmt.Sprintf("c %d/200 A %s", 110+500*k, strings.Repeat("y", 500)))
	}
	log := b.rooms.all[0].log
	if len(log) == 0 || log[0] != "c 0 gap 10" {
		t.Fatalf("%.200q", log)
	}
	if len(b.rooms.all[0].got[0]) != 15000 {
		t.Errorf("%d bytes delivered", len(b.rooms.all[0].got[0]))
	}
	b.ledger()
}

// One Tick looks at 1,000 connections at most.
func TestTickIsBounded(t *testing.T) {
	b := newBed(t, func(c *reassembly.Config) { c.Idle = time.Second })
	for port := range 3500 {
		b.send(fmt.Sprintf("port=%d", 1024+port), handshake[0])
	}
	before := b.Stats().Connections
	b.Tick(b.now + int64(time.Hour))
	if n := before - b.Stats().Connections; n != 1000 {
		t.Errorf("one Tick forgot %d connections", n)
	}
	for range 3 {
		b.Tick(b.now + int64(time.Hour))
	}
	if n := b.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// Whatever the segments, the bytes of a stream come in order, once, and each is
// accounted for.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), uint64(1))
	f.Add([]byte{0, 0, 0, 0, 255, 255, 2, 2, 16, 17, 4, 8}, uint64(2))
	f.Add([]byte("0000000000000000000000000000000000"), uint64(3))
	f.Fuzz(func(t *testing.T, script []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := newBed(t, nil)
		if seed%2 == 0 {
			b = newBed(t, file)
		}
		b.budget.Limit = 64 << 10
		text := make([]byte, 4096)
		for i := range text {
			text[i] = byte(i * 7)
		}
		isn := [2]uint32{r.Uint32(), r.Uint32()}
		for _, op := range script {
			from := int(op & 1)
			at := r.IntN(len(text))
			n := r.IntN(min(600, len(text)-at) + 1)
			s := reassembly.Segment{
				SrcPort: 1024, DstPort: 80, Tap: 1 + uint16(op>>7)&uint16(r.IntN(2)), Side: reassembly.ToServer,
				Seq: isn[from] + 1 + uint32(at), Ack: isn[1-from] + 1 + uint32(r.IntN(5000)),
				Network: uint32(op>>7) & uint32(r.IntN(2)) * uint32(r.IntN(3)),
				Flags:   reassembly.Flags(op>>1) & 0x3f, Time: int64(r.IntN(1 << 40)), Payload: text[at : at+n], Lost: uint64(r.IntN(3)),
			}
			if s.Flags&reassembly.SYN != 0 {
				s.Seq = isn[from]
				if r.IntN(4) == 0 {
					s.Seq = r.Uint32()
				}
				s.Payload = nil
			}
			if seed%3 == 0 && r.IntN(4) == 0 {
				s.Skipped = r.Uint32N(1 << (4 + r.IntN(28)))
			}
			s.Src[15], s.Dst[15] = 1, 2
			if from == 1 {
				s.SrcPort, s.DstPort, s.Src, s.Dst, s.Side = s.DstPort, s.SrcPort, s.Dst, s.Src, reassembly.ToClient
			}
			b.Segment(&s)
			b.ledger()
			if r.IntN(8) == 0 {
				b.Tick(s.Time)
			}
		}
		b.Close(reassembly.CloseStopped)
		b.ledger()
		if st := b.Stats(); st.Queued != 0 || st.Connections != 0 || b.budget.Used() != 0 || b.HoleOpen() {
			t.Fatalf("left over: %+v, %d bytes, hole %v", st, b.budget.Used(), b.HoleOpen())
		}
	})
}
