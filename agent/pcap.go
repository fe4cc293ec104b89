package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/shadowtap/shadowtap/agent/capture"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/reassembly"
)

// PcapOptions say what is done with a capture file.
type PcapOptions struct {
	// Path is the file, "-" for standard input. Required.
	Path string
	// Ports are the servers' ports. Required.
	Ports []uint16
	// Decapsulate opens VXLAN, Geneve and GRE.
	Decapsulate bool
	// Exchanges gets each complete exchange as a JSON line. Nil means none.
	Exchanges io.Writer
	// Memory bounds connections and bodies, in bytes. Zero means 256 MiB.
	Memory int64
	// Log is required.
	Log *slog.Logger
}

// Pcap reads a capture file through the pipeline of the live agent and gives
// the ledger. What was read before an error counts and was written.
func Pcap(ctx context.Context, o PcapOptions) ([]telemetry.Count, error) {
	f, err := capture.OpenFile(capture.FileConfig{Path: o.Path, Ports: o.Ports, Decapsulate: o.Decapsulate})
	if err != nil {
		return nil, err
	}
	if o.Memory == 0 {
		o.Memory = 256 << 20
	}
	k := &keeper{}
	if o.Exchanges != nil {
		k.lines = newExchangeLines(o.Exchanges, false)
	}
	s, err := newShard(shardConfig{keeper: k, sink: k, memory: o.Memory, file: true})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	err = f.Run(ctx, s)
	s.close(reassembly.CloseDone)
	if k.lines != nil {
		err = errors.Join(err, k.lines.flush())
	}
	st := f.Stats()
	var c counts
	c.packets(st.Each)
	c.shards([]*shard{s})
	for link, n := range st.OtherLinks {
		o.Log.Warn("packets of a link type that is not read", "link", link, "packets", n)
	}
	if st.Cut > 0 {
		o.Log.Warn("packets were cut by the capture's snap length: what they lack is a hole", "packets", st.Cut, "bytes", st.CutBytes)
	}
	if st.CutRecord > 0 {
		o.Log.Warn("the file ends inside a record", "record", st.CutRecord)
	}
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("read %s: %w", o.Path, ctx.Err())
	}
	return c, err
}
