// Package off keeps the two files by which an operator and the agents of a
// node agree without a server: the off file, which says what must not run, and
// the lock of an instance, which says that its agent is alive.
//
// Both work without an agent and survive its restart. The package only reads
// and writes; what is off is stopped by others.
package off
