//go:build e2e

package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/kafka"
	"github.com/shadowtap/shadowtap/agent/telemetry"
	"github.com/shadowtap/shadowtap/agent/telemetry/admin"
)

// The planted secrets. Each is found nowhere else, so that one hit tells where
// it got out.
const (
	secretPath        = "PATHq8Zk2Lw9Xt4Vb7Nm"
	secretQuery       = "QUERYh3Jr6Yd1Sp5Gc8Ku"
	secretPassword    = "FORMw7Tn4Mb9Xz2Qk6Lp"
	secretHeader      = "HEADERr5Vc8Hj3Df1Zs7Bn"
	secretKey         = "KEYm2Qx9Wl4Pk7Ry3Tg6"
	secretCookie      = "COOKIEb6Nf1Jd8Su5Cv2Ha"
	secretReferer     = "REFERERz4Ge7Lk9Mo3Wq1Ix"
	secretSetCookie   = "SETCOOKIEc9Up2Yt6Rb4Kn8Ed"
	secretOtherCookie = "OTHERCOOKIEv3Fh7Aj1Zm5Xw"
	secretInBody      = "BODYk8Sd4Gq2Nc6Lr9Vt"
	secretInOther     = "OTHERBODYp1Mw5Bx7Hz3Ju"
	secretNested      = "NESTEDt6Ky2Ef8Wa4Qo9Ci"
	secretParam       = "PARAMn7Rd2Yb5Kt8Wc3Fj"  // of the path, marked by the configuration
	secretLocation    = "LOCATIONg4Hs9Px1Mz6Qv3" // in the same place of another path
	secretRedirect    = "REDIRECTu5Bk2Tn8Ld7Ye4"
	secretUnparsed    = "UNPARSEDs3Vg6Jq9Rf1Xm8" // in JSON that breaks off
	secretLine        = "LINEd8Cz5Ww2Hb7Np4Ta"   // in a head that is none
	secretMail        = "someone.secretive@mail.example"
	secretJWT         = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJTRUNSRVRpbkpXVCJ9.c2lnbmF0dXJlLXNlY3JldC1odw"
)

// secretBody is nginx's answer below /secret/, secretOtherBody the candidate's.
var (
	secretBody = `{"plain":"visible","password":"` + secretInBody + `","user":{"api_key":"` + secretNested + `"},"note":"write to ` +
		secretMail + `","free":"bearer ` + secretJWT + `"}`
	secretOtherBody = `{"plain":"different","password":"` + secretInOther + `","user":{"api_key":"` + secretNested + `x","` + secretPath + `":1},"note":"or to ` +
		secretMail + `","free":"no bearer ` + secretJWT + `"}`
)

var secrets = []string{
	secretPath, secretParam, secretLocation, secretRedirect, secretUnparsed, secretLine, secretQuery, secretPassword, secretHeader, secretKey, secretCookie, secretReferer, secretSetCookie,
	secretOtherCookie, secretInBody, secretInOther, secretNested, secretMail, secretJWT,
	// The JWT's claims, in case that it was decoded.
	"SECRETinJWT",
}

// answerSecretly is the candidate's answer below /secret/: with other secrets
// than nginx's, and for how=1, 2, ... with bytes at which a reader stops.
func answerSecretly(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Query().Get("how") {
	case "1": // the JSON breaks off behind a secret's name
		io.WriteString(w, `{"plain":"different","token":"`+secretUnparsed)
	case "2": // no HTTP
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Api-Key "+secretLine+"\r\n\r\n")
	case "3": // a status line that is none
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer c.Close()
		io.WriteString(c, "password="+secretLine+"\r\n\r\n")
	default:
		w.Header().Set("Location", "https://app.example/secret/"+secretLocation+"/"+secretLocation+"x?access_token="+secretRedirect)
		io.WriteString(w, secretOtherBody+"\n")
	}
}

// forms are the spellings in which a secret would still be one.
func forms(secret string) map[string]string {
	return map[string]string{
		"as it is":     secret,
		"hex":          hex.EncodeToString([]byte(secret)),
		"percent":      url.QueryEscape(secret),
		"base64 inner": strings.Trim(base64.StdEncoding.EncodeToString([]byte(secret))[:len(secret)/3*4], "="),
		"its middle":   secret[len(secret)/4 : len(secret)*3/4],
	}
}

// TestSecretsStayOnTheNode plants secrets wherever traffic has them and looks
// for them in everything that the agent lets out.
func TestSecretsStayOnTheNode(t *testing.T) {
	s := newStage(t)
	broker := kafka.Start(t, kafka.Config{Namespace: s.node})
	startNginx(t, s)
	cand := startCandidate(t, s)
	lines := filepath.Join(t.TempDir(), "divergences.jsonl")
	a := startAgent(t, s, settings{
		candidate: candidateURL, logLevel: "debug",
		// The default list of what is not replayed has requests with tokens.
		exclude: `["!defaults"]`,
		routes:  `[{path: "/secret/{token}/{code}", key: "{token} {code}", secret: [code]}]`,
		publish: "{values: full, per_fingerprint: 1000000}",
		sinks:   fmt.Sprintf(`[{kafka: {topic: %s, bootstrap.servers: %q}}, {jsonl: {path: %q}}, {terminal: {}}]`, topic, broker.Addr, lines),
	})
	const count = 20
	result := load{from: s.client, workers: 2, rate: 100, count: count, request: func(i int) request {
		return request{
			method: http.MethodGet,
			path:   "/secret/" + secretPath + "/" + secretParam + "?how=" + strconv.Itoa(i%5) + "&access_token=" + secretQuery + "&password=" + secretPassword + "&plain=visible",
			header: http.Header{
				"Authorization": {"Bearer " + secretHeader},
				"X-Api-Key":     {secretKey},
				"Cookie":        {"session=" + secretCookie + "; theme=dark"},
				"Referer":       {"https://example.com/login?token=" + secretReferer},
			},
		}
	}}.start(t).wait()
	result.requireNoFailure(t, "with secrets")

	status := a.rest(t, 30*time.Second, func(l telemetry.Ledger) (bool, string) {
		got := l["deliveries"]["acknowledged"]
		return got == 3*count, fmt.Sprintf("%d records of %d acknowledged", got, 3*count)
	})
	requireBalance(t, status)

	// The candidate did get them: what is tested is not that they were lost
	// on the way.
	asked := cand.requests()
	if len(asked) < count { // a broken answer may be asked for once more
		t.Fatalf("the candidate was asked %d times, want %d", len(asked), count)
	}
	r := asked[0]
	for name, ok := range map[string]bool{
		"path":          strings.Contains(r.URL.Path, secretPath),
		"query":         r.URL.Query().Get("access_token") == secretQuery,
		"authorization": r.Header.Get("Authorization") == "Bearer "+secretHeader,
		"cookie":        strings.Contains(r.Header.Get("Cookie"), secretCookie),
	} {
		if !ok {
			t.Errorf("the candidate did not get the %s as it was captured", name)
		}
	}

	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", a.process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("a core dump may be written:\n%s", limits)
	}

	texts := map[string]string{}
	statusText, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	texts["status"] = string(statusText)
	for _, path := range []string{"/metrics", "/healthz?verbose", "/readyz?verbose", "/livez?verbose"} {
		_, texts[path] = a.get(t, path)
	}
	a.stop(t)
	texts["terminal"], texts["log"] = a.process.Output()
	own := filepath.Join(admin.Root, a.instance)
	if err := filepath.WalkDir(own, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		texts[own] += path + " " + string(text) + "\n"
		return err
	}); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(lines)
	if err != nil {
		t.Fatal(err)
	}
	texts["JSON lines"] = string(file)
	for name, form := range map[string]string{"report": "--json=false", "report, JSON": "--json", "report, HTML": "--html"} {
		texts[name] = s.node.Run(t, time.Minute, program, "report", form, lines)
	}
	for _, m := range broker.Read(t, topic, count, 30*time.Second) {
		texts["Kafka"] += m.Key + "\n" + fmt.Sprint(m.Headers) + "\n" + m.Payload + "\n"
	}
	texts["Kafka, raw"] = broker.Raw(t, topic)
	texts["Kafka, windows"] = broker.Raw(t, windowsTopic)

	// What is no secret is there: the places that are searched are not empty.
	for _, place := range []string{"JSON lines", "Kafka", "Kafka, raw", "terminal", "report", "report, JSON", "report, HTML"} {
		if !strings.Contains(texts[place], "different") {
			t.Errorf("%s does not have the harmless difference:\n%.2000s", place, texts[place])
		}
	}
	for place, text := range texts {
		if text == "" {
			t.Errorf("%s is empty", place)
		}
		low := strings.ToLower(text)
		for _, secret := range secrets {
			for form, spelling := range forms(secret) {
				if i := strings.Index(low, strings.ToLower(spelling)); i >= 0 {
					t.Errorf("%s has the secret %s (%s): …%s…", place, secret, form, text[max(0, i-60):min(len(text), i+60)])
				}
			}
		}
	}
	// The ways in which the candidate broke off are there.
	for _, want := range []string{"protocol", "JSON"} {
		if !strings.Contains(texts["Kafka"], want) {
			t.Errorf("no record says %s", want)
		}
	}
	// Where a secret stood, its token stands: equal secrets can still be told.
	if n := strings.Count(texts["Kafka"], "~local."); n < count*8 {
		t.Errorf("only %d tokens in %d records", n, count)
	}
}
