package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/agent/screen"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

//go:embed page.html
var pageText string

// Bounds of the page: beyond them --json has it.
const (
	maxCauseRows = 100
	maxRouteRows = 200
	maxCharts    = 12
)

// WriteHTML writes the document as one HTML file that refers to nothing outside
// of itself and runs no script. Whatever was captured is text in it.
func (d *Document) WriteHTML(w io.Writer) error {
	t, err := pageTemplate()
	if err != nil {
		return fmt.Errorf("read the page's template: %w", err)
	}
	return t.Execute(w, d.view())
}

// pageTemplate is read when it is first needed.
var pageTemplate = sync.OnceValues(func() (*template.Template, error) {
	return template.New("page").Funcs(template.FuncMap{"text": func(s string) string { return screen.Escape(s, false) }}).Parse(pageText)
})

// The page's content, as the template takes it. Texts that may be anything go
// through "text" there, and through html/template.
type view struct {
	Word        string
	Span        string
	Facts       []string
	Reasons     []string
	Experiments []experimentView
	Earlier     []earlierView
	Notes       []notesView
	Settings    []fact
}

type fact struct{ Name, Value string }

type notesView struct {
	Title string
	Lines []string
}

type earlierView struct{ Word, Name, Version, Revision, Span, Headline string }

type experimentView struct {
	ID                      string
	Word                    string
	Name, Version, Revision string
	Span, Headline, Control string
	Reasons                 []reasonView
	OverTime                *chart
	PointLength             string
	Causes                  []causeView
	MoreCauses              int
	Masked, Noise           []causeView
	MoreMasked, MoreNoise   int
	Routes                  []routeView
	MoreRoutes              int
	Latency                 []latencyView
	Alike                   bool
	Unseen                  []string
	Facts                   []fact
}

type reasonView struct{ Word, Where, Text string }

type causeView struct {
	Class, Title, Route, Name   string
	Share, RouteShare, Pairs    string
	Control, First, Last, Spark string
	Bar                         float64 // of 100
	Example                     *exampleView
}

type exampleView struct {
	Method, URL, Time, Exchange, Recheck, Detail string
	Sides                                        []sideView
}

type sideView struct {
	Who, Status, Text, Note string
	None                    bool
}

type routeView struct {
	Word, Route, Share, Pairs, Diverge, AtMost, Once, Further, Worst string
	Small                                                            bool
}

type latencyView struct {
	Route, Word, Note string
	Quantiles         []quantileView
	Chart             *chart
}

type quantileView struct{ Name, Reference, Candidate, Control, Slower, Low, High, Allowed, Class string }

func (d *Document) view() *view {
	v := &view{Word: string(d.Word)}
	if len(d.Experiments) > 0 {
		from, to := d.span()
		v.Span = span(from, to, time.UTC)
	}
	v.Facts = []string{plural(int64(agents(d)), "agent"), plural(d.Input.Windows, "window record"), plural(d.Input.Divergences, "divergence record")}
	for i := range d.Reasons {
		v.Reasons = append(v.Reasons, d.Reasons[i].Text)
	}
	for i := range d.Experiments {
		e := &d.Experiments[i]
		if e.Latest {
			v.Experiments = append(v.Experiments, e.view(fmt.Sprintf("e%d", i+1), &d.Settings))
			continue
		}
		v.Earlier = append(v.Earlier, earlierView{string(e.Word), e.Experiment.Experiment, e.CandidateVersion, e.ConfigRevision, span(e.First, e.Last, time.UTC), e.headline(&d.Settings, 200)})
	}
	for _, n := range []notesView{{"Lost on the way, by the agents’ ledger", d.losses()}, {"Records", d.inputs()}} {
		if len(n.Lines) > 0 {
			v.Notes = append(v.Notes, n)
		}
	}
	s := &d.Settings
	v.Settings = []fact{
		{"divergence allowed", percent(s.MaxDivergence)}, {"confidence", percent(s.Confidence)}, {"failures allowed", percent(s.MaxFailed)},
		{"unseen allowed", percent(s.MaxUnseen)}, {"slower allowed", "p50 " + percent(s.MaxP50) + ", p99 " + percent(s.MaxP99)},
		{"masked allowed", count(int64(s.MaxMasked))}, {"noise margin", percent(s.NoiseMargin)}, {"false alarms at most", percent(s.Alpha)},
	}
	return v
}

func (e *Experiment) view(id string, s *Settings) experimentView {
	v := experimentView{
		ID: id, Word: string(e.Word), Name: e.Experiment.Experiment, Version: e.CandidateVersion, Revision: e.ConfigRevision, Span: span(e.First, e.Last, time.UTC),
		Headline: e.headline(s, 200), OverTime: e.overTime(s), PointLength: (time.Duration(e.Timeline.PointSeconds) * time.Second).String(), Unseen: e.unseen(), Control: e.control(),
	}
	for i := range e.Reasons {
		if e.Reasons[i].Code != "routes" || !e.decided() {
			v.Reasons = append(v.Reasons, reasonView{string(e.Reasons[i].Word), "", e.Reasons[i].Text})
		}
	}
	for i := range e.Routes {
		r := &e.Routes[i]
		for k := range r.Reasons {
			if x := &r.Reasons[k]; !r.Small && x.Word == r.Word && x.Code != "masked" && len(v.Reasons) < 30 {
				text := x.Text
				if x.Further > 0 {
					text += "; " + plural(x.Further, "more clean pair") + " would do"
				}
				v.Reasons = append(v.Reasons, reasonView{string(x.Word), r.Route, text})
			}
		}
	}
	n := e.counted()
	largest := 0.0
	for i := range n {
		largest = max(largest, e.Causes[i].OfTraffic)
	}
	for i := range min(n, maxCauseRows) {
		v.Causes = append(v.Causes, e.Causes[i].view(largest))
	}
	v.MoreCauses = max(0, n-maxCauseRows)
	list := func(classes ...verdict.Class) (out []causeView, more int) {
		causes := e.of(classes...)
		for _, c := range causes[:min(len(causes), maxCauseRows)] {
			out = append(out, c.view(0))
		}
		return out, max(0, len(causes)-maxCauseRows)
	}
	v.Masked, v.MoreMasked = list(verdict.Masked)
	v.Noise, v.MoreNoise = list(verdict.Noise, verdict.Negligible)
	v.routes(e)
	v.latency(e)
	v.Facts = []fact{
		{"agents", count(int64(e.Agents))}, {"reference", rate(e.ReferencePerSecond)}, {"candidate", rate(e.CandidatePerSecond)},
		{"compared", count(e.Counts.Compared)}, {"worst case", percent(e.Unseen.WorstCase)},
	}
	if e.ControlPerSecond > 0 {
		v.Facts = slices.Insert(v.Facts, 3, fact{"control", rate(e.ControlPerSecond)})
	}
	return v
}

func rate(perSecond float64) string { return fmt.Sprintf("%.3g requests/s", perSecond) }

func (c *Cause) view(largest float64) causeView {
	v := causeView{
		Class: string(c.Class), Title: c.title(), Route: c.Route, Name: c.name(), Share: percent(c.OfTraffic), RouteShare: percent(c.Share),
		Pairs: count(c.Divergent) + " of " + count(c.Of), First: c.First.Time().Format(time.DateTime), Last: c.Last.Time().Format(time.DateTime), Spark: spark(c.OverTime),
	}
	if c.Paired > 0 {
		v.Control = percent(c.controlShare())
	}
	if largest > 0 {
		v.Bar = max(0.5, 100*c.OfTraffic/largest)
	}
	if x := c.Example; x != nil {
		v.Example = &exampleView{Method: x.Method, URL: x.URL, Time: x.Time.Time().Format(time.DateTime), Exchange: x.ExchangeID, Detail: x.Detail}
		if x.Recheck != "" {
			v.Example.Recheck = words(x.Recheck)
		}
		for _, s := range []struct {
			who  string
			side *Side
		}{{"reference", &x.Reference}, {"candidate", &x.Candidate}, {"control", x.Control}} {
			if s.side != nil {
				v.Example.Sides = append(v.Example.Sides, s.side.view(s.who))
			}
		}
	}
	return v
}

func (s *Side) view(who string) sideView {
	v := sideView{Who: who}
	switch {
	case s.Error != "":
		v.Status = words(s.Error)
	case s.Status != 0:
		v.Status = fmt.Sprint(s.Status)
	}
	switch b := s.Value; {
	case b == nil:
		v.None = true
	case b.Text == "" && b.Truncated:
		v.Note = b.Digest + ", " + size(b.Size)
	case b.Text == "":
		v.Note = "empty"
	default:
		v.Text = b.Text
		if b.Encoding == "base64" {
			v.Note = "base64"
		}
		if b.Truncated {
			v.Note += " of " + size(b.Size)
		}
	}
	return v
}

func (v *experimentView) routes(e *Experiment) {
	for i := range e.Routes[:min(len(e.Routes), maxRouteRows)] {
		r := &e.Routes[i]
		row := routeView{
			Word: string(r.Word), Route: r.Route, Share: percent(r.Share), Pairs: count(r.Divergent.Of), Diverge: percent(r.Divergent.Share), AtMost: upTo(r.Divergent.High),
			Once: upTo(r.Divergent.Once), Worst: percent(r.Unseen.WorstCase), Small: r.Small,
		}
		if r.Word == verdict.Insufficient && r.Further > 0 {
			row.Further = count(r.Further)
		}
		v.Routes = append(v.Routes, row)
	}
	v.MoreRoutes = max(0, len(e.Routes)-maxRouteRows)
}

// latency has the routes with the most pairs first.
func (v *experimentView) latency(e *Experiment) {
	var routes []*verdict.Route
	for i := range e.Routes {
		if e.Routes[i].Latency.Pairs > 0 {
			routes = append(routes, &e.Routes[i])
		}
	}
	slices.SortStableFunc(routes, func(a, b *verdict.Route) int { return cmp.Compare(b.Latency.Pairs, a.Latency.Pairs) })
	for _, r := range routes[:min(len(routes), maxCharts)] {
		l := &r.Latency
		row := latencyView{Route: r.Route, Word: latencyWord(l.Word), Note: latencyNote(l)}
		for k := range l.Quantiles {
			q := &l.Quantiles[k]
			x := quantileView{
				Name: quantileName(q.Q), Reference: quantile(&q.Reference), Candidate: quantile(&q.Candidate), Control: quantile(q.Control),
				Slower: signed(q.Slower), Low: signed(q.Low), High: signed(q.High), Allowed: percent(q.Max), Class: "insufficient",
			}
			switch {
			case l.Word == verdict.LatencyNotAlike:
				x.Class = ""
			case q.Low != nil && *q.Low > q.Max:
				x.Class = "hold"
			case q.High != nil && *q.High <= q.Max:
				x.Class = "promote"
			}
			row.Quantiles = append(row.Quantiles, x)
		}
		for i := range e.Times {
			if e.Times[i].Route == r.Route {
				row.Chart = e.Times[i].chart()
			}
		}
		v.Alike = v.Alike || l.Word != verdict.LatencyNotAlike
		v.Latency = append(v.Latency, row)
	}
}
