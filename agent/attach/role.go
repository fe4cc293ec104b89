package attach

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/shadowtap/shadowtap/bpf"
)

// The roles of an interface; the package's documentation has the table.
const (
	RoleAny      = "any"
	RoleLoopback = "loopback"
	RoleUplink   = "uplink"
	RoleWorkload = "workload"
)

// Roles lists the roles.
func Roles() []string { return []string{RoleAny, RoleLoopback, RoleUplink, RoleWorkload} }

// hook is a place for a tap, and what the tap looks for there.
type hook struct {
	name      string
	at        ebpf.AttachType
	direction bpf.Direction
}

func ingress(d bpf.Direction) hook { return hook{"ingress", ebpf.AttachTCXIngress, d} }
func egress(d bpf.Direction) hook  { return hook{"egress", ebpf.AttachTCXEgress, d} }

// hooksOf returns the hooks of a role, and the role that an empty one means.
func hooksOf(role string, loopback bool) ([]hook, string, error) {
	if loopback {
		if role != "" && role != RoleLoopback {
			return nil, "", fmt.Errorf("role %s on the loopback device, where every packet passes both hooks: leave it out", role)
		}
		role = RoleLoopback
	}
	switch role {
	case "", RoleAny:
		return []hook{ingress(bpf.Both), egress(bpf.Both)}, RoleAny, nil
	case RoleLoopback:
		if !loopback {
			return nil, "", fmt.Errorf("role %s, but it is no loopback device", role)
		}
		return []hook{ingress(bpf.Both)}, role, nil
	case RoleUplink:
		return []hook{ingress(bpf.Requests), egress(bpf.Responses)}, role, nil
	case RoleWorkload:
		return []hook{ingress(bpf.Responses), egress(bpf.Requests)}, role, nil
	}
	return nil, "", fmt.Errorf("role %q is not known", role)
}
