package agent

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// ledgerOf makes counts of "line result" or "line result reason"; a result named
// in_flight is what is in flight.
func ledgerOf(gained map[string]uint64) (c counts) {
	for _, key := range slices.Sorted(maps.Keys(gained)) {
		f := strings.Fields(key)
		switch {
		case f[1] == telemetry.InFlightKey:
			c.add(f[0], telemetry.InFlight, gained[key])
		case len(f) == 3:
			c.result(f[0], f[1], gained[key], "reason", f[2])
		default:
			c.result(f[0], f[1], gained[key])
		}
	}
	return c
}

// Each cause alone, and against what usually comes with it.
func TestHint(t *testing.T) {
	type m = map[string]uint64
	for _, tc := range []struct {
		name   string
		gained m
		cause  string
		do     string // a part of the advice
	}{
		{"all is well", m{"kernel_packets captured": 9, "exchanges complete": 1, "exchanges gap": 8}, "", ""},
		{"nothing at all", nil, "packets", "traffic at all"},
		{"no TCP", m{"kernel_packets not_tcp": 3}, "not_tcp", "ip -brief link"},
		{"other ports", m{"kernel_packets other_port": 3, "kernel_packets not_tcp": 1}, "other_port", "--port"},
		{"other ports, little of something else", m{"kernel_packets other_port": 3, "kernel_packets unparsable": 2}, "other_port", "--port"},
		{"the other way", m{"kernel_packets other_direction": 1, "kernel_packets other_port": 90}, "other_direction", "role"},
		{"fragments", m{"kernel_packets fragment": 1, "kernel_packets other_port": 90}, "fragment", "MTU"},
		{"unknown headers", m{"kernel_packets unparsable": 9, "kernel_packets other_port": 1}, "unparsable", "another interface"},
		{"own replays only", m{"kernel_packets own_replay": 4}, "own_replay", "own replays"},
		{"not wanted", m{"kernel_packets not_wanted": 4}, "not_wanted", "other ports"},
		{"ring full", m{"kernel_packets ring_full": 9, "kernel_packets captured": 8}, "ring_full", "keep up"},
		{"ring full, but not mainly", m{"kernel_packets ring_full": 1, "kernel_packets captured": 8, "exchanges gap": 2}, "gap", "ring_full"},
		{"copy failed", m{"kernel_packets copy_failed": 4}, "copy_failed", "report"},
		{"no reader", m{"kernel_packets no_reader": 4}, "no_reader", "CPU"},
		{"over budget", m{"kernel_packets over_budget": 4}, "over_budget", "capture.copy_budget"},
		{"seen before", m{"kernel_packets captured": 4, "captured_bytes duplicate": 9}, "duplicate", "two interfaces"},
		{"a second interface", m{"kernel_packets captured": 4, "captured_bytes other_interface": 9, "captured_bytes delivered": 3}, "other_interface", "one interface"},
		{"bad TCP headers", m{"kernel_packets captured": 4, "captured_bytes malformed": 9}, "malformed", "headers"},
		{"no memory for bytes", m{"kernel_packets captured": 4, "captured_bytes over_memory": 9}, "over_memory", "capture.memory"},
		{"answers alone", m{"kernel_packets captured": 4, "exchanges no_request": 2}, "no_request", "both directions"},
		{"requests alone", m{"kernel_packets captured": 4, "exchanges no_response": 2, "exchanges gap": 1}, "no_response", "both directions"},
		{"holes", m{"kernel_packets captured": 4, "exchanges gap": 2}, "gap", "second path"},
		{"too large", m{"kernel_packets captured": 4, "exchanges too_large body": 2}, "too_large", "capture.max_body"},
		{"TLS", m{"kernel_packets captured": 4, "exchanges unparsable tls": 2, "exchanges unparsable syntax": 1}, "unparsable tls", "behind what ends it"},
		{"HTTP/2", m{"kernel_packets captured": 4, "exchanges unparsable http2": 2, "exchanges unparsable tls": 1}, "unparsable http2", "what sends it"},
		{"HTTP/2 from before", m{"kernel_packets captured": 4, "exchanges unparsable http2_late": 2, "exchanges unparsable http2": 1}, "unparsable http2_late", "new connections"},
		{"HTTP/2 that can't be decoded", m{"kernel_packets captured": 4, "exchanges unparsable hpack": 2}, "unparsable hpack", "new connections"},
		{"another protocol", m{"kernel_packets captured": 4, "exchanges unparsable protocol": 2}, "unparsable protocol", "right port"},
		{"which side", m{"kernel_packets captured": 4, "exchanges unparsable direction": 2}, "unparsable direction", "new connections"},
		{"bad heads", m{"kernel_packets captured": 4, "exchanges unparsable syntax": 2}, "unparsable", "/metrics"},
		{"evicted", m{"kernel_packets captured": 4, "exchanges evicted": 2}, "evicted", "capture.memory"},
		{"stopped", m{"kernel_packets captured": 4, "exchanges stopped": 2}, "stopped", "stops"},
		{"connections from before", m{"kernel_packets captured": 4, "captured_bytes delivered": 9, "delivered_bytes after_gap": 9}, "after_gap", "new connections"},
		{"no HTTP", m{"kernel_packets captured": 4, "captured_bytes delivered": 9, "delivered_bytes unparsable": 9}, "unparsable", "new connections"},
		{"behind an upgrade", m{"kernel_packets captured": 4, "captured_bytes delivered": 9, "delivered_bytes upgraded": 9}, "upgraded", "new connections"},
		{"bytes evicted", m{"kernel_packets captured": 4, "captured_bytes delivered": 9, "delivered_bytes evicted": 9}, "evicted", "new connections"},
		{"a slow server", m{"kernel_packets captured": 4, "delivered_bytes parsed": 9, "exchanges in_flight": 1}, "in_flight", "server"},
		{"nothing sent", m{"kernel_packets no_payload": 4}, "no_payload", "anything sent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := hint(nil, ledgerOf(tc.gained))
			if got.cause != tc.cause || !strings.Contains(got.do, tc.do) {
				t.Errorf("cause %q, do %q\nwant %q, ...%s...", got.cause, got.do, tc.cause, tc.do)
			}
			if (got.cause == "") != (got.found == "") || (got.cause == "") != (got.do == "") {
				t.Errorf("half an advice: %+v", got)
			}
		})
	}
}

// What was there before does not count: only what came since.
func TestHintLooksAtWhatCameSince(t *testing.T) {
	before := ledgerOf(map[string]uint64{"exchanges complete": 100, "kernel_packets captured": 400, "kernel_packets ring_full": 50})
	now := ledgerOf(map[string]uint64{"exchanges complete": 100, "kernel_packets captured": 402, "kernel_packets ring_full": 50, "exchanges unparsable tls": 1})
	if got := hint(before, now); got.cause != "unparsable tls" || !strings.Contains(got.found, "1 exchanges") {
		t.Errorf("got %+v", got)
	}
	if got := hint(now, now); got.cause != "packets" {
		t.Errorf("a silent spell: got %+v", got)
	}
}

// No result of the ledger's first four lines is without an advice of its own:
// traffic that ends there, and nowhere else, is named.
func TestHintKnowsEveryBucket(t *testing.T) {
	good := []string{"captured", "delivered", "parsed", "complete"}
	ledger := telemetry.NewLedger(nil)
	for _, line := range []string{"kernel_packets", "captured_bytes", "delivered_bytes", "exchanges"} {
		if len(ledger[line]) < 4 {
			t.Fatalf("the ledger has no line %s", line)
		}
		for result := range ledger[line] {
			if slices.Contains(good, result) {
				continue
			}
			gained := map[string]uint64{line + " " + result: 5}
			if line != "kernel_packets" {
				gained["kernel_packets captured"] = 1
			}
			got := hint(nil, ledgerOf(gained))
			if got.cause != result || got.do == "" || got.found == "" {
				t.Errorf("%s %s: got %+v", line, result, got)
			}
		}
	}
}
