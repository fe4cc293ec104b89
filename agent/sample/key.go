package sample

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"net/netip"
	"strconv"
	"strings"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// selectionSalt is the salt of every selection in the agent, whatever it goes
// by. The control's share and the published share have salts of their own.
const selectionSalt = "request"

// byKind is what a selection goes by.
type byKind uint8

const (
	byRequest byKind = iota
	byURL
	byHeader
	byConnection
)

// By says what the selection goes by: requests with the same key are all taken
// or all left. The zero value is by request.
type By struct {
	kind byKind
	// header is the field's name of by header.
	header string
}

// ParseBy reads "request", "url", "connection" or "header:NAME"; "" is request.
//
//   - request: both endpoints, the connection's initial sequence number and
//     the stream offset of the request. Each request by itself.
//   - url: method, path and query. What the sample shows holds for the sampled
//     URLs only.
//   - header:NAME: the value of the first field of that name, so that a user
//     or a session is followed. A request without one, or with an empty one,
//     goes by request: else all of these would be taken or left together.
//   - connection: both endpoints and the initial sequence number.
func ParseBy(s string) (By, error) {
	switch s {
	case "", "request":
		return By{}, nil
	case "url":
		return By{kind: byURL}, nil
	case "connection":
		return By{kind: byConnection}, nil
	}
	if name, ok := strings.CutPrefix(s, "header:"); ok {
		if !token(name) {
			return By{}, fmt.Errorf("%q: %q is no header name", s, name)
		}
		return By{kind: byHeader, header: name}, nil
	}
	return By{}, fmt.Errorf("%q: want request, url, connection or header:NAME", s)
}

// String gives the text that ParseBy reads.
func (b By) String() string {
	switch b.kind {
	case byURL:
		return "url"
	case byHeader:
		return "header:" + b.header
	case byConnection:
		return "connection"
	}
	return "request"
}

// RequestKey is the key of a request by which it is selected in the agent (by
// request): client and server as ip:port, the initial sequence number as 8 hex
// digits and the stream offset in decimal, joined by one zero byte, spelled as
// in exchange.NewID. Keep(RequestKey(...), "request", rate) is the agent's
// choice.
func RequestKey(f *exchange.Flow, isn uint32, offset uint64) string {
	b := appendConnection(nil, f, isn)
	return string(appendOffset(b, offset))
}

// appendConnection appends the key of a connection.
func appendConnection(b []byte, f *exchange.Flow, isn uint32) []byte {
	b = f.Client.AppendTo(b)
	b = append(b, 0)
	b = f.Server.AppendTo(b)
	b = append(b, 0)
	for shift := 28; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[isn>>shift&15])
	}
	return b
}

func appendOffset(b []byte, offset uint64) []byte {
	return strconv.AppendUint(append(b, 0), offset, 10)
}

// picker turns the keys of one request into numbers, each made when it is first
// asked for. It belongs to one goroutine.
type picker struct {
	// hash is for what is as long as a client likes; buf is for connections.
	hash hash.Hash
	buf  []byte
	sum  [sha256.Size]byte
	// spelled are connections of the last requests, by a few bits of each.
	spelled [64]spelledConn
	// have and v are the numbers of the request, by byKind; that of a header is
	// made each time.
	have [byConnection + 1]bool
	v    [byConnection + 1]uint32
}

// spelledConn is a connection whose key was spelled, with the salt before it: the
// requests of one share that part, and making it costs as much as hashing it.
type spelledConn struct {
	client, server netip.AddrPort
	isn            uint32
	n              int // of text; 0 when there is none
	text           [120]byte
}

func newPicker() picker { return picker{hash: sha256.New(), buf: make([]byte, 0, 256)} }

// connection puts the salt and the key of the head's connection into buf.
func (p *picker) connection(h *exchange.Head) {
	f := h.Flow
	s := &p.spelled[(uint32(f.Client.Port())^h.ISN)%uint32(len(p.spelled))]
	if s.n > 0 && s.isn == h.ISN && s.client == f.Client && s.server == f.Server {
		p.buf = append(p.buf[:0], s.text[:s.n]...)
		return
	}
	p.buf = appendConnection(append(p.buf[:0], saltPrefix...), f, h.ISN)
	if len(p.buf) <= len(s.text) { // not with an address that has a zone
		s.client, s.server, s.isn = f.Client, f.Server, h.ISN
		s.n = copy(s.text[:], p.buf)
	}
}

// next forgets the last request.
func (p *picker) next() { p.have = [byConnection + 1]bool{} }

// number gives the number of the request whose head is h and whose target is t.
func (p *picker) number(by *By, h *exchange.Head, t *target) uint32 {
	kind := by.kind
	if kind == byHeader {
		if value := h.Get(by.header); len(value) > 0 {
			p.start()
			p.hash.Write(value)
			return p.finish()
		}
		kind = byRequest
	}
	if p.have[kind] {
		return p.v[kind]
	}
	switch kind {
	case byURL:
		p.start()
		p.hash.Write(h.Method)
		p.hash.Write(zeroByte)
		p.hash.Write(t.path)
		p.hash.Write(zeroByte)
		p.hash.Write(t.query)
		p.v[kind] = p.finish()
	default:
		p.connection(h)
		if kind == byRequest {
			p.buf = appendOffset(p.buf, h.Offset)
		}
		p.v[kind] = number(sha256.Sum256(p.buf))
	}
	p.have[kind] = true
	return p.v[kind]
}

// saltPrefix and zeroByte go into hashes. Nobody writes to them.
var (
	saltPrefix = []byte(selectionSalt + "\x00")
	zeroByte   = []byte{0}
)

func (p *picker) start() {
	p.hash.Reset()
	p.hash.Write(saltPrefix)
}

func (p *picker) finish() uint32 {
	p.hash.Sum(p.sum[:0])
	return number(p.sum)
}
