package http2_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"github.com/shadowtap/shadowtap/reassembly/http2"
)

// heads notes every head that it is asked about.
type heads struct{ got []string }

func (h *heads) Keep(head *exchange.Head) exchange.Decision {
	s := fmt.Sprintf("%d %d %s %s", head.Flow.Client.Port(), head.Stream, head.Method, head.Target)
	for _, f := range head.Fields {
		s += fmt.Sprintf("|%s=%s", f.Name, f.Value)
	}
	h.got = append(h.got, s)
	return exchange.Decision{}
}

// shard makes an assembler that asks h.
func (h *heads) shard(budget *reassembly.Budget) *reassembly.Assembler { return shardFor(h, budget) }

func shardFor(h interface {
	exchange.Keeper
	exchange.Sink
}, budget *reassembly.Budget) *reassembly.Assembler {
	h2, err := http2.New(http2.Config{Keeper: h, Sink: h, Budget: budget})
	must(err)
	h1, err := http1.New(http1.Config{Keeper: h, Sink: h, Budget: budget, HTTP2: h2.Open, Frames: http2.Frames})
	must(err)
	a, err := reassembly.New(reassembly.Config{Factory: h1, Budget: budget})
	must(err)
	return a
}

func (h *heads) Complete(*exchange.Complete) {}
func (h *heads) Lost(exchange.Lost)          {}

// caller is a client that writes header blocks byte by byte, and the decoder
// that says what they mean.
type caller struct {
	talk
	dec  *hpack.Decoder
	sent int // requests
	// entries is how many fields its table holds.
	entries int
}

// newCaller opens a connection.
func newCaller(to tap, port uint16) *caller {
	v := newConv()
	v.hello()
	c := &caller{talk: talk{port: port, cut: 1 << 20, seq: [2]uint32{100, 200}}}
	c.open(to, v.msgs)
	return c
}

// request sends a whole request of one block, and lets the server reset it.
func (c *caller) request(to tap, block string) { c.call(to, block, 3, 0, "\x00\x00\x00\x08") }

// answered sends a whole request of one block, and an answer without content.
func (c *caller) answered(to tap, block string) { c.call(to, block, 1, 5, "\x88") }

// call sends a whole request of one block, and a frame of the server.
func (c *caller) call(to tap, block string, typ, flags byte, payload string) {
	c.sent++
	id := uint32(2*c.sent - 1)
	v := newConv()
	v.frame(true, 1, 5, id, block)
	v.frame(false, typ, flags, id, payload)
	for _, m := range v.msgs {
		c.send(to, m.client, m.b)
	}
}

// block is a header block and the number of entries that it needs, and adds.
type block struct {
	b           string
	needs, adds int
	clears      bool
}

// drawBlock writes a request: pseudo-header fields, then fields of every
// representation of RFC 7541 section 6.
func drawBlock(t *rapid.T, entries int) (b block) {
	var w strings.Builder
	if rapid.IntRange(0, 9).Draw(t, "size") == 0 {
		w.WriteString("\x20\x3f\xe1\x1f") // 0, then 4096
		b.clears, entries = true, 0
	}
	w.WriteString("\x82\x86")
	text := func(n int) string {
		s := fmt.Sprintf("%0*d", n, rapid.IntRange(0, 2).Draw(t, "text"))
		if n >= 0x7f {
			return "\x7f" + string(rune(n-0x7f)) + s // below 128 more
		}
		return string(rune(n)) + s
	}
	indexed := func() {
		n := rapid.IntRange(0, min(entries+b.adds, 70)-1).Draw(t, "index")
		b.needs = max(b.needs, n+1-b.adds)
		if n += 62; n < 0x7f {
			w.WriteByte(0x80 | byte(n))
		} else {
			w.WriteString("\xff" + string(rune(n-0x7f)))
		}
	}
	literal := func(kind byte) {
		if rapid.Bool().Draw(t, "named") {
			w.WriteString(string([]byte{kind | 15}) + map[bool]string{true: "", false: "\x10"}[kind == 0x40]) // by the static table
		} else {
			w.WriteByte(kind)
			w.WriteString("\x03x-" + rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"))
		}
		w.WriteString(text(rapid.SampledFrom([]int{1, 2, 130}).Draw(t, "length")))
	}
	if rapid.Bool().Draw(t, "path") {
		w.WriteString("\x84")
	} else {
		w.WriteString("\x04\x02/" + rapid.SampledFrom([]string{"p", "q"}).Draw(t, "target"))
	}
	for range rapid.IntRange(0, 4).Draw(t, "fields") {
		switch kind := rapid.IntRange(0, 4).Draw(t, "kind"); {
		case kind < 2 && entries+b.adds > 0:
			indexed()
		case kind == 2:
			literal(0x40)
			b.adds++
		case kind == 3:
			literal(0x10)
		default:
			literal(0)
		}
	}
	b.b = w.String()
	return b
}

// What a block said is remembered as long as the table is the same, and no longer:
// connections that send the same blocks again and again, and change their tables
// in between, are understood as a decoder alone understands them.
func TestRepeatedBlocks(t *testing.T) {
	repeats := 0
	rapid.Check(t, func(t *rapid.T) {
		got := &heads{}
		to := &ours{Assembler: got.shard(&reassembly.Budget{Limit: 16 << 20})}
		var want []string
		var fields []hpack.HeaderField
		callers := make([]*caller, 3)
		for i := range callers {
			c := newCaller(to, uint16(1024+i))
			c.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) { fields = append(fields, f) })
			callers[i] = c
		}
		var last []block
		for range rapid.IntRange(5, 60).Draw(t, "requests") {
			c := rapid.SampledFrom(callers).Draw(t, "caller")
			var b block
			again := len(last) > 0 && rapid.IntRange(0, 2).Draw(t, "again") > 0
			if again {
				b = last[rapid.IntRange(max(0, len(last)-3), len(last)-1).Draw(t, "which")]
				again = b.clears || b.needs <= c.entries
			}
			if again {
				repeats++
			} else {
				b = drawBlock(t, c.entries)
				last = append(last, b)
			}
			if b.clears {
				c.entries = 0
			}
			c.entries = min(c.entries+b.adds, 20) // at least these are there
			fields = fields[:0]
			if _, err := c.dec.Write([]byte(b.b)); err != nil {
				t.Fatalf("the block %q: %v", b.b, err)
			}
			if err := c.dec.Close(); err != nil {
				t.Fatalf("the block %q: %v", b.b, err)
			}
			s := fmt.Sprintf("%d %d %s %s", c.port, 2*c.sent+1, fields[0].Value, fields[2].Value)
			for _, f := range fields[3:] {
				s += fmt.Sprintf("|%s=%s", f.Name, f.Value)
			}
			want = append(want, s)
			c.request(to, b.b)
		}
		for i := range want {
			if i >= len(got.got) || got.got[i] != want[i] {
				t.Fatalf("head %d is %q, want %q", i, append(got.got, make([]string, len(want))...)[i], want[i])
			}
		}
	})
	if repeats == 0 {
		t.Error("no block came again")
	}
}

// More tables and more blocks than are remembered are kept apart.
func TestManyBlocks(t *testing.T) {
	const n = 2000
	for _, tt := range []struct {
		name string
		// blocks of round i, the last of which says x-i as its path or field.
		blocks func(i int) []string
		want   string
	}{
		{"the same block in many states of a table", func(i int) []string {
			return []string{fmt.Sprintf("\x82\x86\x84\x40\x01x\x04%04d", i), "\x82\x86\x84\xbe", "\x82\x86\x84\xbe", "\x82\x86\x84\xbe"}
		}, "GET /|x=%04d"},
		{"many blocks in one state", func(i int) []string {
			b := fmt.Sprintf("\x82\x86\x04\x05/%04d", i)
			return []string{b, b, b}
		}, "GET /%04d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := &heads{}
			to := &ours{Assembler: got.shard(&reassembly.Budget{Limit: 16 << 20})}
			c := newCaller(to, 1024)
			for i := range n {
				for _, b := range tt.blocks(i) {
					c.request(to, b)
					last := got.got[len(got.got)-1]
					if want := fmt.Sprintf("1024 %d ", 2*c.sent-1) + fmt.Sprintf(tt.want, i); last != want {
						t.Fatalf("head %q, want %q", last, want)
					}
				}
			}
		})
	}
}

// A change of the table's size is seen also where the bytes behind it could be a
// field that leaves the table alone.
func TestSizeBeforeARepeatedBlock(t *testing.T) {
	got := &heads{}
	to := &ours{Assembler: got.shard(&reassembly.Budget{Limit: 16 << 20})}
	c := newCaller(to, 1024)
	c.request(to, "\x82\x86\x84\x40\x01x\x01y")
	for range 3 {
		c.request(to, "\x82\x86\x84\xbe")
	}
	c.request(to, "\x21\x82\x86\x84")
	before := len(got.got)
	c.request(to, "\x82\x86\x84\xbe") // of an entry that is gone
	if len(got.got) != before {
		t.Errorf("head %q of an entry that is gone", got.got[before])
	}
}

// What is remembered takes of the budget, of its first half only, and gives it
// back when the table changes and when the connection ends.
func TestMemoryOfRepeatedBlocks(t *testing.T) {
	long := "\x82\x86\x84\x00\x01x\x7f\x01" + strings.Repeat("v", 128)
	for _, tt := range []struct {
		name   string
		limit  int64
		change string
		blocks int
		learns bool
	}{
		{"kept", 1 << 20, "", 1, true},
		{"as many as are remembered, and more", 1 << 20, "", 9, true},
		{"a change of the table", 1 << 20, "\x82\x86\x84\x40\x01x\x01y", 1, true},
		{"no room", 11_000, "", 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := &heads{}
			budget := &reassembly.Budget{Limit: tt.limit}
			a := got.shard(budget)
			to := &ours{Assembler: a}
			c := newCaller(to, 1024)
			c.request(to, "\x82\x86\x84") // the table is there
			before, most := budget.Used(), int64(0)
			for i := range tt.blocks {
				for range 3 {
					c.request(to, fmt.Sprintf("%s\x00\x01n\x01%d", long, i))
				}
				most = max(most, budget.Used()-before)
			}
			switch {
			case tt.learns && most < 300:
				t.Errorf("%d bytes for a block with fields of 150", most)
			case !tt.learns && most != 0:
				t.Errorf("%d bytes of a budget that is half taken", most)
			case most > 8<<10: // four
				t.Errorf("%d bytes for %d blocks", most, tt.blocks)
			}
			if tt.change != "" {
				if c.request(to, tt.change); budget.Used() != before {
					t.Errorf("%d bytes are taken when the table has changed, before %d", budget.Used(), before)
				}
			}
			// What was given back is there for others.
			for i := range 100 {
				for range 3 {
					c.request(to, long)
				}
				if tt.learns && tt.change != "" && budget.Used() == before {
					t.Fatalf("nothing is remembered the %d. time", i)
				}
				if tt.change != "" {
					c.request(to, tt.change)
				}
			}
			if a.Close(reassembly.CloseStopped); budget.Used() != 0 {
				t.Errorf("%d bytes are taken at the end", budget.Used())
			}
		})
	}
}

// targets keeps whole exchanges and notes what each head said.
type targets struct {
	heads
	doubts []exchange.Doubt
	kept   []*exchange.Exchange
	lost   []exchange.Lost
}

func (s *targets) Keep(h *exchange.Head) exchange.Decision {
	s.doubts = append(s.doubts, h.Doubt)
	s.heads.Keep(h)
	return exchange.Decision{Want: exchange.WantWhole}
}
func (s *targets) Complete(x *exchange.Complete) { s.kept = append(s.kept, x.Exchange) }
func (s *targets) Lost(l exchange.Lost)          { s.lost = append(s.lost, l) }

// said is all of it in words, but for what tells connections and streams apart.
func (s *targets) said() (all []string) {
	for i, h := range s.got {
		_, h, _ = strings.Cut(h, " ")
		_, h, _ = strings.Cut(h, " ")
		all = append(all, fmt.Sprintf("asked %s %v", h, s.doubts[i]))
	}
	for _, x := range s.kept {
		q := x.Request
		all = append(all, fmt.Sprintf("kept %s %s %s %v %v", q.Method, q.Target, q.Host, q.Header, x.Doubt))
	}
	for _, l := range s.lost {
		for range l.N {
			all = append(all, fmt.Sprintf("lost %v", l.Result))
		}
	}
	slices.Sort(all)
	return all
}

// A block that differs from one before in its path alone, which is a literal, is
// understood as it is on a connection of its own, whatever the path is and however
// it is written; and what was kept of those before stays as it was.
func TestOtherPathsInRepeatedBlocks(t *testing.T) {
	repeats := 0
	rapid.Check(t, func(t *rapid.T) {
		paths := []string{"/", "/a", "/a/b?c=d", "/users/0123456789", "*", "", "x", "/a b", "/a ", " /", "/\x01", "/\x7f", "/" + strings.Repeat("é", 60)}
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"\x04", "\x05", "\x14", "\x15", "\x00\x05:path", "\x10\x05:path"}), 1, 2, rapid.ID[string]).Draw(t, "names")
		broken := false // not in Huffman's code, which ends the connection
		path := func() string {
			name := rapid.SampledFrom(names).Draw(t, "name")
			if broken {
				return name + "\x84\xff\xff\xff\xff"
			}
			s := rapid.SampledFrom([]func(string) string{plainString, huffmanString}).Draw(t, "string")
			return name + s(rapid.SampledFrom(paths).Draw(t, "path"))
		}
		blocks := []func() string{
			func() string { return "\x82\x86" + path() + "\x01\x01h" },
			func() string { return "\x82" + path() + "\x86\x01\x01h\x00\x01x\x01y" },
			func() string { return "\x82\x86" + path() + path() + "\x01\x01h" }, // two paths
			func() string { return "\x82\x86\x84" + path() + "\x01\x01h" },
			func() string { return "\x82\x86\x01\x01h" + path() + "\x00\x01X\x01y" }, // a bad name
			func() string { return "\x82\x86\x01\x01h\x00\x01x\x01y" + path() },      // behind a field
			func() string { return path() + "\x02\x07CONNECT\x01\x01h" },
		}
		one := &targets{}
		a := shardFor(one, &reassembly.Budget{Limit: 16 << 20})
		c := newCaller(&ours{Assembler: a}, 1024)
		var want []string
		last := -1
		for n := rapid.IntRange(3, 40).Draw(t, "requests"); n > 0; n-- {
			over := broken
			broken = n == 2
			i := last
			if last < 0 || rapid.IntRange(0, 5).Draw(t, "another") == 0 {
				i = rapid.IntRange(0, len(blocks)-1).Draw(t, "block")
			} else {
				repeats++
			}
			last = i
			b := blocks[i]()
			c.answered(&ours{Assembler: a}, b)
			if over {
				break
			}
			alone := &targets{}
			other := shardFor(alone, &reassembly.Budget{Limit: 16 << 20})
			d := newCaller(&ours{Assembler: other}, 1024)
			d.answered(&ours{Assembler: other}, b)
			other.Close(reassembly.CloseStopped)
			want = append(want, alone.said()...)
		}
		a.Close(reassembly.CloseStopped)
		slices.Sort(want)
		if got := one.said(); !slices.Equal(got, want) {
			t.Fatalf("together\n%q\neach alone\n%q", got, want)
		}
	})
	if repeats == 0 {
		t.Error("no block came again")
	}
}
