// Command gotest runs "go test -json" and prints what a person wants to know:
// each failure in full, each skip by name with its reason, each attribute (what
// a test says by T.Attr, a figure for instance), a line a package and at the end
// the totals.
//
//	go run ./testdata/gotest [-totals FILE] [go test arguments]
//	go run ./testdata/gotest -sum FILE
//
// With -totals the counts are appended to FILE, and -sum adds up what several
// runs appended and prints "N passed, N failed" or "N passed, N failed, N
// skipped". Subtests count like tests.
//
// Its exit code is 1 when a test or a build failed, when no test was executed
// at all, and, where the environment variable CI is set, when one was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Getenv("CI") != "", os.Stdout, os.Stderr))
}

func run(args []string, ci bool, stdout, stderr io.Writer) int {
	var totals string
	if len(args) >= 2 && (args[0] == "-totals" || args[0] == "-sum") {
		if args[0] == "-sum" {
			return sum(args[1], ci, stdout, stderr)
		}
		totals, args = args[1], args[2:]
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Fprintln(stderr, "gotest:", err)
		return 2
	}
	// An interrupt goes to the whole group. The tests clean up and end, and
	// what they said is still read.
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(stderr, "gotest:", err)
		return 2
	}
	c, readErr := count(out, stdout)
	waitErr := cmd.Wait()
	if readErr != nil {
		fmt.Fprintln(stderr, "gotest: read the output of go test:", readErr)
		return 2
	}
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) {
		fmt.Fprintln(stderr, "gotest:", waitErr)
		return 2
	}
	if waitErr != nil && c.Failed == 0 {
		// A pattern that matches nothing, a bad flag: no event says so.
		c.Failed++
	}
	fmt.Fprintln(stdout, c)
	if totals != "" {
		if err := appendTotals(totals, c); err != nil {
			fmt.Fprintln(stderr, "gotest:", err)
			return 2
		}
	}
	return c.exitCode(ci, stderr)
}

// Counts are the ends that tests came to.
type Counts struct{ Passed, Failed, Skipped int }

// String gives the form that the last line of a CI run must have.
func (c Counts) String() string {
	s := fmt.Sprintf("%d passed, %d failed", c.Passed, c.Failed)
	if c.Skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.Skipped)
	}
	return s
}

func (c Counts) exitCode(ci bool, stderr io.Writer) int {
	switch {
	case c.Failed > 0:
		return 1
	case c.Passed == 0:
		fmt.Fprintln(stderr, "gotest: no test was executed")
		return 1
	case ci && c.Skipped > 0:
		fmt.Fprintln(stderr, "gotest: a skip is a failure where CI is set")
		return 1
	}
	return 0
}

// event is a line of "go test -json"; see "go doc test2json". Build lines have
// ImportPath in place of Package.
type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild, Key, Value string

	Elapsed float64
}

// name tells tests of different packages apart.
type name struct{ pkg, test string }

// count reads the events and prints failures, skips and packages as they come.
func count(in io.Reader, out io.Writer) (Counts, error) {
	var c Counts
	said := map[name][]string{}
	running := map[name]bool{}
	failedIn := map[string]int{}
	short := func(pkg string) string { return strings.TrimPrefix(pkg, "github.com/shadowtap/shadowtap/") }
	fail := func(n name, what string) {
		c.Failed++
		failedIn[n.pkg]++
		title := strings.TrimSpace(short(n.pkg) + " " + n.test)
		fmt.Fprintf(out, "--- %s %s\n", what, title)
		for _, line := range said[n] {
			io.WriteString(out, line)
		}
	}
	dec := json.NewDecoder(bufio.NewReaderSize(in, 1<<16))
	for {
		var e event
		if err := dec.Decode(&e); err == io.EOF {
			return c, nil
		} else if err != nil {
			return c, err
		}
		n := name{e.Package, e.Test}
		switch e.Action {
		case "run":
			running[n] = true
		case "output":
			said[n] = append(said[n], e.Output)
		case "attr":
			fmt.Fprintf(out, "    %s %s: %s\n", e.Test, e.Key, e.Value)
		case "build-output":
			n.pkg = e.ImportPath
			said[n] = append(said[n], e.Output)
		case "build-fail":
			fail(name{pkg: e.ImportPath}, "BUILD FAILED")
			// Several packages may wait for one build: it failed once.
			delete(said, name{pkg: e.ImportPath})
		case "pass", "fail", "skip":
			delete(running, n)
			if e.Test == "" {
				c.Failed += finishPackage(e, out, short(e.Package), said, running, failedIn)
				continue
			}
			switch e.Action {
			case "pass":
				c.Passed++
			case "fail":
				fail(n, "FAIL")
			case "skip":
				c.Skipped++
				fmt.Fprintf(out, "--- SKIP %s %s\n", short(e.Package), e.Test)
				for _, line := range said[n] {
					if !strings.HasPrefix(strings.TrimSpace(line), "=== ") && !strings.HasPrefix(strings.TrimSpace(line), "--- ") {
						io.WriteString(out, line)
					}
				}
			}
			delete(said, n)
		}
	}
}

// finishPackage prints the line of a package that ended. It returns how many
// failures no test told of: tests that were running when the process died, or
// a package that failed outside every test.
func finishPackage(e event, out io.Writer, short string, said map[name][]string, running map[name]bool, failedIn map[string]int) int {
	more := 0
	if e.Action == "fail" {
		var died []string
		for n := range running {
			if n.pkg == e.Package {
				died = append(died, n.test)
				delete(running, n)
			}
		}
		slices.Sort(died)
		for _, test := range died {
			more++
			fmt.Fprintf(out, "--- FAIL %s %s (did not end)\n", short, test)
			for _, line := range said[name{e.Package, test}] {
				io.WriteString(out, line)
			}
		}
		if more == 0 && failedIn[e.Package] == 0 && e.FailedBuild == "" {
			more++
		}
		if e.FailedBuild == "" {
			for _, line := range said[name{pkg: e.Package}] {
				io.WriteString(out, line)
			}
		}
	}
	word := map[string]string{"pass": "ok  ", "fail": "FAIL", "skip": "-   "}[e.Action]
	if e.Action != "skip" {
		fmt.Fprintf(out, "%s %s (%.1f s)\n", word, short, e.Elapsed)
	}
	for n := range said {
		if n.pkg == e.Package {
			delete(said, n)
		}
	}
	return more
}

func appendTotals(file string, c Counts) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d %d %d\n", c.Passed, c.Failed, c.Skipped)
	return errors.Join(err, f.Close())
}

func sum(file string, ci bool, stdout, stderr io.Writer) int {
	f, err := os.Open(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		fmt.Fprintln(stderr, "gotest:", err)
		return 2
	}
	var all Counts
	if err == nil {
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			var c Counts
			if _, err := fmt.Sscanf(lines.Text(), "%d %d %d", &c.Passed, &c.Failed, &c.Skipped); err != nil {
				fmt.Fprintf(stderr, "gotest: %s: %q: %v\n", file, lines.Text(), err)
				return 2
			}
			all.Passed += c.Passed
			all.Failed += c.Failed
			all.Skipped += c.Skipped
		}
		if err := lines.Err(); err != nil {
			fmt.Fprintln(stderr, "gotest:", err)
			return 2
		}
	}
	// The counts are the last line on stdout, whatever is wrong.
	code := all.exitCode(ci, stderr)
	fmt.Fprintln(stdout, all)
	return code
}
