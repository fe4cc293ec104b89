package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/shadowtap/shadowtap/agent/config"
	"github.com/shadowtap/shadowtap/agent/sample"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// compileRules compiles the rules of a comparison. Errors have the positions that
// c knows under path, "experiments[0].compare." or "".
func compileRules(m *config.Compare, c *config.Config, path string) (*diff.Rules, error) {
	rc := diff.RuleConfig{
		IgnoreHeaders: m.Ignore.Headers, IgnoreJSON: m.Ignore.JSON, IgnoreValues: m.Ignore.Values, IgnoreAspects: m.Ignore.Aspects,
		MaxDepth: m.MaxDepth, MaxDifferences: m.MaxDifferences,
	}
	for _, e := range m.Equal {
		rc.Equal = append(rc.Equal, diff.EqualRule{JSON: e.JSON, Header: e.Header, Type: e.Type, Within: e.Within.D(), Tolerance: e.Tolerance, Pattern: e.Pattern})
	}
	for _, a := range m.Arrays {
		rc.Arrays = append(rc.Arrays, diff.ArrayRule{JSON: a.JSON, As: a.As, Key: a.Key})
	}
	r, err := diff.Compile(rc)
	if err == nil {
		return r, nil
	}
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	var all config.Errors
	for _, e := range list {
		var rule *diff.RuleError
		switch {
		case !errors.As(e, &rule):
			all = append(all, e)
		case rule.Rule == "":
			all = append(all, c.Errorf(path+rule.Path, "%s", rule.Reason))
		default:
			all = append(all, c.ErrorIn(path+rule.Path, rule.Offset, "%q at byte %d: %s", rule.Rule, rule.Offset+1, rule.Reason))
		}
	}
	// In the order of the file, as all errors of a configuration.
	slices.SortStableFunc(all, func(a, b error) int {
		var x, y *config.Error
		if !errors.As(a, &x) || !errors.As(b, &y) {
			return 0
		}
		return cmp.Or(cmp.Compare(x.Source.Line, y.Source.Line), cmp.Compare(x.Source.Column, y.Source.Column))
	})
	return nil, all
}

// maxDescriptorFile bounds a file of descriptors, in bytes.
const maxDescriptorFile = 64 << 20

// readDescriptors reads a file of protobuf descriptors; nil for no name.
func readDescriptors(name string) (*diff.Descriptors, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDescriptorFile+1))
	if err != nil {
		return nil, err
	}
	d, err := diff.NewDescriptors(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// safeCalls reads the descriptors of the experiments, nil for one without, and
// adds the methods without side effects to what is replayed.
func safeCalls(c *config.Config, sc *sample.Config) ([]*diff.Descriptors, error) {
	all := make([]*diff.Descriptors, len(c.Experiments))
	for i := range c.Experiments {
		d, err := readDescriptors(c.Experiments[i].Compare.Descriptors)
		if err != nil {
			return nil, c.Errorf(fmt.Sprintf("experiments[%d].compare.descriptors", i), "%v", err)
		}
		all[i] = d
		sc.Experiments[i].GRPC = slices.Concat(sc.Experiments[i].GRPC, d.SafeMethods())
	}
	return all, nil
}

// DiffOptions say what Diff compares, and how it tells.
type DiffOptions struct {
	// Reference and Candidate are files that hold an HTTP answer each, as
	// "curl -i" prints it. "-" is Stdin, for one of them.
	Reference, Candidate string
	Stdin                io.Reader
	// Rules is a file of rules: what stands under an experiment's compare, or a
	// whole configuration. "" is the defaults. Experiment names the one whose
	// rules are taken from a configuration; "" is the only one.
	Rules, Experiment string
	// Descriptors is a file of protobuf types, as protoc --include_imports
	// --descriptor_set_out writes it. "" is that of the rules, if they name one.
	Descriptors string
	// GRPC is the path of the call that the answers are for,
	// /package.Service/Method; it says what type gRPC messages are of. "" is none.
	GRPC string
	// Out gets the differences, Warn what is odd about the files. Required.
	Out, Warn io.Writer
	// JSON prints one JSON object instead of text. Ignored prints what a rule or
	// the default list ignores too; JSON always has it. Color is for terminals.
	JSON, Ignored, Color bool
}

// Diff compares two answers in files by the code that the agent compares with,
// and says whether they differ in something that counts. Values are printed in
// the clear.
func Diff(o DiffOptions) (different bool, err error) {
	rules, descriptors, err := diffRules(o.Rules, o.Experiment)
	if err != nil {
		return false, err
	}
	types, err := readDescriptors(cmp.Or(o.Descriptors, descriptors))
	if err != nil {
		return false, fmt.Errorf("descriptors: %w", err)
	}
	if o.Reference == "-" && o.Candidate == "-" {
		return false, errors.New("only one of the answers can come from standard input")
	}
	var answers [2]*exchange.Response
	for i, name := range [2]string{o.Reference, o.Candidate} {
		data, err := readAnswer(name, o.Stdin)
		if err != nil {
			return false, err
		}
		a, notes, err := parseAnswer(data)
		if err != nil {
			return false, fmt.Errorf("%s: %w", name, err)
		}
		for _, n := range notes {
			fmt.Fprintf(o.Warn, "warning: %s: %s\n", name, n)
		}
		answers[i] = a
	}
	req := &exchange.Request{Method: "GET"}
	if o.GRPC != "" {
		req = &exchange.Request{Method: "POST", Target: o.GRPC, Proto: "HTTP/2", Header: exchange.Header{{Name: "content-type", Value: "application/grpc"}}}
	}
	res := rules.Compare(req, answers[0], answers[1], diff.Input{Descriptors: types})
	for i := range res.Differences {
		different = different || !res.Differences[i].Ignored
	}
	if o.JSON {
		return different, writeDiffJSON(o.Out, res)
	}
	return different, writeDiffText(o.Out, res, o.Ignored, o.Color)
}

// diffRules gives the rules of a file, and the file of descriptors that they name.
func diffRules(name, experiment string) (rules *diff.Rules, descriptors string, err error) {
	if name == "" {
		if experiment != "" {
			return nil, "", errors.New("an experiment needs the configuration that has it: --rules FILE")
		}
		rules, err = diff.Compile(diff.RuleConfig{})
		return rules, "", err
	}
	data, err := readRules(name)
	if err != nil {
		return nil, "", err
	}
	m, c, path, err := config.ParseCompare(name, data, experiment)
	if err != nil {
		return nil, "", err
	}
	rules, err = compileRules(m, c, path)
	return rules, m.Descriptors, err
}

// readRules reads a file of rules.
func readRules(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, config.MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// maxAnswer bounds a file with an answer, in bytes.
const maxAnswer = 1 << 30

func readAnswer(name string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	if r == nil {
		return nil, errors.New("no standard input")
	}
	data, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case len(data) > maxAnswer:
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxAnswer)
	}
	return data, nil
}

// parseAnswer reads an answer as "curl -i" prints it: of several heads (interim
// answers, redirects that were followed, a proxy's) the last, lines with CRLF or
// LF. curl takes the chunks and, with --compressed, the content coding off a body
// and leaves their fields in the head; a body that is text in spite of a coding,
// or not in chunks in spite of Transfer-Encoding, is taken as it is. notes says
// what is odd.
func parseAnswer(data []byte) (a *exchange.Response, notes []string, err error) {
	a = &exchange.Response{}
	rest := data
	for first := true; first || startsAnswer(rest); first = false {
		a.Header = nil
		if a.Status, rest, err = statusLine(rest); err != nil {
			return nil, nil, err
		}
		if a.Header, rest, err = fieldLines(rest); err != nil {
			return nil, nil, err
		}
	}
	body := rest
	if strings.EqualFold(a.Header.Get("Transfer-Encoding"), "chunked") {
		if b, trailer, ok := unchunk(body); ok {
			body, a.Trailer = b, trailer
		}
	} else if v := a.Header.Get("Content-Length"); v != "" {
		switch n, err := strconv.ParseInt(v, 10, 64); {
		case err != nil || n < 0:
			notes = append(notes, "its Content-Length is no number")
		case n > int64(len(body)):
			notes = append(notes, fmt.Sprintf("its head says %d bytes, the file has %d: it may be cut", n, len(body)))
		}
	}
	if a.Header.Has("Content-Encoding") && isText(body) {
		h := a.Header[:0:0]
		for _, f := range a.Header {
			if !strings.EqualFold(f.Name, "Content-Encoding") {
				h = append(h, f)
			}
		}
		a.Header = h
		notes = append(notes, "its body is text though its head names a content coding: taken as decoded")
	}
	a.Body = exchange.Body{Bytes: body, Size: int64(len(body))}
	return a, notes, nil
}

// startsAnswer says whether a status line comes next.
func startsAnswer(b []byte) bool {
	_, _, err := statusLine(b)
	return err == nil
}

// statusLine reads "HTTP/1.1 200 OK", or "HTTP/2 200 " as curl writes it.
func statusLine(b []byte) (status int, rest []byte, err error) {
	line, rest := cutLine(b)
	version, more, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(more, " ")
	n, bad := strconv.Atoi(code)
	if !strings.HasPrefix(version, "HTTP/") || len(version) > len("HTTP/1.1") || bad != nil || len(code) != 3 || n < 100 {
		return 0, nil, errors.New("no HTTP answer: its first line must be one such as HTTP/1.1 200 OK (curl -i prints it)")
	}
	return n, rest, nil
}

// maxLine bounds a line of a head, as curl does.
const maxLine = 100 << 10

// cutLine cuts the first line off, without its end.
func cutLine(b []byte) (line string, rest []byte) {
	end := bytes.IndexByte(b[:min(len(b), maxLine)], '\n')
	if end < 0 {
		return strings.TrimSuffix(string(b[:min(len(b), maxLine)]), "\r"), b[min(len(b), maxLine):]
	}
	return strings.TrimSuffix(string(b[:end]), "\r"), b[end+1:]
}

// fieldLines reads fields to the empty line, or to the end of the file.
func fieldLines(b []byte) (h exchange.Header, rest []byte, err error) {
	for n := 2; len(b) > 0; n++ {
		var line string
		line, b = cutLine(b)
		if line == "" {
			return h, b, nil
		}
		name, value, ok := strings.Cut(line, ":")
		switch {
		case (line[0] == ' ' || line[0] == '\t') && len(h) > 0:
			// A folded line (RFC 9112 section 5.2) belongs to the field before.
			h[len(h)-1].Value += " " + strings.Trim(line, " \t")
		case !ok || name == "" || strings.ContainsAny(name, " \t"):
			return nil, nil, fmt.Errorf("line %d of its head is no field: want name: value, and an empty line before the body", n)
		default:
			h = append(h, exchange.Field{Name: name, Value: strings.Trim(value, " \t")})
		}
	}
	return h, b, nil
}

// unchunk takes the chunks off a body; ok is false when it is not in chunks to
// its end.
func unchunk(b []byte) (body []byte, trailer exchange.Header, ok bool) {
	r := bufio.NewReader(bytes.NewReader(b))
	body, err := io.ReadAll(httputil.NewChunkedReader(r))
	if err != nil {
		return nil, nil, false
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return nil, nil, false
	}
	trailer, rest, err = fieldLines(rest)
	if err != nil || len(rest) > 0 {
		return nil, nil, false
	}
	return body, trailer, true
}

// isText says whether a body is text, which a coded one never is.
func isText(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexFunc(b, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' }) < 0
}

// jsonDifference is a difference as Diff prints it.
type jsonDifference struct {
	Aspect    string     `json:"aspect"`
	Kind      string     `json:"kind"`
	Path      string     `json:"path"`
	Reference *jsonValue `json:"reference"`
	Candidate *jsonValue `json:"candidate"`
	Detail    string     `json:"detail,omitempty"`
	Ignored   bool       `json:"ignored"`
	Rule      string     `json:"rule,omitempty"`
}

type jsonValue struct {
	Kind      string `json:"kind"`
	Text      string `json:"text"`
	Size      int64  `json:"size"`
	Offset    int64  `json:"offset,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
}

func newJSONValue(v *diff.Value) *jsonValue {
	if v.Kind == diff.ValueNone {
		return nil
	}
	return &jsonValue{Kind: v.Kind.String(), Text: strings.ToValidUTF8(v.Text, "\ufffd"), Size: v.Size, Offset: v.Offset, Truncated: v.Truncated}
}

func writeDiffJSON(w io.Writer, res *diff.Result) error {
	out := struct {
		Outcome     string           `json:"outcome"`
		Why         string           `json:"why,omitempty"`
		Differences []jsonDifference `json:"differences"`
	}{res.Outcome.String(), res.Why, []jsonDifference{}}
	for i := range res.Differences {
		d := &res.Differences[i]
		out.Differences = append(out.Differences, jsonDifference{d.Aspect, d.Kind, d.Path, newJSONValue(&d.Reference), newJSONValue(&d.Candidate), d.Detail, d.Ignored, d.Rule})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

// maxShown bounds a value in text, in characters.
const maxShown = 400

// writeDiffText prints each difference with its place, and what it came to.
func writeDiffText(w io.Writer, res *diff.Result, ignoredToo, color bool) error {
	var b strings.Builder
	paint := func(code, s string) string {
		if !color {
			return s
		}
		return "\x1b[" + code + "m" + s + "\x1b[0m"
	}
	count, ignored := 0, 0
	for i := range res.Differences {
		d := &res.Differences[i]
		if d.Ignored {
			if ignored++; !ignoredToo {
				continue
			}
		} else {
			count++
		}
		head := d.Aspect
		if d.Path != "" && d.Aspect != diff.AspectGRPC {
			head += " " + printable(d.Path)
		}
		fmt.Fprintf(&b, "%s: %s", paint("1", head), strings.ReplaceAll(d.Kind, "_", " "))
		if d.Detail != "" {
			fmt.Fprintf(&b, ", %s", d.Detail)
		}
		if d.Ignored {
			fmt.Fprintf(&b, " (ignored by %s)", cmp.Or(map[string]string{diff.RuleDefault: "the default list"}[d.Rule], d.Rule))
		}
		b.WriteByte('\n')
		if d.Reference.Kind != diff.ValueNone {
			b.WriteString(paint("31", "  - "+shownValue(&d.Reference)) + "\n")
		}
		if d.Candidate.Kind != diff.ValueNone {
			b.WriteString(paint("32", "  + "+shownValue(&d.Candidate)) + "\n")
		}
	}
	also := ""
	if ignored > 0 {
		also = fmt.Sprintf(", %d ignored", ignored)
	}
	switch {
	case count > 0:
		fmt.Fprintf(&b, "different: %d difference%s%s\n", count, map[bool]string{true: "", false: "s"}[count == 1], also)
	case ignored > 0:
		fmt.Fprintf(&b, "equal but for what is ignored: %d difference%s\n", ignored, map[bool]string{true: "", false: "s"}[ignored == 1])
	default:
		b.WriteString("equal\n")
	}
	if res.Outcome == diff.NotComparable {
		fmt.Fprintf(&b, "the agent counts such a pair as not comparable: %s\n", res.Why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shownValue is a value on one line.
func shownValue(v *diff.Value) string {
	text, cut := v.Text, v.Truncated
	if r := []rune(text); len(r) > maxShown {
		text, cut = string(r[:maxShown]), true
	}
	switch v.Kind {
	case diff.ValueString, diff.ValueBytes:
		text = strconv.Quote(text)
	default:
		text = printable(strings.Join(strings.Fields(text), " "))
	}
	if v.Offset > 0 {
		text = "... " + text
	}
	if cut {
		text += fmt.Sprintf(" ... (%d bytes)", v.Size)
	}
	return text
}

// printable replaces what could act on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}
