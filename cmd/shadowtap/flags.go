package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
)

const (
	whatCategory = "What to capture and compare:"
	fileCategory = "Configuration:"
)

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Category: fileCategory,
		Usage: "read `FILE` (default: what SHADOWTAP_CONFIG names, else shadowtap.yaml if it is there)"}
}

func instanceFlag() cli.Flag {
	return &cli.StringFlag{Name: "instance", Category: fileCategory, Usage: "`NAME` of the agent among several on this node"}
}

func portFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "port", Aliases: []string{"ports", "p"}, Category: whatCategory,
		Usage: "TCP `PORT` that the servers listen on; repeatable, or a list with commas"}
}

// splitList is a repeatable flag, each of whose values may be a list.
func splitList(c *cli.Context, name string) (out []string) {
	for _, v := range c.StringSlice(name) {
		for _, p := range strings.Split(v, ",") {
			if p = strings.TrimSpace(p); p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

func ports(c *cli.Context) ([]uint16, error) {
	var out []uint16
	for _, s := range splitList(c, "port") {
		p, err := config.ParsePort(s)
		if err != nil {
			return nil, fmt.Errorf("--port: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// load reads the configuration and lays the flags over it.
func load(c *cli.Context, log *slog.Logger) (*config.Config, error) {
	cfg, warnings, err := config.Load(config.Options{File: c.String("config"), Env: os.Environ(), Check: agent.CheckConfig})
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		log.Warn(w.String())
	}
	if n := c.String("instance"); n != "" {
		cfg.SetInstance(n)
	}
	return cfg, nil
}

// newLogger writes to stderr as the configuration says.
func newLogger(w io.Writer, l config.Log) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	if l.Level != "" {
		_ = level.UnmarshalText([]byte(l.Level))
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), level
	}
	return slog.New(slog.NewTextHandler(w, o)), level
}

// terminal describes standard output.
func terminal(out io.Writer) agent.Terminal {
	t := agent.Terminal{Out: out}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return t
	}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil {
		t.Width = w
	}
	t.Colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return t
}

func noArguments(c *cli.Context) error {
	if c.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: %s takes flags only", c.Args().First(), c.Command.FullName())
	}
	return nil
}

// openOut opens a file to write to, "-" being standard output.
func openOut(path string, stdout io.Writer) (io.Writer, func() error, error) {
	if path == "-" {
		return stdout, func() error { return nil }, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}

var errNoPort = errors.New("no port: give the servers' ports with --port")

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// doctorHelps points at the command that says what is missing, where an error
// is one of privilege.
func doctorHelps(err error) error {
	if errors.Is(err, agent.ErrPrivilege) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; shadowtap doctor says what this machine lacks", err)
	}
	return err
}
