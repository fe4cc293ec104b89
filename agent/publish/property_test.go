package publish

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func read(t testing.TB, config map[string]string, env ...string) (*Properties, []string) {
	t.Helper()
	p, w, err := ReadProperties(config, env)
	if err != nil {
		t.Fatal(err)
	}
	return p, w
}

// Every property of the table, set to something else than its default, by each
// of its names, from the configuration and from the environment.
func TestProperties(t *testing.T) {
	sasl := map[string]string{"security.protocol": "sasl_ssl", "sasl.username": "u", "sasl.password": "p"}
	oidc := map[string]string{
		"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "c",
		"sasl.oauthbearer.client.secret": "s", "sasl.oauthbearer.token.endpoint.url": "https://idp/token",
	}
	for _, c := range []struct {
		names string
		value string
		get   func(*settings) any
		want  any
		with  map[string]string // what it needs beside it
	}{
		{"bootstrap.servers metadata.broker.list", "a:1, SASL_SSL://b:2 ,c", func(s *settings) any { return strings.Join(s.brokers, " ") }, "a:1 b:2 c", nil},
		{"client.id", "x", func(s *settings) any { return s.clientID }, "x", nil},
		{"security.protocol", "SSL", func(s *settings) any { return s.protocol }, "ssl", nil},
		{"ssl.ca.location", "/ca", func(s *settings) any { return s.tls.caFile }, "/ca", nil},
		{"ssl.ca.pem", "x", func(s *settings) any { return s.tls.caPEM }, "x", nil},
		{"ssl.certificate.location", "/c", func(s *settings) any { return s.tls.certFile }, "/c", nil},
		{"ssl.certificate.pem", "x", func(s *settings) any { return s.tls.certPEM }, "x", nil},
		{"ssl.key.location", "/k", func(s *settings) any { return s.tls.keyFile }, "/k", nil},
		{"ssl.key.pem", "x", func(s *settings) any { return s.tls.keyPEM }, "x", nil},
		{"ssl.key.password", "x", func(s *settings) any { return s.tls.keyPass }, "x", nil},
		{"enable.ssl.certificate.verification", "false", func(s *settings) any { return s.tls.verify }, false, nil},
		{"ssl.endpoint.identification.algorithm", "none", func(s *settings) any { return s.tls.identification }, "none", nil},
		{"https.ca.location", "/ca", func(s *settings) any { return s.tls.httpsCAFile }, "/ca", nil},
		{"https.ca.pem", "x", func(s *settings) any { return s.tls.httpsCAPEM }, "x", nil},
		{"sasl.mechanism sasl.mechanisms", "scram-sha-512", func(s *settings) any { return s.sasl.mechanism }, "SCRAM-SHA-512", sasl},
		{"sasl.username", "v", func(s *settings) any { return s.sasl.username }, "v", nil},
		{"sasl.password", "v", func(s *settings) any { return s.sasl.password }, "v", nil},
		{"sasl.oauthbearer.method", "oidc", func(s *settings) any { return s.sasl.method }, "oidc", nil},
		{"sasl.oauthbearer.config", "principal=x", func(s *settings) any { return s.sasl.config }, "principal=x", nil},
		{"enable.sasl.oauthbearer.unsecure.jwt", "true", func(s *settings) any { return s.sasl.unsecure }, true, nil},
		{"sasl.oauthbearer.client.id sasl.oauthbearer.client.credentials.client.id", "x", func(s *settings) any { return s.sasl.clientID }, "x", nil},
		{"sasl.oauthbearer.client.secret sasl.oauthbearer.client.credentials.client.secret", "x", func(s *settings) any { return s.sasl.clientSecret }, "x", nil},
		{"sasl.oauthbearer.scope", "x", func(s *settings) any { return s.sasl.scope }, "x", oidc},
		{"sasl.oauthbearer.extensions", "a=b", func(s *settings) any { return s.sasl.extensions }, "a=b", oidc},
		{"sasl.oauthbearer.token.endpoint.url", "https://x/", func(s *settings) any { return s.sasl.endpoint }, "https://x/", nil},
		{"compression.codec compression.type", "zstd", func(s *settings) any { return s.codec }, "zstd", nil},
		{"compression.level", "7", func(s *settings) any { return s.level }, 7, map[string]string{"compression.type": "gzip"}},
		{"linger.ms queue.buffering.max.ms", "12.5", func(s *settings) any { return s.linger }, 12500 * time.Microsecond, nil},
		{"batch.size", "2000000", func(s *settings) any { return s.batchBytes() }, 2000000, nil},
		{"message.max.bytes", "5000", func(s *settings) any { return s.batchBytes() }, 5000, nil},
		{"queue.buffering.max.messages", "7", func(s *settings) any { return s.maxRecords }, 7, nil},
		{"queue.buffering.max.kbytes", "7", func(s *settings) any { return s.maxBytes }, 7 << 10, nil},
		{"acks request.required.acks", "1", func(s *settings) any { return fmt.Sprint(s.acks, *s.idempotence) }, "1 false", nil},
		{"enable.idempotence", "false", func(s *settings) any { return *s.idempotence }, false, nil},
		{"max.in.flight max.in.flight.requests.per.connection", "3", func(s *settings) any { return s.inFlight }, 3, nil},
		{"retries message.send.max.retries", "3", func(s *settings) any { return s.retries }, 3, nil},
		{"delivery.timeout.ms message.timeout.ms", "3000", func(s *settings) any { return s.deliveryTimeout }, 3 * time.Second, nil},
		{"request.timeout.ms", "3000", func(s *settings) any { return s.requestTimeout }, 3 * time.Second, nil},
		{"socket.timeout.ms", "3000", func(s *settings) any { return s.socketTimeout }, 3 * time.Second, nil},
		{"retry.backoff.ms", "3000", func(s *settings) any { return fmt.Sprint(s.backoff, s.backoffMax) }, "3s 3s", nil},
		{"retry.backoff.max.ms", "3000", func(s *settings) any { return s.backoffMax }, 3 * time.Second, nil},
		{"metadata.max.age.ms topic.metadata.refresh.interval.ms", "3000", func(s *settings) any { return s.metadataMax }, 3 * time.Second, nil},
		{"topic.metadata.refresh.fast.interval.ms", "30", func(s *settings) any { return s.metadataMin }, 30 * time.Millisecond, nil},
		{"socket.connection.setup.timeout.ms", "3000", func(s *settings) any { return s.dialTimeout }, 3 * time.Second, nil},
		{"connections.max.idle.ms", "3000", func(s *settings) any { return s.idleTimeout }, 3 * time.Second, nil},
		{"partitioner", "consistent_random", func(s *settings) any { return s.partitioner }, "consistent_random", nil},
		{"allow.auto.create.topics", "false", func(s *settings) any { return s.autoCreate }, false, nil},
		{"debug", "all", func(s *settings) any { return s.debug }, true, nil},
		{"broker.address.family", "v6", func(s *settings) any { return s.family }, "v6", nil},
		{"socket.keepalive.enable", "true", func(s *settings) any { return s.keepAlive }, true, nil},
		{"socket.nagle.disable", "false", func(s *settings) any { return s.noDelay }, false, nil},
		{"enable.metrics.push", "false", func(s *settings) any { return s.metricsPush }, false, nil},
	} {
		plain := defaults()
		if got := func() (v any) { defer func() { recover() }(); return c.get(&plain) }(); got == c.want {
			t.Errorf("%s: %v is the default already: the test shows nothing", c.names, c.want)
		}
		for _, name := range strings.Fields(c.names) {
			config := map[string]string{name: c.value}
			for k, v := range c.with {
				if _, ok := config[k]; !ok {
					config[k] = v
				}
			}
			p, _ := read(t, config)
			if got := c.get(&p.s); got != c.want {
				t.Errorf("%s: %s in the configuration gives %v, want %v", name, c.value, got, c.want)
			}
			delete(config, name)
			variable := "KAFKA_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
			p, _ = read(t, config, variable+"="+c.value)
			if got := c.get(&p.s); got != c.want {
				t.Errorf("%s=%s gives %v, want %v", variable, c.value, got, c.want)
			}
		}
	}
}

// Every name of the table is either used, ignored with one warning, or refused
// with a reason; none appears twice.
func TestPropertyTable(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range properties() {
		n := 0
		for _, b := range []bool{p.set != nil, p.quiet != "", p.refused != ""} {
			if b {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: %d of set, quiet and refused", p.name, n)
		}
		for _, name := range []string{p.name, p.alias} {
			if name != "" && seen[name] {
				t.Errorf("%s appears twice", name)
			}
			seen[name] = true
		}
		switch {
		case p.quiet != "":
			_, w := read(t, map[string]string{p.name: "x"})
			if len(w) != 1 || !strings.Contains(w[0], p.name+" is ignored: "+p.quiet) {
				t.Errorf("%s: warnings %q", p.name, w)
			}
		case p.refused != "":
			_, _, err := ReadProperties(map[string]string{p.name: "s3cr3t"}, nil)
			if err == nil || !strings.Contains(err.Error(), p.name+": not supported here: "+p.refused) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%s: error %v", p.name, err)
			}
		}
	}
	// Where a password or key can stand, its value is never quoted.
	for _, p := range properties() {
		if p.set != nil && !p.secret && (strings.HasSuffix(p.name, "password") || strings.HasSuffix(p.name, "secret") || p.name == "ssl.key.pem") {
			t.Errorf("%s is not marked secret", p.name)
		}
	}
}

func TestPropertyErrors(t *testing.T) {
	for _, c := range []struct {
		config map[string]string
		env    string
		want   string
	}{
		{map[string]string{"bootstrap.server": "a"}, "", `unknown property "bootstrap.server"; did you mean "bootstrap.servers"?`},
		{map[string]string{"lingerms": "a"}, "", `did you mean "linger.ms"?`},
		{map[string]string{"sasl.pasword": "s3cr3t"}, "", `did you mean "sasl.password"?`},
		{map[string]string{"compression_type": "gzip"}, "", `did you mean "compression.type"?`},
		{map[string]string{"Acks": "all"}, "", `did you mean "acks"?`},
		{map[string]string{"frobnicate": "1"}, "", "the names are those of librdkafka"},
		{map[string]string{"linger.ms": "soon"}, "", `linger.ms: "soon": want milliseconds from 0 to 60000`},
		{map[string]string{"linger.ms": "NaN"}, "", `want milliseconds`},
		{nil, "KAFKA_LINGER_MS=soon", `KAFKA_LINGER_MS: "soon": want milliseconds`},
		{map[string]string{"acks": "2"}, "", `want all, -1, 0 or 1`},
		{map[string]string{"acks": "all", "request.required.acks": "1"}, "", "acks and request.required.acks are the same property and differ"},
		{map[string]string{"acks": "1", "enable.idempotence": "true"}, "", "needs acks: all"},
		{map[string]string{"max.in.flight": "6", "enable.idempotence": "true"}, "", "at most 5"},
		{map[string]string{"compression.type": "brotli"}, "", "want one of none, gzip, snappy, lz4, zstd"},
		{map[string]string{"compression.level": "99"}, "", "compression.level"},
		{map[string]string{"compression.type": "gzip", "compression.level": "10"}, "", "gzip takes at most 9"},
		{map[string]string{"message.max.bytes": "10"}, "", "from 1000 to 1000000000"},
		{map[string]string{"bootstrap.servers": " , "}, "", "at least one host:port"},
		{map[string]string{"bootstrap.servers": "http://a:1"}, "", "want host:port"},
		{map[string]string{"bootstrap.servers": "u:p@a:1"}, "", "want host:port"},
		{map[string]string{"security.protocol": "tls"}, "", "want one of plaintext, ssl, sasl_plaintext, sasl_ssl"},
		{map[string]string{"security.protocol": "sasl_ssl"}, "", "sasl.mechanism: missing"},
		{map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "GSSAPI"}, "", "Kerberos is not supported"},
		{map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN", "sasl.username": "u"}, "", "sasl.username and sasl.password"},
		{map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER"}, "", "sasl.oauthbearer.method: oidc"},
		{map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc"}, "", "needs sasl.oauthbearer.client.id"},
		{map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "AWS_MSK_IAM"}, "", "AWS_ACCESS_KEY_ID"},
		{map[string]string{"enable.idempotence": "maybe"}, "", "want true or false"},
		{map[string]string{"transactional.id": "x"}, "", "not in transactions"},
	} {
		var env []string
		if c.env != "" {
			env = []string{c.env}
		}
		_, _, err := ReadProperties(c.config, env)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%v %s: error %v, want %q in it", c.config, c.env, err, c.want)
		}
	}
}

// A value that is refused is quoted, a secret's never.
func TestPropertyErrorsQuoteNoSecret(t *testing.T) {
	for _, secret := range []bool{false, true} {
		prop := &property{name: "x", secret: secret, set: func(*settings, string) error { return errors.New("want y") }}
		_, err := new(Properties).apply(prop, "KAFKA_X", "v4lue")
		if err == nil || !strings.Contains(err.Error(), "KAFKA_X: ") || !strings.Contains(err.Error(), "want y") || strings.Contains(err.Error(), "v4lue") == secret {
			t.Errorf("secret %v: %v", secret, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	p, w := read(t, map[string]string{"client.id": "config", "request.required.acks": "-1"},
		"KAFKA_CLIENT_ID=env", "KAFKA_ACKS=0", "KAFKA_SASL_USERNAME=u", "PATH=/bin", "KAFKA_=x", "kafka_linger_ms=1", "KAFKA_LINGER_MS=7",
		"KAFKA_HEAP_OPTS=-Xmx1g s3cr3t", "KAFKA_FROBNICATE=s3cr3t", "KAFKA_SERVICE_HOST=10.0.0.1", "KAFKA_PORT=tcp://10.0.0.1:9092",
		"KAFKA_PORT_9092_TCP=tcp://10.0.0.1:9092", "KAFKA_PORT_9092_TCP_ADDR=10.0.0.1", "KAFKA_BROKER_SERVICE_PORT=9092", "KAFKA_GROUP_ID=g",
	)
	if p.s.clientID != "config" || p.s.acks != -1 || p.s.linger != 7*time.Millisecond {
		t.Errorf("client.id %q, acks %d, linger %v", p.s.clientID, p.s.acks, p.s.linger)
	}
	all := strings.Join(w, "\n")
	// One warning each: for the consumer's, for the service's, for the unknown,
	// and for a user name without SASL.
	if len(w) != 4 || strings.Contains(all, "s3cr3t") {
		t.Errorf("warnings:\n%s", all)
	}
	for _, want := range []string{
		"KAFKA_GROUP_ID is ignored: it is a consumer's", "KAFKA_FROBNICATE, KAFKA_HEAP_OPTS",
		"KAFKA_BROKER_SERVICE_PORT, KAFKA_PORT, KAFKA_PORT_9092_TCP, KAFKA_PORT_9092_TCP_ADDR, KAFKA_SERVICE_HOST", "sasl.* is ignored",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning holds %q:\n%s", want, all)
		}
	}
}

func TestPropertyWarnings(t *testing.T) {
	for _, c := range []struct {
		config map[string]string
		want   string
	}{
		{map[string]string{"acks": "0"}, "no broker confirms"},
		{map[string]string{"max.in.flight": "9"}, "with idempotence it is 5"},
		{map[string]string{"security.protocol": "ssl", "enable.ssl.certificate.verification": "false"}, "anyone on the path"},
		{map[string]string{"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"}, "in clear"},
		{map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": "principal=a"}, "is for tests"},
		{map[string]string{
			"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "c",
			"sasl.oauthbearer.client.secret": "s", "sasl.oauthbearer.token.endpoint.url": "http://idp/token",
		}, "the client secret goes in clear"},
	} {
		_, w := read(t, c.config)
		if len(w) != 1 || !strings.Contains(w[0], c.want) {
			t.Errorf("%v: warnings %q, want %q", c.config, w, c.want)
		}
	}
	if _, w := read(t, nil); len(w) != 0 {
		t.Errorf("the defaults: warnings %q", w)
	}
}

// A batch size for other clients' batches never refuses a record.
func TestBatchBytes(t *testing.T) {
	for _, c := range []struct {
		config map[string]string
		want   int
	}{
		{nil, 1_000_000},
		{map[string]string{"batch.size": "16384"}, 1_000_000},
		{map[string]string{"batch.size": "3000000"}, 3_000_000},
		{map[string]string{"batch.size": "3000000", "message.max.bytes": "200000"}, 200_000},
	} {
		p, _ := read(t, c.config)
		if got := p.s.batchBytes(); got != c.want {
			t.Errorf("%v: %d, want %d", c.config, got, c.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	p, _ := read(t, map[string]string{"retry.backoff.ms": "100", "retry.backoff.max.ms": "1000"})
	for fails, want := range map[int]time.Duration{0: 100, 1: 100, 2: 200, 3: 400, 4: 800, 5: 1000, 100: 1000, math.MaxInt: 1000} {
		want *= time.Millisecond
		for range 50 {
			if d := p.s.wait(fails); d < want*4/5 || d > want*6/5 {
				t.Errorf("after %d: %v, want %v give or take a fifth", fails, d, want)
			}
		}
	}
}

func TestPropertiesTellNoSecret(t *testing.T) {
	p, _ := read(t, map[string]string{
		"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "s3cr3t", "bootstrap.servers": "a:1,b:2",
	})
	if got := p.String(); got != "a:1,b:2 by sasl_ssl" {
		t.Errorf("String: %q", got)
	}
	if got := fmt.Sprintf("%v %+v %#v %v %+v %#v", p, p, p, *p, *p, *p); strings.Contains(got, "s3cr3t") {
		t.Errorf("formatted: %s", got)
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "abc", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"acks", "ack", 1}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%s %s: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// KIP-511 allows letters, digits, dots and hyphens between a letter or digit.
func TestSoftwareVersion(t *testing.T) {
	for in, want := range map[string]string{"1.2.3": "v1.2.3", "dev": "vdev", "0.1+dirty": "v0.1-dirty", "a-": "va-x", "": "vx"} {
		if got := softwareVersion(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzProperties(f *testing.F) {
	f.Add("bootstrap.servers", "a:1,b", "KAFKA_ACKS=0")
	f.Add("sasl.oauthbearer.config", "principal=a scope=b", "KAFKA_PORT=tcp://x")
	f.Add("compression.level", "-2", "KAFKA_\x00=")
	f.Fuzz(func(t *testing.T, name, value, env string) {
		p, _, err := ReadProperties(map[string]string{name: value}, []string{env})
		if err != nil {
			return
		}
		if p.s.maxRecords < 1 || p.s.maxBytes < 1 || p.s.batchBytes() < 1000 || len(p.s.brokers) == 0 || p.s.wait(3) <= 0 {
			t.Errorf("%q: %q gives %+v", name, value, p.s)
		}
	})
}
