package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Word is a verdict.
type Word string

const (
	// Promote: everything that was asked holds.
	Promote Word = "promote"
	// Hold: something was shown to be wrong.
	Hold Word = "hold"
	// Insufficient: not enough was seen for either.
	Insufficient Word = "insufficient"
)

// ExitCode is what "report --require promote" ends with: 0 for promote, 1 for
// hold, 3 for insufficient and for anything else. Trouble, 2, is the caller's.
func (w Word) ExitCode() int {
	switch w {
	case Promote:
		return 0
	case Hold:
		return 1
	}
	return 3
}

// SampleByRequest is the value of sample.by with which a verdict speaks of all
// requests.
const SampleByRequest = "request"

// smallRoute is the share of an experiment's traffic below which a route does
// not decide.
const smallRoute = 0.01

// Reason is one cause of a Word.
type Reason struct {
	Word Word `json:"word"`
	// Code names it: divergence, failed, masked, latency, nothing_compared,
	// min_compared, unseen, records_missing, records_conflict, or at an
	// experiment routes.
	Code string `json:"code"`
	// Text says it in one line, with the numbers.
	Text string `json:"text"`
	// Further is how many further pairs are needed if nothing more happens; 0
	// when more pairs don't help or the number is not known.
	Further int64 `json:"further,omitempty"`
}

// Rate is a share with its bounds, for the error of the confidence.
type Rate struct {
	// Count of Of is the share.
	Count int64   `json:"count"`
	Of    int64   `json:"of"`
	Share float64 `json:"share"`
	// Low and High hold at every look.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Once is the upper bound "if you look once".
	Once float64 `json:"high_if_you_look_once"`
}

func newRate(x, n int64, a float64) Rate {
	r := Rate{Count: x, Of: n, Low: Lower(x, n, a), High: Upper(x, n, a), Once: UpperOnce(x, n, a)}
	if n > 0 {
		r.Share = float64(x) / float64(n)
	}
	return r
}

// Unseen is what was not looked at of the requests that would have been.
type Unseen struct {
	// Count is their number, Share that of all that would have been looked at.
	Count int64   `json:"count"`
	Share float64 `json:"share"`
	// Buckets has each by its name, Largest the largest.
	Buckets map[string]int64 `json:"buckets"`
	Largest string           `json:"largest"`
	// WorstCase is the share of divergent requests if every unseen one is.
	WorstCase float64 `json:"worst_case"`
}

// Route is the verdict on one route.
type Route struct {
	Route   string   `json:"route"`
	Word    Word     `json:"word"`
	Reasons []Reason `json:"reasons"`
	// Share is the route's share of the experiment's traffic: of requests that
	// were selected or sampled out. Small says that it does not decide.
	Share  float64 `json:"share"`
	Small  bool    `json:"small"`
	Counts Counts  `json:"counts"`
	// Divergent is among compared: an upper bound of the pairs whose difference
	// is not noise, negligible or masked. All is without that subtraction.
	Divergent Rate `json:"divergent"`
	All       Rate `json:"all_divergent"`
	// Failed are the candidate's failures, open breaker included.
	Failed Rate `json:"failed"`
	// Further is how many further pairs are needed for the bound if nothing
	// more diverges; -1 when none suffice.
	Further int64  `json:"further"`
	Unseen  Unseen `json:"unseen"`
	Masked  int    `json:"masked"`
	// KeyGroups are those in which something was compared, and something was
	// divergent, of 1024.
	KeyGroups          int           `json:"key_groups"`
	DivergentKeyGroups int           `json:"divergent_key_groups"`
	Latency            LatencyReport `json:"latency"`
}

// Experiment is the verdict on one period: an experiment with one candidate
// version and one revision of the configuration.
type Experiment struct {
	Experiment       string `json:"experiment"`
	CandidateVersion string `json:"candidate_version"`
	ConfigRevision   string `json:"config_revision"`
	// Latest says that no period of the experiment has a later window.
	Latest bool `json:"latest"`
	First  Time `json:"first"`
	Last   Time `json:"last"`
	// Agents is how many sent windows.
	Agents  int      `json:"agents"`
	Word    Word     `json:"word"`
	Reasons []Reason `json:"reasons"`
	// SampleBy is the configuration's sample.by; SampledKeysOnly says that the
	// verdict speaks of the sampled keys only.
	SampleBy        string `json:"sample_by"`
	SampledKeysOnly bool   `json:"sampled_keys_only"`
	// ControlSelf says that the control was the captured server itself, at least
	// for some agents: noise and times are those of a second execution.
	ControlSelf bool `json:"control_self"`
	// Bound is the upper bound of the share of divergent requests over all
	// routes: the sum of share times bound, each at its part of the error.
	// Share is the same sum of the shares themselves.
	Share float64 `json:"share"`
	Bound float64 `json:"bound"`
	// Unseen includes what was lost before its route was known.
	Unseen Unseen `json:"unseen"`
	Masked int    `json:"masked"`
	// ReferencePerSecond, CandidatePerSecond and ControlPerSecond are the
	// requests of its routes, the replays, and those to the control too, per
	// second between First and Last. With ControlSelf the last is load that was
	// put on production.
	ReferencePerSecond float64       `json:"reference_per_second"`
	CandidatePerSecond float64       `json:"candidate_per_second"`
	ControlPerSecond   float64       `json:"control_per_second"`
	Routes             []Route       `json:"routes"`
	Fingerprints       []Fingerprint `json:"fingerprints"`
	// Counts are the sums over all routes, and over what belongs to none.
	Counts Counts `json:"counts"`
}

// Agent is what came of one start of an agent.
type Agent struct {
	Agent   string `json:"agent"`
	BootID  string `json:"boot_id"`
	First   Time   `json:"first"`
	Last    Time   `json:"last"`
	Records int64  `json:"records"`
	// Missing is how many records between its first and its last did not come.
	Missing int64 `json:"missing"`
}

// Report is what windows say.
type Report struct {
	// Word is that of the latest periods together: promote when each of them
	// is, and there is one.
	Word Word `json:"word"`
	// Records were counted; Repeats were left out. Missing are holes in the
	// agents' sequences, Conflicts records that contradict others.
	Records     int64        `json:"records"`
	Repeats     int64        `json:"repeats"`
	Missing     int64        `json:"missing"`
	Conflicts   int64        `json:"conflicts"`
	Agents      []Agent      `json:"agents"`
	Experiments []Experiment `json:"experiments"`
}

// ExitCode is Word's.
func (r *Report) ExitCode() int { return r.Word.ExitCode() }

// Report judges what was added so far. The settings are right by Check; the
// caller owns the report. It may be called again after more windows.
func (m *Merge) Report(s Settings) *Report {
	r := &Report{Records: m.records, Repeats: m.repeats, Conflicts: m.conflicts}
	for k, b := range m.boots {
		a := Agent{Agent: k.agent, BootID: k.bootID, First: b.first, Last: b.last, Records: b.records}
		if k.bootID != "" {
			a.Missing = max(0, b.most-b.least+1-b.records)
		}
		r.Missing += a.Missing
		r.Agents = append(r.Agents, a)
	}
	slices.SortFunc(r.Agents, func(a, b Agent) int {
		return cmp.Or(cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.First, b.First), cmp.Compare(a.BootID, b.BootID))
	})
	for k, p := range m.periods {
		e := p.judge(s, r)
		e.Experiment, e.CandidateVersion, e.ConfigRevision = k.experiment, k.candidateVersion, k.configRevision
		r.Experiments = append(r.Experiments, e)
	}
	slices.SortFunc(r.Experiments, func(a, b Experiment) int {
		return cmp.Or(cmp.Compare(a.Experiment, b.Experiment), cmp.Compare(a.Last, b.Last), cmp.Compare(a.First, b.First),
			cmp.Compare(a.CandidateVersion, b.CandidateVersion), cmp.Compare(a.ConfigRevision, b.ConfigRevision))
	})
	var words []Word
	for i := range r.Experiments {
		if i == len(r.Experiments)-1 || r.Experiments[i+1].Experiment != r.Experiments[i].Experiment {
			r.Experiments[i].Latest = true
			words = append(words, r.Experiments[i].Word)
		}
	}
	r.Word = worst(words)
	return r
}

// worst is the word for several things that all must hold: Insufficient of none.
func worst(words []Word) Word {
	switch {
	case slices.Contains(words, Hold):
		return Hold
	case len(words) == 0 || slices.Contains(words, Insufficient):
		return Insufficient
	}
	return Promote
}

func wordOf(reasons []Reason) Word {
	word := Promote
	for i := range reasons {
		word = worst([]Word{word, reasons[i].Word})
	}
	return word
}

// judge judges a period. r has what is known of the records.
func (p *period) judge(s Settings, r *Report) Experiment {
	e := Experiment{
		First: p.first, Last: p.last, Agents: len(p.agents),
		SampleBy: p.sampleBy, SampledKeysOnly: p.sampleBy != SampleByRequest, ControlSelf: p.controlSelf,
		Fingerprints: p.fingerprints(s),
	}
	var traffic int64
	judged := 0
	for _, name := range slices.Sorted(maps.Keys(p.routes)) {
		n := &p.routes[name].counts
		e.Counts.add(n)
		if name != "" {
			traffic += n.traffic()
			judged += int(min(1, n.traffic()))
		}
	}
	var words []Word
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(p.routes)) {
		if name == "" {
			continue
		}
		rt := p.routes[name].judge(name, e.Fingerprints, s)
		if traffic > 0 {
			rt.Share = float64(rt.Counts.traffic()) / float64(traffic)
		}
		if rt.Small = rt.Share < smallRoute; !rt.Small {
			words = append(words, rt.Word)
			if rt.Word != Promote {
				bad = append(bad, fmt.Sprintf("%s (%s)", name, rt.Word))
			}
		}
		e.Masked += rt.Masked
		e.Share += rt.Share * rt.Divergent.Share
		e.Bound += rt.Share * Upper(rt.Divergent.Count, rt.Divergent.Of, (1-s.Confidence)/float64(max(1, judged)))
		e.Unseen.WorstCase += rt.Share * rt.Unseen.WorstCase
		e.Routes = append(e.Routes, rt)
	}
	if traffic == 0 {
		e.Bound, e.Unseen.WorstCase = 1, 1
	}
	if word := worst(words); word != Promote {
		text := strings.Join(bad, ", ")
		switch {
		case len(bad) > 0:
		case traffic == 0:
			text = "no request of its routes was to be replayed"
		default:
			text = fmt.Sprintf("none of its %d routes has %s of the traffic, so that none decides", len(e.Routes), percent(smallRoute))
		}
		e.Reasons = append(e.Reasons, Reason{Word: word, Code: "routes", Text: text})
	}
	if e.Masked > s.MaxMasked {
		e.Reasons = append(e.Reasons, maskedReason(e.Masked, s))
	}
	e.unseen(p, traffic, s)
	if total := r.Missing + r.Records; float64(r.Missing) > s.MaxUnseen*float64(total) {
		e.Reasons = append(e.Reasons, Reason{Word: Insufficient, Code: "records_missing", Text: fmt.Sprintf("%d of %d window records did not come", r.Missing, total)})
	}
	if r.Conflicts > 0 {
		e.Reasons = append(e.Reasons, Reason{Word: Insufficient, Code: "records_conflict", Text: fmt.Sprintf("%d window records contradict others of the same boot_id and sequence", r.Conflicts)})
	}
	if seconds := e.Last.Time().Sub(e.First.Time()).Seconds(); seconds > 0 {
		e.ReferencePerSecond = float64(traffic) / seconds
		e.CandidatePerSecond = float64(e.Counts.Compared) / seconds
		e.ControlPerSecond = float64(e.Counts.Paired+e.Counts.Unpaired+e.Counts.ControlFailed) / seconds
	}
	e.Word = wordOf(e.Reasons)
	return e
}

// unseen judges what was not seen of all routes. Exchanges that were lost before
// their route was known would have been selected as often as others.
func (e *Experiment) unseen(p *period, traffic int64, s Settings) {
	worst := e.Unseen.WorstCase
	e.Unseen = Unseen{Buckets: map[string]int64{}}
	var compared int64
	for name, r := range p.routes {
		if name != "" {
			e.Unseen.add(&r.counts)
			compared += r.counts.Compared
		}
	}
	if none := p.routes[""]; none != nil {
		selected := 1.0
		if matched := e.Counts.Complete; matched > 0 {
			selected = float64(e.Counts.Selected) / float64(matched)
		}
		for word, n := range none.counts.Lost {
			e.Unseen.Buckets[word] += int64(float64(n)*selected + 0.5)
		}
	}
	e.Unseen.settle(compared)
	e.Unseen.WorstCase = worst
	if known := total(e.Unseen.Buckets); traffic > 0 && known > 0 {
		// The part without a route, on top of what the routes say.
		var routed int64
		for i := range e.Routes {
			routed += e.Routes[i].Unseen.Count
		}
		if extra := float64(known-routed) / float64(compared+known); extra > 0 {
			e.Unseen.WorstCase = worst*(1-extra) + extra
		}
	}
	if e.Unseen.Share > s.MaxUnseen {
		e.Reasons = append(e.Reasons, e.Unseen.reason(s))
	}
}

func (u *Unseen) add(n *Counts) {
	for word, k := range n.Lost {
		u.Buckets[word] += k
	}
	u.Buckets["shed"] += n.Shed
	u.Buckets["rate_limited"] += n.RateLimited
	u.Buckets["breaker_open"] += n.BreakerOpen
	u.Buckets["stopped"] += n.Stopped
}

// settle fills in the sum, the share and the largest, of buckets beside seen
// requests.
func (u *Unseen) settle(seen int64) {
	maps.DeleteFunc(u.Buckets, func(_ string, n int64) bool { return n == 0 })
	u.Count = total(u.Buckets)
	if u.Count > 0 {
		u.Share = float64(u.Count) / float64(u.Count+seen)
	}
	for _, word := range slices.Sorted(maps.Keys(u.Buckets)) {
		if u.Largest == "" || u.Buckets[word] > u.Buckets[u.Largest] {
			u.Largest = word
		}
	}
}

func (u *Unseen) reason(s Settings) Reason {
	return Reason{Word: Insufficient, Code: "unseen", Text: fmt.Sprintf("%s of the requests were not seen, most of them %s (%d of %d); allowed is %s",
		percent(u.Share), u.Largest, u.Buckets[u.Largest], u.Count, percent(s.MaxUnseen))}
}

func maskedReason(n int, s Settings) Reason {
	are := "1 difference is"
	if n != 1 {
		are = fmt.Sprintf("%d differences are", n)
	}
	return Reason{Word: Hold, Code: "masked", Text: fmt.Sprintf("%s in more than half of the control's answers too, so that a defect there can't be seen; allowed are %d", are, s.MaxMasked)}
}

// traffic is what a route's share is of: requests to be replayed, sampled or not.
func (c *Counts) traffic() int64 { return c.SampledOut + c.Selected }

// judge judges a route.
func (r *routeSums) judge(name string, fingerprints []Fingerprint, s Settings) Route {
	out := Route{Route: name, Counts: Counts{}}
	out.Counts.add(&r.counts)
	n := &out.Counts
	for _, g := range r.keyGroups {
		out.KeyGroups += int(min(1, g[0]))
		out.DivergentKeyGroups += int(min(1, g[1]))
	}
	failed := total(n.Failed)
	all := n.Divergent - failed
	var counted, known int64
	for i := range fingerprints {
		f := &fingerprints[i]
		if f.Route != name {
			continue
		}
		known += f.Divergent
		if f.Counts() {
			counted += f.Divergent
		}
		if f.Class == Masked {
			out.Masked++
		}
	}
	// Each divergent pair has a fingerprint; where records are missing it may
	// be of any class.
	counted += max(0, all-known)
	x, pairs := min(all, counted), n.Compared-total(n.NotComparable)-failed
	a := 1 - s.Confidence
	out.Divergent, out.All = newRate(x, pairs, a), newRate(all, pairs, a)
	out.Failed = newRate(failed+n.BreakerOpen, pairs+failed+n.BreakerOpen, a)
	out.Further = Further(x, pairs, s.MaxDivergence, a)
	out.Unseen = Unseen{Buckets: map[string]int64{}}
	out.Unseen.add(n)
	out.Unseen.settle(n.Compared)
	out.Unseen.WorstCase = 1
	if both := pairs + out.Unseen.Count; both > 0 {
		out.Unseen.WorstCase = float64(x+out.Unseen.Count) / float64(both)
	}
	out.Latency = latencyReport(n, &r.latency, s)
	out.reasons(s)
	out.Word = wordOf(out.Reasons)
	return out
}

func (out *Route) reasons(s Settings) {
	add := func(w Word, code string, further int64, format string, args ...any) {
		out.Reasons = append(out.Reasons, Reason{Word: w, Code: code, Text: fmt.Sprintf(format, args...), Further: max(0, further)})
	}
	pairs := out.Divergent.Of
	if pairs == 0 {
		add(Insufficient, "nothing_compared", out.Further, "nothing was compared")
	} else if pairs < s.MinCompared {
		add(Insufficient, "min_compared", s.MinCompared-pairs, "%d pairs were compared, asked are %d", pairs, s.MinCompared)
	}
	a := 1 - s.Confidence
	for _, c := range []struct {
		code, what string
		rate       Rate
		most       float64
		further    int64
	}{
		{"divergence", "diverge", out.Divergent, s.MaxDivergence, out.Further},
		{"failed", "failed", out.Failed, s.MaxFailed, Further(out.Failed.Count, out.Failed.Of, s.MaxFailed, a)},
	} {
		switch r := c.rate; {
		case r.Of == 0:
		case r.Low > c.most:
			add(Hold, c.code, 0, "%d of %d %s, at least %s with confidence %s; allowed is %s", r.Count, r.Of, c.what, percent(r.Low), percent(s.Confidence), percent(c.most))
		case r.High > c.most:
			add(Insufficient, c.code, c.further, "%d of %d %s, up to %s with confidence %s; allowed is %s", r.Count, r.Of, c.what, percent(r.High), percent(s.Confidence), percent(c.most))
		}
	}
	if out.Masked > s.MaxMasked {
		out.Reasons = append(out.Reasons, maskedReason(out.Masked, s))
	}
	if out.Unseen.Share > s.MaxUnseen {
		out.Reasons = append(out.Reasons, out.Unseen.reason(s))
	}
	switch l := &out.Latency; l.Word {
	case LatencySlower:
		add(Hold, "latency", 0, "slower than the control by more than allowed: %s", l.text())
	case LatencyInsufficient:
		if l.Omitted > maxOmitted {
			add(Insufficient, "latency", 0, "%s of the replays were shed, rate-limited or held back by the breaker, so that the slow ones are missing", percent(l.Omitted))
		} else if pairs > 0 {
			add(Insufficient, "latency", 0, "%d pairs with the control do not tell yet whether it is slower: %s", l.Pairs, l.text())
		}
	}
}

func (l *LatencyReport) text() string {
	var parts []string
	bound := func(p *float64) string {
		if p == nil {
			return "?"
		}
		return percent(*p)
	}
	for _, q := range l.Quantiles {
		parts = append(parts, fmt.Sprintf("p%s %s to %s, allowed %s", strconv.FormatFloat(q.Q*100, 'g', 3, 64), bound(q.Low), bound(q.High), percent(q.Max)))
	}
	return strings.Join(parts, "; ")
}

// percent is a share with three digits.
func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 3, 64) + " %" }
