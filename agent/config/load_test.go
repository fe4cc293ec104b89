package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	yaml "github.com/goccy/go-yaml"
)

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestLoadFile: which file is read.
func TestLoadFile(t *testing.T) {
	dir, empty := t.TempDir(), t.TempDir()
	write(t, dir, FileName, "version: 1\ninstance: here\n")
	write(t, dir, "named.yaml", "version: 1\ninstance: named\n")
	elsewhere := write(t, t.TempDir(), "x.yaml", "version: 1\ninstance: elsewhere\n")
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Dir: dir}, "here"},
		{Options{Dir: empty}, "default"},
		{Options{Dir: dir, Env: []string{"SHADOWTAP_CONFIG=named.yaml"}}, "named"},
		{Options{Dir: dir, Env: []string{"SHADOWTAP_CONFIG="}}, "here"},
		{Options{Dir: dir, Env: []string{"SHADOWTAP_CONFIG=" + elsewhere}}, "elsewhere"},
		{Options{Dir: dir, File: "named.yaml", Env: []string{"SHADOWTAP_CONFIG=" + elsewhere}}, "named"},
		{Options{Dir: dir, File: "named.yaml", Env: []string{"SHADOWTAP__INSTANCE=env"}}, "env"},
		{Options{Dir: empty, Env: []string{"SHADOWTAP__INSTANCE=env"}}, "env"},
	} {
		conf, warnings, err := Load(c.o)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%+v: %v %v", c.o, err, warnings)
			continue
		}
		if conf.Instance != c.want {
			t.Errorf("%+v: got %s, want %s", c.o, conf.Instance, c.want)
		}
	}
}

// TestLoadMissing: a file that was named must be there, and any that is there
// must be readable.
func TestLoadMissing(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []Options{
		{Dir: dir, File: "no.yaml"},
		{Dir: dir, Env: []string{"SHADOWTAP_CONFIG=no.yaml"}},
	} {
		_, _, err := Load(o)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %v", o, err)
		}
		if o.File == "" && !strings.HasPrefix(err.Error(), "SHADOWTAP_CONFIG: ") {
			t.Errorf("the error does not name the variable: %v", err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, FileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(Options{Dir: dir}); err == nil {
		t.Error("a folder was read as a configuration")
	}
}

// TestLoadName: errors name the file as the user did.
func TestLoadName(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, FileName, "version: 1\nlgo: {}\n")
	_, _, err := Load(Options{Dir: dir})
	if want := "shadowtap.yaml:2:1: unknown key \"lgo\": did you mean log?"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestBounds: a file that is too large, too long or too deep is an error at
// once, never a wait.
func TestBounds(t *testing.T) {
	half := MaxFile / 2
	for name, c := range map[string]struct{ text, want string }{
		"large":     {"version: 1\n#" + strings.Repeat("x", MaxFile), "f: larger than 1MiB"},
		"keys":      {"version: 1\n" + strings.Repeat("a: b\n", half/5), "more than 40000 words"},
		"list":      {"version: 1\na:\n" + strings.Repeat("- b\n", half/4), "more than 40000 words"},
		"flow":      {"version: 1\na: [" + strings.Repeat("b,", half/2) + "]\n", "more than 40000 words"},
		"open":      {strings.Repeat("[", half), "nested too deep"},
		"open maps": {strings.Repeat("{a: ", half/4), "nested too deep"},
		"close":     {"version: 1\na: " + strings.Repeat("]", half), "more than 40000 words"},
		"dashes":    {strings.Repeat("- ", half/2), "nested too deep"},
		"question":  {strings.Repeat("? ", half/2), "a key with ?"},
		"anchors":   {"version: 1\na: " + strings.Repeat("&a ", half/3), "f:2:"},
		"tags":      {"version: 1\na: " + strings.Repeat("!a ", half/3), "a tag"},
		"mixed":     {"version: 1\na: " + strings.Repeat("[a: ", half/4), "nested too deep"},
		"stairs":    {stairs(300), "nested too deep"},
		"null":      {"version: 1\ninstance: \"" + strings.Repeat("\\0", 1000) + "\"\n", "control character"},
		"comments":  {"version: 1\n" + strings.Repeat("# x\n", half/4) + "lgo: 1\n", "did you mean log?"},
		"long":      {"version: 1\ninstance: " + strings.Repeat("x", half) + "\nlgo: 1\n", "did you mean log?"},
		"long key":  {"version: 1\n" + strings.Repeat("x", half) + ":\n" + manyKeys(5000), "a key longer than 256 bytes"},
		"many":      {"version: 1\ncapture:\n" + manyKeys(13000), "and 12950 more"},
		"errors":    {"version: 1\ncapture:\n" + manyKeys(5000), "and 4950 more"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, _, err := Parse("f", []byte(c.text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				s := fmt.Sprint(err)
				t.Errorf("got %.300s, want %s", s, c.want)
			}
			if len(fmt.Sprint(err)) > 50_000 {
				t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
			}
			if d := time.Since(start); d > time.Minute {
				t.Errorf("took %v", d)
			}
		})
	}
}

func stairs(n int) string {
	var b strings.Builder
	b.WriteString("version: 1\n")
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  k%d: 1\n", i)
	}
	return b.String()
}

// TestCheckHook: what other rooms find is reported with the rest, at positions
// that the configuration knows.
func TestCheckHook(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, FileName, "version: 1\ncapture: {ports: [1]}\nexperiments:\n  - name: a\n    candidate: {url: http://a}\n    routes:\n      - path: /a\n      - path: /b\n")
	sentinel := errors.New("sentinel")
	for _, bad := range []bool{false, true} {
		c, _, err := Load(Options{Dir: dir, Check: func(c *Config) error {
			return errors.Join(sentinel, c.Errorf("experiments[0].routes[1].path", "conflicts with %s", c.At("experiments[0].routes[0].path")))
		}})
		if err != nil {
			t.Fatal(err)
		}
		want := "sentinel\nshadowtap.yaml:8:15: experiments[0].routes[1].path: conflicts with shadowtap.yaml:7:15"
		if bad {
			c.Log.Level = "loud"
			want = "shadowtap.yaml: log.level: \"loud\" is not known: write debug, info, warn or error\n" + want
		}
		err = c.Check()
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		var e *Error
		if !errors.Is(err, sentinel) || !errors.As(err, &e) {
			t.Errorf("errors are lost: %v", err)
		}
	}
}

// TestCheckHookSaysNothingTwice: what is wrong with a key is said once.
func TestCheckHookSaysNothingTwice(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, FileName, "version: 1\ncapture: {ports: [1]}\nexperiments:\n  - name: a\n    candidate: {url: http://a}\n")
	for path, want := range map[string]int{"experiments[0].routes": 1, "experiments[0].exclude": 2} {
		c, _, err := Load(Options{Dir: dir, Check: func(c *Config) error { return c.Errorf(path, "none") }})
		if err != nil {
			t.Fatal(err)
		}
		var all Errors
		if err := c.Check(); !errors.As(err, &all) || len(all) != want {
			t.Errorf("%s: %d mistakes, want %d:\n%v", path, len(all), want, err)
		}
	}
}

// TestAt: the position of a key, or of what it is in.
func TestAt(t *testing.T) {
	c, _, err := Parse("f", []byte("version: 1\nexperiments:\n  - name: a\n    sample: {rate: 1%}\nsinks:\n  - kafka: {sasl.password: x}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"experiments[0].sample.rate":   "f:4:20",
		"experiments[0].sample.by":     "f:4:14",
		"experiments[0].candidate.url": "f:3:5",
		"experiments[7].name":          "f:3:3",
		"sinks[0].kafka.sasl.password": "f:6:28",
		"sinks[0].kafka.linger.ms":     "f:6:13",
		"log.level":                    "f",
		"":                             "f",
	} {
		if got := c.At(path).String(); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got := New().At("log.level"); got != (Source{}) {
		t.Errorf("got %v without a file", got)
	}
}

const secretFile = `version: 1
capture: {ports: [1]}
experiments:
  - name: a
    routes: [{path: /}]
    candidate: {url: http://a}
    match: {headers: {Authorization: hunter2, X-Api-Key: hunter2, Cookie: hunter2, X-Env: prod}}
sinks:
  - kafka:
      sasl.username: alice
      sasl.password: hunter2
      ssl.key.password: hunter2
      ssl.key.pem: hunter2
      ssl.keystore.password: hunter2
      sasl.oauthbearer.client.secret: hunter2
      sasl.oauthbearer.config: token=hunter2
      sasl.jaas.config: hunter2
      some.new.token: hunter2
`

// TestSecrets plants secrets wherever they may stand and prints in every way.
func TestSecrets(t *testing.T) {
	env := []string{"KAFKA_SASL_PASSWORD=hunter2", "SHADOWTAP_TOKEN=hunter2", "SHADOWTAP__SINKS__KAFKA__SASL_JAAS_CONFIG=hunter2"}
	c, warnings, err := Parse("f", []byte(secretFile), env)
	if err != nil {
		t.Fatal(err)
	}
	c.Log.Level = "loud"
	var texts []string
	see := func(v ...any) {
		for _, v := range v {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				texts = append(texts, fmt.Sprintf(verb, v))
			}
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			y, err := yaml.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("config", "v", v)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("config", "v", v)
			texts = append(texts, string(b), string(y), log.String())
		}
	}
	see(c, *c, c.Sinks, c.Sinks[0], c.Sinks[0].Kafka, *c.Sinks[0].Kafka, c.Sinks[0].Kafka.Properties,
		c.Experiments, c.Experiments[0], &c.Experiments[0], c.Experiments[0].Match, c.Experiments[0].Match.Headers)
	see(warnings)
	texts = append(texts, fmt.Sprint(c.Check()), fmt.Sprintf("%#v", c.Check()))
	for _, s := range texts {
		if strings.Contains(s, secretValue) || strings.Contains(s, "68756e74657232") {
			t.Errorf("a secret in %.2000s", s)
		}
	}
	if !strings.Contains(c.String(), "alice") || !strings.Contains(c.String(), "X-Env: prod") {
		t.Error("what is no secret is missing")
	}
	// What prints hides; what reads does not.
	if c.Sinks[0].Kafka.Properties["sasl.password"] != secretValue || c.Experiments[0].Match.Headers["Cookie"] != secretValue {
		t.Error("a secret is lost")
	}
	if !slices.Contains(c.Env(), "KAFKA_SASL_PASSWORD=hunter2") {
		t.Error("the environment is lost")
	}
}

// TestSecretErrors: mistakes around a secret do not show it, be they of the YAML,
// of types or of meaning.
func TestSecretErrors(t *testing.T) {
	for _, text := range []string{
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: \"hunter2\n",
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: 'hunter2\n      a: b\n",
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: a: hunter2\n",
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: [hunter2\n",
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: @hunter2\n",
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: \"\\qhunter2\"\n",
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: !hunter2 x\n",
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: |x hunter2\n",
		"version: 1\nsinks:\n  - kafka:\n      sasl.password: %hunter2\n",
		"version: 1\nsinks:\n  - kafka:\n     sasl.password: x\n    hunter2\n",
		"version: 1\nsinks:\n  - kafka: {sasl.password: {hunter2: hunter2}}\n",
		"version: 1\nsinks:\n  - kafka: hunter2\n",
		"version: 1\nsinks: hunter2\n",
		"version: 1\nsinks: [[hunter2]]\n",
		"version: 1\nsinks: [{jsonl: {password: hunter2}}]\n",
		"version: 1\nexperiments: [{name: a, candidate: {url: \"http://u:hunter2@a\"}}]\n",
		"version: 1\nexperiments: [{name: a, candidate: {url: \"http://u:hunter2@a:b:c\"}}]\n",
		"version: 1\nexperiments: [{name: a, candidate: {url: \"http://a?t=hunter2\"}}]\n",
		"version: 1\nexperiments: [{name: a, candidate: {url: \"http://a/?t=hunter2#\\n\"}}]\n",
		"version: 1\nexperiments: [{name: a, match: {headers: {Authorization: [hunter2]}}}]\n",
	} {
		c, _, err := Parse("f", []byte(text), nil)
		if err == nil {
			err = c.Check()
		}
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secretValue) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestRevision: the same meaning has the same name, and a secret is not in it.
func TestRevision(t *testing.T) {
	parse := func(text string, env ...string) string {
		t.Helper()
		c, _, err := Parse("f", []byte(text), env)
		if err != nil {
			t.Fatal(err)
		}
		return c.Revision()
	}
	base := parse("version: 1\nlog: {level: debug}\nsinks: [{kafka: {a: b, sasl.password: x}}]\n")
	for _, same := range []string{
		parse("# c\nversion: 1\nsinks:\n  - kafka:\n      sasl.password: hunter2\n      a: b\nlog:\n  level: \"debug\"\n  format: text\n"),
		parse("version: 1\nsinks: [{kafka: {a: b, sasl.password: x}}]\n", "SHADOWTAP__LOG__LEVEL=debug", "KAFKA_X=1"),
	} {
		if same != base {
			t.Errorf("got %s and %s", same, base)
		}
	}
	for _, other := range []string{
		parse("version: 1\nlog: {level: debug}\nsinks: [{kafka: {a: c, sasl.password: x}}]\n"),
		parse("version: 1\nlog: {level: debug}\nsinks: [{kafka: {a: b}}]\n"),
		parse("version: 1\nlog: {level: info}\nsinks: [{kafka: {a: b, sasl.password: x}}]\n"),
	} {
		if other == base {
			t.Errorf("%s for another configuration", other)
		}
	}
	// A vector: a change of it changes the revision of every installation.
	if got := New().Revision(); got != "4c5f69dff066ab74" || len(base) != 16 {
		t.Errorf("got %s", got)
	}
}

// TestQuick: the command line alone.
func TestQuick(t *testing.T) {
	c, err := QuickExperiment(Quick{Interfaces: []string{"lo"}, Ports: []uint16{3000}, Candidate: "http://localhost:3001", Paths: []string{"/api/{value}"}, Sample: "100%"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	want := NewExperiment("default")
	want.Routes = []Route{{Path: "/api/{value}", Key: "{route}"}}
	want.Sample.Rate = 100_00
	want.Candidate.URL = "http://localhost:3001"
	if !reflect.DeepEqual(c.Experiments, []Experiment{want}) || !reflect.DeepEqual(c.Capture.Interfaces, []Interface{{Name: "lo"}}) || !slices.Equal(c.CapturePorts(), []uint16{3000}) {
		t.Errorf("got\n%s", c)
	}
	c, err = QuickExperiment(Quick{Ports: []uint16{1}, Candidate: "http://a"})
	if err != nil || len(c.Experiments) != 1 || c.Experiments[0].Routes[0].Path != "/" || c.Experiments[0].Sample.Rate != 10_00 {
		t.Errorf("got %v\n%s", err, c)
	}
	if c, err = QuickExperiment(Quick{Ports: []uint16{1}}); err != nil || len(c.Experiments) != 0 || c.Check() != nil {
		t.Errorf("capture only: got %v, %v\n%s", err, c.Check(), c)
	}
}

// TestOverride: flags over a file, and errors that name the flag.
func TestOverride(t *testing.T) {
	const one = "version: 1\ncapture: {ports: [1], interfaces: [{name: a, role: uplink}]}\nexperiments:\n  - {name: a, match: {port: 1}, routes: [{path: /a}], candidate: {url: http://a}}\n"
	const two = one + "  - {name: b, routes: [{path: /a}], candidate: {url: http://a}}\n"
	for _, c := range []struct {
		file string
		q    Quick
		want string
	}{
		{one, Quick{}, ""},
		{one, Quick{Ports: []uint16{1, 2}, Interfaces: []string{"x"}, Candidate: "http://b", Paths: []string{"/b"}, Sample: "1%"}, ""},
		{two, Quick{Ports: []uint16{1, 2}}, ""},
		{one, Quick{Candidate: "ftp://b"}, `--candidate: experiments[0].candidate.url: the scheme "ftp" is neither http nor https`},
		{one, Quick{Paths: []string{"/b", "b"}}, `--path: experiments[0].routes[1].path: "b" must begin with /`},
		{one, Quick{Sample: "0.5"}, `--sample: "0.5" has no %: write 0.5% or 50%`},
		{one, Quick{Ports: []uint16{2}}, `f:4:29: experiments[0].match.port: 1 is not captured: add it to capture.ports, at --port`},
		{one, Quick{Interfaces: []string{"a/b"}}, `--interface: capture.interfaces[0].name: "a/b" is no interface name: write it as ip link shows it, at most 15 bytes`},
		{two, Quick{Sample: "1%"}, `--sample: the configuration has 2 experiments, a and b: set the key of one by a variable such as SHADOWTAP__EXPERIMENTS__a__SAMPLE__RATE`},
		{one, Quick{Control: "http://c"}, ""},
		{one, Quick{Control: "http://a:80"}, `--control: experiments[0].control.url: is the candidate's too, at f:4:72: the control is a second instance of the reference version`},
		{one, Quick{Control: "c"}, `--control: experiments[0].control.url: has no scheme: write http or https, a host and if need be a port, such as http://users-next:8080`},
		{two, Quick{Control: "http://c"}, `--control: the configuration has 2 experiments, a and b: set the key of one by a variable such as SHADOWTAP__EXPERIMENTS__a__CONTROL__URL`},
		{"version: 1\n", Quick{Control: "http://c"}, `--control: is about an experiment, and there is none: add --candidate with the URL of the candidate`},
		{"version: 1\n", Quick{Sample: "1%"}, `--sample: is about an experiment, and there is none: add --candidate with the URL of the candidate`},
		{"version: 1\n", Quick{Paths: []string{"/"}, Sample: "1%"}, `--path: is about an experiment, and there is none: add --candidate with the URL of the candidate`},
	} {
		conf, _, err := Parse("f", []byte(c.file), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = conf.Override(c.q)
		if err == nil {
			err = conf.Check()
		}
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: got  %s\nwant %s", c.q, got, c.want)
		}
	}
	conf, _, err := Parse("f", []byte(one), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conf.Override(Quick{Ports: []uint16{1, 2}, Interfaces: []string{"x"}, Candidate: "http://b", Paths: []string{"/b"}, Sample: "1%"}); err != nil {
		t.Fatal(err)
	}
	e := conf.Experiments[0]
	if e.Name != "a" || e.Candidate.URL != "http://b" || len(e.Routes) != 1 || e.Routes[0].Path != "/b" || e.Sample.Rate != 1_00 ||
		!slices.Equal(conf.Capture.Ports, []uint16{1, 2}) || !reflect.DeepEqual(conf.Capture.Interfaces, []Interface{{Name: "x"}}) {
		t.Errorf("got\n%s", conf)
	}
}

// TestOverrideControl: all goes to the control of a flag, unless a share was
// written; the captured server is not asked then.
func TestOverrideControl(t *testing.T) {
	const head = "version: 1\ncapture: {ports: [1]}\nexperiments:\n  - {name: a, routes: [{path: /a}], candidate: {url: http://a}"
	for _, c := range []struct {
		control string
		env     []string
		want    Rate
	}{
		{"", nil, 100_00},
		{", control: {url: http://b}", nil, 100_00},
		{", control: {url: http://b, share: 5%}", nil, 5_00},
		{", control: {url: http://b, share: 10%}", nil, 10_00},
		{", control: {self: true, i_accept_extra_load: true}", nil, 100_00},
		{"", []string{"SHADOWTAP__EXPERIMENTS__a__CONTROL__SHARE=7%"}, 7_00},
	} {
		conf, _, err := Parse("f", []byte(head+c.control+"}\n"), c.env)
		if err == nil {
			err = conf.Override(Quick{Control: "http://c"})
		}
		if err == nil {
			err = conf.Check()
		}
		if err != nil {
			t.Fatalf("%s: %v", c.control, err)
		}
		if got, want := conf.Experiments[0].Control, (Control{URL: "http://c", Share: c.want}); got != want {
			t.Errorf("%s %v: got %+v, want %+v", c.control, c.env, got, want)
		}
	}
}

func TestSetInstance(t *testing.T) {
	c, _, err := Parse("f", []byte("version: 1\nmanagement: {admin_socket: /x}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetInstance("blue")
	if c.Instance != "blue" || c.OffFile != "/run/shadowtap/blue/off" || c.Management.AdminSocket != "/x" {
		t.Errorf("got %s, %s, %s", c.Instance, c.OffFile, c.Management.AdminSocket)
	}
}

func TestCapturePorts(t *testing.T) {
	c := New()
	for _, p := range []uint16{443, 80, 0, 443} {
		e := NewExperiment("x")
		e.Match.Port = p
		c.Experiments = append(c.Experiments, e)
	}
	if got := c.CapturePorts(); !slices.Equal(got, []uint16{80, 443}) {
		t.Errorf("got %v", got)
	}
	c.Capture.Ports = []uint16{9, 8, 9}
	if got := c.CapturePorts(); !slices.Equal(got, []uint16{8, 9}) || c.Capture.Ports[0] != 9 {
		t.Errorf("got %v of %v", got, c.Capture.Ports)
	}
}

func TestSinkNames(t *testing.T) {
	c := New()
	c.Sinks = []Sink{{Kafka: &Kafka{}}, {Terminal: &Terminal{}}, {Kafka: &Kafka{}}, {JSONL: &JSONL{}}, {Kafka: &Kafka{}}}
	if got := c.SinkNames(); !slices.Equal(got, []string{"kafka", "terminal", "kafka-2", "jsonl", "kafka-3"}) {
		t.Errorf("got %v", got)
	}
}

func TestRateOf(t *testing.T) {
	e := NewExperiment("a")
	one := Rate(1)
	e.Routes = []Route{{Path: "/a"}, {Path: "/b", Sample: &one}}
	if a, b := e.RateOf(0), e.RateOf(1); a != 10_00 || b != 1 {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestParsePort(t *testing.T) {
	for s, want := range map[string]uint16{"1": 1, "8080": 8080, "65535": 65535} {
		if got, err := ParsePort(s); err != nil || got != want {
			t.Errorf("%s: got %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "65536", "-1", "+1", "http", "80 ", "1e3"} {
		if got, err := ParsePort(s); err == nil {
			t.Errorf("%q: got %d", s, got)
		}
	}
}

// TestLaterTable: every line of the table names a key, and every key that it
// refuses is one that a file can set.
func TestLaterTable(t *testing.T) {
	known := map[string]bool{}
	walkKeys(reflect.TypeFor[Config](), "", func(p string) { known[p] = true })
	for _, l := range later {
		if !known[l.path] {
			t.Errorf("no key %s", l.path)
		}
	}
}
