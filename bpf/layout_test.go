package bpf

import (
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"
)

// The Go structs that lie over the program's memory, field by field against
// the BTF that the compiler wrote into the object.
func TestLayout(t *testing.T) {
	spec, err := loadTap()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		goes any
	}{
		{"tap_event", eventHeader{}},
		{"tap_control", &controlWords{}},
		{"tap_settings", &settingsWords{}},
		{"tap_cpu", cpuWords{}},
		{"tap_endpoint", endpoint{}},
		{"tap_skip", &skipWords{}},
		{"tap_forecast", &forecastWords{}},
	} {
		var in *btf.Struct
		if err := spec.Types.TypeByName(c.name, &in); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		typ := reflect.TypeOf(c.goes)
		if typ.Kind() == reflect.Pointer { // has atomics, must not be copied
			typ = typ.Elem()
		}
		if int(in.Size) != int(typ.Size()) {
			t.Errorf("%s: %d bytes in C, %d in Go", c.name, in.Size, typ.Size())
		}
		named := 0
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Name == "_" {
				continue
			}
			named++
			if !hasField(t, in, f) {
				t.Errorf("%s: no %s of %d bytes at %d in C: %v", c.name, f.Name, f.Type.Size(), f.Offset, in.Members)
			}
		}
		for _, m := range in.Members {
			if !strings.HasPrefix(m.Name, "pad") {
				named--
			}
		}
		if c.name == "tap_endpoint" || c.name == "tap_skip" || c.name == "tap_forecast" {
			named-- // the padding has a name in Go too, it is zero
		}
		if named != 0 {
			t.Errorf("%s: %d more fields in Go than in C", c.name, named)
		}
	}
}

func hasField(t *testing.T, in *btf.Struct, f reflect.StructField) bool {
	for _, m := range in.Members {
		if strings.EqualFold(strings.ReplaceAll(m.Name, "_", ""), f.Name) && uintptr(m.Offset.Bytes()) == f.Offset {
			size, err := btf.Sizeof(m.Type)
			if err != nil {
				t.Error(err)
			}
			return uintptr(size) == f.Type.Size()
		}
	}
	return false
}

// Decode reads offsets, not a struct.
func TestDecodeOffsets(t *testing.T) {
	h := eventHeader{
		Time: 0x0102030405060708, Lost: 0x1112131415161718, Src: [16]byte{0: 1, 15: 2}, Dst: [16]byte{0: 3, 15: 4},
		Seq: 0x21222324, Ack: 0x31323334, SrcPort: 0x4142, DstPort: 0x5152, Tap: 0x6162, Domain: 0x7172,
		Offset: 2, Len: 3, Total: 5, Flags: ACK | PSH, Side: SideToClient, VLAN: 0x82,
	}
	rec := append(unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h)), "abcrest"...)
	var ev Event
	if err := Decode(rec, &ev); err != nil {
		t.Fatal(err)
	}
	sameEvent(t, ev, Event{
		Time: 0x0102030405060708, Lost: 0x1112131415161718, Src: h.Src, Dst: h.Dst, Seq: 0x21222326, Ack: 0x31323334,
		SrcPort: 0x4142, DstPort: 0x5152, Tap: 0x6162, Domain: 0x7172, Offset: 2, Total: 5, Flags: ACK | PSH,
		Side: SideToClient, VLANTags: 2, VLANMetadata: true, Payload: []byte("abc"),
	})
}

// The results of C and Go have the same names in the same order, and the constants
// that both sides use are the same.
func TestConstants(t *testing.T) {
	spec, err := loadTap()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("tap_result", &enum); err != nil {
		t.Fatal(err)
	}
	if len(enum.Values) != Results+1 {
		t.Errorf("%d results in C, %d in Go", len(enum.Values)-1, Results)
	}
	for i, v := range enum.Values {
		if want := "TAP_" + strings.ToUpper(append(resultNames[:], "results")[i]); v.Name != want || v.Value != uint64(i) {
			t.Errorf("%s = %d, want %s = %d", v.Name, v.Value, want, i)
		}
	}
	var longest uint32
	if err := spec.Variables[tapVarLongest].Get(&longest); err != nil || longest != longestPayload {
		t.Errorf("longest is %d, want %d (%v)", longest, longestPayload, err)
	}
}
