package config

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Rate is a share of all, in hundredths of a percent: 0 is none, 10000 all. In
// text it is a number with a percent sign and at most two decimals, "0.25%".
type Rate uint32

// Hundredths gives the rate in hundredths of a percent.
func (r Rate) Hundredths() uint32 { return uint32(r) }

// ParseRate reads a rate. Without the percent sign it is an error that shows
// both readings, because 0.5 means a half to some and half a percent to others.
func ParseRate(s string) (Rate, error) {
	n, err := parsePercent(s, 10_000)
	return Rate(n), err
}

// String gives the shortest text that ParseRate reads back.
func (r Rate) String() string { return percentText(uint32(r)) }

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRate(string(b))
	return err
}

// Percent is a percentage that may exceed 100, in hundredths of a percent. In
// text it is written as a Rate is.
type Percent uint32

// Hundredths gives the percentage in hundredths of a percent.
func (p Percent) Hundredths() uint32 { return uint32(p) }

// String gives the shortest text that UnmarshalText reads back.
func (p Percent) String() string { return percentText(uint32(p)) }

// MarshalText is String.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads a percentage up to 100000%.
func (p *Percent) UnmarshalText(b []byte) error {
	n, err := parsePercent(string(b), 10_000_000)
	*p = Percent(n)
	return err
}

func parsePercent(s string, most uint64) (uint32, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(s), "%")
	number = strings.TrimSpace(number)
	whole, fraction, point := strings.Cut(number, ".")
	if strings.HasPrefix(number, "-") && digits(strings.Replace(number[1:], ".", "", 1)) {
		return 0, fmt.Errorf("%s is negative", shown(s))
	}
	if !digits(whole) || point && !digits(fraction) {
		return 0, fmt.Errorf("%s is no percentage: write a number with %%, such as 10%% or 0.25%%", shown(s))
	}
	if !percent {
		return 0, fmt.Errorf("%s has no %%: write %s", shown(s), readings(number, most))
	}
	if len(fraction) > 2 {
		return 0, fmt.Errorf("%s has more than two decimals", shown(s))
	}
	n, err := strconv.ParseUint(whole+(fraction + "00")[:2], 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("%s is more than %s", shown(s), percentText(uint32(most)))
	}
	return uint32(n), nil
}

// readings gives what a number without a unit may mean: so many percent, or so
// many times all. Readings that would be out of range are left out.
func readings(number string, most uint64) string {
	percent := number + "%"
	limit := new(big.Rat).SetFrac64(int64(most), 100)
	value, ok := new(big.Rat).SetString(number)
	if !ok || len(number) > 32 || value.Cmp(limit) > 0 {
		return "a percentage up to " + percentText(uint32(most))
	}
	share := new(big.Rat).Mul(value, big.NewRat(100, 1))
	if value.Sign() == 0 || share.Cmp(limit) > 0 {
		return percent
	}
	whole, fraction, _ := strings.Cut(share.FloatString(32), ".")
	if fraction = strings.TrimRight(fraction, "0"); fraction != "" {
		whole += "." + fraction
	}
	return percent + " or " + whole + "%"
}

func percentText(n uint32) string {
	s := strconv.FormatUint(uint64(n/100), 10)
	if f := n % 100; f > 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%02d", f), "0")
	}
	return s + "%"
}

// digits says whether s is one or more ASCII digits.
func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// Duration is a length of time. In text it is written as Go writes one, and
// days are allowed in front: "1500ms", "2s", "1h30m", "7d", "1d12h". It is never
// negative.
type Duration time.Duration

// D gives it as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

const day = 24 * time.Hour

// String gives the shortest text that UnmarshalText reads back.
func (d Duration) String() string {
	t := time.Duration(d)
	if t <= 0 {
		return "0s"
	}
	var b strings.Builder
	if t >= day {
		fmt.Fprintf(&b, "%dd", t/day)
		t %= day
	}
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}} {
		if t >= u.unit {
			fmt.Fprintf(&b, "%d%s", t/u.unit, u.name)
			t %= u.unit
		}
	}
	if t > 0 {
		b.WriteString(t.String())
	}
	return b.String()
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	t, err := parseDuration(string(b))
	*d = Duration(t)
	return err
}

func parseDuration(s string) (time.Duration, error) {
	fail := func() (time.Duration, error) {
		return 0, fmt.Errorf("%s is no duration: write a number with ms, s, m, h or d, such as 500ms, 2s or 7d", shown(s))
	}
	switch {
	case s == "0":
		return 0, nil
	case strings.HasPrefix(s, "-"):
		if _, err := time.ParseDuration(s); err == nil || digits(s[1:]) {
			return 0, fmt.Errorf("%s is negative", shown(s))
		}
		return fail()
	case s == "" || s[0] == '+':
		return fail()
	case digits(s):
		return 0, fmt.Errorf("%s has no unit: write %sms, %ss or %sm", shown(s), s, s, s)
	}
	var days time.Duration
	rest := s
	if n, after, ok := strings.Cut(s, "d"); ok && digits(n) {
		v, err := strconv.ParseUint(n, 10, 32)
		if err != nil || v > uint64(math.MaxInt64/day) {
			return 0, fmt.Errorf("%s is too long", shown(s))
		}
		days, rest = time.Duration(v)*day, after
		if rest == "" {
			return days, nil
		}
	}
	t, err := time.ParseDuration(rest)
	if err != nil || t < 0 || rest[0] == '+' || rest[0] == '-' {
		return fail()
	}
	if days > math.MaxInt64-t {
		return 0, fmt.Errorf("%s is too long", shown(s))
	}
	return days + t, nil
}

// Until is when something ends: after a duration from the start of the agent,
// at a time, or never. In text: "7d", "2026-12-24T18:00:00Z" or "forever".
type Until struct {
	// Forever: it does not end. The other two are zero then.
	Forever bool
	// At is the time, zero when it is a duration.
	At time.Time
	// After is the duration from the start of the agent.
	After Duration
}

// End gives the time for an agent that started then; false for never.
func (u Until) End(start time.Time) (time.Time, bool) {
	switch {
	case u.Forever:
		return time.Time{}, false
	case !u.At.IsZero():
		return u.At, true
	}
	return start.Add(u.After.D()), true
}

// String gives the text that UnmarshalText reads back.
func (u Until) String() string {
	switch {
	case u.Forever:
		return "forever"
	case !u.At.IsZero():
		return u.At.Format(time.RFC3339Nano)
	}
	return u.After.String()
}

// MarshalText is String.
func (u Until) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads a duration, an RFC 3339 time or "forever".
func (u *Until) UnmarshalText(b []byte) error {
	s := string(b)
	*u = Until{}
	if s == "forever" {
		u.Forever = true
		return nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil && t.Year() > 1 {
		u.At = t.UTC()
		return nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return fmt.Errorf("%s has no time of day: write %s", shown(s), t.Format(time.RFC3339))
	}
	t, err := parseDuration(s)
	switch {
	case err == nil && t == 0:
		return fmt.Errorf("%s ends at once: to switch an experiment off write enabled: false", shown(s))
	case err == nil:
		u.After = Duration(t)
		return nil
	case strings.Contains(err.Error(), "is no duration"):
		return fmt.Errorf("%s is neither a duration such as 7d, nor a time such as 2026-12-24T18:00:00Z, nor forever", shown(s))
	}
	return err
}

// Size is a number of bytes. In text it has a unit: B, KiB, MiB, GiB, TiB (powers
// of 1024) or KB, MB, GB, TB (powers of 1000).
type Size uint64

// Bytes gives the number of bytes; it fits an int64.
func (s Size) Bytes() int64 { return int64(s) }

type sizeUnit struct {
	name  string
	bytes uint64
}

var sizeUnits = []sizeUnit{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// String gives the shortest text that UnmarshalText reads back.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s > 0 && uint64(s)%u.bytes == 0 {
			return strconv.FormatUint(uint64(s)/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// MarshalText is String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(b []byte) error {
	n, err := parseSize(string(b))
	*s = Size(n)
	return err
}

const maxSize = math.MaxInt64

func parseSize(s string) (uint64, error) {
	i := 0
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.') {
		i++
	}
	number, unit := s[:i], strings.TrimSpace(s[i:])
	whole, fraction, point := strings.Cut(number, ".")
	switch {
	case strings.HasPrefix(s, "-"):
		return 0, fmt.Errorf("%s is negative", shown(s))
	case !digits(whole) || point && !digits(fraction):
		return 0, fmt.Errorf("%s is no size: write a number with B, KiB, MiB, GiB, KB, MB or GB, such as 64MiB", shown(s))
	case unit == "":
		return 0, fmt.Errorf("%s has no unit: write %sB, %sKiB or %sMiB", shown(s), number, number, number)
	}
	for _, u := range sizeUnits {
		if u.name != unit {
			continue
		}
		v, ok := new(big.Rat).SetString(number)
		if !ok || len(number) > 64 {
			return 0, fmt.Errorf("%s is no size", shown(s))
		}
		v.Mul(v, new(big.Rat).SetInt(new(big.Int).SetUint64(u.bytes)))
		switch {
		case !v.IsInt():
			return 0, fmt.Errorf("%s is no whole number of bytes", shown(s))
		case v.Num().Cmp(big.NewInt(maxSize)) > 0:
			return 0, fmt.Errorf("%s is too large", shown(s))
		}
		return v.Num().Uint64(), nil
	}
	// 64Mi is Kubernetes' spelling, 64M is Docker's.
	for _, u := range sizeUnits {
		if strings.EqualFold(u.name, unit) || u.name != "B" && strings.EqualFold(strings.TrimSuffix(u.name, "B"), unit) {
			return 0, fmt.Errorf("%s: the unit %s is not known: write %s%s", shown(s), shown(unit), number, u.name)
		}
	}
	return 0, fmt.Errorf("%s: the unit %s is not known: write B, KiB, MiB, GiB, KB, MB or GB", shown(s), shown(unit))
}

// ByteRate is a number of bytes per second; 0 is unlimited. In text it is a size
// with "/s", "1GiB/s", or "unlimited".
type ByteRate uint64

// String gives the text that UnmarshalText reads back.
func (r ByteRate) String() string {
	if r == 0 {
		return "unlimited"
	}
	return Size(r).String() + "/s"
}

// MarshalText is String.
func (r ByteRate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a number of bytes per second.
func (r *ByteRate) UnmarshalText(b []byte) error {
	s := string(b)
	*r = 0
	if s == "unlimited" {
		return nil
	}
	size, per := strings.CutSuffix(s, "/s")
	n, err := parseSize(strings.TrimSpace(size))
	switch {
	case err != nil && strings.ContainsAny(size, "0123456789"):
		return fmt.Errorf("%w, with /s behind it, such as 1GiB/s", err)
	case err != nil:
		return fmt.Errorf("%s is neither bytes per second such as 1GiB/s nor unlimited", shown(s))
	case !per:
		return fmt.Errorf("%s has no /s: write %s/s", shown(s), Size(n))
	case n == 0:
		return fmt.Errorf("%s would let nothing through: write unlimited for no limit", shown(s))
	}
	*r = ByteRate(n)
	return nil
}

// RequestRate is a number of requests per second; 0 is unlimited. In text it is a
// number with "/s", "100/s" or "0.5/s", or "unlimited".
type RequestRate float64

// String gives the text that UnmarshalText reads back.
func (r RequestRate) String() string {
	if r == 0 {
		return "unlimited"
	}
	return strconv.FormatFloat(float64(r), 'f', -1, 64) + "/s"
}

// MarshalText is String.
func (r RequestRate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

const maxRequestRate = 1e9

// UnmarshalText reads a number of requests per second.
func (r *RequestRate) UnmarshalText(b []byte) error {
	s := string(b)
	*r = 0
	if s == "unlimited" {
		return nil
	}
	number, per := strings.CutSuffix(s, "/s")
	v, ok := decimal(strings.TrimSpace(number))
	switch {
	case !ok:
		return fmt.Errorf("%s is neither requests per second such as 100/s nor unlimited", shown(s))
	case !per:
		return fmt.Errorf("%s has no /s: write %s/s", shown(s), s)
	case v == 0:
		return fmt.Errorf("%s would let nothing through: write unlimited for no limit", shown(s))
	case v > maxRequestRate:
		return fmt.Errorf("%s is too large: write unlimited for no limit", shown(s))
	}
	*r = RequestRate(v)
	return nil
}

// decimal reads digits with at most one point between them.
func decimal(s string) (float64, bool) {
	whole, fraction, point := strings.Cut(s, ".")
	if !digits(whole) || point && !digits(fraction) || len(s) > 32 {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

// Factor is how many times something may be larger; 0 is off. In text it is a
// plain number from 1, "1.25", or "off".
type Factor float64

// String gives the text that UnmarshalText reads back.
func (f Factor) String() string {
	if f == 0 {
		return "off"
	}
	return strconv.FormatFloat(float64(f), 'f', -1, 64)
}

// MarshalText is String.
func (f Factor) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads a factor.
func (f *Factor) UnmarshalText(b []byte) error {
	s := string(b)
	*f = 0
	if s == "off" {
		return nil
	}
	v, ok := decimal(s)
	switch {
	case !ok && strings.HasSuffix(s, "%"):
		return fmt.Errorf("%s is a percentage: write how many times, such as 1.25 for a quarter more", shown(s))
	case !ok:
		return fmt.Errorf("%s is neither how many times, such as 1.25, nor off", shown(s))
	case v < 1:
		return fmt.Errorf("%s is less than 1: write how many times, such as 1.25, or off", shown(s))
	case v > 1000:
		return fmt.Errorf("%s is more than 1000: write off for no limit", shown(s))
	}
	*f = Factor(v)
	return nil
}

// Limit is a Rate that can be switched off. In text it is a Rate or "off".
type Limit struct {
	// Off: there is no limit. Rate is 0 then.
	Off bool
	// Rate is the limit.
	Rate Rate
}

// String gives the text that UnmarshalText reads back.
func (l Limit) String() string {
	if l.Off {
		return "off"
	}
	return l.Rate.String()
}

// MarshalText is String.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads a rate or "off".
func (l *Limit) UnmarshalText(b []byte) error {
	*l = Limit{}
	if string(b) == "off" {
		l.Off = true
		return nil
	}
	return l.Rate.UnmarshalText(b)
}
