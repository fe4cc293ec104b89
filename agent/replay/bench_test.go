package replay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// benchServer is set in the environment of the process that answers, so that
// its CPU is not counted.
const benchServer = "SHADOWTAP_REPLAY_BENCH_SERVER"

// serveBench answers every request with 4 KiB until its standard input ends.
func serveBench() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				first := make([]byte, 3)
				if _, err := io.ReadFull(c, first); err != nil {
					return
				}
				if string(first) == http2.ClientPreface[:3] {
					serveBenchHTTP2(c)
					return
				}
				a := []byte("HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 4096\r\nX-Request-Id: 0123456789\r\n\r\n" + strings.Repeat("x", 4096))
				b := make([]byte, 16<<10)
				n := copy(b, first)
				for {
					k, err := c.Read(b[n:])
					if err != nil {
						return
					}
					if n += k; bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
						n = 0
						if _, err := c.Write(a); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

// serveBenchHTTP2 does the same; it reads no header.
func serveBenchHTTP2(c net.Conn) {
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface)-3)); err != nil {
		return
	}
	var block, b bytes.Buffer
	enc := hpack.NewEncoder(&block)
	enc.SetMaxDynamicTableSize(0) // every answer is the same bytes
	enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	for _, f := range [][2]string{{"server", "bench"}, {"date", "Mon, 23 Nov 2026 12:00:00 GMT"}, {"content-type", "application/json"}, {"content-length", "4096"}, {"x-request-id", "0123456789"}} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	r, w := http2.NewFramer(nil, bufio.NewReaderSize(c, 16<<10)), http2.NewFramer(&b, nil)
	body := bytes.Repeat([]byte("x"), 4096)
	w.WriteSettings()
	for {
		f, err := r.ReadFrame()
		if err != nil {
			return
		}
		if h, ok := f.(*http2.HeadersFrame); ok {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: block.Bytes(), EndHeaders: true})
			w.WriteData(h.StreamID, true, body)
		}
		if _, err := c.Write(b.Bytes()); err != nil {
			return
		}
		b.Reset()
	}
}

func startBenchServer(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), benchServer+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		b.Fatal(err)
	}
	return "http://" + addr
}

// cpu is the processor time of this process, system calls included.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var benchHead = []string{"GET /api/users/4711?expand=all HTTP/1.1", "Host: users.example:8080", "User-Agent: bench", "Accept: application/json",
	"Accept-Encoding: gzip, deflate", "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc", "X-Request-Id: 0123456789", "Connection: keep-alive"}

// drive calls f for each op, rate per second in bursts of a millisecond; 0: as
// fast as f returns.
func drive(b *testing.B, rate int, f func()) {
	begin := time.Now()
	for i := range b.N {
		if rate > 0 {
			if due := time.Duration(i) * time.Second / time.Duration(rate); i%(rate/1000) == 0 && time.Since(begin) < due {
				<-time.After(due - time.Since(begin))
			}
		}
		f()
	}
}

// BenchmarkReplay, BenchmarkReplayHTTP2 and BenchmarkNetHTTP do the same: 4 KiB
// answers, kept and digested. cpu-us/op is what this process took, kernel
// included.
func BenchmarkReplay(b *testing.B) { benchReplay(b, request("", benchHead...)) }

func BenchmarkReplayHTTP2(b *testing.B) {
	var fields []string
	for _, l := range benchHead[2 : len(benchHead)-1] {
		name, value, _ := strings.Cut(l, ": ")
		fields = append(fields, strings.ToLower(name)+": "+value)
	}
	benchReplay(b, get2("/api/users/4711?expand=all", fields...))
}

func benchReplay(b *testing.B, x *exchange.Exchange) {
	url := startBenchServer(b)
	for _, rate := range []int{5000, 0} {
		b.Run(rateName(rate), func(b *testing.B) {
			// A worker is free a moment after Done: the bound must not shed.
			room := make(chan struct{}, 32)
			cfg := config(url)
			cfg.MaxInFlight = 1024
			cfg.Done = func(_ *exchange.Exchange, o *Outcome) {
				if o.Error != "" || o.Response.Body.Size != 4096 {
					b.Errorf("%s %s", o.Error, o.Detail)
				}
				<-room
			}
			r, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			ended := make(chan error)
			ctx, cancel := context.WithCancel(context.Background())
			go func() { ended <- r.Run(ctx) }()
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			drive(b, rate, func() { room <- struct{}{}; r.Submit(x) })
			for range cap(room) {
				room <- struct{}{}
			}
			b.ReportMetric(float64(cpu()-before)/1e3/float64(b.N), "cpu-us/op")
			b.StopTimer()
			s := r.Stats()
			if s.Results[Compared]+s.Results[Shed] > uint64(b.N) || s.Results[Shed] > 0 {
				b.Errorf("%+v", s)
			}
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}

func BenchmarkNetHTTP(b *testing.B) {
	url := startBenchServer(b)
	for _, rate := range []int{5000, 0} {
		b.Run(rateName(rate), func(b *testing.B) {
			tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
			defer tr.CloseIdleConnections()
			jobs := make(chan *exchange.Exchange, 32)
			var wg sync.WaitGroup
			for range 32 {
				wg.Go(func() {
					for x := range jobs {
						ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
						q, err := http.NewRequestWithContext(ctx, x.Request.Method, url+x.Request.Target, nil)
						if err != nil {
							b.Error(err)
						}
						for _, f := range x.Request.Header {
							q.Header.Add(f.Name, f.Value)
						}
						q.Header.Set(RoleHeader, "candidate")
						res, err := tr.RoundTrip(q)
						if err != nil {
							b.Error(err)
							cancel()
							continue
						}
						body, err := io.ReadAll(res.Body)
						res.Body.Close()
						cancel()
						if sha256.Sum256(body); err != nil || len(body) != 4096 {
							b.Error(len(body), err)
						}
					}
				})
			}
			x := request("", benchHead...)
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			drive(b, rate, func() { jobs <- x })
			close(jobs)
			wg.Wait()
			b.ReportMetric(float64(cpu()-before)/1e3/float64(b.N), "cpu-us/op")
		})
	}
}

// BenchmarkSocket is what the kernel takes for the same bytes: one connection,
// a write and a read.
func BenchmarkSocket(b *testing.B) {
	url := startBenchServer(b)
	for _, rate := range []int{5000, 0} {
		b.Run(rateName(rate), func(b *testing.B) {
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			q, buf := crlf(benchHead...), make([]byte, bufferSize)
			before := cpu()
			drive(b, rate, func() {
				if _, err := c.Write(q); err != nil {
					b.Fatal(err)
				}
				for n := 0; n < 4096+150; { // the head is at least that long
					k, err := c.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					n += k
				}
			})
			b.ReportMetric(float64(cpu()-before)/1e3/float64(b.N), "cpu-us/op")
		})
	}
}

// BenchmarkDriver is what the pace itself takes, part of every 5000_per_s.
func BenchmarkDriver(b *testing.B) {
	before := cpu()
	drive(b, 5000, func() {})
	b.ReportMetric(float64(cpu()-before)/1e3/float64(b.N), "cpu-us/op")
}

func rateName(rate int) string {
	if rate == 0 {
		return "closed"
	}
	return fmt.Sprintf("%d_per_s", rate)
}
