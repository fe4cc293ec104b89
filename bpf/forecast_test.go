package bpf

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// The answers in these tests: requests are 100 bytes long, and each answer has a body of
// 1,000 bytes in two segments.
const (
	forecastHead = "HTTP/1.1 200 OK\r\nServer: one\r\nContent-Length: %d\r\n\r\n"
	forecastBody = 1000
	forecastCut  = 600 // of the body in the first segment
)

func answerHead(length int) string { return fmt.Sprintf(forecastHead, length) }

// forecastOf says of requests from start on which are unwanted.
func forecastOf(start uint32, unwanted uint64) *Forecast {
	head := answerHead(forecastBody)
	digits := strings.Index(head, "1000")
	f := &Forecast{Start: start, Step: 100, Unwanted: unwanted, Head: uint32(len(head)), Digits: uint32(digits)}
	copy(f.First[:], head)
	copy(f.Before[:], head[digits-16:])
	return f
}

// forecastStream is the stream of response().
func forecastStream(domain uint16) *Stream {
	s := skipStream(domain)
	return &Stream{Src: s.Dst, Dst: s.Src, SrcPort: s.DstPort, DstPort: s.SrcPort, Domain: domain}
}

// answerStep is one segment of the answers.
type answerStep struct {
	what    string
	seq     uint32 // from the begin of the stream on
	ack     uint32 // from the begin of the client's
	payload string
	flags   uint8
	// copied and skipped are what the event says; -1: it is copied whole.
	copied, skipped int
}

func TestForecast(t *testing.T) {
	head := answerHead(forecastBody)
	n := uint32(len(head))
	first := head + strings.Repeat("a", forecastCut)
	rest := strings.Repeat("b", forecastBody-forecastCut)
	answer := n + forecastBody
	// one is the answer before: it shows where the next request begins.
	one := answerStep{"one", 0, 100, first, 0, -1, 0}
	whole := func(s string) string { return s + strings.Repeat("a", forecastBody) }
	for _, c := range []struct {
		name  string
		bits  uint64
		steps []answerStep
	}{
		{"the next one", 1, []answerStep{one, {"head", answer, 200, first, 0, len(head), forecastCut}}},
		{"a segment that is all body", 1, []answerStep{one, {"head", answer, 200, first, 0, len(head), forecastCut},
			{"rest", answer + n + forecastCut, 200, rest, 0, -1, 0}}}, // too short
		{"long segments", 1, []answerStep{one, {"head", answer, 200, head, 0, -1, 0},
			{"body", answer + n, 200, first[:500], 0, 0, 500}, {"body", answer + n + 500, 200, first[:500], 0, 0, 500},
			{"behind it", answer + n + 1000, 200, first[:500], 0, -1, 0}}},
		{"beyond the body", 1, []answerStep{one, {"head", answer, 200, head, 0, -1, 0},
			{"too long", answer + n, 200, strings.Repeat("a", 1001), 0, -1, 0},
			{"not again", answer + n, 200, first[:500], 0, -1, 0}}},
		{"out of order", 1, []answerStep{one, {"head", answer, 200, head, 0, -1, 0},
			{"later", answer + n + 500, 200, first[:500], 0, -1, 0}, {"earlier", answer + n, 200, first[:500], 0, -1, 0}}},
		{"wanted", 2, []answerStep{one, {"head", answer, 200, first, 0, -1, 0}}},
		{"the second, not the first", 2, []answerStep{one, {"head", answer, 200, whole(head), 0, -1, 0},
			{"head", 2 * answer, 300, first, 0, len(head), forecastCut}}},
		{"the last bit", 1 << 63, []answerStep{{"one", 0, 6400, first, 0, -1, 0}, {"head", answer, 6500, first, 0, len(head), forecastCut}}},
		{"behind the last bit", ^uint64(0), []answerStep{{"one", 0, 6500, first, 0, -1, 0}, {"head", answer, 6600, first, 0, -1, 0}}},
		{"before the first bit", ^uint64(0), []answerStep{{"one", 0, 0, first, 0, -1, 0}, {"head", answer, 100, first, 0, -1, 0}}},
		{"between two", ^uint64(0), []answerStep{{"one", 0, 150, first, 0, -1, 0}, {"head", answer, 250, first, 0, -1, 0}}},
		{"the same request", 1, []answerStep{one, {"head", answer, 100, first, 0, -1, 0}}},
		{"an older acknowledgement", ^uint64(0), []answerStep{{"one", 0, 300, first, 0, -1, 0}, {"head", answer, 200, first, 0, -1, 0}}},
		{"two answers in a segment", 1, []answerStep{one, {"head", answer, 200, whole(head) + "H", 0, -1, 0}}},
		{"other digits", 1, []answerStep{one, {"head", answer, 200, whole(answerHead(9999)), 0, len(head), forecastBody}}},
		{"one digit more", 1, []answerStep{one, {"head", answer, 200, whole(answerHead(10_000)), 0, -1, 0}}},
		{"no digits", 1, []answerStep{one, {"head", answer, 200, whole(strings.Replace(head, "1000", "10x0", 1)), 0, -1, 0}}},
		{"another status", 1, []answerStep{one, {"head", answer, 200, whole(strings.Replace(head, "200", "304", 1)), 0, -1, 0}}},
		{"another field", 1, []answerStep{one, {"head", answer, 200, whole(strings.Replace(head, "Content-Length", "Content-Lengte", 1)), 0, -1, 0}}},
		{"another field's beginning", 1, []answerStep{one, {"head", answer, 200, whole(strings.Replace(head, "Content-L", "Kontent-L", 1)), 0, -1, 0}}},
		{"no empty line", 1, []answerStep{one, {"head", answer, 200, whole(head[:len(head)-2] + "X:"), 0, -1, 0}}},
		{"a short body", 1, []answerStep{one, {"head", answer, 200, head + "abc", 0, -1, 0}}},
		{"URG", 1, []answerStep{one, {"head", answer, 200, first, 0x20, -1, 0}}},
		{"FIN", 1, []answerStep{one, {"head", answer, 200, first, FIN, -1, 0}}},
	} {
		for _, begin := range []uint32{1000, 0xffffff80, 0xffffc000} {
			t.Run(fmt.Sprintf("%s/%x", c.name, begin), func(t *testing.T) {
				m := forecastMaps(t)
				tt := newTap(t, m, TapConfig{Domain: 2, LinkHeader: 14, Direction: Both}, port)
				m.Forecast(forecastStream(2), forecastOf(begin+100, c.bits))
				playAnswers(t, tt, begin, c.steps)
			})
		}
	}
}

// forecastMaps are maps of taps that leave out less than worthSkipping: the kernel runs a
// program over no more than a page.
func forecastMaps(t *testing.T) *Maps {
	m := newMaps(t, MapsConfig{})
	m.worth = 450
	return m
}

func playAnswers(t *testing.T, tt *tapTest, begin uint32, steps []answerStep) {
	t.Helper()
	for _, s := range steps {
		h := response(ACK | s.flags)
		h.seq, h.ack = begin+7+s.seq, begin+s.ack
		want := NotWanted
		if s.copied < 0 {
			want, s.copied = Captured, len(s.payload)
		}
		tt.beat()
		if got := tt.send(ethernet(typeIP4, ip4Header{src: server4, dst: client4}.with(h.with([]byte(s.payload))))); got != want {
			t.Errorf("%s: %s, want %s", s.what, got, want)
		}
		evs := tt.events()
		if len(evs) != 1 {
			t.Fatalf("%s: %d events", s.what, len(evs))
		}
		ev := &evs[0]
		if string(ev.Payload) != s.payload[:s.copied] || int(ev.Skipped) != s.skipped || ev.Seq != h.seq || ev.Ack != h.ack || int(ev.Total) != len(s.payload) {
			t.Errorf("%s: %d bytes copied, %d skipped of %d at %d, ack %d; want %d, %d of %d at %d, ack %d", s.what,
				len(ev.Payload), ev.Skipped, ev.Total, ev.Seq, ev.Ack, s.copied, s.skipped, len(s.payload), h.seq, h.ack)
		}
	}
	if n := tt.counters().Lost[0]; n != 0 {
		t.Errorf("%d lost", n)
	}
}

// What is said anew counts from the next answer on; another stream, another domain
// and another connection's first answer are copied.
func TestForecastIsOfItsStream(t *testing.T) {
	m := forecastMaps(t)
	tt := newTap(t, m, ethernetBoth, port)
	head := answerHead(forecastBody)
	first := head + strings.Repeat("a", forecastCut)
	answer := uint32(len(head) + forecastBody)
	m.Forecast(forecastStream(0), forecastOf(100, 1))
	playAnswers(t, tt, 0, []answerStep{{"one", 0, 100, first, 0, -1, 0}, {"two", answer, 200, first, 0, len(head), forecastCut}})
	m.Forecast(forecastStream(0), forecastOf(200, 2))
	playAnswers(t, tt, 0, []answerStep{{"wanted now", 2 * answer, 300, first, 0, -1, 0}, {"four", 3 * answer, 400, first, 0, len(head), forecastCut}})

	m.Forecast(forecastStream(0), forecastOf(400, ^uint64(0)))
	other := *forecastStream(0)
	other.Dst = netip.MustParseAddr("192.0.2.77").As16()
	m.forecast.words[m.slot(&other, forecastCount)].State.Store(0)
	m.Forecast(&other, forecastOf(400, ^uint64(0)))
	playAnswers(t, tt, 0, []answerStep{{"the stream that said so", 4 * answer, 500, first, 0, len(head), forecastCut}})

	w := &m.forecast.words[m.slot(forecastStream(0), forecastCount)]
	if w.Owner != w.Of {
		t.Errorf("the place is of owner %d, its answers of %d", w.Owner, w.Of)
	}
	w.SrcPort++ // as if another stream had had the place since
	m.Forecast(forecastStream(0), forecastOf(500, ^uint64(0)))
	playAnswers(t, tt, 0, []answerStep{{"where it begins is not known", 5 * answer, 600, first, 0, -1, 0}, {"now it is", 6 * answer, 700, first, 0, len(head), forecastCut}})

	w.State.Store(forecastBusy)
	m.Forecast(forecastStream(0), forecastOf(700, 0)) // somebody is at it
	playAnswers(t, tt, 0, []answerStep{{"half said", 7 * answer, 800, first, 0, -1, 0}})
	if w.Unwanted == 0 {
		t.Error("two wrote into one place")
	}
	w.State.Store(forecastBusy - 1)
	m.Forecast(forecastStream(0), forecastOf(800, ^uint64(0)))
	if n := w.State.Load(); n == 0 || n == forecastBusy {
		t.Errorf("state %#x behind the last number", n)
	}

	away := forecastMaps(t)
	there := newTap(t, away, TapConfig{Domain: 3, LinkHeader: 14, Direction: Both}, port)
	away.Forecast(forecastStream(0), forecastOf(100, ^uint64(0)))
	playAnswers(t, there, 0, []answerStep{{"one", 0, 100, first, 0, -1, 0}, {"another domain", answer, 200, first, 0, -1, 0}})
}

// What is left out takes nothing of the copy budget.
func TestForecastSparesTheBudget(t *testing.T) {
	m := forecastMaps(t)
	tt := newTap(t, m, ethernetBoth, port)
	head := answerHead(forecastBody)
	first := head + strings.Repeat("a", forecastCut)
	answer := uint32(len(head) + forecastBody)
	m.Forecast(forecastStream(0), forecastOf(100, ^uint64(0)))
	playAnswers(t, tt, 0, []answerStep{{"one", 0, 100, first, 0, -1, 0}})
	if err := m.SetCopyBudget(40_000); err != nil { // 4,000 bytes of burst
		t.Fatal(err)
	}
	var steps []answerStep
	for i := range uint32(20) {
		steps = append(steps, answerStep{"skipped", (i + 1) * answer, 200 + i*100, first, 0, len(head), forecastCut})
	}
	playAnswers(t, tt, 0, steps)
}
