package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// Records that can't be right are refused with what is wrong, counted, and
// change nothing.
func TestHostileRecords(t *testing.T) {
	window := string(fleetRecords(t)[0].windows[0])
	divergence := string(fleetRecords(t)[0].divergences[0])
	swap := func(s, old, with string) string {
		t.Helper()
		if !strings.Contains(s, old) {
			t.Fatalf("no %q in %s", old, s)
		}
		return strings.Replace(s, old, with, 1)
	}
	long := strings.Repeat("x", maxName+1)
	for _, tt := range []struct {
		name, record, err            string
		unusable, divergences, else_ int64
	}{
		{"nothing", "", "unexpected end of JSON input", 1, 0, 0},
		{"no JSON", "hello", "invalid character", 1, 0, 0},
		{"a list", "[]", "cannot unmarshal array", 1, 0, 0},
		{"another schema", `{"schema":"shadowtap.window.v2"}`, "neither a shadowtap.window.v1 nor", 0, 0, 1},
		{"no schema", `{}`, "neither", 0, 0, 1},
		{"nested", strings.Repeat("[", 20_000), "exceeded max depth", 1, 0, 0},
		{"too long", strings.Repeat(" ", MaxRecord+1), "at most 8388608 are read", 1, 0, 0},
		{"a cut window", window[:len(window)/2], "unexpected end", 1, 0, 0},
		{"a negative count", swap(window, `"unmatched":0`, `"unmatched":-1`), "unmatched: -1 is out of range", 1, 0, 0},
		{"a sum that is none", swap(window, `"unmatched":0`, `"unmatched":7`), "complete is", 1, 0, 0},
		{"a huge count", swap(window, `"unmatched":0`, `"unmatched":99999999999999`), "out of range", 1, 0, 0},
		{"a float", swap(window, `"unmatched":0`, `"unmatched":0.5`), "cannot unmarshal", 1, 0, 0},
		{"a long agent", swap(window, `"agent":"node-1"`, `"agent":"`+long+`"`), "agent has 1025 bytes", 1, 0, 0},
		{"a fingerprint that is none", swap(window, `"fingerprint":""`, `"fingerprint":"<script>"`), `fingerprint: "<script>" is none`, 1, 0, 0},
		{"a word that is none", swap(window, `"complete"`, `"lost":{"a b":1},"complete"`), `"a b" is no word`, 1, 0, 0},
		{"an experiment without a name", swap(window, `"experiment":"users"`, `"experiment":""`), "experiment is empty", 1, 0, 0},
		{"a year that is none", swap(window, `"window_start":"2026`, `"window_start":"20266`), "parsing time", 1, 0, 0},
		{"a cut divergence", divergence[:len(divergence)/2], "unexpected end", 0, 1, 0},
		{"a divergence's kind", swap(divergence, `"kind":"`, `"kind":"\u001b`), "differences[0].kind", 0, 1, 0},
		{"a divergence's time", swap(divergence, `"time":"2026`, `"time":"x`), "parsing time", 0, 1, 0},
		{"a divergence's experiment", swap(divergence, `"experiment":"users"`, `"experiment":"`+long+`"`), "experiment:", 0, 1, 0},
		{"a divergence's outcome", swap(divergence, `"outcome":"divergent"`, `"outcome":"fine"`), `outcome: "fine"`, 0, 1, 0},
		{"a divergence's exchange", swap(divergence, `"exchange_id":"`, `"exchange_id":"z`), "exchange_id:", 0, 1, 0},
		{"a recheck", swap(divergence, `"outcome":"`, `"recheck":{"result":"<b>"},"outcome":"`), `recheck.result: "<b>" is no word`, 0, 1, 0},
		{"a status", swap(divergence, `"status":200`, `"status":-5`), "an answer of status -5", 0, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBuilder(t, Config{})
			err := b.Record([]byte(tt.record))
			if err == nil || !strings.Contains(err.Error(), tt.err) || len(err.Error()) > 300 {
				t.Errorf("%v, want %q", err, tt.err)
			}
			d := document(t, b)
			if n := d.Input; n.Unusable != tt.unusable || n.UnusableDivergences != tt.divergences || n.Foreign != tt.else_ || n.Usable() {
				t.Errorf("counted %+v", n)
			}
			if len(d.Experiments) != 0 || d.Word != verdict.Insufficient {
				t.Errorf("%d experiments, %s", len(d.Experiments), d.Word)
			}
		})
	}
}

// Every bound holds, is said, and is counted; what was there before stays.
func TestBounds(t *testing.T) {
	name := func(format string, field func(w *verdict.Window) *string) func(i int64) *verdict.Window {
		return func(i int64) *verdict.Window {
			return clean(i+1, 100, func(w *verdict.Window) { *field(w) = fmt.Sprintf(format, i) })
		}
	}
	fingerprint := func(i int64) *verdict.Window {
		return clean(i+1, 0, func(w *verdict.Window) {
			w.Fingerprint, w.Counts = fmt.Sprintf("%016x", i), verdict.Counts{Divergent: 1}
		})
	}
	for _, tt := range []struct {
		what   string
		config Config
		window func(i int64) *verdict.Window
		fit    int64
	}{
		{"window records", Config{MaxRecords: 5}, name("%d", func(w *verdict.Window) *string { return &w.Route }), 5},
		{"routes", Config{MaxNames: 5}, name("%d", func(w *verdict.Window) *string { return &w.Route }), 5},
		{"periods of experiments", Config{MaxNames: 5}, name("%d", func(w *verdict.Window) *string { return &w.Experiment }), 5},
		{"starts of agents", Config{MaxNames: 5}, name("%d", func(w *verdict.Window) *string { return &w.BootID }), 5},
		{"fingerprints", Config{MaxFingerprints: 5}, fingerprint, 5},
		{"units of evidence", Config{MaxUnits: 5}, func(i int64) *verdict.Window {
			w := fingerprint(7)
			w.Sequence, w.Excess, w.Divergent, w.CandidateOnly, w.B, w.ExcessSquares = i+1, map[int]int64{int(i): 1}, 1, 1, 1, 1
			return w
		}, 5},
		{"words", Config{}, func(i int64) *verdict.Window {
			return clean(i+1, 100, func(w *verdict.Window) { w.Lost = map[string]int64{fmt.Sprintf("w%d", i): 1} })
		}, maxWords},
	} {
		t.Run(tt.what, func(t *testing.T) {
			b := newBuilder(t, tt.config)
			for i := range tt.fit + 3 {
				err := b.Window(tt.window(i))
				if i < tt.fit && err != nil || i >= tt.fit && (!errors.Is(err, ErrFull) || !strings.Contains(err.Error(), tt.what)) {
					t.Fatalf("window %d: %v", i, err)
				}
			}
			d := document(t, b)
			if d.Input.Windows != tt.fit || d.Input.LeftOut != 3 || d.Word == verdict.Promote {
				t.Errorf("%+v, %s", d.Input, d.Word)
			}
		})
	}
	for _, c := range []Config{{MaxRecords: -1}, {MaxNames: -1}, {MaxFingerprints: -1}, {MaxUnits: -1}, {MaxExamples: -1}, {Since: 2, Until: 2}} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "report: Config.") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// divergenceOf is a record with one difference.
func divergenceOf(route, fingerprint, url, value string) []byte {
	return fmt.Appendf(nil, `{"schema":%q,"exchange_id":"00000000000000aa","time":"2026-03-01T12:00:00.000000Z","experiment":"users","route":%q,"outcome":"divergent",`+
		`"request":{"method":"GET","url":%q},"reference":{"status":200},"candidate":{"status":200},"control":null,"differences":[{"fingerprint":%q,"aspect":"body","kind":"changed",`+
		`"path":"$","reference":{"encoding":"utf-8","text":%q,"size":%d},"candidate":null,"control":null}]}`, DivergenceSchema, route, url, fingerprint, value, len(value))
}

// The smallest example of each fingerprint is kept, of the first ones when there
// are too many, in whatever order they come, and none holds more than its
// bound.
func TestExamples(t *testing.T) {
	const limit, keys = 8, 50
	var first string
	for order := range 3 {
		b := newBuilder(t, Config{MaxExamples: limit})
		for i := range keys * 4 {
			k := i
			if order > 0 {
				k = (i*37 + order*11) % (keys * 4) // 37 and 200 have no common factor
			}
			size := []int{900, 30, 300, 20_000}[k/keys]
			if err := b.Record(divergenceOf(fmt.Sprintf("/%02d", k%keys), "00000000000000bb", "/x", strings.Repeat("v", size))); err != nil {
				t.Fatal(err)
			}
			if len(b.examples.by) > 2*limit {
				t.Fatalf("%d examples are held, the bound is %d", len(b.examples.by), limit)
			}
		}
		b.examples.trim()
		got := ""
		for i := range keys {
			if e := b.examples.by[exampleKey{"users", fmt.Sprintf("/%02d", i), "00000000000000bb", ""}]; e != nil {
				got += fmt.Sprintf("/%02d:%d ", i, len(e.Reference.Value.Text))
			}
		}
		if want := "/00:30 /01:30 /02:30 /03:30 /04:30 /05:30 /06:30 /07:30 "; got != want {
			t.Errorf("order %d: %s, want %s", order, got, want)
		}
		if first == "" {
			first = got
		}
	}
	b := newBuilder(t, Config{})
	if err := b.Record(divergenceOf("/", "00000000000000bb", "/"+strings.Repeat("u", 10_000), strings.Repeat("日", 100_000))); err != nil {
		t.Fatal(err)
	}
	for _, e := range b.examples.by {
		if v := e.Reference.Value; len(e.URL) > maxURL || len(v.Text) > maxValue || !v.Truncated || v.Size != 300_000 || strings.ContainsRune(v.Text, '\ufffd') {
			t.Errorf("a URL of %d bytes, a value of %d, %+v", len(e.URL), len(v.Text), v.Truncated)
		}
	}
}

// What the control has makes an example no larger: of two that are as small the
// one with a control is shown.
func TestExampleWithAControl(t *testing.T) {
	with := func(url, text string) []byte {
		rec := divergenceOf("/", "00000000000000bb", url, "v")
		rec = bytes.Replace(rec, []byte(`"control":null,"differences"`), []byte(`"control":{"status":200},"differences"`), 1)
		return bytes.Replace(rec, []byte(`"control":null}]`), []byte(`"control":{"encoding":"utf-8","text":"`+text+`","size":9}}]`), 1)
	}
	without := func(url string) []byte { return divergenceOf("/", "00000000000000bb", url, "v") }
	for _, tt := range []struct {
		records [][]byte
		want    string
		control bool
	}{
		{[][]byte{without("/b"), with("/a", "long text")}, "/a", true},
		{[][]byte{with("/a", "long text"), without("/b")}, "/a", true},
		{[][]byte{with("/longer", "x"), without("/b")}, "/b", false},
	} {
		b := newBuilder(t, Config{})
		for _, rec := range tt.records {
			if err := b.Record(rec); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range b.examples.by {
			if e.URL != tt.want || (e.Control != nil) != tt.control {
				t.Errorf("%s is shown, with a control %v; want %s", e.URL, e.Control != nil, tt.want)
			}
		}
	}
}

// An example of the period's own candidate version is taken before a smaller one
// of another.
func TestExampleOfTheVersion(t *testing.T) {
	b := newBuilder(t, Config{})
	for i, version := range []string{"v1", "v2"} {
		at := verdict.Time(i * 10e6)
		for k, w := range []*verdict.Window{
			clean(int64(2*i+1), 100, func(w *verdict.Window) { w.Equal, w.Divergent = 99, 1 }),
			clean(int64(2*i+2), 0, func(w *verdict.Window) {
				w.Fingerprint, w.Counts = "00000000000000bb", verdict.Counts{Divergent: 1}
			}),
		} {
			w.CandidateVersion, w.WindowStart, w.WindowEnd = version, w.WindowStart+at, w.WindowEnd+at
			if err := b.Window(w); err != nil {
				t.Fatal(i, k, err)
			}
		}
	}
	add := func(version, url string) {
		t.Helper()
		rec := bytes.Replace(divergenceOf("/", "00000000000000bb", url, "v"), []byte(`"outcome"`), []byte(`"candidate_version":"`+version+`","outcome"`), 1)
		if err := b.Record(rec); err != nil {
			t.Fatal(err)
		}
	}
	add("v1", "/short")
	urls := func() (out string) {
		d := document(t, b)
		for i := range d.Experiments {
			out += d.Experiments[i].CandidateVersion + " " + d.Experiments[i].Causes[0].Example.URL + " "
		}
		return out
	}
	if got := urls(); got != "v1 /short v2 /short " {
		t.Errorf("with one example: %s", got)
	}
	add("v2", "/much/longer")
	if got := urls(); got != "v1 /short v2 /much/longer " {
		t.Errorf("with one of each: %s", got)
	}
}

// What a Builder holds does not grow with the number of records but by a few
// dozen bytes each.
func TestMemory(t *testing.T) {
	b := newBuilder(t, Config{})
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const records = 20_000
	add := func(from, to int64) {
		for i := from; i < to; i++ {
			w := clean(i/10+1, 100, nil)
			w.Agent, w.BootID, w.Route = strings.Clone(fmt.Sprintf("node-%d", i%10)), fmt.Sprintf("boot-%d", i%10), fmt.Sprintf("/route/%d", i%7)
			w.WindowStart += verdict.Time(i / 10 * 10e6)
			w.WindowEnd = w.WindowStart + 10e6
			if err := b.Window(w); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(0, records)
	before := heap()
	add(records, 3*records)
	after := heap()
	each := (float64(after) - float64(before)) / (2 * records)
	t.Logf("%.0f bytes a record", each)
	if each > 100 {
		t.Errorf("a record takes %.0f bytes", each)
	}
	if d := document(t, b); d.Input.Windows != 3*records || len(d.Experiments[0].Timeline.Points) > maxPoints {
		t.Errorf("%+v, %d points", d.Input, len(d.Experiments[0].Timeline.Points))
	}
	runtime.KeepAlive(b)
}

// FuzzRecord gives a Builder two records of whatever kind: it must not panic,
// what it takes must make a document that all forms can show, and be the same in
// the other order.
func FuzzRecord(f *testing.F) {
	seeds := fleetRecords(f)[0]
	for _, i := range []int{0, 1, 40} {
		f.Add(seeds.windows[i], seeds.windows[i+1])
		f.Add(seeds.windows[i], seeds.divergences[i])
	}
	f.Add([]byte(`{"schema":"shadowtap.window.v1"}`), []byte(`{"schema":"shadowtap.divergence.v1"}`))
	f.Add(divergenceOf("/", "00000000000000bb", "/<b>", "\x00\u202e"), divergenceOf("/", "00000000000000bb", "/", ""))
	f.Fuzz(func(t *testing.T, a, c []byte) {
		var texts [2][]byte
		for order := range texts {
			b := newBuilder(t, Config{})
			records := [][]byte{a, c}
			if order == 1 {
				records = [][]byte{c, a}
			}
			conflict := false
			for _, rec := range records {
				err := b.Record(rec)
				conflict = conflict || errors.Is(err, verdict.ErrConflict)
			}
			d, err := b.Document(verdict.DefaultSettings())
			if err != nil {
				t.Fatal(err)
			}
			texts[order] = renderJSON(t, d)
			if d.Word == verdict.Promote && d.Input.Windows == 0 {
				t.Error("promote without a window")
			}
			render(t, d, TextOptions{Width: 80, Color: true})
			renderHTML(t, d)
			if conflict {
				return // the first counts
			}
		}
		if !bytes.Equal(texts[0], texts[1]) {
			t.Errorf("another order, another document\n%s\n%s", texts[0], texts[1])
		}
	})
}

// FuzzReadDocument reads documents of whatever kind and shows them.
func FuzzReadDocument(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "fleet-users.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"schema":"shadowtap.report.v1","experiments":[{"latest":true,"causes":[{"example":{}}],"routes":[{"latency":{"pairs":1,"quantiles":[{}]}}],"timeline":{"points":[{},{}]},"times":[{"buckets":[{}]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ReadDocument(bytes.NewReader(data))
		if err != nil {
			return
		}
		render(t, d, TextOptions{Width: 80})
		renderHTML(t, d)
	})
}
