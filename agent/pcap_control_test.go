package agent_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// instance serves made answers, each as late as the seed says; 0 is at once.
type instance struct {
	url  string
	seed atomic.Uint64

	mu sync.Mutex
	// first is when a number was asked for first, later how often much later: a
	// pair that a busy machine brought apart is asked again at once.
	first map[int]time.Time
	later map[int]int
}

// recheck is that of the tests here; what comes after half of it is one.
const recheck = 600 * time.Millisecond

// asked says whether n was asked for, and how often once more.
func (s *instance) asked(n int) (is bool, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.first[n].IsZero(), s.later[n]
}

func (s *instance) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first, s.later = map[int]time.Time{}, map[int]int{}
}

// serveInstance answers by number, and whether that was asked for long before.
func serveInstance(t *testing.T, role string, answer func(n int, again bool) string) *instance {
	s := &instance{}
	s.forget()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get(replay.RoleHeader); got != role {
			t.Errorf("the %s was asked as %q", role, got)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/api/"))
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		now := time.Now()
		if s.first[n].IsZero() {
			s.first[n] = now
		}
		again := now.Sub(s.first[n]) > recheck/2
		s.later[n] += b2i(again)
		s.mu.Unlock()
		if seed := s.seed.Load(); seed > 0 {
			<-time.After(time.Duration(rand.New(rand.NewPCG(seed, uint64(n))).IntN(10)) * time.Millisecond)
		}
		w.Header()["Date"] = nil
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, answer(n, again))
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// numbers is a capture of GET /api/0 and so on, two a connection.
func numbers(n int) *made {
	m := newMade()
	for i := 0; i < n; i += 2 {
		var turns []string
		for k := i; k < i+2; k++ {
			body := value(k, 0, 0)
			turns = append(turns, fmt.Sprintf("GET /api/%d HTTP/1.1\r\nHost: example.com\r\n\r\n", k),
				fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}
		m.say(turns...)
	}
	return m
}

func value(n, wrong, took int) string {
	return fmt.Sprintf(`{"value":%d,"square":%d,"took":%d}`, n, n*n+wrong, took)
}

// The candidate is wrong with the 7s. What differs between two instances is
// $.took: with one of them or with both, by the hundreds and tens.
func candidateValue(n int, _ bool) string {
	return value(n, b2i(n%10 == 7), b2i(n/10%5 == 1 || n/10%5 == 3))
}
func controlValue(n int, _ bool) string { return value(n, 0, b2i(n/10%5 == 2 || n/10%5 == 3)) }

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

const controlYAML = `version: 1
capture: {ports: [80]}
experiments:
  - name: users
    match: {port: 80}
    routes: [{path: "/api/{value}", key: "{value}"}]
    sample: {rate: 100%%}
    candidate: {url: "%s", version: v2}
    control: {url: "%s", share: %s}
    replay: {max_in_flight: 8, timeout: 30s}
    compare: {recheck: %s}
verdict: {noise_margin: 9%%}
publish: {per_fingerprint: 5}
`

// A control tells noise from a fault in a capture, by the same counts as in live
// traffic, and the same in every run and from the recording.
func TestPcapControl(t *testing.T) {
	const n = 1200
	capture, dir := numbers(n).save(t), filepath.Join(t.TempDir(), "recording")
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	cand, ctrl := serveInstance(t, "candidate", candidateValue), serveInstance(t, "control", controlValue)
	first := replayed(t, capture, configured(t, controlYAML, cand.url, ctrl.url, "100%", "0s"), dir, nil)
	for run := range 3 {
		runtime.GOMAXPROCS(1 + run%2)
		cand.seed.Store(uint64(1 + run))
		ctrl.seed.Store(uint64(100 + run))
		again := replayed(t, capture, configured(t, controlYAML, cand.url, ctrl.url, "100%", "0s"), "", nil)
		if again.jsonl != first.jsonl {
			t.Errorf("run %d: other records: %s", run, firstDifference(first.jsonl, again.jsonl))
		}
		if again.text != first.text || !bytes.Equal(again.json, first.json) {
			t.Errorf("run %d: another report: %s", run, firstDifference(first.text, again.text))
		}
	}
	d, warned, err := reported(t, dir, "")
	if err != nil || warned != "" {
		t.Fatal(err, warned)
	}
	if text, j := written(t, d); text != first.text || !bytes.Equal(j, first.json) {
		t.Errorf("the recording's report is another: %s", firstDifference(first.text, text))
	}

	e := first.doc.Experiments[0]
	if len(e.Routes) != 1 || len(e.Causes) != 2 {
		t.Fatalf("%d routes, %d causes in\n%s", len(e.Routes), len(e.Causes), first.text)
	}
	if c := e.Counts; c.Selected != n || c.ControlChosen != n || c.Paired != n || c.Both != n/5+n/50 || c.CandidateOnly+c.Both != c.Divergent {
		t.Errorf("counts %+v", c)
	}
	got := map[string]string{}
	for _, c := range e.Causes {
		got[c.Example.Path] = fmt.Sprintf("%s: both %d, candidate only %d, control only %d, b and d %v %v", c.Class, c.Both, c.CandidateOnly, c.ControlOnly, c.B > 0, c.D > 0)
	}
	want := map[string]string{
		`$.square`: fmt.Sprintf("candidate: both 0, candidate only %d, control only 0, b and d true false", n/10),
		`$.took`:   fmt.Sprintf("noise: both %d, candidate only %d, control only %d, b and d true true", n/5, n/5, n/5),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("causes %v\nwant   %v", got, want)
	}
	if l := e.Routes[0].Latency; l.Word != verdict.LatencyNotMeasured || !strings.Contains(first.text, "were not taken (of a capture they are with --times)") {
		t.Errorf("latency %+v in\n%s", l, first.text)
	}
	divergences, _ := records(t, first.jsonl)
	sides := map[string]int{}
	for _, r := range divergences {
		if r["control_kind"] != "instance" || r["control"].(map[string]any)["ttfb_us"] != nil {
			t.Fatalf("control %v of kind %v", r["control"], r["control_kind"])
		}
		for _, f := range r["differences"].([]any) {
			f := f.(map[string]any)
			sides[fmt.Sprint(f["path"], " ", f["side"])]++
		}
	}
	if sides[`$.square candidate_only`] == 0 || sides[`$.took both`] == 0 || sides[`$.took candidate_only`] == 0 || sides[`$.square both`] != 0 {
		t.Errorf("sides %v", sides)
	}

	// Other rules hold for the control's answers too.
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rules, []byte("ignore: {json: [$.took]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, _, err = reported(t, dir, rules)
	if err != nil {
		t.Fatal(err)
	}
	if c := d.Experiments[0].Counts; c.Paired != n || c.Both != 0 || c.ControlOnly != 0 || c.CandidateOnly != n/10 {
		t.Errorf("with other rules: %+v", c)
	}
}

// The share is drawn by the exchange, and of a candidate that is down the control
// is shed for what would have gone to both.
func TestPcapControlShare(t *testing.T) {
	const n = 400
	capture := numbers(n).save(t)
	cand, ctrl := serveInstance(t, "candidate", candidateValue), serveInstance(t, "control", controlValue)
	dir := filepath.Join(t.TempDir(), "recording")
	first := replayed(t, capture, configured(t, controlYAML, cand.url, ctrl.url, "25%", "0s"), dir, nil)
	c := first.doc.Experiments[0].Counts
	asked := map[int]bool{}
	for i := range n {
		asked[i], _ = ctrl.asked(i)
		if is, _ := cand.asked(i); !is {
			t.Fatalf("the candidate was not asked for %d", i)
		}
	}
	chosen := 0
	for _, is := range asked {
		chosen += b2i(is)
	}
	// Five standard deviations.
	if int(c.ControlChosen) != chosen || int(c.Paired) != chosen || chosen < 100-43 || chosen > 100+43 {
		t.Errorf("%d of %d went to the control; counts %+v", chosen, n, c)
	}
	divergences, _ := records(t, first.jsonl)
	for _, r := range divergences {
		if want := sample.Keep(r["exchange_id"].(string), "control", sample.Rate{Hundredths: 25_00}); (r["control"] != nil) != want {
			t.Errorf("%s: control %v, drawn %v", r["exchange_id"], r["control"], want)
		}
	}
	ctrl.forget()
	replayed(t, capture, configured(t, controlYAML, cand.url, ctrl.url, "25%", "0s"), "", nil)
	for i := range n {
		if is, _ := ctrl.asked(i); is != asked[i] {
			t.Errorf("%d: another choice in the second run", i)
		}
	}

	// Nobody answers: the breaker leaves the candidate alone.
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + ln.Addr().String()
	ln.Close()
	dead := replayed(t, capture, configured(t, controlYAML, gone, ctrl.url, "25%", "0s"), dir, func(o *agent.PcapOptions) { o.Patience = 50 * time.Millisecond })
	k := dead.doc.Experiments[0].Counts
	if int(k.ControlChosen) != chosen || k.Paired != 0 || k.ControlShed == 0 || k.BreakerOpen == 0 {
		t.Errorf("with a dead candidate: %+v", k)
	}
	requireSameReport(t, dir, dead)
}

// A control that is down costs the pairs, each counted, and no comparison.
func TestPcapDeadControl(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + ln.Addr().String()
	ln.Close()
	cand := serveInstance(t, "candidate", candidateValue)
	dir := filepath.Join(t.TempDir(), "recording")
	out := replayed(t, numbers(200).save(t), configured(t, controlYAML, cand.url, gone, "100%", "0s"), dir, func(o *agent.PcapOptions) { o.Patience = 50 * time.Millisecond })
	c := out.doc.Experiments[0].Counts
	if c.Compared != 200 || len(c.Failed) != 0 || c.ControlFailed < 10 || c.ControlFailed+c.ControlShed != 200 || c.Paired != 0 {
		t.Errorf("%+v", c)
	}
	requireSameReport(t, dir, out)
}

// With Times the times of both are there, and judged.
func TestPcapControlTimes(t *testing.T) {
	cand, ctrl := serveInstance(t, "candidate", candidateValue), serveInstance(t, "control", controlValue)
	dir := filepath.Join(t.TempDir(), "recording")
	c := configured(t, controlYAML, cand.url, ctrl.url, "100%", "0s")
	c.Experiments[0].Replay.Warmup = 0
	out := replayed(t, numbers(200).save(t), c, dir, func(o *agent.PcapOptions) { o.Times = true })
	l := out.doc.Experiments[0].Routes[0].Latency
	if l.Pairs+l.NewConnection != 200 || l.Pairs < 100 || l.Quantiles[0].Difference == nil || l.Word == verdict.LatencyNotMeasured {
		t.Errorf("%+v", l)
	}
	requireSameReport(t, dir, out)
}

// A published divergence is asked once more, after the recheck's time, and no
// other; the recording knows the answers, so that other rules judge them anew.
func TestPcapRecheck(t *testing.T) {
	const n = 200
	// Asked once more the candidate is right with the odd tens, and with the
	// even ones in the square alone.
	answer := func(n int, again bool) string {
		switch {
		case n%10 != 7:
			return value(n, 0, 0)
		case !again:
			return value(n, 1, 1)
		case n/10%2 == 1:
			return value(n, 0, 0)
		}
		return value(n, 0, 1)
	}
	capture := numbers(n).save(t)
	cand := serveInstance(t, "candidate", answer)
	ctrl := serveInstance(t, "control", func(n int, _ bool) string { return value(n, 0, 0) })
	for _, with := range []string{ctrl.url, ""} {
		t.Run("control "+with, func(t *testing.T) {
			conf := func() *config.Config {
				c := configured(t, controlYAML, cand.url, ctrl.url, "100%", recheck.String())
				if with == "" {
					c.Experiments[0].Control = config.NewExperiment("").Control
				}
				return c
			}
			cand.forget()
			ctrl.forget()
			dir := filepath.Join(t.TempDir(), "recording")
			first := replayed(t, capture, conf(), dir, nil)
			results := rechecks(t, first.jsonl)
			if len(results) < 5 || len(results) > 10 {
				t.Fatalf("rechecks of %v", results)
			}
			for k := range n {
				result, published := results[k]
				if want := []string{"divergent", "converged"}[k/10%2]; published && result != want {
					t.Errorf("%d: %s, want %s", k, result, want)
				}
				if _, got := cand.asked(k); got != b2i(published) {
					t.Errorf("%d: the candidate was asked once more %d times, want %d", k, got, b2i(published))
				}
				if _, got := ctrl.asked(k); with != "" && got != b2i(published) {
					t.Errorf("%d: the control was asked once more %d times, want %d", k, got, b2i(published))
				}
			}
			g := telemetry.NewLedger(first.counts)["rechecks"]
			if int(g["converged"]+g["divergent"]) != len(results) || g["converged"] == 0 || g["divergent"] == 0 {
				t.Errorf("ledger %v", g)
			}
			cand.forget()
			ctrl.forget()
			cand.seed.Store(7)
			if second := replayed(t, capture, conf(), "", nil); second.jsonl != first.jsonl || second.text != first.text {
				t.Errorf("the second run is another: %s", firstDifference(first.jsonl, second.jsonl))
			}
			cand.seed.Store(0)
			requireSameReport(t, dir, first)
			rules := filepath.Join(t.TempDir(), "rules.yaml")
			if err := os.WriteFile(rules, []byte("ignore: {json: [$.took]}"), 0o600); err != nil {
				t.Fatal(err)
			}
			other, _, err := reported(t, dir, rules)
			if err != nil {
				t.Fatal(err)
			}
			// The first of them, /api/7.
			for want, d := range map[string]*report.Document{"divergent": first.doc, "converged": other} {
				i := slices.IndexFunc(d.Experiments[0].Causes, func(c report.Cause) bool { return c.Example.Path == "$.square" })
				if x := d.Experiments[0].Causes[i].Example; x.Recheck != want || x.URL != "/api/7" {
					t.Errorf("%s: %q, want %q", x.URL, x.Recheck, want)
				}
				if text, _ := written(t, d); !strings.Contains(text, "asked once more: "+want) {
					t.Errorf("no word of it in\n%s", text)
				}
			}
		})
	}
}

// rechecks are the results by the number that was asked for.
func rechecks(t *testing.T, jsonl string) map[int]string {
	t.Helper()
	out := map[int]string{}
	divergences, _ := records(t, jsonl)
	for _, r := range divergences {
		k, err := strconv.Atoi(r["params"].(map[string]any)["value"].(string))
		if err != nil {
			t.Fatal(err)
		}
		c, ok := r["recheck"].(map[string]any)
		if !ok {
			t.Fatalf("%d was not asked once more", k)
		}
		if c["after_us"] != nil {
			t.Errorf("%d: a time that differs from run to run: %v", k, c)
		}
		out[k] = c["result"].(string)
	}
	return out
}

// The captured server is not asked by what a capture says of it.
func TestPcapControlSelf(t *testing.T) {
	cand := serveInstance(t, "candidate", candidateValue)
	text := strings.Replace(controlYAML, `url: "%s", share: %s`, `self: true, i_accept_extra_load: true, share: %s`, 1)
	c := configured(t, text, cand.url, "100%", "0s")
	_, err := agent.Pcap(t.Context(), agent.PcapOptions{
		Path: numbers(2).save(t), Ports: []uint16{80}, Config: c, Terminal: agent.Terminal{Out: io.Discard}, Log: slog.New(slog.DiscardHandler),
	})
	if err == nil || !strings.HasPrefix(err.Error(), "made.yaml:9:") || !strings.Contains(err.Error(), "experiments[0].control.self") || !strings.Contains(err.Error(), "--control") {
		t.Error(err)
	}
	if is, _ := cand.asked(0); is {
		t.Error("the candidate was asked")
	}
}

// Each experiment has a line, by its own candidate and control.
func TestPcapExperiments(t *testing.T) {
	cand, ctrl := serveInstance(t, "candidate", candidateValue), serveInstance(t, "control", controlValue)
	good := serveInstance(t, "candidate", func(n int, _ bool) string { return value(n, 0, 0) })
	text := fmt.Sprintf(controlYAML, cand.url, ctrl.url, "100%", "0s")
	second := fmt.Sprintf(`  - name: good
    match: {port: 80}
    routes: [{path: "/api/{value}"}]
    sample: {rate: 50%%}
    candidate: {url: "%s"}
verdict:`, good.url)
	text = strings.Replace(text, "verdict:", second, 1)
	dir := filepath.Join(t.TempDir(), "recording")
	conf := func() *config.Config { return configured(t, "%s", text) }
	capture := numbers(400).save(t)
	first := replayed(t, capture, conf(), dir, nil)
	if len(first.doc.Experiments) != 2 {
		t.Fatalf("%d experiments", len(first.doc.Experiments))
	}
	for _, e := range first.doc.Experiments {
		c := e.Counts
		switch e.Experiment.Experiment {
		case "users":
			if c.Compared != 400 || c.Paired != 400 || c.Divergent == 0 {
				t.Errorf("users %+v", c)
			}
		case "good":
			if c.Compared+c.SampledOut != 400 || c.Compared < 150 || c.ControlChosen != 0 || c.Divergent != 0 {
				t.Errorf("good %+v", c)
			}
		}
	}
	if again := replayed(t, capture, conf(), "", nil); again.text != first.text || again.jsonl != first.jsonl {
		t.Errorf("the second run is another: %s", firstDifference(first.text, again.text))
	}
	requireSameReport(t, dir, first)
}
