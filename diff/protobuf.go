package diff

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// This file turns protobuf messages into JSON text, both sides in the same way,
// and has that compared. With a descriptor, members have the fields' names; what
// has none has the field's number behind a #. The order of fields, how numbers
// are spelled and whether they are packed make no difference there, nor does a
// default value that is sent by a field without presence.
//
// Without a descriptor the wire format does not say what a length-delimited
// field holds. All occurrences of a field on both sides are looked at: when all
// are text they are strings; else, when all are whole messages, messages; else
// bytes, in base64. So both sides are always read in one way, but a nested
// message may show as a string of bytes and a packed list too. Numbers show as
// the unsigned integers that were sent: a zigzag -1 is 1, a double its bits.

// wireField is one field of a message as it was sent.
type wireField struct {
	number  protowire.Number
	kind    protowire.Type
	value   uint64
	payload []byte // of a length-delimited field or a group
}

// wireNumber reads the value that b starts with, of a type that has no length, and
// gives its length in bytes, negative when there is none.
func wireNumber(kind protowire.Type, b []byte) (value uint64, length int) {
	switch kind {
	case protowire.VarintType:
		return protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		v, n := protowire.ConsumeFixed32(b)
		return uint64(v), n
	case protowire.Fixed64Type:
		return protowire.ConsumeFixed64(b)
	}
	return 0, -1
}

// wireNext reads the field that b starts with and gives its length, negative
// when there is none.
func wireNext(b []byte) (f wireField, length int) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, n
	}
	f = wireField{number: number, kind: kind}
	length = n
	switch b = b[n:]; kind {
	case protowire.BytesType:
		f.payload, n = protowire.ConsumeBytes(b)
	case protowire.StartGroupType:
		f.payload, n = protowire.ConsumeGroup(number, b)
	default:
		f.value, n = wireNumber(kind, b)
	}
	if n < 0 {
		return f, n
	}
	return f, length + n
}

// wireCount gives the number of fields of one message, without looking into
// them, and the byte at which it is none, or -1.
func wireCount(message []byte) (fields, bad int) {
	for b := message; len(b) > 0; fields++ {
		_, n := wireNext(b)
		if n < 0 {
			return fields, len(message) - len(b)
		}
		b = b[n:]
	}
	return fields, -1
}

// wireFields reads the fields of one message, unless they are more than may
// still be written.
func (p *protobufText) wireFields(message []byte) (fields []wireField, ok bool) {
	n, bad := wireCount(message)
	if p.left -= n + 1; p.left < 0 || bad >= 0 {
		return nil, false
	}
	fields = make([]wireField, n)
	for i := range fields {
		f, n := wireNext(message)
		fields[i], message = f, message[n:]
	}
	return fields, true
}

// shape is what a message without a descriptor is taken for.
type shape map[protowire.Number]*fieldShape

type fieldShape struct {
	reading  reading
	repeated bool
	message  shape
}

type reading uint8

const (
	readNumber reading = iota
	readText           // length-delimited, text in all occurrences
	readNested         // length-delimited or a group
	readBytes
	readMixed // several wire types
)

// protobufText makes JSON of messages.
type protobufText struct {
	left  int // values that may still be written
	depth int // below which messages stay bytes
	types *Descriptors
}

// infer decides how the fields of messages are read, which stand at the same
// place on both sides. All are whole messages.
func (p *protobufText) infer(messages [][]byte, depth int) shape {
	type occurrences struct {
		kinds    uint8
		payloads [][]byte
		last     int
		repeated bool
	}
	all := map[protowire.Number]*occurrences{}
	for i, m := range messages {
		for len(m) > 0 {
			f, n := wireNext(m)
			m = m[n:]
			if p.left--; p.left < 0 {
				return nil
			}
			o := all[f.number]
			if o == nil {
				o = &occurrences{last: -1}
				all[f.number] = o
			}
			o.kinds |= 1 << f.kind
			o.repeated = o.repeated || o.last == i
			o.last = i
			if f.kind == protowire.BytesType || f.kind == protowire.StartGroupType {
				o.payloads = append(o.payloads, f.payload)
			}
		}
	}
	s := make(shape, len(all))
	for number, o := range all {
		f := &fieldShape{repeated: o.repeated}
		s[number] = f
		switch o.kinds {
		case 1 << protowire.BytesType:
			f.reading = readBytes
			if allOf(o.payloads, isText) {
				f.reading = readText
			} else if depth < p.depth && allOf(o.payloads, isMessage) {
				f.reading = readNested
			}
		case 1 << protowire.StartGroupType:
			if f.reading = readBytes; depth < p.depth && allOf(o.payloads, isMessage) {
				f.reading = readNested
			}
		case 1 << protowire.VarintType, 1 << protowire.Fixed32Type, 1 << protowire.Fixed64Type:
		default:
			f.reading = readMixed
		}
		if f.reading == readNested {
			if f.message = p.infer(o.payloads, depth+1); f.message == nil {
				return nil
			}
		}
	}
	return s
}

func allOf(payloads [][]byte, is func([]byte) bool) bool {
	for _, b := range payloads {
		if !is(b) {
			return false
		}
	}
	return true
}

func isText(b []byte) bool {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f {
			return false
		}
		i += n
	}
	return true
}

func isMessage(b []byte) bool {
	_, bad := wireCount(b)
	return bad < 0
}

// byNumber sorts fields by number and keeps the order of those of one number.
func byNumber(fields []wireField) {
	slices.SortStableFunc(fields, func(a, b wireField) int { return int(a.number) - int(b.number) })
}

// unnamed writes a message without a descriptor.
func (p *protobufText) unnamed(dst []byte, s shape, message []byte) []byte {
	fields, _ := p.wireFields(message) // infer has read it
	byNumber(fields)
	dst = append(dst, '{')
	for i := 0; i < len(fields); {
		if i > 0 {
			dst = append(dst, ',')
		}
		f := s[fields[i].number]
		dst = p.numbered(dst, fields[i].number)
		if !f.repeated {
			dst = p.raw(dst, f, &fields[i])
			i++
			continue
		}
		number := fields[i].number
		for open := byte('['); i < len(fields) && fields[i].number == number; i++ {
			dst = p.raw(append(dst, open), f, &fields[i])
			open = ','
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// numbered writes the name of a field that has none.
func (p *protobufText) numbered(dst []byte, number protowire.Number) []byte {
	return append(strconv.AppendInt(append(dst, '"', '#'), int64(number), 10), '"', ':')
}

func (p *protobufText) raw(dst []byte, f *fieldShape, w *wireField) []byte {
	switch f.reading {
	case readNumber:
		return strconv.AppendUint(dst, w.value, 10)
	case readText:
		return appendString(dst, string(w.payload))
	case readNested:
		return p.unnamed(dst, f.message, w.payload)
	case readBytes:
		return appendBase64(dst, w.payload)
	}
	return p.typed(dst, w)
}

// typed writes a value with the name of its wire type.
func (p *protobufText) typed(dst []byte, w *wireField) []byte {
	switch w.kind {
	case protowire.VarintType:
		return fmt.Appendf(dst, `"varint %d"`, w.value)
	case protowire.Fixed32Type:
		return fmt.Appendf(dst, `"fixed32 %d"`, w.value)
	case protowire.Fixed64Type:
		return fmt.Appendf(dst, `"fixed64 %d"`, w.value)
	case protowire.StartGroupType:
		return append(base64.StdEncoding.AppendEncode(append(dst, `"group `...), w.payload), '"')
	}
	return append(base64.StdEncoding.AppendEncode(append(dst, `"bytes `...), w.payload), '"')
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

// named writes a message by its descriptor. Of a field that is no list the last
// value counts, and messages are merged, as the encoding's documentation says.
func (p *protobufText) named(dst []byte, d protoreflect.MessageDescriptor, message []byte, depth int) []byte {
	if depth > p.depth {
		return appendBase64(dst, message)
	}
	fields, ok := p.wireFields(message)
	if !ok { // a field that should be a message and is none, or too many
		return append(base64.StdEncoding.AppendEncode(append(dst, `"bytes `...), message), '"')
	}
	fields = lastOfOneof(d, fields)
	byNumber(fields)
	packed := p.packed(d, fields)
	dst = append(dst, '{')
	first := true
	sep := func() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
	}
	for i := 0; i < len(fields); {
		j := i + 1
		for j < len(fields) && fields[j].number == fields[i].number {
			j++
		}
		same := fields[i:j]
		i = j
		f := d.Fields().ByNumber(same[0].number)
		var fit, rest []wireField
		for _, w := range same {
			if f != nil && fits(f, w.kind) {
				fit = append(fit, w)
			} else {
				rest = append(rest, w)
			}
		}
		if len(fit) > 0 && (f.HasPresence() || f.IsList() || f.IsMap() || !isZero(f, &fit[len(fit)-1])) {
			start, was := len(dst), first
			sep()
			dst = append(appendString(dst, string(f.Name())), ':')
			value := len(dst)
			if packed != nil && f.Number() == anyValue {
				dst = p.named(dst, packed, fit[len(fit)-1].payload, depth+1)
			} else if dst = p.field(dst, f, fit, depth); f.IsList() && string(dst[value:]) == "[]" {
				dst, first = dst[:start], was // a packed list of nothing is none
			}
		}
		if len(rest) > 0 {
			sep()
			dst = p.numbered(dst, rest[0].number)
			for k := range rest {
				open := byte(',')
				if k == 0 {
					open = '['
				}
				dst = p.typed(append(dst, open), &rest[k])
			}
			dst = append(dst, ']')
		}
	}
	return append(dst, '}')
}

// The fields of google.protobuf.Any.
const (
	anyType  = 1
	anyValue = 2
)

// packed gives the type of the message that a google.protobuf.Any of these fields
// holds as bytes; nil for other messages, and for types that are not known.
func (p *protobufText) packed(d protoreflect.MessageDescriptor, fields []wireField) protoreflect.MessageDescriptor {
	if d.FullName() != "google.protobuf.Any" {
		return nil
	}
	name := ""
	for i := range fields {
		if f := &fields[i]; f.number == anyType && f.kind == protowire.BytesType {
			name = string(f.payload)
		}
	}
	return p.types.message(name[strings.LastIndexByte(name, '/')+1:])
}

// lastOfOneof leaves out the members of a oneof that a later one replaces.
func lastOfOneof(d protoreflect.MessageDescriptor, fields []wireField) []wireField {
	if d.Oneofs().Len() == 0 {
		return fields
	}
	set := map[protoreflect.FullName]protowire.Number{}
	kept := fields[:0:0]
	for i := len(fields) - 1; i >= 0; i-- {
		if f := d.Fields().ByNumber(fields[i].number); f != nil && fits(f, fields[i].kind) {
			if o := f.ContainingOneof(); o != nil {
				if n, ok := set[o.FullName()]; ok && n != fields[i].number {
					continue
				}
				set[o.FullName()] = fields[i].number
			}
		}
		kept = append(kept, fields[i])
	}
	slices.Reverse(kept)
	return kept
}

// fits says whether a field may be sent as a wire type.
func fits(f protoreflect.FieldDescriptor, kind protowire.Type) bool {
	if f.IsList() && kind == protowire.BytesType {
		return true // packed, or elements that are length-delimited themselves
	}
	return wireType(f.Kind()) == kind
}

func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	}
	return protowire.VarintType
}

func isZero(f protoreflect.FieldDescriptor, w *wireField) bool {
	if w.kind == protowire.BytesType {
		return len(w.payload) == 0
	}
	return w.value == 0
}

// field writes the value of a field that was sent so.
func (p *protobufText) field(dst []byte, f protoreflect.FieldDescriptor, sent []wireField, depth int) []byte {
	switch {
	case f.IsMap():
		return p.entries(dst, f, sent, depth)
	case f.IsList():
		open := byte('[')
		for i := range sent {
			w := &sent[i]
			if w.kind != protowire.BytesType || wireType(f.Kind()) == protowire.BytesType {
				dst = p.scalar(append(dst, open), f, w, depth)
				open = ','
				continue
			}
			for b := w.payload; len(b) > 0; {
				kind := wireType(f.Kind())
				value, n := wireNumber(kind, b)
				if p.left--; p.left < 0 {
					return dst
				}
				if n < 0 { // a list that is broken off
					dst = appendBase64(append(dst, open), b)
					open = ','
					break
				}
				dst = p.scalar(append(dst, open), f, &wireField{kind: kind, value: value}, depth)
				open = ','
				b = b[n:]
			}
		}
		if open == '[' {
			dst = append(dst, '[')
		}
		return append(dst, ']')
	case f.Kind() == protoreflect.MessageKind || f.Kind() == protoreflect.GroupKind:
		last := sent[len(sent)-1]
		if len(sent) > 1 { // messages behind each other are their merger
			last.payload = nil
			for i := range sent {
				last.payload = append(last.payload, sent[i].payload...)
			}
		}
		return p.scalar(dst, f, &last, depth)
	}
	return p.scalar(dst, f, &sent[len(sent)-1], depth)
}

// entries writes a map as an object. Of equal keys the last counts.
func (p *protobufText) entries(dst []byte, f protoreflect.FieldDescriptor, sent []wireField, depth int) []byte {
	values := map[string]*wireField{}
	var keys []string
	for i := range sent {
		fields, ok := p.wireFields(sent[i].payload)
		if p.left < 0 {
			return dst
		}
		key := wireField{kind: wireType(f.MapKey().Kind())}
		value := &wireField{kind: wireType(f.MapValue().Kind())}
		for k := range fields {
			switch w := &fields[k]; {
			case w.number == 1 && w.kind == key.kind:
				key = *w
			case w.number == 2 && w.kind == value.kind:
				value = w
			}
		}
		name := string(p.scalar(nil, f.MapKey(), &key, depth))
		if !ok {
			name = fmt.Sprintf("#broken %d", i)
			value = &wireField{kind: protowire.BytesType, payload: sent[i].payload}
		}
		if len(name) > 1 && name[0] == '"' {
			name = name[1 : len(name)-1] // a string's JSON already
		}
		if _, ok := values[name]; !ok {
			keys = append(keys, name)
		}
		values[name] = value
	}
	slices.Sort(keys)
	dst = append(dst, '{')
	for i, name := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), '"', ':')
		if w := values[name]; w.kind != wireType(f.MapValue().Kind()) {
			dst = p.typed(dst, w)
		} else {
			dst = p.scalar(dst, f.MapValue(), w, depth)
		}
	}
	return append(dst, '}')
}

// scalar writes one value of a field.
func (p *protobufText) scalar(dst []byte, f protoreflect.FieldDescriptor, w *wireField, depth int) []byte {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, w.value != 0)
	case protoreflect.EnumKind:
		// Numbers are cut to 32 bits, as all readers do.
		if v := f.Enum().Values().ByNumber(protoreflect.EnumNumber(int32(w.value))); v != nil {
			return appendString(dst, string(v.Name()))
		}
		return strconv.AppendInt(dst, int64(int32(w.value)), 10)
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(dst, int64(int32(w.value)), 10)
	case protoreflect.Sint32Kind:
		return strconv.AppendInt(dst, protowire.DecodeZigZag(w.value&math.MaxUint32), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(dst, uint64(uint32(w.value)), 10)
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return strconv.AppendInt(dst, int64(w.value), 10)
	case protoreflect.Sint64Kind:
		return strconv.AppendInt(dst, protowire.DecodeZigZag(w.value), 10)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.AppendUint(dst, w.value, 10)
	case protoreflect.FloatKind:
		return appendFloat(dst, float64(math.Float32frombits(uint32(w.value))), 32)
	case protoreflect.DoubleKind:
		return appendFloat(dst, math.Float64frombits(w.value), 64)
	case protoreflect.StringKind:
		return appendString(dst, string(w.payload))
	case protoreflect.BytesKind:
		return appendBase64(dst, w.payload)
	}
	return p.named(dst, f.Message(), w.payload, depth+1)
}

// appendFloat writes a number; what JSON has no number for is a string.
func appendFloat(dst []byte, f float64, size int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return appendString(dst, strconv.FormatFloat(f, 'g', -1, size))
	}
	return strconv.AppendFloat(dst, f, 'g', -1, size)
}

// messages turns the messages of both sides into JSON arrays; nil when they
// have more values than the limit. All are whole messages.
func (c *comparison) messages(d protoreflect.MessageDescriptor, ref, cand [][]byte) (a, b [][]byte) {
	// Each field is counted when it is read and when it is written.
	p := protobufText{left: 2 * c.rules.limits.items(), depth: c.rules.limits.depth, types: c.in.Descriptors}
	var s shape
	if d == nil {
		if s = p.infer(slices.Concat(ref, cand), 0); s == nil {
			return nil, nil
		}
	}
	write := func(all [][]byte) [][]byte {
		out := make([][]byte, len(all))
		for i, m := range all {
			if d == nil {
				out[i] = p.unnamed(nil, s, m)
			} else {
				out[i] = p.named(nil, d, m, 0)
			}
		}
		return out
	}
	a, b = write(ref), write(cand)
	if p.left < 0 {
		return nil, nil
	}
	return a, b
}

// protobufBody compares two bodies that are one message each. The message's
// type is the media type's parameter messageType or proto.
func (c *comparison) protobufBody(m, n media, ref, cand []byte) {
	_, atRef := wireCount(ref)
	_, atCand := wireCount(cand)
	if atRef >= 0 || atCand >= 0 {
		c.notRead("protobuf", ref, cand, atRef, atCand)
		return
	}
	name := messageType(m)
	if name != messageType(n) {
		name = ""
	}
	a, b := c.messages(c.in.Descriptors.message(name), [][]byte{ref}, [][]byte{cand})
	if a == nil {
		c.addAt(KindNotFullyCompared, c.base, c.bytesValue(ref, 0), c.bytesValue(cand, 0), detailValues)
		return
	}
	c.jsonBody(a[0], b[0])
}

func messageType(m media) string {
	for _, p := range []string{"messagetype", "proto", "message"} {
		if v := m.params[p]; v != "" {
			return v
		}
	}
	return ""
}
