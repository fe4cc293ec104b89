package recording

import (
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Kind says what an Event is.
type Kind uint8

const (
	// Complete is a complete exchange.
	Complete Kind = iota
	// Lost are exchanges that did not become complete.
	Lost
	// Tick tells the capture's clock.
	Tick
)

// Event is one step of a capture.
type Event struct {
	Kind Kind
	// Time is that of the request's first byte, of a tick the capture's clock,
	// in nanoseconds since the Unix epoch. 0 when it is not known.
	Time int64
	// Choices has what sampling decided, one for each experiment in the order
	// of the configuration; none when it was not asked.
	Choices []exchange.Choice

	// Result and N are of Lost: what became of how many.
	Result exchange.Result
	N      uint64

	// Exchange is set when there are Pairs. From a Reader it lacks
	// Request.Head and Request.Wire, which only a replay needs.
	Exchange *exchange.Exchange
	// Pairs are the replays of a complete exchange: one for each choice that is
	// Selected, in the same order.
	Pairs []Pair
}

// Pair is one selected exchange in one experiment.
type Pair struct {
	// Experiment is its index.
	Experiment int
	// Stale says that the state behind the request may have moved.
	Stale bool
	// Result is what became of the replay. Outcome is set when that is
	// Compared, with what became of the control where it was asked.
	Result  replay.Result
	Outcome *replay.Outcome
	// Again is what came of asking once more, nil when nobody did. It is there
	// only with an Outcome.
	Again *replay.Again
}
