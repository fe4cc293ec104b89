package verdict

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// fields must not forget a count: it would vanish in a merge.
func TestCountsFields(t *testing.T) {
	var c Counts
	have := map[string]*int64{}
	for _, f := range c.fields() {
		have[f.name] = f.n
	}
	v := reflect.ValueOf(&c).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() != reflect.Int64 {
			continue
		}
		name := v.Type().Field(i).Tag.Get("json")
		if have[name] != v.Field(i).Addr().Interface() {
			t.Errorf("%s is not in fields", name)
		}
		delete(have, name)
	}
	if len(have) > 0 {
		t.Errorf("fields has %v too", have)
	}
	var l Latency
	if n := reflect.TypeOf(l).NumField() - 1; n != len(l.histograms()) {
		t.Errorf("%d histograms of %d", len(l.histograms()), n)
	}
	for i, h := range l.histograms() {
		f := reflect.ValueOf(&l).Elem().Field(i)
		if name, _, _ := strings.Cut(reflect.TypeOf(l).Field(i).Tag.Get("json"), ","); name != h.name || f.Addr().Interface() != h.h {
			t.Errorf("histogram %d is %s, the field %s", i, h.name, name)
		}
	}
}

func goodWindow() *Window {
	return &Window{
		Schema: Schema, WindowStart: 10_000_000, WindowEnd: 20_000_000, Agent: "a", BootID: "b", Sequence: 1, Experiment: "e", Route: "/", SampleBy: "request",
		Counts: Counts{
			Complete: 12, SampledOut: 2, Selected: 10, Compared: 8, Shed: 1, BreakerOpen: 1, Equal: 2, Ignored: 1, Divergent: 4,
			NotComparable: map[string]int64{"stale": 1}, Failed: map[string]int64{"timeout": 1},
			ControlChosen: 6, ControlFailed: 1, Paired: 5, Both: 1, CandidateOnly: 2, ControlOnly: 1, B: 1, D: 1, ExcessSquares: 5,
		},
		KeyGroups: map[int][2]int64{7: {7, 4}},
		Latency:   Latency{DifferenceTTFB: Histogram{-3: 1, 0: 2}},
	}
}

func TestParseWindow(t *testing.T) {
	good := goodWindow()
	b, err := good.JSON()
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseWindow(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(w, good) {
		t.Errorf("read back: %+v, want %+v", w, good)
	}
	if !strings.Contains(string(b), `"window_start":"1970-01-01T00:00:10.000000Z"`) {
		t.Errorf("no time of the usual form in %s", b)
	}
	if _, err := ParseWindow([]byte(`{"later":1,` + string(b[1:]))); err != nil {
		t.Errorf("an added field: %v", err)
	}
	if _, err := ParseWindow([]byte(`{"schema":"shadowtap.divergence.v1","equal":"x"}`)); !errors.Is(err, ErrSchema) {
		t.Errorf("another schema: %v", err)
	}
	for name, change := range map[string]func(w *Window){
		"window_end":            func(w *Window) { w.WindowEnd = w.WindowStart },
		"sequence":              func(w *Window) { w.Sequence = -1 },
		"experiment":            func(w *Window) { w.Experiment = "" },
		"shed":                  func(w *Window) { w.Shed = -1 },
		"lost.gap":              func(w *Window) { w.Lost = map[string]int64{"gap": 1 << 50} },
		"complete is 13":        func(w *Window) { w.Complete++ },
		"selected is 11":        func(w *Window) { w.Selected++; w.Complete++ },
		"compared is 8":         func(w *Window) { w.Equal-- },
		"control_chosen is 5":   func(w *Window) { w.ControlChosen-- },
		"failed is more":        func(w *Window) { w.Failed["timeout"] = 5 },
		"divergent is less":     func(w *Window) { w.Failed["timeout"] = 2 },
		"to the control":        func(w *Window) { w.ControlChosen, w.ControlShed = 11, 5 },
		"are more than paired":  func(w *Window) { w.ControlOnly = 3 },
		"units b and d":         func(w *Window) { w.B = 3 },
		"key_groups.1024":       func(w *Window) { w.KeyGroups[1024] = [2]int64{1, 1} },
		"key_groups.7":          func(w *Window) { w.KeyGroups[7] = [2]int64{1, 2} },
		"difference_ttfb.-1858": func(w *Window) { w.DifferenceTTFB[-1858] = 1 },
		"candidate_min_rtt_us":  func(w *Window) { w.CandidateMinRTTUS = -1 },
	} {
		w := goodWindow()
		change(w)
		b, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseWindow(b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	far := goodWindow()
	far.WindowEnd = Time(time.Date(10001, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro())
	if _, err := far.JSON(); err == nil {
		t.Error("a year of five digits is spelled")
	}
}

// Whatever is read gives an error or a window that merges, and that reads the
// same when it is written again.
func FuzzParseWindow(f *testing.F) {
	b, err := goodWindow().JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"shadowtap.window.v1","window_end":"2026-11-23T10:00:00.000000Z","window_start":"2026-11-23T09:00:00Z","experiment":"e","route":"/","fingerprint":"other","divergent":3,"both":1,"candidate_only":2,"b":1,"excess_squares":4,"excess":{"3":2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseWindow(b)
		if err != nil {
			return
		}
		again, err := w.JSON()
		if err != nil {
			t.Fatalf("%v for %s", err, b)
		}
		w2, err := ParseWindow(again)
		if err != nil {
			t.Fatalf("%v for what was written: %s", err, again)
		}
		if b2, err := w2.JSON(); err != nil || string(b2) != string(again) {
			t.Fatalf("%s becomes %s", again, b2)
		}
		m := NewMerge()
		if err := m.Add(w); err != nil {
			t.Fatal(err)
		}
		if r := m.Report(DefaultSettings()); r.Word == Promote && w.Compared < 14_157 {
			t.Fatalf("promotes on %s", b)
		}
	})
}
