package publish

import (
	"hash/crc32"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A partitioner maps a key to a partition as librdkafka's of the same name
// does, so that a key lands where it did with another producer.
type keyHash struct {
	hash func(key []byte) uint32
	// random: records without a key (murmur2, fnv1a: nil; consistent: empty
	// too) go anywhere instead of to one partition.
	random bool
	// empty: an empty key counts as none.
	empty bool
}

// keyHashes has the partitioners of librdkafka's CONFIGURATION.md that hash.
// murmur2_random is the default of Java clients and of shadowtap,
// consistent_random that of librdkafka.
func keyHashes() map[string]keyHash {
	murmur := func(k []byte) uint32 { return murmur2(k) & 0x7fffffff }
	return map[string]keyHash{
		"consistent":        {hash: crc32.ChecksumIEEE},
		"consistent_random": {hash: crc32.ChecksumIEEE, random: true, empty: true},
		"murmur2":           {hash: murmur},
		"murmur2_random":    {hash: murmur, random: true},
		"fnv1a":             {hash: fnv1a},
		"fnv1a_random":      {hash: fnv1a, random: true},
	}
}

func partitionerNames() []string {
	return []string{"random", "consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random"}
}

// partitioner makes the franz-go form.
func partitioner(name string) kgo.Partitioner {
	h, ok := keyHashes()[name]
	return kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
		return func(r *kgo.Record, n int) int {
			none := r.Key == nil || h.empty && len(r.Key) == 0
			if !ok || h.random && none {
				return rand.IntN(n)
			}
			return int(h.hash(r.Key) % uint32(n))
		}
	})
}

// murmur2 is the hash of Kafka's Java clients (org.apache.kafka.common.utils
// .Utils.murmur2): MurmurHash2 by Austin Appleby, with this seed.
func murmur2(b []byte) uint32 {
	const m = 0x5bd1e995
	h := uint32(0x9747b28c) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	for i := len(b) - 1; i >= 0; i-- {
		h ^= uint32(b[i]) << (8 * i)
	}
	if len(b) > 0 {
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// fnv1a is librdkafka's, which takes the absolute value of the signed result.
func fnv1a(b []byte) uint32 {
	h := uint32(0x811c9dc5)
	for _, c := range b {
		h = (h ^ uint32(c)) * 0x01000193
	}
	if int32(h) < 0 {
		h = -h
	}
	return h
}
