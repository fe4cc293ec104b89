//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Where grpc-go serves.
const (
	callsAddr4 = "10.77.2.2:8081"
	callsAddr6 = "[fd77:2::2]:8081"
)

// opaque is a codec whose messages are byte slices, so that no generated code is
// needed.
type opaque struct{}

func (opaque) Name() string { return "opaque" }

func (opaque) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (opaque) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = opaque{}

// most is the largest message.
const most = 32 << 20

// startCalls serves gRPC by grpc-go until the test ends, into the reference's
// account.
func startCalls(t *testing.T, s *stage, r *reference) {
	t.Helper()
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(opaque{}),
		grpc.MaxRecvMsgSize(most), grpc.MaxSendMsgSize(most),
		// Methods have the exchange's number in them, so none is registered.
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return r.call(stream) }),
	)
	var serving sync.WaitGroup
	for _, address := range []string{callsAddr4, callsAddr6} {
		l := s.server.Listen(t, "tcp", address)
		serving.Go(func() { server.Serve(countedListener{l, r}) })
	}
	t.Cleanup(func() { server.Stop(); serving.Wait() })
}

// frames hashes gRPC's messages as they are in DATA frames.
type frames struct {
	h    hash.Hash
	size int64
}

func (f *frames) add(message []byte) {
	var head [5]byte // not compressed, and the length
	binary.BigEndian.PutUint32(head[1:], uint32(len(message)))
	f.h.Write(head[:])
	f.h.Write(message)
	f.size += int64(len(head) + len(message))
}

func (f *frames) digested() (s digested) {
	s.size = f.size
	f.h.Sum(s.digest[:0])
	return s
}

// call answers a call: one message of the answer's bytes, or several that have
// them together, or an error.
func (r *reference) call(stream grpc.ServerStream) error {
	target, _ := grpc.MethodFromServerStream(stream)
	p, err := parseTarget(target)
	if err != nil {
		r.refuse(err.Error())
		return err
	}
	from, _ := peer.FromContext(stream.Context())
	e := served{proto: "h2c", method: "POST", target: target, client: from.Addr.String(), status: 200, interim: []int{}, framing: "h2", grpc: "0"}
	in, out := &frames{h: sha256.New()}, &frames{h: sha256.New()}
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			break
		} else if err != nil {
			r.refuse(fmt.Sprintf("%s: %v", target, err))
			return err
		}
		in.add(message)
	}
	if p.form == formError {
		err = status.Error(codes.NotFound, "there is none")
		e.grpc = fmt.Sprint(int(codes.NotFound))
	}
	for _, message := range p.messages() {
		out.add(message)
		if err := stream.SendMsg(&message); err != nil {
			r.refuse(fmt.Sprintf("%s: %v", target, err))
			return err
		}
	}
	e.request, e.response = in.digested(), out.digested()
	r.note(p.n, e)
	return err
}

// messages are the answer's: of a stream up to five, of about the same length.
func (p plan) messages() (list [][]byte) {
	b := bodyOf(p.n, toClient, p.response)
	n := 1
	switch p.form {
	case formError:
		return nil
	case formStream:
		n = 1 + p.n/20%5
	}
	for i := range n {
		list = append(list, b.appendTo(nil, i*b.size()/n, (i+1)*b.size()/n))
	}
	return list
}

// grpc opens one connection after the other and calls over it, 32 at a time.
func (s *sending) grpc(worker int) error {
	to := callsAddr4
	if worker%2 == 1 {
		to = callsAddr6
	}
	for s.more(grpcCalls) {
		conn, err := grpc.NewClient("passthrough:///calls.test",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return s.load.from.DialContext(ctx, "tcp", to)
			}),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(opaque{}), grpc.MaxCallRecvMsgSize(most), grpc.MaxCallSendMsgSize(most)),
		)
		if err != nil {
			return err
		}
		s.streams(grpcCalls, 32, func() func(plan) error {
			return func(p plan) error { return s.call(conn, p) }
		})
		if err := conn.Close(); err != nil {
			return err
		}
	}
	return nil
}

// call makes one call and checks what comes.
func (s *sending) call(conn *grpc.ClientConn, p plan) error {
	b := bodyOf(p.n, toServer, p.request)
	message := b.appendTo(nil, 0, b.size())
	want := p.messages()
	if p.form != formStream {
		var answer []byte
		err := conn.Invoke(s.ctx, p.target(), &message, &answer)
		switch {
		case p.form == formError && status.Code(err) == codes.NotFound:
			return nil
		case err != nil:
			return err
		case p.form == formError || !bytes.Equal(answer, want[0]):
			return fmt.Errorf("the answer of %d bytes is another", len(answer))
		}
		return nil
	}
	stream, err := conn.NewStream(s.ctx, &grpc.StreamDesc{ServerStreams: true}, p.target())
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&message); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for n := 0; ; n++ {
		var answer []byte
		err := stream.RecvMsg(&answer)
		switch {
		case err == io.EOF && n == len(want):
			return nil
		case err != nil:
			return fmt.Errorf("after %d messages of %d: %w", n, len(want), err)
		case n >= len(want) || !bytes.Equal(answer, want[n]):
			return fmt.Errorf("message %d of %d bytes is another", n, len(answer))
		}
	}
}
