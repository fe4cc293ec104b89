//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

// startHealth serves grpc-go's health service in a namespace until the test ends.
func startHealth(t *testing.T, ns *bed.Namespace, address string, users healthpb.HealthCheckResponse_ServingStatus, register func(*grpc.Server)) {
	t.Helper()
	answers := health.NewServer()
	answers.SetServingStatus("users", users)
	answers.SetServingStatus("orders", healthpb.HealthCheckResponse_SERVING)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, answers)
	register(server)
	l := ns.Listen(t, "tcp", address)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
}

// TestReflection replays gRPC calls to a candidate of grpc-go that is asked for
// its types: what differs has the field's name, and by number when the candidate
// does not say.
func TestReflection(t *testing.T) {
	const calls = 60
	for _, c := range []struct {
		name     string
		register func(*grpc.Server)
		log      string
		path     string
	}{
		{"the candidate reflects", func(s *grpc.Server) { reflection.Register(s) }, "protobuf types found", "$[0].status"},
		{"it does not", func(*grpc.Server) {}, "has no gRPC server reflection", "$[0]['#1']"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			startHealth(t, s.server, "[::]:8080", healthpb.HealthCheckResponse_SERVING, func(*grpc.Server) {})
			startHealth(t, s.candidate, candidateIP+":9090", healthpb.HealthCheckResponse_NOT_SERVING, c.register)
			file := filepath.Join(t.TempDir(), "divergences.jsonl")
			a := startAgent(t, s, settings{
				candidate: candidateURL, compare: "{reflection: candidate}",
				replay: `{timeout: 5s, max_in_flight: 64, grpc: ["/grpc.health.v1.Health/Check"]}`,
				sinks:  fmt.Sprintf("[{jsonl: {path: %q}}]", file),
			})
			bed.Poll(t, 30*time.Second, "the candidate was asked", func() (bool, string) {
				log := a.process.Tail()
				return strings.Contains(log, c.log), log
			})

			conn, err := grpc.NewClient("passthrough:///health.test", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
					return s.client.DialContext(ctx, "tcp", serverAddr4)
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			client := healthpb.NewHealthClient(conn)
			names := []string{"users", "orders", "nobody"}
			for n := range calls {
				got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: names[n%len(names)]})
				if n%len(names) == 2 {
					if status.Code(err) != codes.NotFound {
						t.Fatalf("%v, %v", got, err)
					}
				} else if err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
					t.Fatalf("%v, %v", got, err)
				}
			}
			st := a.rest(t, time.Minute, completed(calls))
			requireBalance(t, st)
			if l := st.Ledger["comparisons"]; l["divergent"] != calls/3 || l["equal"]+l["ignored"] != calls*2/3 {
				t.Errorf("comparisons %v", l)
			}
			a.stop(t)

			check, found := validator(t), 0
			for _, line := range lines(t, file) {
				var r struct {
					record
					Differences []struct {
						Aspect, Kind, Path   string
						Reference, Candidate struct{ Text string }
					}
				}
				if err := json.Unmarshal([]byte(line), &r); err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(r.Schema, "shadowtap.divergence.") {
					continue
				}
				if err := check(line); err != nil {
					t.Error(err)
				}
				found++
				if len(r.Differences) != 1 || r.Differences[0].Path != c.path || r.Differences[0].Kind != "changed" || r.Request.URL != "/grpc.health.v1.Health/Check" {
					t.Fatalf("%+v, want a change at %s", r, c.path)
				}
			}
			if found != calls/3 {
				t.Errorf("%d records of %d calls", found, calls)
			}
		})
	}
}
