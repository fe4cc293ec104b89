package diff

import (
	"bytes"
	"strconv"
)

// This file compares JSON numbers as the decimal numbers that they are, of any
// size, in time linear in their text. No float is made of them: 2^53 would
// hide differences, and 1e1000000000 would be no number at all.

// decimal is a number's text taken apart: its value is the significant digits
// of mantissa, taken as a whole number, times 10 to the power of exponent +
// shift.
type decimal struct {
	negative bool
	// mantissa begins and ends with a digit that is not 0 and may have a dot
	// between; empty for zero.
	mantissa []byte
	digits   int // in mantissa
	shift    int64
	expNeg   bool
	exponent []byte // digits without leading zeros
}

// parseDecimal takes apart a number that the tokenizer has checked.
func parseDecimal(b []byte) decimal {
	var d decimal
	if b[0] == '-' {
		d.negative = true
		b = b[1:]
	}
	if e := bytes.IndexAny(b, "eE"); e >= 0 {
		x := b[e+1:]
		b = b[:e]
		if x[0] == '-' || x[0] == '+' {
			d.expNeg = x[0] == '-'
			x = x[1:]
		}
		d.exponent = bytes.TrimLeft(x, "0")
	}
	fraction := 0
	if dot := bytes.IndexByte(b, '.'); dot >= 0 {
		fraction = len(b) - dot - 1
	}
	m := bytes.TrimLeft(b, "0.")
	if len(m) == 0 {
		return decimal{} // zero; -0 is 0
	}
	// What is cut at the end: zeros behind the dot change nothing, zeros
	// before it count.
	trimmed := bytes.TrimRight(m, "0.")
	d.digits = len(trimmed)
	if bytes.IndexByte(trimmed, '.') >= 0 {
		d.digits--
	}
	cut := len(m) - len(trimmed)
	if bytes.IndexByte(m[len(trimmed):], '.') >= 0 {
		cut--
	}
	d.mantissa = trimmed
	d.shift = int64(cut - fraction)
	return d
}

// smallExponent gives exponent + shift when the exponent has at most 18
// digits; the sum is then far from overflow.
func (d *decimal) smallExponent() (int64, bool) {
	if len(d.exponent) > 18 {
		return 0, false
	}
	var e int64
	for _, c := range d.exponent {
		e = e*10 + int64(c-'0')
	}
	if d.expNeg {
		e = -e
	}
	return e + d.shift, true
}

// bigExponent gives exponent + shift as text, for exponents of any length.
func (d *decimal) bigExponent() string {
	if e, ok := d.smallExponent(); ok {
		return strconv.FormatInt(e, 10)
	}
	// The exponent has more than 18 digits and shift fewer than 11, so the
	// sign stays and the carry ends within the digits or one before them.
	carry := d.shift
	if d.expNeg {
		carry = -carry
	}
	sum := make([]byte, len(d.exponent)+1)
	for i := len(d.exponent) - 1; i >= 0; i-- {
		carry += int64(d.exponent[i] - '0')
		digit := carry % 10
		if digit < 0 {
			digit += 10
		}
		sum[i+1] = byte('0' + digit)
		carry = (carry - digit) / 10
	}
	sum[0] = byte('0' + carry)
	sum = bytes.TrimLeft(sum, "0")
	if d.expNeg {
		return "-" + string(sum)
	}
	return string(sum)
}

// equalNumber says whether two numbers' texts stand for the same number.
func equalNumber(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, y := parseDecimal(a), parseDecimal(b)
	if x.negative != y.negative || x.digits != y.digits {
		return false
	}
	if x.digits == 0 {
		return true
	}
	for i, j := 0, 0; i < len(x.mantissa) && j < len(y.mantissa); i, j = i+1, j+1 {
		if x.mantissa[i] == '.' {
			i++
		}
		if y.mantissa[j] == '.' {
			j++
		}
		if x.mantissa[i] != y.mantissa[j] {
			return false
		}
	}
	ex, okX := x.smallExponent()
	ey, okY := y.smallExponent()
	if okX && okY {
		return ex == ey
	}
	return x.bigExponent() == y.bigExponent()
}

// appendCanonical appends a text that is the same for equal numbers and, but
// for exponents of more than 18 digits, different for others.
func appendCanonical(dst, number []byte) []byte {
	d := parseDecimal(number)
	if d.digits == 0 {
		return append(dst, '0')
	}
	if d.negative {
		dst = append(dst, '-')
	}
	for _, c := range d.mantissa {
		if c != '.' {
			dst = append(dst, c)
		}
	}
	dst = append(dst, 'e')
	if e, ok := d.smallExponent(); ok {
		return strconv.AppendInt(dst, e, 10)
	}
	return append(dst, d.bigExponent()...)
}
