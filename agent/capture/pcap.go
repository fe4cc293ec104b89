package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// pcapMagics are the first four bytes of a pcap file, see pcap-savefile(5) and
// libpcap sf-pcap.c.
var pcapMagics = []struct {
	number uint32
	// unit is the number of ns in one unit of a time stamp's fraction.
	unit uint32
	// extra is the number of bytes by which a record header is longer.
	extra int
}{
	{0xa1b2c3d4, 1000, 0},
	{0xa1b23c4d, 1, 0},
	// The format of Alexey Kuznetzov's patch, still written by some routers:
	// each record header also has interface, protocol and packet type.
	{0xa1b2cd34, 1000, 8},
}

// pcapReader reads the classic format.
type pcapReader struct {
	s     *source
	order binary.ByteOrder
	unit  uint32
	extra int
	link  uint32
	head  [24]byte
	buf   []byte
}

func newPcap(s *source) (*pcapReader, error) {
	p := &pcapReader{s: s}
	if err := s.full(p.head[:]); err != nil {
		return nil, errors.New("the file ends inside the pcap header")
	}
	for _, m := range pcapMagics {
		switch m.number {
		case binary.LittleEndian.Uint32(p.head[:]):
			p.order = binary.LittleEndian
		case binary.BigEndian.Uint32(p.head[:]):
			p.order = binary.BigEndian
		default:
			continue
		}
		p.unit, p.extra = m.unit, m.extra
	}
	if major, minor := p.order.Uint16(p.head[4:]), p.order.Uint16(p.head[6:]); major != 2 || minor < 4 {
		// Before 2.4 the two lengths of a record stood in either order.
		return nil, fmt.Errorf("pcap version %d.%d: only 2.4 is read", major, minor)
	}
	// The upper bits say how long the frame check sequence at the end of each
	// frame is; payloads are cut by the IP length anyway.
	p.link = p.order.Uint32(p.head[20:]) & 0xffff
	return p, nil
}

func (p *pcapReader) next(r *record) error {
	p.s.mark = p.s.off
	if err := p.s.full(p.head[:16+p.extra]); err != nil {
		return err
	}
	n := p.order.Uint32(p.head[8:])
	if n > maxFrame {
		return fmt.Errorf("a captured length of %d bytes, more than any packet has", n)
	}
	p.buf = grow(p.buf, int(n))
	if err := p.s.rest(p.buf); err != nil {
		return err
	}
	r.data = p.buf
	r.wire = max(int(n), int(p.order.Uint32(p.head[12:])))
	r.time = int64(p.order.Uint32(p.head[0:]))*1e9 + int64(p.order.Uint32(p.head[4:]))*int64(p.unit)
	r.hasTime = true
	r.link = p.link
	return nil
}

// grow returns b with the length n, reallocated when it is too short.
func grow(b []byte, n int) []byte {
	if n <= cap(b) {
		return b[:n]
	}
	return make([]byte, n, max(n, 2*cap(b), 64<<10))
}
