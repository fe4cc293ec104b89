package diff

import (
	"strings"
	"testing"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func grpcRequest() *exchange.Request {
	return &exchange.Request{Method: "POST", Target: "/a.B/C", Proto: "HTTP/2", Host: "h", Header: header("content-type: application/grpc+proto", "te: trailers")}
}

// grpcAnswerOf is an answer with a body and trailers; without a body the
// trailers are its head.
func grpcAnswerOf(body string, trailers ...string) *exchange.Response {
	if body == "" {
		return answer(200, "", append([]string{"content-type: application/grpc"}, trailers...)...)
	}
	a := answer(200, body, "content-type: application/grpc")
	a.Trailer = header(trailers...)
	return a
}

func TestGRPC(t *testing.T) {
	for _, tt := range []struct {
		name      string
		ref, cand *exchange.Response
		outcome   Outcome
		want      []string
	}{
		{"equal", grpcAnswerOf("m", "grpc-status: 0"), grpcAnswerOf("m", "grpc-status: 0"), Equal, nil},
		{"status", grpcAnswerOf("m", "grpc-status: 0", "a: b"), grpcAnswerOf("m", "grpc-status: 13", "a: b"), Divergent, []string{"grpc changed status 0|13"}},
		{"status and order", grpcAnswerOf("m", "grpc-status: 0", "grpc-message: x"), grpcAnswerOf("n", "grpc-message: x", "grpc-status: 2"), Divergent,
			[]string{"grpc changed status 0|2", "body not_fully_compared $ m|n ;the reference: gRPC is cut in the frame of message 0 at byte 0; the candidate: gRPC is cut in the frame of message 0 at byte 0"}},
		{"no status", grpcAnswerOf("m", "grpc-status: 0"), grpcAnswerOf("m"), Divergent, []string{"grpc removed status 0|"}},
		{"odd status", grpcAnswerOf("m", "grpc-status: 0"), grpcAnswerOf("m", "grpc-status: 00"), Divergent, []string{"grpc changed status 0|00"}},
		{"message", grpcAnswerOf("m", "grpc-status: 5", "grpc-message: no%20user"), grpcAnswerOf("m", "grpc-status: 5", "grpc-message: no us%C3%A9r"), Divergent,
			[]string{"trailer changed grpc-message no user|no usér"}},
		{"message spelled otherwise", grpcAnswerOf("m", "grpc-status: 5", "grpc-message: 50%25 a%zz%"), grpcAnswerOf("m", "grpc-status: 5", "grpc-message: %350%25 %61%zz%"), Equal, nil},
		{"trailers-only", grpcAnswerOf("m", "grpc-status: 0"), grpcAnswerOf("", "grpc-status: 5", "grpc-message: gone"), Divergent,
			[]string{"grpc changed status 0|5", "body removed m|", "trailer added grpc-message |gone"}},
		{"both trailers-only", grpcAnswerOf("", "grpc-status: 5", "grpc-message: gone"), grpcAnswerOf("", "grpc-status: 7", "grpc-message: no"), Divergent,
			[]string{"grpc changed status 5|7", "trailer changed grpc-message gone|no"}},
		{"trailers-only is no difference of its own", grpcAnswerOf("", "grpc-status: 5", "grpc-message: gone"), func() *exchange.Response {
			a := answer(200, "", "content-type: application/grpc")
			a.Trailer = header("grpc-status: 5", "grpc-message: gone")
			return a
		}(), Equal, nil},
		{"a field of the trailers", grpcAnswerOf("m", "grpc-status: 0", "x-cost: 1"), grpcAnswerOf("m", "grpc-status: 0", "x-cost: 2"), Divergent, []string{"trailer changed x-cost 1|2"}},
		{"unavailable", grpcAnswerOf("", "grpc-status: 14"), grpcAnswerOf("m", "grpc-status: 0"), NotComparable, []string{"grpc changed status 14|0", "body added |m"}},
		{"unavailable behind a body", grpcAnswerOf("m", "grpc-status: 14"), grpcAnswerOf("m", "grpc-status: 0"), NotComparable, []string{"grpc changed status 14|0"}},
		{"candidate unavailable", grpcAnswerOf("m", "grpc-status: 0"), grpcAnswerOf("", "grpc-status: 14"), Divergent, []string{"grpc changed status 0|14", "body removed m|"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := compile(t, RuleConfig{}).Compare(grpcRequest(), tt.ref, tt.cand, Input{})
			expectDiffs(t, got, tt.outcome, tt.want...)
			if tt.outcome == NotComparable && got.Why != WhyReferenceFailed {
				t.Errorf("why %q", got.Why)
			}
		})
	}
	ref, cand := grpcAnswerOf("m", "grpc-status: 0"), grpcAnswerOf("m", "grpc-status: 13")
	expectDiffs(t, compile(t, RuleConfig{IgnoreHeaders: []string{"grpc-*"}}).Compare(grpcRequest(), ref, cand, Input{}), Ignored, "~grpc changed status 0|13")
	// Elsewhere these are fields as any other.
	for _, change := range []func(*exchange.Request){
		func(q *exchange.Request) { q.Proto = "HTTP/1.1" },
		func(q *exchange.Request) { q.Header = header("content-type: application/grpc-web") },
		func(q *exchange.Request) { q.Header = header("content-type: application/grp") },
	} {
		q := grpcRequest()
		change(q)
		got := compile(t, RuleConfig{}).Compare(q, grpcAnswerOf("m", "grpc-status: 14"), grpcAnswerOf("m", "grpc-status: 13"), Input{})
		expectDiffs(t, got, Divergent, "trailer changed grpc-status 14|13")
	}
}

// Fingerprints of statuses are few, whatever a candidate sends.
func TestGRPCFingerprint(t *testing.T) {
	of := func(ref, cand string) string {
		t.Helper()
		got := compile(t, RuleConfig{}).Compare(grpcRequest(), grpcAnswerOf("m", ref), grpcAnswerOf("m", cand), Input{})
		if len(got.Differences) != 1 {
			t.Fatalf("%+v", got.Differences)
		}
		return Fingerprint("users", "/a.B/{method}", &got.Differences[0])
	}
	five, six := of("grpc-status: 0", "grpc-status: 5"), of("grpc-status: 0", "grpc-status: 6")
	if five == six || of("grpc-status: 0", "grpc-status: 017") != of("grpc-status: 0", "grpc-status: x") || of("grpc-status: 0", "grpc-status: x") == five {
		t.Error("pairs are not told apart as they should be")
	}
	if want := hash16([]byte(strings.Join([]string{"users", "/a.B/{method}", "grpc", "changed", "0 5"}, "\x00"))); five != want {
		t.Errorf("%s, want %s", five, want)
	}
}

func FuzzPercentDecode(f *testing.F) {
	for _, s := range []string{"", "a", "%41", "%", "%4", "%zz%41", "50 %25"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := percentDecode(s)
		if len(got) > len(s) || !strings.Contains(s, "%") && got != s {
			t.Fatalf("%q from %q", got, s)
		}
		var b strings.Builder
		for i := range len(s) {
			b.WriteString("%")
			b.WriteByte("0123456789abcdef"[s[i]>>4])
			b.WriteByte("0123456789ABCDEF"[s[i]&15])
		}
		if got := percentDecode(b.String()); got != s {
			t.Fatalf("%q, want %q", got, s)
		}
	})
}
