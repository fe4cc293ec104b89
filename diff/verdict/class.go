package verdict

import (
	"cmp"
	"math"
	"slices"
)

// Class is what a fingerprint is taken for.
type Class string

const (
	// Candidate: the candidate differs more often than the control. The chance
	// that any fingerprint of an experiment ever is one without cause is at
	// most alpha.
	Candidate Class = "candidate"
	// Negligible: a Candidate whose excess is below the margin.
	Negligible Class = "negligible"
	// Noise: the control differs too, and the candidate's excess over it is
	// below the margin.
	Noise Class = "noise"
	// Masked: the control differs in more than half of the pairs, so a defect
	// of the candidate could not be seen there.
	Masked Class = "masked"
	// Undecided: none of these yet. It counts as divergent.
	Undecided Class = "undecided"
)

// leastControl is how many control-side units make a Noise, and how many
// control-side pairs a Masked.
const leastControl = 5

// Fingerprint is what is known of one way to differ.
type Fingerprint struct {
	Fingerprint string `json:"fingerprint"`
	Route       string `json:"route"`
	Class       Class  `json:"class"`
	// Order is its place among those of the experiment by first sight, from 1.
	Order int `json:"order"`
	// First and Last are the starts of the windows that showed it.
	First Time `json:"first"`
	Last  Time `json:"last"`
	// Divergent are the pairs whose candidate's answer had it, with or without
	// a control.
	Divergent int64 `json:"divergent"`
	// Paired are the paired requests since the first window that showed it, and
	// Both, CandidateOnly and ControlOnly those that had it.
	Paired        int64 `json:"paired"`
	Both          int64 `json:"both"`
	CandidateOnly int64 `json:"candidate_only"`
	ControlOnly   int64 `json:"control_only"`
	// B and D are the units of evidence after that first window.
	B int64 `json:"b"`
	D int64 `json:"d"`
	// LogEvidence is the natural logarithm of the evidence, LogThreshold what
	// makes a Candidate.
	LogEvidence  float64 `json:"log_evidence"`
	LogThreshold float64 `json:"log_threshold"`
	// Excess is after that first window too.
	Excess Excess `json:"excess"`
}

// Counts says whether the fingerprint's pairs count as divergent.
func (f *Fingerprint) Counts() bool { return f.Class == Candidate || f.Class == Undecided }

// ordered are the fingerprints of a period in the order of first sight, by
// name and place alone.
func (p *period) ordered() []Fingerprint {
	var out []Fingerprint
	for route, r := range p.routes {
		for name, f := range r.fingerprints {
			out = append(out, Fingerprint{Fingerprint: name, Route: route, First: f.first, Last: f.last})
		}
	}
	slices.SortFunc(out, func(a, b Fingerprint) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Fingerprint, b.Fingerprint), cmp.Compare(a.Route, b.Route))
	})
	for i := range out {
		out[i].Order = i + 1
	}
	return out
}

// fingerprints are those of a period, classified.
func (p *period) fingerprints(s Settings) []Fingerprint {
	out := p.ordered()
	sums := map[string]pairedSums{}
	for i := range out {
		f := &out[i]
		r := p.routes[f.Route]
		paired, known := sums[f.Route]
		if !known {
			paired = newPairedSums(r.paired)
			sums[f.Route] = paired
		}
		since, after := paired.since(f.First)
		f.classify(r.fingerprints[f.Fingerprint], since, after, s)
	}
	return out
}

// classify fills in the numbers and the class. paired are the paired requests
// from the first window on, later those after it.
func (f *Fingerprint) classify(n *fingerprintSums, paired, later int64, s Settings) {
	rest := n.later()
	f.Divergent, f.Paired = n.all.divergent, paired
	f.Both, f.CandidateOnly, f.ControlOnly = n.all.both, n.all.candidateOnly, n.all.controlOnly
	f.B, f.D = rest.b, rest.d
	f.LogEvidence = LogEvidence(f.B, f.D)
	f.LogThreshold = math.Log(Threshold(f.Order, s.Alpha))
	f.Excess = Excess{Low: -1, High: 1}
	if later > 0 {
		f.Excess.Estimate = float64(rest.candidateOnly-rest.controlOnly) / float64(later)
		// A unit may hold one pair or thousands: what is claimed to be small
		// must be small by either count.
		low, high := unitExcess(f.B, f.D, later, s.Alpha)
		low2, high2 := pairExcess(rest.candidateOnly, rest.controlOnly, rest.squares, later, s.Alpha)
		f.Excess.Low, f.Excess.High = min(low, low2), max(high, high2)
	}
	called := f.LogEvidence >= f.LogThreshold
	small := f.Excess.High < s.NoiseMargin
	control := f.Both + f.ControlOnly
	switch {
	case called && !small:
		f.Class = Candidate
	case control >= leastControl && 2*control > paired:
		f.Class = Masked
	case f.Fingerprint == OtherFingerprint:
		// It is many: the noise of one would hide another's defect.
		f.Class = Undecided
	case called:
		f.Class = Negligible
	case small && f.D >= leastControl:
		f.Class = Noise
	default:
		f.Class = Undecided
	}
}
