package exchange

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"
)

func TestID(t *testing.T) {
	f := Flow{Client: netip.MustParseAddrPort("10.0.0.1:40000"), Server: netip.MustParseAddrPort("10.0.0.2:8080")}
	sum := sha256.Sum256([]byte("\x0010.0.0.1:40000\x0010.0.0.2:8080\x000000002a\x00150"))
	if want := hex.EncodeToString(sum[:8]); string(NewID(f, 42, 150)) != want {
		t.Errorf("NewID = %s, want %s", NewID(f, 42, 150), want)
	}
	// The vector stands in records of other agents: it must not move.
	if id := NewID(f, 42, 150); id != "36bf9a1b9742ffb2" {
		t.Errorf("NewID = %s", id)
	}
	if r := NewID(f, 42, 150).For("users"); r != "0ceb289d09aeac1c" {
		t.Errorf("For = %s", r)
	}
	mapped := f
	mapped.Client = netip.MustParseAddrPort("[::ffff:10.0.0.1]:40000")
	if NewID(mapped, 42, 150) != NewID(f, 42, 150) {
		t.Error("an IPv4-mapped address gives another id")
	}
	six := Flow{Domain: "d", Client: netip.MustParseAddrPort("[2001:db8::1]:1"), Server: f.Server}
	sum = sha256.Sum256([]byte("d\x00[2001:db8::1]:1\x0010.0.0.2:8080\x00ffffffff\x000"))
	if want := hex.EncodeToString(sum[:8]); string(NewID(six, 0xffffffff, 0)) != want {
		t.Errorf("NewID = %s, want %s", NewID(six, 0xffffffff, 0), want)
	}
}

// The digest is known of what is here whole and of what was taken while it
// passed, in whatever pieces and wherever the keeping ended.
func TestSum256(t *testing.T) {
	text := "what was sent"
	want := sha256.Sum256([]byte(text))
	for kept := 0; kept <= len(text); kept++ {
		for first := kept; first <= len(text); first++ {
			b := Body{Bytes: []byte(text[:kept]), Size: int64(len(text)), Truncated: kept < len(text)}
			var d Digester
			if kept < len(text) {
				// The piece in which the room ended begins at any byte that is kept.
				for begin := 0; begin <= kept; begin++ {
					d = Digester{}
					d.Missed([]byte(text[begin:first]), []byte(text[:begin]))
					d.Missed([]byte(text[first:]), nil)
					d.Into(&b)
					if sum, ok := b.Sum256(); !ok || sum != want {
						t.Errorf("%d bytes kept, pieces to %d and %d: %x, %v", kept, begin, first, sum, ok)
					}
				}
				continue
			}
			if d.Into(&b); b.Digested {
				t.Error("a whole body was hashed")
			}
			if sum, ok := b.Sum256(); !ok || sum != want {
				t.Errorf("whole: %x, %v", sum, ok)
			}
		}
	}
	for _, b := range []Body{{Bytes: []byte("a"), Size: 2}, {Size: 1}, {Bytes: []byte("a"), Size: 1, Truncated: true}} {
		if sum, ok := b.Sum256(); ok {
			t.Errorf("%+v: has the digest %x", b, sum)
		}
	}
}

func TestHeader(t *testing.T) {
	h := Header{{"Host", "a"}, {"X", "1"}, {"x", "2"}, {"Empty", ""}}
	if h.Get("host") != "a" || h.Get("none") != "" || !h.Has("EMPTY") || h.Has("none") {
		t.Error("Get or Has")
	}
	if got := h.Values("x"); !reflect.DeepEqual(got, []string{"1", "2"}) {
		t.Errorf("Values = %v", got)
	}
	head := Head{Fields: []HeadField{{[]byte("HOST"), []byte("a")}}}
	if string(head.Get("host")) != "a" || head.Get("hos") != nil {
		t.Error("Head.Get")
	}
}

func TestEqualFoldToken(t *testing.T) {
	for _, tt := range []struct {
		b    string
		s    string
		want bool
	}{
		{"Host", "host", true}, {"host", "host", true}, {"hos", "host", false}, {"hosts", "host", false},
		{"hos\v", "host", false}, {"\u00a0st", "host", false}, {"", "host", false}, {"[OST", "{ost", false},
	} {
		if got := EqualFoldToken([]byte(tt.b), tt.s); got != tt.want {
			t.Errorf("EqualFoldToken(%q, %q) = %v", tt.b, tt.s, got)
		}
	}
}

// Every word that goes into a label is there and different from the others.
func TestWords(t *testing.T) {
	seen := map[string]bool{}
	for s := range NumSelections {
		if w := s.String(); w == "" || seen[w] {
			t.Errorf("selection %d: %q", s, w)
		} else {
			seen[w] = true
		}
	}
	for d := DoubtNone + 1; d < NumDoubts; d++ {
		if d.String() == "" {
			t.Errorf("doubt %d has no word", d)
		}
	}
	for p := PauseNone + 1; p < NumPauseReasons; p++ {
		if p.String() == "" {
			t.Errorf("pause %d has no word", p)
		}
	}
}
