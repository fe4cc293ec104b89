package config

import (
	"reflect"
	"strconv"
	"strings"
)

// later are the keys that are known but whose behaviour this version does not
// have. Away from its default such a key is refused, rather than to be silently
// without effect; an issue that adds the behaviour deletes the line. A group
// stands for all keys in it. With words only these are refused.
var later = []struct {
	path  string
	words []string
}{
	{"capture.attach", []string{"clsact"}},
	{"experiments[].replay.order", nil},
	{"sinks[].kafka.format", []string{"miffy"}},
	{"spool", nil},
}

// later refuses what this version does not have.
func (c *checker) later() {
	def := reflect.ValueOf(New()).Elem()
	for _, l := range later {
		c.descend(reflect.ValueOf(c.Config).Elem(), def, strings.Split(strings.ReplaceAll(l.path, "[]", ".[]"), "."), "", l.words)
	}
}

// descend follows a path of the table; v is the value, def its default.
func (c *checker) descend(v, def reflect.Value, rest []string, path string, words []string) {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		v = v.Elem()
		def = fresh(v.Type())
	}
	if len(rest) == 0 {
		c.differs(v, def, path, words)
		return
	}
	if rest[0] == "[]" {
		for i := range v.Len() {
			c.descend(v.Index(i), fresh(v.Type().Elem()), rest[1:], path+"["+strconv.Itoa(i)+"]", words)
		}
		return
	}
	list, _ := fields(v.Type())
	for _, f := range list {
		if f.key == rest[0] {
			c.descend(v.Field(f.index), def.Field(f.index), rest[1:], join(path, f.key), words)
			return
		}
	}
	panic("config: no key " + path + "." + rest[0])
}

// fresh gives a value of the type with its defaults.
func fresh(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if d, ok := p.Interface().(defaulter); ok {
		d.setDefaults()
	}
	return p.Elem()
}

// differs refuses v, or the keys in it, where it is not the default.
func (c *checker) differs(v, def reflect.Value, path string, words []string) {
	if v.Kind() == reflect.Struct && !isText(v.Type()) {
		list, _ := fields(v.Type())
		for _, f := range list {
			c.differs(v.Field(f.index), def.Field(f.index), join(path, f.key), words)
		}
		return
	}
	if reflect.DeepEqual(v.Interface(), def.Interface()) {
		return
	}
	for _, w := range words {
		if v.String() == w {
			c.fail(path, "%s is not in this version: leave the key out for %s", shown(w), text(def))
			return
		}
	}
	switch {
	case words != nil:
	case v.Kind() == reflect.Slice || v.Kind() == reflect.String && def.String() == "":
		c.fail(path, "not in this version: leave the key out")
	default:
		c.fail(path, "not in this version: leave the key out, which means %s", text(def))
	}
}
