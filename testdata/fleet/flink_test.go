package fleet

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// flink runs statements and gives what it printed.
func flink(t *testing.T, mode string, all []string) []byte {
	t.Helper()
	libs := install(t, "flink")
	dir := t.TempDir()
	file := filepath.Join(dir, "statements")
	if err := os.WriteFile(file, []byte(strings.Join(all, "\x00")), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "java", "-Xmx1500m", "-Djava.io.tmpdir="+dir,
		// It ends before a better compiler or collector pays.
		"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
		// What Flink's own scripts open of Java.
		"--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.time=ALL-UNNAMED",
		"-cp", libs+"/*", "Flink.java", mode, file)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("flink: %v\n%s", err, &errs)
	}
	return out.Bytes()
}

// flinkStatements are those of the files; a statement set is one.
func flinkStatements(t *testing.T) []string {
	t.Helper()
	all := statements(t, "flink/1_kafka.sql", "flink/2_views.sql", "flink/3_latency.sql", "flink/4_sinks.sql")
	i := slices.IndexFunc(all, func(s string) bool { return strings.Contains(s, "EXECUTE STATEMENT SET") })
	if i < 0 {
		t.Fatal("no statement set")
	}
	return append(all[:i:i], strings.Join(all[i:], ";\n"))
}

// connector finds the options of a table that is in Kafka.
var connector = regexp.MustCompile(`(?s)\nWITH \(\n.*'connector' = '(?:upsert-)?kafka',\n.*\n\)$`)

// onFiles is a table in a file, or a folder that is written, instead of Kafka.
func onFiles(create, path string) string {
	format := ",\n    'json.timestamp-format.standard' = 'ISO-8601'"
	if strings.Contains(create, "'json.ignore-parse-errors' = 'true'") {
		format += ",\n    'json.ignore-parse-errors' = 'true'"
	}
	return connector.ReplaceAllLiteralString(create, "\nWITH ('connector' = 'filesystem', 'path' = 'file://"+path+"', 'format' = 'json'"+format+")")
}

// flinkRecords are the records without those that Flink SQL does not look at as
// closely as the merge, and a line that is no record.
func flinkRecords(t *testing.T, rec *recorded) (lines []string, report *verdict.Report) {
	t.Helper()
	m := verdict.NewMerge()
	for _, batch := range rec.batches {
		for _, line := range batch {
			w, err := verdict.ParseWindow([]byte(line))
			if err == nil && w.BootID != "" {
				err = m.Add(w)
			}
			if err != nil && regexp.MustCompile(`parts are|units b and d|failed|out of range`).MatchString(err.Error()) && !strings.Contains(err.Error(), "complete is") {
				continue
			}
			lines = append(lines, line)
		}
	}
	return append(lines, "no record", `{"a":1}`, ""), m.Report(verdict.DefaultSettings())
}

func TestFlink(t *testing.T) {
	rec := record(t)
	lines, report := flinkRecords(t, rec)
	source := filepath.Join(t.TempDir(), "windows.json")
	if err := os.WriteFile(source, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	all := flinkStatements(t)

	// With Kafka there is no broker to read from, but a plan to make.
	t.Run("plan", func(t *testing.T) {
		planned := slices.Clone(all)
		last := &planned[len(planned)-1]
		*last = strings.Replace(*last, "EXECUTE STATEMENT SET", "EXPLAIN STATEMENT SET", 1)
		flink(t, "streaming", planned)
	})

	folder := t.TempDir()
	var local []string
	for _, s := range all {
		if connector.MatchString(s) {
			name := regexp.MustCompile("CREATE TABLE IF NOT EXISTS ([a-z_]+)\n").FindStringSubmatch(s)[1]
			path := source
			if name != "window_records" {
				path = filepath.Join(folder, strings.TrimPrefix(name, "shadowtap_"))
			}
			s = onFiles(s, path)
		}
		local = append(local, s)
	}
	flink(t, "batch", local)
	view := func(t *testing.T, name string) (all []json.RawMessage) {
		t.Helper()
		err := filepath.WalkDir(filepath.Join(folder, name), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			for line := range bytes.Lines(text) {
				all = append(all, slices.Clone(line))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	t.Run("totals", func(t *testing.T) {
		checkTotals(t, withWords(t, rows[totals](t, view(t, "totals")), view(t, "words")), report)
	})
	t.Run("fingerprints", func(t *testing.T) {
		checkFingerprints(t, rows[print](t, view(t, "fingerprints")), report)
	})
	t.Run("key_groups", func(t *testing.T) {
		checkKeyGroups(t, rows[grouped](t, view(t, "key_groups")), rec.live(), report)
	})
	t.Run("latency", func(t *testing.T) {
		checkLatency(t, rows[latency](t, view(t, "latency")), rec.live(), report)
	})
	t.Run("unseen", func(t *testing.T) {
		checkUnseen(t, rows[bucketed](t, view(t, "unseen")), report)
	})
	t.Run("agents", func(t *testing.T) {
		got := rows[verdict.Agent](t, view(t, "agents"))
		slices.SortFunc(got, func(a, b verdict.Agent) int {
			return strings.Compare(a.Agent+" "+a.BootID, b.Agent+" "+b.BootID)
		})
		if !slices.Equal(got, report.Agents) {
			t.Errorf("agents\n%+v, by the report\n%+v", got, report.Agents)
		}
	})

	// As it runs with Kafka: results that change with every record.
	t.Run("streaming", func(t *testing.T) {
		local[len(local)-1] = "SELECT * FROM fingerprints"
		var raw []json.RawMessage
		for line := range bytes.Lines(flink(t, "streaming", local)) {
			raw = append(raw, slices.Clone(line))
		}
		checkFingerprints(t, rows[print](t, raw), report)
	})
}

// withWords puts the view words into the counts.
func withWords(t *testing.T, all []totals, words []json.RawMessage) []totals {
	t.Helper()
	type word struct {
		place
		List string `json:"list"`
		Word string `json:"word"`
		N    int64  `json:"n"`
	}
	for _, w := range rows[word](t, words) {
		i := slices.IndexFunc(all, func(row totals) bool { return row.place == w.place })
		if i < 0 {
			t.Errorf("no totals of %+v", w.place)
			continue
		}
		list := map[string]*map[string]int64{"lost": &all[i].Lost, "not_comparable": &all[i].NotComparable, "failed": &all[i].Failed}[w.List]
		if list == nil {
			t.Errorf("a list of words named %q", w.List)
			continue
		}
		if *list == nil {
			*list = map[string]int64{}
		}
		(*list)[w.Word] = w.N
	}
	return all
}
