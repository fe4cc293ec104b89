// Package attach puts the tap on the right hooks of the right interfaces, says
// when it no longer stands where it should, and takes it off again.
//
// In: the interfaces with their roles, and the maps of package bpf. Out: taps,
// each one hook of one interface in one network namespace, with a tap id and a
// domain that every event of it carries.
//
// # Roles
//
// A tap looks for packets to a selected port (requests), from one (responses),
// or both:
//
//	role       ingress    egress      for
//	any        both       both        an interface of which nothing is said
//	loopback   both       -           the loopback device, always
//	uplink     requests   responses   a node's network card; inside a pod
//	workload   responses  requests    the host's end of a pod's veth
//
// A packet passes either the ingress or the egress hook of an interface, so
// role any sees each once, whichever side the server is on, and a node that is
// server and client of the same port has both kinds of conversation captured.
// uplink and workload narrow that to the servers behind the node, or to those
// in the pod. On the loopback device each packet passes both hooks, so only
// ingress is used; an explicit role for it is an error. With several interfaces
// on one packet's way the first tap that shows a direction of a flow owns it,
// see package reassembly.
//
// # Place in the chain
//
// With TCX (Linux 6.6) the tap goes to the head of the chain, because an earlier
// program may end it; the tap's verdict is always "next", so being first changes
// nothing for the others, which are neither moved nor replaced. The chain is
// looked at every 10 s. A tap that is no longer first, or gone with its
// interface, is displaced: counted, logged once, not ready. It is not put back,
// as two programs that both insist would never stop.
//
// The kernel removes the tap when the process ends, however it ends, because
// nothing but the process's file descriptor holds it.
package attach
