package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
)

const (
	// MaxRings is how many rings there may be.
	MaxRings = 64
	// MinRingBytes is the smallest ring: room for three of the longest
	// records.
	MinRingBytes = 256 << 10

	defaultRingBytes  = 16 << 20
	defaultOwnReplays = 1 << 16

	// Payload that the longest record holds: LONGEST in tap.bpf.c.
	longestPayload = 65576

	// worth in tap.bpf.c.
	worthSkipping = 4096

	// A ring's sleeping reader is woken when 1/ringMark of it is filled.
	ringMark = 4
)

// MapsConfig says what the taps of one agent share.
type MapsConfig struct {
	// Rings is the number of ring buffers; all segments of a flow go to one
	// of them. Zero means 1; more than MaxRings is an error.
	Rings int
	// RingBytes is the size of each ring, a power of two of at least
	// MinRingBytes. Zero means 16 MiB. It is charged to the memory of the
	// process's cgroup.
	RingBytes int
	// OwnReplays is how many endpoints OwnReplayAdd takes. Zero means 65536.
	OwnReplays int
	// Seed goes into the hash that picks a flow's ring. Zero means a random
	// one, so that no peer can choose the ring.
	Seed uint32
}

// Direction says which packets of a selected port a hook looks for. Selected
// packets of the other side are counted OtherDirection: another hook sees them.
type Direction uint8

const (
	// Requests have the selected port as their destination.
	Requests Direction = 1 << iota
	// Responses have the selected port as their source.
	Responses
	// Both is for a hook that alone sees a whole conversation, as the
	// ingress of loopback does.
	Both = Requests | Responses
)

// TapConfig says what one attachment of the program is: one hook of one
// interface in one network namespace.
type TapConfig struct {
	// Tap is put into each of its events.
	Tap uint16
	// Domain is put into each of its events; 0 is the agent's own network
	// namespace.
	Domain uint16
	// LinkHeader is the length of the link header in bytes: 14 for Ethernet, 0
	// for a device without one (tun, ipip).
	LinkHeader int
	// Direction is required.
	Direction Direction
}

// Maps are the maps that all taps of an agent share. Its methods may be called
// from several goroutines, also while taps are attached.
type Maps struct {
	spec      *ebpf.CollectionSpec
	rings     *ebpf.Map
	ring      []*ebpf.Map
	controls  *ebpf.Map
	settings  *ebpf.Map
	cpus      *ebpf.Map
	own       *ebpf.Map
	skips     *ebpf.Map
	forecasts *ebpf.Map
	mark      uint32
	seed      uint32
	longest   uint32 // payload of the longest record
	worth     uint32 // so many bytes of a segment are worth leaving out
	control   []Control
	setMemory *mapping
	set       *settingsWords
	skip      slots[skipWords]
	forecast  slots[forecastWords]

	mu       sync.Mutex
	ownPorts map[uint16]int // how many own endpoints have the port
}

// settingsWords is struct tap_settings of tap.h.
type settingsWords struct {
	Ports       [1024]atomic.Uint64
	OwnPorts    [1024]atomic.Uint64
	BudgetCost  atomic.Uint64
	BudgetBurst atomic.Uint64
	BudgetLease atomic.Uint64
	_           [5]uint64
	BudgetSpent atomic.Uint64
	_           [7]uint64
}

// endpoint is struct tap_endpoint of tap.h.
type endpoint struct {
	Addr [16]byte
	Port uint16
	Pad  uint16
}

// NewMaps makes the maps. Nothing is selected, no budget is set, and no reader
// has beaten. The errors say which privilege or kernel version is missing.
func NewMaps(c MapsConfig) (_ *Maps, err error) {
	if c.Rings == 0 {
		c.Rings = 1
	}
	if c.RingBytes == 0 {
		c.RingBytes = defaultRingBytes
	}
	if c.OwnReplays == 0 {
		c.OwnReplays = defaultOwnReplays
	}
	switch {
	case c.Rings < 0 || c.Rings > MaxRings:
		return nil, fmt.Errorf("bpf.MapsConfig.Rings: %d is not between 1 and %d", c.Rings, MaxRings)
	case c.RingBytes < MinRingBytes || c.RingBytes > 1<<30 || c.RingBytes&(c.RingBytes-1) != 0:
		return nil, fmt.Errorf("bpf.MapsConfig.RingBytes: %d is not a power of two between %d and %d", c.RingBytes, MinRingBytes, 1<<30)
	case c.OwnReplays < 0 || c.OwnReplays > 1<<24:
		return nil, fmt.Errorf("bpf.MapsConfig.OwnReplays: %d is not between 1 and %d", c.OwnReplays, 1<<24)
	}
	if c.Seed == 0 {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, fmt.Errorf("seed of the flow hash: %w", err)
		}
		c.Seed = binary.LittleEndian.Uint32(b[:])
	}
	// Before 5.11 maps were charged to RLIMIT_MEMLOCK; newer kernels leave it alone.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, explain("raise the memlock limit", err)
	}
	spec, err := loadTap()
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	m := &Maps{
		spec:     spec,
		mark:     uint32(c.RingBytes / ringMark),
		seed:     c.Seed,
		longest:  longestPayload,
		worth:    worthSkipping,
		ownPorts: make(map[uint16]int),
	}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	rings := spec.Maps[tapMapRings]
	rings.MaxEntries = uint32(c.Rings)
	rings.InnerMap.MaxEntries = uint32(c.RingBytes)
	spec.Maps[tapMapControls].MaxEntries = uint32(c.Rings)
	spec.Maps[tapMapOwnReplays].MaxEntries = uint32(c.OwnReplays)
	for _, v := range []struct {
		name string
		to   **ebpf.Map
	}{
		{tapMapRings, &m.rings},
		{tapMapControls, &m.controls},
		{tapMapSettings, &m.settings},
		{tapMapCpus, &m.cpus},
		{tapMapOwnReplays, &m.own},
		{tapMapSkips, &m.skips},
		{tapMapForecasts, &m.forecasts},
	} {
		if *v.to, err = ebpf.NewMap(spec.Maps[v.name]); err != nil {
			return nil, explain("make map "+v.name, err)
		}
	}
	for i := range c.Rings {
		ring, err := ebpf.NewMap(rings.InnerMap)
		if err != nil {
			return nil, explain(fmt.Sprintf("make ring %d of %d bytes", i, c.RingBytes), err)
		}
		m.ring = append(m.ring, ring)
		if err := m.rings.Put(uint32(i), ring); err != nil {
			return nil, explain(fmt.Sprintf("put ring %d", i), err)
		}
	}
	words, err := mapMemory(m.controls, c.Rings*int(unsafe.Sizeof(controlWords{})))
	if err != nil {
		return nil, err
	}
	m.control = make([]Control, c.Rings)
	for i := range m.control {
		m.control[i] = Control{
			memory: words,
			words:  (*controlWords)(unsafe.Pointer(&words.bytes[i*int(unsafe.Sizeof(controlWords{}))])),
		}
	}
	if m.setMemory, err = mapMemory(m.settings, int(unsafe.Sizeof(settingsWords{}))); err != nil {
		return nil, err
	}
	m.set = (*settingsWords)(unsafe.Pointer(&m.setMemory.bytes[0]))
	if m.skip, err = mapSlots[skipWords](m.skips, skipCount); err != nil {
		return nil, err
	}
	if m.forecast, err = mapSlots[forecastWords](m.forecasts, forecastCount); err != nil {
		return nil, err
	}
	return m, nil
}

// Load loads the program as one tap. The caller attaches and closes it; it
// keeps the maps alive.
func (m *Maps) Load(c TapConfig) (*ebpf.Program, error) {
	switch {
	case c.LinkHeader != 0 && c.LinkHeader != 14:
		return nil, fmt.Errorf("bpf.TapConfig.LinkHeader: %d is neither 14 (Ethernet) nor 0 (no link header)", c.LinkHeader)
	case c.Direction == 0 || c.Direction > Both:
		return nil, fmt.Errorf("bpf.TapConfig.Direction: %d is none of Requests, Responses, Both", c.Direction)
	}
	spec := m.spec.Copy()
	for name, value := range map[string]any{
		tapVarTapId:      c.Tap,
		tapVarDomain:     c.Domain,
		tapVarDirection:  uint8(c.Direction),
		tapVarLinkHeader: uint8(c.LinkHeader),
		tapVarRingsCount: uint32(len(m.ring)),
		tapVarRingsMark:  m.mark,
		tapVarHashSeed:   m.seed,
		tapVarLongest:    m.longest,
		tapVarWorth:      m.worth,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s of tap %d: %w", name, c.Tap, err)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		MapReplacements: map[string]*ebpf.Map{
			tapMapRings:      m.rings,
			tapMapControls:   m.controls,
			tapMapSettings:   m.settings,
			tapMapCpus:       m.cpus,
			tapMapOwnReplays: m.own,
			tapMapSkips:      m.skips,
			tapMapForecasts:  m.forecasts,
		},
	})
	if err != nil {
		return nil, explain(fmt.Sprintf("load tap %d", c.Tap), err)
	}
	defer coll.Close()
	return coll.DetachProgram(tapProgShadowtap), nil
}

// SetPorts selects these server ports and no others, in taps that are attached
// too. Port 0 is an error, and nothing changes.
func (m *Maps) SetPorts(ports []uint16) error {
	var want [1024]uint64
	for _, p := range ports {
		if p == 0 {
			return errors.New("select ports: 0 is no port")
		}
		want[p>>6] |= 1 << (p & 63)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range want {
		m.set.Ports[i].Store(want[i])
	}
	return nil
}

const (
	minCopyBudget = 1 << 10
	maxCopyBudget = 1 << 43
	budgetShift   = 20
	budgetBurst   = 100_000_000 // ns
	maxLease      = 64 << 10
)

// SetCopyBudget bounds what all taps together copy, in bytes per second over all
// CPUs, headers of records included. What exceeds it is counted OverBudget and
// Lost. Up to 100 ms of unused budget are kept; each CPU may exceed it by 1 ms of
// budget (at most 64 KiB) and one packet. Zero means no limit; other values are
// raised to 1 KiB or lowered to 8 TiB.
func (m *Maps) SetCopyBudget(bytesPerSecond uint64) error {
	var cost, lease uint64
	if rate := bytesPerSecond; rate > 0 {
		rate = min(max(rate, minCopyBudget), maxCopyBudget)
		cost = max(1_000_000_000<<budgetShift/rate, 1)
		lease = min(rate/1000, maxLease)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.set.BudgetLease.Store(lease)
	m.set.BudgetBurst.Store(budgetBurst)
	m.set.BudgetCost.Store(cost)
	m.set.BudgetSpent.Store(0)
	return nil
}

// OwnReplayAdd says that local is a socket of the agent's own replays: segments
// from or to it are counted OwnReplay and not copied. It is to be called before
// connect. A loopback address counts in domain 0 only. Adding twice is as adding once. The
// error is that the map is full, or that local is no address and port.
func (m *Maps) OwnReplayAdd(local netip.AddrPort) error {
	key, err := ownKey(local)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch err := m.own.Update(key, uint8(1), ebpf.UpdateNoExist); {
	case errors.Is(err, ebpf.ErrKeyExist):
		return nil
	case err != nil:
		return fmt.Errorf("add own replay %s: %w", local, err)
	}
	m.ownPorts[key.Port]++
	m.setOwnPort(key.Port)
	return nil
}

// OwnReplayRemove takes back OwnReplayAdd. Removing what was not added is no error.
func (m *Maps) OwnReplayRemove(local netip.AddrPort) error {
	key, err := ownKey(local)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch err := m.own.Delete(key); {
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("remove own replay %s: %w", local, err)
	}
	if m.ownPorts[key.Port]--; m.ownPorts[key.Port] == 0 {
		delete(m.ownPorts, key.Port)
	}
	m.setOwnPort(key.Port)
	return nil
}

// setOwnPort keeps the bit that spares the program the look-up of other ports.
// The caller holds mu.
func (m *Maps) setOwnPort(port uint16) {
	bit := uint64(1) << (port & 63)
	word := &m.set.OwnPorts[port>>6]
	if m.ownPorts[port] > 0 {
		word.Store(word.Load() | bit)
	} else {
		word.Store(word.Load() &^ bit)
	}
}

func ownKey(local netip.AddrPort) (endpoint, error) {
	if !local.IsValid() || local.Port() == 0 {
		return endpoint{}, fmt.Errorf("own replay %s: no address and port", local)
	}
	return endpoint{Addr: local.Addr().As16(), Port: local.Port()}, nil
}

// Rings is the number of rings.
func (m *Maps) Rings() int { return len(m.ring) }

// Ring returns ring i, for a ringbuf.Reader. It belongs to m.
func (m *Maps) Ring(i int) *ebpf.Map { return m.ring[i] }

// Control returns the words of ring i.
func (m *Maps) Control(i int) *Control { return &m.control[i] }

// Close closes the maps. Programs that are attached keep working on them, without
// a reader. Controls stay valid but steer nothing any more. Other methods must not be called
// afterwards.
func (m *Maps) Close() error {
	var errs []error
	for _, v := range append(m.ring, m.rings, m.controls, m.settings, m.cpus, m.own, m.skips, m.forecasts) {
		errs = append(errs, v.Close())
	}
	return errors.Join(errs...)
}

// explain adds to an error of the kernel what would have to be there.
func explain(what string, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.E2BIG), errors.Is(err, syscall.EFAULT):
		// The last two are older verifiers that give up without CAP_PERFMON.
		return fmt.Errorf("%s: %w (needs CAP_BPF and CAP_NET_ADMIN; before kernel 6.18 also CAP_PERFMON, before 5.11 also CAP_SYS_RESOURCE)", what, err)
	case errors.Is(features.HaveMapType(ebpf.RingBuf), ebpf.ErrNotSupported):
		return fmt.Errorf("%s: %w (the kernel has no ring buffer maps; they came with 5.8, and 5.10 is the oldest that is served)", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
