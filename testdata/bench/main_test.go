package main

import (
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// The test program is the load generator too, as the program is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == loadCommand {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-tools", "goreplay,shadowtap-1%,none,goreplay", "-cells", "4k@0,64k@1000.5", "-seconds", "1.5", "-idle", "0", "-cache", "/c"}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{none, goreplay, shadowtap1}; !slices.Equal(o.tools, want) {
		t.Errorf("tools %q, want %q", o.tools, want)
	}
	if want := []cell{{"4k", 0}, {"64k", 1000.5}}; !slices.Equal(o.cells, want) {
		t.Errorf("cells %v, want %v", o.cells, want)
	}
	if o.seconds != 1500*time.Millisecond || o.idle != 0 || o.rounds != 3 || o.cache != "/c" {
		t.Errorf("options %+v", o)
	}
	for _, c := range []struct{ args, want string }{
		{"-cells 4k", "4k"}, {"-cells 5k@1", "5k@1"}, {"-cells 4k@-1", "4k@-1"}, {"-cells 4k@NaN", "4k@NaN"}, {"-cells 4k@1e9", "4k@1e9"}, {"-cells 4k@1,", `""`},
		{"-tools wget", "wget"}, {"-rounds 0", "-rounds"}, {"-seconds 0", "-seconds"}, {"-seconds NaN", "-seconds"}, {"-idle -1", "-idle"},
		{"-connections 0", "-connections"}, {"-nice -21", "-nice"}, {"more", "more"},
	} {
		if _, err := parseOptions(strings.Fields(c.args), t.Output()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one that names %q", c.args, err, c.want)
		}
	}
}

func TestRotated(t *testing.T) {
	list := []int{1, 2, 3}
	for n, want := range [][]int{{1, 2, 3}, {2, 3, 1}, {3, 1, 2}, {1, 2, 3}} {
		if got := rotated(list, n); !slices.Equal(got, want) {
			t.Errorf("round %d: %v, want %v", n, got, want)
		}
	}
	if !slices.Equal(list, []int{1, 2, 3}) {
		t.Errorf("the list was changed: %v", list)
	}
}

func TestMedianAndSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{nil, "-"}, {[]float64{2.25}, "2.2"}, {[]float64{3, 1, 2}, "2.0 (1.0..3.0)"}, {[]float64{4, 1, 3, 2}, "2.5 (1.0..4.0)"},
		{[]float64{-0.01}, "0.0"}, {[]float64{-0.5}, "-0.5"},
	} {
		if got := spread(c.values, 1); got != c.want {
			t.Errorf("%v: %q, want %q", c.values, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("there is a median of nothing")
	}
}

func TestQuantile(t *testing.T) {
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{.01: 1, .5: 50, .99: 99, 1: 100, .001: 1} {
		if got := quantile(all, q); got != want {
			t.Errorf("quantile %v: %d, want %d", q, got, want)
		}
	}
	if got := quantile(nil, .5); got != 0 {
		t.Errorf("quantile of none: %d", got)
	}
}

func TestCheckHead(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 200\r\nX-Id: r0c1-17\r\n"
	for _, c := range []struct {
		name, head string
		length     int
		right      bool
	}{
		{"right", ok, 200, true},
		{"small letters", strings.ToLower(strings.ReplaceAll(ok, "HTTP/1.1 200 OK", "HTTP/1.1 200 ")), 200, false},
		{"names in small letters", "HTTP/1.1 200 OK\r\ncontent-length:200\r\nx-id:r0c1-17\r\n", 200, true},
		{"another status", strings.Replace(ok, "200 OK", "502 Bad", 1), 200, false},
		{"another request's answer", strings.Replace(ok, "-17", "-18", 1), 200, false},
		{"an id that begins the same", strings.Replace(ok, "-17", "-171", 1), 200, false},
		{"another load's answer", strings.Replace(ok, "r0c1", "r0c0", 1), 200, false},
		{"no id", strings.Replace(ok, "X-Id", "X-I", 1), 200, false},
		{"another length", strings.Replace(ok, "Length: 200", "Length: 20", 1), 20, false},
		{"no length", strings.Replace(ok, "Length", "Size", 1), -1, false},
		{"a length that is no number", strings.Replace(ok, "Length: 200", "Length: +200", 1), -1, false},
	} {
		if length, right := checkHead([]byte(c.head), 200, "r0c1", 17); length != c.length || right != c.right {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, length, right, c.length, c.right)
		}
	}
}

func TestBodyHasItsSizeAndIsJSON(t *testing.T) {
	for name, size := range sizes {
		if b := body(size); len(b) != size || !strings.HasPrefix(string(b), `{"items":[{"id":0,`) || !strings.HasSuffix(string(b), `"}`) {
			t.Errorf("%s: %d bytes: %.40s", name, len(b), b)
		}
	}
}

func TestStubStatus(t *testing.T) {
	const page = "Active connections: 1 \nserver accepts handled requests\n 7 8 9 \nReading: 0 Writing: 1 Waiting: 0 \n"
	if n, err := parseStubStatus(page); n != 9 || err != nil {
		t.Errorf("%d, %v; want 9", n, err)
	}
	for _, text := range []string{"", "server accepts handled requests\n 7 8", strings.Replace(page, "9", "x", 1)} {
		if n, err := parseStubStatus(text); err == nil {
			t.Errorf("%q: %d", text, n)
		}
	}
}

// The clock of a process is what getrusage tells the process itself.
func TestCPUTimeIsThatOfAllThreads(t *testing.T) {
	usage := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := usage()
	got, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// getrusage rounds user and system time down, to microseconds each.
	if after := usage(); got < before || got > after+2*time.Microsecond {
		t.Errorf("%v, by getrusage %v before and %v after", got, before, after)
	}

	child := exec.CommandContext(t.Context(), "sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	used, err := cpuTime(child.Process.Pid)
	if err != nil || used >= got && got > time.Second {
		t.Errorf("a child that sleeps: %v, %v; this process has used %v", used, err, got)
	}
	if n, err := peak(child.Process.Pid); err != nil || n < 4096 || n > 1<<30 {
		t.Errorf("its peak memory: %d bytes, %v", n, err)
	}
	child.Process.Kill()
	child.Wait()
	if _, err := cpuTime(child.Process.Pid); err == nil {
		t.Error("a process that is gone has a processor time")
	}
}

// sampleOf is a sample with 1000 right answers.
func sampleOf(round int, tool string, c cell, tool1, reference1 time.Duration, perSecond float64) sample {
	s := sample{round: round, tool: tool, cell: c, toolCPU: 1000 * tool1, referenceCPU: 1000 * reference1, seen: 1000}
	s.played = played{Sent: 1000, Right: 1000, PerSecond: perSecond, P50: 100 * time.Microsecond}
	if strings.HasPrefix(tool, "shadowtap") {
		s.lost, s.equal = map[string]uint64{}, 1000
	}
	return s
}

func TestAims(t *testing.T) {
	const us = time.Microsecond
	r := results{idle: []float64{0.4, 0.6, 0.45}, samples: []sample{
		// The reference's extra is that of the round: 1, then 3, then -1 us.
		sampleOf(0, none, steady, 0, 20*us, 5000), sampleOf(1, none, steady, 0, 40*us, 5000), sampleOf(2, none, steady, 0, 30*us, 5000),
		sampleOf(0, shadowtap1, steady, 7*us, 21*us, 5000), sampleOf(1, shadowtap1, steady, 6*us, 43*us, 5000), sampleOf(2, shadowtap1, steady, 8*us, 29*us, 5000),
		sampleOf(0, goreplay, steady, 20*us, 22*us, 5000), sampleOf(1, goreplay, steady, 40*us, 42*us, 5000), sampleOf(2, goreplay, steady, 30*us, 32*us, 5000),
		sampleOf(0, shadowtapAll, steady, 60*us, 20*us, 5000),
		sampleOf(0, nginxMirror, steady, 90*us, 10*us, 5000),
		sampleOf(0, none, closed, 0, 0, 1000), sampleOf(1, none, closed, 0, 0, 2000),
		sampleOf(0, shadowtap1, closed, 0, 0, 900), sampleOf(1, shadowtap1, closed, 0, 0, 1700),
		sampleOf(0, tcpdump, closed, 0, 0, 800), sampleOf(1, tcpdump, closed, 0, 0, 1900),
		sampleOf(0, none, large, 0, 0, 1000), sampleOf(1, none, large, 0, 0, 2000), sampleOf(2, none, large, 0, 0, 500),
		sampleOf(0, shadowtap1, large, 0, 0, 890), sampleOf(1, shadowtap1, large, 0, 0, 1780), sampleOf(2, shadowtap1, large, 0, 0, 500),
	}}
	check := func(i int, want string) {
		t.Helper()
		if got := r.aims()[i].String(); !strings.HasPrefix(got, want) {
			t.Errorf("aim %d: %s\nwant %s...", i, got, want)
		}
	}
	// Costs of 8, 9 and 7 us, and of 22, 42 and 32 us: 8 of 32.
	check(0, "  yes  0.25  (at most 0.33)  4k@5000")
	check(1, "  yes  1.00  (at least 1.00)  4k@0")
	check(2, "  no   0.75  (at most 0.65)  4k@5000")
	check(3, "  -       -  (at most 0.38)  4k@5000: cost of shadowtap-all, its CPU and what the reference spends more, of that of miffy: not measured")
	check(4, "  yes  1.00  (at least 1.00)  4k@5000")
	check(5, "  no   0.89  (at least 0.90)  64k@0")
	check(6, "  yes  0.45  (at most 0.50)  idle")
	if f := r.faults(); len(f) != 0 {
		t.Errorf("faults: %q", f)
	}

	// One replay that was shed is not all of them.
	for i := range r.samples {
		if r.samples[i].tool == shadowtapAll {
			r.samples[i].equal--
			r.samples[i].lost["replays.shed"] = 1
		}
	}
	check(4, "  no   1.00  (at least 1.00)  4k@5000: share of the answered that shadowtap-all replayed and found equal  replays.shed 1")

	var out strings.Builder
	r.tools, r.options.cells = []string{none, goreplay, shadowtapAll}, []cell{steady}
	r.print(&out)
	for _, want := range []string{
		"| goreplay      | 5000 (5000..5000) | 1.00 (1.00..1.00) | 100 (100..100) | 1.00 (1.00..1.00) | 30.0 (20.0..40.0) | 32.0 (22.0..42.0) | 2.0 (2.0..2.0) |",
		"| 1000/1000     | replays.shed 1 |", "Linux",
		"\n4k@5000: CPU of the agent by the sample rate\n\n| replayed and compared | agent CPU us   |\n",
		"| 1%                    | 7.0 (6.0..8.0) |\n| 100%                  | 60.0           |\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}

// The tools that are there for the curve alone have no other cell.
func TestCurve(t *testing.T) {
	r := results{tools: toolNames, options: options{cells: []cell{steady, closed}}}
	for _, tool := range toolNames {
		for _, c := range r.options.cells {
			if gets(tool, c) {
				r.samples = append(r.samples, sampleOf(0, tool, c, time.Microsecond, 0, 1))
			}
		}
	}
	var out strings.Builder
	r.print(&out)
	begin, end, ok := strings.Cut(out.String(), closed.String()+": ")
	if n := strings.Count(begin, "\n| shadowtap-"); !ok || n != 4 {
		t.Errorf("%d rows of shadowtap at %s, want 4:\n%s", n, steady, begin)
	}
	if n := strings.Count(end, "\n| shadowtap-"); n != 2 {
		t.Errorf("%d rows of shadowtap at %s, want 2:\n%s", n, closed, end)
	}
	for _, rate := range []string{"0.1%", "1%", "10%", "100%"} {
		if !strings.Contains(end, "\n| "+rate+" ") {
			t.Errorf("the curve lacks %s:\n%s", rate, end)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*sample)
		want   string
	}{
		{"none", func(*sample) {}, ""},
		{"counted", func(s *sample) { s.seen -= 2; s.lost["kernel_packets.ring_full"] = 3 }, ""},
		{"silent", func(s *sample) { s.seen-- }, "999 exchanges of 1000 answered requests"},
		{"invented", func(s *sample) { s.seen++ }, "1001 exchanges of 1000 requests"},
		{"harmed", func(s *sample) { s.Right--; s.Reset++; s.seen-- }, "1 requests had none"},
		{"unbalanced", func(s *sample) { s.imbalances = []string{"replays: 1 more"} }, "replays: 1 more"},
	} {
		x := sampleOf(0, shadowtap1, steady, time.Microsecond, 0, 1)
		c.change(&x)
		r := results{samples: []sample{x}}
		got := strings.Join(r.faults(), "\n")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLedgerOfACell(t *testing.T) {
	before := telemetry.Ledger{"exchanges": {"complete": 10, "gap": 1}, "comparisons": {"equal": 3}}
	after := telemetry.Ledger{"exchanges": {"complete": 30, "gap": 2}, "replays": {"shed": 4}, "comparisons": {"equal": 7, "divergent": 1}}
	var x sample
	x.addLedger(before, after)
	if x.seen != 20 || x.equal != 4 {
		t.Errorf("%+v", x)
	}
	if got, want := x.remarks(), "  comparisons.divergent 1  exchanges.gap 1  replays.shed 4"; got != want {
		t.Errorf("lost:%s; want%s", got, want)
	}
}

func TestOwnerEndsWhatItMade(t *testing.T) {
	var ended []string
	var dir string
	err := own(func(o *owner) {
		dir = o.TempDir()
		o.Cleanup(func() { ended = append(ended, "first") })
		o.Cleanup(func() { ended = append(ended, "second"); o.Fatalf("cleanup %d", 2) })
		o.Errorf("one")
		o.Fatal(os.ErrDeadlineExceeded)
		ended = append(ended, "went on")
	})
	if err == nil || !strings.Contains(err.Error(), "one\n") || !strings.Contains(err.Error(), "cleanup 2") || !strings.Contains(err.Error(), os.ErrDeadlineExceeded.Error()) {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(ended, []string{"second", "first"}) {
		t.Errorf("ended %q", ended)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}
