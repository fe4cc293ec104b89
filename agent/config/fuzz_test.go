package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzParse: whatever the file and a variable are, reading ends soon, with a
// configuration that survives being written and read again, or an error that
// has a message.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"good", "bad"} {
		list, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range list {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, "LOG__LEVEL=debug")
		}
	}
	f.Add(Default(), "EXPERIMENTS__0__NAME=users")
	f.Add([]byte(envFileText), "SINKS__KAFKA__BOOTSTRAP_SERVERS=k:1")
	f.Add([]byte(envFileText), "EXPERIMENTS__users__MATCH__HEADERS__X_ENV=dev")
	f.Add([]byte(envFileText), "CAPTURE__INTERFACES=eth1,eth2")
	f.Add([]byte(envFileText), "CAPTURE__INTERFACES__0__ROLE=uplink")
	f.Fuzz(func(t *testing.T, data []byte, variable string) {
		start := time.Now()
		for _, env := range [][]string{nil, {"SHADOWTAP__" + variable}} {
			c, _, err := Parse("f", data, env)
			if d := time.Since(start); d > 30*time.Second {
				t.Fatalf("took %v", d)
			}
			if err != nil {
				if strings.TrimSpace(err.Error()) == "" {
					t.Fatal("an error without a message")
				}
				continue
			}
			if err := c.Check(); err != nil && strings.TrimSpace(err.Error()) == "" {
				t.Fatal("an error without a message")
			}
			c.Warnings()
			text := c.String()
			again, _, err := Parse("again", []byte(text), nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if got := again.String(); got != text {
				t.Fatalf("written\n%s\nread again\n%s", text, got)
			}
		}
	})
}
