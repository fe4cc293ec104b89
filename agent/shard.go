package agent

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/bpf"
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/http2"
)

// shard is one ring's share of the work: the assembler and the parsers of its
// connections. It implements capture.Sink; all its calls come from one
// goroutine, except snapshot.
type shard struct {
	asm    *reassembly.Assembler
	http1  *http1.Parser
	http2  *http2.Parser
	sample *sample.Shard // nil without experiments
	tally  *tally        // nil without experiments
	// stop is when the agent began to stop, in nanoseconds since the Unix
	// epoch; 0 before. Any goroutine may set it.
	stop atomic.Int64
	// quiet says that stop was set at the last Tick, and that no segment has
	// come since.
	quiet, refused bool
	// published is what other goroutines may read of the counters.
	mu        sync.Mutex
	published shardStats
}

type shardStats struct {
	asm  reassembly.Stats
	http exchange.Stats
	// refused says that what begins now is not read any more.
	refused bool
}

// shardConfig says how a shard is made.
type shardConfig struct {
	keeper exchange.Keeper
	sink   exchange.Sink
	memory int64
	body   int64
	// file makes it wait for what stands later in a capture file.
	file bool
	// maps are those of the tap that is told what nobody wants; nil: none is.
	maps *bpf.Maps
	// unwanted knows of requests before they come; nil: nobody does.
	unwanted func(f *exchange.Flow, isn uint32, offset uint64) bool
}

// How long a capture file's reader waits for a segment that stands behind its
// acknowledgement.
const (
	holdTime     = 20 * time.Millisecond
	holdSegments = 64
)

func newShard(cfg shardConfig) (*shard, error) {
	budget := &reassembly.Budget{Limit: cfg.memory}
	c2 := http2.Config{Keeper: cfg.keeper, Sink: cfg.sink, MaxBody: cfg.body, Budget: budget, Domain: domainName}
	c1 := http1.Config{
		Keeper: cfg.keeper, Sink: cfg.sink, MaxBody: cfg.body, Budget: budget, Domain: domainName,
		Frames: http2.Frames,
	}
	rc := reassembly.Config{Budget: budget}
	var skip *skipper
	if cfg.maps != nil {
		skip = &skipper{}
		c1.Skipper, c2.Skipper, rc.Skipper = skip, skip, tapSkips{cfg.maps}
		if skip.unwanted = cfg.unwanted; skip.unwanted != nil {
			c1.Forecaster, rc.Forecaster = skip, tapSkips{cfg.maps}
		}
	}
	h2, err := http2.New(c2)
	if err != nil {
		return nil, err
	}
	c1.HTTP2 = h2.Open
	if cfg.file {
		rc.HoldTime, rc.HoldSegments = holdTime, holdSegments
	}
	h1, err := http1.New(c1)
	if err != nil {
		return nil, err
	}
	rc.Factory = h1
	asm, err := reassembly.New(rc)
	if err != nil {
		return nil, err
	}
	if skip != nil {
		skip.Assembler = asm
	}
	return &shard{asm: asm, http1: h1, http2: h2}, nil
}

// Segment implements capture.Sink.
func (s *shard) Segment(seg *reassembly.Segment) {
	s.quiet = false
	if at := s.stop.Load(); at != 0 && seg.Time > at {
		s.refuse()
	}
	s.asm.Segment(seg)
}

// refuse begins the end. What stands in the ring from before the stop is still
// taken, so it waits for the first later segment, or for a ring without any.
func (s *shard) refuse() {
	if !s.refused {
		s.refused = true
		s.http1.Refuse()
		s.http2.Refuse()
	}
}

// HoleOpen implements capture.Sink.
func (s *shard) HoleOpen() bool { return s.asm.HoleOpen() }

// Tick implements capture.Sink.
func (s *shard) Tick(now int64) {
	if s.quiet {
		s.refuse()
	}
	s.quiet = s.stop.Load() != 0
	s.asm.Tick(now)
	if s.sample != nil {
		s.sample.Tick(now)
	}
	if s.tally != nil {
		s.tally.tick(now)
	}
	s.publish()
}

// close ends what is open and publishes the last counts.
func (s *shard) close(why reassembly.Close) {
	s.asm.Close(why)
	if s.tally != nil {
		s.tally.flush()
	}
	s.publish()
}

func (s *shard) publish() {
	asm, http, h2 := s.asm.Stats(), s.http1.Stats(), s.http2.Stats()
	http.Add(&h2)
	s.mu.Lock()
	s.published = shardStats{asm, http, s.refused}
	s.mu.Unlock()
}

// stats gives the counters of the last Tick. Any goroutine may call it.
func (s *shard) stats() shardStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published
}

// domainName names a tap's domain in flows and ids; the host's is "".
func domainName(d uint16) string {
	if d == 0 {
		return ""
	}
	return "netns-" + strconv.Itoa(int(d))
}
