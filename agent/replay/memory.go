package replay

import (
	"sync/atomic"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// Memory bounds the bodies that replays hold, together for all Replayers that
// share it. An exchange counts with its request and its reference's answer from
// Submit on, and with the candidate's answer once that is whole, until Done has
// returned. Where there is no room Submit sheds.
type Memory struct {
	limit int64
	used  atomic.Int64
}

// NewMemory makes a Memory of limit bytes.
func NewMemory(limit int64) *Memory { return &Memory{limit: limit} }

// Used is how many bytes are held. Answers may bring it above the limit.
func (m *Memory) Used() int64 { return m.used.Load() }

// take reserves n bytes where there is room. Nothing else being held, there is.
func (m *Memory) take(n int64) bool {
	if m == nil {
		return true
	}
	if used := m.used.Add(n); used > m.limit && used > n {
		m.used.Add(-n)
		return false
	}
	return true
}

// tight says that what can be left away should be.
func (m *Memory) tight() bool { return m != nil && m.used.Load() > m.limit/2 }

// add reserves what is there already, or with a negative n gives it back.
func (m *Memory) add(n int64) {
	if m != nil {
		m.used.Add(n)
	}
}

func heldBy(x *exchange.Exchange) (n int64) {
	if q := x.Request; q != nil && q.Proto == protoHTTP2 {
		n += int64(cap(q.Body.Bytes))
		for _, f := range q.Header {
			n += int64(len(f.Name) + len(f.Value))
		}
	} else if q != nil {
		n += int64(len(q.Head) + cap(q.Wire))
	}
	return n + heldByAnswer(x.Response)
}

func heldByAnswer(r *exchange.Response) int64 {
	if r == nil {
		return 0
	}
	return int64(cap(r.Body.Bytes))
}
