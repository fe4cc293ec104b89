package fleet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
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

// clickhouse is ClickHouse in a process.
type clickhouse struct {
	t   *testing.T
	in  io.WriteCloser
	out *json.Decoder
}

func startClickHouse(t *testing.T) *clickhouse {
	t.Helper()
	python := install(t, "chdb")
	cmd := exec.CommandContext(t.Context(), python, "clickhouse.py", filepath.Join(t.TempDir(), "store"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("clickhouse.py: %v", err)
		}
	})
	return &clickhouse{t: t, in: in, out: json.NewDecoder(bufio.NewReader(out))}
}

// try runs a statement.
func (c *clickhouse) try(statement string) ([]json.RawMessage, error) {
	c.t.Helper()
	line, err := json.Marshal(statement)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		c.t.Fatal(err)
	}
	var answer struct {
		Rows  []json.RawMessage
		Error string
	}
	if err := c.out.Decode(&answer); err != nil {
		c.t.Fatalf("%v after\n%s", err, statement)
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s\nby\n%s", answer.Error, statement)
	}
	return answer.Rows, nil
}

func (c *clickhouse) query(statement string) []json.RawMessage {
	c.t.Helper()
	rows, err := c.try(statement)
	if err != nil {
		c.t.Fatal(err)
	}
	return rows
}

// view is everything that a view says.
func (c *clickhouse) view(name string) []json.RawMessage {
	c.t.Helper()
	return c.query("SELECT * FROM shadowtap." + name + " SETTINGS date_time_output_format = 'iso', output_format_json_quote_64bit_integers = 0")
}

// insert sends a batch through the queue, as a block that was read from Kafka.
func (c *clickhouse) insert(settings string, lines []string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "windows.json")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.query("INSERT INTO shadowtap.windows_queue SELECT * FROM file('" + file + "', JSONEachRow) SETTINGS use_structure_from_insertion_table_in_table_functions = 1, " + settings)
}

// engine finds the engine of the queue and the settings that are a format's.
var engine = regexp.MustCompile(`(?s)\n\)\nENGINE = Kafka\nSETTINGS\n(.*)$`)

// noKafka is the queue without Kafka: what is inserted goes to the views and
// nowhere else. It has the columns that Kafka's engine adds by itself.
func noKafka(t *testing.T, create string) (statement, settings string) {
	t.Helper()
	m := engine.FindStringSubmatch(create)
	if m == nil {
		t.Fatalf("no Kafka engine in %q", create)
	}
	var format []string
	for line := range strings.Lines(m[1]) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "input_format_") || strings.HasPrefix(line, "date_time_") {
			format = append(format, strings.TrimSuffix(line, ","))
		}
	}
	const added = `,
    _topic LowCardinality(String) MATERIALIZED 'shadowtap.windows',
    _partition UInt64 MATERIALIZED 3,
    _offset UInt64 MATERIALIZED 4,
    _error String MATERIALIZED '',
    _raw_message String MATERIALIZED ''
) ENGINE = Null`
	return engine.ReplaceAllLiteralString(create, added), strings.Join(format, ", ")
}

func TestClickHouse(t *testing.T) {
	rec := record(t)
	m, report := merge(t, rec)
	c := startClickHouse(t)
	var queue, settings string
	for _, s := range statements(t, "clickhouse/1_records.sql", "clickhouse/2_views.sql", "clickhouse/3_kafka.sql") {
		if strings.Contains(s, "ENGINE = Kafka") {
			queue = s
			s, settings = noKafka(t, s)
		}
		c.query(s)
	}
	if strings.Count(settings, "=") != 2 {
		t.Errorf("settings of the format: %q", settings)
	}
	for _, batch := range rec.batches {
		c.insert(settings, batch)
	}
	c.query("INSERT INTO shadowtap.windows_queue (_error, _raw_message) SETTINGS insert_allow_materialized_columns = 1 VALUES ('Cannot parse input', 'no record')")

	t.Run("totals", func(t *testing.T) {
		got := rows[totals](t, c.view("totals"))
		checkTotals(t, got, report)
		rtts := map[place]int64{}
		for _, w := range rec.sent {
			p := place{period{w.Experiment, w.CandidateVersion, w.ConfigRevision}, w.Route}
			if rtt := w.CandidateMinRTTUS; rtt > 0 && (rtts[p] == 0 || rtt < rtts[p]) {
				rtts[p] = rtt
			}
		}
		for _, row := range got {
			if row.MinRTT != rtts[row.place] {
				t.Errorf("%+v: the smallest round trip is %d us, sent was %d", row.place, row.MinRTT, rtts[row.place])
			}
		}
	})
	t.Run("fingerprints", func(t *testing.T) {
		raw := c.view("fingerprints")
		checkFingerprints(t, rows[print](t, raw), report)
		type excess struct {
			print
			Share *float64 `json:"excess_share"`
		}
		want := map[print]float64{}
		for _, e := range report.Experiments {
			for _, f := range e.Fingerprints {
				p := place{period{e.Experiment, e.CandidateVersion, e.ConfigRevision}, f.Route}
				want[print{place: p, Fingerprint: f.Fingerprint}] = f.Excess.Estimate
			}
		}
		for _, row := range rows[excess](t, raw) {
			w := want[print{place: row.place, Fingerprint: row.Fingerprint}]
			if row.Share == nil && w != 0 || row.Share != nil && math.Abs(*row.Share-w) > 1e-12 {
				t.Errorf("the excess of %+v is %v, by the report %v", row.print, row.Share, w)
			}
		}
	})
	t.Run("key_groups", func(t *testing.T) {
		checkKeyGroups(t, rows[grouped](t, c.view("key_groups")), rec, report)
	})
	t.Run("latency", func(t *testing.T) {
		checkLatency(t, rows[latency](t, c.view("latency")), rec, report)
	})
	t.Run("unseen", func(t *testing.T) {
		checkUnseen(t, rows[bucketed](t, c.view("unseen")), report)
	})
	t.Run("agents", func(t *testing.T) {
		type row struct {
			verdict.Agent
			Repeats int64 `json:"repeats"`
		}
		var got []verdict.Agent
		var repeats int64
		for _, r := range rows[row](t, c.view("agents")) {
			got = append(got, r.Agent)
			repeats += r.Repeats
		}
		slices.SortFunc(got, func(a, b verdict.Agent) int {
			return strings.Compare(a.Agent+" "+a.BootID, b.Agent+" "+b.BootID)
		})
		if !slices.Equal(got, report.Agents) {
			t.Errorf("agents\n%+v, by the report\n%+v", got, report.Agents)
		}
		if repeats != report.Repeats {
			t.Errorf("%d repeats, by the report %d", repeats, report.Repeats)
		}
	})
	t.Run("refused", func(t *testing.T) {
		if n := len(c.view("refused")); n != rec.refused {
			t.Errorf("%d records are refused, %d were made for that: %s", n, rec.refused, c.view("refused"))
		}
		if got := c.query("SELECT topic, partition, offset, error, message FROM shadowtap.unreadable"); len(got) != 1 ||
			string(got[0]) != `{"topic":"shadowtap.windows","partition":3,"offset":4,"error":"Cannot parse input","message":"no record"}` {
			t.Errorf("unreadable: %s", got)
		}
	})
	t.Run("readme", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(deploy, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		blocks := regexp.MustCompile("(?s)```sql\n(.*?);?\n```").FindAllStringSubmatch(string(text), -1)
		if len(blocks) < 3 {
			t.Fatalf("%d queries", len(blocks))
		}
		for _, b := range blocks {
			if rows := c.query(b[1]); len(rows) == 0 {
				t.Errorf("no row from\n%s", b[1])
			}
		}
	})
	// The engine that reads Kafka does not start in another program's process, but
	// it reads its settings before it says so. Afterwards an INSERT hangs, hence
	// another process.
	t.Run("kafka", func(t *testing.T) {
		c := startClickHouse(t)
		c.query("CREATE DATABASE shadowtap")
		if _, err := c.try(queue); err == nil || !strings.Contains(err.Error(), "Shutdown was called") {
			t.Errorf("%v", err)
		}
		if _, err := c.try(strings.NewReplacer("windows_queue", "other_queue", "kafka_num_consumers", "kafka_number_of_consumers").Replace(queue)); err == nil || !strings.Contains(err.Error(), "Unknown setting") {
			t.Errorf("a setting that is not known: %v", err)
		}
	})
	// Last, for it changes the records.
	t.Run("conflicts", func(t *testing.T) {
		if got := c.query("SELECT * FROM shadowtap.conflicts"); len(got) != 0 {
			t.Errorf("conflicts: %s", got)
		}
		i := slices.IndexFunc(rec.sent, func(w *verdict.Window) bool { return w.Fingerprint == "" && w.BootID != "" && w.Equal > 0 })
		w := *rec.sent[i]
		w.Equal--
		w.Ignored++
		text, err := w.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Add(&w); err == nil {
			t.Error("the merge sees no conflict")
		}
		before := c.query("SELECT count() AS n FROM shadowtap.windows")
		c.insert(settings, []string{string(text)})
		got := c.query("SELECT agent, boot_id, sequence FROM shadowtap.conflicts")
		if want := fmt.Sprintf(`[{"agent":%q,"boot_id":%q,"sequence":%d}]`, w.Agent, w.BootID, w.Sequence); fmt.Sprintf("%s", got) != want {
			t.Errorf("conflicts %s, want %s", got, want)
		}
		if after := c.query("SELECT count() AS n FROM shadowtap.windows"); string(after[0]) != string(before[0]) {
			t.Errorf("%s records before the conflict, %s after it", before[0], after[0])
		}
	})
}
