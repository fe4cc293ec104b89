package redact

import (
	"time"

	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// The sources of an exchange.
const (
	SourceLive  = "live"
	SourcePcap  = "pcap"
	SourceProxy = "proxy"
)

// Input is a divergence, or a pair that was not comparable, in clear. Nothing
// in it is changed, and nothing of it is kept after Record returns but texts
// that hold no secret.
type Input struct {
	// Where it was seen. Empty is allowed everywhere.
	Node, Cluster, Namespace, Pod, Service string
	AgentVersion, BootID, ConfigRevision   string
	// Source is one of the Source constants.
	Source string

	// Experiment is its name, Route the pattern of its matched route.
	Experiment, Route string
	// Params are the route's path parameters with their values as captured.
	Params []Param
	// SecretParams names those of them that are secret, besides the ones that
	// have a secret name.
	SecretParams []string
	// Key is the route's key: a text with parameters in braces, "{route}" for
	// the pattern. Empty means "{route}".
	Key string

	// Exchange is the request with the reference's answer. Required, with both.
	Exchange *exchange.Exchange
	// Candidate is what the candidate did. Control, when not nil, is what the
	// control did.
	Candidate Leg
	Control   *Leg
	// ControlSelf says that the control was the captured server itself.
	ControlSelf bool
	// Result is the comparison with the candidate. Required. ControlResult is
	// that of reference and control, nil where there is no pair.
	Result, ControlResult *diff.Result
	// Recheck is what came of asking once more, nil when nobody did.
	Recheck *Recheck

	// CandidateVersion and CandidateAddress name what was asked.
	CandidateVersion, CandidateAddress string
	// TraceID is the captured request's.
	TraceID string
	// ReplayLag is the time from the reference's request to the replay.
	ReplayLag time.Duration

	// SampleRate is the share of the route's requests that is selected, above
	// 0 and up to 1.
	SampleRate float64
	// Weight is how many requests this one stands for. Zero means
	// 1/SampleRate.
	Weight float64
	// PublishWeight is how many divergences this record stands for. Zero means
	// that it has not been decided yet: the publisher does.
	PublishWeight float64
	// Published is the time of publishing. Zero, or a deterministic Redactor,
	// means the exchange's time.
	Published time.Time
}

// Param is a path parameter.
type Param struct{ Name, Value string }

// Recheck is what came of asking once more.
type Recheck struct {
	// Result is converged, divergent, or why neither is known: failed,
	// not_comparable, shed, rate_limited, breaker_open or stopped.
	Result string
	// After is the time from the first replay to the second, 0 when there was
	// none.
	After time.Duration
}

// Leg is one replay: an answer, or why there is none.
type Leg struct {
	// Response is the answer, nil when Error is set.
	Response *exchange.Response
	// Error is the word for what failed (connect, timeout, body, ...), ""
	// when nothing did. Detail says it in words; it may hold anything.
	Error, Detail string
	// Reused says that the connection had carried another request before.
	Reused bool
	// Start is when the request was handed to an open connection, FirstByte
	// and LastByte are those of the answer, in nanoseconds since the Unix
	// epoch; 0 when it did not come to that.
	Start, FirstByte, LastByte int64
	// TraceID is the one that was sent, "" without.
	TraceID string
}
