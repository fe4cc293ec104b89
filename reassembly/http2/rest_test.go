package http2_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/http2"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// restless says in which way two runs of the same segments differ.
func restless(one, two *result) string {
	for _, x := range []struct {
		what string
		a, b any
	}{
		{"exchanges", one.words, two.words},
		{"heads", one.heads, two.heads},
		{"statuses", one.grpc, two.grpc},
		{"lost", one.lost, two.lost},
		{"counters", one.st, two.st},
		{"segments", one.asm, two.asm},
	} {
		if !reflect.DeepEqual(x.a, x.b) {
			return fmt.Sprintf("%s\nawake: %v\nrested: %v", x.what, x.a, x.b)
		}
	}
	for i, x := range one.got {
		y := two.got[i]
		for _, p := range [][2]exchange.Header{{x.Request.Header, y.Request.Header}, {x.Request.Trailer, y.Request.Trailer}, {x.Response.Header, y.Response.Header}, {x.Response.Trailer, y.Response.Trailer}} {
			if !reflect.DeepEqual(p[0], p[1]) {
				return fmt.Sprintf("stream %d\nawake: %q\nrested: %q", x.Stream, p[0], p[1])
			}
		}
		if x.Reused != y.Reused || x.ID != y.ID || x.Offset != y.Offset || x.Doubt != y.Doubt {
			return fmt.Sprintf("awake: %+v\nrested: %+v", x, y)
		}
	}
	return ""
}

// Whenever a connection rests, between two segments anywhere, and whatever of it
// was lost: nothing that is said of it changes.
func TestRestChangesNothing(t *testing.T) {
	rests, complete, lossy := 0, 0, 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		m := &model{}
		m.Write(r, r.IntN(2) == 0)
		of := room{live: r.IntN(3) > 0, want: exchange.WantWhole}
		if r.IntN(4) == 0 {
			of.live = true // in a file it decides about holes how late it is
			lossy++
			for n := 1 + r.IntN(3); n > 0; n-- {
				m.msgs[r.IntN(len(m.msgs))].hole = true
			}
		}
		m.noSYN = r.IntN(20) == 0
		mss := []int{20, 1448, 1 << 20}[r.IntN(3)]
		segs := m.segments([2]uint32{r.Uint32(), r.Uint32()}, func() int { return 1 + r.IntN(mss) })
		often := 1 + r.IntN(4)
		one := of.run(t, segs)
		of.rest, of.rests = func(int) bool { return r.IntN(often) == 0 }, &rests
		two := of.run(t, segs)
		if diff := restless(one, two); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		complete += two.n
	})
	t.Logf("%d rests, %d exchanges, %d conversations with losses", rests, complete, lossy)
	if rests < 100 || complete == 0 {
		t.Errorf("%d rests, %d exchanges", rests, complete)
	}
}

// What a connection must know after a rest.
func TestRest(t *testing.T) {
	gets := func(v *conv, from, n int, fields ...string) {
		for id := uint32(from); id < uint32(from+2*n); id += 2 {
			v.get(id, fields...)
			v.ok(id, "", fields...)
		}
	}
	literal := func(v *conv, id uint32, fields string) {
		v.frame(true, 1, 5, id, "\x82\x86\x84"+fields)
		v.ok(id, "")
	}
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(i)
	}
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		ends  string
		got   int
	}{
		{"fields", func(v *conv) { gets(v, 1, 5, "x-a: 1", "x-b: two", "user-agent: me") }, "", 5},
		{"before any block", func(v *conv) { v.frame(true, 6, 0, 0, "12345678"); gets(v, 1, 1) }, "", 1},
		{"fields that the static table has", func(v *conv) {
			literal(v, 1, "\x40\x0faccept-encoding\x0dgzip, deflate\x40\x06accept\x00\x40\x0dcache-control\x08no-store")
			literal(v, 3, "\xc0\xbf\xbe\x7e\x01x") // all of them, and a name
		}, "", 2},
		{"fields twice", func(v *conv) {
			literal(v, 1, strings.Repeat("\x40\x01x\x01y", 5))
			literal(v, 3, "\xc2")
		}, "", 2},
		{"fields of any bytes", func(v *conv) {
			literal(v, 1, "\x40\x01x\x7f\xad\x01"+string(noise)+"\x40\x01y\x7f\x49"+strings.Repeat("a", 200)+"\x40\x01z\x7f\x00"+strings.Repeat("e", 127))
			literal(v, 3, "\xbe\xbf")
		}, "", 2},
		{"values that begin alike", func(v *conv) {
			alike := ""
			for _, f := range []string{"x/a/b/1", "y/a/b/1", "x/a/b/12", "x/c", "x/a/b/2", "x", "x/a/b/12", "y/a", "x/a/c"} {
				alike += "\x40\x01" + f[:1] + string(rune(len(f)-1)) + f[1:]
			}
			literal(v, 1, alike)
			literal(v, 3, "\xbe\xbf\xc0\xc1\xc2\xc3\xc4\xc5\xc6")
		}, "", 2},
		{"values that begin alike, far from each other", func(v *conv) {
			v.settings(false, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 64 << 10})
			far := ""
			for i := range 70 {
				far += "\x40\x02" + string(rune('a'+i/10)) + string(rune('a'+i%10)) + "\x01v"
			}
			v.frame(true, 1, 5, 1, "\x3f\xe1\xff\x03\x82\x86\x84\x40\x02aa\x05value\x40\x02aa\x06values"+far)
			v.ok(1, "")
			literal(v, 3, "\xff\x06\xff\x05\xff\x04\xff\x03") // the oldest
		}, "", 2},
		{"a table full of the smallest fields", func(v *conv) {
			v.settings(false, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 64 << 10})
			v.frame(true, 1, 5, 1, "\x3f\xe1\xff\x03\x82\x86\x84"+strings.Repeat("\x40\x01x\x00", 1000))
			v.ok(1, "")
			v.frame(true, 1, 5, 3, "\x82\x86\x84"+strings.Repeat("\x40\x01y\x00", 985))
			v.ok(3, "")
			v.frame(true, 1, 5, 5, "\x82\x86\x84\xff\xff\x0e") // the oldest
			v.ok(5, "")
			v.frame(true, 1, 5, 7, "\x82\x86\x84\xff\x80\x0f") // one more than there are
		}, "unparsable hpack", 3},
		{"a small table", func(v *conv) {
			v.announce(100)
			v.ack()
			v.resize(100)
			gets(v, 1, 3, "x-a: 1", "x-b: 1", "x-c: 1")
		}, "", 3},
		{"no table", func(v *conv) { v.announce(0); v.ack(); v.resize(0); gets(v, 1, 3, "x-a: 1") }, "", 3},
		{"a large table", func(v *conv) {
			v.announce(64 << 10)
			v.ack()
			v.resize(64 << 10)
			for i := range 60 {
				gets(v, 1+2*i, 1, fmt.Sprintf("x-%d: %s", i, strings.Repeat("v", 500)), fmt.Sprintf("x-%d: %s", i/2, strings.Repeat("v", 500)))
			}
		}, "", 60},
		{"a large table that was made small", func(v *conv) {
			v.announce(64 << 10)
			v.ack()
			v.resize(64 << 10)
			gets(v, 1, 2, "x-a: 1")
			v.resize(40)
			gets(v, 5, 2, "x-a: 1", "x-b: 1")
		}, "", 4},
		{"a bound that is not acknowledged", func(v *conv) { v.announce(8192); gets(v, 1, 1); v.resize(8192); gets(v, 3, 1) }, "", 2},
		{"an old bound that may still be used", func(v *conv) { v.announce(100); gets(v, 1, 1); v.resize(4000); gets(v, 3, 1) }, "", 2},
		{"a bound that is acknowledged", func(v *conv) {
			v.announce(100)
			v.ack()
			gets(v, 1, 1)
			v.resize(4096)
			v.get(3)
			v.ok(3, "")
		}, "unparsable hpack", 1},
		{"many bounds", func(v *conv) {
			v.announce(8192)
			for range 20 {
				v.announce(10)
			}
			gets(v, 1, 1)
			v.resize(8192)
			gets(v, 3, 1)
		}, "", 2},
		{"more bounds than are followed: none is taken back", func(v *conv) {
			for i := range 20 {
				v.announce(map[bool]uint32{true: 9000, false: 10}[i == 19])
			}
			v.ack()
			v.announce(10)
			for range 9 {
				v.ack()
			}
			gets(v, 1, 1)
			v.resize(9000)
			gets(v, 3, 1)
		}, "", 2},
		{"large frames", func(v *conv) {
			v.settings(true, xhttp2.Setting{ID: xhttp2.SettingMaxFrameSize, Val: 70_000})
			gets(v, 1, 1)
			v.get(3)
			v.headers(false, 3, false, ":status: 200")
			v.data(false, 3, true, strings.Repeat("x", 60_000))
		}, "", 2},
		{"GOAWAY", func(v *conv) {
			gets(v, 1, 1)
			v.frame(false, 7, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00")
			v.get(3)
		}, "no_response goaway", 1},
		{"promised streams", func(v *conv) {
			v.get(1)
			v.frame(false, 5, 4, 1, "\x00\x00\x00\x04\x82\x86\x84\x01\x01h")
			v.ok(1, "")
			v.ok(4, "")
			v.frame(false, 5, 4, 1, "\x00\x00\x00\x02\x82\x86\x84\x01\x01h") // a lower number: none
			gets(v, 3, 1)
		}, "", 3},
		{"the last stream", func(v *conv) { gets(v, 5, 1); v.get(3); gets(v, 7, 1) }, "", 2},
		{"an answer to nothing", func(v *conv) { gets(v, 1, 1); v.ok(3, "") }, "no_request", 1},
		{"by Upgrade", func(v *conv) { v.msgs = nil; v.upgraded(asksH2) }, "", 2},
		{"joined late", func(v *conv) { v.noSYN = true; gets(v, 1, 3, "x-a: 1") }, "unparsable http2_late x3", 0},
		{"joined late, and nothing behind it", func(v *conv) {
			v.noSYN = true
			v.msgs = nil
			v.frame(true, 8, 0, 0, "\x00\x00\x00\x01")
		}, "unparsable http2_late", 0},
		{"a hole", func(v *conv) { gets(v, 1, 1); v.get(3); v.lose(); v.ok(3, ""); gets(v, 5, 1) }, "", 0},
		{"urgent bytes", func(v *conv) { gets(v, 1, 3) }, "", 3},
		{"against the rules", func(v *conv) { gets(v, 1, 1); v.frame(true, 0, 0, 0, "x"); gets(v, 3, 1) }, "unparsable http2", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			v.hello()
			tt.write(v)
			for _, mss := range []int{1 << 20, 7} {
				if v.noSYN && mss < 9 {
					continue // no segment shows a whole frame
				}
				segs := v.segments([2]uint32{1000, 5000}, func() int { return mss })
				if tt.name == "urgent bytes" {
					segs[5].flags |= reassembly.URG
				}
				rests := 0
				of := room{live: true, want: exchange.WantWhole}
				one := of.run(t, segs)
				of.rest, of.rests = func(int) bool { return true }, &rests
				two := of.run(t, segs)
				if diff := restless(one, two); diff != "" {
					t.Errorf("pieces of %d: %s", mss, diff)
				}
				if rests == 0 {
					t.Errorf("pieces of %d: it never rested", mss)
				}
				if tt.name != "a hole" && (two.ends() != tt.ends || two.n != tt.got) {
					t.Errorf("pieces of %d: %d exchanges, ends %q; want %d, %q", mss, two.n, two.ends(), tt.got, tt.ends)
				}
			}
		})
	}
}

// Whatever the tables hold, they hold it behind a rest.
func TestRestKeepsTables(t *testing.T) {
	rests := 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		const base = "/api/v1/users/\x00\xff\x80Mon, 30 Nov 2026 08:32:11 GMT"
		var fields strings.Builder
		n := 1 + r.IntN(120)
		for range n {
			fields.WriteString([]string{"\x40\x01x", "\x40\x01y", "\x40\x00", "\x60", "\x7a"}[r.IntN(5)])
			value := base[:r.IntN(len(base)+1)]
			for range r.IntN(4) {
				value += string([]byte{byte(r.Uint32() >> r.IntN(8))})
			}
			fields.WriteString(string(rune(len(value))) + value)
		}
		v := newConv()
		v.hello()
		v.settings(false, xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 64 << 10})
		// The whole request is one segment, so that it rests with what is in the
		// table at its end.
		v.frame(true, 1, 5, 1, "\x3f\xe1\xff\x03\x82\x86\x84"+fields.String())
		v.ok(1, "")
		block := []byte("\x82\x86\x84")
		for i := range n {
			if block = append(block, 0x80|byte(62+i)); 62+i >= 0x7f {
				block = binary.AppendUvarint(append(block[:len(block)-1], 0xff), uint64(62+i-0x7f))
			}
		}
		v.frame(true, 1, 5, 3, string(block))
		v.ok(3, "")
		segs := v.segments([2]uint32{1000, 5000}, func() int { return 1 << 20 })
		of := room{live: true, want: exchange.WantWhole}
		one := of.run(t, segs)
		of.rest, of.rests = func(int) bool { return true }, &rests
		two := of.run(t, segs)
		if diff := restless(one, two); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		if len(two.got) != 2 || len(two.got[1].Request.Header) != n {
			t.Fatalf("seed %d: %d exchanges, ends %q", seed, len(two.got), two.ends())
		}
	})
	if rests < 100 {
		t.Errorf("%d rests", rests)
	}
}

// sleepy is a shard with one caller whose connection rests.
func sleepy(limit int64) (got *heads, budget *reassembly.Budget, to *ours, c *caller, pass func()) {
	got = &heads{}
	budget = &reassembly.Budget{Limit: limit}
	to = &ours{Assembler: got.shard(budget)}
	c = newCaller(to, 1024)
	c.request(to, "\x82\x86\x84\x40\x01x\x02yz")
	now := int64(0)
	pass = func() {
		now += int64(3 * time.Second)
		to.Tick(now)
		to.s.Time = now
	}
	return got, budget, to, c, pass
}

// At rest the budget has nothing of what the tables could hold; the tables take
// of it again when somebody needs them, and not before.
func TestRestGivesMemoryBack(t *testing.T) {
	got, budget, to, c, pass := sleepy(1 << 20)
	for range 3 {
		c.request(to, "\x82\x86\x84\xbe") // remembered
	}
	awake := budget.Used()
	pass()
	asleep := budget.Used()
	if asleep >= 400 || awake < asleep+4096 {
		t.Errorf("%d bytes of the budget awake, %d at rest", awake, asleep)
	}
	c.send(to, true, []byte("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"))
	if n := budget.Used(); n >= asleep+4096 {
		t.Errorf("%d bytes of the budget behind a PING, %d at rest", n, asleep)
	}
	pass()
	if n := budget.Used(); n != asleep {
		t.Errorf("%d bytes of the budget at the second rest, %d at the first", n, asleep)
	}
	for range 3 {
		c.request(to, "\x82\x86\x84\xbe")
		if last := got.got[len(got.got)-1]; !strings.HasSuffix(last, "GET /|x=yz") {
			t.Errorf("behind the rest the head is %q", last)
		}
	}
	if n := budget.Used(); n > awake || n < asleep+4096 {
		t.Errorf("%d bytes of the budget when it is awake again, %d before", n, awake)
	}
	pass()
	to.Close(reassembly.CloseStopped)
	if budget.Used() != 0 {
		t.Errorf("%d bytes of the budget are left", budget.Used())
	}
}

// A connection that can't be woken for want of memory is counted, once, and stays
// given up; one of which nothing is used any more stays what it was.
func TestNoRoomToWake(t *testing.T) {
	for _, tt := range []struct {
		name   string
		broken bool // before it rests
		room   int64
		// Of 26 bytes, 13 of which are a request, nobody reads the last ones, nor 17
		// behind another rest.
		evicted uint64
		asked   int // by both requests
	}{
		{"not for the connection", false, 850, 26 + 17, 1},
		{"not for a table", false, 3000, 13 + 17, 1},
		{"enough", false, 8000, 0, 2},
		{"broken", true, 815, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			col := &collector{want: exchange.WantFrame}
			// So small that a sixteenth, which the assembler keeps free, is less than
			// a connection.
			budget := &reassembly.Budget{Limit: 13_000}
			h2, err := http2.New(http2.Config{Keeper: col, Sink: col, Budget: budget})
			must(err)
			h1, err := http1.New(http1.Config{Keeper: col, Sink: col, Budget: budget, HTTP2: h2.Open, Frames: http2.Frames})
			must(err)
			a, err := reassembly.New(reassembly.Config{Factory: h1, Budget: budget})
			must(err)
			to := &ours{Assembler: a}
			c := newCaller(to, 1024)
			c.request(to, "\x82\x86\x84\x40\x01x\x02yz")
			if tt.broken {
				c.send(to, true, []byte("\x00\x00\x01\x00\x00\x00\x00\x00\x00x"))
			}
			a.Tick(int64(3 * time.Second))
			taken := budget.Limit - budget.Used() - tt.room
			budget.Must(taken)
			c.request(to, "\x82\x86\x84\xbe")
			budget.Give(taken)
			a.Tick(int64(6 * time.Second))
			c.send(to, true, []byte("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"))
			if n := a.Stats().Evicted; n != 0 {
				t.Errorf("the assembler evicted %d connections", n)
			}
			a.Close(reassembly.CloseStopped)
			res := &result{collector: col, asm: a.Stats(), st: h1.Stats()}
			two := h2.Stats()
			res.st.Add(&two)
			res.check(t, budget)
			if n := res.st.Exchanges[exchange.ResultEvicted][exchange.ReasonNone]; n > 1 || (n == 0) != (tt.evicted == 0) {
				t.Errorf("%d exchanges counted as evicted", n)
			}
			if len(col.heads) != tt.asked {
				t.Errorf("asked about %d, want %d", len(col.heads), tt.asked)
			}
			if res.st.Evicted != tt.evicted {
				t.Errorf("%d bytes counted as evicted, want %d", res.st.Evicted, tt.evicted)
			}
		})
	}
}

// foreseer is a forecaster that counts.
type foreseer struct{ n int }

func (f *foreseer) Unwanted(*exchange.Flow, uint32, uint64) bool    { return true }
func (f *foreseer) Forecast(*reassembly.Conn, *reassembly.Forecast) { f.n++ }

// What HTTP/1 took from the budget before an Upgrade goes back with the rest.
func TestRestBehindHTTP1(t *testing.T) {
	v := newConv()
	v.raw(true, "GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
	v.raw(false, "HTTP/1.1 200 OK\r\nServer: one with a name\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: 20000\r\n\r\n"+strings.Repeat("x", 20_000))
	v.upgraded(asksH2)
	ahead, rests := &foreseer{}, 0
	res := room{live: true, want: exchange.WantList, ahead: ahead, rest: func(int) bool { return true }, rests: &rests}.run(t, v.whole())
	if res.n != 3 || ahead.n == 0 || rests == 0 {
		t.Errorf("%d exchanges, %d forecasts, %d rests", res.n, ahead.n, rests)
	}
}
