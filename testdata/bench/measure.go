package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// cell is one load that every tool gets in every round.
type cell struct {
	size string
	// rate is requests per second; 0 is a closed loop.
	rate float64
}

func (c cell) String() string { return c.size + "@" + strconv.FormatFloat(c.rate, 'f', -1, 64) }

// parseCells reads SIZE@RATE,...
func parseCells(text string) (cells []cell, err error) {
	for part := range strings.SplitSeq(text, ",") {
		size, rate, ok := strings.Cut(part, "@")
		c := cell{size: size}
		if c.rate, err = strconv.ParseFloat(rate, 64); !ok || err != nil || !(c.rate >= 0 && c.rate <= 1e6) {
			return nil, fmt.Errorf("cell %q: SIZE@RATE is wanted, with a rate of 0 to 1000000", part)
		}
		if sizes[size] == 0 {
			return nil, fmt.Errorf("cell %q: the sizes are 200b, 4k and 64k", part)
		}
		cells = append(cells, c)
	}
	return cells, nil
}

// rotated is the list begun at the n-th element, so that no tool is always the
// first on a machine that has warmed up or behind the one that left it a mess.
func rotated[E any](list []E, n int) []E {
	n %= len(list)
	return append(append([]E(nil), list[n:]...), list[:n]...)
}

// sample is what one cell of one tool in one round gave.
type sample struct {
	round int
	tool  string
	cell  cell
	played
	// toolCPU and referenceCPU are what they used from the load's first
	// connection until nothing was on its way.
	toolCPU, referenceCPU time.Duration
	// peak is the tool's memory in bytes.
	peak int64
	// seen is how many exchanges the tool had, -1 where nothing tells.
	seen int
	// equal is how many exchanges shadowtap replayed and found the same.
	equal uint64
	// lost is what shadowtap's ledger says was not done, by line and result; nil
	// for other tools.
	lost map[string]uint64
	// imbalances are lines of the ledger that do not add up.
	imbalances []string
}

// perExchange is a time shared by the answered requests, in microseconds.
func (s sample) perExchange(d time.Duration) float64 {
	if s.answered() == 0 {
		return 0
	}
	return float64(d) / float64(time.Microsecond) / float64(s.answered())
}

// settle is how long a tool has to do what it put off, before it is read.
const settle = 500 * time.Millisecond

// measure plays a cell.
func (s *stage) measure(o *owner, t *tool, c cell, l load) sample {
	x := sample{tool: t.name, cell: c, seen: -1}
	must := func(err error) {
		if err != nil {
			o.Fatal(err)
		}
	}
	cpu := func(p *bed.Process) time.Duration {
		if p == nil {
			return 0
		}
		if p.Ended() {
			o.Fatalf("%s ended\n%s", t.name, p.Tail())
		}
		used, err := cpuTime(p.Pid)
		must(err)
		return used
	}
	l.Address, l.Path, l.Length, l.Rate = referenceAddress, "/"+c.size, sizes[c.size], c.rate
	if t.proxy {
		l.Address = proxyAddress
	}
	var before telemetry.Ledger
	candidateBefore := 0
	switch {
	case t.admin != nil:
		before, _ = s.atRest(o, t)
	case t.proxy:
		candidateBefore = s.replayed(o)
	}
	if t.process != nil {
		must(resetPeak(t.process.Pid))
	}
	tool0, reference0 := cpu(t.process), cpu(s.reference)
	x.played = s.play(o, l)
	s.pause(o, settle)
	switch {
	case t.admin != nil:
		after, imbalances := s.atRest(o, t)
		x.imbalances = imbalances
		x.addLedger(before, after)
	case t.proxy:
		x.seen = s.replayed(o) - candidateBefore - 1 // the question itself
	}
	x.toolCPU, x.referenceCPU = cpu(t.process)-tool0, cpu(s.reference)-reference0
	if t.process != nil {
		var err error
		x.peak, err = peak(t.process.Pid)
		must(err)
	}
	return x
}

// play runs the load generator.
func (s *stage) play(o *owner, l load) (p played) {
	text, err := json.Marshal(l)
	if err != nil {
		o.Fatal(err)
	}
	generator := s.start(o, s.client, s.loadCores, 0, nil, s.self, loadCommand, string(text))
	s.await(o, l.Warmup+l.Duration+drain+20*time.Second, "the load ends", nil, func() (bool, string) { return generator.Ended(), "" })
	if code := generator.Wait(o, time.Second); code != 0 {
		o.Fatalf("the load generator ended with code %d\n%s", code, generator.Tail())
	}
	stdout, _ := generator.Output()
	if err := json.Unmarshal([]byte(stdout), &p); err != nil {
		o.Fatalf("the load generator's result: %w\n%s", err, generator.Tail())
	}
	return p
}

// atRest waits until nothing is in flight in an agent and two ledgers in a row
// are the same.
func (s *stage) atRest(o *owner, t *tool) (ledger telemetry.Ledger, imbalances []string) {
	before := ""
	s.await(o, 20*time.Second, "the ledger is at rest", t.process, func() (bool, string) {
		status, err := t.admin.Status(s.ctx)
		if err != nil {
			return false, err.Error()
		}
		text, err := json.Marshal(status.Ledger)
		if err != nil {
			o.Fatal(err)
		}
		ledger, imbalances = status.Ledger, status.Imbalances
		same := string(text) == before
		before = string(text)
		for _, line := range []string{"exchanges", "replays", "comparisons", "deliveries"} {
			if ledger[line][telemetry.InFlightKey] > 0 {
				return false, before
			}
		}
		return same, before
	})
	return ledger, imbalances
}

// shortfalls are the results by which shadowtap says that it did not do what
// it was asked for, by line.
var shortfalls = map[string][]string{
	"kernel_packets": {"ring_full", "copy_failed", "no_reader", "over_budget"},
	"captured_bytes": {"malformed", "over_memory"},
	"exchanges":      {"no_request", "no_response", "gap", "too_large", "unparsable", "evicted", "stopped"},
	"selection":      {"own_traffic", "unmatched", "excluded", "not_replayable", "unsafe", "paused", "ended"},
	"replays":        {"shed", "rate_limited", "breaker_open", "stopped"},
	"comparisons":    {"divergent", "not_comparable"},
}

// addLedger takes what was counted between two ledgers.
func (x *sample) addLedger(before, after telemetry.Ledger) {
	counted := func(line, result string) uint64 { return after[line][result] - before[line][result] }
	x.seen = int(counted("exchanges", "complete"))
	x.equal = counted("comparisons", "equal") + counted("comparisons", "ignored")
	x.lost = map[string]uint64{}
	for line, results := range shortfalls {
		for _, result := range results {
			if n := counted(line, result); n > 0 {
				x.lost[line+"."+result] = n
			}
		}
	}
}

// idle is the share of one core, in percent, that a tool uses without traffic.
func (s *stage) idle(o *owner, t *tool, d time.Duration) float64 {
	before, err := cpuTime(t.process.Pid)
	if err != nil {
		o.Fatal(err)
	}
	began := time.Now()
	s.pause(o, d)
	after, err := cpuTime(t.process.Pid)
	if err != nil {
		o.Fatal(err)
	}
	return 100 * (after - before).Seconds() / time.Since(began).Seconds()
}
