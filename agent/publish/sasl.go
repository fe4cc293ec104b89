package publish

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// checkSASL looks at what the mechanism needs.
func (s *settings) checkSASL() (warnings []string, err error) {
	on := s.protocol == "sasl_plaintext" || s.protocol == "sasl_ssl"
	a := &s.sasl
	switch {
	case !on && (a.mechanism != "" || a.username != "" || a.password != ""):
		return []string{fmt.Sprintf("kafka: sasl.* is ignored: security.protocol is %s; set it to sasl_ssl or sasl_plaintext", s.protocol)}, nil
	case !on:
		return nil, nil
	case a.mechanism == "":
		return nil, fmt.Errorf("kafka: sasl.mechanism: missing, with security.protocol: %s", s.protocol)
	}
	switch a.mechanism {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		if a.username == "" || a.password == "" {
			return nil, fmt.Errorf("kafka: sasl.username and sasl.password: both are needed for %s", a.mechanism)
		}
		if s.protocol == "sasl_plaintext" && a.mechanism == "PLAIN" {
			warnings = append(warnings, "kafka: PLAIN without TLS sends the password in clear; use sasl_ssl")
		}
	case "AWS_MSK_IAM":
		if a.username == "" && a.password == "" {
			a.username, a.password = a.awsKey, a.awsSecret
		}
		if a.username == "" || a.password == "" {
			return nil, fmt.Errorf("kafka: AWS_MSK_IAM needs sasl.username and sasl.password, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
		}
	case "OAUTHBEARER":
		return a.checkOAuth()
	}
	return warnings, nil
}

func (a *saslSettings) checkOAuth() ([]string, error) {
	if a.method == "oidc" {
		if a.clientID == "" || a.clientSecret == "" || a.endpoint == "" {
			return nil, fmt.Errorf("kafka: sasl.oauthbearer.method: oidc needs sasl.oauthbearer.client.id, .client.secret and .token.endpoint.url")
		}
		u, err := url.Parse(a.endpoint)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("kafka: sasl.oauthbearer.token.endpoint.url: want an http or https URL")
		}
		if _, err := pairs(a.extensions, ","); err != nil {
			return nil, fmt.Errorf("kafka: sasl.oauthbearer.extensions: %w", err)
		}
		if u.Scheme == "http" {
			return []string{"kafka: sasl.oauthbearer.token.endpoint.url is http: the client secret goes in clear"}, nil
		}
		return nil, nil
	}
	if !a.unsecure {
		return nil, fmt.Errorf("kafka: OAUTHBEARER needs sasl.oauthbearer.method: oidc (or, for tests, enable.sasl.oauthbearer.unsecure.jwt: true)")
	}
	if _, err := a.unsecuredToken(time.Unix(0, 0)); err != nil {
		return nil, fmt.Errorf("kafka: sasl.oauthbearer.config: %w", err)
	}
	return []string{"kafka: enable.sasl.oauthbearer.unsecure.jwt: true is for tests: anyone can make such a token"}, nil
}

// mechanism makes the franz-go form. https is the TLS configuration for token
// endpoints, nil for the system's.
func (a *saslSettings) make(https *tls.Config) sasl.Mechanism {
	switch a.mechanism {
	case "PLAIN":
		return plain.Auth{User: a.username, Pass: a.password}.AsMechanism()
	case "SCRAM-SHA-256":
		return scram.Auth{User: a.username, Pass: a.password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: a.username, Pass: a.password}.AsSha512Mechanism()
	case "AWS_MSK_IAM":
		return aws.Auth{AccessKey: a.username, SecretKey: a.password, SessionToken: a.awsToken}.AsManagedStreamingIAMMechanism()
	}
	if a.method != "oidc" {
		return oauth.Oauth(func(context.Context) (oauth.Auth, error) { return a.unsecuredToken(time.Now()) })
	}
	o := &oidc{settings: a, client: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{TLSClientConfig: https, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return oauth.Oauth(o.auth)
}

// unsecuredToken makes a JWT without a signature (RFC 7515 appendix A.5), as
// librdkafka does from sasl.oauthbearer.config.
func (a *saslSettings) unsecuredToken(now time.Time) (oauth.Auth, error) {
	p, err := pairs(a.config, " ")
	if err != nil {
		return oauth.Auth{}, err
	}
	principal, scopeName, life := "sub", "scope", 3600
	claims := map[string]any{}
	auth := oauth.Auth{Extensions: map[string]string{}}
	var subject string
	var scope []string
	for name, value := range p {
		extension, isExtension := strings.CutPrefix(name, "extension_")
		switch {
		case isExtension:
			auth.Extensions[extension] = value
		case name == "principalClaimName":
			principal = value
		case name == "principal":
			subject = value
		case name == "scopeClaimName":
			scopeName = value
		case name == "scope":
			scope = strings.Split(value, ",")
		case name == "lifeSeconds":
			if life, err = strconv.Atoi(value); err != nil || life < 1 {
				return oauth.Auth{}, fmt.Errorf("lifeSeconds: want a whole number above 0")
			}
		default:
			return oauth.Auth{}, fmt.Errorf("unknown name %q", name)
		}
	}
	if subject == "" {
		return oauth.Auth{}, fmt.Errorf("principal is missing")
	}
	claims[principal] = subject
	claims["iat"], claims["exp"] = now.Unix(), now.Unix()+int64(life)
	if scope != nil {
		claims[scopeName] = scope
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return oauth.Auth{}, err
	}
	enc := base64.RawURLEncoding
	auth.Token = enc.EncodeToString([]byte(`{"alg":"none"}`)) + "." + enc.EncodeToString(body) + "."
	return auth, nil
}

// pairs reads name=value pairs.
func pairs(s, separator string) (map[string]string, error) {
	m := map[string]string{}
	for _, p := range strings.Split(s, separator) {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("want name=value")
		}
		m[name] = value
	}
	return m, nil
}

// oidc fetches tokens by the client_credentials grant (RFC 6749 section 4.4)
// and keeps one until shortly before it ends.
type oidc struct {
	settings *saslSettings
	client   *http.Client

	mu    sync.Mutex
	token string
	until time.Time
}

// maxTokenAnswer bounds what is read of a token endpoint's answer.
const maxTokenAnswer = 256 << 10

func (o *oidc) auth(ctx context.Context) (oauth.Auth, error) {
	extensions, _ := pairs(o.settings.extensions, ",") // checked before
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.token == "" || time.Now().After(o.until) {
		if err := o.fetch(ctx); err != nil {
			return oauth.Auth{}, fmt.Errorf("fetch a token: %w", err)
		}
	}
	return oauth.Auth{Token: o.token, Extensions: extensions}, nil
}

func (o *oidc) fetch(ctx context.Context) error {
	form := url.Values{"grant_type": {"client_credentials"}}
	if o.settings.scope != "" {
		form.Set("scope", o.settings.scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.settings.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	// RFC 6749 section 2.3.1: both are form-encoded first.
	req.SetBasicAuth(url.QueryEscape(o.settings.clientID), url.QueryEscape(o.settings.clientSecret))
	asked := time.Now()
	resp, err := o.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenAnswer))
	if err != nil {
		return err
	}
	var answer struct {
		Token   string          `json:"access_token"`
		Expires json.RawMessage `json:"expires_in"`
		Error   string          `json:"error"`
	}
	// The body is never quoted: it may hold a token.
	if err := json.Unmarshal(body, &answer); err != nil && resp.StatusCode == http.StatusOK {
		return fmt.Errorf("the endpoint's answer is no JSON object")
	}
	switch {
	case resp.StatusCode != http.StatusOK && answer.Error != "":
		return fmt.Errorf("the endpoint answered %d, %q", resp.StatusCode, answer.Error)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the endpoint answered %d", resp.StatusCode)
	case answer.Token == "":
		return fmt.Errorf("the endpoint's answer has no access_token")
	}
	life := 5 * time.Minute
	if n, err := strconv.Atoi(strings.Trim(string(answer.Expires), `"`)); err == nil && n > 0 {
		life = time.Duration(n) * time.Second
	}
	o.token, o.until = answer.Token, asked.Add(life*8/10)
	return nil
}
