//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// startTaps runs an agent on a host with taps on the interfaces, which writes
// the exchanges of port 8080 to a file.
func startTaps(t *testing.T, host *bed.Namespace, interfaces ...string) (a *agent, lines string) {
	t.Helper()
	a = &agent{
		stage:    &stage{node: host},
		instance: fmt.Sprintf("%s%d-%d", instancePrefix, os.Getpid(), instances.Add(1)),
		dir:      t.TempDir(),
	}
	a.admin = admin.New(admin.SocketPath(a.instance))
	a.config = filepath.Join(a.dir, "shadowtap.yaml")
	text := fmt.Sprintf(`version: 1
instance: %[1]s
off_file: /run/shadowtap/%[1]s/off
capture: {interfaces: [%[2]s], ports: [8080]}
management: {address: "%[3]s", admin_socket: /run/shadowtap/%[1]s/admin.sock}
`, a.instance, strings.Join(interfaces, ", "), management)
	if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(filepath.Join(admin.Root, a.instance)) })
	lines = filepath.Join(a.dir, "exchanges.jsonl")
	a.start(t, "--exchanges-to", lines)
	return a, lines
}

// ends waits until n exchanges were seen, checks that every line of the ledger
// balances and that none is missing, and stops the agent.
func (a *agent) ends(t *testing.T, n int) telemetry.Ledger {
	t.Helper()
	s := a.rest(t, 20*time.Second, completed(n))
	requireBalance(t, s)
	l := telemetry.Ledger(s.Ledger)
	if got := l["exchanges"]["complete"]; got != uint64(n) && lostPackets(l) == 0 {
		t.Errorf("%d exchanges, want %d: %v", got, n, l["exchanges"])
	}
	a.process.Stop(t)
	a.held.requireGone(t)
	return l
}

// bodies are the exchanges of a test: what was sent is known to the byte.
type bodies struct {
	mu   sync.Mutex
	sums map[string]int
}

func bodyLine(method, uri string, status int, request, response []byte) string {
	return fmt.Sprintf("%s %s %d %x %x", method, uri, status, sha256.Sum256(request), sha256.Sum256(response))
}

func (b *bodies) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sums == nil {
		b.sums = map[string]int{}
	}
	b.sums[line]++
}

// same compares with the lines of the file, body by body.
func (b *bodies) same(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string]int{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		var x struct {
			Method, URI       string
			Status            int
			Request, Response struct {
				SHA256 string `json:"body_sha256"`
			}
		}
		if err := json.Unmarshal(s.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		got[fmt.Sprintf("%s %s %d %s %s", x.Method, x.URI, x.Status, x.Request.SHA256, x.Response.SHA256)]++
	}
	requireSame(t, "bodies", b.sums, got)
}

// echo answers with the request's body, reversed.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Write(reversed(b))
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[len(b)-1-i] = c
	}
	return out
}

// ask sends n requests over one connection, with bodies of the size.
func (b *bodies) ask(t *testing.T, client *http.Client, base, name string, n, size int) {
	t.Helper()
	for i := range n {
		body := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(i), byte(size)}).Read(body)
		uri := fmt.Sprintf("/%s/%d", name, i)
		res, err := client.Post(base+uri, "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		answer, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !bytes.Equal(answer, reversed(body)) {
			t.Fatalf("%s: %d bytes, %v", uri, len(answer), err)
		}
		b.add(bodyLine("POST", uri, res.StatusCode, body, answer))
	}
}

func clientIn(t *testing.T, ns *bed.Namespace) *http.Client {
	tr := &http.Transport{DialContext: ns.DialContext, MaxConnsPerHost: 1}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// route sends what goes to the address by the interface, from now on.
func route(t *testing.T, ns *bed.Namespace, to, via, name string) {
	t.Helper()
	ns.Must(t, func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		dst := &net.IPNet{IP: net.ParseIP(to).To4(), Mask: net.CIDRMask(32, 32)}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Gw: net.ParseIP(via)})
	})
}

// TestTwoUplinks: requests come by one interface and answers leave by another,
// on the same connection the path changes, and in the end one interface is
// removed. Every exchange is right, and each direction counts once.
func TestTwoUplinks(t *testing.T) {
	client, server := bed.NewNamespace(t, "client"), bed.NewNamespace(t, "server")
	for i, name := range []string{"up1", "up2"} {
		bed.Join(t, bed.Link{Namespace: client, Name: name, Addresses: []string{fmt.Sprintf("10.88.%d.1/24", i)}},
			bed.Link{Namespace: server, Name: name, Addresses: []string{fmt.Sprintf("10.88.%d.2/24", i)}})
	}
	const clientIP, serverIP = "10.88.9.1", "10.88.9.2"
	for ns, ip := range map[*bed.Namespace]string{client: clientIP, server: serverIP} {
		ns.Must(t, func() error {
			for _, what := range []string{"all", "up1", "up2"} {
				if err := bed.Sysctl("net/ipv4/conf/"+what+"/rp_filter", "0"); err != nil {
					return err
				}
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(ip + "/32")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(lo, addr)
		})
	}
	route(t, client, serverIP, "10.88.0.2", "up1")
	route(t, server, clientIP, "10.88.1.1", "up2")
	serveOn(t, server, serverIP+":8080", echo)
	a, lines := startTaps(t, server, "up1", "up2")

	dial := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientIP)}, FallbackDelay: -1}
	var conn net.Conn
	client.Must(t, func() (err error) { conn, err = dial.Dial("tcp", serverIP+":8080"); return err })
	defer conn.Close()
	r := bufio.NewReader(conn)
	var want bodies
	n := 0
	some := func(name string) {
		t.Helper()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		for i := range 20 {
			body := bytes.Repeat([]byte{byte(i)}, 1+i*i*500)
			uri := fmt.Sprintf("/%s/%d", name, i)
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", uri, len(body), body)
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("%s: %v", uri, err)
			}
			if answer, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(answer, body) {
				t.Fatalf("%s: %d bytes, %v", uri, len(answer), err)
			}
			want.add(bodyLine("POST", uri, 200, body, body))
			n++
		}
	}
	some("asymmetric")
	route(t, client, serverIP, "10.88.1.2", "up2") // both directions by up2 now
	some("moved")
	route(t, server, clientIP, "10.88.0.1", "up1") // and crossed
	some("crossed")
	route(t, server, clientIP, "10.88.1.1", "up2")
	server.Must(t, func() error {
		l, err := netlink.LinkByName("up1")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	some("alone")
	l := a.ends(t, n)
	want.same(t, lines)
	if other := l["captured_bytes"]["other_interface"]; other != 0 {
		t.Errorf("%d bytes of other interfaces, and each packet passed one", other)
	}
}

// TestBridgeAndItsPort: the same packets pass a bridge's port and the bridge.
func TestBridgeAndItsPort(t *testing.T) {
	client, server := bed.NewNamespace(t, "client"), bed.NewNamespace(t, "server")
	bed.Join(t, bed.Link{Namespace: client, Name: "eth0", Addresses: []string{"10.88.0.1/24"}}, bed.Link{Namespace: server, Name: "port"})
	server.Must(t, func() error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := netlink.LinkAdd(br); err != nil {
			return err
		}
		port, err := netlink.LinkByName("port")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(port, br); err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("10.88.0.2/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(br, addr); err != nil {
			return err
		}
		return netlink.LinkSetUp(br)
	})
	serveOn(t, server, "10.88.0.2:8080", echo)
	a, lines := startTaps(t, server, "port", "br0")
	var want bodies
	want.ask(t, clientIn(t, client), "http://10.88.0.2:8080", "twice", 30, 3000)
	l := a.ends(t, 30)
	want.same(t, lines)
	if b := l["captured_bytes"]; b["other_interface"]+b["duplicate"] != b["delivered"] || b["other_interface"] == 0 {
		t.Errorf("bytes %v: each is to be delivered once and counted as another interface's once", b)
	}
}

// TestBigTCP: packets of more than 64 KiB over a veth, end to end.
func TestBigTCP(t *testing.T) {
	client, server := bed.NewNamespace(t, "client"), bed.NewNamespace(t, "server")
	bed.Join(t, bed.Link{Namespace: client, Name: "eth0", Addresses: []string{"fd88::1/64"}}, bed.Link{Namespace: server, Name: "eth0", Addresses: []string{"fd88::2/64"}})
	for _, ns := range []*bed.Namespace{client, server} {
		ns.Must(t, func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			if err := netlink.LinkSetGSOMaxSize(l, 180_000); err != nil {
				return err
			}
			return netlink.LinkSetGROMaxSize(l, 180_000)
		})
	}
	serveOn(t, server, "[fd88::2]:8080", echo)
	a, lines := startTaps(t, server, "eth0")
	var want bodies
	want.ask(t, clientIn(t, client), "http://[fd88::2]:8080", "big", 3, 8<<20)
	l := a.ends(t, 3)
	// That packets are longer than 64 KiB is asserted where packets are: bpf.TestSuperPackets.
	t.Logf("%d bytes in %d packets", l["captured_bytes"]["delivered"], l["kernel_packets"]["captured"])
	if lostPackets(l) == 0 {
		want.same(t, lines)
	}
}

// TestTun: exchanges over a device whose packets have no link header. Two such
// devices are joined by copying their packets.
func TestTun(t *testing.T) {
	client, server := bed.NewNamespace(t, "client"), bed.NewNamespace(t, "server")
	var ends []*os.File
	for i, ns := range []*bed.Namespace{client, server} {
		ns.Must(t, func() error {
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			req, err := unix.NewIfreq("tun0")
			if err != nil {
				return err
			}
			req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
				return fmt.Errorf("make tun0: %w", err)
			}
			// Only now, because a file that is no device yet can't be waited for.
			ends = append(ends, os.NewFile(uintptr(fd), "tun0"))
			l, err := netlink.LinkByName("tun0")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(fmt.Sprintf("10.88.0.%d/24", i+1))
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(l, addr); err != nil {
				return err
			}
			return netlink.LinkSetUp(l)
		})
	}
	var pumps sync.WaitGroup
	for i := range ends {
		pumps.Go(func() {
			b := make([]byte, 64<<10)
			for {
				n, err := ends[i].Read(b)
				if err != nil {
					return
				}
				ends[1-i].Write(b[:n])
			}
		})
	}
	t.Cleanup(func() {
		for _, f := range ends {
			f.Close()
		}
		pumps.Wait()
	})
	serveOn(t, server, "10.88.0.2:8080", echo)
	a, lines := startTaps(t, server, "tun0")
	var want bodies
	want.ask(t, clientIn(t, client), "http://10.88.0.2:8080", "tun", 30, 30_000)
	a.ends(t, 30)
	want.same(t, lines)
}

// TestStackedTags: exchanges under one to four VLAN tags. The kernel takes the
// outer one out of the bytes, so that up to three are in them.
func TestStackedTags(t *testing.T) {
	client, server := bed.NewNamespace(t, "client"), bed.NewNamespace(t, "server")
	bed.Join(t, bed.Link{Namespace: client, Name: "eth0"}, bed.Link{Namespace: server, Name: "eth0"})
	a, lines := startTaps(t, server, "eth0")
	var fd int
	var to net.HardwareAddr
	server.Must(t, func() error {
		l, err := netlink.LinkByName("eth0")
		to = l.Attrs().HardwareAddr
		return err
	})
	client.Must(t, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index})
	})
	defer unix.Close(fd)
	be := binary.BigEndian
	var want bodies
	const fin, syn, ack = 1, 2, 16
	for k, tags := range [][]uint16{{0x8100}, {0x88a8, 0x8100}, {0x88a8, 0x8100, 0x8100}, {0x88a8, 0x8100, 0x8100, 0x8100}} {
		seq := [2]uint32{1000, 9000}
		send := func(client int, flags byte, payload string) {
			t.Helper()
			frame := append(append([]byte{}, to...), 2, 0, 0, 0, 0, 9)
			for i, tag := range tags {
				frame = be.AppendUint16(be.AppendUint16(frame, tag), uint16(100+i))
			}
			frame = be.AppendUint16(frame, 0x0800)
			frame = be.AppendUint16(append(frame, 0x45, 0), uint16(40+len(payload)))
			frame = append(frame, 0, 1, 0x40, 0, 64, 6, 0, 0)
			ip := [2][]byte{{10, 88, 0, 1}, {10, 88, 0, 2}}
			port := [2]uint16{uint16(40000 + k), 8080}
			frame = append(append(frame, ip[client]...), ip[1-client]...)
			frame = be.AppendUint16(be.AppendUint16(frame, port[client]), port[1-client])
			frame = be.AppendUint32(be.AppendUint32(frame, seq[client]), seq[1-client])
			frame = append(append(frame, 5<<4, flags, 1, 0, 0, 0, 0, 0), payload...)
			if err := unix.Send(fd, frame, 0); err != nil {
				t.Fatal(err)
			}
			seq[client] += uint32(len(payload))
			if flags&(syn|fin) != 0 {
				seq[client]++
			}
		}
		uri, body := fmt.Sprintf("/tags/%d", len(tags)), fmt.Sprintf("behind %d tags", len(tags))
		send(0, syn, "")
		send(1, syn|ack, "")
		send(0, ack, "GET "+uri+" HTTP/1.1\r\nHost: h\r\n\r\n")
		send(1, ack, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		send(0, fin|ack, "")
		send(1, fin|ack, "")
		want.add(bodyLine("GET", uri, 200, nil, []byte(body)))
	}
	l := a.ends(t, 4)
	want.same(t, lines)
	if n := l["kernel_packets"]["unparsable"]; n != 0 {
		t.Errorf("%d packets were unparsable", n)
	}
}
