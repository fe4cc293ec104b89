package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decoder puts a tree of nodes into a Config, remembers where each key was
// written, and collects mistakes rather than to stop at the first.
type decoder struct {
	report
	sources map[string]Source
	spelled map[string]string
}

// shorthand is a struct that may also be written as a plain value.
type shorthand interface {
	// long gives the mapping that the value stands for, or an error that says
	// what to write.
	long(n *node) (*node, error)
}

func (Interface) long(n *node) (*node, error) {
	return &node{kind: mapping, src: n.src, keys: []entry{{"name", n.src, n}}}, nil
}

func (Sink) long(n *node) (*node, error) {
	if n.text != "terminal" {
		return nil, fmt.Errorf("a sink has a mapping: write kafka: {...}, jsonl: {path: ...} or terminal")
	}
	empty := &node{kind: mapping, src: n.src}
	return &node{kind: mapping, src: n.src, keys: []entry{{"terminal", n.src, empty}}}, nil
}

// field is a key of a struct.
type field struct {
	key   string
	index int
	// elements says that the environment sets a list's elements one by one only.
	elements bool
}

// fields gives the keys of a struct, and the index of the map that takes all
// other keys, -1 without one.
func fields(t reflect.Type) (list []field, inline int) {
	inline = -1
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("yaml")
		switch {
		case !f.IsExported():
		case tag == ",inline":
			inline = i
		default:
			list = append(list, field{tag, i, f.Tag.Get("env") == "elements"})
		}
	}
	return list, inline
}

func keysOf(list []field) []string {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.key
	}
	return names
}

// join appends a key to a path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// value decodes n into v, which holds the default.
func (d *decoder) value(n *node, v reflect.Value, path string) {
	if path != "" {
		d.sources[path] = n.src
		if n.raw != "" {
			d.spelled[path] = n.raw
		}
	}
	if v.Kind() == reflect.Pointer {
		if n.kind == null && isText(v.Type().Elem()) {
			return
		}
		p := reflect.New(v.Type().Elem())
		if e, ok := p.Interface().(defaulter); ok {
			e.setDefaults()
		}
		d.value(n, p.Elem(), path)
		v.Set(p)
		return
	}
	if n.kind == null {
		d.nothing(n, v, path)
		return
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.kind != scalar {
			d.add(n.src, path, "is %s: write one value", n.kind)
		} else if err := u.UnmarshalText([]byte(n.text)); err != nil {
			d.add(n.src, path, "%v", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Map:
		d.properties(n, v, path)
	default:
		if n.kind != scalar {
			d.add(n.src, path, "is %s: write one value", n.kind)
			return
		}
		d.plain(n, v, path)
	}
}

// nothing decodes a key without a value: as if it were not written, where the
// default is nothing too.
func (d *decoder) nothing(n *node, v reflect.Value, path string) {
	if group := v.Kind() == reflect.Struct && !isText(v.Type()); !group && !v.IsZero() {
		d.add(n.src, path, "has no value: write one, or leave the key out for %s", text(v))
	}
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// isText says whether a type is written as one value though it may be a struct.
func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if s, ok := v.Interface().(shorthand); ok && n.kind == scalar {
		long, err := s.long(n)
		if err != nil {
			d.add(n.src, path, "%v", err)
			return
		}
		n = long
	}
	list, inline := fields(v.Type())
	if n.kind != mapping {
		d.add(n.src, path, "is %s: write a mapping with %s", n.kind, keyWords(list, inline))
		return
	}
	for _, e := range n.keys {
		i := slices.IndexFunc(list, func(f field) bool { return f.key == e.key })
		switch {
		case i >= 0:
			d.value(e.value, v.Field(list[i].index), join(path, e.key))
		case inline >= 0:
			d.property(e, v.Field(inline), path)
		default:
			d.unknown(e, list, path)
		}
	}
}

func keyWords(list []field, inline int) string {
	names := keysOf(list)
	switch {
	case len(names) == 0 && inline < 0:
		return "no keys, {}"
	case inline >= 0:
		names = append(names, "properties of the client")
	case len(names) == 1:
		return "the key " + names[0]
	}
	return "the keys " + joinWords(names, "and")
}

// unknown reports a key that does not exist, with the nearest that does; a key
// that exists elsewhere is told apart from one that is misspelt.
func (d *decoder) unknown(e entry, list []field, path string) {
	if len(d.report.list) >= maxErrors {
		d.more++
		return
	}
	d.add(e.src, path, "%s", unknownKey(e.key, path, keysOf(list)))
}

func unknownKey(key, path string, known []string) string {
	msg := "unknown key " + shown(key)
	if len(known) == 0 {
		return msg + ": no keys stand here"
	}
	near, distance := nearest(key, known)
	switch other := elsewhere(key, path); {
	case misspelt(key, distance):
		return msg + ": did you mean " + near + "?"
	case other != "":
		return msg + ": it belongs to " + other + "; here the nearest is " + near
	}
	return msg + ": the nearest is " + near + "; here stand " + joinWords(known, "and")
}

// misspelt says whether a name at that distance is probably the one meant.
func misspelt(key string, distance int) bool { return distance <= max(1, len(key)/3) }

// elsewhere gives the path of a key that is known in another place.
func elsewhere(key, path string) string {
	found := ""
	walkKeys(reflect.TypeFor[Config](), "", func(p string) {
		if i := strings.LastIndexByte(p, '.'); found == "" && p[i+1:] == key && p != join(path, key) {
			found = p
		}
	})
	return found
}

// walkKeys calls f for the path of each key, an element of a list being "[]".
func walkKeys(t reflect.Type, path string, f func(path string)) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case isText(t):
	case t.Kind() == reflect.Struct:
		list, _ := fields(t)
		for _, k := range list {
			p := join(path, k.key)
			f(p)
			walkKeys(t.Field(k.index).Type, p, f)
		}
	case t.Kind() == reflect.Slice:
		walkKeys(t.Elem(), path+"[]", f)
	}
}

func (d *decoder) list(n *node, v reflect.Value, path string) {
	if n.kind != sequence {
		d.add(n.src, path, "is %s: write a list, such as %s", n.kind, example(v.Type().Elem()))
		return
	}
	if len(n.items) == 0 {
		v.SetZero()
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		e := s.Index(i)
		if p, ok := e.Addr().Interface().(defaulter); ok {
			p.setDefaults()
		}
		at := path + "[" + strconv.Itoa(i) + "]"
		if item.kind == null {
			d.sources[at] = item.src
			d.add(item.src, at, "has no value: an element of a list needs one")
			continue
		}
		d.value(item, e, at)
	}
	v.Set(s)
}

func example(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Interface]():
		return "[eth0]"
	case t.Kind() == reflect.Struct:
		list, _ := fields(t)
		return "[{" + list[0].key + ": ...}]"
	case t.Kind() == reflect.Uint16:
		return "[8080]"
	}
	return "[a, b]"
}

// properties decodes a mapping of names that are not known here.
func (d *decoder) properties(n *node, v reflect.Value, path string) {
	if n.kind != mapping {
		d.add(n.src, path, "is %s: write a mapping of names to values", n.kind)
		return
	}
	for _, e := range n.keys {
		d.property(e, v, path)
	}
}

// property decodes one such name. Its value is in no message: it may be secret.
func (d *decoder) property(e entry, v reflect.Value, path string) {
	at := join(path, e.key)
	d.sources[at] = e.value.src
	switch {
	case e.value.kind == null:
		d.add(e.value.src, at, "has no value: write one, or leave the key out")
		return
	case e.value.kind != scalar:
		d.add(e.value.src, at, "is %s: write one value", e.value.kind)
		return
	case e.key == "":
		d.add(e.src, path, "a key without a name")
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	v.SetMapIndex(reflect.ValueOf(e.key), reflect.ValueOf(e.value.text))
}

// plain decodes a text, a whole number or a truth value.
func (d *decoder) plain(n *node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		if i := strings.IndexFunc(n.text, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			d.add(n.src, path, "has a control character or a line break")
			return
		}
		v.SetString(n.text)
	case reflect.Bool:
		switch {
		case n.quoted:
			d.add(n.src, path, "%s is text: write true or false without quotes", shown(n.text))
		case n.text == "true" || n.text == "false":
			v.SetBool(n.text == "true")
		default:
			d.add(n.src, path, "%s is neither true nor false", shown(n.text))
		}
	case reflect.Int, reflect.Uint16:
		most, what := uint64(1<<31-1), "whole number"
		if v.Kind() == reflect.Uint16 {
			most, what = 1<<16-1, "port"
		}
		i, err := strconv.ParseUint(n.text, 10, 64)
		switch {
		case n.quoted:
			d.add(n.src, path, "%s is text: write a number without quotes", shown(n.text))
		case strings.HasPrefix(n.text, "-") && digits(n.text[1:]):
			d.add(n.src, path, "%s is negative", shown(n.text))
		case !digits(n.text), len(n.text) > 1 && n.text[0] == '0':
			d.add(n.src, path, "%s is no %s: write decimal digits only", shown(n.text), what)
		case err != nil || i > most:
			d.add(n.src, path, "%s is more than %d", shown(n.text), most)
		case v.CanInt():
			v.SetInt(int64(i))
		default:
			v.SetUint(i)
		}
	default:
		panic("config: no decoder for " + v.Type().String())
	}
}

// text gives a value as it is written.
func text(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			panic("config: " + err.Error())
		}
		return string(b)
	}
	return fmt.Sprint(v.Interface())
}
