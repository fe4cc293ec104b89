package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/shadowtap/shadowtap/agent/screen"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

var update = flag.Bool("update", false, "rewrite testdata")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		at := 0
		for at < len(got) && at < len(want) && got[at] == want[at] {
			at++
		}
		from := max(0, at-100)
		t.Errorf("%s differs at byte %d (-update rewrites it)\ngot  %q\nwant %q", path, at, got[from:min(len(got), at+100)], want[from:min(len(want), at+100)])
	}
}

func render(t testing.TB, d *Document, o TextOptions) string {
	t.Helper()
	var b strings.Builder
	if err := d.WriteText(&b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func renderHTML(t testing.TB, d *Document) string {
	t.Helper()
	var b strings.Builder
	if err := d.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func renderJSON(t testing.TB, d *Document) []byte {
	t.Helper()
	text, err := d.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// The fleet's report in every form, and that it says what the fleet was made of.
func TestGoldenFleet(t *testing.T) {
	d := document(t, build(t, fleetRecords(t)))
	d.Ledger = map[string]map[string]uint64{"kernel_packets": {"captured": 900_000, "ring_full": 12, "no_reader": 3}, "exchanges": {"complete": 65_000, "gap": 31}}
	golden(t, "fleet-80.txt", []byte(render(t, d, TextOptions{Width: 80})))
	golden(t, "fleet-120.txt", []byte(render(t, d, TextOptions{Width: 120})))
	for width := 80; width < 130; width++ {
		for i, l := range strings.Split(render(t, d, TextOptions{Width: width}), "\n") {
			if n := screen.Width(l); n > width {
				t.Errorf("width %d: line %d takes %d: %s", width, i+1, n, l)
			}
		}
	}
	golden(t, "fleet-colour.txt", []byte(render(t, d, TextOptions{Width: 100, Color: true, ASCII: true})))
	golden(t, "fleet.html", []byte(renderHTML(t, d)))
	d.Only("users")
	for i := range d.Experiments[0].Times {
		d.Experiments[0].Times[i].Buckets = d.Experiments[0].Times[i].Buckets[:2] // the rest looks the same
	}
	golden(t, "fleet-users.json", renderJSON(t, d))

	class := map[string]verdict.Class{}
	for i := range d.Experiments[0].Causes {
		c := &d.Experiments[0].Causes[i]
		if c.Example == nil {
			t.Errorf("%s %s has no example", c.Class, c.name())
		} else {
			class[c.Route+" "+c.Example.Aspect+" "+c.Example.Path] = c.Class
		}
	}
	for where, want := range map[string]verdict.Class{
		`/users/{id} body $["price"]`: verdict.Candidate, `/users/{id} candidate `: Failed, `/search body $["took"]`: verdict.Masked,
		`/users/{id} body $["friends"][*]["seen"]`: verdict.Undecided, `/search status `: verdict.Candidate,
	} {
		if class[where] != want {
			t.Errorf("%s is %q, want %q (%v)", where, class[where], want, class)
		}
	}
}

// The same records give the same bytes, whatever the order in which agents,
// windows and divergences come, and however often.
func TestOrderDoesNotMatter(t *testing.T) {
	agents := fleetRecords(t)
	want := renderJSON(t, document(t, build(t, agents)))
	var all [][]byte
	for _, a := range agents {
		all = append(append(all, a.windows...), a.divergences...)
	}
	repeats := int64(0)
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(7, seed))
		order := slices.Clone(all)
		if seed == 2 {
			order = append(order, order[:500]...)
			repeats = 500
		}
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		b := newBuilder(t, Config{})
		divergences := 0
		for _, rec := range order {
			if err := b.Record(rec); err != nil {
				t.Fatal(err)
			}
			divergences += btoi(bytes.Contains(rec[:40], []byte(DivergenceSchema)))
		}
		d := document(t, b)
		if again := document(t, b); !bytes.Equal(renderJSON(t, again), renderJSON(t, d)) {
			t.Fatal("asked twice it says something else")
		}
		if seed == 2 {
			if d.Input.Repeats != repeats {
				t.Errorf("%d repeats, want %d", d.Input.Repeats, repeats)
			}
			d.Input.Repeats = 0
		}
		if got := renderJSON(t, d); !bytes.Equal(got, want) {
			at := 0
			for at < len(got) && at < len(want) && got[at] == want[at] {
				at++
			}
			t.Fatalf("order %d: differs at byte %d: %q", seed, at, got[max(0, at-80):min(len(got), at+80)])
		}
	}
}

// A document read back is the same document.
func TestReadDocument(t *testing.T) {
	d := document(t, build(t, fleetRecords(t)[:1]))
	text := renderJSON(t, d)
	back, err := ReadDocument(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(renderJSON(t, back), text) {
		t.Error("JSON changes when it is read back")
	}
	if render(t, back, TextOptions{}) != render(t, d, TextOptions{}) || renderHTML(t, back) != renderHTML(t, d) {
		t.Error("text or HTML changes")
	}
	for in, want := range map[string]string{
		"": "unexpected end", "{}": `its schema is ""`, "[]": "cannot unmarshal", `{"schema":"shadowtap.window.v1"}`: `its schema is "shadowtap.window.v1"`,
	} {
		if _, err := ReadDocument(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
	if _, err := ReadDocument(strings.NewReader(`{"schema":"shadowtap.report.v1"}`)); err != nil {
		t.Error(err)
	}
}

// clean is a window of n pairs, changed as told.
func clean(sequence, n int64, change func(w *verdict.Window)) *verdict.Window {
	w := &verdict.Window{
		Schema: verdict.Schema, WindowStart: verdict.TimeOf(noon), WindowEnd: verdict.TimeOf(noon.Add(verdict.WindowLength)), Agent: "a", BootID: "b",
		Sequence: sequence, Experiment: "users", Route: "/", SampleBy: "request", Counts: verdict.Counts{Complete: n, Selected: n, Compared: n, Equal: n},
	}
	if change != nil {
		change(w)
	}
	return w
}

// The document's word is that of the latest periods, and nothing that is missing
// lets it promote.
func TestWord(t *testing.T) {
	add := func(ws ...*verdict.Window) func(t *testing.T, b *Builder) {
		return func(t *testing.T, b *Builder) {
			for _, w := range ws {
				if err := b.Window(w); err != nil && !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			}
		}
	}
	diverge := func(k int64) func(w *verdict.Window) {
		return func(w *verdict.Window) { w.Equal, w.Divergent = w.Equal-k, k }
	}
	for _, tt := range []struct {
		name   string
		config Config
		fill   func(t *testing.T, b *Builder)
		only   []string
		want   verdict.Word
		code   string
	}{
		{name: "nothing", fill: add(), want: verdict.Insufficient, code: "no_windows"},
		{name: "clean", fill: add(clean(1, 20_000, nil)), want: verdict.Promote},
		{name: "zeros", fill: add(clean(1, 0, nil)), want: verdict.Insufficient},
		{name: "divergent", fill: add(clean(1, 20_000, diverge(200))), want: verdict.Hold},
		{name: "an earlier period was bad", fill: add(clean(1, 20_000, diverge(200)), clean(2, 20_000, func(w *verdict.Window) {
			w.CandidateVersion, w.WindowStart, w.WindowEnd = "v2", w.WindowStart+10e6, w.WindowEnd+10e6
		})), want: verdict.Promote},
		{name: "the other experiment is bad", fill: add(clean(1, 20_000, nil), clean(2, 20_000, func(w *verdict.Window) { w.Experiment = "orders"; diverge(200)(w) })), want: verdict.Hold},
		{name: "and nobody asks for it", fill: add(clean(1, 20_000, nil), clean(2, 20_000, func(w *verdict.Window) { w.Experiment = "orders"; diverge(200)(w) })), only: []string{"users"}, want: verdict.Promote},
		{name: "a name that is not there", fill: add(clean(1, 20_000, nil)), only: []string{"users", "x"}, want: verdict.Insufficient, code: "no_experiment"},
		{name: "beyond a bound", config: Config{MaxRecords: 1}, fill: add(clean(1, 20_000, nil), clean(2, 20_000, nil)), want: verdict.Insufficient, code: "left_out"},
		{name: "unusable", fill: func(t *testing.T, b *Builder) { add(clean(1, 20_000, nil))(t, b); b.Unusable(1) }, want: verdict.Insufficient, code: "unusable"},
		{name: "other times", config: Config{Until: verdict.TimeOf(noon)}, fill: add(clean(1, 20_000, nil)), want: verdict.Insufficient, code: "no_windows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBuilder(t, tt.config)
			tt.fill(t, b)
			d := document(t, b)
			if len(tt.only) > 0 {
				d.Only(tt.only...)
			}
			codes := ""
			for _, r := range d.Reasons {
				codes += r.Code
			}
			if d.Word != tt.want || codes != tt.code {
				t.Errorf("%s %+v, want %s %s", d.Word, d.Reasons, tt.want, tt.code)
			}
			if text := render(t, d, TextOptions{}); !strings.HasPrefix(text, string(tt.want)) {
				t.Errorf("the text begins with %.40q", text)
			}
		})
	}
}

// Where no route decides it is said why, in every form.
func TestNoRouteDecides(t *testing.T) {
	for _, tt := range []struct {
		routes, pairs int64
		want          string
	}{{1, 0, "no request of its routes was to be replayed"}, {101, 1000, "none of its 101 routes has 1 % of the traffic"}} {
		b := newBuilder(t, Config{})
		for i := range tt.routes {
			if err := b.Window(clean(i+1, tt.pairs, func(w *verdict.Window) { w.Route = fmt.Sprintf("/%d", i) })); err != nil {
				t.Fatal(err)
			}
		}
		d := document(t, b)
		text := strings.Join(strings.Fields(render(t, d, TextOptions{})), " ")
		if d.Word != verdict.Insufficient || !strings.Contains(text, tt.want) || !strings.Contains(renderHTML(t, d), tt.want) {
			t.Errorf("%s, want %q in\n%s", d.Word, tt.want, text)
		}
		if says := strings.Contains(text, "under 1 % of the traffic"); says != (tt.pairs > 0) {
			t.Errorf("under 1 %%: %v in\n%s", says, text)
		}
	}
}

// Windows of other times are no holes in the sequence, and no part of the
// counts.
func TestOtherTimes(t *testing.T) {
	b := newBuilder(t, Config{Since: verdict.TimeOf(noon) + 100e6, Until: verdict.TimeOf(noon) + 200e6})
	for i := range int64(30) {
		if err := b.Window(clean(i+1, 100, func(w *verdict.Window) {
			w.WindowStart += verdict.Time(i * 10e6)
			w.WindowEnd += verdict.Time(i * 10e6)
		})); err != nil {
			t.Fatal(err)
		}
	}
	d := document(t, b)
	if n := d.Input; n.Windows != 10 || n.OtherTimes != 20 || n.Missing != 0 || d.Experiments[0].Counts.Compared != 1000 || len(d.Experiments[0].Timeline.Points) != 10 {
		t.Errorf("%+v, %d compared, %d points", n, d.Experiments[0].Counts.Compared, len(d.Experiments[0].Timeline.Points))
	}
}

// What a report can't speak of is said: noise without a control, and latency
// without times.
func TestNotSeen(t *testing.T) {
	const (
		noControl = "no control was asked"
		noPair    = "the control gave no pair for 100 requests"
		cold      = "latency is not known: all 60 pairs with times came while warming up or on new connections"
		noTimes   = "the times of the candidate were not taken"
		untimed   = "the times of candidate and control were not taken"
	)
	times := verdict.Histogram{100: 50}
	for _, tt := range []struct {
		name   string
		change func(w *verdict.Window)
		want   []string
	}{
		{"a capture", func(w *verdict.Window) { w.Equal, w.Divergent = 900, 100 }, []string{noControl, noTimes}},
		{"nothing diverges", func(*verdict.Window) {}, []string{noTimes}},
		{"all fail", func(w *verdict.Window) { w.Equal, w.Divergent, w.Failed = 0, 1000, map[string]int64{"connect": 1000} }, nil},
		{"with times", func(w *verdict.Window) {
			w.Equal, w.Divergent, w.ReferenceTTFB, w.CandidateTTFB = 900, 100, times, times
		}, []string{noControl}},
		{"a dead control", func(w *verdict.Window) { w.Equal, w.Divergent, w.ControlChosen, w.ControlFailed = 900, 100, 100, 100 }, []string{noPair}},
		{"a control", func(w *verdict.Window) { w.Equal, w.Divergent, w.ControlChosen, w.Paired = 900, 100, 100, 100 }, []string{untimed}},
		{"warming up", func(w *verdict.Window) {
			w.Equal, w.Divergent, w.ControlChosen, w.Paired, w.WarmingUp, w.NewConnection = 900, 100, 100, 100, 50, 10
		}, []string{cold}},
	} {
		b := newBuilder(t, Config{})
		if err := b.Window(clean(1, 1000, tt.change)); err != nil {
			t.Fatal(err)
		}
		d := document(t, b)
		text := strings.Join(strings.Fields(render(t, d, TextOptions{})), " ")
		page := strings.ReplaceAll(renderHTML(t, d), "&#39;", "'")
		for _, says := range []string{noControl, noPair, cold, noTimes, untimed} {
			if want := slices.Contains(tt.want, says); strings.Contains(text, says) != want || strings.Contains(page, says) != want {
				t.Errorf("%s: %q is %v in\n%s", tt.name, says, !want, text)
			}
		}
	}
}

// A control that is the production server itself is said in every form, with the
// load it was; another one is not.
func TestControlSelf(t *testing.T) {
	for _, self := range []bool{true, false} {
		b := newBuilder(t, Config{})
		for i := range int64(3) {
			if err := b.Window(clean(i+1, 1000, func(w *verdict.Window) {
				w.WindowStart += verdict.Time(i * 10e6)
				w.WindowEnd += verdict.Time(i * 10e6)
				w.ControlSelf = self && i == 1 // one agent's word is enough
				w.ControlChosen, w.Paired, w.Unpaired, w.ControlFailed, w.ControlShed = 100, 50, 20, 10, 20
			})); err != nil {
				t.Fatal(err)
			}
		}
		d := document(t, b)
		const says = "The control is the production server itself, asked a second time: that was about 8 requests/s more for it, beside 100 requests/s of its clients, and what it shows of noise and latency is biased"
		text := strings.Join(strings.Fields(render(t, d, TextOptions{Width: 80})), " ")
		if strings.Contains(text, says) != self {
			t.Errorf("self %v, and the text is\n%s", self, text)
		}
		if page := renderHTML(t, d); strings.Contains(page, says) != self || !strings.Contains(page, `<dt>control</dt><dd class="num">8 requests/s</dd>`) {
			t.Errorf("self %v, and the page is\n%s", self, page)
		}
		if doc := string(renderJSON(t, d)); !strings.Contains(doc, fmt.Sprintf(`"control_self": %v`, self)) || !strings.Contains(doc, `"control_per_second": 8,`) {
			t.Errorf("self %v, and the document is\n%s", self, doc)
		}
	}
}

// hostile are texts that would do something somewhere.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'; alert(1); '`, "\x1b]0;owned\x07\x1b[31m", "{{.Word}}", "javascript:alert(1)", "</pre></main></html>",
	"\u202eevil", "a\nb\rc\td", "&lt;b&gt;", "</style><style>*{display:none}", `\u003cscript>`, strings.Repeat("long ", 400), "日本語", "\u2028\u2029\u0000", "url(http://x/)",
}

// hostileDocument has them wherever a record has text.
func hostileDocument(t testing.TB) *Document {
	b := newBuilder(t, Config{})
	for i, evil := range hostile {
		evil = evil[:min(len(evil), maxName)]
		f := fmt.Sprintf("%016x", i+1)
		sequence := int64(2*i + 1)
		set := func(w *verdict.Window) {
			w.Agent, w.Experiment, w.Route, w.CandidateVersion, w.ConfigRevision, w.SampleBy = evil, evil, evil, evil, evil, evil
		}
		for _, w := range []*verdict.Window{
			clean(sequence, 100, func(w *verdict.Window) { set(w); w.Equal, w.Divergent = 50, 50 }),
			clean(sequence+1, 0, func(w *verdict.Window) {
				set(w)
				w.Counts = verdict.Counts{Divergent: 50}
				w.Fingerprint = f
			}),
		} {
			if err := b.Window(w); err != nil {
				t.Fatal(err)
			}
		}
		value := map[string]any{"media_type": evil, "encoding": "utf-8", "text": evil, "size": 3, "truncated": i%2 == 0, "digest": evil}
		rec, err := json.Marshal(map[string]any{
			"schema": DivergenceSchema, "exchange_id": f, "time": "2026-03-01T12:00:00.000000Z", "experiment": evil, "route": evil, "candidate_version": evil,
			"outcome": "divergent", "request": map[string]any{"method": evil, "url": evil}, "reference": map[string]any{"status": 200}, "candidate": map[string]any{"status": 200},
			"differences": []any{map[string]any{"fingerprint": f, "aspect": "body", "kind": "changed", "path": evil, "detail": evil, "reference": value, "candidate": value, "control": value}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Record(rec); err != nil {
			t.Fatal(err)
		}
	}
	b.Ledger(map[string]map[string]uint64{"exchanges": {"gap": 3, hostile[0]: 5}, hostile[1]: {hostile[2]: 1}})
	return document(t, b)
}

// Hostile text is text: in the terminal it moves nothing, in HTML it is no
// markup, and lines keep to their width.
func TestHostileText(t *testing.T) {
	d := hostileDocument(t)
	for _, o := range []TextOptions{{Width: 80}, {Width: 81}, {Width: 200}, {Width: 80, ASCII: true}} {
		text := render(t, d, o)
		for i, l := range strings.Split(text, "\n") {
			if w := screen.Width(l); w > o.Width {
				t.Errorf("width %d: line %d takes %d: %s", o.Width, i+1, w, l)
			}
			for _, r := range l {
				if !unicode.IsPrint(r) || o.ASCII && r >= 0x80 {
					t.Fatalf("%+v: line %d has %q", o, i+1, r)
				}
			}
		}
	}
	page := renderHTML(t, d)
	for _, bad := range []string{"onerror=alert(1)>", "\x1b", "\u202e", "</style><style>", `href="javascript`, "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, tag := range []string{"script", "img", "link", "iframe", "object", "embed", "form", "base", "image", "use"} {
		if strings.Contains(page, "<"+tag) {
			t.Errorf("the page has a %s element", tag)
		}
	}
	if strings.Count(page, "<style>") != 1 || strings.Count(page, "</main>") != 1 || !strings.Contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("markup of a record came through, or its text did not")
	}
}

// A page that is looked at refers to nothing outside of itself.
func TestPageIsSelfContained(t *testing.T) {
	page := renderHTML(t, document(t, build(t, fleetRecords(t)[:1])))
	for _, bad := range []string{"http:", "https:", "//", "src=", "<script", "url(", "@import", "ZgotmplZ"} {
		if i := strings.Index(page, bad); i >= 0 {
			t.Errorf("the page has %q: %q", bad, page[max(0, i-40):i+40])
		}
	}
}

// A time without windows is a gap in the line, not a straight way over it, and
// points that are too many are made longer.
func TestTimeline(t *testing.T) {
	b := newBuilder(t, Config{})
	add := func(sequence int64, after verdict.Time, divergent int64) {
		t.Helper()
		if err := b.Window(clean(sequence, 100, func(w *verdict.Window) {
			w.WindowStart, w.WindowEnd = w.WindowStart+after, w.WindowEnd+after
			w.Equal, w.Divergent = 100-divergent, divergent
		})); err != nil {
			t.Fatal(err)
		}
	}
	const window = 10e6
	add(1, 0, 10)
	add(2, window, 20)
	add(3, 7*window, 30)
	d := document(t, b)
	c := d.Experiments[0].overTime(&d.Settings)
	if c == nil || len(c.Lines) == 0 || c.Lines[0].Class != "all area" {
		t.Fatalf("drawn: %+v", c)
	}
	for _, l := range c.Lines {
		if n := strings.Count(l.Path, "M"); n != 2 {
			t.Errorf("%s has %d pieces: %s", l.Class, n, l.Path)
		}
	}
	for i := range verdict.Time(300) {
		add(int64(10+i), (100+i)*window, 1)
	}
	d = document(t, b)
	tl := d.Experiments[0].Timeline
	var compared, divergent int64
	for i, p := range tl.Points {
		compared, divergent = compared+p.Compared, divergent+p.Divergent
		if us := p.Time.Time().UnixMicro(); us%(tl.PointSeconds*1e6) != 0 || i > 0 && p.Time <= tl.Points[i-1].Time {
			t.Errorf("point %d of %d s is at %s", i, tl.PointSeconds, p.Time)
		}
	}
	if tl.PointSeconds != 40 || len(tl.Points) > maxPoints || compared != 303*100 || divergent != 360 {
		t.Errorf("%d points of %d s, %d compared, %d divergent", len(tl.Points), tl.PointSeconds, compared, divergent)
	}
}
