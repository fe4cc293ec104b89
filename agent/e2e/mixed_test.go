//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

// mixedLoad sends exchanges as planOf has them, in a closed loop, and checks
// every answer to its last byte.
type mixedLoad struct {
	from *bed.Namespace
	// counts is how many exchanges there are of each protocol; their numbers
	// follow each other in this order.
	counts [protocols]int
	// workers is how many connections send at a time, of each protocol.
	workers [protocols]int
	// begin is the number of the first exchange.
	begin int
	// pause is what a worker waits between exchanges.
	pause time.Duration
	// bytewise sends HTTP/1 requests a byte at a time.
	bytewise bool
}

// all is the number of all exchanges.
func (l *mixedLoad) all() (n int) {
	for _, c := range l.counts {
		n += c
	}
	return n
}

// first is the number of a protocol's first exchange.
func (l *mixedLoad) first(proto protocol) (n int) {
	n = l.begin
	for p := range proto {
		n += l.counts[p]
	}
	return n
}

// sending is a mixedLoad under way.
type sending struct {
	load    *mixedLoad
	ctx     context.Context
	cancel  context.CancelFunc
	next    [protocols]atomic.Int64
	workers sync.WaitGroup
	began   time.Time
	enough  atomic.Bool
	done    atomic.Int64

	mu     sync.Mutex
	failed []string
}

// start begins to send. The load ends at the latest with the test.
func (l *mixedLoad) start(t *testing.T) *sending {
	t.Helper()
	blocks()
	ctx, cancel := context.WithCancel(context.Background())
	s := &sending{load: l, ctx: ctx, cancel: cancel, began: time.Now()}
	t.Cleanup(func() { cancel(); s.workers.Wait() })
	work := [protocols]func(w int) error{
		http1:     func(w int) error { return s.http1(w, http1, 1) },
		pipelined: func(w int) error { return s.http1(w, pipelined, 8) },
		http2:     s.http2, grpcCalls: s.grpc,
	}
	for proto, n := range l.workers {
		if l.counts[proto] == 0 {
			continue
		}
		for w := range n {
			s.workers.Go(func() {
				if err := work[proto](w); err != nil && ctx.Err() == nil {
					s.fail(err)
				}
			})
		}
	}
	return s
}

// stop sends nothing more, waits for what was begun, and fails the test when
// anything failed.
func (s *sending) stop(t *testing.T) {
	t.Helper()
	s.enough.Store(true)
	s.workers.Wait()
	s.cancel()
	s.requireNoFailure(t)
}

// wait waits for the end and fails the test when anything failed: the reference
// path is not to be touched.
func (s *sending) wait(t *testing.T) {
	t.Helper()
	s.workers.Wait()
	s.cancel()
	s.requireNoFailure(t)
	if n := s.done.Load(); n != int64(s.load.all()) {
		t.Fatalf("the client had %d answers of %d", n, s.load.all())
	}
}

func (s *sending) requireNoFailure(t *testing.T) {
	t.Helper()
	if n := len(s.failed); n > 0 {
		t.Fatalf("%d exchanges failed at the client, as %s", n, s.failed[0])
	}
}

// rate is the exchanges per second since the start.
func (s *sending) rate() float64 { return float64(s.done.Load()) / time.Since(s.began).Seconds() }

func (s *sending) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = append(s.failed, err.Error())
}

func (s *sending) count() {
	s.done.Add(1)
	if s.load.pause > 0 {
		select {
		case <-time.After(s.load.pause):
		case <-s.ctx.Done():
		}
	}
}

// ended says whether all is sent and answered.
func (s *sending) ended() bool { return s.done.Load() == int64(s.load.all()) || s.ctx.Err() != nil }

// take gives the plans of the next k exchanges of a protocol, fewer at the end.
func (s *sending) take(proto protocol, k int, plans []plan) []plan {
	first := s.load.first(proto)
	plans = plans[:0]
	if s.enough.Load() {
		return plans
	}
	end := int(s.next[proto].Add(int64(k)))
	for i := end - k; i < min(end, s.load.counts[proto]) && s.ctx.Err() == nil; i++ {
		plans = append(plans, planOf(first+i, proto))
	}
	return plans
}

// address is the server's, for every second worker by IPv6.
func address(worker int) string {
	if worker%2 == 1 {
		return serverAddr6
	}
	return serverAddr4
}

// http1 sends over one connection at a time, at most k requests at a time.
func (s *sending) http1(worker int, proto protocol, k int) error {
	c := &http1Client{s: s, address: address(worker)}
	defer c.close()
	var plans []plan
	for {
		plans = s.take(proto, k, plans)
		if len(plans) == 0 {
			return nil
		}
		for len(plans) > 0 {
			// A request whose answer decides how to go on goes alone.
			n := slices.IndexFunc(plans, func(p plan) bool { return !p.pipelines() })
			switch n {
			case -1:
				n = len(plans)
			case 0:
				n = 1
			}
			if err := c.exchange(plans[:n]); err != nil {
				return err
			}
			plans = plans[n:]
		}
	}
}

// pipelines says whether a request may be sent with others: all that are sent at
// a time must fit into the sockets' buffers.
func (p plan) pipelines() bool {
	return !p.expect && p.form != formClose && p.request <= 4096
}

// http1Client writes requests and reads answers over one connection after the
// other.
type http1Client struct {
	s       *sending
	address string
	conn    net.Conn
	in      *bufio.Reader
	out     []byte
	copying [64 << 10]byte
	used    int
}

// perConnection is how many exchanges a connection carries.
const perConnection = 1000

func (c *http1Client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// exchange sends requests and reads their answers.
func (c *http1Client) exchange(plans []plan) error {
	if c.used >= perConnection {
		c.close()
	}
	if c.conn == nil {
		var err error
		if c.conn, err = c.s.load.from.DialContext(c.s.ctx, "tcp", c.address); err != nil {
			return err
		}
		if c.s.load.bytewise {
			c.conn = bytewiseConn{c.conn}
		}
		c.used = 0
		if c.in == nil {
			c.in = bufio.NewReaderSize(nil, 16<<10)
		}
		c.in.Reset(c.conn)
	}
	c.used += len(plans)
	if err := c.conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return err
	}
	c.out = c.out[:0]
	for _, p := range plans {
		if err := c.send(p); err != nil {
			return fmt.Errorf("%s %s: %w", p.method, p.target(), err)
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	for _, p := range plans {
		if err := c.receive(p); err != nil {
			return fmt.Errorf("%s %s: %w", p.method, p.target(), err)
		}
		c.s.count()
	}
	return nil
}

// bytewiseConn writes each byte alone.
type bytewiseConn struct{ net.Conn }

func (c bytewiseConn) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func (c *http1Client) flush() error {
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// send writes a request, or leaves it for flush.
func (c *http1Client) send(p plan) error {
	version := "1.1"
	if p.form == formClose {
		version = "1.0"
	}
	c.out = fmt.Appendf(c.out, "%s %s HTTP/%s\r\nHost: reference.test\r\nUser-Agent: load\r\n", p.method, p.target(), version)
	b := bodyOf(p.n, toServer, p.request)
	switch {
	case p.chunked:
		c.out = append(c.out, "Transfer-Encoding: chunked\r\n"...)
	case p.request > 0 || p.method != http.MethodGet && p.method != http.MethodHead:
		c.out = fmt.Appendf(c.out, "Content-Length: %d\r\n", p.request)
	}
	if p.expect {
		c.out = append(c.out, "Expect: 100-continue\r\n\r\n"...)
		if err := c.flush(); err != nil {
			return err
		}
		res, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusContinue {
			return fmt.Errorf("status %d in place of 100", res.StatusCode)
		}
	} else {
		c.out = append(c.out, "\r\n"...)
	}
	switch {
	case !p.chunked && p.request > len(c.copying):
		if err := c.flush(); err != nil {
			return err
		}
		if _, err := c.conn.Write(b.front); err != nil {
			return err
		}
		c.out = append(c.out, b.end...)
	case !p.chunked:
		c.out = b.appendTo(c.out, 0, b.size())
	default:
		// The chunks grow, the last takes the rest.
		for at, size := 0, 1+p.n%1000; at < b.size(); size *= 3 {
			end := min(at+size, b.size())
			c.out = fmt.Appendf(c.out, "%x\r\n", end-at)
			c.out = b.appendTo(c.out, at, end)
			c.out = append(c.out, "\r\n"...)
			at = end
		}
		c.out = append(c.out, "0\r\n\r\n"...)
	}
	return nil
}

// receive reads the answer and checks it.
func (c *http1Client) receive(p plan) error {
	q := &http.Request{Method: p.method}
	for {
		res, err := http.ReadResponse(c.in, q)
		if err != nil {
			return err
		}
		if res.StatusCode == http.StatusEarlyHints && p.form == formEarly {
			continue
		}
		if err := p.check(res, c.copying[:]); err != nil {
			return err
		}
		if p.form == formClose {
			c.close()
		}
		return nil
	}
}

// check reads an answer to its end and compares it with the plan.
func (p plan) check(res *http.Response, buf []byte) error {
	want := http.StatusOK
	if n, err := strconv.Atoi(p.form); err == nil {
		want = n
	}
	if res.StatusCode != want || res.Header.Get("X-Answers") != strconv.Itoa(p.n) {
		return fmt.Errorf("the answer is %d of exchange %q, want %d", res.StatusCode, res.Header.Get("X-Answers"), want)
	}
	size := p.response
	if p.method == http.MethodHead {
		size = 0
	}
	c := &checker{want: bodyOf(p.n, toClient, size)}
	if _, err := io.CopyBuffer(onlyWriter{c}, res.Body, buf); err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if !c.whole() {
		return errors.New("the answer's body is another")
	}
	return nil
}

// onlyWriter hides what else a writer could do.
type onlyWriter struct{ io.Writer }

// http2 opens one connection after the other and sends on streams of it, 100 at
// a time.
func (s *sending) http2(worker int) error {
	for s.more(http2) {
		transport := &http.Transport{
			Protocols: new(http.Protocols),
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return s.load.from.DialContext(ctx, network, address(worker))
			},
			HTTP2:              &http.HTTP2Config{StrictMaxConcurrentRequests: true},
			DisableCompression: true,
		}
		transport.Protocols.SetUnencryptedHTTP2(true)
		s.streams(http2, 100, func() func(plan) error {
			buf := make([]byte, 16<<10)
			return func(p plan) error { return s.http2Exchange(transport, p, buf) }
		})
		transport.CloseIdleConnections()
	}
	return nil
}

// more says whether there is something left to send.
func (s *sending) more(proto protocol) bool {
	return int(s.next[proto].Load()) < s.load.counts[proto] && !s.enough.Load() && s.ctx.Err() == nil
}

// streams sends as many exchanges as a connection carries, k at a time. exchange
// gives each sender its own function.
func (s *sending) streams(proto protocol, k int, exchange func() func(plan) error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range k {
		wg.Go(func() {
			send := exchange()
			var plans []plan
			for range perConnection / k {
				if plans = s.take(proto, 1, plans); len(plans) == 0 {
					return
				}
				if err := send(plans[0]); err != nil {
					s.fail(fmt.Errorf("%s %s: %w", plans[0].method, plans[0].target(), err))
					return
				}
				s.count()
			}
		})
	}
}

func (s *sending) http2Exchange(transport *http.Transport, p plan, buf []byte) error {
	var content io.Reader = http.NoBody
	b := bodyOf(p.n, toServer, p.request)
	if p.request > 0 {
		content = io.MultiReader(bytes.NewReader(b.front), bytes.NewReader(b.end))
	}
	q, err := http.NewRequestWithContext(s.ctx, p.method, "http://reference.test:8080"+p.target(), content)
	if err != nil {
		return err
	}
	if !p.chunked {
		q.ContentLength = int64(p.request)
	}
	res, err := transport.RoundTrip(q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		return fmt.Errorf("the answer is %s", res.Proto)
	}
	return p.check(res, buf)
}
