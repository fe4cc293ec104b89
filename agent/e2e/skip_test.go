//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// bigAnswer is the size of the answers that nobody wants, in bytes.
const bigAnswer = 20 << 20

// serveBig answers a GET with as many bytes as its path says and a PUT with
// how many came. A connection that does not begin like HTTP is echoed.
func serveBig(t *testing.T, l net.Listener) {
	t.Helper()
	var open sync.WaitGroup
	zeros := make([]byte, bigAnswer)
	one := func(c net.Conn) {
		defer c.Close()
		in := bufio.NewReader(c)
		if b, err := in.Peek(1); err != nil || b[0] == 0x16 {
			io.Copy(c, in)
			return
		}
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			came, err := io.Copy(io.Discard, req.Body)
			if err != nil {
				return
			}
			body := strconv.AppendInt(nil, came, 10)
			if req.Method == http.MethodGet {
				n, err := strconv.Atoi(req.URL.Path[1:])
				if err != nil {
					return
				}
				body = zeros[:n]
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
			if _, err := c.Write(body); err != nil {
				return
			}
		}
	}
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { one(c) })
		}
	})
	t.Cleanup(func() { l.Close(); open.Wait() })
}

// TestSkip: bodies that nobody wants are left out by the kernel, and so is a
// connection that is not HTTP; every exchange is counted all the same.
func TestSkip(t *testing.T) {
	s := newStage(t)
	serveBig(t, s.server.Listen(t, "tcp", serverAddr4))
	startCandidate(t, s)
	a := startAgent(t, s, settings{candidate: candidateURL, sample: "0%", memory: "256MiB"})

	const workers, rounds = 3, 6
	dial := func() net.Conn {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c, err := s.client.DialContext(ctx, "tcp", serverAddr4)
		if err != nil {
			t.Error(err)
			return nil
		}
		c.SetDeadline(time.Now().Add(2 * time.Minute)) // the machine may be frozen meanwhile
		return c
	}
	var busy sync.WaitGroup
	for range workers {
		busy.Go(func() {
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return s.client.DialContext(ctx, "tcp", serverAddr4)
			}, MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			for range rounds {
				for _, n := range []int64{100, bigAnswer, 70_000} {
					res, err := client.Get(fmt.Sprintf("http://%s/%d", serverAddr4, n))
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := io.Copy(io.Discard, res.Body); err != nil || got != n {
						t.Errorf("%d bytes of %d: %v", got, n, err)
					}
					res.Body.Close()
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+serverAddr4+"/put", io.LimitReader(zeroes{}, bigAnswer))
				if err != nil {
					t.Error(err)
					return
				}
				req.ContentLength = bigAnswer
				res, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				if text, err := io.ReadAll(res.Body); string(text) != strconv.Itoa(bigAnswer) {
					t.Errorf("PUT: %q, %v", text, err)
				}
				res.Body.Close()
			}
		})
	}
	busy.Go(func() { // what TLS begins with, and no HTTP behind it
		c := dial()
		if c == nil {
			return
		}
		defer c.Close()
		busy.Go(func() {
			fmt.Fprintf(c, "\x16\x03\x01")
			io.Copy(c, io.LimitReader(zeroes{}, 2*bigAnswer))
			c.(*net.TCPConn).CloseWrite()
		})
		if n, err := io.Copy(io.Discard, c); err != nil || n != 2*bigAnswer+3 {
			t.Errorf("%d bytes came back: %v", n, err)
		}
	})
	busy.Wait()

	const count = workers * rounds * 4
	const all = workers*rounds*2*bigAnswer + 4*bigAnswer
	status := a.rest(t, 60*time.Second, completed(count))
	requireBalance(t, status)
	l := status.Ledger
	if lostPackets(l) == 0 && (l["exchanges"]["complete"] != count || l["exchanges"]["unparsable"] != 1 || l["exchanges"]["gap"] > 0) {
		t.Errorf("%d exchanges are complete, want %d, and one is unparsable: %v", l["exchanges"]["complete"], count, l["exchanges"])
	}
	skipped, captured := l["kernel_packets"]["not_wanted"], l["captured_bytes"]["delivered"]
	t.Logf("kernel packets %v, delivered %d bytes of %d: %v", l["kernel_packets"], captured, all, l["delivered_bytes"])
	if skipped == 0 || captured > all/2 {
		t.Errorf("%d packets were not wanted, %d bytes of %d captured: %v", skipped, captured, all, l["kernel_packets"])
	}
	// What is not HTTP goes both ways.
	if n, both := l["delivered_bytes"]["unparsable"], uint64(2*2*bigAnswer); n == 0 || n > both/4 {
		t.Errorf("%d bytes of %d of the connection that is not HTTP were captured", n, both)
	}
	a.stop(t)
}

// zeroes never ends.
type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
