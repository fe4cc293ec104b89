package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/bpf"
)

// Finding is one thing that Doctor looked at.
type Finding struct {
	// Name in a word or two.
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Found says what there is, Do what to do when it is not OK.
	Found string `json:"found"`
	Do    string `json:"do,omitempty"`
}

// Doctor looks at what the agent needs on this machine: kernel, capabilities,
// the tap itself, interfaces. It attaches nothing. interfaces may be empty:
// then all are listed.
func Doctor(interfaces []string) []Finding {
	release, err := kernelRelease()
	kernel := kernelFinding(release, err)
	have, err := effective("/proc/self/status")
	caps := capabilityFinding(have, needsPerfmon(release), err)
	all, err := net.Interfaces()
	return append([]Finding{kernel, caps, tapFinding(tryTap(), caps.OK)}, interfaceFindings(interfaces, all, err)...)
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("ask for the kernel's release: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

func kernelFinding(release string, err error) Finding {
	f := Finding{Name: "kernel", Found: release}
	if err != nil {
		f.Found, f.Do = err.Error(), "the agent needs Linux 6.6 or newer"
		return f
	}
	major, minor := releaseNumbers(release)
	if f.OK = major > 6 || major == 6 && minor >= 6; !f.OK {
		f.Do = "use Linux 6.6 or newer: the tap attaches by TCX, which older kernels do not have"
	}
	return f
}

// releaseNumbers gives the first two numbers of a kernel's release, such as
// 6.12.9-amd64; zero stands for what is none.
func releaseNumbers(s string) (major, minor int) {
	first, rest, _ := strings.Cut(s, ".")
	major, _ = strconv.Atoi(first)
	end := strings.IndexFunc(rest+"x", func(r rune) bool { return r < '0' || r > '9' })
	minor, _ = strconv.Atoi(rest[:end])
	return major, minor
}

// Numbers of capabilities (include/uapi/linux/capability.h).
const (
	capNetAdmin = 12
	capSysAdmin = 21
	capPerfmon  = 38
	capBPF      = 39
)

// needsPerfmon says whether that kernel's verifier takes the program from
// nobody without PERFMON: see package bpf.
func needsPerfmon(release string) bool {
	major, minor := releaseNumbers(release)
	return major < 6 || major == 6 && minor < 18
}

// capabilityFinding looks at a set of capabilities: NET_ADMIN to attach, BPF to
// load, with older kernels PERFMON too. SYS_ADMIN stands in for the last two
// (include/linux/capability.h, bpf_capable and perfmon_capable).
func capabilityFinding(have uint64, perfmon bool, err error) Finding {
	load := "BPF (to load the tap)"
	if perfmon {
		load = "BPF and, before Linux 6.18, PERFMON (to load the tap)"
	}
	f := Finding{Name: "capabilities"}
	if err != nil {
		f.Found, f.Do = err.Error(), "the agent needs NET_ADMIN and "+load+": run it as root"
		return f
	}
	has := func(bit int) bool { return have&(1<<bit) != 0 }
	var got, lacks []string
	sort := func(name string, ok bool) {
		if ok {
			got = append(got, name)
		} else {
			lacks = append(lacks, name)
		}
	}
	sort("NET_ADMIN", has(capNetAdmin))
	sort("BPF", has(capBPF) || has(capSysAdmin))
	if perfmon {
		sort("PERFMON", has(capPerfmon) || has(capSysAdmin))
	}
	if f.OK = lacks == nil; f.OK {
		f.Found = strings.Join(got, ", ")
		return f
	}
	f.Found = "without " + strings.Join(lacks, ", ")
	f.Do = "run as root, or with NET_ADMIN (to attach) and " + load
	return f
}

// effective reads the effective capabilities from a /proc/PID/status.
func effective(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("read capabilities: CapEff in %s: %w", path, err)
			}
			return set, nil
		}
	}
	return 0, fmt.Errorf("read capabilities: %s has no CapEff", path)
}

// tryTap has the kernel load the program, and lets it go again.
func tryTap() error {
	m, err := bpf.NewMaps(bpf.MapsConfig{Rings: 1, RingBytes: bpf.MinRingBytes})
	if err != nil {
		return err
	}
	defer m.Close()
	p, err := m.Load(bpf.TapConfig{Tap: 1, LinkHeader: 14, Direction: bpf.Both})
	if err != nil {
		return err
	}
	return p.Close()
}

func tapFinding(err error, capable bool) Finding {
	f := Finding{Name: "tap"}
	switch {
	case err == nil:
		f.OK, f.Found = true, "the kernel's verifier accepts the program"
	case errors.Is(err, os.ErrPermission) && !capable:
		f.Found = "not loaded, for want of capabilities"
	case errors.Is(err, os.ErrPermission):
		f.Found, f.Do = err.Error(), "something beside capabilities forbids it: a user namespace, seccomp, an LSM or kernel lockdown; run on the host, or let the container use bpf()"
	default:
		f.Found, f.Do = err.Error(), "the message says what the kernel lacks, and since when kernels have it"
	}
	return f
}

func interfaceFindings(names []string, all []net.Interface, err error) (out []Finding) {
	if err != nil {
		return []Finding{{Name: "interfaces", Found: err.Error(), Do: "the agent must be allowed to list interfaces"}}
	}
	var have []string
	for _, i := range all {
		n := i.Name
		if i.Flags&net.FlagUp == 0 {
			n += " (down)"
		}
		have = append(have, n)
	}
	if len(names) == 0 {
		f := Finding{Name: "interfaces", OK: len(have) > 0, Found: strings.Join(have, ", ")}
		if !f.OK {
			f.Found, f.Do = "none", "run in a network namespace that has one"
		}
		return []Finding{f}
	}
	for _, n := range names {
		f := Finding{Name: "interface " + n}
		at := slices.IndexFunc(all, func(i net.Interface) bool { return i.Name == n })
		switch {
		case at < 0:
			f.Found, f.Do = "is not there", "there are: "+strings.Join(have, ", ")
		case all[at].Flags&net.FlagUp == 0:
			f.Found, f.Do = "is down", "ip link set "+n+" up"
		default:
			f.OK, f.Found = true, "is up"
		}
		out = append(out, f)
	}
	return out
}
