package attach

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// DetachAll removes every tap of shadowtap from every interface of every
// network namespace, whichever process holds it, and says how many there were.
// It is for an agent that does not answer; a healthy one detaches by itself.
// Needs the capability SYS_ADMIN, to look at links that others made.
func DetachAll() (n int, err error) {
	return detachAll(func(ebpf.ProgramID) bool { return true })
}

// detachAll removes the taps whose programs are meant.
func detachAll(meant func(ebpf.ProgramID) bool) (n int, err error) {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		id, err2 := tapProgram(it.Link)
		if err2 == nil && (id == 0 || !meant(id)) {
			continue
		}
		if err2 == nil {
			err2 = it.Link.Detach()
		}
		switch {
		case errors.Is(err2, os.ErrNotExist):
			// Its owner was faster.
		case err2 != nil:
			err = errors.Join(err, fmt.Errorf("detach link %d: %w", it.ID, err2))
		default:
			n++
		}
	}
	if e := it.Err(); e != nil {
		err = errors.Join(err, fmt.Errorf("list links: %w", e))
	}
	return n, err
}

// programName is the kernel's name of the tap, from bpf/tap.bpf.c.
const programName = "shadowtap"

// tapProgram returns the program of a link when that is a TCX attachment of a
// tap to an interface that is still there, else 0.
func tapProgram(l link.Link) (ebpf.ProgramID, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("look at it: %w", err)
	}
	if info.Type != link.TCXType || info.TCX() == nil || info.TCX().Ifindex == 0 {
		return 0, nil
	}
	prog, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return 0, fmt.Errorf("open program %d: %w", info.Program, err)
	}
	defer prog.Close()
	pi, err := prog.Info()
	if err != nil {
		return 0, fmt.Errorf("look at program %d: %w", info.Program, err)
	}
	if pi.Name != programName {
		return 0, nil
	}
	return info.Program, nil
}
