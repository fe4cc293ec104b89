// Package fleet tests the SQL of deploy/ with real engines: the windows of a
// fleet of agents go into ClickHouse (chdb) and Flink, and what the views say of
// them is compared with the merge in Go. It has no code but tests.
package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// deploy is the folder under test.
const deploy = "../../deploy"

// install gets an engine and says where it is.
func install(t *testing.T, engine string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "./install.sh", engine)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	return strings.TrimSpace(string(out))
}

// statements are those of a file: each ends with a semicolon at a line's end.
func statements(t *testing.T, files ...string) (all []string) {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(deploy, file))
		if err != nil {
			t.Fatal(err)
		}
		parts := regexp.MustCompile(`(?m);\s*$`).Split(string(text), -1)
		if last := strings.TrimSpace(parts[len(parts)-1]); last != "" {
			t.Fatalf("%s ends with %q", file, last)
		}
		all = append(all, parts[:len(parts)-1]...)
	}
	return all
}

// fields are those of the record's schema.
func fields(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../agent/publish/schema/window.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	for name := range schema.Properties {
		all = append(all, name)
	}
	slices.Sort(all)
	if len(all) < 50 {
		t.Fatalf("the schema has %d fields", len(all))
	}
	return all
}

// columns are the names in the column list of a CREATE TABLE, up to the first
// empty line or its end.
func columns(t *testing.T, create string) (all []string) {
	t.Helper()
	_, list, ok := strings.Cut(create, "(\n")
	if !ok {
		t.Fatalf("no column list in %q", create)
	}
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, ")") {
			break
		}
		if name := strings.Trim(strings.Fields(line)[0], "`"); !strings.HasPrefix(line, "--") {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func TestColumnsAreTheSchemas(t *testing.T) {
	want := fields(t)
	for _, c := range []struct{ file, table string }{
		{"clickhouse/1_records.sql", "shadowtap.window_records"},
		{"clickhouse/3_kafka.sql", "shadowtap.windows_queue"},
		{"flink/1_kafka.sql", "window_records"},
	} {
		all := statements(t, c.file)
		i := slices.IndexFunc(all, func(s string) bool { return strings.Contains(s, "CREATE TABLE IF NOT EXISTS "+c.table+"\n") })
		if i < 0 {
			t.Errorf("%s makes no table %s", c.file, c.table)
			continue
		}
		if got := columns(t, all[i]); !slices.Equal(got, want) {
			t.Errorf("%s: the columns of %s are\n%v, the fields of the schema\n%v", c.file, c.table, got, want)
		}
	}
}

// merge is the Go side, from what was sent.
func merge(t *testing.T, rec *recorded) (*verdict.Merge, *verdict.Report) {
	t.Helper()
	m := verdict.NewMerge()
	refused := 0
	for _, batch := range rec.batches {
		for _, line := range batch {
			w, err := verdict.ParseWindow([]byte(line))
			if err == nil {
				err = m.Add(w)
			}
			if errors.Is(err, verdict.ErrConflict) {
				t.Fatal(err)
			} else if err != nil {
				refused++
			}
		}
	}
	if refused != rec.refused {
		t.Fatalf("the merge refuses %d records, %d were made for that", refused, rec.refused)
	}
	r := m.Report(verdict.DefaultSettings())
	named := map[string]bool{}
	for _, a := range r.Agents {
		named[a.Agent] = true
	}
	if len(named) < 200 || len(r.Experiments) < 4 || r.Repeats < 500 || r.Missing < 10 {
		t.Fatalf("a fleet of %d agents, %d periods, %d repeats, %d missing", len(named), len(r.Experiments), r.Repeats, r.Missing)
	}
	return m, r
}

// totals is a row of that view.
type totals struct {
	place
	First  verdict.Time `json:"first"`
	Last   verdict.Time `json:"last"`
	Agents int          `json:"agents"`
	verdict.Counts
	MinRTT int64 `json:"candidate_min_rtt_us"`
}

// print is a row of the view fingerprints, or of the report.
type print struct {
	place
	Fingerprint   string       `json:"fingerprint"`
	First         verdict.Time `json:"first"`
	Last          verdict.Time `json:"last"`
	Divergent     int64        `json:"divergent"`
	Paired        int64        `json:"paired"`
	Both          int64        `json:"both"`
	CandidateOnly int64        `json:"candidate_only"`
	ControlOnly   int64        `json:"control_only"`
	B             int64        `json:"b"`
	D             int64        `json:"d"`
}

// latency is a row of that view.
type latency struct {
	timed
	N          int64   `json:"n"`
	P50        float64 `json:"p50_us"`
	P90        float64 `json:"p90_us"`
	P99        float64 `json:"p99_us"`
	P50AtLeast bool    `json:"p50_at_least"`
	P90AtLeast bool    `json:"p90_at_least"`
	P99AtLeast bool    `json:"p99_at_least"`
}

// bucketed is a row of the view unseen.
type bucketed struct {
	place
	Bucket   string `json:"bucket"`
	Requests int64  `json:"requests"`
}

// grouped is a row of the view key_groups.
type grouped struct {
	place
	KeyGroup  int   `json:"key_group"`
	Compared  int64 `json:"compared"`
	Divergent int64 `json:"divergent"`
}

// rows decodes a view's rows, and fails when a field is not known.
func rows[T any](t *testing.T, raw []json.RawMessage) (all []T) {
	t.Helper()
	for _, r := range raw {
		var row T
		if err := json.Unmarshal(r, &row); err != nil {
			t.Fatalf("%v in %s", err, r)
		}
		all = append(all, row)
	}
	if len(all) == 0 {
		t.Fatal("no row")
	}
	return all
}

// wantTotals are the sums of each place.
func wantTotals(r *verdict.Report) map[place]verdict.Counts {
	want := map[place]verdict.Counts{}
	for _, e := range r.Experiments {
		for _, rt := range e.Routes {
			want[place{period{e.Experiment, e.CandidateVersion, e.ConfigRevision}, rt.Route}] = rt.Counts
		}
	}
	return want
}

// asJSON makes counts comparable: a map without entries is left out.
func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkTotals compares the view with each route's counts, and its sums over all
// routes with the experiment's.
func checkTotals(t *testing.T, got []totals, r *verdict.Report) {
	t.Helper()
	want := wantTotals(r)
	sums := map[period]map[string]int64{}
	for _, row := range got {
		if sums[row.period] == nil {
			sums[row.period] = map[string]int64{}
		}
		for name, n := range flat(t, row.Counts) {
			sums[row.period][name] += n
		}
		if row.Route == "" {
			continue
		}
		if g, w := asJSON(t, row.Counts), asJSON(t, want[row.place]); g != w {
			t.Errorf("totals of %+v\n%s, by the merge\n%s", row.place, g, w)
		}
		delete(want, row.place)
	}
	for p := range want {
		t.Errorf("no totals of %+v", p)
	}
	for _, e := range r.Experiments {
		p := period{e.Experiment, e.CandidateVersion, e.ConfigRevision}
		if g, w := asJSON(t, sums[p]), asJSON(t, flat(t, e.Counts)); g != w {
			t.Errorf("totals of all routes of %+v\n%s, by the merge\n%s", p, g, w)
		}
		for _, row := range got {
			if row.period == p && (row.First != e.First || row.Last != e.Last || row.Agents != e.Agents) {
				t.Errorf("%+v: from %s to %s by %d agents, by the merge from %s to %s by %d", row.place, row.First, row.Last, row.Agents, e.First, e.Last, e.Agents)
			}
		}
	}
}

// flat has all counts by name, those of words by name and word.
func flat(t *testing.T, c verdict.Counts) map[string]int64 {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(asJSON(t, c)), &fields); err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for name, raw := range fields {
		var n int64
		if json.Unmarshal(raw, &n) == nil {
			out[name] = n
			continue
		}
		var words map[string]int64
		if err := json.Unmarshal(raw, &words); err != nil {
			t.Fatal(err)
		}
		for word, n := range words {
			out[name+"."+word] = n
		}
	}
	return out
}

// checkFingerprints compares every number of the view with the report's.
func checkFingerprints(t *testing.T, got []print, r *verdict.Report) {
	t.Helper()
	type key struct {
		place
		print string
	}
	want := map[key]print{}
	units := int64(0)
	for _, e := range r.Experiments {
		for _, f := range e.Fingerprints {
			p := place{period{e.Experiment, e.CandidateVersion, e.ConfigRevision}, f.Route}
			want[key{p, f.Fingerprint}] = print{p, f.Fingerprint, f.First, f.Last, f.Divergent, f.Paired, f.Both, f.CandidateOnly, f.ControlOnly, f.B, f.D}
			units += f.B + f.D
		}
	}
	if len(want) < 20 || units < 500 {
		t.Errorf("%d fingerprints with %d units are too few for a test", len(want), units)
	}
	for _, row := range got {
		k := key{row.place, row.Fingerprint}
		if row != want[k] {
			t.Errorf("fingerprint\n%+v, by the merge\n%+v", row, want[k])
		}
		delete(want, k)
	}
	for k := range want {
		t.Errorf("no fingerprint %+v", k)
	}
}

// checkLatency compares the view with the times themselves, which must be in the
// bucket that the percentile is the middle of, and with the report.
func checkLatency(t *testing.T, got []latency, rec *recorded, r *verdict.Report) {
	t.Helper()
	const q50, q90, q99 = 0.5, 0.9, 0.99
	open := 0
	seen := map[timed]latency{}
	for _, row := range got {
		seen[row.timed] = row
		times, waits := rec.times[row.timed], rec.gaveUp[row.timed]
		slices.Sort(times)
		slices.Sort(waits)
		n := len(times) + len(waits)
		if row.N != int64(n) {
			t.Errorf("%+v: %d times, %d were counted", row.timed, row.N, n)
			continue
		}
		for _, c := range []struct {
			q, us   float64
			atLeast bool
		}{{q50, row.P50, row.P50AtLeast}, {q90, row.P90, row.P90AtLeast}, {q99, row.P99, row.P99AtLeast}} {
			rank := max(1, int(math.Ceil(c.q*float64(n))))
			want, atLeast := math.Inf(1), true
			if rank <= len(times) {
				want, atLeast = times[rank-1], false
			}
			if len(waits) > 0 && (atLeast || verdict.Bucket(want) >= verdict.Bucket(waits[0])) {
				want, atLeast = waits[0], true
				open++
			}
			// An open one is the lower edge of its bucket, the others the middle.
			value := c.us
			if c.atLeast {
				value *= 1.01
			}
			if atLeast != c.atLeast || verdict.Bucket(value) != verdict.Bucket(want) {
				t.Errorf("%+v: the %v-quantile is %v (at least: %v), of the times %v (at least: %v)", row.timed, c.q, c.us, c.atLeast, want, atLeast)
			}
		}
	}
	for k := range rec.times {
		if _, ok := seen[k]; !ok {
			t.Errorf("no latency of %+v", k)
		}
	}
	if open == 0 {
		t.Error("no percentile is open")
	}
	compared := 0
	for _, e := range r.Experiments {
		for _, rt := range e.Routes {
			p := place{period{e.Experiment, e.CandidateVersion, e.ConfigRevision}, rt.Route}
			for _, lq := range rt.Latency.Quantiles {
				same := func(answer, until string, want *verdict.Quantile, less float64) {
					row, ok := seen[timed{p, answer, until}]
					if want == nil || !ok {
						return
					}
					value, atLeast := row.P50, row.P50AtLeast
					if lq.Q == q99 {
						value, atLeast = row.P99, row.P99AtLeast
					}
					if value = value - less; less > 0 {
						value = max(0, value)
					}
					if math.Abs(value-want.Value) > 1e-9*math.Abs(want.Value) || atLeast != want.AtLeast {
						t.Errorf("%+v: %s to the %s: the %v-quantile is %v (at least: %v), by the report %v (at least: %v)", p, answer, until, lq.Q, value, atLeast, want.Value, want.AtLeast)
					}
					compared++
				}
				same("reference", "first_byte", &lq.Reference, 0)
				// Without a control the report takes the smallest round trip off.
				same("candidate", "first_byte", &lq.Candidate, float64(rt.Latency.CandidateMinRTTUS))
				same("control", "first_byte", lq.Control, 0)
				same("difference", "first_byte", lq.Difference, 0)
				same("difference", "last_byte", lq.LastByte, 0)
			}
		}
	}
	if compared < 50 {
		t.Errorf("%d percentiles were compared with the report", compared)
	}
}

// checkUnseen compares the view with what the report says of each route and, as
// sums, of each experiment.
func checkUnseen(t *testing.T, got []bucketed, r *verdict.Report) {
	t.Helper()
	routes, periods := map[place]map[string]int64{}, map[period]map[string]int64{}
	for _, row := range got {
		if routes[row.place] == nil {
			routes[row.place] = map[string]int64{}
		}
		if periods[row.period] == nil {
			periods[row.period] = map[string]int64{}
		}
		routes[row.place][row.Bucket] += row.Requests
		periods[row.period][row.Bucket] += row.Requests
	}
	for _, e := range r.Experiments {
		p := period{e.Experiment, e.CandidateVersion, e.ConfigRevision}
		for _, rt := range e.Routes {
			if g, w := routes[place{p, rt.Route}], rt.Unseen.Buckets; len(g)+len(w) > 0 && asJSON(t, g) != asJSON(t, w) {
				t.Errorf("unseen of %+v %s: %v, by the report %v", p, rt.Route, g, w)
			}
		}
		if g, w := asJSON(t, periods[p]), asJSON(t, e.Unseen.Buckets); g != w {
			t.Errorf("unseen of %+v: %s, by the report %s", p, g, w)
		}
	}
}

// checkKeyGroups compares the view with sums of what was sent.
func checkKeyGroups(t *testing.T, got []grouped, rec *recorded, r *verdict.Report) {
	t.Helper()
	type key struct {
		place
		group int
	}
	want := map[key][2]int64{}
	for _, w := range rec.sent {
		for g, n := range w.KeyGroups {
			k := key{place{period{w.Experiment, w.CandidateVersion, w.ConfigRevision}, w.Route}, g}
			want[k] = [2]int64{want[k][0] + n[0], want[k][1] + n[1]}
		}
	}
	count := map[place][2]int{}
	for _, row := range got {
		k := key{row.place, row.KeyGroup}
		if w := want[k]; w != [2]int64{row.Compared, row.Divergent} {
			t.Errorf("key group %+v, sent were %v", row, w)
		}
		delete(want, k)
		n := count[row.place]
		n[0] += int(min(1, row.Compared))
		n[1] += int(min(1, row.Divergent))
		count[row.place] = n
	}
	for k := range want {
		t.Errorf("no key group %+v", k)
	}
	for _, e := range r.Experiments {
		for _, rt := range e.Routes {
			p := place{period{e.Experiment, e.CandidateVersion, e.ConfigRevision}, rt.Route}
			if n := count[p]; n != [2]int{rt.KeyGroups, rt.DivergentKeyGroups} {
				t.Errorf("%+v has %v key groups, by the report %d and %d", p, n, rt.KeyGroups, rt.DivergentKeyGroups)
			}
		}
	}
}
