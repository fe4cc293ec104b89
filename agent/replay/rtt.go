package replay

import (
	"math"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rttEvery is how often a connection's round trip is asked for: as often as
// windows are made of it. It changes slowly, the kernel keeps the smallest of
// the last 5 minutes (tcp_min_rtt_wlen), and each answer needs one.
const rttEvery = 10 * time.Second

// roundTrip gives the smallest round trip of a connection that carried a
// request, 0 when it is not known. It is called before a request is sent, so
// that it takes nothing of the measured time, and never for a new connection,
// whose only round trip is that of connecting.
func (c *conn) roundTrip(now time.Time) time.Duration {
	if c.raw == nil || !c.rttAsked.IsZero() && now.Sub(c.rttAsked) < rttEvery {
		return c.rtt
	}
	c.rtt, c.rttAsked = 0, now
	// The connection may have been closed; then it is not known.
	_ = c.raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO); err == nil {
			c.rtt = knownRTT(info.Min_rtt)
		}
	})
	return c.rtt
}

// knownRTT reads tcpi_min_rtt: microseconds, all ones when nothing was measured
// yet (tcp_min_rtt in the kernel's include/net/tcp.h), and 0 where the kernel
// is older than the field.
func knownRTT(us uint32) time.Duration {
	if us == math.MaxUint32 {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}
