package bpf

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// needRoot skips a test that loads programs where that is not allowed; in CI
// it fails, so that no test is left out unseen.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root: loads BPF programs")
	}
	t.Skip("needs root: loads BPF programs")
}

// tapTest is a tap that is not attached: run feeds it single packets.
type tapTest struct {
	testing.TB
	maps    *Maps
	prog    *ebpf.Program
	readers []*ringbuf.Reader
}

func newMaps(t testing.TB, c MapsConfig) *Maps {
	t.Helper()
	needRoot(t)
	m, err := NewMaps(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func newTap(t testing.TB, m *Maps, c TapConfig, ports ...uint16) *tapTest {
	t.Helper()
	if err := m.SetPorts(ports); err != nil {
		t.Fatal(err)
	}
	prog, err := m.Load(c)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { prog.Close() })
	return &tapTest{TB: t, maps: m, prog: prog, readers: openReaders(t, m)}
}

func openReaders(t testing.TB, m *Maps) []*ringbuf.Reader {
	t.Helper()
	var rs []*ringbuf.Reader
	for i := range m.Rings() {
		r, err := ringbuf.NewReader(m.Ring(i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		r.SetDeadline(time.Unix(1, 0)) // never waits
		rs = append(rs, r)
	}
	return rs
}

func (tt *tapTest) beat() {
	for i := range tt.maps.Rings() {
		tt.maps.Control(i).Beat(Now())
	}
}

func (tt *tapTest) counters() Counters {
	tt.Helper()
	c, err := tt.maps.Counters()
	if err != nil {
		tt.Fatal(err)
	}
	return c
}

// send runs the program over one frame, proves that it let the packet pass
// unchanged and counted it exactly once, and returns the result.
func (tt *tapTest) send(frame []byte) Result {
	tt.Helper()
	before := tt.counters()
	verdict, out, err := tt.prog.Test(frame)
	if err != nil {
		tt.Fatalf("run over %x: %v", frame, err)
	}
	if int32(verdict) != -1 {
		tt.Fatalf("verdict is %d, want TCX_NEXT (-1)", int32(verdict))
	}
	if !bytes.Equal(out, frame) {
		tt.Fatalf("the packet was changed:\n%x\nwas\n%x", out, frame)
	}
	after := tt.counters()
	if n := after.Seen() - before.Seen(); n != 1 {
		tt.Fatalf("packet counted %d times over %x", n, frame)
	}
	for r := range Results {
		if after.Packets[r] != before.Packets[r] {
			return Result(r)
		}
	}
	panic("unreachable")
}

// records returns and takes away what is in a ring.
func records(t testing.TB, r *ringbuf.Reader) (evs []Event) {
	t.Helper()
	for {
		rec, err := r.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return evs
		}
		if err != nil {
			t.Fatal(err)
		}
		var ev Event
		if err := Decode(rec.RawSample, &ev); err != nil {
			t.Fatal(err)
		}
		evs = append(evs, ev)
	}
}

// events returns and takes away what is in all rings.
func (tt *tapTest) events() (evs []Event) {
	tt.Helper()
	for _, r := range tt.readers {
		evs = append(evs, records(tt, r)...)
	}
	return evs
}

// one sends a frame that must be captured as one record.
func (tt *tapTest) one(frame []byte) Event {
	tt.Helper()
	tt.beat()
	if r := tt.send(frame); r != Captured {
		tt.Fatalf("result is %s, want captured", r)
	}
	evs := tt.events()
	if len(evs) != 1 {
		tt.Fatalf("%d records, want 1", len(evs))
	}
	return evs[0]
}

// gets sends a frame that must have the result and, unless captured, leave no record.
func (tt *tapTest) gets(want Result, frame []byte) {
	tt.Helper()
	tt.beat()
	if got := tt.send(frame); got != want {
		tt.Errorf("result is %s, want %s", got, want)
	}
	if n := len(tt.events()); (n != 0) != (want == Captured) {
		tt.Errorf("%d records for a packet that is %s", n, want)
	}
}
