package attach

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Swept is what a Sweep found: an Owner for each tap, the zero one where the tap
// does not say whose it is.
type Swept struct {
	// Removed were taken off, Left were not meant.
	Removed, Left []Owner
}

// Sweep looks at every tap of shadowtap on every interface of every network
// namespace, whichever process holds it, and takes off those that are meant. It
// is for an agent that does not answer; a healthy one detaches by itself. Needs
// the capability SYS_ADMIN, to look at links that others made. The Swept counts
// with an error too.
func Sweep(meant func(Owner) bool) (s Swept, err error) {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		owner, ours, err2 := tapOwner(it.Link)
		if err2 == nil && !ours {
			continue
		}
		if err2 == nil && !meant(owner) {
			s.Left = append(s.Left, owner)
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
			s.Removed = append(s.Removed, owner)
		}
	}
	if e := it.Err(); e != nil {
		err = errors.Join(err, fmt.Errorf("list links: %w", e))
	}
	return s, err
}

// programName is the kernel's name of the tap, from bpf/tap.bpf.c.
const programName = "shadowtap"

// tapOwner says whether a link is a TCX attachment of a tap to an interface that
// is still there, and whose.
func tapOwner(l link.Link) (o Owner, ours bool, err error) {
	info, err := l.Info()
	if err != nil {
		return o, false, fmt.Errorf("look at it: %w", err)
	}
	if info.Type != link.TCXType || info.TCX() == nil || info.TCX().Ifindex == 0 {
		return o, false, nil
	}
	prog, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return o, false, fmt.Errorf("open program %d: %w", info.Program, err)
	}
	defer prog.Close()
	pi, err := prog.Info()
	if err != nil {
		return o, false, fmt.Errorf("look at program %d: %w", info.Program, err)
	}
	if pi.Name != programName {
		return o, false, nil
	}
	o, err = ownerOf(pi)
	return o, true, err
}
