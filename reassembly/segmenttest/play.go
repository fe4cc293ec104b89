package segmenttest

import (
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Parser is a parser as the assembler and the ledger see it.
type Parser interface {
	reassembly.Factory
	Stats() exchange.Stats
}

// Path is the way that segments took.
type Path bool

const (
	// Live is a ring: the order is that of the wire, holes are decided by
	// acknowledgements at once, and pure ACKs come only while a hole is open.
	Live Path = true
	// Captured is a file, read with the hold of reassembly.Config.
	Captured Path = false
)

func (p Path) String() string {
	if p == Live {
		return "live"
	}
	return "file"
}

// Hold is how far an acknowledgement may stand before its data in a file.
const (
	HoldTime     = 20 * time.Millisecond
	HoldSegments = 64
)

// Collector is the keeper and the sink of a test.
type Collector struct {
	// Want is what it answers for each request.
	Want exchange.Want
	// Exchanges are those that were kept, N is how many were complete.
	Exchanges []*exchange.Exchange
	N         int
	// Asked is how often Keep was called, Gone what did not become complete by
	// its result, and LostAsked how much of that Keep had been asked about.
	Asked, LostAsked uint64
	Gone             [exchange.NumResults]uint64
}

// Keep implements exchange.Keeper.
func (c *Collector) Keep(*exchange.Head) exchange.Decision {
	c.Asked++
	return exchange.Decision{Want: c.Want}
}

// Complete implements exchange.Sink.
func (c *Collector) Complete(x *exchange.Complete) {
	c.N++
	if x.Exchange != nil {
		c.Exchanges = append(c.Exchanges, x.Exchange)
	}
}

// Lost implements exchange.Sink.
func (c *Collector) Lost(l exchange.Lost) {
	c.Gone[l.Result] += l.N
	if l.Decision != nil {
		c.LostAsked += l.N
	}
}

// Result is what Play found.
type Result struct {
	*Collector
	Parser    exchange.Stats
	Assembler reassembly.Stats
}

// Play gives segments of one connection to an assembler, closes it as at the
// end of a capture, and checks the ledger. make builds the parser.
func Play(t testing.TB, segs []Segment, path Path, want exchange.Want, make func(*Collector, *reassembly.Budget) (Parser, error)) Result {
	t.Helper()
	res := Result{Collector: &Collector{Want: want}}
	budget := &reassembly.Budget{Limit: 64 << 20}
	p, err := make(res.Collector, budget)
	if err != nil {
		t.Fatal(err)
	}
	cfg := reassembly.Config{Factory: p, Budget: budget}
	if path == Captured {
		cfg.HoldTime, cfg.HoldSegments = HoldTime, HoldSegments
	}
	a, err := reassembly.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var s reassembly.Segment
	for i := range segs {
		x := &segs[i]
		if path == Live && x.PureACK() && !a.HoleOpen() {
			continue
		}
		x.Fill(&s)
		a.Segment(&s)
		if i%50 == 49 {
			a.Tick(x.Time)
		}
	}
	a.Close(reassembly.CloseDone)
	res.Parser, res.Assembler = p.Stats(), a.Stats()
	CheckLedger(t, &res, budget)
	return res
}

// Fill makes s the segment between 0.0.0.1:1024 and 0.0.0.2:80.
func (x *Segment) Fill(s *reassembly.Segment) {
	*s = reassembly.Segment{
		SrcPort: 1024, DstPort: 80, Seq: x.Seq, Ack: x.Ack, Flags: x.Flags,
		Payload: x.Payload, Time: x.Time, Lost: x.Lost, Tap: x.Tap, Side: reassembly.ToServer,
	}
	s.Src[15], s.Dst[15] = 1, 2
	if !x.ToServer {
		s.SrcPort, s.DstPort, s.Src, s.Dst, s.Side = s.DstPort, s.SrcPort, s.Dst, s.Src, reassembly.ToClient
	}
}

// CheckLedger asserts what must hold after any traffic that has ended.
func CheckLedger(t testing.TB, r *Result, b *reassembly.Budget) {
	t.Helper()
	h, a := &r.Parser, &r.Assembler
	if ends := Ends(h); ends != h.Started || h.InFlight != 0 || h.Late != 0 {
		t.Errorf("started %d, ended %d, in flight %d, late %d", h.Started, ends, h.InFlight, h.Late)
	}
	if int(h.Complete()) != r.N {
		t.Errorf("%d counted as complete, %d given", h.Complete(), r.N)
	}
	for result, reasons := range h.Exchanges {
		var n uint64
		for _, k := range reasons {
			n += k
		}
		if result != int(exchange.ResultComplete) && n != r.Gone[result] {
			t.Errorf("%d counted as %s, %d given", n, exchange.Result(result), r.Gone[result])
		}
	}
	if r.Asked != uint64(r.N)+r.LostAsked {
		t.Errorf("asked about %d, of which %d became complete and %d were lost", r.Asked, r.N, r.LostAsked)
	}
	if sum := a.Delivered + a.Duplicate + a.OtherInterface + a.Malformed + a.OverMemory + a.Queued; sum != a.Captured || a.Queued != 0 {
		t.Errorf("captured %d bytes, accounted %d: %+v", a.Captured, sum, *a)
	}
	if sum := h.Parsed + h.Upgraded + h.AfterGap + h.Unparsable + h.Evicted; sum != a.Delivered || h.Held != 0 {
		t.Errorf("delivered %d bytes, accounted %d: %+v", a.Delivered, sum, *h)
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes of the budget were not given back", b.Used())
	}
}

// Ends is the sum of the results.
func Ends(h *exchange.Stats) (n uint64) {
	for _, reasons := range h.Exchanges {
		for _, k := range reasons {
			n += k
		}
	}
	return n
}

// Dump logs segments, one a line.
func Dump(t testing.TB, segs []Segment) {
	t.Helper()
	for i := range segs {
		s := &segs[i]
		dir := "<-"
		if s.ToServer {
			dir = "->"
		}
		t.Logf("%3d %s x%d seq %d ack %d fl %x lost %d len %d %.40q", i, dir, s.Exchange, s.Seq, s.Ack, s.Flags, s.Lost, len(s.Payload), s.Payload)
	}
}
