package redact

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// KeySize is the length of a redaction key in bytes.
const KeySize = 32

// Key is a redaction key.
type Key struct {
	// ID names the key in what is published: letters, digits, - and _. Empty
	// means 8 hex digits that are derived from Secret.
	ID string
	// Secret is KeySize bytes.
	Secret []byte
}

// localID is the key id of a process that was given no key.
const localID = "local"

const (
	// maxKeys bounds the keys of a file.
	maxKeys = 32
	// maxKeyFile bounds what is read of a key file, so that a wrong name (a
	// device, a log) costs nothing.
	maxKeyFile = 16 << 10
)

// ReadKeyFile reads the redaction keys of a file, the newest first. A file is
// either one key of 32 raw bytes, or lines with a key each: 64 hex digits or the
// same in base64, perhaps behind an id and a space; empty lines and lines that
// begin with # are left out. The newest key is the last line, so that
// "openssl rand -hex 32 >> FILE" is a rotation. Errors name the file and the
// line and never hold any of its content.
func ReadKeyFile(path string) ([]Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read redaction key: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read redaction key: %w", err)
	case len(data) > maxKeyFile:
		return nil, fmt.Errorf("read redaction key %s: more than %d bytes", path, maxKeyFile)
	case len(data) == KeySize:
		return []Key{{Secret: data}}, nil
	}
	var keys []Key
	for n, line := range strings.Split(string(data), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		k := Key{Secret: decodeKey(words[len(words)-1])}
		if len(words) == 2 {
			k.ID = words[0]
		}
		if k.Secret == nil || len(words) > 2 {
			return nil, fmt.Errorf("read redaction key %s: line %d: want %d bytes as hex or as base64, perhaps behind an id and a space", path, n+1, KeySize)
		}
		keys = append(keys, k)
	}
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("read redaction key %s: want %d bytes, raw, as hex or as base64; it has %d", path, KeySize, len(data))
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("read redaction key %s: %d keys are more than %d: take the oldest out", path, len(keys), maxKeys)
	}
	slices.Reverse(keys)
	return keys, nil
}

// decodeKey reads a key that is spelled in hex or base64, nil for what is none.
func decodeKey(text string) []byte {
	if len(text) == 2*KeySize {
		if key, err := hex.DecodeString(text); err == nil {
			return key
		}
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		if key, err := enc.DecodeString(text); err == nil && len(key) == KeySize {
			return key
		}
	}
	return nil
}

// tokens makes the text that stands in place of a secret. It is safe for
// concurrent use.
type tokens struct {
	// prefix is "~<key id>.".
	prefix string
	// older are the prefixes of keys that were in use before.
	older []string
	macs  sync.Pool
	// ordinal is set when values are numbered instead of hashed.
	ordinal *ordinals
}

// newTokens makes tokens by the first of the keys, the newest. Without a key
// values are numbered (deterministic), or hashed with a random key.
func newTokens(keys []Key, deterministic bool) (*tokens, error) {
	t := &tokens{}
	switch {
	case len(keys) == 0 && deterministic:
		t.ordinal = &ordinals{seen: map[[16]byte]uint64{}, most: maxOrdinals}
		t.prefix = "~" + localID + "."
		return t, nil
	case len(keys) == 0:
		key := make([]byte, KeySize)
		// Read never fails (Go 1.24 on); the process ends instead.
		_, _ = rand.Read(key)
		t.prefix = "~" + localID + "."
		t.macs.New = func() any { return hmac.New(sha256.New, key) }
		return t, nil
	}
	for i, k := range keys {
		id, err := k.id()
		if err != nil {
			return nil, err
		}
		prefix := "~" + id + "."
		switch {
		case i == 0:
			key := bytes.Clone(k.Secret)
			t.prefix = prefix
			t.macs.New = func() any { return hmac.New(sha256.New, key) }
		case prefix == t.prefix || slices.Contains(t.older, prefix):
			return nil, fmt.Errorf("redact: KeyID: %q names two keys", id)
		default:
			t.older = append(t.older, prefix)
		}
	}
	return t, nil
}

// id checks a key and gives its id.
func (k *Key) id() (string, error) {
	if len(k.Secret) != KeySize {
		return "", fmt.Errorf("redact: Key: want %d bytes, have %d", KeySize, len(k.Secret))
	}
	for i := 0; i < len(k.ID); i++ {
		if c := lower(k.ID[i]); c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return "", fmt.Errorf("redact: KeyID: %q: only letters, digits, - and _ may stand in a key id", k.ID)
		}
	}
	switch {
	case k.ID == localID:
		return "", fmt.Errorf("redact: KeyID: %q is the id of processes without a key", k.ID)
	case len(k.ID) > maxKeyID:
		return "", fmt.Errorf("redact: KeyID: %d characters are more than %d", len(k.ID), maxKeyID)
	case k.ID == "":
		return keyID(k.Secret), nil
	}
	return k.ID, nil
}

// maxKeyID bounds a key's id, which stands in every redacted value.
const maxKeyID = 32

// keyID names a key without telling anything of it: another use of the key
// than every field's, because a field name never holds a zero byte.
func keyID(key []byte) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("\x00key id"))
	return hex.EncodeToString(m.Sum(nil)[:4])
}

// token replaces a value that stood under the name field. The empty value
// stays empty: there is nothing to hide but that.
func (t *tokens) token(field, value string) string {
	if value == "" {
		return ""
	}
	if t.ordinal != nil {
		return t.prefix + strconv.FormatUint(t.ordinal.of(field, value), 10)
	}
	m := t.macs.Get().(hash.Hash)
	m.Reset()
	m.Write([]byte(field))
	m.Write([]byte{0})
	m.Write([]byte(value))
	var sum [sha256.Size]byte
	m.Sum(sum[:0])
	t.macs.Put(m)
	var out [16]byte
	hex.Encode(out[:], sum[:8])
	return t.prefix + string(out[:])
}

// at says how long the token is that starts at s[i], 0 when none does. What
// has been replaced once, also by an older key, is not looked at again.
func (t *tokens) at(s string, i int) int {
	if n := t.hashed(s, i, t.prefix); n > 0 {
		return n
	}
	for _, prefix := range t.older {
		if n := t.hashed(s, i, prefix); n > 0 {
			return n
		}
	}
	return 0
}

func (t *tokens) hashed(s string, i int, prefix string) int {
	if len(s)-i <= len(prefix) || s[i:i+len(prefix)] != prefix {
		return 0
	}
	n := i + len(prefix)
	if t.ordinal != nil {
		for n < len(s) && '0' <= s[n] && s[n] <= '9' && n-i-len(prefix) < 20 {
			n++
		}
		if n == i+len(prefix) {
			return 0
		}
		return n - i
	}
	if len(s)-n < 16 {
		return 0
	}
	for end := n + 16; n < end; n++ {
		if !isHex(s[n]) {
			return 0
		}
	}
	return n - i
}

// maxOrdinals bounds the values that are remembered by number, about 10 MB.
const maxOrdinals = 1 << 18

// ordinals numbers values by their first appearance, from 1 on.
type ordinals struct {
	mu   sync.Mutex
	seen map[[16]byte]uint64
	most int
	last uint64
}

// of gives the same number to the same field and value. Beyond the most that
// are remembered a new one gets the next number each time it comes: still the
// same for the same input, no longer comparable.
func (o *ordinals) of(field, value string) uint64 {
	h := sha256.New()
	h.Write([]byte(field))
	h.Write([]byte{0})
	h.Write([]byte(value))
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	k := [16]byte(sum[:16])

	o.mu.Lock()
	defer o.mu.Unlock()
	if n, ok := o.seen[k]; ok {
		return n
	}
	o.last++
	if len(o.seen) < o.most {
		o.seen[k] = o.last
	}
	return o.last
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
