//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

// long says that the long form of the tests was asked for ("make test-live").
func long() bool { return os.Getenv("SHADOWTAP_LONG") != "" }

// TestLive lets mixed traffic run as fast as it is answered: what the server did
// and the agent's lines agree on every exchange, on every digest, and the
// kernel's counters, the ledger and the interface on every packet and byte.
func TestLive(t *testing.T) {
	l := &mixedLoad{
		counts:  [protocols]int{http1: 9000, pipelined: 4000, http2: 5000, grpcCalls: 2000},
		workers: [protocols]int{http1: 12, pipelined: 4, http2: 2, grpcCalls: 2},
	}
	if long() {
		l.counts = [protocols]int{http1: 450000, pipelined: 200000, http2: 250000, grpcCalls: 100000}
	}
	// A run with lost packets proves only that nothing false is told.
	proven(t, func(t *testing.T) bool { return live(t, l) })
}

// live is one run; false when packets were lost, and counted.
func live(t *testing.T, l *mixedLoad) bool {
	t.Helper()
	s := newStage(t)
	r := startReference(t, s, l.all())
	startCalls(t, s, r)
	file := filepath.Join(t.TempDir(), "exchanges.jsonl")
	// The rings, a quarter of the memory, hold what comes while the machine is
	// busy with other things.
	a := startAgent(t, s, settings{ports: "[8080, 8081]", memory: "1GiB", flags: []string{"--exchanges-to", file}})
	l.from = s.client
	before := count(t, a)
	sent := l.start(t)
	sent.wait(t)
	rate := sent.rate()
	r.requireAll(t)
	status := a.rest(t, 60*time.Second, completed(l.all()))
	requireBalance(t, status)
	after := count(t, a)
	a.requireKernelPackets(t)
	a.stop(t)

	began := time.Now()
	confirmed := r.confirmFile(t, file, nil)
	t.Attr("exchanges", fmt.Sprintf("%d sent at %.0f/s, %d lines true, compared in %v", l.all(), rate, confirmed, time.Since(began).Round(time.Millisecond)))
	ledger := status.Ledger
	if n := ledger["exchanges"]["complete"]; n != uint64(confirmed) {
		t.Errorf("the ledger says %d exchanges complete, and %d lines are true", n, confirmed)
	}
	// The taps saw what the interface passed, lost or not.
	packets, bytes := after.kernel.sum()-before.kernel.sum(), r.read.Load()+r.written.Load()
	if n := after.iface - before.iface; n != packets {
		t.Errorf("the interface passed %d packets, and the taps counted %d", n, packets)
	}
	t.Attr("packets", fmt.Sprintf("%d, of them lost %d; %d bytes of streams", packets, lostPackets(ledger), bytes))
	t.Logf("ledger %v", ledger)
	if n := lostPackets(ledger); n > 0 {
		t.Logf("%d packets were lost: again", n)
		return false
	}
	if confirmed != l.all() {
		t.Errorf("%d exchanges have no line, as %s", l.all()-confirmed, strings.Join(r.unconfirmed(5), ", "))
	}
	for result, n := range ledger["exchanges"] {
		if result != "complete" && n > 0 {
			t.Errorf("%d exchanges %s", n, result)
		}
	}
	// Every byte that the server's sockets took came through, once.
	for _, c := range []struct {
		what string
		n    uint64
	}{{"delivered", ledger["captured_bytes"]["delivered"]}, {"parsed", ledger["delivered_bytes"]["parsed"]}} {
		if c.n != bytes {
			t.Errorf("%d bytes were %s, and the server's streams had %d", c.n, c.what, bytes)
		}
	}
	return true
}

// packetCount is a kernel counter of each result.
type packetCount map[string]uint64

func (c packetCount) sum() (n uint64) {
	for _, k := range c {
		n += k
	}
	return n
}

// counted is what was counted of the tapped interface's packets.
type counted struct {
	kernel packetCount // by the taps
	iface  uint64      // by the interface, both ways
}

// count reads both countings at a moment in which nothing passes.
func count(t *testing.T, a *agent) (c counted) {
	t.Helper()
	bed.Poll(t, 10*time.Second, "nothing passes the interface", func() (bool, string) {
		c.kernel = a.held.packets(t)
		c.iface = interfacePackets(t, a.stage.node)
		again := packetCount(a.held.packets(t)).sum()
		return again == c.kernel.sum(), fmt.Sprintf("%d packets, then %d", c.kernel.sum(), again)
	})
	return c
}

// interfacePackets reads how many packets the tapped interface passed.
func interfacePackets(t *testing.T, ns *bed.Namespace) (n uint64) {
	t.Helper()
	ns.Must(t, func() error {
		l, err := netlink.LinkByName(tapped)
		if err != nil {
			return err
		}
		n = l.Attrs().Statistics.RxPackets + l.Attrs().Statistics.TxPackets
		return nil
	})
	return n
}
