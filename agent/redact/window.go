package redact

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// Window makes a record of a window, which the record then owns. There is
// nothing in it to redact: its texts are names of the configuration and words of
// the ledger, all else are fingerprints and counts. The error is of a window
// that verdict.Window.Check refuses, or that has no JSON.
func (r *Redactor) Window(w *verdict.Window) (*Record, error) {
	if err := w.Check(); err != nil {
		return nil, fmt.Errorf("window record: %w", err)
	}
	value, err := w.JSON()
	if err != nil {
		return nil, err
	}
	return &Record{w: w, key: []byte(w.Agent), time: w.WindowEnd.Time(), json: value}, nil
}

// windowHeaders are Headers of a window. Its id is unique within the source: the
// boot, and the number of the record in it.
func windowHeaders(w *verdict.Window) []Header {
	source := "/shadowtap"
	if w.Agent != "" {
		source += "/" + url.PathEscape(w.Agent)
	}
	id := strconv.FormatInt(w.Sequence, 10)
	if w.BootID != "" {
		id = w.BootID + "-" + id
	}
	return cloudEvent(id, source, verdict.Schema, w.WindowEnd.String(), w.Experiment, w.Route)
}
