package http1

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"unsafe"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// MaxHead bounds a head, in bytes.
const MaxHead = 64 << 10

// maxFields bounds the lines of a head.
const maxFields = 1024

// readHead reads the head at the beginning of b. It gives the first line without
// its end, and the length of the head, the empty line included; -1 when the head
// is not whole. The first had bytes of b were not whole: of a head in pieces only
// the end is looked for, in what is new, until it is there.
//
// into, when not nil, gets each field; its slices point into b (a folded value is
// a copy). Behind the first maxFields they are only counted.
func readHead(b []byte, had int, f *framingFields, into *[]exchange.HeadField) (first []byte, end int) {
	if had > 0 && !endsHead(b, had) {
		return nil, -1
	}
	var ends [16]lineEnd
	n := lineEnds(b, 0, &ends)
	if n == 0 {
		return nil, -1
	}
	end = int(ends[0].lf) + 1
	first = withoutCR(b[:end-1])
	for lines := ends[1:n]; ; lines = ends[:n] {
		for len(lines) > 0 {
			if k := f.plainFields(b, end, lines, into); k > 0 {
				end = int(lines[k-1].lf) + 1
				lines = lines[k:]
				continue
			}
			at := end
			if end = int(lines[0].lf) + 1; len(withoutCR(b[at:end-1])) == 0 {
				return first, end
			}
			next := f.field(b, at, lines[0], into)
			if next < 0 {
				return nil, -1
			}
			if lines = lines[1:]; next > end {
				end, lines = next, nil
			}
		}
		if n = lineEnds(b, end, &ends); n == 0 {
			return nil, -1
		}
	}
}

// endsHead says whether a head ends behind the first had bytes of b.
func endsHead(b []byte, had int) bool {
	i := max(had-3, 0)
	for {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return false
		}
		i += n + 1
		if i < len(b) && b[i] == '\n' || i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n' {
			return true
		}
	}
}

// framingFields is what a head says about the length of its message.
type framingFields struct {
	te       bool // a Transfer-Encoding is there
	chunked  bool // its last coding is chunked
	teExact  bool // and that is all it says
	cl       bool // a Content-Length is there
	clBad    bool // they differ or are no number
	length   uint64
	hosts    int
	host     []byte
	upgrade  []byte
	events   bool   // Content-Type: text/event-stream
	settings []byte // of HTTP2-Settings
	nSetting int
	expect   bool
	close    bool
	keep     bool
	upgrades bool // Connection: upgrade
	doubt    exchange.Doubt
	fields   int // lines; more than maxFields are not read
}

// withoutCR is a line without the CR before its LF: either ends a line (RFC 9112
// section 2.2).
func withoutCR(l []byte) []byte {
	if n := len(l); n > 0 && l[n-1] == '\r' {
		return l[:n-1]
	}
	return l
}

func trim(b []byte) []byte {
	i, n := 0, len(b)
	for i < n && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	for n > i && (b[n-1] == ' ' || b[n-1] == '\t' || b[n-1] == '\r') {
		n--
	}
	return b[i:n]
}

// plainFields reads field lines, the first of which begins at the given place of
// b, up to one that is not of the usual form, and says how many they are.
func (f *framingFields) plainFields(b []byte, at int, lines []lineEnd, into *[]exchange.HeadField) (n int) {
	var to []exchange.HeadField
	if into != nil && f.fields < maxFields {
		*into = slices.Grow(*into, len(lines))
		to = (*into)[len(*into):][:len(lines)]
	}
	n, known := splitFields(b, at, lines, to)
	if f.fields += n; to != nil {
		*into = (*into)[:len(*into)+n]
	}
	for ; known != 0; known &= known - 1 {
		k := bits.TrailingZeros32(known)
		if k > 0 {
			at = int(lines[k-1].lf) + 1
		}
		f.note(b[at:lines[k].colon], withoutCR(b[lines[k].colon+2:lines[k].lf]))
	}
	return n
}

// splitFields gives plainFields the names and values, and a bit for each line whose
// name note may know. Usual are one space behind the colon, no other around the
// name and the value, which is not empty, and no fold. It calls nothing, so that
// all it needs stays in registers.
func splitFields(b []byte, from int, lines []lineEnd, to []exchange.HeadField) (n int, known uint32) {
	for n < len(lines) {
		lf, colon := int(lines[n].lf), int(lines[n].colon)
		v, end := colon+2, lf
		if colon <= from || lf+1 >= len(b) {
			break
		}
		if b[lf-1] == '\r' {
			end--
		}
		if b[from] <= ' ' || b[colon-1] <= ' ' || b[v-1] != ' ' || b[v] <= ' ' || b[end-1] <= ' ' || b[lf+1] == ' ' || b[lf+1] == '\t' {
			break
		}
		if n < len(to) {
			to[n].Name, to[n].Value = b[from:colon:colon], b[v:end:end]
		}
		if k := colon - from; k < len(noted) && noted[k]>>(b[from]&31)&1 != 0 {
			known |= 1 << n
		}
		from = lf + 1
		n++
	}
	return n, known
}

// field reads any field line, which begins at the given place of b and is not
// empty. It says where the next line begins: behind the lines that this one is
// folded into; -1 when they are not whole.
func (f *framingFields) field(b []byte, at int, line lineEnd, into *[]exchange.HeadField) (next int) {
	next = int(line.lf) + 1
	if f.fields++; f.fields > maxFields {
		return next
	}
	l, colon := withoutCR(b[at:line.lf]), int(line.colon)-at
	if colon <= 0 || l[0] == ' ' || l[0] == '\t' { // or a fold without a field before it
		f.doubt = exchange.DoubtSyntax
		return next
	}
	name, value := l[:colon], trim(l[colon+1:])
	if c := name[colon-1]; c == ' ' || c == '\t' {
		f.doubt = exchange.DoubtSyntax
		name = trim(name)
	}
	// obs-fold (RFC 9112 section 5.2): read as one line, never replayed.
	if folded(b, next) {
		f.doubt = exchange.DoubtSyntax
		value = bytes.Clone(value)
		for folded(b, next) {
			n := bytes.IndexByte(b[next:], '\n')
			if n < 0 {
				return -1
			}
			value = append(append(value, ' '), trim(b[next:next+n])...)
			next += n + 1
		}
		value = trim(value)
	}
	if into != nil {
		*into = append(*into, exchange.HeadField{Name: name, Value: value})
	}
	f.note(name, value)
	return next
}

// folded says whether the line that begins at a place of b goes on with the one
// before.
func folded(b []byte, at int) bool { return at < len(b) && (b[at] == ' ' || b[at] == '\t') }

// noted are the lengths of the names that note knows, and of each the letters,
// in any case, that one begins with.
var noted = func() (t [18]uint32) {
	for _, n := range []string{"Host", "Expect", "Upgrade", "Connection", "Content-Type", "Content-Length", "HTTP2-Settings", "Transfer-Encoding"} {
		t[len(n)] |= 1 << (n[0] & 31)
	}
	return t
}()

// named says whether b is a name, in any case. What begins with another letter
// and the usual spelling are cheap.
func named(b []byte, usual string) bool {
	return len(b) == len(usual) && b[0]|0x20 == usual[0]|0x20 && (string(b) == usual || exchange.EqualFoldToken(b, usual))
}

// note takes what a field says about its message.
func (f *framingFields) note(name, value []byte) {
	switch len(name) {
	case 4:
		if named(name, "Host") {
			if f.hosts++; f.hosts == 1 {
				f.host = value
			}
		}
	case 6:
		if named(name, "Expect") {
			f.expect = exchange.EqualFoldToken(value, "100-continue")
		}
	case 7:
		if named(name, "Upgrade") {
			f.upgrade = value
		}
	case 10:
		if named(name, "Connection") {
			if string(value) == "keep-alive" { // most often
				f.keep = true
				return
			}
			eachToken(value, func(t []byte) {
				switch {
				case named(t, "close"):
					f.close = true
				case named(t, "keep-alive"):
					f.keep = true
				case named(t, "upgrade"):
					f.upgrades = true
				}
			})
		}
	case 12:
		if named(name, "Content-Type") {
			if f.events = false; len(value) == 0 || value[0]|0x20 != 't' {
				return
			}
			if i := bytes.IndexByte(value, ';'); i >= 0 {
				value = value[:i]
			}
			f.events = exchange.EqualFoldToken(trim(value), "text/event-stream")
		}
	case 14:
		switch {
		case named(name, "Content-Length"):
			f.contentLength(value)
		case named(name, "HTTP2-Settings"):
			f.settings = value
			f.nSetting++
		}
	case 17:
		if named(name, "Transfer-Encoding") {
			f.teExact = !f.te && exchange.EqualFoldToken(value, "chunked")
			f.te = true
			eachToken(value, func(t []byte) { f.chunked = exchange.EqualFoldToken(t, "chunked") })
		}
	}
}

// asksH2 says whether a request asks for an upgrade to h2c (RFC 7540 section
// 3.2).
func (f *framingFields) asksH2() bool {
	return asksFor(f.upgrade, "h2c") && f.upgrades && f.nSetting == 1 && len(f.settings) <= maxSettings
}

// maxSettings bounds the value of HTTP2-Settings, in bytes.
const maxSettings = 1024

func eachToken(v []byte, do func([]byte)) {
	for len(v) > 0 {
		t := v
		if i := bytes.IndexByte(v, ','); i >= 0 {
			t, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		if t = trim(t); len(t) > 0 {
			do(t)
		}
	}
}

// contentLength reads one Content-Length line; a list of equal numbers is one
// number (RFC 9110 section 8.6).
func (f *framingFields) contentLength(v []byte) {
	if n, ok := decimal(v); ok && !f.cl { // most often
		f.cl, f.length = true, n
		return
	}
	if len(v) == 0 {
		f.cl, f.clBad = true, true
	}
	for len(v) > 0 || !f.cl {
		t := v
		if i := bytes.IndexByte(v, ','); i >= 0 {
			t, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		n, ok := decimal(trim(t))
		if !ok || f.cl && n != f.length {
			f.clBad = true
		}
		f.cl, f.length = true, n
	}
}

func decimal(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// requestLine splits a request line. ok is false for what is none.
func requestLine(l []byte) (method, target []byte, minor byte, ok bool) {
	i := bytes.IndexByte(l, ' ')
	if i <= 0 || i > maxMethod || !isToken(l[:i]) {
		return nil, nil, 0, false
	}
	j := bytes.LastIndexByte(l, ' ')
	for j == len(l)-1 && j > i { // a space behind the version
		l = l[:j]
		j = bytes.LastIndexByte(l, ' ')
	}
	v := l[j+1:]
	if j <= i || len(v) != 8 || string(v[:7]) != "HTTP/1." || v[7] != '0' && v[7] != '1' {
		return nil, nil, 0, false
	}
	target = trim(l[i+1 : j])
	return l[:i], target, v[7] - '0', len(target) > 0
}

// maxMethod bounds a method, in bytes.
const maxMethod = 32

// statusLine splits a status line. The reason may be missing.
func statusLine(l []byte) (status int, reason []byte, minor byte, ok bool) {
	if len(l) < 12 || string(l[:7]) != "HTTP/1." || l[7] != '0' && l[7] != '1' || l[8] != ' ' {
		return 0, nil, 0, false
	}
	for _, c := range l[9:12] {
		if c < '0' || c > '9' {
			return 0, nil, 0, false
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || len(l) > 12 && l[12] != ' ' {
		return 0, nil, 0, false
	}
	if len(l) > 13 {
		reason = trim(l[13:])
	}
	return status, reason, l[7] - '0', true
}

var tokenTable = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" { // RFC 9110 section 5.6.2
		t[c] = true
	}
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenTable[c] {
			return false
		}
	}
	return len(b) > 0
}

// maybeRequest says whether b may be the beginning of a request line; sure
// that it is METHOD SP and something.
func maybeRequest(b []byte) (may, sure bool) {
	n := 0
	for n < len(b) && n <= maxMethod && tokenTable[b[n]] {
		n++
	}
	if n == len(b) {
		return n > 0 && n <= maxMethod, false
	}
	if n == 0 || n > maxMethod || b[n] != ' ' {
		return false, false
	}
	return true, true
}

// known are the methods that a direction out of sync is found again by: the end
// of a request line that was cut ("T /x HTTP/1.1") also looks like one.
var known = map[string]bool{
	"GET": true, "HEAD": true, "POST": true, "PUT": true, "DELETE": true, "CONNECT": true, "OPTIONS": true,
	"TRACE": true, "PATCH": true, "PURGE": true, "QUERY": true, "PROPFIND": true, "PROPPATCH": true, "MKCOL": true,
	"COPY": true, "MOVE": true, "LOCK": true, "UNLOCK": true, "REPORT": true, "SEARCH": true, "MKCALENDAR": true,
}

// wholeRequestLine says whether b begins with a request line that is all
// there, for finding the sync again.
func wholeRequestLine(b []byte) bool {
	if sp := bytes.IndexByte(b[:min(len(b), maxMethod)], ' '); sp < 0 || !known[string(b[:sp])] {
		return false
	}
	n := bytes.IndexByte(b[:min(len(b), MaxHead)], '\n')
	if n < 0 {
		_, sure := maybeRequest(b)
		return sure
	}
	_, _, _, ok := requestLine(withoutCR(b[:n]))
	return ok
}

// maybeResponse says whether b may be the beginning of a status line.
func maybeResponse(b []byte) (may, sure bool) {
	const p = "HTTP/1."
	if len(b) < len(p)+2 {
		n := min(len(b), len(p))
		return string(b[:n]) == p[:n], false
	}
	ok := string(b[:len(p)]) == p && (b[7] == '0' || b[7] == '1') && b[8] == ' '
	return ok, ok
}

// fieldLines is where the field lines of a whole head begin.
func fieldLines(head []byte) int { return bytes.IndexByte(head, '\n') + 1 }

// header makes the list of fields from field lines. Its strings are parts of
// text, which has the same bytes. It appends to h when that has room for all.
func header(h exchange.Header, fields []byte, text string) exchange.Header {
	if n := bytes.Count(fields, []byte{'\n'}) + 1; cap(h)-len(h) < n {
		h = make(exchange.Header, 0, n)
	}
	for len(fields) > 0 {
		n, colon := line(fields)
		l, s := fields, text
		if n >= 0 {
			l, s = fields[:n], text[:n]
			fields, text = fields[n+1:], text[n+1:]
		} else {
			fields = nil
		}
		l = withoutCR(l)
		if s = s[:len(l)]; s == "" {
			break
		}
		if l[0] == ' ' || l[0] == '\t' {
			if k := len(h) - 1; k >= 0 {
				h[k].Value = strings.Trim(h[k].Value+" "+strings.Trim(s, " \t"), " \t")
			}
			continue
		}
		if colon <= 0 {
			continue
		}
		name, value := s[:colon], s[colon+1:]
		if c := name[colon-1]; c == ' ' || c == '\t' {
			name = strings.TrimRight(name, " \t")
		}
		if k := len(value); k > 1 && value[0] == ' ' && value[1] > ' ' && value[k-1] > ' ' {
			value = value[1:]
		} else {
			value = strings.Trim(value, " \t\r")
		}
		h = append(h, exchange.Field{Name: name, Value: value})
	}
	return h[:len(h):len(h)]
}

// headerOf is header for a whole head of which readHead has read the fields, and
// has found nothing odd. text has the bytes of head.
func headerOf(h exchange.Header, fields []exchange.HeadField, head []byte, text string) exchange.Header {
	if n := len(fields); cap(h) < n {
		h = make(exchange.Header, n)
	} else {
		h = h[:n:n]
	}
	for i := range fields {
		name, value := part(head, text, fields[i].Name), part(head, text, fields[i].Value)
		if value != "" && value[0] == '\r' {
			value = strings.TrimLeft(value, " \t\r")
		}
		h[i].Name, h[i].Value = name, value
	}
	return h
}

// part is b as a string: a part of text, which has the bytes of head, where b is
// one of head.
func part(head []byte, text string, b []byte) string {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(head)))
	if n := uintptr(len(b)); at < uintptr(len(text)) && n <= uintptr(len(text))-at {
		return text[at : at+n]
	}
	return string(b)
}

// unzeroed is like make([]byte, n) for what will be overwritten: its bytes are
// whatever was there.
func unzeroed(n int) []byte {
	if n <= 1024 {
		return make([]byte, n)
	}
	var b strings.Builder
	b.Grow(n)
	b.WriteByte(0)
	return unsafe.Slice(unsafe.StringData(b.String()), n)
}

// strict says whether a head that is to be replayed keeps to the grammar of
// RFC 9112 sections 2.2 and 5, so that no two readers take it differently. Its
// fields were read, and nothing odd was found.
func strict(first, head []byte, fields []exchange.HeadField) bool {
	if bytes.Count(first, []byte{' '}) != 2 || !clean(head) {
		return false
	}
	for i := range fields {
		if !isToken(fields[i].Name) {
			return false
		}
	}
	return true
}

// clean says that a head has no control character but tabs and the CR and LF that
// end a line together.
func clean(b []byte) bool {
	for i := 0; i < len(b); i++ {
		for ; len(b)-i >= 8; i += 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			if odd := ((w-' '*lanes)&^w | zeroes(w^0x7f*lanes)) & topBits; odd != 0 {
				i += bits.TrailingZeros64(odd) / 8
				break
			}
		}
		if i == len(b) {
			break
		}
		switch c := b[i]; {
		case c == '\r':
			if i++; i == len(b) || b[i] != '\n' {
				return false
			}
		case c < ' ' && c != '\t', c == 0x7f:
			return false
		}
	}
	return true
}
