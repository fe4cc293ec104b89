// Package sample decides, when a request's head has been parsed, which
// experiments the request belongs to and whether it is replayed.
//
// In: the head of a request (exchange.Head), lent for the call. Out: an
// exchange.Decision with one choice for each experiment; and at completion the
// counts of shadowtap_selection_total, exactly one result for each experiment.
// Beside that it keeps what only the stream of heads can tell: the guard, which
// pauses replay when the reference suffers, and the table of unsafe methods
// behind the comparison's "stale".
//
// The choice is a function of the head and the configuration, and of three
// things that change while running: what an operator has switched off, the
// guard, and an experiment's end. Nothing here reads a clock on the way of a
// request: time is the tap's, so that a capture gives the same decisions again.
//
// # Owners
//
// A Sampler is shared. A Shard belongs to the goroutine of one capture shard;
// its methods take no lock (but once in ten seconds, to hand a window to the
// guard) and allocate nothing. What operators switch is read with atomic loads.
//
// # What it does not do
//
// It does not clean or redirect paths as http.ServeMux does, it never looks at
// bodies, and it does not limit rates in requests per second; that is the
// replayer's.
package sample
