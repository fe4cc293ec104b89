package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// The summary of a demo: what is counted as lost is said and is no fault, what
// is missing without a counter is one.
func TestDemoSummary(t *testing.T) {
	counts := func(lost, divergent, acknowledged uint64) []telemetry.Count {
		var c counts
		c.result("kernel_packets", "captured", 8)
		c.result("kernel_packets", "no_reader", lost)
		c.result("exchanges", "complete", 4)
		c.result("selection", "selected", 4, "experiment", "x")
		c.result("replays", "compared", 4, "experiment", "x", "target", "candidate")
		c.result("comparisons", "equal", 4-divergent, "experiment", "x")
		c.result("comparisons", "divergent", divergent, "experiment", "x")
		c.result("deliveries", "acknowledged", acknowledged, "sink", "kafka", "record", "divergence")
		c.result("deliveries", "suppressed", divergent-acknowledged, "sink", "kafka", "record", "divergence")
		return c
	}
	for _, c := range []struct {
		name   string
		counts []telemetry.Count
		asked  uint64
		says   string // in the output
		wrong  string // in the error; "" for none
	}{
		{"all seen", counts(0, 1, 1), 4, "ledger     balances", ""},
		{"some lost, and counted", counts(2, 1, 1), 5, "missing         1 exchanges", ""},
		{"some missing", counts(0, 1, 1), 5, "", "the client asked 5 times, 4 exchanges were seen"},
		{"more than asked", counts(2, 1, 1), 3, "", "the client asked 3 times, 4 exchanges were seen"},
		{"no divergence", counts(0, 0, 0), 4, "", "no divergence arrived"},
		{"nothing acknowledged", counts(0, 1, 0), 4, "", "no divergence arrived"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			err := demoSummary(&out, c.asked, c.counts)
			if (err != nil) != (c.wrong != "") || err != nil && (!errors.Is(err, ErrDemo) || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("error %v, want one with %q", err, c.wrong)
			}
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("no %q in\n%s", c.says, &out)
			}
		})
	}
}
