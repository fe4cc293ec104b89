package http2

import (
	"strings"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// isGRPC says whether a content type is gRPC's: application/grpc, alone, with a
// +format or with parameters.
func isGRPC(v string) bool {
	const t = "application/grpc"
	return strings.HasPrefix(v, t) && (len(v) == len(t) || v[len(t)] == '+' || v[len(t)] == ';')
}

// messages counts the gRPC messages of one side: a byte that says whether it is
// compressed, the length in 4 bytes, and so many bytes, across DATA frames.
type messages struct {
	left   uint64 // of the message at hand
	n      uint32 // that began
	prefix uint8  // bytes of the prefix so far
	length uint32
}

func (m *messages) feed(b []byte) {
	for len(b) > 0 {
		if m.left > 0 {
			k := min(m.left, uint64(len(b)))
			m.left -= k
			b = b[k:]
			continue
		}
		if m.prefix > 0 {
			m.length = m.length<<8 | uint32(b[0])
		} else {
			m.length = 0
		}
		b = b[1:]
		if m.prefix++; m.prefix == 5 {
			m.prefix, m.left = 0, uint64(m.length)
			m.n++
		}
	}
}

// kindOf says what kind of call the messages show; early that an answer began
// before the requests were over.
func kindOf(requests, responses uint32, status string, early bool) exchange.GRPCKind {
	switch {
	case early && responses > 0, requests != 1 && responses > 1:
		return exchange.GRPCBidi
	case requests != 1:
		return exchange.GRPCClientStream
	case responses == 1, responses == 0 && status != "0":
		return exchange.GRPCUnary
	}
	return exchange.GRPCServerStream
}

// unescape decodes grpc-message, which is percent-encoded. What is no escape
// stays as it is.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := hex(s[i+1]), hex(s[i+2]); hi < 16 && lo < 16 {
				b.WriteByte(hi<<4 | lo)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func hex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
