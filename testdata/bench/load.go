package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// load is what the load generator is told, as JSON in its only argument.
type load struct {
	Address netip.AddrPort
	// Path is the target of every request; "?id=PREFIX-NUMBER" follows.
	Path, Prefix string
	// Length is that of every answer's body, in bytes.
	Length int
	// Connections are opened first and kept.
	Connections int
	// Rate is requests per second. Zero is a closed loop: each connection sends
	// when its answer is there.
	Rate float64
	// Warmup comes before Duration, under the same load; latencies and
	// throughput are of Duration only.
	Warmup, Duration time.Duration
}

// played is what became of a load.
type played struct {
	// Sent requests: right, wrong and reset of them, with the warm-up.
	Sent int
	// Right answers have status, length and id as expected.
	Right int
	// Wrong answers are complete and not right.
	Wrong int
	// Reset requests got no whole answer: the connection ended, or the drain's
	// time was over.
	Reset int
	// PerSecond is right answers within Duration.
	PerSecond float64
	// P50 and P99 of the latency, which counts from when the request was due.
	P50, P99 time.Duration
}

// answered is how many requests were answered, rightly or not.
func (p played) answered() int { return p.Right + p.Wrong }

// drain is how long the load waits for what was begun, when its time is over.
const drain = 5 * time.Second

// connection is one keep-alive connection with one request on its way.
type connection struct {
	fd   int
	busy bool
	// due is when the next request is to be sent, or when the one on its way
	// was; since the load's start.
	due    time.Duration
	number int64
	// head is what is there of the answer's head; nil when it is complete.
	head []byte
	// missing is how much of the body is still to come.
	missing int
	right   bool
}

// generator plays a load on one thread: a generator that costs little leaves
// the machine to what is measured. Goroutines and timers of the runtime would
// round the due times to milliseconds.
type generator struct {
	load
	epoll       int
	connections []connection
	began       time.Time
	next        int64
	request     []byte
	buffer      []byte
	latencies   []time.Duration
	result      played
	inWindow    int
}

// runLoad is the program's other face: the load generator, as a process of its
// own in the client's namespace. Its result goes to out as JSON.
func runLoad(text string, out io.Writer) error {
	g := generator{buffer: make([]byte, 256<<10)}
	if err := json.Unmarshal([]byte(text), &g.load); err != nil {
		return fmt.Errorf("read the load: %w", err)
	}
	// All it keeps is latencies, and a collection in between would be a latency.
	debug.SetGCPercent(-1)
	// The thread is pinned to one core: without a second processor, the runtime
	// would take it away in every system call.
	runtime.GOMAXPROCS(2)
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0); err != nil {
		return fmt.Errorf("set the timer slack: %w", err)
	}
	if err := g.play(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(g.result)
}

func (g *generator) play() (err error) {
	if g.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("make an epoll: %w", err)
	}
	defer unix.Close(g.epoll)
	g.connections = make([]connection, g.Connections)
	for i := range g.connections {
		if err := g.dial(i); err != nil {
			return err
		}
		defer func() { unix.Close(g.connections[i].fd) }()
	}
	g.began = time.Now()
	step := g.step()
	for i := range g.connections {
		g.connections[i].due = step * time.Duration(i) / time.Duration(g.Connections)
	}
	end := g.Warmup + g.Duration
	events := make([]unix.EpollEvent, g.Connections)
	for {
		now := time.Since(g.began)
		wake, open := end, 0
		if now >= end {
			wake = end + drain
		}
		for i := range g.connections {
			switch c := &g.connections[i]; {
			case c.busy:
				open++
			case now >= end:
			case c.due <= now:
				g.send(c, now)
				open++
			default:
				wake = min(wake, c.due)
			}
		}
		if now >= end && (open == 0 || now >= wake) {
			g.finish(open)
			return nil
		}
		n, err := wait(g.epoll, events, wake-time.Since(g.began))
		if err != nil {
			return fmt.Errorf("wait for answers: %w", err)
		}
		for _, e := range events[:n] {
			if err := g.receive(int(e.Fd)); err != nil {
				return err
			}
		}
	}
}

// step is the time between two requests of one connection; zero in a closed
// loop.
func (g *generator) step() time.Duration {
	if g.Rate == 0 {
		return 0
	}
	return time.Duration(float64(g.Connections) / g.Rate * float64(time.Second))
}

// wait is epoll_pwait2, whose timeout is in nanoseconds.
func wait(epoll int, events []unix.EpollEvent, timeout time.Duration) (int, error) {
	ts := unix.NsecToTimespec(int64(max(0, timeout)))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR: // the runtime's own signals
		return 0, nil
	}
	return 0, errno
}

func (g *generator) dial(i int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(g.Address.Port()), Addr: g.Address.Addr().As4()})
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("connect to %v: %w", g.Address, err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetNonblock(fd, true),
		// The event carries the connection's number in place of its descriptor.
		unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}))
	g.connections[i] = connection{fd: fd, due: g.connections[i].due, head: g.connections[i].head}
	return err
}

func (g *generator) send(c *connection, now time.Duration) {
	r := append(g.request[:0], "GET "...)
	r = append(r, g.Path...)
	r = append(r, "?id="...)
	r = append(r, g.Prefix...)
	r = append(r, '-')
	r = strconv.AppendInt(r, g.next, 10)
	r = append(r, " HTTP/1.1\r\nHost: reference.test\r\nUser-Agent: load\r\nAccept: application/json\r\n\r\n"...)
	g.request = r
	if c.head == nil {
		c.head = make([]byte, 0, 4096)
	}
	c.busy, c.number, c.head, c.missing, c.right = true, g.next, c.head[:0], -1, false
	if g.Rate == 0 {
		c.due = now
	}
	g.next++
	g.result.Sent++
	// A request that does not go out whole has no answer, which will be noticed.
	unix.Write(c.fd, r)
}

func (g *generator) receive(i int) error {
	c := &g.connections[i]
	n, err := unix.Read(c.fd, g.buffer)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil || n == 0:
		if c.busy {
			g.result.Reset++
			c.due += g.step()
		}
		unix.Close(c.fd)
		return g.dial(i)
	case !c.busy:
		// Bytes that nobody asked for belong to an answer that had ended.
		g.result.Right--
		g.result.Wrong++
		return nil
	}
	body := g.buffer[:n]
	if c.missing < 0 {
		before := len(c.head)
		c.head = append(c.head, body...)
		end := bytes.Index(c.head, []byte("\r\n\r\n"))
		if end < 0 {
			return nil
		}
		length := 0
		if length, c.right = checkHead(c.head[:end+2], g.Length, g.Prefix, c.number); length < 0 {
			return fmt.Errorf("an answer without a length:\n%s", c.head[:end])
		}
		body = body[end+4-before:]
		c.missing = length
	}
	c.missing -= len(body)
	if c.missing > 0 {
		return nil
	}
	c.right = c.right && c.missing == 0
	g.done(c, time.Since(g.began))
	return nil
}

func (g *generator) done(c *connection, now time.Duration) {
	if c.right {
		g.result.Right++
	} else {
		g.result.Wrong++
	}
	if now >= g.Warmup && now < g.Warmup+g.Duration && c.right {
		g.inWindow++
	}
	if c.due >= g.Warmup {
		g.latencies = append(g.latencies, now-c.due)
	}
	c.busy = false
	c.due += g.step()
}

func (g *generator) finish(open int) {
	g.result.Reset += open
	g.result.PerSecond = float64(g.inWindow) / g.Duration.Seconds()
	slices.Sort(g.latencies)
	g.result.P50, g.result.P99 = quantile(g.latencies, .5), quantile(g.latencies, .99)
}

// quantile of sorted values by nearest rank, 0 < q <= 1; zero of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// checkHead looks at an answer's head, which is given up to the end of its last
// field line. The length is that of the body, -1 when the head does not say it.
// right says whether it is a 200 of the length that is wanted to the request
// with that prefix and number.
func checkHead(head []byte, want int, prefix string, number int64) (length int, right bool) {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	right = bytes.HasPrefix(line, []byte("HTTP/1.1 200 "))
	length = -1
	id := false
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			// RFC 9110, 8.6: digits only.
			n, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil {
				return -1, false
			}
			length = int(n)
		case bytes.EqualFold(name, []byte("X-Id")):
			var digits [20]byte
			after, ok := bytes.CutPrefix(value, []byte(prefix))
			after, dash := bytes.CutPrefix(after, []byte("-"))
			id = ok && dash && bytes.Equal(after, strconv.AppendInt(digits[:0], number, 10))
		}
	}
	return length, right && id && length == want
}
