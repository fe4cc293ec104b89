package off

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       State
	}{
		{"empty", "", State{All: true}},
		{"white space", " \n\t\n", State{All: true}},
		{"only a comment", "# maintenance\n", State{All: true}},
		{"one", "users\n", State{Experiments: []string{"users"}}},
		{"no line end", "users", State{Experiments: []string{"users"}}},
		{"several, twice, in disorder", "users\r\n  orders \n\n# why\nusers\n", State{Experiments: []string{"orders", "users"}}},
		{"byte order mark", "\ufeffusers\n", State{Experiments: []string{"users"}}},
		{"byte order mark alone", "\ufeff", State{All: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "off")
			put(t, path, c.text)
			got, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.All != c.want.All || !slices.Equal(got.Experiments, c.want.Experiments) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestReadWithoutFile(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "off"), filepath.Join(t.TempDir(), "no", "folder", "off")} {
		got, err := Read(path)
		if err != nil || got.All || len(got.Experiments) > 0 {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
}

// What is there and can't be read stops everything.
func TestReadThatFailsIsAllOff(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	put(t, big, strings.Repeat("users\n", maxSize/6+1))
	put(t, filepath.Join(dir, "file"), "")
	for _, path := range []string{dir, big, filepath.Join(dir, "file", "off")} {
		got, err := Read(path)
		if err == nil || !got.All {
			t.Errorf("%s: %+v, %v; want all off and an error", path, got, err)
		}
	}
}

func TestCovers(t *testing.T) {
	some := State{Experiments: []string{"a", "b"}}
	if !some.Covers("a") || some.Covers("c") || (State{}).Covers("a") || !(State{All: true}).Covers("a") {
		t.Error("an experiment is taken for what it is not")
	}
}

func TestOffAndOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "off")
	for i, c := range []struct {
		do   func(string, ...string) (State, error)
		args []string
		want string
		err  error
		file string // "-" for none
	}{
		{Off, []string{"users"}, "off: users", nil, "users\n"},
		{Off, []string{"orders", "users"}, "off: orders, users", nil, "orders\nusers\n"},
		{On, []string{"nobody"}, "off: orders, users", nil, "orders\nusers\n"},
		{On, []string{"users"}, "off: orders", nil, "orders\n"},
		{On, []string{"orders"}, "nothing off", nil, "-"},
		{On, nil, "nothing off", nil, "-"},
		{Off, nil, "all off", nil, ""},
		{Off, []string{"users"}, "all off", nil, ""},
		{On, []string{"users"}, "all off", ErrAllOff, ""},
		{On, nil, "nothing off", nil, "-"},
	} {
		got, err := c.do(path, c.args...)
		if !errors.Is(err, c.err) || got.String() != c.want {
			t.Errorf("step %d: %q, %v; want %q, %v", i, got, err, c.want, c.err)
		}
		text, err := os.ReadFile(path)
		if c.file == "-" {
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("step %d: the file is there: %q, %v", i, text, err)
			}
		} else if err != nil || string(text) != c.file {
			t.Errorf("step %d: file %q, %v; want %q", i, text, err, c.file)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWriteRefusesNamesThatItCouldNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "off")
	for _, name := range []string{"", " a", "a ", "#a", "a\nb", "a\rb"} {
		if err := Write(path, State{Experiments: []string{name}}); err == nil {
			t.Errorf("no error for %q", name)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a refused state was written")
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9_.-][a-z0-9 _.#-]{0,10}[a-z0-9]`), 0, 8, rapid.ID[string]).Draw(rt, "names")
		slices.Sort(names)
		want := State{All: rapid.Bool().Draw(rt, "all"), Experiments: names}
		path := filepath.Join(dir, "off")
		if err := Write(path, want); err != nil {
			rt.Fatal(err)
		}
		got, err := Read(path)
		if err != nil || !got.Equal(want) {
			rt.Fatalf("wrote %+v, read %+v, %v", want, got, err)
		}
	})
}

func TestCallsAtOnceAllCount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "off")
	var wg sync.WaitGroup
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("e%02d", i)
		want = append(want, name)
		wg.Go(func() {
			if _, err := Off(path, name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := Read(path)
	if err != nil || !slices.Equal(got.Experiments, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "users\n", "#\n\n a \r\nb", "\ufeff\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := parse(text)
		if s.All == (len(s.Experiments) > 0) {
			t.Fatalf("neither all nor some: %+v", s)
		}
		if !slices.IsSorted(s.Experiments) || len(slices.Compact(slices.Clone(s.Experiments))) != len(s.Experiments) {
			t.Fatalf("not a sorted set: %q", s.Experiments)
		}
		for _, name := range s.Experiments {
			if name == "" || name != strings.TrimSpace(name) || strings.Contains(name, "\n") {
				t.Fatalf("name %q", name)
			}
		}
	})
}

func TestWatcher(t *testing.T) {
	path := filepath.Join(t.TempDir(), "off")
	states := make(chan State, 16)
	var log strings.Builder
	w, err := NewWatcher(WatcherConfig{
		Path: path, Every: time.Millisecond,
		Changed: func(s State) { states <- s },
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-states:
			if got.String() != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no state, want %q", want)
		}
	}
	expect("nothing off")
	if _, err := Off(path, "users"); err != nil {
		t.Fatal(err)
	}
	expect("off: users")
	if _, err := Off(path); err != nil {
		t.Fatal(err)
	}
	expect("all off")
	if err := Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("nothing off")
	// Something unreadable takes its place: everything is off, said once.
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	expect("all off")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("nothing off")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(states) > 0 {
		t.Errorf("a state came twice: %v", <-states)
	}
	if got := strings.Count(log.String(), "can't be read"); got != 1 {
		t.Errorf("said %d times that the file can't be read:\n%s", got, &log)
	}
}

func TestNewWatcherNamesTheField(t *testing.T) {
	good := WatcherConfig{Path: "off", Changed: func(State) {}, Log: slog.New(slog.DiscardHandler)}
	for field, spoil := range map[string]func(*WatcherConfig){
		"Path":    func(c *WatcherConfig) { c.Path = "" },
		"Every":   func(c *WatcherConfig) { c.Every = -1 },
		"Changed": func(c *WatcherConfig) { c.Changed = nil },
		"Log":     func(c *WatcherConfig) { c.Log = nil },
	} {
		bad := good
		spoil(&bad)
		if _, err := NewWatcher(bad); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
