package agent

import (
	"github.com/shadowtap/shadowtap/bpf"
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// skipFrom is of how many bytes that are still to come of a body the tap is told that
// nobody wants them. What is shorter has mostly passed before the reader sees its
// head: it comes each 1 to 8 ms; for those there are forecasts. With answers of 1 MiB in a
// closed loop over veth telling it changed nothing, with 20 MiB it took away about half of
// what the agent and the tap cost; telling costs no system call.
const skipFrom = 256 << 10

// skipper stands between the parser of a shard and its assembler, and says what is
// worth a word to the tap, and what the sampler knows of requests that have not begun. It
// belongs to the shard's goroutine.
type skipper struct {
	*reassembly.Assembler
	unwanted func(f *exchange.Flow, isn uint32, offset uint64) bool
}

// Unwanted implements http1.Forecaster.
func (s *skipper) Unwanted(f *exchange.Flow, isn uint32, offset uint64) bool {
	return s.unwanted(f, isn, offset)
}

// Skip implements http1.Skipper.
func (s *skipper) Skip(c *reassembly.Conn, d reassembly.Dir, n uint64) {
	if n >= skipFrom {
		s.Assembler.Skip(c, d, n)
	}
}

// tapSkips is the tap as the assembler sees it.
type tapSkips struct{ maps *bpf.Maps }

// Skip implements reassembly.Skipper.
func (t tapSkips) Skip(s *reassembly.Stream, from, n, ack uint32) (uint32, bool) {
	k := bpf.Stream(*s)
	id, ok := t.maps.Skip(&k, from, n, ack)
	return uint32(id), ok
}

// SkipRest implements reassembly.Skipper.
func (t tapSkips) SkipRest(s *reassembly.Stream) (uint32, bool) {
	k := bpf.Stream(*s)
	id, ok := t.maps.SkipRest(&k)
	return uint32(id), ok
}

// Skipped implements reassembly.Skipper.
func (t tapSkips) Skipped(id uint32) (from, to uint32, over bool) {
	return t.maps.Skipped(bpf.SkipID(id))
}

// SkipEnd implements reassembly.Skipper.
func (t tapSkips) SkipEnd(id uint32) { t.maps.SkipEnd(bpf.SkipID(id)) }

// Forecast implements reassembly.Forecaster.
func (t tapSkips) Forecast(s *reassembly.Stream, start uint32, f *reassembly.Forecast) {
	k := bpf.Stream(*s)
	t.maps.Forecast(&k, &bpf.Forecast{
		Start: start, Step: f.Step, Unwanted: f.Unwanted,
		First: f.First, Before: f.Before, Head: f.Head, Digits: f.Digits,
	})
}
