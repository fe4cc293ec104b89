package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
)

// JSONLinesConfig is what a JSONLines sink is made of.
type JSONLinesConfig struct {
	// Name is the sink label of the ledger. Empty means "jsonl".
	Name string
	// Path is the file, which is created with mode 0600 or appended to; "-"
	// is Stdout. Required unless Writer is set.
	Path string
	// Stdout is what "-" means. Nil means os.Stdout.
	Stdout io.Writer
	// Log is required.
	Log *slog.Logger
}

// JSONLines writes each record as one line of JSON. A line is written by one
// call. When one can't be written whole, the record is dropped, and the next
// line does not continue the broken one.
type JSONLines struct {
	name string
	path string
	w    io.Writer
	file *os.File // what Close closes; nil for Stdout
	log  *slog.Logger
	// broken: the last line was cut and stands there without its end.
	broken bool
	told   bool
	closed atomic.Bool
}

// NewJSONLines opens the file.
func NewJSONLines(c JSONLinesConfig) (*JSONLines, error) {
	if c.Log == nil {
		return nil, errors.New("publish: JSONLinesConfig.Log: missing")
	}
	j := &JSONLines{name: c.Name, path: c.Path, log: c.Log}
	if j.name == "" {
		j.name = "jsonl"
	}
	switch c.Path {
	case "":
		return nil, errors.New("publish: JSONLinesConfig.Path: missing")
	case "-":
		j.path = "standard output"
		j.w = c.Stdout
		if j.w == nil {
			j.w = os.Stdout
		}
	default:
		f, err := os.OpenFile(c.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("publish: json lines: %w", err)
		}
		j.w, j.file = f, f
	}
	return j, nil
}

// Name is the sink label of the ledger.
func (j *JSONLines) Name() string { return j.name }

// Takes says that all kinds of records go into one file; their schema tells them
// apart.
func (j *JSONLines) Takes(redact.Kind) bool { return true }

// Deliver writes the record's line.
func (j *JSONLines) Deliver(rec *redact.Record, done func(Result)) {
	done(j.write(rec.JSON()))
}

func (j *JSONLines) write(value []byte) Result {
	line := make([]byte, 0, len(value)+2)
	if j.broken {
		line = append(line, '\n')
	}
	line = append(append(line, value...), '\n')
	n, err := j.w.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err == nil {
		j.broken = false
		return Acknowledged
	}
	if j.closed.Load() {
		return Stopped
	}
	if n > 0 {
		j.broken = !j.takeBack(n)
	}
	if !j.told {
		j.told = true
		j.log.Warn("json lines dropped a record; further ones are only counted", "sink", j.name, "path", j.path, "err", err)
	}
	return Write
}

// takeBack removes the last n bytes again, when they are the end of a regular
// file. It says whether it did.
func (j *JSONLines) takeBack(n int) bool {
	if j.file == nil {
		return false
	}
	info, err := j.file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() < int64(n) {
		return false
	}
	return j.file.Truncate(info.Size()-int64(n)) == nil
}

// Flush has nothing to wait for: a line is written at once.
func (j *JSONLines) Flush(context.Context) error { return nil }

// Close closes the file, and frees a write that hangs where the system can.
func (j *JSONLines) Close() error {
	if j.closed.Swap(true) {
		return nil
	}
	if f, ok := j.w.(*os.File); ok {
		_ = f.SetWriteDeadline(time.Unix(1, 0)) // not every file has deadlines
	}
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
