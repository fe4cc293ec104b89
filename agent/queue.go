package agent

import (
	"context"
	"sync"

	"github.com/shadowtap/shadowtap/agent/recording"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// queue holds the events of a capture in their order while replays of several
// are under way. One goroutine puts, one admits, one takes, any settles.
type queue struct {
	entries int   // the most
	bytes   int64 // of bodies and heads; answers may bring it above

	mu    sync.Mutex
	moved sync.Cond
	list  []*entry
	// admitted is how many from the front on have been through admission.
	admitted int
	held     int64
	closed   bool
	of       map[*exchange.Exchange]*entry
}

// entry is an event with what the comparisons of its pairs came to, in the same
// order.
type entry struct {
	recording.Event
	results []*judged
	open    int // pairs of which it is not known yet, or that are asked once more
	held    int64
}

func newQueue(entries int, bytes int64) *queue {
	q := &queue{entries: entries, bytes: bytes, of: map[*exchange.Exchange]*entry{}}
	q.moved.L = &q.mu
	return q
}

// put adds an event behind the others, and waits for room as long as ctx lives.
func (q *queue) put(ctx context.Context, e *entry) {
	e.open, e.results = len(e.Pairs), make([]*judged, len(e.Pairs))
	if e.Exchange != nil {
		q := e.Exchange.Request
		e.held = int64(len(q.Head)+cap(q.Wire)+cap(q.Body.Bytes)) + int64(cap(e.Exchange.Response.Body.Bytes))
	}
	stop := context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.moved.Broadcast()
	})
	defer stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	for ctx.Err() == nil && len(q.list) > 0 && (len(q.list) >= q.entries || q.held+e.held > q.bytes) {
		q.moved.Wait()
	}
	q.list = append(q.list, e)
	q.held += e.held
	if e.open > 0 {
		q.of[e.Exchange] = e
	}
	q.moved.Broadcast()
}

// pair finds what was put.
func (q *queue) pair(x *exchange.Exchange, experiment int) (*entry, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.of[x]
	for k := range e.Pairs {
		if e.Pairs[k].Experiment == experiment {
			return e, k
		}
	}
	return nil, 0
}

// settle says what became of a pair.
func (q *queue) settle(x *exchange.Exchange, experiment int, r replay.Result, o *replay.Outcome, res *judged) {
	e, k := q.pair(x, experiment)
	q.mu.Lock()
	defer q.mu.Unlock()
	e.Pairs[k].Result, e.Pairs[k].Outcome, e.results[k] = r, o, res
	q.hold(e, o)
	if o != nil && o.Control != nil {
		q.hold(e, o.Control.Outcome)
	}
	if e.open--; e.open == 0 {
		delete(q.of, x)
		q.moved.Broadcast()
	}
}

// hold counts an answer. It is called with mu held.
func (q *queue) hold(e *entry, o *replay.Outcome) {
	if o != nil && o.Response != nil {
		n := int64(cap(o.Response.Body.Bytes))
		e.held += n
		q.held += n
	}
}

// settled gives the next event to admit once all of its pairs are settled; nil
// behind the last one. admit must follow.
func (q *queue) settled() *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == q.admitted && !q.closed || len(q.list) > q.admitted && q.list[q.admitted].open > 0 {
		q.moved.Wait()
	}
	if len(q.list) == q.admitted {
		return nil
	}
	return q.list[q.admitted]
}

// admit lets the event of settled be taken once again was called for so many of
// its pairs.
func (q *queue) admit(e *entry, open int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.open = open
	q.admitted++
	q.moved.Broadcast()
}

// again says what came of asking once more.
func (q *queue) again(e *entry, pair int, a *replay.Again) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.Pairs[pair].Again = a
	q.hold(e, a.Candidate)
	q.hold(e, a.Control)
	e.open--
	q.moved.Broadcast()
}

// stale is what was found of a pair before it was put.
func (q *queue) stale(x *exchange.Exchange, experiment int) bool {
	e, k := q.pair(x, experiment)
	return e.Pairs[k].Stale
}

// close says that nothing more comes.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.moved.Broadcast()
}

// take gives the next event that was admitted once all of it is known; nil
// behind the last one.
func (q *queue) take() *entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 && !q.closed || len(q.list) > 0 && (q.admitted == 0 || q.list[0].open > 0) {
		q.moved.Wait()
	}
	if len(q.list) == 0 {
		return nil
	}
	e := q.list[0]
	q.list[0] = nil
	q.list = q.list[1:]
	q.admitted--
	q.held -= e.held
	q.moved.Broadcast()
	return e
}
