package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ReadConfig says what is read of which topics.
type ReadConfig struct {
	// Topics are read, each partition from its first record to what is its end
	// when the reading begins, or to the first record of a transaction that is
	// open then. Required.
	Topics []string
	// Properties are those of the client, from ReadProperties. Nil means the
	// defaults. Those that only producers have make no difference.
	Properties *Properties
	// Since leaves out records that were published before. Zero means none.
	Since time.Time
	// Version is told to the brokers as the software's version. Empty means
	// "dev".
	Version string
	// Log is required.
	Log *slog.Logger
	// Each gets each record, in the order of its partition; value is valid for
	// the call. Its error ends the reading. Required.
	Each func(topic string, partition int32, offset int64, value []byte) error
}

const (
	// readAnswer is how long brokers may take to say where topics begin and end.
	readAnswer = 30 * time.Second
	// readPoll is how long one wait for records is, and readPatience after how
	// many in a row without any the reading is given up.
	readPoll     = 5 * time.Second
	readPatience = 6
	// What one fetch brings, in bytes, and how many run at once.
	readFetch      = 8 << 20
	readPartition  = 1 << 20
	readConcurrent = 4
)

// ErrNoTopic says that none of the topics exists.
var ErrNoTopic = errors.New("no such topic")

// ReadTopics reads topics to the ends that they have at the start, commits
// nothing, and creates no topic. It returns the topics that do not exist;
// it is ErrNoTopic when that is each of them.
func ReadTopics(ctx context.Context, c ReadConfig) (missing []string, err error) {
	switch {
	case c.Log == nil:
		return nil, errors.New("publish: ReadConfig.Log: missing")
	case c.Each == nil:
		return nil, errors.New("publish: ReadConfig.Each: missing")
	case len(c.Topics) == 0:
		return nil, errors.New("publish: ReadConfig.Topics: missing")
	}
	s := defaults()
	if c.Properties != nil {
		s = c.Properties.s
	}
	s.autoCreate = false
	options, err := s.options()
	if err != nil {
		return nil, err
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	client, err := kgo.NewClient(append(options,
		kgo.SoftwareNameAndVersion("shadowtap", softwareVersion(c.Version)), kgo.WithLogger(clientLog{c.Log, s.debug}),
		kgo.FetchMaxBytes(readFetch), kgo.FetchMaxPartitionBytes(readPartition), kgo.MaxConcurrentFetches(readConcurrent), kgo.FetchMaxWait(500*time.Millisecond),
		// A mirror may write by transactions. What one has taken back is no
		// record; without the marks at their ends these would never be reached.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	defer client.Close()
	r := &reading{c: &c, client: client, admin: kadm.NewClient(client), left: map[place]int64{}}
	if missing, err = r.begin(ctx); err != nil {
		return missing, err
	}
	return missing, r.run(ctx)
}

type place struct {
	topic string
	n     int32
}

// reading is one ReadTopics.
type reading struct {
	c      *ReadConfig
	client *kgo.Client
	admin  *kadm.Client
	left   map[place]int64 // to the offset at which it is done
}

// begin asks where the topics begin and end, and starts to fetch.
func (r *reading) begin(ctx context.Context) (missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readAnswer)
	defer cancel()
	ends, err := r.admin.ListCommittedOffsets(ctx, r.c.Topics...)
	if err != nil {
		return nil, fmt.Errorf("kafka: ask where the topics end: %w", err)
	}
	starts, err := r.starts(ctx)
	if err != nil {
		return nil, fmt.Errorf("kafka: ask where the topics begin: %w", err)
	}
	for _, topic := range r.c.Topics {
		if p, ok := ends.Lookup(topic, -1); ok && errors.Is(p.Err, kerr.UnknownTopicOrPartition) || len(ends[topic]) == 0 {
			missing = append(missing, topic)
		}
	}
	slices.Sort(missing)
	if len(missing) == len(r.c.Topics) {
		return missing, fmt.Errorf("kafka: %w: %q", ErrNoTopic, missing)
	}
	from := map[string]map[int32]kgo.Offset{}
	for topic, parts := range ends {
		if slices.Contains(missing, topic) {
			continue
		}
		from[topic] = map[int32]kgo.Offset{}
		for n, end := range parts {
			start, ok := starts.Lookup(topic, n)
			if err := errors.Join(end.Err, start.Err); err != nil || !ok {
				return missing, fmt.Errorf("kafka: ask where partition %d of topic %s begins and ends: %w", n, topic, err)
			}
			if start.Offset < end.Offset {
				from[topic][n] = kgo.NewOffset().At(start.Offset)
				r.left[place{topic, n}] = end.Offset
			}
		}
	}
	r.client.AddConsumePartitions(from)
	return missing, nil
}

func (r *reading) starts(ctx context.Context) (kadm.ListedOffsets, error) {
	if r.c.Since.IsZero() {
		return r.admin.ListStartOffsets(ctx, r.c.Topics...)
	}
	return r.admin.ListOffsetsAfterMilli(ctx, r.c.Since.UnixMilli(), r.c.Topics...)
}

// run hands over records until each partition is at its end.
func (r *reading) run(ctx context.Context) error {
	idle := 0
	for len(r.left) > 0 {
		poll, cancel := context.WithTimeout(ctx, readPoll)
		fetches := r.client.PollFetches(poll)
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return fmt.Errorf("kafka: read partition %d of topic %s: %w", e.Partition, e.Topic, e.Err)
			}
		}
		if fetches.NumRecords() > 0 {
			idle = 0
			if err := r.take(fetches); err != nil {
				return err
			}
			continue
		}
		if err := r.expired(ctx); err != nil {
			return err
		}
		if idle++; idle == readPatience && len(r.left) > 0 {
			return fmt.Errorf("kafka: %d partitions gave no further record for %s, though their ends are not reached", len(r.left), readPoll*readPatience)
		}
	}
	return nil
}

func (r *reading) take(fetches kgo.Fetches) error {
	for it := fetches.RecordIter(); !it.Done(); {
		rec := it.Next()
		p := place{rec.Topic, rec.Partition}
		end, reading := r.left[p]
		if !reading {
			continue
		}
		if rec.Offset < end && !rec.Attrs.IsControl() {
			if err := r.c.Each(rec.Topic, rec.Partition, rec.Offset, rec.Value); err != nil {
				return err
			}
		}
		if rec.Offset >= end-1 {
			r.done(p)
		}
	}
	return nil
}

func (r *reading) done(p place) {
	delete(r.left, p)
	r.client.PauseFetchPartitions(map[string][]int32{p.topic: {p.n}})
}

// expired ends partitions whose records went away meanwhile, because of their
// age.
func (r *reading) expired(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readAnswer)
	defer cancel()
	starts, err := r.admin.ListStartOffsets(ctx, r.c.Topics...)
	if err != nil {
		return fmt.Errorf("kafka: ask where the topics begin: %w", err)
	}
	for p, end := range r.left {
		if start, ok := starts.Lookup(p.topic, p.n); ok && start.Err == nil && start.Offset >= end {
			r.done(p)
		}
	}
	return nil
}
