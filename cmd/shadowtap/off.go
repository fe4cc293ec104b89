package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
)

func offCommand() *cli.Command {
	return &cli.Command{
		Name:      "off",
		Usage:     "stop replay now: of one experiment, or all and detach",
		UsageText: "shadowtap off EXPERIMENT...\nshadowtap off --all",
		Description: "Writes the off file first, so it holds over a restart and works without an agent,\n" +
			"then tells the agent: replay stops within 1 s, taps are detached within 2 s.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "every experiment (also when none is named)"}, configFlag(), instanceFlag(), socketFlag()},
		Action: func(c *cli.Context) error { return switchOff(c, agent.Off) },
	}
}

func onCommand() *cli.Command {
	return &cli.Command{
		Name:        "on",
		Usage:       "take an off back",
		UsageText:   "shadowtap on EXPERIMENT...\nshadowtap on --all",
		Description: "Changes the off file, then tells the agent.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "every experiment (also when none is named)"}, configFlag(), instanceFlag(), socketFlag()},
		Action:      func(c *cli.Context) error { return switchOff(c, agent.On) },
	}
}

func detachCommand() *cli.Command {
	return &cli.Command{
		Name:      "detach",
		Usage:     "write the off file, then remove the instance's taps from this kernel",
		UsageText: "shadowtap detach\nshadowtap detach --all-instances",
		Description: "Works whether the agent runs, hangs or is gone. Taps that a dead agent of another instance\n" +
			"left go too; those of other running agents stay. Needs CAP_SYS_ADMIN.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all-instances", Usage: "the taps of every instance, running or not"}, configFlag(), instanceFlag(), socketFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return switchOff(c, agent.Detach)
		},
	}
}

func switchOff(c *cli.Context, do func(agent.SwitchOptions) (string, error)) error {
	if c.Bool("all") && c.NArg() > 0 {
		return errors.New("name experiments or give --all, not both")
	}
	log, _ := newLogger(c.App.ErrWriter, config.Log{})
	cfg, err := load(c, log)
	if err != nil {
		return err
	}
	said, err := do(agent.SwitchOptions{Context: c.Context, OffFile: cfg.OffFile, Instance: cfg.Instance, AllInstances: c.Bool("all-instances"), Socket: socketPath(c, cfg.Management.AdminSocket), Experiments: c.Args().Slice()})
	if said != "" {
		fmt.Fprintln(c.App.Writer, said)
	}
	return err
}

func socketPath(c *cli.Context, configured string) string {
	if s := c.String("socket"); s != "" {
		return s
	}
	return configured
}
