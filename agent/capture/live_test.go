package capture

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/attach"
	"github.com/shadowtap/shadowtap/agent/attach/netnstest"
	"github.com/shadowtap/shadowtap/bpf"
	"github.com/shadowtap/shadowtap/reassembly"
)

// liveSink is a Sink that other goroutines look at.
type liveSink struct {
	mu    sync.Mutex
	segs  []reassembly.Segment
	ticks []time.Time
	// came is when each segment came.
	came []int64
	// ticked is the times of the ticks.
	ticked []int64
	hole   atomic.Bool
	// hold is received from before each segment, when it is not nil.
	hold chan struct{}
	// held says that a segment waits for hold.
	held atomic.Bool
}

func (s *liveSink) Segment(x *reassembly.Segment) {
	now := time.Now().UnixNano()
	if s.hold != nil {
		s.held.Store(true)
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := *x
	k.Payload = bytes.Clone(x.Payload)
	s.segs = append(s.segs, k)
	s.came = append(s.came, now)
}

func (s *liveSink) Tick(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticks = append(s.ticks, time.Now())
	s.ticked = append(s.ticked, now)
}

func (s *liveSink) HoleOpen() bool { return s.hole.Load() }

// segment returns segment i, and when it came.
func (s *liveSink) segment(i int) (reassembly.Segment, int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segs[i], s.came[i]
}

func (s *liveSink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.segs)
}

// until waits until f is true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after 10 s still not: %s", what)
		}
	}
}

// start runs a Live until the returned function is called, which returns what
// Run returned.
func start(t testing.TB, maps *bpf.Maps, sinks ...Sink) (*Live, func() error) {
	t.Helper()
	l, err := NewLive(LiveConfig{Maps: maps, Sinks: sinks, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return await(t, done)
	})
	t.Cleanup(func() { stop() })
	until(t, "the readers beat", func() bool { s := l.Stats(); return s.Sum().Beat > 0 })
	return l, stop
}

// TestLive: a conversation over a real interface comes whole, once, in order of
// the hook, with the time of day, and every packet is in the counters.
func TestLive(t *testing.T) {
	for _, rings := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d rings", rings), func(t *testing.T) {
			client, server := netnstest.New(t), netnstest.New(t)
			netnstest.Veth(t, netnstest.End{NS: client, Name: "eth0", Addresses: []string{"10.1.0.2/24", "fd01::2/64"}},
				netnstest.End{NS: server, Name: "eth0", Addresses: []string{"10.1.0.1/24", "fd01::1/64"}})
			maps, err := bpf.NewMaps(bpf.MapsConfig{Rings: rings})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { maps.Close() })
			if err := maps.SetPorts([]uint16{8080}); err != nil {
				t.Fatal(err)
			}
			a, err := attach.New(attach.Config{Maps: maps, Log: slog.New(slog.DiscardHandler), Interfaces: []attach.Interface{{Name: "eth0", NetNS: server.Path()}}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { a.Detach() })
			var sinks []*liveSink
			var given []Sink
			for range rings {
				sinks = append(sinks, &liveSink{})
				given = append(given, sinks[len(sinks)-1])
			}
			l, stop := start(t, maps, given...)
			if err := a.Attach(); err != nil {
				t.Fatal(err)
			}
			began := time.Now().UnixNano()
			var conns []net.Conn
			for _, addr := range []string{"10.1.0.1:8080", "[fd01::1]:8080"} {
				go echo(server.Listen(t, addr))
				for range 4 {
					conns = append(conns, client.Dial(t, addr))
				}
			}
			want := map[uint16]string{}
			var all sync.WaitGroup
			for i, c := range conns {
				text := strings.Repeat(fmt.Sprintf("connection %d says something; ", i), 10000)
				want[c.LocalAddr().(*net.TCPAddr).AddrPort().Port()] = text
				all.Go(func() {
					go func() {
						io.WriteString(c, text)
						c.(*net.TCPConn).CloseWrite()
					}()
					if b, err := io.ReadAll(c); err != nil || string(b) != text {
						t.Errorf("echo of %d bytes, %v", len(b), err)
					}
				})
			}
			all.Wait()
			ended := time.Now().UnixNano()
			if err := a.Detach(); err != nil {
				t.Fatal(err)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			c, err := maps.Counters()
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			got := map[uint16][2]map[uint32][]byte{}
			ring := map[uint16]int{}
			for r, s := range sinks {
				for _, x := range s.segs {
					n++
					// The offset of the clocks is known to within a second's drift.
					if x.Time < began-int64(time.Millisecond) || x.Time > ended+int64(time.Millisecond) {
						t.Fatalf("time %d of a segment between %d and %d", x.Time, began, ended)
					}
					port, dir := x.SrcPort, 0
					if x.Side == reassembly.ToClient {
						port, dir = x.DstPort, 1
					}
					if was, ok := ring[port]; ok && was != r {
						t.Fatalf("the flow of port %d is in rings %d and %d", port, was, r)
					}
					ring[port] = r
					if _, ok := got[port]; !ok {
						got[port] = [2]map[uint32][]byte{{}, {}}
					}
					if len(x.Payload) > 0 {
						got[port][dir][x.Seq] = x.Payload
					}
				}
			}
			for port, text := range want {
				for dir := range 2 {
					if b := join(got[port][dir]); b != text {
						t.Errorf("port %d, direction %d: %d bytes, want %d", port, dir, len(b), len(text))
					}
				}
			}
			if c.Packets[bpf.Captured] == 0 || c.Selected() != c.Packets[bpf.Captured]+c.Packets[bpf.NoPayload] {
				t.Errorf("counters %v", c.Packets)
			}
			s := l.Stats()
			if sum := s.Sum(); sum.Records != uint64(n) || sum.Errors != 0 || sum.Left != 0 || sum.Beat != 0 || n < int(c.Packets[bpf.Captured]) {
				t.Errorf("%d segments, %d packets, stats %+v", n, c.Packets[bpf.Captured], sum)
			}
		})
	}
}

// join puts pieces in order of their sequence numbers, which do not wrap here
// but for one stream in thousands; a retransmission is the same piece again.
func join(m map[uint32][]byte) string {
	var keys []uint32
	for k := range m {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return ""
	}
	slices.SortFunc(keys, func(a, b uint32) int { return int(int32(a - b)) })
	var b strings.Builder
	next := keys[0]
	for _, k := range keys {
		p := m[k]
		if over := int32(next - k); over > 0 {
			p = p[min(int(over), len(p)):]
		}
		b.Write(p)
		next += uint32(len(p))
	}
	return b.String()
}

func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func TestNewLiveErrors(t *testing.T) {
	r := newTap(t, bpf.MinRingBytes)
	log := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		cfg  LiveConfig
		want string
	}{
		{LiveConfig{Log: log}, "Maps"},
		{LiveConfig{Maps: r.maps, Sinks: []Sink{&liveSink{}}}, "Log"},
		{LiveConfig{Maps: r.maps, Log: log}, "there are 0 for 1 rings"},
		{LiveConfig{Maps: r.maps, Log: log, Sinks: []Sink{nil}}, "number 0 is nil"},
		{LiveConfig{Maps: r.maps, Log: log, Sinks: []Sink{&liveSink{}}, Wait: time.Second}, "Wait: 1s"},
	} {
		if _, err := NewLive(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.cfg, err, c.want)
		}
	}
}

// TestIdle: a reader that finds nothing ticks and beats, and wakes seldom. The
// limits leave room for a machine that runs many tests at once.
func TestIdle(t *testing.T) {
	r := newTap(t, bpf.MinRingBytes)
	sink := &liveSink{}
	l, stop := start(t, r.maps, sink)
	began := time.Now()
	until(t, "2 s are over", func() bool {
		s := l.Stats()
		if age := time.Duration(bpf.Now() - s.Sum().Beat); age > 500*time.Millisecond {
			t.Fatalf("the last beat is %s old", age)
		}
		return time.Since(began) > 2*time.Second
	})
	took := time.Since(began)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s := l.Stats()
	if w := s.Sum().Wakes; float64(w) > 6+took.Seconds()/0.07 {
		t.Errorf("%d wake-ups in %s, want about 13 a second", w, took)
	}
	var gaps []time.Duration
	for i := range sink.ticks {
		if i > 0 {
			gaps = append(gaps, sink.ticks[i].Sub(sink.ticks[i-1]))
		}
		if d := sink.ticked[i] - sink.ticks[i].UnixNano(); d > int64(time.Millisecond) || d < -int64(100*time.Millisecond) {
			t.Errorf("tick %d says a time that is off by %s", i, time.Duration(d))
		}
	}
	slices.Sort(gaps)
	if n := len(gaps); n == 0 || gaps[n/2] > 100*time.Millisecond {
		t.Errorf("ticks are apart by %s", gaps)
	}
}

// TestWokenFromSleep: a record that comes while the reader sleeps long is read
// at once, because the program wakes it.
func TestWokenFromSleep(t *testing.T) {
	r := newTap(t, bpf.MinRingBytes)
	sink := &liveSink{}
	l, _ := start(t, r.maps, sink)
	frame := ether(ip4(t, "hello", nil))
	var waits []time.Duration
	for i := range 11 {
		// In its longest sleep: no wake-up for 70 ms.
		s := l.Stats()
		last, since := s.Sum().Wakes, time.Now()
		until(t, "the reader sleeps", func() bool {
			s := l.Stats()
			if w := s.Sum().Wakes; w != last {
				last, since = w, time.Now()
			}
			return time.Since(since) > 70*time.Millisecond
		})
		until(t, "a new sleep began", func() bool { s := l.Stats(); return s.Sum().Wakes != last })
		sent := time.Now()
		r.packet(t, frame, 1)
		until(t, "the record came", func() bool { return sink.count() == i+1 })
		_, came := sink.segment(i)
		waits = append(waits, time.Duration(came-sent.UnixNano()))
	}
	slices.Sort(waits)
	// Without a wake-up it would be more than 80 ms.
	if waits[5] > 20*time.Millisecond {
		t.Errorf("waits %v: nobody wakes the reader", waits)
	}
}

// TestBatches: under load records are read many at a time, and none waits long.
func TestBatches(t *testing.T) {
	r := newTap(t, 4<<20)
	sink := &liveSink{}
	l, stop := start(t, r.maps, sink)
	frame := ether(ip4(t, strings.Repeat("x", 1400), nil))
	s := l.Stats()
	wakes, began := s.Sum().Wakes, time.Now()
	sent := 0
	until(t, "5,000 records are sent over 1 s", func() bool {
		for sent < int(time.Since(began)*5000/time.Second) {
			r.packet(t, frame, 1)
			sent++
		}
		return sent >= 5000
	})
	took := time.Since(began)
	until(t, "all came", func() bool { return sink.count() == sent })
	s = l.Stats()
	if w := s.Sum().Wakes - wakes; float64(w) > 1.2*took.Seconds()/defaultWait.Seconds() {
		t.Errorf("%d wake-ups for %d records in %s", w, sent, took)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	waits := make([]int64, len(sink.segs))
	for i, x := range sink.segs {
		waits[i] = sink.came[i] - x.Time
	}
	slices.Sort(waits)
	if p := time.Duration(waits[len(waits)/2]); p > 20*time.Millisecond { // sleeping 100 ms: 50
		t.Errorf("half of the records waited more than %s", p)
	}
}

// TestStuckReader: a sink that does not return stops the beat, so that after a
// second nothing more is copied, and all goes on when it returns.
func TestStuckReader(t *testing.T) {
	r := newTap(t, bpf.MinRingBytes)
	sink := &liveSink{hold: make(chan struct{})}
	l, stop := start(t, r.maps, sink)
	frame := ether(ip4(t, "hello", nil))
	r.packet(t, frame, 1)
	until(t, "the sink is stuck", sink.held.Load)
	until(t, "packets have no reader", func() bool {
		r.packet(t, frame, 1)
		return r.counters(t).Packets[bpf.NoReader] > 0
	})
	if s := l.Stats(); time.Duration(bpf.Now()-s.Sum().Beat) < time.Second {
		t.Errorf("no reader although the last beat is %s old", time.Duration(bpf.Now()-s.Sum().Beat))
	}
	close(sink.hold)
	until(t, "packets are captured again", func() bool {
		before := r.counters(t).Packets[bpf.NoReader]
		r.packet(t, frame, 1)
		return r.counters(t).Packets[bpf.NoReader] == before
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if c := r.counters(t); sink.count() != int(c.Packets[bpf.Captured]) {
		t.Errorf("%d segments, counters %v", sink.count(), c.Packets)
	}
}

// TestStopEmptiesRing: what is in the ring when the reader is stopped is still
// delivered, and nothing is copied afterwards.
func TestStopEmptiesRing(t *testing.T) {
	r := newTap(t, 1<<20)
	sink := &liveSink{hold: make(chan struct{})}
	l, err := NewLive(LiveConfig{Maps: r.maps, Sinks: []Sink{sink}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	until(t, "the reader beats", func() bool { s := l.Stats(); return s.Sum().Beat > 0 })
	frame := ether(ip4(t, "hello", nil))
	r.packet(t, frame, 1)
	until(t, "the sink is stuck", sink.held.Load)
	r.packet(t, frame, 500)
	cancel()
	select {
	case err := <-done:
		t.Fatalf("run returned %v with records in the ring", err)
	default:
	}
	close(sink.hold)
	if err := await(t, done); err != nil {
		t.Fatal(err)
	}
	if n := sink.count(); n != 501 {
		t.Errorf("%d segments, want 501", n)
	}
	r.packet(t, frame, 3)
	if c := r.counters(t); c.Packets[bpf.Captured] != 501 || c.Packets[bpf.NoReader] != 3 {
		t.Errorf("counters %v", c.Packets)
	}
	if s := l.Stats(); s.Sum().Records != 501 || s.Sum().Bytes != 2505 || s.Sum().Beat != 0 {
		t.Errorf("stats %+v", s)
	}
}

// slowSink takes 20 us for a segment.
type slowSink struct {
	nothing
	n atomic.Int64
}

func (s *slowSink) Segment(*reassembly.Segment) {
	for began := time.Now(); time.Since(began) < 20*time.Microsecond; {
	}
	s.n.Add(1)
}

// TestStopUnderLoad: packets that keep coming, faster than they are read, do not
// keep Run from returning.
func TestStopUnderLoad(t *testing.T) {
	r := newTap(t, bpf.MinRingBytes)
	sink := &slowSink{}
	_, stop := start(t, r.maps, sink)
	frame := ether(ip4(t, "hello", nil))
	var off atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !off.Load() {
			r.packet(t, frame, 100)
		}
	})
	defer wg.Wait()
	defer off.Store(true)
	until(t, "the ring is full", func() bool { return r.counters(t).Packets[bpf.RingFull] > 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if c := r.counters(t); uint64(sink.n.Load()) != c.Packets[bpf.Captured] || c.Packets[bpf.NoReader] == 0 {
		t.Errorf("%d segments, counters %v", sink.n.Load(), c.Packets)
	}
}

// TestHoleOpen: while the sink has an open hole, pure ACKs come too.
func TestHoleOpen(t *testing.T) {
	r := newTap(t, bpf.MinRingBytes)
	sink := &liveSink{}
	_, _ = start(t, r.maps, sink)
	ack := ether(ip4(t, "", nil))
	r.packet(t, ack, 1)
	if c := r.counters(t); c.Packets[bpf.NoPayload] != 1 {
		t.Fatalf("counters %v", c.Packets)
	}
	sink.hole.Store(true)
	until(t, "pure ACKs come", func() bool {
		r.packet(t, ack, 1)
		return sink.count() > 0
	})
	if s, _ := sink.segment(0); len(s.Payload) != 0 || s.Ack != 2000 || s.Flags != reassembly.ACK {
		t.Errorf("segment %+v", s)
	}
	sink.hole.Store(false)
	until(t, "pure ACKs are passed over again", func() bool {
		before := r.counters(t).Packets[bpf.NoPayload]
		r.packet(t, ack, 1)
		return r.counters(t).Packets[bpf.NoPayload] > before
	})
}

// newShard is a reader that the test drives itself.
func newShard(t testing.TB, r *tapRings, sink Sink) *shard {
	t.Helper()
	ring, err := newRing(r.maps.Ring(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ring.close() })
	s := &shard{sink: sink, ctl: r.maps.Control(0), ring: ring, clock: newClock()}
	s.turn()
	return s
}

func TestDrainAllocatesNothing(t *testing.T) {
	r := newTap(t, 4<<20)
	s := newShard(t, r, nothing{})
	frame := ether(ip4(t, strings.Repeat("x", 1000), nil))
	r.packet(t, frame, 100)
	s.drain()
	r.packet(t, frame, 1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := s.drain()
	runtime.ReadMemStats(&after)
	if n != 1000 {
		t.Fatalf("%d records", n)
	}
	// What is left is of other goroutines.
	if d := after.Mallocs - before.Mallocs; d > 20 {
		t.Errorf("%d allocations for 1,000 records", d)
	}
}

// BenchmarkDrain is the reader's cost of a record, from the ring to the Sink.
func BenchmarkDrain(b *testing.B) {
	const batch = 1024
	r := newTap(b, 4<<20)
	s := newShard(b, r, nothing{})
	frame := ether(ip4(b, strings.Repeat("x", 1448), nil))
	b.ReportAllocs()
	b.ResetTimer()
	b.StopTimer()
	for done := 0; done < b.N; {
		r.burst(b, frame, batch)
		b.StartTimer()
		done += s.drain()
		b.StopTimer()
	}
}

func TestClock(t *testing.T) {
	c := newClock()
	for range 100 {
		a := bpf.Now()
		now := c.now()
		b := bpf.Now()
		if now < a-int64(10*time.Microsecond) || now > b+int64(10*time.Microsecond) {
			t.Fatalf("the clock says %d between %d and %d", now, a, b)
		}
		w := time.Now().UnixNano()
		if d := c.epoch(c.now()) - w; d < -int64(time.Millisecond) || d > int64(time.Millisecond) {
			t.Fatalf("the time of day is off by %s", time.Duration(d))
		}
		if d := c.when(now).Sub(c.base); d != time.Duration(now-c.mono) {
			t.Fatalf("when is %s after the base", d)
		}
	}
	// A correction of the time of day is seen within a second.
	c.offset += int64(time.Hour)
	c.keep(c.measured + measureEvery - 1)
	if d := c.epoch(c.now()) - time.Now().UnixNano(); d < int64(time.Minute) {
		t.Error("measured too early")
	}
	c.keep(c.measured + measureEvery)
	if d := c.epoch(c.now()) - time.Now().UnixNano(); d > int64(time.Millisecond) {
		t.Errorf("off by %s a second after a correction", time.Duration(d))
	}
}

func TestNextWait(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		wait, busy time.Duration
		n          int
		want       time.Duration
	}{
		{8 * ms, 8 * ms, 0, 16 * ms}, {64 * ms, 8 * ms, 0, 80 * ms}, {80 * ms, 8 * ms, 0, 80 * ms},
		{80 * ms, 8 * ms, 1, 8 * ms}, {80 * ms, 8 * ms, 100000, 8 * ms},
		{8 * ms, 8 * ms, 255, 8 * ms}, {8 * ms, 8 * ms, 256, 4 * ms}, {2 * ms, 8 * ms, 5000, ms}, {ms, 8 * ms, 5000, ms},
		{ms, 8 * ms, 65, ms}, {ms, 8 * ms, 64, 2 * ms}, {4 * ms, 8 * ms, 1, 8 * ms}, {8 * ms, 8 * ms, 1, 8 * ms},
		{ms / 2, ms / 2, 5000, ms / 2}, {ms / 2, ms / 2, 1, ms / 2}, {2 * ms, 8 * ms, 0, 4 * ms},
	} {
		if got := nextWait(c.wait, c.busy, c.n); got != c.want {
			t.Errorf("nextWait(%s, %s, %d) is %s, want %s", c.wait, c.busy, c.n, got, c.want)
		}
	}
}

func TestWakeAt(t *testing.T) {
	const ms = int64(time.Millisecond)
	for _, c := range []struct {
		now  int64
		wait time.Duration
		want int64
	}{
		{1000 * ms, 5 * time.Millisecond, 1005 * ms}, {1001 * ms, 5 * time.Millisecond, 1005 * ms},
		{1004*ms + 999999, 5 * time.Millisecond, 1005 * ms}, {1001 * ms, 10 * time.Millisecond, 1010 * ms}, {1001 * ms, idleWait, 1080 * ms},
	} {
		if got := wakeAt(c.now, c.wait, 5*time.Millisecond); got != c.want {
			t.Errorf("wakeAt(%d, %s) is %d, want %d", c.now, c.wait, got, c.want)
		}
	}
}
