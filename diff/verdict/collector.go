package verdict

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/diff"
)

// MaxFingerprints is how many fingerprints of a route an agent counts by
// themselves; what comes beyond is OtherFingerprint.
const MaxFingerprints = 256

// MaxLastByteSize is the largest body, in bytes, of an answer whose time to the
// last byte is looked at: of a larger one a real client's window paces the
// reference.
const MaxLastByteSize = 14 << 10

// Lateness is how long after its end a window stays open for requests that were
// not complete yet. A reference that takes longer is not comparable.
const Lateness = 30 * time.Second

const (
	// live is how many windows long a fingerprint that is not seen again keeps
	// its place among MaxFingerprints: an hour.
	live = 360
	// maxEmpty is how many empty windows a stretch without anything gives: an
	// hour. A longer one is a hole in a capture, or a clock that was set.
	maxEmpty = 360
	// maxOpen is how many windows may be open at once. Lateness and the longest
	// timeout need 8.
	maxOpen = 64
)

// CollectorConfig says who counts, and what.
type CollectorConfig struct {
	// Agent, BootID and ConfigRevision go into the windows as they are.
	Agent, BootID, ConfigRevision string
	// Experiments are those that windows are made for; each has at least one
	// route, and the names are distinct.
	Experiments []CollectorExperiment
	// MaxCells bounds the key groups that are told apart, over all open windows
	// and fingerprints; beyond it those of a fingerprint and window count as
	// one, which loses evidence and makes none. Zero means 262144, about 16 MB.
	// Negative is an error.
	MaxCells int
}

// CollectorExperiment is one experiment.
type CollectorExperiment struct {
	Name, CandidateVersion string
	// SampleBy is the configuration's sample.by.
	SampleBy string
	// Control says that there is a control: times are then taken from requests
	// that went to both.
	Control bool
	// ControlSelf says that it is the captured server itself.
	ControlSelf bool
	// Warmup is for how long from the window of the first compared request on
	// no times are taken. Zero means not at all.
	Warmup time.Duration
	// Routes are the patterns of its routes. The route "", for what belongs to
	// none, is there without being named.
	Routes []string
}

// Collector makes windows from what becomes of the requests of one agent. Its
// memory is bounded: by MaxFingerprints of each route, by MaxCells, and by the
// number of windows that may be open, if Advance is called about once a window.
// Its methods are safe for concurrent use. It has no clock; Advance tells it the
// time.
type Collector struct {
	config CollectorConfig
	routes []collectorRoute
	ids    map[[2]string]RouteID

	mu       sync.Mutex
	open     []*openWindow // by index
	started  bool          // next is known
	next     int64         // index of the next window to hand out
	hasNow   bool          // now is known
	now      int64         // the largest time that Advance was told, in microseconds
	sequence int64
	cells    int
	pair     uint64 // counts pairs, to tell whether a tally was touched by this one
	touched  []*tally
	coarse   int64
}

// RouteID names a route of an experiment within a Collector.
type RouteID int32

// Ticket names the window that a selected request is counted in.
type Ticket struct {
	window int64
	route  RouteID
}

type collectorRoute struct {
	experiment *CollectorExperiment
	name       string
	live       map[string]int64 // fingerprint to the last window that had it
	swept      int64
	began      *began
}

// began is the window of an experiment's first compared request.
type began struct {
	window int64
	known  bool
}

// openWindow is what is counted of 10 s.
type openWindow struct {
	index   int64
	pending int // selected requests of which it is not known what became
	parts   []*part
}

// part is a route's share of a window.
type part struct {
	counts    Counts
	totals    tally
	tallies   map[string]*tally
	keyGroups map[int][2]int64
	latency   Latency
}

// tally is what is counted of one fingerprint, or of all differences together.
type tally struct {
	divergent, both, candidateOnly, controlOnly int64
	cells                                       map[uint16]int64 // key group to candidateOnly - controlOnly

	// For the pair at hand.
	pair uint64
	legs uint8
}

const (
	legCandidate = 1 << iota
	legControl
)

// coarseGroup is the cell of what can't be told apart any more.
const coarseGroup = KeyGroups

// NewCollector checks the configuration.
func NewCollector(c CollectorConfig) (*Collector, error) {
	if c.MaxCells < 0 {
		return nil, fmt.Errorf("collector config: MaxCells %d is negative", c.MaxCells)
	}
	if c.MaxCells == 0 {
		c.MaxCells = 1 << 18
	}
	c.Experiments = slices.Clone(c.Experiments)
	col := &Collector{config: c, ids: map[[2]string]RouteID{}}
	for i := range c.Experiments {
		e := &c.Experiments[i]
		switch {
		case e.Name == "":
			return nil, fmt.Errorf("experiment %d has no name", i)
		case e.SampleBy == "":
			return nil, fmt.Errorf("experiment %s: SampleBy is empty", e.Name)
		case len(e.Routes) == 0:
			return nil, fmt.Errorf("experiment %s has no route", e.Name)
		case e.Warmup < 0:
			return nil, fmt.Errorf("experiment %s: Warmup is negative", e.Name)
		}
		began := &began{}
		for k, name := range append([]string{""}, e.Routes...) {
			key := [2]string{e.Name, name}
			if k > 0 && name == "" {
				return nil, fmt.Errorf("experiment %s: route %d is empty", e.Name, k-1)
			}
			if _, taken := col.ids[key]; taken {
				return nil, fmt.Errorf("experiment %s: route %q is there twice", e.Name, name)
			}
			col.ids[key] = RouteID(len(col.routes))
			col.routes = append(col.routes, collectorRoute{experiment: e, name: name, live: map[string]int64{}, began: began})
		}
	}
	return col, nil
}

// Route finds a route; "" is what belongs to none. The answer does not change.
// RouteIDs count from 0: those of an experiment begin with "" and go on as its
// routes do, those of the next one follow.
func (c *Collector) Route(experiment, route string) (RouteID, bool) {
	id, ok := c.ids[[2]string{experiment, route}]
	return id, ok
}

// KeyGroup is the key group of a request, from 0 to 1023: SHA-256 over the
// method, one zero byte and the target as captured, the first four bytes as a
// big-endian number, modulo 1024. Vector: GET /users/42 is in group 858.
func KeyGroup(method, target string) int {
	var buf [256]byte
	sum := sha256.Sum256(append(append(append(buf[:0], method...), 0), target...))
	return int(binary.BigEndian.Uint32(sum[:4]) % KeyGroups)
}

// Selection is what became of a request that was not replayed, in the ledger's
// words.
type Selection uint8

const (
	OwnTraffic Selection = iota
	Unmatched
	Excluded
	NotReplayable
	Unsafe
	Paused
	Ended
	SampledOut
)

// Unreplayed is what became of a selected request that was not compared, in the
// ledger's words.
type Unreplayed uint8

const (
	Shed Unreplayed = iota
	RateLimited
	BreakerOpen
	Stopped
)

// ControlResult is what became of a request at the control.
type ControlResult uint8

const (
	// ControlNotChosen: it was not to go to the control.
	ControlNotChosen ControlResult = iota
	// ControlAnswered: there is an answer, and Control.Outcome says how it
	// compares with the reference's.
	ControlAnswered
	// ControlFailed: no connection, a timeout, a broken answer.
	ControlFailed
	// ControlShed: it was not sent.
	ControlShed
)

// Pair is a compared request.
type Pair struct {
	// Outcome and Why are the comparison's of reference and candidate.
	Outcome diff.Outcome
	Why     string
	// Failed is the candidate's error word; Outcome is then Divergent, or
	// NotComparable because of the reference.
	Failed string
	// Fingerprints are those of the candidate's differences that are not
	// ignored, in any order; repeats are fine. They are read during the call.
	Fingerprints []string
	// KeyGroup is KeyGroup of the request.
	KeyGroup             int
	Reference, Candidate Leg
	Control              Control
}

// Control is the second instance's side of a Pair.
type Control struct {
	Result ControlResult
	// Outcome and Fingerprints are of the comparison of reference and control.
	Outcome      diff.Outcome
	Fingerprints []string
	Leg          Leg
}

// Leg has the times of one answer, from the last byte of the request.
type Leg struct {
	// FirstByte and LastByte are 0 when they did not come.
	FirstByte, LastByte time.Duration
	// GaveUp is how long the answer was waited for when it timed out, else 0.
	GaveUp time.Duration
	// Size is the length of the body in bytes as it was sent.
	Size int64
	// NewConnection says that the request was the first on its connection.
	NewConnection bool
	// MinRTT is the connection's smallest round trip, 0 when not known.
	MinRTT time.Duration
}

func windowIndex(us int64) int64 {
	const length = int64(WindowLength / time.Microsecond)
	i := us / length
	if us%length < 0 {
		i--
	}
	return i
}

// window is the open window for a request of that time. A window that was
// handed out, or that may be by now, takes nothing more: a late request goes to
// the first one that does.
func (c *Collector) window(us int64) (w *openWindow, late bool) {
	index := windowIndex(us)
	if c.started {
		if least := max(c.next, windowIndex(c.now-int64(Lateness/time.Microsecond))); index < least {
			index, late = least, true
		}
	}
	at, found := slices.BinarySearchFunc(c.open, index, func(w *openWindow, i int64) int { return cmp.Compare(w.index, i) })
	if !found {
		c.open = slices.Insert(c.open, at, &openWindow{index: index, parts: make([]*part, len(c.routes))})
	}
	return c.open[at], late
}

func (w *openWindow) part(id RouteID) *part {
	if w.parts[id] == nil {
		w.parts[id] = &part{}
	}
	return w.parts[id]
}

// find is the window of a ticket; one that had to be closed before its time
// gives the first that is open.
func (c *Collector) find(t Ticket) *openWindow {
	at, found := slices.BinarySearchFunc(c.open, t.window, func(w *openWindow, i int64) int { return cmp.Compare(w.index, i) })
	if !found {
		w, _ := c.window(c.next * int64(WindowLength/time.Microsecond))
		w.pending++
		return w
	}
	return c.open[at]
}

// Pass counts a complete exchange that is not replayed, by the time of its
// request.
func (c *Collector) Pass(id RouteID, at time.Time, s Selection) { c.PassN(id, at, s, 1) }

// PassN counts n of them whose requests were in the same window, so that what a
// busy reader has counted by itself is handed over in one call. n is not
// negative.
func (c *Collector) PassN(id RouteID, at time.Time, s Selection, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, _ := c.window(at.UnixMicro())
	k := &w.part(id).counts
	k.Complete += n
	*[...]*int64{&k.OwnTraffic, &k.Unmatched, &k.Excluded, &k.NotReplayable, &k.Unsafe, &k.Paused, &k.Ended, &k.SampledOut}[s] += n
}

// Lose counts an exchange that would have been selected, or of which nobody
// knows (route ""), and that did not become complete. result is the ledger's
// word.
func (c *Collector) Lose(id RouteID, at time.Time, result string) { c.LoseN(id, at, result, 1) }

// LoseN is to Lose what PassN is to Pass.
func (c *Collector) LoseN(id RouteID, at time.Time, result string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, _ := c.window(at.UnixMicro())
	count(&w.part(id).counts.Lost, result, n)
}

// Select counts a complete exchange that is selected. Its window stays open
// until Compare or Skip says what became of it.
func (c *Collector) Select(id RouteID, at time.Time) Ticket {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, late := c.window(at.UnixMicro())
	w.pending++
	n := &w.part(id).counts
	n.Complete++
	n.Selected++
	if late {
		n.Late++
	}
	return Ticket{window: w.index, route: id}
}

// Skip says that a selected request was not compared. control is what became
// of it at the control; it can't have been answered for a pair.
func (c *Collector) Skip(t Ticket, u Unreplayed, control ControlResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.find(t)
	w.pending--
	n := &w.part(t.route).counts
	if w.index != t.window {
		n.move(1)
		n.Late++
	}
	*[...]*int64{&n.Shed, &n.RateLimited, &n.BreakerOpen, &n.Stopped}[u]++
	n.control(control, false)
}

// move adds selected requests whose own window had to go before it was known
// what became of them, or with a negative n takes them from that window.
func (c *Counts) move(n int64) {
	c.Complete += n
	c.Selected += n
}

func (c *Counts) control(r ControlResult, paired bool) {
	if r == ControlNotChosen {
		return
	}
	c.ControlChosen++
	switch {
	case paired:
		c.Paired++
	case r == ControlFailed:
		c.ControlFailed++
	case r == ControlShed:
		c.ControlShed++
	default:
		c.Unpaired++
	}
}

// Compare counts a selected request that was compared. A request that the
// candidate failed is one, too.
func (c *Collector) Compare(t Ticket, p *Pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.find(t)
	w.pending--
	pt := w.part(t.route)
	n := &pt.counts
	if w.index != t.window {
		n.move(1)
		n.Late++
	}
	n.Compared++
	divergent := false
	switch p.Outcome {
	case diff.Equal:
		n.Equal++
	case diff.Ignored:
		n.Ignored++
	case diff.NotComparable:
		count(&n.NotComparable, p.Why, 1)
	default:
		n.Divergent++
		divergent = true
		count(&n.Failed, p.Failed, b2i(p.Failed != ""))
	}
	answered := p.Outcome != diff.NotComparable && p.Failed == ""
	paired := answered && p.Control.Result == ControlAnswered && p.Control.Outcome != diff.NotComparable
	n.control(p.Control.Result, paired)

	if p.Outcome != diff.NotComparable {
		if pt.keyGroups == nil {
			pt.keyGroups = map[int][2]int64{}
		}
		group := int(uint(p.KeyGroup) % KeyGroups)
		g := pt.keyGroups[group]
		g[0]++
		g[1] += b2i(divergent)
		pt.keyGroups[group] = g
	}
	if answered {
		c.differences(w.index, t.route, pt, p, paired)
	}
	c.times(w.index, t.route, pt, p)
}

// differences counts a pair's fingerprints.
func (c *Collector) differences(window int64, id RouteID, pt *part, p *Pair, paired bool) {
	if len(p.Fingerprints) == 0 && (!paired || len(p.Control.Fingerprints) == 0) {
		return
	}
	c.pair++
	c.touched = c.touched[:0]
	touch := func(t *tally, leg uint8) {
		if t.pair != c.pair {
			t.pair, t.legs = c.pair, 0
			c.touched = append(c.touched, t)
		}
		t.legs |= leg
	}
	for _, f := range p.Fingerprints {
		touch(&pt.totals, legCandidate)
		touch(c.tally(window, id, pt, f), legCandidate)
	}
	if paired {
		for _, f := range p.Control.Fingerprints {
			touch(&pt.totals, legControl)
			touch(c.tally(window, id, pt, f), legControl)
		}
	}
	for _, t := range c.touched {
		if t.legs&legCandidate != 0 {
			t.divergent++
		}
		if !paired {
			continue
		}
		switch t.legs {
		case legCandidate | legControl:
			t.both++
		case legCandidate:
			t.candidateOnly++
			c.cell(t, p.KeyGroup, 1)
		case legControl:
			t.controlOnly++
			c.cell(t, p.KeyGroup, -1)
		}
	}
}

// tally is the tally of a fingerprint: its own, or where the route has too many
// the one that the others share.
func (c *Collector) tally(window int64, id RouteID, pt *part, fingerprint string) *tally {
	r := &c.routes[id]
	if t := pt.tallies[fingerprint]; t != nil {
		r.live[fingerprint] = max(window, r.live[fingerprint])
		return t
	}
	if last, known := r.live[fingerprint]; known {
		r.live[fingerprint] = max(window, last)
	} else {
		if len(r.live) >= MaxFingerprints && r.swept < window {
			r.swept = window
			maps.DeleteFunc(r.live, func(_ string, last int64) bool { return last < window-live })
		}
		if len(r.live) >= MaxFingerprints {
			fingerprint = OtherFingerprint
		} else {
			r.live[fingerprint] = window
		}
	}
	t := pt.tallies[fingerprint]
	if t == nil {
		t = &tally{}
		if pt.tallies == nil {
			pt.tallies = map[string]*tally{}
		}
		pt.tallies[fingerprint] = t
	}
	return t
}

// cell adds to a tally's cell of a key group.
func (c *Collector) cell(t *tally, group int, excess int64) {
	g := uint16(uint(group) % KeyGroups)
	v, known := t.cells[g]
	if !known {
		if c.cells >= c.config.MaxCells {
			g = coarseGroup
			v, known = t.cells[g]
			c.coarse++
		}
		if !known {
			c.cells++
		}
		if t.cells == nil {
			t.cells = map[uint16]int64{}
		}
	}
	t.cells[g] = v + excess
}

// times takes a pair's times.
func (c *Collector) times(window int64, id RouteID, pt *part, p *Pair) {
	if p.Outcome == diff.NotComparable {
		return
	}
	e := c.routes[id].experiment
	cand, ctrl := &p.Candidate, &p.Control.Leg
	measured := func(l *Leg) bool { return l.FirstByte > 0 || l.GaveUp > 0 }
	// What was shed, refused or broken off at once has no times. Neither has
	// what only one of them did.
	if !measured(cand) || e.Control && (p.Control.Result != ControlAnswered && p.Control.Result != ControlFailed || !measured(ctrl)) {
		return
	}
	b := c.routes[id].began
	if !b.known || window < b.window {
		b.window, b.known = window, true
	}
	switch {
	case time.Duration(window-b.window)*WindowLength < e.Warmup:
		pt.counts.WarmingUp++
		return
	case cand.NewConnection || e.Control && ctrl.NewConnection:
		pt.counts.NewConnection++
		return
	}
	l := &pt.latency
	if p.Reference.FirstByte > 0 {
		l.ReferenceTTFB.Add(p.Reference.FirstByte)
	}
	if rtt := int64(cand.MinRTT / time.Microsecond); rtt > 0 && (l.CandidateMinRTTUS == 0 || rtt < l.CandidateMinRTTUS) {
		l.CandidateMinRTTUS = rtt
	}
	take := func(leg *Leg, h, censored *Histogram) {
		if leg.FirstByte > 0 {
			h.Add(leg.FirstByte)
		} else {
			censored.Add(leg.GaveUp)
		}
	}
	take(cand, &l.CandidateTTFB, &l.CandidateCensored)
	small := p.Reference.LastByte > 0 && p.Reference.Size <= MaxLastByteSize && cand.LastByte > 0 && cand.Size <= MaxLastByteSize
	if e.Control {
		take(ctrl, &l.ControlTTFB, &l.ControlCensored)
		small = small && ctrl.LastByte > 0 && ctrl.Size <= MaxLastByteSize
		if cand.FirstByte > 0 && ctrl.FirstByte > 0 {
			l.DifferenceTTFB.Add(cand.FirstByte - ctrl.FirstByte)
		}
		if small {
			l.ControlTTLB.Add(ctrl.LastByte)
			l.DifferenceTTLB.Add(cand.LastByte - ctrl.LastByte)
		}
	}
	if small {
		l.ReferenceTTLB.Add(p.Reference.LastByte)
		l.CandidateTTLB.Add(cand.LastByte)
	}
}

// Advance says what time it is by the clock of the requests, and hands out the
// windows that are over: Lateness has passed since their end, and every request
// selected in them was compared or skipped. They come in the order of time, then
// of experiments and routes as configured, each with its totals first and then
// its fingerprints, sorted. Windows in which nothing happened come too. The
// caller owns them. A time before the last one changes nothing.
func (c *Collector) Advance(now time.Time) []*Window {
	c.mu.Lock()
	defer c.mu.Unlock()
	us := now.UnixMicro()
	if !c.hasNow {
		c.now, c.hasNow = us, true
	}
	c.now = max(c.now, us)
	c.start()
	return c.close(windowIndex(c.now-int64(Lateness/time.Microsecond)), false)
}

// Flush hands out every window, also those with requests of which it is not
// known what became; these are counted as Stopped, and their tickets are void. It
// ends with the window of the last request or of the last Advance.
func (c *Collector) Flush() []*Window {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.start()
	if !c.started {
		return nil
	}
	end := c.next
	if c.hasNow {
		end = max(end, windowIndex(c.now)+1)
	}
	if n := len(c.open); n > 0 {
		end = max(end, c.open[n-1].index+1)
	}
	return c.close(end, true)
}

// start sets the first window: that of the earliest request, or of now.
func (c *Collector) start() {
	if c.started {
		return
	}
	switch {
	case len(c.open) > 0:
		c.next = c.open[0].index
	case c.hasNow:
		c.next = windowIndex(c.now)
	default:
		return
	}
	c.started = true
}

// close hands out the windows before end.
func (c *Collector) close(end int64, all bool) (out []*Window) {
	for c.next < end || len(c.open) > maxOpen {
		if len(c.open) == 0 || c.open[0].index > c.next {
			to := end
			if len(c.open) > 0 {
				to = min(c.open[0].index, max(end, c.next))
			}
			if to-c.next > maxEmpty {
				c.next = to - maxEmpty
			}
			if c.next < to {
				out = c.emit(out, &openWindow{index: c.next, parts: make([]*part, len(c.routes))}, all)
				c.next++
				continue
			}
			// Too many are open: the first of them goes, wherever it is.
			c.next = c.open[0].index
		}
		w := c.open[0]
		if w.pending > 0 && !all && len(c.open) <= maxOpen {
			break
		}
		c.open = slices.Delete(c.open, 0, 1)
		out = c.emit(out, w, all)
		c.next = w.index + 1
	}
	return out
}

// emit appends a window's records. Of requests that are still pending stopped
// says that nothing will be heard any more.
func (c *Collector) emit(out []*Window, w *openWindow, stopped bool) []*Window {
	const length = int64(WindowLength / time.Microsecond)
	for i := range c.routes {
		r := &c.routes[i]
		p := w.parts[i]
		if p == nil {
			p = &part{}
		}
		record := func(fingerprint string) *Window {
			c.sequence++
			o := &Window{
				Schema: Schema, WindowStart: Time(w.index * length), WindowEnd: Time((w.index + 1) * length),
				Agent: c.config.Agent, BootID: c.config.BootID, Sequence: c.sequence, ConfigRevision: c.config.ConfigRevision,
				Experiment: r.experiment.Name, Route: r.name, CandidateVersion: r.experiment.CandidateVersion, SampleBy: r.experiment.SampleBy,
				ControlSelf: r.experiment.ControlSelf,
				Fingerprint: fingerprint,
			}
			out = append(out, o)
			return o
		}
		o := record("")
		n := &p.counts
		if open := n.Selected - n.Compared - n.Shed - n.RateLimited - n.BreakerOpen - n.Stopped; open > 0 {
			if stopped {
				n.Stopped += open
			} else {
				n.move(-open)
			}
		}
		divergent := n.Divergent
		o.Counts, o.KeyGroups, o.Latency = *n, p.keyGroups, p.latency
		c.settle(&p.totals, o)
		o.Divergent, o.Excess = divergent, nil
		for _, f := range slices.Sorted(maps.Keys(p.tallies)) {
			c.settle(p.tallies[f], record(f))
		}
	}
	return out
}

// settle makes units of a tally's cells, which are given back.
func (c *Collector) settle(t *tally, n *Window) {
	n.Divergent, n.Both, n.CandidateOnly, n.ControlOnly = t.divergent, t.both, t.candidateOnly, t.controlOnly
	for g, excess := range t.cells {
		if excess == 0 {
			continue
		}
		excess = max(-maxExcess, min(excess, maxExcess))
		if n.Excess == nil {
			n.Excess = make(map[int]int64, len(t.cells))
		}
		n.Excess[int(g)] = excess
		n.ExcessSquares += excess * excess
		n.B += b2i(excess > 0)
		n.D += b2i(excess < 0)
	}
	c.cells -= len(t.cells)
}

// CollectorStats are gauges, but for Coarse and Sequence.
type CollectorStats struct {
	// Open is the number of open windows, Pending that of selected requests of
	// which it is not known what became.
	Open, Pending int
	// Fingerprints is the number of live ones, Cells that of key groups told
	// apart.
	Fingerprints, Cells int
	// Coarse counts the differences that MaxCells did not let be told apart.
	Coarse int64
	// Sequence is that of the last record.
	Sequence int64
}

// Stats is a snapshot.
func (c *Collector) Stats() CollectorStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := CollectorStats{Open: len(c.open), Cells: c.cells, Coarse: c.coarse, Sequence: c.sequence}
	for _, w := range c.open {
		s.Pending += w.pending
	}
	for i := range c.routes {
		s.Fingerprints += len(c.routes[i].live)
	}
	return s
}
