package agent

import (
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// doubter takes down what it is asked about.
type doubter struct {
	doubts []exchange.Doubt
	n      int
}

func (d *doubter) Keep(h *exchange.Head) exchange.Decision {
	d.doubts = append(d.doubts, h.Doubt)
	return exchange.Decision{}
}

func (d *doubter) Complete(*exchange.Complete) { d.n++ }
func (d *doubter) Lost(exchange.Lost)          {}

// A shard reads HTTP/1 and HTTP/2 into one ledger, and both may be replayed.
func TestShardReadsBoth(t *testing.T) {
	d := &doubter{}
	s, err := newShard(shardConfig{keeper: d, sink: d, memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	talk := func(port uint16, request, answer string) {
		seq := [2]uint32{100, 200}
		send := func(client bool, flags reassembly.Flags, b string) {
			seg := reassembly.Segment{SrcPort: port, DstPort: 80, Seq: seq[0], Ack: seq[1], Flags: flags, Side: reassembly.ToServer, Payload: []byte(b)}
			seg.Src[15], seg.Dst[15] = 1, 2
			i := 0
			if !client {
				seg.SrcPort, seg.DstPort, seg.Src, seg.Dst, seg.Side = seg.DstPort, seg.SrcPort, seg.Dst, seg.Src, reassembly.ToClient
				seg.Seq, seg.Ack = seg.Ack, seg.Seq
				i = 1
			}
			s.Segment(&seg)
			seq[i] += uint32(len(b))
			if flags&reassembly.SYN != 0 {
				seq[i]++
			}
		}
		send(true, reassembly.SYN, "")
		send(false, reassembly.SYN|reassembly.ACK, "")
		send(true, reassembly.ACK, request)
		send(false, reassembly.ACK, answer)
	}
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	talk(1000, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n")
	talk(1001, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+settings+"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41\x01h", settings+"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88")
	s.close(reassembly.CloseDone)
	if d.n != 2 || len(d.doubts) != 2 || d.doubts[0] != exchange.DoubtNone || d.doubts[1] != exchange.DoubtNone {
		t.Errorf("%d exchanges, doubts %v", d.n, d.doubts)
	}
	st := s.stats()
	if h := &st.http; h.Complete() != 2 || h.Started != 2 || h.InFlight != 0 || h.Parsed != st.asm.Delivered {
		t.Errorf("%+v %+v", st.http, st.asm)
	}
}
