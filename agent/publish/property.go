package publish

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Properties are the properties of a Kafka client by their librdkafka names,
// read and checked. Its text form holds no values, so that no secret can slip
// into a log.
type Properties struct{ s settings }

// settings is what the properties come to, with the defaults filled in.
type settings struct {
	brokers  []string
	clientID string
	protocol string // plaintext, ssl, sasl_plaintext, sasl_ssl
	tls      tlsSettings
	sasl     saslSettings

	codec string
	level int // codecDefault: the codec's own

	linger     time.Duration
	batchSize  int // 0: not set
	messageMax int // 0: not set
	maxRecords int
	maxBytes   int

	acks        int // -1 all in sync, 0 none, 1 the leader
	idempotence *bool
	inFlight    int // 0: not set
	retries     int

	deliveryTimeout time.Duration // 0: none
	requestTimeout  time.Duration
	socketTimeout   time.Duration
	backoff         time.Duration
	backoffMax      time.Duration
	metadataMax     time.Duration
	metadataMin     time.Duration
	dialTimeout     time.Duration
	idleTimeout     time.Duration

	partitioner string
	autoCreate  bool
	debug       bool
	family      string // any, v4, v6
	keepAlive   bool
	noDelay     bool
	metricsPush bool
}

type tlsSettings struct {
	caFile, caPEM            string
	certFile, certPEM        string
	keyFile, keyPEM, keyPass string
	httpsCAFile, httpsCAPEM  string
	verify                   bool
	identification           string // https, none
}

type saslSettings struct {
	mechanism          string
	username, password string
	// of OAUTHBEARER
	method, config                          string
	unsecure                                bool
	clientID, clientSecret, scope, endpoint string
	extensions                              string
	// of AWS_MSK_IAM, from the environment
	awsKey, awsSecret, awsToken string
}

const codecDefault = math.MinInt

func defaults() settings {
	return settings{
		brokers:        []string{"localhost:9092"},
		clientID:       "shadowtap",
		protocol:       "plaintext",
		tls:            tlsSettings{verify: true, identification: "https"},
		sasl:           saslSettings{method: "default"},
		codec:          "none",
		level:          codecDefault,
		linger:         5 * time.Millisecond,
		maxRecords:     10_000,
		maxBytes:       32 << 20,
		acks:           -1,
		retries:        math.MaxInt32,
		requestTimeout: 30 * time.Second,
		socketTimeout:  10 * time.Second,
		backoff:        100 * time.Millisecond,
		backoffMax:     time.Second,
		metadataMax:    5 * time.Minute,
		metadataMin:    250 * time.Millisecond,
		dialTimeout:    10 * time.Second,
		idleTimeout:    30 * time.Second,
		partitioner:    "murmur2_random",
		autoCreate:     true,
		family:         "any",
		noDelay:        true,
		metricsPush:    true,
	}
}

// property is one name that librdkafka knows, with what shadowtap does about
// it. Exactly one of set, quiet and refused is there.
type property struct {
	name string
	// alias is the other name of the same property, "" without.
	alias string
	// secret values appear in no error and no log.
	secret bool
	// set reads the value; the error says what is wanted and never the value.
	set func(s *settings, value string) error
	// quiet is why the property makes no difference here; a warning says so.
	quiet string
	// refused is why it can't be had here though it would make a difference.
	refused string
}

// The reasons why a property makes no difference.
const (
	quietConsumer   = "it is a consumer's, and shadowtap only produces"
	quietStatistics = "shadowtap has its own metrics and log"
	quietTuning     = "it tunes librdkafka itself, and the client here is another"
	quietOld        = "it does nothing in librdkafka either"
	quietCallback   = "it is set in a program, not in a configuration"
)

func properties() []property {
	t := []property{
		{name: "bootstrap.servers", alias: "metadata.broker.list", set: setBrokers},
		{name: "client.id", set: text(func(s *settings) *string { return &s.clientID })},
		{name: "security.protocol", set: word(func(s *settings) *string { return &s.protocol }, "plaintext", "ssl", "sasl_plaintext", "sasl_ssl")},

		{name: "ssl.ca.location", set: text(func(s *settings) *string { return &s.tls.caFile })},
		{name: "ssl.ca.pem", set: text(func(s *settings) *string { return &s.tls.caPEM })},
		{name: "ssl.certificate.location", set: text(func(s *settings) *string { return &s.tls.certFile })},
		{name: "ssl.certificate.pem", set: text(func(s *settings) *string { return &s.tls.certPEM })},
		{name: "ssl.key.location", set: text(func(s *settings) *string { return &s.tls.keyFile })},
		{name: "ssl.key.pem", secret: true, set: text(func(s *settings) *string { return &s.tls.keyPEM })},
		{name: "ssl.key.password", secret: true, set: text(func(s *settings) *string { return &s.tls.keyPass })},
		{name: "enable.ssl.certificate.verification", set: boolean(func(s *settings) *bool { return &s.tls.verify })},
		{name: "ssl.endpoint.identification.algorithm", set: word(func(s *settings) *string { return &s.tls.identification }, "https", "none")},
		{name: "https.ca.location", set: text(func(s *settings) *string { return &s.tls.httpsCAFile })},
		{name: "https.ca.pem", set: text(func(s *settings) *string { return &s.tls.httpsCAPEM })},

		{name: "sasl.mechanism", alias: "sasl.mechanisms", set: setMechanism},
		{name: "sasl.username", set: text(func(s *settings) *string { return &s.sasl.username })},
		{name: "sasl.password", secret: true, set: text(func(s *settings) *string { return &s.sasl.password })},
		{name: "sasl.oauthbearer.method", set: word(func(s *settings) *string { return &s.sasl.method }, "default", "oidc")},
		{name: "sasl.oauthbearer.config", secret: true, set: text(func(s *settings) *string { return &s.sasl.config })},
		{name: "enable.sasl.oauthbearer.unsecure.jwt", set: boolean(func(s *settings) *bool { return &s.sasl.unsecure })},
		{name: "sasl.oauthbearer.client.id", alias: "sasl.oauthbearer.client.credentials.client.id", set: text(func(s *settings) *string { return &s.sasl.clientID })},
		{name: "sasl.oauthbearer.client.secret", alias: "sasl.oauthbearer.client.credentials.client.secret", secret: true, set: text(func(s *settings) *string { return &s.sasl.clientSecret })},
		{name: "sasl.oauthbearer.scope", set: text(func(s *settings) *string { return &s.sasl.scope })},
		{name: "sasl.oauthbearer.extensions", set: text(func(s *settings) *string { return &s.sasl.extensions })},
		{name: "sasl.oauthbearer.token.endpoint.url", set: text(func(s *settings) *string { return &s.sasl.endpoint })},

		{name: "compression.type", alias: "compression.codec", set: word(func(s *settings) *string { return &s.codec }, "none", "gzip", "snappy", "lz4", "zstd")},
		{name: "compression.level", set: setLevel},
		{name: "linger.ms", alias: "queue.buffering.max.ms", set: millis(func(s *settings) *time.Duration { return &s.linger }, 0, 60_000)},
		{name: "batch.size", set: number(func(s *settings) *int { return &s.batchSize }, 1, math.MaxInt32)},
		{name: "message.max.bytes", set: number(func(s *settings) *int { return &s.messageMax }, 1000, 1_000_000_000)},
		{name: "queue.buffering.max.messages", set: setMaxMessages},
		{name: "queue.buffering.max.kbytes", set: setMaxKBytes},
		{name: "acks", alias: "request.required.acks", set: setAcks},
		{name: "enable.idempotence", set: setIdempotence},
		{name: "max.in.flight.requests.per.connection", alias: "max.in.flight", set: number(func(s *settings) *int { return &s.inFlight }, 1, 1_000_000)},
		{name: "retries", alias: "message.send.max.retries", set: number(func(s *settings) *int { return &s.retries }, 0, math.MaxInt32)},
		{name: "delivery.timeout.ms", alias: "message.timeout.ms", set: setDeliveryTimeout},
		{name: "request.timeout.ms", set: millis(func(s *settings) *time.Duration { return &s.requestTimeout }, 1, 900_000)},
		{name: "socket.timeout.ms", set: millis(func(s *settings) *time.Duration { return &s.socketTimeout }, 10, 300_000)},
		{name: "retry.backoff.ms", set: millis(func(s *settings) *time.Duration { return &s.backoff }, 1, 300_000)},
		{name: "retry.backoff.max.ms", set: millis(func(s *settings) *time.Duration { return &s.backoffMax }, 1, 300_000)},
		{name: "metadata.max.age.ms", alias: "topic.metadata.refresh.interval.ms", set: millis(func(s *settings) *time.Duration { return &s.metadataMax }, 10, 3_600_000)},
		{name: "topic.metadata.refresh.fast.interval.ms", set: millis(func(s *settings) *time.Duration { return &s.metadataMin }, 1, 60_000)},
		{name: "socket.connection.setup.timeout.ms", set: millis(func(s *settings) *time.Duration { return &s.dialTimeout }, 1000, math.MaxInt32)},
		{name: "connections.max.idle.ms", set: setIdle},
		{name: "partitioner", set: word(func(s *settings) *string { return &s.partitioner }, partitionerNames()...)},
		{name: "allow.auto.create.topics", set: boolean(func(s *settings) *bool { return &s.autoCreate })},
		{name: "debug", set: func(s *settings, v string) error { s.debug = strings.TrimSpace(v) != ""; return nil }},
		{name: "broker.address.family", set: word(func(s *settings) *string { return &s.family }, "any", "v4", "v6")},
		{name: "socket.keepalive.enable", set: boolean(func(s *settings) *bool { return &s.keepAlive })},
		{name: "socket.nagle.disable", set: boolean(func(s *settings) *bool { return &s.noDelay })},
		{name: "enable.metrics.push", set: boolean(func(s *settings) *bool { return &s.metricsPush })},
	}
	quiet := func(why string, names ...string) {
		for _, n := range names {
			t = append(t, property{name: n, quiet: why})
		}
	}
	refuse := func(why string, names ...string) {
		for _, n := range names {
			t = append(t, property{name: n, refused: why, secret: strings.Contains(n, "password") || strings.Contains(n, "pass") || strings.Contains(n, "key")})
		}
	}
	quiet(quietConsumer, "group.id", "group.instance.id", "partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms",
		"group.protocol.type", "group.protocol", "group.remote.assignor", "coordinator.query.interval.ms", "max.poll.interval.ms",
		"enable.auto.commit", "auto.commit.enable", "auto.commit.interval.ms", "enable.auto.offset.store", "auto.offset.reset",
		"queued.min.messages", "queued.max.messages.kbytes", "fetch.wait.max.ms", "fetch.queue.backoff.ms", "fetch.message.max.bytes",
		"max.partition.fetch.bytes", "fetch.max.bytes", "fetch.min.bytes", "fetch.error.backoff.ms", "offset.store.method",
		"offset.store.path", "offset.store.sync.interval.ms", "isolation.level", "enable.partition.eof", "check.crcs",
		"consume.callback.max.messages", "client.rack", "receive.message.max.bytes")
	quiet(quietStatistics, "statistics.interval.ms", "enabled_events", "log_level", "log.queue", "log.thread.name", "log.connection.close",
		"delivery.report.only.error", "produce.offset.report")
	quiet(quietTuning, "builtin.features", "message.copy.max.bytes", "topic.metadata.refresh.sparse", "topic.metadata.propagation.max.ms",
		"socket.send.buffer.bytes", "socket.receive.buffer.bytes", "socket.max.fails", "broker.address.ttl", "reconnect.backoff.ms",
		"reconnect.backoff.max.ms", "internal.termination.signal", "queue.buffering.backpressure.threshold", "batch.num.messages",
		"sticky.partitioning.linger.ms", "client.dns.lookup", "metadata.recovery.strategy", "metadata.recovery.rebootstrap.trigger.ms",
		"api.version.request.timeout.ms", "enable.random.seed", "queuing.strategy", "enable.gapless.guarantee", "transaction.timeout.ms",
		"sasl.kerberos.service.name", "sasl.kerberos.kinit.cmd", "sasl.kerberos.min.time.before.relogin")
	quiet(quietOld, "topic.metadata.refresh.fast.cnt", "socket.blocking.max.ms", "reconnect.backoff.jitter.ms", "api.version.request",
		"api.version.fallback.ms", "broker.version.fallback", "ssl.ca.certificate.stores")
	quiet(quietCallback, "error_cb", "throttle_cb", "stats_cb", "log_cb", "background_event_cb", "socket_cb", "connect_cb", "closesocket_cb",
		"open_cb", "resolve_cb", "opaque", "default_topic_conf", "ssl_key", "ssl_certificate", "ssl_ca", "ssl_engine_callback_data",
		"ssl.certificate.verify_cb", "oauthbearer_token_refresh_cb", "interceptors", "consume_cb", "rebalance_cb", "offset_commit_cb",
		"dr_cb", "dr_msg_cb", "partitioner_cb", "msg_order_cmp")
	refuse("records are sent one by one and not in transactions; leave it out, they are idempotent anyway", "transactional.id")
	refuse("PKCS#12 is not read here: turn it into PEM (openssl pkcs12 -in FILE -out client.pem) and set ssl.certificate.location and ssl.key.location",
		"ssl.keystore.location", "ssl.keystore.password")
	refuse("revocation lists are not checked here", "ssl.crl.location")
	refuse("Go's TLS chooses them itself, among safe ones only", "ssl.cipher.suites", "ssl.curves.list", "ssl.sigalgs.list")
	refuse("there is no OpenSSL here", "ssl.providers", "ssl.engine.location", "ssl.engine.id")
	refuse("Kerberos is not supported here: use SCRAM-SHA-512, PLAIN or OAUTHBEARER, or a client certificate", "sasl.kerberos.principal", "sasl.kerberos.keytab")
	refuse("no code is loaded from files", "plugin.library.paths")
	refuse("only topics of its own configuration are used", "topic.blacklist")
	refuse("of the OAUTHBEARER grants only client_credentials is supported here", "sasl.oauthbearer.grant.type",
		"sasl.oauthbearer.assertion.algorithm", "sasl.oauthbearer.assertion.private.key.file",
		"sasl.oauthbearer.assertion.private.key.passphrase", "sasl.oauthbearer.assertion.private.key.pem", "sasl.oauthbearer.assertion.file",
		"sasl.oauthbearer.assertion.claim.aud", "sasl.oauthbearer.assertion.claim.exp.seconds", "sasl.oauthbearer.assertion.claim.iss",
		"sasl.oauthbearer.assertion.claim.jti.include", "sasl.oauthbearer.assertion.claim.nbf.seconds",
		"sasl.oauthbearer.assertion.claim.sub", "sasl.oauthbearer.assertion.jwt.template.file",
		"sasl.oauthbearer.metadata.authentication.type")
	return t
}

// envPrefix is that of environment variables that hold properties.
const envPrefix = "KAFKA_"

// ReadProperties reads the properties of a Kafka client from the configuration
// and from KAFKA_* variables of the environment ("KEY=VALUE", as os.Environ
// gives them): KAFKA_SASL_PASSWORD is sasl.password. The configuration wins.
//
// A name in the configuration that librdkafka does not know is an error that
// names the nearest known one. In the environment it is ignored, and a warning
// names all that were. Neither errors nor warnings hold a secret's value.
func ReadProperties(config map[string]string, environ []string) (*Properties, []string, error) {
	table := properties()
	byName := make(map[string]*property, 2*len(table))
	for i := range table {
		byName[table[i].name] = &table[i]
		if table[i].alias != "" {
			byName[table[i].alias] = &table[i]
		}
	}
	p := &Properties{s: defaults()}
	var warnings []string

	names := make([]string, 0, len(config))
	for n := range config {
		names = append(names, n)
	}
	sort.Strings(names)
	from := map[*property]string{} // where it was set
	for _, n := range names {
		prop, ok := byName[n]
		if !ok {
			return nil, nil, fmt.Errorf("kafka: unknown property %q%s", n, didYouMean(n, byName))
		}
		if other, ok := from[prop]; ok && config[other] != config[n] {
			return nil, nil, fmt.Errorf("kafka: %s and %s are the same property and differ", other, n)
		}
		from[prop] = n
		w, err := p.apply(prop, n, config[n])
		if err != nil {
			return nil, nil, err
		}
		warnings = append(warnings, w...)
	}

	var unknown, service []string
	env := append([]string(nil), environ...)
	sort.Strings(env)
	for _, kv := range env {
		variable, value, _ := strings.Cut(kv, "=")
		switch variable {
		case "AWS_ACCESS_KEY_ID":
			p.s.sasl.awsKey = value
		case "AWS_SECRET_ACCESS_KEY":
			p.s.sasl.awsSecret = value
		case "AWS_SESSION_TOKEN":
			p.s.sasl.awsToken = value
		}
		rest, ok := strings.CutPrefix(variable, envPrefix)
		if !ok || rest == "" {
			continue
		}
		if serviceLink(rest, value) {
			service = append(service, variable)
			continue
		}
		n := strings.ToLower(strings.ReplaceAll(rest, "_", "."))
		prop, ok := byName[n]
		if !ok {
			unknown = append(unknown, variable)
			continue
		}
		if _, ok := from[prop]; ok {
			continue // the configuration, or another name of it, wins
		}
		from[prop] = n
		w, err := p.apply(prop, variable, value)
		if err != nil {
			return nil, nil, err
		}
		warnings = append(warnings, w...)
	}
	if len(service) > 0 {
		warnings = append(warnings, fmt.Sprintf("ignored environment variables that Kubernetes sets for a service named kafka: %s (enableServiceLinks: false keeps them away)", strings.Join(service, ", ")))
	}
	if len(unknown) > 0 {
		warnings = append(warnings, fmt.Sprintf("ignored environment variables that name no Kafka client property: %s", strings.Join(unknown, ", ")))
	}
	w, err := p.s.check()
	if err != nil {
		return nil, nil, err
	}
	return p, append(warnings, w...), nil
}

// apply sets one property; name is how the user spelled it.
func (p *Properties) apply(prop *property, name, value string) ([]string, error) {
	switch {
	case prop.quiet != "":
		return []string{fmt.Sprintf("kafka: %s is ignored: %s", name, prop.quiet)}, nil
	case prop.refused != "":
		return nil, fmt.Errorf("kafka: %s: not supported here: %s", name, prop.refused)
	}
	if err := prop.set(&p.s, value); err != nil {
		if prop.secret {
			return nil, fmt.Errorf("kafka: %s: %w", name, err)
		}
		return nil, fmt.Errorf("kafka: %s: %q: %w", name, value, err)
	}
	return nil, nil
}

// serviceLink says whether a variable, without its prefix, is one of those
// that Kubernetes sets for each service of a namespace.
func serviceLink(rest, value string) bool {
	return strings.Contains(value, "tcp://") || strings.Contains(value, "udp://") || strings.Contains("_"+rest, "_SERVICE_") ||
		rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasSuffix(rest, "_PORT")
}

// check looks at what must fit together.
func (s *settings) check() (warnings []string, err error) {
	if s.acks != -1 {
		if s.idempotence != nil && *s.idempotence {
			return nil, fmt.Errorf("kafka: enable.idempotence: true needs acks: all")
		}
		off := false
		s.idempotence = &off
		if s.acks == 0 {
			warnings = append(warnings, "kafka: acks: 0: no broker confirms anything; a record counts as acknowledged once it was written to the connection")
		}
	}
	idempotent := s.idempotence == nil || *s.idempotence
	if idempotent && s.inFlight > 5 {
		if s.idempotence != nil {
			return nil, fmt.Errorf("kafka: max.in.flight.requests.per.connection: %d: at most 5 with enable.idempotence: true", s.inFlight)
		}
		warnings = append(warnings, "kafka: max.in.flight.requests.per.connection is ignored: with idempotence it is 5")
	}
	if s.backoffMax < s.backoff {
		s.backoffMax = s.backoff
	}
	if !s.tls.verify && (s.protocol == "ssl" || s.protocol == "sasl_ssl") {
		warnings = append(warnings, "kafka: enable.ssl.certificate.verification: false: anyone on the path can read and change what is sent")
	}
	if s.level != codecDefault {
		top := map[string]int{"gzip": 9, "lz4": 12, "zstd": 22, "snappy": 0, "none": math.MaxInt}[s.codec]
		if s.level > top {
			return nil, fmt.Errorf("kafka: compression.level: %d: %s takes at most %d", s.level, s.codec, top)
		}
	}
	w, err := s.checkSASL()
	return append(warnings, w...), err
}

// Brokers are the addresses of bootstrap.servers. The caller owns the slice.
func (p *Properties) Brokers() []string { return slices.Clone(p.s.brokers) }

// GoString is String, so that no way of formatting shows a secret.
func (p Properties) GoString() string { return p.String() }

// String tells where the client connects and how, and no secret.
func (p Properties) String() string {
	return fmt.Sprintf("%s by %s", strings.Join(p.s.brokers, ","), p.s.protocol)
}

// didYouMean names the nearest known name, when one is near.
func didYouMean(name string, known map[string]*property) string {
	best, least := "", 1+len(name)/3
	for k := range known {
		if d := distance(strings.ToLower(name), k); d < least || d == least && (best == "" || k < best) {
			best, least = k, d
		}
	}
	if best == "" {
		return "; the names are those of librdkafka"
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the least number of bytes to put in, take out, change or swap
// with the next to make b of a.
func distance(a, b string) int {
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}

// What follows reads values. The errors say what is wanted.

func text(field func(*settings) *string) func(*settings, string) error {
	return func(s *settings, v string) error { *field(s) = v; return nil }
}

func word(field func(*settings) *string, words ...string) func(*settings, string) error {
	return func(s *settings, v string) error {
		for _, w := range words {
			if strings.EqualFold(strings.TrimSpace(v), w) {
				*field(s) = w
				return nil
			}
		}
		return fmt.Errorf("want one of %s", strings.Join(words, ", "))
	}
}

func boolean(field func(*settings) *bool) func(*settings, string) error {
	return func(s *settings, v string) error {
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "true", "t", "1":
			*field(s) = true
		case "false", "f", "0":
			*field(s) = false
		default:
			return fmt.Errorf("want true or false")
		}
		return nil
	}
}

func number(field func(*settings) *int, least, most int) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < least || n > most {
			return fmt.Errorf("want a whole number from %d to %d", least, most)
		}
		*field(s) = n
		return nil
	}
}

func millis(field func(*settings) *time.Duration, least, most float64) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil || !(n >= least && n <= most) {
			return fmt.Errorf("want milliseconds from %.0f to %.0f", least, most)
		}
		*field(s) = time.Duration(n * float64(time.Millisecond))
		return nil
	}
}

func setBrokers(s *settings, v string) error {
	s.brokers = nil
	for _, b := range strings.Split(v, ",") {
		b = strings.TrimSpace(b)
		// librdkafka takes PROTOCOL:// before an address; security.protocol is
		// what counts.
		if scheme, rest, ok := strings.Cut(b, "://"); ok {
			if !slices.Contains([]string{"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"}, strings.ToLower(scheme)) {
				return fmt.Errorf("want host:port, separated by commas")
			}
			b = strings.TrimSuffix(rest, "/")
		}
		if b == "" {
			continue
		}
		if strings.ContainsAny(b, " /@") {
			return fmt.Errorf("want host:port, separated by commas")
		}
		s.brokers = append(s.brokers, b)
	}
	if len(s.brokers) == 0 {
		return fmt.Errorf("want at least one host:port")
	}
	return nil
}

func setLevel(s *settings, v string) error {
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil || n < -1 || n > 22 {
		return fmt.Errorf("want a whole number from -1 to 12 (zstd: 22)")
	}
	s.level = n
	if n == -1 {
		s.level = codecDefault
	}
	return nil
}

func setMaxMessages(s *settings, v string) error {
	if err := number(func(s *settings) *int { return &s.maxRecords }, 0, math.MaxInt32)(s, v); err != nil {
		return err
	}
	if s.maxRecords == 0 { // no limit; that on bytes stays
		s.maxRecords = math.MaxInt32
	}
	return nil
}

func setMaxKBytes(s *settings, v string) error {
	kb := 0
	if err := number(func(*settings) *int { return &kb }, 1, math.MaxInt32)(s, v); err != nil {
		return err
	}
	s.maxBytes = kb << 10
	return nil
}

func setAcks(s *settings, v string) error {
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "all", "-1":
		s.acks = -1
	case "0":
		s.acks = 0
	case "1":
		s.acks = 1
	default:
		return fmt.Errorf("want all, -1, 0 or 1")
	}
	return nil
}

func setIdempotence(s *settings, v string) error {
	on := false
	err := boolean(func(*settings) *bool { return &on })(s, v)
	s.idempotence = &on
	return err
}

func setDeliveryTimeout(s *settings, v string) error {
	err := millis(func(s *settings) *time.Duration { return &s.deliveryTimeout }, 0, math.MaxInt32)(s, v)
	if s.deliveryTimeout > 0 {
		s.deliveryTimeout = max(s.deliveryTimeout, time.Second) // the client's least
	}
	return err
}

func setIdle(s *settings, v string) error {
	err := millis(func(s *settings) *time.Duration { return &s.idleTimeout }, 0, math.MaxInt32)(s, v)
	if s.idleTimeout == 0 {
		s.idleTimeout = maxIdle
	}
	s.idleTimeout = min(max(s.idleTimeout, 100*time.Millisecond), maxIdle)
	return err
}

// maxIdle is the longest that the client keeps a connection without traffic.
const maxIdle = 15 * time.Minute

func setMechanism(s *settings, v string) error {
	m := strings.ToUpper(strings.TrimSpace(v))
	switch m {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM":
		s.sasl.mechanism = m
		return nil
	}
	return fmt.Errorf("want PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM (Kerberos is not supported here)")
}
