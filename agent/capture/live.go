package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/crash"
	"github.com/shadowtap/shadowtap/bpf"
	"github.com/shadowtap/shadowtap/reassembly"
)

// LiveConfig says what is read, and who gets it.
type LiveConfig struct {
	// Maps have the rings. Required; they outlive Run.
	Maps *bpf.Maps
	// Sinks has one Sink for each ring, in the order of the rings. Required.
	Sinks []Sink
	// Wait is the longest that a reader sleeps after it read something: the
	// longest time that a record waits under load, as long as the reader keeps up.
	// Under high load it sleeps less, so that what it does at once stays short.
	// Zero means 8 ms; more than 50 ms is an error. Twice as long costs about half
	// as much CPU at moderate rates, see BenchmarkCPU.
	Wait time.Duration
	// Log gets a line when the rings could not be emptied at the end. Required.
	Log *slog.Logger
}

// How a reader waits. A wake-up costs as much as reading some hundred records
// (100 us, as a core that slept is cold), so a reader wakes by the clock, reads
// all there is, and is woken only out of longer sleep, or by a ring that fills
// up. But a reader at work holds a core for as long as it reads, and whoever
// shares that core with it waits: so it comes more often where it finds much.
const (
	defaultWait = 8 * time.Millisecond
	maxWait     = 50 * time.Millisecond
	shortWait   = time.Millisecond
	// muchRecords are so many that the next sleep is half as long, fewRecords so
	// few that it is twice as long; both within shortWait and LiveConfig.Wait.
	muchRecords = 256
	fewRecords  = muchRecords / 4
	// idleWait bounds the sleep, which doubles as long as nothing comes. It is
	// less than the 100 ms that a Sink is promised, by what a timer may be late.
	idleWait = 80 * time.Millisecond
	// tickEvery is how often a reader at work calls Tick, in ns.
	tickEvery = int64(10 * time.Millisecond)
	// turnEvery is after how many records a reader looks at the clock, beats,
	// and asks for holes.
	turnEvery = 64
	// maxHeld bounds the bytes of the ring that are read and not given back.
	maxHeld = 64 << 10
	// settle is how long a program that began before the last beat was taken
	// back may take to end, stuck how long one that reserved a record.
	settle = 2 * time.Millisecond
	stuck  = 200 * time.Millisecond
)

// Live reads the tap's rings.
type Live struct {
	cfg    LiveConfig
	shards []*shard
}

// LiveStats is what a Live counted so far.
type LiveStats struct {
	// Shards are the rings, in their order.
	Shards []ShardStats
}

// ShardStats is what one ring's reader counted so far.
type ShardStats struct {
	// Records is the number of records read, Errors those that could not be
	// decoded, which the program never writes.
	Records, Errors uint64
	// Bytes is the TCP payload that went to the sink.
	Bytes uint64
	// Wakes is how often the reader stopped waiting.
	Wakes uint64
	// Beat is when the reader last showed that it is alive, by bpf.Now; 0
	// before it runs and after it ended.
	Beat int64
	// Left is the bytes that were in the ring when the reader gave up on a record
	// that was never finished, at the end of Run. Always 0 but for a fault of
	// the kernel.
	Left uint64
}

// Sum adds up the shards. Its Beat is the oldest one, so 0 when a reader does
// not run.
func (s *LiveStats) Sum() ShardStats {
	var t ShardStats
	for i, h := range s.Shards {
		t.Records += h.Records
		t.Errors += h.Errors
		t.Bytes += h.Bytes
		t.Wakes += h.Wakes
		t.Left += h.Left
		if i == 0 || h.Beat < t.Beat {
			t.Beat = h.Beat
		}
	}
	return t
}

// NewLive checks the configuration. Nothing is read yet, and the tap copies
// nothing before Run.
func NewLive(cfg LiveConfig) (*Live, error) {
	switch {
	case cfg.Maps == nil:
		return nil, errors.New("capture: Maps is nil")
	case cfg.Log == nil:
		return nil, errors.New("capture: Log is nil")
	case len(cfg.Sinks) != cfg.Maps.Rings():
		return nil, fmt.Errorf("capture: Sinks: there are %d for %d rings", len(cfg.Sinks), cfg.Maps.Rings())
	case cfg.Wait < 0 || cfg.Wait > maxWait:
		return nil, fmt.Errorf("capture: Wait: %s is not between 0 and %s", cfg.Wait, maxWait)
	}
	if cfg.Wait == 0 {
		cfg.Wait = defaultWait
	}
	l := &Live{cfg: cfg}
	for i, s := range cfg.Sinks {
		if s == nil {
			return nil, fmt.Errorf("capture: Sinks: number %d is nil", i)
		}
		l.shards = append(l.shards, &shard{sink: s, ctl: cfg.Maps.Control(i), busy: cfg.Wait})
	}
	return l, nil
}

// Run reads until ctx ends, empties the rings, and returns nil. The taps should
// be detached before ctx ends; what one that is not detached still sees is
// counted NoReader. Run is called once.
func (l *Live) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(l.shards))
	for i, s := range l.shards {
		wg.Go(func() {
			defer crash.Guard()
			errs[i] = s.run(ctx, l.cfg.Maps, i)
			if errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	for i, s := range l.shards {
		if n := s.shown.left.Load(); n > 0 {
			l.cfg.Log.Warn("ring not emptied: a record was never finished", "ring", i, "bytes", n)
		}
	}
	return errors.Join(errs...)
}

// Stats returns what was counted so far. It may be called from any goroutine.
func (l *Live) Stats() LiveStats {
	s := LiveStats{Shards: make([]ShardStats, len(l.shards))}
	for i, h := range l.shards {
		s.Shards[i] = ShardStats{
			Records: h.shown.records.Load(), Errors: h.shown.errors.Load(), Bytes: h.shown.bytes.Load(),
			Wakes: h.shown.wakes.Load(), Beat: h.shown.beat.Load(), Left: h.shown.left.Load(),
		}
	}
	return s
}

// shard is one ring's reader. Everything but stop and shown belongs to the
// goroutine that runs it.
type shard struct {
	sink  Sink
	busy  time.Duration // LiveConfig.Wait
	ctl   *bpf.Control
	ring  *ring
	bell  *bell
	clock clock

	ev   bpf.Event
	seg  reassembly.Segment
	tick int64 // when Tick was called last, by the tap's clock
	hole bool  // what the program was told
	// sleepy says that the wait is for the next record.
	sleepy bool
	// last says that the reader ends: it does not beat any more.
	last bool

	records, errors, bytes, wakes uint64

	stop  atomic.Bool
	shown struct {
		records, errors, bytes, wakes, left atomic.Uint64
		beat                                atomic.Int64
	}
}

// run reads ring i until ctx ends.
func (s *shard) run(ctx context.Context, maps *bpf.Maps, i int) (err error) {
	if s.ring, err = newRing(maps.Ring(i)); err != nil {
		return fmt.Errorf("read ring %d: %w", i, err)
	}
	defer func() { err = errors.Join(err, s.ring.close()) }()
	if s.bell, err = newBell(maps.Ring(i), s.ready); err != nil {
		return fmt.Errorf("read ring %d: %w", i, err)
	}
	defer func() { err = errors.Join(err, s.bell.close()) }()
	defer s.end()
	defer context.AfterFunc(ctx, func() {
		s.stop.Store(true)
		s.bell.ring()
	})()

	s.clock = newClock()
	s.ctl.SetHoleOpen(false)
	now := s.turn()
	wait := s.busy
	for {
		n := s.drain()
		if s.stop.Load() {
			return nil
		}
		wait = nextWait(wait, s.busy, n)
		if n > 0 {
			now = s.clock.now()
		}
		s.sleepy = n == 0
		s.ctl.SetSleeping(s.sleepy)
		if err := s.bell.wait(s.clock.when(wakeAt(now, wait, min(wait, s.busy)))); err != nil {
			return fmt.Errorf("ring %d: %w", i, err)
		}
		s.ctl.SetAwake()
		s.wakes++
		now = s.turn()
	}
}

// nextWait returns how long to wait after a wait of that length found n records;
// busy is LiveConfig.Wait.
func nextWait(wait, busy time.Duration, n int) time.Duration {
	switch {
	case n == 0:
		return min(2*wait, idleWait)
	case wait > busy:
		return busy
	case n >= muchRecords:
		return max(wait/2, min(shortWait, busy))
	case n <= fewRecords:
		return min(2*wait, busy)
	}
	return wait
}

// wakeAt returns the time at which to wake after a wait of at most that long, a
// multiple of step: all readers wake at the same moments, which costs little
// more than a wake-up of one.
func wakeAt(now int64, wait, step time.Duration) int64 {
	return (now + int64(wait)) / int64(step) * int64(step)
}

// ready says whether there is no need to wait. It is asked after the program was
// told what to wake for.
func (s *shard) ready() bool {
	return s.stop.Load() || s.sleepy && s.ring.pending()
}

// drain reads what there is, and returns the number of records. It returns when
// the reader is to stop, too.
func (s *shard) drain() int {
	n := 0
	for {
		rec := s.ring.next()
		if rec == nil {
			break
		}
		n++
		if err := bpf.Decode(rec, &s.ev); err != nil {
			s.errors++
		} else {
			s.segment()
		}
		if s.ring.held() >= maxHeld {
			s.ring.release()
		}
		if n%turnEvery == 0 {
			s.turn()
			if s.stop.Load() && !s.last {
				break
			}
		}
	}
	s.records += uint64(n)
	if n > 0 {
		s.ring.release()
		s.turn()
	}
	return n
}

// segment hands the event to the sink.
func (s *shard) segment() {
	e := &s.ev
	s.bytes += uint64(len(e.Payload))
	s.seg = reassembly.Segment{
		Src: e.Src, Dst: e.Dst, SrcPort: e.SrcPort, DstPort: e.DstPort, Tap: e.Tap, Domain: e.Domain,
		Seq: e.Seq, Ack: e.Ack, Flags: reassembly.Flags(e.Flags), Side: reassembly.Side(e.Side),
		Time: s.clock.epoch(e.Time), Lost: e.Lost, Skipped: e.Skipped, Payload: e.Payload,
	}
	s.sink.Segment(&s.seg)
}

// turn does what is due by the clock: it beats, ticks, and says whether a hole
// is open. It returns the tap's time.
func (s *shard) turn() int64 {
	now := s.clock.now()
	s.clock.keep(now)
	if !s.last {
		s.ctl.Beat(now)
		s.shown.beat.Store(now)
	}
	if now-s.tick >= tickEvery {
		s.tick = now
		s.sink.Tick(s.clock.epoch(now))
	}
	if hole := s.sink.HoleOpen(); hole != s.hole {
		s.hole = hole
		s.ctl.SetHoleOpen(hole)
	}
	s.publish()
	return now
}

func (s *shard) publish() {
	s.shown.records.Store(s.records)
	s.shown.errors.Store(s.errors)
	s.shown.bytes.Store(s.bytes)
	s.shown.wakes.Store(s.wakes)
}

// end takes the beat back, so that nothing more is copied, and reads what is
// still in the ring.
func (s *shard) end() {
	s.last = true
	s.ctl.Beat(0)
	s.ctl.SetAwake()
	s.shown.beat.Store(0)
	began := s.clock.now()
	for {
		time.Sleep(settle)
		if s.drain() > 0 {
			continue
		}
		if s.ring.empty() {
			break
		}
		if s.clock.now()-began > int64(stuck) {
			s.shown.left.Store(s.ring.left())
			break
		}
	}
	if s.hole {
		s.ctl.SetHoleOpen(false)
	}
	s.publish()
}
