package diff

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
)

const xsiNamespace = "http://www.w3.org/2001/XMLSchema-instance"

// readXML reads an XML document. Names have the URIs of their namespaces;
// prefixes and comments are left out. Entities are never expanded but for the
// five that XML itself has. The offset is where it is no XML.
func (m *markup) readXML(source []byte) (markupEnd, int) {
	m.begin(source)
	d := xml.NewDecoder(bytes.NewReader(source))
	// The charset is decoded already.
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var spaces namespaces
	roots := 0
	for depth := 0; ; {
		at := int(d.InputOffset())
		t, err := d.Token()
		if err == io.EOF && roots == 1 {
			m.close(m.open[0])
			return markupWhole, 0
		}
		if err != nil {
			return markupBad, min(int(d.InputOffset()), len(source))
		}
		if m.full() {
			return markupFull, at
		}
		end := int(d.InputOffset())
		switch t := t.(type) {
		case xml.StartElement:
			if depth == 0 {
				roots++
			}
			if depth == 0 && roots > 1 {
				return markupBad, at
			}
			depth++
			if m.below == 0 {
				spaces.push(len(m.open), t.Attr)
			}
			from := len(m.attributes)
			preserve := m.open[len(m.open)-1].preserve
			for _, a := range t.Attr {
				if a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns" {
					continue
				}
				if a.Name.Local == "space" && (a.Name.Space == "http://www.w3.org/XML/1998/namespace" || a.Name.Space == "xml") {
					preserve = a.Value == "preserve"
				}
				value := a.Value
				if a.Name.Space == xsiNamespace && a.Name.Local == "type" {
					// A name with a prefix in a value.
					value = spaces.resolve(value)
				}
				m.attributes = append(m.attributes, markupAttribute{a.Name.Space, a.Name.Local, value})
			}
			if m.dedupe(from) { // XML 1.0, Unique Att Spec
				return markupBad, at
			}
			m.push(t.Name.Space, t.Name.Local, from, at, preserve)
		case xml.EndElement:
			depth--
			m.pop(end)
			if m.below == 0 {
				spaces.pop(len(m.open))
			}
		case xml.CharData:
			text := string(t)
			if depth == 0 {
				if strings.Trim(text, " \t\r\n\ufeff") != "" {
					return markupBad, at
				}
				continue
			}
			m.addText(text, at, end)
		case xml.ProcInst:
			if t.Target != "xml" && m.below == 0 {
				m.add(markupNode{kind: markupOther, name: "?" + t.Target, text: string(t.Inst), start: at, end: end})
			}
		case xml.Directive:
			if m.below == 0 {
				m.add(markupNode{kind: markupOther, name: "#doctype", text: string(t), start: at, end: end})
			}
		}
	}
}

// namespaces are the prefixes that are bound.
type namespaces []struct {
	prefix, uri string
	depth       int
}

func (n *namespaces) push(depth int, attributes []xml.Attr) {
	for _, a := range attributes {
		prefix := ""
		switch {
		case a.Name.Space == "xmlns":
			prefix = a.Name.Local
		case a.Name.Space != "" || a.Name.Local != "xmlns":
			continue
		}
		*n = append(*n, struct {
			prefix, uri string
			depth       int
		}{prefix, a.Value, depth})
	}
}

// pop forgets what elements inside depth open ones have bound.
func (n *namespaces) pop(depth int) {
	for len(*n) > 0 && (*n)[len(*n)-1].depth >= depth {
		*n = (*n)[:len(*n)-1]
	}
}

// maxResolve bounds how many bindings are looked at for one name.
const maxResolve = 256

// resolve writes a qualified name with its namespace in braces.
func (n namespaces) resolve(name string) string {
	prefix, local, ok := strings.Cut(strings.Trim(name, " \t\r\n"), ":")
	if !ok {
		prefix, local = "", prefix
	}
	for i := len(n) - 1; i >= max(0, len(n)-maxResolve); i-- {
		if n[i].prefix == prefix {
			return "{" + n[i].uri + "}" + local
		}
	}
	return name
}
