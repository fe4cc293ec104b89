package agent

import (
	"testing"

	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/reassembly"
)

// talk is one connection of a test, seen from its SYN on.
type talk struct {
	s    *shard
	port uint16
	next [2]uint32 // sequence numbers of client and server
}

func (t *talk) send(client bool, flags reassembly.Flags, text string, now int64) {
	from, to := 1, 0
	if client {
		from, to = 0, 1
	}
	seg := reassembly.Segment{
		Src: [16]byte{15: byte(1 + from)}, Dst: [16]byte{15: byte(1 + to)}, SrcPort: 80, DstPort: t.port,
		Seq: t.next[from], Ack: t.next[to], Flags: flags, Side: reassembly.ToClient, Time: now, Payload: []byte(text),
	}
	if client {
		seg.SrcPort, seg.DstPort, seg.Side = t.port, 80, reassembly.ToServer
	}
	t.next[from] += uint32(len(text))
	if flags&reassembly.SYN != 0 {
		t.next[from]++
	}
	t.s.Segment(&seg)
}

func open(s *shard, port uint16, now int64) *talk {
	t := &talk{s: s, port: port, next: [2]uint32{1000, 5000}}
	t.send(true, reassembly.SYN, "", now)
	t.send(false, reassembly.SYN|reassembly.ACK, "", now)
	return t
}

func (t *talk) ask(now int64) {
	t.send(true, reassembly.ACK, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", now)
}

func (t *talk) answer(now int64) {
	t.send(false, reassembly.ACK, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", now)
}

func testShard(t *testing.T) (*Agent, *shard) {
	t.Helper()
	k := &keeper{}
	s, err := newShard(shardConfig{keeper: k, sink: k, memory: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return &Agent{shards: []*shard{s}}, s
}

// TestRefuse: from a stop on only what has begun is waited for, and what comes
// later ends in a named counter.
func TestRefuse(t *testing.T) {
	a, s := testShard(t)
	slow, idle := open(s, 1001, 1), open(s, 1002, 2)
	slow.ask(3)
	idle.ask(4)
	idle.answer(5)
	const stop = 100
	s.stop.Store(stop)
	s.Tick(stop)
	if a.drained() {
		t.Fatal("drained before the shard has refused")
	}
	// What was sent before the stop and is read behind it counts as before it.
	early := open(s, 1003, stop-2)
	early.ask(stop - 1)
	s.Tick(stop + 1)
	if a.drained() {
		t.Fatal("drained while two exchanges have begun")
	}
	steady := func(now int64) {
		c := open(s, uint16(2000+now), now)
		c.ask(now)
		c.answer(now)
		idle.ask(now)
		if now%2 == 0 {
			idle.answer(now)
		}
	}
	for now := int64(stop + 1); now < stop+20; now++ {
		steady(now)
	}
	early.answer(stop + 20)
	s.Tick(stop + 20)
	if a.drained() {
		t.Fatal("drained while an exchange that began before the stop is open")
	}
	slow.answer(stop + 21)
	s.Tick(stop + 21)
	if !a.drained() {
		st := s.stats()
		t.Fatalf("not drained: %d in flight, %d late", st.http.InFlight, st.http.Late)
	}
	s.close(reassembly.CloseStopped)
	var c counts
	c.shards(a.shards)
	for _, i := range telemetry.Balance(c) {
		t.Error(i)
	}
	l := telemetry.NewLedger(c)
	// Of idle's 19 requests behind the stop 9 were answered.
	if n := l["exchanges"]["stopped"]; n != 10 {
		t.Errorf("%d exchanges are stopped, want 10", n)
	}
	if n := s.stats().http.Started; n != 3+19 {
		t.Errorf("%d exchanges were started, want %d", n, 3+19)
	}
	const dialog = len("GET /a HTTP/1.1\r\nHost: h\r\n\r\n") + len("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	if got := l["delivered_bytes"]["evicted"]; got != uint64(19*dialog) {
		t.Errorf("%d bytes evicted, those of the refused connections are %d", got, 19*dialog)
	}
	if st := s.stats(); st.http.Late != 0 || st.http.InFlight != 0 {
		t.Errorf("at the end %d in flight, %d late", st.http.InFlight, st.http.Late)
	}
}

// TestRefuseQuiet: a shard without traffic refuses by the clock alone, but not
// before it has read its ring once.
func TestRefuseQuiet(t *testing.T) {
	a, s := testShard(t)
	s.stop.Store(100)
	s.Tick(150)
	c := open(s, 1001, 90)
	s.Tick(160)
	if a.drained() {
		t.Fatal("refused while the ring still gave segments from before the stop")
	}
	s.Tick(240)
	if !a.drained() {
		t.Fatal("not drained without traffic")
	}
	c.ask(95)
	s.close(reassembly.CloseStopped)
	if st := s.stats(); st.http.Started != 0 || st.http.Evicted == 0 {
		t.Errorf("%d exchanges started on a connection that had sent nothing before the stop, %d bytes evicted", st.http.Started, st.http.Evicted)
	}
}
