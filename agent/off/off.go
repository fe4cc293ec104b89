package off

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxSize bounds an off file in bytes. One experiment is a line, and there are
// few.
const maxSize = 64 << 10

// State is what an off file says. The zero State: nothing is off.
type State struct {
	// All says that everything is off, whatever Experiments has.
	All bool `json:"all"`
	// Experiments are the names of those that are off, sorted, each once.
	Experiments []string `json:"experiments"`
}

// Covers says whether the experiment is off.
func (s State) Covers(experiment string) bool {
	return s.All || slices.Contains(s.Experiments, experiment)
}

// Equal says whether both mean the same.
func (s State) Equal(o State) bool {
	return s.All == o.All && (s.All || slices.Equal(s.Experiments, o.Experiments))
}

// String is for people.
func (s State) String() string {
	switch {
	case s.All:
		return "all off"
	case len(s.Experiments) > 0:
		return "off: " + strings.Join(s.Experiments, ", ")
	}
	return "nothing off"
}

// ErrAllOff is returned where single experiments shall go on while the file
// says that all are off: which others are to stay off is not known.
var ErrAllOff = errors.New("all experiments are off: switch all on, then off what shall stay off")

// Read reads an off file: no file is the zero State, a file without names is
// all off, else each line names an experiment. White space around a name,
// empty lines and lines that begin with # do not count.
//
// With an error the State is all off: a file that is there and can't be read
// was put there to stop something.
func Read(path string) (State, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{All: true}, fmt.Errorf("read off file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return State{All: true}, fmt.Errorf("read off file: %w", err)
	}
	if len(text) > maxSize {
		return State{All: true}, fmt.Errorf("read off file %s: over %d bytes", path, maxSize)
	}
	return parse(text), nil
}

func parse(text []byte) State {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	var s State
	for line := range bytes.Lines(text) {
		name := string(bytes.TrimSpace(line))
		if name != "" && name[0] != '#' {
			s.Experiments = append(s.Experiments, name)
		}
	}
	slices.Sort(s.Experiments)
	s.Experiments = slices.Compact(s.Experiments)
	s.All = len(s.Experiments) == 0
	return s
}

// Write replaces the off file in one step: a reader sees the old state or the
// new one, also after a crash. The zero State removes the file. Folders that
// are missing are made.
func Write(path string, s State) error {
	if !s.All && len(s.Experiments) == 0 {
		return Remove(path)
	}
	var text strings.Builder
	if !s.All {
		for _, name := range s.Experiments {
			if name == "" || name != strings.TrimSpace(name) || name[0] == '#' || strings.ContainsAny(name, "\n\r") {
				return fmt.Errorf("write off file: %q is no experiment's name", name)
			}
			text.WriteString(name + "\n")
		}
		if text.Len() > maxSize {
			return fmt.Errorf("write off file: over %d bytes", maxSize)
		}
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write off file: %w", err)
	}
	if err := replace(dir, path, text.String()); err != nil {
		return fmt.Errorf("write off file: %w", err)
	}
	return nil
}

func replace(dir, path, text string) (err error) {
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	// An operator may want to see why nothing runs.
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Remove removes the off file; that there is none is no error.
func Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove off file: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// Off adds experiments to the file, none means all, and returns what it says
// now. Two calls at once both count.
func Off(path string, experiments ...string) (State, error) {
	return change(path, func(s State) (State, error) {
		if len(experiments) == 0 || s.All {
			return State{All: true}, nil
		}
		s.Experiments = slices.Concat(s.Experiments, experiments)
		slices.Sort(s.Experiments)
		s.Experiments = slices.Compact(s.Experiments)
		return s, nil
	})
}

// On takes experiments out of the file, none means all, and returns what it
// says now. With the last one the file goes. It is ErrAllOff to switch single
// ones on while all are off.
func On(path string, experiments ...string) (State, error) {
	return change(path, func(s State) (State, error) {
		if len(experiments) == 0 {
			return State{}, nil
		}
		if s.All {
			return s, ErrAllOff
		}
		s.Experiments = slices.DeleteFunc(s.Experiments, func(name string) bool { return slices.Contains(experiments, name) })
		return s, nil
	})
}

// change reads, changes and writes under a lock on the folder.
func change(path string, f func(State) (State, error)) (State, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return State{}, fmt.Errorf("write off file: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return State{}, fmt.Errorf("write off file: %w", err)
	}
	defer d.Close() // and with it the lock
	if err := flock(d, unix.LOCK_EX); err != nil {
		return State{}, fmt.Errorf("lock %s: %w", dir, err)
	}
	// A file that can't be read is all off, and is replaced.
	now, _ := Read(path)
	next, err := f(now)
	if err != nil {
		return now, err
	}
	return next, Write(path, next)
}

// WatcherConfig says what to watch.
type WatcherConfig struct {
	// Path of the off file; required.
	Path string
	// Every is the time between two looks. Zero means 1s. Negative is an error.
	Every time.Duration
	// Changed is called from Run with the first state and with each that
	// differs from the one before; required.
	Changed func(State)
	Log     *slog.Logger // required
}

// Watcher looks at an off file again and again.
type Watcher struct {
	config WatcherConfig
	last   error
}

// NewWatcher checks the config.
func NewWatcher(c WatcherConfig) (*Watcher, error) {
	switch {
	case c.Path == "":
		return nil, errors.New("off: Path is empty")
	case c.Every < 0:
		return nil, fmt.Errorf("off: Every is negative: %v", c.Every)
	case c.Changed == nil:
		return nil, errors.New("off: Changed is nil")
	case c.Log == nil:
		return nil, errors.New("off: Log is nil")
	}
	if c.Every == 0 {
		c.Every = time.Second
	}
	return &Watcher{config: c}, nil
}

// Run looks until ctx ends and returns nil then.
func (w *Watcher) Run(ctx context.Context) error {
	tick := time.NewTicker(w.config.Every)
	defer tick.Stop()
	state := w.look()
	w.config.Changed(state)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if next := w.look(); !next.Equal(state) {
				state = next
				w.config.Changed(state)
			}
		}
	}
}

// look reads the file and says once what is wrong with it.
func (w *Watcher) look() State {
	state, err := Read(w.config.Path)
	if err != nil && w.last == nil {
		w.config.Log.Warn("off file can't be read: everything is off", "path", w.config.Path, "err", err)
	}
	w.last = err
	return state
}
