package screen

import (
	"slices"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain ü 日本": "plain ü 日本", "\x1b[31m": `\x1b[31m`, "a\nb\r\tc": `a\nb\r\tc`, "\u202e": `\u202e`, "\x9b": `\x9b`, "\u009b": `\x9b`,
		"\xff\xfe": `\xff\xfe`, "\U000e0041": `\U000e0041`, "\u00a0": `\xa0`, "": "",
	} {
		if got := Escape(in, false); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Escape("ü日🎉", true); got != `\xfc\u65e5\U0001f389` {
		t.Errorf("ascii: %q", got)
	}
}

func TestWidth(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "日本": 4, "e\u0301": 1, "ü": 1, "🎉": 2, "─│→…": 4, "ｆ": 2, "ﾊ": 1} {
		if got := Width(s); got != want {
			t.Errorf("%q takes %d places, want %d", s, got, want)
		}
	}
	if got, want := Cells("ae\u0301日"), []string{"a", "e\u0301", "日"}; !slices.Equal(got, want) {
		t.Errorf("cells %q, want %q", got, want)
	}
	if got := Pad("日", 4); got != "日  " {
		t.Errorf("padded to %q", got)
	}
}

// Whatever comes in, what is cut fits and has nothing that a terminal acts on.
func TestCutFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Escape(rapid.String().Draw(t, "text"), rapid.Bool().Draw(t, "ascii"))
		n := rapid.IntRange(1, 40).Draw(t, "places")
		for name, got := range map[string]string{"Cut": Cut(s, n, "…"), "CutMiddle": CutMiddle(s, n, "…")} {
			if Width(got) > n {
				t.Fatalf("%s: %q takes %d places of %d", name, got, Width(got), n)
			}
			if Width(s) <= n && got != s {
				t.Fatalf("%s: %q became %q though it fits", name, s, got)
			}
			for _, r := range got {
				if !unicode.IsPrint(r) {
					t.Fatalf("%s: %q has %q", name, got, r)
				}
			}
		}
	})
}
