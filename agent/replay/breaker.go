package replay

import (
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Breaker says when a sick target is left alone. Every Outcome with an error
// word is a failure, but for requests that must not be replayed; an answer is
// a success whatever its status. While it is open, nothing is sent and every
// Submit counts breaker_open; after Open one replay is let through, and its
// success closes the breaker.
type Breaker struct {
	// Disabled sends on to a target however often it fails.
	Disabled bool
	// Failures is the number of failures in a row, within Window, that opens
	// it. Zero means 10.
	Failures int
	// Ratio is the share of failures in Window that opens it, once MinResults
	// replays have ended in Window. Zero means 0.5, 1 and above never.
	Ratio float64
	// MinResults belongs to Ratio. Zero means 20.
	MinResults int
	// Window is how far back it looks, in steps of a tenth. Zero means 10s.
	Window time.Duration
	// Open is how long it stays open. Zero means 5s.
	Open time.Duration
}

func (b *Breaker) defaults() error {
	switch {
	case b.Failures < 0:
		return fmt.Errorf("breaker failures: %d is negative", b.Failures)
	case b.Ratio < 0 || b.Ratio != b.Ratio:
		return fmt.Errorf("breaker ratio: %v is not a share", b.Ratio)
	case b.MinResults < 0:
		return fmt.Errorf("breaker min results: %d is negative", b.MinResults)
	case b.Window < 0 || b.Window > 0 && b.Window < 10*time.Millisecond:
		return fmt.Errorf("breaker window: %v is below 10ms", b.Window)
	case b.Open < 0:
		return fmt.Errorf("breaker open: %v is negative", b.Open)
	}
	setDefault(&b.Failures, 10)
	setDefault(&b.Ratio, 0.5)
	setDefault(&b.MinResults, 20)
	setDefault(&b.Window, 10*time.Second)
	setDefault(&b.Open, 5*time.Second)
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (b *Breaker) new(name string, changed func(from, to gobreaker.State)) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	if b.Disabled {
		return nil
	}
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         name,
		MaxRequests:  1,
		Interval:     b.Window,
		BucketPeriod: b.Window / 10,
		Timeout:      b.Open,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			if int64(c.ConsecutiveFailures) >= int64(b.Failures) {
				return true
			}
			ended := int64(c.TotalSuccesses) + int64(c.TotalFailures)
			return b.Ratio < 1 && ended >= int64(b.MinResults) && float64(c.TotalFailures) >= b.Ratio*float64(ended)
		},
		OnStateChange: func(_ string, from, to gobreaker.State) { changed(from, to) },
		IsExcluded:    func(err error) bool { return err == errNotSaid },
	})
}
