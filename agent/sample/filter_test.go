package sample

import (
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func TestHostFilter(t *testing.T) {
	for _, c := range []struct {
		filter, host string
		want         bool
	}{
		{"", "anything", true},
		{"", "", true},
		{"*", "anything:1", true},
		{"example.com", "example.com", true},
		{"example.com", "EXAMPLE.com", true},
		{"Example.COM", "example.com:8080", true},
		{"example.com", "example.com.", true},
		{"example.com", "example.com.:80", true},
		{"example.com", "www.example.com", false},
		{"example.com", "example.comx", false},
		{"example.com", "", false},
		{"example.com:8080", "example.com:8080", true},
		{"example.com:8080", "example.com:80", false},
		{"example.com:8080", "example.com", false},
		{"example.com:80", "example.com", true},
		{"example.com:80", "example.com:", true},
		{"example.com:80", "example.com:0000080", true},
		{"example.com:80", "example.com:x", false},
		{"example.com:80", "example.com:65616", false}, // 80 + 65536
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "A.b.EXAMPLE.com:99", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "aexample.com", false},
		{"*.example.com:8080", "a.example.com:8080", true},
		{"*.example.com:8080", "a.example.com:8081", false},
		{"192.0.2.1", "192.0.2.1:8080", true},
		{"[2001:db8::1]", "[2001:DB8::1]:8080", true},
		{"[2001:db8::1]", "[2001:db8::1]", true},
		{"[2001:db8::1]:8080", "[2001:db8::1]:8080", true},
		{"[2001:db8::1]:8080", "[2001:db8::1]", false},
		{"[2001:db8::1]", "2001:db8::1", false},
	} {
		h, err := parseHost(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.matches([]byte(c.host)); got != c.want {
			t.Errorf("filter %q matches host %q: %v, want %v", c.filter, c.host, got, c.want)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"example.com:", `host "example.com:": port "" is no port number`},
		{"example.com:http", `host "example.com:http": port "http" is no port number`},
		{"example.com:0", `host "example.com:0": port "0" is no port number`},
		{":80", `host ":80": no name`},
		{"*.", `host "*.": no name`},
		{"*.*.com", `host "*.*.com": want a name such as example.com, *.example.com or example.com:8080`},
		{"www.*", `host "www.*": want a name such as example.com, *.example.com or example.com:8080`},
		{"http://x", `host "http://x": port "//x" is no port number`},
		{"2001:db8::1", `host "2001:db8::1": an IPv6 address stands in brackets`},
	} {
		if _, err := parseHost(c.in); err == nil || err.Error() != c.want {
			t.Errorf("parseHost(%q): %v, want %s", c.in, err, c.want)
		}
	}
}

func TestSplitTarget(t *testing.T) {
	for _, c := range []struct{ in, path, query, authority string }{
		{"/", "/", "", ""},
		{"/a/b?c=d?e#f", "/a/b", "c=d?e#f", ""},
		{"/a#b", "/a#b", "", ""},
		{"/a?", "/a", "", ""},
		{"*", "*", "", ""},
		{"", "", "", ""},
		{"**", "", "", ""},
		{"example.com:443", "", "", ""},
		{"http://example.com/a?b", "/a", "b", "example.com"},
		{"http://example.com", "/", "", "example.com"},
		{"http://example.com?b", "/", "b", "example.com"},
		{"://x/a", "", "", ""},
		{"a/b://x/a", "", "", ""},
		{"//evil/x", "//evil/x", "", ""},
		{"/a://b", "/a://b", "", ""},
	} {
		got := splitTarget([]byte(c.in))
		if string(got.path) != c.path || string(got.query) != c.query || string(got.authority) != c.authority {
			t.Errorf("splitTarget(%q) = %q, %q, %q", c.in, got.path, got.query, got.authority)
		}
	}
}

func TestHeaderFilter(t *testing.T) {
	f, wrong := newFilter(&Match{Headers: map[string]string{"X-Tenant": "blue", "x-beta": "*"}})
	if wrong != nil {
		t.Fatal(wrong)
	}
	for _, c := range []struct {
		fields []exchange.HeadField
		want   bool
	}{
		{fields("x-tenant", "blue", "X-BETA", ""), true},
		{fields("X-Tenant", "green", "X-Tenant", "blue", "X-Beta", "1"), true},
		{fields("X-Tenant", "Blue", "X-Beta", "1"), false},
		{fields("X-Tenant", "blue"), false},
		{fields("X-Beta", "1"), false},
		{nil, false},
	} {
		if got := f.header(c.fields); got != c.want {
			t.Errorf("%q pass: %v, want %v", c.fields, got, c.want)
		}
	}
}

// fields makes head fields of names and values in turn.
func fields(list ...string) []exchange.HeadField {
	var f []exchange.HeadField
	for i := 0; i < len(list); i += 2 {
		f = append(f, exchange.HeadField{Name: []byte(list[i]), Value: []byte(list[i+1])})
	}
	return f
}
