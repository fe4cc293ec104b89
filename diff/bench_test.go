package diff

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

func benchResponse(contentType, trace string, body []byte) *exchange.Response {
	return &exchange.Response{
		Status: 200,
		Header: exchange.Header{{Name: "Content-Type", Value: contentType}, {Name: "X-Trace-Id", Value: trace}},
		Body:   exchange.Body{Bytes: body, Size: int64(len(body))},
	}
}

var benchResult *Result

func benchCompare(b *testing.B, want Outcome, ref, cand *exchange.Response) {
	b.Helper()
	r, err := Compile(RuleConfig{})
	if err != nil {
		b.Fatal(err)
	}
	req := &exchange.Request{Method: "GET", Target: "/", Host: "example.com"}
	if got := r.Compare(req, ref, cand, Input{}); got.Outcome != want {
		b.Fatalf("outcome %v, want %v", got.Outcome, want)
	}
	b.SetBytes(int64(len(ref.Body.Bytes)))
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		benchResult = r.Compare(req, ref, cand, Input{})
	}
	reportCPU(b, start)
}

// reportCPU adds the processor time of an operation, which can be trusted on a
// machine that others use too.
func reportCPU(b *testing.B, start time.Duration) {
	b.Helper()
	b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
}

// document is a JSON text of about size bytes: records in an array, with
// members in the order of names, or turned around.
func document(size int, turned bool) []byte {
	var b bytes.Buffer
	b.WriteString(`{"items":[`)
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		m := []string{
			fmt.Sprintf(`"id":%d`, 1000+i), fmt.Sprintf(`"name":"customer number %d"`, i), `"active":true`,
			fmt.Sprintf(`"balance":%d.%02d`, i*37, i%100), `"tags":["a","b","c"]`, `"address":{"street":"Long Street 1","city":"Town","zip":"12345"}`,
		}
		if turned {
			for l, r := 0, len(m)-1; l < r; l, r = l+1, r-1 {
				m[l], m[r] = m[r], m[l]
			}
		}
		b.WriteString("{" + strings.Join(m, ",") + "}")
	}
	b.WriteString(`],"next":null}`)
	return b.Bytes()
}

func BenchmarkBytesEqual4K(b *testing.B) {
	x, y := make([]byte, 4096), make([]byte, 4096)
	ok := true
	start := cpuTime(b)
	for b.Loop() {
		ok = ok && bytes.Equal(x, y)
	}
	reportCPU(b, start)
	if !ok {
		b.Fatal("not equal")
	}
}

func BenchmarkEqual4K(b *testing.B) {
	benchCompare(b, Equal, benchResponse("application/json", "abc123", make([]byte, 4096)), benchResponse("application/json", "abc123", make([]byte, 4096)))
}

// The seed crate's benchmark: equal bodies, one of two headers different.
// A third of it is the collector's, which has a heap of a few MiB here; GOGC=1000
// shows the rest.
func BenchmarkEqualBody4KOneHeader(b *testing.B) {
	benchCompare(b, Divergent, benchResponse("application/json", "abc123", make([]byte, 4096)), benchResponse("application/json", "abc124", make([]byte, 4096)))
}

// What production gives most: two servers' headers, another Date and Server.
func BenchmarkIgnored4KTypicalHeaders(b *testing.B) {
	ref, cand := benchResponse("application/json", "abc123", document(4096, false)), benchResponse("application/json", "abc123", document(4096, false))
	ref.Header = exchange.Header{
		{Name: "Server", Value: "nginx/1.26.2"}, {Name: "Date", Value: "Mon, 23 Nov 2026 10:00:00 GMT"}, {Name: "Content-Type", Value: "application/json"},
		{Name: "Content-Length", Value: "4141"}, {Name: "Connection", Value: "keep-alive"}, {Name: "Vary", Value: "Accept-Encoding"},
		{Name: "Cache-Control", Value: "no-store"}, {Name: "X-Request-Id", Value: "6f1ed002ab5595859014ebf0951522d9"},
	}
	cand.Header = exchange.Header{
		{Name: "content-type", Value: "application/json"}, {Name: "cache-control", Value: "no-store"}, {Name: "vary", Value: "Accept-Encoding"},
		{Name: "x-request-id", Value: "aaf1ed002ab5595859014ebf0951522d"}, {Name: "date", Value: "Mon, 23 Nov 2026 10:00:01 GMT"}, {Name: "transfer-encoding", Value: "chunked"},
	}
	benchCompare(b, Ignored, ref, cand)
}

func BenchmarkJSON4KSpacing(b *testing.B) {
	benchCompare(b, Equal, benchResponse("application/json", "", document(4096, false)), benchResponse("application/json", "", append(document(4096, false), '\n')))
}

func BenchmarkJSON4KKeyOrder(b *testing.B) {
	benchCompare(b, Equal, benchResponse("application/json", "", document(4096, false)), benchResponse("application/json", "", document(4096, true)))
}

func BenchmarkJSON100KOneDifference(b *testing.B) {
	ref := document(100<<10, false)
	cand := bytes.Replace(ref, []byte(`"customer number 300"`), []byte(`"customer number 3OO"`), 1)
	benchCompare(b, Divergent, benchResponse("application/json", "", ref), benchResponse("application/json", "", cand))
}

func BenchmarkJSON100KKeyOrder(b *testing.B) {
	benchCompare(b, Equal, benchResponse("application/json", "", document(100<<10, false)), benchResponse("application/json", "", document(100<<10, true)))
}

func BenchmarkText64KOneDifference(b *testing.B) {
	ref := []byte(strings.Repeat("one line of text and then the next\n", 64<<10/35))
	cand := bytes.Clone(ref)
	cand[50000] = 'X'
	benchCompare(b, Divergent, benchResponse("text/plain", "", ref), benchResponse("text/plain", "", cand))
}

func BenchmarkGzip4KKeyOrder(b *testing.B) {
	pack := func(p []byte) []byte {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		w.Write(p)
		w.Close()
		return z.Bytes()
	}
	ref, cand := benchResponse("application/json", "", pack(document(4096, false))), benchResponse("application/json", "", pack(document(4096, true)))
	for _, a := range []*exchange.Response{ref, cand} {
		a.Header = append(a.Header, exchange.Field{Name: "Content-Encoding", Value: "gzip"})
	}
	benchCompare(b, Equal, ref, cand)
}

func BenchmarkXML100KOneDifference(b *testing.B) {
	var doc bytes.Buffer
	doc.WriteString("<?xml version=\"1.0\"?>\n<catalog xmlns=\"urn:shop\">\n")
	for i := 0; doc.Len() < 100<<10; i++ {
		fmt.Fprintf(&doc, "  <book id=\"%d\" lang=\"en\">\n    <title>The book of number %d</title>\n    <price currency=\"EUR\">%d.50</price>\n  </book>\n", i, i, i%90)
	}
	doc.WriteString("</catalog>\n")
	ref := doc.Bytes()
	cand := bytes.Replace(ref, []byte("book of number 300<"), []byte("book of number 3OO<"), 1)
	benchCompare(b, Divergent, benchResponse("application/xml", "", ref), benchResponse("application/xml", "", cand))
}

func BenchmarkHTML100KOneDifference(b *testing.B) {
	var doc bytes.Buffer
	doc.WriteString("<!DOCTYPE html><html><head><title>t</title></head><body><ul>\n")
	for i := 0; doc.Len() < 100<<10; i++ {
		fmt.Fprintf(&doc, "<li class=\"item\" id=\"i%d\"><a href=\"/items/%d\">Item number %d</a> &amp; more\n", i, i, i)
	}
	doc.WriteString("</ul></body></html>\n")
	ref := doc.Bytes()
	cand := bytes.Replace(ref, []byte("Item number 300<"), []byte("Item number 3OO<"), 1)
	benchCompare(b, Divergent, benchResponse("text/html", "", ref), benchResponse("text/html", "", cand))
}

func benchMessage() []byte {
	var m []byte
	for i := 0; len(m) < 4<<10; i++ {
		m = append(m, message(5, message(1, i, 2, fmt.Sprint("customer number ", i), 7, float64(i)))...)
	}
	return m
}

func BenchmarkProtobuf4KOneDifference(b *testing.B) {
	ref := benchMessage()
	cand := bytes.Replace(ref, []byte("number 50"), []byte("number 5O"), 1)
	benchCompare(b, Divergent, benchResponse("application/x-protobuf", "", ref), benchResponse("application/x-protobuf", "", cand))
}

func BenchmarkForm4KOneDifference(b *testing.B) {
	var ref []byte
	for i := 0; len(ref) < 4<<10; i++ {
		ref = fmt.Appendf(ref, "field%d=value+number+%d&", i, i)
	}
	cand := bytes.Replace(ref, []byte("number+50"), []byte("number+5O"), 1)
	benchCompare(b, Divergent, benchResponse("application/x-www-form-urlencoded", "", ref), benchResponse("application/x-www-form-urlencoded", "", cand))
}
