package replay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shadowtap/shadowtap/agent/crash"
	"github.com/shadowtap/shadowtap/reassembly/http1"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What an HTTP/2 connection lets the peer do (RFC 9113 section 6.5.2).
const (
	// http2Window is how many bytes of an answer may be under way: they are
	// given back as they are read, so it bounds nothing but speed.
	http2Window = 1 << 20
	// http2Frame is the longest frame that is taken, the protocol's least.
	http2Frame = 16 << 10
	// http2ReadAhead is the size of a connection's buffer.
	http2ReadAhead = 32 << 10
	// http2HeaderList bounds a head, as RFC 9113 counts it: 32 bytes for each
	// field beside its name and value.
	http2HeaderList = http1.MaxHead
	// http2Pending bounds the control frames that wait for a peer that reads
	// nothing while a request is written.
	http2Pending = 64 << 10
	// http2Flush is how many bytes of control frames are sent at once.
	http2Flush = 4 << 10
)

const (
	defaultWindow  = 65535 // RFC 9113 section 6.9.2
	defaultTable   = 4096  // RFC 9113 section 6.5.2
	maxWindow      = 1<<31 - 1
	maxHTTP2Stream = 1<<31 - 1
)

// http2Error is what ended an attempt, with its word.
type http2Error struct {
	word string
	err  error
	// refused: the peer says that it did not look at the request (RFC 9113
	// section 8.7), so it may be sent once more.
	refused bool
}

func (e *http2Error) Error() string { return e.err.Error() }
func (e *http2Error) Unwrap() error { return e.err }

// broken makes an error of the peer's.
func broken(word, format string, args ...any) error {
	return &http2Error{word: word, err: fmt.Errorf(format, args...)}
}

// http2Conn is an HTTP/2 connection that carries one request at a time. It
// belongs to one worker. Frames that come while it rests are read with the next
// answer.
type http2Conn struct {
	*conn
	// rw is what frames go through: the connection, or TLS over it.
	rw     net.Conn
	in     *source
	framer *http2.Framer
	sent   *atomic.Uint64
	// opened says that the peer's settings came; stream is the latest.
	opened bool
	stream uint32
	// goingAway is the peer's GOAWAY, nil without one; lastStream is its last.
	goingAway  error
	lastStream uint32
	// credit and streamCredit are what the peer may still send.
	credit, streamCredit int64

	// mu guards what follows: a large request is written by a goroutine of
	// its own.
	mu   sync.Mutex
	wake sync.Cond
	// writing says that the goroutine runs, halt that it must end.
	writing, halt bool
	// pending are control frames that wait to be written.
	pending []byte
	encoder *hpack.Encoder
	block   bytes.Buffer
	// What the peer's settings say.
	maxFrame, maxStreams uint32
	initialWindow        int64
	// window and streamWindow are what it takes now.
	window, streamWindow int64
}

func newHTTP2Conn(c *conn, rw net.Conn) *http2Conn {
	h := &http2Conn{
		conn: c, rw: rw, sent: &c.counts.sent, in: &source{from: rw, received: &c.counts.received},
		maxFrame: http2Frame, maxStreams: 1, initialWindow: defaultWindow, window: defaultWindow, credit: http2Window,
	}
	h.in.buf = bufio.NewReaderSize(&h.in.socket, http2ReadAhead)
	h.in.socket.s = h.in
	h.wake.L = &h.mu
	h.encoder = hpack.NewEncoder(&h.block)
	h.framer = http2.NewFramer(nil, h.in.buf)
	h.framer.SetReuseFrames()
	h.framer.SetMaxReadFrameSize(http2Frame)
	h.framer.ReadMetaHeaders = hpack.NewDecoder(defaultTable, nil)
	h.framer.MaxHeaderListSize = http2HeaderList
	return h
}

// source reads the connection, counts, and knows when bytes came.
type source struct {
	from     io.Reader
	received *atomic.Uint64
	buf      *bufio.Reader
	socket   sourceSocket
	// left is how many bytes may still be read for this answer.
	left int64
	// first is when the first byte of the frame that is read came, last when
	// the latest bytes did.
	first, last time.Time
}

type sourceSocket struct{ s *source }

// Read implements io.Reader.
func (k *sourceSocket) Read(p []byte) (int, error) {
	s := k.s
	if s.left <= 0 {
		return 0, errTooLarge
	}
	n, err := s.from.Read(p)
	if n > 0 {
		s.left -= int64(n)
		s.received.Add(uint64(n))
		s.last = time.Now()
		if s.first.IsZero() {
			s.first = s.last
		}
	}
	return n, err
}

// frame begins a frame.
func (s *source) frame() {
	s.first = time.Time{}
	if s.buf.Buffered() > 0 {
		s.first = s.last // the buffer is filled only when it is empty
	}
}

// whole says that the next frame is in the buffer to its end.
func (s *source) whole() bool {
	n := s.buf.Buffered()
	if n < frameHeader {
		return false
	}
	b, err := s.buf.Peek(frameHeader)
	return err == nil && n >= frameHeader+int(b[0])<<16+int(b[1])<<8+int(b[2])
}

const frameHeader = 9 // RFC 9113 section 4.1

func appendFrame(dst []byte, length int, kind http2.FrameType, flags http2.Flags, stream uint32) []byte {
	dst = append(dst, byte(length>>16), byte(length>>8), byte(length), byte(kind), byte(flags))
	return binary.BigEndian.AppendUint32(dst, stream)
}

func appendWindow(dst []byte, stream uint32, n int64) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(dst, 4, http2.FrameWindowUpdate, 0, stream), uint32(n))
}

// appendHeaders appends a header block, in as many frames as the peer's bound
// asks for (RFC 9113 section 6.10).
func appendHeaders(dst, block []byte, maxFrame int, stream uint32, end bool) []byte {
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for {
		n := min(len(block), maxFrame)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		dst = append(appendFrame(dst, n, kind, flags, stream), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return dst
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

// write sends bytes that are whole frames.
func (h *http2Conn) write(b []byte) error {
	n, err := h.rw.Write(b)
	h.sent.Add(uint64(n))
	return err
}

// control sends a control frame: with the request that is being written, else
// before the next wait for the peer.
func (h *http2Conn) control(frame []byte) error {
	h.mu.Lock()
	h.pending = append(h.pending, frame...)
	waiting := len(h.pending)
	writing := h.writing
	h.wake.Signal()
	h.mu.Unlock()
	switch {
	case waiting > http2Pending:
		return broken(ErrorProtocol, "peer reads nothing and asks for more than %d bytes of control frames", http2Pending)
	case !writing && waiting > http2Flush:
		return h.flush()
	}
	return nil
}

// flush writes the control frames that wait, unless the goroutine does.
func (h *http2Conn) flush() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writing || len(h.pending) == 0 {
		return nil
	}
	err := h.write(h.pending)
	h.pending = h.pending[:0]
	if err != nil && isClosed(err) {
		return nil // a peer that closed may have answered before it did
	}
	return err
}

// open sends the preface (RFC 9113 section 3.4) and waits for the peer's.
func (h *http2Conn) open() error {
	b := append(make([]byte, 0, 128), http2.ClientPreface...)
	b = appendFrame(b, 3*6, http2.FrameSettings, 0, 0)
	for _, s := range []http2.Setting{
		{ID: http2.SettingEnablePush, Val: 0},
		{ID: http2.SettingInitialWindowSize, Val: http2Window},
		{ID: http2.SettingMaxHeaderListSize, Val: http2HeaderList},
	} {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(s.ID)), s.Val)
	}
	b = appendWindow(b, 0, http2Window-defaultWindow)
	if err := h.write(b); err != nil && !isClosed(err) {
		return err
	}
	h.in.left = http2ReadAhead
	for !h.opened {
		f, err := h.read()
		if err != nil {
			return fmt.Errorf("wait for the peer's settings: %w", err)
		}
		if _, ok := f.(*http2.SettingsFrame); !ok {
			return broken(ErrorProtocol, "the peer's first frame is %v and not SETTINGS", f.Header().Type)
		}
	}
	return nil
}

// read gives the next frame, after it has done what the frames of the
// connection ask for. The frame is valid until the next call. Errors are those
// of the connection or of type *http2Error.
func (h *http2Conn) read() (http2.Frame, error) {
	if !h.in.whole() {
		if err := h.flush(); err != nil {
			return nil, err
		}
	}
	h.in.frame()
	f, err := h.framer.ReadFrame()
	if err != nil {
		return nil, h.readError(err)
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			break
		}
		if err := h.settings(f); err != nil {
			return nil, err
		}
		h.opened = true
		err = h.control(appendFrame(nil, 0, http2.FrameSettings, http2.FlagSettingsAck, 0))
	case *http2.PingFrame:
		if !f.IsAck() {
			err = h.control(append(appendFrame(nil, 8, http2.FramePing, http2.FlagPingAck, 0), f.Data[:]...))
		}
	case *http2.WindowUpdateFrame:
		err = h.windowUpdate(f)
	case *http2.GoAwayFrame:
		h.lastStream = f.LastStreamID
		h.goingAway = fmt.Errorf("the peer goes away: %v %.100q", f.ErrCode, f.DebugData())
		if f.ErrCode == http2.ErrCodeHTTP11Required {
			return nil, &http2Error{word: ErrorProtocol, err: h.goingAway}
		}
	case *http2.PushPromiseFrame:
		err = broken(ErrorProtocol, "the peer pushes, though the settings refuse it")
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// readError gives an error of the framer its word; those of the connection are
// left as they are.
func (h *http2Conn) readError(err error) error {
	var c http2.ConnectionError
	var s http2.StreamError
	switch {
	case errors.Is(err, errTooLarge):
		return broken(ErrorTooLarge, "answer goes on after the most that is read")
	case errors.As(err, &c), errors.As(err, &s):
		if detail := h.framer.ErrorDetail(); detail != nil {
			err = fmt.Errorf("%w: %w", err, detail)
		}
		return &http2Error{word: ErrorProtocol, err: err}
	case errors.Is(err, http2.ErrFrameTooLarge):
		return &http2Error{word: ErrorProtocol, err: err}
	case isClosed(err), errors.Is(err, io.ErrUnexpectedEOF):
		if h.goingAway != nil {
			return fmt.Errorf("%w, then %w", h.goingAway, err)
		}
	}
	return err
}

func (h *http2Conn) settings(f *http2.SettingsFrame) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.opened {
		h.maxStreams = maxHTTP2Stream // no bound without the setting
	}
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return &http2Error{word: ErrorProtocol, err: fmt.Errorf("setting %v: %w", s, err)}
		}
		switch s.ID {
		case http2.SettingMaxFrameSize:
			h.maxFrame = s.Val
		case http2.SettingMaxConcurrentStreams:
			h.maxStreams = s.Val
		case http2.SettingInitialWindowSize:
			// RFC 9113 section 6.9.2: the windows of open streams move along.
			h.streamWindow += int64(s.Val) - h.initialWindow
			h.initialWindow = int64(s.Val)
			if h.streamWindow > maxWindow {
				return broken(ErrorProtocol, "window of the stream over %d", maxWindow)
			}
		case http2.SettingHeaderTableSize:
			h.encoder.SetMaxDynamicTableSizeLimit(min(s.Val, defaultTable))
			h.encoder.SetMaxDynamicTableSize(min(s.Val, defaultTable))
		}
		return nil
	})
	h.wake.Signal()
	return err
}

func (h *http2Conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &h.window
	switch {
	case f.StreamID == 0:
	case f.StreamID == h.stream:
		w = &h.streamWindow
	case h.idleStream(f.StreamID):
		return broken(ErrorProtocol, "WINDOW_UPDATE of stream %d, which does not exist", f.StreamID)
	default:
		return nil
	}
	if *w += int64(f.Increment); *w > maxWindow {
		return broken(ErrorProtocol, "window over %d", maxWindow)
	}
	h.wake.Signal()
	return nil
}

// idleStream says that a stream was never opened (RFC 9113 section 5.1.1).
func (h *http2Conn) idleStream(id uint32) bool { return id%2 == 0 || id > h.stream }

// took gives the peer back what it sent, when half of it is used up: nothing
// of it is kept here, so a peer that sends more gains nothing.
func (h *http2Conn) took(n int64, end bool) error {
	h.credit -= n
	h.streamCredit -= n
	var few [2 * (frameHeader + 4)]byte
	b := few[:0]
	if h.credit < http2Window/2 {
		b = appendWindow(b, 0, http2Window-h.credit)
		h.credit = http2Window
	}
	if !end && h.streamCredit < http2Window/2 {
		b = appendWindow(b, h.stream, http2Window-h.streamCredit)
		h.streamCredit = http2Window
	}
	if len(b) == 0 {
		return nil
	}
	return h.control(b)
}

// encode makes the block of a header list. mu is held, or nothing else uses
// the connection. The block is valid until the next call.
func (h *http2Conn) encode(list []hpack.HeaderField) []byte {
	h.block.Reset()
	for _, f := range list {
		// A buffer takes everything.
		_ = h.encoder.WriteField(f)
	}
	return h.block.Bytes()
}

// upload is a request on its way.
type upload struct {
	h     *http2Conn
	ended chan struct{} // nil when all was written at once
	whole bool          // valid when ended is closed
}

// send writes a request on a new stream: at once if it fits into buf and the
// windows, else the head, and the rest from a goroutine of its own, because a
// peer may answer while it reads. buf is used for the length of the call. The
// error is that of the connection.
func (h *http2Conn) send(buf []byte, list []hpack.HeaderField, body []byte, trailer []hpack.HeaderField) (*upload, error) {
	h.mu.Lock()
	if h.stream == 0 {
		h.stream = 1
	} else {
		h.stream += 2
	}
	h.streamWindow, h.streamCredit = h.initialWindow, http2Window
	frame := int(h.maxFrame)
	b := append(buf[:0], h.pending...)
	h.pending = h.pending[:0]
	b = appendHeaders(b, h.encode(list), frame, h.stream, len(body) == 0 && len(trailer) == 0)
	frames := (len(body) + frame - 1) / frame
	fits := len(b)+len(body)+frames*frameHeader <= cap(buf) && int64(len(body)) <= min(h.window, h.streamWindow)
	if fits {
		h.window -= int64(len(body))
		h.streamWindow -= int64(len(body))
		for len(body) > 0 {
			n := min(len(body), frame)
			b = appendData(b, body[:n], h.stream, n == len(body) && len(trailer) == 0)
			body = body[n:]
		}
		if len(trailer) > 0 {
			b = appendHeaders(b, h.encode(trailer), frame, h.stream, true)
		}
	}
	h.writing, h.halt = !fits, false
	h.mu.Unlock()
	u := &upload{h: h}
	err := h.write(b)
	if err != nil || fits {
		u.whole = err == nil
		h.mu.Lock()
		h.writing = false
		h.mu.Unlock()
		return u, err
	}
	u.ended = make(chan struct{})
	go func() {
		defer crash.Guard()
		defer close(u.ended)
		u.whole = u.run(body, trailer)
	}()
	return u, nil
}

func appendData(dst, data []byte, stream uint32, end bool) []byte {
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagDataEndStream
	}
	return append(appendFrame(dst, len(data), http2.FrameData, flags, stream), data...)
}

// run writes what the windows let through, and control frames before it.
func (u *upload) run(body []byte, trailer []hpack.HeaderField) bool {
	h := u.h
	b := make([]byte, 0, frameHeader+http2Frame)
	left := len(body) > 0 || len(trailer) > 0
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		b = append(b[:0], h.pending...)
		h.pending = h.pending[:0]
		switch n := min(int64(len(body)), int64(h.maxFrame), http2Frame, h.window, h.streamWindow); {
		case h.halt:
			h.writing = false
			return !left
		case n > 0:
			h.window -= n
			h.streamWindow -= n
			left = n < int64(len(body)) || len(trailer) > 0
			b = appendData(b, body[:n], h.stream, !left)
			body = body[n:]
		case left && len(body) == 0:
			left = false
			b = appendHeaders(b, h.encode(trailer), int(h.maxFrame), h.stream, true)
		case len(b) > 0:
		case !left:
			h.writing = false
			return true
		default:
			h.wake.Wait()
			continue
		}
		h.mu.Unlock()
		err := h.write(b)
		h.mu.Lock()
		if err != nil {
			// The reader meets what ended the connection, or its deadline.
			h.writing = false
			return false
		}
	}
}

// finish waits a little for the rest of the request, and says whether all went
// out.
func (u *upload) finish() bool {
	if u.ended == nil {
		return u.whole
	}
	// On a connection that has no deadlines any more the write has ended.
	_ = u.h.conn.SetWriteDeadline(time.Now().Add(answeredEarly))
	return u.stop()
}

// abort ends the connection in the middle of something, and waits for what
// writes to it.
func (u *upload) abort() {
	u.h.conn.abort()
	u.stop()
}

func (u *upload) stop() bool {
	if u.ended == nil {
		return u.whole
	}
	h := u.h
	h.mu.Lock()
	h.halt = true
	h.wake.Signal()
	h.mu.Unlock()
	<-u.ended
	return u.whole
}
