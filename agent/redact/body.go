package redact

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"io"
	"mime"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/net/html/charset"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// maxDecoded bounds a body after its content codings, in bytes.
const maxDecoded = 4 << 20

// body makes the published form of a message's body. Its text is only there
// with Full.
func (j *job) body(h exchange.Header, b *exchange.Body) Body {
	kind, _ := mediaType(h.Get("Content-Type"))
	out := Body{MediaType: printable(j.text(kind)), Encoding: utf8Encoding, Size: b.Size, Digest: j.digest(b)}
	if j.r.values != Full {
		out.Truncated = b.Size > 0
		return out
	}
	text, cut, ok := plain(h, b)
	if !ok {
		out.Truncated = b.Size > 0
		return out
	}
	out.set(j.content(h.Get("Content-Type"), text))
	out.Truncated = cut
	return out
}

// learnBody learns the secrets of a body.
func (j *job) learnBody(h exchange.Header, b *exchange.Body) {
	if text, _, ok := plain(h, b); ok {
		j.content(h.Get("Content-Type"), text)
	}
}

// digest is the token of the whole content's SHA-256, "" when that is unknown
// or there is none.
func (j *job) digest(b *exchange.Body) string {
	sum, ok := b.Sum256()
	if !ok || b.Size == 0 {
		return ""
	}
	return j.token(fieldBody, string(sum[:]))
}

const (
	fieldBody    = "body"
	fieldValue   = "value"
	utf8Encoding = "utf-8"
)

// set puts text in, as base64 when it is no UTF-8.
func (b *Body) set(text string) {
	if utf8.ValidString(text) {
		b.Encoding, b.Text = utf8Encoding, text
		return
	}
	b.Encoding, b.Text = "base64", base64.StdEncoding.EncodeToString([]byte(text))
}

// content redacts a decoded body by its media type.
func (j *job) content(contentType, text string) string {
	kind, params := mediaType(contentType)
	switch {
	case kind == "application/x-www-form-urlencoded":
		return j.formBody(text)
	case strings.HasPrefix(kind, "multipart/") && params["boundary"] != "":
		return j.multipart(text, params["boundary"])
	case isMarkup(kind):
		return j.markup(text)
	case isJSON(kind) || looksJSON(text):
		return j.json(text, nil)
	}
	return j.text(text)
}

func isMarkup(kind string) bool {
	return kind == "text/html" || kind == "text/xml" || kind == "application/xml" || strings.HasSuffix(kind, "+xml")
}

// formBody is form for a body. In mode Digests no body has a text.
func (j *job) formBody(text string) string {
	// A line feed at the end is no part of the last value.
	bare := strings.TrimRight(text, "\r\n")
	return j.form(bare) + text[len(bare):]
}

func isJSON(kind string) bool {
	return kind == "application/json" || kind == "text/json" || strings.HasSuffix(kind, "+json") ||
		kind == "application/x-ndjson" || kind == "application/json-seq" || kind == "application/jsonl"
}

// looksJSON says whether a text without a telling media type is worth walking
// as JSON. Walking is never wrong: what is none is redacted as free text.
func looksJSON(s string) bool {
	s = strings.TrimLeft(strings.TrimPrefix(s, "\ufeff"), " \t\r\n")
	return s != "" && (s[0] == '{' || s[0] == '[')
}

// mediaType reads a Content-Type. The type is in lower case, also when the
// parameters are broken.
func mediaType(s string) (string, map[string]string) {
	if s == "" {
		return "", nil
	}
	kind, params, err := mime.ParseMediaType(s)
	if err != nil || kind == "" {
		kind, _, _ = strings.Cut(s, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	return kind, params
}

// plain decodes a body to text: content codings off, UTF-16 to UTF-8. What was
// cut loses its last word, which may be the beginning of a secret that can't be
// told any more. Not ok: there is a coding or charset that can't be read here.
func plain(h exchange.Header, b *exchange.Body) (text string, cut, ok bool) {
	if unnamed(h) {
		return "", true, false
	}
	data, cut := b.Bytes, b.Truncated || int64(len(b.Bytes)) < b.Size
	codings := strings.Split(strings.Join(h.Values("Content-Encoding"), ","), ",")
	for i := len(codings) - 1; i >= 0; i-- {
		coding := strings.ToLower(strings.TrimSpace(codings[i]))
		if coding == "" || coding == "identity" || len(data) == 0 {
			continue
		}
		var short bool
		if data, short, ok = decode(coding, data); !ok {
			return "", true, false
		}
		cut = cut || short
	}
	_, params := mediaType(h.Get("Content-Type"))
	if text, ok = toUTF8(data, strings.ToLower(params["charset"])); !ok {
		return "", true, false
	}
	if cut {
		text = text[:wordEnd(text)]
	}
	return text, cut, true
}

// unnamed says that a body is protobuf's, gRPC's messages among them: values
// without the names by which a secret is told, and possibly compressed.
func unnamed(h exchange.Header) bool {
	kind, _ := mediaType(h.Get("Content-Type"))
	return isProtobuf(kind)
}

func isProtobuf(kind string) bool {
	switch kind {
	case "application/grpc", "application/grpc-web", "application/protobuf", "application/x-protobuf", "application/vnd.google.protobuf",
		"application/x-google-protobuf":
		return true
	}
	return strings.HasPrefix(kind, "application/grpc+") || strings.HasPrefix(kind, "application/grpc-web+") ||
		strings.HasSuffix(kind, "+proto") || strings.HasSuffix(kind, "+protobuf")
}

// maxWindow is the memory that zstd's decoder needs at most for what it looks
// back at (RFC 9659 section 3), in bytes.
const maxWindow = 8 << 20

// decode takes one content coding off, up to maxDecoded bytes. short: the data
// ended or broke off early, or there is more.
func decode(coding string, data []byte) (plain []byte, short, ok bool) {
	var r io.Reader
	var err error
	switch coding {
	case "gzip", "x-gzip":
		r, err = gzip.NewReader(bytes.NewReader(data))
	case "deflate":
		// RFC 9110 section 8.4.1.2: zlib, but some send the bare stream.
		if r, err = zlib.NewReader(bytes.NewReader(data)); err != nil {
			r, err = flate.NewReader(bytes.NewReader(data)), nil
		}
	case "br":
		r = brotli.NewReader(bytes.NewReader(data))
	case "zstd":
		z, bad := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if bad != nil {
			return nil, true, false
		}
		defer z.Close()
		r = z
	default:
		return nil, true, false
	}
	if err != nil {
		return nil, true, false
	}
	plain, err = io.ReadAll(io.LimitReader(r, maxDecoded+1))
	if len(plain) > maxDecoded {
		return plain[:maxDecoded], true, true
	}
	return plain, err != nil, err == nil || len(plain) > 0
}

// toUTF8 decodes text of a charset.
func toUTF8(data []byte, label string) (string, bool) {
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(data, []byte{0, 0, 0xfe, 0xff}):
		return "", false // UTF-32
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		return fromUTF16(data[2:], binary.LittleEndian), true
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		return fromUTF16(data[2:], binary.BigEndian), true
	}
	switch label {
	case "utf-16le":
		return fromUTF16(data, binary.LittleEndian), true
	case "utf-16", "utf-16be":
		return fromUTF16(data, binary.BigEndian), true
	case "", "utf-8", "utf8", "us-ascii", "ascii":
	default:
		// As the comparison decodes it, so that what is known here is found there.
		enc, _ := charset.Lookup(label)
		if enc == nil {
			return "", false
		}
		text, err := enc.NewDecoder().Bytes(data)
		return string(text), err == nil
	}
	// The first characters of a text are nearly always ASCII: where their
	// zero bytes stand tells UTF-16 without a mark (RFC 4627 section 3).
	if len(data) >= 4 {
		switch z := [4]bool{data[0] == 0, data[1] == 0, data[2] == 0, data[3] == 0}; z {
		case [4]bool{true, false, true, false}:
			return fromUTF16(data, binary.BigEndian), true
		case [4]bool{false, true, false, true}:
			return fromUTF16(data, binary.LittleEndian), true
		case [4]bool{true, true, true, false}, [4]bool{false, true, true, true}:
			return "", false // UTF-32
		}
	}
	return string(data), true
}

func fromUTF16(data []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return string(utf16.Decode(units))
}

// maxWord bounds the last word of a cut text: nothing that is a secret by its
// form, and needs its end to be recognised, is longer.
const maxWord = 256

// wordEnd says where to cut a text that was cut already, so that it does not
// end inside a word.
func wordEnd(s string) int {
	for n := len(s); n > 0; n-- {
		if isBreak(s[n-1]) || len(s)-n == maxWord {
			// Groups of digits may be a card's: they go together.
			for n > 0 && (s[n-1] == ' ' || s[n-1] == '-' || '0' <= s[n-1] && s[n-1] <= '9') && len(s)-n < maxWord {
				n--
			}
			for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
				n--
			}
			return n
		}
	}
	return 0
}

// wordStart says where the first word of s ends.
func wordStart(s string) int {
	for n := 0; n < len(s); n++ {
		if isBreak(s[n]) {
			return n
		}
	}
	return len(s)
}

// isBreak says whether c ends a word.
func isBreak(c byte) bool {
	return c <= ' ' || strings.IndexByte("\"'<>(){}[],;&=:", c) >= 0
}

// multipart redacts the parts of a multipart body (RFC 2046 section 5.1, RFC
// 7578): a part whose name is a secret's as a whole, others by their type.
func (j *job) multipart(s, boundary string) string {
	var b strings.Builder
	mark := "--" + boundary
	rest := s
	at := strings.Index(rest, mark)
	if at < 0 {
		return j.text(s)
	}
	b.WriteString(j.text(rest[:at]))
	rest = rest[at:]
	for {
		// rest starts with a mark: its line, the part's head, its content.
		head := strings.IndexByte(rest, '\n')
		if head < 0 || strings.HasPrefix(rest[len(mark):], "--") {
			b.WriteString(rest[:len(mark)])
			b.WriteString(j.text(rest[len(mark):]))
			return b.String()
		}
		b.WriteString(rest[:head+1])
		rest = rest[head+1:]
		end := strings.Index(rest, "\n"+mark)
		part := rest
		if end >= 0 {
			part = rest[:end+1]
		}
		j.part(&b, part)
		if end < 0 {
			return b.String()
		}
		rest = rest[end+1:]
	}
}

// maxNested bounds how deep multiparts are followed inside each other.
const maxNested = 4

func (j *job) part(b *strings.Builder, part string) {
	head, content := "", part
	for _, blank := range []string{"\r\n\r\n", "\n\n"} {
		if k := strings.Index(part, blank); k >= 0 {
			head, content = part[:k+len(blank)], part[k+len(blank):]
			break
		}
	}
	for _, blank := range []string{"\r\n", "\n"} { // no fields
		if head == "" && strings.HasPrefix(part, blank) {
			head, content = blank, part[len(blank):]
		}
	}
	name, contentType := "", ""
	for _, line := range strings.Split(head, "\n") {
		field, value, _ := strings.Cut(strings.TrimRight(line, "\r"), ":")
		switch strings.ToLower(field) {
		case "content-disposition":
			if _, params, err := mime.ParseMediaType(strings.TrimSpace(value)); err == nil {
				name = params["name"]
			}
		case "content-type":
			contentType = strings.TrimSpace(value)
		}
	}
	b.WriteString(j.text(head))
	bare := strings.TrimRight(content, "\r\n")
	switch kind, _ := mediaType(contentType); {
	case name != "" && j.paramSecret(name):
		b.WriteString(j.secret(strings.ToLower(name), bare, "", false))
	case isProtobuf(kind):
		b.WriteString(j.token(fieldBody, bare))
	case strings.HasPrefix(kind, "multipart/") && j.nested == maxNested:
		b.WriteString(j.text(bare))
	default:
		j.nested++
		b.WriteString(j.content(contentType, bare))
		j.nested--
	}
	b.WriteString(content[len(bare):])
}
