package agent

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/report"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

// liveReport is what the running agent knows for "shadowtap report": its own
// windows, and of the divergences that it publishes enough for examples. Where
// that is more than its memory allows, it begins anew. It is safe for concurrent
// use.
type liveReport struct {
	config   report.Config
	settings verdict.Settings
	log      *slog.Logger

	mu sync.Mutex
	b  *report.Builder
	// examples is how many divergences are still looked at before the next
	// window comes.
	examples int
	// begun counts how often it began anew.
	begun uint64
}

// liveExamples bounds the divergences that are looked at between two times that
// windows are over, which is a second: a look costs some 20 us.
const liveExamples = 100

// newLiveReport makes one that takes about an eighth of memory at most.
func newLiveReport(memory int64, s verdict.Settings, log *slog.Logger) (*liveReport, error) {
	r := &liveReport{
		config: report.Config{
			MaxRecords: int(max(1, memory>>9)), MaxFingerprints: int(max(64, memory>>18)), MaxUnits: int(max(1024, memory>>11)),
			MaxExamples: int(max(64, memory>>20)),
		},
		settings: s, log: log, examples: liveExamples,
	}
	var err error
	r.b, err = report.New(r.config)
	return r, err
}

// windows takes windows that are over. It may replace their texts by equal ones.
func (r *liveReport) windows(list []*verdict.Window) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.examples = liveExamples
	for _, w := range list {
		err := r.b.Window(w)
		if errors.Is(err, report.ErrFull) {
			// What it was made of is too much; the bounds are the same.
			if r.b, err = report.New(r.config); err == nil {
				r.begun++
				r.log.Info("the agent's own report begins anew: more records than its memory allows; sinks have them all")
				err = r.b.Window(w)
			}
		}
		if err != nil {
			r.log.Warn("a window does not fit into the agent's own report", "err", err)
		}
	}
}

// divergence takes a record that is published.
func (r *liveReport) divergence(rec *redact.Record) {
	r.mu.Lock()
	take := r.examples > 0
	if take {
		r.examples--
	}
	r.mu.Unlock()
	if !take {
		return
	}
	value := rec.JSON() // not under the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.b.Divergence(value); err != nil && !errors.Is(err, report.ErrFull) {
		r.log.Debug("a divergence does not fit into the agent's own report", "err", err)
	}
}

// JSON is the document as of now, with the ledger.
func (r *liveReport) JSON(counts []telemetry.Count) ([]byte, error) {
	r.mu.Lock()
	d, err := r.b.Document(r.settings)
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	d.Ledger = telemetry.NewLedger(counts)
	return d.JSON()
}
