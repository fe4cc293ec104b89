package bpf

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
)

// MaxSkip bounds the range of one Skip, in bytes.
const MaxSkip = 1 << 28

// Stream names one direction of a flow, as its events do: Src is the sender.
type Stream struct {
	// Src and Dst are IPv6 addresses; IPv4 is IPv4-mapped.
	Src, Dst         [16]byte
	SrcPort, DstPort uint16
	// Domain is that of the taps.
	Domain uint16
}

// SkipID is a skip that was taken, until SkipEnd. 0 is none.
type SkipID uint32

// skipWords is struct tap_skip of tap.h. The program reads a slot only while State
// is not 0, and the slot's owner writes it only then.
type skipWords struct {
	State   atomic.Uint32
	From    uint32
	Len     uint32
	Ack     uint32
	Run     atomic.Uint64
	Src     [16]byte
	Dst     [16]byte
	SrcPort uint16
	DstPort uint16
	Domain  uint16
	Pad     uint16
}

const (
	skipCount = 8192 // TAP_SKIPS
	skipRange = 1
	skipRest  = 2
	skipTaken = 0xff << skipTurn // by nobody yet: no run has that turn
	skipTurn  = 8

	runBits  = 29
	runMask  = 1<<runBits - 1
	runBegun = 1 << 58
	runOver  = 1 << 59
	runTurn  = 60
	turns    = 16
)

// slots is the memory of a map that has a place for each hash of a stream.
type slots[T any] struct {
	memory *mapping // keeps words valid
	words  []T
}

func mapSlots[T any](m *ebpf.Map, count int) (slots[T], error) {
	var one T
	mem, err := mapMemory(m, count*int(unsafe.Sizeof(one)))
	if err != nil {
		return slots[T]{}, err
	}
	return slots[T]{mem, unsafe.Slice((*T)(unsafe.Pointer(&mem.bytes[0])), count)}, nil
}

// Skip says that nobody wants the n bytes of s from the sequence number from on,
// at most [MaxSkip], all of whose segments acknowledge ack. The program does not
// copy segments that lie wholly in the range, as long as they come in order; it counts
// them NotWanted, and they are not Lost. It is advice: any segment of the range
// may come all the same, and each with SYN, FIN, RST or URG does. Anything
// but the next segment of the range ends the skip.
//
// It costs no system call. ok is false when it cannot be remembered, because
// another stream has the place. The caller gives the id back by SkipEnd.
func (m *Maps) Skip(s *Stream, from, n, ack uint32) (id SkipID, ok bool) {
	if n == 0 || n > MaxSkip {
		return 0, false
	}
	return m.takeSkip(s, skipRange, from, n, ack)
}

// SkipRest says that nobody wants anything more of s, until a SYN begins another
// connection; segments with FIN or RST come. See [Maps.Skip].
func (m *Maps) SkipRest(s *Stream) (id SkipID, ok bool) {
	return m.takeSkip(s, skipRest, 0, 0, 0)
}

func (m *Maps) takeSkip(s *Stream, kind, from, n, ack uint32) (SkipID, bool) {
	i := m.slot(s, skipCount)
	w := &m.skip.words[i]
	if !w.State.CompareAndSwap(0, skipTaken) {
		return 0, false
	}
	turn := uint32(w.Run.Load()>>runTurn+1) % turns
	w.Run.Store(uint64(turn) << runTurn)
	w.From, w.Len, w.Ack = from, n, ack
	w.Src, w.Dst, w.SrcPort, w.DstPort, w.Domain = s.Src, s.Dst, s.SrcPort, s.DstPort, s.Domain
	w.State.Store(kind | turn<<skipTurn)
	return SkipID(i | turn<<16 | 1<<31), true
}

// Skipped gives what was skipped so far: all bytes in [from, to) have passed. They
// are equal when nothing was. over says that nothing more will be. Of the
// rest of a stream it gives the last byte alone.
func (m *Maps) Skipped(id SkipID) (from, to uint32, over bool) {
	w := &m.skip.words[id&(skipCount-1)]
	run := w.Run.Load()
	switch {
	case run>>runTurn != uint64(id>>16)%turns:
		// A program that still held the slot for its stream before wrote into it.
		return 0, 0, true
	case run&runBegun == 0:
		return 0, 0, run&runOver != 0
	case w.State.Load()&0xff == skipRest:
		return uint32(run) - 1, uint32(run), run&runOver != 0
	}
	return w.From + uint32(run>>runBits&runMask), w.From + uint32(run&runMask), run&runOver != 0
}

// SkipEnd says that what comes from now on is wanted again. The id is not used any
// more.
func (m *Maps) SkipEnd(id SkipID) { m.skip.words[id&(skipCount-1)].State.Store(0) }

// slot is the place of a stream among count: slot_of of tap.bpf.c.
func (m *Maps) slot(s *Stream, count uint32) uint32 {
	i := flowHash(m.seed, s) << 1
	if s.SrcPort > s.DstPort {
		i |= 1
	}
	return i & (count - 1)
}

// flowHash is flow_hash of tap.bpf.c.
func flowHash(h uint32, s *Stream) uint32 {
	word := func(i int) uint32 {
		return binary.NativeEndian.Uint32(s.Src[i:]) ^ binary.NativeEndian.Uint32(s.Dst[i:])
	}
	h ^= word(0) * 0x9e3779b1
	h = (h<<13 | h>>19) ^ word(4)*0x85ebca77
	h = (h<<13 | h>>19) ^ word(8)*0xc2b2ae3d
	h = (h<<13 | h>>19) ^ word(12)*0x27d4eb2f
	h = (h<<13 | h>>19) ^ uint32(s.SrcPort^s.DstPort)*0x165667b1
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	h ^= h >> 16
	return h
}

// String names the stream in tests and errors.
func (s *Stream) String() string {
	return fmt.Sprintf("%x:%d > %x:%d (%d)", s.Src, s.SrcPort, s.Dst, s.DstPort, s.Domain)
}
