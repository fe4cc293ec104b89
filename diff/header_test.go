package diff

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func TestHeaders(t *testing.T) {
	h := func(lines ...string) []string { return lines }
	in := Input{CandidateAuthority: "users-next:8080"}
	tests := []struct {
		name      string
		rules     RuleConfig
		ref, cand []string
		outcome   Outcome
		want      []string
	}{
		{"letter case and order of names", RuleConfig{}, h("A: 1", "B: 2"), h("b: 2", "a: 1"), Equal, nil},
		{"white space around", RuleConfig{}, h("A: 1"), h("A:\t 1 "), Equal, nil},
		{"changed", RuleConfig{}, h("A: 1"), h("A: 2"), Divergent, h("header changed a 1|2")},
		{"added", RuleConfig{}, nil, h("A: 2"), Divergent, h("header added a |2")},
		{"removed", RuleConfig{}, h("A: 1", "B: 2"), h("B: 2"), Divergent, h("header removed a 1|")},
		{"one more line", RuleConfig{}, h("A: 1"), h("A: 1", "A: 2"), Divergent, h("header changed a 1|1, 2")},
		{"one line or two", RuleConfig{}, h("Vary: a, b"), h("Vary: a", "Vary: b"), Equal, nil},
		{"a space behind the comma", RuleConfig{}, h("Vary: a,b,"), h("Vary: a, b"), Equal, nil},
		{"a space within quotes", RuleConfig{}, h(`W: "a,b"`), h(`W: "a, b"`), Divergent, h(`header changed w "a,b"|"a, b"`)},
		{"another order of elements", RuleConfig{}, h("Vary: a, b"), h("Vary: b, a"), Divergent, h("header reordered vary a, b|b, a")},
		{"another order of lines", RuleConfig{}, h("L: a", "L: b"), h("L: b", "L: a"), Divergent, h("header reordered l a, b|b, a")},
		{"empty value and none", RuleConfig{}, h("A:"), nil, Divergent, h("header removed a |")},

		{"default list", RuleConfig{}, h("Date: 1", "X-Amz-Id-2: x", "CF-Ray: 1", "X-Envoy-Peer: a"), h("Date: 2", "Server: s", "CF-Ray: 2"), Ignored,
			h("~header changed cf-ray 1|2", "~header changed date 1|2", "~header added server |s", "~header removed x-amz-id-2 x|", "~header removed x-envoy-peer a|")},
		{"default list off", RuleConfig{NoDefaults: true}, h("Date: 1", `ETag: "a"`), h("Date: 2", `ETag: "b"`), Divergent,
			h("header changed date 1|2", `header changed etag "a"|"b"`)},
		{"amzn is not amz", RuleConfig{}, h("X-Amzn-Id: x"), h("X-Amzn-Id: y"), Divergent, h("header changed x-amzn-id x|y")},
		{"named by Connection", RuleConfig{}, h("Connection: close, X-Hop", "X-Hop: 1"), nil, Ignored,
			h("~header removed connection close, X-Hop|", "~header removed x-hop 1|")},
		{"named by Connection on one side only", RuleConfig{}, h("Connection: X-Hop", "X-Hop: 1"), h("X-Hop: 2"), Divergent,
			h("~header removed connection X-Hop|", "header changed x-hop 1|2")},
		{"the 16th and 17th option of Connection", RuleConfig{}, h("Connection: "+strings.Repeat("a,", 15)+"x-hop,y-hop", "X-Hop: 1", "Y-Hop: 1"), h("Connection: " + strings.Repeat("a,", 15) + "x-hop,y-hop"), Divergent,
			h("~header removed x-hop 1|", "header removed y-hop 1|")},
		{"own names", RuleConfig{IgnoreHeaders: []string{"X-A", "x-b-*"}}, h("x-a: 1", "X-B-C: 1", "X-B: 1"), h("X-A: 2", "x-b: 2"), Divergent,
			h("~header changed x-a 1|2", "header changed x-b 1|2", "~header removed x-b-c 1|")},
		{"every name", RuleConfig{IgnoreHeaders: []string{"*"}}, h("x-a: 1", "Set-Cookie: a=b"), nil, Ignored, h("~header removed set-cookie a=b|", "~header removed x-a 1|")},

		{"presence of ETag", RuleConfig{}, h(`ETag: "a"`, "Last-Modified: x"), h(`ETag: "b"`), Divergent,
			h(`~header changed etag "a"|"b"`, "header removed last-modified x|")},
		{"framing", RuleConfig{}, h("Content-Length: 0"), h("Transfer-Encoding: chunked"), Ignored,
			h("~header removed content-length 0|", "~header added transfer-encoding |chunked")},

		{"media type by meaning", RuleConfig{}, h("Content-Type: application/json;charset=UTF-8"), h("Content-Type: Application/JSON; Charset=\"utf-8\""), Ignored,
			h(`~header changed content-type application/json;charset=UTF-8|Application/JSON; Charset="utf-8"`)},
		{"media type parameter", RuleConfig{}, h("Content-Type: application/json"), h("Content-Type: application/json; charset=utf-8"), Divergent,
			h("header changed content-type application/json|application/json; charset=utf-8")},
		{"media type parameter's case", RuleConfig{}, h("Content-Type: multipart/x; boundary=a"), h("Content-Type: multipart/x; boundary=A"), Divergent,
			h("header changed content-type multipart/x; boundary=a|multipart/x; boundary=A")},

		{"location of the candidate", RuleConfig{}, h("Location: http://shop.example/a?b#c"), h("Location: http://users-next:8080/a?b#c"), Ignored,
			h("~header changed location http://shop.example/a?b#c|http://users-next:8080/a?b#c")},
		{"location with the default port", RuleConfig{}, h("Location: http://SHOP.example:80"), h("Location: HTTP://users-next:8080"), Ignored,
			h("~header changed location http://SHOP.example:80|HTTP://users-next:8080")},
		{"location without scheme", RuleConfig{}, h("Location: //shop.example/a"), h("Location: //users-next:8080/a"), Ignored,
			h("~header changed location //shop.example/a|//users-next:8080/a")},
		{"location elsewhere", RuleConfig{}, h("Location: http://shop.example/a"), h("Location: http://users-next:8080/b"), Divergent,
			h("header changed location http://shop.example/a|http://users-next:8080/b")},
		{"location with another scheme", RuleConfig{}, h("Location: https://shop.example/a"), h("Location: http://users-next:8080/a"), Divergent,
			h("header changed location https://shop.example/a|http://users-next:8080/a")},
		{"location of a third", RuleConfig{}, h("Location: http://shop.example/a"), h("Location: http://other/a"), Divergent,
			h("header changed location http://shop.example/a|http://other/a")},
		{"location of the candidate for a third", RuleConfig{}, h("Location: http://other/a"), h("Location: http://users-next:8080/a"), Divergent,
			h("header changed location http://other/a|http://users-next:8080/a")},
		{"location relative", RuleConfig{}, h("Location: /a"), h("Location: /b"), Divergent, h("header changed location /a|/b")},
		{"location with a URL in the query", RuleConfig{}, h("Location: /a?u=http://shop.example/"), h("Location: /a?u=http://users-next:8080/"), Divergent,
			h("header changed location /a?u=http://shop.example/|/a?u=http://users-next:8080/")},

		{"cookie values", RuleConfig{}, h("Set-Cookie: s=1; Path=/; Secure"), h("Set-Cookie: s=2; secure; path=/"), Ignored, h("~header changed set-cookie/s 1|2")},
		{"cookie removed", RuleConfig{}, h("Set-Cookie: s=1; Path=/", "Set-Cookie: t=1"), h("Set-Cookie: t=1"), Divergent, h("header removed set-cookie/s s=1; Path=/|")},
		{"no cookies at all", RuleConfig{}, h("Set-Cookie: s=1"), nil, Divergent, h("header removed set-cookie/s s=1|")},
		{"cookie added", RuleConfig{}, nil, h("Set-Cookie: s=1"), Divergent, h("header added set-cookie/s |s=1")},
		{"cookie order", RuleConfig{}, h("Set-Cookie: s=1", "Set-Cookie: t=1"), h("Set-Cookie: t=1", "Set-Cookie: s=1"), Equal, nil},
		{"cookie name is exact", RuleConfig{}, h("Set-Cookie: s=1"), h("Set-Cookie: S=1"), Divergent, h("header removed set-cookie/s s=1|", "header added set-cookie/S |S=1")},
		{"cookie attributes", RuleConfig{}, h("Set-Cookie: s=1; Path=/; HttpOnly; SameSite=Lax; Max-Age=60"), h("Set-Cookie: s=1; Path=/a; SameSite=lax; Max-Age=61; Secure"), Divergent,
			h("header changed set-cookie/s/path /|/a", "header removed set-cookie/s/httponly |", "header changed set-cookie/s/max-age 60|61", "header added set-cookie/s/secure |")},
		{"cookie times", RuleConfig{}, h("Set-Cookie: s=1; Expires=Mon, 23 Nov 2026 10:00:00 GMT"), h("Set-Cookie: s=1; Expires=Mon, 23 Nov 2026 10:00:01 GMT"), Ignored,
			h("~header changed set-cookie/s/expires Mon, 23 Nov 2026 10:00:00 GMT|Mon, 23 Nov 2026 10:00:01 GMT")},
		{"cookie deleted", RuleConfig{}, h("Set-Cookie: s=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), h("Set-Cookie: s=; Expires=Mon, 23 Nov 2026 10:00:01 GMT"), Divergent,
			h("header changed set-cookie/s/expires Thu, 01 Jan 1970 00:00:00 GMT|Mon, 23 Nov 2026 10:00:01 GMT")},
		{"cookie domain", RuleConfig{}, h("Set-Cookie: s=1; Domain=.shop.example", "Set-Cookie: t=1; Domain=a"), h("Set-Cookie: s=1; Domain=users-next", "Set-Cookie: t=1; Domain=b"), Divergent,
			h("~header changed set-cookie/s/domain shop.example|users-next", "header changed set-cookie/t/domain a|b")},
		{"two cookies of one name", RuleConfig{}, h("Set-Cookie: s=1; Path=/a", "Set-Cookie: s=2; Path=/b"), h("Set-Cookie: s=1; Path=/a"), Divergent,
			h("header removed set-cookie/s s=2; Path=/b|")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := compile(t, tt.rules)
			expectDiffs(t, r.Compare(get(), answer(200, "", tt.ref...), answer(200, "", tt.cand...), in), tt.outcome, tt.want...)
			// The same fields as trailers.
			ref, cand := answer(200, ""), answer(200, "")
			ref.Trailer, cand.Trailer = header(tt.ref...), header(tt.cand...)
			var want []string
			for _, w := range tt.want {
				want = append(want, strings.Replace(w, "header ", "trailer ", 1))
			}
			expectDiffs(t, r.Compare(get(), ref, cand, in), tt.outcome, want...)
		})
	}
}

// What an answer without a body says of its length is all there is.
func TestFramingFieldsWithoutBodies(t *testing.T) {
	r := compile(t, RuleConfig{})
	head := get()
	head.Method = "HEAD"
	expectDiffs(t, r.Compare(head, answer(200, "", "Content-Length: 5"), answer(200, "", "Content-Length: 6"), Input{}), Divergent, "header changed content-length 5|6")
	expectDiffs(t, r.Compare(get(), answer(304, "", "Content-Length: 5"), answer(304, ""), Input{}), Divergent, "header removed content-length 5|")
}

// Two ways lead through headers; they must say the same. The second is taken
// when the order of names differs.
func TestHeaderOrderChangesNothing(t *testing.T) {
	r := compile(t, RuleConfig{IgnoreHeaders: []string{"x-i*"}})
	name := rapid.SampledFrom([]string{"A", "b", "Date", "X-I", "x-ig", "Set-Cookie", "ETag", "Vary", "Connection", "Content-Type"})
	value := rapid.SampledFrom([]string{"", "1", "2", "a, b", "b, a", "s=1", "s=2; Path=/", "t=1", "b", "application/json", "Application/json"})
	fields := rapid.Custom(func(t *rapid.T) exchange.Header {
		n := rapid.IntRange(0, 6).Draw(t, "n")
		var h exchange.Header
		for range n {
			h = append(h, exchange.Field{Name: name.Draw(t, "name"), Value: value.Draw(t, "value")})
		}
		return h
	})
	rapid.Check(t, func(t *rapid.T) {
		ref, cand := answer(200, ""), answer(200, "")
		ref.Header = fields.Draw(t, "ref")
		if rapid.Bool().Draw(t, "alike") { // the same names, so that the first way is taken
			for _, f := range ref.Header {
				cand.Header = append(cand.Header, exchange.Field{Name: strings.ToUpper(f.Name), Value: value.Draw(t, "value")})
			}
		} else {
			cand.Header = fields.Draw(t, "cand")
		}
		got := r.Compare(get(), ref, cand, Input{})
		// Rotate the candidate's names, those of one name in their order.
		turned := *cand
		turned.Header = nil
		for i := range cand.Header {
			f := cand.Header[len(cand.Header)-1-i]
			if turned.Header.Has(f.Name) {
				continue
			}
			for _, g := range cand.Header {
				if strings.EqualFold(g.Name, f.Name) {
					turned.Header = append(turned.Header, g)
				}
			}
		}
		again := r.Compare(get(), ref, &turned, Input{})
		if fmt.Sprint(got.Outcome, brief(got.Differences)) != fmt.Sprint(again.Outcome, brief(again.Differences)) {
			t.Fatalf("%v %q\nturned %v %q", got.Outcome, brief(got.Differences), again.Outcome, brief(again.Differences))
		}
		checkSymmetric(t, r, ref, cand)
		if self := r.Compare(get(), ref, ref, Input{}); self.Outcome != Equal {
			t.Fatalf("not equal to itself: %v", brief(self.Differences))
		}
	})
}

func TestDefaultIgnoreNamesEveryClass(t *testing.T) {
	text := DefaultIgnore()
	for _, rule := range defaultList() {
		for _, name := range rule.names {
			if !strings.Contains(text, name) {
				t.Errorf("%s is missing in the text", name)
			}
			try := name
			if prefix, ok := strings.CutSuffix(name, "*"); ok {
				try = prefix + "any"
			}
			if classOf(try) != rule.class {
				t.Errorf("%s has class %d, the list says %d", try, classOf(try), rule.class)
			}
		}
	}
	for _, name := range []string{"x-trace", "cache-control", "x-amzn-x", "cf", "content-language"} {
		if classOf(name) != classNone {
			t.Errorf("%s is in the default list", name)
		}
	}
}
