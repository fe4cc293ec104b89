// Package e2e proves the program from end to end: a real kernel, real packets
// between network namespaces that the tests make, nginx as the reference, an
// Apache Kafka broker, kcat as the consumer, and the built binary as a process
// of its own.
//
// The tests carry the build tag e2e and need root: "make test-root" runs them.
// Where SHADOWTAP_LONG is set ("make test-live") some take minutes for what
// they otherwise do in seconds.
package e2e
