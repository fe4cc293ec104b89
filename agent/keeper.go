package agent

import (
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// keeper stands between a shard's parsers and what comes behind them: it asks
// the sampler at each head, and hands complete exchanges on. It belongs to the
// shard's goroutine.
type keeper struct {
	sample      *sample.Shard // nil without experiments
	tally       *tally        // nil without experiments
	experiments []*experiment
	lines       *exchangeLines // nil without --exchanges
}

// Keep implements exchange.Keeper.
func (k *keeper) Keep(h *exchange.Head) exchange.Decision {
	var d exchange.Decision
	if k.sample != nil {
		d = k.sample.Keep(h)
	}
	if k.lines != nil && d.Want < exchange.WantList {
		d.Want = exchange.WantList
	}
	return d
}

// Complete implements exchange.Sink.
func (k *keeper) Complete(c *exchange.Complete) {
	if k.sample != nil {
		k.sample.Completed(c.Decision, c.Doubt, sample.CompletedInfo{Time: c.Start + c.TTFB, TTFB: c.TTFB, Status: c.Status, GRPCStatus: c.GRPCStatus})
	}
	if k.tally != nil {
		k.tally.complete(c)
	}
	if c.Exchange == nil {
		return
	}
	if k.lines != nil {
		k.lines.write(c.Exchange)
	}
	for i := range k.experiments {
		if c.Decision.Choices[i].Selection == exchange.Selected {
			k.experiments[i].submit(c.Exchange)
		}
	}
}

// Lost implements exchange.Sink.
func (k *keeper) Lost(l exchange.Lost) {
	if k.tally != nil {
		k.tally.lost(l)
	}
}
