package verdict

// LatencyWord says what is known of the candidate's latency.
type LatencyWord string

const (
	// LatencyFine: not slower than max_latency allows, as far as its intervals
	// go.
	LatencyFine LatencyWord = "fine"
	// LatencySlower: slower than max_latency allows.
	LatencySlower LatencyWord = "slower"
	// LatencyInsufficient: too few pairs, or too many requests were not sent.
	LatencyInsufficient LatencyWord = "insufficient"
	// LatencyNotAlike: without a control there is nothing like for like to
	// compare with. It never decides.
	LatencyNotAlike LatencyWord = "not_like_for_like"
	// LatencyNotMeasured: candidate and control answered, and no times were
	// taken, as of a capture. It never decides.
	LatencyNotMeasured LatencyWord = "not_measured"
)

// maxOmitted is the share of requests that may be shed, rate-limited or stopped
// by the breaker: those are the ones that would have been slow (coordinated
// omission).
const maxOmitted = 0.01

// LatencyReport is a route's latency, to the first byte if not said otherwise.
type LatencyReport struct {
	Word LatencyWord `json:"word"`
	// Pairs are the requests whose times count, censored ones included.
	Pairs int64 `json:"pairs"`
	// Omitted is the share of the selected requests that were not sent.
	Omitted float64 `json:"omitted"`
	// WarmingUp and NewConnection are those left out.
	WarmingUp     int64 `json:"warming_up"`
	NewConnection int64 `json:"new_connection"`
	// CandidateMinRTTUS is what was subtracted from the candidate's times where
	// there is no control; 0 when it is not known.
	CandidateMinRTTUS int64             `json:"candidate_min_rtt_us"`
	Quantiles         []LatencyQuantile `json:"quantiles"`
}

// LatencyQuantile is one quantile of each side. Intervals are of error 1 -
// confidence, at every look.
type LatencyQuantile struct {
	Q         float64  `json:"q"`
	Reference Quantile `json:"reference"`
	Candidate Quantile `json:"candidate"`
	// Control and Difference, the quantile of candidate minus control over the
	// pairs, are null without a control.
	Control    *Quantile `json:"control"`
	Difference *Quantile `json:"difference"`
	// LastByte is the quantile of the difference to the last byte; null without
	// a control or without small answers.
	LastByte *Quantile `json:"last_byte_difference"`
	// Slower is candidate / control - 1, without a control candidate /
	// reference - 1; Low and High bound it. null is not known.
	Slower *float64 `json:"slower"`
	Low    *float64 `json:"slower_low"`
	High   *float64 `json:"slower_high"`
	// Max is the threshold.
	Max float64 `json:"max"`
}

// latencyReport judges a route's histograms.
func latencyReport(n *Counts, l *Latency, s Settings) LatencyReport {
	out := LatencyReport{Word: LatencyInsufficient, WarmingUp: n.WarmingUp, NewConnection: n.NewConnection}
	if n.Selected > 0 {
		out.Omitted = float64(n.Shed+n.RateLimited+n.BreakerOpen) / float64(n.Selected)
	}
	reference := newDistribution(l.ReferenceTTFB, nil)
	candidate := newDistribution(l.CandidateTTFB, l.CandidateCensored)
	control := newDistribution(l.ControlTTFB, l.ControlCensored)
	alike := n.ControlChosen > 0
	out.Pairs = candidate.n
	a := 1 - s.Confidence
	slower, fine := false, true
	for _, q := range []struct{ q, most float64 }{{0.5, s.MaxP50}, {0.99, s.MaxP99}} {
		// Each end of the ratio takes half of the error.
		lq := LatencyQuantile{Q: q.q, Max: q.most, Reference: reference.quantile(q.q, a/2), Candidate: candidate.quantile(q.q, a/2)}
		over := lq.Reference
		if alike {
			c, d := control.quantile(q.q, a/2), newDistribution(l.DifferenceTTFB, nil).quantile(q.q, a)
			lq.Control, lq.Difference, over = &c, &d, c
			if len(l.DifferenceTTLB) > 0 {
				d := newDistribution(l.DifferenceTTLB, nil).quantile(q.q, a)
				lq.LastByte = &d
			}
		} else if rtt := l.CandidateMinRTTUS; rtt > 0 {
			out.CandidateMinRTTUS = rtt
			lq.Candidate = lq.Candidate.less(float64(rtt))
		}
		lq.ratio(&lq.Candidate, &over)
		out.Quantiles = append(out.Quantiles, lq)
		slower = slower || lq.Low != nil && *lq.Low > q.most
		fine = fine && lq.High != nil && *lq.High <= q.most
	}
	switch {
	case out.Omitted > maxOmitted:
	case !alike:
		out.Word = LatencyNotAlike
	case n.Paired > 0 && out.Pairs+n.WarmingUp+n.NewConnection == 0:
		// Two answers have times, where somebody takes them.
		out.Word = LatencyNotMeasured
	case slower:
		out.Word = LatencySlower
	case fine:
		out.Word = LatencyFine
	}
	return out
}

// less is the quantile with a constant taken off, not below 0.
func (q Quantile) less(us float64) Quantile {
	q.Value, q.Low, q.High = max(0, q.Value-us), max(0, q.Low-us), max(0, q.High-us)
	return q
}

// ratio fills in candidate / other - 1.
func (lq *LatencyQuantile) ratio(c, o *Quantile) {
	over := func(x, y float64) *float64 {
		if y <= 0 {
			return nil
		}
		r := x/y - 1
		return &r
	}
	if !c.AtLeast && !o.AtLeast {
		lq.Slower = over(c.Value, o.Value)
	}
	if !o.Open && !c.OpenLow {
		lq.Low = over(c.Low, o.High)
	}
	if !c.Open && !o.OpenLow {
		lq.High = over(c.High, o.Low)
	}
}
