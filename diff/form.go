package diff

import (
	"bytes"
	"slices"
)

// formBody compares two bodies of application/x-www-form-urlencoded by their
// fields. Fields of one name keep their order; that of different names does not
// matter. The syntax is the URL Standard's, which no body can break: what is no
// escape stands for itself.
func (c *comparison) formBody(ref, cand []byte) {
	a, b := formFields(ref, c.rules.limits.values), formFields(cand, c.rules.limits.values)
	if a == nil || b == nil {
		c.addAt(KindNotFullyCompared, c.base, c.bytesValue(ref, 0), c.bytesValue(cand, 0), detailValues)
		return
	}
	// A name that stands twice on either side has an array on both.
	many := map[string]bool{}
	for _, f := range [][]formField{a, b} {
		for i := 1; i < len(f); i++ {
			if f[i].name == f[i-1].name {
				many[f[i].name] = true
			}
		}
	}
	c.jsonBody(formJSON(a, many), formJSON(b, many))
}

type formField struct{ name, value string }

// formFields reads fields, sorted by name and else in their order; nil when
// there are more than most values.
func formFields(body []byte, most int) []formField {
	body = bytes.TrimRight(body, "\r\n")
	n := bytes.Count(body, []byte{'&'}) + 1
	if 2*n >= most {
		return nil
	}
	all := make([]formField, 0, n)
	for len(body) > 0 {
		one := body
		if i := bytes.IndexByte(body, '&'); i >= 0 {
			one, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		if len(one) == 0 {
			continue
		}
		name, value, _ := bytes.Cut(one, []byte{'='})
		all = append(all, formField{formDecode(name), formDecode(value)})
	}
	slices.SortStableFunc(all, func(a, b formField) int { return compareText(a.name, b.name) })
	return all
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func formDecode(b []byte) string {
	if bytes.IndexByte(b, '+') >= 0 {
		b = bytes.ReplaceAll(b, []byte{'+'}, []byte{' '})
	}
	return percentDecode(string(b))
}

// formJSON writes sorted fields as a JSON object, names in many with arrays.
func formJSON(fields []formField, many map[string]bool) []byte {
	b := []byte{'{'}
	for i := 0; i < len(fields); {
		if i > 0 {
			b = append(b, ',')
		}
		name := fields[i].name
		b = append(appendString(b, name), ':')
		if !many[name] {
			b = appendString(b, fields[i].value)
			i++
			continue
		}
		for open := byte('['); i < len(fields) && fields[i].name == name; i++ {
			b = appendString(append(b, open), fields[i].value)
			open = ','
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendString appends a JSON string. Bytes that are no UTF-8 stay as they are,
// as in the bodies that the tokenizer reads.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
