package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/shadowtap/shadowtap/bpf"
)

// Modes of attaching.
const (
	// ModeAuto takes what the kernel offers; in this version that is TCX.
	ModeAuto = "auto"
	// ModeTCX takes TCX or fails.
	ModeTCX = "tcx"
)

// Interface says where to attach.
type Interface struct {
	// Name of the interface. Required.
	Name string
	// Role is one of Roles. Empty means RoleLoopback for a loopback device,
	// else RoleAny.
	Role string
	// NetNS is the network namespace of the interface: the path of a namespace
	// file, or a name in /run/netns. Empty means the process's own.
	NetNS string
}

// Config says what is attached where.
type Config struct {
	// Maps are what all taps share. Required; they outlive the Attacher.
	Maps *bpf.Maps
	// Owner is whose the taps are, for Sweep. The zero one: nobody is named.
	Owner Owner
	// Interfaces are what is attached to, each once for a namespace. None is
	// allowed: then there is nothing to do, and that is done.
	Interfaces []Interface
	// Mode is ModeAuto or ModeTCX. Empty means ModeAuto.
	Mode string
	// Interval is how often Run looks at the chains. Zero means 10 s.
	Interval time.Duration
	// Log gets a line for each tap that is attached, displaced, back or
	// detached. Required.
	Log *slog.Logger
}

// State is what is known of a tap.
type State string

const (
	// Attached: the tap is first in its chain.
	Attached State = "attached"
	// Displaced: another program is before it and may end the chain.
	Displaced State = "displaced"
	// Gone: it is not in the chain any more; its interface was removed, or
	// somebody detached it.
	Gone State = "gone"
	// Detached: Detach took it off.
	Detached State = "detached"
)

// TapStats is one tap.
type TapStats struct {
	// Tap and Domain are what its events carry.
	Tap, Domain uint16
	Interface   string
	// NetNS as configured, "" for the process's own.
	NetNS string
	Role  string
	// Hook is "ingress" or "egress".
	Hook string
	// Direction says which packets of a selected port it looks for.
	Direction bpf.Direction
	// Mode is how it is attached.
	Mode  string
	State State
	// Displaced counts how often it stopped being first in its chain.
	Displaced uint64
	// Program is the kernel's id of the program.
	Program uint32
}

// Stats is a snapshot of the taps.
type Stats struct {
	// Ready says that everything asked for is attached and first in its chain.
	// It is false before Attach and after Detach.
	Ready bool
	// Taps in the order of Config.Interfaces, ingress before egress.
	Taps []TapStats
}

// Attacher attaches taps. Its methods may be called from any goroutine.
type Attacher struct {
	cfg       Config
	attachTCX func(link.TCXOptions) (link.Link, error) // link.AttachTCX; replaced by tests

	mu       sync.Mutex
	attached bool
	taps     []*tap
	spaces   []*namespace
	owner    *ebpf.Map // nil without Config.Owner, and while detached
}

// tap is one attachment.
type tap struct {
	stats   TapStats
	space   *namespace
	ifindex int
	prog    *ebpf.Program
	hold    holder
}

// holder is how a tap is held at its hook. TCX is the only way yet; clsact will
// be another.
type holder interface {
	// state says where in its chain the tap stands. It is called in the tap's
	// namespace.
	state() (State, error)
	// Close takes the tap off.
	Close() error
}

// New checks the configuration. Nothing is attached yet.
func New(cfg Config) (*Attacher, error) {
	if cfg.Maps == nil {
		return nil, errors.New("attach: Maps is nil")
	}
	if cfg.Log == nil {
		return nil, errors.New("attach: Log is nil")
	}
	switch cfg.Mode {
	case "":
		cfg.Mode = ModeAuto
	case ModeAuto, ModeTCX:
	case "clsact":
		return nil, errors.New("attach: Mode: clsact is not in this version")
	default:
		return nil, fmt.Errorf("attach: Mode: %q is neither %s nor %s", cfg.Mode, ModeAuto, ModeTCX)
	}
	if cfg.Interval < 0 {
		return nil, fmt.Errorf("attach: Interval: %s is negative", cfg.Interval)
	}
	if cfg.Interval == 0 {
		cfg.Interval = 10 * time.Second
	}
	seen := map[Interface]bool{}
	for _, i := range cfg.Interfaces {
		if i.Name == "" {
			return nil, errors.New("attach: Interfaces: a name is empty")
		}
		if i.Role != "" && !slices.Contains(Roles(), i.Role) {
			return nil, fmt.Errorf("attach: Interfaces: role %q of %s is none of %s", i.Role, i.Name, strings.Join(Roles(), ", "))
		}
		key := Interface{Name: i.Name, NetNS: i.NetNS}
		if seen[key] {
			return nil, fmt.Errorf("attach: Interfaces: %s is named twice", i.Name)
		}
		seen[key] = true
	}
	cfg.Interfaces = slices.Clone(cfg.Interfaces)
	return &Attacher{cfg: cfg, attachTCX: link.AttachTCX}, nil
}

// Attach attaches all taps, or none and returns the error: it names the
// interface, and for a missing one those that there are. After Detach it may be
// called again.
func (a *Attacher) Attach() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.attached {
		return errors.New("attach: attached already")
	}
	a.taps = nil
	if a.cfg.Owner != (Owner{}) {
		var err error
		if a.owner, err = newOwnerMap(a.cfg.Owner); err != nil {
			return fmt.Errorf("attach: %w", err)
		}
	}
	for _, i := range a.cfg.Interfaces {
		if err := a.iface(i); err != nil {
			err = errors.Join(err, a.detach())
			a.taps = nil
			return err
		}
	}
	a.attached = true
	for _, t := range a.taps {
		a.cfg.Log.Info("tap attached", t.attrs()...)
	}
	return nil
}

// iface attaches to one interface.
func (a *Attacher) iface(i Interface) error {
	space, err := a.namespace(i.NetNS)
	if err != nil {
		return fmt.Errorf("attach %s: %w", i.Name, err)
	}
	where := i.Name
	err = space.do(func() error {
		dev, err := findDevice(i.Name)
		if err != nil {
			return err
		}
		hooks, role, err := hooksOf(i.Role, dev.loopback)
		if err != nil {
			return err
		}
		for _, h := range hooks {
			where = i.Name + " " + h.name
			if err := a.hook(i, space, dev, role, h); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("attach %s: %w", where, err)
	}
	return nil
}

// hook attaches to one hook. It runs in the interface's namespace.
func (a *Attacher) hook(i Interface, space *namespace, dev device, role string, h hook) error {
	if len(a.taps) == 1<<16-1 {
		return errors.New("there are 65,535 taps already")
	}
	id := uint16(len(a.taps) + 1)
	prog, err := a.cfg.Maps.Load(bpf.TapConfig{Tap: id, Domain: space.domain, LinkHeader: dev.header, Direction: h.direction})
	if err != nil {
		return err
	}
	if a.owner != nil {
		if err := prog.BindMap(a.owner); err != nil {
			prog.Close()
			return fmt.Errorf("name the tap's owner: %w", err)
		}
	}
	hold, err := a.holdTCX(dev.index, h, prog)
	if err != nil {
		prog.Close()
		return err
	}
	t := &tap{
		stats: TapStats{
			Tap: id, Domain: space.domain, Interface: i.Name, NetNS: i.NetNS, Role: role,
			Hook: h.name, Direction: h.direction, Mode: ModeTCX, State: Attached,
		},
		space: space, ifindex: dev.index, prog: prog, hold: hold,
	}
	if info, err := prog.Info(); err == nil {
		if n, ok := info.ID(); ok {
			t.stats.Program = uint32(n)
		}
	}
	a.taps = append(a.taps, t)
	return nil
}

// namespace returns the namespace of that name, opened once, and numbers it: 0
// is the process's own, also when it is named.
func (a *Attacher) namespace(name string) (*namespace, error) {
	n, err := openNamespace(name)
	if err != nil {
		return nil, err
	}
	var last uint16
	for _, s := range a.spaces {
		if s.id == n.id {
			n.Close()
			return s, nil
		}
		last = max(last, s.domain)
	}
	if !n.own() {
		n.domain = last + 1
	}
	a.spaces = append(a.spaces, n)
	return n, nil
}

// Run looks at the chains every Interval until ctx ends, and returns nil then.
// It detaches nothing.
func (a *Attacher) Run(ctx context.Context) error {
	t := time.NewTicker(a.cfg.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			a.check()
		}
	}
}

// check looks at every chain once.
func (a *Attacher) check() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.taps {
		if t.hold == nil {
			continue
		}
		var state State
		err := t.space.do(func() (err error) {
			state, err = t.hold.state()
			return err
		})
		if err != nil {
			// What can't be seen is not said to have changed.
			a.cfg.Log.Debug("query chain", append(t.attrs(), "err", err)...)
			continue
		}
		was := t.stats.State
		if state == was {
			continue
		}
		t.stats.State = state
		switch {
		case state == Attached:
			a.cfg.Log.Info("tap is first in its chain again", t.attrs()...)
		case was == Attached:
			t.stats.Displaced++
			a.cfg.Log.Warn("tap is not first in its chain any more", append(t.attrs(), "state", string(state))...)
		}
	}
}

// Detach takes off every tap and closes the programs. It may be called again,
// and before Attach.
func (a *Attacher) Detach() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.attached
	err := a.detach()
	if was {
		a.cfg.Log.Info("taps detached", "taps", len(a.taps))
	}
	return err
}

func (a *Attacher) detach() error {
	var errs []error
	for _, t := range a.taps {
		if t.hold == nil {
			continue
		}
		// A link is closed from any namespace.
		if err := t.hold.Close(); err != nil {
			errs = append(errs, fmt.Errorf("detach %s %s: %w", t.stats.Interface, t.stats.Hook, err))
		}
		errs = append(errs, t.prog.Close())
		t.hold = nil
		t.stats.State = Detached
	}
	for _, s := range a.spaces {
		s.Close()
	}
	a.spaces = nil
	if a.owner != nil {
		errs = append(errs, a.owner.Close())
		a.owner = nil
	}
	a.attached = false
	return errors.Join(errs...)
}

// Stats returns what is known of the taps since the last look at the chains.
func (a *Attacher) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Stats{Ready: a.attached, Taps: make([]TapStats, len(a.taps))}
	for i, t := range a.taps {
		s.Taps[i] = t.stats
		s.Ready = s.Ready && t.stats.State == Attached
	}
	return s
}

func (t *tap) attrs() []any {
	v := []any{"iface", t.stats.Interface, "hook", t.stats.Hook, "role", t.stats.Role, "tap", t.stats.Tap}
	if t.stats.NetNS != "" {
		v = append(v, "netns", t.stats.NetNS)
	}
	return v
}
