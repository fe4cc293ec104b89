package attach

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
)

// device is what must be known of an interface to attach to it.
type device struct {
	index    int
	loopback bool
	// header is the length of its link header in bytes.
	header int
}

// findDevice looks up an interface in the namespace of the calling thread.
func findDevice(name string) (device, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return device{}, fmt.Errorf("no such interface; there are: %s", deviceNames())
	}
	if err != nil {
		return device{}, fmt.Errorf("look up the interface: %w", err)
	}
	a := l.Attrs()
	d := device{index: a.Index, loopback: a.Flags&net.FlagLoopback != 0}
	if d.header, err = linkHeader(a.EncapType); err != nil {
		return device{}, err
	}
	return d, nil
}

// linkHeader returns the length of the header before the IP header or the VLAN
// tags, by the link's type as netlink names the kernel's ARPHRD_ numbers
// (include/uapi/linux/if_arp.h).
func linkHeader(encap string) (int, error) {
	switch encap {
	case "ether", "loopback":
		return 14, nil
	case "none", "ipip", "tunnel6", "sit":
		// tun, WireGuard, netkit in layer 3 mode; IP in IP.
		return 0, nil
	}
	return 0, fmt.Errorf("link type %s is not supported (Ethernet, loopback, or no link header)", encap)
}

// deviceNames lists the interfaces of the thread's namespace.
func deviceNames() string {
	l, err := netlink.LinkList()
	if err != nil {
		return "(list them: " + err.Error() + ")"
	}
	names := make([]string, len(l))
	for i := range l {
		names[i] = l[i].Attrs().Name
	}
	return strings.Join(names, ", ")
}
