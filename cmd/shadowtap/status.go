package main

import (
	"encoding/json"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:        "status",
		Usage:       "show what a running agent does, and its ledger",
		UsageText:   "shadowtap status [--json] [--instance NAME]",
		Description: "--json prints the ledger as {line: {result: n}}. Needs the rights of the agent's user.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the ledger as JSON"},
			instanceFlag(),
			socketFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			client, err := client(c)
			if err != nil {
				return err
			}
			st, err := client.Status(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				e := json.NewEncoder(c.App.Writer)
				e.SetIndent("", "  ")
				return e.Encode(st.Ledger)
			}
			w := c.App.Writer
			fmt.Fprintf(w, "%s %s, pid %d, since %s: %s\n", st.Instance, st.Version, st.PID, st.Started.Format("2006-01-02 15:04:05"), st.Status)
			for _, k := range st.Checks {
				if !k.OK {
					fmt.Fprintf(w, "  %s: %s\n", k.Name, k.Error)
				}
			}
			printAgent(w, st.Agent)
			return telemetry.WriteLedger(w, telemetry.CountsOf(st))
		},
	}
}

func socketFlag() cli.Flag {
	return &cli.StringFlag{Name: "socket", Category: fileCategory, Usage: "`PATH` of the admin socket (default: found by itself)"}
}

func client(c *cli.Context) (*admin.Client, error) {
	if s := c.String("socket"); s != "" {
		return admin.New(s), nil
	}
	return admin.Find(c.Context, admin.Root, c.String("instance"))
}
