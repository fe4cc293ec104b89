package config_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/diff"
)

// The rooms that act on the configuration have rules of their own. These tests
// hold what is checked here against them: what Check lets through must not fail
// at the start, and what it refuses must be wrong.

// TestDefaultLists: the printed default has the lists of the rooms.
func TestDefaultLists(t *testing.T) {
	text := string(config.Default())
	words := func(s string) map[string]bool {
		m := map[string]bool{}
		for _, w := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \n,;.:()#", r) }) {
			m[w] = true
		}
		return m
	}(text)
	for _, x := range sample.DefaultExclusions() {
		if !words[x.Name] {
			t.Errorf("the rule %s of the default exclusions is not in the printed default", x.Name)
		}
	}
	for line := range strings.Lines(diff.DefaultIgnore()) {
		names, _, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("no names in %q", line)
		}
		for name := range strings.SplitSeq(names, ", ") {
			if !words[name] {
				t.Errorf("the header %s of the default list is not in the printed default", name)
			}
		}
	}
}

func TestRatesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`-?[0-9]{0,4}(\.[0-9]{0,3})?[ ]?%?`).Draw(t, "text")
		a, aErr := config.ParseRate(s)
		b, bErr := sample.ParseRate(s)
		if (aErr == nil) != (bErr == nil) || a.Hundredths() != b.Hundredths || aErr == nil && a.String() != b.String() {
			t.Fatalf("%q: %v %v here, %v %v there", s, a, aErr, b, bErr)
		}
	})
}

// agrees says whether Check and sample.New give the same answer.
func agrees(t *rapid.T, e config.Experiment, s sample.Experiment) {
	c := config.New()
	c.Capture.Ports = []uint16{1}
	e.Candidate.URL = "http://a"
	c.Experiments = []config.Experiment{e}
	here := c.Check()
	s.Name, s.Rate = e.Name, sample.Rate{Hundredths: e.Sample.Rate.Hundredths()}
	_, there := sample.New(sample.Config{Experiments: []sample.Experiment{s}})
	if (here == nil) != (there == nil) {
		t.Fatalf("here %v, there %v", here, there)
	}
}

func TestRoutesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringMatching(`/?(([ab]|%62|%2F|%7B|\{[ab1]?(\.\.\.)?\}|\{\$\}|\{|\?|#| |)/?){0,4}`).Draw(t, "path")
		key := rapid.SampledFrom([]string{"{route}", "{a}", "{b}{a}", "x", "{", "}", "{}", "{a", "{ab}"}).Draw(t, "key")
		if path == "" {
			return
		}
		e := config.NewExperiment("e")
		e.Routes = []config.Route{{Path: path, Key: key}}
		agrees(t, e, sample.Experiment{Routes: []sample.Route{{Path: path, Key: key}}})
	})
}

// TestSameRoutesAgree: two patterns that are the same to Check are a conflict to
// sample. The other way round does not hold: that is for Options.Check.
func TestSameRoutesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.StringMatching(`(/(a|b|%61|\{x\}|\{y\}|))(/(a|%61|\{z\}|\{w...\}|\{\$\}|))?`)
		p, q := path.Draw(t, "p"), path.Draw(t, "q")
		c := config.New()
		c.Capture.Ports = []uint16{1}
		e := config.NewExperiment("e")
		e.Candidate.URL = "http://a"
		e.Routes = []config.Route{{Path: p, Key: "{route}"}, {Path: q, Key: "{route}"}}
		c.Experiments = []config.Experiment{e}
		_, there := sample.New(sample.Config{Experiments: []sample.Experiment{{Name: "e", Routes: []sample.Route{{Path: p}, {Path: q}}}}})
		if here := c.Check(); here != nil && there == nil {
			t.Fatalf("%s and %s: here %v", p, q, here)
		}
	})
}

func TestMatchAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.StringMatching(`(\*\.|\*)?([aB.]{0,3}|\[::1\]|::1)(:(0|80|99999|x|))?[/ *]?`).Draw(t, "host")
		method := rapid.SampledFrom([]string{"GET", "G T", "", "A:", "PURGE"}).Draw(t, "method")
		header := rapid.SampledFrom([]string{"X-A", "", "a b", "a:b", "é", "!"}).Draw(t, "header")
		by := rapid.SampledFrom([]string{"request", "url", "connection", "header:a", "header:", "header:a b", "user", "Request"}).Draw(t, "by")
		exclude := rapid.SampledFrom([]string{"/a", "a", "!logout", "!defaults", "/{a}", "/{a}b", "/ "}).Draw(t, "exclude")
		e := config.NewExperiment("e")
		e.Routes = []config.Route{{Path: "/", Key: "{route}"}}
		e.Match = config.Match{Host: host, Methods: []string{method}, Headers: config.Headers{header: "x"}}
		e.Sample.By = by
		e.Exclude = []string{exclude}
		s := sample.Experiment{Routes: []sample.Route{{Path: "/"}}, Match: sample.Match{Host: host, Methods: []string{method}, Headers: map[string]string{header: "x"}}, Exclude: []string{exclude}}
		parsed, err := sample.ParseBy(by)
		if err != nil {
			// sample.New never sees it; any error there will do.
			s.Routes = nil
		}
		s.By = parsed
		agrees(t, e, s)
	})
}

func TestGRPCAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := config.NewExperiment("e")
		e.Routes = []config.Route{{Path: "/", Key: "{route}"}}
		e.Replay.GRPC = []string{rapid.StringMatching(`/?[aB.\-_1é ]{0,3}(/[a.*]{0,2}){0,2}`).Draw(t, "method")}
		agrees(t, e, sample.Experiment{Routes: []sample.Route{{Path: "/"}}, GRPC: e.Replay.GRPC})
	})
}
