package verdict

import "math"

// Logarithms of binomial terms that keep their digits for counts up to 10^9.
// Differences of math.Lgamma would lose them: lgamma(10^9) is 2*10^10. The
// decomposition is that of C. Loader, "Fast and accurate computation of
// binomial probabilities" (2000).

// stirlingTable holds stirling(n) for n < 16, where the series is not exact.
// stirling(0) has no meaning and is never used.
var stirlingTable = func() (t [16]float64) {
	for n := 1; n < len(t); n++ {
		x := float64(n)
		lg, _ := math.Lgamma(x + 1)
		t[n] = lg - (x*math.Log(x) - x + 0.5*math.Log(2*math.Pi*x))
	}
	return t
}()

// stirling is what Stirling's formula lacks: ln n! - (n ln n - n + ln(2 pi n)/2).
func stirling(n float64) float64 {
	if n < float64(len(stirlingTable)) {
		return stirlingTable[int(n)]
	}
	m := 1 / (n * n)
	return (1.0/12 - m*(1.0/360-m*(1.0/1260-m*(1.0/1680-m/1188)))) / n
}

// deviance is x ln(x/m) + m - x, without loss where x is near m.
func deviance(x, m float64) float64 {
	if x == 0 {
		return m
	}
	if math.Abs(x-m) >= 0.1*(x+m) {
		return x*math.Log(x/m) + m - x
	}
	v := (x - m) / (x + m)
	s := (x - m) * v
	e := 2 * x * v
	v *= v
	for j := 1.0; j < 1000; j++ {
		e *= v
		next := s + e/(2*j+1)
		if next == s {
			break
		}
		s = next
	}
	return s
}

// logPMF is the logarithm of the chance of x in n at p: C(n,x) p^x (1-p)^(n-x).
func logPMF(x, n int64, p float64) float64 {
	fx, fn := float64(x), float64(n)
	switch {
	case n == 0:
		return 0
	case x == 0:
		return fn * math.Log1p(-p)
	case x == n:
		return fn * math.Log(p)
	}
	fy := fn - fx
	return stirling(fn) - stirling(fx) - stirling(fy) - deviance(fx, fn*p) - deviance(fy, fn*(1-p)) + 0.5*math.Log(fn/(2*math.Pi*fx*fy))
}

// lowerTail is the chance of at most x in n at p, as a multiple of that of x.
// It needs x < (n+1)p, so that the terms fall; they are summed until they no
// longer matter, at most some multiples of sqrt(n).
func lowerTail(x, n int64, p float64) float64 {
	odds := (1 - p) / p
	sum, term := 1.0, 1.0
	for i := x; i > 0; i-- {
		term *= float64(i) / float64(n-i+1) * odds
		sum += term
		if term < sum*1e-17 {
			break
		}
	}
	return sum
}

// bisect gives the place between lo and hi at which f, which rises, passes 0.
func bisect(lo, hi float64, f func(float64) float64) float64 {
	for range 200 {
		mid := lo + (hi-lo)/2
		if mid <= lo || mid >= hi {
			break
		}
		if f(mid) < 0 {
			lo = mid
		} else {
			hi = mid
		}
		if hi-lo < 1e-13*math.Max(math.Abs(lo), math.Abs(hi)) {
			break
		}
	}
	return lo + (hi-lo)/2
}
