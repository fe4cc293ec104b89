package publish

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// limiter decides which records are published: of each fingerprint the first
// ones in an hour, then a share that is a pure function of the exchange. It is
// safe for concurrent use.
type limiter struct {
	first int    // per fingerprint and hour; negative: no limit
	then  uint32 // hundredths of a percent

	mu     sync.Mutex
	routes map[routeKey]*routeTable
}

type routeKey struct{ experiment, route string }

// maxLive bounds the fingerprints of a route that are counted by themselves
// (VERDICT, Comparison); the others share one count.
const maxLive = 256

// routeTable counts what was published of a route's fingerprints.
type routeTable struct {
	counts map[string]*hourCount
	other  hourCount
	swept  int64
}

// hourCount is how many were published in an hour, which is hours since the
// Unix epoch.
type hourCount struct {
	hour int64
	n    int
}

// admit says whether a record with these fingerprints is published, and how
// many records it stands for. A record is published when any of its
// fingerprints is below its limit, and then counts for each of them.
func (l *limiter) admit(experiment, route, exchangeID string, fingerprints []string, at time.Time) (weight float64, ok bool) {
	if l.first < 0 {
		return 1, true
	}
	hour := floorHour(at)
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.routes[routeKey{experiment, route}]
	if t == nil {
		t = &routeTable{counts: map[string]*hourCount{}}
		l.routes[routeKey{experiment, route}] = t
	}
	t.sweep(hour)
	below := false
	for _, f := range fingerprints {
		if t.count(f, hour).n < l.first {
			below = true
		}
	}
	if below {
		for _, f := range fingerprints {
			t.count(f, hour).n++
		}
		return 1, true
	}
	if l.then > 0 && keep("publish", exchangeID, l.then) {
		return 10_000 / float64(l.then), true
	}
	return 0, false
}

// count is the count of a fingerprint in an hour: its own, or where the table
// is full the one that the others share. Times may go backwards a little
// (replays end out of order), so the hour before still counts as this one.
func (t *routeTable) count(fingerprint string, hour int64) *hourCount {
	c := t.counts[fingerprint]
	if c == nil {
		if len(t.counts) >= maxLive {
			c = &t.other
		} else {
			c = &hourCount{hour: hour}
			t.counts[fingerprint] = c
		}
	}
	if hour > c.hour || hour < c.hour-1 {
		*c = hourCount{hour: hour}
	}
	return c
}

// sweep forgets, once an hour, the fingerprints that were last published
// before the hour before: they are not live.
func (t *routeTable) sweep(hour int64) {
	if t.swept == hour {
		return
	}
	t.swept = hour
	for f, c := range t.counts {
		if c.hour < hour-1 || c.hour > hour+1 {
			delete(t.counts, f)
		}
	}
}

func floorHour(t time.Time) int64 {
	s := t.Unix()
	if s < 0 {
		s -= 3599
	}
	return s / 3600
}

// keep is the sampling rule of DESIGN: SHA-256 over salt, a zero byte and key,
// its first four bytes as a number v; kept when v mod 100 is below the whole
// percents, and for a fraction also when it equals them and the next two
// digits are below the hundredths.
func keep(salt, key string, hundredths uint32) bool {
	sum := sha256.Sum256([]byte(salt + "\x00" + key))
	v := binary.BigEndian.Uint32(sum[:4])
	whole, fraction := hundredths/100, hundredths%100
	return v%100 < whole || v%100 == whole && v/100%100 < fraction
}
