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
	// room is told when a record has left ch.
	room chan struct{}

	mu       sync.Mutex
	bytes    int64 // in ch
	refusing bool
	flying   map[*delivery]struct{}
	counts   [redact.NumKinds]SinkStats
}

// delivery is one record on its way to one sink.
type delivery struct {
	rec  *redact.Record
	kind redact.Kind
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
	q := &queue{
		sink:     s,
		ch:       make(chan *delivery, records),
		maxBytes: bytes,
		finished: make(chan struct{}),
		room:     make(chan struct{}, 1),
		flying:   map[*delivery]struct{}{},
	}
	for k := range redact.NumKinds {
		q.counts[k] = SinkStats{Sink: s.Name(), Record: k}
	}
	return q
}

func (q *queue) suppress() {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &q.counts[redact.KindDivergence]
	c.Published++
	c.Suppressed++
}

// put queues a record that the sink takes, or counts why not.
func (q *queue) put(rec *redact.Record) {
	if q.sink.Takes(rec.Kind()) {
		q.offer(rec, true)
	}
}

// putWaiting is put that waits for room until ctx ends.
func (q *queue) putWaiting(ctx context.Context, rec *redact.Record) {
	if !q.sink.Takes(rec.Kind()) {
		return
	}
	for !q.offer(rec, ctx.Err() != nil) {
		select {
		case <-q.room:
		case <-q.finished: // nobody makes room any more
			q.offer(rec, true)
			return
		case <-ctx.Done():
		}
	}
}

// offer queues a record. Where there is no room it says false, or when that was
// the last try counts it as dropped.
func (q *queue) offer(rec *redact.Record, last bool) bool {
	size := rec.Size()
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &q.counts[rec.Kind()]
	switch {
	case q.refusing:
		c.Results[Stopped]++
	case len(q.ch) == cap(q.ch) || q.bytes > 0 && q.bytes+size > q.maxBytes:
		if !last {
			return false
		}
		c.Results[QueueFull]++
	default:
		d := &delivery{rec: rec, kind: rec.Kind(), size: size}
		q.flying[d] = struct{}{}
		q.bytes += size
		c.InFlight++
		q.ch <- d // has room: only offer sends, under mu
	}
	c.Published++
	return true
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
	select {
	case q.room <- struct{}{}:
	default:
	}
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
	c := &q.counts[d.kind]
	c.InFlight--
	c.Results[r]++
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

// stats has the lines of the kinds that the sink takes.
func (q *queue) stats() (out []SinkStats) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k := range redact.NumKinds {
		if q.sink.Takes(k) {
			out = append(out, q.counts[k])
		}
	}
	return out
}
