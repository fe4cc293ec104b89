package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	v1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// serveGRPC is grpc-go with the health service and what register adds.
func serveGRPC(t *testing.T, register func(*grpc.Server)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	healthpb.RegisterHealthServer(srv, health.NewServer())
	register(srv)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return "http://" + l.Addr().String()
}

// reflecting makes an experiment that asks the candidate at url for its types.
func reflecting(t *testing.T, url string) (*experiment, *config.Config) {
	t.Helper()
	c := config.New()
	c.Experiments = []config.Experiment{config.NewExperiment("health")}
	e := &c.Experiments[0]
	e.Candidate.URL, e.Compare.Reflection = url, "candidate"
	x, err := newExperiment(c, 0, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return x, c
}

// place is where two answers of the health service differ.
func place(t *testing.T, x *experiment) string {
	t.Helper()
	answer := func(message string) *exchange.Response {
		b := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
		return &exchange.Response{
			Status: 200, Proto: "HTTP/2", Header: exchange.Header{{Name: "content-type", Value: "application/grpc"}},
			Trailer: exchange.Header{{Name: "grpc-status", Value: "0"}}, Body: exchange.Body{Bytes: b, Size: int64(len(b))},
		}
	}
	ex := &exchange.Exchange{
		Request:  &exchange.Request{Method: "POST", Target: "/grpc.health.v1.Health/Check", Proto: "HTTP/2", Header: exchange.Header{{Name: "content-type", Value: "application/grpc"}}},
		Response: answer("\x08\x01"),
	}
	res := x.compare(ex, &replay.Outcome{Response: answer("\x08\x02")}, false)
	var paths []string
	for i := range res.Differences {
		paths = append(paths, res.Differences[i].Path)
	}
	return strings.Join(paths, " ")
}

// logged is a log that a test reads while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestReflection: with types from grpc-go's reflection what differs has a name,
// without them a number and one warning.
func TestReflection(t *testing.T) {
	cycle := func(send func(*v1.ServerReflectionResponse) error, q *v1.ServerReflectionRequest) error {
		return send(told("s", q, &descriptorpb.FileDescriptorProto{Name: proto.String("a"), Dependency: []string{"b"}},
			&descriptorpb.FileDescriptorProto{Name: proto.String("b"), Dependency: []string{"a"}}))
	}
	for name, tt := range map[string]struct {
		register     func(*grpc.Server)
		place, words string
	}{
		"reflection":    {func(s *grpc.Server) { reflection.Register(s) }, "$[0].status", "protobuf types found"},
		"none":          {func(*grpc.Server) {}, "$[0]['#1']", "has no gRPC server reflection"},
		"does not link": {func(s *grpc.Server) { v1.RegisterServerReflectionServer(s, &liar{f: cycle}) }, "$[0]['#1']", "import cycle"},
	} {
		t.Run(name, func(t *testing.T) {
			x, _ := reflecting(t, serveGRPC(t, tt.register))
			if got := place(t, x); got != "$[0]['#1']" {
				t.Errorf("before: %s", got)
			}
			l := &logged{}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); x.reflect(ctx, slog.New(slog.NewTextHandler(l, nil))) }()
			for end := time.Now().Add(30 * time.Second); l.String() == "" && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			cancel()
			<-ended
			if got := l.String(); !strings.Contains(got, tt.words) || !strings.Contains(got, "experiment=health") || strings.Count(got, "\n") != 1 {
				t.Errorf("log %q, want one line with %q and the experiment", got, tt.words)
			}
			if got := place(t, x); got != tt.place {
				t.Errorf("differs at %s, want %s", got, tt.place)
			}
		})
	}
}

// TestReflectionRetries: failures are one warning for each spell and come ever
// later; what is off is asked soon again, without a word.
func TestReflectionRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sick := errors.New("sick")
		said := []error{sick, sick, sick, nil, replay.ErrOff, sick, sick, nil, nil, sick, sick, sick, sick, sick, sick, sick, sick, nil, sick}
		var at []time.Duration
		begin := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		l := &logged{}
		keepAsking(ctx, func(context.Context) error {
			at = append(at, time.Since(begin))
			if len(at) == len(said) {
				cancel()
			}
			return said[len(at)-1]
		}, slog.New(slog.NewTextHandler(l, nil)))
		var want []time.Duration
		sum := time.Duration(0)
		for _, s := range []int{0, 10, 20, 40, 600, 10, 10, 20, 600, 600, 10, 20, 40, 80, 160, 320, 600, 600, 600} {
			sum += time.Duration(s) * time.Second
			want = append(want, sum)
		}
		if !slices.Equal(at, want) {
			t.Errorf("asked at %v, want %v", at, want)
		}
		lines := strings.Split(strings.TrimSpace(l.String()), "\n")
		// The last failure came with the end, and is none.
		if len(lines) != 4 || !strings.Contains(lines[0], "fields_by=number") || !strings.Contains(lines[1], "found") || !strings.Contains(lines[2], "that were found before") || !strings.Contains(lines[3], "no protobuf types") {
			t.Errorf("log %q", lines)
		}
	})
}

// TestReflectionKeeps: what was found before holds while the candidate has
// nothing better to say, and no longer.
func TestReflectionKeeps(t *testing.T) {
	described := protodesc.ToFileDescriptorProto(healthpb.File_grpc_health_v1_health_proto)
	renamed := proto.CloneOf(described)
	renamed.MessageType[1].Field[0].Name = proto.String("state")
	var says atomic.Pointer[[]*descriptorpb.FileDescriptorProto]
	x, _ := reflecting(t, serveGRPC(t, func(s *grpc.Server) {
		v1.RegisterServerReflectionServer(s, &liar{f: func(send func(*v1.ServerReflectionResponse) error, q *v1.ServerReflectionRequest) error {
			files := says.Load()
			if files == nil {
				return errors.New("sick")
			}
			return send(told("grpc.health.v1.Health", q, *files...))
		}})
	}))
	for i, tt := range []struct {
		files []*descriptorpb.FileDescriptorProto
		ok    bool
		place string
	}{
		{nil, false, "$[0]['#1']"},
		{[]*descriptorpb.FileDescriptorProto{described}, true, "$[0].status"},
		{nil, false, "$[0].status"},
		{[]*descriptorpb.FileDescriptorProto{{Name: proto.String("a"), Dependency: []string{"a"}}}, false, "$[0].status"},
		{[]*descriptorpb.FileDescriptorProto{renamed}, true, "$[0].state"},
	} {
		if says.Store(nil); tt.files != nil {
			says.Store(&tt.files)
		}
		if err := x.lookUp(t.Context()); (err == nil) != tt.ok {
			t.Errorf("%d: %v", i, err)
		}
		if got := place(t, x); got != tt.place {
			t.Errorf("%d: differs at %s, want %s", i, got, tt.place)
		}
	}
}

// TestReflects: only who is configured to, is on and replays asks.
func TestReflects(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(x *experiment)
		want   bool
	}{
		"as configured": {func(*experiment) {}, true},
		"by a file":     {func(x *experiment) { x.cfg.Compare.Reflection = "" }, false},
		"disabled":      {func(x *experiment) { x.cfg.Enabled = false }, false},
		"no replays":    {func(x *experiment) { x.replayer = nil }, false},
	} {
		x, _ := reflecting(t, "http://127.0.0.1:1")
		if tt.change(x); x.reflects() != tt.want {
			t.Errorf("%s: %v", name, x.reflects())
		}
	}
}

// liar is a reflection service that answers with what f sends.
type liar struct {
	v1.UnimplementedServerReflectionServer
	f func(func(*v1.ServerReflectionResponse) error, *v1.ServerReflectionRequest) error
}

func (l *liar) ServerReflectionInfo(s v1.ServerReflection_ServerReflectionInfoServer) error {
	for {
		q, err := s.Recv()
		if err != nil {
			return nil
		}
		if err := l.f(s.Send, q); err != nil {
			return err
		}
	}
}

// TestReflectionIsNoPermission: a method that the candidate says is without side
// effects is replayed only if the file that an operator names says so too.
func TestReflectionIsNoPermission(t *testing.T) {
	name := descriptorFile(t)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	url := serveGRPC(t, func(s *grpc.Server) {
		v1.RegisterServerReflectionServer(s, &liar{f: func(send func(*v1.ServerReflectionResponse) error, q *v1.ServerReflectionRequest) error {
			return send(told("shop.Users", q, set.File...))
		}})
	})
	for _, byFile := range []bool{false, true} {
		x, c := reflecting(t, url)
		if byFile {
			c.Experiments[0].Compare.Descriptors, c.Experiments[0].Compare.Reflection = name, ""
		}
		e := &c.Experiments[0]
		e.Match.Port, e.Routes = 80, []config.Route{{Path: "/"}}
		if err := e.Sample.Rate.UnmarshalText([]byte("100%")); err != nil {
			t.Fatal(err)
		}
		sc := sampleConfig(c, time.Now())
		if _, err := safeCalls(c, &sc); err != nil {
			t.Fatal(err)
		}
		if x.sampler, err = sample.New(sc); err != nil {
			t.Fatal(err)
		}
		if !byFile {
			if err := x.lookUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := x.descriptors.Load().SafeMethods(); !slices.Equal(got, []string{"/shop.Users/Get"}) {
				t.Fatalf("the candidate says %q", got)
			}
		}
		flow := &exchange.Flow{Server: netip.MustParseAddrPort("10.0.0.2:80"), Client: netip.MustParseAddrPort("10.0.0.1:1000")}
		d := x.sampler.Shard().Keep(&exchange.Head{Flow: flow, Time: time.Now().UnixNano(), Method: []byte("POST"), Target: []byte("/shop.Users/Get"), Stream: 1, GRPC: true})
		if got := d.Choices[0].Selection == exchange.Selected; got != byFile {
			t.Errorf("by file %v: replayed %v, %+v", byFile, got, d.Choices[0])
		}
	}
}

// told answers a question of a service in files that all stand in one answer.
func told(service string, q *v1.ServerReflectionRequest, files ...*descriptorpb.FileDescriptorProto) *v1.ServerReflectionResponse {
	if q.GetFileContainingSymbol() == "" {
		return &v1.ServerReflectionResponse{MessageResponse: &v1.ServerReflectionResponse_ListServicesResponse{
			ListServicesResponse: &v1.ListServiceResponse{Service: []*v1.ServiceResponse{{Name: service}}},
		}}
	}
	var all [][]byte
	for _, f := range files {
		b, err := proto.Marshal(f)
		if err != nil {
			panic(err)
		}
		all = append(all, b)
	}
	return &v1.ServerReflectionResponse{MessageResponse: &v1.ServerReflectionResponse_FileDescriptorResponse{
		FileDescriptorResponse: &v1.FileDescriptorResponse{FileDescriptorProto: all},
	}}
}
