package sample

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// reference is a made-up reference whose answers go through a sampler's shards.
type reference struct {
	t      testing.TB
	s      *Sampler
	shards []*Shard
	now    int64
	pauses []GuardPause
	rand   *rand.Rand
	// ttfb and status say how the reference answers.
	ttfb   func() time.Duration
	status func() int
	// grpc, when set, gives the gRPC status.
	grpc func() string
	// target of the requests, and how many come in a second.
	target string
	rate   int
	// tick says that shards are ticked.
	tick bool
	// kept counts the decisions about the requests.
	kept map[string]int
}

func newReference(t testing.TB, shards int, g Guard) *reference {
	r := &reference{t: t, now: start, rand: rand.New(rand.NewPCG(1, 2)), target: "/users/1", rate: 50, tick: true, kept: map[string]int{}}
	r.s = mustNew(t, Config{
		OnPause:     func(p GuardPause) { r.pauses = append(r.pauses, p) },
		Experiments: []Experiment{{Name: "x", Routes: []Route{{Path: "/users/{id}"}}, Rate: Rate{fullRate}, Guard: g}},
	})
	for range shards {
		r.shards = append(r.shards, r.s.Shard())
	}
	r.steady()
	return r
}

// steady answers in about 10 ms, widely spread, without errors.
func (r *reference) steady() {
	r.slower(1)
	r.status = func() int { return 200 }
}

func (r *reference) slower(times float64) {
	r.ttfb = func() time.Duration {
		return time.Duration(10e6 * times * math.Exp(r.rand.NormFloat64()))
	}
}

// failing gives a share of the answers a status.
func (r *reference) failing(status int, share float64) {
	r.status = func() int {
		if r.rand.Float64() < share {
			return status
		}
		return 200
	}
}

// run lets the reference answer for a time.
func (r *reference) run(d time.Duration) {
	for end := r.now + int64(d); r.now < end; r.now += second {
		for i := range r.rate {
			sh := r.shards[i%len(r.shards)]
			h := head("GET", r.target)
			h.Time = r.now + int64(i)*second/int64(r.rate)
			decision := sh.Keep(h)
			r.kept[word(decision.Choices[0])]++
			info := CompletedInfo{Time: h.Time, TTFB: int64(r.ttfb()), Status: r.status()}
			if r.grpc != nil {
				info.GRPCStatus = r.grpc()
			}
			sh.Completed(&decision, exchange.DoubtNone, info)
		}
		if r.tick {
			for _, sh := range r.shards {
				sh.Tick(r.now + second)
			}
		}
	}
}

func (r *reference) want(pauses int) {
	r.t.Helper()
	if len(r.pauses) != pauses {
		r.t.Fatalf("%d pauses %+v, want %d", len(r.pauses), r.pauses, pauses)
	}
}

func TestGuardLeavesASteadyReferenceAlone(t *testing.T) {
	for seed := range uint64(6) {
		r := newReference(t, 2, Guard{Latency: 1.25, Errors: Rate{50}})
		r.rand = rand.New(rand.NewPCG(14+seed, 0))
		r.failing(503, 0.02)
		r.run(30 * time.Minute)
		r.want(0)
		if r.kept["selected"] != 50*30*60 {
			t.Errorf("kept %v", r.kept)
		}
	}
}

func TestGuardLatency(t *testing.T) {
	r := newReference(t, 2, Guard{Latency: 1.25})
	r.run(60 * time.Second)
	r.slower(1.2) // below the limit
	r.run(5 * time.Minute)
	r.want(0)
	r.slower(2)
	r.run(9 * time.Second)
	r.want(0)
	r.run(time.Second)
	r.want(1)
	p := r.pauses[0]
	if p.Experiment != "x" || p.Reason != GuardLatency || p.Until.UnixNano() != r.now+30*second || p.Exchanges != 500 {
		t.Errorf("pause %+v, want 30 s from %v", p, time.Unix(0, r.now))
	}
	if p.Median < 17*time.Millisecond || p.Median > 23*time.Millisecond || p.BaselineMedian < 9*time.Millisecond || p.BaselineMedian > 11*time.Millisecond {
		t.Errorf("medians %v and %v", p.Median, p.BaselineMedian)
	}
	r.steady()
	before := r.kept["selected"]
	r.run(30 * time.Second)
	if r.kept["paused guard"] != 30*50 || r.kept["selected"] != before {
		t.Errorf("in the pause: %v", r.kept)
	}
	r.run(5 * time.Minute)
	if r.kept["selected"] != before+5*60*50 {
		t.Errorf("after the pause: %v", r.kept)
	}
	r.want(1)
	if x := r.s.Stats().Experiments[0]; x.GuardPauses != 1 || !x.GuardUntil.Equal(p.Until) {
		t.Errorf("stats %+v", x)
	}
}

func TestGuardErrors(t *testing.T) {
	for _, c := range []struct {
		status int
		share  float64
		pauses int
	}{{500, 0.06, 1}, {429, 0.06, 1}, {503, 0.021, 0}, {404, 0.5, 0}, {302, 1, 0}} {
		r := newReference(t, 1, Guard{Errors: Rate{200}})
		r.run(2 * time.Minute)
		r.failing(c.status, c.share)
		r.run(10 * time.Second)
		r.want(c.pauses)
		if c.pauses > 0 {
			if p := r.pauses[0]; p.Reason != GuardErrors || p.Errors < 0.03 || p.Errors > 0.1 || p.BaselineErrors != 0 {
				t.Errorf("pause %+v", p)
			}
		}
	}
}

// A gRPC answer is 200 whatever happened: its own status tells.
func TestGuardGRPCErrors(t *testing.T) {
	for status, pauses := range map[string]int{
		"2": 1, "4": 1, "8": 1, "13": 1, "14": 1,
		"": 0, "0": 0, "1": 0, "3": 0, "5": 0, "7": 0, "12": 0, "16": 0, "014": 0,
	} {
		r := newReference(t, 1, Guard{Errors: Rate{200}})
		r.run(2 * time.Minute)
		r.grpc = func() string {
			if r.rand.Float64() < 0.06 {
				return status
			}
			return "0"
		}
		r.run(10 * time.Second)
		if len(r.pauses) != pauses {
			t.Errorf("status %q: %d pauses %+v, want %d", status, len(r.pauses), r.pauses, pauses)
		}
	}
}

// Each pause is twice as long, until 10 minutes; after 10 good minutes it is
// 30 s again. Replay makes this reference slow, and only replay.
func TestGuardBackoff(t *testing.T) {
	r := newReference(t, 1, Guard{Latency: 1.25})
	r.run(60 * time.Second)
	fast := r.ttfb
	slow := func() time.Duration { return 2 * fast() }
	for _, want := range []int64{30, 60, 120, 240, 480, 600, 600} {
		r.ttfb = slow
		for n := len(r.pauses); len(r.pauses) == n; {
			r.run(time.Second)
			if r.now > start+2*3600*second {
				t.Fatal("no further pause")
			}
		}
		p := r.pauses[len(r.pauses)-1]
		if got := (p.Until.UnixNano() - r.now) / second; got != want {
			t.Fatalf("pause %d lasts %d s, want %d", len(r.pauses), got, want)
		}
		r.ttfb = fast
		r.run(time.Duration(want) * time.Second)
	}
	n := len(r.pauses)
	r.run(11 * time.Minute)
	r.want(n)
	r.ttfb = slow
	r.run(20 * time.Second)
	r.want(n + 1)
	if got := r.pauses[n].Until.UnixNano() - r.now; got > 30*second {
		t.Errorf("after a good while a pause of %d s", got/second)
	}
}

// A reference that is as slow without replay has another reason: what was
// measured in the pause is the new baseline.
func TestGuardLearnsInThePause(t *testing.T) {
	r := newReference(t, 2, Guard{Latency: 1.25, Errors: Rate{50}})
	r.run(2 * time.Minute)
	r.slower(3)
	r.failing(500, 0.1)
	r.run(time.Hour)
	r.want(1)
}

// Pauses of any reason give a baseline: here the operator's.
func TestGuardBaselineOfAnyPause(t *testing.T) {
	r := newReference(t, 1, Guard{Latency: 1.25})
	r.run(2 * time.Minute)
	r.s.SetOff("x", exchange.PauseOff, true)
	r.slower(0.2)
	r.run(30 * time.Minute)
	r.s.SetOff("x", exchange.PauseOff, false)
	r.slower(0.5) // fast for the start, slow against the time without replay
	r.run(10 * time.Second)
	r.want(1)
	if p := r.pauses[0]; p.BaselineMedian > 3*time.Millisecond {
		t.Errorf("baseline %v", p.BaselineMedian)
	}
}

// The baseline is of the last 10 minutes of a long pause, not of all of it.
func TestGuardBaselineIsTheLatest(t *testing.T) {
	r := newReference(t, 1, Guard{Latency: 1.25})
	r.s.SetOff("x", exchange.PauseOff, true)
	r.run(time.Hour)
	r.slower(3)
	r.run(11 * time.Minute)
	r.s.SetOff("x", exchange.PauseOff, false)
	r.run(10 * time.Minute)
	r.want(0)
}

func TestGuardNeedsEnoughExchanges(t *testing.T) {
	for _, c := range []struct{ base, n, pauses int }{{20, 20, 1}, {20, 19, 0}, {19, 1000, 0}, {1000, 19, 0}, {1000, 20, 1}} {
		var pauses []GuardPause
		s := mustNew(t, Config{
			OnPause:     func(p GuardPause) { pauses = append(pauses, p) },
			Experiments: []Experiment{{Name: "x", Routes: []Route{{Path: "/"}}, Guard: Guard{Latency: 1.25}}},
		})
		sh := s.Shard()
		send := func(at int64, n int, ttfb time.Duration) {
			for range n {
				h := head("GET", "/")
				d := sh.Keep(h)
				sh.Completed(&d, exchange.DoubtNone, CompletedInfo{Time: at, TTFB: int64(ttfb), Status: 200})
			}
		}
		send(start+10*second, c.base, 10*time.Millisecond)
		send(start+100*second, c.n, 20*time.Millisecond)
		sh.Tick(start + 110*second)
		if len(pauses) != c.pauses {
			t.Errorf("baseline of %d, window of %d: %+v, want %d pauses", c.base, c.n, pauses, c.pauses)
		}
	}
}

// A single error, or a few slow answers among 20, are chance.
func TestGuardForgivesChance(t *testing.T) {
	base := &times{}
	for range 1000 {
		base.add(10e6, false)
	}
	window := func(n, slow, failed int) *times {
		w := &times{}
		for i := range n {
			ttfb := int64(10e6)
			if i < slow {
				ttfb = 100e6
			}
			w.add(ttfb, i < failed)
		}
		return w
	}
	g := &Guard{Latency: 1.25, Errors: Rate{50}}
	for _, c := range []struct {
		n, slow, failed int
		want            GuardReason
	}{
		{20, 0, 1, 0},
		{20, 0, 3, GuardErrors},
		{20, 14, 0, 0},
		{20, 18, 0, GuardLatency},
		{10_000, 5_100, 0, 0},
		{10_000, 5_200, 0, GuardLatency},
		{10_000, 0, 90, 0}, // the baseline's share may be 0.4 %
		{10_000, 0, 125, GuardErrors},
		{20, 20, 20, GuardLatency},
	} {
		if got := g.exceeded(window(c.n, c.slow, c.failed), base); got != c.want {
			t.Errorf("%d slow and %d failed of %d: %v, want %v", c.slow, c.failed, c.n, got, c.want)
		}
	}
	// 55 of 100 answers of the baseline took 10 ms, the others 20 ms: its median
	// may as well be 20 ms.
	wavering := &times{}
	for i := range 100 {
		wavering.add([]int64{10e6, 20e6}[i/55], false)
	}
	slow := &times{}
	for range 100 {
		slow.add(20e6, false)
	}
	if got := g.exceeded(slow, wavering); got != 0 {
		t.Errorf("20 ms against a median of 10 to 20 ms: %v", got)
	}
	if got := (&Guard{}).exceeded(window(20, 20, 20), base); got != 0 {
		t.Errorf("switched off: %v", got)
	}
	if GuardLatency.String() != "latency" || GuardErrors.String() != "errors" {
		t.Error("words of the reasons")
	}
}

// Only exchanges of the experiment's routes count, replayed or not, and not the
// agent's own.
func TestGuardCountsItsRoutes(t *testing.T) {
	r := newReference(t, 1, Guard{Latency: 1.25})
	r.run(time.Minute)
	r.slower(10)
	r.target = "/elsewhere"
	r.run(time.Minute)
	r.want(0)
	r.target = "/users/logout" // excluded: never replayed, but the reference's
	r.run(10 * time.Second)
	r.want(1)
	n := r.s.experiments[0].guard.first.n
	if n != 50*60 {
		t.Errorf("the baseline holds %d exchanges", n)
	}
}

func TestGuardIgnoresOwnTraffic(t *testing.T) {
	r := newReference(t, 1, Guard{Latency: 1.25})
	r.run(time.Minute)
	sh := r.shards[0]
	for i := range 100 {
		h := head("GET", "/users/1", "X-Shadow-Test-Role", "candidate")
		h.Time = r.now + int64(i)
		d := sh.Keep(h)
		sh.Completed(&d, exchange.DoubtNone, CompletedInfo{Time: h.Time, TTFB: second, Status: 500})
	}
	sh.Tick(r.now + 10*second)
	r.want(0)
}

// A shard without traffic does not hold up the verdict when it is ticked, and
// does for a window when it is not.
func TestGuardWithIdleShards(t *testing.T) {
	for _, c := range []struct {
		tick bool
		want int
	}{{true, 1}, {false, 0}} {
		r := newReference(t, 2, Guard{Latency: 1.25})
		r.run(time.Minute)
		r.tick = c.tick
		r.slower(3)
		busy := r.shards[:1]
		all := r.shards
		r.shards = busy
		r.run(10 * time.Second)
		for _, sh := range all {
			if c.tick {
				sh.Tick(r.now)
			}
		}
		r.want(c.want)
		r.run(11 * time.Second)
		r.want(1)
	}
}

func TestGuardSurvivesAClockSetBack(t *testing.T) {
	r := newReference(t, 2, Guard{Latency: 1.25})
	r.run(2 * time.Minute)
	r.slower(3)
	r.run(10 * time.Second)
	r.want(1)
	r.now -= 3600 * second
	r.steady()
	n := r.kept["selected"]
	r.run(10 * time.Minute)
	if got := r.kept["selected"] - n; got != 10*60*50 {
		t.Errorf("an hour back, %d are selected", got)
	}
	r.want(1)
	r.slower(3)
	r.run(20 * time.Second)
	r.want(2)
}

func TestTimesAgainstSorting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Float64Range(0, 22), 1, 200).Draw(t, "log of us")
		var w times
		var ns []float64
		for _, l := range list {
			d := int64(math.Exp(l) * 1e3)
			ns = append(ns, float64(d))
			w.add(d, false)
		}
		slices.Sort(ns)
		median := ns[(len(ns)-1)/2]
		got := float64(bucketTop(w.median()))
		if median < 500e9 && (got < median*0.999-1 || got > median*1.021+1001) {
			t.Fatalf("median %v, want %v within 2%%", got, median)
		}
		limit := rapid.SampledFrom(ns).Draw(t, "limit")
		above, surely := 0, 0
		for _, d := range ns {
			if d > limit {
				above++
			}
			if d > limit*1.021+1001 && d < 500e9 {
				surely++
			}
		}
		if n := w.above(limit); n > above || n < surely {
			t.Fatalf("above %v: %d, want %d to %d", limit, n, surely, above)
		}
	})
}

func TestBucketOf(t *testing.T) {
	for _, c := range []struct {
		ns   float64
		want int
	}{{math.Inf(-1), 0}, {-5, 0}, {0, 0}, {1000, 0}, {1001, 1}, {1020, 1}, {1021, 2}, {1e6, 349}, {1e18, guardBuckets - 1}, {math.NaN(), 0}} {
		if got := bucketOf(c.ns); got != c.want {
			t.Errorf("bucketOf(%v) = %d, want %d", c.ns, got, c.want)
		}
	}
}

// The tables against the formula, at every place where it turns and around it.
func TestBucketOfTime(t *testing.T) {
	check := func(ns int64) {
		if got, want := bucketOfTime(ns), bucketOf(float64(ns)); got != want {
			t.Errorf("bucketOfTime(%d) = %d, want %d", ns, got, want)
		}
	}
	for i := range guardBuckets {
		for d := int64(-2); d <= 2; d++ {
			check(int64(math.Exp(float64(i)/perLogStep)*1e3) + d)
		}
	}
	for octave := range 63 {
		for cell := int64(64); cell < 128; cell++ {
			for d := int64(-1); d <= 1; d++ {
				check(cell<<octave>>6 + d)
			}
		}
	}
	check(math.MinInt64)
	check(math.MaxInt64)
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.Int64Range(0, 1<<42).Draw(t, "ns") >> rapid.IntRange(0, 41).Draw(t, "shift")
		if got, want := bucketOfTime(ns), bucketOf(float64(ns)); got != want {
			t.Fatalf("bucketOfTime(%d) = %d, want %d", ns, got, want)
		}
	})
}

// binomialTail against exact sums.
func TestBinomialTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "n")
		k := rapid.IntRange(0, n).Draw(t, "k")
		num := rapid.Int64Range(1, 999).Draw(t, "p in thousandths")
		p := float64(num) / 1000
		got := binomialTail(k, n, p)
		if k == 0 || float64(k) <= float64(n)*p {
			if got != 1 {
				t.Fatalf("not above what is expected, but %v", got)
			}
			return
		}
		want := new(big.Rat)
		for i := k; i <= n; i++ {
			term := new(big.Int).Binomial(int64(n), int64(i))
			term.Mul(term, new(big.Int).Exp(big.NewInt(num), big.NewInt(int64(i)), nil))
			term.Mul(term, new(big.Int).Exp(big.NewInt(1000-num), big.NewInt(int64(n-i)), nil))
			want.Add(want, new(big.Rat).SetFrac(term, new(big.Int).Exp(big.NewInt(1000), big.NewInt(int64(n)), nil)))
		}
		if w, _ := want.Float64(); math.Abs(got-w) > 1e-6*w+1e-300 {
			t.Fatalf("tail(%d, %d, %v) = %v, want %v", k, n, p, got, w)
		}
	})
	if got := binomialTail(500_500, 1_000_000, 0.5); math.Abs(got-0.1588) > 0.001 {
		t.Errorf("half a million and 500 of a million: %v", got)
	}
	if binomialTail(5, 10, 1) != 1 {
		t.Error("a certain event is not exceeded")
	}
}
