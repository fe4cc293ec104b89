package telemetry

import (
	"cmp"
	"slices"
	"strings"
)

// Label is a name and a value of few: an experiment, a target, a result, a
// reason, a sink. Never a path or an address.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Kind says which part of a ledger line a Count is.
type Kind uint8

const (
	// Result is one of the named ends, on the right of the line. It has a
	// label "result".
	Result Kind = iota
	// InFlight is a gauge: what has begun and not ended yet. It belongs to the
	// right side of the sum and has no label "result".
	InFlight
	// Left is the left side where a room counts it by itself, like the
	// exchanges that were started; its label "result" is that word.
	Left
)

// Count is one number of the ledger.
type Count struct {
	// Line is the metric's name without shadowtap_ and _total: "replays".
	Line   string
	Labels []Label
	N      uint64
	Kind   Kind
}

// Get returns the value of the label, "" without it.
func (c *Count) Get(label string) string {
	for _, l := range c.Labels {
		if l.Name == label {
			return l.Value
		}
	}
	return ""
}

// Source gives the counts of all rooms as they are now. The caller owns the
// slice.
type Source func() []Count

// Labels makes labels of names and values in turns, for callers' brevity. An
// odd last one is left out.
func Labels(namesAndValues ...string) []Label {
	labels := make([]Label, 0, len(namesAndValues)/2)
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		labels = append(labels, Label{namesAndValues[i], namesAndValues[i+1]})
	}
	return labels
}

// line is one line of the ledger as DESIGN has it.
type line struct {
	name string
	// short is its name in a Ledger where that is another.
	short string
	// by are the labels for each value of which the line balances alone.
	by []string
	// when picks counts by the value of a label; empty picks all.
	when Label
	// left is the name of the left side.
	left string
	// results are the words on the right, shown from zero on.
	results []string
	// from says where the left side comes from: results of another line.
	from *term
	// plus is a word among the Left counts that is added to from.
	plus string
}

// term is a sum of results of a line.
type term struct {
	line    string
	results []string
	when    Label
	// by is the label whose value must be that of the group; empty sums over
	// all.
	by string
}

// InFlightKey is the key of what is in flight in a Ledger.
const InFlightKey = "in_flight"

// The lines of the ledger, in the order of the data's way.
var lines = []line{
	{
		name: "kernel_packets", left: "packets",
		results: []string{"not_tcp", "other_port", "other_direction", "fragment", "unparsable", "captured", "no_payload",
			"own_replay", "not_wanted", "ring_full", "copy_failed", "no_reader", "over_budget"},
	},
	{
		name: "captured_bytes", left: "captured",
		results: []string{"delivered", "duplicate", "other_interface", "malformed", "over_memory"},
	},
	{
		name: "delivered_bytes", left: "delivered",
		results: []string{"parsed", "upgraded", "after_gap", "unparsable", "evicted"},
		from:    &term{line: "captured_bytes", results: []string{"delivered"}},
	},
	{
		name: "exchanges", left: "started",
		results: []string{"complete", "no_request", "no_response", "gap", "too_large", "unparsable", "evicted", "stopped"},
	},
	{
		name: "selection", by: []string{"experiment"}, left: "complete",
		results: []string{"own_traffic", "unmatched", "excluded", "not_replayable", "unsafe", "paused", "ended", "sampled_out", "selected"},
		from:    &term{line: "exchanges", results: []string{"complete"}},
	},
	{
		name: "replays", by: []string{"experiment"}, when: Label{"target", "candidate"}, left: "selected",
		results: []string{"compared", "shed", "rate_limited", "breaker_open", "stopped"},
		from:    &term{line: "selection", results: []string{"selected"}, by: "experiment"},
	},
	{
		name: "replays", short: "control", by: []string{"experiment"}, when: Label{"target", "control"}, left: "control_chosen",
		results: []string{"paired", "failed", "shed"},
	},
	{
		name: "comparisons", by: []string{"experiment"}, left: "compared",
		results: []string{"equal", "ignored", "divergent", "not_comparable"},
		from:    &term{line: "replays", results: []string{"compared"}, when: Label{"target", "candidate"}, by: "experiment"},
	},
	{
		name: "rechecks", by: []string{"experiment"}, left: "rechecked",
		results: []string{"converged", "divergent", "failed", "not_comparable", "shed", "rate_limited", "breaker_open", "stopped"},
	},
	{
		name: "deliveries", by: []string{"sink"}, when: Label{"record", "divergence"}, left: "divergent + not_comparable + recovered",
		results: []string{"acknowledged", "spooled", "suppressed", "dropped"},
		from:    &term{line: "comparisons", results: []string{"divergent", "not_comparable"}},
		plus:    "recovered",
	},
	{
		name: "deliveries", short: "windows", by: []string{"sink"}, when: Label{"record", "window"}, left: "windows",
		results: []string{"acknowledged", "spooled", "suppressed", "dropped"},
	},
}

func (l *line) covers(c *Count) bool {
	return c.Line == l.name && (l.when.Name == "" || c.Get(l.when.Name) == l.when.Value)
}

// group is the part of a line that a count belongs to.
func (l *line) group(c *Count) string {
	values := make([]string, len(l.by))
	for i, name := range l.by {
		values[i] = c.Get(name)
	}
	return strings.Join(values, "\x00")
}

// labels turns a group back into labels.
func (l *line) labels(group string) []Label {
	var labels []Label
	if len(l.by) > 0 {
		for i, value := range strings.Split(group, "\x00") {
			labels = append(labels, Label{l.by[i], value})
		}
	}
	if l.when.Name != "" {
		labels = append(labels, l.when)
	}
	return labels
}

// complete returns the counts with those of equal name and labels summed,
// sorted, and every result of a line that any count belongs to there, from
// zero on. Lines without labels are there always.
func complete(counts []Count) []Count {
	counts = slices.Clone(counts)
	for i := range counts {
		labels := slices.Clone(counts[i].Labels)
		slices.SortFunc(labels, func(a, b Label) int { return cmp.Compare(a.Name, b.Name) })
		counts[i].Labels = labels
	}
	for i := range lines {
		l := &lines[i]
		has := map[string]map[string]bool{}
		if len(l.by) == 0 {
			has[""] = map[string]bool{}
		}
		for j := range counts {
			c := &counts[j]
			if !l.covers(c) {
				continue
			}
			group := l.group(c)
			if has[group] == nil {
				has[group] = map[string]bool{}
			}
			if c.Kind == Result {
				has[group][c.Get("result")] = true
			}
		}
		for group, results := range has {
			for _, result := range l.results {
				if results[result] {
					continue
				}
				labels := append(l.labels(group), Label{"result", result})
				slices.SortFunc(labels, func(a, b Label) int { return cmp.Compare(a.Name, b.Name) })
				counts = append(counts, Count{Line: l.name, Labels: labels})
			}
		}
	}
	slices.SortFunc(counts, compareCounts)
	out := counts[:0]
	for _, c := range counts {
		if n := len(out); n > 0 && compareCounts(out[n-1], c) == 0 {
			out[n-1].N += c.N
			continue
		}
		out = append(out, c)
	}
	return out
}

func compareCounts(a, b Count) int {
	return cmp.Or(
		cmp.Compare(lineOrder(a.Line), lineOrder(b.Line)),
		cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Kind, b.Kind),
		slices.CompareFunc(a.Labels, b.Labels, func(x, y Label) int {
			return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Value, y.Value))
		}),
	)
}

// lineOrder is the place of a line in the ledger, behind all for one that the
// ledger does not know.
func lineOrder(name string) int {
	i := slices.IndexFunc(lines, func(l line) bool { return l.name == name })
	if i < 0 {
		return len(lines)
	}
	return i
}

// Ledger is the short form: for each line its results, summed over experiments,
// targets, sinks and reasons, and what is in flight under InFlightKey where
// something can be. The deliveries are those of divergences; those of window
// records are the line "windows". The replays are those to the candidate; those
// of the control are the line "control".
type Ledger map[string]map[string]uint64

// NewLedger sums the counts. Each result of DESIGN is there, from zero on.
func NewLedger(counts []Count) Ledger {
	ledger := Ledger{}
	for i := range lines {
		l := &lines[i]
		if ledger[l.key()] == nil {
			ledger[l.key()] = map[string]uint64{}
		}
		for _, result := range l.results {
			ledger[l.key()][result] = 0
		}
	}
	for i := range counts {
		c := &counts[i]
		key := c.Line
		for k := range lines {
			if l := &lines[k]; l.short != "" && l.covers(c) {
				key = l.short
			}
		}
		if ledger[key] == nil {
			ledger[key] = map[string]uint64{}
		}
		switch c.Kind {
		case Result:
			ledger[key][c.Get("result")] += c.N
		case InFlight:
			ledger[key][InFlightKey] += c.N
		}
	}
	return ledger
}

// key is the line's name in a Ledger.
func (l *line) key() string { return cmp.Or(l.short, l.name) }
