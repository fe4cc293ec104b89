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
	"strconv"
	"sync"
)

// KeySize is the length of a redaction key in bytes.
const KeySize = 32

// localID is the key id of a process that was given no key.
const localID = "local"

// maxKeyFile bounds what is read of a key file, so that a wrong name (a
// device, a log) costs nothing.
const maxKeyFile = 4096

// ReadKeyFile reads a redaction key: 32 raw bytes, or the same as 64 hex
// digits or as base64, with white space around it. The error names the file
// and never holds any of its content.
func ReadKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read redaction key: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read redaction key: %w", err)
	}
	if len(data) == KeySize {
		return data, nil
	}
	text := bytes.TrimSpace(data)
	if len(text) == 2*KeySize {
		key := make([]byte, KeySize)
		if _, err := hex.Decode(key, text); err == nil {
			return key, nil
		}
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		if key, err := enc.DecodeString(string(text)); err == nil && len(key) == KeySize {
			return key, nil
		}
	}
	return nil, fmt.Errorf("read redaction key %s: want %d bytes, raw, as hex or as base64; it has %d", path, KeySize, len(data))
}

// tokens makes the text that stands in place of a secret. It is safe for
// concurrent use.
type tokens struct {
	// prefix is "~<key id>.".
	prefix string
	macs   sync.Pool
	// ordinal is set when values are numbered instead of hashed.
	ordinal *ordinals
}

func newTokens(key []byte, id string, deterministic bool) (*tokens, error) {
	t := &tokens{}
	switch {
	case key == nil && deterministic:
		id = localID
		t.ordinal = &ordinals{seen: map[[16]byte]uint64{}, most: maxOrdinals}
	case key == nil:
		id = localID
		key = make([]byte, KeySize)
		// Read never fails (Go 1.24 on); the process ends instead.
		_, _ = rand.Read(key)
	case len(key) != KeySize:
		return nil, fmt.Errorf("redact: Key: want %d bytes, have %d", KeySize, len(key))
	default:
		key = bytes.Clone(key)
		if id == "" {
			id = keyID(key)
		}
	}
	for i := 0; i < len(id); i++ {
		if c := lower(id[i]); c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return nil, fmt.Errorf("redact: KeyID: %q: only letters, digits, - and _ may stand in a key id", id)
		}
	}
	t.prefix = "~" + id + "."
	t.macs.New = func() any { return hmac.New(sha256.New, key) }
	return t, nil
}

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
// has been replaced once is not looked at again.
func (t *tokens) at(s string, i int) int {
	if len(s)-i <= len(t.prefix) || s[i:i+len(t.prefix)] != t.prefix {
		return 0
	}
	n := i + len(t.prefix)
	if t.ordinal != nil {
		for n < len(s) && '0' <= s[n] && s[n] <= '9' && n-i-len(t.prefix) < 20 {
			n++
		}
		if n == i+len(t.prefix) {
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
