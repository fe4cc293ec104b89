//go:build e2e

package e2e

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// agent is the program, running on the node.
type agent struct {
	process  *bed.Process
	stage    *stage
	instance string
	config   string
	admin    *admin.Client
	held     objects
	dir      string
}

const management = "127.0.0.1:9000"

// settings are what tests vary of the configuration.
type settings struct {
	candidate string // URL; empty captures only
	port      int    // that is replayed; 0 is 8080
	routes    string // YAML of the list; empty is all paths
	exclude   string // YAML
	sample    string // empty is 100%
	replay    string // YAML of the map
	control   string // YAML of the map
	compare   string // YAML of the map
	guard     string // YAML of the map; empty is off
	publish   string // YAML of the map
	sinks     string // YAML of the list
	memory    string // empty is 128MiB
	ports     string // YAML of the list; empty is 8080 alone
	rings     int    // 0 is the default
	logLevel  string // empty is info
	other     bool   // a second experiment, which no request matches
	flags     []string
}

var instances atomic.Int32

func (c settings) yaml(instance string) string {
	or := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	text := fmt.Sprintf(`version: 1
instance: %[1]s
off_file: /run/shadowtap/%[1]s/off
capture:
  interfaces: [%[2]s]
  ports: %[8]s
  memory: %[3]s
  rings: %[9]d
management: {address: "%[4]s", admin_socket: /run/shadowtap/%[1]s/admin.sock}
log: {level: %[5]s}
publish: %[6]s
sinks: %[7]s
`, instance, tapped, or(c.memory, "128MiB"), management, or(c.logLevel, "info"),
		or(c.publish, "{per_fingerprint: 1000000}"), or(c.sinks, "[]"), or(c.ports, "[8080]"), c.rings)
	if c.candidate != "" {
		// The guard is off: it would pause the replay where this machine is
		// slow for a moment, and the counts would not be what is expected.
		text += fmt.Sprintf(`experiments:
  - name: users
    match: {port: %d}
    routes: %s
    exclude: %s
    sample: {rate: %s}
    candidate: {url: "%s"}
    replay: %s
    control: %s
    compare: %s
    guard: %s
`, cmp.Or(c.port, 8080), or(c.routes, `[{path: "/"}]`), or(c.exclude, "[]"), or(c.sample, "100%"), c.candidate,
			or(c.replay, "{timeout: 1s, max_in_flight: 512}"), or(c.control, "{}"), or(c.compare, "{}"),
			or(c.guard, "{latency: off, errors: off}"))
	}
	if c.other {
		text += fmt.Sprintf("  - {name: others, routes: [{path: /nowhere}], candidate: {url: %q}}\n", c.candidate)
	}
	return text
}

// startAgent starts the program and returns when it is ready.
func startAgent(t *testing.T, s *stage, c settings) *agent {
	t.Helper()
	a := &agent{
		stage:    s,
		instance: fmt.Sprintf("%s%d-%d", instancePrefix, os.Getpid(), instances.Add(1)),
		dir:      t.TempDir(),
	}
	a.admin = admin.New(admin.SocketPath(a.instance))
	a.config = filepath.Join(a.dir, "shadowtap.yaml")
	if err := os.WriteFile(a.config, []byte(c.yaml(a.instance)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(filepath.Join(admin.Root, a.instance)) })
	a.start(t, c.flags...)
	return a
}

// start starts the process, again after an end.
func (a *agent) start(t *testing.T, flags ...string) {
	t.Helper()
	a.process = a.stage.node.Start(t, bed.Command{
		Path: program, Args: append([]string{"run", "--config", a.config}, flags...),
		Dir: a.dir, StopSignal: syscall.SIGINT, StopTimeout: 25 * time.Second,
	})
	bed.Poll(t, 30*time.Second, "the agent is ready", func() (bool, string) {
		if a.process.Ended() {
			t.Fatalf("the agent ended\n%s", a.process.Tail())
		}
		code, text := a.get(t, "/readyz")
		return code == http.StatusOK, text + a.process.Tail()
	})
	var err error
	if a.held, err = heldBy(a.process.Pid); err != nil {
		t.Fatal(err)
	}
	if len(a.held.maps) == 0 || len(a.held.programs) == 0 {
		t.Fatalf("the agent is ready and holds %d maps and %d programs", len(a.held.maps), len(a.held.programs))
	}
}

// get asks the management address.
func (a *agent) get(t *testing.T, path string) (code int, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DialContext: a.stage.node.DialContext, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+management+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(body)
}

// status asks the admin socket.
func (a *agent) status(t *testing.T) *admin.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := a.admin.Status(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, a.process.Tail())
	}
	return s
}

// rest waits until everything that was captured has come to its end: the
// ledger balances with nothing in flight, and both stay so. done says what must
// have been counted by then.
func (a *agent) rest(t *testing.T, timeout time.Duration, done func(telemetry.Ledger) (bool, string)) *admin.Status {
	t.Helper()
	var status *admin.Status
	before := ""
	bed.Poll(t, timeout, "the ledger is at rest", func() (bool, string) {
		status = a.status(t)
		ledger := telemetry.Ledger(status.Ledger)
		state, err := json.Marshal(ledger)
		if err != nil {
			t.Fatal(err)
		}
		same := string(state) == before
		before = string(state)
		ok, why := done(ledger)
		if !ok {
			return false, why + ": " + before
		}
		for _, line := range []string{"exchanges", "replays", "control", "comparisons", "rechecks", "deliveries"} {
			if n := ledger[line][telemetry.InFlightKey]; n > 0 {
				return false, fmt.Sprintf("%s: %d in flight", line, n)
			}
		}
		if len(status.Imbalances) > 0 {
			return false, strings.Join(status.Imbalances, "\n")
		}
		return same, "still counting"
	})
	return status
}

// requireKernelPackets compares the ledger's packets with the kernel's counters,
// read without the agent's help. A packet of the node's own (a neighbour is
// asked for) may pass between the two readings, so they have to agree once.
func (a *agent) requireKernelPackets(t *testing.T) {
	t.Helper()
	bed.Poll(t, 5*time.Second, "the ledger has the kernel's packets", func() (bool, string) {
		kernel, ledger := a.held.packets(t), a.status(t).Ledger["kernel_packets"]
		return maps.Equal(kernel, ledger), fmt.Sprintf("kernel packets: the agent says %v, the map %v", ledger, kernel)
	})
}

// completed is a condition for rest: every exchange was seen. Where the machine
// gave the agent no CPU for so long that packets were lost, which the kernel's
// counters then say, at most as many exchanges may be missing.
func completed(n int) func(telemetry.Ledger) (bool, string) {
	return func(l telemetry.Ledger) (bool, string) {
		got := l["exchanges"]["complete"]
		return got <= uint64(n) && got+lostPackets(l) >= uint64(n), fmt.Sprintf("%d exchanges of %d", got, n)
	}
}

// lostPackets is how many selected packets the tap could not hand over.
func lostPackets(l telemetry.Ledger) (n uint64) {
	for _, word := range []string{"ring_full", "copy_failed", "no_reader", "over_budget"} {
		n += l["kernel_packets"][word]
	}
	return n
}

// requireBalance fails the test when a line of the ledger does not add up.
func requireBalance(t *testing.T, s *admin.Status) {
	t.Helper()
	for _, i := range s.Imbalances {
		t.Errorf("the ledger does not balance: %s", i)
	}
	// Not by the agent's own arithmetic alone.
	l := s.Ledger
	sum := func(line string) (n uint64) {
		for _, v := range l[line] {
			n += v
		}
		return n
	}
	for _, c := range []struct {
		what        string
		left, right uint64
	}{
		{"delivered bytes", l["captured_bytes"]["delivered"], sum("delivered_bytes")},
		{"complete exchanges", l["exchanges"]["complete"], sum("selection")},
		{"selected exchanges", l["selection"]["selected"], sum("replays")},
		{"compared pairs", l["replays"]["compared"], sum("comparisons")},
	} {
		if c.left != c.right && c.right != 0 {
			t.Errorf("%d %s, but %d by what became of them", c.left, c.what, c.right)
		}
	}
}

// stop ends the agent by SIGINT and checks that nothing of it is left.
func (a *agent) stop(t *testing.T) {
	t.Helper()
	a.process.Stop(t)
	a.requireNothingLeft(t)
}

// requireNothingLeft checks that the process, its programs, maps and links, its
// entries in the chains and its socket are gone.
func (a *agent) requireNothingLeft(t *testing.T) {
	t.Helper()
	if !a.process.Ended() {
		t.Fatal("the agent runs")
	}
	a.held.requireGone(t)
	for _, name := range []string{tapped, "cli0", "can0", "lo"} {
		for _, what := range attached(t, a.stage.node, name) {
			t.Errorf("left behind: %s", what)
		}
	}
	if children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", a.process.Pid)); err != nil || len(children) > 0 {
		t.Errorf("left behind: tasks %q, %v", children, err)
	}
}

// exchangeLine is a line of --exchanges-to.
type exchangeLine struct {
	Client, Server     string
	Proto, Method, URI string
	Status             int
	Interim            []int
	Request, Response  messageLine
	GRPC               string `json:"grpc_status"`
}

// messageLine is what it says of a message.
type messageLine struct {
	Len      int64  `json:"body_len"`
	SHA256   string `json:"body_sha256"`
	Complete bool
	Framing  string
}

// eachExchange calls f for each line of a file of --exchanges-to. Both are lent
// for the call.
func eachExchange(t *testing.T, file string, f func(x *exchangeLine, line []byte)) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	s := bufio.NewScanner(in)
	s.Buffer(make([]byte, 64<<10), 1<<20)
	for s.Scan() {
		var x exchangeLine
		if err := json.Unmarshal(s.Bytes(), &x); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		f(&x, s.Bytes())
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

// exchangesIn reads a file of --exchanges-to into the form of nginx's log.
func exchangesIn(t *testing.T, file string) map[string]int {
	t.Helper()
	lines := map[string]int{}
	eachExchange(t, file, func(x *exchangeLine, line []byte) {
		if !x.Response.Complete {
			t.Errorf("an exchange that is not complete: %s", line)
		}
		size := fmt.Sprint(x.Response.Len)
		if x.Response.Framing == "chunked" {
			size = x.Response.Framing
		}
		lines[fmt.Sprintf("%s %s %d %s", x.Method, x.URI, x.Status, size)]++
	})
	return lines
}

// requireSame compares two countings line by line.
func requireSame(t *testing.T, what string, want, got map[string]int) {
	t.Helper()
	shown := 0
	for _, side := range []struct {
		word string
		a, b map[string]int
	}{{"only the reference has", want, got}, {"only the agent has", got, want}} {
		for line, n := range side.a {
			if extra := n - side.b[line]; extra > 0 {
				if shown++; shown <= 10 {
					t.Errorf("%s: %s %d times more: %s", what, side.word, extra, line)
				}
			}
		}
	}
	if shown > 10 {
		t.Errorf("%s: %d further lines", what, shown-10)
	}
}
