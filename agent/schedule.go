package agent

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// neverPreempt makes SCHED_BATCH the policy of all threads of this process, also
// of those to come, which inherit it. Such a thread has the same share of a core
// as before, but takes none away when it wakes up (sched(7)): it waits until the
// core is free, or for its turn. So the agent never interrupts the service that
// it watches in the middle of an answer. Threads to which somebody gave another
// policy keep it. No privilege is needed.
func neverPreempt() error {
	done := map[int]bool{}
	for again := true; again; {
		again = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("list own threads: %w", err)
		}
		for _, t := range threads {
			id, err := strconv.Atoi(t.Name())
			if err != nil || done[id] {
				continue
			}
			// A thread that was not there before may have come from one that
			// had not been asked yet.
			done[id], again = true, true
			if err := batch(id); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("set the policy of thread %d: %w", id, err)
			}
		}
	}
	return nil
}

// batch changes one thread from the ordinary policy to SCHED_BATCH, and leaves
// its nice value.
func batch(thread int) error {
	attr, err := unix.SchedGetAttr(thread, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return err
	}
	return unix.SchedSetAttr(thread, &unix.SchedAttr{
		Policy: unix.SCHED_BATCH, Nice: attr.Nice, Flags: attr.Flags & unix.SCHED_FLAG_RESET_ON_FORK,
	}, 0)
}
