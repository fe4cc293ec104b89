// Package pairtest is what benchmarks compare the parsers with: gopacket's
// reassembly, and a reader of a library behind it, as a user of gopacket writes
// it. No program imports it.
package pairtest

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync/atomic"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	gpreassembly "github.com/gopacket/gopacket/reassembly"

	"github.com/shadowtap/shadowtap/reassembly"
)

// Pair gives each direction of a connection to a reader of its own, behind a
// channel and on a goroutine: readers of a library wait for bytes. Segment and
// Close belong to one goroutine.
type Pair struct {
	asm  *gpreassembly.Assembler
	tcp  [2]layers.TCP
	net  [2]gopacket.Flow
	done atomic.Int64
	read func(client bool, r io.Reader, done func())
}

// New makes a Pair. read reads one direction to its end, on a goroutine of its
// own, and calls done for each exchange that is over; it is called for both
// directions of each connection.
func New(read func(client bool, r io.Reader, done func())) *Pair {
	p := &Pair{read: read}
	p.asm = gpreassembly.NewAssembler(gpreassembly.NewStreamPool((*factory)(p)))
	ip := layers.IPv4{SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
	p.net = [2]gopacket.Flow{ip.NetworkFlow(), ip.NetworkFlow().Reverse()}
	return p
}

// Segment takes a segment between a client's port and port 80. payload is lent
// for the call.
func (p *Pair) Segment(port uint16, client bool, seq, ack uint32, f reassembly.Flags, payload []byte) {
	i := 1
	if client {
		i = 0
	}
	l := &p.tcp[i]
	l.SrcPort, l.DstPort = layers.TCPPort(port), 80
	if !client {
		l.SrcPort, l.DstPort = l.DstPort, l.SrcPort
	}
	l.SetInternalPortsForTesting()
	l.Seq, l.Ack, l.SYN, l.ACK, l.Payload = seq, ack, f&reassembly.SYN != 0, f&reassembly.ACK != 0, payload
	p.asm.AssembleWithContext(p.net[i], l, noInfo{})
}

// Wait returns when n exchanges are over.
func (p *Pair) Wait(n int64) {
	for p.done.Load() < n {
		runtime.Gosched()
	}
}

// Close ends every connection.
func (p *Pair) Close() { p.asm.FlushAll() }

type noInfo struct{}

func (noInfo) GetCaptureInfo() gopacket.CaptureInfo { return gopacket.CaptureInfo{} }

type factory Pair

func (f *factory) New(_, _ gopacket.Flow, _ *layers.TCP, _ gpreassembly.AssemblerContext) gpreassembly.Stream {
	s := &stream{}
	for i := range s.to {
		s.to[i] = make(chan []byte, 64)
		go f.read(i == 0, &chanReader{from: s.to[i]}, func() { f.done.Add(1) })
	}
	return s
}

type stream struct{ to [2]chan []byte }

func (s *stream) Accept(_ *layers.TCP, _ gopacket.CaptureInfo, _ gpreassembly.TCPFlowDirection, _ gpreassembly.Sequence, start *bool, _ gpreassembly.AssemblerContext) bool {
	*start = true
	return true
}

func (s *stream) ReassembledSG(sg gpreassembly.ScatterGather, _ gpreassembly.AssemblerContext) {
	n, _ := sg.Lengths()
	if n == 0 {
		return
	}
	dir, _, _, _ := sg.Info()
	i := 0
	if dir == gpreassembly.TCPDirServerToClient {
		i = 1
	}
	s.to[i] <- bytes.Clone(sg.Fetch(n)) // lent for the call
}

func (s *stream) ReassemblyComplete(gpreassembly.AssemblerContext) bool {
	close(s.to[0])
	close(s.to[1])
	return true
}

// chanReader reads what a channel brings.
type chanReader struct {
	from chan []byte
	b    []byte
}

func (r *chanReader) Read(b []byte) (int, error) {
	for len(r.b) == 0 {
		var ok bool
		if r.b, ok = <-r.from; !ok {
			return 0, io.EOF
		}
	}
	n := copy(b, r.b)
	r.b = r.b[n:]
	return n, nil
}
