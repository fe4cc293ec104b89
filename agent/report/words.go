package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// The words that text and HTML share.

// percent is a share with three digits.
func percent(share float64) string {
	if x, err := strconv.ParseFloat(strconv.FormatFloat(share*100, 'g', 3, 64), 64); err == nil {
		return strconv.FormatFloat(x, 'f', -1, 64) + " %" // never with an exponent
	}
	return "? %"
}

// upTo is a bound for people: rounded up, so that it stays one.
func upTo(share float64) string {
	if share <= 0 || share >= 1 {
		return percent(min(max(share, 0), 1))
	}
	unit := math.Pow(10, math.Floor(math.Log10(share))-2)
	return percent(min(1, math.Ceil(share/unit-1e-9)*unit))
}

// signed is a relative difference.
func signed(p *float64) string {
	if p == nil {
		return "?"
	}
	s := strconv.FormatFloat(math.Abs(*p)*100, 'f', 1, 64) + " %"
	switch {
	case *p < 0 && s != "0.0 %":
		return "-" + s
	default:
		return "+" + s
	}
}

// count is a number with its thousands apart.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return count(n) + " " + what
}

// micros is a time in microseconds, with three digits.
func micros(us float64) string {
	switch {
	case us < 1e3:
		return fmt.Sprintf("%.0f us", us)
	case us < 1e6:
		return strconv.FormatFloat(us/1e3, 'g', 3, 64) + " ms"
	}
	return strconv.FormatFloat(us/1e6, 'g', 3, 64) + " s"
}

func quantile(q *verdict.Quantile) string {
	switch {
	case q == nil:
		return ""
	case q.Value == 0 && q.Open && q.OpenLow:
		return "?"
	case q.AtLeast:
		return ">= " + micros(q.Value)
	}
	return micros(q.Value)
}

func quantileName(q float64) string { return "p" + strconv.FormatFloat(q*100, 'g', 4, 64) }

// size is a length in bytes.
func size(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}

// span is a stretch of time, with the day once when it is one.
func span(from, to verdict.Time, in *time.Location) string {
	a, b := from.Time().In(in), to.Time().In(in)
	if a.Format(time.DateOnly) == b.Format(time.DateOnly) {
		return a.Format(time.DateTime) + " to " + b.Format(time.TimeOnly) + " " + zone(b)
	}
	return a.Format(time.DateTime) + " to " + b.Format(time.DateTime) + " " + zone(b)
}

func zone(t time.Time) string {
	name, _ := t.Zone()
	return name
}

// span is when the windows were that the document speaks of.
func (d *Document) span() (from, to verdict.Time) {
	for i := range d.Experiments {
		e := &d.Experiments[i]
		if i == 0 || e.First < from {
			from = e.First
		}
		to = max(to, e.Last)
	}
	return from, to
}

// headline is what was found, in one line: the longest of several for which
// there is room.
func (e *Experiment) headline(s *Settings, room int) string {
	var pairs, divergent int64
	for i := range e.Routes {
		pairs += e.Routes[i].Divergent.Of
		divergent += e.Routes[i].Divergent.Count
	}
	share := percent(e.Share) + " diverge"
	switch {
	case pairs == 0:
		return "nothing was compared"
	case divergent == 0:
		share = fmt.Sprintf("0 of %s diverge", count(pairs))
	}
	bound := share + ", at most " + upTo(e.Bound)
	out := bound + " at " + confidence(s)
	if n := e.further(); n > 0 && e.Word == verdict.Insufficient {
		if more := out + fmt.Sprintf("; %s more clean pairs are needed", count(n)); len(more) <= room {
			return more
		}
	}
	if len(out) > room {
		return bound
	}
	return out
}

func confidence(s *Settings) string { return percent(s.Confidence) }

// further is how many clean pairs are asked for, over the routes that decide.
func (e *Experiment) further() (n int64) {
	for i := range e.Routes {
		if r := &e.Routes[i]; !r.Small && r.Word == verdict.Insufficient {
			n = max(n, r.Further)
		}
	}
	return n
}

// title is where and how the answers differ.
func (c *Cause) title() string {
	switch {
	case c.Class == Failed:
		return "candidate failed: " + words(c.Failed)
	case c.Fingerprint.Fingerprint == verdict.OtherFingerprint:
		return "what is beyond 256 ways to differ"
	case c.Example == nil:
		return "no record of it came"
	}
	e := c.Example
	t := words(e.Aspect) + " " + words(e.Kind)
	if e.Path != "" {
		t += " " + e.Path
	}
	return t
}

// words is a word of the records for people.
func words(s string) string { return strings.ReplaceAll(s, "_", " ") }

// name is the fingerprint, or what stands for it.
func (c *Cause) name() string { return c.Fingerprint.Fingerprint }

// counted is the number of causes that count; they are the first.
func (e *Experiment) counted() int {
	n := 0
	for n < len(e.Causes) && e.Causes[n].Counts() {
		n++
	}
	return n
}

// of gives the causes of a class.
func (e *Experiment) of(classes ...verdict.Class) (out []*Cause) {
	for i := range e.Causes {
		if slices.Contains(classes, e.Causes[i].Class) {
			out = append(out, &e.Causes[i])
		}
	}
	return out
}

// controlShare is how often the control has it, of the paired requests.
func (c *Cause) controlShare() float64 {
	if c.Paired == 0 {
		return 0
	}
	return float64(c.Both+c.ControlOnly) / float64(c.Paired)
}

// tally is a list of numbers by name, the largest first, without zeros.
func tally[N int64 | uint64](m map[string]N) string {
	names := slices.Collect(maps.Keys(m))
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	var parts []string
	for _, name := range names {
		if m[name] > 0 {
			parts = append(parts, words(name)+" "+count(int64(m[name])))
		}
	}
	return strings.Join(parts, ", ")
}

// unseen says what was not looked at, in lines.
func (e *Experiment) unseen() (lines []string) {
	u, c := &e.Unseen, &e.Counts
	if u.Count > 0 {
		lines = append(lines, fmt.Sprintf("%s of the requests to be compared (%s); worst case, if all of them diverge: %s", percent(u.Share), tally(u.Buckets), percent(u.WorstCase)))
	} else {
		lines = append(lines, "none of the requests to be compared is missing; worst case: "+percent(u.WorstCase))
	}
	if t := tally(c.NotComparable); t != "" {
		lines = append(lines, "not comparable: "+t)
	}
	if t := tally(map[string]int64{
		"sampled_out": c.SampledOut, "unmatched": c.Unmatched, "excluded": c.Excluded, "not_replayable": c.NotReplayable, "unsafe": c.Unsafe,
		"paused": c.Paused, "ended": c.Ended, "own_traffic": c.OwnTraffic,
	}); t != "" {
		lines = append(lines, "left out on purpose: "+t)
	}
	switch {
	case c.Paired > 0 || c.Divergent == total(c.Failed):
	case c.ControlChosen == 0:
		lines = append(lines, "no control was asked: what two instances of one version differ in too can't be told from a fault, and counts")
	default:
		lines = append(lines, "the control gave no pair for "+plural(c.ControlChosen, "request")+": noise can't be told from a fault, and counts")
	}
	if l := e.untimed(); l != "" {
		lines = append(lines, l)
	}
	if e.SampledKeysOnly {
		lines = append(lines, "the sample is by "+e.SampleBy+": all this speaks of the sampled keys alone")
	}
	return lines
}

// decided says whether there is a route that decides, whose reasons say more than
// those of the experiment.
func (e *Experiment) decided() bool {
	return slices.ContainsFunc(e.Routes, func(r verdict.Route) bool { return !r.Small })
}

// untimed says why there is no table of latencies, "" when there is one or nothing
// was compared.
func (e *Experiment) untimed() string {
	alike, measured, compared, left := false, true, int64(0), int64(0)
	for i := range e.Routes {
		r := &e.Routes[i]
		if r.Latency.Pairs > 0 {
			return ""
		}
		measured = measured && r.Latency.Word != verdict.LatencyNotMeasured
		alike = alike || r.Latency.Word != verdict.LatencyNotAlike
		compared += r.Divergent.Of
		left += r.Latency.WarmingUp + r.Latency.NewConnection
	}
	switch {
	case compared == 0:
		return ""
	case !measured:
		return "the times of candidate and control were not taken (of a capture they are with --times): latency decides nothing"
	case left > 0:
		return "latency is not known: all " + plural(left, "pair") + " with times came while warming up or on new connections"
	case !alike:
		return "the times of the candidate were not taken (of a capture they are with --times): latency decides nothing"
	}
	return "" // a reason of the routes says it
}

// total is the sum of counts.
func total(m map[string]int64) (n int64) {
	for _, k := range m {
		n += k
	}
	return n
}

// control says what is special about the control, "" when nothing is.
func (e *Experiment) control() string {
	if !e.ControlSelf {
		return ""
	}
	return fmt.Sprintf("The control is the production server itself, asked a second time: that was about %s more for it, beside %s of its clients, and what it shows of noise and latency is biased, as a second execution is.",
		rate(e.ControlPerSecond), rate(e.ReferencePerSecond))
}

// lossLines are the ledger's lines with the results by which something is lost.
// Each other result of a line is what should be.
var lossLines = []struct {
	line, what string
	lost       []string
}{
	{"kernel_packets", "packets", []string{"fragment", "unparsable", "ring_full", "copy_failed", "no_reader", "over_budget"}},
	{"captured_bytes", "captured bytes", []string{"malformed", "over_memory"}},
	{"delivered_bytes", "delivered bytes", []string{"upgraded", "after_gap", "unparsable", "evicted"}},
	{"exchanges", "exchanges", []string{"no_request", "no_response", "gap", "too_large", "unparsable", "evicted", "stopped"}},
	{"replays", "replays", []string{"shed", "rate_limited", "breaker_open", "stopped"}},
	{"deliveries", "records", []string{"suppressed", "dropped"}},
}

// losses says what the ledger knows of what was lost.
func (d *Document) losses() (lines []string) {
	for _, l := range lossLines {
		lost := map[string]uint64{}
		var all uint64
		for result, n := range d.Ledger[l.line] {
			all += n
			if slices.Contains(l.lost, result) {
				lost[result] = n
			}
		}
		if t := tally(lost); t != "" {
			lines = append(lines, fmt.Sprintf("of %s %s: %s", count(int64(all)), l.what, t))
		}
	}
	return lines
}

// inputs says what is odd about the records.
func (d *Document) inputs() (lines []string) {
	n := &d.Input
	add := func(k int64, format string, args ...any) {
		if k > 0 {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	silent := int64(0)
	for i := range d.Agents {
		silent += min(1, d.Agents[i].Missing)
	}
	add(n.Missing, "%s did not come, of %s", plural(n.Missing, "window record"), plural(silent, "agent"))
	add(n.Conflicts, "%s contradict others", plural(n.Conflicts, "window record"))
	add(n.Repeats, "%s came more than once", plural(n.Repeats, "window record"))
	add(n.OtherTimes, "%s of other times", plural(n.OtherTimes, "record"))
	add(n.Unusable, "%s could not be read", plural(n.Unusable, "record"))
	add(n.UnusableDivergences, "%s could not be read", plural(n.UnusableDivergences, "divergence record"))
	add(n.Foreign, "%s of other schemas", plural(n.Foreign, "record"))
	add(n.LeftOut, "%s beyond what a report holds", plural(n.LeftOut, "window record"))
	return lines
}

// latencyWord says how a route's latency was judged.
func latencyWord(w verdict.LatencyWord) string {
	if w == verdict.LatencyNotAlike {
		return "not like for like"
	}
	return words(string(w))
}
