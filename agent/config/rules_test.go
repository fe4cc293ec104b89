package config

import (
	"errors"
	"strings"
	"testing"
)

// TestErrorIn: the column of a place within a text, however it is quoted.
func TestErrorIn(t *testing.T) {
	for _, tt := range []struct {
		text   string // stands at 7:13
		offset int
		want   string
	}{
		{`$.a[x]`, 4, "f:7:17"},
		{`$.ä[x]`, 5, "f:7:17"}, // a column is a character
		{`'$.a[x]'`, 4, "f:7:18"},
		{`'$[''a'',x]'`, 6, "f:7:22"},
		{`"$.a[x]"`, 4, "f:7:18"},
		{`"$[\"a\"x]"`, 5, "f:7:21"},
		{`"$.\u00e4[x]"`, 4, "f:7:13"}, // the beginning will do
		{`'\x[x]'`, 99, "f:7:19"},
		{`$.a[x]`, 0, "f:7:13"},
		{`$.a[x]`, 99, "f:7:19"},
	} {
		c, _, err := Parse("f", []byte("version: 1\nexperiments:\n  - name: a\n    compare:\n      ignore:\n        json:\n          - "+tt.text+"\n"), nil)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		var e *Error
		if err := c.ErrorIn("experiments[0].compare.ignore.json[0]", tt.offset, "no"); !errors.As(err, &e) || e.Source.String() != tt.want {
			t.Errorf("%s at byte %d: %s, want %s", tt.text, tt.offset, e.Source, tt.want)
		}
	}
	// On several lines, and where nothing was written, the beginning will do.
	c, _, err := Parse("f", []byte("version: 1\nexperiments:\n  - name: a\n    compare:\n      ignore:\n        json:\n          - \"$.a\n            b\"\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ErrorIn("experiments[0].compare.ignore.json[0]", 3, "no").Error(); got != "f:7:13: experiments[0].compare.ignore.json[0]: no" {
		t.Error(got)
	}
	if got := c.ErrorIn("experiments[0].compare.equal[0].json", 3, "no").Error(); got != "f:5:7: experiments[0].compare.equal[0].json: no" {
		t.Error(got)
	}
	if got := New().ErrorIn("log.level", 3, "no").Error(); got != "log.level: no" {
		t.Error(got)
	}
}

func TestParseCompare(t *testing.T) {
	const two = "version: 1\nexperiments:\n  - name: a\n    compare: {max_depth: 7}\n  - name: b\n    compare: {max_depth: 8}\n"
	for _, tt := range []struct {
		name, data, experiment string
		depth                  int
		path, err              string
	}{
		{"alone", "ignore: {headers: [X-A]}\n", "", 128, "", ""},
		{"alone, another limit", "max_depth: 5\n", "", 5, "", ""},
		{"nothing", "{}\n", "", 128, "", ""},
		{"of a configuration", two, "b", 8, "experiments[1].compare.", ""},
		{"of the only experiment", two[:strings.Index(two, "  - name: b")], "", 7, "experiments[0].compare.", ""},
		{"of one of several", two, "", 0, "", "f has 2 experiments: name one of a and b"},
		{"of none", "version: 1\n", "a", 0, "", "f has no experiment"},
		{"of another", two, "c", 0, "", `f has no experiment "c", but a and b`},
		{"of rules alone", "max_depth: 5\n", "a", 0, "", `f has rules alone, and no experiment "a"`},
		{"an unknown key", "ignore: {header: [a]}\n", "", 0, "", `f:1:10: ignore: unknown key "header": did you mean headers?`},
		{"a wrong value", "max_depth: 0\n", "", 0, "", "f:1:12: max_depth: 0 is not within 1 and 10000"},
		{"a wrong value in a configuration", strings.Replace(two, "8", "0", 1), "b", 0, "", "f:6:26: experiments[1].compare.max_depth: 0 is not within 1 and 10000"},
		{"a list", "- a\n", "", 0, "", "f:1:1: is a list: write a mapping with the keys ignore, equal, arrays, descriptors, reflection, max_depth, max_differences, recheck and state"},
		{"no YAML", "a: [", "", 0, "", "f:1:4: not YAML: sequence end token ']' not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules, c, path, err := ParseCompare("f", []byte(tt.data), tt.experiment)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if rules.MaxDepth != tt.depth || path != tt.path {
				t.Errorf("depth %d, path %q", rules.MaxDepth, path)
			}
			if c.At(path+"ignore").Name != "f" {
				t.Errorf("no position: %v", c.At(path+"ignore"))
			}
		})
	}
}
