package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/diff/verdict"
	"github.com/shadowtap/shadowtap/reassembly"
)

// load is connections that take turns, as those of a busy service do.
type load struct {
	shard   *shard
	talks   []*talk
	request []byte
	answers [][]byte
	now     int64
	seg     reassembly.Segment
}

// send is talk.send without memory of its own.
func (l *load) send(t *talk, client bool, b []byte) {
	s := &l.seg
	from, to := 1, 0
	s.SrcPort, s.DstPort, s.Side = 80, t.port, reassembly.ToClient
	if client {
		from, to = 0, 1
		s.SrcPort, s.DstPort, s.Side = t.port, 80, reassembly.ToServer
	}
	s.Src, s.Dst = [16]byte{15: byte(1 + from)}, [16]byte{15: byte(1 + to)}
	s.Seq, s.Ack, s.Flags, s.Time, s.Payload = t.next[from], t.next[to], reassembly.ACK, l.now, b
	t.next[from] += uint32(len(b))
	l.shard.Segment(s)
}

// newLoad has an experiment that takes nothing of it, with all that the agent
// asks of each head.
func newLoad(tb testing.TB, conns, size int) *load {
	tb.Helper()
	s, err := sample.New(sample.Config{Experiments: []sample.Experiment{{
		Name: "x", Routes: []sample.Route{{Path: "/users/{id}"}}, Guard: sample.Guard{Latency: 1.25},
	}}})
	if err != nil {
		tb.Fatal(err)
	}
	w, err := countWindows(verdict.CollectorConfig{Experiments: []verdict.CollectorExperiment{{Name: "x", SampleBy: "request", Routes: []string{"/users/{id}"}}}})
	if err != nil {
		tb.Fatal(err)
	}
	k := &keeper{sample: s.Shard(), tally: newTally(w)}
	l := &load{now: 1_700_000_000_000_000_000}
	if l.shard, err = newShard(shardConfig{keeper: k, sink: k, memory: 64 << 20}); err != nil {
		tb.Fatal(err)
	}
	l.shard.sample, l.shard.tally = k.sample, k.tally
	l.request = []byte("GET /users/12345?full=1 HTTP/1.1\r\nHost: users.example.com\r\nUser-Agent: curl/8\r\nAccept: */*\r\nX-Request-Id: 7b3bf470-9456-11ee\r\n\r\n")
	for b := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)); len(b) > 0; b = b[min(len(b), 1448):] {
		l.answers = append(l.answers, b[:min(len(b), 1448)])
	}
	for i := range conns {
		l.talks = append(l.talks, open(l.shard, uint16(1024+2*i), l.now))
	}
	return l
}

// round is an exchange of every connection, all open at once.
func (l *load) round() {
	for _, t := range l.talks {
		l.send(t, true, l.request)
	}
	l.now += 50_000
	for _, t := range l.talks {
		for _, a := range l.answers {
			l.send(t, false, a)
		}
	}
}

// BenchmarkExchange is one exchange that is not kept, from its segments to the
// ledger, by the agent's own shard, sampler and keeper.
func BenchmarkExchange(b *testing.B) {
	for _, size := range []int{200, 4096} {
		for _, conns := range []int{1, 32, 1000} {
			b.Run(fmt.Sprintf("%dB/conns=%d", size, conns), func(b *testing.B) {
				l := newLoad(b, conns, size)
				l.round()
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; n += conns {
					l.round()
				}
			})
		}
	}
}

// What is not kept allocates nothing on its whole way through the agent.
func TestUnkeptExchangeAllocatesNothing(t *testing.T) {
	l := newLoad(t, 8, 4096)
	l.round()
	if n := testing.AllocsPerRun(100, func() { l.round() }); n != 0 {
		t.Errorf("%v allocations in 8 exchanges that are not kept", n)
	}
	l.shard.publish()
	if got := l.shard.stats().http.Started; got != 8*102 {
		t.Errorf("%d exchanges, want %d", got, 8*102)
	}
	if st := l.shard.stats().http; st.InFlight != 0 {
		t.Errorf("%d exchanges are not complete", st.InFlight)
	}
}
