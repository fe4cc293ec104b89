package sample

import (
	"bytes"
	"sync/atomic"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// roleHeader marks the agent's replays. Its values candidate and control make a
// captured request the agent's own traffic; others do not.
const roleHeader = "X-Shadow-Test-Role"

// Shard is the sampler's part for one capture shard: it implements
// exchange.Keeper. All its methods belong to the goroutine of that shard.
type Shard struct {
	sampler *Sampler
	pick    picker
	// spans and cleaned hold the segments of a path. They grow with the longest
	// path, which the limit of heads bounds.
	spans, cleaned []span
	// writes is asked by Stale from other goroutines.
	writes *writeTable
	// counts and windows have one place for each experiment.
	counts  []counts
	windows []shardWindow
	ahead   exchange.Head // of Unwanted
}

// Keep decides about a request. It allocates nothing and keeps no reference to
// h. The choice for each experiment is the first of these that holds:
//
//	own_traffic     the role header says that a shadowtap sent it
//	unmatched       no filter or no route
//	excluded        an exclusion, own or by default
//	not_replayable  the head gives reason to doubt
//	unsafe          the method, or the gRPC method, is not replayed
//	paused          off, off_file, disabled, guard
//	ended           the experiment's time is over
//	sampled_out     not in the sample
//	selected
//
// The index of the route is set but for own_traffic and unmatched.
func (sh *Shard) Keep(h *exchange.Head) exchange.Decision {
	s := sh.sampler
	d := exchange.Decision{Len: uint8(len(s.experiments))}
	own := ownTraffic(h.Fields)
	r := request{head: h, safe: safeByDefault(h.Method), path: path{spans: sh.spans}}
	r.writes = !r.safe && !readOnly(h.Method)
	r.target.split(h.Target)
	r.path.split(r.target.path)
	sh.spans = r.path.spans
	if r.writes && len(r.target.path) > 0 {
		sh.writes.seen(pathKey(r.hostName(), r.target.path), h.Time)
	}
	sh.pick.next()
	for i := range s.experiments {
		c := &d.Choices[i]
		if own && !r.writes {
			c.Selection = exchange.OwnTraffic
			continue
		}
		sh.choose(i, &r, c)
		if own {
			*c = exchange.Choice{Selection: exchange.OwnTraffic}
		}
		if c.Selection == exchange.Selected {
			d.Want = exchange.WantWhole
		}
	}
	return d
}

// Unwanted says that Keep will select the request at that offset of a connection
// for no experiment, whatever its head says. It says no where that is not known before
// (Sampler.Foresees).
func (sh *Shard) Unwanted(f *exchange.Flow, isn uint32, offset uint64) bool {
	highest := sh.sampler.highest
	if highest.all() {
		return false
	}
	h := &sh.ahead
	h.Flow, h.ISN, h.Offset = f, isn, offset
	sh.pick.next()
	return !highest.takes(sh.pick.number(&By{}, h, nil))
}

// request is what is found out about a head once, for all experiments.
type request struct {
	head   *exchange.Head
	target target
	path   path
	// safe says that the method is replayed by default, writes that it counts
	// for staleness.
	safe, writes bool
	host         []byte
	hostKnown    bool
	hits         rules
	hitsKnown    bool
}

func (r *request) hostName() []byte {
	if !r.hostKnown {
		r.host, r.hostKnown = hostOf(&r.target, r.head.Get("Host")), true
	}
	return r.host
}

func ownTraffic(fields []exchange.HeadField) bool {
	for i := range fields {
		if name := fields[i].Name; len(name) != len(roleHeader) || !foldEqual(name, roleHeader) {
			continue
		}
		role := bytes.TrimSpace(fields[i].Value)
		if foldEqual(role, "candidate") || foldEqual(role, "control") {
			return true
		}
	}
	return false
}

// choose decides for experiment i, own traffic aside.
func (sh *Shard) choose(i int, r *request, c *exchange.Choice) {
	e := &sh.sampler.experiments[i]
	h := r.head
	if e.filter.port != 0 && e.filter.port != h.Flow.Server.Port() ||
		e.filter.host.name != "" && !e.filter.host.matches(r.hostName()) {
		return
	}
	at := e.paths.match(&r.path)
	if at < 0 {
		return
	}
	rt := &e.routes[at]
	if r.writes {
		// Also when methods or headers say no below: the reads of this path
		// may pass them.
		if key := paramsKey(i, r.hostName(), rt.pattern, &r.path); key != 0 {
			sh.writes.seen(key, h.Time)
		}
	}
	if !e.filter.method(h.Method) || !e.filter.header(h.Fields) {
		return
	}
	c.Route = uint16(at)
	switch {
	case sh.excluded(e, r):
		c.Selection = exchange.Excluded
	case h.Doubt != exchange.DoubtNone:
		c.Selection, c.Doubt = exchange.NotReplayable, h.Doubt
	case h.GRPC && !e.grpc.has(r.target.path), !h.GRPC && !r.safe && !contains(e.unsafe, h.Method):
		c.Selection = exchange.Unsafe
	default:
		if c.Pause = e.paused(h.Time); c.Pause != exchange.PauseNone {
			c.Selection = exchange.Paused
			return
		}
		switch {
		case h.Time >= e.until:
			c.Selection = exchange.Ended
		case !rt.rate.all() && !rt.rate.takes(sh.pick.number(&e.by, h, &r.target)):
			c.Selection = exchange.SampledOut
		default:
			c.Selection = exchange.Selected
		}
	}
}

func (sh *Shard) excluded(e *experiment, r *request) bool {
	if e.exclude.defaults != 0 {
		if !r.hitsKnown {
			r.hits, r.hitsKnown = sh.sampler.detector.hits(&r.path, r.target.query), true
		}
		if r.hits&e.exclude.defaults != 0 {
			return true
		}
	}
	own := e.exclude.own
	if own == nil {
		return false
	}
	if own.match(&r.path) >= 0 {
		return true
	}
	if !r.path.unclean {
		return false
	}
	c := clean(&r.path, sh.cleaned)
	sh.cleaned = c.spans
	return own.match(&c) >= 0
}

// CompletedInfo is what the sampler is told about an exchange that is complete.
type CompletedInfo struct {
	// Time is the tap's time of the answer's last byte, in ns since the Unix
	// epoch.
	Time int64
	// TTFB is the time from the request's last byte to the first byte of the
	// answer's head, in ns. Below zero counts as zero: an early answer.
	TTFB int64
	// Status is the answer's; GRPCStatus its grpc-status, "" for none.
	Status     int
	GRPCStatus string
}

// Completed counts a complete exchange: one result for each experiment, that of
// its decision d. doubt is the exchange's doubt in the end, which may have come
// up after its head; it makes not_replayable of what was selected, in d itself,
// so that the caller sees what is left. Every complete exchange is handed in
// once; nothing else counts.
func (sh *Shard) Completed(d *exchange.Decision, doubt exchange.Doubt, c CompletedInfo) {
	for i := range d.Choices[:d.Len] {
		choice := &d.Choices[i]
		if doubt != exchange.DoubtNone && choice.Selection == exchange.Selected {
			choice.Selection, choice.Doubt = exchange.NotReplayable, doubt
		}
		sh.counts[i][placeOf(choice)].Add(1)
		e := &sh.sampler.experiments[i]
		if e.guard == nil {
			continue
		}
		w := sh.window(i, c.Time)
		if choice.Selection != exchange.Unmatched && choice.Selection != exchange.OwnTraffic {
			w.times.add(c.TTFB, c.suffers())
			w.running = w.running || c.Time < e.until && e.paused(c.Time) == exchange.PauseNone
		}
	}
}

// Tick hands windows that are over to the guards. now is the tap's time. It is
// called at least once a second, also when nothing arrives; without it a guard
// judges a window only when the next one is over.
func (sh *Shard) Tick(now int64) {
	for i := range sh.windows {
		if sh.sampler.experiments[i].guard != nil {
			sh.window(i, now)
		}
	}
}

// window gives the running window of an experiment at time t, and hands the
// last one in when it is over. A time shortly before it counts to it; one far
// before it is from a clock that was set back.
func (sh *Shard) window(i int, t int64) *shardWindow {
	w := &sh.windows[i]
	number := t / guardWindow
	if number == w.number || number < w.number && number >= w.number-guardStep {
		return w
	}
	if w.number != 0 {
		sh.sampler.experiments[i].guard.hand(w, t, len(*sh.sampler.shards.Load()))
	}
	*w = shardWindow{number: number}
	return w
}

// place is a place in counts: a selection, or one of the reasons of paused and
// not_replayable.
type place int

const (
	firstPause  = place(exchange.NumSelections)
	firstDoubt  = firstPause + place(exchange.NumPauseReasons)
	countPlaces = firstDoubt + place(exchange.NumDoubts)
)

// counts are written by one goroutine and read by any.
type counts [countPlaces]atomic.Uint64

func placeOf(c *exchange.Choice) place {
	switch c.Selection {
	case exchange.Paused:
		return firstPause + place(c.Pause)
	case exchange.NotReplayable:
		return firstDoubt + place(c.Doubt)
	}
	return place(c.Selection)
}

// shown says whether the place is one of the ledger's: Paused and
// NotReplayable count by their reasons alone, and no reason is none.
func (p place) shown() bool {
	return p != place(exchange.Paused) && p != place(exchange.NotReplayable) && p != firstPause && p != firstDoubt
}

// words gives the ledger's labels of a place.
func (p place) words() (result, reason string) {
	switch {
	case p >= firstDoubt:
		return exchange.NotReplayable.String(), exchange.Doubt(p - firstDoubt).String()
	case p >= firstPause:
		return exchange.Paused.String(), exchange.PauseReason(p - firstPause).String()
	}
	return exchange.Selection(p).String(), ""
}
