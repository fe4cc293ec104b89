package report

import (
	"os"
	"testing"
)

func TestShow(t *testing.T) {
	d := document(t, build(t, fleetRecords(t)))
	d2 := document(t, build(t, fleetRecords(t)))
	_ = d2
	f, err := os.Create("/tmp/h2/report-out.html")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WriteHTML(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
}
