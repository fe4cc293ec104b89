// Package redact is the one step between what was compared in clear and
// everything that can be read: sinks, spool, ring, page, logs and bundle.
//
// Input is a divergence in clear together with where it came from. Record is
// what leaves: the fields of schema shadowtap.divergence.v1, with each secret
// replaced by
//
//	~<key id>.<first 16 hex digits of HMAC-SHA-256(key, field name, value)>
//
// so that equal secrets stay comparable and unequal ones stay different, but
// none can be read or guessed without the key. Only this package can make a
// Record, and sinks accept nothing else. It wraps windows of counts too, in which
// nothing is secret.
//
// A secret is found in three ways, and all three run over every text of a
// record:
//
//   - by its place: headers, query and form parameters, path parameters, JSON
//     keys and paths, elements and attributes of XML and HTML, and parts of
//     multiparts, whose names are on the default list or in the rules;
//   - by its form, wherever it stands: JSON Web Tokens, card numbers, e-mail
//     addresses, Basic and Bearer credentials, user:password in a URL, private
//     keys, the tokens of a few large providers, name=value and "name": value
//     pairs in free text, and the patterns of the rules;
//   - by having been a secret elsewhere: a value that was found by its place in
//     the request or an answer is replaced in every other text of the same
//     record too, such as an error text that quotes a password.
//
// What it cannot do: know a secret that has no telling name, no telling form
// and stands nowhere else. Rules are for those. A body in a coding or charset
// that it cannot read is never published, only its digest; so is protobuf, gRPC's
// messages among it, whose fields have no names here, and gRPC's metadata in
// base64 (-bin). A value of a protobuf field is shown only when all fields on the
// way to it, and in it, go by their names.
//
// The package holds no clock. A Redactor is safe for concurrent use.
package redact
