package verdict

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Histogram counts times in microseconds by bucket, sparsely: index to count.
// Index i > 0 holds what is over 1.02^(i-1) and at most 1.02^i, index 0 what is
// from -1 to 1, and index -i the negatives of i. Histograms merge by sums.
type Histogram map[int]int64

// maxBucket is the index of 2^63 ns, the longest that a time.Duration can be.
const maxBucket = 1857

var logBase = math.Log(1.02)

// Bucket is the index of a time of x microseconds: ceil(ln x / ln 1.02), 0 for
// -1 <= x <= 1, and for x < -1 the negative of -x's.
func Bucket(x float64) int {
	switch {
	case x > 1:
		return int(math.Ceil(math.Log(x) / logBase))
	case x < -1:
		return -int(math.Ceil(math.Log(-x) / logBase))
	}
	return 0
}

// BucketOf is the index of a time.
func BucketOf(d time.Duration) int { return Bucket(float64(d) / 1e3) }

// edges are the bounds of a bucket in microseconds.
func edges(index int) (low, high float64) {
	switch {
	case index > 0:
		return math.Pow(1.02, float64(index-1)), math.Pow(1.02, float64(index))
	case index < 0:
		return -math.Pow(1.02, float64(-index)), -math.Pow(1.02, float64(-index-1))
	}
	return -1, 1
}

// middle is what a bucket's times are taken for, at most 1 % off.
func middle(index int) float64 {
	switch {
	case index > 0:
		return math.Pow(1.02, float64(index)-0.5)
	case index < 0:
		return -math.Pow(1.02, float64(-index)-0.5)
	}
	return 0
}

// Add counts a time.
func (h *Histogram) Add(d time.Duration) {
	if *h == nil {
		*h = Histogram{}
	}
	(*h)[BucketOf(d)]++
}

func (h *Histogram) merge(o Histogram) {
	if *h == nil && len(o) > 0 {
		*h = make(Histogram, len(o))
	}
	for i, n := range o {
		(*h)[i] += n
	}
}

// Count is how many times were counted.
func (h Histogram) Count() (n int64) {
	for _, k := range h {
		n += k
	}
	return n
}

func (h Histogram) check(name string) error {
	for i, n := range h {
		if i < -maxBucket || i > maxBucket || n < 0 || n > maxCount {
			return fmt.Errorf("%s.%d: %d is out of range", name, i, n)
		}
	}
	return nil
}

func (l *Latency) histograms() [10]struct {
	name string
	h    *Histogram
} {
	return [...]struct {
		name string
		h    *Histogram
	}{
		{"reference_ttfb", &l.ReferenceTTFB}, {"reference_ttlb", &l.ReferenceTTLB}, {"candidate_ttfb", &l.CandidateTTFB}, {"candidate_ttlb", &l.CandidateTTLB},
		{"control_ttfb", &l.ControlTTFB}, {"control_ttlb", &l.ControlTTLB}, {"difference_ttfb", &l.DifferenceTTFB}, {"difference_ttlb", &l.DifferenceTTLB},
		{"candidate_censored", &l.CandidateCensored}, {"control_censored", &l.ControlCensored},
	}
}

func (l *Latency) check() error {
	for _, h := range l.histograms() {
		if err := h.h.check(h.name); err != nil {
			return err
		}
	}
	if l.CandidateMinRTTUS < 0 {
		return fmt.Errorf("candidate_min_rtt_us: %d is out of range", l.CandidateMinRTTUS)
	}
	return nil
}

func (l *Latency) add(o *Latency) {
	from := o.histograms()
	for i, h := range l.histograms() {
		h.h.merge(*from[i].h)
	}
	if r := o.CandidateMinRTTUS; r > 0 && (l.CandidateMinRTTUS == 0 || r < l.CandidateMinRTTUS) {
		l.CandidateMinRTTUS = r
	}
}

// Quantile is a quantile of times in microseconds, with an interval.
type Quantile struct {
	// Value is at most 1 % off what the times say. With AtLeast it was not
	// reached before the wait was given up: print ">= 2 s".
	Value   float64 `json:"value_us"`
	AtLeast bool    `json:"at_least,omitempty"`
	// Low and High hold the true quantile with the error that was asked for,
	// at every look, if the times are independent of each other. Open says that
	// they say nothing about how high it may be.
	Low  float64 `json:"low_us"`
	High float64 `json:"high_us"`
	Open bool    `json:"open,omitempty"`
	// OpenLow says the same about how low; Low is then the smallest time.
	OpenLow bool `json:"open_low,omitempty"`
}

// distribution is a histogram to be asked for quantiles.
type distribution struct {
	indexes []int
	sums    []int64 // how many are at most in that bucket
	n       int64   // all, those that were given up too
	cut     float64 // the shortest wait that was given up; +Inf without one
}

// newDistribution takes what was measured and what was given up. A wait that
// was given up is longer than what was measured, as far as anybody knows, so
// a quantile above the shortest of them is only known to be at least that.
func newDistribution(h, censored Histogram) *distribution {
	d := &distribution{cut: math.Inf(1)}
	for i, n := range h {
		if n > 0 {
			d.indexes = append(d.indexes, i)
		}
	}
	slices.Sort(d.indexes)
	d.sums = make([]int64, len(d.indexes))
	for k, i := range d.indexes {
		d.n += h[i]
		d.sums[k] = d.n
	}
	for i, n := range censored {
		if n > 0 {
			low, _ := edges(i)
			d.cut = min(d.cut, low)
			d.n += n
		}
	}
	return d
}

// bucket is the index of the k-th smallest, k from 1. Not known when it was
// given up, or is longer than a wait that was.
func (d *distribution) bucket(k int64) (index int, known bool) {
	at, _ := slices.BinarySearch(d.sums, k)
	if at == len(d.sums) {
		return 0, false
	}
	if low, _ := edges(d.indexes[at]); low >= d.cut {
		return 0, false
	}
	return d.indexes[at], true
}

// quantile is the q-quantile, with an interval of error a at every look: the
// number of times at most as large is one of n with the chance q.
func (d *distribution) quantile(q, a float64) Quantile {
	if d.n == 0 {
		return Quantile{Open: true, OpenLow: true}
	}
	var out Quantile
	rank := max(1, int64(math.Ceil(q*float64(d.n))))
	if i, known := d.bucket(rank); known {
		out.Value = middle(i)
	} else {
		out.Value, out.AtLeast = d.cut, true
	}
	least, most := ranks(d.n, q, a)
	if i, known := d.bucket(max(1, least)); known {
		out.Low, _ = edges(i)
	} else {
		out.Low = d.cut
	}
	out.OpenLow = least == 0
	out.Open = true
	if most < d.n {
		if i, known := d.bucket(most + 1); known {
			_, out.High = edges(i)
			out.Open = false
		}
	}
	return out
}

// ranks are the smallest and the largest count of times up to the q-quantile
// that n times do not speak against, with error a at every look.
func ranks(n int64, q, a float64) (least, most int64) {
	limit := -math.Log(a)
	fits := func(k int64) bool { return logMixture(k, n, q) < limit }
	mode := min(n, max(0, int64(math.Round(q*float64(n)))))
	edge := func(end int64) int64 {
		in, out := mode, end
		if fits(end) {
			return end
		}
		for in-out > 1 || out-in > 1 {
			if mid := in + (out-in)/2; fits(mid) {
				in = mid
			} else {
				out = mid
			}
		}
		return in
	}
	return edge(0), edge(n)
}
