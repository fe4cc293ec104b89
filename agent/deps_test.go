package agent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/shadowtap/shadowtap/"

// mayImport is the policy: what each room imports beside the standard library.
// Own rooms stand by their folder, others' packages by a path that covers all
// below it. Arrows go along the data or to the shared words, and a new one needs
// a line here and a reason in its review. See golang/go src/go/build/deps_test.go.
var mayImport = map[string]string{
	"reassembly/exchange": "",
	"reassembly":          "reassembly/exchange",
	// Only what the processor can.
	"reassembly/http1": "reassembly reassembly/exchange golang.org/x/sys/cpu",
	"reassembly/http2": "reassembly reassembly/exchange golang.org/x/net/http2/hpack",
	"bpf":              "github.com/cilium/ebpf golang.org/x/sys/unix",
	"agent/attach":     "bpf github.com/cilium/ebpf github.com/vishvananda/netlink golang.org/x/sys/unix",
	"agent/capture":    "agent/crash bpf reassembly github.com/cilium/ebpf github.com/google/gopacket golang.org/x/sys/unix",
	"agent/sample":     "reassembly/exchange",
	"agent/replay":     "agent/crash reassembly/exchange reassembly reassembly/http1 golang.org/x/net golang.org/x/sys/unix golang.org/x/time github.com/sony/gobreaker/v2 google.golang.org/protobuf/encoding/protowire",
	"diff":             "reassembly/exchange github.com/klauspost/compress github.com/andybalholm/brotli golang.org/x/net/html google.golang.org/protobuf",
	"diff/verdict":     "diff",
	"agent/redact":     "diff diff/verdict reassembly/exchange github.com/klauspost/compress/zstd github.com/andybalholm/brotli golang.org/x/net/html/charset",
	"agent/publish":    "agent/redact agent/screen github.com/twmb/franz-go",
	// Only the client library of metrics; what the numbers mean is not its
	// business, so it knows no room.
	"agent/telemetry": "agent/telemetry/admin github.com/prometheus/client_golang golang.org/x/sys/unix",

	// Rooms that the design's table does not name.
	// What every goroutine that handles captured bytes begins with.
	"agent/crash": "golang.org/x/sys/unix",
	// The client's side of the admin interface: commands use it without all
	// that the server needs.
	"agent/telemetry/admin": "",
	// The off file and the lock: agent and commands agree by them.
	"agent/off": "golang.org/x/sys/unix",
	// Keeps what sampling and replay came to; it acts on nothing of it.
	"agent/recording": "reassembly/exchange agent/replay github.com/klauspost/compress/zstd",
	// The file's syntax is its own; it knows the exchange's words, and no room
	// that acts on a setting.
	"agent/config": "reassembly/exchange github.com/goccy/go-yaml",
	// What publish and report both need of terminals.
	"agent/screen": "",
	// What windows and published records say, for people: the same in the
	// agent, over files and over topics. It reads records as JSON, as any
	// consumer does, so that it needs no room of those that make them.
	"agent/report": "diff/verdict agent/screen",
	// Holds JSON Schema files for publish and for consumers.
	"agent/publish/schema": "",

	// The only place that knows all rooms. kfake is the demo's broker, kgo asks
	// whether another is there.
	"agent": "agent/crash reassembly/exchange reassembly reassembly/http1 reassembly/http2 bpf agent/attach agent/capture agent/sample agent/replay agent/recording diff diff/verdict agent/report agent/redact " +
		"agent/publish agent/telemetry agent/telemetry/admin agent/off agent/config github.com/twmb/franz-go/pkg/kfake github.com/twmb/franz-go/pkg/kgo golang.org/x/sync golang.org/x/sys/unix",
	// Flags and environment to agent's functions; config is what they fill in,
	// telemetry, admin and report what is printed, verdict the settings of one.
	"cmd/shadowtap": "agent agent/crash agent/report diff/verdict agent/config agent/telemetry agent/telemetry/admin github.com/urfave/cli/v2 golang.org/x/term",

	// Beds for tests. No program imports them; tests show that.
	"reassembly/segmenttest": "reassembly reassembly/exchange pgregory.net/rapid",
	"reassembly/pairtest":    "reassembly github.com/gopacket/gopacket",
	"agent/attach/netnstest": "github.com/vishvananda/netlink golang.org/x/sys/unix",
	"agent/e2e":              "",
	"agent/e2e/bed":          "github.com/vishvananda/netlink github.com/vishvananda/netns golang.org/x/sys/unix",
	"agent/e2e/kafka":        "agent/e2e/bed github.com/twmb/franz-go/pkg/kgo golang.org/x/sys/unix",
}

// pkg is what "go list -json" says of a package.
type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
}

// list gives the packages of the module, with the files that go build takes on
// this platform; tests may import what they like.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Imports", module+"...")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v\n%s", err, errs.String())
	}
	var pkgs []pkg
	for d := json.NewDecoder(&out); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// violations compares packages with the policy.
func violations(policy map[string]string, pkgs []pkg) (bad []string) {
	for _, p := range pkgs {
		room := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := policy[room]
		if !known {
			bad = append(bad, fmt.Sprintf("%s is a new package: give it a line in mayImport", room))
			continue
		}
		for _, path := range p.Imports {
			first, _, _ := strings.Cut(path, "/")
			if !strings.Contains(first, ".") { // the standard library
				continue
			}
			name, own := strings.CutPrefix(path, module)
			if !slices.ContainsFunc(strings.Fields(allowed), func(a string) bool {
				return name == a || !own && strings.HasPrefix(name, a+"/")
			}) {
				bad = append(bad, fmt.Sprintf("%s must not import %s; it may import: the standard library %s", room, name, allowed))
			}
		}
	}
	return bad
}

// No room imports what the table does not say, and the table has no line of a
// room that is gone.
func TestImports(t *testing.T) {
	pkgs := list(t)
	for _, v := range violations(mayImport, pkgs) {
		t.Error(v)
	}
	for room := range mayImport {
		if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+room }) {
			t.Errorf("%s has a line in mayImport and is no package", room)
		}
	}
}

// The table's own rooms make no circle with an order that says where data goes:
// a room imports only rooms before it.
func TestImportsFollowTheData(t *testing.T) {
	order := []string{"agent/crash", "reassembly/exchange", "reassembly", "reassembly/http1", "reassembly/http2", "bpf", "agent/capture", "agent/attach", "agent/sample",
		"agent/replay", "agent/recording", "diff", "diff/verdict", "agent/screen", "agent/report", "agent/redact", "agent/publish", "agent/telemetry/admin", "agent/telemetry", "agent/off", "agent/config",
		"agent", "cmd/shadowtap"}
	for i, room := range order {
		for _, a := range strings.Fields(mayImport[room]) {
			if _, own := mayImport[a]; own && !slices.Contains(order[:i], a) {
				t.Errorf("%s may import %s, which comes later", room, a)
			}
		}
	}
}

func TestViolations(t *testing.T) {
	policy := map[string]string{"a": "b example.com/x", "b": ""}
	for _, tc := range []struct {
		p    pkg
		want string
	}{
		{pkg{ImportPath: module + "a", Imports: []string{"fmt", "net/http", module + "b", "example.com/x", "example.com/x/y"}}, ""},
		{pkg{ImportPath: module + "a", Imports: []string{"example.com/xy"}}, "a must not import example.com/xy"},
		{pkg{ImportPath: module + "a", Imports: []string{module + "b/c"}}, "a must not import b/c"},
		{pkg{ImportPath: module + "b", Imports: []string{module + "a"}}, "b must not import a; it may import: the standard library"},
		{pkg{ImportPath: module + "c"}, "c is a new package"},
	} {
		got := strings.Join(violations(policy, []pkg{tc.p}), "\n")
		if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%+v: %q, want %q", tc.p, got, tc.want)
		}
	}
}

// Each package says in its doc what its job is.
func TestPackagesHaveADoc(t *testing.T) {
	for _, p := range list(t) {
		if len(strings.Fields(p.Doc)) < 5 {
			t.Errorf("%s has no doc comment that says what it is for", strings.TrimPrefix(p.ImportPath, module))
		}
	}
}
