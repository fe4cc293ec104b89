package http1

import "golang.org/x/sys/cpu"

// wide says that there is marks.
var wide = cpu.X86.HasAVX2

// marks has a bit for each byte that is a line feed, and for each that is a
// colon; the lowest is the first byte's.
//
//go:noescape
func marks(b *[64]byte) (lf, colons uint64)
