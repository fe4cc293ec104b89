package redact

import (
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Record redacts a divergence. It never fails and never panics, whatever was
// captured.
func (r *Redactor) Record(in *Input) *Record {
	x := in.Exchange
	if x == nil {
		x = &exchange.Exchange{}
	}
	req, ref, result := x.Request, x.Response, in.Result
	if req == nil {
		req = &exchange.Request{}
	}
	if result == nil {
		result = &diff.Result{}
	}
	j := newJob(r)
	j.secretParams, j.collecting = in.SecretParams, true
	j.collect(in, req, ref)
	j.learned()

	when := time.Unix(0, req.FirstByte)
	published := in.Published
	node, boot := in.Node, in.BootID
	if published.IsZero() || r.deterministic {
		published = when
	}
	if r.deterministic {
		node, boot = "", ""
	}
	rec := &Record{time: when, max: r.maxRecord, d: Divergence{
		Schema:           Schema,
		ID:               x.ID.For(in.Experiment),
		ExchangeID:       string(x.ID),
		Time:             stamp(when),
		Published:        stamp(published),
		Node:             node,
		Cluster:          in.Cluster,
		Namespace:        in.Namespace,
		Pod:              in.Pod,
		Service:          in.Service,
		AgentVersion:     in.AgentVersion,
		BootID:           boot,
		ConfigRevision:   in.ConfigRevision,
		Source:           in.Source,
		Experiment:       in.Experiment,
		Route:            in.Route,
		CandidateVersion: in.CandidateVersion,
		CandidateAddress: in.CandidateAddress,
		SampleRate:       finite(in.SampleRate),
		Weight:           weight(in),
		PublishWeight:    finite(in.PublishWeight),
		Outcome:          result.Outcome.String(),
		Why:              result.Why,
		ReplayLagUS:      in.ReplayLag.Microseconds(),
	}}
	d := &rec.d
	d.TraceID = j.traceID(in.TraceID)
	d.Params = j.params(in.Params)
	rec.key = j.key(in, d.Params)
	d.Request = Request{
		Method:  printable(j.text(req.Method)),
		URL:     j.target(req.Target, in.Route),
		Version: printable(j.text(req.Proto)),
		Headers: j.headers(req.Header),
		Body:    j.body(req.Header, &req.Body),
	}
	d.Reference = j.answer(Leg{Response: ref, Reused: x.Reused, Start: req.LastByte, FirstByte: first(ref), LastByte: last(ref)})
	d.Candidate = j.answer(in.Candidate)
	if in.Control != nil {
		c := j.answer(*in.Control)
		d.Control = &c
		d.ControlKind = "instance"
		if in.ControlSelf {
			d.ControlKind = "self"
		}
	}
	if c := in.Recheck; c != nil {
		d.Recheck = &RecheckRecord{Result: c.Result}
		if c.After > 0 {
			us := c.After.Microseconds()
			d.Recheck.AfterUS = &us
		}
	}
	rec.differences(j, in, ref, result)
	return rec
}

// collect learns every secret that is found by its place.
func (j *job) collect(in *Input, req *exchange.Request, ref *exchange.Response) {
	for _, p := range in.Params {
		if j.secretParam(p.Name) {
			j.learn(strings.ToLower(p.Name), p.Value, "", false)
		}
	}
	j.target(req.Target, in.Route)
	j.collectMessage(req.Header, req.Trailer, &req.Body)
	for _, resp := range []*exchange.Response{ref, in.Candidate.Response, control(in)} {
		if resp != nil {
			j.collectMessage(resp.Header, resp.Trailer, &resp.Body)
		}
	}
}

func control(in *Input) *exchange.Response {
	if in.Control == nil {
		return nil
	}
	return in.Control.Response
}

func (j *job) collectMessage(h, trailer exchange.Header, b *exchange.Body) {
	for _, f := range h {
		j.header(strings.ToLower(f.Name), f.Value)
	}
	for _, f := range trailer {
		j.header(strings.ToLower(f.Name), f.Value)
	}
	j.learnBody(h, b)
}

// traceID keeps what is one, and redacts what is not.
func (j *job) traceID(s string) string {
	if len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == "" {
		return s
	}
	return printable(cutText(j.text(s), 256))
}

func (j *job) params(list []Param) map[string]string {
	m := make(map[string]string, len(list))
	for _, p := range list {
		m[p.Name] = ascii(j.param(p.Name, p.Value))
	}
	return m
}

// maxKey bounds the Kafka key in bytes. A longer one is hashed.
const maxKey = 1024

// key fills the route's key text with the redacted parameters.
func (j *job) key(in *Input, params map[string]string) []byte {
	text := in.Key
	if text == "" {
		text = "{route}"
	}
	var b strings.Builder
	for text != "" {
		open := strings.IndexByte(text, '{')
		end := -1
		if open >= 0 {
			end = strings.IndexByte(text[open:], '}')
		}
		if end < 0 {
			b.WriteString(j.keyText(text))
			break
		}
		b.WriteString(j.keyText(text[:open]))
		name := text[open+1 : open+end]
		value, ok := params[name]
		switch {
		case name == "route":
			b.WriteString(in.Route)
		case ok:
			b.WriteString(value)
		default:
			b.WriteString(j.text(text[open : open+end+1]))
		}
		text = text[open+end+1:]
	}
	key := b.String()
	if len(key) > maxKey {
		key = j.token("key", key)
	}
	return []byte(printable(key))
}

// keyText redacts what stands between the parameters of a key: words of the
// configuration, or, from a caller that filled in the parameters itself, of
// the capture.
func (j *job) keyText(s string) string { return j.text(s) }

// answer makes the published form of an answer.
func (j *job) answer(l Leg) Answer {
	a := Answer{
		Headers:    map[string][]string{},
		Body:       Body{Encoding: utf8Encoding},
		Connection: "new",
		Error:      printable(j.text(l.Error)),
		ErrorText:  printable(cutText(j.errorText(l.Detail), 2048)),
		TraceID:    j.traceID(l.TraceID),
		TTFBUS:     since(l.Start, l.FirstByte),
		TTLBUS:     since(l.Start, l.LastByte),
	}
	if j.r.values == Digests && l.Detail != "" {
		a.ErrorText = j.token("error", l.Detail)
	}
	if l.Reused {
		a.Connection = "reused"
	}
	if resp := l.Response; resp != nil {
		a.Status = resp.Status
		a.Headers = j.headers(resp.Header)
		if len(resp.Trailer) > 0 {
			a.Trailers = j.headers(resp.Trailer)
		}
		a.Body = j.body(resp.Header, &resp.Body)
	}
	return a
}

// errorText redacts what an error says. What it quotes are bytes of the answer
// at which reading stopped: they have no place and no form, so all of them are
// taken for a secret, but for words such as too_many_pings.
func (j *job) errorText(s string) string {
	s = j.text(s)
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '"')
		if at < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:at])
		quoted, err := strconv.QuotedPrefix(s[at:])
		if err != nil { // to the end
			quoted = s[at:]
		}
		s = s[at+len(quoted):]
		text, err := strconv.Unquote(quoted)
		if err != nil {
			text = quoted[1:]
		}
		switch {
		case j.tokens.is(text) || isErrorWord(text):
			b.WriteString(quoted)
		default:
			b.WriteString(j.token("error", text))
		}
	}
}

// isErrorWord says whether s is words in lower case that are joined by _.
func isErrorWord(s string) bool {
	if len(s) > 32 || strings.Contains(s, "__") || strings.Trim(s, "_") != s || !strings.Contains(s, "_") {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// since is the time from start to end in microseconds, nil when one of them is
// not known. An answer that came before the request's end counts 0.
func since(start, end int64) *int64 {
	if start == 0 || end == 0 {
		return nil
	}
	us := max(0, (end-start)/1000)
	return &us
}

func first(r *exchange.Response) int64 {
	if r == nil {
		return 0
	}
	return r.FirstByte
}

func last(r *exchange.Response) int64 {
	if r == nil {
		return 0
	}
	return r.LastByte
}

// differences fills in the differences that count, their fingerprints and the
// cause.
func (rec *Record) differences(j *job, in *Input, ref *exchange.Response, result *diff.Result) {
	d := &rec.d
	d.Differences = []Difference{}
	var control map[string]bool
	if in.ControlResult != nil {
		control = make(map[string]bool, len(in.ControlResult.Differences))
		for i := range in.ControlResult.Differences {
			if f := &in.ControlResult.Differences[i]; !f.Ignored {
				control[diff.Fingerprint(in.Experiment, in.Route, f)] = true
			}
		}
	}
	for i := range result.Differences {
		f := &result.Differences[i]
		if f.Ignored {
			continue
		}
		out := Difference{
			Fingerprint: diff.Fingerprint(in.Experiment, in.Route, f),
			Aspect:      f.Aspect,
			Kind:        f.Kind,
			Path:        printable(j.text(f.Path)),
			Detail:      f.Detail,
			Reference:   j.side(f, &f.Reference, ref),
			Candidate:   j.side(f, &f.Candidate, in.Candidate.Response),
		}
		out.Control = j.controlSide(in, f, &out, ref)
		switch {
		case control == nil:
		case control[out.Fingerprint]:
			out.Side = "both"
		default:
			out.Side = "candidate_only"
		}
		d.Differences = append(d.Differences, out)
		rec.fingerprints = append(rec.fingerprints, out.Fingerprint)
	}
	slices.Sort(rec.fingerprints)
	rec.fingerprints = slices.Compact(rec.fingerprints)
	if result.Outcome == diff.NotComparable {
		rec.fingerprints = nil
	}
	if len(rec.fingerprints) > 0 {
		d.Cause = diff.Cause(rec.fingerprints)
	}
}

// controlSide is what the control has at the place of f: its own value where
// it differs from the reference, else the reference's.
func (j *job) controlSide(in *Input, f *diff.Difference, out *Difference, ref *exchange.Response) *Body {
	if in.ControlResult == nil || in.Control == nil || in.Control.Response == nil {
		return nil
	}
	for i := range in.ControlResult.Differences {
		c := &in.ControlResult.Differences[i]
		if c.Aspect == f.Aspect && c.Path == f.Path {
			return j.side(c, &c.Candidate, in.Control.Response)
		}
	}
	return out.Reference
}

// side makes the published form of one side of a difference.
func (j *job) side(f *diff.Difference, v *diff.Value, resp *exchange.Response) *Body {
	if v.Kind == diff.ValueNone {
		return nil
	}
	b := &Body{MediaType: "text/plain", Encoding: utf8Encoding, Size: v.Size, Truncated: v.Truncated, Offset: v.Offset}
	if !v.Truncated && v.Offset == 0 {
		b.Digest = j.token(fieldValue, spelled(v))
	}
	if f.Kind == diff.KindDigest {
		// The SHA-256 of a body: the digest that the body has in the record.
		sum, err := hex.DecodeString(v.Text)
		if err != nil {
			sum = []byte(v.Text)
		}
		b.Text = j.token(fieldBody, string(sum))
		b.Digest = b.Text
		return b
	}
	if f.Aspect == diff.AspectStatus || f.Aspect == diff.AspectCandidate || f.Aspect == diff.AspectGRPC && v.Kind == diff.ValueNumber {
		b.Text = printable(j.text(v.Text))
		return b
	}
	text, secret := "", false
	switch f.Aspect {
	case diff.AspectHeader, diff.AspectTrailer:
		text, secret = j.headerSide(f.Path, v.Text)
	case diff.AspectGRPC:
		text, secret = j.headerSide("grpc-status", v.Text)
	default:
		b.MediaType, text, secret = j.bodySide(f, v, resp)
	}
	if secret {
		b.Size, b.Offset = 0, 0
	}
	if v.SHA256 != "" && b.Digest == "" && !secret {
		if sum, err := hex.DecodeString(v.SHA256); err == nil {
			b.Digest = j.token(fieldBody, string(sum))
		}
	}
	if j.r.values == Digests || f.Aspect == diff.AspectBody && hidden(f, v, resp) {
		b.Truncated = true
		return b
	}
	b.set(text)
	b.cut(j.r.maxValue)
	return b
}

// hidden says whether a value of a body is never shown, because a secret in it
// could not be told: it is coded, or a field of protobuf that has no name here,
// or has such fields in it.
func hidden(f *diff.Difference, v *diff.Value, resp *exchange.Response) bool {
	if f.Kind == diff.KindLength || f.Kind == diff.KindDigest {
		return false
	}
	for _, e := range place(f.Path) {
		if !e.isIndex && isNumbered(e.name) {
			return true
		}
	}
	if resp == nil {
		return false
	}
	kind, params := mediaType(resp.Header.Get("Content-Type"))
	protobuf := unnamed(resp.Header)
	switch v.Kind {
	case diff.ValueBytes:
		if protobuf || strings.HasPrefix(kind, "multipart/") {
			return true
		}
		if resp.Header.Has("Content-Encoding") && f.Kind == diff.KindNotFullyCompared {
			return true
		}
	case diff.ValueObject, diff.ValueArray:
		return (protobuf || strings.HasPrefix(kind, "multipart/")) && hasNumbered(v.Text)
	}
	if v.Kind == diff.ValueBytes || v.Kind == diff.ValueString {
		_, ok := toUTF8(nil, strings.ToLower(params["charset"]))
		return !ok
	}
	return false
}

// isNumbered says whether a name is that of a protobuf field without one.
func isNumbered(name string) bool {
	return len(name) > 1 && name[0] == '#' && '0' <= name[1] && name[1] <= '9'
}

func hasNumbered(text string) bool {
	for {
		k := strings.Index(text, `"#`)
		if k < 0 {
			return false
		}
		if text = text[k+1:]; isNumbered(text) {
			return true
		}
	}
}

// spelled is a value as a digest takes it: a string is another one than the
// number of the same characters.
func spelled(v *diff.Value) string {
	if v.Kind == diff.ValueString {
		return quote(v.Text)
	}
	return v.Text
}

// headerSide redacts the value of a field, a cookie or a cookie's attribute.
func (j *job) headerSide(path, value string) (text string, secret bool) {
	name, cookie, _ := strings.Cut(path, "/")
	name = strings.ToLower(name)
	if cookie != "" && (name == "set-cookie" || name == "set-cookie2") {
		cookie, attribute, _ := strings.Cut(cookie, "/")
		switch {
		case attribute != "":
			return j.text(value), false
		case strings.HasPrefix(value, cookie+"="):
			return j.setCookie(value), true
		}
		bare, attributes, found := strings.Cut(value, ";")
		text = j.secret(cookie, bare, "", true)
		if found {
			text += ";" + j.text(attributes)
		}
		return text, true
	}
	if j.r.values == Digests {
		return "", j.r.headers.secret(name, secretHeader)
	}
	return j.header(name, value), j.r.headers.secret(name, secretHeader)
}

// bodySide redacts a value of a body.
func (j *job) bodySide(f *diff.Difference, v *diff.Value, resp *exchange.Response) (kind, text string, secret bool) {
	at := place(f.Path)
	field, secret := j.secretPlace(f.Path, at)
	if resp != nil && !secret {
		switch kind, _ := mediaType(resp.Header.Get("Content-Type")); {
		case kind == "application/x-www-form-urlencoded", strings.HasPrefix(kind, "multipart/"):
			// The names of fields are those of parameters.
			for _, e := range at {
				secret = secret || !e.isIndex && j.paramSecret(e.name)
			}
		}
	}
	text = v.Text
	whole := v.Offset == 0 && !v.Truncated
	if v.Kind == diff.ValueBytes || f.Kind == diff.KindLength {
		contentType := ""
		if resp != nil {
			contentType = resp.Header.Get("Content-Type")
		}
		kind, _ = mediaType(contentType)
		kind = printable(j.text(kind))
		switch {
		case f.Kind == diff.KindLength:
			return kind, j.text(text), false
		case secret:
			return kind, j.token(field, text), true
		case whole:
			return kind, j.content(contentType, text), false
		}
		return kind, j.piece(text, v), false
	}
	if v.Kind == diff.ValueMarkup {
		kind = "application/xml"
		switch {
		case secret:
			return kind, j.token(field, text), true
		case !whole:
			text = text[:wordEnd(text)]
		}
		return kind, j.markup(text), false
	}
	kind = "application/json"
	switch text {
	case "null", "true", "false":
		if v.Kind == diff.ValueNull || v.Kind == diff.ValueBool {
			return kind, text, false
		}
	}
	switch v.Kind {
	case diff.ValueString:
		switch {
		case secret && text != "":
			return kind, quote(j.token(field, text)), true
		case j.keyLines[text]:
			return kind, quote(j.token(fieldPrivateKey, text)), true
		case whole && (text != "" && (text[0] == '{' || text[0] == '[')):
			// A line of JSON lines.
			return kind, quote(j.json(text, nil)), false
		case whole:
			return kind, quote(j.text(text)), false
		}
		return kind, quote(j.piece(text, v)), false
	case diff.ValueArray, diff.ValueObject:
		if secret {
			return kind, quote(j.token(field, text)), true
		}
		if !whole {
			text = text[:wordEnd(text)]
		}
		return kind, j.json(text, at), false
	}
	if secret {
		return kind, quote(j.token(field, text)), true
	}
	if red := j.text(text); red != text {
		return kind, quote(red), true
	}
	return kind, text, false
}

// piece redacts a text of which only a part is known. A word that is cut may
// be part of a secret that can't be told any more: the first one is replaced,
// the last one goes, and with them what is left of a known value of several words.
func (j *job) piece(text string, v *diff.Value) string {
	whole := text
	if v.Truncated && v.Offset+int64(len(text)) < v.Size {
		text = text[:min(wordEnd(text), len(text)-j.begun(whole))]
	}
	if v.Offset == 0 {
		return j.text(text)
	}
	n := min(max(wordStart(text), j.ended(whole)), len(text))
	if end := strings.Index(text, "-----END "); end >= 0 && !strings.Contains(text[:end], "-----BEGIN ") {
		n = max(n, end) // the tail of a private key
	}
	return j.token(fieldValue, text[:n]) + j.keyLinesIn(text[n:])
}

// maxOverlap bounds how much of a known value is looked for where a piece begins
// or ends, in bytes.
const maxOverlap = 512

// ended says how many bytes of a text that was cut off in front are the end of a
// known value.
func (j *job) ended(text string) int {
	return j.overlap(len(text), func(known string, n int) bool { return text[:n] == known[len(known)-n:] })
}

// begun says how many bytes of a text that was cut off behind are the beginning
// of a known value.
func (j *job) begun(text string) int {
	return j.overlap(len(text), func(known string, n int) bool { return text[len(text)-n:] == known[:n] })
}

func (j *job) overlap(room int, is func(known string, n int) bool) (most int) {
	for i := range j.known {
		for _, known := range [...]string{j.known[i].value, j.known[i].spelled} {
			for n := min(len(known)-1, room, maxOverlap); n > most; n-- {
				if is(known, n) {
					most = n
				}
			}
		}
	}
	return most
}

// keyLinesIn redacts a text that may have lines of a private key in it.
func (j *job) keyLinesIn(text string) string {
	if len(j.keyLines) == 0 {
		return j.text(text)
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if j.keyLines[strings.TrimSuffix(l, "\r")] {
			lines[i] = j.token(fieldPrivateKey, strings.TrimSuffix(l, "\r"))
		}
	}
	return j.text(strings.Join(lines, "\n"))
}

// secretPlace says whether the place of a difference is a secret's, and under
// which name its value is hashed.
func (j *job) secretPlace(path string, at []pathElement) (field string, secret bool) {
	if path == "" || len(at) == 0 {
		return "", false
	}
	field = "json"
	if e := at[len(at)-1]; !e.isIndex {
		field = strings.ToLower(e.name)
	}
	for _, e := range at {
		if !e.isIndex && j.keySecret(e.name) {
			return field, true
		}
	}
	for _, p := range j.r.paths {
		reached := uint64(1)
		for _, e := range at {
			if reached = p.step(reached, e); reached&(1<<len(p)) != 0 {
				return field, true
			}
		}
	}
	return field, false
}

// weight is how many requests a record stands for.
func weight(in *Input) float64 {
	switch {
	case in.Weight != 0:
		return finite(in.Weight)
	case in.SampleRate > 0:
		return finite(1 / in.SampleRate)
	}
	return 1
}

// finite keeps NaN and infinities, which JSON has no words for, out.
func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) || f < 0 {
		return 0
	}
	return f
}
