package reassembly_test

import (
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
)

// leftOut is a piece of the server's stream: n bytes, and skipped behind them that the tap
// left out.
type leftOut struct{ seq, n, skipped uint32 }

// What the tap left out has passed, at its place in the stream; what does not come there
// is a hole, until it is acknowledged.
func TestLeftOut(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces []leftOut
		want   string // "|" is the end of the capture
	}{
		{"behind a head", []leftOut{{100, 50, 1000}, {1150, 10, 0}}, "1 data 100+50; 1 skipped 150+1000; 1 data 1150+10"},
		{"alone", []leftOut{{100, 0, 1000}, {1100, 0, 500}, {1600, 10, 0}}, "1 skipped 100+1000; 1 skipped 1100+500; 1 data 1600+10"},
		{"twice", []leftOut{{100, 50, 1000}, {100, 50, 1000}, {1150, 10, 0}}, "1 data 100+50; 1 skipped 150+1000; 1 data 1150+10"},
		{"partly again", []leftOut{{100, 50, 1000}, {600, 0, 1000}, {1600, 10, 0}}, "1 data 100+50; 1 skipped 150+1000; 1 skipped 1150+450; 1 data 1600+10"},
		{"what is copied later", []leftOut{{100, 50, 1000}, {150, 1000, 0}, {1150, 10, 0}}, "1 data 100+50; 1 skipped 150+1000; 1 data 1150+10"},
		{"before what waits", []leftOut{{1100, 10, 0}, {100, 0, 1000}}, "1 skipped 100+1000; 1 data 1100+10"},
		{"over what waits", []leftOut{{500, 10, 0}, {100, 0, 1000}, {1100, 10, 0}}, "1 skipped 100+1000; 1 data 1100+10"},
		{"behind a hole", []leftOut{{200, 0, 1000}, {1200, 10, 0}}, "| 1 gap 100+1100; 1 data 1200+10; close 4"},
	} {
		for _, isn := range []uint32{1000, 0xffffff00, 0xfffffc00} {
			b := newSkipBed(t, 1, isn, 0)
			b.n = 1 << 40 // nothing is skipped by the tap's other way
			b.take()
			for _, p := range c.pieces {
				b.now += 1000
				seg := reassembly.Segment{
					SrcPort: 80, DstPort: 1024, Flags: reassembly.ACK, Side: reassembly.ToClient, Time: b.now,
					Seq: b.isn[1] + 1 + p.seq, Ack: b.isn[0] + 11, Payload: make([]byte, p.n), Skipped: p.skipped,
				}
				seg.Src[15], seg.Dst[15] = 2, 1
				b.asm.Segment(&seg)
			}
			got := b.take()
			b.asm.Close(reassembly.CloseStopped)
			if rest := b.take(); rest != "close 4" {
				got += "| " + rest
			}
			if got != c.want {
				t.Errorf("%s, %x: told\n%s\nwant\n%s", c.name, isn, got, c.want)
			}
			st := b.asm.Stats()
			if st.Captured != st.Delivered+st.Duplicate+st.Malformed+st.OverMemory+st.Queued {
				t.Errorf("%s: %+v", c.name, st)
			}
		}
	}
}
