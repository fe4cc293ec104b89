package verdict

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// The simulations of noise: two instances of one version, so that whoever calls
// a fingerprint the candidate's is wrong. Each run has pairs of 5 minutes; it is
// looked at after each window, and is a false alarm when any look is one.

const (
	noiseWindows = 30
	noisePairs   = 100 // in a window
	noiseTotal   = noiseWindows * noisePairs
)

// event is a request that went to candidate and control.
type event struct {
	at                 time.Duration
	group              int
	candidate, control []string
	controlDown        bool
}

// model makes the events of one run, in the order of time.
type model struct {
	name  string
	level float64 // of false alarms
	run   func(r *rand.Rand) []event
}

func prints(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%016x", i))
	}
	return out
}

var simPrints = prints(500)

// spread makes the pairs of a run at random times, each for a random key of n.
func spread(r *rand.Rand, keys int) []event {
	out := make([]event, noiseTotal)
	for i := range out {
		out[i].at = time.Duration(float64(i) / noiseTotal * noiseWindows * float64(WindowLength))
		out[i].group = r.IntN(keys) * 31 % KeyGroups
	}
	return out
}

// flip lets each side differ with chance p, independently.
func flip(r *rand.Rand, e *event, p float64, print string) {
	if r.Float64() < p {
		e.candidate = append(e.candidate, print)
	}
	if r.Float64() < p {
		e.control = append(e.control, print)
	}
}

// oneSide lets one side differ.
func oneSide(r *rand.Rand, e *event, print string) {
	if r.IntN(2) == 0 {
		e.candidate = append(e.candidate, print)
	} else {
		e.control = append(e.control, print)
	}
}

// bursts are stale cache entries: one side answers every request for a key
// wrongly while the entry lives, which gives a burst of that many requests on
// average. A burst is over within 5 s.
func bursts(mean float64) func(r *rand.Rand) []event {
	return func(r *rand.Rand) []event {
		out := spread(r, KeyGroups)
		perSecond := float64(noisePairs) / WindowLength.Seconds()
		for i := range out {
			// A burst every 10 s or so.
			if r.Float64() > 0.01 {
				continue
			}
			key, side, left := r.IntN(KeyGroups), r.IntN(2), 1+int(r.ExpFloat64()*(mean-1)+0.5)
			// Its requests lie among the others, every other one or so.
			for k := i; k < len(out) && left > 0 && float64(k-i) < 5*perSecond; k++ {
				if r.IntN(2) == 0 && left < int(5*perSecond)-(k-i) {
					continue
				}
				out[k].group = key
				if side == 0 {
					out[k].candidate = simPrints[:1:1]
				} else {
					out[k].control = simPrints[:1:1]
				}
				left--
			}
		}
		return out
	}
}

// sticky are sessions: while one lasts, one side answers a user wrongly.
func sticky(session time.Duration) func(r *rand.Rand) []event {
	return func(r *rand.Rand) []event {
		const users = 100
		out := spread(r, users)
		type state struct {
			until time.Duration
			side  int
		}
		var of [KeyGroups]state
		for i := range out {
			e := &out[i]
			s := &of[e.group]
			if e.at >= s.until {
				s.until = e.at + time.Duration(r.ExpFloat64()*float64(session))
				if s.side = r.IntN(20); r.IntN(10) == 0 { // one of ten users is noisy at all
					s.side = r.IntN(3)
				}
			}
			switch s.side {
			case 1:
				e.candidate = simPrints[:1:1]
			case 2:
				e.control = simPrints[:1:1]
			}
		}
		return out
	}
}

func noiseModels() []model {
	return []model{
		{"independent", 0.05, func(r *rand.Rand) []event {
			out := spread(r, KeyGroups)
			for i := range out {
				for _, p := range simPrints[:3] {
					flip(r, &out[i], 0.02, p)
				}
			}
			return out
		}},
		{"sticky by user", 0.05, func(r *rand.Rand) []event {
			// One of ten users gets answers that differ in half of the cases.
			out := spread(r, 200)
			for i := range out {
				if out[i].group%10 == 0 {
					flip(r, &out[i], 0.5, simPrints[0])
				}
			}
			return out
		}},
		{"bursts of 5", 0.05, bursts(5)},
		{"bursts of 20", 0.05, bursts(20)},
		{"drift with replay lag", 0.05, func(r *rand.Rand) []event {
			// The lag grows from nothing to 5 s. The state that moved shows on
			// both sides, and on one when it moves between the two requests.
			out := spread(r, KeyGroups)
			for i := range out {
				lag := 5 * float64(i) / noiseTotal
				switch {
				case r.Float64() < 0.04*lag:
					out[i].candidate, out[i].control = simPrints[:1:1], simPrints[:1:1]
				case r.Float64() < 0.01*lag:
					oneSide(r, &out[i], simPrints[0])
				}
			}
			return out
		}},
		{"control down for 60 s", 0.05, func(r *rand.Rand) []event {
			out := spread(r, KeyGroups)
			down := time.Duration(r.IntN(240)) * time.Second
			for i := range out {
				flip(r, &out[i], 0.02, simPrints[0])
				out[i].controlDown = out[i].at >= down && out[i].at < down+time.Minute
			}
			return out
		}},
		{"ten pods, one differs", 0.05, func(r *rand.Rand) []event {
			out := spread(r, KeyGroups)
			for i := range out {
				if r.IntN(10) == 0 { // the reference's answer is the odd pod's
					out[i].candidate, out[i].control = simPrints[:1:1], simPrints[:1:1]
				}
				flip(r, &out[i], 0.01, simPrints[1])
			}
			return out
		}},
		{"500 fingerprints over time", 0.05, func(r *rand.Rand) []event {
			out := spread(r, KeyGroups)
			for i := range out {
				born := 1 + i*len(simPrints)/noiseTotal
				for range 2 {
					if r.Float64() < 0.3 {
						oneSide(r, &out[i], simPrints[r.IntN(born)])
					}
				}
			}
			return out
		}},
	}
}

// alarms says who raised one in a run.
type alarms struct {
	ours, diffy, exact, perRequest, perAgent bool
}

// play runs events through collectors, windows and a merge, with a look after
// each window.
func play(t testing.TB, r *rand.Rand, agents int, events []event) (a alarms, m *Merge) {
	cs := make([]*Collector, agents)
	var id RouteID
	for i := range cs {
		cs[i], id = newCollector(t, fmt.Sprint(i), nil)
	}
	m = NewMerge()
	var b, d int64 // of the first fingerprint, the sums of the agents' own units
	look := func(ws []*Window) {
		for _, w := range ws {
			if err := m.Add(w); err != nil {
				t.Fatal(err)
			}
			if w.Fingerprint == simPrints[0] {
				b, d = b+w.B, d+w.D
			}
		}
		a.perAgent = a.perAgent || b > d && LogEvidence(b, d) >= math.Log(Threshold(1, 0.05))
	}
	others := newOthers()
	next := WindowLength + Lateness
	for i := range events {
		e := &events[i]
		for e.at+Lateness >= next {
			for _, c := range cs {
				look(c.Advance(noon.Add(next)))
			}
			a.ours = a.ours || m.alarm(0.05)
			a.diffy = a.diffy || others.diffy()
			next += WindowLength
		}
		p := paired(e.group, e.candidate, e.control)
		if e.controlDown {
			p.Control = Control{Result: ControlFailed}
		} else {
			others.count(e.candidate, e.control)
			a.exact = a.exact || others.exact
			a.perRequest = a.perRequest || others.perRequest
		}
		c := cs[r.IntN(agents)]
		c.Compare(c.Select(id, noon.Add(e.at)), p)
	}
	for _, c := range cs {
		look(c.Flush())
	}
	a.ours = a.ours || m.alarm(0.05)
	a.diffy = a.diffy || others.diffy()
	return a, m
}

// alarm says whether the evidence calls any fingerprint the candidate's.
func (m *Merge) alarm(alpha float64) bool {
	for _, p := range m.periods {
		for _, f := range p.ordered() {
			n := p.routes[f.Route].fingerprints[f.Fingerprint].later()
			if n.b > n.d && LogEvidence(n.b, n.d) >= math.Log(Threshold(f.Order, alpha)) {
				return true
			}
		}
	}
	return false
}

// others are the rules that one would write first.
type others struct {
	pairs, b, d int64 // of the first fingerprint, pair by pair
	raw, noise  map[string]int64
	// exact: the sign test at 5 %, after each pair. perRequest: the e-process
	// at 5 %, counted by pairs instead of units.
	exact, perRequest bool
}

func newOthers() *others { return &others{raw: map[string]int64{}, noise: map[string]int64{}} }

func (o *others) count(candidate, control []string) {
	o.pairs++
	has := func(f []string) int64 {
		for _, p := range f {
			if p == simPrints[0] {
				return 1
			}
		}
		return 0
	}
	for _, f := range candidate {
		o.raw[f]++
	}
	for _, f := range control {
		o.noise[f]++
	}
	switch has(candidate) - has(control) {
	case 1:
		o.b++
	case -1:
		o.d++
	default:
		return
	}
	if o.b <= o.d {
		return
	}
	// The chance of at most d in n.
	n := o.b + o.d
	o.exact = o.exact || math.Exp(logPMF(o.d, n, 0.5))*lowerTail(o.d, n, 0.5) <= 0.05
	o.perRequest = o.perRequest || LogEvidence(o.b, o.d) >= math.Log(20)
}

// diffy is the rule of Diffy: more raw than noisy differences, by more than 20 %
// of their sum and by more than 0.03 % of the requests.
func (o *others) diffy() bool {
	for f, raw := range o.raw {
		noise := o.noise[f]
		if raw > noise && 100*float64(raw-noise)/float64(raw+noise) > 20 && 100*float64(raw-noise)/float64(o.pairs) > 0.03 {
			return true
		}
	}
	return false
}

// False alarms at the stated level, whatever the noise, with one agent and with
// many; and what simpler rules make of the same pairs.
func TestFalseAlarms(t *testing.T) {
	for _, agents := range []int{1, 20} {
		for k, model := range noiseModels() {
			t.Run(fmt.Sprintf("%s, agents %d", model.name, agents), func(t *testing.T) {
				t.Parallel()
				runs := sized(50, 1000)
				if agents > 1 || strings.HasPrefix(model.name, "500") {
					runs = sized(15, 1000) // these take longer
				}
				var ours, diffy, exact, perRequest, perAgent, calls int
				for i := range runs {
					r := rand.New(rand.NewPCG(uint64(100+k), uint64(i)))
					a, m := play(t, r, agents, model.run(r))
					for n, is := range map[*int]bool{&ours: a.ours, &diffy: a.diffy, &exact: a.exact, &perRequest: a.perRequest, &perAgent: a.perAgent} {
						*n += int(b2i(is))
					}
					calls += int(b2i(slices.ContainsFunc(m.Report(DefaultSettings()).Experiments[0].Fingerprints, func(f Fingerprint) bool {
						return f.Class == Candidate || f.Class == Negligible
					})))
				}
				figures := fmt.Sprintf("%s; Diffy %s; exact test after each pair %s; by request %s; by agents' units %s",
					rate(ours, runs), rate(diffy, runs), rate(exact, runs), rate(perRequest, runs), rate(perAgent, runs))
				t.Logf("false alarms: %s", figures)
				t.Attr("false-alarms", figures)
				if float64(ours) > model.level*float64(runs) {
					t.Errorf("%s false alarms, level %v", rate(ours, runs), model.level)
				}
				if strings.HasPrefix(model.name, "bursts") && (4*perRequest < runs || agents > 1 && 4*perAgent < runs) {
					t.Errorf("counted by request %s, by agents' units %s false alarms only: the bursts have no teeth", rate(perRequest, runs), rate(perAgent, runs))
				}
				if calls > ours {
					t.Errorf("%d last reports have the candidate's, alarms were %d", calls, ours)
				}
			})
		}
	}
}

// A difference that stays with a user of one instance for many windows is
// outside of the guarantee of 5 %: this says how far, and that it is no more than
// four times that.
func TestStickySessions(t *testing.T) {
	for k, session := range []time.Duration{2 * time.Second, 10 * time.Second, 60 * time.Second} {
		runs := sized(20, 1000)
		ours := 0
		for i := range runs {
			r := rand.New(rand.NewPCG(uint64(200+k), uint64(i)))
			a, _ := play(t, r, 1, sticky(session)(r))
			ours += int(b2i(a.ours))
		}
		t.Attr(fmt.Sprintf("false-alarms-of-sessions-of-%v", session), rate(ours, runs))
		t.Logf("false alarms, sessions of %v: %s", session, rate(ours, runs))
		if float64(ours) > 0.2*float64(runs) {
			t.Errorf("sessions of %v: %s false alarms", session, rate(ours, runs))
		}
	}
}

// Looked at after each unit, a test for one look is wrong far more often than it
// says.
func TestExactTestWatched(t *testing.T) {
	runs := sized(200, 1000)
	watched, ours := 0, 0
	for i := range runs {
		r := rand.New(rand.NewPCG(300, uint64(i)))
		var b, d int64
		var exact, evidence bool
		for range 1000 {
			if r.IntN(2) == 0 {
				b++
			} else {
				d++
			}
			if b <= d {
				continue
			}
			exact = exact || math.Exp(logPMF(d, b+d, 0.5))*lowerTail(d, b+d, 0.5) <= 0.05
			evidence = evidence || LogEvidence(b, d) >= math.Log(20)
		}
		watched += int(b2i(exact))
		ours += int(b2i(evidence))
	}
	t.Attr("false-alarms", fmt.Sprintf("%s; exact test %s", rate(ours, runs), rate(watched, runs)))
	t.Logf("false alarms over 1,000 looks at 5 %%: evidence %s, exact test %s", rate(ours, runs), rate(watched, runs))
	if float64(ours) > 0.05*float64(runs) {
		t.Errorf("evidence: %s false alarms", rate(ours, runs))
	}
	if float64(watched) < 0.2*float64(runs) {
		t.Errorf("exact test: %s false alarms only: the test has no teeth", rate(watched, runs))
	}
}

// The power at a defect of 1 %, through collector, windows and merge: how often
// the defect is called after 1,000 and 3,000 paired requests when it is the 1st,
// 10th and 100th fingerprint.
func TestPower(t *testing.T) {
	for _, agents := range []int{1, 20} {
		for _, c := range []struct {
			order int
			want  [2]float64 // after 1,000 and 3,000
		}{{1, [2]float64{0.78, 1}}, {10, [2]float64{0.08, 0.999}}, {100, [2]float64{0.001, 0.95}}} {
			t.Run(fmt.Sprintf("fingerprint %d, agents %d", c.order, agents), func(t *testing.T) {
				t.Parallel()
				runs := sized(60, 1000)
				var called [2]int
				for i := range runs {
					for k, windows := range []int{10, 30} {
						r := rand.New(rand.NewPCG(uint64(400+c.order+k), uint64(i)))
						called[k] += int(b2i(defectCalled(t, r, agents, c.order, windows)))
					}
				}
				figures := fmt.Sprintf("1,000: %s, expected %.1f %%; 3,000: %s, expected %.1f %%", rate(called[0], runs), 100*c.want[0], rate(called[1], runs), 100*c.want[1])
				t.Attr("power", figures)
				t.Logf("called after %s", figures)
				for k, n := range called {
					// Three standard errors, and a little for units that fall together.
					p := c.want[k]
					if got := float64(n) / float64(runs); math.Abs(got-p) > 0.015+3*math.Sqrt(p*(1-p)/float64(runs)) {
						t.Errorf("power %.3f, expected %.3f", got, p)
					}
				}
			})
		}
	}
}

// defectCalled runs windows of 100 paired requests after the one that first
// showed the defect, and order-1 other fingerprints before it.
func defectCalled(t *testing.T, r *rand.Rand, agents, order, windows int) bool {
	cs := make([]*Collector, agents)
	var id RouteID
	for i := range cs {
		cs[i], id = newCollector(t, fmt.Sprint(i), nil)
	}
	compare := func(window int, candidate, control []string) {
		c := cs[r.IntN(agents)]
		c.Compare(c.Select(id, noon.Add(time.Duration(window)*WindowLength)), paired(r.IntN(KeyGroups), candidate, control))
	}
	defect := simPrints[order-1 : order : order]
	for i := range order {
		compare(0, simPrints[i:i+1:i+1], nil)
	}
	for w := range windows {
		for range 100 {
			if r.Float64() < 0.01 {
				compare(w+1, defect, nil)
			} else {
				compare(w+1, nil, nil)
			}
		}
	}
	m := NewMerge()
	for _, c := range cs {
		for _, w := range c.Flush() {
			if err := m.Add(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, f := range m.Report(DefaultSettings()).Experiments[0].Fingerprints {
		if f.Fingerprint == defect[0] {
			if f.Order != order {
				t.Fatalf("the defect is fingerprint %d, not %d", f.Order, order)
			}
			return f.Class == Candidate
		}
	}
	t.Fatal("the defect was not seen")
	return false
}
