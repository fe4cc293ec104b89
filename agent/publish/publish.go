package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
)

// Result is what became of a record at one sink. The zero value is
// acknowledged, the others are reasons why it was dropped.
type Result uint8

const (
	// Acknowledged: the sink has it for good.
	Acknowledged Result = iota
	// QueueFull: a queue was full, the sink's own or the Kafka client's.
	QueueFull
	// TooLarge: the sink, or the broker, does not take a record of its size.
	TooLarge
	// Broker: a broker refused it.
	Broker
	// Timeout: delivery.timeout.ms or retries were used up.
	Timeout
	// Write: a file or terminal could not be written.
	Write
	// Stopped: the stop's deadline came before it was delivered, or it came
	// after the stop. It may have been delivered all the same.
	Stopped
	// NumResults is the number of results.
	NumResults
)

var resultWords = [NumResults]string{"acknowledged", "queue_full", "too_large", "broker", "timeout", "write", "stopped"}

// String is "acknowledged" or the ledger's reason label of a drop.
func (r Result) String() string { return resultWords[r] }

// Sink takes records for one place. Kafka, JSONLines and Terminal are the ones
// there are.
type Sink interface {
	// Name is the sink label of the ledger.
	Name() string
	// Takes says whether records of the kind go there. The answer does not
	// change.
	Takes(k redact.Kind) bool
	// Deliver takes a record and calls done with what became of it: exactly
	// once, from any goroutine, now or later. It may block as long as the
	// place it writes to does. Calls come one after the other.
	Deliver(rec *redact.Record, done func(Result))
	// Flush sends what is held back, waits until every record given to
	// Deliver is done or ctx ends, and then gives ctx's error. It may be
	// called while Deliver runs.
	Flush(ctx context.Context) error
	// Close ends the sink; what is not done by then will not be delivered. It
	// may be called while another method blocks, and more than once.
	Close() error
}

// runner is a Sink that has work of its own.
type runner interface {
	Run(ctx context.Context) error
}

// Config is what a Publisher is made of.
type Config struct {
	// Sinks take every published record. Their names differ.
	Sinks []Sink
	// PerFingerprint is how many records of a fingerprint are published in an
	// hour of the records' time before Then begins. Zero means 20, negative
	// no limit.
	PerFingerprint int
	// Then is the share that is published beyond it, in hundredths of a
	// percent. Zero means 100 (1 %), negative means none.
	Then int
	// Queue bounds the records that wait for one sink. Zero means 4096.
	Queue int
	// QueueBytes bounds their size in memory. Zero means 16 MiB.
	QueueBytes int64
	// Log is required. Records are never logged.
	Log *slog.Logger
}

// Publisher hands records to sinks. It is safe for concurrent use.
type Publisher struct {
	queues  []*queue
	limiter limiter
	log     *slog.Logger

	stopOnce sync.Once
	stopping chan struct{} // closed by Stop: drain and end
	aborting chan struct{} // closed when the time for that is up
	abort    sync.Once
}

// New checks c. It starts nothing.
func New(c Config) (*Publisher, error) {
	if c.Log == nil {
		return nil, errors.New("publish: Log: missing")
	}
	if c.Queue < 0 || c.QueueBytes < 0 {
		return nil, errors.New("publish: Queue, QueueBytes: negative")
	}
	if c.Then > 10_000 {
		return nil, fmt.Errorf("publish: Then: %d is more than 10000, all", c.Then)
	}
	if c.PerFingerprint == 0 {
		c.PerFingerprint = 20
	}
	if c.Then == 0 {
		c.Then = 100
	}
	if c.Queue == 0 {
		c.Queue = 4096
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 16 << 20
	}
	p := &Publisher{
		limiter:  limiter{first: c.PerFingerprint, then: uint32(max(0, c.Then)), routes: map[routeKey]*routeTable{}},
		log:      c.Log,
		stopping: make(chan struct{}),
		aborting: make(chan struct{}),
	}
	seen := map[string]bool{}
	for i, s := range c.Sinks {
		if s == nil {
			return nil, fmt.Errorf("publish: Sinks[%d]: missing", i)
		}
		if seen[s.Name()] {
			return nil, fmt.Errorf("publish: Sinks[%d]: two sinks are named %q", i, s.Name())
		}
		seen[s.Name()] = true
		p.queues = append(p.queues, newQueue(s, c.Queue, c.QueueBytes))
	}
	return p, nil
}

// Admission describes a record before it is made.
type Admission struct {
	Experiment, Route, ExchangeID string
	// Fingerprints are the distinct ones of the differences that count. Empty
	// for a pair that was not comparable; Why is then the reason.
	Fingerprints []string
	Why          string
	// Time is that of the reference's request.
	Time time.Time
}

// Admit asks the cap per fingerprint before a record is made, so that a flood
// of one divergence costs neither redaction nor encoding. When it says yes,
// weight is the PublishWeight to make the record with, and Publish must follow
// with that record. When it says no, the record counts as suppressed for every
// sink and nothing more is to be done.
func (p *Publisher) Admit(a Admission) (weight float64, ok bool) {
	f := a.Fingerprints
	if len(f) == 0 {
		f = []string{"not_comparable:" + a.Why}
	}
	weight, ok = p.limiter.admit(a.Experiment, a.Route, a.ExchangeID, f, a.Time)
	if !ok {
		for _, q := range p.queues {
			q.suppress()
		}
	}
	return weight, ok
}

// Publish hands a record to every sink that takes its kind, and never blocks:
// where a queue is full the record is dropped there and counted. A record whose publish weight is not
// set goes through Admit first.
func (p *Publisher) Publish(rec *redact.Record) {
	if !rec.Admitted() {
		d := rec.Divergence()
		weight, ok := p.Admit(Admission{
			Experiment: d.Experiment, Route: d.Route, ExchangeID: d.ExchangeID,
			Fingerprints: rec.Fingerprints(), Why: d.Why, Time: rec.Time(),
		})
		if !ok {
			return
		}
		rec = rec.WithPublishWeight(weight)
	}
	for _, q := range p.queues {
		q.put(rec)
	}
}

// PublishWindow hands a window's record to every sink that takes windows. Other
// than Publish it waits where a queue is full, until there is room or ctx ends,
// which drops the record there: windows are the denominator of all rates, and
// many are over at the same moment. Calls come one after the other.
func (p *Publisher) PublishWindow(ctx context.Context, rec *redact.Record) {
	for _, q := range p.queues {
		q.putWaiting(ctx, rec)
	}
}

// Run delivers until Stop, or until ctx ends, which drops what is still queued.
// It returns nil, and has then closed the sinks. A write that the operating
// system does not give back, as to a terminal that was stopped, is left behind
// a second after the time for stopping is up.
func (p *Publisher) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := context.AfterFunc(ctx, p.end)
	defer stop()
	var wg sync.WaitGroup
	for _, q := range p.queues {
		if r, ok := q.sink.(runner); ok {
			wg.Go(func() {
				if err := r.Run(work); err != nil {
					p.log.Error("sink ended", "sink", q.sink.Name(), "err", err)
				}
			})
		}
		wg.Go(func() { q.run(p.stopping, p.aborting) })
	}
	done := make(chan struct{})
	go func() {
		for _, q := range p.queues {
			<-q.finished
		}
		cancel() // the sinks' own work ends after the last delivery
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-p.aborting:
	}
	p.settleAll()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	return nil
}

// Stop takes no more records, delivers and flushes what is queued until ctx
// ends, counts the rest as dropped, and makes Run return. The error is ctx's
// when something was dropped.
func (p *Publisher) Stop(ctx context.Context) error {
	p.stopOnce.Do(func() {
		for _, q := range p.queues {
			q.refuse()
		}
		close(p.stopping)
	})
	for _, q := range p.queues {
		select {
		case <-q.finished:
		case <-p.aborting:
		case <-ctx.Done():
			// Counted before end, as Run counts them too once it is told.
			n := p.settleAll()
			p.end()
			if n+p.settleAll() > 0 {
				return ctx.Err()
			}
			return nil
		}
	}
	p.settleAll()
	return nil
}

// end is the end of the time for delivering.
func (p *Publisher) end() {
	p.abort.Do(func() {
		for _, q := range p.queues {
			q.refuse()
		}
		close(p.aborting)
	})
}

// settleAll counts everything that is not done as stopped.
func (p *Publisher) settleAll() (n int) {
	for _, q := range p.queues {
		n += q.settleAll()
	}
	return n
}

// Flush waits until every record published before is done, or ctx ends. Run
// must be running.
func (p *Publisher) Flush(ctx context.Context) error {
	for _, q := range p.queues {
		if err := q.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Ready is nil when every sink that knows whether it is connected is, else the
// first reason.
func (p *Publisher) Ready() error {
	for _, q := range p.queues {
		if s, ok := q.sink.(interface{ Ready() error }); ok {
			if err := s.Ready(); err != nil {
				return fmt.Errorf("sink %s: %w", q.sink.Name(), err)
			}
		}
	}
	return nil
}

// SinkStats is the deliveries line of one sink for one kind of records. At any
// moment Published = Suppressed + the sum of Results + InFlight.
type SinkStats struct {
	Sink   string
	Record redact.Kind
	// Published is how many records were handed to Publish or PublishWindow, or
	// to Admit and refused there.
	Published uint64
	// Suppressed is how many the cap per fingerprint held back.
	Suppressed uint64
	// Spooled is how many went to disk for a later run.
	Spooled uint64
	// Results are the others by what became of them.
	Results [NumResults]uint64
	// InFlight is how many are queued or not acknowledged yet.
	InFlight uint64
}

// Dropped is the sum over the reasons.
func (s *SinkStats) Dropped() (n uint64) {
	for r := Acknowledged + 1; r < NumResults; r++ {
		n += s.Results[r]
	}
	return n
}

// Each calls fn for every count of the ledger's line, from zero on: the result
// label, the reason label and the count.
func (s *SinkStats) Each(fn func(result, reason string, n uint64)) {
	fn("acknowledged", "", s.Results[Acknowledged])
	fn("spooled", "", s.Spooled)
	fn("suppressed", "", s.Suppressed)
	for r := Acknowledged + 1; r < NumResults; r++ {
		fn("dropped", r.String(), s.Results[r])
	}
}

// Stats is a snapshot of the deliveries lines, in the order of Config.Sinks and
// of the kinds that each takes. The caller owns it.
func (p *Publisher) Stats() []SinkStats {
	var out []SinkStats
	for _, q := range p.queues {
		out = append(out, q.stats()...)
	}
	return out
}
