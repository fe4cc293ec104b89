package redact

import (
	"bytes"
	"encoding/json"
	"net/url"
	"sync"
	"time"

	"github.com/shadowtap/shadowtap/diff/verdict"
)

// Schema is the schema and CloudEvents type of a divergence record.
const Schema = "shadowtap.divergence.v1"

// Divergence is the value of a divergence record, as agent/publish/schema
// describes it. Every text in it is redacted. Readers decode records into it;
// what is to be published is a Record, which only this package makes.
type Divergence struct {
	Schema         string `json:"schema"`
	ID             string `json:"id"`
	ExchangeID     string `json:"exchange_id"`
	Time           string `json:"time"`
	Published      string `json:"published"`
	Node           string `json:"node"`
	Cluster        string `json:"cluster"`
	Namespace      string `json:"namespace"`
	Pod            string `json:"pod"`
	Service        string `json:"service"`
	AgentVersion   string `json:"agent_version"`
	BootID         string `json:"boot_id"`
	ConfigRevision string `json:"config_revision"`
	Source         string `json:"source"`

	Experiment       string            `json:"experiment"`
	Route            string            `json:"route"`
	Params           map[string]string `json:"params"`
	CandidateVersion string            `json:"candidate_version"`
	CandidateAddress string            `json:"candidate_address"`
	TraceID          string            `json:"trace_id"`
	SampleRate       float64           `json:"sample_rate"`
	Weight           float64           `json:"weight"`
	PublishWeight    float64           `json:"publish_weight"`

	// Outcome is divergent or not_comparable, Why the ledger's reason.
	Outcome string `json:"outcome"`
	Why     string `json:"why"`

	Request     Request `json:"request"`
	Reference   Answer  `json:"reference"`
	Candidate   Answer  `json:"candidate"`
	Control     *Answer `json:"control"`
	ReplayLagUS int64   `json:"replay_lag_us"`
	// ControlKind is instance or self, "" when the control was not asked.
	ControlKind string `json:"control_kind,omitempty"`
	// Recheck is there when candidate and control were asked once more.
	Recheck     *RecheckRecord `json:"recheck,omitempty"`
	Differences []Difference   `json:"differences"`
	// Omitted is how many further differences did not fit.
	Omitted int    `json:"differences_omitted"`
	Cause   string `json:"cause"`
}

// RecheckRecord is what came of asking once more.
type RecheckRecord struct {
	// Result is a Recheck's.
	Result string `json:"result"`
	// AfterUS is the time from the first replay to the second in microseconds,
	// nil when there was none.
	AfterUS *int64 `json:"after_us"`
}

// Request is the request as captured.
type Request struct {
	Method string `json:"method"`
	// URL is the request target.
	URL     string              `json:"url"`
	Version string              `json:"version"`
	Headers map[string][]string `json:"headers"`
	Body    Body                `json:"body"`
}

// Answer is one answer, or why there is none.
type Answer struct {
	// Status is 0 when there is no answer.
	Status  int                 `json:"status"`
	Headers map[string][]string `json:"headers"`
	// Trailers are there when the answer had some.
	Trailers map[string][]string `json:"trailers,omitempty"`
	Body     Body                `json:"body"`
	// TTFBUS and TTLBUS are the times from the request's end to the answer's
	// first and last byte in microseconds, nil when it did not come to that.
	TTFBUS *int64 `json:"ttfb_us"`
	TTLBUS *int64 `json:"ttlb_us"`
	// Connection is new or reused.
	Connection string `json:"connection"`
	// Error is the word for what failed, "" when nothing did.
	Error string `json:"error"`
	// ErrorText says it in words.
	ErrorText string `json:"error_text,omitempty"`
	// TraceID is the one that a replay carried.
	TraceID string `json:"trace_id,omitempty"`
}

// Body is a body or a value.
type Body struct {
	// MediaType is in lower case and without parameters.
	MediaType string `json:"media_type"`
	// Encoding is utf-8 or base64, of Text.
	Encoding string `json:"encoding"`
	// Text is the content, decoded and redacted, or a piece of it, or "".
	Text string `json:"text"`
	// Size is the length of the whole content in bytes as it was captured; 0
	// for a value that is a secret.
	Size int64 `json:"size"`
	// Truncated says that Text is not the whole.
	Truncated bool `json:"truncated"`
	// Digest is the token of the whole content, "" when that is unknown.
	Digest string `json:"digest"`
	// Offset is where Text starts in the whole.
	Offset int64 `json:"offset,omitempty"`
}

// Difference is one place in which the answers differ. A side without a value
// there is nil.
type Difference struct {
	Fingerprint string `json:"fingerprint"`
	Aspect      string `json:"aspect"`
	Kind        string `json:"kind"`
	Path        string `json:"path"`
	// Detail explains in fixed words.
	Detail    string `json:"detail,omitempty"`
	Reference *Body  `json:"reference"`
	Candidate *Body  `json:"candidate"`
	Control   *Body  `json:"control"`
	// Side is both when the control differs from the reference in this too, else
	// candidate_only; "" where there is no pair.
	Side string `json:"side,omitempty"`
}

// Kind says what a Record is of.
type Kind uint8

const (
	// KindDivergence: a divergence, or a pair that was not comparable.
	KindDivergence Kind = iota
	// KindWindow: what an agent counted in a window.
	KindWindow
	// NumKinds is the number of kinds.
	NumKinds
)

var kindWords = [NumKinds]string{"divergence", "window"}

// String is the ledger's record label.
func (k Kind) String() string { return kindWords[k] }

// Record is a redacted divergence, or a window: the only thing that sinks, ring,
// page and logs accept, and only a Redactor makes one. It is frozen and safe for
// concurrent use.
type Record struct {
	w            *verdict.Window // of a window, else nil
	d            Divergence
	key          []byte
	fingerprints []string
	time         time.Time
	max          int

	once sync.Once
	json []byte
}

// Kind says what it is of.
func (r *Record) Kind() Kind {
	if r.w != nil {
		return KindWindow
	}
	return KindDivergence
}

// Divergence is the record's content, nil for a window. The caller does not
// write to it, nor to anything that it refers to.
func (r *Record) Divergence() *Divergence {
	if r.w != nil {
		return nil
	}
	return &r.d
}

// Window is the record's content, nil for a divergence. The caller does not
// write to it, nor to anything that it refers to.
func (r *Record) Window() *verdict.Window { return r.w }

// Key is the Kafka key. Of a divergence it is the route's key text with redacted
// parameters. Of a window it is the agent's name, so that the windows of an agent
// are in one partition, and there in their order. The caller does not write to
// it.
func (r *Record) Key() []byte { return r.key }

// Time is the time of the reference's request, or the end of the window.
func (r *Record) Time() time.Time { return r.time }

// Fingerprints are the distinct fingerprints of the differences, sorted; none
// when the pair was not comparable. The caller does not write to it.
func (r *Record) Fingerprints() []string { return r.fingerprints }

// Admitted says whether the publish weight is set, that is whether it has been
// decided that the record is published. A window always is.
func (r *Record) Admitted() bool { return r.w != nil || r.d.PublishWeight > 0 }

// WithPublishWeight is the same divergence with its publish weight set.
func (r *Record) WithPublishWeight(w float64) *Record {
	c := &Record{d: r.d, key: r.key, fingerprints: r.fingerprints, time: r.time, max: r.max}
	c.d.PublishWeight = w
	return c
}

// JSON is the record's value, without a line feed: the same bytes for the same
// content. It is made once, at the first call. The caller does not write to
// it.
func (r *Record) JSON() []byte {
	r.once.Do(func() {
		if r.w == nil { // a window's is made with it
			r.json = fit(r.d, r.max)
		}
	})
	return r.json
}

// Header is one header of a message.
type Header struct{ Name, Value string }

// Headers are the message headers of CloudEvents 1.0 in binary content mode
// (Kafka protocol binding section 3.2). The caller owns the slice.
func (r *Record) Headers() []Header {
	if r.w != nil {
		return windowHeaders(r.w)
	}
	source := "/shadowtap"
	for _, part := range []string{r.d.Cluster, r.d.Node} {
		if part != "" {
			source += "/" + url.PathEscape(part)
		}
	}
	return cloudEvent(r.d.ID, source, Schema, r.d.Time, r.d.Experiment, r.d.Route)
}

func cloudEvent(id, source, kind, time, experiment, route string) []Header {
	h := []Header{
		{"ce_specversion", "1.0"},
		{"ce_id", id},
		{"ce_source", source},
		{"ce_type", kind},
		{"ce_time", time},
	}
	if subject := experiment + " " + route; subject != " " {
		h = append(h, Header{"ce_subject", subject})
	}
	return append(h, Header{"content-type", "application/json"})
}

// marshal is the canonical form: fields in the order of the struct, maps by
// key, no white space, no HTML escapes.
func marshal(d *Divergence) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(d); err != nil {
		// Only a NaN or an infinity can't be encoded, and Record lets none in.
		panic("redact: encode a record: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// micros is the form of times in records.
const micros = "2006-01-02T15:04:05.000000Z"

func stamp(t time.Time) string { return t.UTC().Format(micros) }

// Size is about how many bytes the record holds in memory, without the JSON of a
// divergence.
func (r *Record) Size() int64 {
	if r.w != nil {
		return 1024 + 3*int64(len(r.json)) // the window's maps are about as large as their texts
	}
	n := 1024 + len(r.key) + r.d.Request.size()
	for _, a := range []*Answer{&r.d.Reference, &r.d.Candidate, r.d.Control} {
		if a != nil {
			n += headersSize(a.Headers) + headersSize(a.Trailers) + len(a.Body.Text) + len(a.ErrorText)
		}
	}
	for i := range r.d.Differences {
		f := &r.d.Differences[i]
		n += 256 + len(f.Path)
		for _, v := range []*Body{f.Reference, f.Candidate, f.Control} {
			if v != nil {
				n += 128 + len(v.Text)
			}
		}
	}
	return int64(n)
}

func (q *Request) size() int {
	return len(q.URL) + headersSize(q.Headers) + len(q.Body.Text)
}

func headersSize(h map[string][]string) (n int) {
	for name, values := range h {
		n += 64 + len(name)
		for _, v := range values {
			n += 16 + len(v)
		}
	}
	return n
}
