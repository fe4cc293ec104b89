package sample

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
)

// kind says what a pattern's segment matches.
type kind uint8

const (
	// literal matches one segment with exactly these bytes, decoded.
	literal kind = iota
	// wild is {name}: one segment that is not empty.
	wild
	// multi is {name...}, or without a name a slash at the end: all the rest,
	// also nothing.
	multi
	// end is {$}: the slash at the end of the path and nothing behind it.
	end
)

// segment is one piece of a pattern between slashes.
type segment struct {
	kind kind
	// text is the decoded literal, or the wildcard's name.
	text string
}

// pattern is the path part of a pattern of http.ServeMux.
type pattern struct {
	text     string
	segments []segment
	// names of the wildcards in their order.
	names []string
}

// parsePattern reads the path part of a pattern as http.ServeMux does, with two
// differences: white space, "?" and "#" are refused, because they could not
// match a path; and an encoded slash that is a whole segment (%2F) is a literal
// slash, where ServeMux takes it for {$}.
func parsePattern(s string) (*pattern, error) {
	switch {
	case s == "":
		return nil, errors.New("empty path pattern")
	case strings.ContainsAny(s, " \t"):
		return nil, fmt.Errorf("path pattern %q has white space: only a path stands here, methods and host stand in match", s)
	case s[0] != '/':
		return nil, fmt.Errorf("path pattern %q does not start with /", s)
	case strings.ContainsAny(s, "?#"):
		return nil, fmt.Errorf("path pattern %q has a ? or #: only the path is matched, never the query", s)
	}
	p := &pattern{text: s}
	rest := s
	for rest != "" {
		rest = rest[1:]
		if rest == "" {
			p.segments = append(p.segments, segment{kind: multi})
			break
		}
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			i = len(rest)
		}
		var text string
		text, rest = rest[:i], rest[i:]
		seg, err := parseSegment(text, rest == "")
		if err != nil {
			return nil, fmt.Errorf("path pattern %q: %w", s, err)
		}
		if seg.kind == wild || seg.kind == multi {
			for _, name := range p.names {
				if name == seg.text {
					return nil, fmt.Errorf("path pattern %q has two wildcards named %q", s, name)
				}
			}
			p.names = append(p.names, seg.text)
		}
		p.segments = append(p.segments, seg)
	}
	return p, nil
}

func parseSegment(s string, last bool) (segment, error) {
	open := strings.IndexByte(s, '{')
	switch {
	case open < 0:
		if u, err := url.PathUnescape(s); err == nil {
			s = u
		}
		return segment{kind: literal, text: s}, nil
	case open > 0:
		return segment{}, fmt.Errorf("the wildcard in %q must be the whole segment: it must start with {", s)
	case s[len(s)-1] != '}':
		return segment{}, fmt.Errorf("the wildcard in %q must be the whole segment: it must end with }", s)
	}
	name, many := strings.CutSuffix(s[1:len(s)-1], "...")
	switch {
	case !many && name == "$":
		if !last {
			return segment{}, errors.New("{$} not at the end")
		}
		return segment{kind: end}, nil
	case many && !last:
		return segment{}, fmt.Errorf("%s not at the end", s)
	case !identifier(name):
		return segment{}, fmt.Errorf("%s: the wildcard's name must be a Go identifier", s)
	case many:
		return segment{kind: multi, text: name}, nil
	}
	return segment{kind: wild, text: name}, nil
}

func identifier(s string) bool {
	for i, c := range s {
		if !unicode.IsLetter(c) && c != '_' && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return s != ""
}

// relation is how the sets of paths of two patterns lie to each other, as two
// bits: whether the first matches paths that the second does not, and the other
// way round.
type relation uint8

const (
	same      relation = 0
	moreLeft  relation = 1 // the first matches all that the second does, and more
	moreRight relation = 2
	overlap   relation = moreLeft | moreRight // some paths in common, and each has its own
	disjoint  relation = 4
)

// compare tells how the patterns' sets of paths lie to each other.
func compare(a, b *pattern) relation {
	x, y := a.segments, b.segments
	r := same
	for len(x) > 0 && len(y) > 0 {
		s := compareSegments(x[0], y[0])
		if s == disjoint {
			return disjoint
		}
		r |= s
		if x[0].kind == multi || y[0].kind == multi {
			return r
		}
		x, y = x[1:], y[1:]
	}
	if len(x) != len(y) {
		return disjoint
	}
	return r
}

func compareSegments(a, b segment) relation {
	switch {
	case a.kind == multi && b.kind == multi:
		return same
	case a.kind == multi:
		return moreLeft
	case b.kind == multi:
		return moreRight
	case a.kind == end || b.kind == end:
		if a.kind == b.kind {
			return same
		}
		return disjoint
	case a.kind == wild && b.kind == wild:
		return same
	case a.kind == wild:
		return moreLeft
	case b.kind == wild:
		return moreRight
	case a.text == b.text:
		return same
	}
	return disjoint
}

// common gives a path that both patterns match; they must not be disjoint.
func common(a, b *pattern) string {
	var path strings.Builder
	for i := range max(len(a.segments), len(b.segments)) {
		s := segment{kind: multi}
		if i < len(a.segments) {
			s = a.segments[i]
		}
		if i < len(b.segments) && (i >= len(a.segments) || s.kind == multi || s.kind == wild && b.segments[i].kind == literal) {
			s = b.segments[i]
		}
		path.WriteByte('/')
		switch s.kind {
		case literal:
			path.WriteString(url.PathEscape(s.text))
		case wild:
			path.WriteString(s.text)
		}
	}
	return path.String()
}

// ConflictError says that two routes of an experiment match the same path and
// neither is more specific than the other.
type ConflictError struct {
	// First and Second are the indexes of the routes in the experiment's list,
	// First below Second.
	First, Second int
	// FirstPath and SecondPath are the patterns as written.
	FirstPath, SecondPath string
	// Example is a path that both match.
	Example string
	// Same says that they match exactly the same paths.
	Same bool
}

// Error names both patterns and a path that both match.
func (e *ConflictError) Error() string {
	why := "neither is more specific"
	if e.Same {
		why = "they match the same paths"
	}
	return fmt.Sprintf("path %q conflicts with path %q of routes[%d]: both match %q and %s",
		e.SecondPath, e.FirstPath, e.First, e.Example, why)
}

// conflict returns the first pair of patterns that conflict, nil without one.
// It is an untyped result on purpose: a nil *ConflictError is no error.
func conflict(patterns []*pattern) *ConflictError {
	for j := range patterns {
		for i := range j {
			a, b := patterns[i], patterns[j]
			if r := compare(a, b); r == same || r == overlap {
				return &ConflictError{
					First: i, Second: j, FirstPath: a.text, SecondPath: b.text,
					Example: common(a, b), Same: r == same,
				}
			}
		}
	}
	return nil
}
