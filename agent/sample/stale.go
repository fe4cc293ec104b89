package sample

import (
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Staleness says whether the state behind a request may have moved between the
// reference's answer and the candidate's.
type Staleness uint8

const (
	// Fresh: no unsafe method was seen that matters.
	Fresh Staleness = iota
	// Stale: an unsafe method on the same path or path parameters was seen.
	Stale
	// StaleUnknown: the table was too small to tell; callers take it for Stale.
	StaleUnknown
)

// String gives the word for a record's reason.
func (s Staleness) String() string {
	switch s {
	case Stale:
		return "stale"
	case StaleUnknown:
		return "stale_unknown"
	}
	return "fresh"
}

// staleBefore is how long before a request an unsafe method counts
// (VERDICT.md, not_comparable).
const staleBefore = int64(time.Minute)

// defaultStaleEntries is the size of a shard's table: 112 bytes for four.
const defaultStaleEntries = 16_384

// writeTable remembers when unsafe methods were seen on what. One goroutine
// writes, any may ask; it never grows. An entry is found by a 64-bit hash in
// one set of four; the oldest of a set makes room, and the set remembers the
// newest time that it has forgotten so.
type writeTable struct {
	sets    []writeSet
	evicted atomic.Uint64
}

type writeSet struct {
	keys [4]atomic.Uint64
	// last and before are the two latest times of a key, 0 without one.
	last, before [4]atomic.Int64
	forgotten    atomic.Int64
	// version is odd while an entry is given to another key.
	version atomic.Uint64
}

// newWriteTable makes a table for at least that many entries, rounded up to a
// power of two.
func newWriteTable(entries int) *writeTable {
	n := 1
	for n*4 < entries {
		n *= 2
	}
	return &writeTable{sets: make([]writeSet, n)}
}

// seen remembers an unsafe method at time t on what key stands for. Only the
// owner calls it.
func (w *writeTable) seen(key uint64, t int64) {
	s := &w.sets[key&uint64(len(w.sets)-1)]
	oldest := 0
	for i := range s.keys {
		switch s.keys[i].Load() {
		case key:
			s.again(i, t)
			return
		case 0:
			s.fill(i, key, t)
			return
		}
		if s.last[i].Load() < s.last[oldest].Load() {
			oldest = i
		}
	}
	s.forgotten.Store(max(s.forgotten.Load(), s.last[oldest].Load()))
	w.evicted.Add(1)
	s.version.Add(1)
	s.fill(oldest, key, t)
	s.version.Add(1)
}

func (s *writeSet) again(i int, t int64) {
	switch last := s.last[i].Load(); {
	case t > last:
		s.before[i].Store(last)
		s.last[i].Store(t)
	case t < last && t > s.before[i].Load():
		s.before[i].Store(t)
	}
}

func (s *writeSet) fill(i int, key uint64, t int64) {
	s.before[i].Store(0)
	s.last[i].Store(t)
	s.keys[i].Store(key)
}

// between says whether an unsafe method was seen on what key stands for, from
// from to to.
func (w *writeTable) between(key uint64, from, to int64) Staleness {
	s := &w.sets[key&uint64(len(w.sets)-1)]
	for range 100 {
		version := s.version.Load()
		answer := s.between(key, from, to)
		if version%2 == 0 && s.version.Load() == version {
			return answer
		}
	}
	return StaleUnknown // the set changes too fast to be read
}

func (s *writeSet) between(key uint64, from, to int64) Staleness {
	answer := Fresh
	for i := range s.keys {
		if s.keys[i].Load() != key {
			continue
		}
		// In this order: a time that again moves from last to before meanwhile
		// is seen twice, the other way round it would not be seen at all.
		last := s.last[i].Load()
		before := s.before[i].Load()
		switch {
		case last <= to:
			if last >= from {
				return Stale
			}
		case before > to:
			answer = StaleUnknown // the two latest came after, what was before them is lost
		case before != 0 && before >= from:
			return Stale
		}
		break
	}
	if forgotten := s.forgotten.Load(); forgotten != 0 && forgotten >= from {
		return StaleUnknown
	}
	return answer
}

// Hashes of what an unsafe method is seen on: FNV-1a with 64 bits, then mixed,
// because the low bits choose the set. They are the same in every run, so that
// a capture gives the same answers again.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hashByte(h uint64, c byte) uint64 { return (h ^ uint64(c)) * fnvPrime }

func hashBytes(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = hashByte(h, c)
	}
	return h
}

// hashHost adds a host in lower case, without port.
func hashHost(h uint64, b []byte) uint64 {
	name, _ := splitPort(b)
	for _, c := range name {
		h = hashByte(h, lower(c))
	}
	return hashByte(h, 0)
}

// mixed spreads the hash over all its bits (the finalizer of MurmurHash3); 0 is
// kept for "no key".
func mixed(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return max(h, 1)
}

// pathKey stands for a path of a host, in every experiment.
func pathKey(host, path []byte) uint64 {
	return mixed(hashBytes(hashHost(fnvOffset, host), path))
}

// paramsKey stands for the path parameters that a route of an experiment gives
// a path of a host; 0 when there are none. Names and decoded values count, not
// the route: /users/{id} and /users/{id}/orders share theirs.
func paramsKey(experiment int, host []byte, p *pattern, path *path) uint64 {
	if len(p.names) == 0 {
		return 0
	}
	h := hashHost(hashByte(fnvOffset, byte(experiment+1)), host)
	p.parameters(path, func(name string, value []byte) {
		for i := range len(name) {
			h = hashByte(h, name[i])
		}
		h = hashByte(h, 0)
		n := len(value)
		if validEncoding(value) {
			n = 0
			for i := 0; i < len(value); n++ {
				var c byte
				c, i = decodeAt(value, i)
				h = hashByte(h, c)
			}
		} else {
			h = hashBytes(h, value)
		}
		h = (h ^ uint64(n)) * fnvPrime // a value may hold what separates
	})
	return mixed(h)
}

// Stale says whether an exchange is comparable for an experiment whose index is
// given: whether an unsafe method on the same path of the same host, or on the
// same path parameters, was seen between 60 s before the request and replayed,
// the time of the replay in ns since the Unix epoch; with SeparateState, ever
// before replayed. A request whose own method is unsafe is Fresh: it was named
// to be replayed, and would else make itself stale.
//
// It may be called from any goroutine. For a capture file, ask with the time
// of the exchange's last byte and before anything later is read, so that the
// answer does not depend on how far reading is ahead.
func (s *Sampler) Stale(experiment int, x *exchange.Exchange, replayed int64) Staleness {
	req := x.Request
	if !readOnly([]byte(req.Method)) {
		return Fresh
	}
	e := &s.experiments[experiment]
	t := splitTarget([]byte(req.Target))
	host := hostOf(&t, []byte(req.Host))
	from := req.FirstByte - staleBefore
	if e.separate {
		from = -1 << 63
	}
	keys := [2]uint64{pathKey(host, t.path)}
	if c := x.Decision.Choices[experiment]; int(c.Route) < len(e.routes) {
		var p path
		p.split(t.path)
		if r := &e.routes[c.Route]; r.pattern.params(&p) != nil {
			keys[1] = paramsKey(experiment, host, r.pattern, &p)
		}
	}
	answer := Fresh
	for _, sh := range *s.shards.Load() {
		for _, key := range keys {
			if key == 0 {
				continue
			}
			switch sh.writes.between(key, from, replayed) {
			case Stale:
				return Stale
			case StaleUnknown:
				answer = StaleUnknown
			}
		}
	}
	return answer
}

// hostOf is the host that a request names: the target's authority in
// absolute-form (RFC 9112 section 3.2.2), else the Host field.
func hostOf(t *target, field []byte) []byte {
	if t.authority != nil {
		return t.authority
	}
	return field
}
