// Package bpf is the tap: a TC program that copies the TCP segments of selected
// server ports into ring buffers, and the Go side of its maps.
//
// In: packets at a hook of an interface (package attach puts the program
// there). Out: ring records, which [Decode] turns into an [Event], and a count
// for every packet, see [Counters].
//
// # Use
//
//	maps, err := bpf.NewMaps(bpf.MapsConfig{Rings: 2, RingBytes: 16 << 20})
//	err = maps.SetPorts([]uint16{8080})             // changeable while attached
//	prog, err := maps.Load(bpf.TapConfig{Tap: 1, LinkHeader: 14, Direction: bpf.Requests})
//	l, err := link.AttachTCX(link.TCXOptions{Program: prog, ...})
//
// All programs of one [Maps] share the rings. One interface normally gets two
// attachments, ingress and egress, each with a program of its own that looks
// for one [Direction]. Each ring has one reader:
//
//	rd, err := ringbuf.NewReader(maps.Ring(i))
//	ctl := maps.Control(i)
//	for {
//		ctl.Beat(bpf.Now())        // at least each 250 ms; older than 1 s: nothing is copied
//		ctl.SetSleeping(idle)      // before each wait
//		err := rd.ReadInto(&rec)   // with a deadline
//		err = bpf.Decode(rec.RawSample, &ev)
//	}
//
// # Waking
//
// The program does not wake the reader for each record: waking costs more than
// copying. Before each wait the reader says what it wants to be woken for,
// [Control.SetSleeping]: the next record, or only a ring that is filled to a
// quarter. The program wakes it once and forgets. A wait needs a deadline: a
// record that is committed while the reader goes to sleep may not wake it.
//
// # What a record is
//
// A TCP segment, or a piece of one that is too long for a record (GSO packets
// have up to 512 KiB). Every piece decodes alone, with Seq moved; SYN is on the
// first, FIN, PSH and RST are on the last. The order of a flow's records is that of the
// hook. All records of a flow, both directions and all taps, are in one ring.
//
// Event.Lost counts the segments that the flow's ring could not take so far: a hole in a
// stream across which it moved is the tap's, others are the network's.
//
// # What it skips
//
// [Maps.Skip] and [Maps.SkipRest] say what nobody wants of a stream: it is counted
// NotWanted and not copied. [Maps.Forecast] says it of answers that have not begun, and how
// their heads look: of such an answer the head is a record that says how much of the packet
// was left out (Event.Skipped), and so is each further packet. While nothing is
// said of a flow its packets pay for a look at two words, some nanoseconds.
//
// # What it does not do
//
// It does not change a packet, never ends the chain (the verdict is always
// TCX_NEXT), does not defragment, does not check checksums (they are not yet
// there on egress), does not open tunnels, and does not reorder.
//
// Kernel: 5.10 or newer (ring buffer 5.8, [link.AttachTCX] 6.6). Capabilities:
// BPF and NET_ADMIN; before 6.18 also PERFMON (tried: without it 5.10 refuses the
// program, 6.1 and 6.12 give up on it), before 5.11 also SYS_RESOURCE. Without PERFMON the kernel puts
// barriers against Spectre into the program and the verifier walks five times as far.
//
// [link.AttachTCX]: https://pkg.go.dev/github.com/cilium/ebpf/link#AttachTCX
package bpf
