//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// quiet waits until the candidate has not been asked for a while, and fails
// when that is not within the time.
func (c *candidate) quiet(t *testing.T, within time.Duration) {
	t.Helper()
	began, last, since := time.Now(), -1, time.Now()
	bed.Poll(t, within+time.Second, "no replays any more", func() (bool, string) {
		if n := len(c.requests()); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond, fmt.Sprintf("%d requests", last)
	})
	if took := since.Sub(began); took > within {
		t.Errorf("replay stopped after %v, promised is %v", took, within)
	}
}

// asked waits until the candidate is asked again.
func (c *candidate) asked(t *testing.T, within time.Duration) {
	t.Helper()
	n := len(c.requests())
	bed.Poll(t, within, "replays again", func() (bool, string) {
		return len(c.requests()) > n, ""
	})
}

// detached waits until nothing is attached; again until something is.
func (a *agent) detached(t *testing.T, within time.Duration, want bool) {
	t.Helper()
	bed.Poll(t, within, fmt.Sprintf("detached: %v", want), func() (bool, string) {
		got := attached(t, a.stage.node, tapped)
		return (len(got) == 0) == want, strings.Join(got, ", ")
	})
}

// TestOff stops the replay by each of the ways that an operator has, under
// load: within the time that is promised, and for nobody else to notice.
func TestOff(t *testing.T) {
	s := newStage(t)
	startNginx(t, s)
	cand := startCandidate(t, s)
	a := startAgent(t, s, settings{candidate: candidateURL, other: true})
	traffic := load{from: s.client, workers: 4, rate: 300, request: mixed}.start(t)
	command := func(args ...string) {
		t.Helper()
		s.node.Run(t, 20*time.Second, program, append(args, "--config", a.config)...)
	}
	offFile := filepath.Join(admin.Root, a.instance, "off")
	cand.asked(t, 10*time.Second)

	command("off", "users")
	cand.quiet(t, time.Second)
	a.detached(t, time.Second, false) // the other one is not off
	command("on", "users")
	cand.asked(t, 3*time.Second)

	command("off", "--all")
	cand.quiet(t, time.Second)
	a.detached(t, 2*time.Second, true)
	command("on", "--all")
	a.detached(t, 3*time.Second, false)
	cand.asked(t, 3*time.Second)

	// By hand, with nothing but a shell.
	if err := os.WriteFile(offFile, []byte("users\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cand.quiet(t, 2*time.Second)
	if err := os.Remove(offFile); err != nil {
		t.Fatal(err)
	}
	cand.asked(t, 3*time.Second)

	// It needs no agent, and the next one keeps to it.
	a.process.Kill()
	a.requireNothingLeft(t)
	command("off", "users")
	a.start(t)
	before := len(cand.requests())
	traffic.more(t, 600)
	if n := len(cand.requests()) - before; n > 0 {
		t.Errorf("%d replays after a start with the experiment off", n)
	}
	if got := len(attached(t, s.node, tapped)); got == 0 {
		t.Error("nothing is attached though the other experiment is on")
	}
	paused := a.status(t).Ledger["selection"]["paused"]
	if paused < 300 {
		t.Errorf("%d exchanges are counted as paused", paused)
	}
	command("on", "users")
	cand.asked(t, 3*time.Second)

	command("detach")
	a.detached(t, 2*time.Second, true)
	cand.quiet(t, time.Second)
	if _, err := os.Stat(offFile); err != nil {
		t.Errorf("detach wrote no off file: %v", err)
	}
	result := traffic.stop()
	result.requireNoFailure(t, "while the replay was switched off and on")
	a.stop(t)
}

// TestStatusCommand compares what people see with what the socket says.
func TestStatusCommand(t *testing.T) {
	s := newStage(t)
	startNginx(t, s)
	startCandidate(t, s)
	a := startAgent(t, s, settings{candidate: candidateURL})
	const count = 200
	load{from: s.client, workers: 2, rate: 200, count: count, request: mixed}.start(t).wait().requireNoFailure(t, "some traffic")
	a.rest(t, 20*time.Second, completed(count))

	var ledger telemetry.Ledger
	out := s.node.Run(t, 10*time.Second, program, "status", "--json", "--instance", a.instance)
	if err := json.Unmarshal([]byte(out), &ledger); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if ledger["exchanges"]["complete"] != count || ledger["replays"]["compared"] != ledger["selection"]["selected"] {
		t.Errorf("the ledger of status --json: %s", out)
	}
	for _, word := range []string{"ring_full", "no_reader", "over_budget"} {
		if n, ok := ledger["kernel_packets"][word]; !ok || n != 0 {
			t.Errorf("kernel packets %s: %d, there: %v; every result is shown from zero on", word, n, ok)
		}
	}
	text := s.node.Run(t, 10*time.Second, program, "status", "--instance", a.instance)
	for _, want := range []string{a.instance, fmt.Sprintf("complete %d", count), "every line balances"} {
		if !strings.Contains(text, want) {
			t.Errorf("status does not say %q:\n%s", want, text)
		}
	}
	_, metrics := a.get(t, "/metrics")
	if want := fmt.Sprintf(`shadowtap_exchanges_total{reason="",result="complete"} %d`, count); !strings.Contains(metrics, want+"\n") {
		t.Errorf("the metrics have no line %s", want)
	}
	a.stop(t)
	if out, err := s.node.Try(10*time.Second, program, "status", "--instance", a.instance); err == nil {
		t.Errorf("status of an agent that is gone: %s", out)
	}
}

// TestTwoAgentsOfOneInstance: the second one must not take what is the first's.
func TestTwoAgentsOfOneInstance(t *testing.T) {
	s := newStage(t)
	a := startAgent(t, s, settings{})
	second := s.node.Start(t, bed.Command{Path: program, Args: []string{"run", "--config", a.config}})
	if code := second.Wait(t, 20*time.Second); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	if _, errs := second.Output(); !strings.Contains(errs, a.instance) {
		t.Errorf("it does not say why: %s", errs)
	}
	a.detached(t, time.Second, false)
	if status := a.status(t); status.Status != "ok" {
		t.Errorf("the first one is %s", status.Status)
	}
	a.stop(t)
}
