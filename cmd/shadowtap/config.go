package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "print the defaults, or check a file",
		Subcommands: []*cli.Command{
			{
				Name:  "default",
				Usage: "print every key with its default and meaning",
				Action: func(c *cli.Context) error {
					if err := noArguments(c); err != nil {
						return err
					}
					_, err := c.App.Writer.Write(config.Default())
					return err
				},
			},
			{
				Name:      "check",
				Usage:     "check a configuration file, and what the environment lays over it",
				UsageText: "shadowtap config check [FILE]",
				Description: "Without FILE it looks where the agent does: at what SHADOWTAP_CONFIG names, else\n" +
					"at shadowtap.yaml. Exit code 2 when something is wrong.",
				Action: func(c *cli.Context) error {
					if c.NArg() > 1 {
						return errors.New("one file at most: shadowtap config check FILE")
					}
					cfg, warnings, err := config.Load(config.Options{File: c.Args().First(), Env: os.Environ(), Check: agent.CheckConfig})
					if err != nil {
						return err
					}
					for _, w := range warnings {
						fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", w)
					}
					if err := cfg.Check(); err != nil {
						return err
					}
					_, err = fmt.Fprintf(c.App.Writer, "fine: %s, revision %s\n", plural(len(cfg.Experiments), "experiment"), cfg.Revision())
					return err
				},
			},
		},
	}
}
