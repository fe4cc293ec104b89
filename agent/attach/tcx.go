package attach

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcxHold is a tap in a TCX chain. The kernel takes it off when the link's file
// descriptor is closed, also by the end of the process.
type tcxHold struct {
	link    link.Link
	id      link.ID
	ifindex int
	at      ebpf.AttachType
}

// holdTCX puts the program at the head of the chain of a hook of an interface of
// the calling thread's namespace.
func (a *Attacher) holdTCX(ifindex int, h hook, prog *ebpf.Program) (*tcxHold, error) {
	l, err := a.attachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: h.at, Anchor: link.Head()})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return nil, fmt.Errorf("TCX needs kernel 6.6, this is %s: %w", kernelRelease(), err)
	}
	if err != nil {
		return nil, err
	}
	info, err := l.Info()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &tcxHold{link: l, id: info.ID, ifindex: ifindex, at: h.at}, nil
}

// state implements holder.
func (h *tcxHold) state() (State, error) {
	q, err := link.QueryPrograms(link.QueryOptions{Target: h.ifindex, Attach: h.at})
	if errors.Is(err, unix.ENODEV) {
		return Gone, nil
	}
	if err != nil {
		return "", err
	}
	for i := range q.Programs {
		id, ok := q.Programs[i].LinkID()
		switch {
		case !ok || id != h.id:
		case i == 0:
			return Attached, nil
		default:
			return Displaced, nil
		}
	}
	return Gone, nil
}

// Close implements holder.
func (h *tcxHold) Close() error { return h.link.Close() }

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
