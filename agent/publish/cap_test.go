package publish

import (
	"fmt"
	"testing"
	"time"
)

// The counts were computed with Python's hashlib.
func TestKeepVectors(t *testing.T) {
	count := func(hundredths uint32) (n int) {
		for i := range 100_000 {
			if keep("publish", fmt.Sprintf("ex-%d", i), hundredths) {
				n++
			}
		}
		return n
	}
	for hundredths, want := range map[uint32]int{0: 0, 100: 959, 250: 2440, 10_000: 100_000} {
		if got := count(hundredths); got != want {
			t.Errorf("rate %d: kept %d of ex-0..ex-99999, want %d", hundredths, got, want)
		}
	}
	// v mod 100 and (v / 100) mod 100 of these are 16 22, 83 10, 32 60.
	for id, c := range map[string]struct{ above, below uint32 }{
		"ee0c0aeaebca50d0": {1623, 1622}, "ee0c0aeaebca50d1": {8311, 8310}, "ee0c0aeaebca50d2": {3261, 3260},
	} {
		if !keep("publish", id, c.above) || keep("publish", id, c.below) {
			t.Errorf("%s is not kept from rate %d on", id, c.above)
		}
	}
}

func newLimiter(first int, then uint32) *limiter {
	return &limiter{first: first, then: then, routes: map[routeKey]*routeTable{}}
}

// id14 is kept at 1 %: v mod 100 of 14 as 16 hex digits is 0.
const id14 = "000000000000000e"

func TestLimiter(t *testing.T) {
	l := newLimiter(3, 100)
	admit := func(id string, at time.Time, fingerprints ...string) string {
		w, ok := l.admit("e", "/r", id, fingerprints, at)
		return fmt.Sprintf("%v %v", w, ok)
	}
	steps := []struct {
		id   string
		at   time.Time
		fp   []string
		want string
	}{
		{"a", at, []string{"f"}, "1 true"},
		{"a", at, []string{"f"}, "1 true"},
		{"a", at, []string{"f", "g"}, "1 true"}, // the third of f, the first of g
		{"a", at, []string{"f"}, "0 false"},
		{id14, at, []string{"f"}, "100 true"}, // the sampled share
		{"a", at, []string{"f", "g"}, "1 true"},
		{"a", at, []string{"g"}, "1 true"}, // the third of g
		{"a", at, []string{"f", "g"}, "0 false"},
		{"a", at.Add(55 * time.Minute), []string{"f"}, "0 false"},
		{"a", at.Add(56 * time.Minute), []string{"f"}, "1 true"},  // 13:00:05
		{"a", at.Add(55 * time.Minute), []string{"f"}, "1 true"},  // a late one counts there
		{"a", at.Add(57 * time.Minute), []string{"f"}, "1 true"},  // the third
		{"a", at.Add(58 * time.Minute), []string{"f"}, "0 false"}, //
		{"a", at.Add(-5 * time.Hour), []string{"f"}, "1 true"},    // another file
	}
	for i, s := range steps {
		if got := admit(s.id, s.at, s.fp...); got != s.want {
			t.Errorf("step %d: %s, want %s", i, got, s.want)
		}
	}
	// Other routes and experiments have their own counts.
	if w, ok := l.admit("e", "/other", "a", []string{"f"}, at); !ok || w != 1 {
		t.Error("another route shares the count")
	}
	if w, ok := l.admit("e2", "/r", "a", []string{"g"}, at); !ok || w != 1 {
		t.Error("another experiment shares the count")
	}
}

func TestLimiterWithoutThen(t *testing.T) {
	l := newLimiter(1, 0)
	l.admit("e", "/r", id14, []string{"f"}, at)
	if _, ok := l.admit("e", "/r", id14, []string{"f"}, at); ok {
		t.Error("published beyond the first with a share of 0")
	}
	l = newLimiter(-1, 0)
	for range 100 {
		if w, ok := l.admit("e", "/r", "a", []string{"f"}, at); !ok || w != 1 {
			t.Fatal("no limit, and still suppressed")
		}
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := newLimiter(2, 0)
	n := 0
	for i := range 10_000 {
		if _, ok := l.admit("e", "/r", "a", []string{fmt.Sprint("f", i)}, at); ok {
			n++
		}
	}
	table := l.routes[routeKey{"e", "/r"}]
	if len(table.counts) != maxLive {
		t.Errorf("%d fingerprints live, want %d", len(table.counts), maxLive)
	}
	if n != maxLive+2 { // the others share the two of "other"
		t.Errorf("%d published, want %d", n, maxLive+2)
	}
	// Two hours later none of them is live any more.
	later := at.Add(2 * time.Hour)
	for i := range 3 {
		if _, ok := l.admit("e", "/r", "a", []string{fmt.Sprint("new", i)}, later); !ok {
			t.Error("a new fingerprint has no place of its own after two hours")
		}
	}
	if len(table.counts) != 3 {
		t.Errorf("%d fingerprints live, want 3", len(table.counts))
	}
}

// The weights make up for what was suppressed: the sum over many exchanges is
// near their number.
func TestWeightsAreUnbiased(t *testing.T) {
	l := newLimiter(20, 100)
	sum := 0.0
	const n = 200_000
	for i := range n {
		if w, ok := l.admit("e", "/r", fmt.Sprintf("%016x", i), []string{"f"}, at); ok {
			sum += w
		}
	}
	if sum < n*0.93 || sum > n*1.07 { // 4.5 standard deviations
		t.Errorf("the weights sum to %.0f of %d", sum, n)
	}
}

func TestFloorHour(t *testing.T) {
	for s, want := range map[int64]int64{0: 0, 3599: 0, 3600: 1, -1: -1, -3600: -1, -3601: -2} {
		if got := floorHour(time.Unix(s, 0)); got != want {
			t.Errorf("%d s: hour %d, want %d", s, got, want)
		}
	}
}

func BenchmarkAdmit(b *testing.B) {
	l := newLimiter(20, 100)
	fp := []string{"0123456789abcdef", "fedcba9876543210"}
	b.ReportAllocs()
	for b.Loop() {
		l.admit("e", "/r", "000000000000000f", fp, at)
	}
}
