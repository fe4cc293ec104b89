package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

func TestNewNamesTheField(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		field string
		spoil func(*Config)
	}{
		{"Counts", func(c *Config) { c.Counts = nil }},
		{"Log", func(c *Config) { c.Log = nil }},
		{"TokenFile without Address", func(c *Config) { c.TokenFile = empty }},
		{"TokenFile: " + empty + ": empty", func(c *Config) { c.Address, c.TokenFile = "127.0.0.1:0", empty }},
		{"TokenFile: open", func(c *Config) { c.Address, c.TokenFile = "127.0.0.1:0", empty+".none" }},
	} {
		config := Config{Counts: sound, Log: slog.New(slog.DiscardHandler)}
		c.spoil(&config)
		if _, err := New(config); err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}

func TestHealth(t *testing.T) {
	bad := errors.New("eth0: not attached")
	dead := errors.New("no sign of life for 3s, at most 1s is allowed")
	for _, c := range []struct {
		name                  string
		live, ready           error
		livez, readyz, health int
		status                string
	}{
		{"all well", nil, nil, 200, 200, 200, StatusOK},
		{"not attached", nil, bad, 200, 503, 503, StatusNotReady},
		{"a loop stands still", dead, nil, 503, 200, 503, StatusNotLive},
		{"both", dead, bad, 503, 503, 503, StatusNotLive},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, func(conf *Config) {
				conf.Live = []Check{{"shard 0", func() error { return c.live }}}
				conf.Ready = []Check{{"attachments", func() error { return c.ready }}}
			})
			h := s.management()
			for _, p := range []struct {
				path string
				code int
				err  error
				name string
			}{{"/livez", c.livez, c.live, "shard 0"}, {"/readyz", c.readyz, c.ready, "attachments"}} {
				w := get(h, p.path)
				want := "ok\n"
				if p.err != nil {
					want = p.name + ": " + p.err.Error() + "\n"
				}
				if w.Code != p.code || w.Body.String() != want {
					t.Errorf("%s: %d %q, want %d %q", p.path, w.Code, w.Body, p.code, want)
				}
			}
			w := get(h, "/healthz")
			var short struct {
				Status, Instance, Version string
				Checks                    []CheckResult
			}
			if err := json.Unmarshal(w.Body.Bytes(), &short); err != nil {
				t.Fatal(err)
			}
			failing := 0
			for _, err := range []error{c.live, c.ready} {
				if err != nil {
					failing++
				}
			}
			if w.Code != c.health || short.Status != c.status || short.Instance != "test" || short.Version != "v1" || len(short.Checks) != failing {
				t.Errorf("/healthz: %d %s", w.Code, w.Body)
			}
			if w := get(h, "/healthz?verbose"); strings.Count(w.Body.String(), `"name"`) != 2 {
				t.Errorf("/healthz?verbose: %s", w.Body)
			}
		})
	}
	if w := get(newServer(t, func(c *Config) { c.Live = []Check{{"shard 0", func() error { return nil }}} }).management(), "/livez?verbose"); w.Body.String() != "shard 0: ok\nok\n" {
		t.Errorf("/livez?verbose: %q", w.Body)
	}
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPulse("shard 0", time.Second, nil)
		check := p.Check()
		if check.Name != "shard 0" || check.Check() != nil {
			t.Error("not alive from the start")
		}
		time.Sleep(900 * time.Millisecond)
		p.Beat()
		time.Sleep(time.Second)
		if err := check.Check(); err != nil {
			t.Errorf("not alive a second after a beat: %v", err)
		}
		time.Sleep(time.Millisecond)
		if err := check.Check(); err == nil || err.Error() != "no sign of life for 1.001s, at most 1s is allowed" {
			t.Errorf("got %v", err)
		}
		if n := testing.AllocsPerRun(100, p.Beat); n != 0 {
			t.Errorf("a beat allocates %v times", n)
		}
	})
}

// serve runs a server and returns its base URL and a client of its socket.
func serve(t *testing.T, spoil func(*Config)) (string, *admin.Client) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "test", "admin.sock")
	s := newServer(t, func(c *Config) {
		c.Address, c.Socket = "127.0.0.1:0", socket
		if spoil != nil {
			spoil(c)
		}
	})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(s.config.Socket); err == nil {
			t.Error("the socket is still there after the stop")
		}
	})
	base := ""
	if a := s.Address(); a != nil {
		base = "http://" + a.String()
	}
	return base, admin.New(s.config.Socket)
}

func TestSocketIsItsOwnersAlone(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("mode", func(t *testing.T) {
		_, client := serve(t, nil)
		st, err := os.Lstat(client.Socket)
		if err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("mode %v, %v; want srw-------", st.Mode(), err)
		}
	})
}

func TestStatus(t *testing.T) {
	level := &slog.LevelVar{}
	_, client := serve(t, func(c *Config) {
		c.Level = level
		c.Agent = func() any { return map[string]int{"interfaces": 1} }
		c.Ready = []Check{{"sinks", func() error { return errors.New("kafka: no broker") }}}
	})
	got, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Instance != "test" || got.Version != "v1" || got.PID != os.Getpid() || got.Status != StatusNotReady || got.LogLevel != "info" {
		t.Errorf("got %+v", got)
	}
	if len(got.Checks) != 1 || got.Checks[0].Error != "kafka: no broker" {
		t.Errorf("checks %+v", got.Checks)
	}
	if got.Ledger["exchanges"]["complete"] != 40 || len(got.Imbalances) != 0 {
		t.Errorf("ledger %v, imbalances %v", got.Ledger, got.Imbalances)
	}
	if strings.Join(strings.Fields(string(got.Agent)), "") != `{"interfaces":1}` {
		t.Errorf("agent %s", got.Agent)
	}
	// The counts that came over the wire say the same as those that left.
	if over, here := CountsOf(got), complete(sound()); !slices.EqualFunc(over, here, func(a, b Count) bool {
		return a.Line == b.Line && a.N == b.N && a.Kind == b.Kind && slices.Equal(a.Labels, b.Labels)
	}) {
		t.Errorf("over the wire %v\nhere %v", over, here)
	}
}

func TestReport(t *testing.T) {
	_, client := serve(t, func(c *Config) {
		c.Report = func() ([]byte, error) { return []byte(`{"schema":"x"}`), nil }
	})
	var b strings.Builder
	if err := client.Get(t.Context(), "/report", &b); err != nil || b.String() != `{"schema":"x"}` {
		t.Errorf("%q, %v", &b, err)
	}
	for want, report := range map[string]func() ([]byte, error){
		"no experiment": nil,
		"too much":      func() ([]byte, error) { return nil, errors.New("too much") },
	} {
		_, client := serve(t, func(c *Config) { c.Report = report })
		if err := client.Get(t.Context(), "/report", &b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestStatusSaysWhatDoesNotBalance(t *testing.T) {
	_, client := serve(t, func(c *Config) {
		c.Counts = func() []Count { return append(sound(), result("exchanges", "gap", 1, "reason", "")) }
	})
	got, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Imbalances) != 1 || !strings.HasPrefix(got.Imbalances[0], "exchanges: 50 started") {
		t.Errorf("got %q", got.Imbalances)
	}
}

func TestOffAndOn(t *testing.T) {
	var done []string
	act := func(word string) func(context.Context, []string) error {
		return func(_ context.Context, experiments []string) error {
			done = append(done, word+" "+strings.Join(experiments, ","))
			if slices.Contains(experiments, "nobody") {
				return errors.New("no experiment named nobody")
			}
			return nil
		}
	}
	_, client := serve(t, func(c *Config) { c.Off, c.On = act("off"), act("on") })
	for _, err := range []error{
		client.Off(t.Context()), client.Off(t.Context(), "users", "orders"), client.On(t.Context(), "users"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if want := []string{"off ", "off users,orders", "on users"}; !slices.Equal(done, want) {
		t.Errorf("did %q, want %q", done, want)
	}
	if err := client.Off(t.Context(), "nobody"); err == nil || !strings.Contains(err.Error(), "no experiment named nobody") {
		t.Errorf("got %v", err)
	}
	_, bare := serve(t, nil)
	if err := bare.Off(t.Context()); err == nil || !strings.Contains(err.Error(), "can't be switched") {
		t.Errorf("an agent without a switch: %v", err)
	}
}

func TestLogLevel(t *testing.T) {
	level := &slog.LevelVar{}
	_, client := serve(t, func(c *Config) { c.Level = level })
	if got, err := client.LogLevel(t.Context()); err != nil || got != "info" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := client.SetLogLevel(t.Context(), "Debug"); err != nil || level.Level() != slog.LevelDebug {
		t.Errorf("level %v, %v", level, err)
	}
	if err := client.SetLogLevel(t.Context(), "loud"); err == nil || !strings.Contains(err.Error(), `"loud" is none of`) || level.Level() != slog.LevelDebug {
		t.Errorf("level %v, %v", level, err)
	}
	_, bare := serve(t, nil)
	if _, err := bare.LogLevel(t.Context()); err == nil {
		t.Error("a level where there is none")
	}
	if err := bare.SetLogLevel(t.Context(), "debug"); err == nil {
		t.Error("a level was set where there is none")
	}
}

func TestProfile(t *testing.T) {
	_, client := serve(t, nil)
	var text strings.Builder
	if err := client.Get(t.Context(), "/debug/pprof/goroutine?debug=1", &text); err != nil || !strings.Contains(text.String(), "goroutine profile") {
		t.Errorf("%v: %.80s", err, &text)
	}
}

func TestBadBodies(t *testing.T) {
	called := false
	s := newServer(t, func(c *Config) {
		c.Off = func(context.Context, []string) error { called = true; return nil }
	})
	for _, body := range []string{`{`, `[]`, `{"experiment":"users"}`, `{} {}`, `{"experiments":"` + strings.Repeat("x", maxBody) + `"}`} {
		w := httptest.NewRecorder()
		s.admin().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/off", strings.NewReader(body)))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%.30q: status %d", body, w.Code)
		}
	}
	if called {
		t.Error("a body that was refused had an effect")
	}
	w := httptest.NewRecorder()
	s.admin().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/off", nil))
	if w.Code != http.StatusOK || !called {
		t.Errorf("an empty body, which means all: status %d, called %v", w.Code, called)
	}
}

// What shows or changes something is not on the open address.
func TestOpenAddressShowsNoMore(t *testing.T) {
	base, _ := serve(t, func(c *Config) { c.Off = func(context.Context, []string) error { t.Error("switched off"); return nil } })
	for _, c := range []struct{ method, path string }{
		{"GET", "/status"}, {"GET", "/report"}, {"POST", "/off"}, {"POST", "/on"}, {"GET", "/log-level"}, {"PUT", "/log-level"},
		{"GET", "/debug/pprof/"}, {"GET", "/debug/pprof/heap"}, {"GET", "/debug/pprof/cmdline"}, {"GET", "/"}, {"POST", "/livez"},
	} {
		if code := ask(t, c.method, base+c.path, ""); code != http.StatusNotFound && code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: status %d", c.method, c.path, code)
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/healthz", "/metrics"} {
		if code := ask(t, "GET", base+path, ""); code != http.StatusOK {
			t.Errorf("%s: status %d", path, code)
		}
	}
}

func ask(t *testing.T, method, url, authorization string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("s3cret\n")
	base, _ := serve(t, func(c *Config) { c.TokenFile = file })
	for _, c := range []struct {
		authorization string
		code          int
	}{
		{"", 401}, {"Bearer", 401}, {"Bearer ", 401}, {"Bearer s3cre", 401}, {"Bearer s3crets", 401},
		{"s3cret", 401}, {"Basic s3cret", 401}, {"Bearer s3cret", 200},
	} {
		if code := ask(t, "GET", base+"/status", c.authorization); code != c.code {
			t.Errorf("%q: status %d, want %d", c.authorization, code, c.code)
		}
	}
	if code := ask(t, "GET", base+"/healthz", ""); code != 200 {
		t.Errorf("health without a token: status %d", code)
	}
	// A new token counts at once, the old one no more.
	write("other")
	if code := ask(t, "GET", base+"/status", "Bearer s3cret"); code != 401 {
		t.Errorf("the old token: status %d", code)
	}
	if code := ask(t, "GET", base+"/status", "Bearer other"); code != 200 {
		t.Errorf("the new token: status %d", code)
	}
	// Without a readable token nobody gets in, with none least of all.
	for _, spoil := range []func(){func() { write("") }, func() { os.Remove(file) }} {
		spoil()
		for _, authorization := range []string{"", "Bearer ", "Bearer other"} {
			if code := ask(t, "GET", base+"/status", authorization); code != 503 {
				t.Errorf("%q without a token in the file: status %d", authorization, code)
			}
		}
	}
}

func TestSocketThatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	listen := func(path string) error {
		s := newServer(t, func(c *Config) { c.Socket = path })
		err := s.Listen()
		s.Close()
		return err
	}
	// A dead agent's socket is replaced.
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := listen(stale); err != nil {
		t.Errorf("a stale socket: %v", err)
	}
	// A living one and a file are not.
	alive := filepath.Join(dir, "alive")
	if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: alive}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		alive: "another agent listens there",
		file:  "no socket",
		filepath.Join(dir, strings.Repeat("x", 108)): "at most 107",
		filepath.Join(file, "sock"):                  "not a directory",
	} {
		if err := listen(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file: %q, %v", text, err)
	}
}

func TestListenThatFailsLeavesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket := filepath.Join(t.TempDir(), "sock")
	s := newServer(t, func(c *Config) { c.Address, c.Socket = l.Addr().String(), socket })
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "management address") {
		t.Errorf("got %v", err)
	}
	s = newServer(t, func(c *Config) { c.Address, c.Socket = "127.0.0.1:0", filepath.Join(socket, strings.Repeat("x", 108)) })
	if err := s.Listen(); err == nil || s.Address() != nil {
		t.Errorf("got %v, address %v", err, s.Address())
	}
}

// A request that takes long does not hold up the stop for long.
func TestStopWithARequestUnderWay(t *testing.T) {
	began := make(chan struct{})
	socket := filepath.Join(t.TempDir(), "sock")
	s := newServer(t, func(c *Config) {
		c.Socket = socket
		c.Off = func(ctx context.Context, _ []string) error { close(began); <-ctx.Done(); return ctx.Err() }
	})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	asked := make(chan error, 1)
	go func() { asked <- admin.New(socket).Off(t.Context()) }()
	<-began
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server did not stop")
	}
	if err := <-asked; err == nil {
		t.Error("a request that was cut off succeeded")
	}
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	if _, err := admin.Find(t.Context(), root, ""); !errors.Is(err, admin.ErrNoAgent) {
		t.Errorf("without any: %v", err)
	}
	if _, err := admin.Find(t.Context(), root, "a"); !errors.Is(err, admin.ErrNoAgent) {
		t.Errorf("a name without agent: %v", err)
	}
	if _, err := admin.Find(t.Context(), root, "../a"); err == nil || errors.Is(err, admin.ErrNoAgent) {
		t.Errorf("a name that is a path: %v", err)
	}
	start := func(instance string) {
		t.Helper()
		serve(t, func(c *Config) {
			c.Instance, c.Address = instance, ""
			c.Socket = filepath.Join(root, instance, "admin.sock")
		})
	}
	// A socket that nobody listens on is no agent.
	if err := os.Mkdir(filepath.Join(root, "dead"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(root, "dead", "admin.sock")})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	start("a")
	c, err := admin.Find(t.Context(), root, "")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Instance != "a" {
		t.Errorf("found %+v, %v", s, err)
	}
	start("b")
	if _, err := admin.Find(t.Context(), root, ""); err == nil || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("with two: %v", err)
	}
	c, err = admin.Find(t.Context(), root, "b")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Instance != "b" {
		t.Errorf("found %+v, %v", s, err)
	}
	if admin.SocketPath("x") != "/run/shadowtap/x/admin.sock" {
		t.Errorf("path %s", admin.SocketPath("x"))
	}
}

func TestStatusThatIsNoJSON(t *testing.T) {
	_, client := serve(t, func(c *Config) { c.Agent = func() any { return func() {} } })
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "status of the agent") {
		t.Errorf("got %v", err)
	}
}

func ExampleWriteLedger() {
	WriteLedger(os.Stdout, []Count{
		{Line: "exchanges", Labels: Labels("result", "complete"), N: 3},
		{Line: "exchanges", Labels: Labels("result", "started"), N: 4, Kind: Left},
	})
	fmt.Println()
	// Output:
	// kernel packets            0  nothing yet
	// captured bytes            0  nothing yet
	// delivered bytes           0  nothing yet
	// exchanges                 3  complete 3
	// selection                 0  nothing yet
	// replays                   0  nothing yet
	// control                   0  nothing yet
	// comparisons               0  nothing yet
	// rechecks                  0  nothing yet
	// deliveries                0  nothing yet
	// windows                   0  nothing yet
	// does not balance: exchanges: 4 started (counted), but 3 by result and 0 in flight: 1 missing
}
