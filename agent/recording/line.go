package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// line is a line of the file: one of its four is set.
type line struct {
	Tick     *int64        `json:"tick,omitempty"`
	Lost     *lostLine     `json:"lost,omitempty"`
	Exchange *exchangeLine `json:"exchange,omitempty"`
	End      *endLine      `json:"end,omitempty"`
}

// set counts what is set.
func (l *line) set() (n int) {
	for _, is := range [...]bool{l.Tick != nil, l.Lost != nil, l.Exchange != nil, l.End != nil} {
		if is {
			n++
		}
	}
	return n
}

type endLine struct {
	Events int                          `json:"events"`
	Ledger map[string]map[string]uint64 `json:"ledger,omitempty"`
}

type lostLine struct {
	Time    int64        `json:"time"`
	Choices []choiceLine `json:"choices,omitempty"`
	Result  string       `json:"result"`
	N       uint64       `json:"count"`
}

type exchangeLine struct {
	Time    int64        `json:"time"`
	Choices []choiceLine `json:"choices"`
	Whole   *wholeLine   `json:"whole,omitempty"`
	Replays []replayLine `json:"replays,omitempty"`
}

type choiceLine struct {
	Selection string `json:"selection"`
	// Reason is that of paused and not_replayable.
	Reason string `json:"reason,omitempty"`
	Route  uint16 `json:"route"`
}

type wholeLine struct {
	ID       text         `json:"id"`
	Domain   text         `json:"domain,omitempty"`
	Client   string       `json:"client"`
	Server   string       `json:"server"`
	ISN      uint32       `json:"isn"`
	Offset   uint64       `json:"offset"`
	Stream   uint32       `json:"stream,omitempty"`
	Reused   bool         `json:"reused,omitempty"`
	Pushed   bool         `json:"pushed,omitempty"`
	Doubt    string       `json:"doubt,omitempty"`
	Reset    *resetLine   `json:"reset,omitempty"`
	GRPC     *grpcLine    `json:"grpc,omitempty"`
	Request  requestLine  `json:"request"`
	Response responseLine `json:"response"`
}

type resetLine struct {
	ByServer bool   `json:"by_server"`
	Code     uint32 `json:"code"`
}

type grpcLine struct {
	Kind      string `json:"kind"`
	Status    text   `json:"status"`
	Message   text   `json:"message"`
	Requests  uint32 `json:"requests"`
	Responses uint32 `json:"responses"`
}

type requestLine struct {
	Method  text      `json:"method"`
	Target  text      `json:"target"`
	Proto   text      `json:"proto"`
	Host    text      `json:"host"`
	Scheme  text      `json:"scheme,omitempty"`
	Header  [][2]text `json:"header"`
	Trailer [][2]text `json:"trailer,omitempty"`
	Framing string    `json:"framing"`
	Body    bodyLine  `json:"body"`
	First   int64     `json:"first_byte"`
	Last    int64     `json:"last_byte"`
}

type responseLine struct {
	Status  int       `json:"status"`
	Reason  text      `json:"reason,omitempty"`
	Proto   text      `json:"proto"`
	Interim []int     `json:"interim,omitempty"`
	Header  [][2]text `json:"header"`
	Trailer [][2]text `json:"trailer,omitempty"`
	Framing string    `json:"framing"`
	Body    bodyLine  `json:"body"`
	First   int64     `json:"first_byte"`
	Last    int64     `json:"last_byte"`
}

type bodyLine struct {
	// Bytes is in base64; null when nothing was kept.
	Bytes     []byte `json:"bytes"`
	Size      int64  `json:"size"`
	Truncated bool   `json:"truncated,omitempty"`
	// SHA256 is that of the whole body, in base64.
	SHA256 []byte `json:"sha256,omitempty"`
}

type replayLine struct {
	Experiment int    `json:"experiment"`
	Stale      bool   `json:"stale,omitempty"`
	Result     string `json:"result"`
	outcomeLine
	Control *controlLine `json:"control,omitempty"`
	Again   *againLine   `json:"again,omitempty"`
}

// controlLine has the end of a pair, and what the control did when it was asked.
type controlLine struct {
	Result  string   `json:"result"`
	Reason  string   `json:"reason,omitempty"`
	Outcome *legLine `json:"outcome,omitempty"`
}

type againLine struct {
	Result    string   `json:"result"`
	Candidate *legLine `json:"candidate,omitempty"`
	Control   *legLine `json:"control,omitempty"`
}

// legLine is an outcome that may be none in the end, such as one that was given
// up.
type legLine struct {
	Result string `json:"result"`
	outcomeLine
}

type outcomeLine struct {
	Response     *responseLine `json:"response,omitempty"`
	Error        string        `json:"error,omitempty"`
	Detail       text          `json:"detail,omitempty"`
	Reused       bool          `json:"reused,omitempty"`
	Address      text          `json:"address,omitempty"`
	MinRTT       int64         `json:"min_rtt,omitempty"`
	Start        int64         `json:"start,omitempty"`
	First        int64         `json:"first_byte,omitempty"`
	Last         int64         `json:"last_byte,omitempty"`
	Setup        int64         `json:"setup,omitempty"`
	Lag          int64         `json:"lag,omitempty"`
	TraceID      text          `json:"trace_id,omitempty"`
	FreshTraceID text          `json:"fresh_trace_id,omitempty"`
}

// text is a string of any bytes, which JSON alone can't hold.
type text string

type binary struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON writes a string, or an object with base64.
func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(binary{[]byte(t)})
}

// UnmarshalJSON reads either.
func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var v binary
		err := json.Unmarshal(b, &v)
		*t = text(v.Base64)
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

// word finds the number of a word of a closed list, whose end is given.
func word[T interface {
	~uint8
	String() string
}](what, s string, end T) (T, error) {
	for v := T(0); v < end; v++ {
		if v.String() == s {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%s: %q is not known", what, s)
}

// numFramings is behind the last framing.
const numFramings = exchange.FramingH2 + 1

func newLine(e *Event) *line {
	switch e.Kind {
	case Tick:
		return &line{Tick: &e.Time}
	case Lost:
		return &line{Lost: &lostLine{e.Time, newChoices(e.Choices), e.Result.String(), e.N}}
	}
	x := &exchangeLine{Time: e.Time, Choices: newChoices(e.Choices)}
	if e.Exchange != nil && len(e.Pairs) > 0 {
		x.Whole = newWhole(e.Exchange)
	}
	for i := range e.Pairs {
		x.Replays = append(x.Replays, newReplay(&e.Pairs[i]))
	}
	return &line{Exchange: x}
}

func newChoices(list []exchange.Choice) []choiceLine {
	out := make([]choiceLine, len(list))
	for i, c := range list {
		out[i] = choiceLine{Selection: c.Selection.String(), Route: c.Route}
		switch c.Selection {
		case exchange.Paused:
			out[i].Reason = c.Pause.String()
		case exchange.NotReplayable:
			out[i].Reason = c.Doubt.String()
		}
	}
	return out
}

func newWhole(x *exchange.Exchange) *wholeLine {
	w := &wholeLine{
		ID: text(x.ID), Domain: text(x.Flow.Domain), Client: x.Flow.Client.String(), Server: x.Flow.Server.String(),
		ISN: x.ISN, Offset: x.Offset, Stream: x.Stream, Reused: x.Reused, Pushed: x.Pushed, Doubt: x.Doubt.String(),
		Response: newResponse(x.Response),
	}
	if r := x.Reset; r != nil {
		w.Reset = &resetLine{r.ByServer, r.Code}
	}
	if g := x.GRPC; g != nil {
		w.GRPC = &grpcLine{g.Kind.String(), text(g.Status), text(g.Message), g.Requests, g.Responses}
	}
	q := x.Request
	w.Request = requestLine{
		Method: text(q.Method), Target: text(q.Target), Proto: text(q.Proto), Host: text(q.Host), Scheme: text(q.Scheme),
		Header: newFields(q.Header), Trailer: newFields(q.Trailer), Framing: q.Framing.String(), Body: newBody(&q.Body),
		First: q.FirstByte, Last: q.LastByte,
	}
	return w
}

func newResponse(r *exchange.Response) responseLine {
	return responseLine{
		Status: r.Status, Reason: text(r.Reason), Proto: text(r.Proto), Interim: r.Interim,
		Header: newFields(r.Header), Trailer: newFields(r.Trailer), Framing: r.Framing.String(), Body: newBody(&r.Body),
		First: r.FirstByte, Last: r.LastByte,
	}
}

func newFields(h exchange.Header) [][2]text {
	out := make([][2]text, len(h))
	for i, f := range h {
		out[i] = [2]text{text(f.Name), text(f.Value)}
	}
	return out
}

func newBody(b *exchange.Body) bodyLine {
	l := bodyLine{Bytes: b.Bytes, Size: b.Size, Truncated: b.Truncated}
	if b.Digested {
		l.SHA256 = b.Digest[:]
	}
	return l
}

func newReplay(p *Pair) replayLine {
	l := replayLine{Experiment: p.Experiment, Stale: p.Stale, Result: p.Result.String()}
	if p.Outcome == nil {
		return l
	}
	l.outcomeLine = newOutcome(p.Outcome)
	if c := p.Outcome.Control; c != nil {
		l.Control = &controlLine{c.Result.String(), c.Reason, newLeg(c.Outcome)}
	}
	if a := p.Again; a != nil {
		l.Again = &againLine{a.Result.String(), newLeg(a.Candidate), newLeg(a.Control)}
	}
	return l
}

func newLeg(o *replay.Outcome) *legLine {
	if o == nil {
		return nil
	}
	return &legLine{o.Result.String(), newOutcome(o)}
}

func newOutcome(o *replay.Outcome) (l outcomeLine) {
	if o.Response != nil {
		r := newResponse(o.Response)
		l.Response = &r
	}
	l.Error, l.Detail, l.Reused, l.Address = o.Error, text(o.Detail), o.Reused, text(o.Address)
	l.Start, l.First, l.Last, l.Setup, l.Lag = o.Start, o.FirstByte, o.LastByte, int64(o.Setup), int64(o.Lag)
	l.MinRTT = int64(o.MinRTT)
	l.TraceID, l.FreshTraceID = text(o.TraceID), text(o.FreshTraceID)
	return l
}

// event makes an Event of a line, and says what can't be one.
func (l *line) event() (*Event, error) {
	switch {
	case l.Tick != nil:
		return &Event{Kind: Tick, Time: *l.Tick}, nil
	case l.Lost != nil:
		return l.Lost.event()
	}
	x := l.Exchange
	d, err := decision(x.Choices)
	if err != nil {
		return nil, err
	}
	e := &Event{Kind: Complete, Time: x.Time, Choices: append([]exchange.Choice(nil), d.Choices[:d.Len]...)}
	pairs := 0
	for i, c := range e.Choices {
		if c.Selection != exchange.Selected {
			continue
		}
		if pairs >= len(x.Replays) || x.Replays[pairs].Experiment != i {
			return nil, fmt.Errorf("replays: that of experiment %d is not in its place", i)
		}
		pairs++
	}
	if pairs != len(x.Replays) || (pairs > 0) != (x.Whole != nil) {
		return nil, errors.New("replays: they do not fit the choices")
	}
	if x.Whole == nil {
		return e, nil
	}
	if e.Exchange, err = x.Whole.exchange(); err != nil {
		return nil, err
	}
	e.Exchange.Decision = d
	e.Pairs = make([]Pair, len(x.Replays))
	for i := range x.Replays {
		if e.Pairs[i], err = x.Replays[i].pair(); err != nil {
			return nil, fmt.Errorf("replays[%d].%w", i, err)
		}
	}
	return e, nil
}

func (l *lostLine) event() (*Event, error) {
	d, err := decision(l.Choices)
	if err != nil {
		return nil, err
	}
	e := &Event{Kind: Lost, Time: l.Time, Choices: append([]exchange.Choice(nil), d.Choices[:d.Len]...), N: l.N}
	if e.Result, err = word("result", l.Result, exchange.NumResults); err != nil {
		return nil, err
	}
	if e.N > maxLost {
		return nil, fmt.Errorf("count: %d is out of range", e.N)
	}
	return e, nil
}

// maxLost bounds what one line can tell of.
const maxLost = 1 << 32

// decision is what sampling said. Want is that of an exchange that is kept
// whole for the choices that are selected.
func decision(list []choiceLine) (d exchange.Decision, err error) {
	if len(list) > exchange.MaxExperiments {
		return d, fmt.Errorf("choices: %d of them, at most %d", len(list), exchange.MaxExperiments)
	}
	d.Len = uint8(len(list))
	for i := range list {
		if d.Choices[i], err = list[i].choice(); err != nil {
			return d, fmt.Errorf("choices[%d]: %w", i, err)
		}
		if d.Choices[i].Selection == exchange.Selected {
			d.Want = exchange.WantWhole
		}
	}
	return d, nil
}

func (c *choiceLine) choice() (out exchange.Choice, err error) {
	out.Route = c.Route
	if out.Selection, err = word("selection", c.Selection, exchange.NumSelections); err != nil {
		return out, err
	}
	switch out.Selection {
	case exchange.Paused:
		out.Pause, err = word("reason", c.Reason, exchange.NumPauseReasons)
	case exchange.NotReplayable:
		out.Doubt, err = word("reason", c.Reason, exchange.NumDoubts)
	}
	return out, err
}

func (w *wholeLine) exchange() (*exchange.Exchange, error) {
	x := &exchange.Exchange{
		ID: exchange.ID(w.ID), ISN: w.ISN, Offset: w.Offset, Stream: w.Stream, Reused: w.Reused, Pushed: w.Pushed,
		Flow: exchange.Flow{Domain: string(w.Domain)},
	}
	var err error
	if x.Flow.Client, err = netip.ParseAddrPort(w.Client); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if x.Flow.Server, err = netip.ParseAddrPort(w.Server); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if x.Doubt, err = word("doubt", w.Doubt, exchange.NumDoubts); err != nil {
		return nil, err
	}
	if r := w.Reset; r != nil {
		x.Reset = &exchange.Reset{ByServer: r.ByServer, Code: r.Code}
	}
	if g := w.GRPC; g != nil {
		x.GRPC = &exchange.GRPC{Status: string(g.Status), Message: string(g.Message), Requests: g.Requests, Responses: g.Responses}
		if x.GRPC.Kind, err = word("grpc.kind", g.Kind, exchange.NumGRPCKinds); err != nil {
			return nil, err
		}
	}
	q := &w.Request
	x.Request = &exchange.Request{
		Method: string(q.Method), Target: string(q.Target), Proto: string(q.Proto), Host: string(q.Host), Scheme: string(q.Scheme),
		Header: header(q.Header), Trailer: header(q.Trailer), FirstByte: q.First, LastByte: q.Last,
	}
	if x.Request.Framing, err = word("request.framing", q.Framing, numFramings); err != nil {
		return nil, err
	}
	if x.Request.Body, err = q.Body.body(); err != nil {
		return nil, fmt.Errorf("request.%w", err)
	}
	if x.Response, err = w.Response.response(); err != nil {
		return nil, fmt.Errorf("response.%w", err)
	}
	return x, nil
}

func (l *responseLine) response() (*exchange.Response, error) {
	r := &exchange.Response{
		Status: l.Status, Reason: string(l.Reason), Proto: string(l.Proto), Interim: l.Interim,
		Header: header(l.Header), Trailer: header(l.Trailer), FirstByte: l.First, LastByte: l.Last,
	}
	if r.Status < 0 || r.Status > 999 {
		return nil, fmt.Errorf("status: %d is none", r.Status)
	}
	var err error
	if r.Framing, err = word("framing", l.Framing, numFramings); err != nil {
		return nil, err
	}
	r.Body, err = l.Body.body()
	return r, err
}

func header(fields [][2]text) exchange.Header {
	if len(fields) == 0 {
		return nil
	}
	h := make(exchange.Header, len(fields))
	for i, f := range fields {
		h[i] = exchange.Field{Name: string(f[0]), Value: string(f[1])}
	}
	return h
}

func (l *bodyLine) body() (b exchange.Body, err error) {
	b = exchange.Body{Bytes: l.Bytes, Size: l.Size, Truncated: l.Truncated}
	if have := int64(len(b.Bytes)); b.Size < have || !b.Truncated && b.Size != have {
		return b, fmt.Errorf("body: %d bytes of %d, truncated %v", have, b.Size, b.Truncated)
	}
	switch len(l.SHA256) {
	case 0:
	case len(b.Digest):
		b.Digest, b.Digested = [32]byte(l.SHA256), true
	default:
		return b, fmt.Errorf("body: a SHA-256 of %d bytes", len(l.SHA256))
	}
	return b, nil
}

func (l *replayLine) pair() (p Pair, err error) {
	p = Pair{Experiment: l.Experiment, Stale: l.Stale}
	if p.Result, err = word("result", l.Result, replay.NumResults); err != nil {
		return p, err
	}
	if p.Result != replay.Compared {
		if l.Control != nil || l.Again != nil {
			return p, errors.New("result: nothing was compared, and there is a control or again")
		}
		return p, nil
	}
	if p.Outcome, err = l.outcome(p.Result); err != nil {
		return p, err
	}
	if l.Control != nil {
		if p.Outcome.Control, err = l.Control.control(p.Outcome); err != nil {
			return p, fmt.Errorf("control.%w", err)
		}
	}
	if l.Again != nil {
		if p.Again, err = l.Again.again(); err != nil {
			return p, fmt.Errorf("again.%w", err)
		}
	}
	return p, nil
}

func (l *outcomeLine) outcome(r replay.Result) (*replay.Outcome, error) {
	o := &replay.Outcome{
		Result: r, Error: l.Error, Detail: string(l.Detail), Reused: l.Reused, Address: string(l.Address),
		Start: l.Start, FirstByte: l.First, LastByte: l.Last, Setup: time.Duration(l.Setup), Lag: time.Duration(l.Lag), MinRTT: time.Duration(l.MinRTT),
		TraceID: string(l.TraceID), FreshTraceID: string(l.FreshTraceID),
	}
	switch {
	case (l.Response != nil) == (l.Error != ""):
		return nil, errors.New("response: there must be one, or an error word")
	case l.Error != "":
		if !slices.Contains(replay.ErrorWords(), l.Error) {
			return nil, fmt.Errorf("error: %q is not known", l.Error)
		}
		return o, nil
	}
	var err error
	if o.Response, err = l.Response.response(); err != nil {
		return nil, fmt.Errorf("response.%w", err)
	}
	return o, nil
}

func (l *legLine) leg() (*replay.Outcome, error) {
	if l == nil {
		return nil, nil
	}
	r, err := word("result", l.Result, replay.NumResults)
	if err != nil {
		return nil, err
	}
	return l.outcome(r)
}

// control is the other side of a candidate's outcome.
func (l *controlLine) control(candidate *replay.Outcome) (*replay.ControlOutcome, error) {
	c := &replay.ControlOutcome{}
	ends := replay.PairEnds()
	i := slices.IndexFunc(ends, func(e replay.PairEnd) bool { return e.Result.String() == l.Result && e.Reason == l.Reason })
	if i < 0 {
		return nil, fmt.Errorf("result: %q for %q is not known", l.Result, l.Reason)
	}
	c.PairEnd = ends[i]
	o, err := l.Outcome.leg()
	if err != nil {
		return nil, fmt.Errorf("outcome.%w", err)
	}
	if c.Outcome = o; c.Result == replay.Paired && (o == nil || o.Error != "" || candidate.Error != "") {
		return nil, errors.New("result: a pair without two answers")
	}
	return c, nil
}

func (l *againLine) again() (*replay.Again, error) {
	a := &replay.Again{}
	var err error
	if a.Result, err = word("result", l.Result, replay.NumResults); err != nil {
		return nil, err
	}
	if a.Candidate, err = l.Candidate.leg(); err != nil {
		return nil, fmt.Errorf("candidate.%w", err)
	}
	if a.Control, err = l.Control.leg(); err != nil {
		return nil, fmt.Errorf("control.%w", err)
	}
	if (a.Result == replay.Compared) != (a.Candidate != nil) || a.Candidate == nil && a.Control != nil {
		return nil, errors.New("candidate: there must be one where both were asked, and only there")
	}
	return a, nil
}
