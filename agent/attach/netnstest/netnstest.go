// Package netnstest gives tests network namespaces of their own. Nothing of
// them has a name in the file system, so nothing stays behind, however the test
// ends. It is imported by tests only.
package netnstest

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NeedRoot skips the test where it may not make namespaces and load BPF
// programs. Where CI is set it fails instead.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root (network namespaces, BPF), and CI is set")
	}
	t.Skip("needs root (network namespaces, BPF)")
}

// NS is a network namespace with its loopback device up. It ends with the test.
type NS struct {
	file *os.File
	work chan func()
}

// New makes a namespace.
func New(t testing.TB) *NS {
	t.Helper()
	NeedRoot(t)
	ns := &NS{work: make(chan func())}
	made := make(chan error)
	go func() {
		// The thread is never unlocked, so it ends with the goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns.file, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			err = up("lo")
		}
		made <- err
		if err != nil {
			return
		}
		for f := range ns.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(ns.work)
		ns.file.Close()
	})
	return ns
}

// Path names the namespace for this process, as long as the test runs.
func (ns *NS) Path() string { return fmt.Sprintf("/proc/self/fd/%d", ns.file.Fd()) }

// File is the namespace file, for a child process. It belongs to ns.
func (ns *NS) File() *os.File { return ns.file }

// Do calls f on a thread in the namespace and waits for it. Goroutines that f
// starts are not in the namespace; sockets that it opens stay in it. f must not
// end the test.
func (ns *NS) Do(f func()) {
	done := make(chan struct{})
	ns.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Must is Do for an f that returns an error, which ends the test.
func (ns *NS) Must(t testing.TB, f func() error) {
	t.Helper()
	var err error
	ns.Do(func() { err = f() })
	if err != nil {
		t.Fatal(err)
	}
}

// Listen opens a TCP listener in the namespace, closed with the test.
func (ns *NS) Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var l net.Listener
	ns.Must(t, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	t.Cleanup(func() { l.Close() })
	return l
}

// Dial opens a TCP connection from the namespace to an IP address and port,
// closed with the test.
func (ns *NS) Dial(t testing.TB, address string) net.Conn {
	t.Helper()
	var c net.Conn
	ns.Must(t, func() (err error) {
		c, err = net.Dial("tcp", address)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// End is one end of a veth pair.
type End struct {
	NS   *NS
	Name string
	// Addresses as "10.0.0.1/24"; IPv6 ones are usable at once.
	Addresses []string
}

// Veth joins two namespaces by a pair of interfaces that are up.
func Veth(t testing.TB, a, b End) {
	t.Helper()
	a.NS.Must(t, func() error {
		pair := netlink.NewVeth(netlink.LinkAttrs{Name: a.Name})
		pair.PeerName = b.Name
		pair.PeerNamespace = netlink.NsFd(int(b.NS.file.Fd()))
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("make veth %s and %s: %w", a.Name, b.Name, err)
		}
		return nil
	})
	for _, e := range []End{a, b} {
		e.NS.Must(t, func() error { return e.configure() })
	}
}

func (e End) configure() error {
	l, err := netlink.LinkByName(e.Name)
	if err != nil {
		return err
	}
	for _, s := range e.Addresses {
		addr, err := netlink.ParseAddr(s)
		if err != nil {
			return err
		}
		if strings.Contains(s, ":") {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, addr); err != nil {
			return fmt.Errorf("add %s to %s: %w", s, e.Name, err)
		}
	}
	return up(e.Name)
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}
