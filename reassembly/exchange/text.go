package exchange

import "unicode/utf8"

// Latin1 gives each byte of s as the character of its number, as ISO 8859-1 has it,
// for where bytes must be text and not all that is sent is UTF-8. ASCII is as it
// was.
func Latin1(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			out := make([]rune, len(s))
			for i := range out {
				out[i] = rune(s[i])
			}
			return string(out)
		}
	}
	return s
}
