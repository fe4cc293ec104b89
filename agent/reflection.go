package agent

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/shadowtap/shadowtap/agent/replay"
	"github.com/shadowtap/shadowtap/diff"
)

// How often the candidate is asked for its types: it may have been replaced.
const (
	reflectEvery = 10 * time.Minute
	// reflectAgain is the wait after a failure. It doubles up to reflectEvery.
	reflectAgain = 10 * time.Second
)

// reflects says that the types come from the candidate itself.
func (x *experiment) reflects() bool {
	return x.cfg.Compare.Reflection == "candidate" && x.cfg.Enabled && x.replayer != nil
}

// reflect keeps the types as the candidate's reflection has them, until ctx
// ends. What methods are replayed does not depend on it: that is the operator's
// to say.
func (x *experiment) reflect(ctx context.Context, log *slog.Logger) {
	keepAsking(ctx, x.lookUp, log.With("experiment", x.cfg.Name))
}

// keepAsking calls ask until ctx ends: every so often, and sooner after a
// failure. A spell of failures is one warning.
func keepAsking(ctx context.Context, ask func(context.Context) error, log *slog.Logger) {
	again, warned, found := reflectAgain, false, false
	for {
		err := ask(ctx)
		wait := reflectEvery
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			again, warned = reflectAgain, false
			if !found {
				found = true
				log.Info("protobuf types found by the candidate's server reflection")
			}
		case errors.Is(err, replay.ErrOff):
			wait = reflectAgain
		default:
			if !warned {
				fields := "number"
				if found {
					fields = "the types that were found before"
				}
				log.Warn("no protobuf types from the candidate", "err", err, "fields_by", fields)
			}
			warned, wait, again = true, again, min(2*again, reflectEvery)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// lookUp asks the candidate for its types once, and takes them. On an error what
// was found before stays.
func (x *experiment) lookUp(ctx context.Context) error {
	set, err := x.replayer.Reflect(ctx)
	if err != nil {
		return err
	}
	d, err := diff.NewDescriptors(set)
	if err != nil {
		return err
	}
	x.descriptors.Store(d)
	return nil
}
