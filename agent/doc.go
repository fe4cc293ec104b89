// Package agent puts the rooms together. It is the only place that knows all
// of them: packets come in by capture, become exchanges in a shard, are sampled
// there, replayed by one Replayer for each experiment, compared, redacted and
// published.
//
// Run is the live agent, Pcap the same over a capture file, Demo a whole
// machine's worth of it on loopback. What they cannot do stands in their
// errors; ErrPrivilege tells a missing privilege from the rest.
package agent
