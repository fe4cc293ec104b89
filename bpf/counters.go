package bpf

import "fmt"

// Result is what became of a packet. Each packet that a tap sees has exactly one.
type Result uint8

// The results, in the order of enum tap_result in tap.h. From Captured on the
// packet was selected: TCP, whole, on a selected port, in the tap's direction.
const (
	// NotTCP: not IP, or IP with another protocol.
	NotTCP Result = iota
	// OtherPort: neither port is selected.
	OtherPort
	// OtherDirection: selected, but another hook looks for this direction.
	OtherDirection
	// Fragment: a part of a fragmented datagram that may be TCP.
	Fragment
	// Unparsable: lengths that contradict each other, more than 3 VLAN tags,
	// more than 8 IPv6 extension headers.
	Unparsable
	// Captured: all of it is in the ring.
	Captured
	// NoPayload: an acknowledgement without payload, SYN, FIN or RST, and no hole is open.
	NoPayload
	// OwnReplay: one end is a socket of the agent's own replays.
	OwnReplay
	// NotWanted: the agent said that it does not want these bytes.
	NotWanted
	// RingFull: the ring had no room for all of it.
	RingFull
	// CopyFailed: the kernel did not hand out all of its bytes.
	CopyFailed
	// NoReader: the ring's reader has not beaten for more than 1 s.
	NoReader
	// OverBudget: the copy budget is spent.
	OverBudget

	// Results is how many results there are.
	Results = int(iota)
)

var resultNames = [Results]string{
	"not_tcp", "other_port", "other_direction", "fragment", "unparsable",
	"captured", "no_payload", "own_replay", "not_wanted", "ring_full",
	"copy_failed", "no_reader", "over_budget",
}

// String is the word that the ledger line kernel_packets uses.
func (r Result) String() string {
	if int(r) < Results {
		return resultNames[r]
	}
	return fmt.Sprintf("result(%d)", uint8(r))
}

// Counters are what became of all packets that the taps of one Maps saw.
type Counters struct {
	// Packets by Result.
	Packets [Results]uint64
	// Lost is Control.Lost of each ring.
	Lost []uint64
}

// Each calls f for every result, also for those that are 0.
func (c *Counters) Each(f func(result string, n uint64)) {
	for i, n := range c.Packets {
		f(resultNames[i], n)
	}
}

// Seen is the number of all packets.
func (c *Counters) Seen() uint64 { return sum(c.Packets[:]) }

// Selected is the number of packets from Captured on.
func (c *Counters) Selected() uint64 { return sum(c.Packets[Captured:]) }

func sum(n []uint64) (s uint64) {
	for _, v := range n {
		s += v
	}
	return s
}

// cpuWords is struct tap_cpu of tap.h.
type cpuWords struct {
	Packets [Results]uint64
	Lease   uint64
}

// Counters sums the counters of all CPUs. They are read while packets flow: a
// packet may be in it or not, but never twice.
func (m *Maps) Counters() (Counters, error) {
	var cpus []cpuWords
	if err := m.cpus.Lookup(uint32(0), &cpus); err != nil {
		return Counters{}, fmt.Errorf("read packet counters: %w", err)
	}
	c := Counters{Lost: make([]uint64, len(m.control))}
	for i := range cpus {
		for r, n := range cpus[i].Packets {
			c.Packets[r] += n
		}
	}
	for i := range m.control {
		c.Lost[i] = m.control[i].Lost()
	}
	return c, nil
}
