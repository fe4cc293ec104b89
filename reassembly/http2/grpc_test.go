package http2_test

import (
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func TestGRPC(t *testing.T) {
	one, two := grpcMessage("one"), grpcMessage(strings.Repeat("two", 9000))
	call := func(v *conv, requests ...string) {
		v.hello()
		v.post(1, grpcType, "te: trailers")
		for i, b := range requests {
			v.data(true, 1, i == len(requests)-1, b)
		}
	}
	answer := func(v *conv, status string, b ...string) {
		v.headers(false, 1, false, ":status: 200", grpcType)
		for _, b := range b {
			for ; len(b) > 16000; b = b[16000:] {
				v.data(false, 1, false, b[:16000])
			}
			v.data(false, 1, false, b)
		}
		v.headers(false, 1, true, "grpc-status: "+status, "grpc-message: a%20b%2")
	}
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		want  exchange.GRPC
		doubt exchange.Doubt
	}{
		{"unary", func(v *conv) { call(v, one); answer(v, "0", one) },
			exchange.GRPC{Kind: exchange.GRPCUnary, Status: "0", Message: "a b%2", Requests: 1, Responses: 1}, 0},
		{"a message over several frames", func(v *conv) { call(v, one[:2], one[2:6], one[6:]); answer(v, "0", two) },
			exchange.GRPC{Kind: exchange.GRPCUnary, Status: "0", Message: "a b%2", Requests: 1, Responses: 1}, 0},
		{"trailers only", func(v *conv) {
			call(v, one)
			v.headers(false, 1, true, ":status: 200", grpcType, "grpc-status: 12", "grpc-message: %E2%82%AC")
		}, exchange.GRPC{Kind: exchange.GRPCUnary, Status: "12", Message: "\u20ac", Requests: 1}, 0},
		{"server streaming", func(v *conv) { call(v, one); answer(v, "0", one+two, one) },
			exchange.GRPC{Kind: exchange.GRPCServerStream, Status: "0", Message: "a b%2", Requests: 1, Responses: 3}, 0},
		{"server streaming of nothing", func(v *conv) { call(v, one); answer(v, "0") },
			exchange.GRPC{Kind: exchange.GRPCServerStream, Status: "0", Message: "a b%2", Requests: 1}, 0},
		{"client streaming", func(v *conv) { call(v, one, one+one, ""); answer(v, "0", one) },
			exchange.GRPC{Kind: exchange.GRPCClientStream, Status: "0", Message: "a b%2", Requests: 3, Responses: 1}, exchange.DoubtGRPCStream},
		{"client streaming of nothing", func(v *conv) { call(v, ""); answer(v, "0", one) },
			exchange.GRPC{Kind: exchange.GRPCClientStream, Status: "0", Message: "a b%2", Responses: 1}, exchange.DoubtGRPCStream},
		{"both", func(v *conv) { call(v, one, one); answer(v, "0", one, one) },
			exchange.GRPC{Kind: exchange.GRPCBidi, Status: "0", Message: "a b%2", Requests: 2, Responses: 2}, exchange.DoubtGRPCStream},
		{"an answer before the requests are over", func(v *conv) {
			v.hello()
			v.post(1, grpcType)
			v.data(true, 1, false, one)
			v.headers(false, 1, false, ":status: 200", grpcType)
			v.data(false, 1, false, one)
			v.data(true, 1, true, "")
			v.headers(false, 1, true, "grpc-status: 0")
		}, exchange.GRPC{Kind: exchange.GRPCBidi, Status: "0", Requests: 1, Responses: 1}, exchange.DoubtGRPCStream},
		{"an empty message", func(v *conv) { call(v, grpcMessage("")); answer(v, "0", grpcMessage("")) },
			exchange.GRPC{Kind: exchange.GRPCUnary, Status: "0", Message: "a b%2", Requests: 1, Responses: 1}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			tt.write(v)
			for _, cut := range []int{1 << 30, 3} {
				res := room{live: true, want: exchange.WantWhole}.run(t, v.segments([2]uint32{1, 1}, func() int { return cut }))
				if len(res.got) != 1 {
					t.Fatalf("%q %s", res.words, res.ends())
				}
				x := res.got[0]
				if x.GRPC == nil || *x.GRPC != tt.want || x.Doubt != tt.doubt {
					t.Errorf("cut %d: %+v, doubt %q", cut, x.GRPC, x.Doubt)
				}
				if !strings.HasPrefix(res.heads[0], "1 POST /p true host=h content-type=application/grpc+proto") {
					t.Errorf("the keeper saw %q", res.heads[0])
				}
			}
		})
	}
	// The status is told of what is not kept too, and of gRPC alone.
	w := newConv()
	w.hello()
	for id := uint32(1); id < 8; id += 2 {
		w.post(id, []string{grpcType, grpcType, "content-type: text/plain", grpcType}[id/2])
		w.data(true, id, true, one)
	}
	w.headers(false, 1, true, ":status: 200", grpcType, "grpc-status: 14")
	for id := uint32(3); id < 8; id += 2 {
		w.headers(false, id, false, ":status: 200", grpcType)
		w.headers(false, id, true, []string{"grpc-status: 13", "grpc-status: 2", "x: y"}[id/2-1])
	}
	if res := (room{live: true, want: exchange.WantFrame}).run(t, w.whole()); strings.Join(res.grpc, ",") != "14,13,," {
		t.Errorf("statuses %q, %s", res.grpc, res.ends())
	}
	// All four bytes of the length count.
	v := newConv()
	v.hello()
	v.post(1, grpcType)
	for b := grpcMessage(strings.Repeat("\x00", 1<<24)) + one; ; b = b[16000:] {
		v.data(true, 1, len(b) <= 16000, b[:min(len(b), 16000)])
		if len(b) <= 16000 {
			break
		}
	}
	v.ok(1, one)
	if x := (room{live: true, want: exchange.WantList}).run(t, v.whole()).got[0]; x.GRPC.Requests != 2 {
		t.Errorf("%d messages, one of 16 MiB", x.GRPC.Requests)
	}
	for _, tt := range []struct {
		contentType string
		want        bool
	}{
		{"application/grpc", true}, {"application/grpc+json", true}, {"application/grpc;v=1", true},
		{"application/grpc-web", false}, {"application/json", false}, {"", false},
	} {
		v := newConv()
		v.hello()
		v.post(1, "content-type: "+tt.contentType)
		v.data(true, 1, true, one)
		v.ok(1, one)
		if x := (room{live: true, want: exchange.WantList}).run(t, v.whole()).got[0]; (x.GRPC != nil) != tt.want {
			t.Errorf("%q: %+v", tt.contentType, x.GRPC)
		}
	}
}
