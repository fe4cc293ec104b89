package config

import (
	"slices"
	"strings"
	"testing"
)

const envFileText = `version: 1
capture: {interfaces: [eth0, lo], ports: [80]}
experiments:
  - name: users
    match: {headers: {X-Env: prod}}
    routes: [{path: "/users/{id}"}]
    candidate: {url: http://a}
  - name: users-v2
    routes: [{path: /}]
    candidate: {url: http://b}
sinks:
  - kafka: {topic: t, sasl.username: u}
  - terminal
`

// TestEnvSets: what a variable sets, as a line of the effective configuration.
func TestEnvSets(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want []string
	}{
		{[]string{"SHADOWTAP__LOG__LEVEL=debug"}, []string{"  level: debug\n"}},
		{[]string{"SHADOWTAP__log__Level=debug"}, []string{"  level: debug\n"}},
		{[]string{"SHADOWTAP__ENABLED=false"}, []string{"\nenabled: false\n"}},
		{[]string{"SHADOWTAP__INSTANCE=green"}, []string{"off_file: /run/shadowtap/green/off\n", "admin_socket: /run/shadowtap/green/admin.sock\n"}},
		{[]string{"SHADOWTAP__INSTANCE=green", "SHADOWTAP__OFF_FILE=/x"}, []string{"off_file: /x\n", "admin_socket: /run/shadowtap/green/admin.sock\n"}},
		{[]string{"SHADOWTAP__MANAGEMENT__ADDRESS="}, []string{"  address: \"\"\n"}},
		{[]string{"SHADOWTAP__VERDICT__MAX_LATENCY__P50=11%"}, []string{"    p50: 11%\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__users__SAMPLE__RATE=5%"}, []string{"rate: 5%\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__USERS_V2__SAMPLE__RATE=5%"}, []string{"rate: 10%\n", "rate: 5%\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__users-v2__SAMPLE__RATE=5%"}, []string{"rate: 10%\n", "rate: 5%\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__1__SAMPLE__RATE=5%"}, []string{"rate: 10%\n", "rate: 5%\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__0__ROUTES__0__SAMPLE=7%"}, []string{"sample: 7%\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__0__ROUTES__1__PATH=/x"}, []string{"path: /x\n        key: \"{route}\"\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__users__MATCH__HEADERS__X_ENV=dev"}, []string{"headers: {X-Env: dev}\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__users__MATCH__HEADERS__X_A=b"}, []string{"headers: {X-A: b, X-Env: prod}\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__users__MATCH__METHODS=GET, POST,"}, []string{"methods: [GET, POST]\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__users__REPLAY__UNSAFE__0=PUT"}, []string{"unsafe: [PUT]\n"}},
		{[]string{"SHADOWTAP__EXPERIMENTS__2__NAME=new", "SHADOWTAP__EXPERIMENTS__new__CANDIDATE__URL=http://c", "SHADOWTAP__EXPERIMENTS__NEW__ROUTES__0__PATH=/"}, []string{"  - name: new\n", "url: \"http://c\"\n"}},
		{[]string{"SHADOWTAP__CAPTURE__INTERFACES=eth1,eth2"}, []string{"name: eth1\n", "name: eth2\n"}},
		{[]string{"SHADOWTAP__CAPTURE__INTERFACES__1=eth1"}, []string{"name: eth0\n", "name: eth1\n"}},
		{[]string{"SHADOWTAP__CAPTURE__INTERFACES__ETH0__ROLE=uplink"}, []string{"name: eth0\n      role: uplink\n"}},
		{[]string{"SHADOWTAP__CAPTURE__INTERFACES__2__NAME=eth9"}, []string{"name: lo\n", "name: eth9\n"}},
		{[]string{"SHADOWTAP__CAPTURE__PORTS=8080,8081"}, []string{"ports: [8080, 8081]\n"}},
		{[]string{"SHADOWTAP__CAPTURE__PORTS="}, []string{"ports: []\n"}},
		{[]string{"SHADOWTAP__SINKS__0__KAFKA__TOPIC=x"}, []string{"topic: x\n"}},
		{[]string{"SHADOWTAP__SINKS__KAFKA__TOPIC=x"}, []string{"topic: x\n"}},
		{[]string{"SHADOWTAP__SINKS__KAFKA__KAFKA__TOPIC=x"}, []string{"topic: x\n"}},
		{[]string{"SHADOWTAP__SINKS__KAFKA__BOOTSTRAP_SERVERS=k:1"}, []string{"bootstrap.servers: \"k:1\"\n"}},
		{[]string{"SHADOWTAP__SINKS__KAFKA__SASL.USERNAME=v"}, []string{"sasl.username: v\n"}},
		{[]string{"SHADOWTAP__SINKS__KAFKA__SASL_USERNAME=v"}, []string{"sasl.username: v\n"}},
		{[]string{"SHADOWTAP__SINKS__KAFKA__SASL__MECHANISM=PLAIN"}, []string{"sasl.mechanism: PLAIN\n"}},
		{[]string{"SHADOWTAP__SINKS=terminal"}, []string{"sinks:\n  - terminal: {}\n"}},
		{[]string{"SHADOWTAP__SINKS__2__JSONL__PATH=f"}, []string{"  - jsonl:\n      path: f\n"}},
		{[]string{"SHADOWTAP__REDACTION__PATTERNS__0=a{1,2}"}, []string{"patterns: [\"a{1,2}\"]\n"}},
		{[]string{"SHADOWTAP__REDACTION__QUERY__0=a", "SHADOWTAP__REDACTION__QUERY__1=b"}, []string{"query: [a, b]\n"}},
		{[]string{"SHADOWTAP__VERSION=1"}, []string{"version: 1\n"}},
	} {
		t.Run(strings.Join(c.env, " "), func(t *testing.T) {
			conf, warnings, err := Parse("f.yaml", []byte(envFileText), c.env)
			if err != nil || len(warnings) > 0 {
				t.Fatal(err, warnings)
			}
			rest := conf.String()
			for _, w := range c.want {
				_, after, ok := strings.Cut(rest, w)
				if !ok {
					t.Fatalf("no %q in order in\n%s", w, conf)
				}
				rest = after
			}
			if plain, _, _ := Parse("f.yaml", []byte(envFileText), nil); plain.Revision() == conf.Revision() && c.env[0] != "SHADOWTAP__VERSION=1" {
				t.Error("the revision did not change")
			}
		})
	}
}

// TestEnvErrors: the exact error of a variable that can't be used.
func TestEnvErrors(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"SHADOWTAP__CAPTURE__MEMROY=1GiB", `SHADOWTAP__CAPTURE__MEMROY: capture: unknown key "memroy": did you mean memory? (SHADOWTAP__CAPTURE__MEMORY)`},
		{"SHADOWTAP__EXPERIMENTS__users__SAMPEL__RATE=1%", `SHADOWTAP__EXPERIMENTS__users__SAMPEL__RATE: experiments[0]: unknown key "sampel": did you mean sample? (SHADOWTAP__EXPERIMENTS__users__SAMPLE__RATE)`},
		{"SHADOWTAP__LOGLEVEL=debug", `SHADOWTAP__LOGLEVEL: unknown key "loglevel": the nearest is log; here stand version, instance, enabled, off_file, stop, capture, experiments, verdict, publish, redaction, sinks, spool, management and log`},
		{"SHADOWTAP__=1", `SHADOWTAP__: unknown key "": the nearest is log; here stand version, instance, enabled, off_file, stop, capture, experiments, verdict, publish, redaction, sinks, spool, management and log`},
		{"SHADOWTAP__EXPERIMENTS__user__SAMPLE__RATE=1%", `SHADOWTAP__EXPERIMENTS__user__SAMPLE__RATE: experiments: has no element "user": the nearest is "users"`},
		{"SHADOWTAP__EXPERIMENTS__5__NAME=a", `SHADOWTAP__EXPERIMENTS__5__NAME: experiments: has 2 elements: the next index is 2`},
		{"SHADOWTAP__EXPERIMENTS__users__SAMPLE__RATE=0.5", `SHADOWTAP__EXPERIMENTS__users__SAMPLE__RATE: experiments[0].sample.rate: "0.5" has no %: write 0.5% or 50%`},
		{"SHADOWTAP__EXPERIMENTS__users__SAMPLE=1%", `SHADOWTAP__EXPERIMENTS__users__SAMPLE: experiments[0].sample: is a group of keys: set one of them, such as SHADOWTAP__EXPERIMENTS__users__SAMPLE__RATE`},
		{"SHADOWTAP__EXPERIMENTS__users__MATCH__HEADERS=a", `SHADOWTAP__EXPERIMENTS__users__MATCH__HEADERS: experiments[0].match.headers: is a group of names: set one of them, SHADOWTAP__EXPERIMENTS__users__MATCH__HEADERS__NAME`},
		{"SHADOWTAP__EXPERIMENTS=a", `SHADOWTAP__EXPERIMENTS: experiments: is a list of groups of keys: set a key of an element, SHADOWTAP__EXPERIMENTS__0__...`},
		{"SHADOWTAP__REDACTION__PATTERNS=a{1,2}", `SHADOWTAP__REDACTION__PATTERNS: redaction.patterns: is a list in which commas mean something: set its elements, SHADOWTAP__REDACTION__PATTERNS__0`},
		{"SHADOWTAP__LOG__LEVEL__X=a", `SHADOWTAP__LOG__LEVEL__X: log.level: has no key "X": it is one value`},
		{"SHADOWTAP__EXPERIMENTS__users__UNTIL__AFTER=1d", `SHADOWTAP__EXPERIMENTS__users__UNTIL__AFTER: experiments[0].until: has no key "AFTER": it is one value`},
		{"SHADOWTAP__SINKS__TERMINAL=x", `SHADOWTAP__SINKS__TERMINAL: sinks[1].terminal: takes no value`},
		{"SHADOWTAP__EXPERIMENTS__2__SAMPEL=hunter2", `SHADOWTAP__EXPERIMENTS__2__SAMPEL: experiments[2]: unknown key "sampel": did you mean sample? (SHADOWTAP__EXPERIMENTS__2__SAMPLE)`},
		{"SHADOWTAP__REDACTION__QUERY__0__X=a", `SHADOWTAP__REDACTION__QUERY__0__X: redaction.query[0]: has no key "X": it is one value`},
		{"SHADOWTAP__EXPERIMENTS__users__MATCH__HEADERS__A__B=a", `SHADOWTAP__EXPERIMENTS__users__MATCH__HEADERS__A__B: experiments[0].match.headers.A: has no key "B": it is one value`},
		{"SHADOWTAP__SINKS=hunter2", `SHADOWTAP__SINKS: sinks[0]: a sink has a mapping: write kafka: {...}, jsonl: {path: ...} or terminal`},
		{"SHADOWTAP__ENABLED=", `SHADOWTAP__ENABLED: enabled: "" is neither true nor false`},
		{"SHADOWTAP__EXPERIMENTS__0__ROUTES__x__PATH=/", `SHADOWTAP__EXPERIMENTS__0__ROUTES__x__PATH: experiments[0].routes: has no element "x": use an index, from 0`},
		{"SHADOWTAP__INSTANCE__X=1", `SHADOWTAP__INSTANCE__X: instance: has no key "X": it is one value`},
	} {
		t.Run(c.env, func(t *testing.T) {
			_, _, err := Parse("f.yaml", []byte(envFileText), []string{c.env})
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// TestEnvAmbiguous: two names that one part of a variable means, one variable
// in two spellings, and a place that the file has filled with something else.
func TestEnvAmbiguous(t *testing.T) {
	const head = "version: 1\ncapture: {ports: [1]}\n"
	for _, c := range []struct {
		file string
		env  []string
		want string
	}{
		{head + "experiments: [{name: a-b}, {name: a.b}]\n", []string{"SHADOWTAP__EXPERIMENTS__A_B__ENABLED=true"},
			`SHADOWTAP__EXPERIMENTS__A_B__ENABLED: experiments: "A_B" means element 0 and element 1: use the index`},
		{head, []string{"SHADOWTAP__LOG__LEVEL=info", "SHADOWTAP__log__level=warn"},
			`SHADOWTAP__log__level: log.level: is set by SHADOWTAP__LOG__LEVEL too`},
		{head + "log: text\n", []string{"SHADOWTAP__LOG__LEVEL=info"},
			"f.yaml:3:6: log: is a value: write a mapping with the keys level and format\n" +
				`SHADOWTAP__LOG__LEVEL: log: is a value where it was set before: a key below it can't be set`},
		{head + "log: {level: bad}\n", []string{"SHADOWTAP__LOG__LEVEL=info"}, ""},
		{head + "sinks: [{jsonl: {path: a}}, {jsonl: {path: b}}]\n", []string{"SHADOWTAP__SINKS__JSONL__PATH=c"},
			`SHADOWTAP__SINKS__JSONL__PATH: sinks: "JSONL" means element 0 and element 1: use the index`},
	} {
		_, _, err := Parse("f.yaml", []byte(c.file), c.env)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: got  %s\nwant %s", c.env, got, c.want)
		}
	}
}

// TestEnvAnchors: a variable changes the place that it names, not the others
// that the file wrote with the same anchor.
func TestEnvAnchors(t *testing.T) {
	file := "version: 1\nexperiments:\n  - {name: a, sample: &s {rate: 1%}}\n  - {name: b, sample: *s}\n  - {name: c, sample: {<<: *s}}\n"
	c, _, err := Parse("f.yaml", []byte(file), []string{"SHADOWTAP__EXPERIMENTS__b__SAMPLE__RATE=2%"})
	if err != nil {
		t.Fatal(err)
	}
	got := []Rate{c.Experiments[0].Sample.Rate, c.Experiments[1].Sample.Rate, c.Experiments[2].Sample.Rate}
	if !slices.Equal(got, []Rate{1_00, 2_00, 1_00}) {
		t.Errorf("got %v", got)
	}
}

// TestEnvSource: errors of meaning name the variable.
func TestEnvSource(t *testing.T) {
	c, _, err := Parse("f.yaml", []byte(envFileText), []string{"SHADOWTAP__EXPERIMENTS__users__CANDIDATE__URL=ftp://x", "SHADOWTAP__SPOOL__DIR=/x"})
	if err != nil {
		t.Fatal(err)
	}
	want := `SHADOWTAP__EXPERIMENTS__users__CANDIDATE__URL: experiments[0].candidate.url: the scheme "ftp" is neither http nor https` + "\n" +
		`SHADOWTAP__SPOOL__DIR: spool.dir: not in this version: leave the key out`
	if err := c.Check(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestEnvIgnored: what others put into the environment does no harm and is told
// once, without its value.
func TestEnvIgnored(t *testing.T) {
	env := []string{
		"PATH=/bin", "FOO_PORT=tcp://10.0.0.1:80", "=x", "", "NOTHING",
		// Kubernetes, for services named shadowtap and shadowtap--log.
		"SHADOWTAP_PORT=tcp://10.0.0.1:80", "SHADOWTAP_SERVICE_HOST=10.0.0.1", "SHADOWTAP_PORT_80_TCP_PROTO=tcp",
		"SHADOWTAP__LOG_PORT=tcp://10.0.0.1:80", "SHADOWTAP__LOG_SERVICE_HOST=10.0.0.1", "SHADOWTAP__LOG_PORT_80_TCP_ADDR=10.0.0.1",
		"SHADOWTAP_TOKEN=hunter2",
		"KAFKA_PORT=tcp://10.0.0.1:9092", "KAFKA_SASL_PASSWORD=hunter2",
	}
	c, warnings, err := Parse("f.yaml", []byte(envFileText), env)
	if err != nil {
		t.Fatal(err)
	}
	want := "ignored SHADOWTAP_PORT, SHADOWTAP_PORT_80_TCP_PROTO, SHADOWTAP_SERVICE_HOST, SHADOWTAP_TOKEN, SHADOWTAP__LOG_PORT, " +
		"SHADOWTAP__LOG_PORT_80_TCP_ADDR, SHADOWTAP__LOG_SERVICE_HOST: a variable that sets a key begins with SHADOWTAP__ and has __ between the levels"
	if len(warnings) != 1 || warnings[0].String() != want {
		t.Errorf("got  %v\nwant %s", warnings, want)
	}
	if got := c.Env(); !slices.Equal(got, []string{"KAFKA_PORT=tcp://10.0.0.1:9092", "KAFKA_SASL_PASSWORD=hunter2"}) {
		t.Errorf("got %q", got)
	}
	many := make([]string, 15)
	for i := range many {
		many[i] = "SHADOWTAP_X" + strings.Repeat("x", i) + "=1"
	}
	if _, warnings, _ = Parse("f.yaml", []byte(envFileText), many); len(warnings) != 1 || !strings.Contains(warnings[0].String(), " and 5 more: ") {
		t.Errorf("got %v", warnings)
	}
}

// TestEnvAlone: an experiment by variables, without a file.
func TestEnvAlone(t *testing.T) {
	c, _, err := Load(Options{Dir: t.TempDir(), Env: []string{
		"SHADOWTAP__EXPERIMENTS__0__NAME=users",
		"SHADOWTAP__EXPERIMENTS__users__MATCH__PORT=8080",
		"SHADOWTAP__EXPERIMENTS__users__CANDIDATE__URL=http://users-next:8080",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__10__PATH=/k",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__9__PATH=/j",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__0__PATH=/a",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__1__PATH=/b",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__2__PATH=/c",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__3__PATH=/d",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__4__PATH=/e",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__5__PATH=/f",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__6__PATH=/g",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__7__PATH=/h",
		"SHADOWTAP__EXPERIMENTS__users__ROUTES__8__PATH=/i",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if len(c.Experiments) != 1 || len(c.Experiments[0].Routes) != 11 || c.Experiments[0].Routes[10].Path != "/k" {
		t.Errorf("got\n%s", c)
	}
	// An element that variables made has its defaults.
	if e := c.Experiments[0]; e.Sample.Rate != 10_00 || e.Routes[3].Key != "{route}" {
		t.Errorf("got %+v", e)
	}
}
