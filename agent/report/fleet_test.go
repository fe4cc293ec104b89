package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// The fleet of the golden reports: four agents, three experiments, ten minutes.
// What agents publish is made by the agents' own collector and record type, from
// a seeded source, so it is always the same.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	fleetAgents  = 4
	fleetMinutes = 10
)

// way is one way to differ on a route, with the chance that an answer of the
// candidate, of the control, or of both has it.
type way struct {
	candidate, control, both   float64
	aspect, kind, path, detail string
	values                     [2]string // what the reference and the candidate have; %d is the request
	after                      time.Duration
}

func (w *way) fingerprint(experiment, route string) string {
	h := fnv.New64a()
	fmt.Fprint(h, experiment, 0, route, 0, w.aspect, 0, w.kind, 0, w.path)
	return fmt.Sprintf("%016x", h.Sum64())
}

type fleetRoute struct {
	route, url string // %d is the request
	weight     float64
	ways       []way
	timeouts   float64
	slower     float64 // candidate's time by control's
}

type fleetExperiment struct {
	name, version string
	perSecond     float64 // over all agents
	control       float64 // the share that the control gets
	routes        []fleetRoute
}

var fleet = []fleetExperiment{
	{name: "users", version: "v2", perSecond: 60, control: 1, routes: []fleetRoute{
		{route: "/users/{id}", url: "/users/%d", weight: 0.7, slower: 1.25, timeouts: 0.0004, ways: []way{
			{candidate: 0.012, aspect: "body", kind: "type_changed", path: `$["price"]`, values: [2]string{`12.5`, `"12.50"`}, after: 4 * time.Minute},
			{candidate: 0.02, control: 0.02, aspect: "body", kind: "changed", path: `$["friends"][*]["seen"]`, values: [2]string{`"2026-03-01T11:58:%02dZ"`, `"2026-03-01T11:59:%02dZ"`}},
			{candidate: 0.0004, aspect: "header", kind: "removed", path: "cache-control", values: [2]string{"max-age=60, stale-while-revalidate=%d", ""}},
			{candidate: 0.0008, control: 0.0008, aspect: "body", kind: "added", path: `$["hint"]`, values: [2]string{"", `"cached"`}},
		}},
		{route: "/search", url: "/search?q=%d", weight: 0.292, slower: 1, ways: []way{
			{both: 0.7, candidate: 0.1, control: 0.1, aspect: "body", kind: "changed", path: `$["took"]`, values: [2]string{`%d`, `7`}},
			{candidate: 0.006, aspect: "status", kind: "changed", values: [2]string{`200`, `500`}},
		}},
		{route: "/admin/{action...}", url: "/admin/a/%d", weight: 0.008, slower: 1},
	}},
	{name: "orders", version: "v1.4", perSecond: 4, routes: []fleetRoute{{route: "/", url: "/orders/%d", weight: 1, slower: 1}}},
	{name: "static", version: "2026-02", perSecond: 45, control: 1, routes: []fleetRoute{{route: "/assets/{file...}", url: "/assets/%d.css", weight: 1, slower: 1}}},
}

// records are what one agent published, in its order.
type records struct{ windows, divergences [][]byte }

// fleetRecords are those of each agent. The caller does not write to them.
func fleetRecords(t testing.TB) []records {
	t.Helper()
	out, err := madeFleet()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var madeFleet = sync.OnceValues(func() (out []records, err error) {
	for i := range fleetAgents {
		r, err := agentRecords(i)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
})

func agentRecords(agent int) (out records, err error) {
	rng := rand.New(rand.NewPCG(1, uint64(agent)))
	c := verdict.CollectorConfig{Agent: fmt.Sprintf("node-%d", agent+1), BootID: fmt.Sprintf("boot-%d", agent+1), ConfigRevision: "8c1f22d0"}
	for _, e := range fleet {
		x := verdict.CollectorExperiment{Name: e.name, CandidateVersion: e.version, SampleBy: "request", Control: e.control > 0}
		for _, r := range e.routes {
			x.Routes = append(x.Routes, r.route)
		}
		c.Experiments = append(c.Experiments, x)
	}
	col, err := verdict.NewCollector(c)
	if err != nil {
		return out, err
	}
	keep := func(ws []*verdict.Window) {
		for _, w := range ws {
			text, e := w.JSON()
			err = errors.Join(err, e)
			out.windows = append(out.windows, text)
		}
	}
	published := map[string]int{}
	for second := range fleetMinutes * 60 {
		now := noon.Add(time.Duration(second) * time.Second)
		for i := range fleet {
			e := &fleet[i]
			n := int(e.perSecond/fleetAgents) + btoi(rng.Float64() < e.perSecond/fleetAgents-math.Floor(e.perSecond/fleetAgents))
			for k := range n {
				at := now.Add(time.Duration(k) * time.Millisecond)
				r := e.pick(rng)
				id, _ := col.Route(e.name, r.route)
				if u := rng.Float64(); u < 0.3 {
					col.Pass(id, at, verdict.SampledOut)
				} else if u < 0.3005 {
					col.Lose(id, at, "gap")
				} else if d := e.request(col, id, r, at, rng); d != nil {
					d.BootID, d.Node, d.ConfigRevision = c.BootID, c.Agent, c.ConfigRevision
					if admit(published, d) {
						text, e := json.Marshal(d)
						err = errors.Join(err, e)
						out.divergences = append(out.divergences, text)
					}
				}
			}
		}
		keep(col.Advance(now))
	}
	keep(col.Flush())
	return out, err
}

// admit says whether a record has a fingerprint that was published less than 20
// times.
func admit(published map[string]int, d *redact.Divergence) (ok bool) {
	for i := range d.Differences {
		published[d.Differences[i].Fingerprint]++
		ok = ok || published[d.Differences[i].Fingerprint] <= 20
	}
	return ok
}

func (e *fleetExperiment) pick(rng *rand.Rand) *fleetRoute {
	u := rng.Float64()
	for i := range e.routes {
		if u -= e.routes[i].weight; u < 0 {
			return &e.routes[i]
		}
	}
	return &e.routes[0]
}

// request compares one request, and gives its record if it diverges.
func (e *fleetExperiment) request(col *verdict.Collector, id verdict.RouteID, r *fleetRoute, at time.Time, rng *rand.Rand) *redact.Divergence {
	number := rng.IntN(5000)
	url := fmt.Sprintf(r.url, number)
	ticket := col.Select(id, at)
	if rng.Float64() < 0.0005 {
		col.Skip(ticket, verdict.Shed, verdict.ControlNotChosen)
		return nil
	}
	d := &redact.Divergence{
		Schema: redact.Schema, ID: fmt.Sprintf("%016x", rng.Uint64()), ExchangeID: fmt.Sprintf("%016x", rng.Uint64()), Time: verdict.TimeOf(at).String(),
		Published: verdict.TimeOf(at).String(), Source: "live", Experiment: e.name, Route: r.route, CandidateVersion: e.version, SampleRate: 1, Weight: 1,
		PublishWeight: 1, Outcome: "divergent", Request: redact.Request{Method: "GET", URL: url, Version: "HTTP/1.1"},
		Reference: redact.Answer{Status: 200}, Candidate: redact.Answer{Status: 200},
	}
	base := time.Duration(4e6 * math.Exp(rng.NormFloat64()/2))
	leg := func(slower float64) verdict.Leg {
		first := time.Duration(float64(base) * slower * math.Exp(rng.NormFloat64()/20))
		return verdict.Leg{FirstByte: first, LastByte: first + time.Millisecond, Size: 900}
	}
	p := &verdict.Pair{KeyGroup: verdict.KeyGroup("GET", url), Reference: leg(0.9), Candidate: leg(r.slower)}
	control := rng.Float64() < e.control
	if control {
		p.Control = verdict.Control{Result: verdict.ControlAnswered, Leg: leg(1)}
	}
	if rng.Float64() < r.timeouts {
		p.Outcome, p.Failed, p.Candidate = diff.Divergent, "timeout", verdict.Leg{GaveUp: 2 * time.Second}
		d.Why, d.Candidate = "failed", redact.Answer{Error: "timeout"}
		d.Differences = []redact.Difference{{Fingerprint: "00000000000000f0", Aspect: "candidate", Kind: "error", Candidate: text("timeout")}}
		col.Compare(ticket, p)
		return d
	}
	for i := range r.ways {
		w := &r.ways[i]
		both := rng.Float64() < w.both
		mine, other := both || rng.Float64() < w.candidate && at.Sub(noon) >= w.after, both || rng.Float64() < w.control
		f := w.fingerprint(e.name, r.route)
		if mine {
			p.Outcome, p.Fingerprints = diff.Divergent, append(p.Fingerprints, f)
			x := redact.Difference{Fingerprint: f, Aspect: w.aspect, Kind: w.kind, Path: w.path, Detail: w.detail, Reference: text(fill(w.values[0], number)), Candidate: text(fill(w.values[1], number))}
			if w.aspect == "status" {
				d.Candidate.Status = 500
			}
			if control {
				d.Control = &redact.Answer{Status: 200}
				x.Control = x.Reference
			}
			d.Differences = append(d.Differences, x)
		}
		if other && control {
			p.Control.Outcome, p.Control.Fingerprints = diff.Divergent, append(p.Control.Fingerprints, f)
		}
	}
	col.Compare(ticket, p)
	if p.Outcome != diff.Divergent {
		return nil
	}
	return d
}

func fill(format string, n int) string {
	if slices.Contains([]byte(format), '%') {
		return fmt.Sprintf(format, n%60)
	}
	return format
}

// text is a value, none for "".
func text(s string) *redact.Body {
	if s == "" {
		return nil
	}
	return &redact.Body{Encoding: "utf-8", Text: s, Size: int64(len(s))}
}

// build gives records to a new Builder, one agent after the other.
func build(t testing.TB, agents []records) *Builder {
	t.Helper()
	b := newBuilder(t, Config{})
	for _, a := range agents {
		for _, rec := range append(slices.Clone(a.windows), a.divergences...) {
			if err := b.Record(rec); err != nil {
				t.Fatalf("%v\n%s", err, rec)
			}
		}
	}
	return b
}

func newBuilder(t testing.TB, c Config) *Builder {
	t.Helper()
	b, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func document(t testing.TB, b *Builder) *Document {
	t.Helper()
	d, err := b.Document(verdict.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	return d
}
