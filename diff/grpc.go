package diff

import (
	"strconv"
	"strings"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

// PathGRPCStatus is the Path of the difference in grpc-status.
const PathGRPCStatus = "status"

const (
	grpcStatus  = "grpc-status"
	grpcMessage = "grpc-message"
	grpcDetails = "grpc-status-details-bin"
	// maxGRPCStatus is the highest code that gRPC defines.
	maxGRPCStatus = 16
	// grpcUnavailable is what 429, 502, 503 and 504 mean in gRPC
	// (http-grpc-status-mapping of its documentation).
	grpcUnavailable = "14"
)

// isGRPC says whether a request opens a gRPC call (gRPC over HTTP2, Requests).
func isGRPC(req *exchange.Request) bool {
	if req.Method != "POST" || req.Proto != "HTTP/2" {
		return false
	}
	const name = "application/grpc"
	v := req.Header.Get("content-type")
	if len(v) < len(name) || !equalFold(v[:len(name)], name) {
		return false
	}
	return len(v) == len(name) || v[len(name)] == '+' || v[len(name)] == ';'
}

// grpcAnswer is an answer to a gRPC call by what its fields mean: an error may
// stand in trailers, or in the head of an answer that has nothing else
// (trailers-only), and is the same error.
type grpcAnswer struct {
	// header and trailer are without grpc-status, and with grpc-message
	// decoded.
	header, trailer exchange.Header
	status          string
}

func newGRPCAnswer(r *exchange.Response) grpcAnswer {
	var a grpcAnswer
	only := len(r.Trailer) == 0 && r.Body.Size == 0
	for _, f := range r.Header {
		if only && grpcField(f.Name) {
			a.take(f)
		} else {
			a.header = append(a.header, f)
		}
	}
	for _, f := range r.Trailer {
		a.take(f)
	}
	return a
}

func grpcField(name string) bool {
	return equalFold(name, grpcStatus) || equalFold(name, grpcMessage) || equalFold(name, grpcDetails)
}

// take takes a field of the trailers.
func (a *grpcAnswer) take(f exchange.Field) {
	switch {
	case equalFold(f.Name, grpcStatus) && a.status == "":
		a.status = trimOWS(f.Value)
		return
	case equalFold(f.Name, grpcMessage):
		f.Value = percentDecode(f.Value)
	}
	a.trailer = append(a.trailer, f)
}

// grpcFailed says that the reference could not serve the call, as 503 does.
func grpcFailed(r *exchange.Response) bool {
	if r.Trailer.Has(grpcStatus) {
		return r.Trailer.Get(grpcStatus) == grpcUnavailable
	}
	return r.Body.Size == 0 && r.Header.Get(grpcStatus) == grpcUnavailable
}

// grpcStatuses compares the statuses of two answers.
func (c *comparison) grpcStatuses(ref, cand string) {
	c.begin(AspectGRPC)
	if ref == cand {
		return
	}
	rule := c.rules.headers.rule(grpcStatus)
	d := Difference{
		Kind: KindChanged, Path: PathGRPCStatus, Reference: c.grpcCode(ref), Candidate: c.grpcCode(cand), Ignored: rule != "", Rule: rule,
	}
	switch {
	case cand == "":
		d.Kind = KindRemoved
	case ref == "":
		d.Kind = KindAdded
	}
	c.add(d)
}

// grpcCode is a number for a code that gRPC defines, else a string.
func (c *comparison) grpcCode(s string) Value {
	switch n := grpcNumber(s); {
	case s == "":
		return Value{}
	case n < 0:
		return c.stringValue(s)
	default:
		return numberValue(int64(n))
	}
}

// grpcNumber is the code that s spells, -1 for none that gRPC defines.
func grpcNumber(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxGRPCStatus || strconv.Itoa(n) != s {
		return -1
	}
	return n
}

// grpcWord stands for a status in fingerprints, of which there are few.
func grpcWord(v *Value) string {
	switch {
	case v.Kind == ValueNone:
		return "none"
	case grpcNumber(v.Text) < 0:
		return "other"
	}
	return v.Text
}

// percentDecode takes off the coding of grpc-message. What is no escape stays
// as it is, as the specification of gRPC demands.
func percentDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, ok := hexDigit(s[i+1])
			lo, ok2 := hexDigit(s[i+2])
			if ok && ok2 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}
