//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// candidate is the other version. It answers as nginx does but in the places
// that behaviours names.
type candidate struct {
	mu   sync.Mutex
	seen []*http.Request // bodies read and dropped
}

// behaviour is a place where the candidate differs: the first element of the
// path below /api/ is its name, up to a dash.
type behaviour struct {
	// answer writes the answer; nil is as nginx does.
	answer func(w http.ResponseWriter, r *http.Request, value string)
	// differences are what must be told, as "aspect kind path".
	differences []string
	// outcome, why and the candidate's error word of the record; no record
	// when outcome is empty.
	outcome, why, failure string
}

func apiBody(value string) string {
	return fmt.Sprintf("{\"value\":\"%s\",\"count\":7,\"tags\":[\"a\",\"b\"],\"deep\":{\"id\":12345678901234567890}}\n", value)
}

// replaced answers with the text in place of nginx's.
func replaced(from, to string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, value string) {
		io.WriteString(w, strings.Replace(apiBody(value), from, to, 1))
	}
}

var behaviours = map[string]behaviour{
	"same": {},
	// Differently spelled, and the same value.
	"spelling": {answer: func(w http.ResponseWriter, _ *http.Request, value string) {
		fmt.Fprintf(w, `{ "deep" : {"id": 12345678901234567890}, "tags":["\u0061","b"], "count":7, "value":%q }`, value)
	}},
	"status": {
		answer: func(w http.ResponseWriter, _ *http.Request, value string) {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, apiBody(value))
		},
		outcome: "divergent", differences: []string{"status changed "},
	},
	"value": {
		answer:  replaced(`"count":7`, `"count":8`),
		outcome: "divergent", differences: []string{"body changed $.count"},
	},
	"type": {
		answer:  replaced(`"count":7`, `"count":"7"`),
		outcome: "divergent", differences: []string{"body type_changed $.count"},
	},
	// One off in the last place of an integer that no float64 holds.
	"exact": {
		answer:  replaced("12345678901234567890", "12345678901234567891"),
		outcome: "divergent", differences: []string{"body changed $.deep.id"},
	},
	"removed": {
		answer:  replaced(`"count":7,`, ``),
		outcome: "divergent", differences: []string{"body removed $.count"},
	},
	"added": {
		answer:  replaced(`"count":7`, `"count":7,"more":null`),
		outcome: "divergent", differences: []string{"body added $.more"},
	},
	"two": {
		answer: func(w http.ResponseWriter, r *http.Request, value string) {
			w.WriteHeader(http.StatusCreated)
			replaced(`"count":7`, `"count":8`)(w, r, value)
		},
		outcome: "divergent", differences: []string{"body changed $.count", "status changed "},
	},
	"header": {
		answer: func(w http.ResponseWriter, _ *http.Request, value string) {
			w.Header().Set("X-Version", "2")
			io.WriteString(w, apiBody(value))
		},
		outcome: "divergent", differences: []string{"header changed x-version"},
	},
	"dropped": {
		answer: func(w http.ResponseWriter, _ *http.Request, value string) {
			w.Header().Del("X-Version")
			io.WriteString(w, apiBody(value))
		},
		outcome: "divergent", differences: []string{"header removed x-version"},
	},
	"closed": {
		answer:  func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) },
		outcome: "divergent", why: "failed", failure: "closed", differences: []string{"candidate error "},
	},
	"late": {
		answer: func(_ http.ResponseWriter, r *http.Request, _ string) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		},
		outcome: "divergent", why: "failed", failure: "timeout", differences: []string{"candidate error "},
	},
}

// startCandidate serves in the candidate's namespace until the test ends.
func startCandidate(t *testing.T, s *stage) *candidate {
	t.Helper()
	c := &candidate{}
	l := s.candidate.Listen(t, "tcp", candidateIP+":9090")
	server := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() { server.Close(); <-done })
	return c
}

// requests are what the candidate was asked, so far.
func (c *candidate) requests() []*http.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[:len(c.seen):len(c.seen)]
}

func (c *candidate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	c.mu.Lock()
	c.seen = append(c.seen, r)
	c.mu.Unlock()

	_, rest, _ := strings.Cut(r.URL.Path, "/")
	kind, value, _ := strings.Cut(rest, "/")
	h := w.Header()
	h.Set("X-Answers", r.URL.Query().Get("n"))
	h.Set("X-Version", "1")
	h.Set("Content-Type", "application/json")
	switch kind {
	case "api":
		name, _, _ := strings.Cut(value, "-")
		if b := behaviours[name]; b.answer != nil {
			b.answer(w, r, value)
			return
		}
		io.WriteString(w, apiBody(value))
	case "missing":
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "{\"error\":\"none\"}\n")
	case "busy":
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "{\"error\":\"busy\"}\n")
	case "moved":
		h.Set("Content-Type", "text/html")
		h.Set("Location", "/api/elsewhere")
		w.WriteHeader(http.StatusFound)
		io.WriteString(w, movedPage)
	case "empty":
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNoContent)
	case "text":
		h.Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "the value is %s\n", value)
	case "file":
		h.Set("Content-Type", "application/octet-stream")
		// nginx has validators and ranges, which count as there or not there.
		h.Set("ETag", `"candidate"`)
		h.Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
		h.Set("Accept-Ranges", "bytes")
		w.Write(fileContent(fileSizes[value]))
	case "packed":
		h.Set("ETag", `W/"candidate"`)
		h.Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
		io.WriteString(w, packedJSON)
	case "secret":
		h.Del("X-Version")
		h.Set("Set-Cookie", "session="+secretOtherCookie+"; Path=/")
		answerSecretly(w, r)
	default:
		http.NotFound(w, r)
	}
}

// sick is a candidate that is not well: what it does with each connection.
type sick struct {
	name string
	// serve is called for each connection and returns when it is over; nil is
	// a candidate that does not listen.
	serve func(ctx context.Context, conn net.Conn)
	// url is where the agent is sent.
	url string
	// words are the error words with which its replays may end.
	words []string
}

// hold waits until the other side has gone or the test has ended.
func hold(ctx context.Context, conn net.Conn) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, conn)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
		conn.Close()
		<-gone
	}
}

// repeat writes the same bytes until the other side goes, with a pause.
func repeat(ctx context.Context, conn net.Conn, text string, pause time.Duration) {
	for ctx.Err() == nil {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// firstRequest reads something of a request, so that the answer is one.
func firstRequest(conn net.Conn) bool {
	var b [4096]byte
	n, _ := conn.Read(b[:])
	return n > 0
}

var sickCandidates = []sick{
	{name: "dead", url: candidateURL, words: []string{"connect"}},
	{name: "unreachable", url: nobodyURL, words: []string{"connect", "timeout"}},
	{name: "hanging", url: candidateURL, words: []string{"timeout"}, serve: hold},
	{name: "slow", url: candidateURL, words: []string{"timeout"}, serve: func(ctx context.Context, conn net.Conn) {
		if firstRequest(conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
			repeat(ctx, conn, "x", 20*time.Millisecond)
		}
	}},
	{name: "endless body", url: candidateURL, words: []string{"timeout", "too_large", "body"}, serve: func(ctx context.Context, conn net.Conn) {
		if firstRequest(conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			// As fast as it goes it would be this process that takes the
			// machine from the reference.
			repeat(ctx, conn, "1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", time.Millisecond)
		}
	}},
	{name: "endless head", url: candidateURL, words: []string{"protocol", "timeout"}, serve: func(ctx context.Context, conn net.Conn) {
		if firstRequest(conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			repeat(ctx, conn, "X-More: "+strings.Repeat("y", 1000)+"\r\n", 0)
		}
	}},
	{name: "endless interim", url: candidateURL, words: []string{"protocol", "timeout", "too_large"}, serve: func(ctx context.Context, conn net.Conn) {
		if firstRequest(conn) {
			repeat(ctx, conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0)
		}
	}},
	{name: "garbage", url: candidateURL, words: []string{"protocol", "closed"}, serve: func(_ context.Context, conn net.Conn) {
		if firstRequest(conn) {
			conn.Write(fileContent(8 << 10))
		}
	}},
}

// start serves in the candidate's namespace until the test ends.
func (k sick) start(t *testing.T, s *stage) {
	t.Helper()
	if k.serve == nil {
		return
	}
	l := s.candidate.Listen(t, "tcp", candidateIP+":9090")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				defer stop()
				k.serve(ctx, conn)
			})
		}
	})
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
}
