package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shadowtap/shadowtap/agent/config"
)

// TestKeyFileIsReadAgain: a key that is added to the file signs within
// keyInterval; a file that is broken or gone changes nothing and is said once.
func TestKeyFileIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	write := func(content string) {
		// As a mounted secret changes: all at once.
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	line := func(id, digit string) string { return id + " " + strings.Repeat(digit, 64) + "\n" }
	write(line("first", "1"))
	c := config.New()
	c.Redaction.KeyFile = path
	r, err := newRedactor(c, false)
	if err != nil {
		t.Fatal(err)
	}
	signs := func(want string) {
		t.Helper()
		if got := r.Text("ada@example.com"); !strings.HasPrefix(got, "~"+want+".") {
			t.Errorf("signs with %s, want the key %s", got, want)
		}
	}
	signs("first")
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &keyWatch{path: path, redactor: r, log: slog.New(slog.NewTextHandler(&log, nil))}
		ended := make(chan error, 1)
		go func() { ended <- w.run(ctx) }()
		pass := func() {
			time.Sleep(2 * keyInterval) // of the bubble's clock
			synctest.Wait()
		}
		pass()
		signs("first")
		if log.Len() > 0 {
			t.Errorf("said without a change: %s", log.String())
		}
		write(line("first", "1") + line("second", "2"))
		pass()
		signs("second")
		for _, broken := range []string{"second what\n", ""} {
			write(broken)
			pass()
			pass()
			signs("second")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		pass()
		signs("second")
		write(line("third", "3"))
		pass()
		signs("third")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	said := log.String()
	for what, want := range map[string]int{"level=INFO": 2, "level=WARN": 3, "signing=third": 1, "second what": 0, "2222": 0} {
		if got := strings.Count(said, what); got != want {
			t.Errorf("%q is in the log %d times, want %d:\n%s", what, got, want, said)
		}
	}
}

// TestKeyFileMissing: an agent that was told of a file does not start without it.
func TestKeyFileMissing(t *testing.T) {
	c := config.New()
	c.Redaction.KeyFile = filepath.Join(t.TempDir(), "none")
	if _, err := newRedactor(c, false); err == nil || !strings.Contains(fmt.Sprint(err), "redaction.key_file: ") {
		t.Errorf("error %v, want one that names redaction.key_file", err)
	}
}
