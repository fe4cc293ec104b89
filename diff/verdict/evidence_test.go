package verdict

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Max(math.Abs(want), 1e-300)) {
		t.Errorf("%s: %.12g, want %.12g", what, got, want)
	}
}

func TestEvidenceVectors(t *testing.T) {
	for _, c := range []struct {
		b, d int64
		want float64
	}{{0, 0, 1}, {1, 0, 1.5}, {8, 0, 56.778}, {0, 8, 0.1111}, {20, 5, 48.52}, {60, 40, 1.784}} {
		near(t, fmt.Sprintf("E(%d,%d)", c.b, c.d), math.Exp(LogEvidence(c.b, c.d)), c.want, 4e-4)
	}
}

// exactLogEvidence is the sum as it stands, in integers.
func exactLogEvidence(b, d int64) float64 {
	n := b + d
	sum, c := new(big.Int), new(big.Int)
	for k := int64(0); k <= b; k++ {
		sum.Add(sum, c.Binomial(n+1, k))
	}
	down := new(big.Int).Mul(big.NewInt(n+1), c.Binomial(n, b))
	f := new(big.Float).Quo(new(big.Float).SetInt(sum), new(big.Float).SetInt(down))
	m := new(big.Float)
	exp := f.MantExp(m)
	mf, _ := m.Float64()
	return math.Log(mf) + float64(exp)*math.Ln2
}

func TestEvidenceIsExact(t *testing.T) {
	check := func(b, d int64) {
		got, want := LogEvidence(b, d), exactLogEvidence(b, d)
		if math.Abs(got-want) > 1e-12*(1+math.Abs(want)) {
			t.Errorf("ln E(%d,%d): %.17g, want %.17g", b, d, got, want)
		}
	}
	for b := int64(0); b < 40; b++ {
		for d := int64(0); d < 40; d++ {
			check(b, d)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 12 {
		check(r.Int64N(800), r.Int64N(800))
	}
}

// E of the mean of the two next states is E now: a martingale at 1/2. This ties
// values of any size to each other.
func TestEvidenceIsAMartingale(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, size := range []int64{10, 1e3, 1e5, 1e7, 1e9} {
		for range 40 {
			b := r.Int64N(size/2) + 1
			d := min(size-b, max(0, b+int64(3*math.Sqrt(float64(size))*r.NormFloat64())))
			if r.IntN(8) == 0 {
				d = r.Int64N(size / 2)
			}
			now, up, down := LogEvidence(b, d), LogEvidence(b+1, d), LogEvidence(b, d+1)
			if mean := (math.Exp(up-now) + math.Exp(down-now)) / 2; math.Abs(mean-1) > 1e-10+1e-15*math.Abs(now) {
				t.Errorf("E(%d,%d): the mean of the next two is %.15g of it", b, d, mean)
			}
		}
	}
	// At equal counts E is 2^(n+1) B(b+1,b+1) / 2, by symmetry.
	for _, b := range []int64{1e3, 1e6, 5e8} {
		n := float64(2 * b)
		want := 0.5*math.Log(math.Pi*n/2) - math.Log(n+1) + 1/(4*n)
		if got := LogEvidence(b, b); math.Abs(got-want) > 1e-6 {
			t.Errorf("ln E(%d,%d): %.12g, want %.12g", b, b, got, want)
		}
	}
}

func TestThreshold(t *testing.T) {
	near(t, "threshold of the first", Threshold(1, 0.05), 32.8987, 1e-5)
	near(t, "threshold of the tenth", Threshold(10, 0.05), 3289.87, 1e-5)
	sum := 0.0
	for i := 1; i < 1e6; i++ {
		sum += 1 / Threshold(i, 0.05)
	}
	near(t, "sum of the inverses", sum, 0.05, 1e-5)
}

// The chance that b units of a defect are enough: the table of expected power
// at a defect of 1 %.
func TestExpectedPower(t *testing.T) {
	for _, c := range []struct {
		n, order int64
		want     float64
	}{{1000, 1, 0.78}, {1000, 10, 0.08}, {1000, 100, 0.001}, {3000, 1, 1}, {3000, 10, 0.999}, {3000, 100, 0.95}} {
		need := int64(0)
		for LogEvidence(need, 0) < math.Log(Threshold(int(c.order), 0.05)) {
			need++
		}
		power := 1.0
		for x := int64(0); x < need; x++ {
			power -= math.Exp(logPMF(x, c.n, 0.01))
		}
		if math.Abs(power-c.want) > 0.006 {
			t.Errorf("%d paired requests, fingerprint %d: %.4f, want %.3f (needs %d units)", c.n, c.order, power, c.want, need)
		}
	}
}

func TestUnitExcess(t *testing.T) {
	// No units at all: between the largest shares that none of n allow.
	low, high := unitExcess(0, 0, 10_000, 0.05)
	near(t, "high of nothing", high, Upper(0, 10_000, 0.025), 1e-9)
	near(t, "low of nothing", low, -Upper(0, 10_000, 0.025), 1e-9)
	low, high = unitExcess(40, 10, 10_000, 0.05)
	if !(low > 0 && low < 0.003 && high > 0.003 && high < 0.01) {
		t.Errorf("40 and 10 of 10,000: %v to %v, must hold 0.3 %%", low, high)
	}
	low2, high2 := unitExcess(10, 40, 10_000, 0.05)
	near(t, "turned around", low2, -high, 1e-9)
	near(t, "turned around", high2, -low, 1e-9)
}

func BenchmarkLogEvidence(b *testing.B) {
	for _, n := range []int64{100, 1e4, 1e6, 1e9} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				LogEvidence(n/2+1, n-n/2)
			}
		})
	}
}
