package capture

import (
	"math"
	"time"

	"github.com/shadowtap/shadowtap/bpf"
)

// clock converts the tap's time, which counts from boot, to the time of day. It
// belongs to one goroutine.
type clock struct {
	// base and mono are the same moment, by the runtime's clock, which needs no
	// system call, and by the tap's. Both are CLOCK_MONOTONIC, so they never
	// part.
	base time.Time
	mono int64
	// offset is to be added to the tap's time, in ns.
	offset   int64
	measured int64 // when, by the tap's clock
}

const (
	// measureEvery is how often the offset is measured anew, as the time of day
	// is corrected while the tap's clock goes on, in ns.
	measureEvery = int64(time.Second)
	// measureGood is a measurement that need not be repeated, in ns.
	measureGood = int64(2 * time.Microsecond)
)

func newClock() clock {
	var c clock
	best := int64(math.MaxInt64)
	for range 5 {
		a := bpf.Now()
		t := time.Now()
		if d := bpf.Now() - a; d < best {
			best, c.base, c.mono = d, t, a+d/2
		}
	}
	c.measure()
	return c
}

// now is the tap's time.
func (c *clock) now() int64 { return c.mono + int64(time.Since(c.base)) }

// measure sets the offset.
func (c *clock) measure() {
	best := int64(math.MaxInt64)
	for range 3 {
		a := c.now()
		wall := time.Now().UnixNano()
		d := c.now() - a
		if d < best {
			best = d
			c.measured = a + d/2
			c.offset = wall - c.measured
		}
		if d < measureGood {
			return
		}
	}
}

// keep measures again when it is time.
func (c *clock) keep(now int64) {
	if now-c.measured >= measureEvery {
		c.measure()
	}
}

// when converts a time of the tap for the runtime's timers.
func (c *clock) when(t int64) time.Time { return c.base.Add(time.Duration(t - c.mono)) }

// epoch converts a time of the tap to ns since the Unix epoch.
func (c *clock) epoch(t int64) int64 { return t + c.offset }
