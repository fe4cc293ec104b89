package agent

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/publish"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

func newRedactor(c *config.Config, deterministic bool) (*redact.Redactor, error) {
	mode, err := redact.ParseMode(c.Publish.Values)
	if err != nil {
		return nil, fmt.Errorf("publish.values: %w", err)
	}
	rc := redact.Config{
		Values: mode, Deterministic: deterministic,
		Headers: c.Redaction.Headers, Query: c.Redaction.Query, JSON: c.Redaction.JSON, Patterns: c.Redaction.Patterns,
	}
	for i := range c.Experiments {
		for _, r := range c.Experiments[i].Routes {
			rc.Routes = append(rc.Routes, redact.Route{Path: r.Path, Secret: r.Secret})
		}
	}
	if c.Redaction.KeyFile != "" {
		keys, err := redact.ReadKeyFile(c.Redaction.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("redaction.key_file: %w", err)
		}
		rc.Key, rc.KeyID, rc.Older = keys[0].Secret, keys[0].ID, keys[1:]
	}
	return redact.New(rc)
}

// newPublisher makes the sinks. Without any in the configuration divergences go
// to the terminal.
func newPublisher(c *config.Config, t Terminal, r *redact.Redactor, log *slog.Logger) (*publish.Publisher, error) {
	pc := publishConfig(c, log)
	names := c.SinkNames()
	for i, s := range c.Sinks {
		sink, err := newSink(s, names[i], t, c.Env(), log)
		if err != nil {
			return nil, fmt.Errorf("sinks[%d].%s: %w", i, s.Kind(), err)
		}
		pc.Sinks = append(pc.Sinks, sink)
	}
	if len(pc.Sinks) == 0 {
		sink, err := newTerminal("terminal", t, log)
		if err != nil {
			return nil, err
		}
		pc.Sinks = append(pc.Sinks, sink)
	}
	if w := r.Warning(); w != "" && len(c.Experiments) > 0 && len(c.Sinks) > 0 {
		log.Warn(w)
	}
	return publish.New(pc)
}

// publishConfig is the cap, without sinks.
func publishConfig(c *config.Config, log *slog.Logger) publish.Config {
	pc := publish.Config{Log: log, PerFingerprint: c.Publish.PerFingerprint, Then: int(c.Publish.Then.Hundredths())}
	if pc.PerFingerprint == 0 {
		pc.PerFingerprint = -1
	}
	if pc.Then == 0 {
		pc.Then = -1
	}
	return pc
}

func newSink(s config.Sink, name string, t Terminal, env []string, log *slog.Logger) (publish.Sink, error) {
	switch {
	case s.Kafka != nil:
		p, warnings, err := publish.ReadProperties(s.Kafka.Properties, env)
		if err != nil {
			return nil, err
		}
		for _, w := range warnings {
			log.Warn(w)
		}
		return publish.NewKafka(publish.KafkaConfig{Name: name, Topic: s.Kafka.Topic, Windows: s.Kafka.Windows, Properties: p, Log: log})
	case s.JSONL != nil:
		return publish.NewJSONLines(publish.JSONLinesConfig{Name: name, Path: s.JSONL.Path, Stdout: t.Out, Log: log})
	}
	return newTerminal(name, t, log)
}

func newTerminal(name string, t Terminal, log *slog.Logger) (publish.Sink, error) {
	return publish.NewTerminal(publish.TerminalConfig{Name: name, W: t.Out, Width: t.Width, Color: t.Colour, ASCII: t.ASCII, Location: time.Local, Log: log})
}

// deliveries gives the deliveries lines of the ledger.
func deliveries(p *publish.Publisher, w *windows) []telemetry.Count {
	var c counts
	if p == nil {
		return nil
	}
	for _, s := range p.Stats() {
		if s.Record == redact.KindWindow && w == nil {
			continue
		}
		labels := []string{"sink", s.Sink, "record", s.Record.String()}
		if s.Record == redact.KindWindow {
			c.add("deliveries", telemetry.Left, w.made.Load(), append([]string{"result", "windows"}, labels...)...)
		}
		c.add("deliveries", telemetry.InFlight, s.InFlight, labels...)
		s.Each(func(result, reason string, n uint64) {
			c.result("deliveries", result, n, append([]string{"reason", reason}, labels...)...)
		})
	}
	return c
}
