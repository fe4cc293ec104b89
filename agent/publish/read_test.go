package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readAll reads topics and gives the values in their order.
func readAll(t *testing.T, c *kfake.Cluster, change func(r *ReadConfig)) (values, missing []string, err error) {
	t.Helper()
	p, _ := read(t, map[string]string{"bootstrap.servers": strings.Join(c.ListenAddrs(), ","), "enable.metrics.push": "false"})
	r := ReadConfig{Topics: []string{topic, "shadowtap.windows"}, Properties: p, Log: discard, Each: func(_ string, _ int32, _ int64, value []byte) error {
		values = append(values, string(value))
		return nil
	}}
	if change != nil {
		change(&r)
	}
	missing, err = ReadTopics(t.Context(), r)
	slices.Sort(values)
	return values, missing, err
}

// produce writes values over all partitions of a topic.
func produce(t *testing.T, c *kfake.Cluster, topic string, at time.Time, values ...string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DisableClientMetrics(), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, v := range values {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(v), Timestamp: at}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func numbered(prefix string, from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%s%03d", prefix, i))
	}
	return out
}

// All that was there when the reading began is read, once, of every partition
// and topic; what is not there is said, and nothing is created.
func TestReadTopics(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "shadowtap.windows"))
	if got, missing, err := readAll(t, c, nil); len(got) != 0 || len(missing) != 0 || err != nil {
		t.Fatalf("empty topics: %q, %q, %v", got, missing, err)
	}
	hour := time.Now().Add(-time.Hour)
	produce(t, c, topic, hour, numbered("old", 0, 20)...)
	produce(t, c, topic, hour.Add(30*time.Minute), numbered("new", 0, 20)...)
	produce(t, c, "shadowtap.windows", hour, numbered("w", 0, 20)...)
	want := slices.Concat(numbered("new", 0, 20), numbered("old", 0, 20), numbered("w", 0, 20))
	if got, missing, err := readAll(t, c, nil); !slices.Equal(got, want) || len(missing) != 0 || err != nil {
		t.Errorf("read %q\n%q, %v", got, missing, err)
	}
	got, missing, err := readAll(t, c, func(r *ReadConfig) { r.Topics, r.Since = []string{topic, "none"}, hour.Add(time.Minute) })
	if !slices.Equal(got, want[:20]) || !slices.Equal(missing, []string{"none"}) || err != nil {
		t.Errorf("since: %q\n%q, %v", got, missing, err)
	}
	_, missing, err = readAll(t, c, func(r *ReadConfig) { r.Topics = []string{"none", "nor this"} })
	if !errors.Is(err, ErrNoTopic) || !strings.Contains(err.Error(), `"nor this"`) || len(missing) != 2 {
		t.Errorf("%q, %v", missing, err)
	}
	broken := errors.New("broken")
	if _, _, err := readAll(t, c, func(r *ReadConfig) { r.Each = func(string, int32, int64, []byte) error { return broken } }); !errors.Is(err, broken) {
		t.Errorf("an error of Each: %v", err)
	}
}

// What comes while it reads is for the next time: it ends.
func TestReadTopicsEnds(t *testing.T) {
	c := cluster(t)
	produce(t, c, topic, time.Now(), numbered("a", 0, 6)...)
	n := 0
	_, _, err := readAll(t, c, func(r *ReadConfig) {
		r.Topics = []string{topic}
		r.Each = func(string, int32, int64, []byte) error {
			n++
			produce(t, c, topic, time.Now(), numbered("b", 0, 3)...)
			return nil
		}
	})
	if err != nil || n != 6 {
		t.Errorf("read %d records, %v", n, err)
	}
}

// What transactions wrote is read if they were committed. Their marks take
// offsets, the last ones too, and are no records.
func TestReadTopicsTransactions(t *testing.T) {
	c := cluster(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DisableClientMetrics(), kgo.TransactionalID("mirror"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var want []string
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		values := numbered(fmt.Sprint("t", i, "-"), 0, 9)
		for _, v := range values {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
		if end == kgo.TryCommit {
			want = append(want, values...)
		}
	}
	only := func(r *ReadConfig) { r.Topics = []string{topic} }
	if got, _, err := readAll(t, c, only); !slices.Equal(got, want) || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	// One that is open has no records yet, and holds nothing up.
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("open")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got, _, err := readAll(t, c, only); !slices.Equal(got, want) || err != nil {
		t.Errorf("with an open one: read %q, %v", got, err)
	}
}

// sparse makes a topic of one partition with six records of nearly a megabyte,
// so that they come one after the other.
func sparse(t *testing.T, c *kfake.Cluster, policy string) (cl *kgo.Client, put func(key, value string)) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DisableClientMetrics(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &policy}, "sparse"); err != nil {
		t.Fatal(err)
	}
	put = func(key, value string) {
		t.Helper()
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "sparse", Key: []byte(key), Value: []byte(value + strings.Repeat(".", 900<<10))}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range numbered("k", 0, 6) {
		put(k, k)
	}
	return cl, put
}

// A topic that is compacted while it is read ends, though nothing lies any more
// where its end was, and what came later is for the next time.
func TestReadTopicsCompacted(t *testing.T) {
	c := cluster(t)
	_, put := sparse(t, c, "compact")
	n := 0
	var got []string
	_, _, err := readAll(t, c, func(r *ReadConfig) {
		r.Topics = []string{"sparse"}
		r.Each = func(_ string, _ int32, _ int64, value []byte) error {
			got = append(got, string(value[:4]))
			if n++; n == 1 {
				put("k004", "new4")
				put("k005", "new5")
				put("last", "last") // the last one is never compacted
				c.Compact()
			}
			return nil
		}
	})
	if want := numbered("k", 0, 4); !slices.Equal(got, want) || err != nil {
		t.Errorf("read %q, want %q, %v", got, want, err)
	}
}

// A topic whose records go away while it is read ends too.
func TestReadTopicsExpired(t *testing.T) {
	c := cluster(t)
	cl, _ := sparse(t, c, "delete")
	n := 0
	_, _, err := readAll(t, c, func(r *ReadConfig) {
		r.Topics = []string{"sparse"}
		r.Each = func(string, int32, int64, []byte) error {
			if n++; n == 1 {
				of := kadm.Offsets{}
				of.AddOffset("sparse", 0, 6, -1)
				if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), of); err != nil {
					t.Error(err)
				}
			}
			return nil
		}
	})
	if n == 6 || err != nil {
		t.Errorf("read %d records, %v", n, err)
	}
}

func TestReadTopicsStops(t *testing.T) {
	c := cluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, _ := read(t, map[string]string{"bootstrap.servers": strings.Join(c.ListenAddrs(), ",")})
	if _, err := ReadTopics(ctx, ReadConfig{Topics: []string{topic}, Properties: p, Log: discard, Each: func(string, int32, int64, []byte) error { return nil }}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, r := range []ReadConfig{{}, {Log: discard}, {Log: discard, Each: func(string, int32, int64, []byte) error { return nil }}} {
		if _, err := ReadTopics(t.Context(), r); err == nil || !strings.HasPrefix(err.Error(), "publish: ReadConfig.") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}
