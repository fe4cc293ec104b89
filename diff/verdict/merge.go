package verdict

import (
	"cmp"
	"errors"
	"hash/fnv"
	"maps"
	"math"
	"slices"
)

// Merge sums the windows of any number of agents. What it holds depends on the
// windows alone, not on their order. Its size follows the number of records, a
// few dozen bytes each, and that of units of evidence. It is not safe for
// concurrent use.
type Merge struct {
	boots   map[bootKey]*boot
	periods map[periodKey]*period

	records, repeats, conflicts int64
}

type bootKey struct{ agent, bootID string }

// boot is what came of one start of an agent.
type boot struct {
	records, least, most int64
	first, last          Time
	// sequences has the digest of each record's content, contents what came
	// where there is no boot id to tell repeats by.
	sequences map[int64]uint64
	contents  map[content]struct{}
}

type content struct {
	sequence int64
	digest   uint64
}

// take takes note of a record: whether it is new, or why it is not counted.
func (b *boot) take(w *Window, digest uint64) (fresh bool, err error) {
	if w.BootID == "" {
		c := content{w.Sequence, digest}
		if _, known := b.contents[c]; known {
			return false, nil
		}
		b.contents[c] = struct{}{}
		return true, nil
	}
	if had, known := b.sequences[w.Sequence]; !known {
		b.sequences[w.Sequence] = digest
		return true, nil
	} else if had != digest {
		return false, ErrConflict
	}
	return false, nil
}

// periodKey names what a verdict speaks of.
type periodKey struct{ experiment, candidateVersion, configRevision string }

type period struct {
	routes      map[string]*routeSums
	first, last Time
	hasTime     bool
	sampleBy    string
	controlSelf bool
	agents      map[string]bool
}

type routeSums struct {
	counts       Counts
	latency      Latency
	keyGroups    [KeyGroups][2]int64
	paired       map[Time]int64 // by the window's start
	fingerprints map[string]*fingerprintSums
}

// fingerprintSums has the sums of all windows, and beside them those of the
// first window that showed the fingerprint, over all agents.
type fingerprintSums struct {
	first, last    Time
	all, firstOnly sums
	// excess is candidate_only minus control_only of all agents, by window and
	// key group: the units of evidence.
	excess map[unitKey]int64
}

type unitKey struct {
	window Time
	group  int32
}

// later are the sums without that first window.
func (f *fingerprintSums) later() sums { return f.all.minus(f.firstOnly) }

// sums of counts, and of units over all agents.
type sums struct{ divergent, both, candidateOnly, controlOnly, b, d, squares int64 }

// add adds a record's counts.
func (s *sums) add(c *Counts) {
	s.divergent += c.Divergent
	s.both += c.Both
	s.candidateOnly += c.CandidateOnly
	s.controlOnly += c.ControlOnly
}

// unit adds n times a unit of that excess.
func (s *sums) unit(excess, n int64) {
	s.b += n * b2i(excess > 0)
	s.d += n * b2i(excess < 0)
	s.squares += n * excess * excess
}

func (s sums) minus(o sums) sums {
	return sums{s.divergent - o.divergent, s.both - o.both, s.candidateOnly - o.candidateOnly, s.controlOnly - o.controlOnly, s.b - o.b, s.d - o.d, s.squares - o.squares}
}

// NewMerge is a Merge of nothing.
func NewMerge() *Merge {
	return &Merge{boots: map[bootKey]*boot{}, periods: map[periodKey]*period{}}
}

// ErrConflict says that two records have the same boot_id and sequence and
// different content. The later one is left out, and no Report promotes.
var ErrConflict = errors.New("two window records have the same boot_id and sequence and differ")

// Add adds a window. A repeat, that is one with the same agent, boot_id and
// sequence, changes nothing; where boot_id is empty, one with the same content.
// A window that Check refuses gives its error and changes nothing. w is not
// kept.
func (m *Merge) Add(w *Window) error {
	if err := w.Check(); err != nil {
		return err
	}
	if fresh, err := m.take(w); err != nil || !fresh {
		return err
	}

	pk := periodKey{w.Experiment, w.CandidateVersion, w.ConfigRevision}
	p := m.periods[pk]
	if p == nil {
		p = &period{routes: map[string]*routeSums{}, agents: map[string]bool{}}
		m.periods[pk] = p
	}
	p.span(w)
	r := p.routes[w.Route]
	if r == nil {
		r = &routeSums{paired: map[Time]int64{}, fingerprints: map[string]*fingerprintSums{}}
		p.routes[w.Route] = r
	}
	if w.Fingerprint == "" {
		r.add(w)
	} else {
		r.addFingerprint(w)
	}
	return nil
}

// Skip takes note that a window came and counts nothing of it, for one that the
// caller does not ask about: left out it would be a hole in its boot's sequence.
// Repeats and errors are those of Add.
func (m *Merge) Skip(w *Window) error {
	if err := w.Check(); err != nil {
		return err
	}
	_, err := m.take(w)
	return err
}

// Records is how many windows Add counted and Skip took note of, repeats and
// conflicts left out.
func (m *Merge) Records() int64 { return m.records }

// take says whether a window is new.
func (m *Merge) take(w *Window) (fresh bool, err error) {
	k := bootKey{w.Agent, w.BootID}
	b := m.boots[k]
	if b == nil {
		b = &boot{least: math.MaxInt64, first: w.WindowStart, last: w.WindowEnd, sequences: map[int64]uint64{}, contents: map[content]struct{}{}}
		m.boots[k] = b
	}
	switch fresh, err = b.take(w, w.digest()); {
	case err != nil:
		m.conflicts++
		return false, err
	case !fresh:
		m.repeats++
		return false, nil
	}
	m.records++
	b.records++
	b.least, b.most = min(b.least, w.Sequence), max(b.most, w.Sequence)
	b.first, b.last = min(b.first, w.WindowStart), max(b.last, w.WindowEnd)
	return true, nil
}

func (p *period) span(w *Window) {
	if !p.hasTime {
		p.first, p.last, p.hasTime = w.WindowStart, w.WindowEnd, true
	}
	p.first, p.last = min(p.first, w.WindowStart), max(p.last, w.WindowEnd)
	p.agents[w.Agent] = true
	p.controlSelf = p.controlSelf || w.ControlSelf
	// What was sampled by anything else speaks of less.
	if by := cmp.Or(w.SampleBy, SampleByRequest); p.sampleBy == "" || p.sampleBy == SampleByRequest || by != SampleByRequest && by < p.sampleBy {
		p.sampleBy = by
	}
}

func (r *routeSums) add(w *Window) {
	r.counts.add(&w.Counts)
	r.latency.add(&w.Latency)
	for g, n := range w.KeyGroups {
		r.keyGroups[g][0] += n[0]
		r.keyGroups[g][1] += n[1]
	}
	if w.Paired > 0 {
		r.paired[w.WindowStart] += w.Paired
	}
}

func (r *routeSums) addFingerprint(w *Window) {
	c := &w.Counts
	if c.Divergent == 0 && c.Both == 0 && c.ControlOnly == 0 {
		return // it was not seen
	}
	f := r.fingerprints[w.Fingerprint]
	if f == nil {
		f = &fingerprintSums{first: w.WindowStart, last: w.WindowStart, excess: map[unitKey]int64{}}
		r.fingerprints[w.Fingerprint] = f
	}
	if w.WindowStart < f.first {
		f.first, f.firstOnly = w.WindowStart, sums{}
	}
	f.last = max(f.last, w.WindowStart)
	f.all.add(c)
	if w.WindowStart == f.first {
		f.firstOnly.add(c)
	}
	for g, e := range w.Excess {
		k := unitKey{w.WindowStart, int32(g)}
		had := f.excess[k]
		f.excess[k] = had + e
		f.all.unit(had, -1)
		f.all.unit(had+e, 1)
		if w.WindowStart == f.first {
			f.firstOnly.unit(had, -1)
			f.firstOnly.unit(had+e, 1)
		}
	}
}

// pairedSums has the number of paired requests from each window on.
type pairedSums struct {
	starts []Time
	from   []int64
}

func newPairedSums(paired map[Time]int64) pairedSums {
	starts := slices.Sorted(maps.Keys(paired))
	from := make([]int64, len(starts)+1)
	for i := len(starts) - 1; i >= 0; i-- {
		from[i] = from[i+1] + paired[starts[i]]
	}
	return pairedSums{starts, from}
}

// since gives the number of paired requests from one window on, and after it.
func (p *pairedSums) since(start Time) (since, after int64) {
	at, found := slices.BinarySearch(p.starts, start)
	if found {
		return p.from[at], p.from[at+1]
	}
	return p.from[at], p.from[at]
}

// digest tells records apart by what they name and count.
func (w *Window) digest() uint64 {
	h := fnv.New64a()
	b := make([]byte, 0, 512)
	number := func(n int64) {
		for s := 0; s < 64; s += 8 {
			b = append(b, byte(n>>s))
		}
	}
	for _, s := range [...]string{w.ConfigRevision, w.Experiment, w.Route, w.CandidateVersion, w.SampleBy, w.Fingerprint} {
		b = append(append(b, s...), 0)
	}
	number(int64(w.WindowStart))
	number(int64(w.WindowEnd))
	for _, f := range w.fields() {
		number(*f.n)
	}
	var excess int64
	for g, e := range w.Excess {
		excess += int64(g+1) * e
	}
	number(excess)
	for _, m := range []map[string]int64{w.Lost, w.NotComparable, w.Failed} {
		number(total(m))
	}
	for _, l := range w.histograms() {
		number(l.h.Count())
	}
	h.Write(b)
	return h.Sum64()
}
