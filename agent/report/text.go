package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/agent/screen"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// TextOptions say how text is written.
type TextOptions struct {
	// Width is the terminal's in columns. Zero means 100; below 80 counts as
	// 80.
	Width int
	// Color switches colours on.
	Color bool
	// ASCII draws with ASCII only and escapes what is not.
	ASCII bool
	// Location is the zone of the times shown. Nil means UTC.
	Location *time.Location
	// Causes bounds the causes of an experiment that are shown with an example;
	// routes and what does not count have twice as many lines. Zero means 10.
	Causes int
}

// WriteText writes the document for people: first a line for each experiment,
// then what is known of each. Nothing that was captured can reach a terminal as
// a control character.
func (d *Document) WriteText(w io.Writer, o TextOptions) error {
	if o.Width == 0 {
		o.Width = 100
	}
	o.Width = max(o.Width, 80)
	if o.Location == nil {
		o.Location = time.UTC
	}
	if o.Causes == 0 {
		o.Causes = 10
	}
	p := &page{o: o, d: d, rule: "─", more: "…", none: "—"}
	if o.ASCII {
		p.rule, p.more, p.none = "-", "~", "-"
	}
	p.front()
	for i := range d.Experiments {
		if e := &d.Experiments[i]; e.Latest {
			p.experiment(e)
		}
	}
	p.rest()
	_, err := io.WriteString(w, p.out.String())
	return err
}

// page is the text while it is written.
type page struct {
	o                TextOptions
	d                *Document
	out, at          strings.Builder
	rule, more, none string
}

// text adds to the line at hand, and line ends it.
func (p *page) text(parts ...string) {
	for _, s := range parts {
		p.at.WriteString(s)
	}
}

func (p *page) line(parts ...string) {
	p.text(parts...)
	p.out.WriteString(strings.TrimRight(p.at.String(), " "))
	p.out.WriteByte('\n')
	p.at.Reset()
}

// front is the first screen's head: a line for each experiment.
func (p *page) front() {
	d := p.d
	from, to := d.span()
	var facts []string
	if len(d.Experiments) > 0 {
		facts = append(facts, span(from, to, p.o.Location))
	}
	facts = append(facts, plural(int64(agents(d)), "agent"), plural(d.Input.Windows, "window record"), plural(d.Input.Divergences, "divergence record"))
	if all := strings.Join(facts, ", "); len(d.Word)+2+len(all) <= p.o.Width {
		p.line(p.word(d.Word), "  ", p.dim(all))
	} else {
		p.line(p.word(d.Word), "  ", p.dim(facts[0]))
		p.wrapped("  ", strings.Join(facts[1:], ", "), p.dim)
	}
	for i := range d.Reasons {
		p.wrapped("  ", p.escape(d.Reasons[i].Text), p.yellow)
	}
	p.line()
	wordW, nameW, versionW := 0, 0, 0
	for i := range d.Experiments {
		if e := &d.Experiments[i]; e.Latest {
			wordW = max(wordW, len(e.Word))
			nameW = min(max(nameW, screen.Width(p.escape(e.Experiment.Experiment))), 20)
			versionW = min(max(versionW, screen.Width(p.escape(e.CandidateVersion))), 12)
		}
	}
	for i := range d.Experiments {
		e := &d.Experiments[i]
		if !e.Latest {
			continue
		}
		head := 2 + wordW + 2 + nameW + 2 + versionW + 2
		if versionW == 0 {
			head -= 2
		}
		p.text("  ", p.word(e.Word), strings.Repeat(" ", max(0, wordW-len(e.Word))+2), p.bold(screen.Pad(p.fit(e.Experiment.Experiment, nameW), nameW)), "  ")
		if versionW > 0 {
			p.text(screen.Pad(p.fit(e.CandidateVersion, versionW), versionW), "  ")
		}
		p.line(p.fit(e.headline(&d.Settings, p.o.Width-head), p.o.Width-head))
	}
	if len(d.Experiments) == 0 {
		p.line("  ", p.dim("no experiment"))
	}
	p.line()
}

// agents is how many there are, by name.
func agents(d *Document) int {
	names := map[string]bool{}
	for i := range d.Agents {
		names[d.Agents[i].Agent] = true
	}
	return len(names)
}

// experiment is all that is known of one.
func (p *page) experiment(e *Experiment) {
	name := p.fit(e.Experiment.Experiment, p.o.Width/3)
	facts := ""
	for _, f := range []struct{ what, text string }{{"candidate ", e.CandidateVersion}, {"configuration ", e.ConfigRevision}} {
		if f.text != "" {
			facts += "  " + f.what + p.escape(f.text)
		}
	}
	facts = screen.Cut(facts, p.o.Width-screen.Width(name)-6, p.more)
	used := 3 + screen.Width(name) + screen.Width(facts) + 1
	p.line(p.dim(strings.Repeat(p.rule, 2)+" "), p.bold(name), p.dim(facts), " ", p.dim(strings.Repeat(p.rule, max(0, p.o.Width-used))))
	p.why(e)
	p.causes(e)
	p.uncounted(e, "Masked: more than half of the control's answers have it too, so a defect there can't be seen", verdict.Masked)
	p.uncounted(e, "Noise, and what is too rare to matter", verdict.Noise, verdict.Negligible)
	p.routes(e)
	p.latency(e)
	p.heading("Not seen")
	for _, l := range e.unseen() {
		p.wrapped("  ", p.escape(l), nil)
	}
	p.line()
}

func (p *page) heading(s string) {
	p.wrapped("", s, p.bold)
}

// why has the reasons of an experiment and of the routes that decide.
func (p *page) why(e *Experiment) {
	said := false
	reason := func(r *verdict.Reason, where string) {
		text := r.Text
		if where != "" {
			text = where + ": " + text
		}
		if r.Further > 0 {
			text += "; " + plural(r.Further, "more clean pair") + " would do"
		}
		p.wrapped("  ", p.escape(text), p.paintOf(r.Word))
		said = true
	}
	if c := e.control(); c != "" {
		p.wrapped("  ", p.escape(c), p.yellow)
		said = true
	}
	for i := range e.Reasons {
		if e.Reasons[i].Code != "routes" || !e.decided() {
			reason(&e.Reasons[i], "")
		}
	}
	left := 0
	for i := range e.Routes {
		r := &e.Routes[i]
		if r.Small {
			continue
		}
		for k := range r.Reasons {
			if r.Reasons[k].Word != r.Word || r.Reasons[k].Code == "masked" {
				continue // a route that is to be held needs no more pairs
			}
			if left++; left <= p.o.Causes {
				reason(&r.Reasons[k], r.Route)
			}
		}
	}
	if left > p.o.Causes {
		p.line("  ", p.dim(fmt.Sprintf("%s and %d more reasons", p.more, left-p.o.Causes)))
	}
	if said {
		p.line()
	}
}

// causes are those that count, with an example each.
func (p *page) causes(e *Experiment) {
	n := e.counted()
	if n == 0 {
		return
	}
	p.heading("Causes, by their share of the traffic")
	for i := range min(n, p.o.Causes) {
		p.cause(&e.Causes[i])
	}
	if n > p.o.Causes {
		p.line("  ", p.dim(fmt.Sprintf("%s and %d more causes: --json has them", p.more, n-p.o.Causes)))
	}
	p.line()
}

// shareWidth is that of "0.0195 %".
const shareWidth = 8

func (p *page) cause(c *Cause) {
	indent := strings.Repeat(" ", 2+shareWidth+2)
	room := p.o.Width - len(indent)
	class := screen.Pad(string(c.Class), 9)
	title := p.escape(c.title())
	first := "  " + p.bold(fmt.Sprintf("%*s", shareWidth, percent(c.OfTraffic))) + "  " + p.classPaint(c.Class)(class) + "  "
	if left := room - len(class) - 2; screen.Width(title) <= left {
		p.line(first, title)
	} else {
		p.line(first)
		p.line(indent, screen.CutMiddle(title, room, p.more))
	}
	seen := fmt.Sprintf("%s of %s, %s", count(c.Divergent), count(c.Of), p.times(c.First, c.Last))
	if c.name() != "" {
		seen += ", " + c.name()
	}
	route := p.escape(c.Route)
	if screen.Width(route)+2+screen.Width(seen) <= room {
		p.line(indent, route, "  ", p.dim(seen))
	} else {
		p.line(indent, screen.CutMiddle(route, room, p.more))
		p.line(indent, p.dim(screen.Cut(seen, room, p.more)))
	}
	if c.Example != nil {
		p.example(c.Example, indent, room)
	}
}

// times is when something was seen first and last.
func (p *page) times(first, last verdict.Time) string {
	a, b := first.Time().In(p.o.Location), last.Time().In(p.o.Location)
	from, to := p.d.span()
	format := time.TimeOnly
	if from.Time().In(p.o.Location).Format(time.DateOnly) != to.Time().In(p.o.Location).Format(time.DateOnly) {
		format = "01-02 15:04:05"
	}
	if first == last {
		return a.Format(format)
	}
	return a.Format(format) + " to " + b.Format(format)
}

func (p *page) example(e *Example, indent string, room int) {
	at := e.Time.Time().In(p.o.Location).Format(time.TimeOnly) + " " + e.ExchangeID
	method := p.fit(e.Method, 16)
	left := room - 2 - screen.Width(method) - 1 - 2 - len(at)
	if url := p.escape(e.URL); screen.Width(url) <= left || left >= 24 {
		p.line(indent, "  ", method, " ", screen.Cut(url, left, p.more), "  ", p.dim(at))
	} else { // the time gets a line of its own
		p.line(indent, "  ", method, " ", screen.Cut(url, room-3-screen.Width(method), p.more))
		p.line(indent, "  ", p.dim(at))
	}
	for _, s := range []struct {
		who   string
		side  *Side
		paint func(string) string
	}{{"reference", &e.Reference, p.green}, {"candidate", &e.Candidate, p.red}, {"control", e.Control, p.plain}} {
		if s.side == nil {
			continue
		}
		p.line(indent, "  ", p.dim(screen.Pad(s.who, 9)), "  ", p.value(s.side, room-13, s.paint))
	}
	if e.Recheck != "" {
		p.line(indent, "  ", p.dim(p.fit("asked once more: "+words(e.Recheck), room-2)))
	}
	if e.Detail != "" {
		p.line(indent, "  ", p.dim(p.fit(e.Detail, room-2)))
	}
}

// value is a side of an example on one line.
func (p *page) value(s *Side, room int, paint func(string) string) string {
	v := s.Value
	switch {
	case s.Error != "":
		return paint(p.fit(words(s.Error), room))
	case v == nil:
		return p.dim(p.none)
	case v.Text == "" && v.Truncated:
		return p.dim(p.fit(v.Digest+" ("+size(v.Size)+")", room))
	case v.Text == "":
		return p.dim("(empty)")
	}
	after := ""
	if v.Truncated {
		after = " (" + size(v.Size) + ")"
	}
	if v.Encoding == "base64" {
		after = " (base64)" + after
	}
	return paint(p.fit(v.Text, room-len(after))) + p.dim(after)
}

// uncounted lists causes of classes that don't count, a line each.
func (p *page) uncounted(e *Experiment, title string, classes ...verdict.Class) {
	list := e.of(classes...)
	if len(list) == 0 {
		return
	}
	p.heading(title)
	for i, c := range list {
		if i == 2*p.o.Causes {
			p.line("  ", p.dim(fmt.Sprintf("%s and %d more: --json has them", p.more, len(list)-i)))
			break
		}
		facts := fmt.Sprintf("  (control %s)  %s", percent(c.controlShare()), c.name())
		route := p.fit(c.Route, p.o.Width/4)
		head := 2 + shareWidth + 2
		left := p.o.Width - head - screen.Width(route) - 2 - len(facts)
		title := p.escape(c.title())
		p.text("  ", fmt.Sprintf("%*s", shareWidth, percent(c.Share)), "  ")
		if screen.Width(title) <= left {
			p.line(route, "  ", title, p.dim(facts))
			continue
		}
		p.line(route, p.dim(facts))
		p.line(strings.Repeat(" ", head), screen.CutMiddle(title, p.o.Width-head, p.more))
	}
	p.line()
}

// routes is a table.
func (p *page) routes(e *Experiment) {
	if len(e.Routes) == 0 {
		return
	}
	small, needs := 0, 0
	routeW := len("route")
	for i := range e.Routes {
		routeW = max(routeW, screen.Width(p.escape(e.Routes[i].Route)))
		small += btoi(e.Routes[i].Small && e.Routes[i].Share > 0)
		needs += btoi(e.Routes[i].Word == verdict.Insufficient && e.Routes[i].Further > 0)
	}
	const columns = 2 + 12 + 2 + 8 + 2 + 10 + 2 + 9 + 2 + 9
	routeW = min(routeW, p.o.Width-columns-2)
	last := ""
	if p.o.Width-columns-2-routeW >= 13 && needs > 0 {
		last = "  pairs to go"
	}
	p.line(p.bold(screen.Pad("Routes", 2+routeW)), p.dim(fmt.Sprintf("  %-12s  %8s  %10s  %9s  %9s%s", "", "traffic", "pairs", "diverge", "at most", last)))
	for i := range e.Routes {
		if i == 2*p.o.Causes {
			p.line("  ", p.dim(fmt.Sprintf("%s and %d more routes: --json has them", p.more, len(e.Routes)-i)))
			break
		}
		r := &e.Routes[i]
		route := p.escape(r.Route)
		p.text("  ", screen.Pad(screen.CutMiddle(route, routeW, p.more), routeW), "  ", p.wordPadded(r.Word, 12),
			fmt.Sprintf("  %8s  %10s  %9s  %9s", percent(r.Share), count(r.Divergent.Of), percent(r.Divergent.Share), upTo(r.Divergent.High)))
		if last != "" && r.Word == verdict.Insufficient && r.Further > 0 {
			p.text("  ", p.dim(fmt.Sprintf("%11s", count(r.Further))))
		}
		p.line()
	}
	if small > 0 {
		p.wrapped("  ", fmt.Sprintf("%s: under 1 %% of the traffic, without enough of it to decide", p.smallRoutes(e)), p.dim)
	}
	p.line()
}

func (p *page) smallRoutes(e *Experiment) string {
	var names []string
	more := 0
	for i := range e.Routes {
		if r := &e.Routes[i]; r.Small && r.Share > 0 && len(names) < 5 {
			names = append(names, p.escape(r.Route))
		} else if r.Small && r.Share > 0 {
			more++
		}
	}
	out := strings.Join(names, ", ")
	if more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// latency is a table of quantiles.
func (p *page) latency(e *Experiment) {
	routeW := 8
	any := false
	for i := range e.Routes {
		if l := &e.Routes[i].Latency; l.Pairs > 0 {
			any = true
			routeW = max(routeW, screen.Width(p.escape(e.Routes[i].Route)))
		}
	}
	if !any {
		return
	}
	const columns = 2 + 2 + 4 + 2 + 10 + 2 + 10 + 2 + 28
	routeW = min(routeW, max(12, p.o.Width-columns))
	other := "control"
	for i := range e.Routes {
		if e.Routes[i].Latency.Word == verdict.LatencyNotAlike {
			other = "reference"
		}
	}
	p.line(p.bold(screen.Pad("Latency", 2+routeW)), p.dim(fmt.Sprintf("  %4s  %10s  %10s  %s", "", "candidate", other, "slower by, at "+confidence(&p.d.Settings))))
	shown := 0
	for i := range e.Routes {
		r := &e.Routes[i]
		l := &r.Latency
		if l.Pairs == 0 {
			continue
		}
		if shown++; shown > 2*p.o.Causes {
			p.line("  ", p.dim(p.more+" and more routes: --json has them"))
			break
		}
		name := screen.CutMiddle(p.escape(r.Route), routeW, p.more)
		for k := range l.Quantiles {
			q := &l.Quantiles[k]
			over := q.Control
			if over == nil {
				over = &q.Reference
			}
			by := screen.Cut(fmt.Sprintf("%s (%s to %s)", signed(q.Slower), signed(q.Low), signed(q.High)), p.o.Width-routeW-34, p.more)
			p.text("  ", screen.Pad(name, routeW), fmt.Sprintf("  %4s  %10s  %10s  ", quantileName(q.Q), quantile(&q.Candidate), quantile(over)))
			switch {
			case l.Word == verdict.LatencyNotAlike:
				p.line(p.dim(by))
			case q.Low != nil && *q.Low > q.Max:
				p.line(p.red(by))
			case q.High != nil && *q.High <= q.Max:
				p.line(p.green(by))
			default:
				p.line(p.yellow(by))
			}
			name = ""
		}
		p.wrapped("    ", p.escape(latencyNote(l)), p.dim)
	}
	p.line()
}

// latencyNote says how a route's times were judged, and what they are of.
func latencyNote(l *verdict.LatencyReport) string {
	note := latencyWord(l.Word) + ": "
	if l.Word == verdict.LatencyNotAlike {
		note = "not like for like, so it never decides: "
	}
	note += plural(l.Pairs, "pair") + " to the first byte"
	if n := l.WarmingUp + l.NewConnection; n > 0 {
		note += ", without " + count(n) + " while warming up or on new connections"
	}
	if l.Omitted > 0 {
		note += ", " + percent(l.Omitted) + " were not sent"
	}
	if l.CandidateMinRTTUS > 0 {
		note += ", a round trip of " + micros(float64(l.CandidateMinRTTUS)) + " taken off the candidate's"
	}
	return note
}

// rest is what belongs to no experiment: other periods, the ledger, the records.
func (p *page) rest() {
	earlier := false
	for i := range p.d.Experiments {
		e := &p.d.Experiments[i]
		if e.Latest {
			continue
		}
		if !earlier {
			p.heading("Earlier periods")
			earlier = true
		}
		text := fmt.Sprintf("%s %s  %s  %s: %s", e.Experiment.Experiment, e.CandidateVersion, e.ConfigRevision, span(e.First, e.Last, p.o.Location), e.headline(&p.d.Settings, 60))
		p.line("  ", p.wordPadded(e.Word, 12), "  ", p.fit(text, p.o.Width-16))
	}
	if earlier {
		p.line()
	}
	for _, s := range []struct {
		title string
		lines []string
	}{{"Lost on the way, by the agents' ledger", p.d.losses()}, {"Records", p.d.inputs()}} {
		if len(s.lines) == 0 {
			continue
		}
		p.heading(s.title)
		for _, l := range s.lines {
			p.wrapped("  ", p.escape(l), nil)
		}
		p.line()
	}
}

// wrapped writes an escaped text in lines of the page's width.
func (p *page) wrapped(indent, text string, paint func(string) string) {
	if paint == nil {
		paint = p.plain
	}
	room := p.o.Width - len(indent)
	line := ""
	flush := func() {
		if line != "" {
			p.line(indent, paint(line))
			line = ""
		}
	}
	for _, w := range strings.Fields(strings.ReplaceAll(text, " %", "\x00%")) {
		w = strings.ReplaceAll(w, "\x00", " ")
		w = screen.CutMiddle(w, room, p.more)
		if line != "" && screen.Width(line)+1+screen.Width(w) > room {
			flush()
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	flush()
}

func (p *page) escape(s string) string     { return screen.Escape(s, p.o.ASCII) }
func (p *page) fit(s string, n int) string { return screen.Cut(p.escape(s), n, p.more) }

func (p *page) paint(code, s string) string {
	if s == "" || !p.o.Color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *page) plain(s string) string  { return s }
func (p *page) dim(s string) string    { return p.paint("2", s) }
func (p *page) bold(s string) string   { return p.paint("1", s) }
func (p *page) red(s string) string    { return p.paint("31", s) }
func (p *page) green(s string) string  { return p.paint("32", s) }
func (p *page) yellow(s string) string { return p.paint("33", s) }

func (p *page) paintOf(w verdict.Word) func(string) string {
	switch w {
	case verdict.Promote:
		return p.green
	case verdict.Hold:
		return p.red
	}
	return p.yellow
}

func (p *page) classPaint(c verdict.Class) func(string) string {
	switch c {
	case verdict.Candidate, Failed:
		return p.red
	case verdict.Undecided:
		return p.yellow
	}
	return p.dim
}

// word is a verdict, in its colour.
func (p *page) word(w verdict.Word) string {
	return p.bold(p.paintOf(w)(p.fit(string(w), 12)))
}

func (p *page) wordPadded(w verdict.Word, n int) string {
	s := p.fit(string(w), n)
	return p.paintOf(w)(s) + strings.Repeat(" ", n-screen.Width(s))
}
