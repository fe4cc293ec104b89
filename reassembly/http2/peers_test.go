package http2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// recorder is a listener that writes down what its connections carry, in an
// order in which it may have been on the wire: what is read after it came, what
// is written before it goes.
type recorder struct {
	net.Listener
	mu    sync.Mutex
	conns []*recorded
}

type recorded struct {
	net.Conn
	l    *recorder
	msgs []message
}

func listen(t *testing.T) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &recorder{Listener: l}
}

func (l *recorder) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	r := &recorded{Conn: c, l: l}
	l.mu.Lock()
	l.conns = append(l.conns, r)
	l.mu.Unlock()
	return r, nil
}

func (c *recorded) note(client bool, b []byte) {
	if len(b) > 0 {
		c.l.mu.Lock()
		c.msgs = append(c.msgs, message{client: client, b: bytes.Clone(b)})
		c.l.mu.Unlock()
	}
}

func (c *recorded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.note(true, b[:n])
	return n, err
}

func (c *recorded) Write(b []byte) (int, error) {
	c.note(false, b)
	return c.Conn.Write(b)
}

// captured gives what the parsers make of everything that was recorded.
func (l *recorder) captured(t *testing.T, want exchange.Want, mss int) (all []*exchange.Exchange) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := rand.New(rand.NewPCG(1, uint64(mss)))
	for _, c := range l.conns {
		v := &conv{msgs: c.msgs}
		res := room{live: true, want: want, maxBody: 16 << 20, budget: 256 << 20}.run(t, v.segments([2]uint32{r.Uint32(), r.Uint32()}, func() int { return 1 + r.IntN(mss) }))
		if e := res.ends(); e != "" {
			t.Errorf("not complete: %s", e)
		}
		all = append(all, res.got...)
	}
	return all
}

// served is what a server knows about an exchange.
type served struct {
	mu   sync.Mutex
	list []string
}

func (s *served) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, fmt.Sprintf(format, args...))
}

func (s *served) agree(t *testing.T, got []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	sort.Strings(got)
	sort.Strings(s.list)
	if !slices.Equal(got, s.list) {
		t.Errorf("captured\n%s\nserved\n%s", strings.Join(got, "\n"), strings.Join(s.list, "\n"))
	}
}

// net/http's client and server, with 50 streams at once.
func TestNetHTTP(t *testing.T) {
	var log served
	l := listen(t)
	srv := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read: %v", err)
		}
		size, _ := strconv.Atoi(r.URL.Query().Get("n"))
		status, _ := strconv.Atoi(r.URL.Query().Get("s"))
		body := bytes.Repeat([]byte(r.URL.Path), size)
		if size%3 == 0 {
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(status)
		if status == http.StatusNoContent || r.Method == "HEAD" {
			body = nil
		}
		for b := body; len(b) > 0; {
			n := min(len(b), 5000)
			if _, err := w.Write(b[:n]); err != nil {
				t.Errorf("write: %v", err)
			}
			b = b[n:]
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-Sum", "1")
		log.add("%s %s %s %d %x %x early %v", r.Method, r.RequestURI, r.Host, status, sha256.Sum256(req), sha256.Sum256(body), size%3 == 0)
	})}
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	var wg sync.WaitGroup
	for worker := range 50 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 5))
			for i := range 8 {
				method := []string{"GET", "POST", "HEAD", "PUT"}[r.IntN(4)]
				var body io.Reader
				if method == "POST" || method == "PUT" {
					body = strings.NewReader(strings.Repeat("q", []int{0, 1, 300, 70_000}[r.IntN(4)]))
				}
				url := fmt.Sprintf("http://%s/w%d/%d?n=%d&s=%d", l.Addr(), worker, i, []int{0, 1, 40, 9000}[r.IntN(4)], []int{200, 404, 204}[r.IntN(3)])
				q, err := http.NewRequestWithContext(t.Context(), method, url, body)
				if err != nil {
					t.Error(err)
					return
				}
				q.Header.Set("X-Worker", strconv.Itoa(worker))
				resp, err := client.Do(q)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Error(err)
				}
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	tr.CloseIdleConnections()
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	for _, mss := range []int{100, 1460, 100_000} {
		var got []string
		for _, x := range l.captured(t, exchange.WantList, mss) {
			got = append(got, fmt.Sprintf("%s %s %s %d %x %x early %v", x.Request.Method, x.Request.Target, x.Request.Host, x.Response.Status,
				sumOf(&x.Request.Body), sumOf(&x.Response.Body), len(x.Response.Interim) == 1 && x.Response.Interim[0] == 103))
			if x.Doubt != exchange.DoubtNone {
				t.Errorf("doubt %q: %+v", x.Doubt, x.Request)
			}
		}
		log.agree(t, got)
		if len(got) != 400 {
			t.Errorf("%d exchanges", len(got))
		}
	}
}

// plain is a codec for messages that are bytes.
type plain struct{}

func (plain) Name() string { return "plain" }

func (plain) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (plain) Unmarshal(b mem.BufferSlice, v any) error {
	*v.(*[]byte) = b.Materialize()
	return nil
}

var _ encoding.CodecV2 = plain{}

// grpcServer answers calls whose first message says with how many messages and
// which code.
type grpcServer struct{ log served }

func (g *grpcServer) stream(kind string, s grpc.ServerStream) error {
	var requests, responses int
	var first string
	for {
		var b []byte
		err := s.RecvMsg(&b)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if requests++; requests == 1 {
			first = string(b)
		}
		if kind == "ServerStream" {
			break
		}
	}
	var n, code int
	if _, err := fmt.Sscanf(first, "%d %d", &n, &code); err != nil {
		return err
	}
	for range n {
		answer := bytes.Repeat([]byte("m"), 7000)
		if err := s.SendMsg(&answer); err != nil {
			return err
		}
		responses++
	}
	g.log.add("%s %d %d code %d", kind, requests, responses, code)
	if code > 0 {
		return status.Error(codes.Code(code), "it is 100% wrong: \u00e4")
	}
	return nil
}

// grpc-go's client and server.
func TestGRPCGo(t *testing.T) {
	g := &grpcServer{}
	desc := grpc.ServiceDesc{ServiceName: "test.Service", HandlerType: (*any)(nil)}
	for _, kind := range []string{"Unary", "ServerStream", "ClientStream", "Bidi"} {
		if kind == "Unary" {
			desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: kind, Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var b []byte
				if err := dec(&b); err != nil {
					return nil, err
				}
				var n, code int
				if _, err := fmt.Sscanf(string(b), "%d %d", &n, &code); err != nil {
					return nil, err
				}
				if code > 0 {
					g.log.add("Unary 1 0 code %d", code)
					return nil, status.Error(codes.Code(code), "it is 100% wrong: \u00e4")
				}
				g.log.add("Unary 1 1 code 0")
				answer := bytes.Repeat([]byte("u"), 100)
				return &answer, nil
			}})
			continue
		}
		desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: kind, ServerStreams: kind != "ClientStream", ClientStreams: kind != "ServerStream",
			Handler: func(_ any, s grpc.ServerStream) error { return g.stream(kind, s) }})
	}
	l := listen(t)
	srv := grpc.NewServer(grpc.ForceServerCodecV2(plain{}))
	srv.RegisterService(&desc, nil)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	cc, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(plain{})))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for worker := range 20 {
		wg.Go(func() {
			for i := range 8 {
				kind := []string{"Unary", "ServerStream", "ClientStream", "Bidi"}[i%4]
				code := (worker % 3) * 5
				if err := call(t.Context(), cc, kind, []int{1, 3, 1, 2}[i%4], code); status.Code(err) != codes.Code(code) {
					t.Errorf("%s: %v, want code %d", kind, err, code)
				}
			}
		})
	}
	wg.Wait()
	if err := cc.Close(); err != nil {
		t.Error(err)
	}
	srv.GracefulStop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	kinds := map[string]exchange.GRPCKind{"Unary": exchange.GRPCUnary, "ServerStream": exchange.GRPCServerStream, "ClientStream": exchange.GRPCClientStream, "Bidi": exchange.GRPCBidi}
	for _, mss := range []int{50, 1460, 100_000} {
		var got []string
		for _, x := range l.captured(t, exchange.WantWhole, mss) {
			if x.GRPC == nil {
				t.Fatalf("no gRPC call: %+v", x.Request)
			}
			kind := strings.TrimPrefix(x.Request.Target, "/test.Service/")
			got = append(got, fmt.Sprintf("%s %d %d code %s", kind, x.GRPC.Requests, x.GRPC.Responses, x.GRPC.Status))
			if x.GRPC.Kind != kinds[kind] {
				t.Errorf("%s taken for %s: %+v", kind, x.GRPC.Kind, x.GRPC)
			}
			if streams := kind == "ClientStream" || kind == "Bidi"; streams != (x.Doubt == exchange.DoubtGRPCStream) || !streams && x.Doubt != exchange.DoubtNone {
				t.Errorf("%s: doubt %q", kind, x.Doubt)
			}
			if x.GRPC.Status != "0" && x.GRPC.Message != "it is 100% wrong: \u00e4" {
				t.Errorf("message %q", x.GRPC.Message)
			}
		}
		g.log.agree(t, got)
		if len(got) != 160 {
			t.Errorf("%d calls", len(got))
		}
	}
}

func call(ctx context.Context, cc *grpc.ClientConn, kind string, n, code int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ask := []byte(fmt.Sprintf("%d %d", n, code))
	var b []byte
	if kind == "Unary" {
		return cc.Invoke(ctx, "/test.Service/Unary", &ask, &b)
	}
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: kind != "ClientStream", ClientStreams: kind != "ServerStream"}, "/test.Service/"+kind)
	if err != nil {
		return err
	}
	requests := 1
	if kind != "ServerStream" {
		requests = 3
	}
	for range requests {
		if err := s.SendMsg(&ask); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		if err := s.RecvMsg(&b); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
