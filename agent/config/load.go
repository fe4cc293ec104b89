package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
)

// FileName is the configuration that is read when none is named.
const FileName = "shadowtap.yaml"

// Options says where the configuration comes from.
type Options struct {
	// File is the configuration file. "" means the one that SHADOWTAP_CONFIG
	// names, else shadowtap.yaml if it is there, else none.
	File string
	// Env is the environment as os.Environ gives it. Nil means an empty one.
	Env []string
	// Dir is where relative names begin. "" means the working directory.
	Dir string
	// Check is called at the end of Config.Check, for what other rooms know,
	// such as conflicts between path patterns. Its error is reported with the
	// others, unless it is about a key that one of them is about; Config.Errorf
	// gives it positions. Nil means none.
	Check func(*Config) error
}

// Load reads the file, if there is one, and lays the environment over it. The
// error is Errors, or what the system says about the file. The warnings are
// those of the environment and those of Config.Warnings. Check is the caller's
// to call, when flags have been laid over the result.
func Load(o Options) (*Config, []Warning, error) {
	e := readEnv(o.Env)
	name, required := o.File, true
	switch {
	case name != "":
	case e.file != "":
		name = e.file
	default:
		name, required = FileName, false
	}
	path := name
	if o.Dir != "" && !filepath.IsAbs(path) {
		path = filepath.Join(o.Dir, path)
	}
	data, err := readFile(path)
	switch {
	case err == nil:
		return assemble(name, data, e, o.Check)
	case !required && errors.Is(err, fs.ErrNotExist):
		return assemble("", nil, e, o.Check)
	case o.File == "" && required:
		return nil, nil, fmt.Errorf("%s: %w", envFile, err)
	}
	return nil, nil, err
}

// readFile reads at most one byte more than is allowed.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}

// Parse reads a configuration as Load does; name stands in errors.
func Parse(name string, data []byte, env []string) (*Config, []Warning, error) {
	if data == nil {
		data = []byte{}
	}
	return assemble(name, data, readEnv(env), nil)
}

// ParseCompare reads the rules of one comparison: what stands under an
// experiment's compare, or a whole configuration, of which it takes the
// experiment of that name ("" is the only one). name stands in errors. Beside the
// rules it gives the configuration that knows their positions, and the path to
// them in it.
func ParseCompare(name string, data []byte, experiment string) (rules *Compare, c *Config, path string, err error) {
	root, err := parseYAML(name, data)
	switch {
	case err != nil:
		return nil, nil, "", err
	case root.kind == mapping && root.get("version") != nil:
		return compareOf(name, data, experiment)
	case experiment != "":
		return nil, nil, "", fmt.Errorf("%s has rules alone, and no experiment %s", name, shown(experiment))
	}
	c = New()
	c.sources[""] = Source{Name: name}
	rules = &Compare{}
	*rules = NewExperiment("").Compare
	d := &decoder{sources: c.sources, spelled: c.spelled}
	d.value(root, reflect.ValueOf(rules).Elem(), "")
	if err := d.err(); err != nil {
		return nil, nil, "", err
	}
	k := &checker{Config: c}
	k.compare("", rules)
	return rules, c, "", k.err()
}

// Whole says whether a file is a whole configuration, and not rules alone.
func Whole(data []byte) bool {
	root, err := parseYAML("", data)
	return err == nil && root.kind == mapping && root.get("version") != nil
}

// compareOf takes an experiment's rules from a whole configuration.
func compareOf(name string, data []byte, experiment string) (rules *Compare, c *Config, path string, err error) {
	c, _, err = Parse(name, data, nil)
	if err != nil {
		return nil, nil, "", err
	}
	names := make([]string, len(c.Experiments))
	found := -1
	for i := range c.Experiments {
		if names[i] = c.Experiments[i].Name; names[i] == experiment || experiment == "" && len(names) == 1 {
			found = i
		}
	}
	switch {
	case len(names) == 0:
		return nil, nil, "", fmt.Errorf("%s has no experiment", name)
	case found < 0 && experiment == "":
		return nil, nil, "", fmt.Errorf("%s has %d experiments: name one of %s", name, len(names), joinWords(names, "and"))
	case found < 0:
		return nil, nil, "", fmt.Errorf("%s has no experiment %s, but %s", name, shown(experiment), joinWords(names, "and"))
	}
	path = "experiments[" + strconv.Itoa(found) + "].compare."
	rules = &c.Experiments[found].Compare
	k := &checker{Config: c}
	k.compare(path, rules)
	return rules, c, path, k.err()
}

// assemble makes the configuration of a file's content, nil without a file, and
// the environment.
func assemble(name string, data []byte, e environment, check func(*Config) error) (*Config, []Warning, error) {
	c := New()
	c.env, c.check = e.kafka, check
	root := &node{kind: mapping}
	d := &decoder{sources: c.sources, spelled: c.spelled}
	if data != nil {
		c.sources[""] = Source{Name: name}
		var err error
		if root, err = parseYAML(name, data); err != nil {
			return nil, nil, err
		}
		if !d.version(root) {
			return nil, nil, d.err()
		}
	}
	// A file that is not a mapping has no keys for the environment to go to:
	// what is wrong with it is said once, by the decoder.
	if root.kind == mapping {
		var s setter
		s.apply(root, e.set)
		d.take(&s.report)
	}
	d.value(root, reflect.ValueOf(c).Elem(), "")
	if err := d.err(); err != nil {
		return nil, nil, err
	}
	c.SetInstance(c.Instance)
	return c, append(e.warning(), c.Warnings()...), nil
}

// version checks that a file begins with its version, which must be known for
// the rest to mean anything.
func (d *decoder) version(root *node) (ok bool) {
	if root.kind != mapping && root.kind != null {
		return true
	}
	v := root.get("version")
	switch {
	case v == nil:
		d.add(root.src, "version", "is missing: the first line must be version: 1")
		return true
	case v.kind == scalar && !v.quoted && digits(v.text) && v.text != "1":
		d.add(v.src, "version", "%s is not known: this program reads version 1", v.text)
		return false
	case root.keys[0].key != "version":
		for _, e := range root.keys {
			if e.key == "version" {
				d.add(e.src, "version", "must be the first key")
			}
		}
	}
	return true
}
