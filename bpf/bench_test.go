package bpf

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// BenchmarkProgram runs the program over one frame as BPF_PROG_TEST_RUN does:
// the cost without the network stack, with warm caches.
func BenchmarkProgram(b *testing.B) {
	for _, c := range []struct {
		name   string
		frame  []byte
		want   Result
		budget uint64
	}{
		{"filter/udp", ethernet(typeIP4, ip4Header{proto: 17}.with(request(ACK).with(pattern(100)))), NotTCP, 0},
		{"filter/ip4", ethernet(typeIP4, ip4Header{}.with(tcpHeader{src: peer, dst: 1, flags: ACK}.with(pattern(100)))), OtherPort, 0},
		{"filter/ip6", ethernet(typeIP6, ip6Header{}.with(tcpHeader{src: peer, dst: 1, flags: ACK}.with(pattern(100)))), OtherPort, 0},
		{"no payload", ethernet(typeIP4, ip4Header{}.with(request(ACK).with(nil))), NoPayload, 0},
		{"copy/100", ethernet(typeIP4, ip4Header{}.with(request(ACK).with(pattern(100)))), Captured, 0},
		{"copy/1448", ethernet(typeIP4, ip4Header{}.with(request(ACK).with(pattern(1448)))), Captured, 0},
		{"copy/3400", ethernet(typeIP4, ip4Header{}.with(request(ACK).with(pattern(3400)))), Captured, 0},
		{"copy/3400 budget", ethernet(typeIP4, ip4Header{}.with(request(ACK).with(pattern(3400)))), Captured, 1 << 40},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := newMaps(b, MapsConfig{RingBytes: 64 << 20})
			tt := newTap(b, m, ethernetBoth, port)
			if err := m.SetCopyBudget(c.budget); err != nil {
				b.Fatal(err)
			}
			var inKernel time.Duration
			for done := 0; done < b.N; {
				n := min(b.N-done, 4000) // what fits into the ring
				m.Control(0).Beat(Now())
				_, each, err := tt.prog.Benchmark(c.frame, n, nil)
				if err != nil {
					b.Fatal(err)
				}
				inKernel += each * time.Duration(n)
				done += n
				skipRecords(b, tt.readers[0])
			}
			b.ReportMetric(float64(inKernel)/float64(b.N), "kernel-ns/packet")
			if got := tt.counters(); got.Packets[c.want] != uint64(b.N) {
				b.Fatalf("%v of %d %s", got.Packets, b.N, c.want)
			}
		})
	}
}

// BenchmarkNothing is what BPF_PROG_TEST_RUN itself takes; it is in each
// kernel-ns of BenchmarkProgram.
func BenchmarkNothing(b *testing.B) {
	prog := nothing(b)
	_, each, err := prog.Benchmark(ethernet(typeIP4, ip4Header{}.with(request(ACK).with(nil))), b.N, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(each), "kernel-ns/packet")
}

// nothing is a program that returns at once.
func nothing(t testing.TB) *ebpf.Program {
	t.Helper()
	needRoot(t)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, -1),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog
}

// BenchmarkLoad is what one attachment's copy of the program takes to load.
func BenchmarkLoad(b *testing.B) {
	m := newMaps(b, MapsConfig{Rings: 2})
	for b.Loop() {
		prog, err := m.Load(ethernetBoth)
		if err != nil {
			b.Fatal(err)
		}
		prog.Close()
	}
}

// skipRecords reads a ring until it is empty.
func skipRecords(t testing.TB, r *ringbuf.Reader) (records, bytes int) {
	var rec ringbuf.Record
	var ev Event
	for {
		err := r.ReadInto(&rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return records, bytes
		}
		if err == nil {
			err = Decode(rec.RawSample, &ev)
		}
		if err != nil {
			t.Fatal(err)
		}
		records++
		bytes += len(ev.Payload)
	}
}

// BenchmarkLive is what the program costs on real packets: exchanges of a
// 200-byte request and a response over TCP between two namespaces, with the
// program on both hooks of the server's interface. One operation is one
// exchange. ns/request and ns/response are per packet that the hook saw, by the
// kernel's own clock (BPF_STATS_RUN_TIME); "nothing" is a program that returns
// at once, so what it takes is the clock's own cost.
func BenchmarkLive(b *testing.B) {
	for _, c := range []struct {
		name    string
		size    int
		port    uint16
		longest uint32
		beat    bool
	}{
		{"nothing", 4096, 1, 0, true},
		{"filter", 4096, 1, longestPayload, true},
		{"no reader", 4096, port, longestPayload, false},
		{"4k", 4096 + 200, port, longestPayload, true},
		{"64k", 64 << 10, port, longestPayload, true},
		{"64k in 16k pieces", 64 << 10, port, 16296, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			client, server := newPair(b, 1500)
			m := newMaps(b, MapsConfig{RingBytes: 64 << 20})
			m.longest = c.longest
			if err := m.SetPorts([]uint16{c.port}); err != nil {
				b.Fatal(err)
			}
			progs := map[Direction]*ebpf.Program{}
			for d, hook := range map[Direction]ebpf.AttachType{Requests: ebpf.AttachTCXIngress, Responses: ebpf.AttachTCXEgress} {
				prog := nothing(b)
				if c.longest != 0 {
					var err error
					if prog, err = m.Load(TapConfig{LinkHeader: 14, Direction: d}); err != nil {
						b.Fatal(err)
					}
					defer prog.Close()
				}
				server.attach(prog, "s0", hook)
				progs[d] = prog
			}
			stop := make(chan struct{})
			var done sync.WaitGroup
			defer done.Wait()
			defer close(stop)
			r := openReaders(b, m)[0]
			if c.beat {
				m.Control(0).Beat(Now())
				done.Go(func() {
					tick := time.NewTicker(2 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							m.Control(0).Beat(Now())
							skipRecords(b, r)
						case <-stop:
							return
						}
					}
				})
			}
			one := exchanges(b, client, server, c.size)
			for range 200 {
				one()
			}
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			b.ResetTimer()
			for range b.N {
				one()
			}
			b.StopTimer()
			for d, unit := range map[Direction]string{Requests: "ns/request", Responses: "ns/response"} {
				s, err := progs[d].Stats()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(s.Runtime)/float64(s.RunCount), unit)
				b.ReportMetric(float64(s.RunCount)/float64(b.N), "packets-"+unit[3:])
			}
			counters, err := m.Counters()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(counters.Lost[0]), "lost")
		})
	}
}

// exchanges opens a connection and returns a function that sends a request of 200
// bytes over it and reads a response of size bytes.
func exchanges(t testing.TB, client, server *space, size int) (one func()) {
	t.Helper()
	var l net.Listener
	server.in(func() {
		var err error
		l, err = net.Listen("tcp", net.JoinHostPort(serverIP4, "8080"))
		server.must(err)
	})
	request, response, got := make([]byte, 200), make([]byte, size), make([]byte, size)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, len(request))
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(response); err != nil {
				return
			}
		}
	}()
	var c net.Conn
	client.in(func() {
		var err error
		c, err = net.Dial("tcp", l.Addr().String())
		client.must(err)
	})
	t.Cleanup(func() {
		c.Close()
		l.Close()
	})
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
	}
}
