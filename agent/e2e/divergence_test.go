//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/shadowtap/shadowtap/agent/e2e/kafka"
	"github.com/shadowtap/shadowtap/agent/publish/schema"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

const topic = "shadowtap.divergences"

// record is a divergence record, as far as the tests compare it.
type record struct {
	Schema     string
	ID         string
	ExchangeID string `json:"exchange_id"`
	Experiment string
	Route      string
	Outcome    string
	Why        string
	Request    struct{ Method, URL string }
	Reference  struct{ Status int }
	Candidate  struct {
		Status int
		Error  string
	}
	CandidateAddress string `json:"candidate_address"`
	Differences      []struct{ Aspect, Kind, Path string }
}

func (r *record) summary() string {
	var differences []string
	for _, d := range r.Differences {
		differences = append(differences, d.Aspect+" "+d.Kind+" "+d.Path)
	}
	slices.Sort(differences)
	return summary(r.Outcome, r.Why, r.Candidate.Error, differences)
}

func summary(outcome, why, failure string, differences []string) string {
	if outcome == "not_comparable" {
		// Its differences are for readers and count nowhere.
		differences = nil
	}
	return fmt.Sprintf("%s %q error %q differences %q", outcome, why, failure, differences)
}

// validator checks records against the schema in the tree.
func validator(t *testing.T) func(value string) error {
	t.Helper()
	return compileSchema(t, schema.Divergence())
}

func compileSchema(t *testing.T, text string) func(value string) error {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft2020)
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(value string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
		if err != nil {
			return err
		}
		return compiled.Validate(v)
	}
}

// TestDivergencesInKafka sends known traffic through the whole path and reads
// back with kcat what the broker got: exactly the places where the candidate
// differs, each once.
func TestDivergencesInKafka(t *testing.T) {
	s := newStage(t)
	broker := kafka.Start(t, kafka.Config{Namespace: s.node})
	reference := startNginx(t, s)
	cand := startCandidate(t, s)
	exchanges := filepath.Join(t.TempDir(), "exchanges.jsonl")
	a := startAgent(t, s, settings{
		candidate: candidateURL,
		routes: `[{path: "/api/{value}", key: "{value}"}, {path: "/missing/{rest...}"}, {path: "/busy/{rest...}"}, {path: "/moved/{rest...}"},
      {path: "/text/{rest...}"}, {path: "/file/{rest...}"}, {path: "/packed/{rest...}"}, {path: "/empty/"}, {path: "/write/{rest...}"}]`,
		sinks: fmt.Sprintf(`[{kafka: {topic: %s, bootstrap.servers: %q}}]`, topic, broker.Addr),
		flags: []string{"--exchanges-to", exchanges},
	})

	// What each request must lead to. The place in the list is its number.
	type expectation struct {
		request
		outcome, why, failure string
		differences           []string
		selection             string
	}
	var plan []expectation
	add := func(e expectation) {
		if e.selection == "" {
			e.selection = "selected"
		}
		if e.method == "" {
			e.method = http.MethodGet
		}
		plan = append(plan, e)
	}
	names := slices.Sorted(maps.Keys(behaviours))
	for round := range 60 {
		for _, name := range names {
			if (name == "late" || name == "closed") && round%20 != 0 {
				continue // a timeout each now and then, so that the breaker stays shut
			}
			b := behaviours[name]
			add(expectation{
				request: request{path: fmt.Sprintf("/api/%s-%d", name, round)},
				outcome: b.outcome, why: b.why, failure: b.failure, differences: b.differences,
			})
		}
		add(expectation{request: request{path: "/missing/x"}})
		add(expectation{request: request{path: "/text/hello"}})
		add(expectation{request: request{path: "/file/4k"}})
		add(expectation{request: request{path: "/packed/list", header: http.Header{"Accept-Encoding": {"gzip"}}}})
		add(expectation{request: request{path: "/empty/"}})
		add(expectation{request: request{method: http.MethodHead, path: "/api/same-1"}})
		add(expectation{request: request{method: http.MethodPost, path: "/write/it", body: `{"a":1}`}, selection: "unsafe"})
		add(expectation{request: request{path: "/elsewhere"}, selection: "unmatched"})
		if round%10 == 0 {
			add(expectation{request: request{path: "/file/64k"}})
			add(expectation{request: request{path: "/file/1m"}})
			add(expectation{
				request: request{path: "/busy/x"}, outcome: "not_comparable", why: "reference_failed",
			})
			add(expectation{
				request: request{path: "/moved/x"}, outcome: "divergent", differences: []string{"header changed location"},
			})
		}
	}

	result := load{from: s.client, workers: 8, rate: 300, count: len(plan), request: func(n int) request { return plan[n].request }}.start(t).wait()
	result.requireNoFailure(t, "with the agent attached")
	t.Log(result)

	want := map[string]string{} // by URL
	published := 0
	selection := map[string]uint64{}
	for n, e := range plan {
		selection[e.selection]++
		if e.outcome == "" {
			continue
		}
		published++
		want[e.method+" "+numbered(e.path, n)] = summary(e.outcome, e.why, e.failure, e.differences)
	}

	status := a.rest(t, 30*time.Second, func(l telemetry.Ledger) (bool, string) {
		if ok, why := completed(len(plan))(l); !ok {
			return false, why
		}
		got := l["deliveries"]["acknowledged"]
		return got == uint64(published), fmt.Sprintf("%d records of %d acknowledged", got, published)
	})
	requireBalance(t, status)
	ledger := status.Ledger
	for word, n := range selection {
		if got := ledger["selection"][word]; got != n {
			t.Errorf("selection %s: %d, want %d", word, got, n)
		}
	}
	for _, word := range []string{"ring_full", "copy_failed", "no_reader", "over_budget", "unparsable", "fragment"} {
		if got := ledger["kernel_packets"][word]; got != 0 {
			t.Errorf("kernel packets %s: %d, want none", word, got)
		}
	}
	a.requireKernelPackets(t)
	asked := map[string]int{}
	for _, r := range cand.requests() {
		asked[r.URL.Query().Get("n")]++
		if role := r.Header.Values("X-Shadow-Test-Role"); len(role) != 1 || role[0] != "candidate" {
			t.Errorf("a replay has the role %q", role)
		}
	}
	for n, e := range plan {
		got, most := asked[strconv.Itoa(n)], 1
		if e.selection != "selected" {
			most = 0
		}
		// A reused connection that is closed before the first byte may have
		// been closed before the request came: it is tried once more.
		if e.failure == "closed" && got == 2 {
			continue
		}
		if got != most {
			t.Errorf("the candidate got %s %d times, want %d", numbered(e.path, n), got, most)
		}
	}

	a.stop(t)

	// The broker has exactly those records, read by another client.
	messages := broker.Read(t, topic, published, 30*time.Second)
	validate := validator(t)
	ids := map[string]bool{}
	got := map[string]int{}
	for _, m := range messages {
		if err := validate(m.Payload); err != nil {
			t.Errorf("a record that the schema refuses: %v\n%s", err, m.Payload)
			continue
		}
		var r record
		if err := json.Unmarshal([]byte(m.Payload), &r); err != nil {
			t.Fatal(err)
		}
		if ids[r.ID] {
			t.Errorf("id %s twice", r.ID)
		}
		ids[r.ID] = true
		url := r.Request.Method + " " + r.Request.URL
		got[url]++
		if expected, ok := want[url]; !ok {
			t.Errorf("a record that was not expected: %s: %s", url, r.summary())
		} else if r.summary() != expected {
			t.Errorf("%s: %s, want %s", url, r.summary(), expected)
		}
		if r.CandidateAddress != strings.TrimPrefix(candidateURL, "http://") {
			t.Errorf("%s: replayed to %q", url, r.CandidateAddress)
		}
		if value, ok := strings.CutPrefix(r.Request.URL, "/api/"); ok {
			value, _, _ = strings.Cut(value, "?")
			if m.Key != value {
				t.Errorf("%s: key %q, want %q", url, m.Key, value)
			}
		}
		if m.Header("ce_id") != r.ID || m.Header("ce_specversion") != "1.0" {
			t.Errorf("%s: headers %v", url, m.Headers)
		}
	}
	for url := range want {
		if got[url] != 1 {
			t.Errorf("%s: %d records, want 1", url, got[url])
		}
	}

	// nginx and the agent saw the same exchanges.
	requireSame(t, "exchanges", reference.exchanges(t, len(plan)), exchangesIn(t, exchanges))
}
