package redact

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// testKey is the bytes 0 to 31.
func testKey() []byte {
	k := make([]byte, KeySize)
	for i := range k {
		k[i] = byte(i)
	}
	return k
}

// newRedactor makes one with testKey, named k.
func newRedactor(t testing.TB, c Config) *Redactor {
	t.Helper()
	if c.Key == nil && !c.Deterministic {
		c.Key, c.KeyID = testKey(), "k"
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The vectors were computed with Python's hmac module.
func TestTokenVectors(t *testing.T) {
	r := newRedactor(t, Config{})
	for _, c := range []struct{ field, value, want string }{
		{"authorization", "Bearer abc", "~k.2cf7e9fc8c39203e"},
		{"token", "abc", "~k.5d825ded678582ec"},
		{"token", "", ""},
	} {
		if got := r.tokens.Load().token(c.field, c.value); got != c.want {
			t.Errorf("token(%q, %q) = %q, want %q", c.field, c.value, got, c.want)
		}
	}
	r, err := New(Config{Key: testKey()})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.KeyID(); got != "aef56eed" {
		t.Errorf("derived key id %q, want aef56eed", got)
	}
}

func TestKeyIsCopied(t *testing.T) {
	key := testKey()
	r := newRedactor(t, Config{Key: key, KeyID: "k"})
	clear(key)
	if got := r.tokens.Load().token("token", "abc"); got != "~k.5d825ded678582ec" {
		t.Errorf("after the caller wiped its key: %q", got)
	}
}

func TestLocalKey(t *testing.T) {
	a, b := newLocal(t), newLocal(t)
	ta, tb := a.tokens.Load().token("token", "abc"), b.tokens.Load().token("token", "abc")
	if !strings.HasPrefix(ta, "~local.") || len(ta) != len("~local.")+16 {
		t.Errorf("token %q: want ~local. and 16 hex digits", ta)
	}
	if ta == tb {
		t.Errorf("two processes' random keys give the same token %q", ta)
	}
	if ta != a.tokens.Load().token("token", "abc") {
		t.Error("one process gives two tokens for one value")
	}
	if a.Warning() == "" || !strings.Contains(a.Warning(), "key_file") {
		t.Errorf("warning %q does not name key_file", a.Warning())
	}
	if w := newRedactor(t, Config{}).Warning(); w != "" {
		t.Errorf("warning %q with a key", w)
	}
}

func newLocal(t *testing.T) *Redactor {
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOrdinals(t *testing.T) {
	r := newRedactor(t, Config{Deterministic: true})
	got := []string{}
	for _, v := range []string{"a", "b", "a", "c", "b"} {
		got = append(got, r.tokens.Load().token("f", v))
	}
	got = append(got, r.tokens.Load().token("g", "a"))
	if want := "[~local.1 ~local.2 ~local.1 ~local.3 ~local.2 ~local.4]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if w := r.Warning(); w != "" {
		t.Errorf("warning %q: no key is what pcap and report are for", w)
	}
	// With a key, deterministic or not, values are hashed.
	r = newRedactor(t, Config{Deterministic: true, Key: testKey(), KeyID: "k"})
	if got := r.tokens.Load().token("token", "abc"); got != "~k.5d825ded678582ec" {
		t.Errorf("deterministic with a key: %q", got)
	}
}

func TestOrdinalsAreBounded(t *testing.T) {
	const most = 100
	o := &ordinals{seen: map[[16]byte]uint64{}, most: most}
	for i := range most + 10 {
		if got := o.of("f", fmt.Sprint(i)); got != uint64(i)+1 {
			t.Fatalf("value %d has number %d", i, got)
		}
	}
	if len(o.seen) != most {
		t.Errorf("%d values remembered, want %d", len(o.seen), most)
	}
	if got := o.of("f", "3"); got != 4 {
		t.Errorf("a remembered value has number %d, want 4", got)
	}
	if got := o.of("f", fmt.Sprint(most+1)); got != most+11 {
		t.Errorf("a value beyond the bound has number %d, want the next", got)
	}
	if r := newRedactor(t, Config{Deterministic: true}); r.tokens.Load().ordinal.most != maxOrdinals {
		t.Errorf("a Redactor remembers %d", r.tokens.Load().ordinal.most)
	}
}

func TestReadKeyFile(t *testing.T) {
	key := testKey()
	raw := string(key)
	good := map[string]string{
		"raw":       raw,
		"hex":       hex.EncodeToString(key),
		"hex+lf":    strings.ToUpper(hex.EncodeToString(key)) + "\n",
		"base64":    base64.StdEncoding.EncodeToString(key) + "\n",
		"base64url": base64.RawURLEncoding.EncodeToString(key),
	}
	dir := t.TempDir()
	for name, content := range good {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadKeyFile(path); err != nil || len(got) != 1 || string(got[0].Secret) != raw {
			t.Errorf("%s: key %x, error %v", name, got, err)
		}
	}
	for name, content := range map[string]string{
		"comments": "# nothing\n\n", "three words": "a b " + hex.EncodeToString(key), "second line": hex.EncodeToString(key) + "\nkey two\n",
		"many":  strings.Repeat(hex.EncodeToString(key)+"\n", maxKeys+1),
		"empty": "", "short": raw[:31], "long": raw + "x", "words": "correct horse battery staple, says a long sentence", "huge": strings.Repeat("a", 1<<20),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadKeyFile(path)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		if !strings.Contains(err.Error(), path) || len(content) > 8 && strings.Contains(err.Error(), content[:8]) {
			t.Errorf("%s: error %q: want the file's name and none of its content", name, err)
		}
	}
	if _, err := ReadKeyFile(filepath.Join(dir, "none")); err == nil || !os.IsNotExist(unwrap(err)) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := ReadKeyFile(dir); err == nil {
		t.Error("a folder was read as a key")
	}
}

func unwrap(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		if _, ok := err.(*os.PathError); ok {
			return err
		}
		err = u.Unwrap()
	}
}

// The last line of a file is the newest key and comes first.
func TestReadKeyFileWithSeveralKeys(t *testing.T) {
	old, next := testKey(), []byte(strings.Repeat("n", KeySize))
	path := filepath.Join(t.TempDir(), "keys")
	content := "# redaction keys\n" + hex.EncodeToString(old) + "\n\n 2026-11\t" + base64.StdEncoding.EncodeToString(next) + "\r\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadKeyFile(path)
	if want := []Key{{"2026-11", next}, {"", old}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, error %v, want %v", got, err, want)
	}
}

// After a rotation the new key hashes, and what the old one has replaced stays as
// it is.
func TestRotation(t *testing.T) {
	old, next := Key{"old", testKey()}, Key{"new", []byte(strings.Repeat("n", KeySize))}
	r := newRedactor(t, Config{Key: old.Secret, KeyID: old.ID, Patterns: []string{`[0-9a-f]{16}`}})
	before := r.Text("mail ada@example.com")
	if !strings.HasPrefix(before, "mail ~old.") {
		t.Fatalf("before: %q", before)
	}
	if err := r.SetKeys([]Key{next, old}); err != nil {
		t.Fatal(err)
	}
	if id := r.KeyID(); id != "new" {
		t.Errorf("key id %q, want new", id)
	}
	if got := r.Text(before); got != before {
		t.Errorf("the old key's token was replaced again: %q is %q", before, got)
	}
	if got := r.Text("token=" + strings.TrimPrefix(before, "mail ")); got != "token="+strings.TrimPrefix(before, "mail ") {
		t.Errorf("the old key's token was replaced again by its name: %q", got)
	}
	if got := r.Text("mail ada@example.com"); !strings.HasPrefix(got, "mail ~new.") || got[len("mail ~new."):] == before[len("mail ~old."):] {
		t.Errorf("after: %q, before: %q", got, before)
	}
	// A key that is gone from the file is a text like any other.
	if err := r.SetKeys([]Key{next}); err != nil {
		t.Fatal(err)
	}
	if got := r.Text(before); strings.Contains(got, before[len("mail ~old."):]) {
		t.Errorf("the token of a key that is not known was kept: %q", got)
	}
	for name, keys := range map[string][]Key{
		"none": nil, "short": {{"x", make([]byte, 8)}}, "twice": {next, {"new", testKey()}}, "local": {{"local", testKey()}},
		"bad old": {next, {"a.b", testKey()}}, "long id": {{strings.Repeat("x", 33), testKey()}},
	} {
		if err := r.SetKeys(keys); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if id := r.KeyID(); id != "new" {
		t.Errorf("after refused keys: key id %q, want new", id)
	}
}

// A record is made with one key, whatever happens to the file meanwhile.
func TestRotationWithinARecord(t *testing.T) {
	a, b := Key{"a", testKey()}, Key{"b", []byte(strings.Repeat("b", KeySize))}
	r := newRedactor(t, Config{Key: a.Secret, KeyID: a.ID})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := r.SetKeys([][]Key{{b, a}, {a, b}}[i%2]); err != nil {
				t.Error(err)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 30 {
		in := compared(t, newInput())
		for i := range 300 {
			in.Exchange.Request.Header = append(in.Exchange.Request.Header, exchange.Field{Name: "Cookie", Value: fmt.Sprintf("sid=f00dcafe%04d", i)})
		}
		got := string(r.Record(in).JSON())
		if strings.Contains(got, "~a.") == strings.Contains(got, "~b.") {
			t.Fatalf("a record with both keys or none: %.2000s", got)
		}
	}
}

func TestNewNamesTheField(t *testing.T) {
	for _, c := range []struct {
		name string
		c    Config
		want string
	}{
		{"key length", Config{Key: make([]byte, 16)}, "Key: want 32 bytes, have 16"},
		{"older without key", Config{Older: []Key{{Secret: testKey()}}}, "Older: there is no Key"},
		{"older", Config{Key: testKey(), Older: []Key{{Secret: testKey()}}}, "names two keys"},
		{"key id", Config{Key: testKey(), KeyID: "a.b"}, "KeyID"},
		{"mode", Config{Values: 9}, "Values"},
		{"value", Config{MaxValue: 3}, "MaxValue"},
		{"record", Config{MaxRecord: 100}, "MaxRecord"},
		{"header", Config{Headers: []string{"x-ok", " "}}, "headers[1]"},
		{"query", Config{Query: []string{"*"}}, "query[0]"},
		{"json key", Config{JSON: []string{"!"}}, "json[0]"},
		{"json path", Config{JSON: []string{"ok", "$.a[1:2]"}}, `json[1]: "$.a[1:2]" at byte 5`},
		{"json path quote", Config{JSON: []string{"$['a"}}, `at byte 3: unclosed '`},
		{"json root", Config{JSON: []string{"$"}}, "names the whole body"},
		{"json name", Config{JSON: []string{"$.a..x."}}, "at byte 8: a name or * is missing"},
		{"pattern", Config{Patterns: []string{"ok", "a(b[c"}}, `patterns[1]: "a(b[c" at byte 4: missing closing ]`},
		{"pattern empty", Config{Patterns: []string{"a*"}}, "matches the empty text"},
	} {
		_, err := New(c.c)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q in it", c.name, err, c.want)
		}
	}
}

func TestParseMode(t *testing.T) {
	for s, want := range map[string]Mode{"": Differences, "differences": Differences, "full": Full, "digests": Digests} {
		if m, err := ParseMode(s); err != nil || m != want {
			t.Errorf("%q: %v, %v", s, m, err)
		}
	}
	if _, err := ParseMode("all"); err == nil || !strings.Contains(err.Error(), "digests") {
		t.Errorf("all: error %v names no choices", err)
	}
}
