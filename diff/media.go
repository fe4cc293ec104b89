package diff

import (
	"bytes"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// family is a set of media types that are compared in one way.
type family uint8

const (
	familyBytes family = iota
	familyJSON
	familyText
	familyForm
	familyMultipart
	familyXML
	familyHTML
	familyProtobuf
	familyGRPC
)

// media is what a Content-Type says.
type media struct {
	family family
	kind   string // the media type in lower case
	params map[string]string
}

// newMedia reads a Content-Type. One that can't be read is compared as bytes.
func newMedia(contentType string) media {
	m := media{kind: contentType}
	if strings.IndexByte(contentType, ';') >= 0 || contentType != lower(contentType) {
		var err error
		m.kind, m.params, err = mime.ParseMediaType(contentType)
		if err != nil && err != mime.ErrInvalidMediaParameter {
			return media{}
		}
	}
	m.family = familyOf(m.kind)
	return m
}

func mediaOf(h exchange.Header) media { return newMedia(trimOWS(h.Get("Content-Type"))) }

// familyOf knows a media type by its name or by its structured suffix (RFC 6839
// and RFC 9695).
func familyOf(kind string) family {
	switch kind {
	case "application/json", "text/json":
		return familyJSON
	case "application/x-www-form-urlencoded":
		return familyForm
	case "application/xml", "text/xml":
		return familyXML
	case "text/html":
		return familyHTML
	case "application/protobuf", "application/x-protobuf", "application/vnd.google.protobuf", "application/x-google-protobuf":
		return familyProtobuf
	case "application/grpc", "application/grpc-web":
		return familyGRPC
	case "application/javascript", "application/x-javascript", "application/ecmascript", "application/graphql", "application/yaml", "application/x-yaml",
		"application/toml", "application/sql", "application/jsonl", "application/x-ndjson", "application/json-seq", "application/x-sh":
		return familyText
	}
	switch _, suffix, _ := strings.Cut(kind, "+"); {
	case strings.HasPrefix(kind, "application/grpc+") || strings.HasPrefix(kind, "application/grpc-web+"):
		return familyGRPC
	case strings.HasPrefix(kind, "multipart/"):
		return familyMultipart
	case strings.HasSuffix(kind, "+json"):
		return familyJSON
	case strings.HasSuffix(kind, "+xml"):
		return familyXML
	case suffix == "protobuf" || suffix == "proto":
		return familyProtobuf
	case strings.HasSuffix(kind, "+yaml"), strings.HasPrefix(kind, "text/"):
		return familyText
	}
	return familyBytes
}

// content compares two bodies, or parts of bodies, that are not equal to the
// byte.
func (c *comparison) content(m, n media, ref, cand []byte) {
	switch {
	case m.family != n.family:
		c.bytesBody(ref, cand, "") // the header's difference says why
		return
	case m.family == familyText || m.family == familyXML || m.family == familyHTML:
		ref, cand = c.charsets(m, n, ref, cand)
		if bytes.Equal(ref, cand) {
			return
		}
	}
	switch m.family {
	case familyJSON:
		c.jsonBody(ref, cand)
	case familyText:
		c.textBody(ref, cand)
	case familyForm:
		c.formBody(ref, cand)
	case familyMultipart:
		c.multipartBody(m, n, ref, cand)
	case familyXML:
		c.markupBody((*markup).readXML, "XML", ref, cand)
	case familyHTML:
		c.markupBody((*markup).readHTML, "HTML", ref, cand)
	case familyProtobuf:
		c.protobufBody(m, n, ref, cand)
	case familyGRPC:
		c.grpcBody(m, n, ref, cand)
	default:
		c.bytesBody(ref, cand, "")
	}
}

// charsets decodes two texts to UTF-8. What can't be decoded stays as it is, and
// that is said.
func (c *comparison) charsets(m, n media, ref, cand []byte) (a, b []byte) {
	ref, cand = c.cutMarks(ref, cand)
	a, reasonA, atA := decodeText(m, ref)
	b, reasonB, atB := decodeText(n, cand)
	if reasonA == "" && reasonB == "" {
		return a, b
	}
	detail := joinReasons(reasonA, reasonB)
	c.addAt(KindNotFullyCompared, c.base, c.bytesValue(ref, atA), c.bytesValue(cand, atB), detail)
	return a, b
}

// cutMarks takes UTF-8's byte order mark off, and adds a difference when one
// side alone has it.
func (c *comparison) cutMarks(ref, cand []byte) (a, b []byte) {
	a, markA := bytes.CutPrefix(ref, utf8BOM[:])
	b, markB := bytes.CutPrefix(cand, utf8BOM[:])
	if markA == markB {
		return a, b
	}
	d := Difference{Kind: KindRemoved, Path: PathByteOrderMark}
	if len(c.base) > 0 {
		d.Path = c.base.path()
	}
	v := Value{Kind: ValueBytes, Text: string(utf8BOM[:]), Size: 3}
	if d.Reference = v; markB {
		d.Kind, d.Reference, d.Candidate = KindAdded, Value{}, v
	}
	c.add(d)
	return a, b
}

// decodeText gives a text as UTF-8, or as it is with the reason and the byte
// where it is wrong. A byte order mark goes before the header's charset (the
// Encoding Standard, "decode"), and that before what the text says of itself
// (RFC 7303 section 3). Without any of them it is UTF-8.
func decodeText(m media, b []byte) (text []byte, reason string, at int) {
	label := m.params["charset"]
	switch {
	case bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		label, b = "utf-16be", b[2:]
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}):
		label, b = "utf-16le", b[2:]
	case label != "":
	case m.family == familyHTML:
		label = htmlEncoding(b)
	case m.family == familyXML:
		label = xmlEncoding(b)
	}
	if label == "" {
		label = "utf-8"
	}
	enc, name := charset.Lookup(label)
	switch {
	case enc == nil:
		return b, "the charset is not known", 0
	case name == "utf-8":
		if at := invalidUTF8(b); at >= 0 {
			return b, fmt.Sprintf("no UTF-8 at byte %d", at), at
		}
		return b, "", 0
	}
	text, err := enc.NewDecoder().Bytes(b)
	if err != nil {
		return b, "wrong in its charset", 0
	}
	if at := bytes.Index(text, []byte(string(utf8.RuneError))); at >= 0 {
		return b, fmt.Sprintf("wrong in its charset at character %d", utf8.RuneCount(text[:at])), 0
	}
	return text, "", 0
}

// invalidUTF8 is the place of the first byte that is no UTF-8, or -1.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
}

// htmlEncoding is the charset that a meta element names, "" without. The first
// 1,024 bytes count, as in a browser.
func htmlEncoding(b []byte) string {
	const high = "é"
	// What names no charset is then taken for UTF-8.
	head := append([]byte(high), b[:min(len(b), 1024-len(high))]...)
	for i := len(high); i < len(head); i++ {
		if head[i] >= utf8.RuneSelf {
			head[i] = '?'
		}
	}
	_, name, _ := charset.DetermineEncoding(head, "")
	return name
}

// xmlEncoding is the encoding that an XML declaration names, "" without.
func xmlEncoding(b []byte) string {
	if !bytes.HasPrefix(b, []byte("<?xml")) {
		return ""
	}
	head := b[:min(len(b), 256)]
	end := bytes.Index(head, []byte("?>"))
	if end < 0 {
		return ""
	}
	_, rest, ok := bytes.Cut(head[:end], []byte("encoding"))
	rest = bytes.TrimLeft(rest, " \t\r\n=")
	if !ok || len(rest) == 0 || rest[0] != '"' && rest[0] != '\'' {
		return ""
	}
	name, _, ok := bytes.Cut(rest[1:], rest[:1])
	if !ok {
		return ""
	}
	return string(name)
}

// notRead adds the difference of two bodies of which one or both are not what
// their media types say: reasons, "" for a side that is fine, with the bytes
// where they went wrong.
func (c *comparison) notRead(name string, ref, cand []byte, atRef, atCand int) {
	switch {
	case atRef >= 0 && atCand >= 0:
		c.bytesBody(ref, cand, fmt.Sprintf("no %s: the reference at byte %d, the candidate at byte %d; ", name, atRef, atCand))
	case atRef >= 0:
		c.addAt(KindTypeChanged, c.base, c.bytesValue(ref, atRef), c.bytesValue(cand, 0), fmt.Sprintf("the reference is no %s at byte %d", name, atRef))
	default:
		c.addAt(KindTypeChanged, c.base, c.bytesValue(ref, 0), c.bytesValue(cand, atCand), fmt.Sprintf("the candidate is no %s at byte %d", name, atCand))
	}
}

// joinReasons says what is wrong on which side; "" is nothing.
func joinReasons(ref, cand string) string {
	switch {
	case ref == "":
		return "the candidate: " + cand
	case cand == "":
		return "the reference: " + ref
	}
	return "the reference: " + ref + "; the candidate: " + cand
}

// notFully adds the difference of two bodies that can't be compared, with the
// reasons; "" is nothing.
func (c *comparison) notFully(ref, cand []byte, whyRef, whyCand string) {
	at := firstDifference(ref, cand)
	c.addAt(KindNotFullyCompared, c.base, c.bytesValue(ref, at), c.bytesValue(cand, at), joinReasons(whyRef, whyCand))
}
