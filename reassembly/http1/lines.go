package http1

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// lineEnd is a line of a text: where its LF stands, and its first colon, -1
// without one. Both count from the beginning of the text.
type lineEnd struct{ lf, colon int32 }

// lineEnds finds the lines of b from a given place on, as many as fit or as there
// are, up to an empty one. It may end sooner behind a line of one byte.
func lineEnds(b []byte, from int, to *[16]lineEnd) (n int) {
	if !wide || len(b) < 64 {
		for n < len(to) {
			end, colon := line(b[from:])
			if end < 0 {
				break
			}
			if colon >= 0 {
				colon += from
			}
			to[n] = lineEnd{int32(from + end), int32(colon)}
			n++
			if from += end + 1; end < 2 {
				break
			}
		}
		return n
	}
	colon := int32(-1)
	for base := from; base < len(b); base += 64 {
		// The last window ends where b does. What of it was seen goes.
		at := min(base, len(b)-64)
		lf, colons := marks((*[64]byte)(b[at:]))
		seen := uint(base-at) & 63
		lf, colons = lf>>seen, colons>>seen
		for lf != 0 {
			first := lf & -lf
			lf ^= first
			if c := colons & (first - 1); c != 0 {
				colons ^= c
				if colon < 0 {
					colon = int32(base + bits.TrailingZeros64(c))
				}
			}
			end := base + bits.TrailingZeros64(first)
			to[n&15] = lineEnd{int32(end), colon}
			if n++; n == len(to) || end-from < 2 {
				return n
			}
			from, colon = end+1, -1
		}
		if colon < 0 && colons != 0 {
			colon = int32(base + bits.TrailingZeros64(colons))
		}
	}
	return n
}

// Without marks, eight bytes are looked at in one word: lanes has a 1 in each byte,
// and the lowest bit that zeroes(w ^ c*lanes) sets is in the first byte that is c.
const (
	lanes    = 0x0101010101010101
	topBits  = lanes << 7
	newlines = '\n' * lanes
	colons   = ':' * lanes
)

func zeroes(w uint64) uint64 { return (w - lanes) &^ w & topBits }

// farLine is how many bytes of a line line looks at by itself; what is longer is
// faster found by bytes.IndexByte, whose call costs as much as some words do.
const farLine = 64

// line gives the length of the line at the beginning of b without its LF, -1
// when that is not there, and where its first colon is, -1 without one.
func line(b []byte) (n, colon int) {
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		lf, c := zeroes(w^newlines), zeroes(w^colons)
		if lf|c == 0 {
			continue
		}
		// No byte has a bit in both, so this leaves what stands before the LF.
		if c &= lf - 1; c == 0 {
			return i + bits.TrailingZeros64(lf)/8, -1
		}
		colon = i + bits.TrailingZeros64(c)/8
		if lf != 0 {
			return i + bits.TrailingZeros64(lf)/8, colon
		}
		for i += 8; len(b)-i >= 8 && i < farLine; i += 8 {
			if lf = zeroes(binary.LittleEndian.Uint64(b[i:]) ^ newlines); lf != 0 {
				return i + bits.TrailingZeros64(lf)/8, colon
			}
		}
		if n = bytes.IndexByte(b[i:], '\n'); n < 0 {
			return -1, colon
		}
		return i + n, colon
	}
	colon = -1
	for ; i < len(b); i++ {
		switch {
		case b[i] == '\n':
			return i, colon
		case b[i] == ':' && colon < 0:
			colon = i
		}
	}
	return -1, colon
}
