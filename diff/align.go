package diff

import "slices"

// maxAlign bounds the steps that one alignment takes, so that two bodies that
// have little in common cost no more than some tens of milliseconds.
const maxAlign = 1 << 23

// aligner finds what two sequences have in common, in linear space: E. Myers,
// An O(ND) Difference Algorithm and Its Variations, section 4b.
type aligner struct {
	a, b []uint64
	// left holds the steps that may still be taken. At 0 what lies between the
	// matches that were found has no partner.
	left              int
	forward, backward []int
	match             func(i, j int)
}

// align gives for each element of a the index of its partner in b, or -1. The
// partners are equal and in order.
func align(a, b []uint64) []int32 {
	pair := make([]int32, len(a))
	for i := range pair {
		pair[i] = -1
	}
	lo, hi := 0, 0
	for lo < min(len(a), len(b)) && a[lo] == b[lo] {
		pair[lo] = int32(lo)
		lo++
	}
	for lo+hi < min(len(a), len(b)) && a[len(a)-1-hi] == b[len(b)-1-hi] {
		pair[len(a)-1-hi] = int32(len(b) - 1 - hi)
		hi++
	}
	// What only one side has takes no part: it can have no partner.
	atA, atB := shared(a, b, lo, hi), shared(b, a, lo, hi)
	m := aligner{left: maxAlign, match: func(i, j int) { pair[atA[i]] = atB[j] }}
	for _, i := range atA {
		m.a = append(m.a, a[i])
	}
	for _, j := range atB {
		m.b = append(m.b, b[j])
	}
	m.box(0, len(m.a), 0, len(m.b))
	return pair
}

// shared lists the indexes in a, without lo at the beginning and hi at the end,
// of the elements that b has there too.
func shared(a, b []uint64, lo, hi int) []int32 {
	if lo+hi >= len(a) || lo+hi >= len(b) {
		return nil
	}
	has := make(map[uint64]struct{}, len(b)-lo-hi)
	for _, x := range b[lo : len(b)-hi] {
		has[x] = struct{}{}
	}
	var at []int32
	for i := lo; i < len(a)-hi; i++ {
		if _, ok := has[a[i]]; ok {
			at = append(at, int32(i))
		}
	}
	return at
}

// box aligns a[a0:a1] with b[b0:b1].
func (m *aligner) box(a0, a1, b0, b1 int) {
	for a0 < a1 && b0 < b1 && m.a[a0] == m.b[b0] {
		m.match(a0, b0)
		a0, b0 = a0+1, b0+1
	}
	for a0 < a1 && b0 < b1 && m.a[a1-1] == m.b[b1-1] {
		a1, b1 = a1-1, b1-1
		m.match(a1, b1)
	}
	if a0 == a1 || b0 == b1 {
		return
	}
	x, y, n, ok := m.middle(m.a[a0:a1], m.b[b0:b1])
	if !ok {
		return
	}
	m.box(a0, a0+x, b0, b0+y)
	for k := range n {
		m.match(a0+x+k, b0+y+k)
	}
	m.box(a0+x+n, a1, b0+y+n, b1)
}

// outside marks a diagonal on which no point can be reached.
const outside = -1 << 40

// middle finds the run of n matches from a[x] and b[y] on, n may be 0, that
// lies in the middle of a shortest edit script.
func (m *aligner) middle(a, b []uint64) (x, y, n int, ok bool) {
	la, lb := len(a), len(b)
	delta := la - lb
	odd := delta&1 != 0
	most := (la + lb + 1) / 2
	// Index k of a diagonal is k+most+1.
	size := 2*most + 3
	m.forward, m.backward = slices.Grow(m.forward[:0], size)[:size], slices.Grow(m.backward[:0], size)[:size]
	f, r, zero := m.forward, m.backward, most+1
	for d := 0; d <= most; d++ {
		if m.left -= 2 * (d + 1); m.left < 0 {
			m.left = 0
			return 0, 0, 0, false
		}
		for k := -d; k <= d; k += 2 {
			x0 := furthest(f[zero+k-1:zero+k+2], d, k, la, lb)
			x := x0
			for x >= 0 && x < la && x-k < lb && a[x] == b[x-k] {
				x++
			}
			f[zero+k] = x
			m.left -= max(x-x0, 0)
			// The diagonal as seen from the other end.
			if o := delta - k; odd && x >= 0 && -d < o && o < d && r[zero+o] >= 0 && x+r[zero+o] >= la {
				return x0, x0 - k, x - x0, true
			}
		}
		for k := -d; k <= d; k += 2 {
			x0 := furthest(r[zero+k-1:zero+k+2], d, k, la, lb)
			x := x0
			for x >= 0 && x < la && x-k < lb && a[la-1-x] == b[lb-1-(x-k)] {
				x++
			}
			r[zero+k] = x
			m.left -= max(x-x0, 0)
			if o := delta - k; !odd && x >= 0 && -d <= o && o <= d && f[zero+o] >= 0 && x+f[zero+o] >= la {
				return la - x, lb - (x - k), x - x0, true
			}
		}
	}
	return 0, 0, 0, false
}

// furthest is where diagonal k begins with d edits, given the furthest points
// of its neighbours below and above with one edit less: v[0] and v[2].
func furthest(v []int, d, k, la, lb int) int {
	if d == 0 {
		return 0
	}
	x := outside
	if k > -d && v[0] >= 0 && v[0] < la {
		x = v[0] + 1
	}
	if k < d && v[2] > x && v[2]-k <= lb {
		x = v[2]
	}
	return x
}
