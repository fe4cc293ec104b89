package verdict

import "math"

// logMixture is the logarithm of the evidence against the share p after x of n:
// ln( B(1+x, 1+n-x) / (p^x (1-p)^(n-x)) ), the likelihood under a share that is
// uniform over [0, 1], divided by that under p. It is a test martingale under p.
// 0 < p < 1.
func logMixture(x, n int64, p float64) float64 {
	return -math.Log(float64(n)+1) - logPMF(x, n, p)
}

// Upper is the largest share that x of n do not speak against, with error a:
// the largest p at which B(1+x, 1+n-x) / (p^x (1-p)^(n-x)) < 1/a. It holds at
// every look at once: the chance that it is ever below the true share is at
// most a, and the same a covers Lower too. 0 <= x <= n, 0 < a < 1. Without any
// pair it is 1.
func Upper(x, n int64, a float64) float64 {
	switch {
	case n <= 0 || x >= n:
		return 1
	case x <= 0:
		// 1 - (a/(n+1))^(1/n)
		return -math.Expm1((math.Log(a) - math.Log(float64(n)+1)) / float64(n))
	}
	limit := -math.Log(a)
	return rising(float64(x)/float64(n), float64(n), func(p float64) float64 { return logMixture(x, n, p) - limit })
}

// Lower is the smallest share that x of n do not speak against, with error a.
// See Upper.
func Lower(x, n int64, a float64) float64 {
	switch {
	case n <= 0 || x <= 0:
		return 0
	case x >= n:
		return math.Exp((math.Log(a) - math.Log(float64(n)+1)) / float64(n))
	}
	// By the logarithm of p: it may be smaller than x/n by orders.
	limit := -math.Log(a)
	f := func(u float64) float64 { return limit - logMixture(x, n, math.Exp(u)) }
	hi := math.Log(float64(x) / float64(n))
	for step := 1 / math.Sqrt(float64(x)); ; step *= 2 {
		lo := hi - step
		if f(lo) < 0 {
			return math.Exp(bisect(lo, hi, f))
		}
		hi = lo
	}
}

// UpperOnce is the upper bound (Clopper and Pearson, one-sided) for one look
// that was fixed beforehand: the p at which at most x of n have the chance a.
// Looked at again and again it is wrong more often than a.
func UpperOnce(x, n int64, a float64) float64 {
	switch {
	case n <= 0 || x >= n:
		return 1
	case x <= 0:
		return -math.Expm1(math.Log(a) / float64(n))
	}
	limit := math.Log(a)
	return rising(float64(x)/float64(n), float64(n), func(p float64) float64 {
		if float64(x) >= float64(n+1)*p {
			return -1 // more than half lies below x, which a never is
		}
		return limit - logPMF(x, n, p) - math.Log(lowerTail(x, n, p))
	})
}

// rising finds where f, which is below 0 at from and rises from there on,
// passes 0 below 1. The search begins at the width that n gives.
func rising(from, n float64, f func(float64) float64) float64 {
	step := math.Sqrt(from*(1-from)/n) + 1/n
	lo := from
	for {
		hi := lo + step
		if hi >= 1 {
			hi = math.Nextafter(1, 0)
			if f(hi) < 0 {
				return 1
			}
			return bisect(lo, hi, f)
		}
		if f(hi) >= 0 {
			return bisect(lo, hi, f)
		}
		lo, step = hi, 2*step
	}
}

// never is Further's answer when no number of pairs is enough.
const never = int64(1) << 50

// Further is the number of further pairs after which Upper is at most limit if
// nothing more diverges; 0 when it is already, and -1 when that is out of reach
// (limit 0).
func Further(x, n int64, limit, a float64) int64 {
	enough := func(m int64) bool { return Upper(x, n+m, a) <= limit }
	if enough(0) {
		return 0
	}
	lo, hi := int64(0), int64(1)
	for !enough(hi) {
		if lo, hi = hi, 2*hi; hi > never {
			return -1
		}
	}
	for hi-lo > 1 {
		if mid := lo + (hi-lo)/2; enough(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}
