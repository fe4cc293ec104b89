package attach

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// DetachAll removes every tap of shadowtap from every interface of every
// network namespace, whichever process holds it, and says how many there were.
// It is for an agent that does not answer; a healthy one detaches by itself.
// Needs the capability SYS_ADMIN, to look at links that others made.
func DetachAll() (n int, err error) {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		l := it.Link
		ours, e := isTap(l)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		if !ours {
			continue
		}
		if e := l.Detach(); e != nil {
			err = errors.Join(err, fmt.Errorf("detach link %d: %w", it.ID, e))
			continue
		}
		n++
	}
	if e := it.Err(); e != nil {
		err = errors.Join(err, fmt.Errorf("list links: %w", e))
	}
	return n, err
}

// programName is the kernel's name of the tap, from bpf/tap.bpf.c.
const programName = "shadowtap"

// isTap says whether a link is a TCX attachment of our program.
func isTap(l link.Link) (bool, error) {
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("ask about a link: %w", err)
	}
	if info.Type != link.TCXType || info.TCX() == nil || info.TCX().Ifindex == 0 {
		return false, nil
	}
	prog, err := ebpf.NewProgramFromID(info.Program)
	if errors.Is(err, ebpf.ErrNotSupported) || err != nil {
		return false, fmt.Errorf("open program %d: %w", info.Program, err)
	}
	defer prog.Close()
	pi, err := prog.Info()
	if err != nil {
		return false, fmt.Errorf("ask about program %d: %w", info.Program, err)
	}
	return pi.Name == programName, nil
}
