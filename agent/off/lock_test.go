package off

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "instance", "lock")
	held := func(want bool) {
		t.Helper()
		if got, err := Held(path); err != nil || got != want {
			t.Errorf("held: %v, %v; want %v", got, err, want)
		}
	}
	held(false) // no file at all
	// What an earlier holder left there, with a longer number, is replaced.
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, path, "99999999999999\n")
	l, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	held(true)
	_, err = Acquire(path)
	if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("the second: %v", err)
	}
	held(true)
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	held(false)
	again, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
}

// TestLockEndsWithItsProcess takes the lock in another process and kills it.
func TestLockEndsWithItsProcess(t *testing.T) {
	if path := os.Getenv("SHADOWTAP_TEST_LOCK"); path != "" {
		l, err := Acquire(path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		fmt.Println("locked")
		// Until it is killed, or the test that started it is gone.
		io.Copy(io.Discard, os.Stdin)
		return
	}
	path := filepath.Join(t.TempDir(), "lock")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run", "^TestLockEndsWithItsProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "SHADOWTAP_TEST_LOCK="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var said strings.Builder
	for !strings.Contains(said.String(), "locked") {
		buf := make([]byte, 256)
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("%v: %s", err, &said)
		}
		said.Write(buf[:n])
	}
	_, err = Acquire(path)
	if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", cmd.Process.Pid)) {
		t.Errorf("while it runs: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	l, err := Acquire(path)
	if err != nil {
		t.Fatalf("after its end: %v", err)
	}
	l.Release()
}

// Asking whether a free lock is held must not keep an agent from starting.
func TestHeldDoesNotDisturbAcquire(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	put(t, path, "")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				Held(path)
			}
		}
	})
	for range 200 {
		l, err := Acquire(path)
		if err != nil {
			t.Error(err)
			break
		}
		l.Release()
	}
	close(stop)
	wg.Wait()
}

func TestAcquireWhereItCant(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "")
	for _, path := range []string{dir, filepath.Join(dir, "file", "lock")} {
		if _, err := Acquire(path); err == nil || errors.Is(err, ErrHeld) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
