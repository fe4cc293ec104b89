package sample

import (
	"crypto/sha256"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestKeepSeedVectors(t *testing.T) {
	for key, want := range map[string]uint32{"req-key-1": 52, "hello": 14} {
		if got := number(sha256.Sum256([]byte(key))) % 100; got != want {
			t.Errorf("number of %q mod 100 = %d, want %d", key, got, want)
		}
		if Keep(key, "", Rate{want * 100}) || !Keep(key, "", Rate{want*100 + 100}) {
			t.Errorf("Keep(%q) turns elsewhere than between %d%% and %d%%", key, want, want+1)
		}
	}
	for _, c := range []struct {
		rate string
		want int
	}{{"0%", 0}, {"10%", 10_002}, {"0.25%", 233}, {"100%", 100_000}} {
		rate, err := ParseRate(c.rate)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := range 100_000 {
			if Keep(fmt.Sprintf("req-%d", i), "", rate) {
				n++
			}
		}
		if n != c.want {
			t.Errorf("%s of req-0 to req-99999 keeps %d, want %d", c.rate, n, c.want)
		}
	}
}

func TestKeepSaltIsAField(t *testing.T) {
	// sha256sum of "salt", a zero byte, "req-key-1" starts with 7df48cc8.
	const v = 2113158456
	percent, hundredth := uint32(v%100), uint32(v/100%100)
	at := Rate{percent*100 + hundredth}
	if Keep("req-key-1", "salt", at) || !Keep("req-key-1", "salt", Rate{at.Hundredths + 1}) {
		t.Errorf("Keep with a salt does not turn at %v", at)
	}
}

func TestKeepHoldsTheRate(t *testing.T) {
	const n = 50_000
	for _, hundredths := range []uint32{1, 25, 100, 150, 1000, 3333, 5050, 9999} {
		rate, kept := Rate{hundredths}, 0
		for i := range n {
			if Keep(fmt.Sprintf("key %d", i), "request", rate) {
				kept++
			}
		}
		p := rate.Fraction()
		if limit := 4 * math.Sqrt(n*p*(1-p)); math.Abs(float64(kept)-n*p) > limit {
			t.Errorf("%v keeps %d of %d, want %.0f within %.0f", rate, kept, n, n*p, limit)
		}
	}
}

func TestKeepProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, salt := rapid.String().Draw(t, "key"), rapid.String().Draw(t, "salt")
		low := rapid.Uint32Range(0, fullRate).Draw(t, "low")
		high := rapid.Uint32Range(low, fullRate).Draw(t, "high")
		if Keep(key, salt, Rate{low}) && !Keep(key, salt, Rate{high}) {
			t.Fatalf("kept at %v but not at %v", Rate{low}, Rate{high})
		}
		if Keep(key, salt, Rate{}) || !Keep(key, salt, Rate{fullRate}) {
			t.Fatal("0% keeps or 100% does not")
		}
	})
}

func TestParseRate(t *testing.T) {
	for _, c := range []struct {
		in   string
		want uint32
		back string
	}{
		{"10%", 1000, "10%"},
		{"0.25%", 25, "0.25%"},
		{"0.5%", 50, "0.5%"},
		{"0.50 %", 50, "0.5%"},
		{" 0% ", 0, "0%"},
		{"0.01%", 1, "0.01%"},
		{"007%", 700, "7%"},
		{"99.99%", 9999, "99.99%"},
		{"100%", 10000, "100%"},
		{"100.00%", 10000, "100%"},
	} {
		got, err := ParseRate(c.in)
		if err != nil || got.Hundredths != c.want || got.String() != c.back {
			t.Errorf("ParseRate(%q) = %d (%v), %v, want %d (%s)", c.in, got.Hundredths, got, err, c.want, c.back)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"", `rate "": want a percentage such as 10% or 0.25%`},
		{"%", `rate "%": want a percentage such as 10% or 0.25%`},
		{"-1%", `rate "-1%": want a percentage such as 10% or 0.25%`},
		{"+1%", `rate "+1%": want a percentage such as 10% or 0.25%`},
		{"1e1%", `rate "1e1%": want a percentage such as 10% or 0.25%`},
		{".5%", `rate ".5%": want a percentage such as 10% or 0.25%`},
		{"5.%", `rate "5.%": want a percentage such as 10% or 0.25%`},
		{"10 percent", `rate "10 percent": want a percentage such as 10% or 0.25%`},
		{"0.125%", `rate "0.125%": at most two decimals`},
		{"100.01%", `rate "100.01%": more than 100%`},
		{"101%", `rate "101%": more than 100%`},
		{"99999999999999999999%", `rate "99999999999999999999%": more than 100%`},
		{"0.1", `rate "0.1" has no unit: write 0.1% if you mean 0.1 of 100, or 10% if you mean 0.1 of 1`},
		{"1", `rate "1" has no unit: write 1% if you mean 1 of 100, or 100% if you mean 1 of 1`},
		{"0.07", `rate "0.07" has no unit: write 0.07% if you mean 0.07 of 100, or 7% if you mean 0.07 of 1`},
		{"10", `rate "10" has no unit: write 10% if you mean 10 of 100; as a share of one it would be 1000%, more than all`},
		{"200", `rate "200" has no unit: 200% and 200 times all are both more than 100%`},
	} {
		if r, err := ParseRate(c.in); err == nil || err.Error() != c.want {
			t.Errorf("ParseRate(%q) = %v, %v, want error %s", c.in, r, err, c.want)
		}
	}
}

func TestRateTextRoundTrip(t *testing.T) {
	for h := range uint32(fullRate + 1) {
		text, _ := Rate{h}.MarshalText()
		var back Rate
		if err := back.UnmarshalText(text); err != nil || back.Hundredths != h {
			t.Fatalf("%d hundredths print as %s and read back as %d, %v", h, text, back.Hundredths, err)
		}
	}
}
