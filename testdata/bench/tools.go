package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// Names of the tools, in the order of the table.
const (
	none         = "none"
	tcpdump      = "tcpdump"
	goreplay     = "goreplay"
	shadowtap01  = "shadowtap-0.1%"
	shadowtap1   = "shadowtap-1%"
	shadowtap10  = "shadowtap-10%"
	shadowtapAll = "shadowtap-all"
	nginxMirror  = "nginx-mirror"
	miffy        = "miffy"
)

var toolNames = []string{none, tcpdump, goreplay, shadowtap01, shadowtap1, shadowtap10, shadowtapAll, nginxMirror, miffy}

// rates are the shares that shadowtap replays and compares.
var rates = map[string]string{shadowtap01: "0.1%", shadowtap1: "1%", shadowtap10: "10%", shadowtapAll: "100%"}

// curve are those of which the run shows how the agent's CPU rises with the share, in
// the steady cell. Two of them are there for that alone.
var curve = []string{shadowtap01, shadowtap1, shadowtap10, shadowtapAll}

// gets says whether a tool is measured in a cell.
func gets(tool string, c cell) bool {
	return tool != shadowtap01 && tool != shadowtap10 || c == steady
}

// about says what each does, below the table.
var about = map[string]string{
	none:         "nothing attached",
	tcpdump:      "every packet of the port, written to /dev/null",
	goreplay:     "requests and answers paired, no output",
	shadowtap01:  "every exchange framed, 0.1 % replayed and compared",
	shadowtap1:   "every exchange framed, 1 % replayed and compared",
	shadowtap10:  "every exchange framed, 10 % replayed and compared",
	shadowtapAll: "every exchange framed, replayed and compared",
	nginxMirror:  "a proxy in the path; all replayed, nothing compared",
	miffy:        "a proxy in the path; all replayed, bodies compared",
}

// Versions of what a registry gives.
const (
	goreplayVersion = "v1.3.2"
	miffyVersion    = "1.0.1"
)

// programs are the files of tools that are not the system's.
type programs struct{ shadowtap, goreplay, miffy string }

// tool is one that runs.
type tool struct {
	name string
	// process is nil when there is none.
	process *bed.Process
	// admin is set for shadowtap.
	admin *admin.Client
	// proxy says that it stands in the path.
	proxy bool
}

// startTool starts a tool and returns when it is ready. It ends with o.
func (s *stage) startTool(o *owner, name string, p programs) *tool {
	t := &tool{name: name}
	reference := referenceAddress.String()
	switch name {
	case none:
	case tcpdump:
		// As another user it would lose the signal that ends it with this program.
		t.process = s.start(o, s.server, s.otherCores, syscall.SIGKILL, nil,
			"tcpdump", "-Z", "root", "-i", "eth0", "-s", "0", "-w", "/dev/null", "tcp", "port", fmt.Sprint(referenceAddress.Port()))
	case goreplay:
		// Without the larger snap length it loses every answer that is longer
		// than a packet of the wire.
		t.process = s.start(o, s.server, s.otherCores, syscall.SIGKILL, nil,
			p.goreplay, "--input-raw", reference, "--input-raw-track-response", "--input-raw-override-snaplen", "--output-null")
	case shadowtap01, shadowtap1, shadowtap10, shadowtapAll:
		s.startShadowtap(o, t, p.shadowtap)
	case nginxMirror:
		t.proxy = true
		t.process = s.nginx(o, s.node, s.otherCores, fmt.Sprintf(mirrorConf, proxyAddress, referenceAddress, candidateAddress))
	case miffy:
		t.proxy = true
		s.startMiffy(o, t, p.miffy)
	}
	switch {
	case t.proxy:
		s.answers(o, s.client, proxyAddress)
	case t.admin != nil:
		s.await(o, 30*time.Second, "shadowtap is ready", t.process, func() (bool, string) {
			status, err := t.admin.Status(s.ctx)
			return err == nil && status.Status == "ok", fmt.Sprint(err)
		})
	case t.process != nil:
		s.await(o, 20*time.Second, name+" captures", t.process, func() (bool, string) {
			n, err := packetSockets(t.process.Pid)
			return n > 0, fmt.Sprint(err)
		})
	}
	// Whatever it still does to get started is not what it costs.
	s.pause(o, time.Second)
	return t
}

// instancePrefix begins the instance names of the agents here.
const instancePrefix = "bench-"

// agentConf is all defaults but for the guard: it would pause the replay where
// this machine is slow for a moment, and less than all would be replayed.
const agentConf = `version: 1
instance: %[1]s
off_file: /run/shadowtap/%[1]s/off
capture: {interfaces: [srv0]}
management: {admin_socket: /run/shadowtap/%[1]s/admin.sock}
experiments:
  - name: bench
    match: {port: %[2]d}
    routes: [{path: "/"}]
    sample: {rate: %[3]s}
    candidate: {url: "http://%[4]s"}
    guard: {latency: off, errors: off}
`

func (s *stage) startShadowtap(o *owner, t *tool, program string) {
	instance := fmt.Sprintf("%s%d", instancePrefix, os.Getpid())
	file := filepath.Join(o.TempDir(), "shadowtap.yaml")
	write(o, file, fmt.Appendf(nil, agentConf, instance, referenceAddress.Port(), rates[t.name], candidateAddress))
	o.Cleanup(func() {
		if err := os.RemoveAll(filepath.Join(admin.Root, instance)); err != nil {
			o.Errorf("remove the run folder: %w", err)
		}
	})
	t.process = s.start(o, s.node, s.otherCores, syscall.SIGINT, nil, program, "run", "--config", file)
	t.admin = admin.New(admin.SocketPath(instance))
}

// mirrorConf is nginx as a proxy that sends each request to a candidate too.
const mirrorConf = `
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  upstream reference { server %[2]s; keepalive 128; keepalive_requests 1000000000; }
  upstream candidate { server %[3]s; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen %[1]s backlog=1024;
    location / { mirror /mirror; proxy_pass http://reference; }
    location = /mirror { internal; proxy_connect_timeout 1s; proxy_read_timeout 1s; proxy_pass http://candidate$request_uri; }
  }
`

const miffyConf = `port = %d
management_port = 9001
reference = "http://%s"
candidate = "http://%s"
routes = [ { path = "/{file}" } ]
[kafka]
topic = "miffy"
"bootstrap.servers" = "127.0.0.1:9092"
`

// startMiffy starts the proxy with a broker, which gets nothing: the candidate
// answers as the reference does.
func (s *stage) startMiffy(o *owner, t *tool, program string) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(1, "miffy"),
		kfake.ListenFn(func(network, address string) (l net.Listener, err error) {
			err = s.node.Do(func() error {
				l, err = net.Listen(network, address)
				return err
			})
			return l, err
		}))
	if err != nil {
		o.Fatalf("start a broker: %w", err)
	}
	o.Cleanup(broker.Close)
	file := filepath.Join(o.TempDir(), "miffy.toml")
	write(o, file, fmt.Appendf(nil, miffyConf, proxyAddress.Port(), referenceAddress, candidateAddress))
	t.process = s.start(o, s.node, s.otherCores, syscall.SIGKILL, []string{"MIFFY_CONFIG=" + file, "RUST_LOG=warn"}, program)
}

// prepare builds or finds the programs of tools. It returns the tools that can
// run, and says of each other why it can't.
func prepare(ctx context.Context, o *owner, opt options, log io.Writer) (p programs, tools []string) {
	for _, name := range opt.tools {
		var err error
		switch name {
		case goreplay:
			if p.goreplay == "" {
				p.goreplay, err = installGoReplay(ctx, opt.cache, log)
			}
		case miffy:
			p.miffy, err = installMiffy(ctx, opt.cache, opt.miffy, log)
		case tcpdump, nginxMirror:
			_, err = bed.LookPath(strings.TrimSuffix(name, "-mirror"))
		case shadowtap01, shadowtap1, shadowtap10, shadowtapAll:
			if p.shadowtap == "" {
				p.shadowtap = filepath.Join(o.TempDir(), "shadowtap")
				err = command(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-o", p.shadowtap, "github.com/shadowtap/shadowtap/cmd/shadowtap")
				if err != nil {
					o.Fatal(err)
				}
			}
		}
		if ctx.Err() != nil {
			o.Fatal(context.Cause(ctx))
		}
		if err != nil {
			fmt.Fprintf(log, "%s is left out: %v\n", name, err)
			continue
		}
		tools = append(tools, name)
	}
	return p, tools
}

func installGoReplay(ctx context.Context, cache string, log io.Writer) (string, error) {
	dir := filepath.Join(cache, "goreplay-"+goreplayVersion)
	file := filepath.Join(dir, "goreplay")
	if _, err := exec.LookPath(file); err == nil {
		return file, nil
	}
	fmt.Fprintf(log, "building GoReplay %s into %s\n", goreplayVersion, dir)
	return file, command(ctx, []string{"CGO_ENABLED=1", "GOBIN=" + dir}, "go", "install", "github.com/buger/goreplay@"+goreplayVersion)
}

func installMiffy(ctx context.Context, cache string, build bool, log io.Writer) (string, error) {
	dir := filepath.Join(cache, "miffy-"+miffyVersion)
	file := filepath.Join(dir, "bin", "miffy")
	if _, err := exec.LookPath(file); err == nil {
		return file, nil
	}
	switch cargo, err := exec.LookPath("cargo"); {
	case err != nil:
		return "", errors.New("no cargo on this machine to build it")
	case !build:
		return "", errors.New("MIFFY=1 builds it with cargo, which takes minutes, and once")
	default:
		fmt.Fprintf(log, "building miffy %s into %s\n", miffyVersion, dir)
		return file, command(ctx, nil, cargo, "install", "miffy", "--version", miffyVersion, "--root", dir)
	}
}

// command runs one to its end. Its output is part of the error.
func command(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out[max(0, len(out)-2000):])
	}
	return nil
}
