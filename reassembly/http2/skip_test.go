package http2_test

import (
	"testing"

	"github.com/shadowtap/shadowtap/reassembly"
)

// asked counts how often nothing of a connection is wanted any more.
type asked struct{ rest int }

func (a *asked) SkipRest(*reassembly.Conn) { a.rest++ }

// Of a connection that was given up nothing is wanted any more; one that lost its
// tables is counted to its end.
func TestSkipRest(t *testing.T) {
	for _, tt := range []struct {
		name  string
		write func(v *conv)
		want  int
	}{
		{"in use", func(v *conv) { v.get(1); v.ok(1, "") }, 0},
		{"a field of no table", func(v *conv) { v.frame(true, 1, 5, 1, "\x82\x84\x86\xff\x7f"); v.get(3) }, 1},
		{"DATA of no stream", func(v *conv) { v.frame(false, 0, 0, 0, "x"); v.get(1) }, 1},
		{"a hole in a header block", func(v *conv) { v.get(1); v.lose(); v.ok(1, ""); v.get(3) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newConv()
			v.hello()
			tt.write(v)
			var a asked
			room{live: true, skipper: &a}.run(t, v.whole())
			if a.rest != tt.want {
				t.Errorf("told %d times, want %d", a.rest, tt.want)
			}
		})
	}
}
