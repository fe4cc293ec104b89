package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// line is a command line after arrange.
type line struct {
	args    []string // for cli
	path    string   // the command, such as "shadowtap config check"
	command *cli.Command
	help    bool // somebody asked for help, and nothing else counts
}

// arrange finds the command and moves its flags in front of its arguments, so
// that both orders work: cli reads flags up to the first argument only. Behind
// "--" all are arguments. Unknown commands and flags are refused here, with the
// nearest that exists.
func arrange(app *cli.App, args []string) (line, error) {
	l := line{path: app.Name, args: []string{app.Name}}
	rest := args[min(1, len(args)):]
	if len(rest) > 0 && rest[0] == "help" {
		l.help, rest = true, rest[1:]
	}
	commands := app.Commands
	var flags []cli.Flag
	for len(rest) > 0 && len(commands) > 0 && !strings.HasPrefix(rest[0], "-") {
		c := find(commands, rest[0])
		if c == nil {
			var names []string
			for _, c := range commands {
				names = append(names, c.Names()...)
			}
			return l, fmt.Errorf("no command %q%s (%s --help lists them)", rest[0], meant(rest[0], names, ""), l.path)
		}
		l.path += " " + c.Name
		l.args, l.command, rest, commands, flags = append(l.args, c.Name), c, rest[1:], c.Subcommands, c.Flags
	}
	return l, l.flagsFirst(flags, rest)
}

func (l *line) flagsFirst(flags []cli.Flag, rest []string) error {
	takes := map[string]bool{} // name -> takes a value
	var names []string
	for _, f := range flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, n := range f.Names() {
			takes[n] = !isBool
			if len(n) > 1 {
				names = append(names, n)
			}
		}
	}
	var arguments []string
	for len(rest) > 0 {
		a := rest[0]
		rest = rest[1:]
		switch {
		case a == "--":
			arguments = append(arguments, rest...)
			rest = nil
		case a == "-h" || a == "--help" || a == "-help":
			l.help = true
		case len(a) > 1 && a[0] == '-':
			name, _, joined := strings.Cut(strings.TrimLeft(a, "-"), "=")
			value, known := takes[name]
			if !known {
				return fmt.Errorf("no flag %s%s (%s --help lists them)", dashes(name), meant(name, names, "--"), l.path)
			}
			l.args = append(l.args, a)
			if value && !joined {
				if len(rest) == 0 {
					return fmt.Errorf("%s needs a value (%s --help says which)", dashes(name), l.path)
				}
				l.args, rest = append(l.args, rest[0]), rest[1:]
			}
		default:
			arguments = append(arguments, a)
		}
	}
	if len(arguments) > 0 {
		l.args = append(append(l.args, "--"), arguments...)
	}
	return nil
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func dashes(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// meant asks for the name that was probably meant, if there is one.
func meant(got string, names []string, prefix string) string {
	limit := max(1, len(got)/3)
	if len(got) >= 4 {
		limit = max(2, limit) // two letters swapped
	}
	best, least := "", limit+1
	for _, n := range names {
		d := distance(got, n)
		if len(got) >= 3 && strings.HasPrefix(n, got) { // stat, interf
			d = min(d, 1)
		}
		if d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + prefix + best + "?"
}

// distance counts the letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left, corner := i+1, i
		for j := range len(b) {
			d := corner
			if a[i] != b[j] {
				d = 1 + min(corner, row[j+1], left)
			}
			corner, row[j], left = row[j+1], left, d
		}
		row[len(b)] = left
	}
	return row[len(b)]
}
