package bpf

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Control is the words of one ring that its reader and the program share. It
// is memory of the kernel's map: no call costs a system call. Methods may be
// called from several goroutines.
type Control struct {
	memory *mapping // keeps words valid
	words  *controlWords
}

// controlWords is struct tap_control of tap.h.
type controlWords struct {
	Beat     atomic.Uint64
	Wake     atomic.Uint32
	HoleOpen atomic.Uint32
	_        [6]uint64
	Lost     atomic.Uint64
	_        [7]uint64
}

const (
	wakeNever = iota
	wakeMark
	wakeFirst
)

// Beat says that the ring's reader is alive at now, a time of [Now]. Without
// a beat, or with one older than 1 s, nothing is copied: see NoReader. The
// reader beats at least each 250 ms. Beat(0) stops copying at once.
func (c *Control) Beat(now int64) { c.words.Beat.Store(uint64(now)) }

// SetSleeping says what the reader is to be woken for, once: with true the
// next record, with false a ring that is filled to a quarter. It is called
// before each wait, and before the last look into the ring. After a wake-up the
// program wakes nobody until the next call.
func (c *Control) SetSleeping(yes bool) {
	if yes {
		c.words.Wake.Store(wakeFirst)
	} else {
		c.words.Wake.Store(wakeMark)
	}
}

// SetAwake says that the reader need not be woken at all: it reads, and will
// call SetSleeping before it waits.
func (c *Control) SetAwake() { c.words.Wake.Store(wakeNever) }

// SetHoleOpen says whether the ring's acknowledgements without payload are
// wanted too, because they decide about a hole. They are counted NoPayload
// otherwise.
func (c *Control) SetHoleOpen(yes bool) {
	if yes {
		c.words.HoleOpen.Store(1)
	} else {
		c.words.HoleOpen.Store(0)
	}
}

// Lost is how many selected segments with payload, SYN, FIN or RST the ring
// could not take so far, for whatever reason: RingFull, CopyFailed, NoReader or
// OverBudget.
func (c *Control) Lost() uint64 { return c.words.Lost.Load() }

// Now is the tap's clock in nanoseconds: CLOCK_MONOTONIC, which stands still
// while the machine is suspended.
func Now() int64 {
	const monotonic = 1
	var ts syscall.Timespec
	if _, _, e := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&ts)), 0); e != 0 {
		// clock_gettime(2) has no error for this clock and a valid pointer.
		panic("clock_gettime: " + e.Error())
	}
	return ts.Nano()
}

// mapping is the memory of a map. It is unmapped when nothing refers to it any
// more, so that a late Beat never faults.
type mapping struct{ bytes []byte }

func mapMemory(m *ebpf.Map, size int) (*mapping, error) {
	b, err := syscall.Mmap(m.FD(), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the memory of %s: %w (needs kernel 5.5)", m, err)
	}
	p := &mapping{bytes: b}
	runtime.AddCleanup(p, func(b []byte) {
		// The only error is a range that is not mapped.
		_ = syscall.Munmap(b)
	}, b)
	return p, nil
}
