package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file. The parser takes a time that grows with the square of the
// keys of a mapping and with the nesting, so both are bounded before it begins;
// aliases are bounded while they are expanded.
const (
	// MaxFile bounds a file in bytes.
	MaxFile   = 1 << 20
	maxTokens = 40_000
	maxNodes  = 40_000
	maxDepth  = 32
	// maxKey bounds a key: the parser repeats it in every value below it.
	maxKey = 256
	// maxIndent bounds the column of a key or a dash in block style, and so the
	// nesting in it.
	maxIndent = 200
)

// kind is what a node is.
type kind uint8

const (
	null kind = iota
	scalar
	mapping
	sequence
)

func (k kind) String() string {
	return [...]string{"nothing", "a value", "a mapping", "a list"}[k]
}

// node is a piece of YAML, or of what the environment sets. Aliases are
// expanded: no node has two parents.
type node struct {
	kind kind
	src  Source
	// text is a scalar as written, quoted says that it had quotes or is a block.
	text   string
	quoted bool
	// raw is how a scalar on one line is spelled in the file, quotes included;
	// "" when that is not known.
	raw string
	// keys are those of a mapping, in their order.
	keys []entry
	// items are those of a sequence.
	items []*node
}

type entry struct {
	key   string
	src   Source
	value *node
}

// get gives the value of a key, nil without one.
func (n *node) get(key string) *node {
	for i := range n.keys {
		if n.keys[i].key == key {
			return n.keys[i].value
		}
	}
	return nil
}

// parseYAML reads one document. The result is never nil without an error.
func parseYAML(name string, data []byte) (*node, error) {
	fail := func(line, column int, format string, args ...any) error {
		return Errors{&Error{Source: Source{name, line, column}, Message: fmt.Sprintf(format, args...)}}
	}
	if len(data) > MaxFile {
		return nil, fail(0, 0, "larger than %s", Size(MaxFile))
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if line, column, ok := validText(data); !ok {
		return nil, fail(line, column, "not UTF-8")
	}
	tokens := lexer.Tokenize(string(data))
	if err := checkTokens(tokens, fail); err != nil {
		return nil, err
	}
	file, err := parseTokens(tokens)
	if err != nil {
		// The message alone, and of it not what it quotes: that may be a secret.
		var y yaml.Error
		if !errors.As(err, &y) {
			return nil, fail(0, 0, "not YAML")
		}
		msg, _, _ := strings.Cut(y.GetMessage(), `"`)
		msg = "not YAML: " + strings.TrimRight(msg, ": ")
		if t := y.GetToken(); t != nil && t.Position != nil {
			return nil, fail(t.Position.Line, t.Position.Column, "%s", msg)
		}
		return nil, fail(0, 0, "%s", msg)
	}
	var body ast.Node
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if body != nil {
			at := d.Body.GetToken()
			if d.Start != nil {
				at = d.Start
			}
			return nil, fail(at.Position.Line, at.Position.Column, "a second document: one file is one configuration")
		}
		body = d.Body
	}
	if body == nil {
		return nil, fail(1, 1, "empty: the first line must be version: 1")
	}
	b := &builder{name: name, anchors: map[string]ast.Node{}, lines: strings.Split(string(data), "\n")}
	n, err := b.build(body, 0)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// parseTokens runs the parser. A panic in it, on text that is no YAML, is an
// error here: a configuration must never end the process.
func parseTokens(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// validText finds the first byte that is not UTF-8.
func validText(data []byte) (line, column int, ok bool) {
	line, column = 1, 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			return line, column, false
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		data = data[n:]
	}
	return 0, 0, true
}

// checkTokens refuses what the configuration does not use, and bounds the rest.
func checkTokens(tokens token.Tokens, fail func(int, int, string, ...any) error) error {
	count, depth := 0, 0
	for i, t := range tokens {
		at := func(format string, args ...any) error {
			return fail(t.Position.Line, t.Position.Column, format, args...)
		}
		if t.Type == token.CommentType {
			continue
		}
		if count++; count > maxTokens {
			return at("more than %d words", maxTokens)
		}
		indent := 0
		switch t.Type {
		case token.TagType:
			return at("a tag: types are not written here")
		case token.DirectiveType:
			return at("a directive: none is used here; quote a value that begins with %%")
		case token.MappingKeyType:
			return at("a key with ?: write key: value")
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth = max(0, depth-1)
		case token.SequenceEntryType:
			indent = t.Position.Column
		case token.MappingValueType:
			if i > 0 {
				indent = tokens[i-1].Position.Column
				if len(tokens[i-1].Value) > maxKey {
					return at("a key longer than %d bytes", maxKey)
				}
			}
		}
		if depth > maxDepth || depth == 0 && indent > maxIndent {
			return at("nested too deep")
		}
	}
	return nil
}

// builder turns the parser's tree into nodes.
type builder struct {
	name    string
	lines   []string
	anchors map[string]ast.Node
	// open are the anchors whose value is being built.
	open  []string
	nodes int
}

func (b *builder) source(t *token.Token) Source {
	if t == nil || t.Position == nil {
		return Source{Name: b.name}
	}
	return Source{b.name, t.Position.Line, t.Position.Column}
}

func (b *builder) fail(t *token.Token, format string, args ...any) error {
	return Errors{&Error{Source: b.source(t), Message: fmt.Sprintf(format, args...)}}
}

func (b *builder) build(in ast.Node, depth int) (*node, error) {
	if in == nil {
		return &node{src: Source{Name: b.name}}, nil
	}
	at := in.GetToken()
	if b.nodes++; b.nodes > maxNodes {
		return nil, b.fail(at, "more than %d values, aliases counted as what they stand for", maxNodes)
	}
	if depth > maxDepth {
		return nil, b.fail(at, "nested too deep")
	}
	out := &node{kind: scalar, src: b.source(at)}
	switch in := in.(type) {
	case *ast.NullNode:
		out.kind = null
	case *ast.StringNode:
		out.text = in.Value
		out.quoted = at.Type == token.SingleQuoteType || at.Type == token.DoubleQuoteType
		out.raw = b.spelled(at, out)
	case *ast.LiteralNode:
		out.text, out.quoted = in.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		out.text = at.Value
	case *ast.MappingNode:
		return b.mapping(out, in.Values, depth)
	case *ast.MappingValueNode:
		return b.mapping(out, []*ast.MappingValueNode{in}, depth)
	case *ast.SequenceNode:
		out.kind = sequence
		for _, v := range in.Values {
			item, err := b.build(v, depth+1)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, item)
		}
	case *ast.AnchorNode:
		name := anchorName(in.Name)
		b.anchors[name] = in.Value
		b.open = append(b.open, name)
		defer func() { b.open = b.open[:len(b.open)-1] }()
		return b.build(in.Value, depth)
	case *ast.AliasNode:
		name := anchorName(in.Value)
		for _, o := range b.open {
			if o == name {
				return nil, b.fail(at, "the alias %s stands inside what it stands for", shown(name))
			}
		}
		v, ok := b.anchors[name]
		if !ok {
			return nil, b.fail(at, "the alias %s has no anchor before it", shown(name))
		}
		b.open = append(b.open, name)
		defer func() { b.open = b.open[:len(b.open)-1] }()
		return b.build(v, depth+1)
	default:
		return nil, b.fail(at, "%s is not used here", strings.ToLower(in.Type().String()))
	}
	return out, nil
}

func anchorName(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// mapping builds a mapping, with merge keys ("<<") laid under its own keys.
func (b *builder) mapping(out *node, values []*ast.MappingValueNode, depth int) (*node, error) {
	out.kind = mapping
	var merged []entry
	seen := make(map[string]Source, len(values))
	for i, v := range values {
		at := v.Key.GetToken()
		if i == 0 {
			// A mapping in block style is where its first key is.
			out.src = b.source(at)
		}
		value, err := b.build(v.Value, depth+1)
		if err != nil {
			return nil, err
		}
		var key string
		switch k := v.Key.(type) {
		case *ast.MergeKeyNode:
			more, err := b.merge(at, value)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		case *ast.StringNode:
			key = k.Value
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
			key = at.Value
		default:
			return nil, b.fail(at, "a key must be a name")
		}
		if first, ok := seen[key]; ok {
			return nil, b.fail(at, "the key %s is written twice: also at %d:%d", shown(key), first.Line, first.Column)
		}
		seen[key] = b.source(at)
		out.keys = append(out.keys, entry{key, b.source(at), value})
	}
	for _, e := range merged {
		if _, ok := seen[e.key]; !ok {
			seen[e.key] = e.src
			out.keys = append(out.keys, e)
		}
	}
	return out, nil
}

func (b *builder) merge(at *token.Token, value *node) ([]entry, error) {
	switch value.kind {
	case mapping:
		return value.keys, nil
	case sequence:
		var all []entry
		for _, item := range value.items {
			if item.kind != mapping {
				return nil, b.fail(at, "<< takes mappings")
			}
			all = append(all, item.keys...)
		}
		return all, nil
	}
	return nil, b.fail(at, "<< takes a mapping")
}

// spelled gives a string as it is written in the file, from its first character
// on, "" when it is not known to end on its line or has a code for a character.
func (b *builder) spelled(at *token.Token, n *node) string {
	if at.Position == nil || at.Position.Line < 1 || at.Position.Line > len(b.lines) {
		return ""
	}
	line := b.lines[at.Position.Line-1]
	for k := at.Position.Column; k > 1 && line != ""; k-- {
		_, size := utf8.DecodeRuneInString(line)
		line = line[size:]
	}
	switch {
	case !n.quoted && n.text != "" && strings.HasPrefix(line, n.text):
		return n.text
	case n.quoted && singleQuoted.MatchString(line):
		return singleQuoted.FindString(line)
	case n.quoted && doubleQuoted.MatchString(line):
		return doubleQuoted.FindString(line)
	}
	return ""
}

var (
	singleQuoted = regexp.MustCompile(`^'([^']|'')*'`)
	doubleQuoted = regexp.MustCompile(`^"([^"\\]|\\[^xuUN_LP])*"`)
)

// columns gives the number of characters from the beginning of a scalar, spelled
// raw, to the byte offset of its text.
func columns(raw string, offset int) int {
	quote, n := byte(0), 0
	if len(raw) > 1 && (raw[0] == '"' || raw[0] == '\'') {
		quote, raw, n = raw[0], raw[1:len(raw)-1], 1
	}
	for offset > 0 && raw != "" {
		r, size := utf8.DecodeRuneInString(raw)
		if quote == '"' && r == '\\' || quote == '\'' && strings.HasPrefix(raw, "''") {
			raw, n, offset = raw[min(2, len(raw)):], n+2, offset-1
			continue
		}
		raw, n, offset = raw[size:], n+1, offset-size
	}
	return n
}
