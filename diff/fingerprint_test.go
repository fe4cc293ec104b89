package diff

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The vectors were computed apart from this code:
// printf 'users\0/users/{id}\0body\0changed\0$.items[*].price' | sha256sum
func TestFingerprint(t *testing.T) {
	word := func(s string) Value { return Value{Kind: ValueString, Text: s} }
	tests := []struct {
		experiment, route string
		d                 Difference
		want              string
	}{
		{"users", "/users/{id}", Difference{Aspect: AspectBody, Kind: KindChanged, Path: "$.items[3].price", Reference: word("1"), Candidate: word("2")}, "f25f3af5a80b1640"},
		{"users", "/users/{id}", Difference{Aspect: AspectBody, Kind: KindChanged, Path: "$.items[4].price", Reference: word("5"), Ignored: true, Detail: "x"}, "f25f3af5a80b1640"},
		{"users", "/users/{id}", Difference{Aspect: AspectStatus, Kind: KindChanged, Reference: word("200"), Candidate: word("404")}, "daa21098e4c5d4d1"},
		{"users", "/users/{id}", Difference{Aspect: AspectCandidate, Kind: KindError, Candidate: word("timeout")}, "70e9c0df700f51ba"},
		{"users", "/users/{id}", Difference{Aspect: AspectHeader, Kind: KindRemoved, Path: "set-cookie/session/httponly", Reference: word("")}, "d54cf9c2832b2ecc"},
		{"", "", Difference{Aspect: AspectBody, Kind: KindChanged}, "f373c040d0268c72"},
	}
	for _, tt := range tests {
		if got := Fingerprint(tt.experiment, tt.route, &tt.d); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.d, got, tt.want)
		}
	}
}

func TestCause(t *testing.T) {
	fps := []string{"f25f3af5a80b1640", "daa21098e4c5d4d1", "f25f3af5a80b1640", "70e9c0df700f51ba"}
	before := slices.Clone(fps)
	if got := Cause(fps); got != "ca23d1314595fb1d" {
		t.Errorf("cause %s", got)
	}
	if !slices.Equal(fps, before) {
		t.Error("the caller's list was changed")
	}
	if got := Cause(fps[:1]); got != "7b518c8001897729" {
		t.Errorf("cause of one: %s", got)
	}
	if got := Cause(nil); got != "" {
		t.Errorf("cause of none: %q", got)
	}
}

// What tells fingerprints apart: every field of the hash, and nothing else.
func TestFingerprintFields(t *testing.T) {
	base := Difference{Aspect: AspectHeader, Kind: KindChanged, Path: "a"}
	seen := map[string]string{}
	add := func(name, fp string) {
		if other, ok := seen[fp]; ok {
			t.Errorf("%s has the fingerprint of %s", name, other)
		}
		seen[fp] = name
	}
	add("base", Fingerprint("e", "r", &base))
	add("experiment", Fingerprint("e2", "r", &base))
	add("route", Fingerprint("e", "r2", &base))
	add("bounds of fields", Fingerprint("er", "", &base))
	d := base
	d.Aspect = AspectTrailer
	add("aspect", Fingerprint("e", "r", &d))
	d = base
	d.Kind = KindAdded
	add("kind", Fingerprint("e", "r", &d))
	d = base
	d.Path = "b"
	add("path", Fingerprint("e", "r", &d))
	d = base
	d.Path = "set-cookie/a"
	add("cookie", Fingerprint("e", "r", &d))
	d.Path = "set-cookie/9b2c2f1e-3c1e-4f0e-9a59-0a6b5f0b8f10"
	first := Fingerprint("e", "r", &d)
	d.Path = "set-cookie/00000000-3c1e-4f0e-9a59-0a6b5f0b8f10"
	if Fingerprint("e", "r", &d) != first {
		t.Error("cookies with ids for names have fingerprints of their own")
	}
	d.Path += "/path"
	add("cookie's attribute", Fingerprint("e", "r", &d))
}

// A million divergences become few causes: whatever the values and the places
// in arrays, the same defect has the same fingerprint.
func TestFingerprintIsStableOverValues(t *testing.T) {
	r := compile(t, RuleConfig{})
	seen := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 50).Draw(t, "n")
		at := rapid.IntRange(0, n-1).Draw(t, "at")
		key := rapid.StringMatching(`[0-9]{1,12}|[0-9a-f]{12}[0-9]`).Draw(t, "key")
		body := func(wrong bool) string {
			s := `{"` + key + `":[`
			for i := range n {
				if i > 0 {
					s += ","
				}
				v := `"right ` + key + `"`
				if wrong && i == at {
					v = `"wrong"`
				}
				s += `{"v":` + v + `}`
			}
			return s + "]}"
		}
		got := r.Compare(get(), answer(200, body(false), jsonType), answer(200, body(true), jsonType), Input{})
		if len(got.Differences) != 1 {
			t.Fatalf("%q", brief(got.Differences))
		}
		seen[Fingerprint("e", "r", &got.Differences[0])] = true
	})
	if len(seen) != 1 {
		t.Errorf("%d fingerprints", len(seen))
	}
}
