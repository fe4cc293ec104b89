package diff

import "github.com/shadowtap/shadowtap/reassembly/exchange"

// Outcome is what a comparison came to.
type Outcome uint8

const (
	// Equal: nothing differs.
	Equal Outcome = iota
	// Ignored: only things differ that a rule or the default list ignores.
	Ignored
	// Divergent: something else differs, or the candidate failed.
	Divergent
	// NotComparable: the pair says nothing about the candidate. Result.Why
	// says why.
	NotComparable
	// NumOutcomes is the number of outcomes.
	NumOutcomes
)

var outcomeWords = [NumOutcomes]string{"equal", "ignored", "divergent", "not_comparable"}

// String gives the ledger's result label.
func (o Outcome) String() string { return outcomeWords[o] }

// The reasons of a Result: the ledger's reason labels.
const (
	// WhyFailed: divergent because the candidate gave no whole answer.
	WhyFailed = "failed"
	// WhyValidator: not comparable because exactly one side made use of the
	// request's If-None-Match, If-Modified-Since, If-Range or Range.
	WhyValidator = "validator"
	// WhyReferenceFailed: not comparable because the reference answered 429,
	// 502, 503 or 504, or a gRPC call with the status 14 that stands for them.
	WhyReferenceFailed = "reference_failed"
	// WhyReferenceSlow: not comparable because the reference took longer than
	// any candidate is given.
	WhyReferenceSlow = "reference_slow"
	// WhyStale: not comparable because the shared state may have moved
	// between the request and its replay.
	WhyStale = "stale"
)

// Reasons lists every reason that goes with an outcome, for counters that
// show each from zero on. The caller owns the slice.
func Reasons(o Outcome) []string {
	switch o {
	case Divergent:
		return []string{"", WhyFailed}
	case NotComparable:
		return []string{WhyValidator, WhyReferenceFailed, WhyReferenceSlow, WhyStale}
	}
	return []string{""}
}

// The aspects of an answer.
const (
	AspectStatus    = "status"
	AspectHeader    = "header"
	AspectBody      = "body"
	AspectTrailer   = "trailer"
	AspectCandidate = "candidate"
	// AspectGRPC is the outcome of a gRPC call: its grpc-status.
	AspectGRPC = "grpc"
)

// The kinds of difference: all that there are, for every aspect and media type.
// Whoever turns reference and candidate around gets added for removed and
// removed for added, and all other kinds again.
const (
	// KindChanged: both sides have the thing, with different values.
	KindChanged = "changed"
	// KindTypeChanged: both sides have it, of different types.
	KindTypeChanged = "type_changed"
	// KindAdded: only the candidate has it.
	KindAdded = "added"
	// KindRemoved: only the reference has it.
	KindRemoved = "removed"
	// KindReordered: both sides have the same elements in another order.
	KindReordered = "reordered"
	// KindMoved: a single element stands at another place in its array.
	KindMoved = "moved"
	// KindLength: bodies over the limit have different lengths.
	KindLength = "length"
	// KindDigest: bodies over the limit have one length and different SHA-256.
	KindDigest = "digest"
	// KindNotFullyCompared: the comparison stopped. Detail says why.
	KindNotFullyCompared = "not_fully_compared"
	// KindError: the candidate gave no whole answer. Only with
	// AspectCandidate; the error's word is the candidate's value.
	KindError = "error"
)

// PathByteOrderMark is the Path of the difference that says that only one of
// two JSON bodies begins with a byte order mark.
const PathByteOrderMark = "byte_order_mark"

// ValueKind is the type of a Value.
type ValueKind uint8

const (
	// ValueNone: this side has no value here.
	ValueNone ValueKind = iota
	ValueNull
	ValueBool
	ValueNumber
	ValueString
	ValueArray
	ValueObject
	// ValueBytes: a body, or a piece of one, that is taken as bytes.
	ValueBytes
	// ValueMarkup: an element of an XML or HTML body, as its source.
	ValueMarkup
	// NumValueKinds is the number of kinds.
	NumValueKinds
)

var valueKindWords = [NumValueKinds]string{"none", "null", "bool", "number", "string", "array", "object", "bytes", "markup"}

// String gives the kind's word: none, null, bool, number, string, array,
// object, bytes or markup.
func (k ValueKind) String() string { return valueKindWords[k] }

// Value is one side of a difference, in the clear and bounded.
type Value struct {
	Kind ValueKind
	// Truncated says that Text is not the whole.
	Truncated bool
	// Text is the value or a piece of it, at most RuleConfig.MaxValue bytes.
	// Null, booleans and numbers are spelled as in the body. A string is what
	// the escapes stand for; a lone surrogate keeps its escape, and bytes
	// that are no UTF-8 are kept. Arrays and objects are the JSON text as it
	// stands in the decoded body. ValueBytes may be anything. ValueNone has
	// no text.
	Text string
	// Size is the length in bytes of the whole that Text is taken from.
	Size int64
	// Offset is where Text starts in the whole. It is 0 but for bytes and for
	// long texts outside JSON, where Text begins a little ahead of the first
	// byte that differs.
	Offset int64
	// SHA256 is that of the whole in hex, for a body or a part that was compared
	// as bytes; else "".
	SHA256 string
}

// Difference is one place in which the answers differ.
type Difference struct {
	// Aspect is one of the Aspect constants, Kind one of the Kind constants.
	Aspect, Kind string
	// Path says where. gRPC: PathGRPCStatus. Header and trailer: the lower-case field name, for
	// Set-Cookie followed by "/" and the cookie's name, and for an attribute
	// of it by "/" and the attribute's lower-case name. JSON body: a
	// normalised RFC 9535 path from $, names that allow it after a dot, others
	// as ['name'], with names cut at 128 bytes and the whole at 2 KiB (a cut
	// is shown by "…"). It is the reference's place, or for what was added the
	// candidate's. Bodies of other media types have paths of the same form, as
	// the package's documentation says. "" is the whole of the aspect.
	Path                 string
	Reference, Candidate Value
	// Detail explains in fixed words and numbers, never with anything from
	// the answers. Often "".
	Detail string
	// Ignored says that a rule or the default list takes no offence.
	Ignored bool
	// Rule names the rule that takes none, by its place in the configuration:
	// "ignore.json[0]". RuleDefault is the default list. "" when the difference
	// is not ignored.
	Rule string
}

// RuleDefault is the Difference.Rule of the default list.
const RuleDefault = "default"

// Result is what Compare found. It is frozen: nobody writes to it, and equal
// pairs share one.
type Result struct {
	Outcome Outcome
	// Why is the ledger's reason label: one of the Why constants or "".
	Why string
	// Differences are in the order status, gRPC, header, body, trailer; header and
	// trailer fields by name, the body in the reference's order. It holds at
	// most RuleConfig.MaxDifferences of each aspect that are not ignored, and
	// as many in all that are. For a pair that is not comparable it
	// says what differed, for a reader: such differences count nowhere. The
	// texts of header values share memory with the answers.
	Differences []Difference
}

// Input is what Compare is told beside the answers.
type Input struct {
	// CandidateError is the error word of a candidate that failed
	// ("connect", "timeout", ...), "" when it answered.
	CandidateError string
	// Stale says that an unsafe request to the same state was seen near this
	// one.
	Stale bool
	// CandidateAuthority is host or host:port of the candidate's URL, for
	// Location and the Domain of cookies. "" maps nothing.
	CandidateAuthority string
	// ReferenceAuthority is what the candidate's is mapped to. "" is the
	// request's Host.
	ReferenceAuthority string
	// Descriptors are the types of protobuf bodies. With nil, fields go by
	// their numbers.
	Descriptors *Descriptors
}

// maxReferenceTime is the longest that a candidate is ever given (VERDICT,
// Comparison), in nanoseconds.
const maxReferenceTime = 30e9

// notComparable gives the reason for which the pair says nothing about the
// candidate, "" without one. A reference that was sick or slow excuses a
// candidate that failed; a moved state or a validator does not.
func notComparable(req *exchange.Request, ref, cand *exchange.Response, in *Input) string {
	switch {
	case ref == nil:
		return WhyReferenceFailed
	case ref.Status == 429 || ref.Status == 502 || ref.Status == 503 || ref.Status == 504, isGRPC(req) && grpcFailed(ref):
		return WhyReferenceFailed
	case req.LastByte != 0 && ref.LastByte-req.LastByte > maxReferenceTime:
		return WhyReferenceSlow
	case failed(cand, in):
		return ""
	case ref.Status != cand.Status && validatorUsedByOne(req, ref.Status, cand.Status):
		return WhyValidator
	case in.Stale:
		return WhyStale
	}
	return ""
}

func failed(cand *exchange.Response, in *Input) bool {
	return in.CandidateError != "" || cand == nil
}

// validatorUsedByOne says whether one side answered in full and the other made
// use of a condition or a range (RFC 9110 sections 13.1 and 14.2; If-Range
// means something only beside Range). A candidate that answers with an error
// instead has used nothing and is compared.
func validatorUsedByOne(req *exchange.Request, ref, cand int) bool {
	other := ref
	if ref == 304 || ref == 206 && cand != 304 || ref == 416 {
		other = cand
	}
	used := ref + cand - other
	switch used {
	case 304:
		return other/100 == 2 && (req.Header.Has("If-None-Match") || req.Header.Has("If-Modified-Since"))
	case 206, 416:
		return other == 200 && req.Header.Has("Range")
	}
	return false
}
