package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Stream names one direction of a flow, as its events do: Src is the sender.
type Stream struct {
	// Src and Dst are IPv6 addresses; IPv4 is IPv4-mapped.
	Src, Dst         [16]byte
	SrcPort, DstPort uint16
	// Domain is that of the tap.
	Domain uint16
	Pad    uint16
}

// skipValue is struct tap_skip of tap.h.
type skipValue struct {
	Kind  uint32
	From  uint32
	To    uint32
	First uint32
	At    uint32
}

const (
	skipOver = iota
	skipSet
	skipRunning
	skipRest
)

// MaxSkip bounds the range of one Skip, in bytes.
const MaxSkip = 1 << 30

// Skip says that nobody wants the bytes of s from the sequence number from up
// to, and not including, to, at most [MaxSkip] of them. It takes the place of
// what was said of s before. The program does not copy segments whose payload
// lies wholly in the range, as long as they come in order; it counts them
// NotWanted, and they are not Lost. It is advice: any segment of the range may
// come all the same, and each that carries SYN, FIN or RST does. s is lent for
// the call; it costs one system call.
func (m *Maps) Skip(s *Stream, from, to uint32) error {
	if n := to - from; n == 0 || n > MaxSkip {
		return fmt.Errorf("skip %d bytes of a stream: not between 1 and %d", n, MaxSkip)
	}
	return m.skip(s, &skipValue{Kind: skipSet, From: from, To: to})
}

// SkipRest says that nobody wants anything more of s, until a SYN begins another
// connection. See [Maps.Skip].
func (m *Maps) SkipRest(s *Stream) error { return m.skip(s, &skipValue{Kind: skipRest}) }

func (m *Maps) skip(s *Stream, v *skipValue) error {
	if err := m.skips.Update(s, v, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("skip a stream: %w", err)
	}
	if m.set.Skipping.Load() == 0 {
		m.set.Skipping.Store(1)
	}
	return nil
}

// Skipped gives the range of sequence numbers that was skipped for the last Skip
// of s: every byte of it passed the tap. ok is false when nothing was, or when
// it is not known any more.
func (m *Maps) Skipped(s *Stream) (first, at uint32, ok bool, err error) {
	var v skipValue
	switch err := m.skips.Lookup(s, &v); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return 0, 0, false, nil
	case err != nil:
		return 0, 0, false, fmt.Errorf("look what was skipped of a stream: %w", err)
	}
	return v.First, v.At, v.First != v.At, nil
}
