package publish

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/agent/redact"
	"github.com/shadowtap/shadowtap/diff"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// plant puts secrets into every place of a pair that a capture can put them,
// and returns them.
func plant(rt *rapid.T, p *pair) []string {
	n := 0
	var planted []string
	secret := func() string {
		n++
		s := fmt.Sprintf("S%d", n) + rapid.StringOfN(rapid.RuneFrom([]rune("abcXYZ0123456789-_.+/ é\"&<%")), 8, 24, -1).Draw(rt, "secret") + "Z"
		planted = append(planted, s)
		return s
	}
	email := func() string {
		n++
		s := fmt.Sprintf("user%d.%s@mail.example.com", n, rapid.StringOfN(rapid.RuneFrom([]rune("abc123")), 1, 8, -1).Draw(rt, "email"))
		planted = append(planted, s)
		return s
	}
	jsonText := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			rt.Fatal(err)
		}
		return string(b)
	}
	x := p.in.Exchange
	pathSecret, querySecret := secret(), secret()
	p.in.Route, p.in.Key = "/reset/{token}/{who}", "{token} {who} {route}"
	who := email()
	p.in.Params = []redact.Param{{Name: "token", Value: url.PathEscape(pathSecret)}, {Name: "who", Value: url.PathEscape(who)}}
	x.Request.Target = "/reset/" + url.PathEscape(pathSecret) + "/" + url.PathEscape(who) + "?q=1&access_token=" + url.QueryEscape(querySecret) + "&mail=" + url.QueryEscape(email())
	password, bearer, cookie, apiKey := secret(), secret(), secret(), secret()
	x.Request.Header = append(x.Request.Header,
		exchange.Field{Name: "Authorization", Value: "Basic " + base64.StdEncoding.EncodeToString([]byte("bob:"+password))},
		exchange.Field{Name: "Proxy-Authorization", Value: "Bearer " + bearer},
		exchange.Field{Name: "Cookie", Value: "lang=en; sid=" + strings.ReplaceAll(cookie, ";", "")},
		exchange.Field{Name: "X-Api-Key", Value: apiKey},
		exchange.Field{Name: "Referer", Value: "https://shop/cart?session=" + url.QueryEscape(secret()) + "&x=" + url.QueryEscape(querySecret) + "#" + url.PathEscape(pathSecret)},
	)
	bodySecret := secret()
	ref := `{"id":42,"password":` + jsonText(bodySecret) + `,"nested":[{"secrets":[` + jsonText(secret()) + `]}],"mail":` + jsonText(email()) + `,"echo":` + jsonText("again "+bodySecret+" and "+cookie) + `,"card":"4111 1111 1111 1111","differs":` + jsonText("ref "+password) + `}`
	cand := `{"id":42,"password":` + jsonText(secret()) + `,"nested":[{"secrets":[` + jsonText(secret()) + `]}],"mail":` + jsonText(email()) + `,"echo":` + jsonText(apiKey) + `,"card":"5555-5555-5555-4444","differs":` + jsonText("cand "+password) + `}`
	planted = append(planted, "4111 1111 1111 1111", "5555-5555-5555-4444")
	x.Response.Body, p.in.Candidate.Response.Body = body(ref), body(cand)
	setCookie := "sid=" + strings.NewReplacer(";", "", `"`, "").Replace(secret()) + "; Path=/"
	planted[len(planted)-1] = strings.TrimSuffix(strings.TrimPrefix(setCookie, "sid="), "; Path=/")
	p.in.Candidate.Response.Header = append(p.in.Candidate.Response.Header,
		exchange.Field{Name: "Set-Cookie", Value: setCookie},
		exchange.Field{Name: "Location", Value: "https://u:" + "pw-hidden" + "@host/cb?token=" + url.QueryEscape(secret())},
		exchange.Field{Name: "X-Debug", Value: "your key is " + apiKey},
	)
	planted = append(planted, "u:pw-hidden")
	p.in.Candidate.Detail = "parse body: invalid character in string " + jsonText(bodySecret) + " of " + who + "; Authorization: Bearer " + bearer + "\nGET ?access_token=" + url.QueryEscape(querySecret)
	p.in.TraceID = "trace of " + who
	return planted
}

// spellings are the forms in which a reader would find a secret.
func spellings(s string) []string {
	j, _ := json.Marshal(s)
	inner := strings.Trim(string(j), `"`)
	jj, _ := json.Marshal(inner)
	out := []string{s, url.QueryEscape(s), url.PathEscape(s), inner, strings.Trim(string(jj), `"`), html.EscapeString(s), base64.StdEncoding.EncodeToString([]byte(s))}
	return out
}

// Secrets planted in path, query, headers, cookies, JSON keys and values,
// Referer, Location, error texts and the Kafka key are in no record, in no
// message's key or headers, on no terminal, in no file and in no log.
func TestPlantedSecrets(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPair()
		planted := plant(rt, p)
		rules, err := diff.Compile(diff.RuleConfig{})
		if err != nil {
			rt.Fatal(err)
		}
		p.in.PublishWeight = 1
		p.in.Result = rules.Compare(p.in.Exchange.Request, p.in.Exchange.Response, p.in.Candidate.Response, diff.Input{})
		if len(p.in.Result.Differences) < 5 {
			rt.Fatalf("only %d differences", len(p.in.Result.Differences))
		}
		for _, mode := range []redact.Mode{redact.Differences, redact.Full, redact.Digests} {
			for _, deterministic := range []bool{false, true} {
				rec := redactor(t, redact.Config{Values: mode, Deterministic: deterministic}).Record(&p.in)
				var all strings.Builder
				all.Write(rec.JSON())
				all.WriteByte('\n')
				all.Write(rec.Key())
				fmt.Fprint(&all, "\n", rec.Headers(), "\n")
				for _, w := range []int{50, 400} {
					all.WriteString(rendering(rt, TerminalConfig{Width: w, Color: true}).Render(rec))
				}
				for _, s := range planted {
					for _, spelled := range spellings(s) {
						if strings.Contains(all.String(), spelled) {
							rt.Fatalf("%v: secret %q, spelled %q, is in\n%s", mode, s, spelled, all.String())
						}
					}
				}
			}
		}
	})
}

// The same through the sinks: what a broker, a file and a log hold.
func TestPlantedSecretsInSinks(t *testing.T) {
	var planted []string
	var recs []*redact.Record
	r := redactor(t, redact.Config{Values: redact.Full})
	for seed := range 20 {
		p := newPair()
		rapid.Custom(func(rt *rapid.T) int {
			planted = append(planted, plant(rt, p)...)
			return 0
		}).Example(seed)
		p.in.PublishWeight = 1
		recs = append(recs, r.Record(p.compare(t)))
	}
	var log syncBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := cluster(t)
	props, _ := read(t, map[string]string{"bootstrap.servers": c.ListenAddrs()[0], "debug": "all"})
	k, err := NewKafka(KafkaConfig{Properties: props, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "out.jsonl")
	j, err := NewJSONLines(JSONLinesConfig{Path: path, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	full, err := NewJSONLines(JSONLinesConfig{Name: "full", Path: "/dev/full", Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := New(Config{Sinks: []Sink{k, j, full}, PerFingerprint: -1, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	wait := start(t, t.Context(), pub)
	for _, rec := range recs {
		pub.Publish(rec)
	}
	if err := pub.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	balanced(t, pub, uint64(len(recs)))

	all := map[string][]byte{"log": []byte(log.String())}
	if all["file"], err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	for _, m := range consume(t, c.ListenAddrs(), len(recs)) {
		all["topic"] = append(all["topic"], flat(m)...)
		valid(t, m.Value)
	}
	for where, data := range all {
		if len(data) == 0 {
			t.Errorf("%s: nothing in it", where)
		}
		for _, s := range planted {
			for _, spelled := range spellings(s) {
				if bytes.Contains(data, []byte(spelled)) {
					t.Errorf("%s: secret %q, spelled %q, is in it", where, s, spelled)
				}
			}
		}
	}
}

func flat(m *kgo.Record) []byte {
	b := append(append([]byte{}, m.Key...), m.Value...)
	for _, h := range m.Headers {
		b = append(append(b, h.Key...), h.Value...)
	}
	return b
}
