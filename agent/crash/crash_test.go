package crash_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/agent/crash"
)

const (
	captured = "Tr0ub4dor-captured"
	caseEnv  = "SHADOWTAP_TEST_CRASH"
)

type message struct{ text string }

// crashes are ways to die, each in a process of its own.
var crashes = map[string]struct {
	die  func()
	want string
}{
	"text":    {func() { panic("cannot parse " + captured) }, "panic: a text of 31 bytes"},
	"error":   {func() { panic(fmt.Errorf("line %q: %w", captured, errors.ErrUnsupported)) }, "panic: *fmt.wrapError, whose text"},
	"value":   {func() { panic(message{captured}) }, "panic: crash_test.message, which may"},
	"runtime": {func() { _ = []byte(captured)[len(os.Args)+100] }, "panic: runtime error: index out of range [10"},
	"nil":     {func() { var m *message; m.text = captured }, "panic: runtime error: invalid memory address or nil pointer dereference"},
	// A panic while another is under way.
	"twice": {func() { defer func() { panic("then " + captured) }(); panic(captured) }, "panic: a text of 23 bytes"},
}

func TestMain(m *testing.M) {
	if c, ok := crashes[os.Getenv(caseEnv)]; ok {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer crash.Guard()
			c.die()
		}()
		<-ended
		os.Exit(3)
	}
	if os.Getenv(caseEnv) == "dumps" {
		err := crash.NoDumps()
		var core unix.Rlimit
		err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_CORE, &core))
		dumpable, err2 := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		fmt.Println(core.Cur, core.Max, dumpable, errors.Join(err, err2))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func again(t *testing.T, what string) (out string, code int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), caseEnv+"="+what, "GOTRACEBACK=all")
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// TestGuard: a panic ends the process with its exit code, says where, and shows
// nothing of its value.
func TestGuard(t *testing.T) {
	for name, c := range crashes {
		out, code := again(t, name)
		if code != 2 {
			t.Errorf("%s: exit code %d, want 2", name, code)
		}
		if !strings.HasPrefix(out, c.want) {
			t.Errorf("%s: got\n%s\nwant it to begin with %q", name, out, c.want)
		}
		if strings.Contains(out, captured) || strings.Contains(out, "dor-cap") {
			t.Errorf("%s: the captured bytes are in\n%s", name, out)
		}
		if !strings.Contains(out, "crash_test.go:") || strings.Contains(out, "(0x") {
			t.Errorf("%s: no places, or arguments, in\n%s", name, out)
		}
	}
}

func TestNoDumps(t *testing.T) {
	if out, _ := again(t, "dumps"); out != "0 0 0 <nil>\n" {
		t.Errorf("soft limit, hard limit, dumpable, error: %q, want 0 0 0 <nil>", out)
	}
}
