package agent

import (
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Counts gathers the ledger from the rooms.
type counts []telemetry.Count

func (c *counts) add(line string, kind telemetry.Kind, n uint64, labels ...string) {
	*c = append(*c, telemetry.Count{Line: line, Kind: kind, N: n, Labels: telemetry.Labels(labels...)})
}

func (c *counts) result(line, result string, n uint64, labels ...string) {
	c.add(line, telemetry.Result, n, append([]string{"result", result}, labels...)...)
}

// packets adds the kernel's line, or the file's.
func (c *counts) packets(each func(func(string, uint64))) {
	var sum uint64
	each(func(result string, n uint64) {
		c.result("kernel_packets", result, n)
		sum += n
	})
	c.add("kernel_packets", telemetry.Left, sum, "result", "packets")
}

// shards adds the lines of reassembly and of the parsers.
func (c *counts) shards(shards []*shard) {
	for _, s := range shards {
		st := s.stats()
		a, h := &st.asm, &st.http
		c.add("captured_bytes", telemetry.Left, a.Captured, "result", "captured")
		c.add("captured_bytes", telemetry.InFlight, a.Queued)
		c.result("captured_bytes", "delivered", a.Delivered)
		c.result("captured_bytes", "duplicate", a.Duplicate)
		c.result("captured_bytes", "other_interface", a.OtherInterface)
		c.result("captured_bytes", "malformed", a.Malformed)
		c.result("captured_bytes", "over_memory", a.OverMemory)
		c.add("delivered_bytes", telemetry.InFlight, h.Held)
		c.result("delivered_bytes", "parsed", h.Parsed)
		c.result("delivered_bytes", "upgraded", h.Upgraded)
		c.result("delivered_bytes", "after_gap", h.AfterGap)
		c.result("delivered_bytes", "unparsable", h.Unparsable)
		c.result("delivered_bytes", "evicted", h.Evicted)
		c.add("exchanges", telemetry.Left, h.Started, "result", "started")
		c.add("exchanges", telemetry.InFlight, h.InFlight)
		for r, reasons := range h.Exchanges {
			for why, n := range reasons {
				if n > 0 {
					c.result("exchanges", exchange.Result(r).String(), n, "reason", exchange.Reason(why).String())
				}
			}
		}
	}
}

// selections adds the lines of sampling, replay and comparison.
func (c *counts) experiments(sampler *sample.Sampler, experiments []*experiment) {
	if sampler == nil {
		return
	}
	for _, e := range sampler.Stats().Experiments {
		for _, s := range e.Selections {
			c.result("selection", s.Result, s.N, "experiment", e.Name, "reason", s.Reason)
		}
	}
	for _, x := range experiments {
		st := x.replayer.Stats()
		name := x.cfg.Name
		c.add("replays", telemetry.Left, st.Selected, "experiment", name, "target", "candidate", "result", "selected")
		c.add("replays", telemetry.InFlight, uint64(st.InFlight), "experiment", name, "target", "candidate")
		for r, n := range st.Results {
			c.result("replays", replay.Result(r).String(), n, "experiment", name, "target", "candidate")
		}
		c.control(name, st.Control)
		if x.cfg.Compare.Recheck > 0 {
			c.rechecks(name, &x.rechecks)
		}
		for o, reasons := range x.comparisons {
			for why, n := range reasons {
				c.result("comparisons", diff.Outcome(o).String(), n.Load(), "experiment", name, "reason", why)
			}
		}
	}
}

// control adds the control's line, where there is one.
func (c *counts) control(experiment string, st *replay.ControlStats) {
	if st == nil {
		return
	}
	labels := func(more ...string) []string {
		return append([]string{"experiment", experiment, "target", "control"}, more...)
	}
	c.add("replays", telemetry.Left, st.Chosen, labels("result", "control_chosen")...)
	c.add("replays", telemetry.InFlight, uint64(st.InFlight), labels()...)
	for _, e := range st.Ends {
		c.result("replays", e.Result.String(), e.N, labels("reason", e.Reason)...)
	}
}

// rechecks adds what was asked once more.
func (c *counts) rechecks(experiment string, r *rechecks) {
	c.add("rechecks", telemetry.Left, r.begun.Load(), "experiment", experiment, "result", "rechecked")
	c.add("rechecks", telemetry.InFlight, uint64(r.inFlight.Load()), "experiment", experiment)
	for i := range r.results {
		c.result("rechecks", recheckWord(i), r.results[i].Load(), "experiment", experiment)
	}
}
