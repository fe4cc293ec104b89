package telemetry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// Check is one condition of health.
type Check struct {
	// Name is a word or two, for people and alerts.
	Name string
	// Check returns nil when the condition holds, else what is wrong. It is
	// called from requests, several at once, and must return at once.
	Check func() error
}

// Pulse is the sign of life of a loop: the loop beats, a check looks whether
// it did lately.
type Pulse struct {
	name string
	most time.Duration
	now  func() time.Time
	last atomic.Int64
}

// NewPulse makes a pulse that is alive from now on as long as two beats are no
// more than most apart. now tells the time; nil means time.Now.
func NewPulse(name string, most time.Duration, now func() time.Time) *Pulse {
	if now == nil {
		now = time.Now
	}
	p := &Pulse{name: name, most: most, now: now}
	p.Beat()
	return p
}

// Beat says that the loop went round. It allocates nothing; any goroutine may
// call it.
func (p *Pulse) Beat() { p.last.Store(p.now().UnixNano()) }

// Check is the check of the pulse.
func (p *Pulse) Check() Check {
	return Check{Name: p.name, Check: func() error {
		if age := time.Duration(p.now().UnixNano() - p.last.Load()); age > p.most {
			return fmt.Errorf("no sign of life for %v, at most %v is allowed", age.Round(time.Millisecond), p.most)
		}
		return nil
	}}
}

// CheckResult is the outcome of a Check.
type CheckResult struct {
	Name string `json:"name"`
	// Kind is "live" or "ready".
	Kind  string `json:"kind"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// Words of a state of health.
const (
	// StatusOK: everything holds.
	StatusOK = "ok"
	// StatusNotReady: the loops run, but something that was asked for does not
	// stand.
	StatusNotReady = "not ready"
	// StatusNotLive: a loop stands still.
	StatusNotLive = "not live"
)

// health runs the checks.
func (s *Server) health() (status string, results []CheckResult) {
	status = StatusOK
	run := func(kind, bad string, checks []Check) {
		for _, c := range checks {
			r := CheckResult{Name: c.Name, Kind: kind, OK: true}
			if err := c.Check(); err != nil {
				r.OK, r.Error, status = false, err.Error(), bad
			}
			results = append(results, r)
		}
	}
	run("ready", StatusNotReady, s.config.Ready)
	run("live", StatusNotLive, s.config.Live)
	return status, results
}

// probe serves /livez or /readyz: 200 "ok", or 503 and what is wrong, a line a
// check; with ?verbose every check.
func (s *Server) probe(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, results := s.health()
		verbose := r.URL.Query().Has("verbose")
		code, text := http.StatusOK, ""
		for _, c := range results {
			switch {
			case c.Kind != kind:
			case !c.OK:
				code = http.StatusServiceUnavailable
				text += fmt.Sprintf("%s: %s\n", c.Name, c.Error)
			case verbose:
				text += c.Name + ": ok\n"
			}
		}
		if text == "" || code == http.StatusOK {
			text += "ok\n"
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		fmt.Fprint(w, text)
	}
}

// healthz serves the state as JSON: 200 when it is ok, else 503.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	status, results := s.health()
	answer := struct {
		Status   string        `json:"status"`
		Instance string        `json:"instance"`
		Version  string        `json:"version"`
		UptimeS  int64         `json:"uptime_s"`
		Checks   []CheckResult `json:"checks,omitempty"`
	}{status, s.config.Instance, s.config.Version, int64(s.uptime().Seconds()), nil}
	for _, c := range results {
		if !c.OK || r.URL.Query().Has("verbose") {
			answer.Checks = append(answer.Checks, c)
		}
	}
	code := http.StatusOK
	if status != StatusOK {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, answer)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer is no JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	w.Write(append(text, '\n'))
}
