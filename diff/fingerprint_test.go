package diff

import (
	"slices"
	"strings"
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

// keys that look like those of a map, of every sort.
func drawKey(t *rapid.T, label string) string {
	return rapid.OneOf(
		rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), // UUID
		rapid.StringMatching(`[0-9]{1,18}`),                                                  // number
		rapid.StringMatching(`20[0-9]{2}-[01][0-9]-[0-3][0-9]`),                              // date
		rapid.StringMatching(`20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:00Z`),    // time
		rapid.StringMatching(`[0-9a-f]{15}[0-9][0-9a-f]{16}`),                                // long hex id
		rapid.StringMatching(`0x[0-9A-F]{7}[0-9]`),                                           // the same, marked
		rapid.StringMatching(`[a-z]{1,8}@[a-z]{1,8}\.example`),                               // e-mail address
	).Draw(t, label)
}

// drawShape draws a body of one shape, in which one value is "wrong": the names of
// fields are given; values, places in arrays and keys of maps are drawn.
func drawShape(t *rapid.T, fields []string) string {
	leaf := func(label string) string { return rapid.StringMatching(`[1-9][0-9]{0,6}`).Draw(t, label) }
	list := make([]string, rapid.IntRange(1, 9).Draw(t, "n"))
	at := rapid.IntRange(0, len(list)-1).Draw(t, "at")
	for i := range list {
		value := `"right"`
		if i == at {
			value = `"wrong"`
		}
		list[i] = `{"` + fields[2] + `":` + value + `,"other":` + leaf("leaf") + `}`
	}
	v := `{"` + fields[1] + `":[` + strings.Join(list, ",") + `]}`
	return `{"` + fields[0] + `":{"` + drawKey(t, "key") + `":` + v + `,"more":` + leaf("leaf") + `}}`
}

// One shape of difference has one fingerprint, whatever the values, the places
// in arrays and the keys; another field has another.
func TestFingerprintsAreCauses(t *testing.T) {
	r := compile(t, RuleConfig{})
	one := func(t *rapid.T, fields []string) string {
		cand := drawShape(t, fields)
		ref := strings.Replace(cand, `"wrong"`, `"right"`, 1)
		cand = strings.Replace(cand, `"wrong"`, `"`+rapid.StringMatching(`[a-z]{0,9} [0-9]{1,9}`).Draw(t, "wrong")+`"`, 1)
		got := r.Compare(get(), answer(200, ref, jsonType), answer(200, cand, jsonType), Input{})
		if len(got.Differences) != 1 {
			t.Fatalf("%s\n%s\n%q", ref, cand, brief(got.Differences))
		}
		return Fingerprint("e", "r", &got.Differences[0])
	}
	name := rapid.SampledFrom([]string{"a", "b", "items", "line2", "address1", "utf8", "sha256", "a b", "ä", "Total", "facade"})
	rapid.Check(t, func(t *rapid.T) {
		a := []string{name.Draw(t, "name"), name.Draw(t, "name"), name.Draw(t, "name")}
		b := slices.Clone(a)
		x := one(t, a)
		if y := one(t, a); y != x {
			t.Fatalf("%q: %s and %s", a, x, y)
		}
		k := rapid.IntRange(0, 2).Draw(t, "field")
		b[k] = name.Filter(func(s string) bool { return s != a[k] }).Draw(t, "another")
		if y := one(t, b); y == x {
			t.Fatalf("%q and %q: both %s", a, b, x)
		}
	})
}
