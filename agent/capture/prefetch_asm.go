//go:build amd64 || arm64

package capture

import "unsafe"

// prefetch asks for the six cache lines from p on, and does not wait for them.
// Whether there is anything does not matter: it never faults.
//
//go:noescape
func prefetch(p unsafe.Pointer)
