package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// OwnReplay is told which sockets carry replays, so that the tap leaves their
// packets out. Addresses are not IPv4-mapped. Add is called before the
// connect, Remove after the close, each from any goroutine.
type OwnReplay interface {
	Add(local netip.AddrPort) error
	Remove(local netip.AddrPort)
}

// dialer opens connections to the configured target and nowhere else.
type dialer struct {
	addresses *addresses
	own       OwnReplay // nil: none
	counts    *connCounts
	// dialTCP is net.Dialer's DialContext, with the control function that
	// runs between socket and connect.
	dialTCP func(ctx context.Context, to netip.AddrPort, control func(network, address string, c syscall.RawConn) error) (net.Conn, error)
}

func dialTCP(ctx context.Context, to netip.AddrPort, control func(network, address string, c syscall.RawConn) error) (net.Conn, error) {
	// A dead peer is found by the timeout of a replay, and an idle connection
	// is closed soon: no keep-alive probes.
	d := net.Dialer{KeepAlive: -1, Control: control}
	return d.DialContext(ctx, "tcp", to.String())
}

// dial connects to the first address of the target that answers, or to the one
// address that it is given, which is held to the rules of the target's. The
// addresses share what is left of the time. Errors are of type *dialError.
func (d *dialer) dial(ctx context.Context, only netip.AddrPort) (*conn, error) {
	addrs, err := d.addresses.get(ctx, only)
	if err != nil {
		word := ErrorConnect
		if errors.Is(err, errNotNear) {
			word = ErrorRefused
		}
		return nil, &dialError{word, err}
	}
	var first error
	for i, to := range addrs {
		c, err := d.dialOne(ctx, to, len(addrs)-i)
		if err == nil {
			c.to = only
			d.counts.opened.Add(1)
			return c, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, &dialError{ErrorConnect, first}
}

func (d *dialer) dialOne(ctx context.Context, to netip.AddrPort, left int) (*conn, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		share := time.Until(deadline) / time.Duration(left)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	c := &conn{peer: to.String(), counts: d.counts}
	if d.own == nil {
		nc, err := d.dialTCP(ctx, to, nil)
		if err != nil {
			return nil, err
		}
		c.use(nc)
		return c, nil
	}
	from, err := sourceFor(to)
	if err != nil {
		return nil, err
	}
	var local netip.AddrPort
	control := func(_, _ string, raw syscall.RawConn) (err error) {
		if local.IsValid() {
			// net tries again when the first socket connected to itself.
			d.own.Remove(local)
		}
		if e := raw.Control(func(fd uintptr) {
			if local, err = bindAny(int(fd), from); err == nil {
				err = d.own.Add(local)
			}
			if err != nil {
				err = fmt.Errorf("register %s as own replay: %w", from.Addr(), err)
				local = netip.AddrPort{}
			}
		}); e != nil {
			return e
		}
		return err
	}
	nc, err := d.dialTCP(ctx, to, control)
	if err != nil {
		if local.IsValid() {
			d.own.Remove(local)
		}
		return nil, err
	}
	c.own, c.local = d.own, local
	c.use(nc)
	return c, nil
}

// sourceFor asks the routing table for the address that a connection to to
// would come from: connecting a UDP socket sends nothing.
func sourceFor(to netip.AddrPort) (netip.AddrPort, error) {
	u, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("source address for %s: %w", to, err)
	}
	defer u.Close()
	a := u.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), 0), nil
}

// bindAny binds the socket to the address and a free port, and returns both.
// The port is chosen here and not at connect, which IP_BIND_ADDRESS_NO_PORT
// would ask for: it must be known before the first packet.
func bindAny(fd int, from netip.AddrPort) (netip.AddrPort, error) {
	var sa syscall.Sockaddr
	if from.Addr().Is4() {
		sa = &syscall.SockaddrInet4{Addr: from.Addr().As4()}
	} else {
		s := &syscall.SockaddrInet6{Addr: from.Addr().As16()}
		if z := from.Addr().Zone(); z != "" {
			i, err := net.InterfaceByName(z)
			if err != nil {
				return netip.AddrPort{}, err
			}
			s.ZoneId = uint32(i.Index)
		}
		sa = s
	}
	if err := syscall.Bind(fd, sa); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("bind", err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	switch s := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(s.Addr), uint16(s.Port)), nil
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr).Unmap(), uint16(s.Port)), nil
	}
	return netip.AddrPort{}, errors.New("getsockname: not an IP socket")
}

// dialError is an error with its word.
type dialError struct {
	word string
	err  error
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// conn is a connection to the target. It is a net.Conn, so that net/http can
// hold one too; Close tells OwnReplay.
type conn struct {
	net.Conn
	peer   string
	to     netip.AddrPort // that dial was given
	counts *connCounts
	own    OwnReplay
	local  netip.AddrPort
	once   sync.Once

	raw syscall.RawConn // nil when the connection is no socket
	// peek and quiet belong to idle.
	peek  func(fd uintptr)
	quiet bool
	// used says that it carried a request whose answer was whole.
	used bool
	// rtt belongs to roundTrip, which asked for it last at rttAsked.
	rtt      time.Duration
	rttAsked time.Time
}

func (c *conn) use(nc net.Conn) {
	c.Conn = nc
	if s, ok := nc.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn()
	}
	var one [1]byte
	c.peek = func(fd uintptr) {
		// The descriptor does not block. Whatever comes, byte, end or reset,
		// is not the answer to a request that has not been written yet.
		_, err := syscall.Read(int(fd), one[:])
		c.quiet = err == syscall.EAGAIN
	}
}

// idle says that nothing came since the last answer, so the connection can
// carry a request.
func (c *conn) idle() bool {
	if c.raw == nil {
		return true
	}
	c.quiet = false
	return c.raw.Control(c.peek) == nil && c.quiet
}

// alive says that the peer has not ended the connection, as far as that can be
// seen without reading what came.
func (c *conn) alive() bool {
	if c.raw == nil {
		return true
	}
	alive := false
	err := c.raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = n > 0 || err == syscall.EAGAIN
	})
	return err == nil && alive
}

// delivered says that the peer's kernel has acknowledged all that was written:
// Write only means that ours has it.
func (c *conn) delivered() bool {
	if c.raw == nil {
		return true
	}
	var left int32
	var errno syscall.Errno
	err := c.raw.Control(func(fd uintptr) {
		// TIOCOUTQ is SIOCOUTQ (tcp(7)).
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&left)))
	})
	return err == nil && errno == 0 && left == 0
}

// Close ends the connection, once.
func (c *conn) Close() (err error) {
	c.once.Do(func() {
		err = c.Conn.Close()
		if c.own != nil {
			c.own.Remove(c.local)
		}
	})
	return err
}

// abort ends a connection that is in the middle of something: with a reset, so
// that neither request nor socket stays in the kernel, from which it would be
// sent after OwnReplay forgot it.
func (c *conn) abort() {
	if l, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		// When it fails the close is an ordinary one.
		_ = l.SetLinger(0)
	}
	// The connection is given up; there is nobody to tell.
	_ = c.Close()
}

// isClosed says that err means the peer ended the connection.
func isClosed(err error) bool {
	return err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}
