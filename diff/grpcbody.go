package diff

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// grpcFrame is what stands before a message: a flag and the length (gRPC over
// HTTP2, Length-Prefixed-Message).
const grpcFrame = 5

// grpcMessages takes a body apart into messages, decoded by coding where they
// are coded. The reason, in fixed words and numbers, says what is wrong and
// where.
func (c *comparison) grpcMessages(d *decoder, body []byte, coding string) (all [][]byte, reason string) {
	left := c.rules.limits.decoded
	for at := 0; at < len(body); {
		if len(body)-at < grpcFrame {
			return nil, fmt.Sprintf("gRPC is cut in the frame of message %d at byte %d", len(all), at)
		}
		flag, n := body[at], int64(binary.BigEndian.Uint32(body[at+1:]))
		at += grpcFrame
		if n > int64(len(body)-at) {
			return nil, fmt.Sprintf("gRPC is cut in message %d at byte %d", len(all), at)
		}
		if flag&^0x81 != 0 {
			return nil, fmt.Sprintf("no gRPC: a flag of message %d at byte %d", len(all), at-grpcFrame)
		}
		if len(all) == c.rules.limits.items() {
			return nil, detailValues
		}
		m := body[at : at+int(n) : at+int(n)]
		at += int(n)
		if flag&1 != 0 {
			if coding == "" {
				return nil, fmt.Sprintf("message %d is coded and grpc-encoding does not say how", len(all))
			}
			var why string
			if m, why = d.decode(coding, m, left); why != "" {
				return nil, fmt.Sprintf("message %d: %s", len(all), why)
			}
			left -= int64(len(m))
			d.out = nil // the message is kept
		}
		all = append(all, m)
	}
	return all, ""
}

// grpcCoding is the coding of a call's messages.
func grpcCoding(h exchange.Header) string {
	v := lower(trimOWS(h.Get("grpc-encoding")))
	if v == "identity" {
		return ""
	}
	return v
}

// grpcBody compares the messages of two answers to a gRPC call.
func (c *comparison) grpcBody(m, n media, ref, cand []byte) {
	a, whyA := c.grpcMessages(&c.decodeA, ref, c.grpcCodings[0])
	b, whyB := c.grpcMessages(&c.decodeB, cand, c.grpcCodings[1])
	if whyA != "" || whyB != "" {
		c.notFully(ref, cand, whyA, whyB)
		return
	}
	var x, y [][]byte
	switch codec := grpcCodec(m); {
	case codec != grpcCodec(n):
		c.bytesBody(ref, cand, "")
		return
	case codec == "json":
		x, y = a, b
		for i, side := range [][][]byte{a, b} {
			for k, one := range side {
				if !validJSON(one) {
					why := fmt.Sprintf("message %d is no JSON", k)
					c.notFully(ref, cand, [2]string{why, ""}[i], [2]string{"", why}[i])
					return
				}
			}
		}
	case codec != "" && codec != "proto":
		for _, one := range a {
			x = append(x, appendBase64(nil, one))
		}
		for _, one := range b {
			y = append(y, appendBase64(nil, one))
		}
	default:
		whyA, whyB := notMessages(a), notMessages(b)
		if whyA != "" || whyB != "" {
			c.notFully(ref, cand, whyA, whyB)
			return
		}
		if x, y = c.messages(c.in.Descriptors.output(c.target), a, b); x == nil && (len(a) > 0 || len(b) > 0) {
			c.notFully(ref, cand, detailValues, "")
			return
		}
	}
	c.jsonBody(jsonArray(x), jsonArray(y))
}

// notMessages says which message is no protobuf, "" when all are.
func notMessages(all [][]byte) string {
	for i, m := range all {
		if _, bad := wireCount(m); bad >= 0 {
			return fmt.Sprintf("message %d is no protobuf at byte %d", i, bad)
		}
	}
	return ""
}

// grpcCodec is what the messages of a gRPC body are written in: "" and proto
// are protobuf.
func grpcCodec(m media) string {
	_, codec, _ := strings.Cut(m.kind, "+")
	return codec
}

func validJSON(b []byte) bool {
	var t tokens
	t.reset(b)
	for {
		switch t.next() {
		case tokenBad:
			return false
		case tokenEnd:
			return true
		}
	}
}

func jsonArray(values [][]byte) []byte {
	n := 2
	for _, v := range values {
		n += len(v) + 1
	}
	b := append(make([]byte, 0, n), '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	return append(b, ']')
}
