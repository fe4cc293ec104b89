//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// noisy answers with a header and a field of the body that are another one each
// time, as those of a service that names its pod do. Where defect says so it is
// wrong too.
type noisy struct {
	defect bool
	mu     sync.Mutex
	roles  map[string]int
}

func (s *noisy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.roles == nil {
		s.roles = map[string]int{}
	}
	s.roles[r.Header.Get("X-Shadow-Test-Role")]++
	s.mu.Unlock()
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	name := "ada"
	if s.defect && n%5 == 0 {
		name = "bob"
	}
	h := w.Header()
	h.Set("X-Answers", r.URL.Query().Get("n"))
	h.Set("X-Pod", "pod-"+strconv.Itoa(rand.IntN(3)))
	h.Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":%d,"name":%q,"took":%d}`, n, name, rand.IntN(4))
}

func (s *noisy) asked(role string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roles[role]
}

// serve serves in a namespace until the test ends.
func (s *noisy) serve(t *testing.T, ns *bed.Namespace, address string) {
	t.Helper()
	l := ns.Listen(t, "tcp", address)
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-done })
}

// TestControl replays to a candidate that is as noisy as the reference and has
// one defect, with controls of every sort.
func TestControl(t *testing.T) {
	const count = 2000
	const secondAddr, secondURL = "10.77.2.2:8081", "http://10.77.2.2:8081"
	s := newStage(t)
	reference := &noisy{}
	reference.serve(t, s.server, "[::]:8080")
	cand := &noisy{defect: true}
	cand.serve(t, s.candidate, candidateIP+":9090")
	// The reference's latency with a control that is sick is held against this.
	traffic := load{from: s.client, workers: 8, rate: 400, count: count, request: func(n int) request {
		return request{method: http.MethodGet, path: "/item"}
	}}

	baseline := traffic.start(t).wait()
	baseline.requireNoFailure(t, "without an agent")

	// A difference, and on which sides it was found.
	type sides struct{ both, candidateOnly, alone int }
	for _, c := range []struct {
		name    string
		control string
		compare string
		serve   func(t *testing.T)
		// paired says that most are; reasons are those of what is none.
		paired  bool
		reasons string
	}{
		{"second instance", fmt.Sprintf("{url: %q, share: 100%%}", secondURL), "{recheck: 200ms}", func(t *testing.T) {
			(&noisy{}).serve(t, s.server, secondAddr)
		}, true, "apart shed stopped"},
		{"self", "{self: true, i_accept_extra_load: true, share: 100%}", "", func(*testing.T) {}, true, "apart shed stopped"},
		{"dead", fmt.Sprintf("{url: %q, share: 100%%}", secondURL), "", func(*testing.T) {}, false, "connect breaker_open apart"},
		{"hanging", fmt.Sprintf("{url: %q, share: 100%%}", secondURL), "", func(t *testing.T) {
			l := s.server.Listen(t, "tcp", secondAddr)
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					wg.Go(func() { defer conn.Close(); hold(ctx, conn) })
				}
			})
			t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
		}, false, "timeout shed breaker_open apart"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.serve(t)
			file := filepath.Join(t.TempDir(), "divergences.jsonl")
			before := reference.asked("control")
			a := startAgent(t, s, settings{
				candidate: candidateURL, control: c.control, compare: c.compare, guard: "{latency: off, errors: 100%}",
				replay: "{timeout: 500ms, max_in_flight: 64}",
				sinks:  fmt.Sprintf("[{jsonl: {path: %q}}]", file),
			})
			result := traffic.start(t).wait()
			result.requireNoFailure(t, "with a control: "+c.name)
			// One that had to wait for the control would show its timeout.
			if got, most := result.quantile(.99), max(5*baseline.quantile(.99), 250*time.Millisecond); got > most {
				t.Errorf("the reference's p99 is %v, without an agent %v", got, baseline.quantile(.99))
			}
			status := a.rest(t, 60*time.Second, completed(count))
			requireBalance(t, status)
			l := status.Ledger
			selected := l["selection"]["selected"]
			paired, failed, shed := l["control"]["paired"], l["control"]["failed"], l["control"]["shed"]
			if sum := paired + failed + shed; sum != selected || selected == 0 {
				t.Errorf("%d chosen of %d, of which all were to be", sum, selected)
			}
			// The candidate is compared whatever the control does; a busy machine sheds some.
			if l["replays"]["compared"] < selected*80/100 {
				t.Errorf("compared %v", l["replays"])
			}
			if c.paired && paired < selected*80/100 || !c.paired && paired != 0 {
				t.Errorf("%d paired of %d", paired, selected)
			}
			for _, k := range status.Counts {
				if why := k.Labels["reason"]; k.Line == "replays" && k.Labels["target"] == "control" && k.N > 0 && why != "" && !strings.Contains(c.reasons+" candidate", why) {
					t.Errorf("%d are %s %s", k.N, k.Labels["result"], why)
				}
			}
			if n := reference.asked("control") - before; (c.name == "self") != (n > 0) {
				t.Errorf("the captured server was asked %d times as the control", n)
			}
			if c.name == "self" && l["kernel_packets"]["own_replay"] < paired {
				t.Errorf("%d packets of own replays, %d pairs", l["kernel_packets"]["own_replay"], paired)
			}
			a.stop(t)

			found := map[string]*sides{}
			prints := map[string]string{}           // fingerprint to path
			counted := map[string]*verdict.Counts{} // in the windows, by fingerprint
			rechecks := map[string]uint64{}
			check := validator(t)
			for _, line := range lines(t, file) {
				var r struct {
					Schema      string
					Control     *struct{ Status int }
					ControlKind string `json:"control_kind"`
					Recheck     *struct{ Result string }
					Differences []struct{ Path, Side, Fingerprint string }
				}
				if err := json.Unmarshal([]byte(line), &r); err != nil {
					t.Fatal(err)
				}
				if r.Schema == verdict.Schema {
					w, err := verdict.ParseWindow([]byte(line))
					if err != nil {
						t.Fatal(err)
					}
					n := counted[w.Fingerprint]
					if n == nil {
						n = &verdict.Counts{}
						counted[w.Fingerprint] = n
					}
					n.Both, n.CandidateOnly, n.ControlOnly = n.Both+w.Both, n.CandidateOnly+w.CandidateOnly, n.ControlOnly+w.ControlOnly
					n.ControlChosen, n.Paired = n.ControlChosen+w.ControlChosen, n.Paired+w.Paired
					continue
				}
				if err := check(line); err != nil {
					t.Fatal(err)
				}
				if r.Recheck != nil {
					rechecks[r.Recheck.Result]++
				}
				if kind := map[bool]string{true: "self", false: "instance"}[c.name == "self"]; r.Control != nil && r.ControlKind != kind {
					t.Errorf("control_kind %q", r.ControlKind)
				}
				for _, d := range r.Differences {
					prints[d.Fingerprint] = d.Path
					if found[d.Path] == nil {
						found[d.Path] = &sides{}
					}
					switch d.Side {
					case "both":
						found[d.Path].both++
					case "candidate_only":
						found[d.Path].candidateOnly++
					default:
						found[d.Path].alone++
					}
				}
			}
			for _, path := range []string{"x-pod", "$.took", "$.name"} {
				if found[path] == nil {
					t.Fatalf("no difference in %s: %v", path, found)
				}
				t.Logf("%s: %+v", path, *found[path])
			}
			if n := counted[""]; n == nil || uint64(n.ControlChosen) != selected || uint64(n.Paired) != paired {
				t.Errorf("windows: %+v, the ledger: %v", n, l["control"])
			}
			for print, path := range prints {
				n := counted[print]
				if n == nil {
					t.Errorf("%s is in no window", path)
					continue
				}
				t.Logf("%s in windows: %d both, %d candidate only, %d control only", path, n.Both, n.CandidateOnly, n.ControlOnly)
				if noise := path != "$.name"; c.paired && ((n.Both > 0) != noise || (n.ControlOnly > 0) != noise || n.CandidateOnly == 0) ||
					!c.paired && n.Both+n.CandidateOnly+n.ControlOnly > 0 {
					t.Errorf("%s in windows: %+v", path, *n)
				}
			}
			defect := found["$.name"]
			switch {
			case !c.paired:
				for path, n := range found {
					if n.both+n.candidateOnly > 0 {
						t.Errorf("%s: %+v without a pair", path, *n)
					}
				}
			case defect.both > 0 || defect.candidateOnly < int(paired)/10:
				t.Errorf("the defect: %+v", *defect)
			case found["x-pod"].both == 0 || found["$.took"].both == 0:
				t.Errorf("noise on one side alone: %+v, %+v", *found["x-pod"], *found["$.took"])
			}
			if c.compare != "" {
				sum := uint64(0)
				for word, n := range rechecks {
					sum += n
					if l["rechecks"][word] != n {
						t.Errorf("%d records say %s, counted are %d", n, word, l["rechecks"][word])
					}
				}
				if sum != l["comparisons"]["divergent"] || rechecks["converged"] == 0 || rechecks["divergent"] == 0 {
					t.Errorf("asked once more: %v, divergent %d", rechecks, l["comparisons"]["divergent"])
				}
			}
			t.Logf("%s; control %v; rechecks %v", result, l["control"], l["rechecks"])
		})
	}
}

// lines are the lines of a file.
func lines(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}
