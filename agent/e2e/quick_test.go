//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/e2e/kafka"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// serveOn serves in the namespace until the test ends.
func serveOn(t *testing.T, ns *bed.Namespace, address string, h http.HandlerFunc) {
	t.Helper()
	l := ns.Listen(t, "tcp", address)
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-done })
}

// TestQuickWay is README's command: no file, loopback, the terminal.
func TestQuickWay(t *testing.T) {
	ns := bed.NewNamespace(t, "host")
	answer := func(special string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			value := strings.TrimPrefix(r.URL.Path, "/api/")
			if value == "7" {
				value = special
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, "{\"value\":%q}", value)
		}
	}
	serveOn(t, ns, "127.0.0.1:3000", answer("seven"))
	serveOn(t, ns, "127.0.0.1:3001", answer("sept"))
	instance := fmt.Sprintf("%s%d-quick", instancePrefix, os.Getpid())
	t.Cleanup(func() { os.RemoveAll(filepath.Join(admin.Root, instance)) })
	p := ns.Start(t, bed.Command{
		Path: program, StopSignal: syscall.SIGINT, Dir: t.TempDir(),
		Args: []string{"run", "--interface", "lo", "--port", "3000", "--candidate", "http://localhost:3001",
			"--path", "/api/{value}", "--sample", "100%", "--instance", instance},
	})
	client := &http.Client{Transport: &http.Transport{DialContext: ns.DialContext, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	get := func(url string) (int, string) {
		res, err := client.Get(url)
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
	bed.Poll(t, 20*time.Second, "the agent is ready", func() (bool, string) {
		if p.Ended() {
			t.Fatal(p.Tail())
		}
		code, text := get("http://127.0.0.1:9000/readyz")
		return code == http.StatusOK, text + p.Tail()
	})
	held, err := heldBy(p.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if code, text := get(fmt.Sprintf("http://127.0.0.1:3000/api/%d", i)); code != http.StatusOK {
			t.Fatalf("request %d: %d %s", i, code, text)
		}
	}
	bed.Poll(t, 10*time.Second, "the divergence on the terminal", func() (bool, string) {
		out, _ := p.Output()
		return strings.Contains(out, "$.value") && strings.Contains(out, "seven") && strings.Contains(out, "sept"), p.Tail()
	})
	p.Stop(t)
	out, _ := p.Output()
	if n := strings.Count(out, "/api/7 "); n != 1 || strings.Contains(out, "/api/8 ") {
		t.Errorf("the terminal has the divergent request %d times, and it alone is expected:\n%s", n, out)
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours in an output that is no terminal")
	}
	held.requireGone(t)
	for _, what := range attached(t, ns, "lo") {
		t.Errorf("left behind: %s", what)
	}
}

// TestDemo runs the demo with the embedded and with a real broker.
func TestDemo(t *testing.T) {
	ns := bed.NewNamespace(t, "host")
	broker := kafka.Start(t, kafka.Config{Namespace: ns})
	for _, args := range [][]string{nil, {"--brokers", broker.Addr}} {
		p := ns.Start(t, bed.Command{Path: program, Args: append([]string{"demo", "--duration", "3s"}, args...)})
		if code := p.Wait(t, time.Minute); code != 0 {
			t.Fatalf("demo %q: exit code %d\n%s", args, code, p.Tail())
		}
		out, errs := p.Output()
		for _, want := range []string{"kcat -C -b", "$.square", "balances", "shadowtap run --interface"} {
			if !strings.Contains(out, want) {
				t.Errorf("demo %q does not say %q:\n%s", args, want, p.Tail())
			}
		}
		if errs != "" {
			t.Errorf("demo %q complains: %s", args, errs)
		}
		for _, what := range attached(t, ns, "lo") {
			t.Errorf("left behind: %s", what)
		}
	}
	validate := validator(t)
	messages := broker.Read(t, topic, 1, 30*time.Second)
	for _, m := range messages {
		if err := validate(m.Payload); err != nil {
			t.Errorf("a record that the schema refuses: %v\n%s", err, m.Payload)
		}
	}
}

// TestWithoutRoot: a line that says what is missing, and exit code 2.
func TestWithoutRoot(t *testing.T) {
	bed.RequireRoot(t) // to become nobody
	// Everybody may run the program from here.
	copied := filepath.Join(os.TempDir(), fmt.Sprintf("shadowtap-e2e-%d", os.Getpid()))
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(copied)
	for _, args := range [][]string{
		{"demo"},
		{"run", "--interface", "lo", "--port", "3000", "--instance", instancePrefix + "nobody"},
		{"doctor"},
	} {
		cmd := exec.Command(copied, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("%q: %v, want exit code 2\n%s%s", args, err, &out, &errs)
			continue
		}
		said := strings.TrimSpace(errs.String())
		if args[0] == "doctor" {
			said = out.String() // it is asked for a report
		} else if strings.Contains(said, "\n") || said == "" {
			t.Errorf("%q says more or less than a line:\n%s", args, said)
		}
		if !strings.Contains(said, "NET_ADMIN") && !strings.Contains(said, "shadowtap doctor") {
			t.Errorf("%q does not say what is missing:\n%s", args, said)
		}
	}
}
