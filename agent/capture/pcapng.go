package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Block types of draft-ietf-opsawg-pcapng, section 11.1. That of the section
// header reads the same in both byte orders.
const (
	ngSectionHeader  = 0x0a0d0d0a
	ngInterface      = 1
	ngPacket         = 2 // obsolete, still found
	ngSimplePacket   = 3
	ngEnhancedPacket = 6

	ngByteOrder = 0x1a2b3c4d

	ngOptEnd    = 0
	ngOptTSRes  = 9
	ngOptOffset = 14

	// ngMaxBlock bounds a block that is held whole: a packet with its options.
	ngMaxBlock = maxFrame + 64<<10
	// ngMaxInterfaces bounds what a damaged or hostile file makes us keep.
	ngMaxInterfaces = 1 << 16
)

// ngIface is what an interface description says that matters here.
type ngIface struct {
	link uint32
	snap uint32
	// ticks is the number of time stamp units in a second; with binary it is
	// 1 << shift.
	ticks  uint64
	shift  uint8
	binary bool
	// offset is added to each time, in seconds.
	offset int64
}

// pcapngReader reads pcapng.
type pcapngReader struct {
	s      *source
	order  binary.ByteOrder
	ifaces []ngIface
	head   [12]byte
	buf    []byte
}

func newPcapNG(s *source) (*pcapngReader, error) {
	p := &pcapngReader{s: s}
	if err := s.full(p.head[:8]); err != nil {
		return nil, errors.New("the file ends inside the section header")
	}
	if err := p.section(); err != nil {
		if err == errCut {
			err = errors.New("the file ends inside the section header")
		}
		return nil, err
	}
	return p, nil
}

// next reads blocks until one is a packet.
func (p *pcapngReader) next(r *record) error {
	for {
		p.s.mark = p.s.off
		if err := p.s.full(p.head[:8]); err != nil {
			return err
		}
		kind := p.order.Uint32(p.head[:])
		if kind == ngSectionHeader {
			if err := p.section(); err != nil {
				return err
			}
			continue
		}
		size, err := p.size()
		if err != nil {
			return err
		}
		switch kind {
		case ngInterface, ngPacket, ngSimplePacket, ngEnhancedPacket:
		default:
			if err := p.s.skip(int64(size)); err != nil {
				return err
			}
			if err := p.trailer(size + 12); err != nil {
				return err
			}
			continue
		}
		if size > ngMaxBlock {
			return fmt.Errorf("a block of type %d with %d bytes, more than any packet has", kind, size)
		}
		p.buf = grow(p.buf, int(size))
		if err := p.s.rest(p.buf); err != nil {
			return err
		}
		if err := p.trailer(size + 12); err != nil {
			return err
		}
		switch kind {
		case ngInterface:
			err = p.iface(p.buf)
		case ngPacket:
			err = p.enhanced(p.buf, r, true)
		case ngEnhancedPacket:
			err = p.enhanced(p.buf, r, false)
		case ngSimplePacket:
			err = p.simple(p.buf, r)
		}
		if err != nil || kind != ngInterface {
			return err
		}
	}
}

// size returns the number of bytes between a block's header and its trailer.
func (p *pcapngReader) size() (uint32, error) {
	n := p.order.Uint32(p.head[4:])
	if n < 12 || n%4 != 0 {
		return 0, fmt.Errorf("a block length of %d", n)
	}
	return n - 12, nil
}

// trailer reads the second copy of the block length at the end of a block.
func (p *pcapngReader) trailer(want uint32) error {
	if err := p.s.rest(p.head[:4]); err != nil {
		return err
	}
	if n := p.order.Uint32(p.head[:]); n != want {
		return fmt.Errorf("the block length is %d at the block's begin and %d at its end", want, n)
	}
	return nil
}

// section reads a section header, of which type and length were read.
func (p *pcapngReader) section() error {
	if err := p.s.rest(p.head[8:12]); err != nil {
		return err
	}
	switch {
	case binary.LittleEndian.Uint32(p.head[8:]) == ngByteOrder:
		p.order = binary.LittleEndian
	case binary.BigEndian.Uint32(p.head[8:]) == ngByteOrder:
		p.order = binary.BigEndian
	default:
		return fmt.Errorf("a section header with the byte order mark % x", p.head[8:12])
	}
	size, err := p.size()
	if err != nil {
		return err
	}
	if size < 16 {
		return fmt.Errorf("a section header of %d bytes", size+12)
	}
	if err := p.s.rest(p.head[:4]); err != nil {
		return err
	}
	if major := p.order.Uint16(p.head[:]); major != 1 {
		return fmt.Errorf("pcapng version %d.%d: only 1.x is read", major, p.order.Uint16(p.head[2:]))
	}
	if err := p.s.skip(int64(size) - 8); err != nil {
		return err
	}
	p.ifaces = p.ifaces[:0]
	return p.trailer(size + 12)
}

// iface reads an interface description.
func (p *pcapngReader) iface(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("an interface description of %d bytes", len(b))
	}
	if len(p.ifaces) == ngMaxInterfaces {
		return fmt.Errorf("more than %d interfaces", ngMaxInterfaces)
	}
	f := ngIface{link: uint32(p.order.Uint16(b)), snap: p.order.Uint32(b[4:]), ticks: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, n := p.order.Uint16(b), int(p.order.Uint16(b[2:]))
		b = b[4:]
		if code == ngOptEnd {
			break
		}
		if n > len(b) {
			return fmt.Errorf("option %d of an interface description is longer than its block", code)
		}
		switch {
		case code == ngOptTSRes && n >= 1:
			if err := f.resolution(b[0]); err != nil {
				return err
			}
		case code == ngOptOffset && n >= 8:
			f.offset = int64(p.order.Uint64(b))
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	p.ifaces = append(p.ifaces, f)
	return nil
}

// resolution sets the unit of time stamps: a negative power of 2 with the
// upper bit, else of 10.
func (f *ngIface) resolution(v byte) error {
	if v&0x80 != 0 {
		f.binary, f.shift = true, v&0x7f
		if f.shift > 63 {
			return fmt.Errorf("a time resolution of 2^-%d s", f.shift)
		}
		f.ticks = 1 << f.shift
		return nil
	}
	if v > 19 {
		return fmt.Errorf("a time resolution of 10^-%d s", v)
	}
	f.binary, f.ticks = false, 1
	for range v {
		f.ticks *= 10
	}
	return nil
}

// time converts a time stamp to ns since the Unix epoch. What an int64 can't
// hold, after the year 2262, becomes the last that it can.
func (f *ngIface) time(ts uint64) int64 {
	hi, lo := bits.Mul64(ts%f.ticks, 1e9)
	frac, _ := bits.Div64(hi, lo, f.ticks) // hi < ticks as the factor is below ticks
	sec := ts / f.ticks
	const most = math.MaxInt64/int64(1e9) - 1
	if sec > uint64(most) {
		return math.MaxInt64
	}
	s := int64(sec)
	if f.offset > most-s {
		return math.MaxInt64
	}
	if f.offset < -most {
		return 0
	}
	return (s+f.offset)*1e9 + int64(frac)
}

// enhanced reads an enhanced packet, or the obsolete one, whose header differs
// only in the interface being 16 bits wide.
func (p *pcapngReader) enhanced(b []byte, r *record, old bool) error {
	if len(b) < 20 {
		return fmt.Errorf("a packet block of %d bytes", len(b)+12)
	}
	i := p.order.Uint32(b)
	if old {
		i = uint32(p.order.Uint16(b))
	}
	if i >= uint32(len(p.ifaces)) {
		return fmt.Errorf("a packet of interface %d, of which there are %d", i, len(p.ifaces))
	}
	f := &p.ifaces[i]
	ts := uint64(p.order.Uint32(b[4:]))<<32 | uint64(p.order.Uint32(b[8:]))
	n := p.order.Uint32(b[12:])
	if n > uint32(len(b)-20) || n > maxFrame {
		return fmt.Errorf("a captured length of %d bytes in a block of %d", n, len(b)+12)
	}
	r.data = b[20 : 20+n]
	r.wire = max(int(n), int(p.order.Uint32(b[16:])))
	r.time, r.hasTime = f.time(ts), true
	r.link = f.link
	return nil
}

// simple reads a simple packet: of the first interface, without a time.
func (p *pcapngReader) simple(b []byte, r *record) error {
	if len(b) < 4 {
		return fmt.Errorf("a packet block of %d bytes", len(b)+12)
	}
	if len(p.ifaces) == 0 {
		return errors.New("a packet before any interface")
	}
	f := &p.ifaces[0]
	wire := p.order.Uint32(b)
	n := min(wire, uint32(len(b)-4), maxFrame)
	if f.snap != 0 {
		n = min(n, f.snap)
	}
	r.data = b[4 : 4+n]
	r.wire = int(wire)
	r.time, r.hasTime = 0, false
	r.link = f.link
	return nil
}
