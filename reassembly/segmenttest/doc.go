// Package segmenttest is a bed for tests of the parsers behind the assembler:
// conversations whose exchanges are known, cut into segments and changed by
// what networks and captures do. No program imports it.
//
// A Model writes a Conversation of its protocol from a random source: messages
// of both directions, and a line for each exchange that a reader must find.
// Cut makes the segments that a sender would send. A Mutation changes them in a
// way that no reader may notice; Join and Drop take segments away. Play gives
// what is left to an assembler with the protocol's parser, checks that every
// ledger line balances, and returns what was found.
//
// Seeds runs a property for many seeds. A seed that fails is printed and
// written to testdata/seeds/TEST, and every later run begins with the seeds of
// that file.
package segmenttest
