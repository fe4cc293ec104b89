package config

import (
	"encoding"
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestScalars: what a text means, and how that is written again.
func TestScalars(t *testing.T) {
	for _, c := range []struct {
		text string
		want any
		// again is the text that is written, text when it is empty.
		again string
	}{
		{"10%", Rate(1000), ""},
		{"0%", Rate(0), ""},
		{"100%", Rate(10000), ""},
		{"100.00%", Rate(10000), "100%"},
		{"0.25%", Rate(25), ""},
		{"0.5%", Rate(50), ""},
		{"0.01%", Rate(1), ""},
		{" 33.3 % ", Rate(3330), "33.3%"},
		{"007%", Rate(700), "7%"},
		{"150%", Percent(15000), ""},
		{"100000%", Percent(10_000_000), ""},
		{"2s", Duration(2 * time.Second), ""},
		{"0", Duration(0), "0s"},
		{"0s", Duration(0), ""},
		{"500ms", Duration(500 * time.Millisecond), ""},
		{"1.5s", Duration(1500 * time.Millisecond), ""},
		{"60s", Duration(time.Minute), "1m"},
		{"90m", Duration(90 * time.Minute), "1h30m"},
		{"7d", Duration(7 * day), ""},
		{"168h", Duration(7 * day), "7d"},
		{"1d12h", Duration(36 * time.Hour), ""},
		{"1d0s", Duration(day), "1d"},
		{"1h2m3s4ms", Duration(time.Hour + 2*time.Minute + 3004*time.Millisecond), "1h2m3.004s"},
		{"106751d", Duration(106751 * day), ""},
		{"1ns", Duration(1), ""},
		{"forever", Until{Forever: true}, ""},
		{"7d", Until{After: Duration(7 * day)}, ""},
		{"2026-12-24T18:00:00Z", Until{At: time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)}, ""},
		{"2026-12-24T18:00:00+02:00", Until{At: time.Date(2026, 12, 24, 16, 0, 0, 0, time.UTC)}, "2026-12-24T16:00:00Z"},
		{"2026-12-24T18:00:00.5Z", Until{At: time.Date(2026, 12, 24, 18, 0, 0, 5e8, time.UTC)}, ""},
		{"0B", Size(0), ""},
		{"1B", Size(1), ""},
		{"1KiB", Size(1 << 10), ""},
		{"64 MiB", Size(64 << 20), "64MiB"},
		{"1GiB", Size(1 << 30), ""},
		{"2TiB", Size(2 << 40), ""},
		{"1KB", Size(1000), ""},
		{"10MB", Size(10_000_000), ""},
		{"1024B", Size(1024), "1KiB"},
		{"1.5GiB", Size(3 << 29), "1536MiB"},
		{"0.5KB", Size(500), "500B"},
		{"9223372036854775807B", Size(math.MaxInt64), ""},
		{"unlimited", ByteRate(0), ""},
		{"1GiB/s", ByteRate(1 << 30), ""},
		{"100MB/s", ByteRate(100_000_000), ""},
		{"unlimited", RequestRate(0), ""},
		{"100/s", RequestRate(100), ""},
		{"0.5/s", RequestRate(0.5), ""},
		{"off", Factor(0), ""},
		{"1", Factor(1), ""},
		{"1.25", Factor(1.25), ""},
		{"1000", Factor(1000), ""},
		{"off", Limit{Off: true}, ""},
		{"0.5%", Limit{Rate: 50}, ""},
		{"0%", Limit{}, ""},
	} {
		p := reflect.New(reflect.TypeOf(c.want))
		if err := p.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(c.text)); err != nil {
			t.Errorf("%T %q: %v", c.want, c.text, err)
			continue
		}
		if got := p.Elem().Interface(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%T %q: got %#v, want %#v", c.want, c.text, got, c.want)
		}
		again := c.again
		if again == "" {
			again = c.text
		}
		if got := text(p.Elem()); got != again {
			t.Errorf("%T %q: written %q, want %q", c.want, c.text, got, again)
		}
	}
}

// TestScalarErrors has texts whose type has no key in a bad file.
func TestScalarErrors(t *testing.T) {
	for _, c := range []struct {
		text, want string
		v          encoding.TextUnmarshaler
	}{
		{"100001%", `"100001%" is more than 100000%`, new(Percent)},
		{"1.5", `"1.5" has no %: write 1.5% or 150%`, new(Percent)},
		{"0.07", `"0.07" has no %: write 0.07% or 7%`, new(Rate)},
		{"0.1234567890123456789012345678", `"0.1234567890123456789012345678" has no %: write 0.1234567890123456789012345678% or 12.34567890123456789012345678%`, new(Rate)},
		{"106752d", `"106752d" is too long`, new(Duration)},
		{"9223372036854775808B", `"9223372036854775808B" is too large`, new(Size)},
		{"0001-01-01T00:00:00Z", `"0001-01-01T00:00:00Z" is neither a duration such as 7d, nor a time such as 2026-12-24T18:00:00Z, nor forever`, new(Until)},
		{"1..2/s", `"1..2/s" is neither requests per second such as 100/s nor unlimited`, new(RequestRate)},
	} {
		if err := c.v.UnmarshalText([]byte(c.text)); err == nil || err.Error() != c.want {
			t.Errorf("%T: got  %v\nwant %s", c.v, err, c.want)
		}
	}
}

// TestScalarsAgain: whatever a type holds is written so that it is read back.
func TestScalarsAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, v := range []any{
			Rate(rapid.Uint32Range(0, 10000).Draw(t, "rate")),
			Percent(rapid.Uint32Range(0, 10_000_000).Draw(t, "percent")),
			Duration(rapid.Int64Min(0).Draw(t, "duration")),
			Until{After: Duration(rapid.Int64Min(1).Draw(t, "after"))},
			Until{At: time.Unix(rapid.Int64Range(0, 1<<37).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()},
			Size(rapid.Uint64Range(0, math.MaxInt64).Draw(t, "size")),
			ByteRate(rapid.Uint64Range(0, math.MaxInt64).Draw(t, "bytes")),
			RequestRate(rapid.Uint64Range(0, 1e9).Draw(t, "requests")),
			Factor(float64(rapid.Uint64Range(100, 100000).Draw(t, "factor")) / 100),
			Limit{Rate: Rate(rapid.Uint32Range(0, 10000).Draw(t, "limit"))},
		} {
			p := reflect.New(reflect.TypeOf(v))
			written := text(reflect.ValueOf(v))
			if err := p.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(written)); err != nil {
				t.Fatalf("%T %s: %v", v, written, err)
			}
			if got := p.Elem().Interface(); !reflect.DeepEqual(got, v) {
				t.Fatalf("%T %#v is written %s and read %#v", v, v, written, got)
			}
		}
	})
}

func TestUntilEnd(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := start.Add(time.Hour)
	for _, c := range []struct {
		until Until
		want  time.Time
		ok    bool
	}{
		{Until{Forever: true}, time.Time{}, false},
		{Until{After: Duration(7 * day)}, time.Date(2026, 1, 8, 0, 0, 0, 0, time.UTC), true},
		{Until{At: at}, at, true},
	} {
		if got, ok := c.until.End(start); !got.Equal(c.want) || ok != c.ok {
			t.Errorf("%s: got %v %v", c.until, got, ok)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"memory", "max_body", "rings"}
	for _, c := range []struct {
		s, want string
		d       int
	}{
		{"memory", "memory", 0},
		{"MEMORY", "memory", 0},
		{"memroy", "memory", 1},
		{"memry", "memory", 1},
		{"memoryy", "memory", 1},
		{"ring", "rings", 1},
		{"maxbody", "max_body", 1},
		{"", "rings", 5},
	} {
		if got, d := nearest(c.s, names); got != c.want || d != c.d {
			t.Errorf("%q: got %s %d, want %s %d", c.s, got, d, c.want, c.d)
		}
	}
	if got, d := nearest("x", nil); got != "" || d != -1 {
		t.Errorf("got %q %d", got, d)
	}
}
