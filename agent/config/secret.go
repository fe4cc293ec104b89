package config

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Properties are properties of a Kafka client by their librdkafka names. The
// values may be secret: whatever prints the map hides those of secret names.
type Properties map[string]string

// Headers are header names and values. Whatever prints the map hides the values
// of names that carry credentials.
type Headers map[string]string

// hidden stands in place of a secret.
const hidden = "(hidden)"

// Secret says whether the value of a property or header of that name is hidden.
// It rather hides too much.
func Secret(name string) bool {
	n := strings.ToLower(name)
	for _, w := range []string{
		"password", "passwd", "passphrase", "secret", "token", "credential", "private", "jaas", "oauthbearer.config",
		"authorization", "cookie", "api-key", "apikey", "api_key", "api.key", "session", "signature", "csrf",
	} {
		if strings.Contains(n, w) {
			return true
		}
	}
	return strings.HasSuffix(n, ".pem") || strings.HasSuffix(n, "-key") || strings.HasSuffix(n, "-auth")
}

func visible(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		if Secret(k) {
			v = hidden
		}
		out[k] = v
	}
	return out
}

// Format hides secrets, whatever the verb.
func (p Properties) Format(f fmt.State, _ rune) { formatMap(f, p) }

// MarshalJSON hides secrets.
func (p Properties) MarshalJSON() ([]byte, error) { return json.Marshal(visible(p)) }

// MarshalYAML hides secrets.
func (p Properties) MarshalYAML() (any, error) { return visible(p), nil }

// Format hides secrets, whatever the verb.
func (h Headers) Format(f fmt.State, _ rune) { formatMap(f, h) }

// MarshalJSON hides secrets.
func (h Headers) MarshalJSON() ([]byte, error) { return json.Marshal(visible(h)) }

// MarshalYAML hides secrets.
func (h Headers) MarshalYAML() (any, error) { return visible(h), nil }

func formatMap(w io.Writer, m map[string]string) { fmt.Fprint(w, visible(m)) }
