package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"sync"

	"github.com/shadowtap/shadowtap/reassembly"
)

// FileConfig says which capture file is read, and what of it.
type FileConfig struct {
	// Path names a pcap or pcapng file or a pipe; "-" is standard input.
	// Required.
	Path string
	// Ports are the TCP ports of servers; packets to and from them are
	// selected. At least one is required.
	Ports []uint16
	// Decapsulate asks for the packets inside VXLAN (UDP port 4789), Geneve
	// (UDP port 6081) and GRE. A packet in a tunnel is counted once, by what is
	// innermost.
	Decapsulate bool
}

const (
	// tickStep is the longest capture time without a Tick, in ns.
	tickStep = 100e6
	// publishEvery is after how many packets Stats shows new figures.
	publishEvery = 1024
	// maxLinkNames bounds the link types that FileStats lists.
	maxLinkNames = 64
)

// File reads a capture file.
type File struct {
	name  string
	file  *os.File
	in    *patient
	src   *source
	dec   decoder
	open  container // nil until the file's header was read
	stats FileStats // the reading goroutine's

	mu        sync.Mutex
	published FileStats
}

// FileStats is what a File counted so far. Packets = the sum of what Each
// gives.
type FileStats struct {
	// Packets is the number of packets that the file had.
	Packets uint64
	// Bytes is the captured TCP payload that went to the sink.
	Bytes uint64
	// Cut counts selected packets of which the file has only a part (snap
	// length), CutBytes the payload bytes that it lacks. What is there went to
	// the sink; what is not, is a hole in the stream.
	Cut, CutBytes uint64
	// OtherLinks counts, by number and name of the link type, the packets whose
	// link type is not read. They are in "unparsable". Nil when there are none.
	OtherLinks map[string]uint64
	// CutRecord is the number of the last record, counted from 1, when the file
	// ends inside it; 0 when the file ends where it should.
	CutRecord uint64

	classes [numClasses]uint64
}

// Each calls f with every result label of the ledger's line
// shadowtap_kernel_packets_total and its count. The labels are those of the tap;
// what only a tap can count is 0. Pure ACKs are "no_payload" although the sink
// gets them.
func (s *FileStats) Each(f func(result string, n uint64)) {
	for _, w := range kernelWords {
		var n uint64
		for c, cw := range classWords {
			if cw == w {
				n = s.classes[c]
			}
		}
		f(w, n)
	}
}

// kernelWords are the result labels of shadowtap_kernel_packets_total.
var kernelWords = []string{
	"not_tcp", "other_port", "other_direction", "fragment", "unparsable", "captured", "no_payload", "own_replay",
	"not_wanted", "ring_full", "copy_failed", "no_reader", "over_budget",
}

// OpenFile opens a capture file. What is no capture, or compressed, is an error
// here, or of Run when the file is a pipe. The file is closed at the end of Run,
// or by Close.
func OpenFile(cfg FileConfig) (*File, error) {
	switch {
	case cfg.Path == "":
		return nil, errors.New("capture: Path is empty")
	case len(cfg.Ports) == 0:
		return nil, errors.New("capture: Ports is empty")
	}
	f := &File{name: cfg.Path}
	f.dec.decapsulate = cfg.Decapsulate
	for _, p := range cfg.Ports {
		if p == 0 {
			return nil, errors.New("capture: Ports has a 0")
		}
		f.dec.ports.add(p)
	}
	if cfg.Path == "-" {
		f.name, f.file = "standard input", os.Stdin
	} else {
		file, err := os.Open(cfg.Path)
		if err != nil {
			return nil, fmt.Errorf("open capture: %w", err)
		}
		f.file = file
	}
	f.in = &patient{f: f.file, ctx: context.Background()}
	f.src = newSource(f.in)
	st, err := f.file.Stat()
	if err == nil && st.IsDir() {
		err = errors.New("it is a directory")
	}
	if err == nil && st.Mode().IsRegular() {
		f.open, err = open(f.src)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", f.name, err)
	}
	return f, nil
}

// Close closes the file, for a File that is not run. Standard input stays open.
func (f *File) Close() error {
	if f.file == nil || f.file == os.Stdin {
		return nil
	}
	return f.file.Close()
}

// Run reads the file to its end and hands every selected segment to the sink,
// in the order of the file. It returns nil at the end and when ctx ends. A
// damaged file is an error that names the record, counted from 1, and its
// offset in bytes, after what stands before it was delivered. A last record that
// is cut off is no error, see FileStats. Run is called once.
func (f *File) Run(ctx context.Context, sink Sink) error {
	defer f.Close()
	defer f.publish()
	f.in.ctx = ctx
	if f.open == nil {
		c, err := open(f.src)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.name, err)
		}
		f.open = c
	}
	var (
		rec  record
		pkt  packet
		seg  reassembly.Segment
		now  int64 // the latest time so far, in ns
		tick int64
	)
	for {
		switch err := f.open.next(&rec); {
		case ctx.Err() != nil:
			return nil
		case err == io.EOF, err == errCut:
			if err == errCut {
				f.stats.CutRecord = f.stats.Packets + 1
			}
			if now > tick {
				sink.Tick(now)
			}
			return f.end()
		case err != nil:
			return fmt.Errorf("read %s: record %d at offset %d: %w", f.name, f.stats.Packets+1, f.src.mark, err)
		}
		f.stats.Packets++
		if f.stats.Packets%publishEvery == 0 {
			f.publish()
		}
		when := now
		if rec.hasTime {
			when = rec.time
			now = max(now, when)
		}
		if now-tick >= tickStep {
			sink.Tick(now)
			tick = now
		}
		c := f.dec.decode(rec.link, rec.data, rec.wire, &pkt)
		f.stats.classes[c]++
		if c == unparsable && !linkKnown(rec.link) {
			f.otherLink(rec.link)
		}
		if c != captured && c != noPayload {
			continue
		}
		seg = reassembly.Segment{
			Src: pkt.src, Dst: pkt.dst, SrcPort: pkt.srcPort, DstPort: pkt.dstPort,
			Seq: pkt.seq, Ack: pkt.ack, Flags: pkt.flags, Side: pkt.side, Time: when, Network: pkt.network,
			Payload: pkt.payload,
		}
		f.stats.Bytes += uint64(len(pkt.payload))
		if lacks := pkt.length - len(pkt.payload); lacks > 0 {
			f.stats.Cut++
			f.stats.CutBytes += uint64(lacks)
			f.cut(sink, &seg, pkt.length)
			continue
		}
		sink.Segment(&seg)
	}
}

// cut delivers a segment of which only the beginning is there. Its FIN stands
// behind the bytes that lack, so it goes as a segment of its own.
func (f *File) cut(sink Sink, seg *reassembly.Segment, length int) {
	fin := seg.Flags & reassembly.FIN
	seg.Flags &^= reassembly.FIN | reassembly.PSH
	sink.Segment(seg)
	if fin == 0 {
		return
	}
	seg.Seq += uint32(length)
	if seg.Flags&reassembly.SYN != 0 {
		seg.Seq++ // the SYN takes a number, RFC 9293 section 3.4
		seg.Flags &^= reassembly.SYN
	}
	seg.Flags |= fin
	seg.Payload = nil
	sink.Segment(seg)
}

// end says what is wrong with a file that was read to its end.
func (f *File) end() error {
	var n uint64
	for _, c := range f.stats.OtherLinks {
		n += c
	}
	if n == 0 || n < f.stats.Packets {
		return nil
	}
	for name := range f.stats.OtherLinks {
		return fmt.Errorf("read %s: link type %s is not supported", f.name, name)
	}
	return nil
}

func (f *File) otherLink(link uint32) {
	if f.stats.OtherLinks == nil {
		f.stats.OtherLinks = map[string]uint64{}
	}
	name := linkName(link)
	if _, ok := f.stats.OtherLinks[name]; !ok && len(f.stats.OtherLinks) == maxLinkNames {
		name = "other"
	}
	f.stats.OtherLinks[name]++
}

func (f *File) publish() {
	s := f.stats
	s.OtherLinks = maps.Clone(s.OtherLinks)
	f.mu.Lock()
	f.published = s
	f.mu.Unlock()
}

// Stats returns what was counted so far. It may be called at any time from any
// goroutine; while Run reads, it lags by up to 1,024 packets.
func (f *File) Stats() FileStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.published
}
