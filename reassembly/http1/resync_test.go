package http1_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// What proves an exchange behind a hole, and what does not.
func TestFoundAgain(t *testing.T) {
	const (
		post = ">POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"
		rest = ">abcde\r\n0\r\n\r\n"
		hint = "<HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
	)
	for _, tt := range []struct {
		name  string
		lines []string
		lost  []int // of lines
		got   int
		ends  string
	}{
		{"the answer to a request whose end is lost says where the server is", []string{get, ok2, post, rest, ok2, get, ok2, get, ok2, get, ok2}, []int{1, 3, 6}, 2, "gap, gap unproven"},
		{"the client says what it had before the server went on in a hole", []string{get, ok2, get, ok2, post, rest, ok2, get, ok2}, []int{0, 4, 6}, 1, "no_request late, gap"},
		{"nobody says what the client had before the server went on in a hole", []string{get, ok2, get, ok2, post, rest, ok2, get, ok2}, []int{0, 4, 5, 6}, 0, "no_request late, gap, gap unproven"},
		{"an end behind such a hole is not that of nothing else", []string{get, ok2, get, ok2, post, ok2, ">FIN", "<FIN"}, []int{0, 4, 5}, 0, "gap, gap unproven"},
		{"an answer is lost, and the next request says where its own is", []string{get, ok2, get, ok2, get, ok2}, []int{1}, 2, "gap"},
		{"nothing says so when nothing follows", []string{get, ok2, get, ok2, ">FIN", "<FIN"}, []int{1}, 0, "gap, gap unproven"},
		{"an interim answer is lost, and pipelining begins behind it", []string{get, hint, get, ok2, ok2, get, ok2, get, ok2}, []int{1}, 2, "gap, gap unproven"},
		{"and the server ends before it has answered all", []string{get, hint, get, ok2, "<FIN", ">FIN"}, []int{1}, 0, "gap, gap unproven"},
		{"and the last answer is lost too", []string{get, hint, get, ok2, ok2, get, ok2}, []int{1, 4}, 0, "gap, gap unproven"},
		{"and the request behind it", []string{get, hint, get, get, ok2, ok2, ok2, get, ok2}, []int{1, 3}, 0, "gap, gap unproven"},
		{"an interim answer is seen, the next is lost, and pipelining begins behind it", []string{get, hint, hint, get, ok2, ok2, get, ok2, get, ok2}, []int{2}, 2, "gap, gap unproven"},
		{"pipelining ends, and the client says that it waits for nothing", []string{get, get, ok2, ok2, get, ok2, get, ok2}, []int{2}, 2, "gap"},
		{"an end behind no hole is", []string{get, ok2, get, ok2, ">FIN", "<FIN"}, []int{0}, 1, "gap"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := dialog(tt.lines...)
			segs := all[:2:2]
			lost := 0
			for i, s := range all[2:] {
				if lost < len(tt.lost) && tt.lost[lost] == i {
					lost++
					continue
				}
				s.Lost = uint64(lost)
				segs = append(segs, s)
			}
			res := run(t, segs, segmenttest.Live, exchange.WantList)
			if e := ends(&res.Parser); res.N != tt.got || e != tt.ends {
				t.Errorf("%d exchanges, %s; want %d, %s: %+v", res.N, e, tt.got, tt.ends, res.Parser)
			}
		})
	}
}

// A client that pipelines for the first time while an answer is under way says where
// the server goes on with that answer, not where its own begins. Whatever is lost, no
// request gets the answer to another one.
func TestNoAnswerOfAnother(t *testing.T) {
	ask := func(of string) string { return ">GET /" + of + " HTTP/1.1\r\nHost: h\r\n\r\n" }
	head := func(of string, n int) string {
		return fmt.Sprintf("<HTTP/1.1 %d Of %s\r\nContent-Length: %d\r\n\r\n", 201+int(of[0]-'a'), of, n)
	}
	answer := func(of string) string { return head(of, 2) + "ok" }
	const (
		early = "<HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
		text  = "<HTTP/1.1 299 Content\r\nContent-Length: 3\r\n\r\nabc"
		put   = ">PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
		probe = ">HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n"
		part  = "<HTTP/1.1 201 Of a\r\nTransfer-Encoding: chunked\r\n\r\n"
	)
	for _, tt := range []struct {
		name  string
		lines []string
	}{
		{"behind an interim answer", []string{ask("a"), early, ask("b"), answer("a"), answer("b"), ask("c"), answer("c")}},
		{"behind two, each with its request", []string{ask("a"), early, ask("b"), early, ask("c"), answer("a"), answer("b"), answer("c"), ask("d"), answer("d")}},
		{"behind an interim answer in the middle", []string{ask("a"), answer("a"), ask("b"), early, ask("c"), answer("b"), answer("c"), ask("d"), answer("d")}},
		{"behind an interim answer, to HEAD", []string{ask("a"), early, probe, answer("a"), head("b", 2), ask("c"), answer("c")}},
		{"behind an interim answer, by HEAD, and then behind the head", []string{ask("a"), early, probe, head("a", len(text)-1), ask("c"), text, head("b", 2), answer("c"), ask("d"), answer("d")}},
		{"behind a head, and then the request's own body", []string{ask("a"), early, head("a", len(text)-1), strings.Replace(put, "/a", "/b", 1), text, ">abcd", ask("c"), answer("b"), answer("c"), ask("d"), answer("d")}},
		{"behind a body that waited for it", []string{put, early, ">abcd", ask("b"), answer("a"), answer("b"), ask("c"), answer("c")}},
		{"behind a head, and its body reads like an answer", []string{ask("a"), head("a", len(text)-1), ask("b"), text, answer("b"), ask("c"), answer("c")}},
		{"behind a piece of a body, and the next reads like an answer", []string{ask("a"), head("a", len(text)+3) + "1234", ask("b"), text, answer("b"), ask("c"), answer("c")}},
		{"behind a chunk's line, and it reads like an answer", []string{ask("a"), part + fmt.Sprintf("%x\r\n", len(text)-1), ask("b"), text, "<\r\n0\r\n\r\n", answer("b"), ask("c"), answer("c")}},
		{"behind an interim answer, and then the server ends", []string{ask("a"), early, ask("b"), answer("a"), "<FIN", ">FIN"}},
		{"behind an interim answer later, and then the server ends", []string{ask("a"), answer("a"), ask("b"), early, ask("c"), answer("b"), "<FIN", ">FIN"}},
		{"behind a head, and then the server ends", []string{ask("a"), head("a", len(text)-1), ask("b"), text, "<FIN", ">FIN"}},
		{"behind an interim answer, and then the server breaks off", []string{ask("a"), early, ask("b"), answer("a"), "<RST"}},
		{"behind an interim answer, and then nothing comes", []string{ask("a"), early, ask("b"), answer("a")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := dialog(tt.lines...)
			for lost := range 1 << len(tt.lines) {
				for _, path := range []segmenttest.Path{segmenttest.Live, segmenttest.Captured} {
					segs := slices.Clone(all[:2])
					n := uint64(0)
					for i, s := range all[2:] {
						if lost>>i&1 != 0 && len(s.Payload) > 0 {
							n++
							continue
						}
						if path == segmenttest.Live {
							s.Lost = n
						}
						segs = append(segs, s)
					}
					res := run(t, segs, path, exchange.WantList)
					for _, x := range res.Exchanges {
						if of := string(rune('a' + x.Response.Status - 201)); x.Request.Target != "/"+of {
							t.Errorf("%v, lost %b: %s has the answer %d: %s", path, lost, x.Request.Target, x.Response.Status, ends(&res.Parser))
						}
					}
					if lost == 0 && res.N != strings.Count(strings.Join(tt.lines, ""), " Of ") {
						t.Errorf("%v: %d exchanges, %s", path, res.N, ends(&res.Parser))
					}
				}
			}
		})
	}
}

// Of requests that come in one segment, the first that is seen of a connection, only the first
// says where an answer may begin: the others wait behind it.
func TestPipelinedIsNotFirstSeen(t *testing.T) {
	for _, path := range []segmenttest.Path{segmenttest.Live, segmenttest.Captured} {
		res := run(t, dialog(get+get[1:]+get[1:], ok2)[2:], path, exchange.WantList)
		if e := ends(&res.Parser); res.N != 0 || e != "gap unproven" {
			t.Errorf("%v: %d exchanges, %s: %+v", path, res.N, e, res.Parser)
		}
	}
}
