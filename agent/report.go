package agent

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/shadowtap/shadowtap/agent/capture"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/publish"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// ReportOptions say what a report is made of. Without Files and Kafka it is the
// one that a running agent has.
type ReportOptions struct {
	// Files hold windows and divergences as JSON lines, in any mixture, plain or
	// gzip, or are recordings of "pcap --record": folders. "-" is Stdin.
	Files []string
	Stdin io.Reader
	// Kafka reads the topics of brokers. Nil means none.
	Kafka *ReportKafka
	// Agent is the running agent. It is asked when there is no other source.
	Agent func() (*admin.Client, error)
	// Settings are the thresholds. A running agent has its own: Settings are
	// then not looked at.
	Settings verdict.Settings
	// Recorded gives the thresholds for a recording that is the only source, of
	// those it was recorded with. Nil means Settings.
	Recorded func(verdict.Settings) verdict.Settings
	// Rules is a file with rules, or a configuration, that recordings are
	// compared by again in place of their own. "" means their own.
	Rules string
	// Capture says how a capture file among Files is replayed, and is not asked
	// without one; Path, Report and Quiet are set by Report. Nil refuses it.
	Capture func() (*PcapOptions, error)
	// Version of the program, for records of recordings.
	Version string
	// Experiments are those that count; none means all.
	Experiments []string
	// Since and Until leave out what is not between them. Zero means no end.
	Since, Until time.Time
	// Warn gets a line for each record that can't be read, up to 10 a source.
	// Required.
	Warn io.Writer

	// recorded are the thresholds of the recording or capture that was read last;
	// recordings is how many recordings there were.
	recorded   *verdict.Settings
	recordings int
}

// ReportKafka says which topics are read.
type ReportKafka struct {
	// Topics to read; none means shadowtap.divergences and shadowtap.windows.
	Topics []string
	// Properties are the client's, by their librdkafka names, bootstrap.servers
	// among them; Env has further ones.
	Properties map[string]string
	Env        []string
	// Version is told to the brokers. Log is required.
	Version string
	Log     *slog.Logger
}

// Report reads the sources and judges. A record that can't be read is told to
// Warn and counted in the document; it is an error only when records came and
// none of them was of use.
func Report(ctx context.Context, o ReportOptions) (*report.Document, error) {
	d, err := o.document(ctx)
	if err != nil {
		return nil, err
	}
	if len(o.Experiments) > 0 {
		d.Only(o.Experiments...)
	}
	return d, nil
}

func (o *ReportOptions) document(ctx context.Context) (*report.Document, error) {
	if len(o.Files) == 0 && o.Kafka == nil {
		return o.ask(ctx)
	}
	c := report.Config{}
	if !o.Since.IsZero() {
		c.Since = verdict.TimeOf(o.Since)
	}
	if !o.Until.IsZero() {
		c.Until = verdict.TimeOf(o.Until)
	}
	b, err := report.New(c)
	if err != nil {
		return nil, err
	}
	for _, name := range o.Files {
		if err := o.readFile(ctx, b, name); err != nil {
			return nil, err
		}
	}
	if o.Kafka != nil {
		if err := o.readKafka(ctx, b); err != nil {
			return nil, err
		}
	}
	if o.Rules != "" && o.recordings == 0 {
		return nil, errors.New("rules are for a recording of pcap --record: records as published hold no answers to compare again")
	}
	settings := o.Settings
	if o.recorded != nil && o.Recorded != nil && len(o.Files) == 1 && o.Kafka == nil {
		settings = o.Recorded(*o.recorded)
	}
	d, err := b.Document(settings)
	if err != nil {
		return nil, err
	}
	if n := &d.Input; !n.Usable() && n.Unusable+n.UnusableDivergences+n.Foreign > 0 {
		return nil, fmt.Errorf("nothing of use: none of %d records is a window or a divergence that can be read", n.Unusable+n.UnusableDivergences+n.Foreign)
	}
	return d, nil
}

// ask takes the running agent's report.
func (o *ReportOptions) ask(ctx context.Context) (*report.Document, error) {
	if !o.Since.IsZero() || !o.Until.IsZero() {
		return nil, errors.New("a running agent reports on all since its start: since and until need files or Kafka")
	}
	client, err := o.Agent()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := client.Get(ctx, "/report", &text); err != nil {
		return nil, err
	}
	return report.ReadDocument(&text)
}

// warnings bounds what is said of one source.
type warnings struct {
	to   io.Writer
	said int
}

// maxWarnings is how many records of a source are named.
const maxWarnings = 10

func (w *warnings) say(where string, err error) {
	if w.said++; w.said <= maxWarnings {
		fmt.Fprintf(w.to, "warning: %s: %s\n", where, oneLine(err))
	}
}

// end says how many were not named.
func (w *warnings) end(source string) {
	if n := w.said - maxWarnings; n > 0 {
		fmt.Fprintf(w.to, "warning: %s: %d more records like these\n", source, n)
	}
}

// oneLine is an error's text without what a terminal would act on.
func oneLine(err error) string { return printable(err.Error()) }

// readFile reads JSON lines.
func (o *ReportOptions) readFile(ctx context.Context, b *report.Builder, name string) error {
	in := o.Stdin
	if name == "-" {
		if in == nil {
			return errors.New("no standard input")
		}
	} else {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			settings, err := readRecording(ctx, o, b, name)
			o.recorded = &settings
			o.recordings++
			return err
		}
		in = f
	}
	r := bufio.NewReaderSize(in, 64<<10)
	if magic, _ := r.Peek(4); capture.Is(magic) {
		return o.readCapture(ctx, b, name)
	}
	if magic, err := r.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b { // RFC 1952, 2.3.1
		z, err := gzip.NewReader(r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r = bufio.NewReaderSize(z, 64<<10)
	}
	if name == "-" {
		name = "standard input"
	}
	warn := warnings{to: o.Warn}
	defer func() { warn.end(name) }()
	l := lineReader{r: r, max: report.MaxRecord}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := l.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errLineTooLong):
			b.Unusable(1)
		case err != nil:
			return fmt.Errorf("%s:%d: %w", name, l.n, err)
		case len(bytes.TrimSpace(line)) == 0:
			continue
		default:
			err = b.Record(line)
		}
		if err != nil {
			warn.say(fmt.Sprintf("%s:%d", name, l.n), err)
		}
	}
}

// readCapture replays a capture file.
func (o *ReportOptions) readCapture(ctx context.Context, b *report.Builder, name string) error {
	switch {
	case name == "-":
		return errors.New("standard input is a capture: name the file, to be replayed")
	case o.Capture == nil:
		return fmt.Errorf("%s is a capture: to replay it, say where to with --candidate, and the servers' ports with --port, or both with --config", name)
	}
	how, err := o.Capture()
	if err != nil {
		return err
	}
	p := *how
	p.Path, p.Report, p.Quiet = name, b, true
	settings := VerdictSettings(&p.Config.Verdict)
	o.recorded = &settings
	_, err = Pcap(ctx, p)
	return err
}

var errLineTooLong = fmt.Errorf("read a record: a line of more than %d bytes", report.MaxRecord)

// lineReader reads lines of at most max bytes, and steps over longer ones.
type lineReader struct {
	r   *bufio.Reader
	max int
	buf []byte
	n   int // the number of the line that came last, from 1
}

// next is the next line without its end, valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	l.buf = l.buf[:0]
	l.n++
	long := false
	for {
		piece, err := l.r.ReadSlice('\n')
		if long = long || len(l.buf)+len(piece) > l.max+1; !long {
			l.buf = append(l.buf, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || !long && len(l.buf) == 0):
			return nil, err
		case long:
			return nil, errLineTooLong
		}
		return bytes.TrimSuffix(l.buf, []byte("\n")), nil
	}
}

// readKafka reads topics.
func (o *ReportOptions) readKafka(ctx context.Context, b *report.Builder) error {
	k := o.Kafka
	p, notes, err := publish.ReadProperties(k.Properties, k.Env)
	if err != nil {
		return err
	}
	for _, n := range notes {
		k.Log.Warn(n)
	}
	topics := k.Topics
	if len(topics) == 0 {
		topics = []string{"shadowtap.divergences", "shadowtap.windows"}
	}
	warn := warnings{to: o.Warn}
	missing, err := publish.ReadTopics(ctx, publish.ReadConfig{
		Topics: topics, Properties: p, Since: o.Since, Version: k.Version, Log: k.Log,
		Each: func(topic string, partition int32, offset int64, value []byte) error {
			if err := b.Record(value); err != nil {
				warn.say(fmt.Sprintf("topic %s, partition %d, offset %d", topic, partition, offset), err)
			}
			return nil
		},
	})
	warn.end("Kafka")
	if err != nil {
		return err
	}
	for _, topic := range missing {
		fmt.Fprintf(o.Warn, "warning: there is no topic %s\n", printable(topic))
	}
	return nil
}

// VerdictSettings are the thresholds of a configuration.
func VerdictSettings(v *config.Verdict) verdict.Settings {
	share := func(r interface{ Hundredths() uint32 }) float64 { return float64(r.Hundredths()) / 10_000 }
	return verdict.Settings{
		MaxDivergence: share(v.MaxDivergence), Confidence: share(v.Confidence), MinCompared: int64(v.MinCompared), MaxUnseen: share(v.MaxUnseen),
		MaxFailed: share(v.MaxFailed), MaxMasked: v.MaxMasked, Alpha: share(v.Alpha), NoiseMargin: share(v.NoiseMargin),
		MaxP50: share(v.MaxLatency.P50), MaxP99: share(v.MaxLatency.P99),
	}
}
