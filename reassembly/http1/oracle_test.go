package http1_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	gpreassembly "github.com/gopacket/gopacket/reassembly"

	"github.com/shadowtap/shadowtap/reassembly"
	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// streams collects the bytes of both directions, as a handler of the assembler
// and as a stream of gopacket's.
type streams [2]bytes.Buffer

func (s *streams) Open(*reassembly.Conn) reassembly.Handler { return s }
func (s *streams) Guess([]byte) reassembly.Side             { return reassembly.SideUnknown }
func (s *streams) Blind(int)                                {}
func (s *streams) BlindEnd()                                {}
func (s *streams) Data(d reassembly.Dir, b []byte, _ *reassembly.At) {
	s[d].Write(b)
}
func (s *streams) Gap(reassembly.Dir, uint64, *reassembly.At)            {}
func (s *streams) Doubt(reassembly.Dir, uint64, uint64)                  {}
func (s *streams) End(reassembly.Dir, reassembly.End)                    {}
func (s *streams) Close(reassembly.Close)                                {}
func (s *streams) GetCaptureInfo() (ci gopacket.CaptureInfo)             { return ci }
func (s *streams) ReassemblyComplete(gpreassembly.AssemblerContext) bool { return false }

func (s *streams) New(_, _ gopacket.Flow, _ *layers.TCP, _ gpreassembly.AssemblerContext) gpreassembly.Stream {
	return s
}

func (s *streams) Accept(*layers.TCP, gopacket.CaptureInfo, gpreassembly.TCPFlowDirection, gpreassembly.Sequence, *bool, gpreassembly.AssemblerContext) bool {
	return true
}

func (s *streams) ReassembledSG(sg gpreassembly.ScatterGather, _ gpreassembly.AssemblerContext) {
	n, _ := sg.Lengths()
	d := reassembly.Client
	if dir, _, _, _ := sg.Info(); dir == gpreassembly.TCPDirServerToClient {
		d = reassembly.Server
	}
	s[d].Write(sg.Fetch(n))
}

// Where gopacket's reassembly is right (order, retransmissions, overlaps with
// equal bytes, the wrap), both give the same bytes. Left out is what it does
// otherwise: segments before the SYN, a probe's garbage in the queue (there the
// later copy wins), and segments of a connection that it took as closed.
func TestStreamsAgainstGopacket(t *testing.T) {
	network := segmenttest.Network()
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		mss := segmenttest.RandomMSS(r)
		c := model{pipeline: r.IntN(3) == 0}.Write(r, mss < 100)
		c.FIN = false
		isn, wrap := segmenttest.WrapISN(r, c)
		segs, by := segmenttest.Mutate(r, segmenttest.Cut(r, c, mss, isn), network[:len(network)-1])
		var want, mine, theirs streams
		for i := range c.Messages {
			d := reassembly.Client
			if !c.Messages[i].ToServer {
				d = reassembly.Server
			}
			want[d].Write(c.Messages[i].Bytes)
		}
		a, err := reassembly.New(reassembly.Config{Factory: &mine, Budget: &reassembly.Budget{Limit: 64 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		g := gpreassembly.NewAssembler(gpreassembly.NewStreamPool(&theirs))
		ip := layers.IPv4{SrcIP: net.IPv4(10, 0, 0, 1), DstIP: net.IPv4(10, 0, 0, 2)}
		var s reassembly.Segment
		for i := range segs {
			x := &segs[i]
			x.Fill(&s)
			a.Segment(&s)
			l := layers.TCP{SrcPort: layers.TCPPort(s.SrcPort), DstPort: layers.TCPPort(s.DstPort), Seq: x.Seq, Ack: x.Ack,
				SYN: x.Flags&reassembly.SYN != 0, ACK: x.Flags&reassembly.ACK != 0}
			l.Payload = x.Payload
			l.SetInternalPortsForTesting()
			flow := ip.NetworkFlow()
			if !x.ToServer {
				flow = flow.Reverse()
			}
			g.AssembleWithContext(flow, &l, &theirs)
		}
		for d := range want {
			if !bytes.Equal(mine[d].Bytes(), want[d].Bytes()) || !bytes.Equal(theirs[d].Bytes(), mine[d].Bytes()) {
				t.Errorf("direction %d, MSS %d, wrap in %q, %v: %d bytes sent, %d of ours, %d of gopacket's", d, mss, wrap, by,
					want[d].Len(), mine[d].Len(), theirs[d].Len())
			}
		}
	})
}

// netHTTP reads the bytes of both directions as net/http does, request by
// request with its answer, and gives the model's lines.
func netHTTP(t *testing.T, client, server []byte) (l []string) {
	t.Helper()
	q, a := bufio.NewReader(bytes.NewReader(client)), bufio.NewReader(bytes.NewReader(server))
	for {
		req, err := http.ReadRequest(q)
		if err == io.EOF {
			return l
		}
		if err != nil {
			t.Fatalf("net/http reads no request: %v", err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Fatal(err)
		}
		for interim := 0; ; interim++ {
			resp, err := http.ReadResponse(a, req)
			if err != nil {
				t.Fatalf("net/http reads no answer to %s: %v", req.RequestURI, err)
			}
			if resp.StatusCode < 200 { // given as an answer of its own
				continue
			}
			content, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			l = append(l, line(req.Method, req.RequestURI, resp.StatusCode, len(body), len(content), sha256.Sum256(body), sha256.Sum256(content), interim))
			break
		}
	}
}

// The same bytes give net/http the same framing and bodies.
func TestBodiesAgainstNetHTTP(t *testing.T) {
	segmenttest.Seeds(t, func(t *testing.T, seed uint64, r *rand.Rand) {
		s := segmenttest.Stage(r, model{pipeline: r.IntN(3) == 0})
		var b [2][]byte
		for _, m := range s.Messages {
			i := 0
			if !m.ToServer {
				i = 1
			}
			b[i] = append(b[i], m.Bytes...)
		}
		res := run(t, s.Segs, s.Path, exchange.WantList)
		if theirs, mine := netHTTP(t, b[0], b[1]), lines(&res); !segmenttest.Same(theirs, mine) {
			t.Errorf("%s: ours\n%s\nnet/http\n%s", s, strings.Join(mine, "\n"), strings.Join(theirs, "\n"))
		}
	})
}

// readByNetHTTP says what net/http makes of a request and its answer: the length
// of the request's body, the status and the answer's body, or its error.
func readByNetHTTP(request, answer string) string {
	q, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
	if err != nil {
		return err.Error()
	}
	n, err := io.Copy(io.Discard, q.Body)
	if err != nil {
		return err.Error()
	}
	a, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), q)
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(a.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %d %q", n, a.StatusCode, body)
}

// Where net/http differs it is known, and why ours is as it is.
func TestNetHTTPDiffers(t *testing.T) {
	const next = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, tt := range []struct {
		name, request, answer string
		theirs, ours          string // what each makes of both
	}{
		{"both TE and CL: it takes TE and hides CL; ours is complete and not for replay",
			"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ok2[1:], `0 200 "ok"`, `0 200 "ok" te_and_cl`},
		{"two Hosts: it refuses", "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", ok2[1:], "too many Host headers", `0 200 "ok" host`},
		{"a space in the target: it refuses", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", ok2[1:], "malformed HTTP version", `0 200 "ok" target`},
		{"an empty line before the request: it refuses, RFC 9112 section 2.2 does not", "\r\n" + next, ok2[1:], "malformed HTTP request", `0 200 "ok"`},
		{"a list of codings: it refuses", "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ok2[1:], "unsupported transfer encoding", `0 200 "ok" te`},
		{"obs-fold: it joins; ours is complete and not for replay", "GET /a HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", ok2[1:], `0 200 "ok"`, `0 200 "ok" syntax`},
		{"CONNECT: it takes the tunnel as the answer's body", "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n\x16\x03tunnel", `0 200 "\x16\x03tunnel"`, `0 200 "" connect`},
		{"CONNECT refused: both read an answer", "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", `0 403 "no"`, `0 403 "no" connect`},
		{"TE in a 1.0 request: it sees no body; ours is complete and not for replay",
			"POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", ok2[1:], `0 200 "ok"`, `2 200 "ok" te_in_1_0`},
		{"TE in a 1.0 answer: it reads to the end; ours cannot know (RFC 9112 section 6.1)",
			next, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", `0 200 "2\r\nab\r\n0\r\n\r\n"`, "unparsable framing"},
		{"unequal CLs: both refuse", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", ok2[1:], "multiple Content-Length", "unparsable framing"},
		{"unequal CLs in one line: both refuse", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2, 3\r\n\r\nabc", ok2[1:], "bad Content-Length", "unparsable framing"},
		{"unequal CLs in the answer: both refuse", next, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "multiple Content-Length", "unparsable framing"},
		{"equal CLs: both take one", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", ok2[1:], `2 200 "ok"`, `2 200 "ok"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if theirs := readByNetHTTP(tt.request, tt.answer); theirs != tt.theirs && (tt.theirs[0] == '0' || !strings.Contains(theirs, tt.theirs)) {
				t.Errorf("net/http: %s, want %s", theirs, tt.theirs)
			}
			res := run(t, dialog(">"+tt.request, "<"+tt.answer, "<FIN"), segmenttest.Live, exchange.WantWhole)
			ours := ends(&res.Parser)
			for _, x := range res.Exchanges {
				ours += fmt.Sprintf("%d %d %q", x.Request.Body.Size, x.Response.Status, x.Response.Body.Bytes)
				if x.Doubt != exchange.DoubtNone {
					ours += " " + x.Doubt.String()
				}
			}
			if ours != tt.ours {
				t.Errorf("ours: %s, want %s", ours, tt.ours)
			}
		})
	}
	// Without the request's method it takes the next message as the body of an
	// answer to HEAD, and after CONNECT the tunnel; ours knows both.
	both := "HTTP/1.1 200 OK\r\nContent-Length: 38\r\n\r\n" + ok2[1:]
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(both)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); !strings.HasPrefix(string(b), "HTTP/1.1") {
		t.Errorf("net/http: %q", b)
	}
	res := run(t, dialog(">HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n"+next, "<"+both), segmenttest.Live, exchange.WantList)
	if len(res.Exchanges) != 2 {
		t.Errorf("%d exchanges, %s", len(res.Exchanges), ends(&res.Parser))
	}
}
