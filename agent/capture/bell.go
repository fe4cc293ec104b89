package capture

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// bell waits for a ring's wake-ups with the runtime's poller. A system call in a
// thread of its own, locked or not, costs the same CPU (BenchmarkCPU, within the
// noise) and would hold a thread for each ring. It belongs to one goroutine,
// except for ring.
type bell struct {
	file *os.File
	conn syscall.RawConn
	// ready is asked before the wait; while it is false, it waits.
	ready func() bool
	fresh bool
	look  func(uintptr) bool
}

// newBell makes the bell of a ring. ready is called from wait.
func newBell(m *ebpf.Map, ready func() bool) (*bell, error) {
	// The poller takes only files that are non-blocking; the flag means nothing
	// to a map. The duplicate belongs to the file, the original to the map.
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate a ring's file descriptor: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a ring's file descriptor non-blocking: %w", err)
	}
	b := &bell{file: os.NewFile(uintptr(fd), "ring"), ready: ready}
	if b.conn, err = b.file.SyscallConn(); err == nil {
		err = b.file.SetReadDeadline(time.Time{}) // fails when it can't be polled
	}
	if err != nil {
		b.file.Close()
		return nil, fmt.Errorf("poll a ring: %w", err)
	}
	b.look = func(uintptr) bool {
		if b.fresh {
			b.fresh = false
			return b.ready()
		}
		return true
	}
	return b, nil
}

// wait returns when ready is true, when the program or ring wakes it, or at the
// time until. A wake-up that came before the call does not count.
func (b *bell) wait(until time.Time) error {
	if err := b.file.SetReadDeadline(until); err != nil {
		return fmt.Errorf("wait for a ring: %w", err)
	}
	b.fresh = true
	err := b.conn.Read(b.look)
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return fmt.Errorf("wait for a ring: %w", err)
}

// ring ends a wait from another goroutine. What makes ready true must be set
// before, or a wait that is just beginning is not ended.
func (b *bell) ring() { b.file.SetReadDeadline(time.Unix(1, 0)) }

func (b *bell) close() error { return b.file.Close() }
