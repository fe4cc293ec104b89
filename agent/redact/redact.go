package redact

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync/atomic"
)

// Mode says how much of the values a record carries.
type Mode uint8

const (
	// Differences: status, headers and the differing values; of bodies only
	// media type, size and digest.
	Differences Mode = iota
	// Full: whole bodies as well.
	Full
	// Digests: no value at all, only digests. What stays readable are words
	// of the configuration, of HTTP and of shadowtap: method, status, names
	// of headers and parameters, paths of differences.
	Digests
)

var modeWords = [...]string{"differences", "full", "digests"}

// String gives the word of publish.values.
func (m Mode) String() string { return modeWords[m] }

// ParseMode reads the word of publish.values; "" is Differences.
func ParseMode(s string) (Mode, error) {
	if s == "" {
		return Differences, nil
	}
	for m, w := range modeWords {
		if s == w {
			return Mode(m), nil
		}
	}
	return 0, fmt.Errorf("values: %q is none of differences, full, digests", s)
}

// Config is what a Redactor is made of. It is not changed after New.
type Config struct {
	// Key is the HMAC key, KeySize bytes; New copies it. Nil means a random
	// key for this process, with the key id "local".
	Key []byte
	// KeyID is the name of Key in what is published: letters, digits, - and _.
	// Empty means 8 hex digits derived from the key. Without a Key it is not
	// used.
	KeyID string
	// Older are the keys that were in use before Key, the newest first. They
	// hash nothing: values that they have replaced are known for such and are
	// not replaced again.
	Older []Key
	// Deterministic makes the same input in the same order give the same
	// records, for pcap and report: without a Key redacted values are numbered
	// by first appearance instead of hashed, published is the exchange's time,
	// node and boot_id are empty.
	Deterministic bool
	// Values says how much is published. The zero value is Differences.
	Values Mode

	// Headers adds names of header fields to the default list. A name may hold
	// *; one that begins with ! is taken off the default list.
	Headers []string
	// Query adds names of query, form and path parameters, spelled as above.
	Query []string
	// JSON adds keys, spelled as above, and paths: what begins with $ is a path
	// of RFC 9535 with names, indexes, wildcards and descendants, and covers
	// everything below what it names.
	JSON []string
	// Routes are patterns of paths. Where a URL in a header, such as Referer or
	// Location, fits one that has a secret parameter, that is replaced there too.
	Routes []Route
	// Patterns are regular expressions (RE2) on every value. What one matches
	// is a secret; if it has groups, what its groups match is.
	Patterns []string

	// MaxValue bounds the text of one differing value in bytes, after
	// redaction; the rest is cut off. Zero means 4096.
	MaxValue int
	// MaxRecord bounds a record's JSON in bytes: texts are cut, the longest
	// first, until it fits. Zero means 900,000, which the default limits of a
	// Kafka broker take.
	MaxRecord int
}

// Route is a path pattern and its parameters that are marked secret, besides
// those that have a secret name.
type Route struct {
	// Path has the syntax of http.ServeMux, without method and host.
	Path   string
	Secret []string
}

// Redactor makes Records of Inputs. It is safe for concurrent use.
type Redactor struct {
	// tokens changes with the keys; a record is made with one.
	tokens        atomic.Pointer[tokens]
	random        bool
	deterministic bool
	values        Mode
	maxValue      int
	maxRecord     int

	headers  nameRules
	params   nameRules
	keys     *memo // of JSON
	words    *memo // names of pairs in free text
	paths    []jsonPath
	patterns []*regexp.Regexp
	routes   []Route // that have a secret parameter
}

// New checks c and compiles its rules. Errors name the field, the element and
// where it makes sense the position.
func New(c Config) (*Redactor, error) {
	r := &Redactor{
		random:        c.Key == nil && !c.Deterministic,
		deterministic: c.Deterministic,
		values:        c.Values,
		maxValue:      c.MaxValue,
		maxRecord:     c.MaxRecord,
	}
	if c.Values > Digests {
		return nil, fmt.Errorf("redact: Values: %d is none of the modes", c.Values)
	}
	if r.maxValue == 0 {
		r.maxValue = 4096
	}
	if r.maxValue < 64 {
		return nil, fmt.Errorf("redact: MaxValue: %d is less than 64", c.MaxValue)
	}
	if r.maxRecord == 0 {
		r.maxRecord = 900_000
	}
	if r.maxRecord < 16<<10 {
		return nil, fmt.Errorf("redact: MaxRecord: %d is less than 16384", c.MaxRecord)
	}
	var ring []Key
	switch {
	case c.Key != nil:
		ring = append([]Key{{ID: c.KeyID, Secret: c.Key}}, c.Older...)
	case len(c.Older) > 0:
		return nil, errors.New("redact: Older: there is no Key")
	}
	t, err := newTokens(ring, c.Deterministic)
	if err != nil {
		return nil, err
	}
	r.tokens.Store(t)
	if r.headers, err = compileNames("headers", c.Headers); err != nil {
		return nil, fmt.Errorf("redact: %w", err)
	}
	if r.params, err = compileNames("query", c.Query); err != nil {
		return nil, fmt.Errorf("redact: %w", err)
	}
	for _, route := range c.Routes {
		if j := (&job{r: r, secretParams: route.Secret}); j.hasSecret(route.Path) {
			r.routes = append(r.routes, route)
		}
	}
	var keys []string
	for i, s := range c.JSON {
		if !strings.HasPrefix(s, "$") {
			keys = append(keys, s)
			continue
		}
		p, err := compilePath(s)
		if err != nil {
			return nil, fmt.Errorf("redact: json[%d]: %w", i, err)
		}
		r.paths = append(r.paths, p)
	}
	keyRules, err := compileNames("json", keys)
	if err != nil {
		return nil, fmt.Errorf("redact: %w", err)
	}
	r.keys = newMemo(func(name string) bool { return keyRules.secret(name, secretName) })
	r.words = newMemo(func(name string) bool { return secretName(name) || secretHeader(strings.ToLower(name)) })
	for i, s := range c.Patterns {
		re, err := compilePattern(s)
		if err != nil {
			return nil, fmt.Errorf("redact: patterns[%d]: %w", i, err)
		}
		r.patterns = append(r.patterns, re)
	}
	return r, nil
}

// compilePattern compiles a pattern of the rules; an error says at which byte
// of it (from 1) the trouble begins.
func compilePattern(s string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(s)
	if err != nil {
		at := 1
		if e, ok := err.(*syntax.Error); ok {
			if k := strings.Index(s, e.Expr); k >= 0 {
				at = k + 1
			}
			return nil, fmt.Errorf("%q at byte %d: %s: %q", s, at, e.Code, e.Expr)
		}
		return nil, fmt.Errorf("%q: %w", s, err)
	}
	if re.MatchString("") {
		return nil, fmt.Errorf("%q at byte 1: matches the empty text, so it would match everywhere", s)
	}
	return re, nil
}

// SetKeys puts other keys into use, the newest first: it hashes from now on,
// the others are Config.Older. Records that are being made keep the key that
// they began with. After an error nothing has changed. It may be called at any
// time; the caller keeps the bytes.
func (r *Redactor) SetKeys(keys []Key) error {
	if len(keys) == 0 {
		return errors.New("redact: Key: none")
	}
	t, err := newTokens(keys, r.deterministic)
	if err == nil {
		r.tokens.Store(t)
	}
	return err
}

// KeyID is the id that stands in redacted values.
func (r *Redactor) KeyID() string {
	prefix := r.tokens.Load().prefix
	return prefix[1 : len(prefix)-1]
}

// Warning is what an operator should know about the key, "" for nothing.
func (r *Redactor) Warning() string {
	if r.random {
		return "no redaction key file: redacted values are comparable only within this process; set redaction.key_file to a file of 32 random bytes, the same for all agents"
	}
	return ""
}

// Text redacts a text that belongs to no record, such as an error that is to
// be logged: by form and by name=value pairs.
func (r *Redactor) Text(s string) string {
	j := newJob(r)
	return printable(j.text(s))
}
