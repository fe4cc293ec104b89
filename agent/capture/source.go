package capture

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// readBuffer is the size of one read of the file.
	readBuffer = 256 << 10
	// maxFrame bounds the captured length of one packet. The longest packet
	// that Linux makes, an IPv6 jumbogram by segmentation offload, is 512 KiB
	// (GSO_MAX_SIZE of include/linux/netdevice.h); a longer record is damage.
	maxFrame = 1 << 20
	// waitStep is how often a read that waits for a pipe looks at its context.
	waitStep = 100 // milliseconds
)

// errCut says that the file ended inside a record.
var errCut = errors.New("the file ends inside the record")

// record is one captured packet as the file has it.
type record struct {
	// data is the frame from its link header on, valid until the next read.
	data []byte
	// wire is the length that the frame had, at least len(data).
	wire int
	// time is in ns since the Unix epoch. Without hasTime the file has none.
	time    int64
	hasTime bool
	// link is the LINKTYPE_ number of the interface.
	link uint32
}

// container reads the records of one file format. next returns io.EOF after
// the last record, errCut when the file ends inside one.
type container interface {
	next(*record) error
}

// source is the file with the position of what was taken from it.
type source struct {
	br  *bufio.Reader
	off int64
	// mark is where the record or block that is being read begins.
	mark int64
}

func newSource(r io.Reader) *source {
	return &source{br: bufio.NewReaderSize(r, readBuffer)}
}

// full reads len(b) bytes: io.EOF when there was nothing left, errCut when
// there was less.
func (s *source) full(b []byte) error {
	n, err := io.ReadFull(s.br, b)
	s.off += int64(n)
	if err == io.ErrUnexpectedEOF {
		return errCut
	}
	return err
}

// rest reads len(b) bytes of a record that has begun, so that an end is errCut.
func (s *source) rest(b []byte) error {
	if err := s.full(b); err != io.EOF {
		return err
	}
	return errCut
}

// skip passes over n bytes of a record that has begun.
func (s *source) skip(n int64) error {
	for n > 0 {
		m, err := s.br.Discard(int(min(n, 1<<30)))
		s.off += int64(m)
		n -= int64(m)
		if err == io.EOF {
			return errCut
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// packers are the compressed formats that captures are found in.
var packers = []struct{ magic, name, tool string }{
	{"\x1f\x8b", "gzip", "gunzip"},
	{"\x28\xb5\x2f\xfd", "zstd", "unzstd"},
	{"\xfd7zXZ\x00", "xz", "unxz"},
	{"BZh", "bzip2", "bunzip2"},
	{"\x04\x22\x4d\x18", "lz4", "unlz4"},
}

// open looks at the file's first bytes and returns the reader for its format.
func open(s *source) (container, error) {
	head, err := s.br.Peek(4)
	if len(head) == 0 && err == io.EOF {
		return nil, errors.New("the file is empty")
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	for _, p := range packers {
		more, _ := s.br.Peek(len(p.magic))
		if string(more) == p.magic {
			return nil, fmt.Errorf("the file is compressed with %s: %s it first", p.name, p.tool)
		}
	}
	if len(head) == 4 {
		if binary.LittleEndian.Uint32(head) == ngSectionHeader {
			return newPcapNG(s)
		}
		for _, m := range pcapMagics {
			if binary.LittleEndian.Uint32(head) == m.number || binary.BigEndian.Uint32(head) == m.number {
				return newPcap(s)
			}
		}
	}
	return nil, fmt.Errorf("neither pcap nor pcapng: the file begins with % x", head)
}

// Is says whether a file that begins with these 4 bytes is a capture that
// OpenFile reads.
func Is(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	if binary.LittleEndian.Uint32(head) == ngSectionHeader {
		return true
	}
	for _, m := range pcapMagics {
		if binary.LittleEndian.Uint32(head) == m.number || binary.BigEndian.Uint32(head) == m.number {
			return true
		}
	}
	return false
}

// patient reads a file that may be a pipe and gives up when its context ends.
type patient struct {
	f   *os.File
	ctx context.Context // replaced by Run
}

// Read waits until there is something to read, or the context ended.
func (p *patient) Read(b []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(p.f.Fd()), Events: unix.POLLIN}}
	for {
		if err := p.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := unix.Poll(fds, waitStep)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for input: %w", err)
		}
		if n > 0 {
			return p.f.Read(b)
		}
	}
}
