package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/sample"
)

// descriptorFile has a service whose method Get has no side effects.
func descriptorFile(t *testing.T) string {
	t.Helper()
	method := func(name string, o *descriptorpb.MethodOptions) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{Name: &name, InputType: proto.String(".shop.User"), OutputType: proto.String(".shop.User"), Options: o}
	}
	set, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{
		Name: proto.String("shop.proto"), Package: proto.String("shop"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("User"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("name"), Number: proto.Int32(2), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Users"), Method: []*descriptorpb.MethodDescriptorProto{
			method("Get", &descriptorpb.MethodOptions{IdempotencyLevel: descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()}), method("Put", nil),
		}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "shop.binpb")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDiffDescriptors: with descriptors, by flag or by the rules, fields have names.
func TestDiffDescriptors(t *testing.T) {
	file := descriptorFile(t)
	user := func(name string) string {
		return string(protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), name))
	}
	answer := func(kind, body string) string {
		return "HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\n\r\n" + body
	}
	call := func(message string) string {
		return string([]byte{0, 0, 0, 0, byte(len(message))}) + message
	}
	const plain, grpc = "application/x-protobuf; messageType=shop.User", "application/grpc"
	for name, tt := range map[string]struct {
		o         DiffOptions
		kind      string
		ref, cand string
		rules     string
		want      string
	}{
		"none":              {DiffOptions{}, plain, user("a"), user("b"), "", "$['#2']"},
		"flag":              {DiffOptions{Descriptors: file}, plain, user("a"), user("b"), "", "$.name"},
		"rules":             {DiffOptions{}, plain, user("a"), user("b"), "descriptors: " + file + "\n", "$.name"},
		"grpc":              {DiffOptions{Descriptors: file, GRPC: "/shop.Users/Get"}, grpc, call(user("a")), call(user("b")), "", "$[0].name"},
		"grpc, no method":   {DiffOptions{Descriptors: file}, grpc, call(user("a")), call(user("b")), "", "$[0]['#2']"},
		"rules by the name": {DiffOptions{Descriptors: file}, plain, user("a"), user("b"), "ignore: {json: [$.name]}\n", "equal but for what is ignored"},
	} {
		out, different, err := diffOf(t, tt.o, answer(tt.kind, tt.ref), answer(tt.kind, tt.cand), tt.rules)
		if err != nil || different != strings.HasPrefix(tt.want, "$") || !strings.Contains(out, tt.want) {
			t.Errorf("%s: different %v, error %v\n%s\nwant %s", name, different, err, out, tt.want)
		}
	}
	for _, file := range []string{"none.binpb", "descriptors_test.go"} {
		if out, _, err := diffOf(t, DiffOptions{Descriptors: file}, answer(plain, ""), answer(plain, ""), ""); err == nil || !strings.Contains(out, file) {
			t.Errorf("%s: %s, error %v", file, out, err)
		}
	}
}

// TestSafeCalls: methods without side effects are replayed, beside those that
// replay.grpc names; a file that can't be read is an error of its key.
func TestSafeCalls(t *testing.T) {
	c := config.New()
	c.Experiments = []config.Experiment{config.NewExperiment("with"), config.NewExperiment("without")}
	c.Experiments[0].Replay.GRPC = []string{"/shop.Other/*"}
	c.Experiments[0].Compare.Descriptors = descriptorFile(t)
	sc := sample.Config{Experiments: []sample.Experiment{{GRPC: c.Experiments[0].Replay.GRPC}, {}}}
	types, err := safeCalls(c, &sc)
	if err != nil || types[0] == nil || types[1] != nil {
		t.Fatalf("types %v, error %v", types, err)
	}
	if got, want := sc.Experiments[0].GRPC, []string{"/shop.Other/*", "/shop.Users/Get"}; !slices.Equal(got, want) {
		t.Errorf("replayed calls %q, want %q", got, want)
	}
	if got := sc.Experiments[1].GRPC; len(got) > 0 {
		t.Errorf("without descriptors: %q", got)
	}
	c.Experiments[1].Compare.Descriptors = "none.binpb"
	if _, err := safeCalls(c, &sc); err == nil || !strings.Contains(fmt.Sprint(err), "experiments[1].compare.descriptors: open none.binpb") {
		t.Errorf("error %v, want one that names the key and the file", err)
	}
}
