package bpf

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Real packets, in network namespaces of the test's own: what Program.Test
// cannot make.

// space is a network namespace. Nothing of it has a name outside: it is gone
// with its last descriptor.
type space struct {
	testing.TB
	ns netns.NsHandle
}

func newSpace(t testing.TB) *space {
	t.Helper()
	needRoot(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	ns, err := netns.New() // the thread is in it now
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := netns.Set(old); err != nil {
		t.Fatal(err)
	}
	s := &space{TB: t, ns: ns}
	s.in(func() {
		lo, err := netlink.LinkByName("lo")
		s.must(err)
		s.must(netlink.LinkSetUp(lo))
	})
	return s
}

func (s *space) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// in runs f with the thread in the namespace. Sockets that f makes belong to it.
func (s *space) in(f func()) {
	s.Helper()
	runtime.LockOSThread()
	old, err := netns.Get()
	s.must(err)
	defer old.Close()
	s.must(netns.Set(s.ns))
	defer func() {
		if err := netns.Set(old); err != nil {
			return // the thread stays locked and ends with the goroutine
		}
		runtime.UnlockOSThread()
	}()
	f()
}

func (s *space) link(name string) (l netlink.Link) {
	s.Helper()
	s.in(func() {
		var err error
		l, err = netlink.LinkByName(name)
		s.must(err)
	})
	return l
}

// attach puts the program at the head of an interface's hook.
func (s *space) attach(prog *ebpf.Program, name string, hook ebpf.AttachType) {
	s.Helper()
	index := s.link(name).Attrs().Index
	s.in(func() {
		l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: hook, Anchor: link.Head()})
		s.must(err)
		s.Cleanup(func() { l.Close() })
	})
}

const (
	clientIP4, serverIP4 = "10.9.0.1", "10.9.0.2"
	clientIP6, serverIP6 = "fd09::1", "fd09::2"
)

// newPair makes two namespaces with a veth between them: c0 and s0.
func newPair(t testing.TB, mtu int) (client, server *space) {
	t.Helper()
	client, server = newSpace(t), newSpace(t)
	client.in(func() {
		client.must(netlink.LinkAdd(&netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: "c0", MTU: mtu},
			PeerName:      "s0",
			PeerNamespace: netlink.NsFd(server.ns),
			PeerMTU:       uint32(mtu),
		}))
	})
	up := func(s *space, name string, addrs ...string) {
		s.in(func() {
			l, err := netlink.LinkByName(name)
			s.must(err)
			for _, a := range addrs {
				addr, err := netlink.ParseAddr(a)
				s.must(err)
				if addr.IP.To4() == nil {
					addr.Flags = unix.IFA_F_NODAD
				}
				s.must(netlink.AddrAdd(l, addr))
			}
			s.must(netlink.LinkSetUp(l))
		})
	}
	up(client, "c0", clientIP4+"/24", clientIP6+"/64")
	up(server, "s0", serverIP4+"/24", serverIP6+"/64")
	return client, server
}

// collector reads rings until it is stopped, and keeps what it read.
type collector struct {
	testing.TB
	maps *Maps
	stop chan struct{}
	done sync.WaitGroup

	mu  sync.Mutex
	evs []Event
}

func collect(t testing.TB, m *Maps) *collector {
	t.Helper()
	c := &collector{TB: t, maps: m, stop: make(chan struct{})}
	for i := range m.Rings() {
		m.Control(i).Beat(Now())
		r, err := ringbuf.NewReader(m.Ring(i))
		if err != nil {
			t.Fatal(err)
		}
		c.done.Go(func() {
			defer r.Close()
			c.read(r, m.Control(i))
		})
	}
	t.Cleanup(func() { c.end() })
	return c
}

func (c *collector) read(r *ringbuf.Reader, ctl *Control) {
	for {
		ctl.Beat(Now())
		ctl.SetSleeping(true)
		r.SetDeadline(time.Now().Add(50 * time.Millisecond))
		rec, err := r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			select {
			case <-c.stop:
				return
			default:
				continue
			}
		}
		var ev Event
		if err == nil {
			err = Decode(rec.RawSample, &ev)
		}
		if err != nil {
			c.Error(err)
			return
		}
		c.mu.Lock()
		c.evs = append(c.evs, ev)
		c.mu.Unlock()
	}
}

// end stops the readers after the rings are empty and returns everything read.
func (c *collector) end() []Event {
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.done.Wait()
	return c.evs
}

// wait returns the first event that f wants.
func (c *collector) wait(f func(*Event) bool) Event {
	c.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		c.mu.Lock()
		for i := range c.evs {
			if f(&c.evs[i]) {
				ev := c.evs[i]
				c.mu.Unlock()
				return ev
			}
		}
		c.mu.Unlock()
	}
	counters, err := c.maps.Counters()
	c.Fatalf("no such event in 10 s; %d others; counters %v %v", len(c.evs), counters, err)
	return Event{}
}

// stream puts the payload of one direction together by sequence number.
type stream struct {
	start   uint32
	started bool
	bytes   []byte
	have    []bool
	longest uint32
	pieces  int
}

func (s *stream) add(t testing.TB, ev *Event, size int) {
	t.Helper()
	if ev.Flags&SYN != 0 {
		s.start, s.started = ev.Seq+1, true
		s.bytes, s.have = make([]byte, size), make([]bool, size)
		return
	}
	if len(ev.Payload) == 0 {
		return
	}
	if !s.started {
		t.Fatal("payload before the SYN")
	}
	at := int(ev.Seq - s.start)
	if at+len(ev.Payload) > size {
		t.Fatalf("payload up to %d of %d", at+len(ev.Payload), size)
	}
	copy(s.bytes[at:], ev.Payload)
	for i := at; i < at+len(ev.Payload); i++ {
		s.have[i] = true
	}
	s.longest = max(s.longest, ev.Total)
	if int(ev.Total) != len(ev.Payload) {
		s.pieces++
	}
}

func (s *stream) missing() (n int) {
	for _, h := range s.have {
		if !h {
			n++
		}
	}
	return n
}

// transfer sends size random bytes each way over TCP and returns their hashes.
func transfer(t testing.TB, client, server *space, address string, size int) (toServer, toClient [32]byte) {
	t.Helper()
	var l net.Listener
	server.in(func() {
		var err error
		l, err = net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr(address), port).String())
		server.must(err)
	})
	defer l.Close()
	fill := func(seed uint64) []byte {
		b := make([]byte, size)
		r := rand.NewChaCha8([32]byte{byte(seed)})
		r.Read(b)
		return b
	}
	up, down := fill(1), fill(2)
	failed := make(chan error, 1)
	go func() {
		failed <- func() error {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := io.CopyN(io.Discard, c, int64(size)); err != nil {
				return err
			}
			_, err = c.Write(down)
			return err
		}()
	}()
	var c net.Conn
	client.in(func() {
		var err error
		c, err = net.Dial("tcp", l.Addr().String())
		client.must(err)
	})
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Write(up); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(up), sha256.Sum256(down)
}

func bothHooks(t testing.TB, m *Maps, s *space, name string, linkHeader int) {
	t.Helper()
	for hook, c := range map[ebpf.AttachType]TapConfig{
		ebpf.AttachTCXIngress: {Tap: 1, LinkHeader: linkHeader, Direction: Requests},
		ebpf.AttachTCXEgress:  {Tap: 2, LinkHeader: linkHeader, Direction: Responses},
	} {
		prog, err := m.Load(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { prog.Close() })
		s.attach(prog, name, hook)
	}
}

// checkStreams compares what was read with what was sent.
func checkStreams(t testing.TB, m *Maps, evs []Event, size int, toServer, toClient [32]byte) (up, down stream) {
	t.Helper()
	for i := range evs {
		ev := &evs[i]
		switch {
		case ev.Lost != 0:
			t.Fatalf("lost %d", ev.Lost)
		case ev.DstPort == port && ev.Side == SideToServer:
			up.add(t, ev, size)
		case ev.SrcPort == port && ev.Side == SideToClient:
			down.add(t, ev, size)
		default:
			t.Fatalf("event of another flow: %+v", ev)
		}
	}
	for name, s := range map[string]*stream{"to server": &up, "to client": &down} {
		if n := s.missing(); n != 0 {
			t.Fatalf("%s: %d of %d bytes missing", name, n, size)
		}
	}
	if sha256.Sum256(up.bytes) != toServer || sha256.Sum256(down.bytes) != toClient {
		t.Error("other bytes than those sent")
	}
	c, err := m.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if c.Selected() == 0 || c.Packets[OtherDirection] != 0 || c.Packets[Captured]+c.Packets[NoPayload] != c.Selected() {
		t.Errorf("counters %v", c.Packets)
	}
	whole := 0 // packets, by their last piece
	for i := range evs {
		if int(evs[i].Offset)+len(evs[i].Payload) == int(evs[i].Total) {
			whole++
		}
	}
	if uint64(whole) != c.Packets[Captured] {
		t.Errorf("%d whole packets read, %d captured", whole, c.Packets[Captured])
	}
	return up, down
}

// TestSuperPackets: TCP over a veth, where packets of up to 64 KiB reach TC
// before they are segmented; by both families and, with a raised
// gso_max_size, beyond 64 KiB.
func TestSuperPackets(t *testing.T) {
	const size = 8 << 20
	for _, c := range []struct {
		name    string
		address string
		gso     int
		longer  uint32 // a packet must have been longer than this
	}{
		{"ip4", serverIP4, 0, 40_000},
		{"ip6", serverIP6, 0, 40_000},
		{"ip4 big", serverIP4, 180_000, 65_536},
		{"ip6 big", serverIP6, 180_000, 65_536},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := newPair(t, 1500)
			if c.gso != 0 {
				for s, name := range map[*space]string{client: "c0", server: "s0"} {
					l := s.link(name)
					s.in(func() {
						s.must(netlink.LinkSetGSOMaxSize(l, c.gso))
						s.must(netlink.LinkSetGROMaxSize(l, c.gso))
						s.must(netlink.LinkSetGSOIPv4MaxSize(l, c.gso))
						s.must(netlink.LinkSetGROIPv4MaxSize(l, c.gso))
					})
				}
			}
			m := newMaps(t, MapsConfig{Rings: 2, RingBytes: 64 << 20})
			if err := m.SetPorts([]uint16{port}); err != nil {
				t.Fatal(err)
			}
			bothHooks(t, m, server, "s0", 14)
			read := collect(t, m)
			toServer, toClient := transfer(t, client, server, c.address, size)
			up, down := checkStreams(t, m, read.end(), size, toServer, toClient)
			t.Logf("longest %d and %d bytes, %d pieces", up.longest, down.longest, up.pieces+down.pieces)
			if max(up.longest, down.longest) <= c.longer {
				t.Errorf("no packet longer than %d bytes", c.longer)
			}
			if (up.pieces+down.pieces > 0) != (c.gso != 0) {
				t.Errorf("%d pieces", up.pieces+down.pieces)
			}
		})
	}
}

// TestLoopback: one hook that sees both directions. Ingress shows each packet
// once; egress shows the packets of others too, and longer ones.
func TestLoopback(t *testing.T) {
	const size = 8 << 20
	for hook, name := range map[ebpf.AttachType]string{ebpf.AttachTCXIngress: "ingress", ebpf.AttachTCXEgress: "egress"} {
		for _, address := range []string{"127.0.0.1", "::1"} {
			t.Run(name+" "+address, func(t *testing.T) {
				here := newSpace(t)
				m := newMaps(t, MapsConfig{RingBytes: 64 << 20})
				if err := m.SetPorts([]uint16{port}); err != nil {
					t.Fatal(err)
				}
				prog, err := m.Load(ethernetBoth)
				if err != nil {
					t.Fatal(err)
				}
				defer prog.Close()
				here.attach(prog, "lo", hook)
				read := collect(t, m)
				toServer, toClient := transfer(t, here, here, address, size)
				up, down := checkStreams(t, m, read.end(), size, toServer, toClient)
				t.Logf("longest %d and %d bytes, %d pieces", up.longest, down.longest, up.pieces+down.pieces)
				longer := uint32(32_768)
				if hook == ebpf.AttachTCXEgress {
					longer = 65_536 // whose length no IP header can say
				}
				if max(up.longest, down.longest) <= longer {
					t.Errorf("no packet longer than %d bytes", longer)
				}
			})
		}
	}
}

// raw is a packet socket on an interface.
func (s *space) raw(name string) int {
	s.Helper()
	index := s.link(name).Attrs().Index
	var fd int
	s.in(func() {
		var err error
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		s.must(err)
		s.must(unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index}))
	})
	s.Cleanup(func() { unix.Close(fd) })
	return fd
}

// TestVLANMetadata: the kernel takes the outer tag out of the bytes before
// ingress. Only those that remain are in the bytes.
func TestVLANMetadata(t *testing.T) {
	client, server := newPair(t, 1500)
	m := newMaps(t, MapsConfig{})
	if err := m.SetPorts([]uint16{port}); err != nil {
		t.Fatal(err)
	}
	bothHooks(t, m, server, "s0", 14)
	read := collect(t, m)
	fd := client.raw("c0")
	for i, tags := range [][]uint16{{}, {0x8100}, {0x88a8, 0x8100}, {0x88a8, 0x8100, 0x8100}, {0x88a8, 0x8100, 0x8100, 0x8100}} {
		h := request(ACK | PSH)
		h.seq = uint32(100 * i)
		body := fmt.Sprintf("behind %d tags", i)
		frame := ethernet(typeIP4, ip4Header{}.with(h.with([]byte(body))), tags...)
		copy(frame, server.link("s0").Attrs().HardwareAddr)
		client.must(unix.Send(fd, frame, 0))
		ev := read.wait(func(ev *Event) bool { return ev.Seq == h.seq && ev.SrcPort == peer })
		if string(ev.Payload) != body || ev.VLANMetadata != (len(tags) > 0) || int(ev.VLANTags) != max(len(tags)-1, 0) {
			t.Errorf("%d tags: %q, in the bytes %d, beside them %v", len(tags), ev.Payload, ev.VLANTags, ev.VLANMetadata)
		}
	}
}

// tun makes a tun or tap device and returns its file.
func (s *space) tun(name string, flags uint16) *os.File {
	s.Helper()
	var f *os.File
	s.in(func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		s.must(err)
		req, err := unix.NewIfreq(name)
		s.must(err)
		req.SetUint16(flags)
		s.must(unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
		f = os.NewFile(uintptr(fd), name)
		l, err := netlink.LinkByName(name)
		s.must(err)
		s.must(netlink.LinkSetMTU(l, 9000))
		addr, err := netlink.ParseAddr(serverIP4 + "/24")
		s.must(err)
		s.must(netlink.AddrAdd(l, addr))
		s.must(netlink.LinkSetUp(l))
	})
	s.Cleanup(func() { f.Close() })
	return f
}

// TestNoLinkHeaderLive: a tun device, whose packets begin with the IP header,
// in both directions.
func TestNoLinkHeaderLive(t *testing.T) {
	here := newSpace(t)
	f := here.tun("tun0", unix.IFF_TUN|unix.IFF_NO_PI)
	m := newMaps(t, MapsConfig{})
	if err := m.SetPorts([]uint16{port, 8081}); err != nil {
		t.Fatal(err)
	}
	for hook, d := range map[ebpf.AttachType]Direction{ebpf.AttachTCXIngress: Requests, ebpf.AttachTCXEgress: Both} {
		prog, err := m.Load(TapConfig{LinkHeader: 0, Direction: d})
		if err != nil {
			t.Fatal(err)
		}
		defer prog.Close()
		here.attach(prog, "tun0", hook)
	}
	read := collect(t, m)
	for _, packet := range [][]byte{
		ip4Header{src: clientIP4, dst: serverIP4}.with(request(ACK).with([]byte("over tun"))),
		ip6Header{src: clientIP6, dst: serverIP6}.with(tcpHeader{src: peer, dst: port, seq: 6000}.with([]byte("over tun"))),
	} {
		if _, err := f.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	for _, seq := range []uint32{1000, 6000} {
		ev := read.wait(func(ev *Event) bool { return ev.SrcPort == peer && ev.Seq == seq })
		if string(ev.Payload) != "over tun" || ev.DstPort != port {
			t.Errorf("event is %+v", ev)
		}
	}
	// Out: the SYN of a connection to an address behind the device.
	here.in(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		here.must(err)
		defer unix.Close(fd)
		to := netip.MustParseAddr(clientIP4).As4()
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 8081, Addr: to}); err != unix.EINPROGRESS {
			t.Error(err)
		}
		ev := read.wait(func(ev *Event) bool { return ev.DstPort == 8081 })
		if ev.Flags != SYN || ev.Dst != netip.AddrFrom4(to).As16() {
			t.Errorf("event is %+v", ev)
		}
	})
}

// TestHeadersInFragments: a packet whose IP and TCP headers are not in the
// linear part of the skb.
func TestHeadersInFragments(t *testing.T) {
	here := newSpace(t)
	f := here.tun("tap0", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
	m := newMaps(t, MapsConfig{})
	if err := m.SetPorts([]uint16{port}); err != nil {
		t.Fatal(err)
	}
	prog, err := m.Load(ethernetBoth)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	here.attach(prog, "tap0", ebpf.AttachTCXIngress)
	linear := watchLinear(here, "tap0")
	read := collect(t, m)
	body := pattern(6000)
	for i, frame := range [][]byte{
		ethernet(typeIP4, ip4Header{options: make([]byte, 8)}.with(request(ACK).with(body))),
		ethernet(typeIP6, ip6Header{next: 60}.with(extension(6, 1, request(PSH).with(body))), 0x8100, 0x8100),
	} {
		copy(frame, here.link("tap0").Attrs().HardwareAddr)
		// struct virtio_net_hdr: hdr_len is how much goes into the linear part.
		header := make([]byte, 10)
		binary.LittleEndian.PutUint16(header[2:], 14)
		if _, err := f.Write(append(header, frame...)); err != nil {
			t.Fatal(err)
		}
		flags := []uint8{ACK, PSH}[i]
		ev := read.wait(func(ev *Event) bool { return ev.SrcPort == peer && ev.Flags == flags })
		if !bytes.Equal(ev.Payload, body) || ev.Seq != 1000 {
			t.Errorf("%d bytes of payload, seq %d", len(ev.Payload), ev.Seq)
		}
		if n := linear(); n > 14+40 {
			t.Errorf("frame %d: %d bytes were linear: this tested nothing", i, n)
		}
	}
}

// watchLinear attaches a program behind ours that notes how many bytes of a
// long packet were linear; linear waits for it.
func watchLinear(s *space, name string) (linear func() uint64) {
	s.Helper()
	note, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	s.must(err)
	s.Cleanup(func() { note.Close() })
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // len
		asm.JLT.Imm(asm.R2, 5000, "out"),
		asm.LoadMem(asm.R6, asm.R1, 80, asm.Word), // data_end
		asm.LoadMem(asm.R7, asm.R1, 76, asm.Word), // data
		asm.Sub.Reg(asm.R6, asm.R7),
		asm.StoreImm(asm.R10, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, note.FD()),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.StoreMem(asm.R0, 0, asm.R6, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"),
		asm.Return(),
	}})
	s.must(err)
	s.Cleanup(func() { prog.Close() })
	index := s.link(name).Attrs().Index
	s.in(func() {
		l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: ebpf.AttachTCXIngress, Anchor: link.Tail()})
		s.must(err)
		s.Cleanup(func() { l.Close() })
	})
	return func() (n uint64) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(10 * time.Second); n == 0; <-tick.C {
			s.must(note.Lookup(uint32(0), unsafe.Pointer(&n)))
			if time.Now().After(deadline) {
				s.Fatal("the packet did not pass on behind the tap")
			}
		}
		s.must(note.Put(uint32(0), uint64(0)))
		return n
	}
}
