package publish

import (
	"context"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
)

// queue is the way to one sink: a bounded channel, the records on their way,
// and the counts.
type queue struct {
	sink     Sink
	ch       chan *delivery
	maxBytes int64
	// finished is closed when run has ended.
	finished chan struct{}

	mu       sync.Mutex
	bytes    int64 // in ch
	refusing bool
	flying   map[*delivery]struct{}
	counts   SinkStats
}

// delivery is one record on its way to one sink.
type delivery struct {
	rec  *redact.Record
	size int64
	// waiters are told when it is done. Guarded by the queue's mu.
	waiters []*waiter
}

// waiter waits for a number of deliveries.
type waiter struct {
	left int
	done chan struct{}
}

func newQueue(s Sink, records int, bytes int64) *queue {
	return &queue{
		sink:     s,
		ch:       make(chan *delivery, records),
		maxBytes: bytes,
		finished: make(chan struct{}),
		flying:   map[*delivery]struct{}{},
		counts:   SinkStats{Sink: s.Name()},
	}
}

func (q *queue) suppress() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Published++
	q.counts.Suppressed++
}

// put queues a record or counts why not.
func (q *queue) put(rec *redact.Record) {
	size := rec.Size()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts.Published++
	switch {
	case q.refusing:
		q.counts.Results[Stopped]++
	case len(q.ch) == cap(q.ch) || q.bytes > 0 && q.bytes+size > q.maxBytes:
		q.counts.Results[QueueFull]++
	default:
		d := &delivery{rec: rec, size: size}
		q.flying[d] = struct{}{}
		q.bytes += size
		q.counts.InFlight++
		q.ch <- d // has room: only put sends, under mu
	}
}

// run delivers until stopping, then what is still queued, and flushes; aborting
// ends it at once.
func (q *queue) run(stopping, aborting <-chan struct{}) {
	defer close(q.finished)
	ended := make(chan struct{})
	defer close(ended)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-aborting:
			cancel()
			// Another goroutine than this one may hang in a write.
			q.sink.Close()
		case <-ended:
		}
	}()
	defer q.sink.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-q.ch:
			q.deliver(d)
			continue
		case <-stopping:
		}
		break
	}
	for ctx.Err() == nil {
		select {
		case d := <-q.ch:
			q.deliver(d)
			continue
		default:
		}
		break
	}
	if q.sink.Flush(ctx) == nil {
		_ = q.wait(ctx) // for acknowledgements on their way; the error is ctx's
	}
}

func (q *queue) deliver(d *delivery) {
	q.mu.Lock()
	q.bytes -= d.size
	_, flying := q.flying[d]
	rec := d.rec
	d.rec = nil // a sink that buffers keeps its own form of it
	q.mu.Unlock()
	if flying {
		q.sink.Deliver(rec, func(r Result) { q.settle(d, r) })
	}
}

// settle counts what became of a delivery, once.
func (q *queue) settle(d *delivery, r Result) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.settleLocked(d, r)
}

func (q *queue) settleLocked(d *delivery, r Result) {
	if _, ok := q.flying[d]; !ok {
		return
	}
	delete(q.flying, d)
	q.counts.InFlight--
	q.counts.Results[r]++
	for _, w := range d.waiters {
		if w.left--; w.left == 0 {
			close(w.done)
		}
	}
}

// settleAll counts everything on its way as stopped.
func (q *queue) settleAll() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.flying)
	for d := range q.flying {
		q.settleLocked(d, Stopped)
	}
	return n
}

func (q *queue) refuse() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refusing = true
}

// wait waits until what is on its way now is done. The sink is flushed again
// and again, because what is queued reaches it only bit by bit.
func (q *queue) wait(ctx context.Context) error {
	q.mu.Lock()
	n := len(q.flying)
	w := &waiter{left: n, done: make(chan struct{})}
	for d := range q.flying {
		d.waiters = append(d.waiters, w)
	}
	q.mu.Unlock()
	if n == 0 {
		return nil
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-w.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
			_ = q.sink.Flush(ctx) // its error is ctx's, seen above
		}
	}
}

func (q *queue) stats() SinkStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.counts
}
