//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// program is the built binary.
var program string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	sweep()
	dir, err := os.MkdirTemp("", "shadowtap-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "shadowtap")
	build := exec.Command("go", "build", "-o", program, "github.com/shadowtap/shadowtap/cmd/shadowtap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	// The tests are over: nothing that they started may still run.
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "left behind:", err)
		return 1
	}
	return code
}

// instancePrefix begins the instance names of these tests; the process id and a
// number follow.
const instancePrefix = "e2e-"

// sweep removes the run folders of earlier test processes that were killed.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(admin.Root, instancePrefix+"*"))
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), instancePrefix), "-")
		n, err := strconv.Atoi(pid)
		if err != nil || n == os.Getpid() {
			continue
		}
		if err := syscall.Kill(n, 0); err == syscall.ESRCH {
			os.RemoveAll(dir)
		}
	}
}
