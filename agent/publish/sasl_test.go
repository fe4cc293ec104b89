package publish

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
)

// first is the first message of a SASL exchange.
func first(t *testing.T, m sasl.Mechanism) (string, error) {
	t.Helper()
	_, msg, err := m.Authenticate(t.Context(), "broker-1.example.us-east-1.amazonaws.com:9098")
	return string(msg), err
}

func TestUnsecuredToken(t *testing.T) {
	a := saslSettings{config: "principal=admin principalClaimName=azp scopeClaimName=roles scope=r1,r2 lifeSeconds=600 extension_traceId=123"}
	now := time.Unix(1_700_000_000, 0)
	auth, err := a.unsecuredToken(now)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(auth.Token, ".")
	if len(parts) != 3 || parts[2] != "" {
		t.Fatalf("token %q", auth.Token)
	}
	for i, want := range []string{`{"alg":"none"}`, `{"azp":"admin","exp":1700000600,"iat":1700000000,"roles":["r1","r2"]}`} {
		got, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || string(got) != want {
			t.Errorf("part %d: %s, %v, want %s", i, got, err, want)
		}
	}
	if fmt.Sprint(auth.Extensions) != "map[traceId:123]" {
		t.Errorf("extensions %v", auth.Extensions)
	}
	for config, want := range map[string]string{"": "principal is missing", "principal=a lifeSeconds=0": "lifeSeconds", "principal": "want name=value", "principal=a x=y": `unknown name "x"`} {
		if _, err := (&saslSettings{config: config}).unsecuredToken(now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", config, err)
		}
	}
	p, _ := read(t, map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": "principal=a"})
	if msg, err := first(t, p.s.sasl.make(nil)); err != nil || !strings.Contains(msg, "auth=Bearer eyJ") {
		t.Errorf("message %q, %v", msg, err)
	}
}

func TestOIDC(t *testing.T) {
	type request struct{ user, pass, form string }
	var got []request
	var answer string
	status := 200
	idp := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		user, pass, _ := r.BasicAuth()
		got = append(got, request{user, pass, r.PostForm.Encode()})
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	defer idp.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: idp.Certificate().Raw}))
	mechanism := func() sasl.Mechanism {
		p, w := read(t, map[string]string{
			"security.protocol": "sasl_ssl", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "id&",
			"sasl.oauthbearer.client.secret": "s3cr3t%", "sasl.oauthbearer.scope": "a b", "sasl.oauthbearer.extensions": "x=1,y=2",
			"sasl.oauthbearer.token.endpoint.url": idp.URL, "https.ca.pem": ca,
		})
		if len(w) != 0 {
			t.Errorf("warnings %q", w)
		}
		https, err := p.s.tls.https()
		if err != nil {
			t.Fatal(err)
		}
		return p.s.sasl.make(https)
	}
	answer = `{"access_token":"t0k3n","expires_in":3600,"token_type":"Bearer"}`
	m := mechanism()
	for range 3 { // the token is kept
		msg, err := first(t, m)
		if err != nil || msg != "n,,\x01auth=Bearer t0k3n\x01x=1\x01y=2\x01\x01" {
			t.Fatalf("message %q, %v", msg, err)
		}
	}
	if len(got) != 1 || got[0] != (request{"id%26", "s3cr3t%25", "grant_type=client_credentials&scope=a+b"}) {
		t.Errorf("requests %+v", got)
	}
	// One that has ended is fetched again.
	answer = `{"access_token":"t1","expires_in":"1"}`
	m = mechanism()
	if _, err := first(t, m); err != nil {
		t.Fatal(err)
	}
	until(t, "a second token", func() bool {
		answer = `{"access_token":"t2"}`
		msg, err := first(t, m)
		return err == nil && strings.Contains(msg, "t2")
	})
	for _, c := range []struct {
		status       int
		answer, want string
	}{
		{401, `{"error":"invalid_client","hint":"s3cr3t%"}`, `answered 401, "invalid_client"`},
		{500, `s3cr3t%`, "answered 500"},
		{302, ``, "answered 302"},
		{200, `s3cr3t%`, "no JSON object"},
		{200, `{}`, "no access_token"},
	} {
		status, answer = c.status, c.answer
		_, err := first(t, mechanism())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%d %s: error %v, want %q in it", c.status, c.answer, err, c.want)
		}
	}
}

func TestOIDCCancelled(t *testing.T) {
	a := saslSettings{mechanism: "OAUTHBEARER", method: "oidc", clientID: "a", clientSecret: "b", endpoint: "https://127.0.0.1:1/"}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := a.make(nil).Authenticate(ctx, "b:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestAWS(t *testing.T) {
	t.Setenv("AWS_REGION", "us-east-1")
	p, _, err := ReadProperties(map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "AWS_MSK_IAM"},
		[]string{"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=s3cr3t", "AWS_SESSION_TOKEN=sess"})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := first(t, p.s.sasl.make(nil))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal([]byte(msg), &m); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(m["x-amz-credential"], "AKIDEXAMPLE/") || m["x-amz-security-token"] != "sess" || strings.Contains(msg, "s3cr3t") {
		t.Errorf("message %s", msg)
	}
	// Given ones win.
	p, _, err = ReadProperties(map[string]string{"security.protocol": "sasl_ssl", "sasl.mechanism": "AWS_MSK_IAM", "sasl.username": "AKOTHER", "sasl.password": "x"},
		[]string{"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=s3cr3t"})
	if err != nil || p.s.sasl.username != "AKOTHER" {
		t.Errorf("%v %v", p.s.sasl.username, err)
	}
}

// The keys in testdata/keys were made by openssl pkcs8 -topk8 for this test:
// nothing else uses them.
func TestEncryptedKeys(t *testing.T) {
	for _, name := range []string{"aes256-sha256", "aes128-sha1", "des3-sha512"} {
		data := keyFile(t, name)
		if _, err := decryptKey(data, "test-password"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := decryptKey(data, "wrong"); !errors.Is(err, errWrongPassword) {
			t.Errorf("%s with a wrong password: %v", name, err)
		}
		if _, err := decryptKey(data, ""); err == nil || !strings.Contains(err.Error(), "ssl.key.password is not set") {
			t.Errorf("%s without a password: %v", name, err)
		}
	}
	for name, want := range map[string]string{"scrypt": "only PBKDF2 is read here", "pbe-sha1-3des": "only PBES2 is read here"} {
		if _, err := decryptKey(keyFile(t, name), "test-password"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"
	if _, err := decryptKey([]byte(old), "x"); err == nil || !strings.Contains(err.Error(), "openssl pkcs8 -topk8") {
		t.Errorf("old form: %v", err)
	}
}

func keyFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/keys/" + name + ".pem")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func FuzzEncryptedKey(f *testing.F) {
	for _, name := range []string{"aes256-sha256", "aes128-sha1", "des3-sha512", "scrypt", "pbe-sha1-3des"} {
		block, _ := pem.Decode(keyFile(f, name))
		f.Add(block.Bytes, "test-password")
	}
	f.Fuzz(func(t *testing.T, der []byte, password string) {
		if plain, err := decryptPKCS8(der, []byte(password)); err == nil && len(plain) == 0 {
			t.Error("no error and no key")
		}
	})
}
