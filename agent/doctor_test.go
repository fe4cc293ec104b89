package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKernelFinding(t *testing.T) {
	for release, ok := range map[string]bool{
		"6.6.0": true, "6.6.0-rc1": true, "6.12.9-amd64": true, "6.18.44-fc-v669": true, "7.0": true, "10.1.2": true, "6.6": true, "6.10+": true,
		"6.5.13": false, "6.1.0-18-amd64": false, "5.10.0": false, "5.66.1": false, "6": false, "": false, "x.y": false,
	} {
		f := kernelFinding(release, nil)
		if f.OK != ok || f.Found != release || (f.Do == "") != ok {
			t.Errorf("%q: %+v", release, f)
		}
	}
	if f := kernelFinding("", errors.New("ask: no")); f.OK || f.Found != "ask: no" || f.Do == "" {
		t.Errorf("an error: %+v", f)
	}
}

func TestCapabilityFinding(t *testing.T) {
	const netAdmin, sysAdmin, perfmon, bpfCap = 1 << 12, 1 << 21, 1 << 38, 1 << 39
	for _, tc := range []struct {
		have  uint64
		old   bool
		ok    bool
		found string
	}{
		{netAdmin | bpfCap | perfmon, true, true, "NET_ADMIN, BPF, PERFMON"},
		{netAdmin | sysAdmin, true, true, "NET_ADMIN, BPF, PERFMON"},
		{netAdmin | bpfCap, true, false, "without PERFMON"},
		{netAdmin | bpfCap, false, true, "NET_ADMIN, BPF"},
		{netAdmin | sysAdmin, false, true, "NET_ADMIN, BPF"},
		{^uint64(0), false, true, "NET_ADMIN, BPF"},
		{netAdmin, false, false, "without BPF"},
		{bpfCap, false, false, "without NET_ADMIN"},
		{sysAdmin, false, false, "without NET_ADMIN"},
		{0, false, false, "without NET_ADMIN, BPF"},
	} {
		f := capabilityFinding(tc.have, tc.old, nil)
		if f.OK != tc.ok || f.Found != tc.found || (f.Do == "") != tc.ok {
			t.Errorf("%#x: %+v", tc.have, f)
		}
	}
	if f := capabilityFinding(^uint64(0), false, errors.New("read: no")); f.OK || f.Found != "read: no" || f.Do == "" {
		t.Errorf("an error: %+v", f)
	}
}

func TestNeedsPerfmon(t *testing.T) {
	for release, want := range map[string]bool{"6.6.0": true, "6.17.9": true, "6.18.44": false, "7.0": false, "5.18": true} {
		if needsPerfmon(release) != want {
			t.Errorf("%s: %v", release, !want)
		}
	}
}

func TestEffective(t *testing.T) {
	path := filepath.Join(t.TempDir(), "status")
	for text, want := range map[string]uint64{
		"Name:\tx\nCapPrm:\t00000000ffffffff\nCapEff:\t0000008000001000\nCapBnd:\tff\n": 1<<39 | 1<<12,
		"CapEff:\t0": 0,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := effective(path); got != want || err != nil {
			t.Errorf("%q: %#x, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "CapPrm:\tff\n", "CapEff:\tyes\n", "CapEff:\t1ffffffffffffffff\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := effective(path); err == nil {
			t.Errorf("%q: %#x without an error", text, got)
		}
	}
	if _, err := effective(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := effective("/proc/self/status"); err != nil {
		t.Error(err)
	}
}

func TestTapFinding(t *testing.T) {
	denied := fmt.Errorf("load: %w", os.ErrPermission)
	for _, tc := range []struct {
		name      string
		err       error
		capable   bool
		ok        bool
		found, do string
	}{
		{"accepted", nil, true, true, "accepts", ""},
		{"no capability", denied, false, false, "want of capabilities", ""},
		{"capable and denied", denied, true, false, "load: permission denied", "seccomp"},
		{"an old kernel", errors.New("ring buffer: not supported, requires 5.8"), true, false, "requires 5.8", "what the kernel lacks"},
	} {
		f := tapFinding(tc.err, tc.capable)
		if f.OK != tc.ok || !strings.Contains(f.Found, tc.found) || !strings.Contains(f.Do, tc.do) || tc.do == "" && f.Do != "" {
			t.Errorf("%s: %+v", tc.name, f)
		}
	}
}

func TestInterfaceFindings(t *testing.T) {
	all := []net.Interface{{Name: "lo", Flags: net.FlagUp | net.FlagLoopback}, {Name: "eth0", Flags: net.FlagUp}, {Name: "eth1"}}
	for _, tc := range []struct {
		name  string
		names []string
		all   []net.Interface
		err   error
		want  []Finding
	}{
		{"all", nil, all, nil, []Finding{{"interfaces", true, "lo, eth0, eth1 (down)", ""}}},
		{"none there", nil, nil, nil, []Finding{{"interfaces", false, "none", "run in a network namespace that has one"}}},
		{"up", []string{"eth0"}, all, nil, []Finding{{"interface eth0", true, "is up", ""}}},
		{"down, and missing", []string{"eth1", "eth"}, all, nil, []Finding{
			{"interface eth1", false, "is down", "ip link set eth1 up"},
			{"interface eth", false, "is not there", "there are: lo, eth0, eth1 (down)"},
		}},
		{"an error", []string{"eth0"}, nil, errors.New("list: no"), []Finding{{"interfaces", false, "list: no", "the agent must be allowed to list interfaces"}}},
	} {
		got := interfaceFindings(tc.names, tc.all, tc.err)
		if fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

// On any machine Doctor looks at all of it, and what is not OK says so.
func TestDoctorLooksAtAll(t *testing.T) {
	var names []string
	for _, f := range Doctor([]string{"lo", "no-such-if"}) {
		names = append(names, f.Name)
		if f.Found == "" {
			t.Errorf("%s: found nothing", f.Name)
		}
	}
	if got, want := strings.Join(names, ", "), "kernel, capabilities, tap, interface lo, interface no-such-if"; got != want {
		t.Errorf("looked at %s, want %s", got, want)
	}
}
