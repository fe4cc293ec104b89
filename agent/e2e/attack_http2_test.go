//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frameWriter writes HTTP/2 as only an attacker would.
type frameWriter struct {
	buf    bytes.Buffer
	framer *h2.Framer
	fields bytes.Buffer
	enc    *hpack.Encoder
	stream uint32
}

// newFrameWriter begins with the preface and the client's SETTINGS.
func newFrameWriter() *frameWriter {
	w := &frameWriter{stream: 1}
	w.framer = h2.NewFramer(&w.buf, nil)
	w.enc = hpack.NewEncoder(&w.fields)
	w.buf.WriteString(h2.ClientPreface)
	w.framer.WriteSettings()
	return w
}

// request writes the HEADERS of a whole request; tail is added to the block.
// It returns the stream.
func (w *frameWriter) request(tail []byte, fields ...hpack.HeaderField) uint32 {
	w.fields.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "attack"}, {Name: ":path", Value: "/attack"},
	}, fields...) {
		w.enc.WriteField(f)
	}
	w.fields.Write(tail)
	stream := w.stream
	w.stream += 2
	w.framer.WriteHeaders(h2.HeadersFrameParam{
		StreamID: stream, BlockFragment: w.fields.Bytes(), EndStream: true, EndHeaders: true,
	})
	return stream
}

// flush writes to the connection what there is.
func (w *frameWriter) flush(conn net.Conn) error {
	_, err := conn.Write(w.buf.Bytes())
	w.buf.Reset()
	return err
}

// end flushes, and waits until the server has read all: what is not read when
// a connection is closed resets it, and what was not yet sent is lost.
func (w *frameWriter) end(conn net.Conn) error {
	if err := w.flush(conn); err != nil {
		return err
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, conn)
	return err
}

// serveSettings sends the server's SETTINGS, reads and answers nothing.
func serveSettings(conn net.Conn) {
	framer := h2.NewFramer(conn, nil)
	if framer.WriteSettings() == nil {
		drop(conn)
	}
}

// http2Attacks are those of HTTP/2.
func http2Attacks() []attack {
	const resets, bombs = 100000, 400
	return []attack{
		{
			name:  "rapid reset",
			serve: serveSettings,
			run: func(t *testing.T, b *battle) {
				b.eachOf(t, 1, func(_ int, conn net.Conn) error {
					w := newFrameWriter()
					for i := range resets {
						w.framer.WriteRSTStream(w.request(nil), h2.ErrCodeCancel)
						if i%1000 == 999 {
							if err := w.flush(conn); err != nil {
								return err
							}
						}
					}
					return w.end(conn)
				})
			},
			told: func(t *testing.T, b *battle) {
				if n := b.ended(); n != resets {
					b.unseen("%d exchanges ended without a line of %d", n, resets)
				}
			},
		},
		{
			name:  "a HPACK bomb",
			serve: serveSettings,
			run: func(t *testing.T, b *battle) {
				b.eachOf(t, 4, func(_ int, conn net.Conn) error {
					w := newFrameWriter()
					// One field of 4,000 bytes, then named by one byte each: 62 is
					// the newest entry of the table (RFC 7541 section 2.3.3).
					w.request(nil, hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("b", 4000)})
					for range bombs {
						w.request(bytes.Repeat([]byte{0x80 | 62}, 16000))
					}
					return w.end(conn)
				})
			},
			told: func(t *testing.T, b *battle) {
				if n := b.ended(); n != 4*(bombs+1) {
					b.unseen("%d exchanges ended without a line of %d", n, 4*(bombs+1))
				}
				if len(b.lines) > 0 {
					t.Errorf("an exchange without an answer: %+v", b.lines[0])
				}
			},
		},
	}
}
