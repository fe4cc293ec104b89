//go:build !amd64

package http1

const wide = false

func marks(*[64]byte) (lf, colons uint64) { panic("http1: marks is of amd64") }
