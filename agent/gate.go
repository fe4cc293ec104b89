package agent

import (
	"bytes"
	"context"

	"golang.org/x/sync/semaphore"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// gate bounds the comparisons of the whole agent that run at once: in number,
// because more than there are CPUs end no sooner and keep the readers from
// theirs, and in memory. Those that wait hold their bodies, which replay.Memory
// bounds, and their place in flight; so what is too much is shed. They are let in
// in order, and the largest have it to themselves.
type gate struct {
	limit int64 // bytes
	least int64 // what each takes, so that no more than the number fit
	free  *semaphore.Weighted
}

// newGate makes a gate for so many bytes and comparisons.
func newGate(limit int64, number int) *gate {
	return &gate{limit: limit, least: (limit + int64(number) - 1) / int64(number), free: semaphore.NewWeighted(limit)}
}

// enter waits for room, and gives what to leave with. What costs nothing does not
// wait.
func (g *gate) enter(cost int64) (taken int64) {
	if cost == 0 {
		return 0
	}
	taken = min(max(cost, g.least), g.limit)
	// Without a deadline the error is always nil.
	_ = g.free.Acquire(context.Background(), taken)
	return taken
}

// leave gives back what enter took.
func (g *gate) leave(taken int64) { g.free.Release(taken) }

const (
	// worstComparison is what two bodies of the most that package diff decodes
	// and takes apart cost it, in bytes; see diff.RuleConfig.MaxValues.
	worstComparison = 150 << 20
	// costPerByte is the same for a byte of JSON: a value has two or more, and
	// takes up to 60.
	costPerByte = 32
)

// comparisonCost estimates, from above, what a comparison takes beside the
// bodies themselves: nothing when these are the same bytes, as most are.
func comparisonCost(a, b *exchange.Response) (n int64) {
	if a == nil || b == nil || bytes.Equal(a.Body.Bytes, b.Body.Bytes) {
		return 0
	}
	for _, r := range []*exchange.Response{a, b} {
		if r.Header.Has("Content-Encoding") {
			return worstComparison
		}
		n += costPerByte * int64(len(r.Body.Bytes))
	}
	return min(n, worstComparison)
}
