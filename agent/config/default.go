package config

import (
	_ "embed" // for default.yaml
	"slices"
)

//go:embed default.yaml
var defaultYAML []byte

// Default gives a configuration with every key, its default and its meaning: the
// text behind "shadowtap config default". Read, it is New. Keys of lists that are
// empty by default stand in comments. The slice is the caller's.
func Default() []byte { return slices.Clone(defaultYAML) }
