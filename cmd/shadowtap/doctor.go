package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:        "doctor",
		Usage:       "look whether this machine has what the agent needs",
		UsageText:   "shadowtap doctor [--interface NAME] [--json]",
		Description: "Looks at the kernel, the capabilities of this process, whether the kernel takes\nthe tap, and the interfaces. Attaches nothing. Exit code 2 when something is missing.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "interface", Aliases: []string{"i"}, Usage: "`NAME` of an interface that must be there; repeatable"},
			&cli.BoolFlag{Name: "json", Usage: "print the findings as JSON"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			findings := agent.Doctor(splitList(c, "interface"))
			missing := 0
			for _, f := range findings {
				if !f.OK {
					missing++
				}
			}
			if c.Bool("json") {
				e := json.NewEncoder(c.App.Writer)
				e.SetIndent("", "  ")
				if err := e.Encode(findings); err != nil {
					return err
				}
			} else {
				printFindings(c.App.Writer, findings)
			}
			if missing > 0 {
				return fmt.Errorf("%d of %s failed", missing, plural(len(findings), "check"))
			}
			return nil
		},
	}
}

// printFindings prints a line for each thing, and below it what to do.
func printFindings(w io.Writer, findings []agent.Finding) {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.Name))
	}
	for _, f := range findings {
		mark := "ok"
		if !f.OK {
			mark = "MISSING"
		}
		fmt.Fprintf(w, "%-7s  %-*s  %s\n", mark, width, f.Name, f.Found)
		if f.Do != "" {
			fmt.Fprintf(w, "%-7s  %-*s  -> %s\n", "", width, "", f.Do)
		}
	}
}
