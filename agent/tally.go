package agent

import (
	"time"

	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// tally is what a shard has counted of the exchanges that are not replayed, by
// window and route. These are nearly all there are, so it is an addition here,
// without a lock; the windows get the sums about once a second. It belongs to
// the shard's goroutine.
type tally struct {
	windows *windows
	// slots are of the last two windows that requests were of; an even one has
	// the first. last is the one that was used last, and from its begin in
	// nanoseconds since the Unix epoch.
	slots [2]tallySlot
	last  *tallySlot
	from  int64
	// now is the time of the last tick, flushed when the sums were last handed
	// over, in nanoseconds since the Unix epoch.
	now, flushed int64
	// early are exchanges that were lost, at a time that nobody knows, before
	// the first tick.
	early [exchange.NumResults]int64
}

// tallySlot is a window's.
type tallySlot struct {
	window int64
	used   bool
	rows   []tallyRow // by verdict.RouteID
}

// tallyRow is a route's: complete exchanges by selection, and what was lost.
// What was selected is counted to save a branch; the windows have it already.
type tallyRow struct {
	passed [exchange.NumSelections]int64
	lost   [exchange.NumResults]int64
}

// flushEvery is how often the sums are handed over.
const flushEvery = int64(time.Second)

func newTally(w *windows) *tally {
	t := &tally{windows: w}
	for i := range t.slots {
		t.slots[i].rows = make([]tallyRow, w.rows)
	}
	t.last = &t.slots[0]
	return t
}

// slot gives the place of a request's time. A window that is older than what is
// counted there has none: nil.
func (t *tally) slot(at int64) *tallySlot {
	if t.last.used && uint64(at-t.from) < uint64(verdict.WindowLength) {
		return t.last
	}
	window := at / int64(verdict.WindowLength)
	s := &t.slots[window&1]
	if s.window != window || !s.used {
		if s.used {
			if window < s.window {
				return nil
			}
			t.hand(s)
		}
		s.window, s.used = window, true
	}
	t.last, t.from = s, window*int64(verdict.WindowLength)
	return s
}

// complete counts a complete exchange for each experiment that does not replay
// it.
func (t *tally) complete(c *exchange.Complete) {
	s := t.slot(c.Start)
	if s == nil {
		t.late(c)
		return
	}
	for i, id := range t.windows.first {
		choice := &c.Decision.Choices[i]
		if choice.Selection > exchange.OwnTraffic {
			id += 1 + verdict.RouteID(choice.Route)
		}
		s.rows[id].passed[choice.Selection]++
	}
}

// late counts an exchange of a window that was handed over long ago.
func (t *tally) late(c *exchange.Complete) {
	for i := range t.windows.first {
		if choice := &c.Decision.Choices[i]; choice.Selection != exchange.Selected {
			t.windows.collector.Pass(t.windows.route(i, choice), time.Unix(0, c.Start), passed[choice.Selection])
		}
	}
}

// lost counts exchanges that did not become complete, for each experiment that
// would have replayed them or might have.
func (t *tally) lost(l exchange.Lost) {
	at := l.Start
	if at == 0 {
		if t.now == 0 {
			t.early[l.Result] += int64(l.N)
			return
		}
		at = t.now
	}
	s := t.slot(at)
	for i, id := range t.windows.first {
		if l.Decision != nil {
			choice := &l.Decision.Choices[i]
			if choice.Selection != exchange.Selected {
				continue
			}
			id = t.windows.route(i, choice)
		}
		if s == nil {
			t.windows.collector.LoseN(id, time.Unix(0, at), l.Result.String(), int64(l.N))
			continue
		}
		s.rows[id].lost[l.Result] += int64(l.N)
	}
}

// tick hands the sums over when it is time.
func (t *tally) tick(now int64) {
	t.now = now
	t.lostEarly()
	if now-t.flushed >= flushEvery || now < t.flushed {
		t.flush()
		t.flushed = now
	}
}

// lostEarly counts what was lost before now was known.
func (t *tally) lostEarly() {
	for r, n := range t.early {
		if t.early[r] = 0; n > 0 {
			t.lost(exchange.Lost{Result: exchange.Result(r), N: uint64(n)})
		}
	}
}

// flush hands all sums over. Without any tick the last request's window is the
// best that is known.
func (t *tally) flush() {
	if t.now == 0 && t.from != 0 {
		t.now = t.from
		t.lostEarly()
	}
	for i := range t.slots {
		t.hand(&t.slots[i])
	}
}

// passed are the windows' words of what is not replayed.
var passed = [exchange.NumSelections]verdict.Selection{
	exchange.Unmatched: verdict.Unmatched, exchange.OwnTraffic: verdict.OwnTraffic, exchange.Excluded: verdict.Excluded,
	exchange.NotReplayable: verdict.NotReplayable, exchange.Unsafe: verdict.Unsafe, exchange.Paused: verdict.Paused,
	exchange.Ended: verdict.Ended, exchange.SampledOut: verdict.SampledOut,
}

// hand hands a slot's sums over and empties it.
func (t *tally) hand(s *tallySlot) {
	if !s.used {
		return
	}
	s.used = false
	at := time.Unix(0, s.window*int64(verdict.WindowLength))
	for id := range s.rows {
		r := &s.rows[id]
		if *r == (tallyRow{}) {
			continue
		}
		for k, n := range r.passed {
			if n > 0 && k != int(exchange.Selected) {
				t.windows.collector.PassN(verdict.RouteID(id), at, passed[k], n)
			}
		}
		for k, n := range r.lost {
			if n > 0 {
				t.windows.collector.LoseN(verdict.RouteID(id), at, exchange.Result(k).String(), n)
			}
		}
		*r = tallyRow{}
	}
}
