//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Mixed traffic for the live proofs. Everything about exchange n follows from
// n, and its target says what the server has to answer:
//
//	/n/NUMBER/FORM/ANSWER'S BYTES
//
// Bodies of one size are equal but for their last bytes, which name the
// exchange and the direction: no two exchanges have the same digest, and a
// digest costs no more than one block of SHA-256.

// protocol is what an exchange is spoken in, and how.
type protocol uint8

const (
	http1     protocol = iota // one request at a time
	pipelined                 // HTTP/1 too, up to 8 requests at a time
	http2
	grpcCalls
	protocols
)

// The forms of answers.
const (
	formLength  = "length"
	formChunked = "chunked" // in HTTP/2 the same without a length
	formEarly   = "early"   // a 103 before the answer
	formClose   = "close"   // HTTP/1.0, ends with the connection
	formSame    = "304"
	formEmpty   = "204"
	// gRPC only.
	formUnary  = "unary"
	formStream = "stream"
	formError  = "error" // trailers alone
)

// plan is what exchange n looks like.
type plan struct {
	n        int
	proto    protocol
	method   string
	form     string
	request  int  // bytes of the request's body
	response int  // bytes of the answer's body
	chunked  bool // the request's body has no length
	expect   bool // Expect: 100-continue
}

// Sizes are chosen around what is special about them: nothing, the mark's own
// length, an MSS of Ethernet, a page.
var (
	smallSizes  = []int{0, 1, 2, 15, 16, 17, 100, 128, 300, 512, 700, 1000, 1447, 1448, 1449, 2047, 2048, 3000, 4095, 4096}
	mediumSizes = []int{4097, 6000, 8192, 10000, 12000, 16383, 16384, 16385, 20000, 24000, 32768, 50000, 65535, 65536}
	largeSizes  = []int{1 << 20, 1<<20 + 1, 3_000_000, 5_000_000, 8_000_000, 20_000_000}
	// callSizes are the large ones of gRPC, whose messages have a limit.
	callSizes = []int{200_000, 1 << 20, 2_000_000}
)

const maxBody = 20_000_000

// per is how many exchanges the mix comes round in: one of them is large, and a
// tenth, with it, is not small.
const per = 10000

// planOf gives the plan of exchange n. Of per exchanges 9,000 have bodies of up to
// 4 KiB, 999 of up to 64 KiB and one of up to 20 MB.
func planOf(n int, proto protocol) plan {
	p := plan{n: n, proto: proto, method: http.MethodGet, form: formLength}
	// The sizes of both directions and the form are independent of each other.
	x := uint32(n)*2654435761 + 12345
	pick := func(sizes []int) int {
		x = x*1664525 + 1013904223
		return sizes[int(x>>16)%len(sizes)]
	}
	kind := (n / 10) % 20
	switch {
	case n%per == per/2+1:
		large := largeSizes
		if proto == grpcCalls {
			large = callSizes
		}
		// One way only, in turn.
		p.request, p.response = 1, pick(large)
		if n/per%2 == 1 {
			p.method = http.MethodPost
			p.request, p.response = p.response, 1
		}
		return p.call(kind)
	case n%10 == 1:
		p.request, p.response = pick(mediumSizes), pick(mediumSizes)
	default:
		p.request, p.response = pick(smallSizes), pick(smallSizes)
	}
	if proto == grpcCalls {
		return p.call(kind)
	}
	switch kind {
	case 0, 1, 2, 3, 4:
		p.request = 0
	case 5, 6, 7:
		p.request, p.form = 0, formChunked
	case 8, 9, 10:
		p.method = http.MethodPost
	case 11, 12:
		p.method, p.form, p.chunked = http.MethodPost, formChunked, true
	case 13:
		p.method, p.form, p.chunked = http.MethodPut, formLength, true
	case 14:
		p.method, p.expect = http.MethodPut, true
		p.request = max(p.request, 1) // without a body nothing is waited for
	case 15:
		p.method, p.request = http.MethodHead, 0
	case 16:
		p.form, p.request, p.response = formSame, 0, 0
	case 17:
		p.method, p.form, p.response = http.MethodDelete, formEmpty, 0
	case 18:
		p.request, p.form = 0, formEarly
	case 19:
		if p.request = 0; proto < http2 && n%10 == 3 {
			p.form = formClose
		}
	}
	if proto == http2 {
		p.expect = false
	}
	return p
}

// call makes the plan of a gRPC call of it.
func (p plan) call(kind int) plan {
	if p.proto != grpcCalls {
		return p
	}
	p.method = http.MethodPost
	switch {
	case kind < 12:
		p.form = formUnary
	case kind < 19:
		p.form = formStream
	default:
		p.form, p.response = formError, 0
	}
	return p
}

// target is the request's target.
func (p plan) target() string { return fmt.Sprintf("/n/%d/%s/%d", p.n, p.form, p.response) }

// parseTarget is the other way round, as far as a server needs it.
func parseTarget(target string) (p plan, err error) {
	parts := strings.Split(target, "/")
	if len(parts) != 5 || parts[1] != "n" {
		return p, fmt.Errorf("the target %q is none of the load's", target)
	}
	p.form = parts[3]
	if p.n, err = strconv.Atoi(parts[2]); err != nil {
		return p, err
	}
	p.response, err = strconv.Atoi(parts[4])
	return p, err
}

// direction of a body.
type direction uint8

const (
	toServer direction = iota
	toClient
)

// markLen is the length of what ends a body and names it.
const markLen = 16

// mark gives the end of a body.
func mark(n int, d direction) (m [markLen]byte) {
	// The end of a body that is shorter than the mark should differ most.
	binary.LittleEndian.PutUint64(m[:], uint64(n)*2+uint64(d)+1)
	binary.BigEndian.PutUint64(m[8:], uint64(n)*2+uint64(d)+1)
	return m
}

// block is what the bodies of a direction begin with, and the hash of it so far
// for each size.
type block struct {
	bytes  []byte
	states sync.Map // size -> hash.Cloner
}

// newBlock makes a block of which a good part is text that a reader would take
// for a message of that direction, if it lost its place.
func newBlock(message string) *block {
	b := &block{bytes: fileContent(maxBody)}
	for at := 0; at+512 < maxBody; at += 1024 {
		for i := range 512 / len(message) {
			copy(b.bytes[at+i*len(message):], message)
		}
	}
	return b
}

// blocks are made once, they are never written to.
var blocks = sync.OnceValue(func() (b [2]*block) {
	b[toServer] = newBlock("GET /n/never HTTP/1.1\r\nHost: reference.test\r\n\r\n")
	b[toClient] = newBlock("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
	return b
})

// body is one body: front, which is shared and must not be written to, and end.
type body struct {
	front []byte
	end   []byte
}

// bodyOf gives the body of exchange n in one direction.
func bodyOf(n int, d direction, size int) body {
	m := mark(n, d)
	if size <= markLen {
		return body{end: m[markLen-size:]}
	}
	return body{front: blocks()[d].bytes[:size-markLen], end: m[:]}
}

func (b body) size() int { return len(b.front) + len(b.end) }

// appendTo appends the bytes [from, to) of the body.
func (b body) appendTo(to []byte, from, until int) []byte {
	if n := len(b.front); from < n {
		to = append(to, b.front[from:min(until, n)]...)
		from = n
	}
	if n := len(b.front); from < until {
		to = append(to, b.end[from-n:until-n]...)
	}
	return to
}

// digest is the SHA-256 of the body.
func (b body) digest(d direction) [sha256.Size]byte {
	var sum [sha256.Size]byte
	if len(b.front) == 0 {
		return sha256.Sum256(b.end)
	}
	states := &blocks()[d].states
	state, ok := states.Load(len(b.front))
	if !ok {
		h := sha256.New()
		h.Write(b.front)
		state, _ = states.LoadOrStore(len(b.front), h)
	}
	h, err := state.(hash.Cloner).Clone()
	if err != nil {
		panic(err) // SHA-256 can be cloned
	}
	h.Write(b.end)
	h.Sum(sum[:0])
	return sum
}

// checker is a writer that compares what it gets with a body.
type checker struct {
	want body
	at   int
	bad  bool
}

func (c *checker) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		var want []byte
		switch n := len(c.want.front); {
		case c.at < n:
			want = c.want.front[c.at:]
		case c.at < c.want.size():
			want = c.want.end[c.at-n:]
		default:
			c.bad = true
			return len(p), nil
		}
		k := min(len(want), len(rest))
		if string(want[:k]) != string(rest[:k]) {
			c.bad = true
		}
		c.at += k
		rest = rest[k:]
	}
	return len(p), nil
}

// whole says whether it got exactly the body.
func (c *checker) whole() bool { return !c.bad && c.at == c.want.size() }
