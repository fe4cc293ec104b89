package http1_test

import (
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
	"github.com/shadowtap/shadowtap/reassembly/segmenttest"
)

// What proves an exchange behind a hole, and what does not.
func TestFoundAgain(t *testing.T) {
	const (
		post = ">POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"
		rest = ">abcde\r\n0\r\n\r\n"
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
