package diff

import (
	"bytes"

	"github.com/shadowtap/shadowtap/reassembly/exchange"
)

const detailCount = "more differences than the limit"

// Compare compares the candidate's answer with the reference's. It reads req,
// ref and cand and keeps nothing of them but the texts of header values; cand
// may be nil when the candidate failed.
func (r *Rules) Compare(req *exchange.Request, ref, cand *exchange.Response, in Input) *Result {
	why := notComparable(req, ref, cand, &in)
	if failed(cand, &in) {
		return failedResult(why, &in)
	}
	if ref == nil {
		return &Result{Outcome: NotComparable, Why: why}
	}
	if why == "" && sameAnswer(req, ref, cand) {
		return &r.equal
	}
	c := r.work.Get().(*comparison)
	c.in = in
	c.grpc = isGRPC(req)
	if c.in.ReferenceAuthority == "" {
		c.in.ReferenceAuthority = req.Host
	}
	c.body(req, ref, cand)
	body := len(c.diffs)
	c.begin(AspectStatus)
	if ref.Status != cand.Status {
		c.add(Difference{Kind: KindChanged, Reference: numberValue(int64(ref.Status)), Candidate: numberValue(int64(cand.Status))})
	}
	a, b := grpcAnswer{header: ref.Header, trailer: ref.Trailer}, grpcAnswer{header: cand.Header, trailer: cand.Trailer}
	if c.grpc {
		a, b = newGRPCAnswer(ref), newGRPCAnswer(cand)
		c.grpcStatuses(a.status, b.status)
	}
	c.fields(AspectHeader, a.header, b.header)
	header := len(c.diffs)
	c.fields(AspectTrailer, a.trailer, b.trailer)
	res := c.result(body, header, why)
	c.release()
	r.work.Put(c)
	return res
}

func failedResult(why string, in *Input) *Result {
	word := in.CandidateError
	if word == "" {
		word = "no_answer"
	}
	res := &Result{Outcome: Divergent, Why: WhyFailed, Differences: []Difference{{
		Aspect: AspectCandidate, Kind: KindError, Candidate: Value{Kind: ValueString, Text: word, Size: int64(len(word))},
	}}}
	if why != "" {
		res.Outcome, res.Why = NotComparable, why
	}
	return res
}

// sameAnswer is the short way for answers without any difference.
func sameAnswer(req *exchange.Request, ref, cand *exchange.Response) bool {
	if ref.Status != cand.Status || !sameFields(ref.Header, cand.Header) || !sameFields(ref.Trailer, cand.Trailer) {
		return false
	}
	a, b := &ref.Body, &cand.Body
	switch {
	case req.Method == "HEAD":
		return true
	case whole(a) && whole(b):
		return bytes.Equal(a.Bytes, b.Bytes)
	}
	x, y, known := digests(a, b)
	return known && x == y
}

// comparison is the memory of one comparison, used again for the next.
type comparison struct {
	rules *Rules
	in    Input

	aspect string
	// excuse is the rule that ignores the aspect, "" without.
	excuse string
	found  int  // differences of the aspect that are not ignored
	full   bool // found reached the limit, and one more was met
	// probing asks only whether something differs: nothing is added, full says
	// that it does, and excused that something does that is ignored. probes is how
	// many more values may be looked at so.
	probing, excused bool
	probes           int

	// diffs is what was found. A single difference lies in one, which becomes the
	// Result; more of them lie in many, which is used again.
	diffs     []Difference
	one       *single
	many      []Difference
	ignored   int // in diffs
	divergent bool

	// grpc says that the request opens a gRPC call.
	grpc bool
	// carried says that the bodies were compared, so that how they were
	// framed does not matter; decoded that it was without their codings.
	carried, decoded bool

	// base is the place of what is being compared in the body: empty for the
	// body itself, else that of a part's content. nested counts the multiparts
	// that are open around it.
	base   trail
	nested int
	places states
	// target is the request's, grpcCodings those of gRPC messages.
	target      string
	grpcCodings [2]string

	decodeA, decodeB decoder
	walker           walker
	fieldOrder       []int32
}

// single is the memory of a Result with one difference, the most frequent case.
type single struct {
	res  Result
	diff [1]Difference
}

// slot appends an empty difference. It is valid until the next one.
func (c *comparison) slot() *Difference {
	switch len(c.diffs) {
	case 0:
		c.one = new(single)
		c.diffs = c.one.diff[:]
	case 1:
		c.many = append(c.many[:0], c.one.diff[0], Difference{})
		c.one.diff[0] = Difference{}
		c.diffs = c.many
	default:
		c.diffs = append(c.diffs, Difference{})
	}
	return &c.diffs[len(c.diffs)-1]
}

func newComparison(r *Rules) *comparison {
	return &comparison{rules: r, walker: walker{rules: r, seed: r.seed}}
}

// release forgets everything that belongs to others.
func (c *comparison) release() {
	if len(c.diffs) > 1 {
		clear(c.diffs)
		c.many = c.diffs[:0]
	}
	c.diffs, c.one = nil, nil
	c.in = Input{}
	c.base, c.nested, c.target, c.grpcCodings = nil, 0, "", [2]string{}
	c.ignored, c.divergent, c.carried, c.decoded = 0, false, false, false
	c.decodeA.release()
	c.decodeB.release()
	c.walker.release()
}

// begin starts an aspect.
func (c *comparison) begin(aspect string) {
	c.aspect, c.found, c.full = aspect, 0, false
	if c.excuse = ""; c.rules.aspects != nil {
		c.excuse = c.rules.aspects[aspect]
	}
}

// room says whether a difference would be taken, so that its values need not
// be made. The first that is not taken is said.
func (c *comparison) room(ignored bool) bool {
	most := c.rules.limits.differences
	switch {
	case c.probing:
		if c.excused = true; !ignored {
			c.full = true
		}
		return false
	case ignored || c.excuse != "":
		return c.ignored < most
	case c.found < most:
		return true
	case !c.full:
		c.full = true
		*c.slot() = Difference{Aspect: c.aspect, Kind: KindNotFullyCompared, Detail: detailCount}
	}
	return false
}

// add takes a difference of the aspect.
func (c *comparison) add(d Difference) {
	if c.room(d.Ignored) {
		s := c.slot()
		*s = d
		c.count(s)
	}
}

// count fills in what is the same for all differences of the aspect.
func (c *comparison) count(d *Difference) {
	d.Aspect = c.aspect
	if c.excuse != "" && !d.Ignored {
		d.Ignored, d.Rule = true, c.excuse
	}
	if d.Ignored {
		if d.Rule == "" {
			d.Rule = RuleDefault
		}
		c.ignored++
	} else {
		c.found++
		c.divergent = true
	}
}

// result puts the differences in order: they were found in the order body (up
// to the index body), status and header (up to the index header), trailer.
func (c *comparison) result(body, header int, why string) *Result {
	n := len(c.diffs)
	if n == 0 && why == "" {
		return &c.rules.equal
	}
	if n == 0 {
		return &Result{Outcome: NotComparable, Why: why}
	}
	res := &c.one.res
	res.Why = why
	switch {
	case why != "":
		res.Outcome = NotComparable
	case c.divergent:
		res.Outcome = Divergent
	default:
		res.Outcome = Ignored
	}
	if n == 1 {
		res.Differences = c.diffs
		return res
	}
	d := make([]Difference, 0, n)
	d = append(d, c.diffs[body:header]...)
	d = append(d, c.diffs[:body]...)
	res.Differences = append(d, c.diffs[header:]...)
	return res
}
