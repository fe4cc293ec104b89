package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/agent/attach"
	"github.com/shadowtap/shadowtap/agent/off"
)

// TestDetach runs two agents: detach takes the taps of the one that it names,
// running as it is, and of the other only when it is told to.
func TestDetach(t *testing.T) {
	name := func(n int) string { return fmt.Sprintf("detach-%d-%d", os.Getpid(), n) }
	a, b := runAgent(t, name(1), nil), runAgent(t, name(2), nil)
	detach := func(r *running, all bool) string {
		t.Helper()
		// Without a socket: as if the agent did not answer.
		said, err := Detach(SwitchOptions{Context: t.Context(), OffFile: filepath.Join(t.TempDir(), "off"), Instance: r.cfg.Instance, AllInstances: all})
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	holds := func(said, want string) {
		t.Helper()
		if !strings.Contains(said, want) {
			t.Errorf("detach says %q, without %q", said, want)
		}
	}
	said := detach(a, false)
	holds(said, "1 tap of "+name(1)+" removed")
	holds(said, "1 tap of "+name(2))
	holds(said, "left alone")
	said = detach(a, false)
	if strings.Contains(said, name(1)+" removed") {
		t.Errorf("removed twice: %s", said)
	}
	holds(said, "1 tap of "+name(2))
	holds(detach(b, false), "1 tap of "+name(2)+" removed")
}

// TestMeans: what detach takes of the taps that it finds.
func TestMeans(t *testing.T) {
	dir := t.TempDir()
	free, held := filepath.Join(dir, "free"), filepath.Join(dir, "held")
	for _, path := range []string{free, held} {
		lock, err := off.Acquire(path)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Release()
		if path == free {
			lock.Release()
		}
	}
	for _, tc := range []struct {
		name string
		tap  attach.Owner
		want bool
	}{
		{"its own, running", attach.Owner{Instance: "mine", Lock: held}, true},
		{"its own, dead", attach.Owner{Instance: "mine", Lock: free}, true},
		{"another, running", attach.Owner{Instance: "other", Lock: held}, false},
		{"another, dead", attach.Owner{Instance: "other", Lock: free}, true},
		{"another, whose lock is not seen from here", attach.Owner{Instance: "other", Lock: filepath.Join(dir, "none")}, false},
		{"nobody's", attach.Owner{}, false},
	} {
		if got := (SwitchOptions{Instance: "mine"}).means(tc.tap); got != tc.want {
			t.Errorf("%s: taken %v, want %v", tc.name, got, tc.want)
		}
		if !(SwitchOptions{Instance: "mine", AllInstances: true}).means(tc.tap) {
			t.Errorf("%s: not taken with all instances", tc.name)
		}
	}
}
