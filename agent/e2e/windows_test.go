//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/e2e/kafka"
	"github.com/shadowtap/shadowtap/agent/publish/schema"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

const windowsTopic = "shadowtap.windows"

// TestWindowsInKafka reads back with kcat the windows that the broker got. What
// they sum up to is what the ledger counted, to the unit; every window of every
// route is there, also the empty ones, numbered without a hole.
func TestWindowsInKafka(t *testing.T) {
	s := newStage(t)
	// More partitions than one: the key keeps an agent's windows together.
	broker := kafka.Start(t, kafka.Config{Namespace: s.node, Set: []string{"num.partitions=3"}})
	startNginx(t, s)
	startCandidate(t, s)
	a := startAgent(t, s, settings{
		candidate: candidateURL, other: true,
		routes:  `[{path: "/api/{value}"}, {path: "/text/{rest...}", sample: 30%}, {path: "/file/{rest...}", sample: 0%}, {path: "/busy/{rest...}"}, {path: "/write/{rest...}"}]`,
		exclude: `["/api/out"]`,
		replay:  `{warmup: 10s}`, // the first window
		sinks:   fmt.Sprintf(`[{kafka: {topic: %s, bootstrap.servers: %q}}, {terminal: {}}]`, topic, broker.Addr),
	})
	paths := []request{
		{path: "/api/same-1"}, {path: "/api/same-2"}, {path: "/api/value-1"}, {path: "/api/two-1"}, {path: "/api/header-1"}, {path: "/api/out"},
		{path: "/text/hello"}, {path: "/file/4k"}, {path: "/busy/x"}, {path: "/elsewhere"}, {method: http.MethodPost, path: "/write/it", body: `{"a":1}`},
		{path: "/api/same-3", header: http.Header{"X-Shadow-Test-Role": {"candidate"}}},
	}
	const count = 3000
	traffic := func() {
		t.Helper()
		load{from: s.client, workers: 8, rate: 500, count: count, request: func(n int) request {
			r := paths[n%len(paths)]
			if r.method == "" {
				r.method = http.MethodGet
			}
			return r
		}}.start(t).wait().requireNoFailure(t, "with the agent attached")
	}
	traffic()
	// An exchange that never becomes complete, and of which no route is known.
	conn, err := s.client.DialContext(context.Background(), "tcp", serverAddr4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("GET /api/same-1 HTTP/1.1\r\nHost: h")); err != nil {
		t.Fatal(err)
	}
	conn.Close()

	// Windows come while the agent runs, not only when it stops.
	bed.Poll(t, 2*time.Minute, "the windows of the traffic arrive", func() (bool, string) {
		n := a.status(t).Ledger["windows"]["acknowledged"]
		return n >= 2*8, fmt.Sprintf("%d windows acknowledged", n)
	})
	// The running agent reports on them by itself.
	d, err := report.ReadDocument(strings.NewReader(s.node.Run(t, time.Minute, program, "report", "--json", "--instance", a.instance)))
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Experiments) != 2 || d.Experiments[1].Counts.Compared == 0 || len(d.Experiments[1].Causes) != 3 || d.Ledger["windows"] == nil {
		t.Errorf("the agent's own report: %+v", d)
	}
	for _, c := range d.Experiments[1].Causes {
		if c.Example == nil {
			t.Errorf("no example of %s %s", c.Route, c.Fingerprint.Fingerprint)
		}
	}
	traffic()
	status := a.rest(t, time.Minute, completed(2*count))
	for _, i := range status.Imbalances {
		t.Errorf("the ledger does not balance: %s", i)
	}
	a.stop(t)

	compiled := compileSchema(t, schema.Window())
	merge := verdict.NewMerge()
	partitions := map[int]bool{}
	starts := map[string]map[verdict.Time]bool{} // by experiment and route
	sequence, rtt := int64(0), int64(0)
	messages := broker.Read(t, windowsTopic, 1, 30*time.Second)
	for _, m := range messages {
		if err := compiled(m.Payload); err != nil {
			t.Errorf("a record that the schema refuses: %v\n%s", err, m.Payload)
		}
		w, err := verdict.ParseWindow([]byte(m.Payload))
		if err != nil {
			t.Fatal(err)
		}
		if err := merge.Add(w); err != nil {
			t.Error(err)
		}
		if us := w.CandidateMinRTTUS; us > 0 && (rtt == 0 || us < rtt) {
			rtt = us
		}
		// In their order, which the one partition of their key keeps.
		if sequence++; w.Sequence != sequence {
			t.Fatalf("record %d has the sequence %d", sequence, w.Sequence)
		}
		partitions[m.Partition] = true
		if id := fmt.Sprintf("%s-%d", w.BootID, w.Sequence); m.Key != w.Agent || m.Header("ce_type") != verdict.Schema || m.Header("ce_id") != id || m.Header("ce_specversion") != "1.0" {
			t.Errorf("key %q, headers %v", m.Key, m.Headers)
		}
		if key := w.Experiment + " " + w.Route; w.Fingerprint == "" {
			if starts[key] == nil {
				starts[key] = map[verdict.Time]bool{}
			}
			starts[key][w.WindowStart] = true
		}
	}
	if len(partitions) != 1 || len(starts) != 8 {
		t.Errorf("windows in the partitions %v, of the routes %v", partitions, starts)
	}
	// Every route has the same windows, one after the other.
	for route, of := range starts {
		if !maps.Equal(of, starts["users "]) || len(of) < 4 {
			t.Errorf("route %q has %d windows, others have %d", route, len(of), len(starts["users "]))
		}
		for start := range of {
			if !of[start+verdict.Time(verdict.WindowLength.Microseconds())] && start != latest(of) {
				t.Errorf("route %q has no window behind that of %s", route, start)
			}
		}
	}
	r := merge.Report(verdict.DefaultSettings())
	if len(r.Experiments) != 2 || r.Missing != 0 || r.Repeats != 0 || r.Conflicts != 0 || len(r.Agents) != 1 {
		t.Fatalf("%d experiments, %d windows missing, %d repeated, %d in conflict, agents %v", len(r.Experiments), r.Missing, r.Repeats, r.Conflicts, r.Agents)
	}
	for _, e := range r.Experiments {
		requireCounts(t, status, &e)
	}
	users := &r.Experiments[1]
	// The candidate differs in three places, one of which two requests share.
	if users.Experiment != "users" || len(users.Fingerprints) != 3 {
		t.Errorf("%d fingerprints of %s", len(users.Fingerprints), users.Experiment)
	}
	// Some of it is within replay.warmup, and what came later has times.
	if n := users.Counts.WarmingUp; n == 0 {
		t.Error("nothing was warming up, though requests were compared")
	}
	if rtt > 1_000_000 || rtt == 0 {
		t.Errorf("the smallest round trip to the candidate is %d us", rtt)
	}
	// The divergences are all in their own topic.
	for _, m := range broker.Read(t, topic, 1, 30*time.Second) {
		if m.Header("ce_type") == verdict.Schema {
			t.Fatal("a window in the topic of the divergences")
		}
	}
}

func latest(of map[verdict.Time]bool) (last verdict.Time) {
	for start := range of {
		last = max(last, start)
	}
	return last
}

// requireCounts compares an experiment's sums with the ledger.
func requireCounts(t *testing.T, status *admin.Status, e *verdict.Experiment) {
	t.Helper()
	want, got := map[string]uint64{}, map[string]uint64{}
	for _, c := range status.Counts {
		name := c.Labels["experiment"]
		switch {
		case c.Kind != "result" || c.N == 0:
		case c.Line == "exchanges" && c.Labels["result"] != "complete":
			want["lost "+c.Labels["result"]] += c.N
		case name == e.Experiment && c.Line == "comparisons" && c.Labels["result"] == "not_comparable":
			want["not_comparable "+c.Labels["reason"]] += c.N
		case name == e.Experiment:
			want[c.Line+" "+c.Labels["result"]] += c.N
		}
	}
	value, err := json.Marshal(e.Counts)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		t.Fatal(err)
	}
	number := func(line string, words ...string) {
		for _, word := range words {
			var n uint64
			if err := json.Unmarshal(fields[word], &n); err != nil {
				t.Fatalf("%s: %v", word, err)
			}
			got[line+" "+word] = n
		}
	}
	number("selection", "own_traffic", "unmatched", "excluded", "not_replayable", "unsafe", "paused", "ended", "sampled_out", "selected")
	number("replays", "compared", "shed", "rate_limited", "breaker_open", "stopped")
	number("comparisons", "equal", "ignored", "divergent")
	for word, n := range e.Counts.NotComparable {
		got["not_comparable "+word] = uint64(n)
	}
	for word, n := range e.Counts.Lost {
		got["lost "+word] = uint64(n)
	}
	maps.DeleteFunc(got, func(_ string, n uint64) bool { return n == 0 })
	if !maps.Equal(got, want) {
		t.Errorf("experiment %s: the windows have %v, the ledger %v", e.Experiment, got, want)
	}
	if e.Experiment == "users" && (want["selection sampled_out"] == 0 || want["comparisons divergent"] == 0 || want["not_comparable reference_failed"] == 0 || want["lost no_response"] == 0) {
		t.Errorf("the traffic did not have everything: %v", want)
	}
}
