package publish

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// The record of a gRPC call over HTTP/2: by the schema, with the status to be
// read, and without the secrets of trailers, messages, metadata and bodies.
func TestGRPCRecord(t *testing.T) {
	const (
		mail     = "ada.lovelace@mail.example.com"
		trailer  = "trailer-secret-0123456789"
		header   = "header secret % 0123456789"
		request  = "request-trailer-secret-01"
		inBody   = "protobuf-secret-0123456789"
		inBinary = "details-secret-0123456789"
	)
	escaped := strings.NewReplacer("%", "%25", " ", "%20", "@", "%40")
	p := newPair()
	p.in.Route, p.in.Key, p.in.Params = "/users.v1.Users/Get", "{route}", nil
	q := p.in.Exchange.Request
	q.Method, q.Target, q.Proto, q.Scheme, q.Host = "POST", "/users.v1.Users/Get", "HTTP/2", "http", "users"
	q.Header = exchange.Header{{Name: "content-type", Value: "application/grpc"}, {Name: "x-api-key", Value: header}, {Name: "te", Value: "trailers"}}
	q.Trailer = exchange.Header{{Name: "x-auth-token", Value: request}}
	q.Body = body("\x00\x00\x00\x00\x1c\x0a\x1a" + inBody)
	kind := exchange.Header{{Name: "content-type", Value: "application/grpc+proto"}}
	ref, cand := p.in.Exchange.Response, p.in.Candidate.Response
	ref.Proto, ref.Header, ref.Body = "HTTP/2", kind, body("\x00\x00\x00\x00\x1c\x0a\x1a"+inBody)
	ref.Trailer = exchange.Header{{Name: "grpc-status", Value: "0"}}
	cand.Proto, cand.Header, cand.Body = "HTTP/2", kind, body("\x00\x00\x00\x00\x1d\x0a\x1b"+inBody+"!")
	cand.Trailer = exchange.Header{
		{Name: "grpc-status", Value: "5"},
		{Name: "grpc-message", Value: "no user " + escaped.Replace(mail) + ", key " + escaped.Replace(header) + ", " + request + ": password%3D" + "hunter22hunter22"},
		{Name: "grpc-status-details-bin", Value: base64.StdEncoding.EncodeToString([]byte("\x0a\x10" + inBinary))},
		{Name: "x-refresh-token", Value: trailer},
	}
	rules, err := diff.Compile(diff.RuleConfig{})
	if err != nil {
		t.Fatal(err)
	}
	term, err := NewTerminal(TerminalConfig{W: io.Discard, Width: 200, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.in.PublishWeight = 1
	p.in.Result = rules.Compare(q, ref, cand, diff.Input{})
	for _, mode := range []redact.Mode{redact.Differences, redact.Full, redact.Digests} {
		rec := redactor(t, redact.Config{Values: mode}).Record(&p.in)
		valid(t, rec.JSON())
		var record any
		if err := json.Unmarshal(rec.JSON(), &record); err != nil {
			t.Fatal(err)
		}
		all := string(rec.JSON()) + term.Render(rec) + decoded(record)
		for _, s := range []string{mail, trailer, header, request, inBody, inBinary, "hunter22", escaped.Replace(mail), escaped.Replace(header)} {
			for _, spelled := range spellings(s) {
				if strings.Contains(all, spelled) {
					t.Errorf("%v: %q is in\n%s", mode, spelled, all)
				}
			}
		}
		var d redact.Divergence
		if err := json.Unmarshal(rec.JSON(), &d); err != nil {
			t.Fatal(err)
		}
		if d.Request.Version != "HTTP/2" || d.Request.URL != "/users.v1.Users/Get" && mode != redact.Digests {
			t.Errorf("%v: %+v", mode, d.Request)
		}
		var words []string
		for _, f := range d.Differences {
			words = append(words, f.Aspect+" "+f.Kind+" "+f.Path)
		}
		if got, want := strings.Join(words, ", "), "grpc changed status, body changed $[0]['#1'], trailer added grpc-message, trailer added grpc-status-details-bin, trailer added x-refresh-token"; got != want {
			t.Fatalf("%v: %s, want %s", mode, got, want)
		}
		if s := d.Differences[0]; s.Reference.Text != "0" || s.Candidate.Text != "5" {
			t.Errorf("%v: status %+v %+v", mode, s.Reference, s.Candidate)
		}
		if b := d.Differences[1]; b.Reference.Text != "" || !b.Reference.Truncated || b.Reference.Digest == b.Candidate.Digest || b.Reference.Size != 26 {
			t.Errorf("%v: body %+v", mode, b.Reference)
		}
		if m := d.Differences[2].Candidate; mode != redact.Digests && (!strings.HasPrefix(m.Text, "no user ~") || !strings.Contains(m.Text, ", key ~")) {
			t.Errorf("%v: message %q", mode, m.Text)
		}
		if m := d.Candidate.Trailers["grpc-message"]; mode != redact.Digests && (len(m) != 1 || !strings.HasPrefix(m[0], "no user ~")) {
			t.Errorf("%v: message %q", mode, m)
		}
	}
	// A status that is none is a text as any other.
	cand.Trailer = exchange.Header{{Name: "grpc-status", Value: mail}}
	p.in.Result = rules.Compare(q, ref, cand, diff.Input{})
	rec := redactor(t, redact.Config{}).Record(&p.in)
	valid(t, rec.JSON())
	if strings.Contains(string(rec.JSON()), mail) {
		t.Errorf("%s", rec.JSON())
	}
}

// decoded is every text of a record that is base64, decoded.
func decoded(v any) (all string) {
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			all += decoded(e)
		}
	case []any:
		for _, e := range v {
			all += decoded(e)
		}
	case string:
		if b, err := base64.StdEncoding.DecodeString(v); err == nil {
			all = string(b) + "\n"
		}
	}
	return all
}
