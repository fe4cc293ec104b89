// Command shadowtap shadow-tests a service without touching it: a TC eBPF
// program copies the packets of chosen ports, the agent rebuilds the HTTP
// exchanges, replays a share of the requests to a candidate and publishes where
// its answers diverge from those that production gave.
//
// Each subcommand is one file here and one function of package agent.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/shadowtap/shadowtap/agent/crash"
)

// version is set by the linker.
var version = "dev"

// Exit codes, beside 0.
const (
	exitDifferent = 1 // diff: different; demo: no divergence came, or the ledger does not balance
	exitTrouble   = 2 // usage, privilege, unreadable input
)

func main() {
	defer crash.Guard()
	if err := crash.NoDumps(); err != nil {
		fmt.Fprintf(os.Stderr, "shadowtap: core dumps are not switched off: %v\n", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals // a second one ends at once
		os.Exit(exitTrouble)
	}()
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := execute(ctx, args, stdout, stderr)
	if err == nil {
		return 0
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintf(stderr, "shadowtap: %s\n", msg)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var coded cli.ExitCoder
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.ExitCode()
	}
	return exitTrouble
}

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	app := newApp(stdout, stderr)
	if len(args) == 2 && args[1] == "--version" {
		args = []string{args[0], "version"}
	}
	l, err := arrange(app, args)
	switch {
	case err != nil:
		return err
	case l.help || l.command == nil || len(l.command.Subcommands) > 0:
		return writeHelp(stdout, app, l)
	}
	return app.RunContext(ctx, l.args)
}

func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "shadowtap",
		Usage:     "compare a candidate's answers with those that production gives, without touching production",
		UsageText: "shadowtap COMMAND [FLAGS] [ARGUMENTS]",
		Description: "Start with \"shadowtap demo\". For your own service:\n" +
			"  shadowtap run --interface eth0 --port 8080 --candidate http://localhost:3001 --path '/api/{value}' --sample 1%",
		HideVersion:    true,
		Writer:         stdout,
		ErrWriter:      stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		Commands: []*cli.Command{
			runCommand(), pcapCommand(), demoCommand(), doctorCommand(), statusCommand(),
			offCommand(), onCommand(), detachCommand(), reportCommand(), diffCommand(), configCommand(), versionCommand(),
		},
	}
	app.HideHelp = true // help.go has it
	ownUsage(app.Commands)
	return app
}

// ownUsage takes help and wrong values out of cli's hands, which prints a page
// for each.
func ownUsage(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelp = true
		c.OnUsageError = func(c *cli.Context, err error, _ bool) error {
			return fmt.Errorf("%w (shadowtap %s --help says more)", err, c.Command.FullName())
		}
		ownUsage(c.Subcommands)
	}
}
