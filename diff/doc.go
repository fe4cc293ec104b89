// Package diff compares two answers to the same request, the reference's and
// the candidate's, and says in which places they differ.
//
// In: a request, two responses and compiled Rules. Out: a Result, that is one
// of equal, ignored, divergent and not_comparable, and the differences with
// their path, kind and both values. Fingerprint gives a difference a name that
// is the same for every pair that differs in the same way.
//
// The package is pure: it reads no clock, no file, no network and no
// randomness that would show in a result, and it keeps no state between calls
// but memory to be used again. The same answers and the same rules give the
// same Result.
//
// # What is compared
//
// The status; the header fields, with the exceptions that DefaultIgnore lists;
// the body; the trailer fields. The lines of one field are one ordered list of
// elements (RFC 9110 section 5.3), whether on one line or on several. Bodies are
// compared as bytes first. When the bytes differ, content codings are taken off
// (gzip, deflate, br and zstd), and two bodies whose media types are JSON are
// compared by value: member order and white space do not matter, 1 and 1.0 and
// 1e0 are one number, numbers of any size are compared exactly, strings are
// compared after their escapes have been resolved. -0 is 0. Array elements are
// compared by order.
//
// Other media types are compared by their parts when both bodies have the same.
// Their paths are written as JSON's are, so that rules and fingerprints hold for
// them too:
//
//	text/* and other text    $[3]                         a line, counted from 0
//	form-urlencoded          $.name, $.name[1]            a field, an index when the name repeats
//	multipart/form-data      $.name.body, $.name.header['content-type']
//	other multipart          $[0].body                    what follows body is the part's by its own media type
//	XML, HTML                $.list.item[2]['@id']        an attribute; namespaces count by URI
//	                         $.list.item[2]['#text']      a text
//	protobuf                 $.user.name, $['#2']['#1']   by name with Descriptors, else by number
//	gRPC                     $[0].user.name               message by message
//
// The line endings of texts are one difference of the path $. Comments in XML and
// HTML are none, nor is a multipart's boundary. Text in another charset than UTF-8
// is decoded first; a text that is wrong in its charset, or whose charset is not
// known, has a difference not_fully_compared and is compared as it is. All else is
// compared as bytes: the lengths, the first byte that differs, and the SHA-256.
//
// Of a gRPC call (HTTP/2, application/grpc) the status is compared by itself,
// and the message, which is a trailer field, decoded. It makes no difference
// whether an error stands in trailers or in an answer of nothing but a head.
//
// A comparison that stops at a limit, or that meets bytes which it can't
// decode, says so by a difference of kind not_fully_compared. It never calls
// such answers equal. A name that stands twice in an object whose values are not
// the same on both sides is such a difference too; a text that is no JSON, and a
// byte order mark on one side, are differences of their own.
//
// # Rules
//
// Compile checks a RuleConfig and prepares it; a *RuleError names the rule and
// the byte in it that is wrong. Rules are of three sorts:
//
//   - What is ignored: header fields by name, places in JSON by path, what
//     regular expressions match within values, whole aspects.
//   - What is equal though it differs (EqualRule): any UUID, times that are near
//     each other, URLs but for the host, numbers within a tolerance, texts but for
//     what a pattern matches.
//   - How arrays are compared (ArrayRule): by order, as sets, by a key of their
//     elements.
//
// Rules of the first two sorts hide nothing: what they excuse is in the Result as
// ignored, with the rule's name, and makes the outcome ignored when there is
// nothing else.
//
// # Cost
//
// Answers that are the same to the byte cost the comparison of their bytes and
// allocate nothing. JSON that differs is read token by token up to the first
// difference, and only from there on taken apart into trees, in memory that is
// used again. Time is linear in the bodies, but for the sorting of arrays whose
// order differs or is free; memory is bounded by the limits of RuleConfig.
//
// # What it does not do
//
// It expands no entities, and repairs no HTML as browsers do. Filters of rules
// hold in JSON only. It does not look at the reason phrase, the HTTP version
// or interim answers. It knows nothing of redaction: Values are in the clear.
package diff
