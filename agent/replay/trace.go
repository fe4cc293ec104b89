package replay

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// traceIDs are the trace of one replay: the captured id, and the one that
// takes its place in every field of the request.
type traceIDs struct {
	// old is the captured trace id, 16 or 32 hex digits; w3c says that it
	// comes from traceparent, which is believed before b3.
	old    [32]byte
	oldLen int
	w3c    bool
	drawn  bool
	trace  [32]byte
	span   [16]byte
}

// captured returns the captured trace id, "" without one.
func (t *traceIDs) captured() string { return string(t.old[:t.oldLen]) }

// fresh returns the trace id that was sent instead, "" when none was.
func (t *traceIDs) fresh() string {
	if !t.drawn {
		return ""
	}
	return string(t.trace[:])
}

func (t *traceIDs) see(id []byte, w3c bool) {
	if t.oldLen > 0 && (t.w3c || !w3c) {
		return
	}
	t.oldLen, t.w3c = copy(t.old[:], id), w3c
}

// draw makes the new ids, once. They need to be unique, not secret, and are
// never all zero, which would be invalid (W3C Trace Context section 3.2.2).
func (t *traceIDs) draw() {
	if t.drawn {
		return
	}
	t.drawn = true
	var b [24]byte
	for i := 0; i < len(b); i += 8 {
		binary.BigEndian.PutUint64(b[i:], rand.Uint64()|1)
	}
	hex.Encode(t.trace[:], b[:16])
	hex.Encode(t.span[:], b[16:])
}

// append writes the value of a trace field with fresh ids. It returns plain
// true, and writes nothing, for a value that has no ids, and when fresh is
// false; then the field goes as captured.
//
// The forms are those of W3C Trace Context (traceparent) and of openzipkin's
// b3-propagation (b3, X-B3-TraceId, X-B3-SpanId).
func (t *traceIDs) append(dst []byte, act action, v []byte, fresh bool) (_ []byte, plain bool) {
	switch act {
	case actTraceparent:
		// version "-" trace-id "-" parent-id "-" flags, and more only in
		// versions above 00; ff is invalid.
		if len(v) < 55 || v[2] != '-' || v[35] != '-' || v[52] != '-' || !isHex(v[:2]) || string(v[:2]) == "ff" ||
			!isHex(v[3:35]) || !isHex(v[36:52]) || !isHex(v[53:55]) || len(v) > 55 && (string(v[:2]) == "00" || v[55] != '-') {
			return dst, true
		}
		t.see(v[3:35], true)
		if !fresh {
			return dst, true
		}
		t.draw()
		dst = append(dst, v[:3]...)
		dst = append(dst, t.trace[:]...)
		dst = append(dst, '-')
		dst = append(dst, t.span[:]...)
		dst = append(dst, v[52:]...)
	case actB3:
		// trace-id "-" span-id ["-" flag ["-" parent-span-id]], or a flag.
		n := 0
		for n < len(v) && v[n] != '-' {
			n++
		}
		if n != 16 && n != 32 || !isHex(v[:n]) || len(v) < n+17 || !isHex(v[n+1:n+17]) {
			return dst, true
		}
		rest := v[n+17:]
		if len(rest) > 0 && rest[0] != '-' {
			return dst, true
		}
		t.see(v[:n], false)
		if !fresh {
			return dst, true
		}
		t.draw()
		dst = append(dst, t.trace[32-n:]...)
		dst = append(dst, '-')
		dst = append(dst, t.span[:]...)
		if len(rest) > 1 && (len(rest) == 2 || rest[2] == '-') {
			// The flag stays; the parent belongs to the trace that is left.
			dst = append(dst, rest[:2]...)
		}
	case actB3Trace:
		if len(v) != 16 && len(v) != 32 || !isHex(v) {
			return dst, true
		}
		t.see(v, false)
		if !fresh {
			return dst, true
		}
		t.draw()
		dst = append(dst, t.trace[32-len(v):]...)
	case actB3Span:
		if len(v) != 16 || !isHex(v) {
			return dst, true
		}
		t.draw()
		dst = append(dst, t.span[:]...)
	}
	return dst, false
}

func isHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
