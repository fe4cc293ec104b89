//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/shadowtap/shadowtap/agent/e2e/kafka"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// reportRun is one run of shadowtap report.
func reportRun(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"report"}, args...)...)
	cmd.Dir = t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// fleetWindow is an agent's window with n pairs, of which some diverge, and the
// record of that fingerprint.
func fleetWindow(t *testing.T, experiment string, agent, number int, n, divergent int64) (values [][]byte) {
	t.Helper()
	start := time.Now().UTC().Truncate(verdict.WindowLength).Add(time.Duration(number-100) * verdict.WindowLength)
	w := verdict.Window{
		Schema: verdict.Schema, WindowStart: verdict.TimeOf(start), WindowEnd: verdict.TimeOf(start.Add(verdict.WindowLength)), Agent: fmt.Sprintf("node-%d", agent),
		BootID: fmt.Sprintf("%s-%d", experiment, agent), Sequence: int64(2*number + 1), Experiment: experiment, Route: "/users/{id}", CandidateVersion: "v2", SampleBy: "request",
		Counts: verdict.Counts{Complete: n, Selected: n, Compared: n, Equal: n - divergent, Divergent: divergent},
	}
	f := w
	f.Fingerprint, f.Sequence, f.Counts = "00000000000000bb", w.Sequence+1, verdict.Counts{Divergent: divergent}
	for _, w := range []*verdict.Window{&w, &f} {
		text, err := w.JSON()
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, text)
	}
	return values
}

// Many agents' records in a real broker make one report, over all partitions of
// both topics, and its exit code is the gate.
func TestReportFromKafka(t *testing.T) {
	b := kafka.Start(t, kafka.Config{Set: []string{"num.partitions=3"}})
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.AllowAutoTopicCreation(), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put := func(topic, key string, values ...[]byte) {
		t.Helper()
		for _, v := range values {
			if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte(key), Value: v}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	gate := func(want int, say string, args ...string) string {
		t.Helper()
		args = append([]string{"--kafka", b.Addr, "--require", "promote"}, args...)
		code, out, errs := reportRun(t, args...)
		if code != want || !strings.Contains(out+errs, say) {
			t.Errorf("%q: exit code %d, want %d, and %q\n%s%s", args, code, want, say, out, errs)
		}
		return out
	}

	gate(2, "no such topic")
	put(topic, "none", []byte(`not JSON`))
	gate(2, "topic shadowtap.divergences, partition")
	put(topic, "users", []byte(`{"schema":"shadowtap.divergence.v1","exchange_id":"00000000000000aa","time":"`+verdict.TimeOf(time.Now()).String()+`","experiment":"users","route":"/users/{id}","candidate_version":"v2","outcome":"divergent",`+
		`"request":{"method":"GET","url":"/users/7"},"reference":{"status":200},"candidate":{"status":500},"control":null,"differences":[{"fingerprint":"00000000000000bb","aspect":"status","kind":"changed","path":"","reference":{"encoding":"utf-8","text":"200","size":3},"candidate":{"encoding":"utf-8","text":"500","size":3},"control":null}]}`))
	gate(3, "no window record came")

	const agents, windows = 4, 10
	for a := range agents {
		for w := range windows {
			put(windowsTopic, fmt.Sprint("users", a), fleetWindow(t, "users", a, w, 500, 0)...)
			put(windowsTopic, fmt.Sprint("orders", a), fleetWindow(t, "orders", a, w, 500, 5)...)
			put(windowsTopic, fmt.Sprint("few", a), fleetWindow(t, "few", a, w, 10, 0)...)
		}
	}
	gate(0, "promote", "--experiment", "users")
	gate(1, "200 of 20000 diverge", "--experiment", "orders")
	gate(3, "0 of 400 diverge, at most", "--experiment", "few")
	gate(1, "hold")
	gate(3, "no window record of an experiment", "--experiment", "nobody")
	gate(0, "promote", "--experiment", "users", "--since", "24h")
	gate(3, "no window record", "--experiment", "users", "--until", "24h")

	out := gate(1, "", "--json", "--experiment", "orders")
	d, err := report.ReadDocument(strings.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if n := d.Input; n.Windows != 2*3*agents*windows || n.Missing != 0 || n.Divergences != 1 || n.Unusable != 1 {
		t.Errorf("input %+v", n)
	}
	if e := d.Experiments[0]; e.Agents != agents || e.Counts.Compared != agents*windows*500 || e.Counts.Divergent != agents*windows*5 || len(d.Agents) != 3*agents {
		t.Errorf("%d agents of %d, %d compared, %d divergent", e.Agents, len(d.Agents), e.Counts.Compared, e.Counts.Divergent)
	}
	code, page, errs := reportRun(t, "--kafka", b.Addr, "--html")
	if code != 0 || !strings.Contains(page, "<h2>orders</h2>") || !strings.HasSuffix(page, "</html>\n") {
		t.Errorf("html: exit code %d, %.200s\n%s", code, page, errs)
	}
	// A broker that is not there is trouble, and said.
	if code, out, errs := reportRun(t, "--kafka", "127.0.0.1:1", "--require", "promote"); code != 2 || out != "" || !strings.Contains(errs, "kafka: ask where the topics end") {
		t.Errorf("no broker: exit code %d\n%s%s", code, out, errs)
	}
}
