//go:build e2e

package bed

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNamespacesReachEachOtherByAVethPair(t *testing.T) {
	a, b := NewNamespace(t, "a"), NewNamespace(t, "b")
	Join(t,
		Link{Namespace: a, Name: "eth0", Addresses: []string{"10.99.0.1/24", "fd99::1/64"}, Gateways: []string{"10.99.0.2", "fd99::2"}},
		Link{Namespace: b, Name: "eth0", Addresses: []string{"10.99.0.2/24", "fd99::2/64"}},
	)
	for _, address := range []string{"10.99.0.2:80", "[fd99::2]:80"} {
		l := b.Listen(t, "tcp", address)
		go func() {
			if conn, err := l.Accept(); err == nil {
				io.WriteString(conn, "hello")
				conn.Close()
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		conn, err := a.DialContext(ctx, "tcp", address)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != "hello" {
			t.Errorf("%s: read %q, %v", address, got, err)
		}
		conn.Close()
		l.Close()
	}
	// What a test does stays in its namespaces.
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if strings.HasPrefix(address.String(), "10.99.0.") {
			t.Errorf("the address %v of a namespace is outside of it", address)
		}
	}
}

func TestNamespaceIsGoneWhenItIsClosed(t *testing.T) {
	var inode uint64
	var pid int
	t.Run("inside", func(t *testing.T) {
		n := NewNamespace(t, "gone")
		var err error
		if inode, err = n.Inode(); err != nil {
			t.Fatal(err)
		}
		pid = n.Start(t, Command{Path: "sleep", Args: []string{"600"}}).Pid
		if got := inodeOf(t, pid); got != inode {
			t.Errorf("the process runs in namespace %d, want %d", got, inode)
		}
	})
	if err := syscall.Kill(pid, 0); err == nil {
		t.Error("the process outlived its test")
	}
}

func inodeOf(t *testing.T, pid int) uint64 {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	var inode uint64
	if _, err := fmt.Sscanf(link, "net:[%d]", &inode); err != nil {
		t.Fatal(err)
	}
	return inode
}

func TestProcess(t *testing.T) {
	RequireRoot(t)
	var none *Namespace
	p := none.Start(t, Command{Path: "sh", Args: []string{"-c", "echo out; echo err >&2; exit 3"}})
	if code := p.Wait(t, 5*time.Second); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if out, errs := p.Output(); out != "out\n" || errs != "err\n" {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}

	p = none.Start(t, Command{Path: "sleep", Args: []string{"600"}})
	if n, err := p.Memory(); err != nil || n <= 0 {
		t.Errorf("memory %d, %v", n, err)
	}
	p.Suspend(t)
	p.Resume(t)
	p.Suspend(t)
	p.Stop(t)
	if !p.Ended() {
		t.Error("a stopped process did not end")
	}
}

// recorder stands for a test that is expected to fail.
type recorder struct {
	testing.TB
	failed   []string
	cleanups []func()
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Helper()          {}

func TestProcessThatFailsIsAFailure(t *testing.T) {
	RequireRoot(t)
	var none *Namespace
	for _, c := range []struct {
		script string
		before func(*Process)
		want   string
	}{
		{"echo reason >&2; exit 3", func(p *Process) { <-p.done }, "ended by itself: exit status 3"},
		{"trap '' TERM; echo ready; while :; do read x <&2; done", waitOutput(t), "did not end within"},
	} {
		r := &recorder{TB: t}
		p := none.Start(r, Command{Path: "sh", Args: []string{"-c", c.script}, StopTimeout: 300 * time.Millisecond})
		c.before(p)
		for _, f := range r.cleanups {
			f()
		}
		if len(r.failed) != 1 || !strings.Contains(r.failed[0], c.want) {
			t.Errorf("%q: failures %q, want one with %q", c.script, r.failed, c.want)
		}
		if !p.Ended() {
			t.Errorf("%q is still there", c.script)
		}
	}
}

func waitOutput(t *testing.T) func(*Process) {
	return func(p *Process) {
		Poll(t, 5*time.Second, "the script's first line", func() (bool, string) {
			out, _ := p.Output()
			return out != "", out
		})
	}
}
