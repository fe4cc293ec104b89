package attach

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
)

// Owner says whose a tap is. It is bound to the tap's program, so that another
// process can read it; see Sweep.
type Owner struct {
	// Instance is the agent's name on its node.
	Instance string
	// Lock is the path of the file that the agent holds a lock on, as the
	// agent sees it.
	Lock string
}

const (
	ownerName = "shadowtap_owner" // of the map; the kernel takes 15 bytes
	// maxOwner bounds what is read of a map of that name.
	maxOwner = 8 << 10
)

// newOwnerMap makes the map that says whose a tap is. The caller closes it.
func newOwnerMap(o Owner) (*ebpf.Map, error) {
	text := []byte(o.Instance + "\x00" + o.Lock)
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: ownerName, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(len(text)), MaxEntries: 1,
		Contents: []ebpf.MapKV{{Key: uint32(0), Value: text}},
	})
	if err != nil {
		return nil, fmt.Errorf("make map %s: %w", ownerName, err)
	}
	return m, nil
}

// ownerOf reads whose the program is; the zero Owner when it does not say.
func ownerOf(info *ebpf.ProgramInfo) (Owner, error) {
	ids, _ := info.MapIDs()
	for _, id := range ids {
		o, found, err := readOwner(id)
		if err != nil || found {
			return o, err
		}
	}
	return Owner{}, nil
}

func readOwner(id ebpf.MapID) (o Owner, found bool, err error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return Owner{}, false, fmt.Errorf("open map %d: %w", id, err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return Owner{}, false, fmt.Errorf("look at map %d: %w", id, err)
	}
	if info.Name != ownerName || info.Type != ebpf.Array || info.KeySize != 4 || info.ValueSize > maxOwner {
		return Owner{}, false, nil
	}
	text, err := m.LookupBytes(uint32(0))
	if err != nil {
		return Owner{}, false, fmt.Errorf("read map %d: %w", id, err)
	}
	o.Instance, o.Lock, found = strings.Cut(string(text), "\x00")
	return o, found, nil
}
