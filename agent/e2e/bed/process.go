package bed

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// Command says what to start.
type Command struct {
	// Path is a name to look up or a file.
	Path string
	Args []string
	// Env is added to the test's own environment.
	Env []string
	// Dir is the working folder; empty means the test's.
	Dir string
	// StopSignal ends the process at the end of the test. Zero means SIGTERM.
	StopSignal os.Signal
	// StopTimeout is how long it may take to end; then it is killed and the
	// test fails. Zero means 20 s.
	StopTimeout time.Duration
}

// Process is a started command. Its output goes to files, so that no reader
// can hold it up.
type Process struct {
	Pid int
	// Stdout and Stderr are the files that it writes to.
	Stdout, Stderr string

	command Command
	name    string
	process *os.Process
	done    chan struct{}
	state   *os.ProcessState // valid after done
	stopped bool             // a test ended it on purpose
}

// Start starts a process in the namespace. At the end of the test it is
// stopped; when it ended before by itself with an error, the test fails and
// shows what it said.
func (n *Namespace) Start(t T, c Command) *Process {
	t.Helper()
	dir := t.TempDir()
	p := &Process{
		Stdout:  filepath.Join(dir, "stdout"),
		Stderr:  filepath.Join(dir, "stderr"),
		command: c,
		name:    filepath.Base(c.Path),
		done:    make(chan struct{}),
	}
	path, err := LookPath(c.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), c.Env...)
	// A process group of its own: a Ctrl-C is the test's to handle.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	for _, out := range []struct {
		name string
		to   *io.Writer
	}{{p.Stdout, &cmd.Stdout}, {p.Stderr, &cmd.Stderr}} {
		f, err := os.OpenFile(out.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		*out.to = f
	}

	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the *thread* that started the
		// process ends, so this one stays until the process is gone.
		runtime.LockOSThread()
		if n != nil {
			if err := netns.Set(n.handle); err != nil {
				started <- err
				return
			}
		}
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		cmd.Wait() // the state tells
		p.state = cmd.ProcessState
		close(p.done)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	p.process, p.Pid = cmd.Process, cmd.Process.Pid
	t.Cleanup(func() { p.cleanup(t) })
	return p
}

// LookPath finds a program by its name, daemons also where only root's PATH has them.
func LookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if file := filepath.Join(dir, name); !strings.Contains(name, "/") && executable(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("%w: testdata/deps.sh root installs it", err)
}

func executable(file string) bool {
	st, err := os.Stat(file)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

func (p *Process) cleanup(t T) {
	if p.Ended() {
		if !p.stopped && !p.state.Success() {
			t.Errorf("%s ended by itself: %v\n%s", p.name, p.state, p.Tail())
		}
		return
	}
	p.Stop(t)
}

// Signal sends a signal.
func (p *Process) Signal(t T, s os.Signal) {
	t.Helper()
	if err := p.process.Signal(s); err != nil {
		t.Fatalf("send %v to %s: %v", s, p.name, err)
	}
}

// Suspend stops the process as a debugger would, and returns when all of it
// stands still.
func (p *Process) Suspend(t T) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	Poll(t, 10*time.Second, p.name+" stands still", func() (bool, string) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		if err != nil || len(tasks) == 0 {
			return false, "no tasks"
		}
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if err != nil {
				return false, err.Error()
			}
			// The state stands behind the name in parentheses.
			_, state, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
			if !strings.HasPrefix(state, "T") {
				return false, "a task is in state " + state[:1]
			}
		}
		return true, ""
	})
}

// Resume ends a Suspend.
func (p *Process) Resume(t T) {
	t.Helper()
	p.Signal(t, syscall.SIGCONT)
}

// Stop asks the process to end and waits for it. It fails the test when the
// process has to be killed or does not end with code 0.
func (p *Process) Stop(t T) {
	t.Helper()
	p.stopped = true
	signal := p.command.StopSignal
	if signal == nil {
		signal = syscall.SIGTERM
	}
	timeout := p.command.StopTimeout
	if timeout == 0 {
		timeout = 20 * time.Second
	}
	if p.Ended() {
		return
	}
	p.process.Signal(signal)
	p.process.Signal(syscall.SIGCONT)
	if !p.wait(timeout) {
		p.Kill()
		t.Errorf("%s did not end within %v of %v\n%s", p.name, timeout, signal, p.Tail())
		return
	}
	// A program that leaves a signal to the kernel did end by it.
	ws, ok := p.state.Sys().(syscall.WaitStatus)
	if byOurs := ok && ws.Signaled() && ws.Signal() == signal; !byOurs && !p.state.Success() && p.state.ExitCode() != 128+int(signal.(syscall.Signal)) {
		t.Errorf("%s ended with %v\n%s", p.name, p.state, p.Tail())
	}
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() {
	p.stopped = true
	p.process.Kill()
	<-p.done
}

// Wait waits for the process to end by itself and returns its exit code. The
// test fails at the deadline.
func (p *Process) Wait(t T, timeout time.Duration) int {
	t.Helper()
	if !p.wait(timeout) {
		t.Fatalf("%s did not end within %v\n%s", p.name, timeout, p.Tail())
	}
	p.stopped = true
	return p.state.ExitCode()
}

func (p *Process) wait(timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// Ended says whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Output returns everything that the process wrote so far.
func (p *Process) Output() (stdout, stderr string) {
	out, _ := os.ReadFile(p.Stdout)
	errs, _ := os.ReadFile(p.Stderr)
	return string(out), string(errs)
}

// Tail is the end of what the process wrote, for messages.
func (p *Process) Tail() string {
	stdout, stderr := p.Output()
	const most = 4000
	cut := func(s string) string { return s[max(0, len(s)-most):] }
	return fmt.Sprintf("--- stdout of %s\n%s\n--- stderr\n%s", p.name, cut(stdout), cut(stderr))
}

// Memory is what the process occupies, in bytes: its proportional set size. A
// ring buffer is mapped twice in a row, and the resident set counts it twice.
func (p *Process) Memory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "Pss:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		return kib * 1024, err
	}
	return 0, fmt.Errorf("process %d has no Pss", p.Pid)
}

// Run runs a command in the namespace to its end and returns its output. The
// test fails when it does not end with code 0 in time.
func (n *Namespace) Run(t T, timeout time.Duration, name string, args ...string) string {
	t.Helper()
	out, err := n.Try(timeout, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run without failing the test: the output is that of stdout, or with
// an error both.
func (n *Namespace) Try(timeout time.Duration, name string, args ...string) (string, error) {
	path, err := LookPath(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var stdout, stderr strings.Builder
	err = n.Do(func() error {
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.WaitDelay = time.Second
		return cmd.Run()
	})
	if err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// Poll calls f every 20 ms until it says true. The test fails at the deadline
// with what f said last.
func Poll(t T, timeout time.Duration, what string, f func() (done bool, state string)) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		done, state := f()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %v; last: %s", what, timeout, state)
		}
	}
}
