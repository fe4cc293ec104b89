package agent

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// stalled is a file that takes nothing until it is let go.
type stalled struct {
	began, free chan struct{}
	b           bytes.Buffer
}

func (s *stalled) Write(p []byte) (int, error) {
	if s.began != nil {
		close(s.began)
		s.began = nil
	}
	<-s.free
	return s.b.Write(p)
}

func lineOf(target string) *exchange.Exchange {
	return &exchange.Exchange{Request: &exchange.Request{Method: "GET", Target: target}, Response: &exchange.Response{Status: 200}}
}

// TestSlowLines: a file that takes nothing holds up no shard. What waits is
// bounded, and what is too much is dropped, counted, and told at the end.
func TestSlowLines(t *testing.T) {
	s := &stalled{began: make(chan struct{}), free: make(chan struct{})}
	began := s.began
	l := newExchangeLines(s, true)
	l.write(lineOf("/first"))
	flushed := make(chan error, 1)
	go func() { flushed <- l.flush() }()
	<-began
	const n = 40
	long := "/" + strings.Repeat("x", 1<<20)
	for range n {
		l.write(lineOf(long))
	}
	if lost := l.lost(); lost < n-18 || lost > n-15 {
		t.Errorf("%d lines of 1 MiB dropped of %d, where 16 MiB may wait", lost, n)
	}
	close(s.free)
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	if err := l.end(); err == nil || !strings.Contains(err.Error(), "lines were dropped") {
		t.Errorf("the end says %v", err)
	}
	if got := uint64(bytes.Count(s.b.Bytes(), []byte("\n"))); got != 1+n-l.lost() {
		t.Errorf("%d lines written, %d dropped, of %d", got, l.lost(), 1+n)
	}
}

type broken struct{ n int }

var errBroken = errors.New("no space")

func (b *broken) Write([]byte) (int, error) {
	b.n++
	return 0, errBroken
}

// TestBrokenLines: the first error ends the writing, and stays.
func TestBrokenLines(t *testing.T) {
	b := &broken{}
	l := newExchangeLines(b, false)
	for range 3000 {
		l.write(lineOf("/" + strings.Repeat("x", 100)))
	}
	if err := l.end(); !errors.Is(err, errBroken) || b.n != 1 {
		t.Errorf("%v after %d writes", err, b.n)
	}
}
