package publish

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/shadowtap/shadowtap/agent/redact"
)

// KafkaConfig is what a Kafka sink is made of.
type KafkaConfig struct {
	// Name is the sink label of the ledger. Empty means "kafka".
	Name string
	// Topic takes the divergence records. Empty means "shadowtap.divergences".
	Topic string
	// Windows takes the window records. Empty means that they are not sent.
	Windows string
	// Properties are those of the client, from ReadProperties. Nil means the
	// defaults.
	Properties *Properties
	// Version is told to the brokers as the software's version. Empty means
	// "dev".
	Version string
	// Log is required. Secrets are never logged.
	Log *slog.Logger
}

// Kafka produces records to a topic for each kind: idempotent and acknowledged by
// all in-sync replicas unless told otherwise, with the record's key. While no
// broker can be reached it holds records up to queue.buffering.max.messages and
// .kbytes; then the newest are dropped and counted.
type Kafka struct {
	name    string
	topics  [redact.NumKinds]string // "" for what is not sent
	log     *slog.Logger
	create  bool
	options []kgo.Opt

	once    sync.Once
	client  *kgo.Client
	admin   *kadm.Client
	openErr error

	closeOnce sync.Once
	closed    chan struct{}

	// again takes records that a broker refused as part of a batch that was
	// too large for it; each is sent once more by itself.
	again        chan retry
	againPending atomic.Int64

	mu       sync.Mutex
	state    error // nil: connected
	produced error // what the last record came to
	told     [NumResults]bool
}

type retry struct {
	r    *kgo.Record
	done func(Result)
}

// maxAgain bounds the records that wait to be sent by themselves.
const maxAgain = 512

var (
	errNotYet = errors.New("not connected yet")
	errClosed = errors.New("closed")
)

// NewKafka checks c and reads the files that the properties name. It connects
// to nothing: that begins with Run or the first record.
func NewKafka(c KafkaConfig) (*Kafka, error) {
	if c.Log == nil {
		return nil, errors.New("publish: KafkaConfig.Log: missing")
	}
	if c.Properties == nil {
		c.Properties = &Properties{s: defaults()}
	}
	k := &Kafka{
		name: c.Name, topics: [...]string{redact.KindDivergence: c.Topic, redact.KindWindow: c.Windows}, log: c.Log, create: c.Properties.s.autoCreate,
		closed: make(chan struct{}), again: make(chan retry, maxAgain), state: errNotYet,
	}
	if k.name == "" {
		k.name = "kafka"
	}
	if k.topics[redact.KindDivergence] == "" {
		k.topics[redact.KindDivergence] = "shadowtap.divergences"
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	options, err := c.Properties.s.options()
	if err != nil {
		return nil, err
	}
	k.options = append(options,
		kgo.SoftwareNameAndVersion("shadowtap", softwareVersion(c.Version)),
		kgo.WithLogger(clientLog{c.Log.With("sink", k.name), c.Properties.s.debug}),
	)
	if err := kgo.ValidateOpts(k.options...); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return k, nil
}

// softwareVersion keeps what KIP-511 allows: letters, digits, dots and hyphens
// with a letter or digit at both ends.
func softwareVersion(v string) string {
	b := []byte(v)
	for i, c := range b {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.') {
			b[i] = '-'
		}
	}
	return "v" + string(b) + "x"[:btoi(len(b) == 0 || b[len(b)-1] == '-' || b[len(b)-1] == '.')]
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// options turns the settings into franz-go's.
func (s *settings) options() ([]kgo.Opt, error) {
	o := []kgo.Opt{
		kgo.SeedBrokers(s.brokers...),
		kgo.ClientID(s.clientID),
		kgo.ProducerLinger(s.linger),
		kgo.MaxBufferedRecords(s.maxRecords),
		kgo.MaxBufferedBytes(s.maxBytes),
		kgo.RecordRetries(s.retries),
		kgo.ProduceRequestTimeout(max(s.requestTimeout, 100*time.Millisecond)),
		kgo.RequestTimeoutOverhead(max(s.socketTimeout, 100*time.Millisecond)),
		kgo.RetryBackoffFn(s.wait),
		kgo.MetadataMaxAge(s.metadataMax),
		kgo.MetadataMinAge(min(max(s.metadataMin, 10*time.Millisecond), s.metadataMax)),
		kgo.ConnIdleTimeout(s.idleTimeout),
		kgo.RecordPartitioner(partitioner(s.partitioner)),
		kgo.ProducerBatchCompression(s.compression()),
		kgo.RequiredAcks(map[int]kgo.Acks{-1: kgo.AllISRAcks(), 0: kgo.NoAck(), 1: kgo.LeaderAck()}[s.acks]),
	}
	batch := s.batchBytes()
	o = append(o, kgo.ProducerBatchMaxBytes(int32(batch)))
	if write := 100 << 20; batch > write { // the client's default bound on a request
		o = append(o, kgo.BrokerMaxWriteBytes(int32(batch)+1<<10))
	}
	if s.idempotence != nil && !*s.idempotence {
		o = append(o, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(max(1, s.inFlight)))
	}
	if s.deliveryTimeout > 0 {
		o = append(o, kgo.RecordDeliveryTimeout(s.deliveryTimeout))
	}
	if s.autoCreate {
		o = append(o, kgo.AllowAutoTopicCreation())
	}
	if !s.metricsPush {
		o = append(o, kgo.DisableClientMetrics())
	}

	d := &dialer{plain: net.Dialer{Timeout: s.dialTimeout, KeepAlive: -1}, family: s.family, noDelay: s.noDelay}
	if s.keepAlive {
		d.plain.KeepAlive = 0
	}
	if s.protocol == "ssl" || s.protocol == "sasl_ssl" {
		c, err := s.tls.config()
		if err != nil {
			return nil, err
		}
		d.tls = c
	}
	o = append(o, kgo.Dialer(d.dial))
	if s.protocol == "sasl_plaintext" || s.protocol == "sasl_ssl" {
		https, err := s.tls.https()
		if err != nil {
			return nil, err
		}
		o = append(o, kgo.SASL(s.sasl.make(https)))
	}
	return o, nil
}

// batchBytes is the most that a record or a batch of them may have.
// batch.size of other clients is when a batch is sent and never keeps a larger
// record from being sent, so it only counts where it is larger.
func (s *settings) batchBytes() int {
	switch {
	case s.messageMax > 0:
		return s.messageMax
	case s.batchSize > 1_000_000:
		return min(s.batchSize, 1_000_000_000)
	}
	return 1_000_000
}

// wait is how long to wait before the try after so many failed ones: doubled
// each time up to the bound, and spread by a fifth.
func (s *settings) wait(fails int) time.Duration {
	d := s.backoff << min(max(fails-1, 0), 20)
	if d > s.backoffMax || d <= 0 {
		d = s.backoffMax
	}
	return d*4/5 + time.Duration(rand.Int64N(int64(d)*2/5+1))
}

func (s *settings) compression() kgo.CompressionCodec {
	c := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[s.codec]
	if s.level != codecDefault {
		c = c.WithLevel(s.level)
	}
	return c
}

// dialer connects to brokers.
type dialer struct {
	plain   net.Dialer
	tls     *tls.Config // nil without TLS
	family  string
	noDelay bool
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch d.family {
	case "v4":
		network = "tcp4"
	case "v6":
		network = "tcp6"
	}
	// The timeout bounds connect and handshake together.
	ctx, cancel := context.WithTimeout(ctx, d.plain.Timeout)
	defer cancel()
	conn, err := d.plain.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && !d.noDelay {
		_ = tcp.SetNoDelay(false) // only slower without it
	}
	if d.tls == nil {
		return conn, nil
	}
	c := d.tls.Clone()
	if c.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		c.ServerName = host
	}
	secure := tls.Client(conn, c)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("tls handshake with %s: %w", address, err)
	}
	return secure, nil
}

// Name is the sink label of the ledger.
func (k *Kafka) Name() string { return k.name }

// Takes says whether the kind has a topic.
func (k *Kafka) Takes(kind redact.Kind) bool { return k.topics[kind] != "" }

// open makes the client, once.
func (k *Kafka) open() error {
	k.once.Do(func() {
		k.client, k.openErr = kgo.NewClient(k.options...)
		if k.openErr == nil {
			k.admin = kadm.NewClient(k.client)
		}
	})
	return k.openErr
}

// Deliver gives a record to the client and returns at once.
func (k *Kafka) Deliver(rec *redact.Record, done func(Result)) {
	if err := k.open(); err != nil {
		k.settle(k.topics[rec.Kind()], err, done)
		return
	}
	headers := rec.Headers()
	r := &kgo.Record{Topic: k.topics[rec.Kind()], Key: rec.Key(), Value: rec.JSON(), Headers: make([]kgo.RecordHeader, len(headers))}
	for i, h := range headers {
		r.Headers[i] = kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)}
	}
	k.client.TryProduce(context.Background(), r, func(r *kgo.Record, err error) {
		if errors.Is(err, kerr.MessageTooLarge) && k.retryAlone(r, done) {
			return
		}
		k.settle(r.Topic, err, done)
	})
}

// retryAlone queues a record for another try by itself: a broker refuses a
// batch as a whole, also when only the sum is too large. Not queued: it would
// not help, or there is no room.
func (k *Kafka) retryAlone(r *kgo.Record, done func(Result)) bool {
	select {
	case <-k.closed:
		return false
	default:
	}
	k.againPending.Add(1)
	select {
	case k.again <- retry{&kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers}, done}:
		return true
	default:
		k.againPending.Add(-1)
		return false
	}
}

// resend sends one record by itself through a client that batches nothing else.
func (k *Kafka) resend(ctx context.Context, alone *kgo.Client, r retry) {
	defer k.againPending.Add(-1)
	err := alone.ProduceSync(ctx, r.r).FirstErr()
	k.settle(r.r.Topic, err, r.done)
}

// settle turns an error into a result, counts and remembers it.
func (k *Kafka) settle(topic string, err error, done func(Result)) {
	result := resultOf(err)
	k.mu.Lock()
	if result != Stopped && result != TooLarge { // those two say nothing of the way there
		k.produced = err
	}
	first := result != Acknowledged && result != Stopped && !k.told[result]
	if first {
		k.told[result] = true
	}
	k.mu.Unlock()
	if first {
		k.log.Warn("kafka dropped a record; further ones for this reason are only counted", "sink", k.name, "topic", topic, "reason", result.String(), "err", err)
	}
	done(result)
}

func resultOf(err error) Result {
	switch {
	case err == nil:
		return Acknowledged
	case errors.Is(err, kgo.ErrMaxBuffered):
		return QueueFull
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return TooLarge
	case errors.Is(err, kgo.ErrClientClosed), errors.Is(err, kgo.ErrAborting), errors.Is(err, context.Canceled), errors.Is(err, errClosed):
		return Stopped
	case errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries):
		return Timeout
	}
	return Broker
}

// Flush sends what is buffered and waits until all of it is acknowledged or
// failed, or ctx ends.
func (k *Kafka) Flush(ctx context.Context) error {
	if err := k.open(); err != nil {
		return nil // nothing can be buffered
	}
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		if err := k.client.Flush(ctx); err != nil {
			return err
		}
		if k.againPending.Load() == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends the client; what is buffered fails.
func (k *Kafka) Close() error {
	k.closeOnce.Do(func() {
		close(k.closed)
		// After this open makes no client any more.
		k.once.Do(func() { k.openErr = errClosed })
		if k.client != nil {
			k.client.Close()
		}
	})
	return nil
}

// Ready is nil while a broker answers, the topic can be produced to, and the
// last record was taken; else it says why not.
func (k *Kafka) Ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != nil {
		return k.state
	}
	return k.produced
}

// How often and how long Run asks a broker.
const (
	askWhileConnected = 5 * time.Second
	askWhileNot       = time.Second
	askTimeout        = 4 * time.Second
)

// Run keeps the connection state for Ready and sends refused records again. It
// returns nil when ctx ends.
func (k *Kafka) Run(ctx context.Context) error {
	if err := k.open(); err != nil {
		if errors.Is(err, errClosed) {
			return nil
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { k.runAgain(ctx) })
	wg.Go(func() { // Close ends Run too
		select {
		case <-k.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	for {
		err := k.ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		k.become(err)
		pause := askWhileConnected
		if err != nil {
			pause = askWhileNot
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// runAgain sends what a broker refused as part of a batch, until ctx ends.
func (k *Kafka) runAgain(ctx context.Context) {
	var alone *kgo.Client
	defer func() {
		if alone != nil {
			alone.Close()
		}
		for {
			select {
			case r := <-k.again:
				k.againPending.Add(-1)
				k.settle(r.r.Topic, errClosed, r.done)
			default:
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-k.again:
			if alone == nil {
				var err error
				if alone, err = kgo.NewClient(append(k.options[:len(k.options):len(k.options)], kgo.ProducerLinger(0))...); err != nil {
					k.againPending.Add(-1)
					k.settle(r.r.Topic, err, r.done)
					continue
				}
			}
			k.resend(ctx, alone, r)
		}
	}
}

// ask finds out whether records can be delivered.
func (k *Kafka) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := k.client.Ping(ctx); err != nil {
		return fmt.Errorf("no broker answers: %w", err)
	}
	var names []string
	for _, name := range k.topics {
		if name != "" {
			names = append(names, name)
		}
	}
	topics, err := k.admin.ListTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("ask for topic %s: %w", strings.Join(names, ", "), err)
	}
	for _, name := range names {
		switch t, ok := topics[name]; {
		case !ok:
		case errors.Is(t.Err, kerr.UnknownTopicOrPartition) && k.create:
			// The first record creates it, if the brokers allow that.
		case t.Err != nil:
			return fmt.Errorf("topic %s: %w", name, t.Err)
		}
	}
	return nil
}

// become notes the state and logs a change of it.
func (k *Kafka) become(err error) {
	k.mu.Lock()
	before := k.state
	k.state = err
	k.mu.Unlock()
	switch {
	case err == nil && before != nil:
		k.log.Info("kafka connected", "sink", k.name, "topic", k.topics[redact.KindDivergence])
	case err != nil && (before == nil || errors.Is(before, errNotYet)):
		k.log.Warn("kafka not connected; records wait in memory", "sink", k.name, "topic", k.topics[redact.KindDivergence], "err", err)
	}
}

// clientLog passes the client's own log on as debug lines: what an operator
// has to know, Kafka says itself.
type clientLog struct {
	log   *slog.Logger
	debug bool
}

// Level is franz-go's level.
func (l clientLog) Level() kgo.LogLevel {
	switch {
	case !l.log.Enabled(context.Background(), slog.LevelDebug):
		return kgo.LogLevelNone
	case l.debug:
		return kgo.LogLevelDebug
	}
	return kgo.LogLevelInfo
}

// Log passes one line on.
func (l clientLog) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.log.Debug("kafka client", append([]any{"text", msg}, keyvals...)...)
}
