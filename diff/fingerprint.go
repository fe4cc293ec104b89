package diff

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"
)

// Fingerprint names the way in which two answers differ: the first 16 hex
// digits of SHA-256 over experiment, route, aspect, kind and the generalised
// path, joined by one zero byte. Values are no part of it, with three
// exceptions that stand in the place of the path: for the aspect status the
// pair of statuses with one space between ("200 404"), for the aspect grpc the
// same of its statuses ("0 5"; none without one, other for one that gRPC does
// not define), and for the aspect candidate the error's word. Vectors, for the experiment users and the route
// /users/{id}:
//
//	body       changed  $.items[3].price             f25f3af5a80b1640
//	status     changed  200 and 404                  daa21098e4c5d4d1
//	candidate  error    timeout                      70e9c0df700f51ba
//	header     removed  set-cookie/session/httponly  d54cf9c2832b2ecc
//
// For headers the path is the field's name, with * for a cookie's name that
// IsKeyLike; for all else it is what GeneralisePath makes of it.
func Fingerprint(experiment, route string, d *Difference) string {
	var path string
	switch d.Aspect {
	case AspectStatus:
		path = d.Reference.Text + " " + d.Candidate.Text
	case AspectGRPC:
		path = grpcWord(&d.Reference) + " " + grpcWord(&d.Candidate)
	case AspectCandidate:
		path = d.Candidate.Text
	case AspectHeader, AspectTrailer:
		path = generaliseField(d.Path)
	default:
		path = GeneralisePath(d.Path)
	}
	n := len(experiment) + len(route) + len(d.Aspect) + len(d.Kind) + len(path) + 4
	b := make([]byte, 0, n)
	for i, f := range [...]string{experiment, route, d.Aspect, d.Kind, path} {
		if i > 0 {
			b = append(b, 0)
		}
		b = append(b, f...)
	}
	return hash16(b)
}

// Cause names a whole record: the first 16 hex digits of SHA-256 over the
// sorted distinct fingerprints, joined by newlines. It is for grouping only.
// The caller leaves out what is ignored; "" without any. fingerprints is not
// changed. The first three vectors of Fingerprint have the cause
// ca23d1314595fb1d.
func Cause(fingerprints []string) string {
	if len(fingerprints) == 0 {
		return ""
	}
	f := slices.Clone(fingerprints)
	slices.Sort(f)
	return hash16([]byte(strings.Join(slices.Compact(f), "\n")))
}

func hash16(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// generaliseField puts * for a cookie's name that looks like a key.
func generaliseField(path string) string {
	if i := strings.IndexByte(path, '/'); i >= 0 {
		name, attribute, has := strings.Cut(path[i+1:], "/")
		if IsKeyLike(name) {
			name = "*"
		}
		if path = path[:i+1] + name; has {
			path += "/" + attribute
		}
	}
	return path
}

// GeneralisePath makes one path of all that differ only in array indexes and
// in names that look like keys: [3] becomes [*], and a name that IsKeyLike
// becomes .*. Paths that do not begin with $ are left as they are.
//
//	$.items[3].price                                     $.items[*].price
//	$.users['9b2c2f1e-3c1e-4f0e-9a59-0a6b5f0b8f10'].name  $.users.*.name
//	$.byDay['2026-11-23'].total                          $.byDay.*.total
func GeneralisePath(path string) string {
	if !strings.HasPrefix(path, "$") {
		return path
	}
	b := make([]byte, 0, len(path))
	b = append(b, '$')
	for i := 1; i < len(path); {
		step, n := path[i:], 0
		switch {
		case strings.HasPrefix(step, "['"):
			name, used := quotedStep(step)
			if n = used; IsKeyLike(name) {
				b = append(b, ".*"...)
			} else {
				b = append(b, step[:n]...)
			}
		case step[0] == '[':
			if n = strings.IndexByte(step, ']') + 1; n == 0 {
				n = len(step)
			}
			b = append(b, "[*]"...)
		case step[0] == '.':
			if n = strings.IndexAny(step[1:], ".[") + 1; n == 0 {
				n = len(step)
			}
			if IsKeyLike(step[1:n]) {
				b = append(b, ".*"...)
			} else {
				b = append(b, step[:n]...)
			}
		default: // the mark of a cut path
			n = len(step)
			b = append(b, step...)
		}
		i += n
	}
	return string(b)
}

// quotedStep reads the name of a step ['name'] and gives its length. A step
// that is cut ends with the path.
func quotedStep(step string) (name string, n int) {
	var b strings.Builder
	for i := 2; i < len(step); i++ {
		switch c := step[i]; {
		case c == '\\' && i+1 < len(step):
			// Only what tells keys from words matters here, so the letter
			// after the backslash will do.
			i++
			b.WriteByte(step[i])
		case c == '\'':
			return b.String(), min(i+2, len(step))
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), len(step)
}

// IsKeyLike says whether a member's name looks like the key of a map and not
// like the name of a field: one of
//
//   - a number, date, time, version or IPv4 address: digits first (a sign may
//     stand before them), then digits and . : - + , / T Z and spaces;
//   - a UUID;
//   - an id of hex digits in one letter case, 8 or more with at least one
//     digit, also after 0x;
//   - an e-mail address: something on both sides of an @, no space;
//   - a token: 16 or more letters, digits and _ - + / = . ~, with a letter and
//     at least 3 digits;
//   - anything longer than 64 bytes.
func IsKeyLike(name string) bool {
	switch {
	case name == "":
		return false
	case len(name) > 64:
		return true
	case isNumberLike(name), isUUID(name), isHexID(name), isToken(name):
		return true
	}
	at := strings.IndexByte(name, '@')
	return at > 0 && at < len(name)-1 && !strings.ContainsAny(name, " \t")
}

func isNumberLike(s string) bool {
	if s[0] == '-' || s[0] == '+' {
		s = s[1:]
	}
	if s == "" || s[0] < '0' || s[0] > '9' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && strings.IndexByte(".:-+,/TZ ", c) < 0 {
			return false
		}
	}
	return true
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return false
			}
		} else if _, ok := hexDigit(s[i]); !ok {
			return false
		}
	}
	return true
}

func isHexID(s string) bool {
	if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") {
		s = s[2:]
	}
	if len(s) < 8 {
		return false
	}
	var digit, lower, upper bool
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			digit = true
		case 'a' <= c && c <= 'f':
			lower = true
		case 'A' <= c && c <= 'F':
			upper = true
		default:
			return false
		}
	}
	return digit && !(lower && upper)
}

func isToken(s string) bool {
	if len(s) < 16 || !utf8.ValidString(s) {
		return false
	}
	digits, letters := 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			digits++
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			letters++
		case strings.IndexByte("_-+/=.~", c) < 0:
			return false
		}
	}
	return digits >= 3 && letters > 0
}
