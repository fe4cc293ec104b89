package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

const (
	envFile   = "SHADOWTAP_CONFIG"
	envPrefix = "SHADOWTAP_"
	envKey    = "SHADOWTAP__"
	envKafka  = "KAFKA_"
)

// environment is what the process's environment says.
type environment struct {
	// file is SHADOWTAP_CONFIG, "" without it.
	file string
	// set are the variables that set a key.
	set []variable
	// ignored are names that look like ours and are not.
	ignored []string
	// kafka are the KAFKA_* variables.
	kafka []string
}

// variable sets one key.
type variable struct {
	name, value string
	// path are the parts of the name behind the prefix.
	path []string
}

func readEnv(env []string) environment {
	var e environment
	for _, s := range env {
		name, value, _ := strings.Cut(s, "=")
		switch {
		case strings.HasPrefix(name, envKafka):
			e.kafka = append(e.kafka, s)
		case name == envFile:
			e.file = value
		case !strings.HasPrefix(name, envPrefix):
		case strings.HasPrefix(name, envKey) && !injected(name, value):
			e.set = append(e.set, variable{name, value, strings.Split(name[len(envKey):], "__")})
		default:
			e.ignored = append(e.ignored, name)
		}
	}
	slices.Sort(e.ignored)
	slices.Sort(e.kafka)
	// An index goes by its number, and before a name: an element can be made by
	// index and then be meant by name.
	slices.SortStableFunc(e.set, func(a, b variable) int {
		return slices.CompareFunc(a.path, b.path, func(x, y string) int {
			i, xErr := strconv.Atoi(x)
			j, yErr := strconv.Atoi(y)
			switch {
			case xErr == nil && yErr == nil && i != j:
				return cmp.Compare(i, j)
			case (xErr == nil) != (yErr == nil):
				return cmp.Compare(bit(xErr != nil), bit(yErr != nil))
			}
			return strings.Compare(strings.ToLower(x), strings.ToLower(y))
		})
	})
	return e
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// injected says whether Kubernetes made the variable, for a service of ours or
// one whose name begins like ours.
func injected(name, value string) bool {
	return strings.Contains(name, "_SERVICE_") || strings.Contains(name, "_PORT") &&
		(strings.HasPrefix(value, "tcp://") || strings.Contains(name, "_TCP") || strings.Contains(name, "_UDP"))
}

// warning tells of the ignored variables, all in one.
func (e *environment) warning() []Warning {
	if len(e.ignored) == 0 {
		return nil
	}
	const most = 10
	names := e.ignored[:min(len(e.ignored), most)]
	msg := "ignored " + strings.Join(names, ", ")
	if more := len(e.ignored) - len(names); more > 0 {
		msg += fmt.Sprintf(" and %d more", more)
	}
	return []Warning{{Message: msg + ": a variable that sets a key begins with " + envKey + " and has __ between the levels"}}
}

// setter lays the environment over the tree of a file.
type setter struct {
	report
	// owner tells which variable set a path.
	owner map[string]string
}

func (s *setter) apply(root *node, vars []variable) {
	s.owner = map[string]string{}
	for _, v := range vars {
		s.set(v, root, reflect.TypeFor[Config](), v.path, "", false)
	}
}

func (s *setter) fail(v variable, path, format string, args ...any) {
	s.add(Source{Name: v.name}, path, format, args...)
}

// set goes down one part of the variable's path. n is the node to change, which
// may still be nothing; t is its type; path names it.
func (s *setter) set(v variable, n *node, t reflect.Type, rest []string, path string, elements bool) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if len(rest) == 0 {
		s.leaf(v, n, t, path, elements)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		s.key(v, n, t, rest, path)
	case reflect.Slice:
		s.element(v, n, t.Elem(), rest, path)
	case reflect.Map:
		s.child(v, n, t.Elem(), mapKey(n, t, rest[0]), rest[1:], path, false)
	}
}

// isValue says whether a type has nothing below it.
func isValue(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	k := t.Kind()
	return isText(t) || k != reflect.Struct && k != reflect.Slice && k != reflect.Map
}

func (s *setter) leaf(v variable, n *node, t reflect.Type, path string, elements bool) {
	if first, twice := s.owner[path]; twice {
		s.fail(v, path, "is set by %s too", first)
		return
	}
	s.owner[path] = v.name
	src := Source{Name: v.name}
	switch {
	case isText(t):
	case t.Kind() == reflect.Slice:
		switch e := t.Elem(); {
		case elements:
			s.fail(v, path, "is a list in which commas mean something: set its elements, %s__0", v.name)
			return
		case e.Kind() == reflect.Struct && !e.Implements(reflect.TypeFor[shorthand]()):
			s.fail(v, path, "is a list of groups of keys: set a key of an element, %s__0__...", v.name)
			return
		}
		*n = node{kind: sequence, src: src}
		for item := range strings.SplitSeq(v.value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				n.items = append(n.items, &node{kind: scalar, src: src, text: item})
			}
		}
		return
	case t.Kind() == reflect.Map:
		s.fail(v, path, "is a group of names: set one of them, %s__NAME", v.name)
		return
	case t.Kind() == reflect.Struct && !t.Implements(reflect.TypeFor[shorthand]()):
		msg := "takes no value"
		if list, _ := fields(t); len(list) > 0 {
			msg = "is a group of keys: set one of them, such as " + v.name + "__" + strings.ToUpper(list[0].key)
		}
		s.fail(v, path, "%s", msg)
		return
	}
	*n = node{kind: scalar, src: src, text: v.value}
}

// key goes down to a key of a struct.
func (s *setter) key(v variable, n *node, t reflect.Type, rest []string, path string) {
	list, inline := fields(t)
	i := slices.IndexFunc(list, func(f field) bool { return strings.EqualFold(f.key, rest[0]) })
	if i >= 0 {
		s.child(v, n, t.Field(list[i].index).Type, list[i].key, rest[1:], path, list[i].elements)
		return
	}
	if inline >= 0 {
		// librdkafka's names are in lower case, with dots, and have no levels.
		m := t.Field(inline).Type
		s.child(v, n, m.Elem(), mapKey(n, m, strings.ToLower(strings.Join(rest, "."))), nil, path, false)
		return
	}
	msg := unknownKey(strings.ToLower(rest[0]), path, keysOf(list))
	if near, distance := nearest(rest[0], keysOf(list)); near != "" && misspelt(rest[0], distance) {
		whole := slices.Clone(v.path)
		whole[len(whole)-len(rest)] = strings.ToUpper(near)
		msg += " (" + envKey + strings.Join(whole, "__") + ")"
	}
	s.fail(v, path, "%s", msg)
}

// child goes down to the value of a key of a mapping, and makes it when it is
// not there.
func (s *setter) child(v variable, n *node, t reflect.Type, key string, rest []string, path string, elements bool) {
	if len(rest) > 0 && isValue(t) {
		s.fail(v, join(path, key), "has no key %s: it is one value", shown(rest[0]))
		return
	}
	if !s.become(v, n, mapping, path) {
		return
	}
	c := n.get(key)
	if c == nil {
		c = &node{src: Source{Name: v.name}}
		n.keys = append(n.keys, entry{key, c.src, c})
	}
	s.set(v, c, t, rest, join(path, key), elements)
}

// become makes n what it must be to have children, if it is nothing or a
// shorthand; a mistake of the file stays for the decoder to report.
func (s *setter) become(v variable, n *node, k kind, path string) bool {
	switch n.kind {
	case k:
	case null:
		*n = node{kind: k, src: n.src}
	default:
		s.fail(v, path, "is %s where it was set before: a key below it can't be set", n.kind)
		return false
	}
	return true
}

// element goes down to an element of a list, by name or index; the index one
// behind the last makes an element.
func (s *setter) element(v variable, n *node, t reflect.Type, rest []string, path string) {
	if !s.become(v, n, sequence, path) {
		return
	}
	i, rest, err := find(n, t, rest)
	if err != nil {
		s.fail(v, path, "%v", err)
		return
	}
	here := path + "[" + strconv.Itoa(i) + "]"
	if len(rest) > 0 && isValue(t) {
		s.fail(v, here, "has no key %s: it is one value", shown(rest[0]))
		return
	}
	if i == len(n.items) {
		n.items = append(n.items, &node{src: Source{Name: v.name}})
		// What could not be set leaves no element behind.
		defer func() {
			if n.items[i].kind == null {
				n.items = n.items[:i]
			}
		}()
	}
	item := n.items[i]
	if item.kind == scalar && len(rest) > 0 {
		if short, ok := reflect.Zero(t).Interface().(shorthand); ok {
			if long, err := short.long(item); err == nil {
				// A copy: long's mapping has the node itself as a value.
				was := *item
				for k := range long.keys {
					if long.keys[k].value == item {
						long.keys[k].value = &was
					}
				}
				*item = *long
			}
		}
	}
	s.set(v, item, t, rest, here, false)
}

// find gives the index of the element that a part of a variable's name means,
// and the parts behind it.
func find(n *node, t reflect.Type, rest []string) (int, []string, error) {
	part, rest := rest[0], rest[1:]
	found := -1
	var names []string
	for i, item := range n.items {
		name := elementName(t, item)
		if name == "" {
			continue
		}
		names = append(names, name)
		if !sameName(name, part) {
			continue
		}
		if found >= 0 {
			return 0, nil, fmt.Errorf("%s means element %d and element %d: use the index", shown(part), found, i)
		}
		found = i
	}
	switch i, err := strconv.Atoi(part); {
	case found >= 0:
		// The kind of a sink is its name and a key of it too.
		if t == reflect.TypeFor[Sink]() && (len(rest) == 0 || !sameName(part, rest[0])) {
			rest = append([]string{part}, rest...)
		}
		return found, rest, nil
	case err == nil && digits(part) && i <= len(n.items):
		return i, rest, nil
	case err == nil && digits(part):
		return 0, nil, fmt.Errorf("has %d elements: the next index is %d", len(n.items), len(n.items))
	case len(names) == 0:
		return 0, nil, fmt.Errorf("has no element %s: use an index, from 0", shown(part))
	}
	near, _ := nearest(part, names)
	return 0, nil, fmt.Errorf("has no element %s: the nearest is %s", shown(part), shown(near))
}

// elementName gives the name by which the environment means an element of a
// list, "" without one.
func elementName(t reflect.Type, n *node) string {
	switch {
	case t == reflect.TypeFor[Sink]() && n.kind == mapping && len(n.keys) == 1:
		return n.keys[0].key
	case n.kind == scalar && t.Implements(reflect.TypeFor[shorthand]()):
		return n.text
	case n.kind == mapping && t.Kind() == reflect.Struct:
		if name := n.get("name"); name != nil && name.kind == scalar {
			return name.text
		}
	}
	return ""
}

// sameName compares without regard to case; an underscore stands for what a
// variable's name can't hold.
func sameName(name, part string) bool {
	fold := strings.NewReplacer("-", "_", ".", "_")
	return strings.EqualFold(fold.Replace(name), fold.Replace(part))
}

// mapKey gives the key of a map that a part of a variable's name means: one
// that is there, else the part with what underscores stand for.
func mapKey(n *node, t reflect.Type, part string) string {
	for _, e := range n.keys {
		if sameName(e.key, part) {
			return e.key
		}
	}
	if t == reflect.TypeFor[Properties]() {
		return strings.ReplaceAll(part, "_", ".")
	}
	return strings.ReplaceAll(part, "_", "-")
}
