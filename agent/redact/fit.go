package redact

import "unicode/utf8"

// fit encodes a record in at most size bytes. Texts are cut, in rounds that
// leave less and less of the longest; then headers go, then differences from
// the end, which are counted. What is left then always fits but for the words
// of the configuration.
func fit(d Divergence, size int) []byte {
	b := marshal(&d)
	if len(b) <= size {
		return b
	}
	d.Differences = append([]Difference(nil), d.Differences...)
	if d.Control != nil {
		c := *d.Control
		d.Control = &c
	}
	for limit := size / 4; ; limit /= 4 {
		cutAll(&d, max(limit, 64))
		if b = marshal(&d); len(b) <= size {
			return b
		}
		if limit <= 64 {
			break
		}
	}
	none := map[string][]string{}
	d.Request.Headers, d.Reference.Headers, d.Candidate.Headers = none, none, none
	d.Reference.Trailers, d.Candidate.Trailers = nil, nil
	if d.Control != nil {
		d.Control.Headers, d.Control.Trailers = none, nil
	}
	for {
		if b = marshal(&d); len(b) <= size || len(d.Differences) == 0 {
			return b
		}
		keep := len(d.Differences) / 2
		d.Omitted += len(d.Differences) - keep
		d.Differences = d.Differences[:keep]
	}
}

// cutAll cuts every text of d to limit bytes. It writes only to copies.
func cutAll(d *Divergence, limit int) {
	d.Request.URL = cutText(d.Request.URL, max(limit, 1024))
	params := make(map[string]string, len(d.Params))
	for k, v := range d.Params {
		params[k] = cutText(v, limit)
	}
	d.Params = params
	cutHeaders(&d.Request.Headers, limit)
	d.Request.Body.cut(limit)
	for _, a := range []*Answer{&d.Reference, &d.Candidate, d.Control} {
		if a != nil {
			cutHeaders(&a.Headers, limit)
			cutHeaders(&a.Trailers, limit)
			a.Body.cut(limit)
			a.ErrorText = cutText(a.ErrorText, limit)
		}
	}
	for i := range d.Differences {
		f := &d.Differences[i]
		for _, v := range []**Body{&f.Reference, &f.Candidate, &f.Control} {
			if *v != nil && len((*v).Text) > limit {
				c := **v
				c.cut(limit)
				*v = &c
			}
		}
	}
}

func cutHeaders(h *map[string][]string, limit int) {
	if *h == nil {
		return
	}
	m := make(map[string][]string, len(*h))
	for name, values := range *h {
		short := make([]string, len(values))
		for i, v := range values {
			short[i] = cutText(v, limit)
		}
		m[name] = short
	}
	*h = m
}

// cut shortens the text to limit bytes.
func (b *Body) cut(limit int) {
	if len(b.Text) <= limit {
		return
	}
	b.Truncated = true
	if b.Encoding == "base64" {
		b.Text = b.Text[:limit/4*4]
		return
	}
	b.Text = b.Text[:runeEnd(b.Text, limit)]
}

// cutText shortens a text that has no mark of its own; … stands for the rest.
func cutText(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:runeEnd(s, limit-len("…"))] + "…"
}

// runeEnd is the last boundary between characters at or before n.
func runeEnd(s string, n int) int {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}
