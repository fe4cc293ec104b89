package verdict

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestBoundVectors(t *testing.T) {
	for _, c := range []struct {
		n    int64
		want float64
	}{{1_000, 0.00986}, {3_000, 0.00366}, {10_000, 0.00122}, {100_000, 0.000145}} {
		got := Upper(0, c.n, 0.05)
		near(t, fmt.Sprintf("nothing of %d", c.n), got, c.want, 4e-3)
		near(t, fmt.Sprintf("nothing of %d, closed form", c.n), got, 1-math.Pow(0.05/float64(c.n+1), 1/float64(c.n)), 1e-9)
	}
	if got := Further(0, 0, 0.001, 0.01); got != 14_157 {
		t.Errorf("clean pairs at the defaults: %d, want 14157", got)
	}
	if got := Further(0, 14_157, 0.001, 0.01); got != 0 {
		t.Errorf("further pairs after 14157 clean ones: %d", got)
	}
	if got := Further(0, 10_000, 0.001, 0.01); got != 4_157 {
		t.Errorf("further pairs after 10000 clean ones: %d", got)
	}
	if got := Further(0, 10, 0, 0.01); got != -1 {
		t.Errorf("further pairs for a limit of 0: %d", got)
	}
	if got := Further(5, 5, 1, 0.01); got != 0 {
		t.Errorf("further pairs for a limit of 1: %d", got)
	}
	near(t, "rule of three", UpperOnce(0, 1000, 0.05), 0.0029912, 1e-4)
	// Clopper and Pearson's, 10 of 100: the usual table.
	near(t, "10 of 100, once", UpperOnce(10, 100, 0.025), 0.1762226, 1e-6)
	near(t, "50 of 100, once", UpperOnce(50, 100, 0.025), 0.6016788, 1e-6)
	if Upper(0, 0, 0.05) != 1 || Lower(0, 0, 0.05) != 0 || UpperOnce(0, 0, 0.05) != 1 || Upper(3, 3, 0.05) != 1 || UpperOnce(3, 3, 0.05) != 1 || Lower(0, 9, 0.05) != 0 {
		t.Error("the ends of the range")
	}
}

// The bounds are roots of the formula, for counts of any size.
func TestBoundsAreRoots(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, size := range []int64{5, 100, 1e4, 1e6, 1e9} {
		for range 50 {
			n := r.Int64N(size) + 2
			x := r.Int64N(n-1) + 1
			if r.IntN(2) == 0 {
				x = min(n-1, 1+r.Int64N(20))
			}
			a := []float64{0.05, 0.01, 0.0001}[r.IntN(3)]
			p := float64(x) / float64(n)
			up, low, once := Upper(x, n, a), Lower(x, n, a), UpperOnce(x, n, a)
			if !(low < p && p < once && once < up) {
				t.Errorf("%d of %d at %g: %g %g %g %g are not in order", x, n, a, low, p, once, up)
			}
			want := math.Log(1 / a)
			for _, root := range []float64{up, low} {
				if root == 0 || root == 1 {
					continue
				}
				// The formula by Lgamma, which is exact for small counts only.
				lb := func(v float64) float64 { g, _ := math.Lgamma(v); return g }
				fx, fn := float64(x), float64(n)
				got := lb(1+fx) + lb(1+fn-fx) - lb(2+fn) - fx*math.Log(root) - (fn-fx)*math.Log1p(-root)
				if math.Abs(got-want) > 1e-6+1e-14*fn*math.Log(fn) {
					t.Errorf("%d of %d at %g: the formula is %g at %g, want %g", x, n, a, got, root, want)
				}
			}
		}
	}
}

// Counted by hand: the tail at the one-look bound is a.
func TestUpperOnceIsARoot(t *testing.T) {
	for _, c := range []struct{ x, n int64 }{{1, 50}, {7, 300}, {100, 250}, {249, 250}} {
		p := UpperOnce(c.x, c.n, 0.01)
		sum := 0.0
		for k := int64(0); k <= c.x; k++ {
			sum += math.Exp(logPMF(k, c.n, p))
		}
		near(t, fmt.Sprintf("%d of %d", c.x, c.n), sum, 0.01, 1e-9)
	}
}

// Upper holds at every look at once, UpperOnce does not.
func TestBoundHoldsAtEveryLook(t *testing.T) {
	runs := sized(400, 4000)
	const p, a, n = 0.02, 0.05, 3000
	r := rand.New(rand.NewPCG(4, 4))
	uppers, onces := make(map[[2]int64]bool), make(map[[2]int64]bool)
	below := func(memo map[[2]int64]bool, bound func(x, n int64, a float64) float64, x, i int64) bool {
		is, known := memo[[2]int64{x, i}]
		if !known {
			is = bound(x, i, a) < p
			memo[[2]int64{x, i}] = is
		}
		return is
	}
	var wrong, wrongOnce int
	for range runs {
		var x int64
		var bad, badOnce bool
		for i := int64(1); i <= n; i++ {
			if r.Float64() < p {
				x++
			}
			if i%10 == 0 { // the looks
				bad = bad || below(uppers, Upper, x, i)
				badOnce = badOnce || below(onces, UpperOnce, x, i)
			}
		}
		if bad {
			wrong++
		}
		if badOnce {
			wrongOnce++
		}
	}
	t.Logf("of %d runs: valid at every look %d wrong, one-look %d wrong", runs, wrong, wrongOnce)
	t.Attr("bound-ever-wrong", rate(wrong, runs))
	t.Attr("one-look-bound-ever-wrong", rate(wrongOnce, runs))
	if float64(wrong) > a*float64(runs) {
		t.Errorf("the bound was below the truth at some look in %d of %d runs", wrong, runs)
	}
	if float64(wrongOnce) < 2*a*float64(runs) {
		t.Errorf("the one-look bound was wrong in %d of %d runs only: the test has no teeth", wrongOnce, runs)
	}
}

func BenchmarkUpper(b *testing.B) {
	for _, n := range []int64{1e4, 1e6, 1e9} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				Upper(n/1000, n, 0.01)
			}
		})
	}
}

func BenchmarkUpperOnce(b *testing.B) {
	for _, n := range []int64{1e4, 1e6, 1e9} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				UpperOnce(n/1000, n, 0.01)
			}
		})
	}
}
