package diff

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

var update = flag.Bool("update", false, "write testdata/*/want.json anew")

// goldenRules is rules.json: what a folder sets away from the defaults.
type goldenRules struct {
	Ignore struct {
		Headers []string `json:"headers"`
		JSON    []string `json:"json"`
	} `json:"ignore"`
	NoDefaults     bool `json:"no_defaults"`
	MaxDepth       int  `json:"max_depth"`
	MaxDifferences int  `json:"max_differences"`
	MaxValue       int  `json:"max_value"`
	// MaxBody cuts both bodies as the capture would, and leaves a digest.
	MaxBody            int    `json:"max_body"`
	CandidateError     string `json:"candidate_error"`
	Stale              bool   `json:"stale"`
	CandidateAuthority string `json:"candidate_authority"`
}

type goldenResult struct {
	Outcome     string             `json:"outcome"`
	Why         string             `json:"why,omitempty"`
	Differences []goldenDifference `json:"differences,omitempty"`
	Cause       string             `json:"cause,omitempty"`
}

type goldenDifference struct {
	Fingerprint string       `json:"fingerprint"`
	Aspect      string       `json:"aspect"`
	Kind        string       `json:"kind"`
	Path        string       `json:"path,omitempty"`
	Reference   *goldenValue `json:"reference,omitempty"`
	Candidate   *goldenValue `json:"candidate,omitempty"`
	Detail      string       `json:"detail,omitempty"`
	Ignored     bool         `json:"ignored,omitempty"`
}

type goldenValue struct {
	Kind      string `json:"kind"`
	Text      string `json:"text"`
	Size      int64  `json:"size"`
	Offset    int64  `json:"offset,omitempty"`
	Truncated bool   `json:"truncated,omitempty"`
	SHA256    string `json:"sha256,omitempty"`
}

// TestGolden compares the answers in each folder of testdata. A folder holds
// reference.http, mostly candidate.http, want.json, and when it needs them
// request.http and rules.json. The .http files are messages as curl -i prints
// them; lines of the head may end in LF alone, and the body is all that
// follows the empty line.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/reference.http")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no golden folders: %v", err)
	}
	for _, file := range dirs {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) { golden(t, dir) })
	}
}

func golden(t *testing.T, dir string) {
	var g goldenRules
	if b, ok := readFile(t, dir, "rules.json"); ok {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&g); err != nil {
			t.Fatalf("rules.json: %v", err)
		}
	}
	req := &exchange.Request{Method: "GET", Target: "/", Host: "shop.example"}
	if b, ok := readFile(t, dir, "request.http"); ok {
		start, h, _ := readMessage(t, b)
		words := strings.Fields(start)
		req = &exchange.Request{Method: words[0], Target: words[1], Proto: words[2], Host: h.Get("Host"), Header: h}
	}
	ref := readResponse(t, dir, "reference.http", g.MaxBody)
	cand := readResponse(t, dir, "candidate.http", g.MaxBody)
	r := compile(t, RuleConfig{
		IgnoreHeaders: g.Ignore.Headers, IgnoreJSON: g.Ignore.JSON, NoDefaults: g.NoDefaults,
		MaxDepth: g.MaxDepth, MaxDifferences: g.MaxDifferences, MaxValue: g.MaxValue,
	})
	res := r.Compare(req, ref, cand, Input{CandidateError: g.CandidateError, Stale: g.Stale, CandidateAuthority: g.CandidateAuthority})

	got := goldenResult{Outcome: res.Outcome.String(), Why: res.Why}
	var fps []string
	for i := range res.Differences {
		d := &res.Differences[i]
		fp := Fingerprint("golden", "/", d)
		if !d.Ignored {
			fps = append(fps, fp)
		}
		got.Differences = append(got.Differences, goldenDifference{
			fp, d.Aspect, d.Kind, d.Path, goldenSide(d.Reference), goldenSide(d.Candidate), d.Detail, d.Ignored,
		})
	}
	got.Cause = Cause(fps)
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(got); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Join(dir, "want.json"), out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, ok := readFile(t, dir, "want.json")
	if !ok || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("got\n%s\nwant (go test -update writes it)\n%s", out.Bytes(), want)
	}
	if cand != nil && res.Outcome != NotComparable {
		checkSymmetric(t, r, ref, cand)
	}
}

func goldenSide(v Value) *goldenValue {
	if v.Kind == ValueNone {
		return nil
	}
	return &goldenValue{v.Kind.String(), v.Text, v.Size, v.Offset, v.Truncated, v.SHA256}
}

func readFile(t *testing.T, dir, name string) ([]byte, bool) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, true
}

// readMessage takes apart a message without looking at its framing.
func readMessage(t *testing.T, b []byte) (start string, h exchange.Header, body []byte) {
	for n := 0; ; n++ {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			t.Fatal("the head has no end")
		}
		s := strings.TrimSuffix(string(line), "\r")
		b = rest
		switch {
		case n == 0:
			start = s
		case s == "":
			return start, h, b
		default:
			h = append(h, header(s)...)
		}
	}
}

func readResponse(t *testing.T, dir, name string, maxBody int) *exchange.Response {
	b, ok := readFile(t, dir, name)
	if !ok {
		return nil
	}
	start, h, body := readMessage(t, b)
	proto, rest, _ := strings.Cut(start, " ")
	code, reason, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	a := &exchange.Response{Status: status, Reason: reason, Proto: proto, Header: h, Body: exchange.Body{Bytes: body, Size: int64(len(body))}}
	if maxBody > 0 {
		a.Body.Digest, a.Body.Digested = sha256.Sum256(body), true
		if len(body) > maxBody {
			a.Body.Bytes, a.Body.Truncated = body[:maxBody], true
		}
	}
	return a
}
