package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/agent/attach"
	"github.com/shadowtap/shadowtap/agent/capture"
	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/crash"
	"github.com/shadowtap/shadowtap/agent/off"
	"github.com/shadowtap/shadowtap/agent/publish"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/bpf"
	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Options of an Agent.
type Options struct {
	// Config is what the agent is told. Required; not changed afterwards.
	Config *config.Config
	// Version of the program, for records and status.
	Version string
	// Exchanges gets each complete exchange as a JSON line, without bodies.
	// Nil means none.
	Exchanges io.Writer
	// Terminal is where divergences are shown when no sink is configured, and
	// for the terminal sink. Required.
	Terminal Terminal
	// Ready is called once, when every attachment stands. Nil means nobody.
	Ready func(*Agent)
	// Level is what the admin interface may change. Nil means it can't.
	Level *slog.LevelVar
	// Log is required.
	Log *slog.Logger
}

// Terminal is a place for people to read.
type Terminal struct {
	Out io.Writer
	// Width in columns; zero means 100.
	Width int
	// Colour says that it understands ANSI colours.
	Colour bool
	// ASCII says that it does not show UTF-8.
	ASCII bool
}

// Agent is the live agent. Make it with New.
type Agent struct {
	opt   Options
	cfg   *config.Config
	log   *slog.Logger
	start time.Time

	sampler     *sample.Sampler
	experiments []*experiment
	redactor    *redact.Redactor
	publisher   *publish.Publisher
	windows     *windows // nil without experiments
	lines       *exchangeLines

	maps     *bpf.Maps
	attacher *attach.Attacher
	live     *capture.Live
	shards   []*shard
	server   *telemetry.Server
	lock     *off.Lock

	mu       sync.Mutex // of what off and on change
	offState off.State
	begun    bool
	attached bool
	stopping bool

	last atomic.Pointer[[]telemetry.Count] // the ledger at the end
}

// gcPercent is how much the heap may grow between two collections, in percent of
// what is live, as long as it is below the limit.
const gcPercent = 400

// memory splits capture.memory: rings take at most a quarter, and Go's heap three
// quarters of the rest. What is left is for the pages of the program itself, 20 MiB,
// and for what the heap has beyond its limit while it is collected.
func memory(total int64, rings int) (ringBytes int, heap int64) {
	ringBytes = bpf.MinRingBytes
	for int64(ringBytes)*2*int64(rings) <= total/4 {
		ringBytes *= 2
	}
	return ringBytes, (total - int64(ringBytes*rings)) / 4 * 3
}

// ringCount is how many rings there are, each with its reader. A reader follows
// what many cores serve (1.2 us of it stand against 14 us of nginx for an
// exchange of 4 KiB), so unless told otherwise there is one for two CPUs: a
// second reader there wakes as often, and holds up the other core.
func ringCount(c *config.Config) int {
	if c.Capture.Rings > 0 {
		return c.Capture.Rings
	}
	return min(max(runtime.GOMAXPROCS(0)/2, 1), 4)
}

// New makes the rooms. Nothing is attached, read or sent yet. Close it when Run
// is not called.
func New(o Options) (_ *Agent, err error) {
	if o.Config == nil || o.Log == nil || o.Terminal.Out == nil {
		return nil, errors.New("agent: Config, Log and Terminal are required")
	}
	a := &Agent{opt: o, cfg: o.Config, log: o.Log, start: time.Now()}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	c := a.cfg
	if len(c.CapturePorts()) == 0 {
		return nil, errors.New("no port to capture: name one with --port, or experiments[].match.port in the file")
	}
	if len(c.Capture.Interfaces) == 0 {
		return nil, errors.New("no interface to capture on: name one with --interface, or capture.interfaces in the file")
	}
	if a.lock, err = off.Acquire(lockPath(c)); err != nil {
		if errors.Is(err, off.ErrHeld) {
			err = fmt.Errorf("%w; stop it, or give this one another name with --instance", err)
		}
		return nil, err
	}
	rings := ringCount(c)
	ringBytes, heap := memory(int64(c.Capture.Memory), rings)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heap)
		// The limit bounds the heap; below it collecting seldom costs least.
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(gcPercent)
		}
	}
	if a.maps, err = bpf.NewMaps(bpf.MapsConfig{Rings: rings, RingBytes: ringBytes}); err != nil {
		return nil, privilege(err)
	}
	if err = a.maps.SetPorts(c.CapturePorts()); err != nil {
		return nil, err
	}
	budget := uint64(c.Capture.CopyBudget)
	if budget == math.MaxUint64 {
		budget = 0
	}
	if err = a.maps.SetCopyBudget(budget); err != nil {
		return nil, err
	}
	if o.Exchanges != nil {
		a.lines = newExchangeLines(o.Exchanges, true)
	}
	if err = a.build(ownReplay{a.maps}, redact.SourceLive); err != nil {
		return nil, err
	}
	sinks := make([]capture.Sink, rings)
	for i := range sinks {
		s, err := a.newShard(heap / 2 / int64(rings))
		if err != nil {
			return nil, err
		}
		sinks[i] = s
	}
	if a.live, err = capture.NewLive(capture.LiveConfig{Maps: a.maps, Sinks: sinks, Log: a.log}); err != nil {
		return nil, err
	}
	ac := attach.Config{Maps: a.maps, Owner: attach.Owner{Instance: c.Instance, Lock: lockPath(c)}, Mode: c.Capture.Attach, Log: a.log}
	for _, i := range c.Capture.Interfaces {
		ac.Interfaces = append(ac.Interfaces, attach.Interface{Name: i.Name, Role: i.Role, NetNS: i.NetNS})
	}
	if a.attacher, err = attach.New(ac); err != nil {
		return nil, err
	}
	return a, a.newServer()
}

// build makes what does not depend on where packets come from.
func (a *Agent) build(own replay.OwnReplay, source string) (err error) {
	c := a.cfg
	if a.redactor, err = newRedactor(c, source != redact.SourceLive); err != nil {
		return err
	}
	if a.publisher, err = newPublisher(c, a.opt.Terminal, a.redactor, a.log); err != nil {
		return err
	}
	if len(c.Experiments) == 0 {
		return nil
	}
	sc := sampleConfig(c, a.start)
	types, err := safeCalls(c, &sc)
	if err != nil {
		return err
	}
	sc.OnPause = a.paused
	if a.sampler, err = sample.New(sc); err != nil {
		return err
	}
	id := &identity{
		node: nodeName(), namespace: os.Getenv("POD_NAMESPACE"), pod: os.Getenv("POD_NAME"),
		version: a.opt.Version, bootID: uuid(), revision: c.Revision(), source: source,
	}
	if a.windows, err = newWindows(c, a.sampler, id, a.redactor, a.publisher, a.log); err != nil {
		return err
	}
	// Connections have half of the heap, bodies in replay and comparisons a
	// quarter each.
	_, heap := memory(int64(c.Capture.Memory), ringCount(c))
	bodies, g := replay.NewMemory(heap/4), newGate(heap/4, runtime.GOMAXPROCS(0))
	for i := range c.Experiments {
		x, err := newExperiment(c, i, own, bodies, a.log)
		if err != nil {
			return err
		}
		x.descriptors.Store(types[i])
		x.handed = a.windows.report.divergence
		x.sampler, x.redactor, x.publisher, x.identity, x.gate, x.windows = a.sampler, a.redactor, a.publisher, id, g, a.windows
		a.experiments = append(a.experiments, x)
	}
	return nil
}

func (a *Agent) newShard(memory int64) (*shard, error) {
	k := &keeper{experiments: a.experiments, lines: a.lines}
	if a.sampler != nil {
		k.sample, k.tally = a.sampler.Shard(), newTally(a.windows)
	}
	cfg := shardConfig{keeper: k, sink: k, memory: memory, body: int64(a.cfg.Capture.MaxBody), maps: a.maps}
	if k.sample != nil && k.lines == nil && a.sampler.Foresees() {
		cfg.unwanted = k.sample.Unwanted
	}
	s, err := newShard(cfg)
	if err != nil {
		return nil, err
	}
	s.sample, s.tally = k.sample, k.tally
	a.shards = append(a.shards, s)
	return s, nil
}

// Close releases what New took.
func (a *Agent) Close() {
	if a.maps != nil {
		a.maps.Close()
	}
	if a.lock != nil {
		_ = a.lock.Release()
	}
}

// Run captures until ctx ends, then stops in order: what begins now is refused,
// what has begun is read on for stop.drain at most, the taps are detached, the rings emptied, replays finished, the windows
// handed out, sinks flushed, all within stop.deadline. It returns nil on a clean stop.
func (a *Agent) Run(ctx context.Context) error {
	defer a.Close()
	if err := neverPreempt(); err != nil {
		a.log.Warn("the agent may interrupt the service on a busy core", "error", err)
	}
	if err := a.server.Listen(); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("%w; set management.address to a free one, or to \"\" for none", err)
		}
		return err
	}
	defer a.server.Close()

	// Each part ends on its own word, in the order of stop.
	serve, endServe := context.WithCancel(context.Background())
	defer endServe()
	send, endSend := context.WithCancel(context.Background())
	defer endSend()
	replays, endReplays := context.WithCancel(context.Background())
	defer endReplays()
	read, endRead := context.WithCancel(context.Background())
	defer endRead()
	watch, endWatch := context.WithCancel(context.Background())
	defer endWatch()

	// Windows wait for room in the sinks' queues until the deadline.
	wait, endWait := context.WithCancel(send)
	defer endWait()
	var g, sending, counting, replaying, reading errgroup.Group
	reading.Go(func() error { defer crash.Guard(); return a.live.Run(read) })
	sending.Go(func() error { return a.publisher.Run(send) })
	if a.windows != nil {
		counting.Go(func() error {
			defer crash.Guard()
			a.windows.run(watch, wait)
			return nil
		})
	}
	for _, x := range a.experiments {
		replaying.Go(func() error { defer crash.Guard(); return x.replayer.Run(replays) })
		if x.reflects() {
			g.Go(func() error {
				defer crash.Guard()
				x.reflect(watch, a.log)
				return nil
			})
		}
	}
	g.Go(func() error { return a.server.Run(serve) })
	failed := make(chan error, 1)
	g.Go(func() error {
		err := a.attachAsWanted()
		if err != nil {
			failed <- err
			return nil
		}
		if a.opt.Ready != nil {
			a.opt.Ready(a)
		}
		a.hints(watch)
		return nil
	})
	g.Go(func() error { return a.attacher.Run(watch) })
	if a.cfg.OffFile != "" {
		w, err := off.NewWatcher(off.WatcherConfig{Path: a.cfg.OffFile, Changed: a.switchOff, Log: a.log})
		if err != nil {
			return err
		}
		g.Go(func() error { return w.Run(watch) })
	}
	if a.lines != nil {
		g.Go(func() error { return a.flushLines(watch) })
	}
	if path := a.cfg.Redaction.KeyFile; path != "" {
		w := &keyWatch{path: path, redactor: a.redactor, log: a.log}
		g.Go(func() error { return w.run(watch) })
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	deadline := time.Now().Add(a.cfg.Stop.Deadline.D())
	cut := make(chan struct{})
	late := time.AfterFunc(a.cfg.Stop.Deadline.D(), func() {
		defer close(cut)
		a.log.Warn("stop takes too long: cutting it short", "deadline", a.cfg.Stop.Deadline.D())
		endReplays() // the sinks have the deadline from Stop
		endWait()
	})
	defer func() {
		if !late.Stop() {
			<-cut // what it logs belongs to Run
		}
	}()

	a.mu.Lock()
	a.stopping = true
	a.mu.Unlock()
	if err == nil {
		a.drain(min(a.cfg.Stop.Drain.D(), time.Until(deadline)))
	}
	err = errors.Join(err, a.detach())
	endWatch()
	endRead()
	err = errors.Join(err, reading.Wait())
	for _, s := range a.shards {
		s.close(reassembly.CloseStopped)
	}
	for _, x := range a.experiments {
		x.replayer.Stop()
	}
	err = errors.Join(err, replaying.Wait())
	endReplays()
	flush, cancel := context.WithDeadline(context.Background(), deadline)
	if a.windows != nil {
		err = errors.Join(err, counting.Wait())
		a.windows.flush(flush, time.Now())
	}
	if a.publisher.Stop(flush) != nil {
		err = errors.Join(err, fmt.Errorf("%w within stop.deadline, %s: they are counted as dropped", ErrUndelivered, a.cfg.Stop.Deadline.D()))
	}
	cancel()
	endSend()
	err = errors.Join(err, sending.Wait())
	if a.lines != nil {
		err = errors.Join(err, a.lines.end())
	}
	endServe()
	err = errors.Join(err, g.Wait())
	last := a.Counts()
	a.last.Store(&last)
	return err
}

// drain reads on until every exchange that began before it is over, for d at
// most. New connections are not read any more, and new requests on open ones
// are not waited for, so that traffic which goes on does not hold up the stop.
func (a *Agent) drain(d time.Duration) {
	now := time.Now().UnixNano()
	for _, s := range a.shards {
		s.stop.Store(now)
	}
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !a.drained() {
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// drained says whether no shard has anything that a stop waits for.
func (a *Agent) drained() bool {
	for _, s := range a.shards {
		if st := s.stats(); !st.refused || st.http.InFlight > st.http.Late {
			return false
		}
	}
	return true
}

// wanted says whether anything is to be captured now.
func (a *Agent) wanted() bool {
	if !a.cfg.Enabled || a.offState.All || a.stopping {
		return false
	}
	if len(a.cfg.Experiments) == 0 || a.lines != nil {
		return true
	}
	for i := range a.cfg.Experiments {
		e := &a.cfg.Experiments[i]
		if e.Enabled && !a.offState.Covers(e.Name) {
			return true
		}
	}
	return false
}

func (a *Agent) attachAsWanted() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun = true
	return a.attachLocked()
}

func (a *Agent) attachLocked() error {
	switch want := a.wanted(); {
	case want && !a.attached:
		if err := a.attacher.Attach(); err != nil {
			return privilege(err)
		}
		a.attached = true
	case !want && a.attached:
		a.attached = false
		return a.attacher.Detach()
	}
	return nil
}

func (a *Agent) detach() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.attached {
		return nil
	}
	a.attached = false
	return a.attacher.Detach()
}

// switchOff applies what the off file says.
func (a *Agent) switchOff(s off.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !s.Equal(a.offState) {
		a.log.Info("off file", "off", s.String())
	}
	a.offState = s
	for _, x := range a.experiments {
		covered := s.All || s.Covers(x.cfg.Name)
		if err := a.sampler.SetOff(x.cfg.Name, exchange.PauseOffFile, covered); err != nil {
			a.log.Error("switch an experiment", "experiment", x.cfg.Name, "err", err)
		}
		if covered {
			x.replayer.Cancel()
		} else {
			x.replayer.Resume()
		}
	}
	if !a.begun {
		return // the first attachment is Run's, which reports its error
	}
	if err := a.attachLocked(); err != nil {
		a.log.Error("attach or detach after a switch", "err", err)
	}
}

// reload reads the off file at once, for the admin interface.
func (a *Agent) reload(context.Context, []string) error {
	s, err := off.Read(a.cfg.OffFile)
	if err != nil {
		return err
	}
	a.switchOff(s)
	return nil
}

func (a *Agent) paused(p sample.GuardPause) {
	a.log.Warn("guard pauses replay: the reference suffers", "experiment", p.Experiment, "reason", p.Reason.String(), "until", p.Until,
		"median", p.Median, "baseline_median", p.BaselineMedian, "errors", p.Errors, "baseline_errors", p.BaselineErrors)
}

func (a *Agent) flushLines(ctx context.Context) error {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := a.lines.flush(); err != nil {
				return err
			}
		}
	}
}

// Counts gives the ledger; after Run, as it was at the end.
func (a *Agent) Counts() []telemetry.Count {
	if last := a.last.Load(); last != nil {
		return *last
	}
	var c counts
	if a.maps != nil {
		if k, err := a.maps.Counters(); err == nil {
			c.packets(k.Each)
		}
	}
	c.shards(a.shards)
	c.experiments(a.sampler, a.experiments)
	c = append(c, deliveries(a.publisher, a.windows)...)
	return c
}

// lockPath is the lock of the instance: beside its admin socket.
func lockPath(c *config.Config) string {
	dir := "/run/shadowtap/" + c.Instance
	if c.Management.AdminSocket != "" {
		dir = filepath.Dir(c.Management.AdminSocket)
	}
	return filepath.Join(dir, "lock")
}

func nodeName() string {
	if n := os.Getenv("NODE_NAME"); n != "" {
		return n
	}
	n, _ := os.Hostname()
	return n
}

// uuid is a random one (RFC 9562 section 5.4). It names one start of the agent,
// whose windows are numbered from 1.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ErrPrivilege is the cause of errors that a user with more privileges, or a
// kernel with more features, would not get.
var ErrPrivilege = errors.New("missing privilege or kernel feature")

// ErrUndelivered is the cause of Run's error when sinks did not take everything
// before the time to stop was over.
var ErrUndelivered = errors.New("not all records were delivered")

// privilege marks an error as one of privilege where it is.
func privilege(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: %w", ErrPrivilege, err)
	}
	return err
}
