package replay

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Control says how a second instance of the reference version is asked beside
// the candidate. What it does not say is as in Config, with connections, a
// breaker and limits of its own.
type Control struct {
	// URL is as Config.URL; empty with Self.
	URL string
	// TLS is for https only.
	TLS TLS
	// Self asks the captured server once more, at the address that the tap saw
	// it under, with safe methods only and Host as captured. Config.Credentials
	// holds for that address too.
	Self bool
	// Chosen says which exchanges go to the control too: a pure function.
	// Required. It may be called from any goroutine.
	Chosen func(x *exchange.Exchange) bool
}

// MaxApart is the most by which the two requests of a pair may start apart.
const MaxApart = 5 * time.Millisecond

const (
	// longestMeet is how long a leg whose connection is open waits for the
	// other's. Then the candidate goes alone and the control not at all.
	longestMeet = 20 * time.Millisecond
	// longestTurn is how long the second leg waits until the first one's
	// request is written.
	longestTurn = MaxApart - time.Millisecond
)

// PairResult is what became of an exchange that was chosen for the control. Its
// String is the ledger's result label.
type PairResult uint8

const (
	// Paired: candidate and control answered, and were asked at most MaxApart
	// apart.
	Paired PairResult = iota
	// PairFailed: one of them gave no whole answer.
	PairFailed
	// PairShed: one of them was not asked, or not together with the other.
	PairShed
)

var pairWords = [...]string{"paired", "failed", "shed"}

// String gives the ledger's result label.
func (p PairResult) String() string { return pairWords[p] }

// The reasons of PairFailed and PairShed; others of PairFailed are the control's
// error words, others of PairShed are those of the control's Result.
const (
	// ReasonCandidate: the candidate failed, or was not asked.
	ReasonCandidate = "candidate"
	// ReasonApart: the two could not start within MaxApart.
	ReasonApart = "apart"
)

// PairEnd is a PairResult with its reason.
type PairEnd struct {
	Result PairResult
	Reason string
}

// pairEnds are all ends there are.
var pairEnds = func() []PairEnd {
	list := []PairEnd{{Paired, ""}, {PairFailed, ReasonCandidate}}
	for _, w := range errorWords {
		list = append(list, PairEnd{PairFailed, w})
	}
	list = append(list, PairEnd{PairShed, ReasonCandidate}, PairEnd{PairShed, ReasonApart})
	for r := Shed; r < NumResults; r++ {
		list = append(list, PairEnd{PairShed, r.String()})
	}
	return list
}()

// PairEnds returns every end that a pair can have. The caller owns the slice.
func PairEnds() []PairEnd { return slices.Clone(pairEnds) }

// ControlOutcome is what became of an exchange at the control.
type ControlOutcome struct {
	PairEnd
	// Outcome is the control's, nil when nothing was sent to it. It is there
	// also when there is no pair.
	Outcome *Outcome
}

// ControlStats are the counts of the pairs since New. The ledger line balances
// in every snapshot: Chosen = the sum of Ends + InFlight.
type ControlStats struct {
	// Chosen is the number of submitted exchanges that Control.Chosen takes.
	Chosen uint64
	// Ends counts by end, every one of them from zero on.
	Ends []PairCount
	// InFlight is the number of exchanges of which the candidate has not ended
	// yet, or the control.
	InFlight int
	// Breaker, BreakerOpened, Opened and Retried are those of the control, as
	// in Stats.
	Breaker                        string
	BreakerOpened, Opened, Retried uint64
}

// PairCount is a number of exchanges that ended so.
type PairCount struct {
	PairEnd
	N uint64
}

// newControl makes the Replayer of the control. What it replays goes by ask.
func newControl(c Config) (*Replayer, error) {
	k := c.Control
	if k.Chosen == nil {
		return nil, errors.New("chosen: nil")
	}
	if k.Self && k.URL != "" {
		return nil, errors.New("url: there is one, and self means the captured server")
	}
	c.Role, c.URL, c.TLS, c.Control = "control", k.URL, k.TLS, nil
	if k.Self {
		c.Host = "keep"
	}
	c.Done, c.Skipped = func(*exchange.Exchange, *Outcome) {}, nil
	return newReplayer(c, k.Self)
}

// Chosen says whether x goes to the control too: whether Control.Chosen takes
// it, and with Self its method is safe.
func (r *Replayer) Chosen(x *exchange.Exchange) bool {
	c := r.config.Control
	return c != nil && (!c.Self || safe(x.Request.Method)) && c.Chosen(x)
}

// safe says whether a method changes nothing (RFC 9110 section 9.2.1). TRACE is
// not replayed.
func safe(method string) bool { return method == "GET" || method == "HEAD" || method == "OPTIONS" }

// pairs counts what becomes of the exchanges that are chosen.
type pairs struct {
	mu       sync.Mutex
	chosen   uint64
	ends     []uint64 // as pairEnds
	inFlight int
}

func (p *pairs) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chosen++
	p.inFlight++
}

func (p *pairs) end(e PairEnd) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	p.ends[slices.Index(pairEnds, e)]++
}

func (p *pairs) stats() *ControlStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &ControlStats{Chosen: p.chosen, InFlight: p.inFlight, Ends: make([]PairCount, len(pairEnds))}
	for i, e := range pairEnds {
		s.Ends[i] = PairCount{e, p.ends[i]}
	}
	return s
}

type leg uint8

const (
	candidateLeg leg = iota
	controlLeg
)

// meeting is where the two legs of an exchange meet: before they are sent, so
// that this happens together and in the exchange's order, and when they have
// ended, so that the last one hands the pair on.
type meeting struct {
	r *Replayer // the candidate's
	x *exchange.Exchange
	// first is the leg that is sent first.
	first leg
	// patient is for SubmitWait, and tries says how often both were asked before.
	patient bool
	tries   int
	// decided is closed when it is known whether they go together; met says so
	// then. written is closed when the first one's request is written, or when
	// it ended.
	decided, written chan struct{}
	met              bool

	mu                 sync.Mutex // guards all below, and closing
	ready              [2]bool
	asked, isDecided   bool
	isWritten          bool
	candidate, control *Outcome // set when they have ended
	// over says that the candidate was stopped: nobody waits for the control.
	over bool
	held int64 // of Config.Memory, for both answers and the exchange
}

func newMeeting(r *Replayer, x *exchange.Exchange) *meeting {
	return &meeting{r: r, x: x, first: firstLeg(x.ID), decided: make(chan struct{}), written: make(chan struct{})}
}

// firstLeg draws the order from the exchange: the control goes first when the
// first byte of SHA-256(order, exchange id) is odd.
func firstLeg(id exchange.ID) leg {
	sum := sha256.Sum256(append([]byte("order\x00"), id...))
	return leg(sum[0] & 1)
}

// decide is called with mu held, any number of times.
func (m *meeting) decide(met bool) {
	if !m.isDecided {
		m.met, m.isDecided = met, true
		close(m.decided)
	}
}

// wrote is decide's like.
func (m *meeting) wrote() {
	if !m.isWritten {
		m.isWritten = true
		close(m.written)
	}
}

// askControl begins the control's leg.
func (m *meeting) askControl() {
	m.mu.Lock()
	m.asked = true
	m.mu.Unlock()
	ask := m.r.control.ask
	if m.patient {
		ask = m.r.control.askWait
	}
	if why := ask(job{x: m.x, meet: m, leg: controlLeg, then: m.controlEnded}); why != Compared {
		m.leave(controlLeg)
		m.controlEnded(&Outcome{Result: why})
	}
}

// arrive says that a leg has an open connection. It waits for the other one and
// for its turn, and says whether to send now: the candidate always.
func (m *meeting) arrive(l leg, life context.Context) bool {
	m.mu.Lock()
	m.ready[l] = true
	if m.ready[candidateLeg] && m.ready[controlLeg] {
		m.decide(true)
	}
	m.mu.Unlock()
	longest := longestMeet
	if m.patient {
		longest = max(longest, m.r.timeout(m.x)/4)
	}
	if !m.wait(m.decided, longest, life) {
		m.mu.Lock()
		m.decide(false)
		m.mu.Unlock()
	}
	if m.met && l != m.first {
		m.wait(m.written, longestTurn, life)
	}
	return m.met || l == candidateLeg
}

// wait says whether c was closed in time.
func (m *meeting) wait(c chan struct{}, d time.Duration, life context.Context) bool {
	select {
	case <-c:
		return true
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
	case <-life.Done():
	}
	return false
}

// sent says that a leg's request is written, as far as it goes without waiting.
func (m *meeting) sent(l leg) {
	if m == nil || l != m.first {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrote()
}

// leave says that a leg has ended, or never came.
func (m *meeting) leave(l leg) {
	m.mu.Lock()
	m.decide(false)
	m.mu.Unlock()
	m.sent(l)
}

// candidateEnded says whether the control has ended too, so that the pair is to
// be handed on; else the control will do so. held is what the exchange and the
// candidate's answer take of Config.Memory.
func (m *meeting) candidateEnded(o *Outcome, held int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.candidate = o
	m.held += held
	if !m.asked {
		m.control = &Outcome{Result: Shed}
	}
	return m.control != nil
}

// candidateStopped ends the pair of a candidate that was given up.
func (m *meeting) candidateStopped() {
	m.r.config.Memory.add(-m.abandon())
	m.r.pairs.end(PairEnd{PairShed, Stopped.String()})
}

// abandon lets nobody wait for the control any more and gives the memory that the
// pair held, which is the caller's then.
func (m *meeting) abandon() (held int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	held, m.held = m.held, 0
	return held
}

// controlEnded is called when the control has ended, by its worker, or when it
// was not begun.
func (m *meeting) controlEnded(o *Outcome) {
	answer := heldByAnswer(o.Response)
	m.mu.Lock()
	m.control = o
	over, last := m.over, m.candidate != nil
	if !over {
		m.held += answer
	}
	m.mu.Unlock()
	switch {
	case over:
		m.r.config.Memory.add(-answer)
	case last:
		m.end()
	}
}

// end hands on a pair whose candidate is parked, unless it is asked again.
func (m *meeting) end() {
	if !m.repeat() && m.r.hand(m.x, m.pair(), m.held) {
		m.r.unpark(m.candidate.Error)
	}
}

// pair is the candidate's outcome with the control's. Both have ended.
func (m *meeting) pair() *Outcome {
	o, c := m.candidate, m.control
	o.Control = &ControlOutcome{PairEnd: endOf(o, c)}
	if c.Start != 0 || c.Error != "" {
		o.Control.Outcome = c
	}
	m.r.pairs.end(o.Control.PairEnd)
	return o
}

func endOf(candidate, control *Outcome) PairEnd {
	switch apart := time.Duration(candidate.Start - control.Start).Abs(); {
	case control.Error != "" && control.Result == Compared:
		return PairEnd{PairFailed, control.Error}
	case candidate.Error != "":
		return PairEnd{PairFailed, ReasonCandidate}
	case control.unmet:
		return PairEnd{PairShed, ReasonApart}
	case control.Result != Compared:
		return PairEnd{PairShed, control.Result.String()}
	case apart > MaxApart:
		return PairEnd{PairShed, ReasonApart}
	}
	return PairEnd{Paired, ""}
}

// arrive waits until a job may be sent, and says whether it is to be.
func (j *job) arrive(o *Outcome) bool {
	if j.meet == nil || j.meet.arrive(j.leg, j.life) {
		return true
	}
	o.Result, o.unmet = Shed, true
	return false
}

// addressOf is the address to dial for x with Control.Self; the zero one is that
// of the configuration.
func (r *Replayer) addressOf(x *exchange.Exchange) netip.AddrPort {
	if !r.self {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(x.Flow.Server.Addr().Unmap(), x.Flow.Server.Port())
}
