//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// reference is a Go server that answers what targets ask for and remembers each
// exchange with what it really read and wrote.
type reference struct {
	// read and written count the bytes of the streams, as the sockets took them.
	read, written atomic.Uint64

	mu     sync.Mutex
	served []served // by number
	count  int
	wrong  []string // requests that it can't have been meant to get
}

// served is one exchange as the server saw it.
type served struct {
	proto     string // as exchange lines name it
	method    string
	target    string
	client    string
	framing   string // of the answer
	grpc      string // grpc-status
	status    int
	interim   []int
	request   digested
	response  digested
	confirmed bool // the agent has it too
}

// digested is what is compared of a body.
type digested struct {
	size   int64
	digest [sha256.Size]byte
}

// startReference serves HTTP/1 and, by prior knowledge, HTTP/2 in the server's
// namespace until the test ends. count is how many exchanges there will be.
func startReference(t *testing.T, s *stage, count int) *reference {
	t.Helper()
	r := &reference{served: make([]served, count)}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 20 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	// A client takes a stream for closed a moment before the server does: of
	// exactly 100 the server would refuse one now and then, and the client would
	// send it once more.
	server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 200}
	var serving sync.WaitGroup
	for _, address := range []string{serverAddr4, serverAddr6} {
		l := s.server.Listen(t, "tcp", address)
		serving.Go(func() { server.Serve(countedListener{l, r}) })
	}
	t.Cleanup(func() { server.Close(); serving.Wait() })
	return r
}

// countedListener counts the bytes of its connections.
type countedListener struct {
	net.Listener
	r *reference
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{conn, l.r}, nil
}

type countedConn struct {
	net.Conn
	r *reference
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.r.read.Add(uint64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.r.written.Add(uint64(n))
	return n, err
}

// buffers are for reading bodies.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// read reads a body to its end.
func readBody(r io.Reader) (s digested, err error) {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	h := sha256.New()
	for {
		n, err := r.Read(buf[:])
		h.Write(buf[:n])
		s.size += int64(n)
		if err == io.EOF {
			h.Sum(s.digest[:0])
			return s, nil
		}
		if err != nil {
			return s, err
		}
	}
}

// ServeHTTP implements http.Handler.
func (r *reference) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	p, err := parseTarget(q.RequestURI)
	if err != nil {
		r.refuse(err.Error())
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e := served{
		proto: "http/1", method: q.Method, target: q.RequestURI, client: q.RemoteAddr,
		status: http.StatusOK, interim: []int{}, framing: "none",
	}
	if q.ProtoMajor == 2 {
		e.proto, e.framing = "h2c", "h2"
	}
	if q.Header.Get("Expect") != "" {
		e.interim = append(e.interim, http.StatusContinue)
	}
	if e.request, err = readBody(q.Body); err != nil {
		r.refuse(fmt.Sprintf("%s %s: %v", q.Method, q.RequestURI, err))
		panic(http.ErrAbortHandler)
	}
	r.answer(w, q, p, &e)
	r.note(p.n, e)
}

// answer writes the answer and fills in what it was.
func (r *reference) answer(w http.ResponseWriter, q *http.Request, p plan, e *served) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Answers", strconv.Itoa(p.n))
	b := bodyOf(p.n, toClient, p.response)
	framing := func(word string) {
		if q.ProtoMajor == 1 {
			e.framing = word
		}
	}
	e.response.digest = sha256.Sum256(nil)
	switch p.form {
	case formSame, formEmpty:
		e.status, _ = strconv.Atoi(p.form)
		w.WriteHeader(e.status)
		return
	case formEarly:
		h.Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		h.Del("Link")
		e.interim = append(e.interim, http.StatusEarlyHints)
		fallthrough
	case formLength:
		h.Set("Content-Length", strconv.Itoa(p.response))
		if p.response > 0 {
			framing("length")
		}
	case formChunked:
		framing("chunked")
		w.WriteHeader(e.status)
		http.NewResponseController(w).Flush()
	case formClose:
		framing("close")
		w.WriteHeader(e.status) // or the server would find the length out
		http.NewResponseController(w).Flush()
	}
	if q.Method == http.MethodHead {
		framing("none")
		return
	}
	e.response = digested{int64(p.response), b.digest(toClient)}
	if p.form == formChunked {
		// Several chunks, of different lengths.
		first := len(b.front) / 3
		w.Write(b.front[:first])
		http.NewResponseController(w).Flush()
		w.Write(b.front[first:])
	} else {
		w.Write(b.front)
	}
	w.Write(b.end)
}

// note remembers an exchange.
func (r *reference) note(n int, e served) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case n < 0 || n >= len(r.served):
		r.wrong = append(r.wrong, fmt.Sprintf("%s %s: not of this load", e.method, e.target))
	case r.served[n].status != 0:
		r.wrong = append(r.wrong, fmt.Sprintf("%s %s: served twice", e.method, e.target))
	default:
		r.served[n] = e
		r.count++
	}
}

// refuse remembers a request that was not served.
func (r *reference) refuse(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, why)
}

// requireAll fails the test when the server did not serve each exchange once.
func (r *reference) requireAll(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrong) > 0 {
		t.Errorf("the server got %d requests that nobody sent, as %s", len(r.wrong), r.wrong[0])
	}
	if r.count != len(r.served) {
		t.Errorf("the server served %d exchanges of %d", r.count, len(r.served))
	}
}

// confirm compares a line of the agent with what was served. It returns what is
// wrong with it, "" when all of it is so.
func (r *reference) confirm(x *exchangeLine) string {
	p, err := parseTarget(x.URI)
	if err != nil {
		return "no request had this target"
	}
	if p.n < 0 || p.n >= len(r.served) || r.served[p.n].status == 0 {
		return "it was not served"
	}
	e := &r.served[p.n]
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"method", x.Method, e.method},
		{"target", x.URI, e.target},
		{"proto", x.Proto, e.proto},
		{"client", x.Client, e.client},
		{"status", x.Status, e.status},
		{"bytes of the request", x.Request.Len, e.request.size},
		{"SHA-256 of the request", x.Request.SHA256, fmt.Sprintf("%x", e.request.digest)},
		{"bytes of the answer", x.Response.Len, e.response.size},
		{"SHA-256 of the answer", x.Response.SHA256, fmt.Sprintf("%x", e.response.digest)},
		{"framing of the answer", x.Response.Framing, e.framing},
		{"grpc-status", x.GRPC, e.grpc},
	} {
		if c.got != c.want {
			return fmt.Sprintf("%s %v, served was %v", c.what, c.got, c.want)
		}
	}
	switch {
	case !slices.Equal(x.Interim, e.interim):
		return fmt.Sprintf("interim %v, served was %v", x.Interim, e.interim)
	case !x.Request.Complete || !x.Response.Complete:
		return "it is not complete"
	case e.confirmed:
		return "it was told before"
	}
	e.confirmed = true
	return ""
}

// confirmFile compares the lines of a file of --exchanges-to with what was
// served. Each line that is not true fails the test; other gets those of other
// servers, nil where there are none. It returns how many were true.
func (r *reference) confirmFile(t *testing.T, file string, other func(*exchangeLine)) (confirmed int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	wrong := 0
	eachExchange(t, file, func(x *exchangeLine, line []byte) {
		if other != nil && !strings.HasPrefix(x.URI, "/n/") {
			other(x)
			return
		}
		why := r.confirm(x)
		if why == "" {
			confirmed++
			return
		}
		if wrong++; wrong <= 10 {
			t.Errorf("a false exchange: %s: %s", why, line)
		}
	})
	if wrong > 10 {
		t.Errorf("%d further false exchanges", wrong-10)
	}
	return confirmed
}

// survivors is how many of the exchanges from first on the agent has a line of.
func (r *reference) survivors(first, count int) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.served[first : first+count] {
		if r.served[first+i].confirmed {
			n++
		}
	}
	return n
}

// unconfirmed names some of the exchanges that the agent has no line of.
func (r *reference) unconfirmed(most int) (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.served {
		if e := &r.served[i]; e.status != 0 && !e.confirmed && len(names) < most {
			names = append(names, fmt.Sprintf("%s %s %s by %s", e.proto, e.method, e.target, e.client))
		}
	}
	return names
}
