package report

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

func TestSmoke(t *testing.T) {
	b, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := &verdict.Window{Schema: verdict.Schema, WindowEnd: 10e6, Agent: "a", BootID: "b", Sequence: 1, Experiment: "users", Route: "/", SampleBy: "request"}
	w.Complete, w.Selected, w.Compared, w.Equal = 100, 100, 100, 100
	if err := b.Window(w); err != nil {
		t.Fatal(err)
	}
	if err := b.Record([]byte(`{"schema":"x"}`)); !errors.Is(err, ErrSchema) {
		t.Error(err)
	}
	d, err := b.Document(verdict.DefaultSettings())
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.JSON()
	if err != nil || !json.Valid(text) {
		t.Fatal(err)
	}
	t.Logf("%s", text)
}
