package main

import (
	"errors"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/shadowtap/shadowtap/agent"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "compare two answers in files, as the agent would",
		UsageText: "shadowtap diff [--rules FILE] REFERENCE CANDIDATE\ncurl -si http://localhost:3001/ | shadowtap diff reference.http -",
		Description: "Each file holds an HTTP answer as \"curl -i\" prints it; - is standard input. Differences\n" +
			"come with their place, for JSON as RFC 9535 spells it, and with both values in the clear.\n" +
			"The rules are those of an experiment's compare: in a file of their own, or in a\n" +
			"configuration.\n\n" +
			"Exit code 0: equal, or only what is ignored differs; 1: different; 2: trouble.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "rules", Usage: "`FILE` with rules (ignore, equal, arrays, ...), or a configuration"},
			&cli.StringFlag{Name: "experiment", Usage: "`NAME` of the experiment whose rules count, if the configuration has several"},
			&cli.StringFlag{Name: "descriptors", Usage: "`FILE` of protobuf types (protoc --include_imports --descriptor_set_out=FILE): names instead of numbers"},
			&cli.StringFlag{Name: "grpc", Usage: "`METHOD` that the answers are of, /package.Service/Method: the descriptors have its type"},
			&cli.BoolFlag{Name: "ignored", Usage: "print what is ignored too, and by which rule"},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object: outcome and every difference"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return errors.New("two files are needed, with an HTTP answer each: shadowtap diff REFERENCE CANDIDATE")
			}
			different, err := agent.Diff(agent.DiffOptions{
				Reference: c.Args().Get(0), Candidate: c.Args().Get(1), Stdin: os.Stdin,
				Rules: c.String("rules"), Experiment: c.String("experiment"),
				Descriptors: c.String("descriptors"), GRPC: c.String("grpc"),
				Out: c.App.Writer, Warn: c.App.ErrWriter,
				JSON: c.Bool("json"), Ignored: c.Bool("ignored"), Color: colored(c.App.Writer),
			})
			if err == nil && different {
				return cli.Exit("", exitDifferent)
			}
			return err
		},
	}
}

// colored says whether w is a terminal whose user wants colours (no-color.org).
func colored(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
