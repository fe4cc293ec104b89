package capture

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ring reads a BPF ring buffer where it lies: a record is lent out of the
// kernel's memory, and the room is given back many records at a time. It is
// used instead of cilium/ebpf's ringbuf.Reader because that copies each record,
// takes a lock for it and tells the kernel of it; BenchmarkRing compares them.
// It belongs to one goroutine.
//
// The layout is that of kernel/bpf/ringbuf.c: a page with the consumer's
// position, a page with the producer's, and the data twice in a row, so that no
// record is broken at the end.
type ring struct {
	consumer, producer *atomic.Uint64
	data               []byte // both copies
	mask               uint64
	pos                uint64 // of the next record
	given              uint64 // what the kernel was told of pos
	seen               uint64 // the producer's position when it was looked at last
	maps               [2][]byte
}

const (
	ringHeader  = 8       // length with two flags, and a word of the kernel's
	ringBusy    = 1 << 31 // BPF_RINGBUF_BUSY_BIT: being written
	ringDiscard = 1 << 30 // BPF_RINGBUF_DISCARD_BIT: to be skipped
)

func newRing(m *ebpf.Map) (*ring, error) {
	if m.Type() != ebpf.RingBuf {
		return nil, fmt.Errorf("map a ring: it is a map of type %s", m.Type())
	}
	size, page := int(m.MaxEntries()), os.Getpagesize()
	c, err := unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map a ring's consumer page: %w", err)
	}
	p, err := unix.Mmap(m.FD(), int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		unix.Munmap(c)
		return nil, fmt.Errorf("map a ring's data: %w", err)
	}
	r := &ring{
		consumer: (*atomic.Uint64)(unsafe.Pointer(&c[0])),
		producer: (*atomic.Uint64)(unsafe.Pointer(&p[0])),
		data:     p[page:],
		mask:     uint64(size - 1),
		maps:     [2][]byte{c, p},
	}
	r.pos = r.consumer.Load()
	r.given, r.seen = r.pos, r.pos
	return r, nil
}

// next returns the next record, valid until release or close, and nil when
// there is none, or none that is written to its end.
func (r *ring) next() []byte {
	for r.more() {
		at := r.pos & r.mask
		head := (*atomic.Uint32)(unsafe.Pointer(&r.data[at])).Load()
		if head&ringBusy != 0 {
			return nil
		}
		n := uint64(head &^ ringDiscard)
		r.pos += ringHeader + (n+7)&^7
		// What follows was written by another core, and takes as long to come
		// here as this record takes to be read: a record's header, an event's,
		// and the first lines of a message's head.
		prefetch(unsafe.Pointer(&r.data[r.pos&r.mask]))
		if head&ringDiscard == 0 {
			return r.data[at+ringHeader : at+ringHeader+n : at+ringHeader+n]
		}
	}
	return nil
}

// more says whether another record begins. The producer's position is looked at
// only when all that it promised is read, as its cache line is the kernel's.
func (r *ring) more() bool {
	if r.pos == r.seen {
		r.seen = r.producer.Load()
	}
	return r.pos != r.seen
}

// release gives the room of all records that next returned back to the kernel.
func (r *ring) release() {
	if r.given != r.pos {
		r.given = r.pos
		r.consumer.Store(r.pos)
	}
}

// held is how many bytes were read and not released.
func (r *ring) held() uint64 { return r.pos - r.given }

// empty says whether nothing is left, not even a record that is being written.
func (r *ring) empty() bool { return r.pos == r.producer.Load() }

// left is how many bytes are in the ring.
func (r *ring) left() uint64 { return r.producer.Load() - r.pos }

// pending says whether next would return a record, or skip one.
func (r *ring) pending() bool {
	return r.pos != r.producer.Load() && (*atomic.Uint32)(unsafe.Pointer(&r.data[r.pos&r.mask])).Load()&ringBusy == 0
}

// close unmaps the ring.
func (r *ring) close() error {
	r.consumer, r.producer, r.data = nil, nil, nil
	err := unix.Munmap(r.maps[0])
	if e := unix.Munmap(r.maps[1]); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("unmap a ring: %w", err)
	}
	return nil
}
