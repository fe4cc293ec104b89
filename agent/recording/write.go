package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Format is the name and version of the format that is written. formatV1 is read
// too.
const (
	Format   = "shadowtap.recording.v2"
	formatV1 = "shadowtap.recording.v1"
)

// The files of a recording.
const (
	headFile   = "head.json"
	eventsFile = "events.jsonl.zst"
	// newSuffix ends the name of a file that is not whole yet.
	newSuffix = ".new"
)

// Head is what a recording says of itself.
type Head struct {
	// Format is Format; Create sets it.
	Format string `json:"format"`
	// AgentVersion is that of the program that wrote it.
	AgentVersion string `json:"agent_version"`
	// Config is the configuration as YAML.
	Config string `json:"config"`
	// Times says that records made of it carry what differs from run to run.
	Times bool `json:"times"`
}

const (
	// maxHead bounds head.json, in bytes.
	maxHead = 16 << 20
	// window bounds what a reader has to hold of the stream.
	window = 4 << 20
)

// MaxLine is the longest line, in bytes, of a recording in which this much of a
// body is kept: four answers for each experiment (candidate and control, twice),
// the reference's and the request, in base64, with heads.
func MaxLine(maxBody int64) int {
	const most = 1 << 30
	bodies := int64(4*16 + 2)
	if maxBody < 0 || maxBody > most/bodies {
		return most
	}
	return int(min(bodies*(maxBody/3*4+1<<20), most))
}

// ErrFull says that a recording has reached its bound.
var ErrFull = errors.New("the recording has reached its bound")

// Config says where a recording goes.
type Config struct {
	// Dir is the folder. It is made when it is not there, and may be empty or
	// hold an earlier recording, which is replaced. Anything else is an error.
	Dir  string
	Head Head
	// MaxBody is how much of a body is kept, for MaxLine.
	MaxBody int64
	// MaxBytes bounds the file of events. Zero means 64 GiB.
	MaxBytes int64
}

// Writer writes a recording. It belongs to one goroutine.
type Writer struct {
	dir    string
	file   *os.File // nil when it goes elsewhere
	zstd   *zstd.Encoder
	max    int
	buf    bytes.Buffer
	enc    *json.Encoder // into buf
	events int
	err    error
}

// bounded ends a file at a number of bytes.
type bounded struct {
	w    io.Writer
	left int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, ErrFull
	}
	n, err := b.w.Write(p)
	b.left -= int64(n)
	return n, err
}

// Create makes the folder and the file of events, and writes the head.
func Create(c Config) (*Writer, error) {
	w, err := create(c)
	if err != nil {
		return nil, fmt.Errorf("make the recording %s: %w", c.Dir, err)
	}
	return w, nil
}

func create(c Config) (*Writer, error) {
	if c.MaxBytes == 0 {
		c.MaxBytes = 64 << 30
	}
	c.Head.Format = Format
	head, err := json.Marshal(&c.Head)
	if err != nil {
		return nil, err
	}
	if len(head) > maxHead {
		return nil, fmt.Errorf("its head has %d bytes, at most %d", len(head), maxHead)
	}
	if err := makeRoom(c.Dir); err != nil {
		return nil, err
	}
	// Only the user may look inside, also where the folder was there before.
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(c.Dir, 0o700); err != nil {
		return nil, err
	}
	// The head comes first: whatever is left behind a crash, it says whose the
	// folder is.
	if err := writeFile(filepath.Join(c.Dir, headFile), append(head, '\n')); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(c.Dir, eventsFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	w, err := NewWriter(&bounded{w: f, left: c.MaxBytes}, c)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	w.file = f
	return w, nil
}

// NewWriter writes the events alone, to somewhere else than a folder.
func NewWriter(out io.Writer, c Config) (*Writer, error) {
	w := &Writer{dir: c.Dir, max: MaxLine(c.MaxBody)}
	var err error
	if w.zstd, err = zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window)); err != nil {
		return nil, err
	}
	w.enc = json.NewEncoder(&w.buf)
	w.enc.SetEscapeHTML(false)
	return w, nil
}

// makeRoom removes an earlier recording, and refuses a folder with anything else.
func makeRoom(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ours := []string{headFile + newSuffix, eventsFile, headFile} // in the order in which they go
	for _, e := range list {
		if !slices.Contains(ours, e.Name()) {
			return fmt.Errorf("it holds %s, which is of no recording: name another folder, or one that is to be made", e.Name())
		}
	}
	if _, err := readHead(dir); err != nil && (len(list) > 1 || len(list) == 1 && list[0].Name() != headFile+newSuffix) {
		return fmt.Errorf("it is not empty and holds no recording: name another folder, or one that is to be made (%w)", err)
	}
	for _, name := range ours {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writeFile writes a file that is there whole or not at all.
func writeFile(name string, data []byte) error {
	f, err := os.OpenFile(name+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(name+newSuffix, name)
}

// Write adds an event. After the first error, which it gives again, nothing more
// is written; what was before can be read.
func (w *Writer) Write(e *Event) error {
	w.write(newLine(e))
	if w.err == nil {
		w.events++
	}
	return w.err
}

func (w *Writer) write(l *line) {
	if w.err != nil {
		return
	}
	w.buf.Reset()
	if w.err = w.enc.Encode(l); w.err == nil && w.buf.Len() > w.max {
		w.err = fmt.Errorf("an event of %d bytes: at most %d", w.buf.Len(), w.max)
	}
	if w.err == nil {
		// A block, of 128 KiB at most, goes out as soon as it is full.
		_, w.err = w.zstd.Write(w.buf.Bytes())
	}
	if w.err != nil {
		w.err = fmt.Errorf("write the recording %s: %w", w.dir, w.err)
	}
}

// Close writes the end with the capture's ledger, by line and result, unless
// something could not be written before. It gives the first error.
func (w *Writer) Close(ledger map[string]map[string]uint64) error {
	w.write(&line{End: &endLine{w.events, ledger}})
	// An encoder that failed is closed all the same; its error is known.
	err := w.zstd.Close()
	if w.file != nil {
		err = errors.Join(err, w.file.Sync(), w.file.Close())
	}
	if w.err == nil && err != nil {
		w.err = fmt.Errorf("write the recording %s: %w", w.dir, err)
	}
	return w.err
}
