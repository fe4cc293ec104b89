//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/bpf"
)

// objects are the numbers of the kernel objects that a process holds.
type objects struct {
	maps     []ebpf.MapID
	programs []ebpf.ProgramID
	links    []link.ID
}

// heldBy reads the numbers from the process's descriptors.
func heldBy(pid int) (objects, error) {
	var o objects
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return o, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // closed meanwhile
		}
		if err != nil {
			return o, err
		}
		fields := map[string]uint32{}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
				fields[name] = uint32(n)
			}
		}
		// A link names its program too: the program is the kernel's then.
		switch {
		case fields["link_id"] != 0:
			o.links = append(o.links, link.ID(fields["link_id"]))
			o.programs = append(o.programs, ebpf.ProgramID(fields["prog_id"]))
		case fields["map_id"] != 0:
			o.maps = append(o.maps, ebpf.MapID(fields["map_id"]))
		case fields["prog_id"] != 0:
			o.programs = append(o.programs, ebpf.ProgramID(fields["prog_id"]))
		}
	}
	return o, nil
}

// left names those of the objects that are still there.
func (o objects) left() []string {
	var left []string
	for _, id := range o.maps {
		if m, err := ebpf.NewMapFromID(id); err == nil {
			m.Close()
			left = append(left, fmt.Sprintf("map %d", id))
		}
	}
	for _, id := range o.programs {
		if p, err := ebpf.NewProgramFromID(id); err == nil {
			p.Close()
			left = append(left, fmt.Sprintf("program %d", id))
		}
	}
	for _, id := range o.links {
		if l, err := link.NewFromID(id); err == nil {
			l.Close()
			left = append(left, fmt.Sprintf("link %d", id))
		}
	}
	return left
}

// requireGone waits until the kernel has let go of all objects: it does so a
// moment after their last user went.
func (o objects) requireGone(t *testing.T) {
	t.Helper()
	bed.Poll(t, 10*time.Second, "the kernel's objects are gone", func() (bool, string) {
		left := o.left()
		return len(left) == 0, strings.Join(left, ", ")
	})
}

// packets reads the kernel's counters of the process by way of the map's
// number, without the process's help.
func (o objects) packets(t *testing.T) map[string]uint64 {
	t.Helper()
	for _, id := range o.maps {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Name != "cpus" {
			continue
		}
		if want := uint32(8 * len(counterWords{})); info.ValueSize != want {
			t.Fatalf("the counters have %d bytes, expected %d", info.ValueSize, want)
		}
		var cpus []counterWords
		if err := m.Lookup(uint32(0), &cpus); err != nil {
			t.Fatal(err)
		}
		sums := map[string]uint64{}
		for r := range bpf.Results {
			sums[bpf.Result(r).String()] = 0
			for i := range cpus {
				sums[bpf.Result(r).String()] += cpus[i][r]
			}
		}
		return sums
	}
	t.Fatalf("none of the %d maps has the counters", len(o.maps))
	return nil
}

// counterWords is struct tap_cpu of bpf/tap.h: a counter for each result, and
// a word of the copy budget.
type counterWords [bpf.Results + 1]uint64

// selectedWords are the results of packets that were selected.
func selectedWords() []string {
	var words []string
	for r := bpf.Captured; int(r) < bpf.Results; r++ {
		words = append(words, r.String())
	}
	return words
}

// attached names what is in the TCX chains of an interface.
func attached(t *testing.T, ns *bed.Namespace, name string) []string {
	t.Helper()
	var found []string
	ns.Must(t, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for word, hook := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
			chain, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: hook})
			if err != nil {
				return fmt.Errorf("query %s of %s: %w", word, name, err)
			}
			for _, p := range chain.Programs {
				found = append(found, fmt.Sprintf("%s of %s: program %d", word, name, p.ID))
			}
		}
		filters := 0
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			list, err := netlink.FilterList(l, parent)
			if err != nil {
				return fmt.Errorf("filters of %s: %w", name, err)
			}
			filters += len(list)
		}
		if filters > 0 {
			found = append(found, fmt.Sprintf("%d tc filters of %s", filters, name))
		}
		return nil
	})
	return found
}
