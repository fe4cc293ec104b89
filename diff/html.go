package diff

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

// readHTML reads an HTML document into elements. It follows the tags and knows
// void elements and the end tags that may be left out, but it does not repair a
// document as browsers do: an element that is not ended and an end tag that
// ends nothing are nodes of their own (#unclosed, #stray), so that a document
// which browsers must repair is equal only to one with the same faults. Comments
// are left out, and white space is collapsed where it has no effect.
func (m *markup) readHTML(source []byte) (markupEnd, int) {
	m.begin(source)
	m.open[0].preserve = true // white space is dropped here already
	z := html.NewTokenizer(bytes.NewReader(source))
	names := []string{""} // of the open elements, those below the limit too
	verbatim := 0         // open elements in which white space counts
	before := false       // an inline tag or text stands before
	var text []byte
	textStart, textEnd := 0, 0
	flush := func(inlineNext bool) {
		if len(text) == 0 {
			return
		}
		s := string(text)
		if verbatim == 0 {
			s = collapse(s, before, inlineNext)
		}
		m.addText(s, textStart, textEnd)
		if s != "" {
			before = true
		}
		text = text[:0]
	}
	pop := func(at int, ended bool) {
		name := names[len(names)-1]
		names = names[:len(names)-1]
		if isVerbatim(name) {
			verbatim--
		}
		if !ended && !mayStayOpen(name) && m.below == 0 {
			m.add(markupNode{kind: markupOther, name: "#unclosed", start: at, end: at})
		}
		m.pop(at)
	}
	for at := 0; ; {
		kind := z.Next()
		start := at
		at = min(at+len(z.Raw()), len(source))
		if m.full() {
			return markupFull, start
		}
		switch kind {
		case html.ErrorToken:
			flush(false)
			for len(names) > 1 {
				pop(len(source), false)
			}
			m.close(m.open[0])
			return markupWhole, 0
		case html.TextToken:
			if len(text) == 0 {
				textStart = start
			}
			text, textEnd = append(text, z.Text()...), at
		case html.DoctypeToken:
			flush(false)
			if m.below == 0 {
				m.add(markupNode{kind: markupOther, name: "#doctype", text: strings.ToLower(strings.Join(strings.Fields(string(z.Text())), " ")), start: start, end: at})
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			b, more := z.TagName()
			name := string(b)
			flush(isInline(name))
			from := len(m.attributes)
			for more {
				var key, val []byte
				key, val, more = z.TagAttr()
				if len(m.attributes)+len(m.nodes) < m.most {
					m.attributes = append(m.attributes, markupAttribute{"", string(key), string(val)})
				}
			}
			m.dedupe(from)
			for len(names) > 1 && closedBy(names[len(names)-1], name) {
				pop(start, true)
			}
			m.push("", name, from, start, true)
			names = append(names, name)
			if isVerbatim(name) {
				verbatim++
			}
			// In HTML a slash ends void elements and those of SVG and MathML.
			if isVoid(name) || kind == html.SelfClosingTagToken && isForeign(names) {
				pop(at, true)
			}
			before = isInline(name)
		case html.EndTagToken:
			b, _ := z.TagName()
			name := string(b)
			flush(isInline(name))
			before = isInline(name)
			k := len(names) - 1
			for look := 0; k > 0 && names[k] != name && look < maxLookUp; look++ {
				k--
			}
			if k == 0 || names[k] != name {
				if m.below == 0 {
					m.add(markupNode{kind: markupOther, name: "#stray", text: name, start: start, end: at})
				}
				continue
			}
			for len(names)-1 > k {
				pop(start, false)
			}
			pop(at, true)
		}
	}
}

// maxLookUp bounds how many open elements an end tag is looked for in, so that
// a document of tags that end nothing costs no more than its length.
const maxLookUp = 512

// collapse makes one space of each run of white space, and none of it where a
// block begins or ends.
func collapse(s string, before, after bool) string {
	const space = " \t\r\n\f"
	inner := strings.Trim(s, space)
	if inner == "" {
		if before && after {
			return " "
		}
		return ""
	}
	words := strings.FieldsFunc(inner, func(r rune) bool { return r < 0x80 && strings.IndexByte(space, byte(r)) >= 0 })
	out := strings.Join(words, " ")
	if before && strings.IndexByte(space, s[0]) >= 0 {
		out = " " + out
	}
	if after && strings.IndexByte(space, s[len(s)-1]) >= 0 {
		out += " "
	}
	return out
}

// isVoid says whether an element has no end tag (HTML, 13.1.2).
func isVoid(name string) bool {
	switch name {
	case "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr":
		return true
	}
	return false
}

func isVerbatim(name string) bool {
	switch name {
	case "pre", "textarea", "script", "style", "listing", "plaintext", "xmp":
		return true
	}
	return false
}

func isForeign(names []string) bool {
	for i := len(names) - 1; i > max(0, len(names)-maxLookUp); i-- {
		if names[i] == "svg" || names[i] == "math" {
			return true
		}
	}
	return false
}

// isInline says whether white space beside a tag has an effect. Elements that
// are not known may be anything: it has.
func isInline(name string) bool {
	switch name {
	case "html", "head", "body", "title", "base", "link", "meta", "style", "script", "noscript", "template",
		"address", "article", "aside", "blockquote", "center", "dd", "details", "dialog", "dir", "div", "dl", "dt", "fieldset", "figcaption", "figure",
		"footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "legend", "li", "main", "menu", "nav", "ol", "optgroup",
		"option", "p", "pre", "search", "section", "summary", "ul",
		"table", "caption", "colgroup", "col", "thead", "tbody", "tfoot", "tr", "td", "th":
		return false
	}
	return true
}

// mayStayOpen says whether an element's end tag may be left out where its
// parent ends (HTML, 13.1.2.4).
func mayStayOpen(name string) bool {
	switch name {
	case "html", "head", "body", "li", "dt", "dd", "p", "rt", "rp", "optgroup", "option", "colgroup", "caption", "thead", "tbody", "tfoot", "tr", "td", "th":
		return true
	}
	return false
}

// closedBy says whether a start tag ends the innermost open element whose end
// tag was left out (HTML, 13.1.2.4).
func closedBy(open, tag string) bool {
	switch open {
	case "head":
		return tag == "body"
	case "li":
		return tag == "li"
	case "dt", "dd":
		return tag == "dt" || tag == "dd"
	case "option":
		return tag == "option" || tag == "optgroup" || tag == "hr"
	case "optgroup":
		return tag == "optgroup" || tag == "hr"
	case "rt", "rp":
		return tag == "rt" || tag == "rp"
	case "td", "th":
		return tag == "td" || tag == "th" || tag == "tr" || tag == "tbody" || tag == "tfoot" || tag == "thead"
	case "tr":
		return tag == "tr" || tag == "tbody" || tag == "tfoot" || tag == "thead"
	case "thead", "tbody", "tfoot":
		return tag == "tbody" || tag == "tfoot" || tag == "thead"
	case "caption", "colgroup":
		return tag == "thead" || tag == "tbody" || tag == "tfoot" || tag == "tr" || tag == "colgroup"
	case "p":
		switch tag {
		case "address", "article", "aside", "blockquote", "details", "dialog", "div", "dl", "fieldset", "figcaption", "figure", "footer", "form",
			"h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "main", "menu", "nav", "ol", "p", "pre", "search", "section", "table", "ul":
			return true
		}
	}
	return false
}
