package publish

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// at is when the sample exchange was seen.
var at = time.Date(2026, 11, 22, 12, 4, 5, 123456000, time.UTC)

func body(s string) exchange.Body {
	return exchange.Body{Bytes: []byte(s), Size: int64(len(s))}
}

// pair is an exchange and a candidate's answer that the tests change as they
// need before they make a record of it.
type pair struct {
	in    redact.Input
	rules diff.RuleConfig
}

func newPair() *pair {
	start := at.UnixNano()
	x := &exchange.Exchange{
		Flow:   exchange.Flow{Client: netip.MustParseAddrPort("10.0.0.7:41000"), Server: netip.MustParseAddrPort("10.0.0.1:8080")},
		ISN:    1,
		Reused: true,
		Request: &exchange.Request{
			Method: "GET", Target: "/users/42?lang=en", Proto: "HTTP/1.1", Host: "users:8080",
			Header:    exchange.Header{{Name: "Host", Value: "users:8080"}, {Name: "Accept", Value: "application/json"}},
			FirstByte: start, LastByte: start + 100e3,
		},
		Response: &exchange.Response{
			Status: 200, Proto: "HTTP/1.1",
			Header:    exchange.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Served-By", Value: "users-7"}},
			Body:      body(`{"id":42,"name":"Ada Lovelace","roles":["admin","user"],"tags":{"a":1}}`),
			FirstByte: start + 1_300e3, LastByte: start + 1_900e3,
		},
	}
	x.ID = exchange.NewID(x.Flow, x.ISN, x.Offset)
	p := &pair{in: redact.Input{
		Node: "node-1", Cluster: "test", Namespace: "shop", Pod: "users-7", Service: "users", AgentVersion: "0.1.0", BootID: "b1", ConfigRevision: "r1",
		Source: redact.SourceLive, Experiment: "users", Route: "/users/{id}", Params: []redact.Param{{Name: "id", Value: "42"}}, Key: "{id}",
		Exchange: x,
		Candidate: redact.Leg{
			Response: &exchange.Response{
				Status: 200, Proto: "HTTP/1.1",
				Header: exchange.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Served-By", Value: "users-7"}},
				Body:   body(`{"id":42,"name":"Ada","roles":["admin","user"],"tags":{"a":1}}`),
			},
			Start: start + 15e6, FirstByte: start + 18_400e3, LastByte: start + 18_900e3,
		},
		CandidateVersion: "v2", CandidateAddress: "10.0.0.2:8080", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		ReplayLag: 15 * time.Millisecond, SampleRate: 0.1, Published: at.Add(time.Second),
	}}
	return p
}

// compare fills in the comparison.
func (p *pair) compare(t testing.TB) *redact.Input {
	t.Helper()
	rules, err := diff.Compile(p.rules)
	if err != nil {
		t.Fatal(err)
	}
	p.in.Result = rules.Compare(p.in.Exchange.Request, p.in.Exchange.Response, p.in.Candidate.Response, diff.Input{CandidateError: p.in.Candidate.Error})
	return &p.in
}

func redactor(t testing.TB, c redact.Config) *redact.Redactor {
	t.Helper()
	if c.Key == nil && !c.Deterministic {
		c.Key = []byte("0123456789abcdef0123456789abcdef")
		c.KeyID = "k1"
	}
	r, err := redact.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// record makes a record of the pair that is admitted already.
func (p *pair) record(t testing.TB, c redact.Config) *redact.Record {
	t.Helper()
	p.in.PublishWeight = 1
	return redactor(t, c).Record(p.compare(t))
}
