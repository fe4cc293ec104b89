// Command lint reports what the house style bans, each with its reason. It
// reads the Go files below the folders that it is given and needs no build.
//
//	go run ./testdata/lint [FOLDER]...
package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	roots := os.Args[1:]
	if len(roots) == 0 {
		roots = []string{"."}
	}
	os.Exit(run(roots, os.Stdout, os.Stderr))
}

func run(roots []string, stdout, stderr io.Writer) int {
	found := 0
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if path != root && strings.HasPrefix(d.Name(), ".") {
					return filepath.SkipDir
				}
				if slices.Contains([]string{"utils", "util", "common", "base", "misc", "helpers"}, d.Name()) {
					fmt.Fprintf(stdout, "%s: a folder is named by its job, so that one knows what belongs into it\n", path)
					found++
				}
				return nil
			}
			if filepath.Ext(path) != ".go" {
				return nil
			}
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			problems, err := check(path, src)
			for _, p := range problems {
				fmt.Fprintln(stdout, p)
			}
			found += len(problems)
			return err
		})
		if err != nil {
			fmt.Fprintln(stderr, "lint:", err)
			return 2
		}
	}
	if found > 0 {
		return 1
	}
	return 0
}

// banned calls, by import path and name. "test" bans them in tests only, "room"
// everywhere but in tests and in commands.
var banned = []struct{ path, name, where, reason string }{
	{"time", "Sleep", "test", "a test that sleeps is slow or fails by chance: use testing/synctest, or poll with a deadline"},
	{"log/slog", "SetDefault", "", "no package logger: a room gets its logger in its Config"},
	{"log/slog", "Default", "room", "no package logger: a room gets its logger in its Config"},
	{"net/http", "DefaultClient", "room", "it follows redirects, reads the proxy environment and never times out"},
	{"net/http", "DefaultTransport", "room", "it reads the proxy environment and is shared by everybody"},
	{"net/http", "DefaultServeMux", "", "a global handler: own the mux"},
	{"net/http", "Get", "room", "it uses the default client"},
	{"net/http", "Post", "room", "it uses the default client"},
	{"github.com/prometheus/client_golang/prometheus", "DefaultRegisterer", "", "no default metrics registry: own one"},
	{"github.com/prometheus/client_golang/prometheus", "DefaultGatherer", "", "no default metrics registry: own one"},
	{"github.com/prometheus/client_golang/prometheus", "MustRegister", "", "no default metrics registry: own one"},
	{"os", "Exit", "room", "only a command ends the process; a room returns its error"},
}

// bannedImports may not be imported at all.
var bannedImports = map[string]string{
	"log":       "log/slog is handed in; there is one way to log",
	"io/ioutil": "deprecated: os and io have it",
}

var (
	unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)
	generated  = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)
	errorStart = regexp.MustCompile(`^(failed to|error |could not |unable to |[A-Z][a-z])`)
)

// check returns the problems of one file, as "path:line: reason".
func check(path string, src []byte) ([]string, error) {
	if generated.Match(src) {
		return nil, nil
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var problems []string
	report := func(p token.Pos, format string, args ...any) {
		at := fset.Position(p)
		problems = append(problems, fmt.Sprintf("%s:%d: %s", path, at.Line, fmt.Sprintf(format, args...)))
	}
	test := strings.HasSuffix(path, "_test.go")
	command := f.Name.Name == "main"

	names := map[string]string{} // local name of a package -> its path
	for _, imp := range f.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return problems, errors.Join(fmt.Errorf("%s: import %s", path, imp.Path.Value), err)
		}
		if reason, ok := bannedImports[p]; ok {
			report(imp.Pos(), "import of %s: %s", p, reason)
		}
		local := p[strings.LastIndexByte(p, '/')+1:]
		if imp.Name != nil {
			local = imp.Name.Name
		}
		names[local] = p
	}
	for _, group := range f.Comments {
		for _, c := range group.List {
			if m := unfinished.FindString(c.Text); m != "" {
				report(c.Pos(), "%s: what is here is finished; what is not goes into an issue", m)
			}
		}
	}
	for _, decl := range f.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fn.Recv == nil && fn.Name.Name == "init" {
			report(fn.Pos(), "init: no global state; what a room needs comes in its Config")
		}
		if fn.Body != nil && test {
			checkSkips(fn, report)
		}
	}
	// Rooms whose goroutines handle captured bytes in the clear.
	clear := !test && slices.Contains([]string{"capture", "replay"}, f.Name.Name)
	// In a bubble of synctest the clock is the test's own. Such tests have
	// files of their own, with helpers that are called from within.
	bubble := slices.Contains(slices.Collect(maps.Values(names)), "testing/synctest")
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			pkg, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			for _, b := range banned {
				if names[pkg.Name] != b.path || n.Sel.Name != b.name {
					continue
				}
				if b.path == "time" && bubble {
					continue
				}
				if b.where == "test" && !test || b.where == "room" && (test || command || names[pkg.Name]+"."+b.name == "os.Exit" && f.Name.Name == "crash") {
					continue
				}
				report(n.Pos(), "%s.%s: %s", pkg.Name, n.Sel.Name, b.reason)
			}
		case *ast.CallExpr:
			checkErrorText(n, names, report)
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Go" && len(n.Args) == 1 && clear {
				checkGuard(n.Args[0], report)
			}
		case *ast.GoStmt:
			if clear {
				checkGuard(n.Call.Fun, report)
			}
		}
		return true
	})
	return problems, nil
}

// checkGuard demands that a goroutine begins with defer crash.Guard().
func checkGuard(fn ast.Expr, report func(token.Pos, string, ...any)) {
	if lit, ok := fn.(*ast.FuncLit); ok && len(lit.Body.List) > 0 {
		if d, ok := lit.Body.List[0].(*ast.DeferStmt); ok {
			if sel, ok := d.Call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Guard" {
				return
			}
		}
	}
	report(fn.Pos(), "a goroutine here begins with defer crash.Guard(): the text of a panic may hold captured bytes")
}

// checkSkips demands that a function which can skip looks at CI: a test that
// is skipped there tests nothing for ever.
func checkSkips(fn *ast.FuncDecl, report func(token.Pos, string, ...any)) {
	var skips []token.Pos
	asksCI := false
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch sel.Sel.Name {
		case "Skip", "Skipf", "SkipNow":
			// A fuzz target says by t.Skip that an input is of no use.
			if x, ok := sel.X.(*ast.Ident); ok && !strings.HasPrefix(fn.Name.Name, "Fuzz") && strings.HasPrefix(x.Name, "t") {
				skips = append(skips, call.Pos())
			}
		case "Getenv", "LookupEnv":
			if len(call.Args) == 1 {
				if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Value == `"CI"` {
					asksCI = true
				}
			}
		}
		return true
	})
	if asksCI {
		return
	}
	for _, p := range skips {
		report(p, "a skip that does not fail where CI is set: a test that never runs there tests nothing")
	}
}

// checkErrorText looks at the texts of fmt.Errorf and errors.New: lower case,
// what was tried.
func checkErrorText(call *ast.CallExpr, names map[string]string, report func(token.Pos, string, ...any)) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return
	}
	pkg, ok := sel.X.(*ast.Ident)
	if !ok {
		return
	}
	if p := names[pkg.Name]; (p != "fmt" || sel.Sel.Name != "Errorf") && (p != "errors" || sel.Sel.Name != "New") {
		return
	}
	lit, ok := call.Args[0].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return
	}
	if errorStart.MatchString(text) && !properNoun.MatchString(text) {
		report(lit.Pos(), "error text %q: say what was tried, in lower case", text)
	}
}

// properNoun are the words that an error text may begin with in upper case.
var properNoun = regexp.MustCompile(`^(Content|Transfer|Host|Kafka|Linux|Go|Java|Set|Unix|X)\b`)
