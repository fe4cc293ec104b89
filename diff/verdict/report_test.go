package verdict

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
)

// The settings are the configuration's, by name and default.
func TestSettingsAreTheConfigurations(t *testing.T) {
	v := config.New().Verdict
	share := func(r interface{ Hundredths() uint32 }) float64 { return float64(r.Hundredths()) / 10_000 }
	want := Settings{
		MaxDivergence: share(v.MaxDivergence), Confidence: share(v.Confidence), MinCompared: int64(v.MinCompared), MaxUnseen: share(v.MaxUnseen),
		MaxFailed: share(v.MaxFailed), MaxMasked: v.MaxMasked, Alpha: share(v.Alpha), NoiseMargin: share(v.NoiseMargin),
		MaxP50: share(v.MaxLatency.P50), MaxP99: share(v.MaxLatency.P99),
	}
	if got := DefaultSettings(); got != want {
		t.Errorf("defaults\n%+v, the configuration has\n%+v", got, want)
	}
	if err := DefaultSettings().Check(); err != nil {
		t.Error(err)
	}
	for key, change := range map[string]func(s *Settings){
		"verdict.max_divergence":  func(s *Settings) { s.MaxDivergence = -1 },
		"verdict.confidence":      func(s *Settings) { s.Confidence = 1 },
		"verdict.min_compared":    func(s *Settings) { s.MinCompared = -1 },
		"verdict.max_unseen":      func(s *Settings) { s.MaxUnseen = 2 },
		"verdict.max_failed":      func(s *Settings) { s.MaxFailed = math.NaN() },
		"verdict.max_masked":      func(s *Settings) { s.MaxMasked = -1 },
		"verdict.alpha":           func(s *Settings) { s.Alpha = 0 },
		"verdict.noise_margin":    func(s *Settings) { s.NoiseMargin = -0.1 },
		"verdict.max_latency.p50": func(s *Settings) { s.MaxP50 = -0.1 },
		"verdict.max_latency.p99": func(s *Settings) { s.MaxP99 = math.NaN() },
	} {
		s := DefaultSettings()
		change(&s)
		if err := s.Check(); err == nil || !strings.HasPrefix(err.Error(), key+":") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// totals is a window of a route with n clean pairs and without a control,
// changed as told.
func totals(route string, sequence, n int64, change func(w *Window)) *Window {
	w := &Window{
		Schema: Schema, WindowStart: TimeOf(noon), WindowEnd: TimeOf(noon.Add(WindowLength)), Agent: "a", BootID: "b", Sequence: sequence,
		Experiment: "users", Route: route, SampleBy: SampleByRequest, Counts: Counts{Complete: n, Selected: n, Compared: n, Equal: n},
	}
	if change != nil {
		change(w)
	}
	return w
}

// diverge makes k of a window's pairs divergent.
func diverge(k int64) func(w *Window) {
	return func(w *Window) { w.Equal, w.Divergent = w.Equal-k, w.Divergent+k }
}

func fail(k int64) func(w *Window) {
	return func(w *Window) {
		w.Equal, w.Divergent, w.Failed = w.Equal-k, w.Divergent+k, map[string]int64{"connect": k}
	}
}

func unsent(add func(c *Counts) *int64, k int64) func(w *Window) {
	return func(w *Window) {
		*add(&w.Counts) += k
		w.Selected += k
		w.Complete += k
	}
}

// print is a fingerprint's record beside the totals.
func print(sequence int64, fingerprint string, c Counts, excess map[int]int64) *Window {
	w := totals("/a", sequence, 0, nil)
	w.Fingerprint, w.Counts, w.Excess = fingerprint, c, excess
	w.WindowStart, w.WindowEnd = w.WindowStart+10_000_000, w.WindowEnd+10_000_000
	for _, e := range excess {
		w.B += b2i(e > 0)
		w.D += b2i(e < 0)
		w.ExcessSquares += e * e
	}
	return w
}

func TestWords(t *testing.T) {
	shed := func(c *Counts) *int64 { return &c.Shed }
	breaker := func(c *Counts) *int64 { return &c.BreakerOpen }
	stopped := func(c *Counts) *int64 { return &c.Stopped }
	one := func(n int64, change func(w *Window)) []*Window { return []*Window{totals("/a", 1, n, change)} }
	for _, c := range []struct {
		name    string
		windows []*Window
		change  func(s *Settings)
		want    Word
		reason  string // code and part of the text
	}{
		{"nothing at all", nil, nil, Insufficient, ""},
		{"a window of zeros", one(0, nil), nil, Insufficient, "nothing_compared"},
		{"only what belongs to no route", []*Window{totals("", 1, 0, nil)}, nil, Insufficient, "no request of its routes"},
		{"as many clean pairs as it takes", one(14_157, nil), nil, Promote, ""},
		{"one less", one(14_156, nil), nil, Insufficient, `"further":1`},
		{"half of them", one(7_000, nil), nil, Insufficient, `"further":7157`},
		{"a few diverge", one(20_000, diverge(5)), nil, Insufficient, "5 of 20000 diverge"},
		{"more than allowed, but by chance perhaps", one(20_000, diverge(25)), nil, Insufficient, "25 of 20000 diverge, up to"},
		{"the same of many", one(100_000, diverge(50)), nil, Promote, ""},
		{"many diverge", one(14_157, diverge(100)), nil, Hold, "100 of 14157 diverge, at least 0.4"},
		{"few are too many", one(1000, diverge(15)), nil, Hold, "divergence"},
		{"asked for more", one(14_157, nil), func(s *Settings) { s.MinCompared = 20_000 }, Insufficient, "min_compared"},
		{"the candidate fails", one(14_157, fail(100)), nil, Hold, "100 of 14157 failed"},
		{"it fails a little", one(15_000, fail(5)), nil, Insufficient, "5 of 15000 failed"},
		{"it fails all the time", one(1000, fail(1000)), nil, Hold, `"nothing_compared"`},
		{"the breaker was open", one(14_157, unsent(breaker, 100)), nil, Hold, "100 of 14257 failed"},
		{"not comparable ones are no pairs", one(14_157, func(w *Window) { w.Equal, w.NotComparable = w.Equal-1, map[string]int64{"stale": 1} }), nil, Insufficient, `"further":1`},
		{"too many were shed", one(14_157, unsent(shed, 1000)), nil, Insufficient, "most of them shed (1000 of 1000)"},
		{"a few were shed", one(14_157, unsent(shed, 100)), nil, Promote, ""},
		{"more were, and latency is not known", one(14_157, unsent(shed, 300)), nil, Insufficient, `"code":"latency"`},
		{"the agent was stopped", one(14_157, unsent(stopped, 1000)), nil, Insufficient, "most of them stopped"},
		{"much was lost", one(14_157, func(w *Window) { w.Lost = map[string]int64{"gap": 300, "too_large": 700} }), nil, Insufficient, "most of them too_large (700 of 1000)"},
		{"much was lost before its route was known", append(one(14_157, nil), totals("", 2, 0, func(w *Window) { w.Lost = map[string]int64{"gap": 1000} })), nil, Insufficient, "most of them gap"},
		{"as much, of which a hundredth would have been selected", append(one(14_157, func(w *Window) { w.SampledOut, w.Complete = 99*14_157, 100*14_157 }),
			totals("", 2, 0, func(w *Window) { w.Lost = map[string]int64{"gap": 1000} })), nil, Promote, ""},
		{"what is sampled out was not to be seen", one(14_157, func(w *Window) { w.SampledOut, w.Unsafe, w.Complete = 1e6, 1e6, 2e6+14_157 }), nil, Promote, ""},
		{"records are missing", []*Window{totals("/a", 1, 14_157, nil), totals("/a", 10, 0, nil)}, nil, Insufficient, "8 of 10 window records did not come"},
		{"many routes, all of them small", slices.Collect(func(yield func(*Window) bool) {
			for i := int64(1); i <= 101 && yield(totals(fmt.Sprintf("/%d", i), i, 20_000, nil)); i++ {
			}
		}), nil, Insufficient, "none of its 101 routes has 1 % of the traffic"},
		{"another route is not known", []*Window{totals("/a", 1, 14_157, nil), totals("/b", 2, 200, nil)}, nil, Insufficient, "/b (insufficient)"},
		{"another route diverges", []*Window{totals("/a", 1, 14_157, nil), totals("/b", 2, 200, diverge(20))}, nil, Hold, "/b (hold)"},
		{"but it is small", []*Window{totals("/a", 1, 20_000, nil), totals("/b", 2, 200, diverge(20))}, nil, Promote, ""},
		{"small by its traffic, though sampled more", []*Window{
			totals("/a", 1, 14_157, func(w *Window) { w.SampledOut, w.Complete = 99*14_157, 100*14_157 }), totals("/b", 2, 200, diverge(20))}, nil, Promote, ""},
		{"large by its traffic, though sampled less", []*Window{
			totals("/a", 1, 20_000, nil), totals("/b", 2, 20, func(w *Window) { w.SampledOut, w.Complete = 1980, 2000 })}, nil, Insufficient, "/b (insufficient)"},
		{"noise does not count", []*Window{
			totals("/a", 1, 200_000, func(w *Window) {
				diverge(50)(w)
				control(w, 200_000)
				w.ControlOnly, w.CandidateOnly = 50, 50
				w.WindowStart, w.WindowEnd = w.WindowStart+20_000_000, w.WindowEnd+20_000_000
			}),
			print(2, printA, Counts{Divergent: 1, CandidateOnly: 1}, map[int]int64{0: 1}), later(print(3, printA, Counts{Divergent: 50, CandidateOnly: 50, ControlOnly: 50}, alternating(100))),
		}, func(s *Settings) { s.MaxDivergence = 0.0002 }, Promote, `"class":"noise"`},
		{"a masked path", []*Window{
			totals("/a", 1, 100_000, func(w *Window) {
				control(w, 10_000)
				diverge(100)(w)
				w.Both = 100
				w.WindowStart, w.WindowEnd = w.WindowStart+20_000_000, w.WindowEnd+20_000_000
			}),
			print(2, printA, Counts{Divergent: 6000, Both: 6000}, nil),
		}, func(s *Settings) { s.MaxDivergence = 0.01 }, Hold, "so that a defect there can't be seen"},
	} {
		s := DefaultSettings()
		if c.change != nil {
			c.change(&s)
		}
		r := merged(t, c.windows).Report(s)
		text := asJSON(t, r)
		if r.Word != c.want || !strings.Contains(text, c.reason) {
			t.Errorf("%s: %s, want %s with %q:\n%s", c.name, r.Word, c.want, c.reason, text)
		}
		want := map[Word]int{Promote: 0, Hold: 1, Insufficient: 3}[c.want]
		if r.ExitCode() != want {
			t.Errorf("%s: exit code %d, want %d", c.name, r.ExitCode(), want)
		}
	}
	if Word("").ExitCode() != 3 {
		t.Error("no word at all is a success")
	}
}

// control gives n of a window's pairs a control that is as fast.
func control(w *Window, n int64) {
	w.ControlChosen, w.Paired = n, n
	w.CandidateTTFB, w.ControlTTFB, w.DifferenceTTFB = Histogram{400: n}, Histogram{400: n}, Histogram{0: n}
}

// later moves a record by a window.
func later(w *Window) *Window {
	w.WindowStart, w.WindowEnd = w.WindowStart+10_000_000, w.WindowEnd+10_000_000
	return w
}

func alternating(n int) map[int]int64 {
	m := map[int]int64{}
	for g := range n {
		m[g] = 1 - 2*int64(g%2)
	}
	return m
}

// x is an upper bound by pairs and by fingerprints, whichever is less; a
// divergent pair of which no record came counts.
func TestDivergentIsABound(t *testing.T) {
	base := totals("/a", 1, 1000, diverge(10))
	x := func(prints ...*Window) Rate {
		return merged(t, append([]*Window{base}, prints...)).Report(DefaultSettings()).Experiments[0].Routes[0].Divergent
	}
	if got := x(); got.Count != 10 || got.Of != 1000 || got.Share != 0.01 {
		t.Errorf("without a fingerprint's record: %+v", got)
	}
	if got := x(print(2, printA, Counts{Divergent: 8}, nil), print(3, printB, Counts{Divergent: 8}, nil)); got.Count != 10 {
		t.Errorf("two fingerprints in the same pairs: %+v", got)
	}
	got := x(print(2, printA, Counts{Divergent: 4}, nil))
	if got.Count != 10 {
		t.Errorf("a record is missing: %+v", got)
	}
	near(t, "upper bound", got.High, Upper(10, 1000, 0.01), 1e-9)
	near(t, "one look", got.Once, UpperOnce(10, 1000, 0.01), 1e-9)
	near(t, "lower bound", got.Low, Lower(10, 1000, 0.01), 1e-9)
}

func TestOverall(t *testing.T) {
	e := merged(t, []*Window{
		totals("/a", 1, 9000, func(w *Window) { diverge(9)(w); w.SampledOut, w.Complete = 81_000, 90_000 }),
		totals("/b", 2, 10_000, func(w *Window) { diverge(100)(w); unsent(func(c *Counts) *int64 { return &c.Shed }, 0)(w) }),
		totals("/c", 3, 0, nil),
		totals("", 4, 0, func(w *Window) { w.Unmatched, w.Complete = 50, 50 }),
	}).Report(DefaultSettings()).Experiments[0]
	near(t, "share", e.Share, 0.9*0.001+0.1*0.01, 1e-9)
	near(t, "bound", e.Bound, 0.9*Upper(9, 9000, 0.005)+0.1*Upper(100, 10_000, 0.005), 1e-9)
	near(t, "worst case", e.Unseen.WorstCase, e.Share, 1e-9)
	if len(e.Routes) != 3 || !e.Routes[2].Small || e.Routes[0].Share != 0.9 || e.Counts.Unmatched != 50 || e.ReferencePerSecond != 10_000 || e.CandidatePerSecond != 1900 {
		t.Errorf("%+v", e)
	}
	lost := totals("/a", 1, 900, func(w *Window) { w.Lost = map[string]int64{"gap": 100} })
	rt := merged(t, []*Window{lost}).Report(DefaultSettings()).Experiments[0].Routes[0]
	if !slices.ContainsFunc(rt.Reasons, func(r Reason) bool { return r.Code == "unseen" }) {
		t.Errorf("a tenth was lost: %+v", rt.Reasons)
	}
	u := rt.Unseen
	if u.Count != 100 || u.Share != 0.1 || u.WorstCase != 0.1 || u.Largest != "gap" {
		t.Errorf("%+v", u)
	}
}

// A period is one candidate version and one revision; the word is the latest
// one's.
func TestPeriods(t *testing.T) {
	old := totals("/a", 1, 14_157, diverge(1000))
	fresh := later(totals("/a", 2, 14_157, nil))
	fresh.CandidateVersion = "v3"
	r := merged(t, []*Window{fresh, old}).Report(DefaultSettings())
	if len(r.Experiments) != 2 || r.Experiments[0].Latest || r.Experiments[0].Word != Hold || !r.Experiments[1].Latest || r.Experiments[1].CandidateVersion != "v3" || r.Word != Promote {
		t.Errorf("%s", asJSON(t, r))
	}
	other := totals("/a", 3, 10, nil)
	other.Experiment = "orders"
	if r := merged(t, []*Window{fresh, old, other}).Report(DefaultSettings()); r.Word != Insufficient {
		t.Errorf("one of two experiments knows nothing: %s", r.Word)
	}
}

// Zipf URLs of which 1 % are wrong: by request the bound covers the share of
// wrong requests, by url it speaks of the sampled URLs only, and says so.
func TestSampleBy(t *testing.T) {
	const urls, sampled, pairs = 2000, 0.1, 2000
	cumulated := make([]float64, urls)
	sum := 0.0
	for i := range cumulated {
		sum += 1 / float64(i+1)
		cumulated[i] = sum
	}
	weight := func(i int) float64 { return 1 / float64(i+1) / sum }
	runs := sized(200, 1000)
	s := DefaultSettings()
	s.Confidence = 0.95
	covered := map[string]int{}
	for i := range runs {
		r := rand.New(rand.NewPCG(600, uint64(i)))
		var wrong, kept [urls]bool
		for range urls / 100 {
			wrong[r.IntN(urls)] = true
		}
		truth, any := 0.0, false
		for u := range urls {
			if wrong[u] {
				truth += weight(u)
			}
			kept[u] = r.Float64() < sampled
			any = any || kept[u]
		}
		for _, by := range []string{SampleByRequest, "url"} {
			var x int64
			for n := 0; n < pairs && any; {
				u, _ := slices.BinarySearch(cumulated, r.Float64()*sum)
				if by == "url" && !kept[min(u, urls-1)] {
					continue
				}
				n++
				x += b2i(wrong[min(u, urls-1)])
			}
			w := totals("/a", 1, pairs, diverge(x))
			w.SampleBy = by
			e := merged(t, []*Window{w}).Report(s).Experiments[0]
			if e.SampledKeysOnly != (by == "url") {
				t.Fatalf("by %s: sampled keys only is %v", by, e.SampledKeysOnly)
			}
			covered[by] += int(b2i(e.Routes[0].Divergent.High >= truth))
			covered[by+", one look"] += int(b2i(e.Routes[0].Divergent.Once >= truth))
		}
	}
	figures := fmt.Sprintf("by request %s, one look %s; by url %s, one look %s",
		rate(covered["request"], runs), rate(covered["request, one look"], runs), rate(covered["url"], runs), rate(covered["url, one look"], runs))
	t.Attr("coverage", figures)
	t.Log("the 95 % bound covers the truth " + figures)
	if float64(covered["request"]) < 0.94*float64(runs) {
		t.Errorf("by request: %s", rate(covered["request"], runs))
	}
	if float64(covered["url"]) > 0.9*float64(runs) {
		t.Errorf("by url: %s: the warning is for nothing", rate(covered["url"], runs))
	}
}

// The whole way: a defect that a few of many agents see is found among noise,
// and a candidate without one is promoted when the control agrees.
func TestEndToEnd(t *testing.T) {
	for _, defect := range []bool{false, true} {
		r := rand.New(rand.NewPCG(9, 9))
		cs := make([]*Collector, 3)
		var id RouteID
		for i := range cs {
			cs[i], id = newCollector(t, fmt.Sprint(i), nil)
		}
		m := NewMerge()
		for i := range 40_000 {
			e := event{group: r.IntN(KeyGroups)}
			flip(r, &e, 0.0002, printA) // noise
			if defect && r.Float64() < 0.005 {
				e.candidate = append(e.candidate, printB)
			}
			p := paired(e.group, e.candidate, e.control)
			p.Candidate = Leg{FirstByte: time.Duration(5e6 * math.Exp(0.3*r.NormFloat64()))}
			p.Control.Leg = Leg{FirstByte: time.Duration(5e6 * math.Exp(0.3*r.NormFloat64()))}
			c := cs[i%3]
			at := noon.Add(time.Duration(i) * 20 * time.Millisecond)
			c.Compare(c.Select(id, at), p)
			for _, w := range c.Advance(at) {
				if err := m.Add(w); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, c := range cs {
			for _, w := range c.Flush() {
				if err := m.Add(w); err != nil {
					t.Fatal(err)
				}
			}
		}
		rep := m.Report(DefaultSettings())
		classes := map[string]Class{}
		for _, f := range rep.Experiments[0].Fingerprints {
			classes[f.Fingerprint] = f.Class
		}
		want := map[bool]Word{false: Promote, true: Hold}[defect]
		if rep.Word != want || defect && classes[printB] != Candidate || classes[printA] == Candidate {
			t.Errorf("defect %v: %s, %v\n%s", defect, rep.Word, classes, asJSON(t, rep))
		}
	}
}
