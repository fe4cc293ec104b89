package attach

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/agent/attach/netnstest"
	"github.com/shadowtap/shadowtap/bpf"
)

const childEnv = "SHADOWTAP_TEST_ATTACH_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

func newMaps(t testing.TB, ports ...uint16) *bpf.Maps {
	t.Helper()
	netnstest.NeedRoot(t)
	m, err := bpf.NewMaps(bpf.MapsConfig{RingBytes: bpf.MinRingBytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	if err := m.SetPorts(ports); err != nil {
		t.Fatal(err)
	}
	// The taps are looked at through their counters; nobody reads the ring.
	return m
}

// lines is a log that a test can read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func newAttacher(t testing.TB, maps *bpf.Maps, log *slog.Logger, ifaces ...Interface) *Attacher {
	t.Helper()
	a, err := New(Config{Maps: maps, Interfaces: ifaces, Interval: 10 * time.Millisecond, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Detach() })
	return a
}

// until waits until f is true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after 10 s still not: %s", what)
		}
	}
}

// chain returns the program ids at a hook of an interface of ns.
func chain(t testing.TB, ns *netnstest.NS, iface string, at ebpf.AttachType) []ebpf.ProgramID {
	t.Helper()
	var ids []ebpf.ProgramID
	ns.Must(t, func() error {
		l, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		q, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
		if err != nil {
			return err
		}
		for _, p := range q.Programs {
			ids = append(ids, p.ID)
		}
		return nil
	})
	return ids
}

// foreign attaches a program of somebody else, which always says verdict.
func foreign(t testing.TB, ns *netnstest.NS, iface string, at ebpf.AttachType, anchor link.Anchor, verdict int32) (ebpf.ProgramID, link.Link) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
		License:      "MIT",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	var l link.Link
	ns.Must(t, func() error {
		dev, err := netlink.LinkByName(iface)
		if err != nil {
			return err
		}
		l, err = link.AttachTCX(link.TCXOptions{Interface: dev.Attrs().Index, Program: p, Attach: at, Anchor: anchor})
		return err
	})
	t.Cleanup(func() { l.Close() })
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	return id, l
}

// echo serves connections on l: each line comes back.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

// ask sends a line n times over one connection and waits for each to come back.
func ask(t testing.TB, c net.Conn, n int) {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(c)
	for range n {
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
}

// pair is a client and a server in namespaces of their own, joined by a router,
// which is the node.
type pair struct{ client, router, server *netnstest.NS }

func newPair(t testing.TB) pair {
	t.Helper()
	p := pair{netnstest.New(t), netnstest.New(t), netnstest.New(t)}
	netnstest.Veth(t, netnstest.End{NS: p.client, Name: "eth0", Addresses: []string{"10.1.0.2/24"}},
		netnstest.End{NS: p.router, Name: "cli0", Addresses: []string{"10.1.0.1/24"}})
	netnstest.Veth(t, netnstest.End{NS: p.server, Name: "eth0", Addresses: []string{"10.2.0.2/24"}},
		netnstest.End{NS: p.router, Name: "srv0", Addresses: []string{"10.2.0.1/24"}})
	for _, r := range []struct {
		ns *netnstest.NS
		gw string
	}{{p.client, "10.1.0.1"}, {p.server, "10.2.0.1"}} {
		r.ns.Must(t, func() error {
			return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(r.gw)})
		})
	}
	p.router.Must(t, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	return p
}

// seen sums the packets of the selected port that the taps saw, by direction.
func selected(t testing.TB, m *bpf.Maps) (wanted, other uint64) {
	t.Helper()
	c, err := m.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c.Selected(), c.Packets[bpf.OtherDirection]
}

// TestRoles attaches with each role to both interfaces of a router and counts
// what the taps saw of one conversation.
func TestRoles(t *testing.T) {
	p := newPair(t)
	go echo(p.server.Listen(t, "10.2.0.2:8080"))
	for _, c := range []struct {
		name   string
		iface  Interface
		ns     *netnstest.NS
		wanted bool // the conversation is seen, every packet of it once
	}{
		{"router's server side, no role", Interface{Name: "srv0"}, p.router, true},
		{"router's server side, any", Interface{Name: "srv0", Role: RoleAny}, p.router, true},
		{"router's server side, workload", Interface{Name: "srv0", Role: RoleWorkload}, p.router, true},
		{"router's server side, uplink", Interface{Name: "srv0", Role: RoleUplink}, p.router, false},
		{"router's client side, no role", Interface{Name: "cli0"}, p.router, true},
		{"router's client side, uplink", Interface{Name: "cli0", Role: RoleUplink}, p.router, true},
		{"router's client side, workload", Interface{Name: "cli0", Role: RoleWorkload}, p.router, false},
		{"inside the pod, uplink", Interface{Name: "eth0", Role: RoleUplink}, p.server, true},
		{"inside the pod, no role", Interface{Name: "eth0"}, p.server, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			maps := newMaps(t, 8080)
			c.iface.NetNS = c.ns.Path()
			a := newAttacher(t, maps, slog.New(slog.DiscardHandler), c.iface)
			if err := a.Attach(); err != nil {
				t.Fatal(err)
			}
			conn := p.client.Dial(t, "10.2.0.2:8080")
			ask(t, conn, 10)
			// 10 lines each way, and the handshake's three segments.
			wanted, other := selected(t, maps)
			got, miss := wanted, other
			if !c.wanted {
				got, miss = other, wanted
			}
			if got < 22 || miss != 0 {
				t.Errorf("%d packets selected, %d of the other direction", wanted, other)
			}
			// Two for each question and answer, a handshake, and at most an
			// acknowledgement for each: more would be seen twice.
			if got > 2*10*2+3 {
				t.Errorf("%d packets of a conversation of at most 43", got)
			}
		})
	}
}

func TestLoopback(t *testing.T) {
	ns := netnstest.New(t)
	maps := newMaps(t, 8080)
	a := newAttacher(t, maps, slog.New(slog.DiscardHandler), Interface{Name: "lo", NetNS: ns.Path()})
	if err := a.Attach(); err != nil {
		t.Fatal(err)
	}
	go echo(ns.Listen(t, "127.0.0.1:8080"))
	ask(t, ns.Dial(t, "127.0.0.1:8080"), 10)
	if n, other := selected(t, maps); n < 22 || n > 43 || other != 0 {
		t.Errorf("%d packets selected, %d of the other direction; want each once", n, other)
	}
	if s := a.Stats(); len(s.Taps) != 1 || s.Taps[0].Hook != "ingress" || s.Taps[0].Role != RoleLoopback || s.Taps[0].Direction != bpf.Both {
		t.Errorf("taps %+v", s.Taps)
	}
}

// TestNoLinkHeader: on devices whose packets begin with the IP header. A tun
// device may pass for another kind: what an interface says of itself is its type,
// and IP in IP is in few kernels.
func TestNoLinkHeader(t *testing.T) {
	for _, kind := range []struct {
		name   string
		arphrd int // include/uapi/linux/if_arp.h
	}{{"none", unix.ARPHRD_NONE}, {"ipip", unix.ARPHRD_TUNNEL}, {"tunnel6", unix.ARPHRD_TUNNEL6}, {"sit", unix.ARPHRD_SIT}} {
		t.Run(kind.name, func(t *testing.T) {
			ns := netnstest.New(t)
			maps := newMaps(t, 8080)
			tun := addTun(t, ns, kind.arphrd)
			ns.Must(t, func() error {
				l, err := netlink.LinkByName("tun0")
				if err == nil && l.Attrs().EncapType != kind.name {
					err = fmt.Errorf("the device is of type %s", l.Attrs().EncapType)
				}
				return err
			})
			a := newAttacher(t, maps, slog.New(slog.DiscardHandler), Interface{Name: "tun0", NetNS: ns.Path()})
			if err := a.Attach(); err != nil {
				t.Fatal(err)
			}
			// A SYN from 10.9.0.2:4000 to 10.9.0.1:8080. Nobody listens; the kernel
			// checks no checksum before the hook.
			syn := []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1,
				0x0f, 0xa0, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0}
			if _, err := tun.Write(syn); err != nil {
				t.Fatal(err)
			}
			until(t, "the SYN is seen", func() bool { n, _ := selected(t, maps); return n == 1 })
		})
	}
}

// addTun makes a tun device of a type with the address 10.9.0.1.
func addTun(t *testing.T, ns *netnstest.NS, arphrd int) *os.File {
	t.Helper()
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE, Queues: 1}
	ns.Must(t, func() error {
		if err := netlink.LinkAdd(tun); err != nil {
			return err
		}
		if err := unix.IoctlSetInt(int(tun.Fds[0].Fd()), unix.TUNSETLINK, arphrd); err != nil {
			return fmt.Errorf("TUNSETLINK: %w", err)
		}
		addr, err := netlink.ParseAddr("10.9.0.1/24")
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(tun, addr), netlink.LinkSetUp(tun))
	})
	t.Cleanup(func() { tun.Fds[0].Close() })
	return tun.Fds[0]
}

// TestTapIDs: every tap has an id of its own, and a namespace a domain of its
// own, whatever name it was given.
func TestTapIDs(t *testing.T) {
	p := newPair(t)
	maps := newMaps(t, 8080)
	own := netnstest.New(t)
	var got []string
	// As if the process lived in own.
	own.Must(t, func() error {
		a, err := New(Config{Maps: maps, Log: slog.New(slog.DiscardHandler), Interfaces: []Interface{
			{Name: "lo"},
			{Name: "srv0", NetNS: p.router.Path()},
			{Name: "cli0", Role: RoleUplink, NetNS: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.router.File().Fd())},
			{Name: "eth0", Role: RoleUplink, NetNS: p.server.Path()},
		}})
		if err != nil {
			return err
		}
		if err := a.Attach(); err != nil {
			return err
		}
		for _, s := range a.Stats().Taps {
			got = append(got, fmt.Sprintf("%d/%d %s %s %s %d", s.Tap, s.Domain, s.Interface, s.Hook, s.Role, s.Direction))
		}
		return a.Detach()
	})
	want := []string{
		"1/0 lo ingress loopback 3",
		"2/1 srv0 ingress any 3", "3/1 srv0 egress any 3",
		"4/1 cli0 ingress uplink 1", "5/1 cli0 egress uplink 2",
		"6/2 eth0 ingress uplink 1", "7/2 eth0 egress uplink 2",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("taps\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// The own namespace has domain 0 also when it is named.
	own.Must(t, func() error {
		a, err := New(Config{Maps: maps, Log: slog.New(slog.DiscardHandler), Interfaces: []Interface{{Name: "lo", NetNS: own.Path()}}})
		if err != nil {
			return err
		}
		defer a.Detach()
		if err := a.Attach(); err != nil {
			return err
		}
		if d := a.Stats().Taps[0].Domain; d != 0 {
			return fmt.Errorf("the own namespace has domain %d when it is named", d)
		}
		return nil
	})
}

// TestForeignPrograms: programs of others stay, in their order, before, while
// and after ours is there; and one that ends the chain hides nothing from ours.
func TestForeignPrograms(t *testing.T) {
	p := newPair(t)
	maps := newMaps(t, 8080)
	first, _ := foreign(t, p.router, "srv0", ebpf.AttachTCXEgress, nil, 0 /* TCX_PASS ends the chain */)
	last, _ := foreign(t, p.router, "srv0", ebpf.AttachTCXEgress, link.Tail(), -1)
	a := newAttacher(t, maps, slog.New(slog.DiscardHandler), Interface{Name: "srv0", Role: RoleWorkload, NetNS: p.router.Path()})
	if err := a.Attach(); err != nil {
		t.Fatal(err)
	}
	ours := ebpf.ProgramID(a.Stats().Taps[1].Program)
	if got, want := chain(t, p.router, "srv0", ebpf.AttachTCXEgress), []ebpf.ProgramID{ours, first, last}; !slices.Equal(got, want) {
		t.Errorf("chain %v, want %v", got, want)
	}
	go echo(p.server.Listen(t, "10.2.0.2:8080"))
	ask(t, p.client.Dial(t, "10.2.0.2:8080"), 1)
	if n, _ := selected(t, maps); n < 4 {
		t.Errorf("%d packets seen before a program that ends the chain", n)
	}
	if err := a.Detach(); err != nil {
		t.Fatal(err)
	}
	if got, want := chain(t, p.router, "srv0", ebpf.AttachTCXEgress), []ebpf.ProgramID{first, last}; !slices.Equal(got, want) {
		t.Errorf("chain after detach %v, want %v", got, want)
	}
	if got := chain(t, p.router, "srv0", ebpf.AttachTCXIngress); len(got) != 0 {
		t.Errorf("ingress chain after detach %v", got)
	}
	if err := a.Detach(); err != nil {
		t.Errorf("second detach: %v", err)
	}
	if err := a.Attach(); err != nil || !a.Stats().Ready || len(a.Stats().Taps) != 2 {
		t.Errorf("attach after detach: %v, %+v", err, a.Stats())
	}
}

// TestSweep takes off the taps of one owner that knows nothing of it, and
// nothing else. The test means its own taps only: others may run beside it.
func TestSweep(t *testing.T) {
	p := newPair(t)
	maps := newMaps(t, 8080)
	theirs, _ := foreign(t, p.router, "srv0", ebpf.AttachTCXEgress, nil, -1)
	owner := func(name string) Owner {
		return Owner{Instance: fmt.Sprintf("sweep-%d-%s", os.Getpid(), name), Lock: "/nowhere/lock of " + name}
	}
	attachers := map[string]*Attacher{}
	for name, iface := range map[string]string{"a": "srv0", "b": "cli0"} {
		a, err := New(Config{Maps: maps, Owner: owner(name), Log: slog.New(slog.DiscardHandler), Interfaces: []Interface{{Name: iface, NetNS: p.router.Path()}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Detach() })
		if err := a.Attach(); err != nil {
			t.Fatal(err)
		}
		attachers[name] = a
	}
	nameless := newAttacher(t, maps, slog.New(slog.DiscardHandler), Interface{Name: "eth0", NetNS: p.client.Path()})
	if err := nameless.Attach(); err != nil {
		t.Fatal(err)
	}
	count := func(owners []Owner, o Owner) (n int) {
		for _, x := range owners {
			if x == o {
				n++
			}
		}
		return n
	}
	meant := func(o Owner) bool { return o == owner("a") }
	s, err := Sweep(meant)
	if err != nil || !slices.Equal(s.Removed, []Owner{owner("a"), owner("a")}) {
		t.Errorf("removed %v, %v; want the 2 taps of srv0", s.Removed, err)
	}
	if count(s.Left, owner("b")) != 2 || count(s.Left, Owner{}) < 2 {
		t.Errorf("left %v, want the 2 of cli0 and 2 or more without a name", s.Left)
	}
	if got := chain(t, p.router, "srv0", ebpf.AttachTCXEgress); !slices.Equal(got, []ebpf.ProgramID{theirs}) {
		t.Errorf("chain %v, want %v alone", got, theirs)
	}
	if got := chain(t, p.router, "cli0", ebpf.AttachTCXEgress); len(got) != 1 {
		t.Errorf("chain %v of the interface that was not meant", got)
	}
	a := attachers["a"]
	a.check()
	if s := a.Stats(); s.Ready || s.Taps[0].State != Gone {
		t.Errorf("stats %+v after somebody removed the taps", s)
	}
	if s, err := Sweep(meant); len(s.Removed) != 0 || err != nil {
		t.Errorf("%v removed again, %v", s.Removed, err)
	}
	// The name comes back with the taps.
	if err := errors.Join(a.Detach(), a.Attach()); err != nil {
		t.Fatal(err)
	}
	if s, err := Sweep(meant); len(s.Removed) != 2 || err != nil {
		t.Errorf("%v removed after it was attached again, %v", s.Removed, err)
	}
}

// TestDisplaced: a program that comes before ours is noticed, counted and logged
// once; when it goes, ours is ready again. An interface that goes is noticed too.
func TestDisplaced(t *testing.T) {
	p := newPair(t)
	var log lines
	a := newAttacher(t, newMaps(t, 8080), log.logger(), Interface{Name: "srv0", NetNS: p.router.Path()})
	if a.Stats().Ready {
		t.Error("ready before Attach")
	}
	if err := a.Attach(); err != nil {
		t.Fatal(err)
	}
	if !a.Stats().Ready || log.count("tap attached") != 2 {
		t.Fatalf("stats %+v after Attach, log %s", a.Stats(), log.b.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()

	_, l := foreign(t, p.router, "srv0", ebpf.AttachTCXIngress, link.Head(), -1)
	until(t, "displaced", func() bool { return a.Stats().Taps[0].State == Displaced })
	if s := a.Stats(); s.Ready || s.Taps[0].Displaced != 1 || s.Taps[1].State != Attached {
		t.Errorf("stats %+v", s)
	}
	l.Close()
	until(t, "attached again", func() bool { return a.Stats().Ready })
	_, _ = foreign(t, p.router, "srv0", ebpf.AttachTCXIngress, link.Tail(), -1)
	_, l = foreign(t, p.router, "srv0", ebpf.AttachTCXIngress, link.Head(), -1)
	until(t, "displaced again", func() bool { return a.Stats().Taps[0].Displaced == 2 })
	p.router.Must(t, func() error {
		dev, err := netlink.LinkByName("srv0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(dev)
	})
	until(t, "gone", func() bool { s := a.Stats().Taps; return s[0].State == Gone && s[1].State == Gone })
	if s := a.Stats(); s.Ready || s.Taps[0].Displaced != 2 || s.Taps[1].Displaced != 1 {
		t.Errorf("stats %+v: from displaced to gone is no new displacement", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if n := log.count("not first in its chain any more"); n != 3 {
		t.Errorf("%d lines of displacement, want 3:\n%s", n, log.b.String())
	}
	if err := a.Detach(); err != nil {
		t.Errorf("detach from an interface that is gone: %v", err)
	}
	if s := a.Stats(); s.Ready || s.Taps[0].State != Detached {
		t.Errorf("stats after detach %+v", s)
	}
	l.Close()
}

func TestAttachErrors(t *testing.T) {
	p := newPair(t)
	maps := newMaps(t, 8080)
	for _, c := range []struct {
		name   string
		ifaces []Interface
		want   []string
	}{
		{"missing", []Interface{{Name: "srv0", NetNS: p.router.Path()}, {Name: "eth7", NetNS: p.router.Path()}},
			[]string{"attach eth7:", "no such interface", "lo", "cli0", "srv0"}},
		{"no namespace", []Interface{{Name: "srv0", NetNS: "/nowhere/ns"}}, []string{"attach srv0:", "/nowhere/ns"}},
		{"named namespace", []Interface{{Name: "srv0", NetNS: "shadowtap-none"}}, []string{"/run/netns/shadowtap-none"}},
		{"no namespace file", []Interface{{Name: "srv0", NetNS: "/dev/null"}}, []string{"attach srv0:", "enter network namespace /dev/null"}},
		{"role of loopback", []Interface{{Name: "lo", Role: RoleUplink, NetNS: p.router.Path()}}, []string{"attach lo:", "role uplink on the loopback device"}},
		{"loopback role", []Interface{{Name: "srv0", Role: RoleLoopback, NetNS: p.router.Path()}}, []string{"attach srv0:", "no loopback device"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAttacher(t, maps, slog.New(slog.DiscardHandler), c.ifaces...)
			err := a.Attach()
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
			if s := a.Stats(); s.Ready || len(s.Taps) != 0 {
				t.Errorf("stats %+v after an error", s)
			}
			for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
				if got := chain(t, p.router, "srv0", at); len(got) != 0 {
					t.Errorf("chain %v after an error", got)
				}
			}
		})
	}
	// A kernel that has no TCX.
	a := newAttacher(t, maps, slog.New(slog.DiscardHandler), Interface{Name: "srv0", NetNS: p.router.Path()})
	a.attachTCX = func(link.TCXOptions) (link.Link, error) {
		return nil, fmt.Errorf("tcx: %w", ebpf.ErrNotSupported)
	}
	err := a.Attach()
	if err == nil || !strings.Contains(err.Error(), "attach srv0 ingress: TCX needs kernel 6.6, this is ") {
		t.Errorf("error %v", err)
	}
	if err := a.Attach(); err == nil || strings.Contains(err.Error(), "already") {
		t.Errorf("a second try after an error: %v", err)
	}
}

func TestNewErrors(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	maps := &bpf.Maps{}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Log: log}, "Maps"},
		{Config{Maps: maps}, "Log"},
		{Config{Maps: maps, Log: log, Mode: "clsact"}, "Mode: clsact is not in this version"},
		{Config{Maps: maps, Log: log, Mode: "xdp"}, `Mode: "xdp"`},
		{Config{Maps: maps, Log: log, Interval: -1}, "Interval"},
		{Config{Maps: maps, Log: log, Interfaces: []Interface{{}}}, "name is empty"},
		{Config{Maps: maps, Log: log, Interfaces: []Interface{{Name: "a", Role: "pod"}}}, `role "pod" of a is none of any, loopback, uplink, workload`},
		{Config{Maps: maps, Log: log, Interfaces: []Interface{{Name: "a"}, {Name: "a", Role: RoleUplink}}}, "named twice"},
	} {
		_, err := New(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.cfg, err, c.want)
		}
	}
	if _, err := New(Config{Maps: maps, Log: log, Interfaces: []Interface{{Name: "a"}, {Name: "a", NetNS: "x"}}}); err != nil {
		t.Errorf("one name in two namespaces: %v", err)
	}
}

// TestNoInterfaces: nothing to attach to is not an error, and ready.
func TestNoInterfaces(t *testing.T) {
	a := newAttacher(t, newMaps(t, 80), slog.New(slog.DiscardHandler))
	if err := a.Attach(); err != nil {
		t.Fatal(err)
	}
	if !a.Stats().Ready {
		t.Error("not ready with no interfaces asked for")
	}
	if err := a.Attach(); err == nil {
		t.Error("attached twice")
	}
}

func TestLinkHeader(t *testing.T) {
	for encap, want := range map[string]int{"ether": 14, "loopback": 14, "none": 0, "ipip": 0, "sit": 0, "tunnel6": 0} {
		if n, err := linkHeader(encap); err != nil || n != want {
			t.Errorf("%s: %d, %v, want %d", encap, n, err, want)
		}
	}
	if _, err := linkHeader("infiniband"); err == nil || !strings.Contains(err.Error(), "link type infiniband is not supported") {
		t.Errorf("infiniband: %v", err)
	}
}

// child attaches to srv0 of the namespace in file descriptor 3, says so, and
// waits to be killed.
func child() {
	maps, err := bpf.NewMaps(bpf.MapsConfig{RingBytes: bpf.MinRingBytes})
	if err == nil {
		var a *Attacher
		a, err = New(Config{Maps: maps, Log: slog.New(slog.DiscardHandler), Interfaces: []Interface{{Name: "srv0", NetNS: "/proc/self/fd/3"}}})
		if err == nil {
			err = a.Attach()
		}
	}
	fmt.Println("attached:", err)
	io.Copy(io.Discard, os.Stdin) // ends also when the test dies
}

// TestKilled: after SIGKILL nothing is left at the hooks.
func TestKilled(t *testing.T) {
	p := newPair(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.ExtraFiles = []*os.File{p.router.File()}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "attached: <nil>\n" {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("child: %q, %v", line, err)
	}
	for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
		if got := chain(t, p.router, "srv0", at); len(got) != 1 {
			t.Errorf("chain %v while the child lives", got)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	until(t, "the chains are empty", func() bool {
		return len(chain(t, p.router, "srv0", ebpf.AttachTCXIngress))+len(chain(t, p.router, "srv0", ebpf.AttachTCXEgress)) == 0
	})
}
