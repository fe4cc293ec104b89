package verdict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Schema is the schema and CloudEvents type of a window record; the schema
// itself is agent/publish/schema/window.v1.json.
const Schema = "shadowtap.window.v1"

// WindowLength is how long a window is.
const WindowLength = 10 * time.Second

// KeyGroups is the number of key groups.
const KeyGroups = 1024

// OtherFingerprint stands for the fingerprints beyond the MaxFingerprints of a
// route.
const OtherFingerprint = "other"

// Window is the value of a window record: what one agent counted of one route of
// one experiment in 10 s, or the part of it that one fingerprint has. Windows of
// any number of agents merge by sums.
type Window struct {
	Schema string `json:"schema"`
	// WindowStart and WindowEnd are by the time of the reference's request.
	WindowStart Time `json:"window_start"`
	WindowEnd   Time `json:"window_end"`
	// Agent names the agent, BootID one start of it; both are empty from a
	// capture file. Sequence counts the records of a boot from 1: a repeat has
	// the same, a lost record leaves a hole.
	Agent          string `json:"agent"`
	BootID         string `json:"boot_id"`
	Sequence       int64  `json:"sequence"`
	ConfigRevision string `json:"config_revision"`
	Experiment     string `json:"experiment"`
	// Route is the route's pattern. "" has what belongs to no route: requests
	// that none matched, and those lost before that was known.
	Route            string `json:"route"`
	CandidateVersion string `json:"candidate_version"`
	// SampleBy is the experiment's sample.by. With anything but request the
	// counts speak of the sampled keys only.
	SampleBy string `json:"sample_by"`
	// ControlSelf says that the control is the captured server itself, asked a
	// second time: what it shows of noise and of times is biased.
	ControlSelf bool `json:"control_self,omitempty"`
	// Fingerprint is "" for the totals. With one, Divergent, Both,
	// CandidateOnly, ControlOnly, B, D, ExcessSquares and Excess are those of
	// this difference, and all else is 0.
	Fingerprint string `json:"fingerprint"`

	Counts

	// KeyGroups has for each key group that was seen how many pairs were
	// compared and how many of them were divergent.
	KeyGroups map[int][2]int64 `json:"key_groups,omitempty"`
	// Excess has CandidateOnly minus ControlOnly of each key group in which
	// they differ, of a fingerprint. Key group 1024 stands for those that could
	// not be told apart. A merge makes the units of evidence of it: b and d of
	// one agent alone do not tell that another saw the same stale entry.
	Excess map[int]int64 `json:"excess,omitempty"`
	Latency
}

// Counts are a window's counts; they merge by sums.
type Counts struct {
	// Lost has the exchanges that were selected, or of which it was not known
	// yet, and that did not become complete, by the ledger's result: gap,
	// too_large, evicted, ...
	Lost map[string]int64 `json:"lost,omitempty"`
	// Complete is the sum of the nine that follow.
	Complete      int64 `json:"complete"`
	OwnTraffic    int64 `json:"own_traffic"`
	Unmatched     int64 `json:"unmatched"`
	Excluded      int64 `json:"excluded"`
	NotReplayable int64 `json:"not_replayable"`
	Unsafe        int64 `json:"unsafe"`
	Paused        int64 `json:"paused"`
	Ended         int64 `json:"ended"`
	SampledOut    int64 `json:"sampled_out"`
	// Selected is the sum of the five that follow.
	Selected    int64 `json:"selected"`
	Compared    int64 `json:"compared"`
	Shed        int64 `json:"shed"`
	RateLimited int64 `json:"rate_limited"`
	BreakerOpen int64 `json:"breaker_open"`
	Stopped     int64 `json:"stopped"`
	// Compared is the sum of Equal, Ignored, Divergent and NotComparable. A
	// candidate that failed is Divergent, and in Failed by its error word.
	Equal         int64            `json:"equal"`
	Ignored       int64            `json:"ignored"`
	Divergent     int64            `json:"divergent"`
	NotComparable map[string]int64 `json:"not_comparable,omitempty"`
	Failed        map[string]int64 `json:"failed,omitempty"`
	// ControlChosen is the sum of Paired, ControlFailed, ControlShed and
	// Unpaired: requests that the control answered, and of which there is no
	// pair because the candidate failed or an answer was not comparable.
	ControlChosen int64 `json:"control_chosen"`
	ControlFailed int64 `json:"control_failed"`
	ControlShed   int64 `json:"control_shed"`
	Unpaired      int64 `json:"unpaired"`
	// Paired are the requests that both candidate and control answered. Both
	// differed from the reference in some of them, or one alone.
	Paired        int64 `json:"paired"`
	Both          int64 `json:"both"`
	CandidateOnly int64 `json:"candidate_only"`
	ControlOnly   int64 `json:"control_only"`
	// B and D are the units of evidence for candidate and control: key groups
	// with more CandidateOnly than ControlOnly, and with fewer.
	B int64 `json:"b"`
	D int64 `json:"d"`
	// ExcessSquares is the sum over the key groups of (CandidateOnly -
	// ControlOnly)^2: how unevenly the differences fell.
	ExcessSquares int64 `json:"excess_squares"`
	// Late are selected requests of an earlier time, whose window was closed
	// when they became complete.
	Late int64 `json:"late"`
	// WarmingUp and NewConnection are compared requests whose times are left
	// out, because the experiment had just begun or a connection was new.
	WarmingUp     int64 `json:"warming_up"`
	NewConnection int64 `json:"new_connection"`
}

// Latency has the histograms of a window, in microseconds. With a control they
// are of the requests that went to both candidate and control, else of all
// compared ones.
type Latency struct {
	ReferenceTTFB  Histogram `json:"reference_ttfb,omitempty"`
	ReferenceTTLB  Histogram `json:"reference_ttlb,omitempty"`
	CandidateTTFB  Histogram `json:"candidate_ttfb,omitempty"`
	CandidateTTLB  Histogram `json:"candidate_ttlb,omitempty"`
	ControlTTFB    Histogram `json:"control_ttfb,omitempty"`
	ControlTTLB    Histogram `json:"control_ttlb,omitempty"`
	DifferenceTTFB Histogram `json:"difference_ttfb,omitempty"`
	DifferenceTTLB Histogram `json:"difference_ttlb,omitempty"`
	// CandidateCensored and ControlCensored have the answers whose first byte
	// did not come, by the time at which the wait for it was given up.
	CandidateCensored Histogram `json:"candidate_censored,omitempty"`
	ControlCensored   Histogram `json:"control_censored,omitempty"`
	// CandidateMinRTTUS is the smallest round trip of the candidate's
	// connections as the kernel measured it, 0 when it is not known.
	CandidateMinRTTUS int64 `json:"candidate_min_rtt_us"`
}

// JSON is the record's value: fields in the order of the struct, maps by key,
// no white space. A time that RFC 3339 can't spell is an error.
func (w *Window) JSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(w); err != nil {
		return nil, fmt.Errorf("encode a window record: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// ErrSchema says that a record is of another schema.
var ErrSchema = errors.New("not a " + Schema)

// ParseWindow reads a record's value. Fields that it does not know are left
// out, for later versions of v1 may add some. A record of another schema gives
// ErrSchema, one whose numbers can't be right another error.
func ParseWindow(value []byte) (*Window, error) {
	w := new(Window)
	if err := json.Unmarshal(value, w); err != nil {
		// A field of that name may be anything in another schema.
		var head struct {
			Schema string `json:"schema"`
		}
		if json.Unmarshal(value, &head) == nil && head.Schema != Schema {
			return nil, ErrSchema
		}
		return nil, fmt.Errorf("read a window record: %w", err)
	}
	if err := w.Check(); err != nil {
		return nil, fmt.Errorf("read a window record: %w", err)
	}
	return w, nil
}

// maxCount bounds every count of a record, so that no sum of records overflows
// and no bound takes long. excess_squares may be maxSquares.
const (
	maxCount   = 1 << 32
	maxSquares = (KeyGroups + 1) * maxExcess * maxExcess
)

// Check says what is wrong with a window: counts that are negative or absurd, or
// that do not add up.
func (w *Window) Check() error {
	switch {
	case w.Schema != Schema:
		return ErrSchema
	case w.WindowEnd <= w.WindowStart:
		return errors.New("window_end is not after window_start")
	case w.Sequence < 0:
		return errors.New("sequence is negative")
	case w.Experiment == "":
		return errors.New("experiment is empty")
	}
	c := &w.Counts
	for _, f := range c.fields() {
		if *f.n < 0 || *f.n > maxCount && (f.n != &c.ExcessSquares || *f.n > maxSquares) {
			return fmt.Errorf("%s: %d is out of range", f.name, *f.n)
		}
	}
	for _, m := range []struct {
		name string
		m    map[string]int64
	}{{"lost", c.Lost}, {"not_comparable", c.NotComparable}, {"failed", c.Failed}} {
		for word, n := range m.m {
			if n < 0 || n > maxCount {
				return fmt.Errorf("%s.%s: %d is out of range", m.name, word, n)
			}
		}
	}
	if err := w.Latency.check(); err != nil {
		return err
	}
	if w.Fingerprint != "" {
		if c.Both+c.CandidateOnly > c.Divergent {
			return errors.New("divergent is less than both and candidate_only")
		}
		if err := w.checkExcess(); err != nil {
			return err
		}
		return c.checkUnits()
	}
	for g, n := range w.KeyGroups {
		if g < 0 || g >= KeyGroups || n[1] < 0 || n[0] < n[1] || n[0] > maxCount {
			return fmt.Errorf("key_groups.%d: %v is out of range", g, n)
		}
	}
	for _, l := range []struct {
		name string
		n    int64
		sum  int64
	}{
		{"complete", c.Complete, c.OwnTraffic + c.Unmatched + c.Excluded + c.NotReplayable + c.Unsafe + c.Paused + c.Ended + c.SampledOut + c.Selected},
		{"selected", c.Selected, c.Compared + c.Shed + c.RateLimited + c.BreakerOpen + c.Stopped},
		{"compared", c.Compared, c.Equal + c.Ignored + c.Divergent + total(c.NotComparable)},
		{"control_chosen", c.ControlChosen, c.Paired + c.ControlFailed + c.ControlShed + c.Unpaired},
	} {
		if l.n != l.sum {
			return fmt.Errorf("%s is %d, its parts are %d", l.name, l.n, l.sum)
		}
	}
	switch {
	case total(c.Failed) > c.Divergent:
		return errors.New("failed is more than divergent")
	case c.ControlChosen > c.Selected || c.Paired > c.Compared:
		return errors.New("more requests went to the control than were selected")
	case c.Both+c.CandidateOnly+c.ControlOnly > c.Paired:
		return errors.New("both, candidate_only and control_only are more than paired")
	case c.Both+c.CandidateOnly+total(c.Failed) > c.Divergent:
		return errors.New("divergent is less than both, candidate_only and failed")
	}
	return c.checkUnits()
}

func (c *Counts) checkUnits() error {
	// A unit needs a pair, and squares are at least 1 each.
	if c.B > c.CandidateOnly || c.D > c.ControlOnly || c.ExcessSquares < c.B+c.D {
		return errors.New("units b and d do not fit candidate_only, control_only and excess_squares")
	}
	return nil
}

// checkExcess compares the units of a fingerprint with what they are made of.
func (w *Window) checkExcess() error {
	var b, d, squares int64
	for g, e := range w.Excess {
		if g < 0 || g > KeyGroups || e > maxExcess || e < -maxExcess {
			return fmt.Errorf("excess.%d: %d is out of range", g, e)
		}
		b += b2i(e > 0)
		d += b2i(e < 0)
		squares += e * e
	}
	if b != w.B || d != w.D || squares != w.ExcessSquares {
		return errors.New("units b and d do not fit excess")
	}
	return nil
}

// maxExcess bounds what one window has of one key group.
const maxExcess = 1 << 16

type field struct {
	name string
	n    *int64
}

// fields are all counts that are one number.
func (c *Counts) fields() [32]field {
	return [...]field{
		{"complete", &c.Complete}, {"own_traffic", &c.OwnTraffic}, {"unmatched", &c.Unmatched}, {"excluded", &c.Excluded},
		{"not_replayable", &c.NotReplayable}, {"unsafe", &c.Unsafe}, {"paused", &c.Paused}, {"ended", &c.Ended}, {"sampled_out", &c.SampledOut},
		{"selected", &c.Selected}, {"compared", &c.Compared}, {"shed", &c.Shed}, {"rate_limited", &c.RateLimited}, {"breaker_open", &c.BreakerOpen},
		{"stopped", &c.Stopped}, {"equal", &c.Equal}, {"ignored", &c.Ignored}, {"divergent", &c.Divergent},
		{"control_chosen", &c.ControlChosen}, {"control_failed", &c.ControlFailed}, {"control_shed", &c.ControlShed}, {"unpaired", &c.Unpaired},
		{"paired", &c.Paired}, {"both", &c.Both}, {"candidate_only", &c.CandidateOnly}, {"control_only", &c.ControlOnly},
		{"b", &c.B}, {"d", &c.D}, {"excess_squares", &c.ExcessSquares}, {"late", &c.Late},
		{"warming_up", &c.WarmingUp}, {"new_connection", &c.NewConnection},
	}
}

// add adds o's counts.
func (c *Counts) add(o *Counts) {
	from := o.fields()
	for i, f := range c.fields() {
		*f.n += *from[i].n
	}
	addWords(&c.Lost, o.Lost)
	addWords(&c.NotComparable, o.NotComparable)
	addWords(&c.Failed, o.Failed)
}

func addWords(to *map[string]int64, from map[string]int64) {
	for word, n := range from {
		count(to, word, n)
	}
}

// count adds n to a word's count and makes the map when there is none.
func count(to *map[string]int64, word string, n int64) {
	if n == 0 {
		return
	}
	if *to == nil {
		*to = map[string]int64{}
	}
	(*to)[word] += n
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func total(m map[string]int64) (n int64) {
	for _, k := range m {
		n += k
	}
	return n
}
