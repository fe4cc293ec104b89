package sample

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

const second = int64(time.Second)

// start is the capture time at which tests begin.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()

func mustNew(t testing.TB, c Config) *Sampler {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// head makes a head at the start of the tests' time.
func head(method, target string, headers ...string) *exchange.Head {
	return &exchange.Head{
		Flow: testFlow, ISN: 1, Time: start, Method: []byte(method), Target: []byte(target),
		Fields: fields(append([]string{"Host", "shop.example.com"}, headers...)...),
	}
}

// word is a choice as the ledger's labels.
func word(c exchange.Choice) string {
	s := c.Selection.String()
	switch c.Selection {
	case exchange.Paused:
		s += " " + c.Pause.String()
	case exchange.NotReplayable:
		s += " " + c.Doubt.String()
	}
	return s
}

// A request for which everything stands in the way; each step takes the first
// thing away, and the next in the order shows.
func TestOrderOfDecision(t *testing.T) {
	s := mustNew(t, Config{Experiments: []Experiment{{
		Name:     "x",
		Disabled: true,
		Until:    time.Unix(0, start),
		Match: Match{
			Port: 8080, Host: "*.example.com", Methods: []string{"GET", "PUT"}, Headers: map[string]string{"X-Tenant": "blue"},
		},
		Routes:  []Route{{Path: "/other"}, {Path: "/users/{id}"}},
		Exclude: []string{"/users/0"},
		Guard:   Guard{Latency: 2},
		Rate:    Rate{0},
	}}})
	sh := s.Shard()
	s.SetOff("x", exchange.PauseOffFile, true)
	s.SetOff("", exchange.PauseOff, true)
	s.experiments[0].guard.until.Store(start + 20*second)

	h := head("PUT", "/nowhere", "x-shadow-test-role", " Candidate ")
	h.Flow = &exchange.Flow{Client: testFlow.Client, Server: netip.MustParseAddrPort("198.51.100.7:9090")}
	h.Fields[0].Value = []byte("example.net")
	h.Doubt = exchange.DoubtHost
	steps := []struct {
		want string
		next func()
	}{
		{"own_traffic", func() { h.Fields[1].Value = []byte("control") }},
		{"own_traffic", func() { h.Fields[1].Value = []byte("reference") }},
		{"unmatched", func() { h.Flow = testFlow }},
		{"unmatched", func() { h.Fields[0].Value = []byte("a.example.com:1") }},
		{"unmatched", func() { h.Method = []byte("POST"); h.Target = []byte("/users/0") }},
		{"unmatched", func() { h.Method = []byte("PUT") }},
		{"unmatched", func() { h.Fields = append(h.Fields, fields("X-Tenant", "blue")...) }},
		{"excluded", func() { h.Target = []byte("/users/1/..//%2e/0") }},
		{"unmatched", func() { h.Target = []byte("/users/logout") }},
		{"excluded", func() { h.Target = []byte("/users/2?otp=1") }},
		{"excluded", func() { h.Target = []byte("/users/2") }},
		{"not_replayable host", func() { h.Doubt = exchange.DoubtNone }},
		{"unsafe", func() { h.Method = []byte("GET") }},
		{"paused off", func() { s.SetOff("x", exchange.PauseOff, false) }},
		{"paused off_file", func() { s.SetOff("", exchange.PauseOffFile, false) }},
		{"paused disabled", func() { s.SetOff("x", exchange.PauseDisabled, false) }},
		{"paused guard", func() { s.experiments[0].guard.until.Store(start) }},
		{"ended", func() { s.experiments[0].until = start + 1 }},
		{"sampled_out", func() { s.experiments[0].routes[1].rate = Rate{fullRate} }},
		{"selected", func() {}},
	}
	for i, step := range steps {
		d := sh.Keep(h)
		if got := word(d.Choices[0]); got != step.want {
			t.Fatalf("step %d: %s, want %s", i, got, step.want)
		}
		if whole := d.Want == exchange.WantWhole; d.Len != 1 || whole != (step.want == "selected") {
			t.Errorf("step %d: %d choices, want %v", i, d.Len, d.Want)
		}
		if sel := d.Choices[0].Selection; sel != exchange.Unmatched && sel != exchange.OwnTraffic && d.Choices[0].Route != 1 {
			t.Errorf("step %d: route %d", i, d.Choices[0].Route)
		}
		step.next()
	}
}

// Exclusions look at the cleaned path too, where the route takes the path as
// captured.
func TestExcludedByCleanedPath(t *testing.T) {
	sh := mustNew(t, Config{Experiments: []Experiment{{
		Name: "x", Routes: []Route{{Path: "/"}}, Exclude: []string{"/admin/", "/jobs/{id}/run"}, Rate: Rate{fullRate},
	}}}).Shard()
	for target, want := range map[string]string{
		"/admin/x":           "excluded",
		"/public/../admin/x": "excluded",
		"//admin/x":          "excluded",
		"/%2e/admin/x":       "excluded",
		"/jobs/7/run":        "excluded",
		"/jobs/./7/run":      "excluded",
		"/jobs/7":            "selected",
		"/admin":             "selected",
		"/admin/../x":        "excluded", // as captured it is below /admin/
		"/x?next=/admin/":    "selected",
		"/Admin/":            "selected",
		"/a/" + strings.Repeat("./", 5000) + "../admin/": "excluded",
	} {
		if got := word(sh.Keep(head("GET", target)).Choices[0]); got != want {
			t.Errorf("%.40s: %s, want %s", target, got, want)
		}
	}
}

func TestSeveralExperiments(t *testing.T) {
	one := Rate{1}
	s := mustNew(t, Config{Experiments: []Experiment{
		{Name: "all", Routes: []Route{{Path: "/"}}, Rate: Rate{fullRate}, Unsafe: []string{"POST"}},
		{Name: "users", Routes: []Route{{Path: "/users/{id}"}, {Path: "/", Rate: &one}}, Rate: Rate{fullRate}},
		{Name: "items", Routes: []Route{{Path: "/items/{id}"}}, Rate: Rate{fullRate}, Exclude: []string{"!defaults"}},
	}})
	sh := s.Shard()
	for _, c := range []struct {
		method, target string
		want           string
		whole          bool
	}{
		{"GET", "/users/1", "selected selected unmatched", true},
		{"GET", "/items/1", "selected sampled_out selected", true},
		{"POST", "/items/1", "selected unsafe unsafe", true},
		{"PUT", "/items/1", "unsafe unsafe unsafe", false},
		{"GET", "/items/logout", "excluded excluded selected", true},
		{"GET", "http://shop.example.com/users/1", "selected selected unmatched", true}, // the parser doubts it
		{"OPTIONS", "*", "selected sampled_out unmatched", true},
		{"CONNECT", "shop.example.com:80", "unmatched unmatched unmatched", false},
		{"GET", "", "unmatched unmatched unmatched", false},
	} {
		d := sh.Keep(head(c.method, c.target))
		var words []string
		for _, choice := range d.Choices[:d.Len] {
			words = append(words, word(choice))
		}
		if got := strings.Join(words, " "); got != c.want || (d.Want == exchange.WantWhole) != c.whole {
			t.Errorf("%s %s: %s (%v), want %s", c.method, c.target, got, d.Want, c.want)
		}
	}
	if r := s.Route(1, 0); r.Path != "/users/{id}" || r.Key != DefaultKey || *r.Rate != (Rate{fullRate}) {
		t.Errorf("route users 0: %+v", r)
	}
	if r := s.Route(1, 1); *r.Rate != one {
		t.Errorf("route users 1 has the rate %v", r.Rate)
	}
}

// In the agent, by request, the choice is the library's for the request's key.
func TestKeepIsTheLibraryRule(t *testing.T) {
	rate := Rate{1050}
	s := mustNew(t, Config{Experiments: []Experiment{{Name: "x", Routes: []Route{{Path: "/"}}, Rate: rate}}})
	sh, n := s.Shard(), 0
	for offset := range uint64(20_000) {
		h := head("GET", "/")
		h.Offset = offset * 100
		got := sh.Keep(h).Choices[0].Selection == exchange.Selected
		if want := Keep(RequestKey(h.Flow, h.ISN, h.Offset), "request", rate); got != want {
			t.Fatalf("offset %d: selected %v, by the library %v", h.Offset, got, want)
		}
		if got {
			n++
		}
	}
	if n < 1900 || n > 2300 {
		t.Errorf("%d of 20000 at %v", n, rate)
	}
}

// The model takes the same decision in the plainest way: ServeMux for paths,
// Keep with its text for the sample.
func TestKeepAgreesWithModel(t *testing.T) {
	routes := []string{"/", "/users/{id}", "/users/{id}/orders/{order}", "/files/{rest...}", "/about", "/{$}"}
	targets := []string{
		"/", "/users/1", "/users/2?a=b", "/users/1/orders/7", "/files/a/b", "/about", "/logout", "/x?code=1&state=2", "/users/logout?x",
	}
	excludes := []string{"/about", "/users/2", "/files/", "!logout", "!defaults", "!query-code-state"}
	rapid.Check(t, func(t *rapid.T) {
		x := Experiment{
			Name: "x",
			Match: Match{
				Port:    rapid.SampledFrom([]uint16{0, 0, 0, 8080, 8080, 9090}).Draw(t, "port"),
				Host:    rapid.SampledFrom([]string{"", "", "shop.example.com", "*.example.com", "*.example.com", "other"}).Draw(t, "host"),
				Methods: rapid.SampledFrom([][]string{nil, {"GET"}, {"GET", "POST"}}).Draw(t, "methods"),
			},
			Exclude: rapid.SliceOfN(rapid.SampledFrom(excludes), 0, 2).Draw(t, "exclude"),
			Rate:    Rate{rapid.SampledFrom([]uint32{0, 1, 50, 1000, 5000, 5050, fullRate}).Draw(t, "rate")},
			By: rapid.SampledFrom([]By{{}, {kind: byURL}, {kind: byConnection}, {kind: byHeader, header: "User"}}).
				Draw(t, "by"),
			Unsafe:   rapid.SampledFrom([][]string{nil, {"POST"}}).Draw(t, "unsafe"),
			Disabled: rapid.IntRange(0, 5).Draw(t, "disabled") == 0,
		}
		var paths []string
		for _, p := range rapid.SliceOfNDistinct(rapid.SampledFrom(routes), 1, 4, rapid.ID).Draw(t, "routes") {
			paths = append(paths, p)
			x.Routes = append(x.Routes, Route{Path: p})
		}
		s, err := New(Config{Experiments: []Experiment{x}})
		if err != nil {
			t.Fatal(err)
		}
		sh := s.Shard()
		for range 12 {
			method := rapid.SampledFrom([]string{"GET", "GET", "GET", "HEAD", "POST", "DELETE"}).Draw(t, "method")
			target := rapid.SampledFrom(targets).Draw(t, "target")
			user := rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user")
			role := rapid.SampledFrom([]string{"", "", "", "", "", "", "candidate", "control", "reference", "upstream"}).Draw(t, "role")
			h := head(method, target, "user", user, "X-Shadow-Test-Role", role)
			h.ISN, h.Offset = rapid.Uint32().Draw(t, "isn"), rapid.Uint64().Draw(t, "offset")
			h.Doubt = rapid.SampledFrom([]exchange.Doubt{0, 0, 0, 0, 0, 0, exchange.DoubtCL}).Draw(t, "doubt")
			d := sh.Keep(h)
			if got, want := word(d.Choices[0]), model(&x, paths, h, method, target, user, role); got != want {
				t.Fatalf("%s %s of %s, role %q: %s, the model says %s", method, target, user, role, got, want)
			}
			if sel := d.Choices[0].Selection; sel != exchange.Unmatched && sel != exchange.OwnTraffic {
				path, _, _ := strings.Cut(target, "?")
				if got, want := paths[d.Choices[0].Route], muxMatch(paths, path); got != want {
					t.Fatalf("%s takes route %s, ServeMux %s", target, got, want)
				}
			}
		}
	})
}

func model(x *Experiment, paths []string, h *exchange.Head, method, target, user, role string) string {
	path, query, _ := strings.Cut(target, "?")
	excluded := false
	for _, e := range x.Exclude {
		excluded = excluded || e[0] == '/' && muxMatch([]string{e}, path) != ""
	}
	on := func(rule string) bool {
		return !slices.Contains(x.Exclude, "!defaults") && !slices.Contains(x.Exclude, "!"+rule)
	}
	excluded = excluded || on("logout") && strings.HasSuffix(path, "/logout") || on("query-code-state") && strings.Contains(query, "code=1&state=2")
	request := fmt.Sprintf("%s\x00%s\x00%08x\x00%d", h.Flow.Client, h.Flow.Server, h.ISN, h.Offset)
	key := request
	switch by := x.By.String(); {
	case by == "url":
		key = method + "\x00" + path + "\x00" + query
	case by == "connection":
		key = request[:strings.LastIndexByte(request, 0)]
	case by == "header:User" && user != "":
		key = user
	}
	switch {
	case role == "candidate" || role == "control":
		return "own_traffic"
	case x.Match.Port == 9090, x.Match.Host == "other", x.Match.Methods != nil && !slices.Contains(x.Match.Methods, method), muxMatch(paths, path) == "":
		return "unmatched"
	case excluded:
		return "excluded"
	case h.Doubt != 0:
		return "not_replayable cl"
	case method != "GET" && method != "HEAD" && !slices.Contains(x.Unsafe, method):
		return "unsafe"
	case x.Disabled:
		return "paused disabled"
	case !Keep(key, "request", x.Rate):
		return "sampled_out"
	}
	return "selected"
}

func TestCompletedCountsEachOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, err := New(Config{Experiments: []Experiment{
			{Name: "a", Routes: []Route{{Path: "/users/{id}"}}, Rate: Rate{fullRate}, Until: time.Unix(0, start+100)},
			{Name: "b", Routes: []Route{{Path: "/"}}, Rate: Rate{5000}, Guard: Guard{Latency: 2}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		shards := []*Shard{s.Shard(), s.Shard()}
		n := rapid.IntRange(0, 50).Draw(t, "exchanges")
		for range n {
			sh := shards[rapid.IntRange(0, 1).Draw(t, "shard")]
			h := head(rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "method"), rapid.SampledFrom([]string{"/users/1", "/x", "/logout"}).Draw(t, "target"))
			h.Offset = rapid.Uint64().Draw(t, "offset")
			h.Time += int64(rapid.IntRange(0, 200).Draw(t, "time"))
			h.Doubt = exchange.Doubt(rapid.IntRange(0, int(exchange.NumDoubts)-1).Draw(t, "doubt"))
			s.SetOff("", exchange.PauseOff, rapid.Bool().Draw(t, "off"))
			d := sh.Keep(h)
			late := exchange.Doubt(rapid.IntRange(0, int(exchange.NumDoubts)-1).Draw(t, "late doubt"))
			was := d
			words := func(c exchange.Choice) [2]string { r, why, _ := strings.Cut(word(c), " "); return [2]string{r, why} }
			at := [2]uint64{}
			for i := range 2 {
				want := was.Choices[i]
				if want.Selection == exchange.Selected && late != 0 {
					want.Selection, want.Doubt = exchange.NotReplayable, late
				}
				w := words(want)
				at[i] = one(counted(s, []string{"a", "b"}[i]), w[0], w[1])
			}
			sh.Completed(&d, late, CompletedInfo{Time: h.Time, Status: 200})
			for i := range 2 {
				w := words(d.Choices[i])
				if got := one(counted(s, []string{"a", "b"}[i]), w[0], w[1]); got != at[i]+1 {
					t.Fatalf("experiment %d: %v counts %d, was %d", i, w, got, at[i])
				}
				changed := was.Choices[i].Selection == exchange.Selected && late != 0
				if changed != (d.Choices[i] != was.Choices[i]) || changed && (d.Choices[i].Selection != exchange.NotReplayable || d.Choices[i].Doubt != late) {
					t.Fatalf("experiment %d with late doubt %v: %v, was %v", i, late, d.Choices[i], was.Choices[i])
				}
			}
		}
		for _, name := range []string{"a", "b"} {
			if got := sum(counted(s, name)); got != uint64(n) {
				t.Fatalf("experiment %s counted %d of %d", name, got, n)
			}
		}
	})
}

func counted(s *Sampler, experiment string) []Count {
	for _, x := range s.Stats().Experiments {
		if x.Name == experiment {
			return x.Selections
		}
	}
	return nil
}

func sum(list []Count) (n uint64) {
	for _, c := range list {
		n += c.N
	}
	return n
}

// one gives the count of a result; none of that name is a failure that shows.
func one(list []Count, result, reason string) uint64 {
	for _, c := range list {
		if c.Result == result && c.Reason == reason {
			return c.N
		}
	}
	return 1 << 60
}

func TestStatsNameEveryResult(t *testing.T) {
	s := mustNew(t, Config{Experiments: []Experiment{{Name: "x", Routes: []Route{{Path: "/"}}}}})
	var got []string
	for _, c := range counted(s, "x") {
		got = append(got, strings.TrimSpace(c.Result+" "+c.Reason))
	}
	want := []string{
		"unmatched", "own_traffic", "excluded", "unsafe", "ended", "sampled_out", "selected",
		"paused off", "paused off_file", "paused disabled", "paused guard",
		"not_replayable te_and_cl", "not_replayable te", "not_replayable te_in_1_0", "not_replayable cl", "not_replayable host",
		"not_replayable connect", "not_replayable upgrade", "not_replayable target", "not_replayable urgent", "not_replayable overlap",
		"not_replayable syntax", "not_replayable chunk", "not_replayable websocket", "not_replayable event_stream",
		"not_replayable malformed", "not_replayable pushed", "not_replayable grpc_stream",
	}
	if !slices.Equal(got, want) {
		t.Errorf("results\n%q, want\n%q", got, want)
	}
}

func TestStatsState(t *testing.T) {
	now := time.Unix(0, start)
	s := mustNew(t, Config{
		Now: func() time.Time { return now },
		Experiments: []Experiment{{
			Name: "x", Routes: []Route{{Path: "/"}}, Until: now.Add(time.Minute), Disabled: true, Guard: Guard{Errors: Rate{50}},
		}},
	})
	if x := s.Stats().Experiments[0]; x.Paused != exchange.PauseDisabled || x.Ended || !x.GuardUntil.IsZero() {
		t.Errorf("at first: %+v", x)
	}
	s.SetOff("", exchange.PauseDisabled, false)
	s.experiments[0].guard.until.Store(start + 70*second)
	if x := s.Stats().Experiments[0]; x.Paused != exchange.PauseGuard || !x.GuardUntil.Equal(now.Add(70*time.Second)) {
		t.Errorf("while the guard pauses: %+v", x)
	}
	now = now.Add(time.Minute)
	if x := s.Stats().Experiments[0]; !x.Ended {
		t.Errorf("at its end: %+v", x)
	}
	now = now.Add(10 * time.Second)
	if x := s.Stats().Experiments[0]; x.Paused != exchange.PauseNone {
		t.Errorf("after the guard's pause: %+v", x)
	}
}

func TestSetOffErrors(t *testing.T) {
	s := mustNew(t, Config{Experiments: []Experiment{{Name: "x", Routes: []Route{{Path: "/"}}}}})
	if err := s.SetOff("y", exchange.PauseOff, true); !errors.Is(err, ErrNoExperiment) || err.Error() != `set experiment "y" off: no such experiment` {
		t.Errorf("an unknown experiment: %v", err)
	}
	for _, reason := range []exchange.PauseReason{exchange.PauseNone, exchange.PauseGuard} {
		if err := s.SetOff("x", reason, true); err == nil {
			t.Errorf("reason %q can be set", reason)
		}
	}
	if got := s.experiments[0].switches.reason(); got != exchange.PauseNone {
		t.Errorf("paused for %v", got)
	}
}

func TestNewErrors(t *testing.T) {
	ok := func() Experiment { return Experiment{Name: "x", Routes: []Route{{Path: "/"}}} }
	for _, c := range []struct {
		change func(*Experiment)
		want   string
	}{
		{func(x *Experiment) { x.Name = "" }, "experiments[1].name: empty"},
		{func(x *Experiment) { x.Name = "first" }, `experiments[1].name: "first" is there twice`},
		{func(x *Experiment) { x.Match.Host = "a b" }, `experiments[1].match.host: host "a b": want a name such as example.com, *.example.com or example.com:8080`},
		{func(x *Experiment) { x.Match.Methods = []string{"GET", "get"} }, `experiments[1].match.methods[1]: method "get": methods compare with case, write "GET"`},
		{func(x *Experiment) { x.Match.Methods = []string{""} }, `experiments[1].match.methods[0]: empty method`},
		{func(x *Experiment) { x.Match.Headers = map[string]string{"a:": ""} }, `experiments[1].match.headers: "a:" is no header name`},
		{func(x *Experiment) { x.Routes = nil }, "experiments[1].routes: none: a path that no route lists is not matched, so nothing would be"},
		{func(x *Experiment) { x.Routes[0].Path = "" }, "experiments[1].routes[0].path: empty path pattern"},
		{func(x *Experiment) { x.Routes[0].Key = "{id}" }, `experiments[1].routes[0].key: key "{id}": path "/" has no {id}, only {route}`},
		{func(x *Experiment) { x.Routes[0].Rate = &Rate{10_001} }, "experiments[1].routes[0].sample: 100.01%: more than 100%"},
		{func(x *Experiment) { x.Routes = []Route{{Path: "/{a}"}, {Path: "/x"}, {Path: "/{b}"}} },
			`experiments[1].routes[2].path: path "/{b}" conflicts with path "/{a}" of routes[0]: both match "/a" and they match the same paths`},
		{func(x *Experiment) { x.Routes = make([]Route, 4097) }, "experiments[1].routes: 4097 of them: at most 4096"},
		{func(x *Experiment) { x.Rate = Rate{10_001} }, "experiments[1].sample.rate: 100.01%: more than 100%"},
		{func(x *Experiment) { x.Exclude = []string{"/a", "b"} }, `experiments[1].exclude[1]: path pattern "b" does not start with /`},
		{func(x *Experiment) { x.GRPC = []string{"/a.B/C", "/a.B"} }, `experiments[1].replay.grpc[1]: "/a.B" is no gRPC method: write /package.Service/Method, or /package.Service/* for all of a service`},
		{func(x *Experiment) { x.Unsafe = []string{"P OST"} }, `experiments[1].replay.unsafe[0]: "P OST" is no method`},
		{func(x *Experiment) { x.Guard.Latency = 0.5 }, "experiments[1].guard.latency: 0.5: want 0 for off, or at least 1"},
		{func(x *Experiment) { x.Guard.Errors = Rate{20_000} }, "experiments[1].guard.errors: 200%: more than 100%"},
	} {
		first, second := ok(), ok()
		first.Name = "first"
		c.change(&second)
		_, err := New(Config{Experiments: []Experiment{first, second}})
		var field *FieldError
		if err == nil || err.Error() != c.want || !errors.As(err, &field) {
			t.Errorf("error %v, want %s", err, c.want)
		}
	}
	_, err := New(Config{Experiments: []Experiment{{Name: "x", Routes: []Route{{Path: "/{a}/b"}, {Path: "/c"}, {Path: "/d/{e}"}}}}})
	var clash *ConflictError
	var field *FieldError
	if !errors.As(err, &clash) || clash.First != 0 || clash.Second != 2 || clash.Same ||
		!errors.As(err, &field) || field.Field != "experiments[0].routes[2].path" {
		t.Errorf("a conflict as data: %+v of %v", clash, err)
	}
	if _, err := New(Config{Experiments: make([]Experiment, exchange.MaxExperiments+1)}); err == nil || err.Error() != "experiments: 17 of them: at most 16" {
		t.Errorf("too many: %v", err)
	}
	if _, err := New(Config{StaleEntries: -1}); err == nil || err.Error() != "StaleEntries: -1 is negative" {
		t.Errorf("a negative size: %v", err)
	}
	if d := mustNew(t, Config{}).Shard().Keep(head("POST", "/")); d.Len != 0 || d.Want != exchange.WantFrame {
		t.Errorf("without experiments: %+v", d)
	}
}

// benchSampler has the three experiments with ten routes of the benchmarks.
func benchSampler(t testing.TB) *Sampler {
	var list []Experiment
	for i := range 3 {
		x := Experiment{
			Name: fmt.Sprint("experiment", i), Rate: Rate{100}, Guard: Guard{Latency: 1.25, Errors: Rate{50}},
			Match:   Match{Port: 8080},
			Exclude: []string{"/api/v1/private/", "/api/v1/users/{id}/secret"},
		}
		for _, p := range []string{
			"/api/v1/users", "/api/v1/users/{id}", "/api/v1/users/{id}/orders", "/api/v1/users/{id}/orders/{order}", "/api/v1/items/{id}",
			"/api/v1/items", "/files/{rest...}", "/health", "/api/v1/search", "/api/v1/private/{x}",
		} {
			x.Routes = append(x.Routes, Route{Path: p})
		}
		list = append(list, x)
	}
	list[1].By = By{kind: byHeader, header: "X-User"}
	list[2].By = By{kind: byURL}
	return mustNew(t, Config{Experiments: list})
}

func benchHead(method, target string, headers ...string) *exchange.Head {
	return head(method, target, append([]string{
		"User-Agent", "Mozilla/5.0 (X11; Linux x86_64)", "Accept", "text/html,application/json", "Accept-Language", "en",
		"Accept-Encoding", "gzip, br", "Connection", "keep-alive", "X-Request-Id", "4bf92f3577b34da6a3ce929d0e0e4736",
		"X-Forwarded-For", "203.0.113.9", "Authorization", "Bearer abc", "Cookie", "a=b; c=d",
	}, headers...)...)
}

func TestKeepAndCompletedAllocateNothing(t *testing.T) {
	sh := benchSampler(t).Shard()
	for _, c := range []struct {
		name string
		head *exchange.Head
	}{
		{"sampled", benchHead("GET", "/api/v1/users/42?a=b")},
		{"by header", benchHead("GET", "/api/v1/users/42?a=b", "X-User", "ann")},
		{"unmatched", benchHead("GET", "/nowhere/at/all")},
		{"encoded", benchHead("GET", "/api/v1/us%65rs/4%202")},
		{"excluded", benchHead("GET", "/api/v1/users/logout?token=1")},
		{"unclean", benchHead("GET", "/files/../api//v1/private/x")},
		{"unsafe", benchHead("POST", "/api/v1/users/42/orders/7")},
		{"absolute", benchHead("GET", "http://shop.example.com")},
		{"own", benchHead("GET", "/api/v1/users", "X-Shadow-Test-Role", "candidate")},
	} {
		if n := testing.AllocsPerRun(100, func() {
			c.head.Offset++
			d := sh.Keep(c.head)
			sh.Completed(&d, exchange.DoubtNone, CompletedInfo{Time: c.head.Time, TTFB: 1e6, Status: 200})
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func BenchmarkKeep(b *testing.B) {
	for _, c := range []struct {
		name string
		head *exchange.Head
	}{
		{"request+header+url", benchHead("GET", "/api/v1/users/42?a=b", "X-User", "ann")},
		{"unmatched", benchHead("GET", "/nowhere/at/all")},
		{"excluded", benchHead("GET", "/api/v1/users/42?otp=1")},
		{"unsafe", benchHead("POST", "/api/v1/users/42/orders/7")},
	} {
		b.Run(c.name, func(b *testing.B) {
			sh := benchSampler(b).Shard()
			b.ReportAllocs()
			for b.Loop() {
				c.head.Offset++
				sh.Keep(c.head)
			}
		})
	}
	for _, matching := range []int{1, 3} {
		b.Run(fmt.Sprintf("request/matching=%d", matching), func(b *testing.B) {
			s := benchSampler(b)
			for i := range s.experiments {
				s.experiments[i].by = By{}
				if i >= matching {
					s.experiments[i].filter.port = 9090
				}
			}
			sh, h := s.Shard(), benchHead("GET", "/api/v1/users/42?a=b")
			b.ReportAllocs()
			for b.Loop() {
				h.Offset++
				sh.Keep(h)
			}
		})
	}
}

func BenchmarkCompleted(b *testing.B) {
	sh, h := benchSampler(b).Shard(), benchHead("GET", "/api/v1/users/42?a=b")
	d := sh.Keep(h)
	b.ReportAllocs()
	for b.Loop() {
		h.Time += 10_000
		sh.Completed(&d, exchange.DoubtNone, CompletedInfo{Time: h.Time, TTFB: 1e6, Status: 200})
	}
}

// gRPC calls are replayed when their method is named, whatever unsafe says.
func TestGRPCMethods(t *testing.T) {
	sh := mustNew(t, Config{Experiments: []Experiment{
		{Name: "none", Routes: []Route{{Path: "/"}}, Rate: Rate{fullRate}, Unsafe: []string{"POST"}},
		{Name: "some", Routes: []Route{{Path: "/"}}, Rate: Rate{fullRate}, GRPC: []string{"/shop.v1.Users/Get", "/shop.v1.Items/*"}},
	}}).Shard()
	for _, c := range []struct {
		target string
		grpc   bool
		want   string
	}{
		{"/shop.v1.Users/Get", true, "unsafe selected"},
		{"/shop.v1.Users/Get?x", true, "unsafe selected"},
		{"/shop.v1.Users/Gets", true, "unsafe unsafe"},
		{"/shop.v1.Users/get", true, "unsafe unsafe"},
		{"/shop.v1.Users/", true, "unsafe unsafe"},
		{"/shop.v1.Items/Any", true, "unsafe selected"},
		{"/shop.v1.Items/Any/more", true, "unsafe unsafe"},
		{"/shop.v1.Items/", true, "unsafe unsafe"},
		{"/shop.v1.Items", true, "unsafe unsafe"},
		{"/x/shop.v1.Items/Any", true, "unsafe unsafe"},
		{"/", true, "unsafe unsafe"},
		{"/shop.v1.Users/Get", false, "selected unsafe"},
	} {
		h := head("POST", c.target)
		h.GRPC = c.grpc
		d := sh.Keep(h)
		if got := word(d.Choices[0]) + " " + word(d.Choices[1]); got != c.want {
			t.Errorf("%s %v: %s, want %s", c.target, c.grpc, got, c.want)
		}
	}
	h := head("POST", "/shop.v1.Items/Any")
	h.GRPC = true
	if n := testing.AllocsPerRun(100, func() { sh.Keep(h) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is unwanted ahead no experiment selects, whatever stands in the head; and where the
// rate is low most is.
func TestUnwanted(t *testing.T) {
	exp := func(name, rate string, by By, routes ...Route) Experiment {
		r, err := ParseRate(rate)
		if err != nil {
			t.Fatal(err)
		}
		return Experiment{Name: name, Rate: r, By: by, Routes: append(routes, Route{Path: "/"})}
	}
	five := Rate{500}
	url, err := ParseBy("url")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		list     []Experiment
		foresees bool
		least    int // of 1,000
	}{
		{"1 %", []Experiment{exp("a", "1%", By{})}, true, 970},
		{"none", []Experiment{exp("a", "0%", By{})}, true, 1000},
		{"the highest of two", []Experiment{exp("a", "1%", By{}), exp("b", "30%", By{})}, true, 600},
		{"a route's own", []Experiment{exp("a", "0%", By{}, Route{Path: "/users/", Rate: &five})}, true, 900},
		{"all", []Experiment{exp("a", "1%", By{}), exp("b", "100%", By{})}, false, 0},
		{"by url", []Experiment{exp("a", "1%", By{}), exp("b", "1%", url)}, false, 0},
	} {
		s := mustNew(t, Config{Experiments: c.list})
		sh := s.Shard()
		if s.Foresees() != c.foresees {
			t.Errorf("%s: foresees is %v", c.name, s.Foresees())
		}
		unwanted, selected := 0, 0
		for i := range uint64(1000) {
			no := sh.Unwanted(testFlow, 7, i*100)
			h := head("GET", "/users/1")
			h.ISN, h.Offset = 7, i*100
			d := sh.Keep(h)
			if d.Want == exchange.WantWhole {
				selected++
			}
			if no {
				unwanted++
			}
			if no && d.Want == exchange.WantWhole {
				t.Errorf("%s: the request at %d is selected, and was not wanted", c.name, i*100)
			}
		}
		if unwanted < c.least || !c.foresees && unwanted > 0 {
			t.Errorf("%s: %d of 1000 are not wanted, want at least %d", c.name, unwanted, c.least)
		}
		if selected == 0 && c.name != "none" {
			t.Errorf("%s: nothing was selected", c.name)
		}
	}
	sh := mustNew(t, Config{Experiments: []Experiment{exp("a", "1%", By{})}}).Shard()
	if n := testing.AllocsPerRun(100, func() { sh.Unwanted(testFlow, 7, 100) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
