//go:build e2e

package e2e

import (
	"testing"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

// stage is four machines: a client and a server that talk by way of a node,
// and a candidate that the node reaches. The agent runs on the node and sees
// the server's traffic on the host side of the server's veth pair, srv0.
//
//	client eth0 --- cli0 node srv0 --- eth0 server
//	                     can0 -------- eth0 candidate
type stage struct {
	client, node, server, candidate *bed.Namespace
}

// Where things are.
const (
	tapped       = "srv0"
	serverAddr4  = "10.77.2.2:8080"
	serverAddr6  = "[fd77:2::2]:8080"
	candidateIP  = "10.77.3.2"
	candidateURL = "http://10.77.3.2:9090"
	// nobodyURL is an address of the candidate's network that no one has.
	nobodyURL = "http://10.77.3.77:9090"
)

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{
		client:    bed.NewNamespace(t, "client"),
		node:      bed.NewNamespace(t, "node"),
		server:    bed.NewNamespace(t, "server"),
		candidate: bed.NewNamespace(t, "candidate"),
	}
	s.node.Must(t, func() error {
		if err := bed.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
		return bed.Sysctl("net/ipv6/conf/all/forwarding", "1")
	})
	for _, leaf := range []struct {
		ns   *bed.Namespace
		name string
		net  string
	}{{s.client, "cli0", "1"}, {s.server, tapped, "2"}, {s.candidate, "can0", "3"}} {
		bed.Join(t,
			bed.Link{Namespace: s.node, Name: leaf.name, Addresses: []string{"10.77." + leaf.net + ".1/24", "fd77:" + leaf.net + "::1/64"}},
			bed.Link{
				Namespace: leaf.ns, Name: "eth0",
				Addresses: []string{"10.77." + leaf.net + ".2/24", "fd77:" + leaf.net + "::2/64"},
				Gateways:  []string{"10.77." + leaf.net + ".1", "fd77:" + leaf.net + "::1"},
			},
		)
	}
	return s
}
