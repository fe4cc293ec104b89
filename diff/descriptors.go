package diff

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Descriptors are the protobuf types that bodies are made of. They are not
// changed and may be used by any number of goroutines at once. With nil, fields
// go by their numbers.
type Descriptors struct{ files *protoregistry.Files }

// maxDescriptors bounds a descriptor set, in bytes.
const maxDescriptors = 64 << 20

// NewDescriptors reads a serialised google.protobuf.FileDescriptorSet, as
// protoc --include_imports --descriptor_set_out writes it or as a server's
// reflection gives its files. It keeps nothing of set.
func NewDescriptors(set []byte) (*Descriptors, error) {
	if len(set) > maxDescriptors {
		return nil, fmt.Errorf("read descriptor set: %d bytes are more than %d", len(set), maxDescriptors)
	}
	var files descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(set, &files); err != nil {
		return nil, fmt.Errorf("read descriptor set: %w", err)
	}
	if len(files.File) == 0 {
		return nil, errors.New("read descriptor set: it has no files")
	}
	if err := checkImports(files.File); err != nil {
		return nil, fmt.Errorf("read descriptor set: %w", err)
	}
	registry, err := protodesc.NewFiles(&files)
	if err != nil {
		return nil, fmt.Errorf("read descriptor set (protoc needs --include_imports): %w", err)
	}
	return &Descriptors{files: registry}, nil
}

// maxImports bounds the public imports that linking follows, each way to one
// file counted.
const maxImports = 1 << 20

// checkImports refuses files whose public imports branch and meet again so often
// that protodesc, which follows each way, would not end in years. It leaves all
// other faults to it.
func checkImports(files []*descriptorpb.FileDescriptorProto) error {
	byName := make(map[string]*descriptorpb.FileDescriptorProto, len(files))
	for _, f := range files {
		byName[f.GetName()] = f
	}
	// ways are those from a file through public imports, capped; a file that is
	// being counted has 0, for a cycle is an error later.
	ways := make(map[string]int, len(files))
	var count func(f *descriptorpb.FileDescriptorProto) int
	count = func(f *descriptorpb.FileDescriptorProto) int {
		if f == nil {
			return 0
		}
		if n, ok := ways[f.GetName()]; ok {
			return n
		}
		ways[f.GetName()] = 0
		n := 0
		for _, i := range f.PublicDependency {
			if i >= 0 && int(i) < len(f.Dependency) {
				n = min(n+1+count(byName[f.Dependency[i]]), maxImports+1)
			}
		}
		ways[f.GetName()] = n
		return n
	}
	total := 0
	for _, f := range files {
		for _, name := range f.Dependency {
			if total += 1 + count(byName[name]); total > maxImports {
				return fmt.Errorf("its files have more than %d imports, with those that public imports bring", maxImports)
			}
		}
	}
	return nil
}

// maxSafeMethods bounds what SafeMethods gives.
const maxSafeMethods = 10_000

// SafeMethods gives the gRPC methods whose option idempotency_level is
// NO_SIDE_EFFECTS, as /package.Service/Method, sorted; none in which the client
// streams. The caller owns the slice.
func (d *Descriptors) SafeMethods() []string {
	if d == nil {
		return nil
	}
	var all []string
	d.files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for k := range s.Methods().Len() {
				m := s.Methods().Get(k)
				o, ok := m.Options().(*descriptorpb.MethodOptions)
				if ok && o.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS && !m.IsStreamingClient() {
					all = append(all, "/"+string(s.FullName())+"/"+string(m.Name()))
				}
			}
		}
		return len(all) < maxSafeMethods
	})
	slices.Sort(all)
	return all
}

// message finds a message by its full name; nil without one.
func (d *Descriptors) message(name string) protoreflect.MessageDescriptor {
	if d == nil || name == "" {
		return nil
	}
	found, err := d.files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	m, _ := found.(protoreflect.MessageDescriptor)
	return m
}

// output finds the type of the answers to a gRPC request by its path,
// /package.Service/Method.
func (d *Descriptors) output(path string) protoreflect.MessageDescriptor {
	if d == nil || !strings.HasPrefix(path, "/") {
		return nil
	}
	service, method, ok := strings.Cut(path[1:], "/")
	if !ok {
		return nil
	}
	found, err := d.files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil
	}
	s, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil
	}
	m := s.Methods().ByName(protoreflect.Name(method))
	if m == nil {
		return nil
	}
	return m.Output()
}
