package telemetry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Imbalance is a line of the ledger whose two sides differ.
type Imbalance struct {
	Line string `json:"line"`
	// Labels say which part of the line: the experiment, the sink.
	Labels []Label `json:"labels,omitempty"`
	// Word is the name of the left side, Left its number, and From where the
	// number comes from: another line, or the room's own count.
	Word string `json:"word"`
	From string `json:"from"`
	Left uint64 `json:"left"`
	// Right is the sum of the results, InFlight what is to be added to it.
	Right    uint64 `json:"right"`
	InFlight uint64 `json:"in_flight"`
}

// String says what differs by how much.
func (i Imbalance) String() string {
	name := i.Line
	if len(i.Labels) > 0 {
		parts := make([]string, len(i.Labels))
		for n, l := range i.Labels {
			parts[n] = l.Name + "=" + l.Value
		}
		name += "{" + strings.Join(parts, ",") + "}"
	}
	right := i.Right + i.InFlight
	missing := fmt.Sprintf("%d too many", right-i.Left)
	if right < i.Left {
		missing = fmt.Sprintf("%d missing", i.Left-right)
	}
	return fmt.Sprintf("%s: %d %s (%s), but %d by result and %d in flight: %s", name, i.Left, i.Word, i.From, i.Right, i.InFlight, missing)
}

// Balance checks each line of the ledger: the left side must be the sum of the
// results and of what is in flight. The left side is what the line before
// handed on, and where a room counts it by itself that number too.
//
// At rest the answer is exact. While data flows a snapshot is not taken at one
// moment, so a small difference then means nothing.
func Balance(counts []Count) []Imbalance {
	var found []Imbalance
	for i := range lines {
		found = append(found, lines[i].balance(counts)...)
	}
	return found
}

// sums are the numbers of one group of a line.
type sums struct {
	right, inFlight uint64
	// left is the room's own count, plus what is added to the line before.
	left, plus uint64
	hasLeft    bool
}

func (l *line) balance(counts []Count) []Imbalance {
	groups := map[string]*sums{}
	at := func(group string) *sums {
		if groups[group] == nil {
			groups[group] = &sums{}
		}
		return groups[group]
	}
	for i := range counts {
		c := &counts[i]
		if !l.covers(c) {
			continue
		}
		g := at(l.group(c))
		switch {
		case c.Kind == Result:
			g.right += c.N
		case c.Kind == InFlight:
			g.inFlight += c.N
		case l.plus != "" && c.Get("result") == l.plus:
			g.plus += c.N
		default:
			g.left += c.N
			g.hasLeft = true
		}
	}
	// What the line before handed on to a group that counted nothing at all is
	// lost without a trace: the group must show up.
	var handed map[string]uint64
	if l.from != nil {
		handed = l.from.sum(counts)
		for group := range handed {
			if l.from.by != "" || len(l.by) == 0 {
				at(group)
			}
		}
	}
	var found []Imbalance
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		g := groups[group]
		report := func(from string, left uint64) {
			if left != g.right+g.inFlight {
				found = append(found, Imbalance{
					Line: l.name, Labels: l.labels(group), Word: l.left, From: from,
					Left: left, Right: g.right, InFlight: g.inFlight,
				})
			}
		}
		if l.from != nil {
			left := handed[group]
			if l.from.by == "" {
				left = handed[""]
			}
			report("from "+l.from.line, left+g.plus)
		}
		if g.hasLeft {
			report("counted", g.left)
		}
	}
	return found
}

// sum adds up the term for each value of its label.
func (t *term) sum(counts []Count) map[string]uint64 {
	out := map[string]uint64{}
	for i := range counts {
		c := &counts[i]
		if c.Line != t.line || c.Kind != Result || !slices.Contains(t.results, c.Get("result")) {
			continue
		}
		if t.when.Name != "" && c.Get(t.when.Name) != t.when.Value {
			continue
		}
		group := ""
		if t.by != "" {
			group = c.Get(t.by)
		}
		out[group] += c.N
	}
	return out
}
