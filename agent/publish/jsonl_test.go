package publish

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
)

func deliver(s Sink, rec *redact.Record) Result {
	var got Result = NumResults
	s.Deliver(rec, func(r Result) { got = r })
	return got
}

func lines(t *testing.T, data []byte) []string {
	t.Helper()
	l := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	return l
}

func TestJSONLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	rec := newPair().record(t, redact.Config{})
	for range 2 { // the second opening appends
		j, err := NewJSONLines(JSONLinesConfig{Path: path, Log: discard})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if r := deliver(j, rec); r != Acknowledged {
				t.Fatalf("result %v", r)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l := lines(t, data)
	if len(l) != 6 || l[0] != string(rec.JSON()) {
		t.Fatalf("%d lines: %s", len(l), data)
	}
	valid(t, []byte(l[5]))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if m := info.Mode().Perm(); m != 0o600 {
		t.Errorf("mode %o, want 600", m)
	}
}

func TestJSONLinesToStdout(t *testing.T) {
	var b bytes.Buffer
	j, err := NewJSONLines(JSONLinesConfig{Path: "-", Stdout: &b, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	rec := newPair().record(t, redact.Config{})
	if r := deliver(j, rec); r != Acknowledged || b.String() != string(rec.JSON())+"\n" {
		t.Errorf("result %v, wrote %q", r, b.String())
	}
}

func TestJSONLinesErrors(t *testing.T) {
	if _, err := NewJSONLines(JSONLinesConfig{Log: discard}); err == nil || !strings.Contains(err.Error(), "Path") {
		t.Errorf("no path: %v", err)
	}
	if _, err := NewJSONLines(JSONLinesConfig{Path: "x"}); err == nil || !strings.Contains(err.Error(), "Log") {
		t.Errorf("no log: %v", err)
	}
	if _, err := NewJSONLines(JSONLinesConfig{Path: filepath.Join(t.TempDir(), "no", "such"), Log: discard}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

// A full disk drops records, and the sink goes on.
func TestJSONLinesDiskFull(t *testing.T) {
	j, err := NewJSONLines(JSONLinesConfig{Path: "/dev/full", Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	p := newPublisher(t, Config{Sinks: []Sink{j}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	rec := newPair().record(t, redact.Config{})
	for range 5 {
		p.Publish(rec)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 5)
	if n := p.Stats()[0].Results[Write]; n != 5 {
		t.Errorf("%d dropped as write, want 5", n)
	}
}

// faultyWriter takes only so many bytes in the calls that it is told to fail.
type faultyWriter struct {
	bytes.Buffer
	calls int
	take  map[int]int
}

func (f *faultyWriter) Write(b []byte) (int, error) {
	f.calls++
	if n, ok := f.take[f.calls]; ok {
		f.Buffer.Write(b[:n])
		if f.calls%2 == 0 {
			return n, syscall.ENOSPC
		}
		return n, nil // a short write without an error
	}
	return f.Buffer.Write(b)
}

// A line that was cut is ended before the next one, so that only itself is
// lost.
func TestJSONLinesShortWrite(t *testing.T) {
	w := &faultyWriter{take: map[int]int{2: 10, 3: 7, 5: 0}}
	j, err := NewJSONLines(JSONLinesConfig{Path: "-", Stdout: w, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	rec := newPair().record(t, redact.Config{})
	var got []Result
	for range 6 {
		got = append(got, deliver(j, rec))
	}
	for i, want := range []Result{Acknowledged, Write, Write, Acknowledged, Write, Acknowledged} {
		if got[i] != want {
			t.Errorf("record %d: %v, want %v", i, got[i], want)
		}
	}
	whole := 0
	for _, l := range lines(t, w.Bytes()) {
		if l == string(rec.JSON()) {
			whole++
		} else if len(l) > 10 {
			t.Errorf("a line is neither whole nor cut: %.40s…", l)
		}
	}
	if whole != 3 {
		t.Errorf("%d whole lines, want 3", whole)
	}
}

// In a regular file the cut line is taken back.
func TestJSONLinesTakesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	j, err := NewJSONLines(JSONLinesConfig{Path: path, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	rec := newPair().record(t, redact.Config{})
	deliver(j, rec)
	file := j.w
	j.w = cutWriter{file}
	if r := deliver(j, rec); r != Write {
		t.Errorf("result %v", r)
	}
	j.w = file
	deliver(j, rec)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat(string(rec.JSON())+"\n", 2); string(data) != want {
		t.Errorf("file has %d bytes, want %d", len(data), len(want))
	}
}

// cutWriter writes half of what it is given.
type cutWriter struct {
	w interface{ Write([]byte) (int, error) }
}

func (c cutWriter) Write(b []byte) (int, error) {
	n, _ := c.w.Write(b[:len(b)/2])
	return n, syscall.ENOSPC
}

// A pipe that nobody reads does not keep Stop beyond its deadline.
func TestJSONLinesPipeThatHangs(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	j, err := NewJSONLines(JSONLinesConfig{Path: "-", Stdout: w, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, Config{Sinks: []Sink{j}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	rec := newPair().record(t, redact.Config{})
	n := 0
	for size := 0; size < 1<<20; size += len(rec.JSON()) { // a pipe holds 64 KiB
		p.Publish(rec)
		n++
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: %v", err)
	}
	wait()
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("stopping took %v", d)
	}
	balanced(t, p, uint64(n))
	if s := p.Stats()[0]; s.Results[Stopped] == 0 || s.Results[Acknowledged] == 0 {
		t.Errorf("%+v", s)
	}
}
