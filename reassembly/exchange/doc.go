// Package exchange holds the words that all rooms share: Flow, Head, Request,
// Response, Exchange, ID and Decision. It has data and the rules for naming
// data, no behaviour, and imports nothing but the standard library.
//
// An Exchange is frozen once it has been emitted: rooms share the pointer and
// nobody writes to it or to the bytes it refers to.
package exchange
