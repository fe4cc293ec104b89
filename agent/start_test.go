package agent

import (
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/agent/config"
)

// TestStartErrors: what hinders a start is said in one line, with what to do.
func TestStartErrors(t *testing.T) {
	r := runAgent(t, "start-errors", nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	for _, tc := range []struct {
		name   string
		change func(*config.Config)
		want   string
	}{
		{"a second agent", func(c *config.Config) { c.Management.AdminSocket = r.cfg.Management.AdminSocket }, "another name with --instance"},
		{"a port in use", func(c *config.Config) { c.Management.Address = ln.Addr().String() }, "set management.address to a free one"},
		{"no such interface", func(c *config.Config) { c.Capture.Interfaces[0].Name = "none0" }, "there are: lo"},
	} {
		c := config.New()
		c.Capture.Interfaces = []config.Interface{{Name: "lo", NetNS: r.ns.Path()}}
		c.Capture.Ports = []uint16{8080}
		c.OffFile = ""
		c.Management.Address, c.Management.AdminSocket = "", filepath.Join(dir, "admin.sock")
		tc.change(c)
		a, err := New(Options{Config: c, Terminal: Terminal{Out: io.Discard}, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = a.Run(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", tc.name, err, tc.want)
		}
	}
}
