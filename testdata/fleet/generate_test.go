package fleet

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// agents is how many send windows.
const agents = 220

// period and place name what is summed.
type period struct {
	Experiment       string `json:"experiment"`
	CandidateVersion string `json:"candidate_version"`
	ConfigRevision   string `json:"config_revision"`
}

type place struct {
	period
	Route string `json:"route"`
}

// timed names a histogram.
type timed struct {
	place
	Answer string `json:"answer"`
	Until  string `json:"until"`
}

// recorded is what a fleet sent.
type recorded struct {
	// batches are the records as they were delivered, a line each: in no order,
	// with repeats, and some that can't be right.
	batches [][]string
	// sent has each right record once.
	sent []*verdict.Window
	// times are those that were counted, in microseconds, gaveUp the waits.
	times, gaveUp map[timed][]float64
	repeats       int
	refused       int
}

// live is what came from agents, without capture files.
func (rec *recorded) live() *recorded {
	out := &recorded{times: maps.Clone(rec.times), gaveUp: rec.gaveUp}
	for _, w := range rec.sent {
		if w.BootID != "" {
			out.sent = append(out.sent, w)
		}
	}
	maps.DeleteFunc(out.times, func(k timed, _ []float64) bool { return k.ConfigRevision == file })
	return out
}

// fleet is a seeded run of agents over two minutes that end a while ago. There
// is a defect, noise, a difference that both have, one that begins late, and a
// stale entry that all agents see at the same moment; half of the agents are
// restarted with another candidate, some as they were.
type fleet struct {
	*recorded
	t testing.TB
	r *rand.Rand

	begin time.Time
}

// file is the config_revision of the capture files.
const file = "file"

const (
	defect  = "00000000000000d1"
	noise   = "00000000000000d2"
	masked  = "00000000000000d3"
	begins  = "00000000000000d4"
	stale   = "00000000000000d5"
	crossed = "00000000000000d6"
)

// record runs the fleet.
func record(t testing.TB) *recorded {
	t.Helper()
	f := &fleet{
		recorded: &recorded{times: map[timed][]float64{}, gaveUp: map[timed][]float64{}},
		t:        t, r: rand.New(rand.NewPCG(20, 26)),
		// Records of another month would be gone at once: the tables keep 30 days.
		begin: time.Now().UTC().Truncate(time.Minute).Add(-time.Hour),
	}
	for a := range agents {
		name := fmt.Sprintf("node-%03d", a)
		switch {
		case a%2 == 0:
			f.run(name, "boot-1", "v2", "r1", 0, 60)
			f.run(name, "boot-2", "v3", "r2", 60, 120)
		case a%5 == 0:
			f.run(name, "boot-1", "v2", "r1", 0, 30)
			f.run(name, "boot-2", "v2", "r1", 40, 120)
		default:
			f.run(name, "boot-1", "v2", "r1", 0, 120)
		}
	}
	// Two capture files: no agent has a name, and sequences are the same.
	f.run("", "", "v2", file, 0, 30)
	f.run("", "", "v2", file, 30, 60)
	f.deliver()
	return f.recorded
}

// run is one start of an agent, from one second of the run to another.
func (f *fleet) run(agent, boot, version, revision string, from, to int) {
	c, err := verdict.NewCollector(verdict.CollectorConfig{Agent: agent, BootID: boot, ConfigRevision: revision, Experiments: []verdict.CollectorExperiment{
		{Name: "users", CandidateVersion: version, SampleBy: "request", Control: true, Routes: []string{"/users/{id}", "/search", "/rare"}},
		{Name: "old", CandidateVersion: version, SampleBy: "url", Routes: []string{"/old/{rest...}"}},
	}})
	if err != nil {
		f.t.Fatal(err)
	}
	routes := []place{
		{period{"users", version, revision}, "/users/{id}"}, {period{"users", version, revision}, "/users/{id}"},
		{period{"users", version, revision}, "/search"}, {period{"old", version, revision}, "/old/{rest...}"},
	}
	for ms := from * 1000; ms < to*1000; ms += 200 + f.r.IntN(200) {
		at := f.begin.Add(time.Duration(ms) * time.Millisecond)
		f.sent = append(f.sent, c.Advance(at)...)
		p := routes[f.r.IntN(len(routes))]
		if f.r.IntN(300) == 0 {
			p.Route = "/rare"
			p.Experiment = "users"
		}
		if f.r.IntN(30) == 0 {
			at = at.Add(-50 * time.Second) // an answer that took its time
		}
		f.request(c, p, at, ms/1000)
	}
	f.sent = append(f.sent, c.Flush()...)
}

// chance is true once in n.
func (f *fleet) chance(n int) bool { return f.r.IntN(n) == 0 }

// request is one request of a route.
func (f *fleet) request(c *verdict.Collector, p place, at time.Time, second int) {
	id, ok := c.Route(p.Experiment, p.Route)
	none, _ := c.Route(p.Experiment, "")
	if !ok {
		f.t.Fatalf("no route %+v", p)
	}
	switch {
	case f.chance(12):
		c.Pass(id, at, verdict.Selection(2+f.r.IntN(6)))
		return
	case f.chance(20):
		c.Pass(none, at, verdict.Selection(f.r.IntN(2)))
		return
	case f.chance(40):
		c.Lose(none, at, []string{"gap", "no_request", "evicted"}[f.r.IntN(3)])
		return
	case f.chance(60):
		c.Lose(id, at, []string{"gap", "stopped", "too_large"}[f.r.IntN(3)])
		return
	}
	ticket := c.Select(id, at)
	control := verdict.ControlNotChosen
	if p.Experiment == "users" && !f.chance(4) {
		control = []verdict.ControlResult{verdict.ControlAnswered, verdict.ControlFailed, verdict.ControlShed}[max(0, f.r.IntN(40)-37)]
	}
	if f.chance(30) {
		if control == verdict.ControlAnswered {
			control = verdict.ControlShed
		}
		c.Skip(ticket, verdict.Unreplayed(f.r.IntN(4)), control)
		return
	}
	if f.chance(500) {
		return // never heard of again: stopped
	}
	pair := f.pair(p, control, second)
	f.remember(p, pair)
	c.Compare(ticket, pair)
}

// pair is what came of a request that was replayed.
func (f *fleet) pair(p place, control verdict.ControlResult, second int) *verdict.Pair {
	pair := &verdict.Pair{KeyGroup: f.r.IntN(64), Reference: f.leg(1), Candidate: f.leg(1.3), Control: verdict.Control{Result: control, Leg: f.leg(1)}}
	if control == verdict.ControlFailed {
		pair.Control.Leg = verdict.Leg{GaveUp: 2 * time.Second}
	}
	var cand, ctrl []string
	both := func(name string, c, k bool) {
		if c {
			cand = append(cand, name)
		}
		if k {
			ctrl = append(ctrl, name)
		}
	}
	both(defect, pair.KeyGroup < 10 && f.chance(3), false)
	both(noise, f.chance(15), f.chance(15))
	if p.Route == "/search" {
		both(masked, f.chance(2), f.chance(2))
		both(begins, second >= 40 && f.chance(8), false)
		both(verdict.OtherFingerprint, f.chance(50), f.chance(50))
	}
	// Everybody sees one entry that the reference had anew and the control not
	// yet, and half of the agents another one the other way round.
	if second/10 == 5 || second/10 == 8 {
		pair.KeyGroup = 7
		both(stale, !f.chance(4), false)
		side := f.chance(2)
		both(crossed, side, !side)
	}
	outcome := func(prints []string) diff.Outcome {
		switch {
		case len(prints) > 0:
			return diff.Divergent
		case f.chance(10):
			return diff.Ignored
		}
		return diff.Equal
	}
	pair.Outcome, pair.Fingerprints = outcome(cand), cand
	pair.Control.Outcome, pair.Control.Fingerprints = outcome(ctrl), ctrl
	switch {
	case f.chance(40):
		pair.Outcome, pair.Why, pair.Fingerprints = diff.NotComparable, []string{"too_large", "event_stream"}[f.r.IntN(2)], nil
	case f.chance(60) || p.Route == "/rare" && f.chance(3):
		pair.Outcome, pair.Fingerprints, pair.Failed = diff.Divergent, nil, "timeout"
		pair.Candidate = verdict.Leg{GaveUp: time.Duration(1500+f.r.IntN(1000)) * time.Millisecond}
	case f.chance(60):
		pair.Outcome, pair.Fingerprints, pair.Failed = diff.Divergent, nil, "connect"
		pair.Candidate = verdict.Leg{}
	case f.chance(60):
		pair.Control.Outcome, pair.Control.Fingerprints = diff.NotComparable, nil
	}
	return pair
}

// leg has times around 5 ms, with a long tail.
func (f *fleet) leg(factor float64) verdict.Leg {
	ms := factor * 5 * (0.2 + f.r.ExpFloat64())
	if f.chance(60) {
		ms *= 100
	}
	if f.chance(200) {
		ms = 0.0005 // below the smallest bucket's end
	}
	first := time.Duration(ms * float64(time.Millisecond))
	return verdict.Leg{
		FirstByte: first, LastByte: first + time.Duration(f.r.IntN(3_000_000)), Size: int64(f.r.IntN(16 << 10)),
		NewConnection: f.chance(50), MinRTT: time.Duration(100+f.r.IntN(400)) * time.Microsecond,
	}
}

// remember keeps the times that a window's histograms are made of, by the rules
// that the schema states.
func (f *fleet) remember(p place, pair *verdict.Pair) {
	alike := p.Experiment == "users"
	cand, ctrl, ref := &pair.Candidate, &pair.Control.Leg, &pair.Reference
	went := cand.FirstByte+cand.GaveUp > 0
	if alike {
		went = went && (pair.Control.Result == verdict.ControlAnswered || pair.Control.Result == verdict.ControlFailed)
		went = went && !ctrl.NewConnection
	}
	if pair.Outcome == diff.NotComparable || !went || cand.NewConnection {
		return
	}
	keep := func(answer, until string, d time.Duration) {
		k := timed{p, answer, until}
		f.times[k] = append(f.times[k], float64(d)/1e3)
	}
	first := func(answer string, l *verdict.Leg) {
		if l.FirstByte > 0 {
			keep(answer, "first_byte", l.FirstByte)
		} else {
			k := timed{p, answer, "first_byte"}
			f.gaveUp[k] = append(f.gaveUp[k], float64(l.GaveUp)/1e3)
		}
	}
	small := func(l *verdict.Leg) bool { return l.LastByte > 0 && l.Size <= 14<<10 }
	first("reference", ref)
	first("candidate", cand)
	all := small(ref) && small(cand)
	if alike {
		first("control", ctrl)
		all = all && small(ctrl)
		if cand.FirstByte > 0 && ctrl.FirstByte > 0 {
			keep("difference", "first_byte", cand.FirstByte-ctrl.FirstByte)
		}
	}
	if !all {
		return
	}
	keep("reference", "last_byte", ref.LastByte)
	keep("candidate", "last_byte", cand.LastByte)
	if alike {
		keep("control", "last_byte", ctrl.LastByte)
		keep("difference", "last_byte", cand.LastByte-ctrl.LastByte)
	}
}

// deliver makes lines of the records: some are lost, some come twice, and
// nothing keeps its order.
func (f *fleet) deliver() {
	// Only such without times are lost, so that the percentiles can be compared
	// with the times themselves.
	f.sent = slices.DeleteFunc(f.sent, func(w *verdict.Window) bool { return w.Fingerprint != "" && f.chance(50) })
	var lines []string
	line := func(w *verdict.Window) {
		text, err := w.JSON()
		if err != nil {
			f.t.Fatal(err)
		}
		lines = append(lines, string(text))
	}
	for _, w := range f.sent {
		line(w)
		for f.chance(15) {
			line(w)
			f.repeats++
		}
	}
	// What a merge must refuse.
	for _, spoil := range []func(*verdict.Window){
		func(w *verdict.Window) { w.Schema = "shadowtap.window.v2" },
		func(w *verdict.Window) { w.WindowEnd = w.WindowStart },
		func(w *verdict.Window) { w.Experiment = "" },
		func(w *verdict.Window) { w.Late = 1<<32 + 1 },
		func(w *verdict.Window) { w.Complete++ },
		func(w *verdict.Window) { w.Selected++; w.SampledOut-- },
		func(w *verdict.Window) { w.Equal++ },
		func(w *verdict.Window) { w.ControlChosen++ },
		func(w *verdict.Window) {
			n := w.Paired + 1 - w.Both - w.CandidateOnly - w.ControlOnly
			w.Both, w.Equal, w.Divergent = w.Both+n, w.Equal-n, w.Divergent+n
		},
		func(w *verdict.Window) { w.Both++; w.Failed = map[string]int64{"timeout": w.Divergent} },
		func(w *verdict.Window) { w.Fingerprint, w.Both = noise, w.Divergent+1 },
		func(w *verdict.Window) {
			w.Fingerprint, w.Both, w.CandidateOnly, w.B, w.D, w.ExcessSquares = noise, 0, w.Divergent, 1, 0, 1
		},
	} {
		w := *f.busy()
		w.BootID = "spoiled"
		spoil(&w)
		line(&w)
		f.refused++
	}
	f.r.Shuffle(len(lines), func(i, k int) { lines[i], lines[k] = lines[k], lines[i] })
	third := len(lines) / 3
	f.batches = [][]string{lines[:third], lines[third : 2*third], lines[2*third:]}
}

// busy is some window of totals with much in it.
func (f *fleet) busy() *verdict.Window {
	for _, i := range f.r.Perm(len(f.sent)) {
		if w := f.sent[i]; w.Fingerprint == "" && w.SampledOut > 0 && w.Divergent > 0 && w.Equal+w.Both+w.CandidateOnly+w.ControlOnly > w.Paired {
			return w
		}
	}
	f.t.Fatal("no busy window")
	return nil
}
