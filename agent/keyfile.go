package agent

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
)

// keyInterval is how often the redaction key file is looked at.
const keyInterval = 10 * time.Second

// keyWatch puts the keys of the redaction key file into use when they change, so
// that a rotation needs no restart and no signal: a mounted Kubernetes secret
// changes by itself. While the file can't be read the keys stay as they are.
// It belongs to one goroutine.
type keyWatch struct {
	path     string
	redactor *redact.Redactor
	log      *slog.Logger
	// keys are those in use, problem what was said last of the file.
	keys    []redact.Key
	problem string
}

func (w *keyWatch) run(ctx context.Context) error {
	t := time.NewTicker(keyInterval)
	defer t.Stop()
	for {
		w.look()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (w *keyWatch) look() {
	keys, err := redact.ReadKeyFile(w.path)
	if err == nil && !sameKeys(keys, w.keys) {
		if err = w.redactor.SetKeys(keys); err == nil {
			if w.keys != nil { // the first look finds what New has read
				w.log.Info("redaction key file: new keys", "signing", w.redactor.KeyID(), "keys", len(keys))
			}
			w.keys = keys
		}
	}
	switch {
	case err == nil:
		w.problem = ""
	case err.Error() != w.problem:
		w.problem = err.Error()
		w.log.Warn("redaction key file: the keys stay as they are", "signing", w.redactor.KeyID(), "err", err)
	}
}

func sameKeys(a, b []redact.Key) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID || !bytes.Equal(a[i].Secret, b[i].Secret) {
			return false
		}
	}
	return true
}
