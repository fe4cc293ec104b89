// Package crash is how the program dies without showing what it has captured.
//
// Go prints the value of a panic, and a value may be a text that was made of
// captured bytes: a library's error that quotes a line. Every goroutine that
// handles them therefore begins with
//
//	defer crash.Guard()
//
// which ends the process as a panic does, but prints the value's type and, of
// what the Go runtime itself says (an index out of range, a nil pointer), the
// text. NoDumps keeps them out of core dumps.
//
// What it does not do: guard goroutines that libraries start, such as those of
// net/http for a candidate over https.
package crash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// exitPanic is the exit code of a Go program that panics.
const exitPanic = 2

// Guard ends the process when the goroutine panics: exit code 2, and on standard
// error what may be said of the panic with the functions that led to it. It is
// to be deferred itself, before all that the goroutine defers otherwise.
func Guard() {
	if v := recover(); v != nil {
		report(os.Stderr, v)
		os.Exit(exitPanic)
	}
}

// report writes to w what may be said of a panic's value. Arguments of functions
// are left out: in small ones they are the bytes themselves.
func report(w io.Writer, v any) {
	var b strings.Builder
	b.WriteString("panic: ")
	switch v := v.(type) {
	case runtime.Error:
		b.WriteString(v.Error())
	case error:
		fmt.Fprintf(&b, "%T, whose text may hold captured bytes and is not shown", v)
	case string:
		fmt.Fprintf(&b, "a text of %d bytes, which may be captured ones and is not shown", len(v))
	default:
		fmt.Fprintf(&b, "%T, which may hold captured bytes and is not shown", v)
	}
	b.WriteString("\n\n")
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)]) // from Guard's caller on
	for {
		f, more := frames.Next()
		if f.Function != "" {
			fmt.Fprintf(&b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		}
		if !more {
			break
		}
	}
	// There is nobody to tell of an error.
	_, _ = io.WriteString(w, b.String())
}

// NoDumps makes the kernel write no core dump of this process, neither to a file
// nor to a program that collects them (core(5)), and lets only privileged ones
// read its memory (PR_SET_DUMPABLE).
func NoDumps() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
	)
}
