package agent

import (
	"net/url"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// replayControl is the experiment's control as replay takes it, nil without one.
// The share is drawn by the exchange's id, which is a hash of what was captured.
func replayControl(e *config.Experiment) *replay.Control {
	c := &e.Control
	if c.URL == "" && !c.Self {
		return nil
	}
	rate := sample.Rate{Hundredths: c.Share.Hundredths()}
	k := &replay.Control{
		URL: c.URL, Self: c.Self,
		Chosen: func(x *exchange.Exchange) bool { return sample.Keep(string(x.ID), "control", rate) },
	}
	if u, err := url.Parse(c.URL); err == nil && u.Scheme == "https" {
		k.TLS = replayTLS(&e.Candidate.TLS)
	}
	return k
}

func replayTLS(t *config.TLS) replay.TLS {
	return replay.TLS{CA: t.CAFile, Cert: t.CertFile, Key: t.KeyFile, ServerName: t.ServerName, Insecure: t.InsecureSkipVerify}
}

// authority is the host and port of a URL, "" without one.
func authority(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// controlSide is the control's side of a replay.
type controlSide struct {
	// Control is for the windows.
	verdict.Control
	// leg is what the record shows, nil when nothing was sent.
	leg *redact.Leg
	// result is the comparison of reference and control, nil where candidate
	// and control are no pair.
	result *diff.Result
}

// control compares the control with the reference. It gives nil for what was not
// to go to the control.
func (x *experiment) control(ex *exchange.Exchange, o *replay.Outcome, stale bool) *controlSide {
	c := o.Control
	if c == nil {
		return nil
	}
	s := &controlSide{Control: verdict.Control{Result: verdict.ControlShed}}
	k := c.Outcome
	if k == nil {
		return s
	}
	leg := recordLeg(k)
	s.leg = &leg
	switch {
	case c.Result == replay.PairShed:
	case k.Error != "":
		s.Result, s.Leg = verdict.ControlFailed, replayLeg(k)
	default:
		s.Result, s.Leg = verdict.ControlAnswered, replayLeg(k)
		res := x.rules.Compare(ex.Request, ex.Response, k.Response, diff.Input{Stale: stale, CandidateAuthority: x.controlAuthority, Descriptors: x.descriptors.Load()})
		s.Outcome, s.Fingerprints = res.Outcome, x.fingerprints(ex, res)
		if c.Result == replay.Paired {
			s.result = res
		}
	}
	return s
}

// controlCost is comparisonCost of the control's answer, which is compared after
// the candidate's.
func controlCost(ex *exchange.Exchange, o *replay.Outcome) int64 {
	if o.Control == nil || o.Control.Outcome == nil {
		return 0
	}
	return comparisonCost(ex.Response, o.Control.Outcome.Response)
}

// recordLeg is a replay as the record takes it.
func recordLeg(o *replay.Outcome) redact.Leg {
	return redact.Leg{
		Response: o.Response, Error: o.Error, Detail: o.Detail, Reused: o.Reused,
		Start: o.Start, FirstByte: o.FirstByte, LastByte: o.LastByte, TraceID: o.FreshTraceID,
	}
}

// The results of asking once more that replay does not have.
const (
	recheckConverged = iota
	recheckDivergent
	recheckFailed
	recheckNotComparable
	recheckNotAsked // and the replay's results behind it
	numRechecks     = recheckNotAsked + int(replay.NumResults) - int(replay.Shed)
)

// rechecks counts what came of asking once more.
type rechecks struct {
	begun    atomic.Uint64
	inFlight atomic.Int64
	results  [numRechecks]atomic.Uint64
}

// recheckWord is the ledger's result label.
func recheckWord(i int) string {
	if i >= recheckNotAsked {
		return (replay.Shed + replay.Result(i-recheckNotAsked)).String()
	}
	return [...]string{"converged", "divergent", "failed", "not_comparable"}[i]
}

// recheck asks candidate and control once more after compare.recheck, and then
// calls f with what came of it. The replay is in flight until f has returned.
func (x *experiment) recheck(ex *exchange.Exchange, o *replay.Outcome, f func(*redact.Recheck)) {
	x.rechecks.begun.Add(1)
	x.rechecks.inFlight.Add(1)
	x.replayer.Again(ex, o, x.cfg.Compare.Recheck.D(), func(a replay.Again) {
		i, after := x.agree(ex, o, &a, func(at int64) bool { return x.sampler.Stale(x.index, ex, at) != sample.Fresh })
		f(&redact.Recheck{Result: recheckWord(i), After: after})
		x.rechecks.results[i].Add(1)
		x.rechecks.inFlight.Add(-1)
	})
}

// agree says whether what was asked once more agrees: candidate and control, or
// where there is none the candidate and the captured answer, unless what was
// captured is stale by then.
func (x *experiment) agree(ex *exchange.Exchange, o *replay.Outcome, a *replay.Again, stale func(at int64) bool) (result int, after time.Duration) {
	if a.Result != replay.Compared {
		return recheckNotAsked + int(a.Result-replay.Shed), 0
	}
	if a.Candidate.Start != 0 && o.Start != 0 {
		after = time.Duration(a.Candidate.Start - o.Start)
	}
	if a.Candidate.Error != "" || a.Control != nil && a.Control.Error != "" {
		return recheckFailed, after
	}
	ref, in := ex.Response, diff.Input{CandidateAuthority: x.authority, Descriptors: x.descriptors.Load()}
	if a.Control != nil {
		// Its times are those of now, the request's those of then.
		r := *a.Control.Response
		r.LastByte = ex.Request.LastByte + int64(a.Control.TTLB())
		ref = &r
	} else {
		in.Stale = stale(a.Candidate.Start)
	}
	defer x.gate.leave(x.gate.enter(comparisonCost(ref, a.Candidate.Response)))
	switch x.rules.Compare(ex.Request, ref, a.Candidate.Response, in).Outcome {
	case diff.Equal, diff.Ignored:
		return recheckConverged, after
	case diff.NotComparable:
		return recheckNotComparable, after
	}
	return recheckDivergent, after
}
