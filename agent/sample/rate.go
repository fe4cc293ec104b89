package sample

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// fullRate is 100 % in hundredths of a percent.
const fullRate = 10_000

// Rate is a share of all, in hundredths of a percent.
type Rate struct {
	// Hundredths is 0 (none) to 10000 (all).
	Hundredths uint32
}

// ParseRate reads a rate such as "10%" or "0.25%": a number from 0 to 100 with
// at most two decimals and a percent sign. Without the sign it is an error that
// shows both readings, because 0.1 has been taken for a tenth and for a
// thousandth.
func ParseRate(s string) (Rate, error) {
	text := strings.TrimSpace(s)
	number, percent := strings.CutSuffix(text, "%")
	number = strings.TrimSpace(number)
	whole, fraction, point := strings.Cut(number, ".")
	if !digits(whole) || point && !digits(fraction) {
		return Rate{}, fmt.Errorf("rate %q: want a percentage such as 10%% or 0.25%%", s)
	}
	if !percent {
		return Rate{}, fmt.Errorf("rate %q has no unit: %s", s, bothReadings(number))
	}
	if len(fraction) > 2 {
		return Rate{}, fmt.Errorf("rate %q: at most two decimals", s)
	}
	w, err := strconv.ParseUint(whole, 10, 32)
	f, _ := strconv.ParseUint((fraction + "00")[:2], 10, 32)
	if err != nil || w > 100 || w == 100 && f > 0 {
		return Rate{}, fmt.Errorf("rate %q: more than 100%%", s)
	}
	return Rate{Hundredths: uint32(w*100 + f)}, nil
}

// bothReadings says what a number without a unit could mean: percent, or a
// share of one.
func bothReadings(number string) string {
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || v > 100 {
		return fmt.Sprintf("%s%% and %s times all are both more than 100%%", number, number)
	}
	share := strconv.FormatFloat(v*100, 'f', -1, 64)
	if rounded := strconv.FormatFloat(v*100, 'f', 6, 64); len(rounded) < len(share) {
		share = strings.TrimRight(strings.TrimRight(rounded, "0"), ".")
	}
	if v > 1 {
		return fmt.Sprintf("write %s%% if you mean %s of 100; as a share of one it would be %s%%, more than all", number, number, share)
	}
	return fmt.Sprintf("write %s%% if you mean %s of 100, or %s%% if you mean %s of 1", number, number, share, number)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// String gives the shortest text that ParseRate reads back.
func (r Rate) String() string {
	s := strconv.FormatUint(uint64(r.Hundredths/100), 10)
	if f := r.Hundredths % 100; f > 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%02d", f), "0")
	}
	return s + "%"
}

// Fraction is the rate as a share of one.
func (r Rate) Fraction() float64 { return float64(r.Hundredths) / fullRate }

// MarshalText is String.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseRate.
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRate(string(b))
	return err
}

// takes applies the rate to a number from a hash: the whole percents decide by
// v mod 100, a fraction of a percent by the next two decimal digits.
func (r Rate) takes(v uint32) bool {
	percent, whole := v%100, r.Hundredths/100
	return percent < whole || percent == whole && v/100%100 < r.Hundredths%100
}

// Keep says whether key is in the sampled share. The same key, salt and rate
// always give the same answer, and what is kept at a rate is kept at every
// higher one.
//
// The number behind it is the first four bytes, big-endian, of SHA-256 over
// the salt, a zero byte and the key. With an empty salt it is SHA-256 over the
// key alone, which is the rule of the request-shadow crate.
func Keep(key, salt string, rate Rate) bool {
	if salt != "" {
		key = salt + "\x00" + key
	}
	return rate.takes(number(sha256.Sum256([]byte(key))))
}

// number is the number that a hash stands for.
func number(sum [sha256.Size]byte) uint32 { return binary.BigEndian.Uint32(sum[:4]) }

// all says whether the rate takes everything, so that no hash is needed.
func (r Rate) all() bool { return r.Hundredths >= fullRate }
