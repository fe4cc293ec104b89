package replay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashCase) != "" {
		dieInDone()
	}
	if os.Getenv(benchServer) != "" {
		serveBench()
		return
	}
	// net/http reads these at its first question for a proxy and never again, so
	// a test that sets them alone comes too late. Nobody listens there.
	for _, name := range proxyVariables {
		os.Setenv(name, "http://127.0.0.1:1")
	}
	os.Unsetenv("NO_PROXY")
	os.Unsetenv("no_proxy")
	goleak.VerifyTestMain(m)
}

// proxyVariables name a proxy that no replay may go through.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"}

// patience bounds every wait of a test.
const patience = 40 * time.Second

// request builds an exchange as capture gives it. head is the request line and
// the fields, without the last empty line.
func request(body string, head ...string) *exchange.Exchange {
	method, rest, _ := strings.Cut(head[0], " ")
	target, proto, _ := strings.Cut(rest, " ")
	q := &exchange.Request{
		Method: method, Target: target, Proto: proto,
		Head:      crlf(head...),
		FirstByte: time.Now().UnixNano(),
	}
	for _, l := range head[1:] {
		name, value, _ := strings.Cut(l, ":")
		q.Header = append(q.Header, exchange.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	q.Host = q.Header.Get("Host")
	if body != "" {
		q.Wire = []byte(body)
		q.Framing = exchange.FramingLength
		q.Body = exchange.Body{Bytes: q.Wire, Size: int64(len(body))}
		if q.Header.Has("Transfer-Encoding") {
			q.Framing = exchange.FramingChunked
			q.Body.Bytes = nil
		}
	}
	q.LastByte = q.FirstByte
	return &exchange.Exchange{ID: "0123456789abcdef", Request: q, Response: &exchange.Response{Status: 200, FirstByte: q.LastByte + 1, LastByte: q.LastByte + 1}}
}

func get(target string) *exchange.Exchange {
	return request("", "GET "+target+" HTTP/1.1", "Host: users.example")
}

func post(target, body string) *exchange.Exchange {
	return request(body, "POST "+target+" HTTP/1.1", "Host: users.example", "Content-Length: "+strconv.Itoa(len(body)))
}

// pair is one call of Done.
type pair struct {
	x *exchange.Exchange
	*Outcome
}

// running is a Replayer with its Run, and what Done got.
type running struct {
	*Replayer
	t     *testing.T
	pairs chan pair
	ended chan struct{}
	halt  context.CancelFunc
	// skipped are the calls of Skipped.
	skipped [NumResults]atomic.Uint64
}

// config is the least that New takes.
func config(url string) Config {
	return Config{Experiment: "users", Role: "candidate", URL: url, Log: slog.New(slog.DiscardHandler)}
}

// start makes a Replayer that runs until the test ends, and then checks its
// ledger.
func start(t *testing.T, c Config) *running {
	t.Helper()
	u := &running{t: t, pairs: make(chan pair, 4096), ended: make(chan struct{})}
	if c.Done == nil {
		c.Done = func(x *exchange.Exchange, o *Outcome) { u.pairs <- pair{x, o} }
	}
	// Who is told why each exchange is not compared is told what is counted.
	told := c.Skipped
	c.Skipped = func(x *exchange.Exchange, r Result) {
		u.skipped[r].Add(1)
		if told != nil {
			told(x, r)
		}
	}
	var err error
	if u.Replayer, err = New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.halt = cancel
	go func() {
		defer close(u.ended)
		if err := u.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-u.ended
		s := u.Stats()
		if s.InFlight != 0 || s.Workers != 0 {
			t.Errorf("at rest: %d in flight, %d workers", s.InFlight, s.Workers)
		}
		for r := Compared + 1; r < NumResults; r++ {
			if n := u.skipped[r].Load(); n != s.Results[r] {
				t.Errorf("%d exchanges are %s, of which %d were told", s.Results[r], r, n)
			}
		}
		if c := s.Control; c != nil && (c.InFlight != 0 || u.control.Stats().Workers != 0) {
			t.Errorf("at rest: %+v, and workers of the control", c)
		}
		if used := u.config.Memory; used != nil && used.Used() != 0 {
			t.Errorf("at rest: %d bytes are held", used.Used())
		}
		u.balanced()
	})
	return u
}

func (u *running) balanced() Stats {
	u.t.Helper()
	s := u.Stats()
	sum := uint64(s.InFlight)
	s.Each(func(_ string, n uint64) { sum += n })
	if sum != s.Selected {
		u.t.Errorf("ledger: %d selected, %d in results and in flight: %+v", s.Selected, sum, s)
	}
	var failed uint64
	s.EachError(func(_ string, n uint64) { failed += n })
	if failed > s.Results[Compared] {
		u.t.Errorf("ledger: %d errors of %d compared", failed, s.Results[Compared])
	}
	if c := s.Control; c != nil {
		sum := uint64(c.InFlight)
		for _, e := range c.Ends {
			sum += e.N
		}
		if sum != c.Chosen {
			u.t.Errorf("ledger: %d chosen for the control, %d in results and in flight: %+v", c.Chosen, sum, c)
		}
	}
	return s
}

// next is the next call of Done.
func (u *running) next() pair {
	u.t.Helper()
	select {
	case p := <-u.pairs:
		return p
	case <-time.After(patience):
		u.t.Fatalf("no outcome: %+v", u.Stats())
		panic("not reached")
	}
}

// one replays x and gives what came of it, once its worker is free again.
func (u *running) one(x *exchange.Exchange) pair {
	u.t.Helper()
	u.Submit(x)
	p := u.next()
	u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
	return p
}

// timed is one with the time that it took to the outcome.
func (u *running) timed(x *exchange.Exchange) (pair, time.Duration) {
	u.t.Helper()
	begin := time.Now()
	u.Submit(x)
	p := u.next()
	took := time.Since(begin)
	u.until("at rest", func(s Stats) bool { return s.InFlight == 0 })
	return p, took
}

// until waits for a condition on the counts.
func (u *running) until(what string, f func(Stats) bool) Stats {
	u.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		if s := u.balanced(); f(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-end:
			u.t.Fatalf("never %s: %+v", what, u.Stats())
		}
	}
}

// ok demands an answer with that status and body.
func (p pair) ok(t *testing.T, status int, body string) {
	t.Helper()
	if p.Error != "" {
		t.Fatalf("error %s: %s", p.Error, p.Detail)
	}
	if p.Response.Status != status || string(p.Response.Body.Bytes) != body {
		t.Fatalf("got %d %q, want %d %q", p.Response.Status, p.Response.Body.Bytes, status, body)
	}
}

// failed demands an error word.
func (p pair) failed(t *testing.T, word string) {
	t.Helper()
	if p.Error != word || p.Response != nil || p.Detail == "" {
		t.Fatalf("got error %q (%s), response %+v; want %q", p.Error, p.Detail, p.Response, word)
	}
}

// server is a TCP server of a test, written out by hand.
type server struct {
	net.Listener
	url string

	mu    sync.Mutex
	conns int
	open  map[net.Conn]bool
}

// serve answers each connection with f, which owns it until it returns. n
// counts the connections from 0.
func serve(t *testing.T, f func(c net.Conn, n int)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: l, url: "http://" + l.Addr().String(), open: make(map[net.Conn]bool)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			n := s.conns
			s.conns++
			s.open[c] = true
			s.mu.Unlock()
			wg.Go(func() {
				f(c, n)
				c.Close()
				s.mu.Lock()
				delete(s.open, c)
				s.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.hangUp()
		wg.Wait()
	})
	return s
}

// hangUp closes every connection.
func (s *server) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.Close()
	}
}

func (s *server) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

// readHead reads up to and with the empty line, "" when the connection ended.
func readHead(c net.Conn) string {
	var b []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(b, []byte("\r\n\r\n")) {
		if _, err := io.ReadFull(c, one); err != nil {
			return ""
		}
		b = append(b, one...)
	}
	return string(b)
}

// answer makes a server that reads a head and then writes what f gives, until
// f gives "".
func answer(t *testing.T, f func(head string) string) *server {
	return serve(t, func(c net.Conn, _ int) {
		for {
			h := readHead(c)
			if h == "" {
				return
			}
			a := f(h)
			if a == "" {
				return
			}
			if _, err := io.WriteString(c, a); err != nil {
				return
			}
		}
	})
}

// drain reads until the other side ends the connection.
func drain(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// mock answers every request with 200 and "ok".
const mockOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
