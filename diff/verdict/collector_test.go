package verdict

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/diff"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func newCollector(t testing.TB, agent string, change func(*CollectorConfig)) (*Collector, RouteID) {
	t.Helper()
	c := CollectorConfig{Agent: agent, BootID: "boot-" + agent, ConfigRevision: "r1", Experiments: []CollectorExperiment{
		{Name: "users", CandidateVersion: "v2", SampleBy: SampleByRequest, Control: true, Routes: []string{"/users/{id}"}},
	}}
	if change != nil {
		change(&c)
	}
	col, err := NewCollector(c)
	if err != nil {
		t.Fatal(err)
	}
	id, ok := col.Route("users", "/users/{id}")
	if !ok {
		t.Fatal("the route is not known")
	}
	return col, id
}

// paired is a pair that both answered, with these fingerprints.
func paired(group int, candidate, control []string) *Pair {
	outcome := func(f []string) diff.Outcome {
		if len(f) > 0 {
			return diff.Divergent
		}
		return diff.Equal
	}
	return &Pair{
		Outcome: outcome(candidate), Fingerprints: candidate, KeyGroup: group,
		Control: Control{Result: ControlAnswered, Outcome: outcome(control), Fingerprints: control},
	}
}

const (
	printA = "aaaaaaaaaaaaaaaa"
	printB = "bbbbbbbbbbbbbbbb"
)

func TestKeyGroup(t *testing.T) {
	if g := KeyGroup("GET", "/users/42"); g != 858 {
		t.Errorf("GET /users/42 is in group %d", g)
	}
}

func TestCollectorConfig(t *testing.T) {
	for name, c := range map[string]CollectorConfig{
		"MaxCells":   {MaxCells: -1},
		"no name":    {Experiments: []CollectorExperiment{{SampleBy: "request", Routes: []string{"/"}}}},
		"SampleBy":   {Experiments: []CollectorExperiment{{Name: "e", Routes: []string{"/"}}}},
		"no route":   {Experiments: []CollectorExperiment{{Name: "e", SampleBy: "request"}}},
		"Warmup":     {Experiments: []CollectorExperiment{{Name: "e", SampleBy: "request", Routes: []string{"/"}, Warmup: -1}}},
		"twice":      {Experiments: []CollectorExperiment{{Name: "e", SampleBy: "request", Routes: []string{"/", "/"}}}},
		"0 is empty": {Experiments: []CollectorExperiment{{Name: "e", SampleBy: "request", Routes: []string{""}}}},
	} {
		if _, err := NewCollector(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Callers count by RouteID in tables of their own.
func TestRouteIDs(t *testing.T) {
	c, err := NewCollector(CollectorConfig{Experiments: []CollectorExperiment{
		{Name: "b", SampleBy: "request", Routes: []string{"/z", "/a"}}, {Name: "a", SampleBy: "request", Routes: []string{"/a"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for want, r := range [][2]string{{"b", ""}, {"b", "/z"}, {"b", "/a"}, {"a", ""}, {"a", "/a"}} {
		if id, ok := c.Route(r[0], r[1]); !ok || id != RouteID(want) {
			t.Errorf("%q has the id %d, %v, want %d", r, id, ok, want)
		}
	}
}

// recordOf finds the record of a route and fingerprint, after at others.
func recordOf(ws []*Window, route, fingerprint string, at int) *Window {
	for _, w := range ws {
		if w.Route == route && w.Fingerprint == fingerprint {
			if at == 0 {
				return w
			}
			at--
		}
	}
	return nil
}

func TestCollectorCounts(t *testing.T) {
	c, id := newCollector(t, "a", nil)
	for s := OwnTraffic; s <= SampledOut; s++ {
		c.Pass(id, noon, s)
	}
	c.Lose(id, noon, "gap")
	for u := Shed; u <= Stopped; u++ {
		c.Skip(c.Select(id, noon), u, ControlNotChosen)
	}
	c.Skip(c.Select(id, noon), Shed, ControlShed)
	for _, p := range []*Pair{
		paired(1, nil, nil),
		paired(1, []string{printA, printA}, nil),              // group 1: candidate 1
		paired(2, []string{printA}, []string{printA, printB}), // both; B: control only
		paired(3, nil, []string{printA}),                      // group 3: control 1
		paired(4, []string{printA}, nil),                      // group 4: one each, no unit
		paired(4, nil, []string{printA}),
		paired(5, []string{printA}, nil), // group 5: three, one unit
		paired(5, []string{printA}, nil),
		paired(5, []string{printA, printB}, nil),
		{Outcome: diff.Divergent, Fingerprints: []string{printA}, KeyGroup: 6}, // no control
		{Outcome: diff.Divergent, Why: diff.WhyFailed, Failed: "timeout", Fingerprints: []string{printA}, Control: Control{Result: ControlAnswered}},
		{Outcome: diff.NotComparable, Why: diff.WhyStale, Fingerprints: []string{printA}, Control: Control{Result: ControlAnswered}},
		{Outcome: diff.Ignored, Control: Control{Result: ControlFailed}},
		{Outcome: diff.Divergent, Fingerprints: []string{printA}, Control: Control{Result: ControlAnswered, Outcome: diff.NotComparable}},
	} {
		c.Compare(c.Select(id, noon), p)
	}
	ws := c.Flush()
	if len(ws) != 4 { // the route of none, totals, two fingerprints
		t.Fatalf("%d records", len(ws))
	}
	for i, w := range ws {
		if err := w.Check(); err != nil {
			t.Error(err)
		}
		if w.Sequence != int64(i+1) {
			t.Errorf("sequence %d, want %d", w.Sequence, i+1)
		}
	}
	w := recordOf(ws, "/users/{id}", "", 0)
	want := Counts{
		Lost: map[string]int64{"gap": 1}, Complete: 27, OwnTraffic: 1, Unmatched: 1, Excluded: 1, NotReplayable: 1, Unsafe: 1, Paused: 1, Ended: 1, SampledOut: 1,
		Selected: 19, Compared: 14, Shed: 2, RateLimited: 1, BreakerOpen: 1, Stopped: 1, Equal: 3, Ignored: 1, Divergent: 9,
		NotComparable: map[string]int64{"stale": 1}, Failed: map[string]int64{"timeout": 1},
		ControlChosen: 14, ControlFailed: 1, ControlShed: 1, Unpaired: 3, Paired: 9, Both: 1, CandidateOnly: 5, ControlOnly: 2,
		B: 2, D: 1, ExcessSquares: 1 + 1 + 9,
	}
	if !reflect.DeepEqual(w.Counts, want) {
		t.Errorf("totals\n%+v, want\n%+v", w.Counts, want)
	}
	if g := w.KeyGroups[5]; g != [2]int64{3, 3} {
		t.Errorf("key group 5: %v", g)
	}
	a := recordOf(ws, "/users/{id}", printA, 0).Counts
	if want := (Counts{Divergent: 8, Both: 1, CandidateOnly: 5, ControlOnly: 2, B: 2, D: 1, ExcessSquares: 11}); !reflect.DeepEqual(a, want) {
		t.Errorf("fingerprint a\n%+v, want\n%+v", a, want)
	}
	b := recordOf(ws, "/users/{id}", printB, 0).Counts
	if want := (Counts{Divergent: 1, CandidateOnly: 1, ControlOnly: 1, B: 1, D: 1, ExcessSquares: 2}); !reflect.DeepEqual(b, want) {
		t.Errorf("fingerprint b\n%+v, want\n%+v", b, want)
	}
	if s := c.Stats(); s.Cells != 0 || s.Open != 0 || s.Pending != 0 {
		t.Errorf("something is held: %+v", s)
	}
}

// A window is handed out once, in order, when it is over and every replay of it
// has ended; empty ones come too.
func TestCollectorWindows(t *testing.T) {
	c, id := newCollector(t, "a", nil)
	starts := func(ws []*Window) (s []string) {
		for _, w := range ws {
			if w.Route != "" && w.Fingerprint == "" {
				s = append(s, fmt.Sprintf("%s %d+%d", w.WindowStart.Time().Format("04:05"), w.Compared, w.Stopped))
			}
		}
		return s
	}
	expect := func(ws []*Window, want ...string) {
		t.Helper()
		if got := starts(ws); !slices.Equal(got, want) {
			t.Errorf("windows %q, want %q", got, want)
		}
	}
	at := func(s int) time.Time { return noon.Add(time.Duration(s) * time.Second) }
	expect(c.Advance(at(3)))
	t1, t2 := c.Select(id, at(4)), c.Select(id, at(25))
	expect(c.Advance(at(39)))
	expect(c.Advance(at(41))) // over, but the replay goes on
	c.Compare(t1, paired(1, nil, nil))
	expect(c.Advance(at(41)), "00:00 1+0")
	expect(c.Advance(at(41)))
	c.Compare(t2, paired(1, nil, nil))
	c.Compare(c.Select(id, at(5)), paired(1, nil, nil)) // late: its window is gone
	ws := c.Advance(at(71))
	expect(ws, "00:10 1+0", "00:20 1+0", "00:30 0+0")
	if late := ws[1].Late; late != 1 {
		t.Errorf("%d late", late)
	}
	expect(c.Advance(at(20))) // backwards
	// A stretch without anything gives at most an hour of windows.
	if ws := c.Advance(at(40 + 7200)); len(ws) != 2*maxEmpty {
		t.Errorf("%d records of an empty stretch", len(ws))
	}
	c.Select(id, at(7240))
	expect(c.Flush(), "00:10 0+0", "00:20 0+0", "00:30 0+0", "00:40 0+1")
	expect(c.Flush())
}

// When more windows are open than may be, the first is closed; what was pending
// in it is counted where it ends, once.
func TestCollectorTooManyOpen(t *testing.T) {
	c, id := newCollector(t, "a", nil)
	first := c.Select(id, noon)
	var rest []Ticket
	for i := 1; i <= maxOpen; i++ {
		rest = append(rest, c.Select(id, noon.Add(time.Duration(i)*WindowLength)))
	}
	ws := c.Advance(noon.Add(time.Duration(maxOpen) * WindowLength))
	if len(ws) != 2 || ws[1].Selected != 0 || ws[1].WindowStart.Time() != noon {
		t.Fatalf("%d records, %+v", len(ws), ws[1].Counts)
	}
	c.Compare(first, paired(1, nil, nil))
	for _, k := range rest {
		c.Compare(k, paired(1, nil, nil))
	}
	ws = append(ws, c.Flush()...)
	var sum Counts
	for _, w := range ws {
		if err := w.Check(); err != nil {
			t.Error(err)
		}
		sum.add(&w.Counts)
	}
	if sum.Selected != maxOpen+1 || sum.Compared != maxOpen+1 || sum.Late != 1 {
		t.Errorf("%+v", sum)
	}
}

func TestCollectorBounds(t *testing.T) {
	c, id := newCollector(t, "a", func(c *CollectorConfig) { c.MaxCells = 100 })
	for i := range 1000 {
		c.Compare(c.Select(id, noon), paired(i, []string{fmt.Sprintf("%016x", i)}, nil))
	}
	s := c.Stats()
	if s.Fingerprints != MaxFingerprints || s.Coarse == 0 || s.Cells > 100+MaxFingerprints+2 {
		t.Errorf("%+v", s)
	}
	ws := c.Flush()
	other := recordOf(ws, "/users/{id}", OtherFingerprint, 0)
	if other == nil || other.Divergent != 1000-MaxFingerprints || other.B != 1 {
		t.Fatalf("%+v", other)
	}
	if n := len(ws); n != 2+MaxFingerprints+1 {
		t.Errorf("%d records", n)
	}
	// After an hour they are not live any more.
	c.Compare(c.Select(id, noon.Add(2*time.Hour)), paired(1, []string{printA}, nil))
	if recordOf(c.Flush(), "/users/{id}", printA, 0) == nil {
		t.Error("a new fingerprint is not counted by itself, hours later")
	}
}

func TestCollectorTimes(t *testing.T) {
	ms := time.Millisecond
	leg := func(first, last time.Duration, size int64) Leg {
		return Leg{FirstByte: first, LastByte: last, Size: size}
	}
	c, id := newCollector(t, "a", func(c *CollectorConfig) { c.Experiments[0].Warmup = time.Minute })
	warm := noon.Add(time.Minute)
	pair := func(at time.Time, cand, ctrl Leg, r ControlResult) {
		p := &Pair{Reference: leg(3*ms, 4*ms, 100), Candidate: cand, Control: Control{Result: r, Leg: ctrl}}
		if cand.FirstByte == 0 {
			p.Outcome, p.Failed = diff.Divergent, "timeout"
		}
		c.Compare(c.Select(id, at), p)
	}
	pair(noon, leg(5*ms, 6*ms, 100), leg(5*ms, 6*ms, 100), ControlAnswered)              // warming up
	pair(warm, leg(5*ms, 6*ms, 100), leg(4*ms, 6*ms, 100), ControlAnswered)              // all
	pair(warm, leg(5*ms, 6*ms, 100), Leg{}, ControlNotChosen)                            // no control
	pair(warm, leg(5*ms, 6*ms, 100), Leg{}, ControlShed)                                 // no pair
	pair(warm, leg(5*ms, 60*ms, 1<<20), leg(5*ms, 60*ms, 1<<20), ControlAnswered)        // large
	pair(warm, Leg{GaveUp: 2 * time.Second}, leg(4*ms, 6*ms, 100), ControlAnswered)      // the candidate hangs
	pair(warm, leg(4*ms, 6*ms, 100), Leg{GaveUp: 2 * time.Second}, ControlFailed)        // the control hangs
	pair(warm, leg(4*ms, 6*ms, 100), Leg{}, ControlFailed)                               // refused: no time
	pair(warm, Leg{FirstByte: ms, NewConnection: true}, leg(ms, ms, 1), ControlAnswered) // new connection
	w := recordOf(c.Flush(), "/users/{id}", "", 6)
	for _, h := range []struct {
		name string
		h    Histogram
		want int64
	}{
		{"reference", w.ReferenceTTFB, 4}, {"candidate", w.CandidateTTFB, 3}, {"control", w.ControlTTFB, 3}, {"difference", w.DifferenceTTFB, 2},
		{"candidate censored", w.CandidateCensored, 1}, {"control censored", w.ControlCensored, 1},
		{"last byte", w.CandidateTTLB, 1}, {"last byte difference", w.DifferenceTTLB, 1}, {"last byte of the reference", w.ReferenceTTLB, 1},
	} {
		if got := h.h.Count(); got != h.want {
			t.Errorf("%s: %d times, want %d", h.name, got, h.want)
		}
	}
	if w.NewConnection != 1 || w.WarmingUp != 0 {
		t.Errorf("new connections %d, warming up %d", w.NewConnection, w.WarmingUp)
	}
	if w.DifferenceTTFB[Bucket(1000)] != 1 || w.DifferenceTTFB[0] != 1 {
		t.Errorf("differences %v", w.DifferenceTTFB)
	}
}

// Whatever happens in whatever order: every record is right by Check, and
// everything that went in comes out once.
func TestCollectorBalances(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c, id := newCollector(t, "a", nil)
		var out []*Window
		var tickets []Ticket
		var selected, compared int64
		now := noon
		prints := rapid.SliceOfN(rapid.SampledFrom([]string{printA, printB}), 0, 3)
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			at := now.Add(time.Duration(rapid.IntRange(-90, 20).Draw(rt, "at")) * time.Second)
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0, 1:
				tickets = append(tickets, c.Select(id, at))
				selected++
			case 2, 3:
				if len(tickets) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(tickets)-1).Draw(rt, "ticket")
				p := paired(rapid.IntRange(0, 3).Draw(rt, "group"), prints.Draw(rt, "candidate"), prints.Draw(rt, "control"))
				c.Compare(tickets[i], p)
				tickets = slices.Delete(tickets, i, i+1)
				compared++
			case 4:
				now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(rt, "pass")) * time.Second)
				out = append(out, c.Advance(now)...)
			}
		}
		out = append(out, c.Flush()...)
		var sum Counts
		for i, w := range out {
			if err := w.Check(); err != nil {
				rt.Fatal(err)
			}
			if w.Sequence != int64(i+1) || i > 0 && w.WindowStart < out[i-1].WindowStart {
				rt.Fatalf("record %d has sequence %d and starts at %v", i, w.Sequence, w.WindowStart)
			}
			if w.Fingerprint == "" {
				sum.add(&w.Counts)
			}
		}
		if sum.Selected != selected || sum.Compared != compared || sum.Stopped != selected-compared {
			rt.Fatalf("%d selected and %d compared went in, %+v came out", selected, compared, sum)
		}
		if s := c.Stats(); s.Cells != 0 {
			rt.Fatalf("%d cells are held", s.Cells)
		}
	})
}

func BenchmarkCompareEqual(b *testing.B) {
	benchmarkCompare(b, paired(7, nil, nil))
}

func BenchmarkCompareDivergent(b *testing.B) {
	benchmarkCompare(b, paired(7, []string{printA, printB}, []string{printA}))
}

func benchmarkCompare(b *testing.B, p *Pair) {
	c, id := newCollector(b, "a", nil)
	p.Candidate = Leg{FirstByte: 900 * time.Microsecond, LastByte: time.Millisecond}
	p.Control.Leg = Leg{FirstByte: 950 * time.Microsecond, LastByte: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		c.Compare(c.Select(id, noon), p)
	}
}
