package redact

import (
	"math"
	"testing"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// A window is a record of its own kind, and none that its readers would refuse
// becomes one.
func TestWindow(t *testing.T) {
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	window := func() *verdict.Window {
		return &verdict.Window{Schema: verdict.Schema, WindowStart: 0, WindowEnd: 10_000_000, Agent: "n 1/two", BootID: "b", Sequence: 7, Experiment: "users", Route: "/users/{id}"}
	}
	w := window()
	rec, err := r.Window(w)
	if err != nil {
		t.Fatal(err)
	}
	want, err := w.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if rec.Kind() != KindWindow || rec.Kind().String() != "window" || rec.Window() != w || rec.Divergence() != nil || !rec.Admitted() || string(rec.Key()) != "n 1/two" ||
		string(rec.JSON()) != string(want) || rec.Time() != w.WindowEnd.Time() || rec.Size() < int64(len(want)) {
		t.Errorf("%+v", rec)
	}
	headers := map[string]string{}
	for _, h := range rec.Headers() {
		headers[h.Name] = h.Value
	}
	if headers["ce_source"] != "/shadowtap/n%201%2Ftwo" || headers["ce_id"] != "b-7" || headers["ce_subject"] != "users /users/{id}" {
		t.Errorf("headers %v", headers)
	}
	for name, spoil := range map[string]func(w *verdict.Window){
		"a count below zero":        func(w *verdict.Window) { w.Late = -1 },
		"a year without a spelling": func(w *verdict.Window) { w.WindowEnd = math.MaxInt64 },
	} {
		w := window()
		spoil(w)
		if rec, err := r.Window(w); err == nil {
			t.Errorf("%s: %s", name, rec.JSON())
		}
	}
	if d := r.Record(&Input{}); d.Kind() != KindDivergence || d.Window() != nil || d.Divergence() == nil {
		t.Errorf("a divergence: %+v", d)
	}
}
