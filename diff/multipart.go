package diff

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strings"
)

const (
	// maxParts bounds the parts of a multipart body.
	maxParts = 1 << 16
	// maxNestedParts bounds multiparts inside each other.
	maxNestedParts = 4

	detailParts       = "more parts than the limit"
	detailNestedParts = "multiparts nested deeper than the limit"
)

// part is one part of a multipart body.
type part struct {
	header textproto.MIMEHeader
	name   string // form-data's
	media  media
	bytes  []byte
}

// multipartBody compares two multipart bodies (RFC 2046 section 5.1): the parts
// of multipart/form-data by name, others by their order. The boundary is no
// difference.
func (c *comparison) multipartBody(m, n media, ref, cand []byte) {
	if c.nested == maxNestedParts {
		c.addAt(KindNotFullyCompared, c.base, c.bytesValue(ref, 0), c.bytesValue(cand, 0), detailNestedParts)
		return
	}
	c.nested++
	defer func(base trail) { c.nested, c.base = c.nested-1, base }(c.base)
	a, whyA := readParts(m, ref)
	b, whyB := readParts(n, cand)
	if whyA != "" || whyB != "" {
		c.notFully(ref, cand, whyA, whyB)
		return
	}
	if m.kind == "multipart/form-data" && n.kind == m.kind {
		c.namedParts(a, b)
		return
	}
	key := func(parts []part) []uint64 {
		k := make([]uint64, len(parts))
		for i := range parts {
			k[i] = c.partHash(&parts[i])
		}
		return k
	}
	base := c.base
	pair := align(key(a), key(b))
	for i, j := 0, 0; (i < len(a) || j < len(b)) && !c.full; {
		for i < len(a) && pair[i] < 0 && j < len(b) && !slices.Contains(pair[i:], int32(j)) {
			c.part(base.at(i), &a[i], &b[j])
			i, j = i+1, j+1
		}
		for i < len(a) && pair[i] < 0 {
			c.lonePart(KindRemoved, base.at(i), &a[i])
			i++
		}
		to := len(b)
		if i < len(a) {
			to = int(pair[i])
		}
		for ; j < to; j++ {
			c.lonePart(KindAdded, base.at(j), &b[j])
		}
		if i < len(a) {
			c.part(base.at(i), &a[i], &b[j])
			i, j = i+1, j+1
		}
	}
}

// namedParts compares parts by name. Parts of one name keep their order.
func (c *comparison) namedParts(a, b []part) {
	base := c.base
	index := map[string][]int{}
	for j := range b {
		index[b[j].name] = append(index[b[j].name], j)
	}
	many := map[string]int{}
	for i := range a {
		many[a[i].name]++
	}
	at := func(name string, k int) trail {
		t := base.below(name)
		if max(many[name], len(index[name])) > 1 {
			t = t.at(k)
		}
		return t
	}
	seen := map[string]int{}
	for i := range a {
		if c.full {
			return
		}
		name := a[i].name
		k := seen[name]
		seen[name]++
		if k < len(index[name]) {
			c.part(at(name, k), &a[i], &b[index[name][k]])
		} else {
			c.lonePart(KindRemoved, at(name, k), &a[i])
		}
	}
	passed := map[string]int{}
	for j := range b {
		if c.full {
			return
		}
		name := b[j].name
		k := passed[name]
		passed[name]++
		if k >= seen[name] {
			c.lonePart(KindAdded, at(name, k), &b[j])
		}
	}
}

func (c *comparison) lonePart(kind string, at trail, p *part) {
	v := c.partValue(p)
	if kind == KindRemoved {
		c.addAt(kind, at, v, Value{}, "")
	} else {
		c.addAt(kind, at, Value{}, v, "")
	}
}

// partValue is a part as a Value: one without a media type is a field's text.
func (c *comparison) partValue(p *part) Value {
	if p.plain() {
		return c.textValue(p.bytes, 0)
	}
	return c.bytesValue(p.bytes, 0)
}

// plain says whether a part is a field of a form and no file.
func (p *part) plain() bool {
	return p.name != "" && p.media.kind == "" && bytes.IndexByte(p.bytes, '\n') < 0
}

func (c *comparison) partHash(p *part) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range [][]byte{[]byte(p.header.Get("Content-Type")), []byte(p.header.Get("Content-Disposition")), p.bytes} {
		for _, x := range b {
			h = (h ^ uint64(x)) * 1099511628211
		}
		h = mix(h, uint64(len(b)))
	}
	return h
}

// part compares two parts: their header fields and what is in them.
func (c *comparison) part(at trail, a, b *part) {
	if c.ignoredAt(at) != "" {
		if !bytes.Equal(a.bytes, b.bytes) {
			c.addAt(KindChanged, at, c.partValue(a), c.partValue(b), "")
		}
		return
	}
	names := make([]string, 0, len(a.header)+len(b.header))
	for n := range a.header {
		names = append(names, n)
	}
	for n := range b.header {
		if _, ok := a.header[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	head := at.below("header")
	for _, n := range names {
		x, y := strings.Join(a.header[n], ", "), strings.Join(b.header[n], ", ")
		if x == y || n == "Content-Length" || (n == "Content-Type" || n == "Content-Disposition") && sameMediaType(x, y) {
			continue
		}
		if n == "Content-Type" && a.media.family == familyMultipart && a.media.kind == b.media.kind {
			continue // another boundary
		}
		_, okA := a.header[n]
		_, okB := b.header[n]
		here, u, v := head.below(lower(n)), c.textValue([]byte(x), 0), c.textValue([]byte(y), 0)
		switch {
		case !okB:
			c.addAt(KindRemoved, here, u, Value{}, "")
		case !okA:
			c.addAt(KindAdded, here, Value{}, v, "")
		default:
			c.changedText(here, []byte(x), []byte(y))
		}
	}
	if bytes.Equal(a.bytes, b.bytes) {
		return
	}
	body := at.below("body")
	if a.plain() && b.plain() {
		c.changedText(body, a.bytes, b.bytes)
		return
	}
	if c.ignoredAt(body) != "" {
		c.addAt(KindChanged, body, c.partValue(a), c.partValue(b), "")
		return
	}
	defer func(base trail) { c.base = base }(c.base)
	c.base = slices.Clone(body)
	m, n := a.media, b.media
	if m.kind == "" { // RFC 2046 section 5.2
		m.family = familyText
	}
	if n.kind == "" {
		n.family = familyText
	}
	c.content(m, n, a.bytes, b.bytes)
}

// readParts reads the parts, or says in fixed words and numbers why it can't.
func readParts(m media, body []byte) (parts []part, reason string) {
	boundary := m.params["boundary"]
	if boundary == "" || len(boundary) > 70 { // RFC 2046 section 5.1.1
		return nil, "no boundary is declared"
	}
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return parts, ""
		}
		if err != nil {
			return nil, fmt.Sprintf("multipart is cut or broken at part %d", len(parts))
		}
		if len(parts) == maxParts {
			return nil, detailParts
		}
		b, err := io.ReadAll(p)
		if err != nil {
			return nil, fmt.Sprintf("multipart is cut or broken in part %d", len(parts))
		}
		one := part{header: p.Header, bytes: b, media: newMedia(trimOWS(p.Header.Get("Content-Type")))}
		if _, params, err := mime.ParseMediaType(p.Header.Get("Content-Disposition")); err == nil {
			one.name = params["name"]
		}
		parts = append(parts, one)
	}
}
