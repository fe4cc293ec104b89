//go:build e2e

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// The recipe itself, with loads of a second.
func TestRecipe(t *testing.T) {
	bed.RequireRoot(t)
	t.Setenv("TMPDIR", t.TempDir())
	// What a run left that was killed: no process has this number.
	killed := filepath.Join(os.TempDir(), folderPrefix+"4194305-1")
	if err := os.Mkdir(killed, 0o700); err != nil {
		t.Fatal(err)
	}
	opt, err := parseOptions([]string{
		"-tools", "shadowtap-1%,shadowtap-all", "-cells", "4k@500,200b@0", "-rounds", "1", "-seconds", "1", "-idle", "0.2", "-connections", "8", "-cache", t.TempDir(),
	}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	r, err := run(t.Context(), opt, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.faults() {
		t.Error(f)
	}
	if len(r.samples) != 6 || len(r.idle) != 1 {
		t.Fatalf("%d samples and %d idle figures, want 6 and 1", len(r.samples), len(r.idle))
	}
	for _, x := range r.samples {
		if x.Right == 0 || x.Right != x.Sent || x.referenceCPU <= 0 {
			t.Errorf("%s %s: %+v", x.tool, x.cell, x)
		}
		// The warm-up has half of this again. A machine with other work to do
		// sends less; more it must not.
		if x.cell.rate > 0 && x.Sent > 751 {
			t.Errorf("%s %s: %d requests at %v/s in 1.5 s", x.tool, x.cell, x.Sent, x.cell.rate)
		}
		if x.tool == none {
			continue
		}
		if x.toolCPU <= 0 || x.peak < 1<<20 {
			t.Errorf("%s %s: CPU %v, peak %d bytes", x.tool, x.cell, x.toolCPU, x.peak)
		}
		// Where the machine had no time for the agent, the ledger says so.
		if x.seen != x.answered() && len(x.lost) == 0 || x.seen == 0 {
			t.Errorf("%s %s: %d exchanges of %d", x.tool, x.cell, x.seen, x.answered())
		}
		if x.tool == shadowtapAll && (x.equal == 0 || x.equal != uint64(x.seen) && len(x.lost) == 0) {
			t.Errorf("%s %s: %d of %d compared and equal", x.tool, x.cell, x.equal, x.seen)
		}
	}
	requireNothingLeft(t)
}

// An interrupt ends it in the middle of a load, with nothing left.
func TestInterrupt(t *testing.T) {
	bed.RequireRoot(t)
	t.Setenv("TMPDIR", t.TempDir())
	opt, err := parseOptions([]string{"-tools", "shadowtap-1%", "-cells", "4k@100", "-rounds", "1", "-seconds", "3600", "-idle", "0", "-cache", t.TempDir()}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := run(ctx, opt, t.Output())
		ended <- err
	}()
	bed.Poll(t, 3*time.Minute, "a load runs", func() (bool, string) {
		if len(ended) > 0 {
			t.Fatal(<-ended)
		}
		all := children(t)
		return slices.ContainsFunc(all, func(command string) bool { return strings.Contains(command, "\x00"+loadCommand+"\x00") }), fmt.Sprintf("%q", all)
	})
	cancel()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
			t.Errorf("error %v, want one that says it was stopped", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
	}
	requireNothingLeft(t)
}

func requireNothingLeft(t *testing.T) {
	t.Helper()
	run := filepath.Join(admin.Root, instancePrefix+strconv.Itoa(os.Getpid()))
	for _, pattern := range []string{filepath.Join(os.TempDir(), "*"), run} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("left behind: processes %q", left)
	}
}

// children are the command lines of this process's children.
func children(t *testing.T) (commands []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d processes, %v", len(files), err)
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The state and the parent stand behind the name in parentheses.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		commands = append(commands, string(command))
	}
	return commands
}
