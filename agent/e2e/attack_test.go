//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// Where attacks go: a port of the server that the agent captures beside the
// reference's.
const (
	attackAddr = "10.77.2.2:8081"
	attackPort = 8081
)

// attack is traffic that costs its sender little. Beside it a steady load goes
// on, and each exchange of it must be told as ever.
type attack struct {
	name string
	// serve handles a connection to attackAddr; nil reads and drops.
	serve func(net.Conn)
	// settings are added to the agent's default ones.
	settings settings
	// run attacks; it returns when everything is sent.
	run func(t *testing.T, b *battle)
	// told checks what the ledger and the lines say. Nil is nothing.
	told func(t *testing.T, b *battle)
}

// battle is an attack under way.
type battle struct {
	*stage
	agent *agent
	r     *reference
	// slow is for exchanges of the attack's own with the reference.
	slow   *mixedLoad
	ledger telemetry.Ledger
	// metrics is what /metrics said at the end of the attack.
	metrics string
	lines   []exchangeLine // of attackAddr
	size    int64          // what the attack sent, where it matters
	// unproven is what was not seen, and nothing but lost packets excuses.
	unproven []string
}

func (b *battle) unseen(format string, values ...any) {
	b.unproven = append(b.unproven, fmt.Sprintf(format, values...))
}

// TestAttack attacks the agent at its default memory.
func TestAttack(t *testing.T) {
	for _, k := range attacks() {
		t.Run(k.name, func(t *testing.T) { proven(t, k.fight) })
	}
}

// proven makes a run again that a machine too busy to give the agent time has
// spoilt: it lost packets, and said so, and what the run is for was not seen.
func proven(t *testing.T, run func(*testing.T) bool) {
	t.Helper()
	for try := 1; !run(t); try++ {
		if try == 3 || t.Failed() {
			t.Fatal("packets were lost three times: the machine is too busy for a proof")
		}
	}
}

// fight is one run; false when lost packets kept from sight what it is for.
func (k attack) fight(t *testing.T) bool {
	const steady, slow = 200000, 300
	s := newStage(t)
	b := &battle{stage: s, r: startReference(t, s, steady+slow)}
	b.slow = &mixedLoad{from: s.client, begin: steady, counts: [protocols]int{http1: slow}, workers: [protocols]int{http1: 16}, bytewise: true}
	k.listen(t, s)
	file := filepath.Join(t.TempDir(), "exchanges.jsonl")
	c := k.settings
	const memory = 256 << 20
	c.memory, c.ports, c.flags = "256MiB", "[8080, 8081]", []string{"--exchanges-to", file}
	b.agent = startAgent(t, s, c)
	l := &mixedLoad{from: s.client, counts: [protocols]int{http1: steady}, workers: [protocols]int{http1: 4}, pause: 5 * time.Millisecond}
	sent := l.start(t)
	peak := b.agent.watchMemory()
	began := time.Now()
	k.run(t, b)
	took := time.Since(began)
	_, b.metrics = b.agent.get(t, "/metrics")
	// The attack may have taken no time, and what it broke shows later.
	after := sent.done.Load() + 200
	bed.Poll(t, 30*time.Second, "the load beside the attack goes on", func() (bool, string) {
		n := sent.done.Load()
		return n >= after, fmt.Sprintf("%d exchanges of %d", n, after)
	})
	sent.stop(t)
	b.ledger = b.agent.survived(t, true)
	most := peak()
	b.agent.stop(t)

	if most > memory {
		t.Errorf("the agent took %d MiB, configured are %d", most>>20, memory>>20)
	}
	confirmed := b.r.confirmFile(t, file, func(x *exchangeLine) { b.lines = append(b.lines, *x) })
	// Nothing but a lost packet excuses a missing exchange.
	missing := b.r.count - confirmed
	if lost := lostPackets(b.ledger); uint64(missing) > lost {
		t.Errorf("%d of %d exchanges beside the attack are missing, and %d packets were lost, as %s",
			missing, b.r.count, lost, strings.Join(b.r.unconfirmed(3), ", "))
	}
	if confirmed*2 < b.r.count {
		b.unseen("only %d of %d exchanges beside the attack were told", confirmed, b.r.count)
	}
	t.Attr("attack", fmt.Sprintf("%v; memory at most %d MiB; beside it %d exchanges, %d told; lost %s; connections evicted %s; exchanges %v",
		took.Round(time.Millisecond), most>>20, b.r.count, confirmed, lossWords(b.ledger), b.metric("shadowtap_evicted_connections_total"), b.ledger["exchanges"]))
	if k.told != nil {
		k.told(t, b)
	}
	lost := lostPackets(b.ledger) > 0
	for _, u := range b.unproven {
		if lost {
			t.Logf("%s, and packets were lost: again", u)
		} else {
			t.Error(u)
		}
	}
	return !lost || len(b.unproven) == 0
}

// lossWords names why packets were lost, and how many.
func lossWords(l telemetry.Ledger) string {
	var words []string
	for _, word := range []string{"ring_full", "copy_failed", "no_reader", "over_budget"} {
		if n := l["kernel_packets"][word]; n > 0 {
			words = append(words, fmt.Sprintf("%s %d", word, n))
		}
	}
	return cmp.Or(strings.Join(words, ", "), "nothing")
}

// metric gives the value of a metric without labels.
func (b *battle) metric(name string) string {
	for line := range strings.Lines(b.metrics) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "none"
}

func (b *battle) number(t *testing.T, name string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(b.metric(name), 64)
	if err != nil {
		t.Fatalf("metric %s: %v", name, err)
	}
	return n
}

// watchMemory looks at the agent's memory until the returned function is called,
// which gives the most that it saw.
func (a *agent) watchMemory() func() int64 {
	done, peak := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-done:
				peak <- most
				return
			}
			if n, err := a.process.Memory(); err == nil {
				most = max(most, n)
			}
		}
	}()
	return func() int64 {
		close(done)
		return <-peak
	}
}

// listen serves attackAddr until the test ends.
func (k attack) listen(t *testing.T, s *stage) {
	t.Helper()
	serve := k.serve
	if serve == nil {
		serve = drop
	}
	l := s.server.Listen(t, "tcp", attackAddr)
	var serving sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			serving.Go(func() {
				serve(conn)
				conn.Close()
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
}

// drop reads to the end and drops.
func drop(conn net.Conn) {
	buf := make([]byte, 256<<10)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// eachOf runs f on n connections to attackAddr at a time and closes them
// together, when all have returned.
func (b *battle) eachOf(t *testing.T, n int, f func(i int, conn net.Conn) error) {
	t.Helper()
	conns := make([]net.Conn, n)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		conn, err := b.client.DialContext(t.Context(), "tcp", attackAddr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(120 * time.Second))
		conns[i] = conn
		wg.Go(func() { errs[i] = f(i, conn) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// flood is how many bytes a second the attacks send that a reader must follow
// to the last byte: less than what a machine of two cores can pass, copy and
// hash beside everything else, so that what is tested is not its CPU.
const flood = 256 << 20

// writeAgain writes piece until n bytes are written, at most rate bytes a
// second.
func writeAgain(w io.Writer, piece []byte, n, rate int64) error {
	began, sent := time.Now(), int64(0)
	for n > 0 {
		ahead := time.Duration(float64(sent)/float64(rate)*1e9) - time.Since(began)
		if ahead > time.Millisecond {
			<-time.After(ahead)
		} else if ahead < -20*time.Millisecond {
			began = began.Add(-ahead) // what was missed is not made up for
		}
		k, err := w.Write(piece[:min(n, int64(len(piece)))])
		if err != nil {
			return err
		}
		n -= int64(k)
		sent += int64(k)
	}
	return nil
}

// scaled is a number for the long form of the tests, or less.
func scaled(n int64, short int64) int64 {
	if long() {
		return n
	}
	return short
}

func attacks() []attack {
	const halfOpen = 400000 // more than there is room for, at 272 bytes each
	return append(http2Attacks(), []attack{
		{
			name: "half-open flows",
			run: func(t *testing.T, b *battle) {
				b.halfOpen(t, halfOpen)
				// Each is remembered, or was evicted, or its packet was lost.
				bed.Poll(t, 10*time.Second, "every half-open flow is counted", func() (bool, string) {
					_, b.metrics = b.agent.get(t, "/metrics")
					known := b.number(t, "shadowtap_connections") + b.number(t, "shadowtap_evicted_connections_total")
					lost := float64(lostPackets(b.agent.status(t).Ledger))
					return known+lost >= halfOpen, fmt.Sprintf("%.0f connections known, %.0f packets lost, of %d", known, lost, halfOpen)
				})
			},
			told: func(t *testing.T, b *battle) {
				// More than fit: something was evicted, and counted.
				if b.number(t, "shadowtap_evicted_connections_total") == 0 {
					b.unseen("nothing was evicted")
				}
			},
		},
		{
			name: "headers that never end",
			run: func(t *testing.T, b *battle) {
				// More than what a head may have on some, just less on the others,
				// which so keep it.
				b.eachOf(t, 3000, func(i int, conn net.Conn) error {
					size := int64(60 << 10)
					if i%100 == 0 {
						size = 4 << 20
					}
					if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: attack\r\nX-Long: "); err != nil {
						return err
					}
					return writeAgain(conn, bytes.Repeat([]byte("x"), 20000), size, flood)
				})
			},
			told: func(t *testing.T, b *battle) {
				if n := b.ledger["exchanges"]["too_large"]; n == 0 {
					b.unseen("no head was too large")
				}
				if b.ledger["exchanges"]["evicted"] == 0 {
					b.unseen("no head was evicted")
				}
				if n := b.ended(); n != 3000 {
					b.unseen("%d exchanges ended without a line of 3000", n)
				}
			},
		},
		{
			name: "segments of one byte",
			run: func(t *testing.T, b *battle) {
				b.slow.start(t).wait(t)
			},
		},
		{
			name: "chunked bodies that never end",
			serve: func(conn net.Conn) {
				// The answer to a request that has begun.
				if _, err := conn.Read(make([]byte, 1024)); err != nil {
					return
				}
				go drop(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				writeAgain(conn, chunkedPiece, scaled(128<<20, 16<<20), flood/16)
			},
			run: func(t *testing.T, b *battle) {
				b.eachOf(t, 8, func(_ int, conn net.Conn) error {
					if _, err := io.WriteString(conn, "POST /endless HTTP/1.1\r\nHost: attack\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
						return err
					}
					if err := writeAgain(conn, chunkedPiece, scaled(128<<20, 16<<20), flood/16); err != nil {
						return err
					}
					_, err := io.Copy(io.Discard, conn)
					return err
				})
			},
			told: func(t *testing.T, b *battle) {
				if n := b.ended(); n != 8 {
					b.unseen("%d exchanges ended without a line of 8", n)
				}
				if len(b.lines) > 0 {
					t.Errorf("an exchange that did not end: %+v", b.lines[0])
				}
			},
		},
		{
			name: "a body of 10 GB",
			serve: func(conn net.Conn) {
				buf := make([]byte, 1<<20)
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				head, _, _ := bytes.Cut(buf[:n], []byte("\r\n\r\n"))
				_, length, _ := bytes.Cut(head, []byte("Content-Length: "))
				left, err := strconv.ParseInt(string(length), 10, 64)
				for left -= int64(n - len(head) - 4); left > 0 && err == nil; left -= int64(n) {
					n, err = conn.Read(buf)
				}
				io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
				drop(conn)
			},
			run: func(t *testing.T, b *battle) {
				b.size = scaled(10_000_000_000, 500_000_000)
				b.eachOf(t, 1, func(_ int, conn net.Conn) error {
					if _, err := fmt.Fprintf(conn, "PUT /huge HTTP/1.1\r\nHost: attack\r\nContent-Length: %d\r\n\r\n", b.size); err != nil {
						return err
					}
					if err := writeAgain(conn, make([]byte, 1<<20), b.size, flood); err != nil {
						return err
					}
					answer := make([]byte, 1024)
					_, err := conn.Read(answer)
					return err
				})
			},
			told: func(t *testing.T, b *battle) {
				switch {
				case len(b.lines) == 0:
					b.unseen("the body has no line")
				case len(b.lines) > 1 || b.lines[0].Request.Len != b.size:
					t.Errorf("lines %+v", b.lines)
				}
			},
		},
		gzipBomb(),
	}...)
}

// ended is how many exchanges came to another end than a line.
func (b *battle) ended() (n uint64) {
	for result, k := range b.ledger["exchanges"] {
		if result != "complete" {
			n += k
		}
	}
	return n
}

// chunkedPiece is a chunk of 16 KiB.
var chunkedPiece = []byte("4000\r\n" + strings.Repeat("y", 0x4000) + "\r\n")

// bomb is zeros, a thousand times as many as bytes, and an end.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	writeAgain(w, make([]byte, 1<<20), 900<<20, 1<<40)
	w.Close()
	return b.Bytes()
})

// gzipBomb answers with a body that is a thousand times larger when it is
// compared.
func gzipBomb() attack {
	const count = 40
	return attack{
		name: "a gzip bomb",
		settings: settings{
			candidate: candidateURL, port: attackPort, replay: "{timeout: 5s, max_in_flight: 64}",
		},
		serve: func(conn net.Conn) {
			server := &http.Server{Handler: http.HandlerFunc(answerBomb)}
			serveOne(server, conn)
		},
		run: func(t *testing.T, b *battle) {
			serveOn(t, b.candidate, candidateIP+":9090", answerBomb)
			b.eachOf(t, count, func(i int, conn net.Conn) error {
				if _, err := fmt.Fprintf(conn, "GET /bomb/%d HTTP/1.1\r\nHost: attack\r\nConnection: close\r\n\r\n", i); err != nil {
					return err
				}
				_, err := io.Copy(io.Discard, conn)
				return err
			})
			bed.Poll(t, 60*time.Second, "the bombs are compared", func() (bool, string) {
				l := b.agent.status(t).Ledger
				return l["replays"]["compared"]+l["replays"]["shed"] == count, fmt.Sprint(l["replays"], l["comparisons"])
			})
		},
		told: func(t *testing.T, b *battle) {
			t.Attr("bombs", fmt.Sprintf("%d bytes; %v; %v", len(bomb()), b.ledger["replays"], b.ledger["comparisons"]))
			if b.ledger["replays"]["compared"] == 0 {
				t.Error("no bomb was compared")
			}
		},
	}
}

// answerBomb differs in its first byte, so that the texts must be looked at.
func answerBomb(w http.ResponseWriter, q *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Encoding", "gzip")
	h.Set("Content-Length", strconv.Itoa(len(bomb())))
	b := bytes.Clone(bomb())
	if q.Header.Get("X-Shadow-Test-Role") != "" {
		b[4] ^= 1 // the time of the file: other bytes, the same content
	}
	w.Write(b)
}

// serveOne serves HTTP on one connection to its end.
func serveOne(server *http.Server, conn net.Conn) {
	closed := make(chan struct{})
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(closed)
		}
	}
	one := &oneListener{conn: make(chan net.Conn, 1), closed: closed}
	one.conn <- conn
	server.Serve(one)
}

// oneListener hands out one connection and ends with it.
type oneListener struct {
	conn   chan net.Conn
	closed chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conn:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

// halfOpen sends n SYNs from as many addresses straight out of the tapped
// interface. The server's answers find no way back.
func (b *battle) halfOpen(t *testing.T, n int) {
	t.Helper()
	var to net.HardwareAddr
	b.server.Must(t, func() error {
		l, err := netlink.LinkByName("eth0")
		if err == nil {
			to = l.Attrs().HardwareAddr
		}
		return err
	})
	b.node.Must(t, func() error {
		l, err := netlink.LinkByName(tapped)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		at := &unix.SockaddrLinklayer{Protocol: 0x0008 /* IPv4, in network order */, Ifindex: l.Attrs().Index}
		server := netip.MustParseAddrPort(attackAddr)
		for i := range n {
			// 198.18.0.0/15 is for tests (RFC 2544).
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), uint16(1024+i>>16))
			frame, until := synFrame(to, from, server, uint32(i)), time.Now().Add(10*time.Second)
			err := unix.Sendto(fd, frame, 0, at)
			// The server's queue is full. What the tap saw of it is seen once more,
			// as a client's second SYN would be.
			for err == unix.ENOBUFS && time.Now().Before(until) {
				runtime.Gosched()
				err = unix.Sendto(fd, frame, 0, at)
			}
			if err != nil {
				return fmt.Errorf("send SYN %d: %w", i, err)
			}
		}
		return nil
	})
}

// synFrame is an Ethernet frame with a SYN.
func synFrame(to net.HardwareAddr, from, dst netip.AddrPort, seq uint32) []byte {
	const eth, ip, tcp = 14, 20, 20
	f := make([]byte, eth+ip+tcp)
	copy(f, to)
	copy(f[6:], []byte{2, 0, 0, 0, 0, 1})
	f[12] = 0x08 // IPv4
	h := f[eth:]
	h[0] = 0x45
	binary.BigEndian.PutUint16(h[2:], ip+tcp)
	h[8], h[9] = 64, unix.IPPROTO_TCP
	copy(h[12:], from.Addr().AsSlice())
	copy(h[16:], dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(0, h[:ip]))
	s := h[ip:]
	binary.BigEndian.PutUint16(s, from.Port())
	binary.BigEndian.PutUint16(s[2:], dst.Port())
	binary.BigEndian.PutUint32(s[4:], seq)
	s[12], s[13] = tcp/4<<4, 0x02 // SYN
	binary.BigEndian.PutUint16(s[14:], 65535)
	// The pseudo header (RFC 9293 section 3.1): addresses, protocol, length.
	binary.BigEndian.PutUint16(s[16:], checksum(unix.IPPROTO_TCP+tcp, append(bytes.Clone(h[12:20]), s...)))
	return f
}

// checksum is that of RFC 1071 over b, which has an even length.
func checksum(sum uint32, b []byte) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
