package bed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// T is the owner of what is made here: its end ends that. Every testing.TB is
// one; a program that is no test brings its own.
type T interface {
	Helper()
	// TempDir gives a new folder that is removed at the owner's end.
	TempDir() string
	// Cleanup is called at the owner's end, the last one first.
	Cleanup(func())
	// Errorf says that something is wrong and goes on; the others do not return.
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
}

// Namespace is a network namespace without a name. The nil Namespace is the
// one that the test process runs in.
type Namespace struct {
	handle netns.NsHandle
	name   string // for messages only
}

// RequireRoot skips the test where it does not run as root, and fails it there
// when CI is set: a skip would hide that nothing was proved.
func RequireRoot(t T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root")
	}
	t.Skip("needs root: network namespaces and eBPF")
}

// NewNamespace makes a namespace with loopback up. It is closed at the end of
// the test. The name is for messages only.
func NewNamespace(t T, name string) *Namespace {
	t.Helper()
	RequireRoot(t)
	n := &Namespace{name: name}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network: %w", err)
		}
		handle, err := netns.Get()
		if err != nil {
			return fmt.Errorf("get the new namespace: %w", err)
		}
		n.handle = handle
		return nil
	})
	if err != nil {
		t.Fatalf("namespace %s: %v", name, err)
	}
	t.Cleanup(func() { n.handle.Close() })
	n.Must(t, func() error {
		// With a paced congestion control, which a new namespace inherits, the
		// tail of an answer would wait for timers.
		if err := Sysctl("net/ipv4/tcp_congestion_control", "reno"); err != nil {
			return err
		}
		// Nobody else is on a veth pair: looking for a duplicate of the
		// link-local address only takes its second or two.
		if err := Sysctl("net/ipv6/conf/default/accept_dad", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return n
}

// Do calls f on a thread that is in the namespace. Sockets that f opens and
// processes that it starts stay there; goroutines that it starts do not.
func (n *Namespace) Do(f func() error) error {
	if n == nil {
		return f()
	}
	return onThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.name, err)
		}
		return f()
	})
}

// Must is Do and fails the test on an error.
func (n *Namespace) Must(t T, f func() error) {
	t.Helper()
	if err := n.Do(f); err != nil {
		t.Fatal(err)
	}
}

// DialContext opens a connection from within the namespace.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.Do(func() error {
		// No resolver and no second address family: net.Dialer would start
		// goroutines for them, which run outside of the namespace.
		d := net.Dialer{FallbackDelay: -1}
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a listener within the namespace.
func (n *Namespace) Listen(t T, network, address string) net.Listener {
	t.Helper()
	var l net.Listener
	n.Must(t, func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l
}

// Inode is the number by which the kernel tells namespaces apart.
func (n *Namespace) Inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.handle), &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// Sysctl writes a setting of the calling thread's namespace; path is below
// /proc/sys.
func Sysctl(path, value string) error {
	return os.WriteFile("/proc/sys/"+path, []byte(value), 0)
}

// onThread calls f on a thread of its own, which ends with the call, so that
// whatever f did to the thread goes with it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// Link is one end of a veth pair.
type Link struct {
	Namespace *Namespace
	Name      string
	// Addresses are in CIDR form.
	Addresses []string
	// Gateways are next hops of default routes, IPv4 or IPv6.
	Gateways []string
}

// linkNumber counts links, to number them differently in all namespaces.
var linkNumber atomic.Int32

// Join makes a veth pair between two namespaces, with their addresses, up.
func Join(t T, a, b Link) {
	t.Helper()
	a.Namespace.Must(t, func() error {
		err := netlink.LinkAdd(&netlink.Veth{
			// The kernel tells of a carrier at once only when the two ends have
			// different numbers (net/core/link_watch.c, linkwatch_urgent_event),
			// and each namespace would number its first link 2: IPv6 would
			// then be dead for up to a second.
			LinkAttrs:     netlink.LinkAttrs{Name: a.Name, Index: 1000 + int(linkNumber.Add(1))},
			PeerName:      b.Name,
			PeerNamespace: netlink.NsFd(int(b.Namespace.handle)),
		})
		if err != nil {
			return fmt.Errorf("veth %s and %s: %w", a.Name, b.Name, err)
		}
		return nil
	})
	for _, end := range []Link{a, b} {
		end.Namespace.Must(t, end.configure)
	}
	// A route needs the other side up.
	for _, end := range []Link{a, b} {
		end.Namespace.Must(t, end.route)
	}
}

func (l Link) configure() error {
	link, err := netlink.LinkByName(l.Name)
	if err != nil {
		return fmt.Errorf("link %s: %w", l.Name, err)
	}
	for _, text := range l.Addresses {
		address, err := netlink.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("address %s: %w", text, err)
		}
		if address.IP.To4() == nil {
			// Without duplicate address detection it may be used at once.
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return fmt.Errorf("address %s on %s: %w", text, l.Name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", l.Name, err)
	}
	return nil
}

func (l Link) route() error {
	for _, text := range l.Gateways {
		gateway := net.ParseIP(text)
		if gateway == nil {
			return fmt.Errorf("gateway %q is no address", text)
		}
		everywhere := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if gateway.To4() == nil {
			everywhere = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		link, err := netlink.LinkByName(l.Name)
		if err != nil {
			return fmt.Errorf("link %s: %w", l.Name, err)
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: everywhere, Gw: gateway}); err != nil {
			return fmt.Errorf("default route by %s: %w", text, err)
		}
	}
	return nil
}
