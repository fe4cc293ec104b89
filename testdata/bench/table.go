package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// results are what a run has measured.
type results struct {
	options options
	// tools are those that ran, in the order of the tables.
	tools   []string
	samples []sample
	// idle has percents of a core, one a round.
	idle []float64
}

// of gives the samples of a tool in a cell, by round.
func (r *results) of(tool string, c cell) map[int]sample {
	found := map[int]sample{}
	for _, x := range r.samples {
		if x.tool == tool && x.cell == c {
			found[x.round] = x
		}
	}
	return found
}

// figures are the values of a tool in a cell, one a round. Those that compare
// with none do so within the round, and have a value where none has one.
type figures struct {
	perSecond, perSecondRatio []float64
	p50, p50Ratio             []float64 // microseconds
	tool, reference           []float64 // microseconds an exchange
	// extra is what the reference spends more than in the round's none, and
	// cost is that and what the tool spends; microseconds an exchange.
	extra, cost []float64
	peak        []float64 // MiB
}

func (r *results) figures(tool string, c cell) (f figures) {
	untouched := r.of(none, c)
	samples := r.of(tool, c)
	for _, round := range slices.Sorted(maps.Keys(samples)) {
		x := samples[round]
		if x.answered() == 0 {
			continue // no exchange, nothing to share a cost
		}
		f.perSecond = append(f.perSecond, x.PerSecond)
		f.p50 = append(f.p50, micros(x.P50))
		f.tool = append(f.tool, x.perExchange(x.toolCPU))
		f.reference = append(f.reference, x.perExchange(x.referenceCPU))
		f.peak = append(f.peak, float64(x.peak)/(1<<20))
		u, ok := untouched[round]
		if !ok || u.answered() == 0 || u.PerSecond == 0 || u.P50 == 0 {
			continue
		}
		f.perSecondRatio = append(f.perSecondRatio, x.PerSecond/u.PerSecond)
		f.p50Ratio = append(f.p50Ratio, float64(x.P50)/float64(u.P50))
		extra := x.perExchange(x.referenceCPU) - u.perExchange(u.referenceCPU)
		f.extra = append(f.extra, extra)
		f.cost = append(f.cost, x.perExchange(x.toolCPU)+extra)
	}
	return f
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// median of the values, the mean of the middle two of an even number; NaN of
// none.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// spread is "median (least..most)", or "-" of none.
func spread(values []float64, digits int) string {
	if len(values) == 0 {
		return "-"
	}
	text := func(v float64) string {
		s := strconv.FormatFloat(v, 'f', digits, 64)
		if strings.Trim(s, "-0.") == "" {
			return strings.TrimPrefix(s, "-")
		}
		return s
	}
	if len(values) == 1 {
		return text(values[0])
	}
	return fmt.Sprintf("%s (%s..%s)", text(median(values)), text(slices.Min(values)), text(slices.Max(values)))
}

// remarks names what went wrong in a cell, or is empty.
func (s sample) remarks() string {
	var text string
	for _, n := range []struct {
		n    int
		what string
	}{{s.Wrong, "wrong"}, {s.Reset, "reset"}} {
		if n.n > 0 {
			text += fmt.Sprintf("  %s %d", n.what, n.n)
		}
	}
	for _, word := range slices.Sorted(maps.Keys(s.lost)) {
		text += fmt.Sprintf("  %s %d", word, s.lost[word])
	}
	return text
}

// print writes the tables, the aims and the machine's name.
func (r *results) print(out io.Writer) {
	for _, c := range r.options.cells {
		r.printCell(out, c)
	}
	r.printCurve(out)
	if len(r.idle) > 0 {
		fmt.Fprintf(out, "\nidle: %s attached, no traffic for %v: %s %% of a core\n", shadowtap1, r.options.idle, spread(r.idle, 2))
	}
	fmt.Fprintln(out)
	for _, tool := range r.tools {
		fmt.Fprintf(out, "%-14s  %s\n", tool, about[tool])
	}
	fmt.Fprintf(out, "\nMedian (least..most) of %d rotated rounds of %v; %d connections. Ratios are to %s of the same round.\n"+
		"CPU is microseconds an answered request; +us is what the reference spends more than with %s.\n",
		r.options.rounds, r.options.seconds, r.options.connections, none, none)
	fmt.Fprintf(out, "On %s.\n\nThe aims, as ratios of medians in this run:\n", machine())
	for _, a := range r.aims() {
		fmt.Fprintln(out, a)
	}
}

// printCurve shows what the agent takes by the share that it replays.
func (r *results) printCurve(out io.Writer) {
	rows := [][]string{{"replayed and compared", "agent CPU us"}}
	for _, tool := range curve {
		if f := r.figures(tool, steady); len(f.tool) > 0 {
			rows = append(rows, []string{rates[tool], spread(f.tool, 1)})
		}
	}
	if len(rows) > 2 {
		fmt.Fprintf(out, "\n%s: CPU of the agent by the sample rate\n\n%s", steady, grid(rows))
	}
}

func (r *results) printCell(out io.Writer, c cell) {
	what := "in a closed loop"
	if c.rate > 0 {
		what = strconv.FormatFloat(c.rate, 'f', -1, 64) + " requests/s"
	}
	fmt.Fprintf(out, "\n%s: answers of %d bytes, %s\n\n", c, sizes[c.size], what)
	rows := [][]string{{"tool", "requests/s", "ratio", "p50 us", "ratio", "tool CPU us", "reference CPU us", "+us", "peak MiB", "seen/answered", "lost"}}
	for _, tool := range r.tools {
		if !gets(tool, c) {
			continue
		}
		f := r.figures(tool, c)
		seen, answered, known := 0, 0, false
		var total sample
		for _, x := range r.of(tool, c) {
			seen, answered, known = seen+x.seen, answered+x.answered(), x.seen >= 0
			total.Wrong += x.Wrong
			total.Reset += x.Reset
			if x.lost != nil && total.lost == nil {
				total.lost = map[string]uint64{}
			}
			for word, n := range x.lost {
				total.lost[word] += n
			}
		}
		row := []string{
			tool, spread(f.perSecond, 0), spread(f.perSecondRatio, 2), spread(f.p50, 0), spread(f.p50Ratio, 2),
			spread(f.tool, 1), spread(f.reference, 1), spread(f.extra, 1), spread(f.peak, 0), "-", strings.TrimSpace(total.remarks()),
		}
		if known {
			row[9] = fmt.Sprintf("%d/%d", seen, answered)
		}
		if tool == none {
			row[5], row[8] = "-", "-"
		}
		switch {
		case row[10] != "":
		case total.lost == nil:
			row[10] = "-" // nothing tells
		default:
			row[10] = "0"
		}
		rows = append(rows, row)
	}
	io.WriteString(out, grid(rows))
}

// grid lays rows out as a table that is Markdown too. The first is the title.
func grid(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], len(text))
		}
	}
	line := make([]string, len(widths))
	for i, w := range widths {
		line[i] = strings.Repeat("-", w)
	}
	var b strings.Builder
	for _, row := range slices.Insert(slices.Clone(rows), 1, line) {
		for i, text := range row {
			fmt.Fprintf(&b, "| %-*s ", widths[i], text)
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// aim is a promise and what came of it.
type aim struct {
	text     string
	measured bool
	value    float64
	// limit is the most, or the least, that holds.
	limit float64
	least bool
	more  string
}

func (a aim) holds() bool {
	if a.least {
		return a.value >= a.limit
	}
	return a.value <= a.limit
}

func (a aim) String() string {
	word := "at most"
	if a.least {
		word = "at least"
	}
	limit := fmt.Sprintf("%s %.2f", word, a.limit)
	if !a.measured || math.IsNaN(a.value) || math.IsInf(a.value, 0) {
		return fmt.Sprintf("  -       -  (%s)  %s: not measured", limit, a.text)
	}
	answer := "no "
	if a.holds() {
		answer = "yes"
	}
	return fmt.Sprintf("  %s  %.2f  (%s)  %s%s", answer, a.value, limit, a.text, a.more)
}

// Cells that the aims speak of.
var (
	steady = cell{"4k", 5000}
	closed = cell{"4k", 0}
	large  = cell{"64k", 0}
)

// aims compares the run with what shadowtap promises.
func (r *results) aims() []aim {
	cost := func(own, other string, limit float64) aim {
		ours, theirs := r.figures(own, steady), r.figures(other, steady)
		a := aim{
			text:     fmt.Sprintf("%s: cost of %s, its CPU and what the reference spends more, of that of %s", steady, own, other),
			measured: len(ours.cost) > 0 && len(theirs.cost) > 0, limit: limit,
			value: median(ours.cost) / median(theirs.cost),
		}
		a.more = fmt.Sprintf(" (%.2f of the programs' own CPU alone)", median(ours.tool)/median(theirs.tool))
		return a
	}
	ours, theirs := r.figures(shadowtap1, closed).perSecondRatio, r.figures(tcpdump, closed).perSecondRatio
	list := []aim{
		cost(shadowtap1, goreplay, 0.33),
		{
			text:     fmt.Sprintf("%s: requests/s under %s, of those under %s", closed, shadowtap1, tcpdump),
			measured: len(ours) > 0 && len(theirs) > 0, limit: 1, least: true, value: median(ours) / median(theirs),
		},
		cost(shadowtapAll, nginxMirror, 0.65),
		cost(shadowtapAll, miffy, 0.38),
	}
	all := aim{text: fmt.Sprintf("%s: share of the answered that %s replayed and found equal", steady, shadowtapAll), limit: 1, least: true}
	var equal, answered uint64
	for _, x := range r.of(shadowtapAll, steady) {
		equal, answered = equal+x.equal, answered+uint64(x.answered())
		all.more += x.remarks()
	}
	all.measured, all.value = answered > 0, float64(equal)/float64(answered)
	kept := r.figures(shadowtap1, large).perSecondRatio
	return append(list, all, aim{
		text:     fmt.Sprintf("%s: requests/s under %s, of those with nothing attached", large, shadowtap1),
		measured: len(kept) > 0, limit: 0.9, least: true, value: median(kept),
	}, aim{
		text:     "idle: percent of a core",
		measured: len(r.idle) > 0, limit: 0.5, value: median(r.idle),
	})
}

// faults are what must not be, whatever the machine: an answer that was wrong
// under a tap, an exchange too many, one that is missing and counted nowhere, a
// ledger that does not add up.
func (r *results) faults() (list []string) {
	for _, x := range r.samples {
		if x.lost == nil { // not shadowtap
			continue
		}
		say := func(format string, args ...any) {
			list = append(list, fmt.Sprintf("round %d, %s, %s: ", x.round+1, x.tool, x.cell)+fmt.Sprintf(format, args...))
		}
		if x.Wrong+x.Reset > 0 {
			say("%d answers were wrong and %d requests had none", x.Wrong, x.Reset)
		}
		if x.seen > x.Sent {
			say("%d exchanges of %d requests", x.seen, x.Sent)
		}
		if x.seen < x.answered() && len(x.lost) == 0 {
			say("%d exchanges of %d answered requests, and the ledger does not say what became of the others", x.seen, x.answered())
		}
		for _, i := range x.imbalances {
			say("the ledger does not add up: %s", i)
		}
	}
	return list
}
