package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

var windowStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// windowLine is a window with n pairs of which some are divergent, as its JSON
// line.
func windowLine(t *testing.T, experiment string, sequence, n, divergent int64) string {
	t.Helper()
	w := &verdict.Window{
		Schema: verdict.Schema, WindowStart: verdict.TimeOf(windowStart), WindowEnd: verdict.TimeOf(windowStart.Add(verdict.WindowLength)),
		Agent: "a", BootID: "b", Sequence: sequence, Experiment: experiment, Route: "/", SampleBy: "request",
		Counts: verdict.Counts{Complete: n, Selected: n, Compared: n, Equal: n - divergent, Divergent: divergent},
	}
	text, err := w.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// divergenceLine is the least that a divergence record has.
func divergenceLine(experiment string) string {
	return `{"schema":"shadowtap.divergence.v1","exchange_id":"00000000000000aa","time":"2026-03-01T12:00:00.000000Z","experiment":"` + experiment + `","route":"/","outcome":"divergent","request":{"method":"GET","url":"/x"},"reference":{"status":200},"candidate":{"status":500},"control":null,"differences":[{"fingerprint":"00000000000000bb","aspect":"status","kind":"changed","path":"","reference":null,"candidate":null,"control":null}]}` + "\n"
}

func writeFiles(t *testing.T, files map[string]string) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReportExitCodes(t *testing.T) {
	elsewhere(t)
	clean := ""
	for i := range int64(40) {
		clean += windowLine(t, "users", i+1, 500, 0)
	}
	bad, few := windowLine(t, "users", 1, 20_000, 200), windowLine(t, "users", 1, 100, 0)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(clean)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	writeFiles(t, map[string]string{
		"clean": clean, "bad": bad, "few": few, "empty": "", "blank": "\n\r\n", "zeros": windowLine(t, "users", 1, 0, 0),
		"garbage": "hello\n{\"schema\":\n", "foreign": `{"schema":"x"}` + "\n", "divergences": divergenceLine("users"),
		"mixed": clean + "hello\n" + divergenceLine("users"), "much": clean + strings.Repeat("hello\n", 20), "packed.gz": packed.String(),
		"cut.gz": packed.String()[:packed.Len()-4], "orders": windowLine(t, "orders", 41, 100, 0), "long": clean + strings.Repeat("x", report.MaxRecord+1) + "\n",
		"loose.yaml": "version: 1\nverdict: {max_divergence: 2%}\n",
		"wrong.yaml": "version: 1\nverdict: {confidence: 100%}\n",
	})
	for _, tt := range []struct {
		args string
		code int
		out  string
		err  string // "" for nothing
	}{
		{"--require promote clean", 0, "promote", ""},
		{"clean --require promote", 0, "promote", ""},
		{"clean --require=promote --confidence 99.9%", 0, "99.9 %", ""},
		{"--require promote packed.gz", 0, "promote", ""},
		{"--require promote mixed", 0, "1 record could not be read", `warning: mixed:41: read a record: invalid character 'h'`},
		{"--require promote long", 0, "1 record could not be read", "warning: long:41: read a record: a line of more than 8388608 bytes"},
		{"--require promote bad", 1, "hold", ""},
		{"--require promote bad --config loose.yaml", 0, "promote", ""},
		{"--require promote bad --max-divergence 2%", 0, "promote", ""},
		{"--require promote few", 3, "insufficient", ""},
		{"--require promote clean --max-divergence 0.01%", 3, "insufficient", ""},
		{"--require promote clean --experiment orders", 3, `no window record of an experiment "orders" came`, ""},
		{"--require promote clean orders", 3, "orders", ""},
		{"--require promote clean orders --experiment users", 0, "users", ""},
		{"--require promote clean --since 2026-03-01T12:00:01Z", 3, "40 records of other times", ""},
		{"--require promote clean --until 2026-03-01T12:00:00Z", 3, "40 records of other times", ""},
		{"--require promote clean --until 2026-03-01T12:00:01Z --since 2026-03-01T12:00:00Z", 0, "promote", ""},
		{"--require promote much", 3, "20 of 60 records could not be read", "warning: much: 10 more records like these"},
		{"--require promote empty", 3, "no window record came", ""},
		{"--require promote blank", 3, "no window record came", ""},
		{"--require promote zeros", 3, "nothing was compared", ""},
		{"--require promote divergences", 3, "no window record came", ""},
		{"bad", 0, "hold", ""},
		{"few", 0, "insufficient", ""},
		{"empty", 0, "insufficient", ""},
		{"--json clean", 0, `"word": "promote"`, ""},
		{"--html clean", 0, "<!DOCTYPE html>", ""},
		{"--require promote garbage", 2, "", "nothing of use: none of 2 records"},
		{"garbage", 2, "", "warning: garbage:2: read a record: unexpected end of JSON input"},
		{"--require promote foreign", 2, "", "nothing of use: none of 1 records"},
		{"--require promote nowhere", 2, "", "shadowtap: open nowhere: no such file"},
		{"--require promote cut.gz", 2, "", "shadowtap: cut.gz:41: unexpected EOF"},
		{"--require promote .", 2, "", "read .: it is a folder, and holds no recording"},
		{"--require promote clean --config wrong.yaml", 2, "", "verdict.confidence: 1 is out of range"},
		{"--require hold clean", 2, "", `--require: "hold" can't be required`},
		{"--json --html clean", 2, "", "--json or --html, not both"},
		{"--max-divergence 1 clean", 2, "", "--max-divergence"},
		{"--since yesterday clean", 2, "", `--since: "yesterday" is neither`},
		{"--until 2h --since 1h clean", 2, "", "--until: not after --since"},
		{"--topic x clean", 2, "", "--topic: give the brokers too"},
		{"--confidence 99%", 2, "", "a running agent has thresholds of its own"},
		{"--since 1h --socket nope.sock", 2, "", "since and until need files or Kafka"},
		{"--socket nope.sock", 2, "", "no agent is running: nobody answers at nope.sock"},
		{"--output no/such/folder clean", 2, "", "write the report: open no/such/folder"},
	} {
		code, out, errs := call(t, append([]string{"report"}, strings.Fields(tt.args)...)...)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) || tt.err == "" && errs != "" {
			t.Errorf("report %s: exit code %d, want %d\n%s%s", tt.args, code, tt.code, out, errs)
		}
	}
}

// A report goes to a file in the form that was asked for, and leaves the file as
// it was when there is none.
func TestReportOutput(t *testing.T) {
	elsewhere(t)
	writeFiles(t, map[string]string{"clean": windowLine(t, "users", 1, 20_000, 0), "out": "before"})
	if code, out, errs := call(t, "report", "nowhere", "-o", "out"); code != exitTrouble {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	if text, err := os.ReadFile("out"); err != nil || string(text) != "before" {
		t.Errorf("a report that failed left %q, %v", text, err)
	}
	if code, out, errs := call(t, "report", "clean", "-o", "out", "--json"); code != 0 || out != "" {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	f, err := os.Open("out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if d, err := report.ReadDocument(f); err != nil || d.Word != verdict.Promote {
		t.Errorf("read back %+v, %v", d, err)
	}
}

// Without a source the agent is asked, and its document judged and printed like
// any other.
func TestReportOfTheAgent(t *testing.T) {
	elsewhere(t)
	b, err := report.New(report.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for i, divergent := range []int64{0, 2000} {
		if err := b.Record([]byte(windowLine(t, []string{"users", "orders"}[i], int64(i+1), 20_000, divergent))); err != nil {
			t.Fatal(err)
		}
	}
	b.Ledger(map[string]map[string]uint64{"exchanges": {"complete": 40_000, "gap": 3}})
	d, err := b.Document(verdict.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", "admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	answer := string(text)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/report" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, answer)
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"report --socket admin.sock", 0, "of 40,003 exchanges: gap 3"},
		{"report --socket admin.sock --require promote", 1, "hold"},
		{"report --socket admin.sock --require promote --experiment users", 0, "promote"},
		{"report --socket admin.sock --json", 0, answer},
	} {
		if code, out, errs := call(t, strings.Fields(tt.args)...); code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit code %d, want %d, and %q\n%s%s", tt.args, code, tt.code, tt.want, out, errs)
		}
	}
	answer = `{"schema":"shadowtap.report.v2"}`
	if code, _, errs := call(t, "report", "--socket", "admin.sock"); code != exitTrouble || !strings.Contains(errs, `its schema is "shadowtap.report.v2"`) {
		t.Errorf("exit code %d, %s", code, errs)
	}
}
