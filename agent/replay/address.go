package replay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// Credentials says what becomes of secrets in requests.
type Credentials string

const (
	// CredentialsForward, the default, sends requests with their credentials
	// and therefore connects only over https or to loopback, link-local and
	// private addresses (RFC 1918, RFC 4193, RFC 6598).
	CredentialsForward Credentials = "forward"
	// CredentialsStrip removes the fields of CredentialFields, and connects
	// to any address.
	CredentialsStrip Credentials = "strip"
	// CredentialsForwardAnywhere sends credentials to any address.
	CredentialsForwardAnywhere Credentials = "forward-anywhere"
)

// target is where to connect to, from Config.URL.
type target struct {
	https bool
	// host is the name without brackets; addr is set when it is an address.
	host string
	addr netip.Addr
	port uint16
	// authority is host and port as the URL has them.
	authority string
}

// parseTarget takes the configured URL apart. It allows a scheme, a host and a
// port and nothing else: paths are written as received, so a base path would
// be ignored in silence.
func parseTarget(raw string) (*target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	t := &target{host: u.Hostname(), authority: u.Host}
	switch u.Scheme {
	case "http":
		t.port = 80
	case "https":
		t.https, t.port = true, 443
	default:
		return nil, fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	}
	switch {
	case t.host == "":
		return nil, errors.New("no host")
	case u.User != nil:
		return nil, errors.New("user information is not sent")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("only scheme, host and port are allowed: targets are written as received")
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("port %q is not between 1 and 65535", p)
		}
		t.port = uint16(n)
	}
	for i := 0; i < len(t.authority); i++ {
		if c := t.authority[i]; c <= ' ' || c >= 0x7f || c == '/' || c == '@' || c == '?' || c == '#' || c == '\\' {
			return nil, fmt.Errorf("host %q has a character that no host has", t.authority)
		}
	}
	if a, err := netip.ParseAddr(t.host); err == nil {
		t.addr = a.Unmap()
	}
	return t, nil
}

// sharedSpace is RFC 6598's.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// near says whether credentials may go to a in clear text.
func near(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsPrivate() || sharedSpace.Contains(a.WithZone(""))
}

var errNotNear = errors.New("credentials may only go to loopback, link-local and private addresses, or over https; credentials: strip or forward-anywhere changes that")

// resolveFor is how long an answer of the resolver is used: connections that
// are opened in one burst ask once.
const resolveFor = time.Second

// addresses finds the addresses to connect to. The check and the connection
// use the same answer, so a name that changes between two lookups (DNS
// rebinding) gains nothing.
type addresses struct {
	target *target
	// near demands that every address is.
	near   bool
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	mu    sync.Mutex
	known []netip.AddrPort
	until time.Time
}

func (a *addresses) get(ctx context.Context, only netip.AddrPort) ([]netip.AddrPort, error) {
	if only.IsValid() {
		if a.near && !near(only.Addr()) {
			return nil, fmt.Errorf("the captured server is %s: %w", only.Addr(), errNotNear)
		}
		return []netip.AddrPort{only}, nil
	}
	if a.target.addr.IsValid() {
		// Checked by New.
		return []netip.AddrPort{netip.AddrPortFrom(a.target.addr, a.target.port)}, nil
	}
	a.mu.Lock()
	known, until := a.known, a.until
	a.mu.Unlock()
	if len(known) > 0 && time.Now().Before(until) {
		return known, nil
	}
	found, err := a.lookup(ctx, a.target.host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", a.target.host, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("resolve %s: no address", a.target.host)
	}
	known = make([]netip.AddrPort, 0, len(found))
	for _, f := range found {
		f = f.Unmap()
		if a.near && !near(f) {
			return nil, fmt.Errorf("%s is %s: %w", a.target.host, f, errNotNear)
		}
		known = append(known, netip.AddrPortFrom(f, a.target.port))
	}
	a.mu.Lock()
	a.known, a.until = known, time.Now().Add(resolveFor)
	a.mu.Unlock()
	return known, nil
}
