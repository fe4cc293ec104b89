package bpf

import "sync/atomic"

// MaxForecastHead bounds the head of the answers of a Forecast, in bytes.
const MaxForecastHead = 1024

// Forecast says which answers of a stream nobody wants before they have begun, and
// how their heads look.
type Forecast struct {
	// Start is the sequence number, in the other direction, at which the request of
	// bit 0 of Unwanted begins. Step is from one request to the next, in bytes;
	// with 0 there is bit 0 alone.
	Start, Step uint32
	// Unwanted has a bit for each of 64 requests.
	Unwanted uint64
	// First is what each head begins with, and Before what stands before the
	// digits of its Content-Length, at the offset Digits.
	First, Before [16]byte
	// Head is the length of each head, at most MaxForecastHead.
	Head, Digits uint32
}

// forecastWords is struct tap_forecast of tap.h.
type forecastWords struct {
	State    atomic.Uint32
	Owner    uint32
	Start    uint32
	Step     uint32
	Unwanted uint64
	First    [16]byte
	Before   [16]byte
	Head     uint32
	Digits   uint32
	Src      [16]byte
	Dst      [16]byte
	SrcPort  uint16
	DstPort  uint16
	Domain   uint16
	Pad      uint16
	Of       uint32
	Ack      uint32
	Next     uint32
	Left     uint32
}

const (
	forecastCount = 8192       // TAP_FORECASTS
	forecastBusy  = 0xffffffff // TAP_FORECAST_BUSY
)

// Forecast says f of the stream s, in place of what was said of it before. An answer
// that is as f says and not wanted comes as its head with Event.Skipped, and its
// further segments as events without payload, as long as they come in order; the
// packets are counted NotWanted and are not Lost. It is advice: any segment
// may come whole all the same. The first answer after the first word on a stream does.
//
// It costs no system call. Of two streams with the same place the last one has it.
func (m *Maps) Forecast(s *Stream, f *Forecast) {
	i := m.slot(s, forecastCount)
	w := &m.forecast.words[i]
	state := w.State.Load()
	if state == forecastBusy || !w.State.CompareAndSwap(state, forecastBusy) {
		return
	}
	if w.Src != s.Src || w.Dst != s.Dst || w.SrcPort != s.SrcPort || w.DstPort != s.DstPort || w.Domain != s.Domain || state == 0 {
		w.Owner++
		w.Src, w.Dst, w.SrcPort, w.DstPort, w.Domain = s.Src, s.Dst, s.SrcPort, s.DstPort, s.Domain
	}
	w.Start, w.Step, w.Unwanted = f.Start, f.Step, f.Unwanted
	w.First, w.Before, w.Head, w.Digits = f.First, f.Before, f.Head, f.Digits
	if state++; state == forecastBusy {
		state = 1
	}
	w.State.Store(max(state, 1))
}
