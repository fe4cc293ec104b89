package redact

import (
	"html"
	"strings"
)

// markup redacts XML or HTML: what stands in elements and attributes with a
// secret's name, and in those which say such a name by an attribute, as <input
// name="password" value="..."> does. All else is free text. It follows tags and
// repairs nothing, so that a broken or cut document hides nothing.
func (j *job) markup(s string) string {
	m := markup{j: j, s: s, ends: map[string]bool{}}
	for m.i < len(s) {
		k := strings.IndexByte(s[m.i:], '<')
		if k < 0 {
			break
		}
		m.i += k
		m.tag()
	}
	if m.done == 0 {
		return j.text(s)
	}
	m.out.WriteString(s[m.done:])
	return j.text(m.out.String())
}

type markup struct {
	j    *job
	s    string
	i    int // the next byte of s
	done int // s[:done] is in out
	out  strings.Builder
	// ends holds the names of which no end tag was found to the end of s.
	ends map[string]bool
}

// attribute is one attribute of a tag: its local name and where its value is.
type markupAttribute struct {
	name     string
	from, to int
}

// maxAttributes bounds the attributes of a tag that are looked at together.
const maxAttributes = 1024

// tag reads what begins with the < at m.i.
func (m *markup) tag() {
	s := m.s
	switch rest := s[m.i:]; {
	case strings.HasPrefix(rest, "<!--"):
		m.i += len("<!--")
		return
	case strings.HasPrefix(rest, "</"), strings.HasPrefix(rest, "<!"), strings.HasPrefix(rest, "<?"):
		m.i += 2
		return
	}
	start := m.i + 1
	i := start
	for i < len(s) && isNameByte(s[i]) {
		i++
	}
	m.i = i
	if i == start {
		m.i = start
		return
	}
	name := s[start:i]
	var attributes []markupAttribute
	for i < len(s) && s[i] != '>' && s[i] != '<' {
		from := i
		for i < len(s) && isNameByte(s[i]) {
			i++
		}
		if i == from {
			i++
			continue
		}
		a := markupAttribute{name: localName(s[from:i])}
		for i < len(s) && isSpace(s[i]) {
			i++
		}
		if i == len(s) || s[i] != '=' {
			continue
		}
		for i++; i < len(s) && isSpace(s[i]); {
			i++
		}
		if i == len(s) {
			break
		}
		if q := s[i]; q == '"' || q == '\'' {
			i++
			a.from = i
			n := strings.IndexByte(s[i:], q)
			if n < 0 {
				n = len(s) - i
			}
			i += n
			a.to = i
			i = min(i+1, len(s))
		} else {
			a.from = i
			for i < len(s) && !isSpace(s[i]) && s[i] != '>' {
				i++
			}
			a.to = i
		}
		if len(attributes) < maxAttributes {
			attributes = append(attributes, a)
		} else if m.secret(a.name, "@") {
			m.replace(a.name, a.from, a.to)
		}
	}
	empty := i > start && s[i-1] == '/'
	if i < len(s) && s[i] == '>' {
		i++
	}
	m.i = i

	said := "" // the secret's name that an attribute says
	for _, a := range attributes {
		switch strings.ToLower(a.name) {
		case "name", "key", "property", "id":
			if v := html.UnescapeString(s[a.from:a.to]); m.secret(v, "") || m.j.paramSecret(v) {
				said = v
			}
		}
	}
	for _, a := range attributes {
		switch low := strings.ToLower(a.name); {
		case m.secret(a.name, "@"):
			m.replace(a.name, a.from, a.to)
		case said != "" && (low == "value" || low == "content"):
			m.replace(said, a.from, a.to)
		}
	}
	local := localName(name)
	switch {
	case empty:
	case m.secret(local, ""):
		m.content(name, local)
	case said != "":
		m.content(name, said)
	}
}

// content replaces what stands between the tag that ends at m.i and its end tag.
// Without one it goes to the next tag.
func (m *markup) content(name, field string) {
	from := m.i
	end := -1
	if !m.ends[name] {
		if end = strings.Index(m.s[from:], "</"+name); end < 0 {
			m.ends[name] = true
		}
	}
	if end < 0 {
		if end = strings.IndexByte(m.s[from:], '<'); end < 0 {
			end = len(m.s) - from
		}
	}
	inner := m.s[from : from+end]
	bare := strings.TrimSpace(inner)
	if bare == "" {
		return
	}
	if m.j.collecting { // each text in it, which may stand elsewhere alone
		for rest := inner; rest != ""; {
			text, tail, _ := strings.Cut(rest, "<")
			m.j.learn(strings.ToLower(field), html.UnescapeString(strings.TrimSpace(text)), strings.TrimSpace(text), false)
			_, rest, _ = strings.Cut(tail, ">")
		}
	}
	at := from + strings.Index(inner, bare)
	m.replace(field, at, at+len(bare))
	m.i = from + end
}

// replace puts a token in place of s[from:to].
func (m *markup) replace(field string, from, to int) {
	raw := m.s[from:to]
	if raw == "" || from < m.done || m.j.tokens.is(raw) {
		return
	}
	value := html.UnescapeString(raw)
	m.out.WriteString(m.s[m.done:from])
	m.out.WriteString(m.j.secret(strings.ToLower(field), value, raw, false))
	m.done = to
}

// secret says whether an element, or with the prefix @ an attribute, has a
// secret's name. A name at the end of one of the rules' paths is one wherever it
// stands.
func (m *markup) secret(name, prefix string) bool {
	if m.j.keySecret(name) {
		return true
	}
	for _, p := range m.j.r.paths {
		for k := len(p) - 1; k >= 0; k-- {
			if p[k].isIndex || p[k].wildcard || p[k].name == "#text" {
				continue
			}
			if p[k].name == prefix+name {
				return true
			}
			break
		}
	}
	return false
}

func localName(name string) string { return name[strings.LastIndexByte(name, ':')+1:] }

func isNameByte(c byte) bool {
	return isWord(c) || c == '-' || c == '.' || c == ':' || c >= 0x80
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' }
