package segmenttest

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	_ "pgregory.net/rapid" // its flag -rapid.checks says how many cases long runs want
)

var (
	cases = flag.Int("model.cases", fewCases, "seeds of each property; -rapid.checks raises it")
	only  = flag.Uint64("model.seed", 0, "run this seed alone")
)

// fewCases is how many cases of a property are enough for a change.
const fewCases = 750

// Seeds runs a property for the seeds that failed once, for 1 to twice -model.cases,
// and, where more are asked for than usual and CI is not set, for as many that nobody knows
// before in place of the second half. A seed that fails is printed with the command that repeats it, and kept
// in testdata/seeds.
func Seeds(t *testing.T, property func(t *testing.T, seed uint64, r *rand.Rand)) {
	t.Helper()
	run := func(seed uint64) {
		property(t, seed, rand.New(rand.NewPCG(seed, 7)))
	}
	if *only != 0 {
		run(*only)
		return
	}
	file := filepath.Join("testdata", "seeds", strings.ReplaceAll(t.Name(), "/", "-"))
	known, err := readSeeds(file)
	if err != nil {
		t.Fatal(err)
	}
	n := *cases
	if f := flag.Lookup("rapid.checks"); f != nil {
		if k, err := strconv.Atoi(f.Value.String()); err == nil {
			n = max(n, k)
		}
	}
	next := func(i int) uint64 {
		switch {
		case i < len(known):
			return known[i]
		case i < len(known)+n || n <= fewCases || os.Getenv("CI") != "":
			// What decides about a change, or whether a clone is whole, must not
			// depend on luck.
			return uint64(i-len(known)) + 1
		}
		return rand.Uint64() | 1<<32
	}
	for i := range len(known) + 2*n {
		seed := next(i)
		run(seed)
		if t.Failed() {
			if i >= len(known) {
				keepSeed(t, file, seed)
			}
			t.Fatalf("seed %d: go test -run '^%s$' -model.seed %d", seed, t.Name(), seed)
		}
	}
}

// readSeeds reads one seed a line; what follows a # is a comment.
func readSeeds(file string) (seeds []uint64, err error) {
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		l, _, _ := strings.Cut(s.Text(), "#")
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		seed, err := strconv.ParseUint(l, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		seeds = append(seeds, seed)
	}
	return seeds, nil
}

func keepSeed(t *testing.T, file string, seed uint64) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Log(err)
		return
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Log(err)
		return
	}
	defer f.Close()
	fmt.Fprintln(f, seed)
	t.Logf("kept in %s", file)
}
