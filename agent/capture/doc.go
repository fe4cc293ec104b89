// Package capture turns what was captured into TCP segments: the records that
// the tap wrote into its rings (Live), or a pcap or pcapng file (File). Both
// give the same reassembly.Segments to a Sink and count packets by the same
// words, so everything behind them is the same code.
//
// Live reads each ring with one goroutine of its own, which also owns the
// ring's Sink; File runs in the goroutine that calls Run. Order is the order
// of the ring or of the file, never that of the time stamps.
//
// A File opens VXLAN, Geneve and GRE where it is asked to. Live never does: the
// inner packets of a tunnel that ends on this machine pass an interface of their
// own, where a tap sees them.
//
// What it does not do: it does not reassemble, IP fragments are counted and not
// put together, and checksums are not looked at, because offloading leaves them
// unset on the sending host.
//
// Frames are decoded with google/gopacket's layers, except where v1.1.19 would
// change what is seen: IPv6 (it takes a frame's padding as payload behind a
// hop-by-hop header), Linux cooked headers (an address length from the wire is
// used as a slice bound; version 2 is unknown), payload lengths (an IPv4 total
// length of 0 wraps at 65536), and tunnels (its GRE reads behind a cut header,
// its Geneve allocates and counts the bytes of options in 8 bits). The file formats are read by this package
// and not by gopacket's pcapgo, which serves as the oracle of the tests: it
// keeps link types in 8 bits (so cooked v2 can't be told), takes a pcapng file
// that was cut inside a block as complete, divides by zero on some time
// resolutions, allocates what a damaged length says, and knows no offsets.
package capture
