package http2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// message is what a header block says, by the rules of RFC 9113 section 8.
type message struct {
	method, scheme, path, authority, protocol, status string
	has                                               pseudo
	host                                              string
	hosts                                             int
	length                                            int64 // Content-Length, -1 without one
	grpc                                              bool
	events                                            bool // text/event-stream
	grpcStatus, grpcMessage                           string
	// unnamed: pseudo-header fields are missing, repeated or of the other kind
	// of message. bad: another rule is broken.
	unnamed, bad bool
	regular      int // where the regular fields begin
}

type pseudo uint8

const (
	hasMethod pseudo = 1 << iota
	hasScheme
	hasPath
	hasAuthority
	hasProtocol
	hasStatus
)

// read takes the fields of a block.
func (m *message) read(fields []hpack.HeaderField) {
	*m = message{length: -1, regular: -1}
	for i := range fields {
		f := &fields[i]
		if strings.HasPrefix(f.Name, ":") {
			if m.regular >= 0 {
				m.bad = true // behind a regular field
			}
			m.pseudo(f)
			if !cleanValue(f.Value) {
				m.bad = true
			}
			continue
		}
		if m.regular < 0 {
			m.regular = i
		}
		if !cleanName(f.Name) || !cleanValue(f.Value) {
			m.bad = true
		}
		m.field(f)
	}
	if m.regular < 0 {
		m.regular = len(fields)
	}
}

func (m *message) pseudo(f *hpack.HeaderField) {
	var to *string
	var bit pseudo
	switch f.Name {
	case ":method":
		to, bit = &m.method, hasMethod
	case ":scheme":
		to, bit = &m.scheme, hasScheme
	case ":path":
		to, bit = &m.path, hasPath
	case ":authority":
		to, bit = &m.authority, hasAuthority
	case ":protocol": // RFC 8441 section 4
		to, bit = &m.protocol, hasProtocol
	case ":status":
		to, bit = &m.status, hasStatus
	default:
		m.bad = true
		return
	}
	if m.has&bit != 0 {
		m.unnamed = true
	}
	m.has |= bit
	*to = f.Value
}

// field notes what a regular field says.
func (m *message) field(f *hpack.HeaderField) {
	switch f.Name {
	case "host":
		if m.hosts++; m.hosts == 1 {
			m.host = f.Value
		}
	case "content-length":
		n, ok := decimal(f.Value)
		if !ok || m.length >= 0 && m.length != n {
			m.bad = true
			return
		}
		m.length = n
	case "content-type":
		m.grpc = isGRPC(f.Value)
		kind, _, _ := strings.Cut(f.Value, ";")
		m.events = strings.EqualFold(strings.TrimRight(kind, " \t"), "text/event-stream")
	case "grpc-status":
		m.grpcStatus = f.Value
	case "grpc-message":
		m.grpcMessage = f.Value
	case "te":
		if f.Value != "trailers" {
			m.bad = true
		}
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		m.bad = true // RFC 9113 section 8.2.2
	}
}

// asRequest checks what only requests have, and gives the doubt that the head
// alone gives reason for. ok is false for what names no request.
func (m *message) asRequest() (d exchange.Doubt, ok bool) {
	connect := m.method == "CONNECT"
	want := hasMethod | hasScheme | hasPath
	switch {
	case m.has&hasProtocol != 0 && !connect:
		m.bad = true
	case connect && m.has&hasProtocol != 0:
		want |= hasAuthority
	case connect:
		if m.has&(hasScheme|hasPath) != 0 {
			return 0, false
		}
		want = hasMethod | hasAuthority
	}
	if m.unnamed || m.has&want != want || m.has&hasStatus != 0 || m.method == "" || want&hasPath != 0 && m.path == "" {
		return 0, false
	}
	switch {
	case m.bad || strings.IndexByte(m.authority, '@') >= 0 || !isToken(m.method):
		return exchange.DoubtMalformed, true
	case m.protocol == "websocket":
		return exchange.DoubtWebSocket, true
	case connect:
		return exchange.DoubtConnect, true
	case m.hosts > 1, m.hosts == 1 && m.has&hasAuthority != 0 && m.host != m.authority, m.target() != "" && m.authority == "" && m.host == "":
		return exchange.DoubtHost, true
	case m.scheme != "http" && m.scheme != "https", m.path[0] != '/' && m.path != "*", strings.IndexByte(m.path, ' ') >= 0:
		return exchange.DoubtTarget, true
	}
	return exchange.DoubtNone, true
}

// target is what the request asks for (RFC 9112 section 3.2).
func (m *message) target() string {
	if m.has&hasPath == 0 {
		return m.authority
	}
	return m.path
}

// hostName is the host that the request names.
func (m *message) hostName() string {
	if m.has&hasAuthority != 0 {
		return m.authority
	}
	return m.host
}

// asResponse gives the status. ok is false for what is no answer.
func (m *message) asResponse() (status int, ok bool) {
	if m.unnamed || m.has != hasStatus || len(m.status) != 3 {
		return 0, false
	}
	for _, c := range []byte(m.status) {
		if c < '0' || c > '9' {
			return 0, false
		}
		status = status*10 + int(c-'0')
	}
	return status, status >= 100 && status != 101
}

// header makes the list of fields.
func header(fields []hpack.HeaderField) exchange.Header {
	h := make(exchange.Header, len(fields))
	for i := range fields {
		h[i] = exchange.Field{Name: fields[i].Name, Value: fields[i].Value}
	}
	return h
}

// cost is what kept fields take from the budget, in bytes.
func cost(fields []hpack.HeaderField) (n int64) {
	for i := range fields {
		n += int64(fields[i].Size())
	}
	return n
}

var nameTable = func() (t [256]bool) {
	for c := 'a'; c <= 'z'; c++ {
		t[c] = true
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for _, c := range "!#$%&'*+-.^_`|~" { // RFC 9110 section 5.6.2
		t[c] = true
	}
	return t
}()

// cleanName says whether a name is a token in lower case (RFC 9113 section
// 8.2.1).
func cleanName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !nameTable[s[i]] {
			return false
		}
	}
	return s != ""
}

// isToken says whether s is one in any case.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !nameTable[c] && !('A' <= c && c <= 'Z') {
			return false
		}
	}
	return s != ""
}

// cleanValue says whether a value has no byte that could end a line, and no
// white space around it (RFC 9113 section 8.2.1).
func cleanValue(s string) bool {
	if s == "" {
		return true
	}
	if a, z := s[0], s[len(s)-1]; a == ' ' || a == '\t' || z == ' ' || z == '\t' {
		return false
	}
	for len(s) >= 8 && !odd(s[:8]) {
		s = s[8:]
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// odd says whether one of eight bytes is below a space, or DEL. It may say so of
// bytes that stand behind such a one.
func odd(s string) bool {
	const lanes = 0x0101010101010101
	w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	del := w ^ 0x7f*lanes
	return ((w-' '*lanes)&^w|(del-lanes)&^del)&(lanes<<7) != 0
}

func decimal(s string) (n int64, ok bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, true
}
