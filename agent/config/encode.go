package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// String gives the effective configuration as YAML that Parse reads, without
// secrets: every key, and "(hidden)" where a secret stands.
func (c *Config) String() string {
	var b strings.Builder
	writeStruct(&b, reflect.ValueOf(c).Elem(), "", "")
	return b.String()
}

// Revision names the effective configuration: the first 16 hex digits of the
// SHA-256 of its text without secrets. It does not change with where or in
// which order the keys were written, nor with a secret.
func (c *Config) Revision() string {
	sum := sha256.Sum256([]byte(c.String()))
	return hex.EncodeToString(sum[:8])
}

// Format writes String, whatever the verb, so that no print shows a secret.
func (c Config) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// Format hides secrets, whatever the verb: fmt does not ask the properties
// behind a pointer when the verb is none for it.
func (k Kafka) Format(f fmt.State, _ rune) {
	var b strings.Builder
	writeStruct(&b, reflect.ValueOf(k), "", "")
	fmt.Fprint(f, strings.TrimSuffix(b.String(), "\n"))
}

// writeStruct writes the keys of a struct, the first after lead and the others
// after indent.
func writeStruct(b *strings.Builder, v reflect.Value, lead, indent string) {
	list, inline := fields(v.Type())
	for _, f := range list {
		if writeKey(b, f.key, v.Field(f.index), lead, indent) {
			lead = indent
		}
	}
	if inline < 0 {
		return
	}
	m := visible(v.Field(inline).Convert(reflect.TypeFor[map[string]string]()).Interface().(map[string]string))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b.WriteString(lead + quoted(k) + ": " + quoted(m[k]) + "\n")
		lead = indent
	}
}

// writeKey writes a key and its value. It writes nothing for a pointer to
// nothing, and says so.
func writeKey(b *strings.Builder, key string, v reflect.Value, lead, indent string) bool {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return false
		}
		v = v.Elem()
	}
	b.WriteString(lead + key + ":")
	group := v.Kind() == reflect.Struct && !isText(v.Type())
	switch {
	case group && v.NumField() == 0:
		b.WriteString(" {}\n")
	case group:
		b.WriteString("\n")
		writeStruct(b, v, indent+"  ", indent+"  ")
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct:
		b.WriteString("\n")
		for i := range v.Len() {
			writeStruct(b, v.Index(i), indent+"  - ", indent+"    ")
		}
	case v.Kind() == reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = plainText(v.Index(i))
		}
		b.WriteString(" [" + strings.Join(items, ", ") + "]\n")
	case v.Kind() == reflect.Map:
		m := visible(v.Convert(reflect.TypeFor[map[string]string]()).Interface().(map[string]string))
		items := make([]string, 0, len(m))
		for _, k := range slices.Sorted(maps.Keys(m)) {
			items = append(items, quoted(k)+": "+quoted(m[k]))
		}
		b.WriteString(" {" + strings.Join(items, ", ") + "}\n")
	default:
		b.WriteString(" " + plainText(v) + "\n")
	}
	return true
}

// plainText writes one value.
func plainText(v reflect.Value) string {
	s := text(v)
	if k := v.Kind(); !isText(v.Type()) && (k == reflect.Bool || v.CanInt() || v.CanUint()) {
		return s
	}
	return quoted(s)
}

// bare is text that needs no quotes wherever it stands.
var bare = regexp.MustCompile(`^[A-Za-z0-9_/][A-Za-z0-9_./%-]*$`)

// quoted writes a text so that YAML reads it as it is.
func quoted(s string) string {
	if bare.MatchString(s) && !strings.EqualFold(s, "null") && s != "---" {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
