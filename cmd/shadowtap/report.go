package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

const (
	sourceCategory = "What to read:"
	gateCategory   = "What is asked:"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:  "report",
		Usage: "say what differs, how often, and whether one may promote",
		UsageText: "shadowtap report [FILE...]\n" +
			"shadowtap report DIR [--rules FILE]\n" +
			"shadowtap report --port 8080 --candidate http://localhost:3001 [--control URL] FILE.pcap\n" +
			"shadowtap report --config CONFIG FILE.pcap\n" +
			"shadowtap report --kafka BROKER:9092 --since 24h\n" +
			"shadowtap report --require promote --experiment users FILE",
		Description: "Without a source it asks the running agent. FILE holds window and divergence records\n" +
			"as JSON lines, plain or gzip; - is standard input. DIR is a recording of \"pcap --record\":\n" +
			"its answers are compared again, by the recorded rules or those of --rules. A capture file is\n" +
			"replayed first, as pcap does, to --candidate or to the candidates of all experiments of\n" +
			"--config. With --kafka it reads the topics of all agents, with the client properties of\n" +
			"the configuration's first Kafka sink and of KAFKA_* variables. Times are UTC.\n\n" +
			"Exit code 0: done, with --require promote only for promote; 1: hold; 3: insufficient;\n" +
			"2: trouble. Records that can't be read are said and counted.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
			&cli.BoolFlag{Name: "html", Usage: "print one HTML file, with all that it needs in it"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE` instead of standard output"},
			&cli.StringFlag{Name: "rules", Category: sourceCategory, Usage: "`FILE` with rules for a recording (ignore, equal, arrays, ...), or a configuration"},
			&cli.StringFlag{Name: "kafka", Category: sourceCategory, Usage: "`BROKERS` to read from, as host:port with commas"},
			&cli.StringSliceFlag{Name: "topic", Category: sourceCategory, Usage: "`NAME` of a topic; repeatable, or a list with commas (default: those of the configuration)"},
			&cli.StringFlag{Name: "since", Category: sourceCategory, Usage: "leave out what was before `TIME`: 2026-03-01T12:00:00Z, or 24h for so long ago"},
			&cli.StringFlag{Name: "until", Category: sourceCategory, Usage: "leave out what was at `TIME` or later"},
			&cli.StringFlag{Name: "require", Category: gateCategory, Usage: "`WORD` promote: exit with 0 for it alone"},
			&cli.StringSliceFlag{Name: "experiment", Category: gateCategory, Usage: "`NAME` of an experiment that counts; repeatable, or a list with commas (default: all)"},
			&cli.StringFlag{Name: "max-divergence", Category: gateCategory, Usage: "the largest `SHARE` of divergent pairs, with a % sign (default: the configuration's, 0.1%)"},
			&cli.StringFlag{Name: "confidence", Category: gateCategory, Usage: "`SHARE` of the bounds, with a % sign (default: the configuration's, 99%)"},
			configFlag(), instanceFlag(), socketFlag(), portFlag(),
		}, replayFlags()...),
		Action: runReport,
	}
}

func runReport(c *cli.Context) error {
	if c.Bool("json") && c.Bool("html") {
		return errors.New("--json or --html, not both")
	}
	if w := c.String("require"); w != "" && w != string(verdict.Promote) {
		return fmt.Errorf("--require: %q can't be required, only promote", w)
	}
	o, err := reportOptions(c, time.Now())
	if err != nil {
		return err
	}
	d, err := agent.Report(c.Context, *o)
	if err != nil {
		return err
	}
	if err := writeReport(c, d); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if code := d.Word.ExitCode(); c.IsSet("require") && code != 0 {
		return cli.Exit("", code)
	}
	return nil
}

// reportOptions are what the flags and the configuration say.
func reportOptions(c *cli.Context, now time.Time) (*agent.ReportOptions, error) {
	log, _ := newLogger(c.App.ErrWriter, config.Log{})
	cfg, err := load(c, log)
	if err != nil {
		return nil, err
	}
	for name, to := range map[string]*config.Rate{"max-divergence": &cfg.Verdict.MaxDivergence, "confidence": &cfg.Verdict.Confidence} {
		if c.IsSet(name) {
			if *to, err = config.ParseRate(c.String(name)); err != nil {
				return nil, fmt.Errorf("--%s: %w", name, err)
			}
		}
	}
	o := &agent.ReportOptions{
		Files: c.Args().Slice(), Stdin: os.Stdin, Experiments: splitList(c, "experiment"), Settings: agent.VerdictSettings(&cfg.Verdict),
		Agent: func() (*admin.Client, error) { return client(c) }, Warn: c.App.ErrWriter,
		Rules: c.String("rules"), Version: version,
	}
	if err := captureOptions(c, o, log); err != nil {
		return nil, err
	}
	if !c.IsSet("config") {
		// A recording has thresholds of its own.
		o.Recorded = func(s verdict.Settings) verdict.Settings {
			if c.IsSet("max-divergence") {
				s.MaxDivergence = o.Settings.MaxDivergence
			}
			if c.IsSet("confidence") {
				s.Confidence = o.Settings.Confidence
			}
			return s
		}
	}
	if o.Since, err = moment(c, "since", now); err != nil {
		return nil, err
	}
	if o.Until, err = moment(c, "until", now); err != nil {
		return nil, err
	}
	if !o.Since.IsZero() && !o.Until.IsZero() && !o.Since.Before(o.Until) {
		return nil, errors.New("--until: not after --since")
	}
	if !c.IsSet("kafka") {
		if c.IsSet("topic") {
			return nil, errors.New("--topic: give the brokers too, with --kafka")
		}
		if len(o.Files) == 0 && (c.IsSet("max-divergence") || c.IsSet("confidence")) {
			return nil, errors.New("a running agent has thresholds of its own: --max-divergence and --confidence need files or --kafka")
		}
		return o, nil
	}
	o.Kafka = &agent.ReportKafka{Topics: splitList(c, "topic"), Properties: map[string]string{}, Env: os.Environ(), Version: version, Log: log}
	for i := range cfg.Sinks {
		if k := cfg.Sinks[i].Kafka; k != nil {
			for name, value := range k.Properties {
				o.Kafka.Properties[name] = value
			}
			if len(o.Kafka.Topics) == 0 {
				o.Kafka.Topics = []string{k.Topic, k.Windows}
			}
			break
		}
	}
	delete(o.Kafka.Properties, "metadata.broker.list") // the other name of what follows
	o.Kafka.Properties["bootstrap.servers"] = c.String("kafka")
	return o, nil
}

// captureOptions say how a capture file is replayed, if there is one.
func captureOptions(c *cli.Context, o *agent.ReportOptions, log *slog.Logger) error {
	asked := ""
	for _, name := range []string{"port", "times", "sample", "path", "control", "candidate"} {
		if c.IsSet(name) {
			asked = name
		}
	}
	switch where := c.IsSet("candidate") || c.IsSet("config"); {
	case asked != "" && !where:
		return fmt.Errorf("--%s is about a capture that is replayed: add --candidate with the URL of the candidate, or --config with experiments", asked)
	case !where:
		return nil
	}
	o.Capture = sync.OnceValues(func() (*agent.PcapOptions, error) {
		cfg, err := replayConfig(c, log)
		if err != nil {
			return nil, err
		}
		return &agent.PcapOptions{
			Ports: cfg.CapturePorts(), Decapsulate: true, Memory: int64(cfg.Capture.Memory), Config: cfg, Times: c.Bool("times"),
			Terminal: terminal(c.App.Writer), Version: version, Log: log,
		}, nil
	})
	if asked == "" {
		// The configuration may be for its thresholds alone.
		return nil
	}
	_, err := o.Capture()
	return err
}

// moment reads a time, or how long ago it was.
func moment(c *cli.Context, name string, now time.Time) (time.Time, error) {
	s := c.String(name)
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	var d config.Duration
	if err := d.UnmarshalText([]byte(s)); err != nil || d == 0 {
		return time.Time{}, fmt.Errorf("--%s: %q is neither a time such as 2026-03-01T12:00:00Z nor a duration such as 24h", name, s)
	}
	return now.Add(-d.D()), nil
}

// writeReport writes the report in the form that was asked for. A file is
// opened when the report is there.
func writeReport(c *cli.Context, d *report.Document) (err error) {
	var out bytes.Buffer
	path := c.String("output")
	switch {
	case c.Bool("json"):
		text, err := d.JSON()
		if err != nil {
			return err
		}
		out.Write(text)
	case c.Bool("html"):
		if err := d.WriteHTML(&out); err != nil {
			return err
		}
	default:
		t := terminal(c.App.Writer)
		o := report.TextOptions{Width: t.Width, Color: t.Colour, ASCII: t.ASCII}
		if path != "" {
			o = report.TextOptions{}
		}
		if err := d.WriteText(&out, o); err != nil {
			return err
		}
	}
	if path == "" {
		path = "-"
	}
	w, done, err := openOut(path, c.App.Writer)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, &out)
	return errors.Join(err, done())
}
