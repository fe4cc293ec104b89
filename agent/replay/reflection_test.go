package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	v1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	v1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// serveReflection is grpc-go with the health service and what register adds. It
// gives the metadata of its streams' beginnings, too.
func serveReflection(t *testing.T, register func(*grpc.Server), o ...grpc.ServerOption) (addr string, asked func() []metadata.MD) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []metadata.MD
	srv := grpc.NewServer(append(o, grpc.StreamInterceptor(func(s any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		mu.Lock()
		all = append(all, md)
		mu.Unlock()
		return h(s, ss)
	}))...)
	healthpb.RegisterHealthServer(srv, health.NewServer())
	register(srv)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().String(), func() []metadata.MD {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// alphaOnly registers the older version alone.
func alphaOnly(s *grpc.Server) {
	v1alpha.RegisterServerReflectionServer(s, reflection.NewServer(reflection.ServerOptions{Services: s}))
}

// fileNames are those of a set, sorted.
func fileNames(t *testing.T, set []byte) (names []string) {
	t.Helper()
	var s descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &s); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.File {
		names = append(names, f.GetName())
	}
	slices.Sort(names)
	return names
}

// idle makes a Replayer that replays nothing.
func idle(t *testing.T, c Config) *Replayer { return start(t, c).Replayer }

// TestReflect: grpc-go's own service, in both versions, in the clear and over
// TLS. The connection is told, is closed, and carries the role.
func TestReflect(t *testing.T) {
	const healthFile = "grpc/health/v1/health.proto"
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	pair := cert.TLS.Certificates[0]
	cert.Close()
	for name, tt := range map[string]struct {
		register func(*grpc.Server)
		tls      bool
	}{
		"v1 and v1alpha": {func(s *grpc.Server) { reflection.Register(s) }, false},
		"v1":             {func(s *grpc.Server) { reflection.RegisterV1(s) }, false},
		"v1alpha":        {alphaOnly, false},
		"TLS":            {func(s *grpc.Server) { reflection.RegisterV1(s) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			var o []grpc.ServerOption
			if tt.tls {
				o = append(o, grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
			}
			addr, asked := serveReflection(t, tt.register, o...)
			cfg, own := config("http://"+addr), &recorder{}
			if tt.tls {
				cfg = config("https://" + addr)
				cfg.TLS.CA = pemFile(t, "CERTIFICATE", pair.Certificate[0])
			}
			cfg.OwnReplay = own
			r := idle(t, cfg)
			set, err := r.Reflect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := fileNames(t, set); !slices.Equal(got, []string{healthFile}) {
				t.Errorf("files %q", got)
			}
			own.check(t, 0)
			own.mu.Lock()
			if len(own.all) == 0 {
				t.Error("no connection was told to be ours")
			}
			own.mu.Unlock()
			all := asked()
			if len(all) == 0 {
				t.Error("no stream was seen")
			}
			for _, md := range all {
				if got := md.Get("x-shadow-test-role"); !slices.Equal(got, []string{"candidate"}) {
					t.Errorf("role %q in %v", got, md)
				}
			}
			if s := r.Stats(); s.Selected != 0 || s.InFlight != 0 {
				t.Errorf("it is in the ledger of replays: %+v", s)
			}
		})
	}
}

// TestReflectOff: what is off asks nobody, and stays so until Resume.
func TestReflectOff(t *testing.T) {
	srv := serve(t, func(c net.Conn, _ int) { drain(c) })
	u := start(t, config(srv.url))
	u.Cancel()
	if _, err := u.Reflect(t.Context()); !errors.Is(err, ErrOff) || srv.accepted() != 0 {
		t.Errorf("error %v, %d connections", err, srv.accepted())
	}
	u.Resume()
	failed := make(chan error, 1)
	go func() { _, err := u.Reflect(t.Context()); failed <- err }()
	u.until("connected", func(s Stats) bool { return s.Opened == 1 })
	u.Cancel() // also what is under way
	select {
	case err := <-failed:
		if !errors.Is(err, ErrOff) {
			t.Errorf("error %v, want %v", err, ErrOff)
		}
	case <-time.After(4 * time.Second):
		t.Error("Cancel does not end it")
	}
}

// TestReflectNone: a target without the service, gRPC or not.
func TestReflectNone(t *testing.T) {
	addr, _ := serveReflection(t, func(*grpc.Server) {})
	if _, err := idle(t, config("http://"+addr)).Reflect(t.Context()); !errors.Is(err, ErrNoReflection) {
		t.Errorf("grpc: %v, want %v", err, ErrNoReflection)
	}
	web := serve2(t, func(p *peer, _ int) {
		for stream := p.request(false); stream != 0; stream = p.request(false) {
			p.head(stream, true, ":status", "404")
		}
	})
	if _, err := idle(t, config(web.url)).Reflect(t.Context()); !errors.Is(err, ErrNoReflection) {
		t.Errorf("HTTP: %v, want %v", err, ErrNoReflection)
	}
	old := answer(t, func(string) string { return mockOK })
	if _, err := idle(t, config(old.url)).Reflect(t.Context()); err == nil || errors.Is(err, ErrNoReflection) {
		t.Errorf("HTTP/1: %v", err)
	}
}

// reflector answers each question with what f sends.
type reflector struct {
	v1.UnimplementedServerReflectionServer
	f func(*v1.ServerReflectionRequest, func(*v1.ServerReflectionResponse) error) error
}

func (r *reflector) ServerReflectionInfo(s v1.ServerReflection_ServerReflectionInfoServer) error {
	for {
		q, err := s.Recv()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = r.f(q, s.Send)
		}
		if err != nil {
			return err
		}
	}
}

func listed(names ...string) *v1.ServerReflectionResponse {
	l := &v1.ListServiceResponse{}
	for _, n := range names {
		l.Service = append(l.Service, &v1.ServiceResponse{Name: n})
	}
	return &v1.ServerReflectionResponse{MessageResponse: &v1.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: l}}
}

func described(files ...[]byte) *v1.ServerReflectionResponse {
	return &v1.ServerReflectionResponse{MessageResponse: &v1.ServerReflectionResponse_FileDescriptorResponse{FileDescriptorResponse: &v1.FileDescriptorResponse{FileDescriptorProto: files}}}
}

func unknown() *v1.ServerReflectionResponse {
	return &v1.ServerReflectionResponse{MessageResponse: &v1.ServerReflectionResponse_ErrorResponse{ErrorResponse: &v1.ErrorResponse{ErrorCode: 5, ErrorMessage: "there is none"}}}
}

// file is a FileDescriptorProto with imports, and with a source position.
func file(name string, imports ...string) []byte {
	b, err := proto.Marshal(&descriptorpb.FileDescriptorProto{
		Name: &name, Dependency: imports,
		SourceCodeInfo: &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{{Span: []int32{1, 2, 3}, LeadingComments: proto.String("a comment")}}},
	})
	if err != nil {
		panic(err)
	}
	return b
}

// TestReflectAnswers: peers that give a file at a time, little, too much, or
// what is not true. want is files, or begins with "error: ".
func TestReflectAnswers(t *testing.T) {
	send := func(list *v1.ServerReflectionResponse, symbol map[string]*v1.ServerReflectionResponse, files map[string][]byte) func(*v1.ServerReflectionRequest, func(*v1.ServerReflectionResponse) error) error {
		return func(q *v1.ServerReflectionRequest, send func(*v1.ServerReflectionResponse) error) error {
			a := unknown()
			switch {
			case q.GetFileContainingSymbol() != "":
				if s := symbol[q.GetFileContainingSymbol()]; s != nil {
					a = s
				}
			case q.GetFileByFilename() != "":
				if f := files[q.GetFileByFilename()]; f != nil {
					a = described(f)
				}
			default:
				a = list
			}
			return send(a)
		}
	}
	many := make([]string, reflectFiles+1)
	for i := range many {
		many[i] = fmt.Sprintf("s%d", i)
	}
	bomb := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("bomb.proto"))
	bomb = append(bomb, bytes.Repeat([]byte{4<<3 | 2, 0}, reflectFields+1)...) // empty messages
	deep := []byte{}
	for range reflectDepth + 1 {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), deep)
	}
	deep = append(file("deep.proto"), protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), deep)...)
	one := func(f ...[]byte) map[string]*v1.ServerReflectionResponse {
		return map[string]*v1.ServerReflectionResponse{"s": described(f...)}
	}
	for name, tt := range map[string]struct {
		f    func(*v1.ServerReflectionRequest, func(*v1.ServerReflectionResponse) error) error
		want string
	}{
		"a file at a time":        {send(listed("s"), one(file("a", "b", "c")), map[string][]byte{"b": file("b", "d"), "c": file("c", "d"), "d": file("d")}), "a b c d"},
		"the same file twice":     {send(listed("s"), one(file("a"), file("a")), nil), "a"},
		"one of two is described": {send(listed("s", "t"), one(file("a")), nil), "a"},
		"a cycle":                 {send(listed("s"), one(file("a", "b")), map[string][]byte{"b": file("b", "a")}), "a b"},
		"itself":                  {send(listed("s"), one(file("a", "a")), nil), "a"},
		"none is described":       {send(listed("s"), nil, nil), "error: it describes none of 1 services: \"there is none\""},
		"no service":              {send(listed(), nil, nil), "error: it lists no service"},
		"only its own":            {send(listed(reflectServices[0]), nil, nil), "error: it lists no service"},
		"an import is missing":    {send(listed("s"), one(file("a", "b")), nil), "error: it does not give the imported file \"b\""},
		"another file":            {send(listed("s"), one(file("a", "b")), map[string][]byte{"b": file("c")}), "error: it does not give the imported file \"b\""},
		"a file without a name":   {send(listed("s"), one([]byte{}), nil), "error: it sends a file without a name"},
		"no descriptor":           {send(listed("s"), one([]byte("\xff\xff")), nil), "error: its answer is not that of a reflection service"},
		"many services":           {send(listed(many...), nil, nil), "error: it names more than 1000 services"},
		"messages of two bytes":   {send(listed("s"), one(bomb), nil), "error: file \"bomb.proto\": its types have more than 250000 parts"},
		"messages in messages":    {send(listed("s"), one(deep), nil), "error: file \"deep.proto\": messages in messages are more than 64 deep"},
		"many files at once":      {send(listed("s"), one(file("a", many[:600]...), file("b", many[600:]...), file("c", "x", "y", "z")), nil), "error: it names more than 1000 services or files"},
		"imports without end": {func(q *v1.ServerReflectionRequest, to func(*v1.ServerReflectionResponse) error) error {
			name := q.GetFileByFilename() + "x"
			if q.GetFileByFilename() != "" {
				return to(described(file(q.GetFileByFilename(), name+"a", name+"b")))
			}
			return send(listed("s"), one(file("x", "y")), nil)(q, to)
		}, "error: it has more than 1000 files"},
		"answers without end": {func(_ *v1.ServerReflectionRequest, to func(*v1.ServerReflectionResponse) error) error {
			for {
				if err := to(listed(strings.Repeat("s", 8<<10))); err != nil {
					return err
				}
			}
		}, "error: answer goes on after the most that is read"},
		"a status": {func(*v1.ServerReflectionRequest, func(*v1.ServerReflectionResponse) error) error {
			return errors.New("broken")
		}, "error: it answers with status 200, grpc-status \"2\", \"broken\""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := map[string]int{}
			addr, _ := serveReflection(t, func(s *grpc.Server) {
				v1.RegisterServerReflectionServer(s, &reflector{f: func(q *v1.ServerReflectionRequest, to func(*v1.ServerReflectionResponse) error) error {
					asked[q.GetFileByFilename()]++ // streams come one after the other
					return tt.f(q, to)
				}})
			})
			own := &recorder{}
			cfg := config("http://" + addr)
			cfg.OwnReplay = own
			set, err := idle(t, cfg).Reflect(t.Context())
			own.check(t, 0)
			if want, bad := strings.CutPrefix(tt.want, "error: "); bad {
				if err == nil || !strings.HasPrefix(err.Error(), "server reflection: "+want) || set != nil {
					t.Fatalf("error %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(fileNames(t, set), " "); got != tt.want {
				t.Errorf("files %s, want %s", got, tt.want)
			}
			for name, n := range asked {
				if name != "" && (n > 1 || name == "a") {
					t.Errorf("file %s was asked for %d times, and the first answer has a", name, n)
				}
			}
			if bytes.Contains(set, []byte("a comment")) {
				t.Error("positions in source files are kept")
			}
		})
	}
}

// TestReflectBounds: what is refused while it is read, before anything is made of
// it.
func TestReflectBounds(t *testing.T) {
	answer := func(a *v1.ServerReflectionResponse) error {
		b, err := proto.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		_, err = readReflection([]byte(message(string(b))))
		return err
	}
	_, imports := readProtoFile(file("a", make([]string, reflectFiles+1)...))
	_, cut := readReflection([]byte{0, 0})
	for want, err := range map[string]error{
		"it names more than 1000 services":               answer(listed(strings.Fields(strings.Repeat("s ", reflectFiles+1))...)),
		"it sends more than 10000 files":                 answer(described(make([][]byte, 10*reflectFiles+1)...)),
		"file \"a\" has more than 1000 imports":          imports,
		"its answer is not that of a reflection service": cut,
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestReflectByHand: peers that do what no gRPC library does.
func TestReflectByHand(t *testing.T) {
	answerTo := func(p *peer, a *v1.ServerReflectionResponse, fields ...string) {
		b, err := proto.Marshal(a)
		if err != nil {
			panic(err)
		}
		stream := p.request(false)
		p.head(stream, false, ":status", "200")
		for piece := range slices.Chunk([]byte(message(string(b))), 16<<10) {
			p.WriteData(stream, false, piece)
		}
		p.head(stream, true, fields...)
	}
	long := make([]string, 900) // their questions are more than a window
	for i := range long {
		long[i] = strings.Repeat("n", 100) + fmt.Sprint(i)
	}
	for name, tt := range map[string]struct {
		f    func(p *peer)
		want string
	}{
		"another status": {func(p *peer) { p.head(p.request(false), true, ":status", "500", "grpc-status", "0") }, "it answers with status 500, grpc-status \"0\""},
		"no grpc-status": {func(p *peer) { p.head(p.request(false), true, ":status", "200") }, "it answers with status 200, grpc-status \"\""},
		"before it has read": {func(p *peer) {
			answerTo(p, listed(long...), "grpc-status", "0")
			p.head(p.request(true), true, ":status", "200", "grpc-status", "0")
			drain(p.Conn)
		}, "it answers before it has read the questions"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve2(t, func(p *peer, _ int) { tt.f(p) })
			if _, err := idle(t, config(srv.url)).Reflect(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "server reflection: "+tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestReflectSays: the question's head, in the clear and over TLS.
func TestReflectSays(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		heads := make(chan []hpack.HeaderField, len(reflectServices))
		f := func(c net.Conn, _ int) {
			if p := newPeer(c); p != nil {
				stream := p.request(false)
				heads <- p.list
				p.head(stream, true, ":status", "404")
				drain(c)
			}
		}
		cfg := Config{}
		if scheme == "https" {
			_, cfg = serveTLS(t, f, http2.NextProtoTLS)
		} else {
			cfg = config(serve(t, f).url)
		}
		if _, err := idle(t, cfg).Reflect(t.Context()); !errors.Is(err, ErrNoReflection) {
			t.Fatal(err)
		}
		for _, service := range reflectServices {
			want := []hpack.HeaderField{
				{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: scheme}, {Name: ":authority", Value: strings.TrimPrefix(cfg.URL, scheme+"://")},
				{Name: ":path", Value: "/" + service + "/ServerReflectionInfo"},
				{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"}, {Name: "x-shadow-test-role", Value: "candidate"},
			}
			if got := <-heads; !slices.Equal(got, want) {
				t.Errorf("asked with %v\nwant %v", got, want)
			}
		}
	}
}

// TestReflectTime: without an answer it ends after 5s, whatever the caller has.
func TestReflectTime(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, u *running, n *fakeNet) {
		n.serve = func(c net.Conn, _ netip.AddrPort) { drain(c) }
		begin := time.Now()
		_, err := u.Reflect(t.Context())
		if took := time.Since(begin); took != 5*time.Second || err == nil || errors.Is(err, ErrOff) {
			t.Errorf("after %v: %v", took, err)
		}
		u.Stop()
		if _, err := u.Reflect(t.Context()); !errors.Is(err, ErrOff) || n.dials.Load() != 1 {
			t.Errorf("stopped: %v, %d connections", err, n.dials.Load())
		}
	})
}

// TestReflectStuck: a peer that takes its time is left with the caller's.
func TestReflectStuck(t *testing.T) {
	for name, f := range map[string]func(p *peer){
		"no answer": func(p *peer) { p.request(false); p.request(false) },
		"control frames": func(p *peer) {
			p.request(false)
			go drain(p.Conn)
			for p.WritePing(false, [8]byte{}) == nil {
			}
		},
	} {
		srv := serve2(t, func(p *peer, _ int) { f(p) })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := idle(t, config(srv.url)).Reflect(ctx)
		cancel()
		if err == nil || errors.Is(err, ErrOff) || errors.Is(err, ErrNoReflection) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReflection reads whatever may come: as answers, and their files as types.
func FuzzReflection(f *testing.F) {
	for _, a := range []*v1.ServerReflectionResponse{listed("s", "t"), described(file("a", "b"), file("b")), unknown()} {
		b, err := proto.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(message(string(b)) + message(string(b))))
	}
	f.Add([]byte("\x01\x00\x00\x00\x00"))
	f.Add([]byte("\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		given := bytes.Clone(body)
		a, err := readReflection(body)
		if !bytes.Equal(body, given) {
			t.Fatal("the answer was written to")
		}
		if err != nil {
			return
		}
		if len(a.services) > reflectFiles || len(a.refused) > 200 {
			t.Fatalf("%d services, %d bytes of an error", len(a.services), len(a.refused))
		}
		// protobuf's own reader agrees on what a file is.
		for _, b := range a.files {
			var d descriptorpb.FileDescriptorProto
			if proto.Unmarshal(b, &d) != nil {
				continue
			}
			p, err := readProtoFile(b)
			if d.GetName() == "" {
				if err == nil {
					t.Fatalf("a file without a name: %q", p.name)
				}
				continue
			}
			if err != nil {
				if len(d.Dependency) > reflectFiles {
					continue
				}
				t.Fatalf("%v, for what protobuf reads as %v", err, &d)
			}
			if p.name != d.GetName() || !slices.Equal(p.imports, d.Dependency) {
				t.Fatalf("name %q imports %q, protobuf has %q %q", p.name, p.imports, d.GetName(), d.Dependency)
			}
			d.SourceCodeInfo = nil
			var kept descriptorpb.FileDescriptorProto
			if err := proto.Unmarshal(p.bytes, &kept); err != nil || !proto.Equal(&kept, &d) {
				t.Fatalf("kept %v (%v), want %v", &kept, err, &d)
			}
			left := reflectFields
			_ = countFields(p.bytes, &left, reflectDepth)
		}
	})
}
