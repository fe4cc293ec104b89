package telemetry

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// Config says what is shown and where.
type Config struct {
	// Instance and Version are shown in status and health.
	Instance, Version string
	// Address is the TCP address of health and metrics. Empty means none.
	Address string
	// Socket is the path of the Unix admin socket, made with mode 0600 together
	// with its folder. Empty means none.
	Socket string
	// TokenFile has the token that opens the admin interface on Address too,
	// read at each request, so that it may change. Empty means that it is not
	// there over TCP.
	TokenFile string
	// Counts gives the ledger; required. It is called from requests, several
	// at once.
	Counts Source
	// Gauges gives the other metrics. Nil means none.
	Gauges func() []Gauge
	// Live are the loops that must tick, Ready what must stand.
	Live, Ready []Check
	// Agent gives what status shows beside the ledger; it must turn into JSON.
	// Nil means nothing.
	Agent func() any
	// Report gives the report of what the agent has seen, as JSON. It is called
	// from requests, several at once. Nil refuses.
	Report func() ([]byte, error)
	// Off and On act on what the off file says, for the named experiments or
	// for all when none is named, and return when it is done. Nil refuses.
	Off, On func(ctx context.Context, experiments []string) error
	// Level is the log level that may be changed. Nil refuses.
	Level *slog.LevelVar
	Log   *slog.Logger // required
}

// Limits of the servers.
const (
	headTimeout  = 5 * time.Second
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	maxHead      = 16 << 10
	maxBody      = 64 << 10
	maxToken     = 4 << 10
	// maxScrapes bounds the scrapes at once, and scrapeTimeout one of them.
	maxScrapes    = 4
	scrapeTimeout = 10 * time.Second
)

// Server serves health, metrics and the admin interface.
type Server struct {
	config  Config
	started time.Time

	// After Listen.
	servers []*listening
}

type listening struct {
	listener net.Listener
	server   *http.Server
}

// New checks the config. It opens nothing.
func New(c Config) (*Server, error) {
	switch {
	case c.Counts == nil:
		return nil, errors.New("telemetry: Counts is nil")
	case c.Log == nil:
		return nil, errors.New("telemetry: Log is nil")
	}
	s := &Server{config: c, started: time.Now()}
	if c.TokenFile != "" {
		if c.Address == "" {
			return nil, errors.New("telemetry: TokenFile without Address")
		}
		if _, err := s.token(); err != nil {
			return nil, fmt.Errorf("telemetry: TokenFile: %w", err)
		}
	}
	return s, nil
}

func (s *Server) uptime() time.Duration { return time.Since(s.started) }

// Listen opens the address and the socket, so that a start fails where they
// can't be had. Run or Close must follow.
func (s *Server) Listen() error {
	if s.config.Address != "" {
		l, err := net.Listen("tcp", s.config.Address)
		if err != nil {
			return fmt.Errorf("management address: %w", err)
		}
		s.add(l, s.management(), writeTimeout)
	}
	if s.config.Socket != "" {
		l, err := listenUnix(s.config.Socket)
		if err != nil {
			return errors.Join(fmt.Errorf("admin socket %s: %w", s.config.Socket, err), s.Close())
		}
		// The socket's users are root: a profile may take its time.
		s.add(l, s.admin(), 0)
	}
	return nil
}

func (s *Server) add(l net.Listener, h http.Handler, write time.Duration) {
	s.servers = append(s.servers, &listening{l, &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      write,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}})
}

// Address is the address that Listen opened, nil without one.
func (s *Server) Address() net.Addr {
	for _, l := range s.servers {
		if a, ok := l.listener.Addr().(*net.TCPAddr); ok {
			return a
		}
	}
	return nil
}

// Run serves until ctx ends; then it takes no new request, gives those under
// way a second and returns nil.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	failed := make(chan error, len(s.servers))
	for _, l := range s.servers {
		wg.Go(func() {
			if err := l.server.Serve(l.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.listener.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	for _, l := range s.servers {
		if l.server.Shutdown(grace) != nil {
			l.server.Close()
		}
	}
	wg.Wait()
	return err
}

// Close closes what Listen opened, where Run is not called.
func (s *Server) Close() error {
	var errs []error
	for _, l := range s.servers {
		errs = append(errs, l.listener.Close())
	}
	s.servers = nil
	return errors.Join(errs...)
}

// management is what the TCP address serves.
func (s *Server) management() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.probe("live"))
	mux.HandleFunc("GET /readyz", s.probe("ready"))
	mux.HandleFunc("GET /healthz", s.healthz)
	registry := newRegistry(collector{s.config.Counts, s.config.Gauges}, s.config.Version)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.config.Log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
	}))
	if s.config.TokenFile != "" {
		mux.Handle("/", s.guarded(s.admin()))
	}
	return mux
}

// admin is what the Unix socket serves.
func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /report", s.report)
	mux.HandleFunc("POST /off", s.change(s.config.Off))
	mux.HandleFunc("POST /on", s.change(s.config.On))
	mux.HandleFunc("GET /log-level", s.logLevel)
	mux.HandleFunc("PUT /log-level", s.setLogLevel)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	return mux
}

// guarded lets only those through who show the token.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want, err := s.token()
		if err != nil {
			s.config.Log.Warn("admin token can't be read", "err", err)
			refuse(w, http.StatusServiceUnavailable, "the token file can't be read")
			return
		}
		got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		// Digests are of one length, so that the comparison takes one time.
		a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
		if !ok || subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="shadowtap"`)
			refuse(w, http.StatusUnauthorized, "needs the token of management.token_file")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// token reads the token file; white space around the token does not count.
func (s *Server) token() (string, error) {
	f, err := os.Open(s.config.TokenFile)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxToken {
		return "", fmt.Errorf("%s: over %d bytes", s.config.TokenFile, maxToken)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%s: empty", s.config.TokenFile)
	}
	return token, nil
}

func refuse(w http.ResponseWriter, code int, why string) {
	writeJSON(w, code, admin.Refusal{Error: why})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	answer, err := s.Status()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) report(w http.ResponseWriter, _ *http.Request) {
	if s.config.Report == nil {
		refuse(w, http.StatusNotImplemented, "this agent has no experiment to report on")
		return
	}
	text, err := s.config.Report()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // a client that went away
}

// Status is what /status answers.
func (s *Server) Status() (*admin.Status, error) {
	counts := complete(s.config.Counts())
	status, checks := s.health()
	answer := &admin.Status{
		Instance: s.config.Instance, Version: s.config.Version, PID: os.Getpid(), Started: s.started,
		Status: status, Ledger: NewLedger(counts), Imbalances: []string{},
	}
	for _, c := range checks {
		answer.Checks = append(answer.Checks, admin.Check(c))
	}
	for i := range counts {
		c := admin.Count{Line: counts[i].Line, N: counts[i].N, Kind: kindWords[counts[i].Kind], Labels: map[string]string{}}
		for _, l := range counts[i].Labels {
			c.Labels[l.Name] = l.Value
		}
		answer.Counts = append(answer.Counts, c)
	}
	for _, i := range Balance(counts) {
		answer.Imbalances = append(answer.Imbalances, i.String())
	}
	if s.config.Level != nil {
		answer.LogLevel = strings.ToLower(s.config.Level.Level().String())
	}
	if s.config.Agent != nil {
		text, err := json.Marshal(s.config.Agent())
		if err != nil {
			return nil, fmt.Errorf("status of the agent: %w", err)
		}
		answer.Agent = text
	}
	return answer, nil
}

var kindWords = [...]string{Result: "result", InFlight: "in_flight", Left: "left"}

// change serves /off and /on.
func (s *Server) change(act func(context.Context, []string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body admin.Switch
		if !readJSON(w, r, &body) {
			return
		}
		if act == nil {
			refuse(w, http.StatusNotImplemented, "this agent can't be switched")
			return
		}
		if err := act(r.Context(), body.Experiments); err != nil {
			refuse(w, http.StatusConflict, err.Error())
			return
		}
		s.config.Log.Info("switched by the admin interface", "to", strings.TrimPrefix(r.URL.Path, "/"), "experiments", body.Experiments)
		writeJSON(w, http.StatusOK, body)
	}
}

// readJSON reads the body, which may be empty, and refuses what is none.
func readJSON(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "the body: "+err.Error())
		return false
	}
	return true
}

func (s *Server) logLevel(w http.ResponseWriter, _ *http.Request) {
	if s.config.Level == nil {
		refuse(w, http.StatusNotImplemented, "this agent's log level is fixed")
		return
	}
	writeJSON(w, http.StatusOK, admin.LogLevel{Level: strings.ToLower(s.config.Level.Level().String())})
}

func (s *Server) setLogLevel(w http.ResponseWriter, r *http.Request) {
	if s.config.Level == nil {
		refuse(w, http.StatusNotImplemented, "this agent's log level is fixed")
		return
	}
	var body admin.LogLevel
	if !readJSON(w, r, &body) {
		return
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[strings.ToLower(body.Level)]
	if !ok {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("level %q is none of debug, info, warn, error", body.Level))
		return
	}
	s.config.Level.Set(level)
	s.config.Log.Info("log level changed", "level", strings.ToLower(level.String()))
	s.logLevel(w, r)
}

// listenUnix listens on a socket that only its owner may open. A socket that
// nobody listens on any more is replaced.
func listenUnix(path string) (net.Listener, error) {
	// The kernel's sun_path holds 108 bytes, the last of them zero.
	if len(path) > 107 {
		return nil, fmt.Errorf("the path has %d bytes, a Unix socket's at most 107", len(path))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// bind gives the file the mode of the socket (net/unix/af_unix.c,
		// unix_bind_bsd): there is no moment at which others could open it.
		var chmod error
		if err := c.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return chmod
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	st, err := os.Lstat(path)
	if err == nil && st.Mode().Perm() != 0o600 {
		err = fmt.Errorf("has mode %04o, not 0600", st.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that a dead agent left behind, and nothing else.
func removeStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return errors.New("another agent listens there")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
