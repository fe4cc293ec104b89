package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "capture on this machine, and replay to a candidate if there is one",
		UsageText: "shadowtap run --config FILE\n" +
			"shadowtap run --interface lo --port 3000 --candidate http://localhost:3001 --path '/api/{value}' --sample 100%\n" +
			"shadowtap run --interface eth0 --port 8080 --exchanges-to FILE",
		Description: "Needs root, or the capabilities BPF and NET_ADMIN (before Linux 6.18 also PERFMON); Linux 6.6 or newer. Without\n" +
			"--candidate it only captures. Flags are laid over the configuration file.\n" +
			"SIGINT or SIGTERM stops in order, a second one at once.",
		Flags: []cli.Flag{
			configFlag(), instanceFlag(),
			&cli.StringSliceFlag{Name: "interface", Aliases: []string{"i"}, Category: whatCategory, Usage: "`NAME` of a network interface; repeatable, or a list with commas"},
			portFlag(),
			&cli.StringFlag{Name: "candidate", Category: whatCategory, Usage: "`URL` of the version under test, http or https"},
			&cli.StringSliceFlag{Name: "path", Category: whatCategory, Usage: "path `PATTERN` that is replayed, as http.ServeMux has them (default: /, every path); repeatable"},
			&cli.StringFlag{Name: "sample", Category: whatCategory, Usage: "`SHARE` of the requests that is replayed, with a % sign (default: 10%)"},
			&cli.StringFlag{Name: "exchanges-to", Category: whatCategory, Usage: "write each complete exchange as a JSON line to `FILE`, - for standard output"},
		},
		Action: func(c *cli.Context) (err error) {
			if err := noArguments(c); err != nil {
				return err
			}
			early, _ := newLogger(c.App.ErrWriter, config.Log{})
			cfg, err := load(c, early)
			if err != nil {
				return err
			}
			q := config.Quick{Interfaces: splitList(c, "interface"), Candidate: c.String("candidate"), Paths: c.StringSlice("path"), Sample: c.String("sample")}
			if q.Ports, err = ports(c); err != nil {
				return err
			}
			if err := cfg.Override(q); err != nil {
				return err
			}
			switch {
			case len(cfg.CapturePorts()) == 0:
				return errors.New("no port to capture: give the servers' ports with --port, or a configuration file with --config")
			case len(cfg.Capture.Interfaces) == 0:
				return errors.New("no interface to capture on: give one with --interface, or capture.interfaces in the configuration file")
			}
			if err := cfg.Check(); err != nil {
				return err
			}
			log, level := newLogger(c.App.ErrWriter, cfg.Log)
			o := agent.Options{Config: cfg, Version: version, Terminal: terminal(c.App.Writer), Level: level, Log: log}
			if path := c.String("exchanges-to"); path != "" {
				w, done, err := openOut(path, c.App.Writer)
				if err != nil {
					return fmt.Errorf("--exchanges-to: %w", err)
				}
				defer func() { err = errors.Join(err, done()) }()
				o.Exchanges = w
			}
			o.Ready = func(*agent.Agent) {
				log.Info("ready", "interfaces", strings.Join(interfaceNames(cfg), ","), "ports", fmt.Sprint(cfg.CapturePorts()), "experiments", len(cfg.Experiments))
			}
			a, err := agent.New(o)
			if err != nil {
				return doctorHelps(err)
			}
			return doctorHelps(a.Run(c.Context))
		},
	}
}

func interfaceNames(c *config.Config) (names []string) {
	for _, i := range c.Capture.Interfaces {
		names = append(names, i.Name)
	}
	return names
}
