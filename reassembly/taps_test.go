package reassembly_test

import (
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
)

// A direction that several taps show, or several networks of a capture file, is
// delivered once, and is not lost with the tap that showed it first.
func TestOwnerOfADirection(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  []string
		other uint64 // bytes of other_interface
	}{
		{"a copy counts once",
			[]string{"c 100/200 A ab", "tap=2", "c 100/200 A ab", "tap=1", "s 200/102 A xy", "tap=2", "s 200/102 A xy"},
			[]string{`c 0 "ab"`, `s 0 "xy"`}, 4},
		{"each direction on an interface of its own",
			[]string{"c 100/200 A ab", "tap=2", "s 200/102 A xy", "tap=1", "c 102/202 A cd", "tap=2", "s 202/104 FA z"},
			[]string{`c 0 "ab"`, `s 0 "xy"`, `c 2 "cd"`, `s 2 "z"`, "s fin"}, 0},
		{"packets in turns on two uplinks",
			[]string{"c 100/200 A ab", "tap=2", "c 102/200 A cd", "tap=1", "c 104/200 A ef", "tap=2", "s 200/106 A x", "tap=1", "s 201/106 A y"},
			[]string{`c 0 "ab"`, `c 2 "cd"`, `c 4 "ef"`, `s 0 "x"`, `s 1 "y"`}, 0},
		{"the tap goes in the middle: the other goes on at the next byte",
			[]string{"c 100/200 A ab", "tap=2", "c 100/200 A ab", "c 102/200 A cd", "c 104/200 FA"},
			[]string{`c 0 "ab"`, `c 2 "cd"`, "c fin"}, 2},
		{"what one tap lost the other fills in",
			[]string{"c 100/200 A ab", "lost=1", "c 104/200 A ef", "tap=2", "c 100/200 A ab", "c 102/200 A cd", "c 104/200 A ef"},
			[]string{`c 0 "ab"`, `c 2 "cd"`, `c 4 "ef"`}, 2},
		{"the other is ahead: the owner may still come",
			[]string{"c 100/200 A ab", "tap=2", "c 104/200 A ef", "tap=1", "c 102/200 A cd", "c 104/200 A ef"},
			[]string{`c 0 "ab"`, `c 2 "cd"`, `c 4 "ef"`}, 2},
		{"the owner is silent: what neither showed is a hole",
			[]string{"c 100/200 A ab", "+300ms", "tap=2", "c 104/200 A ef", "s 200/106 A x"},
			[]string{`c 0 "ab"`, "c 2 gap 2", `c 4 "ef"`, `s 0 "x"`}, 0},
		{"a silent owner's acknowledgements go on too",
			[]string{"s 200/100 A ab", "+300ms", "s 204/100 A ef", "tap=2", "c 100/206 A"},
			[]string{`s 0 "ab"`, "s 2 gap 2", `s 4 "ef"`}, 0},
		{"another tap's acknowledgement declares nothing while the owner speaks",
			[]string{"s 200/100 A ab", "s 204/100 A ef", "tap=2", "c 100/206 A", "tap=1", "s 202/100 A cd"},
			[]string{`s 0 "ab"`, `s 2 "cd"`, `s 4 "ef"`}, 0},
		{"other numbers under the same addresses are not followed",
			[]string{"c 100/200 A ab", "+300ms", "tap=2", "c 900000100/7 A zz", "tap=1", "c 102/200 A cd"},
			[]string{`c 0 "ab"`, `c 2 "cd"`}, 2},
		{"nor is their SYN, while the owner speaks",
			[]string{"tap=2", "c 7000/0 S", "tap=1", "c 100/200 A ab"},
			[]string{`c 0 "ab"`}, 0},
		{"a new connection on the other tap, the owner having gone",
			[]string{"c 100/200 A ab", "+300ms", "tap=2", "c 7000/0 S"},
			[]string{`c 0 "ab"`, "close reused"}, 0},
		{"the same packets outside and inside of a tunnel",
			[]string{"c 100/200 A ab", "net=7", "c 100/200 A ab", "s 200/102 A xy", "net=0", "s 200/102 A xy"},
			[]string{`c 0 "ab"`, `s 0 "xy"`}, 4},
		{"directions in different networks",
			[]string{"net=7", "c 100/200 A ab", "net=8", "s 200/102 A xy", "net=7", "c 102/202 A cd"},
			[]string{`c 0 "ab"`, `s 0 "xy"`, `c 2 "cd"`}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, nil)
			b.send(handshake...)
			b.send(tt.lines...)
			b.check(0, tt.want...)
			if n := b.Stats().OtherInterface; n != tt.other {
				t.Errorf("%d bytes of other interfaces, want %d", n, tt.other)
			}
		})
	}
}

// Connections with the same endpoints in two networks are two, however their
// segments mix, and end each by itself.
func TestEndpointsCollideInNetworks(t *testing.T) {
	b := newBed(t, file)
	b.send("net=7", "c 99/0 S", "net=8", "c 800000099/0 S", "s 900000199/800000100 SA", "net=7", "s 199/100 SA",
		"c 100/200 A seven", "net=8", "c 800000100/900000200 A eight", "s 900000200/800000105 A EIGHT",
		"net=7", "s 200/105 A SEVEN", "c 105/205 FA", "s 205/106 FA",
		"net=8", "c 800000105/900000205 A more")
	b.Close(reassembly.CloseDone)
	b.check(0, `c 0 "seven"`, `s 0 "SEVEN"`, "c fin", "s fin", "close done")
	b.check(1, `c 0 "eight"`, `s 0 "EIGHT"`, `c 5 "more"`, "close done")
	if n := len(b.rooms.all); n != 2 {
		t.Errorf("%d connections", n)
	}

	// Joined late, and the first connection forgotten before the second.
	b = newBed(t, nil)
	b.send("net=7", "c 100/200 A a", "net=8", "c 800000100/900 A b", "net=7", "c 101/200 RA", "s 200/101 RA", "+11s",
		"net=8", "c 800000101/900 A c", "net=7", "c 700000000/1 A d")
	b.check(0, `c 0 "a"`, "c rst", "s rst", "close done")
	b.check(1, `c 0 "b"`, `c 1 "c"`)
	b.check(2, `c 0 "d"`)
	if b.budget.Used() == 0 {
		t.Error("two connections take nothing")
	}
	b.Close(reassembly.CloseDone)
	if b.budget.Used() != 0 {
		t.Errorf("%d bytes were not given back", b.budget.Used())
	}
}
