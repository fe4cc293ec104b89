package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func newServer(t *testing.T, spoil func(*Config)) *Server {
	t.Helper()
	c := Config{Instance: "test", Version: "v1", Counts: sound, Log: slog.New(slog.DiscardHandler)}
	if spoil != nil {
		spoil(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(h http.Handler, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

// scrape returns each series as "name{label=value,...}" with its value.
func scrape(t *testing.T, h http.Handler) map[string]float64 {
	t.Helper()
	w := get(h, "/metrics")
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]float64{}
	for name, family := range families {
		for _, m := range family.Metric {
			labels := make([]string, len(m.Label))
			for i, l := range m.Label {
				labels[i] = l.GetName() + "=" + l.GetValue()
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			series[fmt.Sprintf("%s{%s}", name, strings.Join(labels, ","))] = value
		}
	}
	return series
}

func TestMetrics(t *testing.T) {
	s := newServer(t, func(c *Config) {
		c.Gauges = func() []Gauge {
			return []Gauge{
				{Name: "attachments", Help: "Hooks that stand.", Labels: Labels("interface", "eth0"), Value: 2},
				{Name: "attachments_displaced_total", Help: "Hooks that others took.", Value: 3, Total: true},
			}
		}
	})
	got := scrape(t, s.management())
	for series, want := range map[string]float64{
		"shadowtap_kernel_packets_total{result=captured}":                                   30,
		"shadowtap_kernel_packets_total{result=no_reader}":                                  0,
		"shadowtap_kernel_packets_packets_total{}":                                          100,
		"shadowtap_exchanges_total{reason=tls,result=unparsable}":                           3,
		"shadowtap_exchanges_total{reason=,result=gap}":                                     0,
		"shadowtap_exchanges_in_flight{}":                                                   5,
		"shadowtap_exchanges_started_total{}":                                               50,
		"shadowtap_selection_total{experiment=a,reason=guard,result=paused}":                20,
		"shadowtap_replays_total{experiment=b,result=breaker_open,target=candidate}":        0,
		"shadowtap_replays_in_flight{experiment=a,target=candidate}":                        2,
		"shadowtap_deliveries_total{record=divergence,result=suppressed,sink=terminal}":     5,
		"shadowtap_deliveries_recovered_total{record=divergence,sink=kafka}":                2,
		"shadowtap_attachments{interface=eth0}":                                             2,
		"shadowtap_attachments_displaced_total{}":                                           3,
		fmt.Sprintf("shadowtap_build_info{go=%s,version=v1}", goVersion(t, s.management())): 1,
	} {
		value, ok := got[series]
		if !ok || value != want {
			t.Errorf("%s = %v, %v; want %v", series, value, ok, want)
		}
	}
	text := get(s.management(), "/metrics").Body.String()
	for _, line := range []string{
		"# TYPE shadowtap_exchanges_total counter", "# TYPE shadowtap_exchanges_in_flight gauge",
		"# TYPE shadowtap_attachments gauge", "# TYPE shadowtap_attachments_displaced_total counter",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	for _, process := range []string{"process_resident_memory_bytes{}", "go_goroutines{}"} {
		if got[process] <= 0 {
			t.Errorf("%s = %v", process, got[process])
		}
	}
}

func goVersion(t *testing.T, h http.Handler) string {
	t.Helper()
	_, rest, _ := strings.Cut(get(h, "/metrics").Body.String(), `shadowtap_build_info{go="`)
	version, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Fatal("no build info")
	}
	return version
}

// A room that hands in a name that is no metric's must not hide all others.
func TestMetricsWithABadName(t *testing.T) {
	s := newServer(t, func(c *Config) {
		c.Gauges = func() []Gauge {
			return []Gauge{{Name: "twice", Value: 1}, {Name: "twice", Value: 2}}
		}
	})
	if got := scrape(t, s.management()); got["shadowtap_kernel_packets_total{result=captured}"] != 30 {
		t.Errorf("the ledger is gone: %d series", len(got))
	}
}

func TestScrapesAtOnce(t *testing.T) {
	s := newServer(t, nil)
	h := s.management()
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if code := get(h, "/metrics").Code; code != http.StatusOK && code != http.StatusServiceUnavailable {
				t.Errorf("status %d", code)
			}
		})
	}
	wg.Wait()
}
