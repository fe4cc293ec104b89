package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// secretValue stands in test files where a secret would; it must be in no error
// and no text.
const secretValue = "hunter2"

// testNow is the time of warnings in tests.
var testNow = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n--- got\n%s--- want\n%s", file, got, want)
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(list) < 10 {
		t.Fatalf("%d files, %v", len(list), err)
	}
	return list
}

// TestBadFiles: each file gives exactly the errors beside it.
func TestBadFiles(t *testing.T) {
	for _, file := range files(t, "bad") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := Parse(filepath.Base(file), data, nil)
			if err == nil {
				err = c.Check()
			}
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), secretValue) {
				t.Errorf("a secret is in the error: %v", err)
			}
			var e *Error
			if !errors.As(err, &e) || e.Source.Name != filepath.Base(file) {
				t.Errorf("the error has no position: %#v", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".error", err.Error()+"\n")
		})
	}
}

// TestGoodFiles: each file is read without an error, means what the text beside
// it says, and that text means the same again.
func TestGoodFiles(t *testing.T) {
	for _, file := range files(t, "good") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := Parse(filepath.Base(file), data, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			c.now = func() time.Time { return testNow }
			var b strings.Builder
			for _, w := range c.Warnings() {
				fmt.Fprintf(&b, "# %s\n", w)
			}
			text := c.String()
			if strings.Contains(text, secretValue) {
				t.Errorf("a secret is in the text:\n%s", text)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".effective", b.String()+text)
			again, _, err := Parse("again", []byte(text), nil)
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if a, b := again.Revision(), c.Revision(); a != b {
				t.Errorf("revision %s read again is %s", b, a)
			}
		})
	}
}

// bareConfig is c without what does not belong to its meaning.
func bareConfig(c *Config) Config {
	b := *c
	b.sources, b.spelled, b.env, b.check, b.now = nil, nil, nil, nil, nil
	return b
}

// TestDefaultIsNew: the printed default, an empty configuration and New are one.
func TestDefaultIsNew(t *testing.T) {
	want := bareConfig(New())
	for name, data := range map[string][]byte{"default": Default(), "empty": []byte("version: 1\n")} {
		c, warnings, err := Parse(name, data, nil)
		if err != nil || len(warnings) > 0 {
			t.Fatal(name, err, warnings)
		}
		if got := bareConfig(c); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	c, _, err := Load(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if got := bareConfig(c); !reflect.DeepEqual(got, want) {
		t.Errorf("no file:\n%s", got)
	}
}

// withExamples is Default with its examples in place of the empty lists.
func withExamples(t *testing.T) []byte {
	t.Helper()
	line := regexp.MustCompile(`^( *)#(\S|  )`)
	empty := regexp.MustCompile(`^ *(interfaces|experiments|sinks): \[\]$`)
	var out []string
	for l := range strings.Lines(string(Default())) {
		l = strings.TrimSuffix(l, "\n")
		if line.MatchString(l) {
			l = strings.Replace(l, "#", "", 1)
		} else if empty.MatchString(l) {
			continue
		}
		out = append(out, l)
	}
	return []byte(strings.Join(out, "\n") + "\n")
}

// TestDefaultExamples: the examples in the printed default are a valid
// configuration, and what they show as a default is one.
func TestDefaultExamples(t *testing.T) {
	c, warnings, err := Parse("example", withExamples(t), nil)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if len(c.Experiments) != 1 || len(c.Sinks) != 3 || len(c.Capture.Interfaces) != 1 {
		t.Fatalf("examples are missing:\n%s", c)
	}
	got := c.Experiments[0]
	want := NewExperiment("users")
	rate := Rate(10_00)
	want.Routes = []Route{{Path: "/users/{id}", Key: "{route}", Sample: &rate}}
	want.Match.Port = 8080
	want.Candidate.URL = "http://users-next:8080"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	var kafka Kafka
	kafka.setDefaults()
	kafka.Properties = Properties{"bootstrap.servers": "localhost:9092"}
	if !reflect.DeepEqual(*c.Sinks[0].Kafka, kafka) {
		t.Errorf("got %+v, want %+v", *c.Sinks[0].Kafka, kafka)
	}
}

// design lists every key that DESIGN names or implies.
const design = `
version instance enabled off_file
stop stop.drain stop.deadline
capture capture.interfaces capture.interfaces[].name capture.interfaces[].role capture.interfaces[].netns
capture.ports capture.attach capture.memory capture.rings capture.max_body capture.copy_budget
experiments experiments[].name experiments[].enabled experiments[].until
experiments[].match experiments[].match.port experiments[].match.host experiments[].match.methods experiments[].match.headers
experiments[].routes experiments[].routes[].path experiments[].routes[].key experiments[].routes[].secret experiments[].routes[].sample
experiments[].exclude
experiments[].sample experiments[].sample.rate experiments[].sample.by
experiments[].candidate experiments[].candidate.url experiments[].candidate.version
experiments[].candidate.tls experiments[].candidate.tls.ca_file experiments[].candidate.tls.cert_file
experiments[].candidate.tls.key_file experiments[].candidate.tls.server_name experiments[].candidate.tls.insecure_skip_verify
experiments[].candidate.host experiments[].candidate.credentials experiments[].candidate.trace
experiments[].control experiments[].control.url experiments[].control.share experiments[].control.self experiments[].control.i_accept_extra_load
experiments[].replay experiments[].replay.timeout experiments[].replay.max_in_flight experiments[].replay.max_rate
experiments[].replay.unsafe experiments[].replay.grpc experiments[].replay.order experiments[].replay.warmup
experiments[].compare experiments[].compare.ignore experiments[].compare.ignore.headers experiments[].compare.ignore.json
experiments[].compare.ignore.values experiments[].compare.ignore.aspects
experiments[].compare.equal experiments[].compare.equal[].json experiments[].compare.equal[].header experiments[].compare.equal[].type
experiments[].compare.equal[].within experiments[].compare.equal[].tolerance experiments[].compare.equal[].pattern
experiments[].compare.arrays experiments[].compare.arrays[].json experiments[].compare.arrays[].as experiments[].compare.arrays[].key
experiments[].compare.descriptors experiments[].compare.reflection experiments[].compare.max_depth experiments[].compare.max_differences
experiments[].compare.recheck experiments[].compare.state
experiments[].guard experiments[].guard.latency experiments[].guard.errors
verdict verdict.max_divergence verdict.confidence verdict.min_compared verdict.max_unseen verdict.max_failed verdict.max_masked
verdict.alpha verdict.noise_margin verdict.max_latency verdict.max_latency.p50 verdict.max_latency.p99
publish publish.values publish.per_fingerprint publish.then
redaction redaction.key_file redaction.headers redaction.query redaction.json redaction.patterns
sinks sinks[].kafka sinks[].kafka.topic sinks[].kafka.windows sinks[].kafka.format
sinks[].jsonl sinks[].jsonl.path sinks[].terminal
spool spool.dir spool.max_bytes spool.max_age
management management.address management.admin_socket management.token_file
log log.level log.format
`

// TestKeys: the struct, the design's list and the printed default have the same
// keys.
func TestKeys(t *testing.T) {
	var have []string
	walkKeys(reflect.TypeFor[Config](), "", func(p string) { have = append(have, p) })
	want := strings.Fields(design)
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		for _, p := range have {
			if !slices.Contains(want, p) {
				t.Errorf("%s is not in the design's list", p)
			}
		}
		for _, p := range want {
			if !slices.Contains(have, p) {
				t.Errorf("%s is not in Config", p)
			}
		}
	}
	c, _, err := Parse("example", withExamples(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	index := regexp.MustCompile(`\[\d+\]`)
	printed := map[string]bool{}
	for p := range c.sources {
		printed[index.ReplaceAllString(p, "[]")] = true
	}
	// The keys of a list that is empty by default, within the example of an
	// experiment, stand in the examples of its comment.
	rule := regexp.MustCompile(`(?m)^#      #   - \{(json|header): .*\}`)
	group := ""
	for _, m := range rule.FindAllString(string(Default()), -1) {
		group = "equal"
		if strings.Contains(m, "as: ") || strings.Contains(m, "key: ") {
			group = "arrays"
		}
		for _, k := range regexp.MustCompile(`[{,] ?(\w+): `).FindAllStringSubmatch(m, -1) {
			printed["experiments[].compare."+group+"[]."+k[1]] = true
		}
	}
	for _, p := range want {
		if !printed[p] {
			t.Errorf("%s is not in Default", p)
		}
	}
}

// TestDocs: each field has a comment, and each line of the printed default that
// has a value has a comment on it or above it.
func TestDocs(t *testing.T) {
	src, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	prev := ""
	for l := range strings.Lines(string(src)) {
		if m := regexp.MustCompile("^\t([A-Z]\\w*) .*`yaml:\"").FindStringSubmatch(l); m != nil {
			group := regexp.MustCompile(`^(Stop|Capture|Verdict|Publish|Redaction|Spool|Management|Log|Match|Sample|Candidate|Control|Replay|Compare|Guard|TLS|Ignore|MaxLatency|Kafka|JSONL|Terminal|KeyFile)$`)
			if !strings.HasPrefix(strings.TrimSpace(prev), "//") && !group.MatchString(m[1]) {
				t.Errorf("no comment on %s", m[1])
			}
		}
		prev = l
	}
	if bytes.Contains(Default(), []byte("\t")) {
		t.Error("a tab in the printed default")
	}
}
