package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
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

// Keys that only some exchanges have are left out of the others' lines.
func TestExchangeLines(t *testing.T) {
	flow := exchange.Flow{Client: netip.MustParseAddrPort("10.0.0.1:40000"), Server: netip.MustParseAddrPort("10.0.0.2:80")}
	for _, tt := range []struct {
		name string
		x    exchange.Exchange
		has  string
		not  []string
	}{
		{"HTTP/1", exchange.Exchange{}, `"proto":"http/1","method":`, []string{"stream", "pushed", "rst_stream", "grpc_status"}},
		{"HTTP/2", exchange.Exchange{Stream: 3}, `"proto":"h2c","stream":3,"method":`, []string{"pushed", "rst_stream", "grpc_status"}},
		{"pushed", exchange.Exchange{Stream: 2, Pushed: true}, `"stream":2,"pushed":true`, []string{"rst_stream"}},
		{"reset by the client", exchange.Exchange{Stream: 1, Reset: &exchange.Reset{Code: 8}}, `"rst_stream":{"by":"client","code":8}`, nil},
		{"reset by the server", exchange.Exchange{Stream: 1, Reset: &exchange.Reset{ByServer: true}}, `"rst_stream":{"by":"server","code":0}`, nil},
		{"gRPC", exchange.Exchange{Stream: 1, GRPC: &exchange.GRPC{Status: "0"}}, `"grpc_status":"0"`, []string{"rst_stream"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.x.Flow, tt.x.Request, tt.x.Response = flow, &exchange.Request{Method: "GET"}, &exchange.Response{Status: 200}
			var b bytes.Buffer
			l := newExchangeLines(&b, false)
			l.write(&tt.x)
			if err := l.end(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), tt.has) {
				t.Errorf("%s has no %s", b.String(), tt.has)
			}
			for _, key := range tt.not {
				if strings.Contains(b.String(), `"`+key+`":`) {
					t.Errorf("%s has %s", b.String(), key)
				}
			}
		})
	}
}

// What is sent need not be UTF-8, and no byte of it is lost.
func TestExchangeLinesKeepBytes(t *testing.T) {
	for _, tt := range []struct{ sent, want string }{
		{"/a", "/a"},
		{"/\xe4", "/\u00e4"},
		{"/\xc3\xa4", "/\u00c3\u00a4"},
		{"/\xff\x80\xa8", "/\u00ff\u0080\u00a8"},
	} {
		var b bytes.Buffer
		l := newExchangeLines(&b, false)
		l.write(&exchange.Exchange{Request: &exchange.Request{Target: tt.sent, Host: tt.sent}, Response: &exchange.Response{}})
		if err := l.end(); err != nil {
			t.Fatal(err)
		}
		var got struct{ URI, Host string }
		if err := json.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.URI != tt.want || got.Host != tt.want {
			t.Errorf("%q is written as %+q and %+q, want %+q", tt.sent, got.URI, got.Host, tt.want)
		}
	}
}
