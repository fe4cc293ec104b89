package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/agent/crash"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"golang.org/x/net/http2/hpack"
)

// bufferSize is that of the one buffer of a replay: the request is put
// together in it, then the answer is read into it.
const bufferSize = 64 << 10

// job is one replay.
type job struct {
	x *exchange.Exchange
	// life is ended when the replay is given up.
	life context.Context
	// report tells the breaker; nil without one.
	report func(error)
	// held is what it takes of Config.Memory.
	held int64
	// meet is set when x goes to candidate and control, and leg says which of
	// them this job asks.
	meet *meeting
	leg  leg
	// then gets the outcome in Done's stead: of what was not submitted but
	// asked. It may hold nothing of Config.Memory but the answer, which is the
	// callee's to give back.
	then func(o *Outcome)
}

// worker is one goroutine that replays one exchange after the other, and owns
// at most one connection of each protocol. Idle workers are taken last in, first out, so that
// few connections are kept warm.
type worker struct {
	r *Replayer
	// jobs has room for one, so that Submit never waits. Closed: end.
	jobs chan job
	// since is when the worker became idle; guarded by r.mu.
	since  time.Time
	parser *http1.ResponseParser
	// For HTTP/2: the fields of a request.
	list, trailer []hpack.HeaderField

	mu    sync.Mutex // guards the pointers
	conn  *conn
	http2 *http2Conn
}

func newWorker(r *Replayer) *worker {
	return &worker{
		r: r, jobs: make(chan job, 1),
		parser: http1.NewResponseParser(http1.ResponseConfig{MaxBody: r.config.MaxBody}),
	}
}

func (w *worker) run() {
	defer w.r.left(w)
	defer func() {
		// Idle connections are closed; nothing can be lost with them.
		if c := w.take(nil); c != nil {
			_ = c.Close()
		}
		if c := w.takeHTTP2(nil); c != nil {
			_ = c.Close()
		}
	}()
	for j := range w.jobs {
		if !w.do(j) {
			return
		}
	}
}

// do replays one exchange and says whether the worker goes on.
func (w *worker) do(j job) bool {
	r := w.r
	o := &Outcome{Result: Compared}
	defer func() { r.config.Memory.add(-j.held) }()
	said := errNotSaid
	if err := r.replayable(j.x); err != nil {
		o.fail(ErrorRefused, err)
	} else {
		if j.meet != nil && j.leg == candidateLeg {
			j.meet.askControl()
		}
		sent := true
		deadline := time.Now().Add(r.timeout(j.x))
		switch {
		case j.x.Request.Proto == protoHTTP2:
			sent = w.overHTTP2(j, o, deadline)
		case r.https != nil:
			sent = r.overTLS(j, o, deadline)
		default:
			sent = w.overTCP(j, o, deadline)
		}
		switch {
		case !sent || o.unmet || o.Error != "" && j.life.Err() != nil:
		case o.Error != "":
			said = errFailed
		default:
			said = nil
		}
	}
	if o.Error != "" && j.life.Err() != nil {
		o.Result = Stopped
	}
	if j.report != nil {
		j.report(said)
	}
	if j.meet != nil {
		j.meet.leave(j.leg)
	}
	if o.Start != 0 {
		o.Lag = time.Duration(o.Start - j.x.Request.FirstByte)
	}
	answer := heldByAnswer(o.Response)
	r.config.Memory.add(answer)
	switch {
	case j.then != nil:
		word := o.Error
		j.then(o)
		return r.finished(w, j.x, asked, word)
	case o.Result != Compared:
		j.held += answer
		if j.meet != nil {
			j.meet.candidateStopped()
		}
		return r.finished(w, j.x, o.Result, "")
	case j.meet != nil:
		// Whoever ends last hands the pair to Done.
		held := j.held + answer
		j.held = 0
		if !j.meet.candidateEnded(o, held) || j.meet.repeat() || !r.hand(j.x, j.meet.pair(), j.meet.held) {
			return r.finished(w, j.x, parked, "")
		}
		return r.finished(w, j.x, Compared, o.Error)
	}
	held := j.held + answer
	j.held = 0
	if !r.hand(j.x, o, held) {
		return r.finished(w, j.x, parked, "")
	}
	return r.finished(w, j.x, Compared, o.Error)
}

// replayable refuses what sampling should not have let through.
func (r *Replayer) replayable(x *exchange.Exchange) error {
	q := x.Request
	switch {
	case r.self && x.Flow.Domain != "" && (x.Flow.Server.Addr().IsLoopback() || x.Flow.Server.Addr().IsLinkLocalUnicast()):
		// There it is another server than here.
		return fmt.Errorf("request is not replayed: the captured server is %s in another network namespace", x.Flow.Server.Addr())
	case x.Doubt != exchange.DoubtNone:
		return fmt.Errorf("request is not replayed: %s", x.Doubt)
	case x.Pushed:
		return fmt.Errorf("request is not replayed: %s", exchange.DoubtPushed)
	case x.GRPC != nil && x.GRPC.Kind != exchange.GRPCUnary && x.GRPC.Kind != exchange.GRPCServerStream:
		return fmt.Errorf("request is not replayed: %s", exchange.DoubtGRPCStream)
	case q == nil || q.Proto != protoHTTP2 && q.Head == nil || q.Proto == protoHTTP2 && !q.Body.Truncated && int64(len(q.Body.Bytes)) != q.Body.Size:
		return errors.New("request is not replayed: it was not kept")
	case q.Body.Truncated:
		return errors.New("request is not replayed: its body was not kept whole")
	}
	return nil
}

// framed compares what the head says of the body with the body's bytes.
func framed(h *rewritten, q *exchange.Request) error {
	switch {
	case h.chunked && (q.Framing != exchange.FramingChunked || len(q.Wire) == 0),
		!h.chunked && int64(len(q.Wire)) != max(h.length, 0):
		return errFraming
	}
	return nil
}

// take replaces the worker's connection and returns the former.
func (w *worker) take(c *conn) *conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.conn
	w.conn = c
	return old
}

// drop aborts the worker's connection.
func (w *worker) drop() {
	if c := w.take(nil); c != nil {
		c.abort()
	}
}

// begin sets the deadline of a job that was not given up yet.
func (w *worker) begin(c *conn, j job, deadline time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := j.life.Err(); err != nil {
		return err
	}
	return c.SetDeadline(deadline)
}

// interrupt ends the waits of the worker's job; begin does not undo it, as the
// job's life has ended before.
func (w *worker) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	// A connection that has no deadlines any more is closed.
	if w.conn != nil {
		_ = w.conn.SetDeadline(time.Unix(1, 0))
	}
	if w.http2 != nil {
		_ = w.http2.conn.SetDeadline(time.Unix(1, 0))
	}
}

// overTCP replays over the worker's own connection. It returns false when
// nothing was tried, because the request must not be replayed.
func (w *worker) overTCP(j job, o *Outcome, deadline time.Time) bool {
	r := w.r
	buf := r.buffers.Get().(*[bufferSize]byte)
	defer r.buffers.Put(buf)
	for try := 0; ; try++ {
		// Each try puts the request together anew: it was read over.
		var h rewritten
		request, err := r.rewrite.rewrite(buf[:0], j.x.Request.Head, &h)
		if err == nil {
			err = framed(&h, j.x.Request)
		}
		if err != nil {
			o.fail(ErrorRefused, err)
			return false
		}
		if try == 0 {
			o.TraceID = h.trace.captured()
		}
		o.FreshTraceID = h.trace.fresh()
		c, err := w.connect(j, o, deadline)
		if err != nil {
			return true
		}
		if !j.arrive(o) {
			if !c.used {
				w.drop()
			}
			return false
		}
		if !w.attempt(c, j, o, buf, request, &h, deadline) {
			return true
		}
		// The next one is new, and for a new one attempt never says so.
		r.counts.retried.Add(1)
		o.Error, o.Detail, o.Start, o.LastByte = "", "", 0, 0
	}
}

// connect returns the worker's connection, opened if need be.
func (w *worker) connect(j job, o *Outcome, deadline time.Time) (*conn, error) {
	begin := time.Now()
	to := w.r.addressOf(j.x)
	if c := w.conn; c != nil { // only this goroutine writes the pointer
		idle := c.idle()
		if idle && c.to == to {
			o.Reused, o.Address, o.MinRTT = true, c.peer, c.roundTrip(begin)
			return c, nil
		}
		if !idle {
			w.r.counts.stale.Add(1)
		}
		w.drop()
	}
	ctx, cancel := context.WithDeadline(j.life, deadline)
	defer cancel()
	c, err := w.r.dialer.dial(ctx, to)
	o.Setup += time.Since(begin)
	if err != nil {
		var d *dialError
		errors.As(err, &d)
		o.fail(d.word, err)
		return nil, err
	}
	o.Reused, o.Address, o.MinRTT = false, c.peer, 0
	w.take(c)
	return c, nil
}

// attempt writes the request and reads the answer. It says true when the
// connection was an old one and ended before the first byte, so that the
// request may be tried once more on a new one.
func (w *worker) attempt(c *conn, j job, o *Outcome, buf *[bufferSize]byte, request []byte, h *rewritten, deadline time.Time) (again bool) {
	r := w.r
	if err := w.begin(c, j, deadline); err != nil {
		w.drop()
		o.fail(ErrorClosed, err)
		return false
	}
	if c.used {
		r.counts.reused.Add(1)
	}
	p := w.parser
	p.Reset(j.x.Request.Method)
	limit := r.config.MaxAnswer
	if x := j.x.Response; x != nil {
		limit = max(limit, 2*x.Body.Size)
	}

	start := time.Now()
	o.Start = start.UnixNano()
	var writing *writing
	body := j.x.Request.Wire
	if len(request)+len(body) <= bufferSize {
		request = append(request, body...)
		n, err := c.Write(request)
		r.counts.sent.Add(uint64(n))
		if err != nil && !isClosed(err) {
			return w.broke(c, o, start, false, "write request", err)
		}
		// A peer that closed may have answered before it did.
	} else {
		// A peer may answer while it reads: both directions at once, the
		// request from a buffer of its own.
		writing = r.write(c, request, body)
	}
	j.meet.sent(j.leg)

	var read, head int64
	for {
		n, err := c.Read(buf[:])
		now := o.Start + int64(time.Since(start))
		if n > 0 {
			read += int64(n)
			r.counts.received.Add(uint64(n))
			used, done, perr := p.Feed(buf[:n], now)
			if head == 0 && p.Response() != nil {
				head = now
			}
			switch {
			case perr != nil:
				writing.abort(c)
				o.LastByte = now
				w.drop()
				// The parser has an answer as soon as its head is whole.
				word := ErrorProtocol
				if p.Response() != nil {
					word = ErrorBody
				}
				o.fail(word, perr)
				return false
			case done:
				w.answered(c, o, p, head, writing, used == n && !h.http10)
				return false
			case read > limit:
				writing.abort(c)
				o.LastByte = now
				w.drop()
				o.fail(ErrorTooLarge, fmt.Errorf("answer goes on after %d bytes", read))
				return false
			}
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			done, perr := p.EOF(now)
			if done && perr == nil {
				w.answered(c, o, p, head, writing, false)
				return false
			}
		}
		writing.abort(c)
		return w.broke(c, o, start, p.Started(), "read answer", err)
	}
}

// answered ends an attempt whose answer is whole. head is when its final head
// was.
func (w *worker) answered(c *conn, o *Outcome, p *http1.ResponseParser, head int64, writing *writing, reusable bool) {
	// Bytes after the answer, or an answer to a request that was not read to
	// its end: what comes next on this connection could be anything.
	whole := writing.finish(c)
	if reusable = reusable && whole && p.KeepAlive(); reusable {
		c.used = true
	} else if whole {
		w.take(nil)
		// The answer is whole; how the connection ends changes nothing.
		_ = c.Close()
	} else {
		w.drop()
	}
	o.Response = p.Response()
	if len(o.Response.Interim) > 0 {
		// The parser's time is the interim answer's.
		o.Response.FirstByte = head
	}
	o.FirstByte, o.LastByte = o.Response.FirstByte, o.Response.LastByte
}

// broke ends an attempt that failed in the connection.
func (w *worker) broke(c *conn, o *Outcome, start time.Time, begun bool, what string, err error) (again bool) {
	o.LastByte = o.Start + int64(time.Since(start))
	again = c.used && !begun && isClosed(err)
	w.drop()
	word := ErrorClosed
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		word = ErrorTimeout
	case begun && w.parser.Response() != nil:
		word = ErrorBody
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	o.fail(word, fmt.Errorf("%s: %w", what, err))
	return again
}

// writing is a large request on its way, from a goroutine of its own.
type writing struct {
	ended chan struct{}
	ok    bool // valid when ended is closed
}

// write begins to write head and body. head lies in the buffer of the reader
// and is copied first.
func (r *Replayer) write(c *conn, head, body []byte) *writing {
	t := &writing{ended: make(chan struct{})}
	buf := r.buffers.Get().(*[bufferSize]byte)
	b := append(buf[:0], head...)
	if len(b) < bufferSize {
		n := copy(buf[len(b):], body)
		b, body = buf[:len(b)+n], body[n:]
	}
	go func() {
		defer crash.Guard()
		defer close(t.ended)
		defer r.buffers.Put(buf)
		n, err := c.Write(b)
		r.counts.sent.Add(uint64(n))
		if err == nil && len(body) > 0 {
			n, err = c.Write(body)
			r.counts.sent.Add(uint64(n))
		}
		t.ok = err == nil
	}()
	return t
}

// answeredEarly is how long the rest of a request may take to be written after
// the answer was read to its end.
const answeredEarly = 20 * time.Millisecond

// finish waits a little for the write and says whether all went to the peer.
func (t *writing) finish(c *conn) bool {
	if t == nil {
		return true
	}
	// On a connection that has no deadlines any more the write has ended.
	_ = c.SetWriteDeadline(time.Now().Add(answeredEarly))
	<-t.ended
	return t.ok && c.delivered()
}

// abort ends the write with the connection and waits for its goroutine.
func (t *writing) abort(c *conn) {
	if t == nil {
		return
	}
	c.abort()
	<-t.ended
}
