package reassembly_test

import (
	"fmt"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
)

// What was acknowledged later may come later: each part of a hole has its own hold.
func TestHoldOfEachPart(t *testing.T) {
	b := newBed(t, file)
	b.send(handshake...)
	want := []string{"c 0 gap 2"}
	for i := range 60 { // the first part is never seen
		b.send(fmt.Sprintf("s %d/102 A x", 200+i), "+1ms")
		want = append(want, fmt.Sprintf("s %d \"x\"", i))
	}
	b.send("s 260/104 A y")
	for range 20 {
		b.send("s 261/104 A -", "+1ms")
	}
	b.send("c 102/260 A cd")
	b.Close(reassembly.CloseDone)
	b.check(0, append(want, `c 2 "cd"`, `s 60 "y"`, `s 61 "-"`, "close done")...)
}

// What waits behind a place that nobody knew yet has acknowledged it all the same, so
// that the hole before it is told first.
func TestAcknowledgedBeforeItBegan(t *testing.T) {
	b := newBed(t, file)
	b.send("c 104/204 A ef", "s 200/102 A xy", "c 99/0 S", "s 199/100 SA", "c 100/200 A ab", "c 102/202 A cd", "s 204/106 A vw")
	b.Close(reassembly.CloseDone)
	b.check(0, `c 0 "ab"`, `s 0 "xy"`, `c 2 "cd"`, "s 2 gap 2", `c 4 "ef"`, `s 4 "vw"`, "close done")
}

// A probe stands one below what its sender will send next (RFC 9293 section 3.8.4): no
// byte is missing there.
func TestProbeAtTheJoin(t *testing.T) {
	b := newBed(t, file)
	b.send("c 103/200 A two", "c 102/200 A", "s 200/106 A xy")
	b.Close(reassembly.CloseDone)
	b.check(0, `c 0 "two"`, `s 0 "xy"`, "close done")
}
