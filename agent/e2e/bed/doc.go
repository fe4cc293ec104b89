// Package bed is the ground that end-to-end tests stand on: network namespaces
// joined by veth pairs, and processes in them.
//
// Nothing of it outlives the test process, however that ends. A namespace has
// no name: it lives as long as the descriptor that the test holds and the
// processes and sockets in it, and its veth pairs vanish with it. A process
// gets SIGKILL from the kernel when the test process dies.
package bed
