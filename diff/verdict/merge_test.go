package verdict

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func merged(t testing.TB, windows ...[]*Window) *Merge {
	t.Helper()
	m := NewMerge()
	for _, ws := range windows {
		for _, w := range ws {
			if err := m.Add(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

func asJSON(t testing.TB, r *Report) string {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// drawWindows runs some agents over the same few minutes.
func drawWindows(rt *rapid.T, t *testing.T) (ws []*Window) {
	prints := rapid.SliceOfN(rapid.SampledFrom([]string{printA, printB, "cccccccccccccccc"}), 0, 2)
	for a := range rapid.IntRange(1, 4).Draw(rt, "agents") {
		c, id := newCollector(t, fmt.Sprint(a), nil)
		for range rapid.IntRange(0, 30).Draw(rt, "pairs") {
			at := noon.Add(time.Duration(rapid.IntRange(0, 60).Draw(rt, "at")) * time.Second)
			p := paired(rapid.IntRange(0, 3).Draw(rt, "group"), prints.Draw(rt, "candidate"), prints.Draw(rt, "control"))
			p.Candidate = Leg{FirstByte: time.Duration(rapid.IntRange(1, 5).Draw(rt, "ms")) * time.Millisecond}
			p.Control.Leg = Leg{FirstByte: 3 * time.Millisecond}
			c.Compare(c.Select(id, at), p)
		}
		ws = append(ws, c.Flush()...)
	}
	return ws
}

// The order of the records and their repeats do not matter.
func TestMergeOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ws := drawWindows(rt, t)
		s := DefaultSettings()
		want := merged(t, ws).Report(s)
		mixed := slices.Clone(ws)
		if len(ws) > 0 {
			for range rapid.IntRange(0, 10).Draw(rt, "repeats") {
				mixed = append(mixed, ws[rapid.IntRange(0, len(ws)-1).Draw(rt, "which")])
			}
		}
		mixed = rapid.Permutation(mixed).Draw(rt, "order")
		got := merged(t, mixed).Report(s)
		if got.Repeats != int64(len(mixed)-len(ws)) {
			rt.Fatalf("%d repeats, want %d", got.Repeats, len(mixed)-len(ws))
		}
		got.Repeats = 0
		if g, w := asJSON(t, got), asJSON(t, want); g != w {
			rt.Fatalf("in another order\n%s, want\n%s", g, w)
		}
	})
}

// Many agents give what one agent would have had, evidence included. Only the sums
// of B and D are those of the agents' own units.
func TestMergeIsOneAgents(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	one, id := newCollector(t, "one", nil)
	var many []*Collector
	for a := range 5 {
		c, _ := newCollector(t, fmt.Sprint(a), nil)
		many = append(many, c)
	}
	for range 3000 {
		at := noon.Add(time.Duration(r.IntN(300)) * time.Second)
		var cand, ctrl []string
		if r.IntN(20) == 0 {
			cand = []string{printA}
		}
		if r.IntN(20) == 0 {
			ctrl = []string{printA, printB}
		}
		p := paired(r.IntN(5), cand, ctrl)
		p.Candidate, p.Control.Leg = Leg{FirstByte: time.Duration(r.IntN(1e7))}, Leg{FirstByte: time.Duration(r.IntN(1e7))}
		for _, c := range []*Collector{one, many[r.IntN(5)]} {
			c.Compare(c.Select(id, at), p)
		}
	}
	var all [][]*Window
	var b, d int64
	for _, c := range many {
		ws := c.Flush()
		for _, w := range ws {
			if w.Fingerprint == "" {
				b, d = b+w.B, d+w.D
			}
		}
		all = append(all, ws)
	}
	s := DefaultSettings()
	ro, rm := merged(t, one.Flush()).Report(s), merged(t, all...).Report(s)
	eo, em := ro.Experiments[0], rm.Experiments[0]
	co, cm := eo.Counts, em.Counts
	if cm.B != b || cm.D != d {
		t.Errorf("b %d and d %d, the agents' sums are %d and %d", cm.B, cm.D, b, d)
	}
	cm.B, cm.D, cm.ExcessSquares = co.B, co.D, co.ExcessSquares
	if !reflect.DeepEqual(co, cm) {
		t.Errorf("many agents\n%+v, one\n%+v", cm, co)
	}
	if !reflect.DeepEqual(eo.Fingerprints, em.Fingerprints) {
		t.Errorf("fingerprints of many agents\n%+v, of one\n%+v", em.Fingerprints, eo.Fingerprints)
	}
	if !reflect.DeepEqual(eo.Routes[0].Latency, em.Routes[0].Latency) {
		t.Errorf("latency of many agents\n%+v, of one\n%+v", em.Routes[0].Latency, eo.Routes[0].Latency)
	}
	if len(em.Fingerprints) != 2 || em.Agents != 5 {
		t.Errorf("%d agents, fingerprints %+v", em.Agents, em.Fingerprints)
	}
}

// The window that first showed a fingerprint is left out of its b and d, for all
// agents, whichever record comes first.
func TestFirstWindowIsLeftOut(t *testing.T) {
	var all []*Window
	for a := range 2 {
		c, id := newCollector(t, fmt.Sprint(a), nil)
		for g := 4 * a; g < 4*a+4; g++ { // agent 1 sees it a window earlier, too
			c.Compare(c.Select(id, noon.Add(10*time.Second)), paired(g, []string{printA}, nil))
			c.Compare(c.Select(id, noon.Add(20*time.Second)), paired(g, nil, []string{printA}))
			if a == 1 {
				c.Compare(c.Select(id, noon), paired(g, []string{printA}, []string{printB}))
			}
		}
		all = append(all, c.Flush()...)
	}
	for range 2 {
		slices.Reverse(all)
		f := merged(t, all).Report(DefaultSettings()).Experiments[0].Fingerprints
		if len(f) != 2 || f[0].Fingerprint != printA || f[0].Order != 1 || f[1].Order != 2 || f[0].First.Time() != noon {
			t.Fatalf("%+v", f)
		}
		if f[0].B != 8 || f[0].D != 8 || f[0].Divergent != 12 || f[0].Paired != 20 || f[0].CandidateOnly != 12 || f[0].ControlOnly != 8 {
			t.Errorf("%+v", f[0])
		}
		if f[0].Excess.Estimate != 0 || f[1].B != 0 || f[1].D != 0 {
			t.Errorf("%+v", f)
		}
	}
}

func TestMergeConflictsAndHoles(t *testing.T) {
	c, id := newCollector(t, "a", nil)
	for i := range 30 {
		c.Compare(c.Select(id, noon.Add(time.Duration(i)*WindowLength)), paired(1, nil, nil))
	}
	ws := c.Flush()
	m := merged(t, ws)
	other := *ws[5]
	other.Equal, other.Ignored = 0, 1
	if err := m.Add(&other); !errors.Is(err, ErrConflict) {
		t.Errorf("%v", err)
	}
	r := m.Report(DefaultSettings())
	if r.Conflicts != 1 || !strings.Contains(asJSON(t, r), "records_conflict") {
		t.Errorf("%+v", r)
	}
	holes := merged(t, slices.Concat(ws[:10], ws[20:])).Report(DefaultSettings())
	if holes.Missing != 10 || !strings.Contains(asJSON(t, holes), "10 of 60 window records did not come") {
		t.Errorf("%d missing: %s", holes.Missing, asJSON(t, holes))
	}
	if r := merged(t, ws[10:]).Report(DefaultSettings()); r.Missing != 0 {
		t.Errorf("%d missing before the first that is there", r.Missing)
	}
	// Without a boot id, as from a capture file, only what is equal is a repeat.
	for _, w := range ws {
		w.Agent, w.BootID = "", ""
	}
	m = merged(t, ws, ws)
	other = *ws[5]
	other.Equal, other.Ignored = 0, 1
	if err := m.Add(&other); err != nil {
		t.Error(err)
	}
	if r := m.Report(DefaultSettings()); r.Repeats != 60 || r.Records != 61 || r.Missing != 0 {
		t.Errorf("%d records, %d repeats", r.Records, r.Repeats)
	}
	bad := *ws[0]
	bad.Selected++
	if err := m.Add(&bad); err == nil {
		t.Error("a window that does not add up is merged")
	}
}

// classOf is the class of sums as a merge would have them, in windows after the
// first.
func classOf(order int, n sums, paired int64) Class {
	f := Fingerprint{Fingerprint: printA, Order: order}
	f.classify(&fingerprintSums{all: n}, paired, paired, DefaultSettings())
	return f.Class
}

func TestClasses(t *testing.T) {
	for _, c := range []struct {
		name   string
		n      sums
		order  int
		paired int64
		want   Class
	}{
		{"nothing yet", sums{}, 1, 100, Undecided},
		{"eight to none", sums{divergent: 8, candidateOnly: 8, b: 8, squares: 8}, 1, 1000, Candidate},
		{"seven to none", sums{divergent: 7, candidateOnly: 7, b: 7, squares: 7}, 1, 1000, Undecided},
		{"eight to none, but the tenth", sums{divergent: 8, candidateOnly: 8, b: 8, squares: 8}, 10, 1000, Undecided},
		{"no pair at all", sums{divergent: 500}, 1, 0, Undecided},
		{"noise of few pairs", sums{divergent: 50, candidateOnly: 50, controlOnly: 50, b: 50, d: 50, squares: 100}, 1, 10_000, Undecided},
		{"the same of many", sums{divergent: 50, candidateOnly: 50, controlOnly: 50, b: 50, d: 50, squares: 100}, 1, 100_000, Noise},
		{"too few at the control", sums{divergent: 4, candidateOnly: 4, controlOnly: 4, b: 4, d: 4, squares: 8}, 1, 1_000_000, Undecided},
		{"eight of a million", sums{divergent: 8, candidateOnly: 8, b: 8, squares: 8}, 1, 1_000_000, Negligible},
		// Units alone would acquit these: one key group, 500 windows of 200
		// requests, half of them divergent in candidate and a tenth in control.
		{"a hot key", sums{divergent: 50_000, candidateOnly: 50_000, controlOnly: 10_000, b: 500, d: 5, squares: 500 * 80 * 80}, 1, 100_000, Candidate},
		{"a hot key of many", sums{divergent: 50_000, candidateOnly: 50_000, controlOnly: 10_000, b: 500, d: 5, squares: 500 * 80 * 80}, 1, 10_000_000, Candidate},
		{"always different", sums{divergent: 1000, both: 1000}, 1, 1000, Masked},
		{"half", sums{divergent: 500, both: 500}, 1, 1000, Undecided},
		{"one of one", sums{divergent: 1, both: 1}, 1, 1, Undecided},
		{"masked, and yet worse", sums{divergent: 1000, both: 600, candidateOnly: 400, b: 400, squares: 400}, 1, 1000, Candidate},
	} {
		if got := classOf(c.order, c.n, c.paired); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	f := Fingerprint{Fingerprint: OtherFingerprint, Order: 1}
	f.classify(&fingerprintSums{all: sums{divergent: 50, candidateOnly: 50, controlOnly: 50, b: 50, d: 50, squares: 100}}, 100_000, 100_000, DefaultSettings())
	if f.Class != Undecided {
		t.Errorf("what is beyond 256 fingerprints is %s", f.Class)
	}
}

func BenchmarkReport(b *testing.B) {
	// 20 agents, 5 routes, 100,000 records.
	r := rand.New(rand.NewPCG(8, 8))
	m := NewMerge()
	var records []*Window
	for a := range 20 {
		c, err := NewCollector(CollectorConfig{Agent: fmt.Sprint(a), BootID: "b", Experiments: []CollectorExperiment{
			{Name: "users", SampleBy: "request", Control: true, Routes: []string{"/a", "/b", "/c", "/d"}},
		}})
		if err != nil {
			b.Fatal(err)
		}
		prints := make([]string, 100)
		for i := range prints {
			prints[i] = fmt.Sprintf("%016x", i)
		}
		for i := range 4000 {
			at := noon.Add(time.Duration(i) * 2 * time.Second)
			p := paired(r.IntN(KeyGroups), nil, nil)
			if r.IntN(2) == 0 {
				p = paired(r.IntN(KeyGroups), prints[r.IntN(100):][:1], nil)
			}
			p.Candidate, p.Control.Leg = Leg{FirstByte: time.Duration(r.IntN(1e7)) + 1}, Leg{FirstByte: time.Duration(r.IntN(1e7)) + 1}
			c.Compare(c.Select(RouteID(1+r.IntN(4)), at), p)
			records = append(records, c.Advance(at)...)
		}
		records = append(records, c.Flush()...)
	}
	records = records[:100_000]
	b.Run("Add100000", func(b *testing.B) {
		for b.Loop() {
			m = NewMerge()
			for _, w := range records {
				if err := m.Add(w); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("Report", func(b *testing.B) {
		for b.Loop() {
			m.Report(DefaultSettings())
		}
	})
	var texts [][]byte
	for _, w := range records[:1000] {
		text, err := w.JSON()
		if err != nil {
			b.Fatal(err)
		}
		texts = append(texts, text)
	}
	b.Run("Parse1000", func(b *testing.B) {
		for b.Loop() {
			for _, t := range texts {
				if _, err := ParseWindow(t); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	if m.Report(DefaultSettings()).Word == Promote || math.IsNaN(m.Report(DefaultSettings()).Experiments[0].Bound) {
		b.Error("promotes")
	}
}

// A window that is left out is no hole in its boot's sequence, and nothing else.
func TestSkip(t *testing.T) {
	m := NewMerge()
	for i := range int64(4) {
		w := totals("/", i+1, 100, nil)
		add := m.Add
		if i%2 == 1 {
			add = m.Skip
		}
		for range 2 { // the second is a repeat
			if err := add(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := m.Report(DefaultSettings())
	if r.Missing != 0 || r.Records != 4 || m.Records() != 4 || r.Repeats != 4 || r.Experiments[0].Counts.Compared != 200 {
		t.Errorf("%d records, %d missing, %d repeats, %d compared", r.Records, r.Missing, r.Repeats, r.Experiments[0].Counts.Compared)
	}
	if err := m.Skip(totals("/", 2, 101, nil)); !errors.Is(err, ErrConflict) {
		t.Errorf("another content of a skipped record: %v", err)
	}
	if err := m.Skip(&Window{Schema: Schema}); err == nil {
		t.Error("a window that can't be right was skipped without a word")
	}
}
