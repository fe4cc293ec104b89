package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/shadowtap/shadowtap/agent/telemetry"
)

// hintAfter is how long nothing complete may be seen before the agent says what
// takes it.
const hintAfter = 10 * time.Second

// hints says once for each spell without a complete exchange, and again when
// the cause changes, which bucket of the ledger takes the traffic and what to
// do. While nothing is attached on purpose it says nothing.
func (a *Agent) hints(ctx context.Context) {
	t := time.NewTicker(hintAfter)
	defer t.Stop()
	before := a.Counts()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := a.Counts()
		a.mu.Lock()
		attached := a.attached
		a.mu.Unlock()
		var h advice
		if attached {
			h = hint(before, now)
		}
		if h.cause != "" && h.cause != said {
			a.log.Warn("nothing complete was seen", "for", hintAfter, "cause", h.cause, "found", h.found, "do", h.do)
		}
		before, said = now, h.cause
	}
}

// advice is what hint found out.
type advice struct {
	cause string // the bucket, as the ledger names it; "" when all is well
	found string // what is in it
	do    string
}

// deltas are what the ledger gained between two readings: line, result, reason.
type deltas map[[3]string]uint64

func newDeltas(before, now []telemetry.Count) deltas {
	d := deltas{}
	add := func(counts []telemetry.Count, sign uint64) {
		for i := range counts {
			if c := &counts[i]; c.Kind == telemetry.Result {
				result, reason := c.Get("result"), c.Get("reason")
				d[[3]string{c.Line, result}] += sign * c.N
				if reason != "" {
					d[[3]string{c.Line, result, reason}] += sign * c.N
				}
			}
		}
	}
	add(now, 1)
	add(before, ^uint64(0)) // wraps: minus one
	return d
}

func (d deltas) of(line, result string) uint64 { return d[[3]string{line, result}] }

func (d deltas) sum(line string, results ...string) (n uint64) {
	for _, r := range results {
		n += d.of(line, r)
	}
	return n
}

// most gives the largest of some results, and "" when all are zero.
func (d deltas) most(line string, results ...string) (name string, n uint64) {
	for _, r := range results {
		if v := d.of(line, r); v > n {
			name, n = r, v
		}
	}
	return name, n
}

// hint says what became of the traffic between two readings of the ledger:
// nothing when an exchange was completed. It looks where the traffic ended, from
// the kernel on.
func hint(before, now []telemetry.Count) advice {
	d := newDeltas(before, now)
	if d.of("exchanges", "complete") > 0 {
		return advice{}
	}
	if h := hintPackets(d); h.cause != "" {
		return h
	}
	if h := hintBytes(d); h.cause != "" {
		return h
	}
	if h := hintExchanges(d); h.cause != "" {
		return h
	}
	if name, n := d.most("delivered_bytes", "after_gap", "unparsable", "upgraded", "evicted"); n > 0 {
		return advice{name, fmt.Sprintf("%d bytes passed behind a hole, in connections that were open before the agent, or that are no HTTP", n),
			"new connections are read from their start: wait for one, or restart the client"}
	}
	if n := telemetry.NewLedger(now)["exchanges"][telemetry.InFlightKey]; n > 0 {
		return advice{telemetry.InFlightKey, fmt.Sprintf("%d exchanges are open", n), "the server has not finished an answer: look at the server"}
	}
	return advice{"no_payload", "packets of the port pass, but nothing in them", "is anything sent over the connections?"}
}

// hintPackets is about what did not come out of the kernel.
func hintPackets(d deltas) advice {
	const line = "kernel_packets"
	foreign := []string{"other_direction", "fragment", "unparsable", "other_port", "not_tcp"}
	lost := []string{"own_replay", "not_wanted", "ring_full", "copy_failed", "no_reader", "over_budget"}
	if d.sum(line, "captured", "no_payload")+d.sum(line, lost...) == 0 {
		// A packet that went the other way, or is a part of one, is of the port:
		// any of them tells more than many of other ports.
		name, n := d.most(line, foreign[:2]...)
		if n == 0 {
			name, n = d.most(line, foreign[2:]...)
		}
		switch name {
		case "other_direction":
			return advice{name, fmt.Sprintf("%d packets of the port went the other way", n), "give the interface another role in capture.interfaces: uplink, workload or any"}
		case "fragment":
			return advice{name, fmt.Sprintf("%d packets were IP fragments, which are not put together", n), "lower the sender's MTU, or capture where packets are whole"}
		case "unparsable":
			return advice{name, fmt.Sprintf("%d packets have link or IP headers that the tap does not know", n), "capture on another interface of the path"}
		case "other_port":
			return advice{name, fmt.Sprintf("%d packets went to other ports", n), "is --port the one that the server listens on, as packets show it on this interface (before or after a Service's translation)?"}
		case "not_tcp":
			return advice{name, fmt.Sprintf("%d packets passed, none of them TCP", n), "is it the interface that the service's traffic uses (ip -brief link)?"}
		}
		return advice{"packets", "no packet passed the taps", "is it the interface that the service's traffic uses (ip -brief link), and is there traffic at all?"}
	}
	name, n := d.most(line, lost...)
	if n <= d.of(line, "captured") {
		return advice{}
	}
	do := map[string]string{
		"own_replay":  "they are the agent's own replays: there is no other traffic on these ports",
		"not_wanted":  "nobody wants them: they are of long bodies that are not sampled, or of connections without HTTP; for these capture other ports",
		"ring_full":   "the agent does not keep up: give it more CPU or capture.memory, or capture fewer ports",
		"copy_failed": "the kernel refused to hand out packet bytes: please report it with the kernel's version",
		"no_reader":   "the agent was stopped, or had no CPU for more than 1 s: give it more CPU",
		"over_budget": "raise capture.copy_budget, or capture fewer ports",
	}[name]
	return advice{name, fmt.Sprintf("%d selected packets were not captured", n), do}
}

// hintBytes is about captured bytes that belong to no stream.
func hintBytes(d deltas) advice {
	const line = "captured_bytes"
	name, n := d.most(line, "duplicate", "other_interface", "malformed", "over_memory")
	if n <= d.of(line, "delivered") {
		return advice{}
	}
	do := map[string]string{
		"duplicate":       "they were seen before: retransmissions, or the same packets on two interfaces. Look at the network, or name one interface",
		"other_interface": "their connection was first seen on another interface: name one interface of the path",
		"malformed":       "their TCP headers are wrong: look at what sends them",
		"over_memory":     "raise capture.memory, or capture fewer ports",
	}[name]
	return advice{name, fmt.Sprintf("%d captured bytes were not read", n), do}
}

// hintExchanges is about exchanges that began and were not completed.
func hintExchanges(d deltas) advice {
	const line = "exchanges"
	name, n := d.most(line, "no_request", "no_response", "gap", "too_large", "unparsable", "evicted", "stopped")
	if n == 0 {
		return advice{}
	}
	found := fmt.Sprintf("%d exchanges began, none was completed", n)
	do := map[string]string{
		"no_request":  "answers pass, but not their requests: capture where both directions of a connection pass",
		"no_response": "requests pass, but not their answers: capture where both directions pass, or the server does not answer",
		"gap":         "packets are missing: look at ring_full and over_budget in shadowtap status, and whether traffic takes a second path",
		"too_large":   "heads are over 64 KiB, or request bodies over capture.max_body: raise it",
		"unparsable":  "it is no HTTP that all readers understand in the same way: shadowtap status --json and /metrics have the reasons",
		"evicted":     "capture.memory is too small for the open connections: raise it",
		"stopped":     "the agent stops",
	}[name]
	cause := name
	if name == "unparsable" {
		why := map[string]string{
			"tls":        "it is TLS: capture behind what ends it",
			"http2":      "it is HTTP/2 that breaks the rules for frames: look at what sends it",
			"http2_late": "it is HTTP/2 on connections that were open before the agent, or in which packets are missing: it can be read only from a connection's start. Restart the client, or wait for new connections",
			"hpack":      "it is HTTP/2 whose header compression can't be followed: new connections are read from their start",
			"protocol":   "it is neither HTTP/1, HTTP/2 nor TLS: is it the right port?",
			"direction":  "nobody can tell which side is the server: only new connections show it",
		}
		most := uint64(0)
		for reason := range why {
			if v := d[[3]string{line, name, reason}]; v > most {
				cause, do, most = name+" "+reason, why[reason], v
			}
		}
	}
	return advice{cause, found, do}
}
