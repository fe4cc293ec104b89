package verdict

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucket(t *testing.T) {
	for _, c := range []struct {
		us   float64
		want int
	}{{0, 0}, {1, 0}, {-1, 0}, {0.5, 0}, {1.01, 1}, {1.02, 1}, {1.03, 2}, {2, 36}, {-2, -36}, {1000, 349}, {-1000, -349}, {30e6, 870}} {
		if got := Bucket(c.us); got != c.want {
			t.Errorf("%v us: bucket %d, want %d", c.us, got, c.want)
		}
	}
	if got := BucketOf(math.MaxInt64); got > maxBucket {
		t.Errorf("the longest time is in bucket %d", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Float64Range(-1e9, 1e9).Draw(t, "us")
		i := Bucket(us)
		low, high := edges(i)
		if us < low-math.Abs(low)*1e-12 || us > high+math.Abs(high)*1e-12 {
			t.Fatalf("%v is in bucket %d, from %v to %v", us, i, low, high)
		}
		if m := middle(i); i != 0 && math.Abs(m-us) > 0.0101*math.Abs(us) {
			t.Fatalf("%v is taken for %v", us, m)
		}
		if Bucket(-us) != -i {
			t.Fatalf("the negative of %v is in bucket %d, it in %d", us, Bucket(-us), i)
		}
	})
}

// The interval of a quantile holds the true one, and the value is the sample's.
func TestQuantile(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	outside := 0
	const runs = 300
	for range runs {
		var h Histogram
		var all []float64
		for range 2000 {
			us := 1000 * math.Exp(0.5*r.NormFloat64())
			h.Add(time.Duration(us * 1e3))
			all = append(all, us)
		}
		slices.Sort(all)
		d := newDistribution(h, nil)
		for _, c := range []struct{ q, z float64 }{{0.5, 0}, {0.99, 2.3263479}} {
			got := d.quantile(c.q, 0.05)
			if sample := all[int(math.Ceil(c.q*2000))-1]; math.Abs(got.Value-sample) > 0.0102*sample {
				t.Fatalf("the %v-quantile is %v, of the sample %v", c.q, got.Value, sample)
			}
			if truth := 1000 * math.Exp(0.5*c.z); truth < got.Low || truth > got.High {
				outside++
			}
			if got.Open || got.OpenLow || got.High/got.Low > 2.2 {
				t.Fatalf("the interval of the %v-quantile: %+v", c.q, got)
			}
		}
	}
	if outside > 2*runs*5/100 {
		t.Errorf("the true quantile is outside of %d of %d intervals", outside, 2*runs)
	}
}

func TestQuantileOfFewAndOfCensored(t *testing.T) {
	var h, gaveUp Histogram
	for range 60 {
		h.Add(10 * time.Millisecond)
	}
	if q := newDistribution(h, nil).quantile(0.99, 0.01); !q.Open || q.AtLeast {
		t.Errorf("60 times say how high the 99th percentile is: %+v", q)
	}
	for range 60 {
		gaveUp.Add(2 * time.Second)
	}
	d := newDistribution(h, gaveUp)
	if q := d.quantile(0.99, 0.01); !q.AtLeast || q.Value > 2e6 || q.Value < 1.95e6 || !q.Open {
		t.Errorf("half of the waits were given up after 2 s: %+v", q)
	}
	if q := d.quantile(0.25, 0.01); q.AtLeast || math.Abs(q.Value-10_000) > 100 {
		t.Errorf("the first quartile was measured: %+v", q)
	}
	// What took longer than the shortest wait has no known place.
	h.Add(20 * time.Second)
	if q := newDistribution(h, gaveUp).quantile(1, 0.01); !q.AtLeast || q.Value > 2e6 {
		t.Errorf("%+v", q)
	}
	if q := newDistribution(nil, nil).quantile(0.5, 0.01); !q.Open || !q.OpenLow {
		t.Errorf("a quantile of nothing: %+v", q)
	}
}
