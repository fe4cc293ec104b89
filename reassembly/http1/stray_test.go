package http1_test

import (
	"fmt"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// An exchange is counted once, also where its two halves can't be brought
// together.
func TestStrayAnswersAreCountedOnce(t *testing.T) {
	const answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc"
	opening := []seg{
		{ToServer: true, Seq: 99, Flags: reassembly.SYN},
		{Seq: 199, Ack: 100, Flags: reassembly.SYN | reassembly.ACK},
	}
	for _, c := range []struct {
		name string
		segs []seg
		want int
	}{
		{
			name: "the request's body and the 100 before it are lost",
			segs: []seg{
				{ToServer: true, Seq: 100, Ack: 200, Payload: []byte("PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")},
				{Seq: 225, Ack: 300, Payload: []byte(answer), Lost: 2},
			},
			want: 1,
		},
		{
			name: "a request and its answer's head are lost, and the body has answers in it",
			segs: []seg{
				{Seq: 240, Ack: 130, Payload: []byte(answer), Lost: 2},
				{Seq: 240 + uint32(len(answer)), Ack: 130, Payload: []byte(answer), Lost: 2},
			},
			want: 1,
		},
		{
			name: "two requests are lost and their answers are not",
			segs: []seg{
				{Seq: 200, Ack: 130, Payload: []byte(answer), Lost: 1},
				{Seq: 200 + uint32(len(answer)), Ack: 160, Payload: []byte(answer), Lost: 2},
			},
			want: 2,
		},
		{
			name: "an answer's head is lost in part, and its body has an answer in it",
			segs: []seg{
				{ToServer: true, Seq: 100, Ack: 200, Payload: []byte("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")},
				{Seq: 200, Ack: 200, Payload: []byte("HTTP/1.1 200 OK\r\nContent-"), Lost: 1},
				{Seq: 250, Ack: 200, Payload: []byte(answer), Lost: 2},
			},
			want: 1,
		},
		{
			name: "an interim answer's head is lost in part, and the request's end",
			segs: []seg{
				{ToServer: true, Seq: 100, Ack: 200, Payload: []byte("PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")},
				{Seq: 200, Ack: 181, Payload: []byte("HTTP/1."), Lost: 1},
				{Seq: 225, Ack: 300, Payload: []byte(answer), Lost: 3},
			},
			want: 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			segs := append(append([]seg(nil), opening...), c.segs...)
			for i := range segs[2:] {
				segs[2+i].Flags = reassembly.ACK
			}
			res := run(t, segs, segmenttest.Live, exchange.WantList)
			if int(res.Parser.Started) != c.want || res.N != 0 {
				t.Errorf("%d exchanges, %d of them complete, want %d and none: %+v", res.Parser.Started, res.N, c.want, res.Parser)
			}
		})
	}
}

// Requests come only in a copy that acknowledges the first one's answer, so each
// direction waits for the other until the capture ends. No answer goes to a request
// that it was not for then, whichever direction goes on first.
func TestNoAnswerGoesToALaterRequest(t *testing.T) {
	const get, answer = "GET /201 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
	n, m := uint32(len(get)), uint32(len(answer))
	for _, higher := range []bool{false, true} { // the address that the client has
		segs := []seg{
			{ToServer: true, Seq: 99, Flags: reassembly.SYN},
			{Seq: 199, Ack: 100, Flags: reassembly.SYN | reassembly.ACK},
			{ToServer: true, Seq: 100, Ack: 200 + m, Flags: reassembly.ACK, Payload: []byte(get + "GET /202 HTTP/1.1\r\nHost: h\r\n\r\n")},
			{Seq: 200, Ack: 100 + n, Flags: reassembly.ACK, Payload: []byte(answer)},
			{Seq: 200 + m, Ack: 100 + 2*n, Flags: reassembly.ACK, Payload: []byte("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")},
		}
		for i := range segs {
			segs[i].ToServer = segs[i].ToServer != higher
		}
		for _, x := range run(t, segs, segmenttest.Captured, exchange.WantList).Exchanges {
			if x.Request.Target != fmt.Sprintf("/%d", x.Response.Status) {
				t.Errorf("client at the higher address %v: %s has the answer %d", higher, x.Request.Target, x.Response.Status)
			}
		}
	}
}
