package sample

import (
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Guard says when an experiment's replay pauses because the reference suffers.
//
// Every 10 s of capture time in which replay ran is a window. It is compared
// with a baseline: what was measured in the last 10 minutes (in steps of 5) of
// the latest time in which replay was paused, or as long as that holds fewer
// than 20 exchanges, in the first 60 s. A window with fewer than 20 exchanges,
// and one without a baseline, has no verdict. What is measured are all
// exchanges of the experiment's routes, replayed or not.
//
// A difference that chance gives more often than once in a thousand windows is
// none: the median is judged by how many exchanges were slower than Latency
// times the baseline's median, the errors by how many there were, both against
// the binomial distribution. Of the baseline's median and share of errors it is
// the upper end of the interval in which they lie at two standard errors, so
// that a short baseline forgives more.
//
// The first pause lasts 30 s, each further one twice as long up to 10 minutes;
// 10 minutes after the end of the last one it is 30 s again.
type Guard struct {
	// Latency is how many times the baseline's median time to first byte the
	// median may be, such as 1.25. Zero switches this part off; else it is at
	// least 1.
	Latency float64
	// Errors is by how much the share of 5xx and 429 may exceed the
	// baseline's, in percentage points. A gRPC answer counts as one of them by
	// its status UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL or
	// UNAVAILABLE. Zero switches this part off.
	Errors Rate
}

// GuardReason says which part of the guard paused.
type GuardReason uint8

const (
	// GuardLatency: the reference's median time to first byte rose.
	GuardLatency GuardReason = iota + 1
	// GuardErrors: the reference's share of 5xx and 429 rose.
	GuardErrors
)

// String gives the word for logs.
func (r GuardReason) String() string {
	switch r {
	case GuardLatency:
		return "latency"
	case GuardErrors:
		return "errors"
	}
	return ""
}

// GuardPause tells of a pause that begins.
type GuardPause struct {
	Experiment string
	Reason     GuardReason
	// Until is the end of the pause, in capture time.
	Until time.Time
	// Exchanges is how many the window held.
	Exchanges int
	// Median and BaselineMedian are times to first byte, within 2 %.
	Median, BaselineMedian time.Duration
	// Errors and BaselineErrors are the shares of 5xx and 429, 0 to 1.
	Errors, BaselineErrors float64
}

const (
	guardWindow   = 10 * int64(time.Second)
	guardFirst    = 6  // windows of the baseline from the start
	guardBlock    = 30 // windows of half a paused baseline
	guardMinimum  = 20 // exchanges for a verdict, and for a baseline
	guardChance   = 0.001
	guardPause    = 30 * int64(time.Second)
	guardMaxPause = 10 * int64(time.Minute)
	// guardStep is how far back a window may lie before it is taken for a
	// clock that was set back.
	guardStep = 6
)

// buckets of times: bucket i holds what is above 1.02^(i-1) us and at most
// 1.02^i us, the last all above 10 minutes.
const guardBuckets = 1024

var perLogStep = 1 / math.Log(1.02)

func bucketOf(ns float64) int {
	us := ns / 1e3
	if !(us > 1) {
		return 0
	}
	return min(int(math.Ceil(math.Log(us)*perLogStep)), guardBuckets-1)
}

// firstBuckets has the bucket of the first time of each cell: 64 cells between a
// power of two and the next, in ns. lastOf has the last time of each bucket. A
// cell is smaller than a bucket, so that a time lies in the bucket of its cell's
// first one or in the next.
var firstBuckets, lastOf = bucketTables()

const (
	cellBits = 6
	// maxOctave is that of the last bucket's first time.
	maxOctave = 40
)

func bucketTables() (first [maxOctave << cellBits]uint16, last [guardBuckets]int64) {
	for i := range last[:guardBuckets-1] {
		// The last time that bucketOf puts at most here, by halving.
		low, high := int64(0), int64(1)<<maxOctave
		for low < high {
			if mid := (low + high + 1) / 2; bucketOf(float64(mid)) <= i {
				low = mid
			} else {
				high = mid - 1
			}
		}
		last[i] = low
	}
	last[guardBuckets-1] = math.MaxInt64
	for octave := cellBits; octave < maxOctave; octave++ {
		for cell := range int64(1 << cellBits) {
			first[octave<<cellBits|int(cell)] = uint16(bucketOf(float64((1<<cellBits | cell) << (octave - cellBits))))
		}
	}
	return first, last
}

// bucketOfTime is bucketOf for a whole number, by the tables.
func bucketOfTime(ns int64) int {
	if ns <= 1000 {
		return 0
	}
	octave := bits.Len64(uint64(ns)) - 1
	if octave >= maxOctave {
		return guardBuckets - 1
	}
	i := int(firstBuckets[octave<<cellBits|int(ns>>(octave-cellBits)&(1<<cellBits-1))])
	if ns > lastOf[i] {
		i++
	}
	return i
}

func bucketTop(i int) time.Duration {
	return time.Duration(math.Exp(float64(i)/perLogStep) * 1e3)
}

// times is what one window or one baseline measured.
type times struct {
	n, errors uint32
	buckets   [guardBuckets]uint32
}

// suffers says whether an answer tells of a reference that cannot cope: 5xx and
// 429, and what of gRPC, whose answers are all 200, means the same.
func (c *CompletedInfo) suffers() bool {
	switch c.GRPCStatus {
	case "2", "4", "8", "13", "14": // UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE
		return true
	}
	return c.Status >= 500 || c.Status == 429
}

func (t *times) add(ttfb int64, suffers bool) {
	t.n++
	if suffers {
		t.errors++
	}
	t.buckets[bucketOfTime(ttfb)]++
}

func (t *times) merge(o *times) {
	if o.n == 0 {
		return
	}
	t.n += o.n
	t.errors += o.errors
	for i, n := range o.buckets {
		t.buckets[i] += n
	}
}

// ranked gives the bucket of the exchange of that rank, from 1 for the fastest.
func (t *times) ranked(rank uint32) int {
	for i, n := range t.buckets {
		if n >= rank {
			return i
		}
		rank -= n
	}
	return guardBuckets - 1
}

// median gives the bucket that holds the median; t must not be empty.
func (t *times) median() int { return t.ranked((t.n + 1) / 2) }

// highMedian gives the bucket in which the median lies at most, at two standard
// errors: the rank of the median is known to half the square root of n.
func (t *times) highMedian() int {
	return t.ranked(min(t.n, (t.n+1)/2+uint32(math.Sqrt(float64(t.n)))))
}

// highErrors gives the share of errors at most, at two standard errors: the
// upper end of Wilson's interval, which holds for few exchanges too.
func (t *times) highErrors() float64 {
	const z = 2
	n, p := float64(t.n), t.errorShare()
	return (p + z*z/(2*n) + z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))) / (1 + z*z/n)
}

// above counts what is surely more than d.
func (t *times) above(d float64) int {
	n := 0
	for _, c := range t.buckets[bucketOf(d)+1:] {
		n += int(c)
	}
	return n
}

func (t *times) errorShare() float64 { return float64(t.errors) / float64(t.n) }

// shardWindow is what one shard measured of an experiment in the running
// window. It belongs to the shard.
type shardWindow struct {
	// number is the window's start in units of its length.
	number int64
	// running says that replay was not paused all the time.
	running bool
	times   times
}

// guard is the shared part of one experiment's guard. Shards hand it their
// windows; it judges a window when all of them have, or when one hands in a
// later window.
type guard struct {
	name    string
	limits  Guard
	onPause func(GuardPause)
	// until is the end of the pause in ns since the Unix epoch, 0 before the
	// first one. Only the holder of mu stores it.
	until  atomic.Int64
	pauses atomic.Uint64

	mu   sync.Mutex
	open shardWindow
	// handed counts the shards that handed in the open window; judged says
	// that it has been judged.
	handed int
	judged bool
	// started is the number of the first window; -1 when first is complete.
	started int64
	begun   bool
	first   times
	// paused is the baseline of the latest pause, in two blocks; newerSince is
	// the first window of newer. inPause says that the latest judged window
	// belonged to it.
	older, newer times
	newerSince   int64
	inPause      bool
	length       int64
}

// hand takes a shard's window and clears it. now is the capture time, shards
// the number of shards.
func (g *guard) hand(w *shardWindow, now int64, shards int) {
	event, paused := g.take(w, now, shards)
	if paused && g.onPause != nil {
		g.onPause(event)
	}
}

func (g *guard) take(w *shardWindow, now int64, shards int) (event GuardPause, paused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.begun || w.number < g.open.number-guardStep:
		// The beginning, or the clock was set back: what is open belongs to
		// another time.
		g.begun = true
		if g.started >= 0 {
			g.started = w.number
		}
		g.start(w.number)
	case w.number > g.open.number:
		event, paused = g.judge(now)
		g.start(w.number)
	case w.number < g.open.number || g.judged:
		// Too late for its verdict.
		return event, false
	}
	g.open.times.merge(&w.times)
	g.open.running = g.open.running || w.running
	if g.handed++; g.handed == shards && !paused {
		event, paused = g.judge(now)
	}
	return event, paused
}

func (g *guard) start(number int64) {
	g.open = shardWindow{number: number}
	g.handed, g.judged = 0, false
}

// judge closes the open window: it becomes part of a baseline or gets a verdict.
func (g *guard) judge(now int64) (event GuardPause, paused bool) {
	if g.judged {
		return event, false
	}
	g.judged = true
	w := &g.open
	building := g.started >= 0 && w.number < g.started+guardFirst
	if !building {
		g.started = -1
	}
	if w.times.n == 0 {
		return event, false
	}
	if building {
		g.first.merge(&w.times)
	}
	if !w.running {
		g.rest(w)
		return event, false
	}
	g.inPause = false
	base, ok := g.baseline()
	if building || !ok || w.times.n < guardMinimum {
		return event, false
	}
	reason := g.limits.exceeded(&w.times, base)
	if reason == 0 {
		return event, false
	}
	until := g.pause(now)
	return GuardPause{
		Experiment: g.name, Reason: reason, Until: time.Unix(0, until),
		Exchanges: int(w.times.n),
		Median:    bucketTop(w.times.median()), BaselineMedian: bucketTop(base.median()),
		Errors: w.times.errorShare(), BaselineErrors: base.errorShare(),
	}, true
}

// rest adds a window in which replay was paused to the baseline.
func (g *guard) rest(w *shardWindow) {
	switch {
	case !g.inPause:
		g.inPause = true
		g.older, g.newer, g.newerSince = times{}, times{}, w.number
	case w.number >= g.newerSince+guardBlock:
		g.older, g.newer, g.newerSince = g.newer, times{}, w.number
	}
	g.newer.merge(&w.times)
}

func (g *guard) baseline() (*times, bool) {
	if g.older.n+g.newer.n >= guardMinimum {
		sum := g.older
		sum.merge(&g.newer)
		return &sum, true
	}
	return &g.first, g.first.n >= guardMinimum
}

// exceeded says which limit the window breaks, 0 without one.
func (l *Guard) exceeded(w, base *times) GuardReason {
	n := int(w.n)
	if l.Latency > 0 {
		limit := float64(bucketTop(base.highMedian())) * l.Latency
		if binomialTail(w.above(limit), n, 0.5) < guardChance {
			return GuardLatency
		}
	}
	if l.Errors.Hundredths > 0 {
		if binomialTail(int(w.errors), n, base.highErrors()+l.Errors.Fraction()) < guardChance {
			return GuardErrors
		}
	}
	return 0
}

// pause sets the end of a pause that begins now.
func (g *guard) pause(now int64) (until int64) {
	last := g.until.Load()
	if last == 0 || now-last > guardMaxPause || now < last-guardMaxPause {
		g.length = guardPause
	} else {
		g.length = min(2*g.length, guardMaxPause)
	}
	until = now + g.length
	g.until.Store(until)
	g.pauses.Add(1)
	return until
}

// pausing says whether the guard pauses replay at capture time t. Times that
// lie further before the end than a pause can last are from a clock that was
// set back.
func (g *guard) pausing(t int64) bool {
	until := g.until.Load()
	return t < until && t >= until-guardMaxPause
}

// binomialTail is the chance of k or more of n at p each; 1 when k is not above
// what is expected.
func binomialTail(k, n int, p float64) float64 {
	if float64(k) <= float64(n)*p || k <= 0 || p >= 1 {
		return 1
	}
	choose := func(k int) float64 {
		a, _ := math.Lgamma(float64(n + 1))
		b, _ := math.Lgamma(float64(k + 1))
		c, _ := math.Lgamma(float64(n - k + 1))
		return a - b - c
	}
	term := math.Exp(choose(k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	sum := 0.0
	for i := k; i <= n; i++ {
		sum += term
		if term < sum*1e-9 {
			break
		}
		term *= float64(n-i) / float64(i+1) * p / (1 - p)
	}
	return sum
}
