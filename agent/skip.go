package agent

import (
	"time"

	"github.com/shadowtap/shadowtap/bpf"
	"github.com/shadowtap/shadowtap/reassembly"
)

// skipper tells the tap what one shard does not want: it stands between parser
// and assembler (http1.Skipper) and between assembler and tap
// (reassembly.Skipper). It belongs to the shard's goroutine.
//
// That the kernel refuses is no error: then the bytes come and are framed.
type skipper struct {
	maps   *bpf.Maps
	asm    *reassembly.Assembler
	stream bpf.Stream // of the call at hand
	seen   int64      // the time of the segment at hand, ns since the Unix epoch
}

// passes is how fast a body is taken to pass, in bytes per nanosecond. What is
// left of one is worth a word to the tap only when it does not pass before the
// tap can hear it: rings are read by the clock, up to some ms late.
const passes = 1

// ofConn are the skipper's methods for the parser.
type ofConn struct{ s *skipper }

// Skip implements http1.Skipper.
func (o ofConn) Skip(c *reassembly.Conn, d reassembly.Dir, n uint64) uint64 {
	if age := time.Now().UnixNano() - o.s.seen; age > 0 && n <= uint64(age)*passes {
		return 0
	}
	return o.s.asm.Skip(c, d, n)
}

// SkipRest implements http1.Skipper.
func (o ofConn) SkipRest(c *reassembly.Conn) { o.s.asm.SkipRest(c) }

func (s *skipper) take(x *reassembly.Stream) *bpf.Stream {
	s.stream = bpf.Stream{Src: x.Src, Dst: x.Dst, SrcPort: x.SrcPort, DstPort: x.DstPort, Domain: x.Domain}
	return &s.stream
}

// Skip implements reassembly.Skipper.
func (s *skipper) Skip(x *reassembly.Stream, from, to uint32) {
	_ = s.maps.Skip(s.take(x), from, to)
}

// SkipRest implements reassembly.Skipper.
func (s *skipper) SkipRest(x *reassembly.Stream) { _ = s.maps.SkipRest(s.take(x)) }

// Skipped implements reassembly.Skipper.
func (s *skipper) Skipped(x *reassembly.Stream) (first, at uint32, ok bool) {
	first, at, ok, _ = s.maps.Skipped(s.take(x))
	return first, at, ok
}
