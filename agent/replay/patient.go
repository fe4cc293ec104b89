package replay

import (
	"context"
	"time"

	"github.com/shadowtap/shadowtap/agent/crash"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// lookAgain is how often SubmitWait looks whether it may go on, beside whenever a
// replay ends: memory, rate and breaker say nothing when they change.
const lookAgain = 5 * time.Millisecond

// SubmitWait takes an exchange as Submit does, for a source that can wait, such
// as a file: where Submit sheds, SubmitWait waits for a place in flight, for
// memory and for the rate. Of a target that the breaker leaves alone it asks
// again when the breaker does, for Config.Patience since the last answer; then
// it counts breaker_open at once, until there is an answer again. When ctx ends
// the exchange is counted as stopped. It says what it counted, or Compared when
// the replay has begun, which then ends in Done or, given up, as stopped. It is
// for one goroutine at a time.
//
// The control is waited for as the candidate is. Where the two could not start
// within MaxApart both are asked again, with safe methods up to maxTries times:
// how busy a machine is should not decide what is a pair.
func (r *Replayer) SubmitWait(ctx context.Context, x *exchange.Exchange) Result {
	j := job{x: x, held: heldBy(x)}
	if r.Chosen(x) {
		j.meet = newMeeting(r, x)
		j.meet.patient = true
		r.pairs.begin()
	}
	r.mu.Lock()
	r.selected++
	r.patient++
	r.mu.Unlock()
	var tick *time.Ticker
	for {
		why, final := r.try(&j)
		if final {
			return why
		}
		if tick == nil {
			tick = time.NewTicker(lookAgain)
			defer tick.Stop()
		}
		select {
		case <-r.freed:
		case <-tick.C:
		case <-ctx.Done():
			return r.giveUpWait(&j)
		}
	}
}

// try begins a replay, or says what keeps it from that and whether this is to be
// counted, which it was then.
func (r *Replayer) try(j *job) (why Result, final bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopping || r.paused:
		why, final = Stopped, true
	case r.inFlight+r.parked >= r.config.MaxInFlight || !r.config.Memory.take(j.held):
		// What is parked waits for the control, which has as many places.
		return Shed, false
	default:
		j.life = r.life
		if why = r.admit(j); why == Compared {
			r.patient--
			r.begin(*j)
			return why, true
		}
		r.config.Memory.add(-j.held)
		final = why == BreakerOpen && r.lostPatience(time.Now())
	}
	if final {
		r.patient--
		j.held = 0 // was not taken
		r.drop(j, why)
	}
	return why, final
}

// lostPatience says whether the breaker has held back for too long.
func (r *Replayer) lostPatience(now time.Time) bool {
	if r.refused.IsZero() {
		r.refused = now
	}
	return now.Sub(r.refused) >= r.config.Patience
}

// giveUpWait counts what was not begun.
func (r *Replayer) giveUpWait(j *job) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.patient--
	j.held = 0 // was not taken
	r.drop(j, Stopped)
	return Stopped
}

// hasFreed tells SubmitWait to look again. It is called with mu held.
func (r *Replayer) hasFreed() {
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

// maxTries is how often both legs of a pair are asked that came apart.
const maxTries = 5

// repeat says whether both legs are asked once more, because they did not start
// together. Both have ended, and the candidate is parked then.
func (m *meeting) repeat() bool {
	if !m.patient || m.tries+1 >= maxTries || !safe(m.x.Request.Method) || endOf(m.candidate, m.control) != (PairEnd{PairShed, ReasonApart}) {
		return false
	}
	go func() {
		defer crash.Guard()
		m.askBoth()
	}()
	return true
}

// askBoth asks both legs once more, in a meeting of their own. Where that is not
// to be, what they came to counts.
func (m *meeting) askBoth() {
	answers := heldByAnswer(m.candidate.Response) + heldByAnswer(m.control.Response)
	n := newMeeting(m.r, m.x)
	n.patient, n.tries, n.held = true, m.tries+1, m.held-answers
	give := func(held int64) {
		if m.r.hand(m.x, m.pair(), held) {
			m.r.unpark(m.candidate.Error)
		}
	}
	why := m.r.askWait(job{x: m.x, meet: n, leg: candidateLeg, then: func(o *Outcome) {
		answer := heldByAnswer(o.Response)
		if o.Result == Compared {
			if n.candidateEnded(o, answer) {
				n.end()
			}
			return
		}
		// Given up.
		held := n.abandon()
		m.r.config.Memory.add(-answer)
		give(held)
	}})
	if why != Compared {
		give(m.held)
		return
	}
	m.r.config.Memory.add(-answers)
}

// askWait is ask for who can wait: for a place and for the rate, and for a target
// that the breaker leaves alone as SubmitWait does.
func (r *Replayer) askWait(j job) Result {
	var tick *time.Ticker
	for {
		switch why := r.ask(j); why {
		case Shed, RateLimited:
		case BreakerOpen:
			r.mu.Lock()
			lost := r.lostPatience(time.Now())
			r.mu.Unlock()
			if lost {
				return why
			}
		default:
			return why
		}
		if tick == nil {
			tick = time.NewTicker(lookAgain)
			defer tick.Stop()
		}
		select {
		case <-r.freed:
		case <-tick.C:
		case <-r.stopped:
		}
	}
}

// AgainWait asks candidate and control once more, d after now, as Again does, and
// waits where that sheds; only methods that are not safe are Shed. It is for an
// exchange that Done has had, also long after; x is shared until f returns, which
// is called once, from a goroutine of its own or from AgainWait. The caller
// bounds how many there are. Stop ends the wait, and Run does not wait for f.
func (r *Replayer) AgainWait(x *exchange.Exchange, d time.Duration, f func(Again)) {
	if !safe(x.Request.Method) {
		f(Again{Result: Shed})
		return
	}
	go func() {
		defer crash.Guard()
		told := r.againWait(x, d)
		f(told)
		for _, o := range []*Outcome{told.Candidate, told.Control} {
			if o != nil {
				r.config.Memory.add(-heldByAnswer(o.Response))
			}
		}
	}()
}

func (r *Replayer) againWait(x *exchange.Exchange, d time.Duration) Again {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.stopped:
		return Again{Result: Stopped}
	}
	select {
	case r.due <- struct{}{}:
		defer func() { <-r.due }()
	case <-r.stopped:
		return Again{Result: Stopped}
	}
	targets := []*Replayer{r}
	if r.control != nil {
		targets = append(targets, r.control)
	}
	ended := make([]chan *Outcome, len(targets))
	why := Compared
	for i, t := range targets {
		c := make(chan *Outcome, 1)
		if why = t.askWait(job{x: x, then: func(o *Outcome) { c <- o }}); why != Compared {
			break // the control is not asked alone
		}
		ended[i] = c
	}
	var legs [2]*Outcome
	for i, c := range ended {
		if c == nil {
			continue
		}
		legs[i] = <-c
		if legs[i].Result != Compared && why == Compared {
			why = legs[i].Result
		}
	}
	if why != Compared {
		for _, o := range legs {
			if o != nil {
				r.config.Memory.add(-heldByAnswer(o.Response))
			}
		}
		return Again{Result: why}
	}
	return Again{Candidate: legs[0], Control: legs[1]}
}
