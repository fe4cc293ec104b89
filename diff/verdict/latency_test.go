package verdict

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/diff"
)

// link is what a leg's network adds to its times.
type link struct{ reference, candidate, control time.Duration }

// latencyRun gives the report of a route with pairs whose times are log-normal
// around 10 ms, with moments in which everything is slow.
func latencyRun(t *testing.T, r *rand.Rand, agents, pairs int, l link, control bool) *Route {
	cs := make([]*Collector, agents)
	var id RouteID
	for i := range cs {
		cs[i], id = newCollector(t, fmt.Sprint(i), func(c *CollectorConfig) { c.Experiments[0].Control = control })
	}
	slow := 1.0
	for i := range pairs {
		if i%50 == 0 {
			slow = math.Exp(0.1 * r.NormFloat64())
		}
		leg := func(more time.Duration) Leg {
			d := more + time.Duration(10e6*slow*math.Exp(0.3*r.NormFloat64()))
			return Leg{FirstByte: d, LastByte: d + time.Millisecond, Size: 1000, MinRTT: more + time.Microsecond}
		}
		p := paired(r.IntN(KeyGroups), nil, nil)
		p.Reference, p.Candidate, p.Control.Leg = leg(l.reference), leg(l.candidate), leg(l.control)
		if !control {
			p.Control = Control{}
		}
		c := cs[r.IntN(agents)]
		c.Compare(c.Select(id, noon.Add(time.Duration(i)*50*time.Millisecond)), p)
	}
	m := NewMerge()
	for _, c := range cs {
		for _, w := range c.Flush() {
			if err := m.Add(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &m.Report(DefaultSettings()).Experiments[0].Routes[0]
}

func TestLatencySimulations(t *testing.T) {
	const ms = time.Millisecond
	for _, agents := range []int{1, 20} {
		for k, c := range []struct {
			name   string
			link   link
			true   float64 // difference of the medians in microseconds
			slower bool    // called so
		}{
			{"5 ms more", link{candidate: 5 * ms}, 5000, true},
			{"nothing more", link{}, 0, false},
			{"2 ms more for both", link{candidate: 2 * ms, control: 2 * ms}, 0, false},
		} {
			t.Run(fmt.Sprintf("%s, agents %d", c.name, agents), func(t *testing.T) {
				t.Parallel()
				runs := sized(30, 400)
				var within, shown, slower, fine int
				for i := range runs {
					r := rand.New(rand.NewPCG(uint64(500+k), uint64(i)))
					l := latencyRun(t, r, agents, 3000, c.link, true).Latency
					d := l.Quantiles[0].Difference
					within += int(b2i(d.Low <= c.true && c.true <= d.High && !d.Open && !d.OpenLow))
					shown += int(b2i(d.Low > 1)) // above bucket 0, which is nothing
					slower += int(b2i(l.Word == LatencySlower))
					fine += int(b2i(l.Word == LatencyFine))
				}
				figures := fmt.Sprintf("within the interval %s, difference shown %s, slower %s, fine %s", rate(within, runs), rate(shown, runs), rate(slower, runs), rate(fine, runs))
				t.Attr("latency", figures)
				t.Log(figures)
				least := 0.95 * float64(runs)
				if float64(within) < least {
					t.Errorf("the true difference is within %s intervals", rate(within, runs))
				}
				if c.slower && (float64(slower) < least || float64(shown) < least) {
					t.Errorf("called slower in %s, shown in %s", rate(slower, runs), rate(shown, runs))
				}
				if !c.slower && (float64(runs-slower) < least || float64(runs-shown) < least) {
					t.Errorf("called slower in %s, shown in %s", rate(slower, runs), rate(shown, runs))
				}
			})
		}
	}
}

// With enough pairs equal sides are fine, and with few it is not known.
func TestLatencyFine(t *testing.T) {
	for pairs, want := range map[int]LatencyWord{300: LatencyInsufficient, 10_000: LatencyFine} {
		if l := latencyRun(t, rand.New(rand.NewPCG(8, 8)), 2, pairs, link{}, true).Latency; l.Word != want {
			t.Errorf("%d pairs: %s, want %s: %+v", pairs, l.Word, want, l)
		}
	}
}

// Without a control nothing is alike: it is said, the round trip is taken off,
// and a candidate that is slower is not held for it.
func TestLatencyWithoutControl(t *testing.T) {
	rt := latencyRun(t, rand.New(rand.NewPCG(6, 1)), 1, 3000, link{candidate: 40 * time.Millisecond}, false)
	l := rt.Latency
	if l.Word != LatencyNotAlike || l.Quantiles[0].Control != nil || l.Quantiles[0].Difference != nil || l.CandidateMinRTTUS != 40_001 {
		t.Errorf("%+v", l)
	}
	if q := l.Quantiles[0]; q.Slower == nil || math.Abs(*q.Slower) > 0.05 {
		t.Errorf("with the round trip taken off: %+v", q)
	}
	for _, r := range rt.Reasons {
		if r.Code == "latency" {
			t.Errorf("it decides: %+v", r)
		}
	}
}

// Where both answered and nobody took times, latency is not known and decides
// nothing; without any pair it does.
func TestLatencyNotMeasured(t *testing.T) {
	for _, tt := range []struct {
		control Control
		word    LatencyWord
		reason  bool
	}{
		{Control{Result: ControlAnswered}, LatencyNotMeasured, false},
		{Control{Result: ControlAnswered, Leg: Leg{FirstByte: time.Millisecond}}, LatencyNotMeasured, false}, // one alone is no time
		{Control{Result: ControlShed}, LatencyInsufficient, true},
	} {
		c, id := newCollector(t, "a", nil)
		for i := range 2000 {
			c.Compare(c.Select(id, noon.Add(time.Duration(i)*50*time.Millisecond)), &Pair{KeyGroup: i, Control: tt.control})
		}
		m := NewMerge()
		for _, w := range c.Flush() {
			if err := m.Add(w); err != nil {
				t.Fatal(err)
			}
		}
		rt := &m.Report(DefaultSettings()).Experiments[0].Routes[0]
		if got := slices.ContainsFunc(rt.Reasons, func(r Reason) bool { return r.Code == "latency" }); rt.Latency.Word != tt.word || got != tt.reason {
			t.Errorf("%+v: %s, want %s; reasons %+v", tt.control, rt.Latency.Word, tt.word, rt.Reasons)
		}
	}
}

// A candidate that stands still for 1 s in each 10 s, under a full bound on
// replays in flight: what would have been slow was not sent, and what was sent
// looks alike.
func TestCoordinatedOmission(t *testing.T) {
	for _, agents := range []int{1, 20} {
		c, id := newCollector(t, "a", nil)
		cs := []*Collector{c}
		for i := 1; i < agents; i++ {
			c, _ := newCollector(t, fmt.Sprint(i), nil)
			cs = append(cs, c)
		}
		r := rand.New(rand.NewPCG(7, 7))
		const bound = 64
		var busy []time.Duration // when each replay in flight ends
		for at := time.Duration(0); at < time.Minute; at += 2 * time.Millisecond {
			k := 0
			for _, end := range busy {
				if end > at {
					busy[k] = end
					k++
				}
			}
			busy = busy[:k]
			c := cs[r.IntN(agents)]
			ticket := c.Select(id, noon.Add(at))
			if len(busy) >= bound {
				c.Skip(ticket, Shed, ControlShed)
				continue
			}
			took := time.Duration(5e6 * math.Exp(0.3*r.NormFloat64()))
			control := Leg{FirstByte: time.Duration(5e6 * math.Exp(0.3*r.NormFloat64()))}
			if still := at % (10 * time.Second); still < time.Second {
				took += time.Second - still
			}
			busy = append(busy, at+took)
			p := paired(r.IntN(KeyGroups), nil, nil)
			p.Candidate, p.Control.Leg = Leg{FirstByte: took}, control
			c.Compare(ticket, p)
		}
		m := NewMerge()
		for _, c := range cs {
			for _, w := range c.Flush() {
				if err := m.Add(w); err != nil {
					t.Fatal(err)
				}
			}
		}
		rep := m.Report(DefaultSettings())
		rt := rep.Experiments[0].Routes[0]
		t.Logf("agents %d: %.1f %% omitted, p99 %+v, word %s", agents, 100*rt.Latency.Omitted, rt.Latency.Quantiles[1].Candidate, rt.Word)
		if rt.Latency.Word != LatencyInsufficient || rt.Word == Promote || rep.ExitCode() == 0 || !strings.Contains(asJSON(t, rep), "so that the slow ones are missing") {
			t.Errorf("agents %d: %s, %+v", agents, rt.Word, rt.Latency)
		}
	}
}

// Timeouts are at least as long as they were waited for, and a candidate that
// times out where the control answers is slower.
func TestLatencyCensored(t *testing.T) {
	c, id := newCollector(t, "a", nil)
	for i := range 4000 {
		p := paired(i%KeyGroups, nil, nil)
		p.Candidate, p.Control.Leg = Leg{FirstByte: 10 * time.Millisecond}, Leg{FirstByte: 10 * time.Millisecond}
		if i%20 == 0 {
			p.Outcome, p.Failed, p.Candidate = diff.Divergent, "timeout", Leg{GaveUp: 2 * time.Second}
		}
		c.Compare(c.Select(id, noon), p)
	}
	rt := merged(t, c.Flush()).Report(DefaultSettings()).Experiments[0].Routes[0]
	q := rt.Latency.Quantiles[1]
	if !q.Candidate.AtLeast || q.Candidate.Value < 1.9e6 || q.Control.AtLeast || rt.Latency.Word != LatencySlower || q.Slower != nil {
		t.Errorf("%s: %+v", rt.Latency.Word, q)
	}
	if rt.Failed.Count != 200 || rt.Divergent.Count != 0 || rt.Divergent.Of != 3800 {
		t.Errorf("failed %+v, divergent %+v", rt.Failed, rt.Divergent)
	}
}
