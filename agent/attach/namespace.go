package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// nsDir is where iproute2 keeps named network namespaces.
const nsDir = "/run/netns"

// namespace is a network namespace.
type namespace struct {
	name   string
	domain uint16
	// file is nil for the process's own namespace.
	file *os.File
	// id is the namespace's identity: two files of one namespace have the same.
	id nsID
}

type nsID struct{ dev, ino uint64 }

// openNamespace opens the namespace of a file, or of a name in nsDir; "" is the
// process's own.
func openNamespace(name string) (*namespace, error) {
	own, err := identify("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	if name == "" {
		return &namespace{id: own}, nil
	}
	path := name
	if !strings.Contains(name, "/") {
		path = filepath.Join(nsDir, name)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("look at network namespace %s: %w", path, err)
	}
	n := &namespace{name: name, file: f, id: nsID{uint64(st.Dev), st.Ino}}
	if n.id == own {
		n.file = nil
		return n, f.Close()
	}
	return n, nil
}

func identify(path string) (nsID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nsID{}, fmt.Errorf("look at network namespace %s: %w", path, err)
	}
	return nsID{uint64(st.Dev), st.Ino}, nil
}

// own says whether it is the process's own namespace.
func (n *namespace) own() bool { return n.file == nil }

// do calls f on a thread that is in the namespace.
func (n *namespace) do(f func() error) error {
	if n.own() {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("open the thread's network namespace: %w", err)
			return
		}
		defer back.Close()
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			if errors.Is(err, unix.EPERM) {
				err = fmt.Errorf("%w (needs CAP_SYS_ADMIN)", err)
			}
			done <- fmt.Errorf("enter network namespace %s: %w", n.name, err)
			return
		}
		err = f()
		// A thread that can't go back stays locked, and ends with this goroutine.
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Close releases the file.
func (n *namespace) Close() error {
	if n.file == nil {
		return nil
	}
	return n.file.Close()
}
