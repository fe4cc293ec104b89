package redact

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

var seen = time.Date(2026, 11, 22, 12, 4, 5, 123456789, time.UTC)

// newInput is a pair whose bodies are JSON and differ in name.
func newInput() *Input {
	start := seen.UnixNano()
	body := func(s string) exchange.Body { return exchange.Body{Bytes: []byte(s), Size: int64(len(s))} }
	x := &exchange.Exchange{
		Flow: exchange.Flow{Client: netip.MustParseAddrPort("10.0.0.7:41000"), Server: netip.MustParseAddrPort("10.0.0.1:8080")},
		ISN:  7,
		Request: &exchange.Request{
			Method: "GET", Target: "/users/42?lang=en", Proto: "HTTP/1.1",
			Header:    exchange.Header{{Name: "Host", Value: "users"}},
			FirstByte: start, LastByte: start + 100e3,
		},
		Response: &exchange.Response{
			Status: 200, Proto: "HTTP/1.1", Header: exchange.Header{{Name: "Content-Type", Value: "application/json; charset=utf-8"}},
			Body: body(`{"id":42,"name":"Ada","note":"x"}`), FirstByte: start + 1_300e3, LastByte: start + 1_900e3,
		},
	}
	x.ID = exchange.NewID(x.Flow, x.ISN, x.Offset)
	return &Input{
		Node: "n1", Cluster: "c 1", Namespace: "ns", Pod: "p", Service: "s", AgentVersion: "1", BootID: "b", ConfigRevision: "r",
		Source: SourceLive, Experiment: "users", Route: "/users/{id}", Params: []Param{{"id", "42"}}, Key: "user {id}",
		Exchange: x,
		Candidate: Leg{
			Response: &exchange.Response{
				Status: 200, Proto: "HTTP/1.1", Header: exchange.Header{{Name: "Content-Type", Value: "application/json; charset=utf-8"}},
				Body: body(`{"id":42,"name":"Eve","note":"x"}`),
			},
			Start: start + 15e6, FirstByte: start + 18e6, LastByte: start + 19e6, TraceID: "00f067aa0ba902b7",
		},
		CandidateVersion: "v2", CandidateAddress: "10.0.0.2:80", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		ReplayLag: 15*time.Millisecond + 999, SampleRate: 0.25, PublishWeight: 1, Published: seen.Add(time.Second),
	}
}

// compared fills in the comparison.
func compared(t testing.TB, in *Input) *Input {
	t.Helper()
	rules, err := diff.Compile(diff.RuleConfig{})
	if err != nil {
		t.Fatal(err)
	}
	in.Result = rules.Compare(in.Exchange.Request, in.Exchange.Response, in.Candidate.Response, diff.Input{CandidateError: in.Candidate.Error})
	return in
}

func TestRecord(t *testing.T) {
	r := newRedactor(t, Config{})
	in := compared(t, newInput())
	rec := r.Record(in)
	tok := r.tokens.Load().token
	d := rec.Divergence()

	i64 := func(n int64) *int64 { return &n }
	want := &Divergence{
		Schema: "shadowtap.divergence.v1", ID: in.Exchange.ID.For("users"), ExchangeID: string(in.Exchange.ID),
		Time: "2026-11-22T12:04:05.123456Z", Published: "2026-11-22T12:04:06.123456Z",
		Node: "n1", Cluster: "c 1", Namespace: "ns", Pod: "p", Service: "s", AgentVersion: "1", BootID: "b", ConfigRevision: "r",
		Source: "live", Experiment: "users", Route: "/users/{id}", Params: map[string]string{"id": "42"},
		CandidateVersion: "v2", CandidateAddress: "10.0.0.2:80", TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
		SampleRate: 0.25, Weight: 4, PublishWeight: 1, Outcome: "divergent",
		Request: Request{
			Method: "GET", URL: "/users/42?lang=en", Version: "HTTP/1.1", Headers: map[string][]string{"host": {"users"}},
			Body: Body{Encoding: "utf-8"},
		},
		Reference: Answer{
			Status: 200, Headers: map[string][]string{"content-type": {"application/json; charset=utf-8"}},
			Body: Body{
				MediaType: "application/json", Encoding: "utf-8", Size: 33, Truncated: true,
				Digest: tok("body", sha(`{"id":42,"name":"Ada","note":"x"}`)),
			},
			TTFBUS: i64(1200), TTLBUS: i64(1800), Connection: "new",
		},
		Candidate: Answer{
			Status: 200, Headers: map[string][]string{"content-type": {"application/json; charset=utf-8"}},
			Body: Body{
				MediaType: "application/json", Encoding: "utf-8", Size: 33, Truncated: true,
				Digest: tok("body", sha(`{"id":42,"name":"Eve","note":"x"}`)),
			},
			TTFBUS: i64(3000), TTLBUS: i64(4000), Connection: "new", TraceID: "00f067aa0ba902b7",
		},
		ReplayLagUS: 15000,
		Differences: []Difference{{
			Fingerprint: diff.Fingerprint("users", "/users/{id}", &in.Result.Differences[0]),
			Aspect:      "body", Kind: "changed", Path: "$.name",
			Reference: &Body{MediaType: "application/json", Encoding: "utf-8", Text: `"Ada"`, Size: 3, Digest: tok("value", `"Ada"`)},
			Candidate: &Body{MediaType: "application/json", Encoding: "utf-8", Text: `"Eve"`, Size: 3, Digest: tok("value", `"Eve"`)},
		}},
		Cause: diff.Cause([]string{diff.Fingerprint("users", "/users/{id}", &in.Result.Differences[0])}),
	}
	if !reflect.DeepEqual(d, want) {
		got, _ := json.MarshalIndent(d, "", " ")
		exp, _ := json.MarshalIndent(want, "", " ")
		t.Errorf("got  %s\nwant %s", got, exp)
	}
	if string(rec.Key()) != "user 42" {
		t.Errorf("key %q", rec.Key())
	}
	if !rec.Time().Equal(seen) {
		t.Errorf("time %v", rec.Time())
	}
	if !slices.Equal(rec.Fingerprints(), []string{want.Differences[0].Fingerprint}) {
		t.Errorf("fingerprints %v", rec.Fingerprints())
	}
	wantHeaders := []Header{
		{"ce_specversion", "1.0"}, {"ce_id", want.ID}, {"ce_source", "/shadowtap/c%201/n1"}, {"ce_type", "shadowtap.divergence.v1"},
		{"ce_time", want.Time}, {"ce_subject", "users /users/{id}"}, {"content-type", "application/json"},
	}
	if got := rec.Headers(); !slices.Equal(got, wantHeaders) {
		t.Errorf("headers %v", got)
	}
	var back Divergence
	if err := json.Unmarshal(rec.JSON(), &back); err != nil || !reflect.DeepEqual(&back, d) {
		t.Errorf("decoded again: %v %+v", err, back)
	}
}

func sha(s string) string {
	sum := sha256Of(s)
	return string(sum[:])
}

func TestRecordOfAFailedCandidate(t *testing.T) {
	in := newInput()
	in.Candidate = Leg{Error: "connect", Detail: "dial http://bob:pw@10.0.0.2: refused"}
	rec := newRedactor(t, Config{}).Record(compared(t, in))
	c := rec.Divergence().Candidate
	if c.Status != 0 || c.Error != "connect" || c.TTFBUS != nil || c.TTLBUS != nil || c.Headers == nil || strings.Contains(c.ErrorText, "pw") || c.ErrorText == "" {
		t.Errorf("candidate %+v", c)
	}
	d := rec.Divergence()
	if d.Outcome != "divergent" || d.Why != "failed" || len(d.Differences) != 1 || d.Differences[0].Candidate.Text != "connect" || d.Differences[0].Reference != nil {
		t.Errorf("divergence %+v", d)
	}
}

// What an error quotes of an answer is replaced as a whole.
func TestErrorTexts(t *testing.T) {
	r := newRedactor(t, Config{})
	tok := r.tokens.Load().token
	for in, want := range map[string]string{
		"dial tcp 10.0.0.2:80: connect: connection refused":      "dial tcp 10.0.0.2:80: connect: connection refused",
		`malformed MIME header line: "hidden \"12\" x" after`:    "malformed MIME header line: " + tok("error", `hidden "12" x`) + " after",
		`malformed HTTP response "hidden`:                        "malformed HTTP response " + tok("error", "hidden"),
		`a "b" and "c"`:                                          "a " + tok("error", "b") + " and " + tok("error", "c"),
		`the peer goes away: ENHANCE_YOUR_CALM "too_many_pings"`: `the peer goes away: ENHANCE_YOUR_CALM "too_many_pings"`,
		`goes away "password" "_a" "a__b" "a_1"`:                 "goes away " + tok("error", "password") + " " + tok("error", "_a") + " " + tok("error", "a__b") + " " + tok("error", "a_1"),
		`empty "" and "\q`:                                       `empty  and ` + tok("error", `\q`),
		`to "ada@example.com"`:                                   "to \"" + tok("email", "ada@example.com") + "\"",
	} {
		in2 := newInput()
		in2.Candidate = Leg{Error: "protocol", Detail: in}
		if got := r.Record(in2).Divergence().Candidate.ErrorText; got != want {
			t.Errorf("%s:\n got  %s\n want %s", in, got, want)
		}
	}
}

func TestRecordNotComparable(t *testing.T) {
	in := newInput()
	in.Exchange.Response.Status = 503
	rec := newRedactor(t, Config{}).Record(compared(t, in))
	d := rec.Divergence()
	if d.Outcome != "not_comparable" || d.Why != "reference_failed" || len(rec.Fingerprints()) != 0 || d.Cause != "" {
		t.Errorf("outcome %s why %s fingerprints %v cause %q", d.Outcome, d.Why, rec.Fingerprints(), d.Cause)
	}
}

func TestRecordLeavesIgnoredOut(t *testing.T) {
	in := newInput()
	in.Candidate.Response.Header = append(in.Candidate.Response.Header, exchange.Field{Name: "Date", Value: "now"})
	rec := newRedactor(t, Config{}).Record(compared(t, in))
	if n := len(in.Result.Differences); n != 2 {
		t.Fatalf("%d differences compared, want the ignored one too", n)
	}
	if d := rec.Divergence().Differences; len(d) != 1 || d[0].Aspect != "body" {
		t.Errorf("differences %+v", d)
	}
}

func TestRecordControl(t *testing.T) {
	in := newInput()
	in.Candidate.Response.Status = 201
	control := *in.Exchange.Response
	control.Body = exchange.Body{Bytes: []byte(`{"id":42,"name":"Bob","note":"x"}`), Size: 33}
	in.Control = &Leg{Response: &control, Start: 1000, FirstByte: 2000, LastByte: 500, Reused: true}
	compared(t, in)
	rules, err := diff.Compile(diff.RuleConfig{})
	if err != nil {
		t.Fatal(err)
	}
	in.ControlResult = rules.Compare(in.Exchange.Request, in.Exchange.Response, &control, diff.Input{})
	d := newRedactor(t, Config{}).Record(in).Divergence()
	if d.Control == nil || d.Control.Connection != "reused" || *d.Control.TTFBUS != 1 || *d.Control.TTLBUS != 0 {
		t.Fatalf("control %+v", d.Control)
	}
	got := map[string]string{}
	for _, f := range d.Differences {
		got[f.Aspect] = f.Control.Text + " " + f.Side
	}
	// The control agrees with the reference on the status and has a third name.
	if fmt.Sprint(got) != `map[body:"Bob" both status:200 candidate_only]` {
		t.Errorf("control's values: %v", got)
	}
	if d.ControlKind != "instance" || d.Recheck != nil {
		t.Errorf("control %q, recheck %+v", d.ControlKind, d.Recheck)
	}
	// What is no pair has no side.
	in.ControlResult, in.ControlSelf, in.Recheck = nil, true, &Recheck{Result: "converged", After: 2 * time.Second}
	d = newRedactor(t, Config{}).Record(in).Divergence()
	for _, f := range d.Differences {
		if f.Side != "" || f.Control != nil {
			t.Errorf("%s: side %q, control %+v", f.Path, f.Side, f.Control)
		}
	}
	if d.ControlKind != "self" || d.Control == nil || d.Recheck.Result != "converged" || *d.Recheck.AfterUS != 2_000_000 {
		t.Errorf("control %q %+v, recheck %+v", d.ControlKind, d.Control, d.Recheck)
	}
}

func TestRecordDeterministic(t *testing.T) {
	make := func() []byte {
		r := newRedactor(t, Config{Deterministic: true})
		var all []byte
		for i := range 3 {
			in := newInput()
			in.Source = SourcePcap
			in.BootID, in.Published = fmt.Sprint(time.Now().UnixNano()), time.Now()
			in.Exchange.Request.Header = append(in.Exchange.Request.Header, exchange.Field{Name: "Cookie", Value: fmt.Sprintf("sid=abc%d; b=2", i/2)})
			in.Candidate.Response.Header = append(in.Candidate.Response.Header, exchange.Field{Name: "X-Api-Key", Value: "k"})
			all = append(all, r.Record(compared(t, in)).JSON()...)
		}
		return all
	}
	a, b := make(), make()
	if !bytes.Equal(a, b) {
		t.Errorf("two runs differ:\n%s\n%s", a, b)
	}
	if bytes.Contains(a, []byte(`"node":"n1"`)) || bytes.Contains(a, []byte(`"boot_id":"1`)) || !bytes.Contains(a, []byte(`"published":"2026-11-22T12:04:05.123456Z"`)) {
		t.Errorf("node, boot_id or published are not those of a deterministic record: %s", a)
	}
	// The first two records share their cookie; the first record has eight
	// values, so the third's other cookie is the ninth.
	if bytes.Count(a, []byte("sid=~local.1;")) != 2 || bytes.Count(a, []byte("sid=~local.9;")) != 1 {
		t.Errorf("no ordinals by first appearance: %s", a)
	}
}

func TestModes(t *testing.T) {
	in := func() *Input {
		in := newInput()
		in.Candidate.Response.Header = append(in.Candidate.Response.Header, exchange.Field{Name: "X-Free", Value: "openvalue"})
		in.Candidate.Detail = "some detail"
		return compared(t, in)
	}
	for mode, c := range map[Mode]struct{ has, hasNot []string }{
		Differences: {[]string{`\"Ada\"`, `\"Eve\"`, "openvalue", "/users/42?lang=en", "some detail"}, []string{`\"note\"`}},
		Full:        {[]string{`\"Ada\"`, `\"Eve\"`, "openvalue", "/users/42?lang=en", `{\"id\":42,\"name\":\"Eve\",\"note\":\"x\"}`}, nil},
		Digests:     {[]string{`"status":200`, `"path":"$.name"`, `"x-free":["~k.`, "/users/~k.", "application/json", `"id":"~k.`}, []string{`Ada`, `Eve`, "openvalue", "42?", "lang", "note", "detail\""}},
	} {
		rec := newRedactor(t, Config{Values: mode}).Record(in())
		j := string(rec.JSON())
		for _, s := range c.has {
			if !strings.Contains(j, s) {
				t.Errorf("%v: %q is missing in %s", mode, s, j)
			}
		}
		for _, s := range c.hasNot {
			if strings.Contains(j, s) {
				t.Errorf("%v: %q is in %s", mode, s, j)
			}
		}
		if mode == Digests && string(rec.Key()) == "user 42" {
			t.Errorf("digests: key %q", rec.Key())
		}
		if mode == Full {
			b := rec.Divergence().Candidate.Body
			if b.Truncated || b.Text != `{"id":42,"name":"Eve","note":"x"}` {
				t.Errorf("full: body %+v", b)
			}
		}
	}
}

// TestDigestsAreKeyed: in no mode a record has a hash that anybody could make of a
// guess, and with another key each digest is another one.
func TestDigestsAreKeyed(t *testing.T) {
	for _, mode := range []Mode{Differences, Full, Digests} {
		in := compared(t, newInput())
		in.Candidate.Response.Body.Digested, in.Candidate.Response.Body.Digest = true, sha256.Sum256(in.Candidate.Response.Body.Bytes)
		guesses := []string{"Ada", "Eve", `"Ada"`, `"Eve"`, "42", in.Exchange.Request.Target, string(in.Exchange.Response.Body.Bytes), string(in.Candidate.Response.Body.Bytes)}
		for _, f := range in.Candidate.Response.Header {
			guesses = append(guesses, f.Value)
		}
		one := newRedactor(t, Config{Values: mode}).Record(in)
		other := newRedactor(t, Config{Values: mode, Key: bytes.Repeat([]byte("o"), KeySize), KeyID: "k"}).Record(in)
		j := string(one.JSON())
		for _, g := range guesses {
			sum := sha256.Sum256([]byte(g))
			for _, s := range []string{hex.EncodeToString(sum[:])[:16], base64.StdEncoding.EncodeToString(sum[:])[:20]} {
				if strings.Contains(j, s) {
					t.Errorf("%v: the bare SHA-256 of %q is in %s", mode, g, j)
				}
			}
		}
		token := regexp.MustCompile(`~k\.[0-9a-f]{16}`)
		a := token.FindAllString(j, -1)
		if len(a) < 4 {
			t.Errorf("%v: only %d digests in %s", mode, len(a), j)
		}
		for _, s := range token.FindAllString(string(other.JSON()), -1) {
			if slices.Contains(a, s) {
				t.Errorf("%v: %s is the same under two keys", mode, s)
			}
		}
		b := one.Divergence().Candidate.Body
		if want := newRedactor(t, Config{}).tokens.Load().token("body", string(in.Candidate.Response.Body.Digest[:])); b.Digest != want {
			t.Errorf("%v: the body's digest is %q, want %q", mode, b.Digest, want)
		}
	}
}

func TestFullBodies(t *testing.T) {
	h := func(kind string) exchange.Header { return exchange.Header{{Name: "Content-Type", Value: kind}} }
	r := newRedactor(t, Config{Values: Full})
	for _, c := range []struct {
		name string
		h    exchange.Header
		body exchange.Body
		want Body
	}{
		{"binary", h("image/png"), exchange.Body{Bytes: []byte("\x89PNG\xff"), Size: 5}, Body{MediaType: "image/png", Encoding: "base64", Text: "iVBOR/8=", Size: 5, Digest: r.tokens.Load().token("body", sha("\x89PNG\xff"))}},
		{"secret in binary", h(""), exchange.Body{Bytes: []byte("\xff ada@example.com"), Size: 17}, Body{
			Encoding: "base64", Text: b64("\xff " + r.tokens.Load().token("email", "ada@example.com")), Size: 17, Digest: r.tokens.Load().token("body", sha("\xff ada@example.com")),
		}},
		{"unreadable", exchange.Header{{Name: "content-encoding", Value: "br"}}, exchange.Body{Bytes: []byte("abc"), Size: 3}, Body{Encoding: "utf-8", Size: 3, Truncated: true, Digest: r.tokens.Load().token("body", sha("abc"))}},
		{"cut", h("text/plain"), exchange.Body{Bytes: []byte("one two thr"), Size: 100, Truncated: true, Digested: true, Digest: sha256Of("all")}, Body{MediaType: "text/plain", Encoding: "utf-8", Text: "one two", Size: 100, Truncated: true, Digest: r.tokens.Load().token("body", sha("all"))}},
		{"digest unknown", h("text/plain"), exchange.Body{Bytes: []byte("one two"), Size: 100, Truncated: true}, Body{MediaType: "text/plain", Encoding: "utf-8", Text: "one", Size: 100, Truncated: true}},
	} {
		j := newJob(r)
		if got := j.body(c.h, &c.body); got != c.want {
			t.Errorf("%s:\n got  %+v\n want %+v", c.name, got, c.want)
		}
	}
}

// A secret found by its place is replaced everywhere else in the record.
func TestKnownSecrets(t *testing.T) {
	const password, cookie, weak = "correct-horse", "f00dcafe12345678", "dark"
	in := newInput()
	in.Exchange.Request.Header = append(in.Exchange.Request.Header,
		exchange.Field{Name: "Authorization", Value: "Basic " + b64("bob:"+password)},
		exchange.Field{Name: "Cookie", Value: "sid=" + cookie + "; theme=" + weak})
	in.Candidate.Response.Body = exchange.Body{Bytes: []byte(`{"id":42,"name":"` + password + `","note":"dark ` + cookie + `"}`), Size: 60}
	in.Candidate.Detail = "user " + url.QueryEscape(password) + " was refused, sid " + cookie
	rec := newRedactor(t, Config{Values: Full}).Record(compared(t, in))
	j := string(rec.JSON())
	for _, s := range []string{password, cookie, b64("bob:" + password)} {
		if strings.Contains(j, s) {
			t.Errorf("%q is in %s", s, j)
		}
	}
	if !strings.Contains(j, "dark ") {
		t.Errorf("an ordinary word that is also a cookie's value is gone: %s", j)
	}
	// The same token in all places, so that they can be told to be the same.
	r := newRedactor(t, Config{})
	if n := strings.Count(j, r.tokens.Load().token("sid", cookie)); n < 3 {
		t.Errorf("the cookie's token stands %d times in %s", n, j)
	}
}

// A known value is found in every common spelling, and also where what stands
// in it would take it apart.
func TestKnownSpellings(t *testing.T) {
	const secret = `p&w<é/"\X y`
	r := newRedactor(t, Config{})
	for _, c := range []struct{ name, text string }{
		{"as it is", secret},
		{"in a query", "p%26w%3C%C3%A9%2F%22%5CX+y"},
		{"in a path", "p&w%3C%C3%A9%2F%22%5CX%20y"},
		{"escaped in lower case", "p%26w%3c%c3%a9%2f%22%5cX+y"},
		{"as it was spelled", "%70%26w%3C%C3%A9%2F%22%5CX%20y"},
		{"in JSON", `p&w<é/\"\\X y`},
		{"in JSON for HTML", `p\u0026w\u003cé/\"\\X y`},
		{"in JSON for ASCII", `p&w<\u00e9/\"\\X y`},
		{"in JSON in JSON", `p&w<é/\\\"\\\\X y`},
		{"in JSON for HTML in JSON", `p\\u0026w\\u003cé/\\\"\\\\X y`},
		{"in HTML", "p&amp;w&lt;é/&#34;\\X y"},
		{"in base64", b64(secret)},
	} {
		in := newInput()
		in.Exchange.Request.Target = "/users/42?token=%70%26w%3C%C3%A9%2F%22%5CX%20y"
		in.Exchange.Request.Header = append(in.Exchange.Request.Header,
			exchange.Field{Name: "Referer", Value: "/a?b=" + c.text + "#c=" + c.text},
			exchange.Field{Name: "X-Free", Value: "<" + c.text + ">"})
		in.Candidate.Detail = "got [" + c.text + "]"
		d := r.Record(compared(t, in)).Divergence()
		tok := r.tokens.Load().token("token", secret)
		if got := d.Candidate.ErrorText; got != "got ["+tok+"]" {
			t.Errorf("%s: error text %q", c.name, got)
		}
		if got := d.Request.Headers["x-free"][0]; got != "<"+tok+">" {
			t.Errorf("%s: header %q", c.name, got)
		}
		if got := d.Request.Headers["referer"][0]; got != "/a?b="+tok+"#c="+tok {
			t.Errorf("%s: referer %q", c.name, got)
		}
		if got := d.Request.URL; got != "/users/42?token="+tok {
			t.Errorf("%s: url %q", c.name, got)
		}
	}
}

// A form's punctuation does not take a known value apart.
func TestKnownSecretInAForm(t *testing.T) {
	const secret = "k1&k2=f00dcafe12345678"
	in := newInput()
	in.Exchange.Request.Header = append(in.Exchange.Request.Header, exchange.Field{Name: "X-Api-Key", Value: secret})
	in.Candidate.Response.Header = exchange.Header{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}
	in.Candidate.Response.Body = exchange.Body{Bytes: []byte("a=" + secret + "&b=2"), Size: int64(len(secret)) + 6}
	r := newRedactor(t, Config{Values: Full})
	want := "a=" + r.tokens.Load().token("x-api-key", secret) + "&b=2"
	if got := r.Record(compared(t, in)).Divergence().Candidate.Body.Text; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Nor does a target's.
func TestKnownSecretInATarget(t *testing.T) {
	const secret = "f00d/cafe?12345678"
	in := newInput()
	in.Exchange.Request.Target = "/users/" + secret
	in.Exchange.Request.Header = append(in.Exchange.Request.Header, exchange.Field{Name: "X-Api-Key", Value: secret})
	r := newRedactor(t, Config{})
	want := "/users/" + r.tokens.Load().token("x-api-key", secret)
	if got := r.Record(compared(t, in)).Divergence().Request.URL; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Of a known value of several words nothing is left where a piece begins or ends
// in it, nor of a private key that is cut.
func TestPiecesOfKnownValues(t *testing.T) {
	r := newRedactor(t, Config{})
	const password, key = "alpha beta gamma delta", "-----BEGIN PRIVATE KEY-----\nMIIabcdefghijklmnop\nMIIqrstuvwxyz012345\n-----END PRIVATE KEY-----\n"
	long := strings.Repeat("x ", 3000)
	for _, c := range []struct{ name, ref, cand string }{
		{"begins in it", password + " " + strings.Repeat("x", 1014) + "1 the rest", password + " " + strings.Repeat("x", 1014) + "2 the rest"},
		{"ends in it", "1 " + strings.Repeat("x", 3058) + " " + password, "2 " + strings.Repeat("x", 3058) + " " + password},
		{"lines of a key", "cut\nMIIabcdefghijklmnop\nMIIqrstuvwxyz012345\n" + strings.Repeat("y ", 400) + "1", "cut\nMIIabcdefghijklmnop\nMIIqrstuvwxyz012345\n" + strings.Repeat("y ", 400) + "2"},
	} {
		quoted := func(s string) string {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		body := func(s string) *exchange.Response {
			text := `{"password":` + quoted(password) + `,"key":` + quoted(key) + `,"log":` + quoted(long+s+long) + `}`
			return &exchange.Response{Status: 200, Header: exchange.Header{{Name: "Content-Type", Value: "application/json"}}, Body: exchange.Body{Bytes: []byte(text), Size: int64(len(text))}}
		}
		rules, err := diff.Compile(diff.RuleConfig{})
		if err != nil {
			t.Fatal(err)
		}
		x := &exchange.Exchange{Request: &exchange.Request{Method: "GET", Target: "/"}, Response: body(c.ref)}
		in := &Input{Exchange: x, Candidate: Leg{Response: body(c.cand)}, Experiment: "e", Route: "/"}
		in.Result = rules.Compare(x.Request, x.Response, in.Candidate.Response, diff.Input{})
		j := string(r.Record(in).JSON())
		if !strings.Contains(j, `"path":"$.log"`) || !strings.Contains(j, `"offset":`) {
			t.Fatalf("%s: no piece in %.2000s", c.name, j)
		}
		for _, s := range []string{"alpha", "beta", "gamma", "delta", "MIIqrst"} {
			if strings.Contains(j, s) {
				t.Errorf("%s: %q is in %s", c.name, s, j)
			}
		}
	}
}

func TestSides(t *testing.T) {
	r := newRedactor(t, Config{JSON: []string{"$.rows[*].x"}})
	tok := r.tokens.Load().token
	value := func(kind diff.ValueKind, s string) diff.Value {
		return diff.Value{Kind: kind, Text: s, Size: int64(len(s))}
	}
	digest := fmt.Sprintf("%x", sha256Of("abc"))
	for _, c := range []struct {
		name string
		d    diff.Difference
		want Body
	}{
		{"status", diff.Difference{Aspect: diff.AspectStatus, Candidate: value(diff.ValueNumber, "200")}, Body{MediaType: "text/plain", Text: "200", Size: 3, Digest: tok("value", "200")}},
		{"header", diff.Difference{Aspect: diff.AspectHeader, Path: "x-a", Candidate: value(diff.ValueString, "v")}, Body{MediaType: "text/plain", Text: "v", Size: 1, Digest: tok("value", `"v"`)}},
		{"secret header", diff.Difference{Aspect: diff.AspectHeader, Path: "x-api-key", Candidate: value(diff.ValueString, "v")}, Body{MediaType: "text/plain", Text: tok("x-api-key", "v"), Digest: tok("value", `"v"`)}},
		{"location", diff.Difference{Aspect: diff.AspectHeader, Path: "location", Candidate: value(diff.ValueString, "/a?token=b")}, Body{MediaType: "text/plain", Text: "/a?token=" + tok("token", "b"), Size: 10, Digest: tok("value", `"/a?token=b"`)}},
		{"cookie", diff.Difference{Aspect: diff.AspectHeader, Path: "set-cookie/sid", Candidate: value(diff.ValueString, "v; Path=/")}, Body{MediaType: "text/plain", Text: tok("sid", "v") + "; Path=/", Digest: tok("value", `"v; Path=/"`)}},
		{"cookie with name", diff.Difference{Aspect: diff.AspectHeader, Path: "set-cookie/sid", Candidate: value(diff.ValueString, "sid=v")}, Body{MediaType: "text/plain", Text: "sid=" + tok("sid", "v"), Digest: tok("value", `"sid=v"`)}},
		{"cookie attribute", diff.Difference{Aspect: diff.AspectHeader, Path: "set-cookie/sid/path", Candidate: value(diff.ValueString, "/x")}, Body{MediaType: "text/plain", Text: "/x", Size: 2, Digest: tok("value", `"/x"`)}},
		{"trailer", diff.Difference{Aspect: diff.AspectTrailer, Path: "x-token", Candidate: value(diff.ValueString, "v")}, Body{MediaType: "text/plain", Text: tok("x-token", "v"), Digest: tok("value", `"v"`)}},
		{"json string", diff.Difference{Aspect: diff.AspectBody, Path: "$.a", Candidate: value(diff.ValueString, "x\n")}, Body{MediaType: "application/json", Text: `"x\n"`, Size: 2, Digest: tok("value", `"x\n"`)}},
		{"json number", diff.Difference{Aspect: diff.AspectBody, Path: "$.a", Candidate: value(diff.ValueNumber, "1.50")}, Body{MediaType: "application/json", Text: "1.50", Size: 4, Digest: tok("value", "1.50")}},
		{"json object", diff.Difference{Aspect: diff.AspectBody, Path: "$.a", Candidate: value(diff.ValueObject, `{"pin":1}`)}, Body{MediaType: "application/json", Text: `{"pin":"` + tok("pin", "1") + `"}`, Size: 9, Digest: tok("value", `{"pin":1}`)}},
		{"json object of a rule", diff.Difference{Aspect: diff.AspectBody, Path: "$.rows", Candidate: value(diff.ValueArray, `[{"x":1}]`)}, Body{MediaType: "application/json", Text: `[{"x":"` + tok("x", "1") + `"}]`, Size: 9, Digest: tok("value", `[{"x":1}]`)}},
		{"secret key", diff.Difference{Aspect: diff.AspectBody, Path: "$.user.password", Candidate: value(diff.ValueString, "x")}, Body{MediaType: "application/json", Text: `"` + tok("password", "x") + `"`, Digest: tok("value", `"x"`)}},
		{"below a secret key", diff.Difference{Aspect: diff.AspectBody, Path: "$.secrets[0].a", Candidate: value(diff.ValueNumber, "7")}, Body{MediaType: "application/json", Text: `"` + tok("a", "7") + `"`, Digest: tok("value", "7")}},
		{"secret path", diff.Difference{Aspect: diff.AspectBody, Path: "$.rows[3].x", Candidate: value(diff.ValueString, "7")}, Body{MediaType: "application/json", Text: `"` + tok("x", "7") + `"`, Digest: tok("value", `"7"`)}},
		{"secret null", diff.Difference{Aspect: diff.AspectBody, Path: "$.token", Candidate: value(diff.ValueNull, "null")}, Body{MediaType: "application/json", Text: "null", Size: 4, Digest: tok("value", "null")}},
		{"cut path", diff.Difference{Aspect: diff.AspectBody, Path: "$.a['pass…", Candidate: value(diff.ValueString, "x")}, Body{MediaType: "application/json", Text: `"` + tok("pass", "x") + `"`, Digest: tok("value", `"x"`)}},
		{"email", diff.Difference{Aspect: diff.AspectBody, Path: "$.to", Candidate: value(diff.ValueString, "ada@example.com")}, Body{MediaType: "application/json", Text: `"` + tok("email", "ada@example.com") + `"`, Size: 15, Digest: tok("value", `"ada@example.com"`)}},
		{"card", diff.Difference{Aspect: diff.AspectBody, Path: "$.n", Candidate: value(diff.ValueNumber, aCard)}, Body{MediaType: "application/json", Text: `"` + tok("card", aCard) + `"`, Digest: tok("value", aCard)}},
		{"cut string", diff.Difference{Aspect: diff.AspectBody, Path: "$.t", Candidate: diff.Value{Kind: diff.ValueString, Text: "one two ada@exam", Size: 500, Truncated: true}}, Body{MediaType: "application/json", Text: `"one two"`, Size: 500, Truncated: true}},
		{"bytes", diff.Difference{Aspect: diff.AspectBody, Candidate: value(diff.ValueBytes, "pin=1234&x")}, Body{MediaType: "text/plain", Text: "pin=" + tok("pin", "1234") + "&x", Size: 10, Digest: tok("value", "pin=1234&x")}},
		{"piece", diff.Difference{Aspect: diff.AspectBody, Candidate: diff.Value{Kind: diff.ValueBytes, Text: "ter2&x=1 three", Size: 500, Offset: 40, Truncated: true}}, Body{MediaType: "text/plain", Text: tok("value", "ter2") + "&x=", Size: 500, Offset: 40, Truncated: true}},
		{"piece of a key", diff.Difference{Aspect: diff.AspectBody, Candidate: diff.Value{Kind: diff.ValueBytes, Text: "MIIabc\nMIIdef\n-----END PRIVATE KEY-----\n", Size: 540, Offset: 500, Truncated: true}}, Body{MediaType: "text/plain", Text: tok("value", "MIIabc\nMIIdef\n") + "-----END PRIVATE KEY-----\n", Size: 540, Offset: 500, Truncated: true}},
		{"digest", diff.Difference{Aspect: diff.AspectBody, Kind: diff.KindDigest, Candidate: value(diff.ValueString, digest)}, Body{MediaType: "text/plain", Text: tok("body", sha("abc")), Size: 64, Digest: tok("body", sha("abc"))}},
		{"length", diff.Difference{Aspect: diff.AspectBody, Kind: diff.KindLength, Candidate: value(diff.ValueNumber, "1234")}, Body{MediaType: "text/plain", Text: "1234", Size: 4, Digest: tok("value", "1234")}},
	} {
		c.want.Encoding = "utf-8"
		j := newJob(r)
		resp := &exchange.Response{Header: exchange.Header{{Name: "Content-Type", Value: "text/plain; x=y"}}}
		got := j.side(&c.d, &c.d.Candidate, resp)
		if got == nil || *got != c.want {
			t.Errorf("%s:\n got  %+v\n want %+v", c.name, got, c.want)
		}
	}
	if got := newJob(r).side(&diff.Difference{}, &diff.Value{}, nil); got != nil {
		t.Errorf("no value: %+v", got)
	}
}

func TestPathsAreRedacted(t *testing.T) {
	in := newInput()
	in.Candidate.Response.Body = exchange.Body{Bytes: []byte(`{"id":42,"name":"Ada","note":"x","users":{"ada@example.com":1}}`), Size: 63}
	in.Exchange.Response.Body = exchange.Body{Bytes: []byte(`{"id":42,"name":"Ada","note":"x","users":{"ada@example.com":2}}`), Size: 63}
	j := string(newRedactor(t, Config{}).Record(compared(t, in)).JSON())
	if strings.Contains(j, "ada@") || !strings.Contains(j, `$.users['~k.`) {
		t.Errorf("path: %s", j)
	}
}

func TestKey(t *testing.T) {
	r := newRedactor(t, Config{})
	for _, c := range []struct{ key, want string }{
		{"", "/reset/{token}/{id}"},
		{"{id}", "42"},
		{"{token}", r.tokens.Load().token("token", "abcdef")},
		{"a-{id}-{token}", "a-42-" + r.tokens.Load().token("token", "abcdef")},
		{"{none}", "{none}"},
		{"{id", "{id"},
		{"filled in already: abcdef", "filled in already: " + r.tokens.Load().token("token", "abcdef")},
		{"ada@example.com", r.tokens.Load().token("email", "ada@example.com")},
	} {
		in := compared(t, newInput())
		in.Route, in.Key = "/reset/{token}/{id}", c.key
		in.Exchange.Request.Target = "/reset/abcdef/42"
		in.Params = []Param{{"token", "abcdef"}, {"id", "42"}}
		rec := r.Record(in)
		if got := string(rec.Key()); got != c.want {
			t.Errorf("key %q: %q, want %q", c.key, got, c.want)
		}
		if u := rec.Divergence().Request.URL; u != "/reset/"+r.tokens.Load().token("token", "abcdef")+"/42" {
			t.Errorf("url %q", u)
		}
	}
	in := compared(t, newInput())
	in.Params[0].Value = strings.Repeat("x", 5000)
	if n := len(r.Record(in).Key()); n > maxKey {
		t.Errorf("key of %d bytes", n)
	}
}

func TestWeights(t *testing.T) {
	r := newRedactor(t, Config{})
	for _, c := range []struct{ rate, weight, want float64 }{
		{1, 0, 1}, {0.01, 0, 100}, {0.5, 3, 3}, {0, 0, 1}, {math.NaN(), 0, 1}, {math.Inf(1), math.NaN(), 0},
	} {
		in := compared(t, newInput())
		in.SampleRate, in.Weight = c.rate, c.weight
		rec := r.Record(in)
		if got := rec.Divergence().Weight; got != c.want {
			t.Errorf("rate %v weight %v: %v", c.rate, c.weight, got)
		}
		rec.JSON() // would panic on a NaN
	}
	in := compared(t, newInput())
	in.PublishWeight = 0
	rec := r.Record(in)
	if rec.Admitted() {
		t.Error("admitted without a publish weight")
	}
	heavy := rec.WithPublishWeight(100)
	if !heavy.Admitted() || heavy.Divergence().PublishWeight != 100 || rec.Admitted() || !strings.Contains(string(heavy.JSON()), `"publish_weight":100,`) {
		t.Error("WithPublishWeight does not make a copy with the weight")
	}
}

func TestFit(t *testing.T) {
	in := newInput()
	big := func(name string, n int) exchange.Body {
		s := `{"` + name + `":"` + strings.Repeat("é\n", n) + `"}`
		return exchange.Body{Bytes: []byte(s), Size: int64(len(s))}
	}
	in.Exchange.Response.Body = big("a", 60_000)
	in.Candidate.Response.Body = big("b", 60_000)
	for range 40 {
		in.Exchange.Request.Header = append(in.Exchange.Request.Header, exchange.Field{Name: "X-Long", Value: strings.Repeat("h", 1000)})
	}
	in.Exchange.Request.Target = "/users/" + strings.Repeat("u", 20_000)
	compared(t, in)
	whole := newRedactor(t, Config{Values: Full, MaxRecord: 10 << 20}).Record(in).JSON()
	if len(whole) < 400_000 {
		t.Fatalf("the whole record has only %d bytes", len(whole))
	}
	for _, size := range []int{16 << 10, 64 << 10, 200_000, 900_000} {
		rec := newRedactor(t, Config{Values: Full, MaxRecord: size}).Record(in)
		j := rec.JSON()
		if len(j) > size {
			t.Errorf("limit %d: %d bytes", size, len(j))
		}
		var d Divergence
		if err := json.Unmarshal(j, &d); err != nil {
			t.Fatalf("limit %d: %v", size, err)
		}
		if size < len(whole) && (!d.Reference.Body.Truncated || d.Reference.Body.Size != in.Exchange.Response.Body.Size || d.Reference.Body.Digest == "") {
			t.Errorf("limit %d: body %+v", size, d.Reference.Body)
		}
		if strings.Contains(string(j), "\ufffd") {
			t.Errorf("limit %d: a character was cut apart", size)
		}
		// The record itself is frozen.
		if b := rec.Divergence().Reference.Body; b.Truncated {
			t.Errorf("limit %d: fitting changed the record", size)
		}
	}
}

func TestFitManyDifferences(t *testing.T) {
	in := newInput()
	in.Result = &diff.Result{Outcome: diff.Divergent}
	for i := range 500 {
		in.Result.Differences = append(in.Result.Differences, diff.Difference{
			Aspect: diff.AspectBody, Kind: diff.KindChanged, Path: fmt.Sprintf("$.k%d", i),
			Reference: diff.Value{Kind: diff.ValueString, Text: strings.Repeat("a", 100), Size: 100},
			Candidate: diff.Value{Kind: diff.ValueString, Text: strings.Repeat("b", 100), Size: 100},
		})
	}
	rec := newRedactor(t, Config{MaxRecord: 32 << 10}).Record(in)
	var d Divergence
	if err := json.Unmarshal(rec.JSON(), &d); err != nil {
		t.Fatal(err)
	}
	if len(rec.JSON()) > 32<<10 || d.Omitted == 0 || d.Omitted+len(d.Differences) != 500 {
		t.Errorf("%d bytes, %d differences and %d omitted", len(rec.JSON()), len(d.Differences), d.Omitted)
	}
	for _, f := range rec.Divergence().Differences {
		if len(f.Reference.Text) != 102 || f.Reference.Truncated {
			t.Fatalf("fitting changed the record: %+v", f.Reference)
		}
	}
}

func TestMaxValue(t *testing.T) {
	in := newInput()
	in.Candidate.Response.Body = exchange.Body{Bytes: []byte(`{"id":42,"name":"` + strings.Repeat("é", 2000) + `","note":"x"}`), Size: 4030}
	v := newRedactor(t, Config{MaxValue: 101}).Record(compared(t, in)).Divergence().Differences[0].Candidate
	if len(v.Text) != 101 || !v.Truncated || v.Text != `"`+strings.Repeat("é", 50) {
		t.Errorf("%d bytes: %+v", len(v.Text), v)
	}
}

func TestRecordOfNothing(t *testing.T) {
	r := newRedactor(t, Config{Values: Full})
	for _, in := range []*Input{{}, {Exchange: &exchange.Exchange{}}, {Exchange: &exchange.Exchange{Request: &exchange.Request{}}, Control: &Leg{}, Params: []Param{{}}}} {
		if !json.Valid(r.Record(in).JSON()) {
			t.Error("no valid JSON")
		}
	}
}

func TestSizeFollowsContent(t *testing.T) {
	in := compared(t, newInput())
	small := newRedactor(t, Config{Values: Full}).Record(in).Size()
	in.Candidate.Response.Body = exchange.Body{Bytes: bytes.Repeat([]byte("x"), 100_000), Size: 100_000}
	if big := newRedactor(t, Config{Values: Full}).Record(compared(t, in)).Size(); big < small+100_000 {
		t.Errorf("size %d with a body of 100,000 bytes, %d without", big, small)
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, size := range []int{200, 4096} {
		in := newInput()
		pad := strings.Repeat(`{"k":"value","n":12}, `, size/22)
		in.Exchange.Response.Body = exchange.Body{Bytes: []byte(`{"id":42,"name":"Ada","rows":[` + pad + `0]}`)}
		in.Candidate.Response.Body = exchange.Body{Bytes: []byte(`{"id":42,"name":"Eve","rows":[` + pad + `0]}`)}
		in.Exchange.Response.Body.Size = int64(len(in.Exchange.Response.Body.Bytes))
		in.Candidate.Response.Body.Size = int64(len(in.Candidate.Response.Body.Bytes))
		compared(b, in)
		r := newRedactor(b, Config{})
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Record(in).JSON()
			}
		})
	}
}
