package sample

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func staleSampler(t testing.TB, separate bool, entries int) *Sampler {
	return mustNew(t, Config{StaleEntries: entries, Experiments: []Experiment{
		{
			Name: "reads", Match: Match{Methods: []string{"GET"}, Headers: map[string]string{"X-Read": "*"}}, SeparateState: separate,
			Rate: Rate{fullRate},
			Routes: []Route{
				{Path: "/users/{id}"}, {Path: "/users/{id}/orders/{order}"}, {Path: "/users/{id}/orders"}, {Path: "/files/{rest...}"}, {Path: "/static"},
			},
		},
		{Name: "other", Match: Match{Port: 9090}, Routes: []Route{{Path: "/users/{id}"}}},
	}})
}

// exchangeOf is the exchange that the sampler's decision about a GET makes.
func exchangeOf(sh *Shard, host, target string, at int64) *exchange.Exchange {
	h := head("GET", target, "X-Read", "1")
	h.Fields[0].Value = []byte(host)
	h.Time = at
	return &exchange.Exchange{
		Decision: sh.Keep(h),
		Request:  &exchange.Request{Method: "GET", Target: target, Host: host, FirstByte: at},
	}
}

func write(sh *Shard, method, host, target string, at int64) {
	h := head(method, target)
	h.Fields[0].Value = []byte(host)
	h.Time = at
	sh.Keep(h)
}

func TestStale(t *testing.T) {
	const host = "shop.example.com"
	for _, c := range []struct {
		name                 string
		method, host, target string
		at                   time.Duration // of the unsafe method, from the request on
		read                 string
		want, separate       Staleness
	}{
		{"before", "PUT", host, "/users/1", -time.Second, "/users/1", Stale, Stale},
		{"the query does not count", "PUT", host, "/users/1?a=b", -time.Second, "/users/1?c", Stale, Stale},
		{"60 s before", "PUT", host, "/users/1", -time.Minute, "/users/1", Stale, Stale},
		{"more than 60 s before", "PUT", host, "/users/1", -time.Minute - 1, "/users/1", Fresh, Stale},
		{"until the replay", "PUT", host, "/users/1", 50 * time.Millisecond, "/users/1", Stale, Stale},
		{"after the replay", "PUT", host, "/users/1", 50*time.Millisecond + 1, "/users/1", Fresh, Fresh},
		{"another path", "PUT", host, "/users/2", -time.Second, "/users/1", Fresh, Fresh},
		{"another host", "PUT", "b.example.com", "/users/1", -time.Second, "/users/1", Fresh, Fresh},
		{"the same host with a port", "PUT", "SHOP.example.com:8080", "/users/1", -time.Second, "/users/1", Stale, Stale},
		{"absolute form", "PUT", "x", "http://shop.example.com/users/1", -time.Second, "/users/1", Stale, Stale},
		{"the same parameters on another route", "POST", host, "/users/1/orders", -time.Second, "/users/1", Stale, Stale},
		{"the same parameters, encoded", "POST", host, "/users/%31/orders", -time.Second, "/users/1", Stale, Stale},
		{"more parameters", "POST", host, "/users/1/orders/7", -time.Second, "/users/1", Fresh, Fresh},
		{"other parameters", "POST", host, "/users/2/orders", -time.Second, "/users/1", Fresh, Fresh},
		{"values that only join alike", "POST", host, "/users/1%00order%001/orders", -time.Second, "/users/1/orders/1", Fresh, Fresh},
		{"a path without parameters", "DELETE", host, "/static", -time.Second, "/static", Stale, Stale},
		{"an unmatched path", "DELETE", host, "/elsewhere", -time.Second, "/static", Fresh, Fresh},
		{"a safe method", "PROPFIND", host, "/users/1", -time.Second, "/users/1", Fresh, Fresh},
		{"OPTIONS", "OPTIONS", host, "/users/1", -time.Second, "/users/1", Fresh, Fresh},
		{"an unknown method", "FROB", host, "/users/1", -time.Second, "/users/1", Stale, Stale},
	} {
		for _, separate := range []bool{false, true} {
			s := staleSampler(t, separate, 0)
			reader, writer := s.Shard(), s.Shard()
			write(writer, c.method, c.host, c.target, start+int64(c.at))
			x := exchangeOf(reader, host, c.read, start)
			want := c.want
			if separate {
				want = c.separate
			}
			if got := s.Stale(0, x, start+50*int64(time.Millisecond)); got != want {
				t.Errorf("%s, separate %v: %v, want %v", c.name, separate, got, want)
			}
		}
	}
}

func TestStaleOfOwnTrafficAndOtherExperiments(t *testing.T) {
	s := staleSampler(t, false, 0)
	sh := s.Shard()
	h := head("PUT", "/users/1/orders", "X-Shadow-Test-Role", "candidate")
	d := sh.Keep(h)
	if got := word(d.Choices[0]); got != "own_traffic" {
		t.Fatalf("a replay is %s", got)
	}
	x := exchangeOf(sh, "shop.example.com", "/users/1", start)
	if got := s.Stale(0, x, start); got != Stale {
		t.Errorf("after a replayed PUT of the same parameters: %v", got)
	}
	if got := s.Stale(1, x, start); got != Fresh {
		t.Errorf("for an experiment that does not match: %v", got)
	}
}

// What was named to be replayed though it is unsafe would make itself stale.
func TestUnsafeRequestIsNotStale(t *testing.T) {
	s := staleSampler(t, false, 0)
	sh := s.Shard()
	write(sh, "PUT", "shop.example.com", "/users/1", start)
	x := exchangeOf(sh, "shop.example.com", "/users/1", start)
	if got := s.Stale(0, x, start); got != Stale {
		t.Fatalf("the GET: %v", got)
	}
	x.Request.Method = "PUT"
	if got := s.Stale(0, x, start); got != Fresh {
		t.Errorf("the PUT: %v", got)
	}
}

// The table against one that forgets nothing: with room the same answers, but
// for two later times that hide an earlier one; without room never fresher.
func TestWriteTableAgreesWithModel(t *testing.T) {
	for _, entries := range []int{1, 16, 4096} {
		rapid.Check(t, func(t *rapid.T) {
			w := newWriteTable(entries)
			all := map[uint64][]int64{}
			now := int64(1000)
			for range rapid.IntRange(0, 60).Draw(t, "writes") {
				key := mixed(rapid.Uint64Range(1, 12).Draw(t, "key"))
				now += rapid.Int64Range(-3, 20).Draw(t, "step")
				w.seen(key, now)
				all[key] = append(all[key], now)
			}
			for i := range uint64(12) {
				key := mixed(i + 1)
				from := rapid.Int64Range(900, now+10).Draw(t, "from")
				to := rapid.Int64Range(from, now+20).Draw(t, "to")
				want, later := Fresh, 0
				for _, at := range all[key] {
					if from <= at && at <= to {
						want = Stale
					}
					if at > to {
						later++
					}
				}
				got := w.between(key, from, to)
				switch {
				case got == want:
				case got == Fresh:
					t.Fatalf("%d entries, from %d to %d: fresh, though written at %v", entries, from, to, all[key])
				case got == StaleUnknown && (w.evicted.Load() > 0 || later >= 2):
				default:
					t.Fatalf("%d entries, from %d to %d: %v, want %v of %v", entries, from, to, got, want, all[key])
				}
				if got == StaleUnknown && w.evicted.Load() == 0 && later < 2 {
					t.Fatalf("unknown without a reason")
				}
			}
		})
	}
}

func TestStaleEvictionIsSaid(t *testing.T) {
	s := staleSampler(t, false, 64)
	sh := s.Shard()
	for i := range 1000 {
		write(sh, "POST", "shop.example.com", fmt.Sprintf("/nowhere/%d", i), start+int64(i))
	}
	if n := s.Stats().StaleEvicted; n != 1000-64 {
		t.Errorf("%d evicted, want %d", n, 1000-64)
	}
	unknown, stale := 0, 0
	for i := range 1000 {
		x := exchangeOf(sh, "shop.example.com", fmt.Sprintf("/nowhere/%d", i), start+second)
		switch s.Stale(0, x, start+second) {
		case Fresh:
			t.Fatalf("/nowhere/%d is fresh", i)
		case Stale:
			stale++
		case StaleUnknown:
			unknown++
		}
	}
	if stale != 64 || unknown != 1000-64 {
		t.Errorf("%d stale, %d unknown", stale, unknown)
	}
	// Later what was forgotten is too old to matter.
	x := exchangeOf(sh, "shop.example.com", "/users/1", start+100*second)
	if got := s.Stale(0, x, start+100*second); got != Fresh {
		t.Errorf("100 s later: %v", got)
	}
	for want, s := range map[string]Staleness{"fresh": Fresh, "stale": Stale, "stale_unknown": StaleUnknown} {
		if s.String() != want {
			t.Errorf("%v, want %s", s, want)
		}
	}
}

// Readers beside a writer must never find fresh what was written before they
// asked.
func TestStaleWhileWriting(t *testing.T) {
	s := staleSampler(t, false, 16)
	sh, reader := s.Shard(), s.Shard()
	x := exchangeOf(reader, "shop.example.com", "/users/1", start)
	write(sh, "PUT", "shop.example.com", "/users/1", start)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 5_000 {
				if s.Stale(0, x, start) == Fresh {
					t.Error("fresh while others are written")
					return
				}
				s.Stats()
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(3, 4))
		for range 5_000 {
			write(sh, "PUT", "shop.example.com", fmt.Sprintf("/users/%d", 1+r.IntN(200)), start+r.Int64N(100))
		}
	})
	wg.Wait()
}

// An entry that is just being given to another key is neither's.
func TestWriteTableHandsEntriesOver(t *testing.T) {
	w := newWriteTable(1)
	asking, done := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		<-asking
		for i := range uint64(200_000) {
			w.seen(1, 10)
			w.seen(2+i%5, 1000)
		}
	})
	wg.Go(func() {
		close(asking)
		for {
			if got := w.between(1, 900, 1100); got == Stale {
				t.Error("key 1 has the time of another")
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	wg.Wait()
}

// FuzzKeep gives heads of foreign bytes to every part of the sampler.
func FuzzKeep(f *testing.F) {
	f.Add("GET", "/users/1?a=b", "shop.example.com", "X-Read", "1")
	f.Add("PUT", "/users/%31/orders", "[::1]:80", "X-Shadow-Test-Role", "candidate")
	f.Add("GET", "http://h:/%zz/../%2e%2E//", ":", "host", "x")
	f.Add("", "*", "[", "", "")
	f.Add("CONNECT", "a:1", "a]:b:", "X-Read", "")
	f.Add("POST", "/a;b.c/logout.php?code&state=%", ".", "X-Read", " ")
	f.Fuzz(func(t *testing.T, method, target, host, name, value string) {
		s := mustNew(t, Config{StaleEntries: 8, Experiments: []Experiment{
			{Name: "a", Routes: []Route{{Path: "/"}, {Path: "/users/{id}", Key: "{id}"}, {Path: "/files/{rest...}", Key: "{rest}"}},
				Match: Match{Host: "*.example.com"}, Exclude: []string{"/a/b"}, Rate: Rate{5000}, Guard: Guard{Latency: 2, Errors: Rate{1}}},
			{Name: "b", Routes: []Route{{Path: "/{x}/{y}"}, {Path: "/{$}"}}, Match: Match{Host: "h:80"}, By: By{kind: byURL}, Rate: Rate{1}},
			{Name: "c", Routes: []Route{{Path: "/{x...}"}}, By: By{kind: byHeader, header: name}, Rate: Rate{5000}, SeparateState: true},
		}})
		sh := s.Shard()
		h := head(method, target, name, value)
		h.Fields[0].Value = []byte(host)
		d := sh.Keep(h)
		if again := sh.Keep(h); again != d {
			t.Fatalf("twice the same head: %+v and %+v", d, again)
		}
		x := &exchange.Exchange{Decision: d, Request: &exchange.Request{Method: method, Target: target, Host: host, FirstByte: start}}
		for i, c := range d.Choices[:d.Len] {
			if c.Selection == exchange.Unmatched || c.Selection == exchange.OwnTraffic {
				continue
			}
			params := s.Params(i, int(c.Route), target)
			if params == nil {
				t.Fatalf("route %d was chosen, but does not match", c.Route)
			}
			_ = s.Key(i, int(c.Route), target)
			got := s.Stale(i, x, start)
			if writes := !readOnly([]byte(method)); writes && got != Fresh {
				t.Fatalf("an unsafe request is %v", got)
			}
			x.Request.Method = "GET"
			if writes := !readOnly([]byte(method)); writes != (s.Stale(i, x, start) != Fresh) {
				t.Fatalf("after %s, a GET of the same target is %v", method, s.Stale(i, x, start))
			}
			x.Request.Method = method
		}
		sh.Completed(&d, exchange.DoubtNone, CompletedInfo{Time: start, TTFB: -1, Status: -1})
		for _, x := range s.Stats().Experiments {
			if sum(x.Selections) != 1 {
				t.Fatalf("counted %+v", x)
			}
		}
	})
}
