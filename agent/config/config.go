package config

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is everything that the agent can be told. Each key is what its doc says
// when it is not written; New gives that. It is changed only between Load and
// the start of the agent.
type Config struct {
	// Version of the configuration's format. In a file it is required, the
	// first key, and 1.
	Version int `yaml:"version"`
	// Instance names this agent among several on one node. Default "default".
	Instance string `yaml:"instance"`
	// Enabled false detaches everything and replays nothing. Default true.
	Enabled bool `yaml:"enabled"`
	// OffFile is looked at each second; while it exists, replay is off: for all
	// experiments when it is empty, else for those that it lists, one a line.
	// Default /run/shadowtap/INSTANCE/off. "" for no such file.
	OffFile string  `yaml:"off_file"`
	Stop    Stop    `yaml:"stop"`
	Capture Capture `yaml:"capture"`
	// Experiments are what is replayed where, at most 16. Default none: then
	// exchanges are captured and counted only.
	Experiments []Experiment `yaml:"experiments"`
	Verdict     Verdict      `yaml:"verdict"`
	Publish     Publish      `yaml:"publish"`
	Redaction   Redaction    `yaml:"redaction"`
	// Sinks is where divergences go. Default none: then the terminal.
	Sinks      []Sink     `yaml:"sinks"`
	Spool      Spool      `yaml:"spool"`
	Management Management `yaml:"management"`
	Log        Log        `yaml:"log"`

	// sources tells where each key was written, by path.
	sources map[string]Source
	// spelled is how the scalars of the file that stand on one line are written.
	spelled map[string]string
	// env are the KAFKA_* variables.
	env []string
	// check is Options.Check.
	check func(*Config) error
	// now is the clock of Warnings; nil is time.Now.
	now func() time.Time
}

// Stop says how long a stop may take, on SIGTERM or SIGINT; a second one ends
// the agent at once.
type Stop struct {
	// Drain is how long open flows are still read. Default 2s.
	Drain Duration `yaml:"drain"`
	// Deadline bounds the whole stop. Default 15s.
	Deadline Duration `yaml:"deadline"`
}

// Capture says which packets are copied, and within which bounds.
type Capture struct {
	// Interfaces are those that the program is attached to. Default none.
	Interfaces []Interface `yaml:"interfaces"`
	// Ports are the servers' ports that are captured. Default: those of the
	// experiments' match.
	Ports []uint16 `yaml:"ports"`
	// Attach is the hook: "auto" (default), "tcx" or "clsact".
	Attach string `yaml:"attach"`
	// Memory bounds rings and heap together. Default 256MiB, at least 16MiB.
	Memory Size `yaml:"memory"`
	// Rings is the number of ring buffers and of goroutines that read them.
	// Default 0: one for each two CPUs that may be used, at least 1, at most 4.
	Rings int `yaml:"rings"`
	// MaxBody is how much of a body is kept. A kept request with a larger one
	// is not replayed (too_large); of a larger answer only length and digest
	// are compared. Default 1MiB.
	MaxBody Size `yaml:"max_body"`
	// CopyBudget bounds the bytes that the program copies per second. Default
	// 1GiB/s; "unlimited" for no bound.
	CopyBudget ByteRate `yaml:"copy_budget"`
}

// Interface is a network interface to capture on. In YAML it may be its name
// alone.
type Interface struct {
	// Name as "ip link" shows it. Required.
	Name string `yaml:"name"`
	// Role says on which side of the interface the servers are: "uplink"
	// (requests come in, as also inside a pod), "workload" (the host side of a
	// pod's veth: requests go out), "any" (both) or "loopback". Default "":
	// loopback for the loopback device, else any.
	Role string `yaml:"role"`
	// NetNS is the network namespace that has the interface, a path or a name
	// in /run/netns. Default "": the agent's own.
	NetNS string `yaml:"netns"`
}

// Experiment replays a share of some requests to a candidate.
type Experiment struct {
	// Name of the experiment in records, metrics and commands. Required.
	Name string `yaml:"name"`
	// Enabled false stops the experiment's replay (paused, disabled). Default true.
	Enabled bool `yaml:"enabled"`
	// Until is when the experiment ends. Default 7d from the agent's start.
	Until Until `yaml:"until"`
	Match Match `yaml:"match"`
	// Routes are the paths that are replayed; the most specific one that
	// matches counts. At least one.
	Routes []Route `yaml:"routes"`
	// Exclude are path patterns that are never replayed, beside the default
	// list. "!name" switches a rule of that list off, "!defaults" all of them.
	// Default none.
	Exclude   []string  `yaml:"exclude"`
	Sample    Sample    `yaml:"sample"`
	Candidate Candidate `yaml:"candidate"`
	Control   Control   `yaml:"control"`
	Replay    Replay    `yaml:"replay"`
	Compare   Compare   `yaml:"compare"`
	Guard     Guard     `yaml:"guard"`
}

// Match filters requests before paths are looked at. Every part that is set must
// match.
type Match struct {
	// Port is the server's port. Default 0: any that is captured.
	Port uint16 `yaml:"port"`
	// Host is the host that the request names, "*.example.com" for every name
	// below. Default "": any.
	Host string `yaml:"host"`
	// Methods are the methods. Default none: any.
	Methods []string `yaml:"methods"`
	// Headers must all be there with that value, or with any when it is "*".
	// Default none.
	Headers Headers `yaml:"headers"`
}

// Route is a path and what holds for it.
type Route struct {
	// Path is a pattern with the syntax and precedence of http.ServeMux, without
	// method and host. Required.
	Path string `yaml:"path"`
	// Key is the Kafka key: text with parameters of the path in braces, or
	// {route} for the pattern. Default "{route}".
	Key string `yaml:"key"`
	// Secret are parameters of the path whose values are replaced before anything
	// can be read, beside those whose names say it, such as {token}. Default none.
	Secret []string `yaml:"secret"`
	// Sample is the route's own rate. Default nil: the experiment's.
	Sample *Rate `yaml:"sample"`
}

// Sample says which share of the requests is replayed.
type Sample struct {
	// Rate is the share. Default 10%.
	Rate Rate `yaml:"rate"`
	// By says what the choice goes by: "request" (default), "url",
	// "header:NAME" or "connection".
	By string `yaml:"by"`
}

// Candidate is the version under test.
type Candidate struct {
	// URL is http or https, a host and a port, without a path. Required.
	URL string `yaml:"url"`
	// Version names the candidate in records and verdicts. Default "".
	Version string `yaml:"version"`
	TLS     TLS    `yaml:"tls"`
	// Host is "keep" (default: the Host header as captured) or "candidate" (the
	// URL's host and port).
	Host string `yaml:"host"`
	// Credentials is "forward" (default: requests go as captured, and therefore
	// only to private addresses or over https), "strip" (fields that carry
	// credentials are left out) or "forward-anywhere".
	Credentials string `yaml:"credentials"`
	// Trace is "fresh" (default: a new trace id, the old one in the record) or
	// "keep".
	Trace string `yaml:"trace"`
}

// TLS says how an https candidate is reached.
type TLS struct {
	// CAFile has the certificates to trust, PEM. Default "": the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the client's certificate and key, PEM. Default
	// none.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name that the certificate must be for. Default "": the
	// URL's host.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify true accepts any certificate. Default false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Control is a second instance of the reference version, which shows the noise.
// Its requests are made as the candidate's: tls, host, credentials, trace and
// replay hold for it too.
type Control struct {
	// URL as the candidate's. Default "": no control.
	URL string `yaml:"url"`
	// Share of the sampled requests that goes to the control too. Default 10%.
	Share Rate `yaml:"share"`
	// Self true asks the captured server once more instead, with safe methods
	// only. It needs a guard; captures, which have none, refuse it. Default false.
	Self bool `yaml:"self"`
	// IAcceptExtraLoad must be true with Self. Default false.
	IAcceptExtraLoad bool `yaml:"i_accept_extra_load"`
}

const defaultShare Rate = 10_00

// Replay bounds the requests to the candidate.
type Replay struct {
	// Timeout of one replay, from connect to the last byte; a reference that
	// took longer than half of it doubles its own time instead, up to 30s.
	// Default 2s, at most 30s.
	Timeout Duration `yaml:"timeout"`
	// MaxInFlight bounds the replays under way. Beyond it four times as many
	// wait, none longer than 100 ms; the rest is shed. Default 64.
	MaxInFlight int `yaml:"max_in_flight"`
	// MaxRate bounds the replays per second. Default "unlimited".
	MaxRate RequestRate `yaml:"max_rate"`
	// Unsafe are the methods that are replayed beside GET, HEAD and OPTIONS.
	// Default none.
	Unsafe []string `yaml:"unsafe"`
	// GRPC are the gRPC methods that are replayed, unary ones and those that
	// answer with a stream: /package.Service/Method, or /package.Service/* for
	// all of a service. Unsafe says nothing of them. Default none.
	GRPC []string `yaml:"grpc"`
	// Order is "free": replays overtake each other.
	Order string `yaml:"order"`
	// Warmup is the time from the first compared request on that latency leaves
	// out. Default 60s; 0s for none.
	Warmup Duration `yaml:"warmup"`
}

// Compare says what counts as a difference.
type Compare struct {
	Ignore Ignore `yaml:"ignore"`
	// Equal are values that may differ and count as equal. Default none.
	Equal []Equal `yaml:"equal"`
	// Arrays are arrays that are not compared by order. Default none.
	Arrays []Array `yaml:"arrays"`
	// Descriptors is a file of protobuf types, as protoc --include_imports
	// --descriptor_set_out writes it: fields of protobuf and gRPC bodies have their
	// names, and methods with idempotency_level NO_SIDE_EFFECTS are replayed as if
	// replay.grpc named them. Default "": fields go by their numbers.
	Descriptors string `yaml:"descriptors"`
	// Reflection is "candidate": a running agent asks the candidate itself for
	// the protobuf types, by gRPC server reflection, at the start and every 10
	// minutes. Fields have their names then; what is replayed does not change.
	// Default "": it is not asked. Not together with Descriptors.
	Reflection string `yaml:"reflection"`
	// MaxDepth is the nesting down to which JSON is compared by value; below it
	// what differs is not_fully_compared. Default 128, at most 10000.
	MaxDepth int `yaml:"max_depth"`
	// MaxDifferences bounds the differences of an answer's aspect; more are
	// not_fully_compared. Default 100, at most 1000.
	MaxDifferences int `yaml:"max_differences"`
	// Recheck asks a divergent pair that is published once more after this time,
	// if its method is safe: candidate and control, or without a control the
	// candidate alone. Default 0s: never; else from 100ms to 60s.
	Recheck Duration `yaml:"recheck"`
	// State is "shared" (default: candidate and reference share their data, so
	// that a write is stale for a minute) or "separate" (for ever).
	State string `yaml:"state"`
}

// Ignore lists what is compared but does not count, beside the default list.
type Ignore struct {
	// Headers are names of response headers; "X-Internal-*" stands for all that
	// begin so, "*" for all. Default none.
	Headers []string `yaml:"headers"`
	// JSON are paths into JSON bodies, such as $.meta.took, $.items[*].id,
	// $..etag or $.items[?@.type == 'ad']. Default none.
	JSON []string `yaml:"json" env:"elements"`
	// Values are regular expressions (RE2): what they match within a value
	// counts as the same. Default none.
	Values []string `yaml:"values" env:"elements"`
	// Aspects are whole aspects: status, grpc, header, body, trailer. Default
	// none.
	Aspects []string `yaml:"aspects"`
}

// Equal is a rule for values that may differ: one of Type, Tolerance and
// Pattern.
type Equal struct {
	// JSON is a path as in Ignore, of the values themselves. Header is a name as
	// there. Default both "": everywhere.
	JSON string `yaml:"json"`
	// Header is a name of a response header, "X-*" for all that begin so.
	Header string `yaml:"header"`
	// Type is uuid, timestamp or url (but for the host).
	Type string `yaml:"type"`
	// Within bounds how far two timestamps are apart. Default 0s: any.
	Within Duration `yaml:"within"`
	// Tolerance bounds how far two numbers are apart: 0.01, or 1% of the larger.
	Tolerance string `yaml:"tolerance"`
	// Pattern is a regular expression: what it matches counts as the same.
	Pattern string `yaml:"pattern"`
}

// Array is a rule for arrays: one of As and Key.
type Array struct {
	// JSON is a path to arrays. In XML and HTML $.list.item names the elements of
	// that name, and $.list all that are in it. Required.
	JSON string `yaml:"json"`
	// As is order or set.
	As string `yaml:"as"`
	// Key names the member that elements are found by: id, or @.meta.id; in XML
	// and HTML also an attribute, "@id".
	Key string `yaml:"key"`
}

// Guard pauses replay while the reference suffers.
type Guard struct {
	// Latency is how many times its usual median time to first byte the
	// reference may take. Default 1.25; "off" for any.
	Latency Factor `yaml:"latency"`
	// Errors is by how much the reference's share of 5xx and 429 may rise.
	// Default 0.5%; "off" for any.
	Errors Limit `yaml:"errors"`
}

// Verdict has the thresholds of the report.
type Verdict struct {
	// MaxDivergence is the largest share of divergent pairs. Default 0.1%.
	MaxDivergence Rate `yaml:"max_divergence"`
	// Confidence of the bound on that share. Default 99%.
	Confidence Rate `yaml:"confidence"`
	// MinCompared is the least number of pairs for a verdict. Default 0.
	MinCompared int `yaml:"min_compared"`
	// MaxUnseen is the largest share of requests that were not seen. Default 5%.
	MaxUnseen Rate `yaml:"max_unseen"`
	// MaxFailed is the largest share of replays that failed. Default 0.1%.
	MaxFailed Rate `yaml:"max_failed"`
	// MaxMasked is the largest number of masked paths. Default 0.
	MaxMasked int `yaml:"max_masked"`
	// Alpha bounds the chance of any false alarm. Default 5%.
	Alpha Rate `yaml:"alpha"`
	// NoiseMargin is the excess below which a difference is negligible. Default 0.1%.
	NoiseMargin Rate       `yaml:"noise_margin"`
	MaxLatency  MaxLatency `yaml:"max_latency"`
}

// MaxLatency is by how much the candidate may be slower to the first byte.
type MaxLatency struct {
	// P50 is for the median. Default 10%.
	P50 Percent `yaml:"p50"`
	// P99 is for the 99th percentile. Default 20%.
	P99 Percent `yaml:"p99"`
}

// Publish says what goes into records, and how many.
type Publish struct {
	// Values is "differences" (default: the differing values and the status),
	// "full" (whole answers too) or "digests".
	Values string `yaml:"values"`
	// PerFingerprint is how many divergences of one fingerprint are published
	// in an hour before Then begins, at least 1. Default 20.
	PerFingerprint int `yaml:"per_fingerprint"`
	// Then is the share that is published beyond it. Default 1%.
	Then Rate `yaml:"then"`
}

// Redaction says which values are replaced before anything can be read, beside
// the default lists.
type Redaction struct {
	// KeyFile has the key: 32 bytes, raw, as hex or as base64, or several, one a
	// line, perhaps behind an id and a space. The last line signs. The file is read
	// again every 10s. Default "": a random key for each process, so that values
	// can't be compared between agents.
	KeyFile string `yaml:"key_file"`
	// Headers are names of headers; * stands for any run of characters, and
	// "!name" takes a name off the default list. Default none.
	Headers []string `yaml:"headers"`
	// Query are names of query, form and path parameters, spelled as above.
	// Default none.
	Query []string `yaml:"query"`
	// JSON are names of keys, spelled as above, or paths such as $.user.name.
	// Default none.
	JSON []string `yaml:"json"`
	// Patterns are regular expressions (RE2) for values. Default none.
	Patterns []string `yaml:"patterns" env:"elements"`
}

// Sink is one place that divergences go to, and but for the terminal the
// windows. Exactly one of its fields is set.
type Sink struct {
	Kafka    *Kafka    `yaml:"kafka"`
	JSONL    *JSONL    `yaml:"jsonl"`
	Terminal *Terminal `yaml:"terminal"`
}

// Kind is "kafka", "jsonl" or "terminal"; "" when none is set.
func (s Sink) Kind() string {
	switch {
	case s.Kafka != nil:
		return "kafka"
	case s.JSONL != nil:
		return "jsonl"
	case s.Terminal != nil:
		return "terminal"
	}
	return ""
}

// Kafka publishes to a Kafka cluster.
type Kafka struct {
	// Topic of the divergences. Default shadowtap.divergences.
	Topic string `yaml:"topic"`
	// Windows is the topic of the window records, "" for none. Default
	// shadowtap.windows.
	Windows string `yaml:"windows"`
	// RecordFormat is "shadowtap" (default) or "miffy".
	RecordFormat string `yaml:"format"`
	// Properties are all other keys: client properties by their librdkafka
	// names, in lower case. They are checked by the sink, which also takes them
	// from KAFKA_* variables and knows the defaults.
	Properties Properties `yaml:",inline"`
}

// JSONL writes one JSON object a line.
type JSONL struct {
	// Path of the file, which is appended to; "-" is standard output. Required.
	Path string `yaml:"path"`
}

// Terminal shows divergences side by side on standard output.
type Terminal struct{}

// Spool keeps records on disk while Kafka is away.
type Spool struct {
	// Dir is the directory. Default "": no spool.
	Dir string `yaml:"dir"`
	// MaxBytes bounds it; the oldest are dropped. Default 64MiB.
	MaxBytes Size `yaml:"max_bytes"`
	// MaxAge bounds the records' age. Default 1h.
	MaxAge Duration `yaml:"max_age"`
}

// Management is where health, metrics and the admin interface are.
type Management struct {
	// Address for health and metrics over HTTP. Default 127.0.0.1:9000; "" for
	// none.
	Address string `yaml:"address"`
	// AdminSocket is the Unix socket of the admin interface. Default
	// /run/shadowtap/INSTANCE/admin.sock; "" for none.
	AdminSocket string `yaml:"admin_socket"`
	// TokenFile has the bearer token that opens the admin interface on Address.
	// Default "": it stays closed there.
	TokenFile string `yaml:"token_file"`
}

// Log says what is logged, to standard error.
type Log struct {
	// Level is "debug", "info" (default), "warn" or "error".
	Level string `yaml:"level"`
	// Format is "text" (default) or "json".
	Format string `yaml:"format"`
}

// New gives the configuration in which every key has its default.
func New() *Config {
	c := &Config{
		Version:  1,
		Instance: "default",
		Enabled:  true,
		Stop:     Stop{Drain: Duration(2 * time.Second), Deadline: Duration(15 * time.Second)},
		Capture: Capture{
			Attach:     "auto",
			Memory:     256 << 20,
			MaxBody:    1 << 20,
			CopyBudget: 1 << 30,
		},
		Verdict: Verdict{
			MaxDivergence: 10,
			Confidence:    99_00,
			MaxUnseen:     5_00,
			MaxFailed:     10,
			Alpha:         5_00,
			NoiseMargin:   10,
			MaxLatency:    MaxLatency{P50: 10_00, P99: 20_00},
		},
		Publish:    Publish{Values: "differences", PerFingerprint: 20, Then: 1_00},
		Spool:      Spool{MaxBytes: 64 << 20, MaxAge: Duration(time.Hour)},
		Management: Management{Address: "127.0.0.1:9000"},
		Log:        Log{Level: "info", Format: "text"},
		sources:    map[string]Source{},
		spelled:    map[string]string{},
	}
	c.SetInstance(c.Instance)
	return c
}

// NewExperiment gives the experiment in which every key but the name has its
// default.
func NewExperiment(name string) Experiment {
	var e Experiment
	e.setDefaults()
	e.Name = name
	return e
}

// defaulter is an element of a list that has defaults other than zero.
type defaulter interface{ setDefaults() }

func (e *Experiment) setDefaults() {
	*e = Experiment{
		Enabled:   true,
		Until:     Until{After: Duration(7 * day)},
		Sample:    Sample{Rate: 10_00, By: "request"},
		Candidate: Candidate{Host: "keep", Credentials: "forward", Trace: "fresh"},
		Control:   Control{Share: defaultShare},
		Replay: Replay{
			Timeout:     Duration(2 * time.Second),
			MaxInFlight: 64,
			Order:       "free",
			Warmup:      Duration(time.Minute),
		},
		Compare: Compare{MaxDepth: 128, MaxDifferences: 100, State: "shared"},
		Guard:   Guard{Latency: 1.25, Errors: Limit{Rate: 50}},
	}
}

func (r *Route) setDefaults() { *r = Route{Key: "{route}"} }

func (k *Kafka) setDefaults() {
	*k = Kafka{Topic: "shadowtap.divergences", Windows: "shadowtap.windows", RecordFormat: "shadowtap"}
}

// runDir is where an instance has its files by default.
const runDir = "/run/shadowtap"

// SetInstance changes the instance's name, and with it the paths that follow
// from it unless they were written.
func (c *Config) SetInstance(name string) {
	c.Instance = name
	if _, written := c.sources["off_file"]; !written {
		c.OffFile = runDir + "/" + name + "/off"
	}
	if _, written := c.sources["management.admin_socket"]; !written {
		c.Management.AdminSocket = runDir + "/" + name + "/admin.sock"
	}
}

// CapturePorts are the ports to capture, sorted: capture.ports, else those of the
// experiments.
func (c *Config) CapturePorts() []uint16 {
	ports := slices.Clone(c.Capture.Ports)
	if len(ports) == 0 {
		for i := range c.Experiments {
			if p := c.Experiments[i].Match.Port; p != 0 {
				ports = append(ports, p)
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// RateOf gives the rate that holds for a route.
func (e *Experiment) RateOf(route int) Rate {
	if r := e.Routes[route].Sample; r != nil {
		return *r
	}
	return e.Sample.Rate
}

// SinkNames gives each sink a name for metrics: its kind, with a number from the
// second of a kind on.
func (c *Config) SinkNames() []string {
	names := make([]string, len(c.Sinks))
	count := map[string]int{}
	for i, s := range c.Sinks {
		names[i] = s.Kind()
		if count[names[i]]++; count[names[i]] > 1 {
			names[i] += "-" + strconv.Itoa(count[names[i]])
		}
	}
	return names
}

// Env are the KAFKA_* variables as "NAME=value", for the Kafka sinks. They may
// be secret.
func (c *Config) Env() []string { return c.env }

// At tells where a key was written: the key itself, else the nearest part of
// the path above it that was, else the file. Zero when there is none. A path is
// spelled as in errors, experiments[0].sample.rate.
func (c *Config) At(path string) Source {
	for {
		if s, ok := c.sources[path]; ok {
			return s
		}
		i := strings.LastIndexAny(path, ".[")
		if i <= 0 {
			return c.sources[""]
		}
		path = path[:i]
	}
}

// Mark says that a key was set by something else than file and environment,
// such as the flag "--sample"; errors about it name that.
func (c *Config) Mark(path, source string) {
	if c.sources == nil {
		c.sources = map[string]Source{}
	}
	c.sources[path] = Source{Name: source}
	delete(c.spelled, path)
}

// ErrorIn makes an Error about a place in the text of a key, offset bytes behind
// its beginning: the column is that of the place, where the text was written on
// one line.
func (c *Config) ErrorIn(path string, offset int, format string, args ...any) error {
	var r report
	src := c.At(path)
	if raw, ok := c.spelled[path]; ok && src.Line > 0 {
		src.Column += columns(raw, offset)
	}
	r.add(src, path, format, args...)
	return r.list[0]
}

// Errorf makes an Error about a key, with the position of it.
func (c *Config) Errorf(path, format string, args ...any) error {
	var r report
	r.add(c.At(path), path, format, args...)
	return r.list[0]
}
