package capture

import (
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/shadowtap/shadowtap/agent/attach/netnstest"
	"github.com/shadowtap/shadowtap/bpf"
)

// fakeRing is a ring in plain memory that the test writes as the kernel would.
type fakeRing struct {
	ring
	words [2]atomic.Uint64
	size  uint64
}

func newFakeRing(size int) *fakeRing {
	f := &fakeRing{size: uint64(size)}
	f.consumer, f.producer = &f.words[0], &f.words[1]
	f.data = make([]byte, 2*size)
	f.mask = uint64(size - 1)
	return f
}

// put writes a record of n bytes, all of the value v, and returns its place. The
// mirror of the data is kept by hand.
func (f *fakeRing) put(n int, v byte, flags uint32) uint64 {
	at := f.producer.Load()
	rec := binary.LittleEndian.AppendUint32(nil, uint32(n)|flags)
	rec = append(rec, 0, 0, 0, 0)
	for range (n + 7) &^ 7 {
		rec = append(rec, v)
	}
	for i, b := range rec {
		p := (at + uint64(i)) & f.mask
		f.data[p], f.data[p+f.size] = b, b
	}
	f.producer.Add(uint64(len(rec)))
	return at & f.mask
}

// commit ends the writing of the record at a place.
func (f *fakeRing) commit(at uint64) {
	for _, p := range []uint64{at, at + f.size} {
		if p+4 <= uint64(len(f.data)) {
			binary.LittleEndian.PutUint32(f.data[p:], binary.LittleEndian.Uint32(f.data[p:])&^ringBusy)
		}
	}
}

func TestRing(t *testing.T) {
	f := newFakeRing(256)
	if f.next() != nil || !f.empty() || f.pending() {
		t.Fatal("an empty ring has a record")
	}
	f.put(5, 'a', 0)
	f.put(9, 'b', ringDiscard)
	f.put(16, 'c', 0)
	busy := f.put(3, 'd', ringBusy)
	f.put(1, 'e', 0)
	for _, want := range []string{"aaaaa", "cccccccccccccccc"} {
		if got := f.next(); string(got) != want || cap(got) != len(want) {
			t.Fatalf("record %q with room for %d, want %q", got, cap(got), want)
		}
	}
	if got := f.next(); got != nil || f.empty() || f.pending() {
		t.Fatalf("record %q behind one that is being written", got)
	}
	if f.consumer.Load() != 0 || f.held() != 16+24+24 {
		t.Fatalf("given back up to %d, held %d", f.consumer.Load(), f.held())
	}
	f.release()
	if f.consumer.Load() != 64 || f.held() != 0 || f.left() != 32 {
		t.Fatalf("given back up to %d, held %d, left %d", f.consumer.Load(), f.held(), f.left())
	}
	f.commit(busy)
	if !f.pending() {
		t.Fatal("the record is written to its end and not pending")
	}
	for _, want := range []string{"ddd", "e"} {
		if got := f.next(); string(got) != want {
			t.Fatalf("record %q, want %q", got, want)
		}
	}
	f.release()
	// Round and round, over the end of the data.
	for i := range 1000 {
		n := i % 100
		f.put(n, byte(i), 0)
		got := f.next()
		if len(got) != n || n > 0 && (got[0] != byte(i) || got[n-1] != byte(i)) {
			t.Fatalf("record %d is %q", i, got)
		}
		f.release()
	}
	if !f.empty() {
		t.Fatal("not empty at the end")
	}
}

// tapRings are maps with one tap that is fed by Program.Run.
type tapRings struct {
	maps *bpf.Maps
	prog *ebpf.Program
}

func newTap(t testing.TB, bytes int) *tapRings {
	t.Helper()
	netnstest.NeedRoot(t)
	maps, err := bpf.NewMaps(bpf.MapsConfig{RingBytes: bytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { maps.Close() })
	if err := maps.SetPorts([]uint16{80}); err != nil {
		t.Fatal(err)
	}
	prog, err := maps.Load(bpf.TapConfig{Tap: 7, Domain: 3, LinkHeader: 14, Direction: bpf.Both})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return &tapRings{maps, prog}
}

// packet shows a frame to the tap n times. RunOptions.Repeat would show it more
// often: a run that a signal interrupts begins anew.
func (r *tapRings) packet(t testing.TB, frame []byte, n int) {
	t.Helper()
	for range n {
		if ret, err := r.prog.Run(&ebpf.RunOptions{Data: frame}); err != nil || int32(ret) != -1 {
			t.Fatalf("run the tap: %d, %v", int32(ret), err)
		}
	}
}

// burst shows a frame to the tap n times or more, fast.
func (r *tapRings) burst(t testing.TB, frame []byte, n int) {
	t.Helper()
	r.maps.Control(0).Beat(bpf.Now())
	if ret, err := r.prog.Run(&ebpf.RunOptions{Data: frame, Repeat: uint32(n)}); err != nil || int32(ret) != -1 {
		t.Fatalf("run the tap: %d, %v", int32(ret), err)
	}
}

func (r *tapRings) counters(t testing.TB) bpf.Counters {
	t.Helper()
	c, err := r.maps.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRingOfKernel reads what the program writes, many times round the ring.
func TestRingOfKernel(t *testing.T) {
	r := newTap(t, bpf.MinRingBytes)
	ring, err := newRing(r.maps.Ring(0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ring.close(); err != nil {
			t.Error(err)
		}
	}()
	n := 0
	for i := range 400 {
		payload := make([]byte, 1+i*7)
		for j := range payload {
			payload[j] = byte(i + j)
		}
		r.maps.Control(0).Beat(bpf.Now())
		r.packet(t, ether(ip4(t, string(payload), nil)), 3)
		for range 3 {
			rec := ring.next()
			var ev bpf.Event
			if err := bpf.Decode(rec, &ev); err != nil {
				t.Fatalf("record %d: %v", n, err)
			}
			if string(ev.Payload) != string(payload) || ev.Tap != 7 || ev.Domain != 3 || ev.Seq != 1000 {
				t.Fatalf("record %d: %+v", n, ev)
			}
			n++
		}
		if rec := ring.next(); rec != nil {
			t.Fatalf("a record too much of %d bytes", len(rec))
		}
		ring.release()
	}
	c := r.counters(t)
	if c.Packets[bpf.Captured] != uint64(n) || n != 1200 || c.Packets[bpf.RingFull] != 0 {
		t.Errorf("read %d, counters %v", n, c.Packets)
	}
}

// BenchmarkRing compares this package's reader with cilium/ebpf's, decoding
// included, on records of one 1,448-byte segment.
func BenchmarkRing(b *testing.B) {
	const batch = 1024
	frame := ether(ip4(b, string(make([]byte, 1448)), nil))
	// read returns false when the ring is empty.
	run := func(b *testing.B, r *tapRings, read func(*bpf.Event) (bool, error)) {
		var ev bpf.Event
		b.ReportAllocs()
		b.ResetTimer()
		b.StopTimer()
		for done := 0; done < b.N; {
			r.burst(b, frame, batch)
			b.StartTimer()
			for {
				ok, err := read(&ev)
				if err != nil {
					b.Fatal(err)
				}
				if !ok {
					break
				}
				done++
			}
			b.StopTimer()
		}
	}
	b.Run("own", func(b *testing.B) {
		r := newTap(b, 4<<20)
		ring, err := newRing(r.maps.Ring(0))
		if err != nil {
			b.Fatal(err)
		}
		defer ring.close()
		run(b, r, func(ev *bpf.Event) (bool, error) {
			rec := ring.next()
			if rec == nil || ring.held() > maxHeld {
				ring.release()
			}
			if rec == nil {
				return false, nil
			}
			return true, bpf.Decode(rec, ev)
		})
	})
	b.Run("cilium", func(b *testing.B) {
		r := newTap(b, 4<<20)
		rd, err := ringbuf.NewReader(r.maps.Ring(0))
		if err != nil {
			b.Fatal(err)
		}
		defer rd.Close()
		rd.SetDeadline(time.Unix(1, 0)) // the program wakes nobody
		var rec ringbuf.Record
		run(b, r, func(ev *bpf.Event) (bool, error) {
			switch err := rd.ReadInto(&rec); {
			case errors.Is(err, os.ErrDeadlineExceeded):
				return false, nil
			case err != nil:
				return false, err
			}
			return true, bpf.Decode(rec.RawSample, ev)
		})
	})
}
