package replay

import (
	"context"
	"time"

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
func (r *Replayer) SubmitWait(ctx context.Context, x *exchange.Exchange) Result {
	j := job{x: x, held: heldBy(x)}
	if r.Chosen(x) {
		j.meet = newMeeting(r, x)
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
