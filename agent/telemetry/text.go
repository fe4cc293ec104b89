package telemetry

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// WriteLedger writes the ledger for people: a line for each line that counted
// anything, its results with a number, and what does not balance.
func WriteLedger(w io.Writer, counts []Count) error {
	counts = complete(counts)
	ledger := NewLedger(counts)
	var b strings.Builder
	seen := map[string]bool{}
	for i := range lines {
		name := lines[i].key()
		if seen[name] {
			continue
		}
		seen[name] = true
		var parts []string
		var total uint64
		for _, result := range resultsOf(name) {
			n := ledger[name][result]
			total += n
			if n > 0 {
				parts = append(parts, fmt.Sprintf("%s %d", strings.ReplaceAll(result, "_", " "), n))
			}
		}
		if n := ledger[name][InFlightKey]; n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("in flight %d", n))
		}
		if total == 0 {
			parts = append(parts, "nothing yet")
		}
		fmt.Fprintf(&b, "%-16s %10d  %s\n", strings.ReplaceAll(name, "_", " "), total, strings.Join(parts, ", "))
	}
	imbalances := Balance(counts)
	for _, i := range imbalances {
		fmt.Fprintf(&b, "does not balance: %s\n", i)
	}
	if len(imbalances) == 0 {
		b.WriteString("every line balances\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// resultsOf are the results of all lines of that key in their order.
func resultsOf(name string) []string {
	var results []string
	seen := map[string]bool{}
	for i := range lines {
		if lines[i].key() != name {
			continue
		}
		for _, r := range lines[i].results {
			if !seen[r] {
				seen[r] = true
				results = append(results, r)
			}
		}
	}
	return results
}

// CountsOf gives the counts that a status carried over the wire.
func CountsOf(s *admin.Status) []Count {
	counts := make([]Count, 0, len(s.Counts))
	for _, c := range s.Counts {
		n := Count{Line: c.Line, N: c.N, Kind: Kind(max(0, slices.Index(kindWords[:], c.Kind)))}
		for name, value := range c.Labels {
			n.Labels = append(n.Labels, Label{name, value})
		}
		counts = append(counts, n)
	}
	return complete(counts)
}
