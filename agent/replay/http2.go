package replay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// protoHTTP2 is the Proto of requests that go over HTTP/2.
const protoHTTP2 = "HTTP/2"

var (
	errPseudo = errors.New("request has not the form method, http or https, target")
	errNoH2   = errors.New("the peer does not choose h2 (ALPN)")
)

// list appends the header list to send (RFC 9113 section 8.3.1) to dst and
// returns it. It takes fields as rewrite takes lines; what HTTP/2 does not have
// is dropped, and te only stays as trailers (section 8.2.2).
func (w *rewriter) list(dst []hpack.HeaderField, q *exchange.Request, trace *traceIDs) ([]hpack.HeaderField, error) {
	if err := checkTarget(q.Method, q.Target); err != nil {
		return nil, err
	}
	if q.Scheme != "http" && q.Scheme != "https" {
		return nil, errPseudo
	}
	*trace = traceIDs{}
	add := func(name, value string) { dst = append(dst, hpack.HeaderField{Name: name, Value: value}) }
	add(":method", q.Method)
	add(":scheme", q.Scheme)
	authority := q.Host
	if w.host != "" {
		authority = w.host
	}
	if authority != "" {
		add(":authority", authority)
	}
	add(":path", q.Target)
	hosts := 0
	for _, f := range q.Header {
		if !http2Name(f.Name) || !http2Value(f.Value) {
			return nil, errField
		}
		switch act := w.act([]byte(f.Name)); act {
		case keep:
			add(f.Name, f.Value)
		case drop:
			if f.Name == "te" && strings.EqualFold(f.Value, "trailers") {
				add(f.Name, f.Value)
			}
		case actConnection:
		case actHost:
			// It says what :authority does, or readers could choose.
			if hosts++; hosts > 1 || f.Value != q.Host {
				return nil, errHost
			}
		case actLength:
			if n, ok := parseLength([]byte(f.Value)); !ok || n != q.Body.Size {
				return nil, errFraming
			}
			add(f.Name, f.Value)
		case actEncoding:
			return nil, errFraming
		case actExpect:
			if !strings.EqualFold(f.Value, "100-continue") {
				add(f.Name, f.Value)
			}
		default:
			if v, plain := trace.append(nil, act, []byte(f.Value), w.trace); plain {
				add(f.Name, f.Value)
			} else {
				add(f.Name, string(v))
			}
		}
	}
	add(strings.ToLower(RoleHeader), w.roleValue)
	return dst, nil
}

// trailer appends the trailer fields to send to dst.
func (w *rewriter) trailer(dst []hpack.HeaderField, q *exchange.Request) ([]hpack.HeaderField, error) {
	for _, f := range q.Trailer {
		if !http2Name(f.Name) || !http2Value(f.Value) {
			return nil, errField
		}
		if w.act([]byte(f.Name)) == keep {
			dst = append(dst, hpack.HeaderField{Name: f.Name, Value: f.Value})
		}
	}
	return dst, nil
}

// http2Name and http2Value follow RFC 9113 section 8.2.1.
func http2Name(s string) bool {
	for i := range len(s) {
		if c := s[i]; foldName[c] == 0 || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return s != ""
}

func http2Value(s string) bool { return !strings.ContainsAny(s, "\r\n\x00") }

// overHTTP2 replays over the worker's own HTTP/2 connection. It returns false
// when nothing was tried, because the request must not be replayed.
func (w *worker) overHTTP2(j job, o *Outcome, deadline time.Time) bool {
	r := w.r
	var trace traceIDs
	list, err := r.rewrite.list(w.list[:0], j.x.Request, &trace)
	if err == nil {
		w.list = list
		w.trailer, err = r.rewrite.trailer(w.trailer[:0], j.x.Request)
	}
	if err != nil {
		o.fail(ErrorRefused, err)
		return false
	}
	defer func() {
		clear(w.list)
		clear(w.trailer)
	}()
	o.TraceID, o.FreshTraceID = trace.captured(), trace.fresh()
	for {
		c, err := w.connectHTTP2(j, o, deadline)
		if err != nil {
			return true
		}
		if !w.attemptHTTP2(c, j, o, deadline) {
			return true
		}
		// The next one is new, and for a new one attempt never says so.
		r.counts.retried.Add(1)
		o.Error, o.Detail, o.Start, o.LastByte = "", "", 0, 0
	}
}

// connectHTTP2 returns the worker's HTTP/2 connection, opened if need be.
func (w *worker) connectHTTP2(j job, o *Outcome, deadline time.Time) (*http2Conn, error) {
	begin := time.Now()
	to := w.r.addressOf(j.x)
	if c := w.http2; c != nil { // only this goroutine writes the pointer
		usable := c.stream < maxHTTP2Stream && c.alive()
		if usable && c.to == to {
			o.Reused, o.Address, o.MinRTT = true, c.peer, c.roundTrip(begin)
			return c, nil
		}
		if !usable {
			w.r.counts.stale.Add(1)
		}
		w.dropHTTP2()
	}
	ctx, cancel := context.WithDeadline(j.life, deadline)
	defer cancel()
	o.Reused, o.MinRTT = false, 0
	c, err := w.openHTTP2(ctx, to, j, o, deadline)
	o.Setup += time.Since(begin)
	if err != nil {
		w.dropHTTP2()
		o.fail(wordOf(err, false), err)
		return nil, err
	}
	return c, nil
}

func (w *worker) openHTTP2(ctx context.Context, to netip.AddrPort, j job, o *Outcome, deadline time.Time) (*http2Conn, error) {
	h, err := w.r.dialHTTP2(ctx, to)
	if err != nil {
		return nil, err
	}
	o.Address = h.peer
	w.takeHTTP2(h)
	if err := w.begin(h.conn, j, deadline); err != nil {
		return nil, err
	}
	return h, h.open()
}

// dialHTTP2 connects, over TLS when the target has it. Nothing of HTTP/2 has
// been sent yet.
func (r *Replayer) dialHTTP2(ctx context.Context, to netip.AddrPort) (*http2Conn, error) {
	c, err := r.dialer.dial(ctx, to)
	if err != nil {
		return nil, err
	}
	if r.tls == nil {
		return newHTTP2Conn(c, c), nil
	}
	t := tls.Client(c, r.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		c.abort()
		return nil, &dialError{ErrorTLS, err}
	}
	if t.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		c.abort()
		return nil, &dialError{ErrorProtocol, errNoH2}
	}
	return newHTTP2Conn(c, t), nil
}

// takeHTTP2 replaces the worker's HTTP/2 connection and returns the former.
func (w *worker) takeHTTP2(c *http2Conn) *http2Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.http2
	w.http2 = c
	return old
}

// dropHTTP2 aborts the worker's HTTP/2 connection.
func (w *worker) dropHTTP2() {
	if c := w.takeHTTP2(nil); c != nil {
		c.abort()
	}
}

// wordOf is the word of an error that ended an attempt; headed says that the
// answer's final head was whole.
func wordOf(err error, headed bool) string {
	var d *dialError
	var h *http2Error
	switch {
	case errors.As(err, &d):
		return d.word
	case errors.As(err, &h) && h.word != "" && (!headed || h.word == ErrorTooLarge):
		return h.word
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrorTimeout
	case headed:
		return ErrorBody
	}
	return ErrorClosed
}

// attemptHTTP2 writes the request and reads the answer. It says true when the
// connection was an old one and ended before the answer began, or when the peer
// refused the stream there, so that the request may be tried once more on a new
// one.
func (w *worker) attemptHTTP2(c *http2Conn, j job, o *Outcome, deadline time.Time) (again bool) {
	r := w.r
	if err := w.begin(c.conn, j, deadline); err != nil {
		w.dropHTTP2()
		o.fail(ErrorClosed, err)
		return false
	}
	used := c.used
	if used {
		r.counts.reused.Add(1)
	}
	c.in.left = r.config.MaxAnswer
	if x := j.x.Response; x != nil {
		c.in.left = max(c.in.left, 2*x.Body.Size)
	}
	a := &http2Answer{c: c, method: j.x.Request.Method, maxBody: r.config.MaxBody}
	begin := time.Now()
	err := a.allowed()
	if o.Setup += time.Since(begin); err != nil {
		w.dropHTTP2()
		o.fail(wordOf(err, false), err)
		return used && mayRepeat(err)
	}
	if !j.arrive(o) {
		if !used {
			w.dropHTTP2()
		}
		return false
	}
	a.start = time.Now()
	o.Start = a.start.UnixNano()
	buf := r.buffers.Get().(*[bufferSize]byte)
	u, err := c.send(buf[:], w.list, j.x.Request.Body.Bytes, w.trailer)
	r.buffers.Put(buf)
	j.meet.sent(j.leg)
	if err == nil || isClosed(err) {
		// A peer that closed may have answered before it did.
		err = a.read()
	}
	if err != nil {
		o.LastByte = o.Start + int64(time.Since(a.start))
		u.abort()
		w.dropHTTP2()
		o.fail(wordOf(err, a.response != nil), err)
		return used && !a.begun && mayRepeat(err)
	}
	if u.finish() && c.goingAway == nil && c.flush() == nil {
		c.used = true
	} else {
		w.dropHTTP2()
	}
	o.Response = a.response
	o.FirstByte, o.LastByte = a.response.FirstByte, a.response.LastByte
	return false
}

// mayRepeat says that the connection ended or the peer did not look at the
// request.
func mayRepeat(err error) bool {
	var h *http2Error
	if errors.As(err, &h) {
		return h.refused
	}
	return isClosed(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// http2Answer is an answer as it is read.
type http2Answer struct {
	c       *http2Conn
	method  string
	maxBody int64
	start   time.Time
	sum     exchange.Digester

	interim []int
	// begun says that a frame of the stream came, response is set with the
	// final head.
	begun    bool
	response *exchange.Response
	// length is the Content-Length, -1 without one; empty that no content may
	// come, whatever it says (RFC 9110 sections 9.3.2, 15.3.5 and 15.4.5).
	length int64
	empty  bool
}

// allowed waits until the peer takes a stream (RFC 9113 section 5.1.2).
func (a *http2Answer) allowed() error {
	for a.c.maxStreams == 0 {
		if _, err := a.c.read(); err != nil {
			return fmt.Errorf("wait for a stream: %w", err)
		}
	}
	if a.c.goingAway != nil {
		return &http2Error{word: ErrorClosed, err: a.c.goingAway, refused: true}
	}
	return nil
}

// at is a time of the source in nanoseconds since the Unix epoch.
func (a *http2Answer) at(t time.Time) int64 { return a.start.UnixNano() + int64(t.Sub(a.start)) }

// read reads to the end of the stream.
func (a *http2Answer) read() error {
	c := a.c
	for {
		f, err := c.read()
		if err != nil {
			return err
		}
		id, end := f.Header().StreamID, false
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.LastStreamID < c.stream {
				return &http2Error{word: ErrorClosed, err: c.goingAway, refused: true}
			}
			continue
		case *http2.MetaHeadersFrame:
			if id != c.stream {
				return broken(ErrorProtocol, "HEADERS of stream %d", id)
			}
			a.begun = true
			end = f.StreamEnded()
			err = a.headers(f)
		case *http2.DataFrame:
			if id != c.stream {
				return broken(ErrorProtocol, "DATA of stream %d", id)
			}
			a.begun = true
			end = f.StreamEnded()
			if err = c.took(int64(f.Length), end); err == nil {
				err = a.data(f.Data())
			}
		case *http2.RSTStreamFrame:
			switch {
			case id == c.stream:
				return reset(f.ErrCode)
			case c.idleStream(id):
				return broken(ErrorProtocol, "RST_STREAM of stream %d", id)
			}
			continue
		default:
			continue
		}
		if err != nil {
			return err
		}
		if end {
			return a.ended()
		}
	}
}

// reset is what a RST_STREAM means. Without a word of its own it is closed, or
// body behind the head.
func reset(code http2.ErrCode) error {
	e := &http2Error{err: fmt.Errorf("the peer reset the stream: %v", code), refused: code == http2.ErrCodeRefusedStream}
	if code == http2.ErrCodeHTTP11Required {
		e.word = ErrorProtocol
	}
	return e
}

func (a *http2Answer) headers(f *http2.MetaHeadersFrame) error {
	if f.Truncated {
		return broken(ErrorProtocol, "fields of more than %d bytes", http2HeaderList)
	}
	if a.response != nil {
		if len(f.PseudoFields()) > 0 || !f.StreamEnded() {
			return broken(ErrorBody, "a second head behind the first")
		}
		a.response.Trailer = headerOf(f.RegularFields())
		return nil
	}
	text := f.PseudoValue("status")
	status, err := strconv.Atoi(text)
	if err != nil || len(text) != 3 || status < 100 || len(f.PseudoFields()) != 1 {
		return broken(ErrorProtocol, "head without a status of three digits")
	}
	if status < 200 {
		if status == 101 || f.StreamEnded() {
			return broken(ErrorProtocol, "interim status %d that RFC 9113 section 8.1 does not allow", status)
		}
		if len(a.interim) >= maxInterim {
			return broken(ErrorProtocol, "more than %d interim answers", maxInterim)
		}
		a.interim = append(a.interim, status)
		return nil
	}
	r := &exchange.Response{
		Status: status, Proto: protoHTTP2, Interim: a.interim, Header: headerOf(f.RegularFields()), FirstByte: a.at(a.c.in.first),
	}
	a.length = -1
	if lengths := r.Header.Values("content-length"); len(lengths) > 0 {
		n, ok := parseLength([]byte(lengths[0]))
		if !ok || slices.ContainsFunc(lengths, func(v string) bool { return v != lengths[0] }) {
			return broken(ErrorProtocol, "content-length that is no number, or several")
		}
		a.length = n
	}
	a.empty = a.method == "HEAD" || status == 204 || status == 304
	if !f.StreamEnded() {
		r.Framing = exchange.FramingH2
	}
	if room := min(a.length, a.maxBody, bufferSize); room > 0 && !a.empty {
		r.Body.Bytes = make([]byte, 0, room)
	}
	a.response = r
	return nil
}

func (a *http2Answer) data(p []byte) error {
	switch {
	case a.response == nil:
		return broken(ErrorProtocol, "DATA before a final head")
	case a.empty && len(p) > 0:
		return broken(ErrorBody, "content in an answer that has none")
	}
	b := &a.response.Body
	b.Size += int64(len(p))
	fit := p
	if room := a.maxBody - int64(len(b.Bytes)); int64(len(p)) > room {
		b.Truncated = true
		fit = p[:room]
	}
	if b.Truncated {
		a.sum.Missed(p, b.Bytes)
	}
	b.Bytes = append(b.Bytes, fit...)
	return nil
}

func (a *http2Answer) ended() error {
	r := a.response
	if r == nil {
		return broken(ErrorProtocol, "the stream ended before a final head")
	}
	if a.length >= 0 && !a.empty && a.length != r.Body.Size {
		return broken(ErrorBody, "%d bytes of content, content-length %d", r.Body.Size, a.length)
	}
	a.sum.Into(&r.Body)
	r.LastByte = a.at(a.c.in.last)
	return nil
}

// headerOf copies the fields of a frame, in their order.
func headerOf(list []hpack.HeaderField) exchange.Header {
	if len(list) == 0 {
		return nil
	}
	h := make(exchange.Header, len(list))
	for i, f := range list {
		h[i] = exchange.Field{Name: f.Name, Value: f.Value}
	}
	return h
}
