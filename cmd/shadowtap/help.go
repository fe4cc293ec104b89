package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// writeHelp prints what a command is, how it is called, and its flags. cli's own
// help repeats each name of a flag that may be given several times.
func writeHelp(w io.Writer, app *cli.App, l line) error {
	name, usage, text, about := l.path, app.Usage, app.UsageText, app.Description
	commands := app.Commands
	var flags []cli.Flag
	if c := l.command; c != nil {
		usage, text, about, commands, flags = c.Usage, c.UsageText, c.Description, c.Subcommands, c.Flags
		switch {
		case text != "":
		case len(commands) > 0:
			text = name + " COMMAND"
		default:
			text = name
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n%s\n", name, usage, indent(text))
	if about != "" {
		fmt.Fprintf(&b, "\n%s\n", about)
	}
	if len(commands) > 0 {
		b.WriteString("\nCommands:\n")
		var rows [][2]string
		for _, c := range commands {
			rows = append(rows, [2]string{c.Name, c.Usage})
		}
		writeRows(&b, rows)
		fmt.Fprintf(&b, "\n%s COMMAND --help says more of each.\n", name)
	}
	const plain = "Flags:"
	var titles []string
	groups := map[string][][2]string{}
	for _, f := range flags {
		title := plain
		if c, ok := f.(cli.CategorizableFlag); ok {
			title = cmp.Or(c.GetCategory(), plain)
		}
		if groups[title] == nil {
			titles = append(titles, title)
		}
		groups[title] = append(groups[title], flagRow(f))
	}
	for _, t := range titles {
		fmt.Fprintf(&b, "\n%s\n", t)
		writeRows(&b, groups[t])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// flagRow gives a flag's names and value, and what it means. The word in
// backquotes in its usage stands for the value.
func flagRow(f cli.Flag) [2]string {
	names := f.Names()
	left := dashes(names[0])
	for _, n := range names[1:] {
		if len(n) == 1 {
			left = dashes(n) + ", " + left
		} else {
			left += ", " + dashes(n)
		}
	}
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return [2]string{left, ""}
	}
	usage := d.GetUsage()
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		word, after, _ := strings.Cut(rest, "`")
		left += " " + word
		usage = before + word + after
	}
	return [2]string{left, usage}
}

func writeRows(b *strings.Builder, rows [][2]string) {
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		fmt.Fprintf(b, "  %-*s  %s\n", width, r[0], r[1])
	}
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }
