package http2

import (
	"fmt"
	"hash/maphash"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// MaxHead bounds a header block, in bytes on the wire, and in bytes of its
// fields as RFC 9113 section 10.5.1 counts them.
const MaxHead = 64 << 10

const (
	// maxFields bounds the fields of a header block.
	maxFields = 1024
	// maxStreams bounds the streams of a connection that are followed at once.
	maxStreams = 1000
	// maxTable bounds a dynamic table, in bytes as RFC 7541 section 4.1 counts
	// them; firstTable is its size before anybody said another.
	maxTable   = 64 << 10
	firstTable = 4096
	// maxInterim bounds the interim answers of one exchange.
	maxInterim = 100
	// maxFree bounds the decoders that wait for a connection, and the conns.
	maxFree = 256
)

// What a connection and a stream take from the budget, in bytes.
const (
	connCost   = int64(unsafe.Sizeof(conn{}))
	streamCost = int64(unsafe.Sizeof(stream{}))
)

// Config of a Parser.
type Config struct {
	// Keeper decides what is kept. Required.
	Keeper exchange.Keeper
	// Sink gets the exchanges. Required.
	Sink exchange.Sink
	// MaxBody bounds a kept body, in bytes. Zero means 1 MiB.
	MaxBody int64
	// Budget is that of the assembler. Required.
	Budget *reassembly.Budget
	// Domain names the domains of taps. Nil means all are "".
	Domain func(uint16) string
	// Skipper is told of connections of which nothing can be used any more. Nil
	// means nobody is.
	Skipper Skipper
}

// Skipper may keep bytes from being captured; an Assembler is one. What comes all
// the same is counted. It is called inside Data and Gap.
type Skipper interface {
	// SkipRest: nothing of either direction is used any more.
	SkipRest(c *reassembly.Conn)
}

// Parser is the factory of one shard's HTTP/2 connections. Not safe for
// concurrent use.
type Parser struct {
	cfg Config
	st  exchange.Stats
	// section is that of the block at hand: decoded, or the memo's. decoder is
	// the one that emits to decoded.
	section *section
	path    textBuffer // of a known block, when it was in Huffman's code
	decoded section
	decoder *hpack.Decoder
	seed    maphash.Seed
	// remembered is what all memos take of the budget, in bytes.
	remembered int64
	head       exchange.Head
	flow       exchange.Flow
	out        exchange.Complete
	refused    bool    // by Refuse
	streams    *stream // free list
	conns      *conn   // free list
	nConns     int     // in it
	decoders   []*hpack.Decoder
	emitField  func(hpack.HeaderField)
	// For putting to rest: all of a conn, and its tables.
	sealing []byte
	freezer *freezer
}

// New makes a Parser.
func New(cfg Config) (*Parser, error) {
	switch {
	case cfg.Keeper == nil:
		return nil, fmt.Errorf("http2: Keeper is required")
	case cfg.Sink == nil:
		return nil, fmt.Errorf("http2: Sink is required")
	case cfg.Budget == nil:
		return nil, fmt.Errorf("http2: Budget is required")
	case cfg.MaxBody < 0:
		return nil, fmt.Errorf("http2: MaxBody must not be negative")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	p := &Parser{cfg: cfg, seed: maphash.MakeSeed(), freezer: newFreezer()}
	p.emitField = p.emit
	return p, nil
}

// Stats gives the counters. Call it from the shard's goroutine.
func (p *Parser) Stats() exchange.Stats { return p.st }

// Refuse begins the end: requests from now on are Late.
func (p *Parser) Refuse() { p.refused = true }

// Open gives the handler of a connection that turns to HTTP/2. It takes
// ownership of what h refers to.
func (p *Parser) Open(t *reassembly.Conn, h *exchange.Handover) reassembly.Handler {
	c := p.newConn(t)
	c.open(h)
	return c
}

func (p *Parser) newConn(t *reassembly.Conn) *conn {
	c := p.conns
	if c != nil {
		p.conns, p.nConns = c.free, p.nConns-1
		c.free = nil
	} else {
		c = new(conn)
	}
	c.p, c.tcp = p, t
	return c
}

// completed ends an exchange that is complete.
func (p *Parser) completed() {
	p.st.Exchanges[exchange.ResultComplete][exchange.ReasonNone]++
	p.st.InFlight--
}

// lose ends one that is not. d is nil when the keeper was not asked.
func (p *Parser) lose(d *exchange.Decision, first int64, r exchange.Result, why exchange.Reason) {
	p.st.Exchanges[r][why]++
	p.st.InFlight--
	p.cfg.Sink.Lost(exchange.Lost{Decision: d, Result: r, Start: first, N: 1})
}

func (p *Parser) start() {
	p.st.Started++
	p.st.InFlight++
}

// lone counts n exchanges that began and ended at once.
func (p *Parser) lone(n uint64, r exchange.Result, why exchange.Reason) {
	p.st.Started += n
	p.st.Exchanges[r][why] += n
	p.cfg.Sink.Lost(exchange.Lost{Result: r, N: n})
}

// newDecoder gives a decoder with an empty table.
func (p *Parser) newDecoder() *hpack.Decoder {
	if n := len(p.decoders); n > 0 {
		d := p.decoders[n-1]
		p.decoders = p.decoders[:n-1]
		return d
	}
	return hpack.NewDecoder(firstTable, p.emitField)
}

// freeDecoder takes a decoder back whose table is of the given size.
func (p *Parser) freeDecoder(d *hpack.Decoder, table uint32) {
	if table > firstTable || len(p.decoders) >= maxFree || d.Close() != nil {
		return
	}
	d.SetMaxDynamicTableSize(0)
	d.SetMaxDynamicTableSize(firstTable)
	p.decoders = append(p.decoders, d)
}

// emit is the decoders' emit function. Over the limit decoding goes on for the
// table's sake alone.
func (p *Parser) emit(f hpack.HeaderField) {
	if !p.decoded.over && !p.decoded.add(f) {
		p.decoder.SetEmitEnabled(false)
	}
}
