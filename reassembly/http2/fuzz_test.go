package http2_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Any bytes on a connection, cut, lost and joined anywhere: no panic, no byte and
// no exchange without its counter, no memory that stays; and however HTTP/2 is
// cut and whenever it rests, the exchanges are the same.
func FuzzConnection(f *testing.F) {
	add := func(write func(v *conv)) {
		v := newConv()
		v.hello()
		write(v)
		var b [2][]byte
		for _, m := range v.msgs {
			b[index(m.client)] = append(b[index(m.client)], m.b...)
		}
		for seed := range uint64(3) {
			f.Add(b[0], b[1], seed)
		}
	}
	add(func(v *conv) { v.get(1); v.ok(1, "body"); v.post(3); v.data(true, 3, true, "abc"); v.ok(3, "") })
	add(func(v *conv) {
		v.post(1, grpcType)
		v.data(true, 1, true, grpcMessage("x"))
		v.headers(false, 1, false, ":status: 200", grpcType)
		v.data(false, 1, false, grpcMessage("y"))
		v.headers(false, 1, true, "grpc-status: 0", "grpc-message: %20")
	})
	add(func(v *conv) {
		v.headers(true, 1, false, ":method: CONNECT", ":authority: a:1")
		v.headers(false, 1, false, ":status: 200")
		v.data(false, 1, true, "bytes")
		v.frame(true, 3, 0, 1, "\x00\x00\x00\x08")
		v.frame(false, 7, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00why")
	})
	add(func(v *conv) {
		v.get(1)
		v.frame(false, 5, 12, 1, "\x01\x00\x00\x00\x02\x82\x86\x84\x41\x01h\x00")
		v.headers(false, 1, false, ":status: 103")
		v.ok(1, "x")
		v.ok(2, "y")
		v.announce(64)
	})
	f.Add([]byte(asksH2+preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"), []byte(switched+"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88"), uint64(4))
	f.Fuzz(func(t *testing.T, client, server []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 3))
		v := newConv()
		v.noSYN = seed%4 == 3
		// On a late connection the segments' starts count, and what HTTP/1 makes
		// of bytes that are none may hang on the cut.
		same := !v.noSYN && strings.HasPrefix(string(client), preface) && strings.HasPrefix(string(server), "\x00")
		for len(client)+len(server) > 0 {
			if n := r.IntN(len(client) + 1); n > 0 {
				v.raw(true, string(client[:n]))
				client = client[n:]
			}
			if n := r.IntN(len(server) + 1); n > 0 {
				v.raw(false, string(server[:n]))
				server = server[n:]
			}
		}
		seq := [2]uint32{r.Uint32(), r.Uint32()}
		want := exchange.Want(seed % 3)
		// With little memory it may hang on the cut what is evicted.
		one := room{live: true, want: want, budget: 1 << 30}.run(t, v.segments(seq, func() int { return 1 << 30 }))
		for _, x := range one.got {
			if x.Request == nil || x.Response == nil || x.Response.Status < 100 || x.Request.Method == "" || v.noSYN && x.Stream > 1 && one.got[0].Stream != 1 && !strings.Contains(string(v.msgs[0].b), "HTTP") {
				t.Fatalf("no exchange: %+v", x)
			}
		}
		mss := 1 + r.IntN(40)
		cut := v.segments(seq, func() int { return 1 + r.IntN(mss) })
		if same {
			two := room{live: true, want: want, budget: 1 << 30, rest: func(int) bool { return r.IntN(4) == 0 }}.run(t, cut)
			if a, b := strings.Join(one.words, "; ")+one.ends(), strings.Join(two.words, "; ")+two.ends(); a != b || one.n != two.n {
				t.Fatalf("whole: %s\ncut: %s", a, b)
			}
		}
		var left []seg
		for i, s := range cut {
			if r.IntN(20) > 0 || i < 2 {
				left = append(left, s)
			}
		}
		room{live: seed%2 == 0, want: want, budget: 64 << 10, rest: func(int) bool { return r.IntN(8) == 0 }}.run(t, left)
	})
}
