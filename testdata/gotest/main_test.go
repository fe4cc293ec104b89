package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	for _, c := range []struct {
		name   string
		events string
		want   Counts
		says   []string
		hides  []string
	}{
		{
			name: "pass, fail and skip",
			events: `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestB","Elapsed":0}
{"Action":"run","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestC","Output":"=== RUN   TestC\n"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:9: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestC","Elapsed":0}
{"Action":"fail","Package":"p","Elapsed":0.1}
`,
			want:  Counts{1, 1, 1},
			says:  []string{"--- FAIL p TestB", "got 1, want 2", "--- SKIP p TestC", "needs root", "FAIL p ("},
			hides: []string{"quiet", "=== RUN"},
		},
		{
			name: "an attribute of a test that passes",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"attr","Package":"p","Test":"TestA","Key":"survivors","Value":"99 %"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== ATTR  TestA survivors 99 %\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0}
`,
			want:  Counts{1, 0, 0},
			says:  []string{"TestA survivors: 99 %"},
			hides: []string{"=== ATTR"},
		},
		{
			name: "a test that was running when the process died",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/sub"}
{"Action":"output","Package":"p","Test":"TestA/sub","Output":"panic: boom\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p","Elapsed":0.1}
`,
			want: Counts{0, 2, 0},
			says: []string{"TestA/sub (did not end)", "panic: boom"},
		},
		{
			name: "a package that fails outside every test",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"goroutine leak\n"}
{"Action":"fail","Package":"p","Elapsed":0.1}
`,
			want: Counts{1, 1, 0},
			says: []string{"goroutine leak"},
		},
		{
			name: "a build that two packages wait for fails once",
			events: `{"ImportPath":"p","Action":"build-output","Output":"p.go:3: syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
{"Action":"fail","Package":"q","FailedBuild":"p"}
`,
			want: Counts{0, 1, 0},
			says: []string{"BUILD FAILED p", "syntax error"},
		},
		{
			name: "a package without tests is silent",
			events: `{"Action":"output","Package":"p","Output":"?   \tp\t[no test files]\n"}
{"Action":"skip","Package":"p","Elapsed":0}
`,
			hides: []string{"p"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := count(strings.NewReader(c.events), &out)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("counts %+v, want %+v\n%s", got, c.want, &out)
			}
			for _, s := range c.says {
				if !strings.Contains(out.String(), s) {
					t.Errorf("the output lacks %q:\n%s", s, &out)
				}
			}
			for _, s := range c.hides {
				if strings.Contains(out.String(), s) {
					t.Errorf("the output has %q:\n%s", s, &out)
				}
			}
		})
	}
}

func TestCountRefusesWhatIsNoEvent(t *testing.T) {
	if _, err := count(strings.NewReader("not json\n"), &bytes.Buffer{}); err == nil {
		t.Error("no error for a line that is no event")
	}
}

func TestSum(t *testing.T) {
	for _, c := range []struct {
		name, file string
		ci         bool
		code       int
		last       string
	}{
		{"all passed", "3 0 0\n4 0 0\n", true, 0, "7 passed, 0 failed"},
		{"one failed", "3 0 0\n4 1 0\n", false, 1, "7 passed, 1 failed"},
		{"a skip on a desk", "3 0 1\n", false, 0, "3 passed, 0 failed, 1 skipped"},
		{"a skip in CI", "3 0 1\n", true, 1, "3 passed, 0 failed, 1 skipped"},
		{"nothing executed", "0 0 0\n", false, 1, "0 passed, 0 failed"},
		{"no run at all", "", true, 1, "0 passed, 0 failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "totals")
			if c.file != "" {
				if err := os.WriteFile(file, []byte(c.file), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs bytes.Buffer
			if code := run([]string{"-sum", file}, c.ci, &out, &errs); code != c.code {
				t.Errorf("exit code %d, want %d (%s)", code, c.code, &errs)
			}
			if got := strings.TrimSpace(out.String()); got != c.last {
				t.Errorf("printed %q, want %q", got, c.last)
			}
		})
	}
}

// TestRun runs the real go command on small modules.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module m\n\ngo 1.26\n")
	write("m_test.go", `package m

import "testing"

func TestPass(t *testing.T) { t.Run("sub", func(t *testing.T) {}) }
func TestFail(t *testing.T) { t.Error("on purpose") }
`)
	t.Chdir(dir)
	totals := filepath.Join(dir, "totals")
	var out, errs bytes.Buffer
	if code := run([]string{"-totals", totals, "./..."}, false, &out, &errs); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(out.String(), "on purpose") || !strings.HasSuffix(out.String(), "2 passed, 1 failed\n") {
		t.Errorf("unexpected output:\n%s%s", &out, &errs)
	}
	out.Reset()
	if code := run([]string{"-totals", totals, "-run", "TestPass", "./..."}, true, &out, &errs); code != 0 {
		t.Errorf("exit code %d, want 0:\n%s", code, &out)
	}
	out.Reset()
	if code := run([]string{"-totals", totals, "-run", "TestNone", "./..."}, true, &out, &errs); code != 1 {
		t.Errorf("exit code %d for a run without tests, want 1", code)
	}
	out.Reset()
	if code := run([]string{"-totals", totals, "./nowhere"}, true, &out, &errs); code != 1 {
		t.Errorf("exit code %d for a folder that is not there, want 1", code)
	}
	out.Reset()
	run([]string{"-sum", totals}, true, &out, &errs)
	if got, want := out.String(), "4 passed, 2 failed\n"; got != want {
		t.Errorf("totals %q, want %q", got, want)
	}
}
