package verdict

import "math"

// LogEvidence is the natural logarithm of the evidence that the candidate
// differs more often than the control, after b units for the candidate and d
// for the control. With n = b + d it is the uniform mixture over [1/2, 1]
// against 1/2:
//
//	E(b,d) = sum over k=0..b of C(n+1,k), divided by ((n+1) * C(n,b))
//
// Vectors: E(0,0) = 1, E(1,0) = 1.5, E(8,0) = 56.778, E(0,8) = 0.1111,
// E(20,5) = 48.52, E(60,40) = 1.784. Under a null share of at most 1/2 it is a
// supermartingale: it may be watched.
func LogEvidence(b, d int64) float64 {
	if b <= d {
		// The terms divided by C(n,b): 1/(d+1) times 1, b/(d+2), ...
		return math.Log(lowerTail(b, b+d+1, 0.5)) - math.Log(float64(d)+1)
	}
	// All of 2^(n+1) but the smaller half.
	n := b + d
	rest := math.Exp(logPMF(d, n+1, 0.5)) * lowerTail(d, n+1, 0.5)
	return math.Ln2 + math.Log1p(-rest) - math.Log(float64(n)+1) - logPMF(b, n, 0.5)
}

// Threshold is the evidence that the t-th fingerprint of an experiment must
// reach, t from 1: pi^2 t^2 / (6 alpha). Its inverses sum to alpha over all t.
func Threshold(t int, alpha float64) float64 {
	return math.Pi * math.Pi * float64(t) * float64(t) / (6 * alpha)
}

// Excess is by how much more often the candidate differs than the control, as a
// share of the paired requests.
type Excess struct {
	// Estimate is (candidate_only - control_only) / paired.
	Estimate float64 `json:"estimate"`
	// Low and High bound it with error alpha at every look.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// unitExcess bounds (b-d)/paired with error a at every look: the share of all
// units that differ, times the excess among them, each at a/2.
func unitExcess(b, d, paired int64, a float64) (low, high float64) {
	n := b + d
	paired = max(paired, n)
	low, high = 2*Lower(b, n, a/2)-1, 2*Upper(b, n, a/2)-1
	most, least := Upper(n, paired, a/2), Lower(n, paired, a/2)
	scale := func(x float64, away, toward float64) float64 {
		if x > 0 {
			return x * away
		}
		return x * toward
	}
	return scale(low, least, most), scale(high, most, least)
}

// excessPrior is the sum of squares at which pairExcess is tightest, about.
const excessPrior = 16

// pairExcess bounds (candidate_only - control_only)/paired with error a at every
// look, where squares is the sum over the units of (candidate_only -
// control_only)^2: the normal mixture of H. Robbins (1970), exact for large sums
// only. It knows what unitExcess does not: that one unit may hold many pairs.
func pairExcess(candidateOnly, controlOnly, squares, paired int64, a float64) (low, high float64) {
	if paired <= 0 {
		return -1, 1
	}
	v := float64(squares) + excessPrior
	width := math.Sqrt(v * math.Log(v/(excessPrior*a*a)))
	mean := float64(candidateOnly - controlOnly)
	return max(-1, (mean-width)/float64(paired)), min(1, (mean+width)/float64(paired))
}
