package replay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/encoding/protowire"
)

// What Reflect takes from a target at most, over all of its questions.
const (
	reflectTimeout = 5 * time.Second
	reflectBytes   = 8 << 20 // as received, framing included
	reflectFiles   = 1000    // and as many services
	// reflectFields bounds what the bytes become in memory: a message of two
	// bytes takes hundreds there.
	reflectFields = 250_000
	// reflectDepth bounds messages in messages, of a type as of its description.
	reflectDepth = 64
)

// reflectServices are the versions of gRPC's server reflection, the preferred
// one first. They have the same messages
// (grpc/grpc src/proto/grpc/reflection/v1/reflection.proto).
var reflectServices = [...]string{"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}

// Errors of Reflect that callers branch on.
var (
	// ErrNoReflection: the target has no reflection service.
	ErrNoReflection = errors.New("the target has no gRPC server reflection (grpc.reflection.v1 or v1alpha)")
	// ErrOff: replay is off, so nothing was sent.
	ErrOff = errors.New("replay is off")
)

// Reflect asks the target by gRPC server reflection for the protobuf types of
// its services, with all that they import. It gives a serialised
// google.protobuf.FileDescriptorSet, which the caller owns, without the
// positions in source files. The connection is one of its own, told to OwnReplay
// and under the rules of replays; it carries the role and no captured field.
// Breaker, MaxInFlight and MaxRate do not hold for it, and it is in no result.
//
// It takes 5s, 8 MiB and 1,000 files at most; more is an error. So is what is
// not whole: names that have no file. A service that is not described is left
// out, unless none is.
func (r *Replayer) Reflect(ctx context.Context) ([]byte, error) {
	r.mu.Lock()
	off, life := r.paused || r.stopping, r.life
	r.mu.Unlock()
	if off {
		return nil, ErrOff
	}
	ctx, cancel := context.WithTimeout(ctx, reflectTimeout)
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	set, err := r.reflect(ctx)
	switch {
	case err == nil:
		return set, nil
	case life.Err() != nil:
		return nil, ErrOff
	case ctx.Err() != nil:
		err = fmt.Errorf("not answered in time: %w", err)
	}
	return nil, fmt.Errorf("server reflection: %w", err)
}

func (r *Replayer) reflect(ctx context.Context) ([]byte, error) {
	k := &reflecting{r: r, known: make(map[string]bool), fields: reflectFields}
	for _, service := range reflectServices {
		set, err := k.over(ctx, service)
		if !errors.Is(err, ErrNoReflection) {
			return set, err
		}
	}
	return nil, ErrNoReflection
}

// reflecting is one call of Reflect.
type reflecting struct {
	r     *Replayer
	c     *http2Conn
	known map[string]bool // the files that are in set
	set   []byte
	// missing are imports that are not known yet, or were not.
	missing []string
	fields  int // that may still come
}

// over asks one version of the service, over a connection of its own.
func (k *reflecting) over(ctx context.Context, service string) ([]byte, error) {
	c, err := k.r.dialHTTP2(ctx, netip.AddrPort{})
	if err != nil {
		return nil, err
	}
	// When all was read there is nothing to lose.
	defer c.abort()
	k.c = c
	if d, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(d); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.open(); err != nil {
		return nil, err
	}
	c.in.left = reflectBytes
	a, err := k.ask(service, reflectList, "")
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(a.services, func(s string) bool { return slices.Contains(reflectServices[:], s) })
	if len(names) == 0 {
		return nil, errors.New("it lists no service")
	}
	if a, err = k.ask(service, reflectSymbol, names...); err != nil {
		return nil, err
	}
	if err := k.add(a); err != nil {
		return nil, err
	}
	if len(k.known) == 0 {
		return nil, fmt.Errorf("it describes none of %d services: %.200q", len(names), a.refused)
	}
	for len(k.missing) > 0 {
		names := k.missing
		k.missing = nil
		if a, err = k.ask(service, reflectFile, names...); err != nil {
			return nil, err
		}
		if err := k.add(a); err != nil {
			return nil, err
		}
		for _, n := range names {
			if !k.known[n] {
				return nil, fmt.Errorf("it does not give the imported file %.200q: %.200q", n, a.refused)
			}
		}
	}
	return k.set, nil
}

// The members of a question's oneof (ServerReflectionRequest).
const (
	reflectFile   protowire.Number = 3
	reflectSymbol protowire.Number = 4
	reflectList   protowire.Number = 7
)

// ask sends one question for each name and reads the answers. The service
// streams both ways; here all questions go out, then all answers come.
func (k *reflecting) ask(service string, what protowire.Number, names ...string) (*reflectAnswer, error) {
	r, c := k.r, k.c
	if len(names) > reflectFiles {
		return nil, fmt.Errorf("it names more than %d services or files", reflectFiles)
	}
	var body []byte
	for _, n := range names {
		q := protowire.AppendString(protowire.AppendTag(nil, what, protowire.BytesType), n)
		body = append(binary.BigEndian.AppendUint32(append(body, 0), uint32(len(q))), q...)
	}
	scheme := "http"
	if r.target.https {
		scheme = "https"
	}
	list := []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: scheme}, {Name: ":authority", Value: r.target.authority},
		{Name: ":path", Value: "/" + service + "/ServerReflectionInfo"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
		{Name: strings.ToLower(RoleHeader), Value: r.rewrite.roleValue},
	}
	a := &http2Answer{c: c, method: "POST", maxBody: reflectBytes, start: time.Now()}
	if err := a.allowed(); err != nil {
		return nil, err
	}
	u, err := c.send(make([]byte, bufferSize), list, body, nil)
	if err == nil || isClosed(err) {
		err = a.read()
	}
	if err != nil {
		u.abort()
		return nil, err
	}
	whole := u.finish()
	answer := a.response
	status := answer.Trailer.Get("grpc-status")
	message := answer.Trailer.Get("grpc-message")
	if status == "" {
		status, message = answer.Header.Get("grpc-status"), answer.Header.Get("grpc-message")
	}
	switch {
	case status == "12" || status == "" && answer.Status == 404: // UNIMPLEMENTED
		return nil, ErrNoReflection
	case answer.Status != 200 || status != "0":
		return nil, fmt.Errorf("it answers with status %d, grpc-status %.20q, %.200q", answer.Status, status, message)
	case !whole:
		return nil, errors.New("it answers before it has read the questions")
	case c.goingAway != nil:
		return nil, c.goingAway
	}
	return readReflection(answer.Body.Bytes)
}

// add takes the files of an answer that are not known yet.
func (k *reflecting) add(a *reflectAnswer) error {
	for _, b := range a.files {
		f, err := readProtoFile(b)
		if err != nil {
			return err
		}
		if k.known[f.name] {
			continue
		}
		if len(k.known) >= reflectFiles {
			return fmt.Errorf("it has more than %d files", reflectFiles)
		}
		if err := countFields(f.bytes, &k.fields, reflectDepth); err != nil {
			return fmt.Errorf("file %.200q: %w", f.name, err)
		}
		k.known[f.name] = true
		// FileDescriptorSet: repeated FileDescriptorProto file = 1.
		k.set = protowire.AppendBytes(protowire.AppendTag(k.set, 1, protowire.BytesType), f.bytes)
		k.missing = append(k.missing, f.imports...)
	}
	k.missing = slices.DeleteFunc(k.missing, func(n string) bool { return k.known[n] })
	slices.Sort(k.missing)
	k.missing = slices.Compact(k.missing)
	return nil
}

// reflectAnswer is what a stream of answers says. Its bytes are those of the
// answer.
type reflectAnswer struct {
	services []string
	files    [][]byte // FileDescriptorProto
	refused  string   // the last error's message
}

var errReflection = errors.New("its answer is not that of a reflection service")

// readReflection reads gRPC messages of type ServerReflectionResponse.
func readReflection(body []byte) (*reflectAnswer, error) {
	a := &reflectAnswer{}
	for len(body) > 0 {
		if len(body) < 5 || body[0] != 0 || uint64(binary.BigEndian.Uint32(body[1:])) > uint64(len(body)-5) {
			return nil, errReflection
		}
		n := 5 + int(binary.BigEndian.Uint32(body[1:]))
		message := body[5:n]
		body = body[n:]
		err := eachField(message, func(num protowire.Number, b []byte) error {
			switch num {
			case 4: // file_descriptor_response
				return eachField(b, func(num protowire.Number, b []byte) error {
					if num == 1 { // file_descriptor_proto
						if a.files = append(a.files, b); len(a.files) > 10*reflectFiles {
							return fmt.Errorf("it sends more than %d files", 10*reflectFiles)
						}
					}
					return nil
				})
			case 6: // list_services_response
				return eachField(b, func(num protowire.Number, b []byte) error {
					if num != 1 { // service
						return nil
					}
					return eachField(b, func(num protowire.Number, b []byte) error {
						if num == 1 { // name
							if a.services = append(a.services, string(b)); len(a.services) > reflectFiles {
								return fmt.Errorf("it names more than %d services", reflectFiles)
							}
						}
						return nil
					})
				})
			case 7: // error_response
				return eachField(b, func(num protowire.Number, b []byte) error {
					if num == 2 { // error_message
						a.refused = string(b[:min(len(b), 200)])
					}
					return nil
				})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return a, nil
}

// eachField calls f for each field of a message that has bytes: with its number and
// its value. Other fields are read over.
func eachField(b []byte, f func(num protowire.Number, value []byte) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errReflection
		}
		v := protowire.ConsumeFieldValue(num, kind, b[n:])
		if v < 0 {
			return errReflection
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b[n:])
			if err := f(num, value); err != nil {
				return err
			}
		}
		b = b[n+v:]
	}
	return nil
}

// protoFile is a FileDescriptorProto.
type protoFile struct {
	name    string
	imports []string
	bytes   []byte // without source_code_info
}

func readProtoFile(b []byte) (*protoFile, error) {
	f := &protoFile{bytes: make([]byte, 0, len(b))}
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, errReflection
		}
		v := protowire.ConsumeFieldValue(num, kind, b[n:])
		if v < 0 {
			return nil, errReflection
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(b[n:])
			switch num {
			case 1: // name
				f.name = string(value)
			case 3: // dependency
				if f.imports = append(f.imports, string(value)); len(f.imports) > reflectFiles {
					return nil, fmt.Errorf("file %.200q has more than %d imports", f.name, reflectFiles)
				}
			}
		}
		if num != 9 { // source_code_info
			f.bytes = append(f.bytes, b[:n+v]...)
		}
		b = b[n+v:]
	}
	if f.name == "" {
		return nil, errors.New("it sends a file without a name")
	}
	return f, nil
}

// countFields takes from left what in b is a message or could be one, and what
// lies in it: a string that reads as one counts too.
func countFields(b []byte, left *int, depth int) error {
	if depth == 0 {
		return fmt.Errorf("messages in messages are more than %d deep", reflectDepth)
	}
	err := eachField(b, func(_ protowire.Number, value []byte) error {
		if *left--; *left < 0 {
			return fmt.Errorf("its types have more than %d parts", reflectFields)
		}
		return countFields(value, left, depth-1)
	})
	if err == errReflection {
		return nil // a string
	}
	return err
}
