package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

// stage is four machines: a client and a server that talk by way of a node,
// and a candidate that the node reaches. Packets of the server pass the node's
// srv0.
//
//	client eth0 --- cli0 node srv0 --- eth0 server
//	                     can0 -------- eth0 candidate
type stage struct {
	client, node, server, candidate *bed.Namespace

	// Cores for taskset: of the load, of the reference, of everything else.
	loadCores, referenceCores, otherCores string
	// nice is the niceness of every process, that of the load too.
	nice int
	// self is this program's file, which is the load generator as well.
	self string
	// ctx ends with the run.
	ctx context.Context

	reference *bed.Process
}

// Where things are.
var (
	referenceAddress = netip.MustParseAddrPort("10.77.2.2:8080")
	candidateAddress = netip.MustParseAddrPort("10.77.3.2:8090")
	// proxyAddress is where a tool listens that stands in the path.
	proxyAddress = netip.MustParseAddrPort("10.77.1.1:8081")
	// countAddress is where the candidate tells how many requests it has had.
	countAddress = netip.MustParseAddrPort("10.77.3.2:8099")
)

// sizes of answers' bodies in bytes, by the word of a cell.
var sizes = map[string]int{"200b": 200, "4k": 4 << 10, "64k": 64 << 10}

// newStage makes the machines, with reference and candidate running.
func newStage(ctx context.Context, o *owner, self string, nice int) *stage {
	all := cores()
	s := &stage{
		client:         bed.NewNamespace(o, "client"),
		node:           bed.NewNamespace(o, "node"),
		server:         bed.NewNamespace(o, "server"),
		candidate:      bed.NewNamespace(o, "candidate"),
		referenceCores: strconv.Itoa(all[0]),
		loadCores:      strconv.Itoa(all[len(all)-1]),
		otherCores:     strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ","), "[]"),
		nice:           nice, self: self, ctx: ctx,
	}
	s.node.Must(o, func() error { return bed.Sysctl("net/ipv4/ip_forward", "1") })
	for _, leaf := range []struct {
		ns   *bed.Namespace
		name string
		net  string
	}{{s.client, "cli0", "10.77.1."}, {s.server, "srv0", "10.77.2."}, {s.candidate, "can0", "10.77.3."}} {
		bed.Join(o,
			bed.Link{Namespace: s.node, Name: leaf.name, Addresses: []string{leaf.net + "1/24"}},
			bed.Link{Namespace: leaf.ns, Name: "eth0", Addresses: []string{leaf.net + "2/24"}, Gateways: []string{leaf.net + "1"}})
	}
	dir := o.TempDir()
	for name, size := range sizes {
		write(o, filepath.Join(dir, "www", name), body(size))
	}
	s.reference = s.nginx(o, s.server, s.referenceCores, fmt.Sprintf(serverConf, dir, referenceAddress.Port(), countAddress.Port()))
	s.nginx(o, s.candidate, s.otherCores, fmt.Sprintf(serverConf, dir, candidateAddress.Port(), countAddress.Port()))
	s.answers(o, s.client, referenceAddress)
	s.answers(o, s.node, candidateAddress)
	return s
}

// serverConf is nginx as reference and as candidate: a file, with the request's
// id in a field of the head.
const serverConf = `
  default_type application/json;
  open_file_cache max=16;
  keepalive_timeout 1h;
  server { listen %[2]d backlog=1024; root %[1]s/www; add_header X-Id $arg_id; }
  server { listen %[3]d; location / { stub_status; } }
`

// nginx starts an nginx with that configuration of http. It is one process: a
// worker of a master would outlive a kill of this program, and its time would
// have to be added up.
func (s *stage) nginx(o *owner, ns *bed.Namespace, on, conf string) *bed.Process {
	dir := o.TempDir()
	text := fmt.Sprintf("user root; daemon off; master_process off; error_log stderr crit; pid %[1]s/pid;\n"+
		"events { worker_connections 4096; }\n"+
		"http {\n  access_log off; server_tokens off; keepalive_requests 1000000000;\n", dir)
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += fmt.Sprintf("  %s_temp_path %s/%[1]s;\n", kind, dir)
	}
	file := filepath.Join(dir, "nginx.conf")
	write(o, file, []byte(text+conf+"}\n"))
	return s.start(o, ns, on, syscall.SIGKILL, nil, "nginx", "-p", dir, "-e", "stderr", "-c", file)
}

// start starts a program on those cores, with the niceness of all.
func (s *stage) start(o *owner, ns *bed.Namespace, on string, stop syscall.Signal, env []string, program string, args ...string) *bed.Process {
	path, err := bed.LookPath(program)
	if err != nil {
		o.Fatal(err)
	}
	// Both replace themselves, so the process is the program's.
	return ns.Start(o, bed.Command{
		Path: "nice", Args: append([]string{"-n", strconv.Itoa(s.nice), "taskset", "-c", on, path}, args...),
		Env: env, StopSignal: stop, StopTimeout: 25 * time.Second,
	})
}

// await polls until f says true, the deadline is there or the run is over.
func (s *stage) await(o *owner, timeout time.Duration, what string, p *bed.Process, f func() (bool, string)) {
	bed.Poll(o, timeout, what, func() (bool, string) {
		if s.ctx.Err() != nil {
			o.Fatal(context.Cause(s.ctx))
		}
		ok, state := f()
		if !ok && p != nil && p.Ended() {
			o.Fatalf("%s: the process ended\n%s", what, p.Tail())
		}
		return ok, state
	})
}

// pause lets time pass.
func (s *stage) pause(o *owner, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
		o.Fatal(context.Cause(s.ctx))
	}
}

// answers waits until a server answers with a file, seen from there.
func (s *stage) answers(o *owner, from *bed.Namespace, at netip.AddrPort) {
	s.await(o, 20*time.Second, fmt.Sprintf("%v answers", at), nil, func() (bool, string) {
		text, err := s.get(from, at, "/200b?id=ready")
		return err == nil && len(text) == sizes["200b"], fmt.Sprint(err)
	})
}

// get asks a server of the stage.
func (s *stage) get(from *bed.Namespace, at netip.AddrPort, target string) (string, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+target, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s: status %d", at, target, res.StatusCode)
	}
	return string(text), err
}

// replayed is how many requests the candidate has had, this one among them.
func (s *stage) replayed(o *owner) int {
	text, err := s.get(s.node, countAddress, "/")
	if err != nil {
		o.Fatal(err)
	}
	n, err := parseStubStatus(text)
	if err != nil {
		o.Fatal(err)
	}
	return n
}

// parseStubStatus gives the requests of nginx's stub_status page.
func parseStubStatus(text string) (int, error) {
	_, rest, ok := strings.Cut(text, "server accepts handled requests\n")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 3 {
		return 0, fmt.Errorf("nginx's status page: %q", text)
	}
	return strconv.Atoi(fields[2])
}

// body is a JSON document of that many bytes.
func body(size int) []byte {
	b := []byte(`{"items":[`)
	end := func(pad int) string { return `],"pad":"` + strings.Repeat("x", pad) + `"}` }
	for i := 0; ; i++ {
		item := fmt.Sprintf(`{"id":%d,"name":"item-%d","price":%d.%02d,"tags":["a","b"]}`, i, i, i*7%1000, i%100)
		if i > 0 {
			item = "," + item
		}
		rest := size - len(b) - len(end(0))
		if len(item) > rest {
			return append(b, end(rest)...)
		}
		b = append(b, item...)
	}
}

func write(o *owner, file string, text []byte) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		o.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		o.Fatal(err)
	}
}
