package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Usage:     "everything on this machine: two servers, traffic, the tap on loopback, a broker",
		UsageText: "shadowtap demo [--duration 10s] [--brokers HOST:PORT,...]",
		Description: "Needs root, or the capabilities BPF and NET_ADMIN (before Linux 6.18 also PERFMON); Linux 6.6 or newer. Exit code 0\n" +
			"when divergences arrived and the ledger balances, 1 when not, 2 when it can't run.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "duration", Value: 10 * time.Second, Usage: "how long traffic is made: a `TIME` from 1s to 1h (default: 10s)"},
			&cli.StringFlag{Name: "brokers", Usage: "`HOST:PORT,...` of a Kafka cluster instead of the embedded broker"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if d := c.Duration("duration"); d < time.Second || d > time.Hour {
				return errors.New("--duration: from 1s to 1h")
			}
			if err := canRun(agent.Doctor([]string{"lo"})); err != nil {
				return err
			}
			log, _ := newLogger(c.App.ErrWriter, config.Log{Level: "warn"})
			log = slog.New(demoLog{log.Handler()})
			err := agent.Demo(c.Context, agent.DemoOptions{
				Duration: c.Duration("duration"), Brokers: c.String("brokers"), Terminal: terminal(c.App.Writer), Version: version, Log: log,
			})
			if errors.Is(err, agent.ErrDemo) {
				return cli.Exit(err.Error(), exitDifferent)
			}
			return doctorHelps(err)
		},
	}
}

// canRun says in one line what the demo lacks on this machine: the first thing,
// for others often follow from it.
func canRun(findings []agent.Finding) error {
	for _, f := range findings {
		if !f.OK {
			return fmt.Errorf("the demo can't run here: %s: %s; %s", f.Name, f.Found, f.Do)
		}
	}
	return nil
}

// demoLog leaves out the warning that redaction has no key file: a demo has
// none on purpose, and lets nobody compare records of two runs.
type demoLog struct{ slog.Handler }

func (d demoLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "no redaction key file") {
		return nil
	}
	return d.Handler.Handle(ctx, r)
}

func (d demoLog) WithAttrs(a []slog.Attr) slog.Handler { return demoLog{d.Handler.WithAttrs(a)} }

func (d demoLog) WithGroup(name string) slog.Handler { return demoLog{d.Handler.WithGroup(name)} }
