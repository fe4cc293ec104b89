package schema_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/shadowtap/shadowtap/agent/publish/schema"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/diff/verdict"
)

func compile(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Window()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("window.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("window.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(s *jsonschema.Schema, value []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// records are windows of every sort: empty, totals, a fingerprint, full maps.
func records(t *testing.T) [][]byte {
	t.Helper()
	c, err := verdict.NewCollector(verdict.CollectorConfig{Agent: "node-1", BootID: "b1", ConfigRevision: "r1", Experiments: []verdict.CollectorExperiment{
		{Name: "users", CandidateVersion: "v2", SampleBy: "request", Control: true, Routes: []string{"/users/{id}"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 23, 10, 0, 3, 0, time.UTC)
	id, _ := c.Route("users", "/users/{id}")
	none, _ := c.Route("users", "")
	c.Lose(none, at, "gap")
	c.Pass(id, at, verdict.SampledOut)
	leg := verdict.Leg{FirstByte: 900 * time.Microsecond, LastByte: time.Millisecond, MinRTT: 80 * time.Microsecond}
	c.Compare(c.Select(id, at), &verdict.Pair{
		Outcome: diff.Divergent, Fingerprints: []string{"f25f3af5a80b1640"}, KeyGroup: 858, Reference: leg, Candidate: leg,
		Control: verdict.Control{Result: verdict.ControlAnswered, Outcome: diff.Equal, Leg: leg},
	})
	c.Compare(c.Select(id, at), &verdict.Pair{
		Outcome: diff.Divergent, Why: diff.WhyFailed, Failed: "timeout", KeyGroup: 3, Reference: leg, Candidate: verdict.Leg{GaveUp: 2 * time.Second},
		Control: verdict.Control{Result: verdict.ControlFailed, Leg: verdict.Leg{GaveUp: 2 * time.Second}},
	})
	c.Compare(c.Select(id, at), &verdict.Pair{Outcome: diff.NotComparable, Why: diff.WhyStale})
	c.Skip(c.Select(id, at.Add(10*time.Second)), verdict.Shed, verdict.ControlNotChosen)
	var out [][]byte
	for _, w := range c.Flush() {
		b, err := w.JSON()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func TestWindowSchema(t *testing.T) {
	s := compile(t)
	all := records(t)
	if len(all) != 5 {
		t.Fatalf("%d records, want 5", len(all))
	}
	for _, b := range all {
		if err := validate(s, b); err != nil {
			t.Errorf("not valid by the schema: %v\n%s", err, b)
		}
		if _, err := verdict.ParseWindow(b); err != nil {
			t.Errorf("%v\n%s", err, b)
		}
	}
}

// The struct that is marshalled and the schema name the same fields.
func TestWindowSchemaIsTheStruct(t *testing.T) {
	var doc struct {
		Required   []string       `json:"required"`
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal([]byte(schema.Window()), &doc); err != nil {
		t.Fatal(err)
	}
	var have, required []string
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Anonymous {
				walk(f.Type)
				continue
			}
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			have = append(have, name)
			if options == "" {
				required = append(required, name)
			}
		}
	}
	walk(reflect.TypeFor[verdict.Window]())
	slices.Sort(have)
	slices.Sort(required)
	slices.Sort(doc.Required)
	if want := slices.Sorted(maps.Keys(doc.Properties)); !slices.Equal(have, want) {
		t.Errorf("the struct has %v, the schema %v", have, want)
	}
	if !slices.Equal(required, doc.Required) {
		t.Errorf("the struct always writes %v, the schema requires %v", required, doc.Required)
	}
}

// What must not pass does not, and what may be added passes.
func TestWindowSchemaRefuses(t *testing.T) {
	s := compile(t)
	good := string(slices.MaxFunc(records(t), func(a, b []byte) int { return len(a) - len(b) }))
	if err := validate(s, []byte(`{"new_field":1,`+good[1:])); err != nil {
		t.Errorf("an added field: %v", err)
	}
	for _, c := range []struct{ name, old, new string }{
		{"another schema", `window.v1"`, `window.v2"`},
		{"time in milliseconds", `:00.000000Z","window_end"`, `:00.000Z","window_end"`},
		{"a negative count", `"paired":1`, `"paired":-1`},
		{"a fraction", `"compared":3`, `"compared":3.5`},
		{"a count as text", `"equal":0`, `"equal":"0"`},
		{"no experiment", `"experiment":"users",`, ``},
		{"an empty experiment", `"experiment":"users"`, `"experiment":""`},
		{"a fingerprint", `"fingerprint":""`, `"fingerprint":"x"`},
		{"a word in upper case", `"timeout":`, `"Timeout":`},
		{"a key group of one", `"858":[1,1]`, `"858":[1]`},
		{"a key group that is none", `"858":`, `"a":`},
		{"a bucket that is none", `"reference_ttfb":{"`, `"reference_ttfb":{"0`},
		{"no b", `"b":1,`, ``},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Errorf("%s: %s is not in the record %s", c.name, c.old, good)
		} else if err := validate(s, []byte(bad)); err == nil {
			t.Errorf("%s: passes", c.name)
		}
	}
}
