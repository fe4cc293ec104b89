package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

const replayCategory = "Replay to a candidate:"

func pcapCommand() *cli.Command {
	return &cli.Command{
		Name:  "pcap",
		Usage: "read a capture file through the same pipeline",
		UsageText: "shadowtap pcap --port 8080 FILE\nshadowtap pcap --exchanges --ports 80,8080 FILE\n" +
			"shadowtap pcap --port 8080 --candidate http://localhost:3001 [--record DIR] FILE\n" +
			"shadowtap pcap --port 8080 --candidate http://localhost:3001 --control http://localhost:3002 FILE",
		Description: "FILE is pcap or pcapng, - for standard input. Without --exchanges it prints the\n" +
			"ledger: what became of every packet, byte and exchange.\n\n" +
			"With --candidate, or the experiments of --config, the requests are replayed and the\n" +
			"answers compared; divergences go to the configuration's sinks, else to the terminal,\n" +
			"and the report with the verdict comes at the end. Nothing is shed: reading waits for the\n" +
			"servers. The same capture and the same answers give the same records, byte for byte.\n\n" +
			"With --control, or the configuration's control, a second instance of the version that was\n" +
			"captured is asked together with the candidate: what it differs in too is noise. The\n" +
			"configuration's compare.recheck asks published divergences once more.\n\n" +
			"--record keeps requests and answers so that \"shadowtap report DIR\" can compare them again\n" +
			"by other rules. They are in the clear there, credentials included: only you may read it.",
		Flags: append([]cli.Flag{
			portFlag(),
			&cli.BoolFlag{Name: "decapsulate", Category: whatCategory, Value: true,
				Usage: "open VXLAN, Geneve and GRE (--decapsulate=false: read what is outside only)"},
			&cli.BoolFlag{Name: "exchanges", Category: whatCategory, Usage: "print each complete exchange as a JSON line"},
			&cli.StringFlag{Name: "jsonl", Category: replayCategory, Usage: "write divergences and windows as JSON lines to `FILE` anew, - for standard output"},
			&cli.StringFlag{Name: "record", Category: replayCategory, Usage: "keep requests and answers, in the clear, in the folder `DIR`"},
			configFlag(),
		}, replayFlags()...),
		Action: runPcap,
	}
}

// replayFlags say where a capture is replayed to, and what of it.
func replayFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "candidate", Category: replayCategory, Usage: "`URL` of the version under test, http or https"},
		&cli.StringFlag{Name: "control", Category: replayCategory, Usage: "`URL` of a second instance of the captured version, to tell noise (all that is replayed, or the configuration's share)"},
		&cli.StringSliceFlag{Name: "path", Category: replayCategory, Usage: "path `PATTERN` that is replayed, as http.ServeMux has them (default: /, every path); repeatable"},
		&cli.StringFlag{Name: "sample", Category: replayCategory, Usage: "`SHARE` of the requests that is replayed, with a % sign (default: 100%, or the configuration's)"},
		&cli.BoolFlag{Name: "times", Category: replayCategory, Usage: "put the times of candidate and control into records and report: then no two runs are alike"},
	}
}

func runPcap(c *cli.Context) (err error) {
	if c.NArg() != 1 {
		return errors.New("one capture file is needed: shadowtap pcap --port PORT FILE")
	}
	log, _ := newLogger(c.App.ErrWriter, config.Log{})
	o := agent.PcapOptions{Path: c.Args().First(), Decapsulate: c.Bool("decapsulate"), Log: log}
	if o.Config, err = replayConfig(c, log); err != nil {
		return err
	}
	if o.Ports, err = ports(c); err != nil {
		return err
	}
	if o.Config == nil {
		for _, name := range []string{"control", "path", "sample", "times", "jsonl", "record"} {
			if c.IsSet(name) {
				return fmt.Errorf("--%s is about replay: add --candidate with the URL of the candidate, or --config with experiments", name)
			}
		}
	} else {
		o.Ports = o.Config.CapturePorts()
		o.Times, o.Record, o.Version, o.Terminal = c.Bool("times"), c.String("record"), version, terminal(c.App.Writer)
		o.Memory = int64(o.Config.Capture.Memory)
	}
	if len(o.Ports) == 0 {
		return errNoPort
	}
	if c.Bool("exchanges") {
		o.Exchanges = c.App.Writer
	}
	out := c.App.Writer
	if path := c.String("jsonl"); path != "" {
		// A file begins anew, so that it holds this run alone.
		_, done, err := openOut(path, out)
		if err == nil {
			err = done()
		}
		if err != nil {
			return fmt.Errorf("--jsonl: %w", err)
		}
		o.Config.Sinks = append(o.Config.Sinks, config.Sink{JSONL: &config.JSONL{Path: path}})
		if path == "-" {
			out = c.App.ErrWriter
		}
	}
	res, err := agent.Pcap(c.Context, o)
	if res == nil || c.Bool("exchanges") && o.Config == nil {
		return err
	}
	if o.Config == nil {
		if werr := telemetry.WriteLedger(out, res.Counts); werr != nil {
			return fmt.Errorf("write the ledger: %w", werr)
		}
		return err
	}
	return errors.Join(err, endPcap(out, o.Record, res))
}

// endPcap prints what comes at the end of a replay.
func endPcap(out io.Writer, record string, res *agent.PcapResult) error {
	if res.Report != nil {
		t := terminal(out)
		if err := res.Report.WriteText(out, report.TextOptions{Width: t.Width, Color: t.Colour, ASCII: t.ASCII}); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	var wrong []error
	for _, i := range telemetry.Balance(res.Counts) {
		wrong = append(wrong, fmt.Errorf("the ledger does not balance: %s", i))
	}
	if record != "" && len(wrong) == 0 {
		if _, err := fmt.Fprintf(out, "To compare again by other rules: shadowtap report %s --rules FILE\n", record); err != nil {
			return err
		}
	}
	return errors.Join(wrong...)
}

// replayConfig is what a capture is replayed by; nil when nothing asks for it.
func replayConfig(c *cli.Context, log *slog.Logger) (*config.Config, error) {
	if !c.IsSet("candidate") && !c.IsSet("config") {
		return nil, nil
	}
	cfg, err := load(c, log)
	if err != nil {
		return nil, err
	}
	q := config.Quick{Candidate: c.String("candidate"), Control: c.String("control"), Paths: c.StringSlice("path"), Sample: c.String("sample")}
	if q.Ports, err = ports(c); err != nil {
		return nil, err
	}
	if q.Sample == "" && q.Candidate != "" && len(cfg.Experiments) == 0 {
		// Nobody is spared by less.
		q.Sample = "100%"
	}
	if err := cfg.Override(q); err != nil {
		return nil, err
	}
	if len(cfg.CapturePorts()) == 0 {
		return nil, errNoPort
	}
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if len(cfg.Experiments) == 0 {
		return nil, errors.New("the configuration has no experiment: add --candidate with the URL of the candidate")
	}
	return cfg, nil
}
