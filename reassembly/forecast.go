package reassembly

// Forecast says which answers of a connection nobody wants before they have begun,
// for a client that asks when it has the answer before, and how their heads look.
type Forecast struct {
	// Start is the position in the client's stream at which the request of bit 0
	// of Unwanted begins; Step is from one request to the next, in bytes.
	Start uint64
	Step  uint32
	// Unwanted has a bit for each of 64 requests.
	Unwanted uint64
	// First is what each head begins with, and Before what stands before the
	// digits of its Content-Length, at the offset Digits, in bytes.
	First, Before [16]byte
	// Head is the length of each head, in bytes.
	Head, Digits uint32
}

// Forecaster may keep the bodies of such answers from being captured. It is told at
// which sequence number the request of bit 0 begins, and the stream of the answers, which is lent for
// the call, as f is. What it leaves out comes as Segment.Skipped.
type Forecaster interface {
	Forecast(s *Stream, start uint32, f *Forecast)
}

// Forecast says f of c in place of what was said before. Handlers call it inside
// Data. Without a Forecaster it does nothing.
func (a *Assembler) Forecast(c *Conn, f *Forecast) {
	if a.forecaster == nil {
		return
	}
	h, p := c.of(Server)
	if h.state != halfOpen || p.state != halfOpen {
		return
	}
	s := c.stream(h)
	a.forecaster.Forecast(&s, p.next-uint32(p.off-f.Start), f)
}

// leftOut goes on behind n bytes at seq that have passed and were not captured. They
// are not held back: where they do not come in their place they are a hole.
func (a *Assembler) leftOut(c *Conn, h *half, seq, n uint32) {
	if d := int32(h.next - seq); h.state != halfOpen || h.how != 0 || d < 0 || uint32(d) >= n {
		return
	}
	a.hole(c, h, seq+n, true)
}
