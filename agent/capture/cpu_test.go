package capture

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shadowtap/shadowtap/agent/attach"
	"github.com/shadowtap/shadowtap/agent/attach/netnstest"
	"github.com/shadowtap/shadowtap/bpf"
)

// loadEnv makes the test binary the load of BenchmarkCPU.
const loadEnv = "SHADOWTAP_TEST_CAPTURE_LOAD"

func TestMain(m *testing.M) {
	if rate := os.Getenv(loadEnv); rate != "" {
		if err := load(rate); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	loadSize = 4096
	loadHead = "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n"
	loadAsk  = "GET /4k HTTP/1.1\r\nHost: 10.1.0.1:8080\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n"
)

// load asks rate times a second for 4 KiB over 20 connections, between the
// listener in file descriptor 3 and the sockets behind it, until standard input
// ends. Then it prints the number of exchanges.
func load(rate string) error {
	perSecond, err := strconv.Atoi(rate)
	if err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	answer := []byte(loadHead + strings.Repeat("x", loadSize))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				r := bufio.NewReader(c)
				for {
					for line := ""; line != "\r\n"; {
						if line, err = r.ReadString('\n'); err != nil {
							return
						}
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	var conns []net.Conn
	for fd := uintptr(4); fd < 24; fd++ {
		c, err := net.FileConn(os.NewFile(fd, "client"))
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for i, c := range conns {
		wg.Go(func() {
			every := time.Second * time.Duration(len(conns)) / time.Duration(perSecond)
			next := time.Now().Add(every * time.Duration(i) / time.Duration(len(conns)))
			t := time.NewTimer(0)
			b := make([]byte, len(answer))
			n := 0
			for {
				t.Reset(time.Until(next))
				select {
				case <-stop:
					mu.Lock()
					total += n
					mu.Unlock()
					return
				case <-t.C:
				}
				next = next.Add(every)
				io.WriteString(c, loadAsk)
				if _, err := io.ReadFull(c, b); err != nil {
					return
				}
				n++
			}
		})
	}
	wg.Wait()
	fmt.Println(total)
	return nil
}

// BenchmarkCPU measures what reading costs the process, its waits included,
// when nothing comes and at a steady rate of 4 KiB exchanges over veth, which
// another process makes. What the tap does in the kernel is the sender's.
func BenchmarkCPU(b *testing.B) {
	for _, rings := range []int{1, 2} {
		for _, rate := range []int{0, 100, 5000} {
			b.Run(fmt.Sprintf("rings=%d/rate=%d", rings, rate), func(b *testing.B) { benchmarkCPU(b, rings, rate) })
		}
	}
}

func benchmarkCPU(b *testing.B, rings, rate int) {
	client, server := netnstest.New(b), netnstest.New(b)
	netnstest.Veth(b, netnstest.End{NS: client, Name: "eth0", Addresses: []string{"10.1.0.2/24"}},
		netnstest.End{NS: server, Name: "eth0", Addresses: []string{"10.1.0.1/24"}})
	maps, err := bpf.NewMaps(bpf.MapsConfig{Rings: rings})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { maps.Close() })
	if err := maps.SetPorts([]uint16{8080}); err != nil {
		b.Fatal(err)
	}
	a, err := attach.New(attach.Config{Maps: maps, Log: slog.New(slog.DiscardHandler), Interfaces: []attach.Interface{{Name: "eth0", NetNS: server.Path()}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { a.Detach() })
	var sinks []Sink
	for range rings {
		sinks = append(sinks, nothing{})
	}
	live, stop := start(b, maps, sinks...)
	if err := a.Attach(); err != nil {
		b.Fatal(err)
	}
	var cmd *exec.Cmd
	var in io.WriteCloser
	var out io.Reader
	if rate > 0 {
		l := server.Listen(b, "10.1.0.1:8080")
		exe, err := os.Executable()
		if err != nil {
			b.Fatal(err)
		}
		cmd = exec.Command(exe)
		cmd.Env = append(os.Environ(), loadEnv+"="+strconv.Itoa(rate))
		cmd.Stderr = os.Stderr
		// This process must not keep the sockets: its poller would be woken for
		// each of their packets.
		file := func(c interface {
			File() (*os.File, error)
			Close() error
		}) {
			f, err := c.File()
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
		file(l.(*net.TCPListener))
		for range 20 {
			c := client.Dial(b, "10.1.0.1:8080")
			file(c.(*net.TCPConn))
		}
		if in, err = cmd.StdinPipe(); err != nil {
			b.Fatal(err)
		}
		if out, err = cmd.StdoutPipe(); err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
	}
	wait := func(d time.Duration) { <-time.After(d) }
	wait(500 * time.Millisecond)
	s := live.Stats()
	before, cpu, began := s.Sum(), cpuTime(b), time.Now()
	for b.Loop() {
		wait(time.Second)
	}
	spent, took := cpuTime(b)-cpu, time.Since(began)
	s = live.Stats()
	records := float64(s.Sum().Records - before.Records)
	wakes := float64(s.Sum().Wakes - before.Wakes)
	b.ReportMetric(100*spent.Seconds()/took.Seconds(), "%core")
	b.ReportMetric(wakes/took.Seconds(), "wakes/s")
	if rate > 0 {
		in.Close()
		var n int
		if _, err := fmt.Fscan(out, &n); err != nil {
			b.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(records/took.Seconds(), "records/s")
		b.ReportMetric(spent.Seconds()*1e6/took.Seconds()/float64(rate), "us-cpu/exchange")
	}
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	c, err := maps.Counters()
	if err != nil {
		b.Fatal(err)
	}
	if lost := c.Selected() - c.Packets[bpf.Captured] - c.Packets[bpf.NoPayload]; lost > 0 {
		b.Errorf("lost packets: counters %v", c.Packets)
	}
}

func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
