package replay

import (
	"sync/atomic"
)

// connCounts are counted where connections are opened and used.
type connCounts struct {
	opened, reused, stale, retried, sent, received atomic.Uint64
}

// Stats are counts since New. The ledger line balances in every snapshot:
// Selected = the sum of Results + InFlight.
type Stats struct {
	Experiment, Role string
	// Selected is the number of calls of Submit.
	Selected uint64
	// Results counts by Result.
	Results [NumResults]uint64
	// InFlight is the number of replays under way now, Done included, and of
	// exchanges that wait for one to end; also of those whose control is still
	// under way, and that wait to be asked again.
	InFlight int
	// Errors counts the outcomes by error word, in the order of ErrorWords.
	// Their sum is part of Results[Compared].
	Errors [len(errorWords)]uint64
	// Breaker is closed, half_open or open; off without one.
	Breaker string
	// BreakerOpened is how often the breaker opened.
	BreakerOpened uint64
	// Opened is the number of connections made, Reused that of requests
	// written to one that had carried another before, Stale that of idle
	// connections found closed or with bytes that nobody asked for, Retried
	// that of requests written a second time.
	Opened, Reused, Stale, Retried uint64
	// Sent is the number of bytes of requests written, Received that of
	// answers read, in HTTP/2 frames, before TLS. For HTTP/1 over https Sent
	// counts bodies and Received what was kept or digested of bodies.
	Sent, Received uint64
	// Workers is the number of goroutines, idle ones included; each holds at
	// most one connection of each protocol (HTTP/1 over https: net/http holds
	// them).
	Workers int
	// Control are the counts of the pairs, nil without a control.
	Control *ControlStats
}

// Each calls f for every result of the ledger line, also those at 0.
func (s *Stats) Each(f func(result string, n uint64)) {
	for i, n := range s.Results {
		f(resultWords[i], n)
	}
}

// EachError calls f for every error word, also those at 0.
func (s *Stats) EachError(f func(word string, n uint64)) {
	for i, n := range s.Errors {
		f(errorWords[i], n)
	}
}
