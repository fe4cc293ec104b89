package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Source is where a value was written.
type Source struct {
	// Name is the file as it was named, an environment variable, or a flag.
	Name string
	// Line and Column are those of a file, from 1; 0 for anything else.
	// Columns count characters.
	Line, Column int
}

// String gives "file:line:column", or the name alone.
func (s Source) String() string {
	if s.Line == 0 {
		return s.Name
	}
	return s.Name + ":" + strconv.Itoa(s.Line) + ":" + strconv.Itoa(s.Column)
}

// Error is one mistake. It never holds the value of a key that may be secret.
type Error struct {
	// Source is where the mistake was written; zero when it is about something
	// that was not written at all.
	Source Source
	// Path is the key, such as experiments[0].sample.rate; "" for the file.
	Path string
	// Message says what is wrong and what to write.
	Message string
}

// Error gives "file:line:column: key: message".
func (e *Error) Error() string {
	var b strings.Builder
	if s := e.Source.String(); s != "" {
		b.WriteString(s + ": ")
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// Warning is something that is allowed and probably not meant. It reads as an
// Error does.
type Warning Error

// String gives "file:line:column: key: message".
func (w Warning) String() string { return (*Error)(&w).Error() }

// Errors are all mistakes that were found, in the order of the file. errors.As
// finds each *Error in it.
type Errors []error

// Error gives one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the mistakes.
func (e Errors) Unwrap() []error { return e }

// maxErrors bounds a report: after that many mistakes more do not help.
const maxErrors = 50

// report collects mistakes.
type report struct {
	list []*Error
	more int
}

func (r *report) add(src Source, path, format string, args ...any) {
	if len(r.list) >= maxErrors {
		r.more++
		return
	}
	r.list = append(r.list, &Error{Source: src, Path: path, Message: fmt.Sprintf(format, args...)})
}

// take adds the mistakes of another report.
func (r *report) take(o *report) {
	for _, e := range o.list {
		r.add(e.Source, e.Path, "%s", e.Message)
	}
	r.more += o.more
}

// has says whether err is about a key of which a mistake is known.
func (r *report) has(err error) bool {
	var e *Error
	return errors.As(err, &e) && slices.ContainsFunc(r.list, func(o *Error) bool { return o.Path == e.Path })
}

// err gives Errors, or nil.
func (r *report) err() error {
	if len(r.list) == 0 {
		return nil
	}
	slices.SortStableFunc(r.list, func(a, b *Error) int { return before(a.Source, b.Source) })
	list := make(Errors, 0, len(r.list)+1)
	for _, e := range r.list {
		list = append(list, e)
	}
	if r.more > 0 {
		list = append(list, fmt.Errorf("and %d more", r.more))
	}
	return list
}

// before orders by line and column; what has no line comes last.
func before(a, b Source) int {
	switch {
	case a.Line == 0 && b.Line == 0:
		return 0
	case a.Line == 0:
		return 1
	case b.Line == 0:
		return -1
	case a.Line != b.Line:
		return a.Line - b.Line
	}
	return a.Column - b.Column
}

// shown quotes a text for a message, cut to a length that a line can bear.
func shown(s string) string {
	const most = 64
	if r := []rune(s); len(r) > most {
		return strconv.Quote(string(r[:most])) + "..."
	}
	return strconv.Quote(s)
}

// nearest gives the name that is closest to s by edits, a swap of neighbours
// counting as one, and how many edits they are apart. Case does not count.
func nearest(s string, names []string) (string, int) {
	best, least := "", -1
	if len(s) > 128 {
		s = s[:128]
	}
	for _, n := range names {
		if d := edits(strings.ToLower(s), strings.ToLower(n)); least < 0 || d < least {
			best, least = n, d
		}
	}
	return best, least
}

// edits is the optimal string alignment distance.
func edits(a, b string) int {
	var prev, row, next []int
	prev, row, next = make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], prev[j-2]+1)
			}
		}
		prev, row, next = row, next, prev
	}
	return row[len(b)]
}

// joinWords joins words as a sentence does: "a", "a or b", "a, b or c".
func joinWords(words []string, last string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " " + last + " " + words[n-1]
	}
}
