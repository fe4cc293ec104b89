package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// chart is a drawing in the units of its viewBox. The template draws it; classes
// give colours.
type chart struct {
	Title         string // for those who can't see it
	Width, Height int
	Left, Right   float64 // the plot, without the axes' labels
	Top, Bottom   float64
	X, Y          []tick
	Lines         []line
	Threshold     *tick
}

type tick struct {
	At    float64
	Label string
	// Anchor is the SVG text-anchor.
	Anchor string
}

// line is a path, or a filled one.
type line struct {
	Class string
	Path  string
}

const (
	chartWidth  = 960
	chartHeight = 200
)

func newChart(title string) chart {
	return chart{Title: title, Width: chartWidth, Height: chartHeight, Left: 58, Right: chartWidth - 8, Top: 10, Bottom: chartHeight - 24}
}

// pen writes a path.
type pen struct{ out strings.Builder }

func (p *pen) to(op byte, x, y float64) {
	fmt.Fprintf(&p.out, "%c%s %s", op, coordinate(x), coordinate(y))
}

func coordinate(x float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
}

// shares sets the axis of shares up to the largest, at least a little.
func (c *chart) shares(largest float64) (y func(float64) float64) {
	step := niceStep(max(largest, 1e-6) / 3)
	top := step * math.Max(1, math.Ceil(largest/step-1e-9))
	y = func(share float64) float64 { return c.Bottom - min(share, top)/top*(c.Bottom-c.Top) }
	for k := 0; float64(k)*step <= top+step/2; k++ {
		c.Y = append(c.Y, tick{At: y(float64(k) * step), Label: percent(float64(k) * step)})
	}
	return y
}

// niceStep is the next of 1, 2 and 5 times a power of ten.
func niceStep(x float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 5} {
		if x <= m*unit*(1+1e-9) {
			return m * unit
		}
	}
	return 10 * unit
}

// overTime draws the shares of a period; nil when there is nothing to see.
func (e *Experiment) overTime(s *Settings) *chart {
	t := &e.Timeline
	if len(t.Points) < 2 {
		return nil
	}
	c := newChart("Divergent pairs over time")
	length := verdict.Time(max(1, t.PointSeconds) * 1e6)
	first, last := t.Points[0].Time, t.Points[len(t.Points)-1].Time+length
	x := func(at verdict.Time) float64 {
		return c.Left + float64(at-first)/float64(last-first)*(c.Right-c.Left)
	}
	share := func(n, of int64) float64 {
		if of == 0 {
			return 0
		}
		return float64(n) / float64(of)
	}
	var largest float64
	for _, p := range t.Points {
		largest = max(largest, share(p.Divergent, p.Compared), share(p.Failed, p.Compared))
	}
	if largest == 0 {
		return nil
	}
	y := c.shares(max(largest, min(s.MaxDivergence, 2*largest)))
	for _, l := range []struct {
		class string
		n     func(p *Point) int64
	}{
		{"all", func(p *Point) int64 { return p.Divergent }}, {"counted", func(p *Point) int64 { return p.Counted }}, {"failed", func(p *Point) int64 { return p.Failed }},
	} {
		var stroke, fill pen
		open := false
		end := func(i int) {
			if open {
				fill.to('L', x(t.Points[i].Time+length), c.Bottom)
				fill.out.WriteByte('Z')
			}
			open = false
		}
		var any int64
		for i := range t.Points {
			p := &t.Points[i]
			any += l.n(p)
			at := y(share(l.n(p), p.Compared))
			if i > 0 && p.Time != t.Points[i-1].Time+length || p.Compared == 0 {
				end(max(0, i-1)) // a gap: nothing came
				if p.Compared == 0 {
					continue
				}
			}
			if !open {
				fill.to('M', x(p.Time), c.Bottom)
				fill.to('L', x(p.Time), at)
				stroke.to('M', x(p.Time), at)
				open = true
			} else {
				fill.to('L', x(p.Time), at)
				stroke.to('L', x(p.Time), at)
			}
			fill.to('L', x(p.Time+length), at)
			stroke.to('L', x(p.Time+length), at)
		}
		end(len(t.Points) - 1)
		if any == 0 {
			continue
		}
		if l.class != "failed" {
			c.Lines = append(c.Lines, line{l.class + " area", fill.out.String()})
		}
		c.Lines = append(c.Lines, line{l.class, stroke.out.String()})
	}
	if at := y(s.MaxDivergence); s.MaxDivergence > 0 && at > c.Top {
		c.Threshold = &tick{At: at, Label: "allowed " + percent(s.MaxDivergence)}
	}
	c.timeAxis(first, last, x)
	return &c
}

// timeAxis sets ticks at round times.
func (c *chart) timeAxis(first, last verdict.Time, x func(verdict.Time) float64) {
	span := (last - first).Time().Sub(verdict.Time(0).Time())
	step := 365 * 24 * time.Hour
	for _, s := range []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 48 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour} {
		if span/s <= 8 {
			step = s
			break
		}
	}
	format := "15:04"
	switch {
	case step < time.Minute:
		format = "15:04:05"
	case step >= 24*time.Hour:
		format = "Jan 2"
	case span > 20*time.Hour:
		format = "Jan 2 15:04"
	}
	us := verdict.Time(step.Microseconds())
	for at := -floor(-first, us); at <= last && len(c.X) < 16; at += us {
		anchor := "middle"
		if x(at) > c.Right-20 {
			anchor = "end"
		} else if x(at) < c.Left+20 {
			anchor = "start"
		}
		c.X = append(c.X, tick{x(at), at.Time().Format(format), anchor})
	}
}

// spark draws a cause over time, 120 by 20.
func spark(n []int64) string {
	var most int64
	for _, k := range n {
		most = max(most, k)
	}
	if most == 0 || len(n) < 2 {
		return ""
	}
	var p pen
	p.to('M', 0, 20)
	for i, k := range n {
		y := 20 - 18*float64(k)/float64(most)
		p.to('L', 120*float64(i)/float64(len(n)), y)
		p.to('L', 120*float64(i+1)/float64(len(n)), y)
	}
	p.to('L', 120, 20)
	p.out.WriteByte('Z')
	return p.out.String()
}

// chart draws a route's times: the share of the answers in each bucket, which
// are equally wide on the logarithmic axis.
func (r *RouteTimes) chart() *chart {
	if len(r.Buckets) == 0 {
		return nil
	}
	c := newChart("Time to the first byte of " + r.Route)
	c.Height, c.Bottom = 170, 146
	ln := func(us float64) float64 { return math.Log(max(us, 1)) }
	from, to := ln(r.Buckets[0].FromUS), ln(r.Buckets[len(r.Buckets)-1].ToUS)
	if to-from < math.Ln10 { // at least a decade, with the times in its middle
		middle := (from + to) / 2
		from, to = max(0, middle-math.Ln10/2), max(0, middle-math.Ln10/2)+math.Ln10
	}
	x := func(us float64) float64 { return c.Left + (ln(us)-from)/(to-from)*(c.Right-c.Left) }
	sides := []struct {
		class string
		n     func(b *Bucket) int64
		all   int64
	}{
		{class: "reference", n: func(b *Bucket) int64 { return b.Reference }},
		{class: "control", n: func(b *Bucket) int64 { return b.Control }},
		{class: "candidate", n: func(b *Bucket) int64 { return b.Candidate }},
	}
	var largest float64
	for i := range sides {
		for k := range r.Buckets {
			sides[i].all += sides[i].n(&r.Buckets[k])
		}
		for k := range r.Buckets {
			if sides[i].all > 0 {
				largest = max(largest, float64(sides[i].n(&r.Buckets[k]))/float64(sides[i].all))
			}
		}
	}
	y := c.shares(largest)
	for _, s := range sides {
		if s.all == 0 {
			continue
		}
		var p pen
		for i := range r.Buckets {
			b := &r.Buckets[i]
			if i == 0 {
				p.to('M', x(b.FromUS), c.Bottom)
			} else if b.FromUS > r.Buckets[i-1].ToUS*1.001 { // buckets without anything between
				p.to('L', x(r.Buckets[i-1].ToUS), c.Bottom)
				p.to('L', x(b.FromUS), c.Bottom)
			}
			at := y(float64(s.n(b)) / float64(s.all))
			p.to('L', x(b.FromUS), at)
			p.to('L', x(b.ToUS), at)
		}
		p.to('L', x(r.Buckets[len(r.Buckets)-1].ToUS), c.Bottom)
		c.Lines = append(c.Lines, line{s.class, p.out.String()})
	}
	for decade := 0; decade < 14; decade++ {
		for _, m := range []float64{1, 2, 5} {
			us := m * math.Pow(10, float64(decade))
			if ln(us) < from-1e-9 || ln(us) > to+1e-9 || m != 1 && to-from > 4*math.Ln10 {
				continue
			}
			anchor := "middle"
			if x(us) > c.Right-20 {
				anchor = "end"
			} else if x(us) < c.Left+20 {
				anchor = "start"
			}
			c.X = append(c.X, tick{x(us), micros(us), anchor})
		}
	}
	return &c
}
