package http2

import (
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// section is the field section that a header block stands for (RFC 9113 section
// 4.3), and what is made of it where somebody asks.
type section struct {
	fields []hpack.HeaderField
	size   int  // of the fields, as RFC 9113 section 10.5.1 counts it
	over   bool // the limits; fields is only the beginning
	// msg is there when isRead; what it is as a request or an answer when isAsked
	// and isAnswered; text and lent when isLent.
	isRead, isAsked, isAnswered, isLent bool
	askedOK, answeredOK                 bool
	doubt                               exchange.Doubt
	status                              int
	msg                                 message
	text                                []byte
	lent                                []exchange.HeadField
	// path is the path of a known block, where it is lent with the block, and so is
	// its text in fields and msg. It is not in text.
	path []byte
	// header is that of the exchanges that are kept, when isKept. They share it: it
	// is never written again.
	isKept bool
	header exchange.Header
}

// reset makes it empty and keeps its memory.
func (s *section) reset() { *s = section{fields: s.fields[:0], text: s.text[:0], lent: s.lent[:0]} }

// add takes the next field, and says whether there was room.
func (s *section) add(f hpack.HeaderField) bool {
	s.size += int(f.Size())
	if s.over = s.size > MaxHead || len(s.fields) >= maxFields; s.over {
		return false
	}
	s.fields = append(s.fields, f)
	return true
}

// cost is what it takes in memory when it is remembered, in bytes: the fields
// thrice, as strings, as what is lent and as what is kept.
func (s *section) cost() int64 {
	const each = int64(unsafe.Sizeof(hpack.HeaderField{}) + unsafe.Sizeof(exchange.HeadField{}) + unsafe.Sizeof(exchange.Field{}))
	return 2*int64(s.size) + int64(len(s.fields)+1)*each
}

// message says what the fields say.
func (s *section) message() *message {
	if !s.isRead {
		s.msg.read(s.fields)
		s.isRead = true
	}
	return &s.msg
}

// request is message.asRequest, asked once.
func (s *section) request() (exchange.Doubt, bool) {
	if m := s.message(); !s.isAsked {
		s.doubt, s.askedOK = m.asRequest()
		s.isAsked = true
	}
	return s.doubt, s.askedOK
}

// answer is message.asResponse, asked once.
func (s *section) answer() (status int, ok bool) {
	if m := s.message(); !s.isAnswered {
		s.status, s.answeredOK = m.asResponse()
		s.isAnswered = true
	}
	return s.status, s.answeredOK
}

// target is message.target, for keeps.
func (s *section) target() string {
	if s.path != nil {
		return string(s.path)
	}
	return s.message().target()
}

// regular are the fields behind the pseudo-header fields. Where one stands among
// them it is left out.
func (s *section) regular() []hpack.HeaderField {
	return onlyRegular(s.fields[s.message().regular:])
}

// keep gives the regular fields as exchanges keep them: frozen.
func (s *section) keep() exchange.Header {
	if !s.isKept {
		s.header, s.isKept = header(s.regular()), true
	}
	return s.header
}

// lend puts the section into the head that the keeper is asked about; the bytes
// are the section's.
func (s *section) lend(h *exchange.Head) {
	m := s.message()
	if !s.isLent {
		s.copyOut(m)
	}
	n := len(m.method)
	h.Method, h.Target, h.Fields = s.text[:n:n], s.path, s.lent
	if s.path == nil {
		end := n + len(m.target())
		h.Target = s.text[n:end:end]
	}
}

func (s *section) copyOut(m *message) {
	regular := s.regular()
	target := m.target()
	if s.path != nil {
		target = ""
	}
	n := len(m.method) + len(target) + len("host") + len(m.authority)
	for i := range regular {
		n += len(regular[i].Name) + len(regular[i].Value)
	}
	if cap(s.text) < n {
		s.text = make([]byte, 0, 2*n)
	}
	text := append(append(s.text[:0], m.method...), target...)
	put := func(v string) []byte {
		from := len(text)
		text = append(text, v...)
		return text[from:len(text):len(text)]
	}
	s.lent = s.lent[:0]
	if m.has&hasAuthority != 0 {
		s.lent = append(s.lent, exchange.HeadField{Name: put("host"), Value: put(m.authority)})
	}
	for i := range regular {
		s.lent = append(s.lent, exchange.HeadField{Name: put(regular[i].Name), Value: put(regular[i].Value)})
	}
	s.text, s.isLent = text, true
}

// onlyRegular leaves out pseudo-header fields that stand where none may.
func onlyRegular(fields []hpack.HeaderField) []hpack.HeaderField {
	for i := range fields {
		if fields[i].IsPseudo() {
			var clean []hpack.HeaderField
			for _, f := range fields {
				if !f.IsPseudo() {
					clean = append(clean, f)
				}
			}
			return clean
		}
	}
	return fields
}
