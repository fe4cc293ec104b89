package bpf

import (
	"bytes"
	"testing"
	"unsafe"
)

// record is a ring record with the header h and the given bytes behind it.
func record(h eventHeader, behind []byte) []byte {
	head := unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h))
	return append(bytes.Clone(head), behind...)
}

func TestDecodeErrors(t *testing.T) {
	body := []byte("0123456789")
	good := eventHeader{Len: 10, Total: 10}
	for _, c := range []struct {
		name string
		rec  []byte
		want error
	}{
		{"exact", record(good, body), nil},
		{"slack", record(good, append(body, 1, 2, 3)), nil},
		{"no payload", record(eventHeader{}, nil), nil},
		{"a middle piece", record(eventHeader{Offset: 5, Len: 10, Total: 20}, body), nil},
		{"last piece at the end of the field", record(eventHeader{Offset: 1<<32 - 11, Len: 10, Total: 1<<32 - 1}, body), nil},
		{"empty", nil, errEventShort},
		{"header cut off", record(good, nil)[:eventHeaderLen-1], errEventShort},
		{"payload cut off", record(good, body[:9]), errEventLen},
		{"length of 4 GB", record(eventHeader{Len: 1<<32 - 1, Total: 1<<32 - 1}, body), errEventLen},
		{"longer than the packet", record(eventHeader{Len: 10, Total: 9}, body), errEventOffset},
		{"behind the packet", record(eventHeader{Offset: 11, Len: 10, Total: 20}, body), errEventOffset},
		{"offset wraps", record(eventHeader{Offset: 1<<32 - 1, Len: 10, Total: 10}, body), errEventOffset},
		{"no bytes of some", record(eventHeader{Total: 5}, nil), errEventOffset},
		{"side", record(eventHeader{Side: 3}, nil), errEventSide},
		{"a head, the rest left out", record(eventHeader{Len: 10, Total: 20, Rest: 1}, body), nil},
		{"all of a packet left out", record(eventHeader{Total: 20, Rest: 1}, nil), nil},
		{"nothing left out", record(eventHeader{Len: 10, Total: 10, Rest: 1}, body), errEventRest},
		{"what is left out of nothing", record(eventHeader{Rest: 1}, nil), errEventRest},
		{"left out behind a later piece", record(eventHeader{Offset: 5, Len: 10, Total: 20, Rest: 1}, body), errEventRest},
		{"left out in another way", record(eventHeader{Len: 10, Total: 20, Rest: 2}, body), errEventRest},
	} {
		ev := Event{Seq: 77}
		if err := Decode(c.rec, &ev); err != c.want {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		} else if err != nil && ev.Seq != 77 {
			t.Errorf("%s: the event was changed", c.name)
		}
	}
}

func TestDecodeAllocates(t *testing.T) {
	rec := record(eventHeader{Len: 10, Total: 10}, []byte("0123456789"))
	short := rec[:20]
	var ev Event
	if n := testing.AllocsPerRun(100, func() {
		_ = Decode(rec, &ev)
		_ = Decode(short, &ev)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A record that Decode takes yields a payload inside it and a segment inside
// its packet; the others leave the event alone.
func FuzzDecode(f *testing.F) {
	f.Add(record(eventHeader{Len: 4, Total: 4, Flags: ACK | PSH}, []byte("abcd")))
	f.Add(record(eventHeader{Seq: 1<<32 - 2, Offset: 3, Len: 4, Total: 7, Flags: SYN | FIN}, []byte("abcdslack")))
	f.Add(record(eventHeader{VLAN: 0x83, Side: 2}, nil))
	f.Add(record(eventHeader{Offset: 3, Len: 4, Total: 6}, []byte("abcd"))) // reaches out of the packet
	f.Add([]byte("short"))
	f.Add(record(eventHeader{Len: 4, Total: 9, Rest: 1}, []byte("head")))
	f.Add(record(eventHeader{Total: 9, Rest: 1}, nil))
	f.Add(record(eventHeader{Len: 4, Total: 4, Rest: 1}, []byte("head")))
	f.Fuzz(func(t *testing.T, rec []byte) {
		ev := Event{Seq: 77, Payload: []byte("old")}
		if err := Decode(rec, &ev); err != nil {
			if ev.Seq != 77 || string(ev.Payload) != "old" {
				t.Fatal("the event was changed")
			}
			return
		}
		n := len(ev.Payload)
		if n > len(rec)-eventHeaderLen || cap(ev.Payload) != n {
			t.Fatalf("payload of %d bytes, capacity %d, of a record of %d", n, cap(ev.Payload), len(rec))
		}
		if n > 0 && &ev.Payload[0] != &rec[eventHeaderLen] {
			t.Fatal("payload is not the record's")
		}
		if uint64(ev.Offset)+uint64(n) > uint64(ev.Total) {
			t.Fatalf("%d bytes at %d of %d", n, ev.Offset, ev.Total)
		}
		if rest := ev.Total - ev.Offset - uint32(n); ev.Skipped != 0 && ev.Skipped != rest || n == 0 && ev.Skipped != ev.Total || ev.Skipped != 0 && ev.Offset != 0 {
			t.Fatalf("%d bytes skipped of %d behind %d", ev.Skipped, rest, n)
		}
		if ev.Offset != 0 && ev.Flags&SYN != 0 {
			t.Fatal("SYN on a later piece")
		}
		if ev.Offset+uint32(n) != ev.Total && ev.Flags&(FIN|PSH|RST) != 0 {
			t.Fatal("FIN, PSH or RST on an earlier piece")
		}
		if ev.Flags > flagMask || ev.Side > SideToClient || ev.VLANTags > 127 {
			t.Fatalf("%+v", ev)
		}
		// What is not looked at does not matter.
		again := Event{}
		if err := Decode(append(bytes.Clone(rec), 1, 2, 3), &again); err != nil {
			t.Fatal(err)
		}
		sameEvent(t, again, ev)
	})
}

func BenchmarkDecode(b *testing.B) {
	rec := record(eventHeader{Len: 1448, Total: 1448, Flags: ACK | PSH}, make([]byte, 1456))
	var ev Event
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(rec, &ev); err != nil {
			b.Fatal(err)
		}
	}
}
