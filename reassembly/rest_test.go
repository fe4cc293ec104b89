package reassembly_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
)

// tired is a handler that rests; its place is taken by asleep.
type tired struct {
	*recorder
	rests int
}

func (r *tired) Rest() reassembly.Handler {
	r.rests++
	r.log = append(r.log, "rest")
	return &asleep{recorder: r.recorder, was: r}
}

// asleep hands the connection back to the tired one with the next bytes.
type asleep struct {
	*recorder
	was *tired
}

func (r *asleep) Data(d reassembly.Dir, b []byte, at *reassembly.At) {
	r.log = append(r.log, "wake")
	r.conn.Handle(r.was)
	r.was.Data(d, b, at)
}

func (r *asleep) Close(why reassembly.Close) {
	r.log = append(r.log, "asleep")
	r.recorder.Close(why)
}

// dormitory hands out those that rest.
type dormitory struct {
	rooms
	all []*tired
}

func (r *dormitory) Open(c *reassembly.Conn) reassembly.Handler {
	h := &tired{recorder: &recorder{conn: c}}
	r.all = append(r.all, h)
	return h
}

// A handler may rest when nothing came for 2 s, and no sooner; the one that takes
// its place gets what comes.
func TestRest(t *testing.T) {
	d := &dormitory{}
	b := newBed(t, func(c *reassembly.Config) { c.Factory = d })
	b.send("c 99/0 S", "s 199/100 SA", "c 100/200 A one",
		"+1900ms", "c 103/200 A two", // it was not idle long enough
		"+1900ms", "+200ms", "+5s", // it rests, once
		"s 200/106 A three",
		"+5s",
		"c 106/205 F", "s 205/107 FA")
	want := []string{`c 0 "one"`, `c 3 "two"`, "rest", "wake", `s 0 "three"`, "rest", "c fin", "s fin", "asleep", "close done"}
	if got := d.all[0].log; !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// One step lets no more connections rest than it looks at.
func TestRestIsBounded(t *testing.T) {
	d := &dormitory{}
	b := newBed(t, func(c *reassembly.Config) { c.Factory = d })
	const n = 2500
	for i := range n {
		b.send(fmt.Sprintf("port=%d", 1000+i), "c 99/0 S", "s 199/100 SA", "c 100/200 A one")
	}
	for step, want := range []int{1000, 2000, 2500, 2500} {
		b.Tick(b.now + 3e9)
		rests := 0
		for _, h := range d.all {
			rests += h.rests
		}
		if rests != want {
			t.Errorf("%d rests after step %d, want %d", rests, step, want)
		}
	}
}
