package replay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestNear(t *testing.T) {
	for _, c := range []struct {
		addr string
		near bool
	}{
		{"127.0.0.1", true}, {"127.255.0.1", true}, {"::1", true},
		{"10.0.0.1", true}, {"10.255.255.255", true}, {"11.0.0.0", false}, {"9.255.255.255", false},
		{"172.16.0.0", true}, {"172.31.255.255", true}, {"172.15.255.255", false}, {"172.32.0.0", false},
		{"192.168.0.1", true}, {"192.169.0.0", false}, {"192.167.255.255", false},
		{"100.64.0.0", true}, {"100.127.255.255", true}, {"100.63.255.255", false}, {"100.128.0.0", false},
		{"169.254.1.1", true}, {"169.253.0.1", false},
		{"fe80::1", true}, {"fe80::1%eth0", true}, {"febf::1", true}, {"fec0::1", false},
		{"fc00::1", true}, {"fdff::1", true}, {"fe00::1", false},
		{"::ffff:10.0.0.1", true}, {"::ffff:100.64.0.1", true}, {"::ffff:8.8.8.8", false},
		{"8.8.8.8", false}, {"2001:4860:4860::8888", false}, {"0.0.0.0", false}, {"::", false}, {"224.0.0.1", false}, {"ff02::1", false},
		{"64:ff9b::a00:1", false}, {"::10.0.0.1", false},
	} {
		if got := near(netip.MustParseAddr(c.addr)); got != c.near {
			t.Errorf("%s: %v", c.addr, got)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for _, c := range []struct {
		url, host, addr, authority string
		port                       uint16
		https                      bool
	}{
		{"http://users-next:8080", "users-next", "", "users-next:8080", 8080, false},
		{"http://users-next/", "users-next", "", "users-next", 80, false},
		{"https://10.1.2.3", "10.1.2.3", "10.1.2.3", "10.1.2.3", 443, true},
		{"http://[::1]:81", "::1", "::1", "[::1]:81", 81, false},
		{"http://[::ffff:10.0.0.1]", "::ffff:10.0.0.1", "10.0.0.1", "[::ffff:10.0.0.1]", 80, false},
	} {
		g, err := parseTarget(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		addr := ""
		if g.addr.IsValid() {
			addr = g.addr.String()
		}
		if g.host != c.host || addr != c.addr || g.authority != c.authority || g.port != c.port || g.https != c.https {
			t.Errorf("%s: %+v", c.url, g)
		}
	}
}

func TestCredentials(t *testing.T) {
	heads := make(chan string, 8)
	srv := answer(t, func(h string) string { heads <- h; return mockOK })
	to := netip.MustParseAddrPort(srv.Addr().String())
	near, far := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("198.51.100.7")
	for _, c := range []struct {
		name    string
		how     Credentials
		addrs   []netip.Addr
		refused bool
		cookie  bool
	}{
		{"near", CredentialsForward, []netip.Addr{near}, false, true},
		{"mapped", CredentialsForward, []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}, false, true},
		{"far", CredentialsForward, []netip.Addr{far}, true, false},
		{"one of two is far", CredentialsForward, []netip.Addr{near, far}, true, false},
		{"far, stripped", CredentialsStrip, []netip.Addr{far}, false, false},
		{"far, anywhere", CredentialsForwardAnywhere, []netip.Addr{far}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config("http://c.example:" + portOf(srv))
			cfg.Credentials = c.how
			cfg.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
				if host != "c.example" {
					t.Errorf("asked for %s", host)
				}
				return c.addrs, nil
			}
			var dialled []netip.AddrPort
			u := start(t, cfg)
			u.dialer.dialTCP = func(ctx context.Context, a netip.AddrPort, control func(string, string, syscall.RawConn) error) (net.Conn, error) {
				dialled = append(dialled, a)
				return dialTCP(ctx, to, control) // nothing far is dialled in a test
			}
			p := u.one(request("", "GET / HTTP/1.1", "Host: h", "Cookie: a=b"))
			if c.refused {
				p.failed(t, ErrorRefused)
				if len(dialled) != 0 {
					t.Errorf("dialled %v", dialled)
				}
				return
			}
			p.ok(t, 200, "ok")
			if want := netip.AddrPortFrom(c.addrs[0].Unmap(), to.Port()); len(dialled) != 1 || dialled[0] != want {
				t.Errorf("dialled %v, want %v", dialled, want)
			}
			if h := <-heads; strings.Contains(h, "\r\nCookie: a=b\r\n") != c.cookie {
				t.Errorf("sent %q", h)
			}
		})
	}
}

func portOf(s *server) string {
	_, port, _ := net.SplitHostPort(s.Addr().String())
	return port
}

// A name that is near when it is checked and far when it is dialled: what was
// checked is dialled.
func TestRebinding(t *testing.T) {
	srv := answer(t, func(string) string { return mockOK })
	var asked atomic.Int32
	cfg := config("http://rebind.example:" + portOf(srv))
	cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		if asked.Add(1) == 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("198.51.100.7")}, nil
	}
	u := start(t, cfg)
	p := u.one(get("/"))
	p.ok(t, 200, "ok")
	if p.Address != srv.Addr().String() || asked.Load() != 1 {
		t.Errorf("%s, asked %d times", p.Address, asked.Load())
	}
	// A new connection asks anew, once the first answer is too old.
	u.dialer.addresses.mu.Lock()
	u.dialer.addresses.until = u.dialer.addresses.until.Add(-resolveFor)
	u.dialer.addresses.mu.Unlock()
	srv.hangUp()
	u.one(get("/")).failed(t, ErrorRefused)
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// A burst of connections asks the resolver about once.
func TestResolveOnce(t *testing.T) {
	srv := serve(t, func(c net.Conn, _ int) { readHead(c) })
	var asked atomic.Int32
	cfg := config("http://c.example:" + portOf(srv))
	cfg.Breaker.Disabled = true
	cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		asked.Add(1)
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	u := start(t, cfg)
	for range 20 {
		u.one(get("/")).failed(t, ErrorClosed)
	}
	if n := asked.Load(); n > 3 || srv.accepted() != 20 {
		t.Errorf("asked %d times for %d connections", n, srv.accepted())
	}
}

// recorder is an OwnReplay that remembers.
type recorder struct {
	mu    sync.Mutex
	now   map[netip.AddrPort]bool
	all   []netip.AddrPort
	gone  int
	wrong []string
	// added is called with each address.
	added func(netip.AddrPort) error
}

func (r *recorder) Add(a netip.AddrPort) error {
	if r.added != nil {
		if err := r.added(a); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		r.now = make(map[netip.AddrPort]bool)
	}
	if r.now[a] || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().Is4In6() {
		r.wrong = append(r.wrong, "added "+a.String())
	}
	r.now[a] = true
	r.all = append(r.all, a)
	return nil
}

func (r *recorder) Remove(a netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.now[a] {
		r.wrong = append(r.wrong, "removed "+a.String())
	}
	delete(r.now, a)
	r.gone++
}

func (r *recorder) check(t *testing.T, open int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrong) > 0 || len(r.now) != open || len(r.all)-r.gone != open {
		t.Errorf("own replay: %v wrong; %d known, %d added, %d removed; %d open", r.wrong, len(r.now), len(r.all), r.gone, open)
	}
}

// The local address is known before the first packet leaves, and is the one
// that the server then sees.
func TestOwnReplay(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			raw, err := l.(*net.TCPListener).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			own := &recorder{}
			own.added = func(netip.AddrPort) error {
				// Nothing has reached the listener yet: an accept would block.
				return raw.Control(func(fd uintptr) {
					if c, _, err := syscall.Accept4(int(fd), syscall.SOCK_CLOEXEC); err != syscall.EAGAIN {
						t.Errorf("connected before it was registered: %v", err)
						syscall.Close(c)
					}
				})
			}
			cfg := config("http://" + l.Addr().String())
			cfg.OwnReplay = own
			var u *running
			t.Run("replays", func(t *testing.T) {
				u = start(t, cfg)
				for range 3 {
					u.Submit(get("/"))
					c, err := l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					seen := netip.MustParseAddrPort(c.RemoteAddr().String())
					own.mu.Lock()
					if last := own.all[len(own.all)-1]; seen != last || !own.now[seen] {
						t.Errorf("server sees %v, registered was %v", seen, last)
					}
					own.mu.Unlock()
					readHead(c)
					c.Write([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"))
					u.next().ok(t, 200, "ok")
					c.Close()
				}
				u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
				own.check(t, 0)
				u.Submit(get("/"))
				c, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				readHead(c)
				c.Write([]byte(mockOK))
				u.next().ok(t, 200, "ok")
				own.check(t, 1) // idle, still open
				defer c.Close()
			})
			own.check(t, 0)
		})
	}
}

func TestOwnReplayFailures(t *testing.T) {
	t.Run("dead candidate", func(t *testing.T) {
		srv := serve(t, func(net.Conn, int) {})
		srv.Close()
		own := &recorder{}
		cfg := config(srv.url)
		cfg.OwnReplay = own
		start(t, cfg).one(get("/")).failed(t, ErrorConnect)
		own.check(t, 0)
		if len(own.all) != 1 {
			t.Errorf("%d registered", len(own.all))
		}
	})
	t.Run("no room", func(t *testing.T) {
		srv := serve(t, func(c net.Conn, _ int) { t.Error("connected without being known"); drain(c) })
		own := &recorder{added: func(netip.AddrPort) error { return errors.New("map is full") }}
		cfg := config(srv.url)
		cfg.OwnReplay = own
		start(t, cfg).one(get("/")).failed(t, ErrorConnect)
		own.check(t, 0)
	})
	t.Run("timeouts and garbage", func(t *testing.T) {
		srv := serve(t, func(c net.Conn, n int) {
			readHead(c)
			c.Write([]byte("garbage"))
			drain(c)
		})
		own := &recorder{}
		cfg := config(srv.url)
		cfg.OwnReplay = own
		u := start(t, cfg)
		for range 3 {
			u.one(get("/")).failed(t, ErrorProtocol)
		}
		own.check(t, 0)
		if len(own.all) != 3 {
			t.Errorf("%d registered", len(own.all))
		}
	})
}

func TestHostOfCandidate(t *testing.T) {
	heads := make(chan string, 1)
	srv := answer(t, func(h string) string { heads <- h; return mockOK })
	cfg := config("http://localhost:" + portOf(srv))
	cfg.Host, cfg.Role = "candidate", "control"
	cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	start(t, cfg).one(get("/")).ok(t, 200, "ok")
	if h, want := <-heads, "GET / HTTP/1.1\r\nHost: localhost:"+portOf(srv)+"\r\nX-Shadow-Test-Role: control\r\n\r\n"; h != want {
		t.Errorf("sent %q, want %q", h, want)
	}
}
