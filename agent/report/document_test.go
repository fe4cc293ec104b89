package report

import (
	"os"
	"testing"
)

func TestFleet(t *testing.T) {
	agents := fleetRecords(t)
	var n, size int
	for _, a := range agents {
		for _, w := range a.windows {
			n++
			size += len(w)
		}
		t.Log(len(a.windows), len(a.divergences))
	}
	t.Log(n, size)
	d := document(t, build(t, agents))
	t.Logf("%s %+v %+v", d.Word, d.Reasons, d.Input)
	for _, e := range d.Experiments {
		t.Logf("%s %s share %.4f bound %.4f %+v", e.Experiment.Experiment, e.Word, e.Share, e.Bound, e.Reasons)
		for _, r := range e.Routes {
			t.Logf("   %s %s %+v %+v", r.Route, r.Word, r.Divergent, r.Reasons)
		}
		for _, c := range e.Causes {
			t.Logf("  %s %s %s %d/%d %.4f first %s last %s %v", c.Class, c.Fingerprint.Fingerprint, c.Failed, c.Divergent, c.Of, c.Share, c.First, c.Last, c.Example)
		}
	}
}

func TestShow(t *testing.T) {
	d := document(t, build(t, fleetRecords(t)))
	for _, w := range []int{80} {
		if err := d.WriteText(os.Stdout, TextOptions{Width: w}); err != nil {
			t.Fatal(err)
		}
	}
}
