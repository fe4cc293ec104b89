package redact

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep objects and arrays are followed; deeper text is
// redacted as free text.
const maxDepth = 512

// frame is one open object or array of a walk.
type frame struct {
	object bool
	index  int
}

// walker redacts JSON text, keeping its spelling and white space. It is a
// tokenizer, not a decoder: what is no JSON, from the first wrong byte on, is
// redacted as free text, so that a broken body hides nothing and loses nothing.
type walker struct {
	j     *job
	s     string
	i     int // the next byte of s
	done  int // s[:done] is in out
	out   strings.Builder
	stack []frame
	// reached holds for each open frame, after each other, the places reached
	// in each path of the rules.
	reached []uint64
}

// json redacts a JSON text whose root stands at base.
func (j *job) json(s string, base []pathElement) string {
	w := walker{j: j, s: s}
	if n := len(j.r.paths); n > 0 {
		start := make([]uint64, n)
		for k := range start {
			start[k] = 1
		}
		for _, e := range base {
			for k, p := range j.r.paths {
				start[k] = p.step(start[k], e)
			}
		}
		w.reached = start
	}
	if strings.HasPrefix(s, "\ufeff") {
		w.i = len("\ufeff")
	}
	w.values()
	if w.done == 0 {
		return s
	}
	w.out.WriteString(s[w.done:])
	return w.out.String()
}

// replace puts text in place of s[from:to].
func (w *walker) replace(from, to int, text string) {
	w.out.WriteString(w.s[w.done:from])
	w.out.WriteString(text)
	w.done = to
}

// rest redacts everything from from on, but for what is done, as free text and
// ends the walk.
func (w *walker) rest(from int) {
	from = max(from, w.done)
	tail := w.s[from:]
	if red := w.j.text(tail); red != tail {
		w.replace(from, len(w.s), red)
	}
	w.i = len(w.s)
}

func (w *walker) space() {
	for w.i < len(w.s) {
		switch w.s[w.i] {
		case ' ', '\t', '\n', '\r', 0x1e: // RFC 7464 puts a record separator before values
			w.i++
		default:
			return
		}
	}
}

// values walks any number of values behind each other, as in NDJSON.
func (w *walker) values() {
	for {
		w.space()
		if w.i == len(w.s) {
			return
		}
		if len(w.stack) == 0 {
			if !w.value(pathElement{}, "", true) {
				return
			}
			continue
		}
		f := &w.stack[len(w.stack)-1]
		switch c := w.s[w.i]; {
		case c == '}' && f.object, c == ']' && !f.object:
			w.i++
			w.pop()
			continue
		case c == ',':
			w.i++
			w.space()
			if w.i == len(w.s) {
				return
			}
		}
		if f.object {
			if !w.member() {
				return
			}
			continue
		}
		e := pathElement{index: f.index, isIndex: true}
		f.index++
		if !w.value(e, "", false) {
			return
		}
	}
}

// member walks a key and its value.
func (w *walker) member() bool {
	from := w.i
	if w.s[w.i] != '"' {
		w.rest(from)
		return false
	}
	key, ok := w.str()
	if !ok {
		w.rest(from)
		return false
	}
	if red := w.j.text(key); red != key {
		w.replace(from, w.i, quote(red))
	}
	w.space()
	if w.i == len(w.s) {
		return false
	}
	if w.s[w.i] != ':' {
		w.rest(from)
		return false
	}
	w.i++
	w.space()
	if w.i == len(w.s) {
		return false
	}
	return w.value(pathElement{name: key}, key, false)
}

// value walks or replaces the value at w.i, which stands at e in the frame on
// top. It says whether the walk goes on.
func (w *walker) value(e pathElement, key string, root bool) bool {
	from := w.i
	paths := len(w.j.r.paths)
	secret := !root && key != "" && w.j.keySecret(key)
	if paths > 0 {
		// What is reached for this value goes on the stack; a scalar takes it
		// off again.
		at := len(w.reached) - paths
		if root {
			at = 0
			w.reached = append(w.reached[:paths], w.reached[:paths]...)
		} else {
			for k, p := range w.j.r.paths {
				w.reached = append(w.reached, p.step(w.reached[at+k], e))
			}
		}
		for k, p := range w.j.r.paths {
			if w.reached[len(w.reached)-paths+k]&(1<<len(p)) != 0 {
				secret = true
			}
		}
	}
	if secret {
		if paths > 0 {
			w.reached = w.reached[:len(w.reached)-paths]
		}
		if key == "" {
			key = "json"
		}
		return w.secret(key)
	}
	switch c := w.s[w.i]; c {
	case '{', '[':
		if len(w.stack) == maxDepth {
			w.rest(from)
			return false
		}
		w.i++
		w.stack = append(w.stack, frame{object: c == '{'})
		return true
	case '"':
		text, ok := w.str()
		if !ok {
			w.rest(from)
			return false
		}
		if red := w.j.text(text); red != text {
			w.replace(from, w.i, quote(red))
		}
	default:
		if !w.bare() {
			w.rest(from)
			return false
		}
		switch raw := w.s[from:w.i]; {
		case raw == "null", raw == "true", raw == "false":
		case isNumber(raw[0]):
			if red := w.j.text(raw); red != raw {
				w.replace(from, w.i, quote(red))
			}
		default: // no JSON
			w.rest(from)
			return false
		}
	}
	if paths > 0 {
		w.reached = w.reached[:len(w.reached)-paths]
	}
	return true
}

func (w *walker) pop() {
	w.stack = w.stack[:len(w.stack)-1]
	if n := len(w.j.r.paths); n > 0 {
		w.reached = w.reached[:len(w.reached)-n]
	}
}

// secret replaces the value at w.i, of whatever kind, by its token. null, true
// and false stay: they are no secrets, and a change of kind is worth seeing.
func (w *walker) secret(key string) bool {
	from := w.i
	field := strings.ToLower(key)
	switch c := w.s[w.i]; c {
	case '"':
		text, ok := w.str()
		if !ok { // cut: all of the rest is this value
			text = w.s[from+1:]
			w.i = len(w.s)
		}
		if text != "" {
			spelled := strings.Trim(w.s[from:w.i], `"`)
			w.replace(from, w.i, quote(w.j.secret(field, text, spelled, false)))
		}
	case '{', '[':
		end := w.skip()
		raw := w.s[from:end]
		w.i = end
		if w.j.collecting {
			w.j.learnAll(field, raw)
		}
		w.replace(from, end, quote(w.j.secret(field, raw, "", false)))
	default:
		if !w.bare() {
			w.rest(from)
			return false
		}
		switch raw := w.s[from:w.i]; raw {
		case "null", "true", "false":
		default:
			w.replace(from, w.i, quote(w.j.secret(field, raw, "", false)))
		}
	}
	return true
}

// learnAll learns every string and number inside a secret object or array.
func (j *job) learnAll(field, raw string) {
	w := walker{j: j, s: raw}
	for w.i < len(raw) {
		switch c := raw[w.i]; {
		case c == '"':
			from := w.i
			text, ok := w.str()
			if !ok {
				j.learn(field, raw[from+1:], "", false)
				return
			}
			rest := strings.TrimLeft(raw[w.i:], " \t\r\n")
			if !strings.HasPrefix(rest, ":") { // no key
				j.learn(field, text, raw[from+1:w.i-1], false)
			}
		case isNumber(c):
			from := w.i
			w.bare()
			j.learn(field, raw[from:w.i], "", false)
		default:
			w.i++
		}
	}
}

// skip says where the object or array at w.i ends: behind its last bracket, or
// at the end of the text when that is missing.
func (w *walker) skip() int {
	depth := 0
	for i := w.i; i < len(w.s); i++ {
		switch w.s[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				return i + 1
			}
		case '"':
			for i++; i < len(w.s) && w.s[i] != '"'; i++ {
				if w.s[i] == '\\' {
					i++
				}
			}
		}
	}
	return len(w.s)
}

// str reads the string at w.i and moves behind it. Not ok: it does not end.
func (w *walker) str() (string, bool) {
	start := w.i + 1
	i := start
	for i < len(w.s) && w.s[i] != '"' && w.s[i] != '\\' {
		i++
	}
	if i < len(w.s) && w.s[i] == '"' {
		w.i = i + 1
		return w.s[start:i], true
	}
	var b strings.Builder
	b.WriteString(w.s[start:i])
	for i < len(w.s) {
		switch c := w.s[i]; {
		case c == '"':
			w.i = i + 1
			return b.String(), true
		case c == '\\':
			if i+1 == len(w.s) {
				return "", false
			}
			text, n := unescape(w.s[i:])
			b.WriteString(text)
			i += n
		default:
			k := i
			for k < len(w.s) && w.s[k] != '"' && w.s[k] != '\\' {
				k++
			}
			b.WriteString(w.s[i:k])
			i = k
		}
	}
	return "", false
}

// bare moves behind a number or a word. It says whether there was one.
func (w *walker) bare() bool {
	from := w.i
	for w.i < len(w.s) {
		if c := w.s[w.i]; !isWord(c) && c != '-' && c != '+' && c != '.' {
			break
		}
		w.i++
	}
	return w.i > from
}

func isNumber(c byte) bool { return '0' <= c && c <= '9' || c == '-' }

// quote spells s as a JSON string.
func quote(s string) string { return `"` + jsonEscape(s) + `"` }

// jsonEscape is the inside of a JSON string. Bytes that are no UTF-8 stay as
// they are, as the rest of the body's do.
func jsonEscape(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	b := make([]byte, 0, len(s)+8)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < 0x20:
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

// printable makes s valid UTF-8: bytes that are none are spelled \xNN.
func printable(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b.WriteString(`\x`)
			b.WriteString(strconv.FormatUint(uint64(s[i])|0x100, 16)[1:])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}
