package publish

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/agent/screen"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func newTerminal(t testing.TB, c TerminalConfig) *Terminal {
	t.Helper()
	c.Log = discard
	if c.W == nil {
		c.W = &bytes.Buffer{}
	}
	term, err := NewTerminal(c)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

// The blocks that a person is shown, in testdata/terminal.
func TestTerminalGolden(t *testing.T) {
	long := "A very long title that goes on and on about the product 日本語 in great detail, with colour "
	var recs []*redact.Record
	add := func(change func(p *pair)) {
		p := newPair()
		change(p)
		recs = append(recs, p.record(t, redact.Config{}))
	}
	add(func(*pair) {})
	add(func(p *pair) {
		p.in.Candidate.Response.Status = 500
		p.in.Candidate.Response.Header[0].Value = "text/html; charset=utf-8"
		p.in.Candidate.Response.Body = body("<html><body>Internal \x1b[31mServer\x1b[0m Error</body></html>")
	})
	add(func(p *pair) {
		p.in.Candidate = redact.Leg{Error: "connect", Detail: "dial tcp 10.0.0.2:8080: connect: connection refused"}
	})
	add(func(p *pair) {
		p.in.Exchange.Response.Body = body(`{"id":42,"items":[{"sku":"A-1","title":"` + long + `red","price":12.50},{"sku":"B"}],"gone":null}`)
		p.in.Candidate.Response.Body = body(`{"id":"42","items":[{"sku":"A-1","title":"` + long + `blue","price":12.75},{"sku":"B"},{"sku":"C","password":"hunter2222"}],"extra":{"x":[1,2,3]}}`)
	})
	recs[3] = recs[3].WithPublishWeight(100)
	add(func(p *pair) {
		p.in.Exchange.Response.Status = 503
		p.in.Exchange.Request.Target = "/users/" + strings.Repeat("very-long-name/", 12)
	})
	add(func(p *pair) {
		deep := func(v string) exchange.Body {
			return body(`{"a_long_member_name":{"another_long_member_name":{"the_innermost_member_name":` + v + `}}}`)
		}
		p.in.Exchange.Response.Body, p.in.Candidate.Response.Body = deep(`""`), deep(`"x"`)
	})
	add(func(p *pair) {
		var many []string
		for i := range 40 {
			many = append(many, fmt.Sprintf(`"k%d":%d`, i, i))
		}
		p.in.Exchange.Response.Body = body(`{` + strings.Join(many, ",") + `}`)
		p.in.Candidate.Response.Body = body(`{}`)
	})
	for _, c := range []struct {
		name string
		c    TerminalConfig
	}{
		{"plain-100", TerminalConfig{}}, {"plain-60", TerminalConfig{Width: 60}}, {"color-120", TerminalConfig{Width: 120, Color: true}},
		{"ascii-80", TerminalConfig{Width: 80, ASCII: true}}, {"rows-3", TerminalConfig{Rows: 3}},
	} {
		term := newTerminal(t, c.c)
		var b strings.Builder
		for _, r := range recs {
			b.WriteString(term.Render(r))
		}
		path := filepath.Join("testdata", "terminal", c.name+".txt")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s (go test -update rewrites it):\n%s", c.name, b.String())
		}
		if w := c.c.Width; w != 0 {
			checkWidth(t, b.String(), w)
		}
	}
}

var colour = regexp.MustCompile("\x1b\\[(0|1|2|31|32|33)m")

// checkWidth fails when a line is wider than the terminal.
func checkWidth(t interface{ Errorf(string, ...any) }, text string, w int) {
	for _, l := range strings.Split(colour.ReplaceAllString(text, ""), "\n") {
		if n := screen.Width(l); n > w {
			t.Errorf("a line takes %d of %d places: %q", n, w, l)
		}
	}
}

// Whatever was captured, only printable characters, line feeds and the sink's
// own colours reach the terminal, and no line is wider than it.
func TestTerminalInjection(t *testing.T) {
	nasty := []string{"\x1b[2J", "\x1b]0;title\x07", "\r", "\x9b31m", "\u202eabc", "\u2066", "\x00", "\x7f", "\u200b", "\u2028", "\xff", "\b\b", "日本", "é", "e\u0301", "\u0301", "🎉", "\u00a0", "\\", "plain", " ", "\t", "\n"}
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(nasty), rapid.String()), 0, 12).Draw(t, "text"), "")
	})
	r := redactor(t, redact.Config{})
	rapid.Check(t, func(t *rapid.T) {
		p := newPair()
		x := p.in.Exchange
		x.Request.Method, x.Request.Target = text.Draw(t, "method"), text.Draw(t, "target")
		p.in.Experiment, p.in.Route = text.Draw(t, "experiment"), text.Draw(t, "route")
		p.in.Candidate.Detail, p.in.Candidate.Error = text.Draw(t, "detail"), text.Draw(t, "error")
		p.in.Result = &diff.Result{Outcome: rapid.SampledFrom([]diff.Outcome{diff.Divergent, diff.NotComparable}).Draw(t, "outcome"), Why: text.Draw(t, "why")}
		for range rapid.IntRange(0, 3).Draw(t, "differences") {
			v := func() diff.Value {
				s := text.Draw(t, "value")
				return diff.Value{Kind: diff.ValueKind(rapid.IntRange(0, int(diff.NumValueKinds)-1).Draw(t, "kind")), Text: s, Size: int64(len(s)), Truncated: rapid.Bool().Draw(t, "truncated")}
			}
			p.in.Result.Differences = append(p.in.Result.Differences, diff.Difference{
				Aspect: rapid.SampledFrom([]string{"status", "header", "body", text.Draw(t, "aspect")}).Draw(t, "which"), Kind: "changed",
				Path: text.Draw(t, "path"), Reference: v(), Candidate: v(), Detail: text.Draw(t, "detail"),
			})
		}
		w := rapid.IntRange(40, 160).Draw(t, "width")
		color, ascii := rapid.Bool().Draw(t, "color"), rapid.Bool().Draw(t, "ascii")
		out := rendering(t, TerminalConfig{Width: w, Color: color, ASCII: ascii}).Render(r.Record(&p.in))
		plain := out
		if color {
			plain = colour.ReplaceAllString(out, "")
		}
		if !utf8.ValidString(plain) {
			t.Fatalf("broken characters reach the terminal in %q", out)
		}
		for _, c := range plain {
			if c != '\n' && !unicode.IsPrint(c) || ascii && c > 0x7e {
				t.Fatalf("%q reaches the terminal in %q", c, out)
			}
		}
		checkWidth(t, plain, w)
	})
}

// rendering makes a sink inside of a rapid check.
func rendering(t *rapid.T, c TerminalConfig) *Terminal {
	c.Log, c.W = discard, io.Discard
	term, err := NewTerminal(c)
	if err != nil {
		t.Fatal(err)
	}
	return term
}

// Values too long for their column show where they part.
func TestValuesShowTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		common := rapid.StringOfN(rapid.RuneFrom([]rune("ab 日")), 0, 200, -1).Draw(t, "common")
		tail := rapid.StringOfN(rapid.RuneFrom([]rune("ab 日")), 0, 200, -1).Draw(t, "tail")
		side := func(mark string) *redact.Body {
			return &redact.Body{Text: common + mark + tail, Encoding: "utf-8"}
		}
		column := rapid.IntRange(12, 80).Draw(t, "column")
		b := &block{t: rendering(t, TerminalConfig{})}
		left, right := b.values(&redact.Difference{Reference: side("X"), Candidate: side("Y")}, column)
		if !strings.Contains(left, "X") || !strings.Contains(right, "Y") || screen.Width(left) != column || screen.Width(right) > column {
			t.Fatalf("column %d:\n%q\n%q", column, left, right)
		}
	})
}

func TestWantColor(t *testing.T) {
	env := func(kv ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(kv); i += 2 {
				if kv[i] == name {
					return kv[i+1]
				}
			}
			return ""
		}
	}
	for _, c := range []struct {
		terminal bool
		env      func(string) string
		want     bool
	}{
		{true, env("TERM", "xterm"), true}, {false, env("TERM", "xterm"), false}, {true, env("NO_COLOR", "1"), false}, {true, env("NO_COLOR", ""), true},
		{true, env("TERM", "dumb"), false},
	} {
		if got := WantColor(c.terminal, c.env); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestTerminalDelivers(t *testing.T) {
	var b bytes.Buffer
	rec := newPair().record(t, redact.Config{})
	term := newTerminal(t, TerminalConfig{W: &b})
	if r := deliver(term, rec); r != Acknowledged || b.String() != term.Render(rec) {
		t.Errorf("result %v, wrote %q", r, b.String())
	}
	for _, w := range []*faultyWriter{{take: map[int]int{1: 5}}, {calls: 1, take: map[int]int{2: 0}}} {
		if r := deliver(newTerminal(t, TerminalConfig{W: w}), rec); r != Write {
			t.Errorf("result %v, want write", r)
		}
	}
	if r := deliver(newTerminal(t, TerminalConfig{W: gone{}}), rec); r != Write {
		t.Errorf("result %v, want write", r)
	}
}

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestTerminalZone(t *testing.T) {
	term := newTerminal(t, TerminalConfig{Location: time.FixedZone("X", 3600)})
	if out := term.Render(newPair().record(t, redact.Config{})); !strings.Contains(out, "13:04:05.123") {
		t.Errorf("got %s", out)
	}
}

func TestNewTerminalErrors(t *testing.T) {
	if _, err := NewTerminal(TerminalConfig{W: os.Stdout}); err == nil || !strings.Contains(err.Error(), "Log") {
		t.Errorf("no log: %v", err)
	}
	if _, err := NewTerminal(TerminalConfig{Log: discard}); err == nil || !strings.Contains(err.Error(), "W:") {
		t.Errorf("no writer: %v", err)
	}
}

func BenchmarkTerminal(b *testing.B) {
	term := newTerminal(b, TerminalConfig{Color: true})
	rec := newPair().record(b, redact.Config{})
	b.ReportAllocs()
	for b.Loop() {
		term.Render(rec)
	}
}
