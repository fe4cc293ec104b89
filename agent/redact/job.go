package redact

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strings"
	"unicode/utf16"
)

// job is the redaction of one record. It belongs to one goroutine.
type job struct {
	r *Redactor
	// tokens are those of the keys at the record's beginning.
	tokens *tokens
	// collecting: secrets are gathered into known and nothing is hashed.
	collecting bool
	known      []knownSecret
	// replacer puts tokens in the place of known secrets; nil without any.
	replacer *strings.Replacer
	// secretParams are the path parameters marked secret, names in any case.
	secretParams []string
	// keyLines are the lines of private keys that stand in bodies: a difference
	// of text may show one alone, by which nobody can tell what it is.
	keyLines map[string]bool
	// nested is how many multiparts are open around the one being read.
	nested int
}

func newJob(r *Redactor) *job { return &job{r: r, tokens: r.tokens.Load()} }

// knownSecret is a value that was found by its place, the name it had, and how
// it was spelled there when that is another text.
type knownSecret struct{ field, value, spelled string }

// maxKnown bounds the values that are looked for elsewhere in a record. Beyond
// it a value is still redacted in its own place.
const maxKnown = 256

// token is what stands in place of value.
func (j *job) token(field, value string) string {
	if j.collecting {
		return ""
	}
	return j.tokens.token(field, value)
}

// secret is token for a value that was found by its place, where it was spelled
// as given; the value is then known and replaced elsewhere too. weak values,
// such as a cookie's, are often ordinary words: they are looked for only if
// they look like none.
func (j *job) secret(field, value, spelled string, weak bool) string {
	j.learn(field, value, spelled, weak)
	return j.token(field, value)
}

// learn remembers a value that was found by its place, while collecting.
func (j *job) learn(field, value, spelled string, weak bool) {
	n := len(value)
	if !j.collecting || n < 6 || n > 16<<10 || len(j.known) == maxKnown {
		return
	}
	if weak && n < 12 && (n < 8 || !strings.ContainsAny(value, "0123456789")) {
		return
	}
	switch value {
	case "undefined", "[object Object]":
		return
	}
	if spelled == value {
		spelled = ""
	}
	j.known = append(j.known, knownSecret{field, value, spelled})
}

// learned ends collecting: from here on known values are replaced.
func (j *job) learned() {
	j.collecting = false
	if len(j.known) == 0 {
		return
	}
	// The longest first, so that a secret that holds another is taken whole;
	// the first field of equal values names it.
	sort.SliceStable(j.known, func(a, b int) bool { return len(j.known[a].value) > len(j.known[b].value) })
	pairs := make([]string, 0, 12*len(j.known))
	seen := make(map[string]bool, 6*len(j.known))
	for _, k := range j.known {
		// A token that is made only where it is needed would spare its hash,
		// but then the order of first appearance would hang on where the value
		// stands elsewhere.
		token := j.tokens.token(k.field, k.value)
		for _, spelling := range spellings(k) {
			if spelling != "" && !seen[spelling] {
				seen[spelling] = true
				pairs = append(pairs, spelling, token)
			}
		}
	}
	j.replacer = strings.NewReplacer(pairs...)
}

// spellings are the forms in which a known value may stand elsewhere: as it is,
// in a URL, in JSON (also with the escapes of Go's and of ASCII encoders, and
// in JSON within JSON), in HTML, and in base64.
func spellings(k knownSecret) []string {
	v := k.value
	inJSON := jsonEscape(v)
	return []string{
		v, k.spelled, url.QueryEscape(v), url.PathEscape(v), lowerEscapes(url.QueryEscape(v)), inJSON, jsonEscape(inJSON), jsonASCII(v, false),
		jsonASCII(v, true), jsonEscape(jsonASCII(v, true)), html.EscapeString(v),
		base64.StdEncoding.EncodeToString([]byte(v)), base64.RawURLEncoding.EncodeToString([]byte(v)),
	}
}

// lowerEscapes spells the hex digits of %NN in lower case.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			b[i+1], b[i+2] = lower(b[i+1]), lower(b[i+2])
		}
	}
	return string(b)
}

// jsonASCII is the inside of a JSON string that escapes everything beyond
// ASCII, or with markup the characters of HTML instead, as encoding/json does.
func jsonASCII(s string, markup bool) string {
	var b strings.Builder
	for _, r := range jsonEscape(s) {
		switch {
		case markup && (r == '<' || r == '>' || r == '&'), !markup && r >= 0x80 && r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		case !markup && r >= 0x10000:
			r1, r2 := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, r1, r2)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// text redacts a free text: what is known, what has the form of a secret, and
// what the patterns of the rules match. While collecting it changes nothing.
func (j *job) text(s string) string {
	if s == "" {
		return s
	}
	if j.collecting {
		j.scan(s)
		return s
	}
	s = j.scan(j.knownIn(s))
	for _, re := range j.r.patterns {
		s = j.match(re, s)
	}
	return s
}

// knownIn replaces known secrets only. What is taken apart at its punctuation
// goes through it first: a secret may hold that punctuation.
func (j *job) knownIn(s string) string {
	if j.replacer == nil {
		return s
	}
	return j.replacer.Replace(s)
}

// match replaces what re matches in s. An earlier token that a match only
// touches goes with it, so that nothing the pattern names is left; a match
// inside a token is none.
func (j *job) match(re *regexp.Regexp, s string) string {
	var cuts [][2]int
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		first := 2
		if len(m) == 2 {
			first = 0
		}
		for g := first; g < len(m); g += 2 {
			if m[g] < m[g+1] {
				cuts = append(cuts, [2]int{m[g], m[g+1]})
			}
		}
	}
	if cuts == nil {
		return s
	}
	slices.SortFunc(cuts, func(a, b [2]int) int { return cmp.Compare(a[0], b[0]) })
	spans := j.tokens.spans(s)
	var out strings.Builder
	done := 0
	for _, c := range cuts {
		from, to := max(c[0], done), c[1]
		for len(spans) > 0 && spans[0][1] <= from {
			spans = spans[1:]
		}
		if len(spans) > 0 && spans[0][0] <= from && to <= spans[0][1] || from >= to {
			continue
		}
		for _, t := range spans {
			if t[0] < to {
				from, to = max(min(from, t[0]), done), max(to, t[1])
			}
		}
		out.WriteString(s[done:from])
		out.WriteString(j.token(fieldPattern, s[from:to]))
		done = to
	}
	out.WriteString(s[done:])
	return out.String()
}

// spans lists where tokens stand in s.
func (t *tokens) spans(s string) [][2]int {
	var spans [][2]int
	for i := 0; ; {
		k := strings.IndexByte(s[i:], '~')
		if k < 0 {
			return spans
		}
		i += k
		if n := t.at(s, i); n > 0 {
			spans = append(spans, [2]int{i, i + n})
			i += n
		} else {
			i++
		}
	}
}

// paramSecret says whether a query, form or path parameter is a secret.
func (j *job) paramSecret(name string) bool {
	return j.r.params.secret(name, secretName)
}

// keySecret says whether a JSON key is a secret.
func (j *job) keySecret(key string) bool {
	return j.r.keys.secret(key)
}
