package verdict

import (
	"fmt"
	"math"
)

// Settings are the thresholds, the configuration's verdict.*. Shares are
// numbers from 0 to 1. Every field counts as it stands: begin with
// DefaultSettings.
type Settings struct {
	// MaxDivergence is the largest share of divergent pairs. Default 0.001.
	MaxDivergence float64
	// Confidence of the bounds. Default 0.99.
	Confidence float64
	// MinCompared is the least number of pairs of a route. Default 0.
	MinCompared int64
	// MaxUnseen is the largest share of requests that were not seen. Default
	// 0.05.
	MaxUnseen float64
	// MaxFailed is the largest share of replays that the candidate failed.
	// Default 0.001.
	MaxFailed float64
	// MaxMasked is the largest number of masked fingerprints. Default 0.
	MaxMasked int
	// Alpha bounds the chance of any false alarm. Default 0.05.
	Alpha float64
	// NoiseMargin is the excess below which a difference is noise or
	// negligible. Default 0.001.
	NoiseMargin float64
	// MaxP50 and MaxP99 are by how much the candidate's quantile to the first
	// byte may exceed the control's, as shares of it. Defaults 0.1 and 0.2.
	MaxP50, MaxP99 float64
}

// DefaultSettings are the defaults.
func DefaultSettings() Settings {
	return Settings{
		MaxDivergence: 0.001, Confidence: 0.99, MaxUnseen: 0.05, MaxFailed: 0.001,
		Alpha: 0.05, NoiseMargin: 0.001, MaxP50: 0.1, MaxP99: 0.2,
	}
}

// SettingError is a setting that makes no sense.
type SettingError struct {
	// Key is its key in the configuration: verdict.alpha.
	Key   string
	Value float64
	// Least and Most are the values that make sense, Open that they themselves
	// do not.
	Least, Most float64
	Open        bool
}

func (e *SettingError) Error() string { return fmt.Sprintf("%s: %v is out of range", e.Key, e.Value) }

// Check finds the first setting that makes no sense: a *SettingError.
func (s Settings) Check() error {
	for _, c := range []struct {
		key    string
		value  float64
		lo, hi float64
		open   bool // the ends themselves make no sense
	}{
		{"verdict.max_divergence", s.MaxDivergence, 0, 1, false},
		{"verdict.confidence", s.Confidence, 0, 1, true},
		{"verdict.min_compared", float64(s.MinCompared), 0, math.MaxFloat64, false},
		{"verdict.max_unseen", s.MaxUnseen, 0, 1, false},
		{"verdict.max_failed", s.MaxFailed, 0, 1, false},
		{"verdict.max_masked", float64(s.MaxMasked), 0, math.MaxFloat64, false},
		{"verdict.alpha", s.Alpha, 0, 1, true},
		{"verdict.noise_margin", s.NoiseMargin, 0, 1, false},
		{"verdict.max_latency.p50", s.MaxP50, 0, math.MaxFloat64, false},
		{"verdict.max_latency.p99", s.MaxP99, 0, math.MaxFloat64, false},
	} {
		if !(c.value >= c.lo && c.value <= c.hi) || c.open && (c.value == c.lo || c.value == c.hi) {
			return &SettingError{Key: c.key, Value: c.value, Least: c.lo, Most: c.hi, Open: c.open}
		}
	}
	return nil
}
