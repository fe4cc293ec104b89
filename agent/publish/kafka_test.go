package publish

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/shadowtap/shadowtap/agent/redact"
)

const topic = "shadowtap.divergences"

func cluster(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(3, topic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// newKafka makes a sink for brokers with these properties.
func newKafka(t testing.TB, brokers []string, config map[string]string) *Kafka {
	t.Helper()
	all := map[string]string{"bootstrap.servers": strings.Join(brokers, ","), "enable.metrics.push": "false"}
	for k, v := range config {
		all[k] = v
	}
	p, _ := read(t, all)
	k, err := NewKafka(KafkaConfig{Properties: p, Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after 30 s still not: %s", what)
		}
	}
}

// consume reads n records of the topic from its start.
func consume(t testing.TB, brokers []string, n int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.MetadataMinAge(10 * time.Millisecond), kgo.FetchMaxWait(50 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all []*kgo.Record
	for len(all) < n {
		f := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%d of %d records read: %v", len(all), n, err)
		}
		all = append(all, f.Records()...)
	}
	return all
}

// records makes n that differ in their key.
func records(t testing.TB, n int, c redact.Config) []*redact.Record {
	t.Helper()
	r := redactor(t, c)
	p := newPair()
	in := p.compare(t)
	in.PublishWeight = 1
	var all []*redact.Record
	for i := range n {
		in.Exchange.Offset = uint64(i)
		x := *in.Exchange
		in.Params = []redact.Param{{Name: "id", Value: fmt.Sprint(i)}}
		in.Exchange = &x
		all = append(all, r.Record(in))
	}
	return all
}

// stats waits until nothing is in flight and gives the sink's line.
func settled(t testing.TB, p *Publisher) SinkStats {
	t.Helper()
	until(t, "everything settled", func() bool { return p.Stats()[0].InFlight == 0 })
	return p.Stats()[0]
}

// The main way: keys, values, headers, partitions, acknowledgements. Against a
// real broker too, when SHADOWTAP_TEST_KAFKA names one (host:port).
func TestKafka(t *testing.T) {
	brokers := []string{os.Getenv("SHADOWTAP_TEST_KAFKA")}
	if brokers[0] == "" {
		brokers = cluster(t, kfake.AllowAutoTopicCreation()).ListenAddrs()
	}
	const n = 200
	recs := records(t, n, redact.Config{})
	// Several runs against the same real broker must not see each other.
	k := newKafka(t, brokers, map[string]string{"compression.type": "lz4", "linger.ms": "20", "client.id": "test"})
	k.topics[redact.KindDivergence] = fmt.Sprintf("%s.%d", topic, time.Now().UnixNano())
	k.create = true
	p := newPublisher(t, Config{Sinks: []Sink{k}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	until(t, "ready", func() bool { return p.Ready() == nil })
	for _, r := range recs {
		p.Publish(r)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, n)
	if s := p.Stats()[0]; s.Results[Acknowledged] != n {
		t.Fatalf("%+v", s)
	}
	got := consume(t, brokers, n, kgo.ConsumeTopics(k.topics[redact.KindDivergence]))
	if len(got) != n {
		t.Fatalf("%d records, want %d", len(got), n)
	}
	byKey := map[string]*kgo.Record{}
	for _, r := range got {
		byKey[string(r.Key)] = r
	}
	for _, want := range recs {
		r := byKey[string(want.Key())]
		if r == nil {
			t.Fatalf("no record with key %s", want.Key())
		}
		if !bytes.Equal(r.Value, want.JSON()) {
			t.Errorf("key %s: value %s", want.Key(), r.Value)
		}
		headers := map[string]string{}
		for _, h := range r.Headers {
			headers[h.Key] = string(h.Value)
		}
		d := want.Divergence()
		if len(headers) != 7 || headers["ce_id"] != d.ID || headers["ce_type"] != redact.Schema || headers["content-type"] != "application/json" || headers["ce_specversion"] != "1.0" {
			t.Errorf("headers %v", headers)
		}
	}
	valid(t, got[0].Value)
}

// The sink makes the topic when it is missing and may be made, else it says so.
func TestKafkaTopicMissing(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := newKafka(t, c.ListenAddrs(), map[string]string{"allow.auto.create.topics": "false"})
	p := newPublisher(t, Config{Sinks: []Sink{k}})
	wait := start(t, t.Context(), p)
	until(t, "not ready because of the topic", func() bool {
		err := p.Ready()
		return err != nil && strings.Contains(err.Error(), topic) && strings.Contains(err.Error(), "UNKNOWN_TOPIC_OR_PARTITION")
	})
	p.Publish(records(t, 1, redact.Config{})[0])
	if s := settled(t, p); s.Results[Broker] != 1 {
		t.Errorf("%+v", s)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()

	k = newKafka(t, c.ListenAddrs(), nil)
	p = newPublisher(t, Config{Sinks: []Sink{k}})
	wait = start(t, t.Context(), p)
	until(t, "ready", func() bool { return p.Ready() == nil })
	p.Publish(records(t, 1, redact.Config{})[0])
	if s := settled(t, p); s.Results[Acknowledged] != 1 {
		t.Errorf("%+v", s)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
}

// Without a broker records wait up to the bound, the newest are dropped, and
// Stop keeps its deadline. When a broker comes, what waited is delivered.
func TestKafkaBrokerGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	k := newKafka(t, []string{address}, map[string]string{"queue.buffering.max.messages": "10", "retry.backoff.ms": "20", "retry.backoff.max.ms": "50"})
	p := newPublisher(t, Config{Sinks: []Sink{k}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	until(t, "not connected", func() bool {
		err := p.Ready()
		return err != nil && strings.Contains(err.Error(), "no broker answers")
	})
	recs := records(t, 25, redact.Config{})
	for _, r := range recs {
		p.Publish(r)
	}
	until(t, "all but 10 dropped", func() bool { s := p.Stats()[0]; return s.InFlight == 10 && s.Results[QueueFull] == 15 })

	c := cluster(t, kfake.Ports(port))
	until(t, "connected", func() bool { return p.Ready() == nil })
	if s := settled(t, p); s.Results[Acknowledged] != 10 || s.Results[QueueFull] != 15 {
		t.Errorf("%+v", s)
	}
	got := consume(t, c.ListenAddrs(), 10)
	oldest := map[string]bool{}
	for _, r := range recs[:10] {
		oldest[string(r.Key())] = true
	}
	for _, r := range got {
		if !oldest[string(r.Key)] {
			t.Errorf("key %s was delivered: not one of the oldest", r.Key)
		}
	}

	// Gone again, for good.
	c.Close()
	p.Publish(recs[0])
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: %v", err)
	}
	wait()
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("stopping took %v", d)
	}
	balanced(t, p, 26)
	if n := p.Stats()[0].Results[Stopped]; n != 1 {
		t.Errorf("%d dropped as stopped, want 1", n)
	}
}

// A broker that takes its time holds nobody up, and nothing is lost.
func TestKafkaSlowBroker(t *testing.T) {
	c := cluster(t)
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	k := newKafka(t, c.ListenAddrs(), nil)
	p := newPublisher(t, Config{Sinks: []Sink{k}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	recs := records(t, 50, redact.Config{})
	begin := time.Now()
	for _, r := range recs {
		p.Publish(r)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("Publish took %v", d)
	}
	if s := p.Stats()[0]; s.InFlight != 50 {
		t.Errorf("%+v", s)
	}
	close(release)
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 50)
	if n := len(consume(t, c.ListenAddrs(), 50)); n != 50 {
		t.Errorf("%d records", n)
	}
}

// A broker that answers everything but what is produced: the sink is not ready
// once records are dropped for it, and ready again when they are taken.
func TestKafkaFullIsNotReady(t *testing.T) {
	c := cluster(t)
	release := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	k := newKafka(t, c.ListenAddrs(), map[string]string{"queue.buffering.max.messages": "5"})
	p := newPublisher(t, Config{Sinks: []Sink{k}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	until(t, "ready", func() bool { return p.Ready() == nil })
	for _, r := range records(t, 8, redact.Config{}) {
		p.Publish(r)
	}
	until(t, "not ready", func() bool { err := p.Ready(); return err != nil && strings.Contains(err.Error(), "buffered") })
	close(release)
	until(t, "ready again", func() bool { return p.Ready() == nil })
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 8)
	if s := p.Stats()[0]; s.Results[Acknowledged] != 5 || s.Results[QueueFull] != 3 {
		t.Errorf("%+v", s)
	}
}

// A broker that never answers: what is in flight at the stop's deadline counts
// as stopped, and Run returns.
func TestKafkaHangs(t *testing.T) {
	c := cluster(t)
	forever := make(chan struct{})
	defer close(forever)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-forever })
		return nil, nil, false
	})
	k := newKafka(t, c.ListenAddrs(), nil)
	p := newPublisher(t, Config{Sinks: []Sink{k}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	for _, r := range records(t, 5, redact.Config{}) {
		p.Publish(r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: %v", err)
	}
	wait()
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("stopping took %v", d)
	}
	balanced(t, p, 5)
	if s := p.Stats()[0]; s.Results[Stopped] != 5 {
		t.Errorf("%+v", s)
	}
}

// Records that the client or the broker find too large are counted as such;
// those that are only part of a batch that is too large are delivered.
func TestKafkaTooLarge(t *testing.T) {
	c := cluster(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "12000"}))
	r := redactor(t, redact.Config{Values: redact.Full})
	record := func(size int) *redact.Record {
		p := newPair()
		p.in.PublishWeight = 1
		p.in.Params[0].Value = "same" // one partition, one batch
		p.in.Candidate.Response.Body = body(`{"x":"` + incompressible(size) + `"}`)
		return r.Record(p.compare(t))
	}
	k := newKafka(t, c.ListenAddrs(), map[string]string{"linger.ms": "200", "message.max.bytes": "100000"})
	p := newPublisher(t, Config{Sinks: []Sink{k}, PerFingerprint: -1})
	wait := start(t, t.Context(), p)
	until(t, "ready", func() bool { return p.Ready() == nil })
	for range 8 {
		p.Publish(record(2000)) // about 4 kB each: 32 kB together
	}
	p.Publish(record(30_000))  // too large for the broker
	p.Publish(record(150_000)) // too large for the client
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, p, 10)
	if s := p.Stats()[0]; s.Results[Acknowledged] != 8 || s.Results[TooLarge] != 2 {
		t.Errorf("%+v", s)
	}
	if n := len(consume(t, c.ListenAddrs(), 8)); n != 8 {
		t.Errorf("%d records", n)
	}
}

// incompressible is text of that many bytes.
func incompressible(n int) string {
	b := make([]byte, n/2)
	_, _ = rand.Read(b)
	return fmt.Sprintf("%x", b)
}

// A record too large is not sent again without end.
func TestKafkaTooLargeAlone(t *testing.T) {
	c := cluster(t, kfake.BrokerConfigs(map[string]string{"message.max.bytes": "500"}))
	var produced int
	var mu sync.Mutex
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		mu.Lock()
		produced++
		mu.Unlock()
		return nil, nil, false
	})
	k := newKafka(t, c.ListenAddrs(), nil)
	p := newPublisher(t, Config{Sinks: []Sink{k}})
	wait := start(t, t.Context(), p)
	p.Publish(records(t, 1, redact.Config{})[0])
	if s := settled(t, p); s.Results[TooLarge] != 1 {
		t.Errorf("%+v", s)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	mu.Lock()
	defer mu.Unlock()
	if produced != 2 {
		t.Errorf("sent %d times, want 2", produced)
	}
}

// certificates makes a CA, and a server and a client certificate of it.
type certificates struct {
	dir            string
	ca             *x509.CertPool
	server, client tls.Certificate
}

func newCertificates(t testing.TB, serverName string) *certificates {
	t.Helper()
	c := &certificates{dir: t.TempDir(), ca: x509.NewCertPool()}
	fail := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	fail(err)
	write := func(name, kind string, der []byte) {
		fail(os.WriteFile(filepath.Join(c.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	write("ca.pem", "CERTIFICATE", caDER)
	parsed, err := x509.ParseCertificate(caDER)
	fail(err)
	c.ca.AddCert(parsed)
	leaf := func(serial int64, name string, usage x509.ExtKeyUsage) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		fail(err)
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			ExtKeyUsage: []x509.ExtKeyUsage{usage},
		}
		if ip := net.ParseIP(name); ip != nil {
			cert.IPAddresses = []net.IP{ip}
		} else {
			cert.DNSNames = []string{name}
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
		fail(err)
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		fail(err)
		write(fmt.Sprintf("cert%d.pem", serial), "CERTIFICATE", der)
		write(fmt.Sprintf("key%d.pem", serial), "PRIVATE KEY", keyDER)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	c.server = leaf(2, serverName, x509.ExtKeyUsageServerAuth)
	c.client = leaf(3, "client", x509.ExtKeyUsageClientAuth)
	return c
}

func (c *certificates) path(name string) string { return filepath.Join(c.dir, name) }

// works says whether a record gets through with these properties, and else why
// not.
func works(t testing.TB, brokers []string, config map[string]string) error {
	t.Helper()
	k := newKafka(t, brokers, config)
	p := newPublisher(t, Config{Sinks: []Sink{k}})
	wait := start(t, t.Context(), p)
	defer wait()
	defer func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_ = p.Stop(ctx) // with what could not be delivered
	}()
	var err error
	until(t, "an answer", func() bool { err = p.Ready(); return !errors.Is(err, errNotYet) })
	if err != nil {
		return err
	}
	p.Publish(records(t, 1, redact.Config{})[0])
	if s := settled(t, p); s.Results[Acknowledged] != 1 {
		return fmt.Errorf("%+v", s)
	}
	return nil
}

func TestKafkaTLS(t *testing.T) {
	certs := newCertificates(t, "127.0.0.1")
	c := cluster(t, kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{certs.server}, ClientCAs: certs.ca, ClientAuth: tls.RequireAndVerifyClientCert,
	}))
	wrongName := newCertificates(t, "elsewhere.example")
	c2 := cluster(t, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{wrongName.server}}))
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	client := map[string]string{
		"security.protocol": "ssl", "ssl.ca.location": certs.path("ca.pem"), "ssl.certificate.location": certs.path("cert3.pem"), "ssl.key.location": certs.path("key3.pem"),
	}
	without := func(name string) map[string]string {
		m := map[string]string{}
		for k, v := range client {
			if k != name {
				m[k] = v
			}
		}
		return m
	}
	for _, tc := range []struct {
		name    string
		brokers []string
		config  map[string]string
		want    string // in the error; "" for none
	}{
		{"files", c.ListenAddrs(), client, ""},
		{"text", c.ListenAddrs(), map[string]string{
			"security.protocol": "ssl", "ssl.ca.pem": read(certs.path("ca.pem")), "ssl.certificate.pem": read(certs.path("cert3.pem")), "ssl.key.pem": read(certs.path("key3.pem")),
		}, ""},
		{"folder of CAs", c.ListenAddrs(), map[string]string{
			"security.protocol": "ssl", "ssl.ca.location": certs.dir, "ssl.certificate.pem": read(certs.path("cert3.pem")) + read(certs.path("key3.pem")),
		}, ""},
		{"unknown CA", c.ListenAddrs(), without("ssl.ca.location"), "certificate signed by unknown authority"},
		{"wrong name", c2.ListenAddrs(), map[string]string{"security.protocol": "ssl", "ssl.ca.location": wrongName.path("ca.pem")}, "cannot validate certificate for 127.0.0.1"},
		{"name not looked at", c2.ListenAddrs(), map[string]string{
			"security.protocol": "ssl", "ssl.ca.location": wrongName.path("ca.pem"), "ssl.endpoint.identification.algorithm": "none",
		}, ""},
		{"name not looked at, the chain is", c2.ListenAddrs(), map[string]string{
			"security.protocol": "ssl", "ssl.ca.location": certs.path("ca.pem"), "ssl.endpoint.identification.algorithm": "none",
		}, "certificate signed by unknown authority"},
		{"nothing looked at", c2.ListenAddrs(), map[string]string{"security.protocol": "ssl", "enable.ssl.certificate.verification": "false"}, ""},
		{"no client certificate", c.ListenAddrs(), map[string]string{"security.protocol": "ssl", "ssl.ca.location": certs.path("ca.pem")}, "certificate required"},
		{"no TLS", c.ListenAddrs(), nil, "no broker answers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := works(t, tc.brokers, tc.config)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestKafkaSASL(t *testing.T) {
	var opts []kfake.Opt
	opts = append(opts, kfake.EnableSASL())
	for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		opts = append(opts, kfake.Superuser(m, "user-"+m, "pass-"+m))
	}
	certs := newCertificates(t, "127.0.0.1")
	plain, secure := cluster(t, opts...), cluster(t, append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{certs.server}}))...)
	for _, m := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		config := map[string]string{"security.protocol": "sasl_plaintext", "sasl.mechanism": m, "sasl.username": "user-" + m, "sasl.password": "pass-" + m}
		if err := works(t, plain.ListenAddrs(), config); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		config["security.protocol"], config["ssl.ca.location"] = "sasl_ssl", certs.path("ca.pem")
		if err := works(t, secure.ListenAddrs(), config); err != nil {
			t.Errorf("%s over TLS: %v", m, err)
		}
		config["sasl.password"] = "wr0ng"
		if err := works(t, secure.ListenAddrs(), config); err == nil || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s with a wrong password: %v", m, err)
		}
	}
	if err := works(t, plain.ListenAddrs(), nil); err == nil {
		t.Error("without SASL it works")
	}
}

// What is logged, from connecting to a refused password, holds no secret.
func TestKafkaLogsNoSecret(t *testing.T) {
	var b syncBuffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := cluster(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "right"))
	p, warnings := read(t, map[string]string{
		"bootstrap.servers": c.ListenAddrs()[0], "security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "s3cr3t-pw", "debug": "all",
	})
	k, err := NewKafka(KafkaConfig{Properties: p, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	pub := newPublisher(t, Config{Sinks: []Sink{k}})
	wait := start(t, t.Context(), pub)
	until(t, "refused", func() bool { err := pub.Ready(); return err != nil && !errors.Is(err, errNotYet) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := pub.Stop(ctx); err != nil {
		t.Error(err)
	}
	wait()
	all := b.String() + strings.Join(warnings, "") + fmt.Sprint(pub.Ready())
	if strings.Contains(all, "s3cr3t-pw") {
		t.Errorf("the password is in the log: %s", all)
	}
	if !strings.Contains(all, "kafka not connected") || !strings.Contains(all, "kafka client") {
		t.Errorf("the log does not say what happened: %s", all)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A state is logged once, not at every look.
func TestKafkaLogsChanges(t *testing.T) {
	var b syncBuffer
	k, err := NewKafka(KafkaConfig{Log: slog.New(slog.NewTextHandler(&b, nil))})
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	for _, err := range []error{gone, gone, nil, nil, gone, gone, gone, nil} {
		k.become(err)
	}
	if c, n := strings.Count(b.String(), "kafka connected"), strings.Count(b.String(), "kafka not connected"); c != 2 || n != 2 {
		t.Errorf("connected %d times, not connected %d times:\n%s", c, n, b.String())
	}
	done := func(Result) {}
	for range 3 {
		k.settle("t", kgo.ErrMaxBuffered, done)
		k.settle("t", kgo.ErrClientClosed, done)
	}
	if n := strings.Count(b.String(), "kafka dropped"); n != 1 {
		t.Errorf("%d lines about drops, want 1:\n%s", n, b.String())
	}
}

// The hashes of murmur2 and FNV-1a for "kafka", "giberish123456789" and nothing
// stand in librdkafka's own unit tests; all of them, and CRC-32, were computed
// with Python.
func TestPartitionerHashes(t *testing.T) {
	for _, c := range []struct {
		key              string
		crc, murmur, fnv uint32
	}{
		{"", 0, 0x106e08d9, 0x7ee3623b},
		{"kafka", 0x5bbc7517, 0xd067cf64, 0xd33c4e1},
		{"giberish123456789", 0x7b3a8e3f, 0x8f552b0c, 0x77a58295},
		{"a", 0xe8b7be43, 0xa2d0b27c, 0x1bf3d6d4},
		{"/users/{id}", 0x5e6ba746, 0xf3efc327, 0x31ec5d10},
		{"42", 0x3224b088, 0x18e59c6c, 0x781c7a7d},
		{"abc", 0x352441c2, 0x1c94221b, 0x1a47e90b},
		{"1234567", 0x5003699f, 0xdbed38c6, 0x63ae7927},
	} {
		k := []byte(c.key)
		if crc, m, f := crc32.ChecksumIEEE(k), murmur2(k), fnv1a(k); crc != c.crc || m != c.murmur || f != c.fnv {
			t.Errorf("%q: crc32 %#x murmur2 %#x fnv1a %#x, want %#x %#x %#x", c.key, crc, m, f, c.crc, c.murmur, c.fnv)
		}
		// franz-go's own default is murmur2 too.
		own := kgo.StickyKeyPartitioner(nil).ForTopic("t").Partition(&kgo.Record{Key: k}, 1000)
		if got := partitioner("murmur2").ForTopic("t").Partition(&kgo.Record{Key: k}, 1000); c.key != "" && got != own {
			t.Errorf("%q: partition %d, franz-go's default gives %d", c.key, got, own)
		}
	}
}

// Where librdkafka sends records with an empty key or none.
func TestPartitionersWithoutKey(t *testing.T) {
	for name, spreads := range map[string]struct{ empty, none bool }{
		"random": {true, true}, "consistent": {false, false}, "consistent_random": {true, true}, "murmur2": {false, false},
		"murmur2_random": {false, true}, "fnv1a": {false, false}, "fnv1a_random": {false, true},
	} {
		p := partitioner(name).ForTopic("t")
		for _, c := range []struct {
			key  []byte
			want bool
		}{{nil, spreads.none}, {[]byte{}, spreads.empty}} {
			seen := map[int]bool{}
			for range 200 {
				n := p.Partition(&kgo.Record{Key: c.key}, 5)
				if n < 0 || n > 4 {
					t.Fatalf("%s: partition %d of 5", name, n)
				}
				seen[n] = true
			}
			if got := len(seen) > 1; got != c.want {
				t.Errorf("%s, key %#v: %d partitions used", name, c.key, len(seen))
			}
		}
	}
}

func TestNewKafkaErrors(t *testing.T) {
	if _, err := NewKafka(KafkaConfig{}); err == nil || !strings.Contains(err.Error(), "Log") {
		t.Errorf("no log: %v", err)
	}
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config map[string]string
		want   string
	}{
		{map[string]string{"ssl.ca.location": filepath.Join(dir, "none")}, "ssl.ca.location"},
		{map[string]string{"ssl.ca.location": empty}, "no certificate in it"},
		{map[string]string{"ssl.ca.pem": "x"}, "ssl.ca.pem: no certificate in it"},
		{map[string]string{"ssl.key.pem": "s3cr3t"}, "ssl.certificate.* is missing"},
		{map[string]string{"ssl.certificate.location": filepath.Join(dir, "none")}, "ssl.certificate.location"},
		{map[string]string{"ssl.certificate.pem": "x", "ssl.key.pem": "s3cr3t"}, "no private key in it"},
	} {
		c.config["security.protocol"] = "ssl"
		p, _ := read(t, c.config)
		if _, err := NewKafka(KafkaConfig{Properties: p, Log: discard}); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%v: error %v, want %q in it", c.config, err, c.want)
		}
	}
	p, _ := read(t, map[string]string{"client.id": strings.Repeat("x", 300)})
	if _, err := NewKafka(KafkaConfig{Properties: p, Log: discard}); err == nil || !strings.Contains(err.Error(), "client id") {
		t.Errorf("long client id: %v", err)
	}
}

// A sink that was never used makes no client, and can be closed.
func TestKafkaCloseUnused(t *testing.T) {
	k, err := NewKafka(KafkaConfig{Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if k.client != nil {
		t.Error("Close made a client")
	}
	if r := deliver(k, newPair().record(t, redact.Config{})); r != Stopped {
		t.Errorf("delivered after Close: %v", r)
	}
	if err := k.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	if err := k.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if k.Ready() == nil {
		t.Error("ready without a connection")
	}
}

// Compression, acks, partitions: what the properties say is what is sent.
func TestKafkaProduces(t *testing.T) {
	for _, tc := range []struct {
		config map[string]string
		check  func(r *kgo.Record) error
	}{
		{map[string]string{"compression.type": "gzip"}, func(r *kgo.Record) error { return codec(r, kgo.CodecGzip) }},
		{map[string]string{"compression.type": "zstd", "compression.level": "3"}, func(r *kgo.Record) error { return codec(r, kgo.CodecZstd) }},
		{map[string]string{"acks": "1"}, func(r *kgo.Record) error { return producer(r, false) }},
		{map[string]string{"acks": "0"}, func(r *kgo.Record) error { return producer(r, false) }},
		{map[string]string{"enable.idempotence": "false"}, func(r *kgo.Record) error { return producer(r, false) }},
		{nil, func(r *kgo.Record) error { return producer(r, true) }},
		{map[string]string{"partitioner": "consistent_random"}, func(r *kgo.Record) error { return partition(r, crc32.ChecksumIEEE(r.Key)%3) }},
		{map[string]string{"partitioner": "murmur2"}, func(r *kgo.Record) error { return partition(r, murmur2(r.Key)&0x7fffffff%3) }},
		{map[string]string{"partitioner": "fnv1a_random"}, func(r *kgo.Record) error { return partition(r, fnv1a(r.Key)%3) }},
	} {
		t.Run(fmt.Sprint(tc.config), func(t *testing.T) {
			c := cluster(t)
			p := newPublisher(t, Config{Sinks: []Sink{newKafka(t, c.ListenAddrs(), tc.config)}, PerFingerprint: -1})
			wait := start(t, t.Context(), p)
			for _, r := range records(t, 20, redact.Config{}) {
				p.Publish(r)
			}
			if err := p.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			wait()
			balanced(t, p, 20)
			for _, r := range consume(t, c.ListenAddrs(), 20) {
				if err := tc.check(r); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func codec(r *kgo.Record, want kgo.CompressionCodecType) error {
	if got := r.Attrs.CompressionType(); got != uint8(want) {
		return fmt.Errorf("compression %d, want %d", got, want)
	}
	return nil
}

func producer(r *kgo.Record, idempotent bool) error {
	if got := r.ProducerID >= 0; got != idempotent {
		return fmt.Errorf("producer id %d: idempotent %v, want %v", r.ProducerID, got, idempotent)
	}
	return nil
}

func partition(r *kgo.Record, want uint32) error {
	if r.Partition != int32(want) {
		return fmt.Errorf("key %s in partition %d, want %d", r.Key, r.Partition, want)
	}
	return nil
}

// The client names itself to the brokers.
func TestKafkaNamesItself(t *testing.T) {
	c := cluster(t)
	var mu sync.Mutex
	var seen []string
	c.ControlKey(int16(kmsg.ApiVersions), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		v := r.(*kmsg.ApiVersionsRequest)
		mu.Lock()
		seen = append(seen, v.ClientSoftwareName+" "+v.ClientSoftwareVersion)
		mu.Unlock()
		return nil, nil, false
	})
	p, _ := read(t, map[string]string{"bootstrap.servers": c.ListenAddrs()[0]})
	k, err := NewKafka(KafkaConfig{Properties: p, Version: "1.2.3", Log: discard})
	if err != nil {
		t.Fatal(err)
	}
	pub := newPublisher(t, Config{Sinks: []Sink{k}})
	wait := start(t, t.Context(), pub)
	until(t, "ready", func() bool { return pub.Ready() == nil })
	if err := pub.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	wait()
	mu.Lock()
	defer mu.Unlock()
	if len(seen) == 0 || seen[0] != "shadowtap v1.2.3" {
		t.Errorf("seen %q", seen)
	}
}

// A topic that may not be written to shows in readiness once it was tried.
func TestKafkaNotAllowed(t *testing.T) {
	c := cluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "admin"),
		kfake.User("PLAIN", "u", "p", kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: topic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationDescribe, Allow: true}))
	k := newKafka(t, c.ListenAddrs(), map[string]string{"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"})
	p := newPublisher(t, Config{Sinks: []Sink{k}})
	wait := start(t, t.Context(), p)
	until(t, "ready", func() bool { return p.Ready() == nil })
	p.Publish(records(t, 1, redact.Config{})[0])
	if s := settled(t, p); s.Results[Broker] != 1 {
		t.Errorf("%+v", s)
	}
	if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "AUTHORIZATION") {
		t.Errorf("Ready: %v", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	wait()
}

// delivery.timeout.ms ends the waiting for a broker.
func TestKafkaDeliveryTimeout(t *testing.T) {
	k := newKafka(t, []string{"127.0.0.1:1"}, map[string]string{"delivery.timeout.ms": "1000", "retry.backoff.ms": "10"})
	p := newPublisher(t, Config{Sinks: []Sink{k}})
	wait := start(t, t.Context(), p)
	p.Publish(records(t, 1, redact.Config{})[0])
	if s := settled(t, p); s.Results[Timeout] != 1 {
		t.Errorf("%+v", s)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	wait()
}
