package http1_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// What is not for replay has a name of its own in the ledger: as a doubt (the
// selection's not_replayable) where the exchange is complete, else as the result
// and reason of the exchange. Each name stands here once.
func TestNotForReplayByName(t *testing.T) {
	const post = ">POST /a HTTP/1.1\r\nHost: h\r\n"
	urgent := dialog(get, ok2)
	urgent[2].Flags |= reassembly.URG
	// overlap queues the second of two parts, and then a copy with other bytes.
	overlap := func(segs []seg, second int) []seg {
		other := segs[second]
		other.Payload = []byte(strings.ToUpper(string(other.Payload)))
		out := append([]seg{}, segs[:second-1]...)
		return append(append(out, segs[second], other, segs[second-1]), segs[second+1:]...)
	}
	hole := func(segs []seg, at int) []seg {
		out := append(append([]seg{}, segs[:at]...), segs[at+1:]...)
		for i := range out[at:] {
			out[at+i].Lost = 1
		}
		return out
	}
	// The server gave up waiting before it had the request that stands before its
	// answer.
	crossed := dialog(get, "<HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n")
	crossed[3].Ack = crossed[2].Seq
	events := "<HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
	for _, tt := range []struct {
		name string
		segs []seg
		// doubts are those of the complete exchanges, ends the others.
		doubts, ends string
	}{
		{"both TE and CL", dialog(post+"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", ok2), "te_and_cl", ""},
		{"both TE and CL in the answer", dialog(get, "<HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"), "te_and_cl", ""},
		{"unequal CLs", dialog(post+"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", ok2), "", "unparsable framing"},
		{"unequal CLs in the answer", dialog(get, "<HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), "", "unparsable framing"},
		{"unequal CLs under a TE", dialog(post+"Transfer-Encoding: chunked\r\nContent-Length: 5, 6\r\n\r\n0\r\n\r\n", ok2), "te_and_cl", ""},
		{"two Hosts", dialog(">GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", ok2), "host", ""},
		{"TE other than exactly chunked", dialog(post+"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ok2), "te", ""},
		{"TE that does not end with chunked", dialog(post+"Transfer-Encoding: gzip\r\n\r\nabc", ok2), "", "unparsable framing"},
		{"TE other than exactly chunked in the answer", dialog(get, "<HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "", "unparsable framing"},
		{"TE in 1.0", dialog(">POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok2), "te_in_1_0", ""},
		{"TE in a 1.0 answer", dialog(get, "<HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "<FIN"), "", "unparsable framing"},
		{"urgent data", urgent, "urgent", ""},
		{"an overlap with other bytes", overlap(dialog(post+"Content-Length: 6\r\n\r\n", ">abc", ">def", ok2), 4), "overlap", ""},
		{"an overlap with other bytes in the answer", overlap(dialog(get, "<HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "<abc", "<def"), 5), "overlap", ""},
		{"CONNECT", dialog(">CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "<HTTP/1.1 200 OK\r\n\r\n", ">\x16\x03\x01"), "connect", ""},
		{"Upgrade", dialog(">GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: example/2\r\n\r\n", "<HTTP/1.1 101 S\r\nUpgrade: example/2\r\n\r\n"), "upgrade", ""},
		{"WebSocket", dialog(">GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n", "<HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", get, ok2), "websocket", ""},
		{"WebSocket refused", dialog(">GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ok2, get, ok2), "websocket,", ""},
		{"event stream that ends", dialog(get, events+"\r\ndata: 1\n\n", "<data: 2\n\n", "<FIN"), "event_stream", ""},
		{"event stream, chunked", dialog(get, events+"Transfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n0\r\n\r\n", get, ok2), "event_stream,", ""},
		{"event stream that is cut", dialog(get, events+"\r\ndata: 1\n\n", "<RST"), "", "no_response event_stream"},
		{"event stream that the client leaves", dialog(get, events+"Transfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n", ">FIN"), "", "no_response event_stream"},
		{"an orphan", dialog(ok2), "", "no_request"},
		{"an orphan before its request", dialog(ok2, get), "", "no_request, no_response"},
		{"an orphan that crosses a request", crossed, "", "no_request, no_response"},
		{"a hole in a request's head", hole(dialog(get[:15], ">"+get[15:20], ">"+get[20:], ok2), 3), "", "gap"},
		{"a hole in an answer's body", hole(dialog(get, ok2[:len(ok2)-2], "<o", "<k", get, ok2), 4), "", "gap"},
		{"behind a hole in a body of unknown length", hole(dialog(post+"Transfer-Encoding: chunked\r\n\r\n", ">5\r\nab", get, ">FIN", "<FIN"), 3), "", "gap"},
		{"joined late, and an answer that nobody had asked for", dialog(get, ok2, ok2)[2:], "", "gap unproven"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, w := range []exchange.Want{exchange.WantList, exchange.WantWhole} {
				res := run(t, tt.segs, true, w)
				got := strings.Join(doubts(res.Exchanges), ",")
				if e := ends(&res.Parser); got != tt.doubts || e != tt.ends {
					t.Errorf("want %d: doubts %q, ends %q; want %q, %q", w, got, e, tt.doubts, tt.ends)
				}
			}
		})
	}
}

// A stream of events keeps max_body at most, however long it goes on, and gives
// it back; behind a 101 nothing is kept at all.
func TestStreamsAreNotBuffered(t *testing.T) {
	event := strings.Repeat("data: "+strings.Repeat("e", 1000)+"\n\n", 60)
	lines := []string{get, "<HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"}
	frames := []string{">GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "<HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"}
	for range 100 {
		lines = append(lines, "<"+event)
		frames = append(frames, "<"+event, ">"+event)
	}
	res := run(t, dialog(append(lines, "<FIN")...), segmenttest.Live, exchange.WantWhole)
	if len(res.Exchanges) != 1 {
		t.Fatalf("%d exchanges, %s", len(res.Exchanges), ends(&res.Parser))
	}
	if b := res.Exchanges[0].Response.Body; !b.Truncated || len(b.Bytes) != 1<<20 || b.Size != int64(100*len(event)) {
		t.Errorf("%d bytes of %d are kept", len(b.Bytes), b.Size)
	}
	res = run(t, dialog(frames...), segmenttest.Live, exchange.WantWhole)
	if len(res.Exchanges) != 1 || len(res.Exchanges[0].Response.Body.Bytes) != 0 || res.Parser.Upgraded != uint64(200*len(event)) {
		t.Errorf("websocket: %d exchanges, %s, %d bytes upgraded", len(res.Exchanges), fmt.Sprint(doubts(res.Exchanges)), res.Parser.Upgraded)
	}
}
