package replay

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// message frames a gRPC message.
func message(b string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b)))) + b
}

// call is a gRPC call as capture gives it.
func call(method, body string, fields ...string) *exchange.Exchange {
	x := request2("POST", method, body, append([]string{"content-type: application/grpc", "user-agent: grpc-go/1.85.0", "te: trailers", "grpc-timeout: 900m"}, fields...)...)
	x.GRPC = &exchange.GRPC{Status: "0", Requests: 1, Responses: 1}
	return x
}

// grpcServer is grpc-go with the health service, and with a method that answers
// with as many messages as the request has bytes.
func grpcServer(t testing.TB) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	h := health.NewServer()
	h.SetServingStatus("users", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(srv, h)
	srv.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Streams", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "List", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			var q healthpb.HealthCheckRequest
			if err := s.RecvMsg(&q); err != nil {
				return err
			}
			md, _ := metadata.FromIncomingContext(s.Context())
			deadline, ok := s.Context().Deadline()
			s.SetHeader(metadata.Pairs("x-role", strings.Join(md.Get("x-shadow-test-role"), ","), "x-deadline", map[bool]string{true: "set"}[ok && time.Until(deadline) < time.Second]))
			s.SetTrailer(metadata.Pairs("x-count", "n"))
			for range q.Service {
				if err := s.SendMsg(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}); err != nil {
					return err
				}
			}
			return status.Error(codes.DataLoss, "50 % héld back")
		}}},
	}, nil)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().String()
}

func TestGRPC(t *testing.T) {
	addr := grpcServer(t)
	u := start(t, config("http://"+addr))
	serving := message("\x08\x01")
	for i, c := range []struct {
		x                     *exchange.Exchange
		body, status, message string
		// head says that the status stands in the head: the answer is
		// trailers-only.
		head bool
	}{
		{call("/grpc.health.v1.Health/Check", message("")), serving, "0", "", false},
		{call("/grpc.health.v1.Health/Check", message("\x0a\x05users")), serving, "0", "", false},
		{call("/grpc.health.v1.Health/Check", message("\x0a\x04nope")), "", "5", "unknown service", true},
		{call("/test.Streams/List", message("\x0a\x03abc")), serving + serving + serving, "15", "50 %25 h%C3%A9ld back", false},
		{call("/test.Streams/List", message("")), "", "15", "50 %25 h%C3%A9ld back", false},
		{call("/no.Service/Method", message("")), "", "12", "unknown service no.Service", true},
	} {
		p := u.one(c.x)
		p.ok(t, 200, c.body)
		in := p.Response.Trailer
		if c.head {
			in = p.Response.Header
		}
		if in.Get("grpc-status") != c.status || in.Get("grpc-message") != c.message || p.Response.Header.Get("content-type") != "application/grpc" {
			t.Errorf("call %d: %+v", i, p.Response)
		}
		if strings.HasPrefix(c.x.Request.Target, "/test") && (p.Response.Trailer.Get("x-count") != "n" || p.Response.Header.Get("x-role") != "candidate" || p.Response.Header.Get("x-deadline") != "set") {
			t.Errorf("call %d: %+v", i, p.Response)
		}
	}
	if s := u.balanced(); s.Opened != 1 || s.Reused != 5 || s.Retried != 0 {
		t.Errorf("%+v", s)
	}
}

// A stream that does not end is given up with its timeout.
func TestGRPCEndless(t *testing.T) {
	cfg := config("http://" + grpcServer(t))
	cfg.Timeout = 300 * time.Millisecond
	u := start(t, cfg)
	x := call("/grpc.health.v1.Health/Watch", message("\x0a\x05users"))
	x.Request.Header = x.Request.Header[:3] // no grpc-timeout
	x.GRPC.Kind = exchange.GRPCServerStream
	u.one(x).failed(t, ErrorTimeout)
	u.one(call("/grpc.health.v1.Health/Check", message(""))).ok(t, 200, message("\x08\x01"))
}
