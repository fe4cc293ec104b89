package http1

import (
	"errors"
	"fmt"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// ErrResponse is the cause of every error that a ResponseParser gives for
// bytes that are no HTTP/1 answer.
var ErrResponse = errors.New("not an HTTP/1 response")

// ErrHead is the cause when the head is over its limit.
var ErrHead = errors.New("response head over its limit")

// ErrCut is the cause when the connection ended inside the answer.
var ErrCut = errors.New("connection closed inside the response")

// ResponseConfig bounds what a ResponseParser keeps.
type ResponseConfig struct {
	// MaxBody bounds the kept body, in bytes; the rest is counted and goes
	// into the digest. Zero means 1 MiB.
	MaxBody int64
	// MaxHead bounds a head, in bytes. Zero means MaxHead.
	MaxHead int
}

// ResponseParser reads one answer after the other from a connection that asks
// one request at a time. Not safe for concurrent use.
type ResponseParser struct {
	cfg     ResponseConfig
	method  methodKind
	buf     []byte
	body    body
	keep    *content
	resp    *exchange.Response
	interim []int
	first   int64
	state   sideState
	started bool
	alive   bool
}

// NewResponseParser makes a parser; call Reset before each answer.
func NewResponseParser(cfg ResponseConfig) *ResponseParser {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.MaxHead <= 0 {
		cfg.MaxHead = MaxHead
	}
	return &ResponseParser{cfg: cfg}
}

// Reset prepares for the answer to a request with that method.
func (p *ResponseParser) Reset(method string) {
	*p = ResponseParser{cfg: p.cfg, buf: p.buf[:0]}
	switch method {
	case "HEAD":
		p.method = methodHead
	case "CONNECT":
		p.method = methodConnect
	}
}

// Started says whether any byte came since Reset.
func (p *ResponseParser) Started() bool { return p.started }

// Response is the answer, once it is whole; the caller owns it.
func (p *ResponseParser) Response() *exchange.Response { return p.resp }

// KeepAlive says whether the connection may carry another request (RFC 9112
// section 9.3).
func (p *ResponseParser) KeepAlive() bool { return p.alive && p.state == sideEnd }

// Feed takes bytes, which are lent for the call. It says how many belong to
// this answer and whether it is whole. now, in nanoseconds since the Unix
// epoch, is the time at which they came. After an error the connection is of no
// use any more.
func (p *ResponseParser) Feed(b []byte, now int64) (n int, done bool, err error) {
	if len(b) > 0 && !p.started {
		p.started = true
	}
	for n < len(b) {
		switch p.state {
		case sideIdle:
			k, whole, err := p.head(b[n:], now)
			n += k
			if err != nil {
				return n, false, err
			}
			if !whole {
				return n, false, nil
			}
			if p.state == sideEnd {
				return n, true, nil
			}
		case sideBody:
			k, done, ok := p.body.feed(b[n:])
			n += k
			if !ok {
				return n, false, fmt.Errorf("chunked body: %w", ErrResponse)
			}
			if done {
				p.finish(now)
				return n, true, nil
			}
		default:
			return n, true, nil
		}
	}
	return n, p.state == sideEnd, nil
}

// EOF says that the connection was closed. An answer whose body ends with the
// connection is then whole; any other is cut.
func (p *ResponseParser) EOF(now int64) (done bool, err error) {
	switch {
	case p.state == sideEnd:
		return true, nil
	case p.state == sideBody && p.body.kind == exchange.FramingClose:
		p.alive = false
		p.finish(now)
		return true, nil
	}
	return false, ErrCut
}

func (p *ResponseParser) head(b []byte, now int64) (n int, whole bool, err error) {
	if len(p.buf) == 0 {
		p.first = now
	}
	head, had := b, len(p.buf)
	if had > 0 {
		p.buf = append(p.buf, b[:min(len(b), p.cfg.MaxHead+1-had)]...)
		head = p.buf
	}
	var f framingFields
	first, end := readHead(head, had, &f, nil)
	if end < 0 || end > p.cfg.MaxHead {
		if may, _ := maybeResponse(head); !may {
			return len(b), false, fmt.Errorf("status line: %w", ErrResponse)
		}
		if len(head) > p.cfg.MaxHead {
			return len(b), false, fmt.Errorf("%w of %d bytes", ErrHead, p.cfg.MaxHead)
		}
		if had == 0 {
			p.buf = append(p.buf, b...)
		}
		return len(b), false, nil
	}
	n = end - had
	status, reason, minor, ok := statusLine(first)
	if !ok || f.fields > maxFields {
		return n, false, fmt.Errorf("head: %w", ErrResponse)
	}
	if status < 200 && status != 101 {
		if len(p.interim) >= 100 {
			return n, false, fmt.Errorf("more than 100 interim answers: %w", ErrResponse)
		}
		p.interim = append(p.interim, status)
		p.buf = p.buf[:0]
		return n, true, nil
	}
	proto := "HTTP/1.1"
	if minor == 0 {
		proto = "HTTP/1.0"
	}
	p.alive = !f.close && (minor > 0 || f.keep) && !(f.te && f.cl)
	kind, length, ok := responseFraming(p.method, status, minor, &f)
	if !ok || status == 101 || f.te && minor == 0 {
		return n, false, fmt.Errorf("framing of the body: %w", ErrResponse)
	}
	if p.method == methodConnect && status/100 == 2 {
		kind, p.alive = exchange.FramingNone, false
	}
	p.keep = &content{max: p.cfg.MaxBody, keep: true}
	head = head[:end]
	at := fieldLines(head)
	_, text, room := p.keep.text(head, kind, length)
	p.keep.buf = room
	p.resp = &exchange.Response{
		Status: status, Reason: part(head, text, reason), Proto: proto, Interim: p.interim,
		Header: header(nil, head[at:], text[at:]), Framing: kind, FirstByte: p.first,
	}
	p.body.begin(kind, length, p.keep)
	p.state = sideBody
	p.buf = p.buf[:0]
	if kind == exchange.FramingNone {
		p.finish(now)
	}
	return n, true, nil
}

func (p *ResponseParser) finish(now int64) {
	p.resp.LastByte = now
	p.resp.Body = p.keep.result(p.body.size)
	if p.keep.tail != nil {
		p.resp.Trailer = header(nil, p.keep.tail, string(p.keep.tail))
	}
	p.state = sideEnd
}
