package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func everything(*exchange.Exchange) bool { return true }

// numbered is an exchange with an id of its own, as capture gives it.
func numbered(n int) *exchange.Exchange {
	x := get(fmt.Sprintf("/%d", n))
	sum := sha256.Sum256(fmt.Append(nil, n))
	x.ID = exchange.ID(hex.EncodeToString(sum[:8]))
	return x
}

// legNet is the network of one leg; a connection takes time.
type legNet struct {
	fakeNet
	connect time.Duration
	// drawn is in connect's stead, when set: it may be called at any time.
	drawn func() time.Duration
	// hang makes every connect one that nobody answers.
	hang bool
}

func (n *legNet) dial(ctx context.Context, to netip.AddrPort, f func(string, string, syscall.RawConn) error) (net.Conn, error) {
	d := n.connect
	if n.drawn != nil {
		d = n.drawn()
	}
	if n.hang {
		d = time.Hour
	}
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return n.fakeNet.dial(ctx, to, f)
}

// twoLegs runs f with a Replayer that has a control, in fake time.
func twoLegs(t *testing.T, change func(*Config), f func(t *testing.T, u *running, cand, ctrl *legNet)) {
	synctest.Test(t, func(t *testing.T) {
		cand, ctrl := &legNet{}, &legNet{}
		cand.serve, ctrl.serve = serveOK, serveOK
		c := config("http://10.0.0.1")
		c.Control = &Control{URL: "http://10.0.0.2", Chosen: everything}
		c.Memory = NewMemory(1 << 20)
		if change != nil {
			change(&c)
		}
		u := start(t, c)
		u.dialer.dialTCP, u.control.dialer.dialTCP = cand.dial, ctrl.dial
		f(t, u, cand, ctrl)
		u.Stop()
		synctest.Wait()
	})
}

// ends are the pairs' ends that are not 0.
func (u *running) ends() string {
	u.t.Helper()
	var list []string
	s := u.balanced()
	for _, e := range s.Control.Ends {
		if e.N > 0 {
			list = append(list, fmt.Sprintf("%s %s %d", e.Result, e.Reason, e.N))
		}
	}
	if s.Control.InFlight > 0 {
		list = append(list, fmt.Sprintf("in flight %d", s.Control.InFlight))
	}
	return strings.Join(list, ", ")
}

// Both get the same request but for the role, together, in the order that the
// exchange's id gives.
func TestPairOrder(t *testing.T) {
	var mu sync.Mutex
	var order []string
	see := func(role string) func(net.Conn, netip.AddrPort) {
		return func(c net.Conn, _ netip.AddrPort) {
			for {
				// The first byte of the second one comes after the last of the
				// first one.
				one := make([]byte, 1)
				if _, err := io.ReadFull(c, one); err != nil {
					return
				}
				mu.Lock()
				order = append(order, role)
				mu.Unlock()
				head := string(one) + readHead(c)
				if !strings.Contains(head, "\r\n"+RoleHeader+": "+role+"\r\n") || strings.Count(head, RoleHeader) != 1 {
					t.Errorf("the %s got %q", role, head)
				}
				pass(time.Millisecond) // which the second one does not wait for
				io.WriteString(c, mockOK)
			}
		}
	}
	twoLegs(t, nil, func(t *testing.T, u *running, cand, ctrl *legNet) {
		cand.serve, ctrl.serve = see("candidate"), see("control")
		first := map[string]int{}
		for n := range 200 {
			x := numbered(n)
			want := []string{"candidate", "control"}
			if firstLeg(x.ID) == controlLeg {
				slices.Reverse(want)
			}
			mu.Lock()
			order = nil
			mu.Unlock()
			u.Submit(x)
			p := u.next()
			p.ok(t, 200, "ok")
			c := p.Control
			if c == nil || c.Result != Paired || c.Outcome == nil || c.Outcome.Response == nil || c.Outcome.Address != "10.0.0.2:80" {
				t.Fatalf("%d: %+v", n, c)
			}
			if p.Start != c.Outcome.Start {
				t.Errorf("%d: %v apart", n, time.Duration(p.Start-c.Outcome.Start))
			}
			if !slices.Equal(order, want) {
				t.Fatalf("%d: sent in the order %v, want %v", n, order, want)
			}
			first[order[0]]++
			pass(time.Second)
		}
		// 200 coins: within five standard deviations.
		if d := first["control"] - 100; d < -36 || d > 36 {
			t.Errorf("the control was first %d times of 200", first["control"])
		}
		if got := u.ends(); got != "paired  200" {
			t.Error(got)
		}
	})
}

// The vector of the order.
func TestFirstLeg(t *testing.T) {
	for id, want := range map[exchange.ID]leg{"0123456789abcdef": candidateLeg, "ffffffffffffffff": controlLeg} {
		sum := sha256.Sum256([]byte("order\x00" + string(id)))
		if got := firstLeg(id); got != want || leg(sum[0]%2) != want {
			t.Errorf("%s: %d, want %d", id, got, want)
		}
	}
}

// What becomes of one exchange when the legs do not come at the same time.
func TestPairTogether(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		name       string
		cand, ctrl time.Duration // that a connection takes
		want       string
		start      time.Duration // when the candidate was asked
		asked      int           // dials of the control that sent a request
	}{
		{"at once", 0, 0, "paired  1", 0, 1},
		{"the control is later", 0, 19 * ms, "paired  1", 19 * ms, 1},
		{"the candidate is later", 19 * ms, 0, "paired  1", 19 * ms, 1},
		{"both are slow", 500 * ms, 519 * ms, "paired  1", 519 * ms, 1},
		{"the control is too late", 0, 21 * ms, "shed apart 1", 20 * ms, 0},
		{"the candidate is too late", 21 * ms, 0, "shed apart 1", 21 * ms, 0},
		{"the candidate never comes", time.Hour, 0, "failed candidate 1", 0, 0},
		{"the control never comes", 0, time.Hour, "failed connect 1", 20 * ms, 0},
		{"nobody comes", time.Hour, time.Hour, "failed connect 1", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			twoLegs(t, nil, func(t *testing.T, u *running, cand, ctrl *legNet) {
				cand.connect, ctrl.connect = c.cand, c.ctrl
				var asked atomic.Int32
				ctrl.serve = func(c net.Conn, _ netip.AddrPort) {
					for readHead(c) != "" {
						asked.Add(1)
						io.WriteString(c, mockOK)
					}
				}
				began := time.Now()
				u.Submit(numbered(1))
				p := u.next()
				synctest.Wait()
				if got := u.ends(); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
				if c.start > 0 && time.Duration(p.Start-began.UnixNano()) != c.start {
					t.Errorf("the candidate was asked after %v, want %v", time.Duration(p.Start-began.UnixNano()), c.start)
				}
				if int(asked.Load()) != c.asked {
					t.Errorf("the control was asked %d times, want %d", asked.Load(), c.asked)
				}
				if o := p.Control.Outcome; (o != nil) != (c.asked > 0 || strings.HasPrefix(c.want, "failed connect")) {
					t.Errorf("outcome of the control: %+v", o)
				}
			})
		})
	}
}

// A second try may come too late to be a pair; both have answered all the same.
func TestPairApart(t *testing.T) {
	for took, want := range map[time.Duration]string{5 * time.Millisecond: "paired  2", 6 * time.Millisecond: "paired  1, shed apart 1"} {
		twoLegs(t, nil, func(t *testing.T, u *running, cand, ctrl *legNet) {
			cand.serve = func(c net.Conn, _ netip.AddrPort) {
				readHead(c)
				io.WriteString(c, mockOK)
				readHead(c) // and hangs up
			}
			u.one(numbered(1)).ok(t, 200, "ok")
			cand.connect = took
			cand.serve = serveOK
			p := u.one(numbered(2))
			p.ok(t, 200, "ok")
			if o := p.Control.Outcome; o == nil || o.Response == nil {
				t.Errorf("the control: %+v", p.Control)
			}
			if got := u.ends(); got != want {
				t.Errorf("after %v: %s, want %s", took, got, want)
			}
		})
	}
}

// A control that is dead or hangs costs the candidate nothing but the pair.
func TestSickControl(t *testing.T) {
	t.Run("dead", func(t *testing.T) {
		twoLegs(t, nil, func(t *testing.T, u *running, cand, ctrl *legNet) {
			ctrl.serve = nil
			for n := range 30 {
				u.Submit(numbered(n))
				synctest.Wait()
				p := u.next() // no time has passed
				p.ok(t, 200, "ok")
				if n >= 10 && p.Control.Outcome != nil {
					t.Errorf("%d: %+v", n, p.Control)
				}
			}
			s := u.balanced()
			if got := u.ends(); got != "failed connect 10, shed breaker_open 20" || ctrl.dials.Load() != 10 || s.Breaker != "closed" || s.Control.Breaker != "open" || s.Control.BreakerOpened != 1 {
				t.Errorf("%s, %d dials, %+v", got, ctrl.dials.Load(), s)
			}
			pass(5*time.Second + 1)
			ctrl.serve = serveOK
			u.one(numbered(31)).ok(t, 200, "ok")
			u.one(numbered(32)).ok(t, 200, "ok")
			if got := u.ends(); got != "paired  2, failed connect 10, shed breaker_open 20" {
				t.Error(got)
			}
		})
	})
	t.Run("hanging", func(t *testing.T) {
		twoLegs(t, func(c *Config) { c.MaxInFlight = 3 }, func(t *testing.T, u *running, cand, ctrl *legNet) {
			ctrl.serve = func(c net.Conn, _ netip.AddrPort) { drain(c) }
			for n := range 20 {
				u.Submit(numbered(n))
				synctest.Wait()
			}
			// The candidate's places are free again though three wait.
			if s := u.balanced(); s.InFlight != 3 || s.Results[Compared] != 17 || s.Results[Shed] != 0 || s.Opened != 1 {
				t.Errorf("%+v", s)
			}
			if got := u.ends(); got != "shed shed 17, in flight 3" {
				t.Error(got)
			}
			pass(2 * time.Second)
			synctest.Wait()
			if got := u.ends(); got != "failed timeout 3, shed shed 17" || len(u.pairs) != 20 {
				t.Error(got, len(u.pairs))
			}
			for range 20 {
				u.next().ok(t, 200, "ok")
			}
		})
	})
	t.Run("rate", func(t *testing.T) {
		twoLegs(t, func(c *Config) { c.MaxRate = 10 }, func(t *testing.T, u *running, cand, ctrl *legNet) {
			u.Submit(numbered(1))
			synctest.Wait()
			u.control.limiter.AllowN(time.Now(), 1)
			u.limiter.SetLimit(1e9)
			pass(10 * time.Millisecond)
			u.Submit(numbered(2))
			synctest.Wait()
			if got := u.ends(); got != "paired  1, shed rate_limited 1" {
				t.Error(got)
			}
		})
	})
}

// Without the candidate there is no pair, and the control is left alone.
func TestSickCandidateOfPair(t *testing.T) {
	twoLegs(t, func(c *Config) { c.MaxInFlight = 1 }, func(t *testing.T, u *running, cand, ctrl *legNet) {
		cand.serve = nil
		for n := range 12 {
			u.Submit(numbered(n))
			synctest.Wait()
		}
		if got := u.ends(); got != "failed candidate 10, shed candidate 2" {
			t.Error(got)
		}
		if s := u.balanced(); s.Results[BreakerOpen] != 2 || s.Control.Breaker != "closed" || u.control.Stats().Sent != 0 {
			t.Errorf("%+v, %+v", s, u.control.Stats())
		}
	})
	twoLegs(t, func(c *Config) { c.MaxInFlight = 1 }, func(t *testing.T, u *running, cand, ctrl *legNet) {
		cand.serve = func(c net.Conn, _ netip.AddrPort) { drain(c) }
		for n := range 6 {
			u.Submit(numbered(n))
		}
		synctest.Wait()
		pass(3 * time.Second)
		synctest.Wait()
		if got := u.ends(); got != "failed candidate 1, shed candidate 5" {
			t.Error(got)
		}
		u.Submit(numbered(7))
		synctest.Wait()
		u.Cancel()
		synctest.Wait()
		u.Submit(numbered(8))
		if got := u.ends(); got != "failed candidate 1, shed candidate 5, shed stopped 2" {
			t.Error(got)
		}
	})
}

// Only what is chosen goes to the control.
func TestPairChosen(t *testing.T) {
	twoLegs(t, func(c *Config) {
		c.Control.Chosen = func(x *exchange.Exchange) bool { return strings.HasSuffix(x.Request.Target, "7") }
	}, func(t *testing.T, u *running, cand, ctrl *legNet) {
		for n := range 30 {
			p := u.one(numbered(n))
			if (p.Control != nil) != (n%10 == 7) || (p.Control != nil) != u.Chosen(p.x) {
				t.Errorf("%d: %+v", n, p.Control)
			}
		}
		if got := u.ends(); got != "paired  3" {
			t.Error(got)
		}
	})
}

// Whatever the legs do, and whenever it ends, everything is counted once, given
// to Done once and given back.
func TestPairLedger(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			patient := seed%4 == 1 // as for a file
			var mu sync.Mutex
			given := map[exchange.ID]int{}
			var agains, told atomic.Int64
			var u *running
			done := func(x *exchange.Exchange, o *Outcome) {
				mu.Lock()
				defer mu.Unlock()
				given[x.ID]++
				if o.Result != Compared || (o.Control != nil) != u.Chosen(x) {
					t.Errorf("%+v", o)
				}
				if c := o.Control; c != nil && c.Result == Paired && (o.Error != "" || c.Outcome.Error != "" || time.Duration(o.Start-c.Outcome.Start).Abs() > MaxApart) {
					t.Errorf("no pair: %+v, %+v", o, c.Outcome)
				}
				if x.ID[0] > '9' { // hex: three of eight
					agains.Add(1)
					f := func(a Again) {
						told.Add(1)
						if (a.Result == Compared) != (a.Candidate != nil && a.Control != nil) {
							t.Errorf("%+v", a)
						}
					}
					if d := time.Duration(x.ID[1]) * 10 * time.Millisecond; patient {
						u.AgainWait(x, d, f)
					} else {
						u.Again(x, o, d, f)
					}
				}
			}
			behave := func(rnd *rand.Rand, mu *sync.Mutex) func(net.Conn, netip.AddrPort) {
				return func(c net.Conn, _ netip.AddrPort) {
					for readHead(c) != "" {
						mu.Lock()
						what, after := rnd.IntN(10), time.Duration(rnd.IntN(40))*time.Millisecond
						mu.Unlock()
						switch what {
						case 0:
							drain(c)
							return
						case 1:
							return
						case 2:
							io.WriteString(c, "nonsense\r\n\r\n")
							return
						case 3, 4, 5:
							pass(after)
						}
						if _, err := io.WriteString(c, mockOK); err != nil {
							return
						}
					}
				}
			}
			twoLegs(t, func(c *Config) {
				c.MaxInFlight = 1 + rnd.IntN(6)
				c.Timeout = 200 * time.Millisecond
				c.MaxRate = float64(rnd.IntN(2) * 400)
				c.Breaker.Open = 100 * time.Millisecond
				c.Memory = NewMemory(int64(rnd.IntN(3000)))
				c.Control.Chosen = func(x *exchange.Exchange) bool { return x.ID[2] < 'c' }
				c.Done = done
			}, func(t *testing.T, v *running, cand, ctrl *legNet) {
				u = v
				var lock sync.Mutex
				cand.serve, ctrl.serve = behave(rnd, &lock), behave(rnd, &lock)
				below := func(ms int) func() time.Duration {
					return func() time.Duration {
						lock.Lock()
						defer lock.Unlock()
						return time.Duration(rnd.IntN(ms)) * time.Millisecond
					}
				}
				cand.drawn, ctrl.drawn = below(12), below(30)
				for n := range 400 {
					lock.Lock()
					burst, wait, what := rnd.IntN(4), time.Duration(rnd.IntN(8))*time.Millisecond, rnd.IntN(100)
					lock.Unlock()
					for i := range burst {
						if x := numbered(4*n + i); patient {
							u.SubmitWait(t.Context(), x)
						} else {
							u.Submit(x)
						}
					}
					u.balanced()
					pass(wait)
					switch what {
					case 0:
						u.Cancel()
					case 1, 2, 3:
						u.Resume()
					}
					synctest.Wait()
					u.balanced()
				}
				if seed%3 == 0 {
					u.Cancel()
				}
				u.Stop()
				pass(time.Minute)
				synctest.Wait()
				s := u.balanced()
				if s.InFlight != 0 || s.Control.InFlight != 0 || u.config.Memory.Used() != 0 || len(u.again) != 0 {
					t.Errorf("at rest: %+v, %+v, %d bytes", s, s.Control, u.config.Memory.Used())
				}
				mu.Lock()
				defer mu.Unlock()
				if uint64(len(given)) != s.Results[Compared] || slices.Max(slices.Collect(maps.Values(given))) != 1 {
					t.Errorf("%d were given to Done, %d compared", len(given), s.Results[Compared])
				}
				if told.Load() != agains.Load() {
					t.Errorf("%d asked again, %d told", agains.Load(), told.Load())
				}
			})
		})
	}
}

// With Self every exchange goes back to the server that it came from, by the
// rules of credentials, and only what is safe does.
func TestPairSelf(t *testing.T) {
	self := func(c *Config) { c.Control = &Control{Self: true, Chosen: everything} }
	to := func(x *exchange.Exchange, domain, server string) *exchange.Exchange {
		x.Flow = exchange.Flow{Domain: domain, Server: netip.MustParseAddrPort(server)}
		return x
	}
	twoLegs(t, self, func(t *testing.T, u *running, cand, ctrl *legNet) {
		var mu sync.Mutex
		var dialled []string
		ctrl.serve = func(c net.Conn, to netip.AddrPort) {
			mu.Lock()
			dialled = append(dialled, to.String())
			mu.Unlock()
			for h := readHead(c); h != ""; h = readHead(c) {
				if !strings.Contains(h, "\r\nHost: users.example\r\n") || !strings.Contains(h, "\r\nX-Shadow-Test-Role: control\r\n") {
					t.Errorf("self got %q", h)
				}
				io.WriteString(c, mockOK)
			}
		}
		for i, server := range []string{"10.1.0.1:8080", "10.1.0.1:8080", "10.1.0.2:8080", "[::ffff:10.1.0.2]:8080", "127.0.0.1:81"} {
			p := u.one(to(numbered(i), "", server))
			if o := p.Control.Outcome; p.Control.Result != Paired || o.Reused != (i == 1 || i == 3) {
				t.Errorf("%d: %+v, %+v", i, p.Control, o)
			}
		}
		if want := []string{"10.1.0.1:8080", "10.1.0.2:8080", "127.0.0.1:81"}; !slices.Equal(dialled, want) {
			t.Errorf("dialled %v, want %v", dialled, want)
		}
		// What is not near, and what is near to another namespace only.
		for i, x := range []*exchange.Exchange{to(numbered(10), "", "192.0.2.1:80"), to(numbered(11), "netns-7", "127.0.0.1:80"), to(numbered(12), "netns-7", "[fe80::1]:80")} {
			if p := u.one(x); p.Error != "" || p.Control.Reason != ErrorRefused || p.Control.Outcome.Error != ErrorRefused {
				t.Errorf("%d: %+v", i, p.Control)
			}
		}
		if p := u.one(to(numbered(13), "netns-7", "10.1.0.9:80")); p.Control.Result != Paired {
			t.Errorf("%+v", p.Control)
		}
		x := to(post("/", "x"), "", "10.1.0.1:8080")
		if p := u.one(x); p.Control != nil {
			t.Errorf("an unsafe method: %+v", p.Control)
		}
		if len(dialled) != 4 {
			t.Errorf("dialled %v", dialled)
		}
	})
}

// Once more: both when there is a control, the candidate alone without.
func TestAgain(t *testing.T) {
	for _, control := range []bool{true, false} {
		var u *running
		var mu sync.Mutex // of the two below
		var told []Again
		var at []time.Duration
		var began time.Time
		change := func(c *Config) {
			if !control {
				c.Control = nil
			}
			c.Done = func(x *exchange.Exchange, o *Outcome) {
				u.Again(x, o, 2*time.Second, func(a Again) {
					mu.Lock()
					defer mu.Unlock()
					told, at = append(told, a), append(at, time.Since(began))
				})
			}
		}
		run := func(t *testing.T, u *running, n *legNet, end func(), want Result, after time.Duration) {
			t.Helper()
			mu.Lock()
			told, at, began = nil, nil, time.Now()
			mu.Unlock()
			u.Submit(numbered(1))
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if s := u.balanced(); len(told) > 0 || s.InFlight != 1 || s.Results != [NumResults]uint64{} {
				t.Fatalf("%v, %+v", told, s)
			}
			dials := n.dials.Load()
			mu.Unlock()
			end()
			pass(10 * time.Second)
			synctest.Wait()
			mu.Lock()
			if len(told) != 1 || told[0].Result != want || at[0] != after {
				t.Fatalf("told %+v at %v", told, at)
			}
			if s := u.balanced(); s.InFlight != 0 || s.Results[Compared] != 1 || u.config.Memory.Used() != 0 {
				t.Errorf("%+v", s)
			}
			if want == Compared {
				o := told[0]
				if o.Candidate.Response == nil || o.Candidate.Control != nil || (o.Control != nil) != control || control && o.Control.Response == nil {
					t.Errorf("%+v", o)
				}
			} else if told[0].Candidate != nil || told[0].Control != nil || n.dials.Load() != dials {
				t.Errorf("%+v", told[0])
			}
		}
		both := func(f func(t *testing.T, v *running, n *legNet)) {
			synctest.Test(t, func(t *testing.T) {
				n := &legNet{}
				n.serve = serveOK
				c := config("http://10.0.0.1")
				c.Control = &Control{URL: "http://10.0.0.2", Chosen: everything}
				c.Memory = NewMemory(1 << 20)
				change(&c)
				u = start(t, c)
				u.dialer.dialTCP = n.dial
				if u.control != nil {
					u.control.dialer.dialTCP = n.dial
				}
				f(t, u, n)
				u.Stop()
				synctest.Wait()
			})
		}
		both(func(t *testing.T, u *running, n *legNet) { run(t, u, n, func() {}, Compared, 2*time.Second) })
		both(func(t *testing.T, u *running, n *legNet) {
			run(t, u, n, func() { pass(time.Second); u.Stop() }, Stopped, time.Second)
		})
		both(func(t *testing.T, u *running, n *legNet) {
			run(t, u, n, func() { pass(time.Second); u.Cancel() }, Stopped, time.Second)
		})
		// Too many, too little memory, a method that changes something.
		both(func(t *testing.T, u *running, n *legNet) {
			mu.Lock()
			told = nil
			mu.Unlock()
			for i := range 300 {
				u.Submit(numbered(i))
				synctest.Wait()
			}
			mu.Lock()
			if s := u.balanced(); len(told) != 300-againFor*64 || s.InFlight != againFor*64 || told[0].Result != Shed {
				t.Errorf("%d told, %+v", len(told), s)
			}
			mu.Unlock()
			u.Cancel()
			synctest.Wait()
			u.Resume()
			mu.Lock()
			told = nil
			mu.Unlock()
			u.Submit(request("", "DELETE / HTTP/1.1", "Host: users.example"))
			synctest.Wait()
			u.config.Memory.add(1<<19 + 1)
			u.Submit(numbered(1))
			synctest.Wait()
			u.config.Memory.add(-(1<<19 + 1))
			mu.Lock()
			defer mu.Unlock()
			if len(told) != 2 || told[0].Result != Shed || told[1].Result != Shed {
				t.Errorf("%+v", told)
			}
		})
	}
}

// Pairs over TLS and over HTTP/2; a control that must not be asked alone is not.
func TestPairProtocols(t *testing.T) {
	var roles sync.Map
	h := func(w http.ResponseWriter, r *http.Request) {
		roles.Store(r.URL.Path+" "+r.Header.Get(RoleHeader), true)
		io.WriteString(w, "ok")
	}
	check := func(t *testing.T, cfg Config, kind func(string) *exchange.Exchange) {
		t.Helper()
		control := cfg
		cfg.Control = &Control{URL: control.URL, TLS: control.TLS, Chosen: everything}
		u := start(t, cfg)
		paired := false
		for n := 0; !paired && n < 200; n++ {
			target := fmt.Sprintf("/%s/%d", t.Name(), n)
			p := u.one(kind(target))
			p.ok(t, 200, "ok")
			_, gotCandidate := roles.Load(target + " candidate")
			_, gotControl := roles.Load(target + " control")
			paired = p.Control.Result == Paired
			if !gotCandidate || gotControl != (p.Control.Outcome != nil) {
				t.Errorf("candidate %v, control %v: %+v", gotCandidate, gotControl, p.Control)
			}
		}
		if !paired {
			t.Errorf("no pair: %s", u.ends())
		}
		// A candidate that can't be reached: the control is not asked.
		dial := u.dialer.dialTCP
		for _, w := range idleWorkers(u.Replayer) {
			w.drop()
			w.dropHTTP2()
		}
		if u.https != nil {
			u.https.CloseIdleConnections()
		}
		u.dialer.dialTCP = func(context.Context, netip.AddrPort, func(string, string, syscall.RawConn) error) (net.Conn, error) {
			pass(2 * longestMeet)
			return nil, errFakeRefused
		}
		target := "/" + t.Name() + "/alone"
		p := u.one(kind(target))
		u.dialer.dialTCP = dial
		if _, got := roles.Load(target + " control"); got || p.Control.Outcome != nil || p.Control.PairEnd != (PairEnd{PairFailed, ReasonCandidate}) {
			t.Errorf("asked %v: %+v", got, p.Control)
		}
		if p := u.one(kind("/" + t.Name() + "/after")); p.Error != "" || p.Control.Outcome == nil && p.Control.Reason != ReasonApart {
			t.Errorf("%+v, %+v", p, p.Control)
		}
	}
	bothWays(t, h, func(t *testing.T, _ *httptest.Server, cfg Config) {
		check(t, cfg, func(target string) *exchange.Exchange { return get2(target) })
	})
	t.Run("https", func(t *testing.T) {
		_, cfg := secure(t, h)
		check(t, cfg, get)
	})
	t.Run("http", func(t *testing.T) { check(t, config(plain2(t, http.HandlerFunc(h)).URL), get) })
}

func idleWorkers(r *Replayer) []*worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.idle)
}

func TestControlRefused(t *testing.T) {
	for want, k := range map[string]Control{
		"control: chosen: nil":                                                                  {URL: "http://10.0.0.2"},
		"control: url: scheme \"\" is neither http nor https":                                   {Chosen: everything},
		"control: url: there is one, and self means the captured server":                        {URL: "http://10.0.0.2", Self: true, Chosen: everything},
		"control: url: 192.0.2.1: " + errNotNear.Error():                                        {URL: "http://192.0.2.1", Chosen: everything},
		"control: tls: the url is not https":                                                    {URL: "http://10.0.0.2", TLS: TLS{Insecure: true}, Chosen: everything},
		"control: url: only scheme, host and port are allowed: targets are written as received": {URL: "http://10.0.0.2/x", Chosen: everything},
	} {
		c := config("http://10.0.0.1")
		c.Done = func(*exchange.Exchange, *Outcome) {}
		c.Control = &k
		if _, err := New(c); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
