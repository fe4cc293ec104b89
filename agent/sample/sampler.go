package sample

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Sampler holds the experiments and what changes while they run. Its methods
// may be called from any goroutine.
type Sampler struct {
	experiments []experiment
	detector    *detector
	now         func() time.Time
	entries     int
	// highest is the highest rate of any route, where every experiment goes by
	// request; else it takes all.
	highest Rate

	mu sync.Mutex // for making shards
	// shards is replaced, never changed.
	shards atomic.Pointer[[]*Shard]
}

// New checks the configuration and makes a Sampler. The error is a
// *FieldError that names the field.
func New(c Config) (*Sampler, error) {
	experiments, err := newExperiments(&c)
	if err != nil {
		return nil, err
	}
	if c.StaleEntries < 0 {
		return nil, &FieldError{"StaleEntries", fmt.Errorf("%d is negative", c.StaleEntries)}
	}
	s := &Sampler{experiments: experiments, detector: newDetector(), now: c.Now, entries: c.StaleEntries}
	if s.now == nil {
		s.now = time.Now
	}
	if s.entries == 0 {
		s.entries = defaultStaleEntries
	}
	for i := range experiments {
		e := &experiments[i]
		if e.by != (By{}) {
			s.highest = Rate{fullRate}
		}
		for j := range e.routes {
			s.highest.Hundredths = max(s.highest.Hundredths, e.routes[j].rate.Hundredths)
		}
	}
	s.shards.Store(&[]*Shard{})
	return s, nil
}

// Foresees says whether there are requests that [Shard.Unwanted] knows of: where every
// experiment goes by request, and no route takes all of them.
func (s *Sampler) Foresees() bool { return !s.highest.all() }

// Shard makes the part of the sampler that one capture shard's goroutine uses.
// It stays until the sampler goes; its counts are part of Stats.
func (s *Sampler) Shard() *Shard {
	sh := &Shard{
		sampler: s,
		pick:    newPicker(),
		spans:   make([]span, 0, 32),
		cleaned: make([]span, 0, 32),
		writes:  newWriteTable(s.entries),
		counts:  make([]counts, len(s.experiments)),
		windows: make([]shardWindow, len(s.experiments)),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.shards.Load()
	list := append(old[:len(old):len(old)], sh)
	s.shards.Store(&list)
	return sh
}

// switches are what pauses an experiment from outside: a bit for each
// exchange.PauseReason.
type switches struct{ bits atomic.Uint32 }

func (w *switches) set(reason exchange.PauseReason, on bool) {
	bit := uint32(1) << reason
	if on {
		w.bits.Or(bit)
	} else {
		w.bits.And(^bit)
	}
}

// reason gives the first reason in their order, PauseNone when there is none.
func (w *switches) reason() exchange.PauseReason {
	b := w.bits.Load()
	if b == 0 {
		return exchange.PauseNone
	}
	return exchange.PauseReason(bits.TrailingZeros32(b))
}

// ErrNoExperiment says that there is no experiment of that name.
var ErrNoExperiment = errors.New("no such experiment")

// SetOff pauses an experiment's replay for a reason, or takes the reason back;
// "" means all experiments. Reasons stand beside each other: replay goes on
// when none is left. It holds for every head that is parsed after the call.
// The reason is PauseOff, PauseOffFile or PauseDisabled; the guard's own pause
// is not set from outside. The error is ErrNoExperiment for an unknown name.
func (s *Sampler) SetOff(experiment string, reason exchange.PauseReason, on bool) error {
	switch reason {
	case exchange.PauseOff, exchange.PauseOffFile, exchange.PauseDisabled:
	default:
		return fmt.Errorf("set experiment %q off: reason %q cannot be set", experiment, reason)
	}
	found := experiment == ""
	for i := range s.experiments {
		if e := &s.experiments[i]; experiment == "" || e.name == experiment {
			e.switches.set(reason, on)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("set experiment %q off: %w", experiment, ErrNoExperiment)
	}
	return nil
}

// paused says why replay is paused at capture time t.
func (e *experiment) paused(t int64) exchange.PauseReason {
	if reason := e.switches.reason(); reason != exchange.PauseNone {
		return reason
	}
	if e.guard != nil && e.guard.pausing(t) {
		return exchange.PauseGuard
	}
	return exchange.PauseNone
}

// Route gives a route of an experiment by their indexes, with Key and Rate
// filled in. It is shared; nobody writes to it.
func (s *Sampler) Route(experiment, route int) *Route {
	return &s.experiments[experiment].routes[route].public
}

// Params gives the path parameters that a route of an experiment takes from a
// request's target, nil when the route does not match it.
func (s *Sampler) Params(experiment, route int, target string) []Param {
	p := pathOf(target)
	return s.experiments[experiment].routes[route].pattern.params(&p)
}

// Key fills in the template of a route's Kafka key from a request's target,
// which the route must match.
func (s *Sampler) Key(experiment, route int, target string) string {
	r := &s.experiments[experiment].routes[route]
	p := pathOf(target)
	return r.key.text(r.pattern, &p)
}

// pathOf is the path of a request's target.
func pathOf(text string) (p path) {
	p.split(splitTarget([]byte(text)).path)
	return p
}

// Count is one result of the selection.
type Count struct {
	// Result and Reason are the ledger's labels; Reason is "" but for paused
	// and not_replayable.
	Result, Reason string
	N              uint64
}

// Stats is a snapshot of what the sampler counted.
type Stats struct {
	Experiments []ExperimentStats
	// StaleEvicted is how many entries of the tables of unsafe methods made
	// room for others. While it grows, StaleUnknown is to be expected.
	StaleEvicted uint64
}

// ExperimentStats is an experiment's part of Stats.
type ExperimentStats struct {
	Name string
	// Selections are the completed exchanges by result and reason, every one
	// of them from zero on. Their sum is the number of completed exchanges.
	Selections []Count
	// Paused says why replay is paused now, PauseNone when it is not.
	Paused exchange.PauseReason
	// Ended says that the experiment's time is over.
	Ended bool
	// GuardUntil is the end of the guard's latest pause, zero before the
	// first; GuardPauses counts them.
	GuardUntil  time.Time
	GuardPauses uint64
}

// Stats gives a snapshot.
func (s *Sampler) Stats() Stats {
	shards := *s.shards.Load()
	now := s.now().UnixNano()
	stats := Stats{Experiments: make([]ExperimentStats, len(s.experiments))}
	for _, sh := range shards {
		stats.StaleEvicted += sh.writes.evicted.Load()
	}
	for i := range s.experiments {
		e := &s.experiments[i]
		x := &stats.Experiments[i]
		x.Name, x.Paused, x.Ended = e.name, e.paused(now), now >= e.until
		if e.guard != nil {
			x.GuardPauses = e.guard.pauses.Load()
			if until := e.guard.until.Load(); until != 0 {
				x.GuardUntil = time.Unix(0, until)
			}
		}
		for at := range countPlaces {
			if !at.shown() {
				continue
			}
			var n uint64
			for _, sh := range shards {
				n += sh.counts[i][at].Load()
			}
			result, reason := at.words()
			x.Selections = append(x.Selections, Count{result, reason, n})
		}
	}
	return stats
}
