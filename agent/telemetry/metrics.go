package telemetry

import (
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Gauge is a number that is no part of the ledger: a queue's length, a limit,
// a state.
type Gauge struct {
	// Name is the metric's name without shadowtap_, with its unit at the end.
	Name string
	// Help is one sentence.
	Help   string
	Labels []Label
	Value  float64
	// Total says that it only grows; its name ends in _total then.
	Total bool
}

// help of the ledger's metrics.
var help = map[string]string{
	"kernel_packets":  "Packets that the program in the kernel saw, by what became of them.",
	"captured_bytes":  "TCP payload taken from the kernel or a file, by what became of it.",
	"delivered_bytes": "Payload put in order, by what the parsers made of it.",
	"exchanges":       "Requests whose head began, by how they ended.",
	"selection":       "Complete exchanges, by what sampling decided for the experiment.",
	"replays":         "Exchanges selected for replay, by what became of them.",
	"comparisons":     "Compared pairs, by outcome.",
	"rechecks":        "Divergences asked once more after compare.recheck, by what came of it.",
	"deliveries":      "Records for a sink, by what became of them.",
}

// collector turns the ledger and the gauges into metrics at each scrape. It
// describes nothing beforehand: which labels there are is the rooms' to know.
type collector struct {
	counts Source
	gauges func() []Gauge
}

func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	counts := complete(c.counts())
	// A metric's series must all have the same label names.
	names := map[string][]string{}
	for i := range counts {
		name := metricName(&counts[i])
		for _, l := range counts[i].Labels {
			if keep(&counts[i], l) && !slices.Contains(names[name], l.Name) {
				names[name] = append(names[name], l.Name)
			}
		}
	}
	for i := range counts {
		n := &counts[i]
		name := metricName(n)
		values := make([]string, len(names[name]))
		for j, label := range names[name] {
			values[j] = n.Get(label)
		}
		text, kind := help[n.Line], prometheus.CounterValue
		switch n.Kind {
		case InFlight:
			text, kind = "Begun and not ended yet; part of the sum of shadowtap_"+n.Line+"_total.", prometheus.GaugeValue
		case Left:
			text = "The left side of shadowtap_" + n.Line + "_total as the room counts it by itself."
		}
		emit(out, "shadowtap_"+name, text, names[name], kind, float64(n.N), values)
	}
	if c.gauges == nil {
		return
	}
	for _, g := range c.gauges() {
		labels, values := make([]string, len(g.Labels)), make([]string, len(g.Labels))
		for i, l := range g.Labels {
			labels[i], values[i] = l.Name, l.Value
		}
		kind := prometheus.GaugeValue
		if g.Total {
			kind = prometheus.CounterValue
		}
		emit(out, "shadowtap_"+g.Name, g.Help, labels, kind, g.Value, values)
	}
}

// keep says whether a label is shown: the word of a Left count is in the
// metric's name.
func keep(c *Count, l Label) bool { return c.Kind != Left || l.Name != "result" }

func metricName(c *Count) string {
	switch c.Kind {
	case InFlight:
		return c.Line + "_in_flight"
	case Left:
		return c.Line + "_" + strings.ReplaceAll(c.Get("result"), " ", "_") + "_total"
	}
	return c.Line + "_total"
}

// emit hands on one metric; a name or a value that the format can't hold makes
// the scrape say so, and the others are shown all the same.
func emit(out chan<- prometheus.Metric, name, text string, labels []string, kind prometheus.ValueType, v float64, values []string) {
	desc := prometheus.NewDesc(name, text, labels, nil)
	m, err := prometheus.NewConstMetric(desc, kind, v, values...)
	if err != nil {
		m = prometheus.NewInvalidMetric(desc, err)
	}
	out <- m
}

// newRegistry has the ledger, the gauges, the version and what the process
// uses. Nothing else is in it.
func newRegistry(c collector, version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "shadowtap_build_info",
		Help:        "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	info.Set(1)
	r.MustRegister(c, info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
