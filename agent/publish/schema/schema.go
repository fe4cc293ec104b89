// Package schema holds the JSON Schemas of published records, as they are
// documented for consumers.
package schema

import _ "embed"

//go:embed divergence.v1.json
var divergence string

// Divergence is the schema of shadowtap.divergence.v1 (JSON Schema, draft
// 2020-12).
func Divergence() string { return divergence }

//go:embed window.v1.json
var window string

// Window is the schema of shadowtap.window.v1.
func Window() string { return window }
