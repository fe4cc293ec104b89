package reassembly_test

import (
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
)

// tally counts what it is given.
type tally struct{ bytes, gaps uint64 }

func (h *tally) Data(_ reassembly.Dir, b []byte, _ *reassembly.At) { h.bytes += uint64(len(b)) }
func (h *tally) Gap(_ reassembly.Dir, n uint64, _ *reassembly.At)  { h.gaps += n }
func (h *tally) Doubt(reassembly.Dir, uint64, uint64)              {}
func (h *tally) End(reassembly.Dir, reassembly.End)                {}
func (h *tally) Close(reassembly.Close)                            {}

type tallies struct {
	rooms
	tally
}

func (r *tallies) Open(*reassembly.Conn) reassembly.Handler { return &r.tally }

// Whoever receives says for how long it likes nothing that is captured: a pure
// acknowledgement is not copied, and of one direction alone there is none. What was
// acknowledged last is then further away than sequence numbers can tell, and no hole
// for that.
func TestLongWithoutAcknowledgement(t *testing.T) {
	const piece, all = 1 << 20, 9 << 30
	payload := make([]byte, piece)
	for _, tt := range []struct {
		name   string
		change func(*reassembly.Config)
		shaken bool // each two segments stand in the wrong order
	}{{"live", nil, false}, {"live, in disorder", nil, true}, {"file", file, false}, {"file, in disorder", file, true}} {
		t.Run(tt.name, func(t *testing.T) {
			r := &tallies{}
			b := newBed(t, func(c *reassembly.Config) {
				if c.Factory = r; tt.change != nil {
					tt.change(c)
				}
			})
			b.send("c 99/0 S", "s 199/100 SA", "c 100/200 A get")
			s := reassembly.Segment{Tap: 1, Src: [16]byte{15: 2}, Dst: [16]byte{15: 1}, SrcPort: 80, DstPort: 1024, Side: reassembly.ToClient,
				Ack: 103, Flags: reassembly.ACK, Time: b.now, Payload: payload}
			sent := uint64(0)
			for n := uint64(0); n < all/piece; n++ {
				at := n
				if tt.shaken {
					at ^= 1
				}
				s.Seq = uint32(200 + at*piece)
				s.Time += 1e5
				b.Segment(&s)
				sent += piece
			}
			b.Close(reassembly.CloseDone)
			if r.bytes != sent+3 || r.gaps != 0 {
				t.Errorf("%d bytes and %d in gaps, want %d and none: %+v", r.bytes, r.gaps, sent+3, b.Stats())
			}
			b.ledger()
		})
	}
}
