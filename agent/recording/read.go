package recording

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// ErrCut is the cause of Next's error at the end of a recording that lacks its
// own: what it was about to hold is not there, what came before is whole.
var ErrCut = errors.New("the recording was cut short")

// Is says whether a folder holds a recording, whole or not.
func Is(dir string) bool {
	_, err := readHead(dir)
	return err == nil
}

// readHead reads the head of a folder.
func readHead(dir string) (Head, error) {
	f, err := os.Open(filepath.Join(dir, headFile))
	if err != nil {
		return Head{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHead+1))
	if err != nil {
		return Head{}, fmt.Errorf("read %s: %w", headFile, err)
	}
	return parseHead(data)
}

func parseHead(data []byte) (h Head, err error) {
	switch err := json.Unmarshal(data, &h); {
	case len(data) > maxHead:
		return h, fmt.Errorf("%s: more than %d bytes", headFile, maxHead)
	case err != nil:
		return h, fmt.Errorf("%s: %w", headFile, err)
	case h.Format != Format && h.Format != formatV1:
		return h, fmt.Errorf("%s: format %q: this program reads %s and %s", headFile, h.Format, Format, formatV1)
	}
	return h, nil
}

// Reader reads a recording. It belongs to one goroutine.
type Reader struct {
	name  string
	head  Head
	file  *os.File // nil without one of its own
	zstd  *zstd.Decoder
	lines *bufio.Reader
	// MaxLine is the longest line that is read, in bytes. Open sets it to
	// that of a body of 1 MiB.
	MaxLine int

	long   bytes.Buffer // a line that is longer than the buffer of lines
	events int
	err    error
	ledger map[string]map[string]uint64
}

// Open opens the recording of a folder.
func Open(dir string) (*Reader, error) {
	h, err := readHead(dir)
	if err != nil {
		return nil, fmt.Errorf("open the recording %s: %w", dir, err)
	}
	f, err := os.Open(filepath.Join(dir, eventsFile))
	if errors.Is(err, fs.ErrNotExist) {
		// It ended right behind its head.
		return newReader(dir, h, bytes.NewReader(nil))
	}
	if err != nil {
		return nil, fmt.Errorf("open the recording %s: %w", dir, err)
	}
	r, err := newReader(dir, h, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.file = f
	return r, nil
}

// NewReader reads the two files of a recording from elsewhere; name stands in
// errors.
func NewReader(name string, head []byte, events io.Reader) (*Reader, error) {
	h, err := parseHead(head)
	if err != nil {
		return nil, fmt.Errorf("read the recording %s: %w", name, err)
	}
	return newReader(name, h, events)
}

func newReader(name string, h Head, events io.Reader) (*Reader, error) {
	z, err := zstd.NewReader(events, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(2*window))
	if err != nil {
		return nil, fmt.Errorf("read the recording %s: %w", name, err)
	}
	return &Reader{name: name, head: h, zstd: z, lines: bufio.NewReaderSize(z, 256<<10), MaxLine: MaxLine(1 << 20)}, nil
}

// Head is what the recording says of itself.
func (r *Reader) Head() Head { return r.head }

// Next gives the next event, which is the caller's; io.EOF behind the last one
// of a whole recording. An error that wraps ErrCut says that the recording ends
// before its end, any other that it holds what none does. After an error it is
// given again.
func (r *Reader) Next() (*Event, error) {
	if r.err != nil {
		return nil, r.err
	}
	e, err := r.next()
	switch {
	case err == io.EOF:
		r.err = err
	case errors.Is(err, ErrCut):
		r.err = fmt.Errorf("read the recording %s: %w behind event %d", r.name, err, r.events)
	case err != nil:
		r.err = fmt.Errorf("read the recording %s: event %d: %w", r.name, r.events+1, err)
	}
	if r.err != nil {
		return nil, r.err
	}
	r.events++
	return e, nil
}

func (r *Reader) next() (*Event, error) {
	data, err := r.line()
	if err != nil {
		return nil, err
	}
	var l line
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, err
	}
	switch {
	case l.set() != 1:
		return nil, errors.New("a line must have one of tick, lost, exchange and end")
	case l.End == nil:
		return l.event()
	case l.End.Events != r.events:
		return nil, fmt.Errorf("the end says %d events, there were %d", l.End.Events, r.events)
	}
	switch _, err := r.lines.Peek(1); {
	case err == nil:
		return nil, errors.New("something stands behind the end")
	case err != io.EOF:
		return nil, cut(err)
	}
	r.ledger = l.End.Ledger
	return nil, io.EOF
}

// Ledger is the capture's, by line and result: nil before Next has given io.EOF.
// The caller owns it.
func (r *Reader) Ledger() map[string]map[string]uint64 { return r.ledger }

// line gives the next line, valid until the next call.
func (r *Reader) line() ([]byte, error) {
	r.long.Reset()
	for {
		part, err := r.lines.ReadSlice('\n')
		if r.long.Len()+len(part) > r.MaxLine {
			return nil, fmt.Errorf("a line of more than %d bytes", r.MaxLine)
		}
		switch {
		case err == nil && r.long.Len() == 0:
			return part, nil
		case err != nil && err != bufio.ErrBufferFull:
			return nil, cut(err)
		}
		r.long.Write(part)
		if err == nil {
			return r.long.Bytes(), nil
		}
	}
}

// cut makes ErrCut of what a file gives that ends too early, which is what a
// decoder of zstd says of one that ends anywhere in a block.
func cut(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return err
}

// Close closes the file.
func (r *Reader) Close() error {
	r.zstd.Close()
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
