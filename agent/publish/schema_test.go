package publish

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/shadowtap/shadowtap/agent/publish/schema"
	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// divergenceSchema compiles the schema. closed forbids what it does not list:
// for consumers it is open, because fields may be added; for our own tests a
// field that it does not describe is a mistake.
func divergenceSchema(t testing.TB, closed bool) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Divergence()))
	if err != nil {
		t.Fatal(err)
	}
	if closed {
		closeObjects(doc)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("divergence.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("divergence.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// closeObjects adds additionalProperties: false to every object that lists
// properties and says nothing about others.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, listed := v["properties"]
		_, said := v["additionalProperties"]
		if listed && !said && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, e := range v {
			closeObjects(e)
		}
	case []any:
		for _, e := range v {
			closeObjects(e)
		}
	}
}

// valid fails the test when a record's value is not as the schema says.
func valid(t testing.TB, value []byte) {
	t.Helper()
	if err := validate(divergenceSchema(t, true), value); err != nil {
		t.Errorf("not valid by the schema: %v\n%s", err, value)
	}
}

func validate(s *jsonschema.Schema, value []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// manyPairs are pairs of every sort that a record can be made of.
func manyPairs(t testing.TB) map[string]*pair {
	m := map[string]*pair{"name": newPair()}
	add := func(name string, change func(p *pair)) {
		p := newPair()
		change(p)
		m[name] = p
	}
	add("status", func(p *pair) { p.in.Candidate.Response.Status = 500 })
	add("connect", func(p *pair) { p.in.Candidate = redact.Leg{Error: "connect", Detail: "connection refused"} })
	add("timeout", func(p *pair) {
		p.in.Candidate.Response, p.in.Candidate.Error, p.in.Candidate.FirstByte = nil, "timeout", 0
	})
	add("not comparable", func(p *pair) { p.in.Exchange.Response.Status = 503 })
	add("headers", func(p *pair) {
		r := p.in.Candidate.Response
		r.Header = append(r.Header, exchange.Field{Name: "Set-Cookie", Value: "sid=1; Path=/"}, exchange.Field{Name: "X-Latin", Value: "caf\xe9"})
	})
	add("trailer", func(p *pair) {
		p.in.Candidate.Response.Trailer = exchange.Header{{Name: "Grpc-Status", Value: "0"}}
	})
	add("binary", func(p *pair) {
		for _, r := range []*exchange.Response{p.in.Exchange.Response, p.in.Candidate.Response} {
			r.Header = exchange.Header{{Name: "Content-Type", Value: "application/octet-stream"}}
		}
		p.in.Exchange.Response.Body = body(strings.Repeat("\xff\x00", 5000))
		p.in.Candidate.Response.Body = body(strings.Repeat("\xff\x00", 4000) + strings.Repeat("\xfe\x00", 1000))
	})
	add("over the limit", func(p *pair) {
		b := exchange.Body{Size: 5 << 20, Truncated: true, Digested: true}
		p.in.Exchange.Response.Body = b
		b.Digest[0] = 1
		p.in.Candidate.Response.Body = b
	})
	add("lengths over the limit", func(p *pair) {
		b := exchange.Body{Size: 5 << 20, Truncated: true, Digested: true}
		p.in.Exchange.Response.Body = b
		b.Size++
		p.in.Candidate.Response.Body = b
	})
	add("broken json", func(p *pair) { p.in.Candidate.Response.Body = body(`{"id":42,"name":`) })
	add("json types", func(p *pair) {
		p.in.Candidate.Response.Body = body(`{"id":"42","name":null,"roles":{"admin":true},"tags":{"a":1,"b":[1,{"password":"x"}]}}`)
	})
	add("control", func(p *pair) {
		p.in.Control = &redact.Leg{Response: p.in.Exchange.Response, Start: 1, FirstByte: 2, LastByte: 3}
		p.in.ControlResult = &diff.Result{}
	})
	add("control differs too", func(p *pair) {
		p.in.Control = &redact.Leg{Response: p.in.Candidate.Response, Start: 1, FirstByte: 2, LastByte: 3}
		p.in.ControlResult, p.in.ControlSelf = p.in.Result, true
		p.in.Recheck = &redact.Recheck{Result: "converged", After: 2 * time.Second}
	})
	add("not asked again", func(p *pair) { p.in.Recheck = &redact.Recheck{Result: "shed"} })
	add("post", func(p *pair) {
		p.in.Exchange.Request.Method = "POST"
		p.in.Exchange.Request.Header = append(p.in.Exchange.Request.Header, exchange.Field{Name: "Content-Type", Value: "application/x-www-form-urlencoded"})
		p.in.Exchange.Request.Body = body("user=ada&password=x")
	})
	add("pcap", func(p *pair) { p.in.Source = redact.SourcePcap })
	return m
}

func TestRecordsAreValid(t *testing.T) {
	kinds := map[string]bool{}
	for name, p := range manyPairs(t) {
		for _, c := range []redact.Config{{}, {Values: redact.Full}, {Values: redact.Digests}, {Deterministic: true}, {Values: redact.Full, MaxRecord: 16 << 10}} {
			rec := p.record(t, c)
			t.Run(fmt.Sprintf("%s/%v", name, c.Values), func(t *testing.T) { valid(t, rec.JSON()) })
			for _, d := range rec.Divergence().Differences {
				kinds[d.Aspect+" "+d.Kind] = true
			}
		}
	}
	// The sorts of difference that a schema test must have seen.
	for _, k := range []string{"status changed", "header added", "body changed", "body type_changed", "body added", "body digest", "body length", "trailer added", "candidate error"} {
		if !kinds[k] {
			t.Errorf("no record had a difference %q; there were %v", k, slices.Sorted(maps.Keys(kinds)))
		}
	}
}

// The struct that is marshalled and the schema name the same fields.
func TestSchemaListsEveryField(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal([]byte(schema.Divergence()), &doc); err != nil {
		t.Fatal(err)
	}
	defs := doc["$defs"].(map[string]any)
	for _, c := range []struct {
		of  any
		def any
	}{
		{redact.Divergence{}, doc}, {redact.Request{}, doc["properties"].(map[string]any)["request"]}, {redact.Answer{}, defs["answer"]},
		{redact.Body{}, defs["body"]}, {redact.Difference{}, defs["difference"]}, {redact.RecheckRecord{}, doc["properties"].(map[string]any)["recheck"]},
	} {
		def := c.def.(map[string]any)
		var have, required []string
		typ := reflect.TypeOf(c.of)
		for i := range typ.NumField() {
			name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			have = append(have, name)
			if options == "" {
				required = append(required, name)
			}
		}
		slices.Sort(have)
		slices.Sort(required)
		if want := slices.Sorted(maps.Keys(def["properties"].(map[string]any))); !slices.Equal(have, want) {
			t.Errorf("%v has %v, the schema %v", typ, have, want)
		}
		var want []string
		for _, r := range def["required"].([]any) {
			want = append(want, r.(string))
		}
		slices.Sort(want)
		if !slices.Equal(required, want) {
			t.Errorf("%v always writes %v, the schema requires %v", typ, required, want)
		}
	}
}

// What must not pass does not, and what may be added passes.
func TestSchemaRefuses(t *testing.T) {
	s := divergenceSchema(t, false)
	good := string(newPair().record(t, redact.Config{Values: redact.Full}).JSON())
	if err := validate(s, []byte(good)); err != nil {
		t.Fatal(err)
	}
	if err := validate(s, []byte(`{"new_field":1,`+good[1:])); err != nil {
		t.Errorf("an added field: %v", err)
	}
	for _, c := range []struct{ name, old, new string }{
		{"another schema", `"schema":"shadowtap.divergence.v1"`, `"schema":"shadowtap.divergence.v2"`},
		{"no id", `"id":"`, `"idx":"`},
		{"short id", `"id":"`, `"id":"0`},
		{"time in milliseconds", `05.123456Z","published"`, `05.123Z","published"`},
		{"time with an offset", `05.123456Z","published"`, `05.123456+00:00","published"`},
		{"source", `"source":"live"`, `"source":"tap"`},
		{"rate as text", `"sample_rate":0.1`, `"sample_rate":"10%"`},
		{"rate above all", `"sample_rate":0.1`, `"sample_rate":10`},
		{"no publish weight", `"publish_weight":1,`, `"publish_weight":0,`},
		{"duration as a fraction", `"ttfb_us":1200`, `"ttfb_us":1200.5`},
		{"negative duration", `"ttfb_us":1200`, `"ttfb_us":-1`},
		{"header not a list", `["application/json"]`, `"application/json"`},
		{"header in upper case", `"accept":`, `"Accept":`},
		{"text missing", `"text":"","size":0`, `"size":0`},
		{"text null", `"text":"","size":0`, `"text":null,"size":0`},
		{"encoding", `"encoding":"utf-8"`, `"encoding":"utf8"`},
		{"digest in clear", `"digest":"~k1.`, `"digest":"sha256:`},
		{"connection", `"connection":"reused"`, `"connection":"keep-alive"`},
		{"method missing", `"method":"GET",`, ``},
		{"fingerprint", `"fingerprint":"`, `"fingerprint":"x`},
		{"aspect", `"aspect":"body"`, `"aspect":"The body"`},
		{"no differences", `"differences":[{`, `"differences":[],"x":[{`},
		{"outcome", `"outcome":"divergent"`, `"outcome":"equal"`},
		{"not comparable without a reason", `"outcome":"divergent"`, `"outcome":"not_comparable"`},
		{"media type with parameters", `"media_type":"application/json"`, `"media_type":"application/json; charset=utf-8"`},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Errorf("%s: %s is not in the record", c.name, c.old)
		} else if err := validate(s, []byte(bad)); err == nil {
			t.Errorf("%s: passes", c.name)
		}
	}
}
