package http1_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
)

var (
	cases = flag.Int("model.cases", 1500, "conversations in the model tests")
	only  = flag.Uint64("model.seed", 0, "run this seed alone")
)

// The model: a conversation is written as messages whose exchanges are known,
// cut into segments as a sender would, and then changed in ways that must not
// change the exchanges.

type want struct {
	method, target string
	status         int
	req, resp      [32]byte
	reqN, respN    int
	interim        int
}

func (w want) String() string {
	return fmt.Sprintf("%s %s %d req %d:%x resp %d:%x interim %d", w.method, w.target, w.status, w.reqN, w.req[:3], w.respN, w.resp[:3], w.interim)
}

type seg struct {
	toServer bool
	seq, ack uint32
	flags    reassembly.Flags
	b        []byte
	x        int // the exchange that its bytes belong to, -1 for none
	lost     uint64
	time     int64
	tap      uint16
}

type conversation struct {
	wants     []want
	segs      []seg
	pipelined bool
	mss       int
	likely    map[int]bool // the answer's body begins like an answer
}

type writer struct {
	r   *rand.Rand
	seq [2]uint32 // next of client, server
	out []seg
	mss int
}

func (w *writer) send(client bool, b []byte, x int) {
	i := 1
	if client {
		i = 0
	}
	for len(b) > 0 {
		n := min(len(b), 1+w.r.IntN(w.mss))
		f := reassembly.ACK
		if n == len(b) {
			f |= reassembly.PSH
		}
		w.out = append(w.out, seg{toServer: client, seq: w.seq[i], ack: w.seq[1-i], flags: f, b: b[:n], x: x})
		w.seq[i] += uint32(n)
		b = b[n:]
	}
}

func (w *writer) ack(client bool) {
	i := 1
	if client {
		i = 0
	}
	w.out = append(w.out, seg{toServer: client, seq: w.seq[i], ack: w.seq[1-i], flags: reassembly.ACK, x: -1})
}

func filler(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+80)
	for len(b) < n {
		switch r.IntN(8) {
		case 0:
			b = append(b, "GET /decoy HTTP/1.1\r\nHost: d\r\n\r\n"...)
		case 1:
			b = append(b, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"...)
		case 2:
			b = append(b, "\r\n\r\n0\r\n\r\n"...)
		default:
			for k := r.IntN(200); k >= 0; k-- {
				b = append(b, byte(r.IntN(256)))
			}
		}
	}
	return b[:n]
}

func chunks(r *rand.Rand, b []byte) []byte {
	var out []byte
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(700))
		ext := ""
		if r.IntN(4) == 0 {
			ext = `;n="a;b"`
		}
		out = fmt.Appendf(out, "%x%s\r\n", n, ext)
		out = append(append(out, b[:n]...), "\r\n"...)
		b = b[n:]
	}
	out = append(out, "0\r\n"...)
	if r.IntN(3) == 0 {
		out = append(out, "X-Sum: GET / HTTP/1.1\r\n"...)
	}
	return append(out, "\r\n"...)
}

// converse writes a conversation of a client and a server.
func converse(r *rand.Rand, pipeline bool) *conversation {
	c := &conversation{pipelined: pipeline, likely: map[int]bool{}}
	w := &writer{r: r, mss: []int{1, 20, 536, 1460, 9000, 190000}[r.IntN(6)]}
	for i := range w.seq {
		w.seq[i] = r.Uint32()
		if r.IntN(2) == 0 { // the wrap falls somewhere in the first bytes
			w.seq[i] = -uint32(r.IntN(3000))
		}
	}
	size := func() int {
		if w.mss == 1 {
			return r.IntN(60)
		}
		return []int{0, 1, r.IntN(200), r.IntN(5000), r.IntN(40000)}[r.IntN(5)]
	}
	w.out = append(w.out, seg{toServer: true, seq: w.seq[0] - 1, flags: reassembly.SYN, x: -1},
		seg{seq: w.seq[1] - 1, ack: w.seq[0], flags: reassembly.SYN | reassembly.ACK, x: -1})
	w.ack(true)
	n := 1 + r.IntN(7)
	type answer struct {
		x     int
		parts [][]byte
	}
	var waiting []answer
	flush := func() {
		for _, a := range waiting {
			for _, p := range a.parts {
				w.send(false, p, a.x)
				if r.IntN(2) == 0 {
					w.ack(true)
				}
			}
		}
		waiting = nil
	}
	closed := false
	for x := range n {
		var wt want
		wt.method = []string{"GET", "GET", "POST", "HEAD", "PUT", "PURGE"}[r.IntN(6)]
		wt.target = fmt.Sprintf("/t/%d?x=%d", x, r.Uint32())
		head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: h\r\nX-Pad: %s\r\n", wt.method, wt.target, strings.Repeat("p", r.IntN(100)))
		var body []byte
		wait100 := false
		var wire []byte
		if wt.method == "POST" || wt.method == "PUT" {
			body = filler(r, size())
			if r.IntN(2) == 0 {
				head += "Transfer-Encoding: chunked\r\n"
				wire = chunks(r, body)
			} else {
				head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
				wire = body
			}
			if !pipeline && len(wire) > 0 && r.IntN(3) == 0 {
				wait100 = true
				head += "Expect: 100-continue\r\n"
			}
		}
		head += "\r\n"
		if wait100 {
			w.send(true, []byte(head), x)
			w.send(false, []byte("HTTP/1.1 100 Continue\r\n\r\n"), x)
			wt.interim++
			w.send(true, wire, x)
		} else if r.IntN(2) == 0 {
			w.send(true, append([]byte(head), wire...), x)
		} else {
			w.send(true, []byte(head), x)
			w.send(true, wire, x)
		}
		wt.status = []int{200, 200, 404, 500, 204, 304}[r.IntN(6)]
		rbody := filler(r, size())
		rh := fmt.Sprintf("HTTP/1.1 %d Some Reason\r\nServer: s\r\n", wt.status)
		var rwire []byte
		last := x == n-1
		switch {
		case wt.status == 204 || wt.status == 304:
			rbody = nil
			if wt.status == 304 {
				rh += "Content-Length: 1234\r\n"
			}
		case last && wt.method != "HEAD" && r.IntN(3) == 0:
			rwire, closed = rbody, true
		case r.IntN(2) == 0:
			rh += "Transfer-Encoding: chunked\r\n"
			rwire = chunks(r, rbody)
		default:
			rh += fmt.Sprintf("Content-Length: %d\r\n", len(rbody))
			rwire = rbody
		}
		if wt.method == "HEAD" {
			rbody, rwire = nil, nil
		}
		rh += "\r\n"
		a := answer{x: x}
		if r.IntN(6) == 0 {
			a.parts = append(a.parts, []byte("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"))
			wt.interim++
		}
		if r.IntN(2) == 0 {
			a.parts = append(a.parts, append([]byte(rh), rwire...))
		} else {
			a.parts = append(a.parts, []byte(rh), rwire)
		}
		wt.req, wt.resp, wt.reqN, wt.respN = sha256.Sum256(body), sha256.Sum256(rbody), len(body), len(rbody)
		c.wants = append(c.wants, wt)
		c.likely[x] = bytes.HasPrefix(rbody, []byte("H"))
		waiting = append(waiting, a)
		if !pipeline || r.IntN(3) == 0 {
			flush()
		}
	}
	flush()
	if closed || r.IntN(2) == 0 {
		w.out = append(w.out, seg{seq: w.seq[1], ack: w.seq[0], flags: reassembly.FIN | reassembly.ACK, x: -1},
			seg{toServer: true, seq: w.seq[0], ack: w.seq[1] + 1, flags: reassembly.FIN | reassembly.ACK, x: -1},
			seg{seq: w.seq[1] + 1, ack: w.seq[0] + 1, flags: reassembly.ACK, x: -1})
	}
	c.segs, c.mss = w.out, w.mss
	for i := range c.segs {
		c.segs[i].time = int64(i) * 10_000
	}
	return c
}

// disturb changes what a reader must not notice. live keeps the order in which
// an acknowledgement comes behind its data.
func disturb(r *rand.Rand, in []seg, live bool) []seg {
	out := append([]seg(nil), in...)
	// keep-alive and zero-window probes, copies, copies that overlap
	for i := 0; i < len(out); i++ {
		s := out[i]
		if len(s.b) == 0 || s.flags&reassembly.SYN != 0 {
			continue
		}
		switch r.IntN(14) {
		case 0:
			at := i + 1 + r.IntN(min(6, len(out)-i))
			out = insert(out, at, s)
		case 1:
			at := i + 1 + r.IntN(min(4, len(out)-i))
			k := r.IntN(len(s.b))
			p := s
			p.seq, p.b = s.seq+uint32(k), s.b[k:]
			out = insert(out, at, p)
		case 2:
			p := s
			p.seq, p.b = s.seq-1, []byte{'x'}
			if i > 0 && s.ack == out[i-1].ack {
				p.seq, p.b = s.seq+uint32(len(s.b))-1, s.b[len(s.b)-1:]
				out = insert(out, i+1, p)
			}
		}
	}
	if live {
		// Segments of a burst of one direction come in any order.
		for i := 0; i+1 < len(out); i++ {
			a, b := &out[i], &out[i+1]
			if r.IntN(3) == 0 && a.toServer == b.toServer && a.ack == b.ack && len(a.b) > 0 && len(b.b) > 0 {
				*a, *b = *b, *a
			}
		}
		// Pure ACKs do not come.
		thin := out[:0]
		for _, s := range out {
			if len(s.b) > 0 || s.flags != reassembly.ACK {
				thin = append(thin, s)
			}
		}
		return thin
	}
	for i := range out {
		if j := i + r.IntN(min(8, len(out)-i)); r.IntN(4) == 0 && i > 1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}

func insert(s []seg, at int, x seg) []seg {
	s = append(s, seg{})
	copy(s[at+1:], s[at:])
	s[at] = x
	return s
}

type collector struct {
	got  []*exchange.Exchange
	want exchange.Want
	n    int
}

func (c *collector) Keep(h *exchange.Head) exchange.Decision { return exchange.Decision{Want: c.want} }
func (c *collector) Complete(x *exchange.Complete) {
	c.n++
	if x.Exchange != nil {
		c.got = append(c.got, x.Exchange)
	}
}

type result struct {
	got  []want
	http exchange.Stats
	asm  reassembly.Stats
	keep *collector
}

// run puts the segments through the assembler and the parser.
func run(t testing.TB, segs []seg, live bool, w exchange.Want) result {
	t.Helper()
	col := &collector{want: w}
	budget := &reassembly.Budget{Limit: 64 << 20}
	p, err := http1.New(http1.Config{Keeper: col, Sink: col, Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	cfg := reassembly.Config{Factory: p, Budget: budget}
	if !live {
		cfg.HoldTime, cfg.HoldSegments = 20*time.Millisecond, 64
	}
	a, err := reassembly.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var s reassembly.Segment
	for i := range segs {
		x := &segs[i]
		s = reassembly.Segment{SrcPort: 1024, DstPort: 80, Seq: x.seq, Ack: x.ack, Flags: x.flags, Payload: x.b, Time: x.time, Lost: x.lost, Tap: x.tap, Side: reassembly.ToServer}
		s.Src[15], s.Dst[15] = 1, 2
		if !x.toServer {
			s.SrcPort, s.DstPort, s.Src, s.Dst, s.Side = s.DstPort, s.SrcPort, s.Dst, s.Src, reassembly.ToClient
		}
		a.Segment(&s)
		if i%50 == 49 {
			a.Tick(x.time)
		}
	}
	a.Close(reassembly.CloseDone)
	res := result{http: p.Stats(), asm: a.Stats(), keep: col}
	for _, x := range col.got {
		res.got = append(res.got, want{
			method: x.Request.Method, target: x.Request.Target, status: x.Response.Status,
			req: x.Request.Body.Digest, resp: x.Response.Body.Digest,
			reqN: int(x.Request.Body.Size), respN: int(x.Response.Body.Size), interim: len(x.Response.Interim),
		})
	}
	checkLedger(t, &res, budget)
	return res
}

// checkLedger asserts what must hold after any traffic.
func checkLedger(t testing.TB, r *result, b *reassembly.Budget) {
	t.Helper()
	var ends uint64
	for _, reasons := range r.http.Exchanges {
		for _, n := range reasons {
			ends += n
		}
	}
	if ends != r.http.Started || r.http.InFlight != 0 {
		t.Errorf("started %d, ended %d, in flight %d", r.http.Started, ends, r.http.InFlight)
	}
	if int(r.http.Complete()) != r.keep.n {
		t.Errorf("%d counted as complete, %d given", r.http.Complete(), r.keep.n)
	}
	a := &r.asm
	if sum := a.Delivered + a.Duplicate + a.OtherInterface + a.Malformed + a.OverMemory + a.Queued; sum != a.Captured || a.Queued != 0 {
		t.Errorf("captured %d bytes, accounted %d: %+v", a.Captured, sum, *a)
	}
	h := &r.http
	if sum := h.Parsed + h.Upgraded + h.AfterGap + h.Unparsable + h.Evicted; sum != a.Delivered {
		t.Errorf("delivered %d bytes, accounted %d: %+v", a.Delivered, sum, *h)
	}
	if b.Used() != 0 {
		t.Errorf("%d bytes of the budget were not given back", b.Used())
	}
}

func sortWants(w []want) []want {
	w = append([]want(nil), w...)
	sort.Slice(w, func(i, j int) bool { return w[i].String() < w[j].String() })
	return w
}

func equalWants(a, b []want) bool {
	if len(a) != len(b) {
		return false
	}
	a, b = sortWants(a), sortWants(b)
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func seeds(t *testing.T, f func(t *testing.T, seed uint64, r *rand.Rand)) {
	for i := range *cases {
		seed := uint64(i + 1)
		if *only != 0 {
			seed = *only
		}
		f(t, seed, rand.New(rand.NewPCG(seed, 7)))
		if t.Failed() {
			t.Fatalf("seed %d: go test -run '%s' -model.seed %d", seed, t.Name(), seed)
		}
		if *only != 0 {
			return
		}
	}
}

func dump(t *testing.T, segs []seg) {
	for i, s := range segs {
		dir := "<-"
		if s.toServer {
			dir = "->"
		}
		t.Logf("%3d %s x%d seq %d ack %d fl %x lost %d len %d %.40q", i, dir, s.x, s.seq, s.ack, s.flags, s.lost, len(s.b), s.b)
	}
}

// What the network may do to the segments does not change the exchanges.
func TestExchangesSurviveTheNetwork(t *testing.T) {
	seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		c := converse(r, r.IntN(3) == 0)
		live := r.IntN(2) == 0
		segs := disturb(r, c.segs, live)
		w := exchange.WantList
		if r.IntN(2) == 0 {
			w = exchange.WantWhole
		}
		res := run(t, segs, live, w)
		if !equalWants(res.got, c.wants) {
			dump(t, segs)
			t.Errorf("live %v pipelined %v: got %d exchanges\n%v\nwant\n%v\n%+v", live, c.pipelined, len(res.got), res.got, c.wants, res.http)
		}
		if n := run(t, segs, live, exchange.WantFrame).keep.n; n != len(c.wants) {
			t.Errorf("framed only: %d of %d", n, len(c.wants))
		}
	})
}

// With segments missing nothing false is reported, and what lost nothing and
// can be proven is still there.
func TestLossSpoilsOnlyItsExchanges(t *testing.T) {
	kept, whole, odd := 0, 0, 0
	seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		c := converse(r, r.IntN(4) == 0)
		live := r.IntN(2) == 0
		share := []int{3, 10, 40}[r.IntN(3)]
		segs := c.segs
		if live {
			segs = disturb(r, segs, true)
		}
		var left []seg
		lostReq, lostResp := map[int]bool{}, map[int]bool{}
		lost := uint64(0)
		dups := map[[2]uint32]int{}
		for _, s := range segs {
			dups[[2]uint32{s.seq, uint32(len(s.b))}]++
		}
		for _, s := range segs {
			if len(s.b) > 0 && r.IntN(share) == 0 && (dups[[2]uint32{s.seq, uint32(len(s.b))}] == 1 || !live) {
				lost++
				if s.toServer {
					lostReq[s.x] = true
				} else {
					lostResp[s.x] = true
				}
				continue
			}
			s.lost = lost
			left = append(left, s)
		}
		res := run(t, left, live, exchange.WantList)
		known := map[string]int{}
		for _, w := range c.wants {
			known[w.String()]++
		}
		have := map[string]bool{}
		for _, g := range res.got {
			if known[g.String()]--; known[g.String()] < 0 {
				dump(t, left)
				t.Errorf("false exchange %v\n%+v", g, res.http)
			}
			have[g.String()] = true
		}
		if c.pipelined {
			return
		}
		for x, w := range c.wants {
			if lostReq[x] || lostResp[x] {
				continue
			}
			whole++
			if have[w.String()] {
				kept++
				continue
			}
			// Where much was lost nothing proves where the next request
			// begins; where one exchange was hit, every other is there, but
			// for the one behind a request that was lost with its answer,
			// and for segments too small to hold the beginning of a line.
			hit := len(lostReq)
			for k := range lostResp {
				if !lostReq[k] {
					hit++
				}
			}
			if hit > 1 || c.mss < 100 || lostReq[x-1] && (lostResp[x-1] || c.likely[x-1]) || c.likely[x] && (lostReq[x-1] || lostReq[x-2]) {
				continue
			}
			odd++
			t.Logf("seed %d: exchange %d lost nothing and is missing", seed, x)
		}
	})
	t.Logf("%d of %d exchanges that lost nothing are there", kept, whole)
	// A body that looks like an answer, behind a request that was not seen, may
	// cost one more exchange.
	if odd*1000 > whole {
		t.Errorf("%d exchanges are missing with no reason", odd)
	}
	if kept*100 < whole*85 {
		t.Errorf("only %d of %d exchanges that lost nothing are there", kept, whole)
	}
}

// A capture that begins in the middle never shows what was not there.
func TestLateJoin(t *testing.T) {
	kept, whole := 0, 0
	seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		c := converse(r, r.IntN(4) == 0)
		live := r.IntN(2) == 0
		segs := c.segs
		if live {
			segs = disturb(r, segs, true)
		}
		cut := 2 + r.IntN(len(segs)-2)
		touched := 0
		for _, s := range segs[:cut] {
			touched = max(touched, s.x+1)
		}
		res := run(t, segs[cut:], live, exchange.WantList)
		known := map[string]bool{}
		for _, w := range c.wants {
			known[w.String()] = true
		}
		for _, g := range res.got {
			if !known[g.String()] {
				dump(t, segs[cut:])
				t.Errorf("false exchange %v\n%+v", g, res.http)
			}
		}
		if !c.pipelined && touched < len(c.wants) {
			whole += len(c.wants) - touched
			for _, w := range c.wants[touched:] {
				for _, g := range res.got {
					if g == w {
						kept++
					}
				}
			}
		}
	})
	t.Logf("%d of %d exchanges behind the join are there", kept, whole)
	if kept*10 < whole*8 {
		t.Errorf("only %d of %d exchanges behind the join are there", kept, whole)
	}
}

// Every byte alone in its segment gives the same as one segment a message.
func TestEveryCut(t *testing.T) {
	req := "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nT: 1\r\n\r\n"
	resp := "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
	for cut := 1; cut < len(req)+len(resp); cut++ {
		segs := []seg{
			{toServer: true, seq: 99, flags: reassembly.SYN},
			{seq: 199, ack: 100, flags: reassembly.SYN | reassembly.ACK},
		}
		both := []byte(req + resp)
		for from := 0; from < len(both); {
			to := len(both)
			if from < cut {
				to = cut
			}
			if from < len(req) {
				to = min(to, len(req))
				segs = append(segs, seg{toServer: true, seq: 100 + uint32(from), ack: 200, flags: reassembly.ACK, b: both[from:to]})
			} else {
				segs = append(segs, seg{seq: 200 + uint32(from-len(req)), ack: 100 + uint32(len(req)), flags: reassembly.ACK, b: both[from:to]})
			}
			from = to
		}
		res := run(t, segs, true, exchange.WantWhole)
		if len(res.got) != 1 || res.got[0].reqN != 3 || res.got[0].respN != 4 {
			t.Fatalf("cut at %d: %v %+v", cut, res.got, res.http)
		}
		q := res.keep.got[0].Request
		if !bytes.Equal(q.Head, []byte(req[:strings.Index(req, "\r\n\r\n")+4])) || string(q.Wire) != req[len(q.Head):] || string(q.Body.Bytes) != "abc" || q.Trailer.Get("t") != "1" {
			t.Fatalf("cut at %d: head %q wire %q body %q", cut, q.Head, q.Wire, q.Body.Bytes)
		}
	}
}
