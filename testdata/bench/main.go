// Command bench measures what shadowtap costs beside other tools, in one run on
// one machine: client, node, reference and candidate are network namespaces
// that it makes, nginx answers, and each tool gets the same loads in rotated
// rounds. "make bench-peers" runs it; it needs root.
//
//	go run ./testdata/bench [-cells LIST] [-tools LIST] [-rounds N] [-seconds N] ...
//
// Its progress goes to stderr, its tables to stdout. The exit code is 0 when all
// was measured, whether the aims hold or not; 1 when an answer was wrong under a
// tap of shadowtap or its ledger did not add up; 2 when it could not measure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// loadCommand as the first argument makes this program the load generator.
const loadCommand = "load"

func main() {
	if len(os.Args) == 3 && os.Args[1] == loadCommand {
		if err := runLoad(os.Args[2], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		return
	}
	opt, err := parseOptions(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends it at once, and the kernel what it started.
	context.AfterFunc(ctx, stop)
	results, err := run(ctx, opt, os.Stderr)
	if err == nil || len(results.samples) > 0 {
		results.print(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if faults := results.faults(); len(faults) > 0 {
		for _, f := range faults {
			fmt.Fprintln(os.Stderr, "bench:", f)
		}
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	tools       []string
	cells       []cell
	rounds      int
	seconds     time.Duration // of a cell, without its warm-up
	warmup      time.Duration
	idle        time.Duration // 0 leaves it out
	connections int
	nice        int
	cache       string
	miffy       bool
}

func parseOptions(args []string, out io.Writer) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(out)
	tools := f.String("tools", strings.Join(toolNames, ","), "what is measured; \"none\" is always")
	cells := f.String("cells", "200b@5000,4k@5000,64k@1000,4k@0,64k@0", "loads as SIZE@RATE: 200b, 4k, 64k; requests per second, 0 for a closed loop")
	f.IntVar(&o.rounds, "rounds", 3, "how often each tool gets each load")
	seconds := f.Float64("seconds", 3, "length of a load")
	idle := f.Float64("idle", 20, "seconds in which shadowtap is attached without traffic, once a round; 0 for none")
	f.IntVar(&o.connections, "connections", 32, "of the client, all kept alive")
	f.IntVar(&o.nice, "nice", 0, "niceness of all that is measured and of their session, -20 to 19; below 0 keeps a busy machine's other work out")
	f.StringVar(&o.cache, "cache", "", "folder for the programs of others (default: shadowtap-bench in the user's cache)")
	f.BoolVar(&o.miffy, "miffy", false, "build miffy with cargo where it is not in the cache")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.warmup = time.Second / 2
	o.seconds, o.idle = time.Duration(*seconds*float64(time.Second)), time.Duration(*idle*float64(time.Second))
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1 || o.rounds > 1000:
		return o, fmt.Errorf("-rounds %d: 1 to 1000", o.rounds)
	case o.seconds < 100*time.Millisecond || o.seconds > time.Hour:
		return o, fmt.Errorf("-seconds %v: 0.1 to 3600", *seconds)
	case o.idle < 0 || o.idle > time.Hour:
		return o, fmt.Errorf("-idle %v: 0 to 3600", *idle)
	case o.connections < 1 || o.connections > 1000:
		return o, fmt.Errorf("-connections %d: 1 to 1000", o.connections)
	case o.nice < -20 || o.nice > 19:
		return o, fmt.Errorf("-nice %d: -20 to 19", o.nice)
	}
	if o.cells, err = parseCells(*cells); err != nil {
		return o, err
	}
	// The untouched reference is what everything is compared with.
	o.tools = []string{none}
	for name := range strings.SplitSeq(*tools, ",") {
		if !slices.Contains(toolNames, name) {
			return o, fmt.Errorf("-tools: %q is none of %s", name, strings.Join(toolNames, ", "))
		}
		if !slices.Contains(o.tools, name) {
			o.tools = append(o.tools, name)
		}
	}
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("-cache: %w", err)
		}
		o.cache = filepath.Join(dir, "shadowtap-bench")
	}
	// The go command demands it of GOBIN.
	o.cache, err = filepath.Abs(o.cache)
	return o, err
}

// run measures everything. With an error the results are those until then.
func run(ctx context.Context, opt options, log io.Writer) (r results, err error) {
	if os.Geteuid() != 0 {
		return r, errors.New("it needs root, for network namespaces and eBPF")
	}
	sweep()
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	return r, own(func(o *owner) {
		p, tools := prepare(ctx, o, opt, log)
		r.options, r.tools = opt, tools
		if opt.nice != 0 {
			before, err := setAutogroup(opt.nice)
			switch {
			case errors.Is(err, os.ErrNotExist): // this kernel has no such groups
			case err != nil:
				o.Fatal(err)
			default:
				o.Cleanup(func() {
					if _, err := setAutogroup(before); err != nil {
						o.Errorf("set the session's niceness back: %w", err)
					}
				})
			}
		}
		s := newStage(ctx, o, self, opt.nice)
		for round := range opt.rounds {
			for _, name := range rotated(tools, round) {
				err := own(func(o *owner) { s.round(o, name, p, round, &r, log) })
				if err != nil {
					o.Fatal(err)
				}
			}
		}
	})
}

// round gives one tool all its loads.
func (s *stage) round(o *owner, name string, p programs, round int, r *results, log io.Writer) {
	if !slices.ContainsFunc(r.options.cells, func(c cell) bool { return gets(name, c) }) {
		return
	}
	t := s.startTool(o, name, p)
	if name == shadowtap1 && r.options.idle > 0 {
		share := s.idle(o, t, r.options.idle)
		fmt.Fprintf(log, "round %d of %d  %-14s  idle      %.2f %% of a core\n", round+1, r.options.rounds, name, share)
		r.idle = append(r.idle, share)
	}
	for i, c := range r.options.cells {
		if !gets(name, c) {
			continue
		}
		x := s.measure(o, t, c, load{
			// The prefix differs in every load, so that a late answer is noticed.
			Prefix:      "r" + strconv.Itoa(round) + "c" + strconv.Itoa(i),
			Connections: r.options.connections, Warmup: r.options.warmup, Duration: r.options.seconds,
		})
		x.round = round
		r.samples = append(r.samples, x)
		fmt.Fprintf(log, "round %d of %d  %-14s  %-8s  %6.0f/s  p50 %v  tool %.1f us  reference %.1f us%s\n", round+1, r.options.rounds, name, c,
			x.PerSecond, x.P50.Round(time.Microsecond), x.perExchange(x.toolCPU), x.perExchange(x.referenceCPU), x.remarks())
	}
}

// sweep removes the folders of earlier runs that were killed.
func sweep() {
	for _, start := range []string{filepath.Join(admin.Root, instancePrefix), filepath.Join(os.TempDir(), folderPrefix)} {
		dirs, _ := filepath.Glob(start + "*")
		for _, dir := range dirs {
			text, _, _ := strings.Cut(strings.TrimPrefix(dir, start), "-")
			if pid, err := strconv.Atoi(text); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
				os.RemoveAll(dir)
			}
		}
	}
}
