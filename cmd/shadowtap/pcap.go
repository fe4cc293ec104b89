package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

func pcapCommand() *cli.Command {
	return &cli.Command{
		Name:      "pcap",
		Usage:     "read a capture file through the same pipeline",
		UsageText: "shadowtap pcap --port 8080 FILE\nshadowtap pcap --exchanges --ports 80,8080 FILE",
		Description: "FILE is pcap or pcapng, - for standard input. Without --exchanges it prints the\n" +
			"ledger: what became of every packet, byte and exchange.",
		Flags: []cli.Flag{
			portFlag(),
			&cli.BoolFlag{Name: "decapsulate", Category: whatCategory, Value: true,
				Usage: "open VXLAN, Geneve and GRE (--decapsulate=false: read what is outside only)"},
			&cli.BoolFlag{Name: "exchanges", Category: whatCategory, Usage: "print each complete exchange as a JSON line"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return errors.New("one capture file is needed: shadowtap pcap --port PORT FILE")
			}
			p, err := ports(c)
			if err != nil {
				return err
			}
			if len(p) == 0 {
				return errNoPort
			}
			log, _ := newLogger(c.App.ErrWriter, config.Log{})
			o := agent.PcapOptions{Path: c.Args().First(), Ports: p, Decapsulate: c.Bool("decapsulate"), Log: log}
			if c.Bool("exchanges") {
				o.Exchanges = c.App.Writer
			}
			counts, err := agent.Pcap(c.Context, o)
			if counts != nil && !c.Bool("exchanges") {
				if werr := telemetry.WriteLedger(c.App.Writer, counts); werr != nil {
					return fmt.Errorf("write the ledger: %w", werr)
				}
			}
			return err
		},
	}
}
