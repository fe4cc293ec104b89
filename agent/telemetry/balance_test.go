package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func result(line, result string, n uint64, labels ...string) Count {
	return Count{Line: line, Labels: append(Labels(labels...), Label{"result", result}), N: n}
}

func flying(line string, n uint64, labels ...string) Count {
	return Count{Line: line, Labels: Labels(labels...), N: n, Kind: InFlight}
}

func left(line, word string, n uint64, labels ...string) Count {
	c := result(line, word, n, labels...)
	c.Kind = Left
	return c
}

// sound is a ledger in which every line of DESIGN has something and balances.
func sound() []Count {
	return []Count{
		left("kernel_packets", "packets", 100),
		result("kernel_packets", "other_port", 60), result("kernel_packets", "captured", 30), result("kernel_packets", "ring_full", 10),

		left("captured_bytes", "captured", 5000),
		result("captured_bytes", "delivered", 4000), result("captured_bytes", "duplicate", 900), flying("captured_bytes", 100),
		result("delivered_bytes", "parsed", 3900), result("delivered_bytes", "evicted", 60), flying("delivered_bytes", 40),

		left("exchanges", "started", 50),
		result("exchanges", "complete", 40, "reason", ""), result("exchanges", "unparsable", 3, "reason", "tls"),
		result("exchanges", "unparsable", 2, "reason", "http2"), flying("exchanges", 5),

		result("selection", "selected", 20, "experiment", "a", "reason", ""), result("selection", "paused", 20, "experiment", "a", "reason", "guard"),
		result("selection", "unmatched", 39, "experiment", "b", "reason", ""), result("selection", "selected", 1, "experiment", "b", "reason", ""),

		left("replays", "selected", 20, "experiment", "a", "target", "candidate"),
		result("replays", "compared", 15, "experiment", "a", "target", "candidate"), result("replays", "shed", 3, "experiment", "a", "target", "candidate"),
		flying("replays", 2, "experiment", "a", "target", "candidate"),
		result("replays", "compared", 1, "experiment", "b", "target", "candidate"),
		left("replays", "control_chosen", 4, "experiment", "a", "target", "control"),
		result("replays", "paired", 3, "experiment", "a", "target", "control"), result("replays", "failed", 1, "experiment", "a", "target", "control"),

		result("comparisons", "equal", 10, "experiment", "a", "reason", ""), result("comparisons", "divergent", 2, "experiment", "a", "reason", "failed"),
		result("comparisons", "divergent", 1, "experiment", "a", "reason", ""), result("comparisons", "not_comparable", 2, "experiment", "a", "reason", "stale"),
		result("comparisons", "divergent", 1, "experiment", "b", "reason", ""),

		// 2 + 1 + 2 + 1 records, and 2 from the spool.
		left("deliveries", "recovered", 2, "sink", "kafka", "record", "divergence"),
		result("deliveries", "acknowledged", 6, "sink", "kafka", "record", "divergence"), flying("deliveries", 2, "sink", "kafka", "record", "divergence"),
		result("deliveries", "acknowledged", 1, "sink", "terminal", "record", "divergence"), result("deliveries", "suppressed", 5, "sink", "terminal", "record", "divergence"),
		left("deliveries", "windows", 7, "sink", "kafka", "record", "window"),
		result("deliveries", "acknowledged", 7, "sink", "kafka", "record", "window"),
	}
}

func TestBalanceOfASoundLedger(t *testing.T) {
	if got := Balance(sound()); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if got := Balance(nil); len(got) > 0 {
		t.Errorf("an empty ledger: %v", got)
	}
}

// Each row changes one number of the sound ledger, and says what must be told.
func TestBalanceNamesTheLine(t *testing.T) {
	for _, c := range []struct {
		name  string
		which Count
		by    int
		want  []string // parts of the texts, one an imbalance
	}{
		{"a packet too many", result("kernel_packets", "captured", 0), +1,
			[]string{"kernel_packets: 100 packets (counted), but 101 by result and 0 in flight: 1 too many"}},
		{"payload lost", result("captured_bytes", "duplicate", 0), -7,
			[]string{"captured_bytes: 5000 captured (counted), but 4893 by result and 100 in flight: 7 missing"}},
		{"delivered bytes that nobody parsed", result("delivered_bytes", "parsed", 0), -1,
			[]string{"delivered_bytes: 4000 delivered (from captured_bytes)"}},
		{"an exchange in flight forgotten", flying("exchanges", 0), -1,
			[]string{"exchanges: 50 started (counted)"}},
		{"a completed exchange not decided for b", result("selection", "unmatched", 0, "experiment", "b", "reason", ""), -1,
			[]string{"selection{experiment=b}: 40 complete (from exchanges), but 39"}},
		{"a replay vanished", result("replays", "shed", 0, "experiment", "a", "target", "candidate"), -1,
			[]string{"replays{experiment=a,target=candidate}: 20 selected (from selection)", "replays{experiment=a,target=candidate}: 20 selected (counted)"}},
		{"the room's own count off", left("replays", "selected", 0, "experiment", "a", "target", "candidate"), +1,
			[]string{"replays{experiment=a,target=candidate}: 21 selected (counted)"}},
		{"a control leg vanished", result("replays", "failed", 0, "experiment", "a", "target", "control"), -1,
			[]string{"replays{experiment=a,target=control}: 4 control_chosen (counted)"}},
		{"a pair without outcome", result("comparisons", "equal", 0, "experiment", "a", "reason", ""), -1,
			[]string{"comparisons{experiment=a}: 15 compared (from replays)"}},
		{"a record dropped without a word", result("deliveries", "suppressed", 0, "sink", "terminal", "record", "divergence"), -1,
			[]string{"deliveries{sink=terminal,record=divergence}: 6 divergent + not_comparable + recovered (from comparisons)"}},
		{"a recovered record twice", left("deliveries", "recovered", 0, "sink", "kafka", "record", "divergence"), -1,
			[]string{"deliveries{sink=kafka,record=divergence}: 7 divergent"}},
		{"a window lost", result("deliveries", "acknowledged", 0, "sink", "kafka", "record", "window"), -1,
			[]string{"deliveries{sink=kafka,record=window}: 7 windows (counted)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			counts := sound()
			i := slices.IndexFunc(counts, func(n Count) bool {
				return n.Line == c.which.Line && n.Kind == c.which.Kind && slices.Equal(n.Labels, c.which.Labels)
			})
			if i < 0 {
				t.Fatal("no such count")
			}
			counts[i].N += uint64(c.by)
			got := Balance(counts)
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %d", got, len(c.want))
			}
			for j, want := range c.want {
				if !strings.Contains(got[j].String(), want) {
					t.Errorf("got %q, want %q", got[j], want)
				}
			}
		})
	}
}

// A room that counts nothing for a group that was handed something has lost it.
func TestBalanceMissesAWholeGroup(t *testing.T) {
	counts := slices.DeleteFunc(sound(), func(c Count) bool { return c.Line == "comparisons" && c.Get("experiment") == "b" })
	got := Balance(counts)
	if len(got) != 3 || !strings.HasPrefix(got[0].String(), "comparisons{experiment=b}: 1 compared (from replays), but 0 by result") {
		t.Errorf("got %v", got)
	}
}

// Whatever two numbers of a line that balances are changed by different
// amounts, it is told; and what is only moved between results is not.
func TestBalanceProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := sound()
		i := rapid.IntRange(0, len(counts)-1).Draw(t, "count")
		by := rapid.Uint64Range(1, 1<<40).Draw(t, "by")
		counts[i].N += by
		if len(Balance(counts)) == 0 {
			t.Fatalf("%+v grew by %d, and nobody noticed", counts[i], by)
		}
	})
}

func TestLedger(t *testing.T) {
	got := NewLedger(sound())
	for key, want := range map[string]uint64{
		"kernel_packets/captured": 30, "kernel_packets/no_reader": 0, "exchanges/unparsable": 5, "exchanges/in_flight": 5,
		"selection/selected": 21, "replays/compared": 16, "replays/breaker_open": 0,
		"control/failed": 1, "control/paired": 3, "control/shed": 0, "rechecks/converged": 0,
		"comparisons/divergent": 4, "deliveries/acknowledged": 7, "deliveries/dropped": 0, "windows/acknowledged": 7, "windows/dropped": 0,
	} {
		line, result, _ := strings.Cut(key, "/")
		n, ok := got[line][result]
		if !ok || n != want {
			t.Errorf("%s = %d, %v; want %d", key, n, ok, want)
		}
	}
	if _, ok := got["exchanges"]["started"]; ok {
		t.Error("a left side stands among the results: they would no longer sum up")
	}
	if len(NewLedger(nil)) != 11 {
		t.Errorf("%d lines of an empty ledger, want the 8 of DESIGN, windows, control and rechecks", len(NewLedger(nil)))
	}
}

func TestCompleteSumsAndFills(t *testing.T) {
	got := complete([]Count{
		// Two shards count the same thing, one with its labels in another order.
		{Line: "replays", Labels: Labels("experiment", "a", "target", "candidate", "result", "shed"), N: 1},
		{Line: "replays", Labels: Labels("result", "shed", "target", "candidate", "experiment", "a"), N: 2},
	})
	sum, fills := uint64(0), 0
	for _, c := range got {
		if c.Line == "replays" {
			fills++
			sum += c.N
		}
	}
	if fills != 5 || sum != 3 {
		t.Errorf("%d series with a sum of %d, want the 5 results of a candidate with 3: %v", fills, sum, got)
	}
}

func TestWriteLedger(t *testing.T) {
	var b strings.Builder
	if err := WriteLedger(&b, sound()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("%-16s %10d  %s\n", "kernel packets", 100, "other port 60, captured 30, ring full 10"),
		fmt.Sprintf("%-16s %10d  %s\n", "exchanges", 50, "complete 40, unparsable 5, in flight 5"),
		"every line balances\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, &b)
		}
	}
	b.Reset()
	bad := sound()
	bad[0].N++
	if err := WriteLedger(&b, bad); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "does not balance: kernel_packets: 101 packets") || strings.Contains(b.String(), "every line") {
		t.Errorf("the text:\n%s", &b)
	}
}
