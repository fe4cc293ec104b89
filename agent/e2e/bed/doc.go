// Package bed is the ground that end-to-end tests and measurements stand on:
// network namespaces joined by veth pairs, and processes in them.
//
// Nothing of it outlives the process that made it, however that ends. A
// namespace has no name: it lives as long as the descriptor that its owner
// holds and the processes and sockets in it, and its veth pairs vanish with it.
// A process gets SIGKILL from the kernel when the one that started it dies.
package bed
