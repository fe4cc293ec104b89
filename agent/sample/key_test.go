package sample

import (
	"crypto/sha256"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

var testFlow = &exchange.Flow{
	Client: netip.MustParseAddrPort("192.0.2.1:40000"),
	Server: netip.MustParseAddrPort("198.51.100.7:8080"),
}

// Every number is the first four bytes, big-endian, of SHA-256 as computed
// outside of Go over "request", a zero byte and the text.
func TestKeyVectors(t *testing.T) {
	v6 := &exchange.Flow{Client: testFlow.Client, Server: netip.MustParseAddrPort("[2001:db8::1]:8080")}
	for _, c := range []struct {
		by   string
		flow *exchange.Flow
		want uint32
		// text is what is hashed behind "request" and a zero byte.
		text string
	}{
		{"request", testFlow, 3295230391, "192.0.2.1:40000\x00198.51.100.7:8080\x0000c0ffee\x001234567"},
		{"request", v6, 1818414795, "192.0.2.1:40000\x00[2001:db8::1]:8080\x0000c0ffee\x001234567"},
		{"connection", testFlow, 3765634543, "192.0.2.1:40000\x00198.51.100.7:8080\x0000c0ffee"},
		{"url", testFlow, 1304487849, "GET\x00/users/7\x00a=1&b=2"},
		{"header:x-user", testFlow, 3390000362, "user-17"},
		{"header:X-Nobody", testFlow, 3295230391, "192.0.2.1:40000\x00198.51.100.7:8080\x0000c0ffee\x001234567"},
		{"header:X-Empty", testFlow, 3295230391, "192.0.2.1:40000\x00198.51.100.7:8080\x0000c0ffee\x001234567"},
	} {
		by, err := ParseBy(c.by)
		if err != nil || by.String() != c.by {
			t.Fatalf("ParseBy(%q) = %v, %v", c.by, by, err)
		}
		h := &exchange.Head{
			Flow: c.flow, ISN: 0x00c0ffee, Offset: 1234567, Method: []byte("GET"), Target: []byte("/users/7?a=1&b=2"),
			Fields: fields("X-User", "user-17", "X-Empty", ""),
		}
		target := splitTarget(h.Target)
		p := newPicker()
		for range 2 { // made, and remembered
			if got := p.number(&by, h, &target); got != c.want {
				t.Errorf("by %s: number %d, want %d", c.by, got, c.want)
			}
		}
		at := Rate{c.want%100*100 + c.want/100%100}
		if Keep(c.text, "request", at) || !Keep(c.text, "request", Rate{at.Hundredths + 1}) {
			t.Errorf("by %s: Keep(%q) does not turn at %v", c.by, c.text, at)
		}
		if c.by == "request" && RequestKey(c.flow, h.ISN, h.Offset) != c.text {
			t.Errorf("RequestKey = %q, want %q", RequestKey(c.flow, h.ISN, h.Offset), c.text)
		}
	}
}

// The key of a request is spelled as the fields of its exchange_id are: a
// change of one is a change of the other.
func TestRequestKeyIsSpelledAsID(t *testing.T) {
	// exchange.NewID of testFlow, with domain "": sha256sum of a zero byte and
	// the key.
	const want = exchange.ID("16440a5480b1204e")
	if got := exchange.NewID(*testFlow, 0x00c0ffee, 1234567); got != want {
		t.Errorf("exchange.NewID = %s, want %s", got, want)
	}
}

func TestPickerForgets(t *testing.T) {
	h := &exchange.Head{Flow: testFlow, Method: []byte("GET"), Target: []byte("/")}
	target := splitTarget(h.Target)
	p := newPicker()
	a := p.number(&By{}, h, &target)
	h.Offset = 1
	p.next()
	if b := p.number(&By{}, h, &target); a == b {
		t.Error("the next request has the number of the one before")
	}
}

// One picker spells many connections, in any order, as RequestKey does: those
// that share a place in its memory, that differ in one field alone, and those
// too long for it.
func TestPickerSpellsEveryConnection(t *testing.T) {
	clients := []string{"192.0.2.1:40000", "192.0.2.1:40064", "192.0.2.2:40000", "[2001:db8::1]:40000", "[2001:db8:1111:2222:3333:4444:5555:6666]:40000", "[fe80::1%a-zone-with-quite-a-long-name-for-one-interface]:40000"}
	servers := []string{"198.51.100.7:8080", "198.51.100.7:8081", "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535"}
	p := newPicker()
	rapid.Check(t, func(t *rapid.T) {
		f := &exchange.Flow{
			Client: netip.MustParseAddrPort(rapid.SampledFrom(clients).Draw(t, "client")),
			Server: netip.MustParseAddrPort(rapid.SampledFrom(servers).Draw(t, "server")),
		}
		h := &exchange.Head{Flow: f, ISN: rapid.SampledFrom([]uint32{0, 1, 64, 1 << 31}).Draw(t, "isn"), Offset: rapid.Uint64().Draw(t, "offset")}
		want := number(sha256.Sum256([]byte("request\x00" + RequestKey(f, h.ISN, h.Offset))))
		for range 2 { // made, and remembered
			p.next()
			if got := p.number(&By{}, h, &target{}); got != want {
				t.Fatalf("number %d, want %d", got, want)
			}
		}
	})
}

func TestParseByErrors(t *testing.T) {
	for in, want := range map[string]string{
		"user":         `"user": want request, url, connection or header:NAME`,
		"header:":      `"header:": "" is no header name`,
		"header:a b":   `"header:a b": "a b" is no header name`,
		"Request":      `"Request": want request, url, connection or header:NAME`,
		"header:X-Us:": `"header:X-Us:": "X-Us:" is no header name`,
	} {
		if _, err := ParseBy(in); err == nil || err.Error() != want {
			t.Errorf("ParseBy(%q): %v, want %s", in, err, want)
		}
	}
	if by, err := ParseBy(""); err != nil || by != (By{}) {
		t.Errorf(`ParseBy("") = %v, %v`, by, err)
	}
}
