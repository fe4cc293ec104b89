package agent

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// exchangeLine is one exchange as --exchanges prints it.
type exchangeLine struct {
	Client string `json:"client"`
	Server string `json:"server"`
	// Proto is http/1 or h2c: HTTP/2 in the clear.
	Proto  string `json:"proto"`
	Stream uint32 `json:"stream,omitempty"`
	Pushed bool   `json:"pushed,omitempty"`
	Method string `json:"method"`
	// URI and Host have each byte of what was sent as the character of its number:
	// JSON has no bytes.
	URI      string   `json:"uri"`
	Host     string   `json:"host"`
	Status   int      `json:"status"`
	Interim  []int    `json:"interim"`
	Request  bodyLine `json:"request"`
	Response bodyLine `json:"response"`
	// Reset is there when the stream was reset though both messages were whole.
	Reset *resetLine `json:"rst_stream,omitempty"`
	// GRPCStatus is grpc-status as on the wire.
	GRPCStatus string `json:"grpc_status,omitempty"`
}

type resetLine struct {
	By   string `json:"by"` // client or server
	Code uint32 `json:"code"`
}

type bodyLine struct {
	Len      int64  `json:"body_len"`
	SHA256   string `json:"body_sha256"`
	Complete bool   `json:"complete"`
	Framing  string `json:"framing"`
}

func bodyOf(b *exchange.Body, f exchange.Framing) bodyLine {
	sum, _ := b.Sum256() // of what is not kept it was taken
	return bodyLine{Len: b.Size, SHA256: hex.EncodeToString(sum[:]), Complete: true, Framing: f.String()}
}

// maxPending bounds the lines that wait for a slow file, in bytes.
const maxPending = 16 << 20

// exchangeLines writes complete exchanges as JSON lines. Safe for use by
// several shards.
type exchangeLines struct {
	// live says that a shard must not wait for the file: lines wait in memory,
	// and what is too much is dropped and counted.
	live bool
	w    io.Writer

	mu      sync.Mutex // of all below
	pending bytes.Buffer
	enc     *json.Encoder // into pending
	dropped uint64
	err     error

	writing sync.Mutex // held while a flush writes; taken before mu
	spare   bytes.Buffer
}

func newExchangeLines(w io.Writer, live bool) *exchangeLines {
	l := &exchangeLines{w: w, live: live}
	l.enc = json.NewEncoder(&l.pending)
	l.enc.SetEscapeHTML(false)
	return l
}

// write adds a line. The first error stays and ends the writing.
func (l *exchangeLines) write(x *exchange.Exchange) {
	line := exchangeLine{
		Client: x.Flow.Client.String(), Server: x.Flow.Server.String(), Proto: "http/1",
		Method: x.Request.Method, URI: exchange.Latin1(x.Request.Target), Host: exchange.Latin1(x.Request.Host),
		Status: x.Response.Status, Interim: x.Response.Interim,
		Request:  bodyOf(&x.Request.Body, x.Request.Framing),
		Response: bodyOf(&x.Response.Body, x.Response.Framing),
	}
	if line.Interim == nil {
		line.Interim = []int{}
	}
	if x.Stream != 0 {
		line.Proto, line.Stream, line.Pushed = "h2c", x.Stream, x.Pushed
	}
	if r := x.Reset; r != nil {
		line.Reset = &resetLine{By: "client", Code: r.Code}
		if r.ByServer {
			line.Reset.By = "server"
		}
	}
	if x.GRPC != nil {
		line.GRPCStatus = x.GRPC.Status
	}
	if !l.add(&line) {
		_ = l.flush() // the last flush tells of the error
	}
}

// add says false when it is time to flush.
func (l *exchangeLines) add(line *exchangeLine) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return true
	case l.live && l.pending.Len() > maxPending:
		l.dropped++
		return true
	}
	l.err = l.enc.Encode(line)
	return l.live || l.pending.Len() < 64<<10
}

// flush writes out what waits and gives the first error. Lines may be added
// meanwhile.
func (l *exchangeLines) flush() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	err := l.err
	l.pending, l.spare = l.spare, l.pending
	l.mu.Unlock()
	if err == nil {
		_, err = l.w.Write(l.spare.Bytes())
	}
	l.spare.Reset()
	if err != nil {
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
		return fmt.Errorf("write exchanges: %w", err)
	}
	return nil
}

// end flushes, and is an error too when lines were dropped.
func (l *exchangeLines) end() error {
	err := l.flush()
	if n := l.lost(); n > 0 {
		err = errors.Join(err, fmt.Errorf("write exchanges: %d lines were dropped, because the file takes them too slowly", n))
	}
	return err
}

func (l *exchangeLines) lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}
