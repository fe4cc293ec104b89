package replay

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"golang.org/x/net/http2"
)

// TLS says how an https target is checked and what is shown to it. The files
// are read by New, in PEM.
type TLS struct {
	// CA holds the certificates that are trusted. "" means the system's.
	CA string
	// Cert and Key are the client's certificate and its key; both or none.
	Cert, Key string
	// ServerName is the name in the certificate and in SNI. "" means the host
	// of the URL.
	ServerName string
	// Insecure accepts every certificate.
	Insecure bool
}

func (t *TLS) config() (*tls.Config, error) {
	c := &tls.Config{ServerName: t.ServerName, InsecureSkipVerify: t.Insecure, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s has no certificate in PEM", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("cert and key: one without the other")
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// maxInterim bounds the list of 1xx statuses of one answer.
const maxInterim = 100

// newTransport makes the net/http side, and the TLS side of HTTP/2: no proxy, no redirects (RoundTrip
// follows none), no decompression, HTTP/1 only, and connections by our dialer.
func newTransport(r *Replayer) (*http.Transport, error) {
	config, err := r.config.TLS.config()
	if err != nil {
		return nil, err
	}
	setDefault(&config.ServerName, r.target.host)
	r.tls = config.Clone()
	// A peer that has no h2 says so by choosing the other.
	r.tls.NextProtos = []string{http2.NextProtoTLS, "http/1.1"}
	h1 := new(http.Protocols)
	h1.SetHTTP1(true)
	return &http.Transport{
		// The address is the URL's, not the one that net/http made of it.
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			// net/http lets a dial live on when its request has ended. Ours
			// ends with it: connections under way are bounded like replays.
			a := ctx.Value(attemptKey{}).(*tlsAttempt)
			c, err := r.dialer.dial(a.ctx, netip.AddrPort{})
			if err != nil {
				return nil, err
			}
			a.connected.Store(true)
			t := tls.Client(c, config)
			if err := t.HandshakeContext(a.ctx); err != nil {
				c.abort()
				return nil, &dialError{ErrorTLS, err}
			}
			return t, nil
		},
		Protocols:              h1,
		DisableCompression:     true,
		MaxConnsPerHost:        r.config.MaxInFlight,
		MaxIdleConns:           r.config.MaxInFlight,
		MaxIdleConnsPerHost:    r.config.MaxInFlight,
		IdleConnTimeout:        r.config.IdleTimeout,
		MaxResponseHeaderBytes: http1.MaxHead,
	}, nil
}

// tlsAttempt is one call of RoundTrip, as the dial sees it.
type tlsAttempt struct {
	ctx       context.Context
	connected atomic.Bool // and the handshake began
}

type attemptKey struct{}

// overTLS replays through net/http. It returns false when nothing was tried,
// because the request must not be replayed.
func (r *Replayer) overTLS(j job, o *Outcome, deadline time.Time) bool {
	buf := r.buffers.Get().(*[bufferSize]byte)
	defer r.buffers.Put(buf)
	var h rewritten
	head, err := r.rewrite.rewrite(buf[:0], j.x.Request.Head, &h)
	if err == nil {
		err = framed(&h, j.x.Request)
	}
	var q *http.Request
	if err == nil {
		q, err = r.request(head, &h, j.x.Request)
	}
	if err != nil {
		o.fail(ErrorRefused, err)
		return false
	}
	o.TraceID, o.FreshTraceID = h.trace.captured(), h.trace.fresh()
	ctx, cancel := context.WithDeadline(j.life, deadline)
	defer cancel()
	if r.roundTrip(ctx, r.https, j, o, q) && ctx.Err() == nil {
		r.counts.retried.Add(1)
		o.Error, o.Detail, o.Start, o.LastByte = "", "", 0, 0
		r.roundTrip(ctx, r.httpsNew, j, o, q)
	}
	return true
}

// request gives the head to net/http, which writes what it finds in the map,
// names spelled as they are, and frames the body itself.
func (r *Replayer) request(head []byte, h *rewritten, captured *exchange.Request) (*http.Request, error) {
	line, rest, _ := cutLine(head)
	method, after, _ := strings.Cut(string(line), " ")
	written, _, _ := strings.Cut(after, " ")
	u := &url.URL{Scheme: "https", Host: r.target.authority}
	if !strings.HasPrefix(written, "//") {
		u.Opaque = written
	} else {
		// url.URL would write scheme and colon before an opaque part that
		// begins like an authority.
		path, query, asked := strings.Cut(written, "?")
		u.RawPath, u.RawQuery, u.ForceQuery = path, query, asked
		var err error
		if u.Path, err = url.PathUnescape(path); err != nil {
			return nil, fmt.Errorf("%w: %w", errTarget, err)
		}
	}
	if u.RequestURI() != written {
		return nil, fmt.Errorf("%w that net/http writes as received", errTarget)
	}
	q := &http.Request{Method: method, URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), Close: h.http10}
	for {
		line, rest, _ = cutLine(rest)
		if len(line) == 0 {
			break
		}
		name, value, _ := strings.Cut(string(line), ":")
		value = strings.Trim(value, " \t")
		switch key := textproto.CanonicalMIMEHeaderKey(name); key {
		case "Host":
			q.Host = value
		case "Content-Length", "Transfer-Encoding":
		case "Trailer":
			// net/http writes it from q.Trailer.
		case "User-Agent":
			// Under any other spelling net/http would add its own.
			q.Header[key] = append(q.Header[key], value)
		default:
			q.Header[name] = append(q.Header[name], value)
		}
	}
	if q.Header["User-Agent"] == nil {
		q.Header["User-Agent"] = []string{""} // net/http then writes none
	}
	switch {
	case h.chunked:
		q.ContentLength = -1
		for _, t := range captured.Trailer {
			if q.Trailer == nil {
				q.Trailer = make(http.Header)
			}
			q.Trailer[t.Name] = append(q.Trailer[t.Name], t.Value)
		}
	case h.length >= 0:
		q.ContentLength = h.length
	}
	body := captured.Body.Bytes
	if q.ContentLength != 0 {
		q.GetBody = func() (io.ReadCloser, error) {
			return &countedBody{bytes.NewReader(body), &r.counts.sent}, nil
		}
	} else if h.length == 0 {
		q.Body = http.NoBody
	}
	return q, nil
}

// roundTrip makes one attempt and says whether it failed on an old connection
// before the first byte.
func (r *Replayer) roundTrip(ctx context.Context, over *http.Transport, j job, o *Outcome, q *http.Request) (again bool) {
	var begun atomic.Bool
	var got httptrace.GotConnInfo
	var started time.Time
	var first atomic.Int64
	var interim []int
	begin := time.Now()
	trace := &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			if !started.IsZero() {
				// net/http itself tried an old connection once more.
				r.counts.retried.Add(1)
			}
			o.MinRTT = 0
			if t, ok := i.Conn.(*tls.Conn); ok && i.Reused {
				// Until the answer is read the connection is this request's.
				if c, ok := t.NetConn().(*conn); ok {
					o.MinRTT = c.roundTrip(begin)
				}
			}
			got, started = i, time.Now()
		},
		GotFirstResponseByte: func() { begun.Store(true); first.Store(int64(time.Since(begin))) },
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			if len(interim) < maxInterim {
				interim = append(interim, code)
			}
			return nil
		},
	}
	if j.meet != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		gotConn := trace.GotConn
		trace.GotConn = func(i httptrace.GotConnInfo) {
			if !j.arrive(o) {
				// What can't be written is not sent.
				cancel()
				_ = i.Conn.Close()
				return
			}
			gotConn(i)
		}
		trace.WroteRequest = func(httptrace.WroteRequestInfo) { j.meet.sent(j.leg) }
	}
	dial := &tlsAttempt{ctx: ctx}
	q = q.WithContext(context.WithValue(httptrace.WithClientTrace(ctx, trace), attemptKey{}, dial))
	if q.GetBody != nil {
		q.Body, _ = q.GetBody() // never fails
	}
	res, err := over.RoundTrip(q)
	if o.unmet {
		if err == nil {
			_ = res.Body.Close()
		}
		return false
	}
	if !started.IsZero() {
		o.Start = started.UnixNano()
		o.Setup += started.Sub(begin)
		o.Reused = got.Reused
		if got.Reused {
			r.counts.reused.Add(1)
		}
		o.Address = got.Conn.RemoteAddr().String()
	}
	since := func() int64 { return o.Start + int64(time.Since(started)) }
	if err != nil {
		if started.IsZero() {
			o.Setup += time.Since(begin)
		} else {
			o.LastByte = since()
		}
		var d *dialError
		switch {
		case errors.As(err, &d):
			o.fail(d.word, err)
		case started.IsZero() && dial.connected.Load():
			o.fail(ErrorTLS, err)
		case started.IsZero():
			o.fail(ErrorConnect, err)
		case errors.Is(err, context.DeadlineExceeded):
			o.fail(ErrorTimeout, err)
		case !begun.Load():
			o.fail(ErrorClosed, err)
			return got.Reused
		case isClosed(err) || errors.Is(err, io.ErrUnexpectedEOF):
			o.fail(ErrorClosed, err)
		default:
			o.fail(ErrorProtocol, err)
		}
		return false
	}
	defer res.Body.Close()
	firstByte := o.Start + first.Load() - int64(started.Sub(begin))
	if len(interim) > 0 {
		// That was an interim answer's. The final head has just been read.
		firstByte = since()
	}
	a := &exchange.Response{
		Status:    res.StatusCode,
		Reason:    strings.TrimPrefix(strings.TrimPrefix(res.Status, fmt.Sprintf("%03d", res.StatusCode)), " "),
		Proto:     res.Proto,
		Interim:   interim,
		Header:    fields(res.Header),
		FirstByte: firstByte,
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		a.Framing = exchange.FramingTunnel
	case len(res.TransferEncoding) > 0:
		a.Framing = exchange.FramingChunked
		a.Header = append(a.Header, exchange.Field{Name: "Transfer-Encoding", Value: strings.Join(res.TransferEncoding, ", ")})
	case res.Body == http.NoBody:
	case res.ContentLength >= 0:
		a.Framing = exchange.FramingLength
	default:
		a.Framing = exchange.FramingClose
	}
	if a.Framing != exchange.FramingTunnel {
		err = r.readBody(res.Body, j, &a.Body)
		r.counts.received.Add(uint64(a.Body.Size))
	}
	o.FirstByte, o.LastByte = a.FirstByte, since()
	a.LastByte = o.LastByte
	switch {
	case err == nil:
		a.Trailer = fields(res.Trailer)
		o.Response = a
	case err == errTooLarge:
		o.fail(ErrorTooLarge, fmt.Errorf("answer goes on after %d bytes", a.Body.Size))
	case errors.Is(err, context.DeadlineExceeded):
		o.fail(ErrorTimeout, err)
	default:
		o.fail(ErrorBody, err)
	}
	return false
}

var errTooLarge = errors.New("too large")

// readBody reads, digests and keeps, with the limits of Config.
func (r *Replayer) readBody(from io.Reader, j job, b *exchange.Body) error {
	limit := r.config.MaxAnswer
	if x := j.x.Response; x != nil {
		limit = max(limit, 2*x.Body.Size)
	}
	buf := r.buffers.Get().(*[bufferSize]byte)
	defer r.buffers.Put(buf)
	var sum exchange.Digester
	for {
		n, err := from.Read(buf[:])
		b.Size += int64(n)
		fit := n
		if room := r.config.MaxBody - int64(len(b.Bytes)); int64(n) > room {
			b.Truncated = true
			fit = int(room)
		}
		if b.Truncated {
			sum.Missed(buf[:n], b.Bytes)
		}
		b.Bytes = append(b.Bytes, buf[:fit]...)
		switch {
		case err == io.EOF:
			sum.Into(b)
			return nil
		case err != nil:
			return err
		case b.Size > limit:
			return errTooLarge
		}
	}
}

// fields lists a map of net/http, by name.
func fields(h http.Header) exchange.Header {
	if len(h) == 0 {
		return nil
	}
	names := make([]string, 0, len(h))
	for n := range h {
		names = append(names, n)
	}
	slices.Sort(names)
	var l exchange.Header
	for _, n := range names {
		for _, v := range h[n] {
			l = append(l, exchange.Field{Name: n, Value: v})
		}
	}
	return l
}

// countedBody counts what net/http takes to send.
type countedBody struct {
	io.Reader
	sent *atomic.Uint64
}

func (b *countedBody) Close() error { return nil }

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.sent.Add(uint64(n))
	return n, err
}
