package segmenttest

import (
	"math/rand/v2"

	"github.com/shadowtap/shadowtap/reassembly"
)

// Part names a place in a message at which a reader's state is delicate.
type Part string

// The parts that models mark.
const (
	Head        Part = "head"
	ChunkLine   Part = "chunk line"
	Body        Part = "body"
	FrameHeader Part = "frame header"
)

// Span is a part of a message: the bytes [From, To).
type Span struct {
	Part     Part
	From, To int
	// Exchange is the index in Conversation.Wants that the bytes belong to, -1
	// for none.
	Exchange int
}

// Message is what one side sends without waiting for the other. One without
// bytes is a pure acknowledgement.
type Message struct {
	ToServer bool
	Bytes    []byte
	// Unread is how many bytes that stand before it were on their way to its sender: it
	// crosses them, and acknowledges what came before. Each side acknowledges at least
	// what it has acknowledged before.
	Unread int
	// Spans are the parts, in order. Bytes in none of them belong to no exchange.
	Spans []Span
}

// of says which exchange the byte at from belongs to, and whether [from, to)
// lies in one span of a Body.
func (m *Message) of(from, to int) (x int, inside bool) {
	for _, s := range m.Spans {
		if s.From <= from && from < s.To {
			return s.Exchange, s.Part == Body && to <= s.To
		}
	}
	return -1, false
}

// Conversation is what a Model has written.
type Conversation struct {
	Messages []Message
	// Wants has a line for each exchange, as the model shows it: "" for one that
	// had no end.
	Wants []string
	// FIN says that both sides end the connection, the server first.
	FIN bool
	// Pipelined says that a request was sent before the answer to the one
	// before was whole.
	Pipelined bool
}

// Model writes conversations of one protocol.
type Model interface {
	// Write writes a conversation. small asks for few bytes, because each may
	// stand in a segment of its own.
	Write(r *rand.Rand, small bool) *Conversation
}

// Segment is a segment of a conversation.
type Segment struct {
	ToServer bool
	Seq, Ack uint32
	Flags    reassembly.Flags
	Payload  []byte
	// Exchange is that of the first byte's Span.
	Exchange int
	// Probe says that the payload is a probe's garbage, which nobody sent.
	Probe bool
	// Inside says that all its bytes lie in one Span of a Body, so that a hole
	// in its place leaves the framing exact.
	Inside bool
	// Lost, Tap and Time are those of reassembly.Segment.
	Lost uint64
	Tap  uint16
	Time int64
}

// PureACK says that s carries nothing but an acknowledgement.
func (s *Segment) PureACK() bool { return len(s.Payload) == 0 && s.Flags == reassembly.ACK }

// end is the sequence number behind s.
func (s *Segment) end() uint32 {
	n := s.Seq + uint32(len(s.Payload))
	if s.Flags&(reassembly.SYN|reassembly.FIN) != 0 {
		n++
	}
	return n
}

func side(toServer bool) int {
	if toServer {
		return 0
	}
	return 1
}

// MSS are the sizes that conversations are cut into, in bytes: from one byte
// over Ethernet and jumbo frames to super-packets of BIG TCP.
var MSS = [...]int{1, 20, 536, 1460, 9000, 65000, 190_000}

// RandomMSS chooses one of MSS.
func RandomMSS(r *rand.Rand) int { return MSS[r.IntN(len(MSS))] }

// RandomISN gives initial sequence numbers for the client and the server.
func RandomISN(r *rand.Rand) [2]uint32 { return [2]uint32{r.Uint32(), r.Uint32()} }

// WrapISN gives initial sequence numbers with which the number 0 falls inside a
// part of c, behind its first byte, and which part that is. It is "" where c has
// no part of two bytes.
func WrapISN(r *rand.Rand, c *Conversation) ([2]uint32, Part) {
	isn := RandomISN(r)
	type place struct {
		part     Part
		toServer bool
		from, to int
	}
	byPart := map[Part][]place{}
	var parts []Part // in order of their first place, for the same choice by the same seed
	off := [2]int{}
	for i := range c.Messages {
		m := &c.Messages[i]
		for _, s := range m.Spans {
			if s.To-s.From < 2 {
				continue
			}
			if byPart[s.Part] == nil {
				parts = append(parts, s.Part)
			}
			at := off[side(m.ToServer)]
			byPart[s.Part] = append(byPart[s.Part], place{s.Part, m.ToServer, at + s.From, at + s.To})
		}
		off[side(m.ToServer)] += len(m.Bytes)
	}
	if len(parts) == 0 {
		return isn, ""
	}
	places := byPart[parts[r.IntN(len(parts))]]
	p := places[r.IntN(len(places))]
	zero := p.from + 1 + r.IntN(p.to-p.from-1)
	isn[side(p.toServer)] = -uint32(zero) - 1
	return isn, p.part
}

// Cut makes the segments of a connection: SYN, SYN and ACK, the messages in
// pieces of up to mss bytes, and the FINs. Half of the conversations are cut in
// pieces of exactly mss bytes, half in pieces of any length up to it.
func Cut(r *rand.Rand, c *Conversation, mss int, isn [2]uint32) []Segment {
	seq := [2]uint32{isn[0] + 1, isn[1] + 1}
	out := []Segment{
		{ToServer: true, Seq: isn[0], Flags: reassembly.SYN, Exchange: -1},
		{Seq: isn[1], Ack: seq[0], Flags: reassembly.SYN | reassembly.ACK, Exchange: -1},
		{ToServer: true, Seq: seq[0], Ack: seq[1], Flags: reassembly.ACK, Exchange: -1},
	}
	exact := r.IntN(2) == 0
	for i := range c.Messages {
		m := &c.Messages[i]
		d := side(m.ToServer)
		if len(m.Bytes) == 0 {
			out = append(out, Segment{ToServer: m.ToServer, Seq: seq[d], Ack: seq[1-d], Flags: reassembly.ACK, Exchange: -1})
			continue
		}
		at := 0
		for b := m.Bytes; len(b) > 0; {
			n := min(len(b), mss)
			if !exact {
				n = min(len(b), 1+r.IntN(mss))
			}
			f := reassembly.ACK
			if n == len(b) {
				f |= reassembly.PSH
			}
			x, inside := m.of(at, at+n)
			out = append(out, Segment{ToServer: m.ToServer, Seq: seq[d], Ack: seq[1-d] - uint32(m.Unread), Flags: f, Payload: b[:n], Exchange: x, Inside: inside})
			seq[d] += uint32(n)
			at += n
			b = b[n:]
		}
	}
	if c.FIN {
		out = append(out,
			Segment{Seq: seq[1], Ack: seq[0], Flags: reassembly.FIN | reassembly.ACK, Exchange: -1},
			Segment{ToServer: true, Seq: seq[0], Ack: seq[1] + 1, Flags: reassembly.FIN | reassembly.ACK, Exchange: -1},
			Segment{Seq: seq[1] + 1, Ack: seq[0] + 1, Flags: reassembly.ACK, Exchange: -1})
	}
	return out
}
