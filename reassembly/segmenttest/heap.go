package segmenttest

import "runtime"

// LiveHeap is how many bytes of the heap are in use.
func LiveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
