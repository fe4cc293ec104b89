package agent

import (
	"context"
	"fmt"

	"github.com/shadowtap/shadowtap/agent/report"
)

// readDirectory reads what "pcap --record" kept. Not in this version.
func (o *ReportOptions) readDirectory(_ context.Context, _ *report.Builder, name string) error {
	return fmt.Errorf("read %s: it is a directory", name)
}
