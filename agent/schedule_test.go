package agent

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNeverPreempt runs in a process of its own, whose threads are of the
// ordinary policy and of another nice value than 0.
func TestNeverPreempt(t *testing.T) {
	const inside = "SHADOWTAP_TEST_SCHEDULE"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("nice", "-n", "19", os.Args[0], "-test.run", "^TestNeverPreempt$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	nice := func() int32 {
		a, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return a.Nice
	}
	runtime.LockOSThread()
	before := nice()
	// Threads that are there, one that is of another policy, and threads to come.
	other, end := make(chan int), make(chan struct{})
	var threads sync.WaitGroup
	defer threads.Wait()
	defer close(end)
	threads.Go(func() {
		runtime.LockOSThread()
		if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0); err != nil {
			t.Error(err)
		}
		other <- unix.Gettid()
		<-end
	})
	idle := <-other
	start := func() {
		for range 8 {
			threads.Go(func() {
				runtime.LockOSThread()
				other <- unix.Gettid()
				<-end
			})
			<-other
		}
	}
	start()
	if err := neverPreempt(); err != nil {
		t.Fatal(err)
	}
	start()

	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 17 {
		t.Fatalf("%d threads", len(list))
	}
	for _, e := range list {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		a, err := unix.SchedGetAttr(id, 0)
		switch {
		case err != nil:
			t.Error(err)
		case id == idle && a.Policy != unix.SCHED_IDLE:
			t.Errorf("the idle thread's policy is %d now", a.Policy)
		case id != idle && a.Policy != unix.SCHED_BATCH:
			t.Errorf("thread %d of %d has policy %d, want %d", id, len(list), a.Policy, unix.SCHED_BATCH)
		}
	}
	if n := nice(); n != before || n == 0 {
		t.Errorf("nice value %d, was %d", n, before)
	}
}
