package diff

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"
)

// message makes a message of pairs of a field's number and its value: uint64,
// string, or a message's bytes.
func message(pairs ...any) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		n := protowire.Number(pairs[i].(int))
		switch v := pairs[i+1].(type) {
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
		case uint32:
			b = protowire.AppendFixed32(protowire.AppendTag(b, n, protowire.Fixed32Type), v)
		case float64:
			b = protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), math.Float64bits(v))
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
		}
	}
	return b
}

func TestProtobufByNumber(t *testing.T) {
	const p = "application/x-protobuf"
	cmp := func(ref, cand []byte, want ...string) {
		t.Helper()
		expectBody(t, p, string(ref), string(cand), want...)
	}
	cmp(message(1, 5, 2, "x"), message(2, "x", 1, 5))
	cmp(message(1, 5, 2, "x"), message(1, 6, 2, "y"), "changed $['#1'] 5|6", "changed $['#2'] x|y")
	cmp(message(1, 5), message(1, 5, 3, "new"), "added $['#3'] |new")
	cmp(message(1, message(1, "in", 2, 7)), message(1, message(1, "in", 2, 8)), "changed $['#1']['#2'] 7|8")
	cmp(message(4, "a", 4, "b"), message(4, "a", 4, "b", 4, "c"), "added $['#4'][2] |c")
	cmp(message(4, "a"), message(4, "a", 4, "c"), "added $['#4'][1] |c")
	cmp(message(1, 5), message(1, uint32(5)), "changed $['#1'] varint 5|fixed32 5")
	cmp(message(1, []byte{0xff, 0xfe}), message(1, []byte{0xff, 0xfd}), "changed $['#1'] //4=|//0=")
	// What is a message on one side alone is bytes on both, so that what they
	// show is comparable.
	cmp(message(1, message(1, 7)), message(1, []byte{0xff}), "changed $['#1'] CAc=|/w==")
	cmp(message(1, "hi"), message(1, []byte{0xff}), "changed $['#1'] aGk=|/w==")
	cmp([]byte{0x08}, message(1, 5), "type_changed $ \b|\b\x05 ;the reference is no protobuf at byte 0")
	cmp([]byte("hello"), []byte("world"), "changed hello|world ;no protobuf: the reference at byte 2, the candidate at byte 0; the first difference is at byte 0")
	// A number that is spelled with more bytes is the same.
	cmp([]byte{0x08, 0x85, 0x00}, message(1, 5))
	expectRuled(t, RuleConfig{IgnoreJSON: []string{"$['#2']"}}, p, string(message(1, 5, 2, "x")), string(message(1, 5, 2, "y")), "~changed $['#2'] x|y")
	a, b := Difference{Aspect: AspectBody, Kind: KindChanged, Path: "$['#1']"}, Difference{Aspect: AspectBody, Kind: KindChanged, Path: "$['#2']"}
	if Fingerprint("e", "/", &a) == Fingerprint("e", "/", &b) {
		t.Error("two fields have one fingerprint")
	}
}

// descriptors are a small service.
func testFiles() *descriptorpb.FileDescriptorSet {
	type fd = descriptorpb.FieldDescriptorProto
	kind := func(k descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto_Type { return &k }
	label := func(repeated bool) *descriptorpb.FieldDescriptorProto_Label {
		l := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL
		if repeated {
			l = descriptorpb.FieldDescriptorProto_LABEL_REPEATED
		}
		return &l
	}
	f := func(name string, n int32, k descriptorpb.FieldDescriptorProto_Type, repeated bool, typ string) *fd {
		d := &fd{Name: proto.String(name), Number: proto.Int32(n), Type: kind(k), Label: label(repeated), JsonName: proto.String(name)}
		if typ != "" {
			d.TypeName = proto.String(typ)
		}
		return d
	}
	in := func(d *fd, oneof int32) *fd { d.OneofIndex = proto.Int32(oneof); return d }
	const (
		i32, s32, i64, dbl, flt = descriptorpb.FieldDescriptorProto_TYPE_INT32, descriptorpb.FieldDescriptorProto_TYPE_SINT32,
			descriptorpb.FieldDescriptorProto_TYPE_INT64, descriptorpb.FieldDescriptorProto_TYPE_DOUBLE, descriptorpb.FieldDescriptorProto_TYPE_FLOAT
		str, byt, msg, enm, bol = descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_BYTES,
			descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, descriptorpb.FieldDescriptorProto_TYPE_ENUM, descriptorpb.FieldDescriptorProto_TYPE_BOOL
	)
	user := &descriptorpb.DescriptorProto{
		Name: proto.String("User"),
		Field: []*fd{
			f("id", 1, i64, false, ""), f("name", 2, str, false, ""), f("score", 3, s32, true, ""), f("state", 4, enm, false, ".shop.State"),
			f("friend", 5, msg, false, ".shop.User"), f("tags", 6, msg, true, ".shop.User.TagsEntry"), f("ratio", 7, dbl, false, ""),
			f("blob", 8, byt, false, ""), in(f("mail", 9, str, false, ""), 0), in(f("phone", 10, str, false, ""), 0), f("on", 11, bol, false, ""),
			f("f", 12, flt, true, ""), f("delta", 13, i32, false, ""), f("any", 14, msg, false, ".google.protobuf.Any"),
		},
		OneofDecl: []*descriptorpb.OneofDescriptorProto{{Name: proto.String("contact")}},
		NestedType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("TagsEntry"), Field: []*fd{f("key", 1, str, false, ""), f("value", 2, i32, false, "")}, Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
		}},
	}
	safe := &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()}
	idempotent := &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_IDEMPOTENT.Enum()}
	return &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(anypb.File_google_protobuf_any_proto), {
		Name: proto.String("shop.proto"), Dependency: []string{"google/protobuf/any.proto"}, Package: proto.String("shop"), Syntax: proto.String("proto3"), MessageType: []*descriptorpb.DescriptorProto{user},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: proto.String("State"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: proto.String("NONE"), Number: proto.Int32(0)}, {Name: proto.String("OPEN"), Number: proto.Int32(1)},
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Users"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Get"), InputType: proto.String(".shop.User"), OutputType: proto.String(".shop.User"), Options: safe},
			{Name: proto.String("Watch"), InputType: proto.String(".shop.User"), OutputType: proto.String(".shop.User"), Options: safe, ServerStreaming: proto.Bool(true)},
			{Name: proto.String("Talk"), InputType: proto.String(".shop.User"), OutputType: proto.String(".shop.User"), Options: safe, ClientStreaming: proto.Bool(true)},
			{Name: proto.String("Put"), InputType: proto.String(".shop.User"), OutputType: proto.String(".shop.User"), Options: idempotent},
			{Name: proto.String("Drop"), InputType: proto.String(".shop.User"), OutputType: proto.String(".shop.User")},
		}}},
	}}}
}

func testDescriptors(t testing.TB) *Descriptors {
	t.Helper()
	set, err := proto.Marshal(testFiles())
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDescriptors(set)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// anyOf is a user with a google.protobuf.Any.
func anyOf(typ string, value []byte) []byte {
	return message(14, message(1, "type.googleapis.com/"+typ, 2, value))
}

func TestSafeMethods(t *testing.T) {
	if got, want := testDescriptors(t).SafeMethods(), []string{"/shop.Users/Get", "/shop.Users/Watch"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (*Descriptors)(nil).SafeMethods(); got != nil {
		t.Errorf("without descriptors: %q", got)
	}
}

func TestProtobufByName(t *testing.T) {
	in := Input{Descriptors: testDescriptors(t)}
	r := compile(t, RuleConfig{})
	const p = "Content-Type: application/x-protobuf; messageType=shop.User"
	packed := func(zigzag ...int64) []byte {
		var b []byte
		for _, v := range zigzag {
			b = protowire.AppendVarint(b, protowire.EncodeZigZag(v))
		}
		return b
	}
	for _, tt := range []struct {
		name      string
		ref, cand []byte
		want      []string
	}{
		{"names", message(1, 7, 2, "Ada"), message(1, 8, 2, "Eve"), []string{"body changed $.id 7|8", "body changed $.name Ada|Eve"}},
		{"a default that is sent", message(1, 7, 2, "", 4, 0, 11, 0), message(1, 7), nil},
		{"the last counts", message(1, 6, 1, 7), message(1, 7), nil},
		{"packed or not", message(3, packed(-1, 2)), append(message(3, 1), message(3, 4)...), nil},
		{"packed, a value", message(3, packed(-1, 2)), message(3, packed(-1, 3)), []string{"body changed $.score[1] 2|3"}},
		{"packed, nothing", message(1, 7, 3, []byte{}), message(1, 7), nil},
		{"an enum", message(4, 1), message(4, 9), []string{"body type_changed $.state OPEN|9"}},
		{"nested", message(5, message(2, "a")), message(5, message(2, "b")), []string{"body changed $.friend.name a|b"}},
		{"a message in two pieces", message(5, message(1, 7), 5, message(2, "b")), message(5, message(1, 7, 2, "b")), nil},
		{"a message with presence", message(5, []byte{}), message(), []string{"body removed"}},
		{"a map", message(6, message(1, "x", 2, 1), 6, message(1, "y", 2, 2)), message(6, message(1, "y", 2, 3), 6, message(1, "x", 2, 1)), []string{"body changed $.tags.y 2|3"}},
		{"a double", message(7, 0.5), message(7, 1.5), []string{"body changed $.ratio 0.5|1.5"}},
		{"not a number", message(7, math.NaN()), message(7, math.Inf(1)), []string{"body changed $.ratio NaN|+Inf"}},
		{"bytes", message(8, []byte{1}), message(8, []byte{2}), []string{"body changed $.blob AQ==|Ag=="}},
		{"a oneof", message(9, "m", 10, "p"), message(10, "p"), nil},
		{"a negative number", message(13, int(-1)), message(13, 1), []string{"body changed $.delta -1|1"}},
		{"an unknown field", message(1, 7, 99, "x"), message(1, 7, 99, "y"), []string{"body changed $['#99'][0] bytes eA==|bytes eQ=="}},
		{"another wire type", message(1, 7), message(1, "7"), []string{"body removed $.id 7|", "body added $['#1'] |[\"bytes Nw==\"]"}},
		{"any", anyOf("shop.User", message(2, "a")), anyOf("shop.User", message(2, "b")), []string{"body changed $.any.value.name a|b"}},
		{"any, spelled differently", anyOf("shop.User", message(1, 7, 2, "a")), anyOf("shop.User", message(2, "a", 1, 7)), nil},
		{"any in any", anyOf("shop.User", anyOf("shop.User", message(2, "a"))), anyOf("shop.User", anyOf("shop.User", message(2, "b"))), []string{"body changed $.any.value.any.value.name a|b"}},
		{"any of an unknown type", anyOf("shop.None", message(2, "a")), anyOf("shop.None", message(2, "b")), []string{"body changed $.any.value EgFh|EgFi"}},
		{"any that is none", anyOf("shop.User", message(2, "a")), anyOf("shop.User", []byte{0xff}), []string{`body type_changed $.any.value {"name":"a"}|bytes /w==`}},
		{"any of other types", anyOf("shop.User", message(2, "a")), anyOf("google.protobuf.Any", message(1, "x")), []string{
			"body changed $.any.type_url type.googleapis.com/shop.User|type.googleapis.com/google.protobuf.Any", "body removed $.any.value.name a|", "body added $.any.value.type_url |x"}},
		{"a message that is none", message(5, message(2, "a")), message(5, []byte{0xff}), []string{"body type_changed $.friend {\"name\":\"a\"}|bytes /w=="}},
	} {
		got := brief(r.Compare(get(), answer(200, string(tt.ref), p), answer(200, string(tt.cand), p), in).Differences)
		if tt.name == "a message with presence" { // an empty body is compared before anything else
			if len(got) != 1 || !strings.HasPrefix(got[0], tt.want[0]) {
				t.Errorf("%s: %q", tt.name, got)
			}
			continue
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got  %q\n want %q", tt.name, got, tt.want)
		}
	}
	for _, set := range [][]byte{nil, {0xff}, message(1, message(1, "a.proto", 3, "missing.proto"))} {
		if _, err := NewDescriptors(set); err == nil {
			t.Errorf("%q: no error", set)
		}
	}
}

// The oracle is the protobuf library: what it takes for equal messages is equal
// here, in whatever way it is sent.
func TestProtobufAgreesWithTheLibrary(t *testing.T) {
	files, err := protodesc.NewFiles(testFiles())
	if err != nil {
		t.Fatal(err)
	}
	found, err := files.FindDescriptorByName("shop.User")
	if err != nil {
		t.Fatal(err)
	}
	d := found.(protoreflect.MessageDescriptor)
	r := compile(t, RuleConfig{})
	in := Input{Descriptors: testDescriptors(t)}
	const p = "Content-Type: application/x-protobuf; messageType=shop.User"
	rapid.Check(t, func(rt *rapid.T) {
		var draw func(label string, depth int) []byte
		draw = func(label string, depth int) []byte {
			var b []byte
			for range rapid.IntRange(0, 5).Draw(rt, label) {
				switch rapid.IntRange(0, 7).Draw(rt, label) {
				case 0:
					b = append(b, message(1, rapid.IntRange(-1, 1).Draw(rt, label))...)
				case 1:
					b = append(b, message(2, rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, label))...)
				case 2:
					b = append(b, message(3, rapid.IntRange(0, 2).Draw(rt, label))...)
				case 3:
					b = append(b, message(3, []byte{1, 2}[:rapid.IntRange(0, 2).Draw(rt, label)])...)
				case 4:
					if depth > 0 {
						b = append(b, message(5, draw(label, depth-1))...)
					}
				case 5:
					b = append(b, message(6, message(1, rapid.SampledFrom([]string{"x", "y"}).Draw(rt, label), 2, rapid.IntRange(0, 1).Draw(rt, label)))...)
				case 6:
					b = append(b, message(9, rapid.SampledFrom([]string{"", "a"}).Draw(rt, label))...)
				case 7:
					b = append(b, message(10, "p")...)
				}
			}
			return b
		}
		ref, cand := draw("ref", 2), draw("cand", 2)
		x, y := dynamicpb.NewMessage(d), dynamicpb.NewMessage(d)
		if err := proto.Unmarshal(ref, x); err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "as the library would send it") {
			var err error
			if cand, err = proto.Marshal(x); err != nil {
				rt.Fatal(err)
			}
		}
		if err := proto.Unmarshal(cand, y); err != nil {
			rt.Fatal(err)
		}
		if len(ref) == 0 || len(cand) == 0 {
			return
		}
		got := r.Compare(get(), answer(200, string(ref), p), answer(200, string(cand), p), in)
		if same := proto.Equal(x, y); same != (got.Outcome == Equal) {
			rt.Fatalf("the library says %v: %x %x %q", same, ref, cand, brief(got.Differences))
		}
	})
}

// frames makes a gRPC body of messages.
func frames(messages ...[]byte) string {
	var b []byte
	for _, m := range messages {
		b = append(binary.BigEndian.AppendUint32(append(b, 0), uint32(len(m))), m...)
	}
	return string(b)
}

func TestGRPCMessages(t *testing.T) {
	const typ = "content-type: application/grpc"
	q := grpcRequest()
	q.Target = "/shop.Users/Get"
	cmp := func(in Input, ref, cand string, lines ...string) []string {
		t.Helper()
		lines = append([]string{typ}, lines...)
		return brief(compile(t, RuleConfig{}).Compare(q, answer(200, ref, lines...), answer(200, cand, lines...), in).Differences)
	}
	named := Input{Descriptors: testDescriptors(t)}
	ada, eve := message(1, 7, 2, "Ada"), message(1, 7, 2, "Eve")
	coded := func(m []byte) string {
		z := pack(t, "gzip", string(m))
		return string(binary.BigEndian.AppendUint32([]byte{1}, uint32(len(z)))) + z
	}
	for _, tt := range []struct {
		name      string
		in        Input
		ref, cand string
		lines     []string
		want      []string
	}{
		{"by number", Input{}, frames(ada), frames(eve), nil, []string{"body changed $[0]['#2'] Ada|Eve"}},
		{"by name", named, frames(ada), frames(eve), nil, []string{"body changed $[0].name Ada|Eve"}},
		{"one message more", named, frames(ada), frames(ada, eve), nil, []string{`body added $[1] |{"id":7,"name":"Eve"}`}},
		{"coded or not", named, coded(ada), frames(ada), []string{"grpc-encoding: gzip"}, nil},
		{"coded, a value", named, coded(ada), coded(eve), []string{"grpc-encoding: gzip"}, []string{"body changed $[0].name Ada|Eve"}},
		{"coded in secret", named, coded(ada), frames(ada), nil, []string{"body not_fully_compared $ " + coded(ada) + "|" + frames(ada) + " ;the reference: message 0 is coded and grpc-encoding does not say how"}},
		{"cut", named, frames(ada), frames(ada)[:8], nil, []string{"body not_fully_compared $ " + frames(ada) + "|" + frames(ada)[:8] + " ;the candidate: gRPC is cut in message 0 at byte 5"}},
		{"no protobuf", named, frames([]byte("hello")), frames(ada), nil, []string{"body not_fully_compared $ " + frames([]byte("hello")) + "|" + frames(ada) + " ;the reference: message 0 is no protobuf at byte 2"}},
	} {
		if got := cmp(tt.in, tt.ref, tt.cand, tt.lines...); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got  %q\n want %q", tt.name, got, tt.want)
		}
	}
	if d := testDescriptors(t); d.output("/shop.Users/Get") == nil || d.output("/shop.Users/List") != nil || d.output("/shop.User/Get") != nil || d.output("shop") != nil || (*Descriptors)(nil).output("/shop.Users/Get") != nil {
		t.Error("the method's type is not found by the path")
	}
	jsonLines := func(s string) string { return frames([]byte(s)) }
	ref, cand := answer(200, jsonLines(`{"a":1,"b":2}`), "content-type: application/grpc+json"), answer(200, jsonLines(`{"b":3,"a":1}`), "content-type: application/grpc+json")
	expectDiffs(t, compile(t, RuleConfig{}).Compare(q, ref, cand, Input{}), Divergent, "body changed $[0].b 2|3")
}

// FuzzProtobuf: no panic, symmetric, bounded, with and without descriptors.
func FuzzProtobuf(f *testing.F) {
	f.Add(message(1, 5, 2, "x", 5, message(1, 1)), message(2, "x", 1, 6), "application/x-protobuf; messageType=shop.User")
	f.Add([]byte(frames(message(1, 5), message(6, message(1, "k")))), []byte(frames(message(3, []byte{1, 2}))), "application/grpc")
	f.Add([]byte{0x0b, 0x08, 1, 0x0c}, []byte{0x0b, 0x0c}, "application/protobuf")
	in := Input{Descriptors: testDescriptors(f)}
	r, err := Compile(RuleConfig{MaxDepth: 4})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b []byte, contentType string) {
		if len(a) > 4<<10 || len(b) > 4<<10 {
			return
		}
		q := get()
		q.Target = "/shop.Users/Get"
		ref, cand := answer(200, string(a), "Content-Type: "+contentType), answer(200, string(b), "Content-Type: "+contentType)
		checkResult(t, r, q, ref, cand)
		there, back := r.Compare(q, ref, cand, in), r.Compare(q, cand, ref, in)
		if there.Outcome != back.Outcome {
			t.Fatalf("%q %q", brief(there.Differences), brief(back.Differences))
		}
		if there.Outcome == Equal && !bytes.Equal(a, b) && newMedia(contentType).family == familyBytes {
			t.Fatal(fmt.Sprint("equal: ", a, b))
		}
	})
}

// TestDescriptorImports: public imports that branch and meet again are refused
// at once when they have too many ways, and read when they have few.
func TestDescriptorImports(t *testing.T) {
	ladder := func(steps int) []byte {
		set := &descriptorpb.FileDescriptorSet{}
		name := func(i int) string { return fmt.Sprintf("f%d.proto", i) }
		for i := range steps {
			f := &descriptorpb.FileDescriptorProto{Name: proto.String(name(i)), Syntax: proto.String("proto3")}
			for k := max(0, i-2); k < i; k++ {
				f.Dependency = append(f.Dependency, name(k))
				f.PublicDependency = append(f.PublicDependency, int32(len(f.Dependency)-1))
			}
			set.File = append(set.File, f)
		}
		b, err := proto.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := NewDescriptors(ladder(15)); err != nil {
		t.Errorf("few: %v", err)
	}
	if _, err := NewDescriptors(ladder(500)); err == nil || !strings.Contains(err.Error(), "more than 1048576 imports") {
		t.Errorf("many: %v", err)
	}
}

// FuzzDescriptors: whatever a file or a candidate gives as types ends, in types
// or an error, and what is read can be asked.
func FuzzDescriptors(f *testing.F) {
	set, err := proto.Marshal(testFiles())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set)
	f.Add(message(1, message(1, "a.proto", 3, "b.proto", 10, 0), 1, message(1, "b.proto", 3, "a.proto", 10, 0)))
	f.Fuzz(func(t *testing.T, set []byte) {
		d, err := NewDescriptors(set)
		if err != nil {
			return
		}
		for _, m := range d.SafeMethods() {
			if d.output(m) == nil {
				t.Fatalf("method %q has no answers' type", m)
			}
		}
	})
}
