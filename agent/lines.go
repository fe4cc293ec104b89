package agent

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// exchangeLine is one exchange as --exchanges prints it.
type exchangeLine struct {
	Client   string   `json:"client"`
	Server   string   `json:"server"`
	Proto    string   `json:"proto"`
	Method   string   `json:"method"`
	URI      string   `json:"uri"`
	Host     string   `json:"host"`
	Status   int      `json:"status"`
	Interim  []int    `json:"interim"`
	Request  bodyLine `json:"request"`
	Response bodyLine `json:"response"`
}

type bodyLine struct {
	Len      int64  `json:"body_len"`
	SHA256   string `json:"body_sha256"`
	Complete bool   `json:"complete"`
	Framing  string `json:"framing"`
}

func bodyOf(b *exchange.Body, f exchange.Framing) bodyLine {
	return bodyLine{Len: b.Size, SHA256: hex.EncodeToString(b.Digest[:]), Complete: true, Framing: f.String()}
}

// exchangeLines writes complete exchanges as JSON lines. Safe for use by
// several shards.
type exchangeLines struct {
	mu  sync.Mutex
	w   *bufio.Writer
	enc *json.Encoder
	n   uint64
	err error
}

func newExchangeLines(w io.Writer) *exchangeLines {
	b := bufio.NewWriterSize(w, 64<<10)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return &exchangeLines{w: b, enc: e}
}

// write adds a line. The first error stays and ends the writing.
func (l *exchangeLines) write(x *exchange.Exchange) {
	line := exchangeLine{
		Client: x.Flow.Client.String(), Server: x.Flow.Server.String(), Proto: "http/1",
		Method: x.Request.Method, URI: x.Request.Target, Host: x.Request.Host,
		Status: x.Response.Status, Interim: x.Response.Interim,
		Request:  bodyOf(&x.Request.Body, x.Request.Framing),
		Response: bodyOf(&x.Response.Body, x.Response.Framing),
	}
	if line.Interim == nil {
		line.Interim = []int{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	if l.err = l.enc.Encode(&line); l.err == nil {
		l.n++
	}
}

// flush writes out what is buffered and gives the first error.
func (l *exchangeLines) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.w.Flush()
	}
	if l.err != nil {
		return fmt.Errorf("write exchanges: %w", l.err)
	}
	return nil
}
