package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the processor time that the threads of a process have used, those
// that have ended too, in user space and in the kernel. Its resolution is that
// of the scheduler, nanoseconds; /proc/PID/stat has ticks of 10 ms.
//
// Every program that is measured here is one process without children.
func cpuTime(pid int) (time.Duration, error) {
	// A clock of a process: include/linux/posix-timers_types.h of the kernel,
	// CPUCLOCK_SCHED.
	const sched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// resetPeak begins a new measurement of a process's peak memory.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// peak is the largest resident set since resetPeak, in bytes. What is mapped
// twice, as a ring buffer is, counts twice.
func peak(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmHWM", pid)
}

// packetSockets is how many packet sockets the network namespace of a process
// has: a program that captures by one has begun.
func packetSockets(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", pid))
	return max(0, strings.Count(string(text), "\n")-1), err // a line is the title
}

// setAutogroup gives the processes of this session their weight against other
// sessions, where the kernel groups by session: niceness counts only within
// one. It returns the value of before.
func setAutogroup(nice int) (before int, err error) {
	const file = "/proc/self/autogroup"
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	// "/autogroup-12 nice 0"
	_, value, _ := strings.Cut(strings.TrimSpace(string(text)), " nice ")
	if before, err = strconv.Atoi(value); err != nil {
		return 0, fmt.Errorf("%s: %q: %w", file, text, err)
	}
	return before, os.WriteFile(file, []byte(strconv.Itoa(nice)), 0)
}

// machine names what was measured on.
func machine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	release := "?"
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release = strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%s, %d cores, Linux %s", model, len(cores()), release)
}

// cores are those that this process may run on.
func cores() (list []int) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return []int{0}
	}
	for n := 0; len(list) < set.Count(); n++ {
		if set.IsSet(n) {
			list = append(list, n)
		}
	}
	return list
}
