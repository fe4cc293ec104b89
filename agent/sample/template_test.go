package sample

import (
	"slices"
	"testing"
)

func TestKeyAndParams(t *testing.T) {
	s, err := New(Config{Experiments: []Experiment{{Name: "x", Routes: []Route{
		{Path: "/users/{id}", Key: "{id}"},
		{Path: "/users/{id}/orders/{order}", Key: "user-{id}:{order}-{id}"},
		{Path: "/files/{rest...}", Key: "{route} {rest}"},
		{Path: "/"},
		{Path: "/bus/{route}"},
		{Path: "/tram/{route}", Key: "{route}"},
		{Path: "/const", Key: "always the same"},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		route  int
		target string
		key    string
		params []Param
	}{
		{0, "/users/42?x=y", "42", []Param{{"id", "42"}}},
		{0, "/users/a%2Fb%20c", "a/b c", []Param{{"id", "a/b c"}}},
		{0, "/users/50%", "50%", []Param{{"id", "50%"}}},
		{1, "/users/1/orders/2", "user-1:2-1", []Param{{"id", "1"}, {"order", "2"}}},
		{2, "/files/a%20b/c/", "/files/{rest...} a b/c/", []Param{{"rest", "a b/c/"}}},
		{3, "/elsewhere", "/", []Param{}},
		{4, "/bus/7", "/bus/{route}", []Param{{"route", "7"}}},
		{5, "/tram/7", "7", []Param{{"route", "7"}}},
		{6, "/const", "always the same", []Param{}},
	} {
		if got := s.Key(0, c.route, c.target); got != c.key {
			t.Errorf("Key(%d, %q) = %q, want %q", c.route, c.target, got, c.key)
		}
		if got := s.Params(0, c.route, c.target); !slices.Equal(got, c.params) || got == nil {
			t.Errorf("Params(%d, %q) = %q, want %q", c.route, c.target, got, c.params)
		}
	}
	if got := s.Params(0, 0, "/elsewhere"); got != nil {
		t.Errorf("Params of a route that does not match: %q", got)
	}
}

func TestParseTemplateErrors(t *testing.T) {
	p := mustPatterns(t, "/users/{id}/{rest...}")[0]
	for in, want := range map[string]string{
		"{":       `key "{": a brace without its pair`,
		"}":       `key "}": a brace without its pair`,
		"a{id":    `key "a{id": a brace without its pair`,
		"{id}}":   `key "{id}}": a brace without its pair`,
		"{}":      `key "{}": empty braces`,
		"{name}":  `key "{name}": path "/users/{id}/{rest...}" has no {name}, only {id}, {rest}, {route}`,
		"{id...}": `key "{id...}": path "/users/{id}/{rest...}" has no {id...}, only {id}, {rest}, {route}`,
	} {
		if _, err := parseTemplate(in, p); err == nil || err.Error() != want {
			t.Errorf("parseTemplate(%q): %v, want %s", in, err, want)
		}
	}
}
