package http1_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// foreseen keeps the requests whose offset says so, and knows of most that it will not.
type foreseen struct {
	segmenttest.Collector
	*reassembly.Assembler
	asked int
}

func keeps(offset uint64) bool { return offset*0x9e3779b97f4a7c15>>40%5 == 0 }

func (f *foreseen) Keep(h *exchange.Head) exchange.Decision {
	d := f.Collector.Keep(h)
	d.Want = exchange.WantFrame
	if keeps(h.Offset) {
		d.Want = exchange.WantWhole
	}
	return d
}

// Unwanted implements http1.Forecaster.
func (f *foreseen) Unwanted(_ *exchange.Flow, _ uint32, offset uint64) bool {
	f.asked++
	return !keeps(offset) && offset%7 != 0
}

// forecastTap does what the program of the room bpf does with forecasts, for one
// connection (wanted_bytes in bpf/tap.bpf.c), by reading heads from their beginning.
// It implements reassembly.Forecaster.
type forecastTap struct {
	f                reassembly.Forecast
	stream           reassembly.Stream
	start            uint32
	said, known      bool
	blind            bool // it leaves out what is wanted too
	ack, next        uint32
	left             uint64
	segments, answer int // what was left out: segments, and heads of which more stood in their segment
}

// Forecast implements reassembly.Forecaster.
func (t *forecastTap) Forecast(s *reassembly.Stream, start uint32, f *reassembly.Forecast) {
	t.f, t.stream, t.start, t.said = *f, *s, start, true
}

// cut leaves out of s what nobody wants.
func (t *forecastTap) cut(s *reassembly.Segment) {
	n := uint64(len(s.Payload))
	if !t.said || n == 0 || s.SrcPort != t.stream.SrcPort {
		return
	}
	if !t.known || s.Flags&(reassembly.SYN|reassembly.FIN|reassembly.RST|reassembly.URG) != 0 {
		t.known, t.ack, t.left = true, s.Ack, 0
		return
	}
	begin := t.ack
	if s.Ack == begin {
		if t.left < n || t.next != s.Seq {
			t.left = 0
			return
		}
		t.next, t.left = t.next+uint32(n), t.left-n
		t.segments++
		s.Payload, s.Skipped = nil, uint32(n)
		return
	}
	t.left = 0
	if int32(s.Ack-begin) < 0 {
		return
	}
	t.ack = s.Ack
	bit := 64
	for k := range 64 {
		if begin == t.start+uint32(k)*t.f.Step {
			bit = k
			break
		}
	}
	if bit == 64 || !t.blind && t.f.Unwanted>>bit&1 == 0 || !bytes.HasPrefix(s.Payload, t.f.First[:]) {
		return
	}
	head, _, ok := bytes.Cut(s.Payload, []byte("\r\n\r\n"))
	if !ok || len(head)+4 != int(t.f.Head) || !bytes.HasSuffix(head[:t.f.Digits], t.f.Before[:]) {
		return
	}
	var length uint64
	if _, err := fmt.Sscanf(string(head[t.f.Digits:])+"\r", "%d\r", &length); err != nil || uint64(t.f.Head)+length < n {
		return
	}
	t.next, t.left = s.Seq+uint32(n), uint64(t.f.Head)+length-n
	if n > uint64(t.f.Head) {
		t.answer++
		s.Payload, s.Skipped = s.Payload[:t.f.Head], uint32(n)-t.f.Head
	}
}

// playForecasts is runSkipping with forecasts in place of skips; without a tap all is
// captured. lost says of which segments the ring lost what was left.
func playForecasts(t testing.TB, segs []seg, tap *forecastTap, lag int, lost func(i int) bool) result {
	t.Helper()
	col := &foreseen{}
	budget := &reassembly.Budget{Limit: 64 << 20}
	c1 := http1.Config{Keeper: col, Sink: col, Budget: budget}
	if tap != nil {
		c1.Forecaster = col
	}
	p, err := http1.New(c1)
	if err != nil {
		t.Fatal(err)
	}
	cfg := reassembly.Config{Factory: p, Budget: budget}
	if tap != nil {
		cfg.Forecaster = tap
	}
	if col.Assembler, err = reassembly.New(cfg); err != nil {
		t.Fatal(err)
	}
	var ring []reassembly.Segment
	n := uint64(0)
	for i := range segs {
		var s reassembly.Segment
		if segs[i].Fill(&s); tap != nil {
			tap.cut(&s)
		}
		if lost != nil && lost(i) {
			n++
			continue
		}
		s.Lost = n
		ring = append(ring, s)
		for len(ring) > lag {
			col.Segment(&ring[0])
			ring = ring[1:]
		}
	}
	for i := range ring {
		col.Segment(&ring[i])
	}
	col.Assembler.Close(reassembly.CloseDone)
	res := result{Collector: &col.Collector, Parser: p.Stats(), Assembler: col.Assembler.Stats()}
	segmenttest.CheckLedger(t, &res, budget)
	return res
}

// downloads is a connection whose requests are mostly as long as each other, and whose
// answers are mostly long and of one form. pipeline has some requests not wait.
func downloads(r *rand.Rand, pipeline bool) (segs []seg) {
	isn := segmenttest.RandomISN(r)
	c, s := isn[0], isn[1]
	time := int64(1_000_000)
	add := func(x seg) {
		time += 10_000
		x.Time, x.Exchange = time, -1
		segs = append(segs, x)
	}
	add(seg{ToServer: true, Seq: c - 1, Flags: reassembly.SYN})
	add(seg{Seq: s - 1, Ack: c, Flags: reassembly.SYN | reassembly.ACK})
	say := func(toServer bool, most int, b []byte) {
		for len(b) > 0 {
			n := min(1+r.IntN(most), len(b))
			x := seg{ToServer: toServer, Seq: s, Ack: c, Flags: reassembly.ACK, Payload: b[:n]}
			if toServer {
				x.Seq, x.Ack = c, s
				c += uint32(n)
			} else {
				s += uint32(n)
			}
			add(x)
			if r.IntN(20) == 0 {
				add(x) // a copy
			}
			b = b[n:]
		}
	}
	long := r.IntN(40_000)
	for i := range 10 + r.IntN(40) {
		method, path, extra := "GET", fmt.Sprintf("/%06d", i), ""
		if r.IntN(12) == 0 {
			path += strings.Repeat("x", r.IntN(30))
		}
		body := bytes.Repeat([]byte{byte('a' + i%26)}, 16_000+r.IntN(long+1))
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: %d\r\n%s\r\n", len(body), extra)
		switch r.IntN(20) {
		case 0:
			method, body = "HEAD", nil
		case 1:
			head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			body = fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		case 2:
			head, body = "HTTP/1.1 304 Not Modified\r\nContent-Length: 50000\r\n\r\n", nil
		case 3:
			head = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + head
		case 4:
			body = []byte("short")
			head = "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\n\r\n"
		case 5:
			head = fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: %d\r\nX: y\r\n\r\n", len(body))
		}
		request := []byte(method + " " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
		answer := append([]byte(head), body...)
		if pipeline && r.IntN(3) == 0 {
			other := []byte("GET /other HTTP/1.1\r\nHost: h\r\n\r\n")
			request = append(request, other...)
			answer = append(answer, "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 16001\r\n\r\n"+strings.Repeat("o", 16_001)...)
		}
		say(true, 200, request)
		say(false, []int{1460, 20_000, 70_000}[r.IntN(3)], answer)
	}
	add(seg{ToServer: true, Seq: c, Ack: s, Flags: reassembly.ACK | reassembly.FIN})
	add(seg{Seq: s, Ack: c + 1, Flags: reassembly.ACK | reassembly.FIN})
	return segs
}

// Whatever of the answers is left out because it was known before that nobody wants
// it, the exchanges are the same, and each of the others is counted as before.
func TestForecastsChangeNothing(t *testing.T) {
	var segments, answers, kept int
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		segs := downloads(r, false)
		tap, lag := &forecastTap{}, []int{0, 1, 5, 30}[r.IntN(4)]
		all, some := playForecasts(t, segs, nil, lag, nil), playForecasts(t, segs, tap, lag, nil)
		segments, answers, kept = segments+tap.segments, answers+tap.answer, kept+len(some.Exchanges)
		if a, b := lines(&all), lines(&some); !segmenttest.Same(a, b) {
			t.Errorf("lag %d: kept\n%s\nwithout forecasts\n%s", lag, strings.Join(b, "\n"), strings.Join(a, "\n"))
		}
		if all.Parser.Exchanges != some.Parser.Exchanges {
			t.Errorf("lag %d: counted\n%v\nwithout forecasts\n%v", lag, some.Parser.Exchanges, all.Parser.Exchanges)
		}
	})
	t.Logf("%d segments and %d bodies behind their heads left out, %d exchanges kept", segments, answers, kept)
	if segments == 0 || answers == 0 || kept == 0 {
		t.Error("nothing was left out, or nothing kept")
	}
}

// What is left out though it is wanted is lost and counted, and nothing is false: where
// requests do not wait, segments come in another order, the ring loses some, and the tap
// leaves out what it was not told.
func TestForecastsThatAreWrong(t *testing.T) {
	var lost uint64
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		segs := downloads(r, r.IntN(2) == 0)
		for i := 3; i < len(segs); i++ {
			if r.IntN(15) == 0 && segs[i].ToServer == segs[i-1].ToServer && (segs[i].Flags|segs[i-1].Flags)&reassembly.FIN == 0 {
				segs[i], segs[i-1] = segs[i-1], segs[i]
			}
		}
		tap, lag := &forecastTap{blind: r.IntN(2) == 0}, r.IntN(10)
		var drop func(int) bool
		if r.IntN(2) == 0 {
			gone := map[int]bool{}
			for range 1 + r.IntN(3) {
				gone[2+r.IntN(len(segs)-2)] = true
			}
			drop = func(i int) bool { return gone[i] }
		}
		all, some := playForecasts(t, segs, nil, lag, nil), playForecasts(t, segs, tap, lag, drop)
		real := map[string]bool{}
		for _, l := range lines(&all) {
			real[l] = true
		}
		for _, l := range lines(&some) {
			if !real[l] {
				t.Errorf("lag %d: a false exchange: %.200s", lag, l)
			}
		}
		n := uint64(0)
		for _, reasons := range some.Parser.Exchanges {
			for _, k := range reasons {
				n += k
			}
		}
		if n != some.Parser.Started {
			t.Errorf("%d exchanges ended, %d were started", n, some.Parser.Started)
		}
		if all.Parser.Complete() > some.Parser.Complete() {
			lost += all.Parser.Complete() - some.Parser.Complete()
		}
	})
	t.Logf("%d lost", lost)
}

// A hole in a body is a hole, whether the exchange is kept or only framed.
func TestHoleInAFramedBody(t *testing.T) {
	req := []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	resp := []byte("HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + strings.Repeat("a", 3000))
	c, s := uint32(100), uint32(7000)
	segs := []seg{{ToServer: true, Seq: c - 1, Flags: reassembly.SYN}, {Seq: s - 1, Ack: c, Flags: reassembly.SYN | reassembly.ACK}}
	var gone, framed []int
	for i := range 20 {
		if !keeps(uint64(c - 100)) {
			framed = append(framed, i)
		}
		segs = append(segs, seg{ToServer: true, Seq: c, Ack: s, Flags: reassembly.ACK, Payload: req})
		c += uint32(len(req))
		for from := 0; from < len(resp); from += 1000 {
			part := resp[from:min(from+1000, len(resp))]
			if from == 1000 && i%2 == 0 {
				gone = append(gone, len(segs))
			}
			segs = append(segs, seg{Seq: s, Ack: c, Flags: reassembly.ACK, Payload: part})
			s += uint32(len(part))
		}
	}
	segs = append(segs, seg{ToServer: true, Seq: c, Ack: s, Flags: reassembly.ACK | reassembly.FIN}, seg{Seq: s, Ack: c + 1, Flags: reassembly.ACK | reassembly.FIN})
	if len(framed) < 10 || len(framed) == 20 {
		t.Fatalf("%d of 20 are framed alone", len(framed))
	}
	res := playForecasts(t, segs, nil, 0, func(i int) bool { return slices.Contains(gone, i) })
	if complete, gap := res.Parser.Complete(), res.Parser.Exchanges[exchange.ResultGap][exchange.ReasonNone]; complete != 10 || gap != 10 {
		t.Errorf("%d complete and %d with a hole, want 10 and 10: %v", complete, gap, res.Parser.Exchanges)
	}
}
