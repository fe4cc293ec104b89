package replay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/crash"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"
)

// MaxTimeout bounds the timeout of one replay, whatever the reference took.
const MaxTimeout = 30 * time.Second

// Config says where one experiment's requests are replayed, and how. It is
// not changed after New.
type Config struct {
	// Experiment names the experiment in Stats and logs. Required.
	Experiment string
	// Role is "candidate" or "control": the value of the role header. Required.
	Role string
	// URL is http or https, a host and a port, without a path. Required.
	URL string
	// TLS is for https only.
	TLS TLS
	// Host is "keep" (the default): Host as captured; or "candidate": the
	// host and port of URL.
	Host string
	// Trace is "fresh" (the default): a request that carries traceparent or
	// b3 fields gets new trace and span ids, and loses tracestate; or "keep".
	Trace string
	// Credentials: see there. "" means CredentialsForward.
	Credentials Credentials
	// Timeout bounds one replay, from connect to the answer's last byte. A
	// reference that took longer than half of it doubles its own time
	// instead, up to MaxTimeout. Zero means 2s; at most MaxTimeout.
	Timeout time.Duration
	// MaxInFlight bounds the replays under way, and so connections and
	// goroutines. Zero means 64. Beyond it exchanges wait, at most 4 x
	// MaxInFlight and none longer than 100 ms, as captured ones come in bursts
	// that the traffic did not have; all others are shed. Memory is about
	// MaxInFlight x (2 x MaxBody + 192 KiB) when all answers are as large as
	// can be.
	MaxInFlight int
	// Memory bounds the bodies that are held, with other Replayers that have
	// the same; beyond it exchanges are shed too. Nil means no bound but
	// MaxInFlight.
	Memory *Memory
	// MaxRate is the number of replays per second, with bursts of a tenth of a
	// second. Zero means unlimited.
	MaxRate float64
	// Breaker leaves a sick target alone.
	Breaker Breaker
	// Patience is for SubmitWait: how long it waits for a target that the
	// breaker leaves alone. Zero means 30s.
	Patience time.Duration
	// MaxBody is how many bytes of an answer's body are kept; all are
	// digested. Zero means 1 MiB.
	MaxBody int64
	// MaxAnswer is how many bytes of an answer are read at all, its framing
	// included, unless the reference's body was larger: then twice that. Zero
	// means 64 MiB or 16 x MaxBody, whichever is more.
	MaxAnswer int64
	// IdleTimeout is how long a connection without a request stays open. Zero
	// means 15s.
	IdleTimeout time.Duration
	// OwnReplay learns the local addresses of replays. Nil: none is told.
	OwnReplay OwnReplay
	// Resolve finds the addresses of the URL's host. Nil means the system's
	// resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Control is asked beside URL, for a share of the exchanges. Nil: none.
	Control *Control
	// Log is told when the breaker changes. Required.
	Log *slog.Logger
	// Done is called once for each exchange whose result is Compared, from
	// the goroutine that replayed it, several at a time; where the control is
	// asked too, once both have ended. Until it returns the replay is in
	// flight. The Outcome is the callee's. Required.
	Done func(x *exchange.Exchange, o *Outcome)
	// Skipped is called once for each exchange with any other result, from any
	// goroutine, among them that of Submit. It must return at once and call
	// nothing of the Replayer but Chosen. Nil: nobody is told.
	Skipped func(x *exchange.Exchange, result Result)
}

// Replayer replays the exchanges of one experiment to one target. All methods
// may be called from any goroutine.
type Replayer struct {
	config  Config
	target  *target
	rewrite *rewriter
	dialer  *dialer
	// https keeps connections; httpsNew makes one for each request, for the
	// second try. Both are nil for http.
	https, httpsNew *http.Transport
	// tls is for HTTP/2 over https.
	tls     *tls.Config
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	limiter *rate.Limiter // nil: unlimited
	counts  connCounts
	buffers sync.Pool
	// control asks the control, nil without one; pairs counts then.
	control *Replayer
	pairs   *pairs
	// self says that the target is the captured server.
	self bool

	breakerOpened atomic.Uint64
	// unarmed counts those of again that wait for Done to return.
	unarmed atomic.Int32
	// changes tells Run to log; a state that passes in between is not logged.
	changes chan struct{}
	// stopped is closed by Stop, drained when after it no worker is left.
	stopped, drained chan struct{}
	// due has room for those of AgainWait that are being asked.
	due chan struct{}

	mu       sync.Mutex // guards all below
	running  bool
	stopping bool
	paused   bool
	// life is cancelled by Cancel and then replaced.
	life     context.Context
	end      context.CancelFunc
	selected uint64
	results  [NumResults]uint64
	errors   [len(errorWords)]uint64
	inFlight int // with a worker
	// asked of them were not submitted and are in no result; parked have ended
	// and wait for the control, or to be asked again.
	asked, parked int
	again         map[*Outcome]*again // by the replay's
	// waiting are taken and have no worker yet, the oldest first. While there
	// are any, MaxInFlight replays have one, and late is set.
	waiting []waiting
	late    *time.Timer
	// patient counts those that SubmitWait holds back; freed tells it that
	// something has ended. refused is since when the breaker holds it back, zero
	// when the target has answered since.
	patient int
	freed   chan struct{}
	refused time.Time
	// workers are all, idle those without a job; the last one rested least.
	workers map[*worker]struct{}
	idle    []*worker
}

// New checks the configuration and starts nothing. The caller calls Run once,
// which waits for what Submit starts.
func New(c Config) (*Replayer, error) {
	r, err := newReplayer(c, false)
	if err != nil || c.Control == nil {
		return r, err
	}
	if r.control, err = newControl(r.config); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	r.pairs = &pairs{ends: make([]uint64, len(pairEnds))}
	return r, nil
}

// newReplayer makes one without a control. With self the target is that of each
// exchange.
func newReplayer(c Config, self bool) (*Replayer, error) {
	t := &target{}
	if !self {
		var err error
		if t, err = parseTarget(c.URL); err != nil {
			return nil, fmt.Errorf("url: %w", err)
		}
	}
	if c.Experiment == "" {
		return nil, errors.New("experiment: empty")
	}
	if c.Role != "candidate" && c.Role != "control" {
		return nil, fmt.Errorf("role: %q is neither candidate nor control", c.Role)
	}
	setDefault(&c.Host, "keep")
	if c.Host != "keep" && c.Host != "candidate" {
		return nil, fmt.Errorf("host: %q is neither keep nor candidate", c.Host)
	}
	setDefault(&c.Trace, "fresh")
	if c.Trace != "fresh" && c.Trace != "keep" {
		return nil, fmt.Errorf("trace: %q is neither fresh nor keep", c.Trace)
	}
	setDefault(&c.Credentials, CredentialsForward)
	switch c.Credentials {
	case CredentialsForward, CredentialsStrip, CredentialsForwardAnywhere:
	default:
		return nil, fmt.Errorf("credentials: %q is neither forward, strip nor forward-anywhere", c.Credentials)
	}
	mustBeNear := c.Credentials == CredentialsForward && !t.https
	if mustBeNear && t.addr.IsValid() && !near(t.addr) {
		return nil, fmt.Errorf("url: %s: %w", t.addr, errNotNear)
	}
	setDefault(&c.Timeout, 2*time.Second)
	if c.Timeout < 0 || c.Timeout > MaxTimeout {
		return nil, fmt.Errorf("timeout: %v is not between 0 and %v", c.Timeout, MaxTimeout)
	}
	setDefault(&c.MaxInFlight, 64)
	if c.MaxInFlight < 0 {
		return nil, fmt.Errorf("max in flight: %d is negative", c.MaxInFlight)
	}
	if c.MaxRate < 0 || math.IsNaN(c.MaxRate) || math.IsInf(c.MaxRate, 0) {
		return nil, fmt.Errorf("max rate: %v is not a rate", c.MaxRate)
	}
	if err := c.Breaker.defaults(); err != nil {
		return nil, err
	}
	setDefault(&c.Patience, 30*time.Second)
	if c.Patience < 0 {
		return nil, fmt.Errorf("patience: %v is negative", c.Patience)
	}
	setDefault(&c.MaxBody, 1<<20)
	if c.MaxBody < 0 || c.MaxBody > 1<<40 {
		return nil, fmt.Errorf("max body: %d is not between 0 and 1 TiB", c.MaxBody)
	}
	setDefault(&c.MaxAnswer, max(64<<20, 16*c.MaxBody))
	if c.MaxAnswer < c.MaxBody {
		return nil, fmt.Errorf("max answer: %d is below max body, %d", c.MaxAnswer, c.MaxBody)
	}
	setDefault(&c.IdleTimeout, 15*time.Second)
	if c.IdleTimeout < 0 {
		return nil, fmt.Errorf("idle timeout: %v is negative", c.IdleTimeout)
	}
	if c.Log == nil {
		return nil, errors.New("log: nil")
	}
	if c.Done == nil {
		return nil, errors.New("done: nil")
	}
	if c.Resolve == nil {
		c.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}

	host := ""
	if c.Host == "candidate" {
		host = t.authority
	}
	r := &Replayer{
		config:  c,
		target:  t,
		rewrite: newRewriter(c.Role, host, c.Trace == "fresh", c.Credentials == CredentialsStrip),
		changes: make(chan struct{}, 1),
		stopped: make(chan struct{}),
		drained: make(chan struct{}),
		freed:   make(chan struct{}, 1),
		due:     make(chan struct{}, c.MaxInFlight),
		workers: make(map[*worker]struct{}),
		again:   make(map[*Outcome]*again),
		self:    self,
	}
	r.buffers.New = func() any { return new([bufferSize]byte) }
	r.dialer = &dialer{
		addresses: &addresses{target: t, near: mustBeNear, lookup: c.Resolve},
		own:       c.OwnReplay,
		counts:    &r.counts,
		dialTCP:   dialTCP,
	}
	if t.https {
		var err error
		if r.https, err = newTransport(r); err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		r.httpsNew = r.https.Clone()
		r.httpsNew.DisableKeepAlives = true
	} else if c.TLS != (TLS{}) {
		return nil, errors.New("tls: the url is not https")
	}
	if c.MaxRate > 0 {
		r.limiter = rate.NewLimiter(rate.Limit(c.MaxRate), max(1, int(math.Ceil(min(c.MaxRate/10, 1e9)))))
	}
	r.breaker = c.Breaker.new(c.Experiment, r.breakerChanged)
	r.life, r.end = context.WithCancel(context.Background())
	return r, nil
}

// breakerChanged may run inside Submit, which must not wait for a log.
func (r *Replayer) breakerChanged(_, to gobreaker.State) {
	if to == gobreaker.StateOpen {
		r.breakerOpened.Add(1)
	}
	select {
	case r.changes <- struct{}{}:
	default:
	}
}

// How long an exchange may wait for a worker, and how many for each of
// MaxInFlight. A reader of packets hands out together what came within some
// milliseconds, and on a busy machine within some tens of them.
const (
	longestWait = 100 * time.Millisecond
	waitingFor  = 4
)

// waiting is a job that has no worker yet.
type waiting struct {
	job
	since time.Time
}

// Submit takes an exchange to replay. It never waits. The exchange is frozen
// and is shared until the replay ends. It ends in exactly one result: Compared
// by a call of Done, any other by one of Skipped.
func (r *Replayer) Submit(x *exchange.Exchange) {
	j := job{x: x, held: heldBy(x)}
	if r.Chosen(x) {
		j.meet = newMeeting(r, x)
		r.pairs.begin()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.selected++
	if r.stopping || r.paused {
		j.held = 0 // was not taken
		r.drop(&j, Stopped)
		return
	}
	if r.inFlight >= r.config.MaxInFlight {
		r.dropLate(time.Now())
	}
	full := r.inFlight >= r.config.MaxInFlight
	j.life = r.life
	if full && len(r.waiting) >= waitingFor*r.config.MaxInFlight || !r.config.Memory.take(j.held) {
		j.held = 0
		r.drop(&j, Shed)
		return
	}
	if full {
		r.waiting = append(r.waiting, waiting{j, time.Now()})
		if r.late == nil {
			r.late = time.AfterFunc(longestWait, r.tooLate)
		}
		return
	}
	if why := r.admit(&j); why != Compared {
		r.drop(&j, why)
		return
	}
	r.begin(j)
}

// ask replays at once what was not submitted, where there is room. Compared
// means that it has begun, and that j.then will be called; else it is why not.
func (r *Replayer) ask(j job) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopping || r.paused:
		return Stopped
	case r.inFlight >= r.config.MaxInFlight:
		return Shed
	}
	j.life = r.life
	if why := r.admit(&j); why != Compared {
		return why
	}
	r.asked++
	r.begin(j)
	return Compared
}

// begin gives a job that was admitted to a worker.
func (r *Replayer) begin(j job) {
	var w *worker
	if n := len(r.idle); n > 0 {
		w, r.idle[n-1] = r.idle[n-1], nil
		r.idle = r.idle[:n-1]
	} else {
		w = newWorker(r)
		r.workers[w] = struct{}{}
		go func() {
			defer crash.Guard()
			w.run()
		}()
	}
	// A worker has room for one job and is idle only without one.
	w.jobs <- j
}

// admit asks the breaker and the limiter. It counts j as in flight and gives
// Compared, or the result that j has.
func (r *Replayer) admit(j *job) Result {
	if r.breaker != nil {
		var err error
		if j.report, err = r.breaker.Allow(); err != nil {
			return BreakerOpen
		}
	}
	if r.limiter != nil && !r.limiter.Allow() {
		if j.report != nil {
			j.report(errNotSaid)
		}
		return RateLimited
	}
	r.inFlight++
	return Compared
}

// drop counts a job that no worker had, and gives back what it held.
func (r *Replayer) drop(j *job, result Result) {
	r.config.Memory.add(-j.held)
	r.skip(j.x, result)
	if j.meet != nil {
		reason := ReasonCandidate
		if result == Stopped {
			reason = Stopped.String()
		}
		r.pairs.end(PairEnd{PairShed, reason})
	}
}

// skip counts an exchange that is not compared.
func (r *Replayer) skip(x *exchange.Exchange, result Result) {
	r.results[result]++
	if r.config.Skipped != nil {
		r.config.Skipped(x, result)
	}
}

// oldest takes the first of those that wait.
func (r *Replayer) oldest() job {
	j := r.waiting[0].job
	r.waiting[0] = waiting{}
	r.waiting = r.waiting[1:]
	return j
}

// dropLate sheds those that have waited too long.
func (r *Replayer) dropLate(now time.Time) {
	for len(r.waiting) > 0 && now.Sub(r.waiting[0].since) >= longestWait {
		j := r.oldest()
		r.drop(&j, Shed)
	}
}

// tooLate is what the timer calls.
func (r *Replayer) tooLate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.dropLate(now)
	if len(r.waiting) == 0 {
		r.late = nil
		return
	}
	r.late.Reset(r.waiting[0].since.Add(longestWait).Sub(now))
}

// hand gives Done an outcome, and says whether the replay is over with it. What
// it held is given back then; else it is parked, to be asked again.
func (r *Replayer) hand(x *exchange.Exchange, o *Outcome, held int64) bool {
	r.config.Done(x, o)
	if r.arm(o, held) {
		return false
	}
	r.config.Memory.add(-held)
	return true
}

// Beside the results a worker may end a job in two ways that are none.
const (
	// asked: it was not submitted.
	asked = NumResults + iota
	// parked: unpark will be called, or has been.
	parked
)

// compared counts a replay that Done had; word is its error word.
func (r *Replayer) compared(word string) {
	r.results[Compared]++
	if word == "" {
		r.refused = time.Time{}
	}
	if word != "" {
		for i, e := range errorWords {
			if e == word {
				r.errors[i]++
			}
		}
	}
}

// unpark counts what was parked; word is its error word.
func (r *Replayer) unpark(word string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parked--
	r.compared(word)
	r.hasFreed()
	r.atRest()
}

// atRest is called with mu held whenever something has ended.
func (r *Replayer) atRest() {
	if r.stopping && len(r.workers) == 0 && r.parked == 0 {
		close(r.drained)
	}
}

// finished counts a job, gives the worker the next one that waits, and says
// whether it goes on.
func (r *Replayer) finished(w *worker, x *exchange.Exchange, result Result, word string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
	switch result {
	case asked:
		r.asked--
		if word == "" {
			r.refused = time.Time{}
		}
	case parked:
		r.parked++
	case Compared:
		r.compared(word)
	default:
		r.skip(x, result)
	}
	if len(r.waiting) > 0 {
		r.dropLate(time.Now())
	}
	for len(r.waiting) > 0 {
		j := r.oldest()
		why := r.admit(&j)
		if why == Compared {
			w.jobs <- j
			return true
		}
		r.drop(&j, why)
	}
	r.hasFreed()
	if r.stopping {
		return false
	}
	w.since = time.Now()
	r.idle = append(r.idle, w)
	return true
}

// left takes a worker that ended off the list.
func (r *Replayer) left(w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.workers, w)
	r.atRest()
}

// Run closes connections that rest too long, and waits for the workers. It
// returns nil after Stop, when nothing is in flight any more. When ctx ends it
// stops too and gives up what is still in flight (result stopped), within a
// second if Done does not wait. Called twice, it returns an error.
func (r *Replayer) Run(ctx context.Context) error {
	r.mu.Lock()
	again := r.running
	r.running = true
	r.mu.Unlock()
	if again {
		return errors.New("run: called twice")
	}
	if r.control != nil {
		ended := make(chan struct{})
		go func() {
			defer crash.Guard()
			defer close(ended)
			_ = r.control.Run(ctx) // an error only when called twice
		}()
		defer func() { <-ended }()
	}
	tick := time.NewTicker(max(r.config.IdleTimeout/4, time.Millisecond))
	defer tick.Stop()
	state := gobreaker.StateClosed
	for stopped := false; !stopped; {
		select {
		case <-ctx.Done():
			r.Stop()
		case <-r.stopped:
			stopped = true
		case now := <-tick.C:
			r.closeIdle(now.Add(-r.config.IdleTimeout))
		case <-r.changes:
			if s := r.breaker.State(); s != state {
				level := slog.LevelInfo
				if s == gobreaker.StateOpen {
					level = slog.LevelWarn
				}
				r.config.Log.Log(ctx, level, "replay breaker changed", "experiment", r.config.Experiment, "target", r.config.Role, "from", breakerWord(state), "to", breakerWord(s))
				state = s
			}
		}
	}
	select {
	case <-r.drained:
	case <-ctx.Done():
		r.giveUp()
		<-r.drained
	}
	if r.https != nil {
		r.https.CloseIdleConnections()
	}
	r.end()
	return nil
}

// closeIdle ends the workers that have rested since before.
func (r *Replayer) closeIdle(before time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.idle) && r.idle[n].since.Before(before) {
		close(r.idle[n].jobs)
		n++
	}
	if n > 0 {
		r.idle = append(r.idle[:0], r.idle[n:]...)
		clear(r.idle[len(r.idle):cap(r.idle)])
	}
}

// Stop begins the end: from now on Submit counts stopped. What is in flight is
// finished; Run returns then. It may be called more than once.
func (r *Replayer) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		return
	}
	r.stopping = true
	for _, w := range r.idle {
		close(w.jobs)
	}
	r.idle = nil
	r.endAgain()
	close(r.stopped)
	r.atRest()
	if r.control != nil {
		r.control.Stop()
	}
}

// Cancel turns replay off at once: what is in flight is given up within a
// second and counts as stopped, its connections are reset, and until Resume
// Submit counts stopped.
func (r *Replayer) Cancel() {
	r.mu.Lock()
	r.paused = true
	r.mu.Unlock()
	r.giveUp()
	if r.control != nil {
		r.control.Cancel()
	}
}

// Resume ends what Cancel began. It does not undo Stop.
func (r *Replayer) Resume() {
	r.mu.Lock()
	r.paused = false
	r.mu.Unlock()
	if r.control != nil {
		r.control.Resume()
	}
}

// giveUp ends the replays that are in flight now, and those that wait.
func (r *Replayer) giveUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.waiting) > 0 {
		j := r.oldest()
		r.drop(&j, Stopped)
	}
	r.endAgain()
	r.end()
	r.life, r.end = context.WithCancel(context.Background())
	for w := range r.workers {
		w.interrupt()
	}
}

// Stats returns the counts since New.
func (r *Replayer) Stats() Stats {
	s := Stats{Experiment: r.config.Experiment, Role: r.config.Role, Breaker: "off"}
	if r.breaker != nil {
		s.Breaker = breakerWord(r.breaker.State())
	}
	s.BreakerOpened = r.breakerOpened.Load()
	s.Opened, s.Reused, s.Stale = r.counts.opened.Load(), r.counts.reused.Load(), r.counts.stale.Load()
	s.Retried, s.Sent, s.Received = r.counts.retried.Load(), r.counts.sent.Load(), r.counts.received.Load()
	if r.control != nil {
		c := r.control.Stats()
		s.Control = r.pairs.stats()
		s.Control.Breaker, s.Control.BreakerOpened, s.Control.Opened, s.Control.Retried = c.Breaker, c.BreakerOpened, c.Opened, c.Retried
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Selected, s.Results, s.Errors = r.selected, r.results, r.errors
	s.InFlight, s.Workers = r.inFlight-r.asked+r.parked+len(r.waiting)+r.patient, len(r.workers)
	return s
}

func breakerWord(s gobreaker.State) string {
	switch s {
	case gobreaker.StateOpen:
		return "open"
	case gobreaker.StateHalfOpen:
		return "half_open"
	}
	return "closed"
}

// timeout is the time that x's replay may take.
func (r *Replayer) timeout(x *exchange.Exchange) time.Duration {
	t := r.config.Timeout
	if x.Response != nil {
		if took := time.Duration(x.Response.LastByte - x.Request.LastByte); took > 0 {
			t = max(t, 2*min(took, MaxTimeout))
		}
	}
	return min(t, MaxTimeout)
}
