package http1_test

import (
	"bytes"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// ack is the flag of every segment behind the handshake.
const ack = reassembly.ACK

// What an attacker sends does not take more memory than the budget gives, on
// the books and on the heap, and a well-behaved flow beside it loses nothing.
// Chains in the table of connections cannot be forced: it hashes with a seed of its
// own.
func TestAttacks(t *testing.T) {
	const limit = 32 << 20
	filler := bytes.Repeat([]byte("x"), 16<<10)
	for _, tt := range []struct {
		name string
		want exchange.Want
		// step is one move of the attack; good is called between them.
		steps int
		step  func(b *room, i int)
		// evicts says that the attack is more than fits.
		evicts bool
	}{
		{"200,000 half-open flows", exchange.WantFrame, 200_000, func(b *room, i int) {
			b.send(i, true, 99, 0, reassembly.SYN, nil)
		}, true},
		{"100,000 flows that ask for half a line", exchange.WantFrame, 100_000, func(b *room, i int) {
			b.handshake(i)
			b.send(i, true, 100, 200, ack, []byte("GET /a HT"))
		}, true},
		{"100,000 flows that wait for an answer", exchange.WantWhole, 100_000, func(b *room, i int) {
			b.handshake(i)
			b.send(i, true, 100, 200, ack, shortAsk)
		}, true},
		{"2,000 flows with a head that never ends", exchange.WantFrame, 100_000, func(b *room, i int) {
			n, k := i%2000, i/2000
			if k == 0 {
				b.handshake(n)
				b.send(n, true, 100, 200, ack, []byte("GET /a HTTP/1.1\r\n"))
			}
			b.send(n, true, 117+uint32(k*1400), 200, ack, filler[:1400])
		}, true},
		{"segments of one byte", exchange.WantFrame, 400_000, func(b *room, i int) {
			if i == 0 {
				b.handshake(0)
			}
			b.send(0, true, 100+uint32(i), 200, ack, shortAsk[i%len(shortAsk):][:1])
		}, false},
		{"holes of one byte between segments of one", exchange.WantFrame, 400_000, func(b *room, i int) {
			n, k := i%100, i/100
			if k == 0 {
				b.handshake(n)
			}
			b.send(n, true, 101+2*uint32(k), 200, ack, []byte("h"))
		}, true},
		{"1,000 flows with full windows behind a hole", exchange.WantFrame, 100_000, func(b *room, i int) {
			n, k := i%1000, i/1000
			if k == 0 {
				b.handshake(n)
			}
			b.send(n, true, 200+uint32(k*len(filler)), 200, ack, filler)
		}, true},
		{"requests that nobody answers", exchange.WantFrame, 100_000, func(b *room, i int) {
			n, k := i%200, i/200
			if k == 0 {
				b.handshake(n)
			}
			b.send(n, true, 100+uint32(k*len(shortAsk)), 200, ack, shortAsk)
		}, true},
		{"a chunked answer that never ends", exchange.WantWhole, 400_000, func(b *room, i int) {
			const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			if i == 0 {
				b.handshake(0)
				b.exchangeHead(0, head)
			}
			b.send(0, false, 200+uint32(len(head)+8*i), 100+uint32(len(shortAsk)), ack, []byte("3\r\nabc\r\n"))
		}, false},
		{"a body of 10 GB", exchange.WantFrame, 10 << 30 / (16 << 10), func(b *room, i int) {
			const head = "HTTP/1.1 200 OK\r\nContent-Length: 1342177280\r\n\r\n"
			if i == 0 {
				b.handshake(0)
				b.exchangeHead(0, head)
			}
			b.send(0, false, 200+uint32(len(head)+i*len(filler)), 100+uint32(len(shortAsk)), ack, filler)
		}, false},
		{"a kept body of 128 MB", exchange.WantWhole, 128 << 20 / (16 << 10), func(b *room, i int) {
			const head = "HTTP/1.1 200 OK\r\nContent-Length: 134217728\r\n\r\n"
			if i == 0 {
				b.handshake(0)
				b.exchangeHead(0, head)
			}
			b.send(0, false, 200+uint32(len(head)+i*len(filler)), 100+uint32(len(shortAsk)), ack, filler)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer debug.SetGCPercent(debug.SetGCPercent(20))
			before := segmenttest.LiveHeap()
			b := newRoom(t, limit, nil)
			b.sink.want = tt.want
			const good = 1 << 24 // a client that the attack does not use
			b.handshake(good)
			b.exchange(good, 0)
			exchanges, had := 1, 1
			every := max(tt.steps/200, 1)
			var top int64
			for i := range tt.steps {
				tt.step(b, i)
				b.now += 10_000
				if used := b.budget.Used(); used > limit {
					t.Fatalf("step %d: %d bytes taken of %d", i, used, limit)
				}
				if i%64 == 63 {
					b.Tick(b.now)
				}
				if i%every == 0 {
					was := b.sink.n
					b.exchange(good, exchanges)
					exchanges++
					if b.sink.n > was {
						had++
					}
				}
				if i%(tt.steps/4) == tt.steps/4-1 {
					top = max(top, segmenttest.LiveHeap()-before)
				}
			}
			st := b.Stats()
			b.ledger(t)
			t.Logf("%d connections, %d evicted, %.1f MB taken, %.1f MB of the heap", st.Connections, st.Evicted, float64(b.budget.Used())/1e6, float64(top)/1e6)
			if top > limit+4<<20 { // free lists, and buffers that are being outgrown
				t.Errorf("%d bytes of the heap for a budget of %d", top, limit)
			}
			if had != exchanges {
				t.Errorf("the flow beside the attack had %d of %d exchanges", had, exchanges)
			}
			if tt.evicts != (st.Evicted > 0) {
				t.Errorf("%d connections were evicted", st.Evicted)
			}
			if gone := b.parser.Stats().Exchanges[exchange.ResultEvicted][0]; strings.Contains(tt.name, "wait for an answer") && gone < st.Evicted-uint64(exchanges) {
				t.Errorf("%d connections were evicted, %d exchanges counted so", st.Evicted, gone)
			}
			b.Close(reassembly.CloseStopped)
			b.ledger(t)
			if b.budget.Used() != 0 {
				t.Errorf("%d bytes were not given back", b.budget.Used())
			}
		})
	}
}

// exchangeHead asks on connection n and gives the head of the answer.
func (b *room) exchangeHead(n int, head string) {
	b.send(n, true, 100, 200, ack, shortAsk)
	b.send(n, false, 200, 100+uint32(len(shortAsk)), ack, []byte(head))
}
