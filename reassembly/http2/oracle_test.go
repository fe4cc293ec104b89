package http2_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// heard is what x/net's Framer reads of one stream in one direction.
type heard struct {
	heads [][]hpack.HeaderField
	body  bytes.Buffer
	end   bool
}

// framer reads one side's bytes with x/net's Framer. Promised requests come
// back under their own stream, with a nil error only when all was read.
func framer(b []byte) (streams, promised map[uint32]*heard, err error) {
	streams, promised = map[uint32]*heard{}, map[uint32]*heard{}
	fr := xhttp2.NewFramer(io.Discard, bytes.NewReader(b))
	dec := hpack.NewDecoder(4096, nil)
	dec.SetAllowedMaxDynamicTableSize(1 << 16)
	fr.ReadMetaHeaders = dec
	fr.SetMaxReadFrameSize(1<<24 - 1)
	get := func(m map[uint32]*heard, id uint32) *heard {
		if m[id] == nil {
			m[id] = &heard{}
		}
		return m[id]
	}
	var block []byte
	var promise uint32
	for {
		f, err := fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			return streams, promised, nil
		} else if err != nil {
			return nil, nil, err
		}
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame:
			h := get(streams, f.StreamID)
			h.heads = append(h.heads, slices.Clone(f.Fields))
			h.end = h.end || f.StreamEnded()
		case *xhttp2.DataFrame:
			h := get(streams, f.StreamID)
			h.body.Write(f.Data())
			h.end = h.end || f.StreamEnded()
		case *xhttp2.PushPromiseFrame: // not a MetaHeadersFrame: decoded here
			block, promise = slices.Clone(f.HeaderBlockFragment()), f.PromiseID
			for !f.HeadersEnded() {
				more, err := fr.ReadFrame()
				if err != nil {
					return nil, nil, err
				}
				c := more.(*xhttp2.ContinuationFrame)
				block = append(block, c.HeaderBlockFragment()...)
				if c.HeadersEnded() {
					break
				}
			}
			fields, err := dec.DecodeFull(block)
			if err != nil {
				return nil, nil, err
			}
			h := get(promised, promise)
			h.heads = append(h.heads, fields)
		}
	}
}

func regular(fields []hpack.HeaderField) exchange.Header {
	h := exchange.Header{}
	for _, f := range fields {
		if !f.IsPseudo() {
			h = append(h, exchange.Field{Name: f.Name, Value: f.Value})
		}
	}
	return h
}

func pseudoOf(fields []hpack.HeaderField, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// What x/net reads of the same bytes is what the exchanges say.
func TestAgainstFramer(t *testing.T) {
	compared, skipped := 0, 0
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		m := &model{}
		s := segmenttest.Stage(r, m)
		var side [2][]byte
		for _, x := range m.msgs {
			side[index(x.client)] = append(side[index(x.client)], x.b...)
		}
		requests, _, err := framer(bytes.TrimPrefix(side[0], []byte(preface)))
		answers, promised, err2 := framer(side[1])
		if err != nil || err2 != nil {
			skipped++ // two changes of the table's size in one block
			return
		}
		res := run(t, s.Segs, s.Path, exchange.WantWhole)
		seen := map[uint32]bool{}
		for _, x := range res.Exchanges {
			seen[x.Stream] = true
			q, a := requests[x.Stream], answers[x.Stream]
			if x.Pushed {
				q = promised[x.Stream]
			}
			final := slices.IndexFunc(a.heads, func(f []hpack.HeaderField) bool { return pseudoOf(f, ":status") >= "2" })
			head := q.heads[0]
			ours := fmt.Sprintf("%s %s %s %s %v %d %v %x %x", x.Request.Method, x.Request.Target, x.Request.Host, x.Request.Scheme, x.Request.Header,
				x.Response.Status, x.Response.Header, sumOf(&x.Request.Body), sumOf(&x.Response.Body))
			theirs := fmt.Sprintf("%s %s %s %s %v %s %v %x %x", pseudoOf(head, ":method"), pseudoOf(head, ":path"), pseudoOf(head, ":authority"), pseudoOf(head, ":scheme"), regular(head),
				pseudoOf(a.heads[final], ":status"), regular(a.heads[final]), sha256.Sum256(q.body.Bytes()), sha256.Sum256(a.body.Bytes()))
			if ours != theirs {
				t.Fatalf("stream %d:\n%s\nx/net:\n%s", x.Stream, ours, theirs)
			}
			compared++
		}
		for id, a := range answers {
			whole := a.end && (id%2 == 0 || requests[id] != nil && requests[id].end)
			if whole != seen[id] {
				t.Fatalf("stream %d: whole %v, reported %v: %s", id, whole, seen[id], words(&res))
			}
		}
	})
	t.Logf("%d exchanges compared, %d conversations skipped", compared, skipped)
	if compared == 0 {
		t.Error("nothing was compared")
	}
}

// One conversation with all kinds of frames, cut in two segments at each offset
// of each message, is always the same.
func TestEveryCut(t *testing.T) {
	v := newConv()
	must(v.side[1].fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingHeaderTableSize, Val: 8192}))
	v.send(false)
	v.raw(true, preface)
	must(v.side[0].fr.WriteSettings())
	must(v.side[0].fr.WriteSettingsAck())
	v.send(true)
	p := v.side[0]
	p.enc.SetMaxDynamicTableSizeLimit(8192)
	p.enc.SetMaxDynamicTableSize(8192)
	b := p.encode(":method: POST", ":scheme: http", ":path: /p", ":authority: h", "x: "+strings.Repeat("y", 40))
	must(p.fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:7], PadLength: 2, Priority: xhttp2.PriorityParam{Weight: 1}}))
	must(p.fr.WriteContinuation(1, true, b[7:]))
	must(p.fr.WriteDataPadded(1, false, []byte("abc"), []byte{0, 0}))
	v.send(true)
	must(v.side[1].fr.WritePushPromise(xhttp2.PushPromiseParam{StreamID: 1, PromiseID: 2, PadLength: 1, EndHeaders: true, BlockFragment: v.side[1].encode(":method: GET", ":scheme: http", ":path: /q", ":authority: h")}))
	v.send(false)
	v.headers(false, 1, false, ":status: 103")
	v.headers(true, 1, true, "t: 1")
	v.get(3)
	must(v.side[0].fr.WriteRSTStream(3, xhttp2.ErrCodeCancel))
	v.send(true)
	v.ok(2, "pushed")
	v.ok(1, "ok")
	must(v.side[1].fr.WriteGoAway(1, 0, []byte("x")))
	v.send(false)
	const want = "2 GET /q 200 0 6 ?pushed; 1 POST /p 200 3 2 +103"
	total := 0
	for _, m := range v.msgs {
		total += len(m.b)
	}
	for at := range total {
		w := &conv{}
		// Messages before the cut stay whole.
		pos := 0
		for _, m := range v.msgs {
			if pos < at && at < pos+len(m.b) {
				w.msgs = append(w.msgs, message{client: m.client, b: m.b[:at-pos]}, message{client: m.client, b: m.b[at-pos:]})
			} else {
				w.msgs = append(w.msgs, m)
			}
			pos += len(m.b)
		}
		res := room{live: true, want: exchange.WantWhole}.run(t, w.whole())
		if got := strings.Join(res.words, "; "); got != want || res.ends() != "no_response reset" {
			t.Fatalf("cut at %d: %q, %s", at, got, res.ends())
		}
	}
}
