package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/publish/schema"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Thresholds that make no sense are refused where they are written, also without
// an experiment.
func TestCheckConfigVerdict(t *testing.T) {
	for written, want := range map[string]string{
		"{confidence: 100%}":                       "f:2:23: verdict.confidence: is out of range: write more than 0% and less than 100%",
		"{alpha: 0%}":                              "f:2:18: verdict.alpha: is out of range: write more than 0% and less than 100%",
		"{max_divergence: 0%, max_unseen: 100%}":   "<nil>",
		"{alpha: 1%, max_latency: {p99: 100000%}}": "<nil>",
	} {
		c, _, err := config.Parse("f", []byte("version: 1\nverdict: "+written+"\n"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(CheckConfig(c)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", written, got, want)
		}
	}
	if got := VerdictSettings(&config.New().Verdict); got != verdict.DefaultSettings() {
		t.Errorf("the configuration's defaults are %+v", got)
	}
}

// pipeline is the agent behind its rings: shards, replay to a candidate that
// differs for /a/diff, JSON lines.
type pipeline struct {
	*Agent
	file           string
	run            context.Context
	ended, replays chan error
}

func newPipeline(t *testing.T, shards int, experiments string) *pipeline {
	t.Helper()
	candidate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"], w.Header()["Date"] = nil, nil
		body := "ok"
		if strings.HasPrefix(r.URL.Path, "/a/diff") {
			body = "no"
		}
		if strings.HasPrefix(r.URL.Path, "/a/broken") {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, body)
	}))
	t.Cleanup(candidate.Close)
	file := filepath.Join(t.TempDir(), "records.jsonl")
	text := strings.ReplaceAll("version: 1\nexperiments:\n"+experiments+"\nsinks: [{jsonl: {path: "+file+"}}]\n", "CANDIDATE", candidate.URL)
	c, _, err := config.Parse("f", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &pipeline{
		Agent: &Agent{opt: Options{Terminal: Terminal{Out: io.Discard}}, cfg: c, log: slog.New(slog.DiscardHandler), start: time.Now()},
		file:  file, run: t.Context(), ended: make(chan error, 1), replays: make(chan error, 16),
	}
	if err := p.build(nil, redact.SourceLive); err != nil {
		t.Fatal(err)
	}
	for range shards {
		if _, err := p.newShard(16 << 20); err != nil {
			t.Fatal(err)
		}
	}
	go func() { p.ended <- p.publisher.Run(p.run) }()
	for _, x := range p.experiments {
		go func() { p.replays <- x.replayer.Run(p.run) }()
	}
	return p
}

// stop ends it in the order of Agent.Run.
func (p *pipeline) stop(t *testing.T, now time.Time) {
	t.Helper()
	for _, s := range p.shards {
		s.close(reassembly.CloseStopped)
	}
	for _, x := range p.experiments {
		x.replayer.Stop()
	}
	for range p.experiments {
		if err := <-p.replays; err != nil {
			t.Error(err)
		}
	}
	p.windows.flush(p.run, now)
	if err := p.publisher.Stop(p.run); err != nil {
		t.Error(err)
	}
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
}

// records reads the windows back, and checks each against its schema. others is
// the number of records of another schema.
func (p *pipeline) records(t *testing.T) (windows []*verdict.Window, others int) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Window()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("window.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("window.json")
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(all) {
		w, err := verdict.ParseWindow(bytes.TrimSpace(line))
		if err != nil {
			others++
			continue
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err == nil {
			err = compiled.Validate(v)
		}
		if err != nil {
			t.Errorf("%v\n%s", err, line)
		}
		windows = append(windows, w)
	}
	return windows, others
}

// requireSameCounts compares what the windows of an experiment sum up to with
// the ledger. lost is what the windows must have of it.
func requireSameCounts(t *testing.T, counts []telemetry.Count, experiment string, n *verdict.Counts, lost map[string]int64) {
	t.Helper()
	want := map[string]int64{}
	for i := range counts {
		c := &counts[i]
		if c.Kind == telemetry.Result && c.Get("experiment") == experiment && c.Get("target") != "control" {
			want[c.Line+" "+c.Get("result")] += int64(c.N)
			if c.Line == "comparisons" && c.Get("result") == "not_comparable" {
				want["not_comparable "+c.Get("reason")] += int64(c.N)
			}
		}
	}
	got := map[string]int64{
		"selection own_traffic": n.OwnTraffic, "selection unmatched": n.Unmatched, "selection excluded": n.Excluded,
		"selection not_replayable": n.NotReplayable, "selection unsafe": n.Unsafe, "selection paused": n.Paused,
		"selection ended": n.Ended, "selection sampled_out": n.SampledOut, "selection selected": n.Selected,
		"replays compared": n.Compared, "replays shed": n.Shed, "replays rate_limited": n.RateLimited,
		"replays breaker_open": n.BreakerOpen, "replays stopped": n.Stopped,
		"comparisons equal": n.Equal, "comparisons ignored": n.Ignored, "comparisons divergent": n.Divergent,
		"comparisons not_comparable": 0,
	}
	for why, k := range n.NotComparable {
		got["comparisons not_comparable"] += k
		got["not_comparable "+why] += k
	}
	maps.DeleteFunc(want, func(_ string, n int64) bool { return n == 0 })
	maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
	if !maps.Equal(got, want) {
		t.Errorf("experiment %s: the windows have %v, the ledger %v", experiment, got, want)
	}
	if !maps.Equal(n.Lost, lost) {
		t.Errorf("experiment %s: the windows have lost %v, want %v", experiment, n.Lost, lost)
	}
}

// TestWindowsAreTheLedger: what the windows of all shards sum up to is what the
// ledger counted, for every sort of traffic, over several windows.
func TestWindowsAreTheLedger(t *testing.T) {
	p := newPipeline(t, 2, `
  - {name: all, match: {port: 80}, routes: [{path: "/a/{x...}"}, {path: "/s/{x...}", sample: 0%}], exclude: [/a/out],
     sample: {rate: 100%}, candidate: {url: CANDIDATE, version: v2}, replay: {warmup: 0s, max_in_flight: 64}}
  - {name: none, match: {port: 80}, routes: [{path: /a/same}], sample: {rate: 0%}, candidate: {url: CANDIDATE}}
  - {name: some, match: {port: 80}, routes: [{path: /a/same}], sample: {rate: 100%}, candidate: {url: CANDIDATE}, replay: {max_rate: 1/s}}`)
	begin := time.Now().Truncate(verdict.WindowLength).Add(-30 * time.Second)
	port := uint16(1000)
	at := func(window int, more time.Duration) int64 {
		return begin.Add(time.Duration(window)*verdict.WindowLength + more).UnixNano()
	}
	ask := func(s *shard, now int64, method, path string) *talk {
		port++
		c := open(s, port, now)
		c.send(true, reassembly.ACK, method+" "+path+" HTTP/1.1\r\nHost: h\r\n\r\n", now)
		return c
	}
	say := func(s *shard, now int64, method, path string) {
		c := ask(s, now, method, path)
		c.answer(now + int64(time.Millisecond))
	}
	for window := range 3 {
		for i, s := range p.shards {
			for k := range 5 {
				now := at(window, time.Duration(k)*time.Second)
				say(s, now, "GET", "/a/same")
				say(s, now, "GET", fmt.Sprintf("/a/diff/%d", k))
				say(s, now, "GET", "/a/out")
				say(s, now, "GET", "/s/x")
				say(s, now, "GET", "/else")
				say(s, now, "DELETE", "/a/gone")
				say(s, now, "GET", "/a/gone")
				s.Tick(now)
			}
			if window == 0 && i == 0 {
				say(s, at(0, 6*time.Second), "GET", "/a/broken")
				// Replays end before they are many: the rest is not to be shed.
				deadline := time.After(30 * time.Second)
				for tick := time.NewTicker(time.Millisecond); p.experiments[0].replayer.Stats().InFlight > 0; {
					select {
					case <-tick.C:
					case <-deadline:
						t.Fatal("replays do not end")
					}
				}
			}
		}
	}
	s := p.shards[0]
	// Lost: selected ones that get no answer, one that is not selected, and
	// bytes that are no request.
	for _, path := range []string{"/a/same", "/a/diff", "/else", "/s/x"} {
		ask(s, at(1, 0), "GET", path)
	}
	junk := open(s, 60000, at(2, 0))
	junk.send(true, reassembly.ACK, "\x16\x03\x01\x00", at(2, 0))
	p.stop(t, begin.Add(45*time.Second))

	counts := p.Counts()
	for _, i := range telemetry.Balance(counts) {
		t.Error(i)
	}
	windows, others := p.records(t)
	merge := verdict.NewMerge()
	sequence, rtts := map[int64]bool{}, 0
	starts := map[string]map[verdict.Time]bool{}
	for _, w := range windows {
		if err := merge.Add(w); err != nil {
			t.Error(err)
		}
		sequence[w.Sequence] = true
		if us := w.CandidateMinRTTUS; us > 0 && us < 1e6 {
			rtts++
		} else if us != 0 {
			t.Errorf("a round trip of %d us on loopback", us)
		}
		if w.Fingerprint == "" {
			if starts[w.Experiment+" "+w.Route] == nil {
				starts[w.Experiment+" "+w.Route] = map[verdict.Time]bool{}
			}
			starts[w.Experiment+" "+w.Route][w.WindowStart] = true
		}
	}
	if rtts == 0 {
		t.Error("no window has a round trip to the candidate")
	}
	for i := range windows {
		if !sequence[int64(i+1)] {
			t.Fatalf("%d windows, and none has the sequence %d", len(windows), i+1)
		}
	}
	// Five windows of each route: three with traffic, the rest empty.
	for _, route := range []string{"all ", "all /a/{x...}", "all /s/{x...}", "none ", "none /a/same"} {
		if len(starts[route]) != 5 {
			t.Errorf("route %q has windows at %v, want 5", route, starts[route])
		}
	}
	r := merge.Report(verdict.DefaultSettings())
	if len(r.Experiments) != 3 || r.Missing != 0 || r.Conflicts != 0 || r.Repeats != 0 {
		t.Fatalf("%+v", r)
	}
	for _, e := range r.Experiments {
		want := map[string]int64{"stopped": 2, "unparsable": 1}
		switch e.Experiment {
		case "none":
			want = map[string]int64{"unparsable": 1}
		case "some": // selected, and then not replayed
			want = map[string]int64{"stopped": 1, "unparsable": 1}
			if e.Counts.RateLimited == 0 {
				t.Errorf("no rate limit: %+v", e.Counts)
			}
		}
		requireSameCounts(t, counts, e.Experiment, &e.Counts, want)
	}
	// And by route.
	for _, rt := range r.Experiments[0].Routes {
		n := &rt.Counts
		if rt.Route == "/s/{x...}" && (n.SampledOut != 30 || n.Complete != 30) || rt.Route == "/a/{x...}" && (n.Excluded != 30 || n.Unsafe != 30 || n.Selected != 91) {
			t.Errorf("route %s: %+v", rt.Route, n)
		}
	}
	l := telemetry.NewLedger(counts)
	// A DELETE makes the reads of its path stale.
	c := l["comparisons"]
	if l["exchanges"]["stopped"] != 4 || c["divergent"] != 31 || c["equal"] < 30 || c["not_comparable"] != 30 || others != int(l["deliveries"]["acknowledged"]) {
		t.Errorf("%v, %v, %d records of pairs", l["exchanges"], c, others)
	}
	all := &r.Experiments[0]
	if all.Counts.Failed["closed"] != 1 || len(all.Fingerprints) != 1 || all.Fingerprints[0].Divergent != 30 || all.CandidateVersion != "v2" {
		t.Errorf("failed %v, fingerprints %+v", all.Counts.Failed, all.Fingerprints)
	}
	// The running agent's own report says the same, with an example.
	text, err := p.windows.report.JSON(counts)
	if err != nil {
		t.Fatal(err)
	}
	d, err := report.ReadDocument(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Experiments) != 3 || d.Ledger["selection"]["selected"] != l["selection"]["selected"] || d.Input.Windows != int64(len(windows)) || d.Input.Divergences != int64(others) {
		t.Fatalf("%d experiments, ledger %v, input %+v", len(d.Experiments), d.Ledger, d.Input)
	}
	for i := range d.Experiments {
		if e := &d.Experiments[i]; !reflect.DeepEqual(e.Counts, r.Experiments[i].Counts) || e.Word != r.Experiments[i].Word {
			t.Errorf("the agent's report has %+v, %s, the windows %+v, %s", e.Counts, e.Word, r.Experiments[i].Counts, r.Experiments[i].Word)
		}
	}
	for _, c := range d.Experiments[0].Causes {
		if c.Example == nil {
			t.Errorf("no example of %+v", c)
		}
	}
	// One agent, whose records share a key and name it and its start.
	if len(r.Agents) != 1 || r.Agents[0].Agent != nodeName() || len(r.Agents[0].BootID) != 36 {
		t.Errorf("agents %+v", r.Agents)
	}
}

// The agent's own report keeps within its memory for ever: it begins anew.
func TestLiveReportBeginsAnew(t *testing.T) {
	w, err := countWindows(verdict.CollectorConfig{Agent: "a", BootID: "b", Experiments: []verdict.CollectorExperiment{{Name: "x", SampleBy: "request", Routes: []string{"/"}}}})
	if err != nil {
		t.Fatal(err)
	}
	const memory = 1 << 20
	r, err := newLiveReport(memory, verdict.DefaultSettings(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	made := 0
	for range 2*r.config.MaxRecords + 100 {
		now = now.Add(verdict.WindowLength)
		list := w.collector.Advance(now)
		made += len(list)
		r.windows(list)
	}
	d, err := r.b.Document(verdict.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	if n := int(d.Input.Windows); n != made%r.config.MaxRecords || n == made || d.Input.LeftOut != 0 || d.Input.Missing != 0 || r.begun != uint64(made/r.config.MaxRecords) {
		t.Errorf("made %d windows, bound %d, begun anew %d times: %+v", made, r.config.MaxRecords, r.begun, d.Input)
	}
}

// Divergences cost the report no more than its share of a second.
func TestLiveReportExamples(t *testing.T) {
	r, err := newLiveReport(1<<30, verdict.DefaultSettings(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	red, err := redact.New(redact.Config{})
	if err != nil {
		t.Fatal(err)
	}
	looked := func() int64 {
		for range 3 * liveExamples {
			r.divergence(red.Record(&redact.Input{Experiment: "x", Route: "/"}))
		}
		d, err := r.b.Document(verdict.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		return d.Input.Divergences + d.Input.UnusableDivergences
	}
	if n := looked(); n != liveExamples {
		t.Errorf("looked at %d", n)
	}
	r.windows(nil)
	if n := looked(); n != 2*liveExamples {
		t.Errorf("looked at %d in the next second", n-liveExamples)
	}
}

// Two starts of an agent on one machine are two boots.
func TestBootID(t *testing.T) {
	if a, b := uuid(), uuid(); a == b || len(a) != 36 || a[14] != '4' {
		t.Errorf("%s, %s", a, b)
	}
}

// An exchange that began windows ago, or before a clock that was set back, still
// ends in the windows' sums.
func TestTallyOldTimes(t *testing.T) {
	w, err := countWindows(verdict.CollectorConfig{Experiments: []verdict.CollectorExperiment{{Name: "x", SampleBy: "request", Routes: []string{"/"}}}})
	if err != nil {
		t.Fatal(err)
	}
	y := newTally(w)
	start := time.Unix(1_700_000_000, 0)
	n := int64(0)
	for _, window := range []int64{5, 6, 5, 3, 4, 7, 6, 5, 1, 8, 0, 8} {
		d := exchange.Decision{Len: 1}
		d.Choices[0].Selection = exchange.SampledOut
		at := start.Add(time.Duration(window) * verdict.WindowLength).UnixNano()
		y.complete(&exchange.Complete{Decision: &d, Start: at})
		d.Choices[0].Selection = exchange.Selected
		y.lost(exchange.Lost{Decision: &d, Result: exchange.ResultGap, Start: at, N: 1})
		y.lost(exchange.Lost{Result: exchange.ResultEvicted, N: 2})
		y.tick(at)
		n++
	}
	y.flush()
	merge := verdict.NewMerge()
	got := map[int64]int64{}
	for _, o := range w.collector.Flush() {
		if err := merge.Add(o); err != nil {
			t.Error(err)
		}
		got[(int64(o.WindowStart)-start.UnixMicro())/10_000_000] += o.SampledOut
	}
	// Each is in its own window.
	if want := map[int64]int64{0: 1, 1: 1, 2: 0, 3: 1, 4: 1, 5: 3, 6: 2, 7: 1, 8: 2}; !maps.Equal(got, want) {
		t.Errorf("by window %v, want %v", got, want)
	}
	c := merge.Report(verdict.DefaultSettings()).Experiments[0].Counts
	if c.SampledOut != n || c.Complete != n || c.Lost["gap"] != n || c.Lost["evicted"] != 2*n {
		t.Errorf("%+v", c)
	}
}
