package sample

import (
	"fmt"
	"slices"
	"strings"
)

// Param is a wildcard of a route's path with what it matched.
type Param struct {
	Name string
	// Value is percent-decoded, as in http.Request.PathValue.
	Value string
}

// DefaultKey is the key template of a route without one.
const DefaultKey = "{route}"

// template is the text of a Kafka key, with parameters in braces.
type template struct{ parts []part }

// part is literal text, the value of a parameter, or the route's path.
type part struct {
	text  string
	param bool
	route bool
}

// parseTemplate reads a key template for a path. In braces stand names of the
// path's wildcards, or route for the path pattern itself; a wildcard that is
// called route goes before, but for an empty template, which is the pattern.
func parseTemplate(s string, path *pattern) (template, error) {
	if s == "" {
		return template{[]part{{route: true}}}, nil
	}
	var t template
	for rest := s; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			open = len(rest)
		}
		if open > 0 {
			t.parts = append(t.parts, part{text: rest[:open]})
			rest = rest[open:]
			continue
		}
		shut := strings.IndexByte(rest, '}')
		if rest[0] == '}' || shut < 0 {
			return template{}, fmt.Errorf("key %q: a brace without its pair", s)
		}
		name := rest[1:shut]
		rest = rest[shut+1:]
		switch {
		case slices.Contains(path.names, name) && name != "":
			t.parts = append(t.parts, part{text: name, param: true})
		case name == "route":
			t.parts = append(t.parts, part{route: true})
		case name == "":
			return template{}, fmt.Errorf("key %q: empty braces", s)
		default:
			return template{}, fmt.Errorf("key %q: path %q has no {%s}, only %s", s, path.text, name, known(path))
		}
	}
	return t, nil
}

func known(path *pattern) string {
	return "{" + strings.Join(append(slices.Clone(path.names), "route"), "}, {") + "}"
}

// text fills the template in for a request's path that the pattern matches.
func (t *template) text(p *pattern, path *path) string {
	var b []byte
	for _, part := range t.parts {
		switch {
		case part.route:
			b = append(b, p.text...)
		case part.param:
			p.parameters(path, func(name string, value []byte) {
				if name == part.text {
					b = decoded(b, value)
				}
			})
		default:
			b = append(b, part.text...)
		}
	}
	return string(b)
}

// params gives the wildcards' values, nil when the pattern does not match.
func (p *pattern) params(path *path) []Param {
	if newTree([]*pattern{p}).match(path) < 0 {
		return nil
	}
	list := make([]Param, 0, len(p.names))
	p.parameters(path, func(name string, value []byte) {
		list = append(list, Param{name, string(decoded(nil, value))})
	})
	return list
}
