package reassembly

import "hash/maphash"

// table finds connections by their keys. A Go map of them would hold each key once
// more, at up to twice its size; here a connection costs the table one pointer. It
// grows by linear hashing, a bucket at a time, so that no segment has to wait until
// all are in another place.
type table struct {
	// buckets begin lists that go on by Conn.next. There are as many as there were
	// connections at most.
	buckets []*Conn
	// mask is the least power of two that is not below their number, less one.
	mask uint64
	n    int
	seed maphash.Seed
}

// newTable makes one with room for n connections.
func newTable(n int) table {
	return table{buckets: make([]*Conn, 1, max(n, 1)), seed: maphash.MakeSeed()}
}

func (t *table) hash(k *key) uint64 { return maphash.Comparable(t.seed, *k) }

// bucket is where the list of k begins.
func (t *table) bucket(k *key) **Conn {
	i := t.hash(k) & t.mask
	if i >= uint64(len(t.buckets)) {
		i &= t.mask >> 1 // the bucket has not been split yet
	}
	return &t.buckets[i]
}

// find gives the connection of the key k, or nil.
func (t *table) find(k *key) *Conn {
	c := *t.bucket(k)
	for c != nil && c.key != *k {
		c = c.next
	}
	return c
}

// put adds c, whose key no other has.
func (t *table) put(c *Conn) {
	if t.n++; t.n > len(t.buckets) {
		t.split()
	}
	at := t.bucket(&c.key)
	c.next, *at = *at, c
}

// remove takes c out.
func (t *table) remove(c *Conn) {
	at := t.bucket(&c.key)
	for *at != c {
		at = &(*at).next
	}
	*at, c.next = c.next, nil
	t.n--
}

// split adds a bucket and moves into it what belongs there of the one that had it
// so far.
func (t *table) split() {
	last := uint64(len(t.buckets))
	t.buckets = append(t.buckets, nil)
	if last > t.mask {
		t.mask = t.mask<<1 | 1
	}
	from, to := &t.buckets[last&(t.mask>>1)], &t.buckets[last]
	for *from != nil {
		c := *from
		if t.hash(&c.key)&t.mask != last {
			from = &c.next
			continue
		}
		*from = c.next
		c.next, *to = *to, c
	}
}
