//go:build e2e

package e2e

import (
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// Verdicts of TC programs (uapi/linux/bpf.h, enum tcx_action_base; uapi/linux/pkt_cls.h).
const (
	tcxNext  = -1
	tcxAllow = 0 // TC_ACT_OK: the packet goes on, and no further program sees it
)

// blindfold keeps a share of the TCP segments from the tap.
type blindfold struct{ hidden *ebpf.Map }

// hide puts a program before the tap on both hooks of the tapped interface. It
// lets every packet pass; of a random share of the segments the tap gets no
// sight, so copies are lost and traffic is not. It is there until f returns.
func hide(t *testing.T, ns *bed.Namespace, share float64, f func(*blindfold)) {
	t.Helper()
	var b blindfold
	var err error
	b.hidden, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer b.hidden.Close()
	var held []link.Link
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	ns.Must(t, func() error {
		l, err := netlink.LinkByName(tapped)
		if err != nil {
			return err
		}
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.SchedCLS, AttachType: hook, License: "Apache-2.0", Instructions: b.program(share),
			})
			if err != nil {
				return fmt.Errorf("load the blindfold: %w", err)
			}
			defer prog.Close()
			hold, err := link.AttachTCX(link.TCXOptions{Interface: l.Attrs().Index, Program: prog, Attach: hook, Anchor: link.Head()})
			if err != nil {
				return fmt.Errorf("attach the blindfold: %w", err)
			}
			held = append(held, hold)
		}
		return nil
	})
	f(&b)
}

// program hides segments that have payload and no FIN: what the two ends say of
// their streams' ends the tap always sees, so that everything comes to its end.
func (b *blindfold) program(share float64) asm.Instructions {
	// Offsets in an Ethernet frame without tags, and in the headers.
	const (
		ethertype  = 12
		ip         = 14
		ip4length  = ip + 2
		ip4next    = ip + 9
		ip6length  = ip + 4
		ip6next    = ip + 6
		ip6header  = 40
		tcpOffset  = 12
		tcpFlags   = 13
		protocol   = 6
		finOrReset = 0x05
	)
	return asm.Instructions{
		// R6 is where LoadAbs expects the packet. R7 is the length of what is
		// behind the IP header, R8 the IP header's.
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(ethertype, asm.Half),
		asm.JEq.Imm(asm.R0, 0x0800, "ipv4"),
		asm.JNE.Imm(asm.R0, 0x86dd, "next"),
		asm.LoadAbs(ip6next, asm.Byte),
		asm.JNE.Imm(asm.R0, protocol, "next"),
		asm.LoadAbs(ip6length, asm.Half),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Imm(asm.R8, ip6header),
		asm.Ja.Label("tcp"),

		asm.LoadAbs(ip4next, asm.Byte).WithSymbol("ipv4"),
		asm.JNE.Imm(asm.R0, protocol, "next"),
		asm.LoadAbs(ip4length, asm.Half),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.LoadAbs(ip, asm.Byte),
		asm.And.Imm(asm.R0, 0x0f),
		asm.LSh.Imm(asm.R0, 2),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Sub.Reg(asm.R7, asm.R8),

		asm.LoadInd(asm.R0, asm.R8, ip+tcpOffset, asm.Byte).WithSymbol("tcp"),
		asm.RSh.Imm(asm.R0, 4),
		asm.LSh.Imm(asm.R0, 2),
		asm.JGE.Reg(asm.R0, asm.R7, "next"), // no payload
		asm.LoadInd(asm.R0, asm.R8, ip+tcpFlags, asm.Byte),
		asm.JSet.Imm(asm.R0, finOrReset, "next"),

		asm.FnGetPrandomU32.Call(),
		asm.LoadImm(asm.R1, int64(share*math.MaxUint32), asm.DWord),
		asm.JGE.Reg(asm.R0, asm.R1, "next"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, b.hidden.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "next"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, tcxAllow),
		asm.Return(),

		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("next"),
		asm.Return(),
	}
}

// count is how many packets were hidden.
func (b *blindfold) count(t *testing.T) (n uint64) {
	t.Helper()
	if err := b.hidden.Lookup(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// lossLoad is the traffic of which copies are lost.
func lossLoad() *mixedLoad {
	l := &mixedLoad{
		counts:  [protocols]int{http1: 10000, pipelined: 4000, http2: 4000, grpcCalls: 2000},
		workers: [protocols]int{http1: 12, pipelined: 4, http2: 2, grpcCalls: 2},
	}
	if long() {
		for i := range l.counts {
			l.counts[i] *= 10
		}
	}
	return l
}

// TestLossOfCopies hides packets from the tap. It can't know of them but by the
// acknowledgements, and still tells nothing false, loses nothing that it could
// have kept, and balances.
func TestLossOfCopies(t *testing.T) {
	for _, c := range []struct {
		share float64
		// least is the share of survivors of the exchanges that were sent one at
		// a time.
		least float64
	}{{0.001, 0.97}, {0.01, 0.90}, {0.05, 0.60}} {
		t.Run(fmt.Sprintf("%g%%", c.share*100), func(t *testing.T) {
			proven(t, func(t *testing.T) bool { return lossOfCopies(t, c.share, c.least) })
		})
	}
}

// lossOfCopies is one run; false when packets were lost besides, and counted.
func lossOfCopies(t *testing.T, share, least float64) bool {
	l := lossLoad()
	s, r, file, a := lossStage(t, l, settings{memory: "1GiB"})
	before := count(t, a)
	var hidden uint64
	hide(t, s.node, share, func(b *blindfold) {
		l.start(t).wait(t)
		hidden = b.count(t)
	})
	ledger := a.survived(t, false)
	after := count(t, a)
	passed, saw := after.iface-before.iface, after.kernel.sum()-before.kernel.sum()
	if passed != saw+hidden {
		t.Errorf("the interface passed %d packets, the taps saw %d and %d were hidden", passed, saw, hidden)
	}
	copies := after.kernel["captured"] - before.kernel["captured"] + hidden
	if got := float64(hidden) / float64(copies); got < share/2 || got > share*2 {
		t.Errorf("%.3f %% of the copies were lost", got*100)
	}
	a.stop(t)
	if n := lostPackets(ledger); n > 0 {
		t.Logf("the taps lost %d packets besides: again", n)
		return false
	}
	requireSurvivors(t, l, r, file, ledger, least)
	t.Attr("lost", fmt.Sprintf("%d copies of %d", hidden, copies))
	return true
}

// TestLossInRings gives the agent the smallest rings and holds it up again and
// again, so that packets find no room.
func TestLossInRings(t *testing.T) {
	l := lossLoad()
	// 64 rings of 256 KiB.
	_, r, file, a := lossStage(t, l, settings{memory: "64MiB", rings: 64})
	sent := l.start(t)
	for !sent.ended() {
		a.process.Suspend(t)
		<-time.After(100 * time.Millisecond)
		a.process.Resume(t)
		<-time.After(200 * time.Millisecond)
	}
	sent.wait(t)
	// Where the end of a connection was lost, an exchange of it stays open.
	ledger := a.survived(t, true)
	if n := ledger["kernel_packets"]["ring_full"]; n == 0 {
		t.Error("no ring was full")
	}
	a.stop(t)
	t.Attr("packets", fmt.Sprint(ledger["kernel_packets"]))
	requireSurvivors(t, l, r, file, ledger, 0.10)
}

// lossStage brings the stage with reference and agent.
func lossStage(t *testing.T, l *mixedLoad, c settings) (s *stage, r *reference, file string, a *agent) {
	t.Helper()
	s = newStage(t)
	l.from = s.client
	r = startReference(t, s, l.all())
	startCalls(t, s, r)
	file = filepath.Join(t.TempDir(), "exchanges.jsonl")
	c.ports, c.flags = "[8080, 8081]", []string{"--exchanges-to", file}
	return s, r, file, startAgent(t, s, c)
}

// survived waits until everything that was seen has come to its end, and
// returns the ledger. With open, and where packets were lost, some exchanges may
// be in flight for ever: the end of their connection may be among these.
func (a *agent) survived(t *testing.T, open bool) telemetry.Ledger {
	t.Helper()
	before, since := "", time.Now()
	var status *admin.Status
	bed.Poll(t, 60*time.Second, "nothing is counted any more", func() (bool, string) {
		status = a.status(t)
		now := fmt.Sprint(status.Ledger)
		if now != before {
			before, since = now, time.Now()
		}
		settled := open || lostPackets(status.Ledger) > 0 || status.Ledger["exchanges"][telemetry.InFlightKey] == 0
		return settled && time.Since(since) > 3*time.Second, now
	})
	requireBalance(t, status)
	return status.Ledger
}

// requireSurvivors compares what was told with what was served: all of it is
// true, what is missing has a name in the ledger, and no more is missing than
// has to be.
func requireSurvivors(t *testing.T, l *mixedLoad, r *reference, file string, ledger telemetry.Ledger, share float64) {
	t.Helper()
	r.requireAll(t)
	confirmed := r.confirmFile(t, file, nil)
	// What was in flight may have been completed by the end of the agent.
	least, most := ledger["exchanges"]["complete"], ledger["exchanges"]["complete"]+ledger["exchanges"][telemetry.InFlightKey]
	if n := uint64(confirmed); n < least || n > most {
		t.Errorf("the ledger says %d exchanges complete, and %d lines are true", least, n)
	}
	var started uint64
	for _, n := range ledger["exchanges"] {
		started += n
	}
	if started > uint64(l.all()) {
		t.Errorf("the ledger knows of %d exchanges, and %d were served", started, l.all())
	}
	for proto, word := range []string{"one at a time", "pipelined", "HTTP/2", "gRPC"} {
		if n := l.counts[proto]; n > 0 {
			t.Attr("survivors", fmt.Sprintf("%.2f %% of %d %s", float64(r.survivors(l.first(protocol(proto)), n))*100/float64(n), n, word))
		}
	}
	t.Attr("exchanges", fmt.Sprintf("%d served, %d never seen to begin, %v", l.all(), l.all()-int(started), ledger["exchanges"]))
	if got := float64(r.survivors(0, l.counts[http1])) / float64(l.counts[http1]); got < share {
		t.Errorf("only %.2f %% survived, want at least %.0f %%", got*100, share*100)
	}
}
