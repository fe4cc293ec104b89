package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Root is the folder that has a folder for each instance.
const Root = "/run/shadowtap"

// SocketPath is where an instance has its socket unless its configuration says
// otherwise.
func SocketPath(instance string) string { return filepath.Join(Root, instance, "admin.sock") }

// ErrNoAgent says that no agent answers.
var ErrNoAgent = errors.New("no agent is running")

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Status is the answer to GET /status.
type Status struct {
	Instance string    `json:"instance"`
	Version  string    `json:"version"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	// Status is "ok", "not ready" or "not live".
	Status string  `json:"status"`
	Checks []Check `json:"checks"`
	// Ledger has each line's results, summed over experiments, targets, sinks
	// and reasons.
	Ledger map[string]map[string]uint64 `json:"ledger"`
	// Counts has them apart.
	Counts []Count `json:"counts"`
	// Imbalances says where a line does not add up. While data flows a small
	// difference means nothing.
	Imbalances []string `json:"imbalances"`
	LogLevel   string   `json:"log_level"`
	// Agent is what the agent says of itself: interfaces, experiments, routes.
	Agent json.RawMessage `json:"agent,omitempty"`
}

// Check is the outcome of a check of health.
type Check struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// Count is one number of the ledger.
type Count struct {
	Line   string            `json:"line"`
	Labels map[string]string `json:"labels,omitempty"`
	N      uint64            `json:"n"`
	// Kind is "result", "in_flight" or "left".
	Kind string `json:"kind"`
}

// Switch is the body of POST /off and /on: the experiments, none means all.
type Switch struct {
	Experiments []string `json:"experiments"`
}

// LogLevel is the body of GET and PUT /log-level.
type LogLevel struct {
	Level string `json:"level"`
}

// Refusal is the body of an answer that is no success.
type Refusal struct {
	Error string `json:"error"`
}

// Client asks one agent. Its methods may be called from any goroutine.
type Client struct {
	// Socket is the path of the socket.
	Socket string
	http   *http.Client
}

// New makes a client of a socket. It opens nothing yet.
func New(socket string) *Client {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	return &Client{Socket: socket, http: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			DisableKeepAlives: true,
		},
		// One call must not hold up an operator for longer than a stop takes.
		Timeout: 30 * time.Second,
	}}
}

// Find makes a client of the instance's agent. Without a name it takes the only
// instance whose agent answers; with several the error names them. It is
// ErrNoAgent when none does.
func Find(ctx context.Context, root, instance string) (*Client, error) {
	if instance != "" {
		if strings.ContainsRune(instance, filepath.Separator) || instance == ".." || instance == "." {
			return nil, fmt.Errorf("find the agent: %q is no instance's name", instance)
		}
		c := New(filepath.Join(root, instance, "admin.sock"))
		if err := c.ping(ctx); err != nil {
			return nil, err
		}
		return c, nil
	}
	sockets, err := filepath.Glob(filepath.Join(root, "*", "admin.sock"))
	if err != nil {
		return nil, fmt.Errorf("find the agent: %w", err)
	}
	var found []*Client
	var refused error
	for _, socket := range sockets {
		c := New(socket)
		switch err := c.ping(ctx); {
		case err == nil:
			found = append(found, c)
		case !errors.Is(err, ErrNoAgent):
			refused = err
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var names []string
		for _, c := range found {
			names = append(names, filepath.Base(filepath.Dir(c.Socket)))
		}
		slices.Sort(names)
		return nil, fmt.Errorf("several instances run here, name one: %s", strings.Join(names, ", "))
	case refused != nil:
		return nil, refused
	}
	return nil, fmt.Errorf("%w: no socket below %s answers", ErrNoAgent, root)
}

// ping says whether somebody listens.
func (c *Client) ping(ctx context.Context) error {
	d := net.Dialer{Timeout: 2 * time.Second}
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	if err != nil {
		return c.noAgent(err)
	}
	return conn.Close()
}

// noAgent tells an agent that is not there from one that may not be asked.
func (c *Client) noAgent(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("ask the agent at %s: %w (the socket is its user's alone)", c.Socket, fs.ErrPermission)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w: nobody answers at %s", ErrNoAgent, c.Socket)
	}
	return fmt.Errorf("ask the agent at %s: %w", c.Socket, err)
}

// Status asks for everything that the agent tells of itself.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	if err := c.do(ctx, http.MethodGet, "/status", nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Off asks the agent to act at once on what its off file says, for the named
// experiments or for all: it answers when the replay has stopped and, when all
// are off, the programs are detached.
func (c *Client) Off(ctx context.Context, experiments ...string) error {
	return c.do(ctx, http.MethodPost, "/off", Switch{experiments}, nil)
}

// On is the opposite of Off.
func (c *Client) On(ctx context.Context, experiments ...string) error {
	return c.do(ctx, http.MethodPost, "/on", Switch{experiments}, nil)
}

// LogLevel returns the least level that is logged.
func (c *Client) LogLevel(ctx context.Context) (string, error) {
	var l LogLevel
	err := c.do(ctx, http.MethodGet, "/log-level", nil, &l)
	return l.Level, err
}

// SetLogLevel changes it: debug, info, warn or error.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	return c.do(ctx, http.MethodPut, "/log-level", LogLevel{level}, nil)
}

// Get asks for any other page of the interface, like /debug/pprof/heap, and
// copies it.
func (c *Client) Get(ctx context.Context, page string, to io.Writer) error {
	res, err := c.send(ctx, http.MethodGet, page, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(to, res.Body)
	return err
}

func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	res, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(answer); err != nil {
		return fmt.Errorf("read the agent's answer to %s: %w", path, err)
	}
	return nil
}

// send returns an answer that is a success; the caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://shadowtap"+path, payload)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, c.noAgent(err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	var refusal Refusal
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
	if json.Unmarshal(text, &refusal) != nil || refusal.Error == "" {
		refusal.Error = strings.TrimSpace(string(text))
	}
	return nil, fmt.Errorf("the agent refused %s %s: %s (%d)", method, path, refusal.Error, res.StatusCode)
}
