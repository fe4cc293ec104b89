package sample

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustPatterns(t testing.TB, list ...string) []*pattern {
	t.Helper()
	patterns := make([]*pattern, len(list))
	for i, s := range list {
		p, err := parsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		patterns[i] = p
	}
	return patterns
}

// textPath is a path from text alone, no target.
func textPath(s string) (p path) {
	p.split([]byte(s))
	return p
}

func matchText(t *tree, s string) int {
	p := textPath(s)
	return t.match(&p)
}

func paramsText(p *pattern, s string) []Param {
	path := textPath(s)
	return p.params(&path)
}

func TestMatch(t *testing.T) {
	list := []string{
		"/", "/{$}", "/api/{value}", "/api/list", "/files/{rest...}", "/a/{x}/b", "/a/fix/c", "/a/fix/b",
		"/dir/", "/dir/{$}", "/caf\u00e9", "/sl%2Fash", "/x//y", "/deep/{a}/{b}/{c}", "/deep/{a}/",
	}
	patterns := mustPatterns(t, list...)
	if c := conflict(patterns); c != nil {
		t.Fatal(c)
	}
	tr := newTree(patterns)
	for _, c := range []struct{ path, want string }{
		{"/", "/{$}"},
		{"/nowhere", "/"},
		{"/api/3", "/api/{value}"},
		{"/api/list", "/api/list"},
		{"/api/%6cist", "/api/list"},
		{"/api/a%2Fb", "/api/{value}"},
		{"/api/%zz", "/api/{value}"}, // no encoding: stands for itself
		{"/api/3/", "/"},             // a trailing slash is another path
		{"/api/", "/"},               // a wildcard is not empty
		{"/api", "/"},
		{"/API/3", "/"},
		{"/files/", "/files/{rest...}"},
		{"/files/a/b/", "/files/{rest...}"},
		{"/files", "/"}, // ServeMux would redirect
		{"/a/x/b", "/a/{x}/b"},
		{"/a/fix/b", "/a/fix/b"},
		{"/a/fix/c", "/a/fix/c"},
		{"/a/x/c", "/"},
		{"/dir/", "/dir/{$}"},
		{"/dir/x", "/dir/"},
		{"/dir//", "/dir/"}, // as captured: an empty segment and a slash
		{"/caf%C3%A9", "/caf\u00e9"},
		{"/caf\u00e9", "/caf\u00e9"},
		{"/sl%2fash", "/sl%2Fash"},
		{"/sl/ash", "/"},
		{"/x//y", "/x//y"},
		{"/x/y", "/"},
		{"//", "/"},
		{"/deep/1/2/3", "/deep/{a}/{b}/{c}"},
		{"/deep/1/2", "/deep/{a}/"},
		{"/deep/1//3", "/deep/{a}/"}, // the empty segment is none for {b}
		{"/a/../b", "/a/{x}/b"},      // nothing is cleaned
		{"*", "/"},
		{"", ""},
		{"example.com:443", ""},
	} {
		got := ""
		if i := matchText(tr, c.path); i >= 0 {
			got = list[i]
		}
		if got != c.want {
			t.Errorf("match(%q) = %q, want %q", c.path, got, c.want)
		}
	}
}

// An encoded slash that is a whole segment is where we leave ServeMux, which
// takes it for the slash of {$}.
func TestMatchLoneEncodedSlash(t *testing.T) {
	list := []string{"/a/{$}", "/a/{x}", "/b/%2F"}
	tr := newTree(mustPatterns(t, list...))
	for path, want := range map[string]string{"/a/%2F": "/a/{x}", "/a/": "/a/{$}", "/b/%2f": "/b/%2F", "/b/": ""} {
		got := ""
		if i := matchText(tr, path); i >= 0 {
			got = list[i]
		}
		if got != want {
			t.Errorf("match(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestParsePatternErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "empty path pattern"},
		{"api", `path pattern "api" does not start with /`},
		{"GET /api", `path pattern "GET /api" has white space: only a path stands here, methods and host stand in match`},
		{"example.com/api", `path pattern "example.com/api" does not start with /`},
		{"/a?b=c", `path pattern "/a?b=c" has a ? or #: only the path is matched, never the query`},
		{"/a/x{b}", `path pattern "/a/x{b}": the wildcard in "x{b}" must be the whole segment: it must start with {`},
		{"/a/{b}.json", `path pattern "/a/{b}.json": the wildcard in "{b}.json" must be the whole segment: it must end with }`},
		{"/a/{", `path pattern "/a/{": the wildcard in "{" must be the whole segment: it must end with }`},
		{"/{}", `path pattern "/{}": {}: the wildcard's name must be a Go identifier`},
		{"/{...}", `path pattern "/{...}": {...}: the wildcard's name must be a Go identifier`},
		{"/{9a}", `path pattern "/{9a}": {9a}: the wildcard's name must be a Go identifier`},
		{"/{a-b}", `path pattern "/{a-b}": {a-b}: the wildcard's name must be a Go identifier`},
		{"/{$}/a", `path pattern "/{$}/a": {$} not at the end`},
		{"/{$}/", `path pattern "/{$}/": {$} not at the end`},
		{"/{a...}/b", `path pattern "/{a...}/b": {a...} not at the end`},
		{"/{a}/{a}", `path pattern "/{a}/{a}" has two wildcards named "a"`},
		{"/{a}/{a...}", `path pattern "/{a}/{a...}" has two wildcards named "a"`},
	} {
		if _, err := parsePattern(c.in); err == nil || err.Error() != c.want {
			t.Errorf("parsePattern(%q): %v, want %s", c.in, err, c.want)
		}
		if muxAccepts(c.in) && !strings.ContainsAny(c.in, " ?") && c.in[0] == '/' {
			t.Errorf("ServeMux accepts %q", c.in)
		}
	}
}

func TestConflictError(t *testing.T) {
	for _, c := range []struct {
		list []string
		want string
	}{
		{[]string{"/a", "/x/{y}", "/{x}/b"}, `path "/{x}/b" conflicts with path "/x/{y}" of routes[1]: both match "/x/b" and neither is more specific`},
		{[]string{"/{a}", "/{b}"}, `path "/{b}" conflicts with path "/{a}" of routes[0]: both match "/a" and they match the same paths`},
		{[]string{"/f/", "/f/{x...}"}, `path "/f/{x...}" conflicts with path "/f/" of routes[0]: both match "/f/" and they match the same paths`},
		{[]string{"/a/b/", "/a/{x}/c"}, `path "/a/{x}/c" conflicts with path "/a/b/" of routes[0]: both match "/a/b/c" and neither is more specific`},
		{[]string{"/", "/{$}", "/a", "/{x}", "/a/"}, ""},
	} {
		got := ""
		if e := conflict(mustPatterns(t, c.list...)); e != nil {
			got = e.Error()
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.list, got, c.want)
		}
	}
}

// named is a handler that a redirect of ServeMux is not.
type named struct{ pattern string }

func (n named) ServeHTTP(http.ResponseWriter, *http.Request) {}

func muxAccepts(patterns ...string) (ok bool) {
	defer func() { ok = recover() == nil }()
	mux := http.NewServeMux()
	for _, p := range patterns {
		mux.Handle(p, named{p})
	}
	return true
}

// muxMatch asks ServeMux for the pattern of a path. Where it would redirect to
// the path with a slash at its end, the pattern that it would redirect to is
// taken away: it does not match the path itself.
func muxMatch(patterns []string, path string) string {
	for {
		mux := http.NewServeMux()
		for _, p := range patterns {
			mux.Handle(p, named{p})
		}
		h, pattern := mux.Handler(httptest.NewRequest("GET", path, nil))
		if n, ok := h.(named); ok {
			return n.pattern
		}
		if pattern == "" {
			return ""
		}
		patterns = slices.DeleteFunc(slices.Clone(patterns), func(p string) bool { return p == pattern })
	}
}

// genPattern draws clean patterns over few words, so that they often meet.
func genPattern() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var b strings.Builder
		for i := range rapid.IntRange(0, 4).Draw(t, "segments") {
			b.WriteByte('/')
			s := rapid.SampledFrom([]string{"a", "b", "ab", "{w}", "{w}", "a%2Fb", "%61", "\u00e9", "x y"[:1], "%zz"}).Draw(t, "segment")
			b.WriteString(strings.Replace(s, "{w}", fmt.Sprintf("{w%d}", i), 1))
		}
		s := b.String() + rapid.SampledFrom([]string{"", "/", "/{$}", "/{rest...}"}).Draw(t, "tail")
		if s == "" {
			return "/"
		}
		return s
	})
}

// genPath draws clean and valid paths.
func genPath() *rapid.Generator[string] {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "A", "%61", "a%2fb", "a%2Fb", "%C3%A9", "x", "c", "w0", "b;v=1", "%61%62"})
	return rapid.Custom(func(t *rapid.T) string {
		list := rapid.SliceOfN(segment, 0, 5).Draw(t, "path")
		s := "/" + strings.Join(list, "/")
		if len(list) > 0 && rapid.Bool().Draw(t, "slash") {
			s += "/"
		}
		return s
	})
}

func TestPatternsAgreeWithServeMux(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []string
		for _, s := range rapid.SliceOfN(genPattern(), 1, 8).Draw(t, "patterns") {
			p, err := parsePattern(s)
			if (err == nil) != muxAccepts(s) {
				t.Fatalf("parsePattern(%q): %v; ServeMux accepts: %v", s, err, err != nil)
			}
			if err != nil {
				continue
			}
			clash := false
			for _, other := range list {
				q, _ := parsePattern(other)
				c := conflict([]*pattern{q, p})
				if (c == nil) != muxAccepts(other, s) {
					t.Fatalf("%q and %q: conflict %v; ServeMux accepts both: %v", other, s, c, c != nil)
				}
				if c != nil {
					clash = true
					for _, one := range []*pattern{p, q} {
						if matchText(newTree([]*pattern{one}), c.Example) < 0 {
							t.Fatalf("%v: %q does not match the example", c, one.text)
						}
					}
				}
			}
			if !clash {
				list = append(list, s)
			}
		}
		if len(list) == 0 {
			return
		}
		tr := newTree(parseAll(list))
		for range 8 {
			path := genPath().Draw(t, "path")
			got := ""
			if i := matchText(tr, path); i >= 0 {
				got = list[i]
			}
			if want := muxMatch(list, path); got != want {
				t.Fatalf("%q against %q: %q, ServeMux %q", path, list, got, want)
			}
		}
	})
}

func parseAll(list []string) []*pattern {
	patterns := make([]*pattern, len(list))
	for i, s := range list {
		patterns[i], _ = parsePattern(s)
	}
	return patterns
}

func TestParamsAgreeWithServeMux(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genPattern().Filter(func(s string) bool { return muxAccepts(s) }).Draw(t, "pattern")
		path := genPath().Draw(t, "path")
		p := parseAll([]string{s})[0]
		var want []Param
		mux := http.NewServeMux()
		mux.HandleFunc(s, func(_ http.ResponseWriter, r *http.Request) {
			want = []Param{}
			for _, name := range p.names {
				want = append(want, Param{name, r.PathValue(name)})
			}
		})
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		if got := paramsText(p, path); !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Fatalf("%q of %q: %v, ServeMux %v", s, path, got, want)
		}
	})
}

func TestMatchAllocatesNothing(t *testing.T) {
	tr := newTree(mustPatterns(t, "/api/{value}", "/caf\u00e9/{x}", "/files/{rest...}", "/a/b/c/d", "/{x}/{y}/{z}/{w}/e"))
	for _, path := range []string{"/api/3", "/caf%C3%A9/%20", "/files/a/b/c", "/a/b/c/d/e", "/no", "/%zz/b"} {
		b, p := []byte(path), textPath(path)
		if n := testing.AllocsPerRun(100, func() { p.split(b); tr.match(&p) }); n != 0 {
			t.Errorf("match(%q): %v allocations", path, n)
		}
	}
}

// FuzzMatch looks for panics and for matches that net/url would not confirm.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"/", "", "*", "/a/b", "/%", "/%4", "/%41", "/a%2Fb/", "//", "/./..", "http://x", "/{x}"} {
		f.Add("/a/{x}", s)
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, s, path string) {
		p, err := parsePattern(s)
		if err != nil {
			return
		}
		i := matchText(newTree([]*pattern{p}), path)
		values := paramsText(p, path)
		if (i < 0) != (values == nil) {
			t.Fatalf("match %d but params %v", i, values)
		}
		for _, v := range values {
			raw, err := url.PathUnescape(v.Value)
			if v.Name == "" || err == nil && len(raw) > len(path) {
				t.Fatalf("parameter %+v of %q", v, path)
			}
		}
		if len(path) > 0 && path[0] == '/' {
			cleaned := cleanText(path)
			if len(cleaned) > len(path)+1 || dotted(cleaned) || cleanText(cleaned) != cleaned {
				t.Fatalf("clean(%q) = %q", path, cleaned)
			}
		}
	})
}

// dotted says whether a path has segments that cleaning removes.
func dotted(path string) bool {
	list := strings.Split(path, "/")[1:]
	for i, s := range list {
		if dots([]byte(s)) == 1 || dots([]byte(s)) == 2 || s == "" && i < len(list)-1 {
			return true
		}
	}
	return false
}
