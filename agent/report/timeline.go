package report

import (
	"maps"
	"math"
	"slices"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// maxPoints bounds the points of a timeline.
const maxPoints = 120

// periodKey names what a verdict speaks of.
type periodKey struct{ experiment, candidateVersion, configRevision string }

func keyOf(w *verdict.Window) periodKey {
	return periodKey{w.Experiment, w.CandidateVersion, w.ConfigRevision}
}

// period has what a Document shows of a period beside the verdict's sums.
type period struct {
	routes map[string]*route
	// points are by time; a point is 10 s << shift long. shift grows until
	// there are no more than maxPoints, so it depends on the windows alone.
	points map[verdict.Time]*totals
	shift  uint
}

// route has what was counted of a route by name: of a fingerprint, or of
// failedPrefix and a failure's word.
type route struct {
	times  histograms
	prints map[string]*series
}

// series has pairs by the point they fall in, and the starts of the windows that
// were the first and the last to have some.
type series struct {
	points      map[verdict.Time]int64
	first, last verdict.Time
}

func (p *period) see(r *route, name string, at verdict.Time, n int64) {
	s := r.prints[name]
	if s == nil {
		s = &series{points: map[verdict.Time]int64{}, first: at, last: at}
		r.prints[name] = s
	}
	s.first, s.last = min(s.first, at), max(s.last, at)
	p.point(at) // so that its length bounds the series too
	if n > 0 {
		s.points[p.bucket(at)] += n
	}
}

type totals struct{ compared, divergent, failed int64 }

func newPeriod() *period {
	return &period{routes: map[string]*route{}, points: map[verdict.Time]*totals{}}
}

func (p *period) bucket(t verdict.Time) verdict.Time { return floor(t, p.length()) }

func (p *period) length() verdict.Time {
	return verdict.Time(verdict.WindowLength.Microseconds()) << p.shift
}

// floor is the last multiple of length at or before t.
func floor(t, length verdict.Time) verdict.Time {
	q := t / length
	if t%length < 0 {
		q--
	}
	return q * length
}

// point is the one that a moment falls in.
func (p *period) point(at verdict.Time) *totals {
	if t := p.points[p.bucket(at)]; t != nil {
		return t
	}
	p.points[p.bucket(at)] = &totals{}
	for len(p.points) > maxPoints {
		p.coarsen()
	}
	return p.points[p.bucket(at)]
}

// count counts a window of totals.
func (p *period) count(w *verdict.Window) {
	t := p.point(w.WindowStart)
	t.compared += w.Compared - sum(w.NotComparable)
	t.divergent += w.Divergent - sum(w.Failed)
	t.failed += sum(w.Failed) + w.BreakerOpen
}

// coarsen makes points twice as long.
func (p *period) coarsen() {
	p.shift++
	points := map[verdict.Time]*totals{}
	for t, n := range p.points {
		at := p.bucket(t)
		if had := points[at]; had != nil {
			had.compared += n.compared
			had.divergent += n.divergent
			had.failed += n.failed
		} else {
			points[at] = n
		}
	}
	p.points = points
	for _, r := range p.routes {
		for _, s := range r.prints {
			points := make(map[verdict.Time]int64, len(s.points))
			for t, n := range s.points {
				points[p.bucket(t)] += n
			}
			s.points = points
		}
	}
}

func sum(m map[string]int64) (n int64) {
	for _, k := range m {
		n += k
	}
	return n
}

// coarse is how many of verdict's buckets, 2 % wide, make one that is shown: a
// step is 10.4 %.
const coarse = 5

// histograms are a route's times to the first byte, coarse: bucket j > 0 holds
// what is over 1.02^(5(j-1)) and at most 1.02^(5j) us, bucket 0 what is at most
// 1 us.
type histograms struct{ reference, candidate, control map[int]int64 }

func (h *histograms) add(l *verdict.Latency) {
	for _, f := range []struct {
		to   *map[int]int64
		from verdict.Histogram
	}{{&h.reference, l.ReferenceTTFB}, {&h.candidate, l.CandidateTTFB}, {&h.control, l.ControlTTFB}} {
		for i, n := range f.from {
			if *f.to == nil {
				*f.to = map[int]int64{}
			}
			(*f.to)[(max(0, i)+coarse-1)/coarse] += n
		}
	}
}

// Bucket is one bucket of times, in microseconds: over FromUS, at most ToUS.
type Bucket struct {
	FromUS    float64 `json:"from_us"`
	ToUS      float64 `json:"to_us"`
	Reference int64   `json:"reference"`
	Candidate int64   `json:"candidate"`
	Control   int64   `json:"control"`
}

// buckets are those that anything fell in, in their order.
func (h *histograms) buckets() []Bucket {
	indexes := map[int]bool{}
	for _, m := range []map[int]int64{h.reference, h.candidate, h.control} {
		for i, n := range m {
			if n > 0 {
				indexes[i] = true
			}
		}
	}
	out := make([]Bucket, 0, len(indexes))
	for _, i := range slices.Sorted(maps.Keys(indexes)) {
		out = append(out, Bucket{edge(i - 1), edge(i), h.reference[i], h.candidate[i], h.control[i]})
	}
	return out
}

// edge is the upper edge of a bucket, to four digits.
func edge(i int) float64 {
	if i < 0 {
		return 0
	}
	x := math.Pow(1.02, float64(coarse*i))
	unit := math.Pow(10, math.Floor(math.Log10(x))-3)
	if unit >= 1 {
		return math.Round(x/unit) * unit
	}
	return math.Round(x/unit) / math.Round(1/unit)
}
