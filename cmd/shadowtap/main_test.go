package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/features"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
)

// runChild makes this binary the program itself, for tests that need it as a
// process of another user.
const runChild = "SHADOWTAP_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runChild) != "" {
		os.Unsetenv(runChild)
		os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// call runs the program in this process, away from any shadowtap.yaml.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"shadowtap"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// elsewhere keeps a test from configuration that lies around.
func elsewhere(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("SHADOWTAP_CONFIG", "")
	os.Unsetenv("SHADOWTAP_CONFIG")
}

// Every command has help that names its usage and every flag, in each spelling,
// and nothing on standard error.
func TestHelp(t *testing.T) {
	app := newApp(nil, nil)
	seen := 0
	var walk func(path []string, commands []*cli.Command)
	walk = func(path []string, commands []*cli.Command) {
		for _, c := range commands {
			p := append(slices.Clone(path), c.Name)
			seen++
			t.Run(strings.Join(p, " "), func(t *testing.T) {
				want := []string{"shadowtap " + strings.Join(p, " ") + ": " + c.Usage, "\nUsage:\n  shadowtap " + strings.Join(p, " ")}
				for _, f := range c.Flags {
					for _, n := range f.Names() {
						want = append(want, dashes(n))
					}
					d := f.(cli.DocGenerationFlag)
					if d.TakesValue() && strings.Count(d.GetUsage(), "`") != 2 {
						t.Errorf("--%s does not name its value in backquotes", f.Names()[0])
					}
				}
				var first string
				for i, args := range [][]string{append(p, "--help"), append(p, "-h"), append([]string{"help"}, p...), append(p, "x", "--help")} {
					if i == 3 && len(c.Subcommands) > 0 {
						continue
					}
					code, out, errs := call(t, args...)
					if code != 0 || errs != "" {
						t.Fatalf("%q: exit code %d, %s", args, code, errs)
					}
					if first == "" {
						first = out
					}
					if out != first {
						t.Errorf("%q says something else:\n%s", args, out)
					}
				}
				for _, w := range want {
					if !strings.Contains(first, w) {
						t.Errorf("no %q in\n%s", w, first)
					}
				}
				if strings.Contains(first, "`") {
					t.Errorf("a backquote in\n%s", first)
				}
			})
			walk(p, c.Subcommands)
		}
	}
	walk(nil, app.Commands)
	if seen != 14 {
		t.Errorf("%d commands were looked at, there are 14", seen)
	}
}

func TestTopHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"-h"}, {"help"}} {
		code, out, errs := call(t, args...)
		if code != 0 || errs != "" {
			t.Errorf("%q: exit code %d, %s", args, code, errs)
		}
		for _, c := range newApp(nil, nil).Commands {
			if !strings.Contains(out, "\n  "+c.Name+" ") {
				t.Errorf("%q does not list %s", args, c.Name)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version"} {
		code, out, errs := call(t, arg)
		if code != 0 || errs != "" || !strings.HasPrefix(out, "shadowtap "+version+" ") || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: exit code %d, %q, %q", arg, code, out, errs)
		}
	}
}

// What is wrong is said in one line on standard error, exit code 2, nothing on
// standard output.
func TestTrouble(t *testing.T) {
	elsewhere(t)
	write(t, "bad.yaml", "version: 1\ncapure: {}\n")
	write(t, "text", "this is no capture\n")
	const quick = "run --interface lo --port 80 --candidate http://127.0.0.1:1 "
	for _, tc := range []struct{ line, want string }{
		{"frob", `no command "frob" (shadowtap --help lists them)`},
		{"stat", `no command "stat"; did you mean status?`},
		{"pcpa --port 80 x", `did you mean pcap?`},
		{"help nope", `no command "nope" (shadowtap --help`},
		{"config defualt", `no command "defualt"; did you mean default? (shadowtap config --help`},
		{"--bogus", `no flag --bogus (shadowtap --help`},
		{"run --bogus", `no flag --bogus (shadowtap run --help`},
		{"run --interfac lo", `no flag --interfac; did you mean --interface?`},
		{"run --canddiate=http://x", `no flag --canddiate; did you mean --candidate?`},
		{"pcap -x file", `no flag -x (shadowtap pcap`},
		{"config check --ports 1", `no flag --ports (shadowtap config check`},
		{"pcap file --port", `--port needs a value (shadowtap pcap --help`},
		{"pcap --exchanges=maybe --port 80 x", `invalid boolean value "maybe" for -exchanges: parse error (shadowtap pcap --help`},
		{"demo --duration x", `invalid value "x" for flag -duration: parse error (shadowtap demo --help`},
		{"demo --duration 1ms", "--duration: from 1s to 1h"},
		{"demo --duration 2h", "--duration: from 1s to 1h"},
		{"demo x", `unexpected argument "x": demo takes flags only`},
		{"run x", `unexpected argument "x": run takes flags only`},
		{"version x", `unexpected argument "x"`},
		{"config default x", `unexpected argument "x"`},
		{"config check a b", "one file at most"},
		{"config check nope.yaml", "open nope.yaml: no such file"},
		{"config check bad.yaml", "bad.yaml:2:1"},
		{"config check bad.yaml", "capture"},
		{"pcap", "one capture file is needed"},
		{"pcap a b --port 80", "one capture file is needed"},
		{"pcap x", "no port: give the servers' ports with --port"},
		{"pcap --port 0 x", `--port: "0" is no port`},
		{"pcap --ports 80,99999 x", `--port: "99999" is no port`},
		{"pcap --port http x", `--port: "http" is no port`},
		{"pcap --port 80 nope.pcap", "nope.pcap: no such file"},
		{"pcap --port 80 text", "neither pcap nor pcapng"},
		{"pcap --port 80 .", "it is a directory"},
		{"pcap --port 80 --sample 5% x", "--sample is about replay: add --candidate"},
		{"pcap --port 80 --control http://127.0.0.1:1 x", "--control is about replay: add --candidate"},
		{"pcap --port 80 --candidate http://127.0.0.1:1 --control http://127.0.0.1:1 x", "--control: experiments[0].control.url: is the candidate's too"},
		{"pcap --port 80 --record d x", "--record is about replay: add --candidate"},
		{"pcap --port 80 --candidate foo x", "has no scheme"},
		{"pcap --candidate http://127.0.0.1:1 x", "no port: give the servers' ports"},
		{"pcap --port 80 --candidate http://127.0.0.1:1 --sample 5 x", `"5" has no %`},
		{"pcap --config bad.yaml x", "bad.yaml:2:1"},
		{"pcap --port 80 --candidate http://127.0.0.1:1 nope.pcap", "nope.pcap: no such file"},
		{"pcap --port 80 --candidate http://127.0.0.1:1 --jsonl no/such/f x", "--jsonl: open no/such/f"},
		{"report --control http://127.0.0.1:1 x", "--control is about a capture that is replayed: add --candidate"},
		{"report --path /a x", "--path is about a capture that is replayed: add --candidate"},
		{"run", "no port to capture: give the servers' ports with --port"},
		{"run --port 80", "no interface to capture on: give one with --interface"},
		{"run --config nope.yaml", "open nope.yaml: no such file"},
		{"run --config bad.yaml", "bad.yaml:2:1"},
		{"run --interface lo --port 80 --sample 5%", "add --candidate"},
		{"run --interface lo --port 80 --candidate foo", "has no scheme"},
		{quick + "--sample 5", `"5" has no %`},
		{quick + "--exchanges-to no/such/folder", "--exchanges-to: open no/such/folder"},
		{"status --socket nope.sock", "no agent is running: nobody answers at nope.sock"},
		{"off --all users", "name experiments or give --all, not both"},
		{"doctor x", `unexpected argument "x"`},
	} {
		t.Run(tc.line, func(t *testing.T) {
			code, out, errs := call(t, strings.Fields(tc.line)...)
			if code != exitTrouble {
				t.Errorf("exit code %d, want 2", code)
			}
			if out != "" {
				t.Errorf("on standard output: %s", out)
			}
			if !strings.HasPrefix(errs, "shadowtap: ") || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, tc.want) {
				t.Errorf("said %q\nwant one line with %q", errs, tc.want)
			}
		})
	}
}

// Exit codes are those of the error, 2 when it has none.
func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("trouble"), exitTrouble},
		{cli.Exit("different", exitDifferent), exitDifferent},
		{cli.Exit("", exitDifferent), exitDifferent},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestArrange(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"pcap --ports 80,81 FILE", "pcap --ports 80,81 -- FILE"},
		{"pcap FILE --ports 80,81", "pcap --ports 80,81 -- FILE"},
		{"pcap FILE --port 80 --exchanges", "pcap --port 80 --exchanges -- FILE"},
		{"pcap --exchanges FILE -p 80", "pcap --exchanges -p 80 -- FILE"},
		{"pcap --exchanges=true FILE --port=80", "pcap --exchanges=true --port=80 -- FILE"},
		{"pcap - --port 80", "pcap --port 80 -- -"},
		{"pcap --port 80 -- --exchanges", "pcap --port 80 -- --exchanges"},
		{"pcap --port --exchanges FILE", "pcap --port --exchanges -- FILE"}, // it is the value
		{"run -i lo -p 80", "run -i lo -p 80"},
		{"off users --instance b orders", "off --instance b -- users orders"},
		{"off run", "off -- run"},
		{"config check FILE", "config check -- FILE"},
		{"config default", "config default"},
		{"status", "status"},
	} {
		l, err := arrange(newApp(nil, nil), strings.Fields("shadowtap "+tc.line))
		if err != nil || l.help {
			t.Errorf("%s: help %v, %v", tc.line, l.help, err)
			continue
		}
		if got := strings.Join(l.args, " "); got != "shadowtap "+tc.want {
			t.Errorf("%s\n got %s\nwant shadowtap %s", tc.line, got, tc.want)
		}
	}
	if l, err := arrange(newApp(nil, nil), nil); err != nil || l.command != nil {
		t.Errorf("no arguments at all: %+v, %v", l, err)
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"abc", "", 3}, {"port", "ports", 1}, {"kitten", "sitting", 3}, {"defualt", "default", 2}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%q, %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

// What "config default" prints is a file that "config check" takes.
func TestConfigCommands(t *testing.T) {
	elsewhere(t)
	code, text, errs := call(t, "config", "default")
	if code != 0 || errs != "" || !strings.Contains(text, "\nversion: 1") {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if code, _, errs := call(t, "config", "check"); code != 2 || !strings.Contains(errs, "no port") {
		t.Errorf("no file at all: exit code %d, %q", code, errs)
	}
	filled := strings.Replace(text, "\n  ports: []\n", "\n  ports: [80]\n", 1)
	if filled == text {
		t.Fatal("the default file has no empty list of ports")
	}
	write(t, "shadowtap.yaml", filled)
	for _, args := range [][]string{{"config", "check"}, {"config", "check", "shadowtap.yaml"}} {
		if code, out, errs := call(t, args...); code != 0 || errs != "" || !strings.HasPrefix(out, "fine: 0 experiments, revision ") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, errs)
		}
	}
	one := "version: 1\ncapture: {interfaces: [lo]}\nexperiments:\n- name: a\n  match: {port: 80}\n  routes: [{path: \"%s\"}]\n  candidate: {url: 'http://127.0.0.1:1'}\n"
	write(t, "one.yaml", strings.ReplaceAll(one, "%s", "/a/{b}"))
	if code, out, errs := call(t, "config", "check", "one.yaml"); code != 0 || !strings.HasPrefix(out, "fine: 1 experiment, revision ") {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	write(t, "bare.yaml", strings.Replace(one, "  routes: [{path: \"%s\"}]\n", "", 1))
	if code, _, errs := call(t, "config", "check", "bare.yaml"); code != 2 || strings.Count(errs, "experiments[0].routes:") != 1 {
		t.Errorf("without routes: exit code %d, %q", code, errs)
	}
	t.Setenv("SHADOWTAP__EXPERIMENTS__a__SAMPLE__RATE", "5")
	if code, out, errs := call(t, "config", "check", "one.yaml"); code != 2 || out != "" || !strings.Contains(errs, "5%") {
		t.Errorf("a rate without %% from the environment: exit code %d, %q, %q", code, out, errs)
	}
}

// Findings stand in columns, what to do below.
func TestPrintFindings(t *testing.T) {
	var b strings.Builder
	printFindings(&b, []agent.Finding{{Name: "kernel", OK: true, Found: "6.6.1"}, {Name: "interface x", Found: "is down", Do: "ip link set x up"}})
	want := "ok       kernel       6.6.1\n" +
		"MISSING  interface x  is down\n" +
		"                      -> ip link set x up\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestDoctorNamesAMissingInterface(t *testing.T) {
	code, out, errs := call(t, "doctor", "--interface", "no-such-if")
	if code != exitTrouble || !strings.Contains(out, "interface no-such-if  is not there") || !strings.Contains(errs, "checks failed") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	code, out, _ = call(t, "doctor", "--json", "--interface", "no-such-if")
	if code != exitTrouble || !strings.Contains(out, `"name": "interface no-such-if"`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// The demo's log has everything but the warning about the key.
func TestDemoLog(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(demoLog{slog.NewTextHandler(&b, nil)}).With("a", 1).WithGroup("g")
	log.Warn("no redaction key file: and so on")
	if b.Len() != 0 {
		t.Errorf("said %s", b.String())
	}
	if log.Warn("kafka not connected"); !strings.Contains(b.String(), "kafka not connected") {
		t.Error("another warning is lost")
	}
}

// The demo on the real kernel: divergences come, the ledger balances, and nobody
// is warned of anything.
func TestDemo(t *testing.T) {
	needRoot(t)
	elsewhere(t)
	code, out, errs := call(t, "demo", "--duration", "1s")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s\n%s", code, errs, out)
	}
	for _, w := range []string{"kcat -C -b 127.0.0.1:", "$.square", "ledger     balances", "0 packets lost", "shadowtap run --interface lo --port 3000"} {
		if !strings.Contains(out, w) {
			t.Errorf("no %q in\n%s", w, out)
		}
	}
}

// onWord is an output that calls f once, when a word appears.
type onWord struct {
	bytes.Buffer
	word string
	f    func()
}

func (w *onWord) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.f != nil && strings.Contains(w.String(), w.word) {
		w.f()
		w.f = nil
	}
	return n, err
}

// A demo whose divergences do not arrive, here because the broker goes away, has
// exit code 1.
func TestDemoThatFails(t *testing.T) {
	needRoot(t)
	elsewhere(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "shadowtap.divergences"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	out := &onWord{word: "shadowtap watches", f: cluster.Close}
	var errs bytes.Buffer
	code := run(t.Context(), []string{"shadowtap", "demo", "--duration", "1s", "--brokers", cluster.ListenAddrs()[0]}, out, &errs)
	if code != exitDifferent || !strings.Contains(errs.String(), "the demo did not show what it should") {
		t.Errorf("exit code %d, %s\n%s", code, &errs, out)
	}
}

// Without privileges the demo says in one line what is missing.
func TestDemoWithoutPrivileges(t *testing.T) {
	code, out, errs := asNobody(t, nil, "demo", "--duration", "1s")
	if code != exitTrouble || out != "" {
		t.Errorf("exit code %d, %s", code, out)
	}
	want := "shadowtap: the demo can't run here: capabilities: without NET_ADMIN, BPF; run as root, or with NET_ADMIN (to attach) and BPF (to load the tap)\n"
	if before618(t) {
		want = "shadowtap: the demo can't run here: capabilities: without NET_ADMIN, BPF, PERFMON; run as root, or with NET_ADMIN (to attach) and BPF and, before Linux 6.18, PERFMON (to load the tap)\n"
	}
	if errs != want {
		t.Errorf("said %q\nwant %q", errs, want)
	}
}

// So does run, and names the command that knows more.
func TestRunWithoutPrivileges(t *testing.T) {
	code, _, errs := asNobody(t, nil, "run", "--interface", "lo", "--port", "80", "--instance", "nobodys")
	// EACCES by the folder of the lock, or where anybody may write there EPERM by bpf(2).
	denied := strings.Contains(errs, "permission denied") || strings.Contains(errs, "operation not permitted")
	if code != exitTrouble || strings.Count(errs, "\n") != 1 || !denied || !strings.Contains(errs, "shadowtap doctor") {
		t.Errorf("exit code %d, %q", code, errs)
	}
}

// before618 says whether this kernel's verifier needs PERFMON too.
func before618(t *testing.T) bool {
	t.Helper()
	v, err := features.LinuxVersionCode()
	if err != nil {
		t.Fatal(err)
	}
	return v < 6<<16|18<<8
}

// Two capabilities suffice, before Linux 6.18 three, and none of them is too
// much: the kernel itself says so.
func TestPrivileges(t *testing.T) {
	needRoot(t)
	const netAdmin, perfmon, bpf = 12, 38, 39 // include/uapi/linux/capability.h
	all := []uintptr{netAdmin, bpf}
	if before618(t) {
		all = append(all, perfmon)
	}
	if code, out, errs := asNobody(t, all, "demo", "--duration", "1s"); code != 0 {
		t.Errorf("with all: exit code %d, %s\n%s", code, errs, out)
	}
	for i := range all {
		code, out, _ := asNobody(t, slices.Delete(slices.Clone(all), i, i+1), "doctor", "--interface", "lo")
		if code != exitTrouble || !strings.Contains(out, "MISSING  capabilities  without ") {
			t.Errorf("without capability %d: exit code %d\n%s", all[i], code, out)
		}
		if strings.Contains(out, "ok       tap") && all[i] != netAdmin { // that one is for attaching
			t.Errorf("the tap loads without capability %d, which doctor asks for\n%s", all[i], out)
		}
	}
}

// asNobody runs the program as a process of another user with no capabilities
// but those. A copy of the
// binary is made, for nobody may not look into the folder of go test.
func asNobody(t *testing.T, caps []uintptr, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "shadowtap-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "shadowtap")
	if err := errors.Join(os.WriteFile(program, b, 0o755), os.Chmod(program, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = []string{runChild + "=1"}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: caps}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// needRoot skips a test that loads the tap where that is not allowed; in CI it
// fails, so that no test is left out unseen.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root: loads BPF programs")
	}
	t.Skip("needs root: loads BPF programs")
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
