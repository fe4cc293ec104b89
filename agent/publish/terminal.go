package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/screen"
)

// TerminalConfig is what a Terminal sink is made of.
type TerminalConfig struct {
	// Name is the sink label of the ledger. Empty means "terminal".
	Name string
	// W is written to, one block a record. Required.
	W io.Writer
	// Width is the terminal's in columns. Zero means 100; below 40 counts as
	// 40. Below 72, values stand below each other instead of side by side.
	Width int
	// Color switches colours on. WantColor says when to.
	Color bool
	// ASCII draws with ASCII only, for terminals that are not UTF-8. Captured
	// text is escaped then, too.
	ASCII bool
	// Location is the zone of the times shown. Nil means UTC.
	Location *time.Location
	// Rows bounds the differences shown of one record. Zero means 24.
	Rows int
	// Log is required.
	Log *slog.Logger
}

// Terminal shows divergences to a person, reference and candidate side by
// side. Nothing that was captured can reach the terminal as a control
// character.
type Terminal struct {
	c      TerminalConfig
	draw   drawing
	told   bool
	closed atomic.Bool
}

// WantColor says whether to colour what goes to a file: only a terminal that is
// not dumb, and not with NO_COLOR set to anything (no-color.org).
func WantColor(isTerminal bool, getenv func(string) string) bool {
	return isTerminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// NewTerminal checks c.
func NewTerminal(c TerminalConfig) (*Terminal, error) {
	if c.Log == nil {
		return nil, errors.New("publish: TerminalConfig.Log: missing")
	}
	if c.W == nil {
		return nil, errors.New("publish: TerminalConfig.W: missing")
	}
	if c.Name == "" {
		c.Name = "terminal"
	}
	if c.Width == 0 {
		c.Width = 100
	}
	c.Width = max(c.Width, 40)
	if c.Location == nil {
		c.Location = time.UTC
	}
	if c.Rows == 0 {
		c.Rows = 24
	}
	t := &Terminal{c: c, draw: drawing{rule: "─", bar: "│", arrow: "→", none: "—", more: "…", dot: "·", times: "×", micro: "µs"}}
	if c.ASCII {
		t.draw = drawing{rule: "-", bar: "|", arrow: "->", none: "-", more: "~", dot: "-", times: "x", micro: "us"}
	}
	return t, nil
}

// drawing has the signs that are not letters.
type drawing struct{ rule, bar, arrow, none, more, dot, times, micro string }

// Name is the sink label of the ledger.
func (t *Terminal) Name() string { return t.c.Name }

// Takes says that divergences are shown, and nothing else.
func (t *Terminal) Takes(k redact.Kind) bool { return k == redact.KindDivergence }

// Deliver writes the record's block.
func (t *Terminal) Deliver(rec *redact.Record, done func(Result)) {
	block := t.Render(rec)
	n, err := t.c.W.Write([]byte(block))
	if err == nil && n < len(block) {
		err = io.ErrShortWrite
	}
	switch {
	case err == nil:
		done(Acknowledged)
	case t.closed.Load():
		done(Stopped)
	default:
		if !t.told {
			t.told = true
			t.c.Log.Warn("terminal dropped a record; further ones are only counted", "sink", t.c.Name, "err", err)
		}
		done(Write)
	}
}

// Flush has nothing to wait for.
func (t *Terminal) Flush(context.Context) error { return nil }

// Close frees a write that hangs, where the system can. It does not close W.
func (t *Terminal) Close() error {
	if t.closed.Swap(true) {
		return nil
	}
	if f, ok := t.c.W.(*os.File); ok {
		_ = f.SetWriteDeadline(time.Unix(1, 0)) // not every file has deadlines
	}
	return nil
}

// Render is the block of a record as Deliver writes it.
func (t *Terminal) Render(rec *redact.Record) string {
	b := &block{t: t}
	d := rec.Divergence()
	b.heading(rec, d)
	b.request(d)
	rows := d.Differences
	if len(rows) > t.c.Rows {
		rows = rows[:t.c.Rows]
	}
	if len(rows) > 0 {
		if t.c.Width < 72 {
			b.stacked(rows)
		} else {
			b.sideBySide(rows)
		}
	}
	if left := len(d.Differences) - len(rows) + d.Omitted; left > 0 {
		b.line("  ", b.dim(fmt.Sprintf("%s and %d more differences", t.draw.more, left)))
	}
	for _, e := range []struct{ who, text string }{{"reference", d.Reference.ErrorText}, {"candidate", d.Candidate.ErrorText}} {
		if e.text != "" {
			b.line("  ", b.dim(e.who+": "), b.fit(e.text, t.c.Width-4-len(e.who)))
		}
	}
	b.line()
	return b.out.String()
}

// block is one block while it is written.
type block struct {
	t   *Terminal
	out strings.Builder
}

func (b *block) line(parts ...string) {
	for _, p := range parts {
		b.out.WriteString(p)
	}
	b.out.WriteByte('\n')
}

// heading is the rule with time, experiment and route.
func (b *block) heading(rec *redact.Record, d *redact.Divergence) {
	w := b.t.c.Width
	at := rec.Time().In(b.t.c.Location).Format("15:04:05.000")
	experiment := b.fit(d.Experiment, w/3)
	left := 3 + len(at) + 2 + screen.Width(experiment) + 2
	route := b.fit(d.Route, w-left-3)
	b.line(b.dim(b.t.draw.rule+b.t.draw.rule+" "), b.dim(at), "  ", b.bold(experiment), "  ", route, " ",
		b.dim(strings.Repeat(b.t.draw.rule, w-left-screen.Width(route)-1)))
}

// request is the line with method and URL, and what the two sides answered.
func (b *block) request(d *redact.Divergence) {
	reference, rw := b.outcome(&d.Reference, false)
	candidate, cw := b.outcome(&d.Candidate, d.Candidate.Error != "" || d.Candidate.Status != d.Reference.Status)
	verdict := reference + b.dim(" "+b.t.draw.arrow+" ") + candidate
	vw := rw + cw + 2 + screen.Width(b.t.draw.arrow)
	w := b.t.c.Width
	var below []string // notes that have no room on the line
	note := func(text string, paint func(string) string) {
		text = b.fit(text, w)
		if n := vw + 2 + screen.Width(text); n <= w {
			verdict += "  " + paint(text)
			vw = n
		} else {
			below = append(below, paint(text))
		}
	}
	if d.Outcome == "not_comparable" {
		note("not comparable: "+d.Why, b.yellow)
	}
	if d.PublishWeight > 1 {
		note(b.t.draw.times+trimFloat(d.PublishWeight), b.dim)
	}
	method := b.fit(d.Request.Method, 16)
	room := w - screen.Width(method) - 1 - vw - 2
	if room < 16 { // the answers get a line of their own
		b.line(b.bold(method), " ", b.fit(d.Request.URL, w-screen.Width(method)-1))
		b.line(verdict)
	} else {
		url := b.fit(d.Request.URL, room)
		b.line(b.bold(method), " ", url, strings.Repeat(" ", room-screen.Width(url)+2), verdict)
	}
	for _, text := range below {
		b.line(text)
	}
}

// outcome is what a side answered and how fast, and how wide that is.
func (b *block) outcome(a *redact.Answer, differs bool) (string, int) {
	what := fmt.Sprint(a.Status)
	if a.Error != "" {
		what = b.fit(a.Error, 16)
	}
	text, n := what, screen.Width(what)
	if differs {
		text = b.red(what)
	}
	if a.TTFBUS != nil && a.Error == "" {
		after := " in " + b.duration(*a.TTFBUS)
		text += b.dim(after)
		n += screen.Width(after)
	}
	return text, n
}

func (b *block) duration(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d %s", us, b.t.draw.micro)
	case us < 1_000_000:
		return fmt.Sprintf("%.1f ms", float64(us)/1e3)
	}
	return fmt.Sprintf("%.2f s", float64(us)/1e6)
}

// sideBySide writes the differences as a table: aspect, kind and path, then
// both values.
func (b *block) sideBySide(rows []redact.Difference) {
	const gap = 2
	w := b.t.c.Width
	aspectW, kindW, pathW := 0, 0, 0
	for i := range rows {
		aspectW = max(aspectW, screen.Width(b.aspect(rows[i].Aspect)))
		kindW = max(kindW, screen.Width(b.kindWord(rows[i].Kind)))
		pathW = max(pathW, screen.Width(b.escape(rows[i].Path)))
	}
	pathW = min(pathW, (w-aspectW-kindW)/3)
	left := 2 + aspectW + gap + kindW + gap + pathW
	if pathW > 0 {
		left += gap
	}
	column := (w - left - 3) / 2
	b.line(strings.Repeat(" ", left), b.dim(screen.Pad("reference", column)), b.dim(" "+b.t.draw.bar+" candidate"))
	for i := range rows {
		r := &rows[i]
		path := b.escape(r.Path)
		label := "  " + b.dim(screen.Pad(b.aspect(r.Aspect), aspectW)) + "  " + b.kind(r.Kind, kindW) + "  "
		if screen.Width(path) > pathW { // the path gets a line, the values the next
			b.line(label, b.fitMiddle(path, w-4-aspectW-gap-kindW))
			label = strings.Repeat(" ", left)
		} else if pathW > 0 {
			label += screen.Pad(path, pathW) + "  "
		}
		reference, candidate := b.values(r, column)
		b.line(label, reference, " ", b.dim(b.t.draw.bar), " ", candidate)
		b.detail(r, left)
	}
}

// stacked writes them below each other, for narrow terminals.
func (b *block) stacked(rows []redact.Difference) {
	w := b.t.c.Width
	for i := range rows {
		r := &rows[i]
		head := 4 + screen.Width(b.aspect(r.Aspect)) + screen.Width(b.kindWord(r.Kind))
		path := b.escape(r.Path)
		if path != "" {
			path = " " + b.fitMiddle(path, max(8, w-head-1))
		}
		b.line("  ", b.dim(b.aspect(r.Aspect)), " ", b.kind(r.Kind, 0), path)
		reference, candidate := b.values(r, w-14)
		b.line("    ", b.dim("reference "), strings.TrimRight(reference, " "))
		b.line("    ", b.dim("candidate "), candidate)
		b.detail(r, 4)
	}
}

// detail is the fixed words that explain a difference.
func (b *block) detail(r *redact.Difference, indent int) {
	if r.Detail != "" {
		b.line(strings.Repeat(" ", indent), b.dim(b.fit(r.Detail, max(16, b.t.c.Width-indent))))
	}
}

// aspect and kindWord are bounded by the longest words there are.
func (b *block) aspect(s string) string { return b.fit(s, len("candidate")) }

func (b *block) kindWord(s string) string {
	return b.fit(strings.ReplaceAll(s, "_", " "), len("not fully compared"))
}

func (b *block) kind(kind string, w int) string {
	text := screen.Pad(b.kindWord(kind), w)
	switch kind {
	case "added":
		return b.green(text)
	case "removed", "error", "not_fully_compared":
		return b.red(text)
	}
	return b.yellow(text)
}

// values are both sides of a difference in a column's width each; the first is
// padded. What both share is dimmed, and long values show the place where they
// part.
func (b *block) values(r *redact.Difference, column int) (reference, candidate string) {
	left, right := b.cells(r.Reference), b.cells(r.Candidate)
	same := 0 // cells in common from the start
	for same < len(left.text) && same < len(right.text) && left.text[same] == right.text[same] {
		same++
	}
	tail := 0
	for tail < len(left.text)-same && tail < len(right.text)-same && left.text[len(left.text)-1-tail] == right.text[len(right.text)-1-tail] {
		tail++
	}
	if left.note || right.note {
		same, tail = 0, 0
	}
	// Both sides begin at the same place, far enough to the right that what
	// differs is to be seen, with some of what is shared before it.
	from := min(b.from(&left, column, same), b.from(&right, column, same))
	// A shared digit or quote says nothing and is not told apart.
	const little = 8
	if same < little {
		same = 0
	}
	if tail < little {
		tail = 0
	}
	return b.side(left, column, from, same, tail, b.green, true), b.side(right, column, from, same, tail, b.red, false)
}

// from is the first cell to show of a value whose first same cells are those of
// the other side.
func (b *block) from(v *value, column, same int) int {
	room := v.room(column)
	if v.note || widthOf(v.text) <= room {
		return 0
	}
	context := max(room/4, room-2*screen.Width(b.t.draw.more)-widthOf(v.text[same:]))
	from := same
	for from > 0 {
		if context -= screen.Width(v.text[from-1]); context < 0 {
			break
		}
		from--
	}
	return from
}

// value is one side, cut into what takes its own place on the screen.
type value struct {
	text []string
	// note: the text is not the value, but says something about it.
	note bool
	more string // what stands behind: that it is longer
}

// room is how much of a column is for the text.
func (v *value) room(column int) int {
	if n := column - screen.Width(v.more); n >= 8 {
		return n
	}
	return column
}

func widthOf(cells []string) (n int) {
	for _, c := range cells {
		n += screen.Width(c)
	}
	return n
}

func (b *block) cells(v *redact.Body) value {
	switch {
	case v == nil:
		return value{text: []string{b.t.draw.none}, note: true}
	case v.Text == "" && v.Digest != "" && v.Truncated:
		return value{text: []string{v.Digest}, note: true}
	case v.Text == "":
		return value{text: []string{"(empty)"}, note: true}
	}
	c := value{text: screen.Cells(b.escape(v.Text))}
	if v.Truncated {
		c.more = " (" + size(v.Size) + ")"
	}
	return c
}

// side draws one side of a difference in column places, from the given cell on.
func (b *block) side(v value, column, from, same, tail int, paint func(string) string, padded bool) string {
	if v.note {
		text := b.fit(v.text[0], column)
		out := b.dim(text)
		if padded {
			out += strings.Repeat(" ", max(0, column-screen.Width(text)))
		}
		return out
	}
	room := v.room(column)
	if room == column {
		v.more = ""
	}
	used := 0
	var plain, differing, rest strings.Builder
	if from > 0 {
		plain.WriteString(b.t.draw.more)
		used += screen.Width(b.t.draw.more)
	}
	i := from
	for ; i < len(v.text); i++ {
		w := screen.Width(v.text[i])
		reserve := 0
		if i < len(v.text)-1 {
			reserve = screen.Width(b.t.draw.more)
		}
		if used+w+reserve > room {
			break
		}
		used += w
		switch {
		case i < same:
			plain.WriteString(v.text[i])
		case i < len(v.text)-tail:
			differing.WriteString(v.text[i])
		default:
			rest.WriteString(v.text[i])
		}
	}
	if i < len(v.text) {
		rest.WriteString(b.t.draw.more)
		used += screen.Width(b.t.draw.more)
	}
	out := b.dim(plain.String()) + paint(differing.String()) + b.dim(rest.String()+v.more)
	used += screen.Width(v.more)
	if padded {
		out += strings.Repeat(" ", max(0, column-used))
	}
	return out
}

// escape makes a captured text harmless.
func (b *block) escape(s string) string { return screen.Escape(s, b.t.c.ASCII) }

// fit escapes a captured text and cuts it to n places.
func (b *block) fit(s string, n int) string { return screen.Cut(b.escape(s), n, b.t.draw.more) }

// fitMiddle cuts an escaped text to n places in its middle.
func (b *block) fitMiddle(s string, n int) string { return screen.CutMiddle(s, n, b.t.draw.more) }

func (b *block) paint(code, s string) string {
	if s == "" || !b.t.c.Color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (b *block) dim(s string) string    { return b.paint("2", s) }
func (b *block) bold(s string) string   { return b.paint("1", s) }
func (b *block) red(s string) string    { return b.paint("31", s) }
func (b *block) green(s string) string  { return b.paint("32", s) }
func (b *block) yellow(s string) string { return b.paint("33", s) }

// size is a length in bytes for people.
func size(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}

func trimFloat(f float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", f), "0"), ".")
}
