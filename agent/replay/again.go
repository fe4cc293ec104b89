package replay

import (
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/agent/crash"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Again is what came of asking once more.
type Again struct {
	// Result is Compared when the candidate was asked, and the control where
	// there is one; else what kept them from it, and there are no outcomes.
	Result Result
	// Candidate and Control are what they answered, or how they failed; Control
	// is nil where there is none.
	Candidate, Control *Outcome
}

// again is a replay that waits to be asked once more.
type again struct {
	r     *Replayer
	x     *exchange.Exchange
	o     *Outcome // of the replay
	after time.Duration
	f     func(Again)
	// held is what the replay holds of Config.Memory.
	held  int64
	timer *time.Timer

	mu     sync.Mutex // guards all below
	left   int        // legs that have not ended
	result Result
	legs   [2]*Outcome
}

// againFor bounds what waits to be asked once more, for each of MaxInFlight.
const againFor = 4

// Again asks candidate and control once more, after d. It is for Done, with what
// that got, and at most once. f is called once; until it returns the replay is
// in flight. What can't be waited for or asked is told at once: methods that are
// not safe and what is more than may wait are Shed. Stop and Cancel end the
// wait.
func (r *Replayer) Again(x *exchange.Exchange, o *Outcome, d time.Duration, f func(Again)) {
	a := &again{r: r, x: x, o: o, after: d, f: f}
	if why := r.mayAgain(a); why != Compared {
		f(Again{Result: why})
	}
}

func (r *Replayer) mayAgain(a *again) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopping || r.paused:
		return Stopped
	case !safe(a.x.Request.Method) || len(r.again) >= againFor*r.config.MaxInFlight || r.config.Memory.tight():
		return Shed
	}
	r.again[a.o] = a
	r.unarmed.Add(1)
	return Compared
}

// arm starts the wait, if there is to be one, once Done has returned.
func (r *Replayer) arm(o *Outcome, held int64) bool {
	if r.unarmed.Load() == 0 {
		return false // as nearly always
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.again[o]
	if a == nil {
		return false
	}
	r.unarmed.Add(-1)
	a.held = held
	if r.stopping || r.paused {
		go func() {
			defer crash.Guard()
			a.finish(Stopped)
		}()
	} else {
		a.timer = time.AfterFunc(a.after, a.ask)
	}
	return true
}

// endAgain ends every wait. It is called with mu held.
func (r *Replayer) endAgain() {
	for _, a := range r.again {
		if a.timer != nil && a.timer.Stop() {
			go func() {
				defer crash.Guard()
				a.finish(Stopped)
			}()
		}
	}
}

// ask is what the timer calls.
func (a *again) ask() {
	defer crash.Guard()
	targets := []*Replayer{a.r}
	if a.r.control != nil {
		targets = append(targets, a.r.control)
	}
	a.left = len(targets)
	for i, t := range targets {
		switch why := t.ask(job{x: a.x, then: func(o *Outcome) { a.ended(i, o) }}); {
		case why == Compared:
		case i == 0: // the control is not asked alone
			a.finish(why)
			return
		default:
			a.ended(i, &Outcome{Result: why})
		}
	}
}

// ended takes the outcome of a leg.
func (a *again) ended(i int, o *Outcome) {
	a.mu.Lock()
	a.legs[i] = o
	a.left--
	if o.Result != Compared && a.result == Compared {
		a.result = o.Result
	}
	last, result := a.left == 0, a.result
	a.mu.Unlock()
	if last {
		a.finish(result)
	}
}

// finish tells what came of it, and counts the replay.
func (a *again) finish(result Result) {
	defer crash.Guard()
	told := Again{Result: result}
	if result == Compared {
		told.Candidate, told.Control = a.legs[0], a.legs[1]
	}
	a.f(told)
	for _, o := range a.legs {
		if o != nil {
			a.held += heldByAnswer(o.Response)
		}
	}
	a.r.config.Memory.add(-a.held)
	a.r.mu.Lock()
	delete(a.r.again, a.o)
	a.r.mu.Unlock()
	a.r.unpark(a.o.Error)
}
