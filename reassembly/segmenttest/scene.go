package segmenttest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Scene is a conversation and how it came to the tap.
type Scene struct {
	*Conversation
	// Whole is what was sent, Segs what was captured.
	Whole, Segs []Segment
	Path        Path
	MSS         int
	Wrap        Part     // the part with the sequence number 0, "" for any
	By          []string // the mutations
}

// Stage writes a conversation and lets it go over the network.
func Stage(r *rand.Rand, m Model) *Scene {
	s := &Scene{MSS: RandomMSS(r), Path: Path(r.IntN(2) == 0)}
	s.Conversation = m.Write(r, s.MSS < 100)
	isn := RandomISN(r)
	if r.IntN(2) == 0 {
		isn, s.Wrap = WrapISN(r, s.Conversation)
	}
	s.Whole = Cut(r, s.Conversation, s.MSS, isn)
	s.Capture(r, s.Whole)
	return s
}

// Capture lets segments go over the network to the tap.
func (s *Scene) Capture(r *rand.Rand, sent []Segment) {
	all := File()
	if s.Path == Live {
		all = Network()
	}
	s.Segs, s.By = Mutate(r, sent, all)
	Stamp(r, s.Segs, []int64{10_000, 1_000_000, 20_000_000}[r.IntN(3)])
}

func (s *Scene) String() string {
	return fmt.Sprintf("%s, MSS %d, wrap in %q, pipelined %v, %s", s.Path, s.MSS, s.Wrap, s.Pipelined, strings.Join(s.By, ", "))
}

// Same says whether two lists have the same lines in any order.
func Same(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// Compare gives the indices of the lines of want that got has not, and the
// lines that got has besides. An empty line of want is in neither.
func Compare(got, want []string) (missing []int, besides []string) {
	left := map[string]int{}
	for _, g := range got {
		left[g]++
	}
	for x, w := range want {
		if w == "" {
			continue
		}
		if left[w]--; left[w] < 0 {
			missing = append(missing, x)
		}
	}
	for g, n := range left {
		if n > 0 {
			besides = append(besides, g)
		}
	}
	return missing, besides
}
