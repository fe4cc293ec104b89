package http2_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// netHTTP records a connection on which net/http's client asks net/http's server
// a few times, as programs that call a JSON service do, within a second.
func netHTTP(t *testing.T, requests int) []message {
	t.Helper()
	l := listen(t)
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Date", "Mon, 30 Nov 2026 08:32:11 GMT") // however slow the machine is
		_, _ = io.WriteString(w, `{"ok":true}`)
	})}
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	for i := range requests {
		q, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("http://%s/api/users/%d", l.Addr(), 100+i), nil)
		must(err)
		q.Header.Set("Authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzaG9wIn0.c2lnbmF0dXJl")
		resp, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		resp.Body.Close()
	}
	tr.CloseIdleConnections()
	must(srv.Shutdown(context.Background()))
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	return l.only(t)
}

// grpcGo records a connection with calls of grpc-go.
func grpcGo(t *testing.T, calls int) []message {
	t.Helper()
	l := listen(t)
	desc := grpc.ServiceDesc{ServiceName: "shop.v1.Users", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Get",
		Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var b []byte
			return &b, dec(&b)
		},
	}}}
	srv := grpc.NewServer(grpc.ForceServerCodecV2(plain{}))
	srv.RegisterService(&desc, nil)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	cc, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(plain{})))
	must(err)
	for range calls {
		ask, b := []byte("user 1"), []byte(nil)
		// Without a deadline, which would be another field each time.
		if err := cc.Invoke(t.Context(), "/shop.v1.Users/Get", &ask, &b); err != nil {
			t.Fatal(err)
		}
	}
	must(cc.Close())
	srv.GracefulStop()
	must(<-done)
	return l.only(t)
}

// only gives what the only connection carried.
func (l *recorder) only(t *testing.T) []message {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) != 1 {
		t.Fatalf("%d connections", len(l.conns))
	}
	return l.conns[0].msgs
}

// tables is how many bytes of names and values the tables of both directions hold
// at the end of a conversation, and how many fields, as x/net reads it.
func tables(t *testing.T, msgs []message) (text, fields int) {
	t.Helper()
	for _, client := range []bool{true, false} {
		var b bytes.Buffer
		for _, m := range msgs {
			if m.client == client {
				b.Write(m.b)
			}
		}
		if client {
			b.Next(len(preface))
		}
		fr := xhttp2.NewFramer(io.Discard, &b)
		dec := hpack.NewDecoder(4096, nil)
		fr.ReadMetaHeaders = dec
		var err error
		for err == nil {
			_, err = fr.ReadFrame()
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		for i := 62; ; i++ {
			f, err := dec.DecodeFull(binary.AppendUvarint([]byte{0xff}, uint64(i-0x7f)))
			if i < 0x7f {
				f, err = dec.DecodeFull([]byte{0x80 | byte(i)})
			}
			if err != nil {
				break
			}
			fields++
			text += len(f[0].Name) + len(f[0].Value)
		}
	}
	return text, fields
}

// crowd is a shard with many connections that carry the same.
type crowd struct {
	*reassembly.Assembler
	s      reassembly.Segment
	budget *reassembly.Budget
	sink   counter
	now    int64
	// awake is what the first took from the budget before it rested.
	awake int64
}

func newCrowd(t testing.TB, n int, msgs []message) *crowd {
	c := &crowd{budget: &reassembly.Budget{Limit: 1 << 40}, now: 1_700_000_000_000_000_000}
	c.Assembler = shardFor(&c.sink, c.budget)
	for i := range n {
		seq := [2]uint32{100, 200}
		c.send(i, true, 99, 0, reassembly.SYN, nil)
		c.send(i, false, 199, 100, reassembly.SYN|reassembly.ACK, nil)
		for _, m := range msgs {
			x := index(m.client)
			c.send(i, m.client, seq[x], seq[1-x], reassembly.ACK, m.b)
			seq[x] += uint32(len(m.b))
		}
		if i == 0 {
			c.awake = c.budget.Used()
		}
		if i%1000 == 999 { // some rest while others come
			c.now += int64(3 * time.Second)
			for range 4 {
				c.Tick(c.now)
			}
		}
	}
	return c
}

// pass lets every connection be looked at, some time later.
func (c *crowd) pass(d time.Duration) {
	c.now += int64(d)
	for n := c.Stats().Connections/1000 + 1; n > 0; n-- {
		c.Tick(c.now)
	}
}

func (c *crowd) send(n int, client bool, seq, ack uint32, f reassembly.Flags, payload []byte) {
	s := &c.s
	*s = reassembly.Segment{Seq: seq, Ack: ack, Flags: f, Payload: payload, Time: c.now, SrcPort: uint16(n), DstPort: 80, Side: reassembly.ToServer}
	s.Src[12], s.Src[13], s.Src[14] = byte(n>>16), byte(n>>24), 1
	s.Dst[15] = 2
	if !client {
		s.Src, s.Dst, s.SrcPort, s.DstPort, s.Side = s.Dst, s.Src, 80, s.SrcPort, reassembly.ToClient
	}
	c.Segment(s)
}

// An idle connection costs less than 600 bytes, with all that its header tables
// say, by the heap and by the budget; and never more than it takes from the budget.
func TestIdleConnectionMemory(t *testing.T) {
	for _, tt := range []struct {
		name string
		msgs []message
		n    []int
	}{
		{"net/http, 2 requests", netHTTP(t, 2), []int{60_000, 100_000}},
		{"net/http, 21 requests", netHTTP(t, 21), []int{60_000}},
		{"grpc-go, 2 calls", grpcGo(t, 2), []int{60_000, 100_000}},
		{"grpc-go, 21 calls", grpcGo(t, 21), []int{60_000}},
	} {
		text, fields := tables(t, tt.msgs)
		for _, n := range tt.n {
			t.Run(fmt.Sprintf("%s/%d", tt.name, n), func(t *testing.T) {
				before := segmenttest.LiveHeap()
				c := newCrowd(t, n, tt.msgs)
				c.pass(3 * time.Second)
				each, taken := (segmenttest.LiveHeap()-before)/int64(n), c.budget.Used()/int64(n)
				t.Logf("%d bytes each, %d by the budget (%d before it rested); %d fields of %d bytes in its tables", each, taken, c.awake, fields, text)
				if each > taken || taken >= 600 {
					t.Errorf("%d bytes each, the budget says %d; want less than 600", each, taken)
				}
				c.pass(11 * time.Minute)
				if left := segmenttest.LiveHeap() - before; left > 3<<20 || c.budget.Used() != 0 || c.Stats().Connections != 0 {
					t.Errorf("%d bytes of the heap and %d of the budget are left", left, c.budget.Used())
				}
				runtime.KeepAlive(c)
			})
		}
	}
}
